"""What message passing in space needs of edges: harmonics of directions, functions of lengths, complete graphs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erlangen.errors import DegenerateFrameError, first_index
from erlangen.irreps import spherical_harmonics
from erlangen.tracing import is_traced

_ENVELOPE_POWER = 6


def edge_harmonics(vectors: Tensor, lmax: int, normalization: str = "component") -> Tensor:
    """Harmonics of the directions of edges, ``[..., (lmax + 1)^2]``: irreps ``Irreps.spherical_harmonics(lmax)``.

    Args:
        vectors: ``[..., 3]``, float32 or float64.
        lmax: largest degree.
        normalization: as for `erlangen.irreps.spherical_harmonics`; "component" suits `TensorProduct`.

    Raises:
        DegenerateFrameError: an edge has length zero and so no direction; the message names the first. Not looked for
            under `torch.compile` and `torch.func`, where such an edge has harmonics of degree 0 alone.
        ShapeError: the last dimension is not 3.
        DtypeError, IrrepsError: as `erlangen.irreps.spherical_harmonics`.
    """
    Y = spherical_harmonics(lmax, vectors, normalization=normalization)
    check_directions(vectors)
    return Y


def check_directions(vectors: Tensor) -> None:
    """Raise `DegenerateFrameError` where edges ``[..., 3]`` have length zero; not under compilers and transforms."""
    if is_traced():
        return
    zero = (vectors == 0).all(-1)
    if bool(zero.any()):
        raise DegenerateFrameError(
            f"edge {list(first_index(zero))} has length zero and therefore no direction ({int(zero.sum())} such edges); "
            "remove edges from a node to itself, and merge nodes at one place"
        )


def radial_basis(lengths: Tensor, cutoff: float, num_basis: int) -> Tensor:
    """Bessel functions ``sin(n pi r / c) / r``, ``[..., num_basis]`` (Gasteiger, Gross and Günnemann 2020, equation 7).

    Scaled so that the mean square over a ball of the radius c is 1. `lengths` are ``[...]``, greater than zero.
    """
    n = torch.arange(1, num_basis + 1, dtype=lengths.dtype, device=lengths.device)
    u = (lengths / cutoff)[..., None]
    return math.sqrt(2 / 3) * torch.sin(math.pi * n * u) / u


def smooth_cutoff(lengths: Tensor, cutoff: float) -> Tensor:
    """A polynomial from 1 at r = 0 to 0 from the cutoff on, where two derivatives vanish (same paper, equation 8)."""
    p = _ENVELOPE_POWER
    u = lengths / cutoff
    value = 1 - u**p * ((p + 1) * (p + 2) / 2 - u * (p * (p + 2) - u * (p * (p + 1) / 2)))
    return torch.where(u < 1, value, 0.0)


def complete_edges(graphs: int, nodes: int, device: torch.device | None = None) -> Tensor:
    """All ordered pairs of different nodes of graphs that lie one after the other, int64 ``[2, graphs n (n - 1)]``."""
    target = torch.arange(nodes, device=device)[:, None].expand(nodes, max(nodes - 1, 0))
    source = (target + torch.arange(1, max(nodes, 1), device=device)) % max(nodes, 1)
    starts = nodes * torch.arange(graphs, device=device)
    return torch.stack([source, target])[:, None].add(starts[:, None, None]).flatten(1)
