"""Where things lie, before any model: partitions of point clouds, their order, and how parts are grouped."""

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
    "cluster_parts",
    "farthest_points",
    "fit_mixture",
    "harden",
    "is_refinement",
    "merge_parts",
    "mixed_points",
    "mixture_step",
    "voronoi",
]
