"""How good a detector is: average precision over scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError

Likeness = Callable[[Tensor, Tensor], Tensor]


def average_precision(
    found: Sequence[tuple[Tensor, Tensor]], truth: Sequence[Tensor], likeness: Likeness, *, at_least: float
) -> float:
    """Area under the curve of precision over recall, of one class.

    >>> import erlangen as er
    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0], [9.0, 0.0, 4.0, 2.0, 0.0]])
    >>> found = [(torch.cat([boxes[:1], boxes[:1] + 20]), torch.tensor([0.9, 0.8]))]
    >>> average_precision(found, [boxes], er.geometry.oriented_iou, at_least=0.5)  # one of two found, before the wrong one
    0.5

    In the order of their scores over all scenes, each found object takes the one of its scene's true objects that is most
    like it and not taken yet, if the likeness suffices; else it is false. Precision at a recall is the best one at this or any
    larger recall, and the area is exact, over all points of the curve (PASCAL VOC from 2010 on).

    Args:
        found: for each scene the objects ``[F, ...]`` and their scores ``[F]``.
        truth: for each scene the true objects ``[T, ...]``.
        likeness: of all pairs, from objects ``[F, 1, ...]`` and ``[1, T, ...]`` to ``[F, T]``, larger for closer ones:
            `erlangen.geometry.oriented_iou`, or minus a distance.
        at_least: the likeness that suffices.

    Returns:
        From 0 to 1.

    Raises:
        ShapeError: scores that are not as many as the objects, or a likeness of another shape.
        DataError: another number of scenes, no true object at all, or a score that is NaN.
        ErlangenError: `at_least` is NaN.
    """
    if len(found) != len(truth):
        raise DataError(f"found has {len(found)} scenes and truth {len(truth)}")
    if at_least != at_least:
        raise ErlangenError("at_least is NaN; give a number")
    total = sum(len(t) for t in truth)
    if total == 0:
        raise DataError("truth has no objects, so there is no recall")
    scores, right = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
    for scene, ((objects, score), true) in enumerate(zip(found, truth, strict=True)):
        if score.shape != objects.shape[:1]:
            raise ShapeError(f"scene {scene} has {len(objects)} objects and scores {tuple(score.shape)}; give one each")
        if bool(score.isnan().any()):
            raise DataError(f"scene {scene} has a score that is NaN")
        order = score.argsort(descending=True, stable=True)
        scores.append(score[order].cpu().double())
        right.append(_matched(objects[order], true, likeness, at_least))
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hits = torch.cat(right)[order].double().cumsum(0)
    recall, precision = hits / total, hits / torch.arange(1, len(hits) + 1, dtype=torch.float64)
    best = precision.flip(0).cummax(0).values.flip(0)
    return float((recall.diff(prepend=torch.zeros(1, dtype=torch.float64)) * best).sum())


def _matched(objects: Tensor, true: Tensor, likeness: Likeness, at_least: float) -> Tensor:
    """Which objects, in this order, take a true one."""
    taken = torch.zeros(len(objects), dtype=torch.bool)
    if not len(objects) or not len(true):
        return taken
    table = likeness(objects[:, None], true[None]).detach().cpu().double()
    if table.shape != (len(objects), len(true)):
        raise ShapeError(
            f"likeness gives shape {tuple(table.shape)}; it must give [F, T] = {(len(objects), len(true))}"
        )
    free = torch.ones(len(true), dtype=torch.bool)
    for i, row in enumerate(table):
        best = int(row.masked_fill(~free, -torch.inf).argmax())
        if bool(free[best]) and row[best] >= at_least:
            taken[i], free[best] = True, False
    return taken
