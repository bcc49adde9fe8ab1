"""Simulated responses in four metric spaces, and real digits that are turned."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, normalize

from erlangen.data import digits
from erlangen.geometry.manifolds import LogCholesky, Sphere, Wasserstein1D

INPUTS = 10
QUANTILES = 50
CLEAR = (2, 3, 4, 5, 7)
"""Digits whose angle can be seen: 6 and 9 are each other upside down, 0, 1 and 8 look alike there."""


@dataclass(frozen=True)
class Space:
    """A metric space: distances of all pairs, and Frechet means of neighbours.

    Attributes:
        between: distances ``[N, M]`` of points ``[N, *shape]`` and ``[M, *shape]``.
        mean: of points ``[N, k, *shape]``, ``[N, *shape]``; Frechet means but for the sphere.
    """

    between: Callable[[Tensor, Tensor], Tensor]
    mean: Callable[[Tensor], Tensor]


def _chart(x: Tensor) -> Tensor:
    return LogCholesky().chart(x).flatten(-2)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


LINE = Space(_distances, lambda points: points.mean(1))
DISTRIBUTIONS = Space(
    lambda x, y: _distances(x, y) / x.shape[-1] ** 0.5, lambda points: Wasserstein1D().mean(points, check=False).point
)
# Distances are Euclidean in the chart, so that no matrix is factorised twice.
MATRICES = Space(
    lambda x, y: _distances(_chart(x), _chart(y)), lambda points: LogCholesky().mean(points, check=False).point
)
# Neighbours of a poor reduction lie all over, where no point is nearest on average: the mean outside, brought back.
SPHERE = Space(Sphere().pairwise, lambda points: normalize(points.mean(1), dim=-1))


class Drawn(NamedTuple):
    """Samples.

    Attributes:
        x: inputs.
        y: responses.
        truth: what of x the response depends on, its index ``[N, q]``.
    """

    x: Tensor
    y: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Setting:
    """A simulation.

    Attributes:
        outputs: q, the number of functions of x that the response depends on.
        respond: responses and the true index of inputs ``[N, 10]``.
    """

    space: Space
    outputs: int
    respond: Callable[[Tensor, Generator], tuple[Tensor, Tensor]]

    def draw(self, n: int, generator: Generator) -> Drawn:
        """Normal inputs with correlations 0.5^|i - j|, and their responses; float32."""
        place = torch.arange(INPUTS)
        root = torch.linalg.cholesky(0.5 ** (place[:, None] - place).abs().double())
        x = torch.randn(n, INPUTS, generator=generator, dtype=torch.float64) @ root.mT
        y, index = self.respond(x, generator)
        return Drawn(x.float(), y.float(), index.float())


def _noise(x: Tensor, k: int, generator: Generator) -> Tensor:
    return torch.randn(len(x), k, generator=generator, dtype=x.dtype)


def _one(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    index = x[:, :1].square() + x[:, 1:2]
    return index + 0.5 * _noise(x, 1, generator), index


def _two(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    return x[:, 1:2] + x[:, :1].abs() * _noise(x, 1, generator), torch.stack([x[:, 1], x[:, 0].abs()], 1)


def _distribution(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    index = torch.stack([x[:, 0].sin() + x[:, 1], (x[:, 2] / 2).exp()], 1)
    e = _noise(x, 2, generator)
    normal = torch.special.ndtri((torch.arange(QUANTILES, dtype=x.dtype) + 0.5) / QUANTILES)
    return index[:, :1] + 0.3 * e[:, :1] + index[:, 1:] * (0.1 * e[:, 1:]).exp() * normal, index


def _matrix(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    index = torch.stack([x[:, 0].square() / 2 + x[:, 1], x[:, 2].tanh() * 2], 1)
    # Fixed weights of both directions on the six entries of the factor, its diagonal last.
    weights = torch.tensor([[1.0, 0.5, 0, 0.3, 0.2, 0], [0, 0.5, 1.0, -0.3, 0, 0.4]], dtype=x.dtype)
    entries = index @ weights + 0.2 * _noise(x, 6, generator)
    factor = torch.zeros(len(x), 3, 3, dtype=x.dtype)
    rows, columns = torch.tril_indices(3, 3, -1)
    factor[:, rows, columns] = entries[:, :3]
    factor = factor + (entries[:, 3:] / 2).exp().diag_embed()
    return factor @ factor.mT, index


def _direction(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    index = torch.stack([x[:, 0].sin() + x[:, 1] / 2, x[:, 2].square() / 2 - 0.5], 1)
    tangent = torch.cat([index / 2 + 0.1 * _noise(x, 2, generator), torch.zeros(len(x), 1, dtype=x.dtype)], 1)
    pole = torch.tensor([0.0, 0, 1], dtype=x.dtype)
    return Sphere().exp(pole, tangent), index


SETTINGS = {
    "line": Setting(LINE, 1, _one),
    "line, two directions": Setting(LINE, 2, _two),
    "distributions": Setting(DISTRIBUTIONS, 2, _distribution),
    "matrices": Setting(MATRICES, 2, _matrix),
    "sphere": Setting(SPHERE, 2, _direction),
}


def contaminated(y: Tensor, generator: Generator, share: float = 0.05) -> Tensor:
    """Responses on a line, this share of which is moved by 10 times a Cauchy number."""
    u = torch.rand(y.shape, generator=generator, dtype=torch.float64)
    cauchy = (math.pi * (torch.rand(y.shape, generator=generator, dtype=torch.float64) - 0.5)).tan()
    return torch.where(u < share, y + 10 * cauchy.float(), y)


@functools.cache
def _clear_digits() -> Tensor:
    pictures = digits("train")
    keep = torch.isin(pictures.y, torch.tensor(CLEAR))
    return pictures.x[keep]


def turned_digits(n: int, generator: Generator) -> Drawn:
    """Digits 2, 3, 4, 5 and 7 ``[n, 1, 28, 28]``, turned by a random angle; the response is a point of the circle.

    Pictures are resampled bilinearly; what comes from outside is black, as all borders are.
    """
    pictures = _clear_digits()
    chosen = pictures[torch.randperm(len(pictures), generator=generator)[:n]]
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    zero = torch.zeros(n)
    turn = torch.stack([circle[:, 0], circle[:, 1], zero, -circle[:, 1], circle[:, 0], zero], 1).unflatten(1, (2, 3))
    moved = grid_sample(chosen, affine_grid(turn, list(chosen.shape), align_corners=False), align_corners=False)
    return Drawn(moved, circle, circle)
