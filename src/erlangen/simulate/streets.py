"""Streets as a spinning laser scanner sees them: two sweeps of moving cars, cyclists and pedestrians, with exact scene flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, check_sizes
from erlangen.geometry import Rays
from erlangen.geometry.poses import rigid, rigid_inverse
from erlangen.groups import SO
from erlangen.groups.rotations import standard_normal
from erlangen.render import cast_boxes, cast_cylinders, nearest_hits

ROAD_USERS = ("car", "pedestrian", "cyclist")
"""Names of the kinds in `Traffic.kind`."""

SIZES = torch.tensor([[4.2, 1.8, 1.6], [0.6, 0.6, 1.7], [1.8, 0.6, 1.7]], dtype=torch.float64)
"""Length, width and height of each kind, in metres."""

SPEEDS = torch.tensor([[0.0, 12.0], [0.0, 1.8], [2.0, 7.0]], dtype=torch.float64)
"""Least and largest speed of each kind, in metres per second."""

_CELL = 5.5
"""Edge of the squares of the street that hold at most one thing each, in metres: longer than a car with its way in one sweep."""


@dataclass(frozen=True)
class Scanner:
    """A spinning scanner whose beams look ahead.

    Attributes:
        beams: at even elevations.
        lowest, highest: elevation of the first and last beam, in degrees.
        azimuths: even directions of each beam across the field of view.
        field: of view about the direction ahead, in degrees.
        height: of the scanner above the ground, in metres.
        reach: how far it sees, in metres.
        noise: standard deviation of the measured distance, in metres.
        dropout: share of the returns that are lost.
    """

    beams: int = 32
    lowest: float = -25.0
    highest: float = 5.0
    azimuths: int = 128
    field: float = 90.0
    height: float = 1.8
    reach: float = 50.0
    noise: float = 0.02
    dropout: float = 0.1

    def directions(self) -> Tensor:
        """Unit vectors ``[beams * azimuths, 3]`` in the scanner's axes, x ahead, y to the left, z up; float64."""
        up = torch.linspace(self.lowest, self.highest, self.beams, dtype=torch.float64).deg2rad()
        edge = self.field / 2 * (1 - 1 / self.azimuths)
        across = torch.linspace(-edge, edge, self.azimuths, dtype=torch.float64).deg2rad()
        up, across = torch.meshgrid(up, across, indexing="ij")
        return torch.stack([up.cos() * across.cos(), up.cos() * across.sin(), up.sin()], -1).flatten(0, 1)


@dataclass(frozen=True)
class Traffic:
    """Two sweeps of streets, each in the axes of the scanner at its time: x ahead, y to the left, z up, in metres.

    Attributes:
        pos: ``[B, 2, R, 3]``, a place for each ray; zero where nothing returned.
        known: bool ``[B, 2, R]``, which rays returned.
        user: int64 ``[B, 2, R]``, which road user was hit; -1 for ground, poles, walls and nothing.
        flow: ``[B, R, 3]``: the place that a point of the first sweep has in the axes of the second, minus its own.
        boxes: ``[B, 2, U, 7]``, middle, length, width, height and yaw of the road users, in the axes of each sweep.
        kind: int64 ``[B, U]``, see `ROAD_USERS`.
        ego: ``[B, 4, 4]``, from the axes of the first sweep to those of the second.
    """

    pos: Tensor
    known: Tensor
    user: Tensor
    flow: Tensor
    boxes: Tensor
    kind: Tensor
    ego: Tensor


