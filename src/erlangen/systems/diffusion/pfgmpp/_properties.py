"""What holds exactly of charges in N + D dimensions, their noise, the limits D = 1 and D to infinity, and the sampler."""

from __future__ import annotations

import itertools
import math
from typing import Any

import scipy.integrate
import scipy.stats
import torch
from torch import Generator, Tensor

from erlangen.generate import EmpiricalDenoiser, Preconditioned, heun_sample, noise_family, noise_levels
from erlangen.solve import power_rate
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.diffusion.pfgmpp.method import PoissonFlow, poisson_field, radius, sample_radius

DIMENSIONS = (1.0, 2.5, 64.0, math.inf)


def randn(run: Run[Any], *shape: int, offset: int = 0) -> Tensor:
    """Normal numbers of the run, float64."""
    return torch.randn(*shape, generator=run.generator(offset), dtype=torch.float64)


def levels(run: Run[Any], n: int) -> Tensor:
    """Log-normal levels ``[n]``."""
    return (-1.2 + 1.2 * randn(run, n, offset=7)).exp()


# --- noise -----------------------------------------------------------------------------------------------------------
@bound(at_least=1e-3)
def radii_have_the_law_of_the_paper(run: Run[Any]) -> float:
    """Least p-value (Kolmogorov and Smirnov, 100,000 draws each) between distances drawn by the Beta law and lengths of the
    Student noise, and of both against the Beta distribution; N = 16, D of 1, 2.5, 64 and a million."""
    n, N, sigma, p = 100_000, 16, 0.7, 1.0
    for D in (1.0, 2.5, 64.0, 1e6):
        r = radius(sigma, D)
        drawn = sample_radius(n, N, D, r, generator=run.generator(1))
        noisy = sigma * noise_family(D).sample((n, N), generator=run.generator(2), dtype=torch.float64).norm(dim=-1)
        tests: list[Any] = [scipy.stats.ks_2samp(drawn.numpy(), noisy.numpy())]
        law = scipy.stats.beta(N / 2, D / 2)
        tests += [scipy.stats.kstest((R**2 / (R**2 + r**2)).numpy(), law.cdf) for R in (drawn, noisy)]
        p = min(p, *(float(test.pvalue) for test in tests))
    return p


@exact(tol=0.02)
def squared_radii_have_their_mean(run: Run[Any]) -> float:
    """Largest relative difference of the mean of R^2 / (sigma^2 N), 100,000 draws, to D / (D - 2); D of 64 and 2048, N = 64."""
    found: list[float] = []
    for D in (64.0, 2048.0):
        R = sample_radius(100_000, 64, D, radius(0.7, D), generator=run.generator())
        found.append(abs(float(R.square().mean()) / (0.49 * 64) / (D / (D - 2)) - 1))
    return largest(found)


@exact(tol=1e-6)
def kernels_are_densities(_run: Run[Any]) -> float:
    """Largest difference of the integral of the kernel over R and R^2 to one; D of 1, 2.5, 64 and infinity, sigma = 0.7."""
    found: list[float] = []
    sigma = torch.tensor(0.7, dtype=torch.float64)
    for D in DIMENSIONS:
        for N, sphere in ((1, 2.0), (2, 2 * math.pi)):

            def density(R: float, D: float = D, N: int = N, sphere: float = sphere) -> float:
                squared = torch.tensor(R * R, dtype=torch.float64)
                return sphere * R ** (N - 1) * float(noise_family(D).log_kernel(squared, sigma, N).exp())

            parts = [scipy.integrate.quad(density, a, b, epsabs=1e-9)[0] for a, b in ((0, 2), (2, math.inf))]
            found.append(abs(math.fsum(parts) - 1))
    return largest(found)


@exact(tol=1e-10)
def the_score_of_the_kernel_is_a_closed_form(run: Run[Any]) -> float:
    """Largest difference of the gradient of the log-kernel to -(N + D)(x - y) / (|x - y|^2 + r^2); r = sigma sqrt(D)."""
    found: list[Tensor] = []
    x, y = randn(run, 50, 5).requires_grad_(), randn(run, 50, 5, offset=1)
    for D in (1.0, 2.5, 64.0):
        squared = (x - y).square().sum(-1)
        logs = noise_family(D).log_kernel(squared, torch.full((50,), 0.7, dtype=torch.float64), 5)
        (score,) = torch.autograd.grad(logs.sum(), x)
        due = -(5 + D) * (x - y) / (squared + radius(0.7, D) ** 2)[:, None]
        found.append((score - due).detach().abs().max())
    return float(largest(found))


