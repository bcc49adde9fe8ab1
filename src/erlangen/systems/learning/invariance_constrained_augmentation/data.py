"""Transformations of pictures, and worlds of pictures whose symmetry is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.data import ImageData, digits, fashion
from erlangen.groups import SO, Dihedral, Group, Scaling, Translation
from erlangen.soft import augment
from erlangen.survey import Sizes, Split
from erlangen.symmetry import Symmetry

Transform = Callable[..., tuple[Tensor, Tensor]]
REACH = 6
"""Largest shift, in pixels."""


# --- transformations -------------------------------------------------------------------------------------------------
def _family(group: Group, elements: Tensor | None = None) -> Transform:
    return augment(Symmetry(group, input="image", output="invariant"), elements=elements)


def _shifts() -> Tensor:
    """All shifts by whole pixels up to `REACH` along both axes."""
    steps = torch.arange(-REACH, REACH + 1).float()
    return Translation(2).exp(torch.cartesian_prod(steps, steps))


def contrast(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Each image ``[B, C, H, W]`` in 0..1 to a random power, from 1/3 to 3."""
    power = 3 ** (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1)
    return x.clamp(min=1e-6) ** power * (x > 0), y


FAMILIES: dict[str, Transform] = {
    "turns": _family(SO(2)),
    "shifts": _family(Translation(2), _shifts()),
    "scales": _family(Scaling(2), Scaling(2).exp(torch.linspace(math.log(0.7), math.log(1.4), 41)[:, None])),
    "mirror": _family(Dihedral(1)),
    "contrast": contrast,
}


class RandomFamily:
    """A random family for every sample, and with probability 1 - `share` none."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def __call__(self, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The moved batch."""
        family = torch.randint(len(FAMILIES), (len(x),), generator=generator)
        still = torch.rand(len(x), generator=generator) >= self.share
        out = x.clone()
        for index, transform in enumerate(FAMILIES.values()):
            rows = ((family == index) & ~still).nonzero()[:, 0]
            if len(rows):
                out[rows] = transform(x[rows], y[rows], generator=generator)[0]
        return out, y


class Sometimes:
    """A transform on a share of the samples."""

    def __init__(self, transform: Transform, share: float) -> None:
        self.transform, self.share = transform, share

    def __call__(self, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The batch with some of its samples moved."""
        moves = torch.rand(len(x), generator=generator) < self.share
        moved, _ = self.transform(x, y, generator=generator)
        return torch.where(moves[:, None, None, None], moved, x), y


# --- worlds ----------------------------------------------------------------------------------------------------------
class World(NamedTuple):
    """Pictures to train on as they come, and how those of the test are moved; None for not at all."""

    name: str
    load: Callable[[str], ImageData]
    moved_by: str | None
    merge: tuple[int, int] | None = None


def _digits(split: str) -> ImageData:
    return digits("train" if split == "train" else "test")


def _fashion(split: str) -> ImageData:
    return fashion("train" if split == "train" else "test")


WORLDS = (
    World("upright digits", _digits, None),
    World("turned digits", _digits, "turns", (9, 6)),
    World("moved digits", _digits, "shifts"),
    World("mirrored clothes", _fashion, "mirror"),
)


def sets(world: World, sizes: Sizes, seed: int) -> Split:
    """Random pictures of a world; other ones in each world."""
    generator = Generator().manual_seed(seed + 1000 * WORLDS.index(world))
    pool, held = world.load("train"), world.load("test")
    order = torch.randperm(len(pool.x), generator=generator)
    few = torch.randperm(len(held.x), generator=generator)[: sizes.test]
    chosen, spare = order[: sizes.train], order[sizes.train : sizes.train + sizes.validation]

    def part(data: ImageData, rows: Tensor, move: bool) -> tuple[Tensor, Tensor]:
        x, y = data.x[rows], data.y[rows].clone()
        if world.merge is not None:
            y[y == world.merge[0]] = world.merge[1]
        return FAMILIES[world.moved_by](x, y, generator=generator) if move and world.moved_by else (x, y)

    return Split(part(pool, chosen, move=False), part(pool, spare, move=True), part(held, few, move=True))
