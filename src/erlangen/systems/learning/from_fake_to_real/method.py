"""FFR, from fake to real: learn from balanced synthetic pictures first, then from real ones, and never from both at once.

Qraitem, Saenko and Plummer (ECCV 2024). A label Y goes with a nuisance B in the real data. Synthetic pictures of rare groups
take that away and put another in its place: they look synthetic (G), and Y then goes with the pair (B, G).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.errors import DataError, ErlangenError, ModelError, NotFiniteError, UnknownNameError, check_integer
from erlangen.systems.learning.from_fake_to_real._groups import (
    Grouped,
    check_counts,
    check_groups,
    check_sources,
    contingency,
    group_accuracies,
)
from erlangen.systems.learning.from_fake_to_real._losses import GroupDRO, resampled

Within = Literal["ERM", "Resample", "GroupDRO"]
"""What a stage minimises: the mean loss, that of groups drawn equally often, that of the worst groups."""


def from_fake_to_real(
    net: nn.Module,
    synthetic: Grouped,
    real: Grouped,
    validation: Grouped,
    first: Stage,
    second: Stage,
    *,
    generator: Generator | None = None,
) -> tuple[StageResult, StageResult]:
    """Train a network in place: on synthetic pictures alone, and then, head and all, on real ones alone.

    Args:
        net: pictures to scores ``[N, K]``.
        synthetic: as many of every group (y, b), see `add_equal`; without any, stage one is left out.
        real: biased as they are.
        validation: real pictures that choose the epoch of both stages; each group needs one.
        first, second: what the stages do. The paper has "ERM" first, and then any of the three.
        generator: of orders and draws.

    Raises:
        DataError, ShapeError: see `check_sources`, `train_stage`.
    """
    check_sources(real, synthetic)
    fake = train_stage(net, synthetic, validation, first, generator=generator) if len(synthetic) else StageResult()
    return fake, train_stage(net, real, validation, second, generator=generator)


# --- a stage ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Stage:
    """Adam at a constant rate over shuffled batches.

    Attributes:
        epochs: passes over the data; 0 leaves the network as it is.
        rate, decay, batch: of the optimizer, which is new in every stage.
        within: see `Within`; "Resample" and "GroupDRO" look at the groups (y, b, g) that occur.
        eta: step of GroupDRO's weights.
        freeze_bn: the network is in eval mode throughout, so that running statistics stay.
        steps: in place of `epochs`: so many batches, the last pass cut short.
    """

    epochs: int
    rate: float = 1e-3
    decay: float = 1e-5
    batch: int = 128
    within: Within = "ERM"
    eta: float = 0.01
    freeze_bn: bool = False
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("epochs", self.epochs, 0), ("batch", self.batch, 1), ("steps", self.steps or 0, 0)):
            check_integer(f"Stage.{name}", value, least)
        if self.within not in get_args(Within):
            raise UnknownNameError(f"Stage.within = {self.within!r}; known are {', '.join(get_args(Within))}")
        if not self.rate > 0 or not self.decay >= 0:
            raise ErlangenError(
                f"Stage.rate = {self.rate}, decay = {self.decay}; give a positive and no negative number"
            )


@dataclass
class StageResult:
    """What a stage did: the worst group's share of right validation answers after each epoch, and the epoch that was kept."""

    history: list[float] = field(default_factory=list[float])
    best_epoch: int = -1
    steps: int = 0


