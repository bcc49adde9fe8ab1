"""What is measured of dimensions at a fixed charge: curvature where they are real and where not, and three dimensions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from erlangen.survey import Part, Result, Run, properties, sweep
from erlangen.systems.physics.charge_convexity._casimir import casimir
from erlangen.systems.physics.charge_convexity._convexity import convexity
from erlangen.systems.physics.charge_convexity._properties import COMPLEX, GOLDSTONES, PHONON, PROPERTIES, proved
from erlangen.systems.physics.charge_convexity.method import BRANCH, CubicModel, MatrixModel, VectorModel, saddle
from erlangen.systems.physics.charge_convexity.rivals import MONTE_CARLO, leading_series, oscillator_energies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Callable[[int], Mapping[str, Any]]

DIGITS = 30

LEADING, BOTH = "least curvature, LO", "least curvature, LO + NLO"

REAL = ((20, 2, 1), (20, 2, 2), (40, 3, 1), (40, 3, 3))
"""N, M and s of matrix models with real couplings."""

QUARTICS = (0.1, 1.0, 10.0)
"""Of the oscillator."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        fields: N of the O(N) models.
        points: charges at which curvatures of O(N) are taken.
        eps: distances from four dimensions.
        charges: whole charges of the test of the conjecture.
        far: charges at which the curvature of Delta_0 of a matrix model is taken.
    """

    fields: tuple[int, ...]
    points: int
    eps: tuple[float, ...]
    charges: int
    far: int


BUDGETS = {
    "smoke": Budget((2, 8), 3, (0.1,), 4, 1),
    "full": Budget((2, 4, 8, 20), 40, (0.1, 0.3, 1.0), 20, 12),
    "paper": Budget((2, 3, 4, 6, 8, 12, 20, 100), 200, (0.05, 0.1, 0.2, 0.3, 0.5, 1.0), 40, 60),
}


# --- curvatures ------------------------------------------------------------------------------------------------------
@functools.cache
def parts_of_the_curvature(y: float) -> tuple[complex, complex, complex]:
    """Second derivatives by y = (4/3) gQ of g Delta_LO, and of Delta_0 of phonon and Goldstones, at the saddle of O(N).

    Delta_0 is a function of u; its derivatives are differences at 30 digits, on one branch, so that nothing is lost.
    """
    from mpmath import mp

    with mp.workdps(DIGITS + 10):
        rough = complex(saddle(y))
        u = mp.mpmathify(rough if rough.imag else rough.real)
        for _ in range(7):
            u -= (u**3 - u - y) / (3 * u * u - 1)
        slope = 1 / (3 * u * u - 1)
        h = mp.mpf(2) ** -24
        found: list[Any] = []
        for part in (PHONON, GOLDSTONES):
            low, middle, high = (casimir(part, u + k * h, digits=DIGITS) for k in (-1, 0, 1))
            first, second = (high - low) / (2 * h), (high + low - 2 * middle) / h**2
            # d^2/dy^2 = (1/(3u^2 - 1) d/du)^2
            found.append(complex(slope**2 * second - 6 * u * slope**3 * first))
        return complex(0.75 * slope), found[0], found[1]


def curvature(model: VectorModel, Q: float) -> tuple[complex, complex]:
    """d^2 Delta / dQ^2 to leading and next-to-leading order."""
    y = model.slope * Q
    # d Delta_LO / dQ = u, so that 0.75 (dy/dQ) (4/3) / (3 u^2 - 1) = slope / (3 u^2 - 1).
    leading, phonon, goldstones = parts_of_the_curvature(y)
    first = leading / 0.75 * model.slope
    return first, first + model.slope**2 * (phonon + (model.N / 2 - 1) * goldstones)


def curvature_row(model: VectorModel, charges: Any, sign: float) -> dict[str, Any]:
    """The least real curvature over charges, times a sign, scaled by the slope of y so that models compare."""
    pairs = [curvature(model, Q) for Q in charges]
    scale = sign / abs(model.slope)
    return {
        "charges": len(pairs),
        "from": float(charges[0]),
        "to": float(charges[-1]),
        LEADING: min(scale * first.real for first, _ in pairs),
        BOTH: min(scale * both.real for _, both in pairs),
        "most that NLO changes": max(abs((both - first) / first) for first, both in pairs),
    }


def below_part(run: Run[Budget]) -> Part:
    """O(N) in 4 - eps: convex, and the leading term decides."""
    b = run.budget

    def row(N: int, eps: float, _: int) -> Mapping[str, Any]:
        model = VectorModel(N, eps)
        return curvature_row(model, np.geomspace(0.01, 10, b.points) / model.coupling, 1.0)

    names = {f"O({N}), eps = {eps:g}": functools.partial(row, N, eps) for N in b.fields for eps in b.eps}
    table = sweep("4 - eps", names, run=run, once=True)
    return table.part(
        *(
            table.bound(
                f"convex-below-four-{short}",
                f"O(N) in 4 - eps: least d^2 Delta / dQ^2 over dy/dQ, {words}, for gQ from 0.01 to 10, over N and eps.",
                np.min([table[name, column] for name in names], axis=0),
                at_least=0,
                published="convex",
            )
            for short, column, words in (("lo", LEADING, "to leading order"), ("nlo", BOTH, "with Delta_0"))
        )
    )


def above_part(run: Run[Budget]) -> Part:
    """O(N) in 4 + eps: concave below the critical charge, complex with a convex real part beyond."""
    b = run.budget
    few = max(b.points // 2, 3)

    def below(N: int, eps: float, _: int) -> Mapping[str, Any]:
        model = VectorModel(N, eps, above=True)
        return curvature_row(model, model.critical_charge * np.linspace(0.05, 0.9, few), -1.0) | {"sign": "concave"}

    def beyond(N: int, eps: float, _: int) -> Mapping[str, Any]:
        model = VectorModel(N, eps, above=True)
        return curvature_row(model, model.critical_charge * np.geomspace(2, 50, few), 1.0) | {"sign": "convex"}

    names = {
        f"O({N}), eps = {eps:g}, {word}": functools.partial(method, N, eps)
        for word, method in (("below", below), ("beyond", beyond))
        for N in b.fields
        for eps in b.eps
    }
    table = sweep("4 + eps", names, run=run, once=True)

    def least(word: str, column: str) -> Any:
        return np.min([table[name, column] for name in names if name.endswith(word)], axis=0)

    return table.part(
        table.bound(
            "concave-below-the-critical-charge",
            "O(N) in 4 + eps: least -d^2 Delta_LO / dQ^2 over |dy/dQ| from 0.05 to 0.9 of the critical charge, over N and eps.",
            least("below", LEADING),
            at_least=0,
        ),
        table.bound(
            "real-part-is-convex-lo",
            "O(N) in 4 + eps: least Re d^2 Delta_LO / dQ^2 over |dy/dQ| from 2 to 50 critical charges, over N and eps.",
            least("beyond", LEADING),
            at_least=0,
            published="real parts are convex",
        ),
        table.bound(
            "real-part-is-convex-nlo",
            "O(N) in 4 + eps: least Re d^2 Delta / dQ^2 over |dy/dQ|, with Delta_0, from 2 to 50 critical charges, over N and "
            "eps.",
            least("beyond", BOTH),
            at_least=0,
            published="real parts are convex",
        ),
    )


def matrix_part(run: Run[Budget]) -> Part:
    """U(N) x U(M) in 4 - eps: real and complex couplings."""
    b = run.budget
    far = 2000.0

    def row(N: int, M: int, s: int, _: int) -> Mapping[str, Any]:
        model = MatrixModel(N, M, 0.1, s=s, complex_couplings=True)
        slope = complex(model.slope)
        pieces = proved(slope, 0.0, far)
        charges = np.geomspace(2, far, b.far) if b.far > 1 else np.array([far / 10])
        first, both = [], []
        for Q in charges.tolist():
            h = 0.01 * Q
            values = [complex(model.next_to_leading(Q + k * h, digits=DIGITS)) for k in (-1, 0, 1)]
            u = complex(model.saddle(Q))
            leading = slope / (3 * u * u - 1)
            first.append(leading.real)
            both.append(leading.real + ((values[0] + values[2] - 2 * values[1]) / h**2).real)
        return {
            "couplings": "real" if model.is_real else "complex",
            "pieces of the proof": pieces or 0,
            "proved to": far if pieces else 0.0,
            LEADING: min(np.array(first) / abs(slope)),
            BOTH: min(np.array(both) / abs(slope)),
            "Re Delta_LO of charge 20": float(model.leading(20.0).real),
            "Im Delta_LO of charge 20": float(model.leading(20.0).imag),
        }

    names = {f"U({N}) x U({M}), s = {s}": functools.partial(row, N, M, s) for N, M, s in (*REAL, *COMPLEX)}
    table = sweep("matrices", names, run=run, once=True)

    def of(cases: tuple[tuple[int, int, int], ...], column: str) -> Any:
        return np.array([table[f"U({N}) x U({M}), s = {s}", column] for N, M, s in cases])

    claims = []
    for short, cases, words in (("real", REAL, "real"), ("complex", COMPLEX, "complex")):
        claims += [
            table.same(
                f"matrices-{short}-lo",
                f"U(N) x U(M) in 4 - eps, {words} couplings: models, of four, without a proof by intervals that the real part "
                "of Delta_LO is convex for charges to 2000.",
                (of(cases, "pieces of the proof") == 0).sum(axis=0),
                0.0,
                tol=0,
                published="convex" if short == "real" else "real parts are convex",
            ),
            table.bound(
                f"matrices-{short}-nlo",
                f"U(N) x U(M) in 4 - eps, {words} couplings: least Re d^2 Delta / dQ^2 over |dy/dQ|, with Delta_0, over four "
                "models and charges to 2000.",
                of(cases, BOTH).min(axis=0),
                at_least=0,
                published="convex" if short == "real" else "real parts are convex",
            ),
        ]
    return table.part(*claims)


def cubic_part(run: Run[Budget]) -> Part:
    """O(N) with a cubic potential in 6 - eps, to leading order."""

    def row(N: int, _: int) -> Mapping[str, Any]:
        model = CubicModel(N, 0.1)
        below = model.critical_charge * np.linspace(0.05, 0.95, 19)
        beyond = model.critical_charge * np.geomspace(2, 50, 20)
        h = 1e-4
        u = [model.saddle(q).real for q in (below, below * (1 + h), beyond, beyond * (1 + h))]
        scale = model.slope
        return {
            "critical charge": model.critical_charge,
            "least -curvature below": float(((u[0] - u[1]) / (h * below)).min() / scale),
            "least Re curvature beyond": float(((u[3] - u[2]) / (h * beyond)).min() / scale),
        }

    fields = (1100, 2000, 10_000)
    table = sweep("6 - eps", {f"O({N})": functools.partial(row, N) for N in fields}, run=run, once=True)
    return table.part(
        table.bound(
            "cubic-real-part-is-convex",
            "O(N) in 6 - eps, cubic potential: least Re d^2 Delta_LO / dQ^2 over dy/dQ from 2 to 50 critical charges, beyond "
            "which Delta_LO is complex; over N.",
            np.min([table[name, "least Re curvature beyond"] for name in table.models], axis=0),
            at_least=0,
            published="real parts are convex",
        )
    )


# --- whole charges ---------------------------------------------------------------------------------------------------
def conjecture_part(run: Run[Budget]) -> Part:
    """The conjecture's own form: Delta((n1 + n2) q0) >= Delta(n1 q0) + Delta(n2 q0), and the least q0."""
    b = run.budget
    charges = list(range(1, b.charges + 1))

    def row(model: Any, order: str, _: int) -> Mapping[str, Any]:
        found = convexity(model.dimensions(charges, order).real)
        return {"least second difference": found.least, "least q0": float(found.minimal_charge or math.inf)}

    models: dict[str, Any] = {f"O({N})": VectorModel(N, 0.1) for N in b.fields}
    models |= {f"U({N}) x U({M}), s = {s}": MatrixModel(N, M, 0.1, s=s) for N, M, s in REAL[:2]}
    names = {
        f"{name}, {word}": functools.partial(row, model, order)
        for name, model in models.items()
        for word, order in (("LO", "LO"), ("LO + NLO", "NLO"))
    }
    table = sweep("conjecture", names, run=run, once=True)
    return table.part(
        *(
            table.number(
                f"least-charge-{short}",
                f"Conjecture at eps = 0.1: least q0 from which Delta((n1 + n2) q0) >= Delta(n1 q0) + Delta(n2 q0), {words}; the "
                "largest of the models.",
                np.max([table[f"{name}, {word}", "least q0"] for name in models], axis=0),
                expected=1,
                published="of order one",
            )
            for short, word, words in (("lo", "LO", "to leading order"), ("nlo", "LO + NLO", "with Delta_0"))
        )
    )


