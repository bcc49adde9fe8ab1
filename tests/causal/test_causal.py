"""Causal graphs and models against definitions, closed forms, networkx and large samples."""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import networkx as nx
import numpy as np
import pytest
import scipy.stats
import torch
from torch import Generator, Tensor

import erlangen as er
from erlangen.causal import (
    Intervention,
    LinearSEM,
    MixedGraph,
    acyclicity,
    ancestors,
    is_dag,
    order_mask,
    random_dag,
    random_linear_sem,
    random_nonlinear_sem,
    relabelled,
    structure_scores,
    threshold_to_dag,
    topological_order,
    varsortability,
    walk_sums,
)
from erlangen.causal.cycles import Form
from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def digraphs(count: int, nodes: int = 6) -> list[Tensor]:
    """Random directed graphs, about half of them cyclic."""
    graphs = torch.rand(count, nodes, nodes, generator=rng()) < 0.2
    graphs[:, range(nodes), range(nodes)] = False
    return list(graphs)


def test_graphs_agree_with_networkx() -> None:
    kinds = set()
    for W in digraphs(60):
        graph = nx.DiGraph(W.int().numpy())
        acyclic = nx.is_directed_acyclic_graph(graph)
        kinds.add(acyclic)
        assert is_dag(W) == acyclic
        closure = nx.to_numpy_array(nx.transitive_closure(graph, reflexive=False)) > 0
        np.testing.assert_array_equal(ancestors(W).numpy(), closure)
        if acyclic:
            order = topological_order(W)
            assert bool((order_mask(order) | ~W).all())
            first = list(nx.lexicographical_topological_sort(graph))
            assert order.tolist() == first
        else:
            with pytest.raises(ErlangenError, match="cycle through") as error:
                topological_order(W)
            named = [int(v) for v in str(error.value).split("through ")[1].split(";")[0].split(" -> ")]
            assert named[0] == named[-1]
            assert all(bool(W[i, j]) for i, j in itertools.pairwise(named))
    assert kinds == {True, False}


def test_random_graphs() -> None:
    cases: tuple[tuple[Literal["ER", "SF", "bipartite"], int], ...] = (("ER", 40), ("bipartite", 30), ("SF", 80))
    for kind, edges in cases:
        graphs = [random_dag(20, edges, kind, generator=rng(seed)) for seed in range(20)]
        assert all(is_dag(W) for W in graphs)
        if kind == "SF":  # node k points at min(k, 4) older ones
            assert all(int(W.sum()) == 0 + 1 + 2 + 3 + 4 * 16 for W in graphs)
            most = np.mean([int(W.sum(0).max()) for W in graphs])
            uniform = np.mean([int(random_dag(20, 70, "ER", generator=rng(seed)).sum(0).max()) for seed in range(20)])
            assert most > uniform  # hubs
        else:
            assert all(int(W.sum()) == edges for W in graphs)
        # No node is special: each comes first about as often.
        if kind == "bipartite":
            assert all(int((W.sum(0) == 0).sum()) >= 4 for W in graphs)
    with pytest.raises(ErlangenError, match=r"edges = 7.*at most 6"):
        random_dag(4, 7)
    with pytest.raises(UnknownNameError, match="ER, SF, bipartite"):
        random_dag(4, 2, "WS")  # pyright: ignore[reportArgumentType]


