"""The 15 maps of pairs against two products of matrices and against the dense basis, and a PPGN block."""

from __future__ import annotations

import torch
from common import compare

from erlangen.nn import PermutationLinear, PPGNBlock

GRAPHS, NODES, CHANNELS = 64, 30, 32


def main() -> None:
    torch.manual_seed(0)
    adj = torch.randn(GRAPHS, NODES, NODES, CHANNELS)
    first = adj.movedim(-1, 1).contiguous()
    layer = PermutationLinear({"adj": CHANNELS}, {"adj": CHANNELS})
    block = PPGNBlock(CHANNELS, CHANNELS)
    basis = torch.randn(15, NODES**2, NODES**2)  # the numbers do not matter for the time
    weight = torch.randn(15, CHANNELS, CHANNELS)
    size = f"{GRAPHS} graphs of {NODES} nodes, {CHANNELS} channels"

    def dense() -> torch.Tensor:
        """Every basis matrix on every channel, then a matrix of channels for each."""
        flat = adj.flatten(1, 2)
        return sum(torch.einsum("pq,bqc->bpc", matrix, flat) @ mix for matrix, mix in zip(basis, weight, strict=True))

    with torch.no_grad():
        compare(
            f"T(2) to T(2), {size}",
            lambda: layer({"adj": adj}),
            "two batched products of matrices of each channel",
            lambda: (first @ first) @ first,
            target=0.5,
            note="float32, forward; ours holds no matrix of pairs by pairs",
        )
        compare(
            f"T(2) to T(2), {size}, dense",
            lambda: layer({"adj": adj}),
            "the 15 basis matrices of 900 x 900, one after the other",
            dense,
            target=5,
            note=f"float32, forward; the dense basis takes {15 * NODES**4 * 4 / 1e6:.0f} MB",
            runs=7,
        )
        compare(
            f"PPGN block, {size}",
            lambda: block(adj),
            "two batched products of matrices of each channel",
            lambda: (first @ first) @ first,
            target=0.5,
            note="float32, forward; two small networks of two layers, one product, one mixing of channels",
        )


if __name__ == "__main__":
    main()
