"""How far two sets of samples are apart: sliced Wasserstein, Fréchet and energy distance, maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, check_finite, check_integer
from erlangen.numerics import sym_sqrt

__all__ = ["energy_distance", "frechet_distance", "mmd", "sliced_wasserstein"]


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, directions: int = 200, power: float = 2.0, generator: Generator | None = None
) -> Tensor:
    """Sliced Wasserstein distance of samples ``[N, d]`` and ``[M, d]``, a scalar: the mean over directions of that on a line.

    >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    >>> round(sliced_wasserstein(x, x + 2.0).item(), 4)
    2.0

    ``(E_theta W_p(theta x, theta y)^p)^(1/p)``, exact on each line, also for different numbers of samples. The sets may be turned
    together without changing its expectation. Source: Rabin et al. (2011).
    """
    x, y = _flat(x, "x"), _flat(y, "y")
    _same_width(x, y)
    check_integer("directions", directions, 1)
    theta = torch.randn(x.shape[1], directions, generator=generator, dtype=torch.float64).to(x)
    theta = theta / theta.norm(dim=0)
    a, b = (x @ theta).sort(0).values, (y @ theta).sort(0).values
    if len(a) != len(b):
        # Between two neighbouring jumps of either distribution function both quantiles are constant.
        jumps = torch.cat([torch.arange(1, n + 1, dtype=torch.float64) / n for n in (len(a), len(b))]).unique()
        widths = torch.diff(jumps, prepend=jumps.new_zeros(1))
        middle = jumps - widths / 2
        a, b = (v[(middle * len(v)).long().clamp(max=len(v) - 1)] for v in (a, b))
        cost = (widths.to(x)[:, None] * (a - b).abs() ** power).sum(0)
    else:
        cost = ((a - b).abs() ** power).mean(0)
    return cost.mean() ** (1 / power)


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance ``2 E|x - y| - E|x - x'| - E|y - y'|`` of samples ``[N, d]`` and ``[M, d]``, a scalar.

    Means over all pairs, those of a sample with itself included (the V-statistic): zero for equal sets, never negative. Motions
    of both sets change nothing. Source: Szekely and Rizzo (2013).
    """
    x, y = _flat(x, "x"), _flat(y, "y")
    _same_width(x, y)
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def _mean_distance(x: Tensor, y: Tensor) -> Tensor:
    rows = max(1, 2**24 // max(1, len(y)))
    # Not by products of matrices, whose differences of large numbers lose the digits of small distances.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.stack([torch.cdist(part, y, compute_mode=exact).sum() for part in x.split(rows)]).sum() / (
        len(x) * len(y)
    )


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared Fréchet distance of the Gaussians with the means and covariances of samples ``[N, d]`` and ``[M, d]``, a scalar.

    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> round(frechet_distance(x, x + 3.0).item(), 6)
    18.0

    ``|m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)``, the squared 2-Wasserstein distance of these Gaussians. On what a network
    makes of images it is the distance of Heusel et al. (2017), called FID for one certain network. Computed in float64.

    Raises:
        DataError: a set has fewer than two samples.
    """
    x, y = _flat(x, "x").double(), _flat(y, "y").double()
    _same_width(x, y)
    for name, samples in (("x", x), ("y", y)):
        if len(samples) < 2:
            raise DataError(f"{name} has one sample; a covariance needs at least two")
    A, B = (torch.atleast_2d(torch.cov(samples.mT)) for samples in (x, y))
    root = sym_sqrt(A)
    # The eigenvalues of a product of positive matrices; those below zero are rounding.
    between = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    return (x.mean(0) - y.mean(0)).square().sum() + A.diagonal().sum() + B.diagonal().sum() - 2 * between


def mmd(x: Tensor, y: Tensor, *, bandwidths: Sequence[float] | None = None) -> Tensor:
    """Squared maximum mean discrepancy of samples ``[N, d]`` and ``[M, d]``, a scalar, with a sum of Gaussian kernels.

    ``k(a, b) = sum_s exp(-|a - b|^2 / s)``. By default s are the mean squared distance over all pairs of both sets times
    1/4, 1/2, 1, 2 and 4. All pairs count (the biased estimate): zero for equal sets, never negative but by rounding. Source:
    Gretton et al. (2012).
    """
    x, y = _flat(x, "x"), _flat(y, "y")
    _same_width(x, y)
    both = torch.cat([x, y])
    squared = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()
    if bandwidths is None:
        mean = float(squared.sum() / (len(both) * (len(both) - 1)))
        if mean == 0:
            return squared.new_zeros(())
        bandwidths = [mean * 2.0**k for k in (-2, -1, 0, 1, 2)]
    if not bandwidths or min(bandwidths) <= 0:
        raise ErlangenError(f"bandwidths = {list(bandwidths)}; give positive numbers")
    kernel = torch.stack([torch.exp(-squared / s) for s in bandwidths]).sum(0)
    n = len(x)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def _flat(x: Tensor, name: str) -> Tensor:
    check_finite(x, name)
    if x.ndim < 2 or not len(x):
        raise DataError(f"{name} has shape {tuple(x.shape)}; give samples [N, d], at least one")
    return x.flatten(1)


def _same_width(x: Tensor, y: Tensor) -> None:
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"x has {x.shape[1]} coordinates and y {y.shape[1]}; give samples of one space")
