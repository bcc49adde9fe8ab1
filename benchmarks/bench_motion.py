"""Training steps: `FiberConv` against its formula in plain torch, and EGNN against the package egnn-pytorch.

The package is installed by ``pip install --no-deps egnn-pytorch einops``; it also asks for numba, which this part does not use.
"""

from __future__ import annotations

import sys

import torch
from common import compare
from torch import Tensor, nn

from erlangen.nn import EGNN, FiberConv
from erlangen.nn.edges import complete_edges


def step(model: nn.Module, parameters: list[nn.Parameter], target: Tensor, answer: Tensor) -> None:
    """Backward of a mean squared error; gradients are thrown away."""
    loss = (answer - target).square().mean()
    torch.autograd.grad(loss, parameters, allow_unused=True)


def plain_conv(conv: FiberConv, x: Tensor, edges: Tensor, spatial: Tensor, fiber: Tensor) -> Tensor:
    """The two sums of `FiberConv` as they are written."""
    kernel = nn.functional.linear(spatial, conv.spatial)
    y = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]] * kernel)
    turned = torch.einsum("noc,poc->npc", y, nn.functional.linear(fiber, conv.fiber))
    return turned / x.shape[1] + conv.bias


def compare_convolutions() -> None:
    """Complete graphs, 12 directions."""
    for batch, nodes, width in ((100, 5, 32), (16, 16, 64)):
        conv, edges = FiberConv(width, 24), complete_edges(batch, nodes)
        x, target = torch.randn(batch * nodes, 12, width, requires_grad=True), torch.randn(batch * nodes, 12, width)
        spatial = torch.randn(edges.shape[1], 12, 24, requires_grad=True)
        fiber = torch.randn(12, 12, 24, requires_grad=True)
        leaves = [*conv.parameters(), x, spatial, fiber]
        compare(
            f"FiberConv, {batch} graphs of {nodes} nodes, 12 directions, width {width}, forward and backward",
            lambda c=conv, p=leaves, t=target, a=(x, edges, spatial, fiber): step(c, p, t, c(*a)),
            "its formula in torch",
            lambda c=conv, p=leaves, t=target, a=(x, edges, spatial, fiber): step(c, p, t, plain_conv(c, *a)),
            target=1,
        )


def main() -> None:
    compare_convolutions()
    try:
        from egnn_pytorch import EGNN_Network
    except ModuleNotFoundError as error:
        print(f"bench_motion left out: {error}; pip install --no-deps egnn-pytorch einops", file=sys.stderr)
        return
    torch.manual_seed(0)
    for batch, nodes, width, depth in ((100, 5, 64, 4), (16, 32, 64, 4), (100, 5, 32, 3)):
        h, pos = torch.randn(batch, nodes, width), torch.randn(batch, nodes, 3)
        target = torch.randn_like(pos)
        ours = EGNN(width, width, width, layers=depth)
        peer = EGNN_Network(depth=depth, dim=width, m_dim=width, only_sparse_neighbors=False)
        ours_parameters, peer_parameters = list(ours.parameters()), list(peer.parameters())
        counts = [sum(p.numel() for p in parameters) for parameters in (ours_parameters, peer_parameters)]
        compare(
            f"EGNN, {batch} graphs of {nodes} nodes, width {width}, {depth} layers, forward and backward",
            lambda ours=ours, p=ours_parameters, h=h, pos=pos, t=target: step(ours, p, t, ours(h, pos)[1]),
            "egnn_pytorch.EGNN_Network",
            lambda peer=peer, p=peer_parameters, h=h, pos=pos, t=target: step(peer, p, t, peer(h, pos)[1]),
            target=1,
            note=f"parameters: ours {counts[0]}, peer {counts[1]}; its messages pass a layer of twice their inputs",
        )


if __name__ == "__main__":
    main()
