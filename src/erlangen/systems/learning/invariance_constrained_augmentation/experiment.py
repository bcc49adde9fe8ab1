"""What is measured of augmentation under a constraint: the sampler, convex problems, worlds whose symmetry is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import chisquare
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.groups import Cyclic, Dihedral, Group
from erlangen.measure import accuracy
from erlangen.soft import ConstrainedAugment, augment, metropolis
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Training,
    bound,
    compare,
    exact,
    properties,
)
from erlangen.survey.tables import Table, Values
from erlangen.systems.learning.invariance_constrained_augmentation.data import (
    FAMILIES,
    WORLDS,
    RandomFamily,
    Sometimes,
    Transform,
    World,
    sets,
)
from erlangen.training import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE, DUAL_RATE = 2e-3, 0.05
SHARES = (0.6, 0.3, 1.0)
"""Shares of moved samples to choose from."""
NONE, RANDOM, ORACLE, ADVERSARIAL, ONE, EACH = (
    "none",
    "random",
    "oracle",
    "adversarial",
    "constrained",
    "constrained, each",
)
METHODS = (NONE, RANDOM, ORACLE, ADVERSARIAL, ONE, EACH)


@dataclass(frozen=True)
class Budget:
    """What a run spends; `limits` are to choose from, in units of log(classes), `worlds` is how many of `WORLDS` there are."""

    seeds: int
    worlds: int
    pictures: Sizes
    epochs: int
    limits: tuple[float, ...]
    chains: int
    batch: int = 50


BUDGETS = {
    "smoke": Budget(1, 3, Sizes(100, 20, 100), 1, (0.25,), 5000),
    "full": Budget(3, 4, Sizes(1000, 500, 2000), 72, (0.25, 0.5), 20_000),
    "paper": Budget(3, 4, Sizes(5000, 1000, 2000), 200, (0.25, 0.5, 0.1), 20_000, 128),
}


# --- properties ------------------------------------------------------------------------------------------------------
def law_of_the_ends(group: Group, chains: int, seed: int) -> float:
    """p-value of the ends of chains of 50 steps against the law proportional to a fixed loss."""
    generator = Generator().manual_seed(seed)
    g = group.sample((50, chains), generator=generator)
    loss = torch.rand(int(group.order), generator=generator, dtype=torch.float64) + 0.05
    ends = g.gather(0, metropolis(loss[g], generator)[None])[0]
    counts = torch.bincount(ends, minlength=len(loss)).double()
    return float(chisquare(counts.numpy(), (chains * loss / loss.sum()).numpy()).pvalue)


def excess(chains: int, seed: int) -> float:
    """Error of ``E_lambda[l] - E_pi[l] = Var_pi(l) / E_pi[l]`` for ``l = 1 + cos``, in standard errors."""
    generator = Generator().manual_seed(seed)
    loss = 1 + torch.cos(2 * math.pi * torch.rand(60, chains, generator=generator, dtype=torch.float64))
    ends = loss.gather(0, metropolis(loss, generator)[None])[0]
    return float((ends.mean() - 1.5).abs() / (ends.std() / math.sqrt(chains)))


class _Line(nn.Module):
    """``w x``."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def convex_errors(limit: float) -> tuple[float, float]:
    """Errors of w and of the multiplier for min (w - 1)^2 with (w + 1)^2 <= limit: w = sqrt(limit) - 1."""

    def negative(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        return -x, y

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(1)

    model, x = _Line(), torch.ones(2, 1, dtype=torch.float64)
    bound = augment(negative, policy="constrained", model=model, loss=squared, limit=limit, tries=1, dual_lr=0.02)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(1200):
        optimizer.zero_grad()
        bound.objective(model, x, x).backward()
        optimizer.step()
    root = math.sqrt(limit)
    price = (2 - root) / root
    return abs(float(model.w.detach()) - (root - 1)), abs(float(bound.multipliers) - price) / price


@bound(at_least=0.01)
def sampler_law(run: Run[Any]) -> float:
    """p-value of the sampler's ends on C_8 and D_4 against the law proportional to the loss, the smaller one."""
    return min(law_of_the_ends(g, run.budget.chains, run.seed + k) for k, g in enumerate((Cyclic(8), Dihedral(4))))


@bound(at_most=4)
def mean_loss_of_the_law(run: Run[Any]) -> float:
    """Error of E_lambda[l] - E_pi[l] = Var_pi(l) / E_pi[l], in standard errors."""
    return excess(run.budget.chains, run.seed)


@exact(tol=1e-3)
def convex_optimum(run: Run[Any]) -> float:
    """Error of the optimum of a convex problem."""
    return convex_errors(1.0)[0]


@exact(tol=0.02)
def multiplier_is_the_price(run: Run[Any]) -> float:
    """Relative error of the multiplier against the derivative of the optimal loss by the limit."""
    return convex_errors(1.0)[1]


@exact(tol=0)
def slack_changes_nothing(run: Run[Any]) -> float:
    """Largest difference of the weights after training under a condition that always holds, and without it."""
    x, y = sets(WORLDS[0], Sizes(100, 1, 1), run.seed).train
    weights: list[Tensor] = []
    for constrained in (True, False):
        torch.manual_seed(run.seed)
        model = Classifier()
        bound = augment(list(FAMILIES.values()), policy="constrained", model=model, loss=each_loss, limit=1e6)
        objective = bound.objective if constrained else None
        fit(model, x, y, loss=cross_entropy, objective=objective, epochs=2, seed=run.seed, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return float((weights[0] - weights[1]).abs().max())


PROPERTIES = (sampler_law, mean_loss_of_the_law, convex_optimum, multiplier_is_the_price, slack_changes_nothing)


# --- training --------------------------------------------------------------------------------------------------------
class Classifier(nn.Sequential):
    """A small CNN on images ``[B, 1, 28, 28]``; `found` says what its training tells of multipliers and slacks."""

    def __init__(self) -> None:
        super().__init__(
            *(
                nn.Conv2d(1, 16, 5, stride=2, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
            ),
            *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
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
    return augment(families, policy="constrained", limit=limit, dual_lr=DUAL_RATE, seed=seed, **options)


def trainer(method: str, world: World) -> Callable[..., None]:
    """Training with a method; what `compare` chooses is its number, and the learning rate is the same for all."""

    def train(model: Classifier, split: Split, number: float, training: Training, generator: Generator) -> None:
        seed, epochs = generator.initial_seed(), training.epochs
        transform = policy(method, number, world, model, seed)
        late: list[tuple[Tensor, Tensor]] = []

        def watch(epoch: int, _: nn.Module, __: dict[str, float]) -> None:
            """Multipliers and slacks of the last quarter."""
            if isinstance(transform, ConstrainedAugment) and epoch >= epochs - max(1, epochs // 4):
                late.append((transform.multipliers.clone(), transform.slacks.clone()))

        training.fit(model, split, RATE, generator, transform=transform, callbacks=[watch])
        if late:
            nu, slack = (torch.stack(values).mean(0) for values in zip(*late, strict=True))
            names = list(FAMILIES) if len(nu) > 1 else ["all"]
            model.found = {f"nu {name}": float(value) for name, value in zip(names, nu, strict=True)}
            model.found["violation / limit"] = float(slack.clamp(min=0).mean()) / (number * math.log(10))

    return train


def measure(model: Classifier, x: Tensor, y: Tensor, generator: Generator) -> dict[str, float]:
    """Accuracy, multipliers and slacks."""
    return {"accuracy": accuracy(model, x, y, batch=500), **model.found}


def numbers_of(method: str, world: World, budget: Budget) -> tuple[float, ...]:
    """The numbers that a method may choose from; a single 0 where there is nothing to choose."""
    if method == NONE or (method == ORACLE and world.moved_by is None):
        return (0.0,)
    return budget.limits if method in (ONE, EACH) else SHARES


def world_table(run: Run[Budget], world: World) -> Table:
    """All methods in one world."""
    budget = run.budget
    rivals = {
        method: Rival(Classifier, fit=trainer(method, world), rates=numbers_of(method, world, budget))
        for method in METHODS
    }
    draw = partial(sets, world, run.sizes(budget.pictures))
    how = Training(cross_entropy, budget.epochs, budget.batch, (RATE,), schedule=None, widen=0)
    table = compare(world.name, rivals, draw, how, measure, best="accuracy", run=run)
    for row in (*table.rows, *table.runs):  # what was chosen is no learning rate
        row["number"], row["numbers tried"] = row["learning rate"], row["rates tried"]
        row["learning rate"], row["rates tried"] = RATE, f"{RATE:g}"
    return table


# --- claims ----------------------------------------------------------------------------------------------------------
def world_claims(tables: list[Table]) -> Part:
    """Claims about worlds of digits and clothes, seed by seed."""
    first = tables[0]

    def ahead(ours: str, theirs: str, among: list[Table] = tables) -> Values:
        """Points of accuracy ``[worlds, seeds]``."""
        return np.stack([table[ours, "accuracy"] - table[theirs, "accuracy"] for table in among])

    prices = {family: first[EACH, f"nu {family}"] for family in FAMILIES}
    others = np.stack([price for family, price in prices.items() if family not in ("turns", "mirror")])
    named = np.maximum(prices["turns"], prices["mirror"])
    return Part(
        claims=[
            first.bound(
                "close-to-the-oracle",
                "Points of accuracy by which the oracle is ahead of conditions on each family, the most of all worlds.",
                ahead(ORACLE, EACH).max(0),
                at_most=1,
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
                "ahead-of-none",
                "Points of accuracy by which one condition is ahead of no augmentation, the least of the worlds with a symmetry.",
                ahead(ONE, NONE, tables[1:]).min(0),
                at_least=2,
            ),
            first.same(
                "multipliers-name-what-costs",
                "Whether the costliest family of upright digits is neither turns nor mirror images: 0 in every seed if it never "
                "is, 1 if it is in one.",
                (others.max(0) > named).astype(float),
                0.0,
                tol=0,
            ),
            first.bound(
                "constraint-is-met",
                "Mean violation over the limit at the end, conditions on each family, the most of all worlds.",
                np.stack([table[EACH, "violation / limit"] for table in tables]).max(0),
                at_most=0.05,
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
        DataError: pictures of a world are not there; the message names the package.
    """
    worlds = WORLDS[:3] if run.dry else WORLDS[: run.budget.worlds]
    tables = [world_table(run, world) for world in worlds]
    return Result.of(properties(run, *PROPERTIES), *(table.part() for table in tables), world_claims(tables))


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
