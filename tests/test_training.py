"""er.fit: it learns, stops, resumes after a kill with the same weights, and says what is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import CheckpointError, DataError, ErlangenError, NotFiniteError

RUN = """
import sys, time, torch, erlangen as er
torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
y = x @ torch.randn(4, 1, generator=torch.Generator().manual_seed(2))
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1))
slow = lambda epoch, model, metrics: (print(epoch, flush=True), time.sleep(float(sys.argv[2])))
sym = er.Symmetry("Cyclic(2)", input=lambda g, x: x * (1 - 2 * g[:, None]), output=lambda g, y: y * (1 - 2 * g[:, None]))
result = er.fit(net, x, y, loss=torch.nn.functional.mse_loss, epochs=12, batch_size=16, lr=1e-2, checkpoint=sys.argv[1],
    transform=er.augment(sym), validation=(x, y), callbacks=[slow], progress=False)
torch.save(net.state_dict(), sys.argv[3])
print("resumed", result.resumed_from)
"""


def data(n=64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def test_it_learns_a_linear_map():
    x, y = data()
    net = nn.Linear(3, 1)
    result = er.fit(net, x, y, loss=nn.functional.mse_loss, epochs=60, lr=0.05, progress=False)
    assert result.history[-1]["loss"] < 1e-3 < result.history[0]["loss"]
    assert result.best_epoch == 59
    torch.testing.assert_close(net.weight, torch.tensor([[1.0, -2.0, 0.5]]), rtol=0, atol=0.05)
    assert not net.training


def test_seed_decides_everything():
    x, y = data()

    def weights(seed):
        torch.manual_seed(5)
        net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        er.fit(net, x, y, loss=nn.functional.mse_loss, epochs=3, seed=seed, progress=False)
        return net[0].weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_it_leaves_the_callers_random_stream_alone():
    x, y = data()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    er.fit(nn.Linear(3, 1), x, y, loss=nn.functional.mse_loss, epochs=1, progress=False)
    torch.manual_seed(3)
    net = nn.Linear(3, 1)
    torch.manual_seed(3)
    er.fit(net, x, y, loss=nn.functional.mse_loss, epochs=1, progress=False)
    assert torch.equal(torch.rand(4), expected)


def test_early_stop_returns_the_best_weights():
    x, y = data()
    net = nn.Linear(3, 1)
    seen = []

    def spoil(epoch, model, metrics):
        """From epoch 3 on the model gets worse whatever training does."""
        seen.append(metrics["validation_loss"])
        if epoch >= 2:
            with torch.no_grad():
                model.weight.add_(10.0)

    result = er.fit(
        net, x, y, loss=nn.functional.mse_loss, epochs=50, lr=1e-2, validation=(x, y), patience=4,
        metrics={"mae": nn.functional.l1_loss}, callbacks=[spoil], progress=False,
    )  # fmt: skip
    assert result.stopped_early
    assert len(result.history) == result.best_epoch + 5 < 50
    assert "mae" in result.history[0]
    assert (
        float(nn.functional.mse_loss(net(x), y).detach()) == pytest.approx(min(seen), rel=10) or result.best_epoch <= 2
    )


def test_clip_bounds_the_step():
    x, y = data()
    before = nn.Linear(3, 1)
    after = nn.Linear(3, 1)
    after.load_state_dict(before.state_dict())
    er.fit(
        after, x, 1e6 * y, loss=nn.functional.mse_loss, epochs=1, batch_size=64, clip=0.1, progress=False,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
    )  # fmt: skip
    moved = torch.cat([(a - b).flatten() for a, b in zip(after.parameters(), before.parameters(), strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(0.1, rel=1e-3)


def _run(path: Path, pause: float, out: Path, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(path), str(pause), str(out)],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    whole = _run(tmp_path / "whole.pt", 0, tmp_path / "whole_weights.pt")
    assert whole.communicate()[0].strip().endswith("resumed 0")
    with _run(tmp_path / "run.pt", 0.25, tmp_path / "weights.pt") as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.strip() == "5":
                break
        time.sleep(0.1)
        killed.send_signal(signal.SIGKILL)
    assert not (tmp_path / "weights.pt").exists()
    resumed = _run(tmp_path / "run.pt", 0, tmp_path / "weights.pt")
    last = resumed.communicate()[0].strip().splitlines()[-1]
    assert last in ("resumed 5", "resumed 6")
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("whole_weights.pt", "weights.pt"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not list(tmp_path.glob("*.partial"))


def test_checkpoint_of_another_model_or_a_damaged_one(tmp_path):
    x, y = data()
    path = tmp_path / "fit.pt"
    er.fit(nn.Linear(3, 1), x, y, loss=nn.functional.mse_loss, epochs=2, checkpoint=path, progress=False)
    again = er.fit(nn.Linear(3, 1), x, y, loss=nn.functional.mse_loss, epochs=2, checkpoint=path, progress=False)
    assert again.resumed_from == 2
    assert len(again.history) == 2
    with pytest.raises(CheckpointError, match="of another model"):
        er.fit(nn.Linear(3, 2), x, y, loss=nn.functional.mse_loss, epochs=2, checkpoint=path, progress=False)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        er.fit(nn.Linear(3, 1), x, y, loss=nn.functional.mse_loss, epochs=2, checkpoint=path, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ErlangenError, "epochs = 0"),
        ({"batch_size": 0}, ErlangenError, "batch_size = 0"),
        ({"patience": 3}, ErlangenError, "patience needs validation"),
        ({"y": torch.zeros(3, 1)}, DataError, r"lengths \[3, 64\]"),
        ({"x": torch.zeros(0, 3), "y": torch.zeros(0, 1)}, DataError, "at least one"),
        ({"validation": (torch.zeros(2, 3), torch.zeros(1, 1))}, DataError, "validation x and y"),
        ({"loss": lambda a, b: (a - b).mean() * float("nan")}, NotFiniteError, "epoch 0, step 0"),
    ],
)
def test_bad_input(change, error, message):
    x, y = data()
    options = {"x": x, "y": y, "loss": nn.functional.mse_loss, "epochs": 1, "progress": False} | change
    with pytest.raises(error, match=message):
        er.fit(nn.Linear(3, 1), options.pop("x"), options.pop("y"), **options)


def test_a_gradient_that_is_not_finite_is_named_before_the_weights_are_lost():
    """The root has an infinite slope at zero, where its value is finite."""
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    with pytest.raises(NotFiniteError, match="gradient is not finite at epoch 0, step 0"):
        er.fit(model, *data(), loss=lambda a, b: a.abs().sqrt().mean(), epochs=1, clip=1.0, progress=False)
    assert not model.weight.any()


def test_a_schedule_sets_the_rate_of_every_step():
    """Plain gradient steps on a linear loss: each moves the weight by its own learning rate."""
    model = torch.nn.Linear(1, 1, bias=False)
    start = model.weight.detach().clone()
    seen = []

    def loss(answer, target):
        seen.append(model.weight.detach().clone())
        return answer.mean()

    options = {"loss": loss, "epochs": 2, "batch_size": 2, "progress": False, "schedule": lambda done: 1 - done}
    er.fit(model, torch.ones(8, 1), torch.ones(8, 1), optimizer=lambda p: torch.optim.SGD(p, lr=0.5), **options)
    rates = [0.5 * (1 - step / 8) for step in range(8)]
    expected = start - torch.tensor(rates).cumsum(0)[:, None, None]
    torch.testing.assert_close(model.weight.detach(), expected[-1])
    torch.testing.assert_close(torch.stack(seen)[1:8], expected[:7])


def test_a_schedule_goes_on_where_a_run_was_killed(tmp_path):
    def run(epochs, checkpoint=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        x = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
        # The share of the steps depends on all epochs, which the killed run was to have, too.
        schedule = er.training.one_cycle if epochs == 4 else lambda done: er.training.one_cycle(done * epochs / 4)
        er.fit(
            model, x, x[:, :1], loss=torch.nn.functional.mse_loss, epochs=epochs, batch_size=4, lr=0.1,
            schedule=schedule, checkpoint=checkpoint, progress=False,
        )  # fmt: skip
        return model.weight.detach()

    whole = run(4)
    run(2, tmp_path / "run.pt")
    assert torch.equal(run(4, tmp_path / "run.pt"), whole)


@torch.no_grad()
def test_it_trains_where_gradients_are_off():
    model = torch.nn.Linear(2, 1)
    before = model.weight.clone()
    er.fit(model, torch.ones(4, 2), torch.ones(4, 1), loss=torch.nn.functional.mse_loss, epochs=1, progress=False)
    assert not torch.equal(model.weight, before)
    assert not torch.is_grad_enabled()


# --- what a resumed run takes from its own call ----------------------------------------------------------------------
def _constant_gradient(path, epochs, net=None, **options):
    """One weight under the loss w: its gradient is 1, so that SGD takes the rate off in each of the epochs."""
    net = net or nn.Linear(1, 1, bias=False)
    if not Path(path).exists():
        net.weight.data.zero_()
    x = torch.ones(4, 1)
    result = er.fit(
        net, x, x, loss=lambda p, _: p.mean(), epochs=epochs, batch_size=4, checkpoint=path, progress=False, **options,
    )  # fmt: skip
    return net.weight.item(), result


def test_a_new_rate_is_used(tmp_path):
    path = tmp_path / "run.pt"
    sgd = lambda lr, **more: lambda p: torch.optim.SGD(p, lr=lr, **more)  # noqa: E731
    assert _constant_gradient(path, 2, optimizer=sgd(1.0))[0] == -2
    assert _constant_gradient(path, 5, optimizer=sgd(10.0))[0] == -32
    assert _constant_gradient(path, 6, optimizer=sgd(10.0, maximize=True))[0] == -22  # any option, not the rate alone
    # Momentum m: steps of the rate times 1, 1 + m, ... from the epoch where it begins.
    assert _constant_gradient(path, 8, optimizer=sgd(8.0, momentum=0.5))[0] == -22 - 8 - 12


def test_what_a_callback_made_of_the_rate_stays(tmp_path):
    """A callback halves the rate after every epoch; a run that is resumed goes on from there, as one that was not does."""

    def run(path, epochs):
        held = []

        def make(parameters):
            held.append(torch.optim.SGD(parameters, lr=1.0))
            return held[0]

        def halve(epoch, model, row):
            held[0].param_groups[0]["lr"] /= 2

        return _constant_gradient(path, epochs, optimizer=make, callbacks=[halve])[0]

    assert run(tmp_path / "whole.pt", 4) == -(1 + 1 / 2 + 1 / 4 + 1 / 8)
    run(tmp_path / "parts.pt", 2)
    assert run(tmp_path / "parts.pt", 4) == -(1 + 1 / 2 + 1 / 4 + 1 / 8)


def test_schedules_that_come_go_and_change_their_rate(tmp_path):
    path, sgd = tmp_path / "run.pt", lambda lr: lambda p: torch.optim.SGD(p, lr=lr)
    quarter = {"schedule": lambda done: 0.25}
    assert _constant_gradient(path, 1, optimizer=sgd(4.0), **quarter)[0] == -1
    assert _constant_gradient(path, 2, optimizer=sgd(4.0), **quarter)[0] == -2
    assert _constant_gradient(path, 3, optimizer=sgd(8.0), **quarter)[0] == -4
    assert _constant_gradient(path, 4, optimizer=sgd(8.0))[0] == -12  # no schedule: the whole rate
    assert _constant_gradient(path, 5, optimizer=sgd(8.0), **quarter)[0] == -14


def test_another_optimizer_is_named(tmp_path):
    path, net = tmp_path / "run.pt", nn.Linear(1, 1, bias=False)
    _constant_gradient(path, 2, net, optimizer=lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5))
    before = net.weight.detach().clone()
    with pytest.raises(CheckpointError, match=r"written with the optimizer SGD, and this call has AdamW"):
        _constant_gradient(path, 3, net, optimizer=torch.optim.AdamW)
    assert torch.equal(net.weight, before)
    # Version 0.1.0 did not say which it was; the options tell.
    state = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in state.items() if key not in ("kind", "options")}, path)
    with pytest.raises(
        CheckpointError, match=r"run\.pt' cannot be resumed: it was written with an optimizer of another kind"
    ):
        _constant_gradient(path, 3, net, optimizer=torch.optim.AdamW)
    assert (
        _constant_gradient(path, 3, net, optimizer=lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5))[1].resumed_from
        == 2
    )


def test_more_patience_trains_on(tmp_path):
    x, y = data()

    def run(patience, epochs=12):
        # The validation loss of wrong labels grows from the first epoch on.
        return er.fit(
            nn.Linear(3, 1), x, y, loss=nn.functional.mse_loss, epochs=epochs, lr=0.1, checkpoint=tmp_path / "run.pt",
            validation=(x, -9 * y), patience=patience, progress=False,
        )  # fmt: skip

    first = run(2)
    assert first.stopped_early
    ended = len(first.history)
    assert len(run(2).history) == ended  # the same patience: nothing to do
    longer = run(4)
    assert (len(longer.history), longer.stopped_early) == (ended + 2, True)
    assert (len(run(None).history), run(None).stopped_early) == (12, False)


def test_numbers_of_numpy_do_not_lose_the_run(tmp_path):
    path, x = tmp_path / "run.pt", torch.randn(8, 3)

    def score(epoch, model, row):
        row["score"] = np.float64(0.5) + epoch
        row["count"], row["good"], row["by_class"] = np.int32(3), np.bool_(True), np.array([1.0, 2.0], dtype=np.float32)
        row["tensor"] = torch.tensor(0.25)

    def run(epochs):
        return er.fit(
            nn.Linear(3, 1), x, x[:, :1], loss=nn.functional.mse_loss, epochs=epochs, lr=np.float64(1e-3),
            schedule=lambda done: np.float32(1.0), checkpoint=path, callbacks=[score], progress=False,
        )  # fmt: skip

    run(2)
    result = run(3)
    assert result.resumed_from == 2
    assert [row["score"] for row in result.history] == [0.5, 1.5, 2.5]
    assert result.history[0]["by_class"] == [1.0, 2.0]
    assert result.history[0]["tensor"] == 0.25
    assert type(result.history[0]["count"]) is int
    assert result.history[0]["good"] is True


def test_what_cannot_be_kept_is_named_at_the_first_epoch(tmp_path):
    x = torch.randn(8, 3)

    def fit(net, **options):
        return er.fit(net, x, x[:, :1], loss=nn.functional.mse_loss, epochs=2, progress=False, **options)

    def odd(epoch, model, row):
        row["odd"] = object()

    fit(nn.Linear(3, 1), callbacks=[odd])  # nothing is kept here, so nothing has to be
    with pytest.raises(er.ErlangenError, match=r"metrics\['odd'\] is a object, which a checkpoint cannot hold"):
        fit(nn.Linear(3, 1), callbacks=[odd], checkpoint=tmp_path / "run.pt")

    class Odd(nn.Linear):
        def get_extra_state(self):
            return Path("somewhere")

        def set_extra_state(self, state):
            pass

    with pytest.raises(CheckpointError, match=r"could not be read again .*get_extra_state"):
        fit(Odd(3, 1), checkpoint=tmp_path / "odd.pt")
    assert not (tmp_path / "odd.pt").exists()


def test_a_checkpoint_with_a_changed_byte_is_refused(tmp_path):
    path, x = tmp_path / "run.pt", torch.randn(8, 3)

    def fit():
        return er.fit(
            nn.Linear(3, 1), x, x[:, :1], loss=nn.functional.mse_loss, epochs=1, checkpoint=path, progress=False
        )

    fit()
    data = path.read_bytes()
    for place in range(5, len(data), len(data) // 25):
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with pytest.raises(CheckpointError, match=r"run\.pt' cannot be resumed.*remove it or pass another path"):
            fit()
    path.write_bytes(data)
    assert fit().resumed_from == 1
