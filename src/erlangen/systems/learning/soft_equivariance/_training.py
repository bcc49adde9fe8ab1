"""How all networks are trained alike, with and without the regulariser, and what is measured of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.measure import equivariance_error
from erlangen.reps import Scalar
from erlangen.soft import relax
from erlangen.soft.projection import ProjectionPenalty
from erlangen.survey import Rival, Run, Sizes, Split, Training, compare
from erlangen.survey.tables import Table
from erlangen.systems.learning.soft_equivariance.data import Task, short
from erlangen.systems.learning.soft_equivariance.rivals import BLOCKS, Method, Network, hidden_of, residual_prior
from erlangen.training import Objective


@dataclass(frozen=True)
class Budget:
    """What a run spends; strengths are adjusted after the share `adjust` of the epochs, `eps` are more shares of inertia.

    `batch` is that of inertia and cosine.
    """

    seeds: int
    hidden: int
    epochs: int
    cosine_epochs: int
    samples: Sizes
    rates: tuple[float, ...]
    eps: tuple[float, ...]
    draws: int
    adjust: float = 0.25
    batch: tuple[int, int] = (500, 200)


def regulariser(model: Network, task: Task, hidden: int) -> ProjectionPenalty:
    """The projection regulariser on the candidates of a task; on the whole group it only measures."""
    strengths = [0.0, *[task.strength] * (len(task.candidates) - 1)]
    between = hidden_of(hidden, task.candidates[0].space_dim)
    representations = [task.rep_in, *[between] * BLOCKS, task.rep_out]
    return relax(
        model,
        task.symmetries,
        method="projection",
        representations=representations,
        strengths=strengths,
        power=task.power,
    )


def build(task: Task, method: Method, hidden: int, generator: Generator | None = None) -> Network:
    """The network of a method, with its first weights."""
    return Network(task.candidates[0], task.rep_in, task.rep_out, hidden, method, task.kept[0], generator)


def objective_of(task: Task, method: Method) -> Objective:
    """Relative error plus the prior of a method, which is weight decay but for residual pathways."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        prior = residual_prior(model) if method == "rpp" else task.decay / 2 * squares(model)
        return F.mse_loss(model(x), y) + prior / task.square

    return objective


def squares(model: nn.Module) -> Tensor:
    """Sum of the squares of all parameters."""
    return torch.stack([p.square().sum() for p in model.parameters()]).sum()


def regularised(task: Task, budget: Budget, adjusts: bool) -> Callable[..., None]:
    """Training with the regulariser, whose strengths are adjusted once; the network keeps them in `Network.strengths`."""
    objective = objective_of(task, "per")

    def train(model: Network, split: Split, rate: float, training: Training, generator: Generator) -> None:
        penalty = regulariser(model, task, budget.hidden)
        at = round(budget.adjust * training.epochs)
        training.fit(
            model,
            split,
            rate,
            generator,
            objective=lambda model, x, y: objective(model, x, y) + penalty() / task.square,
            callbacks=[penalty.schedule(at, training.epochs)] if adjusts and 1 <= at < training.epochs else [],
        )
        model.strengths = penalty.strengths.tolist()

    return train


def linear_maps(task: Task, method: str) -> str:
    """What the linear maps of a method are."""
    whole = short(task.candidates[0])
    words = {"emlp": whole, "oracle": short(task.kept[0]), "rpp": f"dense + {whole}"}
    return words.get(method, "dense")


def levels(model: Callable[[Tensor], Tensor], task: Task, x: Tensor) -> list[float]:
    """Relative equivariance error for every candidate, on at most 50 inputs; the elements are the same for all models."""
    return [float(equivariance_error(model, one, x[:50], elements=8)) for one in task.symmetries]


def rivals_of(
    task: Task, methods: Sequence[Method], budget: Budget, rates: Mapping[str, float] | None = None
) -> dict[str, Rival]:
    """The methods on a task, with rates that are given for each or those of the budget."""

    def rival(method: Method) -> Rival:
        make, given = functools.partial(build, task, method, budget.hidden), None if rates is None else (rates[method],)
        if method.startswith("per"):
            return Rival(make, fit=regularised(task, budget, method == "per"), rates=given)
        return Rival(make, objective=objective_of(task, method), rates=given)

    return {method: rival(method) for method in methods}


def training_of(epochs: int, batch: int, rates: tuple[float, ...]) -> Training:
    """How all are trained."""
    adam = functools.partial(torch.optim.Adam, fused=True)
    return Training(F.mse_loss, epochs, batch, rates, optimizer=adam, clip=1.0, widen=1, keep="best")


@torch.no_grad()
def relative_error(model: Any, x: Tensor, y: Tensor, generator: Generator) -> dict[str, float]:
    """Mean square error, of targets with mean square one."""
    return {"mse": float(F.mse_loss(model(x), y))}


def trained(
    run: Run[Budget],
    task: Task,
    methods: Sequence[Method],
    epochs: int,
    like: Table | None = None,
    first: int = 0,
) -> Table:
    """The methods on one task.

    Args:
        run: the run.
        task: what they learn.
        methods: which.
        epochs: of each training.
        like: a table whose learning rates they take; without one, rates are chosen.
        first: added to the seeds of the data.
    """
    budget = run.budget

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.samples)
        x, y = task.draw(sizes.total, Generator().manual_seed(first + seed))
        return Split.of(x, y / task.square**0.5, sizes)

    def measure(model: Network, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
        moved, wanted = (part.to(x.device) for part in task.draw(len(x), generator, 1.0))
        with torch.no_grad():
            away = F.mse_loss(model(moved) * task.square**0.5, wanted) / wanted.square().mean()
        found, true = levels(model, task, x), levels(task.answer, task, x)
        row = relative_error(model, x, y, generator) | {"ood": float(away)}
        row["level gap"] = float(np.mean(np.abs(np.subtract(found, true))))
        row |= {f"error {short(group)}": error for group, error in zip(task.candidates, found, strict=True)}
        strengths = {f"c {short(g)}": c for g, c in zip(task.candidates, model.strengths, strict=False)}
        return {"linear maps": linear_maps(task, model.method)} | row | strengths

    rates = None if like is None else {method: float(like[method, "learning rate"][0]) for method in methods}
    how = training_of(epochs, budget.batch[task.rep_out is Scalar], budget.rates)
    return compare(
        task.name,
        rivals_of(task, methods, budget, rates),
        draw,
        how,
        measure,
        best="mse",
        run=run,
        validate=relative_error,
    )
