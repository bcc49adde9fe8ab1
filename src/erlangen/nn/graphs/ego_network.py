"""The subgraph permutation equivariant network (Mitton and Murray-Smith, TMLR 2023): equivariant layers on ego-networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import elu

from erlangen.data.graph_sets import GraphData
from erlangen.errors import ErlangenError, ErlangenWarning, check_sizes
from erlangen.nn.graph_inputs import HIDDEN, READOUT, check_graphs, graph_head, layer_channels, pair_features
from erlangen.nn.graphs.graph_norm import GraphNorm
from erlangen.nn.graphs.graph_separation import AdjacencyNetwork, stretched
from erlangen.nn.graphs.subgraph_layers import SubgraphLinear, Subgraphs, ego_subgraphs
from erlangen.nn.segments import segment_mean

PLAIN: dict[str, Any] = {"norm": False, "activation": torch.tanh, "readout": (16,)}
"""Options of networks with random parameters that tell graphs apart."""


class SPEN(nn.Module):
    """The subgraph permutation equivariant network: equivariant linear layers on ego-networks, merged after each layer.

    Pairs of nodes start with the normalised adjacency, the kind of their edge, and on the diagonal the label of the node.
    Layers map these to numbers per pair and per node (`SubgraphLinear`), followed by ELU and GraphNorm; the last one maps them
    to numbers per ego-network. Their mean over the graph goes through a small network.

    A node without edges is alone in its ego-network. Outputs of a graph do not depend on the batch that it is in.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> data = GraphData(path, torch.zeros(3).long(), torch.zeros(3).long(), torch.zeros(4).long(), torch.zeros(1).long())
    >>> SPEN(1, 2)(data).shape
    torch.Size([1, 2])

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
        self.head = graph_head(channels[-1][1]["y"], out_features, readout, dropout, generator)

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


def spen_separator(hops: int = 1, seed: int = 0, *, features: int = 8, layers: int = 5) -> AdjacencyNetwork:
    """`SPEN` with random parameters, in float64, as a function that tells graphs apart.

    Ego-networks of up to 8 nodes have weights by their size. There is no GraphNorm, which would magnify rounding, and tanh
    instead of ELU, which is linear for positive numbers.

    >>> spen_separator()(torch.ones(2, 4, 4) - torch.eye(4)).shape
    torch.Size([2, 10])

    Args:
        hops: how far ego-networks reach.
        seed: of the parameters.
        features, layers: of the network.

    Returns:
        A function of adjacency matrices ``[M, n, n]`` with values ``[M, 10]``, equal for isomorphic graphs up to rounding.
    """
    generator = Generator().manual_seed(seed)
    net = SPEN(1, 10, features, layers=layers, hops=hops, sizes=range(1, 9), generator=generator, **PLAIN)
    return AdjacencyNetwork(stretched(net, 4.0, bias=0.3, generator=generator))
