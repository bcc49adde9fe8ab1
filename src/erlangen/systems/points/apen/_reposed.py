"""Bodies in another pose: which answers of a trained network stay, and at which points they have to."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from erlangen.geometry import farthest_points, mixed_points, same_cells, voronoi
from erlangen.systems.points.apen.method import APEN

STAY, RIGHT = "labels that stay", "right before and after"
MAY, SURE = "may change", "change of sure points"
LAST, CELLS = "mixed, last layer", "mixed, as many cells"


def sure_points(before: Tensor, after: Tensor, body: Tensor) -> Tensor:
    """Points at which a network with these partitions cannot err when bodies move: bool ``[B, n]``.

    In every layer the point's part lies in one rigid body, holds the same points before and after the motion, and all of
    them were sure in the layer before. The share of the other points is delta + lambda, the bound of the paper.

    Args:
        before, after: labels of all layers ``[B, layers, n]``.
        body: the rigid body of every point ``[B, n]``.
    """
    sure = torch.ones_like(body, dtype=torch.bool)
    for old, new in zip(before.unbind(1), after.unbind(1), strict=True):
        unsure = ~sure | mixed_points(old, body) | ~same_cells(old, new)
        spoilt = torch.zeros(len(old), int(old.max()) + 1, dtype=torch.int64, device=old.device)
        sure = spoilt.scatter_add(1, old, unsure.long()).gather(1, old) == 0
    return sure


def stays(old: Tensor, new: Tensor, label: Tensor) -> dict[str, float]:
    """Shares of points, in percent, whose class stays when parts move, and whose class is right before and after.

    A network that gives all points one class keeps it everywhere: that is why the second share stands beside the first.
    """
    same = old == new
    return {STAY: 100 * float(same.double().mean()), RIGHT: 100 * float((same & (old == label)).double().mean())}


@torch.no_grad()
def bounds(model: APEN, pos: Tensor, moved: Tensor, part: Tensor) -> dict[str, float]:
    """In float64: the share of points that may change, in percent, and the largest change of the others, relative."""
    dtype = next(model.parameters()).dtype
    model.double()
    unsure: list[Tensor] = []
    worst = 0.0
    for before, after, own in zip(pos.double().split(5), moved.double().split(5), part.split(5), strict=True):
        old, new = model(before), model(after)
        sure = sure_points(old["labels"], new["labels"], own)
        change = (new["logits"] - old["logits"]).abs().amax(-1)[sure]
        unsure.append(~sure)
        worst = max(worst, float(change.max() / old["logits"].abs().max()) if len(change) else 0.0)
    model.to(dtype)
    return {MAY: 100 * float(torch.cat(unsure).double().mean()), SURE: worst}


@torch.no_grad()
def partition_scores(model: APEN, pos: Tensor, part: Tensor) -> dict[str, float]:
    """Shares of points, in percent, whose part in the first and last layer is mixed, and in as many cells of far points; the
    uncertainty of the last merging."""
    out = model(pos)
    last = out["labels"][:, -1]
    alike: list[Tensor] = []
    for cloud, labels, own in zip(pos[:, None], last, part[:, None], strict=True):
        seeds = farthest_points(cloud, len(labels.unique()), generator=Generator().manual_seed(model.seed))
        alike.append(mixed_points(voronoi(cloud, cloud[:, seeds[0]]), own))
    return {
        "parts, last layer": sum(len(labels.unique()) for labels in last) / len(last),
        "mixed, first layer": 100 * float(mixed_points(out["labels"][:, 0], part).double().mean()),
        LAST: 100 * float(mixed_points(last, part).double().mean()),
        CELLS: 100 * float(torch.cat(alike).double().mean()),
        "uncertainty": 100 * float(out["uncertainty"][:, -1].mean()),
    }
