"""Five charged particles and where they go, as several systems learn it: data, budget, and plain and EGNN rivals."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.nn import EGNN, MessagePassing
from erlangen.simulate import charged

Bodies = tuple[dict[str, Tensor], Tensor]
"""Positions, velocities, charges and features of pairs of particles at one moment, and their positions later."""


@dataclass(frozen=True)
class Budget:
    """What every model gets: systems to train, to choose the learning rate and to test; epochs, and those of a trial."""

    train: int
    validation: int
    test: int
    epochs: int
    trial_epochs: int
    batch_size: int = 100


@functools.lru_cache(maxsize=4)
def bodies(samples: int, seed: int, charges: bool = False) -> Bodies:
    """Five charges at frame 30, counted without the start, and where they are at frame 40.

    Pairs have the products of their charges; with `charges` particles have their charge, too.
    """
    data = charged(samples, steps=4100, generator=Generator().manual_seed(seed))
    x = {"pos": data.pos[:, 31], "vel": data.vel[:, 31], "edge_attr": data.coupling[..., None]}
    return x | ({"charge": data.charges} if charges else {}), data.pos[:, 41]


def splits(budget: Budget, seed: int, charges: bool = False) -> tuple[Bodies, Bodies, Bodies]:
    """Systems to train, to validate and to test."""
    first, second = budget.train, budget.train + budget.validation
    data = bodies(second + budget.test, seed, charges)
    return part(data, 0, first), part(data, first, second), part(data, second, second + budget.test)


def part(data: Bodies, first: int, last: int) -> Bodies:
    """Systems from first to last."""
    return {key: value[first:last] for key, value in data[0].items()}, data[1][first:last]


class Mover(nn.Module):
    """A plain network of centred coordinates; it predicts how far each particle moves."""

    def __init__(self, net: MessagePassing) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        local = x["pos"] - x["pos"].mean(1, keepdim=True)
        return x["pos"] + self.net(torch.cat([local, x["vel"]], -1), x["edge_attr"])


class Pushed(nn.Module):
    """`EGNN` on the speeds of particles."""

    def __init__(self, net: EGNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        return self.net(x["vel"].norm(dim=-1, keepdim=True), x["pos"], x["vel"], x["edge_attr"])[1]


@torch.no_grad()
def mean_square(model: nn.Module, data: Bodies) -> float:
    """Mean squared error of the predicted coordinates."""
    model.eval()
    return float(mse_loss(model(data[0]), data[1]))
