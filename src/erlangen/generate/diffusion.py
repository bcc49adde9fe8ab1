"""Denoising diffusion with a fixed schedule: noising, its posterior, the likelihood bound, and samplers.

A chain ``x_1, ..., x_T`` adds noise to data ``x_0`` until nothing is left of them but a normal distribution. A model that
predicts the noise in ``x_t`` reverses it step by step (Ho, Jain and Abbeel, NeurIPS 2020), or in fewer, larger steps
(Song, Meng and Ermon, "Denoising Diffusion Implicit Models", ICLR 2021). All noise may live in a subspace, such as that of
`CenteredGaussian`, and the chain may run around a reference instead of around zero: shift x by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.utils.checkpoint import checkpoint as recompute

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.generate.gaussians import CenteredGaussian

__all__ = ["Denoiser", "Diffusion"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``denoiser(x_t, t)``: the noise that it sees in ``x_t [B, ...]`` at the steps ``t``, int64 ``[B]``."""

SIGNAL_LEFT = 0.05
"""Largest share of the signal's variance that a schedule may leave at its end: samplers start from pure noise."""


class Diffusion:
    """A variance-preserving diffusion ``q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)``, t = 0, ..., T - 1.

    Step t adds noise of the variance ``betas[t]``; ``abar_t`` is the product of ``1 - betas`` up to t.

    >>> from erlangen.generate import cosine_betas
    >>> diffusion = Diffusion(cosine_betas(50))
    >>> x = diffusion.sample(lambda x, t: x, (4, 3), generator=torch.Generator().manual_seed(0))
    >>> x.shape
    torch.Size([4, 3])

    Args:
        betas: ``[T]`` in (0, 1), such as `linear_betas`; kept in float64.
        gaussian: the subspace of noise and data; the whole space without it.

    Attributes:
        betas, alpha_bars: float64 ``[T]``.

    Raises:
        ErlangenError: a variance is not in (0, 1), or more than 5 % of the signal's variance is left at the end.
    """

    def __init__(self, betas: Tensor, gaussian: CenteredGaussian | None = None) -> None:
        self.betas = betas.detach().double().cpu()
        if self.betas.dim() != 1 or not len(betas) or not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise ErlangenError(f"betas {tuple(betas.shape)} must be a row of numbers in (0, 1)")
        self.alpha_bars = (1 - self.betas).cumprod(0)
        if self.alpha_bars[-1] > SIGNAL_LEFT:
            raise ErlangenError(
                f"betas leave {float(self.alpha_bars[-1]):.1%} of the signal's variance; take larger ones, at most "
                f"{SIGNAL_LEFT:.0%} may be left where samplers start"
            )
        self.gaussian = gaussian

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    # --- noise -------------------------------------------------------------------------------------------------------
    def noise_like(self, x: Tensor, generator: Generator | None = None, mask: Tensor | None = None) -> Tensor:
        """Standard normal noise of the shape of x, in the subspace; zero where the mask is false."""
        place = x.device if generator is None else generator.device
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=place).to(x.device)
        return self.project(noise, mask)

    def project(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x in the subspace, and zero where the mask, bool ``[B, ...]`` without the last axis, is false."""
        if self.gaussian is not None:
            return self.gaussian.project(x, mask)
        return x if mask is None else x * mask[..., None]

    def draw_steps(self, count: int, generator: Generator | None = None) -> Tensor:
        """Uniform steps, int64 ``[count]``."""
        return torch.randint(self.steps, (count,), generator=generator)

    def diffuse(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise``.

        Args:
            x: data ``[B, ...]``.
            t: steps, int64 ``[B]``.
            noise: of the shape of x, as from `noise_like`.

        Raises:
            ShapeError: t is not a step for each sample.
        """
        kept = self._at(self.alpha_bars, t, x)
        return kept.sqrt() * x + (1 - kept).sqrt() * noise

    def start_of(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The ``x_0`` from which this noise leads to ``x_t``: the inverse of `diffuse`."""
        kept = self._at(self.alpha_bars, t, x_t)
        return (x_t - (1 - kept).sqrt() * noise) / kept.sqrt()

    # --- one step back -----------------------------------------------------------------------------------------------
    def posterior(self, x: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of ``q(x_{t-1} | x_t, x_0)`` (Ho et al., equation 7); at t = 0 they are ``x_0`` and zero.

        Returns:
            Mean of the shape of x, and variance ``[B, 1, ...]``.
        """
        before = self._before(t, x)
        kept, beta = self._at(self.alpha_bars, t, x), self._at(self.betas, t, x)
        mean = (before.sqrt() * beta * x + (1 - beta).sqrt() * (1 - before) * x_t) / (1 - kept)
        return mean, (1 - before) / (1 - kept) * beta

    # --- likelihood --------------------------------------------------------------------------------------------------
    def prior_kl(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Divergence ``[B]`` in nats of ``q(x_T | x_0)`` from the standard normal: what the end still knows of the data."""
        kept = float(self.alpha_bars[-1])
        each = -0.5 * (math.log1p(-kept) + kept)
        return 0.5 * kept * self.project(x, mask).flatten(1).square().sum(1) + each * self._dimension(x, mask)

    def bound_terms(
        self, denoiser: Denoiser, x: Tensor, *, generator: Generator | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Terms ``[B, T + 1]`` in nats whose sum bounds the negative log-likelihood from above.

        Term t > 0 is the divergence of the model's step from the posterior, with the variance of the posterior. Term 0 is
        the density of the data at the end of the chain, with the variance ``betas[0]``. The last one is `prior_kl`.
        Densities are per volume of the subspace.
        """
        terms: list[Tensor] = []
        dimension = self._dimension(x, mask)
        for step in range(self.steps):
            t = torch.full((len(x),), step, device=x.device)
            x_t = self.diffuse(x, t, self.noise_like(x, generator, mask))
            guess = self.start_of(x_t, t, self.project(denoiser(x_t, t), mask))
            if step:
                mean, variance = self.posterior(x, x_t, t)
                found, _ = self.posterior(guess, x_t, t)
                squares = (mean - found).flatten(1).square().sum(1)
                terms.append(squares / (2 * variance.flatten()))
            else:
                first = float(self.betas[0])
                squares = self.project(x - guess, mask).flatten(1).square().sum(1)
                terms.append(0.5 * (squares / first + dimension * math.log(2 * math.pi * first)))
        return torch.stack([*terms, self.prior_kl(x, mask)], 1)

    # --- samplers ----------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser,
        shape: Sequence[int],
        *,
        steps: int | None = None,
        eta: float = 1.0,
        generator: Generator | None = None,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Samples ``[B, ...]``, from pure noise.

        With all steps and ``eta=1`` this is ancestral sampling with the variance of the posterior; with ``eta=0`` it adds no
        noise on the way (DDIM, equation 12), and few steps do.

        Args:
            denoiser: see `Denoiser`.
            shape: of the samples.
            steps: how many of the T steps are taken, evenly; all without it.
            eta: share of the posterior's standard deviation that is added as noise at each step, in [0, 1].
            generator: source of the noise.
            noise: instead, all of it, ``[steps, B, ...]``: the start, then what each step but the last adds. The same noise,
                moved with a group, tests whether a sampler is equivariant.
            mask: what exists, bool ``[B, ...]`` without the last axis.
            dtype, device: of the samples; those of `noise`, or torch's defaults, without them.

        Raises:
            ErlangenError: `steps` or `eta` is out of range.
            ShapeError: `noise` does not fit.
        """
        count = self.steps if steps is None else steps
        if not 1 <= count <= self.steps or not 0 <= eta <= 1:
            raise ErlangenError(f"steps = {steps}, eta = {eta}; take 1 to {self.steps} steps and eta from 0 to 1")
        if noise is not None and noise.shape != (count, *shape):
            raise ShapeError(f"noise has shape {tuple(noise.shape)}; {count} steps need {(count, *shape)}")
        like = torch.empty(tuple(shape), dtype=dtype, device=device) if noise is None else noise[0]

        def drawn(k: int) -> Tensor:
            return self.noise_like(like, generator, mask) if noise is None else self.project(noise[k], mask)

        times = self.times(count)
        x = drawn(0)
        for k, step in enumerate(times):
            t = torch.full((len(x),), step, device=x.device)
            seen = self.project(denoiser(x, t), mask)
            start = self.start_of(x, t, seen)
            if k + 1 == count:
                x = self.project(start, mask)
                break
            kept, before = float(self.alpha_bars[step]), float(self.alpha_bars[times[k + 1]])
            # DDIM, equation 16: with all steps and eta = 1 it is the posterior's variance.
            variance = eta**2 * (1 - before) / (1 - kept) * (1 - kept / before)
            x = math.sqrt(before) * start + math.sqrt(1 - before - variance) * seen
            if variance > 0:
                x = x + math.sqrt(variance) * drawn(k + 1)
            # The start divides by the signal that is left, which magnifies rounding out of the subspace.
            x = self.project(x, mask)
        return x

    def decode(
        self,
        denoiser: Denoiser,
        z: Tensor,
        *,
        steps: int | None = None,
        predicts: Literal["noise", "start"] = "noise",
        checkpoint: bool = True,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The sample ``[B, ...]`` that noise z of this shape becomes: the map of `sample` with ``eta=0``, with gradients.

        >>> from erlangen.generate import cosine_betas
        >>> z = torch.ones(1, 2, requires_grad=True)
        >>> x = Diffusion(cosine_betas(50)).decode(lambda x, t: x, z, steps=5)
        >>> torch.allclose(torch.autograd.grad(x.sum(), z)[0], x)  # it is linear, and z is one
        True

        For a fixed z it is always the same, so that z may be optimised for what is wanted of the sample.

        Args:
            denoiser: see `Denoiser`.
            z: the start of the chain.
            steps: how many of the T steps are taken, evenly; all without it.
            predicts: what the denoiser answers with: the noise, or the ``x_0`` that it sees, which loses no digits where little
                but noise is left.
            checkpoint: keep the ends of steps alone, and compute inner values again for gradients: the memory of one step, and a
                second call of the denoiser for each.
            mask: what exists, bool ``[B, ...]`` without the last axis.

        Raises:
            ErlangenError: `steps` is out of range.
            UnknownNameError: another `predicts`.
        """
        count = self.steps if steps is None else steps
        if not 1 <= count <= self.steps:
            raise ErlangenError(f"steps = {steps}; take 1 to {self.steps}")
        if predicts not in ("noise", "start"):
            raise UnknownNameError(f"predicts = {predicts!r}; give 'noise' or 'start'")
        times = self.times(count)

        def back(x: Tensor, k: int) -> Tensor:
            t = torch.full((len(x),), times[k], device=x.device)
            answer = self.project(denoiser(x, t), mask)
            start = self.start_of(x, t, answer) if predicts == "noise" else answer
            if k + 1 == count:
                return self.project(start, mask)
            kept = float(self.alpha_bars[times[k]])
            seen = answer if predicts == "noise" else (x - math.sqrt(kept) * start) / math.sqrt(1 - kept)
            before = float(self.alpha_bars[times[k + 1]])
            return self.project(math.sqrt(before) * start + math.sqrt(1 - before) * seen, mask)

        x = self.project(z, mask)
        for k in range(count):
            kept = checkpoint and torch.is_grad_enabled()
            x = recompute(back, x, k, use_reentrant=False) if kept else back(x, k)
        return x

    def times(self, count: int) -> list[int]:
        """The steps, from T - 1 down, that a sampler of `count` steps visits."""
        return torch.linspace(self.steps - 1, 0, count, dtype=torch.float64).round().long().tolist()

    # --- parts -------------------------------------------------------------------------------------------------------
    def _at(self, table: Tensor, t: Tensor, x: Tensor) -> Tensor:
        if t.shape != x.shape[:1] or t.dtype != torch.int64:
            raise ShapeError(
                f"t is {t.dtype} {tuple(t.shape)}; pass int64 {tuple(x.shape[:1])}, a step for each sample"
            )
        return table.to(x.device)[t].to(x.dtype).view(-1, *[1] * (x.dim() - 1))

    def _before(self, t: Tensor, x: Tensor) -> Tensor:
        return self._at(torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bars]), t, x)

    def _dimension(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Dimension ``[B]`` of each sample's space."""
        if self.gaussian is not None:
            return self.gaussian.dimensions(x, mask).reshape(len(x), -1).sum(1)
        exist = x.new_ones(x.shape[:-1]) if mask is None else mask.expand(x.shape[:-1]).to(x.dtype)
        return exist.reshape(len(x), -1).sum(1) * x.shape[-1]
