"""Symmetry algebras of known equations, by the dimensions that are in books, and by what their fields do to solutions."""

from __future__ import annotations

import pytest
import sympy as sp
import torch

import erlangen as er
from erlangen.equations import (
    JetSpace,
    VectorField,
    cocycle_error,
    jacobi_error,
    noether_current,
    one_parameter_group,
    point_symmetries,
    structure_constants,
    variational_symmetries,
)
from erlangen.errors import ErlangenError, ShapeError, UnknownNameError

ODE = JetSpace("t", "x")
T, X = ODE.symbols
PDE = JetSpace("t x", "u")
S, Y, U = PDE.symbols


def test_the_free_particle() -> None:
    """Five up to boundary terms, three strictly (shifts, and 2 t d_t + x d_x); its equation has the projective group, 8."""
    free = ODE(X, T) ** 2 / 2
    assert len(variational_symmetries(ODE, free, 2)) == 5
    strict = variational_symmetries(ODE, free, 2, strict=True)
    assert {(f.xi, f.phi) for f in strict} == {((1,), (0,)), ((0,), (1,)), ((T,), (X / 2,))}
    found = point_symmetries(ODE, {ODE(X, T, T): 0}, 2)
    assert len(found) == 8
    constants = structure_constants(found)
    assert jacobi_error(constants) < 1e-12
    killing = torch.einsum("ikl,jlk->ij", constants, constants)
    signs = torch.linalg.eigvalsh(killing).sign()
    assert (int((signs > 0).sum()), int((signs < 0).sum())) == (
        5,
        3,
    )  # sl(3, R): its compact part so(3) has dimension 3


@pytest.mark.parametrize(
    ("equations", "degree", "dimension"),
    [
        ({PDE(U, S): -U * PDE(U, Y) - PDE(U, Y, Y, Y)}, 2, 4),  # Korteweg and de Vries
        ({PDE(U, S): PDE(U, Y, Y)}, 3, 6 + 4),  # heat: six, and the four heat polynomials up to degree three
        ({PDE(U, S): PDE(U, Y, Y) - U * PDE(U, Y)}, 3, 5),  # Burgers
    ],
    ids=["KdV", "heat", "Burgers"],
)  # fmt: skip
def test_evolution_equations(equations: dict[sp.Symbol, sp.Expr], degree: int, dimension: int) -> None:
    found = point_symmetries(PDE, equations, degree)
    assert len(found) == dimension
    for field in found:
        for symbol, right in equations.items():
            moved = field.prolonged(symbol - right)
            # On shell: u_t and what follows from it are replaced, twice, by hand.
            for _ in range(4):
                for order in range(6):
                    for more in (0, 1):
                        by = (S,) * (1 + more) + (Y,) * order
                        moved = sp.expand(moved.subs(PDE(U, *by), PDE.total(right, *by[1:])))
            assert moved == 0


def test_waves_in_the_ansatz() -> None:
    """An oscillator has five symmetries, four of them with waves; Liouville's equation has all conformal ones that fit."""
    spring = (ODE(X, T) ** 2 - X**2) / 2
    waves = (1, sp.cos(T), sp.sin(T), sp.cos(2 * T), sp.sin(2 * T))
    found = variational_symmetries(ODE, spring, 1, times=waves)
    assert len(found) == 5
    for field in found:
        assert len(noether_current(field, spring)) == 1
    assert jacobi_error_of(found) < 1e-12
    liouville = (PDE(U, S) ** 2 - PDE(U, Y) ** 2) / 2 - sp.exp(U)
    assert len(variational_symmetries(PDE, liouville, 2)) == 6


