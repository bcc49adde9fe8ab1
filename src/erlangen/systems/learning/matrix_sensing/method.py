"""Gradient descent on the factors of a matrix, and the step in GL(k) that frees its rate of where it began.

Xiong, Ding and Du (ICLR 2024): measurements ``y_i = <A_i, M>`` of a matrix M of rank r, factors with k >= r columns.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from erlangen.errors import (
    ErlangenError,
    ErlangenWarning,
    NotFiniteError,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    check_sizes,
)

Factors = Tensor | tuple[Tensor, Tensor]
"""``X [n, k]`` of the symmetric model X X^T, or ``(F [n1, k], G [n2, k])`` of F G^T."""


# --- measurements ----------------------------------------------------------------------------------------------------
class Sensing(ABC):
    """A linear map from matrices ``[..., n1, n2]`` to measurements ``[..., m]``, scaled so that E[A* A] is the identity.

    Attributes:
        shape: ``(n1, n2)``.
        m: number of measurements.
    """

    def __init__(self, shape: tuple[int, int], m: int) -> None:
        self.shape, self.m = shape, m

    def __call__(self, matrix: Tensor) -> Tensor:
        """The measurements A(M)."""
        return self._measure(matrix)

    def adjoint(self, y: Tensor) -> Tensor:
        """A*(y), with ``<A(M), y> = <M, A*(y)>``."""
        return self._back(y)

    @abstractmethod
    def _measure(self, matrix: Tensor) -> Tensor: ...

    @abstractmethod
    def _back(self, y: Tensor) -> Tensor: ...


class AllEntries(Sensing):
    """Every entry once: A is the identity, the case of infinitely many Gaussian measurements.

    >>> AllEntries((2, 3))(torch.ones(2, 3)).shape
    torch.Size([6])
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        check_sizes(n1=shape[0], n2=shape[1])
        super().__init__(shape, shape[0] * shape[1])

    def _measure(self, matrix: Tensor) -> Tensor:
        return matrix.flatten(-2)

    def _back(self, y: Tensor) -> Tensor:
        return y.unflatten(-1, self.shape)


class SomeEntries(Sensing):
    """The entries of a mask ``[n1, n2]`` of booleans (matrix completion); incoherent matrices alone can be recovered."""

    def __init__(self, mask: Tensor) -> None:
        if mask.dtype != torch.bool or mask.ndim != 2 or not mask.any():
            raise ErlangenError(
                f"mask of dtype {mask.dtype} and shape {tuple(mask.shape)}: give booleans [n1, n2], some of them true"
            )
        super().__init__((mask.shape[0], mask.shape[1]), int(mask.sum()))
        self.mask, self._scale = mask, math.sqrt(mask.numel() / self.m)

    def _measure(self, matrix: Tensor) -> Tensor:
        return self._scale * matrix[..., self.mask]

    def _back(self, y: Tensor) -> Tensor:
        out = y.new_zeros(*y.shape[:-1], *self.shape)
        out[..., self.mask] = self._scale * y
        return out


