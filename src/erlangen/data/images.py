"""Images: real handwritten digits that come with the library."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

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
