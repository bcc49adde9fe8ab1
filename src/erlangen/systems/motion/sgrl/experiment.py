"""What is measured of subequivariant policies: exact properties, imitation over headings and bodies, a short TD3."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.simulate import LimbedBody
from erlangen.simulate.limbs import State
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Training,
    compare,
    properties,
)
from erlangen.systems.motion.sgrl._observations import Observed, about_gravity, concatenated, turned
from erlangen.systems.motion.sgrl._properties import PROPERTIES
from erlangen.systems.motion.sgrl._task import RULES, Step, Task, expert, play, starts, without
from erlangen.systems.motion.sgrl._td3 import TD3, Agent, Learner, Memory, hinged
from erlangen.systems.motion.sgrl.method import SubEquivariantActor, SubEquivariantCritic, Widths
from erlangen.systems.motion.sgrl.rivals import (
    Monolithic,
    PlainTransformer,
    any_heading,
    as_large,
    monolithic_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, PLAIN, TURNED, AHEAD, ONE = (
    "SubEquivariant Transformer",
    "transformer",
    "transformer, any heading",
    "transformer, heading frame",
    "monolithic MLP",
)
SECTOR = math.pi / 6
"""Headings of the training data are within 30 degrees of one direction."""

ASIDE = 0.5
"""Radians between a body and its target at the start, at most."""

SHOVE = 0.3
"""Size of the uniform noise on the expert's torques while data are gathered, so that states are not only its own."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        widths: of the networks.
        imitation: samples, of all bodies together.
        epochs: of the imitation.
        length: of the expert's episodes, steps.
        episodes, steps: in closed loop, and their length.
        running: starts of episodes: to gather experience from, to choose rates by, to report.
        rounds: of the TD3: episodes of all starts, then updates.
        updates: for each step of these episodes.
        batch: of its updates.
        horizon: of its episodes, steps.
    """

    seeds: int
    widths: Widths
    imitation: Sizes
    epochs: int
    length: int
    episodes: int
    steps: int
    running: Sizes
    rounds: int
    updates: float
    batch: int
    horizon: int


BUDGETS = {
    "smoke": Budget(1, Widths(12, 2, 1, 6), Sizes(80, 40, 40), 1, 10, 2, 4, Sizes(2, 2, 2), 2, 0.5, 16, 6),
    "full": Budget(3, Widths(24, 2, 2, 10), Sizes(4000, 800, 800), 10, 40, 6, 60, Sizes(3, 6, 12), 7, 0.5, 64, 40),
    "paper": Budget(
        5, Widths(), Sizes(200_000, 20_000, 20_000), 50, 200, 20, 1000, Sizes(16, 16, 100), 320, 1.0, 256, 1000
    ),
}


# --- bodies ----------------------------------------------------------------------------------------------------------
LIMBS = 7
"""Of the largest body, which smaller ones are filled up to."""


def task_of(body: LimbedBody, limbs: int = LIMBS) -> Task:
    """Rules of the hopper, whose ends are by tilt and height; the lowest height is a share of that of the standing body."""
    return Task(body, replace(RULES["hopper"], lowest=0.6 * body.height), limbs)


@functools.cache
def tasks() -> dict[str, Task]:
    """Bodies whose expert is imitated, and the last one, which no policy has seen."""
    walker = LimbedBody.walker()
    return {
        "hopper of three": task_of(LimbedBody.hopper(3)),
        "hopper of four": task_of(LimbedBody.hopper(4)),
        "walker": task_of(walker),
        "walker without left foot": task_of(without(walker, 3)),
        HELD_OUT: task_of(without(walker, 6)),
    }


HELD_OUT = "walker without right foot"


# --- imitation -------------------------------------------------------------------------------------------------------
def demonstrations(task: Task, count: int, length: int, generator: Generator) -> tuple[Observed, Tensor]:
    """What is seen of so many steps of the shoved expert, with headings in the sector, and what it does there."""
    parts: list[Observed] = []
    found = 0

    def shoved(x: Observed) -> Tensor:
        noise = 2 * torch.rand((*x["scalars"].shape[:2], 3), generator=generator) - 1
        return (expert(x) + SHOVE * noise) * hinged(x)

    def keep(_: Tensor, x: Observed, __: Tensor, ___: Step, ____: Observed) -> None:
        parts.append(x)

    while found < count:
        state, target = starts(task.body, max(2, count // (4 * length)), generator, sector=SECTOR, aside=ASIDE)
        play(task, shoved, state, target, length, keep)
        found = sum(len(part["mask"]) for part in parts)
    x = concatenated(parts)
    chosen = torch.randperm(found, generator=generator)[:count]
    x = {name: value[chosen] for name, value in x.items()}
    return x, expert(x)


def imitation_draw(run: Run[Budget]) -> Callable[[int], Split]:
    """Equally many steps of every body, episodes of their own for training, choice and report."""
    sizes, length = run.sizes(run.budget.imitation), 2 if run.dry else run.budget.length
    known = [task for name, task in tasks().items() if name != HELD_OUT]

    def draw(seed: int) -> Split:
        parts: list[tuple[Observed, Tensor]] = []
        for i, size in enumerate(sizes):
            g = Generator().manual_seed(3 * seed + i)
            made = [demonstrations(task, max(1, size // len(known)), length, g) for task in known]
            parts.append((concatenated([x for x, _ in made]), torch.cat([y for _, y in made])))
        return Split(*parts)

    return draw


@torch.no_grad()
def error_of(policy: Any, x: Observed, y: Tensor) -> float:
    """Mean square of the difference of torques, over that of the expert's."""
    return float((policy(x) - y).square().sum() / y.square().sum())


