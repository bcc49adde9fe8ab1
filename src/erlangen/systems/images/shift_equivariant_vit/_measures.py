"""What is measured about shifts: exact properties, orbits of all shifts, real shifts, crops, time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import DegenerateFrameWarning
from erlangen.groups import Shifts, planar_rotation
from erlangen.measure import median_times, relative_change
from erlangen.nn import AnchoredConv2d, PolyphaseAnchor, roll_samples
from erlangen.survey import largest

SIZE = 32
GROUP = Shifts(SIZE, SIZE)
BATCH = 64
"""Images at a time."""
LAW_STRIDES = ((2, 2), (3, 3), (4, 4), (7, 7), (2, 3), (4, 7), (1, 3))


def rng(seed: int) -> Generator:
    """A generator of its own."""
    return Generator().manual_seed(seed)


# --- exact properties ------------------------------------------------------------------------------------------------
def law_exceptions(cases: int, seed: int) -> int:
    """How many of `cases` random maps and shifts, for each of seven strides, break the law of the anchor in a single bit."""
    broken = 0
    for p, q in LAW_STRIDES:
        anchor = PolyphaseAnchor((p, q))
        x = torch.randn(cases, 3, 4 * p, 3 * q, generator=rng(seed))
        shift = torch.randint(0, 100, (cases, 2), generator=rng(seed + 1))
        y, place = anchor.anchor(x)
        z, other = anchor.anchor(roll_samples(x, shift))
        step = shift + place - other
        multiple = (step % torch.tensor([p, q]) == 0).all(1)
        same = (z == roll_samples(y, step)).flatten(1).all(1)
        again = (anchor(y) == y).flatten(1).all(1)
        broken += int((~(multiple & same & again)).sum())
    return broken


def component_error(seed: int) -> float:
    """Largest difference between an anchored convolution and the winning component of the dense one, float64."""
    worst = 0.0
    for kernel, stride in ((3, 2), (5, 3), (4, 4), (3, 4)):
        layer = AnchoredConv2d(3, 8, kernel, stride, generator=rng(seed)).double()
        x = torch.randn(20, 3, 12, 24, generator=rng(seed), dtype=torch.float64)
        before = (kernel - 1) // 2
        padded = F.pad(x, (before, kernel - 1 - before) * 2, mode="circular")
        dense = F.conv2d(padded, layer.weight, layer.bias)
        places = layer.anchor.locate(x).tolist()
        expected = torch.stack([dense[n, :, i::stride, j::stride] for n, (i, j) in enumerate(places)])
        worst = largest(worst, float((layer(x) - expected).detach().abs().max()))
    return worst


@torch.no_grad()
def change(model: nn.Module, x: Tensor, shifts: int) -> float:
    """Largest ``|f(roll(x, s)) - f(x)| / |f(x)|``; each image under `shifts` of the 1024 shifts, dealt out in turn."""
    base = model(x)
    elements = GROUP.elements()
    elements = elements[torch.randperm(len(elements), generator=rng(0))]
    worst = 0.0
    for k in range(shifts):
        mine = elements[(torch.arange(len(x)) + k * len(x)) % len(elements)]
        worst = largest(worst, relative_change(model(roll_samples(x, mine)), base))
    return worst


# --- accuracy --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class OrbitScores:
    """Answers to images under S shifts.

    Attributes:
        right: whether an answer is right, bool ``[S, N]``; row 0 is the image unmoved.
        same: whether it is the answer to the image unmoved, bool ``[S, N]``.
        change: largest relative change of the logits.
    """

    right: Tensor
    same: Tensor
    change: float

    @property
    def worst(self) -> float:
        """Percent of the images that are right under every shift."""
        return percent(self.right.all(0))


def within(pixels: int) -> Tensor:
    """All shifts by at most that many pixels along each axis, the identity first, int64 ``[S, 2]``."""
    steps = torch.arange(-pixels, pixels + 1)
    shifts = torch.cartesian_prod(steps, steps)
    return shifts[shifts.abs().amax(1).sort(stable=True).indices]


@torch.no_grad()
def orbit_scores(model: nn.Module, x: Tensor, y: Tensor, shifts: Tensor | None = None) -> OrbitScores:
    """The model's answers to x ``[N, 1, 32, 32]`` under shifts ``[S, 2]``, of which the first is none; all 1024 without them."""
    elements = GROUP.elements() if shifts is None else shifts
    some = elements.split(max(1, BATCH // len(x)))
    parts = [model(roll_samples(x.repeat(len(s), 1, 1, 1), s.repeat_interleave(len(x), 0))) for s in some]
    logits = torch.cat(parts).unflatten(0, (-1, len(x)))
    answers = logits.argmax(-1)
    return OrbitScores(answers == y, answers == answers[0], max(relative_change(row, logits[0]) for row in logits))


@torch.no_grad()
def changing(model: nn.Module, x: Tensor, count: int) -> float:
    """Percent of the answers that `count` random circular shifts change; other shifts for each image."""
    base = model(x).argmax(-1)
    shifts = torch.randint(0, SIZE, (count, len(x), 2), generator=rng(0))
    return percent(torch.stack([model(roll_samples(x, shift)).argmax(-1) != base for shift in shifts]))


def percent(right: Tensor) -> float:
    """Share of what is true, in percent."""
    return 100 * float(right.double().mean())


def shifted(x: Tensor, least: int, most: int, seed: int) -> Tensor:
    """Each image under a random circular shift; the larger of the two steps is from `least` to `most` pixels."""
    shifts = within(most)
    shifts = shifts[shifts.abs().amax(1) >= least]
    return roll_samples(x, shifts[torch.randint(len(shifts), (len(x),), generator=rng(seed))])


def binary(x: Tensor) -> Tensor:
    """Pictures of two grey levels: what is above half of an image's largest value."""
    return (x > x.amax((1, 2, 3), keepdim=True) / 2).to(x)


def warns(model: nn.Module, x: Tensor) -> bool:
    """Whether the model warns that nothing tells the polyphase components of x apart."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        model(x)
    return any(issubclass(one.category, DegenerateFrameWarning) for one in caught)


def real_shifts(x: Tensor, most: int, seed: int) -> Tensor:
    """Each image moved by up to `most` pixels both ways; what leaves is lost and black comes in."""
    wide = F.pad(x, (most,) * 4)
    shift = torch.randint(-most, most + 1, (len(x), 2), generator=rng(seed))
    return roll_samples(wide, shift)[:, :, most:-most, most:-most].contiguous()


def crops(x: Tensor, side: int, seed: int) -> Tensor:
    """A random square of each image, resized to the whole (bilinear)."""
    scale = side / x.shape[-1]
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = (1 - scale) * (2 * torch.rand(len(x), 2, generator=rng(seed)) - 1)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def affine(x: Tensor, seed: int) -> Tensor:
    """Each image under a random linear map about its middle: up to 20 degrees, shears up to 0.2, scales from 0.8 to 1.2."""
    unit = torch.rand(len(x), 4, generator=rng(seed)) * 2 - 1
    angle, shear, scale = unit[:, 0] * math.radians(20), 0.2 * unit[:, 1], 1 + 0.2 * unit[:, 2:]
    sheared = torch.eye(2).repeat(len(x), 1, 1)
    sheared[:, 0, 1] = shear
    linear = planar_rotation(angle) @ sheared @ torch.diag_embed(scale)
    theta = F.pad(torch.linalg.inv(linear), (0, 1))
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


# --- time ------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def milliseconds(models: Sequence[Callable[[Tensor], Tensor]], x: Tensor, rounds: int) -> list[float]:
    """Milliseconds for each image of a batch: medians over rounds in which the models take turns."""
    calls = {k: partial(model, x) for k, model in enumerate(models)}
    times = median_times(calls, rounds, warmup=1)
    return [1000 * times[k] / len(x) for k in calls]
