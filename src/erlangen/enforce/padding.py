"""Rows that do not exist: set to zero in everything that has a row per item."""

from __future__ import annotations

from torch import Tensor

from erlangen.actions import (
    SPD,
    Action,
    DirectSum,
    Graph,
    Invariant,
    Permuted,
    Points,
    Pseudovectors,
    Tree,
    TreeAction,
    Vectors,
)

WITH_ROWS = (Points, Vectors, Pseudovectors, DirectSum, SPD, Invariant)
"""Actions whose tensors ``[B, N, ...]`` hold one row per item, unlike images and sequences."""


def zero_padding(action: Action, x: Tree, keep: Tensor) -> Tree:
    """Zero the rows of x where ``keep [B, N]`` is false.

    Rows are axis 1 of tensors ``[B, N, ...]`` with at least three axes, the last axis of coordinates laid out
    channels first (``[B, n, N]``), the node axis of "permuted" data, and both node axes of an adjacency.
    Tensors that have no axis of N items there stay as they are.
    """
    if isinstance(action, TreeAction):
        return action.rebuild(x, [zero_padding(child, value, keep) for _, child, value in action.pairs(x)])
    if isinstance(action, Graph):
        return {key: _zero_entry(key, value, keep) for key, value in x.items()}
    if not isinstance(x, Tensor):
        return x
    if isinstance(action, Permuted):
        return _zero_axis(x, keep, x.ndim + action.axis)
    if x.ndim < 3 or not isinstance(action, WITH_ROWS):
        return x
    return _zero_axis(x, keep, 2 if getattr(action, "axis", -1) == -2 and x.ndim == 3 else 1)


def _zero_entry(key: str, value: Tensor, keep: Tensor) -> Tensor:
    if key == "adj":
        return _zero_axis(_zero_axis(value, keep, 1), keep, 2)
    return _zero_axis(value, keep, 1) if key in ("x", "pos") else value


def _zero_axis(x: Tensor, keep: Tensor, axis: int) -> Tensor:
    if x.shape[axis] != keep.shape[1]:
        return x
    shape = [1] * x.ndim
    shape[0], shape[axis] = keep.shape
    return x.masked_fill(~keep.reshape(shape), 0)
