"""A training step of EGNN against the package egnn-pytorch, at equal width and depth, on complete graphs of particles.

The peer is installed by ``pip install --no-deps egnn-pytorch einops``; it also asks for numba, which this part does not use.
"""

from __future__ import annotations

import sys

import torch
from common import compare
from torch import Tensor, nn

from erlangen.nn import EGNN


def step(model: nn.Module, parameters: list[nn.Parameter], target: Tensor, answer: Tensor) -> None:
    """Backward of a mean squared error; gradients are thrown away."""
    loss = (answer - target).square().mean()
    torch.autograd.grad(loss, parameters, allow_unused=True)


def main() -> None:
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
