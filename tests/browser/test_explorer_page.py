"""The explorer's page in headless Chromium: load, drag, keys, click, compare, link, export; contrast; nothing from outside.

Also on a machine that is busy, on a phone, and for readers of the screen.
"""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from erlangen import cli

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need a Chromium (Debian's package chromium)"),
]

SERVER = """
import torch, erlangen as er
from torch import nn
torch.set_num_threads(1)
data = er.data.digits("test")
torch.manual_seed(0)
plain = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10))
quarter = er.Symmetry("Cyclic(4)", input="image", output="invariant")
sym = er.Symmetry("SO(2)", input="image", output="invariant")
reports = [
    er.audit(model, sym, data.x[:12], data.y[:12], elements=24, name=name, progress=False)
    for name, model in (("plain net", plain), ("four turns", er.symmetrize(plain, quarter, how="orbit")))
]
er.explore(*reports, classes=data.classes, show=False)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A page that is served by a process of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}  # NiceGUI reads them
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                _wait_until_it_listens(found[0], process)
                yield found[0]
                break
        else:
            pytest.fail("the server did not start:\n" + "".join(lines))
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def _wait_until_it_listens(address: str, process: subprocess.Popen[str]) -> None:
    """The line with the address is printed before the server listens."""
    for _ in range(100):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        try:
            urllib.request.urlopen(address).close()
        except urllib.error.URLError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"nothing listens at {address}")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """An open page; the test fails when it asks for anything outside, or when a script fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 1400}, accept_downloads=True)
    page = context.new_page()
    outside, broken = [], []
    page.on(
        "request",
        lambda r: (
            outside.append(r.url)
            if not r.url.startswith((address, "data:", "blob:", address.replace("http", "ws")))
            else None
        ),
    )
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(address + "?sample=0&at=0")
    sync_api.expect(page.locator(".er-drag image")).to_have_count(1, timeout=20_000)
    heading(page, "sample 0")
    yield page
    context.close()
    assert not outside
    assert not broken


def picture(page) -> str:
    return page.locator(".er-drag image").get_attribute("href")


def heading(page, text: str | re.Pattern[str], timeout: float = 5000) -> None:
    """The moved sample has this title, within some milliseconds."""
    sync_api.expect(page.locator(".er-drag svg text")).to_have_text(text, timeout=timeout)


def verdicts(page) -> list[str]:
    return page.locator(".er-verdict").all_inner_texts()


def turn(page) -> float:
    return float(page.locator(".er-knob").inner_text().split()[-2])


def test_the_page_shows_both_models_on_one_sample(page) -> None:
    sync_api.expect(page.locator("h1")).to_have_text("plain net and four turns under SO(2)")
    assert len(verdicts(page)) == 2
    answers = page.locator(".er-answer")
    for i, name in enumerate(("plain net", "four turns")):
        sync_api.expect(answers.nth(i).get_by_text(name, exact=True)).to_have_count(1)
        assert "%" in answers.nth(i).inner_text()
    assert page.get_by_text("label:").inner_text().split()[-1] in "0123456789"


def test_a_drag_turns_the_sample_and_the_answers_follow(page) -> None:
    before, box = picture(page), page.locator(".er-drag").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(middle[0] + 80, middle[1])
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(middle[0] + 80 - 10 * step, middle[1] - 10 * step)
        page.wait_for_timeout(30)
    page.mouse.up()
    sync_api.expect(page.locator(".er-drag image")).not_to_have_attribute("href", before)
    page.wait_for_function("location.search.includes('at=8') || location.search.includes('at=9')")
    assert 80 <= turn(page) <= 92  # a quarter counterclockwise, as the pointer went
    plain, exact = (float(words.split()[-1]) for words in verdicts(page))
    assert plain > 0.1
    assert exact < 1e-5


