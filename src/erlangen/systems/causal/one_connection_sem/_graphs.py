"""Graphs that are looked at, what is known of them, and what vanishes on their models."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Generator

from erlangen.causal import MixedGraph, is_dag
from erlangen.solve import PRIMES, modular_rank
from erlangen.systems.causal.one_connection_sem._ideals import (
    Relation,
    model_dimension,
    model_points,
    pairs_of,
    vanishing_polynomials,
)

Edge = tuple[int, int]

TWO_CYCLE = MixedGraph(2, ((0, 1), (1, 0)))
BOW = MixedGraph(2, ((0, 1),), ((0, 1),))
INSTRUMENT = MixedGraph(3, ((0, 1), (1, 2)), ((1, 2),))
CYCLE_INSTRUMENT = MixedGraph(3, ((2, 0), (0, 1), (1, 0)))
CYCLE_INSTRUMENTS = MixedGraph(4, ((2, 0), (3, 1), (0, 1), (1, 0)))
CHAIN = MixedGraph(3, ((0, 1), (1, 2)))
CHOKE = MixedGraph(5, ((0, 2), (1, 2), (2, 3), (2, 4)))
VERMA = MixedGraph(4, ((0, 1), (1, 2), (2, 3), (0, 2)), ((1, 3),))
LEAF = MixedGraph(4, ((0, 1), (1, 2), (2, 0), (0, 3)))
FOUR_CYCLE = MixedGraph(4, ((0, 1), (1, 2), (2, 3), (3, 0)))
SPOUSE = MixedGraph(4, ((0, 1), (1, 2), (2, 0)), ((0, 3),))
"""A 3-cycle, one node of which has correlated noise with a fourth: one of its constraints is no minor."""
NEW = (SPOUSE, 3, (1, 2, 1, 2), "s12*s24*s34 - s13*s24^2 - s14*s22*s34 + s14*s23*s24")

KNOWN: dict[str, tuple[MixedGraph, int, int, dict[int, int]]] = {
    "chain": (CHAIN, 2, 5, {2: 1}),
    "instrument": (INSTRUMENT, 3, 6, {}),
    "choke": (CHOKE, 2, 9, {1: 1, 2: 12}),
    "Verma": (VERMA, 4, 9, {4: 1}),
    "3-cycle with a leaf": (LEAF, 2, 8, {2: 3}),
    "4-cycle": (FOUR_CYCLE, 3, 8, {3: 2}),
}
"""Graphs, the degree that is looked through, the dimension of the model, and how many new polynomials each degree has."""


def random_graph(
    nodes: int, directed: int, bidirected: int, generator: Generator, *, simple: bool = False
) -> MixedGraph:
    """A uniform draw; of simple graphs, at most one edge between two nodes."""
    pairs = list(itertools.combinations(range(nodes), 2))
    mixed = [pairs[k] for k in torch.randperm(len(pairs), generator=generator).tolist()]
    if simple:
        flips = torch.randint(2, (directed,), generator=generator).tolist()
        ways = [edge[::-1] if flip else edge for edge, flip in zip(mixed, flips, strict=False)]
        return MixedGraph(nodes, tuple(ways), tuple(mixed[len(ways) : len(ways) + bidirected]))
    both = pairs + [edge[::-1] for edge in pairs]
    order = torch.randperm(len(both), generator=generator)[:directed].tolist()
    return MixedGraph(nodes, tuple(both[k] for k in order), tuple(mixed[:bidirected]))


def random_cyclic_graph(nodes: int, directed: int, bidirected: int, generator: Generator) -> MixedGraph:
    """A draw that has a directed cycle."""
    while True:
        graph = random_graph(nodes, directed, bidirected, generator)
        if not is_dag(graph.adjacency()):
            return graph


def three_nodes() -> Iterator[MixedGraph]:
    """All 64 digraphs on three labelled nodes."""
    edges = list(itertools.permutations(range(3), 2))
    for size in range(len(edges) + 1):
        for chosen in itertools.combinations(edges, size):
            yield MixedGraph(3, chosen)


def complete(nodes: int) -> MixedGraph:
    """All directed edges."""
    return MixedGraph(nodes, tuple(itertools.permutations(range(nodes), 2)))


# --- what vanishes ---------------------------------------------------------------------------------------------------
@functools.cache
def relations_of(graph: MixedGraph, degree: int) -> list[Relation]:
    """What vanishes, computed once."""
    return vanishing_polynomials(graph, degree)


def codimension(graph: MixedGraph) -> int:
    """How many independent conditions the model puts on a covariance."""
    return len(pairs_of(graph.nodes)) - model_dimension(graph)


def gradient_rank(graph: MixedGraph, relations: list[Relation], generator: Generator) -> int:
    """How many of these polynomials are independent at a random point of the model."""
    sigma = model_points(graph, 1, generator=generator)[1][0]
    if not relations:
        return 0
    return int(modular_rank(torch.stack([one.gradient(sigma, PRIMES[0]) for one in relations]), PRIMES[0]))


def vanishing_minors(graph: MixedGraph) -> list[Relation]:
    """The minors of Sigma that vanish on a model: conditional independence, tetrads, separation by treks."""
    sigma, n = model_points(graph, 1, generator=Generator().manual_seed(1))[1][0], graph.nodes
    found: list[Relation] = []
    for size in range(1, n):
        for rows, columns in itertools.combinations_with_replacement(itertools.combinations(range(n), size), 2):
            if int(modular_rank(sigma[list(rows)][:, list(columns)], PRIMES[0])) < size:
                found.append(_minor(n, rows, columns))
    return found


def _minor(n: int, rows: tuple[int, ...], columns: tuple[int, ...]) -> Relation:
    """The determinant of these rows and columns, written out."""
    size, terms = len(rows), Counter[tuple[Edge, ...]]()
    for s in itertools.permutations(range(size)):
        odd = sum(s[a] > s[b] for a, b in itertools.combinations(range(size), 2)) % 2
        entries = ((rows[a], columns[s[a]]) for a in range(size))
        terms[tuple(sorted((min(e), max(e)) for e in entries))] += -1 if odd else 1
    multidegree = tuple((rows + columns).count(i) for i in range(n))
    return Relation(multidegree, tuple((c, m) for m, c in terms.items() if c))
