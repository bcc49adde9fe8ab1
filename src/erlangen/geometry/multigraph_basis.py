"""Small multigraphs that name the equivariant polynomials of a matrix: their enumeration, and who can compute them.

A multigraph H with some output vertices stands for the polynomial of a matrix X whose entry at (i, j) is the sum, over all
ways to place the vertices of H among the n nodes with the outputs at i and j, of the product of the entries of X along the
edges of H. These polynomials, one for each H up to isomorphism, are a basis of all polynomials that commute with permutations
of the nodes (Puny, Lim, Kiani, Maron and Lipman, "Equivariant Polynomials for Graph Neural Networks", ICML 2023, theorem 2).
`erlangen.nn.GraphPolynomials` evaluates them, `erlangen.nn.MatrixProgram` those that need products of matrices alone.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from erlangen.errors import ErlangenError

MOST_HALF_EDGES = 10
"""Largest ``2 degree + order`` that is enumerated: Bell(10) = 115,975 partitions."""
MOST_SIMPLE_EDGES = 6
"""Connected simple graphs with more edges may have more than the seven vertices of networkx's atlas."""


_CONNECTED = {7: 79, 8: 227, 9: 710, 10: 2322}
"""Connected graphs by their number of edges beyond the atlas (OEIS A002905)."""


@dataclass(frozen=True)
class Multigraph:
    """Ordered pairs of vertices, and output vertices.

    Attributes:
        edges: pairs (r, s) for the factors ``X[r, s]``; loops and repetitions count.
        outputs: none, one or two vertices, which may be equal: their indices are those of the result.

    Raises:
        ErlangenError: more than two outputs, or vertices that are not 0, 1, 2, ... or are neither in edges nor outputs.
    """

    edges: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        named = {v for edge in self.edges for v in edge} | set(self.outputs)
        if len(self.outputs) > 2 or named != set(range(len(named))):
            raise ErlangenError(
                f"{self} must have at most two outputs, and vertices 0, 1, 2, ... without gaps, each in an edge or an output"
            )

    @property
    def degree(self) -> int:
        """Degree of the polynomial: the number of edges."""
        return len(self.edges)

    @property
    def order(self) -> int:
        """Order of the result: a number per graph (0), per node (1), or per pair (2)."""
        return len(self.outputs)

    @property
    def vertices(self) -> int:
        """Number of vertices."""
        return len({v for edge in self.edges for v in edge} | set(self.outputs))

    @property
    def is_connected(self) -> bool:
        """Whether the edges join all vertices; otherwise the polynomial is a product of others."""
        reached, left = {0} if self.vertices else set[int](), list(self.edges)
        while touching := [edge for edge in left if reached & set(edge)]:
            reached |= {v for edge in touching for v in edge}
            left = [edge for edge in left if edge not in touching]
        return len(reached) == self.vertices

    def merged(self, blocks: tuple[tuple[int, ...], ...]) -> Multigraph:
        """The multigraph in which the vertices of each block have become one."""
        name = {v: i for i, block in enumerate(blocks) for v in block}
        return Multigraph(tuple((name[r], name[s]) for r, s in self.edges), tuple(name[v] for v in self.outputs))


# --- enumeration -----------------------------------------------------------------------------------------------------
@functools.cache
def multigraphs(degree: int, order: int) -> tuple[Multigraph, ...]:
    """All multigraphs of a degree with directed edges, one for each isomorphism class: a basis of the polynomials.

    Vertices are the blocks of a partition of the ends of edges and the outputs; permuting the edges gives the same graph.

    >>> [len(multigraphs(degree, 0)) for degree in (1, 2, 3)]
    [2, 11, 52]

    Args:
        degree: number of edges, at least 1.
        order: number of outputs, 0, 1 or 2.

    Raises:
        ErlangenError: a number out of range, or more than `MOST_HALF_EDGES` ends and outputs.
    """
    ends = 2 * degree + order
    if degree < 1 or order not in (0, 1, 2) or ends > MOST_HALF_EDGES:
        partitions = f"{_bell(ends):,}" if 0 <= ends <= 100 else "more than 10^100"
        raise ErlangenError(
            f"degree = {degree}, order = {order}: take a positive degree, order 0, 1 or 2, and at most {MOST_HALF_EDGES} for "
            f"2 degree + order; the number of multigraphs grows like Bell's numbers, here Bell({ends}) = {partitions} partitions"
        )
    found: dict[tuple[int, ...], None] = {}
    for blocks in _growth_strings(ends):
        found.setdefault(
            min(
                _relabelled([end for e in order_ for end in blocks[2 * e : 2 * e + 2]] + list(blocks[2 * degree :]))
                for order_ in itertools.permutations(range(degree))
            )
        )
    return tuple(
        Multigraph(tuple((b[2 * e], b[2 * e + 1]) for e in range(degree)), tuple(b[2 * degree :])) for b in found
    )


