"""Symmetry part by part: every part of a point cloud moves by an element of its own.

A partition with k parts lets the product group G^k act on a cloud: point i moves by the element of its part. A map is
equivariant by parts if it commutes with that action. The order of partitions carries over (Atzmon, Huang, Williams and
Litany 2024): whoever is equivariant for a finer partition is so for each coarser one, because an element of the coarse
product group acts as one of the fine one, in which parts of one union move alike.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Action, Invariant, Tree, tree_structure
from erlangen.enforce.axes import principal_axes
from erlangen.enforce.frames import ROUNDING
from erlangen.enforce.pca_frames import relative_gap
from erlangen.errors import (
    ActionError,
    GroupError,
    ModelError,
    OnDegenerate,
    ShapeError,
    check_finite,
    check_floating,
    check_on_degenerate,
    first_index,
    tell_degenerate,
)
from erlangen.geometry.partitions import check_labels
from erlangen.groups import SE, SO, DirectProduct, E, Group, O
from erlangen.symmetry import Symmetry

AXES: dict[type[Group], tuple[bool, bool]] = {O: (False, False), SO: (False, True), E: (True, False), SE: (True, True)}
"""Groups with frames by parts: whether the origin moves, and whether axes are right-handed."""


def act_piecewise(group: Group, g: Tensor, x: Tensor, labels: Tensor, *, vectors: bool = False) -> Tensor:
    """Move each row by the element of its part.

    Args:
        group: the group of one part, such as E(3).
        g: elements ``[..., k, *shape]``, one for each of k parts; the leading dimensions broadcast with those of `x`.
        x: points ``[..., n, d]``; for vectors ``[..., n, d]`` or, several to a point, ``[..., n, m, d]`` with the batch
            dimensions of `labels`.
        labels: int64 ``[..., n]``, below k.
        vectors: move by the linear part alone.

    Raises:
        ShapeError: labels do not fit the rows, or k is smaller than a label asks for.
    """
    extra = x.dim() - labels.dim() - 1
    if extra not in (0, 1) or x.shape[labels.dim() - 1] != labels.shape[-1]:
        raise ShapeError(f"x has shape {tuple(x.shape)}, labels {tuple(labels.shape)}; pass one label for each row")
    batch = group.batch_shape(g)
    if not batch:
        raise ShapeError(
            f"g has shape {tuple(g.shape)}; pass one element of {group.name} for each part, [..., k, *shape]"
        )
    check_labels(labels, tuple(labels.shape), batch[-1])
    lead = torch.broadcast_shapes(batch[:-1], labels.shape[:-1])
    index = labels.expand(*lead, -1)
    linear = _of_parts(group.linear(g).to(x), index, tail=2)
    shift = None if vectors else group.translation(g)
    moved = x @ linear.mT if extra else (x[..., None, :] @ linear.mT)[..., 0, :]
    if shift is None:
        return moved
    shift = _of_parts(shift.to(x), index, tail=1)
    return moved + (shift[..., None, :] if extra else shift)


def _of_parts(values: Tensor, index: Tensor, tail: int) -> Tensor:
    """For each point the value of its part: ``[..., k, *tail]`` and parts ``[*lead, n]`` give ``[*lead, n, *tail]``."""
    lead = index.dim() - 1
    shape = values.shape[-tail:]
    wide = values.expand(*index.shape[:-1], *values.shape[-tail - 1 :])
    return wide.gather(lead, index.reshape(*index.shape, *[1] * tail).expand(*index.shape, *shape))


@dataclass(frozen=True)
class Piecewise(Action):
    """The action of a product of k equal groups on a cloud that carries its partition.

    Data are dictionaries: ``"labels"`` int64 ``[B, n]`` says which component moves which row, ``"pos"`` are points
    ``[B, n, d]``, ``"vectors"`` ``[B, n, d]`` or ``[B, n, m, d]`` move by the linear parts, and all else (``"labels"``
    too) is invariant. The group is ``DirectProduct(*[E(3)] * k)``, or a single group for one part.
    """

    item_ndim = 1

    def check_group(self, group: Group) -> None:
        """`ActionError` unless all factors are one group that moves a space."""
        if len({factor.name for factor in _factors(group)}) > 1 or not _factors(group)[0].space_dim:
            raise ActionError(
                f"{group.name} does not act by parts; use DirectProduct(*[G] * k) of one group G such as E(3)"
            )

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tree:
        """The moved dictionary; the batch of `g` stands against the first dimensions of all entries."""
        if not isinstance(x, dict) or not isinstance(x.get("labels"), Tensor):
            raise ActionError(f"x is {tree_structure(x)}, but piecewise data are a dict with 'labels'")
        data: dict[str, Tree] = x
        batch = group.batch_shape(g)
        parts = group.split(g) if isinstance(group, DirectProduct) else (g,)
        components = torch.stack(parts, len(batch))
        missing = data["labels"].dim() - 1 - len(batch)
        aligned = components.reshape(*batch, *[1] * missing, *components.shape[len(batch) :])
        moved: dict[str, Tree] = dict(Invariant().apply(group, g, data))  # a copy: without a batch it is x itself
        for key in ("pos", "vectors"):
            if key in data:
                moved[key] = act_piecewise(
                    _factors(group)[0], aligned, data[key], data["labels"], vectors=key == "vectors"
                )
        return moved


def _factors(group: Group) -> tuple[Group, ...]:
    return group.factors if isinstance(group, DirectProduct) else (group,)


# --- frames ----------------------------------------------------------------------------------------------------------
class PartFrames(NamedTuple):
    """Principal axes of every part of a batch of clouds, float64.

    Attributes:
        axes: ``[B, k, d, d]``, unit axes in columns, in ascending order of extent; right-handed for SO and SE.
        centre: ``[B, k, d]``, weighted centroids; zero for groups that fix the origin, and for empty parts.
        gap: ``[B, k]``, smallest distance of neighbouring eigenvalues over the largest, where pairs of directions
            without extent do not count; 0 where all points coincide, infinite for empty parts.
        spectrum: ``[B, k, d]``, eigenvalues of the weighted covariance (its sum, not its mean), ascending.
        counts: ``[B, k]``, the weight of each part.
        local: ``[B, n, d]``, the points in the frames of their parts; exactly zero along directions without extent.
    """

    axes: Tensor
    centre: Tensor
    gap: Tensor
    spectrum: Tensor
    counts: Tensor
    local: Tensor


def part_frames(
    pos: Tensor,
    labels: Tensor,
    parts: int,
    group: Group,
    *,
    weights: Tensor | None = None,
    differentiable: bool | None = None,
) -> PartFrames:
    """Centroid and principal axes of all parts at once: the frames of Puny et al. (2022), weighted and by parts.

    The axes are determined up to their signs, over which `PiecewiseFrameAverage` averages, and only where eigenvalues
    differ: parts of spheres, capsules and cylinders have nearly equal ones, which ``gap`` shows.

    Args:
        pos: points ``[B, n, d]``, float32 or float64.
        labels: int64 ``[B, n]``, below `parts`. Parts may be empty.
        parts: number of parts k.
        group: O(d), SO(d), E(d) or SE(d), acting on each part.
        weights: ``[B, n]``, not negative; one for each point without it.
        differentiable: let gradients flow through the axes; ``None`` does wherever a gradient can reach the points. Through
            the centroids they always do.

    Raises:
        GroupError: another group, or of another dimension.
        ShapeError: shapes do not fit, labels are out of range, or weights are negative.
        DtypeError: labels are not int64, or points are not floating.
        NotFiniteError: NaN or Inf in `pos`.
    """
    _check_cloud(pos, labels, parts, group, weights)
    batch, _, d = pos.shape
    wide = pos.double()
    mass = torch.ones_like(wide[..., 0]) if weights is None else weights.double()
    counts = mass.new_zeros(batch, parts).scatter_add(1, labels, mass)
    safe = torch.where(counts > 0, counts, 1.0)
    origin, handed = AXES[type(group)]
    centre = _part_sums(mass[..., None] * wide, labels, parts) / safe[..., None]
    centre = centre if origin else torch.zeros_like(centre)
    rows = wide - _of_parts(centre, labels, tail=1)
    outer = (mass[..., None, None] * rows[..., :, None] * rows[..., None, :]).flatten(2)
    covariance = _part_sums(outer, labels, parts).unflatten(-1, (d, d))
    values, axes = principal_axes(covariance, differentiable)
    local = (rows[..., None, :] @ _of_parts(axes, labels, tail=2))[..., 0, :]
    extent = local.detach().abs()
    reach = extent.new_zeros(batch, parts, d).scatter_reduce(1, labels[..., None].expand_as(extent), extent, "amax")
    size = wide.detach().abs().flatten(1).amax(1) if pos.shape[1] else wide.new_zeros(batch)
    null = reach <= (ROUNDING * torch.finfo(pos.dtype).eps * size)[:, None, None]
    local = local.masked_fill(_of_parts(null, labels, tail=1), 0.0)
    gap = relative_gap(values.detach(), null)
    gap = torch.where(null.all(-1), 0.0, gap).masked_fill(counts == 0, torch.inf)
    if handed:  # the axis of least extent takes its sign from the determinant
        sign = torch.linalg.det(axes.detach()).sign()
        axes = torch.cat([axes[..., :1] * sign[..., None, None], axes[..., 1:]], -1)
        local = torch.cat([local[..., :1] * _of_parts(sign[..., None], labels, tail=1), local[..., 1:]], -1)
    return PartFrames(axes, centre, gap, values.detach().clamp(min=0), counts, local)


def _part_sums(values: Tensor, labels: Tensor, parts: int) -> Tensor:
    """``[B, k, c]``: sums over the points of each part of values ``[B, n, c]``."""
    start = values.new_zeros(len(values), parts, values.shape[-1])
    return start.scatter_add(1, labels[..., None].expand_as(values), values)


def _check_cloud(pos: Tensor, labels: Tensor, parts: int, group: Group, weights: Tensor | None) -> None:
    if type(group) not in AXES:
        raise GroupError(f"{group.name} has no frames by parts; use O, SO, E or SE")
    check_floating(pos, "pos")
    if pos.dim() != 3 or pos.shape[-1] != group.space_dim:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; {group.name} needs [B, n, {group.space_dim}]")
    check_labels(labels, tuple(pos.shape[:2]), parts)
    if torch.compiler.is_compiling():
        return
    check_finite(pos, "pos")
    if weights is not None and (weights.shape != labels.shape or bool((weights < 0).any())):
        raise ShapeError(f"weights has shape {tuple(weights.shape)}; pass {tuple(labels.shape)}, none negative")


# --- averaging -------------------------------------------------------------------------------------------------------
class PiecewiseFrameAverage(nn.Module):
    """Any network on sets of points becomes equivariant by parts, exactly, for a given partition.

    The points of each part are written in the principal axes of the part, for all signs of the axes (2^d, half of them
    for SO and SE); a shared network reads each of these sets; its invariants are averaged over the signs, its vectors
    are turned back and averaged. With one part this is frame averaging.

    Where a part has directions without extent (three collinear points, two points, one), coordinates along them are
    zero, and vectors come out zero along them: the vectors of a part of one point vanish. Where eigenvalues coincide,
    the axes are arbitrary and so is the output, up to what the network makes of it; see `on_degenerate`.

    Args:
        block: called as ``block(rows, index, segments)`` with rows ``[R, d + c]`` (coordinates and features), index
            int64 ``[R]``, the set of each row, and the number of sets. Returns ``[R, features + vectors * d]``. It may
            mix rows of one set only; `erlangen.nn.segment_mean` and its kin do.
        group: O(d), SO(d), E(d) or SE(d), acting on each part.
        parts: number of parts k; parts may be empty.
        features: invariant numbers per point that `block` returns first.
        vectors: vectors per point that it returns after them.
        samples: random signs per part, point cloud and forward pass in train mode, an unbiased estimate; in eval mode
            all signs are used.
        differentiable: let gradients flow through the axes; ``None`` does wherever a gradient can reach the points.
        on_degenerate: "warn" with `DegenerateFrameWarning`, raise `DegenerateFrameError`, or "allow" parts whose
            eigenvalues nearly coincide (gap below the square root of the machine epsilon) or whose points do.
        seed: seed of `samples`.

    Raises:
        GroupError: another group.
        ShapeError: `parts`, `features` or `vectors` does not make sense.
        UnknownNameError: `on_degenerate` is not known.
    """

    def __init__(
        self,
        block: nn.Module,
        group: Group,
        parts: int,
        *,
        features: int,
        vectors: int = 0,
        samples: int | None = None,
        differentiable: bool | None = None,
        on_degenerate: OnDegenerate = "warn",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if type(group) not in AXES:
            raise GroupError(f"{group.name} has no frames by parts; use O, SO, E or SE")
        if parts < 1 or features < 0 or vectors < 0 or features + vectors == 0 or (samples is not None and samples < 1):
            raise ShapeError(
                f"parts = {parts}, features = {features}, vectors = {vectors}, samples = {samples}; parts and samples are "
                "positive, and there must be something to return"
            )
        check_on_degenerate(on_degenerate)
        self.block, self.group, self.parts = block, group, parts
        self.features, self.vectors, self.samples = features, vectors, samples
        self.differentiable, self.on_degenerate = differentiable, on_degenerate
        self._generator = Generator().manual_seed(seed)
        product = DirectProduct(*[group] * parts) if parts > 1 else group
        self.symmetry = Symmetry(product, input=Piecewise(), output=Piecewise())

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The network's answers for a batch of clouds.

        Args:
            x: ``"pos"`` points ``[B, n, d]``, ``"labels"`` int64 ``[B, n]``, and optionally ``"features"`` invariants
                ``[B, n, c]`` and ``"weights"`` of the points in centroid and axes ``[B, n]``.

        Returns:
            ``"features"`` ``[B, n, features]`` and ``"vectors"`` ``[B, n, vectors, d]`` where there are some, and the
            ``"labels"`` that say how they move.

        Raises:
            What `part_frames` raises.
            ModelError: the block returns another shape.
            DegenerateFrameError: see `on_degenerate`.
        """
        pos, labels = x["pos"], x["labels"]
        frames = part_frames(
            pos, labels, self.parts, self.group, weights=x.get("weights"), differentiable=self.differentiable
        )
        self._judge(frames, pos.dtype)
        signs = self._signs(labels).to(pos)
        local = frames.local.to(pos)[:, None] * signs
        batch, count, n = local.shape[:3]
        given = [] if "features" not in x else [x["features"][:, None].expand(-1, count, -1, -1)]
        rows = torch.cat([local, *given], -1).flatten(0, 2)
        sets = torch.arange(batch * count, device=labels.device).view(batch, count, 1) * self.parts
        out = self.block(rows, (sets + labels[:, None]).flatten(), batch * count * self.parts)
        width = self.features + self.vectors * pos.shape[-1]
        if not isinstance(out, Tensor) or out.shape != (len(rows), width):
            raise ModelError(
                f"the block returned {tree_structure(out)} for {len(rows)} rows; features = {self.features} and vectors = "
                f"{self.vectors} need [{len(rows)}, {width}]"
            )
        out = out.view(batch, count, n, width)
        answer = {"labels": labels}
        if self.features:
            answer["features"] = out[..., : self.features].mean(1)
        if self.vectors:
            turned = out[..., self.features :].unflatten(-1, (self.vectors, -1)) * signs[..., None, :]
            answer["vectors"] = turned.mean(1) @ _of_parts(frames.axes, labels, tail=2).mT.to(pos)
        return answer

    def _signs(self, labels: Tensor) -> Tensor:
        """Signs of the axes, ``[1, K, 1, d]`` for all points, or ``[B, samples, n, d]`` drawn for each part."""
        d, handed = self.group.space_dim, AXES[type(self.group)][1]
        every = [s for s in itertools.product((1.0, -1.0), repeat=d) if not handed or math.prod(s) > 0]
        signs = torch.tensor(every, device=labels.device)
        if self.samples is None or not self.training:
            return signs[None, :, None]
        size = (len(labels), self.samples, self.parts)
        drawn = torch.randint(len(every), size, generator=self._generator).to(labels.device)
        return signs[drawn.gather(2, labels[:, None].expand(-1, self.samples, -1))]

    def _judge(self, frames: PartFrames, dtype: torch.dtype) -> None:
        if self.on_degenerate == "allow" or torch.compiler.is_compiling():
            return
        close = frames.gap < torch.finfo(dtype).eps ** 0.5
        if not bool(close.any()):
            return
        sample, part = first_index(close)
        message = (
            f"part {part} of sample {sample} ({int(close.sum())} parts of the batch) does not determine its frame: relative "
            f"gap {float(frames.gap[sample, part]):.2g} of the eigenvalues "
            f"{[float(f'{v:.4g}') for v in frames.spectrum[sample, part]]}; merge it with another part, or pass "
            "on_degenerate='allow'"
        )
        tell_degenerate(message, self.on_degenerate, stacklevel=3)

    @override
    def extra_repr(self) -> str:
        return f"{self.group.name}^{self.parts}, features={self.features}, vectors={self.vectors}"
