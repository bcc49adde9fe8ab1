"""Equiangular basis vectors: a head without learned weights, whose classes are fixed unit vectors of small coherence.

The width of a network's output need not be the number of classes, and classes can be added without touching old ones.
"""

from erlangen.survey import System
from erlangen.systems.learning.equiangular_basis_vectors.method import (
    EquiangularHead,
    coherence_loss,
    equiangular_basis,
    extend_basis,
    generate_basis,
)

__all__ = ["SYSTEM", "EquiangularHead", "coherence_loss", "equiangular_basis", "extend_basis", "generate_basis"]

SYSTEM = System(
    title="Equiangular Basis Vectors",
    authors=("Yang Shen", "Xuhao Sun", "Xiu-Shen Wei"),
    venue="CVPR",
    year=2023,
    arxiv="2303.11637",
    abstract_claims=(
        "Fixed normalised vectors of small coherence replace the trained classifier, whose parameters grow with the classes.",
        "Classes are predicted by the smallest spherical distance to their vector.",
        "On ImageNet-1K the head outperforms the general fully connected classifier, at no large cost in computation.",
        "It helps detection and segmentation as well.",
    ),
    method=(
        "erlangen.systems.equiangular_basis_vectors.EquiangularHead",
        "erlangen.systems.equiangular_basis_vectors.equiangular_basis",
        "erlangen.systems.equiangular_basis_vectors.generate_basis",
    ),
)
