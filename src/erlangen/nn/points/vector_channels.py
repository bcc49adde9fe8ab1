"""Layers for channels of vectors ``[..., channels, n]``: maps, non-linearities and gates that turn with space.

A channel of vectors is what a channel of numbers is to a plain network. Every layer commutes with all rotations and
reflections of R^n, whatever n is; `VectorLinear` with all linear maps. None commutes with shifts: subtract a mean before,
add it after.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.groups import O
from erlangen.symmetry import Symmetry

__all__ = ["VectorGate", "VectorLinear", "VectorReLU"]


class VectorLinear(nn.Module):
    """A linear map of channels, the same for every coordinate, and so without a bias (Deng et al. 2021, section 3.1).

    Args:
        in_channels, out_channels: numbers of vectors.
        dim: dimension of space, for `symmetry`.
        generator: source of the initial weights, uniform as in ``torch.nn.Linear``.

    Attributes:
        symmetry: O(dim) on vectors.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dim: int = 3, generator: Generator | None = None
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        bound = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound, generator=generator))
        self.symmetry = Symmetry(O(dim), input="vectors", output="vectors")

    def forward(self, x: Tensor) -> Tensor:
        """``[..., out_channels, n]`` of ``[..., in_channels, n]``.

        Raises:
            ShapeError: x has another number of channels.
        """
        check_channels(x, self.weight.shape[1])
        return self.weight @ x

    @override
    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} -> {self.weight.shape[0]}"


class VectorReLU(nn.Module):
    """The non-linearity of vector neurons: what points against a learned direction is cut off.

    Of each output channel, linear maps give a vector q and a direction k. Where ``q.k >= 0`` it is q, elsewhere
    ``q - (1 - slope) (q.k) / (|k|^2 + eps) k`` (Deng et al., "Vector Neurons", ICCV 2021, equations 6 to 8).

    Args:
        in_channels, out_channels: numbers of vectors; by default equal.
        slope: of what points against the direction; 0 cuts it off, 1 keeps it.
        eps: in squared units of x; keeps the gradient finite where k is zero.
        dim: dimension of space, for `symmetry`.
        generator: source of the initial weights.

    Attributes:
        symmetry: O(dim) on vectors.

    Raises:
        ErlangenError: a size or `eps` is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        slope: float = 0.0,
        eps: float = 1e-4,
        dim: int = 3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ErlangenError(f"eps = {eps}; give a positive number")
        out_channels = in_channels if out_channels is None else out_channels
        self.value = VectorLinear(in_channels, out_channels, dim=dim, generator=generator)
        self.direction = VectorLinear(in_channels, out_channels, dim=dim, generator=generator)
        self.slope, self.eps = slope, eps
        self.symmetry = self.value.symmetry

    def forward(self, x: Tensor) -> Tensor:
        """``[..., out_channels, n]`` of ``[..., in_channels, n]``.

        Raises:
            ShapeError: x has another number of channels.
        """
        q, k = self.value(x), self.direction(x)
        against = (q * k).sum(-1, keepdim=True).clamp(max=0)
        return q - (1 - self.slope) * against / (k.square().sum(-1, keepdim=True) + self.eps) * k

    @override
    def extra_repr(self) -> str:
        return f"slope={self.slope}, eps={self.eps}"


class VectorGate(nn.Module):
    """Vectors scaled by a sigmoid of invariant features: one gate for each channel.

    Args:
        features: number of invariants.
        channels: number of vectors.
        dim: dimension of space, for `symmetry`.
        generator: source of the initial weights.

    Attributes:
        symmetry: O(dim) on ``(h, x)``, to vectors.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(self, features: int, channels: int, *, dim: int = 3, generator: Generator | None = None) -> None:
        super().__init__()
        check_sizes(features=features, channels=channels)
        bound = 1 / math.sqrt(features)
        self.weight = nn.Parameter(torch.empty(channels, features).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound, generator=generator))
        self.symmetry = Symmetry(O(dim), input=("invariant", "vectors"), output="vectors")

    def forward(self, h: Tensor | tuple[Tensor, Tensor], x: Tensor | None = None) -> Tensor:
        """``[..., channels, n]``.

        Args:
            h: invariants ``[..., features]``, or the tuple ``(h, x)``.
            x: vectors ``[..., channels, n]``.

        Raises:
            ShapeError: shapes do not fit.
        """
        if isinstance(h, tuple):
            return self(*h)
        if x is None or h.shape[-1:] != self.weight.shape[1:]:
            given = "x is missing" if x is None else f"h has shape {tuple(h.shape)}"
            raise ShapeError(
                f"{given}; pass h [..., {self.weight.shape[1]}] and vectors [..., {self.weight.shape[0]}, n]"
            )
        check_channels(x, self.weight.shape[0])
        return x * torch.sigmoid(nn.functional.linear(h, self.weight, self.bias))[..., None]


def check_channels(x: Tensor, channels: int) -> None:
    """Raise `ShapeError` unless x is ``[..., channels, n]``."""
    if x.dim() < 2 or x.shape[-2] != channels:
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass [..., {channels}, n], a row for each vector")