def elsewhere(x: Observed, generator: Generator) -> Observed:
    """The same at headings outside of the sector."""
    share = torch.rand(len(x["mask"]), generator=generator)
    return turned(x, about_gravity(2 * SECTOR + share * (2 * math.pi - 4 * SECTOR)))


def imitation_part(run: Run[Budget]) -> Part:
    """Imitate the expert on four bodies, with headings within 30 degrees; test all headings, and a body that was left out."""
    b = run.budget
    held = tasks()[HELD_OUT]
    count, length = (4, 2) if run.dry else (b.imitation.test, b.length)
    episodes, steps = (2, 2) if run.dry else (b.episodes, b.steps)

    @functools.cache
    def unseen(seed: int) -> tuple[Observed, Tensor]:
        return demonstrations(held, count, length, Generator().manual_seed(seed))

    @functools.cache
    def begin(seed: int, name: str) -> tuple[State, Tensor]:
        return starts(tasks()[name].body, episodes, Generator().manual_seed(seed), aside=ASIDE)

    def closed(policy: Any, seed: int, name: str) -> float:
        return float(play(tasks()[name], policy, *begin(seed, name), steps).distance.mean())

    @functools.cache
    def of_expert(seed: int, name: str) -> float:
        return closed(expert, seed, name)

    def measure(policy: Any, x: Observed, y: Tensor, generator: Generator) -> Mapping[str, Any]:
        seed = generator.initial_seed() + 1000
        other, due = unseen(seed)
        row = {
            "error": error_of(policy, x, y),
            "error, unseen headings": error_of(policy, elsewhere(x, generator), y),
            "error, held-out body": error_of(policy, other, due),
            "error, held-out body, unseen headings": error_of(policy, elsewhere(other, generator), due),
        }
        for name in ("walker", HELD_OUT):
            row[f"metres, {name}"] = closed(policy, seed, name)
            row[f"metres, {name}, expert"] = of_expert(seed, name)
        return row

    rivals = {name: Rival(make, transform) for name, (make, transform) in imitators(b.widths).items()}
    how = Training(mse_loss, b.epochs, 64, rates=(3e-3, 1e-3, 1e-2), clip=1.0)
    table = compare(
        "imitation",
        rivals,
        imitation_draw(run),
        how,
        measure,
        best="error",
        run=run,
        larger=("metres",),
        validate=lambda policy, x, y, _: {"error": error_of(policy, x, y)},
    )
    far, other = "error, unseen headings", "error, held-out body, unseen headings"
    walker, held_out = "metres, walker", f"metres, {HELD_OUT}"
    return table.part(
        table.same(
            "unseen-headings-cost-nothing",
            "Imitation: error of the trained SubEquivariant Transformer at unseen headings over that at those of its "
            "training, less one, in float32.",
            table[OURS, far] / table[OURS, "error"],
            1.0,
            tol=1e-4,
        ),
        table.not_worse("unseen-headings-against-transformer", OURS, PLAIN, far),
        table.not_worse("unseen-headings-against-any-heading", OURS, TURNED, far),
        table.not_worse("unseen-headings-against-heading-frame", OURS, AHEAD, far),
        table.not_worse("unseen-headings-against-monolithic", OURS, ONE, far),
        table.not_worse("seen-headings-against-existing", OURS, [PLAIN, ONE], "error"),
        table.not_worse("zero-shot-against-existing", OURS, [PLAIN, ONE], other),
        table.not_worse("zero-shot-against-all", OURS, [PLAIN, TURNED, AHEAD, ONE], other),
        *(
            table.bound(
                f"metres-of-{short}",
                f"Imitation: metres towards the target, at all headings, of the SubEquivariant Transformer on the {name} "
                "less those of the better one of transformer and monolithic MLP.",
                table[OURS, column] - table[table.best([PLAIN, ONE], column), column],
                at_least=0.0,
            )
            for short, name, column in (("walker", "walker", walker), ("held-out", HELD_OUT, held_out))
        ),
    )


