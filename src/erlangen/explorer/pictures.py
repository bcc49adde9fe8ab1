"""Pictures of one sample or one answer, as SVG: images, fields, clouds, sensor series, graphs, class scores, numbers."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
    Rolled,
    Tree,
    TreeAction,
    Vectors,
    tree_leaves,
    tree_structure,
)
from erlangen.actions import Sequence as SequenceAction
from erlangen.errors import MissingExtraError
from erlangen.measure import svg

SIDE = 230.0
"""Side of a picture."""
TOP = 24.0
"""Height of its title."""
ARROWS = 16
"""Arrows of a field along one axis."""
MOST_BARS = 12
MOST_FRAMES = 6


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


def pictures(action: Action, x: Tree, upright: Tree, title: str) -> list[str]:
    """SVG pictures of data that an action moves.

    Args:
        action: the action; it tells points from images from graphs.
        x: the data of one sample, without a batch axis, as moved.
        upright: the same as it was, for the scale.
        title: heading; entries of a tree add their names.
    """
    if isinstance(action, Graph) and isinstance(x, dict):
        return [graph_picture(x, title)]
    if isinstance(action, TreeAction):
        keys = action.keys
        return [
            picture
            for key in keys
            for picture in pictures(action.tree[key], x[key], upright[key], f"{title}: {key}" if title else str(key))
        ]
    if isinstance(x, Tensor):
        return _tensor(action, x.detach().cpu(), upright.detach().cpu(), title)
    return [note_picture([tree_structure(x)], title)]


def _tensor(action: Action, x: Tensor, upright: Tensor, title: str) -> list[str]:
    reach = Reach.of(upright)
    if isinstance(action, SequenceAction):
        return _frames(action, x, upright, title)
    if isinstance(action, Factors):
        plain = next((a for a in action.actions if not isinstance(a, Rolled)), action.actions[0])
        return _tensor(plain, x, upright, title)
    if isinstance(action, Boxes):
        return [box_picture(x.double().reshape(-1, 4), upright.double().reshape(-1, 4), action.window, title)]
    if isinstance(action, Field) and x.ndim == 3:
        return [field_picture(x.double(), reach.size, title)]
    if isinstance(action, (Image, Rolled)) and x.ndim in (2, 3) and min(x.shape[-2:]) > 1:
        return [image_picture(x, reach, title)]
    if isinstance(action, (Points, Vectors, Pseudovectors)) and x.ndim <= 2 and x.shape[-1] in (2, 3):
        rows = x.double().reshape(-1, x.shape[-1])
        size = float(upright.double().reshape(-1, x.shape[-1]).norm(dim=-1).max()) or 1.0
        return [cloud_picture(rows, None if isinstance(action, Points) else torch.zeros_like(rows), size, title)]
    if isinstance(action, DirectSum) and x.ndim == 2:
        return [_series(x, reach, title)]
    if isinstance(action, SPD) or (x.ndim == 2 and x.numel() > MOST_BARS):
        return [image_picture(x, reach, title, colours=True)] if x.ndim == 2 else []
    if x.ndim == 1 and 1 < len(x) <= MOST_BARS:
        return [bar_picture([str(i) for i in range(len(x))], x.double().tolist(), title)]
    if x.ndim == 3 and min(x.shape[-2:]) > 3:
        return [image_picture(x, reach, title)]
    flat = x.double().flatten()
    shown = ", ".join(f"{value:.4g}" for value in flat[:4].tolist()) + (", ..." if len(flat) > 4 else "")
    return [note_picture([shown], title)]


def _frames(action: SequenceAction, x: Tensor, upright: Tensor, title: str) -> list[str]:
    """A few frames of a sequence, evenly spaced."""
    axis = x.ndim + action.time_axis
    steps = torch.linspace(0, x.shape[axis] - 1, min(MOST_FRAMES, x.shape[axis])).round().long().tolist()
    return [
        picture
        for t in steps
        for picture in _tensor(action.frame, x.select(axis, t), upright.select(axis, t), f"{title}, step {t}")
    ]


# --- the pictures ----------------------------------------------------------------------------------------------------
def image_picture(x: Tensor, reach: Reach, title: str, *, colours: bool = False) -> str:
    """An image ``[H, W]`` or ``[C, H, W]``: grey, colour (C = 3), or its first channel; or a matrix in colours."""
    x = x[None] if x.ndim == 2 else x
    x = x[:3] if x.shape[0] >= 3 else x[:1]
    levels = ((x.double() - reach.low) / ((reach.high - reach.low) or 1.0)).clamp(0, 1)
    if colours:
        table = torch.tensor([[int(svg.colour(i / 255)[k : k + 2], 16) for k in (1, 3, 5)] for i in range(256)])
        pixels = table[(levels[0] * 255).round().long()].byte()
    else:
        pixels = (levels * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0)
    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    data = base64.b64encode(_png(pixels)).decode()
    picture = (
        f'<image x="{(SIDE - factor * width) / 2:.1f}" y="{TOP + (SIDE - factor * height) / 2:.1f}" '
        f'width="{factor * width:.1f}" height="{factor * height:.1f}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/>'
    )
    return _framed(picture, title)


def _png(pixels: Tensor) -> bytes:
    """A PNG file of uint8 pixels ``[H, W, 3]``."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise MissingExtraError("pillow", "explore", "showing images") from error
    file = io.BytesIO()
    Pillow.fromarray(pixels.contiguous().numpy()).save(file, format="PNG")
    return file.getvalue()


