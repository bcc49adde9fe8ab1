"""From what people bring to what is measured: the model, the symmetry, data and labels as trees of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from erlangen.actions import Action, Tree, tree_leaves
from erlangen.data import GraphData
from erlangen.errors import DataError
from erlangen.measure.inputs import as_tree, is_numbers
from erlangen.measure.models import Model, ModelLike
from erlangen.measure.padding import Padding, check_rows, padded_symmetry, with_rows
from erlangen.measure.rows import marked
from erlangen.measure.samples import Padded, collated, dense_graphs, is_list_of_samples, unloaded
from erlangen.symmetry import Symmetry


class Brought(NamedTuple):
    """A model that is ready to be called, and the symmetry of data that may be padded."""

    model: Model
    symmetry: Symmetry
    x: Tree
    y: Tree | None


def bring(model: ModelLike, symmetry: Symmetry, x: Any, y: Any = None) -> Brought:
    """Read what was given to an audit.

    Samples of different size come back as ``{"x": padded, "mask": [B, N]}``, under a symmetry of these two, for a model that
    knows what padding is; see `erlangen.measure.padding.Padding`.

    Raises:
        DataError, DtypeError: as `as_tree`, `unloaded` and `collated`.
        ModelError: what is no model; one whose answers follow the size of the sample in another way than row by row.
    """
    wrapped = Model(model)
    x, y, action = *unloaded(x, y), symmetry.input.action
    y, rows = _labels(y, sample_count(x), symmetry.output.action)
    if isinstance(x, GraphData):
        x = dense_graphs(x, action)
        wrapped.padding = Padding(False, [[1, 2] if key == "adj" else [1] for key in x if key != "mask"])
    elif is_list_of_samples(x, action):
        x, mask, axes = collated(x, action=action, dtype=wrapped.dtype)
        if mask is not None:
            check_rows(action, x, axes)
            wrapped.padding = Padding(True, axes)
            symmetry, x = padded_symmetry(symmetry), {"x": x, "mask": mask}
    x, y = wrapped.read(x, y)
    if wrapped.padding is not None:
        with wrapped.measuring(quiet=True):
            wrapped.padding.learn(wrapped, x)
        if wrapped.padding.has_rows:
            symmetry = with_rows(symmetry, wrapped.padding)
            y = y if rows is None else marked(y, rows)
    return Brought(wrapped, symmetry, x, y)


def labels(y: Any, count: int | None, action: Action | None = None) -> Any:
    """`_labels` without the rows that exist."""
    return _labels(y, count, action)[0]


def _labels(y: Any, count: int | None, action: Action | None = None) -> tuple[Any, Tensor | None]:
    """Labels as they are, or those of single samples put together, with the rows that exist where their sizes differ.

    Raises:
        DataError: class labels for rows, in samples of different size, where a zero would be a class.
    """
    if not isinstance(y, list) or any(isinstance(entry, (str, bytes)) for entry in cast("list[Any]", y)):
        return y, None
    entries = cast("list[Any]", y)
    single = all(getattr(entry, "ndim", None) == 0 for entry in entries)
    if not single and not _one_each(entries, count) and not is_list_of_samples(y, action):
        return cast("Any", y), None
    found = collated(entries, "y", action=action)
    if found.mask is not None and any(not leaf.is_floating_point() for leaf in tree_leaves(found.x)):
        raise DataError(
            "y: class labels for rows, in samples of different size; leave y out, or pad it with a class of its own"
        )
    return found.x, found.mask


def sample_count(x: Any) -> int | None:
    """Number of samples, as far as the first axis tells."""
    leaves = tree_leaves(x) if isinstance(x, (Mapping, tuple)) else [x]
    first = next(iter(leaves), None)
    return len(first) if hasattr(first, "__len__") and getattr(first, "ndim", 1) else None  # pyright: ignore[reportArgumentType]


def _one_each(entries: list[Any], count: int | None) -> bool:
    """Whether a list of arrays has one for each of `count` samples, and is no tuple of so many batches."""
    if len(entries) != count or is_numbers(entries):
        return False
    batches = [tree_leaves(e) if isinstance(e, (Mapping, tuple)) else [e] for e in entries]
    return not all(sample_count(leaf) == count for leaves in batches for leaf in leaves)


def read_pairs(x: Any, y: Any = None, *, dtype: torch.dtype | None = None) -> tuple[Tree, Tree | None]:
    """Data and labels for training: trees of tensors, and `Padded` ones for samples of different size.

    Lists hold samples if there are as many labels as entries, or if sizes differ; else they are structure.

    Raises:
        DataError: what cannot be read or padded, `GraphData` among it.
    """
    loaded = not isinstance(x, (Tensor, Mapping, tuple, list))
    x, y = unloaded(x, y)
    y = labels(y, sample_count(x))
    if isinstance(x, GraphData):
        raise DataError("x is GraphData; train on x.dense(), or on the parts of it that the model takes")
    if isinstance(x, list) and x:
        found = cast("list[Any]", x)
        count = None if y is None else sample_count(y)
        if is_list_of_samples(found, None) or loaded or _one_each(found, count):
            x, mask, _ = collated(found, dtype=dtype)
            x = x if mask is None else Padded(x, mask)
    return as_tree(x, "x", dtype=dtype), None if y is None else as_tree(y, "y", dtype=dtype)
