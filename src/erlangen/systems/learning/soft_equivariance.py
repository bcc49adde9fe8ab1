"""Soft equivariance: pull a dense network towards several symmetries, and let the data say which ones it keeps.

Kim, Lee, Yang and Lee (ICML 2023) regularise with projections. Each linear layer of a dense network goes between fixed
representations, so for every candidate group G_j there is the nearest equivariant weight ``P_j W``. The regulariser
``sum_j c_j R_j`` with ``R_j = sum_l ||W_l - P_j W_l||^2 / 2`` (biases alike) is `erlangen.relax` with
``method="projection"``. The strengths start equal and are adjusted once, after a quarter of the training, by
``c_j <- c_j / (R_j / min_k R_k)^2``, with the best R of the epochs before: symmetries that data contradict lose their hold.
The strength of the whole group is zero, as its subgroups imply it.

All networks are one: three blocks of a linear map, products of vectors, and gates, then a linear map. Only the linear maps
differ: dense ("mlp", and with the regulariser "per"; with strengths that stay, "per, fixed"), exactly equivariant for the
whole group ("emlp") or for the subgroup that the data keep ("oracle"), or the sum of a dense and an equivariant map under
different priors ("rpp": residual pathways, Finzi, Benton and Wilson 2021). Products and gates belong to the whole group, and
so to all subgroups. Widths are equal; parameters, which then are not, stand in the rows.

1. Inertia: the inertia tensor of five masses, stretched along z by a share eps. Rotations and reflections about z are
   left when eps is not zero, all of O(3) when it is. Candidates: O(3) and the three O(2) about x, y and z.
2. Cosine: the mean cosine similarity of three vectors under SO(3) and Scaling(3), plus a term that only one of them
   respects. No linear map but zero takes vectors to scalars under scalings, and products of vectors grow with them, so for
   Scaling(3) the regulariser speaks of the linear layers alone and R_j = 0 is no exact symmetry of the network.

As in the paper: 1000 samples each to train, to validate and to test, and 1000 moved ones (column ``ood``: inputs shifted by
one standard deviation in every coordinate); batches of 500, Adam with weight decay, a learning rate that falls to
zero along a cosine, the strengths 100 and 0.01, the priors 1e-5 and 1 of residual pathways, strengths adjusted after a
quarter of the epochs, and the weights of the best validation error (every tenth epoch) of the second half. Errors and
regularisers are divided by the mean square of the targets, so ``mse`` is relative.

Every method is tuned alike: two learning rates, each for a fifth of the epochs with the first seed, on the inertia task
with eps = 0.3 or on the cosine task with the rotation broken; the lowest validation error decides, for all tasks of the family.

Against the paper: 68 channels in place of 128 (fewer leave so few matrices that trainings get stuck); 1000 steps of 16000
for inertia, 300 of 4000 for the cosine, so learning rates are larger; gradients are clipped to norm 1; regularised networks
start at equivariant weights, while "mlp" starts at orthogonal ones as published (it does worse from the others); no early
stopping, as in most published scripts; no forecast of traffic. The smoke run is too short to compare errors; it checks that
strengths find the axis. The paper's sizes, for those who have hours::

    erlangen run soft_equivariance --scale full --set hidden=128 --set epochs=8000 --set cosine_epochs=2000
        --set lr=0.001 --set seeds=5 --set eps=0.9,-1
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen import plots
from erlangen.errors import ErlangenError
from erlangen.measure import equivariance_error
from erlangen.soft import discover, relax
from erlangen.soft.projection import ProjectionPenalty
from erlangen.survey.claims import Claim, Result, Scale, System
from erlangen.systems.learning._soft_network import BLOCKS, Method, Network, hidden_of, residual_prior
from erlangen.systems.learning._soft_tasks import Pair, Task, cosine_task, inertia_task, respects, short
from erlangen.training import fit

SYSTEM = System(
    title="Regularizing Towards Soft Equivariance Under Mixed Symmetries",
    authors=("Hyunsu Kim", "Hyungi Lee", "Hongseok Yang", "Juho Lee"),
    venue="ICML",
    year=2023,
    arxiv="2306.00356",
    abstract_claims=(
        "A regulariser builds models with soft equivariance for several symmetries of different degrees.",
        "It is more accurate than architectures with soft equivariance on functions and on motion forecasting.",
        "It discovers the approximate level of each symmetry correctly.",
    ),
)

Row = dict[str, Any]


# --- training --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Budget:
    """What every method of a task gets alike."""

    epochs: int
    adjust_at: int
    hidden: int = 48
    batch_size: int = 500
    samples: int = 1000
    weight_decay: float = 2e-4

    def __post_init__(self) -> None:
        if not 1 <= self.adjust_at < self.epochs:
            raise ErlangenError(f"adjust_at = {self.adjust_at}, epochs = {self.epochs}: give 1 <= adjust_at < epochs")


def regulariser(model: Network, task: Task, hidden: int) -> ProjectionPenalty:
    """The projection regulariser on the candidates of a task; on the whole group of inertia it only measures."""
    whole = 0.0 if len(task.candidates) > 2 else task.strength
    strengths = [whole, *[task.strength] * (len(task.candidates) - 1)]
    representations = [task.rep_in, *[hidden_of(hidden)] * BLOCKS, task.rep_out]
    return relax(model, task.symmetries, method="projection", representations=representations, strengths=strengths)


def build(task: Task, method: Method, hidden: int, seed: int) -> Network:
    """The network of a method, with its first weights."""
    start = "orthogonal" if method == "mlp" else "equivariant"
    generator = Generator().manual_seed(seed)
    return Network(task.candidates[0], task.rep_in, task.rep_out, hidden, method, task.kept[0], start, generator)


class _Course:
    """A callback: the learning rate falls along a cosine; the best weights of the second half are kept."""

    def __init__(self, validation: Pair, budget: Budget, lr: float, decay: float) -> None:
        self.validation, self.budget, self.lr, self.decay = validation, budget, lr, decay
        self.groups: list[dict[str, Any]] = []
        self.best, self.state = math.inf, dict[str, Tensor]()

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam at the first learning rate, with half the squares of all parameters as a prior."""
        adam = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.decay, fused=True)
        self.groups = adam.param_groups
        return adam

    def __call__(self, epoch: int, model: nn.Module, row: dict[str, float]) -> None:
        done, total = epoch + 1, self.budget.epochs
        for group in self.groups:
            group["lr"] = 0.5 * self.lr * (1 + math.cos(math.pi * done / total))
        if done == total or (done > 2 * self.budget.adjust_at and done % 10 == 0):
            error = mse(model, self.validation)
            if error < self.best:
                self.best, self.state = error, {key: value.clone() for key, value in model.state_dict().items()}


