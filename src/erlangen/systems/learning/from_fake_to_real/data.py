"""Digits on streaked grounds: handwritten ones are the real pictures, printed ones the output of a generator."""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor

from erlangen.data import ImageData, digits, glyphs, mnist, textures
from erlangen.survey import Sizes, Split
from erlangen.systems.learning.from_fake_to_real._groups import REAL, SYNTHETIC, Grouped, contingency
from erlangen.systems.learning.from_fake_to_real.method import add_equal, cut_to_bias, fill_to_max

BRIGHTEST = 0.9
"""Of the ground; ink is 1."""

NATURAL = 0.9
"""Share of a class on its own ground before the cut."""

HELD_OUT = 250
"""Synthetic pictures of each group that nothing is trained on, for the probe."""

BIASED, GENERATED, BALANCED = 0, 1, 2
"""What a training picture is there for: the real set, the pool of the generator, the real set without a bias."""


def least(rate: float, count: int) -> int:
    """So many digits, or the fewest that leave a minority at this rate where a dry run would have less."""
    return max(count, math.ceil(2.6 / (1 - rate)))


def shown(ink: Tensor, b: Tensor, generator: Generator) -> Tensor:
    """Ink ``[N, 1, 28, 28]`` on streaks along x (b = 0) or y (b = 1), in two random colours: ``[N, 3, 28, 28]``."""
    ground = torch.zeros_like(ink)
    for kind in b.unique().tolist():
        rows = b == kind
        ground[rows] = textures(int(rows.sum()), size=ink.shape[-1], direction=90.0 * kind, generator=generator)
    low, high = BRIGHTEST * torch.rand(2, len(ink), 3, 1, 1, generator=generator)
    return ink + (1 - ink) * (low + ground * (high - low))


def draw(seed: int, rate: float, sizes: Sizes) -> Split:
    """Digits below five (y = 0) and others (y = 1): biased ones, a pool of synthetic ones, and balanced ones to train on.

    Validation is biased like training, with at least ten of each group; the test has as many real digits of each group, and
    beside them synthetic ones (g = 1) for the probe.
    """
    g = Generator().manual_seed(seed)
    source = _source(sizes.train + sizes.validation > 8000, "train")
    order = torch.randperm(len(source.x), generator=g)
    count, held = least(rate, sizes.train), max(sizes.validation, 260)
    mine, rest = order[:count], order[count : count + held]
    # --- train
    y = (source.y[mine] >= 5).long()
    b = spread(y, NATURAL, g)
    kept = cut_to_bias(y, b, rate, generator=g)
    biased = Grouped(shown(source.x[mine][kept], b[kept], g), y[kept], b[kept], torch.full_like(kept, REAL))
    counts = contingency(biased.y, biased.b)
    pool = generated(torch.maximum(fill_to_max(counts), add_equal(counts)), g)
    even = spread(y, 0.5, g)
    balanced = Grouped(shown(source.x[mine], even, g), y, even, torch.full_like(y, REAL))
    # --- validation and test
    v = (source.y[rest] >= 5).long()
    vb = spread(v, NATURAL, g)
    kept = cut_to_bias(v, vb, rate, floor=10, generator=g)
    validation = Grouped(shown(source.x[rest][kept], vb[kept], g), v[kept], vb[kept], torch.full_like(kept, REAL))
    shown_last = _source(sizes.test > 2000, "test")
    some = torch.randperm(len(shown_last.x), generator=g)[: max(sizes.test, 100)]
    t = (shown_last.y[some] >= 5).long()
    tb = spread(t, 0.5, g)
    test = Grouped(shown(shown_last.x[some], tb, g), t, tb, torch.full_like(t, REAL))
    fake = generated(torch.full((2, 2), min(HELD_OUT, len(some) // 4)), g)
    return Split(
        _pair([biased, pool, balanced], (BIASED, GENERATED, BALANCED)),
        _pair([validation], (BIASED,)),
        _pair([test, fake], (BIASED, GENERATED)),
    )


def generated(counts: Tensor, generator: Generator) -> Grouped:
    """Printed digits, as many of each group (y, b) as the table ``[2, 2]`` says, in the order of a generator: at random."""
    ink: list[Tensor] = []
    y: list[Tensor] = []
    b: list[Tensor] = []
    for label, row in enumerate(counts.tolist()):
        for kind, count in enumerate(row):
            characters = "01234" if label == 0 else "56789"
            made = glyphs(characters, -(-max(count, 1) // 5), generator=generator).x
            ink.append(made[torch.randperm(len(made), generator=generator)[:count]])
            y.append(torch.full((count,), label))
            b.append(torch.full((count,), kind))
    labels, kinds = torch.cat(y), torch.cat(b)
    order = torch.randperm(len(labels), generator=generator)
    x = shown(torch.cat(ink)[order], kinds[order], generator)
    return Grouped(x, labels[order], kinds[order], torch.full_like(order, SYNTHETIC))


def spread(y: Tensor, share: float, generator: Generator) -> Tensor:
    """A ground for each sample: that of its class (b = y) for this share of the class, the other one for the rest."""
    b = 1 - y
    for label in (0, 1):
        rows = (y == label).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        b[rows[: int(share * len(rows) + 1e-9)]] = label
    return b


def unpacked(pair: tuple[dict[str, Tensor], Tensor], role: int) -> Grouped:
    """The samples of one role."""
    x, y = pair
    rows = x["role"] == role
    return Grouped(x["x"][rows], y[rows], x["b"][rows], x["g"][rows])


@functools.cache
def _source(whole: bool, part: str) -> ImageData:
    name = "train" if part == "train" else "test"
    return mnist(name) if whole else digits(name)


def _pair(parts: list[Grouped], roles: tuple[int, ...]) -> tuple[dict[str, Tensor], Tensor]:
    role = torch.cat([torch.full((len(part),), number) for part, number in zip(parts, roles, strict=True)])
    x, y, b, g = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "y", "b", "g"))
    return {"x": x, "b": b, "g": g, "role": role}, y
