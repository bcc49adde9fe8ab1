"""Points with normals on triangle meshes, and meshes of machined parts: extruded polygons and turned profiles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ShapeError, check_integer
from erlangen.simulate.shapes import Surfaces

__all__ = ["machined_parts", "mesh_clouds", "mesh_points"]

_AROUND = 48
"""Corners of a turned part."""


def mesh_points(
    vertices: Tensor, faces: Tensor, count: int, *, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Points on a mesh, uniform by area, with the normals of their triangles.

    >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> pos, normals = mesh_points(corners, torch.tensor([[0, 1, 2]]), 5)
    >>> normals[0]
    tensor([0., 0., 1.])

    Args:
        vertices: ``[V, 3]``, floating.
        faces: int64 ``[F, 3]``, triangles; normals point to where their corners run counterclockwise.
        count: number of points.
        generator: source of the choice; torch's global stream without it.

    Returns:
        Points and unit normals ``[count, 3]`` in the dtype of `vertices`.

    Raises:
        ShapeError: other shapes, an index without a vertex, or a mesh without area.
    """
    check_integer("count", count, 1)
    if vertices.dim() != 2 or vertices.shape[1] != 3 or faces.dim() != 2 or faces.shape[1] != 3:
        raise ShapeError(
            f"vertices {tuple(vertices.shape)} and faces {tuple(faces.shape)}; pass [V, 3] and triangles [F, 3]"
        )
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < len(vertices):
        raise ShapeError(f"faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {len(vertices)}")
    a, b, c = vertices.double()[faces].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    area = normals.norm(dim=-1)
    if not float(area.sum()) > 0:
        raise ShapeError(f"{len(faces)} faces have no area; pass triangles whose corners differ")
    chosen = torch.multinomial(area, count, replacement=True, generator=generator)
    # The square root makes points uniform within their triangle.
    root, share = torch.rand(2, count, 1, generator=generator, dtype=torch.float64).unbind(0)
    root = root.sqrt()
    pos = (1 - root) * a[chosen] + root * (1 - share) * b[chosen] + root * share * c[chosen]
    return pos.to(vertices), (normals / area[:, None].clamp(min=torch.finfo(area.dtype).tiny))[chosen].to(vertices)


def mesh_clouds(folder: str | Path, points: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points and normals ``[M, points, 3]`` of the meshes ``*.npz`` of a folder, with arrays ``vertices`` and ``faces``.

    Raises:
        DataError: there are none.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise DataError(f"meshes = {folder!r}: no *.npz there; give a folder of meshes with vertices and faces")
    found: list[tuple[Tensor, Tensor]] = []
    for path in paths:
        with np.load(path) as data:
            vertices, faces = torch.from_numpy(data["vertices"]), torch.from_numpy(data["faces"]).long()
        pos, normals = mesh_points(vertices.double(), faces, points, generator=Generator().manual_seed(seed))
        pos = pos - pos.mean(0)
        found.append(((pos / pos.square().sum(-1).mean().sqrt()).float(), normals.float()))
    pos, normals = zip(*found, strict=True)
    return torch.stack(pos), torch.stack(normals)


def machined_parts(n_samples: int, n_points: int = 512, *, generator: Generator | None = None) -> Surfaces:
    """Random upright parts as `surfaces` makes none: prisms over stars, and bodies turned from a profile with steps.

    >>> machined_parts(4, 64, generator=torch.Generator().manual_seed(0)).pos.shape
    torch.Size([4, 64, 3])

    Args:
        n_samples: number of parts; the families alternate.
        n_points: points on each.
        generator: source of all numbers; torch's global stream without it.

    Returns:
        Points and normals, float32, centred, of root mean square radius 1; family 0 is a prism, 1 is turned.

    Raises:
        ErlangenError: a count is not positive.
    """
    check_integer("n_samples", n_samples, 1)
    check_integer("n_points", n_points, 1)
    found = [
        mesh_points(*(_prism if index % 2 == 0 else _turned)(generator), n_points, generator=generator)
        for index in range(n_samples)
    ]
    pos, normals = (torch.stack(part) for part in zip(*found, strict=True))
    pos = pos - pos.mean(1, keepdim=True)
    pos = pos / pos.square().sum(-1).mean(1).sqrt()[:, None, None]
    return Surfaces(pos.float(), normals.float(), torch.arange(n_samples) % 2)


def _between(low: float, high: float, count: int, generator: Generator | None) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


def _prism(generator: Generator | None) -> tuple[Tensor, Tensor]:
    """A star of five to ten corners, pulled up."""
    corners = int(torch.randint(5, 11, (), generator=generator))
    angle = 2 * math.pi * (torch.arange(corners) + _between(-0.3, 0.3, corners, generator)) / corners
    radius = _between(0.4, 1.0, corners, generator)
    half = float(_between(0.25, 0.9, 1, generator))
    return stacked_rings(radius.expand(2, -1), angle, torch.tensor([-half, half], dtype=torch.float64))


def _turned(generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Three to six radii at as many heights, turned about z."""
    rings = int(torch.randint(3, 7, (), generator=generator))
    angle = 2 * math.pi * torch.arange(_AROUND, dtype=torch.float64) / _AROUND
    height = _between(0.1, 0.6, rings, generator).cumsum(0)
    return stacked_rings(_between(0.3, 1.0, rings, generator)[:, None].expand(-1, _AROUND), angle, height)


def stacked_rings(radius: Tensor, angle: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """A closed mesh of rings of radii ``[R, C]`` at angles ``[C]`` and heights ``[R]``, with a lid at either end."""
    rings, corners = radius.shape
    ring = torch.stack([radius * angle.cos(), radius * angle.sin(), height[:, None].expand_as(radius)], -1)
    middles = torch.zeros(2, 3, dtype=torch.float64)
    middles[:, 2] = height[[0, -1]]
    vertices = torch.cat([ring.flatten(0, 1), middles])
    here = torch.arange(corners)
    after = (here + 1) % corners
    low = corners * torch.arange(rings - 1)[:, None]
    sides = [
        torch.stack([low + here, low + after, low + corners + after], -1),
        torch.stack([low + here, low + corners + after, low + corners + here], -1),
    ]
    bottom = torch.stack([torch.full_like(here, rings * corners), after, here], -1)
    last = (rings - 1) * corners
    top = torch.stack([torch.full_like(here, rings * corners + 1), last + here, last + after], -1)
    return vertices, torch.cat([*(side.flatten(0, 1) for side in sides), bottom, top])
