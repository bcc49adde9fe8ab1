"""Shortest tours against all tours and regular polygons."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import ShapeError
from erlangen.geometry import optimal_tours, rewrite_tours, tour_lengths
from erlangen.geometry.tours import MAX_CITIES


def close(a: Tensor, b: Tensor, tol: float) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol * float(b.detach().abs().max()))


@pytest.mark.parametrize("n", [3, 4, 7])
def test_tours_are_the_best_of_all(n: int) -> None:
    pos = torch.rand(300, n, 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    tours = optimal_tours(pos)
    assert torch.equal(tours.sort(-1).values, torch.arange(n).expand(300, n))
    assert bool((tours[:, 0] == 0).all())
    every = [tour_lengths(pos, torch.tensor((0, *rest)).expand(300, n)) for rest in itertools.permutations(range(1, n))]
    close(tour_lengths(pos, tours), torch.stack(every).amin(0), 1e-12)
    rewritten = rewrite_tours(tours, torch.Generator().manual_seed(0))
    close(tour_lengths(pos, rewritten), tour_lengths(pos, tours), 1e-12)
    assert not torch.equal(rewritten, tours)


def test_tours_around_polygons() -> None:
    angles = torch.arange(MAX_CITIES - 2, dtype=torch.float64) * 2 * math.pi / (MAX_CITIES - 2)
    order = torch.randperm(len(angles), generator=torch.Generator().manual_seed(0))
    pos = torch.stack([angles.cos(), angles.sin()], -1)[order][None]
    length = 2 * len(angles) * math.sin(math.pi / len(angles))
    close(tour_lengths(pos, optimal_tours(pos)), torch.tensor([length], dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("n", [2, MAX_CITIES + 1])
def test_too_few_or_many_cities(n: int) -> None:
    with pytest.raises(ShapeError, match="cities"):
        optimal_tours(torch.zeros(1, n, 2))
