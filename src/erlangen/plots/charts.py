"""Charts of named numbers: bars, curves, dots, shaded tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from erlangen.errors import ErlangenError
from erlangen.plots.figures import NOTE, make_room, own_panel
from erlangen.plots.look import ACCENT, COLOURS, INK, series_look, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

Numbers = Mapping[str, Sequence[float | None]]
"""One number per name for every series; None where there is none."""

Points = Mapping[str, Sequence[tuple[float, float]]]
"""Places of a curve for every series."""

BAR = 0.15
"""Inches of one bar."""

MOST_MARKS = 40
"""Curves of more points are drawn without their marks, which would lie on each other."""

LETTER = 0.075
"""Inches of a letter, roughly; where it matters, text is measured."""


@styled
def barh(
    series: Numbers,
    names: Sequence[str],
    label: str,
    *,
    log: bool = False,
    percent: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Bars from the left with their values: one row per name, in it one bar per series.

    >>> from erlangen import plots
    >>> figure = plots.barh({"seen": [0.9, 0.8], "unseen": [0.9, None]}, ["ours", "theirs"], "accuracy", percent=True)

    Args:
        series: numbers for every name, by what they are; None or NaN leaves a bar out.
        names: the rows, from the top.
        label: of the axis of values.
        log: powers of ten.
        percent: the numbers are shares of one, shown from 0 to 100 %.
        ax: the panel; by default a figure of its own.
    """
    figure, ax = own_panel(ax)
    _check_lengths(series, names)
    step = len(series) + 0.6
    low = _axis_of_values(ax.xaxis, [v for values in series.values() for v in values], log=log, percent=percent)
    for i, (name, values) in enumerate(series.items()):
        known = {j * step + i: float(v) for j, v in enumerate(values) if v is not None and not math.isnan(v)}
        places, found = list(known), list(known.values())
        bars = ax.barh(places, [v - low for v in found], 0.86, left=low, color=COLOURS[i % len(COLOURS)], label=name)
        ax.bar_label(bars, [_words(v, percent) for v in found], padding=3, fontsize=8)
    middle = (len(series) - 1) / 2
    ax.set_yticks([j * step + middle for j in range(len(names))], names)
    ax.set_ylim(len(names) * step - 0.8, -0.8)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel(label)
    _legend(ax, list(series), 3.6)
    make_room(ax, 3.6, BAR * step * len(names))
    return figure


