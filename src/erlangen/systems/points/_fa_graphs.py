"""Which graphs a network can tell apart: frames of sorted nodes around networks that know the nodes by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.data import connected_graphs, strongly_regular_graphs
from erlangen.enforce import Symmetrized, average_orders, averaged_outputs, sort_frame_sizes
from erlangen.errors import ShapeError
from erlangen.measure import separation_table
from erlangen.nn import BareGIN, NamedGIN, mlp, stretched
from erlangen.survey.claims import Claim

OUTPUTS = 10
"""Numbers per graph."""


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


def separation_rows(graphs: str, adj: Tensor, models: Mapping[str, tuple[nn.Module, int]], seed: int) -> list[Row]:
    """Which pairs of graphs ``[M, n, n]`` the models separate, each given with the size of its largest frame."""
    separators: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, (model, _) in models.items():
        averaged = isinstance(model, Symmetrized)
        separators[name] = partial(averaged_outputs, model) if averaged else partial(_alone, model)
    rows = separation_table(separators, {graphs: [adj]}, seed, tol=EQUAL, scale=1.0)
    return [row | {"part": "graphs", "largest frame": models[row["model"]][1]} for row in rows]


def _alone(model: nn.Module, adj: Tensor) -> Tensor:
    return model({"adj": adj})


def graph_rows(sizes: Sequence[int], regular: Sequence[tuple[int, int]], seed: int) -> list[Row]:
    """Separation on all connected graphs of these sizes, and on strongly regular families with so many named nodes."""

    def generator() -> Generator:
        return Generator().manual_seed(seed)

    rows: list[Row] = []
    for n in sizes:
        adj, models = connected_graphs(n), {"GIN": (stretched(BareGIN(generator=generator()), 2.0), 1)}
        largest = int(sort_frame_sizes(adj.double()).max())
        for name, backbone in BACKBONES.items():
            models[name] = average_orders(stretched(backbone(n, generator=generator())), n), largest
        rows += separation_rows(f"connected, {n} nodes", adj, models, seed)
    for n, named in regular:
        bare = stretched(BareGIN(generator=generator()), 2.0)
        net = average_orders(stretched(NamedGIN(n, named, layers=3, generator=generator())), n, named)
        models = {"GIN": (bare, 1), "FA-GIN+ID": (net, math.perm(n, named))}
        rows += separation_rows(f"strongly regular, {n} nodes", strongly_regular_graphs(n), models, seed)
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
        claims.append(
            Claim.number(
                "gin-is-colour-refinement",
                "Pairs of connected graphs of 8 nodes that GIN does not separate; colour refinement leaves 312.",
                measured=left["GIN", "connected, 8 nodes"],
                expected=312,
            )
        )
    return claims
