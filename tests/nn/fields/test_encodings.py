"""Waves of coordinates: the kernel that random features approach, whole periods, statistics of the first weights."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups.linear import TrivialGroup
from erlangen.nn import FourierFeatures, FourierNetwork, PeriodicEncoding
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_random_features_approach_the_gaussian_kernel(std: float) -> None:
    """Errors of a mean of m bounded numbers: below four deviations, and half as large with four times as many."""
    x, y = torch.randn(2, 50, 3, generator=rng(), dtype=torch.float64)
    x, y = 0.4 * x, 0.4 * y
    expected = torch.exp(-2 * (math.pi * std * torch.cdist(x, y)).square())
    spread = []
    for count in (4000, 64_000):
        features = FourierFeatures(3, count, std, generator=rng(1)).double()
        error = features(x) @ features(y).mT / count - expected
        assert float(error.abs().max()) < 4.5 / (2 * count) ** 0.5
        spread.append(float(error.square().mean().sqrt()))
    assert 2.5 < spread[0] / spread[1] < 6.5  # 4 in expectation


def test_random_features_are_sines_and_cosines() -> None:
    features = FourierFeatures(2, 3, 0.7, generator=rng()).double()
    x = torch.tensor([0.2, -0.5], dtype=torch.float64)
    expected = [f(2 * math.pi * float(b @ x)) for f in (math.sin, math.cos) for b in features.B]
    torch.testing.assert_close(features(x), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)
    many = FourierFeatures(2, 50_000, 0.7, generator=rng()).B
    assert float(many.std()) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize("layer", [FourierFeatures(2, 8, 0.5, generator=rng()), PeriodicEncoding([1.0, 3.0], 2)])
def test_shifts_turn_features(layer: torch.nn.Module) -> None:
    x = torch.rand(4, 5, 2, generator=rng())
    assert "symmetry" in check_layer(layer, x)
    check_layer(layer.double(), x.double(), skip=["dtype"])  # in double precision from the start


def test_whole_periods_change_nothing() -> None:
    periods = [1.0, 2.5, 0.3]
    encoding = PeriodicEncoding(periods, 4).double()
    encoding.periods = torch.tensor(periods, dtype=torch.float64)
    x = torch.rand(200, 3, generator=rng(), dtype=torch.float64) - 0.5
    turns = torch.randint(-9, 10, (200, 3), generator=rng(1))
    moved = encoding(x + turns * encoding.periods)
    assert float((moved - encoding(x)).abs().max()) < 1e-12
    half = encoding(x + encoding.periods / 2)
    assert float((half - encoding(x)).abs().max()) > 1  # the control
    net = torch.nn.Sequential(encoding, torch.nn.Linear(24, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    assert float((net(x + turns * encoding.periods) - net(x)).detach().abs().max()) < 1e-12


def test_harmonics_are_those_of_a_fourier_series() -> None:
    encoding = PeriodicEncoding([2.0, 5.0], 2)
    x = torch.tensor([[0.3, 1.1]])
    angles = [2 * math.pi * k * v / p for v, p in ((0.3, 2.0), (1.1, 5.0)) for k in (1, 2)]
    expected = torch.tensor([[f(a) for f in (math.sin, math.cos) for a in angles]])
    torch.testing.assert_close(encoding(x), expected)
    assert (encoding.in_features, encoding.out_features) == (2, 8)


def test_the_network_starts_with_the_variances_of_its_scheme() -> None:
    torch.manual_seed(0)
    net = FourierNetwork(2, 300, 400, 0.5)
    assert float(net.first.weight.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert float(net.last.weight.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert 0.99 * math.sqrt(6 / 400) < float(net.last.weight.detach().abs().max()) <= math.sqrt(6 / 400)
    assert 0 < float(net.first.bias.detach().abs().max()) < 1e-5
    nothing = Symmetry(TrivialGroup(2), input="points", output="invariant")
    check_layer(FourierNetwork(2, 3, 8), torch.rand(4, 5, 2), nothing)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: FourierFeatures(2, 0), ErlangenError, "frequencies = 0"),
        (lambda: FourierFeatures(2, 4, 0.0), ErlangenError, "std = 0.0"),
        (lambda: FourierNetwork(2, 1, 7), ErlangenError, "hidden = 7: give an even number"),
        (lambda: PeriodicEncoding([1.0, -1.0]), ErlangenError, "periods = -1.0"),
        (lambda: PeriodicEncoding(1.0, 0), ErlangenError, "harmonics = 0"),
        (lambda: FourierFeatures(2, 4)(torch.zeros(3, 3)), ShapeError, r"points \[..., 2\]"),
        (lambda: PeriodicEncoding(1.0)(torch.zeros(3, 2)), ShapeError, r"points \[..., 1\]"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
