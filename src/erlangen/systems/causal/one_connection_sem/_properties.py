"""What holds exactly: the rule against inverses and sums by other ways, its symmetries, ranks, polynomials found again."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.causal import LinearSEM, MixedGraph, random_dag
from erlangen.solve import PRIMES
from erlangen.survey import Run, exact, largest, number
from erlangen.systems.causal.one_connection_sem._graphs import (
    BOW,
    CYCLE_INSTRUMENT,
    CYCLE_INSTRUMENTS,
    INSTRUMENT,
    KNOWN,
    NEW,
    SPOUSE,
    TWO_CYCLE,
    codimension,
    complete,
    gradient_rank,
    random_cyclic_graph,
    random_graph,
    relations_of,
    three_nodes,
    vanishing_minors,
)  # fmt: skip
from erlangen.systems.causal.one_connection_sem._ideals import (
    Relation,
    is_generically_finite,
    model_dimension,
    model_points,
)
from erlangen.systems.causal.one_connection_sem.method import (
    OneConnections,
    covariance,
    linear_subgraphs,
    one_connections,
    symbolic,
)
from erlangen.systems.causal.one_connection_sem.rivals import domain_matrix, permutation_sum, trek_sum

Edge = tuple[int, int]


@functools.cache
def _digraphs(seed: int, count: int = 100) -> tuple[MixedGraph, ...]:
    """The complete one on four nodes, and random ones of up to six, most of them cyclic."""
    g = Generator().manual_seed(seed)
    sizes = torch.randint(3, 7, (count,), generator=g).tolist()
    return (complete(4), *(random_graph(n, min(n + 2, n * (n - 1)), 0, g) for n in sizes))


def random_fractions(edges: Any, generator: Generator) -> dict[Any, Fraction]:
    """Numbers a / b with a in -5..5 without 0, b in 1..7."""
    found: dict[Any, Fraction] = {}
    for edge in edges:
        a, b, sign = (int(torch.randint(k, (), generator=generator)) for k in (5, 7, 2))
        found[edge] = Fraction((a + 1) * (-1 if sign else 1), b + 1)
    return found


def _noise(graph: MixedGraph) -> list[Edge]:
    return [(k, k) for k in range(graph.nodes)] + [(min(e), max(e)) for e in graph.bidirected]


def _differ(a: list[list[Any]], b: list[list[Any]]) -> bool:
    return any(x != y for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True))


# --- the closed form -------------------------------------------------------------------------------------------------
@exact(tol=0)
def delta_is_the_determinant(run: Run[Any]) -> float:
    """Digraphs, of all 64 on three nodes, the complete one on four and 100 random ones of up to six, whose sum over disjoint
    cycles is not sympy's det(I - Lambda), in symbols.
    """
    wrong = 0
    for graph in (*three_nodes(), *_digraphs(run.seed)):
        found = symbolic(graph)
        det = domain_matrix(graph.nodes, found.weights, found.ring).charpoly()[-1]  # of the matrix: (-1)^n det
        wrong += found.connections.delta() != det * (-1) ** graph.nodes
    return wrong


@exact(tol=0)
def one_connections_invert(run: Run[Any]) -> float:
    """Digraphs, of all 64 on three nodes, the complete one on four and 100 random ones of up to six, where the sums over
    one-connections P have P (I - Lambda) other than delta times the identity, in symbols.
    """
    wrong = 0
    for graph in (*three_nodes(), *_digraphs(run.seed)):
        found, n = symbolic(graph), graph.nodes
        P, delta = found.connections.adjugate(), found.connections.delta()
        left = [list(row) for row in P]
        for i in range(n):
            for (k, j), weight in found.weights.items():
                left[i][j] = left[i][j] - P[i][k] * weight
        wrong += _differ(left, [[delta if i == j else found.ring.zero for j in range(n)] for i in range(n)])
    return wrong


@exact(tol=0)
def loops_and_permutations_agree(run: Run[Any]) -> float:
    """Digraphs, the complete one on four nodes and 20 random ones of up to six, where linear subgraphs or one-connections with
    loops, listed one by one with their signs, or permutations, sum to something else than the collapsed form, in symbols.
    """
    wrong = 0
    for graph in _digraphs(run.seed)[:21]:
        found, n = symbolic(graph), graph.nodes
        one, zero = found.ring.one, found.ring.zero
        dense = domain_matrix(n, found.weights, found.ring).to_list()
        bad = found.connections.delta() != sum(
            (h.term(found.weights, one) for h in linear_subgraphs(n, graph.directed)), zero
        )
        for i, j in itertools.product(range(n), repeat=2):
            P = found.connections.path_sum(i, j)
            bad |= sum((h.term(found.weights, one) for h in one_connections(n, graph.directed, i, j)), zero) != P
            if n <= 4 or (i, j) == (0, n - 1):  # 720 permutations for one entry are enough
                bad |= permutation_sum(dense, i, j, one) != P
        wrong += bad
    return wrong


@exact(tol=0)
def covariances_of_fractions(run: Run[Any]) -> float:
    """Cyclic mixed graphs, of 60 with random fractions, where (I - Lambda)^T Sigma (I - Lambda) of the rule is not
    Omega exactly.
    """
    g, wrong = run.generator(), 0
    for k in range(60):
        n = 3 + k % 4
        graph = random_cyclic_graph(n, n + 2 if n > 3 else 4, 2, g)
        weights, omega = random_fractions(graph.directed, g), random_fractions(_noise(graph), g)
        rule = OneConnections(n, weights, one=Fraction(1))
        if rule.delta() == 0:
            continue
        sigma = rule.covariance(omega)
        eye = [[Fraction(int(i == j)) - weights.get((i, j), 0) for j in range(n)] for i in range(n)]
        back = [
            [sum(eye[a][i] * sigma[a][b] * eye[b][j] for a in range(n) for b in range(n)) for j in range(n)]
            for i in range(n)
        ]
        due = [[omega.get((min(i, j), max(i, j)), Fraction(0)) for j in range(n)] for i in range(n)]
        wrong += _differ(back, due)
    return wrong


def _numbers(run: Run[Any], low: float, high: float, count: int = 40) -> Iterator[tuple[Tensor, Tensor]]:
    """Lambda and Omega of random cyclic mixed graphs on five nodes, with the spectral radius of Lambda in this range."""
    g = run.generator()
    while count:
        graph = random_cyclic_graph(5, 8, 3, g)
        drawn = torch.randn(5, 5, generator=g, dtype=torch.float64) * graph.adjacency()
        radius = float(torch.linalg.eigvals(drawn).abs().max())
        if radius < 1e-3:
            continue
        due = low + (high - low) * float(torch.rand((), generator=g))
        root = torch.randn(5, 5, generator=g, dtype=torch.float64)
        omega = torch.where(graph.correlated(), 0.3 * (root + root.mT).clamp(-2, 2), 0) + 3 * torch.eye(5)
        yield drawn * due / radius, omega
        count -= 1


def _error(weights: Tensor, omega: Tensor) -> float:
    """Relative error of the rule against a solve."""
    solved = LinearSEM(weights, omega).covariance()
    return float((covariance(weights, omega) - solved).norm() / solved.norm())


@exact(tol=1e-12)
def covariances_of_stable_cycles(run: Run[Any]) -> float:
    """Largest relative error of Sigma by the rule, of 40 cyclic models with a spectral radius of Lambda below 0.9."""
    return largest(_error(*pair) for pair in _numbers(run, 0.1, 0.9))


@exact(tol=1e-12)
def covariances_of_unstable_cycles(run: Run[Any]) -> float:
    """Largest relative error of Sigma by the rule, over the condition number of I - Lambda, of 40 cyclic models with a spectral
    radius of Lambda from 1.1 to 3.
    """
    eye = torch.eye(5, dtype=torch.float64)
    return largest(_error(a, omega) / float(torch.linalg.cond(eye - a)) for a, omega in _numbers(run, 1.1, 3.0))


@exact(tol=1e-12)
def paths_over_delta_are_walks(run: Run[Any]) -> float:
    """Largest relative difference of P / delta to the sum of the powers of Lambda, of 40 cyclic models with a spectral radius
    below 0.5.
    """
    worst = 0.0
    for weights, _ in _numbers(run, 0.1, 0.5):
        edges = {(i, j): float(weights[i, j]) for i, j in weights.nonzero().tolist()}
        rule = OneConnections(5, edges, one=1.0)
        found = torch.tensor(rule.adjugate(), dtype=torch.float64) / rule.delta()
        power = total = torch.eye(5, dtype=torch.float64)
        for _ in range(80):
            power = power @ weights
            total = total + power
        worst = largest(worst, float((found - total).norm() / total.norm()))
    return worst


@exact(tol=0)
def acyclic_graphs_follow_the_trek_rule(run: Run[Any]) -> float:
    """Acyclic mixed graphs, of 20 on five nodes, where delta is not 1 or Sigma not the sum over treks one by one, in symbols."""
    g, wrong = run.generator(), 0
    for _ in range(20):
        edges = tuple((i, j) for i, j in random_dag(5, 7, generator=g).nonzero().tolist())
        pairs = list(itertools.combinations(range(5), 2))
        chosen = torch.randperm(10, generator=g)[:2].tolist()
        graph = MixedGraph(5, edges, tuple(pairs[k] for k in chosen))
        found = symbolic(graph)
        sigma, zero = found.connections.numerators(found.omega), found.ring.zero
        treks = [[trek_sum(graph, found.weights, found.omega, i, j, zero) for j in range(5)] for i in range(5)]
        wrong += _differ(sigma, treks) or found.connections.delta() != 1
    return wrong


# --- symmetries ------------------------------------------------------------------------------------------------------
def _moved(run: Run[Any], check: Callable[[MixedGraph, Any, Any, Generator], bool]) -> float:
    """How many of 20 cyclic mixed graphs with fractions break a law."""
    g, wrong = run.generator(), 0
    for k in range(20):
        n = 4 + k % 2
        graph = random_cyclic_graph(n, n + 2, 2, g)
        weights, omega = random_fractions(graph.directed, g), random_fractions(_noise(graph), g)
        if OneConnections(n, weights, one=Fraction(1)).delta() != 0:
            wrong += not check(graph, weights, omega, g)
    return wrong


@exact(tol=0)
def relabelling_commutes(run: Run[Any]) -> float:
    """Cyclic mixed graphs, of 20 with random fractions, whose Sigma does not move with the names of the nodes exactly."""

    def check(graph: MixedGraph, weights: Any, omega: Any, g: Generator) -> bool:
        names = torch.randperm(graph.nodes, generator=g).tolist()
        sigma = OneConnections(graph.nodes, weights, one=Fraction(1)).covariance(omega)
        moved = OneConnections(
            graph.nodes, {(names[i], names[j]): w for (i, j), w in weights.items()}, one=Fraction(1)
        ).covariance({(names[k], names[l]): w for (k, l), w in omega.items()})
        every = range(graph.nodes)
        return all(moved[names[i]][names[j]] == sigma[i][j] for i in every for j in every)

    return _moved(run, check)


@exact(tol=0)
def rescaling_of_nodes(run: Run[Any]) -> float:
    """Cyclic mixed graphs, of 20 with random fractions, where Lambda_ij t_j / t_i and t_i Omega_ij t_j do not give
    t_i Sigma_ij t_j exactly.
    """

    def check(graph: MixedGraph, weights: Any, omega: Any, g: Generator) -> bool:
        t = random_fractions(range(graph.nodes), g)
        sigma = OneConnections(graph.nodes, weights, one=Fraction(1)).covariance(omega)
        moved = OneConnections(
            graph.nodes, {(i, j): w * t[j] / t[i] for (i, j), w in weights.items()}, one=Fraction(1)
        ).covariance({(k, l): w * t[k] * t[l] for (k, l), w in omega.items()})
        every = range(graph.nodes)
        return all(moved[i][j] == t[i] * t[j] * sigma[i][j] for i in every for j in every)

    return _moved(run, check)


@exact(tol=0)
def reversal_transposes(run: Run[Any]) -> float:
    """Cyclic mixed graphs, of 20 with random fractions, where turning all edges round does not exchange P_ij and P_ji exactly."""

    def check(graph: MixedGraph, weights: Any, omega: Any, g: Generator) -> bool:
        one = OneConnections(graph.nodes, weights, one=Fraction(1))
        other = OneConnections(graph.nodes, {(j, i): w for (i, j), w in weights.items()}, one=Fraction(1))
        return other.adjugate() == [list(row) for row in zip(*one.adjugate(), strict=True)]

    return _moved(run, check)


# --- small graphs by hand --------------------------------------------------------------------------------------------
@exact(tol=0)
def cycles_by_hand(run: Run[Any]) -> float:
    """Sums of the 3-cycle and of the 2-cycle, of six computed by hand, that come out otherwise, in symbols."""
    three = symbolic(MixedGraph(3, ((0, 1), (1, 2), (2, 0))))
    a, b, c = three.weights.values()
    two = symbolic(TWO_CYCLE)
    d, e = two.weights.values()
    checks = [
        three.connections.delta() == 1 - a * b * c,
        three.connections.path_sum(0, 1) == a,
        three.connections.path_sum(0, 2) == a * b,
        three.connections.path_sum(0, 0) == 1,
        two.connections.delta() == 1 - d * e,
        two.connections.numerators(two.omega)[0][0] == two.omega[0, 0] + e**2 * two.omega[1, 1],
    ]
    return checks.count(False)


@number(24)
def terms_of_the_complete_digraph(run: Run[Any]) -> float:
    """Terms of delta on the complete digraph with four nodes."""
    return len(symbolic(complete(4)).connections.delta().terms())


# --- ranks -----------------------------------------------------------------------------------------------------------
@exact(tol=0, published="simple mixed graphs are generically finite-to-one")
def simple_graphs_are_finite_to_one(run: Run[Any]) -> float:
    """Simple mixed graphs, of 300 random ones with three to seven nodes and cycles among them, whose Jacobian modulo 2^31 - 1
    lacks full column rank.
    """
    g, wrong = run.generator(), 0
    for k in range(300):
        n = 3 + k % 5
        edges = n * (n - 1) // 2
        used = int(torch.randint(edges // 2, edges + 1, (), generator=g))
        directed = int(torch.randint(used // 2, used + 1, (), generator=g))
        graph = random_graph(n, directed, used - directed, g, simple=True)
        assert graph.is_simple
        wrong += not is_generically_finite(graph, generator=g)
    return wrong


@exact(tol=0)
def ranks_of_graphs_that_are_not_simple(run: Run[Any]) -> float:
    """Ranks, of the 2-cycle, the bow, the instrument and the 2-cycle with one and with two instruments, that are not 3, 3, 6, 6
    and 8: the first two lack one, the others none.
    """
    graphs = (TWO_CYCLE, BOW, INSTRUMENT, CYCLE_INSTRUMENT, CYCLE_INSTRUMENTS)
    return sum(model_dimension(graph) != due for graph, due in zip(graphs, (3, 3, 6, 6, 8), strict=True))


# --- polynomials -----------------------------------------------------------------------------------------------------
@exact(tol=0)
def constraints_found_again(run: Run[Any]) -> float:
    """Graphs, of chain, instrument, choke point, Verma, 3-cycle with a leaf and 4-cycle, whose dimension or number of new
    polynomials by degree is not the known one.
    """
    wrong = 0
    for graph, degree, dimension, counts in KNOWN.values():
        degrees = [one.degree for one in relations_of(graph, degree)]
        wrong += model_dimension(graph) != dimension or {d: degrees.count(d) for d in set(degrees)} != counts
    return wrong


NAMED: tuple[tuple[str, tuple[int, ...], str], ...] = (
    ("chain", (1, 2, 1), "s12*s23 - s13*s22"),
    ("choke", (1, 1, 0, 1, 1), "s14*s25 - s15*s24"),
    (
        "Verma",
        (3, 2, 2, 1),
        "s11*s13*s22*s34 - s11*s13*s23*s24 - s11*s14*s22*s33 + s11*s14*s23^2 - s12^2*s13*s34 + s12^2*s14*s33 + "
        "s12*s13^2*s24 - s12*s13*s14*s23",
    ),
    ("3-cycle with a leaf", (2, 1, 0, 1), "s11*s24 - s12*s14"),
    ("3-cycle with a leaf", (2, 0, 1, 1), "s11*s34 - s13*s14"),
    ("3-cycle with a leaf", (1, 1, 1, 1), "s12*s34 - s13*s24"),
    (
        "4-cycle",
        (2, 1, 2, 1),
        "s11*s23*s34 - s11*s24*s33 - s12*s13*s34 + s12*s14*s33 + s13^2*s24 - s13*s14*s23",
    ),
    (
        "4-cycle",
        (1, 2, 1, 2),
        "s12*s23*s44 - s12*s24*s34 - s13*s22*s44 + s13*s24^2 + s14*s22*s34 - s14*s23*s24",
    ),
)
"""Of graphs of `KNOWN`: multidegrees, and the polynomials there, up to sign."""


@exact(tol=0)
def polynomials_found_again(run: Run[Any]) -> float:
    """Known polynomials, of the chain, a tetrad, Verma's quartic, three of the 3-cycle with a leaf and two of the 4-cycle, that
    are not found term by term.
    """
    wrong = 0
    for name, multidegree, text in NAMED:
        graph, degree, *_ = KNOWN[name]
        wrong += text not in [str(one) for one in relations_of(graph, degree) if one.multidegree == multidegree]
    return wrong


def _all_relations() -> list[tuple[MixedGraph, list[Relation]]]:
    graphs = [(graph, degree) for graph, degree, *_ in KNOWN.values()]
    return [(graph, relations_of(graph, degree)) for graph, degree in (*graphs, NEW[:2])]


@exact(tol=0)
def polynomials_vanish_at_fresh_points(run: Run[Any]) -> float:
    """Polynomials, of all that are found for seven graphs, that are not zero at each of 50 new models modulo a new prime."""
    g, wrong = run.generator(), 0
    for graph, found in _all_relations():
        sigma = model_points(graph, 50, PRIMES[3], generator=g)[1]
        wrong += sum(bool(one(sigma, PRIMES[3]).any()) for one in found)
    return wrong


@exact(tol=0)
def polynomials_do_not_vanish_elsewhere(run: Run[Any]) -> float:
    """Polynomials, of all that are found for seven graphs, that are zero at one of 50 random symmetric matrices."""
    g, wrong = run.generator(), 0
    for graph, found in _all_relations():
        sigma = torch.randint(PRIMES[3], (50, graph.nodes, graph.nodes), generator=g).triu()
        sigma = sigma + sigma.triu(1).mT
        wrong += sum(bool((one(sigma, PRIMES[3]) == 0).any()) for one in found)
    return wrong


@exact(tol=0)
def gradients_span_the_normal_space(run: Run[Any]) -> float:
    """Graphs, of seven, where the gradients of the found polynomials at a model have another rank than the codimension."""
    return sum(gradient_rank(graph, found, run.generator()) != codimension(graph) for graph, found in _all_relations())


@exact(tol=0)
def a_constraint_of_a_cycle_that_is_no_minor(run: Run[Any]) -> float:
    """On the 3-cycle 1 -> 2 -> 3 -> 1 with 1 <-> 4, how many of two are wrong: the cubic s12 s24 s34 - s13 s24^2 - s14 s22 s34 +
    s14 s23 s24 vanishes, and no minor of its multidegree does.
    """
    graph, degree, multidegree, text = NEW
    found = [str(one) for one in relations_of(graph, degree) if one.multidegree == multidegree]
    return (found != [text]) + any(one.multidegree == multidegree for one in vanishing_minors(graph))


@number(1)
def conditions_that_minors_miss(run: Run[Any]) -> float:
    """On the 3-cycle 1 -> 2 -> 3 -> 1 with 1 <-> 4: codimension, less the rank of the gradients of all minors that vanish."""
    return codimension(SPOUSE) - gradient_rank(SPOUSE, vanishing_minors(SPOUSE), run.generator())


PROPERTIES = (
    delta_is_the_determinant,
    one_connections_invert,
    loops_and_permutations_agree,
    covariances_of_fractions,
    covariances_of_stable_cycles,
    covariances_of_unstable_cycles,
    paths_over_delta_are_walks,
    acyclic_graphs_follow_the_trek_rule,
    relabelling_commutes,
    rescaling_of_nodes,
    reversal_transposes,
    cycles_by_hand,
    terms_of_the_complete_digraph,
    simple_graphs_are_finite_to_one,
    ranks_of_graphs_that_are_not_simple,
    constraints_found_again,
    polynomials_found_again,
    polynomials_vanish_at_fresh_points,
    polynomials_do_not_vanish_elsewhere,
    gradients_span_the_normal_space,
    a_constraint_of_a_cycle_that_is_no_minor,
    conditions_that_minors_miss,
)
