"""The rotation, motion or similarity that brings points onto points; frames from points; means of rotations.

>>> import torch
>>> X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
>>> R = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
>>> fit = align(X, 2 * X @ R.mT + 1, scale=True)
>>> torch.allclose(fit.rotation, R), round(fit.scale.item(), 6), torch.allclose(fit.apply(X), 2 * X @ R.mT + 1)
(True, 2.0, True)

All of it is batched and differentiable, and says where the data do not determine the answer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import (
    DataError,
    OnDegenerate,
    ShapeError,
    check_finite,
    check_floating,
    check_on_degenerate,
    first_index,
    tell_degenerate,
)
from erlangen.geometry._nearest import nearest_rotation
from erlangen.geometry.poses import rigid
from erlangen.groups.determinants import determinant
from erlangen.numerics import full_precision, safe_norm
from erlangen.tracing import is_traced


class Alignment(NamedTuple):
    """``x -> scale x @ rotation.mT + translation``, as `align` finds it.

    Attributes:
        rotation: ``[..., d, d]``.
        scale: ``[...]``, 1 unless it was asked for.
        translation: ``[..., d]``, 0 unless it was asked for.
        residual: root of the weighted mean squared distance that is left, ``[...]``.
        rank: int64 ``[...]``, how many dimensions the two configurations have in common: the rank of their cross-covariance.
        gap: ``[...]``, how well the rotation is determined: the sum of the two smallest singular values over the largest,
            the smallest one with the sign of the determinant (or that one alone where reflections are allowed). An error of
            relative size eps in the points turns the rotation by about eps / gap. Zero where several rotations are best.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    residual: Tensor
    rank: Tensor
    gap: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Points ``[..., n, d]`` moved."""
        return self.scale[..., None, None] * x @ self.rotation.mT + self.translation[..., None, :]

    @property
    def matrix(self) -> Tensor:
        """Elements ``[..., d + 1, d + 1]`` of SE(d), E(d) or Similarity(d)."""
        return rigid(self.scale[..., None, None] * self.rotation, self.translation)


class ChordalMean(NamedTuple):
    """Result of `chordal_mean`.

    Attributes:
        rotation: ``[..., d, d]``.
        gap: ``[...]``, as in `Alignment`, relative to rotations that all agree: near 0 where the mean is not determined.
    """

    rotation: Tensor
    gap: Tensor


def align(
    X: Tensor,
    Y: Tensor,
    weights: Tensor | None = None,
    *,
    scale: bool = False,
    translation: bool = True,
    reflections: bool = False,
    on_degenerate: OnDegenerate = "warn",
) -> Alignment:
    """The motion that brings points X closest to Y, in the weighted mean of squared distances.

    >>> X = torch.tensor([[0.0, 0], [2, 0], [0, 1]])
    >>> align(X, X + torch.tensor([5.0, 7.0])).translation.round()
    tensor([5., 7.])

    Kabsch (1976) with ``translation``; Umeyama (1991) with ``scale`` too; orthogonal Procrustes (Schönemann 1966) with
    ``reflections`` and without ``translation``. The determinant is +1 unless reflections are allowed, also for planar points and
    for mirror images. Gradients flow through all results, twice if asked for; where several rotations are best that of the
    rotation is zero along their differences.

    Args:
        X, Y: points ``[..., n, d]``, row by row.
        weights: ``[..., n]`` or ``[n]``, not negative and not all zero; 0 leaves a row out, whatever it holds that is finite.
        scale: allow a common factor, not negative.
        translation: allow a shift; without it the origin stays.
        reflections: allow determinant -1.
        on_degenerate: what happens where the gap is below rounding: "warn", "error" or "allow".

    Raises:
        ShapeError, DtypeError, NotFiniteError: other shapes, integers, NaN.
        DataError: weights that are negative or all zero; X has no extent, where a scale is asked for.
        DegenerateFrameError: several rotations are best, and ``on_degenerate="error"``.
    """
    check_on_degenerate(on_degenerate)
    for name, A in (("X", X), ("Y", Y)):
        if A.ndim < 2 or not A.shape[-1] or not A.shape[-2]:
            raise ShapeError(f"{name} has shape {tuple(A.shape)}; give points as rows [..., n, d]")
        check_floating(A, name)
        if not is_traced():
            check_finite(A, name)
    if X.shape[-2:] != Y.shape[-2:]:
        raise ShapeError(f"X has shape {tuple(X.shape)} and Y {tuple(Y.shape)}; rows correspond to rows")
    share = _shares(weights, X, Y)
    d = X.shape[-1]
    with full_precision(X):
        zero = torch.zeros_like(X[..., 0, :])
        mean_x, mean_y = ((share[..., None, :] @ A)[..., 0, :] if translation else zero for A in (X, Y))
        x, y = X - mean_x[..., None, :], Y - mean_y[..., None, :]
        weighed = share[..., None] * x
        R, values, _ = nearest_rotation(y.mT @ weighed, proper=not reflections)
        factor = torch.ones_like(values[..., 0])
        if scale:
            spread = (weighed * x).sum((-2, -1))
            if not is_traced() and bool((spread == 0).any()):
                index = first_index(spread == 0)
                raise DataError(f"X{list(index) if index else ''} has no extent, so no scale; use scale=False")
            factor = ((y.mT @ weighed) * R).sum((-2, -1)) / spread
            # Where the best rotation of a mirror image is worse than none, the best scale is zero.
            factor = factor.clamp(min=0)
        shift = (
            mean_y - factor[..., None] * (R @ mean_x[..., None])[..., 0] if translation else zero.expand(R.shape[:-1])
        )
        rest = factor[..., None, None] * x @ R.mT - y
        residual = safe_norm(share.sqrt()[..., None] * rest, (-2, -1))
    # Only rounding of the products is left below this; it grows with what was subtracted to centre the points.
    largest = [(share[..., None] * A.detach().square()).sum((-2, -1)).sqrt() for A in (X, Y)]
    floor = 8 * d * torch.finfo(values.dtype).eps * largest[0] * largest[1]
    rank = (values.abs() > floor[..., None]).sum(-1)
    gap, loose = _gap(values, floor, reflections)
    if on_degenerate != "allow" and not is_traced() and bool(loose.any()):
        index = first_index(loose)
        tell_degenerate(
            f"several rotations bring X{list(index) if index else ''} equally close to Y: their cross-covariance has rank "
            f"{int(rank[index])} and singular values {values[index].tolist()}; use points that span more "
            "dimensions, or reflections=True for mirror images",
            on_degenerate,
        )
    return Alignment(R, factor, shift, residual, rank, gap)


def gram_schmidt(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations ``[..., n, n]`` whose columns span vectors ``[..., n - 1, n]`` in order, and what was left of each.

    >>> gram_schmidt(torch.tensor([[2.0, 0, 0], [1, 3, 0]]))[1]  # lengths beyond the span of those before
    tensor([2., 3.])

    The last column completes them to determinant +1. A vector in the span of those before has length 0 and no direction of its
    own; any unit vector orthogonal to them stands in, so that the result is always a rotation.

    Raises:
        ShapeError: not n - 1 vectors in R^n.
    """
    n = steps.shape[-1] if steps.ndim else 0
    if steps.ndim < 2 or steps.shape[-2] != n - 1 or n < 2:
        raise ShapeError(
            f"steps has shape {tuple(steps.shape)}; give n - 1 vectors in R^n, [..., n - 1, n], n at least 2"
        )
    check_floating(steps, "steps")
    axes: list[Tensor] = []
    lengths: list[Tensor] = []
    parallel = 1e-14 if steps.dtype == torch.float64 else 16 * torch.finfo(steps.dtype).eps
    for step in steps.unbind(-2):
        rest = _reject(step, axes)
        length = torch.linalg.vector_norm(rest.detach(), dim=-1)
        lengths.append(length)
        # The coordinate axis that is farthest from the span of the earlier axes.
        eye = torch.eye(n, dtype=steps.dtype, device=steps.device)
        spares = torch.stack([_reject(e.expand_as(step), [a.detach() for a in axes]) for e in eye], -2)
        best = spares.norm(dim=-1).argmax(-1)
        spare = spares.gather(-2, best[..., None, None].expand(*best.shape, 1, n))[..., 0, :]
        ok = (length > parallel * torch.linalg.vector_norm(step.detach(), dim=-1))[..., None]
        rest = _reject(torch.where(ok, rest, spare), axes)  # the second pass restores orthogonality
        axes.append(rest / torch.linalg.vector_norm(rest, dim=-1, keepdim=True))
    columns = [list(range(k)) + list(range(k + 1, n)) for k in range(n)]
    known = torch.stack(axes, -2)
    cofactors = [(-1) ** (n - 1 + k) * determinant(known[..., columns[k]]) for k in range(n)]
    return torch.stack([*axes, torch.stack(cofactors, -1)], -1), torch.stack(lengths, -1)


