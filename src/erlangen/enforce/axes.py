"""Principal axes of a covariance and their derivative, in programs that run and in those that are compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.enforce.jacobi import jacobi_eigh
from erlangen.numerics import eigh
from erlangen.tracing import carries_derivative

ORDER = 2
"""Derivatives of compiled axes are right up to this order: forces, and training on forces."""


def principal_axes(covariance: Tensor, differentiable: bool | None) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[..., n]``, ascending, and eigenvectors in columns ``[..., n, n]`` of symmetric matrices.

    Args:
        covariance: ``[..., n, n]``, float32 or float64.
        differentiable: whether gradients flow through the vectors; ``None`` where a derivative can be taken through the
            covariance. They are `erlangen.numerics.eigh`'s, finite where eigenvalues coincide.
    """
    wanted = carries_derivative(covariance) if differentiable is None else differentiable
    if not wanted:
        values, axes = decompose(covariance.detach())
    elif torch.compiler.is_compiling():
        values, axes = _refined(covariance)
    else:
        values, axes = eigh(covariance)[:2]
    return values, axes


def decompose(A: Tensor) -> tuple[Tensor, Tensor]:
    """`torch.linalg.eigh` of symmetric matrices, without gradients; in exported programs what every runtime can compute."""
    values, axes = jacobi_eigh(A) if torch.compiler.is_exporting() else torch.linalg.eigh(A)
    return values, axes


def turned(axes: Tensor, signs: Tensor | None = None) -> Tensor:
    """Orthonormal axes in columns ``[..., n, n]`` times signs ``[..., n]``, the first one such that they are a rotation."""
    given, axes = axes, axes if signs is None else axes * signs[..., None, :]
    if axes.shape[-1] == 3 and not torch.compiler.is_exporting():
        first = torch.linalg.cross(axes[..., 1], axes[..., 2])
        return torch.cat([first[..., None], axes[..., 1:]], -1)
    handed = handedness(given) if signs is None else handedness(given) * signs.prod(-1)
    return torch.cat([axes[..., :1] * handed[..., None, None], axes[..., 1:]], -1)


def handedness(axes: Tensor) -> Tensor:
    """Sign of the determinant of orthonormal axes ``[..., n, n]`` that `principal_axes` gave, ``[...]``."""
    if torch.compiler.is_exporting():
        return torch.ones_like(axes[..., 0, 0])  # `jacobi_eigh` gives rotations alone
    return torch.linalg.det(axes.detach()).sign()


def _refined(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The same by plain operations, for compilers, which cannot follow a function with derivatives of its own.

    Corrections that are zero, but whose derivatives are not: perturbation theory as a fixed point, ``V <- V + V E`` with
    ``E_ij = (V^T A V + l_j (I - V^T V))_ij / (l_j - l_i)`` and ``E_ii = (I - V^T V)_ii / 2`` (Ogita and Aishima 2018). Each
    step makes one more order of the derivatives right. Eigenvalues carry no gradient here; frames compare them alone.
    """
    values, axes = decompose(covariance.detach())
    difference = values[..., None, :] - values[..., :, None]
    largest = values.abs().amax(-1)[..., None, None]
    denominator = difference.square() + torch.finfo(values.dtype).eps * largest.square()
    reciprocal = difference / torch.where(denominator == 0, 1.0, denominator)
    eye = torch.eye(values.shape[-1], dtype=values.dtype, device=values.device)
    for _ in range(ORDER):
        away = eye - axes.transpose(-2, -1) @ axes
        mixed = axes.transpose(-2, -1) @ covariance @ axes + values[..., None, :] * away
        step = mixed * reciprocal + torch.diag_embed(away.diagonal(dim1=-2, dim2=-1)) / 2
        axes = axes + axes @ (step - step.detach())
    return values, axes
