"""FFR: mixtures counted by hand, what each stage sees, the epoch that is kept, what is refused."""

import copy
import itertools
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
from erlangen.systems.learning.from_fake_to_real import (
    Grouped,
    Stage,
    add_equal,
    cut_to_bias,
    fill_to_max,
    from_fake_to_real,
    group_accuracies,
    group_report,
    mix,
    take_first,
    train_stage,
)
from erlangen.systems.learning.from_fake_to_real._groups import contingency, mutual_information, worst_group_interval
from erlangen.systems.learning.from_fake_to_real._losses import GroupDRO
from erlangen.systems.learning.from_fake_to_real._properties import report, tables
from erlangen.systems.learning.from_fake_to_real.method import ASB, USB, carry_over


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


def test_a_stage_of_one_group_reduces_to_plain_training() -> None:
    data, nets = grouped([[50]]), [Spied(), Spied()]
    for net, within in zip(nets, ("ERM", "GroupDRO"), strict=True):
        train_stage(net, data, HELD, Stage(2, 0.01, within=within), generator=rng())
    for a, b in zip(weights(nets[0]).values(), weights(nets[1]).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


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


def test_mixtures_of_random_sets() -> None:
    """Filled groups are alike; a part that is added equally tells nothing; budgets differ by less than one for each group."""
    for counts in tables(rng()):
        assert report(fill_to_max(counts), counts).background == 0
        alone = report(add_equal(counts), torch.zeros_like(counts))
        assert (alone.background, alone.pair, alone.source_entropy) == (0, 0, 0)
        assert 0 <= int(fill_to_max(counts).sum() - add_equal(counts).sum()) < counts.numel()


def test_weights_of_groups_stay_on_the_simplex() -> None:
    """In 200 batches of random losses, in most of which groups are absent."""
    g = rng()
    dro = GroupDRO(5, eta=0.5)
    for _ in range(200):
        before = dro.q
        losses, groups = 10 * torch.rand(8, generator=g), torch.randint(5, (8,), generator=g)
        dro(losses, groups)
        assert float(dro.q.sum()) == pytest.approx(1, abs=1e-6)
        assert float(dro.q.min()) >= 0
        absent = torch.bincount(groups, minlength=5) == 0
        assert bool((dro.q[absent] <= before[absent] + 1e-6).all())  # the others have losses above 0


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


# --- bad input -------------------------------------------------------------------------------------------------------
ONES = torch.ones(4, dtype=torch.int64)
THREE = grouped([[9], [9], [9]])
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
        (lambda: train_stage(Spied(), THREE, THREE, Stage(1)), DataError, "the class 2"),
        (
            lambda: train_stage(Spied(3), THREE, HELD, Stage(1)),
            DataError,
            "validation: no sample of the group y = 2, b = 0",
        ),
        (lambda: train_stage(Spied(), REAL, grouped([[9], [9]]), Stage(1)), DataError, "the group y = 0, b = 1"),
        (lambda: mix(FAKE, REAL), DataError, "real holds samples with g = 1"),
        (lambda: mix(REAL, REAL), DataError, "synthetic holds samples with g = 0"),
        (lambda: from_fake_to_real(Spied(), REAL, FAKE, HELD, Stage(1), Stage(1)), DataError, "each in its place"),
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
