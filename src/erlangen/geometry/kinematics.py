"""Kinematic trees: joints from rotations of bones, rotations in the axes of parents, mirrored poses, skinned surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, check_floating, is_whole
from erlangen.geometry.poses import reflection

__all__ = ["KinematicTree", "Placement", "skinned"]


class Placement(NamedTuple):
    """Where the joints of a tree are.

    Attributes:
        rotations: ``[..., J, 3, 3]``, from the axes of the rest pose to the world, of each joint.
        positions: ``[..., J, 3]``.
    """

    rotations: Tensor
    positions: Tensor


@dataclass(frozen=True)
class KinematicTree:
    """J joints, each but the first hanging from one before it.

    >>> arm = KinematicTree(parents=(-1, 0, 1), offsets=torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0]]))
    >>> bent = torch.eye(3).repeat(3, 1, 1)
    >>> bent[1] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # the second joint turns what follows by 90 degrees
    >>> arm.place(bent).positions.tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]

    Motions of space act on the placement; on local rotations they act at the root alone: ``place(g L) = g place(L)`` for a
    rotation g, where g multiplies the first local rotation and moves the root.

    Args:
        parents: index of the parent of each joint, before it; -1 for the first.
        offsets: from the parent in the rest pose, ``[J, 3]``, floating; for the first joint its place.
        names: of the joints, if they have some.
        mirror: for each joint the one on the other side, itself on the middle line; needed by `mirrored`.

    Raises:
        ErlangenError: parents that form no tree in this order, or a mirror that is no involution or tears a bone.
        ShapeError, DtypeError: offsets of another form.
    """

    parents: tuple[int, ...]
    offsets: Tensor
    names: tuple[str, ...] = ()
    mirror: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("parents", "names", "mirror"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        n = len(self.parents)
        if not n or self.parents[0] != -1 or not all(is_whole(p, 0, j) for j, p in enumerate(self.parents[1:])):
            raise ErlangenError(
                f"parents = {self.parents}; give -1 first, and for joint j a joint before it, 0 to j - 1"
            )
        if self.offsets.shape != (n, 3):
            raise ShapeError(f"offsets has shape {tuple(self.offsets.shape)}; give [{n}, 3], one for each joint")
        check_floating(self.offsets, "offsets")
        if self.names and len(self.names) != n:
            raise ErlangenError(f"names has {len(self.names)} entries for {n} joints")
        if self.mirror:
            if sorted(self.mirror) != list(range(n)) or any(self.mirror[self.mirror[j]] != j for j in range(n)):
                raise ErlangenError(f"mirror = {self.mirror}; give a permutation of the joints that is its own inverse")
            torn = [j for j in range(1, n) if self.parents[self.mirror[j]] != self.mirror[self.parents[j]]]
            if torn or self.mirror[0] != 0:
                raise ErlangenError(
                    f"mirror tears the bone of joint {torn[0] if torn else 0}: parents must mirror as well"
                )

    def __len__(self) -> int:
        """Number of joints."""
        return len(self.parents)

    @cached_property
    def rest(self) -> Tensor:
        """Places of the joints in the rest pose, ``[J, 3]``."""
        return self.from_bones(self.offsets[1:], self.offsets[0])

    def place(self, local: Tensor, root: Tensor | None = None, offsets: Tensor | None = None) -> Placement:
        """Forward kinematics.

        Args:
            local: rotation of each joint in the axes of its parent, ``[..., J, 3, 3]``.
            root: place of the first joint ``[..., 3]``; by default that of the rest pose.
            offsets: other bones, ``[..., J, 3]``; by default those of the tree.

        Raises:
            ShapeError: rotations of another form.
        """
        self._check_rotations(local, "local")
        bones = (self.offsets if offsets is None else offsets).to(local)
        first = bones[..., 0, :] if root is None else root
        rotations = [local[..., 0, :, :]]  # in the order of the levels
        for children, above in self._levels:
            turned = torch.stack([rotations[self._row[p]] for p in above], -3) @ local[..., children, :, :]
            rotations += turned.unbind(-3)
        world = torch.stack([rotations[row] for row in self._row], -3)
        moved = (world[..., list(self.parents[1:]), :, :] @ bones[..., 1:, :, None]).squeeze(-1)
        return Placement(world, self.from_bones(moved, first))

    def local(self, rotations: Tensor) -> Tensor:
        """Rotations in the axes of the parents ``[..., J, 3, 3]``, of those of a `Placement`: the inverse of `place`.

        Raises:
            ShapeError: rotations of another form.
        """
        self._check_rotations(rotations, "rotations")
        above = rotations[..., list(self.parents[1:]), :, :].mT
        return torch.cat([rotations[..., :1, :, :], above @ rotations[..., 1:, :, :]], -3)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Parent and child of each bone, as `erlangen.actions.Points` takes them for pictures of skeletons."""
        return tuple((parent, joint) for joint, parent in enumerate(self.parents[1:], 1))

    def bones(self, positions: Tensor) -> Tensor:
        """Vectors from parents to children ``[..., J - 1, n]``, of positions ``[..., J, n]`` in any dimension n.

        Raises:
            ShapeError: another number of joints.
        """
        self._check_rows(positions, "positions", len(self))
        return positions[..., 1:, :] - positions[..., list(self.parents[1:]), :]

    def from_bones(self, bones: Tensor, root: Tensor) -> Tensor:
        """Positions ``[..., J, n]`` of bones ``[..., J - 1, n]`` and the place of the first joint ``[..., n]``.

        Raises:
            ShapeError: another number of bones.
        """
        self._check_rows(bones, "bones", len(self) - 1)
        return root[..., None, :] + self._ancestors.to(bones) @ bones

    def mirrored(
        self, local: Tensor, root: Tensor, *, normal: Sequence[float] = (1.0, 0.0, 0.0)
    ) -> tuple[Tensor, Tensor]:
        """Local rotations and root of the mirrored pose, with left and right exchanged: ``M L M`` of the other side's joint.

        For a tree whose rest pose is symmetric under the mirror M this is the pose that a mirror shows: its joints are
        those of the original, mirrored and relabelled.

        Args:
            local: ``[..., J, 3, 3]``.
            root: place of the first joint ``[..., 3]``.
            normal: of the plane through the origin, in the axes of the rest pose and of the world.

        Raises:
            ErlangenError: the tree has no `mirror`, or the normal is zero.
            ShapeError: rotations of another form.
        """
        if not self.mirror:
            raise ErlangenError(
                "the tree has no mirror; give KinematicTree(mirror=...) the joint on the other side of each"
            )
        self._check_rotations(local, "local")
        n = torch.tensor(normal, dtype=local.dtype, device=local.device)
        if n.shape != (3,) or not bool(n.norm() > 0):
            raise ErlangenError(f"normal = {tuple(normal)}; give three numbers, not all zero")
        M = reflection(n)[:3, :3]
        return M @ local[..., list(self.mirror), :, :] @ M, root @ M

    @cached_property
    def _levels(self) -> list[tuple[list[int], list[int]]]:
        """Joints of each depth below the first, with their parents: one batch of products for each."""
        depth = [0]
        for p in self.parents[1:]:
            depth.append(depth[p] + 1)
        levels = [[j for j, d in enumerate(depth) if d == k] for k in range(1, max(depth) + 1)]
        return [(joints, [self.parents[j] for j in joints]) for joints in levels]

    @cached_property
    def _row(self) -> list[int]:
        """Place of each joint in the order of the levels."""
        order = [0, *(j for joints, _ in self._levels for j in joints)]
        return sorted(range(len(order)), key=order.__getitem__)

    @cached_property
    def _ancestors(self) -> Tensor:
        """``[J, J - 1]``: 1 where the bone lies between the joint and the first one."""
        rows = torch.zeros(len(self), len(self))
        for j, p in enumerate(self.parents):
            if p >= 0:
                rows[j] = rows[p]
                rows[j, j] = 1
        return rows[:, 1:]

    def _check_rotations(self, x: Tensor, name: str) -> None:
        check_floating(x, name)
        if x.shape[-3:] != (len(self), 3, 3):
            raise ShapeError(f"{name} has shape {tuple(x.shape)}; give [..., {len(self)}, 3, 3]")

    def _check_rows(self, x: Tensor, name: str, rows: int) -> None:
        check_floating(x, name)
        if x.ndim < 2 or x.shape[-2] != rows:
            raise ShapeError(f"{name} has shape {tuple(x.shape)}; give [..., {rows}, n]")


