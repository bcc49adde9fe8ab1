"""What holds exactly: saddles, sums of frequencies against the paper's closed form, fixed points, critical charges."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erlangen.solve import power_rate, prove_positive
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.physics.charge_convexity._casimir import Spectrum, casimir, casimir_pole
from erlangen.systems.physics.charge_convexity._convexity import saddle_curvature
from erlangen.systems.physics.charge_convexity.method import (
    MatrixModel,
    VectorModel,
    closed_saddle,
    cubic_discriminant,
    matrix_betas,
    matrix_spectrum,
)
from erlangen.systems.physics.charge_convexity.rivals import leading_coefficients

PHONON = Spectrum(((1, 1),), ())
GOLDSTONES = Spectrum((), ((1, 1),))
"""Of O(N): Delta_0 is that of the first plus N/2 - 1 times that of the second."""

KNOWN = {1: 0.5066, 2: 1.1879, 3: 2.0078, 4: 2.9447, 6: 5.1165, 10: 10.429}
"""Delta_LO + Delta_0 of O(2) at eps = 1 and g* = 0.3."""

COMPLEX = ((4, 4, 1), (4, 4, 4), (3, 2, 1), (8, 8, 1))
"""N, M and s of matrix models with complex couplings."""

MODELS = (
    VectorModel(2, 0.1),
    VectorModel(8, 1.0),
    VectorModel(3, 0.1, above=True),
    MatrixModel(20, 2, 0.1, s=2),
    MatrixModel(4, 4, 0.1, s=4, complex_couplings=True),
)


# --- saddles ---------------------------------------------------------------------------------------------------------
@exact(tol=1e-14)
def closed_form_of_the_saddle(run: Run[Any]) -> float:
    """Largest relative difference of the closed form of u, in x = 6gQ from 1e-3 to 1e4, to the root of the cubic at 40 digits."""
    from mpmath import mp

    with mp.workdps(40):
        return largest(
            abs(complex(closed_saddle(x)) - complex(max(_real_roots(mp, x)))) / float(max(_real_roots(mp, x)))
            for x in np.geomspace(1e-3, 1e4, 40).tolist()
        )


def _real_roots(mp: Any, x: float) -> list[Any]:
    roots = mp.polyroots([1, 0, -1, -2 * mp.mpf(x) / 9], maxsteps=200, extraprec=200)
    return [mp.re(root) for root in roots if abs(mp.im(root)) < mp.mpf(10) ** -20]


def _leading(model: Any, Q: Any) -> Any:
    """Delta_LO of mpmath."""
    u = model.precise_saddle(Q)
    return Q / 4 * (3 * u + 1 / u)


@exact(tol=1e-12)
def slope_is_the_frequency(run: Run[Any]) -> float:
    """Largest relative difference of d Delta_LO / dQ, by differences at 50 digits, to u; over models, real and complex."""
    from mpmath import mp

    worst: list[float] = []
    with mp.workdps(50):
        for model, Q in itertools.product(MODELS, (1.0, 7.0)):
            h = mp.mpf(2) ** -36
            up, down = (_leading(model, Q + sign * h) for sign in (1, -1))
            u = model.precise_saddle(Q)
            worst.append(float(abs((up - down) / (2 * h) / u - 1)))
    return largest(worst)


@exact(tol=1e-12)
def curvature_has_a_closed_form(run: Run[Any]) -> float:
    """Largest relative difference of d^2 Delta_LO / dQ^2, by differences at 50 digits, to (dy/dQ) / (3u^2 - 1)."""
    from mpmath import mp

    worst: list[float] = []
    with mp.workdps(50):
        for model, Q in itertools.product(MODELS, (1.0, 7.0)):
            h = mp.mpf(2) ** -26
            low, middle, high = (_leading(model, Q + sign * h) for sign in (-1, 0, 1))
            u = model.precise_saddle(Q)
            due = mp.mpmathify(model.slope) / (3 * u * u - 1)
            worst.append(float(abs((low + high - 2 * middle) / h**2 / due - 1)))
    return largest(worst)


@bound(at_most=0.01)
def large_charge_law(run: Run[Any]) -> float:
    """Relative difference of Delta_LO at gQ = 1000 to (3/4) Q (4gQ/3)^(1/3), the power d/(d-1) of Q in four dimensions."""
    model = VectorModel(2, 0.1)
    Q = 1000 / model.coupling
    return abs(float(model.leading(Q).real) / (0.75 * Q * (4000 / 3) ** (1 / 3)) - 1)


@exact(tol=1e-6)
def small_charge_series(run: Run[Any]) -> float:
    """Largest difference of Delta_LO / Q at gQ = 0.01 and 0.02 to 1 + gQ/3 - (2/9)(gQ)^2 + (8/27)(gQ)^3, over (gQ)^3."""
    model = VectorModel(2, 0.1)
    worst: list[float] = []
    for y in (0.01, 0.02):
        value = float(model.leading(y / model.coupling).real) / (y / model.coupling)
        higher = sum(c * y**n for n, c in enumerate(leading_coefficients(14)) if n > 3)
        worst.append(abs(value - higher - (1 + y / 3 - 2 * y**2 / 9 + 8 * y**3 / 27)) / y**3)
    return largest(worst)


# --- sums of frequencies ---------------------------------------------------------------------------------------------
def sigma(l: Any, u: Any, sqrt: Any) -> Any:
    """Pairs of O(N), after what diverges is taken away."""
    J, gap = l * (l + 2), 3 * u * u - 1
    root = sqrt(4 * J * u * u + gap * gap)
    pair = sqrt(J + gap + root) + sqrt(J + gap - root)
    away = 2 * l**3 + 6 * l**2 + (2 * u * u + 4) * l + 2 * u * u - 5 * (u * u - 1) ** 2 / (4 * l)
    return (l + 1) ** 2 * pair - away


def tau(l: Any, u: Any, sqrt: Any) -> Any:
    """Goldstones of O(N), after what diverges is taken away."""
    away = l**3 + 3 * l**2 + (u * u + 5) * l / 2 + (u * u + 1) / 2 - (u * u - 1) ** 2 / (8 * l)
    return (l + 1) ** 2 * sqrt(l * (l + 2) + u * u) - away


def paper_casimir(N: int, u: Any, pairs: Any, goldstones: Any, sqrt: Any) -> Any:
    """Delta_0 of O(N) from the sums of sigma and tau."""
    return (
        -(15 * u**4 + 6 * u * u - 5) / 16
        + pairs / 2
        + sqrt((3 * u * u - 1) / 2)
        + (N - 2) * (-(7 + u * (-16 + 6 * u + 3 * u**3)) / 16 + goldstones) / 2
    )


@exact(tol=1e-15)
def sums_are_those_of_the_paper(run: Run[Any]) -> float:
    """Largest difference of Delta_0 by zeta functions to the paper's closed form with accelerated sums; O(2), O(5), two u."""
    from mpmath import mp

    worst: list[float] = []
    with mp.workdps(30):
        for u in (mp.mpf("0.8"), mp.mpf("1.7")):
            sums = [mp.nsum(lambda l, f=f, u=u: f(l, u, mp.sqrt), [1, mp.inf]) for f in (sigma, tau)]
            for N in (2, 5):
                ours = casimir(VectorModel(N, 0.1).spectrum, u, digits=30)
                worst.append(float(abs(ours - paper_casimir(N, u, sums[0], sums[1], mp.sqrt))))
    return largest(worst)


