"""Which points are near each other: edges within a radius, to the k nearest, and through the walls of a periodic cell.

Edges are int64 ``[2, E]``, source in row 0 and target in row 1, sorted by target, as `erlangen.nn` and PyTorch Geometric
take them. The search is that of scipy's k-d tree, exact and in float64; nothing is left out, however many neighbours a
point has. Edges carry no gradient; lengths and directions get it from `edge_vectors`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, GroupError, ShapeError, check_finite, check_floating
from erlangen.geometry._trees import search_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Integers = NDArray[np.int64]

_SMALL = 512
"""Mean number of points per graph up to which one tree for all graphs beats a tree for each."""


MARGIN = 1 + 1e-9
"""Images on the border of what is near may seem beyond it by rounding; the search decides."""


class PeriodicEdges(NamedTuple):
    """Edges of a crystal.

    Attributes:
        edge_index: int64 ``[2, E]``, source and target.
        shift: int64 ``[E, n]``, the walls that the edge crosses: it is the vector
            ``pos[target] - pos[source] + shift @ cell`` (the convention of ASE).
    """

    edge_index: Tensor
    shift: Tensor


def radius_graph(pos: Tensor, radius: float, batch: Tensor | None = None, *, loop: bool = False) -> Tensor:
    """Edges between all points at most `radius` apart, in both directions.

    >>> radius_graph(torch.tensor([[0.0], [1.0], [3.0]]), 1.5)
    tensor([[1, 0],
            [0, 1]])

    Args:
        pos: points ``[N, n]``, float32 or float64, of all graphs one after the other.
        radius: in the units of `pos`; positive.
        batch: the graph of each point, int64 ``[N]``, in ascending order; one graph without it.
        loop: whether each point is its own neighbour, too.

    Returns:
        ``edge_index``, int64 ``[2, E]``, sorted by target, then by source.

    Raises:
        ShapeError, DtypeError, NotFiniteError: `pos` or `batch` is not as above.
        ErlangenError: `radius` is not positive and finite.
    """
    _check_radius(radius)
    points, graphs = _checked(pos, batch)
    found: list[Integers] = []
    for rows, lifted in _trees(points, graphs, 2 * radius):
        pairs = search_tree(lifted).query_pairs(radius, output_type="ndarray")
        found.append(pairs + rows if rows else pairs)
    pairs = found[0] if len(found) == 1 else np.concatenate([np.zeros((0, 2), np.int64), *found])
    return torch.from_numpy(_both_directions(pairs, len(points), loop)).to(pos.device)


def knn_graph(pos: Tensor, k: int, batch: Tensor | None = None, *, loop: bool = False, fewer: bool = False) -> Tensor:
    """Edges from the k nearest points of the same graph to each point.

    >>> knn_graph(torch.tensor([[0.0], [1.0], [3.0]]), 1)
    tensor([[1, 0, 1],
            [0, 1, 2]])

    Args:
        pos: points ``[N, n]``, float32 or float64, of all graphs one after the other.
        k: number of neighbours; positive.
        batch: the graph of each point, int64 ``[N]``, in ascending order; one graph without it.
        loop: whether a point counts as its own nearest neighbour.
        fewer: take what there is in graphs with less than k neighbours, instead of an error.

    Returns:
        ``edge_index``, int64 ``[2, E]``, sorted by target, then by distance. Of equally far points any may come first.

    Raises:
        ShapeError, DtypeError, NotFiniteError: `pos` or `batch` is not as above.
        ErlangenError: `k` is not positive, or a graph has too few points.
    """
    if k < 1:
        raise ErlangenError(f"k = {k}; ask for at least one neighbour")
    points, graphs = _checked(pos, batch)
    sizes = np.bincount(graphs) if len(graphs) else np.zeros(0, np.int64)
    wanted = k + (not loop)
    short = (sizes > 0) & (sizes < wanted)
    if short.any() and not fewer:
        graph = int(np.argmax(short))
        raise ErlangenError(
            f"graph {graph} has {sizes[graph]} points, too few for k = {k} neighbours each; lower k or pass fewer=True"
        )
    found: list[Integers] = []
    far = 4 * float(np.ptp(points, axis=0).sum()) + 1 if len(points) else 1.0
    for rows, lifted in _trees(points, graphs, far):
        count = min(wanted, len(lifted))
        near = search_tree(lifted).query(lifted, count, workers=torch.get_num_threads())[1]
        found.append(_nearest(near.reshape(len(lifted), count), graphs, rows, loop))
    edges = np.concatenate(found, 1) if found else np.zeros((2, 0), np.int64)
    return torch.from_numpy(edges).to(pos.device)


def periodic_radius_graph(
    pos: Tensor,
    radius: float,
    cell: Tensor,
    batch: Tensor | None = None,
    *,
    periodic: bool | Sequence[bool] = True,
    loop: bool = False,
) -> PeriodicEdges:
    """Edges between points and all periodic images of points at most `radius` away, however small the cell is.

    Args:
        pos: points ``[N, n]``, inside the cell or not.
        radius: in the units of `pos`; positive.
        cell: lattice vectors in rows, ``[n, n]``, or one cell for each graph, ``[G, n, n]``.
        batch: the graph of each point, int64 ``[N]``, in ascending order; one graph without it.
        periodic: along which lattice vectors space repeats.
        loop: whether each point is its own neighbour, too; its images are in any case.

    Returns:
        Edges, sorted by target, and the walls they cross.

    Raises:
        ShapeError, DtypeError, NotFiniteError: an argument is not as above.
        ErlangenError: `radius` is not positive and finite.
        GroupError: lattice vectors are linearly dependent.
    """
    _check_radius(radius)
    points, graphs = _checked(pos, batch)
    dim = points.shape[1]
    repeats = np.broadcast_to(np.asarray(periodic, bool), (dim,)) if np.ndim(periodic) in (0, 1) else None
    if repeats is None or (np.ndim(periodic) == 1 and len(cast("Sequence[bool]", periodic)) != dim):
        raise ShapeError(f"periodic = {periodic!r}; pass one bool, or one for each of the {dim} lattice vectors")
    cells = _cells(cell, dim, graphs)
    inverse = np.linalg.inv(cells)
    fractions = np.einsum("pi,pij->pj", points, inverse[graphs])
    wraps = np.where(repeats, np.floor(fractions), 0)
    fractions = fractions - wraps
    # Planes of the lattice are 1 / |column of the inverse| apart, so images beyond `reach` in fractions are too far.
    reach = radius * np.linalg.norm(inverse, axis=1)
    near, steps = _images(fractions, reach[graphs], repeats)
    own, count = len(steps) // 2, len(steps)  # the step to the point itself, which is the middle one
    # Of an edge and its reverse, which takes the opposite step, one is searched for.
    ghosts, step = np.nonzero(near[:, own + 1 :])
    step += own + 1
    places, copies = (
        np.einsum("pi,pij->pj", where, cells[graphs[owner]])
        for where, owner in ((fractions, slice(None)), (fractions[ghosts] + steps[step], ghosts))
    )
    if len(graphs) and graphs[0] != graphs[-1]:  # a further coordinate keeps graphs apart
        places, copies = (
            np.column_stack([where, 2 * radius * owner])
            for where, owner in ((places, graphs), (copies, graphs[ghosts]))
        )
    target, image = _near_images(places, copies, ghosts, step, count, radius, loop)
    edges = np.empty((2, len(target)), np.int64)
    edges[0], step = np.divmod(image, count)
    edges[1] = target
    # Target minus image of the source, so the image counts with a minus; positions were wrapped before.
    shift = (-steps).take(step, 0)
    if wraps.any():
        moved = wraps.astype(np.int64)
        shift += moved.take(edges[0], 0)
        shift -= moved.take(target, 0)
    return PeriodicEdges(torch.from_numpy(edges).to(pos.device), torch.from_numpy(shift).to(pos.device))


def edge_vectors(
    pos: Tensor,
    edge_index: Tensor,
    shift: Tensor | None = None,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    """Vectors ``[E, n]`` from source to target, ``pos[target] - pos[source] + shift @ cell``, with gradients.

    Args:
        pos: points ``[N, n]``.
        edge_index: int64 ``[2, E]``.
        shift, cell: of `periodic_radius_graph`, both or none; with a cell for each graph `batch`, too.
        batch: the graph of each point, int64 ``[N]``.

    Raises:
        ShapeError: one of `shift` and `cell` is missing, or `batch` is.
    """
    source, target = edge_index
    vectors = pos.index_select(0, target) - pos.index_select(0, source)
    if shift is None and cell is None:
        return vectors
    if shift is None or cell is None or (cell.dim() == 3 and batch is None):
        raise ShapeError("shift and cell belong together, and cells [G, n, n] need batch; see periodic_radius_graph")
    steps = shift.to(cell.dtype)
    if cell.dim() == 2:
        return vectors + steps @ cell
    return vectors + (steps[:, None] @ cell[cast("Tensor", batch)[target]])[:, 0]


# --- parts -----------------------------------------------------------------------------------------------------------
def _checked(pos: Tensor, batch: Tensor | None) -> tuple[Floats, Integers]:
    check_floating(pos, "pos")
    if pos.dim() != 2 or pos.shape[1] == 0:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; pass [N, n], the points of all graphs one after the other")
    check_finite(pos, "pos")
    if batch is None:
        graphs = np.zeros(len(pos), np.int64)
    else:
        if batch.dtype != torch.int64:
            raise DtypeError(f"batch has dtype {batch.dtype}; pass int64")
        if batch.shape != pos.shape[:1] or bool((batch[1:] < batch[:-1]).any()) or bool((batch[:1] < 0).any()):
            raise ShapeError(
                f"batch {tuple(batch.shape)} must give the graph of each of the {len(pos)} points, in ascending order from 0"
            )
        graphs = batch.cpu().numpy()
    return pos.detach().double().cpu().numpy(), graphs


def _check_radius(radius: float) -> None:
    if not radius > 0 or not math.isfinite(radius):
        raise ErlangenError(f"radius = {radius}; give a positive number")


def _trees(points: Floats, graphs: Integers, apart: float) -> list[tuple[int, Floats]]:
    """Points to search among each other, with the index of the first: those of one graph, or of many small ones.

    Many small graphs share a tree; a further coordinate keeps them `apart`, and adds exactly nothing within a graph.
    """
    if not len(points) or graphs[0] == graphs[-1]:
        return [(0, points)] if len(points) else []
    starts = np.flatnonzero(np.diff(graphs, prepend=-1))
    if len(points) <= _SMALL * len(starts):
        return [(0, np.column_stack([points, apart * graphs]))]
    ends = np.append(starts[1:], len(points))
    return [(int(start), points[start:end]) for start, end in zip(starts, ends, strict=True)]


def _nearest(near: Integers, graphs: Integers, first: int, loop: bool) -> Integers:
    """Edges of the nearest points ``[M, c]`` to the points ``first, first + 1, ...``, without those of other graphs."""
    target = np.arange(len(near))
    if not loop:
        if len(near) and bool((near[:, 0] == target).all()):
            near = near[:, 1:]
        else:
            # Among coincident points the point itself need not be the first, nor be found; then the farthest one goes.
            itself = near == target[:, None]
            itself[~itself.any(1), -1] = True
            near = near[~itself].reshape(len(near), -1)
    edges = first + np.stack([near, np.broadcast_to(target[:, None], near.shape)]).reshape(2, -1)
    # Graphs with fewer points than asked for have found those of others.
    same = graphs[edges[0]] == graphs[edges[1]]
    return edges if same.all() else edges[:, same]


def _both_directions(pairs: Integers, count: int, loop: bool) -> Integers:
    """Edges of pairs ``(i, j)``, i < j, in both directions and by target, then by source; with `loop` from points to themselves.

    Pairs are the entries of a triangular matrix, which scipy transposes by counting; that sorts its rows. In the row of a
    target the sources before it come first, from the transpose, and then those behind it.
    """
    from scipy.sparse import coo_array

    triangle = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    triangle.has_canonical_format = True  # no pair comes twice; looking for such costs more than all the rest
    before = triangle.tocsr().tocsc()
    behind = before.tocsr()
    targets = np.arange(count)
    own = targets if loop else 0
    sizes = np.diff(before.indptr), np.diff(behind.indptr)
    edges = np.empty((2, 2 * len(pairs) + loop * count), np.int64)
    edges[1] = np.repeat(targets, sizes[0] + sizes[1] + loop)
    # The place of an entry in both triangles is that in its own, and what rows up to its own have of the other.
    places = np.arange(len(pairs))
    edges[0, places + np.repeat(behind.indptr[:-1] + own, sizes[0])] = before.indices
    edges[0, places + np.repeat(before.indptr[1:] + own + loop, sizes[1])] = behind.indices
    if loop:
        edges[0, before.indptr[1:] + behind.indptr[:-1] + targets] = targets
    return edges


def _near_images(
    places: Floats, copies: Floats, ghosts: Integers, step: Integers, count: int, radius: float, loop: bool
) -> tuple[Integers, Integers]:
    """Points and the images near them, numbered by their point and one of `count` steps; sorted by both.

    `copies` are images of the points `ghosts` by a `step` behind the middle one.
    """
    own = count // 2
    tree = search_tree(places)
    inside = tree.query_pairs(radius, output_type="ndarray")
    across = tree.sparse_distance_matrix(search_tree(copies), radius, output_type="ndarray")
    ends, there, ahead = across["i"], ghosts[across["j"]], step[across["j"]]
    itself = np.arange(len(places) if loop else 0)
    # All in one place: fresh memory takes longer than the sums.
    size = len(places) * count
    targets, images = np.empty((2, 2 * len(inside) + 2 * len(ends) + len(itself)), _index_type(size))
    first = 0
    for target, source, taken in (
        (inside[:, 0], inside[:, 1], own),
        (inside[:, 1], inside[:, 0], own),
        (ends, there, ahead),
        (there, ends, count - 1 - ahead),
        (itself, itself, own),
    ):
        part = slice(first, first + len(target))
        targets[part] = target
        images[part] = source
        images[part] *= count
        images[part] += taken
        first += len(target)
    return _by_rows(targets, images, (len(places), size))


def _by_rows(rows: Integers, columns: Integers, shape: tuple[int, int]) -> tuple[Integers, Integers]:
    """Different pairs, sorted by row, then by column: by counting, once for each."""
    from scipy.sparse import coo_array

    matrix = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)
    matrix.has_canonical_format = True  # as above
    found: Any = matrix.tocsc().tocsr()
    return np.repeat(np.arange(shape[0], dtype=rows.dtype), np.diff(found.indptr)), found.indices


def _index_type(size: int) -> type[np.signedinteger[Any]]:
    """The shorter type of indices below a size, as scipy has it."""
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _cells(cell: Tensor, dim: int, graphs: Integers) -> Floats:
    """Lattice vectors ``[G, n, n]`` of all graphs."""
    check_floating(cell, "cell")
    check_finite(cell, "cell")
    count = int(graphs[-1]) + 1 if len(graphs) else 0
    if cell.shape[-2:] != (dim, dim) or cell.dim() not in (2, 3) or (cell.dim() == 3 and len(cell) < count):
        raise ShapeError(
            f"cell has shape {tuple(cell.shape)}; pass {(dim, dim)}, or one for each graph, {(count, dim, dim)}"
        )
    cells = cell.detach().double().cpu().numpy()
    cells = np.broadcast_to(cells, (max(count, 1), dim, dim)) if cells.ndim == 2 else cells
    flat = np.abs(np.linalg.det(cells)) <= 1e-9 * np.linalg.norm(cells, axis=-1).prod(-1)
    if flat.any():
        raise GroupError(
            f"cell of graph {int(flat.argmax())} has linearly dependent lattice vectors; give a vector of any length, "
            "across the others, to a direction that is not periodic"
        )
    return cells


def _images(fractions: Floats, reach: Floats, repeats: Any) -> tuple[NDArray[np.bool_], Integers]:
    """Which periodic images of the points are near the cell, ``[N, S]``, and their steps ``[S, n]``.

    Steps fall, the last coordinate first, so that the walls that an edge crosses rise; the opposite of each stands as far
    from the other end.
    """
    most = np.where(repeats, np.ceil(reach.max(0, initial=0)), 0).astype(int)
    walks = [np.arange(m, -m - 1, -1) for m in most]
    steps = (most[::-1] - np.indices([len(w) for w in reversed(walks)]).reshape(len(most), -1).T)[:, ::-1]
    near = np.ones((len(fractions), len(steps)), bool)
    for axis in np.flatnonzero(repeats):
        images, beyond = fractions[:, axis, None] + walks[axis], MARGIN * reach[:, axis, None]
        near &= ((images >= -beyond) & (images <= 1 + beyond))[:, most[axis] - steps[:, axis]]
    return near, steps
