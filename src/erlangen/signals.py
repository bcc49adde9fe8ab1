"""Signals of several channels and their covariances, as estimators of scikit-learn (extra ``signals``).

>>> from pyriemann.classification import MDM
>>> from sklearn.pipeline import make_pipeline
>>> X, y = np.random.default_rng(0).normal(size=(40, 3, 200)), np.arange(40) % 2
>>> make_pipeline(DelayCovariances(order=2, lag=3), MDM()).fit(X, y).predict(X).shape
(40,)

Signals are ``X [trials, channels, samples]``. What classifies covariances comes from pyRiemann (`MDM`, `TangentSpace`, `FgMDM`,
...); under the affine-invariant metric these pipelines do not change when an invertible matrix mixes the channels of all trials,
``x -> G x``, as long as covariances are not shrunk. `er.audit` takes the fitted pipeline and measures it.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from erlangen.errors import DataError, ErlangenError, MissingExtraError, ShapeError, UnknownNameError, check_integer

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.covariance import ledoit_wolf, oas
except ImportError as error:
    raise MissingExtraError("scikit-learn", "signals", "erlangen.signals") from error

__all__ = ["DelayCovariances", "delay_embedding", "vector_autoregression"]

Floats = NDArray[np.floating[Any]]
Estimator = Literal["cov", "oas", "lwf"]


def delay_embedding(X: Floats, order: int, lag: int = 1, *, official_window: bool = False) -> Floats:
    """Signals beside their own past: ``[..., order C, L]`` from ``[..., C, T]``, L = T - (order - 1) lag.

    >>> delay_embedding(np.arange(6.0)[None], order=3, lag=2)
    array([[0., 1.],
           [2., 3.],
           [4., 5.]])

    Blocks of C rows begin at the samples 0, lag, 2 lag, ..., the oldest first (Takens 1981). With `official_window` the last
    `lag` samples are left out for orders above one, as in the code of Carrara and Papadopoulo and in MOABB.

    Raises:
        ErlangenError: the signal is too short; the message says which order it allows.
    """
    check_integer("order", order, 1)
    check_integer("lag", lag, 1)
    if X.ndim < 2:
        raise ShapeError(f"X has shape {X.shape}; give signals [..., channels, samples]")
    left_out = lag if official_window and order > 1 else 0
    length = X.shape[-1] - (order - 1) * lag - left_out
    if length < 2:
        most = max(1, 1 + max(0, X.shape[-1] - 2 - (lag if official_window else 0)) // lag)
        raise ErlangenError(f"order = {order}, lag = {lag}: {X.shape[-1]} samples allow an order of {most} at most")
    return np.concatenate([X[..., k * lag : k * lag + length] for k in range(order)], axis=-2)


class DelayCovariances(TransformerMixin, BaseEstimator):
    """Covariances of delay-embedded signals: augmented covariances, ``[trials, order C, order C]``.

    Block (i, j) estimates the covariance of the channels at a distance of ``(i - j) lag`` samples, so that a classifier of
    covariances sees frequencies as well. Order 1 is the plain covariance.

    Source: Carrara and Papadopoulo, Classification of BCI-EEG based on augmented covariance matrix (2023).

    Args:
        order: embedding dimension p.
        lag: tau, in samples.
        estimator: "cov", the sample covariance; "oas" or "lwf", shrunk towards a multiple of the identity (Chen et al. 2010,
            Ledoit and Wolf 2004), regular for few samples too, but no longer equivariant under mixing of channels.
        official_window: see `delay_embedding`.
    """

    def __init__(
        self, order: int = 1, lag: int = 1, estimator: Estimator = "oas", official_window: bool = False
    ) -> None:
        self.order = order
        self.lag = lag
        self.estimator = estimator
        self.official_window = official_window

    def fit(self, X: Floats, y: Any = None) -> DelayCovariances:
        """Look at the shape of the signals; nothing else is learned."""
        self._check(X)
        self.n_channels_in_ = X.shape[1]
        return self

    def transform(self, X: Floats) -> Floats:
        """Covariances ``[trials, order C, order C]`` of signals ``[trials, C, T]``.

        Raises:
            DataError: NaN, a channel that does not change, or channels that repeat each other while the covariance is not shrunk.
            ErlangenError: too few samples for the order, or for a regular matrix.
        """
        if not hasattr(self, "n_channels_in_"):
            raise ErlangenError("this DelayCovariances is not fitted; call fit(X) first")
        self._check(X)
        if X.shape[1] != self.n_channels_in_:
            raise ShapeError(f"X has {X.shape[1]} channels, and there were {self.n_channels_in_} in fit")
        embedded = delay_embedding(
            np.asarray(X, dtype=float), self.order, self.lag, official_window=self.official_window
        )
        width, length = embedded.shape[-2:]
        if self.estimator == "cov" and width >= length - 1:
            raise ErlangenError(
                f"{width} rows of {length} samples have no regular covariance; use estimator='oas', or a smaller order"
            )
        return np.stack([self._covariance(trial, index) for index, trial in enumerate(embedded)])

    def _covariance(self, trial: Floats, index: int) -> Floats:
        rows = trial - trial.mean(-1, keepdims=True)
        if self.estimator == "oas":
            return oas(rows.T, assume_centered=True)[0]
        if self.estimator == "lwf":
            return ledoit_wolf(rows.T, assume_centered=True)[0]
        S = rows @ rows.T / (rows.shape[1] - 1)
        values, vectors = np.linalg.eigh(S)
        if values[0] <= len(S) * np.finfo(float).eps * values[-1]:
            together = np.argsort(-np.abs(vectors[:, 0]))[:2] % self.n_channels_in_
            raise DataError(
                f"X[{index}] has channels that depend on each other (such as {sorted(set(together.tolist()))}): "
                "drop one, or use estimator='oas'"
            )
        return S

    def _check(self, X: Floats) -> None:
        check_integer("order", self.order, 1)
        check_integer("lag", self.lag, 1)
        if self.estimator not in get_args(Estimator):
            raise UnknownNameError(f"estimator = {self.estimator!r}; there are {', '.join(get_args(Estimator))}")
        if np.ndim(X) != 3:
            raise ShapeError(
                f"X has shape {np.shape(X)}; give signals [trials, channels, samples], one trial as X[None]"
            )
        bad = ~np.isfinite(X).all((1, 2))
        if bad.any():
            raise DataError(f"X[{int(np.argmax(bad))}] has NaN or Inf; drop the trial, or mend it")
        flat = np.ptp(X, axis=2) == 0
        if flat.any():
            trial, channel = np.argwhere(flat)[0]
            raise DataError(f"X[{trial}, {channel}] does not change at all; drop the channel")

    @override
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = True
        return tags


def vector_autoregression(S: Floats, channels: int) -> Floats:
    """Coefficients ``[order, C, C]``, oldest first, of the best linear prediction of the present from the past.

    >>> x = np.cumsum(np.random.default_rng(0).normal(size=(1, 1, 4000)), -1) * 1e-3
    >>> S = DelayCovariances(order=2, estimator="cov").fit(x).transform(x)
    >>> vector_autoregression(S[0], 1).round(2)  # a random walk goes on from where it is
    array([[[1.]]])

    For the augmented covariance ``S [(order + 1) C, (order + 1) C]`` with the present in its last C rows: Yule-Walker equations,
    ``[A_p .. A_1] = S_present,past S_past,past^-1``.
    """
    if S.ndim != 2 or S.shape[0] != S.shape[1] or S.shape[0] % channels or S.shape[0] == channels:
        raise ShapeError(
            f"S has shape {S.shape}; give the covariance of an embedding of order 2 or more of {channels} channels"
        )
    past = S.shape[0] - channels
    joint = np.linalg.solve(S[:past, :past], S[:past, past:]).T
    return joint.reshape(channels, past // channels, channels).transpose(1, 0, 2)
