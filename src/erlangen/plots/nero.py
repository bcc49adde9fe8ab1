"""Marks of NERO plots that no library has: the sphere, and where we are."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from erlangen.errors import ErlangenError
from erlangen.plots.charts import colour_bar, identity_ring
from erlangen.plots.figures import make_room, own_panel
from erlangen.plots.look import COLOUR_MAP, INK, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RINGS = 9
BANDWIDTH = math.radians(13)
"""Width of the Gaussian, in angle on the sphere, that averages values into the cells."""

GAP = 1.12
"""Distance of the middle of the figure from that of each disc, in radii."""


@styled
def sphere(
    directions: ArrayLike,
    values: ArrayLike,
    label: str,
    *,
    limits: tuple[float, float] | None = None,
    percent: bool = False,
    title: str = "",
    here: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Values over the directions of space, as two equal-area hemispheres (Lambert azimuthal); a ring marks the north pole.

    >>> from erlangen import plots
    >>> figure = plots.sphere([[0, 0, 1], [0, 0, -1], [1, 0, 0]], [1.0, 0.2, 0.6], "accuracy", percent=True)

    The value of a cell is the mean of all values, weighted by a Gaussian of their angles to it, 13 degrees wide.

    Args:
        directions: unit vectors ``[K, 3]``; z is up.
        values: numbers ``[K]``.
        label: what they are.
        limits: lowest and highest colour; by default those of the values.
        percent: the values are shares of one.
        title: heading.
        here: a direction ``[3]`` to mark by a square.
        ax: the panel; by default a figure of its own.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle

    figure, ax = own_panel(ax)
    v, ways = np.asarray(values, dtype=float), np.asarray(directions, dtype=float)
    if v.ndim != 1 or len(v) == 0 or ways.shape != (len(v), 3):
        raise ErlangenError(f"directions has shape {ways.shape} for {v.size} values; give one unit vector for each")
    low, high = limits or (float(v.min()), float(v.max()))
    corners, centres = _cells()
    angles = np.arccos(np.clip(centres @ ways.T, -1, 1))
    logits = -0.5 * (angles / BANDWIDTH) ** 2
    weights = np.exp(logits - logits.max(1, keepdims=True))
    cells = PolyCollection(
        corners,
        array=(weights @ v) / weights.sum(1),
        norm=Normalize(low, high if high > low else low + 1.0),
        cmap=COLOUR_MAP,
        edgecolors="face",
        linewidths=0.5,
    )
    cells.set_in_layout(False)  # they lie inside, and measuring hundreds of them takes time
    ax.add_collection(cells)
    for middle, name in ((-GAP, "z kept upwards"), (GAP, "z turned over")):
        ax.add_patch(Circle((middle, 0), 1, facecolor="none", edgecolor=INK, alpha=0.5, linewidth=0.8))
        ax.text(middle, -1.12, name, ha="center", va="top", fontsize=8.5)
    ax.plot([-GAP], [0], **identity_ring())
    if here is not None:
        x, y, z = (float(c) for c in here)
        rho, azimuth = math.sqrt(max(0.0, 1 - abs(z))), math.atan2(y, x)
        mark_square(ax, (-GAP if z >= 0 else GAP) + rho * math.cos(azimuth), rho * math.sin(azimuth))
    ax.set_xlim(-GAP - 1.02, GAP + 1.02)
    ax.set_ylim(-1.42, 1.02)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(title)
    colour_bar(ax, cells, label, percent=percent, beneath=0.08)
    make_room(ax, 2.3, 2.3 * 2.44 / (2 * GAP + 2.04))
    return figure


@functools.cache
def _cells() -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Corners of the cells in the plane, and their centres ``[cells, 3]`` on the sphere."""
    corners: list[NDArray[np.float64]] = []
    centres: list[tuple[float, float, float]] = []
    for sign in (1, -1):
        for ring in range(RINGS):
            inner, outer = ring / RINGS, (ring + 1) / RINGS
            sectors = 1 if ring == 0 else 6 * ring
            for sector in range(sectors):
                start, stop = 2 * math.pi * sector / sectors, 2 * math.pi * (sector + 1) / sectors
                rho, azimuth = (0.0 if ring == 0 else (inner + outer) / 2), (start + stop) / 2
                polar = math.acos(1 - rho**2)  # equal area: rho = 1 is the equator
                centres.append(
                    (math.sin(polar) * math.cos(azimuth), math.sin(polar) * math.sin(azimuth), sign * math.cos(polar))
                )
                arc = np.linspace(start, stop, 1 + math.ceil((stop - start) / math.radians(12)))
                edge = np.concatenate([outer * np.exp(1j * arc), inner * np.exp(1j * arc[::-1])])
                corners.append(np.stack([edge.real - sign * GAP, edge.imag], -1))
    return corners, np.array(centres)


def mark_square(ax: Axes, x: float, y: float, *, size: float = 8) -> None:
    """White within black, to be seen on every colour."""
    look: dict[str, Any] = {
        "marker": "s",
        "markersize": size,
        "markerfacecolor": "none",
        "linestyle": "none",
        "zorder": 6,
    }
    ax.plot([x], [y], markeredgecolor="black", markeredgewidth=3.0, **look)
    ax.plot([x], [y], markeredgecolor="white", markeredgewidth=1.4, **look)
