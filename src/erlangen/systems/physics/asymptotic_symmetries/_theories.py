"""Eight Lagrangians with algebras of symmetries that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from erlangen.equations import JetSpace, VectorField, variational_symmetries


@dataclass(frozen=True)
class Theory:
    """A Lagrangian, and what is known of its symmetries.

    Attributes:
        make: the variables and the Lagrangian.
        degree: of the polynomials that components are sought among.
        known: the dimension of the algebra within that ansatz.
        reason: what it is made of.
        times: functions with which polynomials are tried, of the first independent variable.
    """

    make: Callable[[], tuple[JetSpace, sp.Expr]]
    degree: int
    known: int
    reason: str
    times: Callable[[sp.Symbol], tuple[sp.Expr | int, ...]] = lambda t: (1,)

    def symmetries(self) -> tuple[sp.Expr, list[VectorField]]:
        """The Lagrangian and a basis of what was found."""
        jets, lagrangian = self.make()
        return lagrangian, variational_symmetries(jets, lagrangian, self.degree, times=self.times(jets.independent[0]))


def _one(potential: Callable[[sp.Symbol], sp.Expr | int]) -> tuple[JetSpace, sp.Expr]:
    jets = JetSpace("t", "q")
    t, q = jets.symbols
    return jets, jets(q, t) ** 2 / 2 - potential(q)


def kepler() -> tuple[JetSpace, sp.Expr]:
    """A planet in the plane, with unit masses."""
    jets = JetSpace("t", "x y")
    t, x, y = jets.symbols
    return jets, (jets(x, t) ** 2 + jets(y, t) ** 2) / 2 + 1 / sp.sqrt(x**2 + y**2)


def runge_lenz() -> tuple[tuple[VectorField, sp.Expr, sp.Expr], ...]:
    """The two hidden symmetries of Kepler's problem with boundary terms, and ``v x L - r/|r|``; they hold velocities."""
    jets, _ = kepler()
    t, x, y = jets.symbols
    found: list[tuple[VectorField, sp.Expr, sp.Expr]] = []
    for a, b in ((x, y), (y, x)):
        va, vb = jets(a, t), jets(b, t)
        along = {a: b * vb, b: b * va - 2 * a * vb}
        edge = -a * vb**2 - a / sp.sqrt(x**2 + y**2) + b * va * vb
        vector = vb * (a * vb - b * va) - a / sp.sqrt(x**2 + y**2)
        found.append((VectorField(jets, (sp.Integer(0),), (along[x], along[y])), edge, vector))
    return tuple(found)


def _waves(mass: int) -> tuple[JetSpace, sp.Expr]:
    jets = JetSpace("t x", "u")
    t, x, u = jets.symbols
    return jets, (jets(u, t) ** 2 - jets(u, x) ** 2 - mass * u**2) / 2


def _korteweg_de_vries() -> tuple[JetSpace, sp.Expr]:
    jets = JetSpace("t x", "w")
    t, x, w = jets.symbols
    return jets, jets(w, x) * jets(w, t) / 2 + jets(w, x) ** 3 - jets(w, x, x) ** 2 / 2


def _complex_scalar() -> tuple[JetSpace, sp.Expr]:
    jets = JetSpace("t x", "u v")
    t, x, u, v = jets.symbols
    size = u**2 + v**2
    slopes = [jets(f, t) ** 2 - jets(f, x) ** 2 for f in (u, v)]
    return jets, (slopes[0] + slopes[1] - size - size**2) / 2


def _sphere() -> tuple[JetSpace, sp.Expr]:
    """Unit vectors: w is the multiplier that keeps their length."""
    jets = JetSpace("t x", "a b c w")
    t, x, *vector, w = jets.symbols
    slopes = [jets(f, t) ** 2 - jets(f, x) ** 2 for f in vector]
    return jets, (sp.Add(*slopes) - w * (sp.Add(*(f**2 for f in vector)) - 1)) / 2


THEORIES = {
    "free particle": Theory(lambda: _one(lambda q: 0), 2, 5, "shifts, boost, scaling, and the projective one"),
    "oscillator": Theory(
        lambda: _one(lambda q: q**2 / 2), 1, 5, "time, and waves of the frequency and of twice the frequency",
        lambda t: (1, sp.cos(t), sp.sin(t), sp.cos(2 * t), sp.sin(2 * t)),
    ),
    "Kepler": Theory(kepler, 1, 2, "time and turns"),
    "waves": Theory(lambda: _waves(0), 2, 11, "conformal ones on both light rays, 6, and solutions, 5, up to degree 2"),
    "KdV potential": Theory(_korteweg_de_vries, 2, 6, "time, place, boost, and shifts by 1, t and t^2"),
    "Klein-Gordon": Theory(lambda: _waves(1), 2, 3, "time, place, boost"),
    "complex scalar": Theory(_complex_scalar, 1, 4, "time, place, boost, and the phase"),
    "sphere": Theory(_sphere, 1, 7, "time, place, boost, scaling, and turns of the sphere, 3"),
}  # fmt: skip
"""By name."""
