"""Spherical harmonics up to degree 6 (and 10) of 200,000 points against e3nn: forward, and forward with backward."""

from __future__ import annotations

import torch
from common import compare
from e3nn import o3
from sphericart.torch import SphericalHarmonics

from erlangen.irreps import spherical_harmonics, use_sphericart

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
        note=f"{size}, largest difference {difference:.1e}; values by sphericart",
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
        note=f"{size}; derivatives by our recursion",
    )


def with_and_without(points: int, lmax: int) -> None:
    """What sphericart brings, values alone; derivatives are this library's either way."""
    x = torch.randn(points, 3, generator=torch.Generator().manual_seed(0))

    def recursion() -> torch.Tensor:
        use_sphericart(False)
        try:
            return spherical_harmonics(lmax, x)
        finally:
            use_sphericart(True)

    made = SphericalHarmonics(lmax)
    for name, peer in (
        ("our recursion in torch", recursion),
        ("sphericart itself", lambda: made.compute(x[:, [2, 0, 1]])),
    ):
        compare(
            f"harmonics l <= {lmax} of {points} points, values by sphericart",
            lambda: spherical_harmonics(lmax, x),
            name,
            peer,
            note="float32; ours scales each vector by its largest entry first, so that no length overflows",
            inner=max(1, 20_000 // points),
        )


def main() -> None:
    case(6, 3.0, 2.0)
    case(10, None, None)
    for points in (1000, 10_000, POINTS):
        with_and_without(points, 6)


if __name__ == "__main__":
    main()
