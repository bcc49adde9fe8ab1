"""Drawings of orbits against numbers by hand: what they hold, what they mark, and which one a group gets."""

import math

import numpy as np
import pytest
import torch

import erlangen as er
from erlangen import plots as charts
from erlangen.measure import drawings
from erlangen.measure import plots as orbit_plots


# --- drawings --------------------------------------------------------------------------------------------------------
def drawn(drawing):
    _, (ax,) = charts.panels(polar=[0] if drawing.polar else ())
    drawing.draw(ax)
    return ax


VALUES = drawings.Values.of([0.25, 0.75], "error")


def test_axes_of_values():
    assert VALUES.limits == (0.0, 0.75)
    assert drawings.Values.of([-1.0, 2.0], "v").limits == (-1.0, 2.0)
    assert drawings.Values.of([0.0, 0.0], "v").limits == (0.0, 1.0)
    assert drawings.Values.of([0.3], "v", percent=True).limits == (0.0, 1.0)
    assert drawings.Values("v", 0, 1, percent=True).text(0.256) == "26 %"
    assert VALUES.text(0.25678) == "0.257"
    assert drawings._few_names(8) == [str(i) for i in range(8)]
    assert drawings._few_names(9) == ["0", "", "2", "", "4", "", "6", "", "8"]


def test_curves_mark_the_identity_and_the_place():
    curve = drawings.Curves(
        {"a": [(-1.0, 0.25), (0.0, 0.5), (2.0, 0.75)]}, "x", VALUES, (-2.0, 2.0), identity=True, here=1.5
    )
    ax = drawn(curve)
    assert ax.get_xlim() == (-2.0, 2.0)
    assert ax.get_ylim() == (0.0, 0.75)
    lines = [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in ax.lines]
    assert ([-1.0, 0.0, 2.0], [0.25, 0.5, 0.75]) in lines
    assert ([0.0], [0.5]) in lines
    assert any(x == [1.5, 1.5] for x, _ in lines)
    assert len(drawn(drawings.Curves({"a": [(0.0, 0.5)]}, "x", VALUES, (-2.0, 2.0))).lines) == 1


def test_circles_mark_the_place_along_the_radius():
    ax = drawn(drawings.Circle({"a": [(0.0, 0.25), (3.0, 0.75)]}, VALUES, here=2.0))
    marks = [line for line in ax.lines if list(line.get_xdata()) == [2.0, 2.0]]
    assert len(marks) == 1
    assert list(marks[0].get_ydata()) == list(ax.get_ylim())


@pytest.mark.parametrize("count", [10, 11])
def test_bars_of_few_and_many(count):
    ax = drawn(drawings.Bars({"a": [0.5] * count}, [str(i) for i in range(count)], VALUES, here=3))
    assert ax.get_xticklabels()[0].get_horizontalalignment() == ("right" if count > 10 else "center")
    assert any([float(v) for v in line.get_xdata()] == [3.0, 3.0] for line in ax.lines)
    assert "per element" in ax.get_ylabel() + ax.get_xlabel()


def test_maps_of_shifts_frame_two_entries():
    ax = drawn(drawings.ShiftMap([[0.25, 0.5], [0.75, 0.0]], "title", VALUES, here=(1, 0)))
    frames = [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]
    assert frames == [((0, 0), 1, 1), ((0, 1), 1, 1), ((0, 1), 1, 1)]  # x is the column
    assert len(ax.texts) == 0  # numbers would hide the colours
    assert len(drawn(drawings.ShiftMap([[0.25, 0.5], [0.75, 0.0]], "title", VALUES)).patches) == 1


def test_marked_dots():
    dots = drawings.Dots([(0.0, 1.0), (2.0, 3.0)], [0.1, 0.2], ["a", "b"], "t", VALUES, "c", keys=[7, 9], here=9)
    assert dots.marks() == [(2.0, 3.0)]
    assert drawings.Dots([(0.0, 1.0)], [0.1], ["a"], "t", VALUES, "c", marked=(5.0, 6.0)).marks() == [(5.0, 6.0)]
    assert drawings.Dots([(0.0, 1.0)], [0.1], ["a"], "t", VALUES, "c").marks() == []
    plain = drawn(drawings.Dots([(0.0, 1.0), (4.0, 1.0)], [0.1, 0.2], ["a", "b"], "t", VALUES, "c"))
    ringed = drawn(drawings.Dots([(0.0, 1.0), (4.0, 1.0)], [0.1, 0.2], ["a", "b"], "t", VALUES, "c", identity=True))
    assert len(ringed.lines) == len(plain.lines) + 1
    assert [float(v) for v in (*ringed.lines[-1].get_xdata(), *ringed.lines[-1].get_ydata())] == [0.0, 0.0]


