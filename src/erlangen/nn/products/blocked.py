"""`CoupledProduct` in blocks of rows that stay in the cache, with its gradient; sums over edges on the way.

Each block makes M and Z, multiplies them and adds the result to where it belongs; the backward pass makes M and Z
again. So the memory is that of inputs and outputs. The second derivative is that of the plain product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erlangen.nn.products.coupled import CoupledProduct, Edges, Group

BLOCK_BYTES = 1 << 22
"""Size of Z of one block. From 2 to 16 MB the time is about the same on a core with 2 MB of second-level cache."""


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
        work = _Workspace(product, x, y, weight, edges)
        size = len(y) if edges is None else edges.size
        outputs = [y.new_zeros(size, group.dim, group.channels) for group in product.groups]
        for rows in work.blocks():
            inputs = work.gather(rows)
            for n, group in enumerate(product.groups):
                Z = work.fill(group, inputs, work.weights(group, rows))
                part = torch.bmm(group.matrix(y[rows]), Z.transpose(0, 1))
                if edges is None:
                    outputs[n][rows] = part
                else:
                    outputs[n].index_add_(0, edges.target[rows], part)
        return product.join(outputs, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            inputs = [t for t, want in zip(saved, wanted, strict=True) if want]
            out = ctx.product(*saved, ctx.edges)
            found = iter(torch.autograd.grad(out, inputs, grads[0], create_graph=True, allow_unused=True))
            return (*(next(found) if want else None for want in wanted), None, None)
        x, y, weight = saved
        return (*_Gradients(ctx.product, x, y, weight, ctx.edges).of(grads[0], *wanted), None, None)


class _Workspace:
    """Inputs in the inner layout, and the memory that all blocks share."""

    def __init__(self, product: CoupledProduct, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None) -> None:
        self.product, self.y, self.weight, self.edges = product, y, weight, edges
        self.x = product.split(x)
        width = max(group.rows * group.channels for group in product.groups)
        self.size = min(len(y), max(64, BLOCK_BYTES // (width * y.element_size())))
        self.Z = y.new_empty(width * self.size)

    def blocks(self) -> list[slice]:
        """Rows of each block."""
        return [slice(start, min(start + self.size, len(self.y))) for start in range(0, len(self.y), max(self.size, 1))]

    def gather(self, rows: slice) -> list[Tensor]:
        """Blocks ``[2 l + 1, E, mul]`` of the rows of x that meet these rows of y."""
        if self.edges is None:
            return [block[:, rows] for block in self.x]
        source = self.edges.source[rows]
        return [block.index_select(1, source) for block in self.x]

    def weights(self, group: Group, rows: slice) -> Tensor:
        """Depthwise ``[pairs, E, channels]``; connected ``[1, group's]``."""
        if self.product.form == "connected":
            return self.weight[:, group.weights]
        weight = self.weight if len(self.weight) == 1 else self.weight[rows]
        w = weight[:, group.weights].unflatten(-1, (group.pairs, group.channels)).transpose(0, 1)
        return w.expand(-1, len(self.y[rows]), -1).contiguous()

    def fill(self, group: Group, x: list[Tensor], w: Tensor) -> Tensor:
        """Z ``[rows, E, channels]`` in the shared memory."""
        n, C = x[0].shape[1], group.channels
        Z = self.Z[: group.rows * n * C].view(group.rows, n, C)
        if self.product.form == "depthwise":
            for s in group.segments:
                block = x[s.block]
                torch.mul(block[None], w[s.pairs, None], out=Z[s.rows].view(-1, *block.shape))
            return Z
        for s, W in zip(group.segments, self.product.mixing(group, w), strict=True):
            flat = x[s.block].reshape(-1, W.shape[1])
            for v, part in enumerate(Z[s.rows].chunk(W.shape[2])):
                torch.mm(flat, W[0, :, v], out=part.view(-1, C))
        return Z


class _Gradients:
    """The gradient of a product, block by block."""

    def __init__(self, product: CoupledProduct, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None) -> None:
        self.work = _Workspace(product, x, y, weight, edges)
        self.product, self.edges = product, edges

    def of(self, grad: Tensor, want_x: bool, want_y: bool, want_weight: bool) -> list[Tensor | None]:
        """Gradients with respect to x, y and weight, those that are wanted."""
        work, product = self.work, self.product
        outgoing = product.split_outputs(grad)
        total_x = [block.new_zeros(block.shape[1], block.shape[0], block.shape[2]) for block in work.x]
        total_y = torch.zeros_like(work.y) if want_y else None
        total_weight = torch.zeros_like(work.weight) if want_weight else None
        for rows in work.blocks():
            inputs, y = work.gather(rows), work.y[rows]
            grads_x = [torch.zeros_like(block) for block in inputs] if want_x else None
            for group, sent in zip(product.groups, outgoing, strict=True):
                g = sent[rows] if self.edges is None else sent.index_select(0, self.edges.target[rows])
                w = work.weights(group, rows)
                if total_y is not None:
                    Z = work.fill(group, inputs, w)
                    self._add_to_y(total_y[rows], group, y, torch.bmm(g, Z.permute(1, 2, 0)))
                if want_x or total_weight is not None:
                    grad_Z = torch.bmm(group.matrix(y).mT, g).transpose(0, 1).contiguous()
                    grad_w = self._spread(group, grad_Z, inputs, w, grads_x, want_weight)
                    if total_weight is not None and grad_w is not None:
                        self._add_to_weight(total_weight, group, rows, grad_w)
            for total, part in zip(total_x, grads_x or [], strict=False):
                if self.edges is None:
                    total[rows] = part.transpose(0, 1)
                else:
                    total.index_add_(0, self.edges.source[rows], part.transpose(0, 1).contiguous())
        grad_x = torch.cat([total.mT.flatten(1) for total in total_x], -1) if want_x else None
        return [grad_x, total_y, total_weight]

    def _add_to_y(self, total: Tensor, group: Group, y: Tensor, grad_M: Tensor) -> None:
        if group.single:
            total.addmm_(grad_M.flatten(1), group.table(y).mT)
        else:
            # Linear in y, so its own vector-Jacobian product is exact and needs no second formula.
            with torch.enable_grad():
                leaf = y.detach().requires_grad_()
                total += torch.autograd.grad(group.matrix(leaf), leaf, grad_M)[0]

    def _spread(
        self,
        group: Group,
        grad_Z: Tensor,
        x: list[Tensor],
        w: Tensor,
        grads_x: list[Tensor] | None,
        want_weight: bool,
    ) -> Tensor | None:
        """Add to the gradients of x; return that of w."""
        if self.product.form == "connected":
            return self._spread_mixing(group, grad_Z, x, w, grads_x, want_weight)
        grad_w = torch.zeros_like(w) if want_weight else None
        for s in group.segments:
            g = grad_Z[s.rows].view(-1, *x[s.block].shape)  # [pairs, 2 l1 + 1, E, channels]
            if grads_x is not None:
                for part, weight in zip(g, w[s.pairs], strict=True):
                    grads_x[s.block].addcmul_(part, weight)
            if grad_w is not None:
                for part, component in zip(g.unbind(1), x[s.block], strict=True):
                    grad_w[s.pairs].addcmul_(part, component)
        return grad_w

    def _spread_mixing(
        self,
        group: Group,
        grad_Z: Tensor,
        x: list[Tensor],
        w: Tensor,
        grads_x: list[Tensor] | None,
        want_weight: bool,
    ) -> Tensor | None:
        grad_w = torch.zeros_like(w) if want_weight else None
        targets = self.product.mixing(group, w if grad_w is None else grad_w)
        for s, W, target in zip(group.segments, self.product.mixing(group, w), targets, strict=True):
            flat = x[s.block].reshape(-1, W.shape[1])
            for v, part in enumerate(grad_Z[s.rows].chunk(W.shape[2])):
                g = part.reshape(-1, group.channels)
                if grads_x is not None:
                    grads_x[s.block].view(flat.shape).addmm_(g, W[0, :, v].mT)
                if grad_w is not None:
                    target[0, :, v] += flat.mT @ g
        return grad_w

    def _add_to_weight(self, total: Tensor, group: Group, rows: slice, grad_w: Tensor) -> None:
        if self.product.form == "connected":
            total[:, group.weights] += grad_w
        elif len(total) == 1:
            total[0, group.weights] += grad_w.sum(1).flatten()
        else:
            total[rows, group.weights] = grad_w.transpose(0, 1).flatten(1)
