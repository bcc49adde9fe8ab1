"""Known pairs and circular skip links against networkx, and files of BREC."""

from pathlib import Path

import networkx as nx
import pytest
import torch

from erlangen.data import (
    SKIPS,
    brec_families,
    circular_skip_links,
    decalin_and_bicyclopentyl,
    planar_pairs,
    two_triangles_and_hexagon,
)
from erlangen.errors import DataError, ErlangenError


def test_known_graphs() -> None:
    for adj, wanted in (
        (decalin_and_bicyclopentyl(), [nx.Graph(nx.cycle_graph(10)), None]),
        (two_triangles_and_hexagon(), [nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), nx.cycle_graph(6)]),
    ):  # fmt: skip
        if wanted[1] is None:
            wanted[0].add_edge(0, 5)
            wanted[1] = nx.disjoint_union(nx.cycle_graph(5), nx.cycle_graph(5))
            wanted[1].add_edge(0, 5)
        for matrix, expected in zip(adj, wanted, strict=True):
            assert nx.is_isomorphic(nx.from_numpy_array(matrix.numpy()), expected)
    for matrix, skip in zip(circular_skip_links(), SKIPS, strict=True):
        assert nx.is_isomorphic(nx.from_numpy_array(matrix.numpy()), nx.circulant_graph(41, [1, skip]))


def test_brec(shared_data: Path) -> None:
    every = brec_families(shared_data / "expressivity")
    assert len(every["BREC, basic"]) == 60
    assert len(every["BREC, extension"]) == 100
    few = brec_families(shared_data / "expressivity", largest=10)
    assert all(pair.shape[-1] <= 10 for pair in few["BREC, extension"])
    assert 0 < len(few["BREC, extension"]) < 100


def test_brec_needs_its_files() -> None:
    with pytest.raises(DataError, match="no such file"):
        brec_families("nowhere")


def test_planar_pairs_look_alike_to_colour_refinement_and_differ() -> None:
    for pair in planar_pairs(10, 16, generator=torch.Generator().manual_seed(0)):
        one, two = (nx.from_numpy_array(adj.numpy()) for adj in pair)
        assert nx.check_planarity(one)[0]
        assert nx.check_planarity(two)[0]
        for graph in (one, two):
            nx.set_node_attributes(graph, "", "colour")
        first, second = (nx.weisfeiler_lehman_graph_hash(g, node_attr="colour", iterations=16) for g in (one, two))
        assert first == second
        assert nx.number_connected_components(two) == nx.number_connected_components(one) + 1


@pytest.mark.parametrize(("pairs", "nodes", "message"), [(0, 20, "pairs = 0"), (3, 11, "nodes = 11")])
def test_planar_pairs_need_room(pairs: int, nodes: int, message: str) -> None:
    with pytest.raises(ErlangenError, match=message):
        planar_pairs(pairs, nodes)
