"""Point clouds for `nero`: a PointNet on procedural surfaces over a disk of rotations, axis by direction, angle by radius."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.enforce import symmetrize
from erlangen.groups import SO
from erlangen.groups.rotations import axis_angle_to_matrix
from erlangen.measure import AuditReport, audit
from erlangen.nn import PointNet
from erlangen.simulate import surfaces
from erlangen.survey.claims import averaged
from erlangen.symmetry import Symmetry
from erlangen.systems.images._nero_common import Row, Task, parameters, rng, scores_of, spread, train, tuned

POINTS, WIDTH = 96, 32
DIRECTIONS, RINGS = 12, 6
TURN = Symmetry(SO(3), input="points", output="invariant")


def disk() -> Tensor:
    """Rotations ``[73, 3, 3]``: the identity, then rings of angles up to 180 degrees, axes all around the x-z plane."""
    direction = 2 * math.pi / DIRECTIONS * torch.arange(DIRECTIONS, dtype=torch.float64)
    axes = torch.stack([direction.cos(), torch.zeros_like(direction), direction.sin()], -1)
    angle = math.pi / RINGS * torch.arange(1, RINGS + 1, dtype=torch.float64)
    turns = axis_angle_to_matrix(angle[:, None, None] * axes).flatten(0, 1)
    return torch.cat([torch.eye(3, dtype=torch.float64)[None], turns]).float()


def about_vertical(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Turn every cloud by a random angle about z, the usual augmentation of upright shapes."""
    angle = 2 * math.pi * torch.rand(len(x), 1, generator=generator)
    return TURN.input.act(axis_angle_to_matrix(angle * torch.tensor([0.0, 0.0, 1.0])), x), y


@dataclass(frozen=True)
class Sizes:
    """Clouds to train and to test with, epochs, and whether the learning rate is tuned."""

    train: int
    test: int
    epochs: int
    tune: bool


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


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[..., tuple[Tensor, Tensor]] | None]] = {
    "PointNet": (plain, None),
    "PointNet, turned about the vertical": (plain, about_vertical),
    "PointNet in frames": (framed, None),
}


def reports(sizes: Sizes, seeds: Sequence[int]) -> dict[str, list[AuditReport]]:
    """Audits over the disk for every model and seed."""
    found: dict[str, list[AuditReport]] = {}
    elements = disk()
    for name, (build, transform) in MODELS.items():
        rate: float | None = None
        found[name] = []
        for seed in seeds:
            x, y = clouds(sizes.train, 10 + seed)

            def score(model: nn.Module, seed: int = seed) -> float:
                held, labels = clouds(120, 20 + seed)
                with torch.no_grad():
                    return float((model(held).argmax(-1) == labels).double().mean())

            task = Task(x, y, F.cross_entropy, score, sizes.epochs, transform)
            rate = tuned(build, task, seed, sizes.tune) if rate is None else rate
            model = train(build, task, rate, seed)
            tx, ty = clouds(sizes.test, 30 + seed)
            found[name].append(audit(model, TURN, tx, ty, elements=elements, progress=False, name=name))
    return found


def rows(found: dict[str, list[AuditReport]], sizes: Sizes) -> list[Row]:
    """One row for each model, one for each angle."""
    table: list[Row] = []
    rings: dict[str, Tensor] = {}
    for name, several in found.items():
        scores = [scores_of(report) for report in several]
        mean = torch.stack([s.mean(1) for s in scores]).mean(0)
        rings[name] = torch.cat([mean[:1], mean[1:].unflatten(0, (RINGS, DIRECTIONS)).mean(1)])
        runs = [
            {
                "upright": 100 * float(s[0].mean()),
                "orbit mean": 100 * float(s.mean()),
                "spread over orbit": 100 * spread(s.mean(1)),
                "right at every element": 100 * float(s.amin(0).mean()),
            }
            for s in scores
        ]
        table.append(
            {
                "part": "clouds",
                "model": name,
                **averaged(runs),
                "equivariance error": max(report.worst_error for report in several),
                "parameters": parameters(plain()),
                "trained on": sizes.train,
                "epochs": sizes.epochs,
                "tested on": sizes.test,
            }
        )
    for ring in range(RINGS + 1):
        shares = {name: 100 * float(curve[ring]) for name, curve in rings.items()}
        table.append({"part": "clouds, angle", "model": f"{180 * ring // RINGS}", **shares})
    return table
