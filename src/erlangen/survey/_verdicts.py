"""Thresholds as texts, and the verdict that follows from numbers and a threshold."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from typing import Literal, TypeAlias

from erlangen.errors import ErlangenError

Verdict: TypeAlias = Literal["holds", "fails", "undecided", "not settled", "not measurable here"]
"""Of a claim that was measured with several seeds: it holds if every seed meets the threshold and the mean does by more than two
standard errors; it fails if every seed misses it and the mean does by as much; all else is undecided. Of one without
seeds: whether its number meets the threshold. Not settled: the run was too small to say."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_BOUND = re.compile(rf"(<=|>=|<|>) ({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER}) \+- ({_NUMBER})")


class ClaimError(ErlangenError):
    """A system, a claim or a result is stated in a way that cannot be judged or printed."""


def limit_text(
    name: str,
    at_least: float | None,
    at_most: float | None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    """A threshold of one limit."""
    limits = (("at_least", ">=", at_least), ("at_most", "<=", at_most), ("above", ">", above), ("below", "<", below))
    bounds = [f"{sign} {digits(limit, word)}" for word, sign, limit in limits if limit is not None]
    if len(bounds) != 1:
        raise ClaimError(f"claim {name!r}: at_least = {at_least}, at_most = {at_most}; pass one of the two")
    return bounds[0]


def _margin(measured: float, threshold: str, name: str) -> tuple[float, bool]:
    """By how much a number meets a threshold (negative: misses it), and whether equality meets it."""
    if bound := _BOUND.fullmatch(threshold):
        limit = float(bound[2])
        return (limit - measured if "<" in bound[1] else measured - limit), "=" in bound[1]
    if around := _RANGE.fullmatch(threshold):
        return float(around[2]) - abs(measured - float(around[1])), True
    raise ClaimError(f"claim {name!r}: threshold = {threshold!r}; write '<= 1e-05', '>= 2', '< 1' or '15 +- 0.5'")


def meets(measured: float, threshold: str, name: str) -> bool:
    """Whether a number meets a threshold, which NaN and infinity never do."""
    margin, equal = _margin(measured, threshold, name)
    return math.isfinite(measured) and (margin > 0 or (equal and margin == 0))


def judge(values: Sequence[float], threshold: str, name: str) -> Verdict:
    """The verdict of several seeds: all of them alike, and their mean by more than two standard errors."""
    met = [meets(value, threshold, name) for value in values]
    margins = [_margin(value, threshold, name)[0] for value in values]
    if not all(map(math.isfinite, margins)):
        return "undecided" if any(met) else "fails"
    if len(values) < 2 or len(set(met)) > 1:
        return "undecided"
    error = statistics.stdev(margins) / math.sqrt(len(margins))
    # Without any spread, what every seed says is what there is.
    settled = abs(statistics.fmean(margins)) > 2 * error or error == 0
    return "undecided" if not settled else "holds" if met[0] else "fails"


def same_number(a: float, b: float) -> bool:
    """Whether two numbers are the same up to the order of a sum; NaN is itself."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-300) or (math.isnan(a) and math.isnan(b)) or a == b


def digits(value: float, name: str) -> str:
    """The shortest text that reads back as the same number."""
    if not math.isfinite(value) or (name == "tol" and value < 0):
        raise ClaimError(f"{name} = {value!r}; pass a finite number{' that is not negative' if name == 'tol' else ''}")
    text = repr(float(value))
    return text.removesuffix(".0")
