"""Coupling coefficients of real harmonics: 3j symbols and Gaunt integrals, dense and sparse.

Everything is computed once per triple in float64 from integers, without cancellation, and kept.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import IrrepsError, is_whole

MAX_COUPLING_DEGREE = 16
"""Largest degree of `wigner_3j` and `gaunt`: up to here every sum of Racah's formula is exact in float64."""


class SparseCoupling(NamedTuple):
    """Non-zero entries: ``indices`` int64 ``[3, nnz]`` in lexicographic order, ``values`` ``[nnz]``."""

    indices: Tensor
    values: Tensor


def wigner_3j(
    l1: int, l2: int, l3: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Real coupling coefficients ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]``, with e3nn's sign and sum of squares 1.

    The invariant of three degrees, unique up to a factor: ``C_ijk = D1_ia D2_jb D3_kc C_abc`` for every rotation,
    D from `wigner_D`. ``einsum("i,j,ijk->k", x, y, C)`` couples x of degree l1 and y of degree l2 to degree l3.

    Args:
        l1, l2, l3: degrees in 0..16 that fulfil ``|l1 - l2| <= l3 <= l1 + l2``.
        dtype: torch's default dtype by default.
        device: the CPU by default.

    Raises:
        IrrepsError: a degree is not an integer in 0..16, or the three cannot be coupled.

    Source: Racah, Phys. Rev. 62 (1942) 438, eq. 16, in the form of van der Waerden: an alternating sum of products
    of three binomial coefficients, all of which are integers below 2^53 here.
    """
    # torch.tensor copies: the table in the cache must not be written to.
    return torch.tensor(_checked(l1, l2, l3), device=device or "cpu", dtype=dtype or torch.get_default_dtype())


def gaunt(
    l1: int, l2: int, l3: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Integrals ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]`` over the sphere of three orthonormal real harmonics.

    ``Y_l1,i Y_l2,j = sum_l3,k gaunt(l1, l2, l3)[i, j, k] Y_l3,k``. Zero for odd l1 + l2 + l3. A multiple of
    `wigner_3j`, which has the same symmetry; the factor is ``sqrt((2 l1 + 1)(2 l2 + 1)(2 l3 + 1) / 4 pi)`` times
    its entry at orders (0, 0, 0), whose own integral is a square. Arguments and errors are those of `wigner_3j`.
    """
    C = _checked(l1, l2, l3)
    if (l1 + l2 + l3) % 2:
        factor = 0.0
    else:
        factor = math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi)) * float(C[l1, l2, l3])
    return torch.tensor(factor * C, device=device or "cpu", dtype=dtype or torch.get_default_dtype())


def gaunt_tensor(
    lmax1: int,
    lmax2: int,
    lmax3: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """All `gaunt` integrals up to the three degrees: ``[(lmax1 + 1)^2, (lmax2 + 1)^2, (lmax3 + 1)^2]``.

    The expansion of the product of two signals on the sphere is ``einsum("a,b,abc->c", x, y, G)``.
    """
    G = torch.zeros((lmax1 + 1) ** 2, (lmax2 + 1) ** 2, (lmax3 + 1) ** 2, dtype=torch.float64)
    for l1 in range(lmax1 + 1):
        for l2 in range(lmax2 + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, lmax3) + 1, 2):
                a, b, c = (slice(l * l, (l + 1) ** 2) for l in (l1, l2, l3))
                G[a, b, c] = gaunt(l1, l2, l3, dtype=torch.float64)
    return G.to(device=device or "cpu", dtype=dtype or torch.get_default_dtype())


def sparse(table: Tensor) -> SparseCoupling:
    """The entries of a coupling table that are not zero up to round-off (1e-6 of the largest in float32, 1e-13).

    Real coefficients vanish unless ``|m3|`` is ``|m1| + |m2|`` or ``||m1| - |m2||``, so of order l^2 of the l^3
    entries remain.
    """
    tol = 1e-13 if table.dtype == torch.float64 else 1e-6
    keep = table.abs() > tol * table.abs().amax()
    return SparseCoupling(keep.nonzero().mT.contiguous(), table[keep])


