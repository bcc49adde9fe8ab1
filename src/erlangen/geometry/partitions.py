"""Partitions of point clouds: cells around seeds, their order, and a mixture of Gaussians that groups whole parts.

A partition of n points is a tensor of labels, int64 ``[B, n]``; label j names part j, and parts may be empty. It is
finer than another one if each of its parts lies inside one part of the other. Grouping whole parts (`merge_parts`,
`cluster_parts`) can only make a partition coarser; that is what keeps equivariance by parts through a network.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_finite, first_index
from erlangen.geometry.points import farthest_points


class Mixture(NamedTuple):
    """A mixture of k round Gaussians in R^d, one for each sample of a batch.

    Attributes:
        shares: ``[B, k]``, the weights of the components; each row sums to 1.
        means: ``[B, k, d]``.
        variances: ``[B, k]``, along each axis, in squared units of the data.
        responsibilities: ``[B, m, k]``, the probability of each component given the point.
        log_likelihood: ``[B, steps + 1]``, weighted mean per point, before every step and after the last one.
    """

    shares: Tensor
    means: Tensor
    variances: Tensor
    responsibilities: Tensor
    log_likelihood: Tensor


class Clustering(NamedTuple):
    """A coarser partition and how sure it is.

    Attributes:
        labels: int64 ``[B, n]``; each of its parts is a union of parts of the partition it was made from.
        responsibilities: ``[B, parts, k]`` of the parts that were grouped.
        uncertainty: ``[B]``, one minus the largest responsibility, mean over points; 0 is certain.
        log_likelihood: ``[B, steps + 1]``, see `Mixture`.
    """

    labels: Tensor
    responsibilities: Tensor
    uncertainty: Tensor
    log_likelihood: Tensor


# --- partitions ------------------------------------------------------------------------------------------------------
def harden(assignment: Tensor, *, tol: float = 1e-4) -> Tensor:
    """Labels ``[..., n]`` of a soft or one-hot assignment ``[..., n, k]``: the most likely part, the first of equals.

    Frames of soft parts move with no group exactly, so partitions are hardened before frames are computed.

    Raises:
        DtypeError: the assignment is not floating.
        ShapeError: a row is negative somewhere or does not sum to 1 within `tol`, or there are no parts.
        NotFiniteError: NaN or Inf.
    """
    if not assignment.is_floating_point():
        raise DtypeError(
            f"assignment has dtype {assignment.dtype}; pass probabilities, or labels where labels are asked"
        )
    if assignment.dim() < 2 or assignment.shape[-1] == 0:
        raise ShapeError(f"assignment has shape {tuple(assignment.shape)}; pass [..., n, k] with k at least 1")
    check_finite(assignment, "assignment")
    bad = ((assignment.sum(-1) - 1).abs() > tol) | (assignment < -tol).any(-1)
    if bool(bad.any()):
        index = first_index(bad)
        raise ShapeError(
            f"assignment at {index} sums to {float(assignment[index].sum()):.6g}, with smallest entry "
            f"{float(assignment[index].min()):.3g}; rows are probabilities: apply softmax first"
        )
    return assignment.argmax(-1)


def check_labels(labels: Tensor, shape: tuple[int, ...], parts: int | None = None, name: str = "labels") -> None:
    """Raise unless `labels` is int64 of this shape, with values from 0 to below `parts`."""
    if labels.dtype != torch.int64:
        raise DtypeError(f"{name} has dtype {labels.dtype}; pass int64 labels, or harden(...) of an assignment")
    if tuple(labels.shape) != tuple(shape):
        raise ShapeError(f"{name} has shape {tuple(labels.shape)}; one label per point is {tuple(shape)}")
    if torch.compiler.is_compiling():
        return
    bad = (labels < 0) | (labels >= (math.inf if parts is None else parts))
    if bool(bad.any()):
        index = first_index(bad)
        limit = "" if parts is None else f" to {parts - 1}"
        raise ShapeError(f"{name} is {int(labels[index])} at {index}; labels go from 0{limit}")


def is_refinement(fine: Tensor, coarse: Tensor) -> Tensor:
    """Whether each part of `fine` lies inside one part of `coarse`: bool ``[B]`` for labels ``[B, n]``.

    Raises:
        ShapeError: the shapes differ, or a label is negative.
        DtypeError: labels are not int64.
    """
    return ~mixed_points(fine, coarse).any(-1)


def mixed_points(fine: Tensor, coarse: Tensor) -> Tensor:
    """Which points share their part of `fine` with a point of another part of `coarse`: bool ``[B, n]``.

    Arguments and errors as `is_refinement`; where no point is mixed, `fine` is a refinement of `coarse`.
    """
    if fine.dim() != 2:
        raise ShapeError(f"fine has shape {tuple(fine.shape)}; pass labels [B, n]")
    check_labels(fine, tuple(fine.shape), name="fine")
    check_labels(coarse, tuple(fine.shape), name="coarse")
    if fine.numel() == 0:
        return torch.zeros_like(fine, dtype=torch.bool)
    parts = int(fine.max()) + 1
    empty = coarse.new_zeros(len(fine), parts)
    low = empty.scatter_reduce(1, fine, coarse, "amin", include_self=False)
    high = empty.scatter_reduce(1, fine, coarse, "amax", include_self=False)
    return (low != high).gather(1, fine)


def merge_parts(labels: Tensor, groups: Tensor) -> Tensor:
    """The partition whose part j is the union of the parts that `groups` sends to j; never finer than before.

    Args:
        labels: int64 ``[B, n]``.
        groups: int64 ``[B, parts]``, the new label of every old one.

    Raises:
        ShapeError: a label has no group, or the batches differ.
        DtypeError: labels or groups are not int64.
    """
    if labels.dim() != 2 or groups.dim() != 2 or len(labels) != len(groups):
        raise ShapeError(
            f"labels {tuple(labels.shape)} and groups {tuple(groups.shape)}: pass [B, n] and [B, parts] of one batch"
        )
    check_labels(labels, tuple(labels.shape), groups.shape[1])
    check_labels(groups, tuple(groups.shape), name="groups")
    return groups.gather(1, labels)


# --- cells -----------------------------------------------------------------------------------------------------------
def scattered_cells(pos: Tensor, count: int, spacing: float, *, generator: Generator | None = None) -> Tensor:
    """Labels ``[B, n]`` of at most `count` Voronoi cells around random points that keep a distance.

    Points come in random order and become centres where no centre is within `spacing`, up to `count`; with a spacing of
    zero the centres are a random subset. Whether a point is a centre depends on its neighbours, so that a part that
    moves against the others keeps its cells but for those near to them. Cells of `farthest_points` all depend on the whole cloud.

    Args:
        pos: points ``[B, n, d]``.
        count: largest number of cells; cells are numbered in the order of their points.
        spacing: least distance of centres, in units of the points.
        generator: source of the order; torch's global stream without it.

    Raises:
        ShapeError: no points, or `count` is not positive.
        ErlangenError: `spacing` is negative or not finite.
        NotFiniteError: NaN or Inf in `pos`.
    """
    if pos.dim() != 3 or pos.shape[1] == 0:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; pass [B, n, d] with n at least 1")
    if count < 1:
        raise ShapeError(f"count = {count}; ask for at least one cell")
    if not 0 <= spacing < math.inf:
        raise ErlangenError(f"spacing = {spacing}; give a length, or 0 for a random subset")
    check_finite(pos, "pos")
    squares = _squared_distances(pos, pos)
    near = squares < spacing**2
    order = torch.rand(pos.shape[:2], generator=generator, dtype=torch.float64).to(pos.device)
    waiting = torch.ones(pos.shape[:2], dtype=torch.bool, device=pos.device)
    centre = torch.zeros_like(waiting)
    while bool(waiting.any()):  # all that come before their neighbours at once: the same centres as one by one
        rank = order.masked_fill(~waiting, math.inf)
        first = rank[:, None].masked_fill(~near, math.inf).amin(-1)
        chosen = waiting & (rank <= first)
        centre |= chosen
        waiting &= ~chosen & ~(near & chosen[:, None]).any(-1)
    centre &= order.masked_fill(~centre, math.inf).argsort(1).argsort(1) < count
    nearest = squares.masked_fill(~centre[:, None], math.inf).argmin(-1)
    return (centre.cumsum(1) - 1).gather(1, nearest)


def same_cells(before: Tensor, after: Tensor) -> Tensor:
    """Which points have the same companions in two partitions ``[B, n]``, whatever their numbers: bool ``[B, n]``.

    Arguments and errors as `is_refinement`.
    """
    return ~(mixed_points(before, after) | mixed_points(after, before))


def voronoi(pos: Tensor, centres: Tensor) -> Tensor:
    """Labels ``[B, n]``: for every point the nearest of the centres ``[B, k, d]``, the first of equally near ones.

    Distances are Euclidean, so cells follow rigid motions of the whole cloud; when parts move against each other, only
    cells whose points and neighbours belong to one part are sure to stay what they are.

    Raises:
        ShapeError: `pos` and `centres` do not fit, or there are no centres.
        NotFiniteError: NaN or Inf in `pos` or `centres`.
    """
    fits = pos.dim() == 3 and centres.dim() == 3 and centres.shape[1] > 0
    if not fits or (len(pos), pos.shape[2]) != (len(centres), centres.shape[2]):
        raise ShapeError(f"pos {tuple(pos.shape)}, centres {tuple(centres.shape)}; pass [B, n, d] and [B, k, d], k > 0")
    check_finite(pos, "pos")
    check_finite(centres, "centres")
    return _squared_distances(pos, centres).argmin(-1)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """``[B, m, k]``, from differences: no cancellation, unlike the expanded square."""
    return (x[:, :, None] - y[:, None]).square().sum(-1)


# --- mixtures --------------------------------------------------------------------------------------------------------
def mixture_step(
    x: Tensor, mixture: Mixture, weights: Tensor, *, variance: float | None = None, floor: float = 1e-6
) -> Mixture:
    """One step of expectation maximisation (Dempster, Laird and Rubin 1977): M with the responsibilities, then E.

    The likelihood never falls: round Gaussians with variance fixed or bounded below have their M step in closed form.
    Arguments as `fit_mixture`, with ``weights [B, m]`` that sum to 1.
    """
    mass = weights[..., None] * mixture.responsibilities
    total = mass.sum(1)
    taken = total > 0  # a component without points stays where it is
    safe = torch.where(taken, total, 1.0)
    means = torch.where(taken[..., None], mass.mT @ x / safe[..., None], mixture.means)
    if variance is None:
        spread = (mass * _squared_distances(x, means)).sum(1) / (x.shape[-1] * safe)
        variances = torch.where(taken, spread.clamp(min=floor), mixture.variances)
    else:
        variances = mixture.variances
    shares = total / total.sum(-1, keepdim=True)
    responsibilities, likelihood = _expectation(x, shares, means, variances, weights)
    history = torch.cat([mixture.log_likelihood, likelihood[:, None]], 1)
    return Mixture(shares, means, variances, responsibilities, history)


def _expectation(x: Tensor, shares: Tensor, means: Tensor, variances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Responsibilities ``[B, m, k]`` and mean log-likelihood ``[B]``."""
    d = x.shape[-1]
    tiny = torch.finfo(x.dtype).tiny
    constants = shares.clamp(min=tiny).log() - 0.5 * d * (2 * math.pi * variances).log()
    log_joint = constants[:, None] - 0.5 * _squared_distances(x, means) / variances[:, None]
    evidence = log_joint.logsumexp(-1)
    return (log_joint - evidence[..., None]).exp(), (weights * evidence).sum(-1)


