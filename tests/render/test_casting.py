"""Rays: MuJoCo's and closed forms as oracles, the laws of motions and mirrors, gradients, and bad input."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import erlangen as er
from erlangen.actions import Cameras, Views
from erlangen.errors import DtypeError, ErlangenError, NotConvergedWarning, NotFiniteError, ShapeError
from erlangen.geometry import Camera, Rays, look_at, pinhole
from erlangen.render import Hits, cast_boxes, cast_cylinders, cast_mesh, cast_sdf, meshes, nearest_hits, view

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def poses(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    group = er.SE(3, translation_scale=spread)
    return group.sample(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def sizes(*shape: int, seed: int = 1) -> Tensor:
    return 0.3 + torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def rays_from_outside(count: int, seed: int = 2, aim: float = 1.5) -> Rays:
    """From a sphere of radius 8 to points near the middle."""
    start = normal(count, 3, seed=seed)
    start = 8 * start / start.norm(dim=-1, keepdim=True)
    return Rays(start, aim * normal(count, 3, seed=seed + 1) - start)


def torus(around: int = 24, tube: int = 12) -> tuple[Tensor, Tensor]:
    """A closed mesh that is not convex, slightly irregular so that no two triangles are alike."""
    u = 2 * math.pi * torch.arange(around, dtype=DOUBLE)[:, None] / around
    v = 2 * math.pi * torch.arange(tube, dtype=DOUBLE) / tube
    ring = 1.5 + 0.6 * v.cos()
    vertices = torch.stack([ring * u.cos(), ring * u.sin(), (0.6 * v.sin()).expand(around, tube)], -1).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(around), torch.arange(tube), indexing="ij")
    a, b, c, d = ((k % around * tube + m % tube).flatten() for k, m in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    return vertices + 0.01 * normal(len(vertices), 3, seed=5), faces


def mujoco_hits(geoms: list[str], rays: Rays, assets: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Distances and geoms of rays by an independent library."""
    mujoco = pytest.importorskip("mujoco")
    text = f"<mujoco><asset>{assets}</asset><worldbody>{''.join(geoms)}</worldbody></mujoco>"
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    distances, ids = [], []
    for o, d in zip(rays.origin.numpy(), rays.direction.numpy(), strict=True):
        which = np.array([-1], dtype=np.int32)
        length = np.linalg.norm(d)
        distance = mujoco.mj_ray(model, data, o, d / length, None, 1, -1, which)
        distances.append(distance / length)
        ids.append(which[0])
    return np.array(distances), np.array(ids)


def as_geoms(kind: str, size: Tensor, pose: Tensor) -> list[str]:
    quaternions = er.groups.matrix_to_quaternion(pose[:, :3, :3])

    def row(values: Tensor) -> str:
        return " ".join(f"{float(v):.17g}" for v in values)

    return [
        f'<geom type="{kind}" size="{row(s)}" pos="{row(p[:3, 3])}" quat="{row(q)}"/>'
        for s, p, q in zip(size, pose, quaternions, strict=True)
    ]


# --- oracles ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "cast", "columns"), [("box", cast_boxes, 3), ("cylinder", cast_cylinders, 2)])
def test_solids_are_mujocos(kind: str, cast, columns: int) -> None:
    size, pose, rays = sizes(6, columns), poses(6, spread=1.5), rays_from_outside(400)
    hits = cast(rays, size, pose)
    distance, index = mujoco_hits(as_geoms(kind, size, pose), rays)
    assert 50 < int(hits.hit.sum()) < 390
    np.testing.assert_array_equal(hits.index.numpy(), index)
    found = index >= 0
    np.testing.assert_allclose(hits.distance.numpy()[found], distance[found], rtol=1e-9)
    assert bool((hits.distance[~hits.hit] == torch.inf).all())


def test_meshes_are_mujocos() -> None:
    vertices, faces = torus()
    rays = rays_from_outside(300)
    numbers = (" ".join(f"{v:.9g}" for v in t.flatten().tolist()) for t in (vertices, faces))
    asset = '<mesh name="m" vertex="{}" face="{}"/>'.format(*numbers)
    distance, index = mujoco_hits(['<geom type="mesh" mesh="m"/>'], rays, asset)
    hits = cast_mesh(rays, vertices, faces)
    # MuJoCo keeps meshes in float32: rays at an edge may be judged differently, and no others.
    agree = hits.hit.numpy() == (index >= 0)
    assert agree.mean() > 0.99
    both = agree & hits.hit.numpy()
    assert both.sum() > 100
    np.testing.assert_allclose(hits.distance.numpy()[both], distance[both], rtol=2e-5)


