"""Blocks of networks on channels of vectors: normalisation, pooling over points, attention between points."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_sizes, first_index
from erlangen.groups import O
from erlangen.nn.points.vector_channels import VectorLinear, check_channels
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

__all__ = ["VectorAttention", "VectorNorm", "VectorPool"]


class VectorNorm(nn.Module):
    """Vectors whose lengths are normalised: over the batch for each channel, or over the channels of each sample.

    >>> norm = VectorNorm(4, over="channels")
    >>> x = torch.randn(2, 4, 3)
    >>> norm(x).shape, torch.allclose(norm(5 * x), norm(x), atol=1e-3)
    (torch.Size([2, 4, 3]), True)

    Each vector v becomes ``N(|v|) v / |v|``, where N is batch or layer normalisation of lengths with its scale and bias. A
    vector shorter than the others may come out reversed, as N may be negative; a zero vector stays zero.

    Args:
        channels: number of vectors.
        over: "batch" (Deng et al., "Vector Neurons", ICCV 2021, section 3.4) or "channels" (Assaad et al., "VN-Transformer",
            arXiv 2206.04176, section 4.3).
        eps: what a length is at least when it divides; in units of x.
        dim: dimension of space, for `symmetry`.

    Attributes:
        symmetry: O(dim) on vectors.

    Raises:
        ErlangenError: a size or `eps` is not positive.
        UnknownNameError: `over` is neither of the two.
    """

    def __init__(
        self, channels: int, *, over: Literal["batch", "channels"] = "batch", eps: float = 1e-6, dim: int = 3
    ) -> None:
        super().__init__()
        check_sizes(channels=channels)
        if not eps > 0:
            raise ErlangenError(f"eps = {eps}; give a positive number")
        if over not in ("batch", "channels"):
            raise UnknownNameError(f"over = {over!r}; give 'batch' or 'channels'")
        self.channels, self.over, self.eps = channels, over, eps
        self.lengths = nn.BatchNorm1d(channels) if over == "batch" else nn.LayerNorm(channels)
        self.symmetry = Symmetry(O(dim), input="vectors", output="vectors")

    def forward(self, x: Tensor) -> Tensor:
        """``[..., channels, n]`` of the same; statistics of "batch" run over all leading axes.

        Raises:
            ShapeError: x has another number of channels.
        """
        check_channels(x, self.channels)
        # The root of a sum that is never zero has a gradient at the zero vector.
        length = (x.square().sum(-1) + self.eps**2).sqrt()
        normal = self.lengths(length.reshape(-1, self.channels)).view_as(length)
        return x * (normal / length)[..., None]

    @override
    def extra_repr(self) -> str:
        return f"{self.channels}, over={self.over!r}"


class VectorPool(nn.Module):
    """One cloud's channels of vectors from those of its points: the mean, or in each channel the vector that points furthest.

    >>> pool = VectorPool(4, how="max", generator=torch.Generator().manual_seed(0))
    >>> x = torch.randn(2, 10, 4, 3)
    >>> pool(x).shape, torch.equal(pool(x), pool(x.flip(1)))
    (torch.Size([2, 4, 3]), True)

    With "max" a learned map gives each point and channel a direction k; of the points' vectors v that one is taken whose
    ``v.k`` is largest (Deng et al., "Vector Neurons", ICCV 2021, section 3.3). Where two points tie, which is taken depends on
    their order unless their vectors agree too.

    Args:
        channels: number of vectors.
        how: "mean" or "max".
        dim: dimension of space, for `symmetry`.
        generator: source of the initial weights of "max".

    Attributes:
        symmetry: O(dim) on vectors.

    Raises:
        ErlangenError: a size is not positive.
        UnknownNameError: `how` is neither of the two.
    """

    def __init__(
        self,
        channels: int,
        *,
        how: Literal["mean", "max"] = "mean",
        dim: int = 3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels)
        if how not in ("mean", "max"):
            raise UnknownNameError(f"how = {how!r}; give 'mean' or 'max'")
        self.channels, self.how = channels, how
        self.direction = VectorLinear(channels, channels, dim=dim, generator=generator) if how == "max" else None
        self.symmetry = Symmetry(O(dim), input="vectors", output="vectors")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[..., channels, n]`` of ``[..., N, channels, n]``.

        Args:
            x: vectors of N points.
            mask: bool ``[..., N]``, which points there are; each cloud needs one.

        Raises:
            ShapeError: shapes do not fit, or there are no points.
        """
        check_channels(x, self.channels)
        known = _known(x, mask)
        if x.shape[-3] == 0:
            raise ShapeError(f"x has shape {tuple(x.shape)}: no points to pool")
        if self.direction is None:
            if known is None:
                return x.mean(-3)
            weight = known[..., None, None].to(x.dtype)
            return x.where(known[..., None, None], 0.0).sum(-3) / weight.sum(-3)
        score = (x * self.direction(x)).sum(-1)
        if known is not None:
            score = score.masked_fill(~known[..., None], -math.inf)
        first = score.argmax(-2, keepdim=True)[..., None].expand(*x.shape[:-3], 1, *x.shape[-2:])
        return x.gather(-3, first).squeeze(-3)

    @override
    def extra_repr(self) -> str:
        return f"{self.channels}, how={self.how!r}"


