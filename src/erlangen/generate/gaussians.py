"""Gaussians on the subspace of vectors with mean zero: what noise must be where the origin does not count.

No density on R^n is invariant under shifts. Its place takes the standard normal on the subspace of point sets whose mean
is zero, which rotations and reflections leave alone, and permutations, too (Köhler, Klein and Noé, "Equivariant Flows",
ICML 2020; Xu et al., "GeoDiff", ICLR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError

__all__ = ["CenteredGaussian"]


class CenteredGaussian:
    """The standard normal on tensors whose mean over some axes is zero.

    >>> noise = CenteredGaussian(-2)
    >>> x = noise.sample((100, 5, 3), generator=torch.Generator().manual_seed(0))
    >>> bool(x.mean(-2).abs().max() < 1e-6), noise.dimension(x.shape)
    (True, 12)

    Args:
        axes: the axes that are centred together, negative: -2 for the points of a cloud ``[..., N, n]``, (-3, -2) for the
            points and frames of a trajectory ``[..., T, N, n]``. One sample is made of these axes and the last one.

    Raises:
        ErlangenError: an axis is not negative, is the last one, or is given twice.
    """

    def __init__(self, axes: int | Sequence[int] = -2) -> None:
        self.axes = (axes,) if isinstance(axes, int) else tuple(axes)
        if not self.axes or len(set(self.axes)) < len(self.axes) or max(self.axes) > -2:
            raise ErlangenError(f"axes = {axes}; give different axes below -1: the last one holds coordinates")

    def dimension(self, shape: Sequence[int]) -> int:
        """Dimension of the subspace, for one sample without padding."""
        return (math.prod(shape[axis] for axis in self.axes) - 1) * shape[-1]

    def project(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Subtract the mean: the orthogonal projection onto the subspace.

        Args:
            x: floating, with the axes of the class.
            mask: bool, of the shape of x without its last axis, or one that broadcasts with it: what exists. The mean is
                that of what exists, and the rest becomes zero.

        Raises:
            ShapeError: x has too few axes, or the mask does not fit.
        """
        self._check(x)
        if mask is None:
            return x - x.mean(self.axes, keepdim=True)
        weight = self._weight(x, mask)
        mean = (x * weight).sum(self.axes, keepdim=True) / weight.sum(self.axes, keepdim=True).clamp(min=1)
        return (x - mean) * weight

    def sample(
        self,
        shape: Sequence[int],
        *,
        generator: Generator | None = None,
        mask: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """A sample of this shape; the generator draws in `dtype`, on its device. Other arguments as `project`."""
        place = device if generator is None else generator.device
        z = torch.randn(tuple(shape), generator=generator, dtype=dtype, device=place)
        return self.project(z.to(device) if device is not None else z, mask)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density with respect to the volume of the subspace: x without the axes of the class and without the last.

        What of x lies outside of the subspace does not count. Arguments and errors as `project`.
        """
        squares = self.project(x, mask).square().sum((*self.axes, -1))
        return -0.5 * (squares + self.dimensions(x, mask) * math.log(2 * math.pi))

    def dimensions(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The dimension of every sample's subspace, as a floating tensor of the shape of `log_prob`. Arguments as `project`."""
        exist = x.new_ones(*x.shape[:-1], 1) if mask is None else self._weight(x, mask)
        return (exist.sum((*self.axes, -1)) - 1).clamp(min=0) * x.shape[-1]

    def __repr__(self) -> str:
        return f"CenteredGaussian(axes={self.axes})"

    def _check(self, x: Tensor) -> None:
        if x.dim() < -min(self.axes):
            raise ShapeError(f"x has shape {tuple(x.shape)}; {self} needs at least {-min(self.axes)} axes")

    def _weight(self, x: Tensor, mask: Tensor) -> Tensor:
        """The mask as numbers, with the shape of x but a last axis of one."""
        if mask.dtype != torch.bool:
            raise ShapeError(f"mask has dtype {mask.dtype}; pass bool, true for what exists")
        try:
            return mask.expand(x.shape[:-1])[..., None].to(x.dtype)
        except RuntimeError as error:
            raise ShapeError(f"mask {tuple(mask.shape)} does not broadcast to {tuple(x.shape[:-1])}") from error