@exact(tol=1e-6)
def sums_are_those_of_a_cut_off(run: Run[Any]) -> float:
    """Difference of Delta_0 of O(2) + O(4) by zeta functions to sums cut off at l = 1000, 3000 and 10000, with Richardson's \
    extrapolation in 1/l."""
    from mpmath import mp

    cuts = (1000, 3000, 10_000)
    with mp.workdps(20):
        u, total = mp.mpf("1.4"), mp.mpf(0)
        partial: list[Any] = []
        for l in range(1, cuts[-1] + 1):
            total += sigma(mp.mpf(l), u, mp.sqrt) / 2 + tau(mp.mpf(l), u, mp.sqrt) / 2
            partial += [total] if l in cuts else []
        table = mp.matrix([[1, mp.mpf(1) / (c + 1), mp.mpf(1) / (c + 1) ** 2] for c in cuts])
        limit = mp.lu_solve(table, mp.matrix(partial))[0]
        due = paper_casimir(3, u, 2 * limit, mp.mpf(0), mp.sqrt)
        return float(abs(casimir(VectorModel(3, 0.1).spectrum, u) - due))


@exact(tol=0)
def subtractions_are_the_large_l_series(run: Run[Any]) -> float:
    """Terms of l^3 to 1/l that are left of sigma and tau when frequencies are expanded at large l, in symbols; out of ten."""
    import sympy as sp

    u, t = sp.symbols("u t", positive=True)
    J, gap = (1 + 2 * t), (3 * u**2 - 1) * t**2
    left = 0
    # (w_+ + w_-)^2 = 2 (J + gap) + 2 w_+ w_-, and w_+ w_- = sqrt(J (J + 2 (u^2 - 1))).
    pair = sp.sqrt(2 * (J + gap) + 2 * sp.sqrt(J * (J + 2 * (u**2 - 1) * t**2)))
    # With l^-4 sigma(1/t) = (1 + t)^2 pair - ..., and sigma's own square roots replaced by this one.
    for frequencies, away in (
        (pair, 2 + 6 * t + (2 * u**2 + 4) * t**2 + 2 * u**2 * t**3 - sp.Rational(5, 4) * (u**2 - 1) ** 2 * t**4),
        (
            sp.sqrt(J + u**2 * t**2),
            1 + 3 * t + (u**2 + 5) * t**2 / 2 + (u**2 + 1) * t**3 / 2 - (u**2 - 1) ** 2 * t**4 / 8,
        ),
    ):
        expanded = sp.expand(sp.series((1 + t) ** 2 * frequencies, t, 0, 5).removeO() - away)
        left += sum(sp.simplify(sp.expand(expanded.coeff(t, n))) != 0 for n in range(5))
    return float(left)


