"""Augmentation that looks at the model: the hardest of several transformations, or a constraint on the loss under them.

Hounie, Chamon and Ribeiro, "Automatic data augmentation via invariance-constrained learning" (ICML 2023): instead of
choosing augmentations by hand, bound the loss on transformed data and let a multiplier decide how much they count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import ErlangenError, ModelError, NotFiniteError, check_integer, first_index
from erlangen.measure.checks import batch_length
from erlangen.measure.models import Model

Transform = Callable[..., Any]
"""``transform(x, y, generator=...) -> (x, y)``: an `Augment`, or any random change of a batch."""

SampleLoss = Callable[[Any, Any], Tensor]
"""``loss(prediction, target) -> [B]``: one non-negative number per sample, such as cross entropy with reduction="none"."""


class AdversarialAugment:
    """A transform that moves every sample to the worst of several random places; see `erlangen.augment`.

    Args:
        transform: where the places come from.
        model: the model in training; it is asked in eval mode and without gradients.
        loss: loss of each sample.
        tries: places per sample.
    """

    def __init__(self, transform: Transform, model: nn.Module, loss: SampleLoss, tries: int = 4) -> None:
        self.transform, self.judge = transform, _Judge(model, loss)
        self.tries = check_integer("tries", tries, 1)

    def __call__(self, x: Tree, y: Tree, *, generator: Generator | None = None) -> tuple[Tree, Tree]:
        """The batch, each sample at the place of its largest loss."""
        places = _places(self.transform, x, y, self.tries, generator)
        return _pick(places, self.judge.losses(places, self.tries).argmax(0))


class ConstrainedAugment:
    """Augmentation under a constraint: the loss on transformed samples stays below a limit; see `erlangen.augment`.

    For every family j of transformations there is a multiplier nu_j >= 0. Places are drawn in proportion to the loss that
    the model has there, by a Metropolis-Hastings chain that starts and proposes at random (algorithm 1 of the paper). After
    every batch ``nu_j <- max(0, nu_j + dual_lr (mean loss_j - limit_j))``. A multiplier that grows says that the
    invariance costs accuracy, one that returns to zero that the model has it.

    As a transform (`__call__`) it mixes: a sample stays as it is with probability ``1 / (1 + sum nu)`` and is moved by family
    j with ``nu_j / (1 + sum nu)``, which in the mean gives the Lagrangian's gradient up to a factor. `objective` is the
    Lagrangian itself, at the cost of one more forward pass per family whose multiplier is not zero.

    Args:
        transforms: the families.
        model: the model in training; it is asked in eval mode and without gradients, so nothing of it changes.
        loss: loss of each sample.
        limits: the largest accepted mean loss of each family, positive.
        steps: length of the chains; 1 draws places uniformly.
        dual_lr: step size of the multipliers.
        start: the multipliers at the start.
        seed: seed of the places that `objective` draws.

    Attributes:
        multipliers: nu, float64 ``[J]``.
        slacks: mean loss minus limit of each family in the last batch, float64 ``[J]``.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        model: nn.Module,
        loss: SampleLoss,
        limits: Sequence[float],
        *,
        steps: int = 2,
        dual_lr: float = 1e-2,
        start: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not transforms or len(limits) != len(transforms):
            raise ErlangenError(
                f"{len(transforms)} transforms and {len(limits)} limits; give one limit for each transform"
            )
        for i, limit in enumerate(limits):
            if not limit > 0:
                raise ErlangenError(f"limits[{i}] = {limit}: give a positive number, the largest accepted mean loss")
        if not dual_lr > 0 or not start >= 0:
            raise ErlangenError(f"dual_lr = {dual_lr}, start = {start}: give a positive step and a start of at least 0")
        self.transforms, self.judge, self.loss = list(transforms), _Judge(model, loss), loss
        self.limits = torch.tensor(list(limits), dtype=torch.float64)
        self.steps, self.dual_lr = check_integer("steps", steps, 1), dual_lr
        self.multipliers = torch.full_like(self.limits, start)
        self.slacks = torch.zeros_like(self.limits)
        self._generator = Generator().manual_seed(seed)

    def __call__(self, x: Tree, y: Tree, *, generator: Generator | None = None) -> tuple[Tree, Tree]:
        """The batch with some of its samples moved; the multipliers take a step."""
        samples = batch_length(x)
        weights = torch.cat([torch.ones(1, dtype=torch.float64), self.multipliers])
        families = torch.multinomial(weights, samples, replacement=True, generator=generator)
        chosen = [(x, y), *self._step(x, y, generator)]
        stacked = tuple(tree_map(lambda *leaves: torch.cat(leaves), *trees) for trees in zip(*chosen, strict=True))
        return _pick((stacked[0], stacked[1]), families)

    def objective(self, model: nn.Module, x: Tree, y: Tree) -> Tensor:
        """``mean loss + sum_j nu_j mean loss_j``, with gradients; for ``fit(..., objective=...)``. The multipliers step."""
        multipliers = self.multipliers.tolist()
        total = self.loss(model(x), y).mean()
        for weight, (moved, target) in zip(multipliers, self._step(x, y, self._generator), strict=True):
            if weight > 0:
                total = total + weight * self.loss(model(moved), target).mean()
        return total

    def _step(self, x: Tree, y: Tree, generator: Generator | None) -> list[tuple[Tree, Tree]]:
        """One moved batch for each family, and a step of its multiplier."""
        chosen: list[tuple[Tree, Tree]] = []
        for j, transform in enumerate(self.transforms):
            places = _places(transform, x, y, self.steps, generator)
            losses = self.judge.losses(places, self.steps)
            last = metropolis(losses, generator)
            self.slacks[j] = losses.gather(0, last[None].to(losses.device)).mean().cpu() - self.limits[j]
            chosen.append(_pick(places, last))
        self.multipliers = (self.multipliers + self.dual_lr * self.slacks).clamp(min=0)
        return chosen


