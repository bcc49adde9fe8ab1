"""TD3 (Fujimoto et al., 2018) with a value for every limb, after the authors' trainer; compact."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import tree_map
from erlangen.errors import NotFiniteError
from erlangen.systems.motion.sgrl._observations import Observed


def td_target(reward: Tensor, done: Tensor, first: Tensor, second: Tensor, discount: float) -> Tensor:
    """``r + discount (1 - done) min(Q1, Q2)``: rewards and ends ``[B]`` are shared, values ``[B, limbs]`` each limb's own."""
    return reward[:, None] + discount * (1 - done.to(reward))[:, None] * torch.minimum(first, second)


def over_limbs(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the limbs that are there, of ``[B, limbs]``, or of ``[B, 1]`` where all share one value."""
    there = mask.to(values)
    return (values * there).sum() / there.sum()


class Agent(nn.Module):
    """A policy and two critics, each with networks of its own."""

    def __init__(self, actor: nn.Module, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.actor, self.critics = actor, nn.ModuleList([first, second])

    def forward(self, x: Observed) -> Tensor:
        """What the policy does."""
        return self.actor(x)

    def values(self, x: Observed, action: Tensor) -> tuple[Tensor, Tensor]:
        """Of both critics ``[B, limbs]``."""
        first, second = (critic(x | {"action": action}) for critic in self.critics)
        return first, second


@dataclass(frozen=True)
class TD3:
    """Settings that are in force in the authors' trainer, but for the learning rate and the batch, which a run chooses.

    Attributes:
        discount, rate: of rewards, and of the targets.
        noise, cut: of the target's actions.
        explore: noise of actions while experience is gathered.
        delay: updates of critics for one of the actor.
        clip: largest norm of a gradient.
    """

    discount: float = 0.99
    rate: float = 0.005
    noise: float = 0.2
    cut: float = 0.5
    explore: float = 0.126
    delay: int = 2
    clip: float = 0.1


class Learner:
    """An agent in training."""

    def __init__(self, agent: Agent, lr: float, of: TD3) -> None:
        self.agent, self.target, self.of = agent, copy.deepcopy(agent).requires_grad_(False), of
        self.actor_step = torch.optim.Adam(agent.actor.parameters(), lr=lr)
        self.critic_step = torch.optim.Adam(agent.critics.parameters(), lr=lr)
        self.updates = 0

    def update(
        self, x: Observed, action: Tensor, reward: Tensor, done: Tensor, then: Observed, generator: Generator
    ) -> None:
        """One update of the critics; every `delay` times of the actor and of the targets too.

        Raises:
            NotFiniteError: the loss of the critics.
        """
        o = self.of
        with torch.no_grad():
            noise = (o.noise * torch.randn(action.shape, generator=generator)).clamp(-o.cut, o.cut)
            next_action = (self.target(then) + noise).clamp(-1, 1) * hinged(then)
            due = td_target(reward, done, *self.target.values(then, next_action), o.discount)
        losses = [over_limbs((q - due).square(), x["mask"]) for q in self.agent.values(x, action)]
        loss = losses[0] + losses[1]
        if not bool(loss.isfinite()):
            raise NotFiniteError(f"the loss of the critics is not finite at update {self.updates}")
        self._step(self.critic_step, self.agent.critics, loss)
        self.updates += 1
        if self.updates % o.delay:
            return
        value = self.agent.critics[0](x | {"action": self.agent.actor(x)})
        self._step(self.actor_step, self.agent.actor, -over_limbs(value.expand_as(x["mask"]), x["mask"]))
        with torch.no_grad():
            for mine, slow in zip(self.agent.parameters(), self.target.parameters(), strict=True):
                slow.lerp_(mine, o.rate)

    def _step(self, optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), self.of.clip)
        optimizer.step()


def hinged(x: Observed) -> Tensor:
    """Which hinges there are ``[B, limbs, 3]``, as numbers."""
    return (x["vectors"][..., 5:, :].square().sum(-1) > 0).to(x["scalars"])


class Memory:
    """Transitions of one body, the last `size` of them."""

    def __init__(self, size: int) -> None:
        self.size, self.kept = size, None
        self.fixed: Observed = {}

    def add(self, x: Observed, action: Tensor, reward: Tensor, done: Tensor, then: Observed) -> None:
        """Keep a batch of them."""
        changing = ("vectors", "scalars", "directions")
        self.fixed = {name: value[:1] for name, value in x.items() if name not in changing}
        new = {name: x[name] for name in changing} | {f"then {name}": then[name] for name in changing}
        new |= {"action": action, "reward": reward.float(), "done": done}
        kept = self.kept
        self.kept = new if kept is None else tree_map(lambda a, b: torch.cat([a, b])[-self.size :], kept, new)

    def __len__(self) -> int:
        return 0 if self.kept is None else len(self.kept["reward"])

    def draw(self, count: int, generator: Generator) -> tuple[Observed, Tensor, Tensor, Tensor, Observed]:
        """Some, with repetition: observation, action, reward, end, next observation."""
        assert self.kept is not None
        index = torch.randint(len(self), (count,), generator=generator)
        row = {name: value[index] for name, value in self.kept.items()}
        fixed = {name: value.expand(count, *value.shape[1:]) for name, value in self.fixed.items()}
        x, then = (
            fixed | {name: row[prefix + name] for name in ("vectors", "scalars", "directions")}
            for prefix in ("", "then ")
        )
        return x, row["action"], row["reward"], row["done"], then
