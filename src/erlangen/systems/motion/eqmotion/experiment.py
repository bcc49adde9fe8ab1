"""What is measured of EqMotion: properties, forecasts of particles, a molecule and people, and the graph of springs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from erlangen.errors import MissingExtraError
from erlangen.groups import SE, SO
from erlangen.measure import average_displacement, equivariance_error, final_displacement
from erlangen.soft import augment
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Training,
    compare,
    properties,
)
from erlangen.survey.tables import Table
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.eqmotion import data
from erlangen.systems.motion.eqmotion._properties import PROPERTIES
from erlangen.systems.motion.eqmotion.method import EqMotion, reasoning_accuracy
from erlangen.systems.motion.eqmotion.rivals import Equivariant, Graph, Recurrent, Shape, Straight
from erlangen.training import one_cycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONSTANT, LSTM, GNN, AUGMENTED, EGNN, OURS = (
    "constant velocity",
    "LSTM",
    "GNN",
    "GNN, augmented",
    "EGNN",
    "EqMotion",
)
CENTRE, MEMORY = "EqMotion, from the centre", "EqMotion, memory 1"
PLAIN = (CONSTANT, LSTM, GNN, AUGMENTED)
"""Rivals that are not built to be equivariant; going on with the last step is, but learns nothing."""
HORIZONS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the future at which squared errors are measured."""
RATES = (5e-3, 2e-3)


class Widths(NamedTuple):
    """Sizes of networks that have about equally many parameters, and layers of those that have several."""

    ours: int = 32
    lstm: int = 70
    graph: int = 60
    egnn: int = 56
    layers: int = 2


SMALL = Widths()


@dataclass(frozen=True)
class Budget:
    """What a run spends. `frames` are those of particles, in and out; `few` those of the molecule and of people."""

    seeds: int
    frames: int
    charges: Sizes
    charge_epochs: int
    springs: Sizes
    spring_epochs: int
    graph: Sizes
    graph_epochs: int
    few: int
    steps: int
    molecule_epochs: int
    stride: int
    people_epochs: int
    captured_stride: int
    captured_epochs: int
    batch: int = 50
    widths: Widths = SMALL


BUDGETS = {
    "smoke": Budget(
        seeds=1, frames=8,
        charges=Sizes(100, 10, 30), charge_epochs=5,
        springs=Sizes(100, 10, 30), spring_epochs=5,
        graph=Sizes(50, 10, 50), graph_epochs=5,
        few=5, steps=400, molecule_epochs=5,
        stride=16, people_epochs=5, captured_stride=80, captured_epochs=5,
        batch=25,
    ),
    "full": Budget(
        seeds=3, frames=20,
        charges=Sizes(800, 200, 500), charge_epochs=30,
        springs=Sizes(800, 200, 500), spring_epochs=20,
        graph=Sizes(4000, 200, 500), graph_epochs=60,
        few=10, steps=6000, molecule_epochs=30,
        stride=2, people_epochs=20, captured_stride=10, captured_epochs=10,
    ),
    "paper": Budget(
        seeds=5, frames=20,
        charges=Sizes(5000, 2000, 2000), charge_epochs=200,
        springs=Sizes(5000, 2000, 2000), spring_epochs=200,
        graph=Sizes(50_000, 10_000, 10_000), graph_epochs=200,
        few=10, steps=80_000, molecule_epochs=200,
        stride=1, people_epochs=100, captured_stride=2, captured_epochs=100,
        batch=100, widths=Widths(64, 210, 124, 110, 4),
    ),
}  # fmt: skip


