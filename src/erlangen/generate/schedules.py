"""Noise schedules: how much noise each step of a diffusion adds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, check_sizes

__all__ = ["cosine_betas", "linear_betas"]

LARGEST_BETA = 0.999
"""Bound of the cosine schedule near its end, as in the paper: a step that keeps something can be reversed."""


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02, *, reference: int = 1000) -> Tensor:
    """Variances ``[steps]`` that grow linearly, float64 (Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", 2020).

    Both ends are multiplied by ``reference / steps``, so that any number of steps reaches about the same noise.

    Raises:
        ErlangenError: `steps` is not positive, or so small that a variance would reach 1.
    """
    check_sizes(steps=steps, reference=reference)
    scale = reference / steps
    if not 0 < scale * start <= scale * end < 1:
        raise ErlangenError(
            f"steps = {steps} gives variances from {scale * start:.3g} to {scale * end:.3g}, which must rise within (0, 1); "
            "take more steps, a smaller end, or cosine_betas"
        )
    return torch.linspace(scale * start, scale * end, steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float = 0.008) -> Tensor:
    """Variances ``[steps]`` whose signal falls like a squared cosine, float64 (Nichol and Dhariwal 2021, equation 17).

    Raises:
        ErlangenError: `steps` is not positive, or `offset` negative.
    """
    check_sizes(steps=steps)
    if not offset >= 0:
        raise ErlangenError(f"offset = {offset}; give a number that is not negative")
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = ((t + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=LARGEST_BETA)
