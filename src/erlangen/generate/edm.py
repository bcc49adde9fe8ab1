"""Generative models along a scale of noise: preconditioning, loss, levels and sampler of Karras et al. (2022)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import (
    ErlangenError,
    ErlangenWarning,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
)
from erlangen.generate.noises import GaussianNoise, Noise

__all__ = ["Preconditioned", "denoising_loss", "heun_sample", "noise_levels"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``denoiser(x, sigma)``: the expected clean sample of ``x [B, ...]`` at noise levels ``sigma [B]``."""


class Preconditioned(nn.Module):
    """A denoiser ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` around a network F (Karras et al. 2022, table 1).

    >>> net = lambda x, noise: torch.zeros_like(x)
    >>> model = Preconditioned(net, data_std=0.5)
    >>> model(torch.ones(1, 3), torch.tensor([0.0001]))
    tensor([[1., 1., 1.]])

    For data of the standard deviation `data_std` and normal noise, inputs and targets of the network have variance one at every
    level, and at sigma = 0 the denoiser is the identity.

    Args:
        net: ``net(x, log(sigma) / 4)``, the latter ``[B]``.
        data_std: standard deviation of the data over all samples and coordinates.
    """

    def __init__(self, net: Callable[[Tensor, Tensor], Tensor], data_std: float = 0.5) -> None:
        super().__init__()
        if not (data_std > 0 and math.isfinite(data_std)):
            raise ErlangenError(f"data_std = {data_std}; give the standard deviation of the data")
        self.net, self.data_std = net, data_std

    @override
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = _levels(sigma, x)
        s, variance = self.data_std, self.data_std**2 + level.square()
        inner = self.net(x / variance.sqrt(), level.flatten().log() / 4)
        if inner.shape != x.shape:
            raise ShapeError(f"the network maps {tuple(x.shape)} to {tuple(inner.shape)}; it must keep the shape")
        return s**2 / variance * x + level * s / variance.sqrt() * inner


def _levels(sigma: Tensor, x: Tensor) -> Tensor:
    level = sigma.expand(len(x)) if sigma.ndim == 0 else sigma
    if level.shape != x.shape[:1]:
        raise ShapeError(f"sigma has shape {tuple(sigma.shape)}; give one level for each of the {len(x)} samples")
    if not bool(((level > 0) & level.isfinite()).all()):
        raise ErlangenError(f"sigma = {float(level.min()):.4g}; levels of noise are positive and finite")
    return level.to(x.dtype).view(-1, *(1,) * (x.ndim - 1))


