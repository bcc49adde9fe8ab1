"""The page of a report: pictures of hard samples, where the symmetry is lost, many samples in little time."""

import re
import time

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.measure import LayerError, layer_errors, lost_at
from erlangen.measure.hardest import hard_samples
from erlangen.measure.layers import CAUTION
from erlangen.measure.plots import DOTS, principal_plane, sample_plot

F64 = torch.float64
QUARTERS = er.Symmetry("Cyclic(4)", input="image", output="invariant")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TopLeft(nn.Module):
    """Two class scores: whether the top left pixel of ``[B, 1, 4, 4]`` is bright. A quarter turn takes it away."""

    def forward(self, x):
        return torch.stack((0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5), 1)


def corners():
    """Three images: a bright corner, nothing, everything bright. Only the first changes its class when it is turned."""
    x = torch.zeros(3, 1, 4, 4)
    x[0, 0, 0, 0] = 1
    x[2] = 1
    return x, torch.tensor([1, 0, 1])


# --- hard samples ----------------------------------------------------------------------------------------------------
def pixels(drawing):
    from erlangen import plots

    _, (ax,) = plots.panels()
    drawing.draw(ax)
    return torch.as_tensor(ax.images[0].get_array().data / 255.0)


def test_hard_samples_are_drawn_as_given_and_moved():
    x, y = corners()
    report = er.audit(TopLeft(), QUARTERS, x, y)
    first, *_ = hard_samples(report)
    assert first.sample == 0
    element = report.hardest_samples(1)[0]["worst_element"]
    name = report.element_name(element)
    assert first.words.startswith(f"right as given, wrong after {name} (equivariance error ")
    torch.testing.assert_close(pixels(first.given[0]).float(), x[0, 0])
    turned = torch.rot90(x[0, 0], element, (-2, -1))  # the action turns counterclockwise, as rot90 does
    torch.testing.assert_close(pixels(first.moved[0]).float(), turned)
    page = report.to_html()
    assert page.count("<figure>") == 3
    assert f"Sample 0: right as given, wrong after {name}" in page


def test_words_of_other_metrics_and_without_labels():
    x, _ = corners()
    report = er.audit(TopLeft(), QUARTERS, x)
    assert re.match(r"equivariance error 2 after rotation by -?\d+°$", hard_samples(report)[0].words)
    sized = er.audit(TopLeft(), QUARTERS, x, TopLeft()(x), metric="mse")
    assert re.match(r"mse 0 as given, mse 1 after rotation by -?\d+° \(", hard_samples(sized)[0].words)


@pytest.mark.parametrize(
    ("group", "action", "x", "count"),
    [
        ("SO(3)", "points", torch.randn(4, 9, 3, generator=seeded()), 1),
        ("SO(3)", "vectors + vectors", torch.randn(4, 30, 6, generator=seeded()), 1),
        ("Dihedral(4)", "boxes", torch.rand(4, 3, 4, generator=seeded()) + 1, 1),
        ("E(3)", {"pos": "points", "vel": "vectors"}, {k: torch.randn(4, 5, 3, generator=seeded()) for k in ("pos", "vel")}, 2),
        ("Cyclic(4)", "sequence(image, -4)", torch.randn(4, 5, 1, 6, 6, generator=seeded()), 5),
        ("Symmetric(5)", "graph", {"adj": torch.ones(3, 5, 5), "x": torch.randn(3, 5, 2, generator=seeded())}, 1),
    ],
)  # fmt: skip
def test_every_kind_of_data_is_drawn(group, action, x, count):
    def model(x):
        leaf = x if isinstance(x, torch.Tensor) else x.get("x", x.get("pos"))
        return leaf.flatten(1)[:, :2]

    report = er.audit(model, er.Symmetry(group, input=action, output="invariant"), x, elements=6)
    for hard in hard_samples(report):
        assert len(hard.given) == len(hard.moved) == count
    page = report.to_html()
    assert page.count("as given") >= 3 * count


def test_sensor_channels_have_a_legend():
    x = torch.randn(3, 20, 8, generator=seeded())
    sym = er.Symmetry("SO(3)", input="vectors + vectors + invariant", output="invariant")
    page = er.audit(lambda x: x[:, 0, :2], sym, x, elements=6).to_html()
    for name in ("1x", "1y", "1z", "2x", "2y", "2z", "3.0", "3.1"):
        assert f">{name}</text>" in page


