"""Pairs of equal rows by brute force, and bad input."""

from __future__ import annotations

import math

import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.measure import equal_pairs


def randn(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_equal_pairs_by_brute_force() -> None:
    values = randn(60, 3)
    values[[5, 9, 40]] = values[[1, 1, 2]]
    values[7] = values[8] + 1e-3
    apart = (values[:, None] - values).abs().amax(-1)[tuple(torch.triu_indices(60, 60, 1))]
    assert equal_pairs(values, 1e-9) == (4, pytest.approx(float(apart[apart > 1e-9].min()), rel=1e-9))
    assert equal_pairs(values, 2e-3)[0] == 5
    assert equal_pairs(values[:1], 1e-9) == (0, math.inf)


@pytest.mark.parametrize(
    ("values", "tol", "error", "word"),
    [
        (torch.zeros(3), 0.0, ShapeError, "values"),
        (torch.zeros(3, 2).long(), 0.0, DtypeError, "values"),
        (torch.full((2, 2), math.nan), 0.0, NotFiniteError, "values"),
        (torch.zeros(3, 2), -1.0, ErlangenError, "tol"),
    ],
    ids=["vector", "integers", "nan", "negative"],
)
def test_bad_input_is_named(values: torch.Tensor, tol: float, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        equal_pairs(values, tol)
