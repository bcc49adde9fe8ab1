"""What is measured of TOPO: laws that hold exactly, scores and graphs beside those of rivals, candidates, networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.causal import (
    LinearSEM,
    random_dag,
    random_linear_sem,
    random_nonlinear_sem,
    structure_scores,
    threshold_to_dag,
    topological_order,
    varsortability,
)
from erlangen.causal.equations import Noise
from erlangen.causal.graphs import Kind
from erlangen.survey import Claim, Part, Result, Run, Table, properties, sweep
from erlangen.systems.causal.notears_topo._networks import NetworkScore, network_topo
from erlangen.systems.causal.notears_topo._properties import PROPERTIES
from erlangen.systems.causal.notears_topo._scores import CovarianceScore, PenalizedScore
from erlangen.systems.causal.notears_topo.method import Ordered, kkt_violation, post_process, refitted, topo
from erlangen.systems.causal.notears_topo.rivals import golem_ev, nofears, notears

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CUT = 0.3
"""Smaller weights are no edges, for all methods."""

Case = tuple[Kind, int, Noise]
"""A kind of graph, its edges for each node, and the noise."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        samples: of every data set.
        nodes: sizes of the graphs.
        cases: for each of these sizes, the graphs.
        without_penalty: the largest size at which NOTEARS without a penalty runs too.
        network: nodes, hidden units, and iterations of L-BFGS from the start and after a swap.
    """

    seeds: int
    samples: int
    nodes: tuple[int, ...]
    cases: tuple[tuple[Case, ...], ...]
    without_penalty: int
    network: tuple[int, int, int, int]


SMALL: tuple[Case, ...] = (("ER", 1, "normal"), ("ER", 4, "normal"), ("SF", 4, "normal"))
NOISES: tuple[Case, ...] = (("ER", 2, "exponential"), ("ER", 2, "gumbel"))
BUDGETS = {
    "smoke": Budget(1, 300, (8,), ((("ER", 1, "normal"),),), 0, (4, 3, 30, 10)),
    "full": Budget(3, 1000, (20, 50), (SMALL, (("ER", 1, "normal"), ("ER", 2, "normal"))), 20, (10, 10, 300, 40)),
    "paper": Budget(5, 1000, (20, 50, 100), (SMALL + NOISES, SMALL + NOISES, SMALL + NOISES), 100, (10, 40, 1000, 180)),
}


# --- data ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Problem:
    """Samples of one random model, and what methods are scored by."""

    model: LinearSEM
    X: Tensor
    seed: int

    @classmethod
    def draw(cls, case: Case, nodes: int, samples: int, seed: int, *, standardised: bool) -> Problem:
        """The problem of a seed; standardised data are the raw ones, divided by their deviations."""
        kind, each, noise = case
        g = Generator().manual_seed(seed)
        graph = random_dag(nodes, each * nodes, kind, generator=g)
        model = random_linear_sem(graph, noise=noise, generator=g, dtype=torch.float64)
        drawn = model.sample(samples, generator=g)
        X = drawn - drawn.mean(0)
        return cls(model, X / X.std(0) if standardised else X, seed)

    @functools.cached_property
    def score(self) -> CovarianceScore:
        """Least squares."""
        return CovarianceScore.of(self.X)

    @functools.cached_property
    def truth(self) -> float:
        """The score of the dense regressions of a true order."""
        return refitted(self.score, self.model.weights)[1]

    @functools.cached_property
    def random(self) -> Tensor:
        """A random order."""
        return torch.randperm(self.score.nodes, generator=Generator().manual_seed(7919 * self.seed + 1))

    @functools.cached_property
    def by_variance(self) -> Tensor:
        """The order of growing variances."""
        return self.X.var(0).argsort(stable=True)

    @functools.cached_property
    def of_notears(self) -> Tensor:
        """Weights of NOTEARS, which others begin at."""
        return notears(self.score.covariance)

    @functools.cached_property
    def of_nofears(self) -> Tensor:
        """Weights of NOFEARS, begun at those of NOTEARS."""
        return nofears(PenalizedScore.of(self.X, l1=0.1), self.of_notears, threshold=CUT)

    @functools.cached_property
    def of_golem(self) -> Tensor:
        """Weights of GOLEM-EV."""
        return golem_ev(self.score.covariance)

    def graph_row(self, weights: Tensor, score: float) -> dict[str, float]:
        """What is said of weights and of the score of their order."""
        cut = threshold_to_dag(weights, CUT)
        found = structure_scores(cut, self.model.weights)
        return {
            "score": score / self.truth,
            "SHD": float(found.shd),
            "TPR": found.tpr,
            "FDR": found.fdr,
            "KKT": kkt_violation(cut, self.score) / float(self.score.covariance.max()),
        }

    def of_weights(self, weights: Tensor) -> dict[str, float]:
        """The row of another method: its order is refitted densely, as TOPO's is."""
        return self.graph_row(weights, refitted(self.score, threshold_to_dag(weights, CUT))[1])

    def of_order(self, order: Tensor) -> dict[str, float]:
        """The row of an order without any search."""
        return self.graph_row(self.score.weights(order), float(self.score.columns(order).sum()))

    def of_search(self, found: Ordered) -> dict[str, float]:
        """The row of a search."""
        return self.graph_row(found.weights, found.score) | {"swaps scored": float(found.evaluations)}


