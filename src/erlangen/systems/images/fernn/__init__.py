"""Flow-equivariant recurrent networks: a state that moves along with what it sees."""

from erlangen.nn import DriftRecurrence2d, SpinRecurrence2d
from erlangen.survey import System
from erlangen.systems.images.fernn.method import Classifier, Predictor
from erlangen.systems.images.fernn.rivals import ConvLSTM, LearnedShifts

__all__ = [
    "SYSTEM",
    "Classifier",
    "ConvLSTM",
    "DriftRecurrence2d",
    "LearnedShifts",
    "Predictor",
    "SpinRecurrence2d",
]

SYSTEM = System(
    title="Flow Equivariant Recurrent Neural Networks",
    authors=("T. Anderson Keller",),
    venue="NeurIPS",
    year=2025,
    arxiv="2507.14793",
    abstract_claims=(
        "Recurrent networks that are equivariant frame by frame are in general not equivariant to motion over time.",
        "A state with an axis of velocities makes them equivariant to one-parameter flows, such as constant motion.",
        "Such networks train faster and generalise to longer clips and to velocities that were not trained on.",
        "They outperform networks without flow equivariance on predicting next frames and on classifying sequences.",
    ),
    method=(
        "erlangen.nn.DriftRecurrence2d",
        "erlangen.nn.SpinRecurrence2d",
        "erlangen.systems.fernn.Predictor",
        "erlangen.systems.fernn.Classifier",
    ),
)
