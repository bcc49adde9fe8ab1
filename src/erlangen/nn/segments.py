"""Sums, means and largest values of rows that share an index: what messages meet in, and parts of a cloud, and graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ShapeError

__all__ = ["segment_max", "segment_mean", "segment_sum"]


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


def _check(x: Tensor, index: Tensor) -> None:
    if index.dtype != torch.int64:
        raise DtypeError(f"index has dtype {index.dtype}; pass int64")
    if x.dim() < 1 or index.shape != x.shape[:1]:
        raise ShapeError(
            f"index has shape {tuple(index.shape)}; x {tuple(x.shape)} needs one number per row, {tuple(x.shape[:1])}"
        )
