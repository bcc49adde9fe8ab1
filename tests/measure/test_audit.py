"""er.audit against closed forms: curves that are known, laws of orbits, consensus, certificates."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import CheckpointError, TrainModeWarning
from erlangen.measure import Metric, orbit

IMAGE = {"input": "image", "output": "invariant"}


def mean_radius(x):
    """Invariant under E(3)."""
    return (x - x.mean(1, keepdim=True)).norm(dim=-1).mean(1, keepdim=True)


class Mlp(nn.Module):
    def __init__(self, n=30, out=3):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(n, 16), nn.Tanh(), nn.Linear(16, out))

    def forward(self, x):
        return self.body(x)


def clouds(n=6, points=10, dtype=torch.float32, seed=0):
    return torch.randn(n, points, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_invariant_model_has_zero_error_and_flat_curve(dtype, tol):
    sym = er.Symmetry("E(3)", input="points", output="invariant")
    x = clouds(dtype=dtype)
    report = er.audit(mean_radius, sym, x, mean_radius(x) + 1, metric="mse", elements=100)
    assert report.worst_error < tol
    assert report.certificate == "statistical"
    curve = report.scores.mean(1)
    torch.testing.assert_close(curve, torch.ones(100, dtype=torch.float64), rtol=0, atol=1e-4 if tol > 1e-6 else 1e-10)


def test_error_of_a_known_function():
    """f(x) = x_1 on the circle: |f(gx) - f(x)| / |f(x)| = |cos(t + a) - cos(a)| / |cos(a)|."""
    a = torch.tensor([0.3, 1.1, -0.4], dtype=torch.float64)
    x = torch.stack((a.cos(), a.sin()), 1)
    sym = er.Symmetry("SO(2)", input="vectors", output="invariant")
    report = er.audit(lambda v: v[:, :1], sym, x, elements=24)
    t = 2 * math.pi * torch.arange(24, dtype=torch.float64)[:, None] / 24
    expected = ((t + a).cos() - a.cos()).abs() / a.cos().abs()
    torch.testing.assert_close(report.errors, expected, rtol=0, atol=1e-12)
    numbers = report.to_dict()["error"]
    assert numbers["mean"] == pytest.approx(float(expected.mean()))
    assert numbers["max"] == pytest.approx(float(expected.max()))
    assert expected[numbers["max_at"]["element"], numbers["max_at"]["sample"]] == expected.max()
    low, high = numbers["interval"]
    assert low < numbers["mean"] < high


def test_planted_harmonic_comes_back():
    """f = |x| + a cos(k t): the orbit curve has amplitude a at frequency k and nothing else."""
    k, amplitude = 3, 0.25
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

    def f(v):
        return v.norm(dim=1) + amplitude * torch.cos(k * torch.atan2(v[:, 1], v[:, 0]))

    sym = er.Symmetry("SO(2)", input="vectors", output="invariant")
    predictions = Metric("value", lambda prediction, target: prediction)
    report = er.audit(f, sym, x, torch.zeros(1, dtype=torch.float64), metric=predictions, elements=72)
    spectrum = np.abs(np.fft.rfft(report.scores[:, 0].numpy())) / 36
    assert spectrum[k] == pytest.approx(amplitude, abs=1e-10)
    spectrum[[0, k]] = 0
    assert spectrum.max() < 1e-10


def test_orbit_law_on_a_non_abelian_group(generator):
    """N_{hx}(g) = N_x(gh), bit for bit; with hg instead it fails (the classic bug)."""
    group = er.Dihedral(4)
    sym = er.Symmetry(group, **IMAGE)
    x, y = torch.rand(3, 1, 9, 9, generator=generator), torch.tensor([0, 1, 2])
    model = nn.Sequential(nn.Flatten(), nn.Linear(81, 3)).eval()
    metric = Metric("logit", lambda prediction, target: prediction.gather(1, target[:, None])[:, 0])
    base = er.audit(model, sym, x, y, metric=metric, chunk=1)
    everything, h = group.elements(), torch.tensor(5)
    moved = er.audit(model, sym, sym.input.act(h, x), y, metric=metric, chunk=1)
    assert torch.equal(moved.scores, base.scores[group.compose(everything, h)])
    assert not torch.equal(moved.scores, base.scores[group.compose(h, everything)])


def test_exact_certificate_and_group_average(generator):
    sym = er.Symmetry("Cyclic(4)", **IMAGE)
    x = torch.rand(4, 1, 8, 8, generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

    def averaged(x):
        return torch.stack([net(torch.rot90(x, k, (-2, -1))) for k in range(4)]).mean(0)

    exact = er.audit(averaged, sym, x)
    assert exact.certificate == "exact"
    assert exact.worst_error < 1e-5
    assert len(exact.orbit) == 4
    assert exact.resampling is None
    rotated = er.audit(averaged, er.Symmetry("SO(2)", **IMAGE), x, elements=30)
    assert rotated.certificate == "statistical"
    assert rotated.resampling["input"] > 0.05
    assert rotated.error > 0.01


def test_consensus_is_exactly_equivariant_on_a_closed_orbit(generator):
    """Consensus of hx is h applied to the consensus of x, equals the prediction of an equivariant model, and obeys Jensen."""
    group = er.Dihedral(4)
    sym = er.Symmetry(group, input="image", output="image")
    x = torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").double()
    from erlangen.measure.evaluate import consensus_of, on_orbit
    from erlangen.measure.models import Model

    def consensus(x):
        g = group.elements()[:, None]
        return consensus_of(sym, [(g, on_orbit(Model(conv), sym, g, x[None]))], vote=False)

    h = torch.tensor(6)
    torch.testing.assert_close(consensus(sym.input.act(h, x)), sym.output.act(h, consensus(x)), rtol=0, atol=1e-12)
    again = consensus_of(
        sym, [(group.elements()[:, None], sym.output.act(group.elements()[:, None], consensus(x)[None]))], vote=False
    )
    torch.testing.assert_close(again, consensus(x), rtol=0, atol=1e-12)
    target = torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    report = er.audit(conv, sym, x, target, metric="mse")
    assert float((consensus(x) - target).square().mean()) <= report.orbit_mean + 1e-12


def test_consensus_votes_on_labels():
    """Labels are voted on, not averaged: with the answers 0, 0, 2, 2, 2 the consensus is 2."""
    sym = er.Symmetry("Cyclic(5)", input=lambda g, x: x * 0 + g[..., None].to(x), output="invariant")
    table = torch.tensor([0, 0, 2, 2, 2])
    report = er.audit(lambda x: table[x[:, 0].long()], sym, torch.zeros(3, 1), metric="accuracy")
    assert float(report.consensus.mean()) == pytest.approx(3 / 5)


def test_chunk_batch_and_order_do_not_matter(generator):
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    model, x, y = Mlp().eval(), clouds(7), torch.arange(7) % 3
    reference = er.audit(model, sym, x, y, elements=40, chunk=40)
    for chunk in (1, 7, None):
        other = er.audit(model, sym, x, y, elements=40, chunk=chunk)
        torch.testing.assert_close(other.errors, reference.errors, rtol=1e-4, atol=1e-6)
        assert torch.equal(other.scores, reference.scores)
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
    shuffled = er.audit(model, sym, x[order], y[order], elements=40, chunk=40)
    torch.testing.assert_close(shuffled.errors, reference.errors[:, order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(shuffled.consensus, reference.consensus[:, order])
    one = er.audit(model, sym, x[2:3], y[2:3], elements=40)
    torch.testing.assert_close(one.errors[:, 0], reference.errors[:, 2], rtol=1e-4, atol=1e-6)


def test_many_blocks_equal_one(monkeypatch, generator):
    sym = er.Symmetry("Cyclic(4)", **IMAGE)
    x, y = torch.rand(20, 1, 8, 8, generator=generator), torch.arange(20) % 5
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).eval()
    one = er.audit(model, sym, x, y)
    monkeypatch.setattr(sys.modules["erlangen.measure.audit"], "_block_size", lambda *_: 3)
    many = er.audit(model, sym, x, y)
    assert many.settings["samples_per_block"] == 3
    torch.testing.assert_close(many.errors, one.errors, rtol=1e-4, atol=1e-6)
    assert torch.equal(many.scores, one.scores)
    assert torch.equal(many.consensus, one.consensus)


def test_equivariant_vector_outputs_and_trees():
    sym = er.Symmetry("SE(3)", input={"pos": "points", "vel": "vectors"}, output=("points", "invariant"))
    x = {"pos": clouds(5), "vel": clouds(5, seed=1)}

    def good(x):
        centre = x["pos"].mean(1)
        return centre + x["vel"].mean(1), x["vel"].norm(dim=-1)

    def bad(x):
        return x["pos"].mean(1) + x["vel"].abs().mean(1), x["vel"].norm(dim=-1)

    assert er.audit(good, sym, x).worst_error < 1e-5
    assert er.audit(bad, sym, x).error > 0.1


def test_masked_error_ignores_what_no_model_can_know(generator):
    """The identity map on images is equivariant; under rotations its masked error is zero although corners are lost."""
    sym = er.Symmetry("SO(2)", input="image", output="image")
    report = er.audit(lambda x: x, sym, torch.rand(2, 1, 15, 15, generator=generator), elements=20)
    assert report.worst_error == 0


def test_train_mode_is_switched_and_restored():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.linear = nn.Dropout(0.5), nn.Linear(30, 2)

        def forward(self, x):
            assert not self.training
            return self.linear(self.drop(x.flatten(1)))

    net = Net().train()
    net.linear.eval()
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    with pytest.warns(TrainModeWarning, match="Dropout"):
        er.audit(net, sym, clouds(), elements=3)
    assert net.training
    assert net.drop.training
    assert not net.linear.training

    def fail(_module, _input):
        raise RuntimeError("inside")

    net.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="inside"), pytest.warns(TrainModeWarning):
        er.audit(net, sym, clouds(), elements=3)
    assert net.training


def test_a_model_that_switches_itself_on_is_switched_off_again():
    class Net(nn.Linear):
        def forward(self, x):
            self.train()
            return super().forward(x.flatten(1))

    net = Net(30, 2).eval()
    er.audit(net, er.Symmetry("SO(3)", input="points", output="invariant"), clouds(), elements=3)
    assert not net.training


def test_numpy_functions_and_integer_answers():
    sym = er.Symmetry("SO(3)", input="points", output="invariant")

    def spread(x):
        return np.linalg.norm(x.astype(np.float64), axis=-1).mean(-1)

    assert er.audit(spread, sym, clouds(), elements=10).worst_error < 1e-5
    labels = er.audit(
        lambda x: (x.sum((1, 2)) > 0).long(), sym, clouds(20), torch.zeros(20, dtype=torch.long), elements=10
    )
    assert set(labels.errors.unique().tolist()) <= {0.0, 1.0}
    assert labels.upright is not None


def test_json_round_trip_and_html(tmp_path):
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    report = er.audit(Mlp().eval(), sym, clouds(), torch.arange(6) % 3, elements=30, layers=True)
    report.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert page.count("<svg") >= 3
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("group", "action", "shape", "mark"),
    [
        ("SO(2)", "image", (1, 8, 8), "by rotation angle; ring: identity"),
        ("Cyclic(8)", "image", (1, 8, 8), "by rotation angle; ring: identity"),
        ("Dihedral(4)", "image", (1, 8, 8), "identity"),
        ("Shifts(6,6)", "image", (1, 6, 6), "shift of columns"),
        ("Symmetric(4)", "permuted", (4, 2), "per element"),
        ("Symmetric(5)", "permuted", (5, 2), "sorted by value"),
        ("SE(3)", "points", (4, 3), "by where z points"),
        ("Translation(2)", "points", (4, 2), "to the right and up"),
        ("Translation(1)", "points", (4, 1), "shift"),
        ("Scaling(3)", "points", (4, 3), "powers of 2"),
        ("SE(2)", "points", (4, 2), "sorted by value"),
    ],
)
def test_every_orbit_has_its_plot(group, action, shape, mark, generator):
    sym = er.Symmetry(group, input=action, output="invariant")
    x = torch.rand(4, *shape, generator=generator)
    page = er.audit(lambda x: x.flatten(1).cumsum(1), sym, x, elements=None).to_html()
    assert mark in page


def test_model_names_are_escaped_in_html():
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    page = er.audit(mean_radius, sym, clouds(), elements=3, name="<script>alert(1)</script>").to_html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_interrupt_keeps_what_is_done_and_resume_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["erlangen.measure.audit"], "_block_size", lambda *_: 2)
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    model, x, y = Mlp().eval(), clouds(10), torch.arange(10) % 3
    calls = {"n": 0, "stop": 15}

    def counted(x):
        calls["n"] += 1
        if calls["n"] == calls["stop"]:
            raise KeyboardInterrupt
        return model(x)

    path = tmp_path / "audit.safetensors"
    partial = er.audit(counted, sym, x, y, elements=12, chunk=4, resume=path)
    assert not partial.complete
    assert 0 < len(partial.samples) < 10
    calls["stop"] = -1
    before = calls["n"]
    resumed = er.audit(counted, sym, x, y, elements=12, chunk=4, resume=path)
    assert resumed.complete
    whole = er.audit(model, sym, x, y, elements=12, chunk=4)
    assert torch.equal(resumed.errors, whole.errors)
    assert torch.equal(resumed.scores, whole.scores)
    done_before = len(partial.samples) // 2
    assert calls["n"] - before < (5 - done_before) * 4 + 40
    with pytest.raises(CheckpointError, match="belongs to another audit"):
        er.audit(model, sym, x + 1, y, elements=12, chunk=4, resume=path)
    path.write_bytes(b"not a file of ours")
    with pytest.raises(CheckpointError, match="is not a file that an audit wrote"):
        er.audit(model, sym, x, y, elements=12, chunk=4, resume=path)


def test_interrupt_before_the_first_block_is_raised():
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    calls = {"n": 0}

    def stop(x):
        calls["n"] += 1
        if calls["n"] > 4:
            raise KeyboardInterrupt
        return mean_radius(x)

    with pytest.raises(KeyboardInterrupt):
        er.audit(stop, sym, clouds(), elements=50, chunk=1)


def test_large_audits_announce_themselves(capsys):
    from erlangen.measure.audit import announce

    announce(1000.0, 576, 10_000)
    assert "576 elements x 10000 samples: up to 16.7 min, 132 MB" in capsys.readouterr().err
    announce(1.0, 576, 10)
    assert capsys.readouterr().err == ""


def test_default_orbits():
    assert len(orbit(er.SO(2))) == 72
    assert len(orbit(er.SO(3))) == 256
    assert orbit(er.Symmetric(5)).method == "all"
    assert len(orbit(er.Symmetric(8))) == 256
    assert orbit(er.Symmetric(8), 10).method == "sample"
    assert orbit(er.SO(3), 10).method == "grid"
    assert orbit(er.Dihedral(4), 100).method == "all"
    assert torch.equal(orbit(er.SE(3), 5, seed=3).elements, orbit(er.SE(3), 5, seed=3).elements)
    assert not torch.equal(orbit(er.SE(3), 5, seed=3).elements, orbit(er.SE(3), 5, seed=4).elements)


@pytest.mark.extra
def test_ray_engine_gives_the_same_numbers(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(sys.modules["erlangen.measure.audit"], "_block_size", lambda *_: 4)
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    model, x, y = nn.Sequential(nn.Flatten(), nn.Linear(30, 3)).eval(), clouds(12), torch.arange(12) % 3
    local = er.audit(model, sym, x, y, elements=20, chunk=5)
    spread = er.audit(model, sym, x, y, elements=20, chunk=5, engine="ray")
    torch.testing.assert_close(spread.errors, local.errors, rtol=1e-5, atol=1e-7)
    assert torch.equal(spread.scores, local.scores)
    assert torch.equal(spread.consensus, local.consensus)


@pytest.mark.parametrize("stop", [1, 3, 7, 8, 19, 39])
@pytest.mark.parametrize("slab", [1, 4, 5, 64])
def test_a_block_goes_on_after_any_call(monkeypatch, stop, slab):
    """Stopped after `stop` of 40 calls and resumed: the same bits, and no answer computed twice, however slabs are cut."""
    from erlangen.measure import evaluate
    from erlangen.measure.evaluate import Answers, Chunk, evaluate_block
    from erlangen.measure.models import Model

    x = torch.randn(3, 4, 3)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    monkeypatch.setattr(evaluate, "SLAB_BYTES", slab * x.nbytes)
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    elements = sym.group.sample(40, generator=torch.Generator().manual_seed(0))
    seen = []

    def run(kept, limit):
        def model(x):
            if len(seen) == limit:
                raise KeyboardInterrupt
            seen.append(len(x))
            return {"a": net(x), "b": net(x).argmax(-1)}

        wrapped = Model(model)
        return evaluate_block(wrapped, sym, elements, x, None, None, Chunk.of(wrapped, x, 1), kept=kept)

    whole = run(Answers(), None)
    assert len(seen) == 41  # the samples as they are, and forty elements
    seen.clear()
    kept = Answers()
    with pytest.raises(KeyboardInterrupt):
        run(kept, stop + 1)
    assert kept.count == stop
    seen.clear()
    again = run(Answers(kept.leaves()), None)
    assert len(seen) == 41 - stop
    assert torch.equal(again.errors, whole.errors)
    assert torch.equal(again.consensus, whole.consensus)


def test_a_long_call_is_not_made_longer():
    """A call of more than a second is the last trial of the chunk: a resume file is written between calls alone."""
    from erlangen.measure.evaluate import Chunk

    chunk = Chunk(slab=256)
    for seconds in (0.01, 0.01):  # one element
        chunk.record(1, seconds)
    assert (chunk.fixed, chunk.size) == (None, 4)
    for seconds in (1.3, 1.2):
        chunk.record(4, seconds)
    assert chunk.fixed == 1
    slow = Chunk(slab=256)
    for seconds in (2.0, 2.0):
        slow.record(1, seconds)
    assert slow.fixed == 1


@pytest.mark.parametrize("stop", [12, 30])
@pytest.mark.parametrize(
    ("group", "action", "shape"), [("SO(2)", "points", (4, 2)), ("Dihedral(16)", "points", (4, 2))]
)
def test_a_part_of_an_orbit_is_reported(tmp_path, group, action, shape, stop):
    """Ctrl-C in the first block: errors, scores and consensus are those of an audit of the first elements alone."""
    sym = er.Symmetry(group, input=action, output="invariant")
    x, y, net = torch.randn(5, *shape), torch.arange(5) % 3, Mlp(8).eval()
    calls = {"n": 0}

    def model(x):
        calls["n"] += 1
        if calls["n"] == stop:
            raise KeyboardInterrupt
        return net(x)

    report = er.audit(model, sym, x, y, chunk=1, resume=tmp_path / "state")
    assert (report.complete, report.certificate, report.orbit.method, report.orbit.closed) == (
        False,
        "statistical",
        "part",
        False,
    )
    assert 0 < len(report.orbit) < stop
    alone = er.audit(net, sym, x, y, elements=report.orbit.elements, chunk=1)
    for name in ("errors", "scores", "consensus", "base"):
        torch.testing.assert_close(getattr(report, name), getattr(alone, name), rtol=1e-12, atol=0)
    assert f"{len(report.orbit)} elements (part)" in report.to_html()
    assert er.audit(net, sym, x, y, chunk=1, resume=tmp_path / "state").complete
