"""What must hold exactly for trajectory diffusion, measured at random parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.generate import Diffusion, cosine_betas
from erlangen.groups import E
from erlangen.measure import equivariance_error, relative_change
from erlangen.survey.claims import Claim
from erlangen.systems.motion._geotdm_diffusion import GeoTDM
from erlangen.systems.motion._geotdm_network import EGTN
from erlangen.systems.motion._geotdm_priors import CentreOfMass, LearnedPrior

F32, F64 = torch.float32, torch.float64
SYSTEMS, KNOWN, FRAMES, PARTICLES, STEPS = 6, 3, 5, 4, 10


def example(seed: int, dtype: torch.dtype = F64) -> dict[str, Tensor]:
    """Six noisy trajectories of four particles, with three known frames and features of all kinds."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(SYSTEMS, *shape, generator=generator, dtype=F64).to(dtype)

    pairs = drawn(PARTICLES, PARTICLES, 1)
    return {
        "pos": drawn(FRAMES, PARTICLES, 3),
        "past": drawn(KNOWN, PARTICLES, 3),
        "step": torch.arange(SYSTEMS) % STEPS,
        "node": drawn(PARTICLES, 1),
        "edge_attr": pairs + pairs.transpose(1, 2),
    }


def small_model(mode: str, seed: int, dtype: torch.dtype = F64) -> GeoTDM:
    """An untrained model: "free", "centre" or "learned"."""
    generator = Generator().manual_seed(seed)
    known = mode != "free"
    net = EGTN(1 + known, 1, features=16, layers=2, generator=generator)
    priors: dict[str, nn.Module | None] = {
        "free": None,
        "centre": CentreOfMass(FRAMES),
        "learned": LearnedPrior(FRAMES, 1, 1, features=16, generator=generator),
    }
    return GeoTDM(net, cosine_betas(STEPS), FRAMES, priors[mode]).to(dtype)


