"""What is measured of invariant predictors: laws, certificates of finite classes, search and unseen interventions."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Generator

from erlangen.causal import LinearSEM
from erlangen.survey import Part, Result, Run, properties, sweep
from erlangen.systems.causal.pac_invariant._bounds import samples_vc, tau_finite, vc_bound
from erlangen.systems.causal.pac_invariant._cases import IN_DEGREE, Case, descendants, random_case
from erlangen.systems.causal.pac_invariant._finite import SubsetClass, certify, within
from erlangen.systems.causal.pac_invariant._properties import PROPERTIES
from erlangen.systems.causal.pac_invariant._search import SubsetSearch, search_linear, search_subsets
from erlangen.systems.causal.pac_invariant.method import Environments, Predictor, excess_risk
from erlangen.systems.causal.pac_invariant.rivals import irm_v1, pooled_regression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPS, DELTA = 0.05, 0.05
"""Largest excess risk, where the noise of the target has variance one; chance that a certificate is wrong."""

CLASSES = ((10, 2), (10, 4), (30, 2))
"""Variables, and features of a subset at most, of the finite classes."""

FITTED = {10: 4, 30: IN_DEGREE}
"""Variables, and features of a subset at most, where weights are fitted to the environments."""

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Of IRMv1 and of the linear representation; each is chosen on a quarter of the environments."""

SUBSETS, LINEAR, IRM, POOLED, ICP, CAUSES = (
    "subset search",
    "linear representation",
    "IRMv1",
    "pooled OLS",
    "intersection of subsets",
    "true causes",
)


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        seeds: of the comparison.
        repetitions: models for each finite class.
        certified_on, fresh: sampled interventions of a finite class, and unseen ones on which violations are counted.
        models: for each seed and number of variables in the comparison.
        environments: numbers of sampled interventions in the comparison.
        samples: in each of `sampled` environments of the finite-sample version.
    """

    seeds: int
    repetitions: int
    certified_on: int
    fresh: int
    models: int
    environments: tuple[int, ...]
    sampled: int
    samples: int


BUDGETS = {
    "smoke": Budget(1, 3, 60, 100, 1, (4, 8), 8, 100),
    "full": Budget(5, 200, 60, 1000, 6, (2, 4, 8, 16, 32, 64), 16, 200),
    "paper": Budget(5, 2000, 60, 2000, 40, (2, 4, 8, 16, 32, 64), 16, 200),
}


# --- finite classes --------------------------------------------------------------------------------------------------
def certified_part(run: Run[Budget]) -> Part:
    """Classes whose weights are fixed before interventions are drawn: what they accept, on unseen interventions."""
    b = run.budget

    def row(variables: int, at_most: int, _: int) -> dict[str, Any]:
        g = run.generator(variables + at_most)
        worst: list[float] = []
        accepted: list[int] = []
        for _repetition in range(b.repetitions):
            case = random_case(variables, g)
            predictors = SubsetClass.fit(Environments.observational(case.model, case.target), at_most)
            seen, unseen = (
                Environments.draw(case.family, case.target, n, generator=g) for n in (b.certified_on, b.fresh)
            )
            found = certify(predictors, seen, EPS, delta=DELTA)
            kept = predictors.kept(found.accepted)
            accepted.append(len(kept))
            worst.append(float((~within(kept, unseen, EPS)).double().mean(1).max()) if len(kept) else 0.0)
        count = sum(math.comb(variables - 1, k) for k in range(1, at_most + 1))
        tau = tau_finite(count, b.certified_on, DELTA)
        return {
            "predictors": count,
            "interventions": b.certified_on,
            "tau": tau,
            "failures": sum(one > tau for one in worst) / b.repetitions,
            "accepted": sum(accepted) / b.repetitions,
            "worst violation, mean": sum(worst) / b.repetitions,
            "worst violation, largest": max(worst),
        }

    names = {f"{d} variables, subsets up to {k}": (d, k) for d, k in CLASSES}
    table = sweep(
        "finite classes", {name: functools.partial(row, *size) for name, size in names.items()}, run=run, once=True
    )
    # The limit is that of the full run at every scale: a threshold does not depend on it.
    limit = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / BUDGETS["full"].repetitions)
    return table.part(
        *(
            table.bound(
                f"certificates-hold-{d}-variables-{k}",
                f"Finite classes: share of random models with {d} variables where a regression on up to {k} features, fitted "
                "without interventions and accepted in 60 of them, violates on more of the unseen ones than the bound for "
                "delta = 0.05 says.",
                table[name, "failures"],
                at_most=limit,
            )
            for name, (d, k) in names.items()
        )
    )


# --- methods ---------------------------------------------------------------------------------------------------------
class Found(NamedTuple):
    """What a method predicts by, and what it cost."""

    predictor: Predictor
    accepted: int = 0
    penalty: float = 0.0
    seconds: float = 0.0


def chosen(environments: Environments, fit: Callable[[Environments, float], Predictor]) -> Found:
    """The penalty with the least worst risk on the last quarter of the environments, fitted to all of them."""
    held = max(1, len(environments) // 4)
    train, rest = environments[:-held], environments[-held:]
    risks = {penalty: float(rest.risk(fit(train, penalty).coefficients).max()) for penalty in PENALTIES}
    penalty = min(risks, key=lambda one: risks[one])
    return Found(fit(environments, penalty), 0, penalty)


def fitted(case: Case, environments: Environments, at_most: int, seed: int) -> dict[str, Found]:
    """All methods on the same environments."""

    def linear(one: Environments, penalty: float) -> Predictor:
        return search_linear(one, IN_DEGREE, penalty, generator=Generator().manual_seed(seed)).predictor

    def irm(one: Environments, penalty: float) -> Predictor:
        return irm_v1(one, penalty, generator=Generator().manual_seed(seed))

    @functools.cache
    def search() -> SubsetSearch:
        return search_subsets(environments, EPS, at_most=at_most)

    def shared() -> Found:
        found = search()
        predictor = pooled_regression(environments, found.intersection or ())
        return Found(predictor, int(found.accepted.sum()))

    methods: dict[str, Callable[[], Found]] = {
        SUBSETS: lambda: Found(search().predictor, int(search().accepted.sum())),
        LINEAR: lambda: chosen(environments, linear),
        IRM: lambda: chosen(environments, irm),
        POOLED: lambda: Found(pooled_regression(environments)),
        ICP: shared,  # after the search, whose time it does not count again
        CAUSES: lambda: Found(pooled_regression(environments, case.parents)),
    }
    made: dict[str, Found] = {}
    for name, method in methods.items():
        begin = time.process_time()
        made[name] = method()._replace(seconds=time.process_time() - begin)
    return made


METHODS = (SUBSETS, LINEAR, IRM, POOLED, ICP, CAUSES)
WORST, EXCESS = "worst risk over that of pooled OLS, median", "worst excess risk over that of pooled OLS, median"


def measured(
    cases: list[tuple[Case, dict[str, Found]]], fresh: int, generator: Generator
) -> dict[str, Mapping[str, Any]]:
    """Of each method on unseen interventions, medians over models of the worst risks, and over those of pooled OLS."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    for case, found in cases:
        unseen = Environments.draw(case.family, case.target, fresh, generator=generator)
        for name, one in found.items():
            excess = excess_risk(unseen, *one.predictor)
            risk = unseen.risk(one.predictor.coefficients)
            rows[name].append(
                {
                    "worst risk": float(risk.max()),
                    "mean risk": float(risk.mean()),
                    "worst excess risk": float(excess.max()),
                    "violations": float((excess > EPS).double().mean()),
                    "accepted": one.accepted,
                    "penalty": one.penalty,
                    "seconds": one.seconds,
                }
            )
    table: dict[str, Mapping[str, Any]] = {}
    for name, own in rows.items():
        row: dict[str, Any] = {"models": len(own), "seconds": sum(one.pop("seconds") for one in own)}
        for column in own[0]:
            row[f"{column}, median"] = float(np.median([one[column] for one in own]))
        for column, label in (("worst risk", WORST), ("worst excess risk", EXCESS)):
            row[label] = float(np.median([a[column] / p[column] for a, p in zip(own, rows[POOLED], strict=True)]))
        table[name] = row
    return table


