"""Bodies with limbs: free fall and momentum in closed form, frames by differences, and the symmetry of the simulator."""

import math

import pytest
import torch

import erlangen as er
from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry import KinematicTree
from erlangen.simulate import Limb, LimbedBody

pytest.importorskip("mujoco")

BODIES = {"hopper": LimbedBody.hopper, "one segment": lambda: LimbedBody.hopper(1), "walker": LimbedBody.walker}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def falling(body: LimbedBody, count: int = 3) -> er.simulate.limbs.State:
    state = body.start(count, generator=seeded())
    state["position"] = state["position"] + torch.tensor([0.0, 0.0, 5.0])
    state["velocity"] = torch.randn(count, 1, 3, generator=seeded(1), dtype=torch.float64)
    state["spin"] = torch.randn(count, 3, generator=seeded(2), dtype=torch.float64)
    return state


def centre(body: LimbedBody, state: er.simulate.limbs.State) -> torch.Tensor:
    """Centre of mass ``[B, 3]``, by MuJoCo."""
    found = []
    for i in range(len(state["position"])):
        body._write(state, i)
        body._mujoco.mj_forward(body._model, body._data)
        found.append(torch.from_numpy(body._data.subtree_com[0].copy()))
    return torch.stack(found)


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_a_turn_before_is_a_turn_after(make) -> None:
    """100 steps of 4 small ones, with contacts: the error stays at rounding for all turns about the vertical, at once."""
    body = make()
    control = 2 * torch.rand(4, body.controls, generator=seeded(3), dtype=torch.float64) - 1

    def run(state, control):
        for _ in range(100):
            state = body.step(state, control)
        return state

    given = (body.start(4, generator=seeded()), control)
    assert float(er.equivariance_error(run, body.symmetry, given, elements=4).max()) < 1e-9
    assert float(run(*given)["position"][..., 2].min()) < body.height + 0.2  # near the ground
    tilted = er.Symmetry(er.SO(3), input=body.symmetry.input.action, output=body.symmetry.output.action)
    assert float(er.equivariance_error(run, tilted, given, elements=4).max()) > 1e-2


def test_the_centre_of_mass_falls_as_a_stone() -> None:
    body = LimbedBody.walker(seconds=5e-4, repeats=16)
    state = falling(body)
    control = 2 * torch.rand(3, body.controls, generator=seeded(3), dtype=torch.float64) - 1
    places = [centre(body, state)]
    for _ in range(40):
        state = body.step(state, control)
        places.append(centre(body, state))
    second = places[40] - 2 * places[20] + places[0]
    time = 20 * body.repeats * body.seconds
    due = torch.tensor([0.0, 0.0, -9.81 * time**2], dtype=torch.float64)
    torch.testing.assert_close(second, due.expand(3, 3), atol=1e-5, rtol=0)


