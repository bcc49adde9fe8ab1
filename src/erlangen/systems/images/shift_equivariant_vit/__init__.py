"""Shift-equivariant vision transformers: anchor every strided operation, and no circular shift is noticed any more."""

from erlangen.survey import System
from erlangen.systems.images.shift_equivariant_vit.method import (
    EQUIVARIANT,
    Block,
    DepthwisePosition,
    GlobalAttention,
    PositionTable,
    Recipe,
    Twins,
    VisionTransformer,
    WindowAttention,
)

__all__ = [
    "EQUIVARIANT",
    "SYSTEM",
    "Block",
    "DepthwisePosition",
    "GlobalAttention",
    "PositionTable",
    "Recipe",
    "Twins",
    "VisionTransformer",
    "WindowAttention",
]

SYSTEM = System(
    title="Reviving Shift Equivariance in Vision Transformers",
    authors=("Peijian Ding", "Davit Soselia", "Thomas Armstrong", "Jiahao Su", "Furong Huang"),
    venue="arXiv",
    year=2023,
    arxiv="2306.07470",
    abstract_claims=(
        "Patch embedding, positional encoding and sub-sampled attention make vision transformers sensitive to small shifts.",
        "Adaptive polyphase anchoring with depth-wise convolutions for position restores shift equivariance.",
        "The models keep all answers under shifts, 100 % consistency, and stay robust to crops, flips and affine maps.",
        "Under shifts by a few pixels the accuracy of the originals falls by about 20 points on average; theirs does not.",
    ),
    method=("erlangen.systems.shift_equivariant_vit.VisionTransformer", "erlangen.systems.shift_equivariant_vit.Twins"),
)