@number(-1.0, tol=0.05)
def aligned_kernels_near_the_gaussian(_run: Run[Any]) -> float:
    """Exponent of D in the largest difference of the log-kernel at r = sigma sqrt(D) to the Gaussian one of sigma; N = 16."""
    sigma = torch.tensor(0.7, dtype=torch.float64)
    squared = 0.49 * torch.linspace(0, 48, 50, dtype=torch.float64)
    gaussian = noise_family(math.inf).log_kernel(squared, sigma, 16)
    Ds = (1e4, 1e5, 1e6)
    apart = [float((noise_family(D).log_kernel(squared, sigma, 16) - gaussian).abs().max()) for D in Ds]
    return power_rate(Ds, apart).slope


@exact(tol=0.02)
def inputs_and_targets_have_their_variances(run: Run[Any]) -> float:
    """Largest relative difference of the variances of the network's inputs and targets to (s^2 + k sigma^2) / (s^2 + sigma^2) and
    (sigma^2 + k s^2) / (s^2 + sigma^2), k = D / (D - 2); 40,000 samples of variance s^2, D of 8, 128 and infinity."""
    s, n, found = 0.5, 40_000, list[float]()
    for D in (8.0, 128.0, math.inf):
        k = noise_family(D).variance
        for sigma in (0.1, 0.5, 2.0):
            seen: list[Tensor] = []

            def keep(x: Tensor, _: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen.append(x)
                return torch.zeros_like(x)

            y = s * randn(run, n, 16)
            x = y + sigma * noise_family(D).sample((n, 16), generator=run.generator(1), dtype=torch.float64)
            skipped = Preconditioned(keep, s)(x, torch.full((n,), sigma, dtype=torch.float64))
            out = sigma * s / math.hypot(sigma, s)
            total = s**2 + sigma**2
            due = (s**2 + k * sigma**2) / total, (sigma**2 + k * s**2) / total
            got = float(seen[0].square().mean()), float(((y - skipped) / out).square().mean())
            found += [abs(a / b - 1) for a, b in zip(got, due, strict=True)]
    return largest(found)


# --- fields ----------------------------------------------------------------------------------------------------------
def _line(x: Tensor, points: Tensor, D: int, sigma: float, angle: Tensor) -> Tensor:
    """The slope dx / dsigma of the field line in N + D dimensions through (x, r u), u a unit vector ``[D]``."""
    r = radius(sigma, D)
    extended = torch.cat([x, r * angle.expand(len(x), D)], -1)
    charges = torch.cat([points, points.new_zeros(len(points), D)], -1)
    field = poisson_field(extended, charges)
    inner, outer = field[:, : x.shape[1]], field[:, x.shape[1] :] @ angle
    return math.sqrt(D) * inner / outer[:, None]


@exact(tol=1e-10)
def one_dimension_is_the_poisson_flow(run: Run[Any]) -> float:
    """Largest relative difference of (x - D(x, sigma)) / sigma at D = 1 to dx / dz along the lines of the electric field in
    N + 1 dimensions at z = sigma."""
    return _against_field_lines(run, 1)


@exact(tol=1e-10)
def field_lines_are_the_flow_of_the_denoiser(run: Run[Any]) -> float:
    """Largest relative difference of (x - D(x, sigma)) / sigma to dx / dsigma along the lines of the electric field in N + D
    dimensions, in three directions of the D ones; D of 2, 3 and 7."""
    return largest(_against_field_lines(run, D) for D in (2, 3, 7))


def _against_field_lines(run: Run[Any], D: int) -> float:
    points, x = randn(run, 6, 3), randn(run, 40, 3, offset=1)
    denoiser = EmpiricalDenoiser(points, noise_family(float(D)))
    found: list[float] = []
    for sigma in (0.3, 1.0, 4.0):
        flow = (x - denoiser(x, torch.full((40,), sigma, dtype=torch.float64))) / sigma
        for offset in range(3 if D > 1 else 1):
            angle = torch.nn.functional.normalize(randn(run, D, offset=2 + offset), dim=0)
            found.append(float((flow - _line(x, points, D, sigma, angle)).norm() / flow.norm()))
    return largest(found)


@exact(tol=1e-8)
def the_field_has_no_sources_outside_of_the_data(run: Run[Any]) -> float:
    """Largest divergence of the electric field in 3 to 6 dimensions, over the size of its Jacobian, at points off the charges."""
    found: list[float] = []
    for M in (3, 4, 6):
        points, x = randn(run, 5, M), randn(run, 20, M, offset=1)
        J = torch.func.vmap(torch.func.jacrev(lambda at, points=points: poisson_field(at[None], points)[0]))(x)
        found.append(float((J.diagonal(dim1=-2, dim2=-1).sum(-1).abs() / J.flatten(1).norm(dim=1)).max()))
    return largest(found)


@exact(tol=1e-12)
def the_cauchy_posterior(run: Run[Any]) -> float:
    """Largest difference of the weights at D = 1 and N = 1 to those of Cauchy densities."""
    points, x, sigma = randn(run, 7, 1), randn(run, 30, 1, offset=1), levels(run, 30)
    got = EmpiricalDenoiser(points, noise_family(1.0)).weights(x, sigma)
    density: Any = scipy.stats.cauchy.pdf((x - points.mT).numpy(), scale=sigma[:, None].numpy())
    due = torch.from_numpy(density)
    return float((got - due / due.sum(1, keepdim=True)).abs().max())


@exact(tol=1e-5)
def many_dimensions_are_diffusion(run: Run[Any]) -> float:
    """Largest difference of the oracle denoisers of D = 1e8 and of Gaussian noise, and of samples that they give by 18 steps
    from one start."""
    points, x, sigma = randn(run, 20, 8), randn(run, 100, 8, offset=1), levels(run, 100)
    ours, theirs = (EmpiricalDenoiser(points, noise_family(D)) for D in (1e8, math.inf))
    start = 80 * randn(run, 100, 8, offset=2)
    samples = [heun_sample(denoiser, start, noise_levels(18)) for denoiser in (ours, theirs)]
    return float(largest((ours(x, sigma) - theirs(x, sigma)).abs().max(), (samples[0] - samples[1]).abs().max()))


@exact(tol=1e-10)
def oracles_move_with_their_data(run: Run[Any]) -> float:
    """Largest difference of the denoiser of turned, mirrored and shifted data at moved points to the moved denoiser; all D."""
    points, x, sigma = randn(run, 20, 8), randn(run, 100, 8, offset=1), levels(run, 100)
    turn = torch.linalg.qr(randn(run, 8, 8, offset=2)).Q
    shift = randn(run, 8, offset=3)
    found: list[Tensor] = []
    for D in DIMENSIONS:
        plain = EmpiricalDenoiser(points, noise_family(D))(x, sigma)
        moved = EmpiricalDenoiser(points @ turn.mT + shift, noise_family(D))(x @ turn.mT + shift, sigma)
        found.append((moved - plain @ turn.mT - shift).abs().max())
    return float(largest(found))


# --- the sampler -----------------------------------------------------------------------------------------------------
EIGHT = torch.stack([torch.arange(8) * math.pi / 4 + o for o in (0, -math.pi / 2)], -1).double().cos()
"""Eight points on a circle."""


def _nearest(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest of the eight points, and which."""
    near = torch.cdist(x, EIGHT).min(1)
    return near.values, near.indices


def ends(D: float, n: int, steps: int, generator: Generator, low: float = 0.002) -> Tensor:
    """Where the oracle of eight points takes noise."""
    model = PoissonFlow(lambda x, _: x, (2,), D)
    start = model.prior(n, generator=generator)
    return heun_sample(EmpiricalDenoiser(EIGHT, model.noise), start, noise_levels(steps, low))


@exact(tol=3 * 0.002)
def samples_end_in_the_data(run: Run[Any]) -> float:
    """Largest distance of 2000 samples to the nearest of eight data points, 40 steps; D of 4, 64, 2048 and infinity."""
    return float(largest(_nearest(ends(D, 2000, 40, run.generator()))[0].max() for D in (4.0, 64.0, 2048.0, math.inf)))


@exact(tol=3 * 0.0002)
def most_samples_of_one_dimension_end_in_the_data(run: Run[Any]) -> float:
    """Distance to the nearest of eight data points that 99 of 100 samples do not exceed, 40 steps from 80 to 0.0002; D = 1."""
    # Cauchy starts are far out: a hundred times the level, and so their direction is settled at a hundredth of it alone.
    return float(_nearest(ends(1.0, 2000, 40, run.generator(), 0.0002))[0].quantile(0.99))


@bound(at_least=1e-3)
def classes_come_as_often_as_in_the_data(run: Run[Any]) -> float:
    """Least p-value (chi-square) of how often 20,000 samples end at each of eight points; D of 4, 64 and infinity, 18 steps."""
    p = 1.0
    for D in (4.0, 64.0, math.inf):
        _, which = _nearest(ends(D, 20_000, 18, run.generator(3)))
        test: Any = scipy.stats.chisquare(which.bincount(minlength=8).numpy())
        p = min(p, float(test.pvalue))
    return p


def heun_error(D: float, steps: int) -> tuple[float, float]:
    """Error of `steps` geometric steps from 10 to 0.5 against 4 times as many, and that of twice as many steps."""
    denoiser = EmpiricalDenoiser(torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.2, 1.1]]).double(), noise_family(D))
    start = 10 * noise_family(math.inf).sample((50, 2), generator=Generator().manual_seed(0), dtype=torch.float64)
    found = [
        heun_sample(denoiser, start, torch.logspace(1, math.log10(0.5), n + 1, dtype=torch.float64), last=False)
        for n in (steps, 2 * steps, 16 * steps)
    ]
    return float((found[0] - found[2]).norm()), float((found[1] - found[2]).norm())


@exact(tol=0.3)
def the_sampler_is_of_second_order(_run: Run[Any]) -> float:
    """Largest difference to 4 of the error of 100 steps over that of 200; geometric levels, D of 1, 2.5, 64 and infinity."""
    return largest(abs(a / b - 4) for a, b in (heun_error(D, 100) for D in DIMENSIONS))


@exact(tol=1e-4)
def the_flow_is_reversible(run: Run[Any]) -> float:
    """Largest distance of points of a circle's neighbourhood to where 800 steps of noising and 800 back take them; D = 64."""
    denoiser = EmpiricalDenoiser(EIGHT, noise_family(64.0))
    x = EIGHT.repeat(4, 1) + 0.2 * randn(run, 32, 2)
    up = torch.logspace(math.log10(0.1), 1, 801, dtype=torch.float64)

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoiser(x, sigma.expand(len(x)))) / sigma

    y = x
    for now, then in itertools.pairwise(up):
        first = slope(y, now)
        y = y + (then - now) * (first + slope(y + (then - now) * first, then)) / 2
    return float((heun_sample(denoiser, y, up.flip(0), last=False) - x).norm(dim=1).max())


@exact(tol=1e-6)
def without_noise_the_denoiser_is_the_identity(run: Run[Any]) -> float:
    """Largest difference of the denoiser of any network at sigma = 1e-9 to its input."""
    x = randn(run, 20, 3)
    model = PoissonFlow(lambda x, noise: x.sin() + noise[:, None] * x.cos(), (3,), 8.0)
    return float((model(x, torch.full((20,), 1e-9, dtype=torch.float64)) - x).abs().max())


PROPERTIES = (
    radii_have_the_law_of_the_paper,
    squared_radii_have_their_mean,
    kernels_are_densities,
    the_score_of_the_kernel_is_a_closed_form,
    aligned_kernels_near_the_gaussian,
    inputs_and_targets_have_their_variances,
    one_dimension_is_the_poisson_flow,
    field_lines_are_the_flow_of_the_denoiser,
    the_field_has_no_sources_outside_of_the_data,
    the_cauchy_posterior,
    many_dimensions_are_diffusion,
    oracles_move_with_their_data,
    samples_end_in_the_data,
    most_samples_of_one_dimension_end_in_the_data,
    classes_come_as_often_as_in_the_data,
    the_sampler_is_of_second_order,
    the_flow_is_reversible,
    without_noise_the_denoiser_is_the_identity,
)
