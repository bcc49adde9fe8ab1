"""Data that obeys known laws, with exact labels.

Particles under pair forces, molecules, particles carried by a flow, posed and moving bodies, furnished rooms, pairs of
partial scans, streets under a laser scanner, surfaces, solids, decoys of proteins.
"""

from erlangen.simulate.bodies import PARTS, BodyClouds, Humanoid
from erlangen.simulate.charges import charges_ahead, drifted
from erlangen.simulate.decoys import (
    DECOYS,
    Decoy,
    DecoyKind,
    SoftTorsions,
    decoy_maker,
    ideal_cb,
    soft_torsions,
    turn_torsions,
)
from erlangen.simulate.laws import Hooke, InverseSquare, PairLaw
from erlangen.simulate.limbs import Limb, LimbedBody, LimbFrames
from erlangen.simulate.mesh_shapes import machined_parts, mesh_clouds, mesh_points
from erlangen.simulate.molecular import MolecularMotion, Molecule, ethanol, xtb_trajectory
from erlangen.simulate.nbody import NBody, charged, evolve, gravity, springs
from erlangen.simulate.particles import ParticleImages, Vortices, particle_images
from erlangen.simulate.rooms import FURNITURE, Rooms, room_clouds
from erlangen.simulate.scans import ScanPairs, partial_scans
from erlangen.simulate.shapes import Surfaces, surfaces
from erlangen.simulate.solid_families import solids
from erlangen.simulate.streets import ROAD_USERS, Scanner, Traffic, traffic

__all__ = [
    "DECOYS",
    "FURNITURE",
    "PARTS",
    "ROAD_USERS",
    "BodyClouds",
    "Decoy",
    "DecoyKind",
    "Hooke",
    "Humanoid",
    "InverseSquare",
    "Limb",
    "LimbFrames",
    "LimbedBody",
    "MolecularMotion",
    "Molecule",
    "NBody",
    "PairLaw",
    "ParticleImages",
    "Rooms",
    "ScanPairs",
    "Scanner",
    "SoftTorsions",
    "Surfaces",
    "Traffic",
    "Vortices",
    "charged",
    "charges_ahead",
    "decoy_maker",
    "drifted",
    "ethanol",
    "evolve",
    "gravity",
    "ideal_cb",
    "machined_parts",
    "mesh_clouds",
    "mesh_points",
    "partial_scans",
    "particle_images",
    "room_clouds",
    "soft_torsions",
    "solids",
    "springs",
    "surfaces",
    "traffic",
    "turn_torsions",
    "xtb_trajectory",
]
