"""Make models exactly equivariant: `symmetrize`, and the frames that it averages over."""

from erlangen.enforce.frames import Frame, FrameSet, PointsFrame
from erlangen.enforce.graph_orders import NamedNodes, average_orders, averaged_outputs, sort_frame_sizes
from erlangen.enforce.latent_frames import FrameGNN
from erlangen.enforce.orbit import OrbitFrame
from erlangen.enforce.pca_frames import PCAFrame
from erlangen.enforce.piecewise import PartFrames, Piecewise, PiecewiseFrameAverage, act_piecewise, part_frames
from erlangen.enforce.sort_frames import SortFrame, spectral_signature
from erlangen.enforce.symmetrize import Symmetrized, symmetrize

__all__ = [
    "Frame",
    "FrameGNN",
    "FrameSet",
    "NamedNodes",
    "OrbitFrame",
    "PCAFrame",
    "PartFrames",
    "Piecewise",
    "PiecewiseFrameAverage",
    "PointsFrame",
    "SortFrame",
    "Symmetrized",
    "act_piecewise",
    "average_orders",
    "averaged_outputs",
    "part_frames",
    "sort_frame_sizes",
    "spectral_signature",
    "symmetrize",
]
