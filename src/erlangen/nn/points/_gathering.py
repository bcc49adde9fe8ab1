"""What `FiberConv` is made of: sums over edges in blocks that stay in the cache, and products of directions by channels.

Fresh memory costs more than the arithmetic on it, and so do matrices that do not lie in one piece. The first derivatives
are computed here; second ones are those of the plain formulas.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erlangen.nn.products.scratch import Scratch
from erlangen.nn.segments import segment_sum
from erlangen.tracing import is_traced

BLOCK_BYTES = 1 << 19
"""Size of the kernels of one block: a fraction of the cache of a core."""


def gathered(x: Tensor, edge_index: Tensor, spatial: Tensor, weight: Tensor) -> Tensor:
    """``sum over edges of x[source] (spatial weight^T)`` at their targets, ``[N, O, C]``.

    Args:
        x: features ``[N, O, C]``.
        edge_index: int64 ``[2, E]``, source and target.
        spatial: ``[E, O, basis]``.
        weight: ``[C, basis]``.
    """
    if is_traced():
        return _plain(x, edge_index, spatial, weight)
    return _Gathered.apply(x, spatial, weight, edge_index)


def turned(y: Tensor, kernel: Tensor) -> Tensor:
    """``sum over o of y[n, o, c] kernel[p, o, c]`` as ``[N, P, C]``."""
    if is_traced():
        return torch.einsum("noc,poc->npc", y, kernel)
    first: Tensor = _ChannelsFirst.apply(y)
    return _ChannelsLast.apply(torch.bmm(first, _ChannelsFirst.apply(kernel).mT))


def _plain(x: Tensor, edge_index: Tensor, spatial: Tensor, weight: Tensor) -> Tensor:
    kernel = torch.nn.functional.linear(spatial, weight)
    return segment_sum(x.index_select(0, edge_index[0]) * kernel, edge_index[1], len(x))


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, spatial: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
        ctx.save_for_backward(x, spatial, weight, edge_index)
        out, scratch = torch.zeros_like(x), Scratch(x)
        for rows in _blocks(spatial, len(weight)):
            kernel = _kernel(spatial[rows], weight, scratch)
            kernel *= _selected(x, edge_index[0, rows], "features", scratch)
            out.index_add_(0, edge_index[1, rows], kernel)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, spatial, weight, edge_index = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            leaves = [t for t, want in zip((x, spatial, weight), wanted, strict=True) if want]
            out = _plain(x, edge_index, spatial, weight)
            found = iter(torch.autograd.grad(out, leaves, grads[0], create_graph=True, allow_unused=True))
            return (*(next(found) if want else None for want in wanted), None)
        return (*_gradients(grads[0].contiguous(), x, spatial, weight, edge_index, wanted), None)


def _gradients(
    grad: Tensor, x: Tensor, spatial: Tensor, weight: Tensor, edge_index: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, spatial and weight, those that are wanted."""
    for_x = torch.zeros_like(x) if wanted[0] else None
    for_spatial = torch.empty_like(spatial) if wanted[1] else None
    for_weight = torch.zeros_like(weight) if wanted[2] else None
    scratch = Scratch(x)
    for rows in _blocks(spatial, len(weight)):
        source, target = edge_index[:, rows]
        here = _selected(grad, target, "gradient", scratch)
        if for_spatial is not None or for_weight is not None:
            for_kernel = _selected(x, source, "features", scratch).mul_(here).flatten(0, 1)
            if for_weight is not None:
                for_weight.addmm_(for_kernel.T, spatial[rows].flatten(0, 1))
            if for_spatial is not None:
                torch.mm(for_kernel, weight, out=for_spatial[rows].flatten(0, 1))
        if for_x is not None:
            for_x.index_add_(0, source, _kernel(spatial[rows], weight, scratch).mul_(here))
    return for_x, for_spatial, for_weight


def _blocks(spatial: Tensor, channels: int) -> list[slice]:
    """The edges in blocks."""
    size = max(1, BLOCK_BYTES // max(1, spatial.shape[1] * channels * spatial.element_size()))
    return [slice(first, first + size) for first in range(0, len(spatial), size)]


def _kernel(spatial: Tensor, weight: Tensor, scratch: Scratch) -> Tensor:
    out = scratch("kernel", *spatial.shape[:2], len(weight))
    torch.mm(spatial.flatten(0, 1), weight.T, out=out.flatten(0, 1))
    return out


def _selected(x: Tensor, index: Tensor, name: str, scratch: Scratch) -> Tensor:
    return torch.index_select(x, 0, index, out=scratch(name, len(index), *x.shape[1:]))


class _ChannelsFirst(torch.autograd.Function):
    """``[A, B, C]`` as ``[C, A, B]``, in one piece on both ways: products of matrices in pieces are made one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.permute(2, 0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _ChannelsLast.apply(grads[0])


class _ChannelsLast(torch.autograd.Function):
    """The way back of `_ChannelsFirst`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.permute(1, 2, 0).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _ChannelsFirst.apply(grads[0])
