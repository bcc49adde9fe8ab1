"""Ranks of the parametrisation over a prime field, and the polynomials that vanish on a model."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

import torch
from scipy import stats
from torch import Generator, Tensor

from erlangen.causal import MixedGraph
from erlangen.errors import ErlangenError, ShapeError, check_integer
from erlangen.solve import (
    PRIMES,
    modular_inverse,
    modular_matmul,
    modular_nullspace,
    modular_rank,
    rational_from_residues,
)

Edge = tuple[int, int]
Monomial = tuple[Edge, ...]
"""Entries (i, j) of Sigma with i <= j, in order, each as often as its power."""

SURPLUS = 10
"""Points beyond the number of unknown coefficients."""


# --- points ----------------------------------------------------------------------------------------------------------
def model_points(
    graph: MixedGraph, count: int, prime: int = PRIMES[0], *, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Random models over a prime field: ``(I - Lambda)^-1`` and Sigma, both ``[count, n, n]``, int64."""
    n, eye = graph.nodes, torch.eye(graph.nodes, dtype=torch.int64)
    free = graph.correlated() | eye.bool()
    good: list[Tensor] = []
    while sum(map(len, good)) < count:
        drawn = torch.randint(1, prime, (count, n, n), generator=generator)
        matrix = (eye - drawn * graph.adjacency()) % prime
        good.append(matrix[modular_rank(matrix, prime) == n])  # delta must not be zero
    effects = modular_inverse(torch.cat(good)[:count], prime)
    omega = torch.randint(1, prime, (count, n, n), generator=generator).triu()
    omega = (omega + omega.triu(1).mT) * free
    return effects, modular_matmul(modular_matmul(effects.mT, omega, prime), effects, prime)


def pairs_of(n: int) -> list[Edge]:
    """The entries (i, j), i <= j, of a symmetric matrix, row by row."""
    return list(itertools.combinations_with_replacement(range(n), 2))


def jacobian(graph: MixedGraph, effects: Tensor, sigma: Tensor, prime: int | None = None) -> Tensor:
    """Derivatives of Sigma by all parameters, ``[..., n (n + 1) / 2, |D| + n + |B|]``, in floats or modulo a prime.

    ``d Sigma / d Lambda_ij`` is the outer product of row j of ``(I - Lambda)^-1`` and row i of Sigma, plus its transpose.
    """
    columns = [(effects[..., j, :], sigma[..., i, :]) for i, j in graph.directed]
    columns += [(effects[..., k, :], effects[..., l, :]) for k, l in graph.bidirected]
    i, j = torch.tensor(pairs_of(graph.nodes)).mT
    columns = [a[..., i] * b[..., j] + a[..., j] * b[..., i] for a, b in columns]  # below 2^63
    columns += [effects[..., k, i] * effects[..., k, j] for k in range(graph.nodes)]
    found = torch.stack(columns, -1)
    return found % prime if prime else found


def model_dimension(graph: MixedGraph, *, generator: Generator | None = None) -> int:
    """Rank of the map from parameters to Sigma at a random point modulo 2^31 - 1: the dimension of the model.

    >>> model_dimension(MixedGraph(2, ((0, 1), (1, 0))))  # four parameters, three covariances
    3

    It is never above the generic rank, and below it with a chance of about 1e-8.
    """
    generator = generator or Generator().manual_seed(0)
    effects, sigma = model_points(graph, 1, generator=generator)
    return int(modular_rank(jacobian(graph, effects, sigma, PRIMES[0])[0], PRIMES[0]))


def is_generically_finite(graph: MixedGraph, *, generator: Generator | None = None) -> bool:
    """Whether all but special covariances of the model come from finitely many parameters; true of every simple graph.

    >>> bow, instrument = MixedGraph(2, ((0, 1),), ((0, 1),)), MixedGraph(3, ((0, 1), (1, 2)), ((1, 2),))
    >>> is_generically_finite(bow), is_generically_finite(instrument)
    (False, True)
    """
    parameters = len(graph.directed) + graph.nodes + len(graph.bidirected)
    return model_dimension(graph, generator=generator) == parameters


