"""Flow-equivariant networks on moving digits: predictions that move along, rivals, what the comparison is of."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.actions import Image, Sequence
from erlangen.data import drifting_digits
from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups import Cyclic, Shifts
from erlangen.measure import equivariance_error
from erlangen.nn import DriftRecurrence2d, SpinRecurrence2d, velocity_grid
from erlangen.survey import Result, Run
from erlangen.symmetry import Symmetry
from erlangen.systems.images.fernn import (
    Classifier,
    ConvLSTM,
    LearnedShifts,
    Predictor,
    _classes,
    _drifting,
    _predictions,
    _properties,
    _spinning,
)
from erlangen.systems.images.fernn import experiment as system
from erlangen.systems.images.fernn.method import (
    RETAINED,
    drift_recurrence,
    spin_recurrence,
    torus_decoder,
)
from erlangen.systems.images.fernn.rivals import CopyLast, SpaceTimeCNN, _Moved, learned_shifts

SHIFTED = Symmetry(Shifts(6, 8), input=Sequence(Image(), -4), output=Sequence(Image(), -4))
CLOSED = [[r, c] for r in (0, 4, 8) for c in (0, 8)]
SIZE = (12, 16)


def flowed(x: Tensor, rows: int, columns: int, start: int = 0) -> Tensor:
    """Frame t of ``[B, T, ..., H, W]`` rolled by t + start times a velocity, with torch alone."""
    frames = [x[:, t].roll(((t + start) * rows, (t + start) * columns), (-2, -1)) for t in range(x.shape[1])]
    return torch.stack(frames, 1)


def clip(frames: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(2, frames, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def predictor() -> Predictor:
    return Predictor(drift_recurrence(3, (6, 8), 1), torus_decoder(3, 4), 2)


def classifier(size: tuple[int, int], reach: int = 1) -> Classifier:
    """With running statistics, as in a test: in training batch normalisation mixes samples."""
    torch.manual_seed(0)
    return Classifier(drift_recurrence(3, size, reach, in_channels=3, activation="tanh")).eval()


LAYERS = {
    "DriftRecurrence2d": lambda: (DriftRecurrence2d(1, 3, (6, 8)), clip(3, (6, 8)).float(), {}),
    "SpinRecurrence2d": lambda: (SpinRecurrence2d(Cyclic(4), 1, 2), clip(3, (7, 7)).float(), {}),
    "Predictor": lambda: (predictor(), clip(3, (6, 8)).float(), {"symmetry": SHIFTED}),
    "Classifier": lambda: (classifier((6, 8)), clip(3, (6, 8)).float(), {}),
}  # fmt: skip


# --- the experiment --------------------------------------------------------------------------------------------------
def test_every_rival_is_in_the_table(smoke) -> None:
    rows = smoke("fernn")["rows"]
    models = {part: [row["model"] for row in rows if row["part"] == part] for part in ("drift", "spin", "classes")}
    run = Run("smoke", budget=system.BUDGETS["smoke"])
    assert models["drift"] == list(_drifting.drift_rivals(run))
    assert models["spin"] == list(_spinning.spin_rivals(run))
    assert models["classes"] == list(_classes.class_rivals(run)) == ["FERNN, V2", "G-RNN", "G-RNN+", "3D-CNN"]
    maps = [(row["model"], row["rows"]) for row in rows if row["part"] == "velocities"]
    assert maps == [(name, str(r)) for name in models["drift"] for r in range(-2, 3)]


def test_rivals_cost_what_their_names_say(smoke) -> None:
    rows = {row["model"]: row for row in smoke("fernn")["rows"] if row["part"] == "drift"}
    size = {name: row["parameters"] for name, row in rows.items()}
    assert 0.8 < rows["FERNN, V1"]["MFLOP"] / rows["G-RNN, wide"]["MFLOP"] < 1.2  # what "wide" means
    assert size["FERNN, V1"] == size["FERNN, V2"] == size["G-RNN"] < size["G-RNN+"] < size["G-RNN, wide"]
    spin = {row["model"]: row["MFLOP"] for row in smoke("fernn")["rows"] if row["part"] == "spin"}
    assert 0.7 < spin["FERNN"] / spin["G-RNN, wide"] < 1.3


def test_the_map_is_the_mean_of_its_velocities(smoke) -> None:
    """Errors by velocity, taken apart into rows, still give what the table says of trained and other velocities."""
    rows = smoke("fernn")["rows"]
    for model in (row for row in rows if row["part"] == "drift"):
        cells = {
            (int(row["rows"]), c): row[f"columns {c}"]
            for row in rows if row["part"] == "velocities" and row["model"] == model["model"]
            for c in range(-2, 3)
        }  # fmt: skip
        seen = [error for nu, error in cells.items() if max(map(abs, nu)) <= 1]
        others = [error for nu, error in cells.items() if max(map(abs, nu)) == 2]
        assert (len(seen), len(others)) == (9, 16)
        assert sum(seen) / 9 == pytest.approx(model["MSE, seen velocities"])
        assert sum(others) / 16 == pytest.approx(model["MSE, unseen"])


def test_figure_shows_all_models(smoke) -> None:
    drawn = system.figure(Result.from_dict(smoke("fernn")))
    lines = {line.get_label() for ax in drawn.axes for line in ax.get_lines()}
    assert {"FERNN, V1", "FERNN, V2", "G-RNN", "G-RNN, wide", "G-RNN+", "ConvLSTM", "zero"} <= lines


def test_no_property_is_vacuous(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that does not move breaks the theorem and its read-out; shifts of whole clips do not notice."""
    monkeypatch.setattr(DriftRecurrence2d, "advance", lambda self, state: state)
    run = Run()
    for dtype in (torch.float64, torch.float32):
        assert _properties.theorem(run, dtype) > 1e-2
    assert _properties.theorem_closed(run) > 1e-2
    assert _properties.read_out(run) > 1e-2
    assert _properties.static_shift(run) < 1e-12


