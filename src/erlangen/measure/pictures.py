"""Pictures of one sample or one answer: images, fields, clouds, sensor series, graphs, class scores, numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erlangen import plots
from erlangen.actions import (
    SPD,
    Action,
    Boxes,
    DirectSum,
    Factors,
    Field,
    Graph,
    Image,
    Points,
    Pseudovectors,
    Relabelled,
    Rolled,
    Tree,
    TreeAction,
    Vectors,
    tree_leaves,
    tree_structure,
)
from erlangen.actions import Sequence as SequenceAction
from erlangen.groups import Group
from erlangen.measure.drawings import Drawing, drawing_svg
from erlangen.plots import COLOURS
from erlangen.plots.figures import make_room
from erlangen.plots.look import COLOUR_MAP, INK, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 2.4
"""Side of a picture in inches."""
TITLE = 0.25
"""Height of its title."""
ARROWS = 16
"""Arrows of a field along one axis."""
LARGEST_DOT = 26.0
"""Area of a dot of a cloud in square points; where there are many they are smaller."""
MOST_DOTS = 100
"""So many dots have the largest size."""
MOST_BARS = 12
MOST_FRAMES = 6
MOST_PIXELS = 480
MOST_NAMES = 18
"""Channels of a sensor that are named."""


@dataclass(frozen=True)
class Picture:
    """A square picture without axes: a title, and what is drawn below it."""

    title: str
    paint: Callable[[Axes], None]
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        ax.set_aspect("equal")
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set(visible=True, alpha=0.3)
        self.paint(ax)
        ax.set_title(self.title)
        make_room(ax, SIDE, SIDE)

    def svg(self) -> str:
        """The picture alone, for a place in a page; its layout is known, so that it can follow a drag."""
        with style():
            figure = plots.Figure(figsize=(SIDE + 0.1, SIDE + 0.1 + TITLE))
            wide, tall = figure.get_size_inches()
            self.draw(figure.add_axes((0.05 / wide, 0.05 / tall, SIDE / wide, SIDE / tall)))
        return plots.to_svg(figure, inline=True)


@dataclass(frozen=True)
class Scores:
    """One bar per name, from zero; shares of one where `percent`."""

    names: Sequence[str]
    numbers: Sequence[float]
    title: str
    percent: bool = False
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        plots.barh({self.title: self.numbers}, self.names, "", percent=self.percent, ax=ax)
        ax.set_title(self.title)

    def text(self, number: float) -> str:
        """A number with its unit."""
        return f"{100 * number:.0f} %" if self.percent else f"{number:.3g}"


@dataclass(frozen=True)
class Reach:
    """The range of values of a sample as it is, so that a picture does not change its scale while the sample moves."""

    low: float
    high: float

    @classmethod
    def of(cls, x: Tensor) -> Reach:
        """Range of the entries of a tensor; of the integers 0 and 1 where it has none."""
        values = x.detach().double().flatten()
        return cls(float(values.min()), float(values.max())) if values.numel() else cls(0.0, 1.0)

    @property
    def size(self) -> float:
        """Largest absolute value, or 1."""
        return max(abs(self.low), abs(self.high)) or 1.0


@dataclass(frozen=True)
class Cloud:
    """Dots in the plane, or arrows where there are tails, the last ones in front.

    `axes` are lines from the middle, by name; `bones` lines between dots; `dot` is the area of a dot in square points.
    """

    title: str
    tips: Sequence[tuple[float, float]]
    tails: Sequence[tuple[float, float]] | None
    colours: Sequence[str]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    axes: Mapping[str, tuple[float, float]]
    bones: Sequence[Sequence[tuple[float, float]]] = ()
    dot: float = LARGEST_DOT
    polar: bool = False

    def draw(self, ax: Axes) -> None:
        """Draw into these axes."""
        Picture(self.title, self._paint).draw(ax)

    def _paint(self, ax: Axes) -> None:
        for name, (x, y) in self.axes.items():
            ax.plot([0, x], [0, y], color=INK, alpha=0.35, linewidth=0.8)
            ax.text(1.09 * x, 1.09 * y, name, ha="center", va="center")
        for bone in self.bones:
            ax.plot(*zip(*bone, strict=True), color=INK, linewidth=1.2, zorder=2)
        xs, ys = [x for x, _ in self.tips], [y for _, y in self.tips]
        if self.tails is None:
            edge = 0.4 * min(1.0, self.dot / LARGEST_DOT)
            ax.scatter(xs, ys, self.dot, c=list(self.colours), edgecolors=INK, linewidths=edge, zorder=3)
        else:
            ways = [(x - a, y - b) for (x, y), (a, b) in zip(self.tips, self.tails, strict=True)]
            ax.quiver(
                [x for x, _ in self.tails], [y for _, y in self.tails], [u for u, _ in ways], [v for _, v in ways],
                color=list(self.colours), angles="xy", scale_units="xy", scale=1, width=0.008, minshaft=1.6, headwidth=4,
                headlength=4, headaxislength=3.6, zorder=3,
            )  # fmt: skip
        ax.set_xlim(*self.xlim)
        ax.set_ylim(*self.ylim)


def svg_of(drawing: Drawing) -> str:
    """A drawing as SVG, for a place in a page."""
    return drawing.svg() if isinstance(drawing, Picture) else drawing_svg(drawing)


def pictures(action: Action, x: Tree, upright: Tree, title: str, group: Group | None = None) -> list[Drawing]:
    """Pictures of data that an action moves.

    Args:
        action: the action; it tells points from images from graphs.
        x: the data of one sample, without a batch axis, as moved.
        upright: the same as it was, for the scale.
        title: heading; entries of a tree add their names.
        group: the group, by which channels of sensors get their names; by default they are numbered.
    """
    if isinstance(action, Graph) and isinstance(x, dict):
        return [graph_picture(x, title)]
    if isinstance(action, TreeAction):
        keys = action.keys
        return [
            picture
            for key in keys
            for picture in pictures(
                action.tree[key], x[key], upright[key], f"{title}: {key}" if title else str(key), group
            )
        ]
    if isinstance(x, Tensor):
        return _tensor(action, x.detach().cpu(), upright.detach().cpu(), title, group)
    return [note_picture([tree_structure(x)], title)]


def _tensor(action: Action, x: Tensor, upright: Tensor, title: str, group: Group | None) -> list[Drawing]:
    reach = Reach.of(upright)
    if isinstance(action, SequenceAction):
        return _frames(action, x, upright, title, group)
    if isinstance(action, Factors):
        plain = next((a for a in action.actions if not isinstance(a, Rolled)), action.actions[0])
        return _tensor(plain, x, upright, title, None)
    if isinstance(action, Relabelled):
        return _tensor(action.action, x, upright, title, group)
    if isinstance(action, Boxes):
        return [box_picture(x.double().reshape(-1, 4), upright.double().reshape(-1, 4), action.window, title)]
    if isinstance(action, Field) and x.ndim == 3:
        return [field_picture(x.double(), reach.size, title)]
    if isinstance(action, (Image, Rolled)) and x.ndim in (2, 3) and min(x.shape[-2:]) > 1:
        return [image_picture(x, reach, title)]
    if isinstance(action, (Points, Vectors, Pseudovectors)) and x.ndim <= 2 and x.shape[-1] in (2, 3):
        rows = x.double().reshape(-1, x.shape[-1])
        size = float(upright.double().reshape(-1, x.shape[-1]).norm(dim=-1).max()) or 1.0
        if isinstance(action, Points):
            return [cloud_picture(rows, None, size, title, bones=action.bones)]
        return [cloud_picture(rows, torch.zeros_like(rows), size, title)]
    if isinstance(action, DirectSum) and x.ndim == 2:
        return [_series(x, reach, title, channel_names(action, x.shape[-1], group))]
    if isinstance(action, SPD) or (x.ndim == 2 and x.numel() > MOST_BARS):
        return [image_picture(x, reach, title, colours=True)] if x.ndim == 2 else []
    if x.ndim == 1 and 1 < len(x) <= MOST_BARS:
        return [Scores([str(i) for i in range(len(x))], x.double().tolist(), title)]
    if x.ndim == 3 and min(x.shape[-2:]) > 3:
        return [image_picture(x, reach, title)]
    flat = x.double().flatten()
    shown = ", ".join(f"{value:.4g}" for value in flat[:4].tolist()) + (", ..." if len(flat) > 4 else "")
    return [note_picture([shown], title)]


def _frames(action: SequenceAction, x: Tensor, upright: Tensor, title: str, group: Group | None) -> list[Drawing]:
    """A few frames of a sequence, evenly spaced."""
    axis = x.ndim + action.time_axis
    steps = torch.linspace(0, x.shape[axis] - 1, min(MOST_FRAMES, x.shape[axis])).round().long().tolist()
    return [
        picture
        for t in steps
        for picture in _tensor(action.frame, x.select(axis, t), upright.select(axis, t), f"{title}, step {t}", group)
    ]


# --- the pictures ----------------------------------------------------------------------------------------------------
def image_picture(x: Tensor, reach: Reach, title: str, *, colours: bool = False) -> Picture:
    """An image ``[H, W]`` or ``[C, H, W]``: grey, colour (C = 3), or its first channel; or a matrix in colours.

    Images that are larger than can be seen are shown by means of squares of their pixels.
    """
    x = x[None] if x.ndim == 2 else x
    x = (x[:3] if x.shape[0] >= 3 else x[:1]).double()
    if (square := max(x.shape[-2:]) // MOST_PIXELS) > 1:
        x = torch.nn.functional.avg_pool2d(x, square, ceil_mode=True)
    levels = ((x - reach.low) / ((reach.high - reach.low) or 1.0)).clamp(0, 1)
    pixels = (levels * 255).round().byte().permute(1, 2, 0).numpy()

    def paint(ax: Axes) -> None:
        shown = pixels if len(levels) == 3 else pixels[..., 0]
        shades = COLOUR_MAP if colours else "gray"
        ax.imshow(shown, cmap=shades, vmin=0, vmax=255, interpolation="none", origin="upper")
        for spine in ax.spines.values():
            spine.set_visible(False)

    return Picture(title, paint)


def cloud_picture(
    x: Tensor, origin: Tensor | None, size: float, title: str, *, bones: Sequence[tuple[int, int]] = ()
) -> Cloud:
    """Points ``[N, 2 or 3]`` as dots, or vectors as arrows from `origin` ``[N, 2 or 3]``; `size` fits into the frame.

    Rows that `bones` names are joined by lines.

    Space is seen a little from above and from the side, with z up and nearer points in front; a colour for each row
    shows where it went.
    """
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    flat, depth = _projected(x)
    flat = (flat / size).clamp(-1.6, 1.6)
    places, order = _places(flat), depth.argsort()
    shades = mpl.colormaps[COLOUR_MAP]
    axes = _projected(torch.eye(x.shape[-1], dtype=torch.float64))[0]
    return Cloud(
        title,
        _places(flat[order]),
        None if origin is None else _places((_projected(origin)[0] / size)[order]),
        [to_hex(shades(i / max(len(x) - 1, 1))) for i in order.tolist()],
        (-1.18, 1.18),
        (-1.18, 1.18),
        dict(zip("xyz", _places(axes), strict=False)),
        bones=[(places[i], places[j]) for i, j in bones],
        dot=LARGEST_DOT * min(1.0, MOST_DOTS / max(len(x), 1)),
    )


def _places(x: Tensor) -> list[tuple[float, float]]:
    """Rows of a tensor ``[N, 2]``."""
    return [(float(a), float(b)) for a, b in x.tolist()]


def _projected(x: Tensor) -> tuple[Tensor, Tensor]:
    """Places ``[N, 2]`` in the picture, and depth ``[N]``, larger in front."""
    if x.shape[-1] == 2:
        return x, torch.zeros(len(x))
    a, b = math.radians(-65), math.radians(-25)  # tip z up, then look from the side
    about_z = torch.tensor([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    seen = x @ (about_x @ about_z).to(x).T
    return seen[:, :2], seen[:, 2]


def field_picture(x: Tensor, size: float, title: str) -> Cloud:
    """A vector field ``[2, H, W]``, components to the right and up, as arrows on every few pixels."""
    height, width = x.shape[-2:]
    step = max(1, math.ceil(max(height, width) / ARROWS))

    i, j = torch.meshgrid(torch.arange(step // 2, height, step), torch.arange(step // 2, width, step), indexing="ij")
    ways = 0.9 * step * x[:, i, j].flatten(1).T / size
    middles = torch.stack([j.flatten() + 0.5, height - 0.5 - i.flatten()], 1)
    tails, tips = _places(middles - ways / 2), _places(middles + ways / 2)
    return Cloud(title, tips, tails, [COLOURS[0]] * len(tips), (0, width), (0, height), {})


def box_picture(x: Tensor, upright: Tensor, window: tuple[int, int] | None, title: str) -> Picture:
    """Boxes ``[N, 4]``, middle and size, y up, in the frame of the image; without one in twice the reach of the boxes."""
    if window is None:
        reach = 2 * float((upright[:, :2].abs() + upright[:, 2:].abs() / 2).max()) or 1.0
        wide, tall = 2 * reach, 2 * reach
    else:
        tall, wide = window

    def paint(ax: Axes) -> None:
        from matplotlib.patches import Rectangle

        for i, (cx, cy, w, h) in enumerate(x.tolist()):
            ax.add_patch(
                Rectangle(
                    (cx - w / 2, cy - h / 2), max(w, 0), max(h, 0), facecolor="none", edgecolor=COLOURS[i % len(COLOURS)],
                    linewidth=2, clip_on=False,
                )
            )  # fmt: skip
        ax.set_xlim(-wide / 2, wide / 2)
        ax.set_ylim(-tall / 2, tall / 2)

    return Picture(title, paint)


def channel_names(action: DirectSum, channels: int, group: Group | None) -> list[str]:
    """Short names of the channels of a sum: "1x", "1y", "2x" for coordinates of its parts, numbers for the rest."""
    widths = [None if group is None else part.width(group) for part in action.summands]
    known = sum(w for w in widths if w is not None)
    if widths.count(None) > 1 or known > channels:
        return [str(c) for c in range(channels)]
    names: list[str] = []
    for i, (part, width) in enumerate(zip(action.summands, widths, strict=True), start=1):
        n = channels - known if width is None else width
        arrow = isinstance(part, (Points, Vectors, Pseudovectors)) and n <= 3
        names += [f"{i}{'xyz'[k]}" if arrow else f"{i}.{k}" if n > 1 else f"{i}" for k in range(n)]
    return names


def _series(x: Tensor, reach: Reach, title: str, names: Sequence[str]) -> Picture:
    """Channels ``[T, C]`` over time, with a legend."""
    size = reach.size * 1.2
    columns = 6 if len(names) > 3 else max(len(names), 1)
    rows = math.ceil(min(len(names), MOST_NAMES) / columns)

    def paint(ax: Axes) -> None:
        for c in range(x.shape[1]):
            look: dict[str, Any] = {
                "color": COLOURS[c % len(COLOURS)],
                "linestyle": ("-", "--", ":")[c // len(COLOURS) % 3],
            }
            name = names[c] if c < MOST_NAMES else None
            ax.plot(x[:, c].double().numpy(), linewidth=1.1, label=name, **look)
        ax.set_aspect("auto")
        ax.set_xlim(0, max(len(x) - 1, 1))
        ax.set_ylim(-size, size * (1 + 0.22 * rows))  # the names stand above the curves
        ax.legend(
            loc="upper center", ncols=columns, fontsize=6.5, handlelength=0.9, handletextpad=0.3, columnspacing=0.7,
            labelspacing=0.2, borderaxespad=0.2, borderpad=0.1,
        )  # fmt: skip

    return Picture(title, paint)


def graph_picture(x: dict[str, Tensor], title: str) -> Picture:
    """A graph with its nodes on a circle, in the order of their indices from the top, clockwise.

    A colour stands for the first feature of a node where there is one; it moves with the node.
    """
    nodes = next((x[key].shape[0] for key in ("x", "pos", "adj", "mask") if key in x), None)
    edges = (
        x["edge_index"].T.tolist()
        if "edge_index" in x
        else x["adj"].reshape(*x["adj"].shape[:2], -1).abs().sum(-1).nonzero().tolist()
        if "adj" in x
        else []
    )
    n = nodes or 1 + max((max(edge) for edge in edges), default=0)
    angles = [math.pi / 2 - 2 * math.pi * i / n for i in range(n)]
    places = [(math.cos(a), math.sin(a)) for a in angles]
    features = x["x"].double().reshape(n, -1)[:, 0] if "x" in x else torch.arange(n).double()

    def paint(ax: Axes) -> None:
        from matplotlib.collections import LineCollection

        lines = [(places[i], places[j]) for i, j in edges if i != j]
        ax.add_collection(LineCollection(lines, colors=INK, alpha=0.45, linewidths=0.8))
        ax.scatter(
            [x for x, _ in places],
            [y for _, y in places],
            110,
            c=features.tolist(),
            edgecolors=INK,
            linewidths=0.8,
            zorder=3,
        )
        ax.set_xlim(-1.2, 1.2)
        ax.set_ylim(-1.2, 1.2)

    return Picture(title, paint)


def note_picture(lines: Sequence[str], title: str) -> Picture:
    """A few lines of text."""

    def paint(ax: Axes) -> None:
        ax.text(0.04, 0.96, "\n".join(lines), transform=ax.transAxes, va="top", wrap=True)
        for spine in ax.spines.values():
            spine.set_visible(False)

    return Picture(title, paint)


def answer_pictures(
    action: Action,
    y: Tree,
    upright: Tree,
    title: str,
    *,
    labels: bool,
    classes: Sequence[str],
    group: Group | None = None,
) -> list[Drawing]:
    """Pictures of an answer: class probabilities where it is scored by labels, else as data."""
    if labels and isinstance(y, Tensor) and y.is_floating_point() and y.ndim == 1:
        shares = y.double().softmax(0) if len(y) > 1 else torch.stack([torch.sigmoid(-y[0]), torch.sigmoid(y[0])])
        order = range(len(shares)) if len(shares) <= MOST_BARS else shares.topk(MOST_BARS).indices.tolist()
        names = [classes[i] if i < len(classes) else str(i) for i in order]
        return [Scores(names, [float(shares[i]) for i in order], title, percent=True)]
    return pictures(action, y, upright, title, group)


def largest_leaf(x: Tree) -> Tensor:
    """The tensor with the most entries."""
    return max(tree_leaves(x), key=lambda leaf: leaf.numel())
