"""Polynomials of a matrix: brute force over all placements, symmetry, independence, subgraphs counted by networkx."""

import itertools

import networkx as nx
import pytest
import torch

from erlangen.data import rook_graph, shrikhande_graph
from erlangen.errors import ErlangenError, ShapeError
from erlangen.geometry import Multigraph, injective_terms, is_computable, multigraphs, simple_multigraphs
from erlangen.nn import GraphPolynomials, MatrixProgram, PermutationLinear

F64 = torch.float64
TRIANGLE = Multigraph(((0, 1), (1, 2), (2, 0)))
K4 = Multigraph(tuple(itertools.combinations(range(4), 2)))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def brute(graph, X):
    """The sum over all placements, one after the other."""
    n = len(X)
    out = torch.zeros([n] * graph.order, dtype=F64)
    for place in itertools.product(range(n), repeat=graph.vertices):
        value = torch.ones((), dtype=F64)
        for r, s in graph.edges:
            value = value * X[place[r], place[s]]
        out[tuple(place[v] for v in graph.outputs)] += value
    return out


@pytest.mark.parametrize(("degree", "order"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)])
def test_einsum_is_the_sum_over_placements(degree, order):
    n = 4 if degree < 3 else 3
    X = randn(n, n)
    graphs = multigraphs(degree, order)
    values = GraphPolynomials(graphs)(X)
    for k, graph in enumerate(graphs):
        torch.testing.assert_close(values[..., k], brute(graph, X), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_permutations(degree, order):
    graphs = multigraphs(degree, order)[:60]
    X, p = randn(2, 7, 7), torch.randperm(7, generator=torch.Generator().manual_seed(1))
    module = GraphPolynomials(graphs)
    moved, values = module(X[:, p][:, :, p]), module(X)
    for axis in range(1, 1 + order):
        values = values.index_select(axis, p)
    torch.testing.assert_close(moved, values, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(("degree", "order", "n"), [(1, 0, 3), (1, 1, 4), (1, 2, 5), (2, 0, 5), (2, 1, 6), (2, 2, 7)])
def test_they_are_linearly_independent(degree, order, n):
    graphs = multigraphs(degree, order)
    values = GraphPolynomials(graphs)(randn(60, n, n)).reshape(-1, len(graphs))
    values = values / values.norm(dim=0)
    assert int(torch.linalg.matrix_rank(values)) == len(graphs)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_degree_one_is_the_general_linear_layer(order):
    """Both span the same maps: each set lies in the span of the other."""
    key = ["y", "x", "adj"][order]
    X = randn(40, 5, 5)
    polynomials = GraphPolynomials(multigraphs(1, order))(X).reshape(-1, len(multigraphs(1, order)))
    layer = PermutationLinear({"adj": 1}, {key: 1}, bias=False).double()
    linear = []
    for i in range(polynomials.shape[1]):
        with torch.no_grad():
            layer.weights[f"adj_to_{key}"].zero_()[i] = 1
            linear.append(layer({"adj": X[..., None]})[key].flatten())
    linear = torch.stack(linear, 1)
    for a, b in ((polynomials, linear), (linear, polynomials)):
        rest = a - b @ torch.linalg.lstsq(b, a).solution
        assert float(rest.abs().max()) < 1e-8


def test_triangles_and_cliques_are_counted():
    """tr A^3; and by Möbius inversion 6 times the triangles and 24 times the complete subgraphs of four nodes."""
    for seed in range(25):
        graph = nx.gnp_random_graph(9, 0.55, seed=seed)
        A = torch.from_numpy(nx.to_numpy_array(graph))
        assert float(GraphPolynomials([TRIANGLE])(A)) == float(A.matrix_power(3).trace())
        cliques = [len(c) for c in nx.enumerate_all_cliques(graph)]
        for shape, copies, size in ((TRIANGLE, 6, 3), (K4, 24, 4)):
            terms = injective_terms(shape)
            values = GraphPolynomials([term for _, term in terms])(A)
            assert sum(c * v for (c, _), v in zip(terms, values.tolist(), strict=True)) == copies * cliques.count(size)


def test_a_pair_that_products_of_matrices_do_not_tell_apart():
    """The rook's graph has eight complete subgraphs of four nodes, Shrikhande's none; all that PPGN computes is equal."""
    pair = torch.stack([rook_graph(4), shrikhande_graph()]).double()
    assert (GraphPolynomials([K4])(pair)[:, 0] / 24).tolist() == [8, 0]
    easy = [graph for edges in range(1, 6) for graph in simple_multigraphs(edges, 0)]
    values = GraphPolynomials(easy)(pair)
    assert torch.equal(values[0], values[1])


def test_masks_and_normalization():
    graphs = multigraphs(2, 2)
    X = randn(2, 6, 6)
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    for normalize in (False, True):
        module = GraphPolynomials(graphs, normalize=normalize)
        padded = module(X, mask)
        torch.testing.assert_close(padded[0, :4, :4], module(X[0, :4, :4]))
        torch.testing.assert_close(padded[1], module(X[1]))
        assert bool((padded[0, 4:] == 0).all() and (padded[0, :, 4:] == 0).all())
    assert float(GraphPolynomials(graphs, normalize=True)(torch.ones(9, 9)).max()) == pytest.approx(1)


def test_gradients():
    module = GraphPolynomials(multigraphs(2, 1)[:8])
    assert torch.autograd.gradcheck(module, randn(1, 4, 4).requires_grad_())


def test_contraction_order_is_planned():
    """A path of six edges costs products of matrices with vectors, not a sum over seven indices."""
    path = Multigraph(tuple((k, k + 1) for k in range(6)), (0,))
    assert GraphPolynomials([path]).flops < 1e5


def test_disconnected_multigraphs_are_products():
    edge, path = Multigraph(((0, 1),)), Multigraph(((0, 1), (1, 2)))
    both = Multigraph(((0, 1), (2, 3), (3, 4)))
    X = randn(5, 5)
    assert not both.is_connected
    a, b = (GraphPolynomials([graph])(X) for graph in (edge, path))
    for value in (GraphPolynomials([both])(X)[0], MatrixProgram(both)(X)):
        torch.testing.assert_close(value, (a * b)[0])


# --- products of matrices --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("degree", "order"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)])
def test_programs_are_sums_over_placements(degree, order):
    X = randn(3, 3)
    for graph in multigraphs(degree, order):
        assert is_computable(graph, 2)
        torch.testing.assert_close(MatrixProgram(graph)(X), brute(graph, X), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("edges", [4, 5, 6])
def test_programs_compute_what_is_decided(edges, order):
    """A program exists exactly where the decision says so, and gives what the einsum gives; no step leaves matrices."""
    X = randn(2, 5, 5)
    for graph in simple_multigraphs(edges, order):
        if not is_computable(graph, 2):
            with pytest.raises(ErlangenError, match="keep three neighbours; evaluate it with GraphPolynomials"):
                MatrixProgram(graph)
            continue
        torch.testing.assert_close(MatrixProgram(graph)(X), GraphPolynomials([graph])(X)[..., 0])


def test_programs_multiply_as_often_as_vertices_are_removed():
    path = MatrixProgram(Multigraph(((0, 1), (1, 2), (2, 3)), (0, 3)))
    assert [step.operation for step in path.steps].count("matmul") == 2
    assert "1 = matmul(0, 0)" in repr(path)
    assert torch.autograd.gradcheck(path, randn(4, 4).requires_grad_())


@pytest.mark.parametrize("order", [0, 1, 2])
def test_what_has_no_program_differs_where_all_that_has_one_agrees(order):
    """On the rook's graph and on Shrikhande's: how often a value occurs at nodes, and at joined and other pairs of nodes.

    Pairs weigh 3 where they are joined and 1 elsewhere: of plain graphs of this family the square has only two values.
    """
    pair = 1 + 2 * torch.stack([rook_graph(4), shrikhande_graph()]).double() + torch.eye(16)
    for edges in range(1, 7):
        for graph in simple_multigraphs(edges, order):
            values = GraphPolynomials([graph])(pair)[..., 0]
            values = (4 * values + pair if order == 2 else values).reshape(2, -1).sort(-1).values
            assert torch.equal(values[0], values[1]) == is_computable(graph, 2), graph


BAD = {
    "no nodes": (lambda: MatrixProgram(TRIANGLE)(torch.ones(0, 0)), ShapeError, "at least one node"),
    "none": (lambda: GraphPolynomials([]), ErlangenError, "at least one"),
    "orders": (lambda: GraphPolynomials([TRIANGLE, Multigraph(((0, 1),), (0,))]), ErlangenError, "all of one order"),
    "square": (lambda: GraphPolynomials([TRIANGLE])(torch.ones(2, 3)), ShapeError, "square matrices"),
    "mask": (
        lambda: GraphPolynomials([TRIANGLE])(torch.ones(3, 3), torch.ones(2, dtype=torch.bool)),
        ShapeError,
        "pass bool",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
