"""Convolutions on affine groups whose exponential map does not reach every element: a split into a positive part and a turn.

The split gives a chart of the whole group, in which a sine network is the kernel, and samples that come with their inverses.
"""

from erlangen.groups import GroupSamples, PolarChart, PolarSampler
from erlangen.nn import GroupKernel, LieConv, LieLift, LieProject
from erlangen.survey import System
from erlangen.systems.images.lie_decomposition.method import LieGroupCNN
from erlangen.systems.images.lie_decomposition.rivals import PlainCNN

__all__ = [
    "SYSTEM",
    "GroupKernel",
    "GroupSamples",
    "LieConv",
    "LieGroupCNN",
    "LieLift",
    "LieProject",
    "PlainCNN",
    "PolarChart",
    "PolarSampler",
]

SYSTEM = System(
    title="Lie Group Decompositions for Equivariant Neural Networks",
    authors=("Mircea Mironenco", "Patrick Forré"),
    venue="ICLR",
    year=2024,
    arxiv="2310.11366",
    abstract_claims=(
        "Group convolutions exist for groups that are neither compact nor commutative, where the exponential is not onto.",
        "Decompositions into subgroups and submanifolds give invariant integration and a global parametrisation.",
        "Networks on affine groups generalise better to affine distortions than earlier equivariant and capsule networks.",
    ),
    method=(
        "erlangen.systems.lie_decomposition.LieGroupCNN",
        "erlangen.groups.PolarChart",
        "erlangen.groups.PolarSampler",
    ),
)
