"""Outlines of airfoils, and exact distances from outlines: the geometry that flows are computed around."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating

__all__ = ["joukowski", "naca4", "outline_distance"]


def naca4(camber: Tensor, place: Tensor, thickness: Tensor, panels: int = 100) -> Tensor:
    """Outlines ``[..., panels + 1, 2]`` of four-digit NACA airfoils of chord 1, with a closed trailing edge at (1, 0).

    >>> outline = naca4(torch.tensor(0.02), torch.tensor(0.4), torch.tensor(0.12), 40)          # NACA 2412
    >>> outline.shape, outline[0].tolist() == outline[-1].tolist()
    (torch.Size([41, 2]), True)

    Points run from the trailing edge over the lower side to the nose and back over the upper side, clockwise, closer
    together at the ends (cosine spacing). Thickness is laid off at right angles to the camber line (Jacobs, Ward and Pinkerton,
    NACA report 460, 1933), with the last coefficient -0.1036 that closes the trailing edge.

    Args:
        camber: largest height of the camber line over the chord, ``[...]``.
        place: where that is, in 0..1.
        thickness: largest thickness over the chord.
        panels: number of edges, even, at least 8.

    Raises:
        ErlangenError: `panels` is odd or too small, `place` is not within 0..1, or a thickness is not positive.
    """
    if panels < 8 or panels % 2:
        raise ErlangenError(f"panels = {panels}: give an even number of at least 8")
    for name, value in (("camber", camber), ("place", place), ("thickness", thickness)):
        check_floating(value, name)
        check_finite(value, name)
    if bool((place <= 0).any()) or bool((place >= 1).any()):
        raise ErlangenError(
            f"place reaches from {float(place.min()):g} to {float(place.max()):g}; give fractions of the chord"
        )
    if bool((thickness <= 0).any()):
        raise ErlangenError(f"thickness = {float(thickness.min()):g}: give a positive one")
    m, p, t = (value[..., None] for value in torch.broadcast_tensors(camber, place, thickness))
    half = panels // 2
    x = (1 - torch.cos(math.pi * torch.arange(half + 1, dtype=m.dtype, device=m.device) / half)) / 2
    y = 5 * t * (0.2969 * x.sqrt() - 0.1260 * x - 0.3516 * x**2 + 0.2843 * x**3 - 0.1036 * x**4)
    fore, aft = m / p**2 * (2 * p * x - x**2), m / (1 - p) ** 2 * (1 - 2 * p + 2 * p * x - x**2)
    line = torch.where(x < p, fore, aft)
    slope = torch.where(x < p, 2 * m / p**2 * (p - x), 2 * m / (1 - p) ** 2 * (p - x))
    cos, sin = 1 / (1 + slope**2).sqrt(), slope / (1 + slope**2).sqrt()
    lower = torch.stack([x + y * sin, line - y * cos], -1)
    upper = torch.stack([x - y * sin, line + y * cos], -1)
    lower[..., -1, :] = upper[..., -1, :] = torch.tensor([1.0, 0.0], dtype=m.dtype, device=m.device)
    return torch.cat([lower.flip(-2), upper[..., 1:, :]], -2)


def joukowski(
    thick: float, bend: float, panels: int = 100, *, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, float]:
    """An outline ``[panels + 1, 2]`` whose lift is known, and the radius R that the lift has in it.

    >>> outline, radius = joukowski(0.08, 0.0, 100)
    >>> round(float(outline[:, 0].max() - outline[:, 0].min()), 2), radius
    (4.02, 1.08)

    The circle of centre ``-thick + i bend`` through 1, under ``z + 1/z`` (Joukowski 1910), clockwise from the cusp at 2. In a
    stream of speed 1 at an angle a, its circulation is ``4 pi R sin(a + b)`` with ``sin b = bend / R``.

    Args:
        thick: how far the centre is left of 0, not negative.
        bend: how far it is above.
        panels: number of edges.
        dtype: floating dtype.

    Raises:
        ErlangenError: `thick` is negative, or `panels` below 8.
    """
    if thick < 0 or panels < 8:
        raise ErlangenError(
            f"thick = {thick}, panels = {panels}: give a thickness that is not negative, and 8 panels or more"
        )
    centre = complex(-thick, bend)
    radius = abs(1 - centre)
    begin = -math.asin(bend / radius)
    angles = begin - 2 * math.pi * torch.arange(panels + 1, dtype=dtype) / panels
    z = centre + radius * torch.polar(torch.ones_like(angles), angles)
    z[0] = z[-1] = 1
    w = z + 1 / z
    return torch.stack([w.real, w.imag], -1), radius


def outline_distance(x: Tensor, outlines: Tensor | Sequence[Tensor]) -> Tensor:
    """Signed distances ``[..., Q]`` of points from closed outlines, exact: negative inside.

    >>> square = torch.tensor([[0.0, 0], [2, 0], [2, 2], [0, 2], [0, 0]])
    >>> outline_distance(torch.tensor([[1.0, 1.0], [3.0, 3.0], [1.0, 5.0]]), square).tolist()
    [-1.0, 1.4142135381698608, 3.0]

    Args:
        x: points ``[..., Q, 2]``.
        outlines: closed polygons ``[..., n + 1, 2]``, first point repeated at the end, in either direction; of several, which
            must not overlap, the smallest distance counts.

    Raises:
        ShapeError: shapes do not fit, or an outline is not closed.
        NotFiniteError: an outline holds NaN or Inf.
    """
    several = [outlines] if isinstance(outlines, Tensor) else list(outlines)
    return torch.stack([_distance(x, outline) for outline in several]).amin(0)


def _distance(x: Tensor, outline: Tensor) -> Tensor:
    check_outline(outline, "outlines")
    if x.ndim < 2 or x.shape[-1] != 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but points [..., Q, 2] are needed")
    a, b = outline[..., None, :-1, :], outline[..., None, 1:, :]
    edge, away = b - a, x[..., :, None, :] - a
    length = edge.square().sum(-1)
    along = ((away * edge).sum(-1) / length.clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 1)
    squares = (away - along[..., None] * edge).square().sum(-1).amin(-1)
    # A ray to the right meets the outline an odd number of times from inside.
    low, high = a[..., 1] <= x[..., :, None, 1], b[..., 1] <= x[..., :, None, 1]
    side = edge[..., 0] * away[..., 1] - edge[..., 1] * away[..., 0]
    crosses = (low & ~high & (side > 0)) | (~low & high & (side < 0))
    inside = crosses.sum(-1) % 2 == 1
    return torch.where(inside, -1.0, 1.0) * squares.sqrt()


def check_outline(outline: Tensor, name: str) -> None:
    """Raise unless a tensor is closed polygons ``[..., n + 1, 2]`` of finite numbers."""
    check_floating(outline, name)
    if outline.ndim < 2 or outline.shape[-1] != 2 or outline.shape[-2] < 4:
        raise ShapeError(
            f"{name} has shape {tuple(outline.shape)}; give closed polygons [..., n + 1, 2] of 3 edges or more"
        )
    check_finite(outline, name)
    if not bool((outline[..., 0, :] == outline[..., -1, :]).all()):
        raise ShapeError(f"{name} is not closed: repeat the first point at the end")
