"""What holds exactly: three ways to one number, closed forms, invariances, gradients, the optimum, and what an outlier can do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import minimize
from torch import Generator, Tensor

from erlangen.geometry.manifolds import AffineInvariant, LogCholesky, Sphere
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.manifolds.fccov_net.method import (
    centred,
    fccov,
    fccov_by_definition,
    fccov_kernel,
    objective,
    permutation_test,
    quadratic,
    spectral_reduction,
    top,
    whitening,
)

INDEPENDENT_SAMPLES = (50, 200)


def normal(n: int, k: int, generator: Generator) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(n, k, generator=generator, dtype=torch.float64)


def distances(y: Tensor) -> Tensor:
    """Euclidean distances."""
    return torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist")


def _cases(run: Run[Any], n: int = 24) -> list[tuple[Tensor, Tensor]]:
    """Vectors and distances of responses: normal ones, integers with many ties, classes, matrices, directions."""
    g = run.generator()
    A = normal(n * 3, 3, g).unflatten(0, (n, 3))
    spd = A @ A.mT + 0.1 * torch.eye(3, dtype=torch.float64)
    classes = torch.randint(3, (n, 1), generator=g).double()
    return [
        (normal(n, 1, g), distances(normal(n, 2, g))),
        (normal(n, 3, g), distances(torch.randint(4, (n, 1), generator=g).double())),
        (normal(n, 2, g), (classes != classes.T).double()),
        (normal(n, 2, g), _symmetric(AffineInvariant().pairwise(spd))),
        (normal(n, 2, g), _symmetric(LogCholesky().pairwise(spd))),
        (normal(n, 2, g), _symmetric(Sphere().pairwise(torch.nn.functional.normalize(normal(n, 3, g))))),
    ]


def _symmetric(D: Tensor) -> Tensor:
    """Without what rounding leaves on and beside the diagonal."""
    return ((D + D.mT) / 2).fill_diagonal_(0)


def largest_over(run: Run[Any], error: Callable[[Tensor, Tensor], Any]) -> float:
    """The largest error over all cases."""
    return largest(float(error(f, D)) for f, D in _cases(run))


# --- one number, three ways ------------------------------------------------------------------------------------------
@exact(tol=1e-12)
def three_ways_agree(run: Run[Any]) -> float:
    """Largest relative difference of the statistic by sorting, and by its matrix, to its definition ball by ball: numbers,
    integers with many ties, classes, positive matrices under two metrics, directions.
    """

    def error(f: Tensor, D: Tensor) -> Tensor:
        due = fccov_by_definition(f, D)
        return torch.stack([fccov(f, D) / due - 1, quadratic(f, fccov_kernel(D)) / due - 1]).abs().max()

    return largest_over(run, error)


@exact(tol=1e-12)
def centres_are_a_part(run: Run[Any]) -> float:
    """Largest relative difference of the statistic by sorting to that by its matrix when a third of the samples are centres,
    and of its mean over three such parts to that with all.
    """

    def error(f: Tensor, D: Tensor) -> Tensor:
        parts = torch.randperm(len(D), generator=run.generator(1)).split(len(D) // 3)
        values = torch.stack([fccov(f, D, centres=part) for part in parts])
        by_matrix = torch.stack([quadratic(f, fccov_kernel(D, part)) for part in parts])
        return torch.cat([values / by_matrix - 1, (values.mean() / fccov(f, D) - 1)[None]]).abs().max()

    return largest_over(run, error)


@exact(tol=1e-10)
def gradients_agree(run: Run[Any]) -> float:
    """Largest relative difference of the gradients of the statistic by sorting, and by its matrix."""

    def error(f: Tensor, D: Tensor) -> Tensor:
        f = f.clone().requires_grad_()
        (a,) = torch.autograd.grad(fccov(f, D), f)
        (b,) = torch.autograd.grad(quadratic(f, fccov_kernel(D)), f)
        return (a - b).norm() / b.norm()

    return largest_over(run, error)


# --- closed forms ----------------------------------------------------------------------------------------------------
@exact(tol=1e-14)
def classes_have_a_closed_form(run: Run[Any]) -> float:
    """Largest difference of the statistic to sum_k (n_k / n)^2 || n^-1 sum_{i in k} f_i ||^2, for 0/1 distances of five
    classes of unequal size; 20 draws of 60 samples.
    """
    g, found = run.generator(), []
    for _ in range(20):
        label = torch.multinomial(torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]), 60, replacement=True, generator=g)
        f = normal(60, 2, g)
        f = f - f.mean(0)
        due = sum((label == k).double().mean() ** 2 * (f[label == k].sum(0) / 60).square().sum() for k in range(5))
        found.append(float((fccov(f, (label[:, None] != label).double()) - due).abs()))
    return largest(found)


@number(0.125, tol=1e-14)
def two_balanced_classes(run: Run[Any]) -> float:
    """The statistic of +1 and -1 for two classes of equal size."""
    label = torch.arange(100) % 2
    return float(fccov((2.0 * label - 1).double()[:, None], (label[:, None] != label).double()))


def even_circle(n: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced angles, and their distances along the circle."""
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    gap = (angle[:, None] - angle).abs()
    return angle, torch.minimum(gap, 2 * math.pi - gap).round(decimals=12)


