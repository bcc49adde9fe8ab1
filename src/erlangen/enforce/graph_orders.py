"""Averages over orders of the nodes of graphs: by the sort frame, or over the choices of a few named nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erlangen.actions import Tree
from erlangen.enforce.frames import FrameSet
from erlangen.enforce.sort_frames import SortFrame, spectral_signature
from erlangen.enforce.symmetrize import Symmetrized, symmetrize
from erlangen.groups import Symmetric
from erlangen.symmetry import Symmetry

_AT_ONCE = 2**13
"""Relabelled graphs per call of a network."""


@dataclass(frozen=True)
class NamedNodes:
    """The sort frame of graphs whose nodes all tie, up to orders that a network with `named` named nodes does not see.

    Where every order sorts the nodes, as for strongly regular graphs, the frame is the whole symmetric group. A network that
    does not depend on the order of all but the first nodes needs only one element of each coset of that subgroup: one for
    each choice of named nodes, in order. For any graph, the average over them is exactly invariant.

    >>> NamedNodes(5, 2)({"adj": torch.zeros(1, 5, 5)}).elements.shape
    torch.Size([1, 20, 5])

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


def average_orders(net: nn.Module, nodes: int, named: int | None = None) -> Symmetrized:
    """An invariant network of graphs ``{"adj": [B, n, n]}``: the average of any network over orders of the nodes.

    Args:
        net: any network of such graphs.
        nodes: nodes of every graph, n.
        named: with a number, the average is over all choices of so many named nodes, which is right for a network that does
            not see the order of the others; without, it is over all elements of frames of sorted nodes, up to n!, for n <= 8.
    """
    symmetry = Symmetry(Symmetric(nodes), input="graph", output="invariant")
    if named is not None:
        return symmetrize(net, symmetry, frame=NamedNodes(nodes, named), chunk=_AT_ONCE // 8)
    return symmetrize(net, symmetry, frame=SortFrame(symmetry, limit=math.factorial(nodes)), chunk=_AT_ONCE)


@torch.no_grad()
def averaged_outputs(model: Symmetrized, adj: Tensor) -> Tensor:
    """Outputs ``[M, C]``, float64, of graphs ``[M, n, n]``, of a network that `average_orders` gave.

    Graphs with frames of one size are taken together, since a batch is as large as its largest frame.
    """
    adj = adj.double()
    if isinstance(model.frame, NamedNodes):
        return model({"adj": adj})
    sizes = sort_frame_sizes(adj)
    rows = [
        slab
        for size in sizes.unique().tolist()
        for slab in (sizes == size).nonzero()[:, 0].split(max(1, _AT_ONCE // size))
    ] or [sizes]
    values = torch.cat([model({"adj": adj[slab]}) for slab in rows])
    return torch.empty_like(values).index_copy_(0, torch.cat(rows), values)


def sort_frame_sizes(adj: Tensor) -> Tensor:
    """Number of elements ``[M]`` of the sort frame of every graph ``[M, n, n]``, by its ties."""
    signature = spectral_signature(adj)
    same = ((signature[:, :, None] - signature[:, None]).abs() < 1e-5).all(-1)
    # A node of a tie of m is equal to m nodes: the product over nodes of (m!)^(1/m) is the product over ties of m!.
    m = same.sum(-1).double()
    return ((m + 1).lgamma() / m).sum(-1).exp().round().long()
