"""Equivariant linear layers on many small sub-graphs instead of one large graph, merged where the sub-graphs overlap.

A layer on all pairs of nodes of a graph costs ``n^2`` numbers per channel. On the ego-networks of its nodes it costs the sum of
the squares of their sizes, which grows like n in sparse graphs (Mitton and Murray-Smith, "Subgraph Permutation Equivariant
Networks", 2021). Only nodes of sub-graphs that could be mapped onto each other need to share weights, so sub-graphs of
different size may have different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import DtypeError, ErlangenError, ShapeError
from erlangen.geometry import ego_networks
from erlangen.nn.graphs.permutation_tensors import PermutationLinear
from erlangen.nn.segments import segment_mean

__all__ = ["SubgraphLinear", "Subgraphs", "ego_subgraphs", "whole_graphs"]

Features = dict[str, Tensor]
"""``adj [P, F]`` for pairs, ``x [N, F]`` for nodes, ``y [S, F]`` for sub-graphs."""


class Bucket(NamedTuple):
    """Sub-graphs of one size: their number of nodes, and how many they are."""

    size: int
    number: int


@dataclass(frozen=True)
class Subgraphs:
    """S sub-graphs of G graphs of a batch, and all P pairs of nodes that share a sub-graph. Make them with `ego_subgraphs`.

    Attributes:
        batch: the graph of each node, int64 ``[N]``, ascending.
        graphs: number of graphs, G.
        owner: the graph of each sub-graph, int64 ``[S]``, ascending.
        sizes: nodes of each sub-graph, int64 ``[S]``.
        members: nodes of all sub-graphs, one after the other, int64 ``[sum of sizes]``.
        pairs: pairs (u, v) that occur, each once, int64 ``[2, P]``, in ascending order; (u, u) is one of them.
        rows: the number of each pair of each sub-graph among `pairs`, int64 ``[sum of squares of sizes]``.
    """

    batch: Tensor
    graphs: int
    owner: Tensor
    sizes: Tensor
    members: Tensor
    pairs: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def pair_batch(self) -> Tensor:
        """The graph of each pair, int64 ``[P]``."""
        return self.batch[self.pairs[0]]

    @cached_property
    def order(self) -> Tensor:
        """Numbers of the sub-graphs by ascending size, int64 ``[S]``."""
        return self.sizes.argsort(stable=True)

    @cached_property
    def buckets(self) -> list[Bucket]:
        """Sizes that occur, ascending, and how often."""
        values, counts = self.sizes.unique(return_counts=True)
        return [Bucket(*bucket) for bucket in zip(values.tolist(), counts.tolist(), strict=True)]

    @cached_property
    def node_index(self) -> Tensor:
        """`members` in the order of `order`."""
        return self.members[_runs(self.sizes, self.order)]

    @cached_property
    def pair_index(self) -> Tensor:
        """`rows` in the order of `order`."""
        return self.rows[_runs(self.sizes.square(), self.order)]

    def common_sizes(self, share: float = 0.02) -> tuple[int, ...]:
        """Sizes of at least this share of all sub-graphs, ascending: those worth weights of their own."""
        return tuple(bucket.size for bucket in self.buckets if bucket.number >= share * len(self))


def _runs(sizes: Tensor, order: Tensor) -> Tensor:
    """Rows of runs of these sizes, which lie one after the other, in another order of the runs."""
    counts = sizes[order]
    moved = (counts.cumsum(0) - counts) - (sizes.cumsum(0) - sizes)[order]
    return torch.arange(int(counts.sum()), device=sizes.device) - moved.repeat_interleave(counts)


def ego_subgraphs(edge_index: Tensor, batch: Tensor, graphs: int, hops: int = 1) -> Subgraphs:
    """The ego-network of every node: the nodes within `hops` edges, and itself; see `erlangen.geometry.ego_networks`.

    A node without edges is alone in its sub-graph, which needs no edge from it to itself.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> found = ego_subgraphs(path, torch.zeros(3).long(), 1)
    >>> found.sizes.tolist(), found.pairs.shape, len(found.rows)
    ([2, 3, 2], torch.Size([2, 9]), 17)

    Args:
        edge_index: int64 ``[2, E]``, source and target; undirected graphs have every edge in both directions.
        batch: the graph of each node, int64 ``[N]``, ascending.
        graphs: number of graphs.
        hops: at least 1.

    Raises:
        ShapeError, DtypeError: tensors are not as above.
        ErlangenError: `hops` is not positive, or an edge names a node that does not exist.
    """
    _check_batch(batch, graphs)
    networks = ego_networks(edge_index, len(batch), hops)
    return _subgraphs(networks.members, networks.sizes, batch, batch, graphs)


def whole_graphs(batch: Tensor, graphs: int) -> Subgraphs:
    """One sub-graph for each graph, all of it, with which `SubgraphLinear` is the layer on all pairs; none without nodes.

    Args:
        batch: the graph of each node, int64 ``[N]``, ascending.
        graphs: number of graphs.

    Raises:
        ShapeError, DtypeError: `batch` is not as above.
    """
    _check_batch(batch, graphs)
    sizes = torch.bincount(batch, minlength=graphs)
    owner = sizes.nonzero()[:, 0]
    return _subgraphs(torch.arange(len(batch), device=batch.device), sizes[owner], owner, batch, graphs)


def _subgraphs(members: Tensor, sizes: Tensor, owner: Tensor, batch: Tensor, graphs: int) -> Subgraphs:
    squares = sizes.square()
    which = torch.arange(len(sizes), device=sizes.device).repeat_interleave(squares)
    place = torch.arange(len(which), device=sizes.device) - (squares.cumsum(0) - squares)[which]
    first, size = (sizes.cumsum(0) - sizes)[which], sizes[which]
    nodes = max(1, len(batch))
    codes, rows = (members[first + place // size] * nodes + members[first + place % size]).unique(return_inverse=True)
    return Subgraphs(batch, graphs, owner, sizes, members, torch.stack([codes // nodes, codes % nodes]), rows)


def _check_batch(batch: Tensor, graphs: int) -> None:
    if batch.dtype != torch.int64:
        raise DtypeError(f"batch has dtype {batch.dtype}; pass int64")
    if batch.dim() != 1 or bool((batch.diff() < 0).any()):
        raise ShapeError(f"batch has shape {tuple(batch.shape)}, or is not ascending; pass [N], sorted by graph")
    if len(batch) and not 0 <= int(batch[0]) <= int(batch[-1]) < graphs:
        raise ShapeError(f"batch names graph {int(batch[-1])}, but graphs = {graphs}")


class SubgraphLinear(nn.Module):
    """The general equivariant linear layer on every sub-graph, with weights by size; means where sub-graphs overlap.

    Each sub-graph reads the features of its pairs and nodes, a `PermutationLinear` maps them, and every pair and node gets
    the mean over all sub-graphs that it is in. A layer on ego-networks that reach the whole graph, with one set of weights,
    is the layer on all pairs of the graph.

    >>> graphs = whole_graphs(torch.tensor([0, 0, 1]), 2)
    >>> layer = SubgraphLinear({"adj": 2}, {"adj": 3, "x": 1, "y": 4}, sizes=(1,))
    >>> {key: tuple(value.shape) for key, value in layer({"adj": torch.ones(5, 2)}, graphs).items()}
    {'adj': (5, 3), 'x': (3, 1), 'y': (2, 4)}

    Args:
        in_channels: channels of what goes in, under some of the keys "adj" (pairs) and "x" (nodes).
        out_channels: of what comes out, also "y" (sub-graphs).
        sizes: numbers of nodes of the sub-graphs that have weights of their own; all others, seen or not, share one set.
        generator: source of the initial weights, see `PermutationLinear`.

    Raises:
        ErlangenError: no channels, an unknown key, or a size that is not positive.
    """

    def __init__(
        self,
        in_channels: dict[str, int],
        out_channels: dict[str, int],
        sizes: Sequence[int] = (),
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if "y" in in_channels:
            raise ErlangenError(f"in_channels = {in_channels}: sub-graphs read pairs (adj) and nodes (x), not y")
        if any(size < 1 for size in sizes):
            raise ErlangenError(f"sizes = {tuple(sizes)}; give numbers of nodes, all positive")
        self.in_channels, self.out_channels = dict(in_channels), dict(out_channels)
        names = [*map(str, sorted(set(sizes))), "other"]
        self.maps = nn.ModuleDict(
            {name: PermutationLinear(in_channels, out_channels, generator=generator) for name in names}
        )

    def forward(self, x: Features, subgraphs: Subgraphs) -> Features:
        """Features under the keys of ``out_channels``: ``adj [P, F]``, ``x [N, F]``, ``y [S, F]``.

        Args:
            x: features under the keys of ``in_channels``: ``adj [P, F]``, ``x [N, F]``.
            subgraphs: of the same P pairs and N nodes.

        Raises:
            ShapeError: keys or shapes do not fit.
        """
        index = {"adj": subgraphs.pair_index, "x": subgraphs.node_index}
        rows = {"adj": subgraphs.pairs.shape[1], "x": len(subgraphs.batch)}
        for key, value in x.items():
            if key not in self.in_channels or value.shape != (rows[key], self.in_channels[key]):
                wanted = {name: (rows[name], channels) for name, channels in self.in_channels.items()}
                raise ShapeError(f"x[{key!r}] has shape {tuple(value.shape)}; pass {wanted}")
        found = self._mapped({key: value.index_select(0, index[key]) for key, value in x.items()}, subgraphs.buckets)
        out = {key: segment_mean(found[key], index[key], rows[key]) for key in found if key != "y"}
        if "y" in found:
            out["y"] = found["y"].index_select(0, subgraphs.order.argsort())
        return out

    def _mapped(self, x: Features, buckets: list[Bucket]) -> Features:
        """Outputs of all sub-graphs, one after the other as they come in, with one row for each pair, node or sub-graph."""
        powers = {"adj": 2, "x": 1, "y": 0}
        begin = dict.fromkeys(x, 0)
        parts: dict[str, list[Tensor]] = {key: [] for key in self.out_channels}
        for size, number in buckets:
            inputs: Features = {}
            for key, value in x.items():
                length = number * size ** powers[key]
                inputs[key] = value.narrow(0, begin[key], length).unflatten(0, (number, *[size] * powers[key]))
                begin[key] += length
            layer = self.maps[str(size) if str(size) in self.maps else "other"]
            for key, value in layer(inputs).items():
                parts[key].append(value.reshape(-1, value.shape[-1]))
        like = next(self.parameters())
        return {
            key: torch.cat(found) if found else like.new_zeros(0, self.out_channels[key])
            for key, found in parts.items()
        }

    @override
    def extra_repr(self) -> str:
        return f"{self.in_channels} -> {self.out_channels}, sizes={', '.join(self.maps)}"
