"""PFGM++: samples from the field of charges in N + D dimensions (Xu, Liu, Tian, Tong, Tegmark and Jaakkola, ICML 2023).

Noise family, preconditioning and sampler are those of `erlangen.generate`; here is what the paper puts together.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_integer, is_whole
from erlangen.generate import Disturbance, Preconditioned, denoising_loss, heun_sample, noise_family, noise_levels
from erlangen.tracing import is_traced


class PoissonFlow(nn.Module):
    """Data are charges in R^N x R^D; D is any positive number, 1 for PFGM and inf for diffusion.

    >>> from erlangen.generate import NoiseMLP
    >>> model = PoissonFlow(NoiseMLP(2), (2,), D=64.0)
    >>> model.loss(0.5 * torch.randn(100, 2)).backward()
    >>> model.sample(5, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5, 2])

    By the rotations of the D dimensions a point there is known by its norm r, and by the alignment ``r = sigma sqrt(D)``
    (section 4, appendix C.2) every setting of a diffusion model holds for every D: levels, weights, network and sampler know
    sigma alone.

    Args:
        net: ``net(x, log(sigma) / 4)``, and with classes ``net(x, log(sigma) / 4, labels)``; it keeps the shape of x.
        shape: of one sample; N is its number of entries.
        D: number of additional dimensions.
        data_std: standard deviation of the data.
        classes: how many labels there are; 0 for a network that takes none.

    Raises:
        ErlangenError: a D that is not positive, or not a number; a shape without entries.
    """

    def __init__(
        self, net: Callable[..., Tensor], shape: tuple[int, ...], D: float, *, data_std: float = 0.5, classes: int = 0
    ) -> None:
        super().__init__()
        if not isinstance(shape, tuple | list) or not shape or not all(is_whole(size, 1) for size in shape):
            raise ErlangenError(f"shape = {shape!r}; give that of one sample, such as (3, 32, 32)")
        check_integer("classes", classes, 0)
        self.noise = noise_family(D)
        self.net, self.shape, self.D, self.data_std, self.classes = net, tuple(shape), float(D), data_std, classes
        self._denoiser(None)  # refuses a bad data_std

    @override
    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """The expected clean sample ``[B, ...]`` of x at the levels sigma ``[B]``, for labels ``[B]`` where there are classes."""
        self._check(x, "x", labels)
        return self._denoiser(labels)(x, sigma)

    def loss(
        self,
        y: Tensor,
        labels: Tensor | None = None,
        *,
        reference: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """The objective by perturbation (section 3, with the weights and levels of EDM), of samples ``[B, ...]``.

        It needs no other sample than the perturbed one, and its minimiser is the field of all data. With a `reference` the
        target is the field of these samples, as PFGM takes it from a large batch, which is biased.
        """
        self._check(y, "y", labels)
        return denoising_loss(self._denoiser(labels), y, noise=self.noise, reference=reference, generator=generator)

    def prior(self, n: int, high: float = 80.0, *, generator: Generator | None = None) -> Tensor:
        """Starting points ``[n, ...]``, float64: the kernel around the origin at the level `high`."""
        check_integer("n", n, 1)
        _check_level("high", high)
        return high * self.noise.sample((n, *self.shape), generator=generator, dtype=torch.float64)

    def sample(
        self,
        n: int,
        *,
        levels: Tensor | None = None,
        labels: Tensor | None = None,
        start: Tensor | None = None,
        share: float = 0.0,
        generator: Generator | None = None,
    ) -> Tensor:
        """Samples ``[n, ...]``, float64, by Heun's method along the field lines, ``dx / dsigma = (x - D(x, sigma)) / sigma``.

        Args:
            n: how many.
            levels: decreasing; by default 18, as for CIFAR-10.
            labels: ``[n]``, for a network with classes.
            start: where to begin, in place of `prior` at the first level.
            share: of the level, the normal noise that is added before each step, to see how robust the model is.
            generator: draws the start and the noise.
        """
        levels = noise_levels(18) if levels is None else levels
        x = self.prior(n, float(levels[0]), generator=generator) if start is None else start
        if len(x) != n:
            raise ShapeError(f"start has {len(x)} points, but n = {n}; give one for each sample")
        self._check(x, "start", labels)
        kind = next((p.dtype for p in self.parameters()), x.dtype)
        denoiser = self._denoiser(labels)
        disturbance = Disturbance(share, generator) if share else None
        return heun_sample(lambda at, sigma: denoiser(at.to(kind), sigma), x, levels, disturbance=disturbance)

    def _denoiser(self, labels: Tensor | None) -> Preconditioned:
        if labels is None:
            return Preconditioned(self.net, self.data_std)
        return Preconditioned(lambda x, noise: self.net(x, noise, labels), self.data_std)

    def _check(self, x: Tensor, name: str, labels: Tensor | None) -> None:
        if tuple(x.shape[1:]) != self.shape:
            raise ShapeError(
                f"{name} has shape {tuple(x.shape)}, but a sample has the shape {self.shape}: the law of the noise depends on "
                "their number of entries, so build another PoissonFlow"
            )
        if not is_traced():
            check_finite(x, name)
        if (labels is not None) != (self.classes > 0):
            word = "give labels [B]" if self.classes else "leave labels out, or say how many there are by classes="
            raise ErlangenError(f"labels = {'given' if labels is not None else None}, classes = {self.classes}: {word}")
        if labels is not None:
            whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
            if labels.shape != x.shape[:1] or not whole or bool(((labels < 0) | (labels >= self.classes)).any()):
                raise ErlangenError(
                    f"labels must be {len(x)} whole numbers from 0 to {self.classes - 1}, one for each sample"
                )


def _check_level(name: str, level: float) -> None:
    if not (level > 0 and math.isfinite(level)):
        raise ErlangenError(f"{name} = {level}; give a positive number")


def radius(sigma: float, D: float) -> float:
    """The norm ``r = sigma sqrt(D)`` in the additional dimensions at which the kernel has the scale sigma (section 4).

    >>> radius(0.5, 64.0)
    4.0
    """
    _check_level("sigma", sigma)
    noise_family(D)  # refuses what is no D
    return sigma * math.sqrt(D)


def sample_radius(n: int, dim: int, D: float, r: float, *, generator: Generator | None = None) -> Tensor:
    """Distances ``[n]`` of perturbed samples from the clean one, as the paper draws them: ``r sqrt(B / (1 - B))`` with
    ``B ~ Beta(dim / 2, D / 2)`` (section 3), float64.

    They have the law of the lengths of ``sigma noise_family(D).sample((n, dim))`` at r = sigma sqrt(D), which has the limit
    D = inf too. B / (1 - B) is a ratio of two Gamma variables; B itself would round to 0 or 1 and need clipping.
    """
    check_integer("n", n, 1)
    check_integer("dim", dim, 1)
    if not (r > 0 and math.isfinite(r)) or math.isinf(D):
        raise ErlangenError(
            f"r = {r}, D = {D}; give positive finite numbers: r grows without bound with D at a fixed sigma"
        )
    noise_family(D)
    shapes = torch.tensor([dim / 2, D / 2], dtype=torch.float64).expand(n, 2)
    # The public distributions of torch draw from its global stream alone.
    inner, outer = torch._standard_gamma(shapes, generator=generator).unbind(-1)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return r * (inner / outer).sqrt()


def poisson_field(x: Tensor, points: Tensor) -> Tensor:
    """The electric field ``[B, M]``, up to a factor, of equal charges at `points` ``[K, M]``, at x ``[B, M]`` (section 3).

    ``sum_i (x - y_i) / |x - y_i|^M``: a gradient without divergence outside of the charges, as data have it in N + D = M
    dimensions.
    """
    if x.ndim != 2 or points.ndim != 2 or x.shape[1] != points.shape[1] or not len(points):
        raise ShapeError(
            f"x {tuple(x.shape)}, points {tuple(points.shape)}; give [B, M] and [K, M], at least one charge"
        )
    apart = x[:, None] - points[None]
    if not is_traced():
        check_finite(x, "x")
        check_finite(points, "points")
        if bool((apart == 0).all(-1).any()):
            raise ErlangenError("x lies on a charge at some points, where the field has no value; move these away")
    return (apart / apart.norm(dim=-1, keepdim=True) ** x.shape[1]).sum(1)


def rounded_weights(model: nn.Module, bits: int) -> nn.Module:
    """A copy of a model whose weights take ``2^bits`` values each (section 6): affine between the smallest and the largest of
    a tensor, zero among them; biases stay.

    >>> layer = nn.Linear(30, 30)
    >>> len(rounded_weights(layer, 2).weight.unique())
    4
    """
    check_integer("bits", bits, 1)
    model = copy.deepcopy(model)
    top = 2**bits - 1
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.rpartition(".")[2] != "weight" or weight.ndim < 2:
                continue
            check_finite(weight, name)
            low, high = float(weight.min().clamp(max=0)), float(weight.max().clamp(min=0))
            if high == low:
                continue
            step = (high - low) / top
            zero = round(-low / step)
            weight.copy_(((weight / step).round() + zero).clamp(0, top).sub(zero).mul(step))
    return model
