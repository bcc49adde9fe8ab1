"""Trajectories to predict: charges, springs, a molecule, and people; see `erlangen.systems.motion.eqmotion`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from erlangen.data import MotionClip, captured_motion, human_motion
from erlangen.errors import DataError
from erlangen.simulate import NBody, charged, springs
from erlangen.systems.motion._eqmotion_network import finite_velocity

Motion = tuple[dict[str, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """The past ``pos`` and ``vel [B, N, T, n]`` (and ``x [B, N, F]``) of scenes and their future ``[B, N, T', n]``.

    `labels` are true kinds of interaction ``[B, N, N]`` of the test scenes, where there are any.
    """

    train: Motion
    validation: Motion
    test: Motion
    labels: Tensor | None = None

    @property
    def past(self) -> int:
        """Frames in."""
        return self.train[0]["pos"].shape[-2]

    @property
    def future(self) -> int:
        """Frames out."""
        return self.train[1].shape[-2]

    @property
    def dim(self) -> int:
        """Dimension of space."""
        return self.train[1].shape[-1]

    @property
    def in_features(self) -> int:
        """Numbers that tell agents apart."""
        return self.train[0]["x"].shape[-1] if "x" in self.train[0] else 0


def sliced(motion: Motion, rows: slice) -> Motion:
    """Some of the scenes."""
    return {key: value[rows] for key, value in motion[0].items()}, motion[1][rows]


def particles(kind: str, sizes: tuple[int, int, int], frames: int, seed: int) -> Task:
    """Five charges, or particles with springs, in `frames` frames in and as many out, 0.1 units of time apart.

    Labels are whether charges are equal, or whether there is a spring.
    """
    law = {"charges": charged, "springs": springs}[kind]
    data: NBody = law(sum(sizes), steps=100 * (2 * frames - 1), generator=Generator().manual_seed(seed))
    pos, vel = data.pos.transpose(1, 2), data.vel.transpose(1, 2)
    motion = {"pos": pos[:, :, :frames], "vel": vel[:, :, :frames]}, pos[:, :, frames:]
    first, second = sizes[0], sizes[0] + sizes[1]
    return Task(
        sliced(motion, slice(0, first)),
        sliced(motion, slice(first, second)),
        sliced(motion, slice(second, None)),
        labels=(data.coupling[second:] > 0).long(),
    )


def windows(pos: Tensor, kinds: Tensor, frames: int, stride: int) -> Motion:
    """All pieces of ``[T, N, n]``, `stride` frames apart, of `frames` frames in and as many out."""
    pieces = pos.unfold(0, 2 * frames, stride).permute(0, 1, 3, 2)
    past = pieces[:, :, :frames]
    return {"pos": past, "vel": finite_velocity(past), "x": kinds.expand(len(pieces), -1, -1)}, pieces[:, :, frames:]


def joined(parts: Sequence[Motion]) -> Motion:
    """One batch of several."""
    x = {key: torch.cat([part[0][key] for part in parts]) for key in parts[0][0]}
    return x, torch.cat([part[1] for part in parts])


def unit_speed(task: Task) -> Task:
    """Velocities in units of their root mean square in training data."""
    unit = task.train[0]["vel"].square().sum(-1).mean().sqrt()

    def scaled(motion: Motion) -> Motion:
        return {**motion[0], "vel": motion[0]["vel"] / unit}, motion[1]

    return replace(task, train=scaled(task.train), validation=scaled(task.validation), test=scaled(task.test))


def people(frames: int, seed: int, stride: int = 1) -> Task:
    """Joints of people at 30 Hz (24 Hz in one clip): three clips to test, two to validate, drawn with the seed, nine to train.

    Frames of clips at 60 Hz are every second one, from both starts. Joints are told apart by one-hot features.
    """
    clips = [clip for clip in human_motion() if clip.dt < 0.05]
    order = torch.randperm(len(clips), generator=Generator().manual_seed(seed)).tolist()

    def chosen(which: Sequence[int]) -> Motion:
        parts: list[Motion] = []
        for index in which:
            clip = clips[index]
            skip = max(1, round(1 / 30 / clip.dt))
            for start in range(skip):
                pos = clip.pos[start::skip]
                if len(pos) >= 2 * frames:
                    parts.append(windows(pos, torch.eye(pos.shape[1]), frames, stride))
        return joined(parts)

    return unit_speed(Task(chosen(order[5:]), chosen(order[3:5]), chosen(order[:3])))


def captured(file: str, frames: int, seed: int, stride: int) -> Task:
    """Joints of the clips of a file of `captured_motion`, those whose names begin with "test" to test.

    A fifth of the others, drawn with the seed, validates. Clips that are too short are left out.

    Raises:
        DataError: the file cannot be read, or there are no clips for one of the three.
    """
    clips, skeleton = captured_motion(file)
    long = [clip for clip in clips if len(clip.pos) >= 2 * frames]
    order = torch.randperm(len(long), generator=Generator().manual_seed(seed)).tolist()
    test = [clip for clip in long if clip.name.startswith("test")]
    rest = [long[k] for k in order if not long[k].name.startswith("test")]
    held = len(rest) // 5
    if not test or not held:
        raise DataError(
            f"{file!r} has {len(test)} clips of {2 * frames} frames to test and {len(rest)} others; needs 1, 5"
        )
    kinds = torch.eye(len(skeleton.parents))

    def chosen(which: Sequence[MotionClip]) -> Motion:
        return joined([windows(clip.pos, kinds, frames, stride) for clip in which])

    return unit_speed(Task(chosen(rest[held:]), chosen(rest[:held]), chosen(test)))


def molecule(pos: Tensor, kinds: Tensor, frames: int, stride: int) -> Task:
    """Pieces of one trajectory ``[T, N, 3]``: the first 60 % to train, 15 % to validate and the last 25 % to test, disjoint."""
    first, second = int(0.6 * len(pos)), int(0.75 * len(pos))
    pieces = (pos[:first], pos[first:second], pos[second:])
    train, validation, test = (windows(piece, kinds, frames, stride) for piece in pieces)
    return unit_speed(Task(train, validation, test))
