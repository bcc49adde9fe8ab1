"""er.relax and er.augment against running means, projections and draws written out by hand."""

import inspect
import math
import warnings

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import CollapseWarning, ErlangenError, SymmetryError
from erlangen.reps import Regular, T, V, hom_basis
from erlangen.soft import AdversarialAugment, ConstrainedAugment, metropolis
from erlangen.soft._distances import Distances
from erlangen.soft.projection import adjusted
from erlangen.soft.relax import _variance

TURNS = er.Symmetry("SO(3)", input="vectors", output="invariant")
VECTORS = er.Symmetry("O(3)", input="vectors", output="vectors")
X = torch.zeros(2, 3)


def fed(values, variances, **options):
    """A penalty in training that measures these violations and variances, one after the other."""
    penalty = er.relax(nn.Linear(3, 1), [TURNS], **options)
    rows = iter(zip(values, variances, strict=True))
    penalty._measure = lambda x: tuple(torch.tensor(v, dtype=torch.float64) for v in next(rows))
    return penalty


# --- the sampled form ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("violation", [0.1, 0.9])
def test_converged_is_when_both_running_means_agree(violation):
    """Both begin at 1 and come closer by 2 % and 1 % of the distance; a quarter apart in logarithms, after 200 calls."""
    penalty = fed([[violation]] * 500, [1.0] * 500)
    for n in range(1, 501):
        penalty(X)
        fast, slow = (violation + (1 - violation) * (1 - pace) ** n for pace in (0.02, 0.01))
        assert penalty.means[:, 0].tolist() == pytest.approx([fast, slow])
        assert penalty.converged == (n >= 200 and math.log(slow / fast) <= 0.25), n
    assert penalty.converged
    assert penalty.strengths.item() == pytest.approx(1 / fast)


def test_collapsed_is_less_than_half_of_the_largest_variance():
    """From 4 to 0: after k calls 4 * 0.98^k are left, less than half from k = 35 on; the warning comes once."""
    penalty = fed([[0.1]] * 100, [4.0] * 60 + [0.0] * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60 + 34):
            penalty(X)
    assert not penalty.collapsed
    with pytest.warns(CollapseWarning, match=r"from 4 to 1.97.*weight = 0.05"):
        penalty(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            penalty(X)
    assert penalty.collapsed
    assert "weight=0.05, 100 calls, collapsed" in repr(penalty)
    for fast, slow, collapsed in ((1.0, 1.0, False), (0.5, 2.0, True), (2.0, 0.5, False)):
        penalty.means[0], penalty.means[1] = fast, slow
        assert penalty.collapsed == collapsed  # a strength of one holds nothing; the one that is in force counts


def test_variances_of_the_first_calls_are_not_compared():
    penalty = fed([[0.1]] * 60, [100.0] * 10 + [0.0] * 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(1, 61):
            penalty(X)
            assert (float(penalty.spreads[1]) > 0) == (n > 50)
    assert float(penalty.spreads[0]) == pytest.approx(100 * 0.98**50)
    assert float(penalty.spreads[1]) == pytest.approx(100 * 0.98**41)  # the largest one after the first 50 calls


@pytest.mark.parametrize(("mean", "strength"), [(1e-9, 50.0), (0.25, 4.0), (1e9, 0.02)])
def test_strengths_are_bounded_and_printed(mean, strength):
    penalty = fed([], [], max_strength=50.0)
    penalty.means[0] = mean
    penalty.means[1] = 7.0
    assert penalty.strengths.tolist() == [pytest.approx(strength)]
    assert f"strength {strength:.3g}, violation {mean:.3g}" in repr(penalty)
    assert "weight=0.05, 0 calls, not converged" in repr(penalty)


def test_the_penalty_is_small_where_answers_are():
    """weight * min(1, variance) * (c r - log c); in evaluation the strength stays."""
    penalty = fed([[0.5]] * 2, [0.01, 9.0], weight=0.2).eval()
    penalty.means.fill_(0.25)
    assert penalty(X).item() == pytest.approx(0.2 * 0.01 * (4 * 0.5 - math.log(4)))
    assert penalty(X).item() == pytest.approx(0.2 * 1.0 * (4 * 0.5 - math.log(4)))


def test_the_variance_of_answers():
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]], dtype=torch.float64)
    assert float(_variance(x[None])) == pytest.approx(4.0 + 12.0)  # unbiased, of each column
    assert float(_variance(x[None, :2, :1])) == pytest.approx(2.0)
    assert float(_variance(x[None, 2:])) == pytest.approx(25.0 + 36.0)  # one sample: its square
    same = torch.full((1, 4, 1), 2.0, dtype=torch.float64)
    assert float(_variance(same)) == pytest.approx(4e-10)
    least = float(_variance(0 * same))
    assert math.isclose(least**2, torch.finfo(torch.float64).tiny, rel_tol=1e-9)  # its square still divides
    labels = {"a": x[None], "b": torch.tensor([[7, 8, 9]])}
    assert float(_variance(labels)) == pytest.approx(16.0 + 3 / 2)  # each label counts one: 3 / (3 - 1) of the mean


