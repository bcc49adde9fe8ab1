"""A report in headless Chromium: it fits a phone and a desktop, its text has contrast, nothing is fetched."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.measure import report_page

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need a Chromium (Debian's package chromium)"),
]

WIDE = """() => [...document.querySelectorAll('body, body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5 || e.scrollWidth > e.clientWidth + 1 && e.clientWidth);
}).filter(e => !(e instanceof SVGElement) || e.tagName === 'svg').map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 60))"""


def flat_net(features: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, 3))


def pages() -> dict[str, str]:
    """Reports of images, sensors, shifts, trees, with long names, layers and several models."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(6) % 3
    quarter = er.Symmetry("Dihedral(4)", input="image", output="invariant")
    pictures, sensors = torch.rand(6, 1, 12, 12, generator=g), torch.randn(6, 30, 6, generator=g)
    turns = er.Symmetry("SO(3)", input="vectors + vectors", output="invariant")
    tree = er.Symmetry("E(3)", input={"pos": "points", "vel": "vectors"}, output="invariant")
    bodies = {key: torch.randn(6, 5, 3, generator=g) for key in ("pos", "vel")}
    plain = flat_net(144)
    reports = [
        er.audit(net, quarter, pictures, y, layers=True, name=name)
        for name, net in (("plain", plain), ("exact", er.symmetrize(plain, quarter, how="orbit")))
    ]
    shifts = er.Symmetry("Shifts(12, 12)", input="image", output="invariant")
    return {
        "two models": report_page(reports, intro=["What comes first."]),
        "sensors": er.audit(
            flat_net(180), turns, sensors, y, elements=24, name="package.module:a_model_" * 4
        ).to_html(),
        "shifts": er.audit(plain, shifts, pictures).to_html(),
        "tree": er.audit(lambda x: x["pos"][:, 0] * x["vel"][:, 0], tree, bodies, elements=9).to_html(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for name, text in pages().items():
        (folder / f"{name}.html").write_text(text)
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("name", ["two models", "sensors", "shifts", "tree"])
@pytest.mark.parametrize("width", [375, 1280])
def test_a_report_fits(browser, folder, name, width) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, is_mobile=width < 700)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / f"{name}.html").as_uri())
    for details in page.locator("details").all():
        details.evaluate("e => { e.open = true }")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate("visualViewport.scale") == 1
    assert page.evaluate(WIDE) == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.close()


def test_rows_of_tables_are_readable_on_a_phone(browser, folder) -> None:
    """Every cell stands behind the name of its column."""
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto((folder / "two models.html").as_uri())
    cells = page.locator("table").first.locator("tbody tr").first.locator("td")
    names = cells.evaluate_all("all => all.map(e => getComputedStyle(e, '::before').content)")
    assert names[:3] == ['"model"', '"accuracy as given"', '"over the orbit"']
    tops = cells.evaluate_all("all => all.map(e => e.getBoundingClientRect().top)")
    assert tops == sorted(set(tops))
    assert page.locator("thead").first.is_hidden()
    page.close()
