"""What the parts share: generators, numbers of audits, networks that are averaged after training, curves beside a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from erlangen.errors import DataError
from erlangen.measure import AuditReport, spearman
from erlangen.survey import Claim, Split, Table, Training
from erlangen.survey.comparison import Fit
from erlangen.training import Loss

Row = dict[str, Any]
Curves = Mapping[str, Mapping[str, np.ndarray]]
"""Curves over orbits, means over seeds: of a model, by name."""

AGREES = "consensus against labels"
CURVES = "curves"
"""The column in which `measure` hands curves on."""


def rng(seed: int) -> Generator:
    """A generator of its own."""
    return Generator().manual_seed(seed)


def training(loss: Loss, epochs: int) -> Training:
    """How the models of all subjects are trained."""
    return Training(loss, epochs, 64, rates=(4e-3, 1e-3), decay=1e-4, clip=1.0)


def averaged_after(average: Callable[[nn.Module], nn.Module], transform: Callable[..., Any] | None = None) -> Fit:
    """A training like that of all others, after which the model is replaced by an average of its answers."""

    def run(model: nn.Module, split: Split, rate: float, how: Training, generator: Generator) -> nn.Module:
        how.fit(model, split, rate, generator, transform=transform)
        return average(model)

    return run


def scores_of(report: AuditReport) -> Tensor:
    """Scores against labels ``[K, B]``; `DataError` for an audit without labels."""
    if report.scores is None:
        raise DataError("the report has no scores against labels; pass y to the audit")
    return report.scores


def agreement(report: AuditReport) -> Row:
    """`ranking` of the samples' mean scores along their orbits, against consensus and against labels."""
    return ranking(report.consensus.mean(0), scores_of(report).mean(0))


def votes_right(report: AuditReport) -> float:
    """Percent of samples whose consensus, a vote, is their label: some answer then is both."""
    return 100 * float((report.consensus * scores_of(report)).amax(0).mean())


def ranking(a: Tensor, b: Tensor, draws: int = 400) -> Row:
    """Spearman's correlation of two scores of samples, and the interval of 95 of 100 such numbers of samples drawn anew."""
    drawn = torch.randint(0, len(a), (draws, len(a)), generator=rng(0))
    found = torch.tensor([ranked_alike(a[one], b[one]) for one in drawn], dtype=torch.float64)
    found = found[found.isfinite()]
    low, high = found.quantile(torch.tensor([0.025, 0.975]).double()).tolist() if len(found) else (math.nan, math.nan)
    whole = ranked_alike(a, b)
    return {AGREES: whole, f"{AGREES}, low": low, f"{AGREES}, high": high}


def ranked_alike(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation; NaN where all samples score alike, so that there are no ranks."""
    flat = any(bool((x == x[0]).all()) for x in (a, b))
    return math.nan if flat else spearman(a, b)


def spread(curve: Tensor | Sequence[float]) -> float:
    """Standard deviation of a curve over its orbit."""
    return float(torch.as_tensor(curve, dtype=torch.float64).std(correction=0))


def apart(table: Table) -> tuple[Table, Curves]:
    """A table without the column `CURVES`, and the means over seeds of what stood there."""
    rows = [{key: value for key, value in row.items() if key != CURVES} for row in table.runs]
    curves: dict[str, dict[str, np.ndarray]] = {}
    for model in table.models:
        found = [row[CURVES] for row in table.runs if row["model"] == model]
        curves[model] = {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}
    return Table(table.name, rows, table.run, larger=table.larger), curves


def curve_rows(part: str, places: Sequence[str], curves: Mapping[str, np.ndarray]) -> list[Row]:
    """A row for each place on an orbit, a column for each curve; places where a curve is not a number have no cell there."""
    return [
        {"part": part, "model": place, **{name: float(c[k]) for name, c in curves.items() if np.isfinite(c[k])}}
        for k, place in enumerate(places)
    ]


def consensus_claim(table: Table, model: str) -> Claim:
    """That the consensus ranks samples as labels do, for a trained model that is not equivariant."""
    return table.bound(
        f"consensus-{table.name}-{model.lower().replace(' ', '-')}",
        f"{table.name.capitalize()}, {model}: rank correlation between the samples' mean scores against the consensus and "
        "against labels.",
        table[model, AGREES],
        at_least=0.8,
        published="consensus curves resemble those with labels",
    )
