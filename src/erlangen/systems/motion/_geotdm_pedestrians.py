"""Pedestrians of the ETH/UCY recordings: trained on all scenes but one, tested on that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator

from erlangen.data import pedestrians
from erlangen.errors import DataError
from erlangen.survey.claims import Claim, averaged
from erlangen.systems.motion._geotdm_training import (
    DIFFUSIONS,
    REGRESSION,
    Motion,
    Row,
    Size,
    best_rate,
    drift,
    forecast,
)

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
DRAWS = 20
LEARNED, _, PLAIN = DIFFUSIONS
PUBLISHED = "competitive best-of-20 errors on ETH and UCY"


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


def pedestrian_rows(folder: str, held: Sequence[str], size: Size, seeds: Sequence[int], stride: int = 8) -> list[Row]:
    """A row for each scene that is left out and each model, means over seeds, of best-of-20 and other errors."""
    motions = {scene: scene_motions(folder, scene, stride) for scene in SCENES}
    rows: list[Row] = []
    for scene in held:
        others = [motions[other] for other in SCENES if other != scene]
        joined = {name: torch.cat([x[name] for x in others]) for name in others[0]}
        sets = [(shuffled(joined, size.train, s), shuffled(motions[scene], size.test, s)) for s in seeds]
        for name in (LEARNED, PLAIN, REGRESSION):
            rate = best_rate(name, sets[0][0], size, seeds[0])
            runs = [
                forecast(name, train, test, size, rate, s, samples=DRAWS)[0]
                for (train, test), s in zip(sets, seeds, strict=True)
            ]
            rows.append(averaged(runs, part=f"pedestrians, {scene}", model=name))
        kept = averaged([drift(test) for _, test in sets], part=f"pedestrians, {scene}", model="constant velocity")
        rows.append(kept)
    return rows


def pedestrian_claims(rows: Sequence[Row]) -> list[Claim]:
    """Best-of-20 errors against those of the rivals, means over scenes that were left out."""
    found = [row for row in rows if str(row["part"]).startswith("pedestrians")]
    if not found:
        return [
            Claim.not_measurable(
                "pedestrians-best-of-20",
                "Best-of-20 errors on pedestrians are below those of straight motion, of EGNN and of a plain diffusion.",
                published=PUBLISHED,
                reason="the ETH/UCY recordings are not part of the library; give --set pedestrians=FOLDER with biwi_eth.txt, "
                "biwi_hotel.txt, students001.txt, students003.txt, crowds_zara01.txt and crowds_zara02.txt",
            )
        ]
    error = {
        name: sum(row["best ADE"] for row in found if row["model"] == name) for name in {row["model"] for row in found}
    }
    texts = {
        "drift": ("constant velocity", "where everybody keeps the velocity", 1.0),
        "regression": (REGRESSION, "of an EGNN that answers once", 1.0),
        "plain": (PLAIN, "of a diffusion with the same blocks and no geometry", 1.0),
    }
    return [
        Claim.ratio(
            f"pedestrians-beats-{key}",
            f"Best-of-20 ADE of GeoTDM on scenes that were left out, over the ADE {text}.",
            measured=error[LEARNED] / error[other],
            at_most=most,
            published=PUBLISHED,
        )
        for key, (other, text, most) in texts.items()
    ]


def check_folder(folder: str) -> None:
    """Raise `DataError` unless all files are there."""
    missing = [
        f"{name}.txt" for names in SCENES.values() for name in names if not (Path(folder) / f"{name}.txt").is_file()
    ]
    if missing:
        raise DataError(
            f"pedestrians = {folder!r} has no {', '.join(missing)}; pass the folder of the ETH/UCY text files"
        )
