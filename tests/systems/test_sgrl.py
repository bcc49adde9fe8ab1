"""Subequivariant policies: codes and observations against other libraries, layers, TD3 against a toy, what is refused."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import DataError, ErlangenError, ErlangenWarning, NotFiniteError, ShapeError
from erlangen.groups import random_rotations
from erlangen.simulate import Limb, LimbedBody
from erlangen.systems.motion.sgrl import SubEquivariantActor, SubEquivariantCritic, Widths, codes, observe
from erlangen.systems.motion.sgrl._mirrors import mirrored_state, partners
from erlangen.systems.motion.sgrl._observations import (
    FASTEST,
    Observed,
    about_gravity,
    heading_frame,
    padded,
    single,
    turned,
    way_to,
)
from erlangen.systems.motion.sgrl._properties import SMALL, moving
from erlangen.systems.motion.sgrl._task import (
    RULES,
    Rules,
    Task,
    ended,
    expert,
    play,
    reward,
    rows_of,
    starts,
    tilt_of,
    turned_state,
    without,
)
from erlangen.systems.motion.sgrl._td3 import TD3, Agent, Learner, Memory, over_limbs, td_target
from erlangen.systems.motion.sgrl.experiment import SECTOR, demonstrations, elsewhere, task_of
from erlangen.systems.motion.sgrl.method import SubEquivariantTransformer
from erlangen.systems.motion.sgrl.rivals import Monolithic, PlainTransformer, as_large, count, monolithic_width

pytest.importorskip("mujoco")

TINY = Widths(width=12, heads=2, layers=2, kept=6)
WALKER = (-1, 0, 1, 2, 0, 4, 5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(body: LimbedBody, number: int = 3) -> Observed:
    return observe(body, *moving(body, number, seeded()))


def with_torques(x: Observed) -> Observed:
    return x | {"action": 2 * torch.rand(*x["scalars"].shape[:2], 3, generator=seeded(5)).to(x["scalars"]) - 1}


def layer_input() -> Observed:
    """Of a body with a limb that is not there, in float32."""
    return single(padded(seen(LimbedBody.hopper(3)), 5))


LAYERS: dict[str, Any] = {
    "SubEquivariantActor": lambda: (SubEquivariantActor(TINY), layer_input(), {}),
    "SubEquivariantCritic": lambda: (SubEquivariantCritic(TINY), with_torques(layer_input()), {}),
}


# --- codes and observations ------------------------------------------------------------------------------------------
def test_walks_through_a_tree_by_hand() -> None:
    """Two legs of three: pre-order as listed; the binary tree has the second leg as right sibling of the first."""
    places = codes(WALKER).places
    assert places[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    # in-order 3 2 1 6 5 4 0, post-order 3 2 6 5 4 1 0
    assert [places[:, 1].tolist().index(i) for i in range(7)] == [3, 2, 1, 6, 5, 4, 0]
    assert [places[:, 2].tolist().index(i) for i in range(7)] == [3, 2, 6, 5, 4, 1, 0]


def test_relations_are_those_of_networkx() -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.Graph([(p, i) for i, p in enumerate(WALKER) if i])
    found = codes(WALKER).relations
    for i in range(7):
        rank = networkx.pagerank(graph, alpha=0.9, personalization={i: 1.0}, tol=1e-12, max_iter=1000)
        lengths = networkx.shortest_path_length(graph, i)
        for j in range(7):
            assert float(found[i, j, 0]) == pytest.approx(rank[j], abs=1e-9)
            assert float(found[i, j, 2]) == lengths[j]
    laplacian = networkx.normalized_laplacian_matrix(graph, nodelist=range(7)).toarray()
    assert torch.allclose(found[..., 1], torch.from_numpy(laplacian), atol=1e-12)


def test_a_torso_alone() -> None:
    found = codes((-1,))
    assert found.places.tolist() == [[0, 0, 0]]
    assert torch.isfinite(found.relations).all()


def test_what_is_seen_is_in_the_order_of_the_authors() -> None:
    body = LimbedBody.hopper()
    state, target = moving(body, 2, seeded())
    state["velocity"] = 30 * state["velocity"]
    x, frames = observe(body, state, target), body.frames(state)
    v = x["vectors"]
    assert v.shape == (2, 5, 8, 3)
    assert torch.equal(v[:, :, 0], frames.positions - frames.positions[:, :1])
    assert torch.equal(v[:, :, 1], torch.tensor([0.0, 0.0, -9.81], dtype=torch.float64).expand(2, 5, 3))
    assert torch.allclose(v[:, :, 2], (target / target.norm(dim=-1, keepdim=True))[:, None].expand(2, 5, 3), atol=0.2)
    speeds = frames.velocities.norm(dim=-1)
    assert float(speeds.max()) > FASTEST
    assert torch.allclose(v[:, :, 3].norm(dim=-1), speeds.clamp_max(FASTEST))
    assert torch.allclose(torch.linalg.cross(v[:, :, 3], frames.velocities), torch.zeros(()).double(), atol=1e-9)
    assert torch.equal(v[:, :, 4], frames.spins)
    assert torch.equal(v[:, :, 5:], frames.hinges)
    assert torch.equal(x["directions"], v[:, 0, 1:3])
    s = x["scalars"]
    low, high = body.limits[0]  # of the thigh about x: -10 to 10 degrees
    assert torch.equal(s[:, 1, 0], state["angles"][:, 0])
    assert torch.allclose(s[:, 1, 3], (state["angles"][:, 0] - low) / (high - low))
    assert torch.allclose(s[:, 1, 6:9], torch.tensor([170.0, 30.0, 170.0]).double() / 360)
    assert torch.allclose(s[:, 1, 9:12], torch.tensor([190.0, 180.0, 190.0]).double() / 360)
    assert s[:, 0, :12].tolist() == [[0.0] * 3 + [0.5] * 9] * 2
    assert s[0, :, 12:16].argmax(-1).tolist() == [0, 1, 2, 2, 3]
    assert torch.equal(s[..., 16], frames.positions[..., 2])


def test_an_unknown_kind_of_limb_has_no_kind() -> None:
    body = LimbedBody([Limb("arm", 0, (0.0, 0.0, 0.2), (0.0, 0.4, 0.0))])
    x = observe(body, body.start(1), torch.tensor([[9.0, 0.0, 0.0]]))
    assert not x["scalars"][0, 1, 12:16].any()
    assert torch.isfinite(SubEquivariantActor(TINY)(single(x))).all()


def test_a_limb_without_hinges_gets_no_torque() -> None:
    x = single(seen(LimbedBody.hopper()))
    x["vectors"][:, 2, 5] = 0  # one hinge is lacking
    x["vectors"][:, 3, 5:] = 0
    for policy in (SubEquivariantActor(TINY), PlainTransformer(TINY), Monolithic(5, 8)):
        action = policy(x)
        assert not action[:, 3].any()
        assert not action[:, 2, 0].any()
        assert action[:, 2, 1:].all()


def test_the_heading_frame_has_the_target_ahead() -> None:
    x = heading_frame(seen(LimbedBody.hopper()))
    assert torch.allclose(x["directions"][:, 1], torch.tensor([1.0, 0.0, 0.0]).double().expand(3, 3), atol=1e-12)
    assert torch.allclose(x["vectors"][:, :, 2], x["directions"][:, None, 1].expand(-1, 5, -1))


# --- the network -----------------------------------------------------------------------------------------------------
def test_sizes_are_those_of_the_authors() -> None:
    trunk = SubEquivariantTransformer(Widths(), 17)
    attention, feed = trunk.layers[0].attention, trunk.layers[0].feed
    assert [walk.embedding_dim for walk in trunk.places.walks] == [42, 42, 44]
    assert attention.query.weight.shape == (256, 256)
    assert attention.vectors.weight.shape == (252, 128)
    assert attention.to_vectors.weight.shape == (128, 256)
    assert attention.stack.mix.weight.shape == (30, 128)
    assert [layer.weight.shape for layer in attention.read[::2]] == [(256, 1024), (128, 256)]
    assert [layer.weight.shape for layer in feed.matrix[::2]] == [(256, 256), (1024, 256)]
    assert [layer.attention.bias is not None for layer in trunk.layers] == [True, False, False]
    assert [layer.weight.shape for layer in trunk.read_scalars[::2]] == [(128, 145), (128, 128)]
    assert 0.09 < float(trunk.vectors.weight.detach().abs().max()) < 0.1 + 1e-6


def test_s_is_one_or_more_and_torques_are_bounded() -> None:
    actor = SubEquivariantActor(TINY, largest=0.7)
    x = single(seen(LimbedBody.walker()))
    x["vectors"] = 1e3 * x["vectors"]
    with torch.no_grad():
        M, s = actor.trunk.stack.products(torch.zeros(1, 1, 3, 8 + 12), torch.zeros(1, 1, 3, 2))
        assert float(s) == 1
        assert M.shape == (1, 1, 36)
        assert float(actor(x).abs().max()) <= 0.7


def test_layers_written_out() -> None:
    """Attention of the first layer by loops over limbs, heads and channels."""
    of = Widths(width=6, heads=2, layers=1, kept=5)
    torch.manual_seed(0)
    layer = SubEquivariantTransformer(of, 17).layers[0].attention.double()
    Z, h = torch.randn(1, 3, 3, 6, dtype=torch.float64), torch.randn(1, 3, 6, dtype=torch.float64)
    D, relations = torch.randn(3, 2, dtype=torch.float64), torch.randn(1, 3, 3, 3, dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    found = layer(Z, h, D.expand(1, 3, 3, 2), relations, mask)
    e, s, V = [], [], []
    for i in range(3):
        stack = torch.cat([Z[0, i] @ layer.stack.mix.weight.T, D], 1)
        M = stack.T @ stack
        s.append(M.norm() + 1)
        e.append(torch.cat([layer.read(M.flatten()), h[0, i]]))
        values = Z[0, i] @ layer.vectors.weight.T  # four channels for each head
        V.append([torch.cat([values[:, 4 * k : 4 * k + 4], D], 1) for k in range(2)])
    q, k, v = ([one(e[i]) / s[i] for i in range(3)] for one in (layer.query, layer.key, layer.value))
    for i in range(3):
        rows, vectors = [], []
        for head in range(2):
            part = slice(6 * head, 6 * head + 6)
            logits = torch.stack(
                [q[i][part] @ k[j][part] / 6**0.5 + layer.bias(relations[0, i, j])[head] for j in range(2)]
            )
            w = logits.softmax(0)
            rows.append(sum(w[j] * v[j][part] for j in range(2)))
            vectors.append(sum(w[j] * V[j][head] for j in range(2)))
        assert torch.allclose(found[0][0, i], torch.cat(vectors, 1) @ layer.to_vectors.weight.T, atol=1e-12)
        assert torch.allclose(found[1][0, i], layer.to_scalars(torch.cat(rows)), atol=1e-12)


def test_three_directions_hide_nothing() -> None:
    """With three independent vectors in D a target without any symmetry can be fitted."""
    one = single(seen(LimbedBody.hopper(1), 8))
    other = turned(one, about_gravity(torch.tensor(2.0)))
    x = {name: torch.cat([one[name], other[name]]) for name in one}
    torch.manual_seed(0)
    due = 0.5 * torch.tanh(x["vectors"][:, 1, 3] @ torch.randn(3, 3) / 3)  # of components in the world
    errors = {}
    for name, directions in (("three", torch.eye(3)), ("none", torch.zeros(0, 3))):
        y = x | {"directions": directions.expand(16, -1, 3)}
        torch.manual_seed(0)
        actor = SubEquivariantActor(Widths(16, 1, 1, 8, len(directions)))
        optimizer = torch.optim.Adam(actor.parameters(), lr=1e-2)
        for _ in range(200):
            loss = (actor(y)[:, 1] - due).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[name] = float(loss.detach())
    assert errors["three"] < 1e-3
    assert errors["none"] > 1e-2


def test_rivals_have_about_as_many_numbers() -> None:
    for of in (TINY, SMALL):
        for critic, ours in ((False, SubEquivariantActor(of)), (True, SubEquivariantCritic(of))):
            due = count(ours)
            plain = PlainTransformer(as_large(ours, of, critic=critic), critic=critic)
            one = Monolithic(7, monolithic_width(ours, 7, critic=critic), critic=critic)
            assert count(plain) == pytest.approx(due, rel=0.1)
            assert count(one) == pytest.approx(due, rel=0.1)


def test_rivals_see_headings() -> None:
    x = single(seen(LimbedBody.hopper()))
    y = turned(x, about_gravity(torch.tensor(1.0)))
    torch.manual_seed(0)
    ahead = PlainTransformer(TINY, heading=True)
    assert torch.allclose(ahead(x), ahead(y), atol=1e-5)
    for policy in (PlainTransformer(TINY), Monolithic(5, 16)):
        assert float((policy(x) - policy(y)).detach().abs().max()) > 1e-2


# --- the task --------------------------------------------------------------------------------------------------------
def test_tilt_is_the_authors_formula() -> None:
    R = random_rotations(3, (50,), seeded())
    from scipy.spatial.transform import Rotation

    qx, qy, qz, qw = torch.from_numpy(Rotation.from_matrix(R.numpy()).as_quat()).T
    due = 2 * torch.atan2((qx**2 + qy**2).sqrt(), (qw**2 + qz**2).sqrt())
    assert torch.allclose(tilt_of({"axes": R.mT}), due, atol=1e-9)


def standing(number: int = 1) -> dict[str, Tensor]:
    state = LimbedBody.hopper(1).start(number, 0.0, generator=seeded())
    return state | {"position": torch.tensor([[[0.0, 0.0, 1.2]]]).double().expand(number, 1, 3)}


def test_rewards_by_hand() -> None:
    before = standing()
    before["axes"] = torch.eye(3, dtype=torch.float64)[None]
    after = before | {"position": before["position"] + torch.tensor([0.03, 0.04, 0.5])}
    target, torque = torch.tensor([[20.0, 0.0, 0.0]]).double(), torch.full((1, 2, 3), 0.5, dtype=torch.float64)
    nearer = 20 - math.hypot(20 - 0.03, 0.04)
    due = nearer / 0.008 - 1e-3 * 6 * 0.25
    assert float(reward(RULES["hopper"], before, after, torque, target, 0.008)) == pytest.approx(due + 1)
    assert float(reward(RULES["walker"], before, after, torque, target, 0.008)) == pytest.approx(due + 1 + 0.03 / 0.008)
    assert float(reward(RULES["cheetah"], before, after, torque, target, 0.008)) == pytest.approx(due + 0.03 / 0.008)


@pytest.mark.parametrize(
    ("family", "changes", "due"),
    [
        ("hopper", {}, False),
        ("hopper", {"height": 0.95}, True),
        ("hopper", {"pitch": 1.01}, True),
        ("hopper", {"rate": 100.0}, True),
        ("walker", {"rate": 100.0}, False),
        ("walker", {"height": 2.0}, True),
        ("walker", {"height": 0.8}, True),
        ("walker", {"pitch": -1.01}, True),
        ("walker", {"roll": 1.01}, True),
        ("walker", {"pitch": 0.99}, False),
        ("humanoid", {"height": 1.84}, True),
        ("humanoid", {"height": 0.83}, True),
        ("cheetah", {"pitch": 1.3, "rate": 2.0}, False),
        ("cheetah", {"pitch": 1.36, "rate": 2.0}, True),
        ("cheetah", {"rate": 0.5}, True),
    ],
)
def test_ends(family: str, changes: dict[str, float], due: bool) -> None:
    state = standing()
    state["position"] = state["position"].clone()
    state["position"][:, :, 2] = changes.get("height", 1.2)
    state["rates"] = state["rates"] + torch.tensor([[changes.get("rate", 0.0), 0.0, 0.0]])
    lean = torch.tensor([[changes.get("roll", 0.0), changes.get("pitch", 0.0), 0.0]], dtype=torch.float64)
    from scipy.spatial.transform import Rotation

    state["axes"] = torch.from_numpy(Rotation.from_rotvec(lean.numpy()).as_matrix()).mT
    assert bool(ended(RULES[family], state)) is due


def test_targets_and_headings_are_where_they_should_be() -> None:
    state, target = starts(LimbedBody.hopper(2), 500, seeded(), sector=SECTOR, aside=0.5)
    heading = torch.atan2(target[:, 1], target[:, 0])
    yaw = torch.atan2(state["axes"][:, 0, 1], state["axes"][:, 0, 0])
    assert 0.9 * SECTOR < float(heading.abs().max()) <= SECTOR
    off = torch.remainder(yaw - heading + math.pi, 2 * math.pi) - math.pi
    assert 0.45 < float(off.abs().max()) <= 0.5


def test_unseen_headings_are_outside_of_the_sector() -> None:
    task = task_of(LimbedBody.hopper(2))
    x, y = demonstrations(task, 60, 5, seeded())
    assert x["mask"].shape == (60, 7)
    way = x["directions"][:, 1]
    assert float(torch.atan2(way[:, 1], way[:, 0]).abs().max()) <= SECTOR + 1e-5
    far = elsewhere(x, seeded())["directions"][:, 1]
    assert float(torch.atan2(far[:, 1], far[:, 0]).abs().min()) >= SECTOR - 1e-5
    assert torch.allclose(expert(elsewhere(x, seeded())), y, atol=1e-5)
    assert y.abs().max() > 0.1


def test_episodes_stop_when_they_end() -> None:
    body = LimbedBody.hopper(2)
    task = Task(body, Rules(0.0, tilt=True), 3)
    state, target = starts(body, 3, seeded())
    state["axes"] = state["axes"].clone()
    state["axes"][1, :2] *= -1  # still upright: turned by half a turn
    state["position"] = state["position"] + torch.tensor([0.0, 0.0, 2.0])
    lying = torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).double()
    state["axes"][2] = lying
    kept: list[int] = []

    def still(x: Observed) -> Tensor:
        return torch.zeros(len(x["mask"]), 3, 3)

    made = play(task, still, state, target, 4, lambda live, *_: kept.append(len(live)))
    assert made.lengths.tolist() == [4, 4, 1]
    assert kept == [3, 2, 2, 2]


def test_a_body_that_is_lost_ends_its_episode(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log there
    body = LimbedBody.hopper(2, gear=1e14)
    task = Task(body, Rules(-10.0), 3)
    state, target = starts(body, 2, seeded())
    action = torch.zeros(2, 3, 3)
    action[1] = 1
    made = task.step(state, action, target)
    assert made.done.tolist() == [False, True]
    assert torch.isfinite(made.reward).all()
    assert torch.equal(made.state["position"][1], state["position"][1])


def test_bodies_without_some_limbs() -> None:
    walker = LimbedBody.walker()
    body = without(walker, 3)
    assert body.parents == (-1, 0, 1, 0, 3, 4)
    assert body.kinds == ("torso", "thigh", "shin", "thigh", "shin", "foot")
    assert without(walker, 2, 3).parents == (-1, 0, 0, 2, 3)
    assert partners(walker) == [0, 4, 5, 6, 1, 2, 3]
    state = rows_of(moving(walker, 3, seeded())[0], torch.tensor([2]))
    back = mirrored_state(walker, mirrored_state(walker, state))
    assert all(torch.allclose(back[name], state[name]) for name in state)
    one = mirrored_state(walker, state)["axes"]
    assert float(torch.linalg.det(one)) == pytest.approx(1)
    assert torch.allclose(turned_state(state, torch.eye(3).double())["axes"], state["axes"])


# --- TD3 -------------------------------------------------------------------------------------------------------------
def test_targets_of_a_toy() -> None:
    """Two states, two limbs: by hand."""
    reward_, done = torch.tensor([1.0, 2.0]), torch.tensor([False, True])
    first, second = torch.tensor([[3.0, 5.0], [7.0, 1.0]]), torch.tensor([[4.0, 2.0], [0.0, 9.0]])
    due = [[1 + 0.9 * 3, 1 + 0.9 * 2], [2.0, 2.0]]
    assert torch.allclose(td_target(reward_, done, first, second, 0.9), torch.tensor(due))
    assert float(over_limbs(torch.tensor([[1.0, 5.0]]), torch.tensor([[True, False]]))) == 1


class Constant(nn.Module):
    """A value for each limb that looks at nothing but the torque's square, or a policy that is constant."""

    def __init__(self, limbs: int, policy: bool) -> None:
        super().__init__()
        self.policy = policy
        self.value = nn.Parameter(torch.zeros(limbs, 3) if policy else torch.zeros(limbs))

    def forward(self, x: Observed) -> Tensor:
        number = len(x["mask"])
        if self.policy:
            return self.value.expand(number, -1, -1)
        return self.value + 0 * x["action"].sum(-1)