# --- models ----------------------------------------------------------------------------------------------------------
def test_predictions_move_on_with_a_moving_clip() -> None:
    torch.manual_seed(0)
    core = DriftRecurrence2d(1, 3, SIZE, velocities=CLOSED)
    model = Predictor(core, torus_decoder(3, 4), 4).double()
    x = clip(5)
    answer = model(x)
    assert answer.shape == (2, 4, 1, *SIZE)
    for rows, columns in CLOSED:
        expected = flowed(answer, rows, columns, start=5)
        torch.testing.assert_close(model(flowed(x, rows, columns)), expected, rtol=0, atol=1e-12)
    late = flowed(answer, 4, 8, start=4)
    assert float((model(flowed(x, 4, 8)) - late).detach().abs().max()) > 1e-3


def test_predictor_reads_its_own_answers() -> None:
    """Predicting two frames is predicting one, and one more from the clip with that appended, cut to 0..1."""
    torch.manual_seed(0)
    model = Predictor(drift_recurrence(3, SIZE, 1), torus_decoder(3, 4), 2).double()
    x = clip(4)
    answer = model(x)
    torch.testing.assert_close(answer, model(x, 2), rtol=0, atol=0)
    longer = torch.cat([x, answer[:, :1].clamp(0, 1)], 1)
    torch.testing.assert_close(model(longer, 1)[:, 0], answer[:, 1], rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(answer[:, 1].sum(), model.decoder[-1].bias)  # type: ignore[union-attr, index]
    torch.testing.assert_close(gradient, torch.full((1,), 2.0 * 12 * 16, dtype=torch.float64))  # of its own frame alone


def test_classifier_does_not_notice_drift_where_velocities_are_closed() -> None:
    torch.manual_seed(0)
    moving = Classifier(DriftRecurrence2d(3, 3, SIZE, velocities=CLOSED, activation="tanh")).double().eval()
    still = classifier(SIZE, 0).double()
    x = clip(4)
    torch.testing.assert_close(moving(flowed(x, 4, 8)), moving(x), rtol=1e-12, atol=1e-12)
    assert float((still(flowed(x, 4, 8)) - still(x)).detach().abs().max()) > 1e-8  # rounding is 1e-16


def test_the_classifier_is_the_paper_s_by_hand() -> None:
    """Three convolutions with batch normalisation, a hyperbolic tangent, the maximum over velocities, the mean over pixels."""
    model, x = classifier(SIZE).double(), clip(3)
    stem, core = model.stem, model.recurrence
    assert [m.kernel_size[0] for m in stem if isinstance(m, torch.nn.Conv2d)] == [5, 3, 3]
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in stem) == 3

    def conv(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        pad = weight.shape[-1] // 2
        return F.conv2d(F.pad(h, (pad, pad, pad, pad), mode="circular"), weight, bias)

    states = None
    for frame in x.unbind(1):
        h = frame
        for k in (0, 3, 6):
            norm = stem[k + 1]
            h = conv(h, stem[k].weight, stem[k].bias)
            h = F.relu(F.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias))
        drive = conv(h, core.input_weight, core.bias)
        if states is None:
            states = [drive.tanh() for _ in range(9)]
        else:
            moved = [s.roll((r, c), (-2, -1)) for s, (r, c) in zip(states, velocity_grid(1).tolist(), strict=True)]
            states = [(conv(s, core.state_weight, None) + drive).tanh() for s in moved]
    pooled = torch.stack(states).amax(0).mean((-2, -1))
    torch.testing.assert_close(model(x), model.logits(pooled), rtol=0, atol=1e-12)


