"""What is measured of augmentation under a constraint: properties, and worlds whose symmetry is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from erlangen.measure import accuracy
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Training, compare, properties
from erlangen.survey.tables import Table, Values
from erlangen.systems.learning.invariance_constrained_augmentation._properties import PROPERTIES
from erlangen.systems.learning.invariance_constrained_augmentation.data import FAMILIES, WORLDS, World, sets
from erlangen.systems.learning.invariance_constrained_augmentation.rivals import (
    ADVERSARIAL,
    EACH,
    METHODS,
    NONE,
    ONE,
    ORACLE,
    RANDOM,
    Classifier,
    by_number,
    by_rate,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (3e-3, 9e-3)
SHARES = (0.6, 0.3, 1.0)
"""Shares of moved samples to choose from."""
DRIFT = 0.2
"""Multipliers count as stationary when they change by at most this share from the third to the last quarter."""


@dataclass(frozen=True)
class Budget:
    """What a run spends; `limits` are to choose from, in units of log(classes), `worlds` is how many of `WORLDS` there are."""

    seeds: int
    worlds: int
    pictures: Sizes
    epochs: int
    limits: tuple[float, ...]
    chains: int
    batch: int = 100


BUDGETS = {
    "smoke": Budget(1, 3, Sizes(100, 20, 100), 1, (0.25,), 5000),
    "full": Budget(3, 5, Sizes(1000, 500, 1500), 72, (0.5, 0.25), 20_000),
    "paper": Budget(3, 5, Sizes(15_000, 5000, 3000), 200, (0.5, 0.25), 20_000, 128),
}


# --- tables ----------------------------------------------------------------------------------------------------------
def measure(model: Classifier, x: Tensor, y: Tensor, generator: Generator) -> dict[str, float]:
    """Accuracy, and what training found."""
    return {"accuracy": accuracy(model, x, y, batch=500), **model.found}


def numbers_of(method: str, world: World, budget: Budget) -> tuple[float, ...]:
    """The numbers that a method may choose from; a single 0 where there is nothing to choose."""
    if method == NONE or (method == ORACLE and world.moved_by is None):
        return (0.0,)
    return budget.limits if method in (ONE, EACH) else SHARES


def learning_rates(run: Run[Budget], world: World, how: Training) -> dict[str, tuple[float, str]]:
    """The learning rate of every method with the first of its numbers, and the rates that were tried, with the first seed."""
    once = replace(run, budget=replace(run.budget, seeds=1))
    rivals = {
        method: Rival(Classifier, fit=by_rate(method, world, numbers_of(method, world, run.budget)[0]))
        for method in METHODS
    }
    draw = partial(sets, world, run.sizes(run.budget.pictures))
    table = compare(world.name, rivals, draw, how, measure, best="accuracy", run=once)
    return {row["model"]: (row["learning rate"], row["rates tried"]) for row in table.rows}


def world_table(run: Run[Budget], world: World) -> Table:
    """All methods in one world: each its learning rate, then its number."""
    budget = run.budget
    how = Training(cross_entropy, budget.epochs, budget.batch, RATES, schedule=None, widen=3)
    # A run that settles nothing chooses nothing.
    rates = learning_rates(run, world, how) if run.settles else dict.fromkeys(METHODS, (RATES[0], f"{RATES[0]:g}"))
    rivals = {
        method: Rival(
            Classifier, fit=by_number(method, world, rates[method][0]), rates=numbers_of(method, world, budget)
        )
        for method in METHODS
    }
    draw = partial(sets, world, run.sizes(budget.pictures))
    table = compare(world.name, rivals, draw, replace(how, widen=0), measure, best="accuracy", run=run)
    for row in (*table.rows, *table.runs):  # what `compare` has chosen here is the number
        row["number"], row["numbers tried"] = row["learning rate"], row["rates tried"]
        row["learning rate"], row["rates tried"] = rates[row["model"]]
    return table


# --- claims ----------------------------------------------------------------------------------------------------------
def stationary(claim: Claim, drift: Values) -> Claim:
    """A claim about multipliers, judged only when they stand still in every seed."""
    if claim.verdict == "not settled" or float(drift.max()) <= DRIFT:
        return claim
    return claim.unsettled(f"multipliers still change by up to {float(drift.max()):.2f} of their size")


def world_claims(tables: list[Table], held_out: Table) -> Part:
    """Claims about worlds of digits and clothes, seed by seed; one world is held out."""
    first, every = tables[0], [*tables, held_out]

    def ahead(ours: str, theirs: str, among: list[Table] = tables) -> Values:
        """Points of accuracy ``[worlds, seeds]``."""
        return np.stack([table[ours, "accuracy"] - table[theirs, "accuracy"] for table in among])

    def column(method: str, name: str) -> Values:
        """A column in all worlds, ``[worlds, seeds]``."""
        return np.stack([table[method, name] for table in every])

    prices = {family: first[EACH, f"nu {family}"] for family in FAMILIES}
    others = np.stack([price for family, price in prices.items() if family not in ("turns", "mirror")])
    named = np.maximum(prices["turns"], prices["mirror"])
    drift = first[EACH, "drift of nu"]
    return Part(
        claims=[
            first.bound(
                "close-to-the-oracle",
                "Points of accuracy by which the oracle is ahead of conditions on each family, the most of all worlds but the "
                "one held out.",
                ahead(ORACLE, EACH).max(0),
                at_most=3,
            ),
            first.bound(
                "ahead-of-random",
                "Points of accuracy by which conditions on each family are ahead of random augmentation, in the second best "
                "world.",
                np.sort(ahead(EACH, RANDOM), 0)[-2],
                at_least=2,
                published="state of the art among automatic augmentation on CIFAR",
            ),
            first.bound(
                "ahead-of-adversarial",
                "Points of accuracy by which conditions on each family are ahead of the worst of four random transformations, "
                "in the mean of all worlds but the one held out.",
                ahead(EACH, ADVERSARIAL).mean(0),
                at_least=0,
            ),
            first.bound(
                "ahead-of-none",
                "Points of accuracy by which one condition is ahead of no augmentation, the least of the worlds with a symmetry.",
                ahead(ONE, NONE, tables[1:]).min(0),
                at_least=2,
            ),
            held_out.bound(
                "held-out-oracle",
                "Points of accuracy by which the oracle is ahead of conditions on each family, in a world that was never looked "
                "at before.",
                ahead(ORACLE, EACH, [held_out])[0],
                at_most=3,
            ),
            held_out.bound(
                "held-out-random",
                "Points of accuracy by which conditions on each family are ahead of random augmentation, in a world that was "
                "never looked at before.",
                ahead(EACH, RANDOM, [held_out])[0],
                at_least=0,
                published="state of the art among automatic augmentation on CIFAR",
            ),
            first.bound(
                "multipliers-are-stationary",
                "Change of the multipliers of upright digits from the third to the last quarter of training, as a share of "
                "their sum.",
                drift,
                at_most=DRIFT,
            ),
            stationary(
                first.same(
                    "multipliers-name-what-costs",
                    "Whether the costliest family of upright digits is neither turns nor mirror images: 0 in every seed if it "
                    "never is, 1 if it is in one; judged when multipliers are stationary.",
                    (others.max(0) > named).astype(float),
                    0.0,
                    tol=0,
                ),
                drift,
            ),
            first.bound(
                "turned-down-again",
                "Sum of the multipliers in the last quarter of training over the largest during it, conditions on each family, "
                "the most of all worlds.",
                column(EACH, "nu, last over largest").max(0),
                at_most=0.5,
                published="augmentation is turned on and off during training",
            ),
            first.bound(
                "constraint-is-met",
                "Mean violation over the limit in the last quarter of training, conditions on each family, the most of all "
                "worlds.",
                column(EACH, "violation / limit").max(0),
                at_most=0.05,
            ),
            first.bound(
                "training-draws-by-the-loss",
                "Mean loss where the chains of training end over that of the law proportional to the loss, in networks trained "
                "with conditions on each family, the least of all worlds.",
                column(EACH, "drawn / law").min(0),
                at_least=0.9,
                published="transformations are drawn by their loss",
            ),
            Claim.not_measurable(
                "published-benchmarks",
                "State of the art among automatic augmentation methods on CIFAR-10, CIFAR-100 and SVHN.",
                published="reported with wide residual networks",
                reason="needs these data sets and days on a GPU; digits and clothes are above",
            ),
        ]
    )


def experiment(run: Run[Budget]) -> Result:
    """The properties and the worlds; those of digits alone at scale smoke and in a dry run.

    Raises:
        DataError: pictures of a world are not there; the message names the package, and nothing was trained yet.
    """
    worlds = WORLDS[:3] if run.dry else WORLDS[: run.budget.worlds]
    for world in worlds:
        sets(world, run.sizes(run.budget.pictures), run.seed)
    tables = [world_table(run, world) for world in worlds]
    parts = [table.part() for table in tables]
    return Result.of(properties(run, *PROPERTIES), *parts, world_claims(tables[:-1], tables[-1]))


def figure(result: Result) -> Figure:
    """Accuracy of every method in every world, and the multipliers of the families."""
    from erlangen import plots

    # Version 0.1.0 named world and method in columns of their own.
    rows = {(row.get("world", row["part"]), row.get("method", row.get("model"))): row for row in result.rows}
    table = {key: row for key, row in rows.items() if "accuracy" in row}
    worlds = list(dict.fromkeys(world for world, _ in table))
    scores = {w: [table[w, method]["accuracy"] / 100 for method in METHODS] for w in worlds}
    costs = {w: [table[w, EACH][f"nu {family}"] for family in FAMILIES] for w in worlds}
    drawn, (left, right) = plots.panels(2)
    plots.barh(scores, list(METHODS), "accuracy", percent=True, ax=left)
    plots.barh(costs, list(FAMILIES), "multiplier: what the invariance costs", ax=right)
    return drawn
