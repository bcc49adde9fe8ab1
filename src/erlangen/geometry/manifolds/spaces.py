"""Spheres, rotations, Stiefel manifolds, and distributions on a line."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.errors import (
    DataError,
    ErlangenError,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)
from erlangen.geometry.alignment import chordal_mean
from erlangen.geometry.manifolds.base import Manifold
from erlangen.groups.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_angle
from erlangen.numerics import angle, matrix_log, safe_norm


class Sphere(Manifold):
    """Unit vectors ``[..., n]`` with the angle as distance; O(n) acts by isometries.

    >>> Sphere().exp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, torch.pi])).round()
    tensor([-1., -0.])

    The logarithm of the opposite point has no direction and is refused.
    """

    @override
    def check(self, points: Tensor, name: str = "points") -> None:
        check_floating(points, name)
        check_finite(points, name)
        lengths = points.detach().norm(dim=-1)
        bad = (lengths - 1).abs() > 10 * torch.finfo(points.dtype).eps ** 0.75
        if bool(bad.any()):
            index = first_index(bad)
            raise DataError(
                f"{name}{list(index) if index else ''} has length {float(lengths[index]):.6g}, not 1; divide by it"
            )

    @override
    def project(self, base: Tensor, vector: Tensor) -> Tensor:
        return vector - (base * vector).sum(-1, keepdim=True) * base

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum(-1)

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        length = safe_norm(tangent, keepdim=True)
        point = length.cos() * base + torch.sinc(length / torch.pi) * tangent
        return point / safe_norm(point, keepdim=True)  # rounding would add up over many steps

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        across = self.project(base, point)
        sine, theta = safe_norm(across, keepdim=True), angle(base, point)[..., None]
        opposite = (theta > 3) & (sine <= 10 * torch.finfo(point.dtype).eps)
        if bool(opposite.any()):
            index = first_index(opposite[..., 0])
            raise ErlangenError(
                f"point{list(index) if index else ''} is opposite to the base: no geodesic to it is shortest"
            )
        zero = sine == 0
        return torch.where(zero, 1.0, theta / torch.where(zero, 1.0, sine)) * across

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        return angle(x, y)

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        total = start + end
        return tangent - (end * tangent).sum(-1, keepdim=True) / (1 + (start * end).sum(-1, keepdim=True)) * total

    @override
    def first_guess(self, points: Tensor, weights: Tensor, axis: int) -> Tensor:
        middle = (weights[..., None] * points).sum(axis)
        length = safe_norm(middle, keepdim=True)
        clear = length > torch.finfo(points.dtype).eps ** 0.5
        return torch.where(clear, middle / torch.where(clear, length, 1.0), points.select(axis, 0))


class Rotations(Manifold):
    """Rotations of space ``[..., 3, 3]`` with the angle between two as distance; SO(3) acts by isometries from both sides.

    >>> from erlangen.groups import axis_angle_to_matrix
    >>> turns = axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.2], [0.0, 0.0, 0.8]]))
    >>> torch.allclose(Rotations().mean(turns).point, axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.5])))
    True

    Tangent vectors at R are the matrices ``R K`` with K skew, their length is the angular speed. The mean by
    angles (Karcher) begins at `erlangen.geometry.chordal_mean`; it is unique for rotations that lie within a quarter of a turn
    of one. Half a turn has two shortest geodesics, of which the logarithm gives one.
    """

    point_ndim = 2

    @override
    def check(self, points: Tensor, name: str = "points") -> None:
        check_floating(points, name)
        check_finite(points, name)
        if points.ndim < 2 or points.shape[-2:] != (3, 3):
            raise ShapeError(f"{name} has shape {tuple(points.shape)}; give rotations [..., 3, 3]")
        fixed = points.detach()
        away = (fixed.mT @ fixed - torch.eye(3, dtype=fixed.dtype, device=fixed.device)).abs().amax((-2, -1))
        bad = (away > 10 * torch.finfo(points.dtype).eps ** 0.75) | (torch.linalg.det(fixed) < 0)
        if bool(bad.any()):
            index = first_index(bad)
            raise DataError(
                f"{name}{list(index) if index else ''} is no rotation: {fixed[index].tolist()}; take the nearest one by "
                "erlangen.geometry.procrustes(torch.eye(3), A.mT, proper=True)"
            )

    @override
    def project(self, base: Tensor, vector: Tensor) -> Tensor:
        inner = base.mT @ vector
        return base @ (inner - inner.mT) / 2

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum((-2, -1)) / 2

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        return base @ axis_angle_to_matrix(_axial(base.mT @ tangent))

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        x, y, z = matrix_to_axis_angle(base.mT @ point).unbind(-1)
        zero = torch.zeros_like(x)
        return base @ torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        return rotation_angle(x.mT @ y)

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        half = axis_angle_to_matrix(matrix_to_axis_angle(start.mT @ end) / 2)
        return start @ half @ (start.mT @ tangent) @ half

    @override
    def first_guess(self, points: Tensor, weights: Tensor, axis: int) -> Tensor:
        return chordal_mean(points.movedim(axis, -3), weights, on_degenerate="allow").rotation


def _axial(K: Tensor) -> Tensor:
    """The vector w ``[..., 3]`` of the skew part of K, which maps x to w x x."""
    skew = (K - K.mT) / 2
    return torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)


class Stiefel(Manifold):
    """Matrices ``[..., n, p]`` with orthonormal columns, under the canonical metric ``tr(U^T (I - X X^T / 2) V)``.

    The exponential is that of Edelman, Arias and Smith (1998, section 2.4.2), the logarithm the iteration of Zimmermann (2017),
    which converges for points that are not far apart. `retract` is the cheap step that optimisers take.
    """

    point_ndim = 2

    @override
    def check(self, points: Tensor, name: str = "points") -> None:
        check_floating(points, name)
        check_finite(points, name)
        if points.ndim < 2 or points.shape[-2] < points.shape[-1]:
            raise ShapeError(
                f"{name} has shape {tuple(points.shape)}; give [..., n, p] with n >= p orthonormal columns"
            )
        gap = (points.mT @ points - torch.eye(points.shape[-1], dtype=points.dtype)).detach().abs().amax((-2, -1))
        bad = gap > 10 * torch.finfo(points.dtype).eps ** 0.75
        if bool(bad.any()):
            index = first_index(bad)
            raise DataError(
                f"{name}{list(index) if index else ''} has columns that are not orthonormal (off by {float(gap[index]):.3g}); "
                "take torch.linalg.qr(A).Q"
            )

    @override
    def project(self, base: Tensor, vector: Tensor) -> Tensor:
        inner = base.mT @ vector
        return vector - base @ (inner + inner.mT) / 2

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum((-2, -1)) - ((base.mT @ u) * (base.mT @ v)).sum((-2, -1)) / 2

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        A = base.mT @ tangent
        # A basis of what leaves the columns of the base: the rest of the tangent, by QR.
        Q, R = torch.linalg.qr(tangent - base @ A)
        p = base.shape[-1]
        top = torch.cat([A, -R.mT], -1)
        bottom = torch.cat([R, torch.zeros_like(R)], -1)
        turned = torch.linalg.matrix_exp(torch.cat([top, bottom], -2))
        return base @ turned[..., :p, :p] + Q @ turned[..., p:, :p]

    @override
    def log(self, base: Tensor, point: Tensor, *, steps: int = 100) -> Tensor:
        p = base.shape[-1]
        M = base.mT @ point
        Q, N = torch.linalg.qr(point - base @ M)
        turned = _completed(torch.cat([M, N], -2))
        for _ in range(steps):
            rest = matrix_log(turned)[..., p:, p:]
            if bool(rest.detach().abs().max() <= 10 * torch.finfo(rest.dtype).eps):
                break
            turned = torch.cat([turned[..., :, :p], turned[..., :, p:] @ torch.linalg.matrix_exp(-rest)], -1)
        else:
            raise ErlangenError(
                f"the logarithm is not found in {steps} steps: the points are too far apart; pass steps="
            )
        log = matrix_log(turned)
        A = log[..., :p, :p]
        return base @ (A - A.mT) / 2 + Q @ log[..., p:, :p]

    def retract(self, base: Tensor, tangent: Tensor) -> Tensor:
        """The orthonormal columns nearest to ``base + tangent``: the polar factor, equal to `exp` up to the second order."""
        U, _, V = torch.linalg.svd(base + tangent, full_matrices=False)
        return U @ V


def _completed(columns: Tensor) -> Tensor:
    """A rotation ``[..., 2p, 2p]`` whose first columns are these."""
    p = columns.shape[-1]
    Q, R = torch.linalg.qr(columns, mode="complete")
    first = Q[..., :p] * R.diagonal(dim1=-2, dim2=-1).sgn()[..., None, :]
    whole = torch.cat([first, Q[..., p:]], -1)
    det = torch.linalg.det(whole).sgn()
    return torch.cat([whole[..., :-1], whole[..., -1:] * det[..., None, None]], -1)


class Wasserstein1D(Manifold):
    """Distributions on a line, as quantiles ``[..., m]`` at (i + 1/2) / m, with the 2-Wasserstein distance.

    >>> line = Wasserstein1D()
    >>> a = line.from_samples(torch.tensor([0.0, 1, 2, 3]), 4)
    >>> line.dist(a, a + 2)
    tensor(2.)

    Flat and convex: the mean averages quantiles. An exponential that leaves the distributions (quantiles that decrease) is
    refused.
    """

    @override
    def check(self, points: Tensor, name: str = "points") -> None:
        check_floating(points, name)
        check_finite(points, name)
        bad = (points.detach().diff(dim=-1) < 0).any(-1)
        if bool(bad.any()):
            index = first_index(bad)
            raise DataError(
                f"{name}{list(index) if index else ''} decreases; quantiles do not: sort it, or use from_samples"
            )

    def from_samples(self, samples: Tensor, m: int = 100) -> Tensor:
        """Quantiles ``[..., m]`` of samples ``[..., N]``, those of the step function that counts them."""
        check_integer("m", m, 1)
        check_finite(samples, "samples")
        n = samples.shape[-1]
        if not n:
            raise DataError("samples is empty; a distribution needs at least one")
        at = ((torch.arange(m, device=samples.device) + 0.5) / m * n).floor().long().clamp(max=n - 1)
        return samples.sort(dim=-1).values[..., at]

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return (u * v).mean(-1)

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        point = base + tangent
        self.check(point, "base + tangent")
        return point

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        return point - base

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        return safe_norm(x - y) / x.shape[-1] ** 0.5

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return tangent

    @override
    def closed_mean(self, points: Tensor, weights: Tensor, axis: int) -> Tensor:
        return (weights[..., None] * points).sum(axis)
