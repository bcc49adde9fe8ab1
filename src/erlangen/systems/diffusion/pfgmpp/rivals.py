"""What is compared: objectives on one network, PFGM as it was published, and the network of the authors' notebook."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import relu
from typing_extensions import override

from erlangen.errors import ErlangenWarning
from erlangen.generate import heun_sample, noise_levels
from erlangen.generate.edm import Disturbance
from erlangen.survey import Split
from erlangen.systems.diffusion.pfgmpp.method import PoissonFlow, sample_radius

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


class _KnowsData:
    """Keeps the training data, from which large batches are drawn."""

    known: Tensor

    def prepare(self, split: Split) -> None:
        known = split.train[0]
        assert isinstance(known, Tensor)
        self.known = known

    def batch(self, x: Tensor) -> Tensor:
        """x, and others up to `LARGE`: the charges."""
        others = torch.randint(len(self.known), (max(LARGE - len(x), 0),))
        return torch.cat([x, self.known[others]])


class LargeBatchFlow(PoissonFlow, _KnowsData):
    """D = 1, and in place of a clean sample the target is the mean of a large batch, weighted as its field."""

    def __init__(self, net: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        super().__init__(net, shape, 1.0)


def from_large_batch(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """The batch itself, and others up to `LARGE`, are the charges."""
    return model.loss(x, reference=model.batch(x))


# --- PFGM ------------------------------------------------------------------------------------------------------------
GAMMA, NORM, TRUST = 5 / math.sqrt(3072), 80 / math.sqrt(3072), 5.0
"""Of the authors, for N = 3072: what is added to the length of the field, by the root of N; the largest norm of a start over z
and the root of N; the z below which the last component is computed from the others."""


class PoissonField(nn.Module, _KnowsData):
    """PFGM: the network is the field of a large batch of charges in N + 1 dimensions, normalised.

    ``sqrt(N) d / (|d| + gamma)`` is learned, d the weighted mean of the displacements to the charges, and lines of it are followed
    in z, the one additional dimension, which is the level sigma. Norms of perturbations are bounded, in training too.

    Source: Xu, Liu, Tegmark and Jaakkola, Poisson flow generative models (2022), algorithms 1 and 2, appendices B.1 and B.2.3.

    Args:
        net: ``net(x, log(z) / 4)``, N + 1 numbers for each of x ``[B, N]``.
        dim: N.
        data_std: of the data, for the scale of the network's inputs.
    """

    def __init__(self, net: Callable[[Tensor, Tensor], Tensor], dim: int, data_std: float = 0.5) -> None:
        super().__init__()
        self.net, self.dim, self.data_std = net, dim, data_std
        self.gamma = GAMMA * math.sqrt(dim)

    def perturbation(self, z: Tensor, generator: Generator | None = None) -> Tensor:
        """Uniform directions with the radii of D = 1 at z ``[B]``, bounded."""
        normal = torch.randn(len(z), self.dim, generator=generator, dtype=torch.float64)
        size = sample_radius(len(z), self.dim, 1.0, 1.0, generator=generator).clamp(max=NORM * math.sqrt(self.dim))
        return z.double()[:, None] * size[:, None] * normal / normal.norm(dim=1, keepdim=True)

    def loss(self, y: Tensor) -> Tensor:
        """Mean squared error of the normalised field, with the levels of EDM, as for all rivals."""
        z = (-1.2 + 1.2 * torch.randn(len(y))).exp()
        x = y + self.perturbation(z).to(y)
        return (self.field(x, z) - self.target(x, z, self.batch(y))).square().mean()

    def target(self, x: Tensor, z: Tensor, charges: Tensor) -> Tensor:
        """The normalised field ``[B, N + 1]`` of charges ``[M, N]`` at (x, z)."""
        far = torch.cdist(x.double(), charges.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        weights = (-(self.dim + 1) / 2 * (far + z.double()[:, None].square()).log()).softmax(-1).to(x)
        d = torch.cat([weights @ charges - x, -z.to(x)[:, None]], -1)
        return math.sqrt(self.dim) * d / (d.norm(dim=1, keepdim=True) + self.gamma)

    def field(self, x: Tensor, z: Tensor) -> Tensor:
        """What the network makes of (x, z), ``[B, N + 1]``."""
        level = z.to(x)
        return self.net(x / (level.square() + self.data_std**2).sqrt()[:, None], level.log() / 4)

    @override
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The point ``[B, N]`` to which the line through (x, sigma) would go if it were straight."""
        found, root = self.field(x, sigma), math.sqrt(self.dim)
        inner, last = found[:, :-1], found[:, -1]
        # Near the data the last component is small, and so the network's error in it large.
        share = (inner.norm(dim=1) / root).clamp(max=0.999)
        length = (self.gamma * share / (1 - share)).square() + sigma.to(x).square()
        known = -root * sigma.to(x) / (length.sqrt() + self.gamma)
        last = torch.where(sigma.to(x) < TRUST, known, last.clamp(max=-1e-5))
        return x - sigma.to(x)[:, None] * inner / last[:, None]

    def sample(
        self, n: int, *, levels: Tensor | None = None, share: float = 0.0, generator: Generator | None = None
    ) -> Tensor:
        """As `PoissonFlow.sample`."""
        levels = noise_levels(18) if levels is None else levels
        x = self.perturbation(levels[0].expand(n), generator)
        kind = next(self.parameters()).dtype
        disturbance = Disturbance(share, generator) if share else None
        return heun_sample(lambda at, sigma: self(at.to(kind), sigma), x, levels, disturbance=disturbance)


def normalised_field(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """The objective of PFGM."""
    return model.loss(x)


# --- the toy ---------------------------------------------------------------------------------------------------------
class ToyNetwork(nn.Module):
    """The network of the notebook: hidden layers of 32, with linear paths around them.

    The answer is of rank 32, so that it cannot take the noise out of 1000 dimensions. What the preconditioner passes by the network
    decides what is left of it.

    Args:
        dim: N.
        width: of the hidden layers.
        path: what passes by the network: "edm", ``c_skip x``; "notebook", ``c_skip c_in x``; "learned", a multiple of ``c_skip x``
            that is learned for each level. All for ``data_std`` = 1.
    """

    def __init__(self, dim: int, width: int, path: Literal["edm", "notebook", "learned"]) -> None:
        super().__init__()
        self.path = path
        self.frequencies = [1e-4 ** (2 * k / width) for k in range(width // 2)]
        self.first, self.around = nn.Linear(dim, width), nn.Linear(dim, width)
        self.second, self.third, self.between = (nn.Linear(width, width) for _ in range(3))
        self.last = nn.Linear(width, dim)
        self.share = (
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)) if path == "learned" else None
        )

    @override
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Numbers ``[B, N]`` of the scaled input ``[B, N]`` at ``noise [B]``, log(sigma) / 4."""
        turns = noise[:, None].to(x) * x.new_tensor(self.frequencies)
        level = torch.cat([turns.cos(), turns.sin()], -1)
        a = self.first(x) + level
        b = relu(self.second(relu(a))) + self.between(a)
        answer = self.last(relu(self.third(b)) + self.around(x))
        # In the scaled input, c_skip x over c_out is x over sigma.
        sigma = (4 * noise).exp()[:, None].to(x)
        if self.path == "notebook":
            return answer + ((1 + sigma.square()).rsqrt() - 1) * x / sigma
        return answer if self.share is None else answer + self.share(level) * x / sigma
