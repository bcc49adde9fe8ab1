"""Deterministic decoding against its closed form for normal data, and latents that are optimised for what is wanted."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ModelError, NotFiniteError, UnknownNameError
from erlangen.generate import Diffusion, linear_betas, optimize_latent

F64 = torch.float64
CHAIN = Diffusion(linear_betas(1000))
VARIANCE = torch.tensor([4.0, 1.0, 0.25], dtype=F64)
MEAN = torch.tensor([0.3, 0.0, -1.0], dtype=F64)


def denoiser(x: Tensor, t: Tensor) -> Tensor:
    """The exact one for a normal distribution with these means and variances."""
    kept = CHAIN.alpha_bars[t][:, None]
    return (1 - kept).sqrt() * (x - kept.sqrt() * MEAN) / (kept * VARIANCE + 1 - kept)


def exact(z: Tensor) -> Tensor:
    kept = CHAIN.alpha_bars[-1]
    return MEAN + VARIANCE.sqrt() * (z - kept.sqrt() * MEAN) / (kept * VARIANCE + 1 - kept).sqrt()


def test_error_falls_with_the_steps() -> None:
    z = torch.full((1, 3), 1.3, dtype=F64)
    errors = [float((CHAIN.decode(denoiser, z, steps=n) - exact(z))[0, 0].abs()) for n in (50, 100, 400)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_one_of_the_known_numbers() -> None:
    """Variance 4 around zero, z = 1.3: measured independently as 0.197, 0.078, 0.039 and 0.010."""

    def plain(x: Tensor, t: Tensor) -> Tensor:
        kept = CHAIN.alpha_bars[t][:, None]
        return (1 - kept).sqrt() * x / (4 * kept + 1 - kept)

    z = torch.full((1, 1), 1.3, dtype=F64)
    kept = CHAIN.alpha_bars[-1]
    true = 2 * z / (4 * kept + 1 - kept).sqrt()
    for steps, error in ((20, 0.197), (50, 0.078), (100, 0.039), (400, 0.010)):
        assert float((CHAIN.decode(plain, z, steps=steps) - true).abs()) == pytest.approx(error, rel=0.06)


def test_it_is_the_sampler_without_noise() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    noise = torch.stack([z, *torch.randn(9, 4, 3, dtype=F64)])
    expected = CHAIN.sample(denoiser, (4, 3), steps=10, eta=0.0, noise=noise)
    assert torch.equal(CHAIN.decode(denoiser, z, steps=10), expected)
    assert torch.equal(CHAIN.decode(denoiser, z, steps=10), CHAIN.decode(denoiser, z, steps=10))


def test_gradients_with_and_without_checkpoints() -> None:
    z = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=F64, requires_grad=True)
    with_, without = (
        torch.autograd.grad(CHAIN.decode(denoiser, z, steps=8, checkpoint=c).square().sum(), z)[0]
        for c in (True, False)
    )
    assert torch.equal(with_, without)
    assert torch.autograd.gradcheck(lambda x: CHAIN.decode(denoiser, x, steps=4), z)
    slope = torch.func.jacrev(lambda x: CHAIN.decode(denoiser, x[None], steps=8, checkpoint=False)[0])(z[0].detach())
    zero, one = (CHAIN.decode(denoiser, torch.full((1, 3), v, dtype=F64), steps=8)[0] for v in (0.0, 1.0))
    torch.testing.assert_close(slope, torch.diag(one - zero))  # each direction has its own linear map


def test_what_is_guessed_may_be_the_start() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=F64)

    def start(x: Tensor, t: Tensor) -> Tensor:
        return CHAIN.start_of(x, t, denoiser(x, t))

    torch.testing.assert_close(CHAIN.decode(start, z, steps=10, predicts="start"), CHAIN.decode(denoiser, z, steps=10))


def at_two(x: Tensor) -> dict[str, Tensor]:
    return {"first is two": (x[:, 0] - 2).square()}


def decoded(z: Tensor) -> Tensor:
    return CHAIN.decode(denoiser, z, steps=10)


def test_the_last_latent_is_what_is_reported() -> None:
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=F64)
    before = z.clone()
    found = optimize_latent(decoded, z, at_two, steps=150, rate=0.05)
    assert torch.equal(z, before)
    assert torch.equal(decoded(found.latent), found.sample)
    assert torch.equal(at_two(found.sample)["first is two"], found.terms["first is two"])
    assert len(found.history) == 151
    assert found.history[-1] < 1e-4 * found.history[0]
    torch.testing.assert_close(found.latent[:, 1:], z[:, 1:])  # other directions are not asked for
    torch.testing.assert_close(found.spread, found.latent.square().mean(1))


def test_samples_do_not_see_each_other() -> None:
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    together = optimize_latent(decoded, z, at_two, steps=20, rate=0.05).latent
    alone = torch.cat([optimize_latent(decoded, one[None], at_two, steps=20, rate=0.05).latent for one in z])
    torch.testing.assert_close(together, alone)


def test_what_is_met_is_not_moved() -> None:
    z = torch.randn(2, 3, generator=torch.Generator().manual_seed(4), dtype=F64)
    found = optimize_latent(decoded, z, lambda x: {"below 100": (x - 100).relu().sum(-1)}, steps=10)
    assert torch.equal(found.latent, z)
    assert found.unmet == {}


def test_contradicting_terms_are_named() -> None:
    z = torch.zeros(1, 3, dtype=F64)

    def both(x: Tensor) -> dict[str, Tensor]:
        return {"two": (x[:, 0] - 2).square(), "zero": x[:, 0].square(), "low": (x[:, 1] - 50).relu()}

    unmet = optimize_latent(decoded, z, both, steps=300, rate=0.05).unmet
    assert set(unmet) == {"two", "zero"}
    assert unmet["two"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda z: optimize_latent(decoded, z, at_two, rate=0.0), ErlangenError, "rate = 0"),
        (lambda z: optimize_latent(decoded, z, at_two, steps=-1), ErlangenError, "steps"),
        (lambda z: optimize_latent(decoded, z, lambda x: {}), ErlangenError, "no terms"),
        (lambda z: optimize_latent(decoded, z, lambda x: at_two(x) | {"cut": x.detach().sum(-1)}), ModelError, "'cut'"),
        (lambda z: optimize_latent(lambda z: decoded(z).detach(), z, at_two), ModelError, "'first is two'"),
        (lambda z: optimize_latent(decoded, z, lambda x: {"bad": x.sum(-1) * math.nan}), NotFiniteError, "'bad'"),
        (lambda z: CHAIN.decode(denoiser, z, steps=0), ErlangenError, "steps = 0"),
        (lambda z: CHAIN.decode(denoiser, z, steps=1001), ErlangenError, "steps = 1001"),
        (lambda z: CHAIN.decode(denoiser, z, predicts="x"), UnknownNameError, "predicts = 'x'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(torch.zeros(2, 3, dtype=F64))
