"""What is measured of descent on factors: laws that hold exactly, rates by scale and by gauge, a block of a photograph."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.errors import NotFiniteError
from erlangen.solve import Rate, exponential_rate, power_rate
from erlangen.survey import Part, Result, Run, Table, properties, sweep
from erlangen.systems.learning.matrix_sensing._photograph import photograph
from erlangen.systems.learning.matrix_sensing._properties import BETA, PROPERTIES, RATE, start, target
from erlangen.systems.learning.matrix_sensing.method import (
    AllEntries,
    Factors,
    GaugeStep,
    GaussianSensing,
    RankOneSensing,
    Recovery,
    Sensing,
    imbalance,
    recover,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 1e-12
"""The error at which runs are compared."""

STEPS = "steps to 1e-12"

Method = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        n, rank: of the matrices, n x n.
        columns: of the factors of the population case, all above the rank.
        scales: alpha of the population case.
        steps: of the population case, and at most so many for linear rates.
        measurements, sensed_steps: with Gaussian and rank-one measurements, at the last two scales.
        block: rows and columns of the photograph.
    """

    seeds: int
    n: int
    rank: int
    columns: tuple[int, ...]
    scales: tuple[float, ...]
    steps: int
    measurements: int
    sensed_steps: int
    block: int


BUDGETS = {
    "smoke": Budget(1, 20, 3, (6,), (0.05, 0.1), 2000, 600, 400, 24),
    "full": Budget(3, 50, 3, (4, 6, 10), (0.02, 0.05, 0.1), 20_000, 1500, 3000, 64),
    "paper": Budget(5, 50, 3, (4, 6, 10), (0.02, 0.05, 0.1), 20_000, 1500, 20_000, 64),
}


