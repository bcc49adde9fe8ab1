"""Clouds of points, thinned out, grouped and filled in: farthest points, neighbours, balls, voxels, interpolation.

>>> import torch
>>> pos = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0))
>>> seeds = take_points(pos, farthest_points(pos, 32, start="centre"))
>>> groups = ball_groups(pos, seeds, radius=0.5, k=16)
>>> local = take_points(pos, groups.index) - seeds[:, :, None]  # patches about their middle, padded where `exists` is false
>>> local.shape, groups.exists.shape
(torch.Size([2, 32, 16, 3]), torch.Size([2, 32, 16]))

Batches are dense, ``[B, n, d]``, with a mask ``exists`` of rows that count; others are padding, whatever they hold.
Nothing depends on the order of the rows but what is equally good: of equally far points, `farthest_points` takes the first, and
groups any. Choices carry no gradient; positions and features that are taken, pooled and interpolated do. `knn_graph` and
`radius_graph` give the same neighbours as edges.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)
from erlangen.geometry._trees import search_tree

_BLOCK = 16384
"""Points of clouds that are thinned out at once: a few arrays of them stay in the cache."""


class Groups(NamedTuple):
    """Neighbours of centres.

    Attributes:
        index: int64 ``[B, m, k]``, rows of the points, the nearest first; the nearest one again where there are fewer than k, and
            row 0 where there is none.
        exists: bool ``[B, m, k]``, which of them are neighbours, each once.
    """

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    exists: Tensor


class Voxels(NamedTuple):
    """Cells of a lattice that hold points, in ascending order of their coordinates, whatever the order of the points.

    Attributes:
        pos: the mean of the points in each cell, ``[B, m, d]``; zero where there is no cell.
        exists: bool ``[B, m]``, which cells there are; clouds differ in number.
        labels: int64 ``[B, n]``, the cell of each point, -1 for points that do not exist.
    """

    pos: Tensor
    exists: Tensor
    labels: Tensor

    def pool(self, x: Tensor) -> Tensor:
        """Means ``[B, m, C]`` over the cells of values ``[B, n, C]`` of the points."""
        return _cell_means(x, self.labels, self.exists.shape[1])


def farthest_points(
    pos: Tensor,
    count: int,
    *,
    exists: Tensor | None = None,
    start: Tensor | Literal["random", "centre"] = "random",
    generator: Generator | None = None,
) -> Tensor:
    """Indices ``[B, count]`` of points that are far from each other: a first one, then always the farthest one.

    >>> farthest_points(torch.tensor([[[0.0], [1.0], [4.0], [9.0]]]), 3, start=torch.tensor([1]))
    tensor([[1, 3, 2]])

    Of equally far points the first is taken; when all distances are zero (coincident points) indices repeat.

    Args:
        pos: points ``[B, n, d]``.
        count: how many; more than n are clipped with a warning.
        exists: bool ``[B, n]``, the points to choose from; at least one in each sample.
        start: "random", which depends neither on how the parts of a cloud lie nor, in distribution, on the order; "centre", the
            point farthest from the mean, which moves with the cloud and does not depend on the order; or the rows, int64 ``[B]``.
        generator: source of the random start; torch's global stream without it.

    Raises:
        ShapeError: no points, `count` is not positive, a sample without existing points, or a start that does not exist.
        NotFiniteError: NaN or Inf in `pos`.
        UnknownNameError: another `start`.
    """
    _check_cloud(pos, "pos")
    if count < 1:
        raise ShapeError(f"count = {count}; ask for at least one point")
    if count > pos.shape[1]:
        warnings.warn(
            f"count = {count}, but there are {pos.shape[1]} points; all are taken", ErlangenWarning, stacklevel=2
        )
        count = pos.shape[1]
    _check_exists(exists, pos, needed=True)
    pos = pos.detach()
    first = _first_points(pos, exists, start, generator)
    if pos.device.type != "cpu" or pos.dtype not in (torch.float32, torch.float64):
        return _walk(pos, first, count, exists)
    # numpy's calls cost less than torch's, of which there are thousands on small arrays.
    axes = pos.movedim(-1, 0).contiguous().numpy()
    skipped = None if exists is None else (~exists).numpy()
    chosen = np.empty((len(pos), count), np.int64)
    block = max(1, _BLOCK // pos.shape[1])
    for low in range(0, len(pos), block):
        part = slice(low, low + block)
        _walk_in_place(axes[:, part], chosen[part], first[part].numpy(), None if skipped is None else skipped[part])
    return torch.from_numpy(chosen)


def knn_groups(pos: Tensor, centres: Tensor, k: int, *, exists: Tensor | None = None) -> Groups:
    """The k nearest points of each centre, the nearest first.

    >>> knn_groups(torch.tensor([[[0.0], [1.0], [3.0]]]), torch.tensor([[[0.9]]]), 2).index
    tensor([[[1, 0]]])

    Args:
        pos: points ``[B, n, d]``.
        centres: ``[B, m, d]``; those that are points are their own first neighbours.
        k: how many; where fewer exist, `Groups.exists` says so.
        exists: bool ``[B, n]``, the points to choose from.

    Raises:
        ShapeError, DtypeError, NotFiniteError: `pos`, `centres` or `exists` is not as above.
        ErlangenError: `k` is not positive.
    """
    return _groups(pos, centres, k, math.inf, exists)


def ball_groups(pos: Tensor, centres: Tensor, radius: float, k: int, *, exists: Tensor | None = None) -> Groups:
    """The points at most `radius` away from each centre, at most k, the nearest first.

    >>> ball_groups(torch.tensor([[[0.0], [1.0], [3.0]]]), torch.tensor([[[0.8]]]), 1.0, 3)
    Groups(index=tensor([[[1, 0, 1]]]), exists=tensor([[[ True,  True, False]]]))

    PointNet++ (Qi et al. 2017) takes the first k points in memory; here the nearest are taken, so that the order of
    the rows does not matter.

    Args:
        pos, centres, k, exists: as `knn_groups`.
        radius: in the units of `pos`; positive.

    Raises:
        What `knn_groups` raises; ErlangenError for a radius that is not positive and finite.
    """
    if not radius > 0 or not math.isfinite(radius):
        raise ErlangenError(f"radius = {radius}; give a positive number")
    return _groups(pos, centres, k, float(radius), exists)


def take_points(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``[B, ..., C]`` of ``[B, n, C]`` at indices ``[B, ...]``: of chosen points, or of groups.

    >>> take_points(torch.tensor([[[5.0], [6.0]]]), torch.tensor([[1, 1, 0]]))[0, :, 0]
    tensor([6., 6., 5.])

    Raises:
        ShapeError: shapes that do not fit.
        DtypeError: indices that are not int64.
    """
    if index.dtype != torch.int64:
        raise DtypeError(f"index has dtype {index.dtype}; pass int64")
    if x.ndim != 3 or index.ndim < 2 or len(x) != len(index):
        raise ShapeError(f"x {tuple(x.shape)} and index {tuple(index.shape)}: pass [B, n, C] and [B, ...] of one batch")
    flat = index.flatten(1)[..., None].expand(-1, -1, x.shape[2])
    return x.gather(1, flat).reshape(*index.shape, x.shape[2])


