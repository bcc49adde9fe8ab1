"""The one-connection rule: signs and sums by hand, polynomials, tests of a model, and what is refused."""

import itertools
from fractions import Fraction
from typing import Any

import networkx as nx
import pytest
import torch
from sympy import Symbol
from torch import Tensor

from erlangen.causal import LinearSEM, MixedGraph, is_dag
from erlangen.errors import DataError, ErlangenError, ErlangenWarning, NotFiniteError, ShapeError, UnknownNameError
from erlangen.solve import PRIMES, modular_matmul
from erlangen.systems.causal.one_connection_sem import (
    OneConnections,
    Relation,
    covariance,
    is_generically_finite,
    linear_subgraphs,
    mixed_graph,
    model_dimension,
    one_connections,
    relation_test,
    symbolic,
    vanishing_polynomials,
)
from erlangen.systems.causal.one_connection_sem._graphs import (
    FOUR_CYCLE,
    SPOUSE,
    codimension,
    complete,
    gradient_rank,
    random_cyclic_graph,
    random_graph,
    vanishing_minors,
)
from erlangen.systems.causal.one_connection_sem._ideals import _count, _monomials, _parts, jacobian, model_points
from erlangen.systems.causal.one_connection_sem.experiment import CASES, chorded_cycle, drawn_model
from erlangen.systems.causal.one_connection_sem.rivals import (
    adjugate_of_sympy,
    characteristic,
    fraction_free,
    inverse_of_sympy,
    likelihood_ratio_test,
    trek_sum,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- sums over paths and cycles --------------------------------------------------------------------------------------
def test_two_cycles_that_touch_are_no_set_of_disjoint_ones() -> None:
    """0 <-> 1 <-> 2 share node 1; 0 <-> 1 and 2 <-> 3 are disjoint and give a product."""
    touching = OneConnections(3, {(0, 1): 2, (1, 0): 3, (1, 2): 5, (2, 1): 7})
    assert touching.delta() == 1 - 6 - 35
    apart = OneConnections(4, {(0, 1): 2, (1, 0): 3, (2, 3): 5, (3, 2): 7})
    assert apart.delta() == (1 - 6) * (1 - 35)
    assert apart.delta([0, 1, 2]) == 1 - 6
    assert apart.path_sum(0, 1) == 2 * (1 - 35)
    assert apart.path_sum(0, 3) == 0


def test_paths_and_cycles_are_as_many_as_networkx_finds() -> None:
    """With all weights one, sums count: paths of every pair of ends, and cycles by the terms of the determinant."""
    graph = random_cyclic_graph(6, 14, 0, generator(3))
    other = nx.DiGraph(list(graph.directed))
    for i, j in itertools.permutations(range(6), 2):
        found = {h.path for h in one_connections(6, graph.directed, i, j)}
        assert found == set(map(tuple, nx.all_simple_paths(other, i, j)))
    single = {h.cycles[0] for h in linear_subgraphs(6, graph.directed) if len(h.cycles) == 1}
    assert {frozenset(cycle) for cycle in single} == {frozenset(c) for c in nx.simple_cycles(other)}
    assert len(single) == len(list(nx.simple_cycles(other)))


def test_linear_subgraphs_cover_every_node_once() -> None:
    for h in linear_subgraphs(4, complete(4).directed):
        assert sorted([*h.loops, *itertools.chain(*h.cycles)]) == list(range(4))
    assert sum(1 for _ in linear_subgraphs(4, complete(4).directed)) == 24
    for h in one_connections(4, complete(4).directed, 0, 3):
        assert sorted([*h.path, *h.loops, *itertools.chain(*h.cycles)]) == list(range(4))


@pytest.mark.parametrize("i", range(3))
def test_signs_of_one_connections(i: int) -> None:
    """Of 3 nodes, 0 <-> 1: from 2 to 2 there is the path (2) with two loops, and with the cycle, whose sign is minus."""
    weights = {(0, 1): 2, (1, 0): 5}
    terms = sorted(h.term(weights) for h in one_connections(3, weights, i, i))
    assert terms == ([-10, 1] if i == 2 else [1])


def test_all_rivals_agree() -> None:
    graph = chorded_cycle(5, generator(1))
    found = symbolic(graph)
    ready = (graph.nodes, found.weights, found.ring)
    P, delta = found.connections.adjugate(), found.connections.delta()
    for det, adjugate in (fraction_free(*ready), characteristic(*ready)):
        assert det == delta
        assert adjugate == P
    det, adjugate = adjugate_of_sympy(graph)
    assert det - delta.as_expr() == 0
    assert all(adjugate[i, j] - P[i][j].as_expr() == 0 for i in range(5) for j in range(5))
    at: dict[Any, Any] = {Symbol(f"l{i}_{j}"): i + 2 * j + 3 for i, j in graph.directed}
    inverse = inverse_of_sympy(graph).subs(at)
    assert all(inverse[i, j] * det.subs(at) == adjugate[i, j].subs(at) for i in range(5) for j in range(5))


def test_a_chain_follows_the_trek_rule() -> None:
    """x -> y, y = a x + noise: var(y) = a^2 w00 + w11 + 2 a w01."""
    found = symbolic(MixedGraph(2, ((0, 1),), ((1, 0),)))
    a, w, zero = found.weights[0, 1], found.omega, found.ring.zero
    due = [[w[0, 0], a * w[0, 0] + w[0, 1]], [a * w[0, 0] + w[0, 1], a**2 * w[0, 0] + w[1, 1] + 2 * a * w[0, 1]]]
    assert found.connections.numerators(w) == due
    graph = MixedGraph(2, ((0, 1),), ((1, 0),))
    assert [[trek_sum(graph, found.weights, w, i, j, zero) for j in range(2)] for i in range(2)] == due


def test_conventions_transpose() -> None:
    weights = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, -2.0], [0.3, 0.0, 0.0]], dtype=torch.float64)
    omega = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    due = LinearSEM(weights, omega).covariance()
    assert torch.allclose(covariance(weights, omega), due, rtol=1e-13)
    assert torch.allclose(covariance(weights.mT, omega, convention="j to i"), due, rtol=1e-13)
    assert not torch.allclose(covariance(weights.mT, omega), due)
    assert covariance(weights.float(), omega.float()).dtype == torch.float32


