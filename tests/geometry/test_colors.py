"""Colour refinement against networkx, and its kernel against a plain count."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import pytest
import torch

from erlangen.data import GraphData, connected_graphs
from erlangen.errors import DtypeError, ErlangenError, ShapeError
from erlangen.geometry import color_kernel, refined_colors


def batch_of(adj: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges and graphs of the nodes of matrices of one size."""
    data = GraphData.from_adjacency(adj)
    return data.edge_index, data.batch


def hashed(graph: nx.Graph) -> str:
    nx.set_node_attributes(graph, "", "label")
    return nx.weisfeiler_lehman_graph_hash(graph, node_attr="label", iterations=8)


def test_partitions_of_graphs_equal_those_of_networkx() -> None:
    adj = connected_graphs(6)
    edges, batch = batch_of(adj)
    colors = refined_colors(edges, torch.zeros(len(batch)).long())
    ours = [tuple(sorted(colors[-1][batch == k].tolist())) for k in range(len(adj))]
    theirs = [hashed(nx.from_numpy_array(a.numpy())) for a in adj]
    assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs))


def test_312_pairs_of_eight_nodes_stay_together() -> None:
    adj = connected_graphs(8)
    edges, batch = batch_of(adj)
    last = refined_colors(edges, torch.zeros(len(batch)).long())[-1]
    same = Counter(map(tuple, last.view(len(adj), 8).sort(1)[0].tolist()))
    assert sum(k * (k - 1) // 2 for k in same.values()) == 312


def test_labels_count_and_rounds_are_kept() -> None:
    path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    plain, marked = (refined_colors(path, torch.tensor(x), 3) for x in ([4, 4, 4], [4, 4, 9]))
    assert plain.shape == (4, 3)
    assert plain[-1].unique().numel() == 2
    assert marked[-1].unique().numel() == 3
    assert refined_colors(torch.zeros(2, 0).long(), torch.zeros(0).long()).shape == (1, 0)


def test_kernel_equals_a_plain_count() -> None:
    adj = connected_graphs(5)
    edges, batch = batch_of(adj)
    colors = refined_colors(edges, torch.zeros(len(batch)).long(), 2)
    counts = [
        Counter((r, c) for r, row in enumerate(colors) for c in row[batch == g].tolist()) for g in range(len(adj))
    ]
    plain = torch.tensor([[sum(a[key] * b[key] for key in a) for b in counts] for a in counts], dtype=torch.float64)
    length = plain.diagonal().sqrt()
    torch.testing.assert_close(color_kernel(colors, batch, len(adj)), plain / length / length[:, None])
    assert float(torch.linalg.eigvalsh(color_kernel(colors, batch, len(adj))).min()) > -1e-12
    assert not color_kernel(colors, batch, len(adj) + 1)[-1].any()


def test_bad_input_is_named() -> None:
    edges, labels = torch.zeros(2, 1).long(), torch.zeros(1).long()
    with pytest.raises(ShapeError, match="edge_index"):
        refined_colors(edges[:1], labels)
    with pytest.raises(DtypeError, match="labels"):
        refined_colors(edges, labels.float())
    with pytest.raises(ErlangenError, match="rounds"):
        refined_colors(edges, labels, 0)
    with pytest.raises(ShapeError, match="batch"):
        color_kernel(labels[None], torch.zeros(2).long(), 1)
