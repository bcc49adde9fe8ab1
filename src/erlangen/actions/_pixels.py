"""How pixels move: affine maps of the plane on grids, whole pixels where they land on pixels, interpolation elsewhere."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from erlangen.actions.base import broadcast_lead, count_used
from erlangen.errors import GroupElementError, first_index
from erlangen.groups import MAX_ENUMERATION, Group
from erlangen.tracing import is_traced

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Padding = Literal["zeros", "border", "circular"]

ON_GRID = 1e-4
"""Distance in pixels under which a source position counts as a pixel centre (float32 coordinates are good to 1e-5)."""


def plane_map(group: Group, g: Tensor) -> tuple[Tensor, Tensor]:
    """Linear part ``[..., 2, 2]`` and translation ``[..., 2]`` in float64, whatever the dtype of g."""
    g = g.double() if g.is_floating_point() else g
    linear = group.linear(g, dtype=torch.float64)
    shift = group.translation(g, dtype=torch.float64)
    return linear, linear.new_zeros(linear.shape[:-1]) if shift is None else shift


GridKind = Literal["none", "square", "other"]


def grid_kind(group: Group) -> GridKind:
    """What a finite group does to the grid of whole pixels around the middle.

    "square": quarter turns and flips alone, which permute the pixels of every square. "other": matrices of integers, such
    as those of a hexagonal lattice, whose pictures depend on the shape. "none": the group resamples, or is infinite. The
    group keeps the answer.
    """
    known: GridKind | None = getattr(group, "_grid_kind", None)
    if known is None:
        known = _find_grid_kind(group)
        group._grid_kind = known  # pyright: ignore[reportAttributeAccessIssue] - a note of this module alone
    return known


def _find_grid_kind(group: Group) -> GridKind:
    if group.order == math.inf or group.order > MAX_ENUMERATION:
        return "none"
    linear, shift = plane_map(group, group.elements())
    if bool(((linear - linear.round()).abs() > 1e-9).any()) or bool(((shift - shift.round()).abs() > 1e-9).any()):
        return "none"
    signed = bool((linear.round().abs().sum(-1) == 1).all())
    return "square" if signed and not bool(shift.any()) else "other"


def maps_grid(linear: Tensor, shift: Tensor, height: int, width: int, padding: Padding) -> Tensor:
    """Which maps permute the H x W pixels, of a torus with circular padding: ``[...]`` booleans."""
    integral = on_grid(linear, shift, height, width)
    if padding == "circular":
        # Around the torus once must lead around it a whole number of times; a determinant of one does the rest.
        inverse = _inverse(linear).round()
        return integral & (inverse[..., 0, 1] * height % width == 0) & (inverse[..., 1, 0] * width % height == 0)
    # A parallelogram of as many pixels as the picture, with all four corners in it, is the picture.
    columns, rows = source_of(linear, shift, height, width, corners=True)
    inside = (columns > -ON_GRID) & (columns < width - 1 + ON_GRID) & (rows > -ON_GRID) & (rows < height - 1 + ON_GRID)
    return integral & inside.flatten(-2).all(-1)


def on_grid(linear: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Which maps send pixel centres to pixel centres one to one: ``[...]`` booleans."""
    inverse = _inverse(linear)
    integral = ((inverse - inverse.round()).abs() * max(height, width) < ON_GRID).flatten(-2).all(-1)
    volume = (_determinant(inverse).abs() - 1).abs() < ON_GRID
    corners = torch.stack(source_of(linear, shift, height, width, corners=True), -1).flatten(-3)
    return integral & volume & ((corners - corners.round()).abs() < ON_GRID).all(-1)


def _determinant(linear: Tensor) -> Tensor:
    return linear[..., 0, 0] * linear[..., 1, 1] - linear[..., 0, 1] * linear[..., 1, 0]


def _inverse(linear: Tensor) -> Tensor:
    """Inverses of ``[..., 2, 2]``, in operations that every runtime of exported models has; 0 and 1 stay exact.

    Raises:
        GroupElementError: a matrix is singular (not in a compiler).
    """
    determinant = _determinant(linear)
    if not is_traced() and bool((determinant == 0).any()):
        index = first_index(determinant == 0)
        raise GroupElementError(
            f"g{list(index) if index else ''} is singular and moves no picture: {linear[index].tolist()}"
        )
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
    return torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2) / determinant[..., None, None] + 0.0


def source_of(
    linear: Tensor, shift: Tensor, height: int, width: int, *, corners: bool = False
) -> tuple[Tensor, Tensor]:
    """Column and row (float64 ``[..., H, W]``) from which each pixel of the result reads; ``[..., 2, 2]`` of the corners."""
    inverse = _inverse(linear)
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    row_step, column_step = (max(height - 1, 1), max(width - 1, 1)) if corners else (1, 1)
    y = middle_row - torch.arange(0, height, row_step, dtype=linear.dtype, device=linear.device)
    x = torch.arange(0, width, column_step, dtype=linear.dtype, device=linear.device) - middle_column
    xs = x - shift[..., 0, None]
    ys = y - shift[..., 1, None]

    def coordinate(i: int) -> Tensor:
        return inverse[..., i, 0, None, None] * xs[..., None, :] + inverse[..., i, 1, None, None] * ys[..., :, None]

    return coordinate(0) + middle_column, middle_row - coordinate(1)