def test_exact_models_have_no_worst_element_to_show():
    report = er.audit(lambda x: x.mean((-2, -1)), QUARTERS, corners()[0])
    assert hard_samples(report) == []
    assert "<figure>" not in report.to_html()


def test_large_images_stay_small_on_the_page():
    """2,000 by 2,000 pixels of noise are 4 MB each."""
    x = torch.rand(3, 1, 2000, 2000, generator=seeded())
    report = er.audit(lambda x: x[:, :, 0, 0], QUARTERS, x)
    (hard, *_) = hard_samples(report, 1)
    assert pixels(hard.given[0]).shape == (500, 500)
    expected = x[hard.sample, 0].reshape(500, 4, 500, 4).mean((1, 3))
    torch.testing.assert_close(pixels(hard.given[0]).float(), expected, atol=0.02, rtol=0)


# --- layers ----------------------------------------------------------------------------------------------------------
class Regular(nn.Module):
    """A quarter-turn invariant network whose hidden channels are permuted by a turn: `lift` moves as nothing that is tried."""

    def __init__(self):
        super().__init__()
        self.lift, self.pool = Turns(), Most()

    def forward(self, x):
        return self.pool(self.lift(x))


class Turns(nn.Module):
    """Weighted sums of all four turns of an image ``[B, 1, H, W]``: channels ``[B, 4]``."""

    def forward(self, x):
        weight = torch.linspace(0, 1, x[0].numel()).reshape(x.shape[1:])
        return torch.stack([(torch.rot90(x, k, (-2, -1)) * weight).flatten(1).sum(1) for k in range(4)], 1)


class Most(nn.Module):
    def forward(self, x):
        return x.max(1, keepdim=True).values


def test_features_that_move_in_an_unknown_way_are_no_loss():
    x = torch.rand(5, 1, 6, 6, generator=seeded())
    report = er.audit(Regular(), QUARTERS, x, layers=True)
    lift, pool = report.layers
    assert (lift.kept, lift.words) == (False, "by none of the actions tried")
    assert (pool.kept, pool.words) == (True, "not at all")
    assert report.error < 1e-5
    assert report.lost_at is None
    assert lost_at(report.layers) is None
    page = report.to_html()
    assert "Symmetry lost at no layer: the answers keep it." in page
    assert "permuted among themselves" in page
    assert CAUTION in page


def test_the_layer_behind_all_that_fit_is_named():
    class Broken(Regular):
        def __init__(self):
            super().__init__()
            self.corner = Corner()

        def forward(self, x):
            return super().forward(x) + self.corner(x)

    class Corner(nn.Module):
        def forward(self, x):
            return x[:, 0, 0, :1]

    report = er.audit(Broken(), QUARTERS, torch.rand(5, 1, 6, 6, generator=seeded()), layers=True)
    assert report.lost_at == "corner"
    assert "lost at <code>corner</code> (Corner)" in report.to_html()

    class After(Regular):
        def forward(self, x):
            return super().forward(x) + x[:, 0, 0, :1]

    report = er.audit(After(), QUARTERS, torch.rand(5, 1, 6, 6, generator=seeded()), layers=True)
    assert report.lost_at == "the answer"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [([0, 0], None), ([1, 0], None), ([0, 1], "1"), ([1, 1], "0"), ([0, 1, 0, 1, 1], "3"), ([], None)],
)
def test_lost_at(errors, expected):
    assert lost_at([LayerError(str(i), "Linear", {"input": float(e)}) for i, e in enumerate(errors)]) == expected


