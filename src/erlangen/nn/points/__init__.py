"""Layers on points in space: convolutions over positions and directions, irreps, channels of vectors."""

from erlangen.nn.points.fiber_conv import FiberConv, KernelBasis, lift_to_directions, vectors_of_directions
from erlangen.nn.points.irreps_network import IrrepsNetwork
from erlangen.nn.points.lifted import (
    GroupAxisAttention,
    GroupAxisConv,
    LiftedPointConv,
    invariant_kernel_points,
)
from erlangen.nn.points.pointer import Pointer
from erlangen.nn.points.vector_blocks import VectorAttention, VectorNorm, VectorPool
from erlangen.nn.points.vector_channels import VectorGate, VectorLinear, VectorReLU

__all__ = [
    "FiberConv",
    "GroupAxisAttention",
    "GroupAxisConv",
    "IrrepsNetwork",
    "KernelBasis",
    "LiftedPointConv",
    "Pointer",
    "VectorAttention",
    "VectorGate",
    "VectorLinear",
    "VectorNorm",
    "VectorPool",
    "VectorReLU",
    "invariant_kernel_points",
    "lift_to_directions",
    "vectors_of_directions",
]
