"""The orbit as a frame: the same elements for every input, all of a finite group or a sample of a compact
one.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.actions import Tree
from erlangen.enforce.frames import FrameSet, first_tensor
from erlangen.errors import GroupError, OrbitError
from erlangen.groups import Group


class OrbitFrame:
    """A constant frame.

    The average over all elements of a finite group is the Reynolds operator, exactly equivariant. Over a
    sample of an infinite compact group it is an estimate: elements from `Group.grid` where there is one,
    else from Haar measure.

    Args:
        group: a finite group, or an infinite compact one.
        samples: the number of elements for an infinite group; for a finite one the number that `sample`
            draws.
        seed: seed of the elements drawn from Haar measure.

    Raises:
        GroupError: the group is infinite and not compact, so that no invariant average exists.
        OrbitError: a finite group is too large to list, or `samples` is missing for an infinite one.
    """

    is_enumerable = True

    def __init__(self, group: Group, samples: int | None = None, seed: int = 0) -> None:
        self.group = group
        self.is_whole = group.order != math.inf
        if self.is_whole:
            self.elements = group.elements()
        elif not group.is_compact:
            raise GroupError(
                f"{group.name} is not compact: no average over it is invariant; use how='frames' with "
                "points or vectors in the input (SE, E, Translation, Scaling, Similarity), or pass frame="
            )
        elif samples is None:
            raise OrbitError(f"{group.name} is infinite: pass samples=k to average over k of its elements")
        else:
            self.elements = _spread(group, samples, seed)
        # Tables that a group makes when it first needs them; a compiler must find them made.
        group.inverse(self.elements)
        if group.space_dim:
            group.linear(self.elements)

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """The constant elements with equal weights, shared by all samples."""
        return _uniform(x, self.elements.to(first_tensor(x).device)[None])

    def sample(
        self, x: Tree, k: int, generator: Generator, mask: Tensor | None = None, *, whole: bool = False
    ) -> FrameSet:
        """k fresh random elements for every sample, uniform on the group."""
        batch = first_tensor(x).shape[0]
        elements = self.group.sample((batch, k), generator=generator, dtype=torch.float64)
        return _uniform(x, elements.to(first_tensor(x).device))


def _spread(group: Group, samples: int, seed: int) -> Tensor:
    """Quasi-uniform elements ``[samples, *shape]``, or Haar samples for groups that have no grid."""
    try:
        return group.grid(samples, dtype=torch.float64)
    except GroupError:
        generator = Generator().manual_seed(seed)
        return group.sample(samples, generator=generator, dtype=torch.float64)


def _uniform(x: Tree, elements: Tensor) -> FrameSet:
    """Equal weights; a constant frame is always determined."""
    count = elements.shape[1]
    weights = torch.full((1, count), 1.0 / count, dtype=torch.float64, device=elements.device)
    batch = first_tensor(x).shape[0]
    return FrameSet(elements, weights, torch.full((batch,), math.inf, dtype=torch.float64, device=weights.device))