# --- training and measuring ------------------------------------------------------------------------------------------
def displacement(prediction: Tensor, y: Mapping[str, Tensor]) -> Tensor:
    """Mean distance over systems, agents and frames: loss of all models."""
    return average_displacement(prediction, y["future"]).mean()


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
def measure(model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator) -> dict[str, float]:
    """Errors as the scenes are and each rotated about the origin at random, and how exact the model is."""
    prediction, future = model(x), y["future"]
    squared = (prediction - future).square().sum(-1).mean((0, 1))
    elsewhere, there = turned(x, y, generator=generator)
    bodies = {key: value[:10] for key, value in x.items()}
    motions = Symmetry(SE(future.shape[-1]), input=actions_of(x), output="points")
    row = {
        "ADE": float(displacement(prediction, y)),
        "FDE": float(final_displacement(prediction, future).mean()),
        "ADE, rotated": float(displacement(model(elsewhere), there)),
        **{f"MSE at {share:.0%}": float(squared[round(share * len(squared)) - 1]) for share in HORIZONS},
        "equivariance error": float(equivariance_error(model, motions, bodies, elements=10, reduce="max")),
    }
    if isinstance(model, EqMotion) and "kinds" in y:
        row["accuracy of interactions"] = reasoning_accuracy(model.interactions(x), y["kinds"])
    return row


def validate(model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator) -> dict[str, float]:
    """What chooses the learning rate."""
    with torch.no_grad():
        return {"ADE": float(displacement(model(x), y))}


def network(shape: Shape, widths: Widths, **options: Any) -> EqMotion:
    """The network of the paper, which here starts from straight motion."""
    width, options = widths.ours, {"extrapolate": True} | options
    sizes = {"dim": shape.dim, "in_features": shape.in_features, "layers": widths.layers}
    return EqMotion(shape.past, shape.future, features=width, channels=width, **sizes, **options)


def rivals_of(shape: Shape, widths: Widths) -> dict[str, Rival]:
    """All models of one kind of data."""
    graph = partial(Graph, shape, widths.graph, widths.layers)
    return {
        CONSTANT: Rival(lambda: Straight(shape.future), trains=False),
        LSTM: Rival(partial(Recurrent, shape, widths.lstm)),
        GNN: Rival(graph),
        AUGMENTED: Rival(graph, turned),
        EGNN: Rival(partial(Equivariant, shape, widths.egnn, widths.layers)),
        OURS: Rival(partial(network, shape, widths)),
    }


def forecasts(
    run: Run[Budget], part: str, draw: Callable[[int], Split], epochs: int, names: Sequence[str] | None = None
) -> Table:
    """The models on one kind of data; every seed has its own."""
    scenes = functools.cache(lambda seed: data.few(draw(seed), 4) if run.dry else draw(seed))
    rivals = rivals_of(Shape.of(scenes(run.seed)), run.budget.widths)
    rivals = {name: rivals[name] for name in names or rivals}
    how = Training(displacement, epochs, run.budget.batch, RATES, schedule=one_cycle, clip=1.0)
    return compare(part, rivals, scenes, how, measure, best="ADE", run=run, validate=validate)


# --- parts -----------------------------------------------------------------------------------------------------------
def charges_table(run: Run[Budget]) -> Table:
    """Charged particles."""
    draw = partial(data.particles, "charges", run.sizes(run.budget.charges), run.budget.frames)
    return forecasts(run, "charges", draw, run.budget.charge_epochs)


def springs_table(run: Run[Budget]) -> Table:
    """Particles with springs."""
    draw = partial(data.particles, "springs", run.sizes(run.budget.springs), run.budget.frames)
    return forecasts(run, "springs", draw, run.budget.spring_epochs, (CONSTANT, GNN, EGNN, OURS))


def molecule_table(run: Run[Budget]) -> Table:
    """Ethanol; raises `MissingExtraError` where its forces cannot be computed."""
    frames = run.budget.few
    steps = 80 * frames if run.dry else run.budget.steps
    return forecasts(run, "molecule", partial(data.ethanol_motion, steps, frames), run.budget.molecule_epochs)


def people_table(run: Run[Budget]) -> Table:
    """Joints of people."""
    draw = partial(data.people, run.budget.few, stride=run.budget.stride)
    return forecasts(run, "people", draw, run.budget.people_epochs)


