"""Closed tours through points: the shortest ones, their lengths, and the many ways to write one down."""

from __future__ import annotations

import itertools

import torch
from torch import Generator, Tensor

from erlangen.errors import ShapeError, check_finite

MAX_CITIES = 14
"""Held-Karp keeps 2^(n-1) (n-1) lengths per instance; the largest n that is sensible here."""
_CHUNK = 256
"""Instances per table of `optimal_tours`."""


def optimal_tours(pos: Tensor) -> Tensor:
    """Shortest closed tours by dynamic programming over subsets (Bellman 1962; Held and Karp 1962): exact.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> tour_lengths(square, optimal_tours(square))
    tensor([4.])

    Args:
        pos: cities ``[B, n, d]``, 3 <= n <= `MAX_CITIES`; lengths are compared in float64.

    Returns:
        Orders of visit ``[B, n]`` int64, which start at city 0.

    Raises:
        ShapeError: another shape, or too few or many cities.
        NotFiniteError: NaN or Inf among the coordinates.
    """
    if pos.ndim != 3 or not 3 <= pos.shape[1] <= MAX_CITIES:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; give [B, n, d] with 3 <= n <= {MAX_CITIES} cities")
    check_finite(pos, "pos")
    return torch.cat(
        [_held_karp(torch.cdist(part, part)) for part in pos.double().split(_CHUNK)] or [pos[..., 0].long()]
    )


def _held_karp(D: Tensor) -> Tensor:
    """Tours ``[B, n]`` of distances ``[B, n, n]``; subsets are bit masks of the cities 1..n-1."""
    m = D.shape[1] - 1
    between = D[:, 1:, 1:].permute(1, 2, 0)  # from, to, instance
    # best[S, j]: length of the shortest path from city 0 through all of S that ends in j.
    best = D.new_full((1 << m, m, len(D)), torch.inf)
    for j in range(m):
        best[1 << j, j] = D[:, 0, j + 1]
    for size in range(2, m + 1):
        subsets = [sum(1 << j for j in chosen) for chosen in itertools.combinations(range(m), size)]
        for j in range(m):
            S = torch.tensor([subset for subset in subsets if subset >> j & 1])
            best[S, j] = (best[S ^ (1 << j)] + between[:, j]).amin(1)
    last = (best[-1] + D[:, 1:, 0].T).argmin(0)
    visited, rows, order = torch.full_like(last, (1 << m) - 1), torch.arange(len(D)), [last]
    for _ in range(m - 1):
        visited = visited ^ (1 << last)
        last = (best[visited, :, rows] + between[:, last, rows].T).argmin(-1)
        order.append(last)
    return torch.stack([torch.full_like(last, -1), *order[::-1]], -1) + 1


def tour_lengths(pos: Tensor, tours: Tensor) -> Tensor:
    """Lengths ``[B]`` of closed tours ``[B, n]`` through ``pos [B, n, d]``."""
    path = pos.gather(1, tours[..., None].expand(*tours.shape, pos.shape[-1]))
    return (path - path.roll(-1, 1)).norm(dim=-1).sum(-1)


def rewrite_tours(tours: Tensor, generator: Generator | None = None) -> Tensor:
    """The same closed tours ``[B, n]``, each from a random city in a random direction."""
    B, n = tours.shape
    start = torch.randint(n, (B, 1), generator=generator)
    step = 1 - 2 * torch.randint(2, (B, 1), generator=generator)
    return tours.gather(1, (start + step * torch.arange(n)) % n)
