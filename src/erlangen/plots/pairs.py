"""Two numbers for the same thing, against each other: what was said, and what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from erlangen.errors import ErlangenError
from erlangen.plots.charts import LETTER
from erlangen.plots.figures import NOTE, make_room, own_panel
from erlangen.plots.look import COLOURS, INK, MARKERS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 4.4
"""Inches of a side."""

FAR = 100.0
"""Numbers whose sizes differ by more than this factor are shown by powers of ten."""


@styled
def agreement(
    groups: Mapping[str, Sequence[tuple[str, float, float]]],
    xlabel: str,
    ylabel: str,
    *,
    colours: Mapping[str, str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Points of two numbers each, with their names, around the line on which both are equal.

    >>> from erlangen import plots
    >>> figure = plots.agreement({"holds": [("ours", 0.5, 0.4)], "fails": [("theirs", 0.8, 1.2)]}, "published", "measured")

    Both axes have the same limits. They go by powers of ten where sizes differ by more than a hundred; if there are zeros or
    negative numbers too, linearly between the smallest sizes.

    Args:
        groups: (name, x, y) of every point, by what the groups are; a group has a colour and a mark. Finite numbers.
        xlabel, ylabel: what the numbers are.
        colours: colours by group; by default those of the style, in turn.
        title: heading.
        ax: the panel; by default a figure of its own.

    Raises:
        ErlangenError: no points, or a number that is not finite.
    """
    figure, ax = own_panel(ax)
    every = [point for points in groups.values() for point in points]
    if not every:
        raise ErlangenError("groups holds no points; give at least one")
    for name, x, y in every:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ErlangenError(f"groups: {name!r} has the numbers {x} and {y}; give finite ones")
    low, high = _scale(ax, [v for _, x, y in every for v in (x, y)])
    ax.plot([low, high], [low, high], color=INK, linestyle=(0, (5, 3)), linewidth=1, alpha=0.6, zorder=1)
    for i, (group, points) in enumerate(groups.items()):
        colour = (colours or {}).get(group, COLOURS[i % len(COLOURS)])
        dots = ax.scatter(
            [x for _, x, _ in points], [y for *_, y in points], 34, color=colour, marker=MARKERS[i % len(MARKERS)],
            label=f"{group} ({len(points)})", edgecolors="white", linewidths=0.5, zorder=3,
        )  # fmt: skip
        dots.set_urls([f"{NOTE}{name}: {x:.4g}, {y:.4g}" for name, x, y in points])
    ax.set_aspect("equal")
    ax.grid(visible=True)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_title(title)
    # Outside, to the right: every corner inside may have points.
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, handletextpad=0.2)
    _name_points(ax, every)
    make_room(ax, SIDE, SIDE)
    return figure


def _scale(ax: Axes, values: list[float]) -> tuple[float, float]:
    """Set scale and limits of both axes; returns the limits."""
    sizes = [abs(v) for v in values if v != 0] or [1.0]
    if max(sizes) <= FAR * min(sizes):
        low, high = min(0.0, *values), max(0.0, *values)
        room = 0.06 * (high - low) or 1.0
        low, high = (low - room if low < 0 else low), (high + room if high > 0 else high)
        scale: dict[str, Any] = {"value": "linear"}
    elif min(values) > 0:
        low, high = min(sizes) / 1.5, max(sizes) * 1.5
        scale = {"value": "log"}
    else:
        low = -1.5 * max((-v for v in values if v < 0), default=0.0)
        high = 1.5 * max((v for v in values if v > 0), default=0.0)
        scale = {"value": "symlog", "linthresh": min(sizes)}
    ax.set_xscale(**scale)
    ax.set_yscale(**scale)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    return low, high


def _name_points(ax: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Names to the right of the points, or to the left in the right half; one that would lie on another moves up."""
    line = 0.15 / SIDE
    taken: list[tuple[float, float, float]] = []
    # What stands where, as shares of the sides.
    places = [(name, *ax.transAxes.inverted().transform(ax.transData.transform((x, y)))) for name, x, y in points]
    for name, x, y in sorted(places, key=lambda place: place[2]):
        wide, gap = 0.8 * LETTER * len(name) / SIDE, 0.09 / SIDE
        left = x > 0.6
        start = x - gap - wide if left else x + gap
        height = y
        while any(a < start + wide and start < b and abs(height - h) < line for a, b, h in taken):
            height += line / 4
        taken.append((start, start + wide, height))
        ax.annotate(
            name, (x, y), (x - gap if left else x + gap, height), "axes fraction", "axes fraction",
            ha="right" if left else "left", va="center", fontsize=7, zorder=4,
        )  # fmt: skip
