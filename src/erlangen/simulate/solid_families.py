"""Ten families of solids with random proportions, as upright point clouds of their surfaces."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot


def solids(
    objects: int, points: int, *, noise: float = 0.01, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Point clouds ``[objects, points, 3]`` float32 and their families ``[objects]`` int64, equally many of each.

    >>> x, family = solids(20, 128)
    >>> x.shape, family.unique().tolist()
    (torch.Size([20, 128, 3]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])

    Heights are along z. Objects are bent, tapered and turned about z at random, then centred and scaled to unit root
    mean square radius; points lie on the parts' surfaces up to Gaussian `noise` (in units of that radius), uniformly by area
    on boxes, cylinders and cones, and by the angles that name them on what is round in two ways.
    """
    builders = (_box, _cylinder, _cone, _ellipsoid, _torus, _helix, _bracket, _table, _mug, _cross)
    family = torch.arange(objects) % len(builders)
    clouds = torch.empty(objects, points, 3)
    for label, build in enumerate(builders):
        rows = (family == label).nonzero()[:, 0]
        if len(rows):
            clouds[rows] = _deform(build(_Sampler(len(rows), points, generator)), generator).float()
    clouds = clouds - clouds.mean(1, keepdim=True)
    clouds = clouds / clouds.square().sum(-1).mean(1).sqrt()[:, None, None]
    clouds += noise * torch.randn(clouds.shape, generator=generator)
    order = torch.randperm(objects, generator=generator)
    return clouds[order], family[order]


def _deform(x: Tensor, generator: Generator | None) -> Tensor:
    """Taper along z, bend towards x, and turn about z by an angle of its own for every object."""
    taper, bend, angle = torch.rand(3, len(x), 1, generator=generator, dtype=x.dtype).unbind(0)
    z = x[..., 2] / x[..., 2].abs().amax(1, keepdim=True)
    a, b = (x[..., :2] * (1 + 0.3 * (taper - 0.5) * z)[..., None]).unbind(-1)
    a = a + 0.2 * (bend - 0.5) * z.square()
    angle = 2 * math.pi * angle
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos(), x[..., 2]], -1)


