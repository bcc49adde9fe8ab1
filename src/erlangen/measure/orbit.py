"""Which elements of a group an audit visits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupError, OrbitError, is_whole
from erlangen.groups import Domain, Group, Range

ALL_UP_TO = 1024
"""Finite groups up to this order are visited whole by default."""

DEFAULT_COUNT = 256
CIRCLE_COUNT = 72

MAX_COUNT = 1 << 22
"""Most elements that an orbit may have: 4 million matrices [4, 4] in float64 take 0.5 GB."""


@dataclass(frozen=True)
class Orbit:
    """Elements ``[K, *shape]``, and how they were chosen.

    ``method`` is "all", "grid", "sample", "given", or "part" of these after Ctrl-C; ``closed`` tells that the set is a
    subgroup, so that a consensus over it is exactly equivariant.
    """

    group: Group
    elements: Tensor
    method: str
    closed: bool

    def __len__(self) -> int:
        return self.elements.shape[0]


def orbit(
    group: Domain,
    elements: int | Tensor | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Orbit:
    """Elements to visit.

    Args:
        group: the group, or a range of it.
        elements: ``None``: all of a finite group of at most 1024, else 72 on a circle and 256 elsewhere. A number: all if
            the group has no more, else a quasi-uniform grid where the group has one, else a seeded sample. A tensor: these.
        seed: seed of the sample.
        dtype, device: of floating elements; placed on `device`.

    Raises:
        OrbitError: a number below 1 or above `MAX_COUNT`, an empty tensor, or something that is neither.
        GroupElementError: a given tensor holds something that is no element, or lies outside of the range.
    """
    whole = group.group if isinstance(group, Range) else group
    if isinstance(elements, Tensor):
        if tuple(elements.shape[1:]) != group.shape or elements.ndim == 0 or elements.shape[0] == 0:
            raise OrbitError(
                f"elements has shape {tuple(elements.shape)}; give a non-empty batch [K"
                + "".join(f", {n}" for n in group.shape)
                + f"] of {group.name}"
            )
        group.check(elements, name="elements")
        if group.element_dtype is None and dtype is not None:
            elements = elements.to(dtype)
        return Orbit(whole, elements.to(device or elements.device), "given", closed=False)
    if elements is not None and not is_whole(elements, 1):
        given = f"= {elements!r}" if isinstance(elements, (int, float, str)) else f"is a {type(elements).__name__}"
        raise OrbitError(
            f"elements {given}: give a positive number of group elements, or a tensor with the elements themselves"
        )
    if not isinstance(seed, int):
        raise OrbitError(f"seed = {seed!r}: give an integer")
    if elements is not None and elements > MAX_COUNT:
        raise OrbitError(f"elements = {elements}: the orbit is too large; at most {MAX_COUNT} elements can be visited")
    count = elements or (CIRCLE_COUNT if group.dim == 1 and group.is_compact else DEFAULT_COUNT)
    if group.order <= (ALL_UP_TO if elements is None else count):
        return Orbit(whole, group.elements(device=device), "all", closed=whole is group)
    try:
        grid = group.grid(count, dtype=dtype, device=device)
    except GroupError:
        generator = Generator().manual_seed(seed)
        return Orbit(whole, group.sample(count, generator=generator, dtype=dtype).to(device or "cpu"), "sample", False)
    return Orbit(whole, grid, "grid", closed=group.name == "SO(2)")
