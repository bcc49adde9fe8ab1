"""Spherical graph convolutions: filters that know in which direction a neighbour lies, seen from a frame of the backbone.

They tell how good each residue of a model of a protein is, without the native structure.
"""

from erlangen.survey import System
from erlangen.systems.molecules.s_gcn.method import (
    SGCN,
    ResidueGraph,
    SphericalConvolution,
    padded,
    residue_frames,
    residue_graph,
)

__all__ = ["SGCN", "SYSTEM", "ResidueGraph", "SphericalConvolution", "padded", "residue_frames", "residue_graph"]

SYSTEM = System(
    title="Spherical convolutions on molecular graphs for protein model quality assessment",
    authors=("Ilia Igashov", "Nikita Pavlichenko", "Sergei Grudinin"),
    venue="Machine Learning: Science and Technology",
    year=2021,
    arxiv="2011.07980",
    abstract_claims=(
        "Amino acids have natural frames, so that filters on molecular graphs may depend on directions.",
        "Filters in spherical harmonics give significantly better quality assessment than a standard network of messages.",
        "The method is comparable to the state of the art on CASP benchmarks.",
    ),
    method=(
        "erlangen.systems.s_gcn.SGCN",
        "erlangen.systems.s_gcn.residue_graph",
        "erlangen.systems.s_gcn.residue_frames",
    ),
)