@styled
def bar(
    series: Mapping[str, Sequence[float]],
    names: Sequence[str],
    label: str,
    *,
    percent: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Upright bars for many short names: one group per name, in it one bar per series. See `barh`."""
    figure, ax = own_panel(ax)
    _check_lengths(series, names)
    low = _axis_of_values(ax.yaxis, [v for values in series.values() for v in values], log=False, percent=percent)
    wide = 0.84 / len(series)
    for i, (name, values) in enumerate(series.items()):
        places = [j + (i - (len(series) - 1) / 2) * wide for j in range(len(names))]
        ax.bar(places, [v - low for v in values], wide, bottom=low, color=COLOURS[i % len(COLOURS)], label=name)
    shown = range(0, len(names), max(1, math.ceil(len(names) / 24)))
    ax.set_xticks(list(shown), [names[j] for j in shown])
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    ax.set_ylabel(label)
    width = max(2.4, min(6.8, len(names) * max(0.1 * len(series) + 0.06, 0.24)))
    _legend(ax, list(series), width)
    make_room(ax, width, 2.1)
    return figure


@styled
def line(
    series: Points,
    xlabel: str,
    ylabel: str,
    *,
    logx: bool = False,
    logy: bool = False,
    percent: bool = False,
    xticks: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Curves with a mark at each of their points, if these are no more than forty.

    >>> from erlangen import plots
    >>> figure = plots.line({"ours": [(1, 0.1), (2, 0.01)], "theirs": [(1, 0.3), (2, 0.2)]}, "layers", "error", logy=True)

    Args:
        series: points (x, y) of every curve, by its name.
        xlabel, ylabel: of the axes.
        logx, logy: powers of ten; what is not positive is left out.
        percent: the values y are shares of one, shown from 0 to 100 %.
        xticks: places of the ticks, for an axis with few values.
        ax: the panel; by default a figure of its own.
    """
    figure, ax = own_panel(ax)
    series = {
        name: [(x, y) for x, y in points if (x > 0 or not logx) and (y > 0 or not logy)]
        for name, points in series.items()
    }
    for i, (name, points) in enumerate(series.items()):
        look: dict[str, Any] = series_look(i) | ({"marker": ""} if len(points) > MOST_MARKS else {})
        ax.plot([x for x, _ in points], [y for _, y in points], label=name, clip_on=False, zorder=3, **look)
    _axis_of_values(ax.yaxis, [y for points in series.values() for _, y in points], log=logy, percent=percent)
    if logx:
        _powers_of_ten(ax.xaxis, [x for points in series.values() for x, _ in points])
    if xticks is not None:
        ax.set_xticks(list(xticks), [f"{tick:g}" for tick in xticks], minor=False)
    ax.grid(axis="y")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    _legend(ax, list(series), 4.2)
    make_room(ax, 4.2, 2.4)
    return figure


@styled
def polar(series: Points, label: str, *, percent: bool = False, ax: Axes | None = None) -> Figure:
    """Closed curves over the circle: points (angle in radians, value); a ring marks the identity, the angle 0.

    Args:
        series: points of every curve, by its name.
        label: what the values are.
        percent: the values are shares of one.
        ax: a panel with polar axes (`panels(n, polar=[index])`); by default a figure of its own.
    """
    from matplotlib.ticker import MaxNLocator

    figure, ax = own_panel(ax, polar=True)
    _axis_of_values(ax.yaxis, [y for points in series.values() for _, y in points], log=False, percent=percent)
    for i, (name, points) in enumerate(series.items()):
        closed = [*points, *points[:1]]
        look: dict[str, Any] = {**series_look(i), "marker": ""}
        ax.plot([angle for angle, _ in closed], [value for _, value in closed], label=name, **look)
        ax.fill([angle for angle, _ in points], [value for _, value in points], color=look["color"], alpha=0.07)
    ax.plot([0], [ax.get_ylim()[1]], **identity_ring())
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_rlabel_position(292.5)  # pyright: ignore[reportAttributeAccessIssue] - axes with this projection have it
    ax.grid(visible=True)
    ax.spines["polar"].set_alpha(0.25)
    ax.set_xlabel(f"{label} by rotation angle; ring: identity")
    _legend(ax, list(series), 2.6, above=1.1)
    make_room(ax, 2.6, 2.6)
    return figure


@styled
def scatter(
    points: Sequence[tuple[float, float]],
    values: Sequence[float],
    label: str,
    *,
    limits: tuple[float, float] | None = None,
    percent: bool = False,
    title: str = "",
    xlabel: str = "",
    notes: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Dots in the plane, one unit on both axes, coloured by their values.

    Args:
        points: places (x, y).
        values: one for each.
        label: what the values are.
        limits: lowest and highest colour; by default those of the values.
        percent: the values are shares of one.
        title: heading.
        xlabel: what the plane is.
        notes: what an SVG says when the pointer is on a dot.
        ax: the panel; by default a figure of its own.
    """
    figure, ax = own_panel(ax)
    low, high = limits or (min(values), max(values))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    dots = ax.scatter(xs, ys, 22, c=list(values), vmin=low, vmax=high, edgecolors=INK, linewidths=0.4)
    if notes is not None:
        dots.set_urls([NOTE + note for note in notes])
    half = 0.55 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-6)  # noise stays small
    ax.set_xlim((max(xs) + min(xs)) / 2 - half, (max(xs) + min(xs)) / 2 + half)
    ax.set_ylim((max(ys) + min(ys)) / 2 - half, (max(ys) + min(ys)) / 2 + half)
    frame(ax)
    ax.set_aspect("equal")
    ax.set_xlabel(xlabel)
    ax.set_title(title)
    colour_bar(ax, dots, label, percent=percent, beneath=0.18 if xlabel else 0.08)
    make_room(ax, 2.25, 2.25)
    return figure


@styled
def heatmap(
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    percent: bool = False,
    annot: bool | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Figure:
    """A table in shaded cells, row 0 at the top.

    >>> from erlangen import plots
    >>> figure = plots.heatmap([[0, 100], [50, None]], ["easy", "hard"], ["ours", "theirs"], "percent solved")

    Args:
        values: one list for each row; None leaves a cell empty.
        rows, columns: their names.
        label: what the values are.
        limits: lowest and highest colour; by default those of the values.
        log: colours by powers of ten.
        percent: the values are shares of one.
        annot: write the numbers into the cells, instead of a bar of colours; by default where there are fewer than 150.
        title: heading.
        xlabel, ylabel: what columns and rows are.
        ax: the panel; by default a figure of its own.
    """
    from matplotlib.colors import LogNorm, Normalize

    figure, ax = own_panel(ax)
    found = [float(v) for line_ in values for v in line_ if v is not None]
    low, high = limits or (min(found), max(found))
    norm = LogNorm(low, high) if log else Normalize(low, high)
    annot = len(rows) * len(columns) < 150 if annot is None else annot
    table = [[math.nan if v is None else float(v) for v in line_] for line_ in values]
    cells = ax.pcolormesh(table, norm=norm, edgecolors="white" if annot else "face", linewidth=1.2 if annot else 0.2)
    if annot:
        for i, line_ in enumerate(values):
            for j, v in enumerate(line_):
                if v is not None:
                    # Bright cells have dark numbers.
                    ink = "black" if float(norm(float(v))) > 0.55 else "white"
                    ax.text(
                        j + 0.5, i + 0.5, _words(float(v), percent), ha="center", va="center", color=ink, fontsize=8
                    )
    ax.invert_yaxis()
    ax.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    ax.set_xticks([j + 0.5 for j in range(len(columns))], [_two_lines(name) for name in columns])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(": ".join(filter(None, (title, label))) if annot else title)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    longest = max(len(part) for name in columns for part in _two_lines(name).split("\n"))
    side = max(LETTER * 8.5 / 9 * longest + 0.1, 0.5) if annot else min(0.26, 3.2 / max(len(rows), len(columns)))
    if not annot:
        colour_bar(ax, cells, label, percent=percent)
    make_room(ax, side * len(columns), (0.29 if annot else side) * len(rows))
    return figure


# --- parts that charts share -----------------------------------------------------------------------------------------
def identity_ring() -> dict[str, Any]:
    """How the mark of the identity looks."""
    return {
        "marker": "o",
        "markersize": 8,
        "markerfacecolor": "none",
        "markeredgecolor": ACCENT,
        "markeredgewidth": 1.6,
        "linestyle": "none",
        "clip_on": False,
        "zorder": 5,
    }


def frame(ax: Axes) -> None:
    """A thin frame and no ticks, for places without axes."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, alpha=0.3)


def colour_bar(ax: Axes, coloured: Any, label: str, *, percent: bool = False, beneath: float = 0.0) -> None:
    """The colours of a plot, to its right, or beneath it at a distance given as a share of its height."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import PercentFormatter

    place = ax.inset_axes((0.05, -beneath, 0.9, 0.05) if beneath else (1.04, 0.0, 0.05, 1.0))
    axis = place.xaxis if beneath else place.yaxis
    # In steps, because matplotlib writes a bar of many colours as an image, whose bytes are not the same everywhere.
    steps = ScalarMappable(coloured.norm, coloured.get_cmap().resampled(40))
    colours = ax.figure.colorbar(steps, cax=place, orientation="horizontal" if beneath else "vertical")
    assert colours.solids is not None
    colours.solids.set(edgecolor="face", linewidth=0.4)
    colours.outline.set_visible(False)  # pyright: ignore[reportCallIssue] - a spine, which the stubs take for a list
    colours.set_label(label)
    if isinstance(coloured.norm, LogNorm):
        _plain_powers(axis, subs=(1, 2, 5))
    if percent:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _axis_of_values(axis: XAxis | YAxis, values: Sequence[float | None], *, log: bool, percent: bool) -> float:
    """Limits, ticks and numbers of an axis; returns where bars begin."""
    from matplotlib.ticker import PercentFormatter

    found = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not found:
        raise ErlangenError("series holds no number; give at least one that is finite")
    limit = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    if log:
        return _powers_of_ten(axis, found)
    low, high = (0.0, 1.0) if percent else (min(0.0, *found), max(found))
    limit(low, high if high > low else low + 1.0)
    if percent:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    return 0.0


def _powers_of_ten(axis: XAxis | YAxis, values: Sequence[float]) -> float:
    """A logarithmic axis between whole powers of ten around the positive values; returns its low end."""
    powers = [math.log10(v) for v in values if v > 0]
    if not powers:
        raise ErlangenError("series holds no positive number; a logarithmic axis needs one")
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    high = max(high, low + 1)
    if axis.axis_name == "x":
        axis.axes.set_xscale("log")
        axis.axes.set_xlim(10.0**low, 10.0**high)
    else:
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(10.0**low, 10.0**high)
    _plain_powers(axis)
    return 10.0**low


def _plain_powers(axis: XAxis | YAxis, subs: Sequence[float] = (1,)) -> None:
    """Ticks at powers of ten, written 0.001, 1, 1e+06: text that can be read aloud, unlike raised exponents."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(ax: Axes, names: Sequence[str], width: float, *, above: float = 1.01) -> None:
    """The names of several series above the plot, in as many columns as fit; a single one is named by the axis."""
    if len(names) < 2:
        return
    columns = max(1, min(len(names), int((width + 0.15) / (0.4 + LETTER * max(map(len, names))))))
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, above),
        ncols=columns,
        borderaxespad=0.3,
        borderpad=0,
        handlelength=1.2,
        columnspacing=1.2,
        labelspacing=0.3,
    )


def _two_lines(name: str) -> str:
    return name.replace(", ", ",\n", 1)


def _words(value: float, percent: bool) -> str:
    return f"{100 * value:.0f} %" if percent else f"{value:.3g}"


def _check_lengths(series: Mapping[str, Sequence[Any]], names: Sequence[str]) -> None:
    for name, values in series.items():
        if len(values) != len(names):
            raise ErlangenError(f"series[{name!r}] has {len(values)} numbers for {len(names)} names; give one for each")
