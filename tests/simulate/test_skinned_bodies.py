"""Skinned bodies: the rest pose, shapes by hand, rigid parts, mirror images, and bad input."""

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, MissingExtraError, ShapeError
from erlangen.groups import SO
from erlangen.simulate import SkinnedBody

F64 = torch.float64
BODY = SkinnedBody.figure(400)


def still(count: int = 1) -> torch.Tensor:
    return torch.eye(3, dtype=F64).repeat(count, len(BODY.tree), 1, 1)


def test_rest_pose_and_spread_of_points() -> None:
    posed = BODY.posed(still())
    torch.testing.assert_close(posed.points[0], BODY.points)
    torch.testing.assert_close(posed.placement.positions[0], BODY.tree.rest)
    torch.testing.assert_close(posed.normals[0], BODY.normals)
    apart = torch.cdist(BODY.points, BODY.points).fill_diagonal_(torch.inf).amin(-1)
    assert float(apart.min()) > 0.4 * float(apart.max())
    assert set(BODY.parts.tolist()) == set(range(12))
    assert torch.equal(SkinnedBody.figure(400).points, BODY.points)


def test_normals_point_out_of_the_body() -> None:
    """A small step along the normal leaves every capsule; against it, it enters the own one."""
    from erlangen.simulate.skinned_bodies import _figure

    capsules = _figure()[3]

    def outside(x: torch.Tensor) -> torch.Tensor:
        gaps = []
        for _, a, b, radius in capsules:
            start, end = (torch.tensor(p, dtype=F64) for p in (a, b))
            t = ((x - start) @ (end - start) / (end - start).square().sum()).clamp(0, 1)
            gaps.append((x - start - t[:, None] * (end - start)).norm(dim=-1) - radius)
        return torch.stack(gaps).amin(0)

    assert float(outside(BODY.points).abs().max()) < 1e-12
    assert bool((outside(BODY.points - 1e-4 * BODY.normals) < 0).all())


def test_points_far_from_joints_move_rigidly() -> None:
    local = BODY.poses(3, 60.0, generator=torch.Generator().manual_seed(0))
    posed = BODY.posed(local)
    j = BODY.tree.names.index("right shin")
    rigid = BODY.weights[:, j] > 1 - 1e-8
    assert int(rigid.sum()) > 10
    R, t = posed.placement.rotations[:, j], posed.placement.positions[:, j]
    expected = (BODY.points[rigid] - BODY.tree.rest[j]) @ R.mT + t[:, None]
    torch.testing.assert_close(posed.points[:, rigid], expected, atol=1e-7, rtol=0)


def test_shapes_by_hand() -> None:
    points, joints = BODY.shaped(torch.tensor([1.0, 0, 0, 0], dtype=F64))
    torch.testing.assert_close(points, 1.06 * BODY.points)
    torch.testing.assert_close(joints, 1.06 * BODY.tree.rest)
    _, joints = BODY.shaped(torch.tensor([0.0, 1, 0, 0], dtype=F64))
    knee, hip = (BODY.tree.names.index(f"left {name}") for name in ("shin", "thigh"))
    assert float((joints[hip] - joints[knee]).norm()) == pytest.approx(1.08 * 0.42)
    assert torch.equal(joints[:4], BODY.tree.rest[:4])
    points, joints = BODY.shaped(torch.tensor([0.0, 0, 0, 2], dtype=F64))
    torch.testing.assert_close((points - BODY.points).norm(dim=-1), torch.full((400,), 0.02, dtype=F64))
    assert torch.equal(joints, BODY.tree.rest)


def test_bones_of_a_shape_keep_their_lengths() -> None:
    draw = torch.Generator().manual_seed(1)
    shape = torch.randn(5, 4, generator=draw, dtype=F64)
    posed = BODY.posed(BODY.poses(5, 80.0, generator=draw), shape)
    long = BODY.tree.bones(BODY.shaped(shape)[1]).norm(dim=-1)
    torch.testing.assert_close(BODY.tree.bones(posed.placement.positions).norm(dim=-1), long)


def test_the_whole_turns_with_the_root() -> None:
    draw = torch.Generator().manual_seed(2)
    local, shape = BODY.poses(4, 50.0, generator=draw), torch.randn(4, 4, generator=draw, dtype=F64)
    g = SO(3).sample(4, generator=draw, dtype=F64)
    before, after = (
        BODY.posed(one, shape) for one in (local, torch.cat([(g @ local[:, 0])[:, None], local[:, 1:]], 1))
    )
    torch.testing.assert_close(after.points, before.points @ g.mT)
    torch.testing.assert_close(after.normals, before.normals @ g.mT)


