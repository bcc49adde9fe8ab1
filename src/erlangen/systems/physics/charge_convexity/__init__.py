"""Charge convexity: is the lowest dimension of charge Q a convex function of Q, and what of models where it turns complex?

Semiclassics at a fixed charge: a saddle gives the leading dimension, sums of frequencies on the sphere the next one.
"""

from erlangen.survey import System
from erlangen.systems.physics.charge_convexity._casimir import Spectrum, casimir, casimir_pole
from erlangen.systems.physics.charge_convexity._convexity import Convexity, convexity, enclosed_saddle
from erlangen.systems.physics.charge_convexity.method import (
    CubicModel,
    MatrixModel,
    VectorModel,
    saddle,
    standard_coupling,
)

__all__ = [
    "SYSTEM", "Convexity", "CubicModel", "MatrixModel", "Spectrum", "VectorModel", "casimir", "casimir_pole", "convexity",
    "enclosed_saddle", "saddle", "standard_coupling",
]  # fmt: skip

SYSTEM = System(
    title="More on the Weak Gravity Conjecture via Convexity of Charged Operators",
    authors=("Oleg Antipin", "Jahmall Bersini", "Francesco Sannino", "Zhi-Wei Wang", "Chen Zhang"),
    venue="JHEP",
    year=2021,
    arxiv="2109.04946",
    abstract_claims=(
        "Dimensions of the lowest operators of charge Q are convex in Q where they are real, and the leading term decides it.",
        "In O(N) models in 4 + eps dimensions dimensions become complex at a critical charge.",
        "In U(N) x U(M) models in 4 - eps dimensions they become complex with the matter content.",
        "Where dimensions are complex, their real parts are convex.",
    ),
    method=(
        "erlangen.systems.charge_convexity.VectorModel", "erlangen.systems.charge_convexity.MatrixModel",
        "erlangen.systems.charge_convexity.CubicModel", "erlangen.systems.charge_convexity.casimir",
        "erlangen.systems.charge_convexity.convexity",
    ),
)  # fmt: skip
