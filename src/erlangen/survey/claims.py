"""How a published claim is stated, measured and judged: `System`, `Claim`, `Part`, `Result`.

A claim is a sentence of a paper that a run can refute. A system states the facts of its paper in ``SYSTEM``, a `System`, and
measures its claims in ``experiment(run)``, which returns a `Result`. A claim that failed stays, as failed.
`erlangen.survey.ledger` finds and runs systems; `erlangen.survey.comparison` and `erlangen.survey.property_claims` make claims.

>>> claim = Claim.ratio("half", "Error over that of the baseline.", measured=[0.45, 0.47, 0.44], at_most=0.5)
>>> claim.verdict, round(claim.measured, 3)
('holds', 0.453)
>>> Claim.ratio("half", "Error over that of the baseline.", measured=[0.45, 0.47, 0.52], at_most=0.5).verdict
'undecided'
"""

from __future__ import annotations

import functools
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from erlangen.errors import UnknownNameError, is_whole
from erlangen.survey._verdicts import ClaimError, Verdict, digits, judge, limit_text, meets, same_number

__all__ = ["Claim", "ClaimError", "Kind", "Part", "Result", "Scale", "System", "Verdict", "averaged"]

Scale: TypeAlias = Literal["smoke", "full", "paper"]
"""``"smoke"``: the test's, at most 20 s of one core. ``"full"``: what is committed, at most 30 minutes of one core for a small
or middle system and 90 for a large one. ``"paper"``: the paper's sizes, for a GPU or a night."""

Kind: TypeAlias = Literal["exact", "bound", "ratio", "number", "not-measurable-here"]
"""A property with a tolerance; a number against a limit; a comparison with a baseline of the same run; a value that can be
computed; none of these, with the reason."""

