"""The real symplectic group."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Generator, Tensor

from erlangen.groups.matrix import (
    DEFAULT_SCALE,
    MAX_DIMENSION,
    MatrixGroup,
    check_size,
    is_close,
    scaled_name,
    symmetric_basis,
)
from erlangen.groups.rotations import standard_normal
from erlangen.numerics import log_sinhc, sym_exp


class Sp(MatrixGroup):
    """Sp(n): linear maps of R^2n that keep the symplectic form ``q.p' - p.q'`` of (q, p); n >= 1.

    The linear canonical transformations of n degrees of freedom; ``Sp(1)`` is SL(2). Basis: ``J S`` with S the
    orthonormal symmetric matrices (diagonal units, then ``(E_ij + E_ji) / sqrt 2``) and ``J = [[0, I], [-I, 0]]``; the
    coordinates are those of a quadratic Hamiltonian with Hessian S, and exp is its flow. Proposal: ``exp(X) K`` with X
    Gaussian of standard deviation `scale` in an orthonormal basis of the symmetric matrices of the algebra, and K Haar in
    the rotations of the group, which are U(n).
    """

    is_compact = False

    def __init__(self, n: int, *, scale: float = DEFAULT_SCALE) -> None:
        check_size("Sp", n, 1, MAX_DIMENSION // 2)
        super().__init__(scaled_name(f"Sp({n})", scale), _symplectic_form(n) @ symmetric_basis(2 * n))
        self.n, self.scale = n, scale

    @cached_property
    def form(self) -> Tensor:
        """``J = [[0, I], [-I, 0]]``, float64 ``[2n, 2n]``: ``g^T J g = J`` for all elements."""
        return _symplectic_form(self.n)

    def inverse(self, g: Tensor) -> Tensor:
        """``-J g^T J``."""
        form = self.form.to(g)
        return -form @ g.mT @ form

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        form = self.form.to(g)
        return is_close(g.mT @ form @ g, form, tol * g.square().sum((-2, -1)).clamp(min=1))

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        x = self.scale * standard_normal((*size, self.n * (self.n + 1)), generator)
        X = torch.einsum("...d,dij->...ij", x, _symmetric_part(self.n).to(x))
        return sym_exp(X) @ _random_unitary(self.n, size, generator)

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """Sum of ``log(sinh(r) / r)`` over the positive roots r of X = log sqrt(g g^T), ``+ |X|^2 / (2 scale^2)``.

        With the eigenvalues +-l_i of X the roots are ``l_i - l_j``, ``l_i + l_j`` for i < j, and ``2 l_i`` (type C_n;
        Helgason, Groups and Geometric Analysis, theorem I.5.8).
        """
        self.batch_shape(g)
        logs = torch.linalg.svdvals(g)[..., : self.n].log()  # they come as reciprocal pairs, the larger ones first
        i, j = torch.triu_indices(self.n, self.n, 1, device=g.device)
        pairs = torch.cat([logs[..., i] - logs[..., j], logs[..., i] + logs[..., j], 2 * logs], -1)
        return log_sinhc(pairs).sum(-1) + 2 * logs.square().sum(-1) / (2 * self.scale**2)


def _symmetric_part(n: int) -> Tensor:
    """Orthonormal basis of the symmetric matrices ``[[A, B], [B, -A]]`` of the algebra, ``[n (n + 1), 2n, 2n]``."""
    S = symmetric_basis(n) / math.sqrt(2)
    zero = torch.zeros_like(S)
    diagonal = torch.cat([torch.cat([S, zero], -1), torch.cat([zero, -S], -1)], -2)
    mixed = torch.cat([torch.cat([zero, S], -1), torch.cat([S, zero], -1)], -2)
    return torch.cat([diagonal, mixed])


def _random_unitary(n: int, size: tuple[int, ...], generator: Generator | None) -> Tensor:
    """Haar-distributed unitary matrices ``U = P + i Q`` as ``[[P, Q], [-Q, P]]``: QR with fixed phases (Mezzadri)."""
    Q, R = torch.linalg.qr(torch.complex(*standard_normal((2, *size, n, n), generator)))
    phases = R.diagonal(dim1=-2, dim2=-1)
    U = Q * (phases / phases.abs())[..., None, :]
    return torch.cat([torch.cat([U.real, U.imag], -1), torch.cat([-U.imag, U.real], -1)], -2)


def _symplectic_form(n: int) -> Tensor:
    eye, zero = torch.eye(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    return torch.cat([torch.cat([zero, eye], -1), torch.cat([-eye, zero], -1)])
