"""Networks with random parameters that tell graphs apart: with and without names of nodes, smooth and far from linear."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from erlangen.data.graph_sets import GraphData
from erlangen.nn.graphs.graph_networks import GIN

OUTPUTS = 10
"""Numbers per graph, by default."""

_AT_ONCE = 2**16
"""Pairs of nodes per call of a network."""


class NamedGIN(nn.Module):
    """A `GIN` that is told which node is which: node features are the first columns of the identity matrix.

    That breaks the symmetry of nodes, so that any graph can be told from any other; a frame restores it. If only some
    nodes are named, the network does not depend on the order of the others.

    Its parameter epsilon, the extra weight of a node in the sum over its neighbours, is random instead of zero: at zero,
    nodes with the same neighbours and themselves are one and the same from the first layer on.

    >>> NamedGIN(4)({"adj": torch.ones(2, 4, 4) - torch.eye(4)}).shape
    torch.Size([2, 10])

    Args:
        nodes: nodes of every graph.
        named: how many of them have names, the first ones; by default all.
        features, layers: of the GIN.
        outputs: numbers per graph.
        generator: source of the parameters.
    """

    def __init__(
        self,
        nodes: int,
        named: int | None = None,
        features: int = 16,
        layers: int = 2,
        *,
        outputs: int = OUTPUTS,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.named = nodes if named is None else named
        self.gin = generic_gin(self.named, features, layers, outputs=outputs, generator=generator)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, outputs]`` of adjacency matrices ``x["adj"] [B, n, n]``."""
        adj = x["adj"]
        return self.gin(torch.eye(adj.shape[-1])[:, : self.named].to(adj).expand(len(adj), -1, -1), adj)


class BareGIN(nn.Module):
    """A `GIN` of nodes without names: the baseline, which can separate no more than refined colours do.

    Seven layers, since colours of graphs of eight nodes are refined up to seven times.

    Args:
        features, layers: of the GIN.
        outputs: numbers per graph.
        generator: source of the parameters.
    """

    def __init__(
        self, features: int = 32, layers: int = 7, *, outputs: int = OUTPUTS, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.gin = generic_gin(1, features, layers, outputs=outputs, generator=generator)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, outputs]`` of adjacency matrices ``x["adj"] [B, n, n]``."""
        return self.gin(x["adj"].new_ones(*x["adj"].shape[:2], 1), x["adj"])


class AdjacencyNetwork(nn.Module):
    """A network of `erlangen.data.GraphData` as a function of adjacency matrices, in float64, without gradients.

    Args:
        net: network of `GraphData`; it is changed to float64 and to evaluation.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double().eval()

    @torch.no_grad()
    def forward(self, adj: Tensor) -> Tensor:
        """``[M, C]`` of ``[M, n, n]``."""
        slabs = adj.split(max(1, _AT_ONCE // max(1, adj.shape[-1]) ** 2))
        return torch.cat([self.net(GraphData.from_adjacency(slab)) for slab in slabs])


def generic_gin(
    inputs: int, features: int, layers: int, *, outputs: int = OUTPUTS, generator: Generator | None = None
) -> GIN:
    """A GIN with smooth activations and random epsilon, in which no two different nodes meet by chance."""
    gin = GIN(inputs, outputs, features, layers=layers, activation=nn.Tanh, generator=generator)
    nn.init.uniform_(gin.eps, 0.2, 0.8, generator=generator)
    return gin


def stretched(
    net: nn.Module, factor: float = 3.0, *, bias: float = 0.0, generator: Generator | None = None
) -> nn.Module:
    """The network with larger parameters, in float64 and in evaluation, so that it is far from linear; changed in place.

    Args:
        net: any network; its parameters called ``eps`` stay.
        factor: of all others.
        bias: standard deviation of what is added to biases, which are often zero in new networks.
        generator: source of that.
    """
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("eps"):
                continue
            parameter.mul_(factor)
            if bias and "bias" in name:
                parameter.add_(bias * torch.randn(parameter.shape, generator=generator))
    return net.double().eval()
