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

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from erlangen.actions._pixels import (
    ON_GRID,
    Interpolation,
    Padding,
    grid_kind,
    maps_grid,
    on_grid,
    plane_map,
    source_of,
    warp,
)
from erlangen.actions.base import Action, Tree, check_tensor, expand_mask, lead_view
from erlangen.actions.discrete import Rolled
from erlangen.errors import ActionError, LayoutWarning, ShapeError, first_index
from erlangen.groups import Group, Shifts
from erlangen.tracing import is_traced


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
        return warp(x, linear, shift, self.interpolation, self.padding, grid_kind(group))

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
        columns, rows = source_of(linear, shift, height, width)
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
        return warp(full.to(torch.float64), linear, shift, "bilinear", self.padding) > 1 - ON_GRID


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
