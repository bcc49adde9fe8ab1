"""The networks of `spen`: on ego-networks, on all pairs of nodes, and by message passing; all read `GraphData`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import elu, relu

from erlangen.data import GraphData
from erlangen.errors import DataError, ErlangenError, ErlangenWarning, UnknownNameError, check_sizes
from erlangen.nn import GraphNorm, PermutationLinear, SubgraphLinear, Subgraphs, ego_subgraphs, mlp, segment_mean
from erlangen.nn.segments import segment_sum

HIDDEN = ("adj", "x")
"""Keys of what hidden layers may hold: numbers for pairs of nodes (rho_2) and for nodes (rho_1)."""

READOUT = (256, 128)
"""Widths of the network that reads the mean over ego-networks, as in the paper's code."""


class SPEN(nn.Module):
    """The subgraph permutation equivariant network: equivariant linear layers on ego-networks, merged after each layer.

    Pairs of nodes start with the normalised adjacency, the kind of their edge, and on the diagonal the label of the node.
    Layers map these to numbers per pair and per node (`SubgraphLinear`), followed by ELU and GraphNorm; the last one maps them
    to numbers per ego-network. Their mean over the graph goes through a small network.

    A node without edges is alone in its ego-network. Outputs of a graph do not depend on the batch that it is in.

    Args:
        node_labels, edge_labels: how many there are; edges without labels have 0 or 1.
        out_features: numbers per graph, or per node.
        features: channels of hidden layers.
        layers: equivariant layers, at least 2.
        hops: how far ego-networks reach.
        sizes: sizes of ego-networks with weights of their own; all others, also those never seen, share one set of weights.
            These weights are what tells ego-networks that can be mapped onto each other from others.
        hidden: the representations of hidden layers, some of `HIDDEN`.
        norm: whether there is GraphNorm.
        activation: after every equivariant layer; a smooth one keeps small differences.
        per_node: whether the small network reads every ego-network by itself, for an answer per node.
        readout: widths of the small network.
        dropout: before every layer of the small network but the first.
        undirected: whether edges must come in both directions.
        limit: nodes of the largest ego-network that passes without a warning.
        generator: source of the initial weights.

    Raises:
        ErlangenError: a size is not positive, or `hidden` is empty or unknown.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> data = GraphData(path, torch.zeros(3).long(), torch.zeros(3).long(), torch.zeros(4).long(), torch.zeros(1).long())
    >>> SPEN(1, 2)(data).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        node_labels: int,
        out_features: int,
        features: int = 16,
        *,
        layers: int = 3,
        edge_labels: int = 0,
        hops: int = 1,
        sizes: Sequence[int] = (),
        hidden: Sequence[str] = HIDDEN,
        norm: bool = True,
        activation: Callable[[Tensor], Tensor] = elu,
        per_node: bool = False,
        readout: Sequence[int] = READOUT,
        dropout: float = 0.5,
        undirected: bool = True,
        limit: int = 128,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(node_labels=node_labels, features=features, layers=layers - 1, hops=hops)
        if not hidden or not set(hidden) <= set(HIDDEN):
            raise ErlangenError(f"hidden = {tuple(hidden)}: give some of {', '.join(HIDDEN)}")
        self.node_labels, self.edge_labels, self.hops = node_labels, edge_labels, hops
        self.per_node, self.undirected, self.limit = per_node, undirected, limit
        channels = layer_channels(node_labels, edge_labels, features, layers, hidden)
        self.layers = nn.ModuleList(SubgraphLinear(a, b, sizes, generator=generator) for a, b in channels)
        self.activation = activation
        self.norms = nn.ModuleList(
            nn.ModuleDict({key: GraphNorm(n) if norm else nn.Identity() for key, n in out.items()})
            for _, out in channels[:-1]
        )
        self.head = head(channels[-1][1]["y"], out_features, readout, dropout, generator)

    def forward(self, data: GraphData) -> Tensor:
        """``[G, out_features]``, or with ``per_node`` ``[N, out_features]``; in the dtype of the parameters.

        Raises:
            DataError: a graph has no nodes, a label is too large, or an edge of an undirected graph has one direction only.
        """
        subgraphs = self.subgraphs(data)
        found = self.encode(pair_features(data, subgraphs.pairs, self.node_labels, self.edge_labels, self), subgraphs)
        return self.head(found if self.per_node else segment_mean(found, subgraphs.owner, len(data)))

    def subgraphs(self, data: GraphData) -> Subgraphs:
        """The ego-networks of graphs, after checks; errors as `forward`."""
        check_graphs(data, self.undirected)
        found = ego_subgraphs(data.edge_index, data.batch, len(data), self.hops)
        largest = int(found.sizes.max()) if len(found) else 0
        if largest > self.limit:
            channels = max(sum(layer.out_channels.values()) for layer in self.layers)  # pyright: ignore
            size = largest**2 * channels * next(self.parameters()).element_size()
            warnings.warn(
                f"an ego-network has {largest} nodes, more than limit = {self.limit}: each of its layers needs about "
                f"{largest}^2 x {channels} numbers, {size / 2**20:.0f} MiB; take fewer hops, or raise limit",
                ErlangenWarning,
                stacklevel=3,
            )
        return found

    def encode(self, pairs: Tensor, subgraphs: Subgraphs) -> Tensor:
        """Numbers per ego-network ``[S, F]`` of features of pairs ``[P, C]``."""
        x = {"adj": pairs}
        owner = {"adj": subgraphs.pair_batch, "x": subgraphs.batch}
        for layer, norms in zip(self.layers, self.norms, strict=False):
            x = {key: self.activation(value) for key, value in layer(x, subgraphs).items()}
            for key, norm in norms.items():  # pyright: ignore[reportCallIssue]
                x[key] = norm(x[key], owner[key], graphs=subgraphs.graphs) if isinstance(norm, GraphNorm) else x[key]
        return self.activation(self.layers[-1](x, subgraphs)["y"])


class GlobalT2(nn.Module):
    """Equivariant layers on all pairs of nodes of each graph, padded to the largest: the dear baseline.

    Invariant graph networks of order 2 (Maron et al. 2019). Most pairs are no edges, so a mean over a row holds a share of only
    degree / n of what neighbours say, and every mean over pairs is nearly the same for all graphs. With `norm`, diagonals and
    means over rows and columns are therefore also given to each layer as features of nodes under batch normalisation, which
    brings them to the scale of the others; outputs of hidden layers, and the numbers per graph, have it before the activation.

    Args:
        node_channels: channels of nodes in hidden layers, as many as `features`, those of pairs, without it; they are cheap.
        norm: whether there is batch normalisation, and the features under it.
        node_labels, out_features, features, layers, edge_labels, activation, readout, dropout, generator: as for `SPEN`.
    """

    def __init__(
        self,
        node_labels: int,
        out_features: int,
        features: int = 16,
        *,
        node_channels: int | None = None,
        layers: int = 3,
        edge_labels: int = 0,
        norm: bool = True,
        activation: Callable[[Tensor], Tensor] = relu,
        readout: Sequence[int] = READOUT,
        dropout: float = 0.5,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        nodes = features if node_channels is None else node_channels
        check_sizes(node_labels=node_labels, features=features, node_channels=nodes, layers=layers - 1)
        self.node_labels, self.edge_labels = node_labels, edge_labels
        channels = layer_channels(node_labels, edge_labels, features, layers, HIDDEN)
        steps = [({**a, "x": nodes} if "x" in a else a, {**b, "x": nodes} if "x" in b else b) for a, b in channels]
        extra = [3 * a["adj"] if norm else 0 for a, _ in steps]
        inputs = [{**a, "x": a.get("x", 0) + more} if more else a for (a, _), more in zip(steps, extra, strict=True)]
        self.layers = nn.ModuleList(
            PermutationLinear(a, b, generator=generator) for a, (_, b) in zip(inputs, steps, strict=True)
        )
        self.readings = nn.ModuleList(nn.BatchNorm1d(more) for more in extra if more)
        self.activation = activation
        self.norms = nn.ModuleList(
            nn.ModuleDict({key: nn.BatchNorm1d(n) if norm else nn.Identity() for key, n in out.items()})
            for _, out in steps
        )
        self.head = head(steps[-1][1]["y"], out_features, readout, dropout, generator)

    def forward(self, data: GraphData) -> Tensor:
        """``[G, out_features]``; errors as `SPEN.forward`."""
        check_graphs(data, undirected=True)
        mask = data.dense().mask
        nodes = mask.shape[1]
        first = (data.sizes.cumsum(0) - data.sizes)[data.batch]
        u, v = torch.cat([data.edge_index, torch.arange(len(data.batch)).to(mask.device).expand(2, -1)], 1)
        pairs = (u * len(data.batch) + v).unique()
        u, v = pairs // max(1, len(data.batch)), pairs % max(1, len(data.batch))
        features = pair_features(data, torch.stack([u, v]), self.node_labels, self.edge_labels, self)
        x = features.new_zeros(len(data), nodes, nodes, features.shape[1])
        x[data.batch[u], u - first[u], v - first[v]] = features
        return self.head(self.encode(x, mask))

    def encode(self, pairs: Tensor, mask: Tensor) -> Tensor:
        """Numbers per graph ``[G, F]`` of features of pairs ``[G, n, n, C]``."""
        x = {"adj": pairs}
        exists = {"adj": mask[:, :, None] & mask[:, None], "x": mask, "y": mask.new_ones(len(mask))}
        for k, (layer, norms) in enumerate(zip(self.layers, self.norms, strict=True)):
            if len(self.readings):
                read = padded_norm(self.readings[k], _read_pairs(x["adj"], mask), mask)
                x["x"] = torch.cat([x["x"], read], -1) if "x" in x else read
            x = layer(x, mask)
            for key, norm in norms.items():  # pyright: ignore[reportCallIssue]
                x[key] = self.activation(padded_norm(norm, x[key], exists[key]))
        return x["y"]


def _read_pairs(pairs: Tensor, mask: Tensor) -> Tensor:
    """Diagonals and means over columns and rows ``[G, n, 3 C]`` of features of pairs that are zero where nodes do not exist."""
    count = mask.sum(1).clamp(min=1).to(pairs.dtype)[:, None, None]
    pairs = pairs * (mask[:, :, None] & mask[:, None])[..., None].to(pairs.dtype)
    return torch.cat([pairs.diagonal(dim1=1, dim2=2).mT, pairs.sum(1) / count, pairs.sum(2) / count], -1)


class NodeNetwork(nn.Module):
    """A baseline that passes messages between neighbours: the mean over nodes of all layers, and the small network of `SPEN`.

    Every linear layer is followed by batch normalisation, with which they learn better here than with GraphNorm, and ReLU, as
    in their papers. Kinds of edges enter as features of nodes: how many edges of each kind a node has.

    Args:
        kind: "GIN" (Xu et al. 2019), a network of two layers of the sum over neighbours and, weighted, the node itself; or
            "GCN" (Kipf and Welling 2017), ``D^-1/2 (A + 1) D^-1/2 h W``.
        node_labels, out_features, features, layers, edge_labels, readout, dropout, generator: as for `SPEN`.

    Raises:
        UnknownNameError: another kind.
    """

    def __init__(
        self,
        kind: str,
        node_labels: int,
        out_features: int,
        features: int = 64,
        *,
        layers: int = 3,
        edge_labels: int = 0,
        readout: Sequence[int] = READOUT,
        dropout: float = 0.5,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("GIN", "GCN"):
            raise UnknownNameError(f"kind = {kind!r}; known are GIN, GCN")
        self.kind, self.node_labels, self.edge_labels = kind, node_labels, edge_labels
        widths = [node_labels + (edge_labels if edge_labels > 1 else 0)] + layers * [features]
        self.layers = nn.ModuleList(self._node_layer(a, b, generator) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(features) for _ in range(layers))
        self.eps = nn.Parameter(torch.zeros(layers))
        self.head = head(sum(widths), out_features, readout, dropout, generator)

    def _node_layer(self, inputs: int, outputs: int, generator: Generator | None) -> nn.Module:
        if self.kind == "GCN":
            return mlp([inputs, outputs], generator=generator)
        first, second = (mlp([width, outputs], generator=generator) for width in (inputs, outputs))
        return nn.Sequential(first, nn.BatchNorm1d(outputs), nn.ReLU(), second)

    def forward(self, data: GraphData) -> Tensor:
        """``[G, out_features]``; errors as `SPEN.forward`."""
        check_graphs(data, undirected=True)
        x = node_features(data, self.node_labels, self.edge_labels).to(next(self.parameters()))
        root = (1 + torch.bincount(data.edge_index[1], minlength=len(x)).to(x.dtype)[:, None]).sqrt()
        found = [x]
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if self.kind == "GIN":
                x = layer((1 + self.eps[k]) * x + _from_neighbours(x, data.edge_index))
            else:
                x = layer(x) / root
                x = (x + _from_neighbours(x, data.edge_index)) / root
            x = relu(norm(x))
            found.append(x)
        return self.head(segment_mean(torch.cat(found, -1), data.batch, len(data)))


def _from_neighbours(x: Tensor, edge_index: Tensor) -> Tensor:
    return segment_sum(x.index_select(0, edge_index[0]), edge_index[1], len(x))


class GraphLookup(nn.Module):
    """A network of graphs as one of their numbers in a set, which is what `erlangen.training.fit` can batch.

    Args:
        net: network of `GraphData`.
        data: the set.
    """

    def __init__(self, net: nn.Module, data: GraphData) -> None:
        super().__init__()
        self.net, self.data = net, data

    def forward(self, index: Tensor) -> Tensor:
        """What the network says of the graphs with these numbers, int64 ``[B]``."""
        return self.net(self.data[index])


# --- parts ------------------------------------------------------------------------------------------------------------
Channels = dict[str, int]


def layer_channels(
    node_labels: int, edge_labels: int, features: int, layers: int, hidden: Sequence[str]
) -> list[tuple[Channels, Channels]]:
    """Channels into and out of every layer; the last one gives four times as many numbers as hidden layers have channels."""
    inputs: Channels = {"adj": 1 + node_labels + (edge_labels if edge_labels > 1 else 0)}
    between: Channels = dict.fromkeys(hidden, features)
    steps = [inputs, *[between] * (layers - 1), {"y": 4 * features}]
    return list(itertools.pairwise(steps))


def head(
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


def parameter_count(net: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in net.parameters())