def toy(limbs: int = 2, number: int = 4) -> Observed:
    return {
        "vectors": torch.ones(number, limbs, 8, 3),
        "scalars": torch.zeros(number, limbs, 17),
        "directions": torch.zeros(number, 2, 3),
        "mask": torch.ones(number, limbs, dtype=torch.bool),
    }


def test_values_of_a_single_state_converge() -> None:
    """One state that stays, reward 1, discount 0.5: Q = 1 / (1 - 0.5) for each limb; half of the steps end: Q = 1 + 0.25 Q."""
    for ends, due in ((0, 2.0), (2, 4 / 3)):
        agent = Agent(Constant(2, True), Constant(2, False), Constant(2, False))
        learner = Learner(agent, 0.05, TD3(discount=0.5, rate=0.5, clip=10.0))
        done = torch.arange(4) < ends
        for _ in range(300):
            learner.update(toy(), torch.zeros(4, 2, 3), torch.ones(4), done, toy(), seeded())
        for critic in agent.critics:
            assert torch.allclose(critic.value, torch.full((2,), due), atol=0.02)


def test_the_actor_climbs_and_targets_follow_late() -> None:
    class Hill(nn.Module):
        """Best at a torque of 0.5."""

        def __init__(self) -> None:
            super().__init__()
            self.height = nn.Parameter(torch.zeros(1))

        def forward(self, x: Observed) -> Tensor:
            return self.height - (x["action"] - 0.5).square().sum(-1)

    agent = Agent(Constant(2, True), Hill(), Hill())
    learner = Learner(agent, 0.02, TD3(clip=10.0))
    x, action = toy(), torch.zeros(4, 2, 3)
    learner.update(x, action, torch.zeros(4), torch.zeros(4, dtype=torch.bool), x, seeded())
    assert not agent.actor.value.any()  # the first update is of the critics alone
    learner.update(x, action, torch.zeros(4), torch.zeros(4, dtype=torch.bool), x, seeded())
    moved = float(agent.actor.value.detach().mean())
    assert moved > 0
    assert float(learner.target.actor.value.mean()) == pytest.approx(0.005 * moved, rel=1e-4)
    for _ in range(200):
        learner.update(x, action, torch.zeros(4), torch.zeros(4, dtype=torch.bool), x, seeded())
    assert torch.allclose(agent.actor.value, torch.full((2, 3), 0.5), atol=0.05)