def imitators(of: Widths) -> dict[str, tuple[Callable[[], nn.Module], Any]]:
    """Policies of about as many numbers, and what is done to their batches."""
    ours = SubEquivariantActor(of)
    plain, wide = as_large(ours, of), monolithic_width(ours, LIMBS)
    return {
        OURS: (functools.partial(SubEquivariantActor, of), None),
        PLAIN: (functools.partial(PlainTransformer, plain), None),
        TURNED: (functools.partial(PlainTransformer, plain), any_heading),
        AHEAD: (functools.partial(PlainTransformer, plain, heading=True), None),
        ONE: (functools.partial(Monolithic, LIMBS, wide), None),
    }


# --- reinforcement ---------------------------------------------------------------------------------------------------
def agents(of: Widths, limbs: int) -> dict[str, tuple[Callable[[], Agent], bool]]:
    """Actors and pairs of critics of about as many numbers, and whether their batches are turned."""
    actor, critic = SubEquivariantActor(of), SubEquivariantCritic(of)
    plain, judge = as_large(actor, of), as_large(critic, of, critic=True)
    wide, wide_judge = monolithic_width(actor, limbs), monolithic_width(critic, limbs, critic=True)

    def plain_agent(heading: bool) -> Agent:
        critics = (PlainTransformer(judge, critic=True, heading=heading) for _ in range(2))
        return Agent(PlainTransformer(plain, heading=heading), *critics)

    def monolithic_agent() -> Agent:
        return Agent(Monolithic(limbs, wide), *(Monolithic(limbs, wide_judge, critic=True) for _ in range(2)))

    return {
        OURS: (lambda: Agent(SubEquivariantActor(of), *(SubEquivariantCritic(of) for _ in range(2))), False),
        PLAIN: (functools.partial(plain_agent, False), False),
        TURNED: (functools.partial(plain_agent, False), True),
        AHEAD: (functools.partial(plain_agent, True), False),
        ONE: (monolithic_agent, False),
    }


