"""Frechet cumulative covariance: nonlinear sufficient dimension reduction for responses in any metric space.

The statistic by its definition, by sorting and as a matrix; networks that maximise it, closed forms, a permutation test.
"""

from erlangen.survey import System
from erlangen.systems.manifolds.fccov_net.method import (
    Balls,
    ReductionNet,
    Whitening,
    balls,
    fccov,
    fccov_kernel,
    objective,
    permutation_test,
    spectral_reduction,
    whitening,
)

__all__ = [
    "SYSTEM", "Balls", "ReductionNet", "Whitening", "balls", "fccov", "fccov_kernel", "objective", "permutation_test",
    "spectral_reduction", "whitening",
]  # fmt: skip

SYSTEM = System(
    title="Fréchet Cumulative Covariance Net for Deep Nonlinear Sufficient Dimension Reduction with Random Objects",
    authors=("Hang Yuan", "Christina Dan Wang", "Zhou Yu"),
    venue="arXiv",
    year=2025,
    arxiv="2502.15374",
    abstract_claims=(
        "The method serves responses in any metric space, by their distances alone, and is robust to outliers.",
        "With a squared Frobenius penalty it is unbiased for the central sigma-field, and networks converge at the minimax rate.",
        "It does better than kernel reduction and other deep reduction in simulations and on faces.",
    ),
    method=tuple(
        f"erlangen.systems.fccov_net.{name}"
        for name in ("ReductionNet", "fccov", "fccov_kernel", "objective", "spectral_reduction", "permutation_test")
    ),
)  # fmt: skip
