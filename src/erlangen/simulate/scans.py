"""Pairs of scans that show a part of a cloud each, moved against each other, with a known overlap and motion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, check_integer
from erlangen.groups import SE, SO
from erlangen.groups.rotations import standard_normal


@dataclass(frozen=True)
class ScanPairs:
    """What `partial_scans` gives.

    Attributes:
        source, target: ``[B, n, 3]``; no point of the cloud is in both.
        motion: ``[B, 4, 4]``, elements of SE(3) that bring the source onto the target.
        overlap: ``[B]``, the share of each scan that lies where the other one looked.
        seen: bool ``[B, 2, n]``, which points of the source and of the target that are.
    """

    source: Tensor
    target: Tensor
    motion: Tensor
    overlap: Tensor
    seen: Tensor


def partial_scans(
    pos: Tensor,
    points: int,
    *,
    overlap: tuple[float, float] = (0.3, 0.8),
    noise: float = 0.0,
    turned: bool = True,
    reach: float = 1.0,
    generator: Generator | None = None,
) -> ScanPairs:
    """Two scans of each cloud: what lies below a plane, and what lies above another one.

    >>> from erlangen.simulate import room_clouds
    >>> rooms = room_clouds(2, 2000, generator=torch.Generator().manual_seed(0))
    >>> pairs = partial_scans(rooms.pos, 200, overlap=(0.5, 0.5), generator=torch.Generator().manual_seed(1))
    >>> pairs.source.shape, pairs.overlap.tolist()
    (torch.Size([2, 200, 3]), [0.5, 0.5])

    The planes are parallel, in a direction at random, and each keeps the share ``1 / (2 - overlap)`` of the cloud. The scans
    draw from the two halves of a random partition of the cloud, as two scanners do that never measure one spot twice.

    Args:
        pos: clouds ``[B, N, 3]``.
        points: n, of each scan.
        overlap: least and largest share, of which one is drawn for each pair; in (0, 1].
        noise: standard deviation of the places, in units of the points.
        turned: move the target by a rotation from Haar measure about the origin; by the identity without it.
        reach: it is shifted by a normal vector of this standard deviation as well.
        generator: of everything that is drawn.

    Raises:
        ShapeError, DtypeError, NotFiniteError: clouds of another form.
        ErlangenError: a number out of range, or fewer than 4 n points in a cloud.
    """
    check_floating(pos, "pos")
    if pos.ndim != 3 or pos.shape[-1] != 3:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; give clouds [B, N, 3]")
    check_finite(pos, "pos")
    check_integer("points", points, 1)
    low, high = overlap
    if not 0 < low <= high <= 1 or noise < 0 or reach < 0:
        raise ErlangenError(
            f"overlap = {overlap}, noise = {noise}, reach = {reach}; overlaps lie in (0, 1], the others are not negative"
        )
    count, total = pos.shape[:2]
    if total < 4 * points:
        raise ErlangenError(f"pos has {total} points in a cloud; scans of {points} need at least {4 * points}")
    share = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
    kept = 1 / (2 - share)
    way = torch.nn.functional.normalize(standard_normal((count, 3), generator), dim=-1)
    along = (pos.double() @ way[..., None])[..., 0]
    mixed = torch.rand(count, total, generator=generator).argsort(1)
    halves = mixed[:, : total // 2], mixed[:, total // 2 :]
    scans: list[Tensor] = []
    seen: list[Tensor] = []
    for half, above in zip(halves, (False, True), strict=True):
        # Places along the direction, as shares of the half: so the kept share holds enough points whatever was drawn.
        place = along.gather(1, half).argsort(1, descending=above).argsort(1).double().add(0.5) / half.shape[1]
        inside = place <= kept[:, None]
        chosen = (~inside).byte().argsort(stable=True, dim=1)[:, :points]  # the order is random already
        scans.append(pos.double().gather(1, half.gather(1, chosen)[..., None].expand(-1, -1, 3)))
        seen.append(place.gather(1, chosen) > 1 - kept[:, None])
    group = SE(3)
    turn = SO(3).sample(count, generator=generator, dtype=torch.float64)
    turn = turn if turned else torch.eye(3, dtype=torch.float64).expand(count, 3, 3)
    motion = group.join(turn, reach * standard_normal((count, 3), generator))
    source, target = (scan + noise * standard_normal(scan.shape, generator) for scan in scans)
    target = target @ turn.mT + group.translation(motion)[:, None]
    return ScanPairs(source.to(pos), target.to(pos), motion.to(pos), share.to(pos), torch.stack(seen, 1))