# --- linear ----------------------------------------------------------------------------------------------------------
LINEAR: dict[str, Callable[[Problem], dict[str, float]]] = {
    "TOPO": lambda p: p.of_search(topo(p.score, p.random)),
    "TOPO, one large search": lambda p: p.of_search(topo(p.score, p.random, large_searches=1)),
    "TOPO, all pairs": lambda p: p.of_search(topo(p.score, p.random, size_small=p.score.nodes**2)),
    "TOPO, random pairs": lambda p: p.of_search(topo(p.score, p.random, ranking=shuffled(p.seed))),
    "NOTEARS": lambda p: p.of_weights(p.of_notears),
    "NOFEARS": lambda p: p.of_weights(p.of_nofears),
    "GOLEM-EV": lambda p: p.of_weights(p.of_golem),
    "order by variance": lambda p: p.of_order(p.by_variance),
    "random order": lambda p: p.of_order(p.random),
    "NOTEARS, then TOPO": lambda p: p.of_search(post_process(p.score, p.of_notears, threshold=CUT)),
    "NOFEARS, then TOPO": lambda p: p.of_search(post_process(p.score, p.of_nofears, threshold=CUT)),
    "GOLEM-EV, then TOPO": lambda p: p.of_search(post_process(p.score, p.of_golem, threshold=CUT)),
    "order by variance, then TOPO": lambda p: p.of_search(topo(p.score, p.by_variance)),
}
RIVALS = ("NOTEARS", "NOFEARS", "GOLEM-EV", "order by variance")


def shuffled(seed: int) -> Callable[[Tensor], Tensor]:
    """A ranking of pairs that knows nothing: the sets have the sizes of TOPO's, and another draw at every step."""
    g = Generator().manual_seed(seed)
    return lambda W: torch.rand(W.shape, generator=g)


def linear_part(run: Run[Budget], size: str, nodes: int, cases: tuple[Case, ...], *, standardised: bool) -> Part:
    """All methods on the same data: means over the graphs, and what each graph gave; `size` names the claims."""
    b, kind = run.budget, "standardised" if standardised else "raw"

    @functools.cache
    def problem(case: Case, seed: int) -> Problem:
        return Problem.draw(case, nodes, b.samples, seed, standardised=standardised)

    def method(solve: Callable[[Problem], dict[str, float]], seed: int) -> Mapping[str, Any]:
        rows = {case: solve(problem(case, seed)) for case in cases}
        means = {column: float(np.mean([row[column] for row in rows.values()])) for column in next(iter(rows.values()))}
        spoken = {f"{kind_}{each} {noise}": row for (kind_, each, noise), row in rows.items()}
        return means | {f"{column}, {name}": row[column] for name, row in spoken.items() for column in ("score", "SHD")}

    methods: dict[str, Callable[[int], Mapping[str, Any]]] = {
        name: functools.partial(method, solve) for name, solve in LINEAR.items()
    }
    if nodes <= b.without_penalty:
        methods["NOTEARS without a penalty"] = functools.partial(
            method, lambda p: p.of_weights(notears(p.score.covariance, l1=0))
        )

    def sortable(seed: int) -> Mapping[str, Any]:
        found = [problem(case, seed) for case in cases]
        return {
            **method(lambda p: p.of_order(topological_order(p.model.weights)), seed),
            "varsortability": float(np.mean([varsortability(p.X, p.model.weights) for p in found])),
        }

    methods["true order"] = sortable
    table = sweep(f"{kind} data, {nodes} nodes", methods, run=run, larger=("TPR",))
    return table.part(*linear_claims(table, f"{kind}-{size}"))


