"""What is measured of the one-connection rule: a census against sympy, times, constraints, and tests of a model by them."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from torch import Generator, Tensor

from erlangen.causal import LinearSEM, MixedGraph, is_dag
from erlangen.survey import Part, Result, Run, properties, sweep
from erlangen.systems.causal.one_connection_sem._graphs import (
    FOUR_CYCLE,
    KNOWN,
    NEW,
    SPOUSE,
    codimension,
    complete,
    gradient_rank,
    random_cyclic_graph,
    relations_of,
    three_nodes,
    vanishing_minors,
)  # fmt: skip
from erlangen.systems.causal.one_connection_sem._ideals import (
    Relation,
    is_generically_finite,
    relation_test,
)
from erlangen.systems.causal.one_connection_sem._properties import PROPERTIES
from erlangen.systems.causal.one_connection_sem.method import OneConnections, symbolic
from erlangen.systems.causal.one_connection_sem.rivals import (
    adjugate_of_sympy,
    characteristic,
    fraction_free,
    inverse_of_sympy,
    likelihood_ratio_test,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.05
"""Of the tests."""

SPARSE = (6, 7)
"""Nodes of the sparse graphs that are timed: a cycle and two chords."""

OURS, ADJUGATE, INVERSE, ELIMINATION, BERKOWITZ = (
    "one-connections",
    "sympy adjugate",
    "sympy LU inverse",
    "fraction-free elimination",
    "characteristic polynomial",
)


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        seeds: draws of the graphs that are timed.
        census: random cyclic mixed graphs of four to six nodes, beside all digraphs on three.
        repeats: of every time, of which the shortest counts.
        dense: nodes of the complete digraphs that are timed.
        draws, simulations: parameters of a tested model, and data sets of each.
        samples: in a data set.
        effects: weights of the edge that the tested graph lacks.
    """

    seeds: int
    census: int
    repeats: int
    dense: tuple[int, ...]
    draws: int
    simulations: int
    samples: int
    effects: tuple[float, ...]


BUDGETS = {
    "smoke": Budget(1, 6, 1, (4,), 1, 40, 500, (0.0, 0.2)),
    "full": Budget(5, 500, 5, (4, 5), 3, 400, 2000, (0.0, 0.025, 0.05, 0.1, 0.2)),
    "paper": Budget(5, 2000, 5, (4, 5), 10, 400, 2000, (0.0, 0.025, 0.05, 0.1, 0.2)),
}


# --- census ----------------------------------------------------------------------------------------------------------
def census_row(graphs: list[MixedGraph]) -> dict[str, Any]:
    """How often delta, one-connections and Sigma differ from sympy's, all expanded."""
    row = {"graphs": len(graphs), "cyclic": 0, "wrong deltas": 0, "wrong adjugates": 0, "wrong covariances": 0}
    terms = 0
    for graph in graphs:
        n = graph.nodes
        row["cyclic"] += not is_dag(graph.adjacency())
        found = symbolic(graph)
        P, delta = found.connections.adjugate(), found.connections.delta()
        det, adjugate = adjugate_of_sympy(graph)
        every = list(itertools.product(range(n), repeat=2))
        row["wrong deltas"] += det - delta.as_expr() != 0
        row["wrong adjugates"] += any(adjugate[i, j] - P[i][j].as_expr() != 0 for i, j in every)
        # Sigma from sympy's adjugate, as the product of matrices.
        C = [[found.ring.from_expr(adjugate[i, j]) for j in range(n)] for i in range(n)]
        zero, omega = found.ring.zero, found.omega
        full = [[omega.get((min(k, l), max(k, l)), zero) for l in range(n)] for k in range(n)]
        half = [[sum((full[k][l] * C[l][j] for l in range(n)), zero) for j in range(n)] for k in range(n)]
        N = found.connections.numerators(omega)
        row["wrong covariances"] += any(
            N[i][j] != sum((C[k][i] * half[k][j] for k in range(n)), zero) for i, j in every
        )
        terms = max(terms, len(delta.terms()), *(len(cell.terms()) for line in P for cell in line))
    return row | {"most terms": terms}


