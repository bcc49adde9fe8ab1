"""EqMotion: predict how agents move on, wherever and however the scene lies, and find out which of them interact.

Vectors that turn with the scene and numbers that do not are carried through the network side by side; one more part guesses,
without labels, which kind of interaction joins each pair.
"""

from erlangen.survey import System
from erlangen.systems.motion.eqmotion._parts import cosine_basis
from erlangen.systems.motion.eqmotion.method import EqMotion, MotionLayer, finite_velocity, reasoning_accuracy

__all__ = ["SYSTEM", "EqMotion", "MotionLayer", "cosine_basis", "finite_velocity", "reasoning_accuracy"]

SYSTEM = System(
    title="EqMotion: Equivariant Multi-agent Motion Prediction with Invariant Interaction Reasoning",
    authors=(
        "Chenxin Xu",
        "Robby T. Tan",
        "Yuhong Tan",
        "Siheng Chen",
        "Yu Guang Wang",
        "Xinchao Wang",
        "Yanfeng Wang",
    ),
    venue="CVPR",
    year=2023,
    arxiv="2303.10876",
    abstract_claims=(
        "The network is equivariant under motions of space, and what it infers about interactions is invariant, by construction.",
        "One network serves particles, molecules, skeletons and pedestrians.",
        "It beats the best method before it by 24.0, 30.1, 8.6 and 9.2 % on these four.",
        "It infers the interactions better, without labels for them.",
    ),
    method=("erlangen.systems.eqmotion.EqMotion", "erlangen.systems.eqmotion.MotionLayer"),
)