def fit_mixture(
    x: Tensor,
    k: int,
    steps: int = 3,
    *,
    weights: Tensor | None = None,
    variance: float | None = None,
    floor: float = 1e-6,
    generator: Generator | None = None,
) -> Mixture:
    """A mixture of k round Gaussians for every sample, from centres that are far from each other.

    Gradients flow through all but the choice of the first centres.

    Args:
        x: points ``[B, m, d]``.
        k: number of components; more than m are clipped with a warning.
        steps: steps of expectation maximisation.
        weights: ``[B, m]``, not negative and not all zero; points of weight zero have no influence.
        variance: a fixed variance for all components (the temperature of the responsibilities); learned without it.
        floor: lower bound of learned variances, in squared units of x.
        generator: source of the first centre.

    Raises:
        ShapeError: shapes do not fit, weights are negative or all zero, or there are no points.
        ErlangenError: `steps` is negative, or `variance` or `floor` is not positive.
        NotFiniteError: NaN or Inf in x.
    """
    if steps < 0 or floor <= 0 or (variance is not None and variance <= 0):
        raise ErlangenError(f"steps = {steps}, variance = {variance}, floor = {floor}; steps >= 0, the others positive")
    if weights is None:
        weights = x.new_ones(x.shape[:2])
    if weights.shape != x.shape[:2] or bool((weights < 0).any()) or not bool((weights.sum(1) > 0).all()):
        raise ShapeError(
            f"weights {tuple(weights.shape)} for x {tuple(x.shape)}; pass [B, m], not negative, some positive in each row"
        )
    first = farthest_points(x.detach(), k, exists=weights > 0, generator=generator)
    weights = weights / weights.sum(1, keepdim=True)
    means = x.gather(1, first[..., None].expand(-1, -1, x.shape[-1]))
    k = first.shape[1]
    if variance is None:
        centred = x - (weights[..., None] * x).sum(1, keepdim=True)
        scatter = (weights * centred.square().sum(-1)).sum(1) / x.shape[-1]
        variances = (scatter / k).clamp(min=floor)[:, None].expand(-1, k)
    else:
        variances = x.new_full((len(x), k), variance)
    shares = x.new_full((len(x), k), 1 / k)
    responsibilities, likelihood = _expectation(x, shares, means, variances, weights)
    mixture = Mixture(shares, means, variances, responsibilities, likelihood[:, None])
    for _ in range(steps):
        mixture = mixture_step(x, mixture, weights, variance=variance, floor=floor)
    return mixture


