"""Textures that were photographed: brick, grass and gravel, from scikit-image's package."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, MissingExtraError, UnknownNameError, check_sizes

__all__ = ["MATERIALS", "texture_photos"]

MATERIALS = ("brick", "grass", "gravel")
"""What the photographs show, in the order of the labels."""

Part = Literal["train", "test"]


def texture_photos(
    count: int, *, size: int = 28, shrink: int = 4, part: Part = "train", generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Cuttings of photographs of three materials, and which one each shows.

    >>> x, y = texture_photos(6, generator=torch.Generator().manual_seed(0))
    >>> x.shape, sorted(y.tolist())
    (torch.Size([6, 1, 28, 28]), [0, 0, 1, 1, 2, 2])

    Photographs of 512 x 512 pixels, one of each material, in the public domain (CC0). Cuttings for training come from their left
    halves, those for tests from their right ones, so that no pixel is in both.

    Args:
        count: how many, of all materials equally often, up to one; in random order.
        size: height and width, pixels.
        shrink: cuttings are so many times as wide, and averaged down to `size`.
        part: "train" or "test".
        generator: of places and order; torch's global stream without it.

    Returns:
        Pictures ``[count, 1, size, size]`` float32 from 0 to 1, and numbers in `MATERIALS` ``[count]`` int64.

    Raises:
        ErlangenError: a number below 1.
        DataError: cuttings that are larger than half a photograph.
        UnknownNameError: there is no such part.
        MissingExtraError: scikit-image is not installed; it comes with ``erlangen[scenes]``.
    """
    check_sizes(count=count, size=size, shrink=shrink)
    if part not in get_args(Part):
        raise UnknownNameError(f"part = {part!r}: choose {' or '.join(get_args(Part))}")
    photos = torch.stack([_photo(material) for material in MATERIALS])
    half = photos.shape[-1] // 2
    wide = size * shrink
    if wide > half:
        raise DataError(f"size = {size}, shrink = {shrink}: cuttings of {wide} pixels do not fit into {half}")
    photos = photos[..., :half] if part == "train" else photos[..., half:]
    y = torch.arange(count)[torch.randperm(count, generator=generator)] % len(MATERIALS)
    down = torch.randint(photos.shape[-2] - wide + 1, (count,), generator=generator)
    across = torch.randint(half - wide + 1, (count,), generator=generator)
    cut = [
        photos[k, i : i + wide, j : j + wide]
        for k, i, j in zip(y.tolist(), down.tolist(), across.tolist(), strict=True)
    ]
    x = torch.nn.functional.avg_pool2d(torch.stack(cut)[:, None], shrink)
    return x, y


def _photo(material: str) -> Tensor:
    """One photograph ``[512, 512]`` from 0 to 1."""
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-image", "scenes", "texture_photos") from error
    load: Any = getattr(data, material)
    return torch.from_numpy(load()).float() / 255
