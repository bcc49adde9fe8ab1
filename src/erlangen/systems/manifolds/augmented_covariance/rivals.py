"""What augmented covariances are compared with: pipelines of plain covariances, and two that know the frequencies of stimuli."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from erlangen.signals import DelayCovariances
from erlangen.systems.manifolds.augmented_covariance.data import STIMULI, filtered, reference
from erlangen.systems.manifolds.augmented_covariance.method import AugmentedCovarianceClassifier


def searched(pipeline: Any, grid: dict[str, list[Any]], y: Any) -> GridSearchCV:
    """A pipeline with a search in the same inner folds, by the same score, as those of ACM."""
    scoring = "roc_auc" if len(np.unique(y)) == 2 else "accuracy"
    return GridSearchCV(pipeline, grid, scoring=scoring, cv=StratifiedKFold(3, shuffle=True, random_state=42))


class ElasticNet(ClassifierMixin, BaseEstimator):
    """Cov+EN: tangent space and logistic regression with an elastic net, its share of the L1 norm searched."""

    def __init__(self, estimator: str = "cov") -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any) -> ElasticNet:
        """Search and fit."""
        last = LogisticRegression(solver="saga", max_iter=1000, l1_ratio=0.15)
        from pyriemann.tangentspace import TangentSpace

        pipeline = make_pipeline(DelayCovariances(estimator=self.estimator), TangentSpace(), last)  # pyright: ignore
        grid = {"logisticregression__l1_ratio": [0.15, 0.3, 0.45, 0.6, 0.75]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the authors stop after 1000 iterations, too
            self.model_ = searched(pipeline, grid, y).fit(X, y)
        return self

    def predict(self, X: Any) -> Any:
        """Classes."""
        return self.model_.predict(X)

    def decision_function(self, X: Any) -> Any:
        """Decisions."""
        return self.model_.decision_function(X)


def csp_lda(estimator: str, channels: int, y: Any) -> GridSearchCV:
    """CSP+LDA: common spatial patterns, their number searched, and a shrunk linear discriminant."""
    last = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    from pyriemann.spatialfilters import CSP

    pipeline = make_pipeline(DelayCovariances(estimator=estimator), CSP(), last)  # pyright: ignore[reportArgumentType]
    return searched(pipeline, {"csp__nfilter": list(range(1, min(8, channels) + 1))}, y)


class FilterBank(AugmentedCovarianceClassifier):
    """Filter-bank covariance: trials filtered at the frequencies of the stimuli and stacked, then TANG+SVM."""

    def __init__(self, estimator: Any = "oas") -> None:
        super().__init__(orders=(1,), estimator=estimator)

    def fit(self, X: Any, y: Any, groups: Any = None, rates: Any = None) -> AugmentedCovarianceClassifier:
        """As that of ACM, of filtered trials."""
        return super().fit(filtered(X), y, groups, rates)

    def predict(self, X: Any) -> Any:
        """Classes."""
        return super().predict(filtered(X))

    def decision_function(self, X: Any) -> Any:
        """Decisions."""
        return super().decision_function(filtered(X))


class CanonicalCorrelation(ClassifierMixin, BaseEstimator):
    """CCA: the class whose sines and cosines correlate most with any mixture of the channels; it does not train."""

    def fit(self, X: Any, y: Any) -> CanonicalCorrelation:
        """Remember the classes."""
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: Any) -> Any:
        """Largest canonical correlations ``[trials, classes]``."""
        signals = np.linalg.qr(np.swapaxes(X - X.mean(-1, keepdims=True), 1, 2))[0]
        columns: list[Any] = []
        for frequency in STIMULI:
            waves = reference(frequency, X.shape[-1])
            basis = np.linalg.qr((waves - waves.mean(-1, keepdims=True)).T)[0]
            columns.append(np.linalg.svd(np.swapaxes(signals, 1, 2) @ basis, compute_uv=False)[:, 0])
        return np.stack(columns, 1)

    def predict(self, X: Any) -> Any:
        """Classes."""
        return self.classes_[self.decision_function(X).argmax(1)]
