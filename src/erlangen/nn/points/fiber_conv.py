"""Convolutions over positions and orientations whose kernels are functions of invariants of pairs.

Features live on ``R^n x S^(n-1)``: a value for each node, grid direction and channel, ``[N, O, C]``. The kernels depend on
a pair of points with directions only through what rigid motions leave alone, which shares their weights over all of the
group (Bekkers et al., "Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in Position-Orientation Space",
ICLR 2024, equations 9 to 13). Equivariance is exact for the rotations that permute the grid of directions.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.nn.backbones import mlp
from erlangen.nn.edges import smooth_cutoff
from erlangen.nn.points._gathering import gathered, turned

__all__ = ["FiberConv", "KernelBasis", "lift_to_directions", "vectors_of_directions"]


class KernelBasis(nn.Module):
    """Learned functions of invariants, from which each layer combines its kernels.

    All products of up to `degree` invariants go through a small network with GELU; the values are multiplied by a
    polynomial that falls smoothly to zero at the cutoff.

    Args:
        invariants: how many numbers there are for each pair.
        features: how many functions.
        width: of the hidden layer; by default `features`.
        degree: of the products.
        cutoff: length beyond which all functions vanish; none without it.
        generator: source of the initial parameters.

    Raises:
        ErlangenError: a size or the cutoff is not positive.
    """

    def __init__(
        self,
        invariants: int,
        features: int,
        *,
        width: int | None = None,
        degree: int = 3,
        cutoff: float | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        width = features if width is None else width
        check_sizes(invariants=invariants, features=features, degree=degree, width=width)
        if cutoff is not None and not cutoff > 0:
            raise ErlangenError(f"cutoff = {cutoff}; give a positive length, or none")
        self.invariants, self.cutoff = invariants, cutoff
        self.products = [
            power
            for d in range(1, degree + 1)
            for power in itertools.combinations_with_replacement(range(invariants), d)
        ]
        self.net = mlp([len(self.products), width, features], nn.GELU, last=True, generator=generator)

    def forward(self, invariants: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Values ``[..., features]``.

        Args:
            invariants: ``[..., invariants]``.
            lengths: of the edges, for the cutoff; broadcasts with ``[...]``.

        Raises:
            ShapeError: another number of invariants, or lengths are missing or not wanted.
        """
        if invariants.shape[-1:] != (self.invariants,) or (lengths is None) != (self.cutoff is None):
            needs = "no lengths" if self.cutoff is None else "lengths, for the cutoff"
            raise ShapeError(
                f"invariants {tuple(invariants.shape)}, lengths {'missing' if lengths is None else tuple(lengths.shape)}; "
                f"pass [..., {self.invariants}] and {needs}"
            )
        columns = invariants.unbind(-1)
        products = [functools.reduce(torch.mul, [columns[k] for k in power]) for power in self.products]
        values = self.net(torch.stack(products, -1))
        if lengths is None or self.cutoff is None:
            return values
        return values * smooth_cutoff(lengths, self.cutoff)[..., None]


