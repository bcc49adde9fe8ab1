"""Recurrences that do not know motion or have to learn it, and predictions without a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from erlangen.actions import Image, Sequence
from erlangen.groups import Shifts
from erlangen.nn import DriftRecurrence2d, velocity_grid
from erlangen.nn.images.flow_recurrence import Activation, circular_conv, circular_pad
from erlangen.nn.images.planar import unit_gain
from erlangen.symmetry import Symmetry
from erlangen.systems.images.fernn.method import retained


class LearnedShifts(DriftRecurrence2d):
    """G-RNN+: slices as in a flow-equivariant network, moved by kernels that are learned instead of by velocities.

    Each slice has a kernel of its own, as wide as the farthest velocity needs, applied to every channel. It starts as the
    identity with noise, which tells the slices apart. Equivariant to shifts of a whole clip, not to motion.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], reach: int, *, in_channels: int = 1, activation: Activation = "relu"
    ) -> None:
        super().__init__(in_channels, channels, size, velocities=velocity_grid(reach), activation=activation)
        side = 2 * reach + 1
        start = 0.3 * torch.randn(self.slices, 1, side, side) / side
        start[..., reach, reach] += 1
        self.shift_weight = nn.Parameter(start)
        self.symmetry = Symmetry(Shifts(*size), input=Sequence(Image(), -4), output=Sequence(Image(), -5))

    def advance(self, state: Tensor) -> Tensor:
        """Every slice by its own kernel."""
        moved = _Moved.apply(state.transpose(1, 2).flatten(0, 1), self.shift_weight)
        return moved.unflatten(0, (len(state), -1)).transpose(1, 2)


class _Moved(torch.autograd.Function):
    """Maps ``[B, V, H, W]`` on a torus, each of the V by its own kernel ``[V, 1, k, k]``.

    As torch's grouped convolution, whose gradient costs ten times its value. Here that of the maps is a convolution again, and
    that of the kernels a correlation by Fourier transforms.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(maps, kernels)
        return nn.functional.conv2d(circular_pad(maps, kernels.shape[-1] // 2), kernels, groups=len(kernels))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,), (maps, kernels) = grads, ctx.saved_tensors
        side = kernels.shape[-1]
        pad, size = side // 2, maps.shape[-2:]
        turned = kernels.flip(-2, -1)
        of_maps = nn.functional.conv2d(circular_pad(grad, pad), turned, groups=len(kernels))
        spectrum = (torch.fft.rfft2(grad).conj() * torch.fft.rfft2(maps)).sum(0)
        # Entry d of the correlation is the sum of grad(x) maps(x + d); taps run from -pad to pad, and wrap on a small torus.
        taps = torch.arange(-pad, pad + 1, device=maps.device)
        correlation = torch.fft.irfft2(spectrum, s=size)
        of_kernels = correlation[:, (taps % size[0])[:, None], (taps % size[1])[None, :]]
        return of_maps, of_kernels[:, None]


def learned_shifts(
    channels: int, size: tuple[int, int], reach: int, *, in_channels: int = 1, activation: Activation = "relu"
) -> DriftRecurrence2d:
    """G-RNN+ with as many slices as velocities up to `reach`, started like the others."""
    return retained(LearnedShifts(channels, size, reach, in_channels=in_channels, activation=activation))


class SpaceTimeCNN(nn.Module):
    """3D-CNN: logits ``[B, 10]`` of clips ``[B, T, 1, H, W]`` by convolutions over time and a torus, and a mean over both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sides = (5, 3, 3)
        ins = (1, width, width)
        self.convs = nn.ModuleList(
            nn.Conv3d(channels, width, (3, side, side), padding=(1, 0, 0))
            for channels, side in zip(ins, self.sides, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(width) for _ in self.sides)
        self.logits = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """T at least 1."""
        h = x.transpose(1, 2)
        for side, conv, norm in zip(self.sides, self.convs, self.norms, strict=True):
            pad = side // 2
            h = norm(conv(nn.functional.pad(h, (pad, pad, pad, pad, 0, 0), mode="circular"))).relu()
        return self.logits(h.mean((2, 3, 4)))


class ConvLSTM(nn.Module):
    """Convolutional LSTM (Shi and others 2015) on a torus; a state holds output and cell, one after the other."""

    in_channels = 1

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        fan_in = (1 + channels) * kernel_size**2
        self.weight = nn.Parameter(
            unit_gain(fan_in) * torch.randn(4 * channels, 1 + channels, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(4 * channels))
        with torch.no_grad():
            self.bias[channels : 2 * channels] = 1  # remember at first

    def update(self, frame: Tensor, advanced: Tensor | None = None) -> Tensor:
        """Input, forget, cell and output gates of the frame and the last output."""
        if advanced is None:
            advanced = frame.new_zeros(len(frame), 1, 2 * self.channels, *frame.shape[-2:])
        output, cell = advanced[:, 0].chunk(2, 1)
        gates = circular_conv(torch.cat([frame, output], 1), self.weight, self.bias).chunk(4, 1)
        cell = gates[1].sigmoid() * cell + gates[0].sigmoid() * gates[2].tanh()
        return torch.cat([gates[3].sigmoid() * cell.tanh(), cell], 1)[:, None]

    def advance(self, state: Tensor) -> Tensor:
        """Nothing moves of itself."""
        return state

    def check_size(self, height: int, width: int) -> None:
        """Any size will do."""


class Black(nn.Module):
    """Predicts black frames."""

    def forward(self, x: Tensor, horizon: int) -> Tensor:
        """Zeros ``[B, horizon, 1, H, W]``."""
        return torch.zeros_like(x[:, -1:]).expand(-1, horizon, -1, -1, -1)


class CopyLast(nn.Module):
    """Repeats the last frame."""

    def forward(self, x: Tensor, horizon: int) -> Tensor:
        """``[B, horizon, 1, H, W]``."""
        return x[:, -1:].expand(-1, horizon, -1, -1, -1)
