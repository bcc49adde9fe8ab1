"""The network around the normalisations: bilinear maps, rectified and taken logarithms of eigenvalues, a head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.numerics import sym_floor, sym_log

FLOOR = 1e-5
"""Least eigenvalue after ReEig, and what is added to covariances of features, as the authors have it."""


class BiMap(nn.Module):
    """``W^T X W`` with orthonormal columns W ``[n, m]``; from the leading left singular vectors of A A^T, A uniform."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        A = torch.rand(n, n, dtype=torch.float64)
        self.weight = nn.Parameter(torch.linalg.svd(A @ A.mT)[0][:, :m].contiguous())

    def manifold_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The columns are orthonormal."""
        return {"stiefel": [self.weight]}

    @override
    def forward(self, X: Tensor) -> Tensor:
        Y = self.weight.mT @ X @ self.weight
        return (Y + Y.mT) / 2


class ReEig(nn.Module):
    """Eigenvalues raised to at least `FLOOR`."""

    @override
    def forward(self, X: Tensor) -> Tensor:
        return sym_floor(X, FLOOR)


class LogEig(nn.Module):
    """Matrix logarithm."""

    @override
    def forward(self, X: Tensor) -> Tensor:
        return sym_log(X)


class SPDNet(nn.Module):
    """BiMap, a normalisation or none, ReEig, LogEig, a linear head: matrices ``[B, n, n]`` to logits ``[B, classes]``.

    Args:
        n, m: rows before and after BiMap.
        classes: logits.
        norm: makes the normalisation of ``[B, 1, m, m]`` from m, or another layer in its place; None leaves it out.
        front: what makes matrices of the inputs.
    """

    def __init__(
        self,
        n: int,
        m: int,
        classes: int,
        norm: Callable[[int], nn.Module] | None = None,
        front: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.front = front or nn.Identity()
        self.bimap = BiMap(n, m)
        self.norm = nn.Identity() if norm is None else norm(m).double()
        self.rest = nn.Sequential(ReEig(), LogEig(), nn.Flatten(), nn.Linear(m * m, classes, dtype=torch.float64))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.norm(self.bimap(self.front(x).double()[:, None])))


class Convolutions(nn.Module):
    """The front end for trials ``[B, channels, samples]``: a spatial and a temporal convolution, then covariances in float64."""

    def __init__(self, channels: int, spatial: int = 125, temporal: int = 15) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, spatial, (channels, 1)),
            nn.BatchNorm2d(spatial),
            nn.Conv2d(spatial, temporal, (1, 36), padding=(0, 18)),
            nn.BatchNorm2d(temporal),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        return covariances(self.body(x[:, None])[:, :, 0].double())


def covariances(x: Tensor) -> Tensor:
    """``x x^T / (T - 1) + 1e-5 I`` of trials ``[B, channels, T]`` less their means, not divided by the trace."""
    x = x - x.mean(-1, keepdim=True)
    return x @ x.mT / (x.shape[-1] - 1) + FLOOR * torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
