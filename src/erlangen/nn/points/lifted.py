"""Points whose features are functions on a finite group of rotations: convolutions in space and on the group, attention.

Features are ``[..., N, order, channels]``, one value per point, element and channel. A rotation h of the group moves them by
``(h f)[p, g] = f[p, h^-1 g]`` (`erlangen.actions.GroupAxis`) while the points turn; every layer here commutes with that. Other
rotations are met approximately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from erlangen.actions import GroupAxis
from erlangen.errors import ErlangenError, GroupError, ShapeError, check_sizes
from erlangen.groups import Group
from erlangen.symmetry import Symmetry

__all__ = ["GroupAxisAttention", "GroupAxisConv", "LiftedPointConv", "invariant_kernel_points"]

BLOCK = 1 << 24
"""Numbers of gathered features that are held at a time; larger inputs go through in blocks of centres."""


class LiftedPointConv(nn.Module):
    """A convolution of lifted features over points, with one kernel turned by every element of the group.

    >>> from erlangen.groups import Octahedral
    >>> conv = LiftedPointConv(1, 4, Octahedral(), radius=1.0, generator=torch.Generator().manual_seed(0))
    >>> pos = torch.randn(2, 10, 3)
    >>> x = torch.ones(2, 10, 24, 1)
    >>> neighbors = torch.arange(10).expand(2, 5, 10)
    >>> conv(x, pos, pos[:, :5], neighbors).shape
    torch.Size([2, 5, 24, 4])

    ``out[p, g] = b + sum_k sum_s W_s relu(1 - |x_k - x_p - g K_s|^2 / sigma) f[k, g]`` over the neighbours k of the centre p and
    the kernel points K_s. Where the kernel points are a set that the group maps onto itself, as by default, the weights of all
    elements are those of the identity in another order.

    Args:
        in_channels, out_channels: of the features.
        group: finite, of rotations (and reflections) of space.
        radius: of the ball that the neighbours are taken from; kernel points lie within 0.7 of it.
        sigma: squared distance at which a neighbour no longer feels a kernel point; by default half the squared radius.
        kernel_points: ``[S, 3]``; by default `invariant_kernel_points` of 0.7 radius.
        bias: whether a number is added to each channel.
        generator: source of the initial weights.

    Attributes:
        symmetry: the group on ``(x, pos, centers, neighbors)``, to lifted features.

    Raises:
        ErlangenError: a size, the radius or sigma is not positive.
        GroupError: a group that is infinite or does not act on space by matrices.
        ShapeError: kernel points of another form.

    Source: Chen et al., "Equivariant Point Network", CVPR 2021, equation 7.
    """

    kernel_points: Tensor
    _turned: Tensor
    _place: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        group: Group,
        *,
        radius: float,
        sigma: float | None = None,
        kernel_points: Tensor | None = None,
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        sigma = radius**2 / 2 if sigma is None else sigma
        if not radius > 0 or not sigma > 0:
            raise ErlangenError(f"radius = {radius}, sigma = {sigma}; give positive numbers")
        turns = _matrices(group)
        if kernel_points is None:
            kernel_points = invariant_kernel_points(group, 0.7 * radius)
        if kernel_points.ndim != 2 or kernel_points.shape[1] != 3 or not len(kernel_points):
            raise ShapeError(f"kernel_points has shape {tuple(kernel_points.shape)}; give [S, 3]")
        points = kernel_points.double()
        turned = torch.einsum("gij,sj->gsi", turns, points)
        far = (turned[:, :, None] - points).norm(dim=-1)
        closed = bool((far.amin(-1) <= 1e-6 * points.norm(dim=-1).max().clamp_min(1e-12)).all())
        self.group, self.radius, self.sigma = group, radius, sigma
        self._exact = points, turned
        self.register_buffer("kernel_points", points.to(torch.get_default_dtype()))
        self.register_buffer("_turned", turned.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("_place", far.argmin(-1) if closed else None, persistent=False)
        bound = 1 / math.sqrt(in_channels * len(points))
        weight = torch.empty(len(points), in_channels, out_channels)
        self.weight = nn.Parameter(weight.uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        given = (GroupAxis(-2), "points", "points", "invariant")
        self.symmetry = Symmetry(group, input=given, output=GroupAxis(-2))

    @override
    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # Another precision starts from the exact points: a set that is rounded to float32 is not quite mapped onto itself.
        points, turned = self._exact
        given = torch.equal(self.kernel_points.cpu(), points.to(self.kernel_points.dtype))
        super()._apply(fn, recurse)
        if given:
            self.kernel_points, self._turned = points.to(self.kernel_points), turned.to(self._turned)
        return self

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor, Tensor, Tensor],
        pos: Tensor | None = None,
        centers: Tensor | None = None,
        neighbors: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """``[..., M, order, out_channels]``.

        Args:
            x: features ``[..., N, order, in_channels]``, or the tuple of the first four arguments.
            pos: their points ``[..., N, 3]``.
            centers: where answers are wanted, ``[..., M, 3]``.
            neighbors: int64 ``[..., M, K]``, points near each centre.
            known: bool ``[..., M, K]``, which of them there are; the others add nothing.

        Raises:
            ShapeError: shapes do not fit.
        """
        if isinstance(x, tuple):
            return self(*x)
        if pos is None or centers is None or neighbors is None:
            raise ShapeError("pass x, pos, centers and neighbors")
        lead, (n, order, channels) = x.shape[:-3], x.shape[-3:]
        if order != len(self._turned) or channels != self.weight.shape[1]:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}; pass [..., N, {len(self._turned)}, {self.weight.shape[1]}]"
            )
        if pos.shape != (*lead, n, 3) or centers.shape[:-2] != lead or neighbors.shape[:-1] != centers.shape[:-1]:
            raise ShapeError(
                f"x {tuple(x.shape)}, pos {tuple(pos.shape)}, centers {tuple(centers.shape)} and neighbors "
                f"{tuple(neighbors.shape)} do not fit; give [..., N, {order}, C], [..., N, 3], [..., M, 3], [..., M, K]"
            )
        batch = math.prod(lead)
        start = n * torch.arange(batch, device=x.device).view(*lead, 1, 1)
        rows = (neighbors + start).flatten(0, -2)
        known = torch.ones_like(rows, dtype=torch.bool) if known is None else known.reshape(rows.shape)
        flat = x.reshape(batch * n, order, channels), pos.reshape(batch * n, 3), centers.reshape(len(rows), 3)
        size = max(1, BLOCK // max(1, rows.shape[-1] * order * (channels + len(self.weight))))
        if size >= len(rows):
            out = self._block(*flat, rows, known)
        else:
            call = partial(checkpoint, self._block, use_reentrant=False)
            features, points, middle = flat
            blocks = zip(*(t.split(size) for t in (middle, rows, known)), strict=True)
            out = torch.cat([call(features, points, *block) for block in blocks])
        out = out if self.bias is None else out + self.bias
        return out.view(*centers.shape[:-1], order, self.weight.shape[2])

    def _block(self, x: Tensor, pos: Tensor, centers: Tensor, rows: Tensor, known: Tensor) -> Tensor:
        """``[M, order, out_channels]`` for some centres; rows ``[M, K]`` of x and pos."""
        away = pos[rows] - centers[:, None]
        features = x[rows]
        if self._place is not None:
            feels = self._feels(away[:, :, None] - self.kernel_points.to(away)) * known[..., None]
            gathered = (feels.mT @ features.flatten(2)).unflatten(-1, features.shape[2:])  # [M, S, order, C]
            # What kernel point s of element g gathers stands at g K_s, and is read for g alone.
            g = torch.arange(features.shape[2], device=x.device)
            gathered = gathered[:, self._place, g[:, None]]  # [M, order, S, C]
        else:
            feels = self._feels(away[:, :, None, None] - self._turned.to(away)) * known[..., None, None]
            gathered = torch.einsum("mkgs,mkgc->mgsc", feels, features)
        return gathered.flatten(2) @ self.weight.flatten(0, 1)

    def _feels(self, away: Tensor) -> Tensor:
        return (1 - away.square().sum(-1) / self.sigma).relu()

    @override
    def extra_repr(self) -> str:
        points, c_in, c_out = self.weight.shape
        return f"{c_in} -> {c_out}, {self.group.name}, {points} kernel points, radius={self.radius}"


class GroupAxisConv(nn.Module):
    """A convolution over the group itself: ``out[g] = b + sum_i W_i f[g h_i]``, by multiplication from the right.

    >>> from erlangen.groups import Octahedral
    >>> conv = GroupAxisConv(2, 3, Octahedral(), generator=torch.Generator().manual_seed(0))
    >>> conv(torch.randn(5, 24, 2)).shape
    torch.Size([5, 24, 3])

    Args:
        in_channels, out_channels: of the features ``[..., order, channels]``.
        group: finite.
        support: indices of the elements h_i; by default the identity and the turns by the smallest angle.
        bias: whether a number is added to each channel.
        generator: source of the initial weights.

    Attributes:
        symmetry: the group on the axis of its elements.

    Raises:
        ErlangenError: a size is not positive, or the support is empty or no set of elements.
        GroupError: a group that is infinite or does not act on space by matrices.

    Source: Chen et al., "Equivariant Point Network", CVPR 2021, equation 8.
    """

    _source: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        group: Group,
        *,
        support: Sequence[int] | None = None,
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        turns = _matrices(group)
        if support is None:
            trace = turns.diagonal(dim1=-2, dim2=-1).sum(-1)
            near = trace[1:].amax() if len(trace) > 1 else trace.amax()
            support = [i for i in range(len(trace)) if i == 0 or float(trace[i]) >= float(near) - 1e-9]
        if not support or len(set(support)) < len(support) or not all(0 <= i < len(turns) for i in support):
            raise ErlangenError(
                f"support = {list(support)}; give indices of different elements, from 0 to {len(turns) - 1}"
            )
        self.group, self.support = group, tuple(support)
        elements = torch.arange(len(turns))
        self.register_buffer("_source", group.compose(elements[:, None], torch.tensor(self.support)), persistent=False)
        bound = 1 / math.sqrt(in_channels * len(support))
        weight = torch.empty(len(support), in_channels, out_channels)
        self.weight = nn.Parameter(weight.uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.symmetry = Symmetry(group, input=GroupAxis(-2), output=GroupAxis(-2))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., order, out_channels]`` of ``[..., order, in_channels]``.

        Raises:
            ShapeError: x has another form.
        """
        _check_lifted(x, len(self._source), self.weight.shape[1])
        out = x[..., self._source, :].flatten(-2) @ self.weight.flatten(0, 1)
        return out if self.bias is None else out + self.bias

    @override
    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} -> {self.weight.shape[2]}, {self.group.name}, {len(self.support)} elements"