@functools.cache
def casimir_series() -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Delta_0 of phonon and of Goldstones at gQ = 0, with its first two coefficients in gQ."""
    from mpmath import mp

    found: list[tuple[float, float, float]] = []
    with mp.workdps(40):
        h = mp.mpf(2) ** -20
        us = [mp.findroot(lambda u, y=y: u**3 - u - 4 * y / 3, 1 + 2 * y / 3) for y in (-h, mp.mpf(0), h)]
        for part in (PHONON, GOLDSTONES):
            low, zero, high = (casimir(part, u) for u in us)
            found.append((float(zero), float((high - low) / (2 * h)), float((high + low - 2 * zero) / (2 * h**2))))
    return found[0], found[1]


def _of_vector(N: int, order: int) -> float:
    phonon, goldstones = casimir_series()
    return phonon[order] + (N / 2 - 1) * goldstones[order]


@exact(tol=1e-12)
def no_charge_no_energy(run: Run[Any]) -> float:
    """Largest of |Delta_0| at Q = 0, for O(2), O(3), O(4) and O(8)."""
    return largest(abs(_of_vector(N, 0)) for N in (2, 3, 4, 8))


@exact(tol=1e-6)
def first_coefficient(run: Run[Any]) -> float:
    """Largest difference of the coefficient of gQ in Delta_0 to -(N + 10)/6, for O(2), O(3), O(4) and O(8)."""
    return largest(abs(_of_vector(N, 1) + (N + 10) / 6) for N in (2, 3, 4, 8))


@exact(tol=1e-6)
def second_coefficient(run: Run[Any]) -> float:
    """Largest difference of the coefficient of (gQ)^2 in Delta_0 to 1/3 - N/18, for O(2), O(3), O(4) and O(8)."""
    return largest(abs(_of_vector(N, 2) - 1 / 3 + N / 18) for N in (2, 3, 4, 8))


@exact(tol=1e-6)
def charge_one_has_no_anomalous_dimension(run: Run[Any]) -> float:
    """Largest coefficient of eps in Delta_1 - (d - 2)/2, from LO and the measured slope of Delta_0; O(2), O(3), O(4), O(8)."""
    return largest(abs(3 / (N + 8) * (1 / 3 + _of_vector(N, 1)) + 0.5) for N in (2, 3, 4, 8))


@exact(tol=1e-6)
def charge_two_is_the_crossover_exponent(run: Run[Any]) -> float:
    """Largest difference of the coefficient of eps^2 in Delta_2, with the measured series of Delta_0, to d - phi/nu from the \
    textbook's crossover exponent phi and nu; O(2), O(3), O(4) and O(8)."""
    worst: list[float] = []
    for N in (2, 3, 4, 8):
        n = N + 8
        g1, g2 = 3 / n, 9 * (3 * N + 14) / n**3
        c3, c2 = -2 / 9 * g1**2, g2 / 3 + _of_vector(N, 2) * g1**2
        ours = 2 * (N + 2) / (4 * n**2) + 6 * c3 + 2 * c2
        phi = (1.0, N / (2 * n), (N**3 + 24 * N**2 + 68 * N) / (4 * n**3))
        inverse_nu = (2.0, -(N + 2) / n, -(N + 2) * (13 * N + 44) / (2 * n**3))
        textbook = -(phi[0] * inverse_nu[2] + phi[1] * inverse_nu[1] + phi[2] * inverse_nu[0])
        worst += [abs(ours - textbook), abs(textbook - (N + 4) * (22 - N) / (2 * n**3))]
    return largest(worst)