# --- ranks and polynomials -------------------------------------------------------------------------------------------
def test_the_jacobian_is_the_derivative() -> None:
    graph = random_cyclic_graph(4, 6, 2, generator(2))
    weights = 0.4 * torch.randn(4, 4, generator=generator(1), dtype=torch.float64) * graph.adjacency()
    omega = torch.eye(4, dtype=torch.float64) * 2 + 0.3 * graph.correlated()

    def packed(theta: Tensor) -> Tensor:
        a, w = weights.clone(), omega.clone()
        d, b = len(graph.directed), len(graph.bidirected)
        for k, (i, j) in enumerate(graph.directed):
            a[i, j] = theta[k]
        for k, (i, j) in enumerate(graph.bidirected):
            w[i, j] = w[j, i] = theta[d + k]
        for k in range(4):
            w[k, k] = theta[d + b + k]
        inverse = torch.linalg.inv(torch.eye(4) - a)
        sigma = inverse.mT @ w @ inverse
        i, j = torch.triu_indices(4, 4)
        return sigma[i, j]

    theta = torch.stack(
        [*(weights[e] for e in graph.directed), *(omega[e] for e in graph.bidirected), *omega.diagonal()]
    )
    due = torch.autograd.functional.jacobian(packed, theta)
    model = LinearSEM(weights, omega)
    assert torch.allclose(jacobian(graph, model.effects(), model.covariance()), due, atol=1e-12)


def test_points_are_on_the_model() -> None:
    """(I - Lambda)^T Sigma (I - Lambda) is zero where Omega is."""
    p = PRIMES[2]
    effects, sigma = model_points(SPOUSE, 5, p, generator=generator())
    assert torch.equal(sigma, sigma.mT)
    from erlangen.solve import modular_inverse

    inner = modular_inverse(effects, p)
    omega = modular_matmul(modular_matmul(inner.mT, sigma, p), inner, p)
    allowed = SPOUSE.correlated() | torch.eye(4, dtype=torch.bool)
    assert not omega[:, ~allowed].any()
    assert omega[:, allowed].all()
    assert not inner[:, ~(SPOUSE.adjacency() | torch.eye(4, dtype=torch.bool))].any()


