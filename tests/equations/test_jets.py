"""The calculus on jets against sympy's own derivatives of functions, against flows, and against what is known by hand."""

from __future__ import annotations

import pytest
import sympy as sp

from erlangen.equations import JetSpace, VectorField, as_divergence, noether_current
from erlangen.errors import ErlangenError, ShapeError, UnknownNameError

JETS = JetSpace("t x", "u v")
T, X, U, V = JETS.symbols
U_T, U_X, V_X, U_XX = JETS(U, T), JETS(U, X), JETS(V, X), JETS(U, X, X)

CURRENTS = [
    (U * V_X, U_T * U_X),
    (U**2 * U_XX + T * V, X * U_T * V_X),
    (sp.sin(U) * V_X, sp.exp(X) * U * JETS(V, T)),
]


def put(expr: sp.Expr, jets: JetSpace, functions: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """The expression with functions and their derivatives in place of the jets."""
    found = {}
    for symbol in jets.jets_of(expr):
        a, counts = jets.place(symbol) or (0, ())
        by = [x for x, n in zip(jets.independent, counts, strict=True) for _ in range(n)]
        f = functions[jets.dependent[a]]
        found[symbol] = sp.diff(f, *by) if by else f
    return expr.xreplace(found)


def test_total_derivatives_are_those_of_functions() -> None:
    functions = {U: sp.sin(X - 2 * T) * T, V: sp.exp(T) * X**3}
    for expr in (U * V_X + T, U_XX * sp.cos(V), U_T**2 / (1 + X**2)):
        for by in ((T,), (X,), (X, T), (T, T, X)):
            want = sp.diff(put(expr, JETS, functions), *by)
            assert sp.simplify(put(JETS.total(expr, *by), JETS, functions) - want) == 0


def test_total_derivatives_commute() -> None:
    expr = U * V_X**2 + sp.exp(U_T) * X
    assert sp.expand(JETS.total(expr, T, X) - JETS.total(expr, X, T)) == 0


@pytest.mark.parametrize("current", CURRENTS, ids=str)
def test_divergences_have_no_equations(current: tuple[sp.Expr, ...]) -> None:
    assert [sp.simplify(one) for one in JETS.euler(JETS.divergence(current))] == [0, 0]


@pytest.mark.parametrize("current", CURRENTS[:2], ids=str)
def test_the_homotopy_finds_divergences(current: tuple[sp.Expr, ...]) -> None:
    change = JETS.divergence(current)
    assert sp.expand(JETS.divergence(as_divergence(JETS, change)) - change) == 0


def test_euler_lagrange_equations_of_textbooks() -> None:
    one = JetSpace("t", "q")
    t, q = one.symbols
    w = sp.Symbol("w")
    assert one.euler(one(q, t) ** 2 / 2 - w**2 * q**2 / 2) == (-(w**2) * q - one(q, t, t),)
    beam = one(q, t, t) ** 2 / 2  # of second order: q'''' = 0
    assert one.euler(beam) == (one(q, t, t, t, t),)
    assert JETS.euler((U_T**2 - U_X**2) / 2) == (-JETS(U, T, T) + U_XX, 0)


def test_prolongation_is_the_derivative_of_the_flow() -> None:
    """A turn of the (x, u) plane moves the graph of a function; the slope moves as the prolonged field says, 1 + u_x^2."""
    plane = JetSpace("x", "u")
    x, u = plane.symbols
    turn = VectorField(plane, (-u,), (x,))
    assert turn.prolonged(plane(u, x)) == 1 + plane(u, x) ** 2
    bend = plane(u, x, x)
    assert turn.prolonged(bend) == 3 * plane(u, x) * bend  # Olver, example 2.38
    # Lengths of curves and curvatures are left alone.
    length = sp.sqrt(1 + plane(u, x) ** 2)
    assert sp.simplify(turn.prolonged(length) + length * plane.divergence(turn.xi)) == 0
    assert sp.simplify(turn.prolonged(bend / length**3)) == 0


def test_brackets() -> None:
    plane = JetSpace("x", "u")
    x, u = plane.symbols
    turn, along, up = VectorField(plane, (-u,), (x,)), VectorField(plane, (1,), (0,)), VectorField(plane, (0,), (1,))
    assert along.bracket(turn) == up
    assert up.bracket(turn) == VectorField(plane, (-1,), (0,))
    assert str(turn) == "(-u)*d_x + (x)*d_u"
    assert str(along.bracket(up)) == "0"


def test_currents_of_the_oscillator_and_of_kepler() -> None:
    one = JetSpace("t", "q")
    t, q = one.symbols
    v = one(q, t)
    (energy,) = noether_current(VectorField(one, (1,), (0,)), v**2 / 2 - q**2 / 2)
    assert sp.expand(energy - (v**2 + q**2) / 2) == 0
    two = JetSpace("t", "x y")
    t, x, y = two.symbols
    vx, vy, r = two(x, t), two(y, t), sp.sqrt(x**2 + y**2)
    kepler = (vx**2 + vy**2) / 2 + 1 / r
    (momentum,) = noether_current(VectorField(two, (0,), (-y, x)), kepler)
    assert sp.expand(momentum - (y * vx - x * vy)) == 0
    # Runge and Lenz: the symmetry holds derivatives, and the boundary term is not found at r = 0 but given.
    hidden = VectorField(two, (0,), (y * vy, y * vx - 2 * x * vy))
    (lenz,) = noether_current(hidden, kepler, boundary=(-x * vy**2 - x / r + y * vx * vy,))
    assert sp.simplify(lenz - (vy * (x * vy - y * vx) - x / r)) == 0
    with pytest.raises(ErlangenError, match="give boundary="):
        noether_current(hidden, kepler)


def test_what_is_refused() -> None:
    for names in (("", "u"), ("t t", "u"), ("t", "t"), ("t_1", "u"), ("2", "u")):
        with pytest.raises(ErlangenError):
            JetSpace(*names)
    with pytest.raises(UnknownNameError, match="t is no dependent"):
        JETS(T, X)
    with pytest.raises(UnknownNameError, match="u is no independent"):
        JETS.total(U, U)
    with pytest.raises(ShapeError, match="one for each of t, x"):
        JETS.divergence((U,))
    with pytest.raises(ShapeError, match="xi has 1"):
        VectorField(JETS, (1,), (0, 0))
    with pytest.raises(ErlangenError, match="no divergence"):
        as_divergence(JETS, U**2)
    with pytest.raises(ErlangenError, match="no value"):
        as_divergence(JETS, JETS.total(1 / U, T))
    with pytest.raises(ErlangenError, match="no divergence"):
        noether_current(VectorField(JETS, (0, 0), (U, 0)), U_T**2)
    with pytest.raises(ErlangenError, match="does not have the divergence"):
        noether_current(VectorField(JETS, (0, 0), (1, 0)), U_T**2, boundary=(U, 0))
    with pytest.raises(ErlangenError, match="brackets"):
        VectorField(JETS, (0, 0), (U_T, 0)).bracket(VectorField(JETS, (0, 0), (U, 0)))
    letters = JetSpace("a aa", "u")
    a, aa, u = letters.symbols
    letters(u, a, a)
    with pytest.raises(ErlangenError, match="names of one letter"):
        letters(u, aa)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (sp.Symbol("u", positive=True) ** 2, "u is no symbol of this JetSpace"),
        (sp.Symbol("t", real=True) * U, "t is no symbol of this JetSpace"),
        (sp.Symbol("v_ttttx"), "calls such as"),
        (sp.Function("u")(T).diff(T) ** 2, r"u\(t\): write the symbols"),
        (sp.Eq(U_T, U_XX), "no expression"),
        (U / sp.Integer(0), "not finite"),
    ],
    ids=str,
)
def test_what_only_looks_like_variables_is_refused(given: sp.Expr, said: str) -> None:
    """Else it would be a constant, or a function of the time, without a word."""
    with pytest.raises(ErlangenError, match=said):
        JETS.euler(given)
    with pytest.raises(ErlangenError, match=said):
        noether_current(VectorField(JETS, (0, 0), (1, 0)), given)


def test_symbols_and_functions_of_variables_stay() -> None:
    mass, V = sp.Symbol("m", positive=True), sp.Function("V")
    assert JETS.euler(mass * U_T**2 / 2 - V(U))[0] == -mass * JETS(U, T, T) - V(U).diff(U)
    field = VectorField(JETS, (0, 0), (mass * V(T), 0))
    assert field.is_point
    assert not VectorField(JETS, (0, 0), (mass * U_T, 0)).is_point
    assert str(sp.Symbol("u_0") + JETS.expression(0.1 * U)) == "u/10 + u_0"
    assert JETS.expression(sp.Symbol("u_0")) == sp.Symbol("u_0")
