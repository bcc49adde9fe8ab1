"""Induction from pictures to the sphere: steerability, the count of free numbers, quarter turns, turns between, bad input."""

import math
from collections.abc import Callable

import pytest
import torch

import erlangen as er
from erlangen.errors import ErlangenError, RepresentationError, ShapeError
from erlangen.groups import SO, Dihedral
from erlangen.irreps import Irreps, wigner_D
from erlangen.nn import InducedSignal, SteerableConv2d
from erlangen.reps import Frequency, Scalar, Sum, about_y, equivariant_basis
from erlangen.testing import check_layer

F64 = torch.float64


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [6, 7])
def test_the_contract_of_layers(size: int) -> None:
    layer = InducedSignal({0: 2, 1: 1}, 3, 3, size, generator=draw())
    check_layer(layer, torch.randn(3, 4, size, size, generator=draw(1)))


def test_a_quarter_turn_of_the_picture_turns_the_signal_about_the_view() -> None:
    """Against Wigner matrices of the rotation about y: the picture turns counter-clockwise."""
    layer = InducedSignal({0: 2}, 2, 4, 9, generator=draw()).double()
    x = torch.randn(2, 2, 9, 9, dtype=F64, generator=draw(1))
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=F64)  # z to x, 90 degrees about y
    assert torch.allclose(turn @ torch.tensor([0.0, 0, 1], dtype=F64), torch.tensor([1.0, 0, 0], dtype=F64))
    seen = [part @ wigner_D(l, turn).mT for l, part in enumerate(layer(x).split([1, 3, 5, 7, 9], -1))]
    torch.testing.assert_close(layer(torch.rot90(x, 1, (-2, -1))), torch.cat(seen, -1), atol=1e-12, rtol=0)


def test_turns_between_are_nearer_on_finer_grids() -> None:
    """A band-limited picture, known at every place, sampled after a turn by 27 degrees."""
    angle = math.radians(27)
    errors = []
    for size in (16, 32, 64):
        at = (torch.arange(size, dtype=F64) - (size - 1) / 2) / (size / 2)
        x, y = at.expand(size, -1), -at[:, None].expand(-1, size)

        def picture(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.exp(-6 * ((x - 0.3) ** 2 + (y - 0.1) ** 2)) - torch.exp(-9 * ((x + 0.2) ** 2 + (y + 0.3) ** 2))

        c, s = math.cos(angle), math.sin(angle)
        layer = InducedSignal({0: 1}, 4, 3, size, bias=False, generator=draw(2)).double()
        as_given, turned = (layer(f[None, None]) for f in (picture(x, y), picture(c * x + s * y, -s * x + c * y)))
        g = torch.tensor([[c, -s], [s, c]], dtype=F64)
        expected = about_y(Irreps("1x0e+1x1o+1x2e+1x3o")(SO(3)), SO(2)).apply(g, as_given)
        errors.append((turned - expected).norm().item() / expected.norm().item())
    assert errors[-1] < 2e-2
    assert errors[-1] < errors[0]


def test_degrees_restrict_to_each_frequency_once() -> None:
    """Characters of the circle: 1 + 2 sum_m cos(m t)."""
    g = SO(2).sample(20, generator=draw(), dtype=F64)
    t = torch.atan2(g[:, 1, 0], g[:, 0, 0])
    for l in range(5):
        rep = about_y(Irreps(f"1x{l}{'eo'[l % 2]}")(SO(3)), SO(2))
        expected = 1 + 2 * sum((torch.cos(m * t) for m in range(1, l + 1)), torch.zeros_like(t))
        torch.testing.assert_close(rep.character(g), expected)


def test_the_layer_has_as_many_free_numbers_as_there_are_equivariant_maps() -> None:
    """Functions on a ring, up to its band limit, are a sum of frequencies; the general solver counts the maps from there."""
    size, lmax = 7, 3
    layer = InducedSignal({0: 1}, 1, lmax, size, bias=False)
    rings = [0, 1, 2, 3]
    circles = [[Scalar(SO(2))] + [Frequency(SO(2), m) for m in range(1, min(2 * r, 2 * rings[-1]) + 1)] for r in rings]
    functions = Sum([(1, rep) for circle in circles for rep in circle])
    degrees = about_y(Irreps("1x0e+1x1o+1x2e+1x3o")(SO(3)), SO(2))
    assert layer.conv.weight.numel() == len(
        equivariant_basis(functions >> degrees).reshape(-1, functions.size * degrees.size)
    )


def test_the_order_is_that_of_harmonics() -> None:
    """Zonal entries of all degrees are scalars of the convolution, in the order of degree and channel."""
    layer = InducedSignal({0: 1}, 2, 2, 5, generator=draw())
    x = torch.randn(1, 1, 5, 5, generator=draw(1))
    plain = layer.conv(x).flatten()
    signal = layer(x)[0]
    assert signal[:, 0].tolist() == plain[:2].tolist()
    assert signal[:, 2].tolist() == plain[2:4].tolist()
    assert signal[:, 6].tolist() == plain[4:6].tolist()
    assert torch.equal(signal.flatten().sort()[0], plain.sort()[0])
    assert isinstance(layer.conv, SteerableConv2d)


def test_audits_take_the_layer() -> None:
    layer = InducedSignal({0: 2}, 2, 2, 7, generator=draw()).double()
    report = er.audit(layer, layer.symmetry, torch.randn(4, 2, 7, 7, dtype=F64, generator=draw(1)))
    assert report.certificate == "exact"
    assert report.worst_error < 1e-12


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (
            lambda: InducedSignal({0: 2}, 2, 2, 7)(torch.zeros(1, 2, 8, 8)),
            ShapeError,
            r"reads whole maps, \[B, 2, 7, 7\]",
        ),
        (lambda: InducedSignal({0: 2}, 2, 2, 7)(torch.zeros(1, 3, 7, 7)), ShapeError, "is needed: 2 of frequency 0"),
        (lambda: InducedSignal({0: 2}, 0, 2, 7), ErlangenError, "channels"),
        (lambda: InducedSignal({0: 2}, 2, -1, 7), ErlangenError, "lmax"),
        (lambda: InducedSignal({0: 2}, 2, 6, 3), RepresentationError, "no kernel of size 3"),
        (lambda: InducedSignal({}, 2, 2, 7), RepresentationError, "fields_in"),
        (lambda: about_y(Scalar(SO(2)), SO(2)), RepresentationError, r"not from SO\(2\) to SO\(2\)"),
        (lambda: about_y(Irreps("1x1o")(SO(3)), Dihedral(4)), RepresentationError, r"to Dihedral\(4\)"),
    ],
)
def test_bad_input(wrong: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wrong()
