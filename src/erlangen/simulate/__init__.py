"""Data that obeys known laws: particles under pair forces, molecules, posed bodies, rooms, surfaces; with exact labels."""

from erlangen.simulate.bodies import PARTS, BodyClouds, Humanoid
from erlangen.simulate.laws import Hooke, InverseSquare, PairLaw
from erlangen.simulate.molecular import MolecularMotion, Molecule, ethanol, xtb_trajectory
from erlangen.simulate.nbody import NBody, charged, evolve, gravity, springs
from erlangen.simulate.rooms import FURNITURE, Rooms, room_clouds
from erlangen.simulate.shapes import Surfaces, surfaces

__all__ = [
    "FURNITURE",
    "PARTS",
    "BodyClouds",
    "Hooke",
    "Humanoid",
    "InverseSquare",
    "MolecularMotion",
    "Molecule",
    "NBody",
    "PairLaw",
    "Rooms",
    "Surfaces",
    "charged",
    "ethanol",
    "evolve",
    "gravity",
    "room_clouds",
    "springs",
    "surfaces",
    "xtb_trajectory",
]
