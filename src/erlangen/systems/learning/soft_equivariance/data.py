"""Inertia, cosine, and pedestrians: data that have some symmetries and break others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.actions import Custom
from erlangen.data import pedestrians
from erlangen.errors import DataError
from erlangen.groups import CSO, SO, Group, O, Scaling, Stabilizer
from erlangen.reps import Scalar, T, V
from erlangen.survey import Sizes, Split
from erlangen.symmetry import Symmetry
from erlangen.systems.learning.soft_equivariance.rivals import RepOf

Pair = tuple[Tensor, Tensor]
Breaks: TypeAlias = Literal["nothing", "scaling", "rotation"]
SEEN, AHEAD = 8, 12
"""Frames of a pedestrian that are seen, and that are forecast."""


@dataclass(frozen=True)
class Task:
    """A function of random inputs, with symmetries that are known to hold or to be broken.

    Attributes:
        name: of its table.
        answer: targets of inputs.
        inputs: random inputs, from a number of samples, a generator and a shift.
        rep_in, rep_out: make the representations of both.
        candidates: the whole group, whose strength is zero, then the others.
        kept: the largest candidates that the data respect.
        strength: where the other strengths start.
        decay: weight of the squares of all parameters.
        power: of the adjustment, see `erlangen.relax`.
    """

    name: str
    answer: Callable[[Tensor], Tensor]
    inputs: Callable[[int, Generator, float], Tensor]
    rep_in: RepOf
    rep_out: RepOf
    candidates: tuple[Group, ...]
    kept: tuple[Group, ...]
    strength: float
    decay: float
    power: float = 2.0

    def draw(self, samples: int, generator: Generator, shift: float = 0.0) -> Pair:
        """Inputs and targets."""
        x = self.inputs(samples, generator, shift)
        return x, self.answer(x)

    @functools.cached_property
    def square(self) -> float:
        """Mean square of the targets, by which errors and penalties are divided."""
        return float(self.draw(20_000, Generator().manual_seed(0))[1].square().mean())

    @property
    def symmetries(self) -> list[Symmetry]:
        """The candidates with their actions."""
        return [symmetry(group, self.rep_in, self.rep_out) for group in self.candidates]


def symmetry(group: Group, rep_in: RepOf, rep_out: RepOf) -> Symmetry:
    """A group with its representations as actions."""
    moves = [Custom(rep.apply, label=rep.name) for rep in (rep_in(group), rep_out(group))]
    return Symmetry(group, input=moves[0], output=moves[1])


# --- inertia ---------------------------------------------------------------------------------------------------------
def inertia(x: Tensor, eps: float, axis: int = 2) -> Tensor:
    """Of five masses and positions ``[B, 20]`` the tensors ``I + eps (I e) e^T`` with the axis e ``[B, 9]``."""
    mass, pos = x[:, :5, None, None], x[:, 5:].unflatten(-1, (5, 3))
    squares = pos.square().sum(-1)[..., None, None] * torch.eye(3, dtype=x.dtype)
    tensor = (mass * (squares - pos[..., :, None] * pos[..., None, :])).sum(1)
    tensor[..., axis] = (1 + eps) * tensor[..., axis]
    return tensor.flatten(1)


def masses(samples: int, generator: Generator, shift: float) -> Tensor:
    """Masses softplus of normal numbers, normal positions ``[B, 20]``; the shift moves what is normal."""
    x = shift + torch.randn(samples, 20, generator=generator)
    x[:, :5] = F.softplus(x[:, :5])
    return x


def inertia_task(eps: float, axis: int = 2) -> Task:
    """The inertia tensor, stretched along an axis by `eps`; candidates are O(3), then O(2) about z, x and y."""
    whole = O(3)
    about = {k: Stabilizer(whole, torch.eye(3)[k]) for k in (2, 0, 1)}
    return Task(
        f"inertia, eps = {eps:g}" + ("" if axis == 2 else f" along {'xyz'[axis]}"),
        lambda x: inertia(x, eps, axis),
        masses,
        lambda G: 5 * Scalar(G) + 5 * V(G),
        T(2),
        (whole, *about.values()),
        (whole,) if eps == 0 else (about[axis],),
        100.0,
        2e-4,
    )


# --- cosine ----------------------------------------------------------------------------------------------------------
def cosine(x: Tensor, breaks: Breaks) -> Tensor:
    """Of three vectors ``[B, 9]`` the mean cyclic cosine similarity plus what breaks a symmetry ``[B, 1]``.

    Scaling is broken by the mean length, rotation by the ratio of the 1-norms of the first and second half of the numbers.
    """
    vectors = x.unflatten(-1, (3, 3))
    y = F.cosine_similarity(vectors, vectors.roll(1, 1), dim=-1).mean(1)
    if breaks == "scaling":
        y = y - vectors.norm(dim=-1).mean(1)
    if breaks == "rotation":
        y = y + x[:, :4].abs().sum(1) / x[:, 4:].abs().sum(1)
    return y[:, None]


def cosine_task(breaks: Breaks) -> Task:
    """The cosine similarity, with one of two symmetries broken; the whole group is that of both together."""
    groups = {"rotation": SO(3), "scaling": Scaling(3)}
    kept = tuple(group for name, group in groups.items() if name != breaks)
    return Task(
        f"cosine, {breaks} broken",
        lambda x: cosine(x, breaks),
        lambda n, generator, shift: shift + torch.randn(n, 9, generator=generator),
        lambda G: 3 * V(G),
        Scalar,
        (CSO(3), *groups.values()),
        kept if len(kept) == 1 else (CSO(3),),
        0.01,
        2e-5,
    )


# --- pedestrians -----------------------------------------------------------------------------------------------------
def walks_task() -> Task:
    """Forecasts of pedestrians: from displacements to the last place seen, to those that follow. There is no `answer`.

    The plane has O(2), and of it rotations and the two reflections along the axes of the recording as candidates; which of
    them people keep is not known, and `kept` is all of O(2).
    """
    flips = [Stabilizer(O(2), torch.eye(2)[k]) for k in (0, 1)]
    return Task(
        "pedestrians",
        torch.clone,
        lambda n, generator, shift: shift + torch.randn(n, 2 * (SEEN - 1), generator=generator),
        lambda G: (SEEN - 1) * V(G),
        lambda G: AHEAD * V(G),
        (O(2), SO(2), *flips),
        (O(2),),
        0.2,
        0.0,
        5.0,
    )


def walks(folder: str | Path, left_out: int, sizes: Sizes) -> Split:
    """Walks from recordings of the ETH/UCY kind: all but one train and choose, the one left out is tested.

    Args:
        folder: text files that `erlangen.data.pedestrians` reads.
        left_out: number of the file that is tested, by name, round and round.
        sizes: most walks of each kind. The first four fifths of a recording train, the rest chooses rates.

    Returns:
        Inputs ``[N, 14]`` and targets ``[N, 24]``, both relative to the last place that is seen, in metres.

    Raises:
        DataError: the folder has fewer than two text files.
    """
    files = sorted(file for file in Path(folder).glob("*.txt"))
    if len(files) < 2:
        raise DataError(f"{str(folder)!r} has {len(files)} text files; give a folder with two recordings or more")
    train, validation, test = [], [], []
    for number, file in enumerate(files):
        crowds = pedestrians(file, SEEN + AHEAD)
        if number == left_out % len(files):
            test.append(crowds.pos[crowds.mask])
            continue
        # Windows that overlap the end of the first part are dropped, so that no step is in both.
        last = int(crowds.frame.min() + 4 * (crowds.frame.max() - crowds.frame.min()) // 5)
        early, late = crowds.frame < last - 10 * (SEEN + AHEAD), crowds.frame >= last
        train.append(crowds.pos[early][crowds.mask[early]])
        validation.append(crowds.pos[late][crowds.mask[late]])
    generator = Generator().manual_seed(left_out)

    def pair(paths: list[Tensor], most: int) -> Pair:
        path = torch.cat(paths)
        path = path[torch.randperm(len(path), generator=generator)[:most]]
        path = path - path[:, SEEN - 1 : SEEN]
        return path[:, : SEEN - 1].flatten(1), path[:, SEEN:].flatten(1)

    return Split(*(pair(paths, most) for paths, most in zip((train, validation, test), sizes, strict=True)))


# --- names -----------------------------------------------------------------------------------------------------------
def respects(task: Task, group: Group) -> bool:
    """Whether the data of a task have the symmetry: a group that is kept, or one within the whole group where that is."""
    return group in task.kept or task.kept[0] == task.candidates[0]


def short(group: Group) -> str:
    """A short name: O(2) about an axis for the stabilizers, and both factors of rotations with scalings."""
    names = {Stabilizer(O(3), torch.eye(3)[i]): f"O(2) about {'xyz'[i]}" for i in range(3)}
    names |= {Stabilizer(O(2), torch.eye(2)[i]): f"reflection that keeps {'xy'[i]}" for i in range(2)}
    names[CSO(3)] = "SO(3) x Scaling(3)"
    return names.get(group, group.name)
