"""Points on the surfaces of spheres, capsules, cylinders and boxes, many solids at a time."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

CAPSULE, CYLINDER, BOX = range(3)
"""Kinds. Sizes are half sizes: (radius, half length of the axis along z, unused), or half sides; a capsule without length
is a sphere."""


def surface_areas(kind: Tensor, size: Tensor) -> Tensor:
    """Areas ``[...]`` of solids of `kind` int64 ``[...]`` and `size` ``[..., 3]``."""
    a, b, c = size.unbind(-1)
    capsule = 4 * math.pi * a * (b + a)
    cylinder = 4 * math.pi * a * b + 2 * math.pi * a.square()
    return _choose(kind, capsule, cylinder, 8 * (a * b + b * c + c * a))


def surface_points(kind: Tensor, size: Tensor, generator: Generator | None = None) -> Tensor:
    """One point ``[..., 3]`` uniform on each surface, in the axes of the solid. The dtype is that of `size`."""

    def uniform() -> Tensor:
        return torch.rand(kind.shape, generator=generator, dtype=size.dtype)

    a, b, c = size.unbind(-1)
    part, height, angle = uniform(), 2 * uniform() - 1, 2 * math.pi * uniform()
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    # A sphere's height is uniform (Archimedes), so one draw serves the side (scaled) and the caps.
    on_side = part * (b + a) < b
    ring = torch.where(on_side, 1.0, (1 - height.square()).clamp(min=0).sqrt())
    z = torch.where(on_side, height * b, height * a + torch.where(height < 0, -b, b))
    capsule = torch.cat([(a * ring)[..., None] * circle, z[..., None]], -1)
    on_wall = part * (2 * b + a) < 2 * b
    ring = torch.where(on_wall, 1.0, uniform().sqrt())
    z = b * torch.where(on_wall, height, torch.where(height < 0, -1.0, 1.0))
    cylinder = torch.cat([(a * ring)[..., None] * circle, z[..., None]], -1)
    inside = 2 * torch.stack([uniform(), uniform(), uniform()], -1) - 1
    faces = torch.stack([b * c, c * a, a * b], -1).cumsum(-1)
    face = (part[..., None] * faces[..., 2:] >= faces[..., :2]).sum(-1)
    box = torch.where(one_hot(face, 3).bool(), torch.where(inside < 0, -1.0, 1.0), inside) * size
    return _choose(kind[..., None], capsule, cylinder, box)


def _choose(kind: Tensor, capsule: Tensor, cylinder: Tensor, box: Tensor) -> Tensor:
    return torch.where(kind == CAPSULE, capsule, torch.where(kind == CYLINDER, cylinder, box))
