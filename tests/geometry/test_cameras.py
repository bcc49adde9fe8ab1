"""Cameras: OpenCV's and OpenGL's formulas by hand, round trips, and the laws of SE(3) and of mirrors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import erlangen as er
from erlangen.actions import Cameras, Pixels, Points, Views, parse_action
from erlangen.errors import ActionError, DtypeError, ErlangenError, GroupElementError, ShapeError, UnknownNameError
from erlangen.geometry import Camera, look_at, pinhole, pixel_centers, reflection

DOUBLE = torch.float64


def cameras(count: int = 5, size: tuple[int, int] = (48, 65), seed: int = 0, dtype: torch.dtype = DOUBLE) -> Camera:
    """Cameras about the origin, 4 to 6 away, with principal points off the middle and pixels that are not square."""
    g = torch.Generator().manual_seed(seed)
    place = torch.randn(count, 3, generator=g, dtype=DOUBLE)
    place = place / place.norm(dim=-1, keepdim=True) * (4 + 2 * torch.rand(count, 1, generator=g, dtype=DOUBLE))
    pose = look_at(place, 0.3 * torch.randn(count, 3, generator=g, dtype=DOUBLE))
    K = torch.eye(3, dtype=DOUBLE).repeat(count, 1, 1)
    K[:, [0, 1], [0, 1]] = 50 + 10 * torch.rand(count, 2, generator=g, dtype=DOUBLE)
    K[:, :2, 2] = torch.tensor([size[1], size[0]]) / 2 + 5 * torch.rand(count, 2, generator=g, dtype=DOUBLE)
    return Camera.from_matrix(K.to(dtype), pose.to(dtype), size)


def cloud(*shape: int, seed: int = 1, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def close(a: Tensor, b: Tensor, tol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- conventions -----------------------------------------------------------------------------------------------------
def test_projection_is_opencvs_formula() -> None:
    """OpenCV: s (u, v, 1) = K [R | t] (X, 1), pixels counted by their middles: `cv2.projectPoints` without distortion."""
    camera, x = cameras(), cloud(5, 20)
    K, extrinsics = camera.matrix(pixel_centers=0.0), camera.pose_in("opencv", world_to_camera=True)
    for b in range(5):
        for n in range(20):
            X, Y, Z = (extrinsics[b, :3, :3] @ x[b, n] + extrinsics[b, :3, 3]).tolist()
            u = K[b, 0, 0] * X / Z + K[b, 0, 2]
            v = K[b, 1, 1] * Y / Z + K[b, 1, 2]
            pixels, depth = camera.project(x)
            close(pixels[b, n] - 0.5, torch.stack([u, v]))
            close(depth[b, n], torch.tensor(Z, dtype=DOUBLE))


def test_opengl_projection_by_its_matrix() -> None:
    """The matrix of glFrustum takes eye coordinates (y up, z backwards) to the cube [-1, 1]^3, y upwards again."""
    height, width, near, far = 30, 40, 0.1, 100.0
    camera = pinhole(height, width, 1.1, look_at(cloud(1)[0] + 5, torch.zeros(3, dtype=DOUBLE)))
    right = near * math.tan(0.55)
    top = right * height / width
    P = torch.zeros(4, 4, dtype=DOUBLE)
    P[0, 0], P[1, 1], P[3, 2] = near / right, near / top, -1
    P[2, 2], P[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    x = cloud(50)
    eye = torch.cat([x, torch.ones(50, 1, dtype=DOUBLE)], 1) @ camera.pose_in("opengl", world_to_camera=True).mT
    clip = eye @ P.mT
    ndc = clip[:, :3] / clip[:, 3:]
    pixels, depth = camera.project(x)
    close(pixels, torch.stack([(ndc[:, 0] + 1) / 2 * width, (1 - ndc[:, 1]) / 2 * height], 1), 1e-10)
    close(depth, -eye[:, 2])


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
@pytest.mark.parametrize("centers", [0.0, 0.5])
@pytest.mark.parametrize("inverse", [False, True])
def test_conventions_come_and_go(axes, centers: float, inverse: bool) -> None:
    camera = cameras()
    K, pose = camera.matrix(pixel_centers=centers), camera.pose_in(axes, world_to_camera=inverse)
    options = {"axes": axes, "pixel_centers": centers, "world_to_camera": inverse}
    for given_pose in (pose, pose[:, :3]):
        back = Camera.from_matrix(K, given_pose, (48, 65), **options)
        for ours, theirs in zip(back, camera, strict=True):
            close(ours, theirs)


def test_pixels_of_a_small_image() -> None:
    """Of the image plane at depth 1, the corners of a 2 x 4 image of focal length 2 are (-1, -1/2) to (1, 1/2)."""
    camera = pinhole(2, 4, math.pi / 2, dtype=DOUBLE)
    corners = torch.tensor([[0.0, 0.0], [4.0, 2.0]], dtype=DOUBLE)
    points = camera.backproject(corners, torch.ones(2, dtype=DOUBLE))
    close(points, torch.tensor([[-1, -0.5, 1], [1, 0.5, 1]], dtype=DOUBLE))
    rays = camera.rays()
    close(rays.direction[0, 0], torch.tensor([-0.75, -0.25, 1], dtype=DOUBLE))
    close(rays.direction[1, 3], torch.tensor([0.75, 0.25, 1], dtype=DOUBLE))
    assert pixel_centers(2, 4)[1, 3].tolist() == [3.5, 1.5]


def test_angle_spans_the_width() -> None:
    camera = pinhole(10, 17, 0.7, dtype=DOUBLE)
    left, right = camera.backproject(torch.tensor([[0, 5.0], [17, 5]], dtype=DOUBLE), torch.ones(2, dtype=DOUBLE))
    close(er.numerics.angle(left, right), torch.tensor(0.7, dtype=DOUBLE))
    assert pinhole(10, 17, torch.tensor([0.5, 0.7])).pose.shape == (2, 4, 4)


# --- projection ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (DOUBLE, 1e-12)])
def test_backprojection_inverts(dtype: torch.dtype, tol: float) -> None:
    camera = cameras(dtype=dtype)
    for x in (cloud(5, 7, dtype=dtype), cloud(5, 2, 3, dtype=dtype), cloud(5, dtype=dtype)):
        pixels, depth = camera.project(x)
        assert pixels.dtype == dtype
        close(camera.backproject(pixels, depth), x, tol)


def test_rays_pass_their_pixels() -> None:
    camera = cameras()
    rays = camera.rays()
    assert rays.direction.shape == (5, 48, 65, 3)
    pixels, depth = camera.project(rays.origin[:, None, None] + 2.5 * rays.direction)
    close(pixels, pixel_centers(48, 65, dtype=DOUBLE).expand_as(pixels), 1e-10)
    close(depth, torch.full_like(depth, 2.5))


def test_points_behind_have_negative_depth() -> None:
    assert pinhole(4, 4, 1.0).project(torch.tensor([[0.0, 0.0, -3.0]]))[1].tolist() == [-3.0]


def test_gradients() -> None:
    camera = cameras(2)

    def seen(pose: Tensor, focal: Tensor, center: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        moved = Camera(pose, focal, center, camera.size)
        return (*moved.project(x), moved.rays().direction[:, ::16, ::16])

    inputs = [t.clone().requires_grad_() for t in (*camera[:3], cloud(2, 3))]
    assert torch.autograd.gradcheck(seen, inputs)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=30)
def test_windows_and_resolutions(height: int, width: int, top: int, left: int) -> None:
    camera, x = cameras(), cloud(5, 9)
    pixels, depth = camera.project(x)
    cropped, again = camera.cropped(top, left, height, width).project(x)
    close(cropped, pixels - torch.tensor([left, top], dtype=DOUBLE))
    close(again, depth)
    resized = camera.resized(height, width)
    assert resized.image_size() == (height, width)
    close(resized.project(x)[0] / torch.tensor([width, height]), pixels / torch.tensor([65, 48]))


# --- poses -----------------------------------------------------------------------------------------------------------
def test_look_at() -> None:
    place, target, up = cloud(50), cloud(50, seed=2), cloud(50, seed=3)
    pose = look_at(place, target, up)
    assert bool(er.SE(3).contains(pose).all())
    camera = pinhole(20, 30, 1.0, pose)
    pixels, depth = camera.project(target)
    close(pixels, torch.tensor([15.0, 10.0], dtype=DOUBLE).expand(50, 2), 1e-10)
    close(depth, (target - place).norm(dim=-1))
    above, _ = camera.project(target + 1e-3 * up)
    assert bool((above[:, 1] < 10).all())  # v grows downwards
    close(above[:, 0], torch.full((50,), 15.0, dtype=DOUBLE), 1e-9)


def test_reflection() -> None:
    normal, offset = cloud(20), torch.linspace(-1, 1, 20, dtype=DOUBLE)
    M = reflection(normal, offset)
    group = er.E(3)
    assert bool(group.contains(M).all())
    close(M @ M, torch.eye(4, dtype=DOUBLE).expand(20, 4, 4))
    unit = normal / normal.norm(dim=-1, keepdim=True)
    on_plane = offset[:, None] * unit
    close(Points().on(group).act(M, on_plane[:, None])[:, 0], on_plane)
    close(Points().on(group).act(M, (on_plane + unit)[:, None])[:, 0], on_plane - unit)


# --- the action ------------------------------------------------------------------------------------------------------
GROUPS = [er.SE(3), er.E(3), er.O(3), er.Octahedral(inversion=True), er.Similarity(3)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_left_action(group: er.Group) -> None:
    generator = torch.Generator().manual_seed(0)
    g, h = (group.sample(8, generator=generator, dtype=DOUBLE) for _ in range(2))
    act, one = Cameras().on(group).act, cameras(1)
    for name, a, b in zip(Camera._fields, act(group.compose(g, h), one), act(g, act(h, one)), strict=True):
        close(a, b, 1e-10)
        assert a.shape[0] == 8, name
    unmoved = act(group.identity(dtype=DOUBLE) if g.is_floating_point() else group.identity(), one)
    for a, b in zip(unmoved, one, strict=True):
        close(a, b)


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
@pytest.mark.parametrize("group", [er.E(3), er.Similarity(3)], ids=lambda group: group.name)
def test_moving_all_changes_nothing_but_the_side(size: tuple[int, int], group: er.Group) -> None:
    """Projected pixels and depths are invariants of object and camera together, up to u -> width - u in mirrors."""
    g = group.sample(20, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    det = torch.linalg.det(group.linear(g))
    assert group.name != "E(3)" or bool((det < 0).any() and (det > 0).any())
    camera, x = cameras(20, size), cloud(20, 30)
    pixels, depth = camera.project(x)
    seen, far = Cameras().on(group).act(g, camera).project(Points().on(group).act(g, x))
    close(seen, Pixels(size[1]).on(group).act(g, pixels), 1e-9)
    close(far, depth * det.abs().pow(1 / 3)[:, None], 1e-10)
    assert bool(er.SE(3).contains(Cameras().on(group).act(g, camera).pose).all())


def test_moving_the_object_is_moving_the_camera() -> None:
    """The audit: a model of points and cameras, and one that reads points in the axes of the world alone."""

    def seen(x: tuple[Tensor, Camera]) -> Tensor:
        pixels, depth = x[1].project(x[0])
        return torch.cat([pixels, depth[..., None]], -1)

    def blind(x: tuple[Tensor, Camera]) -> Tensor:
        return (x[0] - x[1].position[:, None])[..., :2]

    inputs = (cloud(6, 15), cameras(6))
    sym = er.Symmetry("E(3)", input=("points", "cameras"), output="pixels(65, 3)")
    report = er.audit(seen, sym, inputs, elements=20)
    assert float(report.errors.max()) < 1e-10
    assert report.certificate == "statistical"
    only = er.Symmetry("SE(3)", input=("points", "cameras"), output="invariant")
    assert er.equivariance_error(seen, only, inputs, reduce="max") < 1e-10
    flat = er.Symmetry("E(3)", input=("points", "cameras"), output="pixels(65)")
    assert er.equivariance_error(blind, flat, inputs) > 0.01
    g = er.SE(3).sample(6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    points, moved = Points().on(er.SE(3)), Cameras().on(er.SE(3))
    close(moved.act(g, inputs[1]).project(inputs[0])[0], inputs[1].project(points.inverse_act(g, inputs[0]))[0], 1e-8)


def test_mirrored_look_at_is_looking_from_the_mirror() -> None:
    place, target, up = cloud(10), cloud(10, seed=2), cloud(10, seed=3)
    M = reflection(cloud(10, seed=4), 0.7)
    points = Points().on(er.E(3))
    moved = look_at(
        *(points.act(M, t[:, None])[:, 0] for t in (place, target)),
        er.actions.Vectors().on(er.E(3)).act(M, up[:, None])[:, 0],
    )
    close(Cameras().on(er.E(3)).act(M, pinhole(5, 6, 1.0, look_at(place, target, up))).pose, moved, 1e-10)


def test_orbits_of_cameras() -> None:
    g = er.E(3).sample((3, 1), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    camera = cameras(4)
    orbit = Cameras().on(er.E(3)).act(g, Camera(*(t[None] for t in camera)))
    assert [tuple(t.shape) for t in orbit] == [(3, 4, 4, 4), (3, 4, 2), (3, 4, 2), (3, 4, 2)]
    for k in range(3):
        for a, b in zip(Cameras().on(er.E(3)).act(g[k, 0], camera), orbit, strict=True):
            close(a, b[k])


# --- views -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["scalars", "points", "vectors", "camera vectors"])
def test_maps_move_as_their_points(kind) -> None:
    """A plane seen by its depth: maps made after the move are the moved maps."""
    group = er.E(3)
    g = group.sample(8, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    camera = cameras(8, (6, 9))
    offset, normal = torch.full((8,), 10.0, dtype=DOUBLE), cloud(8)
    normal = normal / normal.norm(dim=-1, keepdim=True)
    normal = torch.where((normal * camera.pose[:, :3, 2]).sum(-1, keepdim=True) < 0, -normal, normal)

    def maps(camera: Camera, normal: Tensor, place: Tensor) -> Tensor:
        rays = camera.rays()
        n = normal[:, None, None]
        depth = ((place[:, None, None] - rays.origin[:, None, None]) * n).sum(-1) / (rays.direction * n).sum(-1)
        if kind == "scalars":
            return depth[:, None]
        if kind == "points":
            return (rays.origin[:, None, None] + depth[..., None] * rays.direction).movedim(-1, 1)
        world = n.expand_as(rays.direction)
        return (world if kind == "vectors" else world @ camera.pose[:, None, :3, :3]).movedim(-1, 1)

    place = camera.position + offset[:, None] * normal
    points, vectors = (action.on(group) for action in (Points(), er.actions.Vectors()))
    after = maps(Cameras().on(group).act(g, camera), vectors.act(g, normal), points.act(g, place))
    moved = Views(kind).on(group).act(g, maps(camera, normal, place))
    torch.testing.assert_close(after, moved, rtol=1e-9, atol=1e-9)
    back = Views(kind).on(group).inverse_act(g, moved)
    torch.testing.assert_close(back, maps(camera, normal, place), rtol=1e-12, atol=1e-11)


# --- what is refused -------------------------------------------------------------------------------------------------
K = torch.tensor([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Camera.from_matrix(K[:2], torch.eye(4), (4, 5)), ShapeError, "intrinsic matrices"),
        (
            lambda: Camera.from_matrix(K + torch.eye(3, dtype=torch.float32).roll(1, 1), torch.eye(4), (4, 5)),
            ErlangenError,
            "skew",
        ),
        (lambda: Camera.from_matrix(-K, torch.eye(4), (4, 5)), ErlangenError, "positive focal lengths"),
        (lambda: Camera.from_matrix(K.long(), torch.eye(4), (4, 5)), DtypeError, "K has dtype"),
        (lambda: Camera.from_matrix(K, torch.eye(3), (4, 5)), ShapeError, "rigid motions"),
        (lambda: Camera.from_matrix(K, 2 * torch.eye(4), (4, 5)), GroupElementError, "divide scales out"),
        (
            lambda: Camera.from_matrix(K, torch.diag(torch.tensor([-1.0, 1, 1, 1])), (4, 5)),
            GroupElementError,
            "it mirrors",
        ),
        (lambda: Camera.from_matrix(K, torch.eye(4), (4, 5), axes="blender"), UnknownNameError, "'opencv' or 'opengl'"),
        (lambda: Camera.from_matrix(K, torch.eye(4), (4, 5), pixel_centers=1.0), ErlangenError, "middle of the first"),
        (lambda: Camera.from_matrix(K, torch.eye(4), (0, 5)), ErlangenError, "height = 0"),
        (lambda: pinhole(4, 5, 60.0), ErlangenError, "radians"),
        (lambda: pinhole(4, 5, 1.0).project(torch.zeros(3, 2)), ShapeError, "points has shape"),
        (lambda: pinhole(4, 5, 1.0, torch.eye(4).expand(2, 3, 4, 4)).project(torch.zeros(2, 3)), ShapeError, "batch"),
        (lambda: look_at(torch.zeros(3), torch.zeros(3)), ErlangenError, "target elsewhere"),
        (lambda: look_at(torch.zeros(3), torch.tensor([0.0, 0, 2])), ErlangenError, "direction across the view"),
        (lambda: reflection(torch.zeros(3)), ErlangenError, "is zero"),
        (
            lambda: pinhole(4, 5, 1.0).moved(torch.diag(torch.tensor([1.0, 2, 1, 1]))),
            GroupElementError,
            "no similarity",
        ),
        (lambda: Cameras().on(er.SO(2)), ActionError, "does not move scenes"),
        (lambda: Cameras().on(er.SO(3)).act(torch.eye(3), K), ActionError, "erlangen.geometry.Camera"),
        (lambda: Cameras().on(er.SO(3)).act(torch.eye(3)[None], pinhole(4, 5, 1.0)), ShapeError, "batch axes"),
        (lambda: Pixels(0), ActionError, "width of the image"),
        (lambda: Pixels(5).on(er.O(3)).act(torch.eye(3), torch.zeros(4, 3)), ShapeError, "u first"),
        (lambda: Views("normals"), ActionError, "choose from"),
        (
            lambda: Views("points").on(er.O(3)).act(torch.eye(3), torch.zeros(1, 4, 5)),
            ShapeError,
            "maps of coordinates",
        ),
    ],
)
def test_bad_input(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_cameras_of_two_sizes_have_no_common_image() -> None:
    both = Camera(*(torch.stack(pair) for pair in zip(pinhole(4, 5, 1.0), pinhole(4, 6, 1.0), strict=True)))
    with pytest.raises(ShapeError, match=r"\[4, 5\], \[4, 6\]"):
        both.rays()


def test_names() -> None:
    for action in (Cameras(), Pixels(65), Pixels(65, 3), Views(), Views("points")):
        assert parse_action(action.name) == action
