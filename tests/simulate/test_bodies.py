"""Bodies: kinematics against MuJoCo's own geometry, rigid motion of every part, areas, and what is missing."""

import builtins
import importlib.util
import math

import numpy as np
import pytest
import torch

from erlangen.errors import DataError, ErlangenError, MissingExtraError, NotFiniteError, ShapeError
from erlangen.simulate import PARTS, Humanoid, bodies

needs = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None or importlib.util.find_spec("gymnasium") is None,
    reason="needs the extra scenes (mujoco, gymnasium)",
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@needs
def test_points_lie_on_the_surfaces_where_mujoco_puts_them() -> None:
    """The distance of each point from the axis of the nearest geom of its body is that geom's radius."""
    import mujoco

    human = Humanoid()
    clouds = human.clouds(3, 400, generator=generator(), dtype=torch.float64)
    model = mujoco.MjModel.from_xml_path(str(bodies._model_path()))
    data = mujoco.MjData(model)
    for b in range(3):
        data.qpos[:] = model.qpos0
        data.qpos[:3] = 0
        for joint, angle in zip(human.joints, clouds.angles[b], strict=True):
            data.joint(joint).qpos[:] = float(angle)
        mujoco.mj_kinematics(model, data)
        for i in range(400):
            off = []
            for g in range(model.ngeom):
                if model.geom_bodyid[g] - 1 != int(clouds.body[b, i]):
                    continue
                local = data.geom_xmat[g].reshape(3, 3).T @ (clouds.pos[b, i].numpy() - data.geom_xpos[g])
                local[2] -= np.clip(local[2], -model.geom_size[g, 1], model.geom_size[g, 1])
                off.append(abs(np.linalg.norm(local) - model.geom_size[g, 0]))
            assert min(off) < 1e-12


@needs
def test_points_are_spread_by_area() -> None:
    human = Humanoid()
    _, part, body = human.surface(40, 1000, generator=generator())
    head = 4 * math.pi * 0.09**2
    hands = 2 * 4 * math.pi * 0.04**2
    ratio = float((part == PARTS.index("head")).sum() / (part == PARTS.index("hand")).sum())
    assert abs(ratio / (head / hands) - 1) < 0.1
    assert torch.equal(part.unique(), torch.arange(len(PARTS)))
    assert torch.equal(body.unique(), torch.arange(len(human.bodies)))
    feet = part == PARTS.index("foot")
    assert {human.bodies[int(j)] for j in body[feet].unique()} == {"left_foot", "right_foot"}


@needs
def test_parts_move_rigidly() -> None:
    human = Humanoid()
    clouds = human.clouds(4, 300, generator=generator(), dtype=torch.float64)
    moved = human.repose(clouds, human.angles(4, generator=generator(1)))
    assert torch.equal(moved.part, clouds.part)
    assert float((moved.pos - clouds.pos).norm(dim=-1).max()) > 0.2
    for b in range(4):
        same = clouds.body[b][:, None] == clouds.body[b]
        gap = (torch.cdist(moved.pos[b], moved.pos[b]) - torch.cdist(clouds.pos[b], clouds.pos[b])).abs()
        assert float(gap[same].max()) < 1e-6
        assert float(gap.max()) > 0.1
    back = human.repose(moved, clouds.angles)
    torch.testing.assert_close(back.pos, clouds.pos, rtol=0, atol=1e-12)
    linear = clouds.placement[..., :3, :3]
    torch.testing.assert_close(linear @ linear.mT, torch.eye(3, dtype=torch.float64).expand_as(linear))


@needs
def test_angles_fill_a_share_of_the_limits() -> None:
    human = Humanoid()
    low, high = human.limits.unbind(1)
    full = human.angles(4000, generator=generator())
    assert bool((full >= low).all())
    assert bool((full <= high).all())
    torch.testing.assert_close(full.amin(0), low, rtol=0, atol=0.01)
    torch.testing.assert_close(full.mean(0), (low + high) / 2, rtol=0, atol=0.06)
    rest = human.angles(2, 0.0)
    torch.testing.assert_close(rest, torch.zeros_like(rest).clamp(low, high))
    narrow = human.angles(4000, 0.15, generator=generator())
    torch.testing.assert_close(narrow.amax(0) - narrow.amin(0), 0.15 * (high - low), rtol=0.01, atol=0)


@needs
def test_seeds_and_dtypes() -> None:
    human = Humanoid()
    first, again = (human.clouds(2, 50, generator=generator(7)) for _ in range(2))
    assert torch.equal(first.pos, again.pos)
    assert first.pos.dtype == torch.float32
    assert human.clouds(0, 50).pos.shape == (0, 50, 3)


@needs
def test_smallest_sizes() -> None:
    human = Humanoid()
    assert [value.shape for value in human.surface(0, 1)] == [(0, 1, 3), (0, 1), (0, 1)]
    assert human.clouds(1, 1).pos.shape == (1, 1, 3)
    assert human.angles(0).shape == (0, 17)
    assert torch.equal(human.angles(2, 0.0, generator=generator()), human.angles(2, 0.0, generator=generator(1)))


@needs
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda h: h.angles(2, 1.5), ErlangenError, "share = 1.5"),
        (lambda h: h.angles(2, -0.01), ErlangenError, "share = -0.01"),
        (lambda h: h.angles(-1), ErlangenError, "count = -1"),
        (lambda h: h.place(torch.zeros(2, 3)), ShapeError, r"pass \[B, 17\]"),
        (lambda h: h.place(torch.full((1, 17), torch.nan)), NotFiniteError, "angles"),
        (lambda h: h.surface(1, 0), ErlangenError, "points = 0"),
        (lambda h: h.surface(-1, 1), ErlangenError, "count = -1"),
        (lambda h: h.repose(h.clouds(2, 5), h.angles(3)), ShapeError, "a pose for each"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Humanoid())


def test_missing_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name == "mujoco":
            raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"articulated humanoid needs the package 'mujoco'.*erlangen\[scenes\]"):
        Humanoid()


@needs
def test_missing_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="'gymnasium'"):
        Humanoid()


@needs
def test_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_model_path", lambda: bodies_path().with_name("ant.xml"))
    with pytest.raises(DataError, match="unknown parts"):
        Humanoid()


bodies_path = bodies._model_path
