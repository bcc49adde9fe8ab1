"""`HomBasis.assemble` for layers that assemble at every step of a training: the same maps in fewer operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.reps import HomBasis


@dataclass(frozen=True)
class _Plan:
    """What does not change between calls, in one dtype on one device.

    Attributes:
        order: coefficients in the order of the products ``[dims]``.
        bases: different bases ``[d, size]``.
        counts: blocks with each of them.
        places: for every entry of the map, its place behind a zero among the products ``[size_out * size_in]``.
    """

    order: Tensor
    bases: tuple[Tensor, ...]
    counts: tuple[int, ...]
    places: Tensor


class Assembly:
    """Assembles maps of coefficients; pairs of copies with equal bases, wherever they are, take one matrix product."""

    def __init__(self, maps: HomBasis) -> None:
        self.maps = maps
        self._plans: dict[tuple[torch.dtype, torch.device], _Plan] = {}

    def __call__(self, coefficients: Tensor) -> Tensor:
        """The map ``[size_out, size_in]`` of coefficients ``[dims]``, in their dtype and on their device."""
        key = (coefficients.dtype, coefficients.device)
        if key not in self._plans:
            self._plans[key] = _plan(self.maps, coefficients)
        plan = self._plans[key]
        ordered = coefficients.index_select(0, plan.order)
        parts = [coefficients.new_zeros(1)]
        sizes = [count * len(basis) for count, basis in zip(plan.counts, plan.bases, strict=True)]
        for part, basis in zip(ordered.split(sizes), plan.bases, strict=True):
            parts.append((part.view(-1, len(basis)) @ basis).flatten())
        hom = self.maps.hom
        return torch.cat(parts).index_select(0, plan.places).view(hom.target.size, hom.source.size)


def _plan(maps: HomBasis, like: Tensor) -> _Plan:
    found: list[tuple[Tensor, list[Tensor], list[Tensor]]] = []  # basis, coefficients, entries
    start, width = 0, maps.hom.source.size
    for block in maps.blocks:
        d, m, n = block.shape
        _, k, l = block.basis.shape
        coefficients = start + torch.arange(d * m * n).view(d, m * n).mT
        rows = block.start_out + torch.arange(m * k).view(m, 1, k, 1)
        columns = block.start_in + torch.arange(n * l).view(1, n, 1, l)
        entries = (rows * width + columns).flatten(0, 1).flatten(1)
        flat = block.basis.flatten(1)
        same = next((f for f in found if torch.equal(f[0], flat)), None)
        if same is None:
            same = (flat, [], [])
            found.append(same)
        same[1].append(coefficients)
        same[2].append(entries)
        start += d * m * n
    places = torch.zeros(maps.hom.size, dtype=torch.long)
    entries = torch.cat([torch.cat(f[2]).flatten() for f in found])
    places[entries] = torch.arange(1, len(entries) + 1)
    return _Plan(
        torch.cat([torch.cat(f[1]).flatten() for f in found]).to(like.device),
        tuple(f[0].to(like) for f in found),
        tuple(sum(len(c) for c in f[1]) for f in found),
        places.to(like.device),
    )
