"""What a product can express, which degrees meet in it, and what it costs: measured on the product itself."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from erlangen.irreps import Irreps

RANK_TOL = 1e-9
"""Singular values below this part of the largest count as zero; they are 1e-2 or 1e-16 in all cases tried."""

CHUNK = 16
"""Weights by which a product is differentiated at once."""


class Bilinear(Protocol):
    """What is measured: a product of irreps with as many weights as it says, its own or given."""

    irreps_x: Irreps
    irreps_y: Irreps
    irreps_out: Irreps
    weight: nn.Parameter | None
    weight_numel: int

    def __call__(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """Features ``[..., irreps_out.dim]``."""
        ...


def expressivity(single: Bilinear) -> int:
    """`TensorProduct.expressivity` of a product with given weights between one copy of each irrep."""
    generator = torch.Generator().manual_seed(0)
    # Maps into one irrep are combinations of at most one path per pair of blocks: so many rows tell them apart.
    rows = len(single.irreps_x) * len(single.irreps_y) + 8
    x, y = (
        irreps.randn(rows, generator=generator, dtype=torch.float64) for irreps in (single.irreps_x, single.irreps_y)
    )
    weight = torch.rand(single.weight_numel, generator=generator, dtype=torch.float64) + 0.5

    # Forward mode, in chunks: there are fewer weights than entries of the output, and memory is bounded.
    def directional(tangent: Tensor) -> Tensor:
        return torch.func.jvp(lambda w: single(x, y, w), (weight,), (tangent,))[1]

    directions = torch.eye(len(weight), dtype=torch.float64)
    J = torch.func.vmap(directional, chunk_size=CHUNK)(directions).flatten(1)
    values = torch.linalg.svdvals(J)
    return int((values > RANK_TOL * values.amax()).sum()) if len(values) else 0


def interacts(single: Bilinear, l1: int, l2: int, l3: int) -> bool:
    """`TensorProduct.interacts` of a product with given weights between one copy of each irrep."""
    generator = torch.Generator().manual_seed(0)
    x = _only(single.irreps_x, l1, generator)
    y = _only(single.irreps_y, l2, generator)
    weight = torch.rand(single.weight_numel, generator=generator, dtype=torch.float64) + 0.5
    out = single(x, y, weight)
    blocks = [
        out[..., where]
        for block, where in zip(single.irreps_out, single.irreps_out.slices(), strict=True)
        if block.ir.l == l3
    ]
    return any(bool((block.abs() > 1e-10).any()) for block in blocks)


def flops(product: Bilinear) -> int:
    """`TensorProduct.flops`."""
    x, y = (torch.randn(1, irreps.dim) for irreps in (product.irreps_x, product.irreps_y))
    given = product.weight is None and product.weight_numel > 0
    weight = torch.randn(1, product.weight_numel) if given else None
    # The plain formula: what runs in blocks does the same operations through buffers.
    with torch.no_grad(), FlopCounterMode(display=False) as matrices, _Elementwise() as rest:
        torch.func.vmap(lambda a, b: product(a[None], b[None], weight)[0])(x, y)
    return matrices.get_total_flops() + rest.total


class _Elementwise(TorchDispatchMode):
    """Counts one operation per entry for sums and products, which `FlopCounterMode` leaves out."""

    names = ("mul", "add", "sub", "div", "sum", "index_add", "cross", "linalg_cross")

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.__name__.split(".")[0] in self.names:
            sizes = [t.numel() for t in (*args, out) if isinstance(t, Tensor)]
            self.total += max(sizes, default=0)
        return out


def _only(irreps: Irreps, l: int, generator: torch.Generator) -> Tensor:
    """Random rows that are zero but for degree l."""
    x = irreps.randn(3, generator=generator, dtype=torch.float64)
    for block, where in zip(irreps, irreps.slices(), strict=True):
        if block.ir.l != l:
            x[..., where] = 0
    return x
