"""Inertia and cosine: data that have some symmetries and break others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.actions import Custom
from erlangen.groups import SO, Group, O, Scaling, Stabilizer
from erlangen.reps import Scalar, T, V
from erlangen.symmetry import Symmetry
from erlangen.systems.learning.soft_equivariance.rivals import RepOf

Pair = tuple[Tensor, Tensor]
Breaks: TypeAlias = Literal["nothing", "scaling", "rotation"]


@dataclass(frozen=True)
class Task:
    """Data with a symmetry that is known to hold or to be broken.

    `draw` makes inputs and targets from a number of samples, a generator and a shift of the inputs; `candidates` begin with
    the whole group; `strength` is where the c_j start, `kept` the largest candidates that the data respect.
    """

    name: str
    draw: Callable[[int, Generator, float], Pair]
    rep_in: RepOf
    rep_out: RepOf
    candidates: tuple[Group, ...]
    kept: tuple[Group, ...]
    strength: float

    @functools.cached_property
    def square(self) -> float:
        """Mean square of the targets, by which errors and penalties are divided."""
        return float(self.draw(20_000, Generator().manual_seed(0), 0.0)[1].square().mean())

    @property
    def symmetries(self) -> list[Symmetry]:
        """The candidates with their actions."""
        return [symmetry(group, self.rep_in, self.rep_out) for group in self.candidates]


def symmetry(group: Group, rep_in: RepOf, rep_out: RepOf) -> Symmetry:
    """A group with its representations as actions."""
    moves = [Custom(rep.apply, label=rep.name) for rep in (rep_in(group), rep_out(group))]
    return Symmetry(group, input=moves[0], output=moves[1])


def inertia(x: Tensor, eps: float, axis: int = 2) -> Tensor:
    """Of five masses and positions ``[B, 20]`` the tensors ``I + eps (I e) e^T`` with the axis e ``[B, 9]``."""
    mass, pos = x[:, :5, None, None], x[:, 5:].unflatten(-1, (5, 3))
    squares = pos.square().sum(-1)[..., None, None] * torch.eye(3)
    tensor = (mass * (squares - pos[..., :, None] * pos[..., None, :])).sum(1)
    tensor[..., axis] = (1 + eps) * tensor[..., axis]
    return tensor.flatten(1)


def cosine(x: Tensor, breaks: Breaks) -> Tensor:
    """Of three vectors ``[B, 9]`` the mean cyclic cosine similarity plus 0.3 times what breaks a symmetry ``[B, 1]``.

    Scaling is broken by the mean length, rotation by the ratio of the 1-norms of the first and second half of the numbers.
    """
    vectors = x.unflatten(-1, (3, 3))
    y = F.cosine_similarity(vectors, vectors.roll(1, 1), dim=-1).mean(1)
    if breaks == "scaling":
        y = y - 0.3 * vectors.norm(dim=-1).mean(1)
    if breaks == "rotation":
        y = y + 0.3 * x[:, :4].abs().sum(1) / x[:, 4:].abs().sum(1)
    return y[:, None]


def draw_inertia(samples: int, generator: Generator, shift: float, eps: float) -> Pair:
    """Masses softplus of normal numbers, normal positions; the shift moves what is normal."""
    x = shift + torch.randn(samples, 20, generator=generator)
    x[:, :5] = F.softplus(x[:, :5])
    return x, inertia(x, eps)


def draw_cosine(samples: int, generator: Generator, shift: float, breaks: Breaks) -> Pair:
    """Normal vectors, shifted."""
    x = shift + torch.randn(samples, 9, generator=generator)
    return x, cosine(x, breaks)


def inertia_task(eps: float) -> Task:
    """The inertia tensor, stretched along z by `eps`."""
    whole = O(3)
    about = [Stabilizer(whole, torch.eye(3)[axis]) for axis in (2, 0, 1)]
    return Task(
        f"inertia, eps = {eps:g}",
        lambda n, generator, shift: draw_inertia(n, generator, shift, eps),
        lambda G: 5 * Scalar(G) + 5 * V(G),
        T(2),
        (whole, *about),
        (whole,) if eps == 0 else (about[0],),
        100.0,
    )


def cosine_task(breaks: Breaks) -> Task:
    """The cosine similarity, with one of two symmetries broken."""
    groups = {"rotation": SO(3), "scaling": Scaling(3)}
    return Task(
        f"cosine, {breaks} broken",
        lambda n, generator, shift: draw_cosine(n, generator, shift, breaks),
        lambda G: 3 * V(G),
        Scalar,
        tuple(groups.values()),
        tuple(group for name, group in groups.items() if name != breaks),
        0.01,
    )


def respects(task: Task, group: Group) -> bool:
    """Whether the data of a task have the symmetry: a group that is kept, or one within O(3) where that is kept."""
    return group in task.kept or task.kept == (O(3),)


def short(group: Group) -> str:
    """A short name: O(2) about an axis for the stabilizers."""
    axes = {Stabilizer(O(3), torch.eye(3)[i]): f"O(2) about {'xyz'[i]}" for i in range(3)}
    return axes.get(group, group.name)
