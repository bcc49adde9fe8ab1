"""The task: run to a target. Rewards and ends of the authors' four families, states that are drawn, episodes in parallel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.actions import tree_map
from erlangen.errors import NotFiniteError, ShapeError
from erlangen.simulate import Limb, LimbedBody
from erlangen.simulate.limbs import State
from erlangen.systems.motion.sgrl._observations import Observed, observe, single

FAR = 1e4
"""Metres to the target, so that its direction stays."""


@dataclass(frozen=True)
class Rules:
    """What a family of bodies is paid for, and when an episode ends.

    Attributes:
        lowest, highest: height of the torso in metres, outside of which it ends.
        angle: of the torso in radians, at which it ends.
        tilt: the angle is that between the torso and the vertical; otherwise pitch and roll each.
        alive: reward of a step.
        forward: velocity along the torso's own heading is paid too.
        slowest: squares of all velocities, at which it ends.
        largest: entry of the state, at which it ends.
    """

    lowest: float
    highest: float = math.inf
    angle: float = 1.0
    tilt: bool = False
    alive: float = 1.0
    forward: bool = True
    slowest: float = -1.0
    largest: float = math.inf


RULES = {
    "hopper": Rules(0.95, tilt=True, forward=False, largest=100.0),
    "walker": Rules(0.8, 2.0),
    "humanoid": Rules(0.835, 1.835),
    "cheetah": Rules(0.26, angle=1.35, alive=0.0, slowest=1.0),
}
"""The authors' four families."""


def tilt_of(state: State) -> Tensor:
    """Angle ``[B]`` between the torso and the vertical, in radians."""
    up = state["axes"][:, 2]
    return torch.atan2(up[:, :2].norm(dim=-1), up[:, 2])


def ended(rules: Rules, state: State) -> Tensor:
    """Which episodes end here ``[B]``."""
    axes, height = state["axes"], state["position"][:, 0, 2]
    if rules.tilt:
        leaning = tilt_of(state) >= rules.angle
    else:
        pitch = torch.asin((-axes[:, 0, 2]).clamp(-1, 1))
        roll = torch.atan2(axes[:, 1, 2], axes[:, 2, 2])
        leaning = torch.maximum(pitch.abs(), roll.abs()) >= rules.angle
    # Lengths, where components of the velocity would depend on the heading; places are no part of it.
    velocity = torch.cat([state["velocity"][:, 0].norm(dim=-1, keepdim=True), state["spin"], state["rates"]], -1)
    entries = torch.cat([height[:, None], state["angles"], velocity], -1)
    wild = entries.abs().amax(-1) >= rules.largest
    still = velocity.square().sum(-1) <= rules.slowest
    return (height <= rules.lowest) | (height >= rules.highest) | leaning | wild | still


def reward(rules: Rules, before: State, after: State, action: Tensor, target: Tensor, seconds: float) -> Tensor:
    """Of a step ``[B]``: metres per second to the target, less ``1e-3 |action|^2``, and what the rules add."""
    flat = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    moved = (after["position"] - before["position"])[:, 0] * flat
    way, then = ((target - state["position"][:, 0]) * flat for state in (before, after))
    # |a| - |b| = (a - b)(a + b) / (|a| + |b|), which keeps its digits where the target is far away.
    nearer = (moved * (way + then)).sum(-1) / (way.norm(dim=-1) + then.norm(dim=-1)).clamp_min(1e-12)
    paid = nearer / seconds - 1e-3 * action.square().flatten(1).sum(-1) + rules.alive
    if rules.forward:
        paid = paid + (moved * before["axes"][:, 0]).sum(-1) / seconds
    return paid


class Step(NamedTuple):
    """After a step of B bodies: states, rewards, and which episodes ended."""

    state: State
    reward: Tensor
    done: Tensor


@dataclass(frozen=True)
class Task:
    """A body that runs to targets, under rules; `limbs` is what observations are padded to."""

    body: LimbedBody
    rules: Rules
    limbs: int

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.body.seconds * self.body.repeats

    def see(self, state: State, target: Tensor) -> Observed:
        """The observation, in float32."""
        return single(observe(self.body, state, target, limbs=self.limbs))

    def step(self, state: State, action: Tensor, target: Tensor) -> Step:
        """A step with torques ``[B, limbs, 3]``; a body that the simulator loses stays where it was, and its episode ends.

        Raises:
            ShapeError: torques of another form.
        """
        count = len(target)
        if action.shape != (count, self.limbs, 3):
            raise ShapeError(f"action has shape {tuple(action.shape)}; give {[count, self.limbs, 3]}")
        action = action.double()
        control = action[:, 1 : len(self.body.kinds)].flatten(1)
        lost = torch.zeros(count, dtype=torch.bool)
        try:
            after = self.body.step(state, control)
        except NotFiniteError:
            rows: list[State] = []
            for i in range(count):
                row = rows_of(state, torch.tensor([i]))
                try:
                    rows.append(self.body.step(row, control[i : i + 1]))
                except NotFiniteError:
                    lost[i] = True
                    rows.append(row)
            after = {name: torch.cat([row[name] for row in rows]) for name in state}
        return Step(
            after, reward(self.rules, state, after, action, target, self.seconds), ended(self.rules, after) | lost
        )


