"""The explorer without a page: knobs, drags, answers, addresses, pictures."""

import base64
import dataclasses
import io
import json
import math
import xml.etree.ElementTree as ET

import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

import erlangen as er
from erlangen import plots
from erlangen.actions import Boxes, Custom, Factors, Field, Permuted
from erlangen.errors import DataError, ErlangenError, GroupElementError, SymmetryError
from erlangen.explorer import Exploration, explore
from erlangen.explorer.charts import chart_of
from erlangen.explorer.controls import control_of
from erlangen.measure import pictures
from erlangen.measure.drawings import Sphere
from erlangen.measure.pictures import svg_of

GROUPS = [
    "SO(2)", "O(2)", "SO(3)", "O(3)", "SE(2)", "SE(3)", "E(2)", "E(3)", "Translation(2)", "Scaling(2)", "Similarity(2)",
    "Cyclic(8)", "Dihedral(4)", "Octahedral", "Shifts(9, 12)", "Symmetric(4)", "Dihedral(4) x Cyclic(2)", "SO(2) x Cyclic(2)",
]  # fmt: skip


def flatten_net(features: int, outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, outputs))


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def exploration(group: str = "SO(2)", **options) -> Exploration:
    """Images under a group of the plane."""
    sym = er.Symmetry(group, input="image", output="invariant")
    x, y = draw(7, 1, 8, 8), torch.arange(7) % 3
    report = er.audit(flatten_net(64), sym, x, y, name="net", elements=12, seed=1)
    return Exploration([report], **options)


# --- knobs -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GROUPS)
def test_knobs_reach_every_element(name, generator) -> None:
    group = er.group(name)
    elements = group.elements() if group.order < 500 else group.sample(20, generator=generator, dtype=torch.float64)
    control = control_of(group, elements, 10.0)
    for element in elements:
        values = control.values(element)
        assert values is not None
        assert len(values) == len(control.knobs)
        torch.testing.assert_close(control.element(values), element, rtol=0, atol=1e-8)
    group.check(control.drag(elements[1], (0.1, 0.2), (0.4, -0.3)))
    start = control.values(group.identity(dtype=torch.float64) if group.element_dtype is None else group.identity())
    assert start is not None
    assert all(abs(value) < 1e-8 for value in start)


