"""Properties: short functions that become claims. The name is the id, the docstring the statement.

>>> import torch
>>> from erlangen.survey import Run, exact, properties
>>> @exact(tol=1e-12, float32=1e-5)
... def turn_keeps_lengths(run: Run, dtype: torch.dtype) -> float:
...     "Relative change of lengths when vectors turn."
...     x = torch.randn(100, 2, generator=run.generator(), dtype=torch.float64).to(dtype)
...     turned = x @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=dtype)
...     return float((turned.norm(dim=1) / x.norm(dim=1) - 1).abs().max())
>>> [(claim.id, claim.threshold, claim.verdict) for claim in properties(Run(), turn_keeps_lengths).claims]
[('turn-keeps-lengths', '<= 1e-12', 'holds'), ('turn-keeps-lengths-float32', '<= 1e-05', 'holds')]

Properties are judged at every scale: they need no training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from erlangen.survey.claims import Claim, ClaimError, Part
from erlangen.survey.runs import Run

Measured = Callable[..., float]
"""``f(run) -> float``, or ``f(run, dtype) -> float`` for a property of numbers that have a precision."""


@dataclass(frozen=True)
class Property:
    """A function that measures, and how it is judged; `exact`, `bound` and `number` make them.

    Attributes:
        measure: the function.
        judge: the claim of a name, a statement and a measured number, in double or single precision.
        single: whether it is measured in float32 too.
    """

    measure: Measured
    judge: Callable[[str, str, float, bool], Claim]
    single: bool = False

    def __call__(self, run: Run[Any], *dtype: torch.dtype) -> float:
        """What the function measures."""
        return self.measure(run, *dtype)

    @property
    def takes_dtype(self) -> bool:
        """Whether the function has a second argument."""
        return len(inspect.signature(self.measure).parameters) > 1

    def claims(self, run: Run[Any]) -> Iterator[Claim]:
        """One claim, or one for each precision; every statement names its own."""
        name = self.measure.__name__.strip("_").replace("_", "-")
        statement = " ".join(inspect.cleandoc(self.measure.__doc__ or "").split())
        if not statement:
            raise ClaimError(f"property {name!r} has no docstring; it is the statement of the claim")
        if not self.takes_dtype:
            yield self.judge(name, statement, float(self.measure(run)), False)
            return
        yield self.judge(name, statement, float(self.measure(run, torch.float64)), False)
        if self.single:
            spoken = f"{statement.removesuffix('.')}, in float32."
            yield self.judge(f"{name}-float32", spoken, float(self.measure(run, torch.float32)), True)


def exact(
    *, tol: float = 1e-12, float32: float | None = None, published: str | float | None = None
) -> Callable[[Measured], Property]:
    """A decorator: the error (or count of exceptions, with ``tol=0``) that the function returns is at most `tol`.

    Args:
        tol: largest error in float64.
        float32: largest error in float32; None measures float64 alone.
        published: what the paper reports.

    Raises:
        ClaimError: on use, when the function has no docstring, or takes no dtype although `float32` is given.
    """

    def decorate(measure: Measured) -> Property:
        def judge(name: str, statement: str, value: float, single: bool) -> Claim:
            limit = float32 if single and float32 is not None else tol
            return Claim.exact(name, statement, measured=value, tol=limit, published=published)

        made = Property(measure, judge, float32 is not None)
        if made.single and not made.takes_dtype:
            raise ClaimError(f"property {measure.__name__!r} has a tolerance in float32, but takes no dtype; add it")
        return made

    return decorate


def bound(
    *, at_least: float | None = None, at_most: float | None = None, published: str | float | None = None
) -> Callable[[Measured], Property]:
    """A decorator: the number that the function returns is at least, or at most, a limit."""

    def decorate(measure: Measured) -> Property:
        def judge(name: str, statement: str, value: float, single: bool) -> Claim:
            return Claim.bound(name, statement, measured=value, at_least=at_least, at_most=at_most, published=published)

        return Property(measure, judge)

    return decorate


def number(
    expected: float, *, tol: float = 0.0, published: str | float | None = None
) -> Callable[[Measured], Property]:
    """A decorator: the number that the function returns is `expected`, within `tol`."""

    def decorate(measure: Measured) -> Property:
        def judge(name: str, statement: str, value: float, single: bool) -> Claim:
            return Claim.number(name, statement, measured=value, expected=expected, tol=tol, published=published)

        return Property(measure, judge)

    return decorate


def properties(run: Run[Any], *which: Property) -> Part:
    """The part of an experiment that measures properties: their claims, in order, and a row for each."""
    claims = [claim for one in which for claim in one.claims(run)]
    return Part([{"part": "properties", "property": claim.id, "measured": claim.measured} for claim in claims], claims)


def largest(first: Any, *rest: Any) -> Any:
    """As the built-in max, of several numbers or of one iterable, but NaN where any of them is: what failed must not be lost.

    >>> largest(1.0, float("nan"), 2.0), max(1.0, float("nan"), 2.0)
    (nan, 2.0)
    """
    values = [first, *rest] if rest else list(first)
    return next((value for value in values if value != value), None) or max(values)
