"""Neural collapse in deep linear networks: which rigid figure class means and weights end in, also for uneven classes.

Features are free variables, or what a network makes, on which linear layers with decay stand; S_K permutes the classes.
"""

from erlangen.survey import System
from erlangen.systems.learning.neural_collapse.method import (
    DeepLinearHead,
    Geometry,
    code_value,
    collapse_metrics,
    collapse_objective,
    general_orthogonal_frame,
    optimal_geometry,
    within_variability,
)

__all__ = [
    "SYSTEM",
    "DeepLinearHead",
    "Geometry",
    "code_value",
    "collapse_metrics",
    "collapse_objective",
    "general_orthogonal_frame",
    "optimal_geometry",
    "within_variability",
]

SYSTEM = System(
    title="Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data",
    authors=("Hien Dang", "Tho Tran", "Stanley Osher", "Hung Tran-The", "Nhat Ho", "Tan Nguyen"),
    venue="ICML",
    year=2023,
    arxiv="2301.00437",
    abstract_claims=(
        "Global optima of deep linear networks collapse across all linear layers, for the squared error and the cross-entropy.",
        "For uneven classes and the squared error without a bias, features and classifiers become orthogonal vectors.",
        "Their lengths depend on how many samples their classes have.",
        "Synthetic and practical networks, even and uneven, end so.",
    ),
    method=("erlangen.systems.neural_collapse.Geometry", "erlangen.systems.neural_collapse.general_orthogonal_frame"),
)
