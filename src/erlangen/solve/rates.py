"""Rates of convergence and of cost: lines through logarithms, with the interval of their slope."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError


class Rate(NamedTuple):
    """The slope of a line through logarithms.

    Attributes:
        slope: of least squares.
        low, high: its 95 % interval, for residuals that are independent. Iterates of one run are not: there it says how
            straight the curve is, and no more.
        intercept: the logarithm at zero.
        r2: share of the variance that the line explains.
    """

    slope: float
    low: float
    high: float
    intercept: float
    r2: float


def exponential_rate(steps: ArrayLike, values: ArrayLike) -> Rate:
    """The rate of ``values ~ exp(slope * steps)``: linear convergence has a negative one.

    >>> import numpy as np
    >>> steps = np.arange(100)
    >>> bool(abs(exponential_rate(steps, 3 * 0.9**steps).slope - np.log(0.9)) < 1e-12)
    True

    Args:
        steps: ``[n]``, at least three.
        values: ``[n]``, positive.

    Raises:
        ShapeError: other shapes, or fewer than three points.
        NotFiniteError: something is NaN or infinite.
        ErlangenError: a value is not positive, or all steps are equal.
    """
    x, y = _checked("steps", steps, "values", values)
    return _line(x, np.log(_positive("values", y)), "steps")


def power_rate(sizes: ArrayLike, values: ArrayLike) -> Rate:
    """The exponent of ``values ~ sizes ** slope``: of a cost in its size, of slow convergence in time.

    >>> round(power_rate([1, 2, 4, 8], [5, 20, 80, 320]).slope, 12)
    2.0

    Args and Raises: as `exponential_rate`; sizes are positive too.
    """
    x, y = _checked("sizes", sizes, "values", values)
    return _line(np.log(_positive("sizes", x)), np.log(_positive("values", y)), "sizes")


def _checked(x_name: str, x: ArrayLike, y_name: str, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 3:
        raise ShapeError(f"{x_name} {a.shape} and {y_name} {b.shape}: give two vectors [n] of at least three points")
    for name, value in ((x_name, a), (y_name, b)):
        if not np.isfinite(value).all():
            raise NotFiniteError(f"{name} has NaN or infinite entries; leave these points out")
    return a, b


def _positive(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if (values <= 0).any():
        where = int(np.argmax(values <= 0))
        raise ErlangenError(f"{name}[{where}] = {values[where]}: only positive numbers have a logarithm; cut before it")
    return values


def _line(x: NDArray[np.float64], y: NDArray[np.float64], name: str) -> Rate:
    if np.ptp(x) == 0:
        raise ErlangenError(f"{name} are all equal; a slope needs two different ones")
    # linregress is typed as a tuple of unknowns.
    slope, intercept, r, _, error = (float(v) for v in stats.linregress(x, y))  # pyright: ignore
    half = float(stats.t.ppf(0.975, len(x) - 2)) * error
    return Rate(slope, slope - half, slope + half, intercept, r * r)
