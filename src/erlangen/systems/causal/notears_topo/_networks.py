"""TOPO with a network for every node: warm starts, and the first swap that improves wins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.causal import order_mask
from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, check_integer
from erlangen.systems.causal.notears_topo.method import candidates, rearrangements


@dataclass(frozen=True)
class Networks:
    """One hidden layer of sigmoids for every node, without biases: ``f_j(x) = sum_h v[j, h] sigmoid(sum_i x_i a[j, i, h])``.

    Attributes:
        first: a ``[d, d, hidden]``, by node, cause and unit.
        last: v ``[d, hidden]``.
    """

    first: Tensor
    last: Tensor

    @classmethod
    def draw(cls, nodes: int, hidden: int, *, generator: Generator | None = None) -> Networks:
        """Small random weights, float64."""
        first = torch.randn(nodes, nodes, hidden, generator=generator, dtype=torch.float64) / nodes**0.5
        return cls(first, torch.randn(nodes, hidden, generator=generator, dtype=torch.float64) / hidden**0.5)

    @property
    def strengths(self) -> Tensor:
        """Of every edge ``[d, d]``, [i, j] of i -> j: the norm of what the network of j makes of i in its first layer."""
        return self.first.norm(dim=-1).mT

    def __call__(self, X: Tensor) -> Tensor:
        """Predictions ``[n, d]`` from samples ``[n, d]``."""
        return _predicted(X, self.first, self.last)


@dataclass(frozen=True)
class NetworkOrdered:
    """Where the search with networks ends.

    Attributes:
        order: nodes ``[d]``, causes before effects.
        networks: those of this order.
        score: half of the mean squared error with both penalties.
        scores: after the first fit, and after each swap that was kept.
        evaluations: how many swaps were tried.
    """

    order: Tensor
    networks: Networks
    score: float
    scores: tuple[float, ...]
    evaluations: int


@dataclass(frozen=True)
class NetworkScore:
    """``|X - f(X)|^2 / 2n + l1 |a|_1 + l2 (|a|^2 + |v|^2)``, a sum over nodes; weights are those of the authors' demo.

    Attributes:
        X: samples ``[n, d]``, which are used as they are; centre them before.
        hidden: units of each network.
        iterations, refits: of L-BFGS for all networks from the start, and for those that a swap touches.
    """

    X: Tensor
    hidden: int = 10
    l1: float = 0.01
    l2: float = 0.005
    iterations: int = 300
    refits: int = 40

    def __post_init__(self) -> None:
        check_floating(self.X, "X")
        check_finite(self.X, "X")
        if self.X.ndim != 2 or self.X.shape[1] < 2:
            raise ShapeError(f"X has shape {tuple(self.X.shape)}; give [n, d] with two columns or more")
        if len(self.X) < 2:
            raise ShapeError(f"X has {len(self.X)} samples; give two or more")
        check_integer("hidden", self.hidden, 1)
        if min(self.l1, self.l2) < 0:
            raise ErlangenError(f"l1 = {self.l1}, l2 = {self.l2}; give numbers of at least 0")

    def costs(self, networks: Networks, nodes: Tensor) -> Tensor:
        """What these nodes add to the score ``[len(nodes)]``."""
        return self._costs(networks.first[nodes], networks.last[nodes], nodes)

    def _costs(self, first: Tensor, last: Tensor, nodes: Tensor) -> Tensor:
        X = self.X.double()
        error = (X[:, nodes] - _predicted(X, first, last)).square().mean(0) / 2
        size = first.square().sum((1, 2)) + last.square().sum(1)
        return error + self.l1 * first.abs().sum((1, 2)) + self.l2 * size

    def fitted(self, networks: Networks, order: Tensor, nodes: Tensor, iterations: int) -> Networks:
        """The networks of these nodes trained on, with inputs from those before alone; the others stay as they are."""
        allowed = order_mask(order).mT[nodes][:, :, None].double()
        first = (networks.first[nodes] * allowed).requires_grad_()
        last = networks.last[nodes].clone().requires_grad_()
        descent = torch.optim.LBFGS([first, last], max_iter=iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            descent.zero_grad()
            loss = self._costs(first * allowed, last, nodes).sum()
            loss.backward()
            return loss

        descent.step(closure)  # pyright: ignore[reportArgumentType]
        new_first, new_last = networks.first.clone(), networks.last.clone()
        new_first[nodes], new_last[nodes] = (first * allowed).detach(), last.detach()
        return Networks(new_first, new_last)

    def of_order(self, order: Tensor, *, generator: Generator | None = None) -> tuple[Networks, float]:
        """Networks of an order, trained from the start, and their score."""
        d = self.X.shape[1]
        everyone = torch.arange(d)
        made = self.fitted(
            Networks.draw(d, self.hidden, generator=generator),
            order,
            everyone,
            check_integer("iterations", self.iterations, 1),
        )
        return made, float(self.costs(made, everyone).sum())


def network_topo(
    score: NetworkScore,
    start: Tensor,
    *,
    size_small: int | None = None,
    size_large: int | None = None,
    large_searches: int | None = 1,
    least: float = 1e-3,
    generator: Generator | None = None,
) -> NetworkOrdered:
    """Search from an order ``[d]``: swap the first candidate that improves the score, train on, until none does.

    After a swap only the networks of its span are trained further, from where they are. A swap counts as an improvement where
    it takes more than the share `least` off the score, since training that goes on takes a little off without any swap. The
    sets have d and 3 d pairs by default, and one large set may be successful, as in the authors' package.

    Raises:
        DataError: `start` is not an order.
    """
    d = score.X.shape[1]
    if start.shape != (d,):
        raise ShapeError(f"start has shape {tuple(start.shape)}; give an order [{d}]")
    small = check_integer("size_small", d if size_small is None else size_small, 1)
    large = check_integer("size_large", 3 * d if size_large is None else size_large, 1)
    order = start
    networks, now = score.of_order(order, generator=generator)
    scores = [now]
    evaluations = successes = 0
    while True:
        spans = candidates(networks.strengths, order, max(small, large))
        if large_searches is not None and successes >= large_searches:
            spans = spans[:small]
        for k, (span, move) in enumerate(zip(spans.tolist(), rearrangements(spans, d), strict=True)):
            swapped = order[move]
            touched = swapped[span[0] : span[1] + 1]
            tried = score.fitted(networks, swapped, touched, score.refits)
            gain = float((score.costs(networks, touched) - score.costs(tried, touched)).sum())
            evaluations += 1
            if gain > least * now:
                order, networks, now = swapped, tried, now - gain
                scores.append(now)
                successes += k >= small
                break
        else:
            return NetworkOrdered(order, networks, now, tuple(scores), evaluations)


def _predicted(X: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """``[n, nodes]`` from all inputs; one product of matrices for all networks."""
    nodes, d, hidden = first.shape
    units = torch.sigmoid(X @ first.permute(1, 0, 2).reshape(d, nodes * hidden)).unflatten(1, (nodes, hidden))
    return (units * last).sum(-1)