def _bell(things: int) -> int:
    """How many partitions things have: the last number of each row of Aitken's array begins the next one."""
    row = [1]
    for _ in range(things):
        row = list(itertools.accumulate([row[-1], *row]))
    return row[0]


def _growth_strings(length: int) -> Iterator[tuple[int, ...]]:
    """Partitions of ``range(length)``: the block of each element, numbered in the order of their first elements."""

    def grown(start: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(start) == length:
            yield start
            return
        for block in range(max(start, default=-1) + 2):
            yield from grown((*start, block))

    return grown(())


def _relabelled(blocks: list[int]) -> tuple[int, ...]:
    names: dict[int, int] = {}
    return tuple(names.setdefault(block, len(names)) for block in blocks)


@functools.cache
def simple_multigraphs(edges: int, order: int) -> tuple[Multigraph, ...]:
    """Connected simple graphs with so many edges and different outputs, one for each isomorphism class that keeps the outputs.

    Their polynomials of symmetric matrices are those that element-wise products and diagonals do not give. From the atlas of
    all graphs of up to seven nodes (Read and Wilson 1998) in networkx.

    Raises:
        ErlangenError: a number out of range.
    """
    if not 1 <= edges <= MOST_SIMPLE_EDGES or order not in (0, 1, 2):
        count = f"; there are {_CONNECTED[edges]:,} connected graphs of {edges} edges" if edges in _CONNECTED else ""
        raise ErlangenError(
            f"edges = {edges}, order = {order}: take 1 to {MOST_SIMPLE_EDGES} edges, and order 0, 1 or 2; graphs with more edges "
            f"are not all in the atlas{count}, and the hardest take n^4 operations on tensors of n^3 entries"
        )
    import networkx as nx

    found: list[Multigraph] = []
    for graph in nx.graph_atlas_g():
        if graph.number_of_edges() != edges or not nx.is_connected(graph):
            continue
        pairs = sorted(tuple(sorted(edge)) for edge in graph.edges)
        nodes = sorted(graph.nodes)
        moves = list(nx.isomorphism.GraphMatcher(graph, graph).isomorphisms_iter())
        seen: set[tuple[int, ...]] = set()
        for outputs in itertools.permutations(nodes, order):
            images = {tuple(move[v] for v in outputs) for move in moves}
            # A symmetric matrix gives the transposed polynomial when the two outputs change places; both are kept.
            if not images & seen:
                seen.add(outputs)
                found.append(Multigraph(tuple(pairs), outputs))
    return tuple(found)


# --- who computes what -----------------------------------------------------------------------------------------------
def is_computable(graph: Multigraph, width: int) -> bool:
    """Whether an architecture can compute a polynomial by removing one inner vertex after the other.

    Message passing (width 1) sums out a vertex with one neighbour, products of matrices (width 2, PPGN) one with two, which
    become neighbours. Edges that run in parallel, directions and loops cost nothing: channels are multiplied element by
    element, transposed, and put on the diagonal (section 4 of the paper).

    Raises:
        ErlangenError: the width is not positive.
    """
    if width < 1:
        raise ErlangenError(f"width = {width}; 1 stands for message passing, 2 for products of matrices")
    near: dict[int, set[int]] = {v: set() for v in range(graph.vertices)}
    for r, s in graph.edges:
        if r != s:
            near[r].add(s)
            near[s].add(r)
    inner = set(near) - set(graph.outputs)
    # A removal that is possible stays possible, and hurts no other: the order does not matter.
    while removable := [v for v in inner if len(near[v]) <= width]:
        gone = removable[0]
        inner.discard(gone)
        around = near.pop(gone)
        for v in around:
            near[v] = (near[v] | around) - {v, gone}
    return not inner


def injective_terms(graph: Multigraph) -> list[tuple[int, Multigraph]]:
    """The sum over injective placements as integers times sums over all placements: Möbius inversion over partitions.

    With them, ``Q_H = sum of c P_H'``; for a simple H and an adjacency matrix, Q_H without outputs is the number of subgraphs
    H times the number of automorphisms of H.
    """
    terms: list[tuple[int, Multigraph]] = []
    for labels in _growth_strings(graph.vertices):
        blocks = tuple(tuple(v for v in range(graph.vertices) if labels[v] == b) for b in range(max(labels) + 1))
        sign = math.prod((-1) ** (len(block) - 1) * math.factorial(len(block) - 1) for block in blocks)
        terms.append((sign, graph.merged(blocks)))
    return terms
