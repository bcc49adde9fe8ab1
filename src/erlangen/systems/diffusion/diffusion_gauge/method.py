"""Gauge freedom of diffusion models: what of a field changes no density, and what its flow says about dimension.

Horvat and Pfister (ICLR 2024): a field v in place of the score splits, orthogonally in L^2(p), into a gradient and a remainder r
with ``div(p r) = 0``. Densities and samples depend on the gradient alone. Flow and likelihood are those of `erlangen.generate`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_finite, check_floating, check_integer
from erlangen.generate import divergence, flow
from erlangen.numerics import lyapunov
from erlangen.solve import asymmetry

Field = Callable[[Tensor], Tensor]
"""``[B, N] -> [B, N]``, sample by sample."""

Score = Callable[[Tensor, Tensor], Tensor]
"""``score(x [B, N], sigma [B])``."""

SMOOTH = 0.5
"""A direction whose singular value falls with a slope above this is normal."""


class Split(NamedTuple):
    """A field at samples, and its two parts, each ``[B, N]``; `coefficients` of the basis give the gradient anywhere.

    Attributes:
        gradient: the nearest gradient in L^2(p).
        remainder: what is left, orthogonal to all gradients of the basis.
        coefficients: of the potential.
    """

    gradient: Tensor
    remainder: Tensor
    coefficients: Tensor


class Turned:
    """The score with a gauge field: ``s + c R s`` for a skew R, which changes neither densities nor samples.

    >>> from erlangen.generate import GaussianMixture
    >>> mixture = GaussianMixture(torch.zeros(1, 2), torch.tensor([[1.0, 4.0]]))
    >>> field = Turned(mixture.score, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), 3.0)
    >>> field(torch.tensor([[1.0, 4.0]]), torch.zeros(1))
    tensor([[-4.,  2.]])

    ``div(p R grad log p) = tr(R Hess p) = 0``. R may not depend on x; it may on sigma.

    Args:
        score: the gradient of the log-density.
        R: skew ``[N, N]``.
        c: how much of it.

    Raises:
        ShapeError, ErlangenError: R is not square, or not skew; x has another dimension.
    """

    def __init__(self, score: Score, R: Tensor, c: float = 1.0) -> None:
        if R.ndim != 2 or R.shape[0] != R.shape[1] or not len(R):
            raise ShapeError(f"R has shape {tuple(R.shape)}; give a square matrix")
        check_finite(R, "R")
        if not math.isfinite(c):
            raise ErlangenError(f"c = {c}; give a finite number")
        if float((R + R.mT).abs().max()) > 1e-6 * float(R.abs().max()):
            raise ErlangenError("R is not skew, so that R score changes the density; give R = (A - A.mT) / 2")
        self.score, self.R, self.c = score, R, c

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The field ``[B, N]``."""
        s = self.score(x, sigma)
        if s.shape[-1] != len(self.R):
            raise ShapeError(f"R is for {len(self.R)} dimensions, but the score has the shape {tuple(s.shape)}")
        return s + self.c * s @ self.R.to(s).mT


def gauge_residual(remainder: Field, score: Field, x: Tensor) -> Tensor:
    """``div r + r . grad log p`` at x, ``[B]``: zero everywhere where r is a gauge field of p."""
    _check_points(x)
    r, s = remainder(x), score(x)
    if r.shape != x.shape or s.shape != x.shape:
        raise ShapeError(
            f"remainder {tuple(r.shape)}, score {tuple(s.shape)} at {tuple(x.shape)}; fields keep the shape"
        )
    return divergence(remainder, x) + (r * s).sum(-1)


def conservativity(field: Field, x: Tensor) -> Tensor:
    """``|J - J^T|^2 / (2 |J|^2)`` of the Jacobian of a field at each sample, ``[B]``: 0 for gradients, 2 for rotations alone.

    It is no measure of the gauge part: a small remainder may have a large curl, and a large one none.
    """
    _check_points(x)
    if not len(x):
        return x.new_zeros(0)
    columns = [
        torch.func.jvp(field, (x,), (axis.expand_as(x).contiguous(),))[1] for axis in torch.eye(x.shape[1]).to(x)
    ]
    size = torch.stack(columns, -1).square().sum((-2, -1))
    if bool((size == 0).any()):
        raise ErlangenError("the field does not depend on x at some samples; it may be detached, or piecewise constant")
    return asymmetry(field, x) / size


