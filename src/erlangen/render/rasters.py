"""Pictures of triangle meshes: a z-buffer with depth, faces and weights, from which colours, normals and coordinates follow.

>>> import math, torch
>>> from erlangen.geometry import look_at, pinhole
>>> camera = pinhole(4, 4, math.radians(60), look_at(torch.tensor([0.0, 0.0, 3.0]), torch.zeros(3), up=torch.tensor([0.0, 1, 0])))
>>> vertices = torch.tensor([[-9.0, -9.0, 0.0], [9.0, -9.0, 0.0], [0.0, 9.0, 0.0]])
>>> seen = rasterize(camera, vertices, torch.tensor([[0, 1, 2]]))
>>> seen.depth.unique(), bool((seen.face == 0).all())
(tensor([3.]), True)

What is differentiable: depth, weights and all that is made of them, by vertices, cameras and values, at the faces that are
seen. Which face a pixel sees is piecewise constant: the border of a shape has no gradient.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_finite, check_floating, check_integer
from erlangen.geometry import Camera

__all__ = ["Fragments", "MeshPicture", "face_normals", "interpolate", "rasterize", "render_mesh", "vertex_normals"]


class Fragments(NamedTuple):
    """What each pixel of an image sees of a mesh.

    Attributes:
        depth: along the camera's axis, ``[..., H, W]``; infinite where nothing is seen.
        face: index of the face, int64 ``[..., H, W]``; -1 where nothing is seen.
        weights: barycentric coordinates of the point on the face, ``[..., H, W, 3]``; zero where nothing is seen.
    """

    depth: Tensor
    face: Tensor
    weights: Tensor


class MeshPicture(NamedTuple):
    """A picture of a mesh, and maps of what it shows.

    Attributes:
        color: ``[..., C, H, W]``.
        depth: ``[..., H, W]``; infinite where nothing is seen.
        normal: unit normals in the world, ``[..., 3, H, W]``; zero where nothing is seen.
        coordinates: the points that are seen, in the world, ``[..., 3, H, W]``; zero where nothing is seen.
        mask: share of each pixel that the mesh covers, ``[..., H, W]``, in steps of the samples.
    """

    color: Tensor
    depth: Tensor
    normal: Tensor
    coordinates: Tensor
    mask: Tensor


def rasterize(camera: Camera, vertices: Tensor, faces: Tensor, *, near: float = 1e-3, cull: bool = False) -> Fragments:
    """The nearest face at the middle of every pixel, by a z-buffer.

    A ray d through a pixel meets the plane of a face with corners a, b, c in the camera's axes where d is a combination of
    them: with ``e = (d.(b x c), d.(c x a), d.(a x b))``, weights are e over their sum and the depth is ``det(a, b, c)`` over it.
    So corners behind the camera need no clipping. Of faces at one depth the first counts.

    Args:
        camera: of a batch ``[...]``, with images of one size.
        vertices: in the world, ``[V, 3]`` or ``[..., V, 3]`` with the batch of the camera.
        faces: int64 ``[F, 3]``.
        near: smallest depth that is seen.
        cull: leave out faces whose corners run clockwise as seen, the backs of closed meshes.

    Raises:
        ShapeError, DtypeError, NotFiniteError: arguments of another form, or a face with a vertex that is not there.
        ErlangenError: `near` is not positive.

    Source: Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", Graphics Hardware 1997.
    """
    check_floating(vertices, "vertices")
    check_finite(vertices.detach(), "vertices")
    _check_faces(faces, vertices)
    if not near > 0:
        raise ErlangenError(f"near = {near}; give a positive depth")
    height, width = camera.image_size()
    batch = camera.pose.shape[:-2]
    if vertices.ndim > 2 and vertices.shape[:-2] != batch:
        raise ShapeError(f"vertices has the batch {tuple(vertices.shape[:-2])} and the camera {tuple(batch)}; give one")
    poses = camera.pose.reshape(-1, 4, 4)
    local = (vertices.to(poses).reshape(-1, *vertices.shape[-2:]) - poses[:, None, :3, 3]) @ poses[:, :3, :3]
    focal, center = (t.reshape(-1, 2).to(local) for t in (camera.focal, camera.center))
    with torch.no_grad():
        seen = _nearest(local.detach(), faces, focal.detach(), center.detach(), (height, width), near, cull)
    b, pixel = torch.where(seen >= 0)
    face = seen[b, pixel]
    depth, weights = _on_face(local, faces, b, face, _directions(pixel, b, width, focal, center))
    shape = (len(local), height * width)
    where = (b, pixel)
    filled = local.new_full(shape, math.inf).index_put(where, depth)
    spread = local.new_zeros(*shape, 3).index_put(where, weights)
    return Fragments(
        filled.view(*batch, height, width), seen.view(*batch, height, width), spread.view(*batch, height, width, 3)
    )


def interpolate(fragments: Fragments, faces: Tensor, values: Tensor) -> Tensor:
    """Values at the vertices, carried to the pixels: ``[..., C, H, W]``, zero where nothing is seen.

    Args:
        fragments: of `rasterize`.
        faces: the same, ``[F, 3]``.
        values: ``[V, C]`` or ``[..., V, C]`` with the batch of the fragments.

    Raises:
        ShapeError: arguments of another form.
    """
    batch, (height, width) = fragments.face.shape[:-2], fragments.face.shape[-2:]
    if values.ndim < 2 or (values.ndim > 2 and values.shape[:-2] != batch):
        raise ShapeError(f"values has shape {tuple(values.shape)}; give [V, C] or {[*batch, 'V', 'C']}")
    _check_faces(faces, values)
    flat = values.reshape(-1, *values.shape[-2:])
    face = fragments.face.reshape(-1, height * width)
    b, pixel = torch.where(face >= 0)
    corners = flat[(b if len(flat) > 1 else torch.zeros_like(b))[:, None], faces[face[b, pixel]]]
    weights = fragments.weights.reshape(*face.shape, 3)[b, pixel]
    rows = (weights[:, None] @ corners)[:, 0]
    image = rows.new_zeros(*face.shape, values.shape[-1]).index_put((b, pixel), rows)
    return image.mT.reshape(*batch, values.shape[-1], height, width)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals ``[..., F, 3]`` on the side from which the corners run counter-clockwise; zero for faces without area.

    >>> face_normals(torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]), torch.tensor([[0, 1, 2]]))
    tensor([[0., 0., 1.]])

    Raises:
        ShapeError, DtypeError: arguments of another form.
    """
    return normalize(_areas(vertices, faces), dim=-1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals ``[..., V, 3]``: of the faces around each vertex, weighted by their areas; zero for a vertex without faces.

    Raises:
        ShapeError, DtypeError: arguments of another form.
    """
    areas = _areas(vertices, faces)
    total = torch.zeros_like(vertices)
    for corner in faces.unbind(-1):
        total = total.index_add(-2, corner, areas)
    return normalize(total, dim=-1)


def render_mesh(
    camera: Camera,
    vertices: Tensor,
    faces: Tensor,
    *,
    colors: Tensor | None = None,
    light: Tensor | tuple[float, float, float] = (0.3, -0.5, 1.0),
    ambient: float = 0.3,
    specular: float = 0.0,
    shininess: float = 16.0,
    background: float = 1.0,
    smooth: bool = False,
    samples: int = 1,
    cull: bool = False,
) -> MeshPicture:
    """A picture with Phong's shading, of a far light, with maps of depth, normals and coordinates.

    ``color = albedo (ambient + (1 - ambient) max(n.l, 0)) + specular max(r.v, 0)^shininess`` with the light l, its reflection r
    and the eye v; normals face the eye. With ``specular=0`` that is Lambert's law.

    Args:
        camera, vertices, faces: as in `rasterize`.
        colors: albedo of the vertices, ``[V, C]`` or ``[..., V, C]``; by default grey, three channels of 0.8.
        light: direction to the light in the world, ``[3]`` or ``[..., 3]``.
        ambient: share of the light from everywhere, in [0, 1].
        specular, shininess: of the highlight.
        background: of all channels where nothing is seen.
        smooth: shade by normals that are interpolated between vertices, and not by those of the faces.
        samples: a pixel is the mean of so many squared; the other maps are those of the sample nearest
            to its middle, the first of several.
        cull: as in `rasterize`.

    Raises:
        ShapeError, DtypeError, NotFiniteError: arguments of another form.
        ErlangenError: a number out of range.
    """
    check_integer("samples", samples, 1)
    if not 0 <= ambient <= 1 or specular < 0 or not shininess > 0:
        raise ErlangenError(
            f"ambient = {ambient}, specular = {specular}, shininess = {shininess}; give [0, 1], >= 0 and > 0"
        )
    height, width = camera.image_size()
    fine = camera.resized(samples * height, samples * width) if samples > 1 else camera
    seen = rasterize(fine, vertices, faces, cull=cull)
    if colors is None:
        colors = vertices.new_full((vertices.shape[-2], 3), 0.8)
    albedo, coordinates = (interpolate(seen, faces, v.to(seen.depth)) for v in (colors, vertices))
    hit = (seen.face >= 0)[..., None, :, :]
    batch = seen.face.shape[:-2]
    eye = normalize(fine.position.to(seen.depth)[..., None, None] - coordinates, dim=-3)
    normal = _normals(seen, vertices.to(seen.depth), faces, smooth)
    normal = torch.where((normal * eye).sum(-3, keepdim=True) < 0, -normal, normal) * hit
    sun = torch.as_tensor(light, dtype=seen.depth.dtype, device=seen.depth.device)
    if sun.shape not in ((3,), (*batch, 3)) or not bool((sun.norm(dim=-1) > 0).all()):
        raise ShapeError(f"light has shape {tuple(sun.shape)}; give a direction [3] or {[*batch, 3]}, not zero")
    sun = normalize(sun, dim=-1)[..., None, None]
    falls = (normal * sun).sum(-3, keepdim=True)
    shade = albedo * (ambient + (1 - ambient) * falls.relu())
    if specular:
        back = 2 * falls * normal - sun
        shine = (back * eye).sum(-3, keepdim=True).relu() ** shininess
        shade = shade + specular * torch.where(falls > 0, shine, 0.0)
    color = torch.where(hit, shade, background)
    mask = hit[..., 0, :, :].to(color.dtype)
    if samples > 1:
        color = avg_pool2d(color.reshape(-1, *color.shape[-3:]), samples).view(*batch, -1, height, width)
        mask = avg_pool2d(mask.reshape(-1, 1, *mask.shape[-2:]), samples).view(*batch, height, width)
        middle = slice((samples - 1) // 2, None, samples)
        depth, normal, coordinates = (v[..., middle, middle] for v in (seen.depth, normal, coordinates))
        return MeshPicture(color, depth, normal, coordinates, mask)
    return MeshPicture(color, seen.depth, normal, coordinates, mask)


# --- z-buffer --------------------------------------------------------------------------------------------------------
def _nearest(
    local: Tensor, faces: Tensor, focal: Tensor, center: Tensor, size: tuple[int, int], near: float, cull: bool
) -> Tensor:
    """Index of the nearest face, -1 for none, ``[B, H W]``."""
    height, width = size
    corners = local[:, faces]  # [B, F, 3, 3]
    behind = corners[..., 2].amax(-1) < near
    crossing = corners[..., 2].amin(-1) < near
    pixels = corners[..., :2] / corners[..., 2:].clamp_min(near) * focal[:, None, None] + center[:, None, None]
    # Around a corner that is seen at the very middle of a pixel, rounding may put the pixel outside of all faces: so they reach
    # this much further, in pixels.
    slack = 1e-10 if local.dtype == torch.float64 else 2e-4
    # Columns and rows whose middles, at half integers, lie within the bounds of the face.
    limit = pixels.new_tensor([width, height])
    low = torch.where(crossing[..., None], 0.0, (pixels.amin(2) - 0.5 - slack).ceil().clamp_min(0)).minimum(limit)
    high = torch.where(crossing[..., None], limit, (pixels.amax(2) - 0.5 + slack).floor().add(1)).minimum(limit)
    a, b, c = corners.unbind(2)
    cross = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 2)
    det = (a * cross[:, :, 0]).sum(-1)
    empty = behind | (det == 0) | (det > 0 if cull else torch.zeros_like(behind))
    heights = torch.where(empty, 0.0, (high - low)[..., 1].clamp_min(0)).long().flatten()
    # e = d . cross with d = ((u + 1/2 - c_x) / f_x, (v + 1/2 - c_y) / f_y, 1), times the sign of det: linear in u and v.
    inverse, offset = (t[:, None, None] for t in (1 / focal, (0.5 - center) / focal))
    sign = det.sign()[..., None]
    by_column, by_row = (cross[..., k] * inverse[..., k] * sign for k in range(2))
    fixed = ((cross[..., :2] * offset).sum(-1) + cross[..., 2]) * sign
    columns = torch.stack([low[..., 0], high[..., 0] - 1, low[..., 1], det.abs()], -1)
    table = torch.cat([by_column, by_row, fixed, columns], -1).flatten(0, 1)
    # Rows of each face; within one, the columns where all three are not negative are an interval.
    face, order = _runs(heights)
    row = table.index_select(0, face)
    v = row[:, 11] + order
    at, slope = row[:, 3:6] * v[:, None] + row[:, 6:9], row[:, :3]
    end = -at / slope
    first = (torch.where(slope > 0, end, -math.inf).amax(-1) - slack).ceil().maximum(row[:, 9])
    last = (torch.where(slope < 0, end, math.inf).amin(-1) + slack).floor().minimum(row[:, 10])
    missed = ((slope == 0) & (at < -slack * row[:, 3:6].abs())).any(-1)
    number = torch.where(missed, 0.0, (last - first + 1).clamp_min(0)).long()
    image = torch.div(face, max(len(faces), 1), rounding_mode="floor")
    start = (image * height + v.long()) * width
    line = torch.stack([first, at.sum(-1), slope.sum(-1), row[:, 12]], -1)
    run, order = _runs(number)
    line = line.index_select(0, run)
    u = line[:, 0] + order
    depth = line[:, 3] / (line[:, 1] + line[:, 2] * u)
    pixel = start.index_select(0, run) + u.long()
    depth = torch.where((depth >= near) & (depth < math.inf), depth, math.inf)
    best = depth.new_full((len(local) * height * width,), math.inf).scatter_reduce(0, pixel, depth, "amin")
    nearest = torch.where((depth == best.index_select(0, pixel)) & (depth < math.inf))[0]
    none = len(faces)
    found = torch.full_like(best, none, dtype=torch.int64)
    which = face.index_select(0, run.index_select(0, nearest)) % max(none, 1)
    found = found.scatter_reduce(0, pixel.index_select(0, nearest), which, "amin")
    return torch.where(found == none, -1, found).view(len(local), height * width)


def _runs(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For runs of so many entries one after the other: the run of each entry, and its place in it."""
    run = torch.repeat_interleave(counts)
    before = counts.cumsum(0) - counts
    return run, torch.arange(len(run), device=counts.device) - before.index_select(0, run)


def _on_face(local: Tensor, faces: Tensor, b: Tensor, face: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Depth ``[P]`` and weights ``[P, 3]`` of rays d ``[P, 3]`` on their faces, with gradients."""
    a, p, q = local[b[:, None], faces[face]].unbind(1)
    e = torch.stack([(d * torch.linalg.cross(*pair)).sum(-1) for pair in ((p, q), (q, a), (a, p))], -1)
    total = e.sum(-1)
    return (a * torch.linalg.cross(p, q)).sum(-1) / total, e / total[:, None]


def _directions(pixel: Tensor, b: Tensor, width: int, focal: Tensor, center: Tensor) -> Tensor:
    """Rays ``[P, 3]`` through the middles of pixels, of depth 1."""
    row = torch.div(pixel, width, rounding_mode="floor")
    middle = torch.stack([pixel - row * width, row], -1) + 0.5
    plane = (middle.to(focal) - center[b]) / focal[b]
    return torch.cat([plane, torch.ones_like(plane[:, :1])], -1)


def _normals(seen: Fragments, vertices: Tensor, faces: Tensor, smooth: bool) -> Tensor:
    if smooth:
        return normalize(interpolate(seen, faces, vertex_normals(vertices, faces)), dim=-3)
    flat = face_normals(vertices, faces)
    flat = torch.cat([flat, vertices.new_zeros(*flat.shape[:-2], 1, 3)], -2)
    if flat.ndim == 2:  # index -1, nothing, is the last row
        return flat[seen.face].movedim(-1, -3)
    rows = flat.reshape(-1, *flat.shape[-2:])
    index = (seen.face % len(rows[0])).reshape(len(rows), -1, 1).expand(-1, -1, 3)
    return rows.gather(1, index).mT.reshape(*seen.face.shape[:-2], 3, *seen.face.shape[-2:])


def _areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """Normals times twice the areas ``[..., F, 3]``."""
    check_floating(vertices, "vertices")
    _check_faces(faces, vertices)
    a, b, c = vertices[..., faces, :].unbind(-2)
    return torch.linalg.cross(b - a, c - a)


def _check_faces(faces: Tensor, vertices: Tensor) -> None:
    if vertices.ndim < 2:
        raise ShapeError(f"vertices has shape {tuple(vertices.shape)}; give [..., V, 3]")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ShapeError(f"faces has shape {tuple(faces.shape)}; give triangles [F, 3]")
    if faces.dtype != torch.int64:
        raise DtypeError(f"faces has dtype {faces.dtype}; give int64 indices of vertices")
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < vertices.shape[-2]:
        raise ShapeError(f"faces holds vertex {int(faces.max())} or a negative one, but there are {vertices.shape[-2]}")
