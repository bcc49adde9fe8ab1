"""Motions of the road: turns about the vertical, shifts, scalings and mirrors; drawn, applied, and in classes by their turn."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, check_finite
from erlangen.groups import E, Generated, Scaling

GROUP = Generated(E(3), Scaling(3))
"""Motions, mirrors and scalings of space; those of the road leave the vertical alone."""


class Motions(NamedTuple):
    """Motions of the road.

    Attributes:
        matrix: elements of `GROUP`, ``[B, 4, 4]``.
        angle, factor, side: by how much they turn, in radians, and scale, and -1 where they mirror, ``[B]``.
        shift: in metres, ``[B, 3]``.
    """

    matrix: Tensor
    angle: Tensor
    factor: Tensor
    shift: Tensor
    side: Tensor


def road_motions(
    count: int,
    *,
    turn: float = math.pi / 2,
    shift: float = 0.2,
    scale: float = 0.05,
    flip: float = 0.5,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Motions:
    """Motions of the road: first a mirror of left and right, then a scaling, a turn about the vertical and a shift.

    Args:
        count: how many, none or more.
        turn: largest angle, in radians.
        shift: largest shift along each of the three axes, in metres.
        scale: largest deviation of the factor from one.
        flip: probability of the mirror.
        generator: source of the draws.
        dtype: of the matrices.

    Raises:
        ErlangenError: a count below zero, a turn beyond half a turn, which looks like degrees, a shift that is negative or
            endless, a scale of one or more, or a probability that is none.
    """
    if count < 0:
        raise ErlangenError(f"count = {count}; give none or more")
    if not 0 <= turn <= math.pi:
        raise ErlangenError(f"turn = {turn}; give radians, from 0 to pi")
    if not 0 <= scale < 1 or not 0 <= shift < math.inf or not 0 <= flip <= 1:
        raise ErlangenError(
            f"shift = {shift}, scale = {scale}, flip = {flip}; give shift >= 0 in metres, 0 <= scale < 1, 0 <= flip <= 1"
        )

    def even(most: float, *shape: int) -> Tensor:
        return most * (2 * torch.rand(count, *shape, generator=generator, dtype=torch.float64) - 1)

    angle, factor, away = even(turn), 1 + even(scale), even(shift, 3)
    side = torch.where(torch.rand(count, generator=generator) < flip, -1.0, 1.0)
    numbers = (one.to(dtype) for one in (angle, factor, away, side))
    return Motions(road_motion(angle, factor, away, side).to(dtype), *numbers)


def road_motion(angle: Tensor, factor: Tensor, shift: Tensor, side: Tensor) -> Tensor:
    """Matrices ``[B, 4, 4]``, float64, of angles, factors and sides (-1 mirrors y) ``[B]`` and shifts ``[B, 3]``.

    Raises:
        NotFiniteError: NaN or Inf.
        ErlangenError: a factor that is not positive, or a side that is neither 1 nor -1.
    """
    for name, value in (("angle", angle), ("factor", factor), ("shift", shift)):
        check_finite(value, name)
    if not bool((factor > 0).all()) or not bool((side.abs() == 1).all()):
        raise ErlangenError("factor must be positive and side 1 or -1: a motion of the road cannot be undone otherwise")
    c, s = factor.double() * angle.double().cos(), factor.double() * angle.double().sin()
    out = torch.zeros(len(angle), 4, 4, dtype=torch.float64)
    out[:, 0, 0], out[:, 0, 1] = c, -s * side
    out[:, 1, 0], out[:, 1, 1] = s, c * side
    out[:, 2, 2], out[:, 3, 3] = factor.double(), 1
    out[:, :3, 3] = shift.double()
    return out


def move_points(matrix: Tensor, pos: Tensor) -> Tensor:
    """Points ``[B, N, 3]`` moved by ``[B, 4, 4]``."""
    return pos @ matrix[:, :3, :3].mT + matrix[:, None, :3, 3]


def moved_anyhow(pos: Tensor, generator: Generator | None = None) -> tuple[Tensor, Motions]:
    """Points ``[B, N, 3]`` of scenes under a motion of the road that is drawn for each, and the motions."""
    motions = road_motions(len(pos), generator=generator, dtype=pos.dtype)
    motions = Motions(*(one.to(pos.device) for one in motions))
    return move_points(motions.matrix, pos), motions


def turn_bins(angle: Tensor, bins: int, *, most: float = math.pi / 2) -> Tensor:
    """Which of equal parts of [-most, most] each angle lies in, int64.

    Raises:
        ErlangenError: fewer than two bins, or an angle outside, as degrees would be.
    """
    if bins < 2:
        raise ErlangenError(f"bins = {bins}; give at least two, one class tells nothing")
    if not bool((angle.abs() <= most * (1 + 1e-6)).all()):  # NaN is in no bin
        raise ErlangenError(f"angle goes to {float(angle.abs().max()):.4g}; give radians up to {most:.4g}")
    return ((angle + most) * (bins / (2 * most))).long().clamp(0, bins - 1)
