"""Five charged particles and where they are ten frames later: the n-body task of the field."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TypeAlias

from torch import Generator, Tensor

from erlangen.simulate.nbody import charged

__all__ = ["Charges", "charges_ahead", "drifted"]

Charges: TypeAlias = tuple[dict[str, Tensor], Tensor]
"""Positions, velocities and features of pairs of particles at one moment, and their positions later."""


@functools.lru_cache(maxsize=4)
def charges_ahead(samples: int, seed: int = 0, charges: bool = False) -> Charges:
    """Five charges at frame 30, counted without the start, and where they are at frame 40; see `charged`.

    Results of the last four calls are kept, so do not change them in place.

    >>> x, later = charges_ahead(2)
    >>> x["pos"].shape, x["edge_attr"].shape, later.shape
    (torch.Size([2, 5, 3]), torch.Size([2, 5, 5, 1]), torch.Size([2, 5, 3]))

    Args:
        samples: systems, n.
        seed: of their start.
        charges: whether particles have their charge, too, as ``x["charge"] [n, 5, 1]``.

    Returns:
        ``{"pos", "vel": [n, 5, 3], "edge_attr": [n, 5, 5, 1]}``, float32, the last of which are the products of two charges,
        and the later positions ``[n, 5, 3]``.
    """
    data = charged(samples, steps=4100, generator=Generator().manual_seed(seed))
    x = {"pos": data.pos[:, 31], "vel": data.vel[:, 31], "edge_attr": data.coupling[..., None]}
    return x | ({"charge": data.charges} if charges else {}), data.pos[:, 41]


def drifted(x: Mapping[str, Tensor], speed: float = 1.0) -> Tensor:
    """Where particles are one unit of time later if they keep their velocity, ``pos + speed * vel``; with speed 0 they stay.

    What a model of their motion has to beat; frames 30 and 40 of `charges_ahead` are one unit of time apart.

    >>> x, later = charges_ahead(2)
    >>> drifted(x).shape
    torch.Size([2, 5, 3])
    """
    return x["pos"] + speed * x["vel"]
