"""Training BatchNorm and only BatchNorm: what random features can do when only their scales and shifts are learned."""

from erlangen.survey import System
from erlangen.systems.learning.batchnorm_only.method import (
    ResNet,
    disabled,
    random_masks,
    silent,
    switched_off,
    train_only,
)

__all__ = ["SYSTEM", "ResNet", "disabled", "random_masks", "silent", "switched_off", "train_only"]

SYSTEM = System(
    title="Training BatchNorm and Only BatchNorm: On the Expressive Power of Random Features in CNNs",
    authors=("Jonathan Frankle", "David J. Schwab", "Ari S. Morcos"),
    venue="ICLR",
    year=2021,
    arxiv="2003.00152",
    abstract_claims=(
        "Networks with only BatchNorm trained reach a surprisingly high accuracy.",
        "They do far better than networks in which as many random parameters are trained elsewhere.",
        "BatchNorm naturally learns to disable around a third of the random features.",
    ),
    method=(
        "erlangen.systems.batchnorm_only.train_only",
        "erlangen.systems.batchnorm_only.random_masks",
        "erlangen.systems.batchnorm_only.switched_off",
    ),
)
