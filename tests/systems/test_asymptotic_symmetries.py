"""The group at null infinity: what its page measures is tested there; here inputs, conventions and neighbours."""

from __future__ import annotations

import math

import pytest
import sympy as sp
import torch

from erlangen.equations import CircleMap
from erlangen.equations.circle import circle_points
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.survey import Run
from erlangen.systems.physics.asymptotic_symmetries import _properties
from erlangen.systems.physics.asymptotic_symmetries._theories import THEORIES
from erlangen.systems.physics.asymptotic_symmetries.method import (
    Vacuum,
    antipodal,
    celestial_map,
    lie_derivative,
    phi,
    preserving_vector,
    r,
    ricci,
    u,
    vacuum,
)

LAYERS: dict[str, object] = {}
ANGLE = circle_points()


def test_ricci_knows_curvature() -> None:
    """Flat space in polar coordinates has none, and a sphere times a line has 1 on the sphere."""
    assert ricci(sp.diag(-1, 1, r**2)) == sp.zeros(3, 3)
    sphere = ricci(sp.diag(-1, 1, sp.sin(r) ** 2))
    assert sp.simplify(sphere - sp.diag(0, 1, sp.sin(r) ** 2)) == sp.zeros(3, 3)


def test_killing_vectors_of_minkowski_space() -> None:
    """Six fields keep -du^2 - 2 du dr + r^2 dphi^2 entirely: T and Y of modes up to one."""
    flat = vacuum(sp.Integer(-1), sp.Integer(0))
    zero, waves = sp.Integer(0), (sp.Integer(1), sp.cos(phi), sp.sin(phi))
    for T, Y in [*((wave, zero) for wave in waves), *((zero, wave) for wave in waves)]:
        moved = lie_derivative(flat, preserving_vector(T, Y, sp.Integer(-1), zero))
        assert moved.applyfunc(sp.simplify) == sp.zeros(3, 3)
    moved = lie_derivative(flat, preserving_vector(sp.cos(2 * phi), zero, sp.Integer(-1), zero))
    assert moved.applyfunc(sp.simplify) != sp.zeros(3, 3)


def test_a_spinning_solution_goes_from_future_to_past() -> None:
    """u = v + F(r), phi -> phi + H(r), with F' = 2/(Theta - Xi^2/r^2), H' = -Xi F'/r^2, keeps constant Theta and Xi."""
    theta, xi = sp.symbols("theta xi")
    slope = 2 / (theta - xi**2 / r**2)
    turn = -xi * slope / r**2
    future = vacuum(theta, xi)
    # d(u, r, phi) by d(v, r, phi)
    jacobian = sp.Matrix([[1, slope, 0], [0, 1, 0], [0, turn, 1]])
    past = (jacobian.T * future * jacobian).applyfunc(sp.simplify)
    assert past == vacuum(theta, xi, "past")
    assert not past.has(u)


def test_light_is_turned_as_by_aberration() -> None:
    """A boost of rapidity s along x: tan(phi'/2) = e^-s tan(phi/2) for light that goes out."""
    speed = 0.6
    boost = torch.eye(3, dtype=torch.float64)
    boost[0, 0] = boost[1, 1] = math.cosh(speed)
    boost[0, 1] = boost[1, 0] = math.sinh(speed)
    out = celestial_map(boost)
    torch.testing.assert_close(out(ANGLE)[:120], 2 * torch.atan(math.exp(-speed) * torch.tan(ANGLE[:120] / 2)))
    w = math.cosh(speed) + math.sinh(speed) * ANGLE.cos()
    torch.testing.assert_close(out.slopes()[0], 1 / w, atol=1e-10, rtol=0)


def test_turns_and_shifts_of_the_circle() -> None:
    start = Vacuum((2 * ANGLE).cos() - 0.3, ANGLE.sin())
    quarter = CircleMap.from_modes(turn=math.pi / 2)
    moved = start.superrotated(quarter)
    torch.testing.assert_close(moved.theta, start.theta.roll(-64))
    torch.testing.assert_close(moved.xi, start.xi.roll(-64))
    torch.testing.assert_close(antipodal(ANGLE.sin()), -ANGLE.sin())


def test_charges_of_simple_spaces() -> None:
    """Minkowski space has energy -1/(8 G), Theta = -a^2 has -a^2/(8 G), and Xi = j turns with j/(4 G)."""
    one = torch.ones(256, dtype=torch.float64)
    defect = Vacuum.constant(-0.25, 0.3)
    assert float(defect.charge(one, 0 * one)) == pytest.approx(-0.25 / 8)
    assert float(defect.charge(0 * one, one, G=2.0)) == pytest.approx(0.3 / 8)


@pytest.mark.parametrize("seed", range(3))
def test_properties_hold_with_other_seeds(seed: int) -> None:
    numeric = ("superrotations_are_a_group", "motions_match", "boosted_defects_match", "charges_vary_by_the_bracket")
    for name in (*numeric, "lorentz_transformations_leave_minkowski_space", "the_monodromy_of_hill_is_invariant"):
        for claim in getattr(_properties, name).claims(Run(seed=seed)):
            assert claim.verdict == "holds", claim


@pytest.mark.parametrize("name", ["free particle", "Klein-Gordon", "waves", "sphere"])
def test_theories_have_what_is_known(name: str) -> None:
    assert len(THEORIES[name].symmetries()[1]) == THEORIES[name].known


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'future' or 'past'"):
        vacuum(phi, phi, "present")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownNameError, match="'future' or 'past'"):
        celestial_map(torch.eye(3), "")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match=r"pass \[n\] and \[n\]"):
        Vacuum(torch.zeros(8), torch.zeros(9))
    with pytest.raises(ShapeError, match="even number"):
        Vacuum.constant(-1.0, points=7).matched()
    with pytest.raises(DtypeError, match="xi has dtype"):
        Vacuum(torch.zeros(8).double(), torch.zeros(8))
    with pytest.raises(NotFiniteError, match="theta"):
        Vacuum(torch.full((8,), float("inf")).double(), torch.zeros(8).double())
    small, flat = torch.zeros(64, dtype=torch.float64), Vacuum.constant(-1.0)
    with pytest.raises(ShapeError, match="a has shape"):
        flat.supertranslated(small)
    with pytest.raises(ShapeError, match=r"g\.shift has shape"):
        flat.superrotated(CircleMap(small))
    with pytest.raises(ShapeError, match="Y has shape"):
        flat.charge(flat.xi, small)
    with pytest.raises(ErlangenError, match="does not keep"):
        celestial_map(2 * torch.eye(3))
    for mirror in (torch.diag(torch.tensor([1.0, -1.0, 1.0])), -torch.eye(3)):
        with pytest.raises(ErlangenError, match="connected component"):
            celestial_map(mirror)


def test_charges_are_not_conserved_with_the_other_sign() -> None:
    """What the claim of conserved charges would show if Xi changed its sign at the antipode."""
    how = torch.eye(3, dtype=torch.float64), torch.tensor([0.1, 0.2, 0.3])
    future, past = (_properties.defect(at, *how) for at in ("future", "past"))
    one, zero = torch.ones_like(ANGLE), torch.zeros_like(ANGLE)
    assert float((future.charge(zero, one) - past.charge(zero, one)).abs()) < 1e-12
    assert float((future.charge(zero, one) + past.charge(zero, one)).abs()) > 1e-2
