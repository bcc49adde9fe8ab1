"""Data that come sample by sample: lists of samples, also of different size, DataLoaders, data sets, `GraphData`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from erlangen.actions import (
    Action,
    Custom,
    Graph,
    Invariant,
    Scaled,
    Sign,
    Swap,
    Tree,
    TreeAction,
    tree_leaves,
    tree_map,
)
from erlangen.data import GraphData
from erlangen.errors import DataError
from erlangen.measure.inputs import as_tree, is_numbers

LABELS = ("y", "label", "labels", "target", "targets")
"""Names under which a batch that is a dict holds its labels."""
LOADED_AT_ONCE = 256
"""Samples of a data set that are read into one batch."""


class Samples(NamedTuple):
    """Samples put together.

    Attributes:
        x: a tree of tensors ``[B, ...]``, zero where there is nothing.
        mask: bool ``[B, N]``, the rows that exist; ``None`` where all samples have one size.
        axes: for every tensor of x, in order, the axes that were padded.
    """

    x: Tree
    mask: Tensor | None
    axes: list[list[int]]


class Padded(NamedTuple):
    """Samples of different size in training: a tree of tensors ``[B, N, ...]``, and bool ``[B, N]``, the rows that exist."""

    x: Tree
    mask: Tensor


# --- loaders and data sets -------------------------------------------------------------------------------------------
def unloaded(x: Any, y: Any = None) -> tuple[Any, Any]:
    """Inputs and labels of a DataLoader, a data set, or `GraphData`; anything else as it is.

    A batch (or sample) that is a pair holds inputs and labels, one that is a dict its labels under a name of `LABELS`, and any
    other one inputs alone. What is read this way is held in memory.

    Raises:
        DataError: labels are given twice, a loader has no length, or it has no samples.
    """
    if isinstance(x, GraphData):
        return x, x.y if y is None else y
    if isinstance(x, Dataset) and not isinstance(x, IterableDataset):
        loader = DataLoader(cast("Dataset[Any]", x), batch_size=LOADED_AT_ONCE, collate_fn=_as_list)
        pairs = [_pair(sample) for batch in loader for sample in batch]
    elif isinstance(x, (DataLoader, IterableDataset)):
        if not hasattr(x, "__len__") or isinstance(getattr(x, "dataset", x), IterableDataset):
            raise DataError(
                f"x is a {type(x).__name__} without a length; take a number of samples: list(itertools.islice(x, 100))"
            )
        pairs = [pair for batch in cast("DataLoader[Any]", x) for pair in _rows(*_pair(batch))]
    else:
        return x, y
    if not pairs:
        raise DataError(f"x is a {type(x).__name__} without samples; give at least one")
    inputs, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if labels[0] is None:
        return inputs, y
    if y is not None:
        raise DataError(f"y is given, but x is a {type(x).__name__} that holds labels, too; give one of the two")
    return inputs, labels


def _as_list(samples: list[Any]) -> list[Any]:
    return samples


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        entries = dict(cast("Mapping[Any, Any]", batch))
        found = next((name for name in LABELS if name in entries), None)
        return (entries, None) if found is None else (entries, entries.pop(found))
    if isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields") and len(cast("list[Any]", batch)) in (1, 2):
        both = [*cast("list[Any]", batch), None]
        return both[0], both[1]
    return batch, None


def _rows(x: Any, y: Any) -> list[tuple[Any, Any]]:
    """The samples of a batch, each with its label."""
    tree = as_tree(x)
    labels = None if y is None else as_tree(y, "y")
    leaves = [*tree_leaves(tree), *([] if labels is None else tree_leaves(labels))]
    if not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves) or len({len(leaf) for leaf in leaves}) > 1:
        raise DataError(
            "x: a batch of the loader holds something else than tensors [B, ...] of one length; give a collate_fn"
        )
    return [
        (tree_map(lambda t, i=i: t[i], tree), None if labels is None else tree_map(lambda t, i=i: t[i], labels))
        for i in range(len(leaves[0]))
    ]


# --- lists of samples ------------------------------------------------------------------------------------------------
def is_list_of_samples(x: Any, action: Action | None) -> bool:
    """Whether a list holds one entry per sample, and not one per argument of the model.

    Entries for a list or tuple of actions are structure. Under an action on one tensor, or on a dict, a list of arrays or dicts
    is samples; under one that takes any tree, where their first axes differ.
    """
    if not isinstance(x, list) or not x or is_numbers(cast("list[Any]", x)):
        return isinstance(x, list) and bool(x) and _is_uneven(cast("list[Any]", x))
    if isinstance(action, TreeAction) and not isinstance(action.tree, dict):
        return False
    if action is None or isinstance(action, (Custom, Invariant, Sign, Swap, Scaled)):
        sizes = [
            tuple(len(leaf) if _has_rows(leaf) else 1 for leaf in _leaves(entry)) for entry in cast("list[Any]", x)
        ]
        return len(set(sizes)) > 1 or any(isinstance(entry, Mapping) for entry in cast("list[Any]", x))
    return True


def _has_rows(leaf: Any) -> bool:
    return hasattr(leaf, "__len__") and getattr(leaf, "ndim", 1) > 0


def _is_uneven(entries: list[Any]) -> bool:
    """Whether nested lists of numbers have entries of different length."""
    lengths = {len(cast("list[Any]", entry)) if isinstance(entry, (list, tuple)) else -1 for entry in entries}
    return len(lengths) > 1 or any(_is_uneven(cast("list[Any]", e)) for e in entries if isinstance(e, (list, tuple)))


def _leaves(entry: Any) -> list[Any]:
    return tree_leaves(entry) if not isinstance(entry, list) else [cast("Any", entry)]


def collated(
    samples: list[Any], name: str = "x", *, action: Action | None = None, dtype: torch.dtype | None = None
) -> Samples:
    """Samples of one structure as one tree of tensors, padded with zeros to the largest size.

    >>> collated([[[1.0], [2.0]], [[3.0]]]).mask.tolist()
    [[True, True], [True, False]]

    The rows of a sample are the first axis of what varies; other axes that vary must have as many entries (adjacencies). Under
    "graph" a list of edges ``edge_index [2, E]`` becomes an adjacency, as their number varies too.

    Raises:
        DataError: samples of different structure, or of sizes that vary in other ways.
    """
    trees = [as_tree(sample, f"{name}[{i}]", dtype=dtype) for i, sample in enumerate(samples)]
    trees = [
        _with_adjacency(tree, f"{name}[{i}]", action) if isinstance(action, Graph) else tree
        for i, tree in enumerate(trees)
    ]
    first = _flat(trees[0], f"{name}[0]")
    rows = [_flat(tree, f"{name}[{i}]") for i, tree in enumerate(trees)]
    for i, row in enumerate(rows):
        same = list(row) == list(first) and all(row[path].ndim == first[path].ndim for path in first)
        if not same:
            raise DataError(
                f"{name}[{i}] is {_described(row)}, but {name}[0] is {_described(first)}; give samples of one kind"
            )
    varied = {
        path: [axis for axis in range(leaf.ndim) if len({row[path].shape[axis] for row in rows}) > 1]
        for path, leaf in first.items()
    }
    ragged = [path for path, axes in varied.items() if axes]
    if not ragged:
        return Samples(tree_map(lambda *leaves: torch.stack(leaves), trees[0], *trees[1:]), None, [])
    sizes = [row[ragged[0]].shape[0] for row in rows]
    for path in ragged:
        for axis in varied[path]:
            found = [row[path].shape[axis] for row in rows]
            if found != sizes:
                i = next(i for i, (a, b) in enumerate(zip(found, sizes, strict=True)) if a != b)
                raise DataError(
                    f"{name}[{i}]{path}: axis {axis} has {found[i]} entries, but the sample has {sizes[i]} rows; what varies "
                    "besides the number of rows cannot be padded (pictures of different size: audit each size alone)"
                )
    most = max(sizes)

    def padded(*leaves: Tensor) -> Tensor:
        axes = [axis for axis in range(leaves[0].ndim) if len({leaf.shape[axis] for leaf in leaves}) > 1]
        shapes = [[most if axis in axes else n for axis, n in enumerate(leaf.shape)] for leaf in leaves]
        room = [F.pad(leaf, _room(leaf.shape, shape)) for leaf, shape in zip(leaves, shapes, strict=True)]
        return torch.stack(room)

    mask = torch.arange(most) < torch.tensor(sizes)[:, None]
    axes = [[1 + axis for axis in varied[path]] for path in first]
    return Samples(tree_map(padded, trees[0], *trees[1:]), mask.to(next(iter(first.values())).device), axes)


def _room(shape: torch.Size, wanted: list[int]) -> list[int]:
    """What `torch.nn.functional.pad` adds behind each axis, the last one first."""
    return [number for have, want in reversed(list(zip(shape, wanted, strict=True))) for number in (0, want - have)]


def _flat(tree: Tree, name: str) -> dict[str, Tensor]:
    """The tensors of a sample by where they are."""
    if isinstance(tree, Tensor):
        return {"": tree}
    if isinstance(tree, (int, float)):
        return {"": torch.tensor(tree)}
    if not isinstance(tree, (dict, list, tuple)):
        raise DataError(
            f"{name} is a {type(tree).__name__}; give a tensor or an array, or a dict or tuple of these, for every sample"
        )
    items: list[tuple[Any, Any]] = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    return {f"[{key!r}]{path}": leaf for key, value in items for path, leaf in _flat(value, f"{name}[{key!r}]").items()}


def _described(row: dict[str, Tensor]) -> str:
    return ", ".join(f"{path} {list(leaf.shape)}".strip() for path, leaf in row.items())


# --- graphs ----------------------------------------------------------------------------------------------------------
def _with_adjacency(tree: Tree, name: str, action: Graph) -> Tree:
    """A graph with a list of edges as one with an adjacency ``[n, n]``, with channels of what edges hold."""
    if not isinstance(tree, dict) or "edge_index" not in tree or "adj" in tree:
        return tree
    entries = dict(cast("dict[str, Any]", tree))
    edges, held = entries.pop("edge_index"), entries.pop("edge_attr", None)
    nodes = next((len(entries[key]) for key in ("x", "pos") if key in entries), None)
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.is_floating_point():
        raise DataError(f"{name}['edge_index'] has shape {tuple(edges.shape)} of {edges.dtype}; give int64 [2, E]")
    count = nodes if nodes is not None else int(edges.max()) + 1 if edges.numel() else 0
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < count:
        raise DataError(f"{name}['edge_index'] names node {int(edges.max())} of {count}, numbered from 0")
    if held is not None and not action.channels:
        raise DataError(
            f"{name} holds edge_attr; declare input='graph(channels=True)', whose adjacency has channels for it"
        )
    values = torch.ones(edges.shape[1], 1) if held is None else held.reshape(edges.shape[1], -1)
    adj = values.new_zeros(count, count, values.shape[1])
    adj[edges[0], edges[1]] = values
    return {"adj": adj if action.channels else adj[..., 0], **entries}


def dense_graphs(data: GraphData, action: Action) -> dict[str, Tensor]:
    """Graphs as a dict for the action "graph": ``adj``, ``mask``, and ``x`` where nodes have labels or attributes.

    Labels become unit vectors, of nodes in ``x`` and, with ``channels=True``, of edges in the channels of ``adj``; attributes
    stand behind them.

    Raises:
        DataError: edges hold something, and the action has no channels.
    """
    channels = isinstance(action, Graph) and action.channels
    dense = data.dense()
    place = torch.arange(len(data.batch)) - (data.sizes.cumsum(0) - data.sizes)[data.batch].cpu()
    source, target = data.edge_index
    where = (data.batch[source], place.to(source.device)[source], place.to(source.device)[target])
    kinds = int(data.edge_labels.max()) + 1 if data.edge_labels.numel() else 1
    held = torch.cat([F.one_hot(data.edge_labels, kinds).float(), data.edge_attributes.float()], 1)
    if held.shape[1] > 1 and not channels:
        raise DataError(
            "x: the edges hold labels or attributes; declare input='graph(channels=True)', whose adjacency has channels for them"
        )
    adj = held.new_zeros(*dense.adj.shape, held.shape[1])
    adj[where] = held
    graphs = {"adj": adj if channels else adj[..., 0], "mask": dense.mask}
    kinds = int(data.node_labels.max()) + 1 if data.node_labels.numel() else 1
    labels = [F.one_hot(data.node_labels, kinds).float()] if kinds > 1 else []
    nodes = torch.cat([*labels, data.node_attributes.float()], 1)
    if nodes.shape[1]:
        x = nodes.new_zeros(*dense.mask.shape, nodes.shape[1])
        x[data.batch, place.to(nodes.device)] = nodes
        graphs["x"] = x
    return graphs
