"""Where things lie, before any model.

Neighbours, groups and voxels of points, invariants of pairs, partitions of clouds, multigraphs, colours of nodes, shortest tours,
contacts of balls, configurations of vectors, alignment of points, cameras, kinematic trees, boxes, manifolds.
"""

from erlangen.geometry import manifolds
from erlangen.geometry.alignment import Alignment, ChordalMean, align, chordal_mean, gram_schmidt, point_frames
from erlangen.geometry.cameras import Camera, Rays, pinhole, pixel_centers
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
    fit_mixture,
    harden,
    is_refinement,
    merge_parts,
    mixed_points,
    mixture_step,
    same_cells,
    scattered_cells,
    voronoi,
)
from erlangen.geometry.points import (
    Groups,
    Voxels,
    ball_groups,
    farthest_points,
    interpolate_points,
    knn_groups,
    take_points,
    voxel_points,
)
from erlangen.geometry.poses import look_at, reflection
from erlangen.geometry.quotients import rotation_distance
from erlangen.geometry.shells import IcosahedralShell, icosahedral_shell
from erlangen.geometry.tours import optimal_tours, rewrite_tours, tour_lengths

__all__ = [
    "Alignment",
    "BallCells",
    "Camera",
    "ChordalMean",
    "Clustering",
    "EgoNetworks",
    "Groups",
    "IcosahedralShell",
    "KinematicTree",
    "Mixture",
    "Multigraph",
    "PairInvariants",
    "PeriodicEdges",
    "Placement",
    "Rays",
    "Voxels",
    "align",
    "ball_cells",
    "ball_groups",
    "box_corners",
    "burial",
    "chordal_mean",
    "cluster_parts",
    "coherence",
    "color_kernel",
    "edge_vectors",
    "ego_networks",
    "farthest_points",
    "fit_mixture",
    "frame_potential",
    "gram_distance",
    "gram_schmidt",
    "harden",
    "icosahedral_shell",
    "injective_terms",
    "interpolate_points",
    "is_computable",
    "is_refinement",
    "knn_graph",
    "knn_groups",
    "look_at",
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
    "pinhole",
    "pixel_centers",
    "point_frames",
    "principal_angles",
    "procrustes",
    "radius_graph",
    "refined_colors",
    "reflection",
    "rewrite_tours",
    "rotation_distance",
    "same_cells",
    "scattered_cells",
    "simple_multigraphs",
    "simplex_etf",
    "skinned",
    "spatial_invariants",
    "spread_vectors",
    "subspace_similarity",
    "take_points",
    "tour_lengths",
    "voronoi",
    "voxel_points",
    "welch_bound",
]
