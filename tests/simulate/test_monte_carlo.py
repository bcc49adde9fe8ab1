"""Samplers against closed forms, exchanges against the exact ring, errors against autoregressive series."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.simulate import correlated_mean, parallel_tempering, spin_sweep


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ring(s: torch.Tensor, i: int) -> torch.Tensor:
    return s[..., i - 1] + s[..., (i + 1) % s.shape[-1]]


def ring_energy(s: torch.Tensor) -> torch.Tensor:
    return -(s * s.roll(1, -1)).sum(-1)


@pytest.mark.parametrize("rule", ["heat bath", "metropolis"])
def test_a_spin_in_a_field(rule) -> None:
    g, s = generator(), torch.ones(40_000, 1)
    for _ in range(30):
        s = spin_sweep(s, lambda s, i: torch.full(s.shape[:-1], 0.4), 1.5, rule=rule, generator=g)
    assert float(s.mean()) == pytest.approx(math.tanh(0.6), abs=5 / 200)


def test_the_energy_changes_by_twice_the_field() -> None:
    s = 2.0 * torch.randint(2, (6, 9), generator=generator()) - 1
    for i in range(9):
        turned = s.clone()
        turned[:, i] *= -1
        assert torch.equal(ring_energy(turned) - ring_energy(s), 2 * s[:, i] * ring(s, i))


def test_zero_temperature_goes_down() -> None:
    g, s = generator(), 2.0 * torch.randint(2, (50, 20), generator=generator()) - 1
    cold = spin_sweep(s, ring, math.inf, generator=g)
    assert bool((ring_energy(cold) <= ring_energy(s)).all())
    assert float(ring_energy(cold).mean()) < float(ring_energy(s).mean())


@pytest.mark.parametrize("rule", ["heat bath", "metropolis"])
def test_the_ring_at_three_temperatures(rule) -> None:
    betas = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)
    found = parallel_tempering(torch.ones(300, 3, 8), ring, ring_energy, betas, 120, rule=rule, generator=generator())
    t = torch.tanh(betas)
    exact = -8 * (t + t**7) / (1 + t**8)
    means = found.energies[30:].mean(0)
    error = means.std(0) / 300**0.5
    assert bool(((means.mean(0) - exact).abs() < 4 * error + 0.02).all())
    assert bool((found.swaps > 0.1).all())
    assert bool((found.swaps < 1).all())
    assert torch.equal(ring_energy(found.s).double(), found.energies[-1])


def test_exchanges_free_what_is_stuck() -> None:
    """Two wells that cold chains do not leave: all up or all down, 12 spins coupled to their mean."""

    def field(s: torch.Tensor, i: int) -> torch.Tensor:
        return (s.sum(-1) - s[..., i]) / 3

    def energy(s: torch.Tensor) -> torch.Tensor:
        return -(s.sum(-1) ** 2 - 12) / 6

    start = torch.ones(200, 5, 12)
    betas = torch.tensor([0.1, 0.3, 0.6, 1.0, 1.5])
    alone = start[:, 4]
    g = generator()
    for _ in range(60):
        alone = spin_sweep(alone, field, 1.5, generator=g)
    mixed = parallel_tempering(start, field, energy, betas, 60, generator=g).s[:, 4]
    assert float(alone.mean()) > 0.95
    assert abs(float(mixed.mean())) < 0.35


def test_errors_of_an_autoregressive_series() -> None:
    """x_t = a x_{t-1} + noise: tau = 1/2 + a/(1 - a), and the mean's variance is 1/((1-a)^2 n)."""
    a, n = 0.8, 20_000
    noise = torch.randn(n, generator=generator(3), dtype=torch.float64)
    x, values = 0.0, []
    for e in noise.tolist():
        x = a * x + e
        values.append(x)
    found = correlated_mean(torch.tensor(values, dtype=torch.float64))
    assert found.time == pytest.approx(0.5 + a / (1 - a), rel=0.2)
    assert found.error == pytest.approx(1 / ((1 - a) * n**0.5), rel=0.15)
    assert abs(found.mean) < 4 * found.error
    assert correlated_mean(torch.full((20,), 2.5)) == (2.5, 0.0, 0.5)


def test_bad_input() -> None:
    g = generator()
    with pytest.raises(ErlangenError, match=r"entries other than \+1 and -1"):
        spin_sweep(torch.zeros(3, 4), ring, 1.0, generator=g)
    with pytest.raises(ErlangenError, match="beta = -1"):
        spin_sweep(torch.ones(3, 4), ring, -1.0, generator=g)
    with pytest.raises(UnknownNameError, match="'heat bath' or 'metropolis'"):
        spin_sweep(torch.ones(3, 4), ring, 1.0, rule="wolff", generator=g)  # pyright: ignore
    with pytest.raises(ShapeError, match=r"\[\.\.\., T, N\]"):
        parallel_tempering(torch.ones(3, 4), ring, ring_energy, torch.ones(2), 5, generator=g)
    with pytest.raises(ShapeError, match="at least ten"):
        correlated_mean(torch.ones(5))
    with pytest.raises(NotFiniteError, match="values"):
        correlated_mean(torch.full((20,), math.nan))