# --- rows ------------------------------------------------------------------------------------------------------------
def second_half(found: Recovery, fit: Callable[[Any, Any], Rate]) -> Rate:
    """The rate over the second half of a run, or of what follows its gauge step: what is faster has died out by then."""
    count = len(found.errors)
    steps = np.arange(count)[(count + (found.gauge_at or 0)) // 2 :]
    return fit(steps, found.errors.numpy()[steps])


def slow_row(found: Recovery, k: int, rank: int) -> dict[str, Any]:
    """What is said of the symmetric model: the exponent of time, and the constant of the population case."""
    exponent, last = second_half(found, power_rate), len(found.errors) - 1
    return {
        "error": float(found.errors[-1]),
        "exponent": exponent.slope,
        "exponent, low": exponent.low,
        "exponent, high": exponent.high,
        "error (2 rate t)^2 / (k - r)": float(found.errors[-1]) * (2 * RATE * last) ** 2 / (k - rank),
    }


def fast_row(found: Recovery, pair: tuple[Tensor, Tensor] | None = None, rank: int = 0) -> dict[str, Any]:
    """What is said of linear convergence: the rate a step; of a pair of factors also the rate that their end predicts."""
    rate = second_half(found, exponential_rate)
    row: dict[str, Any] = {
        "error": float(found.errors[-1]),
        "rate": rate.slope,
        "rate, low": rate.low,
        "rate, high": rate.high,
        "R2": rate.r2,
        # On the line, since not every run comes so far; negative where the error grows.
        STEPS: (math.log(LEVEL) - rate.intercept) / rate.slope,
    }
    if pair is not None:
        assert isinstance(found.factors, tuple)
        k = pair[0].shape[1]
        f, g = (torch.linalg.svdvals(factor) for factor in found.factors)
        # Near the limit the modes of the error decay with 1 - rate (l_i(F F^T) + l_j(G G^T)); the slowest counts.
        row["rate predicted"] = 2 * math.log(1 - RATE * float(min(f[k - 1], g[rank - 1]) ** 2))
        row["drift of the imbalance"] = float((imbalance(found.factors) - imbalance(pair)).norm())
    return row


def name(kind: str, k: int, scale: float) -> str:
    """Of a row: its model, columns and scale."""
    return f"{kind} k={k} scale {scale:g}"


@dataclass(frozen=True)
class Problem:
    """Measurements of one matrix of a seed, and how long descent may take."""

    sensing: Sensing
    matrix: Tensor
    rank: int
    steps: int

    @functools.cached_property
    def y(self) -> Tensor:
        """What was measured."""
        return self.sensing(self.matrix)

    def descend(self, factors: Factors, rate: float = RATE, steps: int | None = None, **options: Any) -> Recovery:
        """Descent until nothing but rounding is left."""
        return recover(
            self.sensing,
            self.y,
            factors,
            rate=rate,
            steps=steps or self.steps,
            target=self.matrix,
            until=1e-22,
            **options,
        )


def methods_of(
    problem: Callable[[int], Problem], columns: tuple[int, ...], scales: tuple[float, ...], rank: int, gauge_after: int
) -> dict[str, Method]:
    """All methods, at all numbers of columns and scales, on the problems of the seeds."""

    def begin(seed: int, k: int, scale: float) -> tuple[Tensor, Tensor]:
        return start(problem(seed).sensing.shape[0], k, scale, Generator().manual_seed(7919 * seed + k))

    def symmetric(k: int, scale: float, seed: int) -> Mapping[str, Any]:
        found = problem(seed).descend(begin(seed, k, scale)[0])
        return slow_row(found, k, rank) if k > rank else fast_row(found)

    def asymmetric(k: int, scale: float, gauge: GaugeStep | None, seed: int) -> Mapping[str, Any]:
        pair = begin(seed, k, scale)
        return fast_row(problem(seed).descend(pair, gauge=gauge), pair, rank)

    def scaled(k: int, scale: float, seed: int) -> Mapping[str, Any]:
        others = [(problem(other), begin(other, k, scale)) for other in (seed + 1000, seed + 2000)]
        rate, damping = tuned(others)
        found = problem(seed).descend(begin(seed, k, scale), rate, damping=damping)
        return fast_row(found) | {"step": rate, "damping": damping}

    made: dict[str, Method] = {}
    for scale in scales:
        made[name("symmetric", rank, scale)] = functools.partial(symmetric, rank, scale)
        for k in columns:
            made[name("symmetric", k, scale)] = functools.partial(symmetric, k, scale)
            made[name("asymmetric", k, scale)] = functools.partial(asymmetric, k, scale, None)
            step = GaugeStep(BETA, after=gauge_after)
            made[name("gauge step", k, scale)] = functools.partial(asymmetric, k, scale, step)
            made[name("preconditioned", k, scale)] = functools.partial(scaled, k, scale)
    return made


def tuned(others: list[tuple[Problem, tuple[Tensor, Tensor]]]) -> tuple[float, float | str]:
    """The rate and the damping of preconditioned descent with the least error after 50 steps, at worst, on other problems."""

    def error(rate: float, damping: float | str) -> float:
        try:
            return max(float(problem.descend(pair, rate, 50, damping=damping).errors[-1]) for problem, pair in others)
        except NotFiniteError:  # too large a rate loses against the others
            return math.inf

    tried = [(rate, damping) for rate in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) for damping in (0.01, 0.1, 1.0, "residual")]
    return min(tried, key=lambda pair: error(*pair))


def worst(table: Table, names: list[str], column: str, value: Callable[[Any], Any]) -> Any:
    """The largest, over rows, of what a function makes of a column, for every seed."""
    return np.max([value(table[one, column]) for one in names], axis=0)


def spread(rates: Any) -> Any:
    """How far numbers ``[rows, seeds]`` are apart, over their mean, for every seed."""
    rates = np.abs(np.stack(rates))
    return np.ptp(rates, axis=0) / rates.mean(0)


