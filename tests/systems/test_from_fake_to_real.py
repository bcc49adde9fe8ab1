"""FFR: mixtures counted by hand, what each stage sees, losses in closed form, the last layer's optimality, what is refused."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.errors import (
    DataError,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.survey import Sizes, Training
from erlangen.systems.learning.from_fake_to_real import (
    GroupDRO,
    Grouped,
    Stage,
    add_equal,
    cut_to_bias,
    fill_to_max,
    from_fake_to_real,
    group_accuracies,
    group_report,
    mix,
    reweight_last_layer,
    take_first,
    train_stage,
)
from erlangen.systems.learning.from_fake_to_real._groups import contingency, mutual_information, worst_group_interval
from erlangen.systems.learning.from_fake_to_real._losses import balanced_part, resampled, sparse_logistic
from erlangen.systems.learning.from_fake_to_real.data import (
    BALANCED,
    BIASED,
    GENERATED,
    draw,
    generated,
    shown,
    unpacked,
)
from erlangen.systems.learning.from_fake_to_real.experiment import evenly, linear_probe
from erlangen.systems.learning.from_fake_to_real.method import ASB, USB, carry_over
from erlangen.systems.learning.from_fake_to_real.rivals import LOSSES, SETS, ResNet, arms


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def grouped(counts: list[list[int]], source: int = 0, seed: int = 0, value: float | None = None) -> Grouped:
    """Samples ``[N, 1, 2, 2]`` with so many of each group (y, b), in random order; noise, or all pixels of one value."""
    table = torch.tensor(counts)
    y, b = table.nonzero().T.repeat_interleave(table[table > 0], 1)
    order = torch.randperm(len(y), generator=rng(seed))
    y, b = y[order], b[order]
    x = torch.randn(len(y), 1, 2, 2, generator=rng(seed)) + y[:, None, None, None]
    x = x if value is None else torch.full_like(x, value)
    return Grouped(x, y, b, torch.full_like(y, source))


class Spied(nn.Module):
    """A small network that notes what it is trained on."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.seen.append(x.detach().clone())
        return self.layers(x)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(net.state_dict())


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


REAL = grouped([[40, 5], [4, 30]])
FAKE = grouped([[12, 12], [12, 12]], source=1, seed=1)
HELD = grouped([[20, 20], [20, 20]], seed=2)


# --- what each stage sees --------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:real pixels")
@pytest.mark.parametrize("within", ["ERM", "Resample", "GroupDRO"])
def test_stages_never_mix_sources(within: Any) -> None:
    real, fake = grouped([[40, 5], [4, 30]], value=3.0), grouped([[12, 12], [12, 12]], source=1, value=7.0)
    net = Spied()
    results = from_fake_to_real(net, fake, real, HELD, Stage(2, batch=10), Stage(3, batch=10, within=within))
    values = [set(x.flatten().tolist()) for x in net.seen]
    assert values == [{7.0}] * 10 + [{3.0}] * 24  # two passes over 48, three over 79
    assert [result.steps for result in results] == [10, 24]
    assert [len(result.history) for result in results] == [2, 3]


def test_no_second_epoch_leaves_the_first_stage_as_it_is() -> None:
    alone, both = Spied(), Spied()
    train_stage(alone, FAKE, HELD, Stage(3, 0.01), generator=rng())
    from_fake_to_real(both, FAKE, REAL, HELD, Stage(3, 0.01), Stage(0), generator=rng())
    assert equal(weights(alone), weights(both))
    assert not equal(weights(alone), weights(Spied()))


def test_without_synthetic_pictures_it_is_plain_training() -> None:
    plain, ours = Spied(), Spied()
    train_stage(plain, REAL, HELD, Stage(3, 0.01), generator=rng())
    first, _ = from_fake_to_real(ours, FAKE[:0], REAL, HELD, Stage(5, 0.01), Stage(3, 0.01), generator=rng())
    assert equal(weights(plain), weights(ours))
    assert first.steps == 0


