"""Denoisers and scores that are known: of a finite set of points, and of mixtures of Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ShapeError, check_finite
from erlangen.generate.noises import GaussianNoise, Noise

__all__ = ["EmpiricalDenoiser", "GaussianMixture"]


class EmpiricalDenoiser:
    """The best denoiser for a finite set of points: their mean, weighted by how likely each is to have become x.

    >>> denoiser = EmpiricalDenoiser(torch.tensor([[0.0], [1.0]]))
    >>> denoiser(torch.tensor([[0.5]]), torch.tensor([0.1]))
    tensor([[0.5000]])

    It is equivariant under every isometry that moves points and x together. Weights are computed in float64.

    Args:
        points: ``[M, ...]``.
        noise: the family; normal by default.
    """

    def __init__(self, points: Tensor, noise: Noise | None = None) -> None:
        check_finite(points, "points")
        if not len(points):
            raise DataError("points is empty; a denoiser needs at least one")
        self.points, self.noise = points, noise or GaussianNoise()

    def weights(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior weights ``[B, M]`` of the points, float64."""
        if x.shape[1:] != self.points.shape[1:]:
            raise ShapeError(f"x has shape {tuple(x.shape)}; the points are {tuple(self.points.shape[1:])} each")
        flat, known = x.flatten(1).double(), self.points.flatten(1).double()
        squared = (flat[:, None] - known[None]).square().sum(-1)
        return self.noise.log_kernel(squared, sigma.double().expand(len(x))[:, None], flat.shape[1]).softmax(-1)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The expected point ``[B, ...]``."""
        mean = self.weights(x, sigma) @ self.points.flatten(1).double()
        return mean.view(x.shape).to(x.dtype)


class GaussianMixture:
    """A mixture of Gaussians after noise: log-density, score, denoiser and samples at every level, exactly.

    >>> mixture = GaussianMixture(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.ones(2, 2))
    >>> mixture.score(torch.tensor([[2.0, 1.0]]), torch.tensor([0.0]))
    tensor([[ 0., -1.]])

    Args:
        means: ``[K, N]``.
        covariances: ``[K, N, N]``, or variances of the coordinates ``[K, N]``; zeros are allowed where there is noise.
        weights: ``[K]``, equal by default.
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor | None = None) -> None:
        check_finite(means, "means")
        check_finite(covariances, "covariances")
        K, N = means.shape
        if covariances.shape not in {(K, N), (K, N, N)}:
            raise ShapeError(f"covariances has shape {tuple(covariances.shape)}; give [{K}, {N}] or [{K}, {N}, {N}]")
        full = torch.diag_embed(covariances) if covariances.ndim == 2 else covariances
        self.values, self.vectors = torch.linalg.eigh(full)
        if bool((self.values < -1e-6 * self.values.abs().amax(-1, keepdim=True)).any()):
            raise DataError("covariances must be positive semidefinite")
        self.values = self.values.clamp(min=0)
        self.means = means
        share = torch.ones(K, dtype=means.dtype) if weights is None else weights
        if bool((share < 0).any()) or float(share.sum()) <= 0:
            raise DataError(f"weights = {share.tolist()}; they must not be negative or all zero")
        self.weights = share / share.sum()

    def _parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates along the axes ``[B, K, N]``, variances there, and log-densities ``[B, K]`` with the weights."""
        variance = self.values + sigma.expand(len(x))[:, None, None].square()
        along = torch.einsum("kni,bkn->bki", self.vectors, x[:, None] - self.means)
        logs = -(along.square() / variance + variance.log() + math.log(2 * math.pi)).sum(-1) / 2
        return along, variance, logs + self.weights.log()

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log-density ``[B]`` at ``x [B, N]`` after normal noise of the level sigma, ``[B]`` or one number."""
        return self._parts(x, sigma)[2].logsumexp(-1)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Gradient ``[B, N]`` of the log-density."""
        along, variance, logs = self._parts(x, sigma)
        each = -torch.einsum("kni,bki->bkn", self.vectors, along / variance)
        return (logs.softmax(-1)[..., None] * each).sum(1)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The expected clean sample, ``x + sigma^2 score`` (Tweedie)."""
        return x + sigma.expand(len(x))[:, None].square() * self.score(x, sigma)

    def sample(self, n: int, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Samples ``[n, N]`` without noise, and which component ``[n]`` each is from."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[k] + torch.einsum("bni,bi->bn", self.vectors[k], self.values[k].sqrt() * z), k
