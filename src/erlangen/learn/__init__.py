"""What trains beside a loss: statistics of classes, matched weights, frozen parts, federated rounds, and self-supervision:
two views with the element between them, the losses that compare them, probes of what was learned."""

from erlangen.learn.class_statistics import ClassStatistics
from erlangen.learn.federated import Parcel, average, federated_average, flower_apps, run_federated
from erlangen.learn.freezing import NORMS, FreezeReport, check_optimizer, freeze, train_entries
from erlangen.learn.matching import interpolation_barrier, match_weights
from erlangen.learn.partitions import dirichlet_partition
from erlangen.learn.probes import ProbeResult, frozen_features, probe
from erlangen.learn.self_supervised import (
    MovingTarget,
    byol_decay,
    byol_loss,
    covariance_loss,
    info_nce,
    nt_xent,
    variance_loss,
    vicreg_loss,
)
from erlangen.learn.views import Views, relative_element, two_views

__all__ = [
    "NORMS",
    "ClassStatistics",
    "FreezeReport",
    "MovingTarget",
    "Parcel",
    "ProbeResult",
    "Views",
    "average",
    "byol_decay",
    "byol_loss",
    "check_optimizer",
    "covariance_loss",
    "dirichlet_partition",
    "federated_average",
    "flower_apps",
    "freeze",
    "frozen_features",
    "info_nce",
    "interpolation_barrier",
    "match_weights",
    "nt_xent",
    "probe",
    "relative_element",
    "run_federated",
    "train_entries",
    "two_views",
    "variance_loss",
    "vicreg_loss",
]
