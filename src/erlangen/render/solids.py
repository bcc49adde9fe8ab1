"""Rays against boxes and cylinders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, first_index
from erlangen.geometry import Rays
from erlangen.render.hits import Hits, checked_rays, plane_hits

_BLOCK = 2**17
"""Pairs of rays and solids that are looked at together."""

SIDE = 2
"""What a ray meets of a cylinder: 0 the cap that it comes to first, 1 the other one, 2 and 3 its side, from outside or inside."""


def cast_boxes(rays: Rays, half: Tensor, pose: Tensor | None = None) -> Hits:
    """Rays against boxes, solid for rays that come from outside, rooms for those from inside.

    >>> ray = Rays(torch.tensor([-5.0, 0.0, 0.0]), torch.tensor([[1.0, 0.0, 0.0]]))
    >>> cast_boxes(ray, torch.tensor([[1.0, 2.0, 3.0]]))
    Hits(distance=tensor([4.]), normal=tensor([[-1.,  0.,  0.]]), index=tensor([0]))

    Args:
        rays: see `erlangen.render`.
        half: half sides ``[..., S, 3]``, positive.
        pose: from the axes of the box to the world, elements ``[..., S, 4, 4]`` of E(3); axes of the world without it.

    Raises:
        ShapeError, DtypeError, NotFiniteError: other shapes, integers, NaN.
        ErlangenError: a side or a direction that is zero.
    """
    origin, direction, sizes, axes, place = _checked(rays, half, 3, "half", pose)

    def look(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        near, far = _slabs(o, d, sizes[..., None, :, :].detach())
        enter, exit_ = near.max(-1), far.min(-1)
        inside = enter.values <= 0
        distance = torch.where(inside, exit_.values, enter.values)
        missed = (enter.values > exit_.values) | (exit_.values <= 0)
        # 0 to 2: the first face across this axis; 3 to 5: the other one.
        face = torch.where(inside, 3 + exit_.indices, enter.indices)
        return distance.masked_fill(missed, torch.inf), face

    index, face = _nearest(origin, direction, axes, place, look)
    R, position, half_sides = _chosen(index, axes, place, sizes)
    axis = face % 3
    normal = R.gather(-1, axis[..., None, None].expand(*axis.shape, 3, 1))[..., 0]
    ahead = torch.where((direction * normal).sum(-1) < 0, -1.0, 1.0).to(normal)
    side = torch.where(face < 3, -ahead, ahead) * half_sides.gather(-1, axis[..., None])[..., 0]
    return plane_hits(origin, direction, position + side[..., None] * normal, normal, index)


def cast_cylinders(rays: Rays, size: Tensor, pose: Tensor | None = None) -> Hits:
    """Rays against closed cylinders along their z axis.

    >>> ray = Rays(torch.tensor([-5.0, 0.0, 0.5]), torch.tensor([[2.0, 0.0, 0.0]]))
    >>> cast_cylinders(ray, torch.tensor([[1.0, 3.0]]))
    Hits(distance=tensor([2.]), normal=tensor([[-1.,  0.,  0.]]), index=tensor([0]))

    Args:
        rays: see `erlangen.render`.
        size: radius and half length ``[..., S, 2]``, positive.
        pose: as for `cast_boxes`.

    Raises:
        What `cast_boxes` raises.
    """
    origin, direction, sizes, axes, place = _checked(rays, size, 2, "size", pose)

    def look(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        radius, half = sizes[..., None, :, 0].detach(), sizes[..., None, :, 1:].detach()
        low, high = (t[..., 0] for t in _slabs(o[..., 2:], d[..., 2:], half))
        first, last = _roots(o, d, radius)
        enter, leave = torch.maximum(low, first), torch.minimum(high, last)
        inside = enter <= 0
        missed = (enter > leave) | (leave <= 0)
        face = torch.where(inside, torch.where(last < high, 3, 1), torch.where(first > low, 2, 0))
        return torch.where(inside, leave, enter).masked_fill(missed, torch.inf), face

    index, face = _nearest(origin, direction, axes, place, look)
    R, position, extent = _chosen(index, axes, place, sizes)
    up = R[..., 2]
    ahead = torch.where((direction * up).sum(-1) < 0, -1.0, 1.0).to(up)
    side = torch.where(face == 0, -ahead, ahead) * extent[..., 1]
    caps = plane_hits(origin, direction, position + side[..., None] * up, up, index)
    round_ = (face >= SIDE) & (index >= 0)
    if not bool(round_.any()):
        return caps
    o, d = (((t[..., None, :]) @ R)[..., 0, :] for t in (origin - position, direction))
    # A point on the axis of a ray that meets no side stands in, so that no root is taken where there is none.
    safe_o = torch.where(round_[..., None], o, torch.zeros_like(o))
    safe_d = torch.where(round_[..., None], d, torch.ones_like(d))
    first, last = _roots(safe_o, safe_d, torch.where(round_, extent[..., 0], 1.0))
    distance = torch.where(face == SIDE, first, last)
    flat = (safe_o + distance[..., None] * safe_d)[..., :2] / torch.where(round_, extent[..., 0], 1.0)[..., None]
    outward = (R[..., :2] @ flat[..., None])[..., 0]
    outward = outward / torch.linalg.vector_norm(outward, dim=-1, keepdim=True)
    against = torch.where(face == SIDE, 1.0, -1.0).to(outward)[..., None] * outward
    return Hits(
        torch.where(round_, distance, caps.distance), torch.where(round_[..., None], against, caps.normal), index
    )


def _slabs(o: Tensor, d: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave ``|x| <= half``, axis by axis."""
    parallel = d == 0
    rate = torch.where(parallel, 1.0, d)
    reach = half * rate.sign()
    near, far = (-reach - o) / rate, (reach - o) / rate
    out = o.abs() > half
    infinite = torch.full_like(near, torch.inf)
    return (
        torch.where(parallel, torch.where(out, infinite, -infinite), near),
        torch.where(parallel, torch.where(out, -infinite, infinite), far),
    )


