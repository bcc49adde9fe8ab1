"""Trajectories to predict: charges, springs, a molecule, people, and pedestrians.

Scenes are pairs of the past, ``pos`` and ``vel [B, N, T, n]`` (and ``x [B, N, F]``, which tells agents apart), and of the
``future [B, N, T', n]`` (and ``kinds [B, N, N]``, the true kinds of interaction, where there are any).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from erlangen.actions import tree_map
from erlangen.data import MotionClip, captured_motion, human_motion, pedestrians
from erlangen.errors import DataError
from erlangen.groups import SO
from erlangen.simulate import NBody, charged, ethanol, springs, xtb_trajectory
from erlangen.survey import Sizes, Split
from erlangen.systems.motion.eqmotion.method import finite_velocity

Scenes = tuple[dict[str, Tensor], dict[str, Tensor]]

HELD_OUT = 100
"""Added to seeds of what is simulated: nothing was tried on these draws before."""

TESTED = ("crawl", "getup_faceup", "punch")
VALIDATED = ("jump", "walk")
"""Movements of `human_motion` that test, and that choose learning rates, of every seed; the others train."""

CROWDS = {
    "ETH": ("biwi_eth",),
    "HOTEL": ("biwi_hotel",),
    "UNIV": ("students001", "students003"),
    "ZARA1": ("crowds_zara01",),
    "ZARA2": ("crowds_zara02",),
}
"""Recordings of the five scenes of pedestrians, each of which tests once."""

MORE_CROWDS = ("uni_examples", "crowds_zara03")
"""Recordings that train alone."""

IN, OUT = 8, 12
"""Frames of pedestrians, 0.4 s apart, as published."""


def particles(kind: str, sizes: Sizes, frames: int, seed: int, interval: int = 100) -> Split:
    """Five charges, or particles with springs, in `frames` frames in and as many out, `interval` steps of 0.001 apart.

    Kinds of interaction are whether charges are equal, or whether there is a spring.
    """
    law = {"charges": charged, "springs": springs}[kind]
    data: NBody = law(
        sizes.total,
        steps=interval * (2 * frames - 1),
        record_every=interval,
        generator=Generator().manual_seed(HELD_OUT + seed),
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


def people(frames: int, seed: int = 0, stride: int = 1) -> Split:
    """Joints of people at 30 Hz: the movements `TESTED` test, `VALIDATED` validate, and all others train, whatever the seed.

    Frames of clips at 60 Hz are every second one, from both starts. Joints are told apart by one-hot features.
    """
    clips = [clip for clip in human_motion() if clip.dt < 0.05]

    def chosen(which: Sequence[MotionClip]) -> Scenes:
        parts: list[Scenes] = []
        for clip in which:
            skip = max(1, round(1 / 30 / clip.dt))
            for start in range(skip):
                pos = clip.pos[start::skip]
                if len(pos) >= 2 * frames:
                    parts.append(windows(pos, torch.eye(pos.shape[1]), frames, stride))
        return joined(parts)

    trained = [clip for clip in clips if clip.name not in TESTED + VALIDATED]
    validated, tested = ([clip for clip in clips if clip.name in names] for names in (VALIDATED, TESTED))
    return unit_speed(chosen(trained), chosen(validated), chosen(tested))


def captured(file: str, frames: int, seed: int = 0, *, stride: int) -> Split:
    """Joints of the clips of a file of `captured_motion`, those whose names begin with "test" to test.

    Every fifth of the others validates, whatever the seed. Clips that are too short are left out.

    Raises:
        DataError: the file cannot be read, or there are no clips for one of the three.
    """
    clips, skeleton = captured_motion(file)
    long = [clip for clip in clips if len(clip.pos) >= 2 * frames]
    test = [clip for clip in long if clip.name.startswith("test")]
    rest = [clip for clip in long if not clip.name.startswith("test")]
    if not test or len(rest) < 5:
        raise DataError(
            f"{file!r} has {len(test)} clips of {2 * frames} frames to test and {len(rest)} others; needs 1, 5"
        )
    kinds = torch.eye(len(skeleton.parents))

    def chosen(which: Sequence[MotionClip]) -> Scenes:
        return joined([windows(clip.pos, kinds, frames, stride) for clip in which])

    held = rest[4::5]
    return unit_speed(chosen([clip for k, clip in enumerate(rest) if k % 5 != 4]), chosen(held), chosen(test))


def ethanol_motion(sizes: Sizes, steps: int, frames: int, seed: int, stride: int = 2) -> Split:
    """Pieces of independent trajectories of ethanol, `sizes` of them, frames 2 fs apart; see `molecule`.

    Raises:
        MissingExtraError: tblite is not installed.
    """
    generator = Generator().manual_seed(HELD_OUT + seed)
    # As many steps before the first frame, several times what velocities take to be forgotten.
    motions = [xtb_trajectory(ethanol(), steps=steps, warmup=steps, generator=generator) for _ in range(sizes.total)]
    kinds = torch.eye(3)[torch.tensor([0, 0, 1, *[2] * 6])]  # carbon, oxygen, hydrogen
    return molecule([motion.pos for motion in motions], kinds, sizes, frames, stride, generator)


def molecule(
    tracks: Sequence[Tensor], kinds: Tensor, sizes: Sizes, frames: int, stride: int, generator: Generator
) -> Split:
    """Pieces of trajectories ``[T, N, 3]`` each after its own random rotation; no trajectory is in two of the three parts."""
    turns = SO(3).sample(len(tracks), generator=generator)
    turned = [pos @ turn.to(pos).mT for pos, turn in zip(tracks, turns, strict=True)]
    ends = (0, sizes.train, sizes.train + sizes.validation, sizes.total)
    parts = [turned[begin:end] for begin, end in itertools.pairwise(ends)]
    return unit_speed(*(joined([windows(pos, kinds, frames, stride) for pos in part]) for part in parts))


def walkers(folder: str, scene: str, stride: int, most: int) -> Split:
    """Pedestrians of ETH and UCY in the plane: one of the scenes `CROWDS` tests, all other recordings train.

    The last fifth of the windows of each recording that trains validates. Windows are `stride` frames apart where they train, and
    each has at most `most` pedestrians, the first ones, there; test windows are all there are, with everybody in them.

    Raises:
        DataError: a file cannot be read.
    """
    files = {name: Path(folder) / f"{name}.txt" for names in (*CROWDS.values(), MORE_CROWDS) for name in names}

    def read(name: str, stride: int) -> Scenes:
        crowd = pedestrians(files[name], IN + OUT, stride=stride)
        past, future = crowd.pos[:, :, :IN], crowd.pos[:, :, IN:]
        return {"pos": past, "vel": finite_velocity(past), "mask": crowd.mask}, {"future": future, "mask": crowd.mask}

    train, validation = [], []
    for name in files:
        if name not in CROWDS[scene]:
            x, y = first_agents(read(name, stride), most)
            held = max(1, len(x["pos"]) // 5)
            train.append(tree_map(lambda leaf, end=held: leaf[:-end], (x, y)))
            validation.append(tree_map(lambda leaf, end=held: leaf[-end:], (x, y)))
    test = [read(name, 1) for name in CROWDS[scene]]
    return Split(*(joined([padded(part, parts) for part in parts]) for parts in (train, validation, test)))


def first_agents(scenes: Scenes, most: int) -> Scenes:
    """Scenes without the agents after the first `most`."""
    x, y = scenes
    return {key: leaf[:, :most] for key, leaf in x.items()}, {key: leaf[:, :most] for key, leaf in y.items()}


def padded(scenes: Scenes, like: Sequence[Scenes]) -> Scenes:
    """Scenes with as many agents as the largest of several has; those added do not exist."""
    agents = max(x["mask"].shape[1] for x, _ in like)

    def more(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        room = agents - part["mask"].shape[1]
        return {
            key: torch.cat([leaf, leaf.new_zeros(len(leaf), room, *leaf.shape[2:])], 1) for key, leaf in part.items()
        }

    return more(scenes[0]), more(scenes[1])
