"""What networks of `erlangen.data.GraphData` share: checks, features of pairs and of nodes, and the small network at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from erlangen.data.graph_sets import GraphData
from erlangen.errors import DataError
from erlangen.nn.backbones import mlp
from erlangen.nn.segments import segment_sum

HIDDEN = ("adj", "x")
"""Keys of what hidden layers may hold: numbers for pairs of nodes (rho_2) and for nodes (rho_1)."""

READOUT = (256, 128)
"""Widths of the network that reads the mean over ego-networks, as in the code of Mitton and Murray-Smith 2023."""

Channels = dict[str, int]


def layer_channels(
    node_labels: int, edge_labels: int, features: int, layers: int, hidden: Sequence[str]
) -> list[tuple[Channels, Channels]]:
    """Channels into and out of every layer; the last one gives four times as many numbers as hidden layers have channels."""
    inputs: Channels = {"adj": 1 + node_labels + (edge_labels if edge_labels > 1 else 0)}
    between: Channels = dict.fromkeys(hidden, features)
    steps = [inputs, *[between] * (layers - 1), {"y": 4 * features}]
    return list(itertools.pairwise(steps))


def graph_head(
    inputs: int, outputs: int, widths: Sequence[int], dropout: float, generator: Generator | None
) -> nn.Sequential:
    """A small network with dropout before every linear layer but the first."""
    layers: list[nn.Module] = []
    for module in mlp([inputs, *widths, outputs], nn.ELU, generator=generator):
        layers += [module, nn.Dropout(dropout)] if isinstance(module, nn.ELU) else [module]
    return nn.Sequential(*layers)


def padded_norm(norm: nn.Module, x: Tensor, exists: Tensor) -> Tensor:
    """A norm of rows, of the entries of padded features ``[G, ..., F]`` that exist, bool ``[G, ...]``; zeros elsewhere."""
    rows = exists.flatten().nonzero()[:, 0]
    flat = x.flatten(0, -2)
    return torch.zeros_like(flat).index_copy(0, rows, norm(flat.index_select(0, rows))).view_as(x)


def check_graphs(data: GraphData, undirected: bool) -> None:
    """Raise `DataError` for a graph without nodes, or an edge without its reverse where edges have no direction."""
    empty = (data.sizes == 0).nonzero()[:, 0]
    if len(empty):
        raise DataError(f"graph {int(empty[0])} of the batch has no nodes; leave it out")
    if undirected:
        nodes = len(data.batch)
        labels = int(data.edge_labels.max()) + 1 if data.edge_labels.numel() else 1
        there, back = (
            (data.edge_index[i] * nodes + data.edge_index[1 - i]) * labels + data.edge_labels for i in (0, 1)
        )
        alone = ~torch.isin(there, back)
        if bool(alone.any()):
            edge = data.edge_index[:, alone][:, 0].tolist()
            raise DataError(
                f"edge {edge[0]} -> {edge[1]} has no reverse of the same label; add it, or build the network with "
                "undirected=False"
            )


def pair_features(data: GraphData, pairs: Tensor, node_labels: int, edge_labels: int, like: nn.Module) -> Tensor:
    """What pairs of nodes start with ``[P, 1 + node_labels (+ edge_labels)]``, in the dtype of the parameters of `like`.

    The adjacency, divided by the roots of the numbers of edges that leave the one node and reach the other; the label of
    the node for pairs of a node with itself; the label of the edge where edges have more than one kind.

    Args:
        data: the graphs.
        pairs: int64 ``[2, P]``, all edges and all (u, u) among them, in ascending order.
        node_labels, edge_labels: how many there are.
        like: a module.

    Raises:
        DataError: a label is too large.
    """
    dtype, nodes = next(like.parameters()).dtype, len(data.batch)
    source, target = data.edge_index
    codes = pairs[0] * nodes + pairs[1]
    edges = torch.searchsorted(codes, source * nodes + target)
    out_degree, in_degree = (torch.bincount(end, minlength=nodes).to(dtype) for end in (source, target))
    found = torch.zeros(len(codes), 1 + node_labels + (edge_labels if edge_labels > 1 else 0), dtype=dtype)
    found = found.to(data.batch.device)
    found[edges, 0] = (out_degree[source] * in_degree[target]).rsqrt()
    diagonal = (pairs[0] == pairs[1]).nonzero()[:, 0]
    found[diagonal, 1 : 1 + node_labels] = data.one_hot(node_labels, dtype)
    if edge_labels > 1:
        check_edge_labels(data, edge_labels)
        found[edges, 1 + node_labels + data.edge_labels] = 1
    return found


def node_features(data: GraphData, node_labels: int, edge_labels: int) -> Tensor:
    """The label of every node, and how many edges of each kind reach it, ``[N, node_labels (+ edge_labels)]``, float32.

    Raises:
        DataError: a label is too large.
    """
    labels = data.one_hot(node_labels)
    if edge_labels <= 1:
        return labels
    check_edge_labels(data, edge_labels)
    kinds = torch.nn.functional.one_hot(data.edge_labels, edge_labels).to(labels)
    return torch.cat([labels, segment_sum(kinds, data.edge_index[1], len(labels))], -1)


def check_edge_labels(data: GraphData, edge_labels: int) -> None:
    """Raise `DataError` for a label that does not fit."""
    if data.edge_labels.numel() and int(data.edge_labels.max()) >= edge_labels:
        raise DataError(
            f"edge_labels = {edge_labels}, but an edge has the label {int(data.edge_labels.max())}; give more"
        )