def hit(nodes: int, generator: Generator) -> Case:
    """A case in which some intervention hits an effect of the target in the support of the regression on all features."""
    while True:
        case = random_case(nodes, generator, effect=True)
        weights = pooled_regression(Environments.observational(case.model, case.target)).coefficients
        sites = case.features(torch.tensor(case.family.sites))
        if any(k in descendants(case) and float(weights[k].abs()) > 1e-6 for k in sites):
            return case


# --- unseen interventions --------------------------------------------------------------------------------------------
def unseen_part(run: Run[Budget]) -> Part:
    """Populations in several environments; what methods find, on interventions that they have not seen."""
    b = run.budget

    @functools.cache
    def results(nodes: int, n: int, seed: int) -> dict[str, Mapping[str, Any]]:
        g = Generator().manual_seed(1000 * seed + nodes)
        cases = [
            (hit(nodes, g), Generator().manual_seed(int(k))) for k in torch.randint(2**31, (b.models,), generator=g)
        ]
        found: list[tuple[Case, dict[str, Found]]] = []
        for case, own in cases:
            environments = Environments.draw(case.family, case.target, max(b.environments), generator=own)[:n]
            found.append((case, fitted(case, environments, FITTED[nodes], seed)))
        return measured(found, b.fresh, g)

    def name(method: str, nodes: int, n: int) -> str:
        return f"{method}, {nodes} variables, {n} environments"

    table = sweep(
        "unseen interventions",
        {
            name(method, nodes, n): lambda seed, key=(nodes, n), method=method: results(*key, seed)[method]
            for nodes in FITTED
            for n in b.environments
            for method in METHODS
        },
        run=run,
    )
    most = max(b.environments)

    def claim(method: str, nodes: int, column: str, words: str) -> Any:
        short = "excess" if column == EXCESS else "risk"
        return table.not_worse(
            f"{'subsets' if method == SUBSETS else 'linear'}-worst-{short}-{nodes}-variables",
            name(method, nodes, most),
            name(POOLED, nodes, most),
            column,
            statement=f"Unseen interventions, {nodes} variables: median over models of the {words} of {spoken(method)} over "
            "that of pooled OLS, from the most environments.",
        )

    return table.part(
        *(
            claim(method, nodes, column, words)
            for nodes in FITTED
            for method in (SUBSETS, LINEAR)
            for column, words in ((EXCESS, "largest excess risk"), (WORST, "largest risk"))
        )
    )


