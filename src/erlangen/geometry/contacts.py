"""Who touches whom in a packing of balls: cells of the power diagram within the balls, by rays."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, check_finite, check_floating, check_integer

__all__ = ["BallCells", "ball_cells", "burial"]

CLOSEST = 0.05
"""Least distance from a centre to the plane between two balls, so that a centre stays in its own cell where balls clash."""


class BallCells(NamedTuple):
    """Result of `ball_cells`.

    Attributes:
        volume: of the cell of each ball, ``[A]``.
        exposed: area of each sphere that no other ball's cell meets, ``[A]``.
        pairs: int64 ``[P, 2]``, balls i and j that touch, both ways round, in order.
        area: ``[P]``, of the sphere of i behind which j lies.
    """

    volume: Tensor
    exposed: Tensor
    pairs: Tensor
    area: Tensor


def ball_cells(pos: Tensor, radius: Tensor, *, frames: Tensor | None = None, rays: int = 64) -> BallCells:
    """Cells of balls that overlap: each ball, cut at the planes where two spheres meet.

    >>> pair = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]], dtype=torch.float64)
    >>> cells = ball_cells(pair, torch.full((2,), 2.0, dtype=torch.float64), rays=20000)
    >>> round(float(cells.area[0]) / math.pi, 2)  # the cap beyond x = 1 has the area 2 pi r h, here 4 pi
    4.0

    From every centre rays go out until they meet the first plane or the sphere. The shares of rays give areas, the lengths
    volumes; both converge as the number of rays grows. Areas are those of the sphere, not of the plane, as in the first
    definition of contact areas of atoms (McConkey, Sobolev and Edelman, Bioinformatics 18, 2002).

    Args:
        pos: centres ``[A, 3]``.
        radius: ``[A]``; of atoms, that of van der Waals and of a probe together.
        frames: rotations ``[A, 3, 3]`` that turn the rays of each ball, columns are axes. With frames that move along, motions
            of the balls change nothing but rounding.
        rays: of each ball, spread evenly (Fibonacci's spiral).

    Raises:
        ShapeError: shapes do not fit.
        ErlangenError: a radius that is not positive.
        DataError: two centres coincide; the message names them.
        NotFiniteError: a centre that is not finite.
    """
    check_floating(pos, "pos")
    check_integer("rays", rays, 1)
    if pos.ndim != 2 or pos.shape[1] != 3 or radius.shape != pos.shape[:1]:
        raise ShapeError(
            f"pos has shape {tuple(pos.shape)} and radius {tuple(radius.shape)}; give centres [A, 3] and radii [A]"
        )
    if frames is not None and frames.shape != (len(pos), 3, 3):
        raise ShapeError(f"frames has shape {tuple(frames.shape)}; give rotations [{len(pos)}, 3, 3]")
    check_finite(pos, "pos")
    if not bool((radius > 0).all()):
        raise ErlangenError("radius has an entry that is not positive")
    near, count = _neighbours(pos, radius)
    real = torch.arange(near.shape[1], device=pos.device) < count[:, None]
    step = torch.where(real[..., None], pos[near] - pos[:, None], 1.0)
    far = step.norm(dim=-1)
    if bool((far[real] < 1e-6).any()):
        i, k = ((far < 1e-6) & real).nonzero()[0].tolist()
        raise DataError(f"pos[{i}] and pos[{int(near[i, k])}] coincide; two atoms cannot be at one place")
    plane = (far.square() + radius[:, None].square() - radius[near].square()) / (2 * far)
    # Directions over distances of planes: the largest product with a ray is one over the way to the first plane.
    inverse = torch.where(real[..., None], step / (far * plane.clamp(min=CLOSEST))[..., None], 0.0)
    u = _spiral(rays).to(pos)
    u = u.expand(len(pos), rays, 3) if frames is None else u @ frames.mT
    if near.shape[1]:
        closeness, which = (u @ inverse.mT).max(-1)  # [A, rays]
        first = 1 / closeness.clamp(min=1e-12)
    else:
        first, which = torch.full(u.shape[:2], torch.inf).to(pos), torch.zeros(u.shape[:2], dtype=torch.long)
    open_ = first >= radius[:, None]
    share = 4 * math.pi * radius.square() / rays
    volume = 4 * math.pi / 3 / rays * first.minimum(radius[:, None]).pow(3).sum(1)
    exposed = share * open_.sum(1)
    if not near.shape[1]:
        return BallCells(volume, exposed, torch.zeros(0, 2, dtype=torch.long), pos.new_zeros(0))
    hits = torch.zeros_like(near, dtype=pos.dtype).scatter_add_(1, which, (~open_).to(pos.dtype))
    i, k = hits.nonzero(as_tuple=True)
    order = (i * len(pos) + near[i, k]).argsort()
    i, k = i[order], k[order]
    return BallCells(volume, exposed, torch.stack([i, near[i, k]], 1), (hits * share[:, None])[i, k])


def burial(pairs: Tensor, exposed: Tensor) -> Tensor:
    """Steps from each ball to the open, along contacts: 1 for those that are exposed, 2 for their neighbours, and so on.

    >>> chain = torch.tensor([[0, 1], [1, 0], [1, 2], [2, 1]])
    >>> burial(chain, torch.tensor([1.0, 0.0, 0.0])).tolist()
    [1, 2, 3]

    Args:
        pairs: int64 ``[P, 2]``, contacts both ways round, as from `ball_cells`.
        exposed: ``[A]``, positive for what is at the surface.

    Returns:
        int64 ``[A]``; balls that no path leads to get one more than the deepest that one does.
    """
    depth = torch.where(exposed > 0, 1, 0)
    level = 1
    while True:
        at = depth == level
        reached = torch.zeros_like(at)
        reached[pairs[at[pairs[:, 0]], 1]] = True
        reached &= depth == 0
        if not bool(reached.any()):
            return torch.where(depth == 0, level + 1, depth)
        level += 1
        depth = torch.where(reached, level, depth)


def _neighbours(pos: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Balls that overlap, nearest first, padded ``[A, K]``, and how many there are."""
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs

    tree = cKDTree(pos.detach().cpu().numpy())
    found = torch.from_numpy(tree.query_pairs(2 * float(radius.max()), output_type="ndarray")).long().to(pos.device)
    both = torch.cat([found, found.flip(1)])
    overlap = (pos[both[:, 0]] - pos[both[:, 1]]).norm(dim=-1) < radius[both].sum(1)
    both = both[overlap]
    both = both[(both[:, 0] * len(pos) + both[:, 1]).argsort()]
    count = torch.bincount(both[:, 0], minlength=len(pos))
    place = torch.arange(len(both), device=pos.device) - (count.cumsum(0) - count)[both[:, 0]]
    near = torch.zeros(len(pos), int(count.max()) if len(count) else 0, dtype=torch.long, device=pos.device)
    near[both[:, 0], place] = both[:, 1]
    return near, count


def _spiral(rays: int) -> Tensor:
    """Directions ``[rays, 3]`` of Fibonacci's spiral, float64."""
    k = torch.arange(rays, dtype=torch.float64)
    z = 1 - (2 * k + 1) / rays
    turn = math.pi * (3 - math.sqrt(5)) * k
    flat = (1 - z.square()).sqrt()
    return torch.stack([flat * turn.cos(), flat * turn.sin(), z], 1)
