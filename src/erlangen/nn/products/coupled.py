"""Clebsch-Gordan products whose paths are summed where they arise: the forms "depthwise" and "connected".

For one row and one output block, with the paths p and the copies v of y::

    out[k, c] = sum_(p, v, i) M[k, (p, v, i)] Z[(p, v, i), c],      M = sum_j C^p_ijk y_vj

    depthwise   Z[(p, v, i), u] = w[p, v, u] x[u, i]                 connected   Z[(p, v, i), w] = sum_u x[u, i] W[p, u, v, w]

M is one matrix product of y with the coupling tables, and the sum over all paths is one batched matrix product, so no
array with a slot for each path and output component is written. Inside, components come first and channels last: then
every elementwise operation runs along memory. `erlangen.nn.products.blocked` runs this block by block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.irreps import wigner_3j
from erlangen.nn.products.constants import Constant
from erlangen.nn.products.paths import Form, Layout, Output, Path

SMALL_MATRIX = 2000
"""Output blocks are joined until a batched matrix product has this many terms: below 400, torch's is 5x slower."""


class Edges(NamedTuple):
    """Rows of x that meet the rows of y, and the rows of the output that collect them: int64 ``[E]``, and their number."""

    source: Tensor
    target: Tensor
    size: int


@dataclass(frozen=True)
class Segment:
    """Rows of Z from one block of x: the ranges of its rows and of its (path, copy) pairs in the group."""

    block: int
    rows: slice
    pairs: slice


class Group:
    """Output blocks with equally many copies that one batched matrix product computes.

    Attributes:
        outputs: the blocks.
        channels: copies of each.
        dim: components of all blocks.
        rows: rows of Z.
        pairs: number of (path, copy of y).
        segments: where the rows of Z come from.
        weights: this group's part of the weights.
    """

    def __init__(self, layout: Layout, outputs: list[Output], form: Form, start: int) -> None:
        self.layout, self.outputs, self.channels = layout, outputs, outputs[0].mul
        self.columns = layout.y.slices()
        self.dim = sum(output.irrep.dim for output in outputs)
        self.segments = list(self._segments(form))
        self.rows, self.pairs = self.segments[-1].rows.stop, self.segments[-1].pairs.stop
        per_pair = [layout.x[s.block].mul if form == "connected" else 1 for s in self.segments]
        size = sum((s.pairs.stop - s.pairs.start) * n for s, n in zip(self.segments, per_pair, strict=True))
        self.weights = slice(start, start + size * self.channels)
        self.single = all(layout.y[p.y].mul == 1 for output in outputs for p in output.paths)
        self.table = Constant(self._joined() if self.single else torch.cat([c.flatten() for c in self._couplings()]))

    def _segments(self, form: Form) -> Iterator[Segment]:
        row = pair = 0
        for output in self.outputs:
            # Depthwise, neighbouring paths of one block of x share one multiplication.
            key = (lambda p: p.x) if form == "depthwise" else id
            for _, run in itertools.groupby(output.paths, key=key):
                paths = list(run)
                n = sum(self.layout.y[p.y].mul for p in paths)
                d = 2 * paths[0].degrees[0] + 1
                yield Segment(paths[0].x, slice(row, row + n * d), slice(pair, pair + n))
                row, pair = row + n * d, pair + n

    def _couplings(self) -> Iterator[Tensor]:
        """``[j, k, i]`` for each path."""
        for output in self.outputs:
            for path in output.paths:
                yield output.scale * wigner_3j(*path.degrees, dtype=torch.float64).permute(1, 2, 0)

    def _joined(self) -> Tensor:
        """``[y.dim, dim * rows]``: y to M at once, where each block of y has one copy."""
        table = torch.zeros(self.layout.y.dim, self.dim, self.rows, dtype=torch.float64)
        couplings, k, row = self._couplings(), 0, 0
        for output in self.outputs:
            for path in output.paths:
                C = next(couplings)
                table[self.columns[path.y], k : k + C.shape[1], row : row + C.shape[2]] = C
                row += C.shape[2]
            k += output.irrep.dim
        return table.flatten(1)

    def matrix(self, y: Tensor, memory: Callable[..., Tensor] | None = None) -> Tensor:
        """M, ``[E, dim, rows]``, of rows ``[E, y.dim]``; in ``memory("M", ...)`` if that is given and can be used."""
        if self.single:
            out = None if memory is None else memory("M", len(y), self.dim * self.rows)
            return torch.mm(y, self.table(y), out=out).unflatten(-1, (self.dim, self.rows))
        parts: list[Tensor] = []
        for path, C, _ in self._path_tables(y):
            copies = y[:, self.columns[path.y]].unflatten(-1, (-1, len(C)))
            parts.append((copies @ C).unflatten(-1, (self.dim, -1)).transpose(1, 2).flatten(2))
        return torch.cat(parts, -1)

    def pull_back(self, grad_M: Tensor, total: Tensor) -> None:
        """Add the gradient with respect to y, ``[E, y.dim]``, of that with respect to M to `total`."""
        if self.single:
            total.addmm_(grad_M.flatten(1), self.table(total).mT)
            return
        for path, C, rows in self._path_tables(total):
            copies = self.layout.y[path.y].mul
            part = grad_M[..., rows].unflatten(-1, (copies, -1)).transpose(1, 2).flatten(2)
            total[:, self.columns[path.y]] += (part @ C.mT).flatten(1)

    def _path_tables(self, like: Tensor) -> Iterator[tuple[Path, Tensor, slice]]:
        """For each path, its table ``[j, k * i]`` and its rows of Z."""
        table, start, row = self.table(like), 0, 0
        for path in self.outputs[0].paths:
            i, j = 2 * path.degrees[0] + 1, 2 * path.degrees[1] + 1
            size, rows = i * j * self.dim, self.layout.y[path.y].mul * i
            yield path, table[start : start + size].view(j, -1), slice(row, row + rows)
            start, row = start + size, row + rows


