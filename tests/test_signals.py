"""Delay-embedded covariances against direct indexing, least squares, and what mixing of channels must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import erlangen as er
from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError

pytest.importorskip("sklearn")
from pyriemann.classification import MDM
from pyriemann.tangentspace import TangentSpace
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from erlangen.signals import DelayCovariances, delay_embedding, vector_autoregression


def trials(count: int = 40, channels: int = 3, samples: int = 120, seed: int = 0):
    """Two classes of AR(1) signals that differ in their frequency, mixed by one matrix."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = np.zeros((count, channels, samples))
    turn = np.array([0.5, -0.5])[y][:, None]
    for t in range(1, samples):
        x[:, :, t] = turn * x[:, :, t - 1] + rng.normal(size=(count, channels))
    return rng.normal(size=(channels, channels)) @ x, y


def test_embedding_is_indexing() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 3, 60))
    for _ in range(50):
        p, lag = int(rng.integers(1, 6)), int(rng.integers(1, 8))
        E = delay_embedding(X, p, lag)
        L = 60 - (p - 1) * lag
        assert E.shape == (2, 3 * p, L)
        j, c, t = int(rng.integers(p)), int(rng.integers(3)), int(rng.integers(L))
        np.testing.assert_array_equal(E[:, 3 * j + c, t], X[:, c, j * lag + t])
        O = delay_embedding(X, p, lag, official_window=True)
        np.testing.assert_array_equal(O, E[..., : 60 - p * lag] if p > 1 else X)
    np.testing.assert_array_equal(delay_embedding(X, 1), X)
    with pytest.raises(ErlangenError, match=r"order of 29 at most"):
        delay_embedding(X, 30, 2, official_window=True)
    assert DelayCovariances(29, 2, official_window=True).fit_transform(X).shape == (2, 87, 87)
    with pytest.raises(ErlangenError, match=r"order of 30 at most"):
        delay_embedding(X, 40, 2)
    assert delay_embedding(X, 30, 2).shape[-1] == 2
    with pytest.raises(ShapeError, match="channels, samples"):
        delay_embedding(np.zeros(5), 1)


def test_blocks_are_lagged_covariances() -> None:
    X, _ = trials(3)
    S = DelayCovariances(order=3, lag=2, estimator="cov").fit_transform(X)
    L = 120 - 4
    for i in range(3):
        for j in range(3):
            a, b = (x - x.mean(-1, keepdims=True) for x in (X[0, :, 2 * i : 2 * i + L], X[0, :, 2 * j : 2 * j + L]))
            np.testing.assert_allclose(S[0, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3], a @ b.T / (L - 1), atol=1e-12)
    np.testing.assert_allclose(DelayCovariances(estimator="cov").fit_transform(X)[0], np.cov(X[0]))


def test_far_from_toeplitz_by_one_over_samples() -> None:
    """The blocks (0, 0) and (1, 1) estimate one matrix from windows that differ at their ends."""
    gaps = []
    for samples in (500, 5000):
        found = []
        for seed in range(20):
            S = DelayCovariances(order=2, estimator="cov").fit_transform(trials(2, samples=samples, seed=seed)[0])
            found.append(np.abs(S[:, :3, :3] - S[:, 3:, 3:]).max() / np.abs(S).max())
        gaps.append(np.mean(found))
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.4)


def test_yule_walker_finds_the_coefficients() -> None:
    rng = np.random.default_rng(1)
    A = np.stack([0.4 * np.eye(2) + 0.1 * rng.normal(size=(2, 2)), -0.3 * np.eye(2)])  # of x[t - 1] and x[t - 2]
    x = np.zeros((2, 100_000))
    e = rng.normal(size=x.shape)
    for t in range(2, x.shape[1]):
        x[:, t] = A[0] @ x[:, t - 1] + A[1] @ x[:, t - 2] + e[:, t]
    S = DelayCovariances(order=3, estimator="cov").fit_transform(x[None])[0]
    found = vector_autoregression(S, 2)
    np.testing.assert_allclose(found[::-1], A, atol=3 * 1.2 / np.sqrt(100_000))
    E = delay_embedding(x, 3)
    E = E - E.mean(-1, keepdims=True)
    least = np.linalg.lstsq(E[:4].T, E[4:].T, rcond=None)[0].T
    np.testing.assert_allclose(found.transpose(1, 0, 2).reshape(2, 4), least, atol=1e-8)
    with pytest.raises(ShapeError, match="order 2 or more"):
        vector_autoregression(S[:2, :2], 2)


