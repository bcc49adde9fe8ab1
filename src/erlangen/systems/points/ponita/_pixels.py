"""Superpixels of digits: the network on R^2 x S^1 against the one on R^2, on turned images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.actions import parse_action
from erlangen.data import digits, superpixels
from erlangen.geometry import knn_graph
from erlangen.groups import SO
from erlangen.measure import accuracy
from erlangen.survey import Part, Rival, Run, Split, Training, compare
from erlangen.systems.points.ponita.method import Ponita
from erlangen.training import one_cycle

Nodes = dict[str, Tensor]

NEIGHBORS = 8
NODES = 24
"""The brightest of about 150 superpixels: the rest of a digit's image is dark."""

SPACING = 2 / 12
"""Distance of the seeds of superpixels: the unit of length of the networks, whose kernels are made for lengths near 1."""

OURS, PLAIN = "PONITA, 8 directions", "PNITA"
SIZES = {OURS: (8, 24), PLAIN: (0, 28)}
"""Directions and width, for about as many parameters."""


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


def nodes_of(images: Tensor) -> Nodes:
    """Superpixels as a batch of clouds: ``pos [B, N, 2]``, ``x [B, N, 1]`` and ``neighbors [B, N, K]``."""
    found = superpixels(images, 150, brightest=NODES)
    batch = torch.arange(len(images)).repeat_interleave(NODES)
    source = knn_graph(found.pos.flatten(0, 1), NEIGHBORS, batch)[0].view(len(images), NODES, NEIGHBORS)
    neighbors = source - NODES * torch.arange(len(images))[:, None, None]
    return {"pos": found.pos / SPACING, "x": found.x, "neighbors": neighbors}


class Scores(nn.Module):
    """The scores alone, as a loss takes them, and scaled: sums over nodes of about one each are of size one."""

    def __init__(self, net: Ponita) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, 10]``."""
        return self.net(x)["x"] / math.sqrt(NODES)


# --- the part ---------------------------------------------------------------------------------------------------------
def superpixels_part(run: Run[Any]) -> Part:
    """Turned digits as superpixels; the test has the same digits upright and turned."""
    sizes = run.sizes(run.budget.digits)

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(100 + seed)
        train, test = digits("train"), digits("test")
        order = torch.randperm(len(train.x), generator=generator)
        first, second = order[: sizes.train], order[sizes.train : sizes.train + sizes.validation]
        few = torch.randperm(len(test.x), generator=generator)[: sizes.test]
        seen, more = ((nodes_of(turned(train.x[index], generator)), train.y[index]) for index in (first, second))
        both = {"upright": nodes_of(test.x[few]), "turned": nodes_of(turned(test.x[few], generator))}
        return Split(seen, more, (both, test.y[few]))

    def calibrate(model: Scores, split: Split) -> None:
        first: Any = split.train[0]
        model.net.calibrate_({key: value[: run.budget.digit_batch] for key, value in first.items()})

    def wrong(model: nn.Module, x: Nodes, y: Tensor) -> float:
        return 1 - accuracy(model, x, y, batch=200) / 100

    def validate(model: nn.Module, x: Nodes, y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {"error, turned": wrong(model, x, y)}

    def measure(model: nn.Module, x: Mapping[str, Nodes], y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {f"error, {kind}": wrong(model, nodes, y) for kind, nodes in x.items()}

    rivals = {name: Rival(lambda name=name: Scores(network(name)), prepare=calibrate) for name in SIZES}
    how = Training(
        cross_entropy,
        run.budget.digit_epochs,
        run.budget.digit_batch,
        rates=(1e-2, 2e-2),
        optimizer=torch.optim.Adam,
        schedule=one_cycle,
        clip=1.0,
        widen=1,
    )
    table = compare("superpixels", rivals, draw, how, measure, best="error, turned", run=run, validate=validate)
    return table.part(
        table.beats(
            "orientations-help-on-turned-digits", OURS, PLAIN, "error, turned",
            statement="Superpixels of digits turned at random: share of wrong answers of PONITA over that of PNITA.",
        ),
        table.beats(
            "orientations-help-on-upright-digits", OURS, PLAIN, "error, upright", published=1.17 / 3.04,
            statement="Superpixels of upright digits, networks trained on turned ones: share of wrong answers of PONITA over "
            "that of PNITA.",
        ),
    )  # fmt: skip
