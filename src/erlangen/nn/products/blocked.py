"""`CoupledProduct` in blocks of rows that stay in the cache, with its gradient; sums over edges on the way.

Each block makes M and Z, multiplies them and adds the result to where it belongs; the backward pass makes M and Z
again. So the memory is that of inputs and outputs. On the CPU, every thread takes blocks of its own: the operations of
one block are too small to be shared. The second derivative is that of the plain product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from erlangen._threads import row_shares, run_on_threads
from erlangen.nn.products.coupled import CoupledProduct, Edges, Group

BLOCK_BYTES = 1 << 22
"""Size of Z of one block. From 1 to 8 MB the time is about the same on a core with 2 MB of second-level cache."""


def blocked(product: CoupledProduct, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None = None) -> Tensor:
    """``product(x, y, weight, edges)``, in blocks where that is possible: not inside of compilers and transforms."""
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    own_mixing = product.form == "connected" and len(weight) != 1
    if traced or own_mixing or not product.groups:
        return product(x, y, weight, edges)
    return _Blocked.apply(x, y, weight, product, edges)


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, product: CoupledProduct, edges: Edges | None) -> Tensor:
        ctx.save_for_backward(x, y, weight)
        ctx.product, ctx.edges = product, edges
        inputs = _Inputs(product, x, y, weight, edges)
        size = len(y) if edges is None else edges.size
        sums = [_Sum(y.new_zeros(size, g.dim, g.channels), by_row=edges is None) for g in product.groups]
        return product.join(_in_shares(inputs, _multiply, sums), y)

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


# --- shares of the rows ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Sum:
    """A result; `by_row` where every row of y writes to its own place, so that threads may share it."""

    total: Tensor
    by_row: bool


class _Inputs:
    """A product and its inputs, those of x in the inner layout."""

    def __init__(self, product: CoupledProduct, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None) -> None:
        self.product, self.y, self.weight, self.edges = product, y, weight, edges
        self.x = product.split(x)
        self.row_bytes = max(group.rows * group.channels for group in product.groups) * y.element_size()

    def blocks(self, share: slice) -> list[slice]:
        """A share in blocks."""
        size = max(64, BLOCK_BYTES // self.row_bytes)
        return [slice(start, min(start + size, share.stop)) for start in range(share.start, share.stop, size)]

    def gather(self, rows: slice) -> list[Tensor]:
        """Blocks ``[2 l + 1, E, mul]``, contiguous, of the rows of x that meet these rows of y."""
        if self.edges is None:
            return [block[:, rows].contiguous() for block in self.x]
        source = self.edges.source[rows]
        return [block.index_select(1, source) for block in self.x]

    def weights(self, group: Group, rows: slice) -> Tensor:
        """Depthwise ``[pairs, E, channels]``; connected ``[1, group's]``."""
        if self.product.form == "connected":
            return self.weight[:, group.weights]
        weight = self.weight if len(self.weight) == 1 else self.weight[rows]
        w = weight[:, group.weights].unflatten(-1, (group.pairs, group.channels)).transpose(0, 1)
        return w.expand(-1, rows.stop - rows.start, -1).contiguous()

    def fill(self, group: Group, x: list[Tensor], w: Tensor) -> Tensor:
        """Z ``[rows, E, channels]``."""
        Z = self.y.new_empty(group.rows, x[0].shape[1], group.channels)
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


def _in_shares(inputs: _Inputs, work: Callable[[_Inputs, slice, list[Tensor]], None], sums: list[_Sum]) -> list[Tensor]:
    """Do the work for all rows, on threads if there are several shares; sums that collide are kept apart until the end."""
    shares = row_shares(len(inputs.y), inputs.row_bytes, inputs.y.device)
    totals = [
        [s.total if n == 0 or s.by_row else torch.zeros_like(s.total) for s in sums] for n, _ in enumerate(shares)
    ]
    run_on_threads(work, [(inputs, share, total) for share, total in zip(shares, totals, strict=True)])
    for others in totals[1:]:
        for s, part in zip(sums, others, strict=True):
            if not s.by_row:
                s.total.add_(part)
    return [s.total for s in sums]


# --- forward ---------------------------------------------------------------------------------------------------------
def _multiply(inputs: _Inputs, share: slice, outputs: list[Tensor]) -> None:
    """Add the products of some rows to the components ``[N, dim, channels]`` of each group."""
    edges = inputs.edges
    for rows in inputs.blocks(share):
        x, y = inputs.gather(rows), inputs.y[rows]
        for group, out in zip(inputs.product.groups, outputs, strict=True):
            Z = inputs.fill(group, x, inputs.weights(group, rows))
            part = torch.bmm(group.matrix(y), Z.transpose(0, 1))
            if edges is None:
                out[rows] = part
            else:
                out.index_add_(0, edges.target[rows], part)


# --- backward --------------------------------------------------------------------------------------------------------
def _gradients(
    inputs: _Inputs, grad: Tensor, want_x: bool, want_y: bool, want_weight: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, y and weight, those that are wanted."""
    product, y, weight = inputs.product, inputs.y, inputs.weight
    sums_x = (
        [_Sum(b.new_zeros(b.shape[1], b.shape[0], b.shape[2]), inputs.edges is None) for b in inputs.x]
        if want_x
        else []
    )
    sums_y = [_Sum(torch.zeros_like(y), True)] if want_y else []
    sums_weight = [_Sum(torch.zeros_like(weight), len(weight) > 1)] if want_weight else []
    outgoing = product.split_outputs(grad)

    def work(inputs: _Inputs, share: slice, totals: list[Tensor]) -> None:
        n = len(sums_x)
        total_y = totals[n] if want_y else None
        total_weight = totals[-1] if want_weight else None
        for rows in inputs.blocks(share):
            _differentiate(inputs, rows, outgoing, totals[:n] if want_x else None, total_y, total_weight)

    totals = _in_shares(inputs, work, [*sums_x, *sums_y, *sums_weight])
    n = len(sums_x)
    grad_x = torch.cat([total.mT.flatten(1) for total in totals[:n]], -1) if want_x else None
    return grad_x, totals[n] if want_y else None, totals[-1] if want_weight else None


def _differentiate(
    inputs: _Inputs,
    rows: slice,
    outgoing: list[Tensor],
    totals_x: list[Tensor] | None,
    total_y: Tensor | None,
    total_weight: Tensor | None,
) -> None:
    """Add what one block of rows gives to the gradients."""
    x, y, edges = inputs.gather(rows), inputs.y[rows], inputs.edges
    grads_x = [torch.zeros_like(block) for block in x] if totals_x is not None else None
    for group, sent in zip(inputs.product.groups, outgoing, strict=True):
        g = sent[rows] if edges is None else sent.index_select(0, edges.target[rows])
        w = inputs.weights(group, rows)
        if total_y is not None:
            group.pull_back(torch.bmm(g, inputs.fill(group, x, w).permute(1, 2, 0)), total_y[rows])
        if grads_x is None and total_weight is None:
            continue
        # Components first again: the products behind are 4 times faster along memory.
        grad_Z = torch.bmm(group.matrix(y).mT, g).transpose(0, 1).contiguous()
        if inputs.product.form == "connected":
            _unmix(inputs.product, group, grad_Z, x, w, grads_x, total_weight)
        else:
            grad_w = _unscale(group, grad_Z, x, w, grads_x, total_weight is not None)
            if total_weight is not None and grad_w is not None:
                if len(total_weight) == 1:
                    total_weight[0, group.weights] += grad_w.sum(1).flatten()
                else:
                    total_weight[rows, group.weights] = grad_w.transpose(0, 1).flatten(1)
    for total, part in zip(totals_x or [], grads_x or [], strict=True):
        if edges is None:
            total[rows] = part.transpose(0, 1)
        else:
            total.index_add_(0, edges.source[rows], part.transpose(0, 1).contiguous())


def _unscale(
    group: Group, grad_Z: Tensor, x: list[Tensor], w: Tensor, grads_x: list[Tensor] | None, want_w: bool
) -> Tensor | None:
    """Depthwise: add to the gradients of x, return that of w."""
    grad_w = torch.zeros_like(w) if want_w else None
    for s in group.segments:
        g = grad_Z[s.rows].view(-1, *x[s.block].shape)  # [pairs, 2 l1 + 1, E, channels]
        if grads_x is not None:
            for part, weight in zip(g, w[s.pairs], strict=True):
                grads_x[s.block].addcmul_(part, weight)
        if grad_w is not None:
            for part, component in zip(g.unbind(1), x[s.block], strict=True):
                grad_w[s.pairs].addcmul_(part, component)
    return grad_w


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
