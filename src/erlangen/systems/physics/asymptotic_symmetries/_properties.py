"""What holds identically, by sympy, or to rounding, by modes on the circle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import sympy as sp
import torch
from torch import Generator, Tensor

from erlangen.equations import CircleMap, JetSpace, VectorField
from erlangen.equations.circle import circle_points, derivative, hill_trace
from erlangen.groups import Lorentz
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.survey.property_claims import Property
from erlangen.systems.physics.asymptotic_symmetries.method import (
    Vacuum,
    antipodal,
    bracket,
    celestial_map,
    central_term,
    change,
    charge,
    lie_derivative,
    phi,
    preserving_vector,
    ricci,
    u,
    vacuum,
)

THETA, XI, T1, Y1, T2, Y2, T3, Y3 = (
    sp.Function(name)(phi) for name in ("Theta", "Xi", "T1", "Y1", "T2", "Y2", "T3", "Y3")
)
"""Any functions of the angle."""

MODES = 6
"""Largest mode of random functions, so that products of three stay far below what the grid tells apart."""


# --- random functions -------------------------------------------------------------------------------------------------
def wave(generator: Generator, size: float = 1.0, falling: float = 1.0) -> Tensor:
    """A random function on the grid, whose modes fall with their number."""
    angle = circle_points()
    found = size * torch.randn((), generator=generator, dtype=torch.float64).expand(len(angle))
    for n in range(1, MODES + 1):
        a, b = size * torch.randn(2, generator=generator, dtype=torch.float64) / n ** (1 + falling)
        found = found + a * (n * angle).cos() + b * (n * angle).sin()
    return found


def circle_map(generator: Generator) -> CircleMap:
    """A random diffeomorphism, with a slope between about a half and one and a half."""
    sizes = torch.randn(2, MODES, generator=generator, dtype=torch.float64).clamp(-2, 2)
    sine, cosine = (0.1 * sizes / torch.arange(1, MODES + 1) ** 2).tolist()
    return CircleMap.from_modes(sine, cosine, turn=float(torch.rand((), generator=generator)))


def space(generator: Generator) -> Vacuum:
    """A random vacuum."""
    return Vacuum(wave(generator) - 0.5, wave(generator))


def numeric_change(T: Tensor, Y: Tensor, at: Vacuum) -> tuple[Tensor, Tensor]:
    """`change` on the grid."""

    def d(f: Tensor, n: int = 1) -> Tensor:
        for _ in range(n):
            f = derivative(f)
        return f

    return (
        Y * d(at.theta) + 2 * d(Y) * at.theta - 2 * d(Y, 3),
        Y * d(at.xi) + 2 * d(Y) * at.xi + T * d(at.theta) / 2 + d(T) * at.theta - d(T, 3),
    )


def lorentz(generator: Generator, size: float = 0.3) -> Tensor:
    """A random Lorentz transformation of (t, x, y), float64 ``[3, 3]``."""
    group = Lorentz(1, 2)
    return group.exp(size * torch.randn(group.dim, generator=generator, dtype=torch.float64))


def apart(a: Vacuum, b: Vacuum) -> float:
    """The largest difference of aspects."""
    return max(float((a.theta - b.theta).abs().max()), float((a.xi - b.xi).abs().max()))


def nonzero(entries: Any) -> float:
    """How many expressions do not vanish identically."""
    return float(sum(sp.simplify(sp.expand(entry)) != 0 for entry in entries))


# --- jets -------------------------------------------------------------------------------------------------------------
@exact(tol=0)
def divergences_have_no_equations(run: Run[Any]) -> float:
    """Euler-Lagrange equations that do not vanish identically, of divergences of polynomial currents in t, x, u and v."""
    jets = JetSpace("t x", "u v")
    t, x, a, b = jets.symbols
    parts = (a * jets(b, x), jets(a, t) ** 2, t * b**2 * jets(a, x, x), x * jets(a, t) * jets(b, x), a**3 * t)
    return nonzero(e for pair in itertools.permutations(parts, 2) for e in jets.euler(jets.divergence(pair)))


@exact(tol=0)
def total_derivatives_commute(run: Run[Any]) -> float:
    """Expressions in jets for which derivatives by t and by x in either order are not identical."""
    jets = JetSpace("t x", "u")
    t, x, a = jets.symbols
    tried = (a * jets(a, x), sp.sin(a) * jets(a, t), t * x * jets(a, x, x) ** 2, sp.exp(jets(a, t)))
    return nonzero(jets.total(e, t, x) - jets.total(jets.total(e, x), t) for e in tried)


@exact(tol=0)
def prolongation_is_the_slope_of_the_flow(run: Run[Any]) -> float:
    """First and second derivatives of a curve, turned in the plane, whose change the prolonged field does not give."""
    jets = JetSpace("x", "u")
    x, a = jets.symbols
    turn = VectorField(jets, (-a,), (x,))
    angle = sp.Symbol("angle")
    one, two = jets(a, x), jets(a, x, x)
    # A curve (x, u(x)) turned by an angle has the slope (sin + u_x cos) / (cos - u_x sin), and so on.
    across = sp.cos(angle) - one * sp.sin(angle)
    slope = (sp.sin(angle) + one * sp.cos(angle)) / across
    bend = two / across**3
    return nonzero(
        sp.diff(curve, angle).subs(angle, 0) - turn.prolonged(jet) for curve, jet in ((slope, one), (bend, two))
    )


# --- vacua ------------------------------------------------------------------------------------------------------------
@exact(tol=0)
def vacua_are_flat(run: Run[Any]) -> float:
    """Components of Ricci's tensor that do not vanish identically, for any Theta and Xi, at future and past infinity."""
    return nonzero(entry for at in ("future", "past") for entry in ricci(vacuum(THETA, XI, at)))


