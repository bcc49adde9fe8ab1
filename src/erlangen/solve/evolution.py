"""Search without derivatives: a mixture of Gaussians in a box evolves towards large values, and stays wide where it may."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import (
    ErlangenError,
    ErlangenWarning,
    ShapeError,
    check_finite,
    check_floating,
    check_sizes,
    is_whole,
)

__all__ = ["BoxMixture", "Evolved", "evolve_mixture"]

Fitness = Callable[[Tensor], Tensor]
LARGEST_CHANGE = 0.2
"""Of a spread in one step, as a share of it."""
MOST_LOST = 0.1
"""Share of fitness values that may be missing."""


@dataclass(frozen=True)
class BoxMixture:
    """A mixture of Gaussians with diagonal spreads, pressed into a box: ``v = middle + half tanh(u)``, u from the mixture.

    >>> flat = BoxMixture.start(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 2.0]), 3)
    >>> flat.sample(5, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5, 2])

    Leading axes ``...`` are independent mixtures, as for many objects at once.

    Args:
        low, high: corners of the box ``[d]``.
        means, spreads: of u ``[..., K, d]``.
        weights: of the components ``[..., K]``; they sum to 1.

    Raises:
        ShapeError, DtypeError: tensors of another form.
        ErlangenError: an empty box, a spread that is not positive, weights that are no shares.
    """

    low: Tensor
    high: Tensor
    means: Tensor
    spreads: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        d = len(self.low) if self.low.ndim == 1 else 0
        for name in ("low", "high", "means", "spreads", "weights"):
            check_floating(getattr(self, name), name)
            check_finite(getattr(self, name), name)
        if d < 1 or self.high.shape != (d,):
            raise ShapeError(f"low and high have shapes {tuple(self.low.shape)} and {tuple(self.high.shape)}; give [d]")
        if self.means.ndim < 2 or self.means.shape[-1] != d or self.means.shape[-2] < 1:
            raise ShapeError(f"means has shape {tuple(self.means.shape)}; give [..., K, {d}] with K from 1")
        if self.spreads.shape != self.means.shape or self.weights.shape != self.means.shape[:-1]:
            raise ShapeError(
                f"spreads and weights have shapes {tuple(self.spreads.shape)} and {tuple(self.weights.shape)}; for means "
                f"{tuple(self.means.shape)} give the same, and without the last axis"
            )
        if not bool((self.low < self.high).all()):
            raise ErlangenError(f"low = {self.low.tolist()} is not below high = {self.high.tolist()}")
        if not bool((self.spreads > 0).all()):
            raise ErlangenError(f"spreads must be positive; the least is {float(self.spreads.min())}")
        if not bool((self.weights >= 0).all() and ((self.weights.sum(-1) - 1).abs() < 1e-5).all()):
            raise ErlangenError(f"weights must be shares that sum to 1; they sum to {self.weights.sum(-1).tolist()}")

    @classmethod
    def start(
        cls,
        low: Tensor,
        high: Tensor,
        components: int,
        *,
        batch: tuple[int, ...] = (),
        spread: float = 0.1,
        generator: Generator | None = None,
    ) -> BoxMixture:
        """Equal weights and spreads; means uniform in (-1, 1) with a `generator`, all zero without one.

        Raises:
            ErlangenError: `components` or `spread` is not positive.
        """
        check_sizes(components=components)
        shape = (*batch, components, len(low))
        means = torch.zeros(shape, dtype=low.dtype)
        if generator is not None:
            means = 2 * torch.rand(shape, dtype=low.dtype, generator=generator) - 1
        return cls(low, high, means, torch.full_like(means, spread), torch.full_like(means[..., 0], 1 / components))

    def place(self, u: Tensor) -> Tensor:
        """The place in the box ``[..., d]`` of u."""
        return (self.low + self.high) / 2 + (self.high - self.low) / 2 * torch.tanh(u)

    def sample(self, count: int, *, generator: Generator | None = None) -> Tensor:
        """Places ``[..., count, d]``; each has one component for all of its coordinates."""
        return self.place(self._draw(count, generator))

    def _draw(self, count: int, generator: Generator | None) -> Tensor:
        lead = self.weights.shape[:-1]
        flat = self.weights.reshape(-1, self.weights.shape[-1])
        component = torch.multinomial(flat, count, replacement=True, generator=generator).reshape(*lead, count, 1)
        rows = component.expand(*lead, count, self.means.shape[-1])
        noise = torch.randn(rows.shape, dtype=self.means.dtype, generator=generator)
        return self.means.gather(-2, rows) + self.spreads.gather(-2, rows) * noise

    def log_prob(self, u: Tensor) -> Tensor:
        """Logarithm of the density, in the box, of the place of ``u [..., n, d]``: ``[..., n]``."""
        apart = (u[..., :, None, :] - self.means[..., None, :, :]) / self.spreads[..., None, :, :]
        each = -(apart.square() / 2 + self.spreads[..., None, :, :].log() + math.log(2 * math.pi) / 2).sum(-1)
        # log(1 - tanh^2 u) without cancellation
        stretch = 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u)) + ((self.high - self.low) / 2).log()
        return torch.logsumexp(each + self.weights.log()[..., None, :], -1) - stretch.sum(-1)

    def entropy(self, count: int = 1000, *, generator: Generator | None = None) -> Tensor:
        """Differential entropy in the box ``[...]`` in nats, from so many samples."""
        return -self.log_prob(self._draw(count, generator)).mean(-1)


class Evolved(NamedTuple):
    """Where a mixture has gone.

    Attributes:
        mixture: the last one.
        best: the place with the largest fitness that was tried ``[..., d]``, and `value` that fitness ``[...]``.
        history: mean fitness of the samples of each step ``[steps, ...]``.
        evaluations: places tried for each mixture.
    """

    mixture: BoxMixture
    best: Tensor
    value: Tensor
    history: Tensor
    evaluations: int


def evolve_mixture(
    fitness: Fitness,
    start: BoxMixture,
    *,
    steps: int = 50,
    pairs: int = 10,
    entropy: float = 0.05,
    rate: float = 2.0,
    momentum: float = 0.9,
    decay: float = 0.99,
    limits: tuple[float, float] = (0.01, 0.5),
    move_weights: bool = False,
    generator: Generator | None = None,
) -> Evolved:
    """Maximise ``E[fitness(v)] + entropy H(q)`` over mixtures q in a box, by natural gradients from values alone.

    >>> peak = torch.tensor([0.5, -0.25])
    >>> start = BoxMixture.start(-torch.ones(2), torch.ones(2), 1)
    >>> draw = torch.Generator().manual_seed(0)
    >>> found = evolve_mixture(lambda v: -(v - peak).square().sum(-1), start, steps=80, entropy=0.0, generator=draw)
    >>> bool((found.best - peak).abs().max() < 0.05)
    True

    Values are replaced by their ranks, from -1/2 to 1/2, so that only their order matters. Each component is sampled by
    itself, in antithetic pairs, which leaves the estimate of the gradient unbiased; multiplied by the inverse of Fisher's
    information it is ``E[f e]`` for a mean and ``E[f (e^2 - s^2)] / (2 s)`` for a spread s, with deviations e. One component
    alone is the search of ViewFool, several with their entropy that of GMVFool (Ruan et al., arXiv 2307.10235).

    Args:
        fitness: of places ``[..., n, d]``, values ``[..., n]``; it needs no derivative.
        start: the mixture to begin with.
        steps: updates.
        pairs: antithetic pairs of each component and step.
        entropy: weight of the entropy.
        rate: of the natural gradient, multiplied by `decay` after each step; a tenth of it for spreads.
        momentum: of the means' gradients.
        decay: of the rate.
        limits: least and largest spread of u.
        move_weights: whether weights of components follow their fitness.
        generator: source of the draws.

    Raises:
        ErlangenError: a number outside of its range, or more than a tenth of the values of a step is not finite.
        ShapeError: `fitness` returns values of another shape.
    """
    check_sizes(pairs=pairs)
    if not is_whole(steps, 0):
        raise ErlangenError(f"steps = {steps!r}; give a whole number from 0")
    for name, number, top in (("entropy", entropy, math.inf), ("rate", rate, math.inf), ("momentum", momentum, 1.0)):
        if not 0 <= number < top:
            raise ErlangenError(f"{name} = {number}; give a number from 0{'' if top == math.inf else ' and below 1'}")
    if not 0 < decay <= 1:
        raise ErlangenError(f"decay = {decay}; give a number above 0 and up to 1")
    if not 0 < limits[0] <= limits[1]:
        raise ErlangenError(f"limits = {limits}; give a positive least and a largest spread")
    mixture, speed = start, torch.zeros_like(start.means)
    lead, (k, d) = start.means.shape[:-2], start.means.shape[-2:]
    best, value = start.place(start.means[..., 0, :]), start.means.new_full(lead, -math.inf)
    history: list[Tensor] = []
    for _ in range(steps):
        noise = torch.randn(*lead, k, pairs, d, dtype=mixture.means.dtype, generator=generator)
        noise = torch.cat([noise, -noise], -2)
        u = mixture.means[..., None, :] + mixture.spreads[..., None, :] * noise
        places = mixture.place(u)
        values = _values(fitness, places.reshape(*lead, -1, d))
        history.append(torch.nan_to_num(values, nan=0.0).sum(-1) / values.isfinite().sum(-1))
        top, index = torch.nan_to_num(values, nan=-math.inf).max(-1)
        found = places.reshape(*lead, -1, d).take_along_dim(index[..., None, None], -2)[..., 0, :]
        best = torch.where((top > value)[..., None], found, best)
        value = torch.maximum(top, value)

        ranks = centred_ranks(values).reshape(*lead, k, 2 * pairs)
        up, down, share = mixture_gradient(ranks, noise, mixture)
        if entropy:
            wider = entropy_gradient(u, noise, mixture)
            up, down, share = (a + entropy * b for a, b in zip((up, down, share), wider, strict=True))
        # Fisher's information of a component in the mixture: w / s^2 for a mean, 2 w / s^2 for a spread.
        s, w = mixture.spreads, mixture.weights[..., None].clamp_min(1e-6)
        speed = momentum * speed + (1 - momentum) * s.square() * up / w
        change = (rate / 10 * s.square() / 2 * down / w).clamp(-LARGEST_CHANGE * s, LARGEST_CHANGE * s)
        weights = mixture.weights
        if move_weights:
            weights = (weights.log() + rate / 10 * (share - share.mean(-1, keepdim=True))).softmax(-1)
        mixture = replace(
            mixture, means=mixture.means + rate * speed, spreads=(s + change).clamp(*limits), weights=weights
        )
        rate *= decay
    kept = torch.stack(history) if history else start.means.new_zeros(0, *lead)
    return Evolved(mixture, best, value, kept, steps * 2 * pairs * k)


def _values(fitness: Fitness, places: Tensor) -> Tensor:
    """Values ``[..., n]`` of places, NaN where one is not finite.

    Raises:
        ErlangenError: more than a tenth of them is not.
    """
    values = fitness(places).detach().to(places)
    if values.shape != places.shape[:-1]:
        raise ShapeError(
            f"fitness returned shape {tuple(values.shape)} for places {tuple(places.shape)}; give {list(places.shape[:-1])}"
        )
    lost = ~values.isfinite()
    if bool(lost.any()):
        share = float(lost.double().mean())
        if bool((lost.double().mean(-1) > MOST_LOST).any()):
            raise ErlangenError(
                f"{100 * share:.0f} % of the values of fitness are not finite; mend it, or shrink the box"
            )
        warnings.warn(
            f"{int(lost.sum())} values of fitness are not finite; they take no part", ErlangenWarning, stacklevel=3
        )
        values = values.masked_fill(lost, math.nan)
    return values


def centred_ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis from -1/2 to 1/2, equal values alike; 0 for NaN."""
    below = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    known = values.isfinite().sum(-1, keepdim=True)
    ranks = (below + (equal - 1) / 2) / (known - 1).clamp_min(1) - 0.5
    return torch.where(values.isfinite(), ranks, 0.0).to(values)


