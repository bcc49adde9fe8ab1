"""Exact linear algebra modulo a prime, batched, and rational numbers from their residues.

What vanishes at random points of a prime field vanishes, up to a chance of about degree / prime; floats would call small numbers
zero, too. Primes are below 2^31, so that products of two residues fit into int64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError

PRIMES = (2147483647, 2147483629, 2147483587, 2147483579)
"""The four largest primes below 2^31."""

_INNER = 1 << 15
"""Inner size of a product: with it sums of int64 do not overflow."""


def modular_matmul(a: Tensor, b: Tensor, prime: int) -> Tensor:
    """The product of integer matrices, ``a @ b`` modulo a prime.

    >>> modular_matmul(torch.tensor([[2, 3]]), torch.tensor([[4], [5]]), 7)
    tensor([[2]])

    Args:
        a: ``[..., m, k]``, int64, of any size and sign; leading axes broadcast.
        b: ``[..., k, n]``.
        prime: below 2^31.

    Returns:
        ``[..., m, n]``, residues from 0 to prime - 1.

    Raises:
        ShapeError: the shapes do not fit, or k is above 32768.
        DtypeError: not int64.
        ErlangenError: `prime` is none.
    """
    a, b = _residues("a", a, prime), _residues("b", b, prime)
    if a.shape[-1] != b.shape[-2] or a.shape[-1] > _INNER:
        raise ShapeError(
            f"a {tuple(a.shape)} and b {tuple(b.shape)}: give [..., m, k] and [..., k, n], with k up to {_INNER}"
        )
    high, low = a >> 16, a & 0xFFFF  # products of 15 and 31 bits, and of 16 and 31: there is room for the sum
    return (((high @ b) % prime << 16) + low @ b) % prime


def modular_inverse(matrix: Tensor, prime: int) -> Tensor:
    """Inverses ``[..., n, n]`` modulo a prime.

    >>> modular_inverse(torch.tensor([[2]]), 7)
    tensor([[4]])

    Raises:
        ErlangenError: a matrix is singular modulo the prime; the message has its index.
        ShapeError, DtypeError: as `modular_matmul`.
    """
    a = _residues("matrix", matrix, prime)
    n = a.shape[-1]
    if a.shape[-2] != n:
        raise ShapeError(f"matrix has shape {tuple(a.shape)}; give square ones, [..., n, n]")
    eye = torch.eye(n, dtype=torch.int64, device=a.device).expand_as(a)
    reduced, pivots = _reduced(torch.cat([a, eye], -1), prime, n)
    singular = (pivots < 0).any(-1)
    if bool(singular.any()):
        raise ErlangenError(
            f"matrix {singular.nonzero()[0].tolist()} is singular modulo {prime}; take another prime or another matrix"
        )
    order = pivots.argsort(-1)  # the row whose pivot is in column 0, and so on
    return reduced[..., n:].gather(-2, order[..., None].expand_as(a))


def modular_rank(matrix: Tensor, prime: int) -> Tensor:
    """Ranks ``[...]`` of matrices ``[..., m, n]`` modulo a prime, int64; at most their ranks over the rational numbers.

    >>> int(modular_rank(torch.tensor([[1, 2], [3, 13]]), 7))
    1

    Raises:
        ShapeError, DtypeError, ErlangenError: as `modular_matmul`.
    """
    a = _residues("matrix", matrix, prime)
    return (_reduced(a, prime, a.shape[-1])[1] >= 0).sum(-1)


def modular_nullspace(matrix: Tensor, prime: int) -> Tensor:
    """A basis ``[k, n]`` of the vectors that a matrix ``[m, n]`` sends to zero modulo a prime.

    >>> modular_nullspace(torch.tensor([[1, 2, 0]]), 7)
    tensor([[5, 1, 0],
            [0, 0, 1]])

    The basis is the reduced one: each vector has a one in a column without pivot, where the others have zeros. It does not
    depend on the order of rows, and for all primes but a few it has the residues of the rational one.

    Raises:
        ShapeError: not a single matrix.
        DtypeError, ErlangenError: as `modular_matmul`.
    """
    a = _residues("matrix", matrix, prime)
    if a.ndim != 2:
        raise ShapeError(f"matrix has shape {tuple(a.shape)}; nullspaces differ in size, give one matrix [m, n]")
    n = a.shape[-1]
    reduced, pivots = _reduced(a, prime, n)
    rows = (pivots >= 0).nonzero()[:, 0]
    free = torch.ones(n, dtype=torch.bool, device=a.device)
    free[pivots[rows]] = False
    columns = free.nonzero()[:, 0]
    basis = torch.zeros(len(columns), n, dtype=torch.int64, device=a.device)
    basis[torch.arange(len(columns)), columns] = 1
    basis[:, pivots[rows]] = (-reduced[rows][:, columns].mT) % prime
    return basis


def rational_from_residues(residues: Sequence[int], primes: Sequence[int]) -> Fraction:
    """The fraction of small numerator and denominator that has these residues.

    >>> third = [pow(3, -1, p) for p in PRIMES[:2]]
    >>> rational_from_residues([-2 * r for r in third], PRIMES[:2])
    Fraction(-2, 3)

    The Chinese remainder theorem, and the algorithm of Wang (1981): there is at most one fraction whose numerator and
    denominator are at most the root of half the product of the primes.

    Args:
        residues: one for each prime, of any size and sign.
        primes: different ones.

    Raises:
        ErlangenError: there is no such fraction, or primes repeat or are none.
        ShapeError: not as many residues as primes, or none.
    """
    if len(residues) != len(primes) or not primes:
        raise ShapeError(f"{len(residues)} residues and {len(primes)} primes; give one residue for each prime")
    for prime in primes:
        _check_prime(prime)
    if len(set(primes)) != len(primes):
        raise ErlangenError(f"primes = {tuple(primes)}; give different ones")
    value, modulus = 0, 1
    for residue, prime in zip(residues, primes, strict=True):
        value += modulus * ((residue - value) * pow(modulus, -1, prime) % prime)
        modulus *= prime
    bound = math.isqrt(modulus // 2)
    (r0, t0), (r1, t1) = (modulus, 0), (value, 1)
    while r1 > bound:
        q = r0 // r1
        (r0, t0), (r1, t1) = (r1, t1), (r0 - q * r1, t0 - q * t1)
    if not 0 < abs(t1) <= bound or math.gcd(r1, t1) != 1:
        raise ErlangenError(
            f"residues = {tuple(residues)} are those of no fraction of parts up to {bound}; give more primes"
        )
    return Fraction(r1, t1)


# --- inside ----------------------------------------------------------------------------------------------------------
def _residues(name: str, matrix: Tensor, prime: int) -> Tensor:
    """A matrix of residues from 0 to prime - 1."""
    _check_prime(prime)
    if matrix.dtype != torch.int64:
        raise DtypeError(f"{name} has dtype {matrix.dtype}; give int64, {name}.long()")
    if matrix.ndim < 2:
        raise ShapeError(f"{name} has shape {tuple(matrix.shape)}; give [..., rows, columns]")
    return matrix % prime


def _check_prime(prime: int) -> None:
    if not 2 <= prime < 2**31 or not _is_prime(prime):
        raise ErlangenError(f"prime = {prime}; give a prime below 2^31, such as those of erlangen.solve.PRIMES")


def _is_prime(n: int) -> bool:
    """The test of Miller and Rabin with bases that leave no exception below 3.2e9 (Jaeschke 1993)."""
    bases = (2, 3, 5, 7)
    if n in bases or any(n % base == 0 for base in bases):
        return n in bases
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    return all(
        pow(base, (n - 1) >> twos, n) == 1 or any(pow(base, (n - 1) >> k, n) == n - 1 for k in range(1, twos + 1))
        for base in bases
    )


def _reduced(matrix: Tensor, prime: int, columns: int) -> tuple[Tensor, Tensor]:
    """Elimination of the first columns; the column ``[..., m]`` of each row's pivot, -1 where it has none.

    Rows stay where they are, so that matrices of a batch whose pivots differ go through it together.
    """
    a = matrix
    pivots = torch.full(a.shape[:-1], -1, dtype=torch.int64, device=a.device)
    for j in range(columns):
        able = (a[..., j] != 0) & (pivots < 0)
        found = able.any(-1)
        if not bool(found.any()):
            continue
        row = able.long().argmax(-1, keepdim=True)  # [..., 1]
        where = row[..., None].expand(*row.shape, a.shape[-1])
        pivot = a.gather(-2, where)
        pivot = pivot * _reciprocal(pivot[..., j : j + 1], prime) % prime
        cleared = (a - a[..., j : j + 1] * pivot % prime) % prime
        cleared = cleared.scatter(-2, where, pivot)
        a = torch.where(found[..., None, None], cleared, a)
        pivots = torch.where(found[..., None], pivots.scatter(-1, row, j), pivots)
    return a, pivots


def _reciprocal(values: Tensor, prime: int) -> Tensor:
    """``values ** (prime - 2)``, by Fermat's little theorem; of a single value by Python, which takes one operation."""
    if values.numel() == 1:
        return torch.full_like(values, pow(int(values), prime - 2, prime))
    result, power, exponent = torch.ones_like(values), values, prime - 2
    while exponent:
        if exponent & 1:
            result = result * power % prime
        power, exponent = power * power % prime, exponent >> 1
    return result
