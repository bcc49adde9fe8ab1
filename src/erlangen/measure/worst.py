"""The worst element of the group for a model: a search over the orbit, then a local one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.actions import Tree, tree_leaves
from erlangen.errors import DataError, OrbitError
from erlangen.measure.bring import bring
from erlangen.measure.checks import check_data, check_labels, float_dtype, probe
from erlangen.measure.error import declared_symmetry
from erlangen.measure.evaluate import Chunk, evaluate_block
from erlangen.measure.metrics import Metric, MetricFunction, resolve_metric
from erlangen.measure.models import ModelLike
from erlangen.measure.orbit import orbit
from erlangen.measure.rows import plain
from erlangen.symmetry import Symmetry


@dataclass(frozen=True)
class WorstCase:
    """The worst element found.

    ``element`` is one group element; ``score`` the mean metric of the batch there (the mean relative error when there are no
    labels), ``identity`` the same on the samples as they are (0 for the error), ``grid`` what the orbit alone had found,
    ``evaluations`` the number of elements tried.
    """

    element: Tensor
    score: float
    identity: float
    grid: float
    evaluations: int


def worst_case(
    model: ModelLike,
    symmetry: Symmetry | None,
    x: Tree,
    y: Tree | None = None,
    *,
    metric: str | Metric | MetricFunction | None = None,
    elements: int | Tensor | None = None,
    rounds: int = 8,
    tries: int = 16,
    seed: int = 0,
) -> WorstCase:
    """Search for the element under which the whole batch fares worst.

    First the orbit of `erlangen.measure.orbit`; then, for Lie groups, `rounds` rounds of `tries` random steps
    ``g exp(r a)`` around the best so far, r starting at 0.5 and halved after each round without gain. In a range, steps that
    leave it end on its border.

    Args:
        model, symmetry, x, y, metric, elements, seed: as for `erlangen.audit`. Without labels the relative equivariance
            error is maximised.
        rounds, tries: size of the local search; 0 rounds for the orbit alone.
    """
    symmetry = declared_symmetry(model, symmetry)
    if rounds < 0 or tries < 1:
        raise OrbitError(f"rounds = {rounds}, tries = {tries}: rounds must be 0 or more, tries 1 or more")
    wrapped, symmetry, x, y = bring(model, symmetry, x, y)
    check_data(x, y)
    if y is None and metric is not None:
        name = metric if isinstance(metric, str) else getattr(metric, "name", getattr(metric, "__name__", "metric"))
        raise DataError(
            f"metric {name!r} compares answers with labels: pass y, or leave metric out to search for the largest "
            "equivariance error"
        )
    scorer = resolve_metric(metric, plain(y)) if y is not None else None
    group, dtype = symmetry.group, float_dtype(x)
    visited = orbit(symmetry.domain, elements, seed=seed, dtype=dtype, device=tree_leaves(x)[0].device)
    generator = Generator().manual_seed(seed)

    def badness(g: Tensor) -> tuple[Tensor, float]:
        """Mean over the batch, larger is worse, ``[K]``; and the value at the identity."""
        policy = Chunk.of(wrapped, x, None)
        block = evaluate_block(wrapped, symmetry, g, x, y if scorer else None, scorer, policy, consensus=False)
        if scorer is None or block.scores is None or block.base is None:
            return block.errors.mean(1), 0.0
        sign = -1.0 if scorer.higher_is_better else 1.0
        return sign * block.scores.mean(1), sign * float(block.base.mean())

    with wrapped.measuring():
        base = probe(wrapped, symmetry, x)
        if scorer is not None:
            check_labels(symmetry.output, y, base)
        values, identity = badness(visited.elements)
        index = int(values.argmax())
        best, worst, tried = visited.elements[index], float(values[index]), len(values)
        grid, radius = worst, 0.5
        for _ in range(rounds if group.dim else 0):
            steps = radius * torch.randn(tries, group.dim, generator=generator, dtype=torch.float64).to(best)
            near = group.compose(best, group.exp(steps))
            near = near if symmetry.within is None else symmetry.within.clamp(near)
            values, _ = badness(near)
            tried += tries
            index = int(values.argmax())
            if float(values[index]) > worst:
                best, worst = near[index], float(values[index])
            else:
                radius /= 2
    sign = -1.0 if scorer is not None and scorer.higher_is_better else 1.0
    return WorstCase(best, sign * worst, sign * identity, sign * grid, tried)