def three_part(run: Run[Budget]) -> Part:
    """O(2) in three dimensions: Monte Carlo against semiclassics and the series in eps, all with g* of one loop."""
    model, charges = VectorModel(2, 1.0), [1, 2, 3, 4]
    exact = np.array(MONTE_CARLO)
    methods: dict[str, Callable[[], Any]] = {
        "LO": lambda: model.dimensions(charges, "LO").real,
        "LO + NLO": lambda: model.dimensions(charges).real,
        "eps": lambda: model.epsilon_expansion(charges, 1),
        "eps^2": lambda: model.epsilon_expansion(charges, 2),
        "LO + NLO, g* of two loops": lambda: VectorModel(2, 1.0, loops=2).dimensions(charges).real,
    }

    def row(method: Callable[[], Any], _: int) -> Mapping[str, Any]:
        found = method()
        values = {f"charge {Q}": float(value) for Q, value in zip(charges, found, strict=True)}
        return values | {"largest error": float(abs(found / exact - 1).max())}

    names = {name: functools.partial(row, method) for name, method in methods.items()}
    table = sweep("three dimensions", names, run=run, once=True)
    return table.part(
        *(
            table.number(
                f"monte-carlo-charge-{Q}",
                f"O(2) in three dimensions: Delta_LO + Delta_0 of charge {Q} at eps = 1, with g* of one loop, against Monte "
                "Carlo with 10 %.",
                table["LO + NLO", f"charge {Q}"],
                expected=value,
                tol=round(0.1 * value, 6),
                published=value,
            )
            for Q, value in zip(charges, MONTE_CARLO, strict=True)
        ),
        table.beats("next-order-helps", "LO + NLO", "LO", "largest error"),
        table.beats("semiclassics-beats-first-order", "LO + NLO", "eps", "largest error"),
        table.beats("semiclassics-beats-second-order", "LO + NLO", "eps^2", "largest error"),
    )


