"""What is measured of projection regularisers: inertia and cosine tasks with all methods, and discovery from data alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.measure import equivariance_error, relative_change
from erlangen.soft import discover
from erlangen.soft.projection import ProjectionPenalty
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Run,
    Sizes,
    Split,
    bound,
    compare,
    exact,
    largest,
    properties,
    sweep,
)
from erlangen.survey.tables import Table, Values
from erlangen.systems.learning.soft_equivariance._training import (
    Budget,
    build,
    linear_maps,
    regulariser,
    relative_error,
    rivals_of,
    trained,
    training_of,
)
from erlangen.systems.learning.soft_equivariance.data import (
    AHEAD,
    Breaks,
    Task,
    cosine_task,
    inertia_task,
    respects,
    short,
    walks,
    walks_task,
)
from erlangen.systems.learning.soft_equivariance.rivals import Method, Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS: tuple[Method, ...] = ("mlp", "mlp, same start", "emlp", "oracle", "rpp", "per, fixed", "per")
COMPARED: tuple[Method, ...] = ("mlp", "emlp", "oracle", "rpp", "per")
BASELINES = ("mlp", "emlp", "rpp")
BREAKS, STRONGLY = 0.3, 0.9
"""Shares eps that the inertia tensor is stretched by."""
UNSEEN = 0.6, 0
"""Share and axis of the inertia tensor on which nothing was chosen."""
BETTER = "more accurate than all baselines"
FOUND = "the levels of symmetry are discovered correctly"


BUDGETS = {
    "smoke": Budget(1, 48, 10, 4, Sizes(600, 100, 300), (1e-2,), (), 1),
    "full": Budget(3, 68, 400, 200, Sizes(1000, 1000, 1000), (3e-3, 1e-2), (), 2),
    "paper": Budget(5, 128, 8000, 2000, Sizes(1000, 1000, 1000), (1e-3, 3e-3), (-1.0,), 2),
}


# --- properties ------------------------------------------------------------------------------------------------------
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
    x, _ = task.draw(50, run.generator())
    return float(equivariance_error(model, task.symmetries[1], x.double(), elements=100, reduce="max", seed=run.seed))


@bound(at_least=1)
def violations_nest(run: Run[Any]) -> float:
    """Violation of O(3) over the largest one of its subgroups O(2), random weights."""
    r = random_weights(run)[1].violations().detach()
    return float(r[0] / r[1:].max())


@exact(tol=1e-5)
@torch.no_grad()
def starts_are_one_function(run: Run[Any]) -> float:
    """Largest relative difference of oracle and regularised networks from "emlp" before training, with float32 weights."""
    worst = 0.0
    for task in (inertia_task(BREAKS), cosine_task("rotation"), cosine_task("scaling")):
        x = task.draw(50, run.generator())[0].double()
        # The weights have a generator each, so that all three networks draw the same ones.
        nets = [build(task, method, 24, run.generator()).double() for method in ("emlp", "oracle", "per")]
        worst = largest(worst, *(relative_change(net(x), nets[0](x)) for net in nets[1:]))
    return worst


# --- training --------------------------------------------------------------------------------------------------------
def lead(table: Table, axis: str = "z") -> Values:
    """Strength of O(2) about the stretched axis over the larger of the other two."""
    c = {other: table["per", f"c O(2) about {other}"] for other in "xyz"}
    return c.pop(axis) / np.maximum(*c.values())


def inertia_parts(run: Run[Budget]) -> list[Part]:
    """The inertia tensor: one axis stretched a little and strongly, as it is, and stretched along another axis."""
    epochs = run.budget.epochs
    broken = trained(run, inertia_task(BREAKS), METHODS, epochs)
    strongly = trained(run, inertia_task(STRONGLY), ("rpp", "per"), epochs, broken)
    whole = trained(run, inertia_task(0.0), ("emlp", "per"), epochs)
    unseen = trained(run, inertia_task(*UNSEEN), COMPARED, epochs, broken, first=1000)
    spreads = [
        np.max(c, 0) / np.min(c, 0)
        for c in ([table["per", f"c O(2) about {axis}"] for axis in "xyz"] for table in (whole, broken))
    ]
    one = np.ones(len(run.seeds))
    stretched = "Strength of O(2) about the stretched axis over the larger of the other two"
    more = [
        trained(run, inertia_task(share), ("rpp", "per"), epochs, broken).part()
        for share in run.budget.eps
        if share not in (0.0, BREAKS, STRONGLY)
    ]
    return [
        broken.part(
            broken.ratio(
                "strengths-find-the-axis",
                f"{stretched}, inertia stretched along z by 0.3.",
                lead(broken),
                one,
                above=1,
                published=FOUND,
            ),
            broken.beats("adjusted-over-baselines", "per", BASELINES, "mse", published=BETTER),
            broken.not_worse("adjusted-over-oracle", "per", "oracle", "mse"),
            broken.beats("adjusting-helps", "per", "per, fixed", "mse"),
            broken.beats("not-the-start-alone", "per", "mlp, same start", "mse"),
            broken.beats("moved-inputs", "per", BASELINES, "ood", published=BETTER),
            broken.beats("levels-found", "per", BASELINES, "level gap", published=FOUND),
        ),
        strongly.part(
            strongly.beats("strongly-broken-over-rpp", "per", "rpp", "mse", published=BETTER),
            strongly.ratio(
                "strengths-follow-the-level",
                f"{stretched}, inertia stretched by 0.9, over the same where it is stretched by 0.3.",
                lead(strongly),
                lead(broken),
                above=1,
                published=FOUND,
            ),
        ),
        whole.part(
            whole.ratio(
                "strengths-agree-where-all-hold",
                "Largest over smallest strength of the three O(2), plain inertia, over the same of inertia stretched by 0.3.",
                spreads[0],
                spreads[1],
                below=1,
                published=FOUND,
            ),
            whole.not_worse("no-loss-where-all-hold", "per", "emlp", "mse"),
        ),
        unseen.part(
            unseen.ratio(
                "unseen-strengths-find-the-axis",
                f"{stretched}, inertia stretched along x by 0.6.",
                lead(unseen, "x"),
                one,
                above=1,
                published=FOUND,
            ),
            unseen.beats("unseen-over-baselines", "per", BASELINES, "mse", published=BETTER),
            unseen.not_worse("unseen-over-oracle", "per", "oracle", "mse"),
            unseen.beats("unseen-levels-found", "per", BASELINES, "level gap", published=FOUND),
        ),
        *more,
    ]


def cosine_part(run: Run[Budget], breaks: Breaks) -> Part:
    """The cosine similarity, with one of two symmetries broken."""
    task = cosine_task(breaks)
    table = trained(run, task, COMPARED, run.budget.cosine_epochs)
    kept, other = sorted(task.candidates[1:], key=lambda group: group not in task.kept)
    claim = f"cosine-{breaks}-broken"
    return table.part(
        table.beats(claim, "per", BASELINES, "mse", published=BETTER),
        table.not_worse(f"{claim}-oracle", "per", "oracle", "mse"),
        table.ratio(
            f"{claim}-strengths",
            f"Strength of {short(kept)}, which the data keep, over that of {short(other)}: {task.name}.",
            table["per", f"c {short(kept)}"],
            table["per", f"c {short(other)}"],
            above=1,
            published=FOUND,
        ),
        table.beats(f"{claim}-levels", "per", BASELINES, "level gap", published=FOUND),
    )


def walks_part(run: Run[Budget], folder: str) -> Part:
    """Forecasts of pedestrians, each seed in a recording that was not trained on."""
    task, budget = walks_task(), run.budget
    square = float(walks(folder, run.seed, run.sizes(budget.samples)).train[1].square().mean())
    task.__dict__["square"] = square  # of the data, where there is no function

    def draw(seed: int) -> Split:
        split = walks(folder, seed, run.sizes(budget.samples))
        return Split(*((x / square**0.5, y / square**0.5) for x, y in split))

    @torch.no_grad()
    def measure(model: Network, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
        steps = (square**0.5 * (model(x) - y)).unflatten(1, (AHEAD, 2)).norm(dim=-1)
        row = {"ade": float(steps.mean()), "fde": float(steps[:, -1].mean())} | relative_error(model, x, y, generator)
        strengths = {f"c {short(g)}": c for g, c in zip(task.candidates, model.strengths, strict=False)}
        return {"linear maps": linear_maps(task, model.method)} | row | strengths

    how = training_of(budget.epochs, budget.batch[1], budget.rates)
    methods: tuple[Method, ...] = ("mlp", "emlp", "rpp", "per")
    table = compare(
        task.name,
        rivals_of(task, methods, budget),
        draw,
        how,
        measure,
        best="mse",
        run=run,
        validate=relative_error,
    )
    return table.part(
        table.beats("pedestrians-over-rpp", "per", "rpp", "ade", published="more accurate than residual pathways"),
        table.beats("pedestrians-over-baselines", "per", BASELINES, "ade", published=BETTER),
    )


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
            drawn = [(task.draw(samples, Generator().manual_seed(s)), s) for s in seeds]
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
    pedestrians: str = "",
) -> Result:
    """Inertia and cosine tasks with all methods, and discovery from the data alone.

    Args:
        run: scale, seeds and budget.
        hidden: channels of the hidden representation.
        epochs, cosine_epochs: of the inertia and the cosine tasks.
        lr: the learning rate of all methods; by default each one's best.
        seeds: how many.
        eps: shares that the inertia task is stretched by, beside 0.3, 0.9 and 0.
        pedestrians: a folder of recordings of the ETH/UCY kind (``*.txt``), which are forecast, too.
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
        reason="needs a large driving data set under licence and a GPU; with a copy of ETH/UCY, the option pedestrians "
        "measures forecasts here",
    )
    return Result.of(
        properties(run, zero_violation_is_exact, violations_nest, starts_are_one_function),
        *inertia_parts(run),
        cosine_part(run, "rotation"),
        cosine_part(run, "scaling"),
        discovery_part(run),
        *([walks_part(run, pedestrians)] if pedestrians else []),
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