def cloud_picture(x: Tensor, origin: Tensor | None, size: float, title: str) -> str:
    """Points ``[N, 2 or 3]`` as dots, or vectors as arrows from `origin` ``[N, 2 or 3]``; `size` fits into the frame.

    Space is seen a little from above and from the side, with z up and nearer points in front; a colour for each row
    shows where it went.
    """
    flat, depth = _projected(x)
    ends = (flat / size).clamp(-1.6, 1.6)
    starts = None if origin is None else _projected(origin)[0] / size
    body = [_cross(x.shape[-1])]
    half = SIDE / 2 - 18

    def at(place: Sequence[float]) -> tuple[float, float]:
        return SIDE / 2 + half * place[0], TOP + SIDE / 2 - half * place[1]

    for i in depth.argsort().tolist():
        px, py = at(ends[i].tolist())
        paint = svg.colour(i / max(len(x) - 1, 1))
        if starts is None:
            body.append(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.4" fill="{paint}" stroke="currentColor" stroke-width=".5"/>'
            )
        else:
            body.append(_arrow(at(starts[i].tolist()), (px, py), paint))
    return _framed("".join(body), title)


def _projected(x: Tensor) -> tuple[Tensor, Tensor]:
    """Places ``[N, 2]`` in the picture, and depth ``[N]``, larger in front."""
    if x.shape[-1] == 2:
        return x, torch.zeros(len(x))
    a, b = math.radians(-65), math.radians(-25)  # tip z up, then look from the side
    about_z = torch.tensor([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    seen = x @ (about_x @ about_z).to(x).T
    return seen[:, :2], seen[:, 2]


def _cross(n: int) -> str:
    """Axes through the middle."""
    names, ends = "xyz"[:n], _projected(torch.eye(n, dtype=torch.float64))[0]
    middle, half = (SIDE / 2, TOP + SIDE / 2), SIDE / 2 - 18
    body: list[str] = []
    for name, (dx, dy) in zip(names, ends.tolist(), strict=True):
        x, y = middle[0] + half * dx, middle[1] - half * dy
        body.append(
            f'<line x1="{middle[0]}" y1="{middle[1]}" x2="{x:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-opacity=".35"/>'
            + svg.text(x, y - 3, name, extra='opacity=".7"')
        )
    return "".join(body)


def _arrow(start: tuple[float, float], end: tuple[float, float], paint: str) -> str:
    dx, dy = end[0] - start[0], end[1] - start[1]
    long = math.hypot(dx, dy)
    head = ""
    if long > 3:
        ux, uy, tip = dx / long, dy / long, min(7.0, 0.4 * long)
        left = (end[0] - tip * (ux + 0.5 * uy), end[1] - tip * (uy - 0.5 * ux))
        right = (end[0] - tip * (ux - 0.5 * uy), end[1] - tip * (uy + 0.5 * ux))
        head = (
            f'<path d="M{left[0]:.1f} {left[1]:.1f}L{end[0]:.1f} {end[1]:.1f}L{right[0]:.1f} {right[1]:.1f}" fill="none" '
            f'stroke="{paint}" stroke-width="1.4"/>'
        )
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{paint}" '
        f'stroke-width="1.4"/>{head}'
    )


def field_picture(x: Tensor, size: float, title: str) -> str:
    """A vector field ``[2, H, W]``, components to the right and up, as arrows on every few pixels."""
    height, width = x.shape[-2:]
    step = max(1, math.ceil(max(height, width) / ARROWS))
    cell = SIDE / max(height, width)
    body: list[str] = []
    for i in range(step // 2, height, step):
        for j in range(step // 2, width, step):
            dx, dy = (0.9 * step * cell * x[:, i, j] / size).tolist()
            cx, cy = (j + 0.5) * cell, TOP + (i + 0.5) * cell
            body.append(_arrow((cx - dx / 2, cy + dy / 2), (cx + dx / 2, cy - dy / 2), svg.LINE_COLOURS[0]))
    return _framed("".join(body), title)


def box_picture(x: Tensor, upright: Tensor, window: tuple[int, int] | None, title: str) -> str:
    """Boxes ``[N, 4]``, middle and size, y up, in the frame of the image; without one in twice the reach of the boxes."""
    if window is None:
        reach = 2 * float((upright[:, :2].abs() + upright[:, 2:].abs() / 2).max()) or 1.0
        wide, tall = 2 * reach, 2 * reach
    else:
        tall, wide = window
    factor = SIDE / max(wide, tall)
    left, top = (SIDE - factor * wide) / 2, TOP + (SIDE - factor * tall) / 2
    frame = f'<rect x="{left:.1f}" y="{top:.1f}" width="{factor * wide:.1f}" height="{factor * tall:.1f}" fill="none" '
    body = [frame + 'stroke="currentColor" stroke-opacity=".4"/>']
    for i, (cx, cy, w, h) in enumerate(x.tolist()):
        x0, y0 = left + factor * (wide / 2 + cx - w / 2), top + factor * (tall / 2 - cy - h / 2)
        body.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{factor * max(w, 0):.1f}" height="{factor * max(h, 0):.1f}" fill="none" '
            f'stroke="{svg.LINE_COLOURS[i % len(svg.LINE_COLOURS)]}" stroke-width="2.5"><title>middle ({cx:.3g}, {cy:.3g}), '
            f"size {w:.3g} x {h:.3g}</title></rect>"
        )
    return _framed("".join(body), title, frame=False)


def _series(x: Tensor, reach: Reach, title: str) -> str:
    """Channels ``[T, C]`` over time."""
    size = reach.size * 1.2
    body: list[str] = []
    for c in range(x.shape[1]):
        places = [
            f"{SIDE * t / max(len(x) - 1, 1):.1f},{TOP + SIDE / 2 * (1 - max(-1.0, min(1.0, value / size))):.1f}"
            for t, value in enumerate(x[:, c].double().tolist())
        ]
        paint = svg.LINE_COLOURS[c % len(svg.LINE_COLOURS)]
        body.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{paint}" stroke-width="1.5"/>')
    return _framed("".join(body), title)


def graph_picture(x: dict[str, Tensor], title: str) -> str:
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
    half = SIDE / 2 - 22
    places = [(SIDE / 2 + half * math.cos(a), TOP + SIDE / 2 - half * math.sin(a)) for a in angles]
    body = [
        f'<line x1="{places[i][0]:.1f}" y1="{places[i][1]:.1f}" x2="{places[j][0]:.1f}" y2="{places[j][1]:.1f}" '
        'stroke="currentColor" stroke-opacity=".45"/>'
        for i, j in edges
        if i != j
    ]
    features = x["x"].double().reshape(n, -1)[:, 0] if "x" in x else torch.arange(n).double()
    scale = svg.Scale(float(features.min()), float(features.max()))
    for i, (px, py) in enumerate(places):
        paint = svg.colour(scale.fraction(float(features[i])))
        body.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="7" fill="{paint}" stroke="currentColor"><title>node {i}</title></circle>'
        )
    return _framed("".join(body), title)


def bar_picture(names: Sequence[str], values: Sequence[float], title: str, *, percent: bool = False) -> str:
    """One bar per name, from zero; shares of one where `percent`."""
    row = min(26.0, SIDE / len(names))
    left, width = 14 + 6.6 * max(map(len, names)), SIDE - 58 - 6.6 * max(map(len, names))
    largest = 1.0 if percent else max(map(abs, values)) or 1.0
    best = max(range(len(values)), key=values.__getitem__)
    body: list[str] = []
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y = TOP + i * row
        paint = svg.LINE_COLOURS[0 if i == best or not percent else 5]
        shown = f"{100 * value:.0f} %" if percent else f"{value:.3g}"
        body.append(
            svg.text(left - 6, y + row / 2 + 4, name, anchor="end")
            + f'<rect x="{left:.1f}" y="{y + 3:.1f}" width="{width * abs(value) / largest:.1f}" height="{row - 6:.1f}" '
            f'fill="{paint}"/>'
            + svg.text(left + width * abs(value) / largest + 4, y + row / 2 + 4, shown, anchor="start")
        )
    return _framed("".join(body), title, frame=False)


def note_picture(lines: Sequence[str], title: str) -> str:
    """A few lines of text."""
    body = "".join(svg.text(8, TOP + 22 + 20 * i, line, anchor="start") for i, line in enumerate(lines))
    return _framed(body, title, frame=False, tall=30 + 20 * len(lines))


def _framed(body: str, title: str, *, frame: bool = True, tall: float = SIDE) -> str:
    edge = (
        f'<rect x=".5" y="{TOP}" width="{SIDE - 1}" height="{tall - 1}" fill="none" stroke="currentColor" stroke-opacity=".3"/>'
        if frame
        else ""
    )
    heading = svg.text(SIDE / 2, 15, title, extra='class="heading"')
    return svg.svg(SIDE, TOP + tall, heading + edge + body, title)


def answer_pictures(
    action: Action, y: Tree, upright: Tree, title: str, *, labels: bool, classes: Sequence[str]
) -> list[str]:
    """Pictures of an answer: class probabilities where it is scored by labels, else as data."""
    if labels and isinstance(y, Tensor) and y.is_floating_point() and y.ndim == 1:
        shares = y.double().softmax(0) if len(y) > 1 else torch.stack([torch.sigmoid(-y[0]), torch.sigmoid(y[0])])
        order = range(len(shares)) if len(shares) <= MOST_BARS else shares.topk(MOST_BARS).indices.tolist()
        names = [classes[i] if i < len(classes) else str(i) for i in order]
        return [bar_picture(names, [float(shares[i]) for i in order], title, percent=True)]
    return pictures(action, y, upright, title)


def sheet(rows: Sequence[Sequence[str]], lines: Sequence[str]) -> str:
    """Pictures in rows below lines of text, as one SVG on a white ground that stands alone."""
    text = [
        svg.text(16, 28 + 20 * i, line, anchor="start", extra='class="heading"' if i == 0 else "")
        for i, line in enumerate(lines)
    ]
    body, wide, tall = svg.placed(rows, 16, 26.0 + 20 * len(lines))
    wide = max(wide, 400.0)
    style = "<style>text{fill:#24292f;font:12px system-ui,sans-serif}.heading{font-size:13px;font-weight:600}</style>"
    ground = f'<rect width="{wide:g}" height="{tall:g}" fill="#fff"/>'
    picture = svg.svg(wide, tall, style + ground + "".join(text) + body, lines[0] if lines else "")
    return picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" color="#24292f" ', 1)


def largest_leaf(x: Tree) -> Tensor:
    """The tensor with the most entries."""
    return max(tree_leaves(x), key=lambda leaf: leaf.numel())
