"""The ledger as a picture: what papers have published against what runs have measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from erlangen import plots
from erlangen.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["claims_figure", "compared_claims"]

COLOURS = {"holds": "#009E73", "fails": "#D55E00", "undecided": "#E69F00", "not settled": "#767676"}
"""By verdict, in the order of the legend; marks differ too."""


def compared_claims(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """The claims that have a published and a measured number, and how many more are published only in words.

    Args:
        rows: claims of systems, as of `erlangen.survey.printing.claim_rows`.
    """
    known = [row for row in rows if _is_number(row["published"]) and _is_number(row["measured"])]
    return known, sum(isinstance(row["published"], str) for row in rows)


def claims_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """One point for every claim that has a published and a measured number, named by its system, coloured by its verdict.

    On the dashed line a run has found what the paper says. What lies beside it says nothing by itself: data and machines are
    others than the paper's, and whether a claim holds is decided by its threshold.

    Args:
        rows: claims of systems, as of `erlangen.survey.printing.claim_rows`.

    Raises:
        DataError: no claim has both numbers.
    """
    known, words = compared_claims(rows)
    if not known:
        raise DataError(
            "no claim in the results has a published and a measured number, so there is nothing to plot; "
            "run `erlangen verify --all --scale full`, or name another folder by --results"
        )
    groups = {
        verdict: [(row["system"], float(row["published"]), float(row["measured"])) for row in found]
        for verdict in COLOURS
        if (found := [row for row in known if row["verdict"] == verdict])
    }
    return plots.agreement(
        groups,
        f"published\n({len(known)} of {len(rows)} claims; {words} are published in words)",
        "measured",
        colours=COLOURS,
        title="Claims: measured against published numbers",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
