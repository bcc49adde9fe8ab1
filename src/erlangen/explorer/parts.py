"""Parts of the explorer's page: its style, its texts, rows of pictures, and what is made ready for them beforehand."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from erlangen.explorer.charts import Options, chart_of, size_of
from erlangen.explorer.session import Answer, Exploration
from erlangen.measure.drawings import Dots, Drawing
from erlangen.measure.pictures import svg_of

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #4d5563; --paper: #ffffff; --panel: #f5f6f8; --rule: #d9dde3;
  --right: #00684a; --wrong: #b3261e }
.body--dark { --ink: #e8eaee; --soft: #b3bac6; --paper: #14171c; --panel: #1d2128; --rule: #343a44;
  --right: #6ee7b7; --wrong: #ffb4ab }
body { background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, "Segoe UI", Roboto, sans-serif }
.nicegui-content { padding: 0 }
.er-page { padding: 1rem clamp(.6rem, 2vw, 2rem) 3rem; width: 100%; overflow-wrap: anywhere }
.er-page h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .2rem; font-weight: 700 }
.er-page h2 { font-size: 1.05rem; line-height: 1.3; margin: 0 0 .5rem; font-weight: 700 }
.er-soft { color: var(--soft) } .er-row { display: flex; flex-wrap: wrap; gap: 1rem 1.4rem; align-items: flex-start }
.er-row > * { min-width: 0; max-width: 100% }
.er-panel { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: .9rem 1rem; margin-top: 1rem }
.er-sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 0 1rem }
.er-sides > * { min-width: 0 }
.er-knobs { flex: 0 0 300px } .er-knobs h2:not(:first-child) { margin-top: 1rem }
.er-knob { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums }
.er-drag { touch-action: none; cursor: grab; user-select: none } .er-drag:active { cursor: grabbing }
.er-picture svg { width: clamp(250px, 19vw, 380px); max-width: 100%; height: auto; display: block }
.er-orbit .er-picture svg { width: auto }
.er-page .q-btn { text-transform: none } .body--dark { --q-primary: #8ccbf5 !important }
.er-answer { min-width: 250px } .er-verdict { font-weight: 600; max-width: 20rem }
.er-right { color: var(--right) } .er-wrong { color: var(--wrong) }
@media (max-width: 640px) { .er-panel { padding: .7rem .6rem } .er-knobs { flex-basis: 100% }
  .er-drag { order: -1 } .er-drag .er-picture svg { width: min(100vw - 3rem, 380px) } }
"""


@dataclass(frozen=True)
class Ready:
    """A drawing as the browser gets it: a chart of its own, or SVG where it has none."""

    drawing: Drawing
    chart: Options | None
    svg: str

    @classmethod
    def of(cls, drawings: Sequence[Drawing]) -> list[Ready]:
        """Drawings made ready, which may take a while."""
        charts = [chart_of(drawing) for drawing in drawings]
        return [cls(d, chart, svg_of(d) if chart is None else "") for d, chart in zip(drawings, charts, strict=True)]


@dataclass(frozen=True)
class View:
    """All that the page shows of one sample at one element; what is about the sample alone may be missing.

    Attributes:
        state: where this is.
        inputs: pictures of the moved sample.
        answers: every model's answer, its verdict, and whether it is right, with its pictures.
        own: plots of the sample over the orbit.
        scatter: all samples by their curves.
        orbits: plots of all samples over the orbit, which never change.
    """

    state: Exploration
    inputs: list[Ready]
    answers: list[tuple[Answer, list[Ready]]]
    own: list[Ready] | None = None
    scatter: list[Ready] | None = None
    orbits: list[Ready] | None = None

    @classmethod
    def of(cls, state: Exploration, *, sample: bool, orbits: bool) -> View:
        """Ask the models and draw; takes as long as they do, so it is for a thread of its own."""
        answers = [(answer, Ready.of(answer.pictures)) for answer in state.answers()]
        return cls(
            state,
            Ready.of(state.input_pictures()),
            answers,
            Ready.of(state.own_orbit()) if sample else None,
            Ready.of(state.scatter()) if sample else None,
            Ready.of(state.all_orbits()) if orbits else None,
        )


def text(tag: str, words: str, classes: str = "") -> Any:
    """An element with a text, in which nothing is markup."""
    from nicegui import ui

    return ui.html(html.escape(words), sanitize=False, tag=tag).classes(classes)


def named(words: str) -> str:
    """The property that gives an element a name for screen readers."""
    return f'aria-label="{html.escape(words, quote=True)}"'


class PictureRow:
    """A row of drawings that is shown again and again: charts where the browser has them, SVG where it has not."""

    def __init__(self, label: str, classes: str = "", on_key: Callable[[int], None] | None = None) -> None:
        from nicegui import ui

        self.box = ui.element("div").classes(f"er-row {classes}")
        self.box.props(f'role="group" {named(label)}')
        self.on_key = on_key
        self.kinds: list[tuple[type, tuple[int, int]]] = []
        self.places: list[Any] = []
        self.shown: list[Ready] = []

    def show(self, shown: list[Ready]) -> None:
        """Show these, in the places of those before where they are of the same kinds and sizes."""
        self.shown = shown
        kinds = [(type(ready.drawing), size_of(ready.drawing)) for ready in shown]
        if kinds != self.kinds:
            self.kinds = kinds
            self.box.clear()
            with self.box:
                self.places = [self._place(i, ready.chart) for i, ready in enumerate(shown)]
        for place, ready in zip(self.places, shown, strict=True):
            if ready.chart is None:
                place.set_content(ready.svg)
            else:
                place.options.clear()
                place.options.update(ready.chart)
                place.update()

    def _place(self, i: int, chart: Options | None) -> Any:
        from nicegui import ui

        if chart is None:  # the SVG is ours, so the browser takes it as it is
            return ui.html("", sanitize=False).classes("er-picture")
        width, height = self.kinds[i][1]
        place = ui.echart({}, renderer="svg").style(f"width:{width}px;height:{height}px;max-width:100%")
        if self.on_key is not None:
            place.on_point_click(functools.partial(self._clicked, i))
        return place

    def _clicked(self, i: int, event: Any) -> None:
        drawing = self.shown[i].drawing
        if (
            self.on_key is not None
            and isinstance(drawing, Dots)
            and drawing.keys is not None
            and event.series_index == 0
        ):
            self.on_key(drawing.keys[event.data_index])


class AnswerBox:
    """What one model says: its verdict, in words and in a colour, and the pictures of its answer."""

    def __init__(self, model: str) -> None:
        from nicegui import ui

        with ui.element("section").classes("er-answer"):
            self.verdict = ui.label().classes("er-verdict").props('aria-live="polite"')
            self.row = PictureRow(f"answer of {model}")

    def show(self, words: str, right: bool | None, shown: list[Ready]) -> None:
        """Show a verdict and pictures."""
        mark, look = {True: ("✓ ", "er-right"), False: ("✗ ", "er-wrong"), None: ("", "")}[right]
        self.verdict.set_text(mark + words)
        self.verdict.classes(look, remove="er-right er-wrong")
        self.row.show(shown)
