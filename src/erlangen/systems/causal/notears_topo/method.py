"""TOPO: a search over topological orders, in which the gradient of an acyclicity function says which pairs to swap.

With W[i, j] the weight of i -> j, a score Q(W), and for an order pi the inner problem

    W_pi = argmin Q(W)  such that  W[i, j] = 0 unless i comes before j in pi,

the outer problem is the minimum over pi of Q(W_pi). The candidates at W (tau, xi >= 0) are the forbidden pairs

    Y(W, tau, xi) = {(i, j): j before i, [grad h(|W|)]_ij <= tau, |[grad Q(W)]_ij| > xi},

edges that would close little of a cycle; grad h(|W|)_ij is the weight of all walks from j to i.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from erlangen.causal import is_dag, order_mask, threshold_to_dag, topological_order, walk_sums
from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_finite, check_integer
from erlangen.systems.causal.notears_topo._scores import Score

Operation = Literal["swap", "later", "earlier"]
Ranking = Callable[[Tensor], Tensor]
"""From weights ``[d, d]`` in the order of places to a number for each pair of places; small ones are tried first."""


@dataclass(frozen=True)
class Batch:
    """One step of the outer loop: moves whose spans do not meet, made at once.

    Attributes:
        spans: first and last places ``[k, 2]``.
        gains: what each takes off the score by itself ``[k]``.
        score: after all of them; the score before less the sum of the gains, since a node asks only for the set before it.
        large: whether the small set had nothing to offer.
    """

    spans: Tensor
    gains: Tensor
    score: float
    large: bool


@dataclass(frozen=True)
class Ordered:
    """Where the search ends.

    Attributes:
        order: nodes ``[d]``, causes before effects.
        weights: the best ``[d, d]`` of this order, dense.
        score: Q of these weights.
        start: Q of the first order.
        batches: the steps between the two.
        evaluations: how many moves were scored.
        kkt: see `kkt_violation`, of these weights.
    """

    order: Tensor
    weights: Tensor
    score: float
    start: float
    batches: tuple[Batch, ...]
    evaluations: int
    kkt: float


def topo(
    score: Score,
    start: Tensor,
    *,
    size_small: int | None = None,
    size_large: int | None = None,
    large_searches: int | None = None,
    operation: Operation = "swap",
    ranking: Ranking | None = None,
    steps: int = 10_000,
) -> Ordered:
    """Search from an order, or from the order of an acyclic graph, until no candidate improves the score.

    >>> from erlangen.systems.causal.notears_topo import CovarianceScore
    >>> S = torch.tensor([[1.0, 2.0], [2.0, 5.0]], dtype=torch.float64)  # of 0 -> 1 with the weight 2, noises of variance 1
    >>> found = topo(CovarianceScore(S), torch.tensor([1, 0]))
    >>> found.order.tolist(), round(float(found.weights[0, 1]), 12), round(found.start, 6), round(found.score, 6)
    ([0, 1], 2.0, 2.6, 1.0)

    Every step scores the small set of candidates; only where none of them improves it scores the rest of the large set, and it
    ends where that has none either. Improving moves are taken from the best on, each whose span meets no span taken before.

    Args:
        score: `CovarianceScore` or `PenalizedScore`.
        start: an order ``[d]``, or a graph ``[d, d]`` without cycles.
        size_small, size_large: how many candidates; by default `default_sizes`. Sizes beyond d (d - 1) / 2 mean all pairs.
        large_searches: how many large sets may be successful; None is any number, 1 is the authors' choice.
        operation: "swap" a pair (first, last) of places, move the first one "later", behind the last, or the last one "earlier".
        ranking: what ranks pairs; by default the gradient of acyclicity.
        steps: a limit.

    Raises:
        DataError: `start` is not an order.
        ErlangenError: `start` has a cycle, a size is not positive.

    Source: Deng, Bello, Aragam and Ravikumar, Optimizing NOTEARS objectives via topological swaps (2023), algorithms 1 and 2.
    """
    d = score.nodes
    if start.shape not in {(d,), (d, d)}:
        raise ShapeError(f"start has shape {tuple(start.shape)}; give an order [{d}] or a graph [{d}, {d}]")
    if operation not in get_args(Operation):
        raise UnknownNameError(f"operation = {operation!r}; there are {', '.join(get_args(Operation))}")
    small, large = default_sizes(d)
    small = min(check_integer("size_small", small if size_small is None else size_small, 1), d * (d - 1) // 2)
    large = min(check_integer("size_large", large if size_large is None else size_large, 1), d * (d - 1) // 2)
    if large_searches is not None:
        check_integer("large_searches", large_searches, 0)
    check_integer("steps", steps, 0)
    order = topological_order(start) if start.ndim == 2 else start
    order_mask(order)  # raises where it is no order
    now = first = float(score.columns(order).sum())
    batches: list[Batch] = []
    evaluations = successes = 0
    while d > 1 and len(batches) < steps:
        spans = candidates(score.weights(order), order, max(small, large), ranking=ranking)
        batch = None
        for part, is_large in ((spans[:small], False), (spans[small:], True)):
            if len(part) and not (is_large and large_searches is not None and successes >= large_searches):
                moves = rearrangements(part, d, operation)
                gains = now - score.rearranged(order, moves, part)
                evaluations += len(part)
                chosen = disjoint(part, gains, 1e-12 * max(1.0, abs(now)))
                if len(chosen):
                    batch = part[chosen], gains[chosen], moves[chosen], is_large
                    break
        if batch is None:
            break
        taken, gains, moves, is_large = batch
        successes += is_large
        for span, move in zip(taken.tolist(), moves, strict=True):
            inside = slice(span[0], span[1] + 1)
            order = order.clone()
            order[inside] = order[move[inside]]
        now = float(score.columns(order).sum())
        batches.append(Batch(taken, gains, now, is_large))
    W = score.weights(order)
    return Ordered(order, W, now, first, tuple(batches), evaluations, kkt_violation(W, score))


def default_sizes(nodes: int) -> tuple[int, int]:
    """Sizes of the small and of the large set, as the authors choose them: 30 and 110 for 20 nodes.

    >>> default_sizes(20), default_sizes(100)
    ((30, 110), (150, 1980))
    """
    check_integer("nodes", nodes, 1)
    most = min(math.floor(math.sqrt(nodes) * (nodes - 1) * math.log10(nodes)), nodes * (nodes - 1) // 2)
    return max(1, min(3 * nodes // 2, most)), max(3 * nodes // 2, most)


def candidates(W: Tensor, order: Tensor, count: int, *, ranking: Ranking | None = None) -> Tensor:
    """The first and last places ``[k, 2]`` of the pairs whose forbidden edge, last -> first, would close least of a cycle.

    There are exactly `count`, or all pairs; of equal ones the first place, then the last one, decides, so that the names of
    nodes mean nothing.
    """
    d = len(order)
    sorted_W = W[order[:, None], order]
    forbidden = torch.ones(d, d, dtype=torch.bool).triu(1).nonzero()  # [first, last]
    # In the order of places the matrix is triangular, where sums over walks are exact: what is zero is zero.
    rank = walk_sums(sorted_W.abs()).mT if ranking is None else ranking(sorted_W)
    if rank.shape != (d, d):
        raise ShapeError(f"ranking gives {tuple(rank.shape)}; it must give a number for each pair of places, {(d, d)}")
    return forbidden[rank[forbidden[:, 0], forbidden[:, 1]].argsort(stable=True)[:count]]


def promising(W: Tensor, score: Score, *, tau: float = 0.0, xi: float = 0.0, s: float = 1.0) -> Tensor:
    """The set Y(W, tau, xi) at an acyclic graph or below the radius s: pairs (i, j) ``[k, 2]``.

    >>> from erlangen.systems.causal.notears_topo import CovarianceScore
    >>> score = CovarianceScore(torch.tensor([[1.0, 2.0], [2.0, 5.0]], dtype=torch.float64))
    >>> promising(torch.zeros(2, 2, dtype=torch.float64), score).tolist()
    [[0, 1], [1, 0]]

    With tau = xi = 0 it is empty where W meets the conditions of Karush, Kuhn and Tucker.

    Raises:
        ErlangenError: the spectral radius of |W| is s or more.
    """
    _check_size(W, score)
    closes = walk_sums(W.abs(), s=s)
    pairs = (closes <= tau) & (score.violation(W) > xi)
    return pairs.fill_diagonal_(False).nonzero()


def kkt_violation(W: Tensor, score: Score) -> float:
    """How far acyclic weights are from the conditions of Karush, Kuhn and Tucker: the steepest edge that closes no cycle.

    Where no walk leads from j to i, the edge i -> j is free, and the score must be stationary in it (Wei, Gao and Yu 2020).

    Raises:
        ErlangenError: W has a cycle.
    """
    _check_size(W, score)
    check_finite(W, "W")
    order = topological_order(W)
    walks = torch.zeros_like(W)
    walks[order[:, None], order] = walk_sums(W[order[:, None], order].abs())
    return float(score.violation(W)[walks == 0].max()) if bool((walks == 0).any()) else 0.0


def rearrangements(spans: Tensor, nodes: int, operation: Operation = "swap") -> Tensor:
    """What each move makes of the places ``[k, nodes]``: the new order is ``order[moves[k]]``."""
    moves = torch.arange(nodes).repeat(len(spans), 1)
    first, last = spans[:, :1], spans[:, 1:]
    if operation == "swap":
        return moves.scatter(1, first, last).scatter(1, last, first)
    inside = (moves >= first) & (moves <= last)
    if operation == "later":  # the first one goes behind the last one
        return torch.where(inside, torch.where(moves == last, first, moves + 1), moves)
    return torch.where(inside, torch.where(moves == first, last, moves - 1), moves)


def disjoint(spans: Tensor, gains: Tensor, least: float) -> Tensor:
    """Greedy choice: moves that gain more than `least`, the best first, without one whose span meets one taken before."""
    chosen: list[int] = []
    by_gain = gains.argsort(descending=True, stable=True)
    for k in by_gain[gains[by_gain] > least].tolist():
        first, last = spans[k].tolist()
        if all(last < int(spans[c, 0]) or first > int(spans[c, 1]) for c in chosen):
            chosen.append(k)
    return torch.tensor(chosen, dtype=torch.long)


def post_process(score: Score, W: Tensor, *, threshold: float = 0.3, **options: object) -> Ordered:
    """Search from the order of another method's weights, which are cut at the threshold, and further until acyclic.

    The result is never worse than the best weights of that order.
    """
    _check_size(W, score)
    return topo(score, topological_order(threshold_to_dag(W, threshold)), **options)  # pyright: ignore[reportArgumentType]


def refitted(score: Score, W: Tensor) -> tuple[Tensor, float]:
    """An order of an acyclic graph and the score of its dense regressions: what may be compared with `Ordered.score`."""
    _check_size(W, score)
    if not is_dag(W):
        raise ErlangenError("W has a cycle and so no order; cut it by threshold_to_dag")
    order = topological_order(W)
    return order, float(score.columns(order).sum())


def _check_size(W: Tensor, score: Score) -> None:
    d = score.nodes
    if W.shape != (d, d):
        raise ShapeError(f"W has shape {tuple(W.shape)}, but the score is for {d} nodes; give weights [{d}, {d}]")