def fibonacci(n: int) -> Tensor:
    """Nearly evenly spread directions."""
    k = torch.arange(n, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * k / n, math.pi * (1 + 5**0.5) * k
    across = (1 - z**2).sqrt()
    return torch.stack([across * angle.cos(), across * angle.sin(), z], 1)


@exact(tol=0.03)
def populations_have_closed_forms(run: Run[Any]) -> float:
    """Largest relative difference, for 1500 evenly spread responses, to 1 / (2 pi^2 k^2) for the k-th harmonic of an angle, k
    up to 3, 1/30 for a direction in space, and 1/180 for a number between 0 and 1.
    """
    angle, D = even_circle(1500)
    found = [
        float(fccov(torch.stack([(k * angle).cos(), (k * angle).sin()], 1), D)) * 2 * math.pi**2 * k**2 - 1
        for k in (1, 2, 3)
    ]
    points = fibonacci(1500)
    gaps = (points @ points.mT).clamp(-1, 1).arccos().fill_diagonal_(0)
    found.append(float(fccov(points, _symmetric(gaps))) * 30 - 1)
    line = (torch.arange(1500, dtype=torch.float64)[:, None] + 0.5) / 1500
    found.append(float(fccov(line, (line - line.T).abs().round(decimals=12))) * 180 - 1)
    return largest(abs(one) for one in found)


@exact(tol=0.03)
def harmonics_are_the_optimum_on_a_circle(run: Run[Any]) -> float:
    """Largest relative difference of the first six eigenvalues of K / n for 300 evenly spaced angles to 1 / (2 pi^2 k^2), each
    twice, and of the largest value that two whitened coordinates can have to 1 / pi^2.
    """
    angle, D = even_circle(300)
    K = fccov_kernel(D)
    values = torch.linalg.eigvalsh(centred(K)).flip(0)[:6] / 300
    due = torch.tensor([1, 1, 1 / 4, 1 / 4, 1 / 9, 1 / 9], dtype=torch.float64) / (2 * math.pi**2)
    # Harmonics up to the tenth, as features that are free to mix.
    Z = torch.cat([torch.stack([(k * angle).cos(), (k * angle).sin()], 1) for k in range(1, 11)], 1)
    best = spectral_reduction(Z, K, 2)
    f = Z @ best.matrix
    return largest(float((values / due - 1).abs().max()), abs(float(quadratic(f, K)) * math.pi**2 - 1))


@exact(tol=1e-6)
def the_penalty_shrinks_as_it_says(run: Run[Any]) -> float:
    """Largest difference of the covariance of a free f that minimises the objective by L-BFGS to 1 + kappa / (2 penalty) along
    its two principal axes, with kappa the largest eigenvalues of K / n and penalties of 0.5, 1 and 5.
    """
    g = run.generator()
    plain = centred(fccov_kernel(distances(normal(40, 2, g))))
    K = plain / top(plain)
    kappa = torch.linalg.eigvalsh(K)[-2:] / 40
    found: list[float] = []
    for penalty in (0.5, 1.0, 5.0):

        def value(v: Any, penalty: float = penalty) -> tuple[float, Any]:
            f = torch.from_numpy(v).reshape(40, 2).requires_grad_()
            loss = objective(f, K, penalty)
            (slope,) = torch.autograd.grad(loss, f)
            return loss.item(), slope.numpy().ravel()

        options = {"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-16, "gtol": 1e-12}
        start = normal(40, 2, g).numpy().ravel()
        end: Any = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        f = torch.from_numpy(end.x).reshape(40, 2)
        f = f - f.mean(0)
        found.append(float((torch.linalg.eigvalsh(f.mT @ f / 40) - 1 - kappa / (2 * penalty)).abs().max()))
    return largest(found)


# --- invariances -----------------------------------------------------------------------------------------------------
@exact(tol=1e-12)
def vectors_may_be_turned_moved_and_scaled(run: Run[Any]) -> float:
    """Largest relative change of the statistic when f is turned by a random orthogonal matrix and moved, and of its quotient
    by c^2 when f is scaled by c = 3.
    """
    g = run.generator(2)

    def error(f: Tensor, D: Tensor) -> Tensor:
        q = f.shape[1]
        turn = torch.linalg.qr(normal(q, q, g)).Q
        before = fccov(f, D)
        return torch.stack([fccov(f @ turn + 5, D) / before - 1, fccov(3 * f, D) / before / 9 - 1]).abs().max()

    return largest_over(run, error)


@exact(tol=0)
def only_the_order_of_distances_counts(run: Run[Any]) -> float:
    """Largest change of the matrix K when distances go through increasing functions, a root, a logarithm and a cube, or when
    responses in space are moved by a rotation, of which only distances are left.
    """
    changes: tuple[Callable[[Tensor], Tensor], ...] = (torch.sqrt, torch.log1p, lambda D: D**3)

    def error(_: Tensor, D: Tensor) -> Tensor:
        K = fccov_kernel(D)
        return torch.stack([(fccov_kernel(change(D)) - K).abs().max() for change in changes]).max()

    g = run.generator(3)
    y = normal(40, 3, g)
    turn = torch.linalg.qr(normal(3, 3, g)).Q
    moved = (fccov_kernel(distances(y @ turn + 2)) - fccov_kernel(distances(y))).abs().max()
    return largest(largest_over(run, error), float(moved))


@exact(tol=1e-12)
def samples_have_no_order(run: Run[Any]) -> float:
    """Largest relative change of the statistic when samples come in another order."""

    def error(f: Tensor, D: Tensor) -> Tensor:
        order = torch.randperm(len(f), generator=run.generator(4))
        return (fccov(f[order], D[order][:, order]) / fccov(f, D) - 1).abs()

    return largest_over(run, error)


@exact(tol=1e-12)
def the_matrix_is_positive(run: Run[Any]) -> float:
    """How far below zero an eigenvalue of K falls, or K is from symmetric, at most; and what the statistic has for constant f."""

    def error(f: Tensor, D: Tensor) -> Tensor:
        K = fccov_kernel(D)
        constant = fccov(torch.full_like(f, 3.0), D).abs()
        return torch.stack([-torch.linalg.eigvalsh(K)[0], (K - K.mT).abs().max(), constant]).max().clamp(min=0)

    return largest_over(run, error)


@exact(tol=1e-10)
def whitened_is_white(run: Run[Any]) -> float:
    """Largest entry of Cov_n(f) - I after whitening, of vectors whose coordinates differ in scale by a factor of 10; and by how
    much a later coordinate has more of the statistic than an earlier one.
    """
    g = run.generator(5)

    def error(f: Tensor, D: Tensor) -> Tensor:
        q, K = f.shape[1], fccov_kernel(D)
        uneven = f @ torch.logspace(0, -1, q, dtype=f.dtype).diag() @ torch.linalg.qr(normal(q, q, g)).Q
        white = whitening(uneven, K)(uneven)
        own = torch.stack([quadratic(white[:, [k]], K) for k in range(q)])
        rise = own.diff().clamp(min=0).sum()
        return (white.mT @ white / len(f) - torch.eye(q, dtype=f.dtype)).abs().max() + rise

    return largest_over(run, error)


# --- independence ----------------------------------------------------------------------------------------------------
@bound(at_most=0.015)
def the_permutation_test_has_its_level(run: Run[Any]) -> float:
    """Distance from 0.05 of how often the permutation test rejects independence at that level, of 1000 repetitions with 50
    samples.
    """
    g, rejected = run.generator(), 0
    for _ in range(1000):
        rejected += permutation_test(normal(50, 1, g), distances(normal(50, 1, g)), 99, generator=g) <= 0.05
    return abs(rejected / 1000 - 0.05)


@bound(at_most=1.5)
def independence_leaves_one_over_n(run: Run[Any]) -> float:
    """Mean of n times the statistic of independent samples with n = 200, over that with n = 50; of 50 repetitions."""
    g = run.generator()
    small, large = (
        sum(n * float(fccov(normal(n, 1, g), distances(normal(n, 1, g)))) for _ in range(50))
        for n in INDEPENDENT_SAMPLES
    )
    return large / small


# --- outliers --------------------------------------------------------------------------------------------------------
@bound(at_most=4)
def one_response_moves_it_by_one_over_n(run: Run[Any]) -> float:
    """Largest n |change| / max_i ||f_i||^2 of the statistic when one response goes far away, by 10 to 1e9, in 100 samples; at
    most 4, since it counts as centre, as radius and twice as member.
    """
    g = run.generator()
    found: list[float] = []
    for far, index in itertools.product((1e1, 1e3, 1e9), range(5)):
        y = normal(100, 2, g)
        f = torch.cat([y[:, :1] ** 2, y[:, 1:]], 1)
        f = f - f.mean(0)
        moved = y.clone()
        moved[index] += far
        change = fccov(f, distances(moved)) - fccov(f, distances(y))
        found.append(float(100 * change.abs() / f.square().sum(1).max()))
    return largest(found)


PROPERTIES = (
    three_ways_agree,
    centres_are_a_part,
    gradients_agree,
    classes_have_a_closed_form,
    two_balanced_classes,
    populations_have_closed_forms,
    harmonics_are_the_optimum_on_a_circle,
    the_penalty_shrinks_as_it_says,
    vectors_may_be_turned_moved_and_scaled,
    only_the_order_of_distances_counts,
    samples_have_no_order,
    the_matrix_is_positive,
    whitened_is_white,
    the_permutation_test_has_its_level,
    independence_leaves_one_over_n,
    one_response_moves_it_by_one_over_n,
)
