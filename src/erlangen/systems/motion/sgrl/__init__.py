"""Subequivariant graph reinforcement learning: one policy for bodies of many shapes that run in any direction.

Gravity leaves of all turns those about the vertical. The SubEquivariant Transformer puts gravity and the way to the target into
every stack of vectors, and so keeps exactly that: one heading teaches all.
"""

from erlangen.survey import System
from erlangen.systems.motion.sgrl._observations import codes, observe
from erlangen.systems.motion.sgrl.method import (
    SubEquivariantActor,
    SubEquivariantCritic,
    SubEquivariantTransformer,
    Widths,
)

__all__ = [
    "SYSTEM", "SubEquivariantActor", "SubEquivariantCritic", "SubEquivariantTransformer", "Widths", "codes", "observe",
]  # fmt: skip

SYSTEM = System(
    title="Subequivariant graph reinforcement learning in 3D environments",
    authors=("Runfa Chen", "Jiaqi Han", "Fuchun Sun", "Wenbing Huang"),
    venue="ICML",
    year=2023,
    arxiv="2305.18951",
    abstract_claims=(
        "Bodies that move freely in three dimensions, with any heading and target, are much harder than those in a plane.",
        "Policy and value function respect the subgroup of O(3) that keeps gravity, for bodies of different shapes.",
        "The method outperforms existing approaches for single tasks, for several at once, and zero-shot for other bodies.",
    ),
    method=(
        "erlangen.systems.sgrl.SubEquivariantActor", "erlangen.systems.sgrl.SubEquivariantCritic",
        "erlangen.systems.sgrl.observe",
    ),
)  # fmt: skip
