"""What must hold exactly for trajectory diffusion, measured at random parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.generate import Diffusion, cosine_betas
from erlangen.groups import E
from erlangen.measure import equivariance_error, relative_change
from erlangen.survey import Run, Sizes, bound, exact, largest
from erlangen.systems.motion.geotdm._network import EGTN
from erlangen.systems.motion.geotdm._priors import CentreOfMass, LearnedPrior
from erlangen.systems.motion.geotdm.data import Frames, free_springs
from erlangen.systems.motion.geotdm.method import GeoTDM

F32, F64 = torch.float32, torch.float64
MODES = ("free", "centre", "learned")
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


def permuted(x: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """The same systems with their particles in another order."""
    return {
        **x,
        "pos": x["pos"][:, :, order],
        "past": x["past"][:, :, order],
        "node": x["node"][:, order],
        "edge_attr": x["edge_attr"][:, order][:, :, order],
    }


# --- properties ------------------------------------------------------------------------------------------------------
@exact(tol=1e-11, float32=1e-5)
def noise_equivariant(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest error of the noise, which turns with all frames and ignores shifts, freely and around both references."""

    def error(mode: str) -> float:
        model, x = small_model(mode, run.seed, dtype), example(run.seed, dtype)
        return float(
            equivariance_error(model, None, inputs(model, x), elements=20, chunk=20, reduce="max", seed=run.seed)
        )

    return largest(map(error, MODES))


@exact(tol=1e-4)
def sampler_equivariant(run: Run[Any]) -> float:
    """Largest error of samples, which move with known frames and turned noise, freely and around both references, in float32."""
    return largest(sampler_error(small_model(mode, run.seed, F32), example(run.seed, F32), run.seed) for mode in MODES)


def learned_reference(run: Run[Any]) -> tuple[LearnedPrior, dict[str, Tensor]]:
    """A learned reference with random parameters, and what it reads."""
    prior: Any = small_model("learned", run.seed).prior
    return prior, {name: example(run.seed)[name] for name in ("past", "node", "edge_attr")}


@exact(tol=1e-11)
def reference_equivariant(run: Run[Any]) -> float:
    """Largest error of the learned reference, which moves with the known frames."""
    prior, known = learned_reference(run)
    return float(equivariance_error(prior, None, known, elements=20, chunk=20, reduce="max", seed=run.seed))


@exact(tol=1e-6)
def weights_sum_to_one(run: Run[Any]) -> float:
    """Largest distance from one of the sum of weights of the learned reference in a frame."""
    prior, known = learned_reference(run)
    return float((prior.combination(known)[0].detach().sum(1) - 1).abs().max())


@exact(tol=1e-6)
def chain_centred(run: Run[Any]) -> float:
    """Largest mean over frames and particles along an unconditional chain, in float32."""
    return chain_means(small_model("free", run.seed, F32), example(run.seed, F32), run.seed)


@bound(at_most=4)
def noise_dimension(run: Run[Any]) -> float:
    """Standard errors between the mean squared length of noise and its dimension 3 (T N - 1)."""
    count, dimension = 20_000, 3 * (FRAMES * PARTICLES - 1)
    like = torch.empty(count, FRAMES, PARTICLES, 3, dtype=F64)
    noise = small_model("free", run.seed).diffusion.noise_like(like, run.generator())
    return abs(float(noise.flatten(1).square().sum(1).mean()) - dimension) / math.sqrt(2 * dimension / count)


@exact(tol=1e-11)
def permutation(run: Run[Any]) -> float:
    """Error of the noise under a permutation of particles."""
    model, x = small_model("learned", run.seed), example(run.seed)
    order = torch.randperm(PARTICLES, generator=run.generator())
    with torch.no_grad():
        return relative_change(model(permuted(x, order)), model(x)[:, :, order], over="entries")


@bound(at_least=0.01)
def time_has_a_direction(run: Run[Any]) -> float:
    """Relative change of the network's answer when frames are reversed and its answer with them (a control)."""
    model, x = small_model("free", run.seed), example(run.seed)
    seen = {**inputs(model, x), "step": x["step"].double()}
    with torch.no_grad():
        back = model.net({**seen, "pos": x["pos"].flip(1)}).flip(1)
        return relative_change(back, model.net(seen), over="entries")


@exact(tol=1e-10)
def posterior_is_bayes(run: Run[Any]) -> float:
    """Largest difference of mean and variance of a step back from Bayes' rule, in all steps but the first."""
    return posterior_error(run.budget.diffusion_steps)


@exact(tol=0)
def bound_terms(run: Run[Any]) -> float:
    """Number of terms of the likelihood bound that are divergences and yet negative."""
    model, x = small_model("free", run.seed), inputs(small_model("free", run.seed), example(run.seed))
    terms = model.bound_terms({**x, "pos": model.diffusion.project(x["pos"])}, run.generator())
    return float((terms[:, 1:] < 0).sum())


@exact(tol=1e-2)
def schedule_ends_in_noise(run: Run[Any]) -> float:
    """Divergence of the chain's end from its prior on free motions of springs, mean, in nats."""
    x, _ = free_springs(Sizes(50, 0, 1), Frames(5, 10, 200), run.seed).train
    model = GeoTDM(EGTN(features=8, layers=1), cosine_betas(run.budget.diffusion_steps), 15).adapt(x)
    return float(model.bound_terms(x, run.generator())[:, -1].mean())


PROPERTIES = (
    noise_equivariant,
    sampler_equivariant,
    reference_equivariant,
    weights_sum_to_one,
    chain_centred,
    noise_dimension,
    permutation,
    time_has_a_direction,
    posterior_is_bayes,
    bound_terms,
    schedule_ends_in_noise,
)
