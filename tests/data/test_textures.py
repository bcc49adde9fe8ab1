"""Textures: their spectra, counted frequency by frequency; directions against quarter turns and structure tensors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from erlangen.data import textures
from erlangen.errors import DataError, ErlangenError


def power(x: Tensor) -> np.ndarray:
    """Share of the variance at every frequency (rows, columns), by numpy."""
    found = np.abs(np.fft.fft2(x[:, 0].double().numpy())) ** 2
    found[:, 0, 0] = 0
    return (found / found.sum((1, 2), keepdims=True)).mean(0)


@pytest.mark.parametrize("size", [28, 31])
@pytest.mark.parametrize("direction", [None, 0.0, 90.0, 37.0, -200.0])
def test_all_power_is_in_the_band_and_direction(size: int, direction: float | None) -> None:
    g = Generator().manual_seed(0)
    found = power(textures(200, size=size, direction=direction, spread=15, band=(3, 7), generator=g))
    k = np.fft.fftfreq(size, 1 / size)
    for row in range(size):
        for column in range(size):
            right, up = k[column], -k[row]
            inside = 3 <= math.hypot(right, up) <= 7
            if direction is not None and inside:
                inside = _across(right, up, direction) <= 15 + 1e-6
            assert found[row, column] > 1e-5 if inside else found[row, column] < 1e-12, (row, column)


def _across(right: float, up: float, direction: float) -> float:
    """Angle between a wave's vector and the normal of the streaks, degrees from 0 to 90."""
    normal = (-math.sin(math.radians(direction)), math.cos(math.radians(direction)))
    cosine = abs(right * normal[0] + up * normal[1]) / math.hypot(right, up)
    return math.degrees(math.acos(min(1.0, cosine)))


def test_streaks_run_along_their_direction() -> None:
    """At 30 degrees the steepest change is at 120 degrees, by the structure tensor of differences."""
    x = textures(100, size=64, direction=30, spread=10, generator=Generator().manual_seed(1))[:, 0].double()
    right = (x.roll(-1, 2) - x.roll(1, 2)).flatten()
    up = (x.roll(1, 1) - x.roll(-1, 1)).flatten()  # rows count downwards
    _, axes = torch.linalg.eigh(torch.cov(torch.stack([right, up])))
    steepest = math.degrees(math.atan2(float(axes[1, 1]), float(axes[0, 1]))) % 180
    assert steepest == pytest.approx(120, abs=2)


def test_a_quarter_turn_is_the_other_direction() -> None:
    """Where one has no power at all, neither has the other after a turn."""
    flat = power(textures(300, direction=0, generator=Generator().manual_seed(2)).rot90(1, (-2, -1)))
    upright = power(textures(300, direction=90, generator=Generator().manual_seed(3)))
    assert ((flat > 1e-10) == (upright > 1e-10)).all()
    assert (flat > 1e-10).sum() > 10


def test_each_is_from_zero_to_one_and_drawn_anew() -> None:
    x = textures(20, size=16, band=(2, 5), generator=Generator().manual_seed(0))
    assert x.shape == (20, 1, 16, 16)
    assert x.dtype == torch.float32
    assert (x.amin((1, 2, 3)) == 0).all()
    assert (x.amax((1, 2, 3)) == 1).all()
    assert len(x.flatten(1).unique(dim=0)) == 20
    assert torch.equal(x, textures(20, size=16, band=(2, 5), generator=Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: textures(0), ErlangenError, "count = 0"),
        (lambda: textures(2, size=0), ErlangenError, "size = 0"),
        (lambda: textures(2, band=(0, 3)), DataError, "band = "),
        (lambda: textures(2, band=(5, 3)), DataError, "band = "),
        (lambda: textures(2, band=(3, 14)), DataError, "below 14"),
        (lambda: textures(2, spread=0), DataError, "spread = 0"),
        (lambda: textures(2, spread=91), DataError, "spread = 91"),
        (lambda: textures(2, direction=45, spread=1, band=(2, 2)), DataError, "no frequency of the direction 45"),
    ],
)
def test_what_is_refused(call: Callable[[], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call()


def test_limits_are_allowed() -> None:
    """The largest band and spread, and a band of one length."""
    assert textures(1, spread=90, direction=0, band=(13.9, 13.99)).shape == (1, 1, 28, 28)
    found = power(textures(50, band=(3, 3), generator=Generator().manual_seed(0)))
    assert (found > 1e-10).sum() == 4  # three waves across or down, and their opposites
