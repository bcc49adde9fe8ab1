"""The regimes of the paper as rivals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator

from erlangen.systems.learning.batchnorm_only.method import Gamma, Regime, ResNet, train_only


@dataclass(frozen=True)
class Trained:
    """Makes a `ResNet` of which a regime is trained."""

    regime: Regime
    depth: int
    width: int
    gamma: Gamma = "uniform"

    def __call__(self) -> ResNet:
        """A fresh network; entries of "random weights" come from torch's global stream, like the weights."""
        model = ResNet(self.depth, self.width, inputs=1, gamma=self.gamma)
        train_only(model, self.regime, generator=Generator().manual_seed(int(torch.randint(2**31, ()))))
        return model


SHALLOW: dict[str, tuple[Regime, Gamma]] = {
    "all": ("all", "uniform"),
    "batchnorm": ("batchnorm", "uniform"),
    "batchnorm and output": ("batchnorm and output", "uniform"),
    "output": ("output", "uniform"),
    "random weights": ("random weights", "uniform"),
    "all but batchnorm": ("all but batchnorm", "uniform"),
    "output, gamma 1": ("output", "fixed"),
    "random weights, gamma 1": ("random weights", "fixed"),
}
"""Regimes of the shallower network."""
