"""Sets of known dimension, turned into spaces of more dimensions; a checkerboard, two moons, and small digits."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import adaptive_avg_pool2d

from erlangen.data import digits
from erlangen.errors import UnknownNameError

DIMENSIONS = {"sphere": 2, "swiss roll": 2, "torus": 2, "checkerboard": 2, "moons": 2}
"""Of the sets."""


def points(name: str, n: int, dim: int, generator: Generator) -> Tensor:
    """Points ``[n, dim]`` of a set in a random subspace; its own coordinates have the standard deviation one.

    The sphere has the radius one instead. Raises `UnknownNameError` for a name that is none of `DIMENSIONS`.
    """
    u = torch.rand(n, 2, generator=generator)
    turn = 2 * math.pi * u
    if name == "sphere":
        x = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    elif name == "swiss roll":
        t = 1.5 * math.pi * (1 + 2 * u[:, 0])
        x = torch.stack([t * t.cos(), 21 * u[:, 1], t * t.sin()], -1)
        x = (x - x.mean(0)) / x.std(0)
    elif name == "torus":
        x = math.sqrt(2) * torch.cat([turn.cos(), turn.sin()], -1)  # the product of two circles
    elif name == "checkerboard":
        row = torch.randint(4, (n,), generator=generator)
        column = 2 * torch.randint(2, (n,), generator=generator) + row % 2
        x = (torch.stack([column, row], -1) + u - 2) / math.sqrt(4 / 3)
    elif name == "moons":
        half, side = math.pi * u[:, 0], torch.randint(2, (n,), generator=generator)
        x = torch.stack([half.cos(), half.sin()], -1)
        x = torch.where(side[:, None] == 1, torch.tensor([1.0, 0.5]) - x, x) + 0.05 * torch.randn(
            n, 2, generator=generator
        )
        x = (x - x.mean(0)) / x.std(0)
    else:
        raise UnknownNameError(f"name = {name!r}; known are {', '.join(DIMENSIONS)}")
    if dim == x.shape[1]:
        return x
    return x @ torch.linalg.qr(torch.randn(dim, x.shape[1], generator=generator)).Q.mT


def small_digits(n: int, side: int, generator: Generator) -> Tensor:
    """Handwritten digits of ``side x side`` pixels as vectors ``[n, side^2]``, centred, with standard deviation one."""
    x, _, _ = digits("train")
    x = adaptive_avg_pool2d(x[torch.randperm(len(x), generator=generator)[:n]], side).flatten(1)
    x = x - x.mean(0)
    return x / x.std()
