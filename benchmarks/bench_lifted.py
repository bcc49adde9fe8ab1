"""Layers on points against the same arithmetic written plainly: lifted convolutions, vector neurons."""

from __future__ import annotations

import torch
from common import compare
from torch import Tensor, nn

from erlangen.groups import Group, Icosahedral, Octahedral
from erlangen.nn import LiftedPointConv, VectorReLU


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_conv(conv: LiftedPointConv, x: Tensor, pos: Tensor, centers: Tensor, neighbors: Tensor) -> Tensor:
    """The kernel turned by every element, weighed for every neighbour, as the equation reads."""
    turns = conv.group.linear(conv.group.elements(), dtype=torch.float64).float()
    turned = torch.einsum("gij,sj->gsi", turns, conv.kernel_points)
    away = pos[neighbors] - centers[:, None]
    feels = (1 - (away[:, :, None, None] - turned).square().sum(-1) / conv.sigma).relu()
    return torch.einsum("mkgs,mkgc,sco->mgo", feels, x[neighbors], conv.weight) + conv.bias


def lifted(group: Group, channels: int, centers: int, k: int) -> None:
    conv = LiftedPointConv(channels, channels, group, radius=1.0, generator=seeded())
    pos = torch.randn(2 * centers, 3, generator=seeded(1))
    x = torch.randn(2 * centers, int(group.order), channels, generator=seeded(2)).requires_grad_()
    neighbors = torch.cdist(pos[:centers], pos).topk(k, largest=False).indices
    given = (x, pos, pos[:centers], neighbors)

    def step(fn: object) -> None:
        out = fn(*given)
        torch.autograd.grad(out.square().sum(), [x, conv.weight])

    gap = float((conv(*given) - plain_conv(conv, *given)).detach().abs().max())
    compare(
        f"lifted convolution, {group.name}, {centers} centres, {k} neighbours, {channels} channels",
        lambda: step(conv),
        "the equation by einsum",
        lambda: step(lambda *a: plain_conv(conv, *a)),
        note=f"forward and backward, float32, one thread, largest difference {gap:.1e}",
        runs=7,
    )


class PlainVN(nn.Module):
    """The published layer: maps along the channels of ``[B, C, 3, N]`` by transposition."""

    def __init__(self, ours: VectorReLU) -> None:
        super().__init__()
        out, given = ours.value.weight.shape
        self.value, self.direction = nn.Linear(given, out, bias=False), nn.Linear(given, out, bias=False)
        self.value.weight, self.direction.weight = ours.value.weight, ours.direction.weight
        self.eps = ours.eps

    def forward(self, x: Tensor) -> Tensor:
        p = self.value(x.transpose(1, -1)).transpose(1, -1)
        d = self.direction(x.transpose(1, -1)).transpose(1, -1)
        dot = (p * d).sum(2, keepdim=True)
        mask = (dot >= 0).float()
        return mask * p + (1 - mask) * (p - (dot / ((d * d).sum(2, keepdim=True) + self.eps)) * d)


def vectors(channels: int, points: int) -> None:
    ours = VectorReLU(channels, generator=seeded())
    peer = PlainVN(ours)
    x = torch.randn(4, points, channels, 3, generator=seeded(1)).requires_grad_()
    theirs = x.detach().permute(0, 2, 3, 1).contiguous().requires_grad_()
    gap = float((ours(x).permute(0, 2, 3, 1) - peer(theirs)).detach().abs().max())
    compare(
        f"vector neurons, {channels} channels, 4 x {points} points",
        lambda: torch.autograd.grad(ours(x).square().sum(), [x, ours.value.weight]),
        "the published layer's arithmetic, in its layout",
        lambda: torch.autograd.grad(peer(theirs).square().sum(), [theirs, peer.value.weight]),
        note=f"forward and backward, float32, one thread, largest difference {gap:.1e}",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    lifted(Octahedral(), 16, 128, 16)
    lifted(Icosahedral(), 32, 64, 32)
    vectors(32, 1024)
    vectors(128, 256)