class FiberConv(nn.Module):
    """A depthwise convolution, first over positions, then over directions.

    ``y_i(o) = sum_j k1(invariants of o and r_ij) f_j(o)`` over edges from j to i, then
    ``z_i(o) = mean over o' of k2(o.o') y_i(o')``, channel by channel, plus a bias.

    Args:
        channels: in and out.
        basis: functions of `KernelBasis`, for both kernels.
        fiber: whether there is the second step. Without it nodes that have no grid of directions are convolved, O = 1.
        generator: source of the initial parameters.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(self, channels: int, basis: int, *, fiber: bool = True, generator: Generator | None = None) -> None:
        super().__init__()
        check_sizes(channels=channels, basis=basis)
        bound = 1 / math.sqrt(basis)

        def kernel() -> nn.Parameter:
            return nn.Parameter(torch.empty(channels, basis).uniform_(-bound, bound, generator=generator))

        self.spatial = kernel()
        self.fiber = kernel() if fiber else None
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        spatial: Tensor,
        fiber: Tensor | None = None,
        center: Tensor | None = None,
    ) -> Tensor:
        """Features ``[N, O, C]``.

        Args:
            x: features ``[N, O, C]``.
            edge_index: int64 ``[2, E]``, source and target.
            spatial: the basis on edges and directions ``[E, O, basis]``.
            fiber: the basis on pairs of directions ``[O, O, basis]``, the direction of the output first; none where the layer
                has no second step.
            center: the basis ``[basis]`` of a pair of a node with itself, the same for all nodes and directions; it stands for
                an edge from every node to itself. Without it a node sees itself only where there is such an edge.

        Raises:
            ShapeError: shapes do not fit.
        """
        return self._turned(self._gathered(x, edge_index, spatial, fiber, center), fiber) + self.bias

    @torch.no_grad()
    def calibrate_(
        self,
        x: Tensor,
        edge_index: Tensor,
        spatial: Tensor,
        fiber: Tensor | None = None,
        center: Tensor | None = None,
    ) -> None:
        """Scale both kernels so that, on this batch, both steps keep the standard deviation of x.

        The authors' code does so in the first forward pass of training. Here it is asked for, and the parameters are all
        that it leaves behind. Arguments as `forward`.

        Raises:
            ErlangenError: features have no spread, so that no scale can keep it.
        """
        summed = self._gathered(x, edge_index, spatial, fiber, center)
        before, middle = x.std(), summed.std()
        after = self._turned(summed, fiber).std()
        if not (before > 0 and middle > 0 and after > 0):
            raise ErlangenError(f"x has the standard deviation {float(before):.2g}; calibrate with features that vary")
        self.spatial.mul_(before / middle)
        if self.fiber is not None:
            self.fiber.mul_(middle / after)

    def _gathered(
        self, x: Tensor, edge_index: Tensor, spatial: Tensor, fiber: Tensor | None, center: Tensor | None
    ) -> Tensor:
        self._check(x, edge_index, spatial, fiber, center)
        summed = gathered(x, edge_index, spatial, self.spatial)
        return summed if center is None else torch.addcmul(summed, x, self.spatial @ center)

    def _turned(self, y: Tensor, fiber: Tensor | None) -> Tensor:
        if fiber is None or self.fiber is None:
            return y
        return turned(y, nn.functional.linear(fiber, self.fiber / y.shape[1]))

    def _check(
        self, x: Tensor, edge_index: Tensor, spatial: Tensor, fiber: Tensor | None, center: Tensor | None
    ) -> None:
        channels, basis = self.spatial.shape
        fits = x.dim() == 3 and x.shape[2] == channels and spatial.shape == (edge_index.shape[1], x.shape[1], basis)
        turns = None if self.fiber is None or x.dim() != 3 else (x.shape[1], x.shape[1], basis)
        if not fits or (None if fiber is None else fiber.shape) != turns:
            given = "missing" if fiber is None else tuple(fiber.shape)
            needs = f"[O, O, {basis}]" if self.fiber is not None else "no fiber"
            raise ShapeError(
                f"x {tuple(x.shape)}, spatial {tuple(spatial.shape)}, fiber {given}; pass [N, O, {channels}], "
                f"[E, O, {basis}] and {needs}"
            )
        if center is not None and center.shape != (basis,):
            raise ShapeError(f"center has shape {tuple(center.shape)}; pass [{basis}]")


def lift_to_directions(directions: Tensor, scalars: Tensor | None = None, vectors: Tensor | None = None) -> Tensor:
    """Features ``[N, O, C]`` on grid directions ``[O, n]``: scalars are constant, vectors become ``v.o``.

    Args:
        directions: unit vectors ``[O, n]``.
        scalars: ``[N, S]``.
        vectors: ``[N, V, n]``.

    Returns:
        Scalars first, ``C = S + V``.

    Raises:
        ShapeError: shapes do not fit, or there is nothing to lift.
    """
    parts: list[Tensor] = []
    if scalars is not None:
        if scalars.dim() != 2:
            raise ShapeError(f"scalars have shape {tuple(scalars.shape)}; pass [N, S]")
        parts.append(scalars[:, None].expand(-1, len(directions), -1))
    if vectors is not None:
        if vectors.dim() != 3 or vectors.shape[-1] != directions.shape[-1]:
            raise ShapeError(f"vectors have shape {tuple(vectors.shape)}; pass [N, V, {directions.shape[-1]}]")
        parts.append((vectors @ directions.mT).mT)
    if not parts:
        raise ShapeError("scalars and vectors are both missing; pass one of them")
    return torch.cat(parts, -1)


def vectors_of_directions(x: Tensor, directions: Tensor) -> Tensor:
    """Vectors ``[N, C, n]`` of features ``[N, O, C]``: ``n`` times the mean of ``f(o) o``.

    On a grid with ``sum of o o^T = (O / n) identity`` (all regular solids and polygons) it is the inverse of lifting
    vectors. The paper leaves the factor n to the learned scale.

    Raises:
        ShapeError: shapes do not fit.
    """
    if x.dim() != 3 or x.shape[1] != len(directions):
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass [N, {len(directions)}, C], a value for each direction")
    return (x.mT @ directions) * (directions.shape[-1] / len(directions))
