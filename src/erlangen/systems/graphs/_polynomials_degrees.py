"""Which polynomials of which degree do networks compute, and exact properties of the polynomials."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.data import strongly_regular_graphs
from erlangen.geometry import Multigraph, injective_terms, is_computable, multigraphs, simple_multigraphs
from erlangen.measure import relative_change
from erlangen.nn import GraphPolynomials, MatrixProgram, PermutationLinear
from erlangen.survey.claims import Claim
from erlangen.systems.graphs._polynomials_network import PPGN

Row = dict[str, Any]
OUTPUT = ("graph", "nodes", "pairs")
"""What polynomials of order 0, 1 and 2 give numbers for."""
TRIANGLE = Multigraph(((0, 1), (1, 2), (2, 0)))
K4 = Multigraph(tuple(itertools.combinations(range(4), 2)))


def randn(*size: int, seed: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(*size, generator=Generator().manual_seed(seed), dtype=torch.float64)


# --- counts ------------------------------------------------------------------------------------------------------------
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


def basis_rows() -> list[Row]:
    """Multigraphs with directed edges and loops: the size of the whole basis, and the rank of its values."""
    rows: list[Row] = []
    for degree in (1, 2, 3):
        for order in range(3):
            graphs = multigraphs(degree, order)
            n = min(2 * degree + order, 6)
            rank = None
            if degree < 3:
                values = GraphPolynomials(graphs)(randn(60, n, n, seed=degree)).reshape(-1, len(graphs))
                rank = int(torch.linalg.matrix_rank(values / values.norm(dim=0)))
            rows.append(
                {"part": "basis", "degree": degree, "output": OUTPUT[order], "polynomials": len(graphs), "rank": rank}
            )
    return rows


# --- properties --------------------------------------------------------------------------------------------------------
@torch.no_grad()
def property_errors(seed: int) -> dict[str, float]:
    """The errors that exact claims bound."""
    return {
        "permutation": _permutation_error(seed),
        "brute force": _brute_error(seed),
        "linear": _linear_error(seed),
        "programs": _program_error(seed),
        "counting": _counting_error(seed),
        "padding": _padding_error(seed),
        "witnesses": _witness_exceptions(),
    }


def _permutation_error(seed: int) -> float:
    X, p = randn(7, 7, seed=seed), torch.randperm(7, generator=Generator().manual_seed(seed))
    errors: list[float] = []
    for order in range(3):
        module = GraphPolynomials([graph for degree in (1, 2) for graph in multigraphs(degree, order)])
        moved, values = module(X[p][:, p]), module(X)
        for axis in range(order):
            values = values.index_select(axis, p)
        errors.append(relative_change(moved, values, over="entries"))
    return max(errors)


def _brute_error(seed: int) -> float:
    """Against the sum over all maps, for every multigraph of two edges and all with three that have no output; n = 4."""
    X = randn(4, 4, seed=seed)
    errors: list[float] = []
    for degree, order in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)):
        graphs = multigraphs(degree, order)
        values = GraphPolynomials(graphs)(X)
        errors += [
            relative_change(values[..., k], over_all_maps(graph, X), over="entries") for k, graph in enumerate(graphs)
        ]
    return max(errors)


def over_all_maps(graph: Multigraph, X: Tensor) -> Tensor:
    """The definition: a sum over all placements of the vertices."""
    n = len(X)
    maps = torch.cartesian_prod(*[torch.arange(n)] * graph.vertices).reshape(-1, graph.vertices)
    terms = torch.stack([X[maps[:, r], maps[:, s]] for r, s in graph.edges]).prod(0)
    place = sum((maps[:, v] * n**k for k, v in enumerate(reversed(graph.outputs))), torch.zeros(len(maps)).long())
    return X.new_zeros(n**graph.order).index_add(0, place, terms).reshape([n] * graph.order)


def _linear_error(seed: int) -> float:
    """Distance between the projectors on the span of degree one and on that of the 15 classical maps of pairs."""
    X = randn(40, 5, 5, seed=seed)
    polynomials = GraphPolynomials(multigraphs(1, 2))(X).reshape(-1, 15)
    layer = PermutationLinear({"adj": 1}, {"adj": 1}, bias=False).double()
    linear: list[Tensor] = []
    for k in range(15):
        with torch.no_grad():
            layer.weights["adj_to_adj"].zero_()[k] = 1
            linear.append(layer({"adj": X[..., None]})["adj"].flatten())
    bases = [torch.linalg.qr(values).Q for values in (polynomials, torch.stack(linear, 1))]
    return float((bases[0] - bases[1] @ (bases[1].T @ bases[0])).abs().max())


def _program_error(seed: int) -> float:
    """Programs of matrix products against contractions, for all connected simple graphs that have one."""
    X = randn(6, 6, seed=seed)
    errors: list[float] = []
    for degree in range(1, 7):
        for order in range(3):
            graphs = [graph for graph in simple_multigraphs(degree, order) if is_computable(graph, 2)]
            values = GraphPolynomials(graphs)(X)
            errors += [
                relative_change(MatrixProgram(graph)(X), values[..., k], over="entries")
                for k, graph in enumerate(graphs)
            ]
    return max(errors)


def _counting_error(seed: int) -> float:
    """Exceptions to: 6 times the triangles, 24 times the complete subgraphs of four, on 100 random graphs, by networkx."""
    import networkx as nx

    graphs = [nx.gnp_random_graph(10, 0.5, seed=seed + k) for k in range(100)]
    adj = torch.stack([torch.from_numpy(nx.to_numpy_array(graph)) for graph in graphs])
    cliques = [[len(found) for found in nx.enumerate_all_cliques(graph)] for graph in graphs]
    wrong = int((adj.matrix_power(3).diagonal(dim1=1, dim2=2).sum(1) != GraphPolynomials([TRIANGLE])(adj)[:, 0]).sum())
    for shape, copies, size in ((TRIANGLE, 6, 3), (K4, 24, 4)):
        terms = injective_terms(shape)
        counts = GraphPolynomials([term for _, term in terms])(adj) @ adj.new_tensor([sign for sign, _ in terms])
        wrong += int((counts != adj.new_tensor([copies * found.count(size) for found in cliques])).sum())
    return float(wrong)


def _padding_error(seed: int) -> float:
    """A padded batch of graphs of 1 to 6 nodes against each graph alone."""
    net = PPGN(3, 5, 8, generator=Generator().manual_seed(seed)).double()
    mask = torch.arange(6) < torch.tensor([[1], [2], [4], [6]])
    x = randn(4, 6, 6, 3, seed=seed) * (mask[:, :, None] & mask[:, None])[..., None]
    alone = torch.cat([net(x[b : b + 1, :n, :n]) for b, n in enumerate((1, 2, 4, 6))])
    return relative_change(net(x, mask), alone, over="entries")


def witness_pair() -> Tensor:
    """Rook's graph and Shrikhande's with weight 3 where nodes are joined and 1 elsewhere: equal to products of matrices.

    Without weights at the other pairs the square of the matrix has only two values, and two polynomials hide behind that.
    """
    return 1 + 2 * strongly_regular_graphs(16).double() + torch.eye(16)


def _witness_exceptions() -> float:
    """Polynomials for which "products of matrices compute it" and "it agrees on the pair of witnesses" contradict."""
    pair = witness_pair()
    wrong = 0
    for degree in range(1, 7):
        for order in range(3):
            graphs = simple_multigraphs(degree, order)
            for k, values in enumerate(GraphPolynomials(graphs)(pair).unbind(-1)):
                values = 4 * values + pair if order == 2 else values  # how often a value occurs, by kind of pair
                ordered = values.reshape(2, -1).sort(-1).values
                wrong += torch.equal(ordered[0], ordered[1]) != is_computable(graphs[k], 2)
    return float(wrong)


# --- claims ------------------------------------------------------------------------------------------------------------
def degree_claims(rows: Sequence[Row], errors: dict[str, float]) -> list[Claim]:
    """Claims about degrees and properties."""
    missing = dict.fromkeys(range(1, 7), 0)
    for row in rows:
        if row["part"] == "expressivity by degree":
            missing[row["degree"]] += row["missing in PPGN"]
    basis = [row for row in rows if row["part"] == "basis"]
    published = (2, 5, 15, 11, 32, 117, 52, 199, 877)
    statements = [
        ("permutation", "Change of polynomials of renumbered matrices, renumbered back.", "permutation", 1e-12),
        ("sum-over-maps", "Difference between contractions and the sum over all maps.", "brute force", 1e-12),
        ("degree-one-is-linear", "Distance between degree one and the 15 classical linear maps of pairs.", "linear", 1e-8),
        ("programs", "Difference between programs of matrix products and contractions, where there are any.", "programs", 1e-12),
        ("subgraphs-counted", "Wrong counts of triangles or complete subgraphs of four nodes, 100 random graphs.", "counting", 0),
        ("witnesses", "Polynomials that are computable but differ on the pair of witnesses, or the reverse.", "witnesses", 0),
        ("padding", "Difference between a padded batch and its graphs alone, one node among them.", "padding", 1e-12),
    ]  # fmt: skip
    return [
        *(Claim.exact(name, text, measured=errors[key], tol=tol) for name, text, key, tol in statements),
        Claim.number(
            "complete-up-to-degree-four",
            "Polynomials of degree up to 4 that products of matrices do not compute.",
            measured=sum(missing[degree] for degree in range(1, 5)),
            expected=0,
        ),
        Claim.number("missing-degree-five", "The same of degree 5.", measured=missing[5], expected=1),
        Claim.number("missing-degree-six", "The same of degree 6.", measured=missing[6], expected=11),
        Claim.exact(
            "basis-sizes",
            "Differences between the sizes of the basis of degree 1 to 3 and those published, summed.",
            measured=sum(abs(row["polynomials"] - count) for row, count in zip(basis, published, strict=True)),
            tol=0,
        ),
        Claim.exact(
            "independent",
            "Polynomials of degree 1 and 2 minus the rank of their values on random matrices.",
            measured=sum(row["polynomials"] - row["rank"] for row in basis if row["rank"] is not None),
            tol=0,
        ),
    ]