@exact(tol=0)
def vectors_keep_the_form(run: Run[Any]) -> float:
    """Components of the Lie derivative of the metric that are not those of changed aspects, at future and past infinity."""
    theta, xi = change(T1, Y1, THETA, XI)
    want = sp.zeros(3, 3)
    want[0, 0] = theta
    want[0, 2] = want[2, 0] = xi + u * sp.diff(theta, phi) / 2
    return nonzero(
        entry
        for at in ("future", "past")
        for entry in lie_derivative(vacuum(THETA, XI, at), preserving_vector(T1, Y1, THETA, XI, at)) - want
    )


@exact(tol=0)
def transformations_close(run: Run[Any]) -> float:
    """Components of [delta_1, delta_2] + delta_[1,2] on Theta and Xi that do not vanish identically."""
    small = sp.Symbol("small")

    def after(first: tuple[sp.Expr, sp.Expr], second: tuple[sp.Expr, sp.Expr]) -> list[sp.Expr]:
        """The expression of the second change, its fields varied by the first."""
        dtheta, dxi = change(*first, THETA, XI)
        moved = [
            e.subs({THETA: THETA + small * dtheta, XI: XI + small * dxi}).doit() for e in change(*second, THETA, XI)
        ]
        return [sp.diff(sp.expand(e), small).subs(small, 0) for e in moved]

    first, second = (T1, Y1), (T2, Y2)
    along = change(*bracket(first, second), THETA, XI)
    return nonzero(a - b + c for a, b, c in zip(after(first, second), after(second, first), along, strict=True))


@exact(tol=0)
def brackets_obey_jacobi(run: Run[Any]) -> float:
    """Components of the Jacobi identity of BMS3 that do not vanish identically."""
    a, b, c = (T1, Y1), (T2, Y2), (T3, Y3)
    terms = (bracket(bracket(x, y), z) for x, y, z in ((a, b, c), (b, c, a), (c, a, b)))
    return nonzero(sp.Add(*parts) for parts in zip(*terms, strict=True))


