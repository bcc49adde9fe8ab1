"""Motion of people: joints of acted movements, and pedestrians seen from above."""

from __future__ import annotations

import warnings
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.data._archives import read_arrays
from erlangen.errors import DataError, UnknownNameError, check_sizes
from erlangen.files import check_size, reading

MOST = 2**53
"""Integers above are no longer exact in the numbers of a text file."""

JOINTS = (
    "root",
    "chest",
    "neck",
    "right hip",
    "right knee",
    "right ankle",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left hip",
    "left knee",
    "left ankle",
    "left shoulder",
    "left elbow",
    "left wrist",
)
"""Names of the joints of `human_motion`."""

PARENTS = (-1, 0, 1, 0, 3, 4, 1, 6, 7, 0, 9, 10, 1, 12, 13)
"""The joint towards the root that each joint of `human_motion` hangs on by a bone of fixed length; -1 for the root."""


class MotionClip(NamedTuple):
    """One movement: its name, joints ``pos [T, J, 3]`` float32 in metres, y up, and seconds ``dt`` between frames."""

    name: str
    pos: Tensor
    dt: float


def human_motion(names: str | tuple[str, ...] | None = None) -> list[MotionClip]:
    """Acted movements of a person, captured, as positions of 15 joints: `MotionClip` each, of 25 to 227 frames.

    Walking, running, jumping, crawling, dancing, kicks, falls and so on: the clips of the package pybullet, which come from
    the DeepMimic project (Peng, Abbeel, Levine and van de Panne 2018), given there as rotations of joints, here as positions.
    Positions are exact to 0.05 mm. Joints are those of `JOINTS`, bones join each to that of `PARENTS`. Source and
    licence (zlib) lie beside the file in the package.

    Args:
        names: a name or several, such as "walk"; all clips without it.

    Raises:
        UnknownNameError: there is no such clip.
    """
    with as_file(files("erlangen.data") / "files" / "human_motion.npz") as path, np.load(path) as arrays:
        lengths = [int(n) for n in arrays["frames"]]
        pieces = (torch.from_numpy(arrays["pos"].astype(np.float32)) / 1e4).split(lengths)
        every = zip((str(name) for name in arrays["names"]), pieces, (float(dt) for dt in arrays["dt"]), strict=True)
        clips = {name: MotionClip(name, pos, dt) for name, pos, dt in every}
    wanted = tuple(clips) if names is None else (names,) if isinstance(names, str) else names
    unknown = [name for name in wanted if name not in clips]
    if unknown:
        raise UnknownNameError(f"names holds {unknown}; known clips are {', '.join(clips)}")
    return [clips[name] for name in wanted]


class Skeleton(NamedTuple):
    """How the joints of a file's clips hang together: ``parents [J]``, -1 for the root, and ``mirror [J]``, both int64.

    Joint ``mirror[i]`` is the one on the other side; a mirrored pose has joints exchanged by it and x reversed.
    """

    parents: Tensor
    mirror: Tensor


def captured_motion(file: str | Path) -> tuple[list[MotionClip], Skeleton]:
    """Captured movements from an ``.npz`` file that you have, such as one made of the CMU motion capture database.

    The file holds ``parent`` and ``mirror``, int ``[J]``, ``fps``, and an array ``[T, J, 3]`` for every clip under the clip's
    name, in metres, y up. Nothing but plain arrays is read.

    Args:
        file: path of the file.

    Returns:
        Clips, float32, in the order of the file, and their skeleton.

    Raises:
        DataError: the file cannot be read, lacks one of these arrays or all clips, or a clip has other joints or is not
            finite.
    """
    with reading(f"{str(file)!r} cannot be read"):
        arrays = read_arrays(Path(file))
        if any(array.dtype.kind not in "fiu" for array in arrays.values()):
            raise ValueError("it holds other things than numbers")
    missing = [name for name in ("parent", "mirror", "fps") if name not in arrays]
    if missing or len(arrays) == 3:
        raise DataError(f"{str(file)!r} has no {', '.join(missing) or 'clips'}; it needs parent, mirror, fps and clips")
    parents, mirror, fps = (arrays.pop(name) for name in ("parent", "mirror", "fps"))
    for name, pos in arrays.items():
        if pos.ndim != 3 or pos.shape[1:] != (len(parents), 3) or not np.isfinite(pos).all():
            raise DataError(
                f"{name!r} of {str(file)!r} has shape {pos.shape}; a clip is finite and [T, {len(parents)}, 3]"
            )
    fps = fps.reshape(-1)
    if mirror.shape != parents.shape or len(fps) != 1 or not 0 < fps[0] < np.inf:
        raise DataError(f"{str(file)!r} has mirror {mirror.shape} and fps {fps}; give {parents.shape} and a rate")
    skeleton = Skeleton(*(torch.from_numpy(part.astype(np.int64)) for part in (parents, mirror)))
    clips = [
        MotionClip(name, torch.from_numpy(pos.astype(np.float32)), 1 / float(fps[0])) for name, pos in arrays.items()
    ]
    return clips, skeleton


