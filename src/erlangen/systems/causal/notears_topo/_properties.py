"""What holds exactly of orders, their scores and the search."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.causal import (
    LinearSEM,
    acyclicity,
    order_mask,
    random_dag,
    random_linear_sem,
    relabelled,
    topological_order,
)
from erlangen.survey import Run, bound, exact, largest
from erlangen.systems.causal.notears_topo._scores import CovarianceScore
from erlangen.systems.causal.notears_topo.method import Ordered, candidates, kkt_violation, rearrangements, topo


def problem(
    nodes: int, edges: int, n: int, generator: Generator, *, standardised: bool = False
) -> tuple[LinearSEM, Tensor]:
    """A model and samples of it, float64."""
    model = random_linear_sem(random_dag(nodes, edges, generator=generator), generator=generator, dtype=torch.float64)
    X = model.sample(n, generator=generator)
    return model, X / X.std(0) if standardised else X


def _searches(run: Run[Any], count: int = 6) -> list[tuple[CovarianceScore, Ordered]]:
    """Searches over 12 nodes from random orders, on raw and on standardised data."""
    made: list[tuple[CovarianceScore, Ordered]] = []
    for k in range(count):
        g = run.generator(k)
        score = CovarianceScore.of(problem(12, 12 * (1 + k % 3), 500, g, standardised=k % 2 == 1)[1])
        made.append((score, topo(score, torch.randperm(12, generator=g))))
    return made


@exact(tol=1e-12)
def results_respect_their_order(run: Run[Any]) -> float:
    """Largest weight, over six searches, of an edge against the order that is returned, and log-determinant acyclicity."""
    worst = 0.0
    for _, found in _searches(run):
        against = found.weights.abs()[~order_mask(found.order)].max()
        worst = max(
            worst, float(against), abs(float(acyclicity(found.weights[found.order[:, None], found.order].abs())))
        )
    return worst


@exact(tol=0)
def scores_fall_at_every_step(run: Run[Any]) -> float:
    """How many steps of six searches do not lower the score."""
    rises = 0
    for _, found in _searches(run):
        scores = [found.start, *(batch.score for batch in found.batches)]
        rises += sum(after >= before for before, after in itertools.pairwise(scores))
    return float(rises)


@exact(tol=1e-10)
def gains_of_a_batch_add_up(run: Run[Any]) -> float:
    """Largest difference of the score after a step to the score before less the gains of its swaps, relative."""
    worst = 0.0
    for _, found in _searches(run):
        before = found.start
        for batch in found.batches:
            worst = largest(worst, abs(before - float(batch.gains.sum()) - batch.score) / batch.score)
            before = batch.score
    return worst


@exact(tol=1e-10)
def a_part_is_refitted_as_the_whole(run: Run[Any]) -> float:
    """Largest relative difference of the score after a swap, from its span alone, to that of all regressions."""
    g = run.generator()
    score, order = CovarianceScore.of(problem(12, 30, 500, g)[1]), torch.randperm(12, generator=g)
    spans = candidates(score.weights(order), order, 66)
    moves = rearrangements(spans, 12)
    whole = torch.stack([score.columns(order[move]).sum() for move in moves])
    return float((score.rearranged(order, moves, spans) / whole - 1).abs().max())


@exact(tol=1e-10)
def the_covariance_is_enough(run: Run[Any]) -> float:
    """Relative difference of the score from the covariance to |X - X W|^2 / 2n of regressions on the samples."""
    g = run.generator()
    drawn = problem(12, 30, 500, g)[1]
    X, order = drawn - drawn.mean(0), torch.randperm(12, generator=g)
    total = 0.0
    for place, node in enumerate(order.tolist()):
        before = X[:, order[:place]]
        fit = before @ torch.linalg.lstsq(before, X[:, [node]]).solution if place else torch.zeros(len(X), 1)
        total += float((X[:, [node]] - fit).square().sum()) / (2 * len(X))
    return abs(float(CovarianceScore.of(X).columns(order).sum()) / total - 1)


@exact(tol=1e-10)
def all_pairs_end_at_a_local_minimum(run: Run[Any]) -> float:
    """Largest relative gain of any of the 66 swaps, each scored in full, after searches with all pairs."""
    worst = 0.0
    for score, found in _searches(run):
        end = topo(score, found.order, size_small=66)
        for a, b in itertools.combinations(range(12), 2):
            order = end.order.clone()
            order[[a, b]] = order[[b, a]]
            worst = largest(worst, 1 - float(score.columns(order).sum()) / end.score)
    return worst


@exact(tol=1e-10)
def the_end_meets_the_conditions(run: Run[Any]) -> float:
    """Largest violation of the KKT conditions at the end of six searches, over the largest variance."""
    return max(kkt_violation(found.weights, score) / float(score.covariance.max()) for score, found in _searches(run))


@exact(tol=1e-10)
def ten_starts_find_the_best_of_all_orders(run: Run[Any]) -> float:
    """Largest relative excess of the best of ten random starts over the best of all 120 orders of 5 nodes, in 8 instances."""
    orders = torch.tensor(list(itertools.permutations(range(5))))
    worst = 0.0
    for k in range(8):
        g = run.generator(k)
        score = CovarianceScore.of(problem(5, 5, 200, g, standardised=k % 2 == 1)[1])
        best = min(float(score.columns(order).sum()) for order in orders)
        found = min(topo(score, torch.randperm(5, generator=g)).score for _ in range(10))
        worst = largest(worst, abs(found / best - 1))
    return worst


@exact(tol=1e-8)
def the_truth_is_kept(run: Run[Any]) -> float:
    """Largest error of a weight, and steps made, from the true order with the population's covariance and equal variances."""
    worst = 0.0
    for k in range(4):
        model, _ = problem(12, 24, 1, run.generator(k))
        found = topo(CovarianceScore(model.covariance()), topological_order(model.weights), size_small=66)
        worst = largest(worst, float((found.weights - model.weights).abs().max()), float(len(found.batches)))
    return worst


