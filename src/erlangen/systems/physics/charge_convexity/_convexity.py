"""Tests of convexity: of numbers at whole charges, and of a saddle by interval arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from erlangen.errors import NotFiniteError, ShapeError


@dataclass(frozen=True)
class Convexity:
    """What `convexity` found.

    Attributes:
        least, largest: second differences; of a convex function none is below zero.
        convex, concave: by second differences; a line is both.
        minimal_charge: the least q0 with ``D((n1 + n2) q0) >= D(n1 q0) + D(n2 q0)`` for all sums in the list; None where none is.
    """

    least: float
    largest: float
    convex: bool
    concave: bool
    minimal_charge: int | None


def convexity(dimensions: ArrayLike, *, tol: float = 1e-12) -> Convexity:
    """Test numbers D(1), D(2), ... of charges 1, 2, ... for convexity, and for the form of the conjecture.

    >>> found = convexity([n ** (4 / 3) for n in range(1, 20)])
    >>> found.convex, found.concave, found.minimal_charge
    (True, False, 1)

    Args:
        dimensions: ``[n]`` with n >= 3, real.
        tol: what counts as zero, relative to the largest of the numbers: roundings.

    Raises:
        ShapeError: fewer than three numbers, or no vector.
        NotFiniteError: one is NaN or infinite.
    """
    given = np.asarray(dimensions)
    if given.ndim != 1 or len(given) < 3:
        raise ShapeError(
            f"dimensions have the shape {given.shape}; give three or more numbers, of charges 1, 2, 3, ..."
        )
    if np.iscomplexobj(given):
        raise ShapeError("dimensions are complex; pass their real parts, of which the conjecture speaks")
    D = given.astype(np.float64)
    if not np.isfinite(D).all():
        raise NotFiniteError(
            f"dimensions[{int(np.argmin(np.isfinite(D)))}] is not finite; leave it out with those after it"
        )
    zero = tol * float(abs(D).max())
    second = np.diff(D, 2)
    minimal = next((q for q in range(1, len(D) // 2 + 1) if _superadditive(D[q - 1 :: q], zero)), None)
    return Convexity(
        float(second.min()), float(second.max()), bool((second >= -zero).all()), bool((second <= zero).all()), minimal
    )


def _superadditive(D: Any, zero: float) -> bool:
    """D[k] is that of charge k + 1."""
    n = len(D)
    return all(D[i + j + 1] >= D[i] + D[j] - zero for i in range(n) for j in range(i, n - i - 1))


def enclosed_saddle(slope: complex, Q: Any) -> Any:
    """An interval of mpmath that is sure to hold u of ``u^3 - u = slope Q`` on its branch, for all Q of an interval; or None.

    The Newton operator of a box about the root in the middle, ``m - F(m, Q) / F'(box)``, has exactly one root for each Q if it
    maps the box into itself; the root in the middle is on the branch, and roots are continuous.
    """
    from mpmath import iv

    from erlangen.systems.physics.charge_convexity.method import saddle

    low, high = float(Q.a), float(Q.b)
    middle = 0.5 * (low + high)
    root = complex(saddle(slope * middle))
    gap = abs(3 * root * root - 1)
    if gap == 0:
        return None
    radius = 2 * (abs(slope) * (high - low) / 2 / gap + 1e-13 * (1 + abs(root)))
    context: Any = iv
    m = context.mpc(context.mpf(root.real), context.mpf(root.imag))
    side = context.mpf([-radius, radius])
    box = context.mpc(m.real + side, m.imag + side)
    factor = context.mpc(context.mpf(slope.real), context.mpf(slope.imag))
    derivative = 3 * box * box - 1
    if derivative.real.a <= 0 <= derivative.real.b and derivative.imag.a <= 0 <= derivative.imag.b:
        return None
    image = m - (m * m * m - m - factor * Q) / derivative
    inside = (
        image.real.a > box.real.a
        and image.real.b < box.real.b
        and image.imag.a > box.imag.a
        and image.imag.b < box.imag.b
    )
    return image if inside and math.isfinite(float(image.real.delta)) else None


def saddle_curvature(slope: complex, Q: Any) -> Any:
    """An interval that holds Re d^2 Delta_LO / dQ^2 = Re slope / (3 u^2 - 1), for all Q of an interval; or None."""
    from mpmath import iv

    u = enclosed_saddle(slope, Q)
    if u is None:
        return None
    context: Any = iv
    derivative = 3 * u * u - 1
    factor = context.mpc(context.mpf(slope.real), context.mpf(slope.imag))
    if derivative.real.a <= 0 <= derivative.real.b and derivative.imag.a <= 0 <= derivative.imag.b:
        return None
    return (factor / derivative).real