@pytest.mark.parametrize(("n", "degree"), [(3, 3), (4, 4), (5, 2)])
def test_monomials_are_counted_and_listed(n: int, degree: int) -> None:
    pairs = list(itertools.combinations_with_replacement(range(n), 2))
    every = list(itertools.combinations_with_replacement(pairs, degree))
    multidegrees = list(_parts(2 * degree, n))
    listed = [m for multidegree in multidegrees for m in _monomials(multidegree)]
    assert sorted(listed) == sorted(every)
    sizes = [len(list(_monomials(multidegree))) for multidegree in multidegrees]
    assert sizes == [_count(tuple(sorted(multidegree))) for multidegree in multidegrees]
    even = tuple(sorted(2 * degree // n + (k < 2 * degree % n) for k in range(n)))
    assert max(sizes) == _count(even)


def test_gradients_of_polynomials() -> None:
    relation = vanishing_polynomials(FOUR_CYCLE, 3)[1]
    S = torch.randn(4, 4, generator=generator(), dtype=torch.float64)
    i, j = torch.triu_indices(4, 4)
    v = (S + S.mT)[i, j].requires_grad_()
    full = torch.zeros(4, 4, dtype=torch.float64).index_put((i, j), v).index_put((j, i), v)
    (due,) = torch.autograd.grad(relation(full), v)
    assert torch.allclose(relation.gradient(full.detach()), due, atol=1e-12)


def test_a_partial_covariance_is_found() -> None:
    """4-cycle: the cubic of nodes 2 and 4 given 1 and 3 is a minor, computed here by torch."""
    relation = vanishing_polynomials(FOUR_CYCLE, 3)[0]
    S = torch.randn(4, 4, generator=generator(), dtype=torch.float64)
    S = S + S.mT
    minor = torch.linalg.det(S[[1, 0, 2]][:, [3, 0, 2]])
    assert abs(float(relation(S))) == pytest.approx(abs(float(minor)), rel=1e-10)
    assert {one.multidegree for one in vanishing_minors(FOUR_CYCLE)} >= {relation.multidegree}


def test_the_constraint_of_a_cycle_vanishes_on_models_and_not_beside_them() -> None:
    (relation,) = [one for one in vanishing_polynomials(SPOUSE, 3) if one.multidegree == (1, 2, 1, 2)]
    model = drawn_model(CASES[1], 0.0, generator(5))
    assert abs(float(relation(model.covariance()))) < 1e-12
    wrong = drawn_model(CASES[1], 0.3, generator(5))
    assert abs(float(relation(wrong.covariance()))) > 1e-3


def without_names(graph: MixedGraph) -> str:
    """The same text for graphs that differ in the names of their nodes."""
    renamed = (graph.relabelled(names) for names in itertools.permutations(range(graph.nodes)))
    return min(str((sorted(g.directed), sorted(map(sorted, g.bidirected)))) for g in renamed)


def test_which_cyclic_graphs_with_four_edges_have_more_than_minors() -> None:
    """Of all simple mixed graphs on four nodes with four edges and a directed cycle, up to names."""
    found: dict[str, MixedGraph] = {}
    for used in itertools.combinations(itertools.combinations(range(4), 2), 4):
        for kinds in itertools.product(range(3), repeat=4):
            ways = [(edge[::-1] if kind == 1 else edge, kind) for edge, kind in zip(used, kinds, strict=True)]
            graph = MixedGraph(4, tuple(e for e, k in ways if k < 2), tuple(e for e, k in ways if k == 2))
            if not is_dag(graph.adjacency()):
                found.setdefault(without_names(graph), graph)
    assert len(found) == 4  # the 4-cycle, and a 3-cycle with an edge into, out of or between it and the fourth node
    missed = {
        text
        for text, graph in found.items()
        if gradient_rank(graph, vanishing_minors(graph), generator()) < codimension(graph)
    }
    assert missed == {without_names(SPOUSE), without_names(MixedGraph(4, ((0, 1), (1, 2), (2, 0), (3, 0))))}


def test_fractions_in_coefficients_become_integers() -> None:
    """Sigma of the bow is any matrix; of two nodes without an edge s12 = 0, and its multiples do not come again."""
    assert vanishing_polynomials(MixedGraph(2, ((0, 1),), ((0, 1),)), 3) == []
    assert vanishing_polynomials(MixedGraph(2), 3) == [Relation((1, 1), ((1, ((0, 1),)),))]


def test_a_cycle_of_two_is_not_finite() -> None:
    assert model_dimension(MixedGraph(2, ((0, 1), (1, 0)))) == 3
    assert not is_generically_finite(MixedGraph(2, ((0, 1), (1, 0))))


# --- tests of a model ------------------------------------------------------------------------------------------------
def test_walds_test_of_one_correlation() -> None:
    """s12 = 0: n s12^2 / (s11 s22 + s12^2)."""
    relation = Relation((1, 1), ((1, ((0, 1),)),))
    S = torch.tensor([[2.0, 0.3], [0.3, 1.5]], dtype=torch.float64)
    statistic = torch.tensor(50 * 0.09 / (3.0 + 0.09), dtype=torch.float64)
    due = torch.special.erfc((statistic / 2).sqrt())
    assert torch.allclose(relation_test([relation], S, 50), due, rtol=1e-12)


def test_the_likelihood_ratio_of_independence() -> None:
    """Of a graph without edges: -n log det of the correlations."""
    X = torch.randn(20, 500, 3, generator=generator(), dtype=torch.float64)
    S = X.mT @ X / 500
    fit = likelihood_ratio_test(MixedGraph(3), S, 500, 3, generator=generator())
    scale = S.diagonal(dim1=-2, dim2=-1).rsqrt()
    due = -500 * torch.linalg.slogdet(scale[:, :, None] * S * scale[:, None, :]).logabsdet
    assert torch.allclose(fit.statistic, due, atol=1e-8)
    assert float(fit.gradient.max()) < 1e-4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fits_reach_a_true_cyclic_model(case: Any) -> None:
    sigma = torch.stack([drawn_model(case, 0.0, generator(seed)).covariance() for seed in range(5)])
    fit = likelihood_ratio_test(case.graph, sigma, 1000, 2, generator=generator())
    assert float(fit.statistic.abs().max()) < 1e-6
    assert float((relation_test(case.relations, sigma, 1000) - 1).abs().max()) < 1e-6


# --- bad input -------------------------------------------------------------------------------------------------------
def test_graphs_that_are_none() -> None:
    for edges, message in (
        ([(0, 3)], "nodes are 0 to 2"),
        ([(0, 1), (0, 1)], "twice"),
        ([(1, 1)], "loop"),
    ):
        with pytest.raises(DataError, match=message):
            symbolic(MixedGraph(3, tuple(edges)))
    with pytest.raises(DataError, match="loop"):
        symbolic(MixedGraph(3, (), ((2, 2),)))
    with pytest.raises(DataError, match="twice"):
        symbolic(MixedGraph(3, (), ((0, 2), (2, 0))))
    with pytest.raises(DataError, match="loop"):
        OneConnections(2, {(1, 1): 0.5})
    with pytest.raises(DataError, match="nodes are 0 to 1"):
        one_connections(2, [(0, 1)], 0, 2).__next__()


@pytest.mark.parametrize("zero", [0, 0.0, Fraction(0)])
def test_weights_of_zero(zero: Any) -> None:
    with pytest.raises(DataError, match=r"weights\[\(0, 1\)\] is zero; leave the edge out"):
        OneConnections(2, {(0, 1): zero})


def test_cycles_without_equilibrium() -> None:
    with pytest.raises(ErlangenError, match="no equilibrium"):
        OneConnections(2, {(0, 1): Fraction(2), (1, 0): Fraction(1, 2)}, one=Fraction(1)).covariance(
            {(0, 0): Fraction(1), (1, 1): Fraction(1)}
        )
    singular = torch.tensor([[0.0, 2.0], [0.5, 0.0]], dtype=torch.float64)
    with pytest.warns(ErlangenWarning, match="condition number"), pytest.raises(ErlangenError, match="no equilibrium"):
        covariance(singular, torch.eye(2, dtype=torch.float64))
    nearly = singular.clone()
    nearly[0, 1] += 1e-13
    with pytest.warns(ErlangenWarning, match="use fractions"):
        covariance(nearly, torch.eye(2, dtype=torch.float64))


def test_too_many_paths_and_cycles() -> None:
    with pytest.raises(ErlangenError, match=r"more than max_terms = 100 paths and cycles \(\d+ so far\).*LinearSEM"):
        symbolic(complete(6), max_terms=100)
    rule = OneConnections(3, {(0, 1): 1, (1, 2): 1})
    assert rule.terms == 3 + 2 + 1 + 3 + 2 + 1  # paths; and those that may close a cycle
    assert OneConnections(3, {(0, 1): 1, (1, 2): 1}, max_terms=rule.terms).delta() == 1
    with pytest.raises(ErlangenError, match="max_terms"):
        OneConnections(3, {(0, 1): 1, (1, 2): 1}, max_terms=rule.terms - 1)


def test_too_many_monomials() -> None:
    with pytest.raises(ErlangenError, match="135135 monomials, more than max_block = 20000; ask for a lower degree"):
        vanishing_polynomials(MixedGraph(14), 7)  # 13!! ways to pair fourteen
    with pytest.raises(ErlangenError, match="has 3 monomials, more than max_block = 2"):
        vanishing_polynomials(MixedGraph(4, ((0, 1), (1, 2), (2, 3))), 2, max_block=2)
    with pytest.raises(ErlangenError, match="degree = 0"):
        vanishing_polynomials(MixedGraph(2), 0)


def test_labels_need_no_order() -> None:
    graph = mixed_graph(["b", 1, None, (2,)], [("b", 1), (1, None)], [((2,), "b")])
    assert graph == MixedGraph(4, ((0, 1), (1, 2)), ((3, 0),))
    with pytest.raises(DataError, match="'c' is no label"):
        mixed_graph(["b", 1], [("b", "c")])
    with pytest.raises(DataError, match="a label of its own"):
        mixed_graph(["b", 1, "b"])
    with pytest.raises(DataError, match="loop"):
        mixed_graph(["b", 1], [("b", "b")])


def test_noise_that_does_not_fit() -> None:
    rule = OneConnections(2, {(0, 1): 2})
    with pytest.raises(DataError, match="no variance of node 1"):
        rule.numerators({(0, 0): 1})
    for extra in ({(0, 1): 1, (1, 0): 1}, {(0, 2): 1}):
        with pytest.raises(DataError, match="a pair stands there once"):
            rule.numerators({(0, 0): 1, (1, 1): 1, **extra})


def test_matrices_that_do_not_fit() -> None:
    eye, zero = torch.eye(2), torch.zeros(2, 2)
    with pytest.raises(UnknownNameError, match="'i to j', 'j to i'"):
        covariance(zero, eye, convention="rows")  # pyright: ignore
    with pytest.raises(ShapeError, match=r"Omega has shape \(3, 3\)"):
        covariance(zero, torch.eye(3))
    with pytest.raises(DataError, match="not symmetric"):
        covariance(zero, torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(DataError, match="loop"):
        covariance(eye / 2, eye)
    with pytest.raises(NotFiniteError, match="Lambda"):
        covariance(zero / 0, eye)
    with pytest.raises(ShapeError, match="one or more"):
        relation_test([], eye, 10)


def test_drawn_graphs_are_what_they_say() -> None:
    graph = random_graph(5, 4, 3, generator(), simple=True)
    assert graph.is_simple
    assert (len(graph.directed), len(graph.bidirected)) == (4, 3)