def metropolis(losses: Tensor, generator: Generator | None = None) -> Tensor:
    """Where chains end that prefer large losses: Metropolis-Hastings with independent proposals.

    Row 0 is where the chains begin, each further row a proposal, accepted with probability ``min(1, new / old)``. When all
    rows are draws of one law pi, the ends tend to the law proportional to loss times pi.

    Args:
        losses: non-negative ``[T, B]``.
        generator: source of the decisions.

    Returns:
        Rows ``[B]``, int64. A loss of zero is left for any other, and never entered.
    """
    draws = torch.rand(losses.shape, generator=generator, dtype=torch.float64).to(losses.device)
    row = torch.zeros_like(losses[0], dtype=torch.int64)
    current = losses[0]
    for t in range(1, len(losses)):
        accept = draws[t] * current < losses[t]
        row, current = torch.where(accept, t, row), torch.where(accept, losses[t], current)
    return row


class _Judge:
    """Losses of samples, without gradients and without a trace in the model."""

    def __init__(self, model: nn.Module, loss: SampleLoss) -> None:
        self.model, self.loss = Model(model), loss

    def losses(self, places: tuple[Tree, Tree], rows: int) -> Tensor:
        """``[rows, B]`` of rows x B samples, float64; an error where one is negative or not finite."""
        x, y = places
        with self.model.measuring(quiet=True), torch.no_grad():
            answer = self.model(x)
            device = tree_leaves(answer)[0].device
            losses = self.loss(answer, tree_map(lambda leaf: leaf.to(device), y))
        samples = batch_length(x)
        if not isinstance(losses, Tensor) or tuple(losses.shape) != (samples,):
            got = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
            raise ModelError(
                f"loss returned {got} for {samples} samples; return one number per sample, for example with "
                "torch.nn.functional.cross_entropy(prediction, target, reduction='none')"
            )
        losses = losses.double()
        bad = ~(torch.isfinite(losses) & (losses >= 0))
        if bool(bad.any()):
            index = first_index(bad)
            raise NotFiniteError(
                f"the loss of sample {index[0] % (samples // rows)} is {float(losses[index])}; transformations are chosen in "
                "proportion to the loss, so it must be finite and not negative"
            )
        return losses.unflatten(0, (rows, -1))


def _places(transform: Transform, x: Tree, y: Tree, count: int, generator: Generator | None) -> tuple[Tree, Tree]:
    """`count` independent transformations of a batch, one after the other along the batch axis."""
    moved = [transform(x, y, generator=generator) for _ in range(count)]
    xs, ys = (tree_map(lambda *leaves: torch.cat(leaves), *trees) for trees in zip(*moved, strict=True))
    return xs, ys


def _pick(places: tuple[Tree, Tree], row: Tensor) -> tuple[Tree, Tree]:
    """For sample b the place ``row[b]`` of what `_places` gave."""
    index = row * len(row) + torch.arange(len(row), device=row.device)
    x, y = (tree_map(lambda leaf: leaf[index.to(leaf.device)], tree) for tree in places)
    return x, y
