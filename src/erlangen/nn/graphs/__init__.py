"""Layers on graphs: message passing, maps of permutation tensors, sub-graphs, polynomials, normalisation."""

from erlangen.nn.graphs.graph_networks import EGNN, GIN, MessageLayer, MessagePassing
from erlangen.nn.graphs.graph_norm import GraphNorm
from erlangen.nn.graphs.graph_polynomials import GraphPolynomials, MatrixProgram, MatrixStep
from erlangen.nn.graphs.permutation_tensors import PermutationLinear, PPGNBlock
from erlangen.nn.graphs.subgraph_layers import SubgraphLinear, Subgraphs, ego_subgraphs, whole_graphs

__all__ = [
    "EGNN",
    "GIN",
    "GraphNorm",
    "GraphPolynomials",
    "MatrixProgram",
    "MatrixStep",
    "MessageLayer",
    "MessagePassing",
    "PPGNBlock",
    "PermutationLinear",
    "SubgraphLinear",
    "Subgraphs",
    "ego_subgraphs",
    "whole_graphs",
]
