"""Symmetries and asymptotically flat space: Noether's theorems, BMS3 at both null infinities, and charges that pass between them.

What a vacuum of three-dimensional gravity keeps to infinity is two functions on the circle, on which an infinite group acts.
"""

from erlangen.survey import System
from erlangen.systems.physics.asymptotic_symmetries.method import (
    Vacuum,
    celestial_map,
    preserving_vector,
    vacuum,
)

__all__ = ["SYSTEM", "Vacuum", "celestial_map", "preserving_vector", "vacuum"]

SYSTEM = System(
    title="Symmetries and asymptotically flat space",
    authors=("Friedrich Schöller",),
    venue="Thesis, TU Wien",
    year=2020,
    arxiv="2003.07243",
    abstract_claims=(
        "Symmetries and charges of asymptotically flat space follow from variational symmetries and conformal completion.",
        "In three dimensions symmetries at past and future null infinity are unified where a spacetime has both.",
        "The map between past and future preserves energy and gives infinitely many conservation laws.",
        "Charges tell apart different Minkowski spaces.",
    ),
    method=(
        "erlangen.systems.asymptotic_symmetries.Vacuum",
        "erlangen.equations.CircleMap",
        "erlangen.equations.variational_symmetries",
    ),
)
