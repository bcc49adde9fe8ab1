"""Sets of labelled graphs of different sizes, one after the other in one tensor, and a reader of the TU collection's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError, DtypeError, ShapeError

__all__ = ["DenseGraphs", "GraphData", "tu_graphs"]


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

    Raises:
        ShapeError, DtypeError: tensors do not fit each other.
        DataError: an edge leaves its graph, a label is negative, or graphs are not in ascending order.
    """

    edge_index: Tensor
    batch: Tensor
    node_labels: Tensor
    edge_labels: Tensor
    y: Tensor

    def __post_init__(self) -> None:
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
            raise DataError(f"edge_index names a node that does not exist; there are {len(self.batch)}")
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


# --- files of the TU collection --------------------------------------------------------------------------------------
def tu_graphs(path: str | Path) -> GraphData:
    """Graphs with classes from the TU collection (Morris et al. 2020), in either of its two common forms.

    Args:
        path: a folder of the collection, with files ``NAME_A.txt``, ``NAME_graph_indicator.txt``, ``NAME_graph_labels.txt`` and
            perhaps ``NAME_node_labels.txt``, ``NAME_edge_labels.txt``; or the single text file that many papers use: the number
            of graphs; for each graph a line with its number of nodes and its class, then for each node a line with its label,
            its number of neighbours, and these.

    Returns:
        Classes and labels are renumbered from 0 in ascending order. Loops and repeated edges are dropped.

    Raises:
        DataError: the files are missing, or not as above; the message names file and line.
    """
    path = Path(path)
    if path.is_dir():
        return _folder_graphs(path)
    if not path.is_file():
        raise DataError(f"path = {str(path)!r}: there is no such file or folder")
    return _file_graphs(path)


def _file_graphs(path: Path) -> GraphData:
    """The single-file form."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)

    def numbers(least: int) -> list[int]:
        at, line = next(lines, (0, ""))
        try:
            found = [int(word) for word in line.split()]
        except ValueError:
            raise DataError(f"{path}, line {at}: {line!r} holds other things than integers") from None
        if len(found) < least:
            raise DataError(f"{path}, line {at}: {line!r} needs at least {least} integers, or the file ends too early")
        return found

    classes: list[int] = []
    labels: list[int] = []
    sizes: list[int] = []
    edges: list[tuple[int, int]] = []
    for _ in range(numbers(1)[0]):
        nodes, kind = numbers(2)[:2]
        first = len(labels)
        for node in range(nodes):
            label, degree, *near = numbers(2)
            if len(near) < degree or any(not 0 <= other < nodes for other in near[:degree]):
                raise DataError(
                    f"{path}: node {node} of graph {len(sizes)} has neighbours that do not exist or are missing"
                )
            labels.append(label)
            edges += [(first + node, first + other) for other in near[:degree]]
        classes.append(kind)
        sizes.append(nodes)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    return _graphs(index, torch.zeros(len(edges)).long(), batch, torch.tensor(labels), torch.tensor(classes))


def _folder_graphs(folder: Path) -> GraphData:
    """The form of the collection itself."""
    found = sorted(folder.glob("*_A.txt"))
    if len(found) != 1:
        raise DataError(f"path = {str(folder)!r} holds {len(found)} files *_A.txt; pass the folder of one set")
    name = found[0].name.removesuffix("_A.txt")

    def table(kind: str, *, columns: int = 1, optional: int | None = None) -> Tensor:
        file = folder / f"{name}_{kind}.txt"
        if optional is not None and not file.is_file():
            return torch.zeros(optional, columns, dtype=torch.int64)
        try:
            rows = [[int(word) for word in line.split(",")] for line in file.read_text().splitlines() if line.strip()]
            found = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), -1)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read as integers separated by commas ({error})") from error
        if found.shape[1] < columns or (optional is not None and len(found) != optional):
            raise DataError(
                f"{file} has {len(found)} rows of {found.shape[1]} numbers, which does not fit the other files"
            )
        return found

    edges, batch = table("A", columns=2) - 1, table("graph_indicator")[:, 0] - 1
    classes = table("graph_labels")[:, 0]
    labels = table("node_labels", optional=len(batch))[:, 0]
    return _graphs(edges.T, table("edge_labels", optional=len(edges))[:, 0], batch, labels, classes)


def _graphs(edges: Tensor, edge_labels: Tensor, batch: Tensor, node_labels: Tensor, classes: Tensor) -> GraphData:
    """Undirected graphs without loops: every edge once in each direction, sorted; labels numbered from 0."""
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < len(batch):
        raise DataError(f"an edge names a node that does not exist; there are {len(batch)}")
    edge_labels = edge_labels.unique(return_inverse=True)[1]
    keep = edges[0] != edges[1]
    both = torch.cat([edges[:, keep], edges[:, keep].flip(0)], 1)
    code, place = (both[0] * len(batch) + both[1]).unique(return_inverse=True)
    merged = torch.zeros(len(code), dtype=torch.int64).scatter(0, place, edge_labels[keep].repeat(2))
    return GraphData(
        edge_index=torch.stack([code // max(1, len(batch)), code % max(1, len(batch))]),
        batch=batch,
        node_labels=node_labels.unique(return_inverse=True)[1],
        edge_labels=merged,
        y=classes.unique(return_inverse=True)[1],
    )