def cluster_parts(
    votes: Tensor,
    labels: Tensor,
    parts: int,
    k: int,
    steps: int = 3,
    *,
    variance: float | None = None,
    apart: float | None = None,
    generator: Generator | None = None,
) -> Clustering:
    """Group the parts of a partition by what their points vote for: at most k parts, each a union of old ones.

    The votes of a part are averaged, a mixture of Gaussians is fitted to the averages, weighted by the number of points,
    and every part goes as a whole to its most likely component. So the old partition is a refinement of the new one.

    A part whose points vote for different things lies, most likely, in several objects, and would spoil the group that it
    joins. With `apart`, such parts stay as they are.

    Args:
        votes: ``[B, n, d]``, for example where each point expects the centre of its object.
        labels: int64 ``[B, n]``, below `parts`; parts may be empty.
        parts: number of parts.
        k: number of groups.
        steps, variance, generator: as `fit_mixture`.
        apart: parts are not grouped if the mean square distance of their votes from the average is larger than this. The
            label of such a part is k plus its old one; they count as certain.

    Raises:
        ShapeError: labels and votes do not fit, or labels are out of range.
        ErlangenError: `apart` is negative.
        What `fit_mixture` raises.
    """
    if votes.dim() != 3 or votes.shape[1] == 0:
        raise ShapeError(f"votes has shape {tuple(votes.shape)}; pass [B, n, d] with n at least 1")
    check_labels(labels, tuple(votes.shape[:2]), parts)
    batch, _, d = votes.shape
    counts = votes.new_zeros(batch, parts).scatter_add(1, labels, votes.new_ones(labels.shape))
    sums = votes.new_zeros(batch, parts, d).scatter_add(1, labels[..., None].expand(-1, -1, d), votes)
    means = sums / counts.clamp(min=1)[..., None]
    alone = _divided(votes, labels, means, counts, apart)
    weights = counts.masked_fill(alone, 0.0)
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, counts)  # nothing to group: any mixture will do
    mixture = fit_mixture(means, min(k, parts), steps, weights=weights, variance=variance, generator=generator)
    best, groups = mixture.responsibilities.max(-1)
    best = best.masked_fill(alone, 1.0)
    groups = torch.where(alone, k + torch.arange(parts, device=groups.device), groups)
    uncertainty = 1 - (counts * best).sum(-1) / counts.sum(-1)
    return Clustering(merge_parts(labels, groups), mixture.responsibilities, uncertainty, mixture.log_likelihood)


def _divided(votes: Tensor, labels: Tensor, means: Tensor, counts: Tensor, apart: float | None) -> Tensor:
    """Parts whose votes differ too much among themselves: bool ``[B, parts]``."""
    if apart is None:
        return torch.zeros_like(counts, dtype=torch.bool)
    if not apart >= 0:
        raise ErlangenError(f"apart = {apart}; give a squared distance, or None to group all parts")
    own = means.gather(1, labels[..., None].expand_as(votes))
    total = torch.zeros_like(counts).scatter_add(1, labels, (votes - own).square().sum(-1))
    return total > apart * counts