def voxel_points(pos: Tensor, size: float, *, exists: Tensor | None = None, origin: Tensor | None = None) -> Voxels:
    """One point, their mean, for all that lie in a cell of a cubic lattice.

    >>> voxels = voxel_points(torch.tensor([[[0.1, 0.1], [0.3, 0.5], [1.7, 0.2]]]), 1.0)
    >>> voxels.pos, voxels.labels
    (tensor([[[0.2000, 0.3000],
             [1.7000, 0.2000]]]), tensor([[0, 0, 1]]))

    The lattice is fixed in space, so results move with shifts by whole cells and turns that keep the lattice alone. What lies
    on a wall belongs to the cell that begins there.

    Args:
        pos: points ``[B, n, d]``.
        size: side of a cell, in the units of `pos`; positive.
        exists: bool ``[B, n]``.
        origin: a corner of the lattice, ``[d]`` or ``[B, d]``, zero by default.

    Raises:
        ShapeError, DtypeError, NotFiniteError: `pos`, `exists` or `origin` is not as above.
        ErlangenError: `size` is not positive and finite, or so small that cells cannot be counted.
    """
    _check_cloud(pos, "pos")
    _check_exists(exists, pos)
    if not size > 0 or not math.isfinite(size):
        raise ErlangenError(f"size = {size}; give a positive number")
    corner = torch.zeros(pos.shape[2]).to(pos) if origin is None else origin.to(pos)
    if corner.shape not in {pos.shape[2:], (len(pos), pos.shape[2])}:
        raise ShapeError(f"origin has shape {tuple(corner.shape)}; give [{pos.shape[2]}] or one for each cloud")
    steps = ((pos.detach().double() - corner.reshape(-1, 1, pos.shape[2])) / size).floor()
    if exists is not None:
        steps = torch.where(exists[..., None], steps, 0.0)
    if float(steps.abs().max()) >= 2**52:
        raise ErlangenError(
            f"size = {size} is too small for positions up to {float(pos.abs().max()):.3g}; cells cannot be counted"
        )
    batch, n, _ = pos.shape
    own = torch.arange(batch, device=pos.device)[:, None, None].expand(batch, n, 1)
    rows = torch.cat([own, steps.long()], -1).flatten(0, 1)
    kept = torch.ones(batch * n, dtype=torch.bool, device=pos.device) if exists is None else exists.flatten()
    cells, inverse = torch.unique(rows[kept], dim=0, return_inverse=True)
    numbers = torch.bincount(cells[:, 0], minlength=batch)
    starts = numbers.cumsum(0) - numbers
    labels = torch.full((batch * n,), -1, device=pos.device)
    labels[kept] = inverse - starts[cells[inverse, 0]]
    labels = labels.reshape(batch, n)
    most = int(numbers.max())
    there = torch.arange(most, device=pos.device) < numbers[:, None]
    return Voxels(_cell_means(pos, labels, most), there, labels)


