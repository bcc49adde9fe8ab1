"""Groups of the plane on pixel grids: scalar images and vector fields.

Geometry: x to the right, y up, the origin in the middle of the image, lengths in pixels; a rotation by a positive angle
turns the picture counterclockwise, as ``torch.rot90`` does. Quarter turns, flips and integer translations only move
pixels, bit by bit, with the derivative by the element that the interpolation has; where they map the H x W pixels onto
themselves (quarter turns of squares, half turns and flips of any picture, integer translations of a torus) they are exact:
nothing is lost. Every other element resamples with the declared interpolation, and `Image.mask` says which pixels of the
result are known.

Finite groups of quarter turns and flips (`Cyclic(4)`, `Dihedral(4)`) are exact or refused: a quarter turn of a rectangle
has another shape, so it raises `ActionError`. A rotation of `SO(2)` by the same angle is resampled and cut like its others.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from typing_extensions import override

from erlangen.actions.base import Action, Tree, broadcast_lead, check_tensor, count_used, expand_mask, lead_view
from erlangen.actions.discrete import Rolled
from erlangen.errors import ActionError, GroupElementError, LayoutWarning, ShapeError, first_index
from erlangen.groups import MAX_ENUMERATION, Group, Shifts
from erlangen.tracing import is_traced

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Padding = Literal["zeros", "border", "circular"]

ON_GRID = 1e-4
"""Distance in pixels under which a source position counts as a pixel centre (float32 coordinates are good to 1e-5)."""


@dataclass(frozen=True)
class Image(Action):
    """Images ``[..., H, W]`` (channels first), every channel moved alike.

    A `LayoutWarning` tells where the shape looks like ``[..., H, W, C]``.

    Args:
        interpolation: how values between pixels are read: "nearest", "bilinear" or "bicubic".
        padding: what lies outside: "zeros", "border" (the nearest pixel) or "circular" (a torus).
        channels: "last" for images ``[..., H, W, C]``, as TensorFlow, JAX and image files have them.
    """

    interpolation: Interpolation = "bilinear"
    padding: Padding = "zeros"
    channels: Literal["first", "last"] = "first"

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Height and width, and the channels behind them."""
        return 2 if self.channels == "first" else 3

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("interpolation", self.interpolation, ("nearest", "bilinear", "bicubic")),
            ("padding", self.padding, ("zeros", "border", "circular")),
            ("channels", self.channels, ("first", "last")),
        ):
            if value not in allowed:
                raise ActionError(f"{key} = {value!r}: choose one of {', '.join(allowed)}")

    @property
    @override
    def name(self) -> str:
        return _name("image", self.interpolation, self.padding, channels=self.channels)

    def _first(self) -> Image:
        """The same for channels first."""
        return Image(self.interpolation, self.padding)

    def check_group(self, group: Group) -> None:
        """The group must act on the plane."""
        if group.space_dim == 2:
            grid_kind(group)  # known from here on, also to compilers, which cannot read the elements
        else:
            raise ActionError(
                f"{self.name}: {group.name} acts on R^{group.space_dim}, an image needs a group of the plane such as "
                "SO(2), Cyclic(4), Dihedral(4), SE(2), Translation(2), Scaling(2) or Shifts(H, W)"
            )

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move pixels where that is exact, resample elsewhere."""
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim)
        if self.channels == "last":
            # A width of 3 is what the channels become, and no sign of another order.
            return self._first()._moved(group, g, x.movedim(-1, -3)).movedim(-3, -1)
        _tell_layout(x, lead)
        return self._moved(group, g, x)

    def _moved(self, group: Group, g: Tensor, x: Tensor) -> Tensor:
        if isinstance(group, Shifts):
            return Rolled().apply(group, g, x)
        linear, shift = plane_map(group, g)
        self._check_shape(group, linear, shift, *x.shape[-2:])
        return _warp(x, linear, shift, self.interpolation, self.padding, grid_kind(group))

    def _check_shape(self, group: Group, linear: Tensor, shift: Tensor, height: int, width: int) -> None:
        """Refuse what leaves the grid under a group that only moves pixels; not in a compiler, which sees no values."""
        if torch.compiler.is_compiling():
            return
        kind = grid_kind(group)
        if kind == "none" or (kind == "square" and height == width):
            return
        bad = ~maps_grid(linear, shift, height, width, self.padding)
        if bool(bad.any()):
            index = first_index(bad)
            raise ActionError(
                f"{self.name}: g{list(index) if index else ''} of {group.name} does not map a picture of H = {height} and "
                f"W = {width} pixels onto itself; crop or pad it to a square, or use Cyclic(2) or Dihedral(2), which keep "
                "rectangles"
            )

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Elements that permute the H x W pixels: quarter turns of squares, half turns, flips, translations of a torus."""
        if isinstance(group, Shifts):
            return super().is_exact(group, g, x)
        if self.channels == "last":
            return self._first().is_exact(group, g, x.movedim(-1, -3))
        linear, shift = plane_map(group, g)
        height, width = x.shape[-2:]
        return maps_grid(linear, shift, height, width, self.padding)

    @override
    def resamples(self, group: Group) -> bool:
        return not isinstance(group, Shifts) and grid_kind(group) == "none"

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        """Boolean ``[*batch of g, 1..., H, W]``: pixels whose value was read from inside the image."""
        if isinstance(group, Shifts) or self.padding == "circular":
            return None
        if self.channels == "last":
            known = self._first().mask(group, g, x.movedim(-1, -3))
            return None if known is None else known.movedim(-3, -1)
        linear, shift = plane_map(group, g)
        height, width = x.shape[-2:]
        columns, rows = _source(linear, shift, height, width)
        inside = self._inside(columns, width) & self._inside(rows, height)
        return lead_view(inside, inside.ndim - 2, x)

    def _inside(self, at: Tensor, size: int) -> Tensor:
        """Which positions along one axis are read from its pixels alone; between two, "bicubic" reads two to each side."""
        inside = (at >= -ON_GRID) & (at <= size - 1 + ON_GRID)
        if self.interpolation == "bicubic":
            inside &= ((at >= 1 - ON_GRID) & (at <= size - 2 + ON_GRID)) | ((at - at.round()).abs() <= ON_GRID)
        return inside

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        full = expand_mask(group, g, known, x)
        if self.channels == "last":
            return self._first().move_mask(group, g, full.movedim(-1, -3), x.movedim(-1, -3)).movedim(-3, -1)
        if isinstance(group, Shifts):
            return Rolled().apply(group, g, full)
        linear, shift = plane_map(group, g)
        if self.interpolation == "bicubic" and not bool(on_grid(linear, shift, *x.shape[-2:]).all()):
            # It reads one pixel further to each side than bilinear interpolation.
            unknown = F.max_pool2d((~full).to(torch.float32).flatten(0, -3)[:, None], 3, 1, 1)
            full = (unknown[:, 0] == 0).reshape(full.shape)
        return _warp(full.to(torch.float64), linear, shift, "bilinear", self.padding) > 1 - ON_GRID


