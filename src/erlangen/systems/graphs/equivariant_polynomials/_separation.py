"""Which pairs of graphs do networks with random parameters tell apart: one table for all kinds of networks, from one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.data import (
    brec_families,
    cfi_graphs,
    circular_skip_links,
    connected_graphs,
    decalin_and_bicyclopentyl,
    graph_of_edges,
    ring_edges,
    strongly_regular_graphs,
    two_triangles_and_hexagon,
)
from erlangen.enforce import average_orders, averaged_outputs
from erlangen.geometry import Multigraph, injective_terms
from erlangen.measure import Separator, separation_table
from erlangen.nn import BareGIN, GraphPolynomials, NamedGIN, generic_gin, spen_separator, stretched
from erlangen.survey import Claim, Part, Run, number, properties
from erlangen.systems.graphs.equivariant_polynomials.method import PPGN, polynomial_features

OUTPUTS = 10
"""Numbers per graph."""


# --- networks ----------------------------------------------------------------------------------------------------------
def separators(seed: int) -> dict[str, Separator]:
    """All networks of the table, with random parameters, float64. To add one, give it a name here."""
    return {
        "GIN": lambda adj: bare_gin(seed)({"adj": adj}),
        "GIN + counts": lambda adj: counting_gin(adj, seed),
        "PPGN": lambda adj: ppgn(adj, 0, seed),
        "PPGN + degree 5": lambda adj: ppgn(adj, 5, seed),
        "PPGN++": lambda adj: ppgn(adj, 6, seed),
        "FA-GIN+ID": lambda adj: frame_averaged(adj, seed),
        "SPEN, 1 hop": spen_separator(1, seed),
        "SPEN, 2 hops": spen_separator(2, seed),
    }


def generator(seed: int) -> Generator:
    """A fresh one."""
    return Generator().manual_seed(seed)


def bare_gin(seed: int) -> nn.Module:
    """The network that sees what refined colours see."""
    return stretched(BareGIN(generator=generator(seed)), 2.0)


COUNTED = [
    *[Multigraph(tuple((k, (k + 1) % length) for k in range(length)), (0,)) for length in (3, 4, 5)],
    Multigraph(((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)), (0,)),
]
"""Cycles of 3, 4 and 5 nodes and the complete graph of 4, each with the node where it is counted."""


def node_counts(adj: Tensor) -> Tensor:
    """How often each node lies in the subgraphs `COUNTED`, times their symmetries that keep it: ``[M, n, 4]``."""
    found: list[Tensor] = []
    for shape in COUNTED:
        # Terms with a loop vanish on simple graphs.
        terms = [(sign, graph) for sign, graph in injective_terms(shape) if all(r != s for r, s in graph.edges)]
        signs = adj.new_tensor([sign for sign, _ in terms])
        found.append(GraphPolynomials([graph for _, graph in terms])(adj) @ signs)
    return torch.stack(found, -1)


def counting_gin(adj: Tensor, seed: int) -> Tensor:
    """A GIN whose node features are counts of subgraphs (Bouritsas et al. 2022), on a logarithmic scale."""
    gin = stretched(generic_gin(1 + len(COUNTED), 32, 7, generator=generator(seed)), 2.0)
    x = torch.cat([torch.ones_like(adj[..., :1]), node_counts(adj).log1p() / 4], -1)
    return gin(x, adj)


def ppgn(adj: Tensor, degree: int, seed: int) -> Tensor:
    """A PPGN of the adjacency matrix and the polynomials up to a degree that it lacks; all degrees share no parameters."""
    features = adj[..., None]
    if degree:
        features = torch.cat([features, polynomial_features(adj, degree, size="logarithm") / 4], -1)
    net = PPGN(features.shape[-1], OUTPUTS, 32, layers=4, generator=generator(seed))
    return stretched(net, 1.5)(features)


def frame_averaged(adj: Tensor, seed: int) -> Tensor:
    """Frames of sorted nodes up to eight nodes; more have too many orders, so two nodes get names, in every way."""
    n = adj.shape[-1]
    if n <= 8:
        return averaged_outputs(average_orders(stretched(NamedGIN(n, generator=generator(seed))), n), adj)
    net = stretched(NamedGIN(n, 2, layers=3, generator=generator(seed)))
    return averaged_outputs(average_orders(net, n, 2), adj)


# --- graphs ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Families:
    """Which graphs are told apart.

    Attributes:
        connected: numbers of nodes; all connected graphs of each.
        regular: numbers of nodes of strongly regular families.
        bases: how many graphs of tree-width 3 pairs of Cai, Fürer and Immerman are made of.
        skip_links: whether there are circular skip links of 41 nodes.
    """

    connected: tuple[int, ...]
    regular: tuple[int, ...]
    bases: int
    skip_links: bool

    def graphs(self) -> dict[str, list[Tensor]]:
        """Connected graphs, strongly regular ones, and pairs that are known to be hard, all made by formula."""
        K4, K33 = 1 - torch.eye(4), torch.kron(1 - torch.eye(2), torch.ones(3, 3))
        prism = graph_of_edges(6, [*ring_edges(0, 1, 2), *ring_edges(3, 4, 5), (0, 3), (1, 4), (2, 5)])
        diamond = graph_of_edges(4, [*ring_edges(0, 1, 2, 3), (0, 2)])
        found = {f"connected, {n} nodes": [connected_graphs(n)] for n in self.connected}
        found |= {f"strongly regular, {n} nodes": [strongly_regular_graphs(n)] for n in self.regular}
        found |= {
            "hexagon, two triangles": [two_triangles_and_hexagon()],
            "decalin, bicyclopentyl": [decalin_and_bicyclopentyl()],
            "CFI, width 2": [cfi_graphs(diamond)],
            "CFI, width 3": [cfi_graphs(base) for base in (K4, K33, prism)[: self.bases]],
        }
        return found | ({"skip links, 41 nodes": [circular_skip_links()]} if self.skip_links else {})


FEW_FAMILIES = Families(connected=(6,), regular=(16,), bases=1, skip_links=False)
ALL_FAMILIES = Families(connected=(7, 8), regular=(16, 25, 28), bases=3, skip_links=True)


# --- the part ----------------------------------------------------------------------------------------------------------
@number(312)
def gin_is_colour_refinement(run: Run[Any]) -> float:
    """Pairs of connected graphs of 8 nodes that GIN does not separate; colour refinement leaves 312."""
    separate = {"GIN": separators(run.seed)["GIN"]}
    (row,) = separation_table(separate, {"connected, 8 nodes": [connected_graphs(8)]}, run.seed)
    return row["pairs not separated"]


def separation_part(run: Run[Any], families: Families, brec: str) -> Part:
    """Every network on every family, and on the pairs of BREC with at most 64 nodes where there is a folder of them.

    Parameters are random, nothing is trained, and the graphs are all there are: counts are judged at every scale.
    """
    every = families.graphs() | (brec_families(brec) if brec else {})
    rows = separation_table(separators(run.seed), every, run.seed)
    left = {(row["model"], row["graphs"]): row["pairs not separated"] for row in rows}
    pairs = {row["graphs"]: row["pairs"] for row in rows}
    regular = [name for name in pairs if name.startswith("strongly regular")]
    connected = [name for name in pairs if name.startswith("connected")]
    wide = left["PPGN", "CFI, width 2"] + pairs["CFI, width 3"] - left["PPGN", "CFI, width 3"]

    def none(name: str, statement: str, count: int) -> Claim:
        return Claim.number(name, statement, measured=count, expected=0)

    colours = properties(run, gin_is_colour_refinement)
    claims = [
        none(
            "ppgn-fails-on-strongly-regular",
            "Pairs of strongly regular graphs of one family that PPGN with random parameters separates.",
            sum(pairs[name] - left["PPGN", name] for name in regular),
        ),
        none(
            "degree-six-separates-strongly-regular",
            "Pairs of strongly regular graphs of one family that PPGN with the polynomials up to degree 6 does not separate.",
            sum(left["PPGN++", name] for name in regular),
        ),
        none(
            "degree-six-separates-connected",
            "Pairs of connected graphs of equal size that PPGN with the polynomials up to degree 6 does not separate.",
            sum(left["PPGN++", name] for name in connected),
        ),
        none(
            "ppgn-separates-connected",
            "Pairs of connected graphs of equal, small size that PPGN without any polynomials does not separate.",
            sum(left["PPGN", name] for name in connected),
        ),
        none(
            "tree-width-decides",
            "Pairs of Cai, Fürer and Immerman over bases of tree-width 2 that PPGN leaves, plus those of width 3 it separates.",
            wide,
        ),
        Claim.exact(
            "graphs-reordered",
            "Largest relative change of any network's output when nodes are renumbered.",
            measured=max(row["reordering error"] for row in rows),
            tol=1e-11,
        ),
    ]
    return Part([*colours.rows, *rows], [*claims, *colours.claims])
