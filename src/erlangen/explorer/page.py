"""The explorer's page: sliders, pictures and buttons around an `Exploration`, drawn by NiceGUI.

Wishes change the state at once, in the order in which they come, so that every click counts. The models answer in a thread
of their own, for the state as it is when they are free: what was wished meanwhile is passed over, and the last wish is
always answered. The connection to the browser never waits for them.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import html
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from torch import Tensor

from erlangen import plots
from erlangen.explorer.controls import Place
from erlangen.explorer.parts import STYLE, AnswerBox, PictureRow, View, named, text
from erlangen.explorer.session import Exploration

HINT = (
    "Drag the picture, or move the sliders (arrow keys, Home and End work too). Click a dot below for another sample."
)

QUIET = 0.15
"""Seconds without a wish after which what is slow to draw is drawn again."""

_POINTER = """(e) => {
  const here = e.currentTarget;
  if (e.type === 'pointerdown') {  // places are told in the frame where the drag began, also if the page moves meanwhile
    here.erBox = here.getBoundingClientRect(); here.setPointerCapture(e.pointerId); e.preventDefault();
  }
  const box = here.erBox || here.getBoundingClientRect();
  if (e.type === 'pointermove' && e.buttons !== 1) return;
  emit(2 * (e.clientX - box.left) / box.width - 1, 1 - 2 * (e.clientY - box.top) / box.height);
}"""

_ENDS = "(e) => { if (e.key === 'Home' || e.key === 'End') { e.preventDefault(); emit(e.key); } }"

R = TypeVar("R")


@functools.cache
def _worker() -> ThreadPoolExecutor:
    """One thread for all visitors: models are put into eval mode, and matplotlib into its style, by one at a time."""
    return ThreadPoolExecutor(1, thread_name_prefix="erlangen-explorer")


async def _aside(work: Callable[[], R]) -> R:
    """The result of work that may take long, while the page goes on."""
    return await asyncio.get_running_loop().run_in_executor(_worker(), work)


class Page:
    """One visitor's page."""

    def __init__(self, state: Exploration) -> None:
        self.state = state
        self.begun: tuple[Tensor, Place] | None = None
        self.setting = False
        """Whether the number of the sample is being set from here, and not by the visitor."""
        self.due: set[str] = set()
        """What has to be drawn again: "element", "sample", "orbits"."""
        self.drawing = False

    def build(self) -> None:
        """Lay out the page; it is filled when the browser has it, at the worst place or at the one that the address names."""
        from nicegui import ui

        state = self.state
        self.client = ui.context.client
        ui.colors(primary="#0b5c8f")
        ui.add_css(STYLE)
        with ui.element("main").classes("er-page"):
            models = " and ".join(report.model for report in state.reports)
            text("h1", f"{models} under {state.symmetry.group.name}")
            acts = f"{state.symmetry.input.name} in, {state.symmetry.output.name} out"
            text("p", f"{acts}; {len(state.orbit)} elements, {len(state.samples)} samples. {HINT}", "er-soft")
            with ui.element("div").classes("er-panel er-row"):
                with ui.element("section").classes("er-knobs"):
                    self._build_controls()
                self.inputs = PictureRow("the moved sample; drag to move it", "er-drag")
                self._listen_to_pointer()
                self.answers = [AnswerBox(report.model) for report in state.reports]
            with ui.element("div").classes("er-sides"):
                with ui.element("section").classes("er-panel er-orbit"):
                    text("h2", "This sample over the orbit")
                    self.own = PictureRow("values of the chosen sample over the orbit")
                with ui.element("section").classes("er-panel er-orbit"):
                    text("h2", "All samples over the orbit")
                    self.orbits = PictureRow("values of all samples over the orbit")
                with ui.element("section").classes("er-panel er-orbit") as samples:
                    text("h2", "Samples by their orbit curves")
                    choose = lambda key: self._do(lambda: state.choose(key))  # noqa: E731
                    self.scatter = PictureRow("samples; click one to choose it", on_key=choose)
                samples.set_visibility(len(state.samples) >= 3)
            self._build_export()
        query = dict(ui.context.client.request.query_params)
        self.due.add("orbits")
        ui.timer(0, lambda: self._open(query), once=True)  # a timer waits for the browser

    # --- parts ---------------------------------------------------------------------------------------------------
    def _build_controls(self) -> None:
        from nicegui import ui

        class Slider(ui.slider):
            """A slider whose own moves the server does not send back: they would undo what came meanwhile."""

            LOOPBACK = False

        state = self.state
        text("h2", "Sample")
        with ui.row().classes("items-center gap-2"):
            self.number = ui.number(value=state.sample, precision=0, on_change=self._number_changed)
            self.number.props('dense outlined aria-label="sample" style="width:110px"')
            for word, by in (("previous", -1), ("next", 1)):
                step = functools.partial(self._do, functools.partial(self._step, by))
                ui.button(word, on_click=step).props(f"dense outline {named(f'{word} sample')}")
        with ui.row().classes("items-center gap-1").style("margin:.4rem 0"):
            text("span", "hardest:", "er-soft")
            for sample in state.hardest():
                choose = lambda sample=sample: self._do(lambda: state.choose(sample))  # noqa: E731
                ui.button(str(sample), on_click=choose).props(f"dense flat {named(f'sample {sample}')}")
        self.label = ui.label().classes("er-soft")
        text("h2", "Group element")
        self.sliders: list[Any] = []
        self.shown: list[Any] = []
        for i, knob in enumerate(state.control.knobs):
            with ui.element("div").classes("er-knob"):
                text("label", knob.name)
                self.shown.append(ui.label())
            slider = Slider(min=knob.low, max=knob.high, step=knob.step, value=0)
            # An event of the browser alone: values that are set from here must not come back as wishes.
            slider.on("update:model-value", functools.partial(self._slid, i), throttle=0.02)
            slider.on("keydown", functools.partial(self._to_end, i), js_handler=_ENDS)
            self.sliders.append(slider.props(named(knob.name)))
        with ui.row().classes("items-center gap-1"):
            ui.button("identity", on_click=lambda: self._do(state.stay)).props("dense outline")
            text("span", "worst:", "er-soft")
            self.worst = ui.row().classes("items-center gap-1")

    def _listen_to_pointer(self) -> None:
        def begin(event: Any) -> None:
            self.begun = (self.state.element, _place(event))

        def follow(event: Any, *, moving: bool) -> None:
            if self.begun is None:
                return
            element, start = self.begun
            self.begun = self.begun if moving else None
            self._do(lambda: self.state.drag(element, start, _place(event)), moving=moving)

        def lose(_: Any) -> None:
            if self.begun is not None:
                self.begun = None
                self._do(lambda: None)

        box = self.inputs.box
        box.on("pointerdown", begin, js_handler=_POINTER)
        box.on("pointermove", functools.partial(follow, moving=True), js_handler=_POINTER, throttle=0.02)
        box.on("pointerup", functools.partial(follow, moving=False), js_handler=_POINTER)
        box.on("pointercancel", lose, js_handler="() => emit()")

    def _build_export(self) -> None:
        from nicegui import ui

        async def save(suffix: str, kind: str, write: Callable[[plots.Figure], bytes]) -> None:
            state = copy.copy(self.state)
            try:
                content = await _aside(lambda: write(state.figure()))
                ui.download.content(content, f"erlangen-explorer.{suffix}", kind)
            except Exception as error:  # noqa: BLE001 - a model may raise anything, and the page goes on
                self._complain(error)

        with ui.row().style("margin-top:1rem"):
            ui.button("copy link", on_click=self._copy_link).props("outline")
            ui.button("save as HTML", on_click=lambda: save("html", "text/html", self._page)).props("outline")
            ui.button("save as PNG", on_click=lambda: save("png", "image/png", plots.to_png)).props("outline")

    # --- what happens --------------------------------------------------------------------------------------------
    def _open(self, query: dict[str, str]) -> None:
        from nicegui import ui

        ui.run_javascript("document.documentElement.lang = 'en'")  # for readers of the screen
        self._do(self.state.to_worst)
        if query:
            self._do(lambda: self.state.go(query))

    def _do(self, change: Callable[[], None], *, moving: bool = False, values: list[float] | None = None) -> None:
        """Change the state now, and have it drawn; while something is `moving`, only what follows the element.

        Sliders stay as they are when one of them is the cause, with the `values` that they show: the visitor's hand may be
        ahead of us, and 180 degrees are -180 too.
        """
        from nicegui import background_tasks

        before = self.state.position
        try:
            change()
            self._show_knobs(values)
        except Exception as error:  # noqa: BLE001 - a group of the user may raise anything, and the page goes on
            self._complain(error)
            return
        self.due.add("element")
        if not moving or self.state.position != before:
            self.due.add("sample")
        if not self.drawing:
            self.drawing = True
            background_tasks.create(self._draw(), name="draw the explorer")

    async def _draw(self) -> None:
        """Draw what is due until nothing is, each time for the newest state."""
        try:
            while self.due and not self.client.is_deleted:
                due, self.due = self.due, set[str]()
                state = copy.copy(self.state)
                make = functools.partial(View.of, state, sample="sample" in due, orbits="orbits" in due)
                try:
                    view = await _aside(make)
                    with self.client:
                        self._show(view)
                except Exception as error:  # noqa: BLE001 - a model may raise anything, and the page goes on
                    self._complain(error)
                    continue
                if "sample" not in due and not self.due and self.begun is None:
                    await asyncio.sleep(QUIET)
                    if not self.due:
                        self.due.add("sample")
        finally:
            self.drawing = False

    def _complain(self, error: Exception) -> None:
        from nicegui import ui

        with self.client:
            words = " ".join(str(error).split()) or type(error).__name__
            ui.notify(words, type="negative", multi_line=True, timeout=0, close_button="close")

    def _show_knobs(self, by_sliders: list[float] | None) -> None:
        values = self.state.values if by_sliders is None or self._held_back(by_sliders) else by_sliders
        for slider, label, knob, value in zip(
            self.sliders, self.shown, self.state.control.knobs, values or [0.0] * len(self.sliders), strict=True
        ):
            label.set_text(knob.text(value) if values is not None else "beyond")
            if by_sliders is None:
                slider.set_value(value)

    def _held_back(self, by_sliders: list[float]) -> bool:
        """Whether the element is another one than the sliders say: on the border of a range, which several would leave."""
        state = self.state
        if state.symmetry.within is None or (there := state.values) is None:
            return False
        steps = [knob.step for knob in state.control.knobs]
        return any(abs(a - b) > 0.5 * step for a, b, step in zip(there, by_sliders, steps, strict=True))

    def _show(self, view: View) -> None:
        state = view.state
        self.inputs.show(view.inputs)
        for box, (answer, pictures) in zip(self.answers, view.answers, strict=True):
            box.show(state.verdict(answer), state.right(answer), pictures)
        if view.orbits is not None:
            self.orbits.show(view.orbits)
        if view.own is not None and view.scatter is not None:
            self.own.show(view.own)
            self.scatter.show(view.scatter)
            self._show_sample(state)

    def _show_sample(self, state: Exploration) -> None:
        from nicegui import ui

        label = state.label()
        self.label.set_text("" if label is None else f"label: {label}")
        self.setting = True
        self.number.set_value(state.sample)
        self.setting = False
        self.worst.clear()
        with self.worst:
            for index in state.worst():
                visit = lambda index=index: self._do(lambda: self.state.visit(index))  # noqa: E731
                element = state.orbit.elements[index].cpu()
                button = ui.button(state.describe(element, short=True), on_click=visit)
                button.props(f"dense flat {named(state.describe(element))}")
        ui.navigate.history.replace(_address(state))

    def _slid(self, index: int, event: Any) -> None:
        self._turn(index, float(event.args))

    def _to_end(self, index: int, event: Any) -> None:
        knob = self.state.control.knobs[index]
        value = knob.low if event.args == "Home" else knob.high
        self.sliders[index].set_value(value)
        self._turn(index, value)

    def _turn(self, index: int, value: float) -> None:
        values = [float(slider.value) for slider in self.sliders]
        values[index] = value
        self._do(lambda: self.state.turn(values), moving=True, values=values)

    def _number_changed(self, event: Any) -> None:
        if not self.setting and event.value is not None:
            self._do(lambda: self.state.choose(int(event.value)))

    def _step(self, by: int) -> None:
        state = self.state
        state.choose(state.samples[(state.position + by) % len(state.samples)])

    def _copy_link(self) -> None:
        from nicegui import ui

        ui.run_javascript("navigator.clipboard.writeText(window.location.href)")
        ui.notify(f"link copied: {_address(self.state)}")

    def _page(self, figure: plots.Figure) -> bytes:

        title = html.escape(" and ".join(report.model for report in self.state.reports))
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
            f'<body style="margin:0;background:#fff">{plots.to_svg(figure)}</body></html>\n'
        ).encode()


def _address(state: Exploration) -> str:
    from urllib.parse import urlencode

    return "/?" + urlencode(state.address(), safe=",")


def _place(event: Any) -> Place:
    x, y = event.args
    return float(x), float(y)
