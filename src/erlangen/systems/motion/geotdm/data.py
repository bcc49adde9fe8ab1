"""Trajectories: charges, springs and masses, ethanol, pedestrians.

Each is a dict of ``past [B, T, N, n]``, ``pos [B, T', N, n]``, which follow, and where there are some ``node [B, N, F]``,
``edge_attr [B, N, N, F]`` and ``mask``, bool ``[B, N]``, particles that exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.actions import tree_map
from erlangen.data import pedestrians
from erlangen.errors import DataError
from erlangen.groups import SO
from erlangen.simulate import charged, ethanol, gravity, springs, xtb_trajectory
from erlangen.survey import Sizes, Split

Motion = dict[str, Tensor]
SIMULATORS: dict[str, Callable[..., Any]] = {
    "charged": charged,
    "springs": springs,
    "gravity": partial(gravity, n_particles=5, masses=(0.5, 1.5)),
}
FRESH = 20_000
"""Added to seeds of data: nothing was chosen by these systems, and by gravity nothing at all."""


class Frames(NamedTuple):
    """Frames that are known, and that follow; steps of the simulation, of 1e-3, between them."""

    given: int
    ahead: int
    between: int


def motions(law: str, count: int, frames: Frames, seed: int) -> Motion:
    """Systems of five particles, with charges or masses and their products.

    Springs have neither, and who is joined is hidden. The frame of the start is left out.
    """
    given, ahead, between = frames
    steps = (given + ahead) * between
    data = SIMULATORS[law](count, steps=steps, record_every=between, generator=Generator().manual_seed(seed))
    x = {"past": data.pos[:, 1 : 1 + given], "pos": data.pos[:, 1 + given :]}
    if law == "charged":
        x |= {"node": data.charges, "edge_attr": data.coupling[..., None]}
    elif law == "gravity":
        x |= {"node": data.masses, "edge_attr": data.coupling[..., None]}
    return x


def with_targets(x: Motion) -> tuple[Motion, Motion]:
    """Inputs and targets: what follows, and who exists ``[B, N]``."""
    exist = x["mask"] if "mask" in x else torch.ones(len(x["pos"]), x["pos"].shape[2], dtype=torch.bool)
    return x, {"pos": x["pos"], "exist": exist}


def particles(law: str, sizes: Sizes, frames: Frames, seed: int) -> Split:
    """Systems of charges, springs or masses."""
    return Split.of(*with_targets(motions(law, sizes.total, frames, FRESH + seed)), sizes)


def free_springs(sizes: Sizes, frames: Frames, seed: int) -> Split:
    """Springs as whole trajectories, without known frames."""
    return Split.of(*with_targets(whole(motions("springs", sizes.total, frames, FRESH + seed))), sizes)


def whole(x: Motion) -> Motion:
    """All frames as one trajectory with mean zero, for the unconditional mode."""
    pos = torch.cat([x["past"], x["pos"]], 1)
    rest = {name: value for name, value in x.items() if name not in ("past", "pos")}
    return {**rest, "pos": pos - pos.mean((1, 2), keepdim=True)}


def part(x: Motion, first: int, last: int) -> Motion:
    """Systems from first to last."""
    return {name: value[first:last] for name, value in x.items()}


def few(split: Split, sizes: Sizes) -> Split:
    """At most so many systems."""
    return Split(*(tree_map(lambda leaf, n=n: leaf[:n], data) for data, n in zip(split, sizes, strict=True)))


def widths(x: Motion) -> tuple[int, int]:
    """Numbers per particle and per pair."""
    return x["node"].shape[-1] if "node" in x else 0, x["edge_attr"].shape[-1] if "edge_attr" in x else 0


# --- ethanol ---------------------------------------------------------------------------------------------------------
def ethanol_split(sizes: Sizes, steps: int, frames: Frames, seed: int, tested: int) -> Split:
    """Pieces of independent trajectories of nine atoms, `sizes` of them, 2 fs between frames, each turned at random.

    Pieces to train start two frames apart, those to test, at most `tested`, are spread over their trajectories. Positions
    are in Angstrom; ``node`` says which atoms are carbon, oxygen and hydrogen.

    Raises:
        MissingExtraError: tblite is not installed.
    """
    generator = Generator().manual_seed(FRESH + seed)
    # As many steps before the first frame, several times what velocities take to be forgotten.
    tracks = [xtb_trajectory(ethanol(), steps=steps, warmup=steps, generator=generator).pos for _ in range(sizes.total)]
    turns = SO(3).sample(len(tracks), generator=generator)
    turned = [pos @ turn.to(pos).mT for pos, turn in zip(tracks, turns, strict=True)]
    kinds = torch.eye(3)[torch.tensor([0, 0, 1, *[2] * 6])]
    window = frames.given + frames.ahead

    def pieces(some: Sequence[Tensor], most: int | None = None) -> tuple[Motion, Motion]:
        stride = 2 if most is None else max(1, (len(some[0]) - window) * len(some) // most)
        found = torch.cat([pos.unfold(0, window, stride).permute(0, 3, 1, 2) for pos in some])[:most]
        x = {"past": found[:, : frames.given].contiguous(), "pos": found[:, frames.given :].contiguous()}
        return with_targets(x | {"node": kinds.expand(len(found), -1, -1)})

    first, second = sizes.train, sizes.train + sizes.validation
    return Split(pieces(turned[:first]), pieces(turned[first:second]), pieces(turned[second:], tested))


# --- pedestrians -----------------------------------------------------------------------------------------------------
SCENES = {
    "ETH": ("biwi_eth",),
    "Hotel": ("biwi_hotel",),
    "Univ": ("students001", "students003"),
    "Zara 1": ("crowds_zara01",),
    "Zara 2": ("crowds_zara02",),
}
"""The five scenes, each left out in turn in the field, and their files."""
HELD = ("Zara 1", "Zara 2")
"""Scenes that the run leaves out, one after the other."""
PAST, FUTURE = 8, 12
PEOPLE = 8
"""Largest number of pedestrians that are looked at together."""


def scene_motions(folder: str | Path, scene: str, stride: int) -> Motion:
    """``past [B, 8, 8, 2]`` and ``pos [B, 12, 8, 2]``, in metres about the mean of the last known places; ``mask [B, 8]``.

    Where there are more than eight pedestrians, they are taken in groups of eight, in the order of their places along the
    longer axis of the window, so that groups are of neighbours.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    groups: list[Motion] = []
    for name in SCENES[scene]:
        crowds = pedestrians(Path(folder) / f"{name}.txt", PAST + FUTURE, stride=stride)
        for pos, mask in zip(crowds.pos, crowds.mask, strict=True):
            there = pos[mask]  # [people, 20, 2]
            now = there[:, PAST - 1]
            axis = int((now.amax(0) - now.amin(0)).argmax())
            for some in there[now[:, axis].argsort()].split(PEOPLE):
                people = torch.zeros(PEOPLE, PAST + FUTURE, 2)
                people[: len(some)] = some - some[:, PAST - 1].mean(0)
                frames = people.transpose(0, 1)
                groups.append({"past": frames[:PAST], "pos": frames[PAST:], "mask": torch.arange(PEOPLE) < len(some)})
    return {name: torch.stack([group[name] for group in groups]) for name in ("past", "pos", "mask")}