# --- charges ----------------------------------------------------------------------------------------------------------
def mode(n: int, kind: str) -> tuple[sp.Expr, sp.Expr]:
    """The generator ``e^(i n phi)``: P_n of supertranslations, J_n of superrotations."""
    value = sp.exp(sp.I * n * phi)
    return (value, sp.Integer(0)) if kind == "P" else (sp.Integer(0), value)


@exact(tol=0)
def modes_have_the_algebra(run: Run[Any]) -> float:
    """Pairs of modes up to 3 for which i [J_m, J_n], i [J_m, P_n], i [P_m, P_n] are not (m - n) J, (m - n) P and 0."""
    wrong = 0.0
    for m, n in itertools.product(range(-3, 4), repeat=2):
        for one, two, kind in (("J", "J", "J"), ("J", "P", "P"), ("P", "P", "P")):
            found = bracket(mode(m, one), mode(n, two))
            factor = 0 if one == "P" else m - n
            wrong += nonzero(sp.I * f - factor * w for f, w in zip(found, mode(m + n, kind), strict=True)) > 0
    return wrong


def _central(first: str, second: str, expected: float) -> float:
    """c with ``c m^3 / 12`` the central term of i {first_m, second_-m}, at G = 1; the one farthest from `expected`, m up to 6."""
    found = [
        complex(sp.simplify(12 * sp.I * central_term(mode(m, first), mode(-m, second)) / m**3)) for m in range(1, 7)
    ]
    worst = max(found, key=lambda c: abs(c - expected))
    return worst.real + abs(worst.imag)


@number(3, tol=1e-12, published="c2 = 3 / G")
def central_charge_of_both(run: Run[Any]) -> float:
    """c2, in units of 1/G: of superrotations with supertranslations."""
    return _central("J", "P", 3)


@number(0, tol=1e-12, published="c1 = 0")
def central_charge_of_superrotations(run: Run[Any]) -> float:
    """c1: of superrotations among themselves."""
    return _central("J", "J", 0)


@exact(tol=1e-12)
def the_central_term_is_a_cocycle(run: Run[Any]) -> float:
    """Largest value of K + K^T, and of K([1, 2], 3) + cyclic, over modes -2, -1, 1 and 3 of both kinds."""
    basis = [mode(n, kind) for kind in "JP" for n in (-2, -1, 1, 3)]
    worst = [abs(complex(central_term(a, b) + central_term(b, a))) for a in basis for b in basis]
    for a, b, c in itertools.combinations(basis, 3):
        cyclic = (central_term(bracket(x, y), z) for x, y, z in ((a, b, c), (b, c, a), (c, a, b)))
        worst.append(abs(complex(sp.simplify(sp.Add(*cyclic)))))
    return largest(worst)


@exact(tol=1e-10)
def charges_vary_by_the_bracket(run: Run[Any]) -> float:
    """Largest difference of delta_2 Q_1 to Q_[1,2] + K_12, over 20 random vacua and generators; values are of order one."""
    generator = run.generator()

    def one() -> float:
        where, (Ta, Ya, Tb, Yb) = space(generator), (wave(generator) for _ in range(4))
        varied = Vacuum(*numeric_change(Tb, Yb, where)).charge(Ta, Ya)
        d = derivative
        T = Ya * d(Tb) - Yb * d(Ta) + Ta * d(Yb) - Tb * d(Ya)
        Y = Ya * d(Yb) - Yb * d(Ya)
        central = -(Ta * d(d(d(Yb))) + Ya * d(d(d(Tb)))).mean() / 4
        return float((varied - where.charge(T, Y) - central).abs())

    return largest(one() for _ in range(20))


@number(-0.125, tol=1e-12)
def energy_of_minkowski_space(run: Run[Any]) -> float:
    """The energy Q[1, 0] of Theta = -1, in units of 1/G."""
    return float(charge(sp.Integer(1), sp.Integer(0), sp.Integer(-1), sp.Integer(0)))


