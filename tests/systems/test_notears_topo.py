"""TOPO: scores against regressions of other libraries, the search against enumeration, rivals, networks, bad input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, LogisticRegression
from torch import Generator, Tensor

from erlangen.causal import (
    LinearSEM,
    acyclicity,
    is_dag,
    order_mask,
    random_dag,
    random_linear_sem,
    structure_scores,
    threshold_to_dag,
    walk_sums,
)
from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.systems.causal.notears_topo import (
    CovarianceScore,
    Networks,
    NetworkScore,
    PenalizedScore,
    candidates,
    kkt_violation,
    network_topo,
    post_process,
    promising,
    topo,
)
from erlangen.systems.causal.notears_topo._properties import problem
from erlangen.systems.causal.notears_topo.experiment import BUDGETS, LINEAR
from erlangen.systems.causal.notears_topo.method import (
    Operation,
    default_sizes,
    disjoint,
    rearrangements,
    refitted,
)
from erlangen.systems.causal.notears_topo.rivals import exponential, golem_ev, least_squares, nofears, notears

PAIR = torch.tensor([[1.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
"""Covariance of 0 -> 1 with the weight 2 and noises of variance one."""


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def samples(nodes: int = 6, edges: int = 9, n: int = 200, seed: int = 0) -> Tensor:
    return problem(nodes, edges, n, rng(seed))[1]


def binary(nodes: int = 5, n: int = 400) -> Tensor:
    graph = random_dag(nodes, nodes, generator=rng())
    return random_linear_sem(graph, noise="logistic", generator=rng(), dtype=torch.float64).sample(n, generator=rng(1))


# --- scores ----------------------------------------------------------------------------------------------------------
def test_weights_are_regressions() -> None:
    order = torch.randperm(6, generator=rng(1))
    X = samples() - samples().mean(0)
    score = CovarianceScore.of(X)
    W = score.weights(order)
    for place, node in enumerate(order.tolist()):
        before = order[:place]
        expected = np.linalg.lstsq(X[:, before].numpy(), X[:, node].numpy(), rcond=None)[0]
        np.testing.assert_allclose(W[before, node].numpy(), expected, atol=1e-10)
    assert not bool(W[~order_mask(order)].any())
    left = (X - X @ W).square().mean(0)[order]
    assert torch.allclose(score.columns(order), left / 2)
    assert torch.allclose(CovarianceScore.of(X, likelihood=True).columns(order), left.log() / 2)


@pytest.mark.parametrize("likelihood", [False, True])
def test_violations_are_derivatives(likelihood: bool) -> None:
    score = CovarianceScore.of(samples(), likelihood=likelihood)
    W = (0.1 * torch.randn(6, 6, generator=rng(), dtype=torch.float64)).fill_diagonal_(0).requires_grad_()
    rest = torch.eye(6, dtype=torch.float64) - W
    left = (rest.mT @ score.covariance @ rest).diagonal()
    (slope,) = torch.autograd.grad((left.log() if likelihood else left).sum() / 2, W)
    assert torch.allclose(score.violation(W.detach()), slope.abs(), atol=1e-10)


def test_the_likelihood_does_not_mind_scales() -> None:
    X, order = samples(), torch.randperm(6, generator=rng(1))
    scales = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, 0.1], dtype=torch.float64)
    one, other = (CovarianceScore.of(data, likelihood=True).columns(order).sum() for data in (X, X * scales))
    assert float(other - one) == pytest.approx(float(scales.log().sum()), abs=1e-10)


def test_penalized_regressions_are_those_of_scikit_learn() -> None:
    X = samples() - samples().mean(0)
    value, w = PenalizedScore.of(X, l1=0.3).local(2, frozenset({0, 1, 4, 5}))
    peer = Lasso(alpha=0.3, fit_intercept=False, tol=1e-12, max_iter=100_000)
    peer.fit(X[:, [0, 1, 4, 5]].numpy(), X[:, 2].numpy())
    np.testing.assert_allclose(w, peer.coef_, atol=1e-7)
    rest = X[:, 2].numpy() - X[:, [0, 1, 4, 5]].numpy() @ w
    assert value == pytest.approx(float((rest**2).mean()) / 2 + 0.3 * np.abs(w).sum())


def test_logistic_regressions_are_those_of_scikit_learn() -> None:
    X = binary()
    _, w = PenalizedScore.of(X, l1=0.01, link="logistic").local(0, frozenset({1, 2, 3, 4}))
    peer = LogisticRegression(l1_ratio=1.0, C=1 / (0.01 * len(X)), solver="saga", fit_intercept=False, tol=1e-10)
    peer.set_params(max_iter=100_000).fit(X[:, 1:].numpy(), X[:, 0].numpy())
    np.testing.assert_allclose(w, cast("Any", peer).coef_[0], atol=1e-5)


@pytest.mark.parametrize("link", ["linear", "logistic"])
def test_penalized_searches_end_where_the_conditions_hold(link: Any) -> None:
    score = PenalizedScore.of(samples(5, 6) if link == "linear" else binary(), l1=0.02, link=link)
    start = torch.randperm(5, generator=rng(1))
    found = topo(score, start, size_small=10)
    assert found.kkt < 1e-6
    assert found.score <= found.start
    spans = candidates(found.weights, found.order, 10)
    moves = rearrangements(spans, 5)
    whole = torch.stack([score.columns(found.order[move]).sum() for move in moves])
    assert torch.allclose(score.rearranged(found.order, moves, spans), whole, rtol=1e-10)
    assert float(whole.min()) >= found.score - 1e-9


# --- the search ------------------------------------------------------------------------------------------------------
def test_moves_by_hand() -> None:
    spans = torch.tensor([[1, 3], [0, 1]])
    assert rearrangements(spans, 5).tolist() == [[0, 3, 2, 1, 4], [1, 0, 2, 3, 4]]
    assert rearrangements(spans, 5, "later").tolist() == [[0, 2, 3, 1, 4], [1, 0, 2, 3, 4]]
    assert rearrangements(spans, 5, "earlier").tolist() == [[0, 3, 1, 2, 4], [1, 0, 2, 3, 4]]


def test_batches_by_hand() -> None:
    spans = torch.tensor([[0, 2], [2, 4], [3, 5], [6, 7], [8, 9]])
    gains = torch.tensor([1.0, 3.0, 2.0, 0.5, -1.0])
    assert disjoint(spans, gains, 0.0).tolist() == [
        1,
        3,
    ]  # the other two share places with the best; the last one loses
    assert disjoint(spans, gains, 0.5).tolist() == [1]
    assert disjoint(spans, -gains.abs(), 0.0).tolist() == []


def test_candidates_by_hand() -> None:
    """In the chain 2 -> 0 -> 1 with weights 3 and 0.5: from 2 to 1 leads the weight 1.5."""
    W = torch.zeros(3, 3, dtype=torch.float64)
    W[2, 0], W[0, 1] = -3.0, 0.5
    order = torch.tensor([2, 0, 1])
    assert candidates(W, order, 3).tolist() == [[1, 2], [0, 2], [0, 1]]
    ties = candidates(torch.zeros(4, 4, dtype=torch.float64), torch.tensor([3, 1, 0, 2]), 2)
    assert ties.tolist() == [[0, 1], [0, 2]]  # exactly two, by place, although all six close nothing


def test_candidates_follow_the_gradient_of_acyclicity() -> None:
    score, order = CovarianceScore.of(samples()), torch.randperm(6, generator=rng(1))
    W = score.weights(order)
    A = W.abs().requires_grad_()
    (H,) = torch.autograd.grad(acyclicity(A), A)
    found = candidates(W, order, 15)
    values = H[order[found[:, 1]], order[found[:, 0]]]
    assert bool((values.diff() >= -1e-9 * values[1:]).all())
    assert torch.allclose(H, walk_sums(W.abs()), rtol=1e-12)


def test_promising_pairs() -> None:
    score, W = CovarianceScore(PAIR), torch.zeros(2, 2, dtype=torch.float64)
    assert promising(W, score).tolist() == [[0, 1], [1, 0]]
    assert promising(W, score, xi=2.0).tolist() == []  # both slopes are 2
    W[0, 1] = 2.0
    assert promising(W, score, xi=1e-12).tolist() == []
    assert promising(W, score, tau=2.0, xi=1e-12).tolist() == [
        [1, 0]
    ]  # the forbidden slope is -S_10, the walk weighs 2
    W[0, 1] = 1.0
    assert promising(W, score, tau=0.9, xi=1e-12).tolist() == [[0, 1]]
    assert promising(W, score, tau=1.0, xi=1e-12).tolist() == [[0, 1], [1, 0]]


def test_the_conditions_by_hand() -> None:
    score, W = CovarianceScore(PAIR), torch.zeros(2, 2, dtype=torch.float64)
    assert kkt_violation(W, score) == pytest.approx(2)
    W[0, 1] = 1.5
    assert kkt_violation(W, score) == pytest.approx(0.5)  # S_00 * 1.5 - S_01
    W[0, 1] = 2
    assert kkt_violation(W, score) == pytest.approx(0, abs=1e-12)


def test_sizes_of_the_authors() -> None:
    assert [default_sizes(d) for d in (30, 50, 100)] == [(45, 234), (75, 588), (150, 1980)]


@pytest.mark.parametrize("operation", ["swap", "later", "earlier"])
def test_the_best_of_ten_starts_is_the_best_of_720_orders(operation: Operation) -> None:
    score = CovarianceScore.of(samples(6, 12, 300))
    best = min(float(score.columns(torch.tensor(order)).sum()) for order in itertools.permutations(range(6)))
    found = [topo(score, torch.randperm(6, generator=rng(k)), operation=operation).score for k in range(10)]
    assert min(found) == pytest.approx(best, rel=1e-10)
    assert all(value >= best * (1 - 1e-10) for value in found)


def test_a_start_without_large_sets_ends_earlier() -> None:
    score = CovarianceScore.of(problem(12, 30, 300, rng(2))[1])
    start = torch.randperm(12, generator=rng(3))
    ends = [topo(score, start, size_small=2, size_large=66, large_searches=count) for count in (0, 1, None)]
    assert ends[0].score >= ends[1].score >= ends[2].score
    assert [sum(batch.large for batch in end.batches) for end in ends[:2]] == [0, 1]
    assert ends[0].score > ends[2].score
    assert len(topo(score, start, steps=1).batches) == 1
    assert topo(score, start, size_small=10_000).score == topo(score, start, size_small=66).score  # all pairs


def test_noises_of_different_variance_need_the_likelihood() -> None:
    """The effect is the quieter one: least squares takes it for the cause, the likelihood ties."""
    model = LinearSEM(torch.tensor([[0.0, 0.1], [0.0, 0.0]], dtype=torch.float64), torch.tensor([4.0, 1.0]).double())
    true, turned = torch.tensor([0, 1]), torch.tensor([1, 0])
    assert topo(CovarianceScore(model.covariance()), true).order.tolist() == turned.tolist()
    assert topo(CovarianceScore(model.covariance(), likelihood=True), true).order.tolist() == true.tolist()


def test_any_graph_may_be_the_start() -> None:
    X = samples(8, 16, 300)
    score = CovarianceScore.of(X)
    W = 0.5 * torch.rand(8, 8, generator=rng(), dtype=torch.float64).fill_diagonal_(0)
    cut = threshold_to_dag(W, 0.3)
    order, value = refitted(score, cut)
    found = post_process(score, W)
    assert bool((order_mask(order) | (cut == 0)).all())
    assert found.start == pytest.approx(value)
    assert found.score <= value
    assert topo(score, cut).score == found.score


def test_an_easy_graph_is_found() -> None:
    model, X = problem(10, 15, 1000, rng(4))
    found = topo(CovarianceScore.of(X), torch.randperm(10, generator=rng(5)))
    assert structure_scores(threshold_to_dag(found.weights), model.weights).shd <= 1


# --- rivals ----------------------------------------------------------------------------------------------------------
def test_slopes_of_rivals_are_differences() -> None:
    S, W = CovarianceScore.of(samples()).covariance.numpy(), 0.3 * np.random.default_rng(0).normal(size=(6, 6))
    direction = np.random.default_rng(1).normal(size=(6, 6))
    functions: list[Callable[[Any], tuple[float, Any]]] = [lambda V: least_squares(V, S), exponential]
    for f in functions:
        up, down = f(W + 1e-5 * direction)[0], f(W - 1e-5 * direction)[0]
        assert (up - down) / 2e-5 == pytest.approx(float((f(W)[1] * direction).sum()), rel=1e-6)


def test_rivals_find_an_easy_graph() -> None:
    model, X = problem(8, 8, 1000, rng(6))
    score = CovarianceScore.of(X)
    for found in (notears(score.covariance), notears(score.covariance, l1=0), golem_ev(score.covariance)):
        assert structure_scores(threshold_to_dag(found), model.weights).shd <= 2
    W = notears(score.covariance)
    assert float(acyclicity(W * W, "exp")) <= 1e-8


def test_golem_is_at_least_as_low_as_adam() -> None:
    S = CovarianceScore.of(samples(4, 4, 500)).covariance

    def objective(W: Tensor) -> Tensor:
        rest = torch.eye(4, dtype=torch.float64) - W
        fit = 2 * (rest.mT @ S @ rest).trace().log() - torch.linalg.slogdet(rest).logabsdet
        return fit + 0.02 * W.abs().sum() + 5 * acyclicity(W * W, "exp")

    free = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([free], lr=0.02)
    for _ in range(500):
        adam.zero_grad()
        objective(free - free.diagonal().diag()).backward()
        adam.step()
    end = (free - free.diagonal().diag()).detach()
    assert float(objective(golem_ev(S))) <= float(objective(end)) + 1e-3


def test_no_fears_meets_the_conditions_and_improves() -> None:
    X = samples(8, 16, 500, seed=3)
    score, start = PenalizedScore.of(X, l1=0.1), notears(CovarianceScore.of(X).covariance)
    found = nofears(score, start)
    assert is_dag(found)
    assert kkt_violation(found, score) <= 1e-5 * float(score.S.diagonal().max())

    def value(W: Tensor) -> float:
        return sum(score.local(j, frozenset(W[:, j].nonzero()[:, 0].tolist()))[0] for j in range(8))

    assert value(found) <= value(threshold_to_dag(start)) + 1e-9


# --- networks --------------------------------------------------------------------------------------------------------
def curved(n: int = 200) -> Tensor:
    """The chain 0 -> 1 -> 2 of steep sigmoids."""
    noise = torch.randn(n, 3, generator=rng(), dtype=torch.float64)
    second = 4 * torch.sigmoid(3 * noise[:, 0]) - 2 + 0.3 * noise[:, 1]
    return torch.stack([noise[:, 0], second, 4 * torch.sigmoid(3 * second) - 2 + 0.3 * noise[:, 2]], 1)


def test_networks_by_their_formula() -> None:
    nets, X = Networks.draw(3, 4, generator=rng()), curved()
    by_hand = [sum(nets.last[j, h] * torch.sigmoid(X @ nets.first[j, :, h]) for h in range(4)) for j in range(3)]
    assert torch.allclose(nets(X), torch.stack([torch.as_tensor(column) for column in by_hand], 1))
    assert float(nets.strengths[0, 2]) == pytest.approx(float(nets.first[2, 0].norm()))
    score = NetworkScore(X, 4)
    size = nets.first.square().sum() + nets.last.square().sum()
    expected = (X - nets(X)).square().sum() / (2 * len(X)) + 0.01 * nets.first.abs().sum() + 0.005 * size
    assert float(score.costs(nets, torch.arange(3)).sum()) == pytest.approx(float(expected))


def test_only_some_networks_are_trained_and_only_on_what_is_allowed() -> None:
    score, nets, order = NetworkScore(curved(), 4), Networks.draw(3, 4, generator=rng()), torch.tensor([2, 0, 1])
    after = score.fitted(nets, order, torch.tensor([0]), 20)
    assert torch.equal(after.first[1:], nets.first[1:])
    assert torch.equal(after.last[1:], nets.last[1:])
    assert not bool(after.first[0, :2].any())  # only 2 is before 0
    everything = score.of_order(order, generator=rng())[0]
    assert bool((order_mask(order) | (everything.strengths == 0)).all())


def test_a_search_with_networks_improves_until_nothing_does() -> None:
    score = NetworkScore(curved(), 4, iterations=100, refits=30)
    found = network_topo(score, torch.tensor([2, 1, 0]), size_large=3, generator=rng())
    assert all(after < before for before, after in itertools.pairwise(found.scores))
    assert len(found.scores) > 1
    assert found.score == pytest.approx(float(score.costs(found.networks, torch.arange(3)).sum()))
    assert found.evaluations >= 3  # the last round tries all pairs
    assert bool((order_mask(found.order) | (found.networks.strengths == 0)).all())


# --- the experiment --------------------------------------------------------------------------------------------------
def test_all_methods_are_on_both_kinds_of_data(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("notears_topo")["rows"]
    nodes = BUDGETS["smoke"].nodes[0]
    for kind in ("raw", "standardised"):
        found = {row["model"] for row in rows if row["part"] == f"{kind} data, {nodes} nodes"}
        assert found == {*LINEAR, "true order"}
    kept = [row["score"] for row in rows if row.get("model") == "true order" and "data" in str(row["part"])]
    assert kept == pytest.approx([1, 1])


# --- bad input -------------------------------------------------------------------------------------------------------
def with_column(change: Callable[[Tensor], Tensor]) -> Tensor:
    X = samples()
    X[:, 3] = change(X)
    return X


@pytest.mark.parametrize(
    ("X", "error", "word"),
    [
        (lambda: samples(n=6), DataError, "6 samples of 6 columns.*ridge"),
        (lambda: with_column(lambda X: torch.full((len(X),), 2.0)), DataError, "column 3 of X is constant"),
        (lambda: with_column(lambda X: X[:, 1]), DataError, r"singular: columns, \[1, 3\]"),
        (lambda: with_column(lambda X: X[:, 1] * math.nan), NotFiniteError, "X has"),
        (binary, DataError, "link='logistic'"),
        (lambda: samples().int(), ErlangenError, "dtype"),
        (lambda: samples()[0], ShapeError, r"\[n, d\]"),
    ],
)
def test_data_that_are_refused(X: Callable[[], Tensor], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        CovarianceScore.of(X())


def test_a_ridge_allows_few_samples() -> None:
    score = CovarianceScore.of(samples(n=5), ridge=0.1)
    assert topo(score, torch.arange(6)).kkt < 1e-8
    with pytest.raises(ErlangenError, match="ridge = -1"):
        CovarianceScore.of(samples(), ridge=-1)


@pytest.mark.parametrize(
    ("S", "word"),
    [
        (torch.ones(2, 3), r"give \[d, d\]"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "column 1 is constant"),
    ],
)
def test_covariances_that_are_refused(S: Tensor, word: str) -> None:
    with pytest.raises(ErlangenError, match=word):
        CovarianceScore(S)


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"start": torch.tensor([0, 0])}, DataError, "each of 0 to 1 once"),
        ({"start": torch.tensor([0, 1, 2])}, ShapeError, "start has shape"),
        ({"start": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}, ErlangenError, "cycle through"),
        ({"size_small": 0}, ErlangenError, "size_small = 0"),
        ({"size_large": 0}, ErlangenError, "size_large = 0"),
        ({"large_searches": -1}, ErlangenError, "large_searches = -1"),
        ({"operation": "turn"}, UnknownNameError, "swap, later, earlier"),
        ({"steps": -1}, ErlangenError, "steps = -1"),
        ({"ranking": lambda W: W[0]}, ShapeError, "ranking gives"),
        ({"start": torch.full((2, 2), math.nan)}, NotFiniteError, "W has"),
    ],
)
def test_searches_that_are_refused(changes: dict[str, Any], error: type[Exception], word: str) -> None:
    given: dict[str, Any] = {"start": torch.tensor([1, 0])} | changes
    with pytest.raises(error, match=word):
        topo(CovarianceScore(PAIR), **given)


def test_cycles_are_refused() -> None:
    W = torch.tensor([[0.0, 1.5], [1.0, 0.0]], dtype=torch.float64)
    score = CovarianceScore(PAIR)
    with pytest.raises(ErlangenError, match="spectral radius"):
        promising(W, score)
    assert promising(W, score, s=2.0, tau=math.inf).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ErlangenError, match="cycle"):
        kkt_violation(W, score)
    with pytest.raises(ErlangenError, match="threshold_to_dag"):
        refitted(score, W)


@pytest.mark.parametrize(
    "call", [promising, kkt_violation, lambda W, s: refitted(s, W), lambda W, s: post_process(s, W)]
)
def test_weights_of_other_nodes(call: Callable[[Tensor, CovarianceScore], object]) -> None:
    with pytest.raises(ShapeError, match="the score is for 2 nodes"):
        call(torch.zeros(3, 3, dtype=torch.float64), CovarianceScore(PAIR))


def test_one_node_has_one_order() -> None:
    found = topo(CovarianceScore.of(samples()[:, :1]), torch.arange(1))
    assert found.batches == ()
    assert found.weights.tolist() == [[0.0]]
    with pytest.raises(ErlangenError, match="nodes = 0"):
        default_sizes(0)


def test_penalties_and_links_that_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="linear, logistic"):
        PenalizedScore.of(samples(), link=cast("Any", "probit"))
    with pytest.raises(ErlangenError, match="l1 = -1"):
        PenalizedScore.of(samples(), l1=-1)
    with pytest.raises(DataError, match="zeros and ones"):
        PenalizedScore.of(samples(), link="logistic")
    separable = torch.tensor([[0.0, 0.0], [1.0, 1.0]] * 10)
    with pytest.raises(ErlangenError, match="does not converge"):
        PenalizedScore.of(separable, link="logistic").weights(torch.tensor([0, 1]))


def test_networks_that_are_refused() -> None:
    with pytest.raises(ShapeError, match="two columns"):
        NetworkScore(torch.ones(5, 1))
    with pytest.raises(ShapeError, match="1 samples"):
        NetworkScore(torch.ones(1, 3))
    with pytest.raises(ErlangenError, match="hidden = 0"):
        NetworkScore(curved(), 0)
    with pytest.raises(ErlangenError, match="l1 = -1"):
        NetworkScore(curved(), l1=-1)
    with pytest.raises(NotFiniteError):
        NetworkScore(curved() * math.nan)
    with pytest.raises(ShapeError, match="start has shape"):
        network_topo(NetworkScore(curved()), torch.arange(4))
    with pytest.raises(DataError, match="once"):
        network_topo(NetworkScore(curved()), torch.tensor([0, 0, 1]))