def test_meshes_are_trimeshs() -> None:
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("rtree")
    vertices, faces = torus()
    rays = rays_from_outside(300)
    mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
    tracer = trimesh.ray.ray_triangle.RayMeshIntersector(mesh)
    want = tracer.intersects_first(rays.origin.numpy(), rays.direction.numpy())
    np.testing.assert_array_equal(cast_mesh(rays, vertices, faces).index.numpy(), want)


@pytest.mark.parametrize("shared", [True, False])
def test_meshes_by_the_formula_of_moeller_and_trumbore(shared: bool) -> None:
    vertices, faces = torus(10, 6)
    rays = rays_from_outside(60)
    if shared:
        rays = Rays(rays.origin[0], rays.direction)
    hits = cast_mesh(rays, vertices, faces)
    for r in range(60):
        o, d = (rays.origin if shared else rays.origin[r]).numpy(), rays.direction[r].numpy()
        best, which = math.inf, -1
        for f, (a, b, c) in enumerate(vertices[faces].numpy()):
            p = np.cross(d, c - a)
            det = p @ (b - a)
            u = p @ (o - a) / det
            q = np.cross(o - a, b - a)
            v, t = q @ d / det, q @ (c - a) / det
            if u >= 0 and v >= 0 and u + v <= 1 and 0 < t < best:
                best, which = t, f
        assert int(hits.index[r]) == which
        assert float(hits.distance[r]) == pytest.approx(best, rel=1e-10)
        if which >= 0:
            a, b, c = vertices[faces[which]]
            n = torch.linalg.cross(b - a, c - a)
            n = n / n.norm() * -torch.sign(n @ rays.direction[r])
            torch.testing.assert_close(hits.normal[r], n)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("shared", [True, False])
def test_groups_of_triangles_change_nothing(monkeypatch: pytest.MonkeyPatch, shared: bool, dtype: torch.dtype) -> None:
    vertices, faces = torus(40, 20)
    rays = rays_from_outside(700)
    rays = Rays((rays.origin[0] if shared else rays.origin).to(dtype), rays.direction.to(dtype))
    whole = cast_mesh(rays, vertices.to(dtype), faces)
    monkeypatch.setattr(meshes, "_WHOLE", 0)
    grouped = cast_mesh(rays, vertices.to(dtype), faces)
    assert float((grouped.index == whole.index).double().mean()) >= (1 if dtype == DOUBLE else 0.99)
    torch.testing.assert_close(grouped.distance, whole.distance, rtol=1e-4, atol=1e-4)


def test_no_ray_slips_between_triangles() -> None:
    """A closed mesh seen from inside is everywhere, also along its edges and at its vertices."""
    vertices, _ = torus()
    ball = vertices / vertices.norm(dim=-1, keepdim=True)
    cube = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DOUBLE)] * 3)
    rows = "013 032 467 475 045 051 237 276 026 064 157 173"
    sides = [[int(corner) for corner in face] for face in rows.split()]
    edges = torch.stack([(cube[a] + cube[b]) / 2 for f in sides for a, b in zip(f, f[1:] + f[:1], strict=True)])
    for dtype in (torch.float32, DOUBLE):
        directions = torch.cat([cube, edges, ball, normal(2000, 3)]).to(dtype)
        for start in (torch.zeros(3), torch.tensor([0.3, -0.2, 0.1])):
            aims = directions - start.to(dtype)
            hits = cast_mesh(Rays(start.to(dtype), aims), cube.to(dtype), torch.tensor(sides))
            assert bool(hits.hit.all())
            room = cast_boxes(Rays(start.to(dtype), aims), torch.ones(1, 3, dtype=dtype))
            torch.testing.assert_close(hits.distance, room.distance, rtol=1e-4, atol=1e-5)


def test_a_ball_by_its_distance() -> None:
    rays, centre = rays_from_outside(300), torch.tensor([0.4, -0.3, 0.2], dtype=DOUBLE)
    hits = cast_sdf(rays, lambda x: (x - centre).norm(dim=-1) - 1.3, far=30.0, steps=5000)
    d = rays.direction / rays.direction.norm(dim=-1, keepdim=True)
    b = (d * (rays.origin - centre)).sum(-1)
    disc = b.square() - (rays.origin - centre).square().sum(-1) + 1.3**2
    clear = disc.abs() > 1e-6
    assert torch.equal(hits.hit[clear], (disc > 0)[clear])
    sure = clear & (disc > 0)
    t = (-b - disc.clamp(min=0).sqrt()) / rays.direction.norm(dim=-1)
    torch.testing.assert_close(hits.distance[sure], t[sure], rtol=1e-7, atol=1e-7)
    out = rays.origin + hits.distance[:, None] * rays.direction - centre
    torch.testing.assert_close(hits.normal[sure], out[sure] / 1.3, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["box", "cylinder"])
