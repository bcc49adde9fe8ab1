"""Products of the form ``((x A) * (y B)) C``: signals are sampled, multiplied point by point, and expanded again.

Runs in blocks of rows, so that samples stay in the cache, and the backward pass samples again: the memory is that of
inputs and outputs. The second derivative is that of the formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erlangen.nn.products.scratch import Scratch
from erlangen.tracing import is_traced

BLOCK_BYTES = 1 << 21
"""Size of the samples of one block; from 1 to 8 MB the time is about the same."""


def pointwise_product(x: Tensor, y: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """``((x A) * (y B)) C`` of ``[E, channels, a]`` and ``[E, channels or 1, b]`` with tables ``[a, P], [b, P], [P, c]``."""
    if is_traced():
        return ((x @ A) * (y @ B)) @ C
    return _Pointwise.apply(x, y, A, B, C)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, A, B, C)
        out = x.new_empty(*x.shape[:-1], C.shape[-1])

        scratch = Scratch(x)
        for rows in _blocks(x, A):
            samples = _samples(x[rows], A, scratch, "x")
            samples *= _samples(y[rows], B, scratch, "y")
            _expand(samples, C, out[rows])
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
        back = _samples(grad[rows], C.mT, scratch, "back")
        if grad_y is not None:
            part = _samples(x[rows], A, scratch, "x").mul_(back)
            _expand(part if y.shape[1] == x.shape[1] else part.sum(1, keepdim=True), B.mT, grad_y[rows])
        if grad_x is not None:
            _expand(back.mul_(_samples(y[rows], B, scratch, "y")), A.mT, grad_x[rows])
    return grad_x, grad_y


def _samples(signal: Tensor, table: Tensor, scratch: Scratch, name: str) -> Tensor:
    """Values ``[E, channels, P]`` of signals ``[E, channels, a]`` at the points of a table ``[a, P]``."""
    values = scratch(name, *signal.shape[:-1], table.shape[-1])
    torch.mm(signal.reshape(-1, signal.shape[-1]), table, out=values.view(-1, table.shape[-1]))
    return values


def _expand(samples: Tensor, table: Tensor, out: Tensor) -> None:
    """``samples @ table`` into `out`."""
    torch.mm(samples.flatten(0, 1), table, out=out.view(-1, table.shape[-1]))


def _blocks(x: Tensor, A: Tensor) -> list[slice]:
    width = max(1, x.shape[1] * A.shape[-1] * x.element_size())
    size = max(16, BLOCK_BYTES // width)
    return [slice(start, start + size) for start in range(0, len(x), size)]
