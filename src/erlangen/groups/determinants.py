"""Determinants and parities by plain arithmetic, which exported programs can take along: few runtimes know a determinant."""

from __future__ import annotations

import torch
from torch import Tensor


def determinant(A: Tensor) -> Tensor:
    """Determinants ``[...]`` of ``[..., n, n]``; by Laplace's expansion where n <= 2 or a program is exported."""
    n = A.shape[-1]
    if n == 1:
        return A[..., 0, 0]
    if n == 2:
        return A[..., 0, 0] * A[..., 1, 1] - A[..., 0, 1] * A[..., 1, 0]
    if not torch.compiler.is_exporting():
        return torch.linalg.det(A)
    minors = [determinant(torch.cat([A[..., 1:, :k], A[..., 1:, k + 1 :]], -1)) for k in range(n)]
    return torch.stack([(-1) ** k * A[..., 0, k] * minor for k, minor in enumerate(minors)], -1).sum(-1)


def parity(permutations: Tensor) -> Tensor:
    """Signs +1 and -1, int64 ``[...]``, of permutations ``[..., n]``, by the number of their inversions."""
    n = permutations.shape[-1]
    before, after = torch.triu_indices(n, n, 1, device=permutations.device).unbind()
    inverted = permutations.index_select(-1, before) > permutations.index_select(-1, after)
    return 1 - 2 * (inverted.to(torch.int64).sum(-1) % 2)