# --- all entries -----------------------------------------------------------------------------------------------------
def population_part(run: Run[Budget]) -> Part:
    """Infinitely many measurements: every rate has a closed form."""
    b = run.budget

    @functools.cache
    def problem(seed: int) -> Problem:
        matrix = target(b.n, (1.0,) * b.rank, Generator().manual_seed(seed))
        return Problem(AllEntries((b.n, b.n)), matrix, b.rank, b.steps)

    table = sweep("population", methods_of(problem, b.columns, b.scales, b.rank, 100), run=run)
    slow, fast, free = (
        [name(kind, k, a) for k in b.columns for a in b.scales] for kind in ("symmetric", "asymmetric", "gauge step")
    )
    most, exponents = b.columns[len(b.columns) // 2], np.stack([table[one, "exponent"] for one in slow])
    far = np.take_along_axis(exponents, np.abs(exponents + 2).argmax(0)[None], 0)[0]
    due = 2 * math.log(1 - RATE * BETA**2)
    low, large = name("asymmetric", most, b.scales[0]), name("symmetric", most, b.scales[-1])
    return table.part(
        table.number(
            "symmetric-exponent",
            "Population: exponent of time in the error of X X^T with k > r, of all k and scales the one farthest from -2.",
            far,
            expected=-2,
            tol=0.05,
            published="no faster than 1/T^2",
        ),
        table.bound(
            "symmetric-constant",
            "Population: largest relative difference of error (2 rate t)^2 to k - r, over k, at the largest scale.",
            worst(
                table,
                [name("symmetric", k, b.scales[-1]) for k in b.columns],
                "error (2 rate t)^2 / (k - r)",
                lambda v: np.abs(v - 1),
            ),
            at_most=0.03,
        ),
        table.bound(
            "asymmetric-rate",
            "Population: largest relative difference of the rate of F G^T to 2 ln(1 - rate s^2), over k and scales, with s the "
            "smallest singular value at the end that is not zero.",
            np.max([np.abs(table[one, "rate"] / table[one, "rate predicted"] - 1) for one in fast], axis=0),
            at_most=0.02,
        ),
        table.bound(
            "asymmetric-rate-by-scale",
            "Population: spread over the scales of the rate of F G^T over the scale squared, divided by its mean; the worst k.",
            np.max(
                [spread([table[name("asymmetric", k, a), "rate"] / a**2 for a in b.scales]) for k in b.columns], axis=0
            ),
            at_most=0.1,
            published="exp(-Omega(alpha^2 T))",
        ),
        table.bound(
            "gauge-rate",
            "Population: largest relative difference of the rate after the gauge step to 2 ln(1 - rate beta^2), over all k and "
            "scales.",
            worst(table, free, "rate", lambda v: np.abs(v / due - 1)),
            at_most=0.01,
            published="a rate that does not depend on alpha",
        ),
        table.ratio(
            "gauge-saves-what-is-predicted",
            "Population: rate after the gauge step over that without, at the smallest scale, divided by the ratio that the "
            "closed forms predict.",
            table[name("gauge step", most, b.scales[0]), "rate"] / table[low, "rate"],
            due / table[low, "rate predicted"],
            above=0.98,
        ),
        table.ratio(
            "gauge-saves-steps",
            "Population: steps to 1e-12 without the gauge step over those with it, at the smallest scale.",
            table[low, STEPS],
            table[name("gauge step", most, b.scales[0]), STEPS],
            above=1,
        ),
        table.ratio(
            "asymmetry-helps",
            "Population: error of F G^T, with G a third of F, over that of X X^T from the same F, at the largest scale.",
            table[name("asymmetric", most, b.scales[-1]), "error"],
            table[large, "error"],
            below=1,
        ),
    )


# --- measurements ----------------------------------------------------------------------------------------------------
def sensed_part(run: Run[Budget], part: str, kind: type[GaussianSensing] | type[RankOneSensing]) -> Part:
    """Fewer measurements than entries: the orders hold, the constants do not."""
    b = run.budget

    @functools.cache
    def problem(seed: int) -> Problem:
        g = Generator().manual_seed(seed)
        matrix = target(b.n, (1.0,) * b.rank, g)
        return Problem(kind.draw(b.measurements, (b.n, b.n), generator=g), matrix, b.rank, b.sensed_steps)

    k, scales = b.columns[len(b.columns) // 2], b.scales[-2:]
    table = sweep(part, methods_of(problem, (k,), scales, b.rank, 150), run=run)
    slow, fast, free = ([name(word, k, a) for a in scales] for word in ("symmetric", "asymmetric", "gauge step"))
    exponents = np.stack([table[one, "exponent"] for one in slow])
    far = np.take_along_axis(exponents, np.abs(exponents + 1.875).argmax(0)[None], 0)[0]
    title = part.capitalize()
    claims = [
        table.number(
            f"{part}-symmetric-exponent",
            f"{title} measurements: exponent of time in the error of X X^T with k > r; of the scales the one farthest from "
            "the middle of -2.05 to -1.7.",
            far,
            expected=-1.875,
            tol=0.175,
            published="no faster than 1/T^2",
        ),
        table.bound(
            f"{part}-asymmetric-is-linear",
            f"{title} measurements: share of the variance of the logarithmic error of F G^T that a line in time explains, the "
            "smaller of the scales.",
            np.min([table[one, "R2"] for one in fast], axis=0),
            at_least=0.99,
        ),
        table.bound(
            f"{part}-asymmetric-rate-by-scale",
            f"{title} measurements: spread over the scales of the rate of F G^T over the scale squared, divided by its mean.",
            spread([table[one, "rate"] / a**2 for one, a in zip(fast, scales, strict=True)]),
            at_most=0.15,
            published="exp(-Omega(alpha^2 T))",
        ),
        table.bound(
            f"{part}-gauge-rate",
            f"{title} measurements: spread over the scales of the rate after the gauge step, divided by its mean.",
            spread([table[one, "rate"] for one in free]),
            at_most=0.05,
            published="a rate that does not depend on alpha",
        ),
    ]
    for scale, plain, gauged in zip(scales, fast, free, strict=True):
        claims.append(
            table.ratio(
                f"{part}-gauge-saves-steps-{scale:g}".replace(".", "-"),
                f"{title} measurements: steps to 1e-12 without the gauge step over those with it, at the scale {scale:g}.",
                table[plain, STEPS],
                table[gauged, STEPS],
                above=1,
            )
        )
    return table.part(*claims)


# --- a photograph ----------------------------------------------------------------------------------------------------
def photograph_part(run: Run[Budget]) -> Part:
    """A block of a photograph: neither symmetric nor well conditioned, so that the signal itself is slow."""
    b = run.budget
    matrix = photograph(b.block, b.rank)
    singular = torch.linalg.svdvals(matrix)
    problem = Problem(AllEntries((b.block, b.block)), matrix, b.rank, b.steps)
    k, scale = 2 * b.rank, b.scales[0]

    def begin(columns: int, seed: int) -> tuple[Tensor, Tensor]:
        return start(b.block, columns, scale, Generator().manual_seed(seed))

    def asymmetric(columns: int, gauge: GaugeStep | None, seed: int) -> Mapping[str, Any]:
        pair = begin(columns, seed)
        found = problem.descend(pair, gauge=gauge)
        return fast_row(found, pair, b.rank) | {"condition": float(singular[0] / singular[b.rank - 1])}

    def preconditioned(seed: int) -> Mapping[str, Any]:
        rate, damping = tuned([(problem, begin(k, seed + 1000)), (problem, begin(k, seed + 2000))])
        return fast_row(problem.descend(begin(k, seed), rate, damping=damping)) | {
            "step": rate,
            "damping": damping,
        }

    gauge = GaugeStep(math.sqrt(float(singular[b.rank - 1])), close=1e-3)
    table = sweep(
        "photograph",
        {
            f"asymmetric k={b.rank}": functools.partial(asymmetric, b.rank, None),
            f"asymmetric k={k}": functools.partial(asymmetric, k, None),
            f"gauge step k={k}": functools.partial(asymmetric, k, gauge),
            f"preconditioned k={k}": preconditioned,
        },
        run=run,
    )
    return table.part(
        table.ratio(
            "photograph-gauge-saves-steps",
            "Photograph: steps to 1e-12 without the gauge step over those with it.",
            table[f"asymmetric k={k}", STEPS],
            table[f"gauge step k={k}", STEPS],
            above=1,
        )
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts; a dry run takes small matrices and few steps."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(run, *PROPERTIES),
        population_part(few),
        sensed_part(few, "gaussian", GaussianSensing),
        sensed_part(few, "rank-one", RankOneSensing),
        photograph_part(few),
    )


def figure(result: Result) -> Figure:
    """Rates a step by the scale of the start, with and without the gauge step; the population case."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "population" and str(row["model"]).startswith(("asymmetric", "gauge")):
            kind, k, _, scale = str(row["model"]).rsplit(" ", 3)
            curves.setdefault(f"{kind} {k}", []).append((float(scale), -float(str(row["rate"]))))
    return plots.line(curves, "scale alpha of the start", "rate: -d log(error) / d step", logx=True, logy=True)
