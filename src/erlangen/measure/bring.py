"""From what people bring to what is measured: the model, the symmetry, data and labels as trees of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from erlangen.actions import Action, Tree, tree_leaves
from erlangen.data import GraphData
from erlangen.errors import DataError
from erlangen.measure.inputs import as_tree
from erlangen.measure.models import Model, ModelLike
from erlangen.measure.padding import Padding, check_rows, padded_symmetry
from erlangen.measure.samples import Samples, collated, dense_graphs, is_list_of_samples, unloaded
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
    y = labels(y, symmetry.output.action)
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
    return Brought(wrapped, symmetry, x, y)


def labels(y: Any, action: Action | None = None) -> Any:
    """Labels as they are, or those of single samples put together, padded with zeros where their sizes differ.

    Raises:
        DataError: class labels for rows, in samples of different size, where a zero would be a class.
    """
    if not isinstance(y, list) or any(isinstance(entry, (str, bytes)) for entry in cast("list[Any]", y)):
        return y
    single = all(getattr(entry, "ndim", None) == 0 for entry in cast("list[Any]", y))
    if not single and not is_list_of_samples(y, action):
        return cast("Any", y)
    found = collated(cast("list[Any]", y), "y", action=action)
    if found.mask is not None and any(not leaf.is_floating_point() for leaf in tree_leaves(found.x)):
        raise DataError(
            "y: class labels for rows, in samples of different size; leave y out, or pad it with a class of its own"
        )
    return found.x


def read_pairs(x: Any, y: Any = None, *, dtype: torch.dtype | None = None) -> tuple[Tree, Tree | None]:
    """Data and labels without a model to measure, for training: trees of tensors; padded samples lie beside their mask.

    Lists hold samples if there are as many labels as entries, or if sizes differ; else they are structure.

    Returns:
        ``(x, y)``; of samples of different size x is ``{"x": padded, "mask": [B, N]}``, of dicts the dict with the mask in it.
    """
    loaded = not isinstance(x, (Tensor, Mapping, tuple, list))
    x, y = unloaded(x, y)
    y = labels(y)
    if isinstance(x, GraphData):
        raise DataError("x is GraphData; train on x.dense(), or on the parts of it that the model takes")
    if isinstance(x, list) and x:
        found = cast("list[Any]", x)
        one_each = hasattr(y, "__len__") and not isinstance(y, Mapping) and len(y) == len(found)
        square = one_each and all(
            hasattr(e, "__len__") and not isinstance(e, Mapping) and len(e) == len(found) for e in found
        )
        if is_list_of_samples(found, None) or (
            (loaded or (one_each and not square)) and not isinstance(found[0], (int, float))
        ):
            x = _beside(collated(found, dtype=dtype))
    return as_tree(x, "x", dtype=dtype), None if y is None else as_tree(y, "y", dtype=dtype)


def _beside(samples: Samples) -> Tree:
    if samples.mask is None:
        return samples.x
    return (
        {**samples.x, "mask": samples.mask} if isinstance(samples.x, dict) else {"x": samples.x, "mask": samples.mask}
    )
