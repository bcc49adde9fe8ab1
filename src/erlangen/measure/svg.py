"""Plots as SVG text: lines, polar lines, spheres, heat maps, bars, scatter. One look, colour-blind safe, no scripts.

Text and axes take the colour of the page (``currentColor``), so plots fit light and dark pages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676")
"""Okabe and Ito's palette and a grey, distinguishable with every common colour blindness."""

_VIRIDIS = (
    (68, 1, 84),
    (72, 40, 120),
    (62, 74, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (110, 206, 88),
    (181, 222, 43),
    (253, 231, 37),
)


@dataclass(frozen=True)
class Scale:
    """A range of values and how they are written; `log` counts in powers of ten, between positive ends."""

    low: float
    high: float
    percent: bool = False
    log: bool = False

    def fraction(self, value: float) -> float:
        """Position of a value, 0 at the low end and 1 at the high end."""
        low, high = self._position(self.low), self._position(self.high)
        return min(1.0, max(0.0, (self._position(max(value, self.low)) - low) / ((high - low) or 1.0)))

    def _position(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def text(self, value: float) -> str:
        """The value as a label."""
        return f"{100 * value:.0f} %" if self.percent else f"{value:.3g}"

    def ticks(self, n: int = 5) -> list[float]:
        """About n round numbers within the scale, evenly spaced; on a logarithmic one, powers of ten."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**p for p in powers][:: max(1, math.ceil(len(powers) / n))]
        least = (self.high - self.low) / n or 1.0
        power = 10.0 ** math.floor(math.log10(least))
        step = power * next(round_ for round_ in (1, 2, 2.5, 5, 10) if round_ * power >= least * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]


def scale_of(values: Sequence[float], *, percent: bool = False) -> Scale:
    """A scale from 0 to 1 for shares, else from 0 (or the least value) to the largest."""
    if percent:
        return Scale(0.0, 1.0, percent=True)
    low, high = min(0.0, *values), max(values)
    return Scale(low, high if high > low else low + 1.0)


def log_scale_of(values: Sequence[float]) -> Scale:
    """A logarithmic scale between whole powers of ten around the positive ones of the values."""
    powers = [math.log10(value) for value in values if value > 0]
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    return Scale(10.0**low, 10.0 ** max(high, low + 1), log=True)


def colour(fraction: float) -> str:
    """Viridis, from dark (0) to bright (1)."""
    position = min(1.0, max(0.0, fraction)) * (len(_VIRIDIS) - 1)
    i = min(int(position), len(_VIRIDIS) - 2)
    mixed = (round(a + (b - a) * (position - i)) for a, b in zip(_VIRIDIS[i], _VIRIDIS[i + 1], strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def svg(width: float, height: float, body: str, label: str) -> str:
    """An SVG element with a text alternative."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{html.escape(label, quote=True)}">{body}</svg>'
    )


def grid(rows: Sequence[Sequence[str]], label: str) -> str:
    """Several plots in rows, as one SVG element."""
    body, width, height = placed(rows, 0.0, 0.0)
    return svg(width, height, body, label)


def placed(rows: Sequence[Sequence[str]], left: float, top: float) -> tuple[str, float, float]:
    """SVG elements in rows from a place on: the markup, and the width and height that it reaches."""
    body: list[str] = []
    wide = left
    for row in rows:
        x, tall = left, 0.0
        for plot in row:
            width, height = _size(plot)
            body.append(plot.replace("<svg ", f'<svg x="{x:g}" y="{top:g}" ', 1))
            x, tall = x + width + 18, max(tall, height)
        wide, top = max(wide, x), top + tall + 18
    return "".join(body), wide, top


def _size(plot: str) -> tuple[float, float]:
    """Width and height that an SVG element of this module states."""
    opening = plot.split(">", 1)[0]
    width, height = (float(opening.split(f' {name}="', 1)[1].split('"', 1)[0]) for name in ("width", "height"))
    return width, height


def text(x: float, y: float, content: str, *, anchor: str = "middle", extra: str = "") -> str:
    """A label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{html.escape(content)}</text>'


def _axis(x1: float, y1: float, x2: float, y2: float, faint: bool = False) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-opacity="{0.15 if faint else 0.7}"/>'
    )


def _legend(names: Sequence[str], x: float, y: float) -> str:
    """Colours of several curves; a single one is named by the heading."""
    if len(names) < 2:
        return ""
    rows = []
    for i, name in enumerate(names):
        line = y + 17 * i
        rows.append(
            f'<rect x="{x:g}" y="{line - 9:g}" width="14" height="4" fill="{LINE_COLOURS[i % len(LINE_COLOURS)]}"/>'
            + text(x + 20, line - 3, name, anchor="start")
        )
    return "".join(rows)


Series = Sequence[tuple[str, Sequence[tuple[float, float]]]]
"""Named polylines."""


def line_plot(
    series: Series,
    x: Scale,
    y: Scale,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float],
    *,
    identity: bool = False,
    here: float | None = None,
) -> str:
    """Curves over a common axis; dots mark the points, a ring the identity at x = 0 if the axis has one.

    A dashed line marks the place `here`.
    """
    # Room for the label beside the longest tick.
    left, top, width, height = max(58.0, 34 + 6.6 * max(len(y.text(tick)) for tick in y.ticks())), 12.0, 430.0, 230.0

    def at(px: float, py: float) -> tuple[float, float]:
        return left + width * x.fraction(px), top + height * (1 - y.fraction(py))

    body = [_axis(left, top, left, top + height), _axis(left, top + height, left + width, top + height)]
    for tick in y.ticks():
        _, py = at(x.low, tick)
        body += [_axis(left, py, left + width, py, faint=True), text(left - 6, py + 4, y.text(tick), anchor="end")]
    for tick in x_ticks:
        px, _ = at(tick, y.low)
        body += [_axis(px, top + height, px, top + height + 4), text(px, top + height + 18, f"{tick:g}")]
    for i, (name, points) in enumerate(series):
        paint = LINE_COLOURS[i % len(LINE_COLOURS)]
        places = [at(*point) for point in points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{paint}" stroke-width="2.2"/>')
        body += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" fill="{paint}"><title>'
            f"{html.escape(name)}: {y.text(value)} at {position:.3g}</title></circle>"
            for (px, py), (position, value) in zip(places, points, strict=True)
        ]
    if identity:
        body += [_identity_mark(*at(0, value)) for _, points in series for place, value in points if place == 0]
    body += [_here_line(at(here, y.low), at(here, y.high))] if here is not None else []
    body += [text(left + width / 2, top + height + 38, x_label)]
    body += [text(14, top + height / 2, y_label, extra=f'transform="rotate(-90 14 {top + height / 2:g})"')]
    body.append(_legend([name for name, _ in series], left + 12, top + height + 62))
    right = max([14.0, *(3.6 * len(f"{tick:g}") for tick in x_ticks)])  # half of a label under the end of the axis
    return svg(left + width + right, top + height + 58 + 17 * len(series), "".join(body), f"{y_label} over {x_label}")


def polar_plot(series: Series, y: Scale, y_label: str, *, here: float | None = None) -> str:
    """Closed curves over the circle: (angle in radians, value); the identity is the mark at angle 0.

    A dashed line marks the angle `here`.
    """
    size, radius = 330.0, 118.0
    cx, cy = size / 2, radius + 30

    def at(angle: float, value: float) -> tuple[float, float]:
        r = radius * y.fraction(value)
        return cx + r * math.cos(angle), cy - r * math.sin(angle)

    body = []
    for tick in y.ticks()[1:]:
        r = radius * y.fraction(tick)
        body.append(f'<circle cx="{cx}" cy="{cy}" r="{r:.1f}" fill="none" stroke="currentColor" stroke-opacity=".18"/>')
        lx, ly = at(math.radians(292.5), tick)
        body.append(text(lx, ly + 4, y.text(tick), extra='opacity=".6"'))
    for degrees in range(0, 360, 45):
        px, py = at(math.radians(degrees), y.high)
        body.append(_axis(cx, cy, px, py, faint=True))
        lx, ly = cx + (px - cx) * 1.14, cy + (py - cy) * 1.11
        body.append(text(lx, ly + 4, f"{degrees}°"))
    for i, (name, points) in enumerate(series):
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(*point) for point in points))
        paint = LINE_COLOURS[i % len(LINE_COLOURS)]
        body.append(
            f'<polygon points="{path}" fill="{paint}" fill-opacity=".08" stroke="{paint}" stroke-width="2.2">'
            f"<title>{html.escape(name)}</title></polygon>"
        )
    body.append(_identity_mark(cx + radius, cy))
    body += [_here_line((cx, cy), at(here, y.high))] if here is not None else []
    bottom = cy + radius + 34
    body += [text(cx, bottom, f"{y_label} by rotation angle; ring: identity")]
    body.append(_legend([name for name, _ in series], 20, bottom + 24))
    return svg(size, bottom + 20 + 17 * len(series), "".join(body), f"{y_label} over the rotation angle")


def _identity_mark(x: float, y: float) -> str:
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="#D55E00" stroke-width="2.2">'
    return f"{ring}<title>identity</title></circle>"


def _here_line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="currentColor" '
        'stroke-width="1.6" stroke-dasharray="5 3"><title>here</title></line>'
    )


def sphere_plot(
    cells: Sequence[tuple[bool, float, float, float, float, float]],
    scale: Scale,
    title: str,
    label: str,
    *,
    here: tuple[bool, float, float] | None = None,
) -> str:
    """Two equal-area hemispheres (Lambert azimuthal) in cells.

    Args:
        cells: (upper hemisphere?, inner and outer radius in 0..1, first and last azimuth in radians, value).
        scale: of the values.
        title: heading.
        label: what the values are.
        here: (upper hemisphere?, radius in 0..1, azimuth) of a place to mark by a square.
    """
    radius, gap, top = 56.0, 14.0, 30.0
    centres = (radius + 8, 3 * radius + 8 + gap)
    body = [text((centres[0] + centres[1]) / 2, 14, title, extra='class="heading"')]
    for upper, inner, outer, start, stop, value in cells:
        cx, cy = centres[0 if upper else 1], top + radius
        body.append(
            _sector(
                cx, cy, inner * radius, outer * radius, start, stop, colour(scale.fraction(value)), scale.text(value)
            )
        )
    for cx, name in zip(centres, ("z kept upwards", "z turned over"), strict=True):
        body.append(
            f'<circle cx="{cx}" cy="{top + radius}" r="{radius}" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
        )
        body.append(text(cx, top + 2 * radius + 16, name))
    body.append(_identity_mark(centres[0], top + radius))
    if here is not None:
        upper, rho, azimuth = here
        x = centres[0 if upper else 1] + rho * radius * math.cos(azimuth)
        body.append(_here_square(x - 4, top + radius - rho * radius * math.sin(azimuth) - 4, 8))
    width, bottom = centres[1] + radius + 8, top + 2 * radius + 30
    body.append(_colour_bar(scale, 20, bottom, width - 40, label))
    return svg(width, bottom + 46, "".join(body), f"{title}: {label} over the sphere")


def _sector(cx: float, cy: float, inner: float, outer: float, start: float, stop: float, paint: str, note: str) -> str:
    def at(r: float, angle: float) -> str:
        return f"{cx + r * math.cos(angle):.1f} {cy - r * math.sin(angle):.1f}"

    if stop - start > 2 * math.pi - 1e-6:
        shape = f'<circle cx="{cx}" cy="{cy}" r="{outer:.1f}" fill="{paint}" stroke="{paint}">'
        return f"{shape}<title>{note}</title></circle>"
    path = (
        f"M{at(inner, start)}L{at(outer, start)}A{outer:.1f} {outer:.1f} 0 0 0 {at(outer, stop)}"
        f"L{at(inner, stop)}A{inner:.1f} {inner:.1f} 0 0 1 {at(inner, start)}Z"
    )
    return f'<path d="{path}" fill="{paint}" stroke="{paint}" stroke-width=".7"><title>{note}</title></path>'


def _colour_bar(scale: Scale, x: float, y: float, width: float, label: str) -> str:
    steps = 32
    body = [
        f'<rect x="{x + width * i / steps:.1f}" y="{y:.1f}" width="{width / steps + 0.6:.1f}" height="9" '
        f'fill="{colour((i + 0.5) / steps)}"/>'
        for i in range(steps)
    ]
    body += [
        text(x, y + 23, scale.text(scale.low), anchor="start"),
        text(x + width / 2, y + (38 if 6.5 * len(label) > width - 90 else 23), label),  # clear of the end labels
        text(x + width, y + 23, scale.text(scale.high), anchor="end"),
    ]
    return "".join(body)


def _here_square(x: float, y: float, side: float) -> str:
    """White within black, to be seen on every colour."""
    box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none"'
    return f'{box} stroke="#000" stroke-width="3.4"/>{box} stroke="#fff" stroke-width="1.6"><title>here</title></rect>'


def heat_map(
    values: Sequence[Sequence[float]],
    scale: Scale,
    x_label: str,
    y_label: str,
    title: str,
    label: str,
    *,
    here: tuple[int, int] | None = None,
) -> str:
    """A matrix of values; row 0 at the top, entry (0, 0) is the identity and is marked, and so is the entry `here`."""
    rows, columns = len(values), len(values[0])
    cell = max(4.0, min(26.0, 300.0 / max(rows, columns)))
    left, top = 34.0, 30.0
    body = [text(left + columns * cell / 2, 14, title, extra='class="heading"')]
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            body.append(
                f'<rect x="{left + j * cell:.1f}" y="{top + i * cell:.1f}" width="{cell + 0.4:.1f}" height="{cell + 0.4:.1f}" '
                f'fill="{colour(scale.fraction(value))}"><title>({i}, {j}): {scale.text(value)}</title></rect>'
            )
    body.append(
        f'<rect x="{left}" y="{top}" width="{cell:.1f}" height="{cell:.1f}" fill="none" stroke="#D55E00" stroke-width="2"/>'
    )
    body += [_here_square(left + here[1] * cell, top + here[0] * cell, cell)] if here is not None else []
    bottom = top + rows * cell
    middle = top + rows * cell / 2
    body += [
        text(left + columns * cell / 2, bottom + 18, x_label),
        text(14, middle, y_label, extra=f'transform="rotate(-90 14 {middle:g})"'),
        _colour_bar(scale, left, bottom + 30, max(columns * cell, 150), label),
    ]
    return svg(left + max(columns * cell, 150) + 12, bottom + 74, "".join(body), f"{title}: {label} over shifts")


def bar_plot(
    series: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    y: Scale,
    y_label: str,
    *,
    here: int | None = None,
) -> str:
    """Bars per element; the first one is the identity and is named so by the caller; a dashed line marks element `here`."""
    left, top, height = 58.0, 12.0, 200.0
    group = max(9.0 * len(series) + 5, min(60.0, 640.0 / len(names)))
    width = group * len(names)
    body = [_axis(left, top, left, top + height), _axis(left, top + height, left + width, top + height)]
    for tick in y.ticks():
        py = top + height * (1 - y.fraction(tick))
        body += [_axis(left, py, left + width, py, faint=True), text(left - 6, py + 4, y.text(tick), anchor="end")]
    bar = (group - 5) / len(series)
    for i, (name, values) in enumerate(series):
        for j, value in enumerate(values):
            tall = height * y.fraction(value)
            body.append(
                f'<rect x="{left + j * group + 2.5 + i * bar:.1f}" y="{top + height - tall:.1f}" width="{bar:.1f}" '
                f'height="{tall:.1f}" fill="{LINE_COLOURS[i % len(LINE_COLOURS)]}"><title>{html.escape(name)}, '
                f"{html.escape(names[j])}: {y.text(value)}</title></rect>"
            )
    if here is not None:
        px = left + (here + 0.5) * group
        body.append(_here_line((px, top + height), (px, top)))
    every = max(1, math.ceil(len(names) / 24))
    for j in range(0, len(names), every):
        body.append(text(left + (j + 0.5) * group, top + height + 17, names[j]))
    body.append(text(14, top + height / 2, y_label, extra=f'transform="rotate(-90 14 {top + height / 2:g})"'))
    body.append(_legend([name for name, _ in series], left + 6, top + height + 44))
    return svg(left + width + 12, top + height + 40 + 17 * len(series), "".join(body), f"{y_label} per element")


def row_plot(series: Sequence[tuple[str, Sequence[float | None]]], names: Sequence[str], x: Scale, x_label: str) -> str:
    """Bars from the left, one row per name and one bar per series in it; None leaves a bar out."""
    left, top, width, bar = 16.0 + 7.2 * max(map(len, names)), 12.0, 360.0, 15.0
    row = bar * len(series) + 9
    bottom = top + row * len(names)
    body = [_axis(left, top, left, bottom), _axis(left, bottom, left + width, bottom)]
    for tick in x.ticks():
        px = left + width * x.fraction(tick)
        body += [_axis(px, top, px, bottom, faint=True), text(px, bottom + 17, x.text(tick))]
    for j, name in enumerate(names):
        body.append(text(left - 8, top + (j + 0.5) * row + 4, name, anchor="end"))
        for i, (label, values) in enumerate(series):
            value, y = values[j], top + j * row + 4.5 + i * bar
            if value is None:
                continue
            long = width * x.fraction(value)
            body.append(
                f'<rect x="{left:.1f}" y="{y:.1f}" width="{long:.1f}" height="{bar - 2:.1f}" '
                f'fill="{LINE_COLOURS[i % len(LINE_COLOURS)]}"><title>{html.escape(name)}, {html.escape(label)}: '
                f"{x.text(value)}</title></rect>" + text(left + long + 5, y + bar - 4, x.text(value), anchor="start")
            )
    body += [
        text(left + width / 2, bottom + 37, x_label),
        _legend([label for label, _ in series], left, bottom + 62),
    ]
    tall = bottom + 46 + (18 * len(series) if len(series) > 1 else 0)
    return svg(left + width + 60, tall, "".join(body), f"{x_label} by {', '.join(names)}")


def table_plot(
    values: Sequence[Sequence[float | None]], rows: Sequence[str], columns: Sequence[str], scale: Scale, label: str
) -> str:
    """Numbers in shaded cells, one row and one column per name; None leaves a cell empty. For more kinds than colours."""
    left, top, wide, tall = 16.0 + 7.2 * max(map(len, rows)), 20.0, 96.0, 27.0
    height = top + tall * len(rows)
    body: list[str] = []
    for i, (name, line) in enumerate(zip(rows, values, strict=True)):
        y = top + i * tall
        body.append(text(left - 8, y + tall / 2 + 4, name, anchor="end"))
        for j, (column, value) in enumerate(zip(columns, line, strict=True)):
            if value is None:
                continue
            x, share = left + j * wide, scale.fraction(value)
            note = f"<title>{html.escape(name)}, {html.escape(column)}: {scale.text(value)}</title>"
            # Bright cells have dark numbers.
            ink = 'style="fill:#000"' if share > 0.55 else 'style="fill:#fff"'
            body.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide - 2:.1f}" height="{tall - 2:.1f}" fill="{colour(share)}">{note}'
                "</rect>" + text(x + wide / 2, y + tall / 2 + 4, scale.text(value), extra=ink)
            )
    for j, column in enumerate(columns):
        first, _, rest = column.partition(", ")
        middle = left + (j + 0.5) * wide - 1
        body += [text(middle, height + 15, first), text(middle, height + 31, rest)]
    body.append(text(left + wide * len(columns) / 2, height + 54, label))
    return svg(left + wide * len(columns) + 12, height + 66, "".join(body), f"{label} by {', '.join(rows)}")


def scatter_plot(
    points: Sequence[tuple[float, float, float, str]],
    scale: Scale,
    label: str,
    title: str,
    *,
    keys: Sequence[int] | None = None,
    here: int | None = None,
    caption: str = "first two principal components",
    identity: bool = False,
    marked: tuple[float, float] | None = None,
) -> str:
    """Dots in the plane: (x, y, value for the colour, note).

    `keys` go into the attribute ``data-key`` of the dots, for pages that react to clicks; the dot of key `here` is marked,
    and so are the place `marked` and, with `identity`, the origin.
    """
    size, top = 240.0, 28.0
    places = [(p[0], p[1]) for p in points] + [(0.0, 0.0)] * identity + ([marked] if marked else [])
    xs, ys = [p[0] for p in places], [p[1] for p in places]
    half = max(max(xs) - min(xs), max(ys) - min(ys), 1e-6) / 2  # one unit on both axes: noise stays small
    x, y = (Scale((min(v) + max(v)) / 2 - half, (min(v) + max(v)) / 2 + half) for v in (xs, ys))
    marks: list[str] = []
    body = [
        text(size / 2, 14, title, extra='class="heading"'),
        f'<rect x="4" y="{top}" width="{size - 8}" height="{size - 8}" fill="none" stroke="currentColor" stroke-opacity=".3"/>',
    ]

    def at(px: float, py: float) -> tuple[float, float]:
        return 14 + (size - 28) * x.fraction(px), top + 10 + (size - 28) * (1 - y.fraction(py))

    for i, (px, py, value, note) in enumerate(points):
        cx, cy = at(px, py)
        key = "" if keys is None else f' data-key="{keys[i]}"'
        body.append(
            f'<circle{key} cx="{cx:.1f}" cy="{cy:.1f}" r="4.5" fill="{colour(scale.fraction(value))}" stroke="currentColor" '
            f'stroke-opacity=".45" stroke-width=".8"><title>{html.escape(note)}</title></circle>'
        )
        if keys is not None and keys[i] == here:
            marks.append(_here_square(cx - 7, cy - 7, 14))
    if identity:
        marks.append(_identity_mark(*at(0, 0)))
    if marked is not None:
        cx, cy = at(*marked)
        marks.append(_here_square(cx - 7, cy - 7, 14))
    body += marks
    bottom = top + size
    body += [
        text(size / 2, bottom + 10, caption),
        _colour_bar(scale, 10, bottom + 22, size - 20, label),
    ]
    return svg(size, bottom + 66, "".join(body), f"{title}: {label}, {caption}")