@exact(tol=1e-4)
def known_sums_in_three_dimensions(run: Run[Any]) -> float:
    """Largest relative difference of Delta_LO + Delta_0 of O(2) at eps = 1 and g* = 0.3 to an independent evaluation at \
    charges 1, 2, 3, 4, 6 and 10."""
    found = VectorModel(2, 1.0).dimensions(list(KNOWN)).real
    return largest(abs(found / np.array(list(KNOWN.values())) - 1).tolist())


# --- models ----------------------------------------------------------------------------------------------------------
def potential(X: Tensor, u: float, v: float) -> Tensor:
    """u Tr(H^+ H)^2 + v (Tr H^+ H)^2, of real and imaginary parts ``[2, N, M]`` of sqrt(2) H."""
    H = torch.complex(X[0], X[1]) / math.sqrt(2)
    square = H.mH @ H
    return u * (square @ square).diagonal().sum().real + v * square.diagonal().sum().real ** 2


@exact(tol=1e-9)
def betas_from_the_potential(run: Run[Any]) -> float:
    """Largest relative difference of (1/2) Tr (V'')^2, by automatic derivatives and fitted on the two invariants at random \
    matrices, to the one-loop polynomials; five pairs (N, M)."""
    g = run.generator()
    worst: list[float] = []
    for N, M in ((2, 2), (2, 3), (3, 3), (4, 2), (5, 3)):
        u, v = 0.7, -0.4
        X = torch.randn(4, 2, N, M, generator=g, dtype=torch.float64)
        hessian = torch.func.hessian(potential)
        square = torch.stack([hessian(x, u, v).reshape(2 * N * M, -1).square().sum() / 2 for x in X])
        basis = torch.stack([torch.stack([potential(x, 1.0, 0.0), potential(x, 0.0, 1.0)]) for x in X])
        fitted = torch.linalg.lstsq(basis, square[:, None]).solution[:, 0]
        due = torch.tensor(matrix_betas(u, v, N, M), dtype=torch.float64)
        worst += (abs(fitted - due) / abs(due)).tolist()
    return largest(worst)


@exact(tol=1e-9)
def modes_from_the_potential(run: Run[Any]) -> float:
    """Largest relative difference of the sum of frequencies of matrix models at a shell to eigenvalues of the linearised \
    equations of motion; five (N, M, s)."""
    worst: list[float] = []
    for N, M, s in ((2, 2, 1), (3, 2, 2), (3, 3, 2), (4, 3, 3), (5, 2, 1)):
        u, v, mu, m2, J = 0.6, 0.3, 1.6, 1.0, 8.0
        b2 = (mu * mu - m2) / (2 * (u + s * v))
        X = torch.zeros(2, N, M, dtype=torch.float64)
        X[0, range(s), range(s)] = math.sqrt(2 * b2)
        n = N * M
        stiff = (
            torch.func.hessian(potential)(X, u, v).reshape(2 * n, 2 * n)
            + (J + m2 - mu * mu) * torch.eye(2 * n).double()
        )
        turn = torch.zeros(2 * n, 2 * n, dtype=torch.float64)
        turn[:n, n:], turn[n:, :n] = 2 * mu * torch.eye(n).double(), -2 * mu * torch.eye(n).double()
        eye, zero = torch.eye(2 * n, dtype=torch.float64), torch.zeros(2 * n, 2 * n, dtype=torch.float64)
        motion = torch.cat([torch.cat([zero, eye], 1), torch.cat([-stiff, -turn], 1)])
        due = float(torch.linalg.eigvals(motion).imag.abs().sum()) / 2
        spectrum = matrix_spectrum(N, M, s, s * v / (u + s * v))
        worst += [abs(float(spectrum.shell(J, mu, m2, math.sqrt)) / due - 1), abs(spectrum.count - 2 * n)]
    return largest(worst)


