"""What TOPO is compared with: NOTEARS, GOLEM-EV and NOFEARS, from the covariance of centred samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from erlangen.causal import ancestors, threshold_to_dag, walk_sums
from erlangen.systems.causal.notears_topo._scores import Array, PenalizedScore

Smooth = Callable[[Array], tuple[float, Array]]


def notears(S: Tensor, *, l1: float = 0.1, h_tol: float = 1e-8, rho_max: float = 1e16, outer: int = 100) -> Tensor:
    """Weights ``[d, d]`` of least squares with an l1 penalty under ``tr exp(W * W) = d``, by an augmented Lagrangian.

    Its multipliers, factors and limits are those of the authors; the last matrix is not cut, and its cycles are small.

    Source: Zheng, Aragam, Ravikumar and Xing, DAGs with NO TEARS (2018), algorithm 1.
    """
    covariance = S.double().numpy()
    d = len(covariance)
    now, rho, multiplier, h = np.zeros((d, d)), 1.0, 0.0, math.inf

    def lagrangian(rho: float, multiplier: float, W: Array) -> tuple[float, Array]:
        value, slope = least_squares(W, covariance)
        cycle, cycle_slope = exponential(W)
        return value + multiplier * cycle + rho / 2 * cycle**2, slope + (multiplier + rho * cycle) * cycle_slope

    for _ in range(outer):
        new, h_new = now, h
        while rho < rho_max:
            new = minimized(functools.partial(lagrangian, rho, multiplier), now, l1)
            h_new = exponential(new)[0]
            if h_new <= 0.25 * h:
                break
            rho *= 10
        now, h = new, h_new
        multiplier += rho * h
        if h <= h_tol or rho >= rho_max:
            break
    return torch.from_numpy(now)


def golem_ev(S: Tensor, *, l1: float = 0.02, cycles: float = 5.0) -> Tensor:
    """Weights ``[d, d]`` of the profile likelihood of noises of equal variance, with soft penalties for edges and cycles.

    ``d/2 log |X - X W|^2 - log |det(I - W)| + l1 |W|_1 + cycles h(W)``, with the authors' two weights. Solved to a stationary
    point by L-BFGS-B in place of 100 000 steps of Adam.

    Source: Ng, Ghassami and Zhang, On the role of sparsity and DAG constraints for learning linear DAGs (2020), equation 2.
    """
    covariance = S.double().numpy()
    d = len(covariance)
    eye = np.eye(d)

    def likelihood(W: Array) -> tuple[float, Array]:
        rest, slope = least_squares(W, covariance)
        cycle, cycle_slope = exponential(W)
        sign_and_log = np.linalg.slogdet(eye - W)
        if sign_and_log[0] == 0:
            return math.inf, np.zeros_like(W)
        value = d / 2 * math.log(2 * rest) - float(sign_and_log[1]) + cycles * cycle
        return value, d / 2 * slope / rest + np.linalg.inv(eye - W).T + cycles * cycle_slope

    return torch.from_numpy(minimized(likelihood, np.zeros((d, d)), l1))


def nofears(score: PenalizedScore, W: Tensor, *, threshold: float = 0.3) -> Tensor:
    """Acyclic weights ``[d, d]`` that meet the conditions of Karush, Kuhn and Tucker, by local search from another method's.

    The weights are cut and refitted. Then, as long as there is one, the edge that closes no cycle and in which the score is
    steepest is set free; where there is none, the edge is turned whose reversal takes most off the score, and all begins anew.

    Source: Wei, Gao and Yu, DAGs with No Fears (2020), the KKT-informed local search.
    """
    d = score.nodes
    causes = [frozenset(column.nonzero()[:, 0].tolist()) for column in threshold_to_dag(W, threshold).unbind(1)]
    least = 1e-6 * float(score.S.diagonal().max())
    while True:
        now = _fitted(score, causes)
        steep = score.violation(now)
        steep[walk_sums(_halves(now)) > 0] = 0  # these would close a cycle; the diagonal too
        if float(steep.max()) > least:
            i, j = divmod(int(steep.argmax()), d)
            causes = [_names(now, k) for k in range(d)]
            causes[j] |= {i}
            continue
        edges = now != 0
        indirect = (edges.double() @ ancestors(now).double()) > 0  # a longer way from i to j: the edge cannot be turned
        best, change = -1e-9 * float(score.S.trace()), None
        for i, j in (edges & ~indirect).nonzero().tolist():
            parts = {j: _names(now, j) - {i}, i: _names(now, i) | {j}}
            gain = sum(score.local(k, new)[0] - score.local(k, _names(now, k))[0] for k, new in parts.items())
            if gain < best:
                best, change = gain, parts
        if change is None:
            return now
        causes = [change.get(k, _names(now, k)) for k in range(d)]


def _names(W: Tensor, node: int) -> frozenset[int]:
    return frozenset(W[:, node].nonzero()[:, 0].tolist())


def _halves(W: Tensor) -> Tensor:
    """A matrix with the same walks and entries of one half, so that no sum over them overflows."""
    return (W != 0).to(W) / 2


def _fitted(score: PenalizedScore, causes: list[frozenset[int]]) -> Tensor:
    W = torch.zeros(score.nodes, score.nodes, dtype=torch.float64)
    for node, names in enumerate(causes):
        W[sorted(names), node] = torch.from_numpy(score.local(node, names)[1])
    return W


# --- pieces ----------------------------------------------------------------------------------------------------------
def least_squares(W: Array, S: Array) -> tuple[float, Array]:
    """``|X - X W|^2 / 2n`` and its slope, from S = X^T X / n."""
    rest = np.eye(len(S)) - W
    along = S @ rest
    return float((rest * along).sum()) / 2, -along


def exponential(W: Array) -> tuple[float, Array]:
    """``tr exp(W * W) - d`` and its slope."""
    grown = cast("Array", scipy.linalg.expm(W * W))
    return float(np.trace(grown)) - len(W), grown.T * W * 2


def minimized(f: Smooth, W: Array, l1: float) -> Array:
    """A local minimum of ``f(W) + l1 |W|_1`` over matrices without loops, by L-BFGS-B on positive and negative parts."""
    d = len(W)
    free = ~np.eye(d, dtype=bool)
    size = d * (d - 1)

    def matrix(parts: Array) -> Array:
        made = np.zeros((d, d))
        made[free] = parts[:size] - parts[size:]
        return made

    def objective(parts: Array) -> tuple[float, Array]:
        value, slope = f(matrix(parts))
        flat = slope[free]
        return value + l1 * float(parts.sum()), np.concatenate([flat + l1, l1 - flat])

    begin = np.concatenate([np.maximum(W[free], 0), np.maximum(-W[free], 0)])
    found: Any = scipy.optimize.minimize(
        objective, begin, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * size), options={"maxiter": 15_000}
    )
    return matrix(found.x)
