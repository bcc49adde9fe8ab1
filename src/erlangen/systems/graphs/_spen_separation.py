"""Which graphs networks with random parameters tell apart, and circular skip links learned from one copy each."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.claims import Claim, averaged
from erlangen.data import GraphData, connected_graphs, strongly_regular_graphs
from erlangen.geometry import refined_colors
from erlangen.nn import GIN
from erlangen.systems.graphs._spen_network import SPEN, GlobalT2, GraphLookup, NodeNetwork
from erlangen.training import fit, one_cycle

Row = dict[str, Any]
Separator = Callable[[Tensor], Tensor]
"""Numbers ``[M, C]`` of adjacency matrices ``[M, n, n]``, the same for isomorphic graphs."""

OUTPUTS = 10
EQUAL = 1e-12
"""Rows that differ by less, relative to the largest entry of all rows, are equal; rounding makes some 1e-15."""

SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
"""Skip lengths of the ten circulant graphs of 41 nodes (Murphy et al. 2019), no two of which are isomorphic."""

_PLAIN: dict[str, Any] = {"norm": False, "activation": torch.tanh, "readout": (16,)}
"""What networks with random parameters have in common."""

_AT_ONCE = 2**16
"""Pairs of nodes per call of a network."""


# --- graphs ----------------------------------------------------------------------------------------------------------
def graph_data(adj: Tensor) -> GraphData:
    """Graphs without labels, of adjacency matrices ``[M, n, n]`` whose entries other than 0 are edges."""
    graph, target, source = adj.nonzero().T
    n = adj.shape[-1]
    batch = torch.arange(len(adj), device=adj.device).repeat_interleave(n)
    return GraphData(
        edge_index=torch.stack([source, target]) + graph * n,
        batch=batch,
        node_labels=torch.zeros_like(batch),
        edge_labels=torch.zeros_like(graph),
        y=torch.zeros(len(adj), dtype=torch.int64, device=adj.device),
    )


def circular_skip_links(skips: Sequence[int] = SKIPS, nodes: int = 41) -> Tensor:
    """A circle of nodes, with links over every skip length: adjacency matrices ``[len(skips), nodes, nodes]``, float32."""
    step = (torch.arange(nodes)[:, None] - torch.arange(nodes)) % nodes
    return torch.stack([torch.isin(step, torch.tensor([1, nodes - 1, skip, nodes - skip])) for skip in skips]).float()


def joined(nodes: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    """Adjacency matrix ``[nodes, nodes]``, float32."""
    adj = torch.zeros(nodes, nodes)
    u, v = torch.tensor(edges).T
    adj[u, v] = adj[v, u] = 1
    return adj


def ring(*nodes: int) -> list[tuple[int, int]]:
    """Edges around a ring."""
    return list(zip(nodes, (*nodes[1:], nodes[0]), strict=True))


def two_triangles_and_hexagon() -> Tensor:
    """``[2, 6, 6]``."""
    return torch.stack([joined(6, [*ring(0, 1, 2), *ring(3, 4, 5)]), joined(6, ring(0, 1, 2, 3, 4, 5))])


def decalin_and_bicyclopentyl() -> Tensor:
    """Carbon atoms of two hexagons that share an edge, and of two pentagons that are joined by one, ``[2, 10, 10]``."""
    decalin = joined(10, [*ring(0, 1, 2, 3, 4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 0)])
    return torch.stack([decalin, joined(10, [*ring(0, 1, 2, 3, 4), *ring(5, 6, 7, 8, 9), (0, 5)])])


@functools.cache
def families(most: int = 7) -> dict[str, Tensor]:
    """Sets of graphs of equal size, no two isomorphic; the last holds all connected ones of `most` nodes."""
    return {
        "2 triangles, hexagon": two_triangles_and_hexagon(),
        "decalin, bicyclopentyl": decalin_and_bicyclopentyl(),
        "SR(16,6,2,2)": strongly_regular_graphs(16),
        "CSL(41)": circular_skip_links(),
        f"connected, {most} nodes": connected_graphs(most),
    }


# --- networks with random parameters ---------------------------------------------------------------------------------
class AdjacencyNetwork(nn.Module):
    """A network of graphs as a function of adjacency matrices, in float64, without gradients.

    Args:
        net: network of `GraphData`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double().eval()

    @torch.no_grad()
    def forward(self, adj: Tensor) -> Tensor:
        """``[M, C]`` of ``[M, n, n]``."""
        slabs = adj.split(max(1, _AT_ONCE // max(1, adj.shape[-1]) ** 2))
        return torch.cat([self.net(graph_data(slab)) for slab in slabs])


def spen_separator(hops: int = 1, seed: int = 0, *, features: int = 8, layers: int = 5) -> Separator:
    """`SPEN` with random parameters, in float64, as a function that tells graphs apart.

    Ego-networks of up to 8 nodes have weights by their size. There is no GraphNorm, which would magnify rounding, and tanh
    instead of ELU, which is linear for positive numbers.

    Args:
        hops: how far ego-networks reach.
        seed: of the parameters.
        features, layers: of the network.

    Returns:
        A function of adjacency matrices ``[M, n, n]`` with values ``[M, 10]``, equal for isomorphic graphs up to rounding.

    >>> spen_separator()(torch.ones(2, 4, 4) - torch.eye(4)).shape
    torch.Size([2, 10])
    """
    generator = Generator().manual_seed(seed)
    net = SPEN(1, OUTPUTS, features, layers=layers, hops=hops, sizes=range(1, 9), generator=generator, **_PLAIN)
    return AdjacencyNetwork(_generic(net, generator))


def global_separator(seed: int = 0, *, features: int = 8, layers: int = 5) -> Separator:
    """The network on all pairs of nodes, likewise; see `spen_separator`."""
    generator = Generator().manual_seed(seed)
    net = GlobalT2(1, OUTPUTS, features, layers=layers, generator=generator, **_PLAIN)
    return AdjacencyNetwork(_generic(net, generator))


def gin_separator(seed: int = 0, *, features: int = 32, layers: int = 7) -> Separator:
    """A `GIN`, likewise."""
    generator = Generator().manual_seed(seed)
    gin = GIN(1, OUTPUTS, features, layers=layers, activation=nn.Tanh, generator=generator)
    nn.init.uniform_(gin.eps, 0.2, 0.8, generator=generator)

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gin = gin

        def forward(self, data: GraphData) -> Tensor:
            return self.gin(data.one_hot(1, torch.float64), edge_index=data.edge_index, batch=data.batch)

    return AdjacencyNetwork(_generic(Read(), generator, 2.0))


def _generic(net: nn.Module, generator: Generator, scale: float = 4.0) -> nn.Module:
    """The network with biases that are not zero and larger weights, so that it is far from linear."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("eps"):
                continue
            parameter.mul_(scale)
            if "bias" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net


def color_counts(adj: Tensor) -> Tensor:
    """How many nodes have each refined colour, float64 ``[M, colours]``: the Weisfeiler-Leman test."""
    data = graph_data(adj)
    colors = refined_colors(data.edge_index, data.node_labels)[-1]
    counts = torch.zeros(len(adj), int(colors.max()) + 1, dtype=torch.float64)
    return counts.index_put((data.batch, colors), torch.ones(len(colors), dtype=torch.float64), accumulate=True)


def separators(seed: int) -> dict[str, Separator]:
    """What is compared."""
    return {
        "SPEN, 1 hop": spen_separator(1, seed),
        "SPEN, 2 hops": spen_separator(2, seed),
        "T(2)": global_separator(seed),
        "GIN": gin_separator(seed),
        "WL": color_counts,
    }


def equal_pairs(values: Tensor) -> tuple[int, float]:
    """Pairs of rows ``[M, C]`` that are equal, and the smallest distance of the others, relative to the largest entry."""
    distance = torch.cdist(values, values, p=math.inf) / values.abs().max().clamp(min=1e-300)
    above = distance[torch.triu_indices(len(values), len(values), 1).unbind()]
    different = above[above > EQUAL]
    return int((above <= EQUAL).sum()), float(different.min()) if len(different) else math.inf


def separation_rows(names: Sequence[str], seed: int, most: int = 7) -> list[Row]:
    """A row for each of these `families` and each separator."""
    rows: list[Row] = []
    for graphs in names:
        adj = families(most)[graphs]
        order = torch.randperm(adj.shape[-1], generator=Generator().manual_seed(seed))
        for name, separator in separators(seed).items():
            begin = time.process_time()
            values = separator(adj)
            seconds = time.process_time() - begin
            pairs, closest = equal_pairs(values)
            again = separator(adj[:50][:, order][:, :, order]) if name != "WL" else values[:50]
            rows.append(
                {
                    "part": "separation",
                    "model": name,
                    "data": graphs,
                    "pairs": math.comb(len(adj), 2),
                    "pairs not separated": pairs,
                    "closest pair": closest if math.isfinite(closest) else None,
                    "reordering error": float((again - values[:50]).abs().max() / values.abs().max()),
                    "seconds": seconds,
                }
            )
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
    lookup = GraphLookup(net, graph_data(adj))
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
    left = {(row["model"], row["data"]): int(row["pairs not separated"]) for row in rows}
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
            measured=max(row["reordering error"] for row in rows),
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
