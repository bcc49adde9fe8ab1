"""Data that obeys known laws, with exact labels.

Particles under pair forces, molecules, particles carried by a flow, posed and moving bodies, furnished rooms, pairs of
partial scans, streets under a laser scanner, surfaces, solids, decoys of proteins, rhythms; spins at a temperature; flow past
airfoils, a stretched cell with a void.
"""

from erlangen.simulate.assembly import Assembly, ShellState, fold_angles, shell_energy
from erlangen.simulate.bodies import PARTS, BodyClouds, Humanoid
from erlangen.simulate.charges import charges_ahead, drifted
from erlangen.simulate.continua import (
    AirfoilFlow,
    ElasticCell,
    airfoil_flow,
    elastic_cell,
    joukowski,
    naca4,
    outline_distance,
    void_radii,
)
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
from erlangen.simulate.monte_carlo import Estimate, Tempering, correlated_mean, parallel_tempering, spin_sweep
from erlangen.simulate.nbody import NBody, charged, evolve, gravity, springs
from erlangen.simulate.objects import (
    LATENTS,
    OBJECTS,
    ObjectMesh,
    ObjectViews,
    draw_object,
    mesh_objects,
    object_views,
    symmetric_solid,
)
from erlangen.simulate.particles import ParticleImages, Vortices, particle_images
from erlangen.simulate.rooms import FURNITURE, Rooms, room_clouds
from erlangen.simulate.scans import ScanPairs, partial_scans
from erlangen.simulate.shapes import Surfaces, surfaces
from erlangen.simulate.skinned_bodies import PosedBody, SkinnedBody
from erlangen.simulate.solid_families import solids
from erlangen.simulate.sources import mixing, rhythms
from erlangen.simulate.streets import ROAD_USERS, Scanner, Traffic, traffic

__all__ = [
    "AirfoilFlow",
    "Assembly",
    "BodyClouds",
    "DECOYS",
    "Decoy",
    "DecoyKind",
    "ElasticCell",
    "Estimate",
    "FURNITURE",
    "Hooke",
    "Humanoid",
    "InverseSquare",
    "LATENTS",
    "Limb",
    "LimbFrames",
    "LimbedBody",
    "MolecularMotion",
    "Molecule",
    "NBody",
    "OBJECTS",
    "ObjectMesh",
    "ObjectViews",
    "PARTS",
    "PairLaw",
    "ParticleImages",
    "PosedBody",
    "ROAD_USERS",
    "Rooms",
    "ScanPairs",
    "Scanner",
    "ShellState",
    "SkinnedBody",
    "SoftTorsions",
    "Surfaces",
    "Tempering",
    "Traffic",
    "Vortices",
    "airfoil_flow",
    "charged",
    "charges_ahead",
    "correlated_mean",
    "decoy_maker",
    "draw_object",
    "drifted",
    "elastic_cell",
    "ethanol",
    "evolve",
    "fold_angles",
    "gravity",
    "ideal_cb",
    "joukowski",
    "machined_parts",
    "mesh_clouds",
    "mesh_objects",
    "mesh_points",
    "mixing",
    "naca4",
    "object_views",
    "outline_distance",
    "parallel_tempering",
    "partial_scans",
    "particle_images",
    "rhythms",
    "room_clouds",
    "shell_energy",
    "soft_torsions",
    "solids",
    "spin_sweep",
    "springs",
    "surfaces",
    "symmetric_solid",
    "traffic",
    "turn_torsions",
    "void_radii",
    "xtb_trajectory",
]
