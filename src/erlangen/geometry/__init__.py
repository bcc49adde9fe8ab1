"""Where things lie, before any model.

Neighbours, contacts of balls, invariants of pairs, partitions of clouds, multigraphs, colours of nodes, shortest tours,
configurations of vectors, kinematic trees, boxes, manifolds.
"""

from erlangen.geometry import manifolds
from erlangen.geometry.colors import color_kernel, refined_colors
from erlangen.geometry.configurations import (
    coherence,
    frame_potential,
    gram_distance,
    orthogonal_frame,
    principal_angles,
    procrustes,
    simplex_etf,
    subspace_similarity,
    welch_bound,
)
from erlangen.geometry.contacts import BallCells, ball_cells, burial
from erlangen.geometry.ego import EgoNetworks, ego_networks
from erlangen.geometry.invariants import PairInvariants, spatial_invariants
from erlangen.geometry.kinematics import KinematicTree, Placement, skinned
from erlangen.geometry.multigraph_basis import (
    Multigraph,
    injective_terms,
    is_computable,
    multigraphs,
    simple_multigraphs,
)
from erlangen.geometry.neighbors import PeriodicEdges, edge_vectors, knn_graph, periodic_radius_graph, radius_graph
from erlangen.geometry.oriented_boxes import box_corners, oriented_iou
from erlangen.geometry.packings import paley_etf, spread_vectors
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
from erlangen.geometry.tours import optimal_tours, rewrite_tours, tour_lengths

__all__ = [
    "BallCells",
    "Clustering",
    "EgoNetworks",
    "KinematicTree",
    "Mixture",
    "Multigraph",
    "PairInvariants",
    "PeriodicEdges",
    "Placement",
    "ball_cells",
    "box_corners",
    "burial",
    "cluster_parts",
    "coherence",
    "color_kernel",
    "edge_vectors",
    "ego_networks",
    "farthest_points",
    "fit_mixture",
    "frame_potential",
    "gram_distance",
    "harden",
    "injective_terms",
    "is_computable",
    "is_refinement",
    "knn_graph",
    "manifolds",
    "merge_parts",
    "mixed_points",
    "mixture_step",
    "multigraphs",
    "optimal_tours",
    "oriented_iou",
    "orthogonal_frame",
    "paley_etf",
    "periodic_radius_graph",
    "principal_angles",
    "procrustes",
    "radius_graph",
    "refined_colors",
    "rewrite_tours",
    "simple_multigraphs",
    "simplex_etf",
    "skinned",
    "spatial_invariants",
    "spread_vectors",
    "subspace_similarity",
    "tour_lengths",
    "voronoi",
    "welch_bound",
]
