"""What a plot of an orbit shows, apart from the library that draws it: reports draw by matplotlib, the explorer by its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from erlangen import plots
from erlangen.plots.charts import identity_ring
from erlangen.plots.look import ACCENT, INK
from erlangen.plots.nero import mark_square

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Values:
    """The axis or the colours of the values: what they are, their range, and whether they are shares of one."""

    label: str
    low: float
    high: float
    percent: bool = False

    @classmethod
    def of(cls, values: Sequence[float], label: str, *, percent: bool = False) -> Values:
        """From 0 to 1 for shares, else from 0 (or the least value) to the largest."""
        if percent:
            return cls(label, 0.0, 1.0, percent=True)
        low, high = min(0.0, *values), max(values)
        return cls(label, low, high if high > low else low + 1.0)

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{100 * value:.0f} %" if self.percent else f"{value:.3g}"


class Drawing(Protocol):
    """Something that can be drawn into axes."""

    @property
    def polar(self) -> bool:
        """Whether the axes must be polar."""
        ...

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        ...


@dataclass(frozen=True)
class Curves:
    """Curves over a line; a ring marks the values at 0 if that is the identity, a dashed line the place `here`."""

    series: Mapping[str, Points]
    xlabel: str
    values: Values
    reach: tuple[float, float]
    xticks: Sequence[float] | None = None
    identity: bool = False
    here: float | None = None
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        plots.line(self.series, self.xlabel, self.values.label, percent=self.values.percent, xticks=self.xticks, ax=ax)
        ax.set_xlim(*self.reach)
        ax.set_ylim(*self.values.limits)
        if self.identity:
            at_0 = [y for points in self.series.values() for x, y in points if x == 0]
            ax.plot([0] * len(at_0), at_0, **identity_ring())
        if self.here is not None:
            ax.axvline(self.here, color=INK, linestyle=(0, (5, 3)), linewidth=1.2)


@dataclass(frozen=True)
class Circle:
    """Curves over the circle, in radians; the identity is at angle 0."""

    series: Mapping[str, Points]
    values: Values
    here: float | None = None
    polar: bool = True

    def draw(self, ax: Axes) -> None:
        """Draw into these axes, which are polar."""
        plots.polar(self.series, self.values.label, percent=self.values.percent, ax=ax)
        if self.here is not None:
            ax.plot([self.here] * 2, ax.get_ylim(), color=INK, linestyle=(0, (5, 3)), linewidth=1.2)


@dataclass(frozen=True)
class Bars:
    """Bars per element."""

    series: Mapping[str, Sequence[float]]
    names: Sequence[str]
    values: Values
    here: int | None = None
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        plots.bar(self.series, self.names, f"{self.values.label} per element", percent=self.values.percent, ax=ax)
        if len(self.names) > 10:  # the first name, "identity", is wider than its bars
            ax.get_xticklabels()[0].set_horizontalalignment("right")
        if self.here is not None:
            ax.axvline(self.here, color=INK, linestyle=(0, (5, 3)), linewidth=1.2)


@dataclass(frozen=True)
class ShiftMap:
    """A table of shifts; entry (0, 0) is the identity and is marked, and so is the entry `here`."""

    table: Sequence[Sequence[float]]
    title: str
    values: Values
    here: tuple[int, int] | None = None
    xlabel: str = "shift of columns (pixels)"
    ylabel: str = "shift of rows (pixels)"
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        from matplotlib.patches import Rectangle

        rows, columns = (_few_names(n) for n in (len(self.table), len(self.table[0])))
        v = self.values
        plots.heatmap(
            self.table, rows, columns, v.label, limits=v.limits, percent=v.percent, annot=False, title=self.title,
            xlabel=self.xlabel, ylabel=self.ylabel, ax=ax,
        )  # fmt: skip
        marks = [((0, 0), ACCENT, 1.6)]
        if self.here is not None:
            marks += [(self.here, "black", 3.0), (self.here, "white", 1.4)]
        for (row, column), colour, width in marks:
            frame = Rectangle((column, row), 1, 1, facecolor="none", edgecolor=colour, linewidth=width, clip_on=False)
            ax.add_patch(frame)


@dataclass(frozen=True)
class Sphere:
    """Values over the directions to which rotations send the z axis."""

    directions: NDArray[np.float64]
    numbers: Sequence[float]
    title: str
    values: Values
    here: Sequence[float] | None = None
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        v = self.values
        label = f"{v.label}, by where z points"
        plots.sphere(
            self.directions, self.numbers, label, limits=v.limits, percent=v.percent, title=self.title, here=self.here, ax=ax
        )  # fmt: skip


@dataclass(frozen=True)
class Dots:
    """Dots in the plane with a note and a key each; marked are the dot of the key `here`, the place `marked`, the origin."""

    points: Points
    numbers: Sequence[float]
    notes: Sequence[str]
    title: str
    values: Values
    caption: str
    keys: Sequence[int] | None = None
    here: int | None = None
    identity: bool = False
    marked: tuple[float, float] | None = None
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        v = self.values
        plots.scatter(
            self.points, self.numbers, v.label, limits=v.limits, percent=v.percent, title=self.title, xlabel=self.caption,
            notes=self.notes, ax=ax,
        )  # fmt: skip
        if self.identity:
            ax.plot([0], [0], **identity_ring())
        for x, y in self.marks():
            mark_square(ax, x, y, size=11)

    def marks(self) -> list[tuple[float, float]]:
        """Places to mark by a square."""
        keys = self.keys or ()
        places = [self.points[i] for i, key in enumerate(keys) if key == self.here]
        return places if self.marked is None else [*places, self.marked]


def drawing_svg(drawing: Drawing) -> str:
    """A drawing alone, as SVG for a place in a page."""
    figure, (ax,) = plots.panels(polar=[0] if drawing.polar else ())
    with plots.style():
        drawing.draw(ax)
    return plots.to_svg(figure, inline=True)


def _few_names(n: int) -> list[str]:
    step = max(1, -(-n // 8))
    return [str(i) if i % step == 0 else "" for i in range(n)]
