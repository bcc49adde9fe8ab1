"""The probability-flow equation of a noise scale: where it takes points, how it stretches them, and the likelihood it gives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    is_finite,
)
from erlangen.tracing import is_traced

__all__ = ["Flowed", "divergence", "flow", "flow_log_prob"]

Field = Callable[[Tensor, Tensor], Tensor]
"""``score(x, sigma)``: a field ``[B, N]`` in place of the gradient of the log-density, at levels ``sigma [B]``."""


class Flowed(NamedTuple):
    """Result of `flow`.

    Attributes:
        x: end points ``[B, N]``.
        jacobian: derivative ``[B, N, N]`` of the end points by the starting points, where it was asked for.
        stretch: logarithm of its determinant ``[B]``, where a divergence was asked for.
    """

    x: Tensor
    jacobian: Tensor | None
    stretch: Tensor | None


def divergence(
    field: Callable[[Tensor], Tensor], x: Tensor, *, probes: int | None = None, generator: Generator | None = None
) -> Tensor:
    """Divergence ``[B]`` of a field ``[B, N]`` that treats samples one by one.

    >>> divergence(lambda x: x.square(), torch.tensor([[1.0, 2.0]]))
    tensor([6.])

    Args:
        field: the field.
        x: where.
        probes: None takes the whole Jacobian; a number estimates it from so many random signs (Hutchinson), unbiased.
        generator: draws the signs.
    """
    if probes is None:
        return _jacobian(field, x).diagonal(dim1=-2, dim2=-1).sum(-1)
    check_integer("probes", probes, 1)
    total = x.new_zeros(len(x))
    for _ in range(probes):
        e = (2 * torch.randint(2, x.shape, generator=generator) - 1).to(x)
        total = total + (e * _pushed(field, x, e)).sum(-1)
    return total / probes


def _pushed(field: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    return torch.func.jvp(field, (x,), (v.contiguous(),))[1]  # pyright: ignore[reportReturnType]


def _jacobian(field: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``[B, N, N]``, column by column, as all samples move along one axis at once."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return torch.stack([_pushed(field, x, axis.expand_as(x)) for axis in eye], -1)


def _valued(field: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``[B, N]`` and Jacobians ``[B, N, N]`` by one call, on N copies of each sample that move along one axis each."""
    B, N = x.shape
    axes = torch.eye(N, dtype=x.dtype, device=x.device).repeat(B, 1)
    both: tuple[Tensor, ...] = torch.func.jvp(field, (x.repeat_interleave(N, 0),), (axes,))
    return both[0][::N], both[1].view(B, N, N).mT


def flow(
    score: Field,
    x: Tensor,
    levels: Tensor,
    *,
    jacobian: bool = False,
    stretch: bool = False,
    probes: int | None = None,
    generator: Generator | None = None,
) -> Flowed:
    """Follow ``dx / d log(sigma) = -sigma^2 score(x, sigma)`` through the levels, up or down, by Runge-Kutta steps of order four.

    The law of x at each level is that of data plus normal noise where the field is the score, and also where it is the score plus
    a field r with ``div(p r) = 0``.

    Args:
        score: the field.
        x: starting points ``[B, N]`` at the first level; float64 is best.
        levels: positive ``[L]``, one step between neighbours.
        jacobian: carry the derivative by the starting points along.
        stretch: carry the logarithm of its determinant along, the integral of the divergence.
        probes, generator: of `divergence`.

    Raises:
        ShapeError, DtypeError, NotFiniteError: x is not points of a floating dtype, or the field does not give as many numbers of
            that dtype, or leads out of all bounds.
        ErlangenError: levels that are not positive, or Jacobians of more than 200 dimensions.
    """
    if x.ndim != 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give points [B, N]")
    check_floating(x, "x")
    if not is_traced():
        check_finite(x, "x")
    if levels.ndim != 1 or len(levels) < 2 or not bool(((levels > 0) & levels.isfinite()).all()):
        raise ErlangenError(
            f"levels {tuple(levels.shape)} must be at least two positive numbers: the score grows without bound at 0"
        )
    n = x.shape[1]
    if jacobian and n > 200:
        raise ErlangenError(f"jacobian=True for {n} dimensions; the whole matrix is meant for 200 at most")
    eye = torch.eye(n, dtype=x.dtype).expand(len(x), n, n)
    state = (x, eye if jacobian else x.new_zeros(0), x.new_zeros(len(x)))

    def rate(log_sigma: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        sigma = log_sigma.exp().to(x)

        def field(at: Tensor) -> Tensor:
            found = score(at, sigma.expand(len(at)))
            if found.shape != at.shape:
                raise ShapeError(f"score maps {tuple(at.shape)} to {tuple(found.shape)}; a field keeps the shape")
            if found.dtype != at.dtype:
                raise DtypeError(f"score maps {at.dtype} to {found.dtype}; convert the model or x, so that both agree")
            return -sigma.square() * found

        at, moved, total = now
        if jacobian or (stretch and probes is None):
            value, J = _valued(field, at)
            return value, J @ moved if jacobian else moved, J.diagonal(dim1=-2, dim2=-1).sum(-1)
        opened = divergence(field, at, probes=probes, generator=generator) if stretch else torch.zeros_like(total)
        return field(at), moved, opened

    def shifted(now: tuple[Tensor, ...], h: Tensor, by: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return now[0] + h * by[0], now[1] + h * by[1] if jacobian else now[1], now[2] + h * by[2]

    logs = levels.double().log()
    for t, end in pairwise(logs):
        h = (end - t).to(x)
        a = rate(t, state)
        b = rate((t + end) / 2, shifted(state, h / 2, a))
        c = rate((t + end) / 2, shifted(state, h / 2, b))
        d = rate(end, shifted(state, h, c))
        total = tuple((p + 2 * q + 2 * r + s) / 6 for p, q, r, s in zip(a, b, c, d, strict=True))
        state = shifted(state, h, total)
    if not is_traced() and not is_finite(state[0]):
        raise NotFiniteError(
            "score has led points to values that are not finite; it has NaN somewhere, or needs more levels"
        )
    return Flowed(state[0], state[1] if jacobian else None, state[2] if jacobian or stretch else None)


def flow_log_prob(
    score: Field,
    x: Tensor,
    levels: Tensor,
    prior: Callable[[Tensor], Tensor],
    *,
    probes: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Log-density ``[B]`` of points at the first level, from that of the `prior` at the last one and the stretch in between.

    Song et al., Score-based generative modeling through stochastic differential equations (2021), equation 39.
    """
    moved = flow(score, x, levels, stretch=True, probes=probes, generator=generator)
    assert moved.stretch is not None
    return prior(moved.x) + moved.stretch