@dataclass(frozen=True)
class Field(Action):
    """Vector fields on a pixel grid ``[..., 2, H, W]``: positions are resampled and the vectors turn with them.

    Args:
        interpolation, padding: as for `Image`.
        components: "up" if the channels are (x to the right, y up); "down" if the second one grows downwards, the
            convention of optical flow and of array indices.
    """

    interpolation: Interpolation = "bilinear"
    padding: Padding = "zeros"
    components: Literal["up", "down"] = "up"
    item_ndim = 3

    def __post_init__(self) -> None:
        self._image()
        if self.components not in ("up", "down"):
            raise ActionError(f"components = {self.components!r}: choose 'up' or 'down'")

    @property
    @override
    def name(self) -> str:
        return _name("field", self.interpolation, self.padding, self.components)

    def _image(self) -> Image:
        return Image(self.interpolation, self.padding)

    def check_group(self, group: Group) -> None:
        """The group must act on the plane."""
        self._image().check_group(group)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Resample, then turn the two components by the linear part."""
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=3)
        if x.shape[-3] != 2:
            raise ShapeError(f"x has shape {tuple(x.shape)}: a field has 2 components on axis -3, not {x.shape[-3]}")
        moved = self._image().apply(group, g, x)
        linear = group.linear(g, dtype=moved.dtype).to(moved)
        if self.components == "down":
            linear = linear * linear.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
        first, second = moved.unbind(-3)

        def entry(i: int, j: int) -> Tensor:
            return linear[..., i, j].reshape(*linear.shape[:-2], *([1] * (first.ndim - linear.ndim + 2)))

        return torch.stack((entry(0, 0) * first + entry(0, 1) * second, entry(1, 0) * first + entry(1, 1) * second), -3)

    @override
    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        return self._image().is_exact(group, g, x)

    @override
    def resamples(self, group: Group) -> bool:
        return self._image().resamples(group)

    @override
    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        return self._image().mask(group, g, x)

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        full = expand_mask(group, g, known, x)  # both components, or neither: they turn into each other
        return self._image().move_mask(group, g, full.all(-3, keepdim=True), x[..., :1, :, :])


SMALLEST = 8
"""Axes as long as this are no channels, where the last one has 1, 3 or 4 entries."""


def _tell_layout(x: Tensor, lead: int) -> None:
    """Warn where images ``[..., C, H, W]`` look like ``[..., H, W, C]``."""
    if x.ndim < lead + 3 or is_traced():
        return
    rows, columns, last = x.shape[-3:]
    if last in (1, 3, 4) and rows >= SMALLEST and columns >= SMALLEST and rows not in (1, 3, 4):
        warnings.warn(
            f"x has shape {tuple(x.shape)} and is taken as {rows} channels of {columns} x {last} pixels; if these are pictures "
            f'of {rows} x {columns} pixels with {last} channels, write image(channels="last")',
            LayoutWarning,
            stacklevel=4,
        )


def _name(kind: str, interpolation: str, padding: str, components: str = "up", channels: str = "first") -> str:
    options = [] if interpolation == "bilinear" else [f"interpolation={interpolation}"]
    options += [] if padding == "zeros" else [f"padding={padding}"]
    options += [] if components == "up" else [f"components={components}"]
    options += [] if channels == "first" else [f"channels={channels}"]
    return kind + (f"({', '.join(options)})" if options else "")


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
    columns, rows = _source(linear, shift, height, width, corners=True)
    inside = (columns > -ON_GRID) & (columns < width - 1 + ON_GRID) & (rows > -ON_GRID) & (rows < height - 1 + ON_GRID)
    return integral & inside.flatten(-2).all(-1)


def on_grid(linear: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Which maps send pixel centres to pixel centres one to one: ``[...]`` booleans."""
    inverse = _inverse(linear)
    integral = ((inverse - inverse.round()).abs() * max(height, width) < ON_GRID).flatten(-2).all(-1)
    volume = (_determinant(inverse).abs() - 1).abs() < ON_GRID
    corners = torch.stack(_source(linear, shift, height, width, corners=True), -1).flatten(-3)
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
        raise GroupElementError(f"g{list(index) if index else ''} is singular and moves no picture: {linear[index].tolist()}")
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
    return torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2) / determinant[..., None, None] + 0.0


