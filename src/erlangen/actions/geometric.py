"""Actions on coordinates in R^n: points, vectors, pseudovectors, invariants, SPD matrices, trajectories."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import (
    Action,
    Part,
    Tree,
    broadcast_lead,
    check_axis,
    check_tensor,
    lead_view,
    matmul_rows,
    tree_map,
)
from erlangen.errors import ActionError, ShapeError, is_whole
from erlangen.groups import SO, DirectProduct, Group, O, SemidirectProduct, Shifts
from erlangen.groups.determinants import determinant


@dataclass(frozen=True)
class _Coordinates(Action):
    """Tensors with an axis of n coordinates.

    Args:
        axis: the coordinate axis, negative; -1 for rows ``[..., N, n]``, -2 for channels first ``[..., n, T]``.
    """

    axis: int = -1

    def __post_init__(self) -> None:
        check_axis(self.axis, "coordinate axis", -1)

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from the coordinate axis on."""
        return -self.axis

    @property
    @override
    def name(self) -> str:
        return type(self).__name__.lower() + ("" if self.axis == -1 else f"(axis={self.axis})")

    def check_group(self, group: Group) -> None:
        """The group must act on R^n."""
        if group.space_dim < 1:
            raise ActionError(f"{self.name}: {group.name} has no action on R^n; declare another action")
        if isinstance(group, Shifts):
            raise ActionError(f"{self.name}: {group.name} shifts a periodic grid; use the action 'image' or 'rolled'")

    def width(self, group: Group) -> int | None:
        """n."""
        return group.space_dim

    def rows(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Check x and bring the coordinate axis to the end."""
        return self.on_rows(group, check_tensor(x, self.name, lead=len(group.batch_shape(g)), item_ndim=self.item_ndim))

    def on_rows(self, group: Group, x: Tensor) -> Tensor:
        """x with the coordinate axis at the end; `ShapeError` unless it has n entries."""
        if x.shape[self.axis] != group.space_dim:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: axis {self.axis} has length {x.shape[self.axis]}, but {group.name} acts "
                f"on {group.space_dim} coordinates; transpose x or pass axis= to the action"
            )
        return x if self.axis == -1 else x.movedim(self.axis, -1)

    def placed(self, rows: Tensor) -> Tensor:
        """The coordinate axis brought back to its place."""
        return rows if self.axis == -1 else rows.movedim(-1, self.axis)

    @override
    def translate(self, group: Group, shift: Tensor, x: Tree) -> Tree:
        return x  # all but points are blind to translations

    def located(self) -> bool:
        """Whether translations move the data."""
        return False

    def parts(self, group: Group, x: Tree) -> list[Part]:
        """All coordinate rows of each sample."""
        x = check_tensor(x, self.name, lead=1, item_ndim=self.item_ndim).movedim(self.axis, -1)
        values = x.reshape(x.shape[0], x.shape[1:-1].numel(), x.shape[-1])
        return [Part(values, self.located(), weighable=x.ndim == 3)]


@dataclass(frozen=True)
class Points(_Coordinates):
    """Positions: ``x @ linear(g).mT + translation(g)``, x ``[..., n]``.

    Args:
        axis: the coordinate axis, negative; -1 for rows ``[..., N, n]``, -2 for channels first ``[..., n, T]``.
        bones: pairs of rows that pictures join by a line, for a skeleton; of a `KinematicTree`, its ``pairs``.

    Raises:
        ActionError: `axis` is not negative, or a bone is no pair of rows.
    """

    bones: tuple[tuple[int, int], ...] = field(default=(), compare=False)  # nothing but pictures depends on them

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bones", tuple(tuple(bone) for bone in self.bones))
        for i, bone in enumerate(self.bones):
            if len(bone) != 2 or not all(is_whole(row, 0) for row in bone):
                raise ActionError(f"bones[{i}] = {bone}: give two rows, counted from 0")
        if self.bones and self.axis != -1:
            raise ActionError(f"bones join rows [..., N, n]; with axis = {self.axis} there are none")

    @override
    def on_rows(self, group: Group, x: Tensor) -> Tensor:
        """As for all coordinates; `ShapeError` where bones join rows that x does not have."""
        rows = super().on_rows(group, x)
        if self.bones and (last := max(map(max, self.bones))) >= (count := rows.shape[-2] if rows.ndim > 1 else 1):
            raise ShapeError(f"x has shape {tuple(x.shape)}: bones join row {last}, but x has {count} rows")
        return rows

    def located(self) -> bool:
        """Positions move with translations."""
        return True

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """The affine map of g on every row."""
        rows = self.rows(group, g, x)
        moved = matmul_rows(rows, group.linear(g, dtype=rows.dtype), group.translation(g, dtype=rows.dtype))
        return self.placed(moved)

    @override
    def translate(self, group: Group, shift: Tensor, x: Tree) -> Tensor:
        lead = shift.ndim - 1
        rows = self.on_rows(group, check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim))
        wide = torch.promote_types(rows.dtype, shift.dtype)
        if rows.ndim < lead + 2:
            return self.placed(rows.to(wide) + lead_view(shift.to(rows.device, wide), lead, rows))
        # With coordinates first in memory the sum runs along the points.
        columns = rows.transpose(-2, -1).to(wide, memory_format=torch.contiguous_format)
        shift = shift.to(rows.device, wide)
        middle = [1] * (rows.ndim - lead - 2)
        return self.placed((columns + shift.reshape(*shift.shape[:-1], *middle, shift.shape[-1], 1)).transpose(-2, -1))


@dataclass(frozen=True)
class Vectors(_Coordinates):
    """Displacements, velocities, forces: ``x @ linear(g).mT``, blind to translations, x ``[..., n]``."""

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """The linear part of g on every row."""
        rows = self.rows(group, g, x)
        return self.placed(matmul_rows(rows, group.linear(g, dtype=rows.dtype)))


@dataclass(frozen=True)
class Pseudovectors(_Coordinates):
    """Axial vectors (angular velocity, magnetic field): ``sign(det) x @ linear(g).mT``, x ``[..., n]``."""

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """The linear part of g and the sign of its determinant."""
        rows = self.rows(group, g, x)
        linear = group.linear(g, dtype=rows.dtype)
        signed = linear * determinant(linear).sign()[..., None, None]
        return self.placed(matmul_rows(rows, signed))


@dataclass(frozen=True)
class Invariant(Action):
    """Data that the group leaves alone: classes, energies, masks. Any tensor or tree.

    Args:
        size: length of the last axis, needed only inside a sum of actions.
    """

    size: int | None = None
    item_ndim = 0

    def __post_init__(self) -> None:
        if self.size is not None and not is_whole(self.size, 1):
            raise ActionError(f"invariant({self.size}): the size of the last axis must be a positive integer")

    @property
    @override
    def name(self) -> str:
        return "invariant" if self.size is None else f"invariant({self.size})"

    def width(self, group: Group) -> int | None:
        """The declared size."""
        return self.size

    @override
    def translate(self, group: Group, shift: Tensor, x: Tree) -> Tree:
        return x

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """x, every tensor of it expanded over the batch of g."""
        batch = group.batch_shape(g)

        def expand(leaf: Tree) -> Tree:
            if not isinstance(leaf, Tensor):
                return leaf
            leaf = check_tensor(leaf, self.name, lead=len(batch), item_ndim=0, floating=False)
            lead = broadcast_lead(batch, leaf.shape[: len(batch)])
            return leaf.expand(*lead, *leaf.shape[len(batch) :])

        return tree_map(expand, x) if batch else x

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tree:
        return known


@dataclass(frozen=True)
class Scaled(Action):
    """Data times a power of the scaling: audio and its gain, intensities, energies of degree k. Any tensor or tree.

    >>> import torch, erlangen as er
    >>> Scaled(2).on(er.Scaling(1)).act(torch.tensor([[3.0]]), torch.ones(2, 4))[0].tolist()
    [9.0, 9.0, 9.0, 9.0]

    The scaling of an element is ``|det|^(1/n)`` of its linear part: s for `Scaling`, CSO and `Similarity`, and 1 for rotations.
    An audit of a gain: ``er.Symmetry("Scaling(1) within factor 4", input="scaled", output="invariant")``; "scaled^2" for
    outputs that grow by the square.

    Args:
        power: the exponent.
        size: length of the last axis, needed only inside a sum of actions.
    """

    power: float = 1
    size: int | None = None
    item_ndim = 0

    def __post_init__(self) -> None:
        if isinstance(self.power, (str, bool)) or not math.isfinite(self.power) or self.power == 0:
            raise ActionError(
                f"scaled({self.power!r}): the power must be a number that is not 0; 'invariant' does not scale"
            )
        if self.size is not None and not is_whole(self.size, 1):
            raise ActionError(f"scaled(size={self.size}): the size of the last axis must be a positive integer")

    @property
    @override
    def name(self) -> str:
        power = "" if self.power == 1 else f"^{self.power:g}"
        return f"scaled{power}" if self.size is None else f"scaled({self.power:g}, {self.size})"

    def check_group(self, group: Group) -> None:
        """The group must have scalings."""
        inner = group.H if isinstance(group, SemidirectProduct) else group
        rigid = isinstance(inner, (SO, O))  # whose algebra may be large
        if group.space_dim < 1 or isinstance(group, (Shifts, DirectProduct)) or not group.dim or rigid:
            raise ActionError(
                f"{self.name}: {group.name} has no scalings; it fits Scaling(n), CSO(n), Similarity(n), GL+(n)"
            )
        steps = group.linear(group.exp(0.1 * torch.eye(group.dim, dtype=torch.float64)))
        if bool((torch.linalg.det(steps) - 1).abs().max() < 1e-9):
            raise ActionError(
                f"{self.name}: {group.name} keeps volumes, so it scales nothing; it fits Scaling(n), CSO(n), ..."
            )

    def width(self, group: Group) -> int | None:
        """The declared size."""
        return self.size

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """Every tensor of x times the scaling."""
        batch = group.batch_shape(g)
        linear = group.linear(g)
        scales = torch.linalg.det(linear).abs() ** (self.power / group.space_dim)

        def scale(leaf: Tree) -> Tensor:
            leaf = check_tensor(leaf, self.name, lead=len(batch), item_ndim=0)
            broadcast_lead(tuple(batch), tuple(leaf.shape[: len(batch)]))
            return leaf * lead_view(scales, len(batch), leaf).to(leaf)

        return tree_map(scale, x)


@dataclass(frozen=True)
class SPD(Action):
    """Symmetric positive definite matrices by congruence: ``L x L^T`` with ``L = linear(g)``, x ``[..., n, n]``.

    The affine-invariant metric of Pennec, Fillard and Ayache (2006) is invariant under it for every invertible L.
    """

    item_ndim = 2

    def check_group(self, group: Group) -> None:
        """The group must act linearly on R^n."""
        if group.space_dim < 1:
            raise ActionError(f"spd: {group.name} has no action on R^n")

    def width(self, group: Group) -> int | None:
        """n."""
        return group.space_dim

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Congruence by the linear part."""
        lead, n = len(group.batch_shape(g)), group.space_dim
        x = check_tensor(x, "spd", lead=lead, item_ndim=2)
        if tuple(x.shape[-2:]) != (n, n):
            raise ShapeError(f"x has shape {tuple(x.shape)}, but {group.name} acts on matrices [..., {n}, {n}]")
        linear = lead_view(group.linear(g, dtype=x.dtype).to(x), lead, x)
        return linear @ x @ linear.transpose(-2, -1)
