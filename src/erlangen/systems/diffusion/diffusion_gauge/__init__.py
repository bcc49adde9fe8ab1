"""Gauge freedom of diffusion models: which part of a field changes nothing, and when it matters that a field is a gradient.

A remainder r with div(p r) = 0 leaves densities and samples alone, so that a model need not be conservative to be exact; to read
the dimension of the data off the derivative of its flow, it had better be.
"""

from erlangen.survey import System
from erlangen.systems.diffusion.diffusion_gauge.method import (
    Dimension,
    Split,
    Turned,
    conservativity,
    galerkin_split,
    gauge_residual,
    intrinsic_dimension,
    linear_split,
    singular_values,
)

__all__ = [
    "SYSTEM", "Dimension", "Split", "Turned", "conservativity", "galerkin_split", "gauge_residual", "intrinsic_dimension",
    "linear_split", "singular_values",
]  # fmt: skip

SYSTEM = System(
    title="On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models",
    authors=("Christian Horvat", "Jean-Pascal Pfister"),
    venue="ICLR",
    year=2024,
    arxiv="2402.03845",
    abstract_claims=(
        "Any vector field splits into a conservative part and an orthogonal one with a gauge freedom.",
        "Exact densities and samples need the conservative part to be the score, and ask nothing of the other one.",
        "So conservativity is neither necessary nor sufficient for exact densities and samples.",
        "To infer local features of the data, such as their dimension, a conservative field is to be preferred.",
    ),
    method=(
        "erlangen.systems.diffusion_gauge.galerkin_split",
        "erlangen.systems.diffusion_gauge.linear_split",
        "erlangen.systems.diffusion_gauge.Turned",
        "erlangen.systems.diffusion_gauge.intrinsic_dimension",
    ),
)