def test_the_keyboard_is_enough(page) -> None:
    page.get_by_role("slider", name="turn").locator("[tabindex='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator(".er-knob")).to_contain_text("3")
    page.wait_for_function("location.search.includes('at=3')")
    page.get_by_role("button", name="identity").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("/at=-?0(&|$)/.test(location.search)")
    page.get_by_role("button", name="next").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('sample=1')")


def test_a_click_on_a_dot_chooses_its_sample(page) -> None:
    page.get_by_role("group", name="samples; click one").scroll_into_view_if_needed()
    # Samples with equal curves lie on each other; take the last dot, which lies above them.
    x, y = page.evaluate(
        """() => {
          const box = document.querySelector('[aria-label^="samples; click"] .nicegui-echart');
          const chart = getElement(Number(box.id.slice(1))).chart, at = box.getBoundingClientRect();
          const [x, y] = chart.convertToPixel('grid', chart.getOption().series[0].data.at(-1).value.slice(0, 2));
          return [at.x + x, at.y + y];
        }"""
    )
    page.mouse.click(x, y)
    page.wait_for_function("location.search.includes('sample=11')")
    heading(page, "sample 11")


def test_the_worst_element_is_one_click_away(page) -> None:
    section = page.locator(".er-knobs")
    worst = section.get_by_role("button", name=re.compile("^turn")).first
    name = worst.get_attribute("aria-label")
    worst.click()
    sync_api.expect(page.locator(".er-knob")).to_contain_text(name.removeprefix("turn "))


def test_a_link_opens_the_same_view(page, address) -> None:
    page.goto(address + "?sample=7&at=40")
    heading(page, "sample 7")
    sync_api.expect(page.locator(".er-knob")).to_contain_text("40")
    shared = picture(page)
    page.goto(address + "?sample=7&at=40")
    sync_api.expect(page.locator(".er-drag image")).to_have_attribute("href", shared)


def test_a_bad_link_is_explained(page, address) -> None:
    page.goto(address + "?sample=99&at=40")
    sync_api.expect(page.locator(".q-notification")).to_contain_text("sample = 99")
    heading(page, re.compile("sample 1?[0-9]$"))  # the worst one, as without a link


def test_scripts_in_a_link_stay_text(page, address) -> None:
    page.goto(address + "?sample=<img src=x onerror=alert(1)>&at=1")
    sync_api.expect(page.locator(".q-notification")).to_contain_text("no address")
    assert page.locator("img[src='x']").count() == 0


def test_views_are_saved_as_html_and_png(page, tmp_path) -> None:
    for kind in ("HTML", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"save as {kind}").click()
        download.value.save_as(tmp_path / f"view.{kind.lower()}")
    text = (tmp_path / "view.html").read_text()
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    root = ET.fromstring(re.search(r"<svg .*</svg>", text, re.DOTALL)[0])
    assert "plain net, four turns" in "".join(root.itertext())
    assert (tmp_path / "view.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Image.open(tmp_path / "view.png") as image:
        wide, tall = (float(root.get(side).removesuffix("pt")) for side in ("width", "height"))
        assert image.width / image.height == pytest.approx(wide / tall, rel=1e-2)
        assert len(image.getcolors(1 << 20) or []) > 20  # a picture, not an empty sheet


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page, scheme) -> None:
    """At least 4.5 between every text and its ground (WCAG 2, level AA)."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_timeout(300)
    poor = page.evaluate(
        """() => {
          const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
          const light = c => { const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
                               return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
          const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                                if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
          const bad = [];
          for (const e of document.querySelectorAll('.er-page *')) {
            if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.tagName === 'title') continue;
            const style = getComputedStyle(e);
            const ink = parse(e instanceof SVGElement ? style.fill : style.color), paper = ground(e.parentElement);
            const [a, b] = [light(ink), light(paper)].sort((p, q) => q - p);
            if ((a + 0.05) / (b + 0.05) < 4.5) bad.push([e.tagName, e.textContent.trim().slice(0, 30), style.color]);
          }
          return bad;
        }"""
    )
    assert not poor


def test_the_page_opens_where_the_first_model_is_worst(page, address) -> None:
    """At the sample that stands first among the hardest, and the element that stands first among the worst."""
    page.goto(address)
    hardest = page.locator(".er-knobs button[aria-label^='sample ']").first
    heading(page, re.compile("sample"))
    page.wait_for_function("location.search.includes('sample=')")
    heading(page, f"sample {hardest.inner_text()}")
    worst = page.locator(".er-knobs").get_by_role("button", name=re.compile("^turn")).first.inner_text()
    sync_api.expect(page.locator(".er-knob")).to_contain_text(worst)
    assert any("wrong" in words for words in verdicts(page))


def test_right_and_wrong_are_written_and_coloured(page, address) -> None:
    seen = {}
    for sample in range(12):
        page.goto(address + f"?sample={sample}&at=0")
        heading(page, f"sample {sample}")
        page.wait_for_function(f"location.search.includes('sample={sample}&')")
        for line in page.locator(".er-verdict").all():
            mark, word = line.inner_text().split(",")[0].split()
            seen.setdefault((mark, word), set()).add(line.evaluate("e => getComputedStyle(e).color"))
    assert set(seen) <= {("✓", "right"), ("✗", "wrong")}
    colours = list(seen.values())
    assert all(len(colour) == 1 for colour in colours)
    assert len(set.union(*colours)) == len(seen)


def test_home_and_end_go_to_the_ends(page) -> None:
    slider = page.get_by_role("slider", name="turn")
    slider.locator("[tabindex='0']").focus()
    for key, end in (("End", "180"), ("Home", "-180")):
        page.keyboard.press(key)
        sync_api.expect(page.locator(".er-knob")).to_contain_text(re.compile(rf"turn\s*{end} °"))
        page.wait_for_function("/at=-?180(&|$)/.test(location.search)")
        sync_api.expect(slider).to_have_attribute("aria-valuenow", end)


def test_every_click_counts(page) -> None:
    """Twelve samples in a circle: eleven steps forward, faster than anything is drawn, end one before the first."""
    button = page.get_by_role("button", name="next sample")
    button.evaluate("b => { for (let i = 0; i < 11; i++) b.click(); }")
    heading(page, "sample 11")
    page.wait_for_function("location.search.includes('sample=11')")


@pytest.fixture
def busy() -> Iterator[None]:
    """Twice as many processes as this machine has cores, each computing without a pause."""
    loop = "import numpy\nx = numpy.ones((300, 300))\nwhile True: x @ x"
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    load = [subprocess.Popen([sys.executable, "-c", loop], env=env) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for process in load:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy")
def test_the_last_position_wins_on_a_busy_machine(page, address) -> None:
    """Six drags of the picture and six of the slider: each ends where the hand ends, and the page is never loaded again."""
    page.set_default_timeout(120_000)
    page.evaluate("window.stillHere = true")

    def arrives(degrees: float) -> None:
        """Picture, slider, words and address agree on the last position."""
        page.wait_for_function(
            "d => Math.abs(Number(new URLSearchParams(location.search).get('at')) - d) <= 3", arg=degrees
        )
        assert abs(turn(page) - degrees) <= 3
        at = page.evaluate("new URLSearchParams(location.search).get('at')")
        now = page.get_by_role("slider", name="turn").get_attribute("aria-valuenow")
        assert abs(float(now) - degrees) <= 3
        page.wait_for_timeout(500)
        shown = picture(page)
        page.goto(address + f"?sample=0&at={at}")  # what a page says that has not seen the way there
        heading(page, "sample 0", timeout=120_000)  # as all waits of this test
        page.wait_for_function("v => location.search.includes('at=' + v)", arg=at)
        sync_api.expect(page.locator(".er-drag image")).to_have_attribute("href", shown, timeout=120_000)
        page.evaluate("window.stillHere = true")

    def back() -> None:
        page.get_by_role("button", name="identity").click()
        page.wait_for_function("/at=-?0(&|$)/.test(location.search)")

    for degrees in (144, -60, 90):
        back()
        box = page.locator(".er-drag").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        reach = box["width"] / 2 * 0.8
        skew = box["height"] / box["width"]
        page.mouse.move(x + reach, y)
        page.mouse.down()
        for step in range(1, 25):
            a = math.radians(degrees * step / 24)
            page.mouse.move(x + reach * math.cos(a), y - reach * skew * math.sin(a))
        page.mouse.up()
        assert page.evaluate("window.stillHere"), "the page was loaded again"
        arrives(degrees)
    for degrees in (144, -90, 27):
        back()
        box = page.get_by_role("slider", name="turn").bounding_box()
        place = lambda d: (box["x"] + box["width"] * (d + 180) / 360, box["y"] + box["height"] / 2)  # noqa: B023, E731
        page.mouse.move(*place(0))
        page.mouse.down()
        for step in range(1, 25):
            page.mouse.move(*place(degrees * step / 24))
        page.mouse.up()
        assert page.evaluate("window.stillHere"), "the page was loaded again"
        arrives(degrees)


@pytest.mark.parametrize(("width", "least"), [(375, 355), (768, 700), (1700, 1600)])
def test_the_width_is_used_and_never_exceeded(page, width, least) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => { const boxes = [...document.querySelectorAll('.er-panel')].map(e => e.getBoundingClientRect());
                   return Math.max(...boxes.map(b => b.right)) - Math.min(...boxes.map(b => b.left)); }"""
    )
    assert least <= wide <= width
    top = page.locator(".er-drag").bounding_box()["y"]
    assert top < 400, "the picture is in sight"


