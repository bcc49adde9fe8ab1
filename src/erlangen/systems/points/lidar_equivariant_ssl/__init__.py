"""Maps of laser scans that follow motions of the road and scene flow, learned without labels, then fine-tuned."""

from erlangen.survey import System
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    EquivariantPretraining,
    Grid,
    MapBackbone,
    Sweeps,
    Weights,
    flow_loss,
    flow_warp,
    road_motions,
)

__all__ = [
    "SYSTEM",
    "EquivariantPretraining",
    "Grid",
    "MapBackbone",
    "Sweeps",
    "Weights",
    "flow_loss",
    "flow_warp",
    "road_motions",
]

SYSTEM = System(
    title="Equivariant Spatio-Temporal Self-Supervision for LiDAR Object Detection",
    authors=("Deepti Hegde", "Suhas Lohit", "Kuan-Chuan Peng", "Michael J. Jones", "Vishal M. Patel"),
    venue="ECCV",
    year=2024,
    arxiv="2404.11737",
    abstract_claims=(
        "Equivariance to spatial transformations is learned by contrast and by classification, each where it suits.",
        "Scene flow makes features equivariant in time.",
        "Pre-trained so, detectors are better than from scratch and than with invariant or generative pre-training.",
    ),
    method=(
        "erlangen.systems.lidar_equivariant_ssl.EquivariantPretraining",
        "erlangen.systems.lidar_equivariant_ssl.MapBackbone",
        "erlangen.systems.lidar_equivariant_ssl.flow_warp",
    ),
)
