"""Principal frames of plain clouds of points, by as few calls as they can be had.

Around a small network the time goes to calls on small tensors, each of which finds its code and data thrown out of the cache
by the network's weights. Where nothing is left to decide, this road takes a quarter of the calls; else it says so, and the
general one decides, warns and raises.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from erlangen.actions import Invariant, Points, Tree, tree_map
from erlangen.enforce.axes import turned
from erlangen.enforce.calls import as_wide_as, check_output
from erlangen.enforce.frames import ROUNDING, Frame
from erlangen.enforce.pca_frames import PCAFrame, every_sign
from erlangen.enforce.there_and_back import moved_back
from erlangen.groups import SemidirectProduct
from erlangen.numerics import full_precision
from erlangen.symmetry import Symmetry
from erlangen.tracing import carries_derivative, is_recorded, is_traced

EPS = torch.finfo(torch.float32).eps
TOLERANCE = EPS**0.5
"""Gaps of the general road that count as clear, for float32."""


class _Seen(NamedTuple):
    """A batch in its principal axes."""

    rows: Tensor
    """``[B, N, n]``, about the centre where the group has translations."""
    axes: Tensor
    """``[B, n, n]`` in columns, float64."""
    centre: Tensor | None
    """``[B, n, 1]``, float64."""


class DirectRoad:
    """The average of a PCA frame over a cloud ``[B, N, n]``, the same as on the general road up to rounding.

    Args:
        symmetry: its group and actions.
        linear: the symmetry under the linear parts, for groups with translations.
        frame: the frame.
    """

    def __init__(self, symmetry: Symmetry, linear: Symmetry | None, frame: PCAFrame) -> None:
        self.symmetry, self.acting, self.frame = symmetry, linear or symmetry, frame
        self.n, self.handed = symmetry.group.space_dim, frame.kind.axes == "SO"
        self.count = len(every_sign(self.n, not self.handed))
        self.is_centred = isinstance(symmetry.group, SemidirectProduct)
        self.is_invariance = type(symmetry.output.action) is Invariant

    @classmethod
    def where_it_leads(cls, symmetry: Symmetry, linear: Symmetry | None, frame: Frame) -> DirectRoad | None:
        """The road for points under whole frames of axes, ``None`` for everything else."""
        if not isinstance(frame, PCAFrame) or type(symmetry.input.action) is not Points:
            return None
        is_whole = frame.kind.axes is not None and not frame.canonical and frame.is_enumerable
        if not is_whole or frame.kind.scale or symmetry.input.action.axis != -1 or symmetry.group.space_dim < 2:
            return None
        if frame.kind.origin and linear is None:
            return None
        return cls(symmetry, linear, frame)

    def takes(self, x: Tree) -> bool:
        """Whether x is a cloud of float32 points on a CPU whom nobody follows: no gradient, compiler or transform."""
        if type(x) is not Tensor or x.dtype is not torch.float32 or x.ndim != 3:
            return False
        if x.device.type != "cpu" or x.shape[-1] != self.n or not x.numel():
            return False
        return not (carries_derivative(x) or is_traced() or is_recorded())

    def average(self, model: nn.Module, x: Tensor, step: int) -> Tree | None:
        """The answer for a batch that `takes` accepts, `step` elements at once; ``None`` if a frame is not clear."""
        with full_precision(x):
            seen = self._see(x)
        if seen is None:
            return None
        signs = torch.from_numpy(every_sign(self.n, not self.handed)).to(x.dtype)
        batch = len(x)
        rows, tiled = seen.rows.view(batch, 1, -1), signs.repeat(1, x.shape[1])
        total: Tree = None
        for first in range(0, self.count, step):
            part = slice(first, first + step)
            # The inverse of an element is its transpose: coordinates along the axes, times the signs.
            inputs = torch.mul(rows, tiled[part]).view(-1, *x.shape[1:])
            moved = self._back(seen.axes, signs[part], model(inputs))
            total = moved if total is None else tree_map(torch.add, total, moved)
        if seen.centre is None or self.is_invariance:
            return total
        shift = as_wide_as(seen.centre[..., 0], total)
        return self.symmetry.output.action.translate(self.symmetry.group, shift, total)

    def _see(self, x: Tensor) -> _Seen | None:
        """The batch in its axes, if it is finite and all gaps are clear."""
        columns, centre = x.transpose(-2, -1).to(torch.float64, memory_format=torch.contiguous_format), None
        count = x.shape[1]
        if self.is_centred:
            centre = columns.sum(-1, keepdim=True).div_(count)
            columns = columns.sub_(centre)
        covariance = torch.bmm(columns, columns.transpose(-2, -1))
        if not math.isfinite(covariance.sum().item()):  # squares of float32 do not overflow in float64
            return None
        values, axes = torch.linalg.eigh(covariance)
        # As in `PCAFrame`: a distance above the tolerance, and above what rounding of the largest coordinate can make. Its
        # square is at most 2 |centre|^2 and twice the sum of the eigenvalues.
        rounding = 2 * count * (ROUNDING * EPS) ** 2
        spare = (values[:, 1:] - values[:, :-1]).sub_(values[:, -1:], alpha=TOLERANCE + rounding * self.n)
        if centre is not None:
            spare = spare.sub_(torch.bmm(centre.transpose(-2, -1), centre)[:, 0], alpha=rounding)
        if not spare.min().item() > 0:
            return None
        if self.handed and self.n == 3:
            torch.linalg.cross(axes[..., 1], axes[..., 2], out=axes[..., 0])
        elif self.handed:
            axes = turned(axes)
        rows = torch.bmm(axes.transpose(-2, -1), columns).transpose(-2, -1)
        return _Seen(rows.to(x.dtype, memory_format=torch.contiguous_format), axes, centre)

    def _back(self, axes: Tensor, signs: Tensor, out: Tree) -> Tree:
        """The share of some elements in the average of all."""
        batch = len(axes)
        if self.is_invariance and isinstance(out, Tensor) and out.dtype is torch.float32:
            check_output(out, batch * len(signs))
            return out.unflatten(0, (batch, len(signs))).sum(1).mul(1 / self.count)
        elements = axes[:, None] * signs[:, None]
        weights = axes.new_full((1, len(signs)), 1 / self.count).expand(batch, -1)
        with full_precision(signs):
            return moved_back(self.acting, as_wide_as(elements, signs), weights, out, batch)
