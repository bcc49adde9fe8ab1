"""Real data that comes with the library, distorted, as clips and as superpixels, small graphs, and a reader for your files."""

from erlangen.data.clips import Clips, drifting_digits, spinning_digits
from erlangen.data.distortions import affine_distortion, homography_distortion
from erlangen.data.graphs import (
    connected_graphs,
    rook_graph,
    shrikhande_graph,
    strongly_regular_graphs,
    triangular_graph,
)
from erlangen.data.images import ImageData, digits, fashion
from erlangen.data.loading import Batch, load_data
from erlangen.data.molecules import MoleculeData, qm9
from erlangen.data.motion import (
    JOINTS,
    PARENTS,
    Crowds,
    MotionClip,
    Skeleton,
    captured_motion,
    human_motion,
    pedestrians,
)
from erlangen.data.segmentation import Superpixels, superpixels
from erlangen.data.sensors import SensorData, basic_motions

__all__ = [
    "JOINTS",
    "PARENTS",
    "Batch",
    "Clips",
    "Crowds",
    "ImageData",
    "MoleculeData",
    "MotionClip",
    "SensorData",
    "Skeleton",
    "Superpixels",
    "affine_distortion",
    "basic_motions",
    "captured_motion",
    "connected_graphs",
    "digits",
    "drifting_digits",
    "fashion",
    "homography_distortion",
    "human_motion",
    "load_data",
    "pedestrians",
    "qm9",
    "rook_graph",
    "shrikhande_graph",
    "spinning_digits",
    "strongly_regular_graphs",
    "superpixels",
    "triangular_graph",
]
