"""Diffusion against closed forms: Bayes' rule in one dimension, exact denoisers of Gaussians, chi squares."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError
from erlangen.generate import CenteredGaussian, Diffusion, cosine_betas, linear_betas
from erlangen.groups import O

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


# --- schedules -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [25, 100, 1000])
def test_both_schedules_end_in_noise(steps):
    for betas in (linear_betas(steps), cosine_betas(steps)):
        assert betas.shape == (steps,)
        assert bool(((betas > 0) & (betas < 1)).all())
        assert float((1 - betas).prod()) < 1e-3
        assert bool((betas.diff() > 0).sum() >= steps - 2)


def test_linear_betas_are_those_of_the_paper():
    betas = linear_betas(1000)
    torch.testing.assert_close(betas[[0, -1]], torch.tensor([1e-4, 0.02], dtype=F64))
    assert float((1 - betas).prod()) == pytest.approx(4.0358e-5, rel=1e-3)


def test_cosine_signal_is_the_squared_cosine():
    kept = (1 - cosine_betas(50)).cumprod(0)[:-1]
    t = torch.arange(1, 50, dtype=F64) / 50
    expected = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(kept, expected)


# --- the chain -------------------------------------------------------------------------------------------------------
def test_marginal_of_many_steps_is_the_product_of_single_ones():
    """``x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise``, by moments: mean and variance follow a recursion."""
    diffusion = Diffusion(linear_betas(30))
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(diffusion.betas.tolist()):
        mean, variance = mean * math.sqrt(1 - beta), variance * (1 - beta) + beta
        kept = float(diffusion.alpha_bars[t])
        assert mean == pytest.approx(math.sqrt(kept), rel=1e-12)
        assert variance == pytest.approx(1 - kept, rel=1e-12)


@pytest.mark.parametrize("t", [1, 5, 19])
def test_posterior_is_bayes_rule(t):
    """In one dimension: the product of two Gaussians in x_{t-1}, on a fine grid."""
    diffusion = Diffusion(cosine_betas(20))
    x, x_t = torch.tensor([[0.7]], dtype=F64), torch.tensor([[-0.4]], dtype=F64)
    mean, variance = diffusion.posterior(x, x_t, torch.tensor([t]))
    grid = torch.linspace(-12, 12, 400_001, dtype=F64)
    before, beta = float(diffusion.alpha_bars[t - 1]), float(diffusion.betas[t])
    log = -0.5 * (grid - math.sqrt(before) * 0.7) ** 2 / (1 - before)
    log = log - 0.5 * (-0.4 - math.sqrt(1 - beta) * grid) ** 2 / beta
    weight = torch.softmax(log, 0)
    found = float((weight * grid).sum())
    assert float(mean) == pytest.approx(found, abs=1e-10)
    assert float(variance) == pytest.approx(float((weight * (grid - found) ** 2).sum()), abs=1e-10)


def test_posterior_of_the_first_step_is_the_data():
    diffusion = Diffusion(cosine_betas(20))
    x, x_t = randn(4, 3), randn(4, 3, seed=1)
    mean, variance = diffusion.posterior(x, x_t, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(mean, x)
    assert bool((variance == 0).all())


def test_noise_is_found_again():
    diffusion = Diffusion(cosine_betas(20))
    x, noise, t = randn(6, 4, 3), randn(6, 4, 3, seed=1), torch.arange(6) * 3
    torch.testing.assert_close(diffusion.start_of(diffusion.diffuse(x, t, noise), t, noise), x, rtol=1e-9, atol=1e-9)


# --- samplers and likelihood -----------------------------------------------------------------------------------------
def of_gaussian(diffusion, mean, deviation):
    """The exact expectation of the noise in x_t, for data from a Gaussian."""

    def denoiser(x, t):
        kept = diffusion.alpha_bars[t].to(x).view(-1, *[1] * (x.dim() - 1))
        total = kept * deviation**2 + 1 - kept
        return (1 - kept).sqrt() * (x - kept.sqrt() * mean) / total

    return denoiser


@pytest.mark.parametrize(("steps", "eta"), [(None, 1.0), (None, 0.0), (40, 0.0), (40, 0.5)])
def test_samplers_find_the_gaussian_of_the_data(steps, eta):
    """The exact denoiser of N(2, 0.5^2); few steps of an exact denoiser leave an error of their own, checked loosely."""
    diffusion = Diffusion(cosine_betas(200))
    x = diffusion.sample(
        of_gaussian(diffusion, 2.0, 0.5), (20_000, 1), steps=steps, eta=eta, generator=seeded(), dtype=F64
    )
    assert float(x.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(x.std()) == pytest.approx(0.5, rel=0.03 if steps is None else 0.06)


def test_ancestral_sampling_is_the_posterior():
    """With all steps and eta = 1, one step has the mean and the variance of the posterior at the predicted start."""
    diffusion = Diffusion(cosine_betas(10))
    denoiser = of_gaussian(diffusion, 1.0, 0.3)
    noise = randn(10, 5, 3)
    x = noise[0]
    for k, t in enumerate(range(9, -1, -1)):
        steps = torch.full((5,), t)
        start = diffusion.start_of(x, steps, denoiser(x, steps))
        mean, variance = diffusion.posterior(start, x, steps)
        x = mean if t == 0 else mean + variance.sqrt() * noise[k + 1]
    torch.testing.assert_close(diffusion.sample(denoiser, (5, 3), noise=noise), x)


def expected_terms(diffusion, deviation):
    """Terms per dimension in closed form: what the exact denoiser of a Gaussian cannot know of the data."""
    kept, betas = diffusion.alpha_bars, diffusion.betas
    before = torch.cat([torch.ones(1, dtype=F64), kept[:-1]])
    unknown = deviation**2 * (1 - kept) / (kept * deviation**2 + 1 - kept)
    mean = before.sqrt() * betas / (1 - kept)
    variance = (1 - before) / (1 - kept) * betas
    terms = mean**2 * unknown / (2 * variance)
    terms[0] = 0.5 * (unknown[0] / betas[0] + math.log(2 * math.pi * float(betas[0])))
    return terms


@pytest.mark.parametrize("gaussian", [None, CenteredGaussian(-2)], ids=str)
def test_bound_of_the_exact_model(gaussian):
    """Its terms have closed forms, and their sum lies above the negative log-likelihood."""
    diffusion = Diffusion(cosine_betas(100), gaussian)
    x = diffusion.project(0.5 * randn(4000, 4, 3))
    dimension = 12 if gaussian is None else 9
    exact = of_gaussian(diffusion, 0.0, 0.5)
    terms = diffusion.bound_terms(exact, x, generator=seeded(1))
    assert terms.shape == (4000, 101)
    assert bool((terms[:, 1:] >= 0).all())
    torch.testing.assert_close(terms[:, :-1].mean(0), dimension * expected_terms(diffusion, 0.5), rtol=0.05, atol=0.01)
    likelihood = dimension * (0.5 + math.log(0.5 * math.sqrt(2 * math.pi)))
    assert float(terms.sum(1).mean()) > likelihood
    worse = diffusion.bound_terms(lambda x, t: 0.9 * exact(x, t), x, generator=seeded(1))
    assert float(worse.sum(1).mean()) > float(terms.sum(1).mean()) + 1


def test_prior_divergence_by_hand():
    diffusion = Diffusion(linear_betas(100))
    kept = float(diffusion.alpha_bars[-1])
    x = randn(3, 2)
    mean, variance = math.sqrt(kept) * x, 1 - kept
    expected = 0.5 * (variance + mean**2 - 1 - math.log(variance)).sum(1)
    torch.testing.assert_close(diffusion.prior_kl(x), expected, rtol=1e-9, atol=1e-14)
    assert float(diffusion.prior_kl(x).max()) < 1e-2


# --- subspaces -------------------------------------------------------------------------------------------------------
def test_projection_is_orthogonal():
    gaussian = CenteredGaussian((-3, -2))
    x, y = randn(2, 4, 5, 3), randn(2, 4, 5, 3, seed=1)
    px = gaussian.project(x)
    torch.testing.assert_close(gaussian.project(px), px)
    torch.testing.assert_close((px * y).sum(), (x * gaussian.project(y)).sum())
    assert float(px.mean((1, 2)).abs().max()) < 1e-15


def test_samples_have_the_length_of_their_dimension():
    """Chi square of 3 (T N - 1) degrees of freedom: mean and variance within four standard errors."""
    gaussian = CenteredGaussian((-3, -2))
    z = gaussian.sample((20_000, 4, 5, 3), generator=seeded(), dtype=F64)
    squares = z.square().sum((1, 2, 3))
    k = gaussian.dimension(z.shape)
    assert k == 57
    assert float(squares.mean()) == pytest.approx(k, abs=4 * math.sqrt(2 * k / 20_000))
    assert float(squares.var()) == pytest.approx(2 * k, rel=0.1)


def test_density_on_the_subspace_by_an_orthonormal_basis():
    gaussian = CenteredGaussian(-2)
    basis = torch.linalg.qr(torch.cat([torch.ones(5, 1, dtype=F64), randn(5, 4)], 1)).Q[:, 1:]
    y = randn(7, 4, 3, seed=2)
    x = basis @ y
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(y).sum((1, 2))
    torch.testing.assert_close(gaussian.log_prob(x), expected)
    R = O(3).sample(7, generator=seeded(3), dtype=F64)
    torch.testing.assert_close(gaussian.log_prob(x @ R.mT + 5.0), expected)
    torch.testing.assert_close(gaussian.log_prob(x[:, torch.tensor([3, 1, 0, 4, 2])]), expected)


def test_masks_are_smaller_clouds():
    gaussian = CenteredGaussian(-2)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    x = randn(2, 5, 3)
    torch.testing.assert_close(gaussian.project(x, mask)[0, :3], gaussian.project(x[:1, :3])[0])
    assert bool((gaussian.project(x, mask)[0, 3:] == 0).all())
    torch.testing.assert_close(gaussian.log_prob(x, mask)[0], gaussian.log_prob(x[:1, :3])[0])
    torch.testing.assert_close(gaussian.log_prob(x, mask)[1], gaussian.log_prob(x[1:])[0])


def test_one_point_and_none_leave_no_freedom():
    """The mean of what exists is taken away: nothing is left, and the density on a space of one point is one."""
    gaussian = CenteredGaussian(-2)
    mask = torch.tensor([[True, False, False], [False] * 3, [True, True, False]])
    x = randn(3, 3, 2)
    assert gaussian.dimensions(x, mask).tolist() == [0.0, 0.0, 2.0]
    assert gaussian.log_prob(x, mask)[:2].tolist() == [0.0, 0.0]


def test_without_a_generator_noise_is_that_of_torchs_stream():
    diffusion, gaussian = Diffusion(cosine_betas(5)), CenteredGaussian(-2)
    torch.manual_seed(7)
    found = diffusion.noise_like(torch.empty(4, 3)), gaussian.sample((4, 3), dtype=F64), diffusion.draw_steps(50)
    torch.manual_seed(7)
    noise, cloud = torch.randn(4, 3), torch.randn(4, 3, dtype=F64)
    assert torch.equal(found[0], noise)
    assert torch.equal(found[1], cloud - cloud.mean(0))
    assert found[2].unique().tolist() == [0, 1, 2, 3, 4]


def test_a_chain_without_noise_draws_its_start_alone():
    generator, start = seeded(5), seeded(5)
    Diffusion(cosine_betas(9)).sample(lambda x, t: x, (2, 3), eta=0.0, generator=generator)
    torch.randn(2, 3, generator=start)
    assert torch.equal(generator.get_state(), start.get_state())


@pytest.mark.parametrize(("first", "taken"), [(0.949, False), (0.951, True)])
def test_a_twentieth_of_the_signal_may_be_left_at_the_end(first, taken):
    """Of two steps the first keeps half, which is no matter; of two others the last keeps nearly all."""
    assert Diffusion(torch.tensor([0.5, 0.95])).alpha_bars[-1] == pytest.approx(0.025)
    if taken:
        Diffusion(torch.tensor([first, 1e-6]))
    else:
        with pytest.raises(ErlangenError, match="leave 5"):
            Diffusion(torch.tensor([first, 1e-6]))


def test_every_state_of_the_chain_is_centred():
    gaussian = CenteredGaussian(-2)
    diffusion = Diffusion(cosine_betas(20), gaussian)
    seen = []

    def denoiser(x, t):
        seen.append(x)
        return x.sin() + 1.0  # its mean is not zero; it must not get in

    x = diffusion.sample(denoiser, (3, 5, 3), generator=seeded(), dtype=F64)
    assert max(float(s.mean(1).abs().max()) for s in [*seen, x]) < 1e-13
    mask = torch.tensor([[True, True, True, False, False]] * 3)
    x = diffusion.sample(denoiser, (3, 5, 3), generator=seeded(), mask=mask, dtype=F64)
    assert bool((x[:, 3:] == 0).all())


def test_sampler_moves_with_its_noise():
    diffusion = Diffusion(cosine_betas(20), CenteredGaussian(-2))
    noise = randn(20, 3, 5, 3)
    R = O(3).sample(1, generator=seeded(3), dtype=F64)[0]

    def denoiser(x, t):
        return x * x.square().sum(-1, keepdim=True).sqrt().tanh()

    x = diffusion.sample(denoiser, (3, 5, 3), noise=noise)
    torch.testing.assert_close(diffusion.sample(denoiser, (3, 5, 3), noise=noise @ R.mT), x @ R.mT)


BAD = {
    "short": (lambda: linear_betas(20), ErlangenError, "take more steps"),
    "steps": (lambda: cosine_betas(0), ErlangenError, "steps = 0"),
    "offset": (lambda: cosine_betas(10, -1.0), ErlangenError, "offset"),
    "betas": (lambda: Diffusion(torch.tensor([0.5, 1.0])), ErlangenError, r"numbers in \(0, 1\)"),
    "signal": (lambda: Diffusion(torch.tensor([0.1, 0.1])), ErlangenError, "81.0% of the signal"),
    "axes": (lambda: CenteredGaussian(-1), ErlangenError, "below -1"),
    "twice": (lambda: CenteredGaussian((-2, -2)), ErlangenError, "different axes"),
    "few axes": (lambda: CenteredGaussian((-3, -2)).project(torch.zeros(3, 2)), ShapeError, "at least 3 axes"),
    "mask": (lambda: CenteredGaussian(-2).project(torch.zeros(2, 3, 2), torch.ones(2, 3)), ShapeError, "pass bool"),
    "mask shape": (
        lambda: CenteredGaussian(-2).project(torch.zeros(2, 3, 2), torch.ones(2, 4, dtype=torch.bool)),
        ShapeError,
        "does not broadcast",
    ),
    "t": (
        lambda: Diffusion(cosine_betas(9)).diffuse(torch.zeros(2, 3), torch.zeros(3).long(), torch.zeros(2, 3)),
        ShapeError,
        "a step for each sample",
    ),
    "eta": (lambda: Diffusion(cosine_betas(9)).sample(lambda x, t: x, (2, 3), eta=2.0), ErlangenError, "eta"),
    "many": (lambda: Diffusion(cosine_betas(9)).sample(lambda x, t: x, (2, 3), steps=10), ErlangenError, "1 to 9"),
    "noise": (
        lambda: Diffusion(cosine_betas(9)).sample(lambda x, t: x, (2, 3), noise=torch.zeros(8, 2, 3)),
        ShapeError,
        "9 steps need",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
