"""The explorer's page: sliders, pictures and buttons around an `Exploration`, served by NiceGUI on this machine."""

from __future__ import annotations

import asyncio
import functools
import html
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from erlangen import plots
from erlangen.errors import ErlangenError, MissingExtraError
from erlangen.explorer.charts import Options, chart_of, size_of
from erlangen.explorer.controls import Place
from erlangen.explorer.pictures import svg_of
from erlangen.explorer.session import Exploration
from erlangen.measure.drawings import Dots, Drawing
from erlangen.measure.report import AuditReport

HINT = "Drag the picture, or move the sliders (arrow keys work too). Click a dot below for another sample."

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #4d5563; --paper: #ffffff; --panel: #f5f6f8; --rule: #d9dde3 }
.body--dark { --ink: #e8eaee; --soft: #b3bac6; --paper: #14171c; --panel: #1d2128; --rule: #343a44 }
body { background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, "Segoe UI", Roboto, sans-serif }
.er-page { max-width: 1240px; margin: 0 auto; padding: 1.4rem 1.2rem 3rem; width: 100% }
.er-page h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .2rem; font-weight: 700 }
.er-page h2 { font-size: 1.05rem; line-height: 1.3; margin: 0 0 .5rem; font-weight: 700 }
.er-soft { color: var(--soft) } .er-row { display: flex; flex-wrap: wrap; gap: 1rem 1.4rem; align-items: flex-start }
.er-panel { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: .9rem 1rem; margin-top: 1rem }
.er-knobs { width: 280px } .er-answer { max-width: 250px } .er-knobs h2:not(:first-child) { margin-top: 1rem }
.er-knob { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums }
.er-drag { touch-action: none; cursor: grab; user-select: none } .er-drag:active { cursor: grabbing }
.er-picture svg { max-width: 100%; height: auto; display: block }
.er-page .q-btn { text-transform: none } .body--dark { --q-primary: #8ccbf5 !important }
 .er-verdict { font-weight: 600 }
"""

_POINTER = """(e) => {
  const box = e.currentTarget.getBoundingClientRect();
  if (e.type === 'pointerdown') { e.currentTarget.setPointerCapture(e.pointerId); e.preventDefault(); }
  if (e.type === 'pointermove' && e.buttons !== 1) return;
  emit(2 * (e.clientX - box.left) / box.width - 1, 1 - 2 * (e.clientY - box.top) / box.height);
}"""


def explore(
    *reports: AuditReport,
    classes: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    allow_remote: bool = False,
    show: bool = True,
) -> None:
    """Open a page on this machine where samples move through the group and the models' answers follow; until Ctrl-C.

    Args:
        reports: what `erlangen.audit` returned for one or several models, audited on the same data, elements and seed.
        classes: names of the classes, for integer labels.
        host: address to listen on; only this machine can reach the default.
        port: port, or 0 for a free one.
        allow_remote: allow a `host` that other machines can reach. Whoever reaches the page sees the data.
        show: open the browser.

    Raises:
        MissingExtraError: NiceGUI is not installed (extra ``explore``).
        SymmetryError, DataError: reports that do not belong together, or that hold no model and data.
        ErlangenError: a host other than this machine without `allow_remote`, or a port that is taken.
    """
    Exploration(reports, classes)  # whatever is wrong with the reports is said now, not in the browser
    _check_host(host, allow_remote)
    try:
        from nicegui import app, core, ui
    except ImportError as error:
        raise MissingExtraError("nicegui", "explore", "the explorer") from error
    port = _free_port(host, port)
    if not allow_remote:
        # A page elsewhere that points its own name at this machine is refused.
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        if not any(m.cls is TrustedHostMiddleware for m in app.user_middleware):
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host])
    print(f"explorer: http://{host}:{port}/  (Ctrl-C stops it)", flush=True)
    core.sio.eio.cors_allowed_origins = None  # pages of other sites cannot open a connection
    ui.run(
        lambda: _Page(Exploration(reports, classes)).build(),
        host=host,
        port=port,
        title="erlangen explorer",
        reload=False,
        show=show,
        dark=None,
        show_welcome_message=False,
    )


def _check_host(host: str, allow_remote: bool) -> None:
    if host == "localhost" or allow_remote:
        return
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ErlangenError(
            f"host = {host!r} can be reached from other machines; keep 127.0.0.1, or pass allow_remote=True (--allow-remote) if "
            "everybody who reaches it may see the data"
        )


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ErlangenError(
                f"host = {host!r}, port = {port}: cannot listen there ({error}); choose another port"
            ) from error
        return int(probe.getsockname()[1])


class _Page:
    """One visitor's page."""

    def __init__(self, state: Exploration) -> None:
        self.state = state
        self.begun: tuple[Tensor, Place] | None = None
        self.setting = False
        """Whether the number of the sample is being set from here, and not by the visitor."""
        self.wanted: Callable[[], None] | None = None
        self.following = False

    def build(self) -> None:
        """Lay out the page and show the first sample, or the one that the address names."""
        from nicegui import ui

        state = self.state
        ui.colors(primary="#0b5c8f")
        ui.add_css(_STYLE)
        with ui.element("main").classes("er-page"):
            models = " and ".join(report.model for report in state.reports)
            _text("h1", f"{models} under {state.symmetry.group.name}")
            acts = f"{state.symmetry.input.name} in, {state.symmetry.output.name} out"
            _text("p", f"{acts}; {len(state.orbit)} elements, {len(state.samples)} samples. {HINT}", "er-soft")
            with ui.element("div").classes("er-panel er-row"):
                with ui.element("section").classes("er-knobs"):
                    self._build_controls()
                self.inputs = _PictureRow("the moved sample; drag to move it", "er-drag")
                self._listen_to_pointer()
                self.answers = [_answer_box(report.model) for report in state.reports]
            with ui.element("section").classes("er-panel"):
                _text("h2", "This sample over the orbit")
                self.own = _PictureRow("values of the chosen sample over the orbit")
            with ui.element("section").classes("er-panel"):
                _text("h2", "All samples over the orbit")
                _PictureRow("values of all samples over the orbit").show(state.all_orbits())
                if state.scatter():
                    _text("h2", "Samples by their orbit curves").style("margin-top:1rem")
                    choose = lambda key: self._do(lambda: state.choose(key))  # noqa: E731
                    self.scatter = _PictureRow("samples; click one to choose it", on_key=choose)
            self._build_export()
        query = dict(ui.context.client.request.query_params)
        self._do(lambda: None)
        if query:
            self._do(lambda: state.go(query))

    # --- parts ---------------------------------------------------------------------------------------------------
    def _build_controls(self) -> None:
        from nicegui import ui

        class Slider(ui.slider):
            """A slider whose own moves the server does not send back: they would undo what came meanwhile."""

            LOOPBACK = False

        state = self.state
        _text("h2", "Sample")
        with ui.row().classes("items-center gap-2"):
            self.number = ui.number(value=state.sample, precision=0, on_change=self._number_changed)
            self.number.props('dense outlined aria-label="sample" style="width:110px"')
            ui.button("previous", on_click=lambda: self._do(lambda: self._step(-1))).props("dense outline")
            ui.button("next", on_click=lambda: self._do(lambda: self._step(1))).props("dense outline")
        with ui.row().classes("items-center gap-1").style("margin:.4rem 0"):
            _text("span", "hardest:", "er-soft")
            for sample in state.hardest():
                choose = lambda sample=sample: self._do(lambda: state.choose(sample))  # noqa: E731
                ui.button(str(sample), on_click=choose).props(f'dense flat aria-label="sample {sample}"')
        self.label = ui.label().classes("er-soft")
        _text("h2", "Group element")
        self.sliders: list[Any] = []
        self.shown: list[Any] = []
        for i, knob in enumerate(state.control.knobs):
            with ui.element("div").classes("er-knob"):
                _text("label", knob.name)
                self.shown.append(ui.label())
            slider = Slider(min=knob.low, max=knob.high, step=knob.step, value=0)
            # An event of the browser alone: values that are set from here must not come back as wishes.
            slider.on("update:model-value", functools.partial(self._slid, i), throttle=0.02)
            self.sliders.append(slider.props(f'aria-label="{html.escape(knob.name, quote=True)}"'))
        with ui.row().classes("items-center gap-1"):
            ui.button("identity", on_click=lambda: self._do(state.stay)).props("dense outline")
            _text("span", "worst:", "er-soft")
            self.worst = ui.row().classes("items-center gap-1")

    def _listen_to_pointer(self) -> None:
        def begin(event: Any) -> None:
            self.begun = (self.state.element, _place(event))

        async def move(event: Any) -> None:
            if self.begun is not None:
                element, start = self.begun
                await self._follow(lambda: self.state.drag(element, start, _place(event)))

        def end(_: Any) -> None:
            self.begun = None
            self._do(lambda: None)

        self.inputs.box.on("pointerdown", begin, js_handler=_POINTER)
        self.inputs.box.on("pointermove", move, js_handler=_POINTER, throttle=0.02)
        self.inputs.box.on("pointerup", end, js_handler="() => emit()")

    def _build_export(self) -> None:
        from nicegui import ui

        name = "erlangen-explorer"
        with ui.row().style("margin-top:1rem"):
            ui.button("copy link", on_click=self._copy_link).props("outline")
            ui.button(
                "save as HTML", on_click=lambda: ui.download.content(self._page().encode(), f"{name}.html", "text/html")
            ).props("outline")
            ui.button(
                "save as PNG",
                on_click=lambda: ui.download.content(plots.to_png(self.state.figure()), f"{name}.png", "image/png"),
            ).props("outline")

    # --- what happens --------------------------------------------------------------------------------------------
    def _do(self, change: Callable[[], None], *, moving: bool = False, by_slider: bool = False) -> None:
        """Change the state and show it; while something is `moving`, only what follows the element.

        Sliders stay as they are when one of them is the cause: the visitor's hand may be ahead of us.
        """
        from nicegui import ui

        before = self.state.position
        try:
            change()
            self._show_element(sliders=not by_slider)
            if not moving or self.state.position != before:
                self._show_sample()
        except Exception as error:  # noqa: BLE001 - a model may raise anything, and the page goes on
            ui.notify(" ".join(str(error).split()), type="negative", multi_line=True, timeout=0, close_button="close")

    async def _follow(self, change: Callable[[], None], *, by_slider: bool = False) -> None:
        """Make the newest of the changes that come faster than the models answer, and let the others go."""
        self.wanted = change
        if self.following:
            return
        self.following = True
        while self.wanted is not None:
            newest, self.wanted = self.wanted, None
            self._do(newest, moving=True, by_slider=by_slider)
            await asyncio.sleep(0)  # lets what has come meanwhile replace the wish
        self.following = False
        if self.begun is None:
            self._do(lambda: None, by_slider=by_slider)

    def _show_element(self, *, sliders: bool) -> None:
        state = self.state
        values = state.values
        for slider, label, knob, value in zip(
            self.sliders, self.shown, state.control.knobs, values or [0.0] * len(self.sliders), strict=True
        ):
            label.set_text(knob.text(value) if values is not None else "beyond")
            if sliders:
                slider.set_value(value)
        self.inputs.show(state.input_pictures())
        for (verdict, box), answer in zip(self.answers, state.answers(), strict=True):
            verdict.set_text(state.verdict(answer))
            box.show(answer.pictures)

    def _show_sample(self) -> None:
        from nicegui import ui

        state = self.state
        label = state.label()
        self.label.set_text("" if label is None else f"label: {label}")
        self.own.show(state.own_orbit())
        if hasattr(self, "scatter"):
            self.scatter.show(state.scatter())
        self.setting = True
        self.number.set_value(state.sample)
        self.setting = False
        self.worst.clear()
        with self.worst:
            for index in state.worst():
                visit = lambda index=index: self._do(lambda: state.visit(index))  # noqa: E731
                element = state.orbit.elements[index]
                button = ui.button(state.describe(element, short=True), on_click=visit)
                button.props(f'dense flat aria-label="{html.escape(state.describe(element), quote=True)}"')
        ui.navigate.history.replace(self._address())

    async def _slid(self, index: int, event: Any) -> None:
        values = [float(slider.value) for slider in self.sliders]
        values[index] = float(event.args)
        await self._follow(lambda: self.state.turn(values), by_slider=True)

    def _number_changed(self, event: Any) -> None:
        if not self.setting and event.value is not None:
            self._do(lambda: self.state.choose(int(event.value)))

    def _step(self, by: int) -> None:
        state = self.state
        state.choose(state.samples[(state.position + by) % len(state.samples)])

    def _address(self) -> str:
        from urllib.parse import urlencode

        return "/?" + urlencode(self.state.address(), safe=",")

    def _copy_link(self) -> None:
        from nicegui import ui

        ui.run_javascript("navigator.clipboard.writeText(window.location.href)")
        ui.notify(f"link copied: {self._address()}")

    def _page(self) -> str:
        title = html.escape(" and ".join(report.model for report in self.state.reports))
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
            f'<body style="margin:0;background:#fff">{plots.to_svg(self.state.figure())}</body></html>\n'
        )


