"""What trains beside a loss: statistics of classes, matched weights, frozen parts."""

from erlangen.learn.class_statistics import ClassStatistics
from erlangen.learn.freezing import NORMS, FreezeReport, freeze, train_entries
from erlangen.learn.matching import interpolation_barrier, match_weights

__all__ = [
    "NORMS",
    "ClassStatistics",
    "FreezeReport",
    "freeze",
    "interpolation_barrier",
    "match_weights",
    "train_entries",
]