class Crowds(NamedTuple):
    """Scenes of pedestrians: places ``pos [B, N, T, 2]``, the agents that exist ``mask [B, N]``, identities ``[B, N]``.

    Agents that do not exist have place 0 and identity -1. Of each scene, `frame [B]` is the number of the first frame.
    """

    pos: Tensor
    mask: Tensor
    identity: Tensor
    frame: Tensor


def pedestrians(file: str | Path, frames: int = 20, *, frame_step: int = 10, stride: int = 1, least: int = 1) -> Crowds:
    """Scenes from a text file of the ETH/UCY kind: a row for each pedestrian and frame, with frame, identity, x, y.

    A scene is a window of `frames` consecutive frames with the pedestrians that are there in all of them, as is usual
    (8 frames in, 12 out).

    Args:
        file: columns separated by white space; places in metres (or pixels, as the file has them).
        frames: length of a window, in frames.
        frame_step: difference of the numbers of consecutive frames; the field's files have 10, which is 0.4 s.
        stride: from one window to the next, in frames.
        least: smallest number of pedestrians in a scene.

    Returns:
        float32 places, padded to the largest number of pedestrians in a scene.

    Raises:
        DataError: the file cannot be read, has other columns, holds what is not finite, has a pedestrian twice in one
            frame, or no scene.
        ErlangenError: a number is not positive.
    """
    check_sizes(frames=frames, frame_step=frame_step, stride=stride, least=least)
    origin, number, person, place = _read(Path(file), frame_step)
    known, row = np.unique(person, return_inverse=True)
    check_size(Path(file), 8 * len(known) * (int(number.max()) + 1))
    seen = np.full((len(known), int(number.max()) + 1), -1)  # the line of the file for each pedestrian and frame
    seen[row, number] = np.arange(len(number))
    if int((seen >= 0).sum()) != len(number):
        raise DataError(f"{str(file)!r} has a pedestrian twice in one frame; keep one row for each")
    starts, crowds = [], []
    for start in range(0, seen.shape[1] - frames + 1, stride):
        window = seen[:, start : start + frames]
        there = np.nonzero((window >= 0).all(1))[0]
        if len(there) >= least:
            starts.append(origin + frame_step * start)
            crowds.append((known[there], place[window[there]]))
    if not crowds:
        raise DataError(f"{str(file)!r} has no {frames} frames in a row with {least} pedestrians; take fewer frames")
    agents = max(len(people) for people, _ in crowds)
    pos, identity = torch.zeros(len(crowds), agents, frames, 2), torch.full((len(crowds), agents), -1)
    for scene, (people, track) in enumerate(crowds):
        pos[scene, : len(people)] = torch.from_numpy(track)
        identity[scene, : len(people)] = torch.from_numpy(people)
    return Crowds(pos, identity >= 0, identity, torch.tensor(starts))


def _read(path: Path, step: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """The first frame's number; index of frame, identity, and place float32 for each row."""
    with reading(f"{str(path)!r} cannot be read"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty file is named below
        table = np.loadtxt(path, ndmin=2)
    if table.shape[0] == 0 or table.shape[1] != 4:
        raise DataError(f"{str(path)!r} holds {table.shape} numbers; it needs rows of frame, identity, x, y")
    if not np.isfinite(table).all():
        raise DataError(
            f"{str(path)!r} is not finite in row {int(np.nonzero(~np.isfinite(table).all(1))[0][0])}; remove it"
        )
    if np.abs(table[:, :2]).max() > MOST or np.abs(table[:, 2:]).max() > np.finfo(np.float32).max:
        raise DataError(f"{str(path)!r} has numbers of frames or identities above {MOST}, or places beyond all bounds")
    numbers, people = table[:, 0], table[:, 1].round().astype(np.int64)
    index = (numbers - numbers.min()) / step
    if not np.allclose(index, index.round()):
        raise DataError(f"{str(path)!r} has frames that are no multiples of frame_step = {step} apart; pass another")
    if people.min() < 0 or not np.array_equal(people, table[:, 1]):
        raise DataError(f"{str(path)!r} has identities that are no whole numbers from 0 on; number the pedestrians")
    return int(numbers.min()), index.round().astype(np.int64), people, table[:, 2:].astype(np.float32)