def _place(event: Any) -> Place:
    x, y = event.args
    return float(x), float(y)


def _text(tag: str, text: str, classes: str = "") -> Any:
    from nicegui import ui

    return ui.html(html.escape(text), sanitize=False, tag=tag).classes(classes)


class _PictureRow:
    """A row of drawings that is shown again and again: charts where the browser has them, SVG where it has not."""

    def __init__(self, label: str, classes: str = "", on_key: Callable[[int], None] | None = None) -> None:
        from nicegui import ui

        self.box = ui.element("div").classes(f"er-row {classes}")
        self.box.props(f'role="group" aria-label="{html.escape(label, quote=True)}"')
        self.on_key = on_key
        self.kinds: list[tuple[type, tuple[int, int]]] = []
        self.places: list[Any] = []
        self.shown: list[Drawing] = []

    def show(self, drawings: Sequence[Drawing]) -> None:
        """Show these, in the places of those before where they are of the same kinds and sizes."""
        self.shown = list(drawings)
        kinds = [(type(drawing), size_of(drawing)) for drawing in drawings]
        charts = [chart_of(drawing) for drawing in drawings]
        if kinds != self.kinds:
            self.kinds = kinds
            self.box.clear()
            with self.box:
                self.places = [self._place(i, chart) for i, chart in enumerate(charts)]
        for place, chart, drawing in zip(self.places, charts, drawings, strict=True):
            if chart is None:
                place.set_content(svg_of(drawing))
            else:
                place.options.clear()
                place.options.update(chart)
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
        drawing = self.shown[i]
        if (
            self.on_key is not None
            and isinstance(drawing, Dots)
            and drawing.keys is not None
            and event.series_index == 0
        ):
            self.on_key(drawing.keys[event.data_index])


def _answer_box(model: str) -> tuple[Any, _PictureRow]:
    from nicegui import ui

    with ui.element("section").classes("er-answer"):
        verdict = ui.label().classes("er-verdict").props('aria-live="polite"')
        return verdict, _PictureRow(f"answer of {model}")
