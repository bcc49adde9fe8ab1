"""Trajectories to predict: charges, springs, a molecule, and people.

Scenes are pairs of the past, ``pos`` and ``vel [B, N, T, n]`` (and ``x [B, N, F]``, which tells agents apart), and of the
``future [B, N, T', n]`` (and ``kinds [B, N, N]``, the true kinds of interaction, where there are any).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from erlangen.actions import tree_map
from erlangen.data import MotionClip, captured_motion, human_motion
from erlangen.errors import DataError
from erlangen.simulate import NBody, charged, ethanol, springs, xtb_trajectory
from erlangen.survey import Sizes, Split
from erlangen.systems.motion.eqmotion.method import finite_velocity

Scenes = tuple[dict[str, Tensor], dict[str, Tensor]]


def particles(kind: str, sizes: Sizes, frames: int, seed: int, interval: int = 100) -> Split:
    """Five charges, or particles with springs, in `frames` frames in and as many out, `interval` steps of 0.001 apart.

    Kinds of interaction are whether charges are equal, or whether there is a spring.
    """
    law = {"charges": charged, "springs": springs}[kind]
    data: NBody = law(
        sizes.total,
        steps=interval * (2 * frames - 1),
        record_every=interval,
        generator=Generator().manual_seed(seed),
    )
    pos, vel = data.pos.transpose(1, 2), data.vel.transpose(1, 2)
    past = {"pos": pos[:, :, :frames], "vel": vel[:, :, :frames]}
    return Split.of(past, {"future": pos[:, :, frames:], "kinds": (data.coupling > 0).long()}, sizes)


def windows(pos: Tensor, kinds: Tensor, frames: int, stride: int) -> Scenes:
    """All pieces of ``[T, N, n]``, `stride` frames apart, of `frames` frames in and as many out."""
    pieces = pos.unfold(0, 2 * frames, stride).permute(0, 1, 3, 2)
    past = pieces[:, :, :frames]
    x = {"pos": past, "vel": finite_velocity(past), "x": kinds.expand(len(pieces), -1, -1)}
    return x, {"future": pieces[:, :, frames:]}


def joined(parts: Sequence[Scenes]) -> Scenes:
    """One batch of several."""
    x, y = ({key: torch.cat([part[k][key] for part in parts]) for key in parts[0][k]} for k in (0, 1))
    return x, y


def unit_speed(*parts: Scenes) -> Split:
    """Training, validation and test data with velocities in units of their root mean square in training data."""
    unit = parts[0][0]["vel"].square().sum(-1).mean().sqrt()
    return Split(*((x | {"vel": x["vel"] / unit}, y) for x, y in parts))


def few(split: Split, count: int) -> Split:
    """The first scenes of each."""
    return Split(*(tree_map(lambda leaf: leaf[:count], part) for part in split))


def people(frames: int, seed: int, stride: int = 1) -> Split:
    """Joints of people at 30 Hz (24 Hz in one clip): three clips to test, two to validate, drawn with the seed, nine to train.

    Frames of clips at 60 Hz are every second one, from both starts. Joints are told apart by one-hot features.
    """
    clips = [clip for clip in human_motion() if clip.dt < 0.05]
    order = torch.randperm(len(clips), generator=Generator().manual_seed(seed)).tolist()

    def chosen(which: Sequence[int]) -> Scenes:
        parts: list[Scenes] = []
        for index in which:
            clip = clips[index]
            skip = max(1, round(1 / 30 / clip.dt))
            for start in range(skip):
                pos = clip.pos[start::skip]
                if len(pos) >= 2 * frames:
                    parts.append(windows(pos, torch.eye(pos.shape[1]), frames, stride))
        return joined(parts)

    return unit_speed(chosen(order[5:]), chosen(order[3:5]), chosen(order[:3]))


def captured(file: str, frames: int, seed: int, stride: int) -> Split:
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

    def chosen(which: Sequence[MotionClip]) -> Scenes:
        return joined([windows(clip.pos, kinds, frames, stride) for clip in which])

    return unit_speed(chosen(rest[held:]), chosen(rest[:held]), chosen(test))


def ethanol_motion(steps: int, frames: int, seed: int) -> Split:
    """Pieces of one trajectory of ethanol, frames 2 fs apart; see `molecule`.

    Raises:
        MissingExtraError: tblite is not installed.
    """
    motion = xtb_trajectory(ethanol(), steps=steps, generator=Generator().manual_seed(seed))
    kinds = torch.eye(3)[torch.tensor([0, 0, 1, *[2] * 6])]  # carbon, oxygen, hydrogen
    return molecule(motion.pos, kinds, frames, 2)


def molecule(pos: Tensor, kinds: Tensor, frames: int, stride: int) -> Split:
    """Pieces of one trajectory ``[T, N, 3]``: the first 60 % to train, 15 % to validate and the last 25 % to test, disjoint."""
    first, second = int(0.6 * len(pos)), int(0.75 * len(pos))
    pieces = (pos[:first], pos[first:second], pos[second:])
    return unit_speed(*(windows(piece, kinds, frames, stride) for piece in pieces))
