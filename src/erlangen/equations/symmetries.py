"""Symmetries with polynomial components, from the determining equations by exact linear algebra.

What is found is a basis of all such fields up to the given degree; that there are no others is not claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import sympy as sp
from sympy.polys.matrices import DomainMatrix

from erlangen.equations.jets import JetSpace, VectorField
from erlangen.errors import ErlangenError, UnknownNameError, check_integer

MOST_UNKNOWNS = 400
"""Coefficients from which an ansatz is refused."""


def point_symmetries(
    jets: JetSpace,
    equations: Mapping[sp.Symbol, sp.Expr],
    degree: int,
    *,
    times: Sequence[sp.Expr | int] = (1,),
) -> list[VectorField]:
    """Fields that move solutions of equations to solutions.

    >>> jets = JetSpace("t", "x")
    >>> t, x = jets.symbols
    >>> len(point_symmetries(jets, {jets(x, t, t): 0}, degree=2))  # x'' = 0: the projective group of the plane
    8

    Args:
        jets: the variables.
        equations: each solved for one derivative, ``{u_t: right side}``. No right side holds such a derivative, or one that
            follows from it.
        degree: of the components, as polynomials in the variables together.
        times: functions with which all polynomials are tried.

    Raises:
        UnknownNameError: what an equation is solved for is no derivative.
        ErlangenError: a right side holds what is solved for, or the ansatz is too large.
    """
    leading: list[tuple[int, tuple[int, ...], sp.Expr]] = []
    for symbol, right in equations.items():
        place = jets.place(symbol)
        if place is None:
            raise UnknownNameError(f"{symbol} is no derivative of these variables; write jets(u, t) for u_t")
        leading.append((*place, sp.sympify(right)))
    for symbol, right in equations.items():
        if _on_shell(jets, leading, sp.sympify(right), steps=1) != sp.expand(right):
            raise ErlangenError(
                f"the equation of {symbol} holds derivatives that equations are solved for; solve for others"
            )

    def conditions(field: VectorField) -> list[sp.Expr]:
        return [
            _on_shell(jets, leading, field.prolonged(symbol - sp.sympify(right))) for symbol, right in equations.items()
        ]

    return _solve(jets, conditions, degree, times)


def variational_symmetries(
    jets: JetSpace, lagrangian: sp.Expr, degree: int, *, strict: bool = False, times: Sequence[sp.Expr | int] = (1,)
) -> list[VectorField]:
    """Fields that change an action by its boundary values alone, or, if `strict`, not at all.

    >>> jets = JetSpace("t", "x")
    >>> t, x = jets.symbols
    >>> spring = (jets(x, t) ** 2 - x**2) / 2
    >>> waves = (1, sp.cos(t), sp.sin(t), sp.cos(2 * t), sp.sin(2 * t))
    >>> len(variational_symmetries(jets, spring, 1)), len(variational_symmetries(jets, spring, 1, times=waves))
    (1, 5)

    Args:
        jets: the variables.
        lagrangian: L, of any order; rational, with square roots and exponentials.
        degree: of the components, as polynomials in the variables together.
        strict: no boundary terms.
        times: functions with which all polynomials are tried, such as waves that solutions are made of.

    Raises:
        ErlangenError: the ansatz is too large, or the Lagrangian is not of this kind.
    """
    lagrangian = sp.sympify(lagrangian)

    def conditions(field: VectorField) -> list[sp.Expr]:
        change = field.prolonged(lagrangian) + lagrangian * jets.divergence(field.xi)
        return [change] if strict else list(jets.euler(change))

    return _solve(jets, conditions, degree, times)


# --- linear algebra over the rationals --------------------------------------------------------------------------------
def _solve(
    jets: JetSpace,
    conditions: Callable[[VectorField], list[sp.Expr]],
    degree: int,
    times: Sequence[sp.Expr | int],
) -> list[VectorField]:
    """The fields of the ansatz for which all conditions, which are linear in the field, vanish."""
    check_integer("degree", degree, 0)
    monomials = sorted(sp.itermonomials(list(jets.symbols), degree), key=lambda m: (sp.total_degree(m), str(m)))
    count = len(jets.independent)
    slots = [(k, m * sp.sympify(f)) for k in range(len(jets.symbols)) for m in monomials for f in times]
    if len(slots) > MOST_UNKNOWNS:
        raise ErlangenError(
            f"degree = {degree}: {len(slots)} coefficients are unknown, at most {MOST_UNKNOWNS} are tried; lower the degree"
        )
    unknowns: list[sp.Symbol] = [sp.Dummy(f"c{n}") for n in range(len(slots))]
    components: list[sp.Expr] = [sp.Integer(0)] * len(jets.symbols)
    for (k, monomial), c in zip(slots, unknowns, strict=True):
        components[k] += c * monomial
    field = VectorField(jets, tuple(components[:count]), tuple(components[count:]))
    rows = [row for expr in conditions(field) for row in _rows(expr, unknowns)]
    matrix = DomainMatrix.from_Matrix(sp.Matrix(rows or [[0] * len(unknowns)])).to_field()
    found: list[VectorField] = []
    for vector in matrix.nullspace().to_Matrix().rref()[0].tolist():
        parts: list[sp.Expr] = [sp.Integer(0)] * len(jets.symbols)
        for (k, monomial), value in zip(slots, vector, strict=True):
            parts[k] += value * monomial
        if any(part != 0 for part in parts):
            found.append(VectorField(jets, tuple(parts[:count]), tuple(parts[count:])))
    return found


def _rows(expr: sp.Expr, unknowns: list[sp.Symbol]) -> Iterable[list[sp.Expr]]:
    """Linear equations for the unknowns that say that an expression vanishes identically in all other symbols."""
    expr, roots = _without_roots(_without_waves(expr))
    top = _without_denominators(expr)
    for symbol, square in roots.items():
        # Odd and even powers of a root are independent; even ones are polynomials.
        top = sp.expand(sp.rem(top, symbol**2 - square, symbol))
    if top == 0:
        return
    others = sorted(top.free_symbols - set(unknowns), key=str)
    if not top.is_polynomial(*others, *unknowns):
        odd = sorted(str(atom) for atom in top.atoms(sp.Function, sp.Pow) if not atom.is_polynomial(*others))
        raise ErlangenError(
            f"{', '.join(odd[:3])}: symmetries are sought where all is rational in the variables, square roots, and exponentials"
        )
    terms = sp.Poly(top, *others).as_dict().values() if others else [top]
    for term in terms:
        row = [sp.diff(term, c) for c in unknowns]
        # The unknowns are real, so that real and imaginary parts are equations of their own.
        for part in ([sp.re(value) for value in row], [sp.im(value) for value in row]):
            if any(part):
                yield [sp.Rational(value) for value in part]


def _without_denominators(expr: sp.Expr) -> sp.Expr:
    """A polynomial that vanishes where an expression does: times the highest power of each denominator."""
    top = sp.expand(expr)
    while True:
        below = {p.base for p in top.atoms(sp.Pow) if isinstance(p.exp, sp.Integer) and p.exp < 0}
        if not below:
            return sp.expand(top)
        base = min(below, key=sp.default_sort_key)
        inverse = sp.Dummy("w")
        powers = {p: inverse ** (-p.exp) for p in top.atoms(sp.Pow) if p.base == base and p.exp.is_negative}
        terms = sp.Poly(top.xreplace(powers), inverse).as_dict()
        highest = max(power for (power,) in terms)
        top = sp.expand(sp.Add(*(factor * base ** (highest - power) for (power,), factor in terms.items())))


def _without_waves(expr: sp.Expr) -> sp.Expr:
    """Sines and exponentials as powers of symbols, one for each kind of exponent."""
    expr = sp.expand(expr.rewrite((sp.sin, sp.cos, sp.sinh, sp.cosh), sp.exp), power_exp=False)
    waves = [(wave, cast("sp.Expr", wave.args[0])) for wave in expr.atoms(sp.exp)]
    powers: dict[sp.Basic, sp.Basic] = {}
    while waves:
        first = waves[0][1]
        ratios = {wave: sp.simplify(exponent / first) for wave, exponent in waves}
        alike = {wave: ratio for wave, ratio in ratios.items() if isinstance(ratio, sp.Rational)}
        unit = sp.Rational(1, sp.ilcm(1, *(ratio.q for ratio in alike.values())))
        symbol = sp.Dummy("z")
        powers |= {wave: symbol ** (ratio / unit) for wave, ratio in alike.items()}
        waves = [one for one in waves if one[0] not in alike]
    return cast("sp.Expr", expr.xreplace(powers))


def _without_roots(expr: sp.Expr) -> tuple[sp.Expr, dict[sp.Symbol, sp.Expr]]:
    """Square roots as symbols of their own, and the squares of these."""
    roots: dict[sp.Expr, sp.Symbol] = {}
    halves: dict[sp.Basic, sp.Basic] = {}
    for power in expr.atoms(sp.Pow):
        exponent = power.exp
        if isinstance(exponent, sp.Rational) and exponent.q == 2:
            root = roots.setdefault(sp.expand(power.base), sp.Dummy("r"))
            halves[power] = root**exponent.p
    return cast("sp.Expr", expr.xreplace(halves)), {symbol: base for base, symbol in roots.items()}


def _on_shell(
    jets: JetSpace, leading: list[tuple[int, tuple[int, ...], sp.Expr]], expr: sp.Expr, steps: int = 50
) -> sp.Expr:
    """An expression in which no derivative is left that equations are solved for."""
    for _ in range(steps):
        new: dict[sp.Symbol, sp.Expr] = {}
        for symbol in jets.jets_of(expr):
            place = jets.place(symbol)
            assert place is not None
            for a, counts, right in leading:
                more = [n - m for n, m in zip(place[1], counts, strict=True)]
                if place[0] == a and min(more) >= 0:
                    new[symbol] = jets.total_by_counts(right, more)
                    break
        if not new:
            return sp.expand(expr)
        expr = cast("sp.Expr", expr.xreplace(new))
    return sp.expand(expr)