def reinforce(
    task: Task,
    horizon: int,
    updates: float,
    turn: bool,
    agent: Agent,
    split: Split,
    rate: float,
    how: Training,
    generator: Generator,
) -> None:
    """TD3: every round plays an episode from each start in parallel, then makes updates, so many for a step; the first round
    acts at random."""
    start: Any = split.train[0]
    aims: Any = split.train[1]
    settings = TD3()
    learner, memory = Learner(agent, rate, settings), Memory(1_000_000)

    def keep(_: Tensor, x: Observed, action: Tensor, made: Step, then: Observed) -> None:
        memory.add(x, action, made.reward, made.done, then)

    def explore(first: bool, x: Observed) -> Tensor:
        shape = (*x["scalars"].shape[:2], 3)
        if first:
            return (2 * torch.rand(shape, generator=generator) - 1) * hinged(x)
        noise = settings.explore * torch.randn(shape, generator=generator)
        return (agent(x) + noise).clamp(-1, 1) * hinged(x)

    for round_ in range(how.epochs):
        made = play(task, functools.partial(explore, round_ == 0), start, aims, horizon, keep)
        for _ in range(round(updates * float(made.lengths.sum()))):
            x, action, reward, done, then = memory.draw(how.batch, generator)
            if turn:
                x, then = _turned_alike(x, then, generator)
            learner.update(x, action, reward, done, then, generator)


def _turned_alike(x: Observed, then: Observed, generator: Generator) -> tuple[Observed, Observed]:
    """States before and after steps, at new headings, the same for both."""
    g = about_gravity(2 * math.pi * torch.rand(len(x["vectors"]), generator=generator))
    return turned(x, g), turned(then, g)


def reinforcement_part(run: Run[Budget]) -> Part:
    """A short TD3 on a hopper with targets in all directions."""
    b = run.budget
    body = LimbedBody.hopper(3)
    limbs = len(body.kinds)
    task = task_of(body, limbs)
    sizes, horizon = run.sizes(b.running), 2 if run.dry else b.horizon

    def draw(seed: int) -> Split:
        state, target = starts(body, sizes.total, Generator().manual_seed(seed))
        return Split.of(state, target, sizes)

    def measure(agent: Any, x: Any, y: Any, _: Generator) -> Mapping[str, Any]:
        episodes = play(task, agent, x, y, horizon)
        return {
            "return": float(episodes.returns.mean()),
            "length": float(episodes.lengths.mean()),
            "metres": float(episodes.distance.mean()),
        }

    rivals = {
        name: Rival(make, fit=functools.partial(reinforce, task, horizon, b.updates, turn))
        for name, (make, turn) in agents(b.widths, limbs).items()
    }
    how = Training(mse_loss, b.rounds, b.batch, rates=(1e-3, 3e-4, 3e-3))
    table = compare(
        "reinforcement",
        rivals,
        draw,
        how,
        measure,
        best="return",
        run=run,
        larger=("return", "length", "metres"),
    )

    def claim(name: str, theirs: Sequence[str], words: str) -> Claim:
        return table.bound(
            name,
            "Reinforcement: mean return, at all headings, of the SubEquivariant Transformer after a short TD3 less that of "
            f"{words}.",
            table[OURS, "return"] - table[table.best(theirs, "return"), "return"],
            at_least=0.0,
        )

    return table.part(
        claim("return-against-transformer", [PLAIN], "the transformer without symmetry"),
        claim("return-against-any-heading", [TURNED], "the transformer whose batches are turned"),
        claim("return-against-heading-frame", [AHEAD], "the transformer in the heading frame"),
        claim("return-against-monolithic", [ONE], "the monolithic MLP"),
    )


# --- all -------------------------------------------------------------------------------------------------------------
ELSEWHERE = (
    Claim.not_measurable(
        "long-training",
        "Return after five million steps and updates, for single bodies, for families at once, and zero-shot.",
        published="outperforms existing approaches",
        reason="the paper shows curves alone, and such a training takes days; scale paper has its sizes",
    ),
)


def experiment(run: Run[Budget]) -> Result:
    """Properties, imitation, TD3."""
    return Result.of(properties(run, *PROPERTIES), imitation_part(run), reinforcement_part(run), Part(claims=ELSEWHERE))


def figure(result: Result) -> Figure:
    """Errors of imitation by what is tested."""
    from erlangen import plots

    columns = ("error", "error, unseen headings", "error, held-out body", "error, held-out body, unseen headings")
    curves = {
        str(row["model"]): [(i, float(str(row[column]))) for i, column in enumerate(columns)]
        for row in result.rows
        if row["part"] == "imitation"
    }
    return plots.line(curves, "seen, unseen headings, held-out body, both", "error of torques", logy=True)