def test_erdos_renyi_is_uniform() -> None:
    """Of 3 nodes with 2 edges there are 3 pairs x 4 directions: all 12 DAGs alike (chi-square)."""
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(2400):
        key = tuple(random_dag(3, 2, generator=rng(seed)).flatten().int().tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 12
    # Chains i -> j -> k have one order, forks and colliders two: 6 chains of weight 1, 3 + 3 of weight 2.
    weights = {
        key: 1 if max(np.sum(np.reshape(key, (3, 3)), 0)) == max(np.sum(np.reshape(key, (3, 3)), 1)) == 1 else 2
        for key in counts
    }
    expected = [2400 * weights[key] / sum(weights.values()) for key in counts]
    assert scipy.stats.chisquare(list(counts.values()), expected).pvalue > 1e-3


def test_acyclicity() -> None:
    sizes = 0.3 * torch.rand(6, 6, generator=rng(1), dtype=torch.float64)
    for W in digraphs(30):
        A = W.double() * sizes
        for form in ("logdet", "exp", "poly"):
            h = acyclicity(A, form).item()
            assert (abs(h) < 1e-12) == is_dag(W)
            assert h > -1e-12
    last = (digraphs(30)[-1].double() * sizes).requires_grad_()
    for form in get_args(Form):
        assert torch.autograd.gradcheck(
            lambda a, form=form: acyclicity(a * (1 - torch.eye(6)).double(), form), (last + 0.01,)
        )
    off = (1 - torch.eye(6)).bool()
    (slope,) = torch.autograd.grad(acyclicity(last), last)
    torch.testing.assert_close(slope[off], walk_sums(last.detach())[off])


def test_walk_sums_count_walks() -> None:
    W = torch.zeros(3, 3, dtype=torch.float64)
    W[0, 1], W[1, 2], W[0, 2] = 2, 3, 5
    H = walk_sums(W)
    assert H[2, 0].item() == pytest.approx(2 * 3 + 5)
    torch.testing.assert_close(H, (torch.eye(3).double() + W + W @ W).mT)
    with pytest.raises(ErlangenError, match="spectral radius 1"):
        acyclicity(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ErlangenError, match=r"A\[0, 1\] = -1 is negative"):
        acyclicity(torch.tensor([[0.0, -1.0], [0.0, 0.0]]))


@pytest.mark.parametrize("noise", ["normal", "exponential", "gumbel", "uniform"])
def test_covariance_is_that_of_samples(noise: str) -> None:
    W = torch.tensor([[0, 0.8, 0, 0], [0, 0, -0.5, 0], [0.4, 0, 0, 0.7], [0, 0, 0, 0]], dtype=torch.float64)  # cyclic
    variance = {"normal": 1, "exponential": 1, "gumbel": np.pi**2 / 6, "uniform": 1 / 3}[noise]
    model = LinearSEM(W, torch.tensor([1.0, 2, 0.5, 1]), noise)  # pyright: ignore[reportArgumentType]
    X = model.sample(400_000, generator=rng())
    S = variance * model.covariance()
    size = S.diagonal().sqrt()
    assert ((X.mT.cov() - S) / (size[:, None] * size)).abs().max() < 0.01
    noise_back = X - X @ W
    mean = {"normal": 0, "exponential": 1, "gumbel": np.euler_gamma, "uniform": 0}[noise]
    np.testing.assert_allclose(noise_back.mean(0), mean * np.sqrt([1, 2, 0.5, 1]), atol=0.02)


def test_correlated_noise_and_closed_forms() -> None:
    """The two-cycle: sigma_11 = (w_11 + l21^2 w_22) / (1 - l12 l21)^2; the instrument 0 -> 1 -> 2, 1 <-> 2."""
    cycle = torch.tensor([[0, 0.5], [-0.8, 0]], dtype=torch.float64)
    found = LinearSEM(cycle, torch.tensor([2.0, 3.0]).double()).covariance()
    assert found[0, 0].item() == pytest.approx((2 + 0.64 * 3) / 1.4**2)
    W = torch.zeros(3, 3).double()
    W[0, 1], W[1, 2] = 1.5, 0.7
    omega = torch.eye(3).double()
    omega[1, 2] = omega[2, 1] = 0.4
    model = LinearSEM(W, omega)
    S = model.covariance()
    assert (S[0, 2] / S[0, 1]).item() == pytest.approx(0.7)  # the instrument finds the effect, regression does not
    assert (S[1, 2] / S[1, 1]).item() != pytest.approx(0.7, abs=0.05)
    X = model.sample(300_000, generator=rng())
    torch.testing.assert_close(X.mT.cov(), S, rtol=0, atol=0.03)


def test_interventions() -> None:
    model = random_linear_sem(random_dag(6, 9, generator=rng(2)), generator=rng(), dtype=torch.float64)
    order = topological_order(model.weights)
    node = int(order[3])
    hard = model.intervened(Intervention(rows={node: torch.zeros(6)}, variances={node: 2.0}))
    S = hard.covariance()
    assert S[node, node].item() == pytest.approx(2)
    below = ancestors(model.weights)[node]
    others = [k for k in range(6) if k != node and not below[k]]
    assert S[node, others].abs().max() < 1e-14
    before = model.covariance()
    up = [int(k) for k in order[:3]]
    torch.testing.assert_close(before[up][:, up], S[up][:, up])
    # What a soft intervention does not touch keeps its equation: regression on the causes still finds it.
    soft = model.intervened(Intervention(rows={node: 0.3 * (model.weights[:, node] != 0).double()}))
    after = soft.covariance()
    for j in range(6):
        causes = (model.weights[:, j] != 0).nonzero()[:, 0]
        if len(causes) and j != node:
            found = torch.linalg.solve(after[causes][:, causes], after[causes, j])
            torch.testing.assert_close(found, model.weights[causes, j])
    with pytest.raises(DataError, match="node 9"):
        model.intervened(Intervention(variances={9: 1.0}))
    with pytest.raises(DataError, match=r"variances\[0\] = -1"):
        model.intervened(Intervention(variances={0: -1.0}))
    with pytest.raises(ShapeError, match=r"rows\[0\]"):
        model.intervened(Intervention(rows={0: torch.zeros(2)}))


def test_cutting_a_node_cuts_its_hidden_causes() -> None:
    omega = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    model = LinearSEM(torch.zeros(2, 2), omega)
    cut = model.intervened(Intervention(rows={0: torch.zeros(2)})).covariance()
    torch.testing.assert_close(cut, torch.eye(2))
    scaled = model.intervened(Intervention(variances={0: 4.0})).covariance()
    torch.testing.assert_close(scaled, torch.tensor([[4.0, 1.0], [1.0, 1.0]]))  # the correlation stays


def test_draws_and_bad_models() -> None:
    W = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    X = LinearSEM(W, noise="logistic").sample(100_000, generator=rng())
    assert set(X.unique().tolist()) == {0.0, 1.0}
    on = X[:, 0] == 1
    assert X[on, 1].mean().item() == pytest.approx(1 / (1 + np.exp(-2)), abs=0.01)
    counts = LinearSEM(W, noise="poisson").sample(50_000, generator=rng())
    assert counts[counts[:, 0] == 1, 1].mean().item() == pytest.approx(np.exp(2), rel=0.02)
    with pytest.raises(ErlangenError, match="no covariance"):
        LinearSEM(W, noise="poisson").covariance()
    with pytest.raises(ErlangenError, match="no equilibrium"):
        LinearSEM(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(DataError, match="loop at node 1"):
        LinearSEM(torch.tensor([[0.0, 0.0], [0.0, 0.5]]))
    with pytest.raises(DataError, match="positive definite"):
        LinearSEM(W, torch.tensor([1.0, -1.0]))
    with pytest.raises(UnknownNameError, match="normal, exponential"):
        LinearSEM(W, noise="cauchy")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ErlangenError, match="diagonal omega"):
        LinearSEM(W, torch.tensor([[1.0, 0.5], [0.5, 1.0]]), "gumbel").sample(3)


@pytest.mark.parametrize("mechanism", ["mlp", "mim", "gp", "gp-add"])
def test_nonlinear_models(mechanism: str) -> None:
    """Given its causes a variable is its mechanism plus noise: without noise it is a function, the same for both samples."""
    graph = random_dag(5, 6, generator=rng(1))
    model = random_nonlinear_sem(graph, mechanism, scale=1.0, generator=rng())  # pyright: ignore[reportArgumentType]
    X = model.sample(400, generator=rng(1))
    assert X.shape == (400, 5)
    assert bool(torch.isfinite(X).all())
    torch.testing.assert_close(X, model.sample(400, generator=rng(1)))
    roots = graph.sum(0) == 0
    assert X[:, roots].var(0).mean().item() == pytest.approx(1, abs=0.2)
    if mechanism in {"mlp", "mim"}:
        node = int((~roots).nonzero()[0])
        causes = graph[:, node].nonzero()[:, 0]
        rest = X[:, node] - model.mechanisms[node](X[:, causes], None)
        assert scipy.stats.kstest(rest.numpy(), "norm").pvalue > 1e-3
    else:  # a draw of a process has variance one, or one for each cause, at each point
        node = int((~roots).nonzero()[0])
        k = int(graph[:, node].sum())
        draws = torch.stack([model.mechanisms[node](torch.zeros(1, k), rng(s)) for s in range(600)])
        assert draws.var().item() == pytest.approx(k if mechanism == "gp-add" else 1, rel=0.25)
    with pytest.raises(ErlangenError, match="cycle"):
        random_nonlinear_sem(torch.tensor([[0, 1], [1, 0]]))


def test_structure_scores_by_hand() -> None:
    true = torch.zeros(4, 4)
    for i, j in ((0, 1), (1, 2), (2, 3)):
        true[i, j] = 1
    found = torch.zeros(4, 4)
    for i, j in ((1, 0), (1, 2), (0, 3)):
        found[i, j] = 1  # one reversed, one right, one extra; 2 -> 3 is missing
    s = structure_scores(found, true)
    assert (s.shd, s.extra, s.missing, s.reversed) == (3, 1, 1, 1)
    assert (s.tpr, s.fdr, s.fpr) == pytest.approx((1 / 3, 2 / 3, 2 / 3))
    assert structure_scores(true, true)[:4] == (0, 1.0, 0.0, 0.0)
    both = true + true.mT
    assert structure_scores(both, true).extra == 3
    assert structure_scores(torch.zeros(4, 4), true)[:4] == (3, 0.0, 0.0, 0.0)
    p = torch.tensor([2, 0, 3, 1])
    assert structure_scores(relabelled(found, p), relabelled(true, p)) == s
    with pytest.raises(ShapeError, match="found has 3 nodes"):
        structure_scores(torch.zeros(3, 3), true)


def test_variances_give_the_order_away_until_they_are_standardised() -> None:
    scores, after = [], []
    for seed in range(5):
        model = random_linear_sem(random_dag(15, 30, generator=rng(seed)), generator=rng(seed))
        X = model.sample(1000, generator=rng(seed))
        scores.append(varsortability(X, model.weights))
        after.append(varsortability((X - X.mean(0)) / X.std(0), model.weights))
    assert np.mean(scores) > 0.9
    assert after == pytest.approx([0.5] * 5)
    with pytest.raises(ErlangenError, match="no edge"):
        varsortability(torch.randn(10, 3), torch.zeros(3, 3))


def test_threshold_to_dag_drops_the_smallest() -> None:
    W = torch.tensor([[0, 2.0, 0.1], [0, 0, 1.0], [0.5, 0, 0]])
    kept = threshold_to_dag(W, 0.3)
    assert kept.tolist() == [[0, 2.0, 0], [0, 0, 1.0], [0, 0, 0]]


def test_methods_commute_with_renaming() -> None:
    """`er.audit` under S_d: samples move by their columns, the found graph by rows and columns."""
    model = random_linear_sem(random_dag(5, 6, generator=rng(3)), generator=rng(), dtype=torch.float64)
    X = model.sample(200, generator=rng())

    def by_variance(nodes: Tensor) -> Tensor:
        """Regression of each node on all of smaller variance, from [B, d, n]."""
        out = []
        for x in nodes:
            order = x.var(-1).argsort()
            W = torch.zeros(5, 5, dtype=x.dtype)
            for k in range(1, 5):
                past = order[:k]
                W[past, order[k]] = torch.linalg.lstsq(x[past].T, x[order[k]][:, None]).solution[:, 0]
            out.append(W)
        return torch.stack(out)

    def moved(g: Tensor, y: Tensor) -> Tensor:
        P = er.group("S5").linear(g).to(y)
        return P @ y @ P.mT

    symmetry = er.Symmetry("S5", input="permuted", output=er.actions.Custom(moved))
    assert er.audit(by_variance, symmetry, X.mT[None], progress=False).worst_error < 1e-10

    def by_name(nodes: Tensor) -> Tensor:
        return torch.stack([torch.linalg.lstsq(x.T, x.T).solution.triu(1) for x in nodes]) + torch.ones(5, 5).triu(1)

    assert er.audit(by_name, symmetry, X.mT[None], progress=False).worst_error > 0.1


def test_mixed_graphs() -> None:
    graph = MixedGraph(3, ((0, 1), (1, 2)), ((1, 2),))
    assert not graph.is_simple
    assert MixedGraph(3, ((0, 1), (1, 2)), ((0, 2),)).is_simple
    assert graph.correlated().int().tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    moved = graph.relabelled([2, 0, 1])
    torch.testing.assert_close(moved.adjacency(), relabelled(graph.adjacency(), torch.tensor([2, 0, 1])))
    for directed, bidirected, words in (
        (((0, 3),), (), r"edge \(0, 3\)"),
        (((1, 1),), (), r"loop \(1, 1\)"),
        (((0, 1), (0, 1)), (), "twice"),
        ((), ((0, 1), (1, 0)), "twice"),
    ):
        with pytest.raises(DataError, match=words):
            MixedGraph(3, directed, bidirected)
    with pytest.raises(DataError, match="each of 0 to 2 once"):
        graph.relabelled([0, 0, 1])