def shuffled(x: Motion, most: int, seed: int) -> Motion:
    """At most so many systems, in random order."""
    order = torch.randperm(len(x["pos"]), generator=Generator().manual_seed(seed))[:most]
    return {name: value[order] for name, value in x.items()}


def scene_left_out(motions: dict[str, Motion], held: str, sizes: Sizes, seed: int) -> Split:
    """All scenes but one to train and to validate, that one to test; at most so many systems."""
    others = [motions[scene] for scene in SCENES if scene != held]
    joined = shuffled(
        {name: torch.cat([x[name] for x in others]) for name in others[0]}, sizes.train + sizes.validation, seed
    )
    cut = len(joined["pos"]) * sizes.train // (sizes.train + sizes.validation)
    rest = shuffled(motions[held], sizes.test, seed)
    parts = (part(joined, 0, cut), part(joined, cut, len(joined["pos"])), rest)
    return Split(*(with_targets(x) for x in parts))


def check_folder(folder: str) -> None:
    """Raise `DataError` unless all files are there."""
    missing = [
        f"{name}.txt" for names in SCENES.values() for name in names if not (Path(folder) / f"{name}.txt").is_file()
    ]
    if missing:
        raise DataError(
            f"pedestrians = {folder!r} has no {', '.join(missing)}; pass the folder of the ETH/UCY text files"
        )
