"""er.augment: move every sample of a batch by its own random group element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.actions import Tree, tree_leaves
from erlangen.errors import ErlangenError, OrbitError, SymmetryError
from erlangen.measure.checks import batch_length
from erlangen.measure.orbit import orbit
from erlangen.symmetry import Symmetry


@dataclass
class Augment:
    """A transform ``augment(x, y, generator=...) -> (g x, g y)``; see `augment`."""

    symmetry: Symmetry
    probability: float = 1.0
    elements: Tensor | None = None

    def __call__(self, x: Tree, y: Tree | None = None, *, generator: Generator | None = None) -> Any:
        """Move a batch; returns ``(x, y)``, or x alone when y is not given."""
        samples = batch_length(x)
        g = self.draw(samples, generator, tree_leaves(x)[0])
        moved = self.symmetry.input.act(g, x)
        return moved if y is None else (moved, self.symmetry.output.act(g, y))

    def draw(self, samples: int, generator: Generator | None, like: Tensor) -> Tensor:
        """One element per sample, in the dtype and on the device of `like`."""
        group = self.symmetry.group
        if self.elements is None:
            dtype = like.dtype if like.is_floating_point() else None
            g = group.sample(samples, generator=generator, dtype=dtype).to(like.device)
        else:
            index = torch.randint(len(self.elements), (samples,), generator=generator)
            g = self.elements[index].to(like.device)
        if self.probability < 1:
            stay = (torch.rand(samples, generator=generator) >= self.probability).to(like.device)
            identity = group.identity(device=like.device).to(g.dtype)
            g = torch.where(stay.reshape(-1, *([1] * len(group.shape))), identity, g)
        return g


def augment(symmetry: Symmetry, *, probability: float = 1.0, elements: Tensor | None = None) -> Augment:
    """Random symmetry transformations of inputs together with their targets, for training.

    Args:
        symmetry: inputs move by its input action, targets by its output action.
        probability: share of the samples that are moved at all.
        elements: draw from these ``[K, *shape]`` instead of the whole group (Haar measure where the group is compact, its
            documented proposal elsewhere).

    Raises:
        SymmetryError: not a `Symmetry`.
        ErlangenError: a probability outside 0..1.
        OrbitError, GroupElementError: `elements` is empty or no batch, or holds something that is no element.
    """
    if not isinstance(symmetry, Symmetry):
        raise SymmetryError(f"symmetry is a {type(symmetry).__name__}; pass er.Symmetry(group, input=..., output=...)")
    if not 0 <= probability <= 1:
        raise ErlangenError(f"probability = {probability}: give a number from 0 to 1")
    if elements is not None:
        if not isinstance(elements, Tensor):
            raise OrbitError(f"elements is a {type(elements).__name__}; give a tensor of elements [K, ...]")
        elements = orbit(symmetry.group, elements).elements
    return Augment(symmetry, probability, elements)