def test_convolutions_over_time_and_space_know_shifts_and_not_motion() -> None:
    torch.manual_seed(0)
    model, x = SpaceTimeCNN(4).double().eval(), clip(4)
    torch.testing.assert_close(model(x.roll((2, 3), (-2, -1))), model(x), rtol=0, atol=1e-12)
    assert float((model(flowed(x, 1, 0)) - model(x)).detach().abs().max()) > 1e-6


def test_epochs_until_a_loss_is_reached() -> None:
    losses = np.array([[5.0, 5.0, 5.0], [3.0, 4.0, 4.5], [1.0, 2.0, 4.2]])
    assert _drifting.epochs_until(losses, np.array([3.0, 2.0, 4.0])).tolist() == [2, 3, math.inf]
    assert _drifting.epochs_until(losses, losses.min(0)).tolist() == [3, 3, 3]


def test_losses_of_epochs_are_those_of_the_training(smoke) -> None:
    rows = [row for row in smoke("fernn")["rows"] if row["part"] == "training loss"]
    run = Run("smoke", budget=system.BUDGETS["smoke"])
    assert [row["model"] for row in rows] == [
        name for name, rival in _drifting.drift_rivals(run).items() if rival.trains
    ]
    assert all(0 < row["epoch 1"] < math.inf for row in rows)


