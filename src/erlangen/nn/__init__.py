"""Equivariant layers. Each carries its symmetry as ``.symmetry`` and passes `erlangen.testing.check_layer`."""

from erlangen.nn._velocities import DriftingStates, SpinningStates, Spun, velocity_grid
from erlangen.nn.anchoring import (
    Anchored,
    AnchoredConv2d,
    AnchoredPatchEmbed,
    PolyphaseAnchor,
    component_norms,
    polyphase,
    roll_samples,
)
from erlangen.nn.backbones import PointNet, mlp
from erlangen.nn.bilinear import BilinearLayer
from erlangen.nn.body_networks import CentredMover, SpeedEGNN
from erlangen.nn.edges import edge_harmonics
from erlangen.nn.ego_network import SPEN, spen_separator
from erlangen.nn.emlp import EMLP, hidden_rep
from erlangen.nn.fiber_conv import FiberConv, KernelBasis, lift_to_directions, vectors_of_directions
from erlangen.nn.flow_recurrence import DriftRecurrence2d, SpinRecurrence2d
from erlangen.nn.gates import Gate, NormActivation, gated
from erlangen.nn.graph_networks import EGNN, GIN, MessageLayer, MessagePassing
from erlangen.nn.graph_norm import GraphNorm
from erlangen.nn.graph_polynomials import GraphPolynomials, MatrixProgram, MatrixStep
from erlangen.nn.graph_separation import AdjacencyNetwork, BareGIN, NamedGIN, generic_gin, stretched
from erlangen.nn.group_conv import GroupBatchNorm2d, GroupConv2d, GroupPool, LiftConv2d
from erlangen.nn.group_kernel import GroupKernel
from erlangen.nn.irreps_network import IrrepsNetwork
from erlangen.nn.lie_conv import LieConv, LieLift, LieProject
from erlangen.nn.linear import EquivariantLinear
from erlangen.nn.permutation_tensors import PermutationLinear, PPGNBlock
from erlangen.nn.planar import FeatureField
from erlangen.nn.pointer import Pointer
from erlangen.nn.products import ManyBodyProduct, TensorProduct, edge_gaunt, tensor_product
from erlangen.nn.segments import dense_batch, segment_max, segment_mean, segment_sum, sparse_batch
from erlangen.nn.siren import SineLayer, Siren
from erlangen.nn.steerable_conv import GatedNonlinearity2d, NormNonlinearity2d, SteerableConv2d
from erlangen.nn.subgraph_layers import SubgraphLinear, Subgraphs, ego_subgraphs, whole_graphs
from erlangen.nn.vector_channels import VectorGate, VectorLinear, VectorReLU

__all__ = [
    "AdjacencyNetwork",
    "Anchored",
    "AnchoredConv2d",
    "AnchoredPatchEmbed",
    "BareGIN",
    "BilinearLayer",
    "CentredMover",
    "DriftRecurrence2d",
    "DriftingStates",
    "EGNN",
    "EMLP",
    "EquivariantLinear",
    "FeatureField",
    "FiberConv",
    "GIN",
    "Gate",
    "GatedNonlinearity2d",
    "GraphNorm",
    "GraphPolynomials",
    "GroupBatchNorm2d",
    "GroupConv2d",
    "GroupKernel",
    "GroupPool",
    "IrrepsNetwork",
    "KernelBasis",
    "LieConv",
    "LieLift",
    "LieProject",
    "LiftConv2d",
    "ManyBodyProduct",
    "MessageLayer",
    "MatrixProgram",
    "MatrixStep",
    "MessagePassing",
    "NamedGIN",
    "NormActivation",
    "NormNonlinearity2d",
    "PPGNBlock",
    "PermutationLinear",
    "PointNet",
    "Pointer",
    "PolyphaseAnchor",
    "SPEN",
    "SineLayer",
    "Siren",
    "SpeedEGNN",
    "SpinRecurrence2d",
    "SpinningStates",
    "Spun",
    "SteerableConv2d",
    "SubgraphLinear",
    "Subgraphs",
    "TensorProduct",
    "VectorGate",
    "VectorLinear",
    "VectorReLU",
    "component_norms",
    "dense_batch",
    "edge_gaunt",
    "edge_harmonics",
    "ego_subgraphs",
    "gated",
    "generic_gin",
    "hidden_rep",
    "lift_to_directions",
    "mlp",
    "polyphase",
    "roll_samples",
    "segment_max",
    "segment_mean",
    "segment_sum",
    "sparse_batch",
    "spen_separator",
    "stretched",
    "tensor_product",
    "vectors_of_directions",
    "velocity_grid",
    "whole_graphs",
]
