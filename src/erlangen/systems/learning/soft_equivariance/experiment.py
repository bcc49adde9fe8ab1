"""What is measured of projection regularisers: inertia and cosine tasks with all methods, and discovery from data alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.measure import equivariance_error
from erlangen.soft import discover, relax
from erlangen.soft.projection import ProjectionPenalty
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
    sweep,
)
from erlangen.survey.tables import Table, Values
from erlangen.systems.learning.soft_equivariance.data import Breaks, Task, cosine_task, inertia_task, respects, short
from erlangen.systems.learning.soft_equivariance.rivals import BLOCKS, Method, Network, hidden_of, residual_prior
from erlangen.training import Objective

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS: tuple[Method, ...] = ("mlp", "emlp", "oracle", "rpp", "per, fixed", "per")
COMPARED: tuple[Method, ...] = ("mlp", "emlp", "rpp", "per")
BASELINES = ("mlp", "emlp", "rpp")
BREAKS = 0.3
"""The share eps of the inertia task that all methods are compared on."""


@dataclass(frozen=True)
class Budget:
    """What a run spends; strengths are adjusted after the share `adjust` of the epochs, `eps` are more shares of inertia."""

    seeds: int
    hidden: int
    epochs: int
    cosine_epochs: int
    samples: Sizes
    rates: tuple[float, ...]
    eps: tuple[float, ...]
    draws: int
    adjust: float = 0.25
    batch: int = 500


BUDGETS = {
    "smoke": Budget(1, 48, 15, 4, Sizes(1000, 100, 600), (2e-2,), (), 1),
    "full": Budget(3, 68, 500, 150, Sizes(1000, 1000, 1000), (5e-3, 1e-2, 3e-3), (0.9,), 2),
    "paper": Budget(5, 128, 8000, 2000, Sizes(1000, 1000, 1000), (1e-3, 3e-3), (0.9, -1.0), 2),
}


# --- properties ------------------------------------------------------------------------------------------------------
def regulariser(model: Network, task: Task, hidden: int) -> ProjectionPenalty:
    """The projection regulariser on the candidates of a task; on the whole group of inertia it only measures."""
    whole = 0.0 if len(task.candidates) > 2 else task.strength
    strengths = [whole, *[task.strength] * (len(task.candidates) - 1)]
    representations = [task.rep_in, *[hidden_of(hidden)] * BLOCKS, task.rep_out]
    return relax(model, task.symmetries, method="projection", representations=representations, strengths=strengths)


def build(task: Task, method: Method, hidden: int, generator: Generator | None = None) -> Network:
    """The network of a method, with its first weights."""
    start = "orthogonal" if method == "mlp" else "equivariant"
    return Network(task.candidates[0], task.rep_in, task.rep_out, hidden, method, task.kept[0], start, generator)


def random_weights(run: Run[Any]) -> tuple[Network, ProjectionPenalty]:
    """A dense network with weights near equivariant ones, in float64, and its regulariser."""
    model = build(inertia_task(BREAKS), "per", 24, run.generator())
    generator = run.generator()
    for parameter in model.double().parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model, regulariser(model, inertia_task(BREAKS), 24)


@exact(tol=1e-12)
def zero_violation_is_exact(run: Run[Any]) -> float:
    """Largest relative equivariance error of a network whose weights are projected onto those of O(2)."""
    task = inertia_task(BREAKS)
    model, penalty = random_weights(run)
    penalty.project(1)
    x, _ = task.draw(50, run.generator(), 0.0)
    return float(equivariance_error(model, task.symmetries[1], x.double(), elements=100, reduce="max", seed=run.seed))


@bound(at_least=1)
def violations_nest(run: Run[Any]) -> float:
    """Violation of O(3) over the largest one of its subgroups O(2), random weights."""
    r = random_weights(run)[1].violations().detach()
    return float(r[0] / r[1:].max())


# --- training --------------------------------------------------------------------------------------------------------
def objective_of(task: Task, method: Method) -> Objective:
    """Relative error plus the prior of a method, which is weight decay but for residual pathways."""
    decay = (2e-5 if len(task.candidates) == 2 else 2e-4) / 2

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        prior = residual_prior(model) if method == "rpp" else decay * squares(model)
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


def trained(run: Run[Budget], task: Task, methods: Sequence[Method], epochs: int) -> Table:
    """The methods on one task."""
    budget = run.budget

    def rival(method: Method) -> Rival:
        make = functools.partial(build, task, method, budget.hidden)
        if method.startswith("per"):
            return Rival(make, fit=regularised(task, budget, method == "per"))
        return Rival(make, objective=objective_of(task, method))

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.samples)
        x, y = task.draw(sizes.total, Generator().manual_seed(seed), 0.0)
        return Split.of(x, y / task.square**0.5, sizes)

    def validate(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> dict[str, float]:
        with torch.no_grad():
            return {"mse": float(F.mse_loss(model(x), y))}

    def measure(model: Network, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        moved, wanted = (part.to(x.device) for part in task.draw(len(x), generator, 1.0))
        with torch.no_grad():
            away = F.mse_loss(model(moved) * task.square**0.5, wanted) / wanted.square().mean()
        row = validate(model, x, y, generator) | {"ood": float(away)}
        for one in task.symmetries:
            row[f"error {short(one.group)}"] = float(equivariance_error(model, one, x[:50], elements=8))
        return row | {f"c {short(g)}": c for g, c in zip(task.candidates, model.strengths, strict=False)}

    adam = functools.partial(torch.optim.Adam, fused=True)
    how = Training(F.mse_loss, epochs, budget.batch, budget.rates, optimizer=adam, clip=1.0, widen=1, keep="best")
    rivals = {method: rival(method) for method in methods}
    return compare(task.name, rivals, draw, how, measure, best="mse", run=run, validate=validate)


def inertia_parts(run: Run[Budget]) -> list[Part]:
    """The inertia tensor, with one axis stretched and as it is."""
    budget = run.budget
    broken = trained(run, inertia_task(BREAKS), METHODS, budget.epochs)
    whole = trained(run, inertia_task(0.0), ("emlp", "per"), budget.epochs)
    axes = [[table["per", f"c O(2) about {axis}"] for axis in "zxy"] for table in (broken, whole)]
    better = "more accurate than all baselines"
    more = [
        trained(run, inertia_task(share), ("rpp", "per"), budget.epochs).part()
        for share in budget.eps
        if share not in (0.0, BREAKS)
    ]
    return [
        broken.part(
            broken.bound(
                "strengths-find-the-axis",
                "Strength of O(2) about z over the larger of the other two, inertia stretched along z.",
                axes[0][0] / np.maximum(axes[0][1], axes[0][2]),
                at_least=10,
                published="the levels of symmetry are discovered correctly",
            ),
            broken.beats("adjusted-over-baselines", "per", BASELINES, "mse", published=better),
            broken.not_worse("adjusted-over-oracle", "per", "oracle", "mse", margin=0.3),
            broken.beats("moved-inputs", "per", BASELINES, "ood", published=better),
        ),
        whole.part(
            whole.bound(
                "strengths-agree-where-all-hold",
                "Largest over smallest strength of the three O(2), plain inertia.",
                np.max(axes[1], 0) / np.min(axes[1], 0),
                at_most=3,
            ),
            whole.not_worse("no-loss-where-all-hold", "per", "emlp", "mse", margin=0.5),
        ),
        *more,
    ]


def cosine_part(run: Run[Budget], breaks: Breaks) -> Part:
    """The cosine similarity, with one of two symmetries broken."""
    table = trained(run, cosine_task(breaks), COMPARED, run.budget.cosine_epochs)
    claim = f"cosine-{breaks}-broken"
    return table.part(table.beats(claim, "per", BASELINES, "mse", published="more accurate than all baselines"))


# --- discovery -------------------------------------------------------------------------------------------------------
def discovery_part(run: Run[Budget]) -> Part:
    """What `erlangen.discover` says of the compact candidates, from data and without a network."""
    tasks = (inertia_task(0.0), inertia_task(BREAKS), cosine_task("rotation"), cosine_task("scaling"))
    samples = max(20, run.sizes(run.budget.samples).test)  # `discover` holds some out
    truths: dict[str, bool] = {}
    methods: dict[str, Callable[[int], Mapping[str, Any]]] = {}
    for task in tasks:
        compact = [s for s in task.symmetries if s.group.is_compact]

        @functools.cache
        def findings(seed: int, task: Task = task, compact: tuple[Any, ...] = tuple(compact)) -> list[Any]:
            seeds = [1000 * seed + k for k in range(run.budget.draws)]
            drawn = [(task.draw(samples, Generator().manual_seed(s), 0.0), s) for s in seeds]
            return [f for pair, s in drawn for f in discover(data=pair, candidates=list(compact), seed=s)]

        for one in compact:
            name = f"{task.name}: {short(one.group)}"
            truths[name] = respects(task, one.group)

            def row(seed: int, one: Any = one, found: Callable[[int], list[Any]] = findings) -> dict[str, float]:
                own = [f for f in found(seed) if f.symmetry == one]
                contradicted = sum(not f.holds for f in own) / len(own)
                return {"contradicted": contradicted, "cost": sum(f.cost for f in own) / len(own)}

            methods[name] = row
    table = sweep("discovery", methods, run=run)

    def share(holds: bool) -> Values:
        return np.mean([table[name, "contradicted"] for name, truth in truths.items() if truth == holds], axis=0)

    missed = "Share of draws in which a broken compact candidate is not contradicted, over four tasks."
    wronged = (
        "Share of draws in which a compact candidate that holds is contradicted, over four tasks; by chance 1 in 40."
    )
    return table.part(
        table.bound("data-tell-what-is-broken", missed, 1 - share(holds=False), at_most=0.1),
        table.bound("data-keep-what-holds", wronged, share(holds=True), at_most=0.1),
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(
    run: Run[Budget],
    hidden: int | None = None,
    epochs: int | None = None,
    cosine_epochs: int | None = None,
    lr: float | None = None,
    seeds: int | None = None,
    eps: tuple[float, ...] | None = None,
) -> Result:
    """Inertia and cosine tasks with all methods, and discovery from the data alone.

    Args:
        run: scale, seeds and budget.
        hidden: channels of the hidden representation.
        epochs, cosine_epochs: of the inertia and the cosine tasks.
        lr: the learning rate of all methods; by default each one's best.
        seeds: how many.
        eps: shares that the inertia task is stretched by, beside 0.3 and 0.
    """
    rates = None if lr is None else (lr,)
    options = {
        "hidden": hidden,
        "epochs": epochs,
        "cosine_epochs": cosine_epochs,
        "rates": rates,
        "seeds": seeds,
        "eps": eps,
    }
    given = {name: value for name, value in options.items() if value is not None}
    run = replace(run, budget=replace(run.budget, **given))
    unmeasured = Claim.not_measurable(
        "motion-forecasting",
        "The regulariser improves forecasts of traffic.",
        published="more accurate than residual pathways",
        reason="needs a large driving data set under licence and a GPU",
    )
    return Result.of(
        properties(run, zero_violation_is_exact, violations_nest),
        *inertia_parts(run),
        cosine_part(run, "rotation"),
        cosine_part(run, "scaling"),
        discovery_part(run),
        Part(claims=[unmeasured]),
    )


def figure(result: Result) -> Figure:
    """Test errors of all methods where one axis breaks O(3), and where nothing does."""
    from erlangen import plots

    tasks = {label: inertia_task(eps).name for label, eps in (("one axis stretched", BREAKS), ("O(3) kept", 0.0))}
    # Version 0.1.0 named task and method in columns of their own.
    rows = [row for row in result.rows if "mse" in row]
    table = {(row.get("task", row["part"]), row.get("method", row.get("model"))): row["mse"] for row in rows}
    errors = {label: [table.get((task, method)) for method in METHODS] for label, task in tasks.items()}
    return plots.barh(errors, METHODS, "relative test error (mean square)", log=True)