def test_frames_are_those_of_the_kinematic_tree_and_their_own_derivative() -> None:
    body = LimbedBody.walker()
    state = falling(body)
    frames = body.frames(state)
    offsets = torch.tensor([(0.0, 0.0, 0.0), *(limb.start for limb in body.limbs)], dtype=torch.float64)
    tree = KinematicTree(body.parents, offsets)

    def turn(axis: int, angle: torch.Tensor) -> torch.Tensor:
        return er.SO(3).exp(torch.eye(3, dtype=torch.float64)[axis] * angle[..., None])

    x, y, z = (turn(k, state["angles"].unflatten(-1, (-1, 3))[..., k]) for k in range(3))
    local = torch.cat([state["axes"].mT[:, None], x @ y @ z], 1)
    placed = tree.place(local, state["position"][:, 0])
    torch.testing.assert_close(frames.positions, placed.positions, atol=1e-9, rtol=0)
    above = placed.rotations[:, list(body.parents[1:])]
    torch.testing.assert_close(
        frames.hinges[:, 1:, 0], above[..., 0], atol=1e-9, rtol=0
    )  # the first is fixed to the parent
    torch.testing.assert_close(
        frames.hinges[:, 1:, 2], placed.rotations[:, 1:, :, 2], atol=1e-9, rtol=0
    )  # the last to the limb
    assert not frames.hinges[:, 0].any()
    fine = LimbedBody.walker(seconds=1e-6, repeats=1)
    after = fine.frames(fine.step(state, torch.zeros(3, body.controls)))
    torch.testing.assert_close((after.positions - frames.positions) / 1e-6, frames.velocities, atol=1e-3, rtol=1e-3)
    axes = frames.hinges[:, 1:, 0]
    changed = torch.linalg.cross(frames.spins[:, list(body.parents[1:])], axes)
    torch.testing.assert_close((after.hinges[:, 1:, 0] - axes) / 1e-6, changed, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_it_starts_on_the_ground_with_even_headings(make) -> None:
    body = make()
    state = body.start(400, noise=0.0, generator=seeded())
    yaw = torch.atan2(state["axes"][:, 0, 1], state["axes"][:, 0, 0])
    assert abs(float(yaw.cos().mean())) < 0.15
    assert abs(float(yaw.sin().mean())) < 0.15
    assert bool((state["position"][..., 2] == body.height).all())
    one = {name: value[:1] for name, value in state.items()}
    after = body.step(one, torch.zeros(1, body.controls))
    assert abs(float(after["position"][0, 0, 2]) - body.height) < 1e-3
    low, high = body.limits.unbind(-1)
    assert bool(((state["angles"] >= low) & (state["angles"] <= high)).all())


def test_a_motor_pushes_its_hinge_and_controls_are_cut() -> None:
    body = LimbedBody.hopper()
    state = falling(body, 2)
    hinge = 1  # of the thigh, about its y axis
    control = torch.zeros(2, body.controls, dtype=torch.float64)
    control[0, hinge], control[1, hinge] = -1.0, -5.0
    state = {name: value[:1].repeat(2, *[1] * (value.ndim - 1)) for name, value in state.items()}
    after = body.step(state, control)
    assert float(after["rates"][0, hinge]) < float(body.step(state, 0 * control)["rates"][0, hinge]) - 0.1
    torch.testing.assert_close(after["rates"][0], after["rates"][1])
    assert body.kinds == ("torso", "thigh", "shin", "shin", "foot")
    assert body.parents == (-1, 0, 1, 2, 3)
    assert LimbedBody.walker().parents == (-1, 0, 1, 2, 0, 4, 5)
    assert LimbedBody.hopper(2).kinds == ("torso", "thigh", "foot")


def test_a_lost_body_is_an_error_and_no_fresh_start(tmp_path, monkeypatch) -> None:
    """MuJoCo resets what becomes infinite by itself, with finite numbers."""
    monkeypatch.chdir(tmp_path)  # it writes a log there
    body = LimbedBody.hopper(2, gear=1e14)
    with pytest.raises(NotFiniteError, match="body 1: MuJoCo has lost it"):
        body.step(body.start(2, generator=seeded()), torch.tensor([[0.0] * 6, [1.0] * 6]))


def test_nobody_is_nobody() -> None:
    body = LimbedBody.hopper()
    empty = body.start(0)
    assert body.step(empty, torch.zeros(0, body.controls))["axes"].shape == (0, 3, 3)
    assert body.frames(empty).hinges.shape == (0, 5, 3, 3)


def changed(**entries: torch.Tensor):
    return {**LimbedBody.hopper().start(1, generator=seeded()), **entries}


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda b: LimbedBody([Limb("arm", 1, (0, 0, 0), (0, 0, 1))]),
            ErlangenError,
            r"limbs\[0\] .* its parent comes before it",
        ),
        (lambda b: LimbedBody([], seconds=0), ErlangenError, "seconds = 0"),
        (lambda b: LimbedBody.hopper(5), ErlangenError, "segments = 5; a leg has 1 to 4"),
        (lambda b: b.start(-1), ErlangenError, "count = -1"),
        (lambda b: b.step(b.start(2), torch.zeros(1, 12)), ShapeError, r"control has shape \(1, 12\); give \[2, 12\]"),
        (
            lambda b: b.step({"axes": torch.eye(3)[None]}, torch.zeros(1, 12)),
            ShapeError,
            r"state has the entries \['axes'\]",
        ),
        (lambda b: b.frames(changed(angles=torch.zeros(1, 5))), ShapeError, r"state\['angles'\] has shape \(1, 5\)"),
        (lambda b: b.frames(changed(spin=torch.full((1, 3), math.nan))), NotFiniteError, r"state\['spin'\] has NaN"),
        (lambda b: b.frames(changed(axes=2 * torch.eye(3)[None])), DataError, "no right-handed orthonormal axes"),
        (lambda b: b.frames(changed(axes=-torch.eye(3)[None])), DataError, "no right-handed orthonormal axes"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(LimbedBody.hopper())