def captured_table(run: Run[Budget], file: str) -> Table:
    """Joints of people of a file of clips."""
    draw = partial(data.captured, file, 10, stride=run.budget.captured_stride)
    return forecasts(run, "people, CMU", draw, run.budget.captured_epochs)


def sharpened(model: EqMotion, split: Split, rate: float, training: Training, generator: Generator) -> None:
    """Training with noise of the categories, which grows from 0 to 1 between three and six tenths of the epochs."""

    def sharpen(epoch: int, _: nn.Module, metrics: dict[str, float]) -> None:
        model.noise = min(1.0, max(0.0, ((epoch + 1) / training.epochs - 0.3) / 0.3))

    training.fit(model, split, rate, generator, callbacks=[sharpen])


def graph_table(run: Run[Budget]) -> Table:
    """Which particles have a spring, found without labels, on frames that are twice as far apart."""
    sizes, frames = run.sizes(run.budget.graph), run.budget.frames
    shape, widths = Shape(frames, frames, 3, 0), run.budget.widths
    rivals = {
        CENTRE: Rival(lambda: network(shape, widths, extrapolate=False)),
        MEMORY: Rival(lambda: network(shape, widths, memory=1), fit=sharpened),
    }
    how = Training(displacement, run.budget.graph_epochs, run.budget.batch, (4e-3,), schedule=one_cycle, clip=1.0)
    draw = partial(data.particles, "springs", sizes, frames, interval=200)
    return compare("graph of springs", rivals, draw, how, measure, best="ADE", run=run, validate=validate)


# --- claims ----------------------------------------------------------------------------------------------------------
def beats_plain(table: Table, name: str, by: float = 1.0) -> Claim:
    """The claim against rivals without equivariance."""
    theirs = [model for model in PLAIN if model in table.models]
    return table.beats(f"{name}-beats-plain", OURS, theirs, "ADE", by=by)


def gain(table: Table, published: str) -> Claim:
    """The claim against all rivals."""
    theirs = [model for model in table.models if model != OURS]
    return table.beats(f"{table.name}-gain", OURS, theirs, "ADE", published=published)


def turned_claims(table: Table) -> tuple[Claim, Claim]:
    """Claims about test scenes that are turned, where scenes have a direction."""
    degrades = table.ratio(
        f"{table.name}-plain-degrades",
        f"ADE of message passing without equivariance on turned test scenes over that on the same as they are, {table.name}.",
        table[GNN, "ADE, rotated"],
        table[GNN, "ADE"],
        above=1.2,
    )
    theirs = [model for model in table.models if model not in (OURS, CONSTANT)]
    return degrades, table.beats(f"{table.name}-beats-rivals-rotated", OURS, theirs, "ADE, rotated")


def unmeasured(name: str, statement: str, reason: str, published: str | None = None) -> Claim:
    """A claim about data that this run could not make."""
    return Claim.not_measurable(name, statement, published=published, reason=reason)


GAINS = {
    "charges": "24.0 % below the best method before it (particles)",
    "molecule": "30.1 % below the best method before it",
    "people": "8.6 % below the best method before it (Human3.6M)",
}
MOLECULE = {
    "molecule-beats-plain": "EqMotion predicts ethanol better than rivals without equivariance.",
    "molecule-gain": "EqMotion predicts ethanol better than all rivals.",
    "molecule-plain-degrades": "Message passing without equivariance is worse on turned scenes of ethanol.",
    "molecule-beats-rivals-rotated": "EqMotion predicts turned scenes of ethanol better than all rivals that learn.",
}
CAPTURED = unmeasured(
    "captured-beats-plain",
    "EqMotion predicts captured people of the CMU database better than rivals without equivariance.",
    "needs the CMU clips, see captured_motion: --set mocap=FILE",
)
ELSEWHERE = (
    unmeasured(
        "pedestrians-gain",
        "EqMotion has the smallest best-of-20 errors on pedestrians of ETH and UCY.",
        "needs the ETH/UCY recordings, which are released for research alone; erlangen.data.pedestrians reads them",
        "9.2 %; ADE/FDE 0.21/0.35 m, mean of five scenes",
    ),
    unmeasured(
        "human36m",
        "EqMotion has the smallest joint errors on Human3.6M.",
        "needs Human3.6M, which is under licence; captured clips of the package stand in",
        "9.1/20.1/43.7/55.0/73.4/106.9 mm at 80/160/320/400/560/1000 ms",
    ),
)


