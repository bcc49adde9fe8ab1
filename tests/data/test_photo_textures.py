"""Photographed textures: balance, places, and that training and test share no pixel."""

from __future__ import annotations

import pytest
import torch

from erlangen.data import MATERIALS, texture_photos
from erlangen.errors import DataError, ErlangenError, UnknownNameError

skimage = pytest.importorskip("skimage", reason="needs the extra scenes")


def test_cuttings_are_balanced_and_repeat(generator: torch.Generator) -> None:
    x, y = texture_photos(31, size=16, generator=generator)
    assert x.shape == (31, 1, 16, 16)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert sorted(y.bincount().tolist()) == [10, 10, 11]
    again = texture_photos(8, generator=torch.Generator().manual_seed(3))
    for a, b in zip(again, texture_photos(8, generator=torch.Generator().manual_seed(3)), strict=True):
        assert torch.equal(a, b)


def test_cuttings_are_parts_of_the_photographs(generator: torch.Generator) -> None:
    """Unshrunk, every cutting is found in its photograph, left of the middle for training and right of it for tests."""
    from skimage import data

    for part, columns in (("train", slice(0, 256)), ("test", slice(256, 512))):
        x, y = texture_photos(3, size=64, shrink=1, part=part, generator=generator)  # pyright: ignore[reportArgumentType]
        for picture, kind in zip(x, y.tolist(), strict=True):
            photo = torch.from_numpy(getattr(data, MATERIALS[kind])()).float()[:, columns] / 255
            windows = photo.unfold(0, 64, 1).unfold(1, 64, 1)
            corner = (windows[..., 0, 0] == picture[0, 0, 0]) & (windows[..., 63, 63] == picture[0, 63, 63])
            assert any(torch.equal(windows[i, j], picture[0]) for i, j in corner.nonzero().tolist())


def test_bricks_have_a_direction(generator: torch.Generator) -> None:
    """Courses of bricks lie along x, so that brightness changes more along y; grass and gravel are nearer to even."""
    x, y = texture_photos(300, size=32, shrink=2, generator=generator)
    along, across = (x.diff(dim=d).square().mean((1, 2, 3)) for d in (-1, -2))
    ratio = torch.stack([across[y == k].mean() / along[y == k].mean() for k in range(3)])
    assert (ratio - 1).abs().argmax() == MATERIALS.index("brick")


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="do not fit into 256"):
        texture_photos(1, size=80, shrink=4)
    with pytest.raises(UnknownNameError, match="train or test"):
        texture_photos(1, part="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ErlangenError, match="count"):
        texture_photos(0)
