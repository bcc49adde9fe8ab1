"""Distances of rotations where some of them cannot be told apart: poses of objects that are symmetric."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from erlangen.errors import GroupError, ShapeError, check_floating
from erlangen.groups import Group, StabilizerGroup
from erlangen.groups.rotations import rotation_angle
from erlangen.numerics import angle, full_precision


def rotation_distance(
    R: Tensor, S: Tensor, modulo: Group | Tensor | None = None, *, side: Literal["right", "left"] = "right"
) -> Tensor:
    """Angle ``[...]`` in radians between rotations ``[..., 3, 3]``, the smallest one over a subgroup H.

    >>> import erlangen as er
    >>> quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> round(rotation_distance(torch.eye(3), quarter).item(), 4)
    1.5708
    >>> rotation_distance(torch.eye(3), quarter, er.Octahedral()).item()  # a cube
    0.0
    >>> rotation_distance(torch.eye(3), quarter, er.Stabilizer(er.SO(3), [0.0, 0.0, 1.0])).item()  # a body of revolution
    0.0

    An object that H leaves alone looks the same in the poses R and R h: ``side="right"``, the distance of SO(3)/H. With
    ``side="left"`` the poses R and h R count as one, as where the camera may turn by H. The first is invariant when both
    poses are turned from the left, the second from the right, and both when a pose is multiplied by H on its side.

    Args:
        R, S: rotations; they broadcast.
        modulo: a finite group that acts on space, of which the rotations count; `erlangen.Stabilizer` of an axis, for all turns
            about it; or the matrices ``[K, 3, 3]`` of a group. Nothing by default.
        side: where H stands.

    Raises:
        ShapeError, DtypeError: other shapes, integers.
        GroupError: another kind of group, or elements that do not act on space.
        GroupElementError: a matrix is no rotation.
    """
    for value, name in ((R, "R"), (S, "S")):
        if value.ndim < 2 or value.shape[-2:] != (3, 3):
            raise ShapeError(f"{name} has shape {tuple(value.shape)}; give rotations [..., 3, 3]")
        check_floating(value, name)
    if side not in ("right", "left"):
        raise GroupError(f"side = {side!r}; choose 'right' (R and R h are one) or 'left' (R and h R are one)")
    with full_precision(R):
        between = R.mT @ S if side == "right" else S @ R.mT
        if modulo is None:
            return rotation_angle(between)
        axis = _axis(modulo)
        if axis is not None:
            rotation_angle(between)  # refuses what is no rotation
            a = axis.to(between)
            return angle(a, between @ a)
        H = _elements(modulo).to(between)
        # The smallest angle has the largest trace; angles themselves are computed once, accurately.
        traces = between.flatten(-2) @ H.flatten(-2).mT
        nearest = H[traces.argmax(-1)]
        return rotation_angle(nearest.mT @ between)


def _axis(modulo: Group | Tensor) -> Tensor | None:
    """The axis of all rotations about one, float64 ``[3]``."""
    if not isinstance(modulo, StabilizerGroup) or modulo.dim != 1 or modulo.space_dim != 3:
        return None
    K = modulo.lie_algebra[0]
    return torch.stack([K[2, 1], K[0, 2], K[1, 0]])


def _elements(modulo: Group | Tensor) -> Tensor:
    """The rotations among the elements, ``[K, 3, 3]``."""
    if isinstance(modulo, Tensor):
        if modulo.ndim != 3 or modulo.shape[1:] != (3, 3) or not len(modulo):
            raise ShapeError(f"modulo has shape {tuple(modulo.shape)}; give the matrices [K, 3, 3] of a group")
        check_floating(modulo, "modulo")
        matrices = modulo
    elif modulo.order == math.inf or modulo.space_dim != 3:
        raise GroupError(
            f"modulo = {modulo.name} is no finite group of space; give one such as Octahedral(), the Stabilizer of an axis "
            "in SO(3), or the matrices [K, 3, 3] of its elements"
        )
    else:
        matrices = modulo.linear(modulo.elements(), dtype=torch.float64)
    return matrices[torch.linalg.det(matrices) > 0]
