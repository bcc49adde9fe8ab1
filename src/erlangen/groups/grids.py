"""Quasi-uniform, deterministic point sets on the circle, the sphere and SO(3), with equal weights.

Points are computed in float64 and cast; dtype defaults to torch's default dtype. On a grid of n points the
mean of a smooth function approaches its integral much faster than the ``n^(-1/2)`` of random points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erlangen.errors import GroupError

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
"""Turn from one point of the Fibonacci sphere to the next, in radians."""
SUPER_FIBONACCI_PSI = 1.533751168755204288118041
"""The positive root of ``psi^4 = psi + 4`` (Alexa 2022)."""


def circle_grid(n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """n equidistant unit vectors ``[n, 2]``, counter-clockwise from (1, 0).

    Integrates trigonometric polynomials up to degree n - 1 exactly.

    Raises:
        GroupError: n is not a positive integer.
    """
    theta = circle_angles(n)
    return _cast(torch.stack([theta.cos(), theta.sin()], -1), dtype, device)


def circle_angles(n: int) -> Tensor:
    """The n angles ``2 pi i / n`` of `circle_grid`, in radians, float64 ``[n]``."""
    check_count(n)
    return 2 * math.pi * torch.arange(n, dtype=torch.float64) / n


def sphere_grid(n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """n unit vectors ``[n, 3]`` on the sphere: the Fibonacci lattice around the z axis, from north to south.

    Each point has the same share of the area (Gonzalez, "Measurement of areas on a sphere using Fibonacci and
    latitude-longitude lattices", 2010).

    Raises:
        GroupError: n is not a positive integer.
    """
    check_count(n)
    i = torch.arange(n, dtype=torch.float64)
    z = 1 - (2 * i + 1) / n
    radius, phi = (1 - z.square()).sqrt(), GOLDEN_ANGLE * i
    return _cast(torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1), dtype, device)


def so3_grid(n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """n rotations as unit quaternions ``[n, 4]`` (w, x, y, z): the super-Fibonacci spiral.

    Alexa, "Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3)", CVPR 2022, algorithm 1, with
    phi = sqrt 2 and psi^4 = psi + 4. `SO(3).grid` gives the same rotations as matrices.

    Raises:
        GroupError: n is not a positive integer.
    """
    check_count(n)
    s = torch.arange(n, dtype=torch.float64) + 0.5
    t = s / n
    alpha, beta = 2 * math.pi * s / math.sqrt(2), 2 * math.pi * s / SUPER_FIBONACCI_PSI
    r, rest = t.sqrt(), (1 - t).sqrt()
    q = torch.stack([r * alpha.sin(), r * alpha.cos(), rest * beta.sin(), rest * beta.cos()], -1)
    return _cast(q, dtype, device)


def check_count(n: int) -> None:
    """Raise `GroupError` unless n is a positive integer."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GroupError(f"n must be a positive integer, got {n!r}")


def _cast(x: Tensor, dtype: torch.dtype | None, device: torch.device | str | None) -> Tensor:
    return x.to(dtype=dtype or torch.get_default_dtype(), device=device or torch.get_default_device())