# --- polynomials -----------------------------------------------------------------------------------------------------
class Relation(NamedTuple):
    """A polynomial in the entries of Sigma that vanishes on a model.

    Attributes:
        multidegree: how often each node occurs in every term.
        terms: integer coefficients and monomials.
    """

    multidegree: tuple[int, ...]
    terms: tuple[tuple[int, Monomial], ...]

    @property
    def degree(self) -> int:
        """Its degree in Sigma."""
        return sum(self.multidegree) // 2

    def __call__(self, sigma: Tensor, prime: int | None = None) -> Tensor:
        """Values ``[...]`` at matrices ``[..., n, n]``, modulo a prime where one is given."""
        total = torch.stack([_term(sigma, coefficient, monomial, prime) for coefficient, monomial in self.terms]).sum(0)
        return total % prime if prime else total

    def gradient(self, sigma: Tensor, prime: int | None = None) -> Tensor:
        """Derivatives by the entries i <= j, ``[..., n (n + 1) / 2]``."""
        place = {pair: k for k, pair in enumerate(pairs_of(len(self.multidegree)))}
        total = sigma.new_zeros(*sigma.shape[:-2], len(place))
        for coefficient, monomial in self.terms:
            for k, pair in enumerate(monomial):  # a square gives its derivative twice
                rest = monomial[:k] + monomial[k + 1 :]
                total[..., place[pair]] += _term(sigma, coefficient, rest, prime)
        return total % prime if prime else total

    def __str__(self) -> str:
        parts: list[str] = []
        for coefficient, monomial in self.terms:
            powers = [(pair, monomial.count(pair)) for pair in dict.fromkeys(monomial)]
            factors = "*".join(f"s{i + 1}{j + 1}" + (f"^{power}" if power > 1 else "") for (i, j), power in powers)
            size = "" if abs(coefficient) == 1 else f"{abs(coefficient)}*"
            parts.append(f"{'-' if coefficient < 0 else '+'} {size}{factors}")
        text = " ".join(parts)
        return text.removeprefix("+ ") if text.startswith("+") else text.replace("- ", "-", 1)


def _term(sigma: Tensor, coefficient: int, monomial: Monomial, prime: int | None) -> Tensor:
    value = torch.full_like(sigma[..., 0, 0], coefficient % prime if prime else coefficient)
    for i, j in monomial:
        value = value * sigma[..., i, j]
        value = value % prime if prime else value
    return value


