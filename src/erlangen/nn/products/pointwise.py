"""Products of the form ``((x A) * (y B)) C``: signals are sampled, multiplied point by point, and expanded again.

Runs in blocks of rows, so that samples stay in the cache, and the backward pass samples again: the memory is that of
inputs and outputs. The second derivative is that of the formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erlangen.nn.products.scratch import Scratch

BLOCK_BYTES = 1 << 21
"""Size of the samples of one block."""
FEW_COEFFICIENTS = 12
"""Up to so many coefficients (degree 2), matrix products are 2 to 8 times faster with the points first in memory."""


def pointwise_product(x: Tensor, y: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """``((x A) * (y B)) C`` of ``[E, channels, a]`` and ``[E, channels or 1, b]`` with tables ``[a, P], [b, P], [P, c]``."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return ((x @ A) * (y @ B)) @ C
    return _Pointwise.apply(x, y, A, B, C)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, A, B, C)
        out = x.new_empty(*x.shape[:-1], C.shape[-1])

        scratch = Scratch(x)
        for rows in _blocks(x, A):
            samples = _Samples(x[rows], A, scratch, "x")
            samples.multiply(_Samples(y[rows], B, scratch, "y"))
            samples.expand(C, out[rows])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, A, B, C = ctx.saved_tensors
        want_x, want_y = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            grad_x, grad_y = _formula(x, y, A, B, C, grads[0])
        else:
            grad_x, grad_y = _in_blocks(x, y, A, B, C, grads[0].contiguous(), want_x, want_y)
        return grad_x if want_x else None, grad_y if want_y else None, None, None, None


def _formula(x: Tensor, y: Tensor, A: Tensor, B: Tensor, C: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    back = grad @ C.mT
    grad_y = (back * (x @ A)) @ B.mT
    return (back * (y @ B)) @ A.mT, grad_y.sum_to_size(y.shape)


def _in_blocks(
    x: Tensor, y: Tensor, A: Tensor, B: Tensor, C: Tensor, grad: Tensor, want_x: bool, want_y: bool
) -> tuple[Tensor | None, Tensor | None]:
    grad_x = x.new_empty(x.shape) if want_x else None
    grad_y = y.new_empty(y.shape) if want_y else None
    scratch = Scratch(x)
    for rows in _blocks(x, A):
        back = _Samples(grad[rows], C.mT, scratch, "back")
        if grad_y is not None:
            part = _Samples(x[rows], A, scratch, "x")
            part.multiply(back)
            part.sum_channels(y.shape[1])
            part.expand(B.mT, grad_y[rows])
        if grad_x is not None:
            back.multiply(_Samples(y[rows], B, scratch, "y"))
            back.expand(A.mT, grad_x[rows])
    return grad_x, grad_y


class _Samples:
    """Values ``[E, channels, P]`` of signals ``[E, channels, a]`` at the points of a table; for small a with P first."""

    def __init__(self, signal: Tensor, table: Tensor, scratch: Scratch, name: str) -> None:
        flat = signal.reshape(-1, signal.shape[-1])
        n, points = len(flat), table.shape[-1]
        self.points_first = signal.shape[-1] <= FEW_COEFFICIENTS
        if self.points_first:
            values = torch.mm(table.mT, flat.mT, out=scratch(name, points, n)).mT
        else:
            values = torch.mm(flat, table, out=scratch(name, n, points))
        self.values = values.unflatten(0, signal.shape[:-1])

    def multiply(self, other: _Samples) -> None:
        """In place by values of as many channels, or of one."""
        self.values *= other.values

    def sum_channels(self, channels: int) -> None:
        """To one channel, where the other factor had one."""
        if channels != self.values.shape[1]:
            self.values = self.values.sum(1, keepdim=True)

    def expand(self, table: Tensor, out: Tensor) -> None:
        """``values @ table`` into `out`."""
        flat = self.values.flatten(0, 1)
        if self.points_first and table.shape[-1] <= FEW_COEFFICIENTS:
            out.view(-1, table.shape[-1]).copy_((table.mT @ flat.mT).mT)
        else:
            torch.mm(flat, table, out=out.view(-1, table.shape[-1]))


def _blocks(x: Tensor, A: Tensor) -> list[slice]:
    width = max(1, x.shape[1] * A.shape[-1] * x.element_size())
    size = max(16, BLOCK_BYTES // width)
    return [slice(start, start + size) for start in range(0, len(x), size)]