def test_memory_forgets_the_oldest() -> None:
    memory = Memory(6)
    for i in range(3):
        memory.add(toy(), torch.full((4, 2, 3), float(i)), torch.full((4,), float(i)), torch.zeros(4) > 0, toy())
    assert len(memory) == 6
    x, action, paid, done, then = memory.draw(50, seeded())
    assert set(paid.tolist()) == {1.0, 2.0}
    assert torch.equal(action[:, 0, 0], paid)
    assert x["mask"].shape == (50, 2)
    assert set(x) == set(then) == set(toy())
    assert not done.any()


def test_losses_that_are_not_finite_are_named() -> None:
    agent = Agent(Constant(2, True), Constant(2, False), Constant(2, False))
    with pytest.raises(NotFiniteError, match="not finite at update 0"):
        Learner(agent, 0.1, TD3()).update(
            toy(), torch.zeros(4, 2, 3), torch.full((4,), math.inf), torch.zeros(4) > 0, toy(), seeded()
        )


# --- bad input -------------------------------------------------------------------------------------------------------
def aim(number: int = 1) -> Tensor:
    return torch.tensor([[10.0, 0.0, 0.0]]).expand(number, 3)


def hopper_at(**entries: Tensor) -> Any:
    body = LimbedBody.hopper(2)
    return observe(body, body.start(1) | entries, aim())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: codes([-1, *range(15)]), DataError, "16 limbs; there are codes for 15"),
        (lambda: codes([-1, 2, 0]), DataError, "one that comes before it"),
        (lambda: codes([]), DataError, "give -1 for the torso"),
        (lambda: way_to(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]])), DataError, "body 0 stands at its target"),
        (lambda: hopper_at(axes=2 * torch.eye(3)[None].double()), DataError, "no right-handed orthonormal axes"),
        (lambda: observe(LimbedBody.hopper(2), LimbedBody.hopper(2).start(2), aim()), ShapeError, r"give \[2, 3\]"),
        (
            lambda: observe(LimbedBody.hopper(2), LimbedBody.hopper(2).start(1), aim(), limbs=2),
            ShapeError,
            "3 limbs or more",
        ),
        (
            lambda: observe(LimbedBody.hopper(2), LimbedBody.hopper(2).start(1), aim() * math.nan),
            NotFiniteError,
            "target",
        ),
        (lambda: SubEquivariantActor(Widths(12, kept=2)), ErlangenError, "more width and kept vectors than directions"),
        (lambda: SubEquivariantActor(Widths(heads=0)), ErlangenError, "heads = 0"),
        (
            lambda: SubEquivariantActor(TINY)(layer_input() | {"directions": torch.zeros(3, 1, 3)}),
            ShapeError,
            r"give \[B, 2, 3\]",
        ),
        (
            lambda: SubEquivariantCritic(TINY)(layer_input() | {"action": torch.zeros(3, 5, 2)}),
            ShapeError,
            "three hinges a limb",
        ),
        (
            lambda: task_of(LimbedBody.hopper(2)).step(LimbedBody.hopper(2).start(1), torch.zeros(1, 3, 3), aim()),
            ShapeError,
            r"give \(?\[?1, 7, 3",
        ),
        (lambda: without(LimbedBody.walker(), 2), ShapeError, "limb 2 cannot be left out"),
        (lambda: partners(without(LimbedBody.walker(), 3)), DataError, "no mirror image"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()


def test_gravity_that_leans_is_warned_of() -> None:
    body = LimbedBody.hopper(2)
    with pytest.warns(ErlangenWarning, match="is not vertical"):
        observe(body, body.start(1), aim(), gravity=(1.0, 0.0, -9.8))


def test_rules_can_be_changed_for_a_body() -> None:
    body = LimbedBody.hopper(3)
    assert task_of(body).rules == replace(RULES["hopper"], lowest=0.6 * body.height)
