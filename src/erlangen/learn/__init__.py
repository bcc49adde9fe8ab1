"""What trains beside a loss: statistics of classes, matched weights, frozen parts."""

from erlangen.learn.class_statistics import ClassStatistics

__all__ = ["ClassStatistics"]
