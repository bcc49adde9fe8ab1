"""Sets of labelled graphs of different sizes, one after the other in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError, DtypeError, ShapeError

__all__ = ["DenseGraphs", "GraphData"]


class DenseGraphs(NamedTuple):
    """Graphs padded to the largest of them.

    Attributes:
        adj: int64 ``[G, M, M]``, at (source, target): 0 where there is no edge, else 1 and the label of the edge.
        node_labels: int64 ``[G, M]``, 0 where there is no node.
        mask: bool ``[G, M]``, the nodes that exist.
    """

    adj: Tensor
    node_labels: Tensor
    mask: Tensor


@dataclass(frozen=True)
class GraphData:
    """G labelled graphs, all nodes one after the other; ``data[rows]`` are some of the graphs, ``len(data)`` is G.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> data = GraphData(path, torch.zeros(3).long(), torch.zeros(3).long(), torch.zeros(4).long(), torch.zeros(1).long())
    >>> two = data[[0, 0]]
    >>> len(two), two.sizes.tolist(), two.edge_index[0].tolist()
    (2, [3, 3], [0, 1, 1, 2, 3, 4, 4, 5])

    Attributes:
        edge_index: int64 ``[2, E]``, source and target; an undirected edge is there in both directions. Edges are in the order
            of their graphs.
        batch: the graph of each node, int64 ``[N]``, ascending.
        node_labels: int64 ``[N]``, from 0 on; all zero for graphs without labels.
        edge_labels: int64 ``[E]``, likewise.
        y: what belongs to each graph ``[G, ...]``: classes int64, or numbers.
        node_attributes, edge_attributes, graph_attributes: floating ``[N, F]``, ``[E, F]`` and ``[G, F]``; without them F is 0.

    Raises:
        ShapeError, DtypeError: tensors do not fit each other.
        DataError: an edge leaves its graph, a label is negative, or graphs are not in ascending order.
    """

    edge_index: Tensor
    batch: Tensor
    node_labels: Tensor
    edge_labels: Tensor
    y: Tensor
    node_attributes: Tensor = None  # pyright: ignore[reportAssignmentType]
    edge_attributes: Tensor = None  # pyright: ignore[reportAssignmentType]
    graph_attributes: Tensor = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        rows = {"node": len(self.batch), "edge": len(self.edge_labels), "graph": len(self.y)}
        for kind, count in rows.items():
            given: Tensor | None = getattr(self, f"{kind}_attributes")
            if given is None or given.shape[1:] == (0,):  # none, also of another number of rows
                object.__setattr__(self, f"{kind}_attributes", torch.zeros(count, 0, device=self.batch.device))
            elif given.dim() != 2 or len(given) != count:
                raise ShapeError(
                    f"{kind}_attributes has shape {tuple(given.shape)}; pass [{count}, F], a row for each {kind}"
                )
        for name in ("edge_index", "batch", "node_labels", "edge_labels"):
            if getattr(self, name).dtype != torch.int64:
                raise DtypeError(f"{name} has dtype {getattr(self, name).dtype}; pass int64")
        edges, nodes = self.edge_labels.shape, self.batch.shape
        if (
            self.edge_index.shape != (2, *edges)
            or len(edges) != 1
            or self.node_labels.shape != nodes
            or len(nodes) != 1
        ):
            raise ShapeError(
                f"edge_index {tuple(self.edge_index.shape)}, edge_labels {tuple(edges)}, batch {tuple(nodes)}, node_labels "
                f"{tuple(self.node_labels.shape)}: pass [2, E], [E], [N], [N]"
            )
        if self.edge_index.numel() and not 0 <= int(self.edge_index.min()) <= int(self.edge_index.max()) < len(
            self.batch
        ):
            raise DataError(
                f"edge_index names the nodes {int(self.edge_index.min())} to {int(self.edge_index.max())}, and there are "
                f"{len(self.batch)}, numbered from 0: one of them does not exist"
            )
        source, target = self.batch[self.edge_index]
        if bool((source != target).any()):
            raise DataError(
                "edge_index has an edge between two graphs; number the nodes of all graphs one after the other"
            )
        if bool((self.batch.diff() < 0).any()) or bool((source.diff() < 0).any()):
            raise DataError("batch, or the graphs of the edges, are not in ascending order; sort by graph")
        if self.batch.numel() and not 0 <= int(self.batch[0]) <= int(self.batch[-1]) < len(self.y):
            raise DataError(f"batch names graph {int(self.batch[-1])}, but y has {len(self.y)} rows")
        for name in ("node_labels", "edge_labels"):
            if getattr(self, name).numel() and int(getattr(self, name).min()) < 0:
                raise DataError(f"{name} holds {int(getattr(self, name).min())}; labels are numbered from 0")

    @classmethod
    def from_adjacency(cls, adj: Tensor) -> GraphData:
        """Graphs without labels of adjacency matrices ``[G, n, n]``: an entry (i, j) that is not 0 is an edge from i to j.

        >>> GraphData.from_adjacency(1 - torch.eye(3)[None]).edge_counts
        tensor([6])

        Raises:
            ShapeError: `adj` is not as above.
        """
        if adj.dim() != 3 or adj.shape[-1] != adj.shape[-2]:
            raise ShapeError(f"adj has shape {tuple(adj.shape)}; pass square matrices [G, n, n]")
        graph, source, target = adj.nonzero(as_tuple=True)
        batch = torch.arange(len(adj), device=adj.device).repeat_interleave(adj.shape[-1])
        return cls(
            edge_index=torch.stack([source, target]) + graph * adj.shape[-1],
            batch=batch,
            node_labels=torch.zeros_like(batch),
            edge_labels=torch.zeros_like(graph),
            y=torch.zeros(len(adj), dtype=torch.int64, device=adj.device),
        )

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def sizes(self) -> Tensor:
        """Number of nodes of every graph, int64 ``[G]``."""
        return torch.bincount(self.batch, minlength=len(self))

    @cached_property
    def edge_counts(self) -> Tensor:
        """Number of directed edges of every graph, int64 ``[G]``."""
        return torch.bincount(self.batch[self.edge_index[0]], minlength=len(self))

    def __getitem__(self, rows: Tensor | Sequence[int] | slice) -> GraphData:
        """Some of the graphs, in the order of `rows` (numbers, also repeated, or a bool tensor ``[G]``)."""
        chosen = torch.arange(len(self), device=self.batch.device)[
            rows if not isinstance(rows, Sequence) else list(rows)
        ]
        chosen = chosen.reshape(-1)
        nodes, batch, moved = _runs(self.sizes, chosen)
        edges, graph_of_edge, _ = _runs(self.edge_counts, chosen)
        return GraphData(
            edge_index=self.edge_index[:, edges] + moved[graph_of_edge],
            batch=batch,
            node_labels=self.node_labels[nodes],
            edge_labels=self.edge_labels[edges],
            y=self.y[chosen],
            node_attributes=self.node_attributes[nodes],
            edge_attributes=self.edge_attributes[edges],
            graph_attributes=self.graph_attributes[chosen],
        )

    def one_hot(self, labels: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Labels of the nodes as unit vectors ``[N, labels]``.

        Raises:
            DataError: a label is too large.
        """
        if self.node_labels.numel() and int(self.node_labels.max()) >= labels:
            raise DataError(f"labels = {labels}, but a node has the label {int(self.node_labels.max())}; give more")
        return torch.nn.functional.one_hot(self.node_labels, labels).to(dtype)

    def dense(self) -> DenseGraphs:
        """All graphs, padded to the largest of them."""
        count, most = len(self), int(self.sizes.max()) if len(self) else 0
        starts = self.sizes.cumsum(0) - self.sizes
        place = torch.arange(len(self.batch), device=self.batch.device) - starts[self.batch]
        source, target = self.edge_index
        adj = self.batch.new_zeros(count, most, most)
        adj[self.batch[source], place[source], place[target]] = 1 + self.edge_labels
        labels = self.batch.new_zeros(count, most)
        labels[self.batch, place] = self.node_labels
        return DenseGraphs(adj, labels, torch.arange(most, device=self.batch.device) < self.sizes[:, None])


def _runs(sizes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the chosen runs of rows, the new number of the run of each row, and how far each run's rows moved."""
    counts = sizes[chosen]
    owner = torch.arange(len(chosen), device=sizes.device).repeat_interleave(counts)
    moved = (counts.cumsum(0) - counts) - (sizes.cumsum(0) - sizes)[chosen]
    return torch.arange(len(owner), device=sizes.device) - moved[owner], owner, moved
