"""er.discover against the regression written out in numpy, and its rules against counts by hand."""

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

import erlangen as er
from erlangen.errors import DataError, OrbitError, RepeatedRowsWarning, TrainModeWarning
from erlangen.soft import evidence

HALF_TURN = er.Symmetry("Cyclic(2)", input="vectors", output="invariant")


def ridge_in_numpy(x, y, held):
    """Kernel ridge regression fitted to all rows; length and ridge are best on the first ones, from the next 500."""

    def fitted(a, b, length, ridge):
        weights = np.linalg.solve(np.exp(-(cdist(a, a) ** 2) / (2 * length**2)) + ridge * np.eye(len(a)), b - b.mean(0))
        return lambda z: b.mean(0) + np.exp(-(cdist(z, a) ** 2) / (2 * length**2)) @ weights

    a, b = x[held : held + 500], y[held : held + 500]
    pairs = np.sort(pdist(a))
    unit = pairs[(len(pairs) - 1) // 2]  # the lower one of two medians
    tried = [
        (((fitted(a, b, unit * length, ridge)(x[:held]) - y[:held]) ** 2).mean(), unit * length, ridge)
        for length in (0.5, 1, 2, 4, 8)
        for ridge in (1e-8, 1e-6, 1e-4, 1e-2, 1)
    ]
    return fitted(x, y, *min(tried)[1:])


@pytest.mark.parametrize(("n", "noise", "wave"), [(90, 0.0, 1.0), (90, 0.3, 1.0), (61, 0.1, 4.0), (800, 0.1, 3.0)])
def test_errors_are_those_of_ridge_regression(n, noise, wave):
    """The first quarter, half and three quarters answer for the quarter after, as it is and under half turns."""
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    y = torch.sin(wave * x[:, :1]) + x[:, 1:] ** 2 + noise * torch.randn(n, 1, generator=generator)
    [found] = er.discover(data=(x, y), candidates=[HALF_TURN], seed=3, elements=2)
    order = evidence._chosen(torch.arange(n), 3)[0]
    inputs, targets = x[order].numpy(), y[order].numpy()
    turns = torch.Generator().manual_seed(3)
    folds = np.array_split(np.arange(n), 4)
    moved = [
        HALF_TURN.input.act(HALF_TURN.group.sample(n, generator=turns, dtype=x.dtype), x[order]).numpy()
        for _ in range(2)
    ]
    plain, other = [], []
    for fold in folds[1:]:
        predict = ridge_in_numpy(inputs[: fold[0]], targets[: fold[0]], fold[0] // 4)
        plain += [(predict(inputs[fold]) - targets[fold]) ** 2]
        other += [(predict(z[fold]) - targets[fold]) ** 2 for z in moved]
    variance = targets.var()
    assert found.baseline == pytest.approx(np.concatenate(plain).mean() / variance, rel=1e-5)
    assert found.error == pytest.approx(np.concatenate(other).mean() / variance, rel=1e-5)
    assert found.cost == pytest.approx(found.error - found.baseline)


def test_groups_stay_together_in_the_folds():
    """Rows of one group are equal, so none is known before its own quarter: errors of one row each, by hand."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    y = x.norm(dim=1, keepdim=True)
    twice = er.discover(
        data=(x.repeat_interleave(2, 0), y.repeat_interleave(2, 0)), candidates=[HALF_TURN],
        groups=torch.arange(60).repeat_interleave(2), elements=1,
    )[0]  # fmt: skip
    order, cluster = evidence._chosen(torch.arange(60).repeat_interleave(2), 0)
    assert torch.equal(cluster, torch.arange(60).repeat_interleave(2))
    assert torch.equal(order[::2] // 2, order[1::2] // 2)
    rows = order // 2
    inputs, targets = x[rows].numpy(), y[rows].numpy()
    errors = []
    for fold in np.array_split(np.arange(120), 4)[1:]:
        predict = ridge_in_numpy(inputs[: fold[0]], targets[: fold[0]], 2 * (fold[0] // 8))
        errors += [(predict(inputs[fold]) - targets[fold]) ** 2]
    assert twice.baseline == pytest.approx(np.concatenate(errors).mean() / targets.var(), rel=1e-5)


def test_at_most_three_thousand_rows_and_150_of_a_group():
    order, cluster = evidence._chosen(torch.arange(3500), 0)
    assert len(order) == len(order.unique()) == 3000
    assert torch.equal(cluster, torch.arange(3000))
    assert len(evidence._chosen(torch.arange(3000), 0)[0]) == 3000
    order, cluster = evidence._chosen(torch.arange(20).repeat(400), 0)
    assert len(order) == 3000
    assert cluster.bincount().tolist() == [150] * 20
    order, cluster = evidence._chosen(torch.arange(25).repeat(400), 0)
    assert cluster.bincount().tolist() == [150] * 20  # whole groups, up to the limit
    assert len((order % 25).unique()) == 20
    few = torch.tensor([2, 0, 1, 2, 0, 2])
    order, cluster = evidence._chosen(few, 0)
    assert sorted(order.tolist()) == list(range(6))
    assert few[order].unique_consecutive().numel() == 3
    assert torch.equal(few[order].unique_consecutive(return_inverse=True)[1], cluster)
    assert not torch.equal(evidence._chosen(torch.arange(99), 0)[0], evidence._chosen(torch.arange(99), 1)[0])


@pytest.mark.parametrize(("size", "most"), [(300, 225), (3000, 500)])
def test_settings_are_chosen_from_at_most_500_rows(size, most, monkeypatch):
    """Equally spaced points: half of all pairs are closer than the median, which is a multiple of the spacing."""
    seen = []
    plain = evidence._Regressor.__init__

    def noting(self, x, y, length, ridge):
        seen.append((len(x), length, ridge))
        plain(self, x, y, length, ridge)

    monkeypatch.setattr(evidence._Regressor, "__init__", noting)
    x = torch.arange(size, dtype=torch.float64)[:, None]
    evidence._fitted(x, x.sin(), size // 4)
    median = float(np.percentile(pdist(np.arange(most)[:, None]), 50, method="lower"))
    tried = {(most, median * length, ridge) for length in (0.5, 1, 2, 4, 8) for ridge in (1e-8, 1e-6, 1e-4, 1e-2, 1.0)}
    assert set(seen[:-1]) == tried
    assert seen[-1][0] == size


@pytest.mark.parametrize(("moves", "samples", "rejected"), [(1, 5, False), (1, 6, True), (8, 1, False), (8, 2, True)])
def test_contradicted_is_less_than_one_in_forty(moves, samples, rejected):
    """The least of 1 + moves errors in each of so many samples: by chance once in (1 + moves)^samples."""
    errors = torch.ones(1 + moves, samples, dtype=torch.float64)
    errors[0] = 0
    assert evidence._contradicted(errors, torch.arange(samples), 0) == rejected
    assert not evidence._contradicted(torch.zeros_like(errors), torch.arange(samples), 0)  # all equal
    rows = errors.repeat_interleave(3, 1)
    assert evidence._contradicted(rows, torch.arange(samples).repeat_interleave(3), 0) == rejected  # picked together
    assert evidence._contradicted(rows, torch.arange(3 * samples), 0) == ((1 + moves) ** (3 * samples) > 40)


@pytest.mark.parametrize(("pairs", "distance", "named"), [(10, 0.01, False), (11, 0.01, True), (11, 0.06, False)])
def test_near_copies_are_a_fifth_closer_than_a_hundredth(pairs, distance, named):
    """100 rows on a line, one apart: the tenth neighbour of one with a copy is five apart, so a copy is within 0.05."""
    far = torch.arange(100.0 - pairs, dtype=torch.float64)
    rows = torch.cat([far, far[20 : 20 + pairs] + distance])[:, None]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        evidence._warn_of_copies(rows, torch.arange(100))
    assert [w.category for w in seen] == [RepeatedRowsWarning] * named
    same = torch.cat([torch.arange(100 - pairs), torch.arange(20, 20 + pairs)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence._warn_of_copies(rows, same)  # copies within one group are what groups are for


def test_units_do_not_matter_for_near_copies():
    """Inputs of size 1e-3 and targets of size 1e3: each counts by its own spread, so equal inputs alone are no copies."""
    generator = torch.Generator().manual_seed(0)
    x = 1e-3 * torch.randn(40, 2, generator=generator, dtype=torch.float64).repeat(2, 1)
    y = 1e3 * torch.randn(80, 1, generator=generator, dtype=torch.float64)
    er.discover(data=(x, y), candidates=[HALF_TURN], elements=1)
    with pytest.warns(RepeatedRowsWarning, match="100%"):
        er.discover(data=(x, y[:40].repeat(2, 1)), candidates=[HALF_TURN], elements=1)


def test_targets_and_features():
    labels = torch.tensor([3, 5, 4, 3])
    expected = [[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert evidence._targets(labels, labels).tolist() == expected
    assert evidence._targets(labels[:1], labels).tolist() == expected[:1]
    assert evidence._targets(torch.ones(2, 3, 4), torch.ones(2, 3, 4)).shape == (2, 12)
    tree = {"a": torch.ones(2, 3, 4), "b": torch.zeros(2, 1)}
    assert evidence._features(tree).shape == (2, 13)
    assert evidence._features(tree).dtype == torch.float64


def test_fewest_rows_and_groups():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    er.discover(data=(x, x[:, :1]), candidates=[HALF_TURN])
    with pytest.raises(DataError, match="19 samples; give at least 20"):
        er.discover(data=(x[:19], x[:19, :1]), candidates=[HALF_TURN])
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    er.discover(data=(x, x[:, :1]), candidates=[HALF_TURN], groups=torch.arange(40) // 2)
    with pytest.raises(DataError, match="names 19 groups"):
        er.discover(data=(x, x[:, :1]), candidates=[HALF_TURN], groups=(torch.arange(40) // 2).clamp(max=18))
    with pytest.raises(OrbitError, match="elements = 0"):
        er.discover(data=(x, x[:, :1]), candidates=[HALF_TURN], elements=0)
    with pytest.raises(DataError, match="one floating tensor"):
        er.discover(data=(x, torch.zeros(40, 1, dtype=torch.long)), candidates=[HALF_TURN])


def test_eight_moves_and_no_tolerance_by_default():
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    data = x, x.square().sum(1, keepdim=True) + x[:, :1]
    [plain] = er.discover(data=data, candidates=[HALF_TURN])
    assert plain == er.discover(data=data, candidates=[HALF_TURN], elements=8, tol=0.0, seed=0)[0]
    assert plain == evidence.weigh(*data, [HALF_TURN])[0]
    assert plain.cost > plain.interval[0] > 0
    assert not plain.holds
    assert er.discover(data=data, candidates=[HALF_TURN], tol=plain.interval[0])[0].holds
    assert not er.discover(data=data, candidates=[HALF_TURN], tol=plain.interval[0] * (1 - 1e-9))[0].holds


# --- a model ---------------------------------------------------------------------------------------------------------
def test_a_model_holds_up_to_a_thousandth():
    """f(x) = (1, e x_1 / |x|) under half turns: the worst error is 2 e |x_1| / |x|, beside a norm of one."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for e, holds in ((4e-4, True), (6e-4, False), (0.1, False)):

        def model(z, e=e):
            return torch.stack([torch.ones(len(z), dtype=z.dtype), e * z[:, 0] / z.norm(dim=1)], 1)

        [found] = er.discover(model, [HALF_TURN], x, scale="norm")
        assert found.worst == pytest.approx(2 * e, rel=1e-2)
        assert found.holds == holds
        assert er.discover(model, [HALF_TURN], x, scale="norm", tol=2.1 * e)[0].holds
        # The spread is that of e and 0: sqrt(e^2 / 2), and the error 2 e beside it is 2 sqrt 2.
        [found] = er.discover(model, [HALF_TURN], x)
        assert found.worst == pytest.approx(2 * 2**0.5)
        assert found.error == pytest.approx(2 * 2**0.5 / 4)  # one of two samples, under one of two elements
        assert not found.holds


def test_an_error_of_exactly_the_tolerance_holds():
    x = torch.tensor([[1.0, 0.0]])
    [found] = er.discover(lambda z: z[:, :1], [HALF_TURN], x, scale="norm", tol=2.0)
    assert found.worst == 2.0
    assert found.holds


def test_a_model_in_train_mode_is_named_once():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.5))
    with pytest.warns(TrainModeWarning, match="Dropout") as seen:
        er.discover(model, [HALF_TURN], torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    assert len(seen) == 1
    assert model.training


def test_rounding_of_a_large_offset_is_no_violation():
    """1e6 + |x|^2 in float32, the offset as a sum of squares: steps of 1/16 are no violation, though above the tolerance."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    turns = er.Symmetry("SO(2)", input="vectors", output="invariant")

    def offset(z):
        return (1e3 * z / z.norm(dim=1, keepdim=True)).square().sum(1, keepdim=True)

    [found] = er.discover(lambda z: z.square().sum(1, keepdim=True) + offset(z), [turns], x)
    assert found.worst > 1e-3
    assert found.holds
    [found] = er.discover(lambda z: 20 * z[:, :1] + offset(z), [turns], x)
    assert not found.holds
