"""What is measured of EqMotion: properties, forecasts of particles, a molecule and people, and the graph of springs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Generator, nn

from erlangen.errors import MissingExtraError
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Table,
    Training,
    compare,
    properties,
)
from erlangen.systems.motion.eqmotion import data
from erlangen.systems.motion.eqmotion._forecasts import (
    CENTRE,
    CONSTANT,
    GNN,
    HORIZONS,
    OURS,
    Widths,
    forecasts,
    guessing_from_coordinates,
    measure,
    network,
    training,
    validate,
)
from erlangen.systems.motion.eqmotion._properties import PROPERTIES
from erlangen.systems.motion.eqmotion.method import EqMotion
from erlangen.systems.motion.eqmotion.rivals import Graph, Shape, Straight

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COORDINATES, MEMORY = "EqMotion, guess from coordinates", "EqMotion, memory 1"
SPRING_RATES = (4e-3, 8e-3)
SMALL = Widths()
SAMPLES = 20
"""Answers for pedestrians, the best of which counts, as published."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        frames: of particles, in and out; `few` those of the molecule and of people.
        trajectories: of the molecule, each of `steps` steps.
        stride: from one piece of a movement to the next, in frames; of pedestrians that of windows which train.
        most: pedestrians of a scene that trains.
        variants: whether a variant of ours is trained on springs too.
    """

    seeds: int
    frames: int
    charges: Sizes
    charge_epochs: int
    springs: Sizes
    spring_epochs: int
    few: int
    trajectories: Sizes
    steps: int
    molecule_epochs: int
    people_stride: int
    people_epochs: int
    captured_stride: int
    captured_epochs: int
    walkers_stride: int
    walkers_epochs: int
    most: int
    batch: int = 50
    spring_batch: int = 100
    widths: Widths = SMALL
    variants: bool = False


BUDGETS = {
    "smoke": Budget(
        seeds=1, frames=8,
        charges=Sizes(100, 10, 30), charge_epochs=4,
        springs=Sizes(50, 10, 50), spring_epochs=4,
        few=5, trajectories=Sizes(2, 1, 1), steps=80, molecule_epochs=4,
        people_stride=16, people_epochs=4,
        captured_stride=80, captured_epochs=2, walkers_stride=40, walkers_epochs=1, most=5,
        batch=25, spring_batch=25,
    ),
    "full": Budget(
        seeds=3, frames=20,
        charges=Sizes(800, 200, 500), charge_epochs=30,
        springs=Sizes(4000, 200, 500), spring_epochs=60,
        few=10, trajectories=Sizes(8, 2, 4), steps=600, molecule_epochs=20,
        people_stride=2, people_epochs=20,
        captured_stride=10, captured_epochs=10, walkers_stride=4, walkers_epochs=20, most=12,
    ),
    "paper": Budget(
        seeds=5, frames=20,
        charges=Sizes(5000, 2000, 2000), charge_epochs=200,
        springs=Sizes(5000, 2000, 2000), spring_epochs=200,
        few=10, trajectories=Sizes(40, 10, 10), steps=4000, molecule_epochs=200,
        people_stride=1, people_epochs=100,
        captured_stride=2, captured_epochs=100, walkers_stride=1, walkers_epochs=60, most=60,
        batch=100, widths=Widths(64, 210, 124, 110, 4), variants=True,
    ),
}  # fmt: skip


# --- tables ----------------------------------------------------------------------------------------------------------
def table_of(run: Run[Budget], part: str, draw: Callable[[int], Split], epochs: int) -> Table:
    """All models on one kind of data."""
    return forecasts(run, part, draw, training(epochs, run.budget.batch), run.budget.widths)


def charges_table(run: Run[Budget]) -> Table:
    """Charged particles."""
    draw = partial(data.particles, "charges", run.sizes(run.budget.charges), run.budget.frames)
    how = training(run.budget.charge_epochs, run.budget.batch)
    return forecasts(run, "charges", draw, how, run.budget.widths, published=True)


def springs_table(run: Run[Budget]) -> Table:
    """Particles with springs, and which of them have one, found without labels; ours predicts from the centre as published."""
    budget, frames = run.budget, run.budget.frames
    shape, widths = Shape(frames, frames, 3, 0), budget.widths
    rivals = {
        CONSTANT: Rival(lambda: Straight(frames), trains=False),
        GNN: Rival(partial(Graph, shape, widths.graph, widths.layers)),
        OURS: Rival(partial(network, shape, widths, extrapolate=False)),
        COORDINATES: Rival(partial(guessing_from_coordinates, shape, widths)),
    }
    if budget.variants:
        rivals[MEMORY] = Rival(partial(network, shape, widths, memory=1), fit=sharpened)
    how = training(budget.spring_epochs, budget.spring_batch, SPRING_RATES)
    draw = partial(data.particles, "springs", run.sizes(budget.springs), frames, interval=200)
    return compare("springs", rivals, draw, how, measure, best="ADE", run=run, validate=validate)


def sharpened(model: EqMotion, split: Split, rate: float, training: Training, generator: Generator) -> None:
    """Training with noise of the categories, which grows from 0 to 1 between three and six tenths of the epochs."""

    def sharpen(epoch: int, _: nn.Module, metrics: dict[str, float]) -> None:
        model.noise = min(1.0, max(0.0, ((epoch + 1) / training.epochs - 0.3) / 0.3))

    training.fit(model, split, rate, generator, callbacks=[sharpen])


def molecule_table(run: Run[Budget]) -> Table:
    """Ethanol; raises `MissingExtraError` where its forces cannot be computed."""
    budget = run.budget
    sizes, steps = (Sizes(1, 1, 1), 8 * budget.few) if run.dry else (budget.trajectories, budget.steps)
    return table_of(run, "molecule", partial(data.ethanol_motion, sizes, steps, budget.few), budget.molecule_epochs)


def people_table(run: Run[Budget]) -> Table:
    """Joints of people."""
    draw = partial(data.people, run.budget.few, stride=run.budget.people_stride)
    return table_of(run, "people", draw, run.budget.people_epochs)


def captured_table(run: Run[Budget], file: str) -> Table:
    """Joints of people of a file of clips."""
    draw = partial(data.captured, file, 10, stride=run.budget.captured_stride)
    return table_of(run, "people, CMU", draw, run.budget.captured_epochs)


@dataclass(frozen=True)
class Scenes:
    """The budget of a table whose seeds are the scenes that test."""

    seeds: int


def walkers_table(run: Run[Budget], folder: str) -> Table:
    """Pedestrians of ETH and UCY: each of five scenes tests once, and stands in the table as a seed."""
    budget, names = run.budget, tuple(data.CROWDS)
    within = replace(run, budget=Scenes(1 if run.scale == "smoke" else len(names)))

    def draw(seed: int) -> Split:
        return data.walkers(folder, names[seed - run.seed], budget.walkers_stride, budget.most)

    how = training(budget.walkers_epochs, budget.batch)
    return forecasts(within, "pedestrians", draw, how, budget.widths, SAMPLES)


# --- claims ----------------------------------------------------------------------------------------------------------
GAINS = {
    "charges": "24.0 % below the best method before it (particles)",
    "molecule": "30.1 % below the best method before it (MD17)",
    "people": "8.6 % below the best method before it (Human3.6M)",
    "pedestrians": "9.2 % below the best method before it; ADE/FDE 0.21/0.35 m, mean of five scenes",
}
PUBLISHED_RATIO = 0.76
"""Of particles, 24.0 % less: charged particles here move by the law of the paper's."""

