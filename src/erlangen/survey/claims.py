"""How a published claim is stated, measured and judged: `System`, `Claim`, `Result`.

A claim is a sentence of a paper that a run can refute. A module of `erlangen.systems` states the facts of its paper in
``SYSTEM``, a `System`, and measures its claims in ``experiment(scale, seed)``, which returns a `Result`. A claim that
failed stays, as failed. `erlangen.survey.ledger` finds and runs systems.
"""

from __future__ import annotations

import functools
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, cast, get_args

from erlangen.errors import ErlangenError, UnknownNameError, is_whole

__all__ = ["Claim", "ClaimError", "Kind", "Result", "Scale", "System", "averaged"]

Scale: TypeAlias = Literal["smoke", "full"]
"""``"smoke"``: the test's, at most 20 s on 2 cores. ``"full"``: the honest experiment, at most 10 min on 2 cores."""

Kind: TypeAlias = Literal["exact", "ratio", "number", "not-measurable-here"]
"""A property with a tolerance; a comparison in one run; a value that can be computed; none of these, with the reason."""

Plain: TypeAlias = str | int | float | bool | None

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_BOUND = re.compile(rf"(<=|>=) ({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER}) \+- ({_NUMBER})")


class ClaimError(ErlangenError):
    """A system, a claim or a result is stated in a way that cannot be judged or printed."""


@dataclass(frozen=True)
class System:
    """The facts of a paper, in our own words.

    Attributes:
        title: title of the paper.
        authors: names in the paper's order.
        venue: where it was published, ``"arXiv"`` for a preprint.
        year: year of publication.
        arxiv: identifier such as ``"2110.03336"``; None where there is none.
        abstract_claims: what the abstract promises, one sentence each.

    Raises:
        ClaimError: a field is empty or has another type or form.
    """

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    arxiv: str | None
    abstract_claims: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("title", "venue"):
            _check_text(f"System.{name}", getattr(self, name))
        for name in ("authors", "abstract_claims"):
            words = getattr(self, name)
            if not isinstance(words, tuple) or not words:
                raise ClaimError(f"System.{name} = {words!r}; pass a tuple of texts, with a comma after a single one")
            for index, word in enumerate(words):
                _check_text(f"System.{name}[{index}]", word)
        if not is_whole(self.year):
            raise ClaimError(f"System.year = {self.year!r}; pass a whole number")
        if self.arxiv is not None and not re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}", self.arxiv):
            raise ClaimError(f"System.arxiv = {self.arxiv!r}; pass an identifier such as '2110.03336', or None")