class GaussianSensing(Sensing):
    """Inner products with m matrices ``[m, n1, n2]``; `draw` makes them of variance 1/m.

    >>> GaussianSensing.draw(100, (5, 4), generator=torch.Generator().manual_seed(0)).m
    100
    """

    def __init__(self, matrices: Tensor) -> None:
        check_floating(matrices, "matrices")
        check_finite(matrices, "matrices")
        if matrices.ndim != 3 or 0 in matrices.shape:
            raise ShapeError(f"matrices has shape {tuple(matrices.shape)}; give [m, n1, n2]")
        super().__init__((matrices.shape[1], matrices.shape[2]), len(matrices))
        self.matrices = matrices.flatten(1)

    @classmethod
    def draw(
        cls, m: int, shape: tuple[int, int], *, generator: Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> GaussianSensing:
        """Independent entries of variance 1/m."""
        check_integer("m", m, 1)
        return cls(torch.randn(m, *shape, generator=generator, dtype=dtype) / math.sqrt(m))

    def _measure(self, matrix: Tensor) -> Tensor:
        return matrix.flatten(-2) @ self.matrices.mT

    def _back(self, y: Tensor) -> Tensor:
        return (y @ self.matrices).unflatten(-1, self.shape)


class RankOneSensing(Sensing):
    """Bilinear measurements ``a_i^T M b_i / sqrt(m)``, with ``a [m, n1]`` and ``b [m, n2]``: less memory, a heavier tail."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        for name, value in (("a", a), ("b", b)):
            check_floating(value, name)
            check_finite(value, name)
        if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or not len(a):
            raise ShapeError(f"a {tuple(a.shape)} and b {tuple(b.shape)}: give [m, n1] and [m, n2]")
        super().__init__((a.shape[1], b.shape[1]), len(a))
        self.a, self.b = a, b

    @classmethod
    def draw(
        cls, m: int, shape: tuple[int, int], *, generator: Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> RankOneSensing:
        """Standard normal vectors."""
        check_integer("m", m, 1)
        a, b = (torch.randn(m, n, generator=generator, dtype=dtype) for n in shape)
        return cls(a, b)

    def _measure(self, matrix: Tensor) -> Tensor:
        return ((self.a @ matrix) * self.b).sum(-1) / math.sqrt(self.m)

    def _back(self, y: Tensor) -> Tensor:
        return (self.a * y[..., None] / math.sqrt(self.m)).mT @ self.b


# --- factors ---------------------------------------------------------------------------------------------------------
def product(factors: Factors) -> Tensor:
    """X X^T or F G^T."""
    left, right = factors if isinstance(factors, tuple) else (factors, factors)
    return left @ right.mT


def imbalance(factors: tuple[Tensor, Tensor]) -> Tensor:
    """``F^T F - G^T G [k, k]``, which gradient flow conserves and GL(k) does not: it sets the rate of what is superfluous."""
    left, right = factors
    return left.mT @ left - right.mT @ right


def gauge_step(factors: tuple[Tensor, Tensor], beta: float) -> tuple[Tensor, Tensor]:
    """The element of GL(k) after which all singular values of F are `beta`: ``F = A S B^T`` becomes ``beta A B^T``.

    The product stays. With ``beta^2`` at most the smallest singular value of M that counts, F is never what slows descent:
    the error falls by ``(1 - rate beta^2)^2`` a step, whatever the scale of the start (section 5 of the paper).

    Raises:
        ErlangenError: `beta` is not positive, F has more columns than rows, or a singular value of F below 1e-8.
    """
    left, right = factors
    if not beta > 0:
        raise ErlangenError(f"beta = {beta}; give a positive number, at most the root of M's smallest singular value")
    if left.shape[-2] < left.shape[-1]:
        raise ErlangenError(f"F has shape {tuple(left.shape)}; the gauge step needs at most as many columns as rows")
    a, s, bt = torch.linalg.svd(left, full_matrices=False)
    if s[..., -1].min() < 1e-8:
        raise ErlangenError(
            f"F has the singular value {s[..., -1].min().item():.1e}: no element of GL(k) makes it {beta}; "
            "take the step later, or begin with a larger scale"
        )
    return beta * (a @ bt), right @ (bt.mT * (s / beta)[..., None, :]) @ bt


@dataclass(frozen=True)
class GaugeStep:
    """When `recover` takes the gauge step, and how.

    Attributes:
        beta: see `gauge_step`.
        close: it is taken once the residual ``|A(F G^T) - y|^2`` is at most this share of ``|y|^2``: earlier it does no harm
            and no good.
        after: it is not taken before this step.
    """

    beta: float
    close: float = 0.01
    after: int = 0


@dataclass(frozen=True)
class Recovery:
    """What descent arrived at.

    Attributes:
        factors: the last ones.
        errors: ``[steps + 1]``: ``|product - target|^2`` before every step and at the end, or the residual
            ``|A(product) - y|^2`` where no target was given.
        gauge_at: before which step the gauge step was taken; None where it was not.
    """

    factors: Factors
    errors: Tensor
    gauge_at: int | None = None

    def steps_to(self, level: float) -> float:
        """The first step with an error of at most `level`; infinity where there is none."""
        below = torch.nonzero(self.errors <= level)
        return float(below[0]) if len(below) else math.inf


# --- descent ---------------------------------------------------------------------------------------------------------
def recover(
    sensing: Sensing,
    y: Tensor,
    start: Factors,
    *,
    rate: float,
    steps: int,
    target: Tensor | None = None,
    until: float = 0.0,
    gauge: GaugeStep | None = None,
    damping: float | Literal["residual"] | None = None,
) -> Recovery:
    """Gradient descent with a constant step from given factors.

    >>> g = torch.Generator().manual_seed(0)
    >>> u = torch.linalg.qr(torch.randn(20, 2, generator=g, dtype=torch.float64))[0]
    >>> everything, start = AllEntries((20, 20)), 0.1 * torch.randn(20, 2, generator=g, dtype=torch.float64)
    >>> found = recover(everything, everything(u @ u.T), start, rate=0.1, steps=1000, target=u @ u.T)
    >>> bool(found.errors[-1] < 1e-20)
    True

    Symmetric: ``f = |A(X X^T) - y|^2 / 4``, ``X <- X - rate A*(A(X X^T) - y) X`` with the symmetric part of A*. Asymmetric:
    ``f = |A(F G^T) - y|^2 / 2`` and, with ``R = A*(A(F G^T) - y)``, at once ``F <- F - rate R G`` and ``G <- G - rate R^T F``.

    Args:
        sensing: the measurements A.
        y: ``[m]``, what was measured.
        start: ``X [n, k]``, or ``(F [n1, k], G [n2, k])``.
        rate: eta, positive; up to about 1/(3 sigma_1(M)).
        steps: at most so many.
        target: M ``[n1, n2]``, where it is known: errors are measured against it, and k is compared with its rank.
        until: stop at an error of at most this.
        gauge: one step in GL(k) (asymmetric factors alone).
        damping: precondition with ``(X^T X + damping 1)^-1``: ScaledGD(lambda) of Xu et al. (ICML 2023); "residual" takes
            ``|A(X X^T) - y|`` in every step, PrecGD of Zhang et al. (NeurIPS 2021).

    Returns:
        A `Recovery`.

    Warns:
        ErlangenWarning: fewer measurements than the target has degrees of freedom; many steps in single precision.

    Raises:
        ShapeError, DtypeError: `y`, `start` or `target` do not fit.
        ErlangenError: fewer columns than the rank of the target; the symmetric model with a target that is not positive
            semi-definite; a gauge step for it; a rate, a damping or a number of steps that is not positive.
        NotFiniteError: the error grows: the rate is too large.
    """
    _check_start(sensing, y, start, target)
    check_integer("steps", steps, 1)
    if not (rate > 0 and math.isfinite(rate)):
        raise ErlangenError(f"rate = {rate}; give a positive number")
    if damping is not None and damping != "residual" and not damping > 0:
        raise ErlangenError(f"damping = {damping!r}; give a positive number, 'residual' or None")
    if gauge is not None and not isinstance(start, tuple):
        raise ErlangenError(
            "gauge: X X^T has the gauge group O(k), whose elements keep all singular values; give (F, G)"
        )
    if y.dtype in (torch.float16, torch.bfloat16, torch.float32) and steps > 5000:
        warnings.warn(
            f"{steps} steps in {y.dtype}: the error stays at about 1e-13, which looks like slow convergence; use float64",
            ErlangenWarning,
            stacklevel=2,
        )
    factors, errors, gauge_at = start, list[float](), None
    size = float(y.square().sum())
    for step in range(steps + 1):
        now = product(factors)
        residual = sensing(now) - y
        misfit = float(residual.square().sum())
        errors.append(misfit if target is None else float((now - target).square().sum()))
        if not misfit <= 1e3 * (size + errors[0] + 1e-300):
            raise NotFiniteError(_too_large(rate, step, errors, sensing.adjoint(y)))
        if errors[-1] <= until or step == steps:
            break
        if gauge is not None and gauge_at is None and step >= gauge.after and misfit <= gauge.close * size:
            assert isinstance(factors, tuple)
            factors, gauge_at = gauge_step(factors, gauge.beta), step
        weight = math.sqrt(misfit) if damping == "residual" else damping
        factors = _descend(factors, sensing.adjoint(residual), rate, weight)
    return Recovery(factors, torch.tensor(errors, dtype=torch.float64), gauge_at)


def _descend(factors: Factors, gradient: Tensor, rate: float, damping: float | None) -> Factors:
    """One step along the gradient ``[n1, n2]`` of the product."""
    if isinstance(factors, tuple):
        left, right = factors
        return (
            left - rate * _preconditioned(gradient @ right, right, damping),
            right - rate * _preconditioned(gradient.mT @ left, left, damping),
        )
    symmetric = (gradient + gradient.mT) / 2
    return factors - rate * _preconditioned(symmetric @ factors, factors, damping)


def _preconditioned(gradient: Tensor, other: Tensor, damping: float | None) -> Tensor:
    if damping is None:
        return gradient
    gram = other.mT @ other
    gram.diagonal().add_(damping)
    return torch.linalg.solve(gram, gradient, left=False)


def _too_large(rate: float, step: int, errors: list[float], back: Tensor) -> str:
    top = float(torch.linalg.matrix_norm(back, 2))
    advice = f"; up to about {1 / (3 * top):.2g}, a third of 1/sigma_1, is safe" if top > 0 else ""
    return f"rate = {rate}: the error grew from {errors[0]:.2g} to {errors[-1]:.2g} in {step} steps{advice}"


def _check_start(sensing: Sensing, y: Tensor, start: Factors, target: Tensor | None) -> None:
    pair = start if isinstance(start, tuple) else (start, start)
    for name, value in (("y", y), ("start", pair[0]), ("start", pair[1])):
        check_floating(value, name)
        check_finite(value, name)
    n1, n2 = sensing.shape
    sizes = [tuple(value.shape) for value in pair]
    k = pair[0].shape[-1] if pair[0].ndim == 2 else 0
    if k < 1 or sizes != [(n1, k), (n2, k)]:
        raise ShapeError(
            f"start has the shapes {sizes}; matrices are {n1} x {n2}: give [{n1}, k] and [{n2}, k], k >= 1"
        )
    if tuple(y.shape) != (sensing.m,):
        raise ShapeError(f"y has shape {tuple(y.shape)}; the sensing has {sensing.m} measurements: give [{sensing.m}]")
    if target is None:
        return
    if tuple(target.shape) != (n1, n2):
        raise ShapeError(f"target has shape {tuple(target.shape)}; the sensing measures {n1} x {n2}")
    check_finite(target, "target")
    values = torch.linalg.svdvals(target)
    small = float(values[0]) * max(1e-10, 10 * max(n1, n2) * torch.finfo(target.dtype).eps)
    rank = int((values > small).sum())
    if k < rank:
        raise ErlangenError(f"start has k = {k} columns, the target has rank {rank}: give at least {rank}")
    if not isinstance(start, tuple):
        uneven = float((target - target.mT).abs().max()) > small
        if uneven or float(torch.linalg.eigvalsh(target)[0]) < -small:
            raise ErlangenError("target is not symmetric positive semi-definite, as X X^T is; give a pair (F, G)")
    freedom = rank * (n1 + n2 - rank) if isinstance(start, tuple) else rank * n1 - rank * (rank - 1) // 2
    if sensing.m < freedom:
        warnings.warn(
            f"{sensing.m} measurements of a matrix with {freedom} degrees of freedom do not determine it",
            ErlangenWarning,
            stacklevel=3,
        )
