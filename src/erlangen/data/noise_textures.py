"""Textures: noise of one band of wavelengths, streaked along a direction or the same in all of them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, check_sizes

__all__ = ["textures"]


def textures(
    count: int,
    *,
    size: int = 28,
    direction: float | None = None,
    spread: float = 20.0,
    band: tuple[float, float] = (3.0, 7.0),
    generator: Generator | None = None,
) -> Tensor:
    """Pictures of normal noise that holds one band of frequencies, and of these the ones of one direction alone if it is given.

    >>> x = textures(5, direction=0.0, generator=torch.Generator().manual_seed(0))
    >>> x.shape, float(x.min()), float(x.max())
    (torch.Size([5, 1, 28, 28]), 0.0, 1.0)
    >>> bool(x.diff(dim=-1).abs().mean() < x.diff(dim=-2).abs().mean())  # streaks along x change less along x
    True

    A quarter turn of a texture is one of the direction that is 90 degrees further.

    Args:
        count: how many.
        size: height and width, pixels.
        direction: of the streaks, degrees counter-clockwise from the x axis; None for noise without a direction.
        spread: how far waves are turned to either side at most, degrees, up to 90.
        band: least and largest number of waves in a picture; the largest below half its size.
        generator: of the noise; torch's global stream without it.

    Returns:
        ``[count, 1, size, size]`` float32, each from 0 to 1, periodic at its borders.

    Raises:
        ErlangenError: a count or a size below 1.
        DataError: a spread or a band out of range, or a band without a frequency in this direction.
    """
    check_sizes(count=count, size=size)
    if not 0 < band[0] <= band[1] < size / 2:
        raise DataError(
            f"band = {band!r}: give the least and the largest number of waves, above 0 and below {size / 2:g}"
        )
    if not 0 < spread <= 90:
        raise DataError(f"spread = {spread!r}: give degrees above 0, at most 90")
    kept = _frequencies(size, direction, spread, band)
    if not bool(kept.any()):
        raise DataError(f"band = {band!r} holds no frequency of the direction {direction}; widen band or spread")
    noise = torch.randn(count, 1, size, size, generator=generator, dtype=torch.float64)
    x = torch.fft.ifft2(torch.fft.fft2(noise) * kept).real
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return ((x - low) / (high - low)).float()


def _frequencies(size: int, direction: float | None, spread: float, band: tuple[float, float]) -> Tensor:
    """Which frequencies ``[size, size]`` stay, the opposite of each among them."""
    k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    across, down = k.expand(size, size), k[:, None].expand(size, size)
    length = torch.hypot(across, down)
    kept = (length >= band[0]) & (length <= band[1])
    if direction is None:
        return kept
    # Rows count downwards, and brightness changes across the streaks: at right angles to them.
    wave = torch.rad2deg(torch.atan2(-down, across))
    off = (wave - direction) % 180 - 90
    return kept & (off.abs() <= spread + 1e-9)  # a wave and its opposite are on one side of the limit
