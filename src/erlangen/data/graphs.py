"""Graphs that are hard to tell apart: all connected ones of at most eight nodes, strongly regular and other families."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from erlangen.errors import DataError, is_whole

__all__ = [
    "cfi_graphs",
    "connected_graphs",
    "latin_square_graph",
    "rook_graph",
    "shrikhande_graph",
    "skip_link_graph",
    "strongly_regular_graphs",
    "triangular_graph",
]

MAX_NODES = 8
"""Nodes of the largest graphs that are listed; there are 261080 connected ones of nine."""

_AT_ONCE = 2**16
"""Relabelled graphs per slab."""


def connected_graphs(n: int) -> Tensor:
    """All connected graphs of n nodes, one of each isomorphism class: adjacency matrices ``[count, n, n]``, float32.

    Counts for n = 1 to 8 are 1, 1, 2, 6, 21, 112, 853 and 11117 (OEIS A001349). Each graph is found by adding a node to a
    smaller one, since a connected graph stays connected without some node, and is kept in a canonical form: nodes sorted
    by an invariant, ties broken by the smallest code of all orders. Graphs come in ascending order of these codes.

    >>> connected_graphs(5).shape
    torch.Size([21, 5, 5])

    Args:
        n: number of nodes, 1 to 8.

    Raises:
        DataError: n is out of range.
    """
    if not is_whole(n, 1, MAX_NODES):
        raise DataError(f"n = {n!r}: graphs of 1 to {MAX_NODES} nodes can be listed")
    return _decoded(_codes(n), n).float()


@functools.cache
def _codes(n: int) -> Tensor:
    """Canonical codes ``[count]`` of the connected graphs of n nodes, ascending."""
    if n == 1:
        return torch.zeros(1, dtype=torch.int64)
    smaller = _decoded(_codes(n - 1), n - 1)
    rows = torch.tensor(list(itertools.product((0, 1), repeat=n - 1))[1:])
    larger = torch.zeros(len(smaller), len(rows), n, n, dtype=torch.int64)
    larger[..., :-1, :-1] = smaller[:, None]
    larger[..., -1, :-1] = larger[..., :-1, -1] = rows
    return _canonical(larger.flatten(0, 1))


def _canonical(adj: Tensor) -> Tensor:
    """Codes of the isomorphism classes of graphs ``[M, n, n]``, ascending, each class once."""
    n = adj.shape[-1]
    colour, order = _invariant(adj).sort(-1)
    adj = adj.gather(1, order[..., None].expand_as(adj)).gather(2, order[:, None].expand_as(adj))
    new = torch.cat([torch.ones(len(adj), 1, dtype=torch.bool), colour.diff(dim=-1) != 0], -1)
    # Graphs with the same sizes of ties have the same orders to try.
    known, first = _unique(torch.stack([_encoded(adj), (new * 2 ** torch.arange(n)).sum(-1)], -1))
    adj, ties = adj[first], known[:, 1]
    found: list[Tensor] = []
    for tie in ties.unique().tolist():
        orders = _orders([bool(tie >> place & 1) for place in range(n)])
        for slab in adj[ties == tie].split(max(1, _AT_ONCE // len(orders))):
            found.append(_smallest(slab, orders))
    return torch.cat(found).unique()


def _invariant(adj: Tensor) -> Tensor:
    """A number for each node ``[M, n]``, the same in every order of the nodes: hashed closed walks and neighbourhoods.

    Integers wrap around, which sums in any order do alike. Different nodes may share a number; that only costs time.
    """
    square = adj @ adj
    hashed = 31 * (square @ adj).diagonal(dim1=1, dim2=2) + 1009 * square.square().sum(-1) + adj.sum(-1)
    for _ in range(adj.shape[-1]):
        mixed = (hashed ^ (hashed >> 15)) * 0x9E3779B97F4A7C1
        hashed = mixed + 7 * (adj @ (mixed ^ (mixed >> 29))[..., None])[..., 0]
    return hashed


def _orders(begins: list[bool]) -> Tensor:
    """All orders ``[K, n]`` that keep nodes within their ties; `begins` tells where a tie begins."""
    starts = [place for place, begin in enumerate(begins) if begin] + [len(begins)]
    blocks = [itertools.permutations(range(a, b)) for a, b in itertools.pairwise(starts)]
    return torch.tensor([list(itertools.chain(*choice)) for choice in itertools.product(*blocks)])


def _smallest(adj: Tensor, orders: Tensor) -> Tensor:
    """The smallest code ``[M]`` of graphs ``[M, n, n]`` over orders ``[K, n]``."""
    n = adj.shape[-1]
    row, column = torch.triu_indices(n, n, 1)
    places = orders[:, row] * n + orders[:, column]
    return (adj.flatten(1)[:, places] * _bits(n)).sum(-1).amin(-1)


def _bits(n: int) -> Tensor:
    return 2 ** torch.arange(n * (n - 1) // 2)


def _encoded(adj: Tensor) -> Tensor:
    """Graphs ``[M, n, n]`` as integers ``[M]``, one bit for each pair of nodes."""
    row, column = torch.triu_indices(adj.shape[-1], adj.shape[-1], 1)
    return (adj[:, row, column] * _bits(adj.shape[-1])).sum(-1)


def _decoded(codes: Tensor, n: int) -> Tensor:
    """The inverse of `_encoded`."""
    row, column = torch.triu_indices(n, n, 1)
    adj = torch.zeros(len(codes), n, n, dtype=torch.int64)
    adj[:, row, column] = adj[:, column, row] = (codes[:, None] & _bits(n)).ne(0).long()
    return adj


def _unique(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Different rows of ``[M, C]``, and where each one occurs first."""
    known, inverse = rows.unique(dim=0, return_inverse=True)
    first = torch.full((len(known),), len(rows)).scatter_reduce(0, inverse, torch.arange(len(rows)), "amin")
    return known, first


