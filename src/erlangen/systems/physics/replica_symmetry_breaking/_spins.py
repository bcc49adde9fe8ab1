"""Networks and glasses of finite size: energies with distinct indices, fields, enumeration, dynamics at zero temperature."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_integer


def size_factor(P: int, N: int) -> float:
    """f = prod (1 - j/N), j < P: the share of distinct indices, by which signal and variance of the noise are smaller."""
    return math.prod(1 - j / N for j in range(P))


def symmetric_sum(p: Tensor, n: int, k: int) -> Tensor:
    """The elementary symmetric polynomial e_k of n numbers +-1 whose sum is p, by Newton's identities, k = 1 ... 4."""
    if k == 1:
        return p
    if k == 2:
        return (p * p - n) / 2
    if k == 3:
        return (p * p - (3 * n - 2)) * p / 6
    if k == 4:
        return ((p * p - (6 * n - 8)) * p * p + 3 * n * n - 6 * n) / 24
    raise ErlangenError(f"k = {k}: sums are closed here up to k = 4")


def hebbian_energy(s: Tensor, patterns: Tensor, P: int) -> Tensor:
    """H of spins ``[..., N]`` with patterns ``[K, N]``: minus P!/N^(P-1) times the sum of e_P of all overlaps."""
    _check_spins(s)
    _check_spins(patterns)
    N = s.shape[-1]
    sums = symmetric_sum(s.double() @ patterns.double().mT, N, P)
    return -math.factorial(P) / N ** (P - 1) * sums.sum(-1)


def hebbian_field(s: Tensor, i: int, patterns: Tensor, P: int) -> Tensor:
    """The local field of spin i: turning it over costs 2 s_i times this."""
    N = s.shape[-1]
    rest = s.double() @ patterns.double().mT - s[..., i, None] * patterns[:, i]
    return math.factorial(P) / N ** (P - 1) * (symmetric_sum(rest, N - 1, P - 1) * patterns[:, i]).sum(-1)


def descend(s: Tensor, patterns: Tensor, P: int, *, sweeps: int = 40, generator: Generator) -> Tensor:
    """Zero temperature: spins ``[N]``, one after the other in random order, follow their fields until none moves."""
    _check_spins(s)
    N, s = len(s), s.double().clone()
    columns = patterns.double().mT.contiguous()
    p = s @ columns
    for _ in range(sweeps):
        moved = False
        for i in torch.randperm(N, generator=generator).tolist():
            rest = p - s[i] * columns[i]
            h = float(symmetric_sum(rest, N - 1, P - 1) @ columns[i])
            new = 1.0 if h > 0 else -1.0
            if h != 0 and new != float(s[i]):
                s[i] = new
                p = rest + new * columns[i]
                moved = True
        if not moved:
            break
    return s


def mattis_overlap(s: Tensor, pattern: Tensor, P: int, *, up_to_sign: bool = False) -> float:
    """The mean of s xi; up to sign only where turning all spins over is a symmetry, for even P."""
    if up_to_sign and P % 2:
        raise ErlangenError(f"P = {P}: turning all spins over is no symmetry for odd P; leave up_to_sign out")
    m = float((s.double() * pattern.double()).mean())
    return abs(m) if up_to_sign else m


def gaussian_couplings(count: int, N: int, P: int, generator: Generator) -> Tensor:
    """Couplings of distinct indices i1 < ... < iP, variance P!/(2 N^(P-1)): ``[count, N choose P]``."""
    return torch.randn(count, math.comb(N, P), generator=generator, dtype=torch.float64) * math.sqrt(
        math.factorial(P) / (2 * N ** (P - 1))
    )


def enumerated(N: int, P: int) -> Tensor:
    """Products of P distinct spins in all 2^N states: ``[2^N, N choose P]``; N at most 30 in principle, 16 in practice."""
    check_integer("N", N, 1)
    if N > 30:
        raise ErlangenError(f"N = {N}: 2^N states cannot be listed; at most 30 spins, or use parallel_tempering")
    states = 1.0 - 2.0 * ((torch.arange(2**N)[:, None] >> torch.arange(N)) & 1)
    sets = torch.tensor(list(itertools.combinations(range(N), P)))
    return states[:, sets].prod(-1)


def three_body(couplings: Tensor, N: int) -> Tensor:
    """The symmetric tensors ``[count, N, N, N]`` of three-body couplings ``[count, N choose 3]``."""
    full = torch.zeros(len(couplings), N, N, N, dtype=torch.float64)
    sets = torch.tensor(list(itertools.combinations(range(N), 3)))
    for order in itertools.permutations(range(3)):
        full[:, sets[:, order[0]], sets[:, order[1]], sets[:, order[2]]] = couplings
    return full


def _check_spins(s: Tensor) -> None:
    if s.ndim < 1:
        raise ShapeError("spins have no axis; give [..., N]")
    if not bool((s.abs() == 1).all()):
        raise ErlangenError("spins have entries other than +1 and -1; pass s.sign() or 2 * bits - 1")
