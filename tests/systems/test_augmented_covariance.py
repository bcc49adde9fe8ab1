"""Augmented covariances: what the choice sees, MDOP against series whose delays are known, rivals, data, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pyriemann")
from pyriemann.tangentspace import TangentSpace
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError
from erlangen.signals import DelayCovariances
from erlangen.simulate import rhythms
from erlangen.survey import Run, Sizes
from erlangen.systems.manifolds.augmented_covariance import AugmentedCovarianceClassifier
from erlangen.systems.manifolds.augmented_covariance._mdop import delays, first_minimum, mdop_choice
from erlangen.systems.manifolds.augmented_covariance._properties import signals
from erlangen.systems.manifolds.augmented_covariance.data import (
    RATE,
    STIMULI,
    Labelled,
    Trials,
    filtered,
    recorded,
    reference,
    shuffled,
    simulated,
)
from erlangen.systems.manifolds.augmented_covariance.experiment import models, row
from erlangen.systems.manifolds.augmented_covariance.rivals import CanonicalCorrelation, FilterBank

X, Y = signals(Run("full"))
SMALL: dict[str, Any] = {"orders": (1, 2), "lags": (1, 2), "costs": (0.5, 1.0), "estimator": "cov"}


# --- the choice ------------------------------------------------------------------------------------------------------
def test_nested_choice_is_that_of_a_grid_search() -> None:
    """Scores of every candidate equal those of scikit-learn, which fits everything anew in every fold."""
    model = AugmentedCovarianceClassifier(**SMALL).fit(X, Y)
    pipeline = make_pipeline(DelayCovariances(estimator="cov"), TangentSpace(), SVC())
    grid = {
        "delaycovariances__order": [2],
        "delaycovariances__lag": [1, 2],
        "svc__C": [0.5, 1.0],
        "svc__kernel": ["linear", "rbf"],
    }
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=StratifiedKFold(3, shuffle=True, random_state=42)).fit(
        X, Y
    )
    for options, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        key = (2, options["delaycovariances__lag"], options["svc__C"], options["svc__kernel"])
        assert model.scores_[key] == pytest.approx(score, abs=1e-12)
    assert model.scores_[model.order_, model.lag_, model.cost_, model.kernel_] == max(model.scores_.values())


def test_nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Karcher means of inner folds see training trials of the fold, the last one the training trials, and none the test."""
    seen: list[Any] = []
    real = TangentSpace.fit

    def spy(self: Any, S: Any, *args: Any, **options: Any) -> Any:
        seen.append(S)
        return real(self, S, *args, **options)

    monkeypatch.setattr(TangentSpace, "fit", spy)
    model = AugmentedCovarianceClassifier(orders=(2,), lags=(1,), estimator="cov").fit(X[:30], Y[:30])
    S = DelayCovariances(2, 1, "cov").fit_transform(X)
    folds = StratifiedKFold(3, shuffle=True, random_state=42).split(X[:30], Y[:30])
    due = [S[train] for train, _ in folds] + [S[:30]]
    assert len(seen) == len(due)
    for found, wanted in zip(seen, due, strict=True):
        np.testing.assert_array_equal(found, wanted)
    model.predict(X[30:])
    assert len(seen) == len(due)


def test_sessions_can_be_left_out() -> None:
    sessions = np.repeat([0, 1, 2, 3], 10)
    model = AugmentedCovarianceClassifier(**SMALL, by_session=True).fit(X, Y, groups=sessions)
    assert model.order_ == 2
    with pytest.raises(DataError, match="groups=sessions"):
        AugmentedCovarianceClassifier(**SMALL, by_session=True).fit(X, Y)


@pytest.mark.parametrize("kind", ["svm", "mdm", "fgmdm"])
def test_every_classifier_tells_frequencies(kind: Any) -> None:
    model = AugmentedCovarianceClassifier(**SMALL, classifier=kind).fit(X[:30], Y[:30])
    assert model.order_ == 2
    assert model.decision_function(X[30:]).shape == (10,)
    assert (model.predict(X[30:]) == (model.decision_function(X[30:]) > 0)).all()
    assert model.score(X[30:], Y[30:]) >= 0.8