# --- strongly regular ------------------------------------------------------------------------------------------------
def rook_graph(n: int) -> Tensor:
    """Moves of a rook on an n x n board, ``[n^2, n^2]`` float32: strongly regular (n^2, 2n - 2, n - 2, 2).

    Raises:
        DataError: n is less than 2.
    """
    if n < 2:
        raise DataError(f"n = {n!r}: a board has at least 2 rows")
    row, column = torch.arange(n * n) // n, torch.arange(n * n) % n
    return ((row[:, None] == row) ^ (column[:, None] == column)).float()


def shrikhande_graph() -> Tensor:
    """Shrikhande's graph ``[16, 16]`` float32: the other strongly regular graph (16, 6, 2, 2) beside the 4 x 4 rook graph.

    The Cayley graph of Z_4 x Z_4 with the steps +-(1, 0), +-(0, 1), +-(1, 1).
    """
    place = torch.stack([torch.arange(16) // 4, torch.arange(16) % 4], -1)
    step = (place[:, None] - place) % 4
    steps = torch.tensor([[1, 0], [3, 0], [0, 1], [0, 3], [1, 1], [3, 3]])
    return (step[:, :, None] == steps).all(-1).any(-1).float()


def triangular_graph(n: int) -> Tensor:
    """Pairs of n things, joined where they share one: strongly regular (n (n - 1) / 2, 2n - 4, n - 2, 4), float32.

    Raises:
        DataError: n is less than 4.
    """
    if n < 4:
        raise DataError(f"n = {n!r}: give at least 4 things")
    pairs = torch.combinations(torch.arange(n))
    return ((pairs[:, None, :, None] == pairs[:, None]).sum((-2, -1)) == 1).float()


def latin_square_graph(square: Sequence[Sequence[int]]) -> Tensor:
    """Cells of a Latin square, joined where they share row, column or symbol: strongly regular (n^2, 3n - 3, n, 6), float32.

    Args:
        square: n rows of n symbols, numbers from 0 on.

    Raises:
        DataError: a row or column has not every symbol once.
    """
    n = len(square)
    if n < 3 or any(sorted(line) != list(range(n)) for line in (*square, *zip(*square, strict=False))):
        raise DataError(
            f"square = {square!r}: every row and column must hold each of 0 to n - 1 once, n being at least 3"
        )
    row, column = torch.arange(n * n) // n, torch.arange(n * n) % n
    symbol = torch.tensor([list(line) for line in square]).flatten()
    shared = sum((of[:, None] == of).float() for of in (row, column, symbol))
    return (torch.as_tensor(shared) == 1).float()


_GROUPLESS = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
"""The Latin square of order 5 that is, up to renaming, no table of a group."""


def strongly_regular_graphs(nodes: int) -> Tensor:
    """Graphs of a family of strongly regular graphs, no two isomorphic, ``[count, nodes, nodes]``, float32.

    No colour refinement tells graphs of one family apart: they agree in all numbers of walks. 16 nodes: (16, 6, 2, 2), the
    4 x 4 rook graph and Shrikhande's. 28 nodes: (28, 12, 6, 4), the triangular graph of 8 things and the three graphs that
    Chang (1959) found, made from it by switching the edges of a perfect matching, an 8-cycle, or a 3-cycle with a 5-cycle of
    the complete graph on these things (Seidel 1967).
    25 nodes: five of the fifteen (25, 12, 5, 6), those of the two Latin squares of order 5 and what switching makes of the
    second with a lonely node (Paulus 1973). The families of 16 and of 28 nodes are complete.

    Args:
        nodes: 16, 25 or 28.

    Raises:
        DataError: another number.
    """
    if nodes == 16:
        return torch.stack([rook_graph(4), shrikhande_graph()])
    if nodes == 25:
        cyclic = [[(i + j) % 5 for j in range(5)] for i in range(5)]
        second = latin_square_graph(_GROUPLESS)
        return torch.stack([latin_square_graph(cyclic), *(_descendant(second, node) for node in (0, 1, 2, 8))])
    if nodes != 28:
        raise DataError(f"nodes = {nodes!r}: families of 16, 25 and 28 nodes are known here")
    cycle = [(k, (k + 1) % 8) for k in range(8)]
    two_cycles = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (5, 6), (6, 7), (3, 7)]
    switched = [[], cycle[::2], cycle, two_cycles]
    return torch.stack([_switched(triangular_graph(8), edges) for edges in switched])


def _switched(adj: Tensor, edges: list[tuple[int, int]]) -> Tensor:
    """Seidel switching of a triangular graph: pairs in `edges` change whom of the others they are joined to."""
    chosen = {tuple(sorted(edge)) for edge in edges}
    return _seidel(adj, torch.tensor([pair in chosen for pair in itertools.combinations(range(8), 2)]))


def _seidel(adj: Tensor, side: Tensor) -> Tensor:
    """The graph in which nodes on different sides (bool ``[n]``) are joined where they were not."""
    return torch.where(side[:, None] ^ side, 1 - adj, adj)


def _descendant(adj: Tensor, node: int) -> Tensor:
    """A graph with a new, lonely node 0, switched so that `node` becomes the lonely one, which is left out."""
    wide = torch.nn.functional.pad(adj, (1, 0, 1, 0))
    keep = torch.arange(len(wide)) != node
    return _seidel(wide, wide[node].bool())[keep][:, keep]


# --- pairs and classes of other kinds --------------------------------------------------------------------------------
def skip_link_graph(n: int, skip: int) -> Tensor:
    """A cycle of n nodes in which nodes `skip` steps apart are joined, too (Murphy et al. 2019); ``[n, n]`` float32.

    All have degree 4, so that colour refinement tells none from another. 41 nodes with the skips 2, 3, 4, 5, 6, 9, 11, 12, 13, 16
    are ten different graphs, a common test.

    Raises:
        DataError: the skip does not lie between 2 and ``(n - 1) / 2``.
    """
    if not 2 <= skip <= (n - 1) // 2:
        raise DataError(f"n = {n!r}, skip = {skip!r}: give a skip from 2 to (n - 1) / 2")
    apart = (torch.arange(n)[:, None] - torch.arange(n)) % n
    return sum((apart == step).float() for step in (1, skip, n - 1, n - skip))  # pyright: ignore[reportReturnType]


def cfi_graphs(base: Tensor) -> Tensor:
    """A pair of graphs of equal local structure, made from a connected graph (Cai, Fürer and Immerman 1992), ``[2, n, n]``.

    Each node v of the base becomes one node for every set of its edges of even size; two of them are joined where their base
    nodes are, if both or neither set holds that edge. In the second graph the sets of node 0 have odd size. The wider the base,
    the stronger the test that is needed: a cycle of k nodes gives a cycle of 2k nodes and two cycles of k; where the base has
    tree-width above k, k-dimensional colour refinement (in the folklore sense) fails; products of matrices have k = 2.

    Args:
        base: adjacency ``[m, m]``, symmetric.

    Returns:
        float32, ``n = sum over v of 2^(degree of v - 1)``.

    Raises:
        DataError: the base is no adjacency matrix of a simple graph without lonely nodes.
    """
    good = base.dim() == 2 and base.shape[0] == base.shape[-1] and torch.equal(base, base.mT)
    if not good or not bool(((base == 0) | (base == 1)).all()) or bool(base.diagonal().any() | (base.sum(0) < 1).any()):
        raise DataError(
            f"base {tuple(base.shape)} must be a symmetric matrix of 0 and 1, zero on the diagonal, no row zero"
        )
    joined = [set(row.nonzero()[:, 0].tolist()) for row in base]
    found: list[Tensor] = []
    for odd in (False, True):
        nodes = [
            (v, set(chosen))
            for v, near in enumerate(joined)
            for size in range(int(odd and v == 0), len(near) + 1, 2)
            for chosen in itertools.combinations(sorted(near), size)
        ]
        found.append(
            torch.tensor([[float(w in joined[v] and (w in S) == (v in T)) for w, T in nodes] for v, S in nodes])
        )
    return torch.stack(found)
