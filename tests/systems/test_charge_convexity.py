"""Dimensions at a fixed charge: branches, spectra, the tester of convexity, rivals against closed forms, bad input."""

import math

import numpy as np
import pytest
from mpmath import iv, mp

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.systems.physics.charge_convexity import (
    CubicModel,
    MatrixModel,
    Spectrum,
    VectorModel,
    casimir,
    convexity,
    enclosed_saddle,
    saddle,
    standard_coupling,
)
from erlangen.systems.physics.charge_convexity._convexity import saddle_curvature
from erlangen.systems.physics.charge_convexity.experiment import curvature
from erlangen.systems.physics.charge_convexity.method import BRANCH
from erlangen.systems.physics.charge_convexity.rivals import leading_series, oscillator_energies


# --- saddles ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "y", [1e-8, 0.3, 6.0, 1e4, -0.2, -0.38, -0.5, -30.0, 0.3 + 0.2j, -2 + 0.1j, -0.384 - 0.01j, 50j]
)
def test_the_saddle_solves_its_equation(y: complex) -> None:
    u = complex(saddle(y))
    assert abs(u**3 - u - y) < 1e-13 * (1 + abs(y))
    assert u.real > 1 / math.sqrt(3) - 1e-12


def test_the_branch_is_the_one_from_one() -> None:
    y = np.linspace(0, -BRANCH, 200)
    u = saddle(y)
    assert u[0] == 1
    assert (u.imag == 0).all()
    assert (np.diff(u.real) < 0).all()
    assert u[-1].real == pytest.approx(1 / math.sqrt(3), abs=1e-7)
    beyond = saddle(np.linspace(-1.001 * BRANCH, -20, 50))
    assert (beyond.imag > 0).all()
    assert (np.diff(beyond.real) > 0).all()
    assert abs(saddle(-5 + 0.5j) - saddle(-5)) < 0.1  # from above the cut


def test_conventions_of_couplings() -> None:
    """lambda/4 (phi^2)^2 = 6 lambda/4! (phi^2)^2."""
    assert standard_coupling(0.7, "g") == 0.7
    assert standard_coupling(6.0, "lambda/4!") == pytest.approx(standard_coupling(1.0, "lambda/4"), rel=1e-15)
    with pytest.raises(UnknownNameError, match="lambda/4!"):
        standard_coupling(1.0, "phi4")  # pyright: ignore


def test_both_loops_of_the_coupling() -> None:
    """Zeros of -eps g + (N+8) g^2/3 - (3N+14) g^3/3, up to eps^3."""
    for N, eps in ((2, 0.01), (8, 0.02)):
        g = VectorModel(N, eps, loops=2).coupling
        assert abs(-eps * g + (N + 8) / 3 * g**2 - (3 * N + 14) / 3 * g**3) < 20 * eps**4
        assert VectorModel(N, eps, above=True).coupling == pytest.approx(-3 * eps / (N + 8), rel=1e-15)


def test_the_eps_expansion_of_charge_one() -> None:
    """2 Delta_phi = d - 2 + eta, eta = (N + 2) eps^2 / (2 (N + 8)^2)."""
    assert VectorModel(2, 0.1).epsilon_expansion(1) == pytest.approx((2 - 0.1 + 4 * 0.01 / 200) / 2, rel=1e-14)


# --- sums ------------------------------------------------------------------------------------------------------------
def test_a_free_massive_field() -> None:
    """w^2 = (l+1)^2 + K: half the sum of n^2 sqrt(n^2 + K) is a series of zeta functions, but for the pole's K^2."""

    def rest(K: float) -> mp.mpf:
        series = sum(mp.binomial(mp.mpf(1) / 2, k) * K**k * mp.zeta(2 * k - 3) for k in range(40) if k != 2)
        free = mp.mpf(1) / 240  # of zeta functions; in dimensional regularisation it is zero
        return casimir(Spectrum((), ((0.5, 1),)), mp.sqrt(1 + mp.mpf(K))) - series / 2 + free

    with mp.workdps(40):
        # K = u^2 - ((d-2)/2)^2 depends on d, so that the pole leaves a term in K too.
        a, b = (4 * (rest(0.125) - rest(-0.125)), 32 * (rest(0.125) + rest(-0.125)))
        assert abs(rest(0)) < 1e-25
        assert abs(rest(0.25) - a / 4 - b / 16) < 1e-22
        assert abs(rest(-0.25) + a / 4 - b / 16) < 1e-22


