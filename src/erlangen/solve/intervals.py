"""Proofs by interval arithmetic: an inequality on a whole interval, roundings included."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from erlangen.errors import ErlangenError, check_integer


class Proof(NamedTuple):
    """What `prove_positive` found.

    Attributes:
        holds: True where the function is positive everywhere; False where it is at most zero on a piece; None where the pieces
            were used up.
        pieces: intervals that were looked at.
        least: a lower bound of the function where `holds` is True; else what is known of the first bad piece.
        open: the piece ``(low, high)`` that is at most zero, or could not be decided; None where `holds` is True.
    """

    holds: bool | None
    pieces: int
    least: float
    open: tuple[float, float] | None


def prove_positive(
    f: Callable[[Any], Any], low: float, high: float, *, max_pieces: int = 10_000, digits: int = 20
) -> Proof:
    """Prove that ``f > 0`` on an interval, or find a piece where it is not; it halves where intervals are too wide to tell.

    >>> prove_positive(lambda x: x * x - x + 1, -10, 10).holds
    True
    >>> prove_positive(lambda x: x * x - 1, -10, 10).holds
    False
    >>> prove_positive(lambda x: x * x, -1, 1, max_pieces=200).holds is None  # zero at one point: no enclosure tells
    True

    Args:
        f: a function of one interval of mpmath (``mpmath.iv``) made of arithmetic and the functions of ``iv``; its value
            contains all values on that interval. Where it has no value on an interval so wide, it may raise
            ``ZeroDivisionError`` or return None.
        low, high: ends of the interval, included.
        max_pieces: how many pieces may be looked at.
        digits: decimal digits of the arithmetic.

    Returns:
        A `Proof`; True is rigorous if f is made of interval operations alone.

    Raises:
        ErlangenError: the interval is empty or not finite, or `max_pieces` or `digits` is not a positive number.
    """
    from mpmath import iv  # pyright: ignore[reportMissingTypeStubs]

    check_integer("max_pieces", max_pieces, 1)
    check_integer("digits", digits, 1)
    if not (float("-inf") < low <= high < float("inf")):
        raise ErlangenError(f"low = {low}, high = {high}; give two finite numbers in order")
    context: Any = iv
    before = context.dps
    context.dps = digits
    try:
        return _prove(f, context, low, high, max_pieces)
    finally:
        context.dps = before


def _prove(f: Callable[[Any], Any], iv: Any, low: float, high: float, max_pieces: int) -> Proof:
    # Wide pieces first: a piece that is negative is found before one at a zero is halved to nothing.
    waiting, looked, least = deque([(float(low), float(high))]), 0, float("inf")
    while waiting:
        a, b = waiting.popleft()
        if looked == max_pieces:
            return Proof(None, looked, least, (a, b))
        looked += 1
        try:
            value = f(iv.mpf([a, b]))
        except ZeroDivisionError:
            value = None
        if value is not None:
            value = iv.mpf(value)
            if value.a > 0:
                least = min(least, float(value.a))
                continue
            if value.b <= 0:
                return Proof(False, looked, float(value.a), (a, b))
        middle = 0.5 * (a + b)
        if not a < middle < b:
            return Proof(None, looked, least, (a, b))
        waiting.extend([(a, middle), (middle, b)])
    return Proof(True, looked, least, None)
