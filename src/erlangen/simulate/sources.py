"""Sources that swing at a frequency, as rhythms of the brain do, and their mixtures at electrodes."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, check_finite, check_integer, first_index


def rhythms(
    frequency: Tensor, samples: int, *, damping: float | Tensor = 0.9, generator: Generator | None = None
) -> Tensor:
    """Stationary autoregressive sources ``[..., samples]`` of order two and variance one, each around its frequency.

    >>> rhythms(torch.full((2, 3), 0.1), 50, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 50])

    ``x_t = 2 r cos(2 pi f) x_{t-1} - r^2 x_{t-2} + e_t`` with normal noise e: the damping r is the modulus of its poles.

    Args:
        frequency: f ``[...]`` in cycles per sample, 0 to 1/2, one for each source; its dtype is that of the signals.
        samples: how many.
        damping: r, at least 0 and below 1; a number or a tensor that broadcasts with `frequency`.
        generator: source of random numbers.

    Raises:
        ErlangenError: a frequency or a damping is out of its range; names the index.
    """
    check_integer("samples", samples, 1)
    check_finite(frequency, "frequency")
    r = torch.as_tensor(damping, dtype=frequency.dtype).expand(frequency.shape)
    for name, bad, given in (
        ("frequency", (frequency < 0) | (frequency > 0.5), "0 to 1/2 cycles per sample"),
        ("damping", ~((r >= 0) & (r < 1)), "at least 0 and below 1"),
    ):
        if bool(bad.any()):
            index = first_index(bad)
            value = float((frequency if name == "frequency" else r)[index])
            raise ErlangenError(f"{name}{list(index) if index else ''} = {value:g}; give {given}")
    a, b = 2 * r * (2 * math.pi * frequency).cos(), -(r**2)
    # Variance and first covariance of the stationary process, from which it starts: no samples are thrown away.
    first = a / (1 - b)
    noise = (1 - a * first - b * (a * first + b)).clamp(min=0).sqrt()
    e = torch.randn(*frequency.shape, samples, generator=generator, dtype=frequency.dtype)
    x = [e[..., 0]]
    if samples > 1:
        x.append(first * x[0] + (1 - first**2).clamp(min=0).sqrt() * e[..., 1])
    for t in range(2, samples):
        x.append(a * x[t - 1] + b * x[t - 2] + noise * e[..., t])
    return torch.stack(x, -1)


def mixing(channels: int, condition: float, *, generator: Generator | None = None) -> Tensor:
    """A random matrix ``[channels, channels]`` float64 with this condition number: singular values fall geometrically.

    Between two independent rotations; the largest singular value is the root of the condition number.
    """
    check_integer("channels", channels, 1)
    if not 1 <= condition < math.inf:
        raise ErlangenError(f"condition = {condition}; give a number of at least 1")
    left, right = (
        torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))[0] for _ in range(2)
    )
    return left * torch.logspace(0.5, -0.5, channels, base=condition, dtype=torch.float64) @ right.mT
