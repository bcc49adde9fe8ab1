"""Real data that comes with the library, distorted, as clips and superpixels, graphs, molecules, and readers for your files."""

from erlangen.data.characters import FONTS, glyph_characters, glyphs
from erlangen.data.clips import Clips, drifting_digits, spinning_digits
from erlangen.data.distortions import affine_distortion, homography_distortion
from erlangen.data.drug_like import (
    drug_like_smiles,
    fused_ring_systems,
    molecular_graphs,
    penalized_logp,
    structural_alerts,
)
from erlangen.data.force_files import MoleculeFrames, extended_xyz
from erlangen.data.graph_families import (
    SKIPS,
    brec_families,
    circular_skip_links,
    decalin_and_bicyclopentyl,
    graph_of_edges,
    planar_pairs,
    ring_edges,
    two_triangles_and_hexagon,
)
from erlangen.data.graph_files import graph6_graphs, tu_graphs
from erlangen.data.graph_sets import DenseGraphs, GraphData
from erlangen.data.graphs import (
    cfi_graphs,
    connected_graphs,
    latin_square_graph,
    rook_graph,
    shrikhande_graph,
    skip_link_graph,
    strongly_regular_graphs,
    triangular_graph,
)
from erlangen.data.images import ImageData, digits, fashion, mnist
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
from erlangen.data.noise_textures import textures
from erlangen.data.photo_textures import MATERIALS, texture_photos
from erlangen.data.protein_files import AMINO_ACIDS, Protein, pdb_protein
from erlangen.data.proteins import Backbone, backbones
from erlangen.data.segmentation import Superpixels, superpixels
from erlangen.data.sensors import SensorData, basic_motions, electrode_trials
from erlangen.data.texts import CHARACTERS, character_ids, common_words, library_text, word_ids, words
from erlangen.files import size_limit

__all__ = [
    "AMINO_ACIDS",
    "CHARACTERS",
    "FONTS",
    "JOINTS",
    "MATERIALS",
    "PARENTS",
    "SKIPS",
    "Backbone",
    "Batch",
    "Clips",
    "Crowds",
    "DenseGraphs",
    "GraphData",
    "ImageData",
    "MoleculeData",
    "MoleculeFrames",
    "MotionClip",
    "Protein",
    "SensorData",
    "Skeleton",
    "Superpixels",
    "affine_distortion",
    "backbones",
    "basic_motions",
    "brec_families",
    "captured_motion",
    "cfi_graphs",
    "character_ids",
    "circular_skip_links",
    "common_words",
    "connected_graphs",
    "decalin_and_bicyclopentyl",
    "digits",
    "drifting_digits",
    "drug_like_smiles",
    "electrode_trials",
    "extended_xyz",
    "fashion",
    "fused_ring_systems",
    "glyph_characters",
    "glyphs",
    "graph6_graphs",
    "graph_of_edges",
    "homography_distortion",
    "human_motion",
    "latin_square_graph",
    "library_text",
    "load_data",
    "mnist",
    "molecular_graphs",
    "pdb_protein",
    "pedestrians",
    "planar_pairs",
    "penalized_logp",
    "qm9",
    "ring_edges",
    "rook_graph",
    "shrikhande_graph",
    "size_limit",
    "skip_link_graph",
    "spinning_digits",
    "strongly_regular_graphs",
    "structural_alerts",
    "superpixels",
    "texture_photos",
    "textures",
    "triangular_graph",
    "tu_graphs",
    "two_triangles_and_hexagon",
    "word_ids",
    "words",
]
