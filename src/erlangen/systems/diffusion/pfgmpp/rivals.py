"""What is compared: objectives on one network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from erlangen.survey import Split
from erlangen.systems.diffusion.pfgmpp.method import PoissonFlow

LARGE = 512
"""Samples whose field is the target of PFGM."""


def perturbed(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """PFGM++, and diffusion (EDM) at D = inf: the target of a perturbed sample is the sample itself."""
    return model.loss(x)


class LargeBatchFlow(PoissonFlow):
    """PFGM: D = 1, and the target is the field of a large batch (Xu et al., Poisson flow generative models, 2022)."""

    def __init__(self, net: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        super().__init__(net, shape, 1.0)
        self.known: Tensor | None = None

    def prepare(self, split: Split) -> None:
        """Keep the training data, from which large batches are drawn."""
        known = split.train[0]
        assert isinstance(known, Tensor)
        self.known = known


def from_large_batch(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """The batch itself, and others up to `LARGE`, are the charges."""
    others = torch.randint(len(model.known), (max(LARGE - len(x), 0),))
    return model.loss(x, reference=torch.cat([x, model.known[others]]))
