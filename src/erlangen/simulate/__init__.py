"""Data that obeys known laws: particles under pair forces with all that they conserve, and surfaces with their normals."""

from erlangen.simulate.laws import Hooke, InverseSquare, PairLaw
from erlangen.simulate.nbody import NBody, charged, evolve, gravity, springs
from erlangen.simulate.shapes import Surfaces, surfaces

__all__ = [
    "Hooke",
    "InverseSquare",
    "NBody",
    "PairLaw",
    "Surfaces",
    "charged",
    "evolve",
    "gravity",
    "springs",
    "surfaces",
]