def skinned(
    vertices: Tensor, weights: Tensor, tree: KinematicTree, placement: Placement, *, rest: Tensor | None = None
) -> Tensor:
    """Linear blend skinning: each vertex is the mean of where its joints would carry it.

    >>> tree = KinematicTree((-1, 0), torch.tensor([[0.0, 0, 0], [1, 0, 0]]))
    >>> at_rest = tree.place(torch.eye(3).repeat(2, 1, 1))
    >>> skinned(torch.tensor([[1.5, 0.25, 0]]), torch.tensor([[0.25, 0.75]]), tree, at_rest).tolist()
    [[1.5, 0.25, 0.0]]

    It commutes with motions of space, ``skinned(g placement) = g skinned(placement)``; a vertex of one joint moves rigidly.

    Args:
        vertices: in the rest pose, ``[V, 3]`` or ``[..., V, 3]``.
        weights: of the joints for each vertex, ``[V, J]``; rows sum to 1.
        tree: whose rest pose it is.
        placement: of its joints, ``[..., J, 3, 3]`` and ``[..., J, 3]``.
        rest: places of the joints in the rest pose ``[..., J, 3]``, of bodies with other bones; by default those of the tree.

    Returns:
        ``[..., V, 3]``.

    Raises:
        ShapeError: shapes that do not fit.
        DataError: weights of a vertex that do not sum to 1.

    Source: Magnenat-Thalmann, Laperriere and Thalmann, "Joint-dependent local deformations", Graphics Interface 1988.
    """
    if weights.shape != (vertices.shape[-2], len(tree)) or vertices.shape[-1] != 3:
        raise ShapeError(
            f"vertices has shape {tuple(vertices.shape)} and weights {tuple(weights.shape)}; give [V, 3] and [V, {len(tree)}]"
        )
    off = (weights.sum(-1) - 1).abs()
    if bool(off.max() > 1e-4):
        raise DataError(f"weights of vertex {int(off.argmax())} sum to {1 + float(off.max()):.4g}; rows must sum to 1")
    R, t = placement
    # R_j (v - rest_j) + t_j, blended: the blend of matrices first, which is smaller than that of vertices.
    joints = (tree.rest if rest is None else rest).to(R)
    shift = t - (R @ joints[..., None]).squeeze(-1)
    blend = torch.einsum("vj,...jab->...vab", weights, R)
    return (blend @ vertices[..., None]).squeeze(-1) + weights @ shift
