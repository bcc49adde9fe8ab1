"""Spherical harmonics up to degree 6 (and 10) of 200,000 points against e3nn: forward, and forward with backward."""

from __future__ import annotations

import torch
from common import compare
from e3nn import o3

from erlangen.irreps import spherical_harmonics

POINTS = 200_000


def case(lmax: int, target_forward: float | None, target_backward: float | None) -> None:
    x = torch.randn(POINTS, 3, generator=torch.Generator().manual_seed(0))
    leaf = x.clone().requires_grad_()
    degrees = list(range(lmax + 1))
    cotangent = torch.randn(POINTS, (lmax + 1) ** 2)
    size = f"{POINTS} points, output {(lmax + 1) ** 2} numbers each, float32"

    def ours(x: torch.Tensor) -> torch.Tensor:
        return spherical_harmonics(lmax, x)

    def peer(x: torch.Tensor) -> torch.Tensor:
        return o3.spherical_harmonics(degrees, x, True, "integral")

    difference = float((ours(x) - peer(x)).abs().max())
    compare(
        f"harmonics l <= {lmax}, forward",
        lambda: ours(x),
        "e3nn",
        lambda: peer(x),
        target=target_forward,
        note=f"{size}, largest difference {difference:.1e}; ours has the functions first in memory",
    )
    compare(
        f"harmonics l <= {lmax}, forward, points first in memory",
        lambda: ours(x).contiguous(),
        "e3nn",
        lambda: peer(x),
        note=f"{size}; ours includes .contiguous()",
    )
    compare(
        f"harmonics l <= {lmax}, forward and backward",
        lambda: torch.autograd.grad(ours(leaf).sum(), leaf),
        "e3nn",
        lambda: torch.autograd.grad(peer(leaf).sum(), leaf),
        target=target_backward,
        note=f"{size}; the cotangent is that of a sum",
    )
    compare(
        f"harmonics l <= {lmax}, forward and backward, cotangent with points first",
        lambda: torch.autograd.grad(ours(leaf), leaf, cotangent),
        "e3nn",
        lambda: torch.autograd.grad(peer(leaf), leaf, cotangent),
        target=target_backward,
        note=f"{size}; ours transposes the cotangent block by block",
    )


def main() -> None:
    case(6, 3.0, 2.0)
    case(10, None, None)


if __name__ == "__main__":
    main()
