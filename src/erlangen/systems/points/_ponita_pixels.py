"""Superpixels of digits: the network on R^2 x S^1 against the one on R^2, on turned images."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.actions import parse_action
from erlangen.data import digits, superpixels
from erlangen.geometry import knn_graph
from erlangen.groups import SO
from erlangen.systems.points._ponita_network import Ponita
from erlangen.training import fit, one_cycle

Row = dict[str, Any]
Nodes = tuple[dict[str, Tensor], Tensor]

NEIGHBORS = 8
NODES = 24
"""The brightest of about 150 superpixels: the rest of a digit's image is dark."""

SPACING = 2 / 12
"""Distance of the seeds of superpixels: the unit of length of the networks, whose kernels are made for lengths near 1."""

RATES = (5e-3, 1e-2)
"""Learning rates that are tried for both networks."""

OURS, PLAIN = "PONITA, 8 directions", "PNITA"
SIZES = {OURS: (8, 24), PLAIN: (0, 28)}
"""Directions and width, for about as many parameters."""


@dataclass(frozen=True)
class Budget:
    """What both networks get: digits to train, to choose the learning rate and to test; epochs, and those of a trial."""

    train: int
    validation: int
    test: int
    epochs: int
    trial_epochs: int
    batch_size: int = 20


def network(name: str, generator: Generator | None = None) -> Ponita:
    """One of the two networks, from the brightness of nodes to the scores of ten classes."""
    directions, width = SIZES[name]
    return Ponita(
        1,
        scalars_out=10,
        dim=2,
        directions=directions,
        level="graph",
        width=width,
        layers=3,
        basis=16,
        widening=2,
        layer_scale=1.0,
        generator=generator,
    )


# --- data -------------------------------------------------------------------------------------------------------------
def turned(images: Tensor, generator: Generator) -> Tensor:
    """Every image turned by an angle of its own about its middle, resampled between pixels, with dark corners."""
    g = SO(2).sample(len(images), generator=generator, dtype=images.dtype)
    return parse_action("image").on(SO(2)).act(g, images)


def nodes_of(images: Tensor, labels: Tensor) -> Nodes:
    """Superpixels as a batch of clouds: ``pos [B, N, 2]``, ``x [B, N, 1]`` and ``neighbors [B, N, K]``; and the labels."""
    found = superpixels(images, 150, brightest=NODES)
    batch = torch.arange(len(images)).repeat_interleave(NODES)
    source = knn_graph(found.pos.flatten(0, 1), NEIGHBORS, batch)[0].view(len(images), NODES, NEIGHBORS)
    neighbors = source - NODES * torch.arange(len(images))[:, None, None]
    return {"pos": found.pos / SPACING, "x": found.x, "neighbors": neighbors}, labels


@functools.lru_cache(maxsize=4)
def splits(budget: Budget, seed: int) -> tuple[Nodes, Nodes, Nodes, Nodes]:
    """Turned digits to train and to validate, and the same digits to test with, upright and turned."""
    generator = Generator().manual_seed(seed)
    train, test = digits("train"), digits("test")
    order = torch.randperm(len(train.x), generator=generator)
    first, second = order[: budget.train], order[budget.train : budget.train + budget.validation]
    few = torch.randperm(len(test.x), generator=generator)[: budget.test]
    drawn = [nodes_of(turned(train.x[index], generator), train.y[index]) for index in (first, second)]
    x, y = test.x[few], test.y[few]
    return drawn[0], drawn[1], nodes_of(x, y), nodes_of(turned(x, generator), y)


# --- training ---------------------------------------------------------------------------------------------------------
class Scores(nn.Module):
    """The scores alone, as a loss takes them, and scaled: sums over nodes of about one each are of size one."""

    def __init__(self, net: Ponita) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, 10]``."""
        return self.net(x)["x"] / math.sqrt(NODES)


def trained(name: str, data: Nodes, epochs: int, batch_size: int, rate: float, seed: int) -> Scores:
    """One network, trained with a learning rate that falls to zero along a cosine."""
    model = Scores(network(name, Generator().manual_seed(seed)))
    model.net.calibrate_({key: value[:batch_size] for key, value in data[0].items()})
    fit(
        model,
        *data,
        loss=cross_entropy,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=lambda p: torch.optim.Adam(p, lr=rate),
        schedule=one_cycle,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model


@torch.no_grad()
def error_rate(model: Scores, data: Nodes) -> float:
    """Share of digits that are taken for others."""
    x, y = data
    found = [model({k: v[s : s + 200] for k, v in x.items()}).argmax(-1) for s in range(0, len(y), 200)]
    return float((torch.cat(found) != y).float().mean())


def pixel_runs(name: str, budget: Budget, seeds: Sequence[int]) -> list[Row]:
    """What each seed measures; the learning rate is chosen on the first."""
    runs: list[Row] = []
    rate = 0.0
    for seed in seeds:
        train, validation, upright, rotated = splits(budget, seed)
        if not rate:
            trial = (budget.trial_epochs, budget.batch_size)
            errors = {r: error_rate(trained(name, train, *trial, r, seed), validation) for r in RATES}
            rate = min(errors, key=errors.__getitem__)
        begin = time.process_time()
        model = trained(name, train, budget.epochs, budget.batch_size, rate, seed)
        seconds = time.process_time() - begin
        runs.append(
            {
                "error, upright": error_rate(model, upright),
                "error, turned": error_rate(model, rotated),
                "training seconds": seconds,
                "learning rate": str(rate),
                "parameters": sum(p.numel() for p in model.parameters()),
                "epochs": budget.epochs,
                "samples": budget.train,
            }
        )
    return runs
