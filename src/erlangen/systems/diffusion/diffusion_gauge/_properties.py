"""What holds exactly of the split, of gauge fields and of the singular values of the flow."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from erlangen.generate import GaussianMixture, GradientField, NoiseMLP, Preconditioned, flow, flow_log_prob
from erlangen.solve import power_rate
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.diffusion.diffusion_gauge.method import (
    Field,
    Score,
    Turned,
    conservativity,
    galerkin_split,
    gauge_residual,
    gradients,
    intrinsic_dimension,
    linear_split,
    singular_values,
)
from erlangen.systems.diffusion.diffusion_gauge.rivals import flipd

QUARTER = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
"""The skew matrix of the plane."""


def randn(run: Run[Any], *shape: int, offset: int = 0) -> Tensor:
    """Normal numbers of the run, float64."""
    return torch.randn(*shape, generator=run.generator(offset), dtype=torch.float64)


def skew(run: Run[Any], n: int) -> Tensor:
    """A skew matrix ``[n, n]`` of norm one on its largest plane."""
    A = randn(run, n, n, offset=50)
    R = A - A.mT
    return R / torch.linalg.matrix_norm(R, 2)


def covariance(run: Run[Any], n: int) -> Tensor:
    """A positive definite matrix ``[n, n]``."""
    A = randn(run, n, n, offset=51)
    return A @ A.mT / n + 0.2 * torch.eye(n, dtype=torch.float64)


def mixture_of(dim: int, components: int = 3) -> GaussianMixture:
    """Components of standard deviation 0.3 around the corners of a figure with sides of two to three."""
    angles = 2 * math.pi * torch.arange(components, dtype=torch.float64) / components
    means = torch.zeros(components, dim, dtype=torch.float64)
    means[:, 0], means[:, 1] = 1.5 * angles.cos(), 1.5 * angles.sin()
    return GaussianMixture(means, torch.full((components, dim), 0.09, dtype=torch.float64))


def mixture_score(mixture: GaussianMixture) -> Score:
    """The score of `mixture_of` in few operations: all means are equally long, all variances 0.09."""

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        variance = 0.09 + sigma[:, None].square()
        return (((x @ mixture.means.mT) / variance).softmax(-1) @ mixture.means - x) / variance

    return score


def gaussian_score(C: Tensor) -> Score:
    """The score of data with the covariance C, at one level for all samples."""
    values, vectors = torch.linalg.eigh(C)
    return lambda x, sigma: -(x @ vectors / (values + sigma[0] ** 2)) @ vectors.mT


def at_level(score: Score, sigma: float) -> Field:
    """The field of one level."""
    return lambda x: score(x, x.new_full((len(x),), sigma))


# --- the split -------------------------------------------------------------------------------------------------------
@exact(tol=1e-10)
def the_linear_split_has_its_form(run: Run[Any]) -> float:
    """Largest entry of S - S^T, of the symmetric part of P (A - S) and of tr(A - S), for A x under a Gaussian in 6 dimensions."""
    A, sigma = randn(run, 6, 6), covariance(run, 6)
    S, rest = linear_split(A, sigma)
    K = torch.linalg.inv(sigma) @ rest
    return float(largest((S - S.mT).abs().max(), (K + K.mT).abs().max(), rest.trace().abs()))


@exact(tol=1e-10)
def gradients_and_gauge_fields_are_left_whole(run: Run[Any]) -> float:
    """Largest entry of S - A for a symmetric A, and of S for A = R P with a skew R, which is the gauge field R grad log p."""
    B, sigma = randn(run, 6, 6), covariance(run, 6)
    symmetric, _ = linear_split(B + B.mT, sigma)
    gauge, _ = linear_split(-skew(run, 6) @ torch.linalg.inv(sigma), sigma)
    return float(largest((symmetric - B - B.mT).abs().max(), gauge.abs().max()))


def gauss_hermite(sigma: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Points and weights of a quadrature for N(0, sigma) in the plane, exact for polynomials below the degree 2 n."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(n))
    z = torch.cartesian_prod(nodes, nodes)
    w = torch.outer(weights, weights).flatten()
    return z @ torch.linalg.cholesky(sigma).mT, w / w.sum()


def squares(x: Tensor) -> Tensor:
    """Monomials of degree two and one in the plane."""
    a, b = x.unbind(-1)
    return torch.stack([a * a / 2, a * b, b * b / 2, a, b], -1)


@exact(tol=1e-8)
def linear_gradients_by_galerkin(run: Run[Any]) -> float:
    """Largest difference of the Galerkin split with exact moments to the closed form, for A x under a Gaussian of the plane."""
    A, sigma = randn(run, 2, 2), covariance(run, 2)
    x, w = gauss_hermite(sigma, 8)
    split = galerkin_split(x @ A.mT, x, squares, w)
    S, rest = linear_split(A, sigma)
    return float(largest((split.gradient - x @ S.mT).abs().max(), (split.remainder - x @ rest.mT).abs().max()))


@exact(tol=1e-12)
def lengths_of_linear_parts_add_up(run: Run[Any]) -> float:
    """Relative difference of tr A Sigma A^T to the sum of those of S and A - S; 6 dimensions."""
    A, sigma = randn(run, 6, 6), covariance(run, 6)
    whole, *parts = (float((M @ sigma @ M.mT).trace()) for M in (A, *linear_split(A, sigma)))
    return abs(math.fsum(parts) / whole - 1)


def bumps(centres: Tensor, width: float = 0.7) -> Any:
    """Potentials ``exp(-|x - c|^2 / (2 width^2))`` and those of `squares`."""

    def basis(x: Tensor) -> Tensor:
        squared = (x[:, None] - centres[None]).square().sum(-1)
        return torch.cat([torch.exp(-squared / (2 * width**2)), squares(x)], -1)

    return basis


def grid(n: int, half: float) -> Tensor:
    """Points of a square grid ``[n^2, 2]``."""
    line = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


@exact(tol=1e-8)
def lengths_of_parts_add_up(run: Run[Any]) -> float:
    """Relative difference of E|v|^2 to E|grad phi|^2 + E|r|^2 for a field that is no gradient; a mixture, on a grid."""
    mixture, x = mixture_of(2), grid(61, 4.0)
    w = mixture.log_prob(x, torch.tensor(0.5)).exp()
    v = at_level(mixture.score, 0.7)(x) + torch.stack([x[:, 1].sin(), x[:, 0] * x[:, 1]], -1)
    split = galerkin_split(v, x, bumps(grid(6, 2.5)), w)
    whole, *parts = (float((w * field.square().sum(-1)).sum()) for field in (v, split.gradient, split.remainder))
    return abs(math.fsum(parts) / whole - 1)


@exact(tol=1e-8)
def gauge_fields_have_no_gradient_part(_run: Run[Any]) -> float:
    """Largest cosine in L^2(p), on a grid, between R grad log p and the gradient of a potential, of bumps and squares."""
    mixture, x = mixture_of(2), grid(161, 5.0)
    w = mixture.log_prob(x, torch.tensor(0.4)).exp()
    r = at_level(mixture.score, 0.4)(x) @ QUARTER.mT
    centres = grid(4, 2.0)
    g = gradients(bumps(centres), x)
    inner = torch.einsum("b,bkn,bn->k", w, g, r)
    sizes = torch.einsum("b,bkn->k", w, g.square()).sqrt() * (w * r.square().sum(-1)).sum().sqrt()
    return float((inner / sizes).abs().max())


@exact(tol=1e-8)
def the_split_turns_with_the_data(run: Run[Any]) -> float:
    """Largest difference of the parts of a turned field at turned samples, by turned potentials, to the turned parts."""
    mixture = mixture_of(2)
    x, _ = mixture.sample(400, generator=run.generator())
    v = at_level(mixture.score, 0.7)(x) + x.flip(-1).sin()
    turn = torch.linalg.qr(randn(run, 2, 2, offset=3)).Q
    centres = grid(4, 2.0)
    plain = galerkin_split(v, x, bumps(centres))
    turned = galerkin_split(v @ turn.mT, x @ turn.mT, bumps(centres @ turn.mT))
    return float(
        largest(
            (turned.gradient - plain.gradient @ turn.mT).abs().max(),
            (turned.remainder - plain.remainder @ turn.mT).abs().max(),
        )
    )


# --- gauge fields ----------------------------------------------------------------------------------------------------
@exact(tol=1e-10)
def turned_scores_obey_the_gauge_condition(run: Run[Any]) -> float:
    """Largest |div r + r . grad log p| of r = R grad log p at 1000 points, for mixtures in 2 and 10 dimensions, R skew."""
    found: list[Tensor] = []
    for dim in (2, 10):
        mixture = mixture_of(dim)
        score, x = at_level(mixture.score, 0.6), 1.5 * randn(run, 1000, dim)
        R = skew(run, dim)
        found.append(gauge_residual(lambda at, score=score, R=R: score(at) @ R.mT, score, x).abs().max())
    return float(largest(found))


@bound(at_least=0.1)
def rotations_are_no_gauge_of_an_ellipse(run: Run[Any]) -> float:
    """Largest |div r + r . grad log p| of the divergence-free field r = R x at 1000 samples of an anisotropic Gaussian."""
    gaussian = GaussianMixture(torch.zeros(1, 2).double(), torch.tensor([[1.0, 0.25]]).double())
    x, _ = gaussian.sample(1000, generator=run.generator())
    return float(gauge_residual(lambda at: at @ QUARTER.mT, at_level(gaussian.score, 0.0), x).abs().max())


@bound(at_least=0.1)
def a_gauge_field_of_one_level_is_none_of_another(run: Run[Any]) -> float:
    """Largest |div r + r . grad log p| at the level 0.6 of the gauge field of the level 1.2; a mixture, 1000 points."""
    mixture = mixture_of(2)
    field, x = at_level(mixture.score, 1.2), 1.5 * randn(run, 1000, 2)
    return float(gauge_residual(lambda at: field(at) @ QUARTER.mT, at_level(mixture.score, 0.6), x).abs().max())


def levels(first: float, last: float, steps: int) -> Tensor:
    """Geometric levels, one more than steps."""
    return torch.logspace(math.log10(first), math.log10(last), steps + 1, dtype=torch.float64)


@exact(tol=1e-8)
def gauge_fields_leave_covariances(run: Run[Any]) -> float:
    """Relative difference of Y (C + 9) Y^T, Y the derivative of the flow of s + 3 R s from sigma = 3 to 0.3, to C + 0.09, for
    data with the covariance C in 3 dimensions."""
    C, eye = covariance(run, 3), torch.eye(3, dtype=torch.float64)
    score, R = gaussian_score(C), skew(run, 3)
    moved = flow(Turned(score, R, 3.0), torch.zeros(1, 3).double(), levels(3, 0.3, 300), jacobian=True)
    assert moved.jacobian is not None
    Y = moved.jacobian[0]
    return float((Y @ (C + 9 * eye) @ Y.mT - C - 0.09 * eye).norm() / C.norm())


def likelihood_errors(
    dim: int, gauges: tuple[float, ...], run: Run[Any], *, low: float = 1e-3, steps: int = 200, n: int = 20
) -> list[float]:
    """Largest errors of the log-density of a mixture along the flows of s + c R s, from `low` to 20, for several c."""
    mixture = mixture_of(dim)
    R = QUARTER if dim == 2 else skew(run, dim)
    x, _ = mixture.sample(n, generator=run.generator(4))
    top = torch.tensor(20.0, dtype=torch.float64)
    share = torch.tensor(gauges, dtype=torch.float64).repeat_interleave(n)[:, None]
    score = mixture_score(mixture)

    def field(at: Tensor, sigma: Tensor) -> Tensor:
        # A flow that carries derivatives along asks for several copies of each point.
        s = score(at, sigma)
        return s + share.repeat_interleave(len(at) // len(share), 0) * (s @ R.mT)

    found = flow_log_prob(field, x.repeat(len(gauges), 1), levels(low, 20, steps), lambda at: mixture.log_prob(at, top))
    error = (found.view(len(gauges), n) - mixture.log_prob(x, torch.tensor(low, dtype=torch.float64))).abs()
    return error.amax(1).tolist()


@functools.cache
def in_the_plane(run: Run[Any], steps: int) -> list[float]:
    """The same in the plane for c of 0, 1 and 3, once for all properties that ask."""
    return likelihood_errors(2, (0.0, 1.0, 3.0), run, steps=steps)


@exact(tol=1e-5)
def gauge_fields_leave_densities(run: Run[Any]) -> float:
    """Largest error of log-densities of a mixture in the plane along the flows of s and s + R s; 200 steps from 0.001 to 20."""
    return largest(in_the_plane(run, 200)[:2])


@exact(tol=3e-4)
def large_gauge_fields_leave_densities(run: Run[Any]) -> float:
    """Largest error of log-densities of a mixture in the plane along the flow of s + 3 R s; 250 steps from 0.001 to 20."""
    return in_the_plane(run, 250)[2]


@number(-4.0, tol=0.5)
def errors_of_densities_vanish_with_the_steps(run: Run[Any]) -> float:
    """Exponent of the number of steps, of 200 and 250, in the largest error of log-densities along s + 3 R s: that of the
    order."""
    return math.log(in_the_plane(run, 250)[2] / in_the_plane(run, 200)[2]) / math.log(250 / 200)


def sampled(field: Score, dim: int, n: int, run: Run[Any], *, offset: int = 5, steps: int = 60) -> Tensor:
    """Where the flow of a field takes noise, from 20 to 0.01."""
    return flow(field, 20 * randn(run, n, dim, offset=offset), levels(20, 0.01, steps)).x


def same_law(found: Tensor, due: Tensor, run: Run[Any]) -> float:
    """Least p-value of Kolmogorov and Smirnov along ten directions, times ten."""
    directions = torch.nn.functional.normalize(randn(run, 10, due.shape[1], offset=6), dim=-1)
    tests: list[Any] = [
        scipy.stats.ks_2samp(a, b) for a, b in zip(directions @ found.mT, directions @ due.mT, strict=True)
    ]
    return min(1.0, 10 * min(float(test.pvalue) for test in tests))


@bound(at_least=1e-3)
def gauge_fields_leave_samples(run: Run[Any]) -> float:
    """Least p-value (Kolmogorov and Smirnov, ten directions, Bonferroni) of 4000 samples along s + c R s against the mixture; c
    of 0, 1 and 3."""
    mixture = mixture_of(2)
    due, _ = mixture.sample(4000, generator=run.generator(7))
    return min(
        same_law(sampled(Turned(mixture_score(mixture), QUARTER, c), 2, 4000, run), due, run) for c in (0.0, 1.0, 3.0)
    )


@bound(at_most=1e-3)
def conservative_is_not_enough(run: Run[Any]) -> float:
    """The p-value (as for gauge fields) of 4000 samples along 1.3 s, which is a gradient, against the mixture."""
    mixture = mixture_of(2)
    due, _ = mixture.sample(4000, generator=run.generator(7))
    return same_law(sampled(lambda x, sigma: 1.3 * mixture_score(mixture)(x, sigma), 2, 4000, run), due, run)


# --- dimension -------------------------------------------------------------------------------------------------------
VARIANCES = (1.0, 0.3, 0.0)
"""Of Gaussian data on a plane in three dimensions."""


FLAT = gaussian_score(torch.tensor(VARIANCES, dtype=torch.float64).diag())
"""Their score."""


def flat_samples(run: Run[Any], n: int) -> Tensor:
    """Samples ``[n, 3]`` of these data."""
    return randn(run, n, 3) * torch.tensor(VARIANCES, dtype=torch.float64).sqrt()


@exact(tol=1e-4)
def singular_values_of_gaussian_data(run: Run[Any]) -> float:
    """Largest relative difference of the singular values of the flow from S = 5 to s = 0.01 to sqrt((v + s^2) / (v + S^2)), for
    Gaussian data of the variances v = 1, 0.3, 0."""
    values, _ = singular_values(FLAT, randn(run, 4, 3), levels(5, 0.01, 80))
    due = torch.tensor([math.sqrt((v + 1e-4) / (v + 25)) for v in VARIANCES], dtype=torch.float64)
    return float((values[-1] / due - 1).abs().max())


@exact(tol=0.02)
def slopes_tell_tangents_from_normals(run: Run[Any]) -> float:
    """Largest difference of slopes to 0, 0, 1 for Gaussian data on a plane in three dimensions, along s and s + 3 R s."""
    due = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    x = flat_samples(run, 4)
    fields = (Turned(FLAT, skew(run, 3), c) for c in (0.0, 3.0))
    return float(largest((intrinsic_dimension(field, x, steps=80).slopes - due).abs().max() for field in fields))


@exact(tol=1e-3)
def far_starts_see_no_gauge(run: Run[Any]) -> float:
    """Largest relative difference of singular values along s + 3 R s to those along s, from S = 50 to 0.1; Gaussian data."""
    x = 50 * randn(run, 2, 3)
    plain, turned = (singular_values(Turned(FLAT, skew(run, 3), c), x, levels(50, 0.1, 120))[0][-1] for c in (0.0, 3.0))
    return float((turned / plain - 1).abs().max())


@bound(at_least=0.01)
def near_starts_do(run: Run[Any]) -> float:
    """Largest relative difference of singular values along s + 3 R s to those along s, from S = 1 to 0.1; Gaussian data."""
    x = randn(run, 2, 3)
    plain, turned = (singular_values(Turned(FLAT, skew(run, 3), c), x, levels(1, 0.1, 60))[0][-1] for c in (0.0, 3.0))
    return float((turned / plain - 1).abs().max())


@exact(tol=1e-8)
def dimension_does_not_depend_on_axes(run: Run[Any]) -> float:
    """Largest difference of slopes at turned points of a turned mixture on planes in 4 dimensions to the slopes before."""
    means = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0.5, 0, 0]]).double()
    spread = torch.tensor([[0.3, 0.2, 0, 0], [0.1, 0.4, 0, 0]]).double()
    turn = torch.linalg.qr(randn(run, 4, 4, offset=9)).Q
    mixture = GaussianMixture(means, spread)
    turned = GaussianMixture(means @ turn.mT, turn @ torch.diag_embed(spread) @ turn.mT)
    x, _ = mixture.sample(5, generator=run.generator())
    before, after = (
        intrinsic_dimension(field.score, at, steps=20) for field, at in ((mixture, x), (turned, x @ turn.mT))
    )
    return float((before.slopes - after.slopes).abs().max())


@number(2.0, tol=0.05)
def flipd_nears_the_dimension(run: Run[Any]) -> float:
    """Exponent of the level in the mean size of the error of FLIPD at Gaussian samples on a plane in three dimensions."""
    x = flat_samples(run, 500)
    sizes = (0.1, 0.05, 0.02, 0.01)
    return power_rate(sizes, [float((flipd(FLAT, x, s) - 2).abs().mean()) for s in sizes]).slope


# --- networks --------------------------------------------------------------------------------------------------------
@exact(tol=1e-12)
def gradients_of_networks_are_conservative(run: Run[Any]) -> float:
    """Largest mean of |J - J^T|^2 / (2 |J|^2) of a preconditioned gradient of a network with random weights, in float32 at the
    levels 0.04, 0.2, 1 and 5."""
    model = Preconditioned(GradientField(NoiseMLP(3, out=1, generator=run.generator(1))))
    x, found = randn(run, 50, 3).float(), list[float]()
    with torch.no_grad():
        for level in (0.04, 0.2, 1.0, 5.0):
            sigma = torch.full((50,), level)
            found.append(float(conservativity(lambda at, sigma=sigma: model(at, sigma), x).mean()))
    return largest(found)


PROPERTIES = (
    the_linear_split_has_its_form,
    gradients_and_gauge_fields_are_left_whole,
    linear_gradients_by_galerkin,
    lengths_of_linear_parts_add_up,
    lengths_of_parts_add_up,
    gauge_fields_have_no_gradient_part,
    the_split_turns_with_the_data,
    turned_scores_obey_the_gauge_condition,
    rotations_are_no_gauge_of_an_ellipse,
    a_gauge_field_of_one_level_is_none_of_another,
    gauge_fields_leave_covariances,
    gauge_fields_leave_densities,
    large_gauge_fields_leave_densities,
    errors_of_densities_vanish_with_the_steps,
    gauge_fields_leave_samples,
    conservative_is_not_enough,
    singular_values_of_gaussian_data,
    slopes_tell_tangents_from_normals,
    far_starts_see_no_gauge,
    near_starts_do,
    dimension_does_not_depend_on_axes,
    flipd_nears_the_dimension,
    gradients_of_networks_are_conservative,
)
