"""Noise that is as likely in every direction: Gaussian, and the heavier one of Poisson flow models, behind one interface."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor
from typing_extensions import override

from erlangen.errors import ErlangenError

__all__ = ["GaussianNoise", "Noise", "StudentNoise", "noise_family"]


class Noise(ABC):
    """Isotropic noise of the scale sigma around a point: how to draw it, and how likely it is.

    >>> x = torch.zeros(5, 2) + 3.0 * noise_family(64.0).sample((5, 2), generator=torch.Generator().manual_seed(0))
    >>> x.shape
    torch.Size([5, 2])
    """

    @property
    @abstractmethod
    def variance(self) -> float:
        """Variance of one coordinate at the scale one; infinite for D <= 2."""

    @abstractmethod
    def sample(
        self, shape: tuple[int, ...], *, generator: Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Noise ``[B, ...]`` at the scale one; multiply it by sigma."""

    @abstractmethod
    def log_kernel(self, squared: Tensor, sigma: Tensor, dim: int) -> Tensor:
        """Log-density of points in `dim` dimensions at these squared distances from the centre, normalised."""


class GaussianNoise(Noise):
    """Normal noise: diffusion models."""

    @property
    @override
    def variance(self) -> float:
        return 1.0

    @override
    def sample(
        self, shape: tuple[int, ...], *, generator: Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    @override
    def log_kernel(self, squared: Tensor, sigma: Tensor, dim: int) -> Tensor:
        return -squared / (2 * sigma.square()) - dim * (sigma.log() + math.log(2 * math.pi) / 2)


class StudentNoise(Noise):
    """The perturbation kernel of PFGM++, ``p_r(x | y) ~ (|x - y|^2 + r^2)^(-(N + D)/2)`` at r = sigma sqrt(D).

    It is the multivariate Student distribution with D degrees of freedom: a normal vector over the root of a chi-square per
    sample. D = 1 is the Poisson flow, D to infinity the Gaussian.

    Source: Xu et al., PFGM++: Unlocking the potential of physics-inspired generative models (2023), equation 3 and section 4.

    Args:
        D: number of additional dimensions, any positive number.
    """

    def __init__(self, D: float) -> None:
        if not (_is_number(D) and D > 0 and math.isfinite(D)):
            raise ErlangenError(
                f"D = {D!r}; give a positive number, or use noise_family(float('inf')) for normal noise"
            )
        self.D = float(D)

    @property
    @override
    def variance(self) -> float:
        return self.D / (self.D - 2) if self.D > 2 else math.inf

    @override
    def sample(
        self, shape: tuple[int, ...], *, generator: Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        # The public distributions of torch draw from its global stream alone.
        shapes = torch.full((shape[0], *(1,) * (len(shape) - 1)), self.D / 2, dtype=torch.float64)
        chi_square = 2 * torch._standard_gamma(shapes, generator=generator)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        return (normal / (chi_square / self.D).sqrt()).to(dtype)

    @override
    def log_kernel(self, squared: Tensor, sigma: Tensor, dim: int) -> Tensor:
        D = self.D
        constant = math.lgamma((dim + D) / 2) - math.lgamma(D / 2) - dim / 2 * math.log(D * math.pi)
        # log1p keeps the digits where D is large and the kernel nearly Gaussian.
        return constant - dim * sigma.log() - (dim + D) / 2 * torch.log1p(squared / (D * sigma.square()))


def noise_family(D: float) -> Noise:
    """Noise with D additional dimensions: `StudentNoise`, and `GaussianNoise` for D = inf."""
    return GaussianNoise() if _is_number(D) and math.isinf(D) and D > 0 else StudentNoise(D)


def _is_number(value: object) -> bool:
    """Whether a value is a real number, of Python or NumPy; a text or a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
