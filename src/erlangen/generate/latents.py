"""Samples that obey: the noise that a frozen generator starts from is optimised for what is wanted of the sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ModelError, NotFiniteError, check_floating, check_integer

__all__ = ["LatentResult", "optimize_latent"]

Wanted = Callable[[Tensor], Mapping[str, Tensor]]
"""``wanted(sample)``: terms by name, each ``[B]`` or a number, that are zero where the sample is as it should be."""


@dataclass(frozen=True)
class LatentResult:
    """What `optimize_latent` found.

    Attributes:
        latent: the last noise ``[B, ...]``.
        sample: of this noise.
        terms: by name, of this sample, ``[B]``.
        history: the sum over samples and terms before each step, and at last of `sample`.
        spread: ``|z|^2 / d`` of each latent ``[B]``; one for noise, and far from it where latents have left what the generator
            was trained on.
    """

    latent: Tensor
    sample: Tensor
    terms: dict[str, Tensor]
    history: list[float]
    spread: Tensor

    @property
    def unmet(self) -> dict[str, float]:
        """Terms that are not zero, and their mean: where constraints contradict each other, those that lose."""
        return {name: float(term.mean()) for name, term in self.terms.items() if float(term.abs().max()) > 0}


def optimize_latent(
    decode: Callable[[Tensor], Tensor], latent: Tensor, wanted: Wanted, *, steps: int = 50, rate: float = 0.005
) -> LatentResult:
    """Adam on the latent of a deterministic generator, for the sum of terms.

    >>> wanted = lambda x: {"at (1, 0)": (x - torch.tensor([1.0, 0.0])).square().sum(-1)}
    >>> found = optimize_latent(lambda z: 2 * z, torch.zeros(1, 2), wanted, steps=200, rate=0.05)
    >>> found.sample.round(decimals=3).abs().tolist(), found.history[-1] < found.history[0]
    ([[1.0, 0.0]], True)

    Samples of a batch do not see each other, also not by the optimizer. A latent whose gradient is exactly zero is not moved. The
    sample that is returned, and its terms, are those of the last latent.

    Args:
        decode: such as ``lambda z: diffusion.decode(denoiser, z, steps=20)``; with gradients.
        latent: where to start ``[B, ...]``; not changed.
        wanted: see `Wanted`.
        steps: of Adam.
        rate: of Adam, constant.

    Raises:
        ErlangenError: `rate` is not positive.
        ModelError: no gradient of a term reaches the latent; the message names the term.
        NotFiniteError: a term is NaN or Inf.

    Source: Liu et al., "Programmable Motion Generation for Open-Set Motion Control Tasks", CVPR 2024, section 3.
    """
    check_floating(latent, "latent")
    check_integer("steps", steps, 0)
    if not rate > 0 or not math.isfinite(rate):
        raise ErlangenError(f"rate = {rate}; give a positive number")
    z = latent.detach().clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=rate)
    history: list[float] = []
    for step in range(steps):
        sample = decode(z)
        terms = _terms(wanted, sample)
        if step == 0:
            _check_reached(terms, z)
        total = torch.stack([term.sum() for term in terms.values()]).sum()
        history.append(float(total.detach()))
        adam.zero_grad()
        total.backward()
        adam.step()
    with torch.no_grad():
        sample = decode(z)
        terms = _terms(wanted, sample)
    history.append(float(torch.stack([term.sum() for term in terms.values()]).sum()))
    found = z.detach()
    return LatentResult(found, sample, terms, history, found.flatten(1).square().mean(1))


def _terms(wanted: Wanted, sample: Tensor) -> dict[str, Tensor]:
    terms = {
        name: term if term.ndim else term.expand(len(sample)) / len(sample) for name, term in wanted(sample).items()
    }
    for name, term in terms.items():
        if not bool(term.isfinite().all()):
            raise NotFiniteError(
                f"the term {name!r} is NaN or Inf; a distance of zero under a square root does that to gradients"
            )
    if not terms:
        raise ErlangenError("wanted gives no terms; give at least one")
    return terms


def _check_reached(terms: Mapping[str, Tensor], z: Tensor) -> None:
    """That every term depends on the latent by what autograd can follow."""
    for name, term in terms.items():
        reached = (
            term.requires_grad
            and torch.autograd.grad(term.sum(), z, retain_graph=True, allow_unused=True)[0] is not None
        )
        if not reached:
            raise ModelError(
                f"no gradient of the term {name!r} reaches the latent; it, or decode, detaches, rounds or runs without gradients"
            )
