"""Weighted squared distances of many weights to spaces of equivariant ones, and their gradients, in a few products."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from erlangen.reps import HomBasis, Rep

LARGE = 1024
"""Pairs of summands with more entries keep the bases: the root of the quadratic form would take seconds to find."""
ROUNDING = 1e-12
"""Relative size of eigenvalues and differences that count as zero."""


@dataclass(frozen=True)
class _Run:
    """`copies` of a part of size `size`, from coordinate `start` on."""

    copies: int
    size: int
    start: int


class _Root:
    """``||S w||^2 / 2`` with ``S^T S = sum_j c_j (I - P_j)``: never negative, and zero to rounding where all w comply."""

    def __init__(self, form: Tensor) -> None:
        values, vectors = torch.linalg.eigh(form)
        kept = values > ROUNDING * max(1.0, float(values[-1]))
        self.form = form
        self.root = values[kept].sqrt()[:, None] * vectors[:, kept].mT

    def __call__(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient ``[items, n]`` of rows ``w``."""
        far = w @ self.root.mT
        return 0.5 * far.square().sum(), far @ self.root

    def to(self, like: Tensor) -> _Root:
        self.root = self.root.to(like)
        return self


class _Bases:
    """``sum_j c_j ||w - Q_j^T Q_j w||^2 / 2`` with orthonormal rows ``Q_j``."""

    def __init__(self, bases: Sequence[Tensor], strengths: Sequence[float]) -> None:
        self.bases, self.strengths = list(bases), strengths

    def __call__(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient ``[items, n]`` of rows ``w``."""
        value, gradient = w.new_zeros(()), torch.zeros_like(w)
        for c, Q in zip(self.strengths, self.bases, strict=True):
            far = w - (w @ Q.mT) @ Q
            value, gradient = value + 0.5 * c * far.square().sum(), gradient + c * far
        return value, gradient

    def to(self, like: Tensor) -> _Bases:
        self.bases = [Q.to(like) for Q in self.bases]
        return self


class Distances:
    """``sum_j c_j sum_l ||W_l - P_j W_l||^2 / 2`` over all maps l and spaces j.

    A map falls into blocks between copies of summands, and so do the projections; equal blocks have equal quadratic forms.
    All blocks with the same form, of all maps, are gathered into one matrix, so the cost is a few matrix products, however
    many maps and spaces there are.

    Args:
        spaces: for each j the bases of the equivariant maps, ``spaces[j][l]``.
        strengths: the ``c_j``, not negative.
        like: gives dtype and device.
    """

    def __init__(self, spaces: Sequence[Sequence[HomBasis]], strengths: Sequence[float], like: Tensor) -> None:
        found: list[tuple[_Root | _Bases, list[Tensor]]] = []
        used = [(c, bases) for c, bases in zip(strengths, spaces, strict=True) if c]
        offset = 0
        for maps in zip(*(bases for _, bases in used), strict=True):
            layouts: dict[object, list[tuple[float, HomBasis]]] = {}
            for (c, _), basis in zip(used, maps, strict=True):
                hom = basis.hom
                layouts.setdefault((_runs(hom.target), _runs(hom.source)), []).append((c, basis))
            for same in layouts.values():
                _collect(found, same, offset)
            offset += maps[0].hom.size
        self._forms = [form.to(like) for form, _ in found]
        rows = [torch.cat(positions) for _, positions in found]
        self._shapes = [tuple(row.shape) for row in rows]
        self._order = torch.cat([row.flatten() for row in rows] or [torch.zeros(0, dtype=torch.long)]).to(like.device)
        self._once = len(self._order.unique()) == len(self._order)

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """The sum for maps with as many entries as the spaces say, a scalar with gradient (but no second ones)."""
        value: Tensor = _Quadratic.apply(torch.cat([W.flatten() for W in maps]), self)  # pyright: ignore[reportAssignmentType]
        return value

    def evaluate(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient ``[N]`` at all entries of all maps ``[N]``."""
        gathered = flat[self._order]
        total, gradients = flat.new_zeros(()), [flat[:0]]
        start = 0
        for form, shape in zip(self._forms, self._shapes, strict=True):
            stop = start + shape[0] * shape[1]
            value, gradient = form(gathered[start:stop].view(shape))
            total, start = total + value, stop
            gradients.append(gradient.flatten())
        whole = torch.zeros_like(flat)
        if self._once:
            whole[self._order] = torch.cat(gradients)
        else:
            whole.index_add_(0, self._order, torch.cat(gradients))
        return total, whole


class _Quadratic(torch.autograd.Function):
    """The value of `Distances`; its gradient is found with it."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, distances: Distances) -> Tensor:
        value, gradient = distances.evaluate(flat)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None


def _runs(rep: Rep) -> tuple[_Run, ...]:
    runs: list[_Run] = []
    start = 0
    for copies, part in rep.summands():
        runs.append(_Run(copies, part.size, start))
        start += copies * part.size
    return tuple(runs)


def _collect(
    found: list[tuple[_Root | _Bases, list[Tensor]]], same: Sequence[tuple[float, HomBasis]], offset: int
) -> None:
    """Add the blocks of one map, for spaces with one layout, to those with the same form."""
    hom = same[0][1].hom
    blocks = [{(b.start_out, b.start_in): b.basis.flatten(1) for b in basis.blocks} for _, basis in same]
    strengths = [c for c, _ in same]
    for out, into in itertools.product(_runs(hom.target), _runs(hom.source)):
        size = out.size * into.size
        nothing = torch.zeros(0, size, dtype=torch.float64)
        bases = [block.get((out.start, into.start), nothing) for block in blocks]
        positions = _positions(out, into, hom.source.size) + offset
        if size > LARGE:
            found.append((_Bases(bases, strengths), [positions]))
            continue
        form = sum(strengths) * torch.eye(size, dtype=torch.float64)
        for c, Q in zip(strengths, bases, strict=True):
            form -= c * Q.mT @ Q
        if float(form.abs().max()) <= ROUNDING * sum(strengths):
            continue  # everything is equivariant
        for known, where in found:
            if isinstance(known, _Root) and _close(known.form, form):
                where.append(positions)
                break
        else:
            found.append((_Root(form), [positions]))


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a - b).abs() <= ROUNDING * b.abs().max()).all())


def _positions(out: _Run, into: _Run, width: int) -> Tensor:
    """Where the entries of each block lie in a flat map of rows of `width`, ``[blocks, out.size * into.size]``."""
    rows = out.start + torch.arange(out.copies * out.size).view(out.copies, 1, out.size, 1)
    columns = into.start + torch.arange(into.copies * into.size).view(1, into.copies, 1, into.size)
    return (rows * width + columns).flatten(0, 1).flatten(1)
