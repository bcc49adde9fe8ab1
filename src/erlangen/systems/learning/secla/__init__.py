"""SECLA: name the faces of news photographs from captions alone, by a loss between sets that is the same for both sides.

Faces and names of one document match better than those of different documents, in both directions, and the directions agree.
"""

from erlangen.survey import System
from erlangen.systems.learning.secla._documents import Documents, Gathered, Score, gather, score
from erlangen.systems.learning.secla._easy_to_hard import EasyToHard, Gallery, is_easy, match
from erlangen.systems.learning.secla.method import (
    Mixed,
    Projectors,
    SetLoss,
    decode,
    directed,
    embed,
    set_similarities,
    similarity,
)

__all__ = [
    "SYSTEM", "Documents", "EasyToHard", "Gallery", "Gathered", "Mixed", "Projectors", "Score", "SetLoss", "decode", "directed",
    "embed", "gather", "is_easy", "match", "score", "set_similarities", "similarity",
]  # fmt: skip

SYSTEM = System(
    title="Weakly Supervised Face Naming with Symmetry-Enhanced Contrastive Loss",
    authors=("Tingyu Qu", "Tinne Tuytelaars", "Marie-Francine Moens"),
    venue="WACV",
    year=2023,
    arxiv="2210.08957",
    abstract_claims=(
        "Faces and names can be aligned by weak supervision: by contrastive losses that treat both sides alike.",
        "Learning first from easy documents, which say what is hard, improves the alignment (SECLA-B).",
        "State of the art on Labeled Faces in the Wild with captions and on Celebrity Together.",
    ),
    method=(
        "erlangen.systems.secla.SetLoss",
        "erlangen.systems.secla.set_similarities",
        "erlangen.systems.secla.decode",
        "erlangen.systems.secla.EasyToHard",
    ),
)
