"""Boxes as detectors answer with them: parallel to the axes of an image, or turned about the vertical."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import Action, Tree, check_tensor, lead_view
from erlangen.errors import ActionError, ShapeError, first_index
from erlangen.groups import Group, Shifts

PARALLEL = 1e-6
"""Entries of a linear part below this share of its largest one count as zero: boxes stay parallel to the axes."""


@dataclass(frozen=True)
class Boxes(Action):
    """Boxes ``[..., 4]``: the middle (x, y) and the size (width, height), in pixels and in the geometry of `Image`.

    That is: the origin in the middle of the image, x to the right, y up. The middle moves as a point; sizes change places
    under quarter turns, are left alone by flips and translations, and grow under scalings. Exact. Other rotations take a
    box out of the axes, so they are refused.

    A box that reaches out of the image is cut there, and no detector can know the rest: with a window, `mask` tells those
    entries of ``act(g, x)`` as known whose box lies in the window whole, before and after. An audit then leaves the others
    out of errors and out of the consensus. A box in an answer that ends at the border has probably been cut there, so
    whole boxes keep a small distance from it.

    Args:
        window: (height, width) of the image in pixels, or ``None`` if boxes are never cut.
        edge: distance from the border, in pixels, from which on a box is whole.
    """

    window: tuple[int, int] | None = None
    edge: float = 0.5

    def __post_init__(self) -> None:
        if self.window is not None and (len(self.window) != 2 or min(self.window) < 1):
            raise ActionError(f"window = {self.window!r}: give (height, width) in pixels, both positive, or None")
        if not self.edge >= 0:
            raise ActionError(f"edge = {self.edge!r}: give a distance in pixels that is not negative")

    @property
    @override
    def name(self) -> str:
        return "boxes" if self.window is None else f"boxes(window={self.window})"

    def check_group(self, group: Group) -> None:
        """The group must act on the plane, and not roll it up."""
        if group.space_dim != 2 or isinstance(group, Shifts):
            raise ActionError(
                f"{self.name}: {group.name} does not move boxes in the plane; use a group such as Translation(2), "
                "Dihedral(4) or Scaling(2)"
            )

    def width(self, group: Group) -> int | None:
        """4."""
        return 4

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move middles as points, and sizes by the absolute values of the linear part."""
        lead = len(group.batch_shape(g))
        x = self._checked(x, lead)
        linear = group.linear(g, dtype=x.dtype).to(x)
        size = linear.abs()
        oblique = (size > PARALLEL * size.amax((-2, -1), keepdim=True)).sum(-1).gt(1).any(-1)
        if bool(oblique.any()):
            index = first_index(oblique)
            raise ActionError(
                f"{self.name}: g{list(index) if index else ''} turns boxes out of the axes; use elements that map the axes to "
                "themselves, or describe the objects by points"
            )
        matrices = lead_view(torch.stack([linear, size], -3), lead, x[..., None, None])
        middle, extent = (matrices @ x.unflatten(-1, (2, 2))[..., None])[..., 0].unbind(-2)
        shift = group.translation(g, dtype=x.dtype)
        if shift is not None:
            middle = middle + lead_view(shift.to(x), lead, middle)
        return torch.cat([middle, extent], -1)

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        """Boolean ``[..., 1]``: boxes that lie in the window whole, both before and after; ``None`` without a window."""
        if self.window is None:
            return None
        return (self.inside(x) & self.inside(self.apply(group, g, x)))[..., None]

    def inside(self, x: Tensor) -> Tensor:
        """Boolean ``[...]``: which boxes ``[..., 4]`` lie in the window whole, at least `edge` from its border.

        Raises:
            ActionError: there is no window.
        """
        low, high = self._corners(x)
        limit = self._limit(x) - self.edge
        return ((low >= -limit) & (high <= limit)).all(-1)

    def clip(self, x: Tensor) -> Tensor:
        """The part of boxes ``[..., 4]`` that lies in the window; of size zero, on the border, for those outside.

        Raises:
            ActionError: there is no window.
        """
        limit = self._limit(x)
        low, high = (torch.minimum(torch.maximum(corner, -limit), limit) for corner in self._corners(x))
        return torch.cat([(low + high) / 2, high - low], -1)

    def _corners(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle, size = self._checked(x, 0).split(2, -1)
        return middle - size / 2, middle + size / 2

    def _limit(self, x: Tensor) -> Tensor:
        """Half the width and half the height of the window."""
        if self.window is None:
            raise ActionError("boxes: there is no window to cut at; write Boxes(window=(height, width))")
        return x.new_tensor([self.window[1], self.window[0]]) / 2

    def _checked(self, x: Tree, lead: int) -> Tensor:
        x = check_tensor(x, self.name, lead=lead)
        if x.shape[-1] != 4:
            raise ShapeError(f"x has shape {tuple(x.shape)}: boxes are [..., 4], the middle (x, y) and the size (w, h)")
        return x


@dataclass(frozen=True)
class OrientedBoxes(Action):
    """Boxes that turn about the vertical: ``[..., 7]`` under motions of space, rectangles ``[..., 5]`` under those of the plane.

    >>> from erlangen.groups import O
    >>> move = OrientedBoxes().on(O(2))
    >>> mirror = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    >>> move.act(mirror, torch.tensor([3.0, 1.0, 4.0, 2.0, 0.5])).tolist()
    [3.0, -1.0, 4.0, 2.0, -0.5]

    Entries are those of `erlangen.geometry.box_corners`: the middle, the sizes along and across the heading (and the height),
    and the angle of the heading in radians, which comes back in (-pi, pi]. The middle moves as a point, the heading as a
    vector, sizes grow with scalings. Elements that tilt the vertical or shear are refused. Two boxes whose angles differ by a
    turn are one, so compare boxes by their overlap or corners and not entry by entry.
    """

    @property
    @override
    def name(self) -> str:
        return "oriented_boxes"

    def check_group(self, group: Group) -> None:
        """The group must act on the plane or on space, and not roll it up."""
        if group.space_dim not in (2, 3) or isinstance(group, Shifts):
            raise ActionError(
                f"{self.name}: {group.name} does not move boxes; use a group such as SE(2), Similarity(2) or "
                "Stabilizer(E(3), [0, 0, 1])"
            )

    def width(self, group: Group) -> int | None:
        """5 in the plane, 7 in space."""
        return 5 if group.space_dim == 2 else 7

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move middles as points and headings as vectors."""
        n, lead = group.space_dim, len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead)
        if x.shape[-1] != self.width(group):
            form = "(x, y, length, width, yaw)" if n == 2 else "(x, y, z, length, width, height, yaw)"
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: boxes under {group.name} are [..., {self.width(group)}], {form}"
            )
        linear = group.linear(g, dtype=x.dtype).to(x)
        scale = torch.linalg.det(linear).abs() ** (1 / n)
        off = (linear.mT @ linear / scale[..., None, None] ** 2 - torch.eye(n).to(x)).abs().amax((-2, -1))
        if n == 3:
            off = torch.maximum(off, linear[..., :2, 2].abs().amax(-1) / scale)
        bad = off > (1e-4 if x.dtype == torch.float32 else 1e-6)
        if bool(bad.any()):
            index = first_index(bad)
            raise ActionError(
                f"{self.name}: g{list(index) if index else ''} tilts the vertical or shears; use turns about the vertical, "
                "mirrors, translations and scalings, such as Stabilizer(E(3), [0, 0, 1])"
            )
        matrices = lead_view(linear, lead, x[..., None])
        middle = (matrices @ x[..., :n, None])[..., 0]
        shift = group.translation(g, dtype=x.dtype)
        if shift is not None:
            middle = middle + lead_view(shift.to(x), lead, middle)
        heading = torch.stack([x[..., -1].cos(), x[..., -1].sin()], -1)
        turned = (matrices[..., :2, :2] @ heading[..., None])[..., 0]
        yaw = torch.atan2(turned[..., 1], turned[..., 0])
        size = x[..., n:-1] * lead_view(scale, lead, x)
        return torch.cat([middle, size, yaw[..., None]], -1)
