"""The network, the ways to augment its training, and what a training under conditions tells of itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.soft import ConstrainedAugment, augment
from erlangen.survey import Split, Training
from erlangen.systems.learning.invariance_constrained_augmentation.data import (
    FAMILIES,
    RandomFamily,
    Sometimes,
    Transform,
    World,
)

DUAL_RATE = 0.01
"""Step of the multipliers: times all steps of a full run it is 7.2; in the paper, 1e-4 for 200 epochs of 391 steps, 7.8."""
CHAIN = 2
"""Steps of the chains that draw transformations in training, as in the paper."""
NONE, RANDOM, ORACLE, ADVERSARIAL, ONE, EACH = (
    "none",
    "random",
    "oracle",
    "adversarial",
    "constrained",
    "constrained, each",
)
METHODS = (NONE, RANDOM, ORACLE, ADVERSARIAL, ONE, EACH)


class Classifier(nn.Sequential):
    """A small CNN on images ``[B, 1, 14, 14]``; `found` says what its training tells of multipliers, slacks and chains."""

    def __init__(self) -> None:
        super().__init__(
            *(
                nn.Conv2d(1, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
            ),
            *(nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
        self.found: dict[str, float] = {}


def each_loss(scores: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of every sample."""
    return cross_entropy(scores, y, reduction="none")


def policy(method: str, number: float, world: World, model: nn.Module, seed: int) -> Transform | None:
    """The transform of a method; `number` is the share of moved samples, or the limit over log(classes)."""
    options: dict[str, Any] = {"model": model, "loss": each_loss}
    if method == NONE or (method == ORACLE and world.moved_by is None):
        return None
    if method == ORACLE:
        return Sometimes(FAMILIES[world.moved_by or ""], number)
    if method == RANDOM:
        return RandomFamily(number)
    if method == ADVERSARIAL:
        return Sometimes(augment(RandomFamily(), policy="adversarial", tries=4, **options), number)
    families = [RandomFamily()] if method == ONE else list(FAMILIES.values())
    limit = number * math.log(10)
    return augment(families, policy="constrained", limit=limit, tries=CHAIN, dual_lr=DUAL_RATE, seed=seed, **options)


# --- what a training tells -------------------------------------------------------------------------------------------
def law_of_chains(losses: Tensor, steps: int) -> Tensor:
    """Probabilities ``[..., n]`` of where chains of some steps end among n equally likely places, from their losses.

    Not by chance but by the matrix of Metropolis and Hastings: a proposal j is accepted from i with ``min(1, l_j / l_i)``.
    """
    places = losses.shape[-1]
    ratio = losses[..., None, :] / losses[..., :, None]
    # From a loss of zero (whose sign may be either) any other is accepted, and zero from nowhere.
    moves = ratio.nan_to_num(0, posinf=1, neginf=1).clamp(max=1) / places
    moves = moves + torch.diag_embed(1 - moves.sum(-1))
    law = losses.new_full((*losses.shape[:-1], 1, places), 1 / places)
    for _ in range(steps - 1):
        law = law @ moves
    return law[..., 0, :]


class Watched:
    """A condition whose multipliers and slacks are kept, step by step."""

    def __init__(self, transform: ConstrainedAugment) -> None:
        self.transform = transform
        self.multipliers: list[Tensor] = []
        self.slacks: list[Tensor] = []

    def __call__(self, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Any:
        """The moved batch."""
        moved = self.transform(x, y, generator=generator)
        self.multipliers.append(self.transform.multipliers.clone())
        self.slacks.append(self.transform.slacks.clone())
        return moved

    def found(self) -> dict[str, float]:
        """Multipliers of the last quarter, what they do at the end, and by how much of the limit conditions are violated."""
        nu, slack = torch.stack(self.multipliers), torch.stack(self.slacks)
        quarter = max(1, len(nu) // 4)
        first = max(0, len(nu) - 2 * quarter)
        last, before = nu[-quarter:].mean(0), nu[first : first + quarter].mean(0)
        size = max(float(last.sum()), float(before.sum()))
        names = list(FAMILIES) if len(last) > 1 else ["all"]
        row = {f"nu {family}": float(value) for family, value in zip(names, last, strict=True)}
        row["drift of nu"] = float((last - before).abs().sum()) / size if size else 0.0
        peak = float(nu.sum(1).max())
        row["nu, last over largest"] = float(last.sum()) / peak if peak else 0.0
        row["violation / limit"] = float((slack[-quarter:].mean(0) / self.transform.limits).clamp(min=0).mean())
        return row


def drawn_over_law(
    model: nn.Module, transforms: Sequence[Transform], x: Tensor, y: Tensor, generator: Generator
) -> float:
    """Mean loss where chains of training end, over that of the law proportional to the loss, of a trained network.

    On 16 places of each of 200 pictures for every family; both means are exact for these places.
    """
    x, y = x[:200], y[:200]
    drawn = law = 0.0
    for transform in transforms:
        places = [transform(x, y, generator=generator) for _ in range(16)]
        with torch.no_grad():
            losses = torch.stack([each_loss(model(moved), labels) for moved, labels in places], 1).double()
        drawn += float((law_of_chains(losses, CHAIN) * losses).sum())
        # Where all losses are zero the network is invariant, and there is nothing to draw.
        law += float((losses.square().sum(1) / losses.sum(1).clamp(min=1e-300)).sum())
    return drawn / law if law else 1.0


# --- training --------------------------------------------------------------------------------------------------------
def train(
    model: Classifier,
    split: Split,
    training: Training,
    generator: Generator,
    *,
    method: str,
    world: World,
    number: float,
    rate: float,
) -> None:
    """Training with a method."""
    transform = policy(method, number, world, model, generator.initial_seed())
    watched = Watched(transform) if isinstance(transform, ConstrainedAugment) else None
    training.fit(model, split, rate, generator, transform=watched or transform)
    if watched is not None:
        model.eval()
        model.found = watched.found()
        model.found["drawn / law"] = drawn_over_law(model, watched.transform.transforms, *split.train, generator)


def by_rate(method: str, world: World, number: float) -> Callable[..., None]:
    """Training for `compare` to choose a learning rate."""

    def run(model: Classifier, split: Split, rate: float, training: Training, generator: Generator) -> None:
        train(model, split, training, generator, method=method, world=world, number=number, rate=rate)

    return run


def by_number(method: str, world: World, rate: float) -> Callable[..., None]:
    """Training for `compare` to choose a share or a limit."""

    def run(model: Classifier, split: Split, number: float, training: Training, generator: Generator) -> None:
        train(model, split, training, generator, method=method, world=world, number=number, rate=rate)

    return run
