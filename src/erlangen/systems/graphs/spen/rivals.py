"""The rivals of SPEN: a network on all pairs of nodes, message passing, a graph kernel; and how sets of graphs are batched."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot, relu
from typing_extensions import override

from erlangen.data import GraphData
from erlangen.errors import UnknownNameError, check_sizes
from erlangen.geometry import color_kernel, refined_colors
from erlangen.nn import SPEN, AdjacencyNetwork, PermutationLinear, Subgraphs, mlp, segment_mean, stretched
from erlangen.nn.graph_inputs import (
    HIDDEN,
    READOUT,
    check_graphs,
    graph_head,
    layer_channels,
    node_features,
    padded_norm,
    pair_features,
)
from erlangen.nn.graphs.ego_network import PLAIN
from erlangen.nn.segments import segment_sum
from erlangen.survey import Split


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
        self.head = graph_head(steps[-1][1]["y"], out_features, readout, dropout, generator)

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


class BatchNormSPEN(SPEN):
    """`SPEN` with the normalisation of the baselines: over the batch, after every layer and before its activation.

    Args:
        args, options: of `SPEN` but for `norm`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, norm=False)
        self.norms = nn.ModuleList(
            nn.ModuleDict({key: nn.BatchNorm1d(n) for key, n in layer.out_channels.items()})  # pyright: ignore
            for layer in self.layers
        )

    @override
    def encode(self, pairs: Tensor, subgraphs: Subgraphs) -> Tensor:
        """As `SPEN.encode`."""
        x = {"adj": pairs}
        for layer, norms in zip(self.layers, self.norms, strict=True):
            x = {key: self.activation(norms[key](value)) for key, value in layer(x, subgraphs).items()}  # pyright: ignore
        return x["y"]


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
        self.head = graph_head(sum(widths), out_features, readout, dropout, generator)

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

    Attributes:
        curve: percent of right answers after every epoch of a cross-validation.
    """

    def __init__(self, net: nn.Module, data: GraphData) -> None:
        super().__init__()
        self.net, self.data = net, data
        self.curve: list[float] = []

    def forward(self, index: Tensor) -> Tensor:
        """What the network says of the graphs with these numbers, int64 ``[B]``."""
        found = self.data[index.cpu()]
        return self.net(
            GraphData(**{field.name: getattr(found, field.name).to(index.device) for field in fields(found)})
        )


class FromAdjacency(nn.Module):
    """A network of graphs without labels as one of their adjacency matrices ``[B, n, n]``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, adj: Tensor) -> Tensor:
        """What the network says of each graph."""
        return self.net(GraphData.from_adjacency(adj))


def global_separator(seed: int = 0, *, features: int = 8, layers: int = 5) -> AdjacencyNetwork:
    """The network on all pairs of nodes with random parameters, that tells graphs apart; see `erlangen.nn.spen_separator`."""
    generator = Generator().manual_seed(seed)
    net = GlobalT2(1, 10, features, layers=layers, generator=generator, **PLAIN)
    return AdjacencyNetwork(stretched(net, 4.0, bias=0.3, generator=generator))


# --- the kernel ------------------------------------------------------------------------------------------------------
ROUNDS = (1, 2, 3, 4)
"""Rounds of colour refinement that the kernel is tried with."""


class ColorKernel(nn.Module):
    """Ridge regression of classes on the Weisfeiler-Leman kernel; nodes begin as `NodeNetwork` sees them.

    Args:
        data: the set of graphs.
        node_labels, edge_labels: as for `NodeNetwork`.

    Attributes:
        curve: percent of right answers on the test graphs, by `ROUNDS`.
    """

    def __init__(self, data: GraphData, node_labels: int, edge_labels: int) -> None:
        super().__init__()
        self.data, self.node_labels, self.edge_labels = data, node_labels, edge_labels
        self.curve: list[float] = []
        self.place, self.scores = torch.zeros(0), torch.zeros(0)

    def learn(self, split: Split, penalty: float) -> None:
        """Answers to all graphs of a split; their rounds are those with the most right ones on validation data."""
        train, validation, test = (x.cpu() for x, _ in split)
        index = torch.cat([train, validation, test])
        self.place = torch.zeros(len(self.data), dtype=torch.int64)
        self.place[index] = torch.arange(len(index))
        data = self.data[index]
        first = node_features(data, self.node_labels, self.edge_labels).unique(dim=0, return_inverse=True)[1]
        colors = refined_colors(data.edge_index, first, max(ROUNDS))
        kernels = [color_kernel(colors[: rounds + 1], data.batch, len(data)) for rounds in ROUNDS]
        target = one_hot(data.y[: len(train)], int(self.data.y.max()) + 1).double()
        scores = torch.stack([ridge_scores(kernel, target, penalty) for kernel in kernels])
        right = 100 * (scores.argmax(-1) == data.y).double()
        held, tested = right[:, len(train) : -len(test)], right[:, -len(test) :]
        self.scores, self.curve = scores[int(held.mean(1).argmax())], tested.mean(1).tolist()

    def forward(self, index: Tensor) -> Tensor:
        """Scores of the classes ``[B, C]`` of the graphs with these numbers."""
        return self.scores[self.place[index.cpu()]].to(index.device)


def ridge_scores(kernel: Tensor, target: Tensor, penalty: float) -> Tensor:
    """Ridge regression of targets ``[T, C]`` of the first T graphs of a kernel ``[G, G]``: values of all graphs ``[G, C]``."""
    known, mean = len(target), target.mean(0)
    eye = torch.eye(known, dtype=kernel.dtype)
    factor = torch.linalg.cholesky(kernel[:known, :known] + penalty * eye)
    return mean + kernel[:, :known] @ torch.cholesky_solve(target - mean, factor)
