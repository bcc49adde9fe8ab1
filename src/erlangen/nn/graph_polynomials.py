"""Equivariant polynomials of a matrix, evaluated by the cheapest order of contractions."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError, ShapeError
from erlangen.geometry.multigraph_basis import Multigraph
from erlangen.nn.segments import check_mask

__all__ = ["GraphPolynomials"]

TYPICAL_NODES = 30
"""Size for which contraction orders are planned; the best order hardly depends on it."""


class _Plan(NamedTuple):
    """How one polynomial is computed: steps of einsum over at most two operands, and their cost."""

    steps: tuple[tuple[tuple[int, ...], str], ...]
    flops: float


class GraphPolynomials(nn.Module):
    """Polynomials of a matrix that commute with permutations of the nodes, one for each multigraph.

    ``P_H(X)`` sums, over all placements of the vertices of H with its outputs at the nodes of the result, the product of the
    entries of X along the edges (see `erlangen.geometry.multigraph_basis`). Each is an einsum; opt_einsum plans its order once.

    Args:
        multigraphs: of one order; they need not be connected.
        normalize: divide every polynomial by its largest possible number of terms, ``n`` to the number of inner vertices, so
            that features of graphs of different size are comparable and stay small.

    Attributes:
        order: 0, 1 or 2, that of the multigraphs.
        flops: estimated operations of all polynomials for one graph of 30 nodes.

    Raises:
        ErlangenError: no multigraphs, or of different orders.

    >>> triangle = Multigraph(((0, 1), (1, 2), (2, 0)))
    >>> complete = 1 - torch.eye(4)
    >>> GraphPolynomials([triangle])(complete)  # each of four triangles, from each corner, both ways round
    tensor([24.])
    """

    def __init__(self, multigraphs: Sequence[Multigraph], *, normalize: bool = False) -> None:
        super().__init__()
        orders = {graph.order for graph in multigraphs}
        if len(orders) != 1:
            raise ErlangenError(
                f"multigraphs have the orders {sorted(orders)}; give at least one, and all of one order"
            )
        self.multigraphs, self.normalize, self.order = tuple(multigraphs), normalize, orders.pop()
        self._plans = [_planned(graph) for graph in self.multigraphs]
        self.flops = sum(plan.flops for plan in self._plans)

    def forward(self, X: Tensor, mask: Tensor | None = None) -> Tensor:
        """Values ``[..., K]``, ``[..., n, K]`` or ``[..., n, n, K]``, by the order.

        Args:
            X: matrices ``[..., n, n]``. Counts of large dense graphs outgrow float32: pass float64, or normalize.
            mask: nodes that exist, bool ``[..., n]``; a sum runs over these alone, and results for others are zero.

        Raises:
            ShapeError: X is not square, or the mask does not fit.
        """
        if X.dim() < 2 or X.shape[-1] != X.shape[-2]:
            raise ShapeError(f"X has shape {tuple(X.shape)}; pass square matrices [..., n, n]")
        lead, n = X.shape[:-2], X.shape[-1]
        if mask is not None:
            check_mask(mask, (*lead, n))
        whole = X.reshape(-1, n, n)
        exists = X.new_ones(len(whole), n) if mask is None else mask.reshape(-1, n).to(X.dtype)
        matrix = whole if mask is None else whole * exists[:, :, None] * exists[:, None, :]
        values = [
            self._value(graph, plan, matrix, exists) for graph, plan in zip(self.multigraphs, self._plans, strict=True)
        ]
        return torch.stack(values, -1).reshape(*lead, *[n] * self.order, len(values))

    def _value(self, graph: Multigraph, plan: _Plan, matrix: Tensor, exists: Tensor) -> Tensor:
        parts: list[Tensor] = [*[matrix] * graph.degree, *[exists] * len(set(graph.outputs))]
        for taken, equation in plan.steps:
            operands = [parts[k] for k in taken]
            parts = [part for k, part in enumerate(parts) if k not in taken]
            parts.append(torch.einsum(equation, *operands))
        (value,) = parts
        value = torch.diag_embed(value) if len(graph.outputs) == 2 and len(set(graph.outputs)) == 1 else value
        if not self.normalize:
            return value
        inner = graph.vertices - len(set(graph.outputs))
        count = exists.sum(1).clamp(min=1) ** inner
        return value / count.reshape(-1, *[1] * self.order)

    def extra_repr(self) -> str:
        """Number and order."""
        return f"{len(self.multigraphs)} of order {self.order}, normalize={self.normalize}"


def _planned(graph: Multigraph) -> _Plan:
    """Contractions of ``X`` for each edge and of ones for each output, so that outputs without edges are broadcast."""
    import opt_einsum

    names = string.ascii_letters[1:]
    batch, outputs = string.ascii_letters[0], sorted(set(graph.outputs), key=graph.outputs.index)
    operands = [batch + names[r] + names[s] for r, s in graph.edges] + [batch + names[v] for v in outputs]
    result = batch + "".join(names[v] for v in outputs)
    shapes = [(1, *[TYPICAL_NODES] * (len(operand) - 1)) for operand in operands]
    equation = f"{','.join(operands)}->{result}"
    how = "optimal" if len(operands) <= 8 else "auto"
    info: Any = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=how)[1]
    steps = tuple((tuple(sorted(step[0], reverse=True)), str(step[2])) for step in info.contraction_list)
    return _Plan(steps, float(info.opt_cost))
