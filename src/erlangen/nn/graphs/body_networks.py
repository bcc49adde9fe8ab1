"""Networks of interacting bodies: where they go, from positions, velocities and features of pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erlangen.errors import ShapeError
from erlangen.nn.graphs.graph_networks import EGNN, MessagePassing


def with_distances(pos: Tensor, edge_attr: Tensor | None = None) -> Tensor:
    """Features of edges ``[B, N, N, F + 1]``: those given ``[B, N, N, F]``, and squared distances of positions ``[B, N, D]``."""
    squared = (pos[:, :, None] - pos[:, None]).square().sum(-1, keepdim=True)
    if edge_attr is not None and edge_attr.shape[:-1] != squared.shape[:-1]:
        wanted = (*squared.shape[:-1], "F")
        raise ShapeError(f"edge_attr has shape {tuple(edge_attr.shape)}, but pos {tuple(pos.shape)} needs {wanted}")
    return squared if edge_attr is None else torch.cat([edge_attr, squared], -1)


class CentredMover(nn.Module):
    """A plain network of centred coordinates and velocities; it predicts how far each particle moves.

    Shifts of space cancel; rotations are to be learned.

    >>> x = {"pos": torch.randn(2, 5, 3), "vel": torch.randn(2, 5, 3), "edge_attr": torch.randn(2, 5, 5, 1)}
    >>> CentredMover(MessagePassing(6, 3, 32, edge_features=1))(x).shape
    torch.Size([2, 5, 3])

    Args:
        net: from ``2 D`` features of particles to D, D the dimension of space.
        distances: add the squared distance of two particles to the features of their edge; `net` then reads one more.
    """

    def __init__(self, net: MessagePassing, *, distances: bool = False) -> None:
        super().__init__()
        self.net, self.distances = net, distances

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Later positions ``[B, N, D]``, of ``{"pos", "vel": [B, N, D], "edge_attr": [B, N, N, F]}``."""
        local = x["pos"] - x["pos"].mean(1, keepdim=True)
        attr = with_distances(local, x["edge_attr"]) if self.distances else x["edge_attr"]
        return x["pos"] + self.net(torch.cat([local, x["vel"]], -1), attr)


class SpeedEGNN(nn.Module):
    """`EGNN` on the speeds of particles, the one number of a particle that motions of space do not change.

    >>> x = {"pos": torch.randn(2, 5, 3), "vel": torch.randn(2, 5, 3), "edge_attr": torch.randn(2, 5, 5, 1)}
    >>> SpeedEGNN(EGNN(1, 1, 16, edge_features=1, velocity=True))(x).shape
    torch.Size([2, 5, 3])

    Args:
        net: with velocities, from one feature of particles to any number, which are not used.
    """

    def __init__(self, net: EGNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Later positions ``[B, N, D]``, of ``{"pos", "vel": [B, N, D], "edge_attr": [B, N, N, F]}``."""
        return self.net(x["vel"].norm(dim=-1, keepdim=True), x["pos"], x["vel"], x["edge_attr"])[1]