def vanishing_polynomials(
    graph: MixedGraph, degree: int, *, generator: Generator | None = None, max_block: int = 20_000
) -> list[Relation]:
    """The polynomials up to a degree that vanish on the covariances of a model, but for those that lower ones generate.

    >>> chain = MixedGraph(3, ((0, 1), (1, 2)))
    >>> [str(found) for found in vanishing_polynomials(chain, 2)]
    ['s12*s23 - s13*s22']

    Rescaling of nodes grades the ideal, so monomials in which every node occurs equally often are treated by themselves:
    their values at random models over two prime fields, the space of coefficients that give zero, the rational numbers of
    which these are residues, and a check over a third field.

    Args:
        graph: the model.
        degree: the highest, at least 1.
        generator: of the random models.
        max_block: how many monomials may belong together.

    Returns:
        A basis of what is new, by degree; coefficients are integers without common divisor.

    Raises:
        ErlangenError: a block has more than `max_block` monomials.
    """
    check_integer("degree", degree, 1)
    generator = generator or Generator().manual_seed(0)
    # The size of a block grows as its multidegree becomes more even: it is a sum of Kostka numbers.
    n, largest = graph.nodes, 0
    for now in range(1, degree + 1):
        even = tuple(2 * now // n + (k < 2 * now % n) for k in range(n))
        largest = _count(tuple(sorted(even)))
        if largest > max_block:
            raise ErlangenError(
                f"degree = {now}: the multidegree {even} has {largest} monomials, more than max_block = {max_block}; "
                "ask for a lower degree"
            )
    points = [model_points(graph, largest + SURPLUS, prime, generator=generator)[1] for prime in PRIMES[:2]]
    found: list[Relation] = []
    for now in range(1, degree + 1):
        lower = list(found)
        for multidegree, monomials in _blocks(n, now).items():
            found += _new_relations(multidegree, monomials, points, lower)
    fresh = model_points(graph, SURPLUS, PRIMES[2], generator=generator)[1]
    for one in found:
        if bool(one(fresh, PRIMES[2]).any()):
            raise ErlangenError(f"{one} does not vanish modulo {PRIMES[2]}; an unlucky draw, pass another generator")
    return found


def _new_relations(
    multidegree: tuple[int, ...], monomials: list[Monomial], points: list[Tensor], lower: list[Relation]
) -> list[Relation]:
    """Of one block: what vanishes and does not come from below."""
    spaces: list[Tensor] = []
    for sigma, prime in zip(points, PRIMES, strict=False):
        values = [_term(sigma[: len(monomials) + SURPLUS], 1, monomial, prime) for monomial in monomials]
        spaces.append(modular_nullspace(torch.stack(values, -1), prime))
    if spaces[0].shape != spaces[1].shape:
        raise ErlangenError(f"two primes disagree about the multidegree {multidegree}; pass another generator")
    known = _multiples(multidegree, monomials, lower)
    rank = int(modular_rank(known, PRIMES[0])) if len(known) else 0
    found: list[Relation] = []
    for row in range(len(spaces[0])):
        longer = torch.cat([known, spaces[0][row : row + 1]])
        if int(modular_rank(longer, PRIMES[0])) > rank:
            known, rank = longer, rank + 1
            residues = zip(*(space[row].tolist() for space in spaces), strict=True)
            fractions = [rational_from_residues(pair, PRIMES[:2]) for pair in residues]
            found.append(Relation(multidegree, _integers(fractions, monomials)))
    return found


def _integers(values: list[Fraction], monomials: list[Monomial]) -> tuple[tuple[int, Monomial], ...]:
    """Coefficients without denominators and common divisor, the first one positive."""
    scale = lcm(*(value.denominator for value in values))
    whole = [int(value * scale) for value in values]
    divisor = gcd(*whole) * (1 if next(value for value in whole if value) > 0 else -1)
    return tuple((value // divisor, monomial) for value, monomial in zip(whole, monomials, strict=True) if value)


def _multiples(multidegree: tuple[int, ...], monomials: list[Monomial], lower: list[Relation]) -> Tensor:
    """Products of lower relations with monomials that are in this block, as rows of coefficients."""
    place = {monomial: k for k, monomial in enumerate(monomials)}
    rows = [torch.zeros(0, len(monomials), dtype=torch.int64)]
    for one in lower:
        rest = tuple(a - b for a, b in zip(multidegree, one.multidegree, strict=True))
        if min(rest) < 0 or sum(rest) == 0:
            continue
        for factor in _monomials(rest):
            row = torch.zeros(1, len(monomials), dtype=torch.int64)
            for coefficient, monomial in one.terms:
                row[0, place[tuple(sorted(monomial + factor))]] = coefficient
            rows.append(row)
    return torch.cat(rows)


@functools.cache
def _blocks(n: int, degree: int) -> dict[tuple[int, ...], list[Monomial]]:
    return {multidegree: list(_monomials(multidegree)) for multidegree in sorted(_parts(2 * degree, n), reverse=True)}


def _monomials(multidegree: tuple[int, ...]) -> Iterator[Monomial]:
    """All monomials in which node i occurs ``multidegree[i]`` times: partners for the first node that is left."""
    first = next((i for i, count in enumerate(multidegree) if count), None)
    if first is None:
        yield ()
        return
    yield from _with_first(multidegree, first, first)


def _with_first(left: tuple[int, ...], first: int, partner: int) -> Iterator[Monomial]:
    """Partners in order, so that no monomial comes twice."""
    if left[first] == 0:
        yield from _monomials(left)
        return
    for j in range(partner, len(left)):
        counts = list(left)
        counts[first] -= 1
        counts[j] -= 1
        if counts[j] >= 0:
            for rest in _with_first(tuple(counts), first, j):
                yield ((first, j), *rest)


def _parts(total: int, n: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as an ordered sum of n."""
    if n == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _parts(total - first, n - 1):
            yield (first, *rest)


@functools.cache
def _count(multidegree: tuple[int, ...]) -> int:
    """How many monomials a multidegree has, in order of size, counted without listing them."""
    parts = tuple(part for part in multidegree if part)
    if not parts:
        return 1
    first, rest = parts[-1], parts[:-1]
    return sum(
        _count(tuple(sorted(left))) for squares in range(first // 2 + 1) for left in _less(rest, first - 2 * squares)
    )


def _less(parts: tuple[int, ...], taken: int) -> Iterator[tuple[int, ...]]:
    """All ways to take so many away from these."""
    if not parts:
        if taken == 0:
            yield ()
        return
    for k in range(min(parts[0], taken) + 1):
        for rest in _less(parts[1:], taken - k):
            yield (parts[0] - k, *rest)


# --- tests of a model ------------------------------------------------------------------------------------------------
def relation_test(relations: list[Relation], S: Tensor, n: int) -> Tensor:
    """p-values ``[...]`` that relations are zero at the covariance of normal data, by the delta method (Wald).

    Args:
        relations: with gradients that are independent there.
        S: sample covariances ``[..., d, d]``.
        n: samples behind each, less one where the mean was subtracted.

    Raises:
        ShapeError: S is not square, or there are no relations.
    """
    if S.ndim < 2 or S.shape[-1] != S.shape[-2] or not relations:
        raise ShapeError(f"S {tuple(S.shape)} and {len(relations)} relations; give [..., d, d], and one or more")
    i, j = torch.tensor(pairs_of(S.shape[-1])).mT
    rows = [S[..., a, :][..., b] for a, b in ((i, i), (j, j), (i, j), (j, i))]
    spread = rows[0] * rows[1] + rows[2] * rows[3]  # s_ik s_jl + s_il s_jk, of normal data
    values = torch.stack([one(S) for one in relations], -1)
    gradients = torch.stack([one.gradient(S) for one in relations], -2)
    covariance = gradients @ spread @ gradients.mT
    statistic = n * (values[..., None, :] @ torch.linalg.solve(covariance, values[..., None]))[..., 0, 0]
    return torch.as_tensor(stats.chi2.sf(statistic.numpy(), len(relations)))
