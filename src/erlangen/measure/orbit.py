"""Which elements of a group an audit visits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupError, OrbitError
from erlangen.groups import Group

ALL_UP_TO = 1024
"""Finite groups up to this order are visited whole by default."""

DEFAULT_COUNT = 256
CIRCLE_COUNT = 72


@dataclass(frozen=True)
class Orbit:
    """Elements ``[K, *shape]``, and how they were chosen.

    ``method`` is "all", "grid", "sample" or "given"; ``closed`` tells that the set is a subgroup, so that a consensus
    over it is exactly equivariant.
    """

    group: Group
    elements: Tensor
    method: str
    closed: bool

    def __len__(self) -> int:
        return self.elements.shape[0]


def orbit(
    group: Group,
    elements: int | Tensor | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Orbit:
    """Elements to visit.

    Args:
        group: the group.
        elements: ``None``: all of a finite group of at most 1024, else 72 on a circle and 256 elsewhere. A number: all if
            the group has no more, else a quasi-uniform grid where the group has one, else a seeded sample. A tensor: these.
        seed: seed of the sample.
        dtype, device: of floating elements; placed on `device`.

    Raises:
        OrbitError: a number below 1, an empty tensor.
        GroupElementError: a given tensor holds something that is no element.
    """
    if isinstance(elements, Tensor):
        group.check(elements, name="elements")
        if elements.ndim != len(group.shape) + 1 or elements.shape[0] == 0:
            raise OrbitError(
                f"elements has shape {tuple(elements.shape)}; give a non-empty batch [K"
                + "".join(f", {n}" for n in group.shape)
                + f"] of {group.name}"
            )
        if group.element_dtype is None and dtype is not None:
            elements = elements.to(dtype)
        return Orbit(group, elements.to(device or elements.device), "given", closed=False)
    if elements is not None and (isinstance(elements, bool) or elements < 1):
        raise OrbitError(f"elements = {elements}: give a positive number of group elements, or the elements themselves")
    count = elements or (CIRCLE_COUNT if group.dim == 1 and group.is_compact else DEFAULT_COUNT)
    if group.order <= (ALL_UP_TO if elements is None else count):
        return Orbit(group, group.elements(device=device), "all", closed=True)
    try:
        grid = group.grid(count, dtype=dtype, device=device)
    except GroupError:
        generator = Generator().manual_seed(seed)
        return Orbit(group, group.sample(count, generator=generator, dtype=dtype).to(device or "cpu"), "sample", False)
    return Orbit(group, grid, "grid", closed=group.name == "SO(2)")
