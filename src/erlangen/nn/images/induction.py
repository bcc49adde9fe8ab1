"""From pictures to the sphere: linear maps that turn in-plane rotations into rotations about the camera's axis.

A picture moves under SO(2) alone; what it shows moves under SO(3). A map from feature fields to a representation of SO(3),
restricted to the rotations about the axis of view, is an induction layer (Howell et al., "Equivariant Single View Pose
Prediction Via Induced and Restricted Representations", NeurIPS 2023).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Custom
from erlangen.actions.image import Interpolation
from erlangen.errors import ShapeError, check_integer
from erlangen.groups import SO, Cyclic, Group
from erlangen.irreps import Irreps
from erlangen.nn.images.planar import FeatureField
from erlangen.nn.images.steerable_conv import Fields, SteerableConv2d, field_rep
from erlangen.reps import about_y
from erlangen.symmetry import Symmetry

__all__ = ["InducedSignal"]


class InducedSignal(nn.Module):
    """Signals on the sphere ``[B, channels, (lmax + 1)^2]`` of feature maps ``[B, in_size, size, size]``.

    >>> bridge = InducedSignal({0: 8}, channels=4, lmax=3, size=9)
    >>> bridge(torch.zeros(2, 8, 9, 9)).shape
    torch.Size([2, 4, 16])

    Degree l restricts to the frequencies 0 to l, each once, so the layer is one `SteerableConv2d` whose kernel covers the
    whole map, and a change of order: for a scalar field, one radial profile for the zonal harmonic of a degree and two for
    every frequency above, as Frobenius reciprocity counts them. The camera looks along y, the polar axis of harmonics:
    where the picture turns by t, counter-clockwise, the signal turns by t about y.

    Exact for quarter turns, as the declared `symmetry` says; ``symmetry_under(SO(2))`` states the rest, to be measured.

    Args:
        fields_in: multiplicities of the input by frequency, as for `SteerableConv2d`.
        channels: signals.
        lmax: largest degree.
        size: rows and columns of the maps. Frequencies up to ``size - 1`` fit on them.
        bias: whether the mean of each signal has a bias, which no rotation moves.
        generator: source of the initial coefficients; torch's global stream without it.

    Raises:
        ErlangenError: a number is no integer in its range.
        RepresentationError: `fields_in` is malformed, or the maps are too small for `lmax`.
    """

    order: Tensor

    def __init__(
        self,
        fields_in: Fields,
        channels: int,
        lmax: int,
        size: int,
        *,
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = check_integer("channels", channels, 1)
        self.lmax = check_integer("lmax", lmax, 0)
        fields = {m: channels * (lmax + 1 - m) for m in range(lmax + 1)}
        self.conv = SteerableConv2d(fields_in, fields, size, bias=bias, generator=generator)
        self.register_buffer("order", _order(channels, lmax), persistent=False)
        self.symmetry = self.symmetry_under(Cyclic(4))

    def forward(self, x: Tensor) -> Tensor:
        """Signals of maps.

        Raises:
            ShapeError: x has another number of channels, or another size.
        """
        size = self.conv.kernel_size
        if x.shape[-2:] != (size, size):
            raise ShapeError(
                f"x has shape {tuple(x.shape)}; the layer reads whole maps, [B, {self.conv.in_size}, {size}, {size}]"
            )
        flat = self.conv(x).flatten(1)
        return flat[:, self.order].unflatten(1, (self.channels, -1))

    def symmetry_under(self, group: Group, interpolation: Interpolation = "bicubic") -> Symmetry:
        """The layer's symmetry under ``SO(2)`` or ``Cyclic(n)``.

        Args:
            group: the group; elements other than quarter turns resample the input.
            interpolation: how they read between pixels.
        """
        degrees = "+".join(f"1x{l}{'eo'[l % 2]}" for l in range(self.lmax + 1))
        signal = about_y(Irreps(degrees)(SO(3)), group)
        seen = FeatureField(field_rep(group, self.conv.fields_in), interpolation)
        return Symmetry(group, input=seen, output=Custom(signal.apply, label=signal.name))

    @override
    def extra_repr(self) -> str:
        return f"{self.channels} signals to degree {self.lmax}"


def _order(channels: int, lmax: int) -> Tensor:
    """Where the entries of the signals lie among the channels of the convolution, ``[channels * (lmax + 1)^2]``."""
    found = torch.empty(channels, (lmax + 1) ** 2, dtype=torch.int64)
    first = 0
    for m in range(lmax + 1):
        width = 2 if m else 1
        for l in range(m, lmax + 1):
            for channel in range(channels):
                found[channel, l * (l + 1) + m] = first
                found[channel, l * (l + 1) - m] = first + width - 1
                first += width
    return found.flatten()
