"""What holds exactly of the SubEquivariant Transformer, of what it sees, and of the world it moves in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.groups import O, Stabilizer, random_rotations
from erlangen.measure import equivariance_error
from erlangen.reps import V, equivariant_projector
from erlangen.simulate import LimbedBody
from erlangen.simulate.limbs import State
from erlangen.survey import Run, bound, exact, largest
from erlangen.systems.motion.sgrl._mirrors import (
    BothSides,
    mirrored,
    mirrored_action,
    mirrored_state,
    partners,
)
from erlangen.systems.motion.sgrl._observations import (
    Observed,
    about_gravity,
    heading_frame,
    observe,
    padded,
    turned,
)
from erlangen.systems.motion.sgrl._task import RULES, ended, reward, starts, turned_state
from erlangen.systems.motion.sgrl.method import SubEquivariantActor, SubEquivariantCritic, Widths

SMALL = Widths(width=24, heads=2, layers=3, kept=12)
"""Sizes of the networks that are examined."""


def moving(body: LimbedBody, count: int, generator: Generator) -> tuple[State, Tensor]:
    """Bodies in motion, leaning, with bent limbs, above the ground; and targets 10 to 20 m away."""
    state, target = starts(body, count, generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    low, high = body.limits.unbind(-1)
    share = torch.rand(count, body.controls, generator=generator, dtype=torch.float64)
    tilt = 0.3 * normal(3)
    angle = tilt.norm(dim=-1)[:, None, None]
    half = torch.zeros(count, 3, 3, dtype=torch.float64)
    half[:, 0, 1], half[:, 0, 2], half[:, 1, 2] = -tilt[:, 2], tilt[:, 1], -tilt[:, 0]
    across = (half - half.mT) / angle
    lean = torch.eye(3, dtype=torch.float64) + angle.sin() * across + (1 - angle.cos()) * (across @ across)
    far = 1e-3 + 1e-3 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return state | {
        "position": state["position"] + normal(1, 3).abs(),
        "velocity": 2 * normal(1, 3),
        "axes": state["axes"] @ lean,
        "spin": normal(3),
        "angles": low + share * (high - low),
        "rates": normal(body.controls),
    }, target * far


def networks(run: Run[Any], dtype: torch.dtype) -> tuple[SubEquivariantActor, SubEquivariantCritic]:
    """A policy and a critic with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        actor, critic = SubEquivariantActor(SMALL), SubEquivariantCritic(SMALL)
    for parameter in (*actor.parameters(), *critic.parameters()):
        parameter.requires_grad_(False)
    return actor.to(dtype), critic.to(dtype)


def cast(x: Observed, dtype: torch.dtype) -> Observed:
    """What is seen, with its floating numbers in another precision."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in x.items()}


def bodies() -> tuple[LimbedBody, LimbedBody]:
    """One on a single leg, and one on two."""
    return LimbedBody.hopper(), LimbedBody.walker()


def change(after: Tensor, before: Tensor) -> float:
    """The largest difference, over the largest entry."""
    return float(((after - before).abs().max() / before.abs().max()).detach())


TURNS = 100


def orbits(run: Run[Any], dtype: torch.dtype) -> list[tuple[Observed, Observed, Tensor]]:
    """For both bodies: what is seen of a state, of the whole state at 100 headings, and the turns."""
    found: list[tuple[Observed, Observed, Tensor]] = []
    for body in bodies():
        g = run.generator(1)
        state, target = moving(body, 2, g)
        turns = about_gravity(2 * math.pi * torch.rand(TURNS, generator=g, dtype=torch.float64))
        one = {name: value[:1].expand(TURNS, *value.shape[1:]) for name, value in state.items()}
        aim = target[:1].expand(TURNS, 3)
        before = observe(body, {n: v[:1] for n, v in one.items()}, aim[:1])
        before = {name: value.expand(TURNS, *value.shape[1:]) for name, value in before.items()}
        after = observe(body, turned_state(one, turns), (turns @ aim[..., None])[..., 0])
        found.append((cast(before, dtype), cast(after, dtype), turns.to(dtype)))
    return found


@exact(tol=1e-11, float32=1e-5)
def policy_ignores_headings(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest change of a torque, over the largest torque, when the whole state and the target turn about gravity; 100 headings
    of two bodies."""
    actor, _ = networks(run, dtype)
    return largest(change(actor(y), actor(x)) for x, y, _ in orbits(run, dtype))


