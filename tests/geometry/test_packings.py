"""Paley's frames against their closed forms, and vectors spread by descent against known packings."""

import math

import pytest
import torch
from torch import Generator

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry import coherence, frame_potential, paley_etf, simplex_etf, spread_vectors, welch_bound


@pytest.mark.parametrize("dim", [3, 5, 7, 9, 13, 15, 25])
def test_paleys_frames_are_equiangular_and_tight(dim: int) -> None:
    """dim = 5 and 25 have fields of 9 and 49 elements."""
    W = paley_etf(dim)
    assert W.shape == (2 * dim, dim)
    G = W @ W.mT
    torch.testing.assert_close(G.diagonal(), torch.ones(2 * dim, dtype=torch.float64))
    off = G.abs()[~torch.eye(2 * dim, dtype=torch.bool)]
    assert float((off - 1 / math.sqrt(2 * dim - 1)).abs().max()) < 1e-12
    torch.testing.assert_close(W.mT @ W, 2 * torch.eye(dim, dtype=torch.float64), atol=1e-12, rtol=0)
    assert float(frame_potential(W)) == pytest.approx(4 * dim, rel=1e-12)
    assert paley_etf(3, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("dim", [2, 4, 6, 8, 11])
def test_dimensions_without_a_frame(dim: int) -> None:
    with pytest.raises(ErlangenError, match=f"dim = {dim}: 2 dim - 1 = {2 * dim - 1}"):
        paley_etf(dim)


def test_four_lines_in_the_plane_are_45_degrees_apart() -> None:
    W = spread_vectors(4, 2, steps=800, generator=Generator().manual_seed(0))
    assert float(coherence(W)) == pytest.approx(math.cos(math.pi / 4), abs=0.01)


def test_directions_become_a_simplex() -> None:
    """Signed, K = d + 1: the largest cosine of the simplex is -1/d, and none is smaller (Rankin 1955)."""
    W = spread_vectors(5, 4, signed=True, steps=800, generator=Generator().manual_seed(1))
    assert -0.25 - 1e-9 <= float(coherence(W, signed=True)) < -0.24


def test_descent_beats_random_and_keeps_lengths() -> None:
    begin = spread_vectors(40, 12, steps=0, generator=Generator().manual_seed(0))
    W = spread_vectors(40, 12, generator=Generator().manual_seed(0), dtype=torch.float32)
    assert welch_bound(40, 12) <= float(coherence(W)) < 0.6 * float(coherence(begin))
    torch.testing.assert_close(W.norm(dim=-1), torch.ones(40))


def test_fixed_rows_stay_bit_for_bit() -> None:
    old = simplex_etf(4, 6, dtype=torch.float32)
    W = spread_vectors(10, 6, fixed=old, steps=60, generator=Generator().manual_seed(0), dtype=torch.float32)
    assert torch.equal(W[:4], old)
    assert float(coherence(W)) < float(
        coherence(spread_vectors(10, 6, fixed=old, steps=0, generator=Generator().manual_seed(0)))
    )
    assert torch.equal(spread_vectors(4, 6, fixed=old, dtype=torch.float32), old)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: spread_vectors(1, 3), ErlangenError, "n = 1"),
        (lambda: spread_vectors(3, 0), ErlangenError, "dim = 0"),
        (lambda: spread_vectors(3, 2, steps=-1), ErlangenError, "steps = -1"),
        (lambda: spread_vectors(3, 2, fixed=torch.ones(1, 2)), ErlangenError, r"fixed\[0\] has length 1.41421"),
        (lambda: spread_vectors(3, 2, fixed=torch.eye(3)), ShapeError, "fixed has shape"),
        (lambda: spread_vectors(1 + 1, 3, fixed=torch.eye(3)), ShapeError, "at most n = 2"),
        (lambda: spread_vectors(3, 2, fixed=torch.eye(2).long()), DtypeError, "fixed has dtype"),
        (lambda: spread_vectors(3, 2, fixed=torch.full((1, 2), torch.nan)), NotFiniteError, "fixed has 2 values"),
    ],
)  # fmt: skip
def test_bad_input(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()
