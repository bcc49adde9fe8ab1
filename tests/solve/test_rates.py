"""Rates against laws with known exponents, and numpy's fit."""

import numpy as np
import pytest

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError
from erlangen.solve import exponential_rate, power_rate


def test_exact_laws() -> None:
    steps = np.arange(1, 50)
    made = exponential_rate(steps, 7 * np.exp(-0.3 * steps))
    assert made.slope == pytest.approx(-0.3, abs=1e-12)
    assert np.exp(made.intercept) == pytest.approx(7, rel=1e-10)
    assert made.r2 == pytest.approx(1)
    assert power_rate(steps, 5.0 * steps**-2.0).slope == pytest.approx(-2, abs=1e-12)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Normal noise in the logarithm: 95 of 100 intervals hold the true slope, up to the chance of 400 draws."""
    rng, x = np.random.default_rng(0), np.linspace(0, 1, 8)
    fits = [exponential_rate(x, np.exp(2 * x + 0.1 * rng.standard_normal(8))) for _ in range(400)]
    assert 0.92 <= np.mean([fit.low <= 2 <= fit.high for fit in fits]) <= 0.98
    assert all(fit.low < fit.slope < fit.high for fit in fits)


def test_like_polyfit() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(1, 9, 30), rng.uniform(1, 9, 30)
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    made = power_rate(x, y)
    assert (made.slope, made.intercept) == pytest.approx((slope, intercept))
    assert made.r2 == pytest.approx(np.corrcoef(np.log(x), np.log(y))[0, 1] ** 2)


@pytest.mark.parametrize(
    ("x", "y", "error", "word"),
    [
        ([1, 2], [1, 2], ShapeError, "at least three"),
        ([1, 2, 3], [1, 2], ShapeError, "values"),
        ([1, 2, 3], [1, np.nan, 2], NotFiniteError, "values"),
        ([1, 2, 3], [1, 0, 2], ErlangenError, r"values\[1\] = 0"),
        ([2, 2, 2], [1, 3, 2], ErlangenError, "all equal"),
    ],
)
def test_bad_input(x: list[float], y: list[float], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        exponential_rate(x, y)


def test_sizes_are_positive() -> None:
    with pytest.raises(ErlangenError, match=r"sizes\[0\]"):
        power_rate([0, 1, 2], [1, 2, 3])
