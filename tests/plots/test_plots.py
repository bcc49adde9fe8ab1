"""Plots: what is drawn, that files are the same every time, that nothing leaks and nothing is imported too early."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from erlangen import plots
from erlangen.errors import ErlangenError

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["ours", "theirs <&>"]


def drawings():
    """One figure of every kind, made anew."""
    circle = [(0.1 * k, 0.01 * k) for k in range(62)]
    mixed, (a, b, c) = plots.panels(3, polar=[0])
    plots.polar({"a": circle, "b": circle[::2]}, "accuracy", percent=True, ax=a)
    plots.line({"a": [(1, 0.1), (2, 0.0)], "b": [(1, 0.5), (2, 20)]}, "layers", "error", logx=True, logy=True, ax=b)
    plots.bar({"a": [0.1, 0.2]}, NAMES, "accuracy", percent=True, ax=c)
    return {
        "barh": plots.barh({"seen": [0.5, None], "unseen": [0.25, 1.0]}, NAMES, "accuracy", percent=True),
        "heatmap": plots.heatmap([[0, 100], [50, None]], NAMES, ["x", "y, long"], "percent"),
        "log map": plots.heatmap([[1, 100.0]], ["r"], ["x", "y"], "error", log=True, annot=False, title="a map"),
        "scatter": plots.scatter([(0, 0), (1, 2)], [0.1, 0.9], "accuracy", percent=True, title="dots"),
        "sphere": plots.sphere([[0, 0, 1], [0, 0, -1]], [0.1, 0.9], "accuracy", percent=True, here=[1, 0, 0]),
        "panels": mixed,
    }


@pytest.mark.parametrize("kind", drawings())
def test_svg_is_the_same_every_time_and_stands_alone(kind: str) -> None:
    figure = drawings()[kind]
    assert isinstance(figure, Figure)
    text = plots.to_svg(figure)
    assert text == plots.to_svg(figure) == plots.to_svg(drawings()[kind])
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label")
    for word in ("<?xml", "<!", "metadata", "Matplotlib", "href=&quot;http"):
        assert word not in text
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]*)", text)) == set(ids)


def test_names_of_two_figures_do_not_clash() -> None:
    ids = [
        {node.get("id") for node in ET.fromstring(plots.to_svg(figure)).iter() if node.get("id")}
        for figure in [*drawings().values(), plots.scatter([(0, 0), (1, 1)], [0.3, 0.9], "accuracy")]
    ]
    assert sum(map(len, ids)) == len(set().union(*ids)) > 5


def test_text_stays_text_and_is_escaped() -> None:
    words = [node.text for node in ET.fromstring(plots.to_svg(drawings()["barh"])).iter(f"{SVG}text")]
    assert {"ours", "theirs <&>", "accuracy", "seen", "unseen", "50 %", "25 %", "100 %"} <= set(words)


def test_inline_figures_take_the_colours_of_the_page() -> None:
    figure = drawings()["panels"]
    alone, inline = plots.to_svg(figure), plots.to_svg(figure, inline=True)
    assert "#ffffff" in alone
    assert "currentColor" not in alone
    assert "currentColor" in inline
    assert "#ffffff" not in inline


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_files_by_suffix(tmp_path, suffix: str, start: bytes) -> None:
    first, second = (plots.save(drawings()["panels"], tmp_path / f"{i}.{suffix}").read_bytes() for i in "ab")
    assert first.startswith(start)
    assert first == second


def test_other_suffixes_are_refused(tmp_path) -> None:
    with pytest.raises(ErlangenError, match=r"written as \.svg, \.pdf or \.png"):
        plots.save(drawings()["barh"], tmp_path / "a.doc")


# --- what is drawn ---------------------------------------------------------------------------------------------------
def test_barh_draws_one_bar_per_number() -> None:
    (ax,) = drawings()["barh"].axes
    seen, unseen = ax.containers[:2]
    assert [bar.get_width() for bar in seen] == [0.5]
    assert [bar.get_width() for bar in unseen] == [0.25, 1.0]
    assert ax.get_xlim() == (0, 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == NAMES
    top, bottom = (unseen[k].get_y() for k in (0, 1))
    low, high = sorted(ax.get_ylim())
    assert low < top < bottom < high
    assert ax.yaxis_inverted()  # the first name is at the top


def test_logarithmic_bars_begin_at_a_power_of_ten() -> None:
    (ax,) = plots.barh({"error": [0.02, 30.0]}, NAMES, "error", log=True).axes
    assert ax.get_xlim() == pytest.approx((0.01, 100))
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.containers[0]] == [
        pytest.approx((0.01, 0.02)),
        pytest.approx((0.01, 30)),
    ]
    ticks = [label.get_text() for label in ax.get_xticklabels() if 0.005 < label.get_position()[0] < 200]
    assert ticks == ["0.01", "0.1", "1", "10", "100"]


def test_negative_bars_are_not_cut_off() -> None:
    (ax,) = plots.barh({"gain": [-2.0, 4.0]}, NAMES, "gain").axes
    assert ax.get_xlim() == (-2, 4)
    assert [bar.get_width() for bar in ax.containers[0]] == [-2, 4]


def test_curves_have_colours_marks_and_dashes_of_their_own() -> None:
    figure = plots.line({f"m{i}": [(0, i), (1, i)] for i in range(20)}, "x", "y")
    looks = [(c.get_color(), c.get_marker(), c.get_linestyle()) for c in figure.axes[0].lines]
    assert len(set(looks)) == 20
    assert len({color for color, _, _ in looks[:7]}) == 7


def test_what_is_not_positive_is_left_out_of_logarithmic_curves() -> None:
    points = [(0, 1), (1, 0.5), (2, 0), (3, -1)]
    drawn = {
        name: plots.line({"a": points}, "x", "y", **how).axes[0].lines[0].get_xydata().tolist()
        for name, how in {"x": {"logx": True}, "y": {"logy": True}, "both": {"logx": True, "logy": True}}.items()
    }
    assert drawn == {"x": [[1, 0.5], [2, 0], [3, -1]], "y": [[0, 1], [1, 0.5]], "both": [[1, 0.5]]}


def test_heatmap_numbers_can_be_read() -> None:
    ax = drawings()["heatmap"].axes[0]
    assert [(t.get_text(), t.get_color()) for t in ax.texts] == [("0", "white"), ("100", "black"), ("50", "white")]


def test_scatter_has_one_unit_on_both_axes() -> None:
    ax = drawings()["scatter"].axes[0]
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert y1 - y0 > 2


def test_notes_are_shown_at_their_dots_and_are_no_links() -> None:
    figure = plots.scatter([(0, 0), (1, 2)], [0.1, 0.9], "accuracy", notes=["first", 'a "<&> b'])
    root = ET.fromstring(plots.to_svg(figure))
    assert [group.find(f"{SVG}title").text for group in root.iter(f"{SVG}g") if group.get("class") == "note"] == [
        "first",
        'a "<&> b',
    ]
    assert not list(root.iter(f"{SVG}a"))


def test_the_sphere_shows_values_where_they_are() -> None:
    """Values given at the poles and on the equator come out at the cells there."""
    directions = [[0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]
    ax = plots.sphere(directions, [6.0, 5, 4, 3, 2, 1], "value", here=[0, 0, -1]).axes[0]
    cells = ax.collections[0]
    middles = np.array([path.vertices[:-1].mean(0) for path in cells.get_paths()])
    for place, value in (((-1.12, 0), 6), ((1.12, 0), 5), ((-0.14, 0), 4), ((-2.1, 0), 3), ((1.12, 0.98), 2)):
        nearest = np.linalg.norm(middles - place, axis=1).argmin()
        assert cells.get_array()[nearest] == pytest.approx(value, abs=1e-3)
    assert [tuple(line.get_xydata()[0]) for line in ax.lines] == [(-1.12, 0), (1.12, 0), (1.12, 0)]


def test_panels_do_not_overlap_and_nothing_is_cut_off() -> None:
    figure = drawings()["panels"]
    renderer = figure.canvas.get_renderer()
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    for i, box in enumerate(boxes):
        assert box.x0 > 0
        assert box.y0 > 0
        assert box.x1 < figure.bbox.width
        assert box.y1 < figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_the_last_panel_takes_the_rest_of_its_row() -> None:
    figure, axes = plots.panels(5, columns=3)
    assert [list(ax.get_subplotspec().colspan) for ax in axes] == [[0], [1], [2], [0], [1, 2]]
    assert figure.axes == axes


# --- errors ----------------------------------------------------------------------------------------------------------
def test_bad_input() -> None:
    with pytest.raises(ErlangenError, match=r"series\['a'\] has 1 numbers for 2 names"):
        plots.barh({"a": [1.0]}, NAMES, "x")
    with pytest.raises(ErlangenError, match="holds no number"):
        plots.barh({"a": [None, float("nan")]}, NAMES, "x")
    with pytest.raises(ErlangenError, match="no positive number"):
        plots.barh({"a": [0.0, -1.0]}, NAMES, "x", log=True)
    with pytest.raises(ErlangenError, match=r"directions has shape \(3,\) for 1 values"):
        plots.sphere([0, 0, 1], [1.0], "x")
    with pytest.raises(ErlangenError, match="straight axes"):
        plots.polar({"a": [(0, 1)]}, "x", ax=plots.panels()[1][0])


# --- agreement -------------------------------------------------------------------------------------------------------
def points_of(figure):
    return {dots.get_label(): dots.get_offsets().tolist() for dots in figure.axes[0].collections}


def test_agreement_puts_every_point_at_its_two_numbers() -> None:
    figure = plots.agreement(
        {"holds": [("a", 0.5, 0.4), ("b", 0.2, 0.9)], "fails": [("c", 0.8, 1.2)]}, "published", "measured",
        colours={"fails": "#123456"},
    )  # fmt: skip
    ax = figure.axes[0]
    assert points_of(figure) == {"holds (2)": [[0.5, 0.4], [0.2, 0.9]], "fails (1)": [[0.8, 1.2]]}
    assert mpl.colors.to_hex(ax.collections[1].get_facecolor()[0]) == "#123456"
    assert mpl.colors.to_hex(ax.collections[0].get_facecolor()[0]).upper() == plots.COLOURS[0]
    assert ax.get_xscale() == ax.get_yscale() == "linear"
    assert ax.get_xlim() == ax.get_ylim()
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[end, end] for end in ax.get_xlim()]
    assert {text.get_text() for text in ax.texts} == {"a", "b", "c"}
    assert "b: 0.2, 0.9" in plots.to_svg(figure)


@pytest.mark.parametrize(
    ("values", "scale"),
    [((1, 99), "linear"), ((1, 101), "log"), ((0, 5), "linear"), ((0, 1e-3, 5), "symlog"), ((-2, 300), "symlog")],
)
def test_agreement_goes_by_powers_of_ten_where_sizes_differ(values, scale) -> None:
    ax = plots.agreement({"a": [("x", v, v) for v in values]}, "x", "y").axes[0]
    assert ax.get_xscale() == ax.get_yscale() == scale
    low, high = ax.get_xlim()
    assert all(low <= v <= high for v in values)


def test_names_of_close_points_do_not_lie_on_each_other() -> None:
    figure = plots.agreement({"a": [(f"system {k}", 0.5 + 0.001 * k, 0.5) for k in range(6)] + [("z", 1, 1)]}, "x", "y")
    plots.to_png(figure)  # lays the figure out
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer).shrunk(1, 0.8) for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    ("groups", "words"), [({}, "no points"), ({"a": [("x", 1.0, float("nan"))]}, "'x' has the numbers")]
)
def test_agreement_refuses_what_it_cannot_draw(groups, words) -> None:
    with pytest.raises(ErlangenError, match=words):
        plots.agreement(groups, "x", "y")


# --- nothing leaks ---------------------------------------------------------------------------------------------------
def test_the_style_of_the_user_is_neither_used_nor_changed(monkeypatch) -> None:
    expected = plots.to_svg(drawings()["panels"])
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "xtick.direction": "in"}):
        before = dict(mpl.rcParams)
        assert plots.to_svg(drawings()["panels"]) == expected
        assert dict(mpl.rcParams) == before


def test_matplotlib_is_imported_when_it_is_needed_and_pyplot_never() -> None:
    code = (
        "import sys, erlangen as er; er.plots.COLOURS; import erlangen.survey.ledger as ledger; "
        "[ledger.load_system(name) for name in ledger.discover_systems()]; assert 'matplotlib' not in sys.modules; "
        "er.plots.to_svg(er.plots.barh({'a': [1]}, ['x'], 'y')); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