def census_part(run: Run[Budget]) -> Part:
    """All digraphs on three nodes, and random cyclic mixed graphs."""

    def drawn(nodes: int, seed: int) -> dict[str, Any]:
        g = Generator().manual_seed(seed + 1000 * nodes)
        count = run.budget.census // 3 + (nodes - 4 < run.budget.census % 3)
        edges = torch.randint(nodes, nodes + 4, (count,), generator=g).tolist()
        return census_row([random_cyclic_graph(nodes, most, 2, g) for most in edges])

    methods: dict[str, Callable[[int], Mapping[str, Any]]] = {
        "all digraphs on 3": lambda _: census_row(list(three_nodes()))
    }
    methods |= {f"random, {n} nodes": functools.partial(drawn, n) for n in (4, 5, 6)}
    table = sweep("census", methods, run=run, once=True)

    def wrong(column: str) -> Any:
        return np.array([table[model, column].sum() for model in table.models])

    kinds = (
        ("delta", "deltas", "sums over disjoint cycles that differ from sympy's expanded determinant of I - Lambda"),
        ("adjugate", "adjugates", "graphs with a sum over one-connections that differs from sympy's expanded adjugate"),
        (
            "covariance",
            "covariances",
            "graphs where the rule differs from the adjugate, transposed, times Omega times it",
        ),
    )
    return table.part(
        *(
            table.same(
                f"census-{short}",
                f"Census of all digraphs on three nodes and of random cyclic mixed graphs with four to six: {what}.",
                wrong(f"wrong {column}"),
                0.0,
                tol=0,
            )
            for short, column, what in kinds
        )
    )


# --- times -----------------------------------------------------------------------------------------------------------
def chorded_cycle(nodes: int, generator: Generator) -> MixedGraph:
    """A cycle through all nodes, and two more edges."""
    cycle = tuple((i, (i + 1) % nodes) for i in range(nodes))
    chords = [edge for edge in itertools.permutations(range(nodes), 2) if edge not in cycle]
    chosen = torch.randperm(len(chords), generator=generator)[:2].tolist()
    return MixedGraph(nodes, (*cycle, *(chords[k] for k in chosen)))


