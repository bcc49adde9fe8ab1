"""Kinematic trees against a loop over joints and scipy; motions, mirrors and skinned surfaces."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from erlangen.actions import Points, Relabelled
from erlangen.errors import DataError, DtypeError, ErlangenError, ShapeError
from erlangen.geometry import KinematicTree, skinned
from erlangen.groups import SE, SO, O

# pelvis, left and right hip, spine, left and right knee, head, left and right hand
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 3, 3)
MIRROR = (0, 2, 1, 3, 5, 4, 6, 8, 7)
OFFSETS = torch.tensor(
    [
        [0, 0, 1],
        [0.1, 0, 0],
        [-0.1, 0, 0],
        [0, 0, 0.5],
        [0, 0.1, -0.4],
        [0, 0.1, -0.4],
        [0, 0, 0.3],
        [0.6, 0, 0],
        [-0.6, 0, 0],
    ]
).double()
TREE = KinematicTree(PARENTS, OFFSETS, mirror=MIRROR)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pose(*size: int, seed: int = 0):
    local = SO(3).sample((*size, len(TREE)), generator=seeded(seed), dtype=torch.float64)
    return local, torch.randn(*size, 3, generator=seeded(seed + 1), dtype=torch.float64)


def test_against_a_loop_with_scipy() -> None:
    local, root = pose()
    rotations, positions = [Rotation.from_matrix(local[0].numpy())], [root.numpy()]
    for j in range(1, len(TREE)):
        p = PARENTS[j]
        rotations.append(rotations[p] * Rotation.from_matrix(local[j].numpy()))
        positions.append(positions[p] + rotations[p].apply(OFFSETS[j].numpy()))
    got = TREE.place(local, root)
    for j in range(len(TREE)):
        torch.testing.assert_close(got.rotations[j], torch.from_numpy(rotations[j].as_matrix()))
        torch.testing.assert_close(got.positions[j], torch.from_numpy(positions[j]))


def test_round_trips() -> None:
    local, root = pose(2, 5)
    placed = TREE.place(local, root)
    torch.testing.assert_close(TREE.local(placed.rotations), local)
    torch.testing.assert_close(TREE.from_bones(TREE.bones(placed.positions), root), placed.positions)
    flat = placed.positions[..., :2]
    torch.testing.assert_close(TREE.from_bones(TREE.bones(flat), flat[..., 0, :]), flat)
    lengths = TREE.bones(placed.positions).norm(dim=-1)
    torch.testing.assert_close(lengths, OFFSETS[1:].norm(dim=-1).expand_as(lengths))
    torch.testing.assert_close(TREE.place(torch.eye(3).double().expand(9, 3, 3)).positions, TREE.rest)
    longer = TREE.place(local, root, offsets=2 * OFFSETS)
    torch.testing.assert_close(longer.positions - root[..., None, :], 2 * (placed.positions - root[..., None, :]))


def test_joints_of_one_depth_in_any_order() -> None:
    """A tree whose joints are not sorted by depth."""
    tree = KinematicTree((-1, 0, 1, 0, 2, 3), torch.randn(6, 3, generator=seeded(), dtype=torch.float64))
    local = SO(3).sample(6, generator=seeded(1), dtype=torch.float64)
    placed = tree.place(local)
    for j, p in enumerate(tree.parents[1:], 1):
        torch.testing.assert_close(placed.rotations[j], placed.rotations[p] @ local[j])
        torch.testing.assert_close(placed.positions[j], placed.positions[p] + placed.rotations[p] @ tree.offsets[j])


def test_motions_of_space_act_at_the_root() -> None:
    local, root = pose(4)
    g = SE(3).sample(4, generator=seeded(7), dtype=torch.float64)
    R = SE(3).linear(g)
    moved = torch.cat([R[:, None] @ local[:, :1], local[:, 1:]], 1)
    move = Points().on(SE(3))
    placed, there = TREE.place(local, root), TREE.place(moved, move.act(g, root[:, None])[:, 0])
    torch.testing.assert_close(there.positions, move.act(g, placed.positions))
    torch.testing.assert_close(there.rotations, R[:, None] @ placed.rotations)
    vertices, weights = surface()
    skin = skinned(vertices, weights, TREE, placed)
    torch.testing.assert_close(skinned(vertices, weights, TREE, there), move.act(g, skin))


def test_the_mirrored_pose_is_what_a_mirror_shows() -> None:
    local, root = pose(6)
    mirrored = TREE.place(*TREE.mirrored(local, root))
    show = Relabelled(Points(), MIRROR).on(O(3))
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(mirrored.positions, show.act(mirror, TREE.place(local, root).positions))
    assert float((torch.linalg.det(mirrored.rotations) - 1).abs().max()) < 1e-12
    back = TREE.mirrored(*TREE.mirrored(local, root))
    torch.testing.assert_close(back[0], local)
    torch.testing.assert_close(back[1], root)
    # The tree is not symmetric under another plane: joints swap sides that lie on one.
    other = TREE.place(*TREE.mirrored(local, root, normal=(0, 2, 0)))
    flat = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    assert float((other.positions - show.act(flat, TREE.place(local, root).positions)).abs().max()) > 0.1


def surface():
    vertices = torch.randn(40, 3, generator=seeded(3), dtype=torch.float64)
    weights = torch.rand(40, len(TREE), generator=seeded(4), dtype=torch.float64)
    weights[:10] = torch.eye(len(TREE), dtype=torch.float64)[torch.arange(10) % len(TREE)]
    return vertices, weights / weights.sum(-1, keepdim=True)


def test_skinning_by_the_definition() -> None:
    vertices, weights = surface()
    local, root = pose(2)
    placed = TREE.place(local, root)
    got = skinned(vertices, weights, TREE, placed)
    due = torch.zeros_like(got)
    for j in range(len(TREE)):
        carried = (vertices - TREE.rest[j]) @ placed.rotations[:, j].mT + placed.positions[:, j, None]
        due += weights[:, j, None] * carried
    torch.testing.assert_close(got, due)
    # Vertices of one joint move rigidly: 0 and 9 hang on the first.
    between = (got[:, 0] - got[:, 9]).norm(dim=-1)
    torch.testing.assert_close(between, (vertices[0] - vertices[9]).norm().expand(2))


def body(j: int) -> str:
    """The bodies of the tree below joint j in the language of MuJoCo, with a ball joint each."""
    joint = "<freejoint/>" if j == 0 else '<joint type="ball"/>'
    inner = "".join(body(k) for k, p in enumerate(PARENTS) if p == j)
    place = " ".join(map(str, OFFSETS[j].tolist()))
    return f'<body name="{j}" pos="{place}">{joint}<geom size="0.1"/>{inner}</body>'


def test_against_mujoco() -> None:
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body(0)}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    local, root = pose()
    data.qpos[:3] = root
    order = [int(mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, i)) for i in range(1, len(TREE) + 1)]
    quats = Rotation.from_matrix(local[order].numpy()).as_quat(scalar_first=True)
    data.qpos[3:] = quats.ravel()
    mujoco.mj_kinematics(model, data)
    placed = TREE.place(local, root)
    torch.testing.assert_close(placed.positions[order], torch.from_numpy(data.xpos[1:].copy()))
    torch.testing.assert_close(placed.rotations[order].flatten(-2), torch.from_numpy(data.xmat[1:].copy()))


def test_gradients() -> None:
    local, root = pose()
    vertices, weights = surface()

    def surface_of(local: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
        return skinned(vertices[:3], weights[:3], TREE, TREE.place(local, root))

    assert torch.autograd.gradcheck(surface_of, (local.requires_grad_(), root.requires_grad_()))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: KinematicTree((), torch.zeros(0, 3)), ErlangenError, "give -1 first"),
        (lambda: KinematicTree((-1, 2, 0), torch.zeros(3, 3)), ErlangenError, "for joint j a joint before it"),
        (lambda: KinematicTree((-1, -1), torch.zeros(2, 3)), ErlangenError, "for joint j a joint before it"),
        (lambda: KinematicTree((-1, 0), torch.zeros(3, 3)), ShapeError, r"offsets has shape \(3, 3\); give \[2, 3\]"),
        (lambda: KinematicTree((-1, 0), torch.zeros(2, 3).long()), DtypeError, "offsets has dtype"),
        (lambda: KinematicTree((-1, 0), torch.zeros(2, 3), names=("a",)), ErlangenError, "1 entries for 2 joints"),
        (lambda: KinematicTree((-1, 0, 0), torch.zeros(3, 3), mirror=(0, 0, 2)), ErlangenError, "its own inverse"),
        (
            lambda: KinematicTree((-1, 0, 1), torch.zeros(3, 3), mirror=(0, 2, 1)),
            ErlangenError,
            "tears the bone of joint 1",
        ),
        (
            lambda: KinematicTree((-1, 0), OFFSETS[:2]).mirrored(torch.eye(3).repeat(2, 1, 1), torch.zeros(3)),
            ErlangenError,
            "has no mirror",
        ),
        (lambda: TREE.mirrored(*pose(), normal=(0, 0, 0)), ErlangenError, "not all zero"),
        (lambda: TREE.place(torch.zeros(8, 3, 3)), ShapeError, r"local has shape \(8, 3, 3\); give \[..., 9, 3, 3\]"),
        (lambda: TREE.bones(torch.zeros(8, 3)), ShapeError, r"positions has shape"),
        (lambda: TREE.from_bones(torch.zeros(9, 3), torch.zeros(3)), ShapeError, r"bones has shape"),
        (
            lambda: skinned(torch.zeros(4, 3), torch.ones(4, 8) / 8, TREE, TREE.place(*pose())),
            ShapeError,
            r"give \[V, 3\] and \[V, 9\]",
        ),
        (
            lambda: skinned(torch.zeros(4, 3), torch.ones(4, 9), TREE, TREE.place(*pose())),
            DataError,
            "vertex 0 sum to 9",
        ),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
