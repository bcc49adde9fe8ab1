"""Rays against signed distances, by sphere tracing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, NotConvergedWarning, ShapeError, check_integer
from erlangen.geometry import Rays
from erlangen.render.hits import Hits, checked_rays


def cast_sdf(
    rays: Rays,
    sdf: Callable[[Tensor], Tensor],
    far: float,
    *,
    steps: int = 256,
    tol: float | None = None,
) -> Hits:
    """Rays against the surface where a signed distance is zero (Hart 1996).

    >>> ray = Rays(torch.tensor([-5.0, 0.0, 0.0]), torch.tensor([[1.0, 0.0, 0.0]]))
    >>> cast_sdf(ray, lambda x: x.norm(dim=-1) - 2, far=20.0)  # a ball
    Hits(distance=tensor([3.]), normal=tensor([[-1.,  0.,  0.]]), index=tensor([0]))

    A step is as long as the distance says, which may be less than the true one, never more. Where the surface is reached, one
    step of Newton along the ray gives the distance its last digits and its derivatives, also by what `sdf` depends on.

    Args:
        rays: see `erlangen.render`.
        sdf: from points ``[..., R, 3]`` to signed distances ``[..., R]``, differentiable, with a slope of at most 1. Rays that
            begin inside go to where they leave.
        far: where to stop, in units of length.
        steps: the most of them.
        tol: distance that counts as reached; by default the root of the rounding, times `far` where that is below 1.

    Raises:
        ShapeError: answers of another shape.
        ErlangenError: `far` or `steps` is not positive.

    Warns with `NotConvergedWarning` where rays are on their way after all steps, as along a surface; they count as missing it.
    """
    origin, direction = checked_rays(rays)
    check_integer("steps", steps, 1)
    if not far > 0 or not math.isfinite(far):
        raise ErlangenError(f"far = {far}; give a positive length")
    tol = math.sqrt(torch.finfo(direction.dtype).eps) * min(1.0, far) if tol is None else tol
    length = torch.linalg.vector_norm(direction, dim=-1)
    with torch.no_grad():
        distance = torch.zeros_like(length)
        reached, going = torch.zeros_like(length, dtype=torch.bool), torch.ones_like(length, dtype=torch.bool)
        for _ in range(steps):
            gap = sdf(origin + distance[..., None] * direction)
            if gap.shape != length.shape:
                raise ShapeError(
                    f"sdf answers {tuple(gap.shape)} to points {(*length.shape, 3)}; one distance for each point"
                )
            reached |= going & (gap.abs() <= tol)
            going &= ~reached
            distance = torch.where(going, distance + gap.abs() / length, distance)
            going &= distance * length <= far
            if not bool(going.any()):
                break
        else:
            warnings.warn(
                f"{int(going.sum())} of {going.numel()} rays are neither at the surface nor beyond it after {steps} steps; they "
                "count as missing it. Allow more steps, or a larger tol",
                NotConvergedWarning,
                stacklevel=2,
            )
    points = origin + distance[..., None] * direction
    graph = torch.is_grad_enabled() and (points.requires_grad or sdf(points).requires_grad)
    with torch.enable_grad():
        points = points if points.requires_grad else points.requires_grad_()
        gap = sdf(points)
        slope = torch.autograd.grad(gap.sum(), points, create_graph=graph)[0]
    along = (slope * direction).sum(-1)
    steep = reached & (along != 0)
    newton = distance - torch.where(steep, gap / torch.where(steep, along, 1.0), 0.0)
    size = torch.linalg.vector_norm(slope, dim=-1, keepdim=True)
    normal = torch.where(along > 0, -1.0, 1.0).to(slope)[..., None] * slope / torch.where(size == 0, 1.0, size)
    if not graph:
        newton, normal = newton.detach(), normal.detach()
    return Hits(
        torch.where(reached, newton, torch.inf),
        torch.where(reached[..., None], normal, torch.zeros_like(normal)),
        torch.where(reached, 0, -1),
    )