@torch.no_grad()
def mse(model: nn.Module, data: Pair) -> float:
    """Mean square error."""
    return float(F.mse_loss(model(data[0]), data[1]))


def train(task: Task, method: Method, budget: Budget, lr: float, seed: int) -> Row:
    """Train one network; relative errors, its equivariance errors and the strengths at the end."""
    generator = Generator().manual_seed(seed)
    sets = [task.draw(budget.samples, generator, shift) for shift in (0.0, 0.0, 0.0, 1.0)]
    square = sets[0][1].square().mean()
    (x, y), validation, test, moved = ((a, b / square.sqrt()) for a, b in sets)
    model = build(task, method, budget.hidden, seed)
    penalty = regulariser(model, task, budget.hidden) if method.startswith("per") else None
    schedule = [penalty.schedule(budget.adjust_at, budget.epochs)] if penalty is not None and method == "per" else []

    def loss(answer: Tensor, target: Tensor) -> Tensor:
        prior = penalty() if penalty is not None else residual_prior(model) if method == "rpp" else None
        value = F.mse_loss(answer, target)
        return value if prior is None else value + prior / square

    decay = 0.0 if method == "rpp" else budget.weight_decay / float(square)
    course = _Course(validation, budget, lr, decay)
    begin = time.perf_counter()
    fit(
        model,
        x,
        y,
        loss=loss,
        epochs=budget.epochs,
        batch_size=budget.batch_size,
        optimizer=course.optimizer,
        callbacks=[*schedule, course],
        clip=1.0,
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - begin
    model.load_state_dict(course.state)
    row: Row = {"mse": mse(model, test), "validation": course.best}
    row["ood"] = mse(model, moved) / float(moved[1].square().mean())
    row |= {"seconds": seconds, "parameters": sum(p.numel() for p in model.parameters())}
    for candidate in task.symmetries:
        name = f"error {short(candidate.group)}"
        row[name] = float(equivariance_error(model, candidate, test[0][:50], elements=8, seed=seed))
    if penalty is not None:
        row |= {f"c {short(g)}": c for g, c in zip(task.candidates, penalty.strengths.tolist(), strict=True)}
    return row


def tuned(
    task: Task, methods: Sequence[Method], budget: Budget, rates: Sequence[float], seed: int
) -> dict[Method, float]:
    """The learning rate of each method with the lowest validation error after a fifth of the epochs."""
    if len(rates) == 1:
        return dict.fromkeys(methods, rates[0])
    epochs = max(3, budget.epochs // 5)
    trial = replace(budget, epochs=epochs, adjust_at=max(1, epochs // 4))

    def error(method: Method, lr: float) -> float:
        found = train(task, method, trial, lr, seed)["validation"]
        return found if math.isfinite(found) else math.inf

    return {method: min(rates, key=lambda lr: error(method, lr)) for method in methods}


# --- the experiment --------------------------------------------------------------------------------------------------
METHODS: tuple[Method, ...] = ("mlp", "emlp", "oracle", "rpp", "per, fixed", "per")
COMPARED: tuple[Method, ...] = ("mlp", "emlp", "rpp", "per")
BREAKS = 0.3
"""The share eps of the inertia task that all methods are compared on."""
RATES = (5e-3, 1e-2)
"""Learning rates that are tried."""


def summary(task: Task, method: Method, budget: Budget, lr: float, seeds: Sequence[int]) -> Row:
    """One row: means over seeds, and the spread of the error."""
    runs = [train(task, method, budget, lr, seed) for seed in seeds]
    row: Row = {"part": "training", "task": task.name, "method": method}
    row |= {column: statistics.mean(run[column] for run in runs) for column in runs[0]}
    row["spread"] = statistics.stdev(run["mse"] for run in runs) if len(runs) > 1 else None
    row |= {
        "lr": lr,
        "seeds": len(runs),
        "samples": budget.samples,
        "epochs": budget.epochs,
        "batch": budget.batch_size,
    }
    return row | {"hidden": budget.hidden}


def evidence(task: Task, samples: int, draws: int, seed: int) -> list[Row]:
    """One row for each compact candidate: `erlangen.discover` on several draws of the data of a task, without a network."""
    compact = [s for s in task.symmetries if s.group.is_compact]
    data = [task.draw(samples, Generator().manual_seed(seed + k), 0.0) for k in range(draws)]
    found = [discover(data=pair, candidates=compact, seed=seed + k) for k, pair in enumerate(data)]
    rows: list[Row] = []
    for candidate in compact:
        own = [f for findings in found for f in findings if f.symmetry == candidate]
        rows.append(
            {
                "part": "discovery",
                "task": task.name,
                "group": short(candidate.group),
                "cost": statistics.mean(f.cost for f in own),
                "contradicted": sum(not f.holds for f in own),
                "truth": respects(task, candidate.group),
                "samples": samples,
                "draws": draws,
            }
        )
    return rows


def experiment(
    scale: Scale,
    seed: int,
    hidden: int | None = None,
    epochs: int | None = None,
    cosine_epochs: int | None = None,
    lr: float | None = None,
    seeds: int | None = None,
    eps: tuple[float, ...] | None = None,
) -> Result:
    """Inertia and cosine tasks with all methods, and discovery from the data alone.

    Args:
        scale: "smoke" trains one seed for a few steps, and no cosine tasks.
        seed: the first seed.
        hidden: channels of the hidden representation.
        epochs, cosine_epochs: of the inertia and the cosine tasks; strengths are adjusted after a quarter.
        lr: the learning rate of all methods; by default each one's best of two.
        seeds: how many.
        eps: shares that the inertia task is stretched by; 0.3 and 0 are always there, 0.9 with the first seed by default.
    """
    full = scale == "full"
    several = range(seed, seed + (seeds or (3 if full else 1)))
    long, brief = epochs or (500 if full else 45), cosine_epochs or 150
    rates = [lr] if lr is not None else RATES if full else [2e-2]
    width = hidden or (68 if full else 48)
    budget = Budget(long, long // 4 if full else 2 * long // 3, width)
    exact, broken = inertia_task(0.0), inertia_task(BREAKS)
    best = tuned(broken, METHODS, budget, rates, seed)
    rows = [summary(broken, method, budget, best[method], several) for method in METHODS]
    rows += [summary(exact, m, budget, best[m], several) for m in (("emlp", "per") if full else ("per",))]
    for share in eps if eps is not None else (0.9,) if full else ():
        if share not in (0.0, BREAKS):
            task = inertia_task(share)
            rows += [summary(task, m, budget, best[m], several[:1] if eps is None else several) for m in ("rpp", "per")]
    rotated, scaled = cosine_task("rotation"), cosine_task("scaling")
    if full:
        other = Budget(brief, brief // 4, width, weight_decay=2e-5)
        best = tuned(rotated, COMPARED, other, rates, seed)
        rows += [summary(task, m, other, best[m], several) for task in (rotated, scaled) for m in COMPARED]
    for task in (exact, broken, rotated, scaled):
        rows += evidence(task, *((1000, 5) if full else (600, 1)), seed)
    return Result(rows, [*exact_claims(seed), *training_claims(rows, full), *discovery_claims(rows), *unmeasured()])


def exact_claims(seed: int) -> list[Claim]:
    """What holds for every weight: nesting of the violations, and exactness where one of them is zero."""
    task, hidden = inertia_task(BREAKS), 24
    model = build(task, "per", hidden, seed)
    generator = Generator().manual_seed(seed)
    for parameter in model.double().parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    penalty = regulariser(model, task, hidden)
    r = penalty.violations().detach()
    penalty.project(1)
    x, _ = task.draw(50, Generator().manual_seed(seed), 0.0)
    error = equivariance_error(model, task.symmetries[1], x.double(), elements=100, reduce="max", seed=seed)
    return [
        Claim.exact(
            "zero-violation-is-exact",
            "Largest relative equivariance error of a network, float64, whose weights are projected onto those of O(2).",
            measured=float(error),
            tol=1e-12,
        ),
        Claim.ratio(
            "violations-nest",
            "Violation of O(3) over the largest one of its subgroups O(2), random weights.",
            measured=float(r[0] / r[1:].max()),
            at_least=1,
        ),
    ]


def training_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about errors and strengths."""
    table = {(row["task"], row["method"]): row for row in rows if row["part"] == "training"}
    broken, exact = (inertia_task(eps).name for eps in (BREAKS, 0.0))
    per, whole = table[broken, "per"], table[exact, "per"]
    names = [f"c O(2) about {axis}" for axis in "zxy"]
    strengths = [whole[name] for name in names]
    claims = [
        Claim.ratio(
            "strengths-find-the-axis",
            "Strength of O(2) about z over the larger of the other two, inertia stretched along z.",
            measured=per[names[0]] / max(per[names[1]], per[names[2]]),
            at_least=10 if full else 2,
            published="the levels of symmetry are discovered correctly",
        ),
        Claim.ratio(
            "strengths-agree-where-all-hold",
            "Largest over smallest strength, plain inertia.",
            measured=max(strengths) / min(strengths),
            at_most=3,
        ),
        Claim.ratio(
            "adjusted-over-baselines",
            "Test error with adjusted strengths over that of the best of mlp, emlp and rpp, stretched inertia.",
            measured=per["mse"] / min(table[broken, name]["mse"] for name in ("mlp", "emlp", "rpp")),
            at_most=1,
            published="more accurate than all baselines",
        ),
        Claim.ratio(
            "adjusted-over-oracle",
            "Test error with adjusted strengths over that of a network with the symmetry that the data keep, stretched inertia.",
            measured=per["mse"] / table[broken, "oracle"]["mse"],
            at_most=1.3,
        ),
    ]
    if full:
        claims.append(
            Claim.ratio(
                "no-loss-where-all-hold",
                "Test error with adjusted strengths over that of the exact network, plain inertia.",
                measured=whole["mse"] / table[exact, "emlp"]["mse"],
                at_most=1.5,
            )
        )
        claims.append(
            Claim.ratio(
                "moved-inputs",
                "Error at shifted inputs with adjusted strengths over that of the best of mlp, emlp and rpp, stretched inertia.",
                measured=per["ood"] / min(table[broken, name]["ood"] for name in ("mlp", "emlp", "rpp")),
                at_most=1,
                published="more accurate than all baselines",
            )
        )
        claims += [
            Claim.ratio(
                f"cosine-{breaks}-broken",
                f"Test error with adjusted strengths over that of the best of mlp, emlp and rpp, cosine with {breaks} broken.",
                measured=table[name, "per"]["mse"] / min(table[name, other]["mse"] for other in ("mlp", "emlp", "rpp")),
                at_most=1,
                published="more accurate than all baselines",
            )
            for breaks, name in (("rotation", cosine_task("rotation").name), ("scaling", cosine_task("scaling").name))
        ]
    return claims


def discovery_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about what the data alone tell."""
    found = [row for row in rows if row["part"] == "discovery"]
    missed = [(row["draws"] - row["contradicted"], row["draws"]) for row in found if not row["truth"]]
    wronged = [(row["contradicted"], row["draws"]) for row in found if row["truth"]]

    def share(counts: Sequence[tuple[int, int]]) -> float:
        return sum(count for count, _ in counts) / sum(draws for _, draws in counts)

    return [
        Claim.ratio(
            "data-tell-what-is-broken",
            "Share of draws in which a broken compact candidate is not contradicted, over four tasks.",
            measured=share(missed),
            at_most=0.1,
        ),
        Claim.ratio(
            "data-keep-what-holds",
            "Share of draws in which a compact candidate that holds is contradicted, over four tasks; by chance 1 in 40.",
            measured=share(wronged),
            at_most=0.1,
        ),
    ]


def unmeasured() -> list[Claim]:
    """What needs other data."""
    return [
        Claim.not_measurable(
            "motion-forecasting",
            "The regulariser improves forecasts of traffic.",
            published="more accurate than residual pathways",
            reason="needs a large driving data set under licence and a GPU",
        )
    ]


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """Test errors of all methods where one axis breaks O(3), and where nothing does."""
    tasks = {label: inertia_task(eps).name for label, eps in (("one axis stretched", BREAKS), ("O(3) kept", 0.0))}
    table = {(row["task"], row["method"]): row["mse"] for row in result.rows if row["part"] == "training"}
    errors = {label: [table.get((task, method)) for method in METHODS] for label, task in tasks.items()}
    return plots.barh(errors, METHODS, "relative test error (mean square)", log=True)