def denoising_loss(
    model: Preconditioned,
    y: Tensor,
    *,
    noise: Noise | None = None,
    log_mean: float = -1.2,
    log_std: float = 1.2,
    reference: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Mean weighted squared error of the denoised ``y + sigma n``, with log-normal levels (Karras et al. 2022, equation 51).

    Args:
        model: the denoiser.
        y: clean samples ``[B, ...]``.
        noise: the family; normal by default.
        log_mean, log_std: of the natural logarithm of the levels.
        reference: clean samples ``[M, ...]`` whose mean, weighted by how likely each is to have become the noisy one, is the
            target in place of y: less variance, and a bias that a larger M makes smaller (Xu et al., Stable target field, 2023).
        generator: draws levels and noise.

    Warns with `ErlangenWarning` where the data's spread is not the model's `data_std` within a factor of two.

    Raises:
        DtypeError, NotFiniteError, ShapeError: y is not floating, holds NaN or Inf, or is empty; `reference` does not fit.
    """
    check_floating(y, "y")
    check_finite(y, "y")
    if not len(y):
        raise ShapeError(f"y has shape {tuple(y.shape)}; give at least one sample")
    spread = float(y.detach().std()) if len(y) > 1 else model.data_std
    if not 0.5 < spread / model.data_std < 2:
        warnings.warn(
            f"the data have the standard deviation {spread:.3g}, and the model data_std = {model.data_std:.3g}; scale the one or "
            "set the other",
            ErlangenWarning,
            stacklevel=2,
        )
    sigma = (log_mean + log_std * torch.randn(len(y), generator=generator)).exp().to(y)
    family = noise or GaussianNoise()
    level = sigma.view(-1, *(1,) * (y.ndim - 1))
    x = y + level * family.sample(tuple(y.shape), generator=generator, dtype=y.dtype)
    weight = (level.square() + model.data_std**2) / (level * model.data_std).square()
    target = y if reference is None else _expected(x, sigma, reference, family)
    return (weight * (model(x, sigma) - target).square()).mean()


@torch.no_grad()
def _expected(x: Tensor, sigma: Tensor, reference: Tensor, noise: Noise) -> Tensor:
    """As `EmpiricalDenoiser`, and some ten times faster: `torch.cdist` has no forward derivative, which nobody needs here."""
    if reference.shape[1:] != x.shape[1:] or not len(reference):
        raise ShapeError(
            f"reference has shape {tuple(reference.shape)}; give samples of the shape {tuple(x.shape[1:])}"
        )
    flat, known = x.flatten(1).double(), reference.flatten(1).double()
    squared = torch.cdist(flat, known, compute_mode="donot_use_mm_for_euclid_dist").square()
    weights = noise.log_kernel(squared, sigma.double()[:, None], flat.shape[1]).softmax(-1)
    return (weights @ known).view(x.shape).to(x.dtype)


def noise_levels(count: int, low: float = 0.002, high: float = 80.0, *, rho: float = 7.0) -> Tensor:
    """Decreasing levels ``[count]``, float64, equally spaced in their rho-th roots (Karras et al. 2022, equation 5)."""
    check_integer("count", count, 2)
    if not 0 < low < high < math.inf:
        raise ErlangenError(f"low = {low}, high = {high}; give 0 < low < high")
    at = torch.linspace(0, 1, count, dtype=torch.float64)
    return (high ** (1 / rho) + at * (low ** (1 / rho) - high ** (1 / rho))) ** rho


@dataclass(frozen=True)
class Disturbance:
    """Normal noise of ``share * sigma`` that is added before each step, to see how robust a sampler is."""

    share: float
    generator: Generator | None = None

    def __post_init__(self) -> None:
        if not (self.share >= 0 and math.isfinite(self.share)):
            raise ErlangenError(f"share = {self.share}; give a number that is not negative")


@torch.no_grad()
def heun_sample(
    denoiser: Denoiser,
    x: Tensor,
    levels: Tensor,
    *,
    last: bool = True,
    disturbance: Disturbance | None = None,
) -> Tensor:
    """Follow ``dx / dsigma = (x - D(x, sigma)) / sigma`` down the levels by Heun's method, which is of second order.

    >>> levels = noise_levels(40)
    >>> start = levels[0] * torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> heun_sample(lambda x, sigma: torch.ones_like(x), start, levels)[0]  # data are one point
    tensor([1., 1.], dtype=torch.float64)

    The equation is one for all D (Xu et al. 2023): what differs is the noise that samples start from and that the denoiser was
    trained with.

    Args:
        denoiser: the expected clean sample.
        x: where to begin, ``[B, ...]``, noise of the first level; kept in its dtype, float64 is best.
        levels: decreasing, such as `noise_levels`.
        last: end with a step of Euler to sigma = 0.
        disturbance: noise before each step.
    """
    steps = levels.diff() if levels.ndim == 1 else levels.new_zeros(0)
    if not len(steps) or not bool((steps < 0).all()) or float(levels[-1]) <= 0 or math.isinf(float(levels[0])):
        raise ErlangenError(
            f"levels {tuple(levels.shape)} must be at least two positive numbers that decrease; see noise_levels"
        )
    check_finite(x, "x")

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoiser(x, sigma.to(x).expand(len(x))).to(x)) / sigma.to(x)

    for now, then in pairwise(levels):
        if disturbance is not None:
            noise = torch.randn(x.shape, generator=disturbance.generator, dtype=x.dtype)
            x = x + disturbance.share * now.to(x) * noise
        first, step = slope(x, now), (then - now).to(x)
        x = x + step * (first + slope(x + step * first, then)) / 2
    if last:
        x = x - levels[-1].to(x) * slope(x, levels[-1])
    return x
