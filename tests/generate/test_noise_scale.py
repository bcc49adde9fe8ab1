"""The continuous scale of noise: families, denoisers, samplers, flows and distances, against closed forms and scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
import torch
from torch import Generator, Tensor, nn

import erlangen as er
from erlangen.errors import DataError, ErlangenError, ErlangenWarning, ShapeError
from erlangen.generate import (
    Disturbance,
    EmpiricalDenoiser,
    GaussianMixture,
    GradientField,
    NoiseMLP,
    Preconditioned,
    StudentNoise,
    denoising_loss,
    divergence,
    energy_distance,
    flow,
    flow_log_prob,
    frechet_distance,
    heun_sample,
    mmd,
    noise_family,
    noise_levels,
    sliced_wasserstein,
)
from erlangen.solve import asymmetry
from erlangen.testing import check_layer

DIMENSIONS = (1.0, 2.5, 64.0, math.inf)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def same_law(a: Any, b: Any) -> float:
    """The p-value of Kolmogorov and Smirnov."""
    test: Any = scipy.stats.ks_2samp(a, b)
    return float(test.pvalue)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


# --- noise -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("D", [1.0, 2.5, 64.0, 1e6])
def test_radii_have_the_law_of_the_paper(D: float) -> None:
    """R = r sqrt(B / (1 - B)), B ~ Beta(N/2, D/2), r = sigma sqrt(D): Kolmogorov and Smirnov on 20,000 draws."""
    N, sigma = 6, 0.7
    R = sigma * noise_family(D).sample((20_000, N), generator=rng(), dtype=torch.float64).norm(dim=-1)
    B = np.random.default_rng(0).beta(N / 2, D / 2, 20_000)
    expected = sigma * np.sqrt(D) * np.sqrt(B / (1 - B))
    assert same_law(R.numpy(), expected) > 1e-3
    if D < 1e6:  # and the test can tell
        other = sigma * noise_family(D / 2).sample((20_000, N), generator=rng(1), dtype=torch.float64).norm(dim=-1)
        assert same_law(other.numpy(), expected) < 1e-3


def test_variance_and_directions() -> None:
    x = noise_family(64.0).sample((100_000, 3), generator=rng(), dtype=torch.float64)
    assert x.var().item() == pytest.approx(64 / 62, rel=0.02)
    assert noise_family(64.0).variance == 64 / 62
    assert noise_family(2.0).variance == math.inf
    assert (x / x.norm(dim=-1, keepdim=True)).mean(0).abs().max() < 0.01
    torch.testing.assert_close(
        noise_family(3.0).sample((4, 2), generator=rng(5)), noise_family(3.0).sample((4, 2), generator=rng(5))
    )
    pictures = noise_family(3.0).sample((500, 2, 4, 4), generator=rng())  # one chi-square for a whole sample
    assert pictures.shape == (500, 2, 4, 4)
    sizes = pictures.flatten(1).square().mean(1)
    assert sizes.std() > 0.5
    assert np.corrcoef(pictures.flatten(1).square()[:, :2].clamp(max=20).T.numpy())[0, 1] > 0.2
    for D in (0.0, -1.0, math.nan):
        with pytest.raises(ErlangenError, match="D = "):
            noise_family(D)


@pytest.mark.parametrize("D", DIMENSIONS)
def test_kernels_are_densities(D: float) -> None:
    family, sigma = noise_family(D), torch.tensor(0.8, dtype=torch.float64)

    def density(radius: float, dim: int) -> float:
        return float(family.log_kernel(torch.tensor(radius**2, dtype=torch.float64), sigma, dim).exp())

    line, _ = scipy.integrate.quad(lambda r: 2 * density(r, 1), 0, np.inf)
    plane, _ = scipy.integrate.quad(lambda r: 2 * np.pi * r * density(r, 2), 0, np.inf)
    assert (line, plane) == pytest.approx((1, 1), abs=1e-6)
    if not math.isinf(D):  # an independent formula
        student: Any = scipy.stats.multivariate_t
        for r in (0.1, 1.0, 5.0):
            expected = student(shape=0.64 * np.eye(2), df=D).pdf([r, 0])
            assert density(r, 2) == pytest.approx(expected, rel=1e-10)


def test_score_of_the_kernel() -> None:
    """-(N + D)(x - y) / (|x - y|^2 + r^2)."""
    x, D, sigma = randn(5, 3).requires_grad_(), 7.0, torch.tensor(0.6, dtype=torch.float64)
    log = StudentNoise(D).log_kernel(x.square().sum(-1), sigma, 3)
    (slope,) = torch.autograd.grad(log.sum(), x)
    torch.testing.assert_close(slope, -(3 + D) * x / (x.square().sum(-1, keepdim=True) + 0.36 * D))


# --- denoisers -------------------------------------------------------------------------------------------------------
def test_empirical_denoisers() -> None:
    points, x, sigma = randn(20, 4), randn(6, 4, seed=1), torch.linspace(0.2, 3, 6, dtype=torch.float64)
    gaussian = EmpiricalDenoiser(points)(x, sigma)
    far = EmpiricalDenoiser(points, noise_family(1e8))(x, sigma)
    torch.testing.assert_close(far, gaussian, rtol=0, atol=1e-5)
    # The Cauchy posterior of two points on a line, by hand.
    two = EmpiricalDenoiser(torch.tensor([[0.0], [1.0]]).double(), noise_family(1.0))
    weights = 1 / (np.array([0.3, -0.7]) ** 2 + 0.25)
    assert two(torch.tensor([[0.3]]).double(), torch.tensor(0.5)).item() == pytest.approx(weights[1] / weights.sum())
    for D in DIMENSIONS:
        denoiser = EmpiricalDenoiser(points, noise_family(D))
        Q = torch.linalg.qr(randn(4, 4, seed=2)).Q
        shift = randn(4, seed=3)
        moved = EmpiricalDenoiser(points @ Q.mT + shift, noise_family(D))
        torch.testing.assert_close(
            moved(x @ Q.mT + shift, sigma), denoiser(x, sigma) @ Q.mT + shift, rtol=1e-10, atol=1e-10
        )
        alone = EmpiricalDenoiser(points[:1], noise_family(D))
        torch.testing.assert_close(alone(x, sigma), points[:1].expand(6, 4))
    with pytest.raises(ShapeError, match="points are"):
        EmpiricalDenoiser(points)(randn(3, 5), sigma[:3])
    with pytest.raises(DataError, match="empty"):
        EmpiricalDenoiser(points[:0])


def mixture(n: int = 2) -> GaussianMixture:
    A = randn(3, n, n, seed=4)
    return GaussianMixture(
        3 * randn(3, n, seed=5), A @ A.mT / n + 0.1 * torch.eye(n), torch.tensor([1.0, 2, 3]).double()
    )


def test_gaussian_mixtures() -> None:
    m, x = mixture(3), randn(5, 3, seed=6).requires_grad_()
    sigma = torch.tensor([0.3, 1, 2, 0.1, 5]).double()
    expected = []
    for point, s in zip(x.detach().numpy(), sigma.tolist(), strict=True):
        total = 0.0
        for k in range(3):
            C = (m.vectors[k] @ m.values[k].diag() @ m.vectors[k].mT).numpy() + s**2 * np.eye(3)
            total += float(m.weights[k]) * scipy.stats.multivariate_normal(m.means[k].numpy(), C).pdf(point)
        expected.append(np.log(total))
    np.testing.assert_allclose(m.log_prob(x, sigma).detach().numpy(), expected, rtol=1e-10)
    (slope,) = torch.autograd.grad(m.log_prob(x, sigma).sum(), x)
    torch.testing.assert_close(m.score(x, sigma), slope)
    # Components of no width are points: the denoiser is that of the points.
    points = randn(4, 3)
    flat = GaussianMixture(points, torch.zeros(4, 3).double())
    torch.testing.assert_close(flat(x, sigma), EmpiricalDenoiser(points)(x, sigma))
    samples, k = m.sample(60_000, generator=rng())
    torch.testing.assert_close(k.bincount() / 60_000, m.weights.float(), rtol=0, atol=0.01)
    torch.testing.assert_close(samples[k == 1].mean(0), m.means[1], rtol=0, atol=0.05)
    with pytest.raises(DataError, match="semidefinite"):
        GaussianMixture(points, -torch.ones(4, 3).double())
    with pytest.raises(ShapeError, match="covariances"):
        GaussianMixture(points, torch.ones(4).double())


# --- preconditioning and loss ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("D", [8.0, 128.0, math.inf])
def test_moments_of_the_network(D: float) -> None:
    """With k = D / (D - 2): inputs of variance (s^2 + k sigma^2) / (s^2 + sigma^2), targets of (sigma^2 + k s^2) / (same)."""
    seen: list[Tensor] = []

    def net(x: Tensor, _: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    s, n = 0.5, 40_000
    model = Preconditioned(net, s)
    y = s * randn(n, 1)
    k = 1.0 if math.isinf(D) else D / (D - 2)
    for sigma in (0.2, 0.5, 2.0):
        x = y + sigma * noise_family(D).sample((n, 1), generator=rng(1), dtype=torch.float64)
        skipped = model(x, torch.full((n,), sigma, dtype=torch.float64))
        c_out = sigma * s / math.sqrt(sigma**2 + s**2)
        total = s**2 + sigma**2
        assert seen[-1].square().mean().item() == pytest.approx((s**2 + k * sigma**2) / total, rel=0.03)
        assert ((y - skipped) / c_out).square().mean().item() == pytest.approx((sigma**2 + k * s**2) / total, rel=0.03)


def test_preconditioned_limits_and_bad_input() -> None:
    model = Preconditioned(lambda x, _: x.sin(), 0.5)
    x = randn(4, 3)
    torch.testing.assert_close(model(x, torch.full((4,), 1e-9)), x)
    assert model(x, torch.tensor(1.0)).shape == (4, 3)
    for sigma, error in ((torch.zeros(4), ErlangenError), (torch.ones(3), ShapeError)):
        with pytest.raises(error, match="sigma"):
            model(x, sigma)
    with pytest.raises(ErlangenError, match="data_std"):
        Preconditioned(lambda x, _: x, 0.0)
    with pytest.raises(ShapeError, match="keep the shape"):
        Preconditioned(lambda x, _: x[:, :1])(x, torch.tensor(1.0))
    with pytest.warns(ErlangenWarning, match="standard deviation"):
        denoising_loss(model, 10 * x)


@pytest.mark.parametrize("D", [4.0, math.inf])
def test_no_network_beats_the_oracle(D: float) -> None:
    """The posterior mean minimises the loss: scaling or shifting it makes the loss larger."""
    points = 0.5 * randn(30, 2)

    class Oracle(Preconditioned):
        factor = 1.0

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return self.factor * EmpiricalDenoiser(points, noise_family(D))(x, sigma)

    y = points.repeat(200, 1)

    def loss(factor: float) -> float:
        oracle = Oracle(nn.Identity(), float(points.std()))
        oracle.factor = factor
        return float(denoising_loss(oracle, y, noise=noise_family(D), generator=rng(3)))

    assert loss(1.0) < min(loss(0.98), loss(1.02))


# --- samplers and flows ----------------------------------------------------------------------------------------------
def test_levels() -> None:
    levels = noise_levels(18)
    assert (levels[0].item(), levels[-1].item()) == pytest.approx((80, 0.002))
    i = 5
    assert levels[i].item() == pytest.approx((80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)
    with pytest.raises(ErlangenError, match="low"):
        noise_levels(5, 1.0, 0.5)
    with pytest.raises(ErlangenError, match="count"):
        noise_levels(1)
    with pytest.raises(ErlangenError, match="levels"):
        heun_sample(lambda x, _: x, randn(2, 2), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("D", [4.0, math.inf])
def test_heun_ends_in_the_data(D: float) -> None:
    points = randn(8, 2)
    levels = noise_levels(40)
    start = levels[0] * noise_family(D).sample((200, 2), generator=rng(1), dtype=torch.float64)
    ends = heun_sample(EmpiricalDenoiser(points, noise_family(D)), start, levels)
    assert torch.cdist(ends, points).amin(1).max() < 3 * 0.002


@pytest.mark.parametrize("D", [8.0, math.inf])
def test_heun_is_of_second_order(D: float) -> None:
    points, x = randn(8, 2), randn(20, 2, seed=1) * 3
    denoiser = EmpiricalDenoiser(points, noise_family(D))

    def end(steps: int) -> Tensor:
        levels = torch.logspace(math.log10(3), math.log10(0.5), steps + 1, dtype=torch.float64)
        return heun_sample(denoiser, x, levels, last=False)

    exact = end(3200)
    errors = [(end(n) - exact).norm().item() for n in (100, 200)]
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.3)


def test_classes_come_out_as_often_as_they_are_in_the_data() -> None:
    points = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    levels = noise_levels(30, 0.01, 40)
    start = 40 * randn(8000, 2, seed=2)
    ends = heun_sample(EmpiricalDenoiser(points), start, levels)
    counts = torch.cdist(ends, points).argmin(1).bincount(minlength=4)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_disturbance_is_noise_of_the_level() -> None:
    """A denoiser that keeps x leaves the noise alone: its variance is the sum of (share sigma)^2 over the steps."""
    levels = torch.tensor([4.0, 2.0, 1.0]).double()
    ends = heun_sample(lambda x, _: x, torch.zeros(50_000, 1).double(), levels, disturbance=Disturbance(0.2, rng()))
    assert ends.var().item() == pytest.approx(0.04 * (16 + 4), rel=0.03)


def test_flow_of_a_gaussian_is_its_closed_form() -> None:
    """x_sigma = sqrt((l + sigma^2) / (l + S^2)) x_S along each axis, which is the Jacobian as well."""
    values = torch.tensor([1.0, 0.3, 0.0]).double()
    m = GaussianMixture(torch.zeros(1, 3).double(), values[None])
    levels = torch.logspace(math.log10(5), -2, 200, dtype=torch.float64)
    x = randn(4, 3) * 5
    found = flow(m.score, x, levels, jacobian=True)
    ratio = ((values + levels[-1] ** 2) / (values + levels[0] ** 2)).sqrt()
    torch.testing.assert_close(found.x, ratio * x, rtol=1e-6, atol=1e-9)
    assert found.jacobian is not None
    assert found.stretch is not None
    torch.testing.assert_close(found.jacobian, ratio.diag().expand(4, 3, 3), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.stretch, ratio.log().sum().expand(4), rtol=1e-6, atol=1e-9)
    back = flow(m.score, found.x, levels.flip(0)).x
    torch.testing.assert_close(back, x, rtol=1e-6, atol=1e-6)


def test_likelihoods_of_a_mixture_and_what_a_gauge_field_leaves_alone() -> None:
    """The flow along score + c R score, R skew, has the densities of the score's, though its lines are others."""
    m, x = mixture(), randn(6, 2, seed=8)
    levels = torch.logspace(-3, math.log10(20), 400, dtype=torch.float64)
    R = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()

    def prior(z: Tensor) -> Tensor:
        return m.log_prob(z, levels[-1].to(z))

    exact = m.log_prob(x, levels[0])
    ends: list[Tensor] = []
    for c in (0.0, 1.0):

        def score(z: Tensor, sigma: Tensor, c: float = c) -> Tensor:
            s = m.score(z, sigma)
            return s + c * s @ R.mT

        torch.testing.assert_close(flow_log_prob(score, x, levels, prior), exact, rtol=0, atol=1e-5)
        ends.append(flow(score, x, levels).x)
    assert (ends[0] - ends[1]).norm() > 0.1

    def wrong(z: Tensor, sigma: Tensor) -> Tensor:
        return 1.3 * m.score(z, sigma)

    assert (flow_log_prob(wrong, x, levels, prior) - exact).abs().max() > 0.1


