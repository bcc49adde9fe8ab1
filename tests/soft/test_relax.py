"""The sampled form of er.relax: the recipe of the README on a symmetry that holds and on one that does not."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import erlangen as er
from erlangen.errors import CollapseWarning, ErlangenError, LossSizeWarning, NotConvergedWarning

TURNS = er.Symmetry("SO(3)", input="vectors", output="invariant")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))


def trained(target, *, steps=600, lr=1e-2, seed=0, **options):
    """``loss + penalty(x)`` with an optimizer of the model's parameters; R^2 on other samples, and the penalty."""
    generator = torch.Generator().manual_seed(seed)
    x, other = (torch.randn(n, 3, generator=generator) for n in (512, 2000))
    y, model = target(x), network(seed)
    penalty = er.relax(model, [TURNS], **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        batch = torch.randint(512, (64,), generator=generator)
        optimizer.zero_grad()
        loss = F.mse_loss(model(x[batch]), y[batch])
        (loss + penalty(x[batch])).backward()
        optimizer.step()
    with torch.no_grad():
        return 1 - float((model(other) - target(other)).square().mean() / target(other).var()), penalty


def height(x):
    return x[:, 2:]


def squared_length(x):
    return x.square().sum(1, keepdim=True)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_symmetry_that_the_data_break_is_given_up(seed):
    """E (z' - z)^2 = 2 Var z over all rotations, so the strength tends to 1/2, whatever the network began with."""
    score, penalty = trained(height, seed=seed)
    assert score > 0.9
    assert penalty.converged
    assert not penalty.collapsed
    assert penalty.strengths.item() == pytest.approx(0.5, abs=0.05)
    assert "converged" in repr(penalty)
    assert "not converged" not in repr(penalty)


def test_a_symmetry_that_the_data_have_is_found():
    score, penalty = trained(squared_length, steps=1200)
    assert score > 0.9
    assert not penalty.collapsed
    assert penalty.converged
    assert penalty.strengths.item() > 20


def test_a_penalty_that_holds_against_the_data_is_named():
    with pytest.warns(CollapseWarning, match=r"variance fell from .*weight = 5"):
        score, penalty = trained(height, weight=5.0, steps=1000)
    assert score < 0.5
    assert penalty.collapsed
    assert "collapsed" in repr(penalty)


def test_strengths_that_still_move_are_named():
    _, penalty = trained(height, steps=40)
    assert not penalty.converged
    with pytest.warns(NotConvergedWarning, match="after 40 calls"):
        assert penalty.strengths.shape == (1,)
    assert "not converged" in repr(penalty)
    fresh = er.relax(network(), [TURNS])
    assert fresh.strengths.tolist() == [1.0]  # nothing was measured yet: no warning


def test_violations_have_no_unit():
    """Scaled and shifted answers: the same violation, and a gradient that does not shrink them."""
    x = torch.randn(256, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Scaled(nn.Module):
        def __init__(self, factor, offset):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))
            self.offset = offset

        def forward(self, x):
            return self.factor * (x[:, 2:] + x.square().sum(1, keepdim=True)) + self.offset

    found = []
    for factor, offset in ((1.0, 0.0), (1e-8, 0.0), (1e6, 0.0), (1.0, 1e4)):
        model = Scaled(factor, offset)
        penalty = er.relax(model, [TURNS], samples=8)
        found.append(penalty.violations(x).item())
        penalty(x).backward()
        assert abs(model.factor.grad.item()) * factor < 1e-8
    assert found == pytest.approx([found[0]] * 4)
    # Var(z + |x|^2) = 1 + 6 and E (z' - z)^2 = 2: the violation is 2 / 7
    assert found[0] == pytest.approx(2 / 7, rel=0.3)


def test_the_value_of_the_penalty_by_hand():
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = nn.Linear(3, 1).double()
    penalty, same = (er.relax(model, [TURNS, TURNS], weight=0.3, seed=4) for _ in range(2))
    violations = same.violations(x).detach()
    value = penalty(x)
    means = 1 + 0.02 * (violations - 1)
    torch.testing.assert_close(penalty.means[0], means)
    unit = min(1.0, float(model(x).detach().var()))
    expected = 0.3 * unit * float((violations / means + means.log()).sum())
    assert value.item() == pytest.approx(expected)
    penalty.eval()
    penalty(x)
    assert int(penalty.calls) == 1  # measured, not followed
    assert float(er.relax(model, [TURNS], weight=0.0)(x).detach()) == 0


def test_constant_answers_and_single_samples_are_finite():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(3, 1)
    nn.init.zeros_(model.weight)
    for batch in (x, x[:1]):
        for bias in (0.0, 3.0):
            nn.init.constant_(model.bias, bias)
            penalty = er.relax(model, [TURNS])
            model.zero_grad()
            penalty(batch).backward()
            assert all(p.grad.isfinite().all() for p in model.parameters())
            assert penalty.violations(batch).item() < 1e-3


def test_the_state_goes_with_a_checkpoint():
    _, penalty = trained(height, steps=30)
    other = er.relax(network(), [TURNS])
    other.load_state_dict(penalty.state_dict())
    assert repr(other) == repr(penalty)


def scaled(net, factor):
    """The same network with answers in another unit."""

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return factor * self.net(x)

    return Scaled()


def test_penalty_and_loss_grow_alike_with_the_unit_of_the_targets():
    """With the variance of the targets as loss_size, targets of 1e4 give 1e8 times the loss and 1e8 times the penalty."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1).double()
    x = torch.randn(64, 3, dtype=torch.float64)
    rotations = er.Symmetry("SO(3)", input="vectors", output="invariant")
    size = net(x).var().item()
    one = er.relax(net, [rotations], loss_size=size)
    other = er.relax(scaled(net, 1e4), [rotations], loss_size=1e8 * size)
    for _ in range(3):
        torch.testing.assert_close(other(x), 1e8 * one(x), rtol=1e-10, atol=0)
    torch.testing.assert_close(other.means, one.means, rtol=1e-10, atol=0)
    with pytest.raises(ErlangenError, match="loss_size positive"):
        er.relax(net, [rotations], loss_size=0)


def test_a_penalty_that_is_nothing_beside_the_loss_is_named():
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    rotations = er.Symmetry("SO(3)", input="vectors", output="invariant")
    net = torch.nn.Linear(3, 1)
    large = er.relax(scaled(net, 1e4), [rotations])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for _ in range(60):
            large(x)
    assert [w.category for w in heard] == [LossSizeWarning]
    assert "loss_size=float(y.var())" in str(heard[0].message)
    sized = er.relax(scaled(net, 1e4), [rotations], loss_size=1e7)
    small = er.relax(scaled(net, 3.0), [rotations])
    for _ in range(60):  # under this suite a warning is an error
        sized(x)
        small(x)
