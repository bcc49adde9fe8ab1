"""How forecasts of motion are trained and measured, and the models that are compared."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from erlangen.groups import SE, SO
from erlangen.measure import average_displacement, best_of, equivariance_error, final_displacement
from erlangen.soft import augment
from erlangen.survey import Rival, Run, Split, Table, Training, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.eqmotion import data
from erlangen.systems.motion.eqmotion.method import EqMotion, reasoning_accuracy
from erlangen.systems.motion.eqmotion.rivals import (
    Equivariant,
    Graph,
    PlainReasoning,
    Recurrent,
    Shape,
    Straight,
)
from erlangen.training import one_cycle

CONSTANT, LSTM, GNN, AUGMENTED, EGNN, OURS = (
    "constant velocity",
    "LSTM",
    "GNN",
    "GNN, augmented",
    "EGNN",
    "EqMotion",
)
CENTRE = "EqMotion, from the centre"
HORIZONS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the future at which squared errors are measured."""
RATES = (5e-3, 1e-2)
"""Learning rates that all begin with."""
BLOCK = 100
"""Scenes that are predicted at once."""


class Widths(NamedTuple):
    """Sizes of networks that have about equally many parameters, and layers of those that have several."""

    ours: int = 32
    lstm: int = 70
    graph: int = 60
    egnn: int = 56
    layers: int = 2


# --- errors ----------------------------------------------------------------------------------------------------------
def displacement(prediction: Tensor, y: Mapping[str, Tensor]) -> Tensor:
    """Mean distance over systems, agents and frames, of the best answer of several for each agent: loss of all models."""
    return displacements(prediction, y)[0]


def displacements(prediction: Tensor, y: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean distance over all frames (ADE), and in the last (FDE), over all agents; of several answers the best of each agent."""
    future, mask = y["future"], y.get("mask")
    if prediction.dim() > future.dim():
        errors = best_of(prediction.transpose(0, 1), future, mask)
    else:
        errors = average_displacement(prediction, future, mask), final_displacement(prediction, future, mask)
    if mask is None:
        return errors[0].mean(), errors[1].mean()
    agents = mask.sum(-1)
    ade, fde = ((error * agents).sum() / agents.sum() for error in errors)
    return ade, fde


def actions_of(tree: Mapping[str, Tensor]) -> dict[str, str]:
    """How motions of space act on scenes, or on their future."""
    known = {"pos": "points", "vel": "vectors", "future": "points"}
    return {key: known.get(key, "invariant") for key in tree}


def turned(
    x: dict[str, Tensor], y: dict[str, Tensor], *, generator: Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every scene after its own random rotation."""
    turns = Symmetry(SO(x["pos"].shape[-1]), input=actions_of(x), output=actions_of(y))
    return augment(turns)(x, y, generator=generator)


@torch.no_grad()
def predicted(model: nn.Module, x: dict[str, Tensor]) -> Tensor:
    """Answers to all scenes, some at a time: crowds have many pairs."""
    count = len(x["pos"])
    blocks = [{key: leaf[k : k + BLOCK] for key, leaf in x.items()} for k in range(0, count, BLOCK)]
    return torch.cat([model(block) for block in blocks])


@torch.no_grad()
def measure(model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator) -> dict[str, float]:
    """Errors as the scenes are and each rotated about the origin at random, and how exact the model is."""
    prediction, future = predicted(model, x), y["future"]
    ade, fde = displacements(prediction, y)
    elsewhere, there = turned(x, y, generator=generator)
    row = {
        "ADE": float(ade),
        "FDE": float(fde),
        "ADE, rotated": float(displacement(predicted(model, elsewhere), there)),
    }
    if prediction.shape == future.shape:
        squared = (prediction - future).square().sum(-1).mean((0, 1))
        row |= {f"MSE at {share:.0%}": float(squared[round(share * len(squared)) - 1]) for share in HORIZONS}
    bodies = {key: value[:10] for key, value in x.items()}
    motions = Symmetry(SE(future.shape[-1]), input=actions_of(x), output="points")
    row["equivariance error"] = float(equivariance_error(model, motions, bodies, elements=10, reduce="max"))
    if isinstance(model, EqMotion) and "kinds" in y:
        row["accuracy of interactions"] = reasoning_accuracy(model.interactions(x), y["kinds"])
    return row


def validate(model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator) -> dict[str, float]:
    """What chooses the learning rate."""
    return {"ADE": float(displacement(predicted(model, x), y))}


# --- models ----------------------------------------------------------------------------------------------------------
def network(shape: Shape, widths: Widths, **options: Any) -> EqMotion:
    """The network of the paper; by default it starts from straight motion, as all of its rivals do."""
    width, options = widths.ours, {"extrapolate": True, "samples": shape.samples} | options
    sizes = {"dim": shape.dim, "in_features": shape.in_features, "layers": widths.layers}
    return EqMotion(shape.past, shape.future, features=width, channels=width, **sizes, **options)


def guessing_from_coordinates(shape: Shape, widths: Widths) -> EqMotion:
    """The network of the paper, predicting from the centre, with `PlainReasoning`."""
    model = network(shape, widths, extrapolate=False)
    model.reasoning = PlainReasoning(widths.ours, widths.ours, model.categories, shape.dim)
    return model


def rivals_of(shape: Shape, widths: Widths, *, masked: bool = False) -> dict[str, Rival]:
    """All models of one kind of data."""
    graph = partial(Graph, shape, widths.graph, widths.layers)
    return {
        CONSTANT: Rival(lambda: Straight(shape.future, shape.samples), trains=False),
        LSTM: Rival(partial(Recurrent, shape, widths.lstm)),
        GNN: Rival(graph),
        AUGMENTED: Rival(graph, turned),
        EGNN: Rival(partial(Equivariant, shape, widths.egnn, widths.layers)),
        OURS: Rival(partial(network, shape, widths, masked=masked)),
    }


def training(epochs: int, batch: int, rates: Sequence[float] = RATES, widen: int = 3) -> Training:
    """How all are trained."""
    return Training(displacement, epochs, batch, tuple(rates), schedule=one_cycle, clip=1.0, widen=widen)


def forecasts(
    run: Run[Any],
    part: str,
    draw: Callable[[int], Split],
    how: Training,
    widths: Widths,
    samples: int = 1,
    *,
    published: bool = False,
) -> Table:
    """All models on one kind of data, of which `draw` gets a seed; ours also predicting from the centre, as `published`."""
    scenes = functools.cache(lambda seed: data.few(draw(seed), 4) if run.dry else draw(seed))
    first = scenes(run.seed)
    shape = Shape.of(first, samples)
    rivals = rivals_of(shape, widths, masked="mask" in first.train[0])
    if published:
        rivals[CENTRE] = Rival(partial(network, shape, widths, extrapolate=False))
    return compare(part, rivals, scenes, how, measure, best="ADE", run=run, validate=validate)
