"""Frame averaging with K frames against K plain forward passes of the same network."""

from __future__ import annotations

import torch
from bench_audit import PointNet
from common import compare
from torch import nn

import erlangen as er


def main() -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    for name, frames in (("SO(3)", 4), ("O(3)", 8), ("SE(3)", 4), ("E(3)", 8)):
        for label, net in (("PointNet", PointNet().eval()), ("MLP", deep.eval())):
            symmetry = er.Symmetry(name, input="points", output="invariant")
            exact = er.symmetrize(net, symmetry, how="frames").eval()
            x = torch.randn(32, 256, 3)

            def ours(exact: nn.Module = exact, x: torch.Tensor = x) -> None:
                with torch.no_grad():
                    exact(x)

            def plain(net: nn.Module = net, x: torch.Tensor = x, frames: int = frames) -> None:
                with torch.no_grad():
                    for _ in range(frames):
                        net(x)

            compare(
                f"frames {name} (K = {frames}), {label}, 32 clouds of 256 points",
                ours,
                f"{frames} plain forwards",
                plain,
                target=round(1 / 1.1, 3),
                note="forward without gradient; ours includes the frames and the averaging",
            )


if __name__ == "__main__":
    main()