def test_drawings_alone_are_pages():
    assert "<svg" in drawings.drawing_svg(drawings.Circle({"a": [(0.0, 0.25), (3.0, 0.75)]}, VALUES))
    assert "<svg" in drawings.drawing_svg(drawings.Bars({"a": [0.5]}, ["0"], VALUES))


# --- which drawing ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("SO(2)", "circle"), ("Cyclic(4)", "bars"), ("Cyclic(5)", "circle"), ("Scaling(3)", "line"),
        ("Translation(1)", "line"), ("Translation(2)", "plane"), ("SO(3)", "sphere"), ("E(3)", "sphere"), ("O(3)", "sphere"),
        ("Translation(3)", "sphere"), ("Symmetric(4)", "bars"), ("Symmetric(5)", "ranked"), ("Shifts(4, 4)", "shifts"),
        ("Shifts(64)", "bars"), ("Shifts(65)", "ranked"), ("Dihedral(32)", "bars"), ("Dihedral(33)", "ranked"),
        ("GLPlus(3)", "ranked"),
    ],
)  # fmt: skip
def test_kinds_of_orbits(group, kind):
    assert orbit_plots.kind_of_orbit(er.group(group)) == kind


def report(group, into, model, x, **options):
    symmetry = er.Symmetry(group, input=into, output="invariant")
    return er.audit(model, symmetry, x, progress=False, **options)


