"""Which graphs networks with random parameters tell apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.data import (
    GraphData,
    circular_skip_links,
    connected_graphs,
    decalin_and_bicyclopentyl,
    strongly_regular_graphs,
    two_triangles_and_hexagon,
)
from erlangen.geometry import refined_colors
from erlangen.measure import Separator, equal_pairs, separation_table
from erlangen.nn import BareGIN, spen_separator, stretched
from erlangen.survey import Claim, Part, Run
from erlangen.systems.graphs.spen.rivals import global_separator

Row = dict[str, Any]


# --- networks with random parameters ---------------------------------------------------------------------------------
def families(most: int) -> dict[str, list[Tensor]]:
    """Sets of graphs of equal size, no two isomorphic; the last holds all connected ones of `most` nodes."""
    return {
        "2 triangles, hexagon": [two_triangles_and_hexagon()],
        "decalin, bicyclopentyl": [decalin_and_bicyclopentyl()],
        "SR(16,6,2,2)": [strongly_regular_graphs(16)],
        "CSL(41)": [circular_skip_links()],
        f"connected, {most} nodes": [connected_graphs(most)],
    }


def color_counts(adj: Tensor) -> Tensor:
    """How many nodes have each refined colour, float64 ``[M, colours]``: the Weisfeiler-Leman test.

    Colours are numbered by all the graphs together, so that graphs of different calls cannot be compared.
    """
    data = GraphData.from_adjacency(adj)
    colors = refined_colors(data.edge_index, data.node_labels)[-1]
    counts = torch.zeros(len(adj), int(colors.max()) + 1, dtype=torch.float64)
    return counts.index_put((data.batch, colors), torch.ones(len(colors), dtype=torch.float64), accumulate=True)


def separators(seed: int) -> dict[str, Separator]:
    """The networks that are compared."""
    gin = stretched(BareGIN(generator=Generator().manual_seed(seed)), 2.0)
    return {
        "SPEN, 1 hop": spen_separator(1, seed),
        "SPEN, 2 hops": spen_separator(2, seed),
        "T(2)": global_separator(seed),
        "GIN": lambda adj: gin({"adj": adj}),
    }


def separation_rows(seed: int, most: int) -> list[Row]:
    """A row for each family and each network, and for colour refinement."""
    rows: list[Row] = []
    for name, (adj,) in families(most).items():
        rows += separation_table(separators(seed), {name: [adj]}, seed)
        left = equal_pairs(color_counts(adj), 0.5)[0]  # counts are integers
        rows.append({**dict.fromkeys(rows[-1]), "part": "separation", "model": "WL", "graphs": name})
        rows[-1] |= {"pairs": rows[-2]["pairs"], "pairs not separated": left}
    return rows


def separation_part(run: Run[Any], most: int) -> Part:
    """Pairs of graphs that are left equal: parameters are random, nothing is trained, so counts are judged at every scale."""
    rows = separation_rows(run.seed, most)
    left = {(row["model"], row["graphs"]): int(row["pairs not separated"]) for row in rows}
    small = ("2 triangles, hexagon", "decalin, bicyclopentyl")
    every = [name for model, name in left if model == "WL"]

    def count(model: str, *graphs: str) -> int:
        return sum(left[model, name] for name in graphs)

    claims = [
        Claim.number(
            "separates-small-pairs",
            "Of two triangles / hexagon and decalin / bicyclopentyl, pairs that SPEN with 2 hops leaves equal.",
            measured=count("SPEN, 2 hops", *small),
            expected=0,
        ),
        Claim.number(
            "message-passing-leaves-small-pairs",
            "Of two triangles / hexagon and decalin / bicyclopentyl, pairs that GIN leaves equal.",
            measured=count("GIN", *small),
            expected=2,
        ),
        Claim.ratio(
            "one-hop-beats-colours",
            "Pairs of small connected, strongly regular, skip-link and textbook graphs that SPEN with 1 hop leaves equal, over "
            "those that colour refinement does.",
            measured=count("SPEN, 1 hop", *every) / count("WL", *every),
            below=1,
        ),
        Claim.number(
            "global-network-is-colour-refinement",
            "Families in which the network on all pairs leaves other numbers of pairs equal than colour refinement.",
            measured=sum(left["T(2)", name] != left["WL", name] for name in every),
            expected=0,
        ),
        Claim.exact(
            "separators-invariant",
            "Largest relative change of a network's numbers when nodes are renumbered.",
            measured=max(row["reordering error"] for row in rows if row["model"] != "WL"),
            tol=1e-11,
        ),
    ]
    return Part(rows, claims)
