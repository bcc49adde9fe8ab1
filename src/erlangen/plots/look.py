"""One look for all pictures: colours that everybody can tell apart, readable letters, a white ground."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676")
"""Okabe and Ito's palette and a grey, distinguishable with every common colour blindness."""

INK = "#24292f"
"""Text and axes."""

ACCENT = "#D55E00"
"""The ring that marks the identity."""

FONT = "'DejaVu Sans', sans-serif"
"""As SVG names it: the letters that matplotlib measures, or what the reader's machine has instead."""

COLOUR_MAP = "viridis"

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it along, so a layout is the same on every machine
    "font.size": 9,
    "grid.alpha": 0.18,
    "grid.color": INK,
    "image.cmap": COLOUR_MAP,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.6,
    "patch.linewidth": 0.0,
    "pdf.fonttype": 42,
    "savefig.facecolor": "auto",
    "svg.fonttype": "none",  # letters, not their outlines: a tenth of the size, and they can be searched and read aloud
    "svg.hashsalt": "erlangen",
    "text.color": INK,
    "text.hinting": "none",
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": INK,
    "ytick.labelsize": 8.5,
}
"""What differs from matplotlib's defaults, which are taken as they are shipped, not as a user has changed them."""

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def style() -> Generator[None]:
    """The style of this library, for what is drawn inside ``with plots.style():``."""
    import matplotlib as mpl

    with mpl.rc_context():
        cast("dict[str, Any]", mpl.rcParams).update(_shipped() | STYLE)
        yield


@functools.cache
def _shipped() -> dict[str, Any]:
    """matplotlib's defaults, without those that are no matter of style."""
    import matplotlib as mpl

    others = ("backend", "interactive", "toolbar", "timezone", "date.epoch", "docstring", "webagg", "tk", "savefig.dir")
    return {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(others)}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws in this style."""

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return in_style


def series_look(i: int) -> dict[str, Any]:
    """Colour, marker and dash of the i-th curve: all three differ, so that grey prints can be read too."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": ("-", "--", ":")[i // len(COLOURS) % 3],
    }
