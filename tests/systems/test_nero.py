"""NERO: the actions of the flow, classical correlation, boxes of ink, the audits' numbers by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from erlangen import survey
from erlangen.actions import Boxes, Image
from erlangen.enforce import symmetrize
from erlangen.errors import ActionError, DataError, ErlangenError, ShapeError
from erlangen.measure import assert_equivariant, audit
from erlangen.simulate import particle_images
from erlangen.survey import Result
from erlangen.symmetry import Symmetry
from erlangen.systems.images.nero import _boxes as boxes
from erlangen.systems.images.nero import _clouds as clouds
from erlangen.systems.images.nero import _common as common
from erlangen.systems.images.nero import _digits as digits
from erlangen.systems.images.nero import _flow as flow
from erlangen.systems.images.nero import _properties as properties
from erlangen.systems.images.nero import experiment as system
from erlangen.testing import check_layer

DOUBLE = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the experiment --------------------------------------------------------------------------------------------------
def test_curves_and_figure_of_a_run(smoke: Callable[[str], dict[str, Any]]) -> None:
    result = Result.from_dict(smoke("nero"))
    circle, shifts, elements = system.figure(result).axes
    assert len(circle.patches) == len(digits.RIVALS)
    assert len(shifts.lines) == 4
    assert len(elements.patches) == 32
    for part in ("digits, turn", "digits, scale", "digits, shift", "flow, element", "clouds, angle", "boxes, shift"):
        assert sum(row["part"] == part for row in result.rows) >= 6
    mean = {row["model"]: row for row in result.rows if row["part"] == "flow"}["CNN"]["orbit mean"]
    parts = [row["CNN"] for row in result.rows if row["part"] == "flow, element"]
    assert mean == pytest.approx(sum(parts) / 16)  # the aggregate is the mean of the curve


def test_properties_that_must_hold_do_with_other_seeds() -> None:
    claims = survey.properties(survey.Run(seed=7), *properties.PROPERTIES).claims
    assert [claim.id for claim in claims if claim.verdict != "holds"] == []


def test_curves_stand_apart_from_their_table() -> None:
    rows = [{"model": "a", "seed": k, "error": 1.0, "curves": {"turn": [k, 2.0, math.nan]}} for k in range(3)]
    table, curves = common.apart(survey.Table("toy", rows, survey.Run("full")))
    assert set(table.runs[0]) == {"part", "model", "seed", "error"}
    rows = common.curve_rows("toy, turn", ["0", "90", "180"], {"a": curves["a"]["turn"]})
    assert rows == [
        {"part": "toy, turn", "model": "0", "a": 1.0},
        {"part": "toy, turn", "model": "90", "a": 2.0},
        {"part": "toy, turn", "model": "180"},
    ]


# --- flow ------------------------------------------------------------------------------------------------------------
def test_sixteen_elements_by_name() -> None:
    names = flow.element_names()
    assert len(set(names)) == 16
    assert names[0] == "0°"
    swapped = [k for k, name in enumerate(names) if "reversed" in name]
    x = torch.rand(2, 4, 4, generator=rng())
    u = torch.randn(2, 4, 4, generator=rng())
    g = flow.GROUP.elements()
    only_time = g[names.index("0° reversed")]
    assert torch.equal(flow.SYMMETRY.input.act(only_time, x), x.flip(0))
    assert torch.equal(flow.SYMMETRY.output.act(only_time, u), -u)
    turned = g[names.index("90°")]
    assert torch.equal(flow.SYMMETRY.input.act(turned, x), torch.rot90(x, 1, (-2, -1)))
    spun = torch.rot90(u, 1, (-2, -1))
    assert torch.equal(flow.SYMMETRY.output.act(turned, u), torch.stack([-spun[1], spun[0]]))
    assert len(swapped) == 8


def test_the_action_is_that_of_the_world() -> None:
    """Particles on a turned and reversed flow have the field that the action gives; here by a closed form, not by pixels."""

    def shear(p: Tensor) -> Tensor:
        return torch.stack([0.2 * p[..., 1], torch.zeros_like(p[..., 0])], -1)

    def field(velocity: Callable[[Tensor], Tensor]) -> Tensor:
        return particle_images(velocity, 1, 12, generator=rng(), dtype=DOUBLE).field

    g = flow.GROUP.elements()
    plane, time = flow.GROUP.split(g)
    for k in range(16):
        R = flow.GROUP.factors[0].linear(plane[k], dtype=DOUBLE)
        sign = -1.0 if int(time[k, 0]) else 1.0
        made = field(lambda p, R=R, sign=sign: sign * shear(p @ R) @ R.mT)
        torch.testing.assert_close(flow.SYMMETRY.output.act(g[k], field(shear)), made, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (-1.4, 2.3)])
def test_correlation_finds_a_drift(shift: tuple[float, float]) -> None:
    drift = torch.tensor(shift, dtype=DOUBLE)
    pairs = particle_images(lambda p: drift.expand_as(p), 2, 64, density=0.1, generator=rng(), dtype=DOUBLE)
    found = flow.correlate(pairs.frames)
    assert found.shape == (2, 2, 7, 7)
    torch.testing.assert_close(found.mean((0, 2, 3)), drift, rtol=0, atol=0.1)
    if shift == (0.0, 0.0):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (DOUBLE, 1e-12)])
def test_correlation_is_equivariant(dtype: torch.dtype, tol: float) -> None:
    x, _ = flow.pairs(3, 0)
    worst = assert_equivariant(flow.correlate, x.to(dtype), flow.SYMMETRY, tol=tol)
    assert worst <= tol
    report = audit(flow.correlate, flow.SYMMETRY, x.to(dtype), progress=False)
    assert report.certificate == "exact"
    assert report.orbit.closed


def test_windows_without_particles_have_no_displacement() -> None:
    assert torch.equal(flow.correlate(torch.zeros(1, 2, 16, 16)).abs().isfinite(), torch.ones(1, 2, 1, 1) > 0)


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 3, 64, 64), (1, 2, 60, 64), (1, 2, 8, 8)])
def test_frames_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="multiples of 8"):
        flow.correlate(torch.zeros(shape))


def test_training_flows_are_lopsided() -> None:
    _, y = flow.pairs(40, 0)
    middle = y.mean((0, 2, 3))
    assert float(middle[0]) > 2
    assert abs(float(middle[1])) < 0.5
    assert float(y.abs().max()) < flow.REACH


# --- networks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "shape"),
    [(digits.PlainCNN, (2, 1, 28, 28)), (flow.FlowCNN, (2, 2, 32, 32))],
)
def test_averages_keep_the_contract(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    symmetry = flow.SYMMETRY if build is flow.FlowCNN else Symmetry("Cyclic(4)", input="image", output="invariant")
    model = symmetrize(build(), symmetry, how="orbit")
    check_layer(
        model.double(), torch.rand(shape, generator=rng(), dtype=DOUBLE), tol=1e-10, skip=["compile", "vmap", "dtype"]
    )


def test_averaged_classifier_is_exact_under_quarter_turns() -> None:
    model = digits.averaged_over_turns(digits.PlainCNN()).double()
    x = digits.on_disk(torch.rand(3, 1, 28, 28, generator=rng(), dtype=DOUBLE))
    report = audit(model, Symmetry("Cyclic(4)", input="image", output="invariant"), x, progress=False)
    assert report.certificate == "exact"
    assert report.worst_error < 1e-12


def test_truncated_turns_stay_inside_and_fill_the_range() -> None:
    """One bright pixel far out tells the angle: all within 45 degrees, with the spread of the truncated normal."""
    x = torch.zeros(2000, 1, 61, 61)
    x[:, 0, 29:32, 53:56] = 1.0
    moved, labels = digits.truncated_turns(x, torch.arange(2000), generator=rng())
    assert torch.equal(labels, torch.arange(2000))
    axis = torch.arange(61.0) - 30
    total = moved.sum((1, 2, 3))
    angle = torch.atan2((moved[:, 0] * -axis[:, None]).sum((1, 2)) / total, (moved[:, 0] * axis).sum((1, 2)) / total)
    degrees = angle.rad2deg()
    assert float(degrees.abs().max()) < digits.LIMIT + 0.5
    assert float(degrees.std()) == pytest.approx(digits.LIMIT * stats.truncnorm(-1, 1).std(), rel=0.05)


def test_a_disk_is_what_every_turn_keeps() -> None:
    kept = digits.on_disk(torch.ones(1, 29, 29))
    assert kept[0, 14, 0] == 1
    assert kept[0, 0, 0] == 0
    assert torch.equal(kept, torch.rot90(kept, 1, (-2, -1)))


def test_disk_of_rotations() -> None:
    R = clouds.disk()
    assert R.shape == (1 + clouds.RINGS * clouds.DIRECTIONS, 3, 3)
    angles = torch.arccos(((R.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1)).rad2deg()
    expected = torch.cat([torch.zeros(1), torch.arange(30.0, 181, 30).repeat_interleave(clouds.DIRECTIONS)])
    torch.testing.assert_close(angles, expected, rtol=0, atol=0.1)
    y = torch.tensor([0.0, 1.0, 0.0])
    axis = (R[1:13] - R[1:13].mT)[:, [2, 0, 1], [1, 2, 0]]
    torch.testing.assert_close(axis @ y, torch.zeros(12), rtol=0, atol=1e-6)  # all axes lie in the x-z plane


# --- boxes -----------------------------------------------------------------------------------------------------------
def test_ink_boxes_by_hand() -> None:
    x = torch.zeros(2, 1, 10, 12)
    x[0, 0, 2:5, 1:9] = 1.0
    x[1, 0, 9, 11] = 0.5
    expected = torch.tensor([[-1.0, 1.5, 8.0, 3.0], [5.5, -4.5, 1.0, 1.0]])
    assert torch.equal(boxes.ink_boxes(x), expected)


def test_scenes_hold_their_digit_whole() -> None:
    x, y = boxes.scenes("train", 60, 9.0, 0)
    assert torch.equal(boxes.ink_boxes(x), y["box"])
    assert bool(boxes.BOXES.inside(y["box"]).all())
    assert torch.equal(y["scores"].sum(-1), torch.ones(60))
    middle, _ = boxes.scenes("test", 5, 0.0, 0)
    assert middle.shape == (5, 1, boxes.CANVAS, boxes.CANVAS)
    assert float(y["box"][:, :2].std(0).min()) > 4
    again, _ = boxes.scenes("train", 30, 9.0, 0, first=30)
    assert not torch.equal(again.sum((1, 2, 3)), x[:30].sum((1, 2, 3)))
    torch.testing.assert_close(again.sum((1, 2, 3)), x[30:].sum((1, 2, 3)))


def test_boxes_and_canvas_move_together() -> None:
    x, y = boxes.scenes("test", 6, 0.0, 1)
    g = boxes.shifts(boxes.audited_shifts())[:, None]
    seen = Image().on(boxes.SHIFT.group).act(g, x[None])
    moved = Boxes().on(boxes.SHIFT.group).act(g, y["box"][None])
    whole = Boxes((boxes.CANVAS, boxes.CANVAS), edge=0).inside(moved)
    assert 0 < int((~whole).sum()) < whole.numel()
    assert torch.equal(boxes.ink_boxes(seen[whole]), moved[whole])
    inked = seen.flatten(2).amax(-1) > 0.1
    clipped = boxes.BOXES.clip(moved)
    cut = ~whole & inked
    found = boxes.ink_boxes(seen[cut])
    assert bool((found[:, 2:] <= clipped[cut][:, 2:] + 1e-4).all())


@pytest.mark.parametrize("build", [boxes.DenseDetector, boxes.CellDetector])
def test_detectors_learn_and_answer_in_the_picture(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    x, y = boxes.scenes("train", 16, 4.0, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.no_grad():
        first = float(boxes.visible_overlap(model(x), y).mean())
    for _ in range(60):
        optimizer.zero_grad()
        boxes.detection_loss(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        answer = model.eval()(x)
    assert float(boxes.visible_overlap(answer, y).mean()) > max(0.6, first + 0.1)
    torch.testing.assert_close(answer["scores"].sum(-1), torch.ones(16))
    assert bool(((answer["confidence"] > 0) & (answer["confidence"] < 1)).all())


def test_cells_follow_their_stride() -> None:
    """A shift by the stride of 8 pixels moves the box by that, where one cell has all attention and the border is far."""
    torch.manual_seed(0)
    model = boxes.CellDetector().double()
    x = torch.zeros(1, 1, boxes.CANVAS, boxes.CANVAS, dtype=DOUBLE)
    x[..., 20:24, 16:20] = 1.0
    last = model.head[-1]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.zero_()  # no biases: black has no features, just like what lies outside
        last.weight[15] = 1e6 * last.weight[15].abs()
        here, there = model(x), model(torch.roll(x, 8, -1))
    step = torch.tensor([[8.0, 0, 0, 0]], dtype=DOUBLE)
    torch.testing.assert_close(there["box"] - here["box"], step, rtol=0, atol=1e-9)
    torch.testing.assert_close(there["scores"], here["scores"], rtol=0, atol=1e-9)


def test_cut_views_are_told_apart() -> None:
    """The perfect detector of what can be seen: overlap 1 in every view, and a consensus that is the whole box."""
    x, y = boxes.scenes("test", 4, 0.0, 2)

    class Perfect(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            lit = boxes.ink_boxes(x) * (x.flatten(1).amax(1) > 0.1)[:, None]
            return {"scores": y["scores"][:1].expand(len(x), -1), "box": lit, "confidence": torch.ones(len(x))}

    found = boxes.audited(Perfect(), x, y)
    assert 0 < int(found.cut.sum()) < found.cut.numel()
    whole = ~found.cut
    scores = common.scores_of(found.overlap)
    torch.testing.assert_close(scores[whole], torch.ones_like(scores[whole]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.overlap.consensus[whole], scores[whole], rtol=0, atol=1e-6)
    assert not found.overlap.orbit.closed  # given shifts are no group: the consensus is labelled so
    assert found.overlap.to_dict()["consensus"]["equivariant"] is False


# --- numbers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: common.agreement(audit(flow.correlate, flow.SYMMETRY, torch.rand(2, 2, 16, 16))), DataError, "pass y"),
        (lambda: Symmetry(boxes.SHIFT.group, input="image", output={"box": boxes.BOXES}).output.act(
            boxes.shifts(torch.zeros(1, 2)), {"box": torch.zeros(1, 3)}), ShapeError, "boxes are"),
        (lambda: boxes.BOXES.on(Symmetry("SO(2)", input="image", output="invariant").group).act(
            torch.tensor([[0.8, -0.6], [0.6, 0.8]]), torch.ones(4)), ActionError, "out of the axes"),
    ],
)  # fmt: skip
def test_bad_input(call: Callable[[], object], error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_ranks_of_equal_scores_say_nothing() -> None:
    assert math.isnan(common.ranked_alike(torch.ones(3), torch.arange(3.0)))
    assert common.ranked_alike(torch.arange(3.0), torch.tensor([0.0, 5.0, 6.0])) == pytest.approx(1)


def test_spread_is_that_of_the_orbit() -> None:
    assert common.spread([1.0, 3.0]) == 1
    assert common.spread(torch.full((5,), math.pi)) == 0


def test_votes_that_are_right_are_counted() -> None:
    """Of four samples: always right, mostly right, mostly wrong in one way, never right."""
    answers = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]])  # three elements, labels 0
    vote = answers.mode(0).values
    table = _Scores((answers == vote).double(), (answers == 0).double())
    assert common.votes_right(table) == 50  # type: ignore[arg-type]


class _Scores:
    """What `votes_right` reads of a report."""

    def __init__(self, consensus: Tensor, scores: Tensor) -> None:
        self.consensus, self.scores = consensus, scores


def test_rankings_have_an_interval() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(200, generator=g)
    b = a + torch.randn(200, generator=g)
    row = common.ranking(a, b)
    whole, low, high = (row[f"consensus against labels{end}"] for end in ("", ", low", ", high"))
    assert whole == pytest.approx(float(stats.spearmanr(a.numpy(), b.numpy()).statistic))
    assert low < whole < high
    again = stats.bootstrap(
        (a.numpy(), b.numpy()), lambda x, y: stats.spearmanr(x, y).statistic, paired=True, vectorized=False,
        n_resamples=400, method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    assert low == pytest.approx(again.low, abs=0.03)
    assert high == pytest.approx(again.high, abs=0.03)
    flat = common.ranking(torch.ones(5), torch.arange(5.0))
    assert all(math.isnan(value) for value in flat.values())


def test_elements_that_keep_the_drift() -> None:
    names = [name for name, like in zip(flow.element_names(), flow.likely_elements().tolist(), strict=True) if like]
    assert len(names) == 4
    assert {"0°", "180° reversed"} <= set(names)


def test_agreed_boxes_of_a_perfect_detector() -> None:
    x, y = boxes.scenes("test", 3, 0.0, 0)

    class Perfect(nn.Module):
        def forward(self, seen: Tensor) -> dict[str, Tensor]:
            return {
                "scores": torch.zeros(len(seen), 10),
                "box": boxes.ink_boxes(seen),
                "confidence": torch.ones(len(seen)),
            }

    found = {"box": boxes.agreed(Perfect(), x)}
    torch.testing.assert_close(boxes.visible_overlap(found, y), torch.ones(3).double(), atol=1e-5, rtol=0)
