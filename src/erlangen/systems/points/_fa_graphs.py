"""Which graphs a network can tell apart: frames of sorted nodes around networks that know the nodes by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree
from erlangen.claims import Claim
from erlangen.data import connected_graphs, strongly_regular_graphs
from erlangen.enforce import FrameSet, SortFrame, Symmetrized, spectral_signature, symmetrize
from erlangen.errors import ShapeError
from erlangen.groups import Symmetric
from erlangen.nn import GIN, mlp
from erlangen.symmetry import Symmetry

OUTPUTS = 10
"""Numbers per graph."""

_AT_ONCE = 2**13
"""Relabelled graphs per call of a network."""


class NamedGIN(nn.Module):
    """A `GIN` that is told which node is which: node features are the first columns of the identity matrix.

    That breaks the symmetry of nodes, so that any graph can be told from any other; the frame restores it. If only some
    nodes are named, the network does not depend on the order of the others.

    Its parameter epsilon, the extra weight of a node in the sum over its neighbours, is random instead of zero: at zero,
    nodes with the same neighbours and themselves are one and the same from the first layer on.

    Args:
        nodes: nodes of every graph.
        named: how many of them have names, the first ones; by default all.
        features, layers: of the GIN.
        generator: source of the parameters.
    """

    def __init__(
        self,
        nodes: int,
        named: int | None = None,
        features: int = 16,
        layers: int = 2,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.named = nodes if named is None else named
        self.gin = generic_gin(self.named, features, layers, generator)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, OUTPUTS]`` of adjacency matrices ``x["adj"] [B, n, n]``."""
        adj = x["adj"]
        return self.gin(torch.eye(adj.shape[-1])[:, : self.named].to(adj).expand(len(adj), -1, -1), adj)


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


class BareGIN(nn.Module):
    """A `GIN` of nodes without names: the baseline, which can separate no more than refined colours do.

    Seven layers, since colours of graphs of eight nodes are refined up to seven times.
    """

    def __init__(self, features: int = 32, layers: int = 7, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.gin = generic_gin(1, features, layers, generator)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, OUTPUTS]`` of adjacency matrices ``x["adj"] [B, n, n]``."""
        return self.gin(x["adj"].new_ones(*x["adj"].shape[:2], 1), x["adj"])


def generic_gin(inputs: int, features: int, layers: int, generator: Generator | None) -> GIN:
    """A GIN with smooth activations and random epsilon."""
    gin = GIN(inputs, OUTPUTS, features, layers=layers, activation=nn.Tanh, generator=generator)
    nn.init.uniform_(gin.eps, 0.2, 0.8, generator=generator)
    return gin


@dataclass(frozen=True)
class NamedNodes:
    """The sort frame of graphs whose nodes all tie, up to orders that a network with `named` named nodes does not see.

    Where every order sorts the nodes, as for strongly regular graphs, the frame is the whole symmetric group. A network that
    does not depend on the order of all but the first nodes needs only one element of each coset of that subgroup: one for
    each choice of named nodes, in order. For any graph, the average over them is exactly invariant.

    Args:
        nodes: nodes of every graph.
        named: how many of them have names.
    """

    nodes: int
    named: int

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """n! / (n - named)! permutations, the same for all graphs of the batch."""
        adj = x["adj"]
        every = torch.arange(self.nodes)
        chosen = torch.cartesian_prod(*[every] * self.named).reshape(-1, self.named)
        different = (chosen[:, :, None] == chosen[:, None]).sum((1, 2)) == self.named
        chosen = chosen[different]
        rest = torch.ones(len(chosen), self.nodes, dtype=torch.bool).scatter(1, chosen, False).nonzero()[:, 1]
        elements = torch.cat([chosen, rest.unflatten(0, (len(chosen), -1))], 1)[None].to(adj.device)
        weights = torch.full((1, len(chosen)), 1 / len(chosen), dtype=torch.float64, device=adj.device)
        return FrameSet(elements, weights, torch.full((len(adj),), math.inf, device=adj.device))


BACKBONES: dict[str, Callable[..., nn.Module]] = {"FA-GIN+ID": NamedGIN, "FA-MLP": FlatMLP}


def stretched(net: nn.Module, factor: float = 3.0) -> nn.Module:
    """The network with larger parameters, float64, so that it is far from linear."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.mul_(1.0 if name.endswith("eps") else factor)
    return net.double().eval()


def framed(net: nn.Module, nodes: int) -> Symmetrized:
    """The average over all elements of frames of sorted nodes; at most 8 nodes."""
    symmetry = Symmetry(Symmetric(nodes), input="graph", output="invariant")
    return symmetrize(net, symmetry, frame=SortFrame(symmetry, limit=math.factorial(nodes)), chunk=_AT_ONCE)


def framed_by_names(net: nn.Module, nodes: int, named: int) -> Symmetrized:
    """The average over all choices of the named nodes."""
    symmetry = Symmetry(Symmetric(nodes), input="graph", output="invariant")
    return symmetrize(net, symmetry, frame=NamedNodes(nodes, named), chunk=_AT_ONCE // 8)


@torch.no_grad()
def outputs(model: Symmetrized, adj: Tensor) -> tuple[Tensor, int]:
    """Outputs ``[M, OUTPUTS]`` of graphs, and the size of the largest frame.

    Graphs with frames of one size are taken together, since a batch is as large as its largest frame.
    """
    adj = adj.double()
    frame = model.frame
    if isinstance(frame, NamedNodes):
        return model({"adj": adj}), math.perm(frame.nodes, frame.named)
    sizes = frame_sizes(adj)
    found = adj.new_empty(len(adj), OUTPUTS)
    for size in sizes.unique().tolist():
        for rows in (sizes == size).nonzero()[:, 0].split(max(1, _AT_ONCE // size)):
            found[rows] = model({"adj": adj[rows]})
    return found, int(sizes.max())


def frame_sizes(adj: Tensor) -> Tensor:
    """Number of elements of the sort frame of every graph, by its ties."""
    signature = spectral_signature(adj)
    same = ((signature[:, :, None] - signature[:, None]).abs() < 1e-5).all(-1)
    # A node of a tie of m is equal to m nodes: the product over nodes of (m!)^(1/m) is the product over ties of m!.
    m = same.sum(-1).double()
    return ((m + 1).lgamma() / m).sum(-1).exp().round().long()


def equal_pairs(values: Tensor, tol: float) -> tuple[int, float]:
    """Pairs of rows ``[M, C]`` whose largest difference is at most `tol`, and the smallest difference of the other pairs.

    Along a direction whose entries sum to one, rows are no farther apart than their largest difference; so sorted along it,
    only rows that are near need to be compared.
    """
    direction = torch.rand(values.shape[1], generator=Generator().manual_seed(1), dtype=values.dtype)
    along, order = (values @ (direction / direction.sum())).sort()
    values = values[order]
    pairs, closest = 0, math.inf
    for lag in range(1, len(values)):
        near = along[lag:] - along[:-lag] <= max(tol, closest)
        if not bool(near.any()):
            break
        difference = (values[lag:][near] - values[:-lag][near]).abs().amax(-1)
        pairs += int((difference <= tol).sum())
        closest = min([closest, *difference[difference > tol].tolist()])
    return pairs, closest


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
        claims.append(
            Claim.number(
                "gin-is-colour-refinement",
                "Pairs of connected graphs of 8 nodes that GIN does not separate; colour refinement leaves 312.",
                measured=left["GIN", "connected, 8 nodes"],
                expected=312,
            )
        )
    return claims
