"""Superpixels: images as a few nodes with a place and a brightness, for networks on point clouds and graphs."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, check_sizes

__all__ = ["Superpixels", "superpixels"]

_AT_ONCE = 2**24
"""Distances of pixels from centres that are held at once."""


class Superpixels(NamedTuple):
    """Nodes of images, in the order of the rows and columns of their seeds, or of brightness.

    Attributes:
        pos: mean places of the pixels ``[B, K, 2]``: x to the right and y upwards, in units of half the larger side, with the
            origin in the middle of the image. `erlangen.actions.Image` turns images the same way.
        x: mean values of the pixels ``[B, K, C]``.
        size: how many pixels each holds, int64 ``[B, K]``; where it is zero, place and value are those of the last centre.
    """

    pos: Tensor
    x: Tensor
    size: Tensor


def superpixels(
    images: Tensor, count: int = 75, *, brightest: int | None = None, compactness: float = 0.5, iterations: int = 5
) -> Superpixels:
    """Group the pixels of images into superpixels by k-means on place and colour, from seeds on a regular grid.

    This is SLIC (Achanta, Shaji, Smith, Lucchi, Fua and Süsstrunk, 2012) with all centres in reach of every pixel, and
    without its last step that joins scattered pixels. Nothing is random.

    >>> nodes = superpixels(torch.zeros(8, 1, 28, 28), 75, brightest=32)
    >>> nodes.pos.shape, nodes.x.shape
    (torch.Size([8, 32, 2]), torch.Size([8, 32, 1]))

    Args:
        images: ``[B, C, H, W]``, floating.
        count: about how many superpixels: rows times columns of the most regular grid that does not have more.
        brightest: keep only so many with the largest mean value over channels, the brightest first.
        compactness: weight of places; one spacing of the seeds counts as much as so large a difference of values.
        iterations: of k-means.

    Returns:
        `Superpixels`, K of each image.

    Raises:
        ShapeError, DtypeError, NotFiniteError: images are not as above.
        ErlangenError: a number is not positive, or `brightest` or `count` is larger than what there is.
    """
    if images.dim() != 4 or 0 in images.shape[1:]:
        raise ShapeError(f"images have shape {tuple(images.shape)}; pass [B, C, H, W] with C, H and W at least 1")
    check_floating(images, "images")
    check_finite(images, "images")
    check_sizes(count=count, iterations=iterations, brightest=1 if brightest is None else brightest)
    if not compactness > 0:
        raise ErlangenError(f"compactness = {compactness}; give a positive number")
    height, width = images.shape[2:]
    if count > height * width:
        raise ErlangenError(f"count = {count}, but an image of {height} x {width} has {height * width} pixels")
    seeds = _seeds(height, width, count).to(images)
    if brightest is not None and brightest > len(seeds):
        raise ErlangenError(f"brightest = {brightest}, but there are {len(seeds)} superpixels")
    places = _places(height, width).to(images)
    spacing = math.sqrt(height * width / len(seeds)) * 2 / max(height, width)
    chunk = max(1, _AT_ONCE // (height * width * len(seeds)))
    parts = [_grouped(part, places, seeds, compactness / spacing, iterations) for part in images.split(chunk)]
    found = Superpixels(*map(torch.cat, zip(*parts, strict=True)))
    if brightest is None:
        return found
    order = found.x.mean(-1).argsort(dim=1, descending=True, stable=True)[:, :brightest]
    take = order[..., None]
    return Superpixels(found.pos.take_along_dim(take, 1), found.x.take_along_dim(take, 1), found.size.gather(1, order))


def _places(height: int, width: int) -> Tensor:
    """Middles of pixels ``[H W, 2]``, float64, row by row from the top."""
    half = max(height, width) / 2
    y = (height / 2 - 0.5 - torch.arange(height, dtype=torch.float64)) / half
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - width / 2) / half
    return torch.cartesian_prod(y, x).flip(-1)


def _seeds(height: int, width: int, count: int) -> Tensor:
    """The first centres ``[K, 2]``, float64: the middles of the cells of a grid with nearly square ones."""
    rows = max(1, round(math.sqrt(count * height / width)))
    rows = min(rows, count, height)
    columns = min(count // rows, width)
    half = max(height, width) / 2
    y = (0.5 - (torch.arange(rows, dtype=torch.float64) + 0.5) / rows) * height / half
    x = ((torch.arange(columns, dtype=torch.float64) + 0.5) / columns - 0.5) * width / half
    return torch.cartesian_prod(y, x).flip(-1)


def _grouped(
    images: Tensor, places: Tensor, seeds: Tensor, weight: float, iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Places, values and sizes of the superpixels of some images; places are multiplied by `weight` for distances."""
    batch, channels = images.shape[:2]
    values = images.flatten(2).mT
    points = torch.cat([weight * places.expand(batch, -1, -1), values], -1)
    nearest = torch.cdist(seeds, places).argmin(-1)
    centres = torch.cat([weight * seeds.expand(batch, -1, -1), values[:, nearest]], -1)
    ones = points.new_ones(batch, points.shape[1])
    counts = ones.new_zeros(batch, len(seeds))
    for _ in range(iterations):
        owner = _nearest(points, centres)
        counts = torch.zeros_like(counts).scatter_add(1, owner, ones)
        wide = owner[..., None].expand_as(points)
        sums = torch.zeros_like(centres).scatter_add(1, wide, points)
        centres = torch.where(counts[..., None] > 0, sums / counts.clamp(min=1)[..., None], centres)
    place, value = centres.split([2, channels], -1)
    return place / weight, value, counts.long()


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The nearest of centres ``[B, K, D]`` for each of points ``[B, P, D]``; the first of equally near ones."""
    squares = centres.square().sum(-1)[:, None] - 2 * points @ centres.mT
    return squares.argmin(-1)
