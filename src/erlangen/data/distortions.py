"""Affine and projective distortions of images: the recipes behind affNIST and homNIST, for any images.

Every image is put on a larger canvas by its own random map. Positions are pixels from the middle, x to the right and y up.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.errors import DataError, ShapeError, check_finite, check_floating, is_whole
from erlangen.groups.rotations import planar_rotation

__all__ = ["affine_distortion", "homography_distortion"]


def affine_distortion(
    x: Tensor,
    *,
    size: int = 40,
    degrees: float = 20.0,
    shear: float = 0.2,
    scale: tuple[float, float] = (0.8, 1.2),
    generator: Generator | None = None,
) -> Tensor:
    """Rotate, shear, scale and place each image at random on a canvas: the recipe of affNIST (Tieleman 2013).

    The linear part is rotation times shear ``[[1, s], [0, 1]]`` times ``diag(sx, sy)``. The place is uniform among those that
    keep all of the picture (what is not zero) inside of the canvas; along an axis without such a place it is centred.
    ``degrees=0, shear=0, scale=(1, 1)`` only moves the images. Values between pixels are bilinear, so maps that shrink by
    much alias.

    Args:
        x: images ``[B, C, H, W]``, float32 or float64, zero where there is no picture.
        size: height and width of the canvas, pixels.
        degrees: the angle is uniform within this to both sides.
        shear: s is uniform within this to both sides.
        scale: sx and sy are uniform between these, each on its own.
        generator: source of the random numbers; torch's global stream without it.

    Returns:
        Images ``[B, C, size, size]`` of the dtype and on the device of x.

    Raises:
        ShapeError: x is no batch of images, or an image is empty.
        DtypeError, NotFiniteError: x is not floating point, or holds NaN or Inf.
        DataError: a negative range, scales that are not positive and in order, or `size` below 1.
    """
    return homography_distortion(
        x, size=size, degrees=degrees, shear=shear, scale=scale, perspective=0.0, generator=generator
    )


def homography_distortion(
    x: Tensor,
    *,
    size: int = 40,
    degrees: float = 20.0,
    shear: float = 0.2,
    scale: tuple[float, float] = (0.8, 1.2),
    perspective: float = 0.3,
    generator: Generator | None = None,
) -> Tensor:
    """`affine_distortion` after a random change of perspective, in the manner of homNIST (MacDonald et al. 2022).

    Points z move to ``A z / (1 + v . z / r)``, with r half the larger side of the image, and each of the two entries of v
    uniform within `perspective` to both sides. The ranges are ours.

    Args:
        x, size, degrees, shear, scale, generator: as for `affine_distortion`.
        perspective: largest entry of v; at most 0.4, so that nothing of the image is sent to infinity.

    Returns:
        Images ``[B, C, size, size]``.

    Raises:
        ShapeError, DtypeError, NotFiniteError, DataError: as `affine_distortion`, or `perspective` above 0.4.
    """
    _check(x, size, degrees, shear, scale, perspective)
    count, half = len(x), max(x.shape[-2:]) / 2

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        device = "cpu" if generator is None else generator.device
        draw = torch.rand(count, *shape, generator=generator, dtype=torch.float64, device=device)
        return low + (high - low) * draw.to(x.device)

    turn = planar_rotation(uniform(-math.radians(degrees), math.radians(degrees)))
    sheared = torch.eye(2, dtype=torch.float64, device=x.device).repeat(count, 1, 1)
    sheared[:, 0, 1] = uniform(-shear, shear)
    linear = turn @ sheared @ torch.diag_embed(uniform(*scale, 2))
    tilt = uniform(-perspective, perspective, 2) / half
    return _resample(x, linear, tilt, uniform(0, 1, 2), size)


def _resample(x: Tensor, linear: Tensor, tilt: Tensor, place: Tensor, size: int) -> Tensor:
    """Images moved by ``z -> A z / (1 + tilt . z)`` and put at the fraction `place` of their free room."""
    if len(x) == 0:
        return x.new_zeros(0, x.shape[1], size, size)
    low, high = _extent(x, linear, tilt)
    edge = (size - 1) / 2
    free_low, free_high = -edge - low, edge - high  # shifts between these keep the picture inside
    middle = (free_low + free_high) / 2
    shift = torch.where(free_high > free_low, free_low + place * (free_high - free_low), middle)
    target = _pixels(size, size, x.device) - shift[:, None]
    # w = A z / (1 + t . z) has the inverse z = m / (1 - t . m) with m = A^-1 w.
    m = target @ torch.linalg.inv(linear).mT
    denominator = 1 - m @ tilt[..., None]
    source = m / denominator
    height, width = x.shape[-2:]
    grid = source * torch.tensor([2 / width, -2 / height], dtype=torch.float64, device=x.device)
    grid = torch.where(denominator > 0, grid, 3.0)  # beyond the horizon there is no picture
    return F.grid_sample(x, grid.unflatten(1, (size, size)).to(x.dtype), mode="bilinear", align_corners=False)


def _extent(x: Tensor, linear: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest position of the moved picture along both axes, ``[B, 2]`` each."""
    z = _pixels(x.shape[-2], x.shape[-1], x.device)
    moved = (z @ linear.mT) / (1 + z @ tilt[..., None])
    blank = (x == 0).all(1).flatten(1)
    blank = blank & ~blank.all(1, keepdim=True)  # an image without any picture is all picture
    low = moved.masked_fill(blank[..., None], math.inf).amin(1)
    return low, moved.masked_fill(blank[..., None], -math.inf).amax(1)


def _pixels(height: int, width: int, device: torch.device) -> Tensor:
    """Positions of pixel centres, row by row, float64 ``[height * width, 2]``."""
    x = torch.arange(width, dtype=torch.float64, device=device) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, dtype=torch.float64, device=device)
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).flatten(0, 1)


def _check(x: Tensor, size: int, degrees: float, shear: float, scale: tuple[float, float], perspective: float) -> None:
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but images [B, C, H, W] with at least one pixel are needed")
    check_floating(x, "x")
    check_finite(x, "x")
    if not is_whole(size, 1):
        raise DataError(f"size = {size!r}: give the side of the canvas in pixels, a positive integer")
    for name, value, most in (
        ("degrees", degrees, 180.0),
        ("shear", shear, math.inf),
        ("perspective", perspective, 0.4),
    ):
        if not (0 <= value <= most and math.isfinite(value)):
            limit = "" if most == math.inf else f" of at most {most:g}"
            raise DataError(f"{name} = {value!r}: give half the width of its range, a number from 0 on{limit}")
    if not 0 < scale[0] <= scale[1] < math.inf:
        raise DataError(f"scale = {scale!r}: give the smallest and the largest scale, both positive and in order")
