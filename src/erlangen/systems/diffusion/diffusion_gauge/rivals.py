"""Other estimators of intrinsic dimension: by scores near a point, by divergence, and from neighbours without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import DataError, ErlangenError, MissingExtraError, check_integer
from erlangen.generate import GradientField, NoiseMLP, Preconditioned, divergence
from erlangen.survey import Split

Score = Callable[[Tensor, Tensor], Tensor]


# --- networks --------------------------------------------------------------------------------------------------------
def unconstrained(dim: int, width: int, data_std: float) -> Preconditioned:
    """A denoiser from a network with as many answers as coordinates."""
    return Preconditioned(NoiseMLP(dim, width=width), data_std)


def conservative(dim: int, width: int, data_std: float) -> Preconditioned:
    """A denoiser from the gradient of a network with one answer, of the same hidden layers."""
    return Preconditioned(GradientField(NoiseMLP(dim, out=1, width=width)), data_std)


def score_of(model: nn.Module) -> Score:
    """The field in place of the score that a denoiser is (Tweedie)."""
    return lambda x, sigma: (model(x, sigma) - x) / sigma[:, None].square()


# --- from a model ----------------------------------------------------------------------------------------------------
def by_score_svd(
    score: Score, x: Tensor, sigma: float, *, samples: int = 40, generator: Generator | None = None
) -> Tensor:
    """Dimension ``[B]`` by the singular values of scores around each point, which span the normals (Stanczuk et al., 2024).

    The dimension is N minus the place of the largest difference of neighbouring singular values, as in their algorithm 1. A
    largest ratio would not do: where the density is not uniform, all scores share a tangent part, which makes a ratio as large.
    """
    check_integer("samples", samples, x.shape[1])
    _check_level(sigma)
    around = x[:, None] + sigma * torch.randn(len(x), samples, x.shape[1], generator=generator, dtype=x.dtype)
    found = score(around.flatten(0, 1), x.new_full((len(x) * samples,), sigma))
    values = torch.linalg.svdvals(found.view(around.shape))
    return x.shape[1] - ((values[:, :-1] - values[:, 1:]).argmax(-1) + 1)


def flipd(score: Score, x: Tensor, sigma: float) -> Tensor:
    """Dimension ``[B]``, any real number: ``N + sigma^2 (div s + |s|^2)`` (Kamkari et al., 2024)."""
    _check_level(sigma)
    level = x.new_full((len(x),), sigma)
    s = score(x, level)
    return x.shape[1] + sigma**2 * (divergence(lambda at: score(at, level), x) + s.square().sum(-1))


def _check_level(sigma: float) -> None:
    if not sigma > 0:
        raise ErlangenError(f"sigma = {sigma}; give a positive level: scores grow without bound towards 0")


# --- from data alone -------------------------------------------------------------------------------------------------
ESTIMATORS = ("lPCA", "MLE", "TwoNN")
"""Classes of `skdim.id` with their own settings: local principal components with a threshold (Fukunaga and Olsen 1971), maximum
likelihood (Levina and Bickel 2004), and the ratios of the two nearest neighbours of all data (Facco et al. 2017)."""


class Neighbours:
    """An estimator of the package scikit-dimension: dimension ``[B]`` at points x, from the data it was given.

    Args:
        method: one of `ESTIMATORS`; TwoNN gives one number for all data.
        k: how many neighbours.

    Raises:
        DataError: the method is unknown.
        MissingExtraError: scikit-dimension is not installed.
    """

    def __init__(self, method: str, k: int = 20) -> None:
        if method not in ESTIMATORS:
            raise DataError(f"method = {method!r}; known are {', '.join(ESTIMATORS)}")
        check_integer("k", k, 3)
        try:
            import skdim.id as estimators
        except ImportError as error:
            raise MissingExtraError("scikit-dimension", "dimension", "the dimension by neighbours") from error
        self.method, self.k = method, k
        self.estimator: Any = estimators.MLE(K=k) if method == "MLE" else getattr(estimators, method)()
        self.known: Tensor | None = None

    def prepare(self, split: Split) -> None:
        """Keep the training data."""
        known = split.train[0]
        assert isinstance(known, Tensor)
        self.known = known.double()

    def __call__(self, x: Tensor) -> Tensor:
        """Dimensions ``[B]``, float64."""
        assert self.known is not None
        known = self.known
        if len(known) <= self.k:
            raise DataError(f"{len(known)} samples for k = {self.k} neighbours; give more samples or a smaller k")
        if self.method == "TwoNN":
            return x.new_full((len(x),), float(self.estimator.fit(known.numpy()).dimension_), dtype=torch.float64)
        apart = torch.cdist(x.double(), known, compute_mode="donot_use_mm_for_euclid_dist")
        # A point that is one of the data is no neighbour of itself.
        near = apart.masked_fill(apart == 0, torch.inf).topk(self.k, largest=False)
        if self.method == "MLE":
            arrays = (near.values.numpy(), near.indices.numpy())
            # The data are looked at for their number alone: the distances are given.
            fitted: Any = self.estimator.fit(known.numpy(), precomputed_knn_arrays=arrays, n_neighbors=self.k)
            found: Any = fitted.dimension_pw_
        else:
            found = [self.estimator.fit(part.numpy()).dimension_ for part in known[near.indices]]
        return torch.as_tensor(found, dtype=torch.float64)
