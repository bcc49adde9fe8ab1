"""Laws of descent on factors that hold exactly, or to first order in the step; and the problems that are solved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.groups import O
from erlangen.survey import Run, exact, largest, number
from erlangen.systems.learning.matrix_sensing.method import (
    AllEntries,
    Factors,
    GaussianSensing,
    RankOneSensing,
    Sensing,
    gauge_step,
    imbalance,
    product,
    recover,
)

RATE, BETA, SMALLER = 0.1, 0.5, 1 / 3
"""The step, what the gauge step makes of F's singular values, and the scale of G against that of F."""


# --- problems --------------------------------------------------------------------------------------------------------
def target(n: int, spectrum: tuple[float, ...], generator: Generator) -> Tensor:
    """A symmetric matrix with these eigenvalues in a random subspace."""
    basis = torch.linalg.qr(torch.randn(n, len(spectrum), generator=generator, dtype=torch.float64))[0]
    return (basis * torch.tensor(spectrum, dtype=torch.float64)) @ basis.mT


def start(n: int, k: int, scale: float, generator: Generator, columns: int | None = None) -> tuple[Tensor, Tensor]:
    """F of entries with standard deviation `scale`, and G of a third of it; the symmetric model begins at the same F."""
    left = scale * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return left, scale * SMALLER * torch.randn(columns or n, k, generator=generator, dtype=torch.float64)


# --- what holds exactly ----------------------------------------------------------------------------------------------
def _small(run: Run[Any], k: int = 5, scale: float = 0.3) -> tuple[GaussianSensing, Tensor, tuple[Tensor, Tensor]]:
    """A sensing of 12 x 12 matrices, a target of rank 2 and factors."""
    g = run.generator()
    sensing = GaussianSensing.draw(200, (12, 12), generator=g)
    return sensing, target(12, (1.0, 0.8), g), start(12, k, scale, g)


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@exact(tol=1e-12)
def adjoints_are_adjoint(run: Run[Any]) -> float:
    """Largest relative difference of <A(X), y> and <X, A*(y)> over Gaussian, rank-one and all measurements."""
    g = run.generator()
    kinds: list[Sensing] = [AllEntries((7, 9))]
    kinds += [kind.draw(30, (7, 9), generator=g) for kind in (GaussianSensing, RankOneSensing)]
    worst = 0.0
    for sensing in kinds:
        x = torch.randn(7, 9, generator=g, dtype=torch.float64)
        y = torch.randn(sensing.m, generator=g, dtype=torch.float64)
        there, back = float(sensing(x) @ y), float((x * sensing.adjoint(y)).sum())
        worst = largest(worst, abs(there - back) / float(sensing(x).norm() * y.norm()))
    return worst


@exact(tol=1e-12)
def steps_are_gradients(run: Run[Any]) -> float:
    """Largest relative difference of one step to automatic differentiation of |A(X X^T) - y|^2 / 4 and |A(F G^T) - y|^2 / 2."""
    sensing, matrix, pair = _small(run)
    y, worst = sensing(matrix), 0.0
    for factors, share in ((pair[0], 4), (pair, 2)):
        leaves = [f.clone().requires_grad_() for f in (factors if isinstance(factors, tuple) else (factors,))]
        made: Factors = (leaves[0], leaves[1]) if isinstance(factors, tuple) else leaves[0]
        now = product(made)
        if not isinstance(factors, tuple):
            now = (now + now.mT) / 2  # only the symmetric part of every A_i meets X X^T
        ((sensing(now) - y).square().sum() / share).backward()
        after = recover(sensing, y, factors, rate=RATE, steps=1).factors
        ends = after if isinstance(after, tuple) else (after,)
        for leaf, end in zip(leaves, ends, strict=True):
            assert leaf.grad is not None
            worst = largest(worst, _relative((leaf.detach() - end) / RATE, leaf.grad))
    return worst


@exact(tol=1e-10)
def rotations_of_columns_change_nothing(run: Run[Any]) -> float:
    """Relative change of X X^T and F G^T after 100 steps when all columns of the start are mixed by one Q in O(k)."""
    sensing, matrix, (left, right) = _small(run)
    q, y = O(5).sample(1, generator=run.generator(1), dtype=torch.float64)[0], sensing(matrix)
    worst = 0.0
    for one, other in ((left, left @ q), ((left, right), (left @ q, right @ q))):
        ends = [product(recover(sensing, y, f, rate=RATE, steps=100).factors) for f in (one, other)]
        worst = largest(worst, _relative(ends[1], ends[0]))
    return worst


