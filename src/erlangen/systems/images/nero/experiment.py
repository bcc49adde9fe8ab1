"""What is measured with audits on orbits: their properties, and trained models of four subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erlangen.survey import Claim, Part, Result, Run, Sizes, properties
from erlangen.systems.images.nero._boxes import Scenes, boxes_part
from erlangen.systems.images.nero._clouds import Clouds, clouds_part
from erlangen.systems.images.nero._digits import RIVALS, Digits, digits_part
from erlangen.systems.images.nero._flow import Flows, flow_part
from erlangen.systems.images.nero._properties import PROPERTIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budget:
    """What a run spends on each subject."""

    seeds: int
    digits: Digits
    flow: Flows
    clouds: Clouds
    boxes: Scenes


BUDGETS = {
    "smoke": Budget(
        1,
        Digits(Sizes(200, 20, 20), 2, angles=24, shifted=1, scaled=8, stride=2),
        Flows(Sizes(64, 4, 8), 4),
        Clouds(Sizes(120, 12, 24), 4),
        Scenes(Sizes(150, 10, 6), 3),
    ),
    "full": Budget(
        3,
        Digits(Sizes(4000, 500, 200), 6, angles=72, shifted=10, scaled=200, stride=1),
        Flows(Sizes(800, 60, 60), 8),
        Clouds(Sizes(1200, 120, 120), 15),
        Scenes(Sizes(2000, 200, 200), 12),
    ),
    "paper": Budget(
        5,
        Digits(Sizes(7000, 1000, 2000), 30, angles=360, shifted=200, scaled=2000, stride=1),
        Flows(Sizes(8000, 500, 500), 50),
        Clouds(Sizes(9000, 800, 2400), 100),
        Scenes(Sizes(7000, 1000, 2000), 50),
    ),
}


def experiment(run: Run[Budget]) -> Result:
    """Properties, and the four subjects."""
    budget = run.budget
    unmeasured = Claim.not_measurable(
        "published-detectors",
        "Position-dependent confidence and precision of Faster R-CNN detectors on COCO.",
        published="plots",
        reason="needs COCO and detectors trained on it; the same audit on digits is above",
    )
    parts = (
        properties(run, *PROPERTIES),
        digits_part(run, budget.digits),
        flow_part(run, budget.flow),
        clouds_part(run, budget.clouds),
        boxes_part(run, budget.boxes),
    )
    return Result.of(*parts, Part(claims=[unmeasured]))


def figure(result: Result) -> Figure:
    """NERO plots: digits over all turns; end-point errors of flow on its sixteen elements; confidence over shifts."""
    from erlangen import plots

    rows: list[Any] = list(result.rows)
    turns = [row for row in rows if row["part"] == "digits, turn"]
    circle = {name: [(math.radians(float(row["model"])), row[name] / 100) for row in turns] for name in RIVALS}
    elements = [row for row in rows if row["part"] == "flow, element"]
    errors = {name: [row[name] for row in elements] for name in ("CNN", "correlation")}
    shifts = [row for row in rows if row["part"] == "boxes, shift"]
    curves = {
        label: [(float(row["model"]), row[label]) for row in shifts if row.get(label) is not None]
        for label in ("dense, overlap", "dense, confidence", "cells, overlap", "cells, confidence")
    }
    drawn, (left, right, below) = plots.panels(3, polar=[0])
    plots.polar(circle, "digits right", percent=True, ax=left)
    places = [float(row["model"]) for row in shifts]
    plots.line(curves, "pixels from the middle", "of whole boxes", percent=True, xticks=places, ax=right)
    plots.barh(errors, [row["model"] for row in elements], "end-point error, pixels", ax=below)
    return drawn