@exact(tol=1e-9)
def poles_cancel(run: Run[Any]) -> float:
    """Largest relative difference of d/du of the pole of Delta_0 to what the one-loop renormalisation of the coupling \
    cancels; O(2), O(5), and four matrix models at random couplings."""
    from mpmath import mp

    g = run.generator()
    cases: list[tuple[Spectrum, float]] = [(VectorModel(N, 0.1).spectrum, (N + 8) / 4) for N in (2, 5)]
    for N, M, s in ((4, 4, 1), (4, 4, 4), (3, 2, 1), (5, 3, 2)):
        a, b = (0.2 + torch.rand(2, generator=g, dtype=torch.float64)).tolist()
        beta_u, beta_v = matrix_betas(a, b, N, M)
        factor = s * (beta_u + s * beta_v) / (8 * (a + s * b) ** 2)
        cases.append((matrix_spectrum(N, M, s, s * b / (a + s * b)), factor))
    worst: list[float] = []
    with mp.workdps(50):
        u, h = mp.mpf("1.3"), mp.mpf(2) ** -40
        for spectrum, factor in cases:
            slope = (casimir_pole(spectrum, u + h) - casimir_pole(spectrum, u - h)) / (2 * h)
            worst.append(float(abs(slope / (-factor * (u**3 - u)) - 1)))
    return largest(worst)


@exact(tol=1e-12)
def fixed_points_are_fixed(run: Run[Any]) -> float:
    """Largest relative value of the one-loop beta functions at both fixed points of nine matrix models, real and complex."""
    worst: list[float] = []
    for (N, M), k in itertools.product(
        [(20, 2), (40, 3), (30, 2), (4, 4), (3, 2), (8, 8), (2, 2), (5, 2), (39, 4)], (0, 1)
    ):
        model = MatrixModel(N, M, 0.1, solution=k, complex_couplings=True)
        couplings = model.couplings
        beta = matrix_betas(*couplings, N, M)
        scale = max(abs(c) for c in couplings)
        worst += [abs(b - 0.1 * c) / (0.1 * scale) for b, c in zip(beta, couplings, strict=True)]
    return largest(worst)


@exact(tol=0)
def wedge_of_real_fixed_points(run: Run[Any]) -> float:
    """Pairs 2 <= M, N <= 40 where N^2 + M^2 - 10NM + 24 and the numerical roots of the beta functions disagree on whether \
    fixed points are real."""
    wrong = 0
    for N, M in itertools.product(range(2, 41), repeat=2):
        v = np.array([-1.0, 0.0, 1.0])
        u = (1 - 24 * v) / (4 * (N + M))
        beta = matrix_betas(u, v, N, M)[1] - v  # type: ignore[arg-type]
        roots = np.roots(np.polyfit(v, np.asarray(beta), 2))
        wrong += bool((roots.imag == 0).all()) != MatrixModel(N, M, 0.1, complex_couplings=True).is_real
    return float(wrong)


@exact(tol=1e-12)
def one_row_is_a_vector(run: Run[Any]) -> float:
    """Largest relative difference, for 1 x 1 matrices with u + v = (4 pi)^2 g / 6, of potential, slope of y and sum of \
    frequencies to those of O(2)."""
    g, share = 0.37, 0.6
    total = (4 * math.pi) ** 2 * g / 6
    x = torch.randn(2, 1, 1, generator=run.generator(), dtype=torch.float64)
    quartic = (4 * math.pi) ** 2 * g / 24 * float(x.square().sum()) ** 2
    ours = float(potential(x, (1 - share) * total, share * total))
    slope = 8 * total / (4 * math.pi) ** 2
    shells = [
        float(one.shell(8.0, 1.7, 1.0, math.sqrt))
        for one in (matrix_spectrum(1, 1, 1, share), VectorModel(2, 1.0).spectrum)
    ]
    return largest(abs(ours / quartic - 1), abs(slope / (4 * g / 3) - 1), abs(shells[0] / shells[1] - 1))


@number(1038.266, tol=1e-3)
def cubic_models_turn_real(run: Run[Any]) -> float:
    """Number N of O(N) cubic models in 6 - eps dimensions above which the fixed point is real at one loop."""
    from scipy.optimize import brentq

    return float(brentq(cubic_discriminant, 500, 2000, xtol=1e-9))  # pyright: ignore[reportArgumentType]