# --- the split -------------------------------------------------------------------------------------------------------
def linear_split(A: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient part S x and remainder (A - S) x of the field A x under N(0, covariance): matrices ``[N, N]``.

    ``P S + S P = P A + A^T P`` with P the inverse of the covariance; the remainder is the covariance times a skew matrix.

    >>> S, rest = linear_split(torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.eye(2))
    >>> S
    tensor([[1., 1.],
            [1., 3.]])
    """
    if A.ndim != 2 or A.shape != covariance.shape or A.shape[0] != A.shape[1]:
        raise ShapeError(f"A {tuple(A.shape)}, covariance {tuple(covariance.shape)}; give square matrices of one size")
    for name, matrix in (("A", A), ("covariance", covariance)):
        check_floating(matrix, name)
        check_finite(matrix, name)
    if A.dtype != covariance.dtype:
        raise DtypeError(f"A has dtype {A.dtype} and covariance {covariance.dtype}; convert one of them")
    factor, failed = torch.linalg.cholesky_ex(covariance)
    skewness = float((covariance - covariance.mT).norm() / covariance.norm())
    if int(failed) or skewness > 1e-5:
        raise ErlangenError(
            "covariance is not symmetric and positive definite, so that it has no density; add noise of some level to the data"
        )
    P = torch.cholesky_inverse(factor)
    S = lyapunov(P, P @ A + A.mT @ P)
    return S, A - S


def gradients(basis: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradients ``[B, K, N]`` of potentials ``basis(x) [B, K]``."""
    axes = torch.eye(x.shape[1], dtype=x.dtype)
    pushed = [torch.func.jvp(basis, (x,), (axis.expand_as(x).contiguous(),)) for axis in axes]
    values: Tensor = pushed[0][0]
    if values.ndim != 2 or len(values) != len(x):
        raise ShapeError(f"basis maps {tuple(x.shape)} to {tuple(values.shape)}; give potentials [B, K]")
    return torch.stack([one[1] for one in pushed], -1)


def galerkin_split(v: Tensor, x: Tensor, basis: Callable[[Tensor], Tensor], weights: Tensor | None = None) -> Split:
    """Split a field by its values at samples of p: the normal equations ``E[grad b_i . grad b_j] c = E[grad b_i . v]``.

    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> split = galerkin_split(2 * x, x, lambda x: x.square())
    >>> split.coefficients.round(decimals=9), float(split.remainder.abs().max()) < 1e-12
    (tensor([1., 1.], dtype=torch.float64), True)

    Args:
        v: values of the field ``[B, N]``.
        x: samples of p ``[B, N]``, or the points of a quadrature.
        basis: potentials ``[B, K]``; a constant among them does no harm.
        weights: ``[B]`` of the quadrature; equal by default.

    Raises:
        ShapeError: v and x differ in shape, or there are more potentials than numbers to fit them to.
        ErlangenError: potentials without derivative; weights that are negative or all zero.
    """
    if v.shape != x.shape or x.ndim != 2:
        raise ShapeError(f"v {tuple(v.shape)}, x {tuple(x.shape)}; give the field [B, N] at the samples [B, N]")
    check_finite(v, "v")
    _check_points(x)
    if weights is not None:
        check_finite(weights, "weights")
        if weights.shape != x.shape[:1] or bool((weights < 0).any()) or not bool((weights > 0).any()):
            raise ErlangenError(
                f"weights {tuple(weights.shape)}; give one for each of {len(x)} samples, not negative, not all zero"
            )
    g = gradients(basis, x)
    if not bool((g != 0).any()):
        raise ErlangenError("basis has no derivative by x: it is constant or detached; give smooth potentials")
    if g.shape[1] > x.numel():
        raise ShapeError(f"{g.shape[1]} potentials for {x.numel()} numbers; give more samples or fewer potentials")
    root = torch.ones_like(x[:, 0]) if weights is None else weights.sqrt()
    matrix = (root[:, None, None] * g).transpose(1, 2).flatten(0, 1)
    # By singular values: potentials may depend on one another, and the gradient is unique all the same.
    found = torch.linalg.lstsq(matrix, (root[:, None] * v).flatten()[:, None], driver="gelsd").solution[:, 0]
    gradient = torch.einsum("bkn,k->bn", g, found)
    return Split(gradient, v - gradient, found)


# --- dimension -------------------------------------------------------------------------------------------------------
class Dimension(NamedTuple):
    """Intrinsic dimension at points, by two read-outs of the flow from noise to data.

    Attributes:
        by_gap: ``[B]``, the place of the largest ratio of neighbouring singular values at the smallest level.
        by_slope: ``[B]``, how many singular values fall slower than the root of the level.
        slopes: ``[B, N]``, ascending: d log(singular value) / d log(sigma) at small levels, 0 for tangents, 1 for normals.
        singular_values: ``[B, N]`` of the derivative of the data by the noise at the smallest level, descending.
    """

    by_gap: Tensor
    by_slope: Tensor
    slopes: Tensor
    singular_values: Tensor


def singular_values(score: Score, x: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values ``[L, B, N]`` of d x_sigma / d x_high at decreasing levels ``[L]``, and where x goes, ``[L, B, N]``.

    x ``[B, N]``, float64, lies at the first of the levels, the highest. The derivative follows ``dY / dt = J Y``.
    """
    _check_points(x, double=True)
    if levels.ndim != 1 or len(levels) < 2 or not bool((levels.diff() < 0).all()):
        raise ErlangenError(f"levels {tuple(levels.shape)} must be at least two numbers that decrease")
    derivative = torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)
    values, places = [torch.linalg.svdvals(derivative)], [x]
    for now, then in itertools.pairwise(levels):
        moved = flow(score, x, torch.stack([now, then]), jacobian=True)
        assert moved.jacobian is not None
        x, derivative = moved.x, moved.jacobian @ derivative
        values.append(torch.linalg.svdvals(derivative))
        places.append(x)
    return torch.stack(values), torch.stack(places)


def intrinsic_dimension(
    score: Score, x: Tensor, *, low: float = 0.01, middle: float = 0.04, high: float = 5.0, steps: int = 40
) -> Dimension:
    """Dimension of the set of data at each of the points x ``[B, N]`` of it, from a field in place of the score.

    Points go up to the level `high`, and back with the derivative. Slopes are those between `middle` and `low`. In a set of parts
    of different dimension every point has that of its own part.

    Args:
        score: the field; it must be differentiable by x.
        x: points of the data, float64: single precision loses what singular values of normals are.
        low, middle, high: levels; the field must have been trained down to the lowest.
        steps: of order four, each way.

    Raises:
        DtypeError: x is not float64.
        ErlangenError: levels that are out of order, `high` not above the spread of the points, or a field without derivative.
    """
    _check_points(x, double=True)
    if x.shape[1] < 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give points [B, N] with N of at least 2")
    if not 0 < low < middle < high:
        raise ErlangenError(f"low = {low}, middle = {middle}, high = {high}; give 0 < low < middle < high")
    check_integer("steps", steps, 4)
    spread = float(x.std(0).square().mean().sqrt()) if len(x) > 1 else 0.0
    if high < 3 * spread:
        raise ErlangenError(
            f"high = {high}, but the points have the standard deviation {spread:.3g}: the noise does not cover the data; give at "
            "least three times as much"
        )
    _check_derivative(score, x, low)
    fine = max(1, round(steps * math.log(middle / low) / math.log(high / low)))
    coarse = max(1, steps - fine)
    down = torch.cat([_geometric(high, middle, coarse), _geometric(middle, low, fine)[1:]])
    values, _ = singular_values(score, flow(score, x, down.flip(0)).x, down)
    end, before = values[-1], values[coarse]
    if not bool((end[:, -1] > 1e-12 * end[:, 0]).all()):
        raise ErlangenError("singular values differ by more than 1e12, which float64 does not hold; give a larger low")
    logs = end.log()
    slopes = ((before.log() - logs) / math.log(middle / low)).sort(-1).values
    by_gap = (logs[:, :-1] - logs[:, 1:]).argmax(-1) + 1
    return Dimension(by_gap, (slopes < SMOOTH).sum(-1), slopes, end)


def _check_points(x: Tensor, *, double: bool = False) -> None:
    if double and x.dtype != torch.float64:
        raise DtypeError(f"x has dtype {x.dtype}: small singular values drown in its rounding; call x.double()")
    if x.ndim != 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give points [B, N]")
    check_floating(x, "x")
    check_finite(x, "x")


def _geometric(first: float, last: float, steps: int) -> Tensor:
    return torch.logspace(math.log10(first), math.log10(last), steps + 1, dtype=torch.float64)


def _check_derivative(score: Score, x: Tensor, low: float) -> None:
    """Refuse a field that changes with x and has the derivative zero, such as one that was computed without gradients."""
    sigma = x.new_full((len(x),), low)
    e = torch.ones_like(x)
    step = 1e-3 * low
    differs = (score(x + step * e, sigma) - score(x, sigma)) / step
    derivative = torch.func.jvp(lambda at: score(at, sigma), (x,), (e,))[1]
    if bool((derivative == 0).all()) and not bool((differs == 0).all()):
        raise ErlangenError("score has no derivative by x: it is detached or computed under no_grad; leave these away")