def inputs(model: GeoTDM, x: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model reads of the example."""
    return {name: value for name, value in x.items() if name != "past" or model.prior is not None}


@torch.no_grad()
def sampler_error(model: GeoTDM, x: dict[str, Tensor], seed: int) -> float:
    """Moved known frames and turned noise should give the moved samples; the worst of four motions."""
    group = E(3)
    noise = torch.randn(STEPS, *x["pos"].shape, generator=Generator().manual_seed(seed), dtype=F64).to(x["pos"])
    features = {name: x[name] for name in ("node", "edge_attr")}
    known = {} if model.prior is None else {"past": x["past"]}
    before = model.sample({**features, **known}, noise=noise)
    worst = 0.0
    for g in group.sample(4, generator=Generator().manual_seed(seed), dtype=F64).to(noise):
        turn, shift = group.linear(g), group.translation(g)
        moved = {name: value @ turn.mT + shift for name, value in known.items()}
        expected = before @ turn.mT + (shift if known else 0)
        worst = max(
            worst, relative_change(model.sample({**features, **moved}, noise=noise @ turn.mT), expected, over="entries")
        )
    return worst


@torch.no_grad()
def chain_means(model: GeoTDM, x: dict[str, Tensor], seed: int) -> float:
    """Largest mean over frames and particles that an unconditional sampler meets or gives."""
    seen: list[Tensor] = []
    hook = model.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]["pos"].mean((1, 2))))
    try:
        features = {name: x[name] for name in ("node", "edge_attr")}
        found = model.sample(features, generator=Generator().manual_seed(seed))
    finally:
        hook.remove()
    return float(torch.cat([*seen, found.mean((1, 2))]).abs().max())


def chi_square(seed: int, count: int = 20_000) -> float:
    """How many standard errors the mean squared length of the noise is away from the dimension ``3 (T N - 1)``."""
    noise = small_model("free", seed).diffusion.noise_like(
        torch.empty(count, FRAMES, PARTICLES, 3, dtype=F64), Generator().manual_seed(seed)
    )
    dimension = 3 * (FRAMES * PARTICLES - 1)
    return abs(float(noise.flatten(1).square().sum(1).mean()) - dimension) / math.sqrt(2 * dimension / count)


def posterior_error(steps: int) -> float:
    """Largest difference between the posterior and Bayes' rule, precisions added, for a number in all steps but the first."""
    diffusion = Diffusion(cosine_betas(steps))
    t = torch.arange(1, steps)
    x, x_t = (torch.linspace(a, b, steps - 1, dtype=F64)[:, None] for a, b in ((-1, 2), (1, -3)))
    mean, variance = diffusion.posterior(x, x_t, t)
    beta, before = diffusion.betas[t, None], diffusion.alpha_bars[t - 1, None]
    precision = (1 - beta) / beta + 1 / (1 - before)
    expected = ((1 - beta).sqrt() * x_t / beta + before.sqrt() * x / (1 - before)) / precision
    return float(torch.stack([(mean - expected).abs().max(), (variance - 1 / precision).abs().max()]).max())


@torch.no_grad()
def property_errors(seed: int, diffusion_steps: int) -> dict[str, float]:
    """The errors that the exact claims bound."""
    errors: dict[str, float] = {}
    for mode in ("free", "centre", "learned"):
        for dtype, name in ((F32, "float32"), (F64, "float64")):
            model, x = small_model(mode, seed, dtype), example(seed, dtype)
            error = equivariance_error(model, None, inputs(model, x), elements=20, chunk=20, reduce="max", seed=seed)
            errors[f"noise, {mode}, {name}"] = float(error)
        errors[f"sampler, {mode}"] = sampler_error(small_model(mode, seed, F32), example(seed, F32), seed)
    x = example(seed)
    free, learned = small_model("free", seed), small_model("learned", seed)
    prior: Any = learned.prior
    known = {name: x[name] for name in ("past", "node", "edge_attr")}
    errors["reference"] = float(equivariance_error(prior, None, known, elements=20, chunk=20, reduce="max", seed=seed))
    errors["weights"] = float((prior.combination(known)[0].sum(1) - 1).abs().max())
    errors["means"] = chain_means(small_model("free", seed, F32), example(seed, F32), seed)
    errors["chi square"] = chi_square(seed)
    order = torch.randperm(PARTICLES, generator=Generator().manual_seed(seed))
    errors["permutation"] = relative_change(learned(permuted(x, order)), learned(x)[:, :, order], over="entries")
    seen = {**inputs(free, x), "step": x["step"].double()}
    errors["reversal"] = 1 / relative_change(
        free.net({**seen, "pos": x["pos"].flip(1)}).flip(1), free.net(seen), over="entries"
    )
    errors["posterior"] = posterior_error(diffusion_steps)
    terms = free.bound_terms({**inputs(free, x), "pos": free.diffusion.project(x["pos"])})
    errors["bound"] = float((terms[:, 1:] < 0).sum())
    return errors


def permuted(x: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """The same systems with their particles in another order."""
    return {
        **x,
        "pos": x["pos"][:, :, order],
        "past": x["past"][:, :, order],
        "node": x["node"][:, order],
        "edge_attr": x["edge_attr"][:, order][:, :, order],
    }


def property_claims(errors: dict[str, float]) -> list[Claim]:
    """Claims about exact properties."""
    worst = {
        dtype: max(errors[f"noise, {mode}, {dtype}"] for mode in ("free", "centre", "learned"))
        for dtype in ("float32", "float64")
    }
    sampler = max(errors[f"sampler, {mode}"] for mode in ("free", "centre", "learned"))
    statements: list[tuple[str, str, float, float]] = [
        ("noise-equivariant", "Noise turns with all frames and ignores shifts, float32.", worst["float32"], 1e-5),
        ("noise-equivariant-float64", "The same in float64; both are the worst of three modes.", worst["float64"], 1e-11),
        ("sampler-equivariant", "The sampler moves with known frames and turned noise, float32.", sampler, 1e-4),
        ("reference-equivariant", "The learned reference moves with the known frames, float64.", errors["reference"], 1e-11),
        ("weights-sum-to-one", "Weights of the learned reference sum to one in every frame.", errors["weights"], 1e-6),
        ("chain-centred", "Means over frames and particles along an unconditional chain, float32.", errors["means"], 1e-6),
        ("noise-dimension", "Standard errors from the mean squared length of noise to 3 (T N - 1).", errors["chi square"], 4),
        ("permutation", "Permuted particles have their noise permuted, float64.", errors["permutation"], 1e-11),
        ("time-has-a-direction", "Control: inverse of the change when frames are reversed.", errors["reversal"], 100),
        ("posterior-is-bayes", "Mean and variance of a step back, against Bayes' rule.", errors["posterior"], 1e-10),
        ("bound-terms", "Terms of the likelihood bound that are divergences and yet negative.", errors["bound"], 0),
        ("schedule-ends-in-noise", "Divergence of the chain's end from its prior, test mean, nats.", errors["schedule"], 1e-2),
    ]  # fmt: skip
    return [Claim.exact(name, text, measured=value, tol=tol) for name, text, value, tol in statements]
