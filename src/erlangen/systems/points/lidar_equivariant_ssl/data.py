"""Streets as the system sees them: pairs of sweeps without labels, and scenes with boxes."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from erlangen.actions import OrientedBoxes
from erlangen.simulate import Scanner, traffic
from erlangen.symmetry import Symmetry
from erlangen.systems.points.lidar_equivariant_ssl._motions import GROUP, move_points, road_motions
from erlangen.systems.points.lidar_equivariant_ssl.method import Sweeps

BOXES = Symmetry(GROUP, input="points", output=OrientedBoxes())


def sweeps(count: int, scanner: Scanner, generator: Generator) -> Sweeps:
    """Pairs of sweeps, a tenth of a second apart, with the exact flow."""
    streets = traffic(count, scanner=scanner, generator=generator)
    return Sweeps(streets.pos, streets.known, streets.flow)


def scenes(count: int, scanner: Scanner, generator: Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Points of single sweeps, and what moves there: ``{"pos", "known"}`` and ``{"boxes", "kind"}``.

    Road users that return fewer than three points are no objects, kind -1.
    """
    streets = traffic(count, scanner=scanner, generator=generator)
    seen = torch.nn.functional.one_hot(streets.user[:, 1] + 1, streets.boxes.shape[2] + 1).sum(1)[:, 1:]
    x = {"pos": streets.pos[:, 1], "known": streets.known[:, 1]}
    return x, {"boxes": streets.boxes[:, 1], "kind": torch.where(seen >= 3, streets.kind, -1)}


def noisy(pairs: Sweeps, generator: Generator, *, deviation: float = 0.1, outliers: float = 0.1) -> Sweeps:
    """Flow as an estimate would be: normal errors in metres, and a share of vectors that are anything up to a metre."""
    error = deviation * torch.randn(pairs.flow.shape, generator=generator)
    wild = torch.rand(pairs.flow.shape[:2], generator=generator) < outliers
    anything = 2 * torch.rand(pairs.flow.shape, generator=generator) - 1
    return pairs._replace(flow=torch.where(wild[..., None], anything, pairs.flow + error))


def augmented(
    x: dict[str, Tensor], y: dict[str, Tensor], *, generator: Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scenes and boxes moved together, as detectors are usually trained: turns up to 45 degrees, scales, mirrors."""
    motions = road_motions(len(x["pos"]), turn=torch.pi / 4, shift=0.0, generator=generator)
    boxes = BOXES.output.act(motions.matrix, y["boxes"])
    assert isinstance(boxes, Tensor)
    return x | {"pos": move_points(motions.matrix, x["pos"])}, y | {"boxes": boxes}
