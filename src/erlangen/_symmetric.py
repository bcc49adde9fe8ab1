"""Functions of symmetric matrices with exact derivatives up to the second, at equal eigenvalues too.

With A = V l V^T and the divided differences of f at the eigenvalues, the derivative of f(A) in the direction C is
``V (f[l_i, l_j] c_ij) V^T``, where c = V^T C V (Daleckii and Krein 1965; Higham, Functions of Matrices, theorem 3.11), and the
second one in the directions C and D is ``V (sum_k f[l_i, l_k, l_j] (c_ik d_kj + d_ik c_kj)) V^T``. The divided differences are
written so that nothing cancels where their points come together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from erlangen._threads import compose_symmetric

TERMS = 26
"""Terms of series around the mean of three points that are close: beyond, they are below the rounding of float64."""
MOST = 2**24
"""Numbers that a second derivative holds at once; above, its sum goes piece by piece."""


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off on the device of x: it would run matrix products in half precision."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def largest_value(values: Tensor) -> Tensor:
    """Largest absolute eigenvalue ``[..., 1]``, a constant; at least the smallest number whose reciprocal is finite."""
    return values.detach().abs().amax(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def round_off(values: Tensor) -> Tensor:
    """How far eigenvalues ``[..., n]`` may be off by rounding, ``[..., 1]``, a constant."""
    return values.shape[-1] * torch.finfo(values.dtype).eps * values.detach().abs().amax(-1, keepdim=True)


@dataclass(frozen=True)  # a tuple would be a tree of arguments to torch.func
class Function:
    """A scalar function, its first and second divided differences, and p where ``f(s l) = s^p f(l)`` up to a constant."""

    value: Callable[[Tensor], Tensor]
    difference: Callable[[Tensor, Tensor], Tensor]
    second: Callable[[Tensor, Tensor, Tensor], Tensor]
    degree: float | None


class SymFunction(torch.autograd.Function):
    """V f(l) V^T. The eigendecomposition enters as an input, so that third derivatives can go through it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(A: Tensor, values: Tensor, vectors: Tensor, f: Function) -> Tensor:
        return compose_symmetric(f.value(values), vectors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        A, values, vectors, ctx.f = inputs
        ctx.save_for_backward(A, values, vectors)
        ctx.save_for_forward(A, values, vectors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _SymDerivative.apply(*ctx.saved_tensors, grads[0], ctx.f, True), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _SymDerivative.apply(*ctx.saved_tensors, tangents[0], ctx.f, False)


class _SymDerivative(torch.autograd.Function):
    """The derivative of V f(l) V^T in a direction, or its adjoint, which is the same map; `adjoint` says what is given.

    <G, f''(A)[C, D]> is the third derivative of tr F(A), F' = f, in three directions: it does not change when they change
    places, which gives the derivatives of the derivative.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(A: Tensor, values: Tensor, vectors: Tensor, direction: Tensor, f: Function, adjoint: bool) -> Tensor:
        with full_precision(values):
            s, weights, inner = _prepared(values, vectors, direction, f, adjoint)
            weights = f.difference(weights[..., :, None], weights[..., None, :])
            return vectors @ (weights * inner) @ vectors.mT * _after(s, f, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        A, values, vectors, direction, ctx.f, ctx.adjoint = inputs
        ctx.save_for_backward(A, values, vectors, direction)
        ctx.save_for_forward(A, values, vectors, direction)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        A, values, vectors, direction = ctx.saved_tensors
        cotangent, tangent = (direction.mT, grads[0]) if ctx.adjoint else (grads[0], direction.mT)
        return (
            _second(values, vectors, cotangent, tangent, ctx.f, True),
            None,
            None,
            _SymDerivative.apply(A, values, vectors, grads[0], ctx.f, not ctx.adjoint),
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        A, values, vectors, direction = ctx.saved_tensors
        change = torch.zeros_like(direction)
        if tangents[0] is not None:
            change = change + _second(values, vectors, direction, tangents[0], ctx.f, ctx.adjoint)
        if tangents[3] is not None:
            change = change + _SymDerivative.apply(A, values, vectors, tangents[3], ctx.f, ctx.adjoint)
        return change


def _prepared(values: Tensor, vectors: Tensor, direction: Tensor, f: Function, adjoint: bool) -> tuple[Tensor, ...]:
    """s = max|l|, eigenvalues at scale one, and the direction in the basis of eigenvectors.

    Divided differences are those of ``l / s``, times s^(p-1). A direction is of the size s and a cotangent of the size s^-p,
    so the one is divided by s first, the other multiplied by s^p first: neither leaves the dtype's range.
    """
    s = largest_value(values) if f.degree is not None else torch.ones_like(values[..., :1])
    before = s[..., None] ** (f.degree or 0.0) if adjoint else 1 / s[..., None]
    return s, values / s, vectors.mT @ (before * direction) @ vectors


def _after(s: Tensor, f: Function, adjoint: bool) -> Tensor:
    return 1 / s[..., None] if adjoint else s[..., None] ** (f.degree or 0.0)


def _second(values: Tensor, vectors: Tensor, C: Tensor, D: Tensor, f: Function, adjoint: bool) -> Tensor:
    """The second derivative in the directions C, a cotangent if `adjoint`, and D."""
    with full_precision(values):
        s, l, c = _prepared(values, vectors, C, f, adjoint)
        d = _prepared(values, vectors, D, f, False)[2]
        n = l.shape[-1]
        pieces = max(1, MOST // max(1, l.numel() * n))
        total = torch.zeros_like(c)
        for k in range(0, n, pieces):
            part = slice(k, k + pieces)
            weights = f.second(l[..., :, None, None], l[..., None, part, None], l[..., None, None, :])
            both = c[..., :, part, None] * d[..., None, part, :] + d[..., :, part, None] * c[..., None, part, :]
            total = total + (weights * both).sum(-2)
        return vectors @ total @ vectors.mT * _after(s, f, adjoint)


# --- divided differences, each in a form that stays accurate and smooth where points come together --------------------
def _exp_difference(a: Tensor, b: Tensor) -> Tensor:
    distance = (a - b).abs()
    tie = distance == 0
    # The limit 1 - d/2 keeps the derivative at a tie.
    quotient = torch.where(tie, 1 - distance / 2, -torch.expm1(-distance) / torch.where(tie, 1.0, distance))
    return torch.maximum(a, b).exp() * quotient


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    z = (a - b) / (a + b)
    close = z.abs() < 0.1
    square, series = torch.where(close, z, 0.0).square(), torch.zeros_like(z)
    for k in range(8, -1, -1):  # atanh(z) / z; log a - log b = 2 atanh(z)
        series = 1 / (2 * k + 1) + square * series
    return torch.where(close, 2 * series / (a + b), (a.log() - b.log()) / torch.where(close, 1.0, a - b))


def _rsqrt_difference(a: Tensor, b: Tensor) -> Tensor:
    x, y = a.sqrt(), b.sqrt()
    return -1 / (x * y * (x + y))


def _root(values: Tensor) -> Tensor:
    zero = values <= round_off(values)
    return torch.where(zero, 0.0, torch.where(zero, 1.0, values).sqrt())


def _root_difference(a: Tensor, b: Tensor) -> Tensor:
    total = _root(a.squeeze(-1))[..., :, None] + _root(b.squeeze(-2))[..., None, :]
    zero = total == 0
    return torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, total))


# f[a, b, c] = (f[a, b] - f[b, c]) / (a - c): as it stands where the largest and the smallest point are far apart, and by the
# series of f around the mean where they are close, with the complete symmetric polynomials of the three distances from it.
def _exp_second(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    low, middle, high = _ordered(a, b, c)
    far = high - low > 1
    centre, polynomials = _symmetric_polynomials(low, middle, high, far)
    series = sum((h * (1 / math.factorial(k + 2)) for k, h in enumerate(polynomials)), torch.zeros_like(centre))
    return torch.where(far, _quotient(_exp_difference, low, middle, high, far), series * centre.exp())


def _log_second(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    low, middle, high = _ordered(a, b, c)
    far = high - low > 0.3 * (low + middle + high) / 3
    centre, polynomials = _symmetric_polynomials(low, middle, high, far, relative=True)
    series = sum(((-1) ** (k + 1) / (k + 2) * h for k, h in enumerate(polynomials)), torch.zeros_like(centre))
    return torch.where(far, _quotient(_log_difference, low, middle, high, far), series / centre.square())


def _ordered(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    middle = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    return low, middle, high


def _quotient(
    difference: Callable[[Tensor, Tensor], Tensor], low: Tensor, middle: Tensor, high: Tensor, far: Tensor
) -> Tensor:
    return (difference(high, middle) - difference(middle, low)) / torch.where(far, high - low, 1.0)


def _symmetric_polynomials(
    low: Tensor, middle: Tensor, high: Tensor, far: Tensor, *, relative: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """The mean of three points, and h_0, h_1, ... of their distances from it; zeros where they are far apart."""
    centre = low + (middle - low + high - low) / 3
    points = [torch.where(far, 0.0, point - centre) / (centre if relative else 1.0) for point in (low, middle, high)]
    pairs = points[0] * points[1] + points[1] * points[2] + points[0] * points[2]
    total, product = points[0] + points[1] + points[2], points[0] * points[1] * points[2]
    found = [torch.zeros_like(centre), torch.zeros_like(centre), torch.ones_like(centre)]
    for _ in range(TERMS - 1):
        found.append(total * found[-1] - pairs * found[-2] + product * found[-3])
    return centre, found[2:]


def _rsqrt_second(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    x, y, z = a.sqrt(), b.sqrt(), c.sqrt()
    return (x + y + z) / (x * y * z * (x + y) * (y + z) * (x + z))


def _root_second(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    values = a[..., 0, 0]
    roots, zero = _root(values), b <= round_off(values)[..., None, None]
    x, z = roots[..., :, None, None], roots[..., None, None, :]
    y = torch.where(zero, 0.0, torch.where(zero, 1.0, b).sqrt())
    product = (x + y) * (y + z) * (x + z)
    zero = product == 0
    return torch.where(zero, 0.0, -1 / torch.where(zero, 1.0, product))


EXP = Function(torch.exp, _exp_difference, _exp_second, None)
LOG = Function(torch.log, _log_difference, _log_second, 0.0)
ROOT = Function(_root, _root_difference, _root_second, 0.5)
RSQRT = Function(torch.rsqrt, _rsqrt_difference, _rsqrt_second, -0.5)


@functools.cache
def floor_function(least: float) -> Function:
    """max(l, least), piecewise linear: where two points lie on both sides of the kink, the slope of their chord."""

    def difference(a: Tensor, b: Tensor) -> Tensor:
        high, low = torch.maximum(a, b), torch.minimum(a, b)
        gap = torch.where(high > low, high - low, 1.0)
        across = (high > least) & (low < least)
        return torch.where(across, (high - least) / gap, (low >= least).to(a.dtype))

    def second(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        low, middle, high = _ordered(a, b, c)
        across = (high > least) & (low < least)
        return torch.where(across, _quotient(difference, low, middle, high, across), 0.0)

    return Function(lambda values: values.clamp(min=least), difference, second, None)