def test_flat_features_are_compared_in_the_shape_that_they_had():
    """What flattens keeps the symmetry; the dense layer behind it, which has as many outputs, loses it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Tanh(), nn.Linear(32, 32), nn.Linear(32, 3)
    )
    report = er.audit(net, QUARTERS, torch.rand(4, 1, 8, 8, generator=seeded()), layers=True)
    conv, pool, flat, bent, dense, head = report.layers
    assert conv.words == pool.words == "like the input"
    assert flat.words == bent.words == "like the input, flattened"
    assert flat.errors["input, flattened"] < 1e-6
    assert not dense.kept
    assert not head.kept
    assert dense.errors["input, flattened"] > 0.1
    assert report.lost_at == "4"
    alone = layer_errors(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), QUARTERS, torch.rand(2, 1, 8, 8))
    assert [row.kept for row in alone] == [True, False]


def test_of_equally_bad_elements_the_one_with_the_largest_error_is_shown():
    x, _ = corners()
    report = er.audit(TopLeft(), QUARTERS, x, torch.tensor([0, 1, 0]))  # wrong as given
    rows = {row["sample"]: row for row in report.hardest_samples()}
    assert rows[0]["worst_element_name"] == "identity"  # right wherever the corner is elsewhere
    blurred = er.audit(
        TopLeft(), QUARTERS, x + 0.1 * torch.rand(3, 1, 4, 4, generator=seeded()), torch.tensor([0, 1, 0])
    )
    row = {row["sample"]: row for row in blurred.hardest_samples()}[2]
    assert row["worst"] == 0
    assert row["worst_element"] == int(blurred.errors[:, 2].argmax())


def test_parts_of_the_input_tell_about_features():
    """Distances to the middle are permuted with their points, and do not turn."""

    class Sizes(nn.Module):
        def forward(self, x):
            return (x - x.mean(1, keepdim=True)).norm(dim=-1, keepdim=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes, self.velocity = Sizes(), nn.Identity()

        def forward(self, x):
            x = x if isinstance(x, torch.Tensor) else self.velocity(x["vel"]) + 0 * x["pos"]
            return self.sizes(x).mean(1)

    both = er.Symmetry("Symmetric(5) x SO(3)", input="permuted * points", output="invariant")
    x = torch.randn(4, 5, 3, generator=seeded())
    (sizes,) = layer_errors(Net(), both, x, 24)
    assert sizes.best[0] == "input, Symmetric(5) alone"
    assert sizes.kept
    assert sizes.errors["invariant"] > 0.1
    tree = er.Symmetry("SE(3)", input={"pos": "points", "vel": "vectors"}, output="invariant")
    rows = {row.name: row for row in layer_errors(Net(), tree, {"pos": x, "vel": x.flip(0)})}
    assert rows["velocity"].words == "like the input 'vel'"
    assert rows["velocity"].errors["input 'pos'"] > 0.1


# --- many samples ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (5, 1), (3, 2), (60, 60)])
def test_the_projection_is_that_of_the_singular_value_decomposition(shape):
    rows = torch.randn(shape, generator=seeded(), dtype=F64) * 1e-170
    rows = rows - rows.mean(0)
    u, s, _ = torch.linalg.svd(rows, full_matrices=False)
    expected = nn.functional.pad(u[:, :2] * s[:2], (0, max(0, 2 - min(shape))))
    found = principal_plane(rows)
    signs = (found * expected).sum(0).sign()
    torch.testing.assert_close(found * signs, expected * signs**2, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert not principal_plane(torch.zeros(shape, dtype=F64)).any()


def test_a_part_of_many_samples_says_that_it_is_one():
    sym = er.Symmetry("SO(2)", input="vectors", output="invariant")
    x = torch.randn(DOTS * 2 + 1, 2, generator=seeded())
    report = er.audit(lambda v: v[:, :1], sym, x, elements=8)
    shown = sample_plot(report)
    assert shown.caption.endswith(f"{len(shown.points)} of {DOTS * 2 + 1} samples")
    assert len(shown.points) == len(shown.keys) <= DOTS
    chosen = sample_plot(report, chosen=4)
    assert 4 not in shown.keys
    assert sorted({*shown.keys, 4}) == list(chosen.keys)
    assert len(chosen.marks()) == 1
    assert "of" not in sample_plot(er.audit(lambda v: v[:, :1], sym, x[:DOTS], elements=8)).caption.split("\n")[-1]


def test_quantiles_of_many_errors_are_those_of_all():
    sym = er.Symmetry("SO(2)", input="vectors", output="invariant")
    report = er.audit(lambda v: v[:, :1] + 2, sym, torch.randn(300, 2, generator=seeded()), elements=8)
    found = report.to_dict()["error"]
    expected = torch.quantile(report.errors.flatten(), torch.tensor([0.5, 0.95], dtype=F64)).tolist()
    assert [found["median"], found["q95"]] == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def one_thread():
    """Several threads spin while they wait for each other, which counts as time of the processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_ten_thousand_samples_make_a_page_in_seconds():
    """On 784 elements, as all shifts of a digit are; by the time of the processor, since others may use the machine too."""
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    x = torch.randn(2, 4, 3, generator=seeded())
    er.audit(lambda x: x[:, 0, :2], sym, x, elements=4).to_html()  # matplotlib is imported
    x = torch.randn(10_000, 4, 3, generator=seeded())
    report = er.audit(lambda x: x[:, 0, :2], sym, x, elements=784, progress=False)
    began = time.process_time()
    report.to_html()
    assert time.process_time() - began < 3
