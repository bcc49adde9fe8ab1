"""`Table`: what models did with every seed, and the claims that follow from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erlangen.survey.claims import Claim, ClaimError, Part
from erlangen.survey.runs import Run

Row = dict[str, Any]
Values = NDArray[np.float64]
"""One number for every seed."""

TOO_SMALL = "too little training at this scale"
"""Why a smoke run settles nothing that is trained or compared."""

HEAD = ("learning rate", "rates tried", "rate chosen on", "parameters", "epochs", "samples", "seconds")
"""Columns of a table after part and model; then comes what is measured, each with its spread."""


class Table:
    """Rows of models and seeds, and claims about them; `compare` and `sweep` make tables.

    >>> rows = [{"model": m, "seed": s, "error": e} for m, s, e in [("a", 0, 0.1), ("a", 1, 0.2), ("b", 0, 0.3), ("b", 1, 0.5)]]
    >>> table = Table("toy", rows, Run("full"))
    >>> table["b", "error"] / table["a", "error"]
    array([3. , 2.5])
    >>> claim = table.beats("a-beats-b", "a", "b", "error")
    >>> claim.statement, claim.threshold, claim.verdict
    ('Toy: "error" of a over that of b; smaller is better.', '< 1', 'holds')

    Args:
        name: name of the part of the experiment.
        runs: one row for every model and seed, with "model" and "seed".
        run: the run they are from; one that does not settle anything leaves claims without a verdict.
        larger: columns that are better when they are larger: those that begin with one of these words.
        once: nothing random is in the rows, so that a single seed is all there is.

    Attributes:
        runs: the rows of all models and seeds, with their part.
        rows: one row for each model: means over seeds, and spreads (standard deviations).

    Raises:
        ClaimError: there are no rows, or models have different seeds.
    """

    def __init__(
        self,
        name: str,
        runs: Sequence[Row],
        run: Run[Any],
        *,
        larger: Sequence[str] = ("accuracy",),
        once: bool = False,
    ) -> None:
        self.name, self.run, self.larger, self.once = name, run, tuple(larger), once
        self.runs: list[Row] = [{"part": name} | row for row in runs]
        self._by_model: dict[str, list[Row]] = {}
        for row in self.runs:
            self._by_model.setdefault(row["model"], []).append(row)
        seeds = {tuple(row["seed"] for row in rows) for rows in self._by_model.values()}
        if len(seeds) != 1:
            raise ClaimError(f"models of the table {name!r} have the seeds {sorted(seeds)}; every model needs the same")
        self.rows = [self._mean(model, rows) for model, rows in self._by_model.items()]

    @property
    def models(self) -> list[str]:
        """Names of the models, in order."""
        return list(self._by_model)

    def __getitem__(self, key: tuple[str, str]) -> Values:
        """The numbers ``[seeds]`` of a model in a column: ``table["plain", "accuracy"]``, for arithmetic seed by seed.

        Raises:
            ClaimError: there is no such model, or it has no number in this column.
        """
        model, column = key
        if model not in self._by_model:
            raise ClaimError(f"table {self.name!r} has no model {model!r}; it has {', '.join(self.models)}")
        cells = [row.get(column) for row in self._by_model[model]]
        if not all(isinstance(cell, int | float) for cell in cells):
            raise ClaimError(
                f"table {self.name!r}: {model!r} has no numbers in the column {column!r}; its columns are "
                f"{', '.join(self._by_model[model][0])}"
            )
        return np.array(cells, dtype=np.float64)

    def better(self, column: str) -> str:
        """ "larger" or "smaller": what is better in this column."""
        return "larger" if column.startswith(self.larger) else "smaller"

    def best(self, models: Sequence[str], column: str) -> str:
        """The model with the best mean in this column."""
        means = {model: float(self[model, column].mean()) for model in models}
        pick = max if self.better(column) == "larger" else min
        return pick(means, key=lambda model: means[model])

    # --- claims ------------------------------------------------------------------------------------------------------
    def beats(
        self,
        name: str,
        ours: str,
        theirs: str | Sequence[str],
        column: str,
        *,
        by: float = 1.0,
        statement: str | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """That one model is better than another, or than the best of several: the ratio, seed by seed.

        Args:
            name: id of the claim.
            ours, theirs: names of models; of several of theirs the one with the best mean counts.
            column: what is compared; see `better`.
            by: the ratio ours / theirs has to be below it where smaller is better, above it where larger is.
            statement: by default it is made from the names.
            published: what the paper reports.
        """
        ratio, words = self._ratio(ours, theirs, column)
        limit = {"above" if self.better(column) == "larger" else "below": by}
        return self._settle(Claim.ratio(name, statement or words, measured=ratio, published=published, **limit))

    def not_worse(
        self,
        name: str,
        ours: str,
        theirs: str | Sequence[str],
        column: str,
        *,
        margin: float = 0.0,
        statement: str | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """That one model is at least as good as another (or as the best of several), up to a share `margin` of its value."""
        ratio, words = self._ratio(ours, theirs, column)
        larger = self.better(column) == "larger"
        limit = {"at_least": 1 - margin} if larger else {"at_most": 1 + margin}
        return self._settle(Claim.ratio(name, statement or words, measured=ratio, published=published, **limit))

    def ratio(
        self,
        name: str,
        statement: str,
        ours: Values,
        theirs: Values,
        *,
        above: float | None = None,
        below: float | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """That one number over another, seed by seed, is above or below a factor: two columns of a model, sums, differences."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self._values(np.asarray(ours, dtype=np.float64) / np.asarray(theirs, dtype=np.float64))
        return self._settle(
            Claim.ratio(name, statement, measured=values, above=above, below=below, published=published)
        )

    def same(
        self,
        name: str,
        statement: str,
        a: Values,
        b: Values | float,
        *,
        tol: float,
        published: str | float | None = None,
    ) -> Claim:
        """That two numbers agree within `tol` for every seed: the largest difference."""
        largest = float(np.abs(np.asarray(a) - np.asarray(b)).max())
        return self._settle(Claim.exact(name, statement, measured=largest, tol=tol, published=published))

    def bound(
        self,
        name: str,
        statement: str,
        values: Values,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        published: str | float | None = None,
    ) -> Claim:
        """That numbers, such as ``table["plain", "accuracy"]``, are on one side of a limit."""
        return self._settle(
            Claim.bound(
                name, statement, measured=self._values(values), at_least=at_least, at_most=at_most, published=published
            )
        )

    def number(
        self,
        name: str,
        statement: str,
        values: Values,
        *,
        expected: float,
        tol: float = 0.0,
        published: str | float | None = None,
    ) -> Claim:
        """That numbers are `expected` within `tol`."""
        values_ = self._values(values)
        return self._settle(
            Claim.number(name, statement, measured=values_, expected=expected, tol=tol, published=published)
        )

    def part(self, *claims: Claim) -> Part:
        """The part of the experiment that this table and its claims are."""
        return Part(self.rows, claims, [] if self.once else self.runs)

    # --- inside ------------------------------------------------------------------------------------------------------
    def _ratio(self, ours: str, theirs: str | Sequence[str], column: str) -> tuple[float | list[float], str]:
        """Ours over theirs for every seed, and the sentence."""
        rival = theirs if isinstance(theirs, str) else self.best(theirs, column)
        words = _spoken(rival) if isinstance(theirs, str) else f"the best of {', '.join(map(_spoken, theirs))}"
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self[ours, column] / self[rival, column]
        better = self.better(column)
        text = f'{self.name.capitalize()}: "{column}" of {_spoken(ours)} over that of {words}; {better} is better.'
        return self._values(ratio), text

    def _values(self, values: Values) -> float | list[float]:
        """Numbers of all seeds, or the single one where nothing is random."""
        flat: list[float] = np.atleast_1d(np.asarray(values, dtype=np.float64)).tolist()
        return flat[0] if self.once else flat

    def _settle(self, claim: Claim) -> Claim:
        return claim if self.run.settles else claim.unsettled(TOO_SMALL)

    def _mean(self, model: str, runs: Sequence[Row]) -> Row:
        """Means over seeds, the standard columns first; spreads of what is measured."""
        columns = [column for column in runs[0] if column not in ("part", "model", "seed")]
        if any(set(row) != set(runs[0]) for row in runs):
            raise ClaimError(
                f"table {self.name!r}: {model!r} has other columns for other seeds; give every seed the same"
            )
        row: Row = {"part": self.name, "model": model}
        for column in sorted(columns, key=lambda column: HEAD.index(column) if column in HEAD else len(HEAD)):
            values = [run[column] for run in runs]
            numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
            differ = any(value != values[0] for value in values)
            row[column] = (
                statistics.fmean(values) if numbers and (differ or isinstance(values[0], float)) else values[0]
            )
            if numbers and len(runs) > 1 and column not in HEAD:
                finite = all(map(math.isfinite, values))
                row[f"{column}, spread"] = statistics.stdev(values) if finite else math.nan
        return row if self.once else {**row, "seeds": len(runs)}


def _spoken(model: str) -> str:
    """A model's name within a sentence: between quotation marks where a comma would seem to end it."""
    return f'"{model}"' if "," in model else model
