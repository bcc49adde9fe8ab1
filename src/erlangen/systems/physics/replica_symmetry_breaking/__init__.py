"""Replica symmetry breaking in dense neural networks: pressures, transitions and capacities with P-body couplings.

The replicas' permutation symmetry is kept (RS) or broken to blocks (1RSB); simulations say which of the two is nearer.
"""

from erlangen.survey import System
from erlangen.systems.physics.replica_symmetry_breaking._zero import (
    glass_ground_state,
    hopfield_capacity,
    retrieval_capacity,
    retrieval_energy,
)
from erlangen.systems.physics.replica_symmetry_breaking.method import DenseModel, coupling_of, load_of

__all__ = [
    "SYSTEM", "DenseModel", "coupling_of", "glass_ground_state", "hopfield_capacity", "load_of", "retrieval_capacity",
    "retrieval_energy",
]  # fmt: skip

SYSTEM = System(
    title="Replica symmetry breaking in dense neural networks",
    authors=("Linda Albanese", "Francesco Alemanno", "Andrea Alessandrelli", "Adriano Barra"),
    venue="J. Stat. Phys.",
    year=2022,
    arxiv="2111.12997",
    abstract_claims=(
        "Interpolation and transport equations give the same pressure with replica symmetry and with one step of breaking.",
        "The capacity scales as N^(P-1), and its maximum follows from the ground state.",
        "For P > 2 nothing but the hard P-spin glass is left beside retrieval.",
        "Breaking the symmetry stabilises the glass.",
    ),
    method=(
        "erlangen.systems.replica_symmetry_breaking.DenseModel",
        "erlangen.systems.replica_symmetry_breaking.retrieval_capacity",
        "erlangen.systems.replica_symmetry_breaking.glass_ground_state",
    ),
)  # fmt: skip