def test_counts_of_fields() -> None:
    assert VectorModel(7, 0.1).spectrum.count == 7
    for N, M, s in ((20, 2, 1), (20, 2, 2), (40, 3, 2)):
        assert MatrixModel(N, M, 0.1, s=s).spectrum.count == 2 * N * M


def test_digits_agree() -> None:
    spectrum = MatrixModel(4, 4, 0.1, s=4, complex_couplings=True).spectrum
    u = mp.mpc(1.5, 0.4)
    assert abs(casimir(spectrum, u, digits=25) - casimir(spectrum, u, digits=45)) < 1e-15


def test_curvature_by_differences_of_dimensions() -> None:
    for model, Q in ((VectorModel(4, 0.3), 8.0), (VectorModel(4, 0.3, above=True), 60.0)):
        h = 0.02
        values = [complex(model.leading(Q + k * h)) + complex(model.next_to_leading(Q + k * h)) for k in (-1, 0, 1)]
        assert curvature(model, Q)[1] == pytest.approx((values[0] + values[2] - 2 * values[1]) / h**2, rel=1e-4)


# --- models ----------------------------------------------------------------------------------------------------------
def test_the_energy_of_the_cubic_model_has_the_right_slope() -> None:
    model = CubicModel(2000, 0.1)
    for Q in (0.5 * model.critical_charge, 2 * model.critical_charge):
        h = 1e-4 * Q
        slope = (model.leading(Q + h) - model.leading(Q - h)) / (2 * h)
        assert complex(slope[0]) == pytest.approx(complex(model.saddle(Q)[0]), rel=1e-7)


def test_the_cubic_model_at_large_n() -> None:
    """g2 = 6 g1 and g1^2 = 6 eps (4 pi)^3 / N, and its critical charge is where the root of the quintic turns complex."""
    model = CubicModel(10**6, 0.1)
    assert model.ratio == pytest.approx(6, rel=1e-3)
    assert model.coupling == pytest.approx(0.6e-6, rel=1e-3)
    edge = model.critical_charge
    assert model.saddle(0.999 * edge)[0].imag == 0
    assert abs(model.saddle(1.001 * edge)[0].imag) > 1e-3


def test_real_fixed_points_with_two_columns() -> None:
    """N > 10 + sqrt(72) = 18.49 for M = 2."""
    assert MatrixModel(19, 2, 0.1).is_real
    with pytest.raises(ErlangenError, match="complex_couplings=True"):
        MatrixModel(18, 2, 0.1)


# --- convexity -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("f", "convex", "concave", "least"),
    [
        (lambda q: q**2, True, False, 1),
        (lambda q: q ** (4 / 3), True, False, 1),
        (lambda q: q**0.5, False, True, None),
        (lambda q: 3 * q, True, True, 1),
        (lambda q: 0.1 * q**2 + 0.5 * (q == 2), False, False, 3),
    ],
)
def test_the_tester(f, convex: bool, concave: bool, least: int | None) -> None:
    found = convexity(f(np.arange(1.0, 21.0)))
    assert (found.convex, found.concave) == (convex, concave)
    assert found.minimal_charge == least


def test_the_tester_and_noise() -> None:
    noise = np.random.default_rng(0).standard_normal(20)
    found = convexity(noise)
    assert not found.convex
    assert not found.concave
    assert found.least == np.diff(noise, 2).min()


def test_the_least_charge_by_hand() -> None:
    """D(2) < 2 D(1), but multiples of two add up: D = 1, 1, 2.5, 2.5, 4, 5."""
    assert convexity([1, 1, 2.5, 2.5, 4, 5]).minimal_charge == 2