def test_solids_by_their_distances(kind: str) -> None:
    """The same solids as zero sets of their exact signed distances, from outside and from inside."""
    size, pose = sizes(1, 3 if kind == "box" else 2), poses(1, spread=0.1)
    outside = rays_from_outside(300, aim=0.5)
    inside = Rays(pose[0, :3, 3] + 0.05 * normal(300, 3, seed=8), normal(300, 3, seed=9))

    def sdf(x: Tensor) -> Tensor:
        local = (x - pose[0, :3, 3]) @ pose[0, :3, :3]
        if kind == "box":
            q = local.abs() - size[0]
        else:
            q = torch.stack([local[..., :2].norm(dim=-1) - size[0, 0], local[..., 2].abs() - size[0, 1]], -1)
        return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)

    cast = cast_boxes if kind == "box" else cast_cylinders
    for rays in (outside, inside):
        hits, marched = cast(rays, size, pose), cast_sdf(rays, sdf, 40.0, steps=2000, tol=1e-6)
        same = hits.hit == marched.hit
        assert same.double().mean() > 0.98  # rays that graze
        both = same & hits.hit
        assert int(both.sum()) > 40
        torch.testing.assert_close(hits.distance[both], marched.distance[both], rtol=1e-5, atol=1e-5)
        close = (hits.normal[both] * marched.normal[both]).sum(-1)
        assert float((close > 1 - 1e-5).double().mean()) > 0.98  # beside edges
    assert bool(cast(inside, size, pose).hit.all())


def test_rays_along_axes() -> None:
    """Directions with zeros: along a face, beside it, and through the middle."""
    origin = torch.tensor([[0.0, 0, -5], [2, 0, -5], [0.5, 0.5, 5], [-5, 0, 0], [-5, 3, 0]])
    direction = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, -1], [1, 0, 0], [1, 0, 0]])
    rays = Rays(origin, direction)
    assert cast_boxes(rays, torch.ones(1, 3)).distance.tolist() == [4, math.inf, 4, 4, math.inf]
    hits = cast_cylinders(rays, torch.ones(1, 2))
    assert hits.distance.tolist() == [4, math.inf, 4, 4, math.inf]
    assert hits.normal[[0, 2, 3]].tolist() == [[0, 0, -1], [0, 0, 1], [-1, 0, 0]]


# --- laws ------------------------------------------------------------------------------------------------------------
def scene(kind: str, g: Tensor | None = None):
    """A cast of some solids, after they were moved by g."""
    move = torch.eye(4, dtype=DOUBLE) if g is None else g
    if kind in ("boxes", "cylinders"):
        size, pose = sizes(5, 3 if kind == "boxes" else 2), move @ poses(5)
        return lambda rays: (cast_boxes if kind == "boxes" else cast_cylinders)(rays, size, pose)
    vertices, faces = torus()
    if kind == "mesh":
        moved = er.actions.Points().on(er.E(3)).act(move, vertices)
        return lambda rays: cast_mesh(rays, moved, faces)
    back = torch.linalg.inv(move)

    def distance(x: Tensor) -> Tensor:
        x = x @ back[:3, :3].mT + back[:3, 3]
        ring = torch.stack(
            [x[..., :2].norm(dim=-1) - 1.5 - 0.1 * x[..., 0].sin(), x[..., 2] - 0.2 * x[..., 1].cos()], -1
        )
        return 0.8 * (ring.norm(dim=-1) - 0.6)

    return lambda rays: cast_sdf(rays, distance, 30.0, steps=2000, tol=1e-5)


