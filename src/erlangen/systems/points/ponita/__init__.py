"""Equivariant networks without tensor products: kernels that depend on pairs of oriented points through invariants alone."""

from erlangen.survey import System
from erlangen.systems.points.ponita.method import Ponita

__all__ = ["SYSTEM", "Ponita"]

SYSTEM = System(
    title="Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in Position-Orientation Space",
    authors=(
        "Erik J. Bekkers",
        "Sharvaree Vadgama",
        "Rob D. Hesselink",
        "Putri A. van der Linden",
        "David W. Romero",
    ),
    venue="ICLR",
    year=2024,
    arxiv="2310.02970",
    abstract_claims=(
        "Equivariant weight sharing means equal weights for pairs of points in one class; numbers that name it suffice.",
        "Numbers that name the classes are derived for positions, for positions with orientations, and for the group itself.",
        "Features on positions and orientations are expressive, and cheaper than features on the whole group.",
        "The network leads on energies and forces, on trajectories of particles and on molecules drawn by diffusion.",
    ),
    method=("erlangen.systems.ponita.Ponita",),
)
