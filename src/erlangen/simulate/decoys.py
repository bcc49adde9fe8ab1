"""Wrong models of a protein that keep its bonds and angles: turns about bonds, soft modes, loops built anew, shifted sequences.

A chain is its atoms N, CA, C and O, ``[N, 4, 3]``; torsions are phi and psi of each residue, ``[N, 2]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_finite, check_floating, check_integer

__all__ = ["DECOYS", "Decoy", "DecoyKind", "SoftTorsions", "decoy_maker", "ideal_cb", "soft_torsions", "turn_torsions"]

DecoyKind = Literal["torsions", "modes", "loop", "shift"]
DECOYS: tuple[DecoyKind, ...] = get_args(DecoyKind)
"""What a decoy can be."""


class Decoy(NamedTuple):
    """A model of a chain.

    Attributes:
        kind: what was done.
        pos: ``[M, 4, 3]``.
        rows: int64 ``[M]``, which residue of the chain each one of the model is; a shifted model is shorter.
    """

    kind: DecoyKind
    pos: Tensor
    rows: Tensor


def ideal_cb(pos: Tensor) -> Tensor:
    """Where CB is in the mean L amino acid, from N, CA and C, ``[N, 3 or more, 3] -> [N, 3]``; glycine has none.

    Source: coefficients that are in common use since trRosetta (Yang and others, PNAS 117, 2020).
    """
    b, c = pos[:, 1] - pos[:, 0], pos[:, 2] - pos[:, 1]
    return -0.58273431 * torch.linalg.cross(b, c) + 0.56802827 * b - 0.54067466 * c + pos[:, 1]


class SoftTorsions(NamedTuple):
    """Modes of an elastic network.

    Attributes:
        turns: radians of phi and psi ``[modes, N, 2]``; each alone moves CA by 1 Angstrom in the root mean square, to first
            order and apart from motions of the whole, and two of them do so at right angles.
        stiffness: energy of that, up to one factor ``[modes]``, ascending.
    """

    turns: Tensor
    stiffness: Tensor


def turn_torsions(pos: Tensor, by: Tensor) -> Tensor:
    """The chain with phi and psi of each residue turned by these angles; the first residue's N and CA stay.

    >>> pos = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> back = turn_torsions(turn_torsions(pos, torch.ones(5, 2)), -torch.ones(5, 2))
    >>> bool(torch.allclose(back, pos))
    True

    Args:
        pos: ``[N, 4, 3]``.
        by: ``[N, 2]``, radians.
    """
    _check_chain(pos)
    if by.shape != (len(pos), 2):
        raise ShapeError(f"by has shape {tuple(by.shape)}; give phi and psi of each residue [{len(pos)}, 2]")
    # Motions about the original axes, the later ones first: x -> M_1 M_2 ... x. Products up to k by doubling.
    start, end = pos[:, :2], pos[:, 1:3]
    moves = _about(start.flatten(0, 1), end.flatten(0, 1), by.to(pos).flatten())
    reach = 1
    while reach < len(moves):
        moves = torch.cat([moves[:reach], moves[:-reach] @ moves[reach:]])
        reach *= 2
    before = torch.cat([torch.eye(4).to(pos)[None], moves[1:-1:2]])  # all up to the residue before
    placed = torch.stack([before, before, moves[0::2], moves[1::2]], 1)  # N and CA, then C after phi, O after psi
    return (placed[..., :3, :3] @ pos[..., None])[..., 0] + placed[..., :3, 3]


def soft_torsions(pos: Tensor, modes: int = 10, *, within: float = 12.0) -> SoftTorsions:
    """The softest modes of an elastic network of the chain, in torsions.

    Springs join CA within a radius, stiffness one over the squared distance, as in anisotropic network models; only phi and
    psi move, so that a finite step keeps all bonds and angles, and motions of the whole count as none.
    """
    _check_chain(pos)
    check_integer("modes", modes, 1)
    if modes > 2 * len(pos) - 5:
        raise ErlangenError(f"modes = {modes}; a chain of {len(pos)} has {2 * len(pos) - 5}")
    ca = pos[:, 1] - pos[:, 1].mean(0)
    shift = pos - pos[:, 1].mean(0)
    axis = torch.nn.functional.normalize(shift[:, 1:3] - shift[:, :2], dim=-1).flatten(0, 1)  # [2N, 3]
    origin = shift[:, :2].flatten(0, 1)
    moved = torch.linalg.cross(axis[:, None].expand(-1, len(pos), 3), ca[None] - origin[:, None])
    after = torch.arange(len(pos)) > torch.arange(len(pos)).repeat_interleave(2)[:, None]
    # Those of the first residue turn all that the network sees as a whole, those of the last one nothing.
    slopes = (moved * after[..., None])[2:-2].flatten(1).mT  # [3N, 2N - 4]
    eye = torch.eye(3).to(pos)
    turns = torch.stack([torch.linalg.cross(axis_.expand_as(ca), ca) for axis_ in eye])
    whole = torch.cat([eye[:, None].expand(3, len(pos), 3), turns]).flatten(1).mT
    Q = torch.linalg.qr(whole).Q
    slopes = slopes - Q @ (Q.mT @ slopes)
    i, j = torch.triu_indices(len(pos), len(pos), 1)
    step = ca[j] - ca[i]
    close = step.norm(dim=-1) < within
    i, j, step = i[close], j[close], step[close]
    rows = slopes.unflatten(0, (len(pos), 3))
    stretch = ((rows[j] - rows[i]) * step[..., None]).sum(1) / step.square().sum(-1, keepdim=True)
    mass = slopes.mT @ slopes / len(pos)
    root = torch.linalg.cholesky(mass + 1e-9 * mass.diagonal().mean() * torch.eye(len(mass)).to(pos))
    inner = torch.linalg.solve_triangular(root, stretch.mT, upper=False)
    values, vectors = torch.linalg.eigh(inner @ inner.mT)
    # N places of CA, N - 1 steps of fixed length: 2N - 5 inner freedoms, so that one of 2N - 4 combinations moves nothing.
    kept = slice(1, modes + 1)
    soft = torch.linalg.solve_triangular(root.mT, vectors[:, kept], upper=True)
    return SoftTorsions(torch.nn.functional.pad(soft.mT.unflatten(1, (len(pos) - 2, 2)), (0, 0, 1, 1)), values[kept])


def decoy_maker(pos: Tensor) -> Callable[[DecoyKind, Generator], Decoy]:
    """A function that makes decoys of one chain, ``make(kind, generator)``; what all share is computed once.

    - "torsions": one to three segments of 5 to 20 residues, each with normal noise of 2 to 25 degrees on phi and psi;
    - "modes": a random step along the ten softest modes, with a deviation of 0.5 to 8 Angstrom to first order;
    - "loop": 8 to 12 residues with noise of 10 to 40 degrees, closed again: all after them stays where it is;
    - "shift": each residue sits where the one 1 to 4 places further is.

    Raises:
        ErlangenError: the chain has fewer than 20 residues.
        UnknownNameError: of the function, for another kind.
    """
    _check_chain(pos)
    if len(pos) < 20:
        raise ErlangenError(f"pos has {len(pos)} residues; give a chain of 20 or more")
    modes: list[SoftTorsions] = []

    def make(kind: DecoyKind, generator: Generator) -> Decoy:
        n = len(pos)
        rows = torch.arange(n)
        if kind not in DECOYS:
            raise UnknownNameError(f"kind = {kind!r}; known are {', '.join(DECOYS)}")
        if kind == "shift":
            by = int(torch.randint(1, 5, (), generator=generator))
            return Decoy(kind, pos[by:].clone(), rows[: n - by])
        if kind == "loop":
            return Decoy(kind, _rebuilt(pos, generator), rows)
        turns = torch.zeros(n, 2, dtype=pos.dtype)
        if kind == "torsions":
            for _ in range(int(torch.randint(1, 4, (), generator=generator))):
                length = int(torch.randint(5, 21, (), generator=generator).clamp(max=n))
                begin = int(torch.randint(0, n - length + 1, (), generator=generator))
                noise = torch.randn(length, 2, generator=generator, dtype=pos.dtype)
                turns[begin : begin + length] += math.radians(_between(2, 25, generator)) * noise
        else:
            if not modes:
                modes.append(soft_torsions(pos))
            soft = modes[0]
            weights = torch.randn(len(soft.turns), generator=generator, dtype=pos.dtype) / soft.stiffness.sqrt()
            turns = torch.einsum("m,mnk->nk", weights, soft.turns) * (_between(0.5, 8, generator) / weights.norm())
        return Decoy(kind, turn_torsions(pos, turns), rows)

    return make


# --- inside ----------------------------------------------------------------------------------------------------------
def _between(low: float, high: float, generator: Generator) -> float:
    """A random number, uniform in its logarithm."""
    return low * (high / low) ** float(torch.rand((), generator=generator, dtype=torch.float64))


def _rebuilt(pos: Tensor, generator: Generator) -> Tensor:
    """A loop with other torsions and the same ends."""
    length = int(torch.randint(8, 13, (), generator=generator))
    begin = int(torch.randint(1, len(pos) - length - 1, (), generator=generator))
    piece = pos[begin : begin + length + 1]  # and the residue after it, which has to stay
    noise = torch.randn(length + 1, 2, generator=generator, dtype=pos.dtype)
    noise[-1] = 0
    size = math.radians(_between(10, 40, generator))
    for _ in range(12):
        closed = _closed(piece, turn_torsions(piece, size * noise))
        if closed is not None:
            found = pos.clone()
            found[begin : begin + length] = closed[:-1]
            return found
        size /= 1.5  # so far from the start no way back was found
    raise ErlangenError("a loop cannot be closed; its chain is stretched to its full length")


def _closed(goal: Tensor, piece: Tensor) -> Tensor | None:
    """Torsions turned, by Gauss and Newton, until the last residue is where it belongs; None where that fails."""
    target = goal[-1, :3].flatten()
    for _ in range(60):
        miss = target - piece[-1, :3].flatten()
        if float(miss.abs().max()) < 1e-10:
            return piece
        ends = piece[:-1]
        axis = torch.nn.functional.normalize(ends[:, 1:3] - ends[:, :2], dim=-1).flatten(0, 1)
        arm = piece[-1, None, :3] - ends[:, :2].flatten(0, 1)[:, None]
        J = torch.linalg.cross(axis[:, None].expand_as(arm), arm).flatten(1).mT  # [9, 2L]
        step = torch.linalg.pinv(J, rtol=1e-6) @ miss  # of all steps that close the gap, the shortest
        step = step * min(1.0, 0.3 / float(step.abs().max()))
        piece = turn_torsions(piece, torch.cat([step.unflatten(0, (-1, 2)), step.new_zeros(1, 2)]))
    return None


def _about(start: Tensor, end: Tensor, angle: Tensor) -> Tensor:
    """Motions ``[K, 4, 4]`` about the axes from start to end."""
    u = torch.nn.functional.normalize(end - start, dim=-1)
    zero = torch.zeros_like(angle)
    x, y, z = u.unbind(-1)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    R = torch.eye(3).to(u) + angle.sin()[:, None, None] * K + (1 - angle.cos())[:, None, None] * (K @ K)
    moves = torch.eye(4).to(u).repeat(len(u), 1, 1)
    moves[:, :3, :3] = R
    moves[:, :3, 3] = start - (R @ start[..., None])[..., 0]
    return moves


def _check_chain(pos: Tensor) -> None:
    check_floating(pos, "pos")
    if pos.ndim != 3 or pos.shape[1:] != (4, 3) or len(pos) < 2:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; give N, CA, C and O of each residue [N, 4, 3]")
    check_finite(pos, "pos")
