"""Drawings as options of ECharts, the charts that NiceGUI brings: drawn in the browser, at the speed of a drag.

Text and axes take the colour of the page (``currentColor``), so that charts fit light and dark pages.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from erlangen.measure.drawings import Bars, Circle, Curves, Dots, Drawing, ShiftMap, Values
from erlangen.measure.pictures import LARGEST_DOT, Cloud, Scores
from erlangen.plots import COLOURS
from erlangen.plots.look import ACCENT, COLOUR_MAP

Options = dict[str, Any]

INK = "currentColor"
TEXT = {"color": INK, "fontFamily": "system-ui, sans-serif", "fontSize": 12}
FAINT = {"lineStyle": {"color": INK, "opacity": 0.18}}
DASHED = {"color": INK, "type": "dashed", "width": 1.5}
SYMBOLS = ("circle", "rect", "triangle", "diamond", "pin", "roundRect", "arrow")
PERCENT = "v => Math.round(100 * v) + ' %'"
SHORT = "v => String(+v.toPrecision(3))"
"""JavaScript that writes numbers: NiceGUI runs what stands under a key that begins with a colon."""


def chart_of(drawing: Drawing) -> Options | None:
    """Options of ECharts for a drawing; None for what it has no chart for (images, boxes, graphs, spheres)."""
    match drawing:
        case Curves():
            return _curves(drawing)
        case Circle():
            return _circle(drawing)
        case Bars():
            return _bars(drawing)
        case ShiftMap():
            return _shift_map(drawing)
        case Dots():
            return _dots(drawing)
        case Scores():
            return _scores(drawing)
        case Cloud():
            return _cloud(drawing)
        case _:
            return None


def size_of(drawing: Drawing) -> tuple[int, int]:
    """Width and height of a chart in pixels."""
    match drawing:
        case Circle():
            return 330, 370
        case Dots():
            return 250, 345
        case ShiftMap():
            return 330, 360
        case Scores():
            return 250, 40 + round(max(60, min(26 * len(drawing.names), 230)))
        case Cloud():
            return 240, 262
        case Bars():
            return max(260, min(760, 90 + 42 * len(drawing.names))), 280
        case _:
            return 480, 310


def _curves(drawing: Curves) -> Options:
    low, high = drawing.reach
    series = [_line(i, name, [list(p) for p in points]) for i, (name, points) in enumerate(drawing.series.items())]
    series[0]["markLine"] = _here("xAxis", drawing.here)
    at_0 = [[x, y] for points in drawing.series.values() for x, y in points if x == 0] if drawing.identity else []
    x = _axis(drawing.xlabel, 28, min=low, max=high, splitLine={"show": False})
    if drawing.xticks is not None and len(drawing.xticks) > 1:
        x["interval"] = drawing.xticks[1] - drawing.xticks[0]
    return _whole(drawing.series) | {
        "grid": _grid(drawing.series),
        "xAxis": x,
        "yAxis": _value_axis(drawing.values),
        "series": [*series, _rings(at_0)],
    }


def _circle(drawing: Circle) -> Options:
    """Points are (radius, angle in degrees)."""
    high = drawing.values.high
    series: list[Options] = []
    for i, (name, points) in enumerate(drawing.series.items()):
        places = [[y, math.degrees(x)] for x, y in [*points, *points[:1]]]
        series.append(_line(i, name, places) | {"coordinateSystem": "polar", "showSymbol": False})
    place = [] if drawing.here is None else [[0, math.degrees(drawing.here)], [high, math.degrees(drawing.here)]]
    here = {"type": "line", "coordinateSystem": "polar", "data": place, "showSymbol": False, "lineStyle": DASHED}
    ring = _rings([[high, 0]]) | {"coordinateSystem": "polar"}
    radius = _value_axis(drawing.values) | {"name": "", "splitNumber": 4}
    label = TEXT | {":formatter": PERCENT if drawing.values.percent else SHORT, "showMinLabel": False, "fontSize": 10}
    caption = {"text": f"{drawing.values.label} by rotation angle; ring: identity", "left": "center", "bottom": 0}
    return _whole(drawing.series) | {
        "title": caption | {"textStyle": TEXT | {"fontWeight": "normal"}},
        "polar": {"radius": 118, "center": ["50%", "52%"]},
        "angleAxis": {
            "type": "value", "min": 0, "max": 360, "interval": 45, "startAngle": 0, "clockwise": False,
            "axisLabel": TEXT | {":formatter": "v => v + '°'"}, "splitLine": FAINT, "axisLine": FAINT,
        },
        "radiusAxis": radius | {"axisLabel": label, "axisLine": {"show": False}, "axisTick": {"show": False}},
        "series": [*series, here, ring],
    }  # fmt: skip


def _bars(drawing: Bars) -> Options:
    series: list[Options] = [
        {"type": "bar", "name": name, "data": list(values), "barGap": "0%", "barCategoryGap": "20%"}
        for name, values in drawing.series.items()
    ]
    series[0]["markLine"] = _here("xAxis", drawing.here)
    axis: Options = {
        "type": "category",
        "data": list(drawing.names),
        "axisLabel": TEXT | ({"interval": 0} if len(drawing.names) <= 12 else {}),
        "axisLine": {"lineStyle": {"color": INK}},
    }
    return _whole(drawing.series) | {
        "grid": _grid(drawing.series),
        "xAxis": axis,
        "yAxis": _value_axis(drawing.values) | {"name": f"{drawing.values.label} per element"},
        "series": series,
    }


def _shift_map(drawing: ShiftMap) -> Options:
    rows, columns = len(drawing.table), len(drawing.table[0])
    cells = [[j, i, value] for i, row in enumerate(drawing.table) for j, value in enumerate(row)]

    def axis(n: int, name: str, gap: int, *, inverse: bool) -> Options:
        return {
            "type": "category", "data": [str(i) for i in range(n)], "inverse": inverse, "name": name, "nameGap": gap,
            "nameLocation": "middle", "nameTextStyle": TEXT, "axisLabel": TEXT, "axisTick": {"show": False},
            "axisLine": {"show": False},
        }  # fmt: skip

    side = 230 / max(rows, columns)
    here = [] if drawing.here is None else [[drawing.here[1], drawing.here[0]]]
    return _whole({}) | {
        "title": _titles(drawing.title, drawing.values),
        "grid": {"left": 50, "top": 30, "width": side * columns, "height": side * rows},
        "xAxis": axis(columns, drawing.xlabel, 26, inverse=False),
        "yAxis": axis(rows, drawing.ylabel, 30, inverse=True),
        "visualMap": _shades(drawing.values),
        "series": [
            {"type": "heatmap", "data": cells, "emphasis": {"disabled": True}},
            *_squares(here, side),
            _rings([[0, 0]]) | {"symbol": "rect", "symbolSize": side},
        ],
    }


def _dots(drawing: Dots) -> Options:
    places = [*drawing.points, *[(0.0, 0.0)] * drawing.identity, *drawing.marks()]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    half = 0.55 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-6)  # one unit on both axes: noise stays small
    dots = [
        {"value": [x, y, v], "name": note}
        for (x, y), v, note in zip(drawing.points, drawing.numbers, drawing.notes, strict=True)
    ]

    def axis(values: list[float], name: str) -> Options:
        middle = (min(values) + max(values)) / 2
        return {
            "type": "value", "min": middle - half, "max": middle + half, "name": name, "nameLocation": "middle",
            "nameGap": 8, "nameTextStyle": TEXT, "axisLabel": {"show": False}, "axisTick": {"show": False},
            "splitLine": {"show": False}, "axisLine": {"show": False},
        }  # fmt: skip

    return _whole({}) | {
        "title": _titles(drawing.title, drawing.values),
        "grid": {
            "left": 6, "top": 28, "width": 236, "height": 236, "show": True, "borderColor": INK,
            "backgroundColor": "transparent",
        },
        "xAxis": axis(xs, drawing.caption),
        "yAxis": axis(ys, ""),
        "visualMap": _shades(drawing.values) | {"dimension": 2},
        "series": [
            {
                "type": "scatter", "data": dots, "symbolSize": 9, "tooltip": {"formatter": "{b}"},
                "itemStyle": {"borderColor": INK, "borderWidth": 0.7},
            },
            *_squares([list(place) for place in drawing.marks()], 15),
            _rings([[0, 0]] if drawing.identity else []),
        ],
    }  # fmt: skip


def _scores(drawing: Scores) -> Options:
    best = max(range(len(drawing.numbers)), key=drawing.numbers.__getitem__)
    bars = [
        {
            "value": abs(number),
            "label": {"formatter": drawing.text(number)},
            "itemStyle": {"color": COLOURS[0 if i == best or not drawing.percent else 5]},
        }
        for i, number in enumerate(drawing.numbers)
    ]
    most = 1.0 if drawing.percent else max(map(abs, drawing.numbers)) or 1.0
    return _whole({}) | {
        "title": _title(drawing.title),
        "grid": {"left": 14 + 6.6 * max(map(len, drawing.names)), "right": 48, "top": 26, "bottom": 4},
        "xAxis": {"type": "value", "min": 0, "max": most, "show": False},
        "yAxis": {
            "type": "category", "data": list(drawing.names), "inverse": True, "axisLabel": TEXT,
            "axisTick": {"show": False}, "axisLine": {"show": False},
        },
        "series": [{"type": "bar", "data": bars, "barWidth": "70%", "label": TEXT | {"show": True, "position": "right"}}],
    }  # fmt: skip


def _cloud(drawing: Cloud) -> Options:
    def axis(limits: tuple[float, float]) -> Options:
        return {"type": "value", "min": limits[0], "max": limits[1], "show": False}

    arms = [{"coords": [[0, 0], [x, y]], "name": name} for name, (x, y) in drawing.axes.items()]
    marks: Options = {"z": 3, "silent": True}
    if drawing.tails is None:
        dots = [
            {"value": [x, y], "itemStyle": {"color": colour}}
            for (x, y), colour in zip(drawing.tips, drawing.colours, strict=True)
        ]
        marks |= {
            "type": "scatter",
            "data": dots,
            "symbolSize": 7 * math.sqrt(drawing.dot / LARGEST_DOT),
            "itemStyle": {"borderColor": INK, "borderWidth": 0.5},
        }
    else:
        arrows = [
            {"coords": [[a, b], [x, y]], "lineStyle": {"color": colour}}
            for (x, y), (a, b), colour in zip(drawing.tips, drawing.tails, drawing.colours, strict=True)
        ]
        marks |= {
            "type": "lines", "coordinateSystem": "cartesian2d", "data": arrows, "symbol": ["none", "arrow"], "symbolSize": 6,
            "lineStyle": {"width": 1.4, "opacity": 1},
        }  # fmt: skip
    names = TEXT | {"show": True, "position": "end", "formatter": "{b}"}
    bones: Options = {
        "type": "lines", "coordinateSystem": "cartesian2d", "silent": True,
        "data": [{"coords": [list(a), list(b)]} for a, b in drawing.bones],
        "lineStyle": {"color": INK, "opacity": 1, "width": 1.5},
    }  # fmt: skip
    return _whole({}) | {
        "title": _title(drawing.title),
        "grid": {
            "left": 4, "top": 26, "width": 232, "height": 232, "show": True, "borderColor": INK,
            "backgroundColor": "transparent",
        },
        "xAxis": axis(drawing.xlim),
        "yAxis": axis(drawing.ylim),
        "series": [
            {
                "type": "lines", "coordinateSystem": "cartesian2d", "data": arms, "silent": True, "label": names,
                "lineStyle": {"color": INK, "opacity": 0.35, "width": 1},
            },
            *([bones] if drawing.bones else []),
            marks,
        ],
    }  # fmt: skip


# --- parts -----------------------------------------------------------------------------------------------------------
def _whole(names: Any) -> Options:
    """What all charts have; a legend where there are several names."""
    whole: Options = {
        "animation": False,
        "aria": {"enabled": True},
        "color": list(COLOURS),
        "textStyle": TEXT,
        "tooltip": {"trigger": "item", "confine": True, "transitionDuration": 0},
    }
    if len(names) > 1:
        whole["legend"] = {"data": list(names), "left": 50, "top": 0, "textStyle": TEXT, "itemHeight": 9}
    return whole


def _grid(names: Any) -> Options:
    return {"left": 64, "right": 22, "top": 34 if len(names) > 1 else 12, "bottom": 46}


def _title(text: str) -> Options:
    return {"text": text, "left": "center", "top": 0, "textStyle": TEXT | {"fontSize": 13, "fontWeight": 600}}


def _axis(name: str, gap: int, **more: Any) -> Options:
    return {
        "type": "value", "name": name, "nameLocation": "middle", "nameGap": gap, "nameTextStyle": TEXT,
        "axisLabel": TEXT | {":formatter": SHORT}, "axisLine": {"show": True, "lineStyle": {"color": INK}},
        "splitLine": FAINT, **more,
    }  # fmt: skip


def _value_axis(values: Values) -> Options:
    label = TEXT | {":formatter": PERCENT if values.percent else SHORT, "showMaxLabel": values.percent}
    axis = _axis(values.label, 46, min=values.low, max=values.high, nameRotate=90) | {"axisLabel": label}
    return axis | {"interval": 0.25} if values.percent else axis


def _line(i: int, name: str, data: list[list[float]]) -> Options:
    return {
        "type": "line", "name": name, "data": data, "symbol": SYMBOLS[i % len(SYMBOLS)], "symbolSize": 6,
        "showSymbol": len(data) <= 40,
        "lineStyle": {"width": 2, "type": ("solid", "dashed", "dotted")[i // len(COLOURS) % 3]},
    }  # fmt: skip


def _rings(places: Sequence[Sequence[float]]) -> Options:
    """The identity."""
    look = {"color": "transparent", "borderColor": ACCENT, "borderWidth": 2}
    return {"type": "scatter", "data": places, "symbolSize": 11, "itemStyle": look, "silent": True, "z": 5}


def _squares(places: Sequence[Sequence[float]], side: float) -> list[Options]:
    """Where we are: white within black, to be seen on every colour."""
    return [
        {
            "type": "scatter", "data": places, "symbol": "rect", "symbolSize": side, "silent": True, "z": 6,
            "itemStyle": {"color": "transparent", "borderColor": colour, "borderWidth": width, "opacity": 1},
        }
        for colour, width in (("#000", 3.4), ("#fff", 1.6))
    ]  # fmt: skip


def _here(axis: str, place: float | None) -> Options:
    data = [] if place is None else [{axis: place}]
    return {"symbol": "none", "silent": True, "label": {"show": False}, "lineStyle": DASHED, "data": data}


def _shades(values: Values) -> Options:
    """The bar of colours; what the colours mean stands beneath, see `_titles`."""
    return {
        "min": values.low, "max": values.high, "seriesIndex": 0, "orient": "horizontal", "left": "center", "bottom": 14,
        "inRange": {"color": _viridis()}, "itemWidth": 10, "itemHeight": 120, "textStyle": TEXT,
        "text": [values.text(values.high), values.text(values.low)],
    }  # fmt: skip


def _titles(title: str, values: Values) -> list[Options]:
    beneath = {"text": values.label, "left": "center", "bottom": -2, "textStyle": TEXT | {"fontWeight": "normal"}}
    return [_title(title), beneath]


@functools.cache
def _viridis() -> list[str]:
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    shades = mpl.colormaps[COLOUR_MAP]
    return [to_hex(shades(i / 15)) for i in range(16)]
