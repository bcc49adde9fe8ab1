"""Conserved currents: Noether's first theorem with its boundary terms (Olver 4.29 and 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from erlangen.equations.jets import JetSpace, VectorField
from erlangen.errors import ErlangenError


def noether_current(
    field: VectorField, lagrangian: sp.Expr, boundary: Sequence[sp.Expr | float] | None = None
) -> tuple[sp.Expr, ...]:
    """The current P of a variational symmetry, with ``Div P = sum_a Q_a E_a(L)``, so that it is conserved on solutions.

    >>> jets = JetSpace("t x", "u")
    >>> t, x, u = jets.symbols
    >>> wave = (jets(u, t) ** 2 - jets(u, x) ** 2) / 2
    >>> noether_current(VectorField(jets, (0, 0), (1,)), wave)
    (-u_t, u_x)

    Args:
        field: a symmetry of the action; components with derivatives are a generalised one.
        lagrangian: L, of any order.
        boundary: B with ``pr v(L) + L Div xi = Div B``, a component for each independent variable. Found by `as_divergence`
            where it can be.

    Returns:
        A component for each independent variable: densities and fluxes ``B - L xi - sum of what integration by parts leaves``.

    Raises:
        ErlangenError: the field is no symmetry of this action, or `boundary` is not its boundary term.
    """
    jets = field.jets
    lagrangian = jets.expression(lagrangian)
    change = sp.expand(field.prolonged(lagrangian) + lagrangian * jets.divergence(field.xi))
    edge = as_divergence(jets, change) if boundary is None else tuple(map(jets.expression, boundary))
    if sp.simplify(jets.divergence(edge) - change) != 0:
        raise ErlangenError(
            f"boundary {edge} does not have the divergence {change} that this field adds to the Lagrangian"
        )
    parts = _by_parts(jets, lagrangian, field.characteristic)
    current = tuple(sp.expand(b - lagrangian * xi - a) for b, xi, a in zip(edge, field.xi, parts, strict=True))
    equations = jets.euler(lagrangian)
    on_shell = sp.Add(*(q * e for q, e in zip(field.characteristic, equations, strict=True)))
    if sp.simplify(jets.divergence(current) - on_shell) != 0:
        raise ErlangenError("the current does not close: sympy cannot show that its divergence vanishes on solutions")
    return current


def as_divergence(jets: JetSpace, expr: sp.Expr | float) -> tuple[sp.Expr, ...]:
    """B with ``Div B = expr``, by the homotopy that shrinks dependent variables to zero.

    >>> jets = JetSpace("t x", "u")
    >>> t, x, u = jets.symbols
    >>> as_divergence(jets, jets.total(u * jets(u, x), t))
    (u*u_x, 0)

    Any two answers differ by something without divergence, as this one does from ``(u u_x/2, u u_t/2)``.

    Raises:
        ErlangenError: the expression is no divergence, or has no value where the dependent variables are zero; then the
            boundary term has to be given.
    """
    whole: sp.Expr = sp.expand(jets.expression(expr))
    if whole == 0:
        return (sp.Integer(0),) * len(jets.independent)
    if any(sp.simplify(one) != 0 for one in jets.euler(whole)):
        raise ErlangenError(f"{whole} is no divergence: its Euler-Lagrange equations are not empty")
    symbols = jets.jets_of(whole)
    rest = whole.subs(dict.fromkeys(symbols, 0))
    if not rest.is_finite and rest.has(sp.zoo, sp.nan, sp.oo):
        raise ErlangenError(f"{whole} has no value where the dependent variables are zero; give boundary= yourself")
    shrink = sp.Dummy("s", positive=True)
    parts = _by_parts(jets, whole, jets.dependent)
    found: list[sp.Expr] = []
    for part in parts:
        scaled = part.subs({s: shrink * s for s in jets.jets_of(part)}, simultaneous=True)
        found.append(sp.expand(sp.integrate(sp.expand(sp.cancel(scaled / shrink)), (shrink, 0, 1))))
    found[0] += sp.integrate(rest, jets.independent[0])
    if sp.simplify(jets.divergence(found) - whole) != 0:
        raise ErlangenError(f"{whole} is a divergence that this homotopy does not find; give boundary= yourself")
    return tuple(found)


def _by_parts(jets: JetSpace, lagrangian: sp.Expr, Q: Sequence[sp.Expr]) -> list[sp.Expr]:
    """A with ``pr v_Q(L) = Q . E(L) + Div A``: derivatives are moved off Q one by one."""
    found: list[sp.Expr] = [sp.Integer(0)] * len(jets.independent)
    for symbol in jets.jets_of(lagrangian):
        place = jets.place(symbol)
        assert place is not None
        a, counts = place[0], list(place[1])
        factor = sp.diff(lagrangian, symbol)
        for i, x in enumerate(jets.independent):
            while counts[i]:
                counts[i] -= 1
                found[i] += jets.total_by_counts(Q[a], counts) * factor
                factor = -jets.total(factor, x)
    return [sp.expand(one) for one in found]
