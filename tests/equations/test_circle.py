"""Maps of the circle against closed forms, and Hill's equation against scipy and mpmath."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from erlangen.equations.circle import CircleMap, circle_points, derivative, hill_trace, interpolate, tail
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError

PHI = circle_points()
G = CircleMap.from_modes(sine=[0.3], cosine=[0.0, 0.1])
H = CircleMap.from_modes(sine=[0.0, -0.1], cosine=[0.2], turn=1.0)


def moebius(speed: float) -> CircleMap:
    """tan(g/2) = e^speed tan(phi/2): what a boost does to the celestial circle."""
    angle = 2 * torch.atan2(math.exp(speed / 2) * (PHI / 2).sin(), math.exp(-speed / 2) * (PHI / 2).cos())
    return CircleMap(torch.remainder(angle - PHI + math.pi, 2 * math.pi) - math.pi)


def test_derivatives_and_values_between_grid_points() -> None:
    f = (3 * PHI).sin() + 0.5 * (7 * PHI).cos()
    torch.testing.assert_close(derivative(f), 3 * (3 * PHI).cos() - 3.5 * (7 * PHI).sin())
    other = torch.tensor([0.1, 2.345, -8.0]).double()
    torch.testing.assert_close(interpolate(f, other), (3 * other).sin() + 0.5 * (7 * other).cos())
    torch.testing.assert_close(derivative(f[:255].new_ones(255)), torch.zeros(255).double())


def test_tails_show_what_a_grid_does_not_hold() -> None:
    """Modes of e^cos fall as Bessel functions, those of a ramp as 1/n, from 1 to about 1/96 in the upper quarter."""
    assert tail(PHI.cos().exp()) < 1e-12
    assert tail(5 + PHI.sin() + 1e-3 * (120 * PHI).sin()) == pytest.approx(1e-3)
    assert 1 / 128 < tail(0.001 * PHI) < 1 / 48
    assert tail(torch.ones(16).double()) == 0
    with pytest.raises(ErlangenError, match="jumps by whole turns"):
        CircleMap(0.1 * PHI.sin() + 2 * math.pi * (PHI > 3))


def test_the_group_law() -> None:
    whole = G.compose(H)
    torch.testing.assert_close(whole(PHI), G(H(PHI)))
    for one in (G.compose(G.inverse()), G.inverse().compose(G)):
        assert float(one.shift.abs().max()) < 1e-12
    torch.testing.assert_close(G.compose(H.compose(G)).shift, G.compose(H).compose(G).shift)


def test_the_schwarzian_is_a_cocycle() -> None:
    """{g h; phi} = (h')^2 {g; h} + {h; phi}."""
    want = H.slopes()[0].square() * H.values(G.schwarzian()) + H.schwarzian()
    torch.testing.assert_close(G.compose(H).schwarzian(), want, atol=1e-7, rtol=0)


@pytest.mark.parametrize("speed", [0.3, -1.0])
def test_moebius_maps_leave_the_vacuum(speed: float) -> None:
    """{tan(g/2); phi} = 1/2 for a Moebius map: -(g')^2 - 2 {g; phi} stays -1."""
    g = moebius(speed)
    vacuum = -g.slopes()[0].square() - 2 * g.schwarzian()
    torch.testing.assert_close(vacuum, torch.full_like(vacuum, -1.0), atol=1e-8, rtol=0)
    torch.testing.assert_close(g.compose(moebius(-speed)).shift, torch.zeros(256).double(), atol=1e-12, rtol=0)


def test_hill_traces_of_closed_form() -> None:
    for a in (0.3, 0.5, 1.0, 2.7):
        torch.testing.assert_close(float(hill_trace(torch.full_like(PHI, -a * a))), 2 * math.cos(math.pi * a))
    torch.testing.assert_close(float(hill_trace(torch.full_like(PHI, 0.49))), 2 * math.cosh(0.7 * math.pi))
    assert float(hill_trace(torch.zeros_like(PHI))) == pytest.approx(2, abs=1e-12)


def test_hill_trace_against_scipy() -> None:
    theta = -0.5 + 0.4 * PHI.cos() + 0.2 * (3 * PHI).sin()

    def slope(phi: float, psi: np.ndarray) -> list[float]:
        q = (-0.5 + 0.4 * math.cos(phi) + 0.2 * math.sin(3 * phi)) / 4
        return [psi[1], q * psi[0]]

    columns = [
        scipy.integrate.solve_ivp(slope, (0, 2 * math.pi), start, rtol=1e-12, atol=1e-13).y[:, -1]
        for start in ([1.0, 0.0], [0.0, 1.0])
    ]
    want = columns[0][0] + columns[1][1]
    assert float(hill_trace(theta)) == pytest.approx(want, abs=1e-9)
    assert float(hill_trace(theta)) == pytest.approx(-1.354712226741792, abs=1e-11)  # mpmath, 25 digits
    moved = G.slopes()[0].square() * G.values(theta) - 2 * G.schwarzian()
    assert float(hill_trace(moved)) == pytest.approx(want, abs=1e-9)


def test_what_is_refused() -> None:
    with pytest.raises(ErlangenError, match="must increase"):
        CircleMap.from_modes(sine=[1.1])
    with pytest.raises(ErlangenError, match="more than twice as many"):
        CircleMap.from_modes(sine=[0.0] * 8, points=16)
    with pytest.raises(DtypeError, match="float64"):
        CircleMap(torch.zeros(8))
    with pytest.raises(ShapeError, match="at least 4"):
        CircleMap(torch.zeros(3).double())
    with pytest.raises(NotFiniteError, match="shift"):
        CircleMap(torch.full((8,), float("nan")).double())
    with pytest.raises(ShapeError, match="same grid"):
        G.compose(CircleMap.from_modes(points=64))
    with pytest.raises(DtypeError, match="theta"):
        hill_trace(torch.zeros(8))
    with pytest.raises(ErlangenError, match="steps"):
        hill_trace(PHI, steps=0)
