"""Wearable sensors: BasicMotions, 80 real recordings of an accelerometer and a gyroscope."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor


class SensorData(NamedTuple):
    """Recordings ``x [N, time, 6]`` float32 (accelerometer x y z, gyroscope x y z), labels ``y [N]`` int64, class names."""

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]


def basic_motions(split: Literal["train", "test"] = "train") -> SensorData:
    """BasicMotions of the UEA archive: 40 recordings per split, 100 steps at 10 Hz, four activities.

    Both sensors are three-vectors in the frame of the watch, so a watch worn differently rotates both: the action is
    "vectors + vectors". Source and licence (BSD-3-Clause) lie beside the file in the package.
    """
    with as_file(files("erlangen.data") / "files" / "basic_motions.npz") as path, np.load(path) as arrays:
        x = torch.from_numpy(arrays[f"{split}_x"]).mT.contiguous()
        y = torch.from_numpy(arrays[f"{split}_y"]).long()
    return SensorData(x, y, ("standing", "running", "walking", "badminton"))
