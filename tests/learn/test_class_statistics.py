"""Class statistics against numpy, in any split and order, far from zero and with empty classes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erlangen.errors import DataError, DtypeError, NotFiniteError, ShapeError
from erlangen.learn import ClassStatistics


def sample(n: int = 60, d: int = 5, k: int = 4, offset: float = 0.0, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) + offset
    labels = torch.randint(k - 1, (n,), generator=generator)  # the last class stays empty
    return features, labels, k


def test_against_numpy() -> None:
    x, y, k = sample()
    stats = ClassStatistics.of(x, y, k)
    for c in range(k - 1):
        rows = x[y == c].numpy()
        np.testing.assert_allclose(stats.means[c], rows.mean(0), atol=1e-14)
        np.testing.assert_allclose(stats.covariances[c], np.cov(rows.T, bias=True), atol=1e-14)
    assert stats.counts[-1] == 0
    assert not stats.means[-1].any()
    assert not stats.covariances[-1].any()
    np.testing.assert_allclose(stats.mean, x.numpy().mean(0), atol=1e-14)
    np.testing.assert_allclose(stats.within + stats.between("rows"), np.cov(x.numpy().T, bias=True), atol=1e-13)
    mu = np.stack([x[y == c].numpy().mean(0) for c in range(k - 1)]) - x.numpy().mean(0)
    np.testing.assert_allclose(stats.between(), mu.T @ mu / (k - 1), atol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "offset", "tol"), [(torch.float64, 0, 1e-12), (torch.float64, 1e6, 1e-9), (torch.float32, 3, 1e-5)]
)
@pytest.mark.parametrize("pooled", [False, True])
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), order=st.randoms())
def test_any_split_in_any_order(dtype, offset, tol, pooled, cuts, order) -> None:
    x, y, k = sample(offset=offset)
    bounds = [0, *sorted(cuts), 60]
    x = x.to(dtype)
    parts = [ClassStatistics.of(x[a:b], y[a:b], k, pooled=pooled) for a, b in itertools.pairwise(bounds)]
    order.shuffle(parts)
    total = sum(parts, ClassStatistics.empty(k, 5, pooled=pooled, dtype=dtype))
    whole = ClassStatistics.of(x.double(), y, k, pooled=pooled)
    assert torch.equal(total.counts, whole.counts)
    for got, want in ((total.means, whole.means), (total.scatters, whole.scatters)):
        assert (got.double() - want).norm() <= tol * want.norm()


def test_streamed_is_float64_and_pool_is_the_total_covariance() -> None:
    x, y, k = sample(offset=2.0)
    stats = ClassStatistics.streamed(zip(x.float().split(7), y.split(7), strict=True), k)
    assert stats.means.dtype == torch.float64
    x = x.float().double()
    total, spread = stats.pool(), stats.pool(between=False)
    np.testing.assert_allclose(total.covariances[0], np.cov(x.numpy().T, bias=True), atol=1e-12)
    np.testing.assert_allclose(spread.covariances[0], stats.within, atol=1e-12)
    assert total.counts.tolist() == [60]


def test_moves_with_rotations_and_permutations() -> None:
    x, y, k = sample()
    Q = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    stats, turned = ClassStatistics.of(x, y, k), ClassStatistics.of(x @ Q.mT, y, k)
    torch.testing.assert_close(turned.means, stats.means @ Q.mT)
    torch.testing.assert_close(turned.scatters, Q @ stats.scatters @ Q.mT)
    names = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(ClassStatistics.of(x, names[y], k).means[names], stats.means)


def test_bad_input() -> None:
    x, y, k = sample()
    with pytest.raises(DataError, match=r"labels\[3\] = 9.*classes are 0 to 3"):
        ClassStatistics.of(x, y.index_fill(0, torch.tensor([3]), 9), k)
    with pytest.raises(ShapeError, match="features has shape"):
        ClassStatistics.of(x[0], y, k)
    with pytest.raises(DtypeError, match="class numbers"):
        ClassStatistics.of(x, y.double(), k)
    with pytest.raises(NotFiniteError, match="features has 1"):
        ClassStatistics.of(
            x.index_fill(1, torch.tensor([1]), 0.0).put(torch.tensor([0]), torch.tensor([torch.nan]).double()), y, k
        )
    with pytest.raises(ShapeError, match="have no sum"):
        ClassStatistics.empty(3, 5) + ClassStatistics.empty(3, 4)
    with pytest.raises(DataError, match="pooled=False"):
        ClassStatistics.of(x, y, k, pooled=True).covariances  # noqa: B018
    with pytest.raises(DataError, match="no rows"):
        ClassStatistics.empty(3, 5).within  # noqa: B018
    with pytest.raises(DataError, match="batches is empty"):
        ClassStatistics.streamed([], 3)
    with pytest.raises(DataError, match="choose 'classes' or 'rows'"):
        ClassStatistics.of(x, y, k).between("samples")