def train_stage(
    net: nn.Module, data: Grouped, validation: Grouped, how: Stage, *, generator: Generator | None = None
) -> StageResult:
    """One stage, in place; the network ends with the weights of the epoch whose worst validation group is best.

    Raises:
        DataError: no data, a group without validation samples (of all classes and nuisances that either holds), or a class
            that the network has no score for.
        NotFiniteError: the loss became NaN or Inf.
    """
    if not len(data):
        raise DataError("data is empty; a stage needs samples to train on")
    both = ((data.y, validation.y), (data.b, validation.b))  # a class that validation lacks altogether is a gap too
    sizes = [1 + max(int(v.max()) if len(v) else 0 for v in pair) for pair in both]
    check_groups(contingency(validation.y, validation.b, sizes=sizes), "validation")
    total = how.epochs * -(-len(data) // how.batch) if how.steps is None else how.steps
    optimizer = torch.optim.Adam(net.parameters(), lr=how.rate, weight_decay=how.decay)
    _, groups = torch.unique(data.groups, return_inverse=True)
    dro = GroupDRO(int(groups.max()) + 1, how.eta)
    result, best = StageResult(), copy.deepcopy(net.state_dict())
    while result.steps < total:
        net.train(not how.freeze_bn)
        if how.within == "Resample":
            order = resampled(groups, generator=generator)
        else:
            order = torch.randperm(len(data), generator=generator)
        for rows in order.split(how.batch)[: total - result.steps]:
            scores = net(data.x[rows])
            _check_scores(scores, data.y)
            losses = cross_entropy(scores, data.y[rows], reduction="none")
            loss = dro(losses, groups[rows]) if how.within == "GroupDRO" else losses.mean()
            if not bool(torch.isfinite(loss)):
                raise NotFiniteError(f"the loss is {loss.item()} at step {result.steps}; lower the rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            result.steps += 1
        result.history.append(worst_group(net, validation))
        if result.best_epoch < 0 or result.history[-1] > result.history[result.best_epoch]:
            result.best_epoch, best = len(result.history) - 1, copy.deepcopy(net.state_dict())
    net.load_state_dict(best)
    net.eval()
    return result


@torch.no_grad()
def worst_group(net: nn.Module, data: Grouped) -> float:
    """Least share of right answers among the groups (y, b), in eval mode."""
    net.eval()
    right = torch.cat([net(part).argmax(1) for part in data.x.split(500)]) == data.y
    return float(group_accuracies(right, data.y, data.b).min())


def carry_over(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights of a first stage, head and all, into a network for the second.

    Raises:
        ModelError: a tensor is missing, left over or of another shape, as that of a head for other classes.
    """
    own = net.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        shapes = [tuple(state[name].shape) if name in state else None for state in (weights, own)]
        if shapes[0] != shapes[1]:
            raise ModelError(
                f"weights: {name} has the shape {shapes[0]}, but in the network {shapes[1]}; both stages need one network, "
                "with a head for the same classes"
            )
    net.load_state_dict(weights)


def _check_scores(scores: Tensor, y: Tensor) -> None:
    if scores.ndim != 2 or int(y.max()) >= scores.shape[1]:
        raise DataError(
            f"y holds the class {int(y.max())}, but the network gives scores of shape {tuple(scores.shape)}"
        )


# --- what is biased, and what is added -------------------------------------------------------------------------------
def cut_to_bias(y: Tensor, b: Tensor, rate: float, *, floor: int = 0, generator: Generator | None = None) -> Tensor:
    """Indices of samples that stay: of each class its largest group, and of the others c_max (1 - r) / r at random.

    >>> y, b = torch.zeros(120, dtype=torch.int64), (torch.arange(120) >= 99).long()
    >>> len(cut_to_bias(y, b, 0.99))
    100

    Args:
        y, b: labels and nuisances, int64 ``[N]``.
        rate: r, at least 0.5 and below 1.
        floor: the least that a cut group keeps, 10 for validation data.
        generator: of the choice.

    Returns:
        int64, ascending.

    Raises:
        ErlangenError: a rate out of range.
        DataError: a group that is empty after the cut, or has fewer than `floor` to begin with.
    """
    if not 0.5 <= rate < 1:
        raise ErlangenError(f"rate = {rate}; give the share of the largest group, at least 0.5 and below 1")
    check_integer("floor", floor, 0)
    counts = contingency(y, b)
    kept: list[Tensor] = []
    for label, row in enumerate(counts):
        largest = int(row.argmax())
        # Shares such as (1 - 0.95) / 0.95 * 95 are whole but for rounding.
        target = max(int(int(row[largest]) * (1 - rate) / rate + 1e-9), floor)
        for nuisance, count in enumerate(row.tolist()):
            rows = ((y == label) & (b == nuisance)).nonzero()[:, 0]
            size = count if nuisance == largest else min(count, target)
            if size < max(floor, 1):
                raise DataError(
                    f"group y = {label}, b = {nuisance} keeps {size} samples at rate {rate}; give more data or a lower rate"
                )
            kept.append(rows if size == count else rows[torch.randperm(count, generator=generator)[:size]])
    return torch.cat(kept).sort().values


def fill_to_max(counts: Tensor) -> Tensor:
    """Uniform balancing, USB: what each group lacks to the largest of all classes, ``[Y, B]`` from real counts ``[Y, B]``.

    >>> fill_to_max(torch.tensor([[99, 1], [1, 80]])).tolist()
    [[0, 98], [98, 19]]
    """
    check_counts(counts)
    return counts.max() - counts


def add_equal(counts: Tensor) -> Tensor:
    """Additive balancing, ASB: equally many for each group, together as many as `fill_to_max` adds, rounded down.

    These are also the synthetic pictures of stage one of FFR.

    >>> add_equal(torch.tensor([[99, 1], [1, 80]])).tolist()
    [[53, 53], [53, 53]]
    """
    check_counts(counts)
    return torch.full_like(counts, int(fill_to_max(counts).sum()) // counts.numel())


USB, ASB = fill_to_max, add_equal
"""The paper's names."""


def take_first(pool: Grouped, counts: Tensor) -> Grouped:
    """The first samples of each group of a generator's output, as many as `counts` ``[Y, B]`` says.

    Raises:
        DataError: the pool has fewer.
    """
    check_counts(counts)
    kept = [torch.zeros(0, dtype=torch.int64)]
    for y, row in enumerate(counts.tolist()):
        for b, count in enumerate(row):
            rows = ((pool.y == y) & (pool.b == b)).nonzero()[:count, 0]
            if len(rows) < count:
                raise DataError(
                    f"pool: {len(rows)} samples of the group y = {y}, b = {b}, but {count} are needed; generate more"
                )
            kept.append(rows)
    return pool[torch.cat(kept).sort().values]
