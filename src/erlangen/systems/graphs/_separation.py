"""Which pairs of graphs do networks with random parameters tell apart: one table for all kinds of networks, from one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from erlangen.data import (
    cfi_graphs,
    connected_graphs,
    graph6_graphs,
    strongly_regular_graphs,
)
from erlangen.geometry import Multigraph, injective_terms
from erlangen.nn import GraphPolynomials
from erlangen.survey.claims import Claim
from erlangen.systems._separation import (
    OUTPUTS,
    BareGIN,
    NamedGIN,
    framed,
    framed_by_names,
    generic_gin,
    outputs,
    refinement_claim,
    stretched,
)
from erlangen.systems.graphs._ego_separators import spen_separator
from erlangen.systems.graphs._families import (
    Family,
    Row,
    Separator,
    circular_skip_links,
    decalin_and_bicyclopentyl,
    joined,
    ring,
    separation_row,
    two_triangles_and_hexagon,
)
from erlangen.systems.graphs._polynomials_network import PPGN, polynomial_features


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
    gin = stretched(generic_gin(1 + len(COUNTED), 32, 7, generator(seed)), 2.0)
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
        return outputs(framed(stretched(NamedGIN(n, generator=generator(seed))), n), adj)[0]
    net = stretched(NamedGIN(n, 2, layers=3, generator=generator(seed)))
    return outputs(framed_by_names(net, n, 2), adj)[0]


# --- graphs ------------------------------------------------------------------------------------------------------------
def families(sizes: Sequence[int], *, full: bool) -> list[Family]:
    """Connected graphs of these sizes, strongly regular ones, and pairs that are known to be hard, all made by formula."""
    K4, K33 = 1 - torch.eye(4), torch.kron(1 - torch.eye(2), torch.ones(3, 3))
    prism = joined(6, [*ring(0, 1, 2), *ring(3, 4, 5), (0, 3), (1, 4), (2, 5)])
    diamond = joined(4, [*ring(0, 1, 2, 3), (0, 2)])
    found = [Family(f"connected, {n} nodes", [connected_graphs(n)]) for n in sizes]
    found += [
        Family(f"strongly regular, {n} nodes", [strongly_regular_graphs(n)]) for n in (16, 25, 28)[: 3 if full else 1]
    ]
    found += [
        Family("hexagon, two triangles", [two_triangles_and_hexagon()]),
        Family("decalin, bicyclopentyl", [decalin_and_bicyclopentyl()]),
        Family("CFI, width 2", [cfi_graphs(diamond)]),
        Family("CFI, width 3", [cfi_graphs(base) for base in ((K4, K33, prism) if full else (K4,))]),
    ]
    if full:
        found.append(Family("skip links, 41 nodes", [circular_skip_links()]))
    return found


BREC = ("basic", "regular", "extension", "cfi", "4vtx", "dr", "str")
"""Kinds of pairs of the benchmark BREC (Wang and Zhang 2024)."""
LARGEST = 64
"""Nodes of the largest graphs of BREC that are measured."""


def brec_families(folder: str) -> list[Family]:
    """Pairs of BREC with at most `LARGEST` nodes, and the lists sr251256 and graph8c where they are in the folder, too.

    Raises:
        DataError: a file of BREC is missing, or damaged.
    """
    found: list[Family] = []
    for kind in BREC:
        graphs = graph6_graphs(Path(folder) / f"brec_{kind}.npy")
        pairs = [torch.stack(graphs[k : k + 2]) for k in range(0, len(graphs), 2) if len(graphs[k]) <= LARGEST]
        found.append(Family(f"BREC, {kind}", pairs))
    lists = [path for path in (Path(folder) / f"{name}.g6" for name in ("sr251256", "graph8c")) if path.is_file()]
    return found + [Family(path.name, [torch.stack(graph6_graphs(path))]) for path in lists]


# --- the table ---------------------------------------------------------------------------------------------------------
def separation_rows(sizes: Sequence[int], seed: int, *, full: bool, brec: str = "") -> list[Row]:
    """Every network on every family."""
    every = families(sizes, full=full) + (brec_families(brec) if brec else [])
    return [
        separation_row(name, separate, family, seed) for family in every for name, separate in separators(seed).items()
    ]


# --- claims ------------------------------------------------------------------------------------------------------------
def separation_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about the table."""
    left = {(row["model"], row["graphs"]): row["pairs not separated"] for row in rows}
    pairs = {row["graphs"]: row["pairs"] for row in rows}
    regular = [name for name in pairs if name.startswith("strongly regular")]
    connected = [name for name in pairs if name.startswith("connected")]
    claims = [
        Claim.number(
            "ppgn-fails-on-strongly-regular",
            "Pairs of strongly regular graphs of one family that PPGN with random parameters separates.",
            measured=sum(pairs[name] - left["PPGN", name] for name in regular),
            expected=0,
        ),
        Claim.number(
            "degree-six-separates-strongly-regular",
            "Pairs of strongly regular graphs of one family that PPGN with the polynomials up to degree 6 does not separate.",
            measured=sum(left["PPGN++", name] for name in regular),
            expected=0,
        ),
        Claim.number(
            "degree-six-separates-connected",
            "Pairs of connected graphs of equal size that PPGN with the polynomials up to degree 6 does not separate.",
            measured=sum(left["PPGN++", name] for name in connected),
            expected=0,
        ),
        Claim.number(
            "ppgn-separates-connected",
            "The same without any polynomials: pairs of so few nodes are told apart by products of matrices.",
            measured=sum(left["PPGN", name] for name in connected),
            expected=0,
        ),
        Claim.number(
            "tree-width-decides",
            "Pairs of Cai, Fürer and Immerman over bases of tree-width 2 that PPGN leaves, plus those of width 3 it separates.",
            measured=left["PPGN", "CFI, width 2"] + pairs["CFI, width 3"] - left["PPGN", "CFI, width 3"],
            expected=0,
        ),
        Claim.exact(
            "graphs-reordered",
            "Largest relative change of any network's output when nodes are renumbered.",
            measured=max(row["reordering error"] for row in rows),
            tol=1e-11,
        ),
    ]
    if "connected, 8 nodes" in pairs:
        claims.append(refinement_claim(left["GIN", "connected, 8 nodes"]))
    return claims
