"""What must hold of the metric and of the layer: isometries, limits, closed forms, centres and spreads, derivatives."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenWarning
from erlangen.geometry.manifolds import BuresWasserstein, Deformed
from erlangen.groups import O
from erlangen.survey import Run, bound, exact, largest, number, properties
from erlangen.survey.claims import Part
from erlangen.systems.manifolds.spd_gbw_batchnorm.method import (
    GBWBatchNorm,
    barycentre,
    log_identity,
    to_identity,
)

BW = BuresWasserstein()


def turned(values: Tensor, generator: Generator) -> Tensor:
    """Matrices ``[..., n, n]`` with eigenvalues ``[..., n]`` along random axes."""
    shape = values.shape[:-1]
    axes = O(values.shape[-1]).sample(math.prod(shape), generator=generator, dtype=torch.float64)
    axes = axes.reshape(*shape, *axes.shape[-2:])
    return (axes * values[..., None, :]) @ axes.mT


def spectra(count: int, n: int, low: float, high: float, generator: Generator) -> Tensor:
    """Matrices ``[count, n, n]`` with eigenvalues between two numbers, uniform in the logarithm."""
    u = torch.rand(count, n, generator=generator, dtype=torch.float64)
    return turned(low * (high / low) ** u, generator)


def general(n: int, generator: Generator) -> Tensor:
    """An invertible matrix that is far from orthogonal."""
    return torch.randn(n, n, generator=generator, dtype=torch.float64) + torch.eye(n, dtype=torch.float64)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest entry."""
    return float(((a - b).abs().max() / b.abs().max()).detach())


def layer(n: int, generator: Generator | None = None, **options: Any) -> GBWBatchNorm:
    """A layer in float64; with a generator M and W are no identity, and s is 0.7."""
    made = GBWBatchNorm(n, **options).double()
    if generator is not None:
        with torch.no_grad():
            made.scale.fill_(0.7)
            for p in (made.bias, made.matrix):
                if p is not None:
                    p.copy_(spectra(1, n, 0.5, 2, generator)[0])
    return made


def quiet(norm: GBWBatchNorm, X: Tensor) -> Tensor:
    """What a layer gives for matrices that it warns of."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", ErlangenWarning)
        return norm(X)


# --- the metric ------------------------------------------------------------------------------------------------------
@exact(tol=1e-10, float32=1e-3)
def logarithms_lead_there(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative difference of exp_P(log_P Q) to Q, for 5 x 5 matrices with condition numbers up to 1e4 (100 in float32)."""
    ratio = 1e4 if dtype == torch.float64 else 1e2
    P, Q = spectra(200, 5, ratio**-0.5, ratio**0.5, run.generator()).to(dtype).split(100)
    return largest(relative(a, b) for a, b in zip(BW.exp(P, BW.log(P, Q)), Q, strict=True))


@exact(tol=1e-9)
def distances_are_lengths(run: Run[Any]) -> float:
    """Relative difference of the squared distance to the squared length of the logarithm."""
    P, Q = spectra(200, 5, 0.01, 100, run.generator()).split(100)
    V = BW.log(P, Q)
    return float((BW.inner(P, V, V) / BW.dist(P, Q).square() - 1).abs().max())


@exact(tol=1e-10)
def rotations_are_isometries(run: Run[Any]) -> float:
    """Relative change of Bures-Wasserstein distances when Q in O(5) acts by congruence."""
    A, B = spectra(200, 5, 0.01, 100, run.generator()).split(100)
    Q = O(5).sample(100, generator=run.generator(1), dtype=torch.float64)
    return float((BW.dist(Q @ A @ Q.mT, Q @ B @ Q.mT) / BW.dist(A, B) - 1).abs().max())


@bound(at_least=0.01)
def other_congruences_are_not(run: Run[Any]) -> float:
    """Mean relative change of Bures-Wasserstein distances when general matrices act by congruence."""
    A, B = spectra(200, 5, 0.01, 100, run.generator()).split(100)
    G = general(5, run.generator(1))
    return float((BW.dist(G @ A @ G.mT, G @ B @ G.mT) / BW.dist(A, B) - 1).abs().mean())


