"""Layers on graphs: message passing, maps of permutation tensors, sub-graphs, polynomials, normalisation."""

from erlangen.nn.graphs.body_networks import CentredMover, SpeedEGNN
from erlangen.nn.graphs.ego_network import SPEN, spen_separator
from erlangen.nn.graphs.graph_networks import EGNN, GIN, MessageLayer, MessagePassing
from erlangen.nn.graphs.graph_norm import GraphNorm
from erlangen.nn.graphs.graph_polynomials import GraphPolynomials, MatrixProgram, MatrixStep
from erlangen.nn.graphs.graph_separation import AdjacencyNetwork, BareGIN, NamedGIN, generic_gin, stretched
from erlangen.nn.graphs.permutation_tensors import PermutationLinear, PPGNBlock
from erlangen.nn.graphs.subgraph_layers import SubgraphLinear, Subgraphs, ego_subgraphs, whole_graphs

__all__ = [
    "AdjacencyNetwork",
    "BareGIN",
    "CentredMover",
    "EGNN",
    "GIN",
    "GraphNorm",
    "GraphPolynomials",
    "MatrixProgram",
    "MatrixStep",
    "MessageLayer",
    "MessagePassing",
    "NamedGIN",
    "PPGNBlock",
    "PermutationLinear",
    "SPEN",
    "SpeedEGNN",
    "SubgraphLinear",
    "Subgraphs",
    "ego_subgraphs",
    "generic_gin",
    "spen_separator",
    "stretched",
    "whole_graphs",
]