def test_symbols_are_constants_of_any_value() -> None:
    """Masses, frequencies and fields: as many symmetries as with numbers, and currents that hold identically in them."""
    m, w, k = sp.symbols("m w k")
    waves = (1, sp.cos(w * T), sp.sin(w * T), sp.cos(2 * w * T), sp.sin(2 * w * T))
    spring = m * (ODE(X, T) ** 2 - w**2 * X**2) / 2
    found = variational_symmetries(ODE, spring, 1, times=waves)
    assert ((sp.cos(2 * w * T),), (-w * X * sp.sin(2 * w * T),)) in {(f.xi, f.phi) for f in found}
    for Lagrangian, fields in (
        (spring, found),
        (m * ODE(X, T) ** 2 / 2 - k * X, variational_symmetries(ODE, m * ODE(X, T) ** 2 / 2 - k * X, 3)),
    ):
        assert len(fields) == 5
        for field in fields:
            (current,) = noether_current(field, Lagrangian)
            (equation,) = ODE.euler(Lagrangian)
            assert sp.simplify(ODE.total(current, T) - field.characteristic[0] * equation) == 0
    # Heat with any conductivity: Galilean boosts divide by it.
    heat = point_symmetries(PDE, {PDE(U, S): k * PDE(U, Y, Y)}, 2)
    assert ((0, S), (-U * Y / (2 * k),)) in {(f.xi, f.phi) for f in heat}
    assert len(point_symmetries(PDE, {PDE(U, S): PDE(U, Y, Y)}, 2)) == len(heat)
    with pytest.raises(ErlangenError, match="holds m; put real numbers in"):
        one_parameter_group(VectorField(ODE, (0,), (m * T,)))
    with pytest.raises(ErlangenError, match="put numbers in for constants"):
        structure_constants([VectorField(ODE, (1,), (0,)), VectorField(ODE, (m * T,), (0,))])
    for constant in (sp.sqrt(2), sp.pi, sp.sin(2), sp.sqrt(k)):
        with pytest.raises(ErlangenError, match="write a symbol for it"):
            variational_symmetries(ODE, ODE(X, T) ** 2 / 2 - constant * X, 1)


def test_decimals_are_fractions() -> None:
    exact = variational_symmetries(ODE, ODE(X, T) ** 2 / 10 - sp.Rational(3, 10) * X, 3)
    assert variational_symmetries(ODE, 0.1 * ODE(X, T) ** 2 - 0.3 * X, 3) == exact
    assert noether_current(VectorField(ODE, (0.1 * T,), (0.05 * X,)), 0.3 * ODE(X, T) ** 2) == noether_current(
        VectorField(ODE, (T / 10,), (X / 20,)), 3 * ODE(X, T) ** 2 / 10
    )


@pytest.mark.parametrize("times", [(1, T), (1, sp.cos(T) ** 2, sp.sin(T) ** 2)], ids=["powers", "squares"])
def test_functions_that_others_make_up_give_no_field_twice(times: tuple[sp.Expr | int, ...]) -> None:
    """Shifts, the boost and the scaling, and the projective one where its square of the time is among the functions."""
    found = variational_symmetries(ODE, ODE(X, T) ** 2 / 2, 1, times=times)
    assert len(found) == (5 if T in times else 4)
    places = [{T: 0.3, X: 0.7}, {T: -1.2, X: 0.4}, {T: 2.1, X: -0.9}]
    values = [[float(c.subs(p)) for p in places for c in (*f.xi, *f.phi)] for f in found]
    assert int(torch.linalg.matrix_rank(torch.tensor(values))) == len(found)


def test_irrational_fields_make_an_algebra() -> None:
    """[d_t, a t d_t] = a d_t, and so on, with roots in the coefficients; waves are no polynomials."""
    a, b = sp.sqrt(2), 1 + sp.sqrt(2)
    constants = structure_constants([VectorField(ODE, (c,), (0,)) for c in (sp.Integer(1), a * T, b * T**2)])
    assert float(constants[0, 1, 0]) == pytest.approx(2**0.5)
    assert float(constants[0, 2, 1]) == pytest.approx(2 + 2**0.5)
    with pytest.raises(ErlangenError, match="no polynomial"):
        structure_constants([VectorField(ODE, (1,), (0,)), VectorField(ODE, (0,), (sp.sin(T),))])


def jacobi_error_of(fields: list[VectorField]) -> float:
    """By the fields themselves, since their components are no polynomials."""
    worst = 0.0
    for a in fields:
        for b in fields:
            for c in fields:
                parts = [a.bracket(b).bracket(c), b.bracket(c).bracket(a), c.bracket(a).bracket(b)]
                for k in range(len(a.phi)):
                    worst = max(worst, abs(float(sp.simplify(sum(p.phi[k] for p in parts)).subs({T: 0.3, X: 0.7}))))
    return worst


def test_kepler_has_time_and_turns_and_no_more() -> None:
    plane = JetSpace("t", "x y")
    t, x, y = plane.symbols
    kepler = (plane(x, t) ** 2 + plane(y, t) ** 2) / 2 + 1 / sp.sqrt(x**2 + y**2)
    found = variational_symmetries(plane, kepler, 1)
    assert [(f.xi, f.phi) for f in found] == [((1,), (0, 0)), ((0,), (y, -x))]
    for field in found:
        (current,) = noether_current(field, kepler)
        rate = plane.total(current, t)
        for q, one in zip((x, y), plane.euler(kepler), strict=True):
            rate = rate.subs(plane(q, t, t), sp.solve(one, plane(q, t, t))[0])
        assert sp.simplify(rate) == 0


