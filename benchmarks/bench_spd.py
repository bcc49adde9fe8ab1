"""Logarithm, exponential and square root of batches of SPD matrices against the plain route through torch.linalg.eigh."""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import compare

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


def main() -> None:
    for name in CASES:
        for n, target in ((8, None), (32, 2.5), (64, None)):
            case(name, n, 256, target)


if __name__ == "__main__":
    main()
