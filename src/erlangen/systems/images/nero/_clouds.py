"""Point clouds: a PointNet on procedural surfaces over a disk of rotations, axis by direction, angle by radius."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.enforce import symmetrize
from erlangen.groups import SO
from erlangen.groups.rotations import axis_angle_to_matrix
from erlangen.measure import accuracy, audit
from erlangen.nn import PointNet
from erlangen.simulate import surfaces
from erlangen.survey import Part, Rival, Run, Sizes, Split, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.images.nero._common import CURVES, apart, curve_rows, rng, scores_of, spread, training

POINTS, WIDTH = 96, 32
DIRECTIONS, RINGS = 12, 6
TURN = Symmetry(SO(3), input="points", output="invariant")


def disk(dtype: torch.dtype = torch.float32) -> Tensor:
    """Rotations ``[73, 3, 3]``: the identity, then rings of angles up to 180 degrees, axes all around the x-z plane."""
    direction = 2 * math.pi / DIRECTIONS * torch.arange(DIRECTIONS, dtype=torch.float64)
    axes = torch.stack([direction.cos(), torch.zeros_like(direction), direction.sin()], -1)
    angle = math.pi / RINGS * torch.arange(1, RINGS + 1, dtype=torch.float64)
    turns = axis_angle_to_matrix(angle[:, None, None] * axes).flatten(0, 1)
    return torch.cat([torch.eye(3, dtype=torch.float64)[None], turns]).to(dtype)


def about_vertical(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Turn every cloud by a random angle about z, the usual augmentation of upright shapes."""
    angle = 2 * math.pi * torch.rand(len(x), 1, generator=generator)
    return TURN.input.act(axis_angle_to_matrix(angle * torch.tensor([0.0, 0.0, 1.0])), x), y


def clouds(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Upright surfaces ``[B, 96, 3]`` and which of six families they are."""
    made = surfaces(count, POINTS, generator=rng(seed), dtype=torch.float32)
    return made.pos, made.family


def plain() -> nn.Module:
    """The network without symmetry."""
    return PointNet(3, 6, WIDTH)


def framed() -> nn.Module:
    """The same network, averaged over the frames of principal axes: exactly invariant under rotations."""
    return symmetrize(plain(), TURN, on_degenerate="allow")


@dataclass(frozen=True)
class Clouds:
    """What clouds cost: how many there are, and passes over them."""

    sizes: Sizes
    epochs: int


RIVALS = {
    "PointNet": Rival(plain),
    "PointNet, turned about the vertical": Rival(plain, about_vertical),
    "PointNet in frames": Rival(framed),
}


def draw(sizes: Sizes, seed: int) -> Split:
    """Clouds of a seed."""
    return Split(*(clouds(count, 1000 * (100 + seed) + 10 * (k + 1)) for k, count in enumerate(sizes)))


def validate(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """Percent right of clouds as they are."""
    return {"upright": accuracy(model, x, y)}


def measure(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """An audit of a classifier over the disk."""
    report = audit(model, TURN, x, y, elements=disk(), progress=False)
    scores = scores_of(report)
    mean = 100 * scores.mean(1)  # over clouds, at every element
    rings = torch.cat([mean[:1], mean[1:].unflatten(0, (RINGS, DIRECTIONS)).mean(1)])
    return {
        "upright": float(mean[0]),
        "orbit mean": float(mean.mean()),
        "worst element": float(mean.min()),
        "spread over orbit": spread(mean),
        "right at every element": 100 * float(scores.amin(0).mean()),
        "equivariance error": report.worst_error,
        CURVES: {"angle": rings.tolist()},
    }


def clouds_part(run: Run[Any], budget: Clouds) -> Part:
    """A row for each model, then one for each angle."""
    worst = "worst element"
    how, sizes = training(cross_entropy, budget.epochs), run.sizes(budget.sizes)
    table, curves = apart(
        compare(
            "clouds",
            RIVALS,
            partial(draw, sizes),
            how,
            measure,
            best="upright",
            run=run,
            larger=("upright", worst),
            validate=validate,
        )
    )
    places = [f"{180 * ring // RINGS}" for ring in range(RINGS + 1)]
    rows = curve_rows("clouds, angle", places, {name: found["angle"] for name, found in curves.items()})
    claims = [
        table.ratio(
            "clouds-plain-varies",
            "Clouds, PointNet: percent right under the worst rotation over that of upright ones.",
            table["PointNet", worst],
            table["PointNet", "upright"],
            below=1,
        ),
        table.beats(
            "clouds-frames-level",
            "PointNet in frames",
            ["PointNet", "PointNet, turned about the vertical"],
            worst,
            statement="Clouds: percent right under the worst rotation, PointNet in frames over the best other.",
        ),
    ]
    return Part([*table.rows, *rows], claims, table.runs)
