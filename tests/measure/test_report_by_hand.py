"""Reports of tables that were written by hand, and short measurements whose answer is a formula."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import DataError, ErlangenError, OrbitError, StepWarning, UnknownNameError
from erlangen.measure import accuracy, median_times, relative_change, spearman
from erlangen.measure.error import EquivarianceTracker, generator_errors, resampling_floor
from erlangen.measure.layers import LayerError
from erlangen.measure.metrics import METRICS, resolve_metric
from erlangen.measure.models import Model
from erlangen.measure.orbit import orbit
from erlangen.measure.report import AuditReport
from erlangen.measure.scale import rounding_of, spread_factors
from erlangen.measure.terminal import score_text
from erlangen.measure.worst import worst_case

QUARTERS = er.Symmetry("Cyclic(4)", input="vectors", output="invariant")
ERRORS = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.3, 0.2], [0.5, 0.0, 0.1], [0.2, 0.1, 0.9]], dtype=torch.float64)
SCORES = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)


def by_hand(metric="accuracy", scores=SCORES, **changes):
    plain = AuditReport(
        model="net", symmetry=QUARTERS, orbit=orbit(QUARTERS.group), certificate="exact", errors=ERRORS,
        base=None if scores is None else scores[0], scores=scores, consensus=SCORES / 2,
        metric=None if scores is None else METRICS[metric], samples=torch.tensor([4, 5, 7]), lie_derivative=None,
        resampling=None, layers=None, complete=True, seed=3, seconds=1.23456, settings={"dtype": "float64", "scale": "norm"},
    )  # fmt: skip
    return replace(plain, **changes)


def test_numbers_of_a_report():
    report = by_hand()
    assert report.error == pytest.approx(2.4 / 12)
    assert report.worst_error == 0.9
    assert report.upright == pytest.approx(2 / 3)
    assert report.orbit_mean == pytest.approx(7 / 12)
    assert report.worst_sample == 0.0  # none is right everywhere
    assert report.worst_element == (1, pytest.approx(1 / 3))
    assert report.over == ""
    assert by_hand(settings={"scale": "spread"}).over == " over spread"
    lower = by_hand("mse")
    assert lower.worst_sample == 1.0
    assert lower.worst_element == (3, 1.0)
    bare = by_hand(scores=None)
    assert (bare.upright, bare.orbit_mean, bare.worst_sample, bare.worst_element) == (None,) * 4
    assert "accuracy 0.5833" in repr(report)
    assert "error 0.2 (worst 0.9)" in repr(bare)


def test_the_hardest_samples_come_first():
    rows = by_hand().hardest_samples()
    assert [row["sample"] for row in rows] == [7, 4, 5]  # means 1/4, 3/4, 3/4: equal ones in order
    assert rows[0]["mean"] == 0.25
    assert (rows[1]["worst"], rows[1]["worst_element"], rows[1]["worst_element_name"]) == (0.0, 2, "rotation by 180°")
    assert rows[1]["error"] == pytest.approx(0.2)
    assert [row["sample"] for row in by_hand("mse").hardest_samples(2)] == [4, 5]
    bare = by_hand(scores=None).hardest_samples(1)
    assert bare[0]["sample"] == 7
    assert (bare[0]["worst"], bare[0]["worst_element"]) == (0.9, 3)
    many = by_hand(errors=ERRORS.repeat(1, 4), scores=None, samples=torch.arange(12))
    assert len(many.hardest_samples()) == 10


def test_a_report_as_numbers():
    plain = by_hand().to_dict()
    assert plain["error"]["median"] == pytest.approx(0.1)  # between the sixth, 0.1, and the seventh, 0.1
    ordered = sorted(ERRORS.flatten().tolist())
    assert plain["error"]["q95"] == pytest.approx(ordered[10] + 0.45 * (ordered[11] - ordered[10]))  # place 0.95 * 11
    assert plain["error"]["max_at"] == {"element": 3, "name": "rotation by -90°", "sample": 7}
    assert plain["error"]["by_element"] == pytest.approx([0.0, 0.2, 0.2, 0.4])
    assert plain["metric"]["range"] == pytest.approx(2 / 3)
    means = [2 / 3, 1 / 3, 1 / 3, 1.0]
    assert plain["metric"]["by_element"] == pytest.approx(means)
    assert plain["metric"]["spread"] == pytest.approx(math.sqrt(sum((m - 7 / 12) ** 2 for m in means) / 4))
    assert plain["metric"]["worst_element"]["index"] == 1
    assert plain["consensus"] == {"measure": "accuracy", "mean": pytest.approx(7 / 24), "equivariant": True}
    assert plain["elements"] == {"count": 4, "method": "all", "closed": True}
    assert (plain["samples"], plain["seconds"], plain["seed"]) == (3, 1.235, 3)
    assert by_hand(scores=None).to_dict()["metric"] is None
    assert by_hand(scores=None).to_dict()["consensus"]["measure"] == "relative distance"
    entries = by_hand(entries={"energy": ERRORS, "force": ERRORS / 2}).to_dict()["entries"]
    assert entries["force"] == {"mean": pytest.approx(0.1), "max": 0.45}
    text = by_hand().to_json()
    assert json.loads(text)["certificate"] == "exact"
    assert text.splitlines()[1].startswith(' "model"')  # one space of indentation


def test_rows_of_a_report():
    rows = by_hand(entries={"a": ERRORS / 2}).to_rows()
    assert len(rows) == 12
    assert rows[11] == {
        "element": 3, "transformation": "rotation by -90°", "sample": 7, "error": 0.9, "error of a": 0.45, "accuracy": 1.0,
    }  # fmt: skip
    assert (rows[0]["transformation"], rows[1]["sample"]) == ("identity", 5)


def test_the_layer_where_a_symmetry_is_lost():
    kept = [
        LayerError("0", "A", {"input": 1e-3, "invariant": 0.5}),
        LayerError("1", "B", {"input": 1.0, "invariant": 0.0}),
    ]
    assert by_hand(layers=kept).lost_at == "the answer"  # every layer keeps it, and the answers do not
    assert by_hand(layers=kept, errors=ERRORS * 1e-3).lost_at is None
    assert by_hand(layers=[*kept, LayerError("2", "C", {"input": 1.1e-3})]).lost_at == "2"
    assert by_hand().lost_at is None


def cells(report):
    columns = [list(column.cells) for column in report.table().columns]
    return dict(zip(*columns, strict=True))


def test_the_table_on_the_terminal():
    found = cells(by_hand(lie_derivative=torch.tensor([0.25, 0.5]), jumps=True, complete=False))
    assert found["worst error"] == "0.9  (rotation by -90°)"
    assert found["accuracy as given"] == "66.7 %"
    assert found["accuracy over the orbit"] == "58.3 %"
    assert found["accuracy, worst element"] == "33.3 %  (rotation by 90°)"
    assert found["right for every element"] == "0.0 %"
    assert found["accuracy to consensus"] == "29.2 %"
    assert found["Lie derivative"] == "0.25  0.5  (depends on the step: the model has jumps)"
    assert found["certificate"] == "exact, 4 elements (all)"
    assert found["samples"] == "3  (interrupted: the finished samples only)"
    assert found["seed, time"] == "3, 1.23 s, float64"
    found = cells(by_hand("mse", layers=[], settings={"dtype": "float64", "scale": "spread"}))
    assert found["equivariance error over spread"].startswith("0.2  (95 % interval ")
    assert found["mse, worst of each sample"] == "1"
    assert found["symmetry lost at"] == "the answer"
    assert cells(by_hand(layers=[], errors=ERRORS * 1e-3))["symmetry lost at"] == "no layer: the answers keep it"
    assert found["samples"] == "3"
    assert score_text(None, "mse") == "-"
    assert score_text(0.123456, "mse") == "0.1235"


# --- short measurements ----------------------------------------------------------------------------------------------
def test_derivatives_along_generators():
    """f = x_1^2 on (cos a, sin a): the derivative by the angle is -2 sin a cos a, beside cos^2 a."""
    angles = torch.tensor([0.3, 0.7, 1.0], dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin()], 1)
    turns = er.Symmetry("SO(2)", input="vectors", output="invariant")
    [found] = er.lie_derivative(lambda z: z[:, :1].square(), turns, x).tolist()
    assert found == pytest.approx(float((2 * angles.tan()).mean()), rel=1e-9)  # two steps: the h^2 term is gone
    errors, jumps = generator_errors(Model(lambda z: torch.ones_like(z[:, :1])), turns, x)
    assert (errors.tolist(), jumps.tolist()) == ([0.0], [False])
    with pytest.warns(StepWarning, match="along generator 0 depends on the step"):
        er.lie_derivative(lambda z: (z[:, :1] > angles.cos()[0]).double() + 1, turns, x)
    three = er.Symmetry("SO(3)", input="vectors", output="invariant")
    z = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    along = er.lie_derivative(lambda v: v[:, 2:], three, z)
    assert sorted(along.tolist()) == pytest.approx(
        [0.0, 0.0, 0.75], abs=1e-9
    )  # only turns about y move (0.6, 0, 0.8) up


def test_steps_of_models_with_wiggles():
    """sin(k a) by central differences of h and h / 2: each is k sin(k h) / (k h), and the two are extrapolated."""
    turns = er.Symmetry("SO(2)", input="vectors", output="invariant")
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    k, h = 40.0, 1e-2

    def wiggle(v):
        return 2 + torch.sin(k * torch.atan2(v[:, 1:], v[:, :1]))

    errors, jumps = generator_errors(Model(wiggle), turns, x, h)
    fine, coarse = (math.sin(k * t) / t for t in (h / 2, h))
    assert errors.tolist() == pytest.approx([abs(4 * fine - coarse) / 3 / 2])
    assert not jumps.any()
    default = generator_errors(Model(wiggle), turns, x)[0].item()
    fine, coarse = (math.sin(k * t) / t for t in (5e-4, 1e-3))
    assert default == pytest.approx((4 * fine - coarse) / 3 / 2, rel=1e-9)
    single = generator_errors(Model(wiggle), turns, x.float())[0].item()
    fine, coarse = (math.sin(k * t) / t for t in (1e-2, 2e-2))
    assert single == pytest.approx((4 * fine - coarse) / 3 / 2, rel=1e-3)


def test_errors_reduced():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    model = lambda z: z[:, :1] + 3  # noqa: E731
    table = torch.tensor([[0.0, 0.0], [1 / 4, 2 / 3], [2 / 4, 0.0], [1 / 4, 2 / 3]], dtype=torch.float64)
    torch.testing.assert_close(er.equivariance_error(model, QUARTERS, x, reduce="none"), table)
    assert er.equivariance_error(model, QUARTERS, x).item() == pytest.approx(float(table.mean()))
    assert er.equivariance_error(model, QUARTERS, x, reduce="max").item() == pytest.approx(2 / 3)
    spread = er.equivariance_error(model, QUARTERS, x, reduce="none", scale="spread")
    # The answers are 4 and 3, so the spread is sqrt(1/2).
    torch.testing.assert_close(spread, table * torch.tensor([4.0, 3.0]) * math.sqrt(2))
    with pytest.raises(UnknownNameError, match="reduce = 'sum'"):
        er.equivariance_error(model, QUARTERS, x, reduce="sum")
    with pytest.raises(UnknownNameError, match="scale = 'size'"):
        er.equivariance_error(model, QUARTERS, x, scale="size")


def test_the_spread_of_answers():
    elements = QUARTERS.group.elements()
    factors = lambda model, x, **width: spread_factors(Model(model), QUARTERS, elements, x, **width)  # noqa: E731
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]], dtype=torch.float64)
    for width in (1, 2, 256):
        found = factors(lambda z: z + 10 * torch.tensor([0, 1]), x, width=width)
        assert found is not None
        sizes = [math.hypot(v, 10) for v in (1, 3, 5)]
        assert found.tolist() == pytest.approx([size / 2 for size in sizes])  # variance 4
    assert factors(lambda z: z, x[:1]) is None
    assert factors(lambda z: 0 * z + 5, x) is None
    assert factors(lambda z: z.argmax(1), x) is None
    zeros = factors(lambda z: z * (z > 2), x)
    assert zeros is not None
    assert zeros.tolist()[0] == pytest.approx(
        1 / math.sqrt((0 - 8 / 3) ** 2 / 2 + (3 - 8 / 3) ** 2 / 2 + (5 - 8 / 3) ** 2 / 2)
    )
    assert rounding_of(x) == 8 * 2.0**-52
    assert rounding_of(x.float()) == 8 * 2.0**-23
    for step, seen in (
        (2.0**-52, False),
        (5 * 2.0**-52, True),
    ):  # deviations of 2 and of 10 steps of rounding; 8 are none
        assert (factors(lambda z, step=step: 1 + step * z[:, :1], x) is not None) == seen


def test_what_resampling_does_alone():
    """Shifts by half a pixel and back, bilinear: (x_-1 + 2 x_0 + x_1) / 4, so a single bright pixel loses half."""
    shifts = er.Symmetry("Translation(2)", input="image", output="invariant")
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[0, 0, 4, 4] = 1
    exact = shifts.group.exp(torch.zeros(1, 2, dtype=torch.float64))
    rough = shifts.group.exp(torch.tensor([[0.5, 0.0]], dtype=torch.float64))
    model = Model(lambda z: z[:, 0, 4, 4, None])
    found = resampling_floor(model, shifts, torch.cat([exact, rough.expand(40, *rough.shape[1:])]), x)
    assert found is not None
    assert found["elements"] == 16
    assert found["input"] == pytest.approx(math.sqrt(0.25 + 2 / 16))
    assert found["model"] == pytest.approx(0.5)
    quarter = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    assert resampling_floor(model, quarter, quarter.group.elements(), x) is None


def test_tracking_every_other_epoch():
    tracker = EquivarianceTracker(QUARTERS, torch.tensor([[1.0, 0.0]]), every=2)
    rows = [{} for _ in range(4)]
    net = nn.Linear(2, 1)
    for epoch, row in enumerate(rows):
        tracker(epoch, net, row)
    assert [list(row) for row in rows] == [["equivariance_error"], [], ["equivariance_error"], []]
    assert [epoch for epoch, _ in tracker.history] == [0, 2]
    assert net.training
    every = EquivarianceTracker(QUARTERS, torch.tensor([[1.0, 0.0]]))
    every(1, net, {})
    assert len(every.history) == 1


def test_the_worst_element_is_climbed_to():
    """f = x_1 + 2 on (1, 0) beside |f| = 3: the worst turn is by 180 degrees, 2 / 3, which three elements miss."""
    turns = er.Symmetry("SO(2)", input="vectors", output="invariant")
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    model = lambda z: z[:, :1] + 2  # noqa: E731
    found = worst_case(model, turns, x, elements=3)
    assert found.grid == pytest.approx(1.5 / 3)
    assert found.score == pytest.approx(2 / 3, rel=1e-3)
    assert found.identity == 0.0
    assert found.evaluations == 3 + 8 * 16
    alone = worst_case(model, turns, x, elements=3, rounds=0)
    assert (alone.score, alone.evaluations) == (alone.grid, 3)
    assert worst_case(model, turns, x, elements=3, rounds=2, tries=1).evaluations == 5
    assert worst_case(model, QUARTERS, x).evaluations == 4
    labelled = worst_case(model, turns, x, torch.tensor([[3.0]]).double(), elements=3)
    assert labelled.score == pytest.approx(4.0, rel=1e-2)
    assert labelled.identity == 0.0
    cosine = worst_case(lambda z: z, turns, x, x, metric="cosine", elements=3)
    assert cosine.score == pytest.approx(-1.0, rel=1e-2)
    assert (cosine.identity, cosine.grid) == (1.0, pytest.approx(-0.5))
    for bad in ({"rounds": -1}, {"tries": 0}):
        with pytest.raises(OrbitError, match="rounds must be 0 or more, tries 1 or more"):
            worst_case(model, turns, x, **bad)
    with pytest.raises(DataError, match="'mse' compares answers with labels"):
        worst_case(model, turns, x, metric="mse")


# --- single numbers --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_shares_and_changes(batch):
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert accuracy(nn.Identity(), scores, torch.tensor([1, 1, 1]), batch=batch) == pytest.approx(200 / 3)
    with pytest.raises(ErlangenError, match="batch = 0"):
        accuracy(nn.Identity(), scores, torch.tensor([1, 1, 1]), batch=0)
    a, b = torch.tensor([[3.0, 5.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert relative_change(a, b) == pytest.approx(1.0)  # 1 / 5, and 1 beside zero
    assert relative_change(a, b, over="batch") == pytest.approx(math.sqrt(2) / 5)
    assert relative_change(a, b, over="entries") == pytest.approx(1 / 4)
    assert relative_change(torch.tensor(3.0), torch.tensor(2.0)) == 0.5
    assert relative_change(a[:0], b[:0]) == 0.0


def test_ranks_and_medians():
    a = torch.tensor([1.0, 2.0, 3.0])
    assert spearman(a, torch.tensor([1.0, 3.0, 2.0])) == pytest.approx(1 - 6 * 2 / (3 * 8))
    assert spearman(a, torch.tensor([1.0, 1.0, 2.0])) == pytest.approx(math.sqrt(3) / 2)
    with pytest.raises(DataError, match="at least 3"):
        spearman(a[:2], a[:2])
    for bad in ((a, 0 * a), (0 * a, a)):
        with pytest.raises(DataError, match="all values are equal"):
            spearman(*bad)
    ticks = iter([0, 9, 0, 8, 0, 1, 0, 2, 0, 6])
    assert median_times({"a": lambda: None}, 3, clock=lambda: next(ticks)) == {"a": 2}
    counted = []
    median_times({"a": lambda: counted.append(1)})
    assert len(counted) == 9
    with pytest.raises(ErlangenError, match="repeats = 0"):
        median_times({"a": lambda: None}, 0)
    assert resolve_metric(METRICS["mse"], None) is METRICS["mse"]