def test_boxes_hold_the_saddle() -> None:
    slope = 0.02 + 0.01j
    box = enclosed_saddle(slope, iv.mpf([99, 101]))
    assert box is not None
    for Q in (99, 100, 101):
        u = complex(saddle(slope * Q))
        assert float(box.real.a) <= u.real <= float(box.real.b)
        assert float(box.imag.a) <= u.imag <= float(box.imag.b)
    assert enclosed_saddle(slope, iv.mpf([1, 5000])) is None  # too wide for one box
    found = saddle_curvature(slope, iv.mpf([99, 101]))
    due = (slope / (3 * complex(saddle(slope * 100)) ** 2 - 1)).real
    assert float(found.a) < due < float(found.b)


# --- rivals ----------------------------------------------------------------------------------------------------------
def test_series_converge_where_they_should() -> None:
    """|y| below the branch point, gQ < 0.288."""
    model = VectorModel(2, 0.1)
    exact = float(model.leading(0.1 / model.coupling).real) * model.coupling / 0.1
    assert leading_series(0.1, 25) == pytest.approx(exact, rel=1e-12)


def test_the_oscillator_by_perturbation_theory() -> None:
    """<r^4> = (Q + 1)(Q + 2) in the lowest state of angular momentum Q."""
    h = 1e-5
    slope = (oscillator_energies(5, h, size=40) - oscillator_energies(5, 0.0, size=40)) / h
    Q = np.arange(6)
    assert np.allclose(slope, (Q + 1) * (Q + 2), rtol=1e-3)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("Q", [0, -3.0, math.nan])
def test_charges_above_zero(Q: float) -> None:
    with pytest.raises(ErlangenError, match="give charges above zero"):
        VectorModel(2, 0.1).leading(Q)


@pytest.mark.parametrize("charges", [[1.5], [0], [1, -2]])
def test_whole_charges(charges: list[float]) -> None:
    with pytest.raises(ErlangenError, match="whole charges from 1 on"):
        VectorModel(2, 0.1).dimensions(charges)


def test_models_that_are_none() -> None:
    with pytest.raises(ErlangenError, match="N = 0"):
        VectorModel(0, 0.1)
    with pytest.raises(ErlangenError, match="N >= 2"):
        VectorModel(1, 0.1)
    for eps in (0.0, -0.1, math.nan):
        with pytest.raises(ErlangenError, match="above=True"):
            VectorModel(2, eps)
    with pytest.raises(ErlangenError, match="loops = 3"):
        VectorModel(2, 0.1, loops=3)
    with pytest.raises(ErlangenError, match=r"only u \+ v is defined; use VectorModel\(6, eps\)"):
        MatrixModel(3, 1, 0.1)
    with pytest.raises(ErlangenError, match=r"s = 3: .* min\(N, M\) = 2"):
        MatrixModel(20, 2, 0.1, s=3)
    with pytest.raises(ErlangenError, match="solution = 2"):
        MatrixModel(20, 2, 0.1, solution=2)
    with pytest.raises(ErlangenError, match="give N >= 1039"):
        CubicModel(1000, 0.1)
    with pytest.raises(UnknownNameError, match="order = 'NNLO'"):
        VectorModel(2, 0.1).dimensions([1], "NNLO")  # pyright: ignore


def test_digits_near_the_branch_point() -> None:
    with mp.workdps(60):
        near = 1 / mp.sqrt(3) + mp.mpf(10) ** -22
    with pytest.raises(ErlangenError, match="give more digits than 40"):
        casimir(VectorModel(2, 0.1).spectrum, near)
    assert mp.isfinite(casimir(VectorModel(2, 0.1).spectrum, near, digits=60))
    model = VectorModel(2, 0.1, above=True)
    with pytest.raises(ErlangenError, match="too near the branch point"):
        model.next_to_leading(model.critical_charge * (1 - 1e-14))


def test_what_the_tester_does_not_take() -> None:
    with pytest.raises(ShapeError, match="three or more"):
        convexity([1, 2])
    with pytest.raises(ShapeError, match="real parts"):
        convexity([1, 2, 3j])
    with pytest.raises(NotFiniteError, match=r"dimensions\[1\]"):
        convexity([1, math.nan, 2])
    with pytest.raises(NotFiniteError, match="y is NaN"):
        saddle(math.inf)
    with pytest.raises(ErlangenError, match="no ground state"):
        oscillator_energies(2, -1.0)
