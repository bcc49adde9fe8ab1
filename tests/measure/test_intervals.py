"""Intervals cover what they say: repeated audits of a function whose mean error has a closed form."""

import math

import pytest
import torch
from scipy import stats

import erlangen as er
from erlangen.measure.intervals import MANY, cluster_interval, crossed_interval

LEVEL = 0.5
"""|u| of the function below."""


def wave(x):
    """exp(i u.x) of one point, as two numbers: its norm is one, so relative errors are absolute ones."""
    phase = LEVEL * x[:, 0, :1]
    return torch.cat((phase.cos(), phase.sin()), 1)


def true_error(spread):
    """E 2 |sin(z/2)| with z = u.(Rx + t - x), x normal with this spread, t standard normal, R of Haar measure.

    Given R, z is normal with variance |u|^2 (2 spread^2 (1 - c) + 1), c = cos(u, Ru) uniform on [-1, 1]; and |sin(z/2)| is
    2/pi - (4/pi) sum_k cos(kz) / (4 k^2 - 1).
    """
    total = 4 / math.pi
    for k in range(1, 2000):
        a = 2 * (k * LEVEL * spread) ** 2
        total -= 8 / math.pi / (4 * k * k - 1) * math.exp(-0.5 * (k * LEVEL) ** 2) * -math.expm1(-a) / a
    return total


MOTIONS = er.Symmetry("SE(3)", input="points", output="invariant")


def measured(elements, samples, spread, seed):
    """Errors ``[K, B]`` of new samples under new elements."""
    generator = torch.Generator().manual_seed(seed)
    x = spread * torch.randn(samples, 1, 3, generator=generator, dtype=torch.float64)
    g = MOTIONS.group.sample(elements, generator=generator, dtype=torch.float64)
    moved = wave(MOTIONS.input.act(g[:, None], x[None]).flatten(0, 1)).unflatten(0, (elements, samples))
    return (moved - wave(x)).norm(dim=-1)


def coverage(hits):
    """Share of hits, and whether it may be 95 % (or the interval a little wide) to three standard errors."""
    share = sum(hits) / len(hits)
    error = 3 * math.sqrt(0.05 * 0.95 / len(hits))
    return share, 0.95 - error <= share <= 0.95 + error + 0.02


@pytest.mark.parametrize("spread", [0.2, 1.0])
@pytest.mark.parametrize(
    ("elements", "samples"), [(256, 8), (256, 16), (256, 64), (256, 256), (8, 256), (12, 12), (30, 300)]
)
def test_sampled_elements_and_samples_cover_the_truth(elements, samples, spread):
    """All samples share the elements: the more samples, the less does resampling them alone cover."""
    truth, hits, alone = true_error(spread), [], []
    for seed in range(200):
        errors = measured(elements, samples, spread, seed)
        low, high = crossed_interval(errors, rows_sampled=True, seed=seed)
        hits.append(low <= truth <= high)
        low, high = crossed_interval(errors, rows_sampled=False, seed=seed)
        alone.append(low <= truth <= high)
    share, right = coverage(hits)
    assert right, share
    if samples >= 256 and spread < 1:
        assert sum(alone) < 0.4 * 200


def test_audits_cover_the_truth():
    truth, hits = true_error(0.2), []
    for seed in range(60):
        x = 0.2 * torch.randn(32, 1, 3, generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64)
        report = er.audit(wave, MOTIONS, x, elements=64, seed=seed, progress=False)
        assert report.orbit.method == "sample"
        interval = report.interval(report.errors)
        assert interval == crossed_interval(report.errors, rows_sampled=True, seed=seed)
        assert report.to_dict()["error"]["interval"] == list(interval)
        hits.append(interval[0] <= truth <= interval[1])
    assert coverage(hits)[1], sum(hits)


def test_grids_and_whole_groups_are_no_sample():
    """One sample that is moved by all of a grid: there is nothing to resample but samples."""
    x = torch.randn(40, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for group, method in (("SO(3)", "grid"), ("Octahedral", "all")):
        report = er.audit(wave, er.Symmetry(group, input="points", output="invariant"), x)
        assert report.orbit.method == method
        assert report.interval(report.errors) == cluster_interval(report.errors.mean(0), seed=0)
    given = er.audit(wave, report.symmetry, x, elements=report.orbit.elements[:5])
    assert given.orbit.method == "given"
    assert given.interval(given.errors) == cluster_interval(given.errors.mean(0), seed=0)


def test_discover_hands_on_the_interval_of_the_audit():
    x = torch.randn(64, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (found,) = er.discover(wave, [MOTIONS], x)
    report = er.audit(wave, MOTIONS, x, scale="spread")
    assert found.interval == report.interval(report.errors)
    (found,) = er.discover(wave, [MOTIONS], x, scale="norm")
    assert found.interval[0] < true_error(1.0) < found.interval[1]


@pytest.mark.parametrize("n", [3, 5, 10, 40])
def test_small_normal_samples_are_covered_as_by_student(n):
    """The widening puts the percentiles where Student's interval is; at most a tenth off for skewed draws."""
    hits = []
    for seed in range(400):
        x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        low, high = cluster_interval(x, seed=seed)
        hits.append(low <= 0 <= high)
    assert 0.93 <= sum(hits) / 400 <= 0.995, sum(hits) / 400
    x = torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = cluster_interval(x)
    expected = stats.t.interval(0.95, 39, x.mean(), x.std() / math.sqrt(40))
    assert (low, high) == pytest.approx(expected, abs=0.06)


def test_noise_of_single_entries_is_counted_once():
    """A table of independent entries: the mean varies by 1 / sqrt(K B), and not by sqrt(2) times that."""
    table = torch.randn(100, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = crossed_interval(table, rows_sampled=True)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(100 * 200), rel=0.15)


def test_rows_of_one_cluster_come_together():
    """Every value four times, each time as one cluster: the interval of the values once."""
    x = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clusters = torch.arange(30).repeat(4)
    assert cluster_interval(x.repeat(4), clusters) == pytest.approx(cluster_interval(x))
    low, high = cluster_interval(x.repeat(4))
    wide = cluster_interval(x)
    assert high - low < 0.6 * (wide[1] - wide[0])


def test_many_rows_are_drawn_as_a_normal_number():
    x = torch.rand(MANY + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = cluster_interval(x)
    assert high - low == pytest.approx(2 * 1.96 * float(x.std()) / math.sqrt(len(x)), rel=0.1)
    assert low < float(x.mean()) < high


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 6)])
def test_constant_tables_have_no_width(shape):
    table = torch.full(shape, 0.25, dtype=torch.float64)
    assert crossed_interval(table, rows_sampled=True) == (0.25, 0.25)