SKIPPED = {
    "molecule": "EqMotion predicts molecules better than all rivals.",
    "captured": "EqMotion predicts captured people of the CMU database better than all rivals.",
    "pedestrians": "EqMotion has smaller best-of-20 errors on pedestrians of ETH and UCY than all rivals.",
}
ELSEWHERE = (
    Claim.not_measurable(
        "human36m",
        "EqMotion has the smallest joint errors on Human3.6M.",
        published="9.1/20.1/43.7/55.0/73.4/106.9 mm at 80/160/320/400/560/1000 ms",
        reason="needs Human3.6M, which is under licence; captured clips of the package stand in",
    ),
    Claim.not_measurable(
        "springs-found-better-than-nri",
        "EqMotion finds the graph of springs better than neural relational inference and what followed it.",
        published=None,
        reason="their decoders are trained to roll out step by step, which takes hours here; their encoder is measured",
    ),
)


def gain(table: Table, name: str, by: float = 1.0) -> Claim:
    """The claim against all rivals."""
    theirs = [model for model in table.models if model not in (OURS, CENTRE)]
    return table.beats(f"{name}-gain", OURS, theirs, "ADE", by=by, published=GAINS.get(name))


def skipped(name: str, reason: str) -> Part:
    """The claim about data that this run was not given."""
    claim = Claim.not_measurable(f"{name}-gain", SKIPPED[name], published=GAINS.get(name), reason=reason)
    return Part(claims=[claim])


