"""Layers on pixel grids: convolutions of groups and irreps, anchored strides, recurrences, capsules, maps to the sphere."""

from erlangen.nn.images.anchoring import (
    Anchored,
    AnchoredConv2d,
    AnchoredPatchEmbed,
    PolyphaseAnchor,
    component_norms,
    polyphase,
    roll_samples,
)
from erlangen.nn.images.capsules import SelfRouting
from erlangen.nn.images.flow_recurrence import DriftRecurrence2d, SpinRecurrence2d
from erlangen.nn.images.group_conv import GroupBatchNorm2d, GroupConv2d, GroupPool, LiftConv2d
from erlangen.nn.images.group_kernel import GroupKernel
from erlangen.nn.images.induction import InducedSignal
from erlangen.nn.images.lie_conv import LieConv, LieLift, LieProject
from erlangen.nn.images.planar import FeatureField
from erlangen.nn.images.steerable_conv import GatedNonlinearity2d, NormNonlinearity2d, SteerableConv2d
from erlangen.nn.images.velocities import DriftingStates, SpinningStates, Spun, velocity_grid

__all__ = [
    "Anchored",
    "AnchoredConv2d",
    "AnchoredPatchEmbed",
    "DriftRecurrence2d",
    "DriftingStates",
    "FeatureField",
    "GatedNonlinearity2d",
    "GroupBatchNorm2d",
    "GroupConv2d",
    "GroupKernel",
    "GroupPool",
    "InducedSignal",
    "LieConv",
    "LieLift",
    "LieProject",
    "LiftConv2d",
    "NormNonlinearity2d",
    "PolyphaseAnchor",
    "SelfRouting",
    "SpinRecurrence2d",
    "SpinningStates",
    "Spun",
    "SteerableConv2d",
    "component_norms",
    "polyphase",
    "roll_samples",
    "velocity_grid",
]
