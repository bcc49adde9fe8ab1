"""Rhythms against the closed form of their covariances, mixtures against their singular values, and what is refused."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError, NotFiniteError
from erlangen.simulate import mixing, rhythms


@pytest.mark.parametrize(("f", "r"), [(0.1, 0.9), (0.3, 0.5), (0.0, 0.8), (0.5, 0.0)])
def test_covariances_are_those_of_the_stationary_process(f: float, r: float) -> None:
    """Yule-Walker: c_0 = 1, c_1 = a / (1 - b), c_k = a c_{k-1} + b c_{k-2}; at every time, the first included."""
    g = torch.Generator().manual_seed(0)
    x = rhythms(torch.full((200_000,), f, dtype=torch.float64), 6, damping=r, generator=g)
    a, b = 2 * r * math.cos(2 * math.pi * f), -(r**2)
    c = [1.0, a / (1 - b)]
    for _ in range(4):
        c.append(a * c[-1] + b * c[-2])
    wanted = torch.tensor([[c[abs(i - j)] for i in range(6)] for j in range(6)], dtype=torch.float64)
    assert float((torch.cov(x.mT) - wanted).abs().max()) < 0.02


def test_every_source_has_its_frequency() -> None:
    f = torch.tensor([[0.05, 0.25], [0.15, 0.4]])
    x = rhythms(f, 4000, damping=0.98, generator=torch.Generator().manual_seed(0))
    assert x.dtype == f.dtype
    peak = torch.fft.rfft(x).abs().square().unfold(-1, 41, 1).mean(-1).argmax(-1) + 20
    assert torch.allclose(peak / 4000, f, atol=0.01)


@pytest.mark.parametrize("condition", [1.0, 100.0, 1e6])
def test_mixing_has_its_condition_number(condition: float) -> None:
    values = torch.linalg.svdvals(mixing(5, condition, generator=torch.Generator().manual_seed(1)))
    assert float(values[0]) == pytest.approx(condition**0.5)
    assert float(values[0] / values[-1]) == pytest.approx(condition, rel=1e-6)


def test_what_is_refused() -> None:
    with pytest.raises(ErlangenError, match=r"frequency\[1\] = 0.7"):
        rhythms(torch.tensor([0.1, 0.7]), 10)
    with pytest.raises(ErlangenError, match="below 1"):
        rhythms(torch.tensor([0.1]), 10, damping=1.0)
    with pytest.raises(NotFiniteError, match="frequency"):
        rhythms(torch.tensor([math.nan]), 10)
    with pytest.raises(ErlangenError, match="samples"):
        rhythms(torch.tensor([0.1]), 0)
    with pytest.raises(ErlangenError, match="condition"):
        mixing(3, 0.5)