def test_everything_has_a_name_for_screen_readers(page) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, [role=slider], [role=img], [role=group], .er-page svg[role]')]
             .filter(e => !(e.getAttribute('aria-label') || e.textContent || '').trim())
             .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert not nameless
    charts = page.locator(".nicegui-echart [aria-label], .nicegui-echart[aria-label]")
    assert charts.count() == page.locator(".nicegui-echart").count() > 0
    assert page.locator("html").get_attribute("lang")


def test_the_page_lets_nothing_in_and_stands_in_no_frame(page, address, browser) -> None:
    headers = page.request.get(address).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
    fetched = page.evaluate("fetch('https://example.org/').then(() => 'came', () => 'refused')")
    assert fetched == "refused"
    outer = browser.new_page()
    outer.set_content(f'<iframe src="{address}"></iframe>')
    outer.wait_for_timeout(1000)
    assert not any(frame.url.startswith(address) for frame in outer.frames)
    outer.close()


def test_other_hosts_are_refused(address) -> None:
    request = urllib.request.Request(address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


@pytest.mark.parametrize(
    "place", [["--port", "TAKEN"], ["--host", "0.0.0.0"], ["--host", "203.0.113.7", "--allow-remote"]]
)
def test_a_place_that_cannot_be_is_refused_before_training(place, capsys, monkeypatch) -> None:
    monkeypatch.setattr("erlangen.demo.train_and_audit", lambda _: pytest.fail("trained"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.run(["explore", "--demo", *(port if word == "TAKEN" else word for word in place)]) == 2
    assert ("cannot listen there" in (said := capsys.readouterr().err)) or "reached from other machines" in said


def test_the_command_refuses_bad_usage(tmp_path: Path) -> None:
    assert cli.run(["explore"]) == 2
    assert cli.run(["explore", "net.py:model", "--group", "SO(2)"]) == 2
