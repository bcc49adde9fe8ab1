"""Pictures of meshes against rays one by one (Möller and Trumbore), closed forms, and the laws of motions and mirrors."""

import math

import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry import Camera, look_at, pinhole
from erlangen.groups import SE, E
from erlangen.render import face_normals, interpolate, rasterize, render_mesh, vertex_normals

SIZES = [(12, 12), (9, 14), (11, 7)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soup(faces: int = 20, seed: int = 0, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles anywhere, also behind the camera and across its plane."""
    vertices = 2 * torch.randn(3 * faces, 3, generator=seeded(seed), dtype=torch.float64)
    return vertices.to(dtype), torch.arange(3 * faces).view(-1, 3)


def ball(steps: int = 8, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed mesh in the unit sphere, corners counter-clockwise from outside."""
    polar = torch.linspace(0, math.pi, steps + 1, dtype=torch.float64)[1:-1]
    turn = torch.arange(2 * steps, dtype=torch.float64) * math.pi / steps
    ring = torch.stack([polar.sin()[:, None] * turn.cos(), polar.sin()[:, None] * turn.sin()], -1)
    rings = torch.cat([ring, polar.cos()[:, None, None].expand(-1, 2 * steps, 1)], -1).reshape(-1, 3)
    poles = torch.tensor([[0.0, 0, 1], [0, 0, -1]], dtype=torch.float64)
    n, faces = 2 * steps, []
    for j in range(n):
        k = (j + 1) % n
        faces.append([len(rings), j, k])
        faces.append([len(rings) + 1, len(rings) - n + k, len(rings) - n + j])
        for i in range(len(polar) - 1):
            a, b = i * n, (i + 1) * n
            faces += [[a + j, b + j, a + k], [a + k, b + j, b + k]]
    return torch.cat([rings, poles]).to(dtype), torch.tensor(faces)


def cameras(size: tuple[int, int], count: int = 3, dtype=torch.float64) -> Camera:
    place = 3 * torch.nn.functional.normalize(torch.randn(count, 3, generator=seeded(5), dtype=torch.float64), dim=-1)
    camera = pinhole(*size, math.radians(70), look_at(place, torch.zeros(3, dtype=torch.float64)).to(dtype))
    # Principal points off the middle, and pixels that are not square.
    return camera._replace(
        center=camera.center + torch.tensor([1.3, -0.7], dtype=dtype),
        focal=camera.focal * torch.tensor([1.0, 1.2]).to(dtype),
    )


def cast(camera: Camera, vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and face ``[B, H, W]`` of every ray with every triangle, by Möller and Trumbore."""
    origin, direction = camera.rays()
    a, b, c = vertices[faces].unbind(1)
    d = direction[..., None, :]
    p = torch.linalg.cross(d.expand(*d.shape[:-2], len(faces), 3), (c - a).expand(*d.shape[:-2], len(faces), 3))
    det = ((b - a) * p).sum(-1)
    away = origin[:, None, None, None] - a
    u = (away * p).sum(-1) / det
    q = torch.linalg.cross(away, (b - a).expand_as(away))
    v = (d * q).sum(-1) / det
    t = ((c - a) * q).sum(-1) / det
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 1e-3)
    depth, face = torch.where(hit, t, math.inf).min(-1)
    return depth, torch.where(depth < math.inf, face, -1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_against_rays_one_by_one(size, seed) -> None:
    vertices, faces = soup(seed=seed)
    camera = cameras(size)
    seen = rasterize(camera, vertices, faces)
    depth, face = cast(camera, vertices, faces)
    assert torch.equal(seen.face, face)
    assert 0.1 < float((face >= 0).double().mean()) <= 1
    torch.testing.assert_close(seen.depth, depth)
    points = interpolate(seen, faces, vertices).movedim(-3, -1)
    rays = camera.rays()
    due = rays.origin[:, None, None] + seen.depth[..., None] * rays.direction
    torch.testing.assert_close(points[face >= 0], due[face >= 0], atol=1e-9, rtol=1e-9)


def test_triangles_across_the_plane_of_the_camera() -> None:
    """The floor reaches from behind the camera to the horizon: at height h it lies at depth h f / (v - c_y)."""
    floor = torch.tensor([[-1e4, 1.0, -1e4], [1e4, 1.0, -1e4], [0, 1.0, 3e4]], dtype=torch.float64)
    camera = pinhole(8, 8, math.radians(90), torch.eye(4, dtype=torch.float64))
    seen = rasterize(camera, floor, torch.tensor([[0, 1, 2]]))
    v = torch.arange(8, dtype=torch.float64) + 0.5
    due = torch.where(v > 4, 4 / (v - 4), math.inf)
    torch.testing.assert_close(seen.depth, due[:, None].expand(8, 8))


@pytest.mark.parametrize("size", SIZES)
def test_moving_scene_and_camera_together_changes_nothing(size) -> None:
    vertices, faces = ball()
    camera = cameras(size)
    before = render_mesh(camera, vertices, faces, light=(0.0, 0.3, 1.0), smooth=True)
    g = SE(3).sample(3, generator=seeded(1), dtype=torch.float64)
    for k in range(3):
        R, t = g[k, :3, :3], g[k, :3, 3]
        after = render_mesh(
            camera.moved(g[k]),
            vertices @ R.mT + t,
            faces,
            light=R @ torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64),
            smooth=True,
        )
        for name in ("color", "depth", "mask"):
            torch.testing.assert_close(getattr(after, name), getattr(before, name), atol=1e-9, rtol=1e-9)
        turned = torch.einsum("ij,bjhw->bihw", R, before.normal)
        torch.testing.assert_close(after.normal, turned, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_a_mirrored_scene_is_a_mirrored_picture(size) -> None:
    vertices, faces = soup(12)
    camera = cameras(size)
    g = E(3).sample(20, generator=seeded(1), dtype=torch.float64)
    g = g[torch.linalg.det(g[:, :3, :3]) < 0][0]
    before = rasterize(camera, vertices, faces)
    after = rasterize(camera.moved(g), vertices @ g[:3, :3].mT + g[:3, 3], faces)
    assert torch.equal(after.face, before.face.flip(-1))
    torch.testing.assert_close(after.depth, before.depth.flip(-1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_meshes_have_no_holes_and_hide_their_backs(dtype) -> None:
    vertices, faces = ball(dtype=dtype)
    camera = cameras((40, 40), dtype=dtype)
    seen, fronts = rasterize(camera, vertices, faces), rasterize(camera, vertices, faces, cull=True)
    assert torch.equal(seen.face, fronts.face)
    covered = seen.face >= 0
    for image in covered:
        for row in image:
            inside = row.nonzero().flatten()
            assert len(inside) == 0 or len(inside) == int(inside[-1] - inside[0]) + 1  # convex: each row is one run
    assert 0.1 < float(covered.double().mean()) < 0.9
    eye = camera.position[:, None, None] - interpolate(seen, faces, vertices).movedim(-3, -1)
    outwards = face_normals(vertices, faces)[seen.face.clamp_min(0)]
    assert bool(((outwards * eye).sum(-1)[covered] > 0).all())


def test_depth_of_a_sphere_converges_to_the_closed_form() -> None:
    camera = pinhole(31, 31, math.radians(40), look_at(torch.tensor([0.0, -3, 0]).double(), torch.zeros(3).double()))
    rays = camera.rays()
    d = rays.direction[15, 10:21]
    half = (d * rays.origin).sum(-1)
    due = (-half - (half**2 - d.square().sum(-1) * 8).sqrt()) / d.square().sum(-1)
    errors = []
    for steps in (8, 16, 32):
        errors.append(float((rasterize(camera, *ball(steps)).depth[15, 10:21] - due).abs().max()))
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.4 * errors[1]


def test_gradients_of_depth_and_colours() -> None:
    vertices, faces = soup(6)
    camera = cameras((6, 6), 1)
    values = torch.rand(len(vertices), 2, generator=seeded(3), dtype=torch.float64)
    seen = rasterize(camera, vertices, faces)
    assert bool((seen.face >= 0).any())

    def maps(vertices, values, focal, center):
        fragments = rasterize(camera._replace(focal=focal, center=center), vertices, faces)
        covered = fragments.face >= 0
        return fragments.depth[covered], interpolate(fragments, faces, values)

    given = [v.clone().requires_grad_() for v in (vertices, values, camera.focal, camera.center)]
    assert torch.autograd.gradcheck(maps, given, eps=1e-7, atol=1e-4)


def test_light_on_a_wall_by_the_law() -> None:
    wall = torch.tensor([[-9.0, -9, 2], [9, -9, 2], [0, 9, 2]], dtype=torch.float64)
    camera = pinhole(4, 4, math.radians(50), torch.eye(4, dtype=torch.float64))
    faces = torch.tensor([[0, 1, 2]])
    colors = torch.tensor([[1.0, 0.5]], dtype=torch.float64).expand(3, 2)
    light = torch.tensor([0.0, 0.6, -0.8], dtype=torch.float64)
    seen = render_mesh(camera, wall, faces, colors=colors, light=light, ambient=0.2)
    due = (0.2 + 0.8 * 0.8) * torch.tensor([1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(seen.color, due[:, None, None].expand(2, 4, 4))
    torch.testing.assert_close(seen.normal[:, 0, 0], torch.tensor([0.0, 0, -1], dtype=torch.float64))
    behind = render_mesh(camera, wall, faces, colors=colors, light=-light, ambient=0.2)
    torch.testing.assert_close(behind.color, 0.2 * colors[0][:, None, None].expand(2, 4, 4))
    shiny = render_mesh(camera, wall, faces, colors=colors, light=light, ambient=0.2, specular=0.5, shininess=3.0)
    eye = -seen.coordinates / seen.coordinates.norm(dim=0)
    mirror = 2 * 0.8 * seen.normal - light[:, None, None]
    torch.testing.assert_close(shiny.color, seen.color + 0.5 * (mirror * eye).sum(0).clamp_min(0) ** 3)


def test_more_samples_soften_the_border() -> None:
    vertices, faces = ball()
    camera = cameras((16, 16), 2)
    one, four = (render_mesh(camera, vertices, faces, samples=s, background=0.0) for s in (1, 4))
    assert set(one.mask.unique().tolist()) == {0.0, 1.0}
    assert set((16 * four.mask).unique().tolist()) > {0.0, 16.0}
    assert abs(float(four.mask.mean() - one.mask.mean())) < 0.05
    assert four.depth.shape == one.depth.shape == (2, 16, 16)
    alone = render_mesh(Camera(*(t[1] for t in camera)), vertices, faces, samples=4, background=0.0)
    torch.testing.assert_close(alone.color, four.color[1])
    odd = render_mesh(camera, vertices, faces, samples=3)
    torch.testing.assert_close(odd.depth, one.depth, atol=1e-9, rtol=1e-9)  # the middle sample is the pixel's


def test_batches_of_shapes_and_of_cameras() -> None:
    vertices, faces = ball(4)
    camera = cameras((10, 10))
    shapes = torch.stack([vertices, 0.7 * vertices, vertices + 0.2])
    together = render_mesh(camera, shapes, faces, colors=shapes.abs(), smooth=True)
    for k in range(3):
        alone = Camera(*(t[k] for t in camera))
        one = render_mesh(alone, shapes[k], faces, colors=shapes[k].abs(), smooth=True)
        for a, b in zip(together, one, strict=True):
            torch.testing.assert_close(a[k], b)
    grid = Camera(*(t[:2].reshape(2, 1, *t.shape[1:]).expand(2, 3, *t.shape[1:]) for t in camera))
    assert rasterize(grid, vertices, faces).weights.shape == (2, 3, 10, 10, 3)


def test_normals() -> None:
    vertices, faces = ball(16)
    outwards = (face_normals(vertices, faces) * vertices[faces].mean(1)).sum(-1)
    assert float(outwards.min()) > 0.9
    torch.testing.assert_close(vertex_normals(vertices, faces), vertices, atol=0.05, rtol=0)
    flat = torch.zeros(3, 3, dtype=torch.float64)
    assert not face_normals(flat, torch.tensor([[0, 1, 2]])).any()
    lonely = vertex_normals(torch.cat([vertices, vertices[:1]]), faces)
    assert not lonely[-1].any()


def test_nothing_to_see() -> None:
    vertices, _ = ball(4)
    camera = cameras((5, 6))
    none = rasterize(camera, vertices, torch.zeros(0, 3, dtype=torch.int64))
    assert bool((none.face == -1).all())
    assert bool(none.depth.isinf().all())
    behind = rasterize(
        pinhole(5, 6, 1.0, dtype=torch.float64), vertices - 9 * torch.eye(3).double()[2], torch.tensor([[0, 1, 2]])
    )
    assert bool((behind.face == -1).all())
    picture = render_mesh(camera, vertices, torch.zeros(0, 3, dtype=torch.int64), background=0.25)
    assert bool((picture.color == 0.25).all())
    assert not picture.mask.any()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda c, v, f: rasterize(c, v, f.int()), DtypeError, "faces has dtype torch.int32; give int64"),
        (lambda c, v, f: rasterize(c, v, f + len(v)), ShapeError, "faces holds vertex"),
        (lambda c, v, f: rasterize(c, v, f[:, :2]), ShapeError, r"give triangles \[F, 3\]"),
        (lambda c, v, f: rasterize(c, v.expand(2, -1, -1), f), ShapeError, r"the batch \(2,\) and the camera \(3,\)"),
        (lambda c, v, f: rasterize(c, v / 0, f), NotFiniteError, "vertices"),
        (lambda c, v, f: rasterize(c, v, f, near=0.0), ErlangenError, "near = 0.0; give a positive depth"),
        (lambda c, v, f: interpolate(rasterize(c, v, f), f, v[:, 0]), ShapeError, r"give \[V, C\]"),
        (lambda c, v, f: render_mesh(c, v, f, ambient=2.0), ErlangenError, "ambient = 2.0"),
        (lambda c, v, f: render_mesh(c, v, f, samples=0), ErlangenError, "samples = 0"),
        (lambda c, v, f: render_mesh(c, v, f, light=(0, 0, 0)), ShapeError, "not zero"),
        (lambda c, v, f: face_normals(v[0], f), ShapeError, r"give \[..., V, 3\]"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(cameras((4, 4)), *soup(3))
