"""Group convolution C8 of 64 channels against a plain convolution of equal channels: inference, and a training step."""

from __future__ import annotations

import torch
from common import compare

from erlangen.groups import Cyclic
from erlangen.nn.images.group_conv import GroupConv2d

FIELDS, KERNEL = 8, 5
BATCH, PIXELS = 16, 32


def numbers(layer: torch.nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def main() -> None:
    group = Cyclic(8)
    size = FIELDS * int(group.order)
    x = torch.randn(BATCH, size, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    ours = GroupConv2d(group, FIELDS, FIELDS, KERNEL)
    peer = torch.nn.Conv2d(size, size, KERNEL)
    note = (
        f"input {BATCH} x {size} x {PIXELS} x {PIXELS}, kernel {KERNEL}, float32; parameters {numbers(ours):,} "
        f"against {numbers(peer):,}"
    )

    def step(layer: torch.nn.Module) -> None:
        layer.zero_grad()
        layer(x).square().mean().backward()

    compare(
        "group convolution C8, 64 channels, training step",
        lambda: step(ours),
        "torch.nn.Conv2d",
        lambda: step(peer),
        note=f"{note}; forward and backward, ours expands its kernel every time",
    )
    ours.eval()
    peer.eval()
    with torch.no_grad():
        difference = float((ours(x) - ours.export()(x)).abs().max())
        compare(
            "group convolution C8, 64 channels, inference",
            lambda: ours(x),
            "torch.nn.Conv2d",
            lambda: peer(x),
            target=round(1 / 1.1, 3),
            note=f"{note}; eval mode without gradients, largest difference to the exported convolution {difference:.1e}",
            runs=25,
        )


if __name__ == "__main__":
    main()
