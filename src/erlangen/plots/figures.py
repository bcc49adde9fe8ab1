"""Figures without a display or a global state, their size, and their files."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from erlangen.errors import ErlangenError
from erlangen.files import write_bytes, write_text
from erlangen.plots.look import FONT, INK, style, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

GAP = 0.16
"""Inches around a panel."""

NOTE = "note:"
"""How the address of a mark begins that is no link but a note, shown when the pointer is on it."""


@styled
def panels(n: int = 1, columns: int = 2, *, polar: Collection[int] = ()) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, row by row; the last one takes what is left of its row.

    >>> from erlangen import plots
    >>> figure, (left, right, below) = plots.panels(3)
    >>> _ = plots.line({"ours": [(0, 1), (1, 0.5)]}, "epoch", "error", ax=left)

    The functions of this room draw into a panel by ``ax=`` and make it, and so the figure, as large as they need.

    Args:
        n: how many panels.
        columns: how many stand in a row.
        polar: indices of those with polar axes.
    """
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure()
    grid = GridSpec(rows, columns, figure, width_ratios=[1.0] * columns, height_ratios=[1.0] * rows)
    axes: list[Axes] = []
    for i in range(n):
        row, column = divmod(i, columns)
        place = grid[row, column : columns if i == n - 1 else column + 1]
        axes.append(figure.add_subplot(place, projection="polar" if i in polar else None))
    return figure, axes


def own_panel(ax: Axes | None, *, polar: bool = False) -> tuple[Figure, Axes]:
    """The panel to draw into, and its figure; a new one where there is none."""
    if ax is None:
        figure, (ax,) = panels(polar=[0] if polar else ())
        return figure, ax
    if polar and ax.name != "polar":
        raise ErlangenError("ax has straight axes; make it by erlangen.plots.panels(n, polar=[index])")
    return cast("Figure", ax.get_figure(root=True)), ax


def make_room(ax: Axes, width: float, height: float) -> None:
    """Let the inside of a panel be at least this many inches wide and high, and lay its figure out."""
    place = ax.get_subplotspec()
    if place is None:  # axes that somebody else has put somewhere
        return
    grid = place.get_gridspec()
    for get, put, span, wanted in (
        (grid.get_width_ratios, grid.set_width_ratios, place.colspan, width),
        (grid.get_height_ratios, grid.set_height_ratios, place.rowspan, height),
    ):
        sizes = [float(v) for v in cast("Any", get())]
        missing = max(0.0, wanted - sum(sizes[k] for k in span))
        put([size + missing / len(span) if k in span else size for k, size in enumerate(sizes)])
    fit(cast("Figure", ax.get_figure(root=True)))