def interpolate_points(
    pos: Tensor, sources: Tensor, values: Tensor, k: int = 3, *, exists: Tensor | None = None, power: float = 2.0
) -> Tensor:
    """Values ``[B, n, C]`` at points, from the k nearest sources: means weighted by inverse distances.

    >>> interpolate_points(torch.tensor([[[1.0]]]), torch.tensor([[[0.0], [3.0]]]), torch.tensor([[[10.0], [20.0]]]), 2)
    tensor([[[12.]]])

    That of PointNet++ (Qi et al. 2017, eq. 2), without a constant added to distances: at a source the value is the source's, and
    constants stay what they are. Rigid motions and scalings of points and sources together change nothing.

    Args:
        pos: where, ``[B, n, d]``.
        sources: ``[B, m, d]``.
        values: at the sources, ``[B, m, C]``; differentiable, as `pos` and `sources` are.
        k: how many sources; fewer where fewer exist.
        exists: bool ``[B, m]``, of the sources; at least one in each sample.
        power: of the distance.

    Raises:
        What `knn_groups` raises; ShapeError for values that do not fit.
    """
    if values.ndim != 3 or values.shape[:2] != sources.shape[:2]:
        raise ShapeError(
            f"values {tuple(values.shape)} for sources {tuple(sources.shape)}; pass [B, m, C] and [B, m, d]"
        )
    _check_exists(exists, sources, needed=True)
    groups = knn_groups(sources, pos, k, exists=exists)
    squares = (take_points(sources, groups.index) - pos[:, :, None]).square().sum(-1)
    nearest = squares[..., :1]
    on_source = nearest == 0
    ratio = torch.where(on_source, 1.0, nearest) / torch.where(squares == 0, 1.0, squares)
    weights = torch.where(on_source, (squares == 0).to(pos), ratio.pow(power / 2)) * groups.exists
    return (weights[..., None] * take_points(values, groups.index)).sum(2) / weights.sum(-1, keepdim=True)


# --- how -------------------------------------------------------------------------------------------------------------
def _first_points(pos: Tensor, exists: Tensor | None, start: Tensor | str, generator: Generator | None) -> Tensor:
    if isinstance(start, Tensor):
        inside = start.shape == pos.shape[:1] and start.dtype == torch.int64
        if not inside or bool(((start < 0) | (start >= pos.shape[1])).any()):
            raise ShapeError(
                f"start = {start.tolist()}; give a row of each cloud, int64 [{len(pos)}], below {pos.shape[1]}"
            )
        if exists is not None and not bool(exists.gather(1, start[:, None]).all()):
            raise ShapeError(f"start = {start.tolist()}: one of these points does not exist")
        return start
    if start == "random":
        scores = torch.rand(pos.shape[:2], generator=generator).to(pos.device)
    elif start == "centre":
        share = torch.ones(pos.shape[:2]).to(pos) if exists is None else exists.to(pos)
        mean = (share[..., None] * pos).sum(1, keepdim=True) / share.sum(1)[:, None, None]
        scores = (pos - mean).square().sum(-1)
    else:
        raise UnknownNameError(f"start = {start!r}; choose 'random' or 'centre', or give the rows [B]")
    return (scores if exists is None else scores.masked_fill(~exists, -1.0)).argmax(1)