def point_frames(points: Tensor, *, on_degenerate: OnDegenerate = "warn") -> Tensor:
    """Elements ``[..., n + 1, n + 1]`` of SE(n): frames that stand at the first of n points and look along the others.

    >>> point_frames(torch.tensor([[1.0, 1.0], [1.0, 3.0]]))  # in the plane two points: x goes from the first to the second
    tensor([[ 0., -1.,  1.],
            [ 1.,  0.,  1.],
            [ 0.,  0.,  1.]])

    For a residue of a protein, (CA, C, N) gives the frame of its backbone. A frame of moved points is the moved frame, under
    SE(n). In mirrors the last axis goes to the other side.

    Args:
        points: ``[..., n, n]``, n points in R^n, n at least 2.
        on_degenerate: what happens where points coincide or lie in a smaller space than n - 1 dimensions.

    Raises:
        ShapeError, DtypeError: other shapes, integers.
        DegenerateFrameError: points that determine no frame, and ``on_degenerate="error"``.
    """
    check_on_degenerate(on_degenerate)
    if points.ndim < 2 or points.shape[-1] != points.shape[-2] or points.shape[-1] < 2:
        raise ShapeError(
            f"points has shape {tuple(points.shape)}; a frame of R^n needs n points, [..., n, n], n at least 2"
        )
    steps = points[..., 1:, :] - points[..., :1, :]
    R, lengths = gram_schmidt(steps)
    if on_degenerate != "allow" and not is_traced():
        scale = points.detach().abs().amax((-2, -1))
        loose = (lengths <= 8 * torch.finfo(points.dtype).eps * scale[..., None]).any(-1)
        if bool(loose.any()):
            index = first_index(loose)
            tell_degenerate(
                f"points{list(index) if index else ''} = {points[index].tolist()} determine no frame: they coincide, or "
                "one lies in the span of those before; choose other points",
                on_degenerate,
            )
    return rigid(R, points[..., 0, :])


