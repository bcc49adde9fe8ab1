"""Rotations as quaternions, rotation vectors and matrices: conversions, the angle, Haar sampling.

Quaternions are ``[..., 4]`` in the order (w, x, y, z); functions named ``*_xyzw`` convert to and from the
order of scipy, roma and ROS. Matrices act on columns, angles are radians. All conversions are differentiable
and work under `torch.func.vmap`; dtype and device follow the input.

What is no rotation (a reflection, a matrix that is not orthogonal by more than a thousandth, a quaternion of length zero,
NaN) has no angle and no axis, so it is refused with `GroupElementError`. Compiled code and `torch.func` cannot look at
values; there the formulas give numbers that mean nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupElementError, ShapeError, check_floating, first_index
from erlangen.groups.base import loose_tol
from erlangen.numerics import full_precision, safe_norm
from erlangen.tracing import is_traced


def planar_rotation(theta: Tensor) -> Tensor:
    """Matrices ``[..., 2, 2]`` that turn the plane counter-clockwise by the angles ``[...]`` in radians."""
    cos, sin = theta.cos(), theta.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def quaternion_to_xyzw(q: Tensor) -> Tensor:
    """Quaternions ``[..., 4]`` from this library's order (w, x, y, z) to the order (x, y, z, w)."""
    _check_last(q, "q", 4)
    return q.roll(-1, -1)


def quaternion_from_xyzw(q: Tensor) -> Tensor:
    """Quaternions ``[..., 4]`` from the order (x, y, z, w) to this library's order (w, x, y, z)."""
    _check_last(q, "q", 4)
    return q.roll(1, -1)


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of quaternions ``[..., 4]`` (w, x, y, z), of any length but zero.

    The quaternion is divided by its norm, however small or large that is.

    Raises:
        GroupElementError: a quaternion is zero or not finite.
    """
    _check_last(q, "q", 4)
    # Squares of small and large numbers leave the range of floats; the matrix depends on ratios alone.
    peak = q.detach().abs().amax(-1, keepdim=True)
    if not is_traced():
        _refuse(~((peak > 0) & torch.isfinite(peak))[..., 0], q, "q", "a quaternion of a rotation")
    q = q / peak
    w, x, y, z = (q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_quaternion(R: Tensor) -> Tensor:
    """Unit quaternions ``[..., 4]`` (w, x, y, z) with w >= 0 of rotation matrices ``[..., 3, 3]``.

    Row i of the symmetric matrix ``4 q q^T``, whose entries are linear in R, is ``4 q_i q``. The row with the
    largest q_i is taken, so no digits are lost for any rotation (Shepperd 1978), and no square root is
    differentiated at zero.

    Raises:
        GroupElementError: a matrix is no rotation.
    """
    _check_rotation(R, "R", 3)
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in R.unbind(-2))
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    outer = torch.stack([torch.stack(row, -1) for row in rows], -2)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    q = q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def axis_angle_to_matrix(rotvec: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of rotation vectors ``[..., 3]`` (axis times angle in radians).

    Rodrigues' formula ``I + sin(t)/t K + (1 - cos t)/t^2 K^2``, accurate and smooth at zero.
    """
    _check_last(rotvec, "rotvec", 3)
    x, y, z = rotvec.unbind(-1)
    o = torch.zeros_like(x)
    K = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    square = rotvec.square().sum(-1)[..., None, None]
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    with full_precision(K):
        K2 = K @ K
    return eye + _sinc_of_square(square) * K + _sinc_of_square(square / 4).square() / 2 * K2


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Rotations ``[..., 3, 3]`` by angles ``[..., 3]`` in radians about the fixed axes x, then y, then z (scipy's "xyz").

    >>> euler_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2])).round().abs().int().tolist()
    [[0, 1, 0], [1, 0, 0], [0, 0, 1]]

    Raises:
        ShapeError: the last axis is not of length 3.
    """
    _check_last(angles, "angles", 3)
    axes = torch.eye(3, dtype=angles.dtype, device=angles.device)
    x, y, z = (axis_angle_to_matrix(angles[..., i : i + 1] * axes[i]) for i in range(3))
    return z @ y @ x


def _sinc_of_square(s: Tensor) -> Tensor:
    """``sin(t) / t`` as a function of ``s = t^2``: smooth at 0, where torch.sinc has no second derivative."""
    small = s < 0.01
    near, t = torch.where(small, s, 0.0), torch.where(small, 1.0, s).sqrt()
    series = 1 - near / 6 * (1 - near / 20 * (1 - near / 42 * (1 - near / 72)))
    return torch.where(small, series, t.sin() / t)


def matrix_to_axis_angle(R: Tensor) -> Tensor:
    """Rotation vectors ``[..., 3]`` of length at most pi of rotation matrices ``[..., 3, 3]``.

    Goes through the quaternion, so it is accurate near 0 and near pi. At exactly pi, where both signs of the
    axis are right, one of them is returned.

    Raises:
        GroupElementError: a matrix is no rotation.
    """
    q = matrix_to_quaternion(R)
    w, v = q[..., :1], q[..., 1:]
    s = safe_norm(v, keepdim=True)
    # atan2(s, w) / s, by its Taylor series where s is small (then w is close to 1).
    small = s < 1e-3
    ratio = torch.where(small, s, 0.0) / torch.where(small, w, 1.0)
    series = (1 - ratio.square() / 3 + ratio.square().square() / 5) / torch.where(small, w, 1.0)
    return 2 * v * torch.where(small, series, torch.atan2(s, w) / torch.where(small, 1.0, s))


def rotation_angle(R: Tensor) -> Tensor:
    """Angle of rotation in [0, pi], shape ``[...]``, of matrices ``[..., 2, 2]`` or ``[..., 3, 3]``.

    By atan2 of sine and cosine: accurate near 0 and pi, with gradient 0 where the angle has none.

    Raises:
        GroupElementError: a matrix is no rotation.
    """
    if R.ndim >= 2 and R.shape[-2:] == (2, 2):
        _check_rotation(R, "R", 2)
        sine = (R[..., 1, 0] - R[..., 0, 1]).abs()
        return torch.atan2(sine, R[..., 0, 0] + R[..., 1, 1])
    _check_rotation(R, "R", 3)
    skew = R - R.mT
    sine = safe_norm(torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1))
    return torch.atan2(sine, R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)


def random_rotations(n: int, size: tuple[int, ...], generator: Generator | None = None) -> Tensor:
    """Haar-distributed rotations of R^n, float64 ``[*size, n, n]`` on the generator's device.

    A uniform angle for n = 2, a normalised Gaussian quaternion for n = 3, and for n >= 4 the QR decomposition
    of a Gaussian matrix, made unique by a positive diagonal of R (Mezzadri 2007), with the first column
    flipped where the determinant is negative.
    """
    if n == 1:
        return torch.ones(*size, 1, 1, dtype=torch.float64, device=draw_device(generator))
    if n == 2:
        turns = torch.rand(size, generator=generator, dtype=torch.float64, device=draw_device(generator))
        return planar_rotation(2 * math.pi * turns)
    if n == 3:
        return quaternion_to_matrix(standard_normal((*size, 4), generator))
    Q, R = torch.linalg.qr(standard_normal((*size, n, n), generator))
    columns = Q * R.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    flip = torch.ones(*size, n, dtype=Q.dtype, device=Q.device)
    flip[..., 0] = torch.linalg.det(columns).sign()
    return columns * flip[..., None, :]


def standard_normal(size: tuple[int, ...], generator: Generator | None = None) -> Tensor:
    """Standard normal numbers in float64 on the generator's device: every dtype sees the same stream."""
    return torch.randn(size, generator=generator, dtype=torch.float64, device=draw_device(generator))


