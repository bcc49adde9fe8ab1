"""Short measurements: equivariance_error, assert_equivariant, Lie derivative, layers, worst case, tracker."""

import math

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import ModelError, NotEquivariantError, OrbitError, StepWarning, SymmetryError
from erlangen.measure import layer_errors, orbit

SYM = er.Symmetry("SO(3)", input="points", output="invariant")


def clouds(n=5, dtype=torch.float32):
    return torch.randn(n, 8, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_reductions():
    f = nn.Sequential(nn.Flatten(), nn.Linear(24, 2)).eval()
    table = er.equivariance_error(f, SYM, clouds(), elements=30, reduce="none")
    assert table.shape == (30, 5)
    assert float(er.equivariance_error(f, SYM, clouds(), elements=30)) == pytest.approx(float(table.mean()), rel=1e-5)
    assert float(er.equivariance_error(f, SYM, clouds(), elements=30, reduce="max")) == pytest.approx(
        float(table.max()), rel=1e-5
    )


def test_zero_output_is_measured_absolutely():
    sym = er.Symmetry("Cyclic(2)", input=lambda g, x: x + g[..., None].to(x), output="invariant")
    errors = er.equivariance_error(lambda x: x, sym, torch.zeros(3, 2), reduce="none")
    assert errors.tolist() == [[0.0] * 3, [pytest.approx(math.sqrt(2))] * 3]


def test_assert_equivariant():
    class Norms(nn.Module):
        symmetry = SYM

        def forward(self, x):
            return x.norm(dim=-1)

    assert er.assert_equivariant(Norms(), clouds(dtype=torch.float64)) < 1e-12
    assert er.assert_equivariant(Norms(), clouds()) < 1e-5
    with pytest.raises(NotEquivariantError, match=r"relative error .* > 1e-05 at element \d+, sample \d+"):
        er.assert_equivariant(lambda x: x[..., 0], clouds(), SYM)
    with pytest.raises(AssertionError):
        er.assert_equivariant(lambda x: x[..., 0], clouds(), SYM)
    with pytest.raises(SymmetryError, match="declares no symmetry"):
        er.assert_equivariant(nn.Linear(3, 3), clouds())


def test_lie_derivative_closed_form():
    """f(x) = x_1 under SO(2): |L f| / |f| = |x_2| / |x_1|."""
    a = torch.tensor([0.3, 0.9, -0.5], dtype=torch.float64)
    x = torch.stack((a.cos(), a.sin()), 1)
    sym = er.Symmetry("SO(2)", input="vectors", output="invariant")
    value = er.lie_derivative(lambda v: v[:, :1], sym, x)
    assert float(value[0]) == pytest.approx(float(a.tan().abs().mean()), rel=1e-9)
    single = er.lie_derivative(lambda v: v[:, :1], sym, x.float())
    assert float(single[0]) == pytest.approx(float(a.tan().abs().mean()), rel=1e-4)


def test_lie_derivative_against_autograd():
    f = nn.Sequential(nn.Flatten(), nn.Linear(24, 4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x = clouds(dtype=torch.float64)
    measured = er.lie_derivative(f, SYM, x)
    for i, generator in enumerate(er.SO(3).lie_algebra):
        _, slope = torch.func.jvp(f, (x,), (x @ generator.T,))
        expected = (slope.norm(dim=1) / f(x).norm(dim=1)).mean().detach()
        assert float(measured[i]) == pytest.approx(float(expected), rel=1e-7)


def test_lie_derivative_of_an_equivariant_model_is_zero():
    sym = er.Symmetry("SE(3)", input="points", output="points")
    assert (
        float(er.lie_derivative(lambda x: 2 * x - x.mean(1, keepdim=True), sym, clouds(dtype=torch.float64)).max())
        < 1e-9
    )


def test_layers_show_where_the_symmetry_is_lost():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
            self.act = nn.ReLU()
            self.pool = nn.AvgPool2d(4, stride=4)
            self.head = nn.Linear(4 * 4, 3)

        def forward(self, x):
            return self.head(self.pool(self.act(self.conv(x))).flatten(1))

    net = Net()
    sym = er.Symmetry("Shifts(8,8)", input="image", output="invariant")
    x = torch.rand(4, 1, 8, 8)
    report = er.audit(net, sym, x, layers=True)
    found = {layer.name: layer for layer in report.layers}
    assert found["conv"].best == ("input", 0.0)
    assert found["act"].errors["input"] == 0
    assert found["act"].errors["invariant"] > 0.1
    assert "input" not in found["pool"].errors, "a 2 x 2 map cannot be shifted by an 8 x 8 group"
    assert report.lost_at == "pool"
    chosen = layer_errors(net, sym, x, orbit(sym.group).elements, only=["head"])
    assert [layer.name for layer in chosen] == ["head"]
    with pytest.raises(ModelError, match="'tail' is no submodule"):
        layer_errors(net, sym, x, orbit(sym.group).elements, only=["tail"])
    with pytest.raises(ModelError, match="no torch module"):
        layer_errors(lambda x: x, sym, x, orbit(sym.group).elements)


def test_worst_case_finds_the_planted_minimum():
    """Accuracy drops only where the first axis points near -z: a small cap that the coarse grid misses."""
    target = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)

    def f(x):
        return (x[:, 0] @ target)[:, None]

    x = torch.tensor([[[1.0, 0.0, 0.0]]], dtype=torch.float64)
    y = torch.zeros(1, 1, dtype=torch.float64)
    found = er.worst_case(f, SYM, x, y, metric="mse", elements=20, rounds=30, tries=24)
    assert found.identity == 0
    assert found.grid <= found.score
    assert found.score == pytest.approx(1.0, abs=1e-4)
    assert abs(float(found.element[2, 0])) == pytest.approx(1.0, abs=1e-4)
    grid_only = er.worst_case(f, SYM, x, y, metric="mse", elements=20, rounds=0)
    assert grid_only.score == grid_only.grid
    assert grid_only.evaluations == 20


def test_a_distribution_of_bad_turns_keeps_both_of_its_parts():
    """The answer is off where a turn about z has cosine -0.5: at 120 degrees to both sides, which one element cannot tell."""

    def f(x):
        return torch.exp(-((x[:, 0, 0] + 0.5) ** 2) / 0.02)[:, None]

    sym = er.Symmetry("SO(2)", input="points", output="invariant")
    x = torch.tensor([[[1.0, 0.0]]])
    y = torch.zeros(1, 1)
    found = er.worst_case(
        f, sym, x, y, metric="mse", elements=3, rounds=40, tries=60, search="distribution", components=6, seed=1
    )
    assert found.score == pytest.approx(1.0, abs=1e-3)
    assert found.evaluations == 3 + 40 * 60
    angles = found.mixture.sample(400, generator=torch.Generator().manual_seed(0))[:, 0].rad2deg()
    assert float(((angles.abs() - 120).abs() < 25).double().mean()) > 0.8
    assert float((angles > 0).double().mean()) == pytest.approx(0.5, abs=0.35)
    assert found.element.dtype == x.dtype
    near = er.worst_case(
        f, er.Symmetry("SO(2) within 60 degrees", input="points", output="invariant"), x, y, metric="mse", elements=3,
        rounds=10, search="distribution",
    )  # fmt: skip
    assert float(torch.atan2(near.element[1, 0], near.element[0, 0]).rad2deg().abs()) < 60.01


def test_worst_case_without_labels_maximises_the_error():
    sym = er.Symmetry("Dihedral(4)", input="image", output="invariant")
    x = torch.rand(3, 1, 6, 6)
    f = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    found = er.worst_case(f, sym, x)
    errors = er.equivariance_error(f, sym, x, reduce="none").mean(1)
    assert found.score == pytest.approx(float(errors.max()), rel=1e-5)
    assert int(found.element) == int(errors.argmax())


def test_tracker_follows_training():
    sym = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    x, y = torch.rand(16, 1, 6, 6), torch.arange(16) % 2
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, 2))
    tracker = er.EquivarianceTracker(sym, x[:4], every=2)
    result = er.fit(net, x, y, loss=nn.functional.cross_entropy, epochs=5, callbacks=[tracker], progress=False)
    assert [epoch for epoch, _ in tracker.history] == [0, 2, 4]
    assert result.history[2]["equivariance_error"] == tracker.history[1][1] > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: er.lie_derivative(lambda x: x, er.Symmetry("Cyclic(4)", input="image", output="image"), torch.rand(1, 1, 4, 4)),
         OrbitError, "is discrete"),
        (lambda: er.worst_case(lambda x: x[..., 0], SYM, clouds(), rounds=-1), OrbitError, "rounds = -1"),
        (lambda: er.worst_case(lambda x: x[..., 0], SYM, clouds(), search="grid"), OrbitError, "search = 'grid'"),
        (lambda: er.worst_case(lambda x: x[..., 0], SYM, clouds(), search="distribution", components=0), OrbitError,
         "components = 0"),
        (lambda: er.worst_case(lambda x: x[..., 0], SYM, clouds(), search="distribution", reach=(1.0, 2.0)), OrbitError,
         "give a positive number, or 3"),
        (lambda: er.worst_case(lambda x: x.mean((-2, -1)), er.Symmetry("Cyclic(4)", input="image", output="invariant"),
                               torch.rand(1, 1, 4, 4), search="distribution"), OrbitError, "is finite"),
        (lambda: er.equivariance_error(lambda x: x, "SO(3)", clouds()), SymmetryError, "symmetry is a str"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- models with jumps ------------------------------------------------------------------------------------------------
ANGLES = torch.linspace(0.0, 6.28, 400, dtype=torch.float64)
CIRCLE = torch.stack((ANGLES.cos(), ANGLES.sin()), 1)
TURNS = er.Symmetry("SO(2)", input="vectors", output="invariant")


def stairs(n):
    """A constant on each of n sectors of the circle, as a forest is."""
    return lambda v: 1 + (torch.atan2(v[:, 1], v[:, 0]) * n / (2 * math.pi)).floor()


@pytest.mark.parametrize("n", [4, 7, 30])
def test_jumps_are_told(n):
    with pytest.warns(StepWarning, match="along generator 0 depends on the step: the model has jumps"):
        er.measure.lie_derivative(stairs(n), TURNS, CIRCLE)
    report = er.audit(stairs(n), TURNS, CIRCLE, elements=8)
    assert report.jumps  # the first sample stands on a jump
    assert report.to_dict()["lie_derivative_depends_on_step"] is True
    assert "depend on the step" in report.to_html()


def test_between_jumps_the_derivative_is_zero_and_says_nothing():
    """One sample an angle of 0.005 before a jump: two steps of 0.001 see nothing, so a larger one is tried."""
    before = torch.tensor([[math.cos(-0.005), math.sin(-0.005)]], dtype=torch.float64)
    with pytest.warns(StepWarning):
        assert er.measure.lie_derivative(stairs(4), TURNS, before).tolist() == [0]


@pytest.mark.parametrize(
    "model",
    [
        lambda v: v[:, :1],
        lambda v: v.norm(dim=1, keepdim=True),
        lambda v: torch.ones_like(v[:, :1]),
        lambda v: torch.relu(v[:, :1]),
        lambda v: torch.sin(20 * v[:, :1]),
        lambda v: 1e6 + v[:, :1].float(),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smooth_models_have_no_jumps(model, dtype, recwarn):
    er.measure.lie_derivative(model, TURNS, CIRCLE.to(dtype))
    assert not [w for w in recwarn if w.category is StepWarning]
    assert not er.audit(model, TURNS, CIRCLE.to(dtype), elements=8).jumps
