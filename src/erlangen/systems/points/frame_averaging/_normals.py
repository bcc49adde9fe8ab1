"""Normals of surfaces: trained on upright ones, tested on rotated ones, and on parts and meshes of other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import symmetrize
from erlangen.groups import SO
from erlangen.nn import PointNet
from erlangen.simulate import machined_parts, mesh_clouds, surfaces
from erlangen.soft import augment
from erlangen.survey import Part, Rival, Run, Sizes, Split, Training, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.points.frame_averaging.method import NORMALS, Lines, LocalFrames


def line_loss(projectors: Tensor, normals: Tensor) -> Tensor:
    """Mean over points, and over the elements of frames, of ``1 - cos^2`` of the angle between line and normal."""
    return 1 - ((projectors @ normals[..., None])[..., 0] * normals).sum(-1).mean()


def main_lines(projectors: Tensor) -> Tensor:
    """Unit vectors ``[..., 3]`` along the main axes of averaged projectors: the prediction."""
    return torch.linalg.eigh(projectors.double()).eigenvectors[..., -1].to(projectors)


@dataclass(frozen=True)
class Normals:
    """What normals cost: surfaces and their points, and passes over them."""

    sizes: Sizes
    points: int
    epochs: int


def normals_part(run: Run[Any], meshes: str) -> Part:
    """Lines along the normals of surfaces: trained on upright ones, tested on rotated ones, and on parts of other kinds.

    With `meshes`, a folder, also on the meshes that lie there.
    """
    budget: Normals = run.budget.normals
    net, local = partial(PointNet, 3, 3, 24, per_point=True), partial(PointNet, 3, 3, 26)
    rivals = {
        "PointNet": Rival(lambda: Lines(net())),
        "PointNet, augmented": Rival(lambda: Lines(net()), augment(Symmetry(SO(3), input="points", output="vectors"))),
        "FA-PointNet": Rival(lambda: symmetrize(Lines(net()), NORMALS, samples=2, on_degenerate="allow")),
        "FA-local-PointNet": Rival(lambda: LocalFrames(local(), samples=1)),
    }
    upright, rotated, parts = "1 - cos^2, I/I", "1 - cos^2, I/SO(3)", "1 - cos^2, machined parts, rotated"

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.sizes)
        data = surfaces(sizes.total, budget.points, generator=Generator().manual_seed(100 + seed))
        return Split.of(data.pos, data.normals, sizes)

    @torch.no_grad()
    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        found = main_lines(torch.cat([model(part) for part in x.split(20)]))
        return float(1 - (found * y).sum(-1).square().mean())

    def turned(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> float:
        turns = SO(3).sample(len(x), generator=generator, dtype=x.dtype).mT.to(x.device)
        return error(model, x @ turns, y @ turns)

    def validate(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {upright: error(model, x, y)}

    def measure(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        row = {upright: error(model, x, y), rotated: turned(model, x, y, generator)}
        seed = 10_000 + generator.initial_seed()
        made = machined_parts(len(x), budget.points, generator=Generator().manual_seed(seed))
        row[parts] = turned(model, made.pos.to(x), made.normals.to(x), generator)
        if meshes:
            pos, normals = mesh_clouds(meshes, budget.points, seed)
            row["1 - cos^2, meshes, rotated"] = turned(model, pos.to(x), normals.to(x), generator)
        return row

    how = Training(line_loss, budget.epochs, 20, rates=(3e-3, 1e-2), optimizer=torch.optim.Adam, clip=1.0)
    table = compare("normals", rivals, draw, how, measure, best=upright, run=run, validate=validate)
    framed = ("FA-PointNet", "FA-local-PointNet")
    still, moved = (np.concatenate([table[name, column] for name in framed]) for column in (upright, rotated))
    return table.part(
        table.same(
            "normals-do-not-notice-rotations",
            "Largest difference between the errors of framed networks on upright and on rotated surfaces.",
            still,
            moved,
            tol=1e-4,
        ),
        table.beats("normals-beat-plain-rotated", "FA-PointNet", "PointNet", rotated, published=0.163 / 0.449),
        table.beats("normals-beat-augmented-rotated", "FA-PointNet", "PointNet, augmented", rotated),
        table.beats(
            "local-frames-beat-global-ones", "FA-local-PointNet", "FA-PointNet", rotated, published=0.098 / 0.163
        ),
        table.beats("parts-beat-plain", "FA-PointNet", ["PointNet", "PointNet, augmented"], parts),
        table.beats("parts-local-frames", "FA-local-PointNet", ["PointNet", "PointNet, augmented"], parts),
    )