def shortest(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of several calls, after one that fills the caches."""
    call()
    times: list[float] = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def timed(method: str, draw: Callable[[int], MixedGraph], repeats: int, seed: int) -> dict[str, Any]:
    """Determinant and adjugate of one graph by one method; the ring is made before, for those that need one."""
    graph = draw(seed)
    made = symbolic(graph)
    ready = (graph.nodes, made.weights, made.ring)

    def ours() -> Any:
        rule = OneConnections(graph.nodes, made.weights, one=made.ring.one)
        return rule.delta(), rule.adjugate()

    calls: dict[str, Callable[[], Any]] = {
        OURS: ours,
        ADJUGATE: lambda: adjugate_of_sympy(graph),
        INVERSE: lambda: inverse_of_sympy(graph),
        ELIMINATION: lambda: fraction_free(*ready),
        BERKOWITZ: lambda: characteristic(*ready),
    }
    return {"seconds of a call": shortest(calls[method], repeats), "edges": len(graph.directed)}


def speed_part(run: Run[Budget]) -> Part:
    """Times on sparse and on complete graphs."""
    b = run.budget
    draws: dict[str, Callable[[int], MixedGraph]] = {
        f"sparse {n}": lambda seed, n=n: chorded_cycle(n, Generator().manual_seed(seed)) for n in SPARSE
    }
    draws |= {f"complete {n}": lambda _, n=n: complete(n) for n in b.dense}
    names = (OURS, ADJUGATE, INVERSE, ELIMINATION, BERKOWITZ)
    table = sweep(
        "speed",
        {
            f"{method}, {kind}": functools.partial(timed, method, draw, b.repeats)
            for kind, draw in draws.items()
            for method in names
        },
        run=run,
    )
    column = "seconds of a call"

    def claim(name: str, n: int, theirs: tuple[str, ...], words: str) -> Any:
        return table.not_worse(
            f"{name}-{n}",
            f"{OURS}, sparse {n}",
            [f"{one}, sparse {n}" for one in theirs],
            column,
            statement=f"Speed on a cycle through {n} nodes with two chords: seconds for determinant and adjugate, expanded, of "
            f"the closed form over those of {words}.",
        )

    return table.part(
        *(claim("closed-form-against-adjugate", n, (ADJUGATE,), "sympy's adjugate") for n in SPARSE),
        *(
            claim("closed-form-against-lu", n, (INVERSE,), "sympy's inverse by LU, which is left unexpanded")
            for n in SPARSE
        ),
        *(
            claim(
                "closed-form-against-elimination",
                n,
                (ELIMINATION, BERKOWITZ),
                "fraction-free elimination or the characteristic polynomial in the same ring, whichever is faster",
            )
            for n in SPARSE
        ),
    )


# --- constraints -----------------------------------------------------------------------------------------------------
def constraints_part(run: Run[Budget]) -> Part:
    """Dimension, codimension and polynomials of the graphs; what they are is judged by the properties."""

    def row(graph: MixedGraph, degree: int, _: int) -> dict[str, Any]:
        found = relations_of(graph, degree)
        counts = [f"{count} of degree {d}" for d, count in sorted(_counted(found).items())]
        g = run.generator()
        return {
            "parameters": len(graph.directed) + graph.nodes + len(graph.bidirected),
            "codimension": codimension(graph),
            "finite-to-one": str(is_generically_finite(graph)).lower(),
            "looked through to degree": degree,
            "new polynomials": ", ".join(counts) or "none",
            "rank of their gradients": gradient_rank(graph, found, g),
            "rank of the gradients of minors": gradient_rank(graph, vanishing_minors(graph), g),
        }

    cases = {name: functools.partial(row, graph, degree) for name, (graph, degree, *_) in KNOWN.items()}
    table = sweep(
        "constraints", {**cases, "3-cycle with a spouse": functools.partial(row, *NEW[:2])}, run=run, once=True
    )
    return table.part()


def _counted(found: list[Relation]) -> dict[int, int]:
    degrees = [one.degree for one in found]
    return {degree: degrees.count(degree) for degree in set(degrees)}


# --- tests of a model ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A graph that is tested, and an edge of the true model that it lacks."""

    name: str
    graph: MixedGraph
    extra: tuple[int, int]
    degree: int = 3

    @property
    def relations(self) -> list[Relation]:
        """Constraints of the graph that are tested, as many as its codimension."""
        return relations_of(self.graph, self.degree)


CASES = (Case("4-cycle", FOUR_CYCLE, (0, 2)), Case("3-cycle with a spouse", SPOUSE, (3, 1)))


def drawn_model(case: Case, effect: float, generator: Generator) -> LinearSEM:
    """Weights of 0.4 to 0.8 in size, variances of 0.8 to 1.2, correlations of 0.4, and the edge that the graph lacks."""
    n = case.graph.nodes
    drawn = 0.4 + 0.4 * torch.rand(n, n, generator=generator, dtype=torch.float64)
    signs = 2.0 * torch.randint(2, (n, n), generator=generator) - 1
    weights = drawn * signs * case.graph.adjacency()
    omega = (0.8 + 0.4 * torch.rand(n, generator=generator, dtype=torch.float64)).diag() + 0.4 * case.graph.correlated()
    weights[case.extra] = effect
    return LinearSEM(weights, omega)


def covariances(case: Case, effect: float, budget: Budget, seed: int) -> Tensor:
    """Sample covariances of all simulations, ``[draws * simulations, n, n]``; the mean is known to be zero."""
    found: list[Tensor] = []
    for draw in range(budget.draws):
        g = Generator().manual_seed(seed + 7919 * draw)
        model = drawn_model(case, effect, g)
        drawn = model.sample(budget.simulations * budget.samples, generator=g)
        X = drawn.unflatten(0, (budget.simulations, budget.samples))
        found.append(X.mT @ X / budget.samples)
    return torch.cat(found)


def model_test_part(run: Run[Budget]) -> Part:
    """Level and power of found constraints, and of the likelihood ratio."""
    b = run.budget

    @functools.cache
    def data(case: Case, effect: float, seed: int) -> Tensor:
        return covariances(case, effect, b, seed)

    def rejected(p: Tensor) -> dict[str, Any]:
        count = int((p < LEVEL).sum())
        chance = float(stats.binomtest(count, len(p), LEVEL).pvalue)
        return {"simulations": len(p), "rejected": count / len(p), "p of the level": chance}

    def by_polynomials(case: Case, effect: float, seed: int) -> dict[str, Any]:
        return rejected(relation_test(case.relations, data(case, effect, seed), b.samples))

    def by_likelihood(case: Case, effect: float, seed: int) -> dict[str, Any]:
        g = Generator().manual_seed(seed)
        fit = likelihood_ratio_test(
            case.graph, data(case, effect, seed), b.samples, codimension(case.graph), generator=g
        )
        return rejected(fit.p) | {"not converged": float((fit.gradient > 1e-2).double().mean())}

    methods = {
        f"{case.name}, effect {effect:g}, {name}": functools.partial(test, case, effect)
        for case in CASES
        for effect in b.effects
        for name, test in (("polynomials", by_polynomials), ("likelihood ratio", by_likelihood))
    }
    table = sweep("model test", methods, run=run, larger=("rejected",), once=True)
    return table.part(
        *(
            table.bound(
                f"level-of-polynomials-{name}",
                f"Model test: two-sided binomial p-value of how often the found constraints of the true {case.name} are rejected "
                "at level 0.05, over all simulations.",
                table[f"{case.name}, effect 0, polynomials", "p of the level"],
                at_least=0.01,
            )
            for name, case in zip(("four-cycle", "spouse"), CASES, strict=True)
        )
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts; a dry run takes few graphs and simulations."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(run, *PROPERTIES), census_part(few), speed_part(few), constraints_part(few), model_test_part(few)
    )


def figure(result: Result) -> Figure:
    """How often a wrong graph is rejected, by the weight of the edge that it lacks."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "model test":
            case, effect, test = str(row["model"]).split(", ")
            curves.setdefault(f"{case}, {test}", []).append((float(effect.split()[1]), float(str(row["rejected"]))))
    return plots.line(curves, "weight of the missing edge", "rejected at level 0.05")
