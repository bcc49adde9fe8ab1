"""Transformations of pictures of 14 x 14 pixels, and worlds of pictures whose symmetry is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

from erlangen.actions import Image
from erlangen.data import ImageData, digits, fashion, mnist
from erlangen.groups import SO, Affine, Dihedral, Group, Scaling, Translation
from erlangen.soft import Augment, augment
from erlangen.survey import Sizes, Split
from erlangen.symmetry import Symmetry

Transform = Callable[..., tuple[Tensor, Tensor]]
REACH = 3
"""Largest shift, in pixels of the halved pictures."""
LEARNT = 5500
"""Of the 10,000 digits that come with the library, those that train and choose; the others test."""


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
        """The moved batch. Maps of the plane are drawn family by family and move all samples in one call."""
        family = torch.randint(len(FAMILIES), (len(x),), generator=generator)
        still = torch.rand(len(x), generator=generator) >= self.share
        out = x.clone()
        maps = torch.eye(3).repeat(len(x), 1, 1)
        planar = torch.zeros(len(x), dtype=torch.bool)
        for index, transform in enumerate(FAMILIES.values()):
            rows = ((family == index) & ~still).nonzero()[:, 0]
            if not len(rows):
                continue
            if isinstance(transform, Augment):
                maps[rows] = _plane_maps(transform, len(rows), generator)
                planar[rows] = True
            else:
                out[rows] = transform(x[rows], y[rows], generator=generator)[0]
        if bool(planar.any()):
            out[planar] = _PICTURE.apply(_PLANE, maps[planar], x[planar])
        return out, y


_PICTURE, _PLANE = Image(), Affine(2)


def _plane_maps(transform: Augment, samples: int, generator: Generator | None) -> Tensor:
    """Elements of a family as affine maps ``[samples, 3, 3]``."""
    group = transform.symmetry.group
    g = transform.draw(samples, generator, torch.empty(0))
    maps = torch.eye(3).repeat(samples, 1, 1)
    maps[:, :2, :2] = group.linear(g, dtype=maps.dtype)
    shift = group.translation(g, dtype=maps.dtype)
    if shift is not None:
        maps[:, :2, 2] = shift
    return maps


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
    """Pictures to train on as they come, and how those of the test are moved; None for not at all.

    ``load(learn, test)`` gives at least so many pictures to train on and choose with, and others to test with.
    """

    name: str
    load: Callable[[int, int], tuple[ImageData, ImageData]]
    moved_by: str | None
    merge: tuple[int, int] | None = None


def _digits(learn: int, test: int) -> tuple[ImageData, ImageData]:
    """The digits that come with the library; all of MNIST where those are too few."""
    parts = digits("train"), digits("test")
    x, y = (torch.cat(both) for both in ([part.x for part in parts], [part.y for part in parts]))
    if learn > LEARNT or test > len(x) - LEARNT:
        return mnist("train"), mnist("test")
    classes = parts[0].classes
    return ImageData(x[:LEARNT], y[:LEARNT], classes), ImageData(x[LEARNT:], y[LEARNT:], classes)


def _clothes(learn: int, test: int) -> tuple[ImageData, ImageData]:
    """Fashion-MNIST."""
    return fashion("train"), fashion("test")


WORLDS = (
    World("upright digits", _digits, None),
    World("turned digits", _digits, "turns", (9, 6)),
    World("moved digits", _digits, "shifts"),
    World("mirrored clothes", _clothes, "mirror"),
    World("moved clothes", _clothes, "shifts"),
)


def sets(world: World, sizes: Sizes, seed: int) -> Split:
    """Random pictures of a world, halved in height and width; no picture is in two worlds of a seed.

    Raises:
        DataError: the pictures are not there; the message names the package.
    """
    alike = [other.name for other in WORLDS if other.load is world.load]
    place, learn = alike.index(world.name), sizes.train + sizes.validation
    pool, held = world.load(len(alike) * learn, len(alike) * sizes.test)
    generator = Generator().manual_seed(seed)
    rows = torch.randperm(len(pool.x), generator=generator)[place * learn : (place + 1) * learn]
    few = torch.randperm(len(held.x), generator=generator)[place * sizes.test : (place + 1) * sizes.test]
    generator.manual_seed(seed + 1000 * (1 + WORLDS.index(world)))

    def part(data: ImageData, rows: Tensor, move: bool) -> tuple[Tensor, Tensor]:
        x, y = avg_pool2d(data.x[rows], 2), data.y[rows].clone()
        if world.merge is not None:
            y[y == world.merge[0]] = world.merge[1]
        return FAMILIES[world.moved_by](x, y, generator=generator) if move and world.moved_by else (x, y)

    chosen, spare = rows[: sizes.train], rows[sizes.train :]
    return Split(part(pool, chosen, move=False), part(pool, spare, move=True), part(held, few, move=True))
