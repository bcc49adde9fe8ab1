"""Invariance as a constraint: bound the loss on transformed data, and let a multiplier say how much augmentation it takes.

The method is `erlangen.augment` with ``policy="constrained"``; here is what is measured of it.
"""

from erlangen.survey import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    title="Automatic Data Augmentation via Invariance-Constrained Learning",
    authors=("Ignacio Hounie", "Luiz F. O. Chamon", "Alejandro Ribeiro"),
    venue="ICML",
    year=2023,
    arxiv="2209.15031",
    abstract_claims=(
        "Augmentation becomes learning under an invariance constraint, solved by a primal-dual method.",
        "A sampler draws transformations by their loss, so that nobody has to say how they are distributed.",
        "It turns augmentation on and off during training, and matches or beats automatic augmentation on CIFAR.",
    ),
    method=("erlangen.soft.ConstrainedAugment", "erlangen.soft.metropolis"),
)
