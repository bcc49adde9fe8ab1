"""Finite groups as tables: the index of an element, and cosets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from erlangen.errors import GroupElementError, RepresentationError, first_index
from erlangen.groups import MAX_ENUMERATION, Group
from erlangen.groups.base import order_text
from erlangen.reps.embedding import embedding

_CHUNK = 4_000_000  # products or distances computed at once


@dataclass(frozen=True)
class Table:
    """All elements of a finite group, and the way back from an element to its index."""

    group: Group

    @staticmethod
    def of(group: Group) -> Table:
        """The table of a group, kept for the groups used last.

        Raises:
            RepresentationError: the group is infinite or has more than 50,000 elements.
        """
        if group.order > MAX_ENUMERATION:
            raise RepresentationError(
                f"{group.name} has order {order_text(group)}, but a finite group of at most {MAX_ENUMERATION:,} elements is "
                "needed here; restrict to a finite subgroup, or use V and T(p, q)"
            )
        return _table(group)

    @cached_property
    def elements(self) -> Tensor:
        """All elements ``[order, *shape]``, the identity first."""
        return self.group.elements()

    @cached_property
    def _codes(self) -> tuple[Tensor, Tensor]:
        """Sorted codes of integer elements, and the index of each."""
        codes, index = self._encode(self.elements).sort()
        return codes, index

    def _encode(self, g: Tensor) -> Tensor:
        """Integer elements as one number, ``[...]``: their entries are digits."""
        rows = g.flatten(g.ndim - len(self.group.shape)) if self.group.shape else g[..., None]
        base = int(self.elements.max()) + 1
        powers = base ** torch.arange(rows.shape[-1], device=g.device)
        return (rows * powers).sum(-1)

    def index(self, g: Tensor) -> Tensor:
        """Position ``[...]`` of elements ``[..., *shape]`` in `elements`, int64.

        Raises:
            GroupElementError: an integer element is not in the table.
        """
        batch = self.group.batch_shape(g)
        if g.is_floating_point():
            rows = self.elements.to(g).flatten(1)
            return torch.cdist(g.reshape(-1, rows.shape[-1]), rows).argmin(-1).reshape(batch)
        if not self.group.shape:
            found, index = g.long(), g.long()
            bad = (found < 0) | (found >= len(self.elements))
        else:
            codes, order = (t.to(g.device) for t in self._codes)
            wanted = self._encode(g)
            place = torch.searchsorted(codes, wanted).clamp(max=len(codes) - 1)
            index, bad = order[place], codes[place] != wanted
        if bool(bad.any()):
            at = first_index(bad)
            raise GroupElementError(
                f"g{list(at) if at else ''} is not an element of {self.group.name}: {g[at].tolist()}"
            )
        return index

    def cosets(self, subgroup: Group) -> tuple[Tensor, Tensor]:
        """Left cosets gH: the label of each element's coset ``[order]``, and each coset's first element.

        Raises:
            RepresentationError: `subgroup` is no subgroup of the group.
        """
        inside = embedding(subgroup, self.group)(Table.of(subgroup).elements)
        rows = max(1, _CHUNK // (len(inside) * math.prod(self.group.shape)))
        smallest = [
            self.index(self.group.compose(part[:, None], inside)).amin(-1) for part in self.elements.split(rows)
        ]
        first, labels = torch.cat(smallest).unique(return_inverse=True)
        return labels, first


@lru_cache(maxsize=16)
def _table(group: Group) -> Table:
    return Table(group)
