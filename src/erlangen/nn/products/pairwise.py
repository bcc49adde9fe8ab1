"""Clebsch-Gordan products without weights: every pair of copies ("full"), or copy by copy ("elementwise")."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.irreps import Irreps, sparse, wigner_3j
from erlangen.nn.products.constants import Constant
from erlangen.nn.products.paths import Form, Layout, Output, Path


class PairwiseProduct:
    """Sums of ``scale * C_ijk x_i y_j`` over the paths of each output block, one batched matrix product per path."""

    weight_numel = 0

    def __init__(self, layout: Layout, form: Form) -> None:
        self.layout, self.form = layout, form
        self.tables = [
            [Constant(o.scale * wigner_3j(*p.degrees, dtype=torch.float64)) for p in o.paths] for o in layout.outputs
        ]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """``[..., x.dim]`` and ``[..., y.dim]`` to ``[..., out.dim]``; batches broadcast."""
        pieces_x, pieces_y = _copies(x, self.layout.x), _copies(y, self.layout.y)
        combine = self._full if self.form == "full" else self._elementwise
        outputs: list[Tensor] = []
        for output, tables in zip(self.layout.outputs, self.tables, strict=True):
            parts = [
                combine(pieces_x[path.x], pieces_y[path.y], table(x))
                for path, table in zip(output.paths, tables, strict=True)
            ]
            outputs.append(parts[0] if len(parts) == 1 else torch.stack(parts).sum(0))
        return _joined(outputs, x, y)

    @staticmethod
    def _full(x: Tensor, y: Tensor, C: Tensor) -> Tensor:
        """``[..., u, i]`` and ``[..., v, j]`` to ``[..., u * v * k]``."""
        i, j, k = C.shape
        M = (
            (y @ C.movedim(1, 0).reshape(j, i * k)).unflatten(-1, (i, k)).movedim(-2, -3).flatten(-2)
        )  # [..., i, (v, k)]
        return (x @ M).flatten(-2)

    @staticmethod
    def _elementwise(x: Tensor, y: Tensor, C: Tensor) -> Tensor:
        """``[..., u, i]`` and ``[..., u, j]`` to ``[..., u * k]``."""
        return ((x[..., None] * y[..., None, :]).flatten(-2) @ C.flatten(0, 1)).flatten(-2)


class SparseProduct:
    """The same products by the non-zero entries of the tables: ``x_i y_j`` is formed for these alone.

    A real 3j symbol vanishes unless ``|m3|`` is ``|m1| + |m2|`` or ``||m1| - |m2||``, so a path of degrees l costs of
    order l^2 instead of l^3. Blocks of y pass through all entries at once, then one ``index_add`` sums them.
    """

    weight_numel = 0

    def __init__(self, layout: Layout, form: Form) -> None:
        self.layout, self.form = layout, form
        self.entries = [[_entries(output, path) for path in output.paths] for output in layout.outputs]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """As `PairwiseProduct`."""
        pieces_x, pieces_y = _copies(x, self.layout.x), _copies(y, self.layout.y)
        outputs: list[Tensor] = []
        for output, tables in zip(self.layout.outputs, self.entries, strict=True):
            parts: list[Tensor] = []
            for path, (index, values) in zip(output.paths, tables, strict=True):
                i, j, k = index.to(x.device)
                a, b = pieces_x[path.x][..., i] * values(x), pieces_y[path.y][..., j]
                terms = (a[..., :, None, :] * b[..., None, :, :]).flatten(-3, -2) if self.form == "full" else a * b
                parts.append(terms.new_zeros(*terms.shape[:-1], output.irrep.dim).index_add(-1, k, terms).flatten(-2))
            outputs.append(torch.stack(parts).sum(0))
        return _joined(outputs, x, y)


def _entries(output: Output, path: Path) -> tuple[Tensor, Constant]:
    table = sparse(output.scale * wigner_3j(*path.degrees, dtype=torch.float64))
    return table.indices, Constant(table.values)


def _copies(x: Tensor, irreps: Irreps) -> list[Tensor]:
    """Blocks ``[..., mul, 2 l + 1]`` of features."""
    parts = x.split([block.dim for block in irreps], -1)
    return [part.unflatten(-1, (block.mul, block.ir.dim)) for part, block in zip(parts, irreps, strict=True)]


def _joined(outputs: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    if outputs:
        return torch.cat(outputs, -1)
    return x.new_zeros(*torch.broadcast_shapes(x.shape[:-1], y.shape[:-1]), 0)
