"""Sine networks: statistics of the initialisation, closed forms, the contract of layers."""

import math

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups.linear import TrivialGroup
from erlangen.nn import SineLayer, Siren
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

NOTHING = Symmetry(TrivialGroup(2), input="points", output="invariant")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, d: int) -> Tensor:
    return 2 * torch.rand(count, d, generator=rng(1)) - 1


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_is_a_sine_of_a_linear_map(first: bool) -> None:
    layer = SineLayer(3, 5, 7.0, first=first, generator=rng()).double()
    x = coordinates(4, 3).double()
    with torch.no_grad():
        expected = [
            [math.sin(7 * (float(w @ v) + float(b))) for w, b in zip(layer.weight, layer.bias, strict=True)] for v in x
        ]
        torch.testing.assert_close(layer(x), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-13)


def test_initial_ranges() -> None:
    """Uniform numbers fill their range: the largest of many comes close to the bound and does not pass it."""
    for first, bound in ((True, 1 / 50), (False, math.sqrt(6 / 50) / 30)):
        layer = SineLayer(50, 400, 30.0, first=first, generator=rng())
        for parameter, limit in ((layer.weight, bound), (layer.bias, 50**-0.5)):
            assert 0.98 * limit < float(parameter.detach().abs().max()) <= limit
            assert float(parameter.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.1)


def test_signals_keep_their_size_through_depth() -> None:
    """The point of the initialisation: arguments have unit variance in every hidden layer, outputs `out_std`."""
    x = coordinates(500, 2)
    net = Siren(2, 300, (256,) * 5, omega=30.0, out_std=0.25, generator=rng())
    with torch.no_grad():
        for depth, layer in enumerate(net.layers):
            if depth:
                argument = layer.omega * torch.nn.functional.linear(x, layer.weight)
                assert float(argument.std()) == pytest.approx(1.0, rel=0.15), depth
            x = layer(x)
        assert float(torch.nn.functional.linear(x, net.weight).std()) == pytest.approx(0.25, rel=0.15)


def test_the_first_frequency_is_its_own() -> None:
    net = Siren(2, 1, (8, 8, 8), omega=5.0, first_omega=20.0)
    assert [layer.omega for layer in net.layers] == [20.0, 5.0, 5.0]
    assert [layer.first for layer in net.layers] == [True, False, False]


def test_fits_a_function_that_a_smooth_net_cannot() -> None:
    """A wave of 8 periods: within 150 steps the sine network has it, one with tanh has nothing."""
    x = torch.linspace(-1, 1, 128)[:, None]
    y = torch.sin(8 * math.pi * x)
    errors = {}
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    for name, net in {"sine": Siren(1, 1, (32, 32), omega=30.0, generator=rng()), "tanh": smooth}.items():
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(150):
            loss = (net(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[name] = float(loss.detach())
    assert errors["sine"] < 0.01
    assert errors["tanh"] > 0.3


def test_seeded() -> None:
    a, b = (Siren(2, 3, generator=rng(4)) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    state = torch.get_rng_state()
    Siren(2, 3, generator=rng())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "layer", [SineLayer(2, 3, 5.0, first=True, generator=rng()), Siren(2, 3, omega=5.0, generator=rng())]
)
def test_contract(layer: nn.Module) -> None:
    """No symmetry is claimed: that of the trivial group stands in, which every layer has."""
    ran = check_layer(layer, coordinates(6, 2), NOTHING)
    assert {"vmap", "compile", "double_backward"} <= set(ran)


def test_gradients() -> None:
    net = Siren(2, 2, (6, 6), omega=3.0, generator=rng()).double()
    x = coordinates(3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(net, (x,))
    assert torch.autograd.gradgradcheck(net, (x,))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: SineLayer(0, 3), ErlangenError, "in_features = 0"),
        (lambda: SineLayer(2, -1), ErlangenError, "out_features = -1"),
        (lambda: SineLayer(2, 3, 0.0), ErlangenError, r"omega = 0\.0: give a positive"),
        (lambda: Siren(2, 3, ()), ErlangenError, "at least one sine layer"),
        (lambda: Siren(2, 0), ErlangenError, "out_features = 0"),
        (lambda: Siren(2, 3, out_std=math.nan), ErlangenError, "out_std = nan"),
        (lambda: Siren(2, 3, omega=math.inf), ErlangenError, "omega = inf"),
        (lambda: Siren(2, 3)(torch.zeros(4, 3)), ShapeError, r"points \[\.\.\., 2\]"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
