"""Flow-equivariant networks on moving digits: the smoke run, predictions that move along, baselines, the picture."""

import json
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.data import drifting_digits
from erlangen.nn import DriftRecurrence2d, velocity_grid
from erlangen.survey.claims import Result
from erlangen.survey.ledger import discover_systems, run
from erlangen.systems.images import fernn as system
from erlangen.systems.images._fernn_models import (
    RETAINED,
    drift_recurrence,
    learned_shifts,
    spin_recurrence,
    torus_decoder,
)
from erlangen.systems.images._fernn_properties import property_errors
from erlangen.systems.images._fernn_training import CopyLast, horizon_errors
from erlangen.systems.images.fernn import Classifier, ConvLSTM, Predictor

CLOSED = [[r, c] for r in (0, 4, 8) for c in (0, 8)]
SIZE = (12, 16)


def flowed(x: Tensor, rows: int, columns: int, start: int = 0) -> Tensor:
    """Frame t of ``[B, T, ..., H, W]`` rolled by t + start times a velocity, with torch alone."""
    frames = [x[:, t].roll(((t + start) * rows, (t + start) * columns), (-2, -1)) for t in range(x.shape[1])]
    return torch.stack(frames, 1)


def clip(frames: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(2, frames, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# --- the experiment --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    return run("fernn", "smoke", 0)


def test_smoke_run(entry: dict[str, Any]) -> None:
    assert discover_systems()["fernn"] == "erlangen.systems.images.fernn"
    holds = {claim["id"]: claim["holds"] for claim in entry["claims"]}
    assert holds.pop("published-moving-digits") is None
    assert holds.pop("published-actions") is None
    trained = [
        name for name in holds if name.startswith(("drift-", "velocities-", "spin-beats", "spin-unseen", "classes-"))
    ]
    for name in trained:
        assert holds.pop(name) in (True, False)  # a few steps of training settle nothing
    assert len(holds) == 14
    assert [name for name, verdict in holds.items() if not verdict] == []
    json.dumps(entry, allow_nan=False)


def test_rows_hold_every_baseline(entry: dict[str, Any]) -> None:
    models = {part: {row["model"] for row in entry["rows"] if row["part"] == part}
              for part in ("drift", "velocities", "spin", "classes")}  # fmt: skip
    untrained = {"zero", "copy last"}
    assert models["drift"] == models["velocities"] == {*system.DRIFT, *untrained}
    assert models["spin"] == {*system.SPIN, *untrained}
    assert models["classes"] == set(system.CLASSIFIERS)
    for row in entry["rows"]:
        if row["part"] in ("drift", "spin", "classes") and row["model"] not in untrained:
            assert row["parameters"] > 0
            assert row["learning rate"]
    table = {row["model"]: row["parameters"] for row in entry["rows"] if row["part"] == "drift" and "parameters" in row}
    work = {row["model"]: row["MFLOP"] for row in entry["rows"] if row["part"] == "drift" and "MFLOP" in row}
    assert 0.8 < work["FERNN, V1"] / work["G-RNN, wide"] < 1.2  # what "wide" means
    assert table["FERNN, V1"] == table["FERNN, V2"] == table["G-RNN"] < table["G-RNN+"] < table["G-RNN, wide"]


def test_figure_shows_all_models(entry: dict[str, Any]) -> None:
    picture = system.figure(Result.from_dict(entry))
    ElementTree.fromstring(picture)
    assert picture.count("<polyline") == len(system.DRIFT) + 1
    assert all(name in picture for name in ("FERNN, V1", "FERNN, V2", "G-RNN, wide", "ConvLSTM", "zero"))
    assert picture.count("<rect") >= 4 * 25


def test_no_property_is_vacuous(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that does not move breaks the theorem, its read-out and the mirror law does not notice."""
    monkeypatch.setattr(DriftRecurrence2d, "advance", lambda self, state: state)
    errors = property_errors(0)
    for name in ("theorem, float64", "theorem, float32", "theorem, closed set", "read-out"):
        assert errors[name] > 1e-2, name
    assert errors["static shift"] < 1e-12


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
    answer = model(x, 2)
    longer = torch.cat([x, answer[:, :1].clamp(0, 1)], 1)
    torch.testing.assert_close(model(longer, 1)[:, 0], answer[:, 1], rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(answer[:, 1].sum(), model.decoder[-1].bias)  # type: ignore[union-attr, index]
    torch.testing.assert_close(gradient, torch.full((1,), 2.0 * 12 * 16, dtype=torch.float64))  # of its own frame alone


def test_classifier_does_not_notice_drift_where_velocities_are_closed() -> None:
    torch.manual_seed(0)
    moving = Classifier(DriftRecurrence2d(1, 3, SIZE, velocities=CLOSED), 6).double()
    still = Classifier(drift_recurrence(3, SIZE, 0), 6).double()
    x = clip(4)
    torch.testing.assert_close(moving(flowed(x, 4, 8)), moving(x), rtol=1e-12, atol=1e-12)
    assert float((still(flowed(x, 4, 8)) - still(x)).detach().abs().max()) > 1e-3


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


def test_horizon_errors_of_copying() -> None:
    """Digits on a torus of 16 come back after 16 frames: what is copied is right again there, and nowhere before."""
    clips = drifting_digits(10, 25, [[1, 0]], generator=torch.Generator().manual_seed(0)).frames
    errors = horizon_errors(CopyLast(), clips, 20).mean(0)
    expected = (clips[:, 5:] - clips[:, 4:5]).square().mean((0, 2, 3, 4))
    torch.testing.assert_close(errors, expected)
    assert float(errors[15]) == 0
    assert float(errors[:15].min()) > 0
