"""What holds of layers, partitions and mixtures on random clouds, and the bound of the error on bodies that take another pose."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import PiecewiseFrameAverage, act_piecewise, part_frames, symmetrize
from erlangen.geometry import (
    farthest_points,
    fit_mixture,
    is_refinement,
    merge_parts,
    mixed_points,
    same_cells,
    voronoi,
)
from erlangen.groups import SE, E
from erlangen.measure import relative_change
from erlangen.simulate import Humanoid
from erlangen.survey import Run, bound, exact, largest
from erlangen.symmetry import Symmetry
from erlangen.systems.points.apen.method import APEN, SegmentNet

# --- layers and partitions -------------------------------------------------------------------------------------------
POINTS, FINE, COARSE = 96, 8, 3
"""Points of a cloud, and parts of a fine and of a coarse partition."""


def clouds(count: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Clouds ``[count, 96, 3]`` and labels of eight parts of twelve points, each without symmetry and with clear axes."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(POINTS).remainder(FINE).repeat(count, 1)
    x = torch.randn(count, POINTS, 3, generator=generator, dtype=torch.float64)
    x = (x + 0.4 * x.square()) * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    turns = E(3).sample((count, FINE), generator=generator, dtype=torch.float64)
    return act_piecewise(E(3), turns, x, labels).to(dtype), labels


def layer(parts: int, seed: int, dtype: torch.dtype = torch.float64) -> PiecewiseFrameAverage:
    """A random layer with eight invariants and two vectors."""
    torch.manual_seed(seed)
    return (
        PiecewiseFrameAverage(SegmentNet(0, 8 + 6, 16), E(3), parts, features=8, vectors=2, on_degenerate="allow")
        .to(dtype)
        .eval()
    )


@torch.no_grad()
def piecewise_error(model: PiecewiseFrameAverage, pos: Tensor, fine: Tensor, coarse: Tensor, seed: int) -> float:
    """Largest relative error of a layer that uses `fine` under random motions of the parts of `coarse`."""
    parts = int(coarse.max()) + 1
    g = E(3).sample((len(pos), parts), generator=Generator().manual_seed(seed), dtype=torch.float64).to(pos)
    out = model({"pos": pos, "labels": fine})
    moved = model({"pos": act_piecewise(E(3), g, pos, coarse), "labels": fine})
    expected = act_piecewise(E(3), g, out["vectors"], coarse, vectors=True)
    return largest(relative_change(moved["vectors"], expected), relative_change(moved["features"], out["features"]))


class _OneSet(nn.Module):
    """A network of sets as one of clouds, for `erlangen.symmetrize`; the first vector of each point."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        index = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        return self.block(x.flatten(0, 1), index, len(x))[:, 8:11].view_as(x)


