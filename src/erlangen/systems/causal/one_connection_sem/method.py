"""The one-connection rule (Adhikari, Gross, Härkönen and Tsigaridas 2022), with the signs of Coates (1959).

Lambda[i, j] is the weight of i -> j and Omega the covariance of the noise, so Sigma = (I - Lambda)^-T Omega (I - Lambda)^-1. The
digraph of I - Lambda has the edges of Lambda with negated weights and a loop of weight one at every node. Below the loops are
summed away: weights are Lambda's own, and cycles have two nodes or more.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from erlangen.causal import MixedGraph
from erlangen.errors import DataError, ErlangenError, ErlangenWarning, ShapeError, UnknownNameError, check_finite

Edge = tuple[int, int]
W = TypeVar("W")
"""Numbers of any commutative ring: floats, fractions, polynomials of sympy."""

Convention = Literal["i to j", "j to i"]


class OneConnections(Generic[W]):
    """Determinant and adjugate of I - Lambda, and the covariance of a model with cycles, as sums over paths and cycles.

    >>> ring = OneConnections(3, {(0, 1): 2, (1, 2): 3, (2, 0): 5})
    >>> ring.delta(), ring.adjugate()[0]  # 1 - 2 * 3 * 5; the paths from node 0
    (-29, [1, 2, 6])

    ``delta`` is the sum over sets of disjoint cycles of (-1)^(number of cycles) times their weights. ``adjugate()[i][j]`` sums
    over one-connections from i to j: a path, times the delta of the nodes that are not on it. On an acyclic graph these are 1 and
    the sum over paths, and the rule is the trek rule.

    Cycles on the same nodes, and paths with the same ends on the same nodes, are added up before anything is multiplied; deltas
    of sets of nodes are kept.

    Args:
        nodes: how many there are; they are called 0, 1, ...
        weights: of the edges i -> j, in a commutative ring: something with +, -, * and ==.
        one: the one of this ring.
        max_terms: how many paths and cycles there may be.

    Raises:
        DataError: an edge to a node that there is not, a loop, or a weight of zero.
        ErlangenError: there are more than `max_terms` paths and cycles.
    """

    def __init__(self, nodes: int, weights: Mapping[Edge, W], *, one: Any = 1, max_terms: int = 200_000) -> None:
        MixedGraph(nodes, tuple(weights))  # checks nodes and loops
        for edge, weight in weights.items():
            if weight == 0:
                raise DataError(f"weights[{edge}] is zero; leave the edge out")
        self.nodes, self.one, self.max_terms = nodes, one, max_terms
        self.zero: Any = one - one
        self._after: list[list[tuple[int, Any]]] = [[] for _ in range(nodes)]
        for (i, j), weight in weights.items():
            self._after[i].append((j, weight))
        self.terms = 0
        # All simple paths from i by nodes and end, and all cycles by their nodes, under their smallest one.
        self._paths = [self._paths_from(i) for i in range(nodes)]
        self._cycles = [self._cycles_through(i) for i in range(nodes)]
        self._deltas: dict[int, Any] = {0: one}

    def delta(self, within: Iterable[int] | None = None) -> W:
        """``det(I - Lambda)``, of the whole graph or of some nodes: the sum over sets of disjoint cycles."""
        every = (1 << self.nodes) - 1
        return self._delta(every if within is None else sum(1 << i for i in set(within)))

    def path_sum(self, i: int, j: int) -> W:
        """The entry i, j of the adjugate of ``I - Lambda``: the sum over one-connections from i to j."""
        every = (1 << self.nodes) - 1
        total = self.zero
        for (nodes, end), weight in self._paths[i].items():
            if end == j:
                total = total + weight * self._delta(every & ~nodes)
        return total

    def adjugate(self) -> list[list[W]]:
        """The adjugate of ``I - Lambda``, by rows."""
        return [[self.path_sum(i, j) for j in range(self.nodes)] for i in range(self.nodes)]

    def numerators(self, omega: Mapping[Edge, W]) -> list[list[W]]:
        """Entries of Sigma times ``delta()`` squared: pairs of one-connections that end in i and j.

        Their starts are one node, or two that `omega` joins.

        Args:
            omega: covariances of the noise, ``omega[k, k]`` of every node and ``omega[k, l]`` of bidirected edges, each once.

        Raises:
            DataError: a node has no variance, an edge is there in both orders, or is of nodes that there are not.
        """
        n = self.nodes
        for k, l in omega:
            if not (0 <= k < n and 0 <= l < n) or (k != l and (l, k) in omega):
                raise DataError(f"omega has the entry ({k}, {l}); nodes are 0 to {n - 1}, and a pair stands there once")
        for k in range(n):
            if (k, k) not in omega:
                raise DataError(f"omega has no variance of node {k}; give omega[{k}, {k}]")
        P = self.adjugate()
        both: dict[Edge, Any] = {**omega, **{(l, k): weight for (k, l), weight in omega.items()}}
        halves = [[self.zero] * n for _ in range(n)]  # Omega P
        for (k, l), weight in both.items():
            for j in range(n):
                halves[k][j] = halves[k][j] + weight * P[l][j]
        found: list[list[Any]] = [[self.zero] * n for _ in range(n)]
        for i in range(n):
            for j in range(i, n):
                found[i][j] = found[j][i] = sum((P[k][i] * halves[k][j] for k in range(n)), self.zero)
        return found

    def covariance(self, omega: Mapping[Edge, W]) -> list[list[W]]:
        """Sigma, where weights can be divided; arguments as of `numerators`.

        Raises:
            ErlangenError: delta is zero: the cycles have no equilibrium.
        """
        delta: Any = self.delta()
        if delta == 0:
            raise ErlangenError("det(I - Lambda) is zero: the cycles have no equilibrium; change a weight on a cycle")
        return [[cell / (delta * delta) for cell in row] for row in self.numerators(omega)]

    def _delta(self, within: int) -> Any:
        """Leave out the smallest node, or take a cycle through it."""
        if within not in self._deltas:
            lowest = within & -within
            total = self._delta(within & ~lowest)
            for nodes, weight in self._cycles[lowest.bit_length() - 1].items():
                if nodes & ~within == 0:
                    total = total - weight * self._delta(within & ~nodes)
            self._deltas[within] = total
        return self._deltas[within]

    def _paths_from(self, start: int) -> dict[tuple[int, int], Any]:
        found: dict[tuple[int, int], Any] = {}
        self._walk(start, 0, found)
        return found

    def _cycles_through(self, start: int) -> dict[int, Any]:
        """Cycles whose smallest node is `start`, by their nodes: paths upwards of it, and an edge back."""
        paths: dict[tuple[int, int], Any] = {}
        self._walk(start, (1 << start) - 1, paths)
        found: dict[int, Any] = {}
        for (nodes, end), weight in paths.items():
            for after, last in self._after[end]:
                if after == start:
                    found[nodes] = found[nodes] + weight * last if nodes in found else weight * last
        return found

    def _walk(self, start: int, avoid: int, found: dict[tuple[int, int], Any]) -> None:
        """Sums of the weights of simple paths by nodes and end, one edge longer in every round."""
        front: dict[tuple[int, int], tuple[Any, int]] = {(1 << start, start): (self.one, 1)}
        while front:
            found.update({key: weight for key, (weight, _) in front.items()})
            self.terms += sum(count for _, count in front.values())
            if self.terms > self.max_terms:
                raise ErlangenError(
                    f"the graph has more than max_terms = {self.max_terms} paths and cycles ({self.terms} so far); raise it, or "
                    "solve for numbers: erlangen.causal.LinearSEM(weights, omega).covariance()"
                )
            longer: dict[tuple[int, int], tuple[Any, int]] = {}
            for (nodes, end), (weight, count) in front.items():
                for after, step in self._after[end]:
                    if not (nodes | avoid) >> after & 1:
                        key = (nodes | 1 << after, after)
                        old, before = longer.get(key, (self.zero, 0))
                        longer[key] = (old + weight * step, before + count)
            front = longer


# --- the paper's own form, with loops ---------------------------------------------------------------------------------
class OneConnection(NamedTuple):
    """A spanning subgraph of the digraph of I - Lambda: a path, and disjoint cycles and loops over all other nodes.

    Attributes:
        path: its nodes in order; of a linear subgraph there is none, ``()``.
        cycles: of two nodes or more, each from its smallest node on.
        loops: nodes that are covered by their loop.
    """

    path: tuple[int, ...]
    cycles: tuple[tuple[int, ...], ...]
    loops: tuple[int, ...]

    @property
    def edges(self) -> list[Edge]:
        """Edges of path and cycles."""
        closed = [(*cycle, cycle[0]) for cycle in self.cycles]
        return [edge for way in (self.path, *closed) for edge in itertools.pairwise(way)]

    def term(self, weights: Mapping[Edge, Any], one: Any = 1) -> Any:
        """Its signed term: ``(-1)^(n - c) w`` of a linear subgraph and ``(-1)^(n - 1 - c) w`` of a one-connection.

        c counts cycles and loops, and w is the product of the *negated* weights of Lambda.
        """
        count = len(self.path) + sum(map(len, self.cycles)) + len(self.loops)
        signs = count - bool(self.path) - len(self.cycles) - len(self.loops)
        product = one if signs % 2 == 0 else -one
        for edge in self.edges:
            product = product * -weights[edge]
        return product


def linear_subgraphs(nodes: int, edges: Iterable[Edge]) -> Iterator[OneConnection]:
    """All sets of disjoint cycles and loops over all nodes; their terms sum to ``det(I - Lambda)`` (Coates 1959).

    >>> [found.cycles for found in linear_subgraphs(2, [(0, 1), (1, 0)])]
    [(), ((0, 1),)]
    """
    graph = MixedGraph(nodes, tuple(edges))
    after = _successors(graph)
    for cycles, loops in _covers(after, tuple(range(nodes))):
        yield OneConnection((), cycles, loops)


def one_connections(nodes: int, edges: Iterable[Edge], i: int, j: int) -> Iterator[OneConnection]:
    """All one-connections from i to j; their terms sum to the entry i, j of the adjugate of ``I - Lambda``.

    >>> [(h.path, h.cycles) for h in one_connections(3, [(0, 1), (1, 2), (2, 1)], 0, 1)]
    [((0, 1), ())]
    """
    graph = MixedGraph(nodes, tuple(edges))
    if not (0 <= i < nodes and 0 <= j < nodes):
        raise DataError(f"one-connections from {i} to {j}, but nodes are 0 to {nodes - 1}")
    after = _successors(graph)
    for path in _simple_paths(after, (i,), j, frozenset(range(nodes))):
        for cycles, loops in _covers(after, tuple(k for k in range(nodes) if k not in path)):
            yield OneConnection(path, cycles, loops)


def _successors(graph: MixedGraph) -> list[list[int]]:
    return [[j for k, j in graph.directed if k == i] for i in range(graph.nodes)]


def _simple_paths(
    after: Sequence[Sequence[int]], path: tuple[int, ...], end: int, within: frozenset[int]
) -> Iterator[tuple[int, ...]]:
    """All continuations of a path to its end; of a path that has come to it, itself alone."""
    if path[-1] == end:
        yield path
        return
    for node in after[path[-1]]:
        if node in within and node not in path:
            yield from _simple_paths(after, (*path, node), end, within)


def _covers(
    after: Sequence[Sequence[int]], left: tuple[int, ...]
) -> Iterator[tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]]:
    """All disjoint cycles and loops over these nodes: the smallest has its loop, or a cycle through it."""
    if not left:
        yield (), ()
        return
    first, rest = left[0], left[1:]
    for cycles, loops in _covers(after, rest):
        yield cycles, (first, *loops)
    for last in rest:
        if first in after[last]:
            for cycle in _simple_paths(after, (first,), last, frozenset(left)):
                for cycles, loops in _covers(after, tuple(k for k in rest if k not in cycle)):
                    yield (cycle, *cycles), loops


# --- weights of several kinds ----------------------------------------------------------------------------------------
class Symbolic(NamedTuple):
    """A graph with a symbol for every parameter.

    Attributes:
        connections: in a sparse ring of polynomials of sympy, where everything is expanded.
        omega: symbols of the noise, for `OneConnections.numerators`.
        ring: the ring; its generators are the weights of directed edges, then variances, then bidirected edges.
        weights: symbols of directed edges.
    """

    connections: OneConnections[Any]
    omega: dict[Edge, Any]
    ring: Any
    weights: dict[Edge, Any]


def symbolic(graph: MixedGraph, *, max_terms: int = 200_000) -> Symbolic:
    """The rule for a graph, in symbols ``l01`` of the edge 0 -> 1 and ``w01`` of the covariance of 0 and 1.

    >>> found = symbolic(MixedGraph(2, ((0, 1), (1, 0))))
    >>> print(found.connections.delta(), "|", found.connections.numerators(found.omega)[0][0])
    -l0_1*l1_0 + 1 | l1_0**2*w1_1 + w0_0
    """
    from sympy import ZZ, ring

    noise = [(k, k) for k in range(graph.nodes)] + [(min(edge), max(edge)) for edge in graph.bidirected]
    names = [f"l{i}_{j}" for i, j in graph.directed] + [f"w{i}_{j}" for i, j in noise]
    made, *symbols = ring(names, ZZ)
    weights = dict(zip(graph.directed, symbols, strict=False))
    omega = dict(zip(noise, symbols[len(weights) :], strict=True))
    return Symbolic(OneConnections(graph.nodes, weights, one=made.one, max_terms=max_terms), omega, made, weights)


def covariance(Lambda: Tensor, Omega: Tensor, *, convention: Convention = "i to j", max_terms: int = 200_000) -> Tensor:
    """Sigma of numbers by the rule, ``[d, d]``: a check on small graphs, since a solve is faster.

    >>> covariance(torch.tensor([[0.0, 0.5], [0.5, 0.0]]), torch.eye(2))
    tensor([[2.2222, 1.7778],
            [1.7778, 2.2222]])

    Args:
        Lambda: weights ``[d, d]``, zero where there is no edge.
        Omega: covariance of the noise ``[d, d]``, symmetric.
        convention: what ``Lambda[i, j]`` is the weight of: "i to j", or "j to i" where a text writes X = Lambda X + noise.
        max_terms: see `OneConnections`.

    Raises:
        ErlangenError: det(I - Lambda) is zero, or there are too many paths and cycles.
        ShapeError, DataError, NotFiniteError: other shapes, a loop, an Omega that is not symmetric, NaN.

    Warns:
        ErlangenWarning: I - Lambda has a condition number above 1e12.
    """
    if convention not in get_args(Convention):
        raise UnknownNameError(f"convention = {convention!r}; there are {', '.join(map(repr, get_args(Convention)))}")
    d = len(Lambda)
    for name, matrix in (("Lambda", Lambda), ("Omega", Omega)):
        if matrix.shape != (d, d):
            raise ShapeError(f"{name} has shape {tuple(matrix.shape)}; give [{d}, {d}]")
        check_finite(matrix, name)
    if not torch.equal(Omega, Omega.mT):
        raise DataError("Omega is not symmetric; it is the covariance of the noise")
    weights = Lambda.double() if convention == "i to j" else Lambda.double().mT
    condition = float(torch.linalg.cond(torch.eye(d, dtype=torch.float64) - weights))
    if condition > 1e12:
        warnings.warn(
            f"I - Lambda has the condition number {condition:.3g}; few digits of Sigma will be right, use fractions",
            ErlangenWarning,
            stacklevel=2,
        )
    edges = {(i, j): float(weights[i, j]) for i, j in (weights != 0).nonzero().tolist()}
    omega = {(k, l): float(Omega[k, l]) for k in range(d) for l in range(k, d) if k == l or Omega[k, l] != 0}
    rows = OneConnections(d, edges, one=1.0, max_terms=max_terms).covariance(omega)
    return torch.tensor(rows, dtype=torch.float64).to(Lambda.dtype)


def mixed_graph(
    labels: Sequence[Hashable],
    directed: Iterable[tuple[Hashable, Hashable]] = (),
    bidirected: Iterable[tuple[Hashable, Hashable]] = (),
) -> MixedGraph:
    """A graph whose nodes have names of any kind, also such that cannot be sorted; node i is ``labels[i]``.

    >>> mixed_graph(["rain", 3, None], [("rain", 3), (3, None)]).directed
    ((0, 1), (1, 2))

    Raises:
        DataError: a label occurs twice, or an edge has one that is not there; further as `MixedGraph`.
    """
    place = {label: i for i, label in enumerate(labels)}
    if len(place) != len(labels):
        raise DataError(f"labels = {list(labels)}; give each node a label of its own")

    def placed(name: str, edges: Iterable[tuple[Hashable, Hashable]]) -> tuple[Edge, ...]:
        found: list[Edge] = []
        for edge in edges:
            for end in edge:
                if end not in place:
                    raise DataError(f"{name} has the edge {edge!r}, but {end!r} is no label; add it to labels")
            found.append((place[edge[0]], place[edge[1]]))
        return tuple(found)

    return MixedGraph(len(labels), placed("directed", directed), placed("bidirected", bidirected))
