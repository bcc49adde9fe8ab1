"""Which graphs a network can tell apart: frames of sorted nodes around networks that know the nodes by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.data import connected_graphs, strongly_regular_graphs
from erlangen.enforce import Symmetrized
from erlangen.errors import ShapeError
from erlangen.measure import equal_pairs
from erlangen.nn import mlp
from erlangen.survey.claims import Claim
from erlangen.systems._separation import (
    OUTPUTS,
    BareGIN,
    NamedGIN,
    framed,
    framed_by_names,
    outputs,
    refinement_claim,
    stretched,
)


class FlatMLP(nn.Module):
    """A network of the adjacency matrix as a list of numbers, above the diagonal; it knows nothing of graphs.

    Args:
        nodes: nodes of every graph.
        features: width.
        generator: source of the parameters.

    Raises:
        ShapeError: at the call, another number of nodes.
    """

    def __init__(self, nodes: int, features: int = 64, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.nodes = nodes
        pairs = nodes * (nodes - 1) // 2
        self.net = mlp([pairs, features, features, OUTPUTS], nn.Tanh, generator=generator)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, OUTPUTS]`` of adjacency matrices ``x["adj"] [B, n, n]``."""
        adj = x["adj"]
        if adj.shape[-1] != self.nodes:
            raise ShapeError(f"adj has {adj.shape[-1]} nodes, but the network reads {self.nodes}")
        row, column = torch.triu_indices(self.nodes, self.nodes, 1)
        return self.net(adj[:, row, column])


BACKBONES: dict[str, Callable[..., nn.Module]] = {"FA-GIN+ID": NamedGIN, "FA-MLP": FlatMLP}


# --- what is measured -------------------------------------------------------------------------------------------------
EQUAL = 1e-9
"""Outputs that differ by less count as equal; those of isomorphic graphs differ by rounding, some 1e-15."""

Row = dict[str, Any]


def separation_row(name: str, graphs: str, adj: Tensor, model: nn.Module, seed: int) -> Row:
    """How many pairs of graphs ``[M, n, n]`` have equal outputs, and what another order of the nodes changes."""
    begin = time.process_time()
    with torch.no_grad():
        values, largest = outputs(model, adj) if isinstance(model, Symmetrized) else (model({"adj": adj.double()}), 1)
        seconds = time.process_time() - begin
        few = torch.randperm(len(adj), generator=Generator().manual_seed(seed))[:100]
        order = torch.randperm(adj.shape[-1], generator=Generator().manual_seed(seed + 1))
        copies = adj[few][:, order][:, :, order]
        again = outputs(model, copies)[0] if isinstance(model, Symmetrized) else model({"adj": copies.double()})
    pairs, closest = equal_pairs(values, EQUAL)
    return {
        "part": "graphs",
        "model": name,
        "graphs": graphs,
        "pairs": len(adj) * (len(adj) - 1) // 2,
        "pairs not separated": pairs,
        "closest pair": closest if math.isfinite(closest) else None,
        "reordering error": float((again - values[few]).abs().max()),
        "largest frame": largest,
        "seconds": seconds,
    }


def graph_rows(sizes: Sequence[int], regular: Sequence[tuple[int, int]], seed: int) -> list[Row]:
    """Separation on all connected graphs of these sizes, and on strongly regular families with so many named nodes."""

    def generator() -> Generator:
        return Generator().manual_seed(seed)

    rows: list[Row] = []
    for n in sizes:
        adj, label = connected_graphs(n), f"connected, {n} nodes"
        rows.append(separation_row("GIN", label, adj, stretched(BareGIN(generator=generator()), 2.0), seed))
        for name, backbone in BACKBONES.items():
            model = framed(stretched(backbone(n, generator=generator())), n)
            rows.append(separation_row(name, label, adj, model, seed))
    for n, named in regular:
        adj, label = strongly_regular_graphs(n), f"strongly regular, {n} nodes"
        rows.append(separation_row("GIN", label, adj, stretched(BareGIN(generator=generator()), 2.0), seed))
        net = stretched(NamedGIN(n, named, layers=3, generator=generator()))
        rows.append(separation_row("FA-GIN+ID", label, adj, framed_by_names(net, n, named), seed))
    return rows


def graph_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about graphs."""
    left = {(row["model"], row["graphs"]): row["pairs not separated"] for row in rows}
    regular = [row for row in rows if row["graphs"].startswith("strongly")]
    averaged = [row for row in rows if row["model"].startswith("FA")]
    claims = [
        Claim.number(
            f"{name.lower().replace('+', '-')}-separates",
            f"Pairs of connected graphs of equal size that {name} with random parameters does not separate.",
            measured=sum(count for (model, graphs), count in left.items() if model == name and "connected" in graphs),
            expected=0,
        )
        for name in BACKBONES
    ]
    claims += [
        Claim.number(
            "strongly-regular-separated",
            "Pairs of strongly regular graphs of one family that FA-GIN+ID does not separate.",
            measured=sum(row["pairs not separated"] for row in regular if row["model"] != "GIN"),
            expected=0,
        ),
        Claim.number(
            "gin-fails-on-strongly-regular",
            "Pairs of strongly regular graphs of one family that GIN without frames separates.",
            measured=sum(row["pairs"] - row["pairs not separated"] for row in regular if row["model"] == "GIN"),
            expected=0,
        ),
        Claim.exact(
            "graphs-reordered",
            "Largest change of an averaged network's output when nodes are renumbered.",
            measured=max(row["reordering error"] for row in averaged),
            tol=1e-12,
        ),
    ]
    if ("GIN", "connected, 8 nodes") in left:
        claims.append(refinement_claim(left["GIN", "connected, 8 nodes"]))
    return claims
