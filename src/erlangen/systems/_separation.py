"""Networks with random parameters that tell graphs apart, averaged over orders of nodes; several systems compare with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree
from erlangen.enforce import FrameSet, SortFrame, Symmetrized, spectral_signature, symmetrize
from erlangen.groups import Symmetric
from erlangen.nn import GIN
from erlangen.survey.claims import Claim
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


def refinement_claim(left: int) -> Claim:
    """That a GIN separates what colour refinement does: pairs it leaves, of all connected graphs of 8 nodes."""
    return Claim.number(
        "gin-is-colour-refinement",
        "Pairs of connected graphs of 8 nodes that GIN does not separate; colour refinement leaves 312.",
        measured=left,
        expected=312,
    )