def _roots(o: Tensor, d: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave ``x^2 + y^2 <= radius^2``; an empty interval where they do not."""
    a = d[..., 0].square() + d[..., 1].square()
    b = o[..., 0] * d[..., 0] + o[..., 1] * d[..., 1]
    c = o[..., 0].square() + o[..., 1].square() - radius.square()
    # b^2 - a c, without the cancellation: the moment about the axis against the radius.
    rest = a * radius.square() - (o[..., 0] * d[..., 1] - o[..., 1] * d[..., 0]).square()
    parallel, empty = a == 0, rest <= 0
    root = torch.where(empty, 1.0, rest).sqrt()
    q = -(b + torch.where(b < 0, -root, root))
    one, two = q / torch.where(parallel, 1.0, a), c / torch.where(q == 0, 1.0, q)
    first, last = torch.minimum(one, two), torch.maximum(one, two)
    infinite = torch.full_like(first, torch.inf)
    along = torch.where(c <= 0, infinite, -infinite)
    first = torch.where(parallel, -along, torch.where(empty, infinite, first))
    return first, torch.where(parallel, along, torch.where(empty, -infinite, last))


def _nearest(
    origin: Tensor,
    direction: Tensor,
    axes: Tensor,
    place: Tensor,
    look: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """The nearest solid on each ray, int64 ``[*batch, R]`` or -1, and what of it is met, without gradients.

    `look` gets rays in the axes of each solid, ``[*batch, r, S, 3]``, and says how far it is and what is met, ``[*batch, r, S]``.
    """
    batch, (R, S) = axes.shape[:-3], (direction.shape[-2], axes.shape[-3])
    index = torch.full((*batch, R), -1, device=direction.device)
    face = torch.zeros_like(index)
    if not S:
        return index, face
    block = max(1, _BLOCK // max(1, S * batch.numel()))
    with torch.no_grad():
        wide = axes.transpose(-3, -2).reshape(*batch, 3, S * 3)
        for low in range(0, R, block):
            part = slice(low, low + block)
            o = origin if origin.shape[-2] == 1 else origin[..., part, :]
            moved = ((o[..., None, :] - place[..., None, :, :])[..., None, :] @ axes[..., None, :, :, :])[..., 0, :]
            turned = (direction[..., part, :] @ wide).unflatten(-1, (S, 3))
            distance, met = look(moved, turned)
            distance, index[..., part] = distance.min(-1)
            face[..., part] = met.gather(-1, index[..., part, None])[..., 0]
            index[..., part].masked_fill_(distance == torch.inf, -1)
    return index, face


def _chosen(index: Tensor, axes: Tensor, place: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Axes ``[*batch, R, 3, 3]``, positions and sizes of the solid on each ray; of any where there is none."""
    row = index.clamp(min=0)
    if not axes.shape[-3]:
        eye = torch.eye(3, dtype=axes.dtype, device=axes.device).expand(*index.shape, 3, 3)
        return eye, place.new_zeros(*index.shape, 3), sizes.new_ones(*index.shape, sizes.shape[-1])
    R = axes.flatten(-2).gather(-2, row[..., None].expand(*row.shape, 9)).unflatten(-1, (3, 3))
    found = (t.gather(-2, row[..., None].expand(*row.shape, t.shape[-1])) for t in (place, sizes))
    position, extent = found
    return R, position, extent


def _checked(
    rays: Rays, sizes: Tensor, columns: int, name: str, pose: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Origins, directions, sizes, axes and places in one batch."""
    origin, direction = checked_rays(rays)
    if sizes.ndim < 2 or sizes.shape[-1] != columns:
        raise ShapeError(f"{name} has shape {tuple(sizes.shape)}; give [..., S, {columns}]")
    check_floating(sizes, name)
    check_finite(sizes, name)
    if bool((sizes <= 0).any()):
        index = first_index(sizes <= 0)
        raise ErlangenError(
            f"{name}{list(index)} = {float(sizes[index]):.4g}; give positive sizes, and leave out what has none"
        )
    count = sizes.shape[-2]
    pose = torch.eye(4).to(sizes).expand(count, 4, 4) if pose is None else pose
    if pose.ndim < 3 or pose.shape[-3:] != (count, 4, 4):
        raise ShapeError(f"pose has shape {tuple(pose.shape)}; give one for each solid, [..., {count}, 4, 4]")
    check_finite(pose, "pose")
    batch = torch.broadcast_shapes(origin.shape[:-2], direction.shape[:-2], sizes.shape[:-2], pose.shape[:-3])
    pose = pose.to(direction).expand(*batch, count, 4, 4)
    return (
        origin.to(direction).expand(*batch, *origin.shape[-2:]),
        direction.expand(*batch, *direction.shape[-2:]),
        sizes.to(direction).expand(*batch, count, columns),
        pose[..., :3, :3],
        pose[..., :3, 3],
    )