@pytest.mark.parametrize("last", [MDM(), make_pipeline(TangentSpace(), SVC())], ids=["MDM", "tangent space and SVM"])
def test_mixing_of_channels_changes_nothing(last) -> None:
    """x -> G x for all trials, of training and test alike, leaves decisions alone; shrinkage does not."""
    X, y = trials()
    G = np.random.default_rng(3).normal(size=(3, 3))
    decisions = {}
    for estimator in ("cov", "oas"):
        both = []
        for M in (np.eye(3), G):
            model = make_pipeline(DelayCovariances(2, 1, estimator), clone(last)).fit(M @ X[:30], y[:30])
            both.append(
                model.predict_proba(M @ X[30:])
                if hasattr(model, "predict_proba")
                else model.decision_function(M @ X[30:])
            )
        decisions[estimator] = np.abs(both[0] - both[1]).max()
    assert decisions["cov"] < 1e-8
    assert decisions["oas"] > 1e-4


def test_an_audit_of_distances() -> None:
    """`er.audit` of the class distances, with the covariances' own group acting on a pair of trials."""
    X, y = trials()
    S = DelayCovariances(estimator="cov").fit_transform(X)
    metric = er.geometry.manifolds.AffineInvariant()

    def model(pairs: torch.Tensor) -> torch.Tensor:
        return metric.dist(pairs[:, 0], pairs[:, 1])[:, None]

    pairs = torch.as_tensor(np.stack([S[:10], S[10:20]], 1))
    symmetry = er.Symmetry("GLPlus(3)", input="spd", output="invariant")
    assert er.audit(model, symmetry, pairs, elements=8, progress=False).worst_error < 1e-8
    assert len(y) == 40


def test_it_is_an_estimator_of_scikit_learn() -> None:
    X, y = trials()
    search = GridSearchCV(
        make_pipeline(DelayCovariances(estimator="oas"), MDM()),
        {"delaycovariances__order": [1, 2], "delaycovariances__lag": [1, 2]},
        cv=3,
    ).fit(X, y)
    assert search.best_params_["delaycovariances__order"] == 2  # the classes differ in their frequencies alone
    assert search.best_score_ > 0.9
    one = DelayCovariances(3, 2, "lwf")
    assert (
        clone(one).get_params()
        == one.get_params()
        == {
            "order": 3,
            "lag": 2,
            "estimator": "lwf",
            "official_window": False,
        }
    )
    assert one.__sklearn_tags__().input_tags.three_d_array
    # Shuffled in time the classes are alike.
    rng = np.random.default_rng(0)
    shuffled = np.stack([x[:, rng.permutation(x.shape[1])] for x in X])
    assert (
        search.best_score_ > GridSearchCV(search.estimator, search.param_grid, cv=3).fit(shuffled, y).best_score_ + 0.2
    )


def test_scale_is_no_matter_and_shrinkage_agrees_with_pyriemann() -> None:
    from pyriemann.estimation import Covariances

    X, _ = trials(5)
    for name in ("oas", "lwf", "cov"):
        np.testing.assert_allclose(
            DelayCovariances(estimator=name).fit_transform(X), Covariances(name).transform(X), rtol=1e-8
        )
    np.testing.assert_allclose(DelayCovariances(2).fit_transform(7 * X), 49 * DelayCovariances(2).fit_transform(X))


def test_bad_input() -> None:
    X, _ = trials(4)
    model = DelayCovariances(estimator="cov").fit(X)
    twice = np.concatenate([X, X[:, :1]], 1)
    with pytest.raises(DataError, match=r"X\[0\].*\[0, 3\]"):
        DelayCovariances(estimator="cov").fit_transform(twice)
    assert np.isfinite(DelayCovariances(estimator="oas").fit_transform(twice)).all()
    with pytest.raises(ShapeError, match="2 channels, and there were 3"):
        model.transform(X[:, :2])
    with pytest.raises(ShapeError, match=r"X\[None\]"):
        model.fit(X[0])
    flat = X.copy()
    flat[1, 2] = 0.5
    with pytest.raises(DataError, match=r"X\[1, 2\] does not change"):
        model.fit(flat)
    flat[1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"X\[1\] has NaN"):
        model.fit(flat)
    with pytest.raises(ErlangenError, match="no regular covariance"):
        DelayCovariances(40, 1, "cov").fit_transform(X)
    with pytest.raises(UnknownNameError, match="cov, oas, lwf"):
        DelayCovariances(estimator="huber").fit(X)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ErlangenError, match="not fitted"):
        DelayCovariances().transform(X)
    with pytest.raises(ErlangenError, match="order"):
        DelayCovariances(order=0).fit(X)
