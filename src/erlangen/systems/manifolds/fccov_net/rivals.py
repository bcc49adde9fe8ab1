"""What else tells how vectors depend on responses that are known by their distances: other matrices K, and other statistics."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.systems.manifolds.fccov_net.method import centred


def gmdd_kernel(D: Tensor) -> Tensor:
    """Generalised martingale difference divergence (Chen, Jiao, Qiu and Yu 2024): K = -D, double-centred."""
    return -centred(D)


def gsir_kernel(D: Tensor, ridge: float = 0.1) -> Tensor:
    """Generalised sliced inverse regression (Lee, Li and Chiaromonte 2013): the smoother of a Gaussian kernel on the
    responses.
    """
    n = len(D)
    G = centred(torch.exp(-((D / D[D > 0].median()) ** 2) / 2))
    top = torch.linalg.eigvalsh(G)[-1]
    return n * torch.linalg.solve(G + ridge * top * torch.eye(n, dtype=D.dtype), G)


def scaling(D: Tensor, dimensions: int) -> Tensor:
    """Classical multidimensional scaling: coordinates ``[n, dimensions]`` whose distances come near D."""
    values, vectors = torch.linalg.eigh(gmdd_kernel(D**2) / 2)
    return vectors[:, -dimensions:].flip(1) * values[-dimensions:].flip(0).clamp(min=0).sqrt()


def sir_kernel(D: Tensor, slices: int = 10) -> Tensor:
    """Sliced inverse regression (Li 1991), on slices along the first coordinate of `scaling`."""
    n = len(D)
    slice_of = scaling(D, 1)[:, 0].argsort().argsort() * slices // n
    same = slice_of[:, None] == slice_of[None, :]
    return n * same.to(D.dtype) / same.sum(1)


def cume_kernel(D: Tensor) -> Tensor:
    """Cumulative mean estimation (Zhu, Zhu and Feng 2010), along the first coordinate of `scaling`: intervals in place of
    balls.
    """
    n = len(D)
    rank = scaling(D, 1)[:, 0].argsort().argsort().to(D.dtype)
    return (n - torch.maximum(rank[:, None], rank[None, :])) / n


def distance_covariance(f: Tensor, K: Tensor) -> Tensor:
    """Squared distance covariance ``-n^-2 sum |f_i - f_j| K_ij`` with K of `gmdd_kernel`, up to its scale: the length where that
    has half the squared length.
    """
    apart = (f[:, None] - f[None, :]).square().sum(-1)
    return -((apart + 1e-12).sqrt() * K).sum() / len(f) ** 2
