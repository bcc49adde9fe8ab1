"""Rays against triangle meshes: signed volumes by matrix products, for groups of neighbouring rays and triangles."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_finite, check_floating
from erlangen.geometry import Rays
from erlangen.numerics import full_precision
from erlangen.render.hits import Hits, checked_rays, plane_hits

_PAIRS = 2**16
"""Pairs of rays and triangles whose volumes are computed together: a few arrays of them stay in the cache."""

_WHOLE = 2**21
"""Up to this many pairs all are computed; beyond, groups that cannot meet are left out."""

_RAYS = 256
"""Rays in a group. Neighbours in direction, which see few groups of triangles."""

_TRIANGLES = 16
"""Triangles in a group."""


def cast_mesh(rays: Rays, vertices: Tensor, faces: Tensor) -> Hits:
    """Rays against triangles, from both sides.

    >>> ray = Rays(torch.tensor([0.2, 0.2, -3.0]), torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> hits = cast_mesh(ray, corners, torch.tensor([[0, 1, 2]]))
    >>> hits.distance, hits.normal[0], hits.index
    (tensor([3., inf]), tensor([ 0.,  0., -1.]), tensor([ 0, -1]))

    A ray meets a triangle where the signed volumes that it spans with the three edges have one sign (in Plücker's coordinates).
    Two triangles that share an edge share its volume, and what is zero up to rounding counts as either sign, so no ray slips
    between them. Triangles that are seen edge on, or have no area, are not hit.

    Args:
        rays: see `erlangen.render`.
        vertices: ``[..., V, 3]``; a batch of meshes with the same faces.
        faces: int64 ``[F, 3]``.

    Raises:
        ShapeError, DtypeError, NotFiniteError: other shapes or dtypes, NaN.
        ErlangenError: faces name vertices that do not exist, or a direction is zero.
    """
    origin, direction = checked_rays(rays)
    _check_mesh(vertices, faces)
    batch = torch.broadcast_shapes(origin.shape[:-2], direction.shape[:-2], vertices.shape[:-2])
    count, (starts, R) = batch.numel(), (origin.shape[-2], direction.shape[-2])
    origins = origin.to(direction).expand(*batch, starts, 3).reshape(count, starts, 3)
    directions = direction.expand(*batch, R, 3).reshape(count, R, 3)
    corners = vertices.to(direction).expand(*batch, *vertices.shape[-2:]).reshape(count, -1, 3)
    with torch.no_grad(), full_precision(direction):
        found = [_first_triangle(*one, faces) for one in zip(origins, directions, corners, strict=True)]
    index = torch.stack(found) if found else torch.empty(0, R, dtype=torch.int64, device=direction.device)
    # Without faces a row of zeros stands in; nothing of it is read.
    named = (faces if len(faces) else faces.new_zeros(1, 3))[index.clamp(min=0)]
    a, b, c = (corners.gather(1, named[..., k, None].expand(*index.shape, 3)) for k in range(3))
    normal = torch.linalg.cross(b - a, c - a, dim=-1)
    size = torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    normal = normal / torch.where(size == 0, 1.0, size)
    distance, normal, index = plane_hits(origins, directions, a, normal, index)
    return Hits(distance.reshape(*batch, R), normal.reshape(*batch, R, 3), index.reshape(*batch, R))


def _first_triangle(origin: Tensor, direction: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """The triangle that each ray meets first, int64 ``[R]`` or -1."""
    triangles = vertices[faces]
    R, F = len(direction), len(faces)
    if not F or not R:
        return torch.full((R,), -1, device=direction.device)
    # Lengths do not matter to what is met; unit directions have cones, and errors of known size.
    unit = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    if R * F <= _WHOLE:
        return _in_blocks(origin, unit, triangles)
    order = _neighbours_together(unit, origin)
    groups = _neighbours_together(triangles.mean(1)).split(_TRIANGLES)
    rest = _TRIANGLES * len(groups) - F
    padded = torch.cat([*groups, groups[-1][-1:].expand(rest)]).reshape(len(groups), _TRIANGLES)
    corners = triangles[padded].flatten(1, 2)
    middle = (corners.amin(1) + corners.amax(1)) / 2
    radius = (corners - middle[:, None]).norm(dim=-1).amax(1)
    index = torch.full((R,), -1, device=direction.device)
    for rows in order.split(_RAYS):
        o = origin if len(origin) == 1 else origin[rows]
        near = _may_meet(o, unit[rows], middle, radius)
        chosen = padded[near].flatten()
        if len(chosen):
            local = _in_blocks(o, unit[rows], triangles[chosen])
            index[rows] = torch.where(local >= 0, chosen[local.clamp(min=0)], -1)
    return index


def _may_meet(origin: Tensor, unit: Tensor, middle: Tensor, radius: Tensor) -> Tensor:
    """Which balls a cone holds, in which all of the rays lie: not less, possibly more than those that they meet."""
    centre = origin.mean(0)
    radius = 1.0001 * (radius + (origin - centre).norm(dim=-1).max())
    axis = unit.mean(0)
    length = axis.norm()
    if float(length) < 0.1:
        return torch.ones(len(middle), dtype=torch.bool, device=middle.device)
    axis = axis / length
    opening = (unit @ axis).min().clamp(-1, 1).acos() + 1e-4
    to = middle - centre
    far = to.norm(dim=-1)
    within = radius >= far
    half = (radius / far.clamp(min=torch.finfo(far.dtype).tiny)).clamp(max=1).asin()
    angle = torch.atan2(torch.linalg.cross(to, axis.expand_as(to), dim=-1).norm(dim=-1), to @ axis)
    return within | (angle <= opening + half)


def _in_blocks(origin: Tensor, unit: Tensor, triangles: Tensor) -> Tensor:
    """All rays against all triangles, some rays at a time."""
    centre = origin.mean(0)  # volumes cancel least about where the rays begin
    local = origin - centre
    a, b, c = (triangles - centre).unbind(1)
    block = max(1, _PAIRS // len(triangles))
    normal = _cross(b - a, c - a)
    height = (normal * a).sum(-1)
    edges = [torch.cat([_cross(p, q), p - q], -1) for p, q in ((a, b), (b, c), (c, a))]
    away = local.norm(dim=-1).max()
    sizes = [edge[:, :3].norm(dim=-1) + away * edge[:, 3:].norm(dim=-1) for edge in edges]
    slack = 8 * torch.finfo(unit.dtype).eps * torch.stack(sizes).amax(0)
    if len(origin) == 1:
        moments = [edge[:, :3].mT for edge in edges]
        return torch.cat([_nearest(part, moments, height, slack) for part in unit.split(block)])
    columns = [edge.mT for edge in edges]
    rows = torch.cat([unit, _cross(unit, local)], -1)
    parts = zip(rows.split(block), local.split(block), strict=True)
    return torch.cat([_nearest(part, columns, height - o @ normal.mT, slack) for part, o in parts])


def _nearest(rows: Tensor, edges: list[Tensor], height: Tensor, slack: Tensor) -> Tensor:
    """From coordinates of rays ``[r, k]`` and of edges ``[k, F]``, and heights over the planes, the triangle met first, or -1."""
    u, v, w = (rows @ edge for edge in edges)
    low = torch.minimum(u, v)
    torch.minimum(low, w, out=low)
    high = torch.maximum(u, v)
    torch.maximum(high, w, out=high)
    along = u.add_(v).add_(w)  # the volumes of the edges sum to the product of direction and normal
    met = (low >= -slack) | (high <= slack)
    distance = torch.div(height, along, out=v)
    met &= along.abs_() > 4 * slack
    met &= distance > 0
    nearest, index = distance.masked_fill_(~met, torch.inf).min(-1)
    return torch.where(nearest < torch.inf, index, -1)


def _cross(p: Tensor, q: Tensor) -> Tensor:
    """The cross product of rows by products of their own, so that changing places changes the sign and nothing else."""
    one, two = [1, 2, 0], [2, 0, 1]
    return p[:, one] * q[:, two] - p[:, two] * q[:, one]


def _neighbours_together(*points: Tensor) -> Tensor:
    """An order of points in which neighbours are near each other: by the interleaved bits of their coordinates (Morton 1966)."""
    columns = torch.cat([p.expand(max(len(q) for q in points), 3) for p in points], -1)
    low, high = columns.amin(0), columns.amax(0)
    spread = high - low
    axes = torch.nonzero(spread > 0)[:, 0].tolist()
    if not axes:
        return torch.arange(len(columns), device=columns.device)
    bits = 62 // len(axes)
    bits = min(bits, 16)
    cells = ((columns - low) / torch.where(spread > 0, spread, 1.0) * (2**bits - 1)).long()
    code = torch.zeros(len(columns), dtype=torch.int64, device=columns.device)
    for bit in range(bits):
        for place, axis in enumerate(axes):
            code |= ((cells[:, axis] >> bit) & 1) << (bit * len(axes) + place)
    return code.argsort()


def _check_mesh(vertices: Tensor, faces: Tensor) -> None:
    if vertices.ndim < 2 or vertices.shape[-1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ShapeError(
            f"vertices {tuple(vertices.shape)} and faces {tuple(faces.shape)}; pass [..., V, 3] and triangles [F, 3]"
        )
    check_floating(vertices, "vertices")
    check_finite(vertices, "vertices")
    if faces.dtype != torch.int64:
        raise DtypeError(f"faces has dtype {faces.dtype}; pass int64")
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < vertices.shape[-2]:
        raise ErlangenError(
            f"faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {vertices.shape[-2]}"
        )