def traffic(
    count: int,
    users: int = 8,
    *,
    poles: int = 4,
    walls: int = 2,
    scanner: Scanner | None = None,
    seconds: float = 0.1,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Traffic:
    """Random streets ahead of a driving scanner.

    >>> streets = traffic(2, scanner=Scanner(beams=8, azimuths=16), generator=torch.Generator().manual_seed(0))
    >>> streets.pos.shape, streets.boxes.shape
    (torch.Size([2, 2, 128, 3]), torch.Size([2, 2, 8, 7]))

    Every thing stands on the ground in a square of its own. Seven in ten road users drive or walk along their heading, at an even
    speed and, cars and cyclists, on an arc; the scanner does so too. Boxes and cylinders are met exactly, and flow is that of the
    rigid motions, applied to the measured points.

    Args:
        count: B.
        users: U, of all kinds at random.
        poles, walls: that stand still; poles are 4 metres high, walls 2.5 metres high and 5 metres long.
        scanner: by default 32 beams with 128 directions each.
        seconds: between the sweeps.
        generator: of everything that is drawn.
        dtype: of the result.

    Raises:
        ErlangenError: a count that is negative, more things than the street holds, or a time that is negative.
    """
    scanner = scanner or Scanner()
    check_sizes(beams=scanner.beams, azimuths=scanner.azimuths)
    cells = _cells(scanner.reach)
    things = users + poles + walls
    if count < 0 or min(users, poles, walls) < 0 or things > len(cells) or seconds < 0:
        raise ErlangenError(
            f"count = {count}, users = {users}, poles = {poles}, walls = {walls}, seconds = {seconds}: none is negative, and a "
            f"street of {scanner.reach} metres holds {len(cells)} things"
        )

    def even(low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    order = torch.rand(count, len(cells), generator=generator).argsort(1)[:, :things]
    middle = cells[order] + even(-0.2, 0.2, things, 2)
    yaw = even(-math.pi, math.pi, things)
    kind = torch.randint(len(ROAD_USERS), (count, users), generator=generator)
    low, high = SPEEDS[kind].unbind(-1)
    drives = torch.rand(count, users, generator=generator) < 0.7
    speed = torch.where(drives, even(low, high, users), 0.0)
    turn = torch.where(drives & (kind != 1), even(-0.3, 0.3, users), 0.0)
    own_speed, own_turn = even(0.0, 10.0), even(-0.1, 0.1)

    size = SIZES[kind]
    still = torch.tensor([[0.3, 0.3, 4.0]] * poles + [[5.0, 0.3, 2.5]] * walls, dtype=torch.float64).reshape(-1, 3)
    size = torch.cat([size, still.expand(count, -1, -1)], 1)
    rest = torch.zeros(count, things - users, dtype=torch.float64)
    speed, turn = torch.cat([speed, rest], 1), torch.cat([turn, rest], 1)
    at = torch.cat([middle, size[..., 2:] / 2], -1)
    placed = _placed(yaw, at)
    poses = [placed, placed @ _arc(speed, turn, seconds)]
    up = torch.tensor([0.0, 0.0, scanner.height], dtype=torch.float64).expand(count, 3)
    start = _placed(torch.zeros(count, dtype=torch.float64), up)
    scanners = [start, start @ _arc(own_speed, own_turn, seconds)]

    rays = scanner.directions()
    pos, known, user = [], [], []
    for pose, eye in zip(poses, scanners, strict=True):
        distance, thing = _measured(rays, eye, pose, size, users, kind)
        error = scanner.noise * standard_normal(distance.shape, generator)
        lost = torch.rand(distance.shape, generator=generator) < scanner.dropout
        there = (distance <= scanner.reach) & ~lost
        pos.append(torch.where(there[..., None], (distance + error)[..., None] * rays, 0.0))
        known.append(there)
        user.append(torch.where(there, thing, -1))
    back = [rigid_inverse(eye) for eye in scanners]
    boxes = [torch.cat([(b[:, None] @ p[:, :users])[..., :3, 3], size[:, :users], _yaw(b, p[:, :users])[..., None]], -1)
             for b, p in zip(back, poses, strict=True)]  # fmt: skip
    ego = back[1] @ scanners[0]
    rigid = back[1][:, None] @ poses[1][:, :users] @ rigid_inverse(poses[0][:, :users]) @ scanners[0][:, None]
    motions = torch.cat([rigid, ego[:, None]], 1)  # of users, and at index -1 of what stands still
    each = motions[torch.arange(count)[:, None], user[0]]
    then = (each[..., :3, :3] @ pos[0][..., None])[..., 0] + each[..., :3, 3]
    flow = torch.where(known[0][..., None], then - pos[0], 0.0)
    return Traffic(
        torch.stack(pos, 1).to(dtype), torch.stack(known, 1), torch.stack(user, 1), flow.to(dtype),
        torch.stack(boxes, 1).to(dtype), kind, ego.to(dtype),
    )  # fmt: skip


def _measured(rays: Tensor, eye: Tensor, pose: Tensor, size: Tensor, users: int, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Distances ``[B, R]`` without noise, and which road user returned, -1 for other things."""
    ways = rays @ eye[:, :3, :3].mT
    cast = Rays(eye[:, :3, 3], ways)
    # Pedestrians and poles are round. What is not of a shape is put far below the ground in its call.
    round_ = torch.cat([kind == 1, (size[:, users:, 1] == size[:, users:, 0])], 1)
    below = torch.eye(4, dtype=pose.dtype)
    below[2, 3] = -1e4
    boxes = cast_boxes(cast, size / 2, torch.where(round_[..., None, None], below, pose))
    tubes = cast_cylinders(
        cast, torch.stack([size[..., 0], size[..., 2]], -1) / 2, torch.where(round_[..., None, None], pose, below)
    )
    first = nearest_hits(boxes, tubes, counts=(size.shape[1], size.shape[1]))
    thing = torch.where(first.index >= 0, first.index % max(1, size.shape[1]), -1)
    ground = torch.where(ways[..., 2] < 0, -eye[:, None, 2, 3] / ways[..., 2], torch.inf)
    hidden = ground < first.distance
    thing = torch.where(hidden | (thing >= users), -1, thing)
    return torch.minimum(ground, first.distance), thing


def _cells(reach: float) -> Tensor:
    """Middles ``[C, 2]`` of the squares of the street that lie ahead within reach and clear of the scanner's own way."""
    x = torch.arange(6 + _CELL / 2, reach - _CELL, _CELL, dtype=torch.float64)
    y = torch.arange(-4, 5, dtype=torch.float64) * _CELL
    grid = torch.cartesian_prod(x, y)
    return grid[grid[:, 1].abs() <= grid[:, 0]]


def _arc(speed: Tensor, turn: Tensor, seconds: float) -> Tensor:
    """The motion ``[..., 4, 4]`` in its own axes of what drives ahead at a speed and turns at a rate."""
    angle = turn * seconds
    small = angle.abs() < 1e-6
    safe = torch.where(small, 1.0, turn)
    ahead = torch.where(small, seconds, angle.sin() / safe)
    aside = torch.where(small, angle * seconds / 2, (1 - angle.cos()) / safe)
    return _placed(angle, torch.stack([speed * ahead, speed * aside, torch.zeros_like(speed)], -1))


def _placed(yaw: Tensor, at: Tensor) -> Tensor:
    """The motion ``[..., 4, 4]`` from the axes of what stands at a place and looks along a yaw."""
    turn = SO(3).exp(torch.stack([torch.zeros_like(yaw), torch.zeros_like(yaw), yaw], -1))
    return rigid(turn, at)


def _yaw(pose: Tensor, placed: Tensor) -> Tensor:
    ahead = pose[:, None, :3, :3] @ placed[..., :3, :1]
    return torch.atan2(ahead[..., 1, 0], ahead[..., 0, 0])