Plain: TypeAlias = str | int | float | bool | None


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
        method: dotted names of the public classes and functions that are the method, wherever they live.

    Raises:
        ClaimError: a field is empty or has another type or form.
    """

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    arxiv: str | None
    abstract_claims: tuple[str, ...]
    method: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("title", "venue"):
            _check_text(f"System.{name}", getattr(self, name))
        for name in ("authors", "abstract_claims"):
            words = getattr(self, name)
            if not isinstance(words, tuple) or not words:
                raise ClaimError(f"System.{name} = {words!r}; pass a tuple of texts, with a comma after a single one")
            for index, word in enumerate(words):
                _check_text(f"System.{name}[{index}]", word)
        if not isinstance(self.method, tuple) or not all(re.fullmatch(r"\w+(\.\w+)+", name) for name in self.method):
            raise ClaimError(f"System.method = {self.method!r}; pass a tuple of dotted names of classes and functions")
        if not is_whole(self.year):
            raise ClaimError(f"System.year = {self.year!r}; pass a whole number")
        if self.arxiv is not None and not re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}", self.arxiv):
            raise ClaimError(f"System.arxiv = {self.arxiv!r}; pass an identifier such as '2110.03336', or None")


@dataclass(frozen=True)
class Claim:
    """A sentence, the number that a run has measured for it, and the verdict.

    Make claims with `exact`, `bound`, `ratio`, `number` and `not_measurable`, which judge. A verdict that does not follow from
    the numbers and the threshold is an error, so that what is read from a file can be trusted as far as its numbers; only
    "undecided" and "not settled" may stand in its place, with the reason in `note`.

    Attributes:
        id: short name, unique within a result: lower case, digits, hyphens.
        statement: the sentence that the number can refute; it stands alone.
        kind: see `Kind`.
        published: what the paper reports, a number or a text; None where it reports nothing.
        measured: the number of this run, the mean of `values` where there are some; None where nothing can be measured.
        threshold: ``"<= 1e-05"``, ``">= 2"``, ``"< 1"`` or ``"15 +- 0.5"`` (value and tolerance); for what cannot be measured,
            the reason.
        verdict: see `Verdict`. NaN and infinity meet no threshold.
        values: the number of every seed; None where it does not come from several seeds.
        note: why the verdict is not what the numbers say.

    Raises:
        ClaimError: a field is empty, of another form, or contradicts the others.
        UnknownNameError: `kind` or `verdict` is not known.
    """

    id: str
    statement: str
    kind: Kind
    published: str | float | None
    measured: float | None
    threshold: str
    verdict: Verdict
    values: tuple[float, ...] | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ClaimError(f"Claim.id = {self.id!r}; use lower-case letters, digits and hyphens, as in 'so3-exact'")
        _check_text(f"claim {self.id!r}: statement", self.statement)
        _check_text(f"claim {self.id!r}: threshold", self.threshold)
        if self.note is not None:
            _check_text(f"claim {self.id!r}: note", self.note)
        for name, value, known in (("kind", self.kind, Kind), ("verdict", self.verdict, Verdict)):
            if value not in get_args(known):
                raise UnknownNameError(f"claim {self.id!r}: {name} = {value!r}; known are {', '.join(get_args(known))}")
        if self.kind == "not-measurable-here":
            due: Verdict = "not measurable here"
            if self.measured is not None or self.values is not None:
                raise ClaimError(f"claim {self.id!r} is not measurable here, but measured = {self.measured}; pass None")
        elif self.measured is None:
            raise ClaimError(f"claim {self.id!r} has no measured value; pass a number, or use Claim.not_measurable")
        else:
            due = self._due()
        if self.kind == "exact" and self.measured is not None and self.measured < 0:
            raise ClaimError(f"claim {self.id!r}: measured = {self.measured}; an error is not negative, take its size")
        held_back = self.verdict in ("undecided", "not settled") and self.note is not None and self.measured is not None
        if self.verdict != due and not held_back:
            raise ClaimError(
                f"claim {self.id!r}: verdict = {self.verdict!r}, but measured {self.measured} against {self.threshold!r} gives "
                f"{due!r}; make claims with Claim.exact, bound, ratio, number or not_measurable"
            )

    def _due(self) -> Verdict:
        """The verdict that follows from the numbers."""
        if self.values is None:
            return "holds" if meets(cast("float", self.measured), self.threshold, self.id) else "fails"
        if not self.values:
            raise ClaimError(f"claim {self.id!r}: values is empty; pass the number of every seed, or None")
        if not same_number(statistics.fmean(self.values), cast("float", self.measured)):
            raise ClaimError(f"claim {self.id!r}: measured = {self.measured} is not the mean of {self.values}")
        return judge(self.values, self.threshold, self.id)

    @property
    def holds(self) -> bool | None:
        """True or False where the verdict is holds or fails, else None."""
        return {"holds": True, "fails": False}.get(self.verdict)

    @property
    def seeds(self) -> int | None:
        """How many seeds were measured; None where the number does not come from several seeds."""
        return None if self.values is None else len(self.values)

    def unsettled(self, why: str) -> Claim:
        """The same claim without a verdict, because of what `why` says."""
        if self.measured is None:
            return self
        return replace(self, verdict="not settled", note=why)

    @classmethod
    def exact(
        cls,
        name: str,
        statement: str,
        *,
        measured: float | Sequence[float],
        tol: float = 1e-5,
        published: str | float | None = None,
    ) -> Claim:
        """A property: the error `measured` (or a count of exceptions, with ``tol=0``) is at most `tol`; of several, each."""
        if isinstance(measured, Sequence):
            measured = max(measured, key=lambda value: math.inf if math.isnan(value) else value)
        return cls._judged(name, statement, "exact", published, measured, f"<= {digits(tol, 'tol')}")

    @classmethod
    def bound(
        cls,
        name: str,
        statement: str,
        *,
        measured: float | Sequence[float],
        at_least: float | None = None,
        at_most: float | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """A number, or that of every seed, against a limit."""
        return cls._judged(name, statement, "bound", published, measured, limit_text(name, at_least, at_most))

    @classmethod
    def ratio(
        cls,
        name: str,
        statement: str,
        *,
        measured: float | Sequence[float],
        at_least: float | None = None,
        at_most: float | None = None,
        above: float | None = None,
        below: float | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """A comparison with a baseline of the same run, or that of every seed; the statement says what is divided by what."""
        limit = limit_text(name, at_least, at_most, above, below)
        return cls._judged(name, statement, "ratio", published, measured, limit)

    @classmethod
    def number(
        cls,
        name: str,
        statement: str,
        *,
        measured: float | Sequence[float],
        expected: float,
        tol: float = 0.0,
        published: str | float | None = None,
    ) -> Claim:
        """A value that can be computed: `measured` is within `tol` of `expected`."""
        bound = f"{digits(expected, 'expected')} +- {digits(tol, 'tol')}"
        return cls._judged(name, statement, "number", published, measured, bound)

    @classmethod
    def not_measurable(cls, name: str, statement: str, *, published: str | float | None, reason: str) -> Claim:
        """A claim that needs what is not here (a data set under licence, a GPU, weeks): `reason` says what."""
        return cls(name, statement, "not-measurable-here", published, None, reason, "not measurable here")

    @classmethod
    def _judged(
        cls,
        name: str,
        statement: str,
        kind: Kind,
        published: str | float | None,
        measured: float | Sequence[float],
        threshold: str,
    ) -> Claim:
        if isinstance(measured, Sequence):
            values = tuple(float(value) for value in measured)
            if not values:
                raise ClaimError(f"claim {name!r}: measured is empty; pass the number of every seed")
            verdict = judge(values, threshold, name)
            return cls(name, statement, kind, published, statistics.fmean(values), threshold, verdict, values)
        measured = float(measured)
        verdict = "holds" if meets(measured, threshold, name) else "fails"
        return cls(name, statement, kind, published, measured, threshold, verdict)


class Part(NamedTuple):
    """A part of an experiment: its rows, its claims, and the row of every seed that the rows are means of."""

    rows: Sequence[Mapping[str, Any]] = ()
    claims: Sequence[Claim] = ()
    runs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Result:
    """What one run of an experiment gives: a table with every baseline, and the claims judged on it.

    Attributes:
        rows: one table; every row maps columns to texts, numbers (0-dimensional tensors and arrays too) or None. All rows
            share at least one column, which tells them apart; other columns may be missing, which means empty.
        claims: the claims, with different ids.
        runs: one row for every model and seed, where rows are means over seeds.

    Raises:
        ClaimError: `rows` or `claims` is empty, rows share no column, a cell is not plain, or an id occurs twice.
    """

    rows: Sequence[Mapping[str, Any]]
    claims: Sequence[Claim]
    runs: Sequence[Mapping[str, Any]] = field(default=())

    def __post_init__(self) -> None:
        if not self.rows or not self.claims:
            raise ClaimError(f"a result has {len(self.rows)} rows and {len(self.claims)} claims; it needs some of both")
        rows, runs = _plain_rows(self.rows, "rows"), _plain_rows(self.runs, "runs")
        if not functools.reduce(set[str].__and__, (set(row) for row in rows)):
            raise ClaimError(
                f"the rows share no column; give each one that tells them apart (columns: {_columns(rows)})"
            )
        twice = [name for name, count in Counter(claim.id for claim in self.claims).items() if count > 1]
        if twice:
            raise ClaimError(f"claim ids {twice} occur more than once; ids are unique within a result")
        object.__setattr__(self, "rows", rows)  # copies: what the caller does to his lists is not ours
        object.__setattr__(self, "runs", runs)
        object.__setattr__(self, "claims", list(self.claims))

    @classmethod
    def of(cls, *parts: Part) -> Result:
        """The result of an experiment in parts."""
        rows = [row for part in parts for row in part.rows]
        runs = [row for part in parts for row in part.runs]
        return cls(rows, [claim for part in parts for claim in part.claims], runs)

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which they first occur."""
        return _columns(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """``{"rows", "claims"}``, and ``"runs"`` where there are some, for strict JSON: NaN and infinities become texts."""
        rows, runs = (
            [{column: _to_json(cell) for column, cell in row.items()} for row in t] for t in (self.rows, self.runs)
        )
        entry: dict[str, Any] = {"rows": rows, "claims": [_claim_to_json(claim) for claim in self.claims]}
        return entry | ({"runs": runs} if runs else {})

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Result:
        """The result in a dictionary of `to_dict` or `run`, also as version 0.1.0 wrote it; verdicts are checked.

        Raises:
            ClaimError: a key is missing or unknown, or what is there is no result.
        """
        try:
            rows: list[dict[str, Plain]] = entry["rows"]
            claims: list[dict[str, Any]] = entry["claims"]
        except KeyError as error:
            raise ClaimError(f"the entry has no {error}; its keys are {sorted(entry)}") from None
        read = [_claim_from_json(claim, f"claims[{index}]") for index, claim in enumerate(claims)]
        rows, runs = (
            [{column: _from_json(cell) for column, cell in row.items()} for row in t]
            for t in (rows, entry.get("runs", []))
        )
        return cls(rows, read, runs)


def _claim_to_json(claim: Claim) -> dict[str, Any]:
    """The fields of a claim, with `holds` beside the verdict; without values and note where there are none."""
    values: dict[str, Any] = {
        name: _to_json(value) for name, value in asdict(claim).items() if name not in ("values", "note")
    }
    values["holds"] = claim.holds
    if claim.values is not None:
        values["values"] = [_to_json(value) for value in claim.values]
    return values if claim.note is None else values | {"note": claim.note}


def _claim_from_json(claim: Mapping[str, Any], where: str) -> Claim:
    names = {field.name for field in fields(Claim)} - {"values", "note"} | {"holds"}
    # Version 0.1.0 knew three verdicts and wrote only whether a claim holds.
    words = dict(zip((True, False, None), ("holds", "fails", "not measurable here"), strict=True))
    if set(claim) == names - {"verdict"} and claim["holds"] in words:
        claim = {**claim, "verdict": words[claim["holds"]]}
    if set(claim) - {"values", "note"} != names:
        raise ClaimError(f"{where} has the keys {sorted(claim)}, but needs {sorted(names)}")
    read: dict[str, Any] = {name: value for name, value in claim.items() if name != "holds"}
    read["measured"] = _from_json(claim["measured"])
    if "values" in read:
        read["values"] = tuple(cast("float", _from_json(value)) for value in read["values"])
    made = Claim(**read)
    if made.holds is not claim["holds"]:
        raise ClaimError(f"{where}: holds = {claim['holds']}, but the verdict is {made.verdict!r}")
    return made


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


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ClaimError(f"{name} = {text!r}; write a text")


def _columns(rows: Iterable[Mapping[str, Plain]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _plain_rows(rows: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Plain]]:
    return [
        {column: _plain(cell, f"{name}[{i}][{column!r}]") for column, cell in row.items()} for i, row in enumerate(rows)
    ]


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