class _Sampler:
    """Random points on surfaces, for a batch of objects at a time."""

    def __init__(self, objects: int, points: int, generator: Generator | None) -> None:
        self.size, self.generator = (objects, points), generator

    def draw(self, low: float, high: float) -> Tensor:
        """One number per object, ``[B, 1]``."""
        return low + (high - low) * torch.rand(self.size[0], 1, generator=self.generator, dtype=torch.float64)

    def each(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """One number per point, ``[B, N]``."""
        return low + (high - low) * torch.rand(self.size, generator=self.generator, dtype=torch.float64)

    def choose(self, weights: list[Tensor]) -> Tensor:
        """One of the parts for every point with probability proportional to its weight ``[B, 1]``; ``[B, N]``."""
        return torch.multinomial(torch.cat(weights, 1), self.size[1], replacement=True, generator=self.generator)

    def box(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Surface of a box with half sides ``[B, 1]``."""
        sides = torch.stack([a, b, c], -1)
        face = self.choose([b * c, a * c, a * b])
        inside = torch.stack([self.each(-1, 1) for _ in range(3)], -1)
        outside = torch.where(inside >= 0, 1.0, -1.0).to(inside)
        return torch.where(one_hot(face, 3).bool(), outside, inside) * sides

    def tube(self, bottom: Tensor, top: Tensor, half: Tensor, *, lids: int = 2) -> Tensor:
        """Side of a truncated cone about z, with no lid, a bottom (1), or both (2)."""
        slant = ((bottom - top).square() + 4 * half.square()).sqrt()
        areas = [(bottom + top) * slant, bottom.square() * (lids > 0), top.square() * (lids > 1)]
        part, angle, u = self.choose(areas), 2 * math.pi * self.each(), self.each()
        # Uniform on the side: the distance along the slant has a density linear in the radius.
        radius = (bottom.square() + u * (top.square() - bottom.square())).sqrt()
        across = torch.where((bottom - top).abs() > 1e-9, (bottom - radius) / (bottom - top + 1e-12), u)
        z = torch.where(part == 0, 2 * across - 1, 2.0 * (part == 2) - 1) * half
        disc = self.each().sqrt() * torch.where(part == 1, bottom, top)
        radius = torch.where(part == 0, radius, disc)
        return torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)


def _shift(x: Tensor, a: Tensor | float, b: Tensor | float, c: Tensor | float) -> Tensor:
    """x moved by coordinates that broadcast to ``[B, N]``."""
    return x + torch.stack([torch.zeros_like(x[..., 0]) + value for value in (a, b, c)], -1)


def _pick(part: Tensor, clouds: list[Tensor]) -> Tensor:
    """The point of the cloud that was chosen for its place."""
    return torch.stack(clouds, -1).gather(-1, part[..., None, None].expand(*part.shape, 3, 1))[..., 0]


def _box(s: _Sampler) -> Tensor:
    return s.box(s.draw(0.3, 0.6), s.draw(0.5, 0.9), s.draw(0.6, 1.2))


def _cylinder(s: _Sampler) -> Tensor:
    radius = s.draw(0.3, 0.6)
    return s.tube(radius, radius, s.draw(0.6, 1.2))


def _cone(s: _Sampler) -> Tensor:
    return s.tube(s.draw(0.5, 0.8), s.draw(0.02, 0.12), s.draw(0.5, 1.0), lids=1)


def _ellipsoid(s: _Sampler) -> Tensor:
    sphere = torch.randn(*s.size, 3, generator=s.generator, dtype=torch.float64)
    sides = torch.stack([s.draw(0.4, 0.6), s.draw(0.5, 0.8), s.draw(0.7, 1.2)], -1)
    return sphere / sphere.norm(dim=-1, keepdim=True) * sides


def _torus(s: _Sampler) -> Tensor:
    return _ring(s, s.draw(0.8, 1.0), s.draw(0.15, 0.3), 2 * math.pi)


def _ring(s: _Sampler, large: Tensor, small: Tensor, turn: float) -> Tensor:
    """Part of a torus about z, from angle -turn / 2 to turn / 2."""
    around, about = turn * (s.each() - 0.5), 2 * math.pi * s.each()
    radius = large + small * about.cos()
    return torch.stack([radius * around.cos(), radius * around.sin(), small * about.sin()], -1)


def _helix(s: _Sampler) -> Tensor:
    t, about = s.each(), 2 * math.pi * s.each()
    angle = 2 * math.pi * s.draw(1.5, 3.0) * t
    radius, wire = s.draw(0.4, 0.6), s.draw(0.08, 0.15)
    reach = radius + wire * about.cos()
    return torch.stack(
        [reach * angle.cos(), reach * angle.sin(), s.draw(0.7, 1.2) * (2 * t - 1) + wire * about.sin()], -1
    )


def _bracket(s: _Sampler) -> Tensor:
    """Two plates at a right angle."""
    thick, wide, high, deep = s.draw(0.08, 0.15), s.draw(0.3, 0.6), s.draw(0.6, 1.0), s.draw(0.4, 0.9)
    upright, foot = s.box(thick, wide, high), s.box(deep, wide, thick)
    return _pick(s.choose([high, deep]), [upright, _shift(foot, deep, 0.0, -high)])


def _table(s: _Sampler) -> Tensor:
    a, b, high = s.draw(0.5, 0.9), s.draw(0.5, 0.9), s.draw(0.4, 0.8)
    leg, top = s.draw(0.06, 0.12), s.draw(0.05, 0.1)
    corner = s.choose([torch.ones_like(a)] * 4)
    x, y = (2.0 * (corner % 2) - 1) * (a - leg), (2.0 * (corner // 2) - 1) * (b - leg)
    plate = _shift(s.box(a, b, top), 0.0, 0.0, high)
    return _pick(s.choose([a * b, 4 * leg * high]), [plate, _shift(s.box(leg, leg, high), x, y, 0.0)])


def _mug(s: _Sampler) -> Tensor:
    """An open cylinder with a handle."""
    radius, high, handle = s.draw(0.4, 0.6), s.draw(0.45, 0.7), s.draw(0.25, 0.4)
    ring = _ring(s, handle, s.draw(0.06, 0.1), math.pi)[..., [0, 2, 1]]
    return _pick(
        s.choose([radius * high, 0.2 * handle]), [s.tube(radius, radius, high, lids=1), _shift(ring, radius, 0.0, 0.0)]
    )


def _cross(s: _Sampler) -> Tensor:
    """A post with a beam."""
    thick, high, arm = s.draw(0.1, 0.2), s.draw(0.8, 1.2), s.draw(0.4, 0.7)
    beam = _shift(s.box(arm, thick, thick), 0.0, 0.0, high * s.draw(0.2, 0.6))
    return _pick(s.choose([high, arm]), [s.box(thick, thick, high), beam])
