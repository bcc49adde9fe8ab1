"""Ego-networks against networkx."""

import networkx as nx
import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, ShapeError
from erlangen.geometry import ego_networks


def edges_of(graph):
    both = [*graph.edges, *((b, a) for a, b in graph.edges)]
    return torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_they_are_those_of_networkx(hops):
    for seed in range(70):
        graph = nx.gnp_random_graph(2 + seed % 13, 0.25, seed=seed)
        found = ego_networks(edges_of(graph), len(graph), hops)
        assert torch.equal(found.sizes, torch.bincount(found.ego, minlength=len(graph)))
        for node in graph:
            mine = found.members[found.ego == node].tolist()
            assert mine == sorted(nx.ego_graph(graph, node, radius=hops).nodes)


def test_graphs_of_a_batch_do_not_meet():
    a, b = nx.path_graph(4), nx.cycle_graph(5)
    both = torch.cat([edges_of(a), edges_of(b) + 4], 1)
    found = ego_networks(both, 9, 2)
    assert torch.equal(found.members[found.ego < 4], ego_networks(edges_of(a), 4, 2).members)
    assert torch.equal(found.members[found.ego >= 4], ego_networks(edges_of(b), 5, 2).members + 4)


def test_buckets_hold_every_network_once():
    graph = nx.barabasi_albert_graph(60, 2, seed=1)
    graph.add_nodes_from(range(60, 63))  # alone
    found = ego_networks(edges_of(graph), 63)
    buckets = found.buckets()
    assert sorted(torch.cat([egos for egos, _ in buckets.values()]).tolist()) == list(range(63))
    assert buckets[1][1].flatten().tolist() == [60, 61, 62]
    for size, (egos, members) in buckets.items():
        assert members.shape == (len(egos), size)
        for ego, row in zip(egos.tolist(), members, strict=True):
            assert torch.equal(row, found.members[found.ego == ego])


def test_direction_and_empty_graphs():
    one_way = torch.tensor([[0], [1]])  # 0 speaks to 1
    assert ego_networks(one_way, 2).sizes.tolist() == [1, 2]
    assert ego_networks(torch.zeros(2, 0, dtype=torch.int64), 3).members.tolist() == [0, 1, 2]
    assert ego_networks(torch.zeros(2, 0, dtype=torch.int64), 0).buckets() == {}


def test_bad_input():
    path = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ErlangenError, match="hops = 0"):
        ego_networks(path, 2, 0)
    with pytest.raises(ErlangenError, match="names node 1, but nodes = 1"):
        ego_networks(path, 1)
    with pytest.raises(DtypeError, match="int64"):
        ego_networks(path.int(), 2)
    with pytest.raises(ShapeError, match=r"pass \[2, E\]"):
        ego_networks(path.flatten(), 2)
