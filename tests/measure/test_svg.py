"""Scales, their round numbers, and what plots write."""

import xml.etree.ElementTree as ET

import pytest

from erlangen.measure import svg


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (svg.Scale(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (svg.Scale(0, 0.38), [0, 0.1, 0.2, 0.3]),
        (svg.Scale(-1, 1), [-1, -0.5, 0, 0.5, 1]),
        (svg.Scale(0, 1234), [0, 250, 500, 750, 1000]),
        (svg.Scale(3, 3), [3]),
        (svg.Scale(0.01, 10, log=True), [0.01, 0.1, 1, 10]),
        (svg.Scale(0.5, 20, log=True), [1, 10]),
        (svg.Scale(1e-12, 1, log=True), [1e-12, 1e-9, 1e-6, 1e-3, 1]),
    ],
)
def test_ticks_are_round_and_inside(scale, ticks) -> None:
    assert scale.ticks() == pytest.approx(ticks)


def test_logarithmic_positions() -> None:
    scale = svg.log_scale_of([0.02, 0.0, 30.0])
    assert (scale.low, scale.high) == pytest.approx((0.01, 100))
    assert [scale.fraction(value) for value in (0.01, 0.1, 1, 100, 0, -1, 1e9)] == pytest.approx(
        [0, 0.25, 0.5, 1, 0, 0, 1]
    )


def test_table_plot_has_a_cell_for_every_number_that_can_be_read() -> None:
    values = [[0.0, 100.0, None], [50.0, None, 25.0]]
    picture = svg.table_plot(values, ["a <&>", "b"], ["x", "y, long", "z"], svg.Scale(0, 100), "percent")
    root = ET.fromstring(picture)
    cells = root.findall(".//rect")
    assert [cell.find("title").text for cell in cells] == ["a <&>, x: 0", "a <&>, y, long: 100", "b, x: 50", "b, z: 25"]
    inks = [node.get("style") for node in root.iter("text") if node.get("style")]
    assert inks == ["fill:#fff", "fill:#000", "fill:#fff", "fill:#fff"]
    assert cells[0].get("fill") != cells[1].get("fill")


def test_row_plot_draws_one_bar_per_value() -> None:
    picture = svg.row_plot([("a", [1.0, None]), ("b <&>", [2.0, 4.0])], ["first", "second"], svg.Scale(0, 4), "error")
    root = ET.fromstring(picture)
    bars = {
        bar.find("title").text: float(bar.get("width")) for bar in root.iter("rect") if bar.find("title") is not None
    }
    assert set(bars) == {"first, a: 1", "first, b <&>: 2", "second, b <&>: 4"}
    assert bars["second, b <&>: 4"] == 2 * bars["first, b <&>: 2"] == 4 * bars["first, a: 1"]


def test_a_grid_holds_its_plots_side_by_side() -> None:
    plot = svg.row_plot([("a", [1.0])], ["first"], svg.Scale(0, 4), "error")
    width, height = (float(ET.fromstring(plot).get(side)) for side in ("width", "height"))
    root = ET.fromstring(svg.grid([[plot, plot], [plot]], "three"))
    assert [(float(e.get("x")), float(e.get("y"))) for e in root] == [(0, 0), (width + 18, 0), (0, height + 18)]
    assert float(root.get("width")) >= 2 * width
    assert float(root.get("height")) >= 2 * height
