"""Soft symmetry: train with it (`augment`), penalise its breaking (`relax`), ask which one holds (`discover`)."""

from erlangen.soft.augment import Augment, augment
from erlangen.soft.discover import Finding, discover
from erlangen.soft.evidence import DataFinding
from erlangen.soft.projection import ProjectionPenalty
from erlangen.soft.relax import SoftEquivariance, relax

__all__ = ["Augment", "DataFinding", "Finding", "ProjectionPenalty", "SoftEquivariance", "augment", "discover", "relax"]
