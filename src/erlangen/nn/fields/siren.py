"""Networks with sine activations, for smooth functions of coordinates such as the kernels of convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_sizes

__all__ = ["Siren", "SineLayer"]


class SineLayer(nn.Module):
    """``sin(omega (W x + b))``: one layer of Sitzmann, Martel, Bergman, Lindell and Wetzstein (2020), section 3.2.

    The entries of W start uniform within ``1 / in_features`` for the first layer of a network, whose inputs are uniform in
    -1..1, and within ``sqrt(6 / in_features) / omega`` for later ones, so that ``omega W x`` has unit variance; b within
    ``1 / sqrt(in_features)``.

    Args:
        in_features, out_features: sizes of the last dimension of input and output.
        omega: factor of the frequencies.
        first: whether the inputs are coordinates rather than sines.
        generator: source of the initial parameters; torch's global stream without it.

    Raises:
        ErlangenError: a size or omega is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        omega: float = 30.0,
        *,
        first: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features)
        _check_positive("omega", omega)
        self.in_features, self.out_features, self.omega, self.first = in_features, out_features, omega, first
        bound = 1 / in_features if first else math.sqrt(6 / in_features) / omega
        self.weight = _uniform(bound, out_features, in_features, generator=generator)
        self.bias = _uniform(in_features**-0.5, out_features, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Values in -1..1 ``[..., out_features]`` of ``[..., in_features]``."""
        return torch.sin(self.omega * linear(x, self.weight, self.bias))

    @override
    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, omega={self.omega:g}, first={self.first}"


class Siren(nn.Module):
    """A network of sine layers with a linear last one: a smooth function of coordinates (Sitzmann et al. 2020).

    >>> Siren(2, 3, (16, 16), omega=10.0)(torch.zeros(5, 2)).shape
    torch.Size([5, 3])

    Args:
        in_features: number of coordinates, which should lie in about -1..1.
        out_features: numbers per point.
        hidden: widths of the sine layers, at least one.
        omega: factor of the frequencies of the hidden layers.
        first_omega: that of the first layer: the highest frequency that the function has at the start; `omega` without it.
        out_std: standard deviation of the outputs at the start. The last layer is uniform within ``sqrt(6 / width)``
            times this, because a sine of a wide argument has variance 1/2. Sitzmann et al. have ``1 / omega``.
        generator: source of the initial parameters; torch's global stream without it.

    Raises:
        ErlangenError: no hidden layer, or a size, frequency or `out_std` that is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (64, 64),
        *,
        omega: float = 30.0,
        first_omega: float | None = None,
        out_std: float = 1.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ErlangenError("hidden = (): give the width of at least one sine layer")
        check_sizes(out_features=out_features)
        _check_positive("out_std", out_std)
        self.in_features, self.out_features = in_features, out_features
        sizes = [in_features, *hidden]
        omegas = [omega if first_omega is None else first_omega] + [omega] * (len(hidden) - 1)
        self.layers = nn.Sequential(
            *(
                SineLayer(a, b, w, first=i == 0, generator=generator)
                for i, (a, b, w) in enumerate(zip(sizes, hidden, omegas, strict=False))
            )
        )
        self.weight = _uniform(out_std * math.sqrt(6 / sizes[-1]), out_features, sizes[-1], generator=generator)
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[..., out_features]`` at points ``[..., in_features]``.

        Raises:
            ShapeError: the last dimension is not `in_features`.
        """
        if x.shape[-1:] != (self.in_features,):
            raise ShapeError(f"x has shape {tuple(x.shape)}, but points [..., {self.in_features}] are needed")
        return linear(self.layers(x), self.weight, self.bias)


def _uniform(bound: float, *size: int, generator: Generator | None) -> nn.Parameter:
    return nn.Parameter(nn.init.uniform_(torch.empty(*size), -bound, bound, generator=generator))


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ErlangenError(f"{name} = {value!r}: give a positive number")
