"""Matrix sensing: how symmetry slows gradient descent on factors, and one step in the group that undoes it.

With more columns than the rank, X X^T is found at the pace 1/T^2; F G^T linearly, at a rate that the conserved imbalance
F^T F - G^T G sets, and so the scale of the start; after one element of GL(k) the rate no longer knows where it began.
"""

from erlangen.survey import System
from erlangen.systems.learning.matrix_sensing.method import (
    AllEntries,
    GaugeStep,
    GaussianSensing,
    RankOneSensing,
    Recovery,
    Sensing,
    SomeEntries,
    gauge_step,
    imbalance,
    recover,
)

__all__ = [
    "SYSTEM", "AllEntries", "GaugeStep", "GaussianSensing", "RankOneSensing", "Recovery", "Sensing", "SomeEntries",
    "gauge_step", "imbalance", "recover",
]  # fmt: skip

SYSTEM = System(
    title="How Over-Parameterization Slows Down Gradient Descent in Matrix Sensing: The Curses of Symmetry and Initialization",
    authors=("Nuoya Xiong", "Lijun Ding", "Simon S. Du"),
    venue="ICLR",
    year=2024,
    arxiv="2310.01769",
    abstract_claims=(
        "With symmetric factors and more columns than the rank, the error falls no faster than 1/T^2.",
        "With exactly as many columns as the rank it falls exponentially.",
        "With asymmetric factors and more columns it falls exponentially, at a rate that depends on the scale of the start.",
        "One modified step gives a rate that does not depend on the scale of the start.",
    ),
    method=(
        "erlangen.systems.matrix_sensing.recover",
        "erlangen.systems.matrix_sensing.gauge_step",
        "erlangen.systems.matrix_sensing.imbalance",
    ),
)