def perturbation_part(run: Run[Budget]) -> Part:
    """Delta_LO by polynomials in gQ, which is what fixed orders of perturbation theory keep of it."""
    model = VectorModel(2, 0.1)

    def row(y: float, _: int) -> Mapping[str, Any]:
        exact = float(model.leading(y / model.coupling).real) * model.coupling / y
        errors = {f"error of order {n}": abs(leading_series(y, n) / exact - 1) for n in (1, 2, 4, 8)}
        return {"Delta_LO / Q": exact} | errors | {"least error": min(errors.values())}

    points = (0.1, 0.3, 1.0, 3.0, 10.0)
    table = sweep("perturbation theory", {f"gQ = {y:g}": functools.partial(row, y) for y in points}, run=run, once=True)
    return table.part(
        table.bound(
            "linear-order-fails",
            "Perturbation theory: relative error of the polynomial of first order in gQ for Delta_LO at gQ = 10.",
            table["gQ = 10", "error of order 1"],
            at_least=1,
        ),
        table.bound(
            "quadratic-order-fails",
            "Perturbation theory: relative error of the polynomial of second order in gQ for Delta_LO at gQ = 10.",
            table["gQ = 10", "error of order 2"],
            at_least=1,
        ),
    )


def oscillator_part(run: Run[Budget]) -> Part:
    """Quantum mechanics: energies of an anharmonic oscillator in the plane at angular momentum Q."""

    def row(quartic: float, _: int) -> Mapping[str, Any]:
        energies = oscillator_energies(20, quartic)
        coarse = oscillator_energies(20, quartic, size=180)
        return {
            "least second difference": float(np.diff(energies, 2).min()),
            "E(0)": float(energies[0]),
            "E(20)": float(energies[20]),
            "change from 180 to 240 states": float(abs(energies - coarse).max()),
        }

    table = sweep("oscillator", {f"{q:g} r^4": functools.partial(row, q) for q in QUARTICS}, run=run, once=True)
    return table.part(
        table.bound(
            "oscillator-is-convex",
            "Oscillator (p^2 + r^2)/2 + quartic r^4 in the plane: least second difference of the lowest energy in the angular "
            "momentum, 0 to 20, over quartics.",
            np.min([table[name, "least second difference"] for name in table.models], axis=0),
            at_least=0,
        )
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts; a dry run takes few charges."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(run, *PROPERTIES),
        below_part(few),
        above_part(few),
        matrix_part(few),
        cubic_part(few),
        conjecture_part(few),
        three_part(few),
        perturbation_part(few),
        oscillator_part(few),
    )


def figure(result: Result) -> Figure:
    """The saddle of O(N) by gQ, on both sides of four dimensions: real below the branch point, its real part beyond."""
    from erlangen import plots

    y = np.linspace(-4 * BRANCH, 4 * BRANCH, 161)
    u = saddle(y)
    curves = {
        "Re u = Re d Delta_LO / dQ": [(float(a), float(b)) for a, b in zip(y, u.real, strict=True)],
        "|Im u|": [(float(a), float(b)) for a, b in zip(y, abs(u.imag), strict=True)],
    }
    return plots.line(curves, "y = (4/3) g Q", "frequency of the saddle")