def _source(linear: Tensor, shift: Tensor, height: int, width: int, *, corners: bool = False) -> tuple[Tensor, Tensor]:
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


def _warp(
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
    source = _source(linear, shift, *x.shape[-2:])
    columns, rows = (c.detach().round().long().to(x.device) for c in source)
    out = _pick(x, columns, rows, padding)
    if interpolation == "nearest" or not any(_is_differentiated(c) for c in source):
        return out
    across = _pick(x, columns + 1, rows, padding) - _pick(x, columns - 1, rows, padding)
    down = _pick(x, columns, rows + 1, padding) - _pick(x, columns, rows - 1, padding)
    dx, dy = ((c - c.detach()).to(x)[:, None] / 2 for c in source)  # zero, with the derivative of the position
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
    columns, rows = _source(linear, shift, *x.shape[-2:])
    if padding == "circular":
        columns, rows = columns % x.shape[-1] + 2, rows % x.shape[-2] + 2
        x = F.pad(x, (2, 2, 2, 2), mode="circular")  # two pixels: what bicubic reads around a position
    height, width = x.shape[-2:]
    grid = torch.stack((2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1), -1).to(x)
    mode = "zeros" if padding == "zeros" else "border"
    return F.grid_sample(x, grid, mode=interpolation, padding_mode=mode, align_corners=True)