def test_divergence() -> None:
    A = randn(4, 4)
    x = randn(3, 4, seed=1)
    field = lambda z: (z @ A.mT).sin()  # noqa: E731
    expected = ((x @ A.mT).cos() * A.diagonal()).sum(-1)
    torch.testing.assert_close(divergence(field, x), expected)
    rough = divergence(field, x, probes=4000, generator=rng())
    torch.testing.assert_close(rough, expected, rtol=0, atol=0.3)
    with pytest.raises(ErlangenError, match="200 at most"):
        flow(lambda z, _: z, randn(1, 201), torch.tensor([1.0, 0.5]), jacobian=True)
    with pytest.raises(ErlangenError, match="positive"):
        flow(lambda z, _: z, x, torch.tensor([1.0, 0.0]))


# --- distances -------------------------------------------------------------------------------------------------------
def test_distances_of_samples() -> None:
    x, y = randn(300, 1), randn(200, 1, seed=1) + 0.5
    found = sliced_wasserstein(x, y, directions=3, power=1.0, generator=rng())
    assert found.item() == pytest.approx(scipy.stats.wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()))
    energy = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert energy_distance(x, y).item() == pytest.approx(energy)
    a, b = randn(100, 3), randn(80, 3, seed=2) + 1
    Q = torch.linalg.qr(randn(3, 3, seed=3)).Q
    for distance in (energy_distance, mmd):
        torch.testing.assert_close(distance(a, a), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(distance(a @ Q.mT + 2, b @ Q.mT + 2), distance(a, b))
        assert distance(a, b) > distance(a, randn(80, 3, seed=2))
    # Two Gaussians in d dimensions that lie m apart: every direction sees <m, theta>, E <m, theta>^2 = |m|^2 / d.
    far = a + torch.tensor([3.0, 0, 0])
    many = sliced_wasserstein(a, far, directions=20_000, generator=rng())
    assert many.item() == pytest.approx(3 / math.sqrt(3), rel=0.02)
    # By hand: k(a, a) = 1 for one kernel, exp(-1) between points at the distance one.
    one = mmd(torch.zeros(1, 1), torch.ones(1, 1), bandwidths=[1.0])
    assert one.item() == pytest.approx(2 - 2 * math.exp(-1))
    with pytest.raises(ShapeError, match="3 coordinates and y 1"):
        energy_distance(a, x)
    with pytest.raises(DataError, match="at least one"):
        mmd(a[:0], b)
    with pytest.raises(ErlangenError, match="bandwidths"):
        mmd(a, b, bandwidths=[0.0])


def test_frechet_distance_is_that_of_scipys_root() -> None:
    x, y = randn(200, 4) @ randn(4, 4, seed=1), 0.5 * randn(150, 4, seed=2) + 1
    A, B = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root: Any = scipy.linalg.sqrtm(A @ B)
    due = float((x.mean(0) - y.mean(0)).square().sum()) + float(np.trace(A + B - 2 * root.real))
    assert frechet_distance(x, y).item() == pytest.approx(due, rel=1e-9)
    assert frechet_distance(x, x).item() == pytest.approx(0, abs=1e-6)
    flat = torch.cat([x, torch.zeros(200, 1, dtype=torch.float64)], 1)  # a covariance without full rank
    assert frechet_distance(flat, flat + 2).item() == pytest.approx(20)
    with pytest.raises(DataError, match="x has one sample"):
        frechet_distance(x[:1], y)
    with pytest.raises(ShapeError, match="coordinates"):
        frechet_distance(x, flat)


# --- targets and networks --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("D", [1.0, 64.0, math.inf])
def test_targets_of_reference_samples_are_the_oracles(D: float) -> None:
    points = 0.5 * randn(30, 3)
    oracle = EmpiricalDenoiser(points, noise_family(D))

    def net(x: Tensor, noise: Tensor) -> Tensor:
        sigma = (4 * noise).exp()
        total = (sigma.square() + 0.25).sqrt()[:, None]
        return (oracle(x * total, sigma) - 0.25 / total * x) * total / (sigma[:, None] * 0.5)

    model = Preconditioned(net)
    assert float(denoising_loss(model, points, noise=noise_family(D), reference=points, generator=rng())) < 1e-18
    alone = denoising_loss(
        model, points[:1].expand(50, 3), noise=noise_family(D), reference=points[:1], generator=rng()
    )
    plain = denoising_loss(model, points[:1].expand(50, 3), noise=noise_family(D), generator=rng())
    torch.testing.assert_close(alone, plain)
    with pytest.raises(ShapeError, match="reference has shape"):
        denoising_loss(model, points, reference=points[:, :2])


class OnPairs(nn.Module):
    """A network of points and levels, on one tree of both."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return self.net(*pair)


def test_networks_pass_the_contract_of_layers() -> None:
    x = randn(5, 3).float(), randn(5, seed=1).float()
    still = er.Symmetry(er.groups.O(3), input=("invariant", "invariant"), output="invariant")  # no symmetry is declared
    assert "gradient" in check_layer(OnPairs(NoiseMLP(3, width=8, generator=rng())), x, still)
    # The last bias of a potential moves no gradient, and one jvp within another is not what torch.compile takes whole.
    field = GradientField(NoiseMLP(3, out=1, width=8, generator=rng()))
    assert "vmap" in check_layer(OnPairs(field), x, still, skip={"compile"})
    with pytest.raises(ShapeError, match=r"\[B, 3\]"):
        NoiseMLP(3)(torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(ShapeError, match="one number for each"):
        GradientField(NoiseMLP(3))(torch.zeros(2, 3), torch.zeros(2))


def test_a_gradient_field_is_one() -> None:
    potential = NoiseMLP(3, out=1, width=8, generator=rng()).double()
    x, noise = randn(5, 3).requires_grad_(), randn(5, seed=1)
    (due,) = torch.autograd.grad(potential(x, noise).sum(), x)
    field = GradientField(potential)
    torch.testing.assert_close(field(x, noise), due)
    model = Preconditioned(field)
    sigma = (4 * noise).exp()
    assert float(asymmetry(lambda at: model(at, sigma), x.detach()).detach().max()) < 1e-12
    free = Preconditioned(NoiseMLP(3, width=8, generator=rng()).double())
    assert float(asymmetry(lambda at: free(at, sigma), x.detach()).detach().max()) > 1e-6
