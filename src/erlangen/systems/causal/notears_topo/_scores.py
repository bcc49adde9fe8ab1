"""Scores of orders: for a fixed order every column is a regression on all that come before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError, check_finite, check_floating

Link = Literal["linear", "logistic"]
Array = NDArray[np.float64]


class Score(Protocol):
    """What the outer loop asks of a score: a sum over nodes, each of which depends on the set of nodes before it alone."""

    @property
    def nodes(self) -> int:
        """How many there are."""
        ...

    def columns(self, order: Tensor) -> Tensor:
        """What each node adds to the score ``[d]``, by its place in the order."""
        ...

    def rearranged(self, order: Tensor, moves: Tensor, spans: Tensor) -> Tensor:
        """Scores ``[k]`` of ``order[moves[k]]``, where a move changes no place outside ``spans[k] = (first, last)``."""
        ...

    def weights(self, order: Tensor) -> Tensor:
        """The best weights ``[d, d]`` that the order allows."""
        ...

    def violation(self, W: Tensor) -> Tensor:
        """How far every weight ``[d, d]`` is from stationary, if it were free; at least zero."""
        ...


@dataclass(frozen=True, eq=False)
class CovarianceScore:
    """Least squares, or the Gaussian likelihood of noises of different variance, from the covariance alone.

    >>> S = torch.tensor([[1.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
    >>> CovarianceScore(S).columns(torch.tensor([0, 1]))  # half of the variance that is left of each
    tensor([0.5000, 0.5000], dtype=torch.float64)

    The variances that are left, in an order, are the squares of the diagonal of the Cholesky factor of the covariance in that
    order, so that all columns cost one factorization and a move costs one of its span.

    Attributes:
        covariance: ``[d, d]``; `of` makes it from samples.
        likelihood: half of the sum of log variances in place of half of the sum of variances. Least squares finds the order
            where noises have equal variances, and changes with the scale of the columns; the likelihood does neither.

    Raises:
        DataError: the covariance is not symmetric positive definite.
    """

    covariance: Tensor
    likelihood: bool = False

    def __post_init__(self) -> None:
        S = self.covariance
        check_floating(S, "covariance")
        check_finite(S, "covariance")
        if S.ndim != 2 or S.shape[0] != S.shape[1] or not len(S):
            raise ShapeError(f"covariance has shape {tuple(S.shape)}; give [d, d]")
        scale = S.diagonal()
        if bool((scale <= 0).any()):
            raise DataError(f"column {int((scale <= 0).nonzero()[0])} is constant; remove it")
        if not torch.allclose(S, S.mT, rtol=0, atol=1e-6 * float(scale.max())):
            raise DataError("covariance is not symmetric")
        values, vectors = torch.linalg.eigh(S / (scale[:, None] * scale).sqrt())
        if float(values[0]) < 100 * len(S) * torch.finfo(S.dtype).eps:
            which = vectors[:, 0].abs().topk(min(2, len(S))).indices.sort().values.tolist()
            raise DataError(
                f"the covariance is singular: columns, {which} foremost, are combinations of one another; remove some or pass "
                "ridge="
            )

    @classmethod
    def of(cls, X: Tensor, *, likelihood: bool = False, ridge: float = 0.0) -> CovarianceScore:
        """The score of samples ``X [n, d]``, which are centred, in float64; `ridge` is added to all variances.

        Raises:
            DataError: NaN, no more samples than columns without a ridge, columns that are constant or copies, or yes and no.
        """
        S = _centred_covariance(X)
        if ridge < 0 or not math.isfinite(ridge):
            raise ErlangenError(f"ridge = {ridge}; give a number of at least 0")
        n, d = X.shape
        if n <= d and not ridge:
            raise DataError(f"X has {n} samples of {d} columns, so that least squares fits them; pass ridge=, or more")
        if all(len(column.unique()) == 2 for column in X.unbind(1)):
            raise DataError("every column of X has two values; use PenalizedScore.of(X, link='logistic')")
        return cls(S + ridge * torch.eye(d, dtype=S.dtype), likelihood)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.covariance)

    def _root(self, order: Tensor) -> Tensor:
        return torch.linalg.cholesky(self.covariance[order[:, None], order])

    def _cost(self, roots: Tensor) -> Tensor:
        diagonal = roots.diagonal(dim1=-2, dim2=-1)
        return diagonal.log() if self.likelihood else diagonal.square() / 2

    def columns(self, order: Tensor) -> Tensor:
        """What each node adds to the score ``[d]``, by its place in the order."""
        return self._cost(self._root(order))

    def rearranged(self, order: Tensor, moves: Tensor, spans: Tensor) -> Tensor:
        """Scores ``[k]`` after each move; only the span of a move is factorized, given all that comes before it."""
        root = self._root(order)
        cost = self._cost(root)
        before = torch.cat([cost.new_zeros(1), cost.cumsum(0)])
        total = torch.empty(len(moves), dtype=cost.dtype)
        for first in spans[:, 0].unique().tolist():
            rows = (spans[:, 0] == first).nonzero()[:, 0]
            end = int(spans[rows, 1].max()) + 1
            left = root[first:end, first:end] @ root[first:end, first:end].mT  # the covariance given what comes before
            local = moves[rows, first:end] - first
            found = self._cost(torch.linalg.cholesky(left[local[:, :, None], local[:, None, :]]))
            inside = torch.arange(first, end) <= spans[rows, 1, None]
            total[rows] = before[first] + (found * inside).sum(1) + before[-1] - before[spans[rows, 1] + 1]
        return total

    def weights(self, order: Tensor) -> Tensor:
        """Regression ``[d, d]`` of every node on all before it."""
        root = self._root(order)
        # The unit triangular factor takes noises to variables; its inverse is the identity less all regressions.
        unit, eye = root / root.diagonal(), torch.eye(len(root), dtype=root.dtype)
        inverse = torch.linalg.solve_triangular(unit, eye, upper=False, unitriangular=True)
        W = torch.zeros_like(root)
        W[order[:, None], order] = (eye - inverse).mT.triu(1)
        return W

    def violation(self, W: Tensor) -> Tensor:
        """Size of the derivative by every weight ``[d, d]``."""
        rest = torch.eye(len(W), dtype=W.dtype) - W
        slope = self.covariance.to(W) @ rest
        if self.likelihood:
            slope = slope / (rest.mT @ slope).diagonal()
        return slope.abs()


def _centred_covariance(X: Tensor) -> Tensor:
    check_floating(X, "X")
    check_finite(X, "X")
    if X.ndim != 2 or X.shape[0] < 2 or not X.shape[1]:
        raise ShapeError(f"X has shape {tuple(X.shape)}; give [n, d], one row for each of two samples or more")
    centred = X.double() - X.double().mean(0)
    flat = centred.square().mean(0) <= (1e-12 * X.double().abs().amax(0)) ** 2
    if bool(flat.any()):
        raise DataError(f"column {int(flat.nonzero()[0])} of X is constant; remove it")
    return centred.mT @ centred / len(X)


class PenalizedScore:
    """Least squares or logistic regression with an l1 penalty, solved for one node and one set of causes at a time.

    >>> X = torch.tensor([[-1.0, -2.0], [1.0, 2.0], [-1.0, -2.0], [1.0, 2.0]])
    >>> PenalizedScore.of(X, l1=0.1).weights(torch.tensor([0, 1]))[0, 1]  # 2, less the penalty
    tensor(1.9000, dtype=torch.float64)

    Solutions are kept by node and set, since sets return often.

    Args:
        X: samples ``[n, d]``; use `of`, which checks and centres them.
        covariance: X^T X / n.
        l1: weight of the sum of absolute weights.
        link: "linear", or "logistic" for columns of zeros and ones.
    """

    def __init__(self, X: Array, covariance: Array, l1: float, link: Link) -> None:
        self.X, self.S, self.l1, self.link = X, covariance, l1, link
        self._kept: dict[tuple[int, frozenset[int]], tuple[float, Array]] = {}

    @classmethod
    def of(cls, X: Tensor, *, l1: float = 0.0, link: Link = "linear") -> PenalizedScore:
        """The score of samples ``X [n, d]``; "linear" centres them, "logistic" leaves zeros and ones as they are.

        Raises:
            DataError: NaN, a constant column, or other values than 0 and 1 with "logistic".
        """
        if link not in get_args(Link):
            raise UnknownNameError(f"link = {link!r}; there are {', '.join(get_args(Link))}")
        if l1 < 0 or not math.isfinite(l1):
            raise ErlangenError(f"l1 = {l1}; give a number of at least 0")
        covariance = _centred_covariance(X)
        samples = X.double()
        if link == "logistic":
            if not bool(((X == 0) | (X == 1)).all()):
                raise DataError("link = 'logistic' needs columns of zeros and ones; use link='linear' for numbers")
            covariance = samples.mT @ samples / len(X)
        else:
            samples = samples - samples.mean(0)
        return cls(samples.numpy(), covariance.numpy(), l1, link)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.S)

    def local(self, node: int, causes: frozenset[int]) -> tuple[float, Array]:
        """The score of one node with these causes, and its weights ``[len(causes)]``, in the order of their names."""
        key = (node, causes)
        if key not in self._kept:
            self._kept[key] = self._solve(node, np.array(sorted(causes), dtype=np.int64))
        return self._kept[key]

    def _loss(self, node: int, causes: NDArray[np.int64], w: Array) -> tuple[float, Array]:
        """Value and slope ``[causes]`` of the loss without the penalty."""
        if self.link == "linear":
            cross, block = self.S[causes, node], self.S[np.ix_(causes, causes)]
            along = block @ w
            return float(self.S[node, node] / 2 - cross @ w + w @ along / 2), along - cross
        X, y = self.X[:, causes], self.X[:, node]
        z = X @ w
        value = float(np.mean(np.logaddexp(0, z) - y * z))
        return value, X.T @ (1 / (1 + np.exp(-z)) - y) / len(X)

    def _solve(self, node: int, causes: NDArray[np.int64]) -> tuple[float, Array]:
        """Accelerated proximal descent, begun anew when it goes uphill, until the optimality conditions hold."""
        w = np.zeros(len(causes))
        if not len(causes):
            return self._loss(node, causes, w)[0], w
        rate = 1 / float(np.linalg.eigvalsh(self.S[np.ix_(causes, causes)])[-1]) * (4 if self.link == "logistic" else 1)
        ahead, inertia = w, 1.0
        for count in range(50_000):
            if self.link == "linear" and count % 20 == 0:
                exact = self._on_support(node, causes, w if count else np.ones(len(causes)))
                if exact is not None:
                    w = exact
                    break
            slope = self._loss(node, causes, ahead)[1]
            after = _shrunk(ahead - rate * slope, rate * self.l1)
            if np.abs(after - ahead).max() <= 1e-11 * rate * max(1.0, self.S[node, node]):
                w = after
                break
            if (ahead - after) @ (after - w) > 0:
                ahead, inertia, w = after, 1.0, after
                continue
            more = (1 + math.sqrt(1 + 4 * inertia**2)) / 2
            ahead, inertia, w = after + (inertia - 1) / more * (after - w), more, after
        else:
            raise ErlangenError(
                f"the regression of node {node} on {causes.tolist()} does not converge; its columns are almost copies, or "
                "classes are separable: pass a larger l1"
            )
        return self._loss(node, causes, w)[0] + self.l1 * float(np.abs(w).sum()), w

    def _on_support(self, node: int, causes: NDArray[np.int64], guess: Array) -> Array | None:
        """The solution with the signs of a guess, by linear equations; None where it is not optimal."""
        on = guess != 0
        signs, kept = np.sign(guess[on]), causes[on]
        w = np.zeros(len(causes))
        w[on] = np.linalg.lstsq(self.S[np.ix_(kept, kept)], self.S[kept, node] - self.l1 * signs)[0]
        slope = self._loss(node, causes, w)[1]
        small = 1e-9 * max(1.0, float(self.S[node, node]))
        signed = self.l1 == 0 or bool((w[on] * signs >= 0).all())
        still = bool((np.abs(slope[on] + self.l1 * signs) <= small).all())
        return w if signed and still and bool((np.abs(slope[~on]) <= self.l1 + small).all()) else None

    def columns(self, order: Tensor) -> Tensor:
        """What each node adds to the score ``[d]``, by its place in the order."""
        names = order.tolist()
        return torch.tensor(
            [self.local(node, frozenset(names[:place]))[0] for place, node in enumerate(names)], dtype=torch.float64
        )

    def rearranged(self, order: Tensor, moves: Tensor, spans: Tensor) -> Tensor:
        """Scores ``[k]`` after each move; only nodes in its span are solved again."""
        cost, total = self.columns(order), order.new_empty(len(moves), dtype=torch.float64)
        for k, (move, (first, last)) in enumerate(zip(moves, spans.tolist(), strict=True)):
            names = order[move].tolist()
            new = sum(self.local(names[p], frozenset(names[:p]))[0] for p in range(first, last + 1))
            total[k] = cost.sum() - cost[first : last + 1].sum() + new
        return total

    def weights(self, order: Tensor) -> Tensor:
        """The best weights ``[d, d]`` that the order allows."""
        names, W = order.tolist(), torch.zeros(self.nodes, self.nodes, dtype=torch.float64)
        for place, node in enumerate(names):
            W[sorted(names[:place]), node] = torch.from_numpy(self.local(node, frozenset(names[:place]))[1])
        return W

    def violation(self, W: Tensor) -> Tensor:
        """Distance of zero from the subdifferential by every weight ``[d, d]``."""
        w, everyone = W.double().numpy(), np.arange(self.nodes)
        slope = np.stack([self._loss(j, everyone, w[:, j])[1] for j in range(self.nodes)], axis=1)
        free = np.maximum(np.abs(slope) - self.l1, 0)
        return torch.from_numpy(np.where(w == 0, free, np.abs(slope + self.l1 * np.sign(w))))


def _shrunk(w: Array, by: float) -> Array:
    return np.sign(w) * np.maximum(np.abs(w) - by, 0)