def _checked(l1: int, l2: int, l3: int) -> np.ndarray:
    for l in (l1, l2, l3):
        if not is_whole(l, 0, MAX_COUPLING_DEGREE):
            raise IrrepsError(f"({l1!r}, {l2!r}, {l3!r}): degrees are integers in 0..{MAX_COUPLING_DEGREE}")
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise IrrepsError(f"({l1}, {l2}, {l3}) cannot be coupled: degrees {l1} and {l2} give {abs(l1 - l2)}..{l1 + l2}")
    return _real_3j(l1, l2, l3)


@lru_cache(maxsize=4096)
def _real_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Float64 table of `wigner_3j`; not to be written to."""
    table = np.tensordot(_clebsch_gordan(l1, l2, l3).astype(complex), _real_basis(l1), (0, 0))  # [m2, m3, i]
    table = np.tensordot(table, _real_basis(l2), (0, 0))  # [m3, i, j]
    real = np.real(np.tensordot(table, _real_basis(l3).conj(), (0, 0)))  # [i, j, k]
    real = real / np.linalg.norm(real)
    real[np.abs(real) < 1e-15] = 0.0  # round-off of the change of basis where the selection rules give zero
    return real


def _clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Complex coefficients <l1 m1 l2 m2 | l3 m3>, ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]``, Condon-Shortley signs."""
    a, b, c = l1 + l2 - l3, l1 - l2 + l3, l2 + l3 - l1
    binomial, factorial = _binomials(), _factorials()
    m1, m2 = np.arange(-l1, l1 + 1)[:, None], np.arange(-l2, l2 + 1)[None, :]
    v = np.arange(a + 1)[:, None, None]
    # Orders outside of 0..n are shifted to a column of zeros.
    second, third = l1 - m1[None] - v, l2 + m2[None] - v
    second = np.where((second >= 0) & (second <= b), second, -1)
    third = np.where((third >= 0) & (third <= c), third, -1)
    total = ((-1.0) ** v * binomial[a, v] * binomial[b, second] * binomial[c, third]).sum(0)
    m3 = m1 + m2
    i, j = np.nonzero(np.abs(m3) <= l3)
    k = (m3[i, j] + l3).astype(int)
    f1, f2, f3 = (factorial[: 2 * l + 1] * factorial[: 2 * l + 1][::-1] for l in (l1, l2, l3))
    norm = (2 * l3 + 1) / (factorial[l1 + l2 + l3 + 1] * factorial[a] * factorial[b] * factorial[c])
    C = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    C[i, j, k] = total[i, j] * np.sqrt(norm * f1[i] * f2[j] * f3[k])
    return C


@lru_cache(maxsize=1)
def _binomials() -> np.ndarray:
    """Binomial coefficients ``[n, k]`` with a last column of zeros, which index -1 reads."""
    n = 2 * MAX_COUPLING_DEGREE + 1
    return np.array([[float(math.comb(i, k)) for k in range(n)] + [0.0] for i in range(n)])


@lru_cache(maxsize=1)
def _factorials() -> np.ndarray:
    return np.array([float(math.factorial(n)) for n in range(3 * MAX_COUPLING_DEGREE + 2)])


@lru_cache(maxsize=MAX_COUPLING_DEGREE + 1)
def _real_basis(l: int) -> np.ndarray:
    """Columns are the real harmonics in the basis of complex ones, times ``(-i)^l``, which makes the 3j real."""
    Q = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    Q[l, l] = 1
    for m in range(1, l + 1):
        Q[l - m, l + m], Q[l - m, l - m] = math.sqrt(0.5), -1j * math.sqrt(0.5)
        Q[l + m, l + m], Q[l + m, l - m] = (-1) ** m * math.sqrt(0.5), 1j * (-1) ** m * math.sqrt(0.5)
    return (-1j) ** l * Q