def _walk(pos: Tensor, first: Tensor, count: int, exists: Tensor | None) -> Tensor:
    chosen = [first]
    nearest = pos.new_full(pos.shape[:2], torch.inf)
    for _ in range(count - 1):
        last = pos.gather(1, chosen[-1][:, None, None].expand(-1, 1, pos.shape[-1]))
        nearest = torch.minimum(nearest, (pos - last).square().sum(-1))
        chosen.append((nearest if exists is None else nearest.masked_fill(~exists, -1.0)).argmax(1))
    return torch.stack(chosen, 1)


def _walk_in_place(
    axes: NDArray[np.floating],
    chosen: NDArray[np.int64],
    first: NDArray[np.int64],
    skipped: NDArray[np.bool_] | None,
) -> None:
    """The same on arrays ``[d, B, n]``, without new memory; rows to fill ``[B, count]``."""
    _, batch, n = axes.shape
    rows = np.arange(batch)
    nearest = np.full((batch, n), np.inf, axes.dtype)
    if skipped is not None:
        nearest[skipped] = -1
    distance, part = np.empty_like(nearest), np.empty_like(nearest)
    last = first
    for step in range(chosen.shape[1]):
        chosen[:, step] = last
        for k, row in enumerate(axes):
            into = part if k else distance
            np.subtract(row, row[rows, last][:, None], out=into)
            np.multiply(into, into, out=into)
            if k:
                np.add(distance, part, out=distance)
        np.minimum(nearest, distance, out=nearest)
        last = nearest.argmax(1)


def _groups(pos: Tensor, centres: Tensor, k: int, radius: float, exists: Tensor | None) -> Groups:
    check_integer("k", k, 1)
    _check_cloud(pos, "pos")
    _check_exists(exists, pos)
    if centres.ndim != 3 or (len(centres), centres.shape[2]) != (len(pos), pos.shape[2]):
        raise ShapeError(f"centres {tuple(centres.shape)} for pos {tuple(pos.shape)}; pass [B, m, d] and [B, n, d]")
    check_floating(centres, "centres")
    check_finite(centres, "centres")
    points, wanted = (t.detach().double().cpu().numpy() for t in (pos, centres))
    index = np.zeros((*wanted.shape[:2], k), np.int64)
    found = np.zeros(index.shape, bool)
    limit = np.nextafter(radius, math.inf)  # scipy's bound is exclusive
    threads = torch.get_num_threads()
    for b in range(len(points)):
        rows = None if exists is None else np.flatnonzero(exists[b].cpu().numpy())
        cloud = points[b] if rows is None else points[b][rows]
        if not len(cloud) or not wanted.shape[1]:
            continue
        most = min(k, len(cloud))
        near = search_tree(cloud).query(wanted[b], most, distance_upper_bound=limit, workers=threads)[1]
        near = near.reshape(len(wanted[b]), most)
        there = near < len(cloud)
        near = np.where(there, near, np.where(there[:, :1], near[:, :1], 0))
        index[b, :, :most] = near if rows is None else rows[near]
        index[b, :, most:] = index[b, :, :1]
        index[b][~there[:, 0]] = 0
        found[b, :, :most] = there
    return Groups(torch.from_numpy(index).to(pos.device), torch.from_numpy(found).to(pos.device))


def _cell_means(x: Tensor, labels: Tensor, cells: int) -> Tensor:
    if x.ndim != 3 or x.shape[:2] != labels.shape:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give a row for each of the points {tuple(labels.shape)}")
    share = (labels >= 0).to(x)
    place = labels.clamp(min=0)
    counts = x.new_zeros(len(x), cells).scatter_add(1, place, share)
    wide = place[..., None].expand_as(x)
    sums = x.new_zeros(len(x), cells, x.shape[2]).scatter_add(1, wide, x * share[..., None])
    return sums / counts.clamp(min=1)[..., None]


def _check_cloud(pos: Tensor, name: str) -> None:
    if pos.dim() != 3 or pos.shape[1] == 0:
        raise ShapeError(f"{name} has shape {tuple(pos.shape)}; pass [B, n, d] with n at least 1")
    check_floating(pos, name)
    check_finite(pos, name)


def _check_exists(exists: Tensor | None, pos: Tensor, *, needed: bool = False) -> None:
    if exists is None:
        return
    if exists.dtype != torch.bool or exists.shape != pos.shape[:2]:
        raise ShapeError(f"exists is {exists.dtype} {tuple(exists.shape)}; pass bool {tuple(pos.shape[:2])}")
    if needed and not bool(exists.any(1).all()):
        raise ShapeError(f"exists is false for all points of sample {first_index(~exists.any(1))[0]}")