def test_running_statistics_stay_when_frozen() -> None:
    for freeze in (True, False):
        net = Spied()
        train_stage(net, FAKE, HELD, Stage(2, 0.01), generator=rng())
        before = weights(net)
        train_stage(net, REAL, HELD, Stage(1, 0.01, freeze_bn=freeze), generator=rng())
        after = weights(net)
        same = {name: torch.equal(before[name], after[name]) for name in before}
        assert {same[f"layers.2.{part}"] for part in ("running_mean", "running_var", "num_batches_tracked")} == {freeze}
        assert not same["layers.1.weight"]


def test_the_epoch_with_the_best_worst_group_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equals the first; weights are those of that epoch, as a training that ends with it has them."""
    from erlangen.systems.learning.from_fake_to_real import method

    scores = iter([0.2, 0.7, 0.7, 0.1])
    monkeypatch.setattr(method, "worst_group", lambda *_: next(scores))
    net, short = Spied(), Spied()
    result = train_stage(net, REAL, HELD, Stage(4, 0.01), generator=rng())
    assert (result.best_epoch, result.history) == (1, [0.2, 0.7, 0.7, 0.1])
    scores = iter([0.1, 0.2])
    train_stage(short, REAL, HELD, Stage(2, 0.01), generator=rng())
    assert equal(weights(net), weights(short))


def test_a_stage_is_adam_by_hand() -> None:
    net, plain = Spied(), Spied()
    train_stage(net, REAL, HELD, Stage(1, 0.01, decay=0.1, batch=100), generator=rng())
    order = torch.randperm(len(REAL), generator=rng())
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=0.1)
    cross_entropy(plain(REAL.x[order]), REAL.y[order]).backward()
    optimizer.step()
    assert equal(weights(net), weights(plain))


def test_steps_cut_the_last_pass_short() -> None:
    net = Spied()
    result = train_stage(net, REAL, HELD, Stage(1, batch=10, steps=19), generator=rng())  # 8 batches a pass
    assert (result.steps, len(result.history), len(net.seen)) == (19, 3, 19)


def test_resampled_stages_see_groups_alike() -> None:
    net = Spied()
    train_stage(net, REAL, HELD, Stage(60, batch=79, within="Resample"), generator=rng())
    seen = torch.cat(net.seen)
    assert len(seen) == 60 * 79
    minority = REAL.x[(REAL.y == 1) & (REAL.b == 0)]
    share = float((seen[:, None] == minority[None]).flatten(2).all(2).any(1).double().mean())
    assert share == pytest.approx(1 / 4, abs=0.03)  # and not 4 in 79


def test_weights_are_carried_over() -> None:
    a, b = Spied(), Spied()
    train_stage(a, FAKE, HELD, Stage(1), generator=rng())
    carry_over(b, weights(a))
    assert equal(weights(a), weights(b))
    with pytest.raises(ModelError, match=r"layers.4.bias has the shape \(2,\), but in the network \(3,\)"):
        carry_over(Spied(3), weights(a))
    with pytest.raises(ModelError, match="None"):
        carry_over(b, {name: value for name, value in weights(a).items() if name != "layers.1.bias"})


# --- counts ----------------------------------------------------------------------------------------------------------
def test_mixtures_by_hand() -> None:
    counts = torch.tensor([[30, 2, 5], [1, 20, 3]])
    assert (counts + fill_to_max(counts)).tolist() == [[30] * 3] * 2
    assert add_equal(counts).tolist() == [[19] * 3] * 2  # 119 in six groups
    assert (fill_to_max, add_equal) == (USB, ASB)


@pytest.mark.parametrize(("rate", "kept"), [(0.5, 95), (0.9, 10), (0.95, 5), (0.97, 2)])
def test_cuts_keep_the_majority_and_a_share_of_the_rest(rate: float, kept: int) -> None:
    y, b = grouped([[95, 95], [96, 190]]).y, grouped([[95, 95], [96, 190]]).b
    rows = cut_to_bias(y, b, rate, generator=rng())
    found = contingency(y[rows], b[rows])
    assert found[0].tolist() == [95, kept]  # of equals the first is the majority
    assert found[1].tolist() == [min(96, int(190 * (1 - rate) / rate + 1e-9)), 190]
    assert (rows.diff() > 0).all()


def test_cuts_with_a_floor() -> None:
    data = grouped([[300, 12], [11, 300]])
    rows = cut_to_bias(data.y, data.b, 0.99, floor=10, generator=rng())
    assert contingency(data.y[rows], data.b[rows]).tolist() == [[300, 10], [10, 300]]


def test_the_first_of_a_pool_are_taken() -> None:
    pool = grouped([[5, 6], [7, 8]], source=1)
    some = take_first(pool, torch.tensor([[0, 2], [3, 8]]))
    assert contingency(some.y, some.b).tolist() == [[0, 2], [3, 8]]
    due = pool.x[(pool.y == 1) & (pool.b == 0)][:3]
    assert torch.equal(some.x[(some.y == 1) & (some.b == 0)], due)
    assert len(take_first(pool, torch.zeros(2, 2, dtype=torch.int64))) == 0


def test_information_against_scipy() -> None:
    """I(A; B) = H(A) + H(B) - H(A, B), entropies by scipy."""
    g = rng()
    y, b, s = (torch.randint(n, (500,), generator=g) for n in (3, 4, 2))
    b = torch.where(torch.rand(500, generator=g) < 0.3, y, b)
    report = group_report(y, b, s)

    def information(table: np.ndarray) -> float:
        joint = stats.entropy(table.ravel())
        return stats.entropy(table.sum(0)) + stats.entropy(table.sum(1)) - joint

    table = report.table.numpy()
    assert report.background == pytest.approx(information(table.sum(2)), abs=1e-12)
    assert report.pair == pytest.approx(information(table.reshape(3, -1)), abs=1e-12)
    parts = [table[..., k].sum() / 500 * information(table[..., k]) for k in (0, 1)]
    assert report.background_given_source == pytest.approx(sum(parts), abs=1e-12)
    assert report.source_entropy == pytest.approx(stats.entropy(table.sum((0, 1))), abs=1e-12)
    assert float(report.label_given(2, 1)[0]) == pytest.approx(table[0, 2, 1] / table[:, 2, 1].sum())
    assert report.bayes().tolist() == table.argmax(0).tolist()


def test_information_of_independent_tables_is_zero_to_the_bit() -> None:
    for row, column in itertools.product(([1, 2, 7], [3, 3], [0, 5, 1]), repeat=2):
        assert mutual_information(torch.tensor(row)[:, None] * torch.tensor(column)) == 0.0


def test_order_and_names_of_groups_change_nothing() -> None:
    g = rng()
    y, b, s = (torch.randint(n, (300,), generator=g) for n in (2, 3, 2))
    right = torch.rand(300, generator=g) < 0.7
    order, swap = torch.randperm(300, generator=g), torch.tensor([2, 0, 1])
    found = group_accuracies(right, y, b)
    assert torch.equal(found, group_accuracies(right[order], y[order], b[order]))
    assert torch.equal(found, group_accuracies(right, 1 - y, swap[b]).flip(0)[:, swap])
    assert torch.equal(group_report(y, b, s).table, group_report(y[order], b[order], s[order]).table)
    assert group_report(y, b, s).pair == pytest.approx(group_report(1 - y, swap[b], 1 - s).pair, abs=1e-14)
    assert 0 < float(found.min()) < float(found.mean()) < 1
    data = Grouped(torch.zeros(300, 1), y, b, s)
    assert torch.equal(data[order].groups, data.groups[order])


def test_group_accuracies_one_by_one() -> None:
    data = grouped([[9, 4], [3, 7]])
    right = torch.rand(23, generator=rng(5)) < 0.5
    for y, b in itertools.product((0, 1), repeat=2):
        rows = (data.y == y) & (data.b == b)
        assert float(group_accuracies(right, data.y, data.b)[y, b]) == pytest.approx(float(right[rows].double().mean()))


def test_the_interval_of_one_group_is_binomial() -> None:
    """Where all groups but one are always right, the least is that one."""
    y, b = torch.arange(2).repeat_interleave(400), torch.zeros(800, dtype=torch.int64)
    right = torch.ones(800, dtype=torch.bool)
    right[:120] = False
    low, high = worst_group_interval(right, y, b, resamples=20_000, generator=rng())
    due = stats.binom.ppf([0.025, 0.975], 400, 0.7) / 400
    assert (low, high) == (pytest.approx(due[0], abs=0.004), pytest.approx(due[1], abs=0.004))


# --- losses ----------------------------------------------------------------------------------------------------------
def test_weights_of_groups_by_hand() -> None:
    dro = GroupDRO(3, eta=0.5)
    batches = [([1.0, 3.0, 2.0], [0, 0, 1]), ([0.5, 4.0], [2, 1]), ([1.0, 1.0, 2.5], [2, 0, 2])]
    q = [1 / 3] * 3
    for losses, groups in batches:
        found = float(dro(torch.tensor(losses), torch.tensor(groups)))
        means = []
        for k in range(3):
            own = [loss for loss, group in zip(losses, groups, strict=True) if group == k]
            means.append(sum(own) / len(own) if own else 0.0)
        q = [weight * math.exp(0.5 * mean) for weight, mean in zip(q, means, strict=True)]
        q = [weight / sum(q) for weight in q]
        assert dro.q.tolist() == pytest.approx(q, rel=1e-6)
        assert found == pytest.approx(sum(weight * mean for weight, mean in zip(q, means, strict=True)), rel=1e-6)


def test_without_a_step_it_is_the_mean_over_groups_and_for_one_group_the_mean() -> None:
    losses, groups = torch.rand(30, generator=rng()), torch.arange(30) % 4
    means = torch.stack([losses[groups == k].mean() for k in range(4)])
    assert float(GroupDRO(4, eta=0)(losses, groups)) == pytest.approx(float(means.mean()), rel=1e-6)
    assert float(GroupDRO(1, eta=3.0)(losses, 0 * groups)) == pytest.approx(float(losses.mean()), rel=1e-6)


def test_weights_of_groups_carry_no_gradient() -> None:
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    dro = GroupDRO(2, eta=1.0)
    dro(losses, torch.tensor([0, 1])).backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx(dro.q.tolist())
    assert not dro.q.requires_grad


def test_a_stage_of_one_group_reduces_to_plain_training() -> None:
    data, nets = grouped([[50]]), [Spied(), Spied()]
    for net, within in zip(nets, ("ERM", "GroupDRO"), strict=True):
        train_stage(net, data, HELD, Stage(2, 0.01, within=within), generator=rng())
    for a, b in zip(weights(nets[0]).values(), weights(nets[1]).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_resampling_draws_what_is_there() -> None:
    groups = torch.tensor([5] * 90 + [2] * 10)
    drawn = resampled(groups, generator=rng())
    assert len(drawn) == 100
    assert 30 < int((groups[drawn] == 2).sum()) < 70


# --- the last layer --------------------------------------------------------------------------------------------------
def features(n: int = 40, d: int = 6, gap: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    g = rng(4)
    y, b = torch.arange(n) % 2, torch.arange(n) // 2 % 2
    z = torch.randn(n, d, generator=g, dtype=torch.float64)
    z[:, 0] += gap * (2 * y - 1)
    z[:, 1] += 2 * gap * (2 * b - 1)
    return z, y, b


@pytest.mark.parametrize("strength", [3.0, 0.3, 0.03])
def test_sparse_logistic_meets_its_optimality_conditions(strength: float) -> None:
    """The slope of the sum of losses is -sign(w) where w is not 0, and within 1 where it is: necessary and sufficient."""
    z, y, _ = features()
    w = sparse_logistic(z, y == 1, strength)
    rows = torch.cat([z, torch.ones(len(z), 1, dtype=torch.float64)], 1)
    at = w.clone().requires_grad_()
    loss = strength * nn.functional.softplus(-(2 * y - 1) * (rows @ at)).sum()
    (slope,) = torch.autograd.grad(loss, at)
    there = w.abs() > 1e-8
    assert 0 < int(there.sum()) < len(w)
    assert torch.allclose(slope[there], -w[there].sign(), atol=1e-4)
    assert float(slope[~there].abs().max()) <= 1 + 1e-4


def test_sparse_logistic_equals_sklearn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    z, y, _ = features()
    due = linear.LogisticRegression(l1_ratio=1, solver="liblinear", C=0.3, tol=1e-10, max_iter=100_000)
    due.fit(z.numpy(), y.numpy())
    found = sparse_logistic(z, y == 1, 0.3).numpy()
    np.testing.assert_allclose(found, np.r_[due.coef_[0], due.intercept_], atol=1e-5)


def test_refitted_layers_of_balanced_samples_are_one_fit() -> None:
    """Every balanced part is then the whole: the fit of all samples, standardised, however many are averaged."""
    z, y, b = features()
    one, many = (reweight_last_layer(5 + 3 * z, z, y, b, strengths=(0.3,), fits=n, generator=rng()) for n in (1, 20))
    assert torch.allclose(one.weight, many.weight, atol=1e-10)
    assert torch.allclose(one.bias, many.bias, atol=1e-10)
    scaled = (z - (5 + 3 * z).mean(0)) / (5 + 3 * z).std(0, correction=0)
    due = sparse_logistic(scaled, y == 1, 0.3)
    scores = one(z)
    assert torch.allclose(scores[:, 1] - scores[:, 0], scaled @ due[:-1] + due[-1], atol=1e-6)


def test_refitted_layers_ignore_the_nuisance() -> None:
    """Biased samples, 95 of a hundred on their own ground: balanced parts leave the weight with what the label is."""
    z, y, b = features(n=4000, gap=1.0)
    kept = ((y == b) | (torch.rand(4000, generator=rng()) < 0.5)).nonzero()[:, 0]
    kept = kept[cut_to_bias(y[kept], b[kept], 0.95, generator=rng())]
    found = reweight_last_layer(z, z[kept], y[kept], b[kept], generator=rng())
    plain = sparse_logistic(z[kept], y[kept] == 1, 1.0)
    ours = (found.weight[1] - found.weight[0]).abs()
    assert float(ours[1] / ours[0]) < 0.15 < float(plain[1].abs() / plain[0].abs())


def test_refitted_layers_of_several_classes() -> None:
    y, b = torch.arange(90) % 3, torch.arange(90) // 3 % 2
    z = 4 * nn.functional.one_hot(y, 3).double() + torch.randn(90, 3, generator=rng(), dtype=torch.float64)
    found = reweight_last_layer(z, z, y, b, fits=3, generator=rng())
    assert found.weight.shape == (3, 3)
    assert float((found(z).argmax(1) == y).double().mean()) > 0.9


def test_the_strength_is_chosen_by_the_worst_group() -> None:
    """At C = 0.003 nothing is learned from forty samples, and one class is always wrong."""
    z, y, b = features()
    assert reweight_last_layer(z, z, y, b, strengths=(0.003, 1.0), generator=rng()).strength == 1.0
    assert reweight_last_layer(z, z, y, b, strengths=(1.0, 0.003), generator=rng()).strength == 1.0


def test_balanced_parts() -> None:
    groups = torch.tensor([3, 3, 3, 1, 1, 7, 7, 7, 7])
    rows = balanced_part(groups, rng())
    assert groups[rows].sort().values.tolist() == [1, 1, 3, 3, 7, 7]
    assert len(rows.unique()) == 6


# --- data and arms ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def split() -> Any:
    return draw(0, 0.95, Sizes(400, 260, 200))


def test_drawn_data_are_what_they_say(split: Any) -> None:
    real, pool, even = (unpacked(split.train, role) for role in (BIASED, GENERATED, BALANCED))
    counts = contingency(real.y, real.b)
    for label in (0, 1):
        majority, minority = int(counts[label, label]), int(counts[label, 1 - label])
        assert minority == int(majority * (0.05 / 0.95) + 1e-9)
    assert (contingency(pool.y, pool.b) >= fill_to_max(counts)).all()
    assert (contingency(pool.y, pool.b) >= add_equal(counts)).all()
    assert len(even) == 400
    even_counts = contingency(even.y, even.b)
    assert int((even_counts[:, 0] - even_counts[:, 1]).abs().max()) <= 1
    assert [set(part.g.tolist()) for part in (real, pool, even)] == [{0}, {1}, {0}]
    validation = unpacked(split.validation, BIASED)
    held = contingency(validation.y, validation.b)
    assert int(held.min()) == 10  # the floor; a twentieth would be fewer
    test = unpacked(split.test, BIASED)
    assert int(contingency(test.y, test.b).min()) >= 40
    assert 0 <= float(split.train[0]["x"].min()) < float(split.train[0]["x"].max()) <= 1


def test_the_same_seed_gives_the_same_data(split: Any) -> None:
    again, other = draw(0, 0.95, Sizes(400, 260, 200)), draw(1, 0.95, Sizes(400, 260, 200))
    assert torch.equal(split.train[0]["x"], again.train[0]["x"])
    assert not torch.equal(split.test[0]["x"][:50], other.test[0]["x"][:50])


def test_grounds_are_streaks_of_two_directions() -> None:
    x = shown(torch.zeros(200, 1, 28, 28), torch.arange(200) % 2, rng())
    change = torch.stack([x.diff(dim=-1).abs().mean((1, 2, 3)), x.diff(dim=-2).abs().mean((1, 2, 3))])
    assert (change.argmin(0) == torch.arange(200) % 2).all()
    assert (shown(torch.ones(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64), rng()) == 1).all()


def test_generated_digits_have_the_counts() -> None:
    data = generated(torch.tensor([[3, 0], [12, 7]]), rng())
    assert contingency(data.y, data.b).tolist() == [[3, 0], [12, 7]]


def test_all_arms_are_in_the_tables(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("from_fake_to_real")["rows"]
    due = [f"{which} + {loss}" for which in SETS for loss in LOSSES] + ["balanced real + ERM"]
    for rate in ("0.95", "0.99"):
        part = [row for row in rows if row["part"] == f"digits, r = {rate}"]
        assert [row["model"] for row in part] == due
        assert len({row["steps"] for row in part}) == 1
        assert len({row["rates tried"] for row in part}) == 1
        for row in part:
            assert row["worst group, low"] <= row["worst group"] <= row["worst group, high"]
            assert row["worst group"] <= row["balanced"] <= 100


def _trained(name: str, split: Any, rivals: Any = None, epochs: int = 2) -> ResNet:
    rival = (rivals or arms(4))[name]
    torch.manual_seed(0)
    net = rival.make()
    how = Training(cross_entropy, epochs, 64, (0.003,), decay=1e-5)
    assert rival.fit is not None
    rival.fit(net, split, 0.003, how, rng(0))
    return net


@pytest.mark.parametrize("loss", ["ERM", "Resample", "GroupDRO"])
def test_the_arm_is_the_method(loss: Any, split: Any) -> None:
    torch.manual_seed(0)
    net = ResNet(4)
    real, pool, held = (
        unpacked(split.train, BIASED),
        unpacked(split.train, GENERATED),
        unpacked(split.validation, BIASED),
    )
    fake = take_first(pool, add_equal(contingency(real.y, real.b)))
    first, second = Stage(2, 0.003, 1e-5, 64), Stage(2, 0.003, 1e-5, 64, loss)
    results = from_fake_to_real(net, fake, real, held, first, second, generator=rng(0))
    arm = _trained(f"FFR + {loss}", split)
    assert equal(weights(net), weights(arm))
    assert arm.told["steps"] == sum(result.steps for result in results)
    assert arm.told["samples"] == len(real) + len(fake)


def test_what_arms_share_changes_no_weight(split: Any) -> None:
    """One after the other with shared parts, and each alone; the seconds of a shared part count for each."""
    rivals = arms(4)
    for name in ("FFR + ERM", "FFR + Resample", "FFR + DFR", "USB + ERM", "USB + DFR"):
        together, alone = _trained(name, split, rivals), _trained(name, split)
        assert equal(weights(together), weights(alone)), name
        assert (together.readout is None) == (alone.readout is None) == ("DFR" not in name)
        if together.readout is not None and alone.readout is not None:
            assert torch.equal(together.readout.weight, alone.readout.weight)
        assert together.told["seconds"] > alone.told["seconds"] / 5
        assert together.told["steps"] == alone.told["steps"]


def test_arms_take_their_sets(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from erlangen.systems.learning.from_fake_to_real import rivals

    seen: list[tuple[Grouped, Stage]] = []

    def spied(net: nn.Module, data: Grouped, validation: Grouped, how: Stage, **options: Any) -> Any:
        seen.append((data, how))

    monkeypatch.setattr(rivals, "train_stage", spied)
    tables = {}
    for which in ("real", "USB", "ASB"):
        seen.clear()
        _trained(f"{which} + Resample", split)
        ((data, how),) = seen
        assert how.within == "Resample"
        tables[which] = group_report(data.y, data.b, data.g, sizes=(2, 2, 2))
        seen.clear()
    assert tables["USB"].background == 0.0
    assert (tables["USB"].background_given_source, tables["ASB"].background) > (0.3, 0.01)
    real = tables["real"].table[..., 0]
    assert torch.equal(tables["ASB"].table[..., 1], add_equal(real))
    assert torch.equal(tables["USB"].table[..., 1], fill_to_max(real))
    _trained("FFR + GroupDRO", split)
    assert [(set(data.g.tolist()), how.within) for data, how in seen] == [({1}, "ERM"), ({0}, "GroupDRO")]


def test_probes_find_what_is_there_and_nothing_else() -> None:
    labels = torch.randint(4, (2000,), generator=rng())
    z = torch.randn(2000, 8, generator=rng(1))
    found, due = linear_probe(z, labels)
    assert float((found == due).double().mean()) == pytest.approx(0.25, abs=0.06)
    found, due = linear_probe(z + 6 * nn.functional.one_hot(labels, 8), labels)
    assert float((found == due).double().mean()) > 0.98
    assert len(found) == 1000


def test_probes_have_even_halves() -> None:
    groups = torch.arange(8).repeat_interleave(torch.arange(11, 19))
    rows = evenly(groups, rng())
    assert torch.bincount(groups[rows[:40]]).tolist() == torch.bincount(groups[rows[40:]]).tolist() == [5] * 8
    assert len(rows.unique()) == 80


# --- bad input -------------------------------------------------------------------------------------------------------
Z, Y, B = features()
ONES = torch.ones(4, dtype=torch.int64)
NO_MINORITY = grouped([[20, 20], [20, 0]])


def _with(data: Grouped, **changes: Tensor) -> Grouped:
    return Grouped(**{**{name: getattr(data, name) for name in ("x", "y", "b", "g")}, **changes})


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: Grouped(torch.zeros(3, 2), ONES, ONES, ONES), ShapeError, "y has the shape"),
        (lambda: Grouped(torch.zeros(4, 2), ONES, ONES.float(), ONES), DtypeError, "b has dtype"),
        (lambda: Grouped(torch.zeros(4, 2), ONES, ONES, -ONES), DataError, "g holds -1"),
        (lambda: contingency(ONES, ONES, sizes=(2, 1)), DataError, "variable 1 holds 1"),
        (lambda: contingency(ONES, ONES[:2]), ShapeError, "variable 1"),
        (lambda: group_accuracies(NO_MINORITY.y == 1, NO_MINORITY.y, NO_MINORITY.b), DataError, "y = 1, b = 1"),
        (
            lambda: train_stage(Spied(), REAL, NO_MINORITY, Stage(1)),
            DataError,
            "validation: no sample of the group y = 1, b = 1",
        ),
        (lambda: from_fake_to_real(Spied(), FAKE, REAL, NO_MINORITY, Stage(1), Stage(1)), DataError, "y = 1, b = 1"),
        (lambda: train_stage(Spied(), REAL[:0], HELD, Stage(1)), DataError, "data is empty"),
        (lambda: train_stage(Spied(), grouped([[9], [9], [9]]), HELD, Stage(1)), DataError, "the class 2"),
        (lambda: train_stage(Spied(), _with(REAL, x=REAL.x / 0), HELD, Stage(1)), NotFiniteError, "the loss is nan"),
        (lambda: mix(REAL, _with(FAKE, b=0 * FAKE.b)), DataError, "no synthetic sample has b = 1"),
        (lambda: mix(REAL, _with(FAKE, y=FAKE.y + 1)), DataError, r"synthetic ones \[1, 2\]"),
        (lambda: mix(REAL, grouped([[9, 9]], 1)), DataError, r"synthetic ones \[0\]"),
        (lambda: mix(REAL, _with(FAKE, x=FAKE.x[..., :1])), ShapeError, "resize both"),
        (
            lambda: from_fake_to_real(Spied(), _with(FAKE, x=FAKE.x[..., :1]), REAL, HELD, Stage(1), Stage(1)),
            ShapeError,
            "resize both",
        ),
        (lambda: cut_to_bias(REAL.y, REAL.b, 0.49), ErlangenError, "rate = 0.49"),
        (lambda: cut_to_bias(REAL.y, REAL.b, 1.0), ErlangenError, "rate = 1.0"),
        (lambda: cut_to_bias(REAL.y, REAL.b, 0.99), DataError, "group y = 0, b = 1 keeps 0 samples"),
        (lambda: cut_to_bias(REAL.y, REAL.b, 0.9, floor=10), DataError, "keeps 5 samples"),
        (lambda: fill_to_max(torch.tensor([1, 2])), ErlangenError, "classes, nuisances"),
        (lambda: add_equal(torch.tensor([[1, -2]])), ErlangenError, "none negative"),
        (
            lambda: take_first(FAKE, torch.tensor([[12, 12], [13, 12]])),
            DataError,
            "12 samples of the group y = 1, b = 0",
        ),
        (lambda: Stage(-1), ErlangenError, "Stage.epochs = -1"),
        (lambda: Stage(1, batch=0), ErlangenError, "Stage.batch = 0"),
        (lambda: Stage(1, rate=0), ErlangenError, "Stage.rate = 0"),
        (lambda: Stage(1, within="DFR"), UnknownNameError, "known are ERM, Resample, GroupDRO"),  # pyright: ignore
        (lambda: GroupDRO(0), ErlangenError, "n_groups = 0"),
        (lambda: GroupDRO(2, -1), ErlangenError, "eta = -1"),
        (lambda: GroupDRO(1)(torch.ones(4), ONES), DataError, "groups holds 1"),
        (lambda: GroupDRO(2)(torch.ones(3), ONES), ShapeError, "losses"),
        (lambda: resampled(ONES[:0]), DataError, "groups is empty"),
        (lambda: reweight_last_layer(Z[:, :2], Z, Y, B), ShapeError, "training"),
        (lambda: reweight_last_layer(Z, Z / 0, Y, B), NotFiniteError, "features"),
        (lambda: reweight_last_layer(Z, Z, Y, B, strengths=()), ErlangenError, "strengths"),
        (lambda: reweight_last_layer(Z, Z, Y, B, fits=0), ErlangenError, "fits = 0"),
        (lambda: reweight_last_layer(Z, Z[:3], Y[:3], B[:3]), DataError, "no sample of the group y = 1, b = 1"),
        (lambda: reweight_last_layer(Z, Z[:4], Y[:4], B[:4]), DataError, "halves need two"),
    ],
)
def test_what_is_refused(call: Callable[[], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call()


def test_other_normalisation_is_warned_about() -> None:
    for x in (FAKE.x + 5, FAKE.x * 3):
        with pytest.warns(ErlangenWarning, match="normalise both alike"):
            mix(REAL, _with(FAKE, x=x))
    assert len(mix(REAL, _with(FAKE, x=FAKE.x * 1.3 + 0.3))) == len(REAL) + len(FAKE)