def mixture_gradient(values: Tensor, noise: Tensor, mixture: BoxMixture) -> tuple[Tensor, Tensor, Tensor]:
    """Estimated derivatives of ``E[f]`` with respect to means, spreads and weights, each component sampled by itself.

    Args:
        values: of the samples ``[..., K, n]``.
        noise: their deviations in units of the spreads ``[..., K, n, d]``.
        mixture: where they were drawn.
    """
    w, s = mixture.weights[..., None], mixture.spreads
    mean = w * (values[..., None] * noise).mean(-2) / s
    spread = w * (values[..., None] * (noise.square() - 1)).mean(-2) / s
    return mean, spread, values.mean(-1)


def entropy_gradient(u: Tensor, noise: Tensor, mixture: BoxMixture) -> tuple[Tensor, Tensor, Tensor]:
    """Estimated derivatives of the entropy along the samples' paths, arguments as above; `u` are the samples."""
    lead, (k, n, d) = u.shape[:-3], u.shape[-3:]
    with torch.enable_grad():
        paths = u.detach().requires_grad_()
        # E[d log q / d parameters] is zero, so that only the paths count.
        surprise = -mixture.log_prob(paths.reshape(*lead, k * n, d)).reshape(*lead, k, n)
        (slope,) = torch.autograd.grad(surprise.sum(), paths)
    w = mixture.weights[..., None]
    return w * slope.mean(-2), w * (slope * noise).mean(-2), surprise.detach().mean(-1)