def partitions(run: Run[Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clouds, their eight parts, three unions of these, and eight parts each of which has points of all the others."""
    pos, fine = clouds(run.budget.clouds, run.seed)
    coarse = merge_parts(fine, torch.arange(FINE).remainder(COARSE).repeat(len(pos), 1))
    crossing = (fine + torch.arange(POINTS) // FINE).remainder(FINE)
    return pos, fine, coarse, crossing


@exact(tol=1e-11, float32=1e-5)
def given_partition(run: Run[Any], dtype: torch.dtype) -> float:
    """Error of a random layer under random elements of E(3)^8, for a given partition of clouds into eight parts."""
    pos, fine, _, _ = partitions(run)
    return piecewise_error(layer(FINE, run.seed, dtype), pos.to(dtype), fine, fine, run.seed + 1)


@exact(tol=1e-11)
def refinement_lemma(run: Run[Any]) -> float:
    """Error of a random layer that uses eight parts under motions of unions of these parts."""
    pos, fine, coarse, _ = partitions(run)
    return piecewise_error(layer(FINE, run.seed), pos, fine, coarse, run.seed + 2)


@bound(at_least=0.01)
def refinement_needed(run: Run[Any]) -> float:
    """Error of a random layer that uses eight parts under motions of parts that cross these."""
    pos, fine, _, crossing = partitions(run)
    return piecewise_error(layer(FINE, run.seed), pos, fine, crossing, run.seed + 2)


@exact(tol=1e-11)
@torch.no_grad()
def one_part_is_global(run: Run[Any]) -> float:
    """Difference between a layer with one part and frame averaging of the whole cloud."""
    pos, fine, _, _ = partitions(run)
    one = layer(1, run.seed)
    whole = symmetrize(_OneSet(one.block), Symmetry(E(3), input="points", output="vectors"))
    return relative_change(one({"pos": pos, "labels": torch.zeros_like(fine)})["vectors"][:, :, 0], whole(pos))


@exact(tol=1e-12)
@torch.no_grad()
def lone_points(run: Run[Any]) -> float:
    """Largest vector at points that are parts by themselves, where no frame exists."""
    pos, fine, _, _ = partitions(run)
    return float(layer(FINE, run.seed)({"pos": pos[:, :FINE], "labels": fine[:, :FINE]})["vectors"].abs().max())


@exact(tol=1e-11)
@torch.no_grad()
def points_permuted(run: Run[Any]) -> float:
    """Difference between a layer's vectors for permuted points and its permuted vectors."""
    (pos, fine, _, _), model = partitions(run), layer(FINE, run.seed)
    order = torch.randperm(POINTS, generator=run.generator())
    permuted = model({"pos": pos[:, order], "labels": fine[:, order]})["vectors"]
    return relative_change(permuted, model({"pos": pos, "labels": fine})["vectors"][:, order])


@exact(tol=1e-11)
@torch.no_grad()
def parts_renamed(run: Run[Any]) -> float:
    """Change of a layer's vectors when its parts get other names."""
    (pos, fine, _, _), model = partitions(run), layer(FINE, run.seed)
    renamed = model({"pos": pos, "labels": FINE - 1 - fine})["vectors"]
    return relative_change(renamed, model({"pos": pos, "labels": fine})["vectors"])


@exact(tol=0)
def merging_keeps_order(run: Run[Any]) -> float:
    """Partitions of an untrained network that do not refine the one of the next layer."""
    torch.manual_seed(run.seed)
    pos = torch.randn(run.budget.clouds, 128, 3, generator=run.generator())
    labels = APEN(4, (24, 12, 5), 16, reach=1.0, seed=run.seed).eval()(pos)["labels"]
    return sum(int((~is_refinement(fine, coarse)).sum()) for fine, coarse in pairwise(labels.unbind(1)))


@exact(tol=1e-9)
def likelihood_grows(run: Run[Any]) -> float:
    """Largest fall of the log-likelihood in a step of expectation maximisation, with learned and with fixed variances."""
    generator, count = run.generator(), run.budget.clouds
    x = torch.randn(count, 40, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(count, 40, generator=generator, dtype=torch.float64)
    falls = [
        fit_mixture(x, 6, 20, weights=weights, variance=variance, generator=generator).log_likelihood.diff(dim=1).amin()
        for variance in (None, 0.1)
    ]
    return largest(0.0, -float(torch.stack(falls).min()))


# --- the bound of the error -------------------------------------------------------------------------------------------
COUNTS = (4, 8, 16, 32)
BODY_POINTS = 512
GAPS = (0.01, 0.05, 0.2)
"""Where the histogram of relative gaps of eigenvalues is cut."""


class Motion(NamedTuple):
    """The same bodies in two poses: points ``[B, n, 3]``, float64, rigid parts ``[B, n]``, elements of SE(3) between."""

    before: Tensor
    after: Tensor
    body: Tensor
    moves: Tensor


@cache
def bound_rows(count: int, seed: int) -> tuple[dict[str, Any], ...]:
    """One row for each number of cells: measured error, delta, lambda, and the bound; shares with their standard error."""
    generator = Generator().manual_seed(seed)
    human = Humanoid()
    first = human.clouds(count, BODY_POINTS, generator=generator, dtype=torch.float64)
    second = human.repose(first, human.angles(count, generator=generator))
    moves = SE(3).compose(second.placement, SE(3).inverse(first.placement))
    motion = Motion(first.pos, second.pos, first.body, moves)
    return tuple(_row(motion, cells, seed) for cells in COUNTS)


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
    length = float(expected.norm(dim=-1).max() + found.norm(dim=-1).max())
    mixed = mixed_points(before, motion.body)
    changed = ~mixed & ~same_cells(before, after)
    gap = part_frames(motion.before, before, cells, E(3)).gap
    filled = gap.isfinite()
    delta, unsure = (share.double().mean(1) for share in (mixed, changed))
    clean = ~mixed & ~changed
    return {
        "part": "bound",
        "model": f"{cells} cells",
        "error": float(error.mean()),
        "bound": float((delta + unsure).mean()) * length,
        "delta": float(delta.mean()),
        "delta, standard error": float(delta.std() / len(delta) ** 0.5),
        "lambda": float(unsure.mean()),
        "partitions that fail": float(mixed.any(1).double().mean()),
        "points that must not err": int(clean.sum()),
        "their relative error": float(error[clean].max()) / length if bool(clean.any()) else 0.0,
    } | {f"cells with gap below {cut:.0%}": float((gap[filled] < cut).double().mean()) for cut in GAPS}


def moved_rows(run: Run[Any]) -> tuple[dict[str, Any], ...]:
    """The rows of a run."""
    return bound_rows(4 if run.dry else run.budget.moved, run.seed)


@exact(tol=1e-6)
def clean_cells_exact(run: Run[Any]) -> float:
    """Largest error over M at points whose cell lies in one rigid part and has the same points after the motion."""
    return largest(row["their relative error"] for row in moved_rows(run))


@exact(tol=0)
def delta_falls(run: Run[Any]) -> float:
    """Rise of delta, beyond twice its standard error, from any number of cells to the next larger one."""
    return largest(
        0.0,
        *(
            after["delta"] - before["delta"] - 2 * (before["delta, standard error"] + after["delta, standard error"])
            for before, after in pairwise(moved_rows(run))
        ),
    )


PROPERTIES = (
    given_partition,
    refinement_lemma,
    refinement_needed,
    one_part_is_global,
    lone_points,
    points_permuted,
    parts_renamed,
    merging_keeps_order,
    likelihood_grows,
    clean_cells_exact,
    delta_falls,
)