# --- critical charge -------------------------------------------------------------------------------------------------
def _is_real(y: float) -> bool:
    """Whether all roots of the cubic are, by numpy."""
    return bool((abs(np.roots([1, 0, -1, -y]).imag) < 1e-12).all())


@exact(tol=1e-6)
def critical_charge(run: Run[Any]) -> float:
    """Largest relative difference of (N + 8) / (6 sqrt(3) eps), in 4 + eps, to the charge where numerical roots of the \
    saddle turn complex, by bisection; four (N, eps)."""
    worst: list[float] = []
    for N, eps in ((2, 0.1), (4, 0.1), (8, 0.05), (20, 0.3)):
        low, high = 0.0, 1e4
        slope = 4 / 3 * (-3 * eps / (N + 8))
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _is_real(slope * middle) else (low, middle)
        worst.append(abs(VectorModel(N, eps, above=True).critical_charge / middle - 1))  # pyright: ignore
    return largest(worst)


@exact(tol=0)
def complex_beyond_the_critical_charge(run: Run[Any]) -> float:
    """Charges in 4 + eps, of 60 below and 60 beyond the critical one, where Delta_LO is complex below or real beyond."""
    model = VectorModel(2, 0.1, above=True)
    below = model.leading(model.critical_charge * np.linspace(0.01, 0.999, 60))
    beyond = model.leading(model.critical_charge * np.linspace(1.001, 50, 60))
    return float((below.imag != 0).sum() + (abs(beyond.imag) < 1e-9).sum())


def _exponent(of: Any) -> float:
    model = VectorModel(2, 0.1, above=True)
    away = np.geomspace(1e-3, 1e-2, 12)
    return power_rate(away, abs(of(model, model.critical_charge * (1 + away)).imag)).slope


@number(0.5, tol=0.05)
def exponent_of_the_frequency(run: Run[Any]) -> float:
    """Power of Q - Q_c in Im u, beyond the critical charge of O(2) in 4 + eps."""
    return _exponent(VectorModel.saddle)


@number(1.5, tol=0.05)
def exponent_of_the_dimension(run: Run[Any]) -> float:
    """Power of Q - Q_c in Im Delta_LO, beyond the critical charge of O(2) in 4 + eps."""
    return _exponent(VectorModel.leading)


# --- proofs ----------------------------------------------------------------------------------------------------------
def proved(slope: complex, low: float, high: float, sign: float = 1.0) -> int | None:
    """Pieces that prove the sign of Re d^2 Delta_LO / dQ^2 on an interval of charges; None where there is no proof."""

    def curvature(Q: Any) -> Any:
        found = saddle_curvature(complex(slope), Q)
        return None if found is None else sign * found

    proof = prove_positive(curvature, low, high)
    return proof.pieces if proof.holds else None


@exact(tol=0)
def leading_curvature_is_proved(run: Run[Any]) -> float:
    """Statements on Delta_LO that intervals do not prove, of three: O(2) in 4 - eps is convex for gQ to 100; in 4 + eps it is \
    concave to 0.99 of the critical charge, and its real part convex from 1.01 to 100 times it."""
    below, above = VectorModel(2, 0.1), VectorModel(2, 0.1, above=True)
    Q = above.critical_charge
    cases = (
        (below.slope, 0.0, 100 / below.coupling, 1.0),
        (above.slope, 0.0, 0.99 * Q, -1.0),
        (above.slope, 1.01 * Q, 100 * Q, 1.0),
    )
    return float(sum(proved(*case) is None for case in cases))


PROPERTIES = (
    closed_form_of_the_saddle, slope_is_the_frequency, curvature_has_a_closed_form, large_charge_law, small_charge_series,
    sums_are_those_of_the_paper, sums_are_those_of_a_cut_off, subtractions_are_the_large_l_series, no_charge_no_energy,
    first_coefficient, second_coefficient, charge_one_has_no_anomalous_dimension, charge_two_is_the_crossover_exponent,
    known_sums_in_three_dimensions, betas_from_the_potential, modes_from_the_potential, poles_cancel, fixed_points_are_fixed,
    wedge_of_real_fixed_points, one_row_is_a_vector, cubic_models_turn_real, critical_charge,
    complex_beyond_the_critical_charge, exponent_of_the_frequency, exponent_of_the_dimension, leading_curvature_is_proved,
)  # fmt: skip
