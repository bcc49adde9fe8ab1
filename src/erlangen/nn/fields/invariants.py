"""What a group leaves alone in a query and a latent: the only way in which fields see where things are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_sizes
from erlangen.geometry.invariants import spatial_invariants
from erlangen.groups import SE, E, Group, Translation
from erlangen.nn.fields._dense import check_positive
from erlangen.numerics import safe_norm

__all__ = ["FieldInvariants", "Pairs"]

Pairs = Literal["translation", "distance", "oriented", "periodic"]
"""Kinds of `FieldInvariants`."""


class FieldInvariants(nn.Module):
    """Invariants of pairs of a query x and a latent at p, and the squared distances that windows use.

    ===============  =========================================================  ===================================
    kind             numbers, with ``r = x - p``                                group
    ===============  =========================================================  ===================================
    ``translation``  ``r``                                                      translations
    ``distance``     ``|r|``                                                    E(n)
    ``oriented``     n = 2: ``o.r``, ``o^r``; n = 3: ``o.r``, ``|r - (o.r) o|``   SE(2); E(3)
    ``periodic``     ``sin, cos`` of ``2 pi r / period``                        translations, on a torus
    ===============  =========================================================  ===================================

    >>> FieldInvariants("translation", 2)(torch.ones(1, 3, 2), torch.zeros(1, 4, 2))[0].shape
    torch.Size([1, 3, 4, 2])

    On a torus the distance of windows is ``period / pi |sin(pi r / period)|``, which is smooth, and |r| where that is small.

    Args:
        kind: of the table.
        dim: coordinates of queries and positions.
        periods: of "periodic", one for each coordinate.

    Raises:
        UnknownNameError: there is no such kind.
        ErlangenError: `dim` does not fit the kind, or periods are missing, superfluous or not positive.
    """

    periods: Tensor

    def __init__(self, kind: Pairs, dim: int, *, periods: Sequence[float] | None = None) -> None:
        super().__init__()
        check_sizes(dim=dim)
        kinds: dict[str, Callable[[], Group]] = {
            "translation": lambda: Translation(dim),
            "distance": lambda: E(dim),
            "oriented": lambda: SE(2) if dim == 2 else E(3),
            "periodic": lambda: Translation(dim),
        }
        if kind not in kinds:
            raise UnknownNameError(f"kind = {kind!r}: choose {', '.join(kinds)}")
        if kind == "oriented" and dim not in (2, 3):
            raise ErlangenError(f"dim = {dim}: orientations are for 2 or 3 coordinates")
        if (kind == "periodic") != (periods is not None) or (periods is not None and len(periods) != dim):
            raise ErlangenError(f"periods = {periods!r}: give {dim} of them for kind 'periodic', and none for others")
        for period in periods or ():
            check_positive("periods", period)
        self.kind, self.dim, self.group = kind, dim, kinds[kind]()
        self.register_buffer("periods", torch.tensor(list(periods or [])))

    @property
    def size(self) -> int:
        """How many numbers there are for each pair."""
        return {"translation": self.dim, "distance": 1, "oriented": 2, "periodic": 2 * self.dim}[self.kind]

    @property
    def oriented(self) -> bool:
        """Whether latents need orientations."""
        return self.kind == "oriented"

    def forward(self, x: Tensor, pos: Tensor, ori: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Invariants ``[B, Q, N, size]`` and squared distances ``[B, Q, N]``.

        Args:
            x: queries ``[B, Q, d]``.
            pos, ori: of latents, ``[B, N, d]``.
        """
        r = x[:, :, None] - pos[:, None]
        if self.kind == "periodic":
            half = math.pi * torch.remainder(r / self.periods, 1.0)
            squares = (half.sin() * self.periods / math.pi).square().sum(-1)
            return torch.cat([(2 * half).sin(), (2 * half).cos()], -1), squares
        squares = r.square().sum(-1)
        if self.kind == "distance":
            return safe_norm(r, keepdim=True), squares
        if not self.oriented:
            return r, squares
        if ori is None:
            raise ShapeError("ori is missing: pairs of kind 'oriented' need unit vectors [B, N, d]")
        return spatial_invariants(r, ori[:, None]), squares
