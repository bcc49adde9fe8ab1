"""Data that obeys known laws: particles under pair forces, with trajectories, charges and conserved quantities."""

from erlangen.simulate.laws import Hooke, InverseSquare, PairLaw
from erlangen.simulate.nbody import NBody, charged, evolve, gravity, springs

__all__ = ["Hooke", "InverseSquare", "NBody", "PairLaw", "charged", "evolve", "gravity", "springs"]
