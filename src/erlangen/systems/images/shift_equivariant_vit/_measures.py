"""What is measured about shifts: exact properties, orbits of all shifts, real shifts, crops, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.groups import Shifts
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
    """Answers to images under all 1024 shifts.

    Attributes:
        right: whether an answer is right, bool ``[1024, N]``; row 0 is the image unmoved.
        same: whether it is the answer to the image unmoved, bool ``[1024, N]``.
        change: largest relative change of the logits.
    """

    right: Tensor
    same: Tensor
    change: float

    @property
    def worst(self) -> float:
        """Percent of the images that are right under every shift."""
        return percent(self.right.all(0))

    def at_distance(self, pixels: int) -> float:
        """Percent right over the shifts of that distance: the larger of the two, either way around."""
        away = torch.minimum(GROUP.elements(), SIZE - GROUP.elements()).amax(1)
        return percent(self.right[away == pixels])


@torch.no_grad()
def orbit_scores(model: nn.Module, x: Tensor, y: Tensor) -> OrbitScores:
    """The model's answers to x ``[N, 1, 32, 32]`` under every shift."""
    shifts = GROUP.elements().split(max(1, BATCH // len(x)))
    parts = [model(roll_samples(x.repeat(len(some), 1, 1, 1), some.repeat_interleave(len(x), 0))) for some in shifts]
    logits = torch.cat(parts).unflatten(0, (-1, len(x)))
    answers = logits.argmax(-1)
    return OrbitScores(answers == y, answers == answers[0], max(relative_change(row, logits[0]) for row in logits))


def percent(right: Tensor) -> float:
    """Share of what is true, in percent."""
    return 100 * float(right.double().mean())


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


# --- time ------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def milliseconds(models: Sequence[Callable[[Tensor], Tensor]], x: Tensor, rounds: int) -> list[float]:
    """Milliseconds for each image of a batch: medians over rounds in which the models take turns."""
    calls = {k: partial(model, x) for k, model in enumerate(models)}
    times = median_times(calls, rounds, warmup=1)
    return [1000 * times[k] / len(x) for k in calls]
