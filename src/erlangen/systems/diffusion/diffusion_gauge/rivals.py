"""Other estimators of intrinsic dimension: by scores near a point, by divergence, and from neighbours without a model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import DataError, check_integer
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

    The dimension is N minus the place of the largest ratio of neighbouring singular values.
    """
    check_integer("samples", samples, x.shape[1])
    around = x[:, None] + sigma * torch.randn(len(x), samples, x.shape[1], generator=generator, dtype=x.dtype)
    found = score(around.flatten(0, 1), x.new_full((len(x) * samples,), sigma))
    logs = torch.linalg.svdvals(found.view(around.shape)).log()
    return x.shape[1] - ((logs[:, :-1] - logs[:, 1:]).argmax(-1) + 1)


def flipd(score: Score, x: Tensor, sigma: float) -> Tensor:
    """Dimension ``[B]``, any real number: ``N + sigma^2 (div s + |s|^2)`` (Kamkari et al., 2024)."""
    level = x.new_full((len(x),), sigma)
    s = score(x, level)
    return x.shape[1] + sigma**2 * (divergence(lambda at: score(at, level), x) + s.square().sum(-1))


# --- from data alone -------------------------------------------------------------------------------------------------
class Neighbours:
    """An estimator that looks at data and trains nothing: dimension ``[B]`` at points x, from the data it was given.

    Args:
        method: "lPCA": the place of the largest ratio of neighbouring singular values of the nearest points;
            "MLE": the inverse of the mean log-ratio of distances, without bias (Levina and Bickel 2004);
            "TwoNN": from the ratios of the second to the first distance of all data, one number (Facco et al. 2017).
        k: how many neighbours.
    """

    def __init__(self, method: str, k: int = 20) -> None:
        if method not in ESTIMATORS:
            raise DataError(f"method = {method!r}; known are {', '.join(ESTIMATORS)}")
        check_integer("k", k, 3)
        self.method, self.k = method, k
        self.known: Tensor | None = None

    def prepare(self, split: Split) -> None:
        """Keep the training data."""
        known = split.train[0]
        assert isinstance(known, Tensor)
        self.known = known.double()

    def __call__(self, x: Tensor) -> Tensor:
        """Dimensions ``[B]``."""
        assert self.known is not None
        if len(self.known) <= self.k:
            raise DataError(f"{len(self.known)} samples for k = {self.k} neighbours; give more samples or a smaller k")
        return ESTIMATORS[self.method](self.known, x.double(), self.k)


def _nearest(known: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances ``[B, k]`` to the nearest data that are not the point itself, ascending, and which."""
    apart = torch.cdist(x, known, compute_mode="donot_use_mm_for_euclid_dist")
    found = apart.masked_fill(apart == 0, torch.inf).topk(k, largest=False)
    return found.values, found.indices


def _local_pca(known: Tensor, x: Tensor, k: int) -> Tensor:
    near = known[_nearest(known, x, k)[1]]
    values = torch.linalg.svdvals(near - near.mean(1, keepdim=True))[:, : x.shape[1]]
    logs = values.clamp(min=1e-12).log()
    return (logs[:, :-1] - logs[:, 1:]).argmax(-1) + 1


def _likelihood(known: Tensor, x: Tensor, k: int) -> Tensor:
    distances, _ = _nearest(known, x, k)
    return (k - 2) / (distances[:, -1:] / distances[:, :-1]).log().sum(-1)


def _two_nearest(known: Tensor, x: Tensor, _: int) -> Tensor:
    distances = _nearest(known, known[:5000], 2)[0]
    logs = (distances[:, 1] / distances[:, 0]).log().sort().values
    # Without the largest tenth, as the authors: a line through the origin of -log(1 - F) against the logarithms.
    kept = int(0.9 * len(logs))
    level = -(1 - torch.arange(1, kept + 1, dtype=logs.dtype) / len(logs)).log()
    return ((logs[:kept] * level).sum() / logs[:kept].square().sum()).expand(len(x))


ESTIMATORS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "lPCA": _local_pca,
    "MLE": _likelihood,
    "TwoNN": _two_nearest,
}