def chordal_mean(
    rotations: Tensor, weights: Tensor | None = None, *, on_degenerate: OnDegenerate = "warn"
) -> ChordalMean:
    """The rotation with the least weighted sum of squared Frobenius distances from the given ones ``[..., N, d, d]``.

    >>> turns = torch.stack([torch.eye(2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])])
    >>> chordal_mean(turns).rotation  # half way, an eighth of a turn
    tensor([[ 0.7071, -0.7071],
            [ 0.7071,  0.7071]])

    It is the rotation nearest to the mean of the matrices (Moakher 2002), in one step. The mean by angles, which takes
    several, is ``erlangen.geometry.manifolds.Rotations().mean(rotations, weights)``.

    Args:
        rotations: ``[..., N, d, d]``.
        weights: ``[..., N]`` or ``[N]``, not negative and not all zero.
        on_degenerate: what happens where the mean is not determined, as that of two opposite rotations of the plane.

    Raises:
        ShapeError, DtypeError, NotFiniteError, DataError: as `align`.
        DegenerateFrameError: several rotations are nearest, and ``on_degenerate="error"``.
    """
    check_on_degenerate(on_degenerate)
    if rotations.ndim < 3 or rotations.shape[-1] != rotations.shape[-2] or not rotations.shape[-3]:
        raise ShapeError(f"rotations has shape {tuple(rotations.shape)}; give [..., N, d, d] with N at least 1")
    check_floating(rotations, "rotations")
    if not is_traced():
        check_finite(rotations, "rotations")
    share = _shares(weights, rotations.flatten(-2), rotations.flatten(-2))
    R, values, _ = nearest_rotation((share[..., None, None] * rotations).sum(-3), proper=True)
    floor = torch.full_like(values[..., 0].detach(), 8 * values.shape[-1] * torch.finfo(values.dtype).eps)
    pair = values.detach()[..., -2:].sum(-1) if values.shape[-1] > 1 else torch.full_like(floor, torch.inf)
    if on_degenerate != "allow" and not is_traced() and bool((pair <= floor).any()):
        index = first_index(pair <= floor)
        tell_degenerate(
            f"several rotations are nearest to the mean{list(index) if index else ''} of the matrices, whose singular values are "
            f"{values[index].tolist()}; weigh the rotations otherwise",
            on_degenerate,
        )
    return ChordalMean(R, pair / 2)


def _gap(values: Tensor, floor: Tensor, reflections: bool) -> tuple[Tensor, Tensor]:
    """What `Alignment` calls the gap, and where it is below rounding."""
    values = values.detach()
    if values.shape[-1] == 1:
        pair = values[..., 0] if reflections else torch.full_like(values[..., 0], torch.inf)
    elif reflections:
        pair = values[..., -1]  # a direction without extent may be mirrored
    else:
        pair = values[..., -2:].sum(-1)
    loose = pair <= floor
    largest = values[..., 0].abs()
    return torch.where(loose, 0.0, pair / torch.where(largest == 0, 1.0, largest)), loose


def _shares(weights: Tensor | None, X: Tensor, Y: Tensor) -> Tensor:
    """Weights that sum to one, ``[..., n]``."""
    lead = torch.broadcast_shapes(X.shape[:-1], Y.shape[:-1])
    if weights is None:
        return X.new_full((1,) * (len(lead) - 1) + lead[-1:], 1 / lead[-1])
    if weights.dtype == torch.bool:
        weights = weights.to(X.dtype)
    check_floating(weights, "weights")
    if weights.shape[-1:] != lead[-1:] or weights.ndim > len(lead):
        raise ShapeError(
            f"weights has shape {tuple(weights.shape)}; give one for each row, {tuple(lead)} or {lead[-1:]}"
        )
    total = weights.sum(-1, keepdim=True)
    if not is_traced():
        check_finite(weights, "weights")
        bad = (weights < 0) | (total <= 0)
        if bool(bad.any()):
            index = first_index(bad)
            raise DataError(
                f"weights{list(index)} = {float(weights[index]):.4g}; weights must not be negative or all zero"
            )
    return (weights / total).to(X.dtype)


def _reject(vector: Tensor, axes: list[Tensor]) -> Tensor:
    for axis in axes:
        vector = vector - (vector * axis).sum(-1, keepdim=True) * axis
    return vector