def test_the_same_digits_spin_at_all_velocities(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []

    def compare(part, rivals, draw, *rest, **options):
        seen.append(draw(0).test[0])
        raise StopIteration

    monkeypatch.setattr(_spinning, "compare", compare)
    with pytest.raises(StopIteration):
        _spinning.spin_part(Run("smoke", budget=system.BUDGETS["smoke"]))
    assert torch.equal(seen[0]["seen"][:, 0], seen[0]["unseen"][:, 0])
    assert not torch.equal(seen[0]["seen"][:, 1], seen[0]["unseen"][:, 1])


def test_learned_shifts_can_be_velocities() -> None:
    """With one-hot kernels G-RNN+ is the flow-equivariant network: the comparison is of what is built in."""
    torch.manual_seed(0)
    learned, fixed = learned_shifts(3, SIZE, 1).double(), drift_recurrence(3, SIZE, 1).double()
    state = torch.randn(2, 9, 3, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        learned.shift_weight.zero_()  # type: ignore[operator]
        for v, (rows, columns) in enumerate(velocity_grid(1).tolist()):
            learned.shift_weight[v, 0, 1 - rows, 1 - columns] = 1  # type: ignore[index]
    torch.testing.assert_close(learned.advance(state), fixed.advance(state), rtol=0, atol=1e-12)


def test_gradients_of_learned_shifts_are_those_of_a_convolution() -> None:
    """By finite differences, twice as wide as the torus too, and against torch's grouped convolution."""
    generator = torch.Generator().manual_seed(0)
    for size in ((3, 4), (5, 3)):
        maps = torch.randn(2, 2, *size, generator=generator, dtype=torch.float64, requires_grad=True)
        kernels = torch.randn(2, 1, 5, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(_Moved.apply, (maps, kernels))
    maps = torch.randn(3, 9, *SIZE, generator=generator, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(9, 1, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="circular"), kernels, groups=9)
    answer = _Moved.apply(maps, kernels)
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)
    weight = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(answer, (maps, kernels), weight),
        torch.autograd.grad(expected, (maps, kernels), weight),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_learned_shifts_know_shifts_and_not_motion() -> None:
    torch.manual_seed(0)
    learned, moved = LearnedShifts(3, SIZE, 1).double(), drift_recurrence(3, SIZE, 1).symmetry
    nu = torch.tensor([[1, 0]])
    assert float(equivariance_error(learned, learned.symmetry, clip(3), elements=nu, reduce="max")) < 1e-12
    assert float(equivariance_error(learned, moved, clip(3), elements=nu, reduce="max")) > 1e-2


def test_conv_lstm_is_the_textbook_one() -> None:
    torch.manual_seed(0)
    cell = ConvLSTM(2).double()
    frames = clip(3)
    h = c = torch.zeros(2, 2, *SIZE, dtype=torch.float64)
    state = None
    for frame in frames.unbind(1):
        padded = F.pad(torch.cat([frame, h], 1), (1, 1, 1, 1), mode="circular")
        i, f, g, o = F.conv2d(padded, cell.weight, cell.bias).split(2, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        state = cell.update(frame, state)
        torch.testing.assert_close(state[:, 0], torch.cat([h, c], 1), rtol=1e-12, atol=1e-12)
    assert cell.bias[2:4].tolist() == [1, 1]


def test_recurrent_kernels_start_near_half_the_identity() -> None:
    torch.manual_seed(0)
    for core in (drift_recurrence(4, SIZE, 1), learned_shifts(4, SIZE, 1)):
        middle = core.state_weight[:, :, 1, 1].detach()
        assert float((middle - RETAINED * torch.eye(4)).abs().max()) < 0.3
    own = spin_recurrence(2, 1).state_conv.expand()[0].detach()
    assert own[:, :, 1, 1].diagonal().min() > 0.2


def test_errors_of_copying() -> None:
    """Digits on a torus of 16 come back after 16 frames: what is copied is right again there, and nowhere before."""
    clips = drifting_digits(10, 25, [[1, 0]], generator=torch.Generator().manual_seed(0)).frames
    errors = _predictions.frame_errors(CopyLast(), *_predictions.cut(clips, 5)).mean(0)
    expected = (clips[:, 5:] - clips[:, 4:5]).square().mean((0, 2, 3, 4))
    torch.testing.assert_close(errors, expected)
    assert float(errors[15]) == 0
    assert float(errors[:15].min()) > 0


def test_all_speeds_are_tested_with_the_same_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame 0 of a clip to classify does not depend on its speed."""
    seen: list[dict[str, Tensor]] = []

    def compare(part, rivals, draw, *rest, **options):
        seen.append(draw(0).test[0])
        raise StopIteration

    monkeypatch.setattr(_classes, "compare", compare)
    with pytest.raises(StopIteration):
        _classes.classes_part(Run("smoke", budget=system.BUDGETS["smoke"]))
    rest, slow, fast = (seen[0][speed] for speed in "012")
    assert torch.equal(rest[:, 0], slow[:, 0])
    assert torch.equal(rest[:, 0], fast[:, 0])
    assert not torch.equal(slow[:, 1], fast[:, 1])


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 0, 1, 6, 8), "T of at least 1"),
        ((2, 1, 3, 6, 8), "time comes before channels"),
        ((2, 3, 6, 8), r"\[B, T, 1, H, W\]"),
        ((2, 3, 1, 8, 6), "made for size"),
    ],
)
def test_clips_of_another_shape(shape: tuple[int, ...], words: str) -> None:
    for model in (predictor(), classifier((6, 8))):
        with pytest.raises(ShapeError, match=words):
            model(torch.zeros(shape))


def test_horizons_that_are_no_number_of_frames() -> None:
    with pytest.raises(ErlangenError, match="horizon = 0"):
        Predictor(drift_recurrence(3, (6, 8), 1), torus_decoder(3, 4), 0)
    with pytest.raises(ErlangenError, match="horizon = 0"):
        predictor()(torch.zeros(1, 2, 1, 6, 8), 0)
