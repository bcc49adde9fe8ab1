"""Clips of real digits that move: drifting over a torus, or spinning about the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.actions import Image
from erlangen.actions import Sequence as SequenceOf
from erlangen.data.images import digits
from erlangen.errors import DtypeError, ErlangenError, ShapeError, is_whole
from erlangen.groups import Cyclic, Flow, Shifts

_SIDE = 28  # of the pictures of digits


@dataclass(frozen=True)
class Clips:
    """Clips of moving digits, n of them in each.

    Attributes:
        frames: ``[B, T, 1, H, W]`` in 0..1.
        label: which digits, int64 ``[B, n]``.
        velocity: int64, how each moves per frame: ``[B, n, 2]`` pixels (rows, columns) of drifting digits, ``[B, n]`` steps
            counterclockwise of spinning ones.
    """

    frames: Tensor
    label: Tensor
    velocity: Tensor


def drifting_digits(
    count: int,
    frames: int,
    velocities: Tensor | Sequence[Sequence[int]],
    *,
    digits_each: int = 2,
    together: bool = False,
    size: tuple[int, int] = (16, 16),
    pool: int = 2,
    split: Literal["train", "test"] = "train",
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Clips:
    """Digits that drift over a torus at constant velocities, as in Moving MNIST with periodic borders (Keller 2025).

    Digits, places in the first frame and velocities are drawn uniformly; where digits lie over each other their values add
    up to at most 1. Frame t is frame 0 of each digit moved by t times its velocity, exactly.

    Args:
        count: clips B.
        frames: frames T of each, 0 or more.
        velocities: integers ``[V, 2]`` to draw from: (rows, columns) per frame, as shifts of ``torch.roll``.
        digits_each: digits n in each clip.
        together: all digits of a clip have one velocity, so that the clip is moved by one flow.
        size: (H, W) of the torus.
        pool: pictures of 28 x 28 are shrunk to ``28 // pool`` by means over squares; that must fit the torus.
        split: "train" or "test": which pictures of `digits`.
        generator: source of all randomness; torch's global stream without it.
        dtype: of the frames.

    Raises:
        ErlangenError: a number is out of range, or the digits do not fit the torus.
        ShapeError, DtypeError: `velocities` are no integers ``[V, 2]``.
    """
    choices = torch.as_tensor(velocities)
    if choices.ndim != 2 or choices.shape[1] != 2 or len(choices) == 0:
        raise ShapeError(f"velocities has shape {tuple(choices.shape)}; give [V, 2] with V of at least 1")
    if choices.dtype == torch.bool or choices.is_floating_point():
        raise DtypeError(f"velocities has dtype {choices.dtype}; digits move by whole pixels, pass integers")
    _check_counts(count, frames, digits_each, pool)
    side = _SIDE // pool
    if min(size) < side:
        raise ErlangenError(f"size = {size}: digits of {side} x {side} do not fit; raise size, or pool = {pool}")
    label, pictures = _drawn(count * digits_each, pool, split, generator, dtype)
    group = Shifts(*size)
    placed = F.pad(pictures, (0, size[1] - side, 0, size[0] - side))
    placed = Image().on(group).act(group.sample(len(placed), generator=generator), placed)
    pick = torch.randint(len(choices), (count, 1 if together else digits_each), generator=generator)
    velocity = choices.long()[pick].expand(count, digits_each, 2)
    still = placed[:, None, None].expand(-1, frames, 1, *size)
    flow = Flow(group, [[1, 0], [0, 1]])
    moved = SequenceOf(Image(), -4).on(flow).act(velocity.flatten(0, 1), still)
    each = (count, digits_each)
    return Clips(moved.unflatten(0, each).sum(1).clamp(max=1), label.unflatten(0, each), velocity.contiguous())


def spinning_digits(
    count: int,
    frames: int,
    steps: Sequence[int],
    *,
    n: int = 8,
    pool: int = 2,
    split: Literal["train", "test"] = "train",
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Clips:
    """One digit in each clip that spins about the middle, by a constant multiple of ``360 / n`` degrees per frame.

    Frame 0 is turned by a random multiple, too. Frame t is turned at 28 x 28 pixels by bilinear interpolation from the
    upright picture, so errors do not add up over time; quarter turns are exact.

    Args:
        count: clips B.
        frames: frames T of each, 0 or more.
        steps: multiples to draw from, counterclockwise.
        n: how many steps are one turn.
        pool, split, generator, dtype: as for `drifting_digits`; frames are ``28 // pool`` pixels wide.

    Raises:
        ErlangenError: a number is out of range, or a step is no integer.
    """
    _check_counts(count, frames, 1, pool)
    if not is_whole(n, 1):
        raise ErlangenError(f"n = {n!r}: give the number of steps in one turn, an integer of at least 1")
    if not steps or not all(is_whole(step) for step in steps):
        raise ErlangenError(f"steps = {steps!r}: give at least one integer, in units of 360 / {n} degrees")
    label, pictures = _drawn(count, 1, split, generator, dtype)
    start = torch.randint(n, (count, 1), generator=generator)
    velocity = torch.tensor(list(steps))[torch.randint(len(steps), (count, 1), generator=generator)]
    angle = (start + velocity * torch.arange(frames)) % n
    still = pictures[:, None, None].expand(-1, frames, 1, -1, -1)
    turned = Image().on(Cyclic(n)).act(angle, still) if frames else still
    return Clips(F.avg_pool2d(turned.flatten(0, 1), pool).unflatten(0, (count, frames)), label[:, None], velocity)


def _check_counts(count: int, frames: int, digits_each: int, pool: int) -> None:
    """Raise `ErlangenError` for what cannot be counted."""
    for name, value, least in (("count", count, 0), ("frames", frames, 0), ("digits_each", digits_each, 1)):
        if value < least:
            raise ErlangenError(f"{name} = {value}: give at least {least}")
    if not 1 <= pool <= _SIDE or _SIDE % pool:
        raise ErlangenError(f"pool = {pool}: give a divisor of {_SIDE}")


def _drawn(
    count: int, pool: int, split: Literal["train", "test"], generator: Generator | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Labels ``[count]`` and pictures ``[count, side, side]`` of digits, drawn with replacement."""
    data = digits(split)
    pick = torch.randint(len(data.x), (count,), generator=generator)
    return data.y[pick], F.avg_pool2d(data.x[pick, 0].to(dtype)[:, None], pool)[:, 0]