@exact(tol=1e-8)
def all_congruences_are_isometries_where_the_matrix_moves_too(run: Run[Any]) -> float:
    """Relative difference of d_{G M G^T}(G A G^T, G B G^T) to d_M(A, B) under the generalised metric, G in GL(5)."""
    g = run.generator()
    A, B = spectra(200, 5, 0.1, 10, g).split(100)
    M, G = spectra(1, 5, 0.1, 10, g)[0], general(5, g)
    moved = G @ M @ G.mT
    there = Deformed(BW, matrix=(moved + moved.mT) / 2)
    pairs = [(G @ X @ G.mT + (G @ X @ G.mT).mT) / 2 for X in (A, B)]
    return float((there.dist(*pairs) / Deformed(BW, matrix=M).dist(A, B) - 1).abs().max())


def _from_log_euclidean(run: Run[Any], power: float) -> float:
    A, B = spectra(40, 5, 0.1, 10, run.generator()).split(20)
    logs = [torch.linalg.eigh(X) for X in (A, B)]
    a, b = ((e.eigenvectors * e.eigenvalues.log()[:, None]) @ e.eigenvectors.mT for e in logs)
    return float((Deformed(BW, power=power).dist(A, B) / ((a - b).norm(dim=(1, 2)) / 2) - 1).abs().mean())


@exact(tol=5e-3)
def small_powers_are_half_of_log_euclidean(run: Run[Any]) -> float:
    """Mean relative difference of (1 / theta) d(A^theta, B^theta) to |log A - log B| / 2, for theta = 0.001."""
    return _from_log_euclidean(run, 1e-3)


@number(2.0, tol=0.1)
def the_difference_falls_with_the_power(run: Run[Any]) -> float:
    """Difference of the distances of powers to half the log-Euclidean ones at theta = 0.002, over that at 0.001."""
    return _from_log_euclidean(run, 2e-3) / _from_log_euclidean(run, 1e-3)


# --- the layer -------------------------------------------------------------------------------------------------------
@exact(tol=1e-10)
def steps_are_those_of_the_manifold(run: Run[Any]) -> float:
    """Relative difference of the layer, theta = 1 and M = I, to mean, logarithm, transport along the geodesic and exponential."""
    g = run.generator()
    norm, X = layer(4, g, learn_matrix=False, mean_steps=60), spectra(12, 4, 0.5, 2, g)
    eye, W = torch.eye(4, dtype=torch.float64), norm.bias.detach()
    mean = BW.mean(X, tol=1e-14, steps=200).point
    variance = BW.dist(X, mean).square().mean()
    centred = BW.exp(eye, BW.transport(BW.log(mean, X), mean, eye))
    scaled = BW.exp(eye, 0.7 / (variance + norm.eps).sqrt() * BW.log(eye, centred))
    due = BW.exp(W, BW.transport(BW.log(eye, scaled), eye, W))
    return relative(quiet(norm, X), due)


@exact(tol=1e-8)
def layer_turns_with_its_input(run: Run[Any]) -> float:
    """Relative difference of BN(Q X Q^T) to Q BN(X) Q^T in training mode, W = M = I, for theta = 1 and 1/2 and Q in O(5)."""
    X, Q = spectra(20, 5, 0.1, 10, run.generator()), O(5).sample(1, generator=run.generator(1), dtype=torch.float64)[0]
    moved = Q @ X @ Q.mT
    moved = (moved + moved.mT) / 2
    return largest(
        relative(quiet(layer(5, power=p), moved), Q @ quiet(layer(5, power=p), X) @ Q.mT) for p in (1.0, 0.5)
    )


