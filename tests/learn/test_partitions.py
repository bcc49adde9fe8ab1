"""Dealing classes out to clients: every row once, minima, and the moments of Dirichlet shares."""

from typing import Any

import pytest
import torch
from torch import Generator

from erlangen.errors import DataError, DtypeError, ErlangenError, ShapeError
from erlangen.learn import dirichlet_partition

LABELS = torch.arange(5).repeat(400)


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 1.0, 50.0])
@pytest.mark.parametrize("minimum", [0, 2])
def test_every_row_once_and_minima(alpha: float, minimum: int) -> None:
    parts = dirichlet_partition(LABELS, 7, alpha, minimum=minimum, generator=Generator().manual_seed(0))
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(LABELS)))
    counts = torch.stack([torch.bincount(LABELS[part], minlength=5) for part in parts])
    assert torch.equal(counts.sum(0), torch.bincount(LABELS))
    assert int(counts.min()) >= minimum


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_shares_have_the_moments_of_a_dirichlet_distribution(alpha: float) -> None:
    """Mean 1/C and variance (C - 1) / (C^2 (C alpha + 1)), for C = 4 clients, over 400 classes."""
    labels = torch.arange(400).repeat_interleave(200)
    parts = dirichlet_partition(labels, 4, alpha, generator=Generator().manual_seed(1))
    shares = torch.stack([torch.bincount(labels[part], minlength=400) for part in parts]).double() / 200
    assert torch.allclose(shares.mean(1), torch.full((4,), 0.25, dtype=torch.float64), atol=0.06)
    assert float(shares.var()) == pytest.approx(3 / (16 * (4 * alpha + 1)), rel=0.12)


def test_the_generator_decides() -> None:
    parts = [dirichlet_partition(LABELS, 3, 0.3, generator=Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(parts[0], parts[1], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(parts[0], parts[2], strict=True))


@pytest.mark.parametrize(
    ("args", "options", "error", "word"),
    [
        ((LABELS, 3, 0.0), {}, ErlangenError, "alpha = 0"),
        ((LABELS, 0, 1.0), {}, ErlangenError, "clients = 0"),
        ((LABELS, 9, 1.0), {"minimum": 50}, DataError, "class 0 has 400 rows"),
        ((LABELS.float(), 3, 1.0), {}, DtypeError, "labels"),
        ((LABELS[None], 3, 1.0), {}, ShapeError, "labels"),
    ],
)
def test_bad_input(args: Any, options: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        dirichlet_partition(*args, **options)
