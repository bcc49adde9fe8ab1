"""Maps of laser scans that follow motions of the road and scene flow, learned without labels, then fine-tuned."""

from erlangen.survey import System
from erlangen.systems.points.lidar_equivariant_ssl._motions import road_motions
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    EquivariantPretraining,
    Grid,
    MapBackbone,
    Sweeps,
    Weights,
    flow_loss,
    flow_warp,
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
        "Contrast or classification is the better objective, depending on the transformation.",
        "Scene flow makes features equivariant in time, and detection better.",
        "Detectors are better than after other equivariant and invariant pre-training in many settings.",
    ),
    method=(
        "erlangen.systems.lidar_equivariant_ssl.EquivariantPretraining",
        "erlangen.systems.lidar_equivariant_ssl.MapBackbone",
        "erlangen.systems.lidar_equivariant_ssl.flow_warp",
    ),
)