@exact(tol=1e-8)
def layer_moves_with_its_input_and_matrices(run: Run[Any]) -> float:
    """Relative difference of BN(G X G^T), M and W moved by G too, to G BN(X) G^T in training mode, theta = 1, G in GL(4)."""
    g = run.generator()
    norm, X, G = layer(4, g), spectra(20, 4, 0.2, 5, g), general(4, g)
    other = copy.deepcopy(norm)
    with torch.no_grad():
        for p in (other.bias, other.matrix):
            assert p is not None
            p.copy_(G @ p @ G.mT)
            p.copy_((p + p.mT) / 2)
    moved = G @ X @ G.mT
    return relative(quiet(other, (moved + moved.mT) / 2), G @ quiet(norm, X) @ G.mT)


@exact(tol=1e-12)
def numbers_follow_the_closed_form(run: Run[Any]) -> float:
    """Relative difference of the layer on 1 x 1 matrices to (1 + k (|1 + x^1/2 - b^1/2| - 1))^2, b the squared mean root."""
    x = 0.1 + 5 * torch.rand(64, generator=run.generator(), dtype=torch.float64)
    return relative(quiet(layer(1), x[:, None, None])[:, 0, 0], _closed(x.sqrt()[:, None], 1.0)[:, 0])


@exact(tol=1e-12)
def commuting_matrices_follow_it_too(run: Run[Any]) -> float:
    """Relative difference of eigenvalues after the layer, of diagonal 4 x 4 matrices, to the closed form, variances summed."""
    x = 0.1 + 5 * torch.rand(64, 4, generator=run.generator(), dtype=torch.float64)
    out = quiet(layer(4), torch.diag_embed(x))
    return relative(out, torch.diag_embed(_closed(x.sqrt(), 1.0)))


def _closed(roots: Tensor, s: float) -> Tensor:
    """What becomes of roots of eigenvalues ``[N, n]``."""
    away = roots - roots.mean(0)
    k = s / (away.square().sum(-1).mean() + 1e-5) ** 0.5
    return (1 + k * ((1 + away).abs() - 1)).square()


def _centred(run: Run[Any], low: float, high: float) -> tuple[Tensor, Tensor]:
    """Transported logarithms at the converged mean, and those of the centred points."""
    X = spectra(12, 4, low, high, run.generator())
    mean = BW.mean(X, tol=1e-14, steps=500).point
    V = to_identity(BW.log(mean, X), mean)
    root = torch.eye(4, dtype=torch.float64) + V / 2
    return V, log_identity(root @ root)


@exact(tol=1e-10)
def tangents_are_centred(run: Run[Any]) -> float:
    """Largest entry of the mean transported logarithm at the converged mean, for spectra between 1 and 30."""
    return float(_centred(run, 1, 30)[0].mean(0).abs().max())


@exact(tol=1e-8)
def matrices_are_centred_within_the_domain(run: Run[Any]) -> float:
    """Largest entry of the mean logarithm at the identity after centring, for spectra between 0.1 and 2."""
    return float(_centred(run, 0.1, 2)[1].mean(0).abs().max())


@bound(at_least=0.1)
def matrices_are_not_centred_outside(run: Run[Any]) -> float:
    """Largest entry of the mean logarithm at the identity after centring, for spectra between 1 and 30, which fold back."""
    return float(_centred(run, 1, 30)[1].mean(0).abs().max())


@exact(tol=1e-8)
def spreads_become_the_scale(run: Run[Any]) -> float:
    """Relative difference of the mean squared distance from I after the layer, s = 0.2 and W = I, to s^2 v / (v + eps)."""
    X = spectra(20, 4, 0.1, 2, run.generator())
    norm, eye = layer(4, learn_matrix=False, mean_steps=60), torch.eye(4, dtype=torch.float64)
    norm.scale.data.fill_(0.2)
    out = quiet(norm, X)
    v = BW.dist(X, BW.mean(X, tol=1e-14, steps=500).point).square().mean()
    spread = BW.dist(out, eye).square().mean()
    return float((spread / (0.04 * v / (v + norm.eps)) - 1).abs())


