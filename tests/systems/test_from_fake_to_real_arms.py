"""FFR: losses in closed form, the last layer's optimality, pictures, and arms that are what their names say."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.survey import Sizes, Training
from erlangen.systems.learning.from_fake_to_real import (
    GroupDRO,
    Grouped,
    Stage,
    add_equal,
    cut_to_bias,
    fill_to_max,
    from_fake_to_real,
    group_report,
    reweight_last_layer,
    take_first,
)
from erlangen.systems.learning.from_fake_to_real._groups import contingency
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
from erlangen.systems.learning.from_fake_to_real.rivals import LOSSES, SETS, ResNet, arms


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(net.state_dict())


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


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


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: GroupDRO(0), ErlangenError, "n_groups = 0"),
        (lambda: GroupDRO(2, -1), ErlangenError, "eta = -1"),
        (lambda: GroupDRO(1)(torch.ones(4), ONES), DataError, "groups holds 1"),
        (lambda: GroupDRO(2)(torch.ones(3), ONES), ShapeError, "losses"),
        (lambda: resampled(ONES[:0]), DataError, "groups is empty"),
        (lambda: reweight_last_layer(Z[:, :2], Z, Y, B), ShapeError, "training"),
        (lambda: reweight_last_layer(Z, Z, Y[:8], B[:8]), ShapeError, "one label for each row"),
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
