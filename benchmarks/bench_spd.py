"""Functions of SPD matrices against the plain route through torch.linalg.eigh; their metrics against pyRiemann and geoopt."""

from __future__ import annotations

from collections.abc import Callable

import geoopt
import torch
from common import compare
from pyriemann.geometry.distance import distance_riemann, distance_wasserstein
from pyriemann.geometry.mean import mean_riemann, mean_wasserstein

from erlangen.geometry.manifolds import AffineInvariant, BuresWasserstein
from erlangen.numerics import sym_exp, sym_log, sym_sqrt

Function = Callable[[torch.Tensor], torch.Tensor]
CASES: dict[str, tuple[Function, Function]] = {
    "log": (sym_log, torch.log),
    "exp": (sym_exp, torch.exp),
    "sqrt": (sym_sqrt, torch.sqrt),
}


def plain(A: torch.Tensor, f: Function) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(A)
    return vectors @ torch.diag_embed(f(values)) @ vectors.mT


def case(name: str, n: int, batch: int, target: float | None) -> None:
    ours, f = CASES[name]
    X = torch.randn(batch, n, 2 * n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    A = X @ X.mT / (2 * n)
    difference = float((ours(A) - plain(A, f)).abs().max())
    compare(
        f"SPD {name}, n = {n}, batch {batch}",
        lambda: ours(A),
        "torch.linalg.eigh, f of the eigenvalues, V f V^T",
        lambda: plain(A, f),
        target=target,
        note=f"forward, float64, largest difference {difference:.1e}; ours also checks its input",
        inner=1 if n > 8 else 5,
    )


def matrices(count: int, n: int, seed: int) -> torch.Tensor:
    X = torch.randn(count, n, 2 * n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return X @ X.mT / (2 * n)


def metrics(n: int, batch: int) -> None:
    A, B = matrices(batch, n, 0), matrices(batch, n, 1)
    affine, bures = AffineInvariant(), BuresWasserstein()
    for name, ours, peer_name, peer in (
        ("affine-invariant distance", affine.dist, "pyRiemann", distance_riemann),
        ("affine-invariant distance", affine.dist, "geoopt", geoopt.SymmetricPositiveDefinite().dist),
        ("Bures-Wasserstein distance", bures.dist, "pyRiemann", distance_wasserstein),
    ):
        gap = float((ours(A, B) - peer(A, B)).abs().max())
        compare(
            f"{name}, n = {n}, batch {batch}",
            lambda ours=ours: ours(A, B),
            peer_name,
            lambda peer=peer: peer(A, B),
            note=f"forward, float64, largest difference {gap:.1e}; ours also checks its input",
        )
    for name, metric, mean in (
        ("affine-invariant mean", affine, mean_riemann),
        ("Bures-Wasserstein mean", bures, mean_wasserstein),
    ):
        X = A.numpy()
        gap = float((metric.mean(A).point - torch.as_tensor(mean(X))).abs().max())
        compare(
            f"{name}, n = {n}, of {batch}",
            lambda metric=metric: metric.mean(A, tol=1e-8),
            "pyRiemann on numpy",
            lambda mean=mean, X=X: mean(X, tol=1e-8),
            note=f"both to the tolerance 1e-8, largest difference {gap:.1e}",
        )


def main() -> None:
    for n in (8, 22):
        metrics(n, 256)
    for name in CASES:
        for n, target in ((8, None), (32, 2.5), (64, None)):
            case(name, n, 256, target)


if __name__ == "__main__":
    main()
