"""What must hold of embeddings, their covariances, and of classifiers under mixing, scaling and shuffling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from erlangen.signals import DelayCovariances, delay_embedding, vector_autoregression
from erlangen.survey import Run, bound, exact, largest, number, properties
from erlangen.survey.claims import Part
from erlangen.systems.manifolds.augmented_covariance.method import AugmentedCovarianceClassifier

Floats = NDArray[np.floating[Any]]


def tangent_space() -> Any:
    """Of pyriemann, which is imported when it is needed: it brings matplotlib along."""
    from pyriemann.tangentspace import TangentSpace

    return TangentSpace()


def nearest_mean() -> Any:
    """Of pyriemann, too."""
    from pyriemann.classification import MDM

    return MDM()


def signals(run: Run[Any], count: int = 40, channels: int = 3, samples: int = 120) -> tuple[Floats, Any]:
    """Two classes of autoregressive signals that differ in their frequency alone, mixed by one matrix."""
    rng = np.random.default_rng(run.seed)
    y = np.arange(count) % 2
    x = np.zeros((count, channels, samples))
    turn = np.array([0.5, -0.5])[y][:, None]
    for t in range(1, samples):
        x[:, :, t] = turn * x[:, :, t - 1] + rng.normal(size=(count, channels))
    return rng.normal(size=(channels, channels)) @ x, y


def autoregression(run: Run[Any], samples: int, count: int = 1) -> tuple[Floats, Floats]:
    """Two channels of vector autoregressions of order two, and their coefficients ``[2, 2, 2]``, oldest first."""
    rng = np.random.default_rng(run.seed)
    coefficients = np.array([[[-0.3, 0.1], [0.0, -0.2]], [[0.5, -0.1], [0.2, 0.4]]])
    older, newer = coefficients.transpose(0, 2, 1)
    x = rng.normal(size=(samples, count, 2))
    for t in range(2, samples):
        x[t] += x[t - 1] @ newer + x[t - 2] @ older
    return x.transpose(1, 2, 0), coefficients


def covariance(X: Floats, order: int, lag: int = 1, estimator: Any = "cov") -> Floats:
    """Augmented covariances."""
    return DelayCovariances(order, lag, estimator).fit(X).transform(X)


def gap(a: Floats, b: Floats) -> float:
    """Largest difference; NaN where there is one."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


# --- embeddings ------------------------------------------------------------------------------------------------------
@exact(tol=0)
def order_one_is_the_classical_pipeline(run: Run[Any]) -> float:
    """Largest difference of decisions with the order one to those of plain covariances, tangent space and the same machine."""
    X, y = signals(run)
    model = AugmentedCovarianceClassifier(orders=(1,), costs=(1.0,), kernels=("rbf",), estimator="cov").fit(
        X[:30], y[:30]
    )
    plain = make_pipeline(DelayCovariances(estimator="cov"), tangent_space(), SVC()).fit(X[:30], y[:30])
    return largest(gap(delay_embedding(X, 1), X), gap(model.decision_function(X[30:]), plain.decision_function(X[30:])))


@exact(tol=0)
def embeddings_are_indexing(run: Run[Any]) -> float:
    """Largest difference of 50 embeddings to direct indexing, and of the authors' window to its first samples."""
    X, rng, worst = signals(run, 2)[0], np.random.default_rng(run.seed), 0.0
    for _ in range(50):
        order, lag = int(rng.integers(2, 7)), int(rng.integers(1, 8))
        made = delay_embedding(X, order, lag)
        time = np.arange(120 - (order - 1) * lag)
        due = np.concatenate([X[:, :, j * lag + time] for j in range(order)], 1)
        official = delay_embedding(X, order, lag, official_window=True)
        wrong = float(made.shape != (2, 3 * order, 120 - (order - 1) * lag))
        worst = largest(worst, wrong, gap(made, due), gap(official, due[:, :, : 120 - order * lag]))
    return worst


@exact(tol=1e-12)
def blocks_are_lagged_covariances(run: Run[Any]) -> float:
    """Largest difference of the blocks of an augmented covariance to covariances of the channels in shifted windows."""
    X = signals(run, 3)[0]
    S, length, worst = covariance(X, 3, 2), 116, 0.0
    for i in range(3):
        for j in range(3):
            for x, found in zip(X, S, strict=True):
                a, b = (x[:, 2 * k : 2 * k + length] for k in (i, j))
                due = np.cov(a, b)[:3, 3:]
                worst = largest(worst, gap(found[3 * i : 3 * i + 3, 3 * j : 3 * j + 3], due))
    return worst


@number(10.0, tol=4.0)
def far_from_toeplitz_by_one_over_samples(run: Run[Any]) -> float:
    """Mean difference of the two diagonal blocks of order two with 500 samples, over that with 5000."""
    gaps: list[float] = []
    for samples in (500, 5000):
        S = covariance(signals(run, 300, samples=samples)[0], 2)
        gaps.append(float((np.abs(S[:, :3, :3] - S[:, 3:, 3:]).max((1, 2)) / np.abs(S).max((1, 2))).mean()))
    return gaps[0] / gaps[1]


