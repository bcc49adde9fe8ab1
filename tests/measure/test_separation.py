"""Pairs of equal rows by brute force, tables of separation, and bad input."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import pytest
import torch
from torch import Tensor

from erlangen.data import connected_graphs, strongly_regular_graphs
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.measure import equal_pairs, separation_table
from erlangen.nn import BareGIN, stretched


def randn(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_equal_pairs_by_brute_force() -> None:
    values = randn(60, 3)
    values[[5, 9, 40]] = values[[1, 1, 2]]
    values[7] = values[8] + 1e-3
    apart = (values[:, None] - values).abs().amax(-1)[tuple(torch.triu_indices(60, 60, 1))]
    assert equal_pairs(values, 1e-9) == (4, pytest.approx(float(apart[apart > 1e-9].min()), rel=1e-9))
    assert equal_pairs(values, 2e-3)[0] == 5
    assert equal_pairs(values[:1], 1e-9) == (0, math.inf)


def test_gin_separates_what_colours_separate() -> None:
    adj = connected_graphs(6)
    gin = stretched(BareGIN(generator=torch.Generator().manual_seed(0)), 2.0)
    (row,) = separation_table({"GIN": lambda adj: gin({"adj": adj})}, {"six": [adj]})
    hashes = [nx.weisfeiler_lehman_graph_hash(g, node_attr="c", iterations=6) for g in map(coloured, adj)]
    confused = sum(a == b for a, b in itertools.combinations(hashes, 2))
    assert row["pairs"] == 112 * 111 // 2
    assert row["pairs not separated"] == confused == 3


def coloured(adj: Tensor) -> nx.Graph[int]:
    graph = nx.from_numpy_array(adj.numpy())
    nx.set_node_attributes(graph, "", "c")
    return graph


def test_an_invariant_separator_is_exact_and_another_is_not() -> None:
    groups = [connected_graphs(5).double(), strongly_regular_graphs(16)]
    separators = {"edges": lambda adj: adj.sum((1, 2))[:, None], "first": lambda adj: adj[:, 0].cumsum(-1)}
    row, other = separation_table(separators, {"some": groups})
    assert (row["part"], row["model"], row["graphs"]) == ("separation", "edges", "some")
    assert row["pairs"] == 21 * 20 // 2 + 1
    edges = connected_graphs(5).sum((1, 2))
    equal = sum(bool(a == b) for a, b in itertools.combinations(edges, 2))
    assert row["pairs not separated"] == equal + 1
    assert row["reordering error"] == 0
    assert other["reordering error"] > 0.1


def test_differences_are_those_of_scaled_outputs() -> None:
    pair = torch.stack([torch.zeros(2, 2), torch.ones(2, 2) - torch.eye(2)])
    closest = [
        separation_table({"edges": lambda adj: adj.sum((1, 2))[:, None] + 6}, {"": [pair]}, scale=scale)[0][
            "closest pair"
        ]
        for scale in (None, 1.0, 4.0)
    ]
    assert closest == [0.25, 2.0, 0.5]
    (row,) = separation_table({"none": lambda adj: adj[:, 0, :1]}, {"": [pair]}, scale=1.0)
    assert (row["pairs not separated"], row["closest pair"]) == (1, None)


@pytest.mark.parametrize(
    ("values", "tol", "error", "word"),
    [
        (torch.zeros(3), 0.0, ShapeError, "values"),
        (torch.zeros(3, 2).long(), 0.0, DtypeError, "values"),
        (torch.full((2, 2), math.nan), 0.0, NotFiniteError, "values"),
        (torch.zeros(3, 2), -1.0, ErlangenError, "tol"),
    ],
    ids=["vector", "integers", "nan", "negative"],
)
def test_bad_input_is_named(values: torch.Tensor, tol: float, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        equal_pairs(values, tol)
