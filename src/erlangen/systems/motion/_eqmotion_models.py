"""The models that are compared on trajectories, their training and what is measured: see `erlangen.systems.motion.eqmotion`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from erlangen.groups import SE, SO
from erlangen.measure import average_displacement, equivariance_error, final_displacement
from erlangen.nn import EGNN, MessagePassing, mlp
from erlangen.numerics import angle, safe_norm
from erlangen.soft import augment
from erlangen.symmetry import Symmetry
from erlangen.systems.motion._eqmotion_network import EqMotion, reasoning_accuracy, straight
from erlangen.systems.motion._eqmotion_tasks import Task
from erlangen.training import fit

CONSTANT, LSTM, GNN, AUGMENTED, EQUIVARIANT, OURS, REASONING = (
    "constant velocity",
    "LSTM",
    "GNN",
    "GNN, augmented",
    "EGNN",
    "EqMotion",
    "EqMotion, memory 1",
)
HORIZONS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the future at which squared errors are measured."""


@dataclass(frozen=True)
class Budget:
    """What every model gets: epochs, those of a trial of a learning rate, and the rates that are tried."""

    epochs: int
    trial_epochs: int
    rates: tuple[float, ...]
    batch_size: int = 50


class Straight(nn.Module):
    """Agents repeat their last step."""

    def __init__(self, future: int) -> None:
        super().__init__()
        self.future = future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        return straight(x["pos"], self.future)


class Recurrent(nn.Module):
    """A long short-term memory that reads each agent by itself, in coordinates about the centre of all."""

    def __init__(self, task: Task, width: int = 70) -> None:
        super().__init__()
        self.reader = nn.LSTM(2 * task.dim + task.in_features, width, batch_first=True)
        self.write = mlp([width, 4 * width, task.future * task.dim])
        self.future = task.future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        kinds = [x["x"][:, :, None].expand(-1, -1, x["pos"].shape[2], -1)] if "x" in x else []
        frames = torch.cat([centred(x["pos"]), x["vel"], *kinds], -1)
        last = self.reader(frames.flatten(0, 1))[0][:, -1]
        moved = self.write(last).reshape(*x["pos"].shape[:2], self.future, x["pos"].shape[-1])
        return straight(x["pos"], self.future) + moved


class Graph(nn.Module):
    """Message passing between agents whose features are all their coordinates about the centre."""

    def __init__(self, task: Task, width: int = 60, layers: int = 2) -> None:
        super().__init__()
        inputs = 2 * task.dim * task.past + task.in_features
        self.net = MessagePassing(inputs, task.future * task.dim, width, layers=layers)
        self.future = task.future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        kinds = [x["x"]] if "x" in x else []
        features = torch.cat([centred(x["pos"]).flatten(2), x["vel"].flatten(2), *kinds], -1)
        moved = self.net(features).unflatten(-1, (self.future, x["pos"].shape[-1]))
        return straight(x["pos"], self.future) + moved


class Equivariant(nn.Module):
    """`EGNN` from the last frame; the past enters by speeds and turning angles.

    Frames of the future are combinations of three vectors, the last velocity, and what the network makes of position and
    velocity, with coefficients from its invariants: one pass for all frames.
    """

    def __init__(self, task: Task, width: int = 56, layers: int = 2) -> None:
        super().__init__()
        inputs = 2 * task.past - 1 + task.in_features
        self.net = EGNN(inputs, 3 * task.future, width, layers=layers, velocity=True, dim=task.dim)
        self.future = task.future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        pos, vel = x["pos"], x["vel"]
        turning = angle(vel[..., 1:, :], vel[..., :-1, :])
        features = torch.cat([safe_norm(vel), turning, *([x["x"]] if "x" in x else [])], -1)
        local, last = centred(pos)[..., -1, :], vel[..., -1, :]
        weights, place, speed = self.net(features, local, last)
        vectors = torch.stack([place - local, speed, last], -2)
        return straight(pos, self.future) + weights.unflatten(-1, (self.future, 3)) @ vectors


def centred(pos: Tensor) -> Tensor:
    """Positions about their mean over agents and frames."""
    return pos - pos.mean((1, 2), keepdim=True)


def make(name: str, task: Task) -> nn.Module:
    """A new model for a task."""
    if name in (OURS, REASONING):
        return EqMotion(
            task.past,
            task.future,
            dim=task.dim,
            features=32,
            channels=32,
            layers=2,
            in_features=task.in_features,
            extrapolate=True,
            memory=1 if name == REASONING else None,
        )
    if name == CONSTANT:
        return Straight(task.future)
    makers: dict[str, Callable[[Task], nn.Module]] = {LSTM: Recurrent, GNN: Graph, AUGMENTED: Graph}
    return makers.get(name, Equivariant)(task)