# --- finite motions ---------------------------------------------------------------------------------------------------
@exact(tol=1e-8)
def superrotations_are_a_group(run: Run[Any]) -> float:
    """Largest difference of aspects moved by g and then h to those moved by g h, over 10 random maps and vacua."""
    generator = run.generator()

    def one() -> float:
        where, g, h = space(generator), circle_map(generator), circle_map(generator)
        return apart(where.superrotated(g).superrotated(h), where.superrotated(g.compose(h)))

    return largest(one() for _ in range(10))


@exact(tol=1e-6)
def small_motions_are_changes(run: Run[Any]) -> float:
    """Largest difference of aspects, over the step, moved by small maps and supertranslations to the infinitesimal change, by \
    central differences with the step 1e-4."""
    generator = run.generator()
    step = 1e-4

    def one() -> float:
        where, T, Y = space(generator), wave(generator), wave(generator, falling=2.0)
        there, back = (where.superrotated(CircleMap(s * step * Y)).supertranslated(s * step * T) for s in (1, -1))
        slope = Vacuum((there.theta - back.theta) / (2 * step), (there.xi - back.xi) / (2 * step))
        want = Vacuum(*numeric_change(T, Y, where))
        return apart(slope, want) / max(1.0, float(want.xi.abs().max()), float(want.theta.abs().max()))

    return largest(one() for _ in range(5))


@exact(tol=1e-8)
def lorentz_transformations_leave_minkowski_space(run: Run[Any]) -> float:
    """Largest change of Theta = -1, Xi = 0 under 10 random Lorentz transformations and translations, at both infinities."""
    generator = run.generator()
    flat, angle = Vacuum.constant(-1.0), circle_points()

    def one(at: Any) -> float:
        a, b, c = torch.randn(3, generator=generator, dtype=torch.float64)
        moved = flat.supertranslated(a + b * angle.cos() + c * angle.sin())
        moved = moved.superrotated(celestial_map(lorentz(generator), at))
        return apart(moved, flat)

    return largest(one(at) for at in ("future", "past") for _ in range(10))


@bound(at_least=1e-3)
def minkowski_spaces_are_told_apart(run: Run[Any]) -> float:
    """Smallest distance of charges, by modes up to 6, among 12 Minkowski spaces that are moved by random elements of BMS3."""
    generator = run.generator()
    spaces = [
        Vacuum.constant(-1.0).superrotated(circle_map(generator)).supertranslated(wave(generator)) for _ in range(12)
    ]
    modes = torch.stack(
        [torch.cat([torch.fft.rfft(f)[: MODES + 1] / len(f) for f in (s.theta, 2 * s.xi)]) for s in spaces]
    )
    distances = (modes[:, None] - modes[None]).abs().square().sum(-1).sqrt() / 8
    return float((distances + 1e9 * torch.eye(len(spaces))).min())


@exact(tol=1e-8)
def the_monodromy_of_hill_is_invariant(run: Run[Any]) -> float:
    """Largest change of the trace of the monodromy of psi'' = Theta/4 psi, over 20 random Theta and maps."""
    generator = run.generator()

    def one() -> float:
        where = space(generator)
        moved = where.superrotated(circle_map(generator))
        return float((hill_trace(where.theta) - hill_trace(moved.theta)).abs())

    return largest(one() for _ in range(20))


@exact(tol=1e-10)
def traces_of_defects(run: Run[Any]) -> float:
    """Largest difference of the trace of Theta = -a^2 to 2 cos(pi a), a from 0.1 to 1; in Minkowski space it is -2."""
    shares = [k / 10 for k in range(1, 11)]
    return largest(
        abs(float(hill_trace(torch.full((256,), -a * a, dtype=torch.float64))) - 2 * math.cos(math.pi * a))
        for a in shares
    )


# --- matching ---------------------------------------------------------------------------------------------------------
def defect(at: Any, transformation: Tensor, translation: Tensor) -> Vacuum:
    """A spinning conical defect after a translation ``(a0, a1, a2)`` and a Lorentz transformation, as seen at one infinity."""
    angle = circle_points()
    sign = 1 if at == "future" else -1
    still = Vacuum.constant(-0.49, 0.2)
    time, x, y = translation
    moved = time - sign * (x * angle.cos() + y * angle.sin())
    return still.supertranslated(moved).superrotated(celestial_map(transformation, at))