# --- all -------------------------------------------------------------------------------------------------------------
def molecule_part(run: Run[Budget]) -> tuple[Part, list[Table]]:
    """Ethanol, or why there are no forces for it."""
    try:
        table = molecule_table(run)
    except MissingExtraError as error:
        published = {"molecule-gain": GAINS["molecule"]}
        return Part(
            claims=[unmeasured(name, text, str(error), published.get(name)) for name, text in MOLECULE.items()]
        ), []
    return table.part(beats_plain(table, "molecule"), gain(table, GAINS["molecule"]), *turned_claims(table)), [table]


def graph_part(run: Run[Budget]) -> Part:
    """The graph of springs."""
    table = graph_table(run)
    found = (
        "Share of pairs for which the categories tell rightly, without labels, whether there is a spring (chance: 0.5)."
    )
    return table.part(table.bound("springs-found", found, table[MEMORY, "accuracy of interactions"], at_least=0.9))


def rotated_claim(tables: Sequence[Table]) -> Claim:
    """The claim that trained networks err as much wherever scenes lie."""
    changes = [table[OURS, "ADE, rotated"] / table[OURS, "ADE"] for table in tables]
    text = "Largest relative difference between the ADE of EqMotion on test scenes as they are and turned, of all data."
    return tables[0].same("rotated-equal", text, np.concatenate(changes), 1.0, tol=1e-4)


def experiment(run: Run[Budget], mocap: str = "") -> Result:
    """All parts.

    Args:
        run: scale, seeds and budget.
        mocap: file of captured clips as `erlangen.data.captured_motion` reads it, for one more part, the people of the CMU
            database.

    Raises:
        DataError: the file cannot be read.
    """
    charges, springs, people = charges_table(run), springs_table(run), people_table(run)
    molecule, tables = molecule_part(run)
    captured = captured_table(run, mocap) if mocap else None
    tables = [charges, springs, people, *tables, *([] if captured is None else [captured])]
    return Result.of(
        properties(run, *PROPERTIES),
        charges.part(beats_plain(charges, "charges", 0.8), gain(charges, GAINS["charges"])),
        springs.part(beats_plain(springs, "springs", 0.8)),
        molecule,
        people.part(beats_plain(people, "people"), gain(people, GAINS["people"]), *turned_claims(people)),
        Part(claims=[CAPTURED]) if captured is None else captured.part(beats_plain(captured, "captured")),
        graph_part(run),
        Part(claims=[rotated_claim(tables), *ELSEWHERE]),
    )


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> Figure:
    """Squared errors by horizon for each kind of data, and how often the interactions are guessed rightly."""
    from erlangen import plots

    keys = {share: f"MSE at {share:.0%}" for share in HORIZONS}
    forecasts = [row for row in result.rows if keys[HORIZONS[0]] in row]
    parts = list(dict.fromkeys(row["part"] for row in forecasts))
    accuracies = {"accuracy of interactions", "interaction accuracy"}
    found = [row for row in result.rows if accuracies & set(row)]
    drawn, (*axes, last) = plots.panels(len(parts) + 1)
    for ax, part in zip(axes, parts, strict=True):
        curves = {
            str(row["model"]): [(share, float(row[key])) for share, key in keys.items()]
            for row in forecasts
            if row["part"] == part
        }
        label = f"{part}: mean squared error"
        plots.line(curves, "share of the future", label, logy=True, xticks=HORIZONS, ax=ax)
    names = [f"{row['part']}: {row['model']}" for row in found]
    shares = {"accuracy": [float(next(row[key] for key in accuracies & set(row))) for row in found]}
    plots.barh(shares, names, "interactions guessed rightly", percent=True, ax=last)
    return drawn
