"""Which polynomials of which degree do networks compute, and exact properties of the polynomials."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.data import strongly_regular_graphs
from erlangen.geometry import Multigraph, injective_terms, is_computable, multigraphs, simple_multigraphs
from erlangen.measure import relative_change
from erlangen.nn import GraphPolynomials, MatrixProgram, PermutationLinear
from erlangen.survey import Part, Run, exact, largest, number, properties
from erlangen.systems.graphs.equivariant_polynomials.method import PPGN

Row = dict[str, Any]
OUTPUT = ("graph", "nodes", "pairs")
"""What polynomials of order 0, 1 and 2 give numbers for."""
TRIANGLE = Multigraph(((0, 1), (1, 2), (2, 0)))
K4 = Multigraph(tuple(itertools.combinations(range(4), 2)))


def randn(*size: int, seed: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(*size, generator=Generator().manual_seed(seed), dtype=torch.float64)


# --- rows --------------------------------------------------------------------------------------------------------------
def degree_rows() -> list[Row]:
    """Connected simple graphs by edges and outputs, and how many of their polynomials each architecture computes."""
    rows: list[Row] = []
    for degree in range(1, 7):
        for order in range(3):
            graphs = simple_multigraphs(degree, order)
            by_products = sum(is_computable(graph, 2) for graph in graphs)
            rows.append(
                {
                    "part": "expressivity by degree",
                    "degree": degree,
                    "output": OUTPUT[order],
                    "polynomials": len(graphs),
                    "by message passing": sum(is_computable(graph, 1) for graph in graphs),
                    "by PPGN": by_products,
                    "missing in PPGN": len(graphs) - by_products,
                }
            )
    return rows


@functools.cache
def basis_ranks() -> tuple[tuple[int, int, int, int | None], ...]:
    """Degree, order, size of the basis of multigraphs with directed edges and loops, and the rank of its values."""
    found: list[tuple[int, int, int, int | None]] = []
    for degree in (1, 2, 3):
        for order in range(3):
            graphs = multigraphs(degree, order)
            n = min(2 * degree + order, 6)
            rank = None
            if degree < 3:
                values = GraphPolynomials(graphs)(randn(60, n, n, seed=degree)).reshape(-1, len(graphs))
                rank = int(torch.linalg.matrix_rank(values / values.norm(dim=0)))
            found.append((degree, order, len(graphs), rank))
    return tuple(found)


def basis_rows() -> list[Row]:
    """The same as rows."""
    return [
        {"part": "basis", "degree": degree, "output": OUTPUT[order], "polynomials": size, "rank": rank}
        for degree, order, size, rank in basis_ranks()
    ]


# --- properties --------------------------------------------------------------------------------------------------------
@exact(tol=1e-12)
def permutation(run: Run[Any]) -> float:
    """Change of polynomials of renumbered matrices, renumbered back."""
    X, p = randn(7, 7, seed=run.seed), torch.randperm(7, generator=run.generator())
    errors: list[float] = []
    for order in range(3):
        module = GraphPolynomials([graph for degree in (1, 2) for graph in multigraphs(degree, order)])
        moved, values = module(X[p][:, p]), module(X)
        for axis in range(order):
            values = values.index_select(axis, p)
        errors.append(relative_change(moved, values, over="entries"))
    return largest(errors)


@exact(tol=1e-12)
def sum_over_maps(run: Run[Any]) -> float:
    """Difference between contractions and the sum over all maps of the vertices, up to two edges, and three without output."""
    X = randn(4, 4, seed=run.seed)
    errors: list[float] = []
    for degree, order in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)):
        graphs = multigraphs(degree, order)
        values = GraphPolynomials(graphs)(X)
        errors += [
            relative_change(values[..., k], over_all_maps(graph, X), over="entries") for k, graph in enumerate(graphs)
        ]
    return largest(errors)


def over_all_maps(graph: Multigraph, X: Tensor) -> Tensor:
    """The definition: a sum over all placements of the vertices."""
    n = len(X)
    maps = torch.cartesian_prod(*[torch.arange(n)] * graph.vertices).reshape(-1, graph.vertices)
    terms = torch.stack([X[maps[:, r], maps[:, s]] for r, s in graph.edges]).prod(0)
    place = sum((maps[:, v] * n**k for k, v in enumerate(reversed(graph.outputs))), torch.zeros(len(maps)).long())
    return X.new_zeros(n**graph.order).index_add(0, place, terms).reshape([n] * graph.order)


@exact(tol=1e-8)
def degree_one_is_linear(run: Run[Any]) -> float:
    """Distance between the spans of degree one and of the 15 classical linear maps of pairs."""
    X = randn(40, 5, 5, seed=run.seed)
    polynomials = GraphPolynomials(multigraphs(1, 2))(X).reshape(-1, 15)
    layer = PermutationLinear({"adj": 1}, {"adj": 1}, bias=False).double()
    linear: list[Tensor] = []
    with torch.no_grad():
        for k in range(15):
            layer.weights["adj_to_adj"].zero_()[k] = 1
            linear.append(layer({"adj": X[..., None]})["adj"].flatten())
    bases = [torch.linalg.qr(values).Q for values in (polynomials, torch.stack(linear, 1))]
    return float((bases[0] - bases[1] @ (bases[1].T @ bases[0])).abs().max())


@exact(tol=1e-12)
def programs(run: Run[Any]) -> float:
    """Difference between programs of matrix products and contractions, for all connected simple graphs that have a program."""
    X = randn(6, 6, seed=run.seed)
    errors: list[float] = []
    for degree in range(1, 7):
        for order in range(3):
            graphs = [graph for graph in simple_multigraphs(degree, order) if is_computable(graph, 2)]
            values = GraphPolynomials(graphs)(X)
            errors += [
                relative_change(MatrixProgram(graph)(X), values[..., k], over="entries")
                for k, graph in enumerate(graphs)
            ]
    return largest(errors)


@exact(tol=0)
def subgraphs_counted(run: Run[Any]) -> float:
    """Wrong counts of triangles or complete subgraphs of four nodes, 100 random graphs."""
    import networkx as nx

    graphs = [nx.gnp_random_graph(10, 0.5, seed=run.seed + k) for k in range(100)]
    adj = torch.stack([torch.from_numpy(nx.to_numpy_array(graph)) for graph in graphs])
    cliques = [[len(found) for found in nx.enumerate_all_cliques(graph)] for graph in graphs]
    wrong = int((adj.matrix_power(3).diagonal(dim1=1, dim2=2).sum(1) != GraphPolynomials([TRIANGLE])(adj)[:, 0]).sum())
    for shape, copies, size in ((TRIANGLE, 6, 3), (K4, 24, 4)):
        terms = injective_terms(shape)
        counts = GraphPolynomials([term for _, term in terms])(adj) @ adj.new_tensor([sign for sign, _ in terms])
        wrong += int((counts != adj.new_tensor([copies * found.count(size) for found in cliques])).sum())
    return wrong


def witness_pair() -> Tensor:
    """Rook's graph and Shrikhande's with weight 3 where nodes are joined and 1 elsewhere: equal to products of matrices.

    Without weights at the other pairs the square of the matrix has only two values, and two polynomials hide behind that.
    """
    return 1 + 2 * strongly_regular_graphs(16).double() + torch.eye(16)


@exact(tol=0)
def witnesses(run: Run[Any]) -> float:
    """Polynomials that are computable but differ on the pair of witnesses, or the reverse."""
    pair = witness_pair()
    wrong = 0
    for degree in range(1, 7):
        for order in range(3):
            graphs = simple_multigraphs(degree, order)
            for k, values in enumerate(GraphPolynomials(graphs)(pair).unbind(-1)):
                values = 4 * values + pair if order == 2 else values  # how often a value occurs, by kind of pair
                ordered = values.reshape(2, -1).sort(-1).values
                wrong += torch.equal(ordered[0], ordered[1]) != is_computable(graphs[k], 2)
    return wrong


@exact(tol=1e-12)
def padding(run: Run[Any]) -> float:
    """Difference between a padded batch of graphs of 1 to 6 nodes and its graphs alone, in PPGN."""
    net = PPGN(3, 5, 8, generator=run.generator()).double()
    mask = torch.arange(6) < torch.tensor([[1], [2], [4], [6]])
    x = randn(4, 6, 6, 3, seed=run.seed) * (mask[:, :, None] & mask[:, None])[..., None]
    with torch.no_grad():
        alone = torch.cat([net(x[b : b + 1, :n, :n]) for b, n in enumerate((1, 2, 4, 6))])
        return relative_change(net(x, mask), alone, over="entries")


def missing(*degrees: int) -> int:
    """Polynomials of connected simple graphs of these degrees that products of matrices do not compute."""
    graphs = [graph for degree in degrees for order in range(3) for graph in simple_multigraphs(degree, order)]
    return sum(not is_computable(graph, 2) for graph in graphs)


@number(0)
def complete_up_to_degree_four(run: Run[Any]) -> float:
    """Polynomials of degree up to 4 that products of matrices do not compute."""
    return missing(1, 2, 3, 4)


@number(1)
def missing_degree_five(run: Run[Any]) -> float:
    """Polynomials of degree 5 that products of matrices do not compute."""
    return missing(5)


@number(11)
def missing_degree_six(run: Run[Any]) -> float:
    """Polynomials of degree 6 that products of matrices do not compute."""
    return missing(6)


@exact(tol=0)
def basis_sizes(run: Run[Any]) -> float:
    """Differences of the sizes of the basis of degree 1 to 3 from 2, 5, 15, 11, 32, 117, 52, 199 and 877, summed."""
    known = (2, 5, 15, 11, 32, 117, 52, 199, 877)
    return sum(abs(size - count) for (_, _, size, _), count in zip(basis_ranks(), known, strict=True))


@exact(tol=0)
def independent(run: Run[Any]) -> float:
    """Polynomials of degree 1 and 2 minus the rank of their values on random matrices."""
    return sum(size - rank for _, _, size, rank in basis_ranks() if rank is not None)


PROPERTIES = (
    permutation,
    sum_over_maps,
    degree_one_is_linear,
    programs,
    subgraphs_counted,
    witnesses,
    padding,
    complete_up_to_degree_four,
    missing_degree_five,
    missing_degree_six,
    basis_sizes,
    independent,
)


def degrees_part(run: Run[Any]) -> Part:
    """The properties, and the tables of the basis and of what each architecture computes of it."""
    found = properties(run, *PROPERTIES)
    return Part([*found.rows, *basis_rows(), *degree_rows()], found.claims)
