"""What is compared: objectives on one network, PFGM with bounded norms, and the network of the authors' notebook."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import relu
from typing_extensions import override

from erlangen.errors import ErlangenWarning
from erlangen.generate import StudentNoise
from erlangen.survey import Split
from erlangen.systems.diffusion.pfgmpp.method import PoissonFlow

LARGE = 512
"""Samples whose field is the target of PFGM."""


# --- objectives ------------------------------------------------------------------------------------------------------
def perturbed(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """PFGM++, and diffusion (EDM) at D = inf: the target of a perturbed sample is the sample itself."""
    return model.loss(x)


def at_its_own_scale(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """The same for data that are not of the scale the model takes them for, as in the notebook: what is warned of is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ErlangenWarning)
        return model.loss(x)


NORM = 80 / math.sqrt(3072)
"""The largest norm of a start of PFGM over sigma and the root of N: the authors' for CIFAR-10, where it shortens every second."""


class BoundedNoise(StudentNoise):
    """The noise of D = 1 with bounded norms. The plain one has no mean, and no network sees inputs of every size.

    Source: Xu, Liu, Tegmark and Jaakkola, Poisson flow generative models (2022), appendix B.1; the largest norm is that of their
    code.
    """

    def __init__(self) -> None:
        super().__init__(1.0)

    @override
    def sample(
        self, shape: tuple[int, ...], *, generator: Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        x = super().sample(shape, generator=generator, dtype=torch.float64).flatten(1)
        longest = NORM * math.sqrt(x.shape[1])
        return (x * (longest / x.norm(dim=1, keepdim=True)).clamp(max=1)).view(shape).to(dtype)


class BoundedFlow(PoissonFlow):
    """D = 1 with bounded norms, in training and for starts."""

    def __init__(self, net: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        super().__init__(net, shape, 1.0)
        self.noise = BoundedNoise()


class LargeBatchFlow(BoundedFlow):
    """PFGM: D = 1, norms are bounded, and the target is the field of a large batch."""

    def __init__(self, net: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        super().__init__(net, shape)
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


# --- the toy ---------------------------------------------------------------------------------------------------------
class ToyNetwork(nn.Module):
    """The network of the notebook: hidden layers of 32, with linear paths around them.

    Its answer has rank 32, so that it cannot take the noise out of 1000 dimensions: what the preconditioner passes by it decides
    how much stays.

    Args:
        dim: N.
        width: of the hidden layers.
        as_published: what passes by the network is ``c_skip c_in x`` in place of ``c_skip x``; for data_std = 1.
    """

    def __init__(self, dim: int, width: int, *, as_published: bool) -> None:
        super().__init__()
        self.as_published = as_published
        self.frequencies = [1e-4 ** (2 * k / width) for k in range(width // 2)]
        self.first, self.around = nn.Linear(dim, width), nn.Linear(dim, width)
        self.second, self.third, self.between = (nn.Linear(width, width) for _ in range(3))
        self.last = nn.Linear(width, dim)

    @override
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Numbers ``[B, N]`` of the scaled input ``[B, N]`` at ``noise [B]``, log(sigma) / 4."""
        turns = noise[:, None].to(x) * x.new_tensor(self.frequencies)
        a = self.first(x) + torch.cat([turns.cos(), turns.sin()], -1)
        b = relu(self.second(relu(a))) + self.between(a)
        answer = self.last(relu(self.third(b)) + self.around(x))
        if not self.as_published:
            return answer
        sigma = (4 * noise).exp()[:, None].to(x)
        return answer + ((1 + sigma.square()).rsqrt() - 1) * x / sigma