@bound(at_least=3)
def means_converge_geometrically(run: Run[Any]) -> float:
    """Least factor by which a step of the fixed-point iteration brings the mean nearer, over five steps."""
    X = spectra(20, 4, 0.1, 10, run.generator())
    true = BW.mean(X, tol=1e-14, steps=500).point
    away = [float((barycentre(X, k) - true).norm()) for k in range(6)]
    return -largest(-a / b for a, b in itertools.pairwise(away))


@exact(tol=0)
def outputs_stay_positive(run: Run[Any]) -> float:
    """How many of 600 outputs have an eigenvalue below rounding, at scales from 0.01 to 100, where many fold back."""
    g, bad = run.generator(), 0
    for size in (0.01, 1.0, 100.0):
        norm = layer(4, g)
        values = torch.linalg.eigvalsh(quiet(norm, size * spectra(200, 4, 0.05, 20, g)))
        bad += int((~(values[:, 0] >= -1e-12 * values[:, -1])).sum())
    return bad


@exact(tol=1e-12)
def running_statistics_are_those_of_the_batch(run: Run[Any]) -> float:
    """Relative difference of eval mode after one batch with momentum 1 to training mode, theta = 1/2, M and W general."""
    g = run.generator()
    norm, X = layer(4, g, power=0.5, momentum=1.0), spectra(20, 4, 0.5, 2, g)
    out = quiet(norm, X)
    return relative(quiet(norm.eval(), X), out)


@exact(tol=1e-6)
def derivatives_are_right_at_equal_eigenvalues(run: Run[Any]) -> float:
    """Relative difference of gradients for X, M, W and s to central differences, where X, M and W have equal eigenvalues."""
    g, eye = run.generator(), torch.eye(4, dtype=torch.float64)
    block = torch.diag(torch.tensor([2.0, 2.0, 0.5, 0.5], dtype=torch.float64))
    X = torch.stack([2 * eye, block, 0.5 * eye, 1.5 * block])
    weight, worst = torch.randn(4, 4, 4, generator=g, dtype=torch.float64), 0.0
    for power in (1.0, 0.5):
        norm = layer(4, power=power)  # M = W = I: all of their eigenvalues are equal
        assert norm.matrix is not None
        inputs = [X.clone().requires_grad_(), norm.bias, norm.matrix, norm.scale]

        def value(norm: GBWBatchNorm = norm, X: Tensor = inputs[0]) -> Tensor:
            return (weight * norm(X)).sum()

        found = torch.autograd.grad(value(), inputs)
        for tensor, gradient in zip(inputs, found, strict=True):
            step = torch.randn(tensor.shape, generator=g, dtype=torch.float64)
            step = (step + step.mT) / 2 if step.ndim > 1 else step
            ends: list[float] = []
            with torch.no_grad():
                start = tensor.clone()
                for h in (1e-5, -1e-5):
                    tensor.copy_(start + h * step)
                    ends.append(float(value()))
                tensor.copy_(start)
            slope = (ends[0] - ends[1]) / 2e-5
            worst = largest(worst, abs(slope - float((gradient * step).sum())) / (1 + abs(slope)))
    return worst


def properties_part(run: Run[Any]) -> Part:
    """All of them."""
    return properties(
        run,
        logarithms_lead_there,
        distances_are_lengths,
        rotations_are_isometries,
        other_congruences_are_not,
        all_congruences_are_isometries_where_the_matrix_moves_too,
        small_powers_are_half_of_log_euclidean,
        the_difference_falls_with_the_power,
        steps_are_those_of_the_manifold,
        layer_turns_with_its_input,
        layer_moves_with_its_input_and_matrices,
        numbers_follow_the_closed_form,
        commuting_matrices_follow_it_too,
        tangents_are_centred,
        matrices_are_centred_within_the_domain,
        matrices_are_not_centred_outside,
        spreads_become_the_scale,
        means_converge_geometrically,
        outputs_stay_positive,
        running_statistics_are_those_of_the_batch,
        derivatives_are_right_at_equal_eigenvalues,
    )
