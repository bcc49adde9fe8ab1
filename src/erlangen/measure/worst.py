"""The worst element of the group for a model: a search over the orbit, then a local one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
from erlangen.solve import BoxMixture, evolve_mixture
from erlangen.symmetry import Symmetry


@dataclass(frozen=True)
class WorstCase:
    """The worst element found.

    ``element`` is one group element; ``score`` the mean metric of the batch there (the mean relative error when there are no
    labels), ``identity`` the same on the samples as they are (0 for the error), ``grid`` what the orbit alone had found,
    ``evaluations`` the number of elements tried. A search for a distribution adds the ``mixture`` that it ended with, of
    logarithms: ``element = exp(v)``.
    """

    element: Tensor
    score: float
    identity: float
    grid: float
    evaluations: int
    mixture: BoxMixture | None = None


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
    search: Literal["steps", "distribution"] = "steps",
    components: int = 4,
    reach: float | Sequence[float] = math.pi,
    seed: int = 0,
) -> WorstCase:
    """Search for the element under which the whole batch fares worst.

    First the orbit of `erlangen.measure.orbit`; then, for Lie groups, `rounds` rounds of `tries` random steps
    ``g exp(r a)`` around the best so far, r starting at 0.5 and halved after each round without gain. In a range, steps that
    leave it end on its border.

    With ``search="distribution"`` the second part is an evolution of a mixture over logarithms of elements
    (`erlangen.solve.evolve_mixture`): it keeps several bad regions at once and says how wide they are, which one worst
    element does not. It sees elements ``exp(v)`` alone, so no reflections.

    Args:
        model, symmetry, x, y, metric, elements, seed: as for `erlangen.audit`. Without labels the relative equivariance
            error is maximised.
        rounds, tries: size of the search after the orbit; 0 rounds for the orbit alone.
        search: how to go on after the orbit.
        components: of the mixture; each is tried in pairs, at least one.
        reach: of the box of logarithms to both sides of zero: radians for rotations, lengths for translations; one number, or
            one for each of the group's dimensions. In a range, elements that leave it end on its border.

    Raises:
        OrbitError: a size of the search that is no positive number, or a search for a distribution over a finite group.
        DataError: a metric without labels.
    """
    if search not in ("steps", "distribution"):
        raise OrbitError(f'search = {search!r}; give "steps" or "distribution"')
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
        grid, mixture = worst, None
        if search == "distribution" and rounds:
            box = _box(symmetry, components, reach, generator)

            def fitness(v: Tensor) -> Tensor:
                return badness(_placed(symmetry, v).to(best))[0]

            pairs = max(1, tries // (2 * components))
            found = evolve_mixture(fitness, box, steps=rounds, pairs=pairs, generator=generator)
            mixture, tried = found.mixture, tried + found.evaluations
            if float(found.value) > worst:
                best, worst = _placed(symmetry, found.best[None])[0].to(best), float(found.value)
        elif group.dim:
            best, worst = _stepped(symmetry, badness, best, worst, rounds, tries, generator)
            tried += rounds * tries
    sign = -1.0 if scorer is not None and scorer.higher_is_better else 1.0
    return WorstCase(best, sign * worst, sign * identity, sign * grid, tried, mixture)


def _stepped(
    symmetry: Symmetry,
    badness: Callable[[Tensor], tuple[Tensor, float]],
    best: Tensor,
    worst: float,
    rounds: int,
    tries: int,
    generator: Generator,
) -> tuple[Tensor, float]:
    """Random steps around the best element so far, smaller after each round without gain."""
    group, radius = symmetry.group, 0.5
    for _ in range(rounds):
        steps = radius * torch.randn(tries, group.dim, generator=generator, dtype=torch.float64).to(best)
        near = group.compose(best, group.exp(steps))
        near = near if symmetry.within is None else symmetry.within.clamp(near)
        values, _ = badness(near)
        index = int(values.argmax())
        if float(values[index]) > worst:
            best, worst = near[index], float(values[index])
        else:
            radius /= 2
    return best, worst


def _box(symmetry: Symmetry, components: int, reach: float | Sequence[float], generator: Generator) -> BoxMixture:
    """A mixture over the logarithms of the group's elements, spread over their box."""
    dim = symmetry.group.dim
    if not dim:
        raise OrbitError(f'search = "distribution": {symmetry.group.name} is finite, and its orbit holds all elements')
    if components < 1:
        raise OrbitError(f"components = {components}; give a positive number")
    sides = torch.as_tensor(reach, dtype=torch.float64)
    if sides.ndim > 1 or (sides.ndim == 1 and len(sides) != dim) or not bool(((sides > 0) & sides.isfinite()).all()):
        raise OrbitError(f"reach = {reach}; give a positive number, or {dim} for {symmetry.group.name}")
    high = sides.expand(dim).clone()
    return BoxMixture.start(-high, high, components, spread=0.25, generator=generator)


def _placed(symmetry: Symmetry, v: Tensor) -> Tensor:
    """Elements of logarithms ``[n, dim]``, within the range."""
    g = symmetry.group.exp(v)
    return g if symmetry.within is None else symmetry.within.clamp(g)
