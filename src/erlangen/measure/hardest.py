"""The hardest samples in pictures: as given, and moved by the element that is worst for them."""

from __future__ import annotations

from dataclasses import dataclass

from erlangen.actions import tree_map
from erlangen.measure.checks import take
from erlangen.measure.drawings import Drawing
from erlangen.measure.pictures import pictures
from erlangen.measure.report import AuditReport

SHOWN = 3
"""Samples in pictures."""

ROUNDING = 1e-5
"""Models whose answers change by no more along their orbits have no worst element to show."""


@dataclass(frozen=True)
class Hard:
    """A sample that fares badly: its index, what is to be said of it, and pictures of it as given and moved."""

    sample: int
    words: str
    given: list[Drawing]
    moved: list[Drawing]


def hard_samples(report: AuditReport, n: int = SHOWN) -> list[Hard]:
    """The n samples that fare worst, with pictures.

    Empty for a report without its data (read from a file), and where no answer changes along the orbit.
    """
    if report.source is None or report.worst_error <= ROUNDING:
        return []
    sym, found = report.symmetry, list[Hard]()
    for row in report.hardest_samples(n):
        sample, element = int(row["sample"]), int(row["worst_element"])
        one = take(report.source.x, slice(sample, sample + 1))
        moved = sym.input.act(report.orbit.elements[element : element + 1], one)
        before, after = (tree_map(lambda leaf: leaf[0], tree) for tree in (one, moved))
        given, turned = (
            pictures(sym.input.action, tree, before, title, sym.group)
            for tree, title in ((before, "as given"), (after, "moved"))
        )
        found.append(Hard(sample, _words(report, sample, element), given, turned))
    return found


def _words(report: AuditReport, sample: int, element: int) -> str:
    place = report.samples.tolist().index(sample)
    where = report.element_name(element)
    error = f"equivariance error{report.over} {float(report.errors[element, place]):.3g}"
    if report.scores is None or report.base is None or report.metric is None:
        return f"{error} after {where}"
    name, scores = report.metric.name, (float(report.base[place]), float(report.scores[element, place]))
    if name == "accuracy" and set(scores) <= {0.0, 1.0}:
        before, after = ("right" if score else "wrong" for score in scores)
    else:
        before, after = (f"{name} {score:.3g}" for score in scores)
    return f"{before} as given, {after} after {where} ({error})"
