"""Initial representations: make any network on points invariant by what it is fed, not by how it is built.

The coordinates of points are replaced by ones that depend on their distances alone; the network stays as it is.
"""

from erlangen.survey import System
from erlangen.systems.points.tinvnn._steady import SteadyTinvNN
from erlangen.systems.points.tinvnn.method import (
    EUCLIDEAN,
    InitialRepresentation,
    Invariance,
    Representation,
    Scaled,
    TinvNN,
    classical_mds,
)

__all__ = [
    "EUCLIDEAN",
    "SYSTEM",
    "InitialRepresentation",
    "Invariance",
    "Representation",
    "Scaled",
    "SteadyTinvNN",
    "TinvNN",
    "classical_mds",
]

SYSTEM = System(
    title="Revisiting Transformation Invariant Geometric Deep Learning: Are Initial Representations All You Need?",
    authors=("Ziwei Zhang", "Xin Wang", "Zeyang Zhang", "Peng Cui", "Wenwu Zhu"),
    venue="arXiv",
    year=2021,
    arxiv="2112.12345",
    abstract_claims=(
        "Initial representations that keep distances and ignore transformations are enough to make a network invariant.",
        "Multidimensional scaling, modified, gives such representations for any network.",
        "The networks are strictly invariant to translation, rotation, reflection and scaling, with no other change to them.",
        "They work for point clouds and for combinatorial optimisation, and should be a baseline for both.",
    ),
    method=("erlangen.systems.tinvnn.TinvNN", "erlangen.systems.tinvnn.InitialRepresentation"),
)
