"""Points on closed surfaces with their exact normals: ellipsoids, superquadrics, boxes, tori, cylinders and cones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import check_integer

__all__ = ["Surfaces", "surfaces"]

_CANDIDATES = 16
"""Candidates per point that is kept. More of them make the density of points more even."""


@dataclass(frozen=True)
class Surfaces:
    """B point clouds of N points in space, with normals.

    Attributes:
        pos: points ``[B, N, 3]``; every cloud is centred and has root mean square radius 1.
        normals: unit vectors ``[B, N, 3]`` that point outwards, exact at `pos`.
        family: int64 ``[B]``: 0 ellipsoid, 1 superquadric, 2 box, 3 torus, 4 cylinder, 5 cone.
    """

    pos: Tensor
    normals: Tensor
    family: Tensor


def surfaces(
    n_samples: int, n_points: int = 512, *, generator: Generator | None = None, dtype: torch.dtype | None = None
) -> Surfaces:
    """Random upright surfaces, equally many of each family up to one, in random order.

    Sizes are random; heights are along z, and all but the torus are higher than wide. Points are spread by area, with a
    density that is even up to a few percent: of 16 times as many, some are drawn by the area that they stand for.

    >>> data = surfaces(12, 64, generator=torch.Generator().manual_seed(0))
    >>> data.pos.shape, data.normals.shape
    (torch.Size([12, 64, 3]), torch.Size([12, 64, 3]))

    Args:
        n_samples: number of surfaces, B.
        n_points: points on each, N.
        generator: source of all numbers; torch's global stream without it.
        dtype: dtype of the result; torch's default dtype without it.

    Raises:
        ErlangenError: a count is not positive.
    """
    check_integer("n_samples", n_samples, 1)
    check_integer("n_points", n_points, 1)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    family = torch.arange(n_samples) % len(_FAMILIES)
    rows = torch.empty(n_samples, n_points, 6, dtype=torch.float64)
    for label, build in enumerate(_FAMILIES):
        chosen = family == label
        if bool(chosen.any()):
            draw = _Draw(int(chosen.sum()), _CANDIDATES * n_points, generator)
            rows[chosen] = draw.keep(*build(draw), n_points)
    rows = rows[(order := torch.randperm(n_samples, generator=generator))]
    pos, normals = rows.split(3, -1)
    pos = pos - pos.mean(1, keepdim=True)
    pos = pos / pos.square().sum(-1).mean(1).sqrt()[:, None, None]
    return Surfaces(pos.to(dtype), normals.to(dtype), family[order])


class _Draw:
    """Random numbers for B surfaces of M candidates."""

    def __init__(self, objects: int, points: int, generator: Generator | None) -> None:
        self.size, self.generator = (objects, points), generator

    def size_between(self, low: float, high: float) -> Tensor:
        """One number per surface, ``[B, 1]``."""
        return low + (high - low) * torch.rand(self.size[0], 1, generator=self.generator, dtype=torch.float64)

    def each(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """One number per candidate, ``[B, M]``."""
        return low + (high - low) * torch.rand(self.size, generator=self.generator, dtype=torch.float64)

    def sphere(self) -> Tensor:
        """Uniform directions ``[B, M, 3]``."""
        return _unit(torch.randn(*self.size, 3, generator=self.generator, dtype=torch.float64))

    def keep(self, pos: Tensor, normals: Tensor, area: Tensor, points: int) -> Tensor:
        """Points and normals ``[B, points, 6]`` of some candidates, drawn by area without replacement."""
        index = torch.multinomial(area, points, generator=self.generator)
        return torch.cat([pos, normals], -1).gather(1, index[..., None].expand(-1, -1, 6))


Candidates = tuple[Tensor, Tensor, Tensor]
"""Points and normals ``[B, M, 3]``, and the area ``[B, M]`` that each stands for, up to a factor."""


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def _sides(draw: _Draw) -> Tensor:
    """Half sides ``[B, 1, 3]``, ascending."""
    sides = draw.size_between(0.35, 0.5), draw.size_between(0.55, 0.8), draw.size_between(0.9, 1.3)
    return torch.stack(sides, -1)


def _superquadric(draw: _Draw, power: Tensor) -> Candidates:
    """The unit sphere of the norm ``sum |x_i / a_i|^p``, seen from the centre: a ray through u meets it once."""
    sides, u = _sides(draw), draw.sphere()
    scaled = (u / sides).abs()
    radius = scaled.pow(power[..., None]).sum(-1).pow(-1 / power)
    pos = radius[..., None] * u
    normals = _unit((pos / sides).abs().pow(power[..., None] - 1) * pos.sign() / sides)
    # A cone of rays meets more surface the farther it is, and the more it is inclined.
    return pos, normals, radius.square() / (normals * u).sum(-1)


def _ellipsoid(draw: _Draw) -> Candidates:
    return _superquadric(draw, torch.full((draw.size[0], 1), 2.0, dtype=torch.float64))


def _rounded(draw: _Draw) -> Candidates:
    return _superquadric(draw, draw.size_between(2.5, 5.0))


def _box(draw: _Draw) -> Candidates:
    sides = _sides(draw)
    inside = torch.stack([draw.each(-1, 1) for _ in range(3)], -1)
    axis = (3 * draw.each()).long().clamp(max=2)
    normals = torch.nn.functional.one_hot(axis, 3) * inside.sign()
    pos = torch.where(normals != 0, normals, inside) * sides
    return pos, normals, (1 / sides).expand_as(pos).gather(-1, axis[..., None])[..., 0]


def _torus(draw: _Draw) -> Candidates:
    large, small = draw.size_between(0.8, 1.0), draw.size_between(0.25, 0.45)
    around, about = 2 * math.pi * draw.each(), 2 * math.pi * draw.each()
    normals = torch.stack([about.cos() * around.cos(), about.cos() * around.sin(), about.sin()], -1)
    centre = torch.stack([large * around.cos(), large * around.sin(), torch.zeros_like(around)], -1)
    return centre + small[..., None] * normals, normals, large + small * about.cos()


def _cylinder(draw: _Draw) -> Candidates:
    radius = draw.size_between(0.4, 0.7)
    return _turned(draw, radius, radius, draw.size_between(0.8, 1.2))


def _cone(draw: _Draw) -> Candidates:
    return _turned(draw, draw.size_between(0.6, 0.9), draw.size_between(0.1, 0.2), draw.size_between(0.8, 1.2))


def _turned(draw: _Draw, bottom: Tensor, top: Tensor, half: Tensor) -> Candidates:
    """A truncated cone about z with both lids; a third of the candidates lies on each part."""
    part, angle, u = (3 * draw.each()).long().clamp(max=2), 2 * math.pi * draw.each(), draw.each()
    slope = torch.atan2(bottom - top, 2 * half)
    side = part == 0
    radius = torch.where(side, bottom + u * (top - bottom), u.sqrt() * torch.where(part == 1, bottom, top))
    z = torch.where(side, 2 * u - 1, torch.where(part == 1, -1.0, 1.0)) * half
    out = torch.where(side, slope.cos(), 0.0)
    up = torch.where(side, slope.sin(), torch.where(part == 1, -1.0, 1.0))
    # Of the side 2 pi r ds with the slant s from 0 to 2 half / cos(slope), of the lids pi r^2.
    lids = torch.where(part == 1, bottom.square(), top.square())
    area = torch.where(side, 4 * radius * half / slope.cos(), lids)
    pos = torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)
    return pos, torch.stack([out * angle.cos(), out * angle.sin(), up], -1), area


_FAMILIES: tuple[Callable[[_Draw], Candidates], ...] = (_ellipsoid, _rounded, _box, _torus, _cylinder, _cone)
