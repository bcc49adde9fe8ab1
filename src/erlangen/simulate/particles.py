"""Particle image velocimetry: two pictures of particles that drift along with a flow, and how far each place has moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ModelError, NotFiniteError, ShapeError, check_integer
from erlangen.simulate.laws import check_number

__all__ = ["ParticleImages", "Vortices", "particle_images"]

Velocity = Callable[[Tensor], Tensor]
"""A steady velocity field: positions ``[B, N, 2]`` in pixels to velocities ``[B, N, 2]`` in pixels per frame."""


@dataclass(frozen=True)
class ParticleImages:
    """B pairs of pictures with their displacement.

    Attributes:
        frames: brightness ``[B, 2, size, size]`` half a frame before and half a frame after the middle of time.
        field: displacement ``[B, 2, size, size]`` in pixels between the frames, (x to the right, y up), of what passes each
            pixel centre at the middle of time. `erlangen.actions.Field` moves it.
    """

    frames: Tensor
    field: Tensor


@dataclass(frozen=True)
class Vortices:
    """The analytic velocity of B flows: V Lamb-Oseen vortices each, on a uniform drift; callable as a `Velocity`.

    A vortex of circulation Gamma and core radius r_c has the velocity ``Gamma / (2 pi r) (1 - exp(-r^2 / r_c^2))`` around its
    centre, counterclockwise for positive Gamma. The divergence is zero, the curl the sum of
    ``Gamma / (pi r_c^2) exp(-r^2 / r_c^2)``.

    Attributes:
        centre: ``[B, V, 2]`` in pixels from the middle of the picture, (x to the right, y up).
        circulation: ``[B, V]`` in square pixels per frame.
        core: ``[B, V]`` in pixels, positive.
        drift: ``[B, 2]`` in pixels per frame.

    Raises:
        ShapeError: the shapes do not belong together.
        ErlangenError: a core is not positive.
    """

    centre: Tensor
    circulation: Tensor
    core: Tensor
    drift: Tensor

    def __post_init__(self) -> None:
        batch = tuple(self.circulation.shape)
        shapes = [tuple(t.shape) for t in (self.centre, self.circulation, self.core, self.drift)]
        if len(batch) != 2 or shapes != [(*batch, 2), batch, batch, (batch[0], 2)]:
            raise ShapeError(
                f"centre, circulation, core and drift have the shapes {shapes}; give [B, V, 2], [B, V], [B, V] and [B, 2]"
            )
        if not bool((self.core > 0).all()):
            raise ErlangenError(f"core has the value {float(self.core.min()):g}; core radii are positive")

    def __call__(self, pos: Tensor) -> Tensor:
        """Velocities ``[B, N, 2]`` at positions ``[B, N, 2]``, in their dtype."""
        centre, circulation, core, drift = (t.to(pos) for t in (self.centre, self.circulation, self.core, self.drift))
        dx, dy = ((pos[..., i, None] - centre[:, None, :, i]) for i in (0, 1))  # [B, N, V] each
        ratio = (dx.square() + dy.square()) / core[:, None].square()
        small = ratio < torch.finfo(pos.dtype).eps
        shape = torch.where(small, 1.0, -torch.expm1(-ratio) / torch.where(small, 1.0, ratio))
        turn = shape * (circulation / (2 * math.pi * core.square()))[:, None]
        return torch.stack([-(turn * dy).sum(-1), (turn * dx).sum(-1)], -1) + drift[:, None]


def particle_images(
    velocity: Velocity,
    count: int,
    size: int = 64,
    *,
    density: float = 0.05,
    diameter: tuple[float, float] = (2.0, 3.0),
    brightness: tuple[float, float] = (0.5, 1.0),
    noise: float = 0.0,
    margin: float = 8.0,
    steps: int = 4,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> ParticleImages:
    """Pictures of particles before and after a steady flow has carried them for one frame.

    Particles lie uniformly at the middle of time and are carried half a frame back and half a frame on (fourth-order
    Runge-Kutta), so a flow in reverse swaps the frames and negates the field, exactly. Each is a Gaussian spot whose
    brightness falls to ``exp(-2)`` of its middle at half the diameter, the usual model of synthetic velocimetry (Raffel,
    Willert, Scarano, Kaehler, Wereley and Kompenhans, Particle Image Velocimetry, 2018); spots add up. Geometry as in
    `erlangen.actions.Image`: lengths in pixels, the origin in the middle, y up.

    >>> flow = Vortices(torch.zeros(3, 1, 2), torch.full((3, 1), 60.0), torch.full((3, 1), 8.0), torch.zeros(3, 2))
    >>> pairs = particle_images(flow, 3, 32, generator=torch.Generator().manual_seed(0))
    >>> pairs.frames.shape, pairs.field.shape
    (torch.Size([3, 2, 32, 32]), torch.Size([3, 2, 32, 32]))

    Args:
        velocity: `Vortices`, or any function of positions ``[B, N, 2]`` in pixels; it is called in float64.
        count: number of pairs, B.
        size: pixels along each side.
        density: particles per pixel.
        diameter: the least and the largest diameter of a spot, in pixels; uniform between.
        brightness: the least and the largest brightness of a spot; uniform between.
        noise: standard deviation of Gaussian noise, independent for all pixels.
        margin: how far beyond the picture particles are laid out; at least half of the largest displacement, or places
            near the border lack particles.
        steps: steps of the integration for each half frame.
        generator: source of all randomness; torch's global stream without it.
        dtype: of the result; all is computed in float64.

    Raises:
        ErlangenError: a count, the density, a diameter or a brightness is not positive, a range is descending, or noise or
            margin is negative.
        ModelError: the velocity has another shape than the positions.
        NotFiniteError: the velocity is NaN or infinite somewhere.
    """
    for name, value in (("count", count), ("size", size), ("steps", steps)):
        check_integer(name, value, 1)
    for name, (low, high) in (("diameter", diameter), ("brightness", brightness)):
        if not 0 < low <= high < math.inf:
            raise ErlangenError(f"{name} = ({low:g}, {high:g}); give a positive range (low, high)")
    check_number("density", density, above=0)
    check_number("noise", noise, least=0)
    check_number("margin", margin, least=0)
    wide = size + 2 * margin
    particles = max(1, round(density * wide**2))

    def between(low: float, high: float, *more: int) -> Tensor:
        draw = torch.rand(count, particles, *more, generator=generator, dtype=torch.float64)
        return low + (high - low) * draw

    pos = between(-wide / 2, wide / 2, 2)
    width, peak = between(*diameter) / 4, between(*brightness)
    places = [_carried(velocity, pos, time, steps) for time in (-0.5, 0.5)]
    frames = torch.stack([_spots(place, width, peak, size) for place in places], 1)
    if noise:
        frames = frames + noise * torch.randn(frames.shape, generator=generator, dtype=torch.float64)
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    centres = torch.stack([axis.expand(size, -1), -axis[:, None].expand(-1, size)], -1).reshape(1, -1, 2)
    centres = centres.expand(count, -1, -1)
    moved = _carried(velocity, centres, 0.5, steps) - _carried(velocity, centres, -0.5, steps)
    return ParticleImages(frames.to(dtype), moved.mT.unflatten(-1, (size, size)).to(dtype))


def _carried(velocity: Velocity, pos: Tensor, time: float, steps: int) -> Tensor:
    """Where particles are after a time, in frames, by the classical fourth-order Runge-Kutta method."""

    def speed(at: Tensor) -> Tensor:
        v = velocity(at)
        if v.shape != at.shape:
            raise ModelError(
                f"velocity gave the shape {tuple(v.shape)} at positions {tuple(at.shape)}; return the same"
            )
        if not bool(torch.isfinite(v).all()):
            raise NotFiniteError("velocity gave NaN or infinity; check it at the middle of a vortex and far away")
        return v

    h = time / steps
    for _ in range(steps):
        a = speed(pos)
        b = speed(pos + h / 2 * a)
        c = speed(pos + h / 2 * b)
        d = speed(pos + h * c)
        pos = pos + h / 6 * (a + 2 * b + 2 * c + d)
    return pos


def _spots(pos: Tensor, width: Tensor, peak: Tensor, size: int) -> Tensor:
    """Sums of Gaussian spots ``[B, size, size]``; each is a column times a row, so that one product of matrices adds them."""
    axis = torch.arange(size, dtype=pos.dtype) - (size - 1) / 2
    columns = torch.exp(-((axis - pos[..., :1]) ** 2) / (2 * width[..., None] ** 2))
    rows = peak[..., None] * torch.exp(-((-axis - pos[..., 1:]) ** 2) / (2 * width[..., None] ** 2))
    return rows.mT @ columns