@exact(tol=1e-9)
def names_of_nodes_mean_nothing(run: Run[Any]) -> float:
    """Largest relative change of the weights when nodes are renamed in the data and in the start, and named back."""
    worst = 0.0
    for k in range(4):
        g = run.generator(k)
        _, X = problem(12, 30, 500, g)
        start, names = torch.randperm(12, generator=g), torch.randperm(12, generator=g)
        moved = torch.empty_like(X)
        moved[:, names] = X
        one, other = topo(CovarianceScore.of(X), start), topo(CovarianceScore.of(moved), names[start])
        error = (other.weights - relabelled(one.weights, names)).abs().max() / one.weights.abs().max()
        worst = largest(worst, float(error))
    return worst


@exact(tol=1e-9)
def constants_mean_nothing(run: Run[Any]) -> float:
    """Largest relative change of the weights when a constant is added to each column."""
    g = run.generator()
    _, X = problem(12, 30, 500, g)
    start = torch.randperm(12, generator=g)
    shifted = X + 10 * torch.randn(12, generator=g, dtype=torch.float64)
    one, other = (topo(CovarianceScore.of(data), start).weights for data in (X, shifted))
    return float((one - other).abs().max() / one.abs().max())


@bound(at_least=1e-3)
def scales_mean_something(run: Run[Any]) -> float:
    """Relative excess, in raw units, of the order found on standardised data over that found on raw data."""
    g = run.generator()
    _, X = problem(12, 36, 500, g)
    raw, start = CovarianceScore.of(X), torch.randperm(12, generator=g)
    one, other = topo(raw, start), topo(CovarianceScore.of(X / X.std(0)), start)
    return float(raw.columns(other.order).sum()) / one.score - 1


PROPERTIES = (
    results_respect_their_order,
    scores_fall_at_every_step,
    gains_of_a_batch_add_up,
    a_part_is_refitted_as_the_whole,
    the_covariance_is_enough,
    all_pairs_end_at_a_local_minimum,
    the_end_meets_the_conditions,
    ten_starts_find_the_best_of_all_orders,
    the_truth_is_kept,
    names_of_nodes_mean_nothing,
    constants_mean_nothing,
    scales_mean_something,
)
