"""Networks of ego-networks and of all pairs, with random parameters, as functions that tell graphs apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.data import GraphData
from erlangen.systems._separation import OUTPUTS
from erlangen.systems.graphs._ego_networks import SPEN, GlobalT2
from erlangen.systems.graphs._families import Separator

_PLAIN: dict[str, Any] = {"norm": False, "activation": torch.tanh, "readout": (16,)}
"""What networks with random parameters have in common."""

_AT_ONCE = 2**16
"""Pairs of nodes per call of a network."""


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
        return torch.cat([self.net(GraphData.from_adjacency(slab)) for slab in slabs])


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
