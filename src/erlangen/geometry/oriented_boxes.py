"""Boxes that stand on the ground and turn about the vertical: corners, and how much two of them share."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import DataError, ShapeError, check_floating

__all__ = ["box_corners", "oriented_iou"]

CLOSE = 1e-9
"""Edges whose directions and distance differ by less, in their lengths, lie on one line."""


def box_corners(boxes: Tensor) -> Tensor:
    """Corners ``[..., 4, 2]`` of rectangles ``[..., 5]``, or ``[..., 8, 3]`` of boxes ``[..., 7]``.

    >>> box_corners(torch.tensor([1.0, 0.0, 4.0, 2.0, 0.0])).tolist()
    [[3.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [3.0, -1.0]]

    Args:
        boxes: rectangles as (x, y, length, width, yaw), boxes as (x, y, z, length, width, height, yaw): the middle, sizes
            along and across the heading, and the angle in radians from the x axis to the heading, counter-clockwise.

    Returns:
        Counter-clockwise from the front left; of a box the lower four before the upper four.

    Raises:
        ShapeError, DtypeError: of another form.
    """
    flat, middle, half = _parts(boxes, "boxes")
    sign = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=boxes.dtype, device=boxes.device)
    c, s = flat[..., 4].cos(), flat[..., 4].sin()
    turn = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2)  # of rows
    corners = flat[..., None, :2] + (sign * flat[..., None, 2:4] / 2) @ turn
    if half is None or middle is None:
        return corners
    levels = torch.stack([middle - half, middle + half], -1)[..., None, None].expand(*boxes.shape[:-1], 2, 4, 1)
    both = torch.cat([corners[..., None, :, :].expand(*boxes.shape[:-1], 2, 4, 2), levels], -1)
    return both.flatten(-3, -2)


def oriented_iou(a: Tensor, b: Tensor) -> Tensor:
    """Shared area over joint area of rectangles, or volumes of boxes: ``[...]``, in [0, 1]; differentiable.

    >>> cross = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0], [0.0, 0.0, 4.0, 2.0, torch.pi / 2]])
    >>> round(float(oriented_iou(cross[0], cross[1])), 6)  # 4 of 12
    0.333333

    The area is half the integral of x dy - y dx along the border of what is shared: the stretches of either rectangle's edges
    that lie in the other. Headings that differ by half a turn are the same box.

    Args:
        a, b: as in `box_corners`, in shapes that broadcast: ``a[:, None], b[None]`` for all pairs.

    Returns:
        In the dtype of the inputs; the arithmetic is in float64.

    Raises:
        ShapeError, DtypeError: of another form, or one of each kind.
        DataError: a size that is not positive.
    """
    if a.shape[-1:] != b.shape[-1:]:
        raise ShapeError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; give both [..., 5] or both [..., 7]")
    dtype = torch.promote_types(a.dtype, b.dtype)
    check_floating(a, "a")
    check_floating(b, "b")
    p, low, half_p = _parts(a.double(), "a")
    q, other, half_q = _parts(b.double(), "b")
    for sizes, name in ((p[..., 2:4], "a"), (q[..., 2:4], "b")):
        if not bool((sizes > 0).all()):
            raise DataError(f"{name} has a length or width that is not positive")
    both = torch.broadcast_tensors(p, q)
    # About the middle of a, so that a place far from the origin costs no digits.
    origin = torch.cat([both[0][..., :2], torch.zeros_like(both[0][..., :3])], -1)
    corners = [box_corners(x - origin) for x in both]
    shared = (_border(corners[0], corners[1], own=True) + _border(corners[1], corners[0], own=False)).clamp_min(0)
    each = [x[..., 2] * x[..., 3] for x in both]
    if low is not None and other is not None and half_p is not None and half_q is not None:
        for h, name in ((half_p, "a"), (half_q, "b")):
            if not bool((h > 0).all()):
                raise DataError(f"{name} has a height that is not positive")
        overlap = torch.minimum(low + half_p, other + half_q) - torch.maximum(low - half_p, other - half_q)
        shared = shared * overlap.clamp_min(0)
        each = [each[0] * 2 * half_p, each[1] * 2 * half_q]
    return (shared / (each[0] + each[1] - shared)).to(dtype)


def _border(inner: Tensor, outer: Tensor, *, own: bool) -> Tensor:
    """Half the integral of x dy - y dx along what of the edges of `inner` lies in `outer`.

    Edges on a common line, up to 1e-9 of their length, are edges of what is shared if both run the same way, and then belong to
    the rectangle that is called with `own`.
    """
    start, step = inner, inner.roll(-1, -2) - inner
    side = outer.roll(-1, -2) - outer
    way = side / side.norm(dim=-1, keepdim=True)
    normal = torch.stack([-way[..., 1], way[..., 0]], -1)  # inwards
    # Distance of the start of each edge to each side, and how it changes along the edge: [..., edges, sides].
    at = ((start[..., :, None, :] - outer[..., None, :, :]) * normal[..., None, :, :]).sum(-1)
    change = (step[..., :, None, :] * normal[..., None, :, :]).sum(-1)
    length = step.norm(dim=-1)[..., None]
    flat = change.abs() <= CLOSE * length
    same_way = (step[..., :, None, :] * way[..., None, :, :]).sum(-1) > 0
    reach = torch.where(same_way & own, -CLOSE, CLOSE) * length
    cut = -at / torch.where(flat, 1.0, change)
    first = torch.where(~flat & (change > 0), cut, -torch.inf).amax(-1).clamp_min(0)
    last = torch.where(~flat & (change < 0), cut, torch.inf).amin(-1).clamp_max(1)
    gone = (flat & (at < reach)).any(-1) | (first >= last)
    first, last = (torch.where(gone, 0.0, t)[..., None] for t in (first, last))
    begin, end = start + first * step, start + last * step
    return (begin[..., 0] * end[..., 1] - begin[..., 1] * end[..., 0]).sum(-1) / 2


def _parts(boxes: Tensor, name: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The rectangle ``[..., 5]``, and for boxes the height of the middle and half the height."""
    check_floating(boxes, name)
    if boxes.shape[-1:] == (5,):
        return boxes, None, None
    if boxes.shape[-1:] == (7,):
        return boxes[..., [0, 1, 3, 4, 6]], boxes[..., 2], boxes[..., 5] / 2
    raise ShapeError(f"{name} has shape {tuple(boxes.shape)}; give [..., 5] or [..., 7], see box_corners")