@pytest.mark.parametrize("kind", ["boxes", "cylinders", "mesh", "sdf"])
@pytest.mark.parametrize("size", [(24, 32), (25, 33), (25, 32)])
@pytest.mark.parametrize("central", [True, False])
def test_rendering_commutes_with_motions_and_mirrors(kind: str, size: tuple[int, int], central: bool) -> None:
    group = er.E(3)
    g = group.sample(4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    assert sorted(torch.linalg.det(g).sign().tolist())[::3] == [-1, 1]
    camera = pinhole(*size, 0.9, look_at(torch.tensor([4.0, 3.5, 2.1], dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)))
    if not central:
        camera = pinhole(size[0] + 9, size[1] + 7, 1.1, camera.pose).cropped(7, 2, *size)
    before = view(camera, scene(kind))
    assert 0.1 < before.hit.double().mean() < 0.9
    for one in g:
        after = view(Cameras().on(group).act(one, camera), scene(kind, one))
        flip = Views().on(group).act
        same = flip(one, before.hit[None])[0] == after.hit
        assert bool(same.all()) if kind != "sdf" else float(same.double().mean()) > 0.995
        seen = after.hit & same
        depth = flip(one, before.depth[None])[0]
        tol = 1e-9 if kind != "sdf" else 1e-6
        torch.testing.assert_close(after.depth[seen], depth[seen], rtol=tol, atol=tol)
        normals = Views("vectors").on(group).act(one, before.normal.movedim(-1, 0)).movedim(0, -1)
        torch.testing.assert_close(after.normal[seen], normals[seen], rtol=1e3 * tol, atol=1e3 * tol)
        if kind != "sdf":
            assert torch.equal(flip(one, before.index[None])[0], after.index)


def test_depths_lead_to_the_surface() -> None:
    camera = pinhole(20, 30, 1.0, look_at(torch.tensor([0.0, -4, 1], dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)))
    half = torch.tensor([[1.0, 0.5, 0.7]], dtype=DOUBLE)
    picture = view(camera, lambda rays: cast_boxes(rays, half))
    pixels = er.geometry.pixel_centers(20, 30, dtype=DOUBLE)[picture.hit]
    points = camera.backproject(pixels, picture.depth[picture.hit])
    assert ((points.abs() - half).amax(-1)).abs().max() < 1e-12


def test_batches_are_their_items() -> None:
    camera = pinhole(9, 11, 0.8, look_at(normal(3, 3) + 5, torch.zeros(3, dtype=DOUBLE)))
    half, pose = sizes(3, 4, 3), poses(3, 4)
    vertices, faces = torus(8, 5)
    meshes_ = vertices + 0.1 * normal(3, 1, 3)
    together = (
        view(camera, lambda rays: cast_boxes(rays, half, pose)),
        view(camera, lambda rays: cast_cylinders(rays, half[..., :2], pose)),
        view(camera, lambda rays: cast_mesh(rays, meshes_, faces)),
    )
    for b in range(3):
        one = Camera(*(t[b] for t in camera))
        alone = (
            view(one, lambda rays, b=b: cast_boxes(rays, half[b], pose[b])),
            view(one, lambda rays, b=b: cast_cylinders(rays, half[b, :, :2], pose[b])),
            view(one, lambda rays, b=b: cast_mesh(rays, meshes_[b], faces)),
        )
        for whole, part in zip(together, alone, strict=True):
            for ours, theirs in zip(whole, part, strict=True):
                torch.testing.assert_close(ours[b], theirs, rtol=1e-10, atol=1e-10)


def test_nothing_to_hit() -> None:
    rays = rays_from_outside(5)
    for hits in (
        cast_boxes(rays, torch.empty(0, 3, dtype=DOUBLE)),
        cast_cylinders(rays, torch.empty(0, 2, dtype=DOUBLE)),
        cast_mesh(rays, torch.zeros(3, 3, dtype=DOUBLE), torch.empty(0, 3, dtype=torch.int64)),
        cast_mesh(rays, torch.zeros(3, 3, dtype=DOUBLE), torch.tensor([[0, 1, 2]])),  # a triangle without area
    ):
        assert not bool(hits.hit.any())
        assert hits.distance.tolist() == [math.inf] * 5
        assert hits.normal.abs().sum() == 0


def test_nearest_hits() -> None:
    rays = rays_from_outside(300)
    size, pose = sizes(6, 3), poses(6, spread=1.5)
    whole = cast_boxes(rays, size, pose)
    parts = [cast_boxes(rays, size[a:b], pose[a:b]) for a, b in ((0, 2), (2, 3), (3, 6))]
    joined = nearest_hits(*parts, counts=(2, 1, 3))
    for ours, theirs in zip(joined, whole, strict=True):
        torch.testing.assert_close(ours, theirs)
    which = nearest_hits(*parts).index
    assert torch.equal(which, torch.where(whole.index < 0, -1, torch.tensor([0, 0, 1, 2, 2, 2])[whole.index]))


# --- gradients -------------------------------------------------------------------------------------------------------
def kept(hits: Hits) -> tuple[Tensor, Tensor]:
    return hits.distance[hits.hit], hits.normal[hits.hit]


def test_gradients() -> None:
    rays = rays_from_outside(25)
    o, d = (t.clone().requires_grad_() for t in rays)
    box, rod, pose = sizes(2, 3).requires_grad_(), sizes(2, 2).requires_grad_(), poses(2).requires_grad_()
    vertices, faces = torus(5, 4)
    vertices.requires_grad_()
    options = {"eps": 1e-7, "atol": 1e-4}
    assert torch.autograd.gradcheck(lambda o, d, s, p: kept(cast_boxes(Rays(o, d), s, p)), (o, d, box, pose), **options)
    assert torch.autograd.gradcheck(
        lambda o, d, s, p: kept(cast_cylinders(Rays(o, d), s, p)), (o, d, rod, pose), **options
    )
    assert torch.autograd.gradcheck(lambda o, d, v: kept(cast_mesh(Rays(o, d), v, faces)), (o, d, vertices), **options)
    radius = torch.tensor(1.2, dtype=DOUBLE, requires_grad=True)
    centre = torch.zeros(3, dtype=DOUBLE, requires_grad=True)

    def ball(o: Tensor, d: Tensor, radius: Tensor, centre: Tensor) -> Tensor:
        return kept(cast_sdf(Rays(o, d), lambda x: (x - centre).norm(dim=-1) - radius, 40.0, tol=1e-12))[0]

    aimed = (0.1 * d - o).detach().requires_grad_()
    assert torch.autograd.gradcheck(ball, (o, aimed, radius, centre), eps=1e-6, atol=1e-4)


def test_tracing_needs_no_gradient() -> None:
    with torch.no_grad():
        hits = cast_sdf(rays_from_outside(5), lambda x: x.norm(dim=-1) - 2, 30.0)
    assert not hits.distance.requires_grad
    assert not cast_sdf(rays_from_outside(5), lambda x: x.norm(dim=-1) - 2, 30.0).distance.requires_grad


# --- what is refused -------------------------------------------------------------------------------------------------
RAYS = Rays(torch.zeros(3), torch.ones(4, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cast_boxes(Rays(torch.zeros(2), torch.ones(4, 3)), torch.ones(1, 3)), ShapeError, "origin has shape"),
        (lambda: cast_boxes(Rays(torch.zeros(3), torch.ones(3)), torch.ones(1, 3)), ShapeError, "directions"),
        (
            lambda: cast_boxes(Rays(torch.zeros(3), torch.zeros(4, 3)), torch.ones(1, 3)),
            ErlangenError,
            "points nowhere",
        ),
        (
            lambda: cast_boxes(Rays(torch.zeros(3), torch.full((4, 3), torch.nan)), torch.ones(1, 3)),
            NotFiniteError,
            "direction",
        ),
        (lambda: cast_boxes(RAYS, torch.ones(3)), ShapeError, "half has shape"),
        (lambda: cast_boxes(RAYS, torch.zeros(1, 3)), ErlangenError, "positive sizes"),
        (lambda: cast_boxes(RAYS, torch.ones(2, 3), torch.eye(4)), ShapeError, "one for each solid"),
        (lambda: cast_cylinders(RAYS, torch.ones(1, 3)), ShapeError, "size has shape"),
        (lambda: cast_mesh(RAYS, torch.ones(3, 2), torch.zeros(1, 3).long()), ShapeError, "triangles"),
        (lambda: cast_mesh(RAYS, torch.ones(3, 3), torch.zeros(1, 3)), DtypeError, "pass int64"),
        (lambda: cast_mesh(RAYS, torch.ones(3, 3), torch.full((1, 3), 3)), ErlangenError, "there are 3"),
        (lambda: cast_sdf(RAYS, lambda x: x, 5.0), ShapeError, "one distance for each point"),
        (lambda: cast_sdf(RAYS, lambda x: x[..., 0], 0.0), ErlangenError, "positive length"),
        (lambda: nearest_hits(), ErlangenError, "at least one"),
        (lambda: nearest_hits(cast_boxes(RAYS, torch.ones(1, 3)), counts=()), ErlangenError, "a count for each"),
    ],
)
def test_bad_input(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_rays_that_do_not_arrive() -> None:
    ray = Rays(torch.tensor([-5.0, 0, 0]), torch.tensor([[1.0, 0, 0]]))
    with pytest.warns(NotConvergedWarning, match="neither at the surface nor beyond it after 3 steps"):
        hits = cast_sdf(ray, lambda x: 0.1 * (x.norm(dim=-1) - 1), 20.0, steps=3)
    assert not bool(hits.hit.any())
