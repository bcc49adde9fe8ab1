"""Jets: functions and their derivatives as coordinates, and the calculus on them.

Olver, "Applications of Lie Groups to Differential Equations", chapters 2, 4 and 5. All expressions are of sympy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp
from sympy.core.function import AppliedUndef

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError


class JetSpace:
    """Independent variables, dependent ones, and symbols for all derivatives of these.

    >>> jets = JetSpace("t x", "u")
    >>> t, x, u = jets.symbols
    >>> jets(u, x, t) == jets(u, t, x), jets.total(u * jets(u, x), t)
    (True, u*u_tx + u_t*u_x)

    Args:
        independent, dependent: names, as a list or with spaces between them.

    Raises:
        ErlangenError: a name is no identifier, holds an underscore, or stands twice; or there are none of a kind.
    """

    def __init__(self, independent: str | Sequence[str], dependent: str | Sequence[str]) -> None:
        groups = [names.split() if isinstance(names, str) else list(names) for names in (independent, dependent)]
        every = [name for names in groups for name in names]
        if not all(groups):
            raise ErlangenError(
                "JetSpace needs at least one independent and one dependent variable, such as ('t', 'x')"
            )
        for name in every:
            if not name.isidentifier() or "_" in name or every.count(name) > 1:
                raise ErlangenError(f"{name!r}: give every variable a name of its own, without underscores")
        self.independent = tuple(sp.Symbol(name) for name in groups[0])
        self.dependent = tuple(sp.Symbol(name) for name in groups[1])
        self._places: dict[sp.Symbol, tuple[int, tuple[int, ...]]] = {}
        for u in self.dependent:
            self(u)

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        """The independent and the dependent variables."""
        return (*self.independent, *self.dependent)

    def __call__(self, u: sp.Symbol, *by: sp.Symbol) -> sp.Symbol:
        """The symbol of a derivative of a dependent variable; their order does not matter.

        Raises:
            UnknownNameError: `u` is no dependent variable, or one of `by` no independent one.
        """
        if u not in self.dependent:
            raise UnknownNameError(f"{u} is no dependent variable; these are {', '.join(map(str, self.dependent))}")
        counts = Counter(map(self._number, by))
        return self._symbol(self.dependent.index(u), tuple(counts[i] for i in range(len(self.independent))))

    def expression(self, given: sp.Expr | float) -> sp.Expr:
        """What is given as an expression with exact numbers: decimals become the fractions that they are printed as.

        >>> jets = JetSpace("t", "x")
        >>> jets.expression(0.1 * jets.dependent[0])
        x/10

        All that takes expressions reads them so. Other symbols, such as a mass, are constants.

        Raises:
            ErlangenError: it is no expression, is not finite, or holds what looks like a variable and is none: a symbol of the
                same name with assumptions, a derivative that was not made by calling this space, or a function such as x(t).
        """
        expr = sp.sympify(given)
        if not isinstance(expr, sp.Expr):
            raise ErlangenError(f"{given} is no expression of sympy; an equation is given as what vanishes, or solved")
        if expr.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            raise ErlangenError(f"{expr} is not finite")
        if expr.has(sp.Float):
            expr = sp.nsimplify(expr, rational=True)
        for function in expr.atoms(AppliedUndef):
            if function.func.__name__ in map(str, self.symbols):
                raise ErlangenError(f"{function}: write the symbols of JetSpace, and jets(u, t) for derivatives")
        tails = re.compile(f"({'|'.join(map(str, self.dependent))})(_({'|'.join(map(str, self.independent))})+)?")
        for symbol in expr.free_symbols - set(self.independent) - set(self._places):
            if not isinstance(symbol, sp.Dummy) and (
                str(symbol) in map(str, self.independent) or tails.fullmatch(str(symbol))
            ):
                raise ErlangenError(
                    f"{symbol} is no symbol of this JetSpace, though it has such a name; take variables from jets.symbols, which"
                    " have no assumptions, and derivatives from calls such as jets(u, t)"
                )
        return expr

    # --- calculus ----------------------------------------------------------------------------------------------------
    def place(self, symbol: sp.Symbol) -> tuple[int, tuple[int, ...]] | None:
        """Of a derivative the number of the variable, and how often it is derived by each independent one; else none."""
        return self._places.get(symbol)

    def jets_of(self, expr: sp.Expr) -> list[sp.Symbol]:
        """Dependent variables and derivatives in an expression, by name."""
        return sorted((s for s in expr.atoms(sp.Symbol) if s in self._places), key=str)

    def total(self, expr: sp.Expr | float, *by: sp.Symbol) -> sp.Expr:
        """The total derivative, by one variable or by several in turn.

        Raises:
            UnknownNameError: one of `by` is no independent variable.
        """
        expr = sp.sympify(expr)
        for i in map(self._number, by):
            parts = [sp.diff(expr, s) * self._raised(s, i) for s in self.jets_of(expr)]
            expr = sp.diff(expr, self.independent[i]) + sp.Add(*parts)
        return expr

    def total_by_counts(self, expr: sp.Expr, counts: Sequence[int]) -> sp.Expr:
        """The total derivative, ``counts[i]`` times by each independent variable."""
        return self.total(expr, *(x for x, n in zip(self.independent, counts, strict=True) for _ in range(n)))

    def divergence(self, current: Sequence[sp.Expr | float]) -> sp.Expr:
        """The sum of total derivatives of components, one for each independent variable.

        Raises:
            ShapeError: another number of components.
        """
        self._check_count("current", current, self.independent)
        return sp.Add(*(self.total(p, x) for p, x in zip(current, self.independent, strict=True)))

    def euler(self, lagrangian: sp.Expr | float) -> tuple[sp.Expr, ...]:
        """The Euler operator: left sides of the Euler-Lagrange equations, one for each dependent variable (Olver 4.3).

        Zero for divergences and for nothing else.
        """
        lagrangian = self.expression(lagrangian)
        found: list[sp.Expr] = [sp.Integer(0)] * len(self.dependent)
        for symbol in self.jets_of(lagrangian):
            a, counts = self._places[symbol]
            found[a] += (-1) ** sum(counts) * self.total_by_counts(sp.diff(lagrangian, symbol), counts)
        return tuple(sp.expand(one) for one in found)

    # --- private -----------------------------------------------------------------------------------------------------
    def _number(self, x: sp.Symbol) -> int:
        if x not in self.independent:
            raise UnknownNameError(f"{x} is no independent variable; these are {', '.join(map(str, self.independent))}")
        return self.independent.index(x)

    def _symbol(self, a: int, counts: tuple[int, ...]) -> sp.Symbol:
        behind = "".join(str(x) * n for x, n in zip(self.independent, counts, strict=True))
        symbol = sp.Symbol(f"{self.dependent[a]}_{behind}") if behind else self.dependent[a]
        if self._places.setdefault(symbol, (a, counts)) != (a, counts):
            raise ErlangenError(f"{symbol} stands for two derivatives; give independent variables names of one letter")
        return symbol

    def _raised(self, symbol: sp.Symbol, i: int) -> sp.Symbol:
        a, counts = self._places[symbol]
        return self._symbol(a, (*counts[:i], counts[i] + 1, *counts[i + 1 :]))

    def _check_count(self, name: str, given: Sequence[object], needed: Sequence[sp.Symbol]) -> None:
        if len(given) != len(needed):
            raise ShapeError(f"{name} has {len(given)} components; pass one for each of {', '.join(map(str, needed))}")


@dataclass(frozen=True)
class VectorField:
    """``sum_i xi_i d/dx_i + sum_a phi_a d/du_a`` on variables; with derivatives in `phi`, a generalised symmetry.

    >>> jets = JetSpace("t", "x")
    >>> t, x = jets.symbols
    >>> boost = VectorField(jets, (0,), (t,))
    >>> boost.prolonged(jets(x, t) ** 2 / 2)
    x_t

    Args:
        jets: the space of variables.
        xi: components along independent variables.
        phi: components along dependent ones.

    Raises:
        ShapeError: another number of components.
        ErlangenError: a component is refused by `JetSpace.expression`.
    """

    jets: JetSpace
    xi: tuple[sp.Expr, ...]
    phi: tuple[sp.Expr, ...]

    def __post_init__(self) -> None:
        self.jets._check_count("xi", self.xi, self.jets.independent)  # pyright: ignore[reportPrivateUsage]
        self.jets._check_count("phi", self.phi, self.jets.dependent)  # pyright: ignore[reportPrivateUsage]
        object.__setattr__(self, "xi", tuple(map(self.jets.expression, self.xi)))
        object.__setattr__(self, "phi", tuple(map(self.jets.expression, self.phi)))

    @property
    def is_point(self) -> bool:
        """Whether the components hold no derivatives, so that the field moves points."""
        found = {s for expr in (*self.xi, *self.phi) for s in self.jets.jets_of(expr)}
        return found <= set(self.jets.dependent)

    @property
    def characteristic(self) -> tuple[sp.Expr, ...]:
        """``Q_a = phi_a - sum_i xi_i u_a,i``: how fast the field moves a function at a fixed place."""
        jets = self.jets
        return tuple(
            phi - sp.Add(*(xi * jets(u, x) for xi, x in zip(self.xi, jets.independent, strict=True)))
            for phi, u in zip(self.phi, jets.dependent, strict=True)
        )

    def prolonged(self, expr: sp.Expr | float) -> sp.Expr:
        """The derivative of an expression in jets along the field (Olver 2.39)."""
        jets, expr = self.jets, sp.sympify(expr)
        moved: sp.Expr = sp.Add(*(xi * jets.total(expr, x) for xi, x in zip(self.xi, jets.independent, strict=True)))
        Q = self.characteristic
        for symbol in jets.jets_of(expr):
            place = jets.place(symbol)
            assert place is not None
            moved += sp.diff(expr, symbol) * jets.total_by_counts(Q[place[0]], place[1])
        return sp.expand(moved)

    def bracket(self, other: VectorField) -> VectorField:
        """The commutator ``[self, other]`` of two fields that move points.

        Raises:
            ErlangenError: a field depends on derivatives, or the spaces differ.
        """
        if self.jets is not other.jets or not self.is_point or not other.is_point:
            raise ErlangenError("brackets are of fields on the variables of one JetSpace, without derivatives in them")
        mine, theirs = (*self.xi, *self.phi), (*other.xi, *other.phi)

        def along(field: Sequence[sp.Expr], expr: sp.Expr) -> sp.Expr:
            return sp.Add(*(part * sp.diff(expr, x) for part, x in zip(field, self.jets.symbols, strict=True)))

        both = [sp.expand(along(mine, b) - along(theirs, a)) for a, b in zip(mine, theirs, strict=True)]
        count = len(self.xi)
        return VectorField(self.jets, tuple(both[:count]), tuple(both[count:]))

    def __str__(self) -> str:
        pairs = zip((*self.xi, *self.phi), self.jets.symbols, strict=True)
        return " + ".join(f"({value})*d_{x}" for value, x in pairs if value != 0) or "0"
