"""Meshes of things with parts, random proportions and a known symmetry, and pictures of them in known poses and lights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_sizes, is_whole
from erlangen.geometry import Camera, look_at, pinhole
from erlangen.groups import SO, Group, Icosahedral, Octahedral, Stabilizer, Tetrahedral, euler_to_matrix, sphere_grid
from erlangen.render import render_mesh
from erlangen.simulate.mesh_shapes import stacked_rings

__all__ = [
    "LATENTS",
    "OBJECTS",
    "ObjectMesh",
    "ObjectViews",
    "draw_object",
    "mesh_objects",
    "object_views",
    "symmetric_solid",
]

AROUND = 12
"""Corners of what is round."""
DISTANCE, TILT = 2.5, 45.0
"""Of the camera from the middle, and from the vertical in degrees."""
LIGHT_DISTANCE = 4.0
LATENTS = (
    "angle x",
    "angle y",
    "angle z",
    "hue of the floor",
    "light from the vertical",
    "light around",
    "hue of the light",
)
"""Names of the numbers of a picture: radians, and hues from 0 to 1."""

Mesh = tuple[Tensor, Tensor]


class ObjectMesh(NamedTuple):
    """A thing made of parts.

    Attributes:
        vertices: ``[V, 3]``, float32, z upwards; the box around it has its middle at the origin and a diagonal of 2.
        faces: int64 ``[F, 3]``, corners counter-clockwise from outside.
        part: the part of each face, int64 ``[F]``.
        parts: their names.
        color: albedo of each vertex ``[V, 3]``.
        family: its name.
        symmetry: all rotations that leave the mesh alone: matrices ``[K, 3, 3]``, or a group; as `rotation_distance` takes it.
    """

    vertices: Tensor
    faces: Tensor
    part: Tensor
    parts: tuple[str, ...]
    color: Tensor
    family: str
    symmetry: Tensor | Group


class ObjectViews(NamedTuple):
    """Pictures of things, N in all.

    Attributes:
        images: ``[N, 3, size, size]``, float32, from 0 to 1 or a little more.
        object: which thing is seen, int64 ``[N]``.
        pose: its rotation, ``[N, 3, 3]``.
        latents: ``[N, 7]``, in the order of `LATENTS`.
        shift: where it stands, ``[N, 3]``.
    """

    images: Tensor
    object: Tensor
    pose: Tensor
    latents: Tensor
    shift: Tensor


# --- families --------------------------------------------------------------------------------------------------------
def mesh_objects(
    count: int, families: Sequence[str] | None = None, *, generator: Generator | None = None
) -> list[ObjectMesh]:
    """Things of several families in turn, each with proportions and colours of its own.

    >>> chair, mug = mesh_objects(2, ["chair", "mug"], generator=torch.Generator().manual_seed(0))
    >>> chair.parts, mug.parts
    (('seat', 'legs', 'back'), ('cup', 'handle'))

    Some look alike from some sides: a mug and a cup, a chair and a stool, a table and a box, a plane and a cross.

    Args:
        count: how many.
        families: their names, of `OBJECTS`; by default all.
        generator: source of the numbers; torch's global stream without it.

    Raises:
        ErlangenError: `count` is not positive, or there are no families.
        UnknownNameError: a family that does not exist.
    """
    check_sizes(count=count)
    families = OBJECTS if families is None else tuple(families)
    if not families:
        raise ErlangenError(f"families is empty; choose of {', '.join(OBJECTS)}")
    unknown = next((name for name in families if name not in OBJECTS), None)
    if unknown is not None:
        raise UnknownNameError(f"families has {unknown!r}; choose of {', '.join(OBJECTS)}")
    return [_made(families[i % len(families)], generator) for i in range(count)]


def _made(family: str, generator: Generator | None) -> ObjectMesh:
    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    parts, symmetry = BUILDERS[family](draw)
    vertices, faces, part, first = [], [], [], 0
    for index, meshes in enumerate(parts.values()):
        for corners, triangles in meshes:
            vertices.append(corners)
            faces.append(triangles + first)
            part.append(torch.full((len(triangles),), index))
            first += len(corners)
    colors = torch.stack([_rgb(torch.tensor(draw(0, 1)), draw(0.2, 0.7), draw(0.5, 0.95)) for _ in parts])
    label = torch.cat([torch.full((len(c),), i) for i, m in enumerate(parts.values()) for c, _ in m])
    return ObjectMesh(
        _fitted(torch.cat(vertices)).float(),
        torch.cat(faces),
        torch.cat(part),
        tuple(parts),
        colors[label],
        family,
        symmetry,
    )


Draw = Callable[[float, float], float]
Built = tuple[dict[str, list[Mesh]], Tensor]


def _chair(draw: Draw) -> Built:
    wide, high, thick = draw(0.35, 0.5), draw(0.35, 0.6), draw(0.03, 0.06)
    back = _box((wide, thick, draw(0.4, 0.7)), (0, wide - thick, 0))
    lifted = (back[0] + torch.tensor([0, 0, float(back[0][:, 2].max()) + thick]), back[1])
    return {**_seat(wide, wide, high, thick), "back": [lifted]}, _turns(1)


def _stool(draw: Draw) -> Built:
    wide, high, thick = draw(0.35, 0.5), draw(0.4, 0.7), draw(0.03, 0.06)
    return _seat(wide, wide, high, thick), _turns(4)


def _table(draw: Draw) -> Built:
    long, wide = draw(0.7, 1.0), draw(0.35, 0.55)
    parts = _seat(long, wide, draw(0.3, 0.5), draw(0.03, 0.07))
    return {"plate": parts["seat"], "legs": parts["legs"]}, _turns(2)


def _crate(draw: Draw) -> Built:
    return {"box": [_box((draw(0.7, 1.0), draw(0.4, 0.6), draw(0.2, 0.35)))]}, _turns(2, over=True)


def _mug(draw: Draw) -> Built:
    radius, high = draw(0.35, 0.5), draw(0.4, 0.6)
    return {"cup": [_cup(radius, high)], "handle": [_handle(radius, 0.6 * high, draw(0.05, 0.08))]}, _turns(1)


def _plain_cup(draw: Draw) -> Built:
    return {"cup": [_cup(draw(0.35, 0.5), draw(0.4, 0.6))]}, _turns(AROUND)


def _plane(draw: Draw) -> Built:
    long, span, body = draw(0.8, 1.0), draw(0.7, 1.0), draw(0.07, 0.12)
    tail = _box((draw(0.2, 0.35), 0.1, 0.02), (0, -long + 0.1, 0))
    fin = _box((0.02, 0.1, draw(0.15, 0.25)), (0, -long + 0.1, 0.2))
    wings = _box((span, draw(0.12, 0.2), 0.03), (0, draw(0.0, 0.25), 0))
    return {"body": [_box((body, long, body))], "wings": [wings], "tail": [tail, fin]}, _turns(1)


def _cross(draw: Draw) -> Built:
    long, span, body = draw(0.8, 1.0), draw(0.5, 0.7), draw(0.07, 0.12)
    beam = _box((span, body, body))
    return {"post": [_box((body, long, body))], "beam": [beam]}, _turns(2, over=True)


def _lamp(draw: Draw) -> Built:
    base, high, shade = draw(0.3, 0.45), draw(0.6, 0.9), draw(0.35, 0.5)
    foot = _tube([base, base], [-high - 0.08, -high])
    post = _tube([0.05, 0.05], [-high, high])
    top = _tube([shade, draw(0.15, 0.25)], [high - 0.35, high + 0.15])
    return {"foot": [foot], "post": [post], "shade": [top]}, _turns(AROUND)


def _wedge(draw: Draw) -> Built:
    a, b, c = draw(0.7, 1.0), draw(0.35, 0.55), draw(0.3, 0.45)
    ends = [[-a, -c], [a, -c], [-a, c]]
    vertices = torch.tensor([[x, y, z] for y in (-b, b) for x, z in ends], dtype=torch.float64)
    faces = [[0, 1, 2], [3, 5, 4], [0, 4, 1], [0, 3, 4], [1, 5, 2], [1, 4, 5], [2, 3, 0], [2, 5, 3]]
    return {"wedge": [(vertices, torch.tensor(faces))]}, _turns(1)


def _gear(draw: Draw) -> Built:
    teeth, inner, half = 8, draw(0.6, 0.75), draw(0.12, 0.25)
    angle = 2 * math.pi * torch.arange(4 * teeth, dtype=torch.float64) / (4 * teeth)
    radius = torch.tensor([1.0, 1.0, inner, inner], dtype=torch.float64).repeat(teeth)
    angle = angle - angle[1] / 2  # a tooth points along x, which half turns about x keep
    wheel = stacked_rings(radius.expand(2, -1), angle, torch.tensor([-half, half], dtype=torch.float64))
    hub = _tube([0.25, 0.25], [-half - 0.1, half + 0.1], around=2 * teeth)
    return {"wheel": [wheel], "hub": [hub]}, _turns(teeth, over=True)


BUILDERS: dict[str, Callable[[Draw], Built]] = {
    "chair": _chair,
    "stool": _stool,
    "table": _table,
    "box": _crate,
    "mug": _mug,
    "cup": _plain_cup,
    "plane": _plane,
    "cross": _cross,
    "lamp": _lamp,
    "wedge": _wedge,
    "gear": _gear,
}
OBJECTS = tuple(BUILDERS)
"""Families of `mesh_objects`."""


def symmetric_solid(name: str) -> ObjectMesh:
    """A solid with the rotations that leave it alone: "tetrahedron", "cube", "icosahedron", "cone" or "cylinder".

    >>> symmetric_solid("cube").symmetry
    Octahedral

    The round ones have 64 sides. For the cone the symmetry is that of the true solid, all turns about z; for the cylinder it is
    that of the mesh, 64 turns about z and as many half turns across.

    Raises:
        UnknownNameError: another name.
    """
    groups = {"tetrahedron": (4, Tetrahedral()), "cube": (8, Octahedral()), "icosahedron": (12, Icosahedral())}
    symmetry: Group | Tensor
    if name in groups:
        corners, symmetry = groups[name]
        vertices = sphere_grid(corners, "platonic", dtype=torch.float64)
        faces = _hull(vertices)
    elif name == "cone":
        vertices, faces = _tube([0.8, 1e-3], [-0.6, 0.6], around=64)
        symmetry = Stabilizer(SO(3), [0.0, 0.0, 1.0])
    elif name == "cylinder":
        vertices, faces = _tube([0.6, 0.6], [-0.8, 0.8], around=64)
        symmetry = _turns(64, over=True)
    else:
        raise UnknownNameError(f"name = {name!r}; choose of {', '.join(groups)}, cone, cylinder")
    color = torch.full((len(vertices), 3), 0.8)
    part = torch.zeros(len(faces), dtype=torch.int64)
    return ObjectMesh(_fitted(vertices).float(), faces, part, (name,), color, name, symmetry)


# --- pictures --------------------------------------------------------------------------------------------------------
def object_views(
    objects: Sequence[ObjectMesh],
    views: int,
    size: int,
    *,
    reach: float = 90.0,
    shift: float = 0.0,
    generator: Generator | None = None,
) -> ObjectViews:
    """Pictures of each thing in random poses over a coloured floor under a coloured light.

    >>> draw = torch.Generator().manual_seed(0)
    >>> seen = object_views(mesh_objects(2, generator=draw), 3, 24, generator=draw)
    >>> seen.images.shape, seen.object.tolist()
    (torch.Size([6, 3, 24, 24]), [0, 0, 0, 1, 1, 1])

    The laws are those of 3DIEBench (Garrido et al., arXiv 2302.10283): angles about the fixed axes x, y, z uniform within
    `reach`; hues uniform; the light at a distance of 4, up to 45 degrees from the vertical. With a `shift` the thing stands at
    ``R t``, t uniform within it along each axis, as in 3DIEBench-T.

    Args:
        objects: the things.
        views: of each.
        size: rows and columns.
        reach: largest angle, in degrees.
        shift: largest coordinate of t.
        generator: source of the numbers.

    Raises:
        ErlangenError: a number out of range, or no objects.
    """
    check_sizes(views=views, size=size)
    if not objects:
        raise ErlangenError("objects is empty; give at least one, as from mesh_objects")
    if not 0 <= reach <= 180 or shift < 0:
        raise ErlangenError(
            f"reach = {reach}, shift = {shift}; give degrees from 0 to 180, and a shift that is not negative"
        )
    n = len(objects) * views
    draws = torch.rand(n, 10, generator=generator, dtype=torch.float64)
    angles = math.radians(reach) * (2 * draws[:, :3] - 1)
    lights = torch.stack([draws[:, 3], math.radians(45) * draws[:, 4], 2 * math.pi * draws[:, 5], draws[:, 6]], -1)
    latents = torch.cat([angles, lights], -1)
    pose = euler_to_matrix(angles)
    place = (pose @ (shift * (2 * draws[:, 7:] - 1))[..., None])[..., 0]
    images = torch.empty(n, 3, size, size)
    for i, thing in enumerate(objects):
        rows = slice(i * views, (i + 1) * views)
        images[rows] = draw_object(thing, latents[rows], size, shift=place[rows])
    which = torch.arange(len(objects)).repeat_interleave(views)
    return ObjectViews(images, which, pose.float(), latents.float(), place.float())


def draw_object(thing: ObjectMesh, latents: Tensor, size: int, *, shift: Tensor | None = None) -> Tensor:
    """The pictures ``[N, 3, size, size]`` of a thing that numbers ``[N, 7]`` describe; see `object_views`.

    Args:
        thing: what is seen.
        latents: in the order of `LATENTS`.
        size: rows and columns.
        shift: where it stands ``[N, 3]``; by default at the origin.

    Raises:
        ShapeError: latents or shift of another form.
        ErlangenError: `size` is no positive number.
    """
    if not is_whole(size, 1):
        raise ErlangenError(f"size = {size!r}; give a positive number of pixels")
    n = len(latents)
    if latents.shape != (n, len(LATENTS)) or (shift is not None and shift.shape != (n, 3)):
        raise ShapeError(
            f"latents and shift have shapes {tuple(latents.shape)} and {None if shift is None else tuple(shift.shape)}; give "
            f"[N, {len(LATENTS)}] and [N, 3]"
        )
    latents = latents.double()
    R = euler_to_matrix(latents[:, :3])
    where = torch.zeros(n, 3, dtype=torch.float64) if shift is None else shift.double()
    body = thing.vertices.double() @ R.mT + where[:, None]
    floor = torch.tensor([[-6.0, -6, -1], [6, -6, -1], [6, 6, -1], [-6, 6, -1]], dtype=torch.float64)
    vertices = torch.cat([body, floor.expand(n, 4, 3)], 1)
    faces = torch.cat([thing.faces, torch.tensor([[0, 1, 2], [0, 2, 3]]) + len(thing.vertices)])
    hue, tilt, around, glow = latents[:, 3:].unbind(-1)
    ground, lamp = _rgb(hue, 0.6, 0.6), _rgb(glow, 1.0, 0.8)
    albedo = torch.cat([thing.color.double().expand(n, -1, 3), ground[:, None].expand(n, 4, 3)], 1)
    light = torch.stack([tilt.sin() * around.cos(), tilt.sin() * around.sin(), tilt.cos()], -1) * LIGHT_DISTANCE
    # A coloured lamp beside white light from everywhere.
    tinted = albedo * (0.4 + 0.6 * lamp[:, None])
    camera = _camera(size)
    cameras = Camera(*(field.expand(n, *field.shape) for field in camera))
    picture = render_mesh(cameras, vertices.float(), faces, colors=tinted.float(), light=light.float(), ambient=0.35)
    return picture.color


def _camera(size: int) -> Camera:
    tilt = math.radians(TILT)
    position = torch.tensor([0.0, DISTANCE * math.sin(tilt), DISTANCE * math.cos(tilt)])
    return pinhole(size, size, math.radians(55), look_at(position, torch.zeros(3)))


def _rgb(hue: Tensor, saturation: float, value: float) -> Tensor:
    """Colours ``[..., 3]`` of hues ``[...]`` from 0 to 1."""
    sixth = (6 * hue[..., None] + hue.new_tensor([5.0, 3.0, 1.0])) % 6
    return value - value * saturation * torch.minimum(sixth, 4 - sixth).clamp(0, 1)


# --- meshes ----------------------------------------------------------------------------------------------------------
def _fitted(vertices: Tensor) -> Tensor:
    """The box around it in the middle, with a diagonal of 2."""
    low, high = vertices.amin(0), vertices.amax(0)
    return (vertices - (low + high) / 2) * 2 / (high - low).norm()


def _turns(order: int, *, over: bool = False) -> Tensor:
    """Rotations about z by parts of a turn, float64 ``[order, 3, 3]``; `over` adds those after a half turn about x."""
    angle = 2 * math.pi * torch.arange(order, dtype=torch.float64) / order
    found = euler_to_matrix(torch.stack([torch.zeros_like(angle), torch.zeros_like(angle), angle], -1))
    return torch.cat([found, found @ torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))]) if over else found


def _box(half: tuple[float, float, float], middle: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = torch.tensor([[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)])
    return corners * torch.tensor(half, dtype=torch.float64) + torch.tensor(middle, dtype=torch.float64), faces


def _tube(radii: Sequence[float], heights: Sequence[float], *, around: int = AROUND) -> Mesh:
    angle = 2 * math.pi * torch.arange(around, dtype=torch.float64) / around
    radius = torch.tensor(radii, dtype=torch.float64)[:, None].expand(-1, around)
    return stacked_rings(radius, angle, torch.tensor(heights, dtype=torch.float64))


def _cup(radius: float, high: float) -> Mesh:
    """Up outside and down inside; the lid of the last ring is the bottom inside."""
    wall = 0.12 * radius
    return _tube([0.85 * radius, radius, radius - wall, 0.85 * radius - wall], [-high, high, high, -high + wall])


def _handle(radius: float, reach: float, wire: float) -> Mesh:
    """Half a ring beside a cup, in the plane of x and z."""
    along = math.pi * (torch.arange(9, dtype=torch.float64) / 8 - 0.5)
    about = 2 * math.pi * torch.arange(6, dtype=torch.float64) / 6
    ring = reach + wire * about.cos()
    x = 0.9 * radius + ring * along.cos()[:, None]
    z = ring * along.sin()[:, None]
    vertices = torch.stack([x, wire * about.sin().expand_as(x), z], -1).flatten(0, 1)
    here, after = torch.arange(6), (torch.arange(6) + 1) % 6
    low = 6 * torch.arange(8)[:, None]
    faces = [
        torch.stack([low + here, low + 6 + after, low + after], -1),
        torch.stack([low + here, low + 6 + here, low + 6 + after], -1),
    ]
    return vertices, torch.cat([face.flatten(0, 1) for face in faces])


def _seat(long: float, wide: float, high: float, thick: float) -> dict[str, list[Mesh]]:
    """A plate on four legs at its corners, the plate's middle at the origin."""
    legs = [
        _box((thick, thick, high), (x * (long - thick), y * (wide - thick), -high - thick))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return {"seat": [_box((long, wide, thick))], "legs": legs}


def _hull(vertices: Tensor) -> Tensor:
    """Triangles of a convex solid around the origin, outwards."""
    from scipy.spatial import ConvexHull

    faces = torch.from_numpy(ConvexHull(vertices.numpy()).simplices).long()
    a, b, c = vertices[faces].unbind(1)
    inwards = (torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(-1) < 0
    return torch.where(inwards[:, None], faces.flip(1), faces)