@dataclass(frozen=True)
class Claim:
    """A sentence, the number that a run has measured for it, and the verdict.

    Make claims with `exact`, `ratio`, `number` and `not_measurable`, which judge. A verdict that does not follow from
    `measured` and `threshold` is an error, so that what is read from a file can be trusted as far as its numbers.

    Attributes:
        id: short name, unique within a result: lower case, digits, hyphens.
        statement: the sentence that the number can refute.
        kind: see `Kind`.
        published: what the paper reports: a number, a text, or None.
        measured: the number of this run; None where nothing can be measured.
        threshold: ``"<= 1e-05"``, ``">= 2"`` or ``"15 +- 0.5"`` (value and tolerance); for what cannot be measured, the reason.
        holds: whether `measured` meets `threshold`, which NaN and infinity never do; None where nothing can be measured.

    Raises:
        ClaimError: a field is empty, of another form, or contradicts the others.
        UnknownNameError: `kind` is not known.
    """

    id: str
    statement: str
    kind: Kind
    published: str | float | None
    measured: float | None
    threshold: str
    holds: bool | None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ClaimError(f"Claim.id = {self.id!r}; use lower-case letters, digits and hyphens, as in 'so3-exact'")
        _check_text(f"claim {self.id!r}: statement", self.statement)
        _check_text(f"claim {self.id!r}: threshold", self.threshold)
        if self.kind not in get_args(Kind):
            raise UnknownNameError(
                f"claim {self.id!r}: kind = {self.kind!r}; known kinds are {', '.join(get_args(Kind))}"
            )
        if self.kind == "not-measurable-here":
            verdict = None
            if self.measured is not None:
                raise ClaimError(f"claim {self.id!r} is not measurable here, but measured = {self.measured}; pass None")
        elif self.measured is None:
            raise ClaimError(f"claim {self.id!r} has no measured value; pass a number, or use Claim.not_measurable")
        else:
            verdict = _meets(self.measured, self.threshold, self.id)
        if self.kind == "exact" and self.measured is not None and self.measured < 0:
            raise ClaimError(f"claim {self.id!r}: measured = {self.measured}; an error is not negative, take its size")
        if self.holds is not verdict:
            raise ClaimError(
                f"claim {self.id!r}: holds = {self.holds}, but measured {self.measured} against {self.threshold!r} gives "
                f"{verdict}; make claims with Claim.exact, ratio, number or not_measurable"
            )

    @classmethod
    def exact(
        cls, name: str, statement: str, *, measured: float, tol: float = 1e-5, published: str | float | None = None
    ) -> Claim:
        """A property: the error `measured` (or a count of exceptions, with ``tol=0``) is at most `tol`."""
        return cls._judged(name, statement, "exact", published, measured, f"<= {_digits(tol, 'tol')}")

    @classmethod
    def ratio(
        cls,
        name: str,
        statement: str,
        *,
        measured: float,
        at_least: float | None = None,
        at_most: float | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """A comparison with a baseline of the same run; say in the statement which of the two is divided by the other."""
        limits = (("at_least", ">=", at_least), ("at_most", "<=", at_most))
        bounds = [f"{sign} {_digits(limit, word)}" for word, sign, limit in limits if limit is not None]
        if len(bounds) != 1:
            raise ClaimError(f"claim {name!r}: at_least = {at_least}, at_most = {at_most}; pass one of the two")
        return cls._judged(name, statement, "ratio", published, measured, bounds[0])

    @classmethod
    def number(
        cls,
        name: str,
        statement: str,
        *,
        measured: float,
        expected: float,
        tol: float = 0.0,
        published: str | float | None = None,
    ) -> Claim:
        """A value that can be computed: `measured` is within `tol` of `expected`, which is `published` unless that is given."""
        bound = f"{_digits(expected, 'expected')} +- {_digits(tol, 'tol')}"
        return cls._judged(name, statement, "number", expected if published is None else published, measured, bound)

    @classmethod
    def not_measurable(cls, name: str, statement: str, *, published: str | float | None, reason: str) -> Claim:
        """A claim that needs what is not here (a data set under licence, a GPU, weeks): `reason` says what."""
        return cls(name, statement, "not-measurable-here", published, None, reason, None)

    @classmethod
    def _judged(
        cls, name: str, statement: str, kind: Kind, published: str | float | None, measured: float, threshold: str
    ) -> Claim:
        measured = float(measured)
        return cls(name, statement, kind, published, measured, threshold, _meets(measured, threshold, name))


@dataclass(frozen=True)
class Result:
    """What one run of an experiment gives: a table with every baseline, and the claims judged on it.

    Attributes:
        rows: one table; every row maps columns to texts, numbers (0-dimensional tensors and arrays too) or None. All rows
            share at least one column, which tells them apart; other columns may be missing, which means empty.
        claims: the claims, with different ids.

    Raises:
        ClaimError: `rows` or `claims` is empty, rows share no column, a cell is not plain, or an id occurs twice.
    """

    rows: Sequence[Mapping[str, Any]]
    claims: Sequence[Claim]

    def __post_init__(self) -> None:
        if not self.rows or not self.claims:
            raise ClaimError(f"a result has {len(self.rows)} rows and {len(self.claims)} claims; it needs some of both")
        rows = [
            {column: _plain(cell, f"rows[{i}][{column!r}]") for column, cell in row.items()}
            for i, row in enumerate(self.rows)
        ]
        if not functools.reduce(set[str].__and__, (set(row) for row in rows)):
            raise ClaimError(
                f"the rows share no column; give each one that tells them apart (columns: {_columns(rows)})"
            )
        twice = [name for name, count in Counter(claim.id for claim in self.claims).items() if count > 1]
        if twice:
            raise ClaimError(f"claim ids {twice} occur more than once; ids are unique within a result")
        object.__setattr__(self, "rows", rows)  # copies: what the caller does to his lists is not ours
        object.__setattr__(self, "claims", list(self.claims))

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which they first occur."""
        return _columns(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """``{"rows", "claims"}`` of plain values for strict JSON; NaN and infinities become the texts "nan", "inf", "-inf"."""
        rows = [{column: _to_json(cell) for column, cell in row.items()} for row in self.rows]
        return {"rows": rows, "claims": [{k: _to_json(v) for k, v in asdict(claim).items()} for claim in self.claims]}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Result:
        """The result in a dictionary of `to_dict` or `run`; verdicts are checked against their numbers.

        Raises:
            ClaimError: a key is missing or unknown, or what is there is no result.
        """
        try:
            rows: list[dict[str, Plain]] = entry["rows"]
            claims: list[dict[str, Any]] = entry["claims"]
        except KeyError as error:
            raise ClaimError(f"the entry has no {error}; its keys are {sorted(entry)}") from None
        names = {field.name for field in fields(Claim)}
        read: list[Claim] = []
        for index, claim in enumerate(claims):
            if set(claim) != names:
                raise ClaimError(f"claims[{index}] has the keys {sorted(claim)}, but needs {sorted(names)}")
            values: dict[str, Any] = {**claim, "measured": _from_json(claim["measured"])}
            read.append(Claim(**values))
        return cls([{column: _from_json(cell) for column, cell in row.items()} for row in rows], read)


def averaged(runs: Sequence[Mapping[str, Any]], **head: Any) -> dict[str, Any]:
    """One row for runs that differ in their seed.

    Args:
        runs: rows of the same columns, at least one.
        head: columns that come first, such as the name of the model.

    Returns:
        `head`, then for every column of floats the mean and, of two runs or more, the standard deviation in a column
        ``"<name>, spread"``; other columns as in the first run, and the number of runs in ``"seeds"``.

    Raises:
        ClaimError: there are no runs, or they have different columns.
    """
    if not runs or any(set(run) != set(runs[0]) for run in runs):
        raise ClaimError(
            f"{len(runs)} runs with the columns {[sorted(run) for run in runs][:2]}; pass runs of equal columns"
        )
    row: dict[str, Any] = dict(head)
    for key, value in runs[0].items():
        values = [run[key] for run in runs]
        row[key] = statistics.mean(values) if isinstance(value, float) else value
        if isinstance(value, float) and len(runs) > 1:
            row[f"{key}, spread"] = statistics.stdev(values)
    return {**row, "seeds": len(runs)}


def _meets(measured: float, threshold: str, name: str) -> bool:
    if bound := _BOUND.fullmatch(threshold):
        limit = float(bound[2])
        meets = measured <= limit if bound[1] == "<=" else measured >= limit
    elif around := _RANGE.fullmatch(threshold):
        meets = abs(measured - float(around[1])) <= float(around[2])
    else:
        raise ClaimError(f"claim {name!r}: threshold = {threshold!r}; write '<= 1e-05', '>= 2' or '15 +- 0.5'")
    return math.isfinite(measured) and meets


def _digits(value: float, name: str) -> str:
    """The shortest text that reads back as the same number."""
    if not math.isfinite(value) or (name == "tol" and value < 0):
        raise ClaimError(f"{name} = {value!r}; pass a finite number{' that is not negative' if name == 'tol' else ''}")
    text = repr(float(value))
    return text.removesuffix(".0")


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ClaimError(f"{name} = {text!r}; write a text")


def _columns(rows: Iterable[Mapping[str, Plain]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _plain(cell: object, where: str) -> Plain:
    """A cell as a value of Python; tensors and arrays of one number give that number."""
    if isinstance(cell, str | int | float | None) and type(cell).__module__ == "builtins":
        return cell
    if getattr(cell, "ndim", None) == 0:
        return cast("Any", cell).item()
    raise ClaimError(f"{where} is a {type(cell).__name__}; cells are texts, numbers, booleans or None")


def _to_json(value: Plain) -> Plain:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Plain) -> Plain:
    return float(value) if value in ("nan", "inf", "-inf") else value
