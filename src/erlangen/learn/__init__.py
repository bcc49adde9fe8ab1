"""What trains beside a loss: statistics of classes, matched weights, frozen parts, federated rounds."""

from erlangen.learn.class_statistics import ClassStatistics
from erlangen.learn.federated import Parcel, average, federated_average, flower_apps, run_federated
from erlangen.learn.freezing import NORMS, FreezeReport, check_optimizer, freeze, train_entries
from erlangen.learn.matching import interpolation_barrier, match_weights
from erlangen.learn.partitions import dirichlet_partition

__all__ = [
    "NORMS",
    "ClassStatistics",
    "FreezeReport",
    "Parcel",
    "average",
    "check_optimizer",
    "dirichlet_partition",
    "federated_average",
    "flower_apps",
    "freeze",
    "interpolation_barrier",
    "match_weights",
    "run_federated",
    "train_entries",
]
