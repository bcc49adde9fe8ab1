"""Layers on points in space: convolutions over positions and directions, irreps, channels of vectors."""

from erlangen.nn.points.fiber_conv import FiberConv, KernelBasis, lift_to_directions, vectors_of_directions
from erlangen.nn.points.irreps_network import IrrepsNetwork
from erlangen.nn.points.pointer import Pointer
from erlangen.nn.points.vector_blocks import VectorAttention, VectorNorm, VectorPool
from erlangen.nn.points.vector_channels import VectorGate, VectorLinear, VectorReLU

__all__ = [
    "FiberConv",
    "IrrepsNetwork",
    "KernelBasis",
    "Pointer",
    "VectorAttention",
    "VectorGate",
    "VectorLinear",
    "VectorNorm",
    "VectorPool",
    "VectorReLU",
    "lift_to_directions",
    "vectors_of_directions",
]
