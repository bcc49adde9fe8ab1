"""Normalisation of the features of each graph by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import ShapeError, check_sizes
from erlangen.nn.segments import segment_mean

__all__ = ["GraphNorm"]


class GraphNorm(nn.Module):
    """Every channel of every graph gets variance 1 and loses a learned share of its mean.

    Cai, Luo, Xu, He, Liu and Wang, "GraphNorm: a principled approach to accelerating graph neural network training" (ICML
    2021), equation 6: means over the rows of a graph, which may be nodes or pairs of nodes. Results do not depend on the other
    graphs of a batch.

    >>> norm = GraphNorm(2)
    >>> norm(torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 7.0]]), torch.tensor([0, 0, 1])).round(decimals=3).tolist()
    [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]

    Args:
        features: number of channels.
        eps: added to variances.

    Raises:
        ErlangenError: `features` is not positive.
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        check_sizes(features=features)
        self.weight, self.bias, self.mean_share = (nn.Parameter(torch.full((features,), v)) for v in (1.0, 0.0, 1.0))
        self.eps = eps

    def forward(self, x: Tensor, batch: Tensor, *, graphs: int | None = None) -> Tensor:
        """Features of the same shape.

        Args:
            x: rows ``[N, features]``.
            batch: the graph of each row, int64 ``[N]``.
            graphs: their number; by default that of the last one that occurs, and one.

        Raises:
            ShapeError, DtypeError: shapes do not fit, or `batch` is not int64.
        """
        if x.dim() != 2 or x.shape[1] != len(self.weight):
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [N, {len(self.weight)}]")
        count = graphs if graphs is not None else int(batch.max()) + 1 if len(batch) else 0
        x = x - self.mean_share * segment_mean(x, batch, count)[batch]
        scale = (segment_mean(x.square(), batch, count) + self.eps).rsqrt()
        return self.weight * x * scale[batch] + self.bias

    @override
    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps:g}"
