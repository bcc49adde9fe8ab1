"""Spins at a temperature: Metropolis, heat bath and parallel tempering, and errors of means of correlated numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError, check_integer

Field = Callable[[Tensor, int], Tensor]
"""``field(s, i) -> [...]`` of spins ``[..., N]``: turning spin i over raises the energy by ``2 s_i field``."""

Rule = Literal["heat bath", "metropolis"]


def spin_sweep(
    s: Tensor, field: Field, beta: Tensor | float, *, rule: Rule = "heat bath", generator: Generator
) -> Tensor:
    """Offer every spin a new value, one after the other in random order, at inverse temperature beta.

    >>> g = torch.Generator().manual_seed(0)
    >>> s = torch.ones(20_000, 1)
    >>> for _ in range(3):
    ...     s = spin_sweep(s, lambda s, i: torch.full(s.shape[:-1], 0.5), 1.0, generator=g)
    >>> abs(float(s.mean()) - 0.4621) < 0.02  # one spin in the field 1/2: tanh(1/2)
    True

    Args:
        s: +-1, ``[..., N]``; leading axes are independent.
        field: see `Field`.
        beta: broadcasts against the leading axes; infinite is zero temperature.
        rule: "heat bath" draws from the conditional distribution, "metropolis" turns over with chance min(1, exp(-beta dE)).

    Raises:
        ErlangenError: a spin is not +-1, or beta is negative.
        UnknownNameError: another rule.
    """
    if not bool((s.abs() == 1).all()):
        raise ErlangenError("s has entries other than +1 and -1; round it, or use sign()")
    beta = torch.as_tensor(beta, dtype=torch.float64)
    if bool((beta < 0).any()) or bool(beta.isnan().any()):
        raise ErlangenError(f"beta = {beta.tolist()}: give numbers of at least zero")
    if rule not in ("heat bath", "metropolis"):
        raise UnknownNameError(f"rule = {rule!r}: choose 'heat bath' or 'metropolis'")
    s = s.clone()
    # In a fixed order Metropolis is stationary but need not be ergodic: on a ring of spins it carries walls around for ever.
    for i in torch.randperm(s.shape[-1], generator=generator).tolist():
        h = field(s, i).double()
        u = torch.rand(h.shape, generator=generator, dtype=torch.float64)
        cold = torch.where(h == 0, torch.zeros_like(h), beta * h)
        if rule == "heat bath":
            s[..., i] = torch.where(u < torch.sigmoid(2 * cold), 1.0, -1.0).to(s.dtype)
        else:
            turned = u < torch.exp(-2 * s[..., i].double() * cold)
            s[..., i] = torch.where(turned, -s[..., i], s[..., i])
    return s


class Tempering(NamedTuple):
    """What `parallel_tempering` found.

    Attributes:
        energies: after each sweep, ``[sweeps, ..., T]``.
        swaps: share of accepted exchanges between neighbouring temperatures, ``[T - 1]``.
        s: the last spins, ``[..., T, N]``.
    """

    energies: Tensor
    swaps: Tensor
    s: Tensor


def parallel_tempering(
    s: Tensor,
    field: Field,
    energy: Callable[[Tensor], Tensor],
    betas: Tensor,
    sweeps: int,
    *,
    rule: Rule = "heat bath",
    generator: Generator,
) -> Tempering:
    """Replicas at several temperatures that exchange their spins, so that the cold ones forget where they began.

    >>> g = torch.Generator().manual_seed(0)
    >>> ring = lambda s, i: s[..., i - 1] + s[..., (i + 1) % 8]
    >>> found = parallel_tempering(torch.ones(50, 2, 8), ring, lambda s: -(s * s.roll(1, -1)).sum(-1),
    ...                            torch.tensor([0.2, 0.5]), 100, generator=g)
    >>> t = torch.tanh(torch.tensor([0.2, 0.5]))
    >>> exact = -8 * (t + t**7) / (1 + t**8)  # Ising's ring
    >>> bool(((found.energies[20:].mean((0, 1)) - exact).abs() < 0.1).all())
    True

    Args:
        s: ``[..., T, N]``; leading axes are independent samples.
        field, energy: of spins ``[..., N]``, to ``[...]``; they agree, ``energy(turned) - energy(s) = 2 s_i field(s, i)``.
        betas: ``[T]``.
        sweeps: each offers every spin a new value, then every second pair of neighbours an exchange.

    Raises:
        ShapeError: `s` has another number of temperatures.
    """
    check_integer("sweeps", sweeps, 1)
    betas = betas.double()
    if betas.ndim != 1 or s.ndim < 2 or s.shape[-2] != len(betas):
        raise ShapeError(f"s {tuple(s.shape)} and betas {tuple(betas.shape)}: give [..., T, N] and [T]")
    trace: list[Tensor] = []
    tried, done = torch.zeros(len(betas) - 1, dtype=torch.float64), torch.zeros(len(betas) - 1, dtype=torch.float64)
    for sweep in range(sweeps):
        s = spin_sweep(s, field, betas, rule=rule, generator=generator)
        E = energy(s).double()
        for k in range(sweep % 2, len(betas) - 1, 2):
            chance = torch.exp((betas[k + 1] - betas[k]) * (E[..., k + 1] - E[..., k]))
            swap = torch.rand(chance.shape, generator=generator, dtype=torch.float64) < chance
            tried[k] += swap.numel()
            done[k] += swap.sum()
            low, high = s[..., k, :].clone(), s[..., k + 1, :].clone()
            s[..., k, :], s[..., k + 1, :] = (
                torch.where(swap[..., None], high, low),
                torch.where(swap[..., None], low, high),
            )
            e_low, e_high = E[..., k].clone(), E[..., k + 1].clone()
            E[..., k], E[..., k + 1] = torch.where(swap, e_high, e_low), torch.where(swap, e_low, e_high)
        trace.append(E)
    return Tempering(torch.stack(trace), done / tried.clamp(min=1), s)


class Estimate(NamedTuple):
    """A mean of correlated numbers: its standard error, and the integrated autocorrelation time, 1/2 where independent."""

    mean: float
    error: float
    time: float


def correlated_mean(values: Tensor, *, window: float = 6.0) -> Estimate:
    """The mean of a series, with an error that accounts for autocorrelation.

    >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> abs(correlated_mean(x).error - 0.01) < 2e-3
    True

    The time is the sum of autocorrelations up to the first lag that is `window` times it (Madras and Sokal 1988), and the error
    ``sqrt(2 time variance / n)``.

    Args:
        values: ``[n]``, at least ten.

    Raises:
        ShapeError: another shape, or fewer.
        NotFiniteError: an entry is NaN or infinite.
    """
    if values.ndim != 1 or len(values) < 10:
        raise ShapeError(f"values {tuple(values.shape)}: give a series [n] of at least ten")
    if not bool(values.isfinite().all()):
        raise NotFiniteError("values have NaN or infinite entries; leave them out")
    x = values.double() - values.double().mean()
    n = len(x)
    power = torch.fft.rfft(x, 2 * n).abs() ** 2
    covariance = torch.fft.irfft(power, 2 * n)[:n] / n
    if float(covariance[0]) == 0:
        return Estimate(float(values.double().mean()), 0.0, 0.5)
    times = 0.5 + (covariance[1:] / covariance[0]).cumsum(0)
    lags = torch.arange(1, n)
    enough = torch.nonzero(lags >= window * times)
    time = max(0.5, float(times[int(enough[0])] if len(enough) else times[-1]))
    error = float((2 * time * covariance[0] / n).sqrt())
    return Estimate(float(values.double().mean()), error, time)