class GroupAxisAttention(nn.Module):
    """Attention between the elements of a group, without a code of their places, so that it commutes with permutations.

    >>> attend = GroupAxisAttention(8, heads=2, generator=torch.Generator().manual_seed(0))
    >>> attend(torch.randn(5, 24, 8)).shape
    torch.Size([5, 24, 8])

    A group permutes its elements by multiplication; a layer that commutes with all permutations commutes with every group, and
    with a rotation of what the elements stand for. Queries, keys and values have no bias, the output has one.

    Args:
        channels: of the features ``[..., order, channels]``.
        heads: divides `channels`.
        out_channels: of the output; by default `channels`.
        generator: source of the initial weights.

    Raises:
        ErlangenError: a size is not positive, or the heads do not divide the channels.

    Source: Feng et al., "Generalizing neural human fitting to unseen poses with articulated SE(3) equivariance" (ArtEq), ICCV
    2023, section 3.3.
    """

    def __init__(
        self, channels: int, *, heads: int = 1, out_channels: int | None = None, generator: Generator | None = None
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        check_sizes(channels=channels, heads=heads, out_channels=out_channels)
        if channels % heads:
            raise ErlangenError(f"heads = {heads} does not divide channels = {channels}")
        self.channels, self.heads = channels, heads
        bound = 1 / math.sqrt(channels)
        shape = (3 * channels + out_channels, channels)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., order, out_channels]`` of ``[..., order, channels]``.

        Raises:
            ShapeError: x has another form.
        """
        if x.ndim < 2 or x.shape[-1] != self.channels:
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [..., order, {self.channels}]")
        inner = x @ self.weight[: 3 * self.channels].mT
        q, k, v = inner.unflatten(-1, (3, self.heads, self.channels // self.heads)).movedim(-3, 0).transpose(-3, -2)
        score = q @ k.mT / math.sqrt(q.shape[-1])
        mixed = (score.softmax(-1) @ v).transpose(-3, -2).flatten(-2)
        return mixed @ self.weight[3 * self.channels :].mT + self.bias

    @override
    def extra_repr(self) -> str:
        return f"{self.channels} -> {len(self.bias)}, heads={self.heads}"


def invariant_kernel_points(group: Group, radius: float) -> Tensor:
    """The middle and one orbit of the group on each of two spheres, which the group maps onto themselves: ``[S, 3]``, float64.

    >>> from erlangen.groups import Icosahedral
    >>> invariant_kernel_points(Icosahedral(), 0.7).shape  # 1 + 12 + 20: the vertices, and the faces at half the radius
    torch.Size([33, 3])

    The orbits are those of the smallest sets of axes: of its turns, in the order of the size of their orbits.

    Args:
        group: finite, of rotations (and reflections) of space.
        radius: of the outer sphere.

    Raises:
        GroupError: a group that is infinite or does not act on space by matrices.
    """
    turns = _matrices(group)
    rotations = turns[1:][torch.linalg.det(turns[1:]) > 0]
    axes = torch.linalg.svd(rotations - torch.eye(3, dtype=turns.dtype)).Vh[:, -1]
    images = torch.einsum("gij,aj->agi", turns, axes)
    images = torch.cat([images, -images], 1)  # both ends of each axis
    orbits: list[Tensor] = []
    for points in images:
        if not any(bool(_near(points[:1], known).any()) for known in orbits):
            first = _near(points, points).byte().argmax(-1)  # of those that are one point
            orbits.append(points[first == torch.arange(len(points))])
    orbits.sort(key=len)
    spheres = [radius * orbits[0]] if orbits else []
    spheres += [radius / 2 * orbits[1]] if len(orbits) > 1 else []
    return torch.cat([torch.zeros(1, 3, dtype=torch.float64), *spheres])


def _near(a: Tensor, b: Tensor) -> Tensor:
    """Which points ``[A, 3]`` and ``[B, 3]`` are one, bool ``[A, B]``."""
    return (a[:, None] - b).abs().amax(-1) < 1e-6


def _matrices(group: Group) -> Tensor:
    """The matrices of a finite group of space, float64 ``[order, 3, 3]``."""
    if group.order == math.inf or group.space_dim != 3 or group.shape != ():
        raise GroupError(
            f"{group.name} is no finite group of rotations of space; use Icosahedral(), Octahedral(), Tetrahedral()"
        )
    return group.linear(group.elements(), dtype=torch.float64)


def _check_lifted(x: Tensor, order: int, channels: int) -> None:
    if x.ndim < 2 or x.shape[-2:] != (order, channels):
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass [..., {order}, {channels}]")