def symmetry_of(task: Task, group: SE | SO) -> Symmetry:
    """How a group acts on the inputs and outputs of a task."""
    return Symmetry(group, input={key: ACTIONS[key] for key in task.train[0]}, output="points")


ACTIONS = {"pos": "points", "vel": "vectors", "x": "invariant"}


def displacement(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean distance over systems, agents and frames: loss of all models."""
    return average_displacement(prediction, target).mean()


def trained(name: str, task: Task, budget: Budget, rate: float, seed: int, *, trial: bool = False) -> nn.Module:
    """A model trained with Adam and a learning rate that falls to zero along a cosine."""
    torch.manual_seed(seed)
    model = make(name, task)
    if name == CONSTANT:
        return model
    epochs = budget.trial_epochs if trial else budget.epochs
    steps = epochs * -(-len(task.train[1]) // budget.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, cycle_momentum=False)
    optimizer.register_step_post_hook(lambda *_: schedule.step() if schedule.last_epoch < steps - 1 else None)
    fit(
        model,
        *task.train,
        loss=displacement,
        epochs=epochs,
        batch_size=budget.batch_size,
        optimizer=lambda _: optimizer,
        transform=augment(symmetry_of(task, SO(task.dim))) if name == AUGMENTED else None,
        callbacks=[sharpen(epochs)] if name == REASONING else [],
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model


def sharpen(epochs: int) -> Callable[[int, nn.Module, dict[str, float]], None]:
    """A callback of `fit`: noise of the categories grows from 0 to 1 between three and six tenths of the training."""

    def callback(epoch: int, model: nn.Module, metrics: dict[str, float]) -> None:
        cast("EqMotion", model).noise = min(1.0, max(0.0, ((epoch + 1) / epochs - 0.3) / 0.3))

    return callback


def best_rate(name: str, task: Task, budget: Budget, seed: int) -> float:
    """The learning rate of the smallest validation error after a short training."""
    if name == CONSTANT or len(budget.rates) == 1:
        return budget.rates[0]

    def error(rate: float) -> float:
        return score(trained(name, task, budget, rate, seed, trial=True), task.validation)

    return min(budget.rates, key=error)


@torch.no_grad()
def score(model: nn.Module, data: tuple[dict[str, Tensor], Tensor]) -> float:
    """Average displacement error."""
    return float(displacement(model.eval()(data[0]), data[1]))


@torch.no_grad()
def measured(model: nn.Module, task: Task, seed: int) -> dict[str, Any]:
    """Errors on test data, as they are and each system rotated about the origin at random."""
    x, y = task.test
    prediction = model.eval()(x)
    squared = (prediction - y).square().sum(-1).mean((0, 1))
    moving = symmetry_of(task, SO(task.dim))
    turns = moving.group.sample(len(y), generator=Generator().manual_seed(seed), dtype=y.dtype)
    rotated = score(model, (moving.input.act(turns, x), moving.output.act(turns, y)))
    row: dict[str, Any] = {
        "ADE": float(displacement(prediction, y)),
        "FDE": float(final_displacement(prediction, y).mean()),
        "ADE, rotated": rotated,
        **{f"MSE at {share:.0%}": float(squared[round(share * task.future) - 1]) for share in HORIZONS},
        "equivariance error": float(
            equivariance_error(
                model,
                symmetry_of(task, SE(task.dim)),
                {key: value[:10] for key, value in x.items()},
                elements=10,
                reduce="max",
                seed=seed,
            )
        ),
    }
    if isinstance(model, EqMotion) and task.labels is not None:
        row["interaction accuracy"] = reasoning_accuracy(model.interactions(x), task.labels)
    return row


def runs_of(name: str, tasks: Sequence[Task], budget: Budget, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What each seed measures, with its own data; the learning rate is chosen on the first."""
    rate = best_rate(name, tasks[0], budget, seeds[0])
    runs: list[dict[str, Any]] = []
    for task, seed in zip(tasks, seeds, strict=True):
        begin = time.process_time()
        model = trained(name, task, budget, rate, seed)
        seconds = time.process_time() - begin
        runs.append(
            {
                **measured(model, task, seed),
                "training seconds": seconds,
                "learning rate": "none" if name == CONSTANT else f"{rate:g}",
                "parameters": sum(p.numel() for p in model.parameters()),
                "epochs": 0 if name == CONSTANT else budget.epochs,
                "samples": len(task.train[1]),
            }
        )
    return runs
