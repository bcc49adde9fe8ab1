"""Coordinates as waves: random Fourier features, and periodic ones that whole periods leave exactly alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Custom
from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.groups import Translation
from erlangen.nn.fields._dense import check_positive
from erlangen.symmetry import Symmetry

__all__ = ["FourierFeatures", "FourierNetwork", "PeriodicEncoding"]


class FourierFeatures(nn.Module):
    """Random Fourier features ``[sin(2 pi B x), cos(2 pi B x)]``, the entries of B normal with deviation `std`, fixed.

    >>> features = FourierFeatures(2, 4096, 0.5, generator=torch.Generator().manual_seed(0))
    >>> x, y = torch.tensor([0.1, 0.2]), torch.tensor([0.3, -0.1])
    >>> kernel = features(x) @ features(y) / 4096
    >>> expected = torch.exp(-2 * (torch.pi * 0.5 * (x - y).norm()).square())
    >>> bool((kernel - expected).abs() < 0.05)
    True

    Products of the features of two points, over the number of frequencies, approach the Gaussian kernel
    ``exp(-2 pi^2 std^2 |x - y|^2)`` (Rahimi and Recht, NeurIPS 2007; as inputs of networks Tancik et al., NeurIPS 2020).
    A shift t of the points turns the plane of every frequency b by ``2 pi b.t``: that is the symmetry of the layer.

    Args:
        in_features: number of coordinates.
        frequencies: rows of B; there are twice as many features.
        std: standard deviation of the entries of B, in periods per unit of length.
        generator: source of B; torch's global stream without it.

    Raises:
        ErlangenError: a size or `std` is not positive.
    """

    B: Tensor

    def __init__(
        self, in_features: int, frequencies: int, std: float = 1.0, *, generator: Generator | None = None
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, frequencies=frequencies)
        check_positive("std", std)
        self.in_features, self.std = in_features, std
        self.register_buffer("B", std * torch.randn(frequencies, in_features, generator=generator))

    @property
    def out_features(self) -> int:
        """Size of the last dimension of the output."""
        return 2 * len(self.B)

    @property
    def symmetry(self) -> Symmetry:
        """Shifts of the points turn the features in planes."""
        return _shifts(self.in_features, 2 * math.pi * self.B)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[..., 2 frequencies]`` in -1..1 of points ``[..., in_features]``: sines, then cosines.

        Raises:
            ShapeError: the last dimension is not `in_features`.
        """
        _check_points(x, self.in_features)
        angles = 2 * math.pi * (x @ self.B.mT)
        return torch.cat([angles.sin(), angles.cos()], -1)

    @override
    def extra_repr(self) -> str:
        return f"{self.in_features}, {len(self.B)}, std={self.std:g}"


class PeriodicEncoding(nn.Module):
    """Sines and cosines of the first multiples of ``2 pi x / period``: every function of them is exactly periodic.

    >>> encoding = PeriodicEncoding([1.0, 2.0], harmonics=3)
    >>> x = torch.tensor([[0.25, 0.5]])
    >>> bool((encoding(x + torch.tensor([5.0, -4.0])) == encoding(x)).all())
    True

    Coordinates are reduced to one period first, so that x and x + k period have the same features up to the round-off of
    that sum, however large k is. (Hard boundary conditions of networks for equations: Dong and Ni, J. Comput. Phys. 2021.)

    Args:
        periods: of each coordinate.
        harmonics: how many multiples of the base frequency.

    Raises:
        ErlangenError: a period or the number of harmonics is not positive.
    """

    periods: Tensor

    def __init__(self, periods: Sequence[float] | float, harmonics: int = 1) -> None:
        super().__init__()
        lengths = [float(p) for p in ([periods] if isinstance(periods, int | float) else periods)]
        check_sizes(periods=len(lengths), harmonics=harmonics)
        for length in lengths:
            check_positive("periods", length)
        self.harmonics = harmonics
        self.register_buffer("periods", torch.tensor(lengths))

    @property
    def in_features(self) -> int:
        """Number of coordinates."""
        return len(self.periods)

    @property
    def out_features(self) -> int:
        """Size of the last dimension of the output."""
        return 2 * len(self.periods) * self.harmonics

    @property
    def symmetry(self) -> Symmetry:
        """Shifts of the points turn the features in planes; whole periods turn them not at all."""
        multiples = torch.arange(1, self.harmonics + 1).to(self.periods)
        waves = torch.diag(2 * math.pi / self.periods)[:, None] * multiples[:, None]
        return _shifts(self.in_features, waves.flatten(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[..., out_features]`` of points ``[..., coordinates]``: sines, then cosines, harmonics running first.

        Raises:
            ShapeError: the last dimension is not the number of periods.
        """
        _check_points(x, self.in_features)
        multiples = torch.arange(1, self.harmonics + 1, device=x.device, dtype=x.dtype)
        within = torch.remainder(x / self.periods, 1.0)
        angles = (2 * math.pi * within[..., None] * multiples).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], -1)

    @override
    def extra_repr(self) -> str:
        return f"{self.periods.tolist()}, harmonics={self.harmonics}"


class FourierNetwork(nn.Module):
    """Random Fourier features, a linear map, a ReLU, a linear map: smooth functions of few coordinates.

    >>> FourierNetwork(2, 5, 16, 0.5)(torch.zeros(7, 2)).shape
    torch.Size([7, 5])

    Weights of the first map start normal and those of the second uniform, both of variance ``2 / fan_in`` (as in the code of
    Knigge et al., "Space-Time Continuous PDE Forecasting using Equivariant Neural Fields", NeurIPS 2024).

    Args:
        in_features, out_features: sizes of the last dimension of input and output.
        hidden: width, even: sines and cosines of half as many frequencies.
        std: see `FourierFeatures`.

    Raises:
        ErlangenError: a size is not positive, or `hidden` is odd.
    """

    def __init__(self, in_features: int, out_features: int, hidden: int, std: float = 1.0) -> None:
        super().__init__()
        check_sizes(out_features=out_features, hidden=hidden)
        if hidden % 2:
            raise ErlangenError(f"hidden = {hidden}: give an even number, for sines and cosines")
        self.features = FourierFeatures(in_features, hidden // 2, std)
        self.first, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, out_features)
        nn.init.normal_(self.first.weight, std=math.sqrt(2 / hidden))
        nn.init.uniform_(self.last.weight, -math.sqrt(6 / hidden), math.sqrt(6 / hidden))
        for layer in (self.first, self.last):
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[..., out_features]`` at points ``[..., in_features]``."""
        return self.last(torch.relu(self.first(self.features(x))))


def _shifts(dim: int, waves: Tensor) -> Symmetry:
    """Shifts of points, which turn sines and cosines of ``waves @ x`` as angles add."""
    group = Translation(dim)

    def turn(g: Tensor, features: Tensor) -> Tensor:
        shift = group.translation(g)
        angles = shift @ waves.to(shift).mT
        angles = angles.reshape(*angles.shape[:-1], *[1] * (features.ndim - angles.ndim), angles.shape[-1])
        sines, cosines = features.chunk(2, -1)
        c, s = angles.cos(), angles.sin()
        return torch.cat([sines * c + cosines * s, cosines * c - sines * s], -1)

    return Symmetry(group, input="points", output=Custom(turn, "turned waves"))


def _check_points(x: Tensor, dim: int) -> None:
    if x.shape[-1:] != (dim,):
        raise ShapeError(f"x has shape {tuple(x.shape)}, but points [..., {dim}] are needed")
