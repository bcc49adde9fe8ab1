"""Sensors: BasicMotions, 80 real recordings of an accelerometer and a gyroscope; trials of an electroencephalogram in files."""

from __future__ import annotations

import zipfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import DataError


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


def electrode_trials(path: str | Path) -> tuple[Tensor, Tensor]:
    """Trials ``x [N, channels, samples]`` float32 of an electroencephalogram and their classes ``y [N]``, 0, 1, ..., from a file.

    The file is an archive of numpy (``.npz``) with the arrays X and y, as the prepared trials of MAMEM SSVEP II are passed on,
    one file for each subject. Classes are numbered in the order of their labels.

    Raises:
        DataError: there is no such file, or it holds something else; trials with NaN are named.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, labels = np.asarray(arrays["X"], dtype=np.float32), np.asarray(arrays["y"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}; give an archive of numpy with the arrays X and y") from error
    if x.ndim != 3 or labels.shape != x.shape[:1]:
        raise DataError(
            f"{path}: X has shape {x.shape} and y {labels.shape}; give X [trials, channels, samples] and y [trials]"
        )
    bad = ~np.isfinite(x).all((1, 2))
    if bad.any():
        raise DataError(f"{path}: X[{int(np.argmax(bad))}] has NaN or Inf; drop the trial")
    return torch.from_numpy(x), torch.from_numpy(np.unique(labels, return_inverse=True)[1]).long()
