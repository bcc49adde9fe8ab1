"""Clebsch-Gordan products without weights: every pair of copies ("full"), or copy by copy ("elementwise")."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.irreps import Irreps, sparse, wigner_3j
from erlangen.nn.products.constants import Constant
from erlangen.nn.products.paths import Form, Layout, Output, Path


class PairwiseProduct:
    """Sums of ``scale * C_ijk x_i y_j`` over the paths of each output block.

    For each pair of blocks, the products ``x_i y_j`` are formed once, and one matrix takes them to all degrees: for single
    copies its size is ``(2 l1 + 1)(2 l2 + 1)`` squared, which adds up to order l^6 for all degrees together, at the full
    speed of matrix products.
    """

    weight_numel = 0

    def __init__(self, layout: Layout, form: Form) -> None:
        self.layout, self.form = layout, form
        found: dict[tuple[int, int], list[tuple[int, Tensor]]] = {}
        for n, output in enumerate(layout.outputs):
            for path in output.paths:
                C = output.scale * wigner_3j(*path.degrees, dtype=torch.float64)
                found.setdefault((path.x, path.y), []).append((n, C.flatten(0, 1)))
        self.tables = {pair: Constant(torch.cat([C for _, C in parts], -1)) for pair, parts in found.items()}
        self.targets = {pair: [(n, C.shape[1]) for n, C in parts] for pair, parts in found.items()}

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """``[..., x.dim]`` and ``[..., y.dim]`` to ``[..., out.dim]``; batches broadcast."""
        pieces_x, pieces_y = _copies(x, self.layout.x), _copies(y, self.layout.y)
        outputs: dict[int, Tensor] = {}
        for (i, j), table in self.tables.items():
            a, b = pieces_x[i], pieces_y[j]
            if self.form == "full":  # every copy of x with every copy of y
                a, b = a[..., :, None, :], b[..., None, :, :]
            pairs = (a[..., None] * b[..., None, :]).flatten(-2) @ table(x)
            for (n, _), part in zip(
                self.targets[i, j], pairs.split([k for _, k in self.targets[i, j]], -1), strict=True
            ):
                flat = part.flatten(-3) if self.form == "full" else part.flatten(-2)
                outputs[n] = outputs[n] + flat if n in outputs else flat
        return _joined([outputs[n] for n in range(len(self.layout.outputs))], x, y)


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
