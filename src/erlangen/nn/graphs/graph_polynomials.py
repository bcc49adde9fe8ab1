"""Equivariant polynomials of a matrix: by the cheapest order of contractions, and by products of matrices alone."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError
from erlangen.geometry.multigraph_basis import Multigraph, is_computable
from erlangen.nn.segments import check_mask

__all__ = ["GraphPolynomials", "MatrixProgram", "MatrixStep"]

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

    >>> triangle = Multigraph(((0, 1), (1, 2), (2, 0)))
    >>> complete = 1 - torch.eye(4)
    >>> GraphPolynomials([triangle])(complete)  # each of four triangles, from each corner, both ways round
    tensor([24.])

    Args:
        multigraphs: of one order; they need not be connected.
        normalize: divide every polynomial by its largest possible number of terms, ``n`` to the number of inner vertices, so
            that features of graphs of different size are comparable and stay small.

    Attributes:
        order: 0, 1 or 2, that of the multigraphs.
        flops: estimated operations of all polynomials for one graph of 30 nodes.

    Raises:
        ErlangenError: no multigraphs, or of different orders.
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
        parts: list[Tensor] = [*[matrix] * graph.degree, *[exists] * len(_bare(graph))]
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

    @override
    def extra_repr(self) -> str:
        return f"{len(self.multigraphs)} of order {self.order}, normalize={self.normalize}"


def _bare(graph: Multigraph) -> list[int]:
    """Outputs without edges."""
    return [v for v in dict.fromkeys(graph.outputs) if not any(v in edge for edge in graph.edges)]


def _planned(graph: Multigraph) -> _Plan:
    """Contractions of ``X`` for each edge and of ones for each output without edges, so that it is broadcast."""
    import opt_einsum

    names = string.ascii_letters[1:]
    batch, outputs = string.ascii_letters[0], sorted(set(graph.outputs), key=graph.outputs.index)
    operands = [batch + names[r] + names[s] for r, s in graph.edges] + [batch + names[v] for v in _bare(graph)]
    result = batch + "".join(names[v] for v in outputs)
    shapes = [(1, *[TYPICAL_NODES] * (len(operand) - 1)) for operand in operands]
    equation = f"{','.join(operands)}->{result}"
    # The exhaustive search does not see every order where more than two operands share an index; the greedy one finds others.
    plans: list[Any] = [
        opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=how)[1]
        for how in ("optimal" if len(operands) <= 6 else "auto", "greedy")
    ]
    info = min(plans, key=lambda plan: plan.opt_cost)
    steps = tuple((tuple(sorted(step[0], reverse=True)), str(step[2])) for step in info.contraction_list)
    return _Plan(steps, float(info.opt_cost))


# --- products of matrices alone ----------------------------------------------------------------------------------------
Operation: TypeAlias = Literal["input", "ones", "identity", "transpose", "hadamard", "matmul"]


class MatrixStep(NamedTuple):
    """One matrix of a program: an operation, and which of the matrices before it takes."""

    operation: Operation
    operands: tuple[int, ...] = ()


class MatrixProgram(nn.Module):
    """A polynomial of a matrix, computed as a provably powerful graph network does: without any tensor of order three.

    Inner vertices of the multigraph are removed one by one, in the order in which `is_computable` removes them. A vertex with
    the neighbours a and b becomes a product of matrices, whose result multiplies the entries of the edge (a, b); a vertex with
    one neighbour becomes a product with a matrix of equal columns, that is, a number per node. (Puny et al., "Equivariant
    Polynomials for Graph Neural Networks", ICML 2023, section 4.)

    >>> program = MatrixProgram(Multigraph(((0, 1), (1, 2), (2, 0))))
    >>> [step.operation for step in program.steps]
    ['input', 'transpose', 'matmul', 'hadamard', 'ones', 'transpose', 'matmul', 'matmul']
    >>> program(1 - torch.eye(4))
    tensor(24.)

    Args:
        graph: the multigraph; it need not be connected.

    Attributes:
        steps: a `MatrixStep` for each matrix, the last of which holds the result.

    Raises:
        ErlangenError: products of matrices cannot compute the polynomial.
    """

    def __init__(self, graph: Multigraph) -> None:
        super().__init__()
        if not is_computable(graph, 2):
            raise ErlangenError(
                f"{graph} cannot be computed by products of matrices: some inner vertices keep three neighbours; evaluate it "
                "with GraphPolynomials"
            )
        self.order = graph.order
        self.steps = _Writer(graph).written()

    def forward(self, X: Tensor) -> Tensor:
        """Values ``[...]``, ``[..., n]`` or ``[..., n, n]``, by the order, of matrices ``[..., n, n]``, n at least 1.

        Raises:
            ShapeError: X is not square, or empty.
        """
        if X.dim() < 2 or X.shape[-1] != X.shape[-2] or X.shape[-1] < 1:
            raise ShapeError(f"X has shape {tuple(X.shape)}; pass square matrices [..., n, n] of at least one node")
        found: list[Tensor] = []
        for operation, operands in self.steps:
            found.append(_computed(operation, [found[k] for k in operands], X))
        return found[-1] if self.order == 2 else found[-1][..., 0] if self.order == 1 else found[-1][..., 0, 0]

    @override
    def extra_repr(self) -> str:
        return "\n".join(
            f"{k} = {operation}({', '.join(map(str, operands))})" for k, (operation, operands) in enumerate(self.steps)
        )


def _computed(operation: Operation, operands: list[Tensor], X: Tensor) -> Tensor:
    if operation == "input":
        return X
    if operation == "ones":
        return torch.ones_like(X)
    if operation == "identity":
        return torch.eye(X.shape[-1], dtype=X.dtype, device=X.device).expand_as(X)
    if operation == "transpose":
        return operands[0].mT
    return operands[0] * operands[1] if operation == "hadamard" else operands[0] @ operands[1]


class _Writer:
    """Writes the steps of a program.

    What is known of an edge (a, b) is a matrix with a at its rows; what is known of a vertex is a matrix with equal columns; of
    no vertex, one with equal entries.
    """

    def __init__(self, graph: Multigraph) -> None:
        self.graph, self.steps = graph, list[MatrixStep]()
        self.edges: dict[tuple[int, int], int] = {}
        self.nodes: dict[int, int] = {}
        self.number: int | None = None

    def written(self) -> tuple[MatrixStep, ...]:
        """All steps; the multigraph must be computable."""
        X = self.step("input")
        for r, s in self.graph.edges:
            if r == s:
                self.at_node(r, self.step("matmul", self.step("hadamard", X, self.step("identity")), self.step("ones")))
            else:
                self.at_edge(r, s, X)
        inner = set(range(self.graph.vertices)) - set(self.graph.outputs)
        while inner:
            gone = min(inner, key=lambda v: len(self.near(v)))
            inner.discard(gone)
            self.remove(gone)
        last = self.result()
        if last != len(self.steps) - 1:  # the result is the last step, also where nothing was left to do
            self.steps.append(MatrixStep("hadamard", (last, self.step("ones"))))
        return tuple(self.steps)

    def step(self, operation: Operation, *operands: int) -> int:
        """The number of this step, which is written if it is new."""
        wanted = MatrixStep(operation, operands)
        if wanted not in self.steps:
            self.steps.append(wanted)
        return self.steps.index(wanted)

    def near(self, v: int) -> list[int]:
        return [b if a == v else a for a, b in self.edges if v in (a, b)]

    def times(self, a: int | None, b: int) -> int:
        return b if a is None else self.step("hadamard", a, b)

    def at_node(self, v: int, matrix: int) -> None:
        self.nodes[v] = self.times(self.nodes.get(v), matrix)

    def at_edge(self, a: int, b: int, matrix: int) -> None:
        if a > b:
            a, b, matrix = b, a, self.step("transpose", matrix)
        self.edges[a, b] = self.times(self.edges.get((a, b)), matrix)

    def from_edge(self, a: int, b: int) -> int:
        """The matrix of an edge, with a at its rows; the edge is forgotten."""
        matrix = self.edges.pop((min(a, b), max(a, b)))
        return matrix if a < b else self.step("transpose", matrix)

    def remove(self, v: int) -> None:
        """Sum over the places of a vertex."""
        near, own = self.near(v), self.nodes.pop(v, None)
        if len(near) == 2:
            first, last = self.from_edge(near[0], v), self.from_edge(v, near[1])
            last = last if own is None else self.step("hadamard", own, last)
            self.at_edge(near[0], near[1], self.step("matmul", first, last))
            return
        vector = self.step("ones") if own is None else own
        if near:
            self.at_node(near[0], self.step("matmul", self.from_edge(near[0], v), vector))
        else:
            self.number = self.times(self.number, self.step("matmul", self.step("ones"), vector))

    def result(self) -> int:
        """All that is left, multiplied."""
        found = self.number
        outputs = self.graph.outputs
        if len(outputs) == 2 and outputs[0] == outputs[1]:
            found = self.times(found, self.step("identity"))
        elif len(outputs) == 2 and self.edges:
            found = self.times(found, self.from_edge(*outputs))
        for axis, v in enumerate(dict.fromkeys(outputs)):
            if v in self.nodes:
                node = self.nodes[v]
                found = self.times(found, self.step("transpose", node) if axis else node)
        return self.step("ones") if found is None else found