def test_pairs_that_fail_are_told() -> None:
    """30 rows of 28 samples have no regular covariance, and 60 samples none at all of the third pair."""
    model = AugmentedCovarianceClassifier(orders=(1, 10, 50), lags=(3,), estimator="cov").fit(X[:, :, :55], Y)
    assert set(model.failed_) == {(10, 3), (50, 3)}
    assert "estimator='oas'" in model.failed_[10, 3]
    assert "order of 18 at most" in model.failed_[50, 3]
    assert model.order_ == 1
    with pytest.raises(DataError, match="no pair of order and lag can be used: order = 50"):
        AugmentedCovarianceClassifier(orders=(50,), lags=(3,)).fit(X[:, :, :55], Y)


def test_it_is_an_estimator_of_scikit_learn() -> None:
    model = AugmentedCovarianceClassifier(**SMALL)
    assert clone(model).get_params() == model.get_params()
    assert model.pairs() == [(1, 1), (2, 1), (2, 2)]


# --- MDOP ------------------------------------------------------------------------------------------------------------
def test_mutual_information_has_its_minimum_where_nothing_correlates() -> None:
    """Of a normal process it is -log(1 - rho^2) / 2: least after a quarter of the period."""
    x = rhythms(
        torch.tensor(1 / 40, dtype=torch.float64), 20_000, damping=0.98, generator=torch.Generator().manual_seed(0)
    )
    assert 8 <= first_minimum(x.numpy(), 30) <= 12


def test_a_sine_is_a_circle() -> None:
    """Two coordinates embed it: the second is about a quarter of a period behind, and no third is needed."""
    t = np.arange(600)
    noise = 0.01 * np.random.default_rng(0).normal(size=600)
    chosen = delays((np.sin(2 * np.pi * t / 40) + noise)[None], threshold=0.2)
    assert chosen[0] == (0, 0)
    channel, delay = chosen[1]
    assert channel == 0
    assert min(abs(delay - 10), abs(delay - 30), abs(delay - 50)) <= 3
    assert mdop_choice(np.stack([np.sin(2 * np.pi * t / 40) + noise] * 2)[:, None], threshold=0.2)[0] == len(chosen)


def test_mdop_leaves_half_of_the_samples() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 90))
    order, lag = mdop_choice(x)
    assert (order - 1) * lag <= 45
    model = AugmentedCovarianceClassifier(choice="mdop").fit(X, Y)
    assert (model.order_, model.lag_) == mdop_choice(X)
    assert (model.cost_, model.kernel_) == (1.0, "rbf")


# --- bad input -------------------------------------------------------------------------------------------------------
def changed(where: Any, value: float) -> Any:
    x = X.copy()
    x[where] = value
    return x


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"X": X[0]}, ErlangenError, r"trials, channels, samples"),
        ({"X": changed((3, 1, 5), np.nan)}, DataError, r"X\[3\] has NaN"),
        ({"X": changed((3, 1), 2.0)}, DataError, r"X\[3, 1\] does not change"),
        ({"X": np.concatenate([X, X[:, :1]], 1)}, DataError, r"X\[0\].*\[0, 3\].*drop one"),
        ({"X": [X[0], X[1, :, :100], *X[2:]]}, DataError, "resample them to one length"),
        ({"rates": [250] * 20 + [512] * 20}, DataError, "resample the trials first"),
        ({"y": np.zeros(40)}, DataError, "has the class np.float64.0.0. alone|has the class 0.0 alone"),
        ({"y": np.arange(40) == 0}, DataError, "has 1 trials for 3 inner folds"),
        ({"y": Y[:30]}, DataError, "one class for each"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], error: type[Exception], word: str) -> None:
    given: dict[str, Any] = {"X": X, "y": Y} | arguments
    with pytest.raises(error, match=word):
        AugmentedCovarianceClassifier(**SMALL).fit(**given)


