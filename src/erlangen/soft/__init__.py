"""Soft symmetry: train with it (`augment`), penalise its breaking (`relax`), ask which one holds (`discover`)."""

from erlangen.soft.augment import Augment, augment
from erlangen.soft.discover import Finding, discover
from erlangen.soft.evidence import DataFinding
from erlangen.soft.policies import AdversarialAugment, ConstrainedAugment, metropolis
from erlangen.soft.projection import ProjectionPenalty
from erlangen.soft.relax import SoftEquivariance, relax

__all__ = [
    "AdversarialAugment",
    "Augment",
    "ConstrainedAugment",
    "DataFinding",
    "Finding",
    "ProjectionPenalty",
    "SoftEquivariance",
    "augment",
    "discover",
    "metropolis",
    "relax",
]