def rows_of(state: State, index: Tensor) -> State:
    """Some of the states."""
    return tree_map(lambda value: value[index], state)


def turned_state(state: State, g: Tensor) -> State:
    """States ``[B]`` turned about the vertical by ``[3, 3]`` or ``[B, 3, 3]``."""
    return state | {name: state[name] @ g.mT for name in ("position", "velocity", "axes")}


def starts(
    body: LimbedBody, count: int, generator: Generator, *, sector: float = math.pi, aside: float = math.pi
) -> tuple[State, Tensor]:
    """States on the ground, and targets whose headings are uniform within -sector to sector; bodies look aside of them by an
    angle within -aside to aside. Radians."""
    state = body.start(count, generator=generator)
    yaw = torch.atan2(state["axes"][:, 0, 1], state["axes"][:, 0, 0])
    u = 2 * torch.rand(2, count, generator=generator, dtype=torch.float64) - 1
    heading, off = sector * u[0], aside * u[1]
    cosine, sine = (heading + off - yaw).cos(), (heading + off - yaw).sin()
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    g = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    return turned_state(state, g), FAR * torch.stack([heading.cos(), heading.sin(), zero], -1)


class Episodes(NamedTuple):
    """Of B episodes: rewards summed until each ended, its steps, and metres moved towards the target."""

    returns: Tensor
    lengths: Tensor
    distance: Tensor


Policy = Callable[[Observed], Tensor]


@torch.no_grad()
def play(
    task: Task,
    policy: Policy,
    state: State,
    target: Tensor,
    steps: int,
    keep: Callable[[Tensor, Observed, Tensor, Step, Observed], object] | None = None,
) -> Episodes:
    """Episodes in parallel, at most so many steps each; `keep` gets those that go on: index, observation, action, step, next."""
    count = len(target)
    begin = state["position"][:, 0]
    way = target - begin
    way = way / way.norm(dim=-1, keepdim=True)
    returns, lengths, distance = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
    live = torch.arange(count)
    x = task.see(state, target)
    for _ in range(steps):
        if not len(live):
            break
        action = policy(x)
        made = task.step(state, action, target[live])
        returns[live] += made.reward
        lengths[live] += 1
        distance[live] = ((made.state["position"][:, 0] - begin[live]) * way[live]).sum(-1)
        then = task.see(made.state, target[live])
        if keep is not None:
            keep(live, x, action, made, then)
        on = ~made.done
        state, live, x = rows_of(made.state, on), live[on], tree_map(lambda value, on=on: value[on], then)
    return Episodes(returns, lengths, distance)


def expert(x: Observed, speed: float = 1.0, pull: float = 1.0, damp: float = 0.1, gain: float = 0.5) -> Tensor:
    """Torques ``[B, limbs, 3]`` of a scripted controller, from what is observed alone, the same for every heading.

    Each hinge is pulled to a stance and damped, and its limb pushes the ground with the force that would bring the torso to a
    velocity on its way to the target.

    Args:
        x: what is observed.
        speed: in metres per second.
        pull, damp, gain: torques per radian, per radian per second, and per metre times velocity.
    """
    vectors, scalars = x["vectors"], x["scalars"]
    hinges, spin = vectors[..., 5:, :], vectors[..., 4, :]
    way, velocity = x["directions"][:, 1], vectors[:, 0, 3]
    stance = torch.zeros_like(scalars[..., :3])
    stance[..., 1] = -scalars[..., 12:16] @ scalars.new_tensor([0.0, 0.3, 0.6, 0.0])  # by kind of limb
    force = speed * way - velocity * velocity.new_tensor([1.0, 1.0, 0.3])
    up = velocity.new_tensor([0.0, 0.0, 1.0]).expand_as(force)
    moment = scalars[..., 16:] * torch.linalg.cross(up, force)[:, None]
    push = (hinges @ moment[..., None])[..., 0]
    damping = (hinges @ spin[..., None])[..., 0]
    torque = pull * (stance - scalars[..., :3]) - damp * damping + gain * push
    return torch.tanh(torque) * (hinges.square().sum(-1) > 0)


def without(body: LimbedBody, *leaves: int) -> LimbedBody:
    """The same body without some of its outermost limbs, by index; the torso is 0.

    Raises:
        ShapeError: such a limb is not there, or carries another one.
    """
    for leaf in leaves:
        carried = [i for i, p in enumerate(body.parents) if p == leaf and i not in leaves]
        if not 0 < leaf < len(body.parents) or carried:
            raise ShapeError(f"limb {leaf} cannot be left out; give outermost ones among 1 to {len(body.parents) - 1}")
    kept = [0, *(i for i in range(1, len(body.parents)) if i not in leaves)]
    limbs = [body.limbs[i - 1] for i in kept[1:]]
    moved = [
        Limb(one.kind, kept.index(one.parent), one.start, one.end, one.radius, one.ranges, one.friction)
        for one in limbs
    ]
    return LimbedBody(moved, torso=body.torso, gear=body.gear, seconds=body.seconds, repeats=body.repeats)
