"""Where things lie, before any model: neighbours, what a pair leaves alone, and partitions of point clouds."""

from erlangen.geometry.invariants import PairInvariants, spatial_invariants
from erlangen.geometry.neighbors import PeriodicEdges, edge_vectors, knn_graph, periodic_radius_graph, radius_graph
from erlangen.geometry.partitions import (
    Clustering,
    Mixture,
    cluster_parts,
    farthest_points,
    fit_mixture,
    harden,
    is_refinement,
    merge_parts,
    mixed_points,
    mixture_step,
    voronoi,
)

__all__ = [
    "Clustering",
    "Mixture",
    "PairInvariants",
    "PeriodicEdges",
    "cluster_parts",
    "edge_vectors",
    "farthest_points",
    "fit_mixture",
    "harden",
    "is_refinement",
    "knn_graph",
    "merge_parts",
    "mixed_points",
    "mixture_step",
    "periodic_radius_graph",
    "radius_graph",
    "spatial_invariants",
    "voronoi",
]