@bound(at_most=3)
def coefficients_are_found(run: Run[Any]) -> float:
    """Largest error of eight coefficients of a vector autoregression in 100,000 samples, in standard errors; median of five."""
    x, due = autoregression(run, 100_000, 5)
    worst: list[float] = []
    for S in covariance(x, 3):
        # Variances of least squares: of the noise, one, times the inverse of the past's covariance, over the samples.
        spread = np.sqrt(np.diag(np.linalg.inv(S[:4, :4])) / x.shape[-1]).reshape(2, 1, 2)
        worst.append(float((np.abs(vector_autoregression(S, 2) - due) / spread).max()))
    return float(np.median(worst))


@exact(tol=1e-8)
def coefficients_are_least_squares(run: Run[Any]) -> float:
    """Largest difference of Yule-Walker coefficients to least squares in the same window."""
    x = autoregression(run, 5000)[0]
    rows = delay_embedding(x[0], 3)
    rows = rows - rows.mean(-1, keepdims=True)
    least = np.linalg.lstsq(rows[:4].T, rows[4:].T, rcond=None)[0].T
    found = vector_autoregression(covariance(x, 3)[0], 2)
    return gap(found.transpose(1, 0, 2).reshape(2, 4), least)


# --- mixing and scaling ----------------------------------------------------------------------------------------------
def _moved(run: Run[Any], estimator: Any) -> float:
    """Largest change of distances to class means, and of decisions of both machines, when one G mixes all trials."""
    X, y = signals(run)
    G, worst = np.random.default_rng(run.seed + 3).normal(size=(3, 3)), 0.0
    S, T = covariance(X, 2, 1, estimator), covariance(G @ X, 2, 1, estimator)
    distances = [nearest_mean().fit(C[:30], y[:30]).transform(C[30:]) for C in (S, T)]
    worst = largest(worst, gap(distances[0], distances[1]))
    for kernel in ("linear", "rbf"):
        found = [
            make_pipeline(tangent_space(), SVC(kernel=kernel, tol=1e-10)).fit(C[:30], y[:30]).decision_function(C[30:])
            for C in (S, T)
        ]
        worst = largest(worst, gap(found[0], found[1]))
    return worst


@exact(tol=1e-8)
def mixing_changes_nothing(run: Run[Any]) -> float:
    """Largest change of distances to class means, and of decisions of both machines, when one G mixes all channels."""
    return _moved(run, "cov")


@bound(at_least=1e-3)
def shrinkage_breaks_that(run: Run[Any]) -> float:
    """Largest change of distances and decisions when one G mixes all channels and covariances are shrunk."""
    return _moved(run, "oas")


@exact(tol=1e-10)
def inner_products_do_not_move(run: Run[Any]) -> float:
    """Largest change of inner products of tangent vectors when one G mixes the channels of all trials."""
    products = [Z @ Z.T for Z in _tangent(run)]
    return gap(products[0], products[1])


@bound(at_least=1e-2)
def tangent_vectors_do_move(run: Run[Any]) -> float:
    """Largest change of tangent vectors when one G mixes the channels of all trials."""
    plain, mixed = _tangent(run)
    return gap(plain, mixed)


def _tangent(run: Run[Any]) -> list[Floats]:
    X, _ = signals(run)
    G = np.random.default_rng(run.seed + 3).normal(size=(3, 3))
    return [tangent_space().fit(S[:30]).transform(S) for S in (covariance(X, 2), covariance(G @ X, 2))]


@exact(tol=0)
def units_do_not_matter(run: Run[Any]) -> float:
    """Predictions that change when all trials are multiplied by 1000, over plain and shrunk covariances and both classifiers."""
    X, y = signals(run)
    wrong = 0
    for estimator in ("cov", "oas"):
        for kind in ("svm", "mdm"):
            found: list[Any] = []
            for unit in (1.0, 1000.0):
                model = AugmentedCovarianceClassifier((1, 2), (1,), kind, (1.0,), ("linear",), estimator=estimator)
                found.append(model.fit(unit * X[:30], y[:30]).predict(unit * X[30:]))
            wrong += int((found[0] != found[1]).sum())
    return wrong


@bound(at_least=0.1)
def units_of_single_trials_do(run: Run[Any]) -> float:
    """Largest change of distances to class means when single trials are multiplied by numbers between 1/2 and 2."""
    X, y = signals(run)
    factor = 2 ** np.random.default_rng(run.seed).uniform(-1, 1, (len(X), 1, 1))
    found = [
        nearest_mean().fit(S[:30], y[:30]).transform(S[30:]) for S in (covariance(X, 2), covariance(factor * X, 2))
    ]
    return gap(found[0], found[1])


@exact(tol=1e-10)
def plain_covariances_do_not_see_the_order(run: Run[Any]) -> float:
    """Largest relative change of plain covariances when the samples of every trial change places."""
    X = signals(run)[0]
    order = np.random.default_rng(run.seed).permutation(X.shape[-1])
    S = covariance(X, 1)
    return gap(covariance(X[:, :, order], 1), S) / float(np.abs(S).max())


def properties_part(run: Run[Any]) -> Part:
    """All of them."""
    return properties(
        run,
        order_one_is_the_classical_pipeline,
        embeddings_are_indexing,
        blocks_are_lagged_covariances,
        far_from_toeplitz_by_one_over_samples,
        coefficients_are_found,
        coefficients_are_least_squares,
        mixing_changes_nothing,
        shrinkage_breaks_that,
        inner_products_do_not_move,
        tangent_vectors_do_move,
        units_do_not_matter,
        units_of_single_trials_do,
        plain_covariances_do_not_see_the_order,
    )
