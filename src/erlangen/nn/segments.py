"""Rows that share an index, as nodes of a graph do: their sums, means and largest values, and padded batches of them."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ShapeError

__all__ = ["dense_batch", "segment_max", "segment_mean", "segment_sum", "sparse_batch"]


def segment_sum(x: Tensor, index: Tensor, segments: int) -> Tensor:
    """Sums of the rows with equal index.

    Args:
        x: rows ``[M, ...]``, floating point.
        index: segment of each row, int64 ``[M]``, in ``range(segments)``, in any order.
        segments: number of segments; one without rows gets zeros.

    Returns:
        ``[segments, ...]``.

    Raises:
        ShapeError: `index` is not one number per row.
        DtypeError: `index` is not int64.
    """
    _check(x, index)
    return x.new_zeros(segments, *x.shape[1:]).index_add(0, index, x)


def segment_mean(x: Tensor, index: Tensor, segments: int) -> Tensor:
    """Means of the rows with equal index; zero for a segment without rows. Arguments and errors as `segment_sum`."""
    _check(x, index)
    counts = x.new_zeros(segments).index_add(0, index, x.new_ones(len(x)))
    return segment_sum(x, index, segments) / counts.clamp(min=1).view(-1, *[1] * (x.dim() - 1))


def segment_max(x: Tensor, index: Tensor, segments: int) -> Tensor:
    """Largest values of the rows with equal index, each column by itself; zero for a segment without rows.

    The gradient goes to equal largest values in equal shares. Arguments and errors as `segment_sum`.
    """
    _check(x, index)
    wide = index.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
    return x.new_zeros(segments, *x.shape[1:]).scatter_reduce(0, wide, x, "amax", include_self=False)


def dense_batch(x: Tensor, batch: Tensor, *, graphs: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of graphs one after the other, as one padded row of nodes for each graph; `sparse_batch` is the way back.

    Args:
        x: ``[N, ...]``.
        batch: the graph of each row, int64 ``[N]``, in ascending order.
        graphs: how many graphs there are, G; without it up to the last that has rows.

    Returns:
        ``[G, M, ...]`` with zeros where a graph has fewer than M rows, and the mask of rows that exist, bool ``[G, M]``.

    Raises:
        ShapeError, DtypeError: `batch` is not as above.
    """
    _check(x, batch)
    if bool((batch[1:] < batch[:-1]).any()):
        raise ShapeError("batch is not in ascending order; sort x and batch by it")
    counts = torch.bincount(batch, minlength=0 if graphs is None else graphs)
    if graphs is not None and len(counts) > graphs:
        raise ShapeError(f"batch names graph {len(counts) - 1}, but graphs = {graphs}")
    rows = torch.arange(len(x), device=x.device) - (counts.cumsum(0) - counts)[batch]
    longest = int(counts.max()) if len(counts) else 0
    mask = torch.arange(longest, device=x.device) < counts[:, None]
    return x.new_zeros(len(counts), longest, *x.shape[1:]).index_put((batch, rows), x), mask


def sparse_batch(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The rows ``[N, ...]`` of ``[G, M, ...]`` that exist, and the graph of each, int64 ``[N]``.

    Raises:
        ShapeError: the mask is not bool ``[G, M]``.
    """
    if mask.dtype != torch.bool or mask.dim() != 2 or x.shape[:2] != mask.shape:
        raise ShapeError(
            f"mask {mask.dtype} {tuple(mask.shape)} must be bool {tuple(x.shape[:2])}, the first axes of x"
        )
    return x[mask], mask.nonzero()[:, 0]


def _check(x: Tensor, index: Tensor) -> None:
    if index.dtype != torch.int64:
        raise DtypeError(f"index has dtype {index.dtype}; pass int64")
    if x.dim() < 1 or index.shape != x.shape[:1]:
        raise ShapeError(
            f"index has shape {tuple(index.shape)}; x {tuple(x.shape)} needs one number per row, {tuple(x.shape[:1])}"
        )


def check_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless the mask is bool, of this shape."""
    if mask.dtype != torch.bool or mask.shape != torch.Size(shape):
        raise ShapeError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; pass bool {tuple(shape)}, true for nodes that exist"
        )
