"""Multigraphs: published counts, networkx as judge of isomorphism, who computes what, and Möbius inversion."""

import itertools

import networkx as nx
import pytest
from networkx.algorithms.isomorphism import categorical_node_match

from erlangen.errors import ErlangenError
from erlangen.geometry import Multigraph, injective_terms, is_computable, multigraphs, simple_multigraphs


@pytest.mark.parametrize(("order", "counts"), [(0, (2, 11, 52)), (1, (5, 32, 199)), (2, (15, 117, 877))])
def test_published_counts(order, counts):
    assert tuple(len(multigraphs(degree, order)) for degree in (1, 2, 3)) == counts


def as_networkx(graph):
    made = nx.MultiDiGraph()
    for v in range(graph.vertices):
        made.add_node(v, role=tuple(k for k, out in enumerate(graph.outputs) if out == v))
    made.add_edges_from(graph.edges)
    return made


@pytest.mark.parametrize(("degree", "order"), [(2, 0), (2, 1), (2, 2), (3, 0)])
def test_no_two_are_isomorphic(degree, order):
    found = [as_networkx(graph) for graph in multigraphs(degree, order)]
    same = categorical_node_match("role", None)
    for a, b in itertools.combinations(found, 2):
        assert not nx.is_isomorphic(a, b, node_match=same)


def test_simple_graphs_are_counted_like_in_the_atlas():
    """Connected graphs with 1 to 6 edges: 1, 1, 3, 5, 12, 30 (OEIS A002905)."""
    assert [len(simple_multigraphs(edges, 0)) for edges in range(1, 7)] == [1, 1, 3, 5, 12, 30]
    path = simple_multigraphs(2, 2)  # outputs: both ends, an end and the middle, the middle and an end
    assert len(path) == 3


def test_products_of_matrices_lack_twelve_polynomials_of_degree_six():
    """Published: none up to four edges, one with five, eleven with six; K4 without outputs is the first of a number."""
    lacking = {
        (edges, order): [h for h in simple_multigraphs(edges, order) if not is_computable(h, 2)]
        for edges in range(1, 7)
        for order in range(3)
    }
    counts = [[len(lacking[edges, order]) for order in range(3)] for edges in range(1, 7)]
    assert counts == [[0, 0, 0]] * 4 + [[0, 0, 1], [1, 1, 9]]
    (k4,) = lacking[6, 0]
    assert k4.vertices == 4
    (diamond,) = lacking[5, 2]
    assert not {diamond.outputs, diamond.outputs[::-1]} & set(diamond.edges)


def test_message_passing_computes_trees():
    tree = Multigraph(((0, 1), (1, 2), (1, 3)), (0,))
    triangle = Multigraph(((0, 1), (1, 2), (2, 0)), (0,))
    assert is_computable(tree, 1)
    assert not is_computable(triangle, 1)
    assert is_computable(triangle, 2)
    assert is_computable(Multigraph(((0, 1), (0, 1), (1, 1)), (0,)), 1)  # parallel edges and loops cost nothing


def test_connected():
    assert Multigraph(((0, 1), (2, 1))).is_connected
    assert not Multigraph(((0, 1), (2, 3))).is_connected
    assert not Multigraph(((0, 1),), (2,)).is_connected


def test_inversion_counts_the_partitions():
    triangle = Multigraph(((0, 1), (1, 2), (2, 0)))
    terms = injective_terms(triangle)
    assert len(terms) == 5
    assert sorted(c for c, _ in terms) == [-1, -1, -1, 1, 2]


BAD = {
    "gap": (lambda: Multigraph(((0, 2),)), "without gaps"),
    "outputs": (lambda: Multigraph(((0, 1),), (0, 1, 0)), "at most two outputs"),
    "degree": (lambda: multigraphs(0, 1), "take a positive degree"),
    "large": (lambda: multigraphs(5, 1), r"Bell\(11\) = 678,570 partitions"),
    "edges": (lambda: simple_multigraphs(7, 0), "1 to 6 edges.* 79 connected graphs of 7 edges.* n\\^4"),
    "width": (lambda: is_computable(Multigraph(((0, 1),)), 0), "width = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ErlangenError, match=message):
        call()