@exact(tol=1e-12)
def gauge_step_keeps_the_product(run: Run[Any]) -> float:
    """Relative change of F G^T by the gauge step."""
    pair = _small(run)[2]
    return _relative(product(gauge_step(pair, BETA)), product(pair))


@exact(tol=1e-10)
def gauge_step_makes_all_singular_values_equal(run: Run[Any]) -> float:
    """Largest entry of F^T F - beta^2 after the gauge step."""
    left, _ = gauge_step(_small(run)[2], BETA)
    return float((left.mT @ left - BETA**2 * torch.eye(5)).abs().max())


@number(2.0, tol=0.15)
def imbalance_drifts_with_the_step(run: Run[Any]) -> float:
    """Change of F^T F - G^T G over a fixed time with the step 0.05, over that with 0.025: the flow conserves it."""
    everything, g = AllEntries((30, 30)), run.generator()
    matrix = target(30, (1.0,) * 3, g)
    pair = start(30, 6, 0.1, g)
    drifts: list[float] = []
    for rate, steps in ((0.05, 2000), (0.025, 4000)):
        end = recover(everything, everything(matrix), pair, rate=rate, steps=steps).factors
        assert isinstance(end, tuple)
        drifts.append(float((imbalance(end) - imbalance(pair)).norm()))
    return drifts[0] / drifts[1]


@exact(tol=1e-10)
def equal_factors_stay_symmetric(run: Run[Any]) -> float:
    """Relative difference of F G^T to X X^T after 500 steps from F = G = X, of a positive semi-definite matrix."""
    everything, (_, matrix, (left, _)) = AllEntries((12, 12)), _small(run)
    y = everything(matrix)
    ends = [recover(everything, y, f, rate=RATE, steps=500).factors for f in (left, (left, left))]
    return _relative(product(ends[1]), product(ends[0]))


@exact(tol=1e-12)
def what_is_superfluous_follows_a_scalar_law(run: Run[Any]) -> float:
    """Relative difference of singular values outside of the signal, after 1000 steps, to j <- j - rate j^3."""
    everything, g = AllEntries((12, 12)), run.generator()
    basis = torch.linalg.qr(torch.randn(12, 5, generator=g, dtype=torch.float64))[0]
    signal, rest = basis[:, :2], basis[:, 2:]
    j = torch.tensor([0.5, 0.3, 0.1], dtype=torch.float64)
    matrix = signal @ signal.mT
    end = recover(everything, everything(matrix), torch.cat([signal, rest * j], 1), rate=RATE, steps=1000).factors
    assert isinstance(end, Tensor)
    for _ in range(1000):
        j = j - RATE * j**3
    return _relative(torch.linalg.svdvals(end)[2:], j)


@exact(tol=0)
def zeros_stay_zero(run: Run[Any]) -> float:
    """Largest entry, after 100 steps, of columns that began as zeros."""
    sensing, matrix, (left, _) = _small(run)
    left = left.clone()
    left[:, 2:] = 0
    end = recover(sensing, sensing(matrix), left, rate=RATE, steps=100).factors
    assert isinstance(end, Tensor)
    return float(end[:, 2:].abs().max())


@exact(tol=1e-20)
def as_many_columns_as_the_rank(run: Run[Any]) -> float:
    """Error after 1000 steps of the symmetric model with k = r = 3, for condition numbers 1, 1.25 and 2."""
    everything, worst = AllEntries((50, 50)), 0.0
    for kappa in (1.0, 1.25, 2.0):
        g = run.generator()
        matrix = target(50, (1.0, 1.0, 1 / kappa), g)
        first = start(50, 3, 0.1, g)[0]
        errors = recover(everything, everything(matrix), first, rate=RATE, steps=1000, target=matrix).errors
        worst = largest(worst, float(errors[-1]))
    return worst


PROPERTIES = (
    adjoints_are_adjoint,
    steps_are_gradients,
    rotations_of_columns_change_nothing,
    gauge_step_keeps_the_product,
    gauge_step_makes_all_singular_values_equal,
    imbalance_drifts_with_the_step,
    equal_factors_stay_symmetric,
    what_is_superfluous_follows_a_scalar_law,
    zeros_stay_zero,
    as_many_columns_as_the_rank,
)