class CoupledProduct:
    """The forms "depthwise" and "connected" of a `Layout`, in ordinary differentiable operations.

    Weights ``[E or 1, weight_numel]``: for each output block and each of its paths in order, they are ``[v, u]``
    (depthwise) or ``[u, v, w]`` (connected).
    """

    def __init__(self, layout: Layout, form: Form) -> None:
        self.layout, self.form = layout, form
        self.groups: list[Group] = []
        self.weight_numel = 0
        for outputs in _joinable(layout):
            self.groups.append(Group(layout, outputs, form, self.weight_numel))
            self.weight_numel = self.groups[-1].weights.stop

    def __call__(self, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None) -> Tensor:
        """Rows ``[N, x.dim]``, ``[E, y.dim]`` and weights to ``[E or edges.size, out.dim]``, all rows at once."""
        blocks = self.split(x)
        outputs: list[Tensor] = []
        if edges is not None:
            blocks = [block.index_select(1, edges.source) for block in blocks]
        for group in self.groups:
            Z = torch.cat(list(self._rows(group, blocks, weight[:, group.weights])))
            out = torch.bmm(group.matrix(y), Z.transpose(0, 1))
            if edges is not None:
                out = out.new_zeros(edges.size, *out.shape[1:]).index_add(0, edges.target, out)
            outputs.append(out)
        return self.join(outputs, y)

    def _rows(self, group: Group, x: list[Tensor], weight: Tensor) -> Iterator[Tensor]:
        """Z in pieces ``[(p, v, i), E, channels]``."""
        if self.form == "depthwise":
            w = weight.unflatten(-1, (group.pairs, group.channels)).transpose(0, 1)
            for s in group.segments:
                yield (x[s.block][None] * w[s.pairs, None]).flatten(0, 1)
            return
        for s, W in zip(group.segments, self.mixing(group, weight), strict=True):
            copies = W.shape[-2]
            if len(W) == 1:
                mixed = x[s.block] @ W[0].flatten(1)
            else:
                mixed = torch.bmm(x[s.block].transpose(0, 1), W.flatten(2)).transpose(0, 1)
            yield mixed.unflatten(-1, (copies, group.channels)).movedim(-2, 0).flatten(0, 1)

    def mixing(self, group: Group, weight: Tensor) -> list[Tensor]:
        """Weights ``[E or 1, group's]`` of the form "connected" as ``[E or 1, u, v, w]`` for each path."""
        shapes = [(self.layout.x[s.block].mul, s.pairs.stop - s.pairs.start, group.channels) for s in group.segments]
        parts = weight.split([u * v * w for u, v, w in shapes], -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]

    # --- layouts ---------------------------------------------------------------------------------------------------
    def split(self, x: Tensor) -> list[Tensor]:
        """Features ``[N, x.dim]`` to blocks ``[2 l + 1, N, mul]``, contiguous."""
        parts = x.split([block.dim for block in self.layout.x], -1)
        return [
            part.unflatten(-1, (block.mul, block.ir.dim)).permute(2, 0, 1).contiguous()
            for part, block in zip(parts, self.layout.x, strict=True)
        ]

    def join(self, outputs: list[Tensor], like: Tensor) -> Tensor:
        """Components ``[N, group.dim, mul]`` of each group to features ``[N, out.dim]``."""
        parts = [
            block.mT.flatten(1)
            for out, group in zip(outputs, self.groups, strict=True)
            for block in out.split([output.irrep.dim for output in group.outputs], 1)
        ]
        return torch.cat(parts, -1) if parts else like[:, :0]

    def split_outputs(self, features: Tensor) -> list[Tensor]:
        """The inverse of `join`."""
        parts = iter(features.split([block.dim for block in self.layout.out], -1))
        return [
            torch.cat([next(parts).unflatten(-1, (group.channels, o.irrep.dim)).mT for o in group.outputs], 1)
            for group in self.groups
        ]


def _joinable(layout: Layout) -> list[list[Output]]:
    """Neighbouring output blocks that one matrix product shall compute."""
    groups: list[list[Output]] = []
    single = all(block.mul == 1 for block in layout.y)
    for output in layout.outputs:
        last = groups[-1] if groups else []
        if single and last and last[0].mul == output.mul and _terms(last) < SMALL_MATRIX:
            last.append(output)
        else:
            groups.append([output])
    return groups


def _terms(outputs: list[Output]) -> int:
    rows = sum(2 * path.degrees[0] + 1 for output in outputs for path in output.paths)
    return rows * outputs[0].mul * sum(output.irrep.dim for output in outputs)