def warp(
    x: Tensor,
    linear: Tensor,
    shift: Tensor,
    interpolation: Interpolation,
    padding: Padding,
    kind: GridKind = "none",
) -> Tensor:
    """Move or resample x ``[*lead, ..., H, W]`` by one affine map per leading index, of a group of some `grid_kind`."""
    full = linear.ndim - 2
    lead = broadcast_lead(linear.shape[:-2], x.shape[:full])
    used = count_used(linear.shape[:-2])  # one sampling grid serves all the data of one element
    linear, shift = linear.reshape(*linear.shape[:used], 2, 2), shift.reshape(*shift.shape[:used], 2)
    target = broadcast_lead(linear.shape[:used], x.shape[:used])
    shape = (*target, *x.shape[used:])
    height, width = x.shape[-2:]
    flat = x.expand(shape).reshape(math.prod(target), math.prod(x.shape[used:-2]), height, width)
    linear = linear.expand(*target, 2, 2).reshape(-1, 2, 2)
    shift = shift.expand(*target, 2).reshape(-1, 2)
    if torch.compiler.is_compiling():
        return _traced_warp(flat, linear, shift, interpolation, padding, kind).reshape(*lead, *x.shape[full:])
    exact = on_grid(linear, shift, height, width)
    if bool(exact.all()):
        out = _move(flat, linear, shift, interpolation, padding)
    elif not bool(exact.any()):
        out = _resample(flat, linear, shift, interpolation, padding)
    else:
        out = torch.empty_like(flat)
        out[exact] = _move(flat[exact], linear[exact], shift[exact], interpolation, padding)
        out[~exact] = _resample(flat[~exact], linear[~exact], shift[~exact], interpolation, padding)
    return out.reshape(*lead, *x.shape[full:])


def _traced_warp(
    x: Tensor, linear: Tensor, shift: Tensor, interpolation: Interpolation, padding: Padding, kind: GridKind
) -> Tensor:
    """The same for compilers, which cannot choose by values: groups that only move pixels do, all others take both roads."""
    moved = _move(x, linear, shift, interpolation, padding)
    if kind != "none":
        return moved
    exact = on_grid(linear, shift, *x.shape[-2:])
    return torch.where(exact[:, None, None, None], moved, _resample(x, linear, shift, interpolation, padding))


def _move(x: Tensor, linear: Tensor, shift: Tensor, interpolation: Interpolation, padding: Padding) -> Tensor:
    """Bit-exact warp of x ``[L, C, H, W]`` for maps between pixel centres.

    Interpolation has a kink at a pixel centre, so the derivative by the element is that of central differences, the mean
    of the slopes on both sides; "nearest" is flat and has none.
    """
    places = source_of(linear, shift, *x.shape[-2:])
    columns, rows = (c.detach().round().long().to(x.device) for c in places)
    out = _pick(x, columns, rows, padding)
    if interpolation == "nearest" or not any(_is_differentiated(c) for c in places):
        return out
    across = _pick(x, columns + 1, rows, padding) - _pick(x, columns - 1, rows, padding)
    down = _pick(x, columns, rows + 1, padding) - _pick(x, columns, rows - 1, padding)
    dx, dy = ((c - c.detach()).to(x)[:, None] / 2 for c in places)  # zero, with the derivative of the position
    return out + (dx * across + dy * down)


def _pick(x: Tensor, columns: Tensor, rows: Tensor, padding: Padding) -> Tensor:
    """Pixels of x ``[L, C, H, W]`` at positions ``[L, H, W]``, also outside of the picture."""
    height, width = x.shape[-2:]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if padding == "circular":
        columns, rows = columns % width, rows % height
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    out = torch.gather(x.flatten(-2), -1, index.flatten(-2)[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)
    return torch.where(inside[:, None], out, out.new_zeros(())) if padding == "zeros" else out


def _is_differentiated(position: Tensor) -> bool:
    """Whether reverse or forward mode follows a tensor; under `torch.func` it may be an outer level, so always."""
    if torch.compiler.is_exporting():
        return position.requires_grad
    return is_traced() or position.requires_grad or forward_ad.unpack_dual(position).tangent is not None


def _resample(x: Tensor, linear: Tensor, shift: Tensor, interpolation: Interpolation, padding: Padding) -> Tensor:
    """Interpolated warp of x ``[L, C, H, W]``."""
    columns, rows = source_of(linear, shift, *x.shape[-2:])
    if padding == "circular":
        columns, rows = columns % x.shape[-1] + 2, rows % x.shape[-2] + 2
        x = F.pad(x, (2, 2, 2, 2), mode="circular")  # two pixels: what bicubic reads around a position
    height, width = x.shape[-2:]
    grid = torch.stack((2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1), -1).to(x)
    mode = "zeros" if padding == "zeros" else "border"
    return F.grid_sample(x, grid, mode=interpolation, padding_mode=mode, align_corners=True)
