"""What is measured of flow-equivariant recurrence: the theorem, drifting and spinning digits, clips to classify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erlangen.survey import Claim, Part, Result, Run, Sizes, properties
from erlangen.systems.images.fernn._classes import classes_part
from erlangen.systems.images.fernn._drifting import drift_part
from erlangen.systems.images.fernn._properties import PROPERTIES, details_part
from erlangen.systems.images.fernn._spinning import spin_part

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budget:
    """What a run spends: clips, and the sizes of pictures and networks.

    Attributes:
        batches: of drifting, spinning and classified clips.
        rates: learning rates.
        size, pool: of the torus, and how many times digits are shrunk.
        given, ahead: frames that a prediction starts from, and that training predicts; frames that a test predicts.
        channels, fields, classifier: of the states, of spinning states, and of all layers of the classifier.
    """

    seeds: int
    drift: Sizes
    spin: Sizes
    classes: Sizes
    epochs: int
    batches: tuple[int, int, int] = (8, 8, 16)
    rates: tuple[float, ...] = (1e-2, 2e-2)
    size: tuple[int, int] = (16, 16)
    pool: int = 2
    given: int = 5
    ahead: int = 20
    channels: int = 8
    fields: int = 3
    classifier: int = 16

    @property
    def frames(self) -> list[int]:
        """Frames ahead that have a column."""
        all_of_them = {1, 2, 3, 4, 5, 7, 10, 13, 15, 20, self.given, 2 * self.given, self.ahead}
        return sorted(ahead for ahead in all_of_them if ahead <= self.ahead)


BUDGETS = {
    "smoke": Budget(1, Sizes(48, 8, 8), Sizes(48, 16, 16), Sizes(48, 20, 20), 1),
    "full": Budget(
        3, Sizes(280, 60, 80), Sizes(120, 60, 80), Sizes(500, 200, 600), 9, (8, 4, 4), classifier=8,
    ),
    "paper": Budget(
        5, Sizes(60_000, 1000, 10_000), Sizes(60_000, 1000, 10_000), Sizes(60_000, 1000, 10_000), 50,
        (128, 32, 32), (1e-3, 1e-4), (28, 28), 1, 10, 30, 128, 32, 128,
    ),
}  # fmt: skip


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, drifting digits, spinning digits, classification."""
    unmeasured = [
        Claim.not_measurable(
            "published-moving-digits",
            "With the same velocities as the data, errors are an order of magnitude below those of a G-RNN.",
            published="order of magnitude on moving and rotating digits of 28 x 28; flat errors over long horizons",
            reason="needs 128 channels, 50 epochs of 60,000 digits and a GPU; small versions are above",
        ),
        Claim.not_measurable(
            "published-actions",
            "Human actions in drifting videos are classified better than without flow equivariance.",
            published="accuracy on KTH with added drift",
            reason="needs the KTH videos; classification of drifting digits is above",
        ),
    ]
    parts = (properties(run, *PROPERTIES), details_part(run), drift_part(run), spin_part(run), classes_part(run))
    return Result.of(*parts, Part(claims=unmeasured))


def figure(result: Result) -> Figure:
    """Errors by horizon, and of four models by velocity, on drifting digits; velocities begin at rest and wrap around."""
    from erlangen import plots

    drift: list[Any] = [row for row in result.rows if row["part"] == "drift" and row["model"] != "copy last"]
    ahead = sorted(
        int(column.removeprefix("MSE at "))
        for column in drift[0]
        if column.startswith("MSE at ") and not column.endswith("spread")
    )
    series = {row["model"]: [(float(h), row[f"MSE at {h}"]) for h in ahead] for row in drift}
    order = (0, 1, 2, -2, -1)
    cells: dict[tuple[str, int], Any] = {
        (str(row["model"]), int(str(row["rows"]))): row for row in result.rows if row["part"] == "velocities"
    }
    grids = {
        name: [[cells[name, r][f"columns {c}"] for c in order] for r in order]
        for name in ("FERNN, V2", "FERNN, V1", "G-RNN", "G-RNN+")
    }
    values = [value for grid in grids.values() for line in grid for value in line]
    steps, shades = [str(step) for step in order], (min(values), max(values))
    drawn, (*maps, below) = plots.panels(5)
    for ax, (name, grid) in zip(maps, grids.items(), strict=True):
        plots.heatmap(grid, steps, steps, "mean squared error", limits=shades, log=True, title=name, ax=ax)
        ax.set(xlabel="velocity of columns", ylabel="velocity of rows")
    plots.line(series, "frames ahead", "mean squared error", logy=True, xticks=ahead, ax=below)
    return drawn