@exact(tol=1e-8)
def boosted_defects_match(run: Run[Any]) -> float:
    """Largest difference of past aspects at antipodes to future ones, of 20 boosted, translated, spinning conical defects."""
    generator = run.generator()

    def one() -> float:
        how = lorentz(generator), torch.randn(3, generator=generator, dtype=torch.float64)
        return apart(defect("future", *how), defect("past", *how).matched())

    return largest(one() for _ in range(20))


@bound(at_least=0.01)
def without_antipodes_they_do_not(run: Run[Any]) -> float:
    """Largest difference of past to future aspects at the same angles, of the same kind of defects."""
    generator = run.generator()
    how = lorentz(generator), torch.randn(3, generator=generator, dtype=torch.float64)
    return apart(defect("future", *how), defect("past", *how))


@exact(tol=1e-10)
def charges_are_conserved(run: Run[Any]) -> float:
    """Largest difference of Q[T, Y] at the future to Q[T A, Y A] at the past, of 20 moved spinning defects computed at both."""
    generator = run.generator()

    def one() -> float:
        how = lorentz(generator), torch.randn(3, generator=generator, dtype=torch.float64)
        T, Y = wave(generator), wave(generator)
        future, past = defect("future", *how), defect("past", *how)
        return float((future.charge(T, Y) - past.charge(antipodal(T), antipodal(Y))).abs())

    return largest(one() for _ in range(20))


@exact(tol=1e-8)
def motions_match(run: Run[Any]) -> float:
    """Difference of transforming, then matching, to matching, then transforming by A g A and T A, and of matching twice."""
    generator = run.generator()
    half = CircleMap(torch.full((256,), math.pi, dtype=torch.float64))

    def one() -> float:
        where, g, T = space(generator), circle_map(generator), wave(generator)
        there = where.supertranslated(T).superrotated(g).matched()
        here = where.matched().supertranslated(antipodal(T)).superrotated(half.compose(g).compose(half))
        return max(apart(there, here), apart(where.matched().matched(), where))

    return largest(one() for _ in range(10))


@exact(tol=1e-12)
def boosts_at_both_infinities_agree(run: Run[Any]) -> float:
    """Largest difference of what a Lorentz transformation does to light that comes in, and A g A of light that goes out."""
    generator = run.generator()

    def one() -> float:
        transformation = lorentz(generator)
        out, back = celestial_map(transformation, "future"), celestial_map(transformation, "past")
        turned = antipodal(out.shift) - back.shift
        return float((turned - 2 * math.pi * (turned / (2 * math.pi)).round()).abs().max())

    return largest(one() for _ in range(20))


@exact(tol=1e-10)
def momenta_of_defects_are_vectors(run: Run[Any]) -> float:
    """Largest difference of the means of F, F cos, F sin, F = Theta + 1, to the momentum of a mass 1 - a^2 boosted along x."""
    angle = circle_points()

    def one(a: float, speed: float) -> float:
        boost = torch.eye(3, dtype=torch.float64)
        boost[0, 0] = boost[1, 1] = math.cosh(speed)
        boost[0, 1] = boost[1, 0] = math.sinh(speed)
        F = Vacuum.constant(-a * a).superrotated(celestial_map(boost)).theta + 1
        want = (1 - a * a) * torch.tensor([math.cosh(speed), -math.sinh(speed), 0.0], dtype=torch.float64)
        return float((torch.stack([F.mean(), (F * angle.cos()).mean(), (F * angle.sin()).mean()]) - want).abs().max())

    return largest(one(a, speed) for a in (0.3, 0.7) for speed in (0.2, -0.8))


PROPERTIES = tuple(value for value in list(globals().values()) if isinstance(value, Property))
"""All of this file, in order."""
