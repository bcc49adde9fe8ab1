"""Measure a symmetry: `audit` and its short forms.

`audit` reports everything; `equivariance_error` is one number, `assert_equivariant` an assertion for tests,
`worst_case` a search for the worst element, `lie_derivative` the local error per generator, `layer_errors` the place in
the network where the symmetry is lost, `EquivarianceTracker` the error during training; `equal_pairs` counts what an
invariant network confuses, `separation_table` does so for networks and families of graphs; `peak_memory` and
`median_times` say what a computation costs.
"""

from erlangen.measure.alignment import PoseErrors, RegistrationErrors, lddt, pose_errors, registration_errors
from erlangen.measure.audit import audit
from erlangen.measure.calls import per_sample
from erlangen.measure.contact_scores import cad_score, voronota_cad_score
from erlangen.measure.cost import Allocations, median_times, peak_memory
from erlangen.measure.detection import average_precision
from erlangen.measure.error import (
    EquivarianceTracker,
    assert_equivariant,
    equivariance_error,
    lie_derivative,
)
from erlangen.measure.html import report_page, write_report
from erlangen.measure.layers import LayerError, layer_errors, lost_at
from erlangen.measure.metrics import METRICS, Metric
from erlangen.measure.models import Model
from erlangen.measure.onnx_files import OnnxModel, onnx
from erlangen.measure.orbit import Orbit, orbit
from erlangen.measure.report import AuditReport
from erlangen.measure.retrieval import Retrieval, retrieval
from erlangen.measure.scores import accuracy, distance_correlation, r_squared, relative_change, spearman
from erlangen.measure.separation import Separator, equal_pairs, separation_table
from erlangen.measure.trajectories import average_displacement, best_of, final_displacement
from erlangen.measure.weights import function_of_weights, stack_weights
from erlangen.measure.worst import WorstCase, worst_case

__all__ = [
    "METRICS",
    "Allocations",
    "AuditReport",
    "EquivarianceTracker",
    "LayerError",
    "Metric",
    "Model",
    "OnnxModel",
    "Orbit",
    "PoseErrors",
    "RegistrationErrors",
    "Retrieval",
    "Separator",
    "WorstCase",
    "accuracy",
    "assert_equivariant",
    "audit",
    "average_displacement",
    "average_precision",
    "best_of",
    "cad_score",
    "distance_correlation",
    "equal_pairs",
    "equivariance_error",
    "final_displacement",
    "function_of_weights",
    "layer_errors",
    "lddt",
    "lie_derivative",
    "lost_at",
    "median_times",
    "onnx",
    "orbit",
    "peak_memory",
    "per_sample",
    "r_squared",
    "pose_errors",
    "registration_errors",
    "relative_change",
    "report_page",
    "retrieval",
    "separation_table",
    "spearman",
    "stack_weights",
    "voronota_cad_score",
    "worst_case",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name in ("explore", "Exploration"):  # until the next release
        import warnings

        from erlangen import explorer

        warnings.warn(f"erlangen.measure.{name} is now erlangen.explorer.{name}", DeprecationWarning, stacklevel=2)
        return getattr(explorer, name)
    raise AttributeError(f"module 'erlangen.measure' has no attribute {name!r}")
