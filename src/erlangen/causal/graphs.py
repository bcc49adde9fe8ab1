"""Directed graphs as matrices, orders of their nodes, random ones, and mixed graphs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError, check_finite, check_integer

Kind = Literal["ER", "SF", "bipartite"]


@dataclass(frozen=True)
class MixedGraph:
    """A graph with directed edges, which may form cycles, and bidirected ones between nodes whose noises are correlated.

    >>> instrument = MixedGraph(3, directed=((0, 1), (1, 2)), bidirected=((1, 2),))
    >>> instrument.adjacency()
    tensor([[False,  True, False],
            [False, False,  True],
            [False, False, False]])

    Args:
        nodes: how many there are; they are called 0, 1, ...
        directed: pairs (i, j) for i -> j.
        bidirected: pairs (i, j) for i <-> j, each once, in either order.

    Raises:
        DataError: an edge to a node that there is not, a loop, or one edge twice.
    """

    nodes: int
    directed: tuple[tuple[int, int], ...] = ()
    bidirected: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        check_integer("nodes", self.nodes, 1)
        for name, edges in (("directed", self.directed), ("bidirected", self.bidirected)):
            seen: set[tuple[int, int]] = set()
            for i, j in edges:
                if not (0 <= i < self.nodes and 0 <= j < self.nodes):
                    raise DataError(f"{name} has the edge ({i}, {j}), but nodes are 0 to {self.nodes - 1}")
                if i == j:
                    raise DataError(f"{name} has the loop ({i}, {j}); a node has no edge to itself")
                key = (i, j) if name == "directed" else (min(i, j), max(i, j))
                if key in seen:
                    raise DataError(f"{name} has the edge {key} twice; give each once")
                seen.add(key)

    def adjacency(self) -> Tensor:
        """Directed edges ``[nodes, nodes]``, bool."""
        return _matrix(self.nodes, self.directed)

    def correlated(self) -> Tensor:
        """Bidirected edges ``[nodes, nodes]``, bool, symmetric."""
        one_way = _matrix(self.nodes, self.bidirected)
        return one_way | one_way.mT

    @property
    def is_simple(self) -> bool:
        """Whether no two nodes are joined by more than one edge, of whatever kind."""
        pairs = [frozenset(edge) for edge in (*self.directed, *self.bidirected)]
        return len(pairs) == len(set(pairs))

    def relabelled(self, names: Iterable[int]) -> MixedGraph:
        """The graph after node i is called ``names[i]``."""
        new = list(names)
        if sorted(new) != list(range(self.nodes)):
            raise DataError(f"names = {new}; give each of 0 to {self.nodes - 1} once")
        moved = [tuple((new[i], new[j]) for i, j in edges) for edges in (self.directed, self.bidirected)]
        return MixedGraph(self.nodes, *moved)


def _matrix(nodes: int, edges: tuple[tuple[int, int], ...]) -> Tensor:
    adj = torch.zeros(nodes, nodes, dtype=torch.bool)
    for i, j in edges:
        adj[i, j] = True
    return adj


def check_graph(W: Tensor, name: str = "W") -> None:
    """Raise unless W is a square matrix without NaN, and with zeros on its diagonal."""
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not len(W):
        raise ShapeError(f"{name} has shape {tuple(W.shape)}; give [d, d] with {name}[i, j] for the edge i -> j")
    if W.is_floating_point():
        check_finite(W, name)
    loops = W.diagonal() != 0
    if bool(loops.any()):
        raise DataError(f"{name} has a loop at node {int(loops.nonzero()[0])}; its diagonal must be zero")


def topological_order(W: Tensor) -> Tensor:
    """Nodes ``[d]`` with causes before effects; of the nodes that are free the smallest name comes first.

    Raises:
        ErlangenError: the graph has a cycle, which the message names.
    """
    check_graph(W)
    edges = W != 0
    left = edges.clone()
    order: list[int] = []
    done = torch.zeros(len(W), dtype=torch.bool)
    while len(order) < len(W):
        free = ~left.any(0) & ~done
        if not bool(free.any()):
            raise ErlangenError(f"the graph has a cycle through {_cycle(edges, ~done)}; see threshold_to_dag")
        node = int(free.nonzero()[0])
        order.append(node)
        done[node] = True
        left[node] = False
    return torch.tensor(order)


def _cycle(edges: Tensor, within: Tensor) -> str:
    """A cycle in the subgraph of these nodes, each of which has a cause there: walk to causes until one repeats."""
    walk = [int(within.nonzero()[0])]
    while True:
        cause = int((edges[:, walk[-1]] & within).nonzero()[0])
        if cause in walk:
            return " -> ".join(map(str, [cause, *reversed(walk[walk.index(cause) :])]))
        walk.append(cause)


def is_dag(W: Tensor) -> bool:
    """Whether the nonzero entries of ``W [d, d]`` are edges of a graph without directed cycles."""
    check_graph(W)
    edges, left = W != 0, len(W)
    while left:
        keep = edges.any(0)  # nodes that still have a cause
        if int(keep.sum()) == left:
            return False
        edges, left = edges[keep][:, keep], int(keep.sum())
    return True


def order_mask(order: Tensor) -> Tensor:
    """Which edges an order of nodes allows: ``[d, d]``, True at [i, j] where i comes before j."""
    d = len(order)
    if order.ndim != 1 or order.is_floating_point() or not torch.equal(order.sort().values, torch.arange(d)):
        raise DataError(f"order = {order.tolist()}; give each of 0 to {d - 1} once")
    place = torch.empty(d, dtype=torch.long)
    place[order] = torch.arange(d)
    return place[:, None] < place[None, :]


def ancestors(W: Tensor) -> Tensor:
    """Whether there is a directed path of one edge or more from i to j, ``[d, d]``, bool; the transitive closure."""
    check_graph(W)
    reach = W != 0
    for _ in range(max(1, (len(W) - 1).bit_length())):
        reach = reach | ((reach.double() @ reach.double()) > 0)
    return reach


def relabelled(W: Tensor, names: Tensor) -> Tensor:
    """The matrix ``[d, d]`` after node i is called ``names[i]``."""
    moved = torch.empty_like(W)
    moved[names[:, None], names[None, :]] = W
    return moved


def threshold_to_dag(W: Tensor, threshold: float = 0.3) -> Tensor:
    """Weights below the threshold set to zero, and then the smallest ones until no cycle is left.

    The way in which continuous methods read a graph from their last matrix (Zheng et al. 2018).
    """
    check_graph(W)
    kept = torch.where(W.abs() >= threshold, W, 0)
    for value in kept[kept != 0].abs().sort().values:
        if is_dag(kept):
            break
        kept = torch.where(kept.abs() > value, kept, 0)
    return kept


def random_dag(nodes: int, edges: int, kind: Kind = "ER", *, generator: Generator | None = None) -> Tensor:
    """A random directed acyclic graph ``[nodes, nodes]``, bool, its nodes in random order.

    >>> int(random_dag(10, 20, generator=Generator().manual_seed(0)).sum())
    20

    "ER": exactly that many edges, uniform among the pairs. "SF": preferential attachment (Barabasi and Albert) with
    ``round(edges / nodes)`` edges of every new node. "bipartite": edges from the first fifth of the nodes to the others. As in
    the experiments of Zheng et al. (NOTEARS, 2018).

    Raises:
        ErlangenError: more edges than there can be.
    """
    check_integer("nodes", nodes, 1)
    check_integer("edges", edges, 0)
    if kind not in get_args(Kind):
        raise UnknownNameError(f"kind = {kind!r}; there are {', '.join(get_args(Kind))}")
    adj = torch.zeros(nodes, nodes, dtype=torch.bool)
    if kind == "SF":
        _attach(adj, max(1, round(edges / nodes)), generator)
    else:
        sources = max(1, nodes // 5)
        allowed = torch.ones(nodes, nodes, dtype=torch.bool).triu(1)
        if kind == "bipartite":
            allowed[sources:] = False
            allowed[:, :sources] = False
        places = allowed.nonzero()
        if edges > len(places):
            raise ErlangenError(f"edges = {edges}; {nodes} nodes ({kind}) have at most {len(places)}")
        chosen = places[torch.randperm(len(places), generator=generator)[:edges]]
        adj[chosen[:, 0], chosen[:, 1]] = True
    return relabelled(adj, torch.randperm(nodes, generator=generator))


def _attach(adj: Tensor, each: int, generator: Generator | None) -> None:
    """New nodes point at old ones, with a chance that grows with the edges that these have."""
    degree = torch.zeros(len(adj))
    for new in range(1, len(adj)):
        weights = degree[:new] if new > each else torch.ones(new)
        weights = torch.where(weights.sum() > 0, weights, torch.ones(new))
        able = int((weights > 0).sum())
        targets = torch.multinomial(weights, min(each, able), generator=generator)
        adj[new, targets] = True
        degree[targets] += 1
        degree[new] += len(targets)