def test_knobs_are_in_the_units_that_they_name() -> None:
    turn = control_of(er.SO(3), er.SO(3).identity(dtype=torch.float64)[None], 1.0)
    assert [knob.name for knob in turn.knobs] == ["turn about x", "turn about y", "turn about z"]
    for axis, value in zip("xyz", (20.0, -30.0, 170.0), strict=True):
        values = [value if axis == other else 0.0 for other in "xyz"]
        expected = Rotation.from_euler(axis, value, degrees=True).as_matrix()
        torch.testing.assert_close(turn.element(values), torch.from_numpy(expected))
    similar = control_of(er.Similarity(2), er.Similarity(2).identity(dtype=torch.float64)[None], 5.0)
    assert [knob.name for knob in similar.knobs] == ["scale", "turn", "shift along x", "shift along y"]
    g = similar.element([1.0, 90.0, 3.0, -2.0])
    expected = torch.tensor([[0, -2, 3], [2, 0, -2], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(g, expected)


RANGES = {
    "SO(2) within 15 degrees": [15],
    "SO(3) within 30 degrees": [30] * 3,
    "Translation(2) within 3": [3] * 2,
    "SE(2) within 12.5 degrees and 2": [12.5, 2, 2],
    "Scaling(2) within factor 4": [2],
    "E(2) within 3": [180, 3, 3, 1],
    "Shifts(9, 12) within 2.5": [2, 2],
    "SO(2) within 15 degrees x Translation(1)": [15, 10],
    "Cyclic(8) within 90 degrees": [4],
}
"""Ranges, and the upper ends of their knobs."""


@pytest.mark.parametrize("name", RANGES)
def test_knobs_cover_a_range_and_no_more(name, generator) -> None:
    """They reach each of its elements, 0 lies on their steps, and no position of them, nor any drag, leads out of it."""
    domain = er.groups.domain(name)
    visited = domain.sample(20, generator=generator, dtype=torch.float64)
    control = control_of(domain, visited, 10.0)
    assert sorted(knob.high for knob in control.knobs) == pytest.approx(sorted(RANGES[name]))
    for knob in control.knobs:
        steps = -knob.low / knob.step
        assert steps == pytest.approx(round(steps))
    for element in visited:
        values = control.values(element)
        torch.testing.assert_close(control.element(values), element, rtol=0, atol=1e-8)
        assert all(k.low - 1e-6 <= v <= k.high + 1e-6 for k, v in zip(control.knobs, values, strict=True))
    for _ in range(30):
        place = torch.rand(len(control.knobs), generator=generator).tolist()
        ends = [k.low + (k.high - k.low) * round(2 * p) / 2 for k, p in zip(control.knobs, place, strict=True)]
        assert bool(domain.contains(control.element(ends)))
        far = control.drag(control.element(ends), (0.3, 0.2), (-0.8, 0.9))
        assert bool(domain.contains(far))


def test_an_exploration_stays_in_its_range() -> None:
    state = exploration("SO(2) within 15 degrees")
    assert [(k.low, k.high) for k in state.control.knobs] == [(-15, 15)]
    state.turn([40])
    assert state.values == pytest.approx([15], abs=1e-4)
    state.drag(state.element, (1, 0), (0, 1))
    assert state.values == pytest.approx([15], abs=1e-4)
    state.go({"at": "-90"})
    assert state.values == pytest.approx([-15], abs=1e-4)
    with pytest.raises(GroupElementError, match="outside of SO"):
        state.go({"element": "0,-1,1,0"})
    assert state.values == pytest.approx([-15], abs=1e-4)


def test_drags_follow_the_pointer() -> None:
    plane, space = er.SO(2), er.SO(3)
    turned = control_of(plane, plane.identity(dtype=torch.float64)[None], 1.0).drag(
        plane.identity(dtype=torch.float64), (0.5, 0.0), (0.0, 0.7)
    )
    torch.testing.assert_close(turned, plane.exp(torch.tensor([math.pi / 2], dtype=torch.float64)))
    ball = control_of(space, space.identity(dtype=torch.float64)[None], 1.0)
    right = ball.drag(space.identity(dtype=torch.float64), (0.0, 0.0), (0.5, 0.0))
    assert float(right[0, 2]) > 0.5  # what was in front, at +z, went to the right
    up = ball.drag(space.identity(dtype=torch.float64), (0.0, 0.0), (0.0, 0.5))
    assert float(up[1, 2]) > 0.5
    shifts = er.Shifts(10, 20)
    moved = control_of(shifts, shifts.identity()[None], 1.0).drag(shifts.identity(), (0.0, 0.0), (0.5, 0.2))
    assert moved.tolist() == [9, 5]  # one row up, five columns to the right
    big = er.Scaling(2)
    grown = control_of(big, big.identity(dtype=torch.float64)[None], 1.0).drag(
        big.identity(dtype=torch.float64), (0.2, 0.0), (0.0, 0.6)
    )
    torch.testing.assert_close(grown, 3 * torch.eye(2, dtype=torch.float64))


def test_elements_without_a_logarithm_are_said_to_have_none() -> None:
    group = er.GLPlus(2)
    control = control_of(group, group.identity(dtype=torch.float64)[None], 1.0)
    assert control.values(torch.tensor([[-1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)) is None


# --- answers ---------------------------------------------------------------------------------------------------------
def test_answers_are_those_of_the_model_on_the_moved_sample() -> None:
    state = exploration("Dihedral(4)")
    model, x, y = state.sources[0]
    state.choose(4)
    state.visit(1)
    expected = model(torch.rot90(x[4:5], 1, (-2, -1)))
    answer = state.answers()[0]
    base = model(x[4:5])
    assert answer.error == pytest.approx(float((expected - base).norm() / base.norm()), rel=1e-5)
    assert answer.score == float(expected.argmax() == y[4])
    torch.testing.assert_close(state.moved(), torch.rot90(x[4:5], 1, (-2, -1)))
    right = "right" if answer.score else "wrong"
    assert state.verdict(answer).startswith(right)
    # The audit has visited the same element.
    assert answer.error == pytest.approx(float(state.reports[0].errors[1, 4]), rel=1e-5)


def test_the_worst_elements_are_the_worst_of_the_audit() -> None:
    state = exploration()
    state.choose(2)
    scores, errors = state.reports[0].scores[:, 2], state.reports[0].errors[:, 2]
    order = sorted(range(12), key=lambda k: (float(scores[k]), -float(errors[k])))
    assert state.worst() == order[:5]


def test_an_address_leads_back() -> None:
    for group in ("SO(2)", "Dihedral(4)", "SE(2)"):
        state, other = exploration(group), exploration(group)
        state.choose(5)
        state.visit(3)
        other.go(state.address())
        assert other.sample == 5
        torch.testing.assert_close(other.element, state.element, atol=1e-5, rtol=0)
    sym = er.Symmetry("GLPlus(2)", input="points", output="invariant")
    element = torch.tensor([[[-1.0, 1.0], [0.0, -1.0]]])
    report = er.audit(flatten_net(8), sym, draw(3, 4, 2), elements=element)
    state, other = Exploration([report]), Exploration([report])
    state.visit(0)
    assert "element" in state.address()
    assert "no knob reaches" in state.describe()
    other.go(state.address())
    assert torch.equal(other.element, element[0])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ({"sample": "99"}, "sample = 99"),
        ({"sample": "one"}, "no address"),
        ({"at": "1,2,3"}, "needs 1 finite"),
        ({"at": "nan"}, "needs 1 finite"),
        ({"element": "1,2"}, "needs 4 finite"),
    ],
)
def test_bad_addresses_change_nothing(address, words) -> None:
    state = exploration()
    state.choose(3)
    state.visit(2)
    before = state.address()
    with pytest.raises(DataError, match=words):
        state.go(address)
    assert state.address() == before
    with pytest.raises(GroupElementError, match="not an element"):
        state.go({"element": "1,0,0,5"})
    assert state.address() == before


def test_reports_must_belong_together() -> None:
    sym = er.Symmetry("SO(2)", input="image", output="invariant")
    x = draw(4, 1, 6, 6)
    first = er.audit(flatten_net(36), sym, x, elements=5)
    with pytest.raises(SymmetryError, match="at least one"):
        Exploration([])
    with pytest.raises(SymmetryError, match="differ in elements"):
        Exploration([first, er.audit(flatten_net(36), sym, x, elements=6)])
    mirrored = er.audit(flatten_net(36), er.Symmetry("O(2)", input="image", output="invariant"), x, elements=5)
    with pytest.raises(SymmetryError, match="mix"):
        Exploration([first, mirrored])
    with pytest.raises(DataError, match="does not hold its model"):
        Exploration([dataclasses.replace(first, source=None)])
    with pytest.raises(DataError, match="element = 5"):
        Exploration([first]).visit(5)


def test_only_this_machine_is_served_unless_asked() -> None:
    sym = er.Symmetry("SO(2)", input="image", output="invariant")
    report = er.audit(flatten_net(36), sym, draw(3, 1, 6, 6), elements=5)
    for host in ("0.0.0.0", "192.168.1.7", "example.org", "::"):
        with pytest.raises(ErlangenError, match="reached from other machines"):
            explore(report, host=host)


# --- pictures --------------------------------------------------------------------------------------------------------
TIME = er.Symmetry(
    er.groups.DirectProduct(er.Dihedral(4), er.Symmetric(2)),
    input=Factors((er.actions.Image(), Permuted(axis=-3))),
    output=Factors((Field(), Custom(lambda g, v: torch.where(g[..., :1, None, None] == 0, 1.0, -1.0) * v, "reversal"))),
)
"""Pairs of frames under D4 and the reversal of time, which negates velocities."""


def small_flow(x: Tensor) -> Tensor:
    return x[:, 1:] * torch.ones(2, 1, 1) - x[:, :1]


def boxed(x: Tensor) -> Tensor:
    return torch.cat([x.flatten(1)[:, :2], 1 + x.flatten(1)[:, 2:4].abs()], 1)


def swap(x: dict[str, Tensor]) -> Tensor:
    return x["pos"].flatten(1)[:, :3]


CASES = {
    "image": ("SO(2)", "image", "invariant", draw(4, 3, 8, 8), flatten_net(192)),
    "shifts": ("Shifts(6, 9)", "image", "image", draw(4, 1, 6, 9), nn.ReLU()),
    "field": ("Dihedral(4)", "field", "field", draw(4, 2, 8, 8), nn.Identity()),
    "cloud": ("SO(3)", "points", "vectors", draw(4, 9, 3), nn.Tanh()),
    "vectors": ("SE(3)", "vectors", "invariant", draw(4, 9, 3), flatten_net(27)),
    "sensors": ("SO(3)", "vectors + vectors", "invariant", draw(4, 30, 6), flatten_net(180)),
    "tree": ("E(3)", {"pos": "points", "vel": "vectors"}, "invariant", {"pos": draw(4, 5, 3), "vel": draw(4, 5, 3)}, swap),
    "matrices": ("SO(3)", "spd", "spd", torch.eye(3) + 0.1 * torch.ones(4, 3, 3), nn.Identity()),
    "video": ("Cyclic(4)", "sequence(image, -4)", "invariant", draw(4, 5, 1, 6, 6), flatten_net(180)),
    "scales": ("Scaling(2)", "image", "invariant", draw(4, 1, 8, 8), flatten_net(64)),
    "plane": ("Translation(2)", "image", Boxes((8, 8)), draw(4, 1, 8, 8), boxed),
    "free boxes": ("Dihedral(4)", "boxes", "boxes", draw(4, 3, 4), nn.Identity()),
    "reversal": (TIME.group, TIME.input.action, TIME.output.action, draw(4, 2, 16, 16), small_flow),
    "nodes": ("Symmetric(5)", "permuted", "permuted", draw(4, 5, 3), nn.Tanh()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_data_has_pictures(case) -> None:
    group, into, out, x, model = CASES[case]
    report = er.audit(model, er.Symmetry(group, input=into, output=out), x, elements=6)
    state = Exploration([report, report])
    state.visit(3)
    shown = [*state.input_pictures(), *state.answers()[0].pictures, *state.own_orbit(), *state.all_orbits()]
    assert len(state.input_pictures()) == {"tree": 2, "video": 5}.get(case, 1)
    for drawing in [*shown, *state.scatter()]:
        assert ET.fromstring(svg_of(drawing)).tag == "svg"
        json.dumps(chart_of(drawing), allow_nan=False)
        assert (chart_of(drawing) is None) == isinstance(drawing, (pictures.Picture, Sphere))
    assert len(state.figure().axes) == len(shown) + len(state.answers()[1].pictures) + len(state.scatter())


def axes_of(drawing):
    _, (ax,) = plots.panels(polar=[0] if drawing.polar else ())
    drawing.draw(ax)
    return ax


def test_boxes_are_drawn_where_they_are() -> None:
    """A box of 4 by 2 pixels, its middle 3 to the right and 1 up, in a picture of 8 by 16."""
    ax = axes_of(pictures.box_picture(torch.tensor([[3.0, 1, 4, 2]]), torch.zeros(1, 4), (8, 16), "box"))
    (box,) = ax.patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (1, 0, 4, 2)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-8, 8), (-4, 4))


def test_orbits_of_scales_and_shifts_are_drawn_where_the_elements_are() -> None:
    """Along a line in powers of 2, and in the plane; the identity has a ring, and the element we are at is marked."""
    for group, axis in (("Scaling(2)", "powers of 2"), ("Translation(2)", "to the right and up")):
        sym = er.Symmetry(group, input="image", output="invariant")
        report = er.audit(flatten_net(64), sym, draw(3, 1, 8, 8), elements=9)
        state = Exploration([report])
        state.visit(4)
        (plot,) = state.own_orbit()
        ax = axes_of(plot)
        assert axis in ax.get_xlabel()
        marks = {line.get_marker(): line.get_xydata().tolist() for line in ax.lines if line.get_linestyle() == "None"}
        place = sym.group.log(state.element.double()).tolist()
        chart = chart_of(plot)
        assert [0, 0] in chart["series"][-1]["data"]
        if group == "Scaling(2)":
            here = pytest.approx(place[0] / math.log(2))
            assert marks["o"] == [[0, 0]]
            assert ax.lines[0].get_xydata()[:, 0].tolist() == pytest.approx(sorted(ax.lines[0].get_xydata()[:, 0]))
            assert len(ax.lines[0].get_xydata()) == 10
            assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [here]
            assert chart["series"][0]["markLine"]["data"] == [{"xAxis": here}]
        else:
            assert marks == {"o": [[0, 0]], "s": [pytest.approx(place)]}
            assert len(ax.collections[0].get_offsets()) == len(chart["series"][0]["data"]) == 9
            assert chart["series"][1]["data"] == [pytest.approx(place)]


def test_charts_of_the_page_say_what_the_figures_say() -> None:
    """The circle in degrees, closed, and class scores and samples in their order."""
    state = exploration(classes=("cat", "dog", "owl"))
    state.visit(5)
    (circle,) = state.own_orbit()
    chart = chart_of(circle)
    angles = [angle for _, angle in chart["series"][0]["data"]]
    assert angles == pytest.approx([*range(0, 360, 30), 0])
    assert chart["series"][1]["data"][-1] == [circle.values.high, pytest.approx(150)]
    (dots,) = state.scatter()
    assert [dot["name"] for dot in chart_of(dots)["series"][0]["data"]] == list(dots.notes)
    assert dots.keys == state.samples
    (scores,) = state.answers()[0].pictures
    assert [bar["value"] for bar in chart_of(scores)["series"][0]["data"]] == list(scores.numbers)


def test_bones_lie_below_the_dots_that_they_join() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    lines = chart_of(pictures.cloud_picture(x, None, 1.0, "skeleton", bones=((0, 1), (0, 2))))["series"]
    assert [line["type"] for line in lines] == ["lines", "lines", "scatter"]
    assert [line["coords"] for line in lines[1]["data"]] == [[[0, 0], [1, 0]], [[0, 0], [0, 0.5]]]


def test_arrows_point_from_their_tails_to_their_tips() -> None:
    """In the plane, with y up: a field of one vector to the right and one up, half as long as its pixel at most."""
    field = torch.tensor([[[1.0, 0.0]], [[0.0, 0.5]]], dtype=torch.float64)
    picture = pictures.field_picture(field, 1.0, "field")
    right, up = ([0.05, 0.5], [0.95, 0.5]), ([1.5, 0.275], [1.5, 0.725])
    arrows = chart_of(picture)["series"][1]["data"]
    assert [arrow["coords"] for arrow in arrows] == [[pytest.approx(end) for end in way] for way in (right, up)]
    (quiver,) = axes_of(picture).collections
    assert quiver.XY.tolist() == [pytest.approx(right[0]), pytest.approx(up[0])]
    assert [*zip(quiver.U, quiver.V, strict=True)] == [pytest.approx((0.9, 0)), pytest.approx((0, 0.45))]


def test_space_is_seen_with_z_up_and_near_points_in_front() -> None:
    picture = pictures.cloud_picture(torch.tensor([[0.0, -1, 0], [0, 0, 1], [0, 1, 0]]).double(), None, 1.0, "cloud")
    assert picture.axes["z"][1] > 0.8
    far, middle, near = picture.tips
    assert far == pytest.approx(picture.axes["y"])
    assert middle == pytest.approx(picture.axes["z"])
    assert near == pytest.approx([-c for c in far])
    assert len(set(picture.colours)) == 3


def test_a_graph_is_drawn_with_its_edges() -> None:
    adj = torch.zeros(3, 5, 5)
    adj[:, 0, 1] = adj[:, 1, 0] = adj[:, 2, 4] = adj[:, 4, 2] = 1
    x = {"adj": adj, "x": draw(3, 5, 2)}
    sym = er.Symmetry("Symmetric(5)", input="graph", output="invariant")
    report = er.audit(lambda g: g["adj"].sum((1, 2))[:, None] + g["x"].mean(1), sym, x, elements=8)
    edges, nodes = axes_of(Exploration([report]).input_pictures()[0]).collections
    assert len(edges.get_segments()) == 4
    assert len(nodes.get_offsets()) == 5


def test_image_pixels_are_those_of_the_sample() -> None:
    x = torch.tensor([[0.0, 0.5], [1.0, 0.25]])
    picture = svg_of(pictures.image_picture(x, pictures.Reach.of(x), "two by two"))
    data = "".join(picture.split("base64,")[1].split('"')[0].split())
    pixels = Image.open(io.BytesIO(base64.b64decode(data)))
    assert [pixels.getpixel((j, i))[0] for i in range(2) for j in range(2)] == [0, 128, 255, 64]


def test_class_scores_become_probabilities() -> None:
    state = exploration(classes=("cat", "dog", "owl"))
    answer = state.answers()[0]
    notes = " ".join(ET.fromstring(svg_of(answer.pictures[0])).itertext())
    model, x, _ = state.sources[0]
    for name, share in zip(("cat", "dog", "owl"), model(x[:1]).softmax(-1)[0].tolist(), strict=True):
        assert name in notes
        assert f"{100 * share:.0f} %" in notes
    assert state.label() == "cat"