def draw_device(generator: Generator | None) -> torch.device:
    """Device on which random numbers are drawn: the generator's, or the CPU without one."""
    return torch.device("cpu") if generator is None else generator.device


def _check_last(x: Tensor, name: str, n: int) -> None:
    if x.ndim < 1 or x.shape[-1] != n:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, but [..., {n}] is needed")


def _check_square(x: Tensor, name: str, n: int) -> None:
    if x.ndim < 2 or x.shape[-2:] != (n, n):
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, but [..., {n}, {n}] is needed")


def _check_rotation(R: Tensor, name: str, n: int) -> None:
    """Raise unless R is a batch of rotations of R^n, up to rounding."""
    _check_square(R, name, n)
    check_floating(R, name)
    if is_traced():
        return
    fixed = R.detach()
    fixed = fixed if fixed.dtype in (torch.float32, torch.float64) else fixed.float()
    with full_precision(fixed):
        away = (fixed.mT @ fixed - torch.eye(n, dtype=fixed.dtype, device=fixed.device)).abs().amax((-2, -1))
    _refuse(~((away <= loose_tol(R.dtype)) & (torch.linalg.det(fixed) > 0)), R, name, f"a rotation of R^{n}")


def _refuse(bad: Tensor, x: Tensor, name: str, kind: str) -> None:
    if bool(bad.any()):
        index = first_index(bad)
        raise GroupElementError(
            f"{name}{list(index) if index else ''} is not {kind}: {x[index].tolist()}; project matrices with "
            "erlangen.groups.decompositions.polar, or correct the data"
        )
