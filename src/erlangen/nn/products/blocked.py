"""`CoupledProduct` in blocks of rows that stay in the cache, with its gradient; sums over edges on the way.

Each block makes M and Z, multiplies them and adds the result to where it belongs; the backward pass makes M and Z
again. So the memory is that of inputs and outputs. What lies between uses the same memory again and again: fresh pages
would cost more than the arithmetic on them. The second derivative is that of the plain product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erlangen.nn.products.coupled import CoupledProduct, Edges, Group
from erlangen.nn.products.scratch import Scratch
from erlangen.tracing import is_traced

BLOCK_BYTES = 1 << 24
"""Size of Z of one block: on two cores 16 MB are 1.2 times faster than 4, as threads share more at a time; 32 are like 16."""


def blocked(product: CoupledProduct, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None = None) -> Tensor:
    """``product(x, y, weight, edges)``, in blocks where that is possible: not inside of compilers and transforms."""
    own_mixing = product.form == "connected" and len(weight) != 1
    if is_traced() or own_mixing or not product.groups:
        return product(x, y, weight, edges)
    return _Blocked.apply(x, y, weight, product, edges)


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, product: CoupledProduct, edges: Edges | None) -> Tensor:
        ctx.save_for_backward(x, y, weight)
        ctx.product, ctx.edges = product, edges
        inputs = _Inputs(product, x, y, weight, edges)
        size = len(y) if edges is None else edges.size
        outputs = [y.new_zeros(size, group.dim, group.channels) for group in product.groups]
        _multiply(inputs, outputs)
        return product.join(outputs, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            leaves = [t for t, want in zip((x, y, weight), wanted, strict=True) if want]
            out = ctx.product(x, y, weight, ctx.edges)
            found = iter(torch.autograd.grad(out, leaves, grads[0], create_graph=True, allow_unused=True))
            return (*(next(found) if want else None for want in wanted), None, None)
        return (*_gradients(_Inputs(ctx.product, x, y, weight, ctx.edges), grads[0], *wanted), None, None)


# --- blocks of rows --------------------------------------------------------------------------------------------------
class _Inputs:
    """A product and its inputs, those of x in the inner layout."""

    def __init__(self, product: CoupledProduct, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None) -> None:
        self.product, self.y, self.weight, self.edges = product, y, weight, edges
        self.x = product.split(x)
        self.row_bytes = max(group.rows * group.channels for group in product.groups) * y.element_size()

    def blocks(self) -> list[slice]:
        """The rows in blocks."""
        size = max(64, BLOCK_BYTES // self.row_bytes)
        return [slice(start, min(start + size, len(self.y))) for start in range(0, len(self.y), size)]

    def gather(self, rows: slice, scratch: Scratch) -> list[Tensor]:
        """Blocks ``[2 l + 1, E, mul]``, contiguous, of the rows of x that meet these rows of y."""
        parts: list[Tensor] = []
        for n, block in enumerate(self.x):
            part = scratch(f"x{n}", block.shape[0], rows.stop - rows.start, block.shape[2])
            if self.edges is None:
                part.copy_(block[:, rows])
            else:
                torch.index_select(block, 1, self.edges.source[rows], out=part)
            parts.append(part)
        return parts

    def weights(self, group: Group, rows: slice, scratch: Scratch) -> Tensor:
        """Depthwise ``[pairs, E, channels]``; connected ``[1, group's]``."""
        if self.product.form == "connected":
            return self.weight[:, group.weights]
        weight = self.weight if len(self.weight) == 1 else self.weight[rows]
        w = weight[:, group.weights].unflatten(-1, (group.pairs, group.channels)).transpose(0, 1)
        return scratch("w", group.pairs, rows.stop - rows.start, group.channels).copy_(w)

    def fill(self, group: Group, x: list[Tensor], w: Tensor, scratch: Scratch) -> Tensor:
        """Z ``[rows, E, channels]``."""
        Z = scratch("Z", group.rows, x[0].shape[1], group.channels)
        if self.product.form == "depthwise":
            for s in group.segments:
                block = x[s.block]
                torch.mul(block[None], w[s.pairs, None], out=Z[s.rows].view(-1, *block.shape))
            return Z
        for s, W in zip(group.segments, self.product.mixing(group, w), strict=True):
            flat = x[s.block].view(-1, W.shape[1])
            for v, part in enumerate(Z[s.rows].chunk(W.shape[2])):
                torch.mm(flat, W[0, :, v], out=part.view(-1, group.channels))
        return Z


# --- forward ---------------------------------------------------------------------------------------------------------
def _multiply(inputs: _Inputs, outputs: list[Tensor]) -> None:
    """Add the products of all rows to the components ``[N, dim, channels]`` of each group."""
    edges, scratch = inputs.edges, Scratch(inputs.y)
    for rows in inputs.blocks():
        x, y = inputs.gather(rows, scratch), inputs.y[rows]
        for group, out in zip(inputs.product.groups, outputs, strict=True):
            Z = inputs.fill(group, x, inputs.weights(group, rows, scratch), scratch)
            M = group.matrix(y, scratch)
            if edges is None:
                torch.bmm(M, Z.transpose(0, 1), out=out[rows])
            else:
                part = torch.bmm(M, Z.transpose(0, 1), out=scratch("out", len(y), group.dim, group.channels))
                out.index_add_(0, edges.target[rows], part)


# --- backward --------------------------------------------------------------------------------------------------------
def _gradients(
    inputs: _Inputs, grad: Tensor, want_x: bool, want_y: bool, want_weight: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, y and weight, those that are wanted."""
    product, scratch = inputs.product, Scratch(inputs.y)
    totals_x = [b.new_zeros(b.shape[1], b.shape[0], b.shape[2]) for b in inputs.x] if want_x else None
    total_y = torch.zeros_like(inputs.y) if want_y else None
    total_weight = torch.zeros_like(inputs.weight) if want_weight else None
    outgoing = product.split_outputs(grad)
    for rows in inputs.blocks():
        _differentiate(inputs, rows, outgoing, totals_x, total_y, total_weight, scratch)
    grad_x = None if totals_x is None else torch.cat([total.mT.flatten(1) for total in totals_x], -1)
    return grad_x, total_y, total_weight


def _differentiate(
    inputs: _Inputs,
    rows: slice,
    outgoing: list[Tensor],
    totals_x: list[Tensor] | None,
    total_y: Tensor | None,
    total_weight: Tensor | None,
    scratch: Scratch,
) -> None:
    """Add what one block of rows gives to the gradients."""
    x, y, edges = inputs.gather(rows, scratch), inputs.y[rows], inputs.edges
    n = len(y)
    grads_x = (
        [scratch(f"grad x{i}", *block.shape).zero_() for i, block in enumerate(x)] if totals_x is not None else None
    )
    for group, sent in zip(inputs.product.groups, outgoing, strict=True):
        g = sent[rows]
        if edges is not None:
            g = torch.index_select(sent, 0, edges.target[rows], out=scratch("out", n, group.dim, group.channels))
        w = inputs.weights(group, rows, scratch)
        if total_y is not None:
            Z = inputs.fill(group, x, w, scratch)
            grad_M = torch.bmm(g, Z.permute(1, 2, 0), out=scratch("M", n, group.dim, group.rows))
            group.pull_back(grad_M, total_y[rows])
        if grads_x is None and total_weight is None:
            continue
        swapped = scratch("swapped", n, group.rows, group.channels)
        torch.bmm(group.matrix(y, scratch).mT, g, out=swapped)
        # Components first again: the products behind are 4 times faster along memory.
        grad_Z = scratch("Z", group.rows, n, group.channels).copy_(swapped.transpose(0, 1))
        if inputs.product.form == "connected":
            _unmix(inputs.product, group, grad_Z, x, w, grads_x, total_weight)
            continue
        grad_w = scratch("grad w", *w.shape).zero_() if total_weight is not None else None
        _unscale(group, grad_Z, x, w, grads_x, grad_w)
        if total_weight is not None and grad_w is not None:
            if len(total_weight) == 1:
                total_weight[0, group.weights] += grad_w.sum(1).flatten()
            else:
                shape = (n, group.pairs, group.channels)
                total_weight[rows, group.weights].view(shape).copy_(grad_w.transpose(0, 1))
    for total, part in zip(totals_x or [], grads_x or [], strict=True):
        if edges is None:
            total[rows] = part.transpose(0, 1)
        else:
            flipped = scratch("out", n, part.shape[0], part.shape[2]).copy_(part.transpose(0, 1))
            total.index_add_(0, edges.source[rows], flipped)


def _unscale(
    group: Group, grad_Z: Tensor, x: list[Tensor], w: Tensor, grads_x: list[Tensor] | None, grad_w: Tensor | None
) -> None:
    """Depthwise: add to the gradients of x and w."""
    for s in group.segments:
        g = grad_Z[s.rows].view(-1, *x[s.block].shape)  # [pairs, 2 l1 + 1, E, channels]
        if grads_x is not None:
            for part, weight in zip(g, w[s.pairs], strict=True):
                grads_x[s.block].addcmul_(part, weight)
        if grad_w is not None:
            for part, component in zip(g.unbind(1), x[s.block], strict=True):
                grad_w[s.pairs].addcmul_(part, component)


def _unmix(
    product: CoupledProduct,
    group: Group,
    grad_Z: Tensor,
    x: list[Tensor],
    w: Tensor,
    grads_x: list[Tensor] | None,
    total_weight: Tensor | None,
) -> None:
    """Connected: add to the gradients of x and of the weights."""
    own = total_weight[:, group.weights] if total_weight is not None else w
    for s, W, target in zip(group.segments, product.mixing(group, w), product.mixing(group, own), strict=True):
        flat = x[s.block].view(-1, W.shape[1])
        for v, part in enumerate(grad_Z[s.rows].chunk(W.shape[2])):
            g = part.view(-1, group.channels)
            if grads_x is not None:
                grads_x[s.block].view(flat.shape).addmm_(g, W[0, :, v].mT)
            if total_weight is not None:
                target[0, :, v] += flat.mT @ g
