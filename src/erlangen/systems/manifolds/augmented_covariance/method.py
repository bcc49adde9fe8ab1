"""Augmented covariance matrices: a Riemannian classifier of covariances of the signal beside its own past.

The embedding and its covariance are `erlangen.signals.DelayCovariances`; here stands how order and lag are chosen, and what
classifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from erlangen.errors import DataError, ErlangenError, MissingExtraError, UnknownNameError
from erlangen.signals import DelayCovariances, Estimator
from erlangen.systems.manifolds.augmented_covariance._mdop import mdop_choice

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.metrics import accuracy_score, roc_auc_score
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
    from sklearn.svm import SVC
except ImportError as error:
    raise MissingExtraError("pyriemann", "signals", "augmented_covariance") from error

__all__ = ["AugmentedCovarianceClassifier", "score"]

Floats = NDArray[np.floating[Any]]
Kind = Literal["svm", "mdm", "fgmdm"]
Choice = Literal["nested", "mdop"]


class AugmentedCovarianceClassifier(ClassifierMixin, BaseEstimator):
    """ACM: signals ``X [trials, channels, samples]`` to classes, with order and lag chosen on the training trials.

    >>> rng = np.random.default_rng(0)
    >>> t, y = np.arange(100), np.arange(40) % 2
    >>> X = np.sin(np.array([0.3, 0.6])[y][:, None, None] * t + rng.uniform(0, 6, (40, 2, 1))) + rng.normal(size=(40, 2, 100))
    >>> model = AugmentedCovarianceClassifier(orders=(1, 3), lags=(1, 2)).fit(X[:30], y[:30])
    >>> model.order_, float(model.score(X[30:], y[30:])) > 0.8
    (3, True)

    "svm" is ACM + TGSP + SVM: vectors of the tangent space at the Karcher mean of the training trials, off-diagonals times the
    root of two, and a support vector machine. "mdm" is ACM + MDM, the nearest class mean under the affine-invariant metric;
    "fgmdm" the same after a geodesic discriminant analysis.

    Nested choice tries all pairs of order and lag (order one once), and for "svm" all costs and kernels, in inner folds of the
    training trials; tangent vectors of a pair and a fold are shared. "mdop" takes order and lag from the training signals
    (Nichkawde 2013), with the cost 1 and the kernel "rbf".

    Args:
        orders, lags: candidates, in samples.
        classifier: "svm", "mdm" or "fgmdm".
        costs, kernels: candidates for the support vector machine.
        choice: "nested" or "mdop".
        estimator: of covariances; see `DelayCovariances`.
        folds: inner folds, stratified and shuffled.
        by_session: inner folds leave out one session each, those that `fit` is told as groups; the authors mix sessions.
        official_window: see `erlangen.signals.delay_embedding`.
        seed: of the shuffling.

    Attributes:
        order_, lag_, cost_, kernel_: what was chosen.
        scores_: mean inner score of every candidate that was tried, by ``(order, lag, cost, kernel)``.
        failed_: why pairs could not be tried, by ``(order, lag)``: too few samples, singular covariances.
    """

    def __init__(
        self,
        orders: Sequence[int] = (1, 2, 4, 6, 8),
        lags: Sequence[int] = (1, 2, 3, 4),
        classifier: Kind = "svm",
        costs: Sequence[float] = (0.5, 1.0, 1.5),
        kernels: Sequence[str] = ("linear", "rbf"),
        choice: Choice = "nested",
        estimator: Estimator = "oas",
        folds: int = 3,
        by_session: bool = False,
        official_window: bool = False,
        seed: int = 42,
    ) -> None:
        self.orders = orders
        self.lags = lags
        self.classifier = classifier
        self.costs = costs
        self.kernels = kernels
        self.choice = choice
        self.estimator: Estimator = estimator
        self.folds = folds
        self.by_session = by_session
        self.official_window = official_window
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None, rates: Any = None) -> AugmentedCovarianceClassifier:
        """Choose order and lag, and fit the classifier with them.

        Args:
            X, y: trials and their classes.
            groups: sessions of the trials, for `by_session`.
            rates: sampling rates of the trials, where they may differ; a lag in samples asks for one.

        Raises:
            DataError: a class has too few trials for the inner folds, sampling rates or lengths differ, or signals are refused by
                `DelayCovariances` with every pair.
            UnknownNameError: an option is not known.
        """
        signals, y = self._read(X, y, rates)
        self.classes_ = np.unique(y)
        self.scores_: dict[tuple[Any, ...], float] = {}
        self.failed_: dict[tuple[int, int], str] = {}
        if self.choice == "mdop":
            self.order_, self.lag_ = mdop_choice(signals)
            self.cost_, self.kernel_ = 1.0, "rbf"
        else:
            folds = self._folds(signals, y, groups)
            for order, lag in self.pairs():
                self._try(signals, y, order, lag, folds)
            if not self.scores_:
                raise DataError(f"no pair of order and lag can be used: {next(iter(self.failed_.values()))}")
            # Of equals the first, which is the smallest model.
            best = max(self.scores_, key=lambda key: self.scores_[key])
            self.order_, self.lag_, self.cost_, self.kernel_ = best
        self.covariances_ = self._covariances(self.order_, self.lag_).fit(signals)
        self.model_ = self._classifier(self.cost_, self.kernel_)
        features = self.covariances_.transform(signals)
        if self.classifier == "svm":
            self.tangent_ = _tangent_space().fit(features)
            features = self.tangent_.transform(features)
        self.model_.fit(features, y)
        return self

    def predict(self, X: Any) -> Any:
        """Classes of trials."""
        features = self._features(X)
        return self.model_.predict(features)

    def decision_function(self, X: Any) -> Any:
        """Decisions: larger for the second of two classes; a column for each of several."""
        features = self._features(X)
        return decisions(self.model_, features)

    def pairs(self) -> list[tuple[int, int]]:
        """Candidates of order and lag; with order one the lag says nothing."""
        more = [(order, lag) for order in self.orders if order > 1 for lag in self.lags]
        return [(1, 1)] * (1 in self.orders) + more

    # --- inside ------------------------------------------------------------------------------------------------------
    def _features(self, X: Any) -> Any:
        if not hasattr(self, "model_"):
            raise ErlangenError("this AugmentedCovarianceClassifier is not fitted; call fit(X, y) first")
        S = self.covariances_.transform(np.asarray(X))
        return self.tangent_.transform(S) if self.classifier == "svm" else S

    def _try(self, X: Floats, y: Any, order: int, lag: int, folds: list[tuple[Any, Any]]) -> None:
        try:
            S = self._covariances(order, lag).fit(X).transform(X)  # of every trial by itself: nothing leaks
        except ErlangenError as error:
            if (order, lag) == (1, 1):
                raise  # not the fault of the embedding
            self.failed_[order, lag] = str(error)
            return
        settings = [(c, k) for k in self.kernels for c in self.costs] if self.classifier == "svm" else [(1.0, "")]
        found: dict[tuple[float, str], list[float]] = {setting: [] for setting in settings}
        for train, test in folds:
            features = S
            if self.classifier == "svm":
                space = _tangent_space().fit(S[train])
                features = space.transform(S)
            for cost, kernel in settings:
                model = self._classifier(cost, kernel).fit(features[train], y[train])
                found[cost, kernel].append(
                    score(y[test], decisions(model, features[test]), model.predict(features[test]))
                )
        for (cost, kernel), values in found.items():
            self.scores_[order, lag, cost, kernel] = float(np.mean(values))

    def _classifier(self, cost: float, kernel: str) -> Any:
        if self.classifier == "svm":
            return SVC(C=cost, kernel=kernel)
        from pyriemann.classification import MDM, FgMDM

        return MDM(metric="riemann") if self.classifier == "mdm" else FgMDM(metric="riemann")

    def _covariances(self, order: int, lag: int) -> DelayCovariances:
        return DelayCovariances(order, lag, self.estimator, self.official_window)

    def _folds(self, X: Floats, y: Any, groups: Any) -> list[tuple[Any, Any]]:
        if self.by_session:
            if groups is None or len(np.unique(groups)) < 2:
                raise DataError("by_session needs groups, two sessions or more; pass fit(X, y, groups=sessions)")
            folds = list(LeaveOneGroupOut().split(X, y, groups))
        else:
            names, counts = np.unique(y, return_counts=True)
            if counts.min() < self.folds:
                raise DataError(
                    f"class {names[counts.argmin()]!r} has {counts.min()} trials for {self.folds} inner folds; give more trials, "
                    "or fewer folds"
                )
            folds = list(StratifiedKFold(self.folds, shuffle=True, random_state=self.seed).split(X, y))
        for index, fold in enumerate(folds):
            for part in fold:
                if len(np.unique(y[part])) < len(np.unique(y)):
                    raise DataError(f"inner fold {index} lacks a class; use by_session=False, or more trials")
        return folds

    def _read(self, X: Any, y: Any, rates: Any) -> tuple[Floats, Any]:
        for name, value, known in (("classifier", self.classifier, Kind), ("choice", self.choice, Choice)):
            if value not in get_args(known):
                raise UnknownNameError(f"{name} = {value!r}; there are {', '.join(get_args(known))}")
        if rates is not None and len(np.unique(rates)) > 1:
            raise DataError(
                f"rates are {np.unique(rates).tolist()}; a lag in samples asks for one: resample the trials first"
            )
        if len({np.shape(trial) for trial in X}) > 1:
            raise DataError(
                "X has trials of different shapes; cut or resample them to one length, with the same channels"
            )
        signals, y = np.asarray(X), np.asarray(y)
        DelayCovariances(estimator=self.estimator).fit(signals)
        if y.shape != signals.shape[:1]:
            raise DataError(f"y has shape {y.shape} for {len(X)} trials; give one class for each")
        if len(np.unique(y)) < 2:
            raise DataError(f"y has the class {y[0]!r} alone; give trials of two classes or more")
        return signals, y


def decisions(model: Any, F: Any) -> Floats:
    """What orders trials by: a number for two classes, larger for the second; otherwise a column for each class."""
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(F))
    p = np.asarray(model.predict_proba(F))
    return p[:, 1] - p[:, 0] if p.shape[1] == 2 else p


def score(y: Any, decision: Floats, predicted: Any) -> float:
    """The authors' score: area under the ROC curve for two classes, accuracy for more."""
    if len(np.unique(y)) == 2 and decision.ndim == 1:
        return float(roc_auc_score(y, decision))
    return float(accuracy_score(y, predicted))


def _tangent_space() -> Any:
    """Of pyriemann, which is imported when it is needed: it brings matplotlib along."""
    from pyriemann.tangentspace import TangentSpace

    return TangentSpace(metric="riemann")
