"""Derivatives of functions that are only called: by complex nudges, and how far a Jacobian is from symmetric."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_floating, check_integer


def nudged_derivative(f: Callable[[complex], Tensor], radius: float, points: int, *, real: bool = True) -> Tensor:
    """The derivative ``f'(0)`` of a function of one complex number from its values on a circle (Cauchy's integral).

    >>> nudged_derivative(lambda z: torch.exp(torch.tensor(z, dtype=torch.complex128)), 0.5, 6).item()  # doctest: +ELLIPSIS
    1.0000...

    ``1/(N b) sum_k f(b e^(2 pi i k/N)) e^(-2 pi i k/N)``: the error is the derivative of order N + 1 times ``b^N/(N + 1)!`` where
    f is holomorphic inside of the circle, and nothing is subtracted, so no digits are lost at a large b (Laborieux and Zenke
    2022). One point is the forward difference of two calls, with an error of order b.

    Args:
        f: takes a complex number; for real b it gives what it does for the real one.
        radius: b, positive.
        points: N, at least 1.
        real: f is real on real numbers, so ``f(conj z) = conj f(z)``: half of the calls are spared and the answer is real.

    Returns:
        A tensor of the shape of f's values.

    Raises:
        ErlangenError: a radius that is not positive, or no point.
    """
    check_integer("points", points, 1)
    if not (radius > 0 and math.isfinite(radius)):
        raise ErlangenError(f"radius = {radius}: give a positive number")
    if points == 1:
        difference = (f(complex(radius)) - f(0j)) / radius
        return difference.real if real and difference.is_complex() else difference
    total: Tensor | None = None
    for k in range(points // 2 + 1 if real else points):
        turn = cmath.exp(2j * math.pi * k / points)
        term = f(radius * turn) * turn.conjugate()
        if real:
            term = term.real if term.is_complex() else term
            term = term if k == 0 or 2 * k == points else 2 * term  # the conjugate point stands for another call
        total = term if total is None else total + term
    assert total is not None
    return total / (points * radius)


def asymmetry(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    probes: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Half the squared Frobenius norm of ``J - J^T`` for the Jacobian J of a field at each sample, ``[B]``.

    >>> A = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> asymmetry(lambda x: x @ A.mT, torch.zeros(1, 2))
    tensor([4.])

    ``|J|^2 - tr J^2``: 0 where the field is a gradient, and unchanged by orthogonal changes of coordinates and by what is added
    to the diagonal of J. As a penalty it is the Jacobian homeostasis of Laborieux and Zenke (2024, eq. 9).

    Args:
        f: a field ``[B, ...] -> [B, ...]`` that treats samples one by one.
        x: where, ``[B, ...]``. The derivative by parameters of f is kept, that by x too.
        probes: None takes the whole Jacobian, which needs as many calls as x has entries; a number estimates
            ``E |J e|^2 - e . J^2 e`` from so many normal vectors e, two calls each.
        generator: draws the probes.

    Raises:
        ShapeError: f changes the shape.
    """
    check_floating(x, "x")
    if x.ndim < 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give samples [B, ...]")
    shape = x.shape

    def flat(y: Tensor) -> Tensor:
        image = f(y.reshape(shape))
        if image.shape != shape:
            raise ShapeError(f"f maps {tuple(shape)} to {tuple(image.shape)}; a field has the shape of its argument")
        return image.reshape(shape[0], -1)

    y = x.reshape(shape[0], -1)

    def product(v: Tensor) -> Tensor:
        return torch.func.jvp(flat, (y,), (v,))[1]

    if probes is None:
        n = y.shape[1]
        columns = [product(torch.eye(n, dtype=y.dtype, device=y.device)[i].expand_as(y)) for i in range(n)]
        J = torch.stack(columns, -1)
        return (J - J.mT).square().sum((-2, -1)) / 2
    total = torch.zeros(shape[0], dtype=y.dtype, device=y.device)
    for _ in range(check_integer("probes", probes, 1)):
        e = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
        once = product(e)
        total = total + once.square().sum(1) - (e * product(once)).sum(1)
    return total / probes
