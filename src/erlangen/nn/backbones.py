"""Plain networks without a symmetry of space, to be wrapped by `erlangen.symmetrize` or to be compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError

__all__ = ["PointNet", "mlp"]

Pool = Literal["max", "mean"]


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.SiLU,
    *,
    last: bool = False,
    generator: Generator | None = None,
) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them, and after the last one if `last`.

    Weights and biases are uniform within ``1 / sqrt(inputs)``, PyTorch's default, but drawn from `generator`.

    Raises:
        ErlangenError: fewer than two sizes, or one that is not positive.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ErlangenError(f"sizes = {list(sizes)}: give at least the sizes of the input and the output, all positive")
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, a, b)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(a**-0.5), a**-0.5, generator=generator)
        layers += [linear, activation()]
    return nn.Sequential(*(layers if last else layers[:-1]))


class PointNet(nn.Module):
    """A network for each point, pooled over the cloud: one answer for a cloud, or one for each of its points.

    After Qi, Su, Mo and Guibas (2017), without its learned alignments. It does not depend on the order of the points; it
    does depend on where and how the cloud lies, unless it is wrapped by `erlangen.symmetrize`.

    Args:
        in_features: numbers per point.
        out_features: numbers per cloud, or per point.
        width: features per point before pooling are ``2 * width``.
        per_point: answer for each point, from its features (of size `width`) and those of the whole cloud.
        pool: the largest value of each feature over the cloud, or the mean.
        generator: source of the initial parameters.

    Raises:
        ErlangenError: a size is not positive.
        UnknownNameError: `pool` is not known.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 64,
        *,
        per_point: bool = False,
        pool: Pool = "max",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if pool not in get_args(Pool):
            raise UnknownNameError(f"pool = {pool!r}; known pools are {', '.join(get_args(Pool))}")
        self.in_features, self.per_point, self.pool = in_features, per_point, pool
        self.points = mlp([in_features, width, width], nn.ReLU, last=True, generator=generator)
        self.spread = mlp([width, 2 * width], generator=generator)
        self.head = mlp([(3 if per_point else 2) * width, width, out_features], nn.ReLU, generator=generator)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, out_features]``, or ``[B, N, out_features]`` for `per_point`, of clouds ``[B, N, in_features]``.

        Args:
            x: the clouds, N at least 1.
            mask: boolean ``[B, N]``, true for points that exist; each cloud needs one. Answers for others are arbitrary.

        Raises:
            ShapeError: another number of dimensions or features, or no points.
        """
        if x.dim() != 3 or x.shape[-1] != self.in_features or x.shape[1] == 0:
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [B, N, {self.in_features}] with N at least 1")
        local = self.points(x)
        whole = self._pooled(self.spread(local), mask)
        if not self.per_point:
            return self.head(whole)
        return self.head(torch.cat([local, whole[:, None].expand(-1, x.shape[1], -1)], -1))

    def _pooled(self, h: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return h.amax(1) if self.pool == "max" else h.mean(1)
        exists = mask[..., None]
        if self.pool == "max":
            return h.masked_fill(~exists, -torch.inf).amax(1)
        return (h * exists).sum(1) / exists.sum(1)
