"""Which graphs networks with random parameters tell apart, and circular skip links learned from one copy each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

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
from erlangen.nn import SPEN, BareGIN, spen_separator, stretched
from erlangen.survey.claims import Claim, averaged
from erlangen.systems.graphs._ego_networks import GlobalT2, GraphLookup, NodeNetwork, global_separator
from erlangen.training import fit, one_cycle

Row = dict[str, Any]


# --- networks with random parameters ---------------------------------------------------------------------------------
def families(most: int = 7) -> dict[str, list[Tensor]]:
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


def separation_rows(seed: int, most: int = 7) -> list[Row]:
    """A row for each family and each network, and for colour refinement."""
    rows: list[Row] = []
    for name, (adj,) in families(most).items():
        rows += separation_table(separators(seed), {name: [adj]}, seed)
        left = equal_pairs(color_counts(adj), 0.5)[0]  # counts are integers
        rows.append({**dict.fromkeys(rows[-1]), "part": "separation", "model": "WL", "graphs": name})
        rows[-1] |= {"pairs": rows[-2]["pairs"], "pairs not separated": left}
    return rows


# --- learned ---------------------------------------------------------------------------------------------------------
def skip_link_rows(
    models: Sequence[str], skips: Sequence[int], copies: int, epochs: int, seeds: Sequence[int]
) -> list[Row]:
    """Accuracy in percent on renumbered copies of circulant graphs, of networks that saw one copy of each."""
    rows: list[Row] = []
    for name in models:
        runs = [skip_link_run(name, skips, copies, epochs, seed) for seed in seeds]
        rows.append(averaged(runs, part="circular skip links", model=name, data="CSL(41)"))
    return rows


def skip_link_run(name: str, skips: Sequence[int], copies: int, epochs: int, seed: int) -> Row:
    """One network, trained on the first copy of each graph and tested on the others."""
    generator = Generator().manual_seed(seed)
    kinds = torch.arange(len(skips)).repeat_interleave(1 + copies)
    adj = circular_skip_links(skips)[kinds]
    orders = torch.stack([torch.randperm(adj.shape[-1], generator=generator) for _ in kinds])
    adj = adj.gather(1, orders[..., None].expand_as(adj)).gather(2, orders[:, None].expand_as(adj))
    outputs = len(skips)
    net = {
        "SPEN, 1 hop": lambda: SPEN(1, outputs, 8, hops=1, dropout=0, generator=generator),
        "SPEN, 2 hops": lambda: SPEN(1, outputs, 8, hops=2, sizes=(9, 11, 13), dropout=0, generator=generator),
        "T(2)": lambda: GlobalT2(1, outputs, 8, dropout=0, generator=generator),
        "GIN": lambda: NodeNetwork("GIN", 1, outputs, 32, dropout=0, generator=generator),
    }[name]()
    lookup = GraphLookup(net, GraphData.from_adjacency(adj))
    first = torch.arange(len(skips)) * (1 + copies)
    others = torch.arange(len(kinds))[~torch.isin(torch.arange(len(kinds)), first)]
    fit(
        lookup,
        first,
        kinds[first],
        loss=cross_entropy,
        epochs=epochs,
        batch_size=len(first),
        lr=1e-2,
        schedule=one_cycle,
        seed=seed,
        progress=False,
    )
    with torch.no_grad():
        right = torch.cat([lookup(part).argmax(-1) for part in others.split(20)]) == kinds[others]
    return {
        "accuracy": 100 * float(right.double().mean()),
        "parameters": sum(p.numel() for p in net.parameters()),
        "learning rate": "0.01",
        "epochs": epochs,
        "samples": len(first),
    }


def separation_claims(rows: Sequence[Row], learned: Sequence[Row]) -> list[Claim]:
    """Claims about what is told apart."""
    left = {(row["model"], row["graphs"]): int(row["pairs not separated"]) for row in rows}
    accuracy = {row["model"]: row["accuracy"] for row in learned}
    small = ("2 triangles, hexagon", "decalin, bicyclopentyl")

    def count(model: str, *graphs: str) -> int:
        return sum(left[model, name] for name in graphs)

    every = [name for _, name in left if _ == "WL"]
    return [
        Claim.number(
            "separates-small-pairs",
            "Of two triangles / hexagon and decalin / bicyclopentyl, pairs that SPEN with 2 hops leaves equal.",
            measured=count("SPEN, 2 hops", *small),
            expected=0,
        ),
        Claim.number(
            "message-passing-leaves-small-pairs",
            "Of the same pairs, those that GIN leaves equal.",
            measured=count("GIN", *small),
            expected=2,
        ),
        Claim.ratio(
            "one-hop-beats-colours",
            "Pairs of all graphs here that SPEN with 1 hop leaves equal, over those that colour refinement does.",
            measured=count("SPEN, 1 hop", *every) / count("WL", *every),
            at_most=0.99,
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
        Claim.number(
            "skip-links-learned",
            "Percent of renumbered circular skip links that SPEN with 2 hops names, having seen one copy of each.",
            measured=accuracy["SPEN, 2 hops"],
            expected=100,
        ),
        Claim.number(
            "skip-links-beyond-message-passing",
            "Percent of them that GIN names: those of one kind, since all look the same to it.",
            measured=accuracy["GIN"],
            expected=100 / int(learned[0]["samples"]),
            tol=0.01,
        ),
    ]
