"""Linear algebra modulo primes: against sympy's exact matrices, and what is refused."""

from fractions import Fraction

import pytest
import torch
from sympy import GF, QQ, ZZ, isprime
from sympy.polys.matrices import DomainMatrix
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError
from erlangen.solve import (
    PRIMES,
    modular_inverse,
    modular_matmul,
    modular_nullspace,
    modular_rank,
    rational_from_residues,
)
from erlangen.solve.modular import _is_prime

SMALL = (2, 3, 7, 101)


def randint(*shape: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def in_sympy(matrix: Tensor, prime: int) -> DomainMatrix:
    return DomainMatrix(matrix.tolist(), tuple(matrix.shape), ZZ).convert_to(GF(prime, symmetric=False))


def low_rank(m: int, n: int, rank: int, prime: int, seed: int = 0) -> Tensor:
    return modular_matmul(randint(m, rank, below=prime, seed=seed), randint(rank, n, below=prime, seed=seed + 1), prime)


def test_the_primes_are_the_largest_below_two_to_the_31() -> None:
    found = [n for n in range(2**31 - 1, 2147483579 - 1, -1) if isprime(n)]
    assert tuple(found) == PRIMES


def test_which_numbers_are_prime() -> None:
    strong = [2047, 1373653, 25326001, 3215031751 // 2]  # strong pseudoprimes to the bases 2; 2, 3; 2, 3, 5; any number
    for n in [*range(2, 2000), *strong, *range(2**31 - 300, 2**31)]:
        assert _is_prime(n) == isprime(n), n


@pytest.mark.parametrize("prime", [*SMALL, *PRIMES])
def test_products(prime: int) -> None:
    a, b = randint(3, 40, below=prime), randint(40, 5, below=prime, seed=1)
    due = [
        [sum(x * y for x, y in zip(row, column, strict=True)) % prime for column in b.mT.tolist()] for row in a.tolist()
    ]
    assert modular_matmul(a, b, prime).tolist() == due
    assert modular_matmul(a - prime, b - 3 * prime, prime).tolist() == due  # any representative will do


def test_products_at_the_limit_do_not_overflow() -> None:
    p, k = PRIMES[0], 32768
    a = torch.full((1, k), p - 1)
    assert modular_matmul(a, a.mT, p).item() == k  # (-1)^2 each
    with pytest.raises(ShapeError, match="k up to 32768"):
        modular_matmul(torch.ones(1, k + 1).long(), torch.ones(k + 1, 1).long(), p)


@pytest.mark.parametrize("prime", [*SMALL[1:], PRIMES[0]])
def test_inverses_in_a_batch(prime: int) -> None:
    drawn = randint(60, 4, 4, below=prime)
    good = drawn[modular_rank(drawn, prime) == 4][:12].unflatten(0, (-1, 2))
    found = modular_inverse(good, prime)
    assert found.shape == good.shape
    for a, b in zip(good.flatten(0, 1), found.flatten(0, 1), strict=True):
        assert in_sympy(b, prime) == in_sympy(a, prime).inv()


def test_singular_matrices_are_named() -> None:
    batch = torch.stack([torch.eye(2).long(), torch.tensor([[1, 2], [3, 13]])])
    assert modular_inverse(batch, 11).shape == (2, 2, 2)  # the determinant is 7
    with pytest.raises(ErlangenError, match=r"matrix \[1\] is singular modulo 7"):
        modular_inverse(batch, 7)


@pytest.mark.parametrize("prime", [*SMALL, PRIMES[1]])
@pytest.mark.parametrize(("m", "n", "rank"), [(5, 5, 3), (3, 7, 2), (7, 3, 3), (4, 6, 0)])
def test_ranks_and_nullspaces(prime: int, m: int, n: int, rank: int) -> None:
    batch = torch.stack([low_rank(m, n, rank, prime, seed) for seed in range(8)])
    ranks = modular_rank(batch, prime).tolist()
    for matrix, found in zip(batch, ranks, strict=True):
        other = in_sympy(matrix, prime)
        assert found == other.rank()
        null = modular_nullspace(matrix, prime)
        assert null.shape == (n - found, n)
        assert not modular_matmul(matrix, null.mT, prime).any()
        assert int(modular_rank(null, prime)) == n - found if n > found else True
        again = modular_nullspace(matrix.flip(0), prime)
        assert torch.equal(null, again)
        free = [j for j in range(n) if j not in other.rref()[1]]
        assert torch.equal(null[:, free], torch.eye(n - found).long())


def test_nullspaces_over_the_rationals() -> None:
    """Of an integer matrix, by two primes, against sympy over Q."""
    matrix = torch.tensor([[2, 4, 1, 7], [3, 5, -2, 1]])
    found = [modular_nullspace(matrix, p) for p in PRIMES[:2]]
    rows = [[rational_from_residues([int(f[i, j]) for f in found], PRIMES[:2]) for j in range(4)] for i in range(2)]
    for row in rows:
        assert all(sum(a * b for a, b in zip(line, row, strict=True)) == 0 for line in matrix.tolist())
    assert DomainMatrix(matrix.tolist(), (2, 4), ZZ).convert_to(QQ).rank() == 2
    assert [row[2:] for row in rows] == [[1, 0], [0, 1]]


@pytest.mark.parametrize("value", [Fraction(0), Fraction(-3), Fraction(22, 7), Fraction(-32767, 32749), Fraction(1, 2)])
def test_fractions_return(value: Fraction) -> None:
    for count in (1, 2, 3):
        residues = [value.numerator * pow(value.denominator, -1, p) % p for p in PRIMES[:count]]
        assert rational_from_residues(residues, PRIMES[:count]) == value


def test_fractions_that_are_too_large() -> None:
    value = Fraction(10**8 + 7, 3 * 10**7 + 1)
    residues = [value.numerator * pow(value.denominator, -1, p) % p for p in PRIMES]
    assert rational_from_residues(residues[:2], PRIMES[:2]) == value
    assert rational_from_residues([5], [11]) == Fraction(-1, 2)
    with pytest.raises(ErlangenError, match="parts up to 2; give more primes"):
        rational_from_residues([3], [11])


def test_bad_input() -> None:
    eye = torch.eye(2).long()
    with pytest.raises(DtypeError, match=r"a has dtype torch.float32; give int64"):
        modular_matmul(eye.float(), eye, 7)
    for prime in (1, 9, 2**31 + 11, -7):
        with pytest.raises(ErlangenError, match="give a prime below"):
            modular_rank(eye, prime)
    with pytest.raises(ShapeError, match="square"):
        modular_inverse(eye[:1], 7)
    with pytest.raises(ShapeError, match="one matrix"):
        modular_nullspace(eye[None], 7)
    with pytest.raises(ShapeError, match=r"give \[..., rows, columns\]"):
        modular_rank(eye[0], 7)
    with pytest.raises(ShapeError, match="one residue for each prime"):
        rational_from_residues([1, 2], [7])
    with pytest.raises(ShapeError, match="one residue for each prime"):
        rational_from_residues([], [])
    with pytest.raises(ErlangenError, match="different ones"):
        rational_from_residues([1, 1], [7, 7])
