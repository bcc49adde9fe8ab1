"""Rigid motions as homogeneous matrices: where something stands and which way it looks, and mirrors."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import (
    ErlangenError,
    GroupElementError,
    ShapeError,
    check_finite,
    check_floating,
    first_index,
)
from erlangen.groups.base import loose_tol


def look_at(position: Tensor, target: Tensor, up: Tensor | tuple[float, float, float] = (0.0, 0.0, 1.0)) -> Tensor:
    """Poses ``[..., 4, 4]`` of cameras that stand at a position and see a target in the middle, with `up` upwards.

    >>> look_at(torch.tensor([2.0, 0, 0]), torch.zeros(3)).int()  # from +x: the world's y is to the right, its z upwards
    tensor([[ 0,  0, -1,  2],
            [ 1,  0,  0,  0],
            [ 0, -1,  0,  0],
            [ 0,  0,  0,  1]], dtype=torch.int32)

    Args:
        position, target, up: ``[..., 3]``; they broadcast.

    Raises:
        ShapeError, DtypeError, NotFiniteError: no ``[..., 3]``, integers, NaN.
        ErlangenError: the target is the position, or `up` lies along the view.
    """
    up = torch.as_tensor(up, dtype=position.dtype, device=position.device)
    for value, name in ((position, "position"), (target, "target"), (up, "up")):
        check_rows(value, 3, name)
        check_finite(value, name)
    batch = torch.broadcast_shapes(position.shape, target.shape, up.shape)
    position, target, up = position.expand(batch), target.expand(batch), up.expand(batch)
    forward, distance = _direction(target - position)
    right, sine = _direction(torch.linalg.cross(forward, _direction(up)[0], dim=-1))
    bad = (distance == 0) | (sine < 1e-6)
    if bool(bad.any()):
        index = first_index(bad)
        raise ErlangenError(
            f"the view{list(index) if index else ''} from {position[index].tolist()} to {target[index].tolist()} has no upright "
            f"image with up = {up[index].tolist()}; choose a direction across the view, and a target elsewhere"
        )
    down = torch.linalg.cross(forward, right, dim=-1)
    return rigid(torch.stack([right, down, forward], -1), position)


def reflection(normal: Tensor, offset: float | Tensor = 0.0) -> Tensor:
    """Elements ``[..., n + 1, n + 1]`` of E(n): the mirrors at the planes ``normal . x = offset |normal|``.

    >>> reflection(torch.tensor([1.0, 0.0]), 2.0) @ torch.tensor([0.0, 5.0, 1.0])
    tensor([4., 5., 1.])

    Args:
        normal: ``[..., n]``, of any length but zero.
        offset: distance ``[...]`` of the plane from the origin, along the normal.

    Raises:
        ErlangenError: a normal is zero.
    """
    check_floating(normal, "normal")
    unit, length = _direction(normal)
    if bool((length == 0).any()):
        raise ErlangenError(f"normal{list(first_index(length == 0)) or ''} is zero; a plane needs a normal")
    offset = torch.as_tensor(offset, dtype=normal.dtype, device=normal.device)
    eye = torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    linear = eye - 2 * unit[..., :, None] * unit[..., None, :]
    return rigid(linear, 2 * offset[..., None] * unit)


def rigid(linear: Tensor, translation: Tensor) -> Tensor:
    """Homogeneous matrices of ``[..., n, n]`` and ``[..., n]``."""
    n = linear.shape[-1]
    batch = torch.broadcast_shapes(linear.shape[:-2], translation.shape[:-1])
    top = torch.cat([linear.expand(*batch, n, n), translation[..., None].expand(*batch, n, 1)], -1)
    last = torch.eye(n + 1, dtype=top.dtype, device=top.device)[-1:].expand(*batch, 1, n + 1)
    return torch.cat([top, last], -2)


def rigid_inverse(pose: Tensor) -> Tensor:
    """Inverses ``[..., 4, 4]`` of rigid motions."""
    R, t = pose[..., :3, :3], pose[..., :3, 3:]
    return rigid(R.mT, -(R.mT @ t)[..., 0])


def checked_pose(pose: Tensor, inverse: bool) -> Tensor:
    """Rigid motions ``[..., 4, 4]`` of ``[..., 4, 4]`` or ``[..., 3, 4]``, or their inverses; raise if they are none."""
    if pose.ndim < 2 or pose.shape[-2:] not in {(4, 4), (3, 4)}:
        raise ShapeError(f"pose has shape {tuple(pose.shape)}; give rigid motions [..., 4, 4] or [..., 3, 4]")
    check_floating(pose, "pose")
    check_finite(pose, "pose")
    R = pose[..., :3, :3]
    away = (R.mT @ R - torch.eye(3).to(R)).abs().amax((-2, -1))
    last = pose[..., 3:, :] - torch.eye(4).to(pose)[3:]
    bad = (away > loose_tol(R.dtype)) | (torch.linalg.det(R) < 0) | (last.abs() > 1e-6).flatten(-2).any(-1)
    if bool(bad.any()):
        index = first_index(bad)
        hint = (
            "it mirrors: flip an axis, or move the camera by erlangen.actions.Cameras"
            if float(away[index]) < 1e-3
            else ("divide scales out, and give the rotation in the first three columns")
        )
        raise GroupElementError(
            f"pose{list(index) if index else ''} = {pose[index].tolist()} is no rigid motion; {hint}"
        )
    pose = rigid(R, pose[..., :3, 3])
    return rigid_inverse(pose) if inverse else pose


def check_rows(rows: Tensor, n: int, name: str) -> None:
    """Raise unless rows are floating ``[..., n]``."""
    if rows.ndim < 1 or rows.shape[-1] != n:
        raise ShapeError(f"{name} has shape {tuple(rows.shape)}; give [..., {n}]")
    check_floating(rows, name)


def _direction(x: Tensor) -> tuple[Tensor, Tensor]:
    length = torch.linalg.vector_norm(x, dim=-1)
    return x / torch.where(length == 0, 1.0, length)[..., None], length
