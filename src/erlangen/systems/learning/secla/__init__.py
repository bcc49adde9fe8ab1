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
        "Faces and names can be aligned without links by suitable losses: SECLA, contrastive and the same for both sides.",
        "SECLA-B, which learns from easy documents first and starts from the pairs that they teach, improves on SECLA.",
        "State of the art on the augmented Labeled Faces in the Wild and on Celebrity Together.",
    ),
    method=(
        "erlangen.systems.secla.SetLoss",
        "erlangen.systems.secla.set_similarities",
        "erlangen.systems.secla.decode",
        "erlangen.systems.secla.EasyToHard",
    ),
)
