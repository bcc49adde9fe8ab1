"""Symmetries with polynomial components, from the determining equations by exact linear algebra.

What is found is a basis of all such fields up to the given degree; that there are no others is not claimed. Symbols that are no
variables, such as a mass m, are real constants of which nothing is known: components may be fractions of them, and at single
values, such as m = 0, there may be more fields. Decimals are read as fractions.
Different roots, and exponentials whose exponents have no rational ratio, count as independent: where they are not, as sqrt(x y)
of sqrt(x) and sqrt(y), fields may be missed, and none is wrong.
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
            follows from it; and nothing of lower order follows from several equations together, or fields may be missed.
        degree: of the components, as polynomials in the variables together.
        times: functions with which all polynomials are tried.

    Raises:
        UnknownNameError: what an equation is solved for is no derivative.
        ErlangenError: there are no equations, a right side holds what is solved for, the ansatz is too large, or something is
            not rational in the variables with square roots and exponentials of them.
    """
    if not equations:
        raise ErlangenError("equations is empty; give at least one, such as {jets(u, t): jets(u, x, x)}")
    equations = {symbol: jets.expression(right) for symbol, right in equations.items()}
    leading: list[tuple[int, tuple[int, ...], sp.Expr]] = []
    for symbol, right in equations.items():
        place = jets.place(symbol)
        if place is None:
            raise UnknownNameError(f"{symbol} is no derivative of these variables; write jets(u, t) for u_t")
        leading.append((*place, right))
    for symbol, right in equations.items():
        if _replaced(jets, leading, right) is not None:
            raise ErlangenError(
                f"the equation of {symbol} holds derivatives that equations are solved for; solve for others"
            )

    def conditions(field: VectorField) -> list[sp.Expr]:
        return [_on_shell(jets, leading, field.prolonged(symbol - right)) for symbol, right in equations.items()]

    return _solve(jets, conditions, list(equations.values()), degree, times)


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
    >>> m, k = sp.symbols("m k")  # constants, of any value
    >>> len(variational_symmetries(jets, m * jets(x, t) ** 2 / 2 - k * x, 3))
    5

    Args:
        jets: the variables.
        lagrangian: L, of any order; rational in the variables, with square roots, exponentials, sines and cosines of them.
        degree: of the components, as polynomials in the variables together.
        strict: no boundary terms.
        times: functions with which all polynomials are tried, such as waves that solutions are made of; their frequency may
            be a symbol.

    Raises:
        ErlangenError: the ansatz is too large, or the Lagrangian is not of this kind.
    """
    lagrangian = jets.expression(lagrangian)

    def conditions(field: VectorField) -> list[sp.Expr]:
        change = field.prolonged(lagrangian) + lagrangian * jets.divergence(field.xi)
        return [change] if strict else list(jets.euler(change))

    return _solve(jets, conditions, [lagrangian], degree, times)


# --- linear algebra over fractions of the parameters -------------------------------------------------------------------
def _solve(
    jets: JetSpace,
    conditions: Callable[[VectorField], list[sp.Expr]],
    given: Sequence[sp.Expr],
    degree: int,
    times: Sequence[sp.Expr | int],
) -> list[VectorField]:
    """The fields of the ansatz for which all conditions, which are linear in the field, vanish."""
    check_integer("degree", degree, 0)
    monomials = sorted(sp.itermonomials(list(jets.symbols), degree), key=lambda m: (sp.total_degree(m), str(m)))
    waves = [jets.expression(f) for f in times]
    parameters = _parameters(jets, [*given, *waves])
    count = len(jets.independent)
    size = len(jets.symbols) * len(monomials) * len(waves)
    if not 0 < size <= MOST_UNKNOWNS:
        raise ErlangenError(
            f"degree = {degree}: {size} coefficients are unknown, 1 to {MOST_UNKNOWNS} are tried; "
            + ("lower the degree" if size else "times is empty")
        )
    functions = _independent([m * f for m in monomials for f in waves], parameters)
    slots = [(k, f) for k in range(len(jets.symbols)) for f in functions]
    unknowns: list[sp.Symbol] = [sp.Dummy(f"c{n}") for n in range(len(slots))]
    components: list[sp.Expr] = [sp.Integer(0)] * len(jets.symbols)
    for (k, function), c in zip(slots, unknowns, strict=True):
        components[k] += c * function
    field = VectorField(jets, tuple(components[:count]), tuple(components[count:]))
    matrix = _matrix(conditions(field), unknowns, parameters)
    found: list[VectorField] = []
    for vector in matrix.nullspace().rref()[0].to_Matrix().tolist():
        parts: list[sp.Expr] = [sp.Integer(0)] * len(jets.symbols)
        for (k, function), value in zip(slots, vector, strict=True):
            parts[k] += value * function
        found.append(VectorField(jets, tuple(parts[:count]), tuple(parts[count:])))
    return found


def _parameters(jets: JetSpace, given: Sequence[sp.Expr]) -> set[sp.Symbol]:
    """The symbols that are no variables. Constants that obey equations over the rationals are refused: none would be seen."""
    symbols = {cast("sp.Symbol", s) for expr in given for s in expr.free_symbols}
    found = symbols - set(jets.independent) - {s for expr in given for s in jets.jets_of(expr)}
    for expr in given:
        for atom in expr.atoms(sp.Pow, sp.Function, sp.NumberSymbol):
            whole = isinstance(atom, sp.Pow) and isinstance(atom.exp, sp.Integer)
            if not whole and atom.free_symbols <= found:
                raise ErlangenError(
                    f"{atom}: constants are fractions of integers and symbols; write a symbol for it, such as w, and in place of"
                    " its square w**2"
                )
    return found


def _independent(functions: list[sp.Expr], parameters: set[sp.Symbol]) -> list[sp.Expr]:
    """The functions without those that others make up, such as 1 after sin^2 and cos^2."""
    unknowns: list[sp.Symbol] = [sp.Dummy() for _ in functions]
    whole = sp.Add(*(c * f for c, f in zip(unknowns, functions, strict=True)))
    return [functions[k] for k in _matrix([whole], unknowns, parameters).rref()[1]]


def _matrix(conditions: Iterable[sp.Expr], unknowns: list[sp.Symbol], parameters: set[sp.Symbol]) -> DomainMatrix:
    rows = [row for expr in conditions for row in _rows(expr, unknowns, parameters)]
    return DomainMatrix.from_Matrix(sp.Matrix(rows or [[0] * len(unknowns)])).to_field()


def _rows(expr: sp.Expr, unknowns: list[sp.Symbol], parameters: set[sp.Symbol]) -> Iterable[list[sp.Expr]]:
    """Linear equations for the unknowns that say that an expression vanishes identically in all that is no parameter."""
    expr, roots = _without_roots(_without_waves(expr))
    top = _without_denominators(expr)
    for symbol, square in roots.items():
        # Odd and even powers of a root are independent; even ones are polynomials.
        top = sp.expand(sp.rem(top, symbol**2 - square, symbol))
    if top == 0:
        return
    symbols = sorted(top.free_symbols, key=str)
    others = [s for s in symbols if s not in parameters and s not in unknowns]
    if not top.is_polynomial(*symbols):
        odd = sorted(str(atom) for atom in top.atoms(sp.Function, sp.Pow) if not atom.is_polynomial(*symbols))
        raise ErlangenError(
            f"{', '.join(odd[:3])}: symmetries are sought where all is rational in the variables, square roots, and exponentials"
        )
    terms = sp.Poly(top, *others).as_dict().values() if others else [top]
    for term in terms:
        row = [sp.diff(term, c) for c in unknowns]
        # Unknowns and parameters are real, so that real and imaginary parts are equations of their own.
        imaginary = [cast("sp.Expr", sp.expand(value).coeff(sp.I)) for value in row]
        real = [cast("sp.Expr", sp.expand(value - sp.I * part)) for value, part in zip(row, imaginary, strict=True)]
        for part in (real, imaginary):
            if any(part):
                yield part


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


def _on_shell(jets: JetSpace, leading: list[tuple[int, tuple[int, ...], sp.Expr]], expr: sp.Expr) -> sp.Expr:
    """An expression in which no derivative is left that equations are solved for."""
    for _ in range(50):
        further = _replaced(jets, leading, expr)
        if further is None:
            return sp.expand(expr)
        expr = further
    raise ErlangenError("derivatives that equations are solved for come back in what replaces them; solve for others")


def _replaced(jets: JetSpace, leading: list[tuple[int, tuple[int, ...], sp.Expr]], expr: sp.Expr) -> sp.Expr | None:
    """One step of it; none where nothing is to be done."""
    new: dict[sp.Basic, sp.Basic] = {}
    for symbol in jets.jets_of(expr):
        place = jets.place(symbol)
        assert place is not None
        for a, counts, right in leading:
            more = [n - m for n, m in zip(place[1], counts, strict=True)]
            if place[0] == a and min(more) >= 0:
                new[symbol] = jets.total_by_counts(right, more)
                break
    return cast("sp.Expr", expr.xreplace(new)) if new else None