@exact(tol=1e-11, float32=1e-5)
def values_ignore_headings(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest change of a limb's value Q when state and target turn about gravity and torques stay, over the largest value."""
    _, critic = networks(run, dtype)
    errors: list[float] = []
    for x, y, _ in orbits(run, dtype):
        shape = (1, *x["scalars"].shape[1:2], 3)
        torque = (
            2 * torch.rand(shape, generator=run.generator(2), dtype=torch.float64).to(dtype).expand(TURNS, -1, -1) - 1
        )
        errors.append(change(critic(y | {"action": torque}), critic(x | {"action": torque})))
    return largest(errors)


@exact(tol=1e-11, float32=1e-5)
def vectors_turn_with_the_world(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest difference of the vectors Z after the last layer, of a turned state, to the turned Z, over the largest entry."""
    actor, _ = networks(run, dtype)
    errors: list[float] = []
    for x, y, turns in orbits(run, dtype):
        Z, _ = actor.trunk(x, x["scalars"])
        after, _ = actor.trunk(y, y["scalars"])
        errors.append(change(after, turns[:, None] @ Z))
    return largest(errors)


def seen(run: Run[Any]) -> list[Observed]:
    """What is seen of both bodies, in float64."""
    found: list[Observed] = []
    for body in bodies():
        found.append(observe(body, *moving(body, 16, run.generator(3))))
    return found


@exact(tol=1e-11)
def limbs_in_another_order(run: Run[Any]) -> float:
    """Largest difference of torques of limbs that are listed in another order, with their codes, to the reordered torques, over
    the largest torque."""
    actor, _ = networks(run, torch.float64)
    errors: list[float] = []
    for x in seen(run):
        order = torch.randperm(x["mask"].shape[1], generator=run.generator(4))
        y = x | {name: x[name][:, order] for name in ("vectors", "scalars", "places", "mask")}
        y["relations"] = x["relations"][:, order][:, :, order]
        errors.append(change(actor(y), actor(x)[:, order]))
    return largest(errors)


@exact(tol=1e-11)
def heading_frame_changes_nothing(run: Run[Any]) -> float:
    """Largest change of a torque, over the largest torque, when all vectors are turned so that the target is ahead."""
    actor, _ = networks(run, torch.float64)
    return largest(change(actor(heading_frame(x)), actor(x)) for x in seen(run))


@exact(tol=1e-11)
def tilted_worlds_change_nothing(run: Run[Any]) -> float:
    """Largest change of a torque, over the largest torque, when vectors, gravity and target move together by elements of O(3),
    reflections among them."""
    actor, _ = networks(run, torch.float64)
    errors: list[float] = []
    for x in seen(run):
        g = O(3).sample(16, generator=run.generator(5), dtype=torch.float64)
        errors.append(change(actor(turned(x, g)), actor(x)))
    return largest(errors)


@bound(at_least=1e-2)
def tilted_states_change_torques(run: Run[Any]) -> float:
    """Change of torques, over their size, when all of the state turns in space and gravity and target stay; two bodies, the
    smaller one."""
    actor, _ = networks(run, torch.float64)
    changes: list[float] = []
    for x in seen(run):
        g = random_rotations(3, (16,), run.generator(6))
        y = turned(x, g)
        kept = y["vectors"].clone()
        kept[:, :, 1:3] = x["vectors"][:, :, 1:3]
        y = y | {"vectors": kept, "directions": x["directions"]}
        a = actor(x)
        changes.append(-float((actor(y) - a).norm() / a.norm()))
    return -largest(changes)


@exact(tol=1e-11)
def without_directions_all_turns(run: Run[Any]) -> float:
    """Largest change of a torque, over the largest torque, of a network without directions D under O(3) on vectors of limbs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        actor = SubEquivariantActor(SMALL._replace(directions=0)).double()
    errors: list[float] = []
    for x in seen(run):
        x = x | {"directions": x["directions"][:, :0]}
        g = O(3).sample(16, generator=run.generator(5), dtype=torch.float64)
        errors.append(change(actor(turned(x, g)), actor(x)))
    return largest(errors)


@exact(tol=0)
def the_torso_does_nothing(run: Run[Any]) -> float:
    """Largest torque of the torso, which has no hinges."""
    actor, _ = networks(run, torch.float64)
    return largest(float(actor(x)[:, 0].abs().max()) for x in seen(run))


@exact(tol=1e-11)
def absent_limbs_change_nothing(run: Run[Any]) -> float:
    """Largest change of a torque over the largest one, and torque of limbs that are not there, when bodies are filled up to ten
    limbs."""
    actor, _ = networks(run, torch.float64)
    errors: list[float] = []
    for x in seen(run):
        a, b = actor(x), actor(padded(x, 10))
        errors += [change(b[:, : a.shape[1]], a), float(b[:, a.shape[1] :].abs().max())]
    return largest(errors)


@exact(tol=1e-10)
def appended_gravity_gives_the_stabilizer(run: Run[Any]) -> float:
    """Largest entry of the difference between two projections onto bilinear maps of two vectors to a vector: those that
    products of a stack [Z1, Z2, gravity] give, and the basis for the stabilizer of gravity in O(3) by linear algebra."""
    gravity = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    def maps(first: Tensor, second: Tensor) -> Tensor:
        stack = torch.stack([first, second, gravity], -1)
        M = (stack.mT @ stack).flatten()
        return torch.einsum("a,b,xc->abcx", M, M, stack).flatten(0, 2)

    zero = torch.zeros(3, dtype=torch.float64)
    outer: Any = torch.func.jacfwd(torch.func.jacfwd(maps, 0), 1)
    found = outer(zero, zero).flatten(1)  # [maps, 27]: the part that is linear in both; output, first, second
    _, values, rows = torch.linalg.svd(found, full_matrices=False)
    basis = rows[values > 1e-8]
    group = Stabilizer(O(3), [0.0, 0.0, 1.0])
    due = equivariant_projector(V(group) @ V(group) >> V(group))
    return float((basis.mT @ basis - due).abs().max())


# --- the world -------------------------------------------------------------------------------------------------------
@exact(tol=1e-8)
def steps_commute_with_turns(run: Run[Any]) -> float:
    """Relative error, under turns about the vertical, of 100 steps of MuJoCo with contacts and random torques; two bodies."""
    errors: list[float] = []
    for body in bodies():
        g = run.generator(7)
        state = body.start(2, generator=g)
        control = 2 * torch.rand(2, body.controls, generator=g, dtype=torch.float64) - 1

        def roll(state: State, control: Tensor, body: LimbedBody = body) -> State:
            for _ in range(100):
                state = body.step(state, control)
            return state

        errors.append(float(equivariance_error(roll, body.symmetry, (state, control), elements=2, reduce="max")))
    return largest(errors)


@exact(tol=1e-10)
def rewards_ignore_headings(run: Run[Any]) -> float:
    """Largest change of a reward when state and target turn about the vertical; rules of four families, targets 10 km away."""
    body = LimbedBody.walker()
    g = run.generator(8)
    (before, _), (after, target) = moving(body, 50, g), moving(body, 50, g)
    target = 1e4 * target / target.norm(dim=-1, keepdim=True)
    after = after | {"position": before["position"] + 0.01 * torch.randn(50, 1, 3, generator=g, dtype=torch.float64)}
    torque = 2 * torch.rand(50, 7, 3, generator=g, dtype=torch.float64) - 1
    turns = about_gravity(2 * math.pi * torch.rand(50, generator=g, dtype=torch.float64))
    aim = (turns @ target[..., None])[..., 0]
    return largest(
        float(
            (
                reward(rules, turned_state(before, turns), turned_state(after, turns), torque, aim, 0.008)
                - reward(rules, before, after, torque, target, 0.008)
            )
            .abs()
            .max()
        )
        for rules in RULES.values()
    )


@exact(tol=0)
def ends_ignore_headings(run: Run[Any]) -> float:
    """States, of 2000 for each of four families, that end an episode at one heading and not at another."""
    g = run.generator(9)
    count = 2000
    state, _ = moving(LimbedBody.hopper(1), count, g)
    state["position"][:, 0, 2] = 0.2 + 2 * torch.rand(count, generator=g, dtype=torch.float64)
    turns = about_gravity(2 * math.pi * torch.rand(count, generator=g, dtype=torch.float64))
    wrong = 0
    for rules in RULES.values():
        here = ended(rules, state)
        if not 0 < int(here.sum()) < count:
            return math.nan  # all or none ended: nothing was tried
        wrong += int((ended(rules, turned_state(state, turns)) != here).sum())
    return float(wrong)


# --- mirrors ---------------------------------------------------------------------------------------------------------
@exact(tol=1e-8)
def steps_commute_with_mirrors(run: Run[Any]) -> float:
    """Largest difference of mirrored bodies, after 50 steps of MuJoCo with contacts and mirrored torques, to the mirror images;
    left and right limbs change places. Two bodies."""
    errors: list[float] = []
    for body in bodies():
        g = run.generator(10)
        state = body.start(2, generator=g)
        other, limbs = mirrored_state(body, state), partners(body)
        torque = 2 * torch.rand(2, len(limbs), 3, generator=g, dtype=torch.float64) - 1
        control, image = torque[:, 1:].flatten(1), mirrored_action(torque, limbs)[:, 1:].flatten(1)
        for _ in range(50):
            state, other = body.step(state, control), body.step(other, image)
        due = mirrored_state(body, state)
        errors += [float((other[name] - due[name]).abs().max()) for name in due]
    return largest(errors)


@exact(tol=1e-9)
def mirrors_of_what_is_seen(run: Run[Any]) -> float:
    """Largest difference of what is seen of a mirrored state to the mirror image of what is seen: pseudovectors reversed, angles
    about x and z with the other sign, limbs exchanged. Two bodies."""
    errors: list[float] = []
    for body in bodies():
        state, target = moving(body, 16, run.generator(11))
        x = mirrored(observe(body, state, target), partners(body))
        y = observe(body, mirrored_state(body, state), target * target.new_tensor([1.0, -1.0, 1.0]))
        errors += [float((x[name] - y[name]).abs().max()) for name in ("vectors", "scalars", "directions")]
    return largest(errors)


def _mirror_error(policy: nn.Module, run: Run[Any]) -> list[float]:
    changes: list[float] = []
    for body in bodies():
        limbs = partners(body)
        both = BothSides(policy, limbs)
        state, target = moving(body, 16, run.generator(11))
        x = observe(body, state, target)
        y = observe(body, mirrored_state(body, state), target * target.new_tensor([1.0, -1.0, 1.0]))
        for one in (policy, both):
            due = mirrored_action(one(x), limbs)
            changes.append(float((one(y) - due).norm() / due.norm()))
    return changes


@exact(tol=1e-9)
def both_sides_keep_mirrors(run: Run[Any]) -> float:
    """Relative difference of torques for a mirrored state to mirrored torques, of the mean of a policy and its mirror image."""
    actor, _ = networks(run, torch.float64)
    return largest(_mirror_error(actor, run)[1::2])


@bound(at_least=1e-2)
def one_policy_breaks_mirrors(run: Run[Any]) -> float:
    """Relative difference of torques for a mirrored state to mirrored torques, of the policy itself; two bodies, the smaller."""
    actor, _ = networks(run, torch.float64)
    return -largest([-error for error in _mirror_error(actor, run)[::2]])


PROPERTIES = (
    policy_ignores_headings,
    values_ignore_headings,
    vectors_turn_with_the_world,
    limbs_in_another_order,
    heading_frame_changes_nothing,
    tilted_worlds_change_nothing,
    tilted_states_change_torques,
    without_directions_all_turns,
    the_torso_does_nothing,
    absent_limbs_change_nothing,
    appended_gravity_gives_the_stabilizer,
    steps_commute_with_turns,
    rewards_ignore_headings,
    ends_ignore_headings,
    steps_commute_with_mirrors,
    mirrors_of_what_is_seen,
    both_sides_keep_mirrors,
    one_policy_breaks_mirrors,
)
