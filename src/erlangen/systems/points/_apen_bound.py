"""The bound of the error by what the partition gets wrong, measured on bodies that take another pose."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.enforce import PiecewiseFrameAverage, act_piecewise, part_frames
from erlangen.geometry import farthest_points, mixed_points, voronoi
from erlangen.groups import SE, E
from erlangen.simulate import Humanoid
from erlangen.survey.claims import Claim
from erlangen.systems.points._apen_network import SegmentNet

COUNTS = (4, 8, 16, 32)
POINTS = 512
GAPS = (0.01, 0.05, 0.2)
"""Where the histogram of relative gaps of eigenvalues is cut."""


class Motion(NamedTuple):
    """The same bodies in two poses: points ``[B, n, 3]``, float64, rigid parts ``[B, n]``, elements of SE(3) between."""

    before: Tensor
    after: Tensor
    body: Tensor
    moves: Tensor


def bound_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """One row for each number of cells: measured error, delta, lambda, and the bound; shares with their standard error."""
    generator = Generator().manual_seed(seed)
    human = Humanoid()
    first = human.clouds(count, POINTS, generator=generator, dtype=torch.float64)
    second = human.repose(first, human.angles(count, generator=generator))
    moves = SE(3).compose(second.placement, SE(3).inverse(first.placement))
    motion = Motion(first.pos, second.pos, first.body, moves)
    return [_row(motion, cells, seed) for cells in COUNTS]


@torch.no_grad()
def _row(motion: Motion, cells: int, seed: int) -> dict[str, Any]:
    seeds = farthest_points(motion.before, cells, generator=Generator().manual_seed(seed))
    index = seeds[..., None].expand(-1, -1, 3)
    before = voronoi(motion.before, motion.before.gather(1, index))
    after = voronoi(motion.after, motion.after.gather(1, index))
    torch.manual_seed(seed)
    block = SegmentNet(0, 8 + 3, 32)
    layer = PiecewiseFrameAverage(block, E(3), cells, features=8, vectors=1, on_degenerate="allow").double().eval()
    old = layer({"pos": motion.before, "labels": before})
    new = layer({"pos": motion.after, "labels": after})
    vectors = act_piecewise(SE(3), motion.moves, old["vectors"], motion.body, vectors=True)
    expected = torch.cat([vectors[:, :, 0], old["features"]], -1)
    found = torch.cat([new["vectors"][:, :, 0], new["features"]], -1)
    error = (found - expected).norm(dim=-1)
    largest = float(expected.norm(dim=-1).max() + found.norm(dim=-1).max())
    mixed = mixed_points(before, motion.body)
    changed = ~mixed & changed_cells(before, after)
    gap = part_frames(motion.before, before, cells, E(3)).gap
    filled = gap.isfinite()
    delta, unsure = (share.double().mean(1) for share in (mixed, changed))
    clean = ~mixed & ~changed
    return {
        "part": "bound",
        "model": f"{cells} cells",
        "error": float(error.mean()),
        "bound": float((delta + unsure).mean()) * largest,
        "delta": float(delta.mean()),
        "delta, standard error": float(delta.std() / len(delta) ** 0.5),
        "lambda": float(unsure.mean()),
        "partitions that fail": float(mixed.any(1).double().mean()),
        "points that must not err": int(clean.sum()),
        "their relative error": float(error[clean].max()) / largest if bool(clean.any()) else 0.0,
    } | {f"cells with gap below {cut:.0%}": float((gap[filled] < cut).double().mean()) for cut in GAPS}


def changed_cells(before: Tensor, after: Tensor) -> Tensor:
    """Which points have other companions in the partition `after` than in `before`: bool ``[B, n]``."""
    stays = before == after
    parts = int(torch.maximum(before, after).max()) + 1
    start = torch.zeros(len(before), parts, dtype=torch.bool, device=before.device)
    # A cell has changed if some point left it or came to it.
    left = start.long().scatter_add(1, before, (~stays).long())
    came = start.long().scatter_add(1, after, (~stays).long())
    return (left + came > 0).gather(1, before)


def bound_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Claims about the bound and about delta."""
    rises = [
        after["delta"] - before["delta"] - 2 * (before["delta, standard error"] + after["delta, standard error"])
        for before, after in itertools.pairwise(rows)
    ]
    return [
        Claim.ratio(
            "error-below-bound",
            "Mean error over (lambda + delta) M, the largest of 4, 8, 16 and 32 cells.",
            measured=max(row["error"] / row["bound"] for row in rows),
            at_most=1,
        ),
        Claim.exact(
            "clean-cells-exact",
            "Largest error over M at points whose cell lies in one rigid part and has the same points after the motion.",
            measured=max(row["their relative error"] for row in rows),
            tol=1e-6,
        ),
        Claim.exact(
            "delta-falls",
            "Rise of delta, beyond twice its standard error, from any number of cells to the next larger one.",
            measured=max(0.0, *rises),
            tol=0.0,
        ),
    ]