def turned_claims(table: Table) -> tuple[Claim, Claim]:
    """Claims about test scenes that are turned, where scenes have a direction."""
    degrades = table.ratio(
        f"{table.name}-plain-degrades",
        f"ADE of message passing without equivariance on turned test scenes over that on the same as they are, {table.name}.",
        table[GNN, "ADE, rotated"],
        table[GNN, "ADE"],
        above=1,
    )
    theirs = [model for model in table.models if model not in (OURS, CONSTANT)]
    return degrades, table.beats(f"{table.name}-beats-rivals-rotated", OURS, theirs, "ADE, rotated")


def rotated_claim(tables: Sequence[Table]) -> Claim:
    """The claim that trained networks err as much wherever scenes lie."""
    changes = [table[OURS, "ADE, rotated"] / table[OURS, "ADE"] for table in tables]
    text = "Largest relative difference between the ADE of EqMotion on test scenes as they are and turned, of all data."
    return tables[0].same("rotated-equal", text, np.concatenate(changes), 1.0, tol=1e-4)


# --- parts -----------------------------------------------------------------------------------------------------------
def springs_part(table: Table) -> Part:
    """Forecasts of springs, and their graph."""
    found = (
        "Share of pairs for which the categories tell rightly, without labels, whether there is a spring (chance: 0.5)."
    )
    guess = "accuracy of interactions"
    words = "Share of pairs of springs told rightly by a guess from distances over that by one from coordinates, without labels."
    return table.part(
        table.beats("springs-beats-plain", OURS, [CONSTANT, GNN], "ADE"),
        table.bound("springs-found", found, table[OURS, guess], at_least=0.9),
        table.beats("springs-found-better", OURS, COORDINATES, guess, statement=words),
    )


def experiment(run: Run[Budget], mocap: str = "", pedestrians: str = "") -> Result:
    """All parts.

    Args:
        run: scale, seeds and budget.
        mocap: file of captured clips as `erlangen.data.captured_motion` reads it, for one more part, the people of the CMU
            database.
        pedestrians: folder of the recordings of ETH and UCY as `erlangen.data.pedestrians` reads them, for one more part.

    Raises:
        DataError: a file cannot be read.
    """
    charges, springs, people = charges_table(run), springs_table(run), people_table(run)
    tables, parts = [charges, springs, people], []
    try:
        molecule = molecule_table(run)
    except MissingExtraError as error:
        parts.append(skipped("molecule", str(error)))
    else:
        tables.append(molecule)
        parts.append(molecule.part(gain(molecule, "molecule")))
    parts.append(people.part(gain(people, "people"), *turned_claims(people)))
    if mocap:
        tables.append(captured_table(run, mocap))
        parts.append(tables[-1].part(gain(tables[-1], "captured")))
    else:
        parts.append(skipped("captured", "needs the CMU clips, see captured_motion: --set mocap=FILE"))
    if pedestrians:
        tables.append(walkers_table(run, pedestrians))
        parts.append(tables[-1].part(gain(tables[-1], "pedestrians")))
    else:
        parts.append(
            skipped("pedestrians", "needs the recordings, released for research alone: --set pedestrians=FOLDER")
        )
    return Result.of(
        properties(run, *PROPERTIES),
        charges.part(gain(charges, "charges", PUBLISHED_RATIO)),
        springs_part(springs),
        *parts,
        Part(claims=[rotated_claim(tables), *ELSEWHERE]),
    )


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> Figure:
    """Squared errors by horizon for each kind of data, and how often the interactions are guessed rightly."""
    from erlangen import plots

    keys = {share: f"MSE at {share:.0%}" for share in HORIZONS}
    rows = [row for row in result.rows if keys[HORIZONS[0]] in row]
    parts = list(dict.fromkeys(row["part"] for row in rows))
    found = [row for row in result.rows if "accuracy of interactions" in row]
    drawn, (*axes, last) = plots.panels(len(parts) + 1)
    for ax, part in zip(axes, parts, strict=True):
        curves = {
            str(row["model"]): [(share, float(row[key])) for share, key in keys.items()]
            for row in rows
            if row["part"] == part
        }
        label = f"{part}: mean squared error"
        plots.line(curves, "share of the future", label, logy=True, xticks=HORIZONS, ax=ax)
    names = [f"{row['part']}: {row['model']}" for row in found]
    shares = {"accuracy": [float(row["accuracy of interactions"]) for row in found]}
    plots.barh(shares, names, "interactions guessed rightly", percent=True, ax=last)
    return drawn