def test_joints_mirror() -> None:
    local = BODY.poses(4, 50.0, generator=torch.Generator().manual_seed(3))
    other, _ = BODY.tree.mirrored(local, torch.zeros(4, 3, dtype=F64))
    mirror = torch.tensor([-1.0, 1, 1], dtype=F64)
    before, after = (BODY.posed(one).placement.positions for one in (local, other))
    torch.testing.assert_close(after, mirror * before[:, list(BODY.tree.mirror)])


def test_poses_leave_other_joints_alone() -> None:
    local = BODY.poses(50, 30.0, free=(4, 6), generator=torch.Generator().manual_seed(4))
    held = [j for j in range(1, 12) if j not in (4, 6)]
    assert torch.equal(local[:, held], still(50)[:, held])
    angle = ((local[:, 4].diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).acos().rad2deg()
    assert 30 < float(angle.max()) <= 30 * 3**0.5


def test_gradients_reach_pose_and_shape() -> None:
    shape = torch.zeros(1, 4, dtype=F64, requires_grad=True)
    local = still().requires_grad_()
    BODY.posed(local, shape).points.square().sum().backward()
    assert local.grad is not None
    assert shape.grad is not None
    assert bool(local.grad.isfinite().all() & (shape.grad != 0).all())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: SkinnedBody.figure(0), ErlangenError, "points = 0"),
        (lambda: BODY.poses(2, 200.0), ErlangenError, "angle = 200"),
        (lambda: BODY.poses(-1, 20.0), ErlangenError, "count = -1"),
        (lambda: BODY.poses(2, 20.0, free=(0,)), ErlangenError, "from 1 to 11"),
        (lambda: BODY.shaped(torch.zeros(3)), ShapeError, r"give \[..., 4\]"),
        (lambda: BODY.posed(torch.eye(3).repeat(5, 1, 1)), ShapeError, "local has shape"),
        (lambda: replace(BODY, weights=BODY.weights[:, :5]), ShapeError, r"weights has shape \(400, 5\)"),
        (lambda: replace(BODY, points=BODY.points.long()), DtypeError, "points"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()


def test_without_anny_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(MissingExtraError, match=r"'anny'.*erlangen\[bodies\]"):
        SkinnedBody.anny(10)
    with pytest.raises(ErlangenError, match="points = 0"):
        SkinnedBody.anny(0)


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs the extra bodies (anny)")
def test_the_person_of_anny_moves_as_the_package_moves_it() -> None:
    """The package skins all its bones; those that are merged here are given the motion of the bone they move with."""
    from erlangen.simulate._anny import MERGED, PHENOTYPES, anny_model

    body = SkinnedBody.anny(300)
    local = body.poses(2, 40.0, generator=torch.Generator().manual_seed(1))
    shape = torch.zeros(2, 6, dtype=F64)
    posed = body.posed(local, shape)
    assert body.tree.names.count("Hips") == 1
    assert len(body.tree) == 20
    assert set(body.parts.tolist()) == set(range(20))

    model = anny_model()
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**PHENOTYPES))
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=F64))  # to its axes, where a person faces -y
    hips = rest["rest_bone_heads"][0, :1]
    own = [body.tree.names.index(MERGED.get(name, name)) for name in model.bone_labels]
    turned = half_turn @ posed.placement.rotations[:, own] @ half_turn
    heads = body.tree.rest[own] @ half_turn + hips
    goals = posed.placement.positions[:, own] @ half_turn + hips
    transforms = torch.eye(4, dtype=F64).repeat(2, len(own), 1, 1)
    transforms[..., :3, :3] = turned
    transforms[..., :3, 3] = goals - (turned @ heads[..., None])[..., 0]
    theirs = model.get_skinned_vertices(rest["rest_vertices"].expand(2, -1, -1), transforms)
    theirs = (theirs - hips) @ half_turn
    gaps = torch.cdist(body.points, (rest["rest_vertices"][0] - hips) @ half_turn)
    torch.testing.assert_close(gaps.amin(-1), torch.zeros(300, dtype=F64), atol=1e-6, rtol=0)
    torch.testing.assert_close(posed.points, theirs[:, gaps.argmin(-1)], atol=1e-6, rtol=0)

    taller = model.get_phenotype_blendshape_coefficients(**{**PHENOTYPES, "height": PHENOTYPES["height"] + 0.1})
    grown = model.get_rest_model(taller)
    expected = (grown["rest_vertices"][0] - grown["rest_bone_heads"][0, :1]) @ half_turn
    found = body.shaped(torch.tensor([0.0, 0, 0, 0, 1, 0], dtype=F64))[0]
    torch.testing.assert_close(found, expected[gaps.argmin(-1)], atol=2e-3, rtol=0)  # linear about the average person
    outward = body.normals[body.parts == body.tree.names.index("Head")]
    assert float((outward[:, 2]).max()) > 0.9  # the crown looks up
    with pytest.raises(ErlangenError, match="ask for as many or fewer"):
        SkinnedBody.anny(100_000)
