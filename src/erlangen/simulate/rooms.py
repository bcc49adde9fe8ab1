"""Rooms: a few pieces of furniture made of boxes and cylinders on a floor, as point clouds with exact labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError
from erlangen.groups import SO
from erlangen.simulate._surfaces import BOX, CYLINDER, surface_areas, surface_points

FURNITURE: tuple[str, ...] = ("chair", "table", "shelf", "sofa", "lamp", "stool")
"""Names of the labels in `Rooms.kind`."""

_SPACING = 2.5  # metres between the middles of places; no piece reaches farther than 1.15 m from its middle
_SOLIDS = 6  # the largest number of solids in a piece


@dataclass(frozen=True)
class Rooms:
    """Point clouds of rooms.

    Attributes:
        pos: ``[B, n, 3]`` in metres, z upwards, the floor at z = 0, the middle of the room at the origin.
        kind: int64 ``[B, n]``, the kind of furniture of each point, see `FURNITURE`.
        piece: int64 ``[B, n]``, from 0, the piece of furniture of each point: the partition whose parts move rigidly.
    """

    pos: Tensor
    kind: Tensor
    piece: Tensor


def room_clouds(
    count: int,
    points: int = 512,
    *,
    pieces: tuple[int, int] = (3, 5),
    upright: bool = True,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Rooms:
    """Rooms with random furniture in random proportions.

    Each piece stands on a place of its own and touches no other one. A point belongs to each piece of its room with equal
    probability, and lies uniformly on the surfaces of its solids, taken whole.

    Args:
        count: number of rooms.
        points: points of each room.
        pieces: the least and the largest number of pieces, from 1 to 9; all are equally likely.
        upright: turn pieces about the vertical alone; otherwise each by a rotation of its own from Haar measure, as if
            it had fallen. Its lowest point lies on the floor in both cases.
        generator: source of all randomness; torch's global stream without it.
        dtype: of the points; all is computed in float64.

    Raises:
        ErlangenError: a number is out of range.
    """
    low, high = pieces
    if count < 0 or points < 1 or not 1 <= low <= high <= 9:
        raise ErlangenError(
            f"count = {count}, points = {points}, pieces = {pieces}; count >= 0, points >= 1, 1 <= least <= largest <= 9"
        )
    number = torch.randint(low, high + 1, (count, 1), generator=generator)
    piece = (torch.rand(count, points, generator=generator) * number).long()
    kinds = torch.randint(len(FURNITURE), (count, high), generator=generator)
    local = _points_on(_furniture(kinds, generator), piece, generator)
    turn = _turns((count, high), upright, generator)
    own = torch.arange(count)[:, None]
    middle = (_lowest(local, piece, high) - _lowest(-local, piece, high)) / 2
    local[..., 2] -= middle.gather(1, piece)  # pieces turn about their middles, so that they stay on their places
    local = (turn[own, piece] @ local[..., None])[..., 0]
    lift = -_lowest(local, piece, high)
    place = torch.cat([_places(count, high, generator), lift[..., None]], -1)
    return Rooms((local + place[own, piece]).to(dtype), kinds.gather(1, piece), piece)


def _lowest(local: Tensor, piece: Tensor, pieces: int) -> Tensor:
    """Smallest height ``[B, pieces]`` of the points of each piece; zero for a piece without points."""
    empty = local.new_zeros(len(local), pieces)
    return empty.scatter_reduce(1, piece, local[..., 2], "amin", include_self=False)


def _turns(shape: tuple[int, int], upright: bool, generator: Generator | None) -> Tensor:
    """Rotations ``[B, pieces, 3, 3]``, about the vertical or from Haar measure."""
    if not upright:
        return SO(3).sample(shape, generator=generator, dtype=torch.float64)
    turn = torch.eye(3, dtype=torch.float64).repeat(*shape, 1, 1)
    turn[..., :2, :2] = SO(2).sample(shape, generator=generator, dtype=torch.float64)
    return turn


def _places(count: int, pieces: int, generator: Generator | None) -> Tensor:
    """Different places ``[B, pieces, 2]`` of a grid of three by three, moved by up to 10 cm along each axis."""
    place = torch.rand(count, 9, generator=generator).argsort(1)[:, :pieces]
    grid = torch.stack([place % 3 - 1, place // 3 - 1], -1).double() * _SPACING
    return grid + 0.2 * (torch.rand(grid.shape, generator=generator, dtype=torch.float64) - 0.5)


@dataclass(frozen=True)
class _Solids:
    """Solids of pieces: kind ``[..., S]``, half sizes and middles ``[..., S, 3]``; size zero where there is none."""

    kind: Tensor
    size: Tensor
    middle: Tensor


def _points_on(solids: _Solids, piece: Tensor, generator: Generator | None) -> Tensor:
    """Points ``[B, n, 3]`` on the surfaces of the pieces ``[B, n]``, in the axes of the piece."""
    own = torch.arange(len(piece))[:, None]
    areas = surface_areas(solids.kind, solids.size)[own, piece]
    u = torch.rand(piece.shape, generator=generator, dtype=torch.float64)[..., None]
    reached = areas.cumsum(-1)
    solid = (u * reached[..., -1:] >= reached[..., :-1]).sum(-1)
    kind, size, middle = (value[own, piece, solid] for value in (solids.kind, solids.size, solids.middle))
    return surface_points(kind, size, generator) + middle


def _furniture(kinds: Tensor, generator: Generator | None) -> _Solids:
    """Solids of pieces of these kinds ``[B, pieces]``; z = 0 is the floor, the vertical axis goes through the middle."""
    builders = (_chair, _table, _shelf, _sofa, _lamp, _stool)
    kind = torch.full((*kinds.shape, _SOLIDS), BOX)
    size = torch.zeros(*kinds.shape, _SOLIDS, 3, dtype=torch.float64)
    middle = torch.zeros_like(size)
    for label, build in enumerate(builders):
        here = kinds == label
        draw = torch.rand(6, int(here.sum()), generator=generator, dtype=torch.float64)
        for place, (shape, half, centre) in enumerate(build(*draw.unbind(0))):
            kind[..., place][here] = shape
            size[..., place, :][here] = _rows(half, draw[0])
            middle[..., place, :][here] = _rows(centre, draw[0])
    return _Solids(kind, size, middle)


Numbers = tuple[Tensor | float, Tensor | float, Tensor | float]
Piece = list[tuple[int, Numbers, Numbers]]


def _rows(numbers: Numbers, like: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(like) + number for number in numbers], -1)


def _legs(radius: Tensor, high: Tensor, x: Tensor, y: Tensor) -> Piece:
    """Four round legs at the corners."""
    return [(CYLINDER, (radius, high / 2, 0.0), (i * x, j * y, high / 2)) for i in (-1, 1) for j in (-1, 1)]


def _chair(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Piece:
    wide, deep, seat, back = 0.2 + 0.06 * a, 0.2 + 0.06 * b, 0.4 + 0.1 * c, 0.2 + 0.1 * d
    legs = _legs(0.02 + 0.01 * e, seat, wide - 0.04, deep - 0.04)
    rest = (BOX, (wide, 0.02 + 0.01 * f, back), (0.0, -deep, seat + back))
    return [(BOX, (wide, deep, 0.025), (0.0, 0.0, seat)), rest, *legs]


def _table(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Piece:
    wide, deep, high = 0.5 + 0.3 * a, 0.35 + 0.2 * b, 0.65 + 0.15 * c
    inset = 0.05 + 0.05 * f
    legs = _legs(0.025 + 0.02 * d, high, wide - inset, deep - inset)
    return [(BOX, (wide, deep, 0.02 + 0.02 * e), (0.0, 0.0, high)), *legs]


def _shelf(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Piece:
    wide, deep, half = 0.3 + 0.2 * a, 0.14 + 0.08 * b, 0.6 + 0.3 * c
    thick = 0.012 + 0.008 * d
    sides: Piece = [(BOX, (thick, deep, half), (i * wide, 0.0, half)) for i in (-1, 1)]
    heights = (0.1 + 0.1 * e, 0.7 + 0.1 * f, 1.3 + 0.1 * e, 1.9 + 0 * f)
    return sides + [(BOX, (wide, deep, thick), (0.0, 0.0, half * h)) for h in heights]


def _sofa(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Piece:
    wide, deep, seat = 0.55 + 0.2 * a, 0.35 + 0.1 * b, 0.18 + 0.05 * c
    back, arm = 0.35 + 0.1 * d, 0.08 + 0.04 * e
    arms: Piece = [(BOX, (arm, deep, seat + 0.08), (i * wide, 0.0, seat + 0.08)) for i in (-1, 1)]
    rest = (BOX, (wide, 0.08 + 0.04 * f, back), (0.0, -deep, back))
    return [(BOX, (wide, deep, seat), (0.0, 0.0, seat)), rest, *arms]


def _lamp(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Piece:
    high, shade = 0.65 + 0.2 * a, 0.1 + 0.06 * b
    return [
        (CYLINDER, (0.12 + 0.05 * c, 0.015 + 0.01 * d, 0.0), (0.0, 0.0, 0.02)),
        (CYLINDER, (0.012 + 0.008 * e, high, 0.0), (0.0, 0.0, high)),
        (CYLINDER, (0.14 + 0.08 * f, shade, 0.0), (0.0, 0.0, 2 * high)),
    ]


def _stool(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Piece:
    radius, high = 0.16 + 0.06 * a, 0.4 + 0.25 * b
    thick, foot = 0.02 + 0.02 * c, 0.015 + 0.01 * d
    reach = radius * (0.7 + 0.2 * e)
    angles = [2 * math.pi * k / 3 for k in range(3)]
    legs: Piece = [
        (CYLINDER, (foot, high / 2, 0.0), (reach * math.cos(t), reach * math.sin(t), high / 2)) for t in angles
    ]
    return [(CYLINDER, (radius, thick + 0.01 * f, 0.0), (0.0, 0.0, high)), *legs]