def spoken(method: str) -> str:
    """In a sentence."""
    return "the subset that search finds" if method == SUBSETS else "the linear representation that search finds"


# --- samples ---------------------------------------------------------------------------------------------------------
def samples_part(run: Run[Budget]) -> Part:
    """Samples in place of populations, the same for all methods."""
    b, nodes = run.budget, 10

    @functools.cache
    def results(seed: int) -> dict[str, Mapping[str, Any]]:
        g = Generator().manual_seed(1000 * seed + 7)
        found: list[tuple[Case, dict[str, Found]]] = []
        for _ in range(2 * b.models):
            case = hit(nodes, g)
            drawn = case.family.draw(b.sampled, generator=g)
            tables = [
                LinearSEM(W, v).sample(b.samples, generator=g)
                for W, v in zip(drawn.weights, drawn.variances, strict=True)
            ]
            covariance = torch.stack([X.mT @ X / b.samples for X in tables])  # the mean is known to be zero
            environments = Environments(covariance, case.target, torch.full((b.sampled,), b.samples))
            found.append((case, fitted(case, environments, FITTED[nodes], seed)))
        return measured(found, b.fresh, g)

    table = sweep("samples", {method: lambda seed, m=method: results(seed)[m] for method in METHODS}, run=run)
    return table.part(
        *(
            table.not_worse(
                f"samples-{'subsets' if method == SUBSETS else 'linear'}-worst-{short}",
                method,
                POOLED,
                column,
                statement=f"Samples: median over models of the {words} on unseen interventions of {spoken(method)} over "
                "that of pooled OLS on the same samples.",
            )
            for method in (SUBSETS, LINEAR)
            for column, short, words in ((EXCESS, "excess", "largest excess risk"), (WORST, "risk", "largest risk"))
        )
    )


# --- weights that depend on the environments -------------------------------------------------------------------------
def fitted_part(run: Run[Budget]) -> Part:
    """Subsets whose weights are fitted to the environments: the finite bound is void for them; violations on unseen ones."""
    b = run.budget

    @functools.cache
    def worst(nodes: int, n: int, seed: int) -> tuple[float, float]:
        g = Generator().manual_seed(1000 * seed + nodes + 1)
        found: list[tuple[float, float]] = []
        for _ in range(b.models):
            case = random_case(nodes, g)
            seen = Environments.draw(case.family, case.target, max(b.environments), generator=g)[:n]
            unseen = Environments.draw(case.family, case.target, b.fresh, generator=g)
            search = search_subsets(seen, EPS, at_most=FITTED[nodes])
            kept = search.tried.kept(search.accepted)
            share = float((~within(kept, unseen, EPS)).double().mean(1).max()) if len(kept) else 0.0
            found.append((share, len(kept)))
        return float(np.mean([one[0] for one in found])), float(np.mean([one[1] for one in found]))

    def row(nodes: int, n: int, seed: int) -> dict[str, Any]:
        share, accepted = worst(nodes, n, seed)
        return {"environments": n, "accepted": accepted, "worst violation": share}

    def slope(nodes: int, seed: int) -> dict[str, Any]:
        shares = np.array([worst(nodes, n, seed)[0] for n in b.environments])
        family = random_case(nodes, Generator().manual_seed(seed)).family
        dimension = vc_bound(family, IN_DEGREE).smallest
        positive = shares > 0
        logs = np.log(np.array(b.environments)[positive]), np.log(shares[positive])
        return {
            "slope of log violation in log environments": float(np.polyfit(*logs, 1)[0])
            if sum(positive) > 1
            else math.nan,
            "VC dimension, at most": dimension,
            "environments that the VC bound asks for, tau 0.1": samples_vc(dimension, 0.1, DELTA),
        }

    methods: dict[str, Callable[[int], Mapping[str, Any]]] = {
        f"{nodes} variables, {n} environments": functools.partial(row, nodes, n)
        for nodes in FITTED
        for n in b.environments
    }
    methods |= {f"{nodes} variables, all": functools.partial(slope, nodes) for nodes in FITTED}
    return sweep("fitted classes", methods, run=run).part()


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts; a dry run takes few models and environments."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(run, *PROPERTIES), certified_part(few), unseen_part(few), samples_part(few), fitted_part(few)
    )


def figure(result: Result) -> Figure:
    """The share of unseen interventions that the worst accepted subset violates, by the number of environments."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "fitted classes" and "environments" in row:
            nodes = str(row["model"]).split(",")[0]
            curves.setdefault(nodes, []).append((float(str(row["environments"])), float(str(row["worst violation"]))))
    return plots.line(curves, "environments that were seen", "unseen interventions that are violated", logx=True)