def test_defaults_and_limits():
    penalty = er.relax(nn.Linear(3, 1), [TURNS])
    assert (penalty.samples, penalty.weight, penalty.max_strength) == (4, 0.05, 100.0)
    assert penalty._generator.initial_seed() == 0
    for bad in ({"max_strength": 1.0}, {"weight": math.inf}, {"weight": math.nan}, {"samples": 0}):
        with pytest.raises(ErlangenError, match="max_strength above 1"):
            er.relax(nn.Linear(3, 1), [TURNS], **bad)
    er.relax(nn.Linear(3, 1), [TURNS], samples=1, weight=0.0, max_strength=1.5)
    with pytest.raises(SymmetryError, match="non-empty"):
        er.relax(nn.Linear(3, 1), [TURNS, "SO(3)"])


# --- the projection form ---------------------------------------------------------------------------------------------
def projection(strengths=1.0, **options):
    layer = nn.Linear(3, 3, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    symmetries = [er.Symmetry(group, input="vectors", output="vectors") for group in (er.O(3), er.Octahedral())]
    options = {"method": "projection", "representations": [T(1), T(1)], "strengths": strengths, **options}
    return layer, er.relax(layer, symmetries, **options)


def test_schedule_records_in_its_window_and_adjusts_once():
    """A weight with one entry off the diagonal, w: both violations are w^2 / 2. The least in the window is noted."""
    layer, penalty = projection(strengths=[1.0, 2.0])
    assert bool(penalty.recorded.isinf().all())
    step = penalty.schedule(5, 8, record=2)
    noted = []
    for epoch, w in enumerate([1.0, 2.0, 8.0, 6.0, 7.0, 1.0, 1.0, 1.0]):
        layer.weight.data[0, 1] = w
        row = {}
        step(epoch, layer, row)
        noted.append(penalty.recorded.tolist())
        assert row == {"strength_0": 1.0, "strength_1": 2.0}  # equal violations change nothing
    assert noted[2] == [math.inf] * 2
    assert noted[3:] == [pytest.approx([18.0] * 2)] * 5


def test_schedule_adjusts_at_the_end_of_its_window():
    """diag(1, 1, -2) and a shear: violations by hand, 3 for the first and 0.5 for the second group."""
    layer, penalty = projection(strengths=1.0, power=1.0)
    step = penalty.schedule(10, 20)
    changed = []
    for epoch in range(20):
        layer.weight.data = torch.diag(torch.tensor([1.0, 1.0, -2.0], dtype=torch.float64))
        step(epoch, layer, row := {})
        changed.append(row["strength_0"])
        if epoch < 9:
            assert bool(penalty.recorded.isinf().all()) == (epoch < 8)  # a fifth of ten
    assert changed == [1.0] * 20
    penalty.recorded.copy_(torch.tensor([3.0, 0.5]))
    assert penalty.adjust().tolist() == pytest.approx([0.5 / 3, 1.0])


@pytest.mark.parametrize(
    ("at", "epochs", "record", "valid"),
    [
        (1, 2, 1, True),
        (5, 9, 1, True),
        (5, 6, 5, True),
        (5, 5, 1, False),
        (5, 9, 6, False),
        (5, 9, 0, False),
        (1, 9, None, True),
        (4, 9, None, True),
    ],
)
def test_schedule_takes_windows_within_the_training(at, epochs, record, valid):
    _, penalty = projection()
    if valid:
        step = penalty.schedule(at, epochs, record=record)
        for epoch in range(at):
            assert bool(penalty.recorded.isinf().all())
            step(epoch, None, {})
            if record not in (1, None):
                break
        assert not bool(penalty.recorded.isinf().all())  # the last epoch before the adjustment at the latest
    else:
        with pytest.raises(ErlangenError, match="1 <= record <= adjust_at < epochs"):
            penalty.schedule(at, epochs, record=record)


def test_a_note_is_replaced_by_one_with_a_smaller_entry():
    layer, penalty = projection()
    layer.weight.data[0, 1] = 2.0
    assert penalty.record().tolist() == pytest.approx([2.0, 2.0])
    layer.weight.data[0, 1] = 4.0
    assert penalty.record().tolist() == pytest.approx([2.0, 2.0])
    penalty.recorded.copy_(torch.tensor([9.0, 1.0]))
    assert penalty.record().tolist() == pytest.approx([8.0, 8.0])  # one of them has become smaller
    penalty.recorded.fill_(math.inf)
    assert penalty.adjust().tolist() == [1.0, 1.0]  # without a note those of now count


def test_what_is_measured_is_kept_but_not_for_ever():
    layer, penalty = projection()
    layer.weight.data[0, 1] = 2.0
    for c in range(1, 20):
        penalty.strengths.copy_(torch.tensor([float(c), 0.0]))
        assert penalty().item() == pytest.approx(2.0 * c)
        assert penalty().item() == pytest.approx(2.0 * c)
        assert len(penalty._distances) <= 4
        assert len(penalty._distances) >= min(c, 1)
    assert penalty.violations().tolist() == pytest.approx([2.0, 2.0])


def test_spaces_whose_blocks_overlap_add_up():
    """A quarter turn as a permutation of four numbers, and as two rotations of the plane: one block beside four."""
    group = er.Cyclic(4)
    regular, planes = hom_basis(Regular(group) >> Regular(group)), hom_basis(2 * V(group) >> 2 * V(group))
    W = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    value = Distances([[regular], [planes]], [1.0, 3.0], W)([W])
    value.backward()
    elements = group.elements()
    far = []
    for rep in (Regular(group), 2 * V(group)):
        rho = rep.rho(elements, dtype=torch.float64)
        far.append(W.detach() - (rho.mT @ W.detach() @ rho).mean(0))
    torch.testing.assert_close(value.detach(), 0.5 * far[0].square().sum() + 1.5 * far[1].square().sum())
    torch.testing.assert_close(W.grad, far[0] + 3 * far[1])


def test_violations_below_rounding_count_as_equal():
    ones = torch.ones(2, dtype=torch.float64)
    r = torch.tensor([0.0, 1e-6], dtype=torch.float64)
    torch.testing.assert_close(adjusted(ones, r, 1.0), torch.tensor([1.0, 1e-6], dtype=torch.float64))
    torch.testing.assert_close(adjusted(ones, r * 1e-7, 3.0), ones)


def test_projection_defaults_and_what_is_refused():
    _, penalty = projection()
    assert (penalty.power, penalty.strengths.tolist()) == (2.0, [1.0, 1.0])
    assert inspect.signature(er.relax).parameters["strengths"].default == 1.0
    _, penalty = projection(power=0.0)
    assert penalty.adjust().tolist() == [1.0, 1.0]
    for bad in ({"power": math.inf}, {"power": math.nan}, {"strengths": [0.0, 0.0]}, {"strengths": [1.0, math.inf]}):
        with pytest.raises(ErlangenError, match="give a number"):
            projection(**bad)
    _, penalty = projection(strengths=[0.0, 3])
    assert penalty.strengths.tolist() == [0.0, 3.0]


@pytest.mark.parametrize("factor", [1.0, 1.001, 0.8, -1.0])
def test_the_declared_action_is_compared_with_the_representation(factor):
    moves = er.actions.Custom(lambda g, x: factor * V(er.O(3)).apply(g, x))
    symmetry = er.Symmetry(er.O(3), input=moves, output="vectors")
    call = lambda: er.relax(nn.Linear(3, 3), [symmetry], method="projection", representations=[T(1), T(1)])  # noqa: E731
    if factor == 1.0:
        assert call().symmetries == [symmetry]
    else:
        with pytest.raises(SymmetryError, match="its input action does not move flat vectors of size 3"):
            call()


# --- augmentation ----------------------------------------------------------------------------------------------------
def first(prediction, target):
    return prediction[:, 0].abs()


class Counted:
    """A transform that adds 1, 2, 3, ... to inputs, and counts."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, y, *, generator=None):
        self.calls += 1
        return x + self.calls, y


def test_transforms_of_ones_own_under_every_policy():
    x = torch.zeros(3, 1)
    plus = Counted()
    moved, _ = er.augment(plus, policy="adversarial", model=nn.Identity(), loss=first)(x, x)
    assert plus.calls == 4
    assert moved.flatten().tolist() == [4.0] * 3  # the worst place is the last
    plus = Counted()
    constrained = er.augment([plus, plus], policy="constrained", model=nn.Identity(), loss=first, limit=1.0)
    constrained(x, x)
    assert plus.calls == 4  # two each
    assert constrained.limits.tolist() == [1.0, 1.0]
    assert (constrained.steps, constrained.dual_lr, constrained.multipliers.shape) == (2, 0.01, (2,))
    assert constrained._generator.initial_seed() == 0


def test_defaults_of_the_classes():
    plus = Counted()
    AdversarialAugment(plus, nn.Identity(), first)(torch.zeros(3, 1), torch.zeros(3, 1))
    assert plus.calls == 4
    policy = ConstrainedAugment([Counted()], nn.Identity(), first, [2.0])
    assert (policy.steps, policy.dual_lr, policy.multipliers.tolist()) == (2, 0.01, [0.0])
    assert policy.slacks.tolist() == [0.0]
    assert policy._generator.initial_seed() == 0


def test_multipliers_and_the_lagrangian_step_by_step():
    """Losses of 3, then 4, under limits of 1 and 10; the objective is that of the multipliers before the step."""
    far, near = Counted(), Counted()
    far.calls, near.calls = 2, 2
    policy = ConstrainedAugment([far, near], nn.Identity(), first, [1.0, 10.0], steps=1, dual_lr=0.1, start=0.5)
    x = torch.zeros(4, 1)
    value = policy.objective(nn.Identity(), x, x)
    assert value.item() == pytest.approx(0.0 + 0.5 * 3 + 0.5 * 3)
    assert policy.slacks.tolist() == pytest.approx([2.0, -7.0])
    assert policy.multipliers.tolist() == pytest.approx([0.7, 0.0])
    assert policy.objective(nn.Identity(), x, x).item() == pytest.approx(0.7 * 4)
    assert policy.slacks.tolist() == pytest.approx([3.0, -6.0])
    assert policy.multipliers.tolist() == pytest.approx([1.0, 0.0])


def test_a_multiplier_of_zero_costs_no_forward_pass():
    calls = []
    model = nn.Identity()
    policy = ConstrainedAugment([Counted()], model, first, [9.0])
    policy.objective(lambda x: calls.append(len(x)) or x, torch.zeros(4, 1), torch.zeros(4, 1))
    assert calls == [4]


@pytest.mark.parametrize("bad", [{"dual_lr": 0.0}, {"dual_lr": -1.0}, {"start": -0.1}, {"start": math.nan}])
def test_steps_and_starts_out_of_range(bad):
    with pytest.raises(ErlangenError, match="give a positive step and a start of at least 0"):
        ConstrainedAugment([Counted()], nn.Identity(), first, [1.0], **bad)


def test_bad_losses_name_the_sample():
    """Sample 2 of 3 is NaN at the second of two places: row 5 of the losses."""

    def loss(prediction, target):
        return torch.where(torch.arange(len(prediction)) == 5, torch.nan, 1.0)

    policy = ConstrainedAugment([Counted()], nn.Identity(), loss, [1.0], steps=2)
    with pytest.raises(ErlangenError, match="the loss of sample 2 is nan"):
        policy(torch.zeros(3, 1), torch.zeros(3, 1))


def test_equal_losses_are_always_exchanged(generator):
    rows = metropolis(torch.tensor([[1.0], [0.5], [1.0]], dtype=torch.float64).expand(3, 4000), generator)
    # The second place is taken half of the time, and the third always: from one and from a half.
    assert rows.tolist() == [2] * 4000
    share = metropolis(torch.tensor([[1.0], [0.5]]).expand(2, 4000), generator).double().mean()
    assert float(share) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))


def test_probabilities_at_the_edge_of_the_draw(monkeypatch):
    """A uniform number can be exactly 0: with probability 0 nothing moves even then, and with 0.5 it does."""
    x = torch.ones(6, 3)
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))[None]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", lambda size, **_: torch.zeros(size))
        assert torch.equal(er.augment(TURNS, probability=0.0, elements=turn)(x), x)
        moved = er.augment(TURNS, probability=0.5, elements=turn)(x)
    assert torch.equal(moved, x * torch.tensor([-1.0, -1.0, 1.0]))
    assert er.augment(TURNS).probability == 1.0


def test_elements_are_drawn_evenly_for_every_sample(generator):
    turns = torch.stack([torch.diag(torch.tensor(d)) for d in ([1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, -1.0, -1.0])])
    moved = er.augment(TURNS, elements=turns)(torch.ones(3000, 3), generator=generator)
    shares = [(moved == turn.sum(1)).all(1).double().mean().item() for turn in turns]
    assert shares == pytest.approx([1 / 3] * 3, abs=4 * math.sqrt(2 / 9 / 3000))


def test_whole_numbers_are_moved_by_groups_of_permutations(generator):
    symmetry = er.Symmetry("Symmetric(3)", input="permuted", output="invariant")
    x = torch.tensor([[[1], [2], [3]]]).repeat(100, 1, 1)
    moved = er.augment(symmetry)(x, generator=generator)
    assert moved.dtype == torch.int64
    assert bool((moved.sort(1).values == x).all())
    assert not torch.equal(moved, x)