class VectorAttention(nn.Module):
    """Attention between points whose features are channels of vectors; weights are inner products, so they are invariant.

    >>> attend = VectorAttention(8, heads=2, generator=torch.Generator().manual_seed(0))
    >>> attend(torch.randn(2, 10, 8, 3)).shape
    torch.Size([2, 10, 8, 3])

    Queries, keys and values are linear maps of channels. The weight of point j for point i is the softmax over j of
    ``<Q_i, K_j> / sqrt(n channels / heads)``, the inner product of all vectors of a head (Assaad et al., "VN-Transformer",
    arXiv 2206.04176, equations 4 to 7). It commutes with O(n) and with permutations of the points.

    Args:
        channels: number of vectors.
        heads: divides `channels`.
        dim: dimension of space, for `symmetry`.
        generator: source of the initial weights.

    Attributes:
        symmetry: O(dim) on vectors.

    Raises:
        ErlangenError: a size is not positive, or the heads do not divide the channels.
    """

    def __init__(self, channels: int, *, heads: int = 1, dim: int = 3, generator: Generator | None = None) -> None:
        super().__init__()
        check_sizes(channels=channels, heads=heads)
        if channels % heads:
            raise ErlangenError(f"heads = {heads} does not divide channels = {channels}")
        self.channels, self.heads = channels, heads
        self.query, self.key, self.value, self.out = (
            VectorLinear(channels, channels, dim=dim, generator=generator) for _ in range(4)
        )
        self.symmetry = Symmetry(O(dim), input="vectors", output="vectors")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[..., N, channels, n]`` of the same.

        Args:
            x: vectors of N points.
            mask: bool ``[..., N]``, which points there are, at least one in each cloud; others are not looked at, and what they
                get has no meaning.

        Raises:
            ShapeError: shapes do not fit.
        """
        check_channels(x, self.channels)
        known = _known(x, mask)
        if known is not None:
            x = x.where(known[..., None, None], 0.0)  # a weight of zero would let NaN through
        q, k, v = (self._by_head(map_(x)) for map_ in (self.query, self.key, self.value))
        score = q @ k.mT / math.sqrt(q.shape[-1])
        if known is not None:
            score = score.masked_fill(~known[..., None, None, :], -math.inf)
        mixed = score.softmax(-1) @ v
        together = mixed.unflatten(-1, (self.channels // self.heads, x.shape[-1])).transpose(-4, -3).flatten(-3, -2)
        return self.out(together)

    def _by_head(self, x: Tensor) -> Tensor:
        """``[..., heads, N, channels / heads * n]``."""
        return x.unflatten(-2, (self.heads, self.channels // self.heads)).transpose(-4, -3).flatten(-2)

    @override
    def extra_repr(self) -> str:
        return f"{self.channels}, heads={self.heads}"


def _known(x: Tensor, mask: Tensor | None) -> Tensor | None:
    if x.ndim < 3:
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass [..., N, channels, n], the vectors of N points")
    if mask is not None and (mask.shape != x.shape[:-2] or mask.dtype != torch.bool):
        raise ShapeError(f"mask is {mask.dtype} {tuple(mask.shape)}; give bool [..., N] = {tuple(x.shape[:-2])}")
    if mask is not None and not is_traced() and not bool(mask.any(-1).all()):
        raise ShapeError(f"mask{list(first_index(~mask.any(-1)))} has no point; leave clouds without points out")
    return mask
