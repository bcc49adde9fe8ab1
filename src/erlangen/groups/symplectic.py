"""The real symplectic group."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Generator, Tensor

from erlangen.groups.matrix import (
    DEFAULT_SCALE,
    MatrixGroup,
    check_size,
    is_close,
    scaled_name,
    symmetric_basis,
)
from erlangen.groups.rotations import standard_normal


class Sp(MatrixGroup):
    """Sp(n): linear maps of R^2n that keep the symplectic form ``q.p' - p.q'`` of (q, p); n >= 1.

    The linear canonical transformations of n degrees of freedom; ``Sp(1)`` is SL(2). Basis: ``J S`` with S the
    orthonormal symmetric matrices (diagonal units, then ``(E_ij + E_ji) / sqrt 2``) and ``J = [[0, I], [-I, 0]]``; the
    coordinates are those of a quadratic Hamiltonian with Hessian S, and exp is its flow. Proposal: ``exp(X) exp(Y)`` with
    X and Y Gaussian of standard deviation `scale` in that basis; its density against Haar measure is not known in closed
    form, so `log_haar_weight` raises.
    """

    is_compact = False

    def __init__(self, n: int, *, scale: float = DEFAULT_SCALE) -> None:
        check_size("Sp", n, 1)
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
        first, second = self.exp(self.scale * standard_normal((2, *size, self.dim), generator))
        return first @ second


def _symplectic_form(n: int) -> Tensor:
    eye, zero = torch.eye(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    return torch.cat([torch.cat([zero, eye], -1), torch.cat([-eye, zero], -1)])