def test_a_session_of_one_class() -> None:
    with pytest.raises(DataError, match="inner fold 0 lacks a class; use by_session=False"):
        AugmentedCovarianceClassifier(**SMALL, by_session=True).fit(X, Y, groups=Y)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"classifier": "knn"}, "svm, mdm, fgmdm"),
        ({"choice": "random"}, "nested, mdop"),
        ({"estimator": "huber"}, "cov, oas"),
    ],
)
def test_unknown_names(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UnknownNameError, match=word):
        AugmentedCovarianceClassifier(**options).fit(X, Y)
    with pytest.raises(ErlangenError, match="not fitted"):
        AugmentedCovarianceClassifier().predict(X)
    with pytest.raises(UnknownNameError, match="amplitudes, frequencies, both"):
        simulated("phases", 0, Sizes(4, 0, 4))  # pyright: ignore[reportArgumentType]


def test_another_number_of_channels() -> None:
    with pytest.raises(ShapeError, match="2 channels, and there were 3"):
        AugmentedCovarianceClassifier(**SMALL).fit(X, Y).predict(X[:, :2])


# --- data and rivals -------------------------------------------------------------------------------------------------
def test_frequencies_leave_covariances_alone() -> None:
    """The mean covariances of both classes agree where frequencies differ alone, and do not where amplitudes do."""
    apart: dict[str, float] = {}
    for task in ("amplitudes", "frequencies"):
        trials = simulated(task, 0, Sizes(2000, 0, 2), samples=100)
        x, y = trials.train
        S = np.einsum("nit,njt->nij", x, x) / 100
        means = [S[y == k].mean(0) for k in (0, 1)]
        apart[task] = float(np.linalg.norm(means[0] - means[1]) / np.linalg.norm(means[0]))
    assert apart["amplitudes"] > 3 * apart["frequencies"]
    assert apart["frequencies"] < 0.1


def test_shuffling_keeps_samples() -> None:
    trials = simulated("both", 1, Sizes(4, 0, 6), samples=50)
    other = shuffled(trials, 0)
    assert {name: x.shape for name, (x, _) in other.tests.items()} == dict.fromkeys(trials.tests, (6, 6, 50))
    one, two = trials.train[0][0], other.train[0][0]
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(
        one[:, np.argsort(one[0])], two[:, np.argsort(two[0])]
    )  # one permutation of all channels


def test_rivals_that_know_the_stimuli() -> None:
    """Flicker at the five frequencies in noise."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 5
    t = np.arange(250) / RATE
    wave = np.sin(2 * np.pi * np.array(STIMULI)[y][:, None] * t + rng.uniform(0, 6, (60, 1)))
    x = rng.normal(size=(1, 4, 1)) * wave[:, None] + rng.normal(size=(60, 4, 250))
    assert CanonicalCorrelation().fit(x, y).score(x, y) > 0.9
    assert FilterBank().fit(x[:40], y[:40]).score(x[40:], y[40:]) > 0.8
    assert filtered(x).shape == (60, 20, 250)
    waves = reference(10.0, 125)
    np.testing.assert_allclose(waves @ waves.T, 62.5 * np.eye(4), atol=1e-9)


@pytest.mark.parametrize("name", ["TANG+SVM", "Cov+EN", "CSP+LDA", "MDM", "FgMDM"])
def test_plain_pipelines_see_amplitudes(name: str) -> None:
    trials = simulated("amplitudes", 0, Sizes(80, 0, 80), samples=200)

    def clear(labelled: Labelled) -> Labelled:
        x, y = labelled
        return x * (1 + 2.0 * y[:, None, None]), y

    louder = Trials(clear(trials.train), {key: clear(test) for key, test in trials.tests.items()})
    assert row(models((1,), (1,), "cov")[name], louder)["auc, within sessions"] > 85


def test_recordings(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "eeg_mamem_ssvep"
    trials = recorded(folder, 1)
    assert trials.train[0].shape == (300, 8, 125)
    assert trials.tests["across sessions"][1].shape == (100,)
    assert row(lambda _: CanonicalCorrelation(), trials)["accuracy, across sessions"] > 20
    np.savez(tmp_path / "subject01.npz", X=np.ones((9, 8, 125)), y=np.arange(9))
    with pytest.raises(DataError, match="five sessions"):
        recorded(tmp_path, 1)
