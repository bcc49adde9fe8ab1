"""Plots by matplotlib in one style: colours for every eye, a white ground, SVG and PDF that are the same every time.

>>> from erlangen import plots
>>> figure, (left, right) = plots.panels(2)
>>> _ = plots.barh({"error": [0.03, 0.2]}, ["ours", "theirs"], "test error", log=True, ax=left)
>>> _ = plots.line({"ours": [(1, 0.9), (2, 1.0)], "theirs": [(1, 0.5), (2, 0.6)]}, "layers", "accuracy", percent=True, ax=right)
>>> plots.to_svg(figure).startswith("<svg")
True

`barh`, `bar`, `line`, `polar`, `scatter`, `heatmap`, `agreement` and `sphere` each return a figure (`plots.Figure`).
Without ``ax=`` it is a new one, which needs neither a display nor pyplot; with ``ax=`` they draw into a panel of `panels`, or
into axes of your own. What they draw are matplotlib's own artists, so all else that matplotlib can do is still possible.
`to_svg` and `save` write figures; `style` is the look for what you draw yourself. matplotlib is imported by the first call.
"""

from typing import TYPE_CHECKING, Any

from erlangen.plots.charts import bar, barh, heatmap, line, polar, scatter
from erlangen.plots.figures import panels, save, to_png, to_svg
from erlangen.plots.look import COLOURS, STYLE, style
from erlangen.plots.nero import sphere
from erlangen.plots.pairs import agreement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "Figure",
    "STYLE",
    "agreement",
    "bar",
    "barh",
    "heatmap",
    "line",
    "panels",
    "polar",
    "save",
    "scatter",
    "sphere",
    "style",
    "to_png",
    "to_svg",
]


def __getattr__(name: str) -> Any:
    if name == "Figure":
        from matplotlib.figure import Figure

        return Figure
    raise AttributeError(f"module 'erlangen.plots' has no attribute {name!r}")