def linear_claims(table: Table, slug: str) -> list[Claim]:
    """Scores, graphs, what post-processing adds, and what candidates save."""
    part = table.name.capitalize()
    claims = [
        table.not_worse(f"{slug}-score-{_slug(rival)}", "TOPO", rival, "score", published="a lower score")
        for rival in RIVALS
    ]
    claims += [
        table.bound(
            f"{slug}-shd-{_slug(rival)}",
            f"{part}: structural Hamming distance of TOPO less that of {rival}, mean over the graphs.",
            table["TOPO", "SHD"] - table[rival, "SHD"],
            at_most=0,
        )
        for rival in RIVALS
    ]
    claims += [
        table.beats(
            f"{slug}-improves-{_slug(rival)}",
            f"{rival}, then TOPO",
            rival,
            "score",
            published="significantly improves the score of other algorithms",
        )
        for rival in RIVALS
    ]
    excess = [table[f"{rival}, then TOPO", "score"] / table[rival, "score"] for rival in RIVALS]
    claims.append(
        table.bound(
            f"{slug}-never-worsens",
            f"{part}: largest score after TOPO over the score of the dense regressions of the order it began at, of all starts.",
            np.max(excess, axis=0),
            at_most=1,
        )
    )
    claims.append(table.beats(f"{slug}-candidates-save-swaps", "TOPO", "TOPO, random pairs", "swaps scored"))
    claims.append(table.not_worse(f"{slug}-candidates-lose-nothing", "TOPO", "TOPO, all pairs", "score"))
    return claims


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


# --- networks --------------------------------------------------------------------------------------------------------
def network_part(run: Run[Budget]) -> Part:
    """Sigmoidal mechanisms, and networks as the regressions: orders are compared by networks trained alike from the start."""
    d, hidden, iterations, refits = run.budget.network

    @functools.cache
    def problem(seed: int) -> tuple[Tensor, NetworkScore]:
        g = Generator().manual_seed(seed)
        graph = random_dag(d, d, generator=g)
        X = random_nonlinear_sem(graph, "mlp", generator=g).sample(run.budget.samples, generator=g).double()
        return graph, NetworkScore(X - X.mean(0), hidden, iterations=iterations, refits=refits)

    def linear(seed: int) -> CovarianceScore:
        return CovarianceScore.of(problem(seed)[1].X)

    def shuffle(seed: int) -> Tensor:
        return torch.randperm(d, generator=Generator().manual_seed(7919 * seed + 1))

    @functools.cache
    def searched(seed: int) -> Any:
        return network_topo(problem(seed)[1], shuffle(seed), generator=Generator().manual_seed(seed))

    orders: dict[str, Callable[[int], Tensor]] = {
        "TOPO with networks": lambda seed: searched(seed).order,
        "TOPO, linear": lambda seed: topo(linear(seed), shuffle(seed)).order,
        "NOTEARS, linear": lambda seed: topological_order(threshold_to_dag(notears(linear(seed).covariance), CUT)),
        "order by variance": lambda seed: problem(seed)[1].X.var(0).argsort(stable=True),
        "random order": shuffle,
        "true order": lambda seed: topological_order(problem(seed)[0]),
    }

    def method(find: Callable[[int], Tensor], seed: int) -> Mapping[str, Any]:
        graph, score = problem(seed)
        networks, value = score.of_order(find(seed), generator=Generator().manual_seed(seed + 1))
        cut = torch.where(networks.strengths >= 0.5, networks.strengths, 0)
        return {"score": value, "SHD": float(structure_scores(cut, graph).shd)}

    table = sweep("networks", {name: functools.partial(method, find) for name, find in orders.items()}, run=run)
    rivals = ("TOPO, linear", "NOTEARS, linear", "order by variance", "random order")
    names = {"TOPO, linear": "linear-topo", "NOTEARS, linear": "linear-notears"}
    return table.part(
        *(table.not_worse(f"networks-score-{names.get(r, _slug(r))}", "TOPO with networks", r, "score") for r in rivals)
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts; a dry run takes graphs of few nodes under the names of the large ones."""
    b, few = run.budget, run
    sizes = list(zip(("small", "large", "largest"), b.nodes, b.cases, strict=False))
    if run.dry:
        few = Run(run.scale, run.seed, BUDGETS["smoke"], run.device, dry=True)
        sizes = [(name, few.budget.nodes[0], few.budget.cases[0]) for name, *_ in sizes[:1]]
    parts = [
        linear_part(few, name, nodes, cases, standardised=scaled)
        for name, nodes, cases in sizes
        for scaled in (False, True)
    ]
    return Result.of(properties(run, *PROPERTIES), *parts, network_part(few))


def figure(result: Result) -> Figure:
    """Scores over that of the true order, on raw and on standardised data, at the largest size."""
    from erlangen import plots

    parts = [str(part) for part in dict.fromkeys(row["part"] for row in result.rows) if "data," in str(part)][-2:]
    shown = ["TOPO", *RIVALS, "random order"]
    found = {(row["part"], row["model"]): float(str(row["score"])) for row in result.rows if row["part"] in parts}
    values = {part: [found[part, model] for model in shown] for part in parts}
    return plots.barh(values, shown, "least squares over that of the true order", log=True)