def test_circles_and_bars_hold_the_means_of_elements():
    """f = x_1 on (1, 0) and (0, 1): |cos a - 1| and, as f is zero, |sin a|; the mean of both."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found = report("SO(2)", "vectors", lambda z: z[:, :1], x, elements=8)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    [[circle]] = orbit_plots.orbit_plots([found, found], quarter)
    first, second = circle.series
    assert first.endswith(" (1)")
    assert second.endswith(" (2)")
    angles, means = zip(*next(iter(circle.series.values())), strict=True)
    assert list(angles) == pytest.approx([i * math.pi / 4 for i in range(8)], abs=1e-9)
    assert list(means) == pytest.approx([(1 - math.cos(a) + abs(math.sin(a))) / 2 for a in angles], abs=1e-9)
    assert circle.here == pytest.approx(math.pi / 2)
    few = report("Cyclic(4)", "vectors", lambda z: z[:, :1], x)
    [[bars]] = orbit_plots.orbit_plots([few], torch.tensor(2))
    assert list(bars.names) == ["identity", "1", "2", "3"]
    assert next(iter(bars.series.values())) == pytest.approx([0.0, 1.0, 1.0, 1.0])
    assert bars.here == 2
    assert orbit_plots._index_of(torch.tensor(9), few) is None


def test_lines_planes_and_ranks():
    x = torch.tensor([[[1.0]], [[2.0]], [[4.0]]], dtype=torch.float64)
    found = report(
        "Translation(1)",
        "points",
        lambda z: z[:, 0],
        x,
        elements=er.group("Translation(1)").exp(torch.tensor([[2.0], [-1.0]]).double()),
    )
    [[line]] = orbit_plots.orbit_plots([found], er.group("Translation(1)").exp(torch.tensor([1.5]).double()))
    shares = (1 + 1 / 2 + 1 / 4) / 3
    assert next(iter(line.series.values())) == [
        (-1.0, pytest.approx(shares)),
        (0.0, 0.0),
        (2.0, pytest.approx(2 * shares)),
    ]
    assert (line.reach, line.here, line.identity) == ((-2.0, 2.0), 1.5, True)
    shifts = er.group("Translation(2)").exp(torch.tensor([[3.0, 4.0], [-6.0, 0.0]], dtype=torch.float64))
    flat = report(
        "Translation(2)", "points", lambda z: z.sum((1, 2))[:, None], torch.ones(1, 1, 2).double(), elements=shifts
    )
    [[plane]] = orbit_plots.orbit_plots([flat], er.group("Translation(2)").exp(torch.tensor([1.0, -1.0]).double()))
    assert list(plane.points) == [(3.0, 4.0), (-6.0, 0.0)]
    assert list(plane.numbers) == pytest.approx([3.5, 3.0])
    assert plane.marked == (1.0, -1.0)
    assert list(plane.notes) == ["(3, 4): 3.5", "(-6, 0): 3"]
    assert "at most 6" in plane.caption
    sizes = report(
        "Scaling(1)", "vectors", lambda z: z, torch.ones(1, 1).double(), elements=torch.tensor([[[4.0]]]).double()
    )
    [[powers]] = orbit_plots.orbit_plots([sizes])
    assert next(iter(powers.series.values()))[-1] == (pytest.approx(2.0), pytest.approx(3.0))
    many = report("Symmetric(5)", "permuted", lambda z: z[:, 0], torch.tensor([[[1.0], [2], [3], [4], [5]]]).double())
    [[ranked]] = orbit_plots.orbit_plots([many])
    points = next(iter(ranked.series.values()))
    assert len(points) == 101
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (100.0, pytest.approx(4.0))
    assert [y for _, y in points] == sorted(y for _, y in points)


def test_maps_hold_shifts_by_row_and_column():
    x = torch.arange(6.0).view(1, 1, 2, 3) + 1
    found = report("Shifts(2, 3)", "image", lambda z: z[:, 0, 0, :1], x)
    [[table]] = orbit_plots.orbit_plots([found], torch.tensor([1, 2]))
    expected = [[abs(float(torch.roll(x, (r, c), (2, 3))[0, 0, 0, 0]) - 1) for c in range(3)] for r in range(2)]
    assert [list(row) for row in table.table] == [pytest.approx(row) for row in expected]
    assert table.here == (1, 2)


def test_rotations_of_space_by_angle_and_by_where_z_points():
    """f = z of the unit vector z: 1 - cos of the angle, for turns about x by 10, 40 and 100 degrees."""
    angles = torch.tensor([10.0, 40.0, 41.0, 100.0], dtype=torch.float64).deg2rad()
    turns = torch.zeros(4, 3, 3, dtype=torch.float64)
    turns[:, 0, 0] = 1
    turns[:, 1, 1] = turns[:, 2, 2] = angles.cos()
    turns[:, 1, 2], turns[:, 2, 1] = -angles.sin(), angles.sin()
    x = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    found = report("O(3)", "vectors", lambda z: z[:, 2:], x, elements=turns)
    [[curve], [sphere]] = orbit_plots.orbit_plots([found], turns[1])
    points = next(iter(curve.series.values()))
    assert [a for a, _ in points] == pytest.approx([0.0, 10.0, 40.5, 100.0])
    drops = (1 - angles.cos()).tolist()
    assert [v for _, v in points] == pytest.approx([0.0, drops[0], (drops[1] + drops[2]) / 2, drops[3]])
    assert curve.here == pytest.approx(40.0)
    assert curve.reach == (0, 180)
    np.testing.assert_allclose(sphere.directions, turns[:, :, 2].numpy())
    assert list(sphere.numbers) == pytest.approx(drops)
    assert list(sphere.here) == pytest.approx(turns[1, :, 2].tolist())
    mirrored = orbit_plots._rotation_angles(-turns)
    assert mirrored.tolist() == pytest.approx([10.0, 40.0, 41.0, 100.0])


def test_samples_by_their_curves():
    """Curves over three elements that lie on one line: the second component is zero."""
    x = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    found = report("O(1)", "vectors", lambda z: (z > 0).double() * z, x)
    dots = orbit_plots.sample_plot(found, chosen=2)
    assert dots is not None
    assert [abs(b) for _, b in dots.points] == pytest.approx([0.0] * 3, abs=1e-9)
    assert list(dots.numbers) == pytest.approx([0.5] * 3)
    assert list(dots.keys) == [0, 1, 2]
    assert dots.notes[0] == "sample 0: 0.5"
    assert dots.marks() == [dots.points[2]]
    assert orbit_plots.sample_plot(report("O(1)", "vectors", lambda z: z, x[:2])) is None
    single = report("O(1)", "vectors", lambda z: z, x, elements=torch.tensor([1]))
    one = orbit_plots.sample_plot(single)
    assert one is not None
    assert [b for _, b in one.points] == [0.0] * 3


def test_one_axis_for_all_reports():
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [4.0]], dtype=torch.float64)
    found = report("O(1)", "vectors", lambda z: z, x, y=y)
    values = orbit_plots.common_values([found])
    assert (values.label, values.percent) == ("mse", False)
    assert values.limits == (0.0, pytest.approx((4 + 36) / 2))
    assert orbit_plots.value_name(report("O(1)", "vectors", lambda z: z, x)) == "equivariance error"


@pytest.mark.parametrize(("elements", "first"), [(24, "identity"), (5, "0")])
def test_the_first_bar_is_the_identity_where_all_elements_are_visited(elements, first):
    symmetry = er.Symmetry("S(4)", input="permuted", output="invariant")
    report = er.audit(lambda x: x.sum((1, 2)), symmetry, torch.randn(4, 4, 2), elements=elements)
    bars = orbit_plots._bars([report], VALUES, None)
    assert bars.names == [first, *map(str, range(1, elements))]
