"""Actions on coordinates in R^n: points, vectors, pseudovectors, invariants, SPD matrices, trajectories."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import Action, Part, Tree, broadcast_lead, check_tensor, lead_view, matmul_rows, tree_map
from erlangen.errors import ActionError, ShapeError, is_whole
from erlangen.groups import Group, Shifts
from erlangen.groups.determinants import determinant


@dataclass(frozen=True)
class _Coordinates(Action):
    """Tensors with an axis of n coordinates.

    Args:
        axis: the coordinate axis, negative; -1 for rows ``[..., N, n]``, -2 for channels first ``[..., n, T]``.
    """

    axis: int = -1

    def __post_init__(self) -> None:
        if self.axis >= 0:
            raise ActionError(f"axis = {self.axis}: count the coordinate axis from the end, for example axis=-1")

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

    def rows(self, group: Group, g: Tensor, x: Tree) -> tuple[Tensor, int]:
        """Check x and bring the coordinate axis to the end; also the number of batch dimensions of g."""
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim)
        if x.shape[self.axis] != group.space_dim:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: axis {self.axis} has length {x.shape[self.axis]}, but {group.name} acts "
                f"on {group.space_dim} coordinates; transpose x or pass axis= to the action"
            )
        return x.movedim(self.axis, -1), lead

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
    """Positions: ``x @ linear(g).mT + translation(g)``, x ``[..., n]``."""

    def located(self) -> bool:
        """Positions move with translations."""
        return True

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """The affine map of g on every row."""
        rows, lead = self.rows(group, g, x)
        moved = matmul_rows(rows, group.linear(g, dtype=rows.dtype))
        shift = group.translation(g, dtype=rows.dtype)
        if shift is not None:
            moved = moved + lead_view(shift.to(rows), lead, moved)
        return moved.movedim(-1, self.axis)


@dataclass(frozen=True)
class Vectors(_Coordinates):
    """Displacements, velocities, forces: ``x @ linear(g).mT``, blind to translations, x ``[..., n]``."""

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """The linear part of g on every row."""
        rows, _ = self.rows(group, g, x)
        return matmul_rows(rows, group.linear(g, dtype=rows.dtype)).movedim(-1, self.axis)


@dataclass(frozen=True)
class Pseudovectors(_Coordinates):
    """Axial vectors (angular velocity, magnetic field): ``sign(det) x @ linear(g).mT``, x ``[..., n]``."""

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """The linear part of g and the sign of its determinant."""
        rows, _ = self.rows(group, g, x)
        linear = group.linear(g, dtype=rows.dtype)
        signed = linear * determinant(linear).sign()[..., None, None]
        return matmul_rows(rows, signed).movedim(-1, self.axis)


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