@styled
def fit(figure: Figure) -> None:
    """Give the insides of panels the sizes they have asked for, and what stands around them the room that it needs.

    matplotlib's own layouts divide a figure of a given size; here the figure has the size of what is in it. Texts of the
    figure stand above all panels, from the left.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    panels_ = [(ax, place) for ax in figure.axes if (place := ax.get_subplotspec()) is not None]
    if not panels_:
        return
    grid = panels_[0][1].get_gridspec()
    widths, heights = (
        [float(v) for v in cast("Any", get())] for get in (grid.get_width_ratios, grid.get_height_ratios)
    )
    # Before and after every column and row; ticks, and so what is around, follow the size of the inside: twice.
    margins = ([0.0] * len(widths), [0.0] * len(widths)), ([0.0] * len(heights), [0.0] * len(heights))
    heading = [0.0, 0.0]
    for _ in range(2):
        _place(figure, panels_, widths, heights, margins, heading)
        renderer = FigureCanvasAgg(figure).get_renderer()
        for ax, place in panels_:
            outer, inner = ax.get_tightbbox(renderer), ax.get_window_extent(renderer)
            if outer is None:
                continue
            needs = (
                (margins[0][0], place.colspan[0], inner.x0 - outer.x0),
                (margins[0][1], place.colspan[-1], outer.x1 - inner.x1),
                (margins[1][0], place.rowspan[0], outer.y1 - inner.y1),
                (margins[1][1], place.rowspan[-1], inner.y0 - outer.y0),
            )
            for margin, k, pixels in needs:
                margin[k] = max(margin[k], round(pixels / figure.dpi, 3))
        for text in figure.texts:
            box = text.get_window_extent(renderer)
            heading = [max(heading[0], box.width / figure.dpi), max(heading[1], box.height / figure.dpi + GAP)]
    _place(figure, panels_, widths, heights, margins, heading)


def _place(
    figure: Figure,
    panels_: list[tuple[Axes, SubplotSpec]],
    widths: list[float],
    heights: list[float],
    margins: tuple[tuple[list[float], list[float]], tuple[list[float], list[float]]],
    heading: list[float],
) -> None:
    columns, wide = _stops(widths, *margins[0])
    rows, tall = _stops(heights, *margins[1], start=heading[1])
    wide = max(wide, heading[0] + GAP)
    figure.set_size_inches(wide, tall)
    for text in figure.texts:
        text.set(x=GAP / 2 / wide, y=1 - GAP / 2 / tall, ha="left", va="top")
    for ax, place in panels_:
        left, right = columns[place.colspan[0]][0], columns[place.colspan[-1]][1]
        top, bottom = rows[place.rowspan[0]][0], rows[place.rowspan[-1]][1]
        ax.set_position((left / wide, 1 - bottom / tall, (right - left) / wide, (bottom - top) / tall))


def _stops(
    sizes: list[float], before: list[float], after: list[float], *, start: float = 0.0
) -> tuple[list[tuple[float, float]], float]:
    """Begin and end of every inside, and the length of the whole."""
    stops: list[tuple[float, float]] = []
    x = start + GAP / 2
    for size, first, last in zip(sizes, before, after, strict=True):
        stops.append((x + first, x + first + size))
        x += first + size + last + GAP
    return stops, x - GAP / 2


# --- files -----------------------------------------------------------------------------------------------------------
def to_svg(figure: Figure, *, inline: bool = False) -> str:
    """The figure as one SVG element, the same text every time: no date, no version, no random names.

    >>> from erlangen import plots
    >>> plots.to_svg(plots.barh({"error": [0.1, 0.2]}, ["ours", "theirs"], "test error"))[:4]
    '<svg'

    Args:
        figure: what to write.
        inline: for a place inside an HTML page: no ground of its own, and text and axes in the colour of the page.
    """
    file = io.StringIO()
    fit(figure)
    with style():
        figure.savefig(file, format="svg", metadata=_nothing("Creator", "Date", "Format", "Type"), transparent=inline)
    text = file.getvalue()
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE.*?>", "", text, flags=re.DOTALL)
    # Groups are numbered through; nothing refers to them, and in a page with many figures they would come twice.
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)
    text = re.sub(r"<a xlink:href=([\"'])" + NOTE + r"(.*?)\1[^>]*>(.*?)</a>", _noted, text, flags=re.DOTALL)
    text = _shortened(_named_anew(re.sub(r"<[^>]*>", _rounded, text)))
    said = {"role": "img", "aria-label": label_of(figure), "stroke-linejoin": "round"}
    said |= {} if inline else {"font-family": FONT}
    if inline:
        text = text.replace(INK, "currentColor").replace("xlink:href", "href")
        text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # in HTML it goes without saying
    attributes = " ".join(f'{key}="{escape(value, quote=True)}"' for key, value in said.items())
    return text.replace("<svg ", f"<svg {attributes} ", 1) + "\n"


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file, 200 pixels to the inch."""
    file = io.BytesIO()
    fit(figure)
    with style():
        figure.savefig(file, format="png", dpi=200, metadata=_nothing("Software"))
    return file.getvalue()


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as SVG, PDF or PNG, by the suffix of the path; returns the path.

    Raises:
        ErlangenError: another suffix.
        DataError: the file cannot be written.
    """
    path = Path(path)
    fit(figure)
    if path.suffix == ".svg":
        write_text(path, to_svg(figure))
    elif path.suffix == ".pdf":
        file = io.BytesIO()
        with style():
            figure.savefig(file, format="pdf", metadata=_nothing("Creator", "Producer", "CreationDate"))
        write_bytes(path, file.getvalue())
    elif path.suffix == ".png":
        write_bytes(path, to_png(figure))
    else:
        raise ErlangenError(f"path = {str(path)!r}: figures are written as .svg, .pdf or .png")
    return path


def label_of(figure: Figure) -> str:
    """A text alternative: the figure's own label, or what its axes say."""
    if figure.get_label():
        return str(figure.get_label())
    parts: list[str] = []
    for ax in figure.axes:
        shades = [inner.get_ylabel() or inner.get_xlabel() for inner in ax.child_axes]
        parts.append(
            ": ".join(
                filter(None, (ax.get_title(), *shades, " over ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))))
            )
        )
    return "; ".join(dict.fromkeys(filter(None, parts)))


def _noted(link: re.Match[str]) -> str:
    return f'<g class="note"><title>{link[2]}</title>{link[3]}</g>'


def _rounded(tag: re.Match[str]) -> str:
    """Hundredths of a point: what machines may differ in, and what nobody sees, goes."""
    if "base64" in tag[0]:
        return tag[0]
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag[0])


def _named_anew(text: str) -> str:
    """Markers and clips, whose names come from unrounded numbers, named by the rounded text; none comes twice in a page."""
    names = list(dict.fromkeys(re.findall(r'id="(\w*[0-9a-f]{10})"', text)))
    for i, name in enumerate(names):
        text = text.replace(name, f"-{i}-")
    whole = "f" + hashlib.sha256(text.encode()).hexdigest()[:6]
    for i in range(len(names)):
        text = text.replace(f'"-{i}-"', f'"{whole}-{i}"').replace(f"#-{i}-", f"#{whole}-{i}")
    return text


def _shortened(text: str) -> str:
    """Half the length: what is said at every letter and mark is said once, groups without a property of their own go."""
    text = text.replace(f"font-family: {FONT}; ", "").replace(f"; font-family: {FONT}", "")
    text = re.sub(r"<style.*?</style>| transform=\"rotate\(-0 [^\"]*\"", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    open_groups: list[bool] = []

    def group(tag: re.Match[str]) -> str:
        if tag[0].endswith("/>"):
            return ""
        if tag[0] == "</g>":
            return "</g>" if open_groups.pop() else ""
        open_groups.append(tag[0] != "<g>")
        return tag[0] if open_groups[-1] else ""

    text = re.sub(r"<g\b[^>]*>|</g>", group, text)
    text = re.sub(r"<[^>]*>", lambda tag: " ".join(tag[0].split()).replace(' "', '"'), text)
    return re.sub(r"\n\s*", "\n", text).strip()


def _nothing(*keys: str) -> dict[str, Any]:
    return dict.fromkeys(keys)
