"""Make models exactly equivariant: `symmetrize`, and the frames that it averages over."""

from erlangen.enforce.frames import Frame, FrameSet, PointsFrame
from erlangen.enforce.orbit import OrbitFrame
from erlangen.enforce.pca_frames import PCAFrame
from erlangen.enforce.piecewise import PartFrames, Piecewise, PiecewiseFrameAverage, act_piecewise, part_frames
from erlangen.enforce.sort_frames import SortFrame, spectral_signature
from erlangen.enforce.symmetrize import Symmetrized, symmetrize

__all__ = [
    "Frame",
    "FrameSet",
    "OrbitFrame",
    "PCAFrame",
    "PartFrames",
    "Piecewise",
    "PiecewiseFrameAverage",
    "PointsFrame",
    "SortFrame",
    "Symmetrized",
    "act_piecewise",
    "part_frames",
    "spectral_signature",
    "symmetrize",
]