def test_a_field_that_was_found_moves_data(generator: torch.Generator) -> None:
    """The Galilean boost of a free particle, as a group on points (t, x): velocities change, their differences do not."""
    boost = VectorField(ODE, (0,), (T,))
    assert (boost.xi, boost.phi) in {(f.xi, f.phi) for f in variational_symmetries(ODE, ODE(X, T) ** 2 / 2, 2)}
    group = one_parameter_group(boost)
    time = torch.tensor([[1, 0.5], [0, 1]]).double()
    points = torch.randn(4, 6, 2, generator=generator, dtype=torch.float64)
    moved = er.Symmetry(group, input="points", output="invariant").input.act(time, points)
    torch.testing.assert_close(
        moved, points + 0.5 * torch.stack([torch.zeros_like(points[..., 0]), points[..., 0]], -1)
    )

    def second_differences(p: torch.Tensor) -> torch.Tensor:
        slopes = p[..., 1].diff() / p[..., 0].diff()
        return slopes.diff()

    symmetry = er.Symmetry(group, input="points", output="invariant")
    assert float(er.equivariance_error(second_differences, symmetry, points).max()) < 1e-8
    assert float(er.equivariance_error(lambda p: p[..., 1].diff(), symmetry, points).max()) > 1e-2


def test_projective_fields_are_no_matrices() -> None:
    with pytest.raises(ErlangenError, match="not affine"):
        one_parameter_group(VectorField(ODE, (T**2,), (T * X,)))
    with pytest.raises(ErlangenError, match="not affine"):
        one_parameter_group(VectorField(ODE, (0,), (ODE(X, T),)))


def test_algebras_and_central_terms() -> None:
    """[L_m, L_n] = (m - n) L_{m+n} for -1, 0, 1, and the central term m^3 - m, which vanishes there; others fail."""
    fields = [VectorField(ODE, (-(T ** (n + 1)),), (0,)) for n in (-1, 0, 1)]
    constants = structure_constants(fields)
    want = torch.zeros(3, 3, 3, dtype=torch.float64)
    for m in (-1, 0, 1):
        for n in (-1, 0, 1):
            if m != n:
                want[m + 1, n + 1, m + n + 1] = m - n
    torch.testing.assert_close(constants, want)
    assert jacobi_error(constants) == 0
    trivial = torch.zeros(3, 3, dtype=torch.float64)
    trivial[0, 2], trivial[2, 0] = -1, 1  # m^3, a coboundary on this subalgebra
    assert cocycle_error(constants, trivial) == 0
    assert cocycle_error(constants, torch.eye(3, dtype=torch.float64)) == 2
    broken = constants.clone()
    broken[0, 1, 0] += 1
    assert jacobi_error(broken) > 0.5
    with pytest.raises(ErlangenError, match="no algebra"):
        structure_constants([VectorField(ODE, (T**2,), (0,)), VectorField(ODE, (T**3,), (0,))])
    with pytest.raises(ErlangenError, match="not independent"):
        structure_constants([fields[0], fields[0]])
    with pytest.raises(ErlangenError, match="empty"):
        structure_constants([])
    with pytest.raises(ShapeError, match="d, d, d"):
        jacobi_error(torch.zeros(2, 2))
    with pytest.raises(ShapeError, match="central"):
        cocycle_error(constants, torch.zeros(2, 2))


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no derivative"):
        point_symmetries(ODE, {sp.Symbol("z"): X}, 1)
    with pytest.raises(ErlangenError, match="equations is empty"):
        point_symmetries(ODE, {}, 1)
    with pytest.raises(ErlangenError, match="times is empty"):
        variational_symmetries(ODE, ODE(X, T) ** 2, 1, times=())
    with pytest.raises(ErlangenError, match="solve for others"):
        point_symmetries(PDE, {PDE(U, Y): PDE(U, S, Y)}, 1)
    with pytest.raises(ErlangenError, match="lower the degree"):
        variational_symmetries(PDE, PDE(U, S) ** 2, 12)
    with pytest.raises(ErlangenError, match="degree = -1"):
        variational_symmetries(PDE, PDE(U, S) ** 2, -1)
    with pytest.raises(ErlangenError, match="square roots, and exponentials"):
        variational_symmetries(ODE, ODE(X, T) ** 2 + X ** sp.Rational(1, 3), 1)
