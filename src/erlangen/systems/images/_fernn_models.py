"""Networks that are compared on moving digits; all share one interface of the recurrence, one read-out and one start."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from erlangen.groups import Cyclic
from erlangen.nn import DriftRecurrence2d, GroupConv2d, GroupPool, SpinRecurrence2d, velocity_grid
from erlangen.nn.images.flow_recurrence import circular_conv, circular_pad
from erlangen.nn.images.planar import unit_gain

RETAINED = 0.5
"""Recurrent kernels start as this much of the identity: past frames fade by halves, in every model without gates."""


class Recurrence(Protocol):
    """What a read-out needs of a recurrence; states are ``[B, V, channels, H, W]``."""

    def update(self, frame: Tensor, advanced: Tensor | None = None) -> Tensor:
        """The state after one more frame ``[B, 1, H, W]``."""
        ...

    def advance(self, state: Tensor) -> Tensor:
        """The state one step of time further, as far as it knows motion."""
        ...


class LearnedShifts(DriftRecurrence2d):
    """G-RNN+: slices as in a flow-equivariant network, moved by kernels that are learned instead of by velocities.

    Each slice has a kernel of its own, as wide as the farthest velocity needs, applied to every channel. It starts as the
    identity with noise, which tells the slices apart.
    """

    def __init__(self, channels: int, size: tuple[int, int], reach: int) -> None:
        super().__init__(1, channels, size, velocities=velocity_grid(reach))
        side = 2 * reach + 1
        start = 0.3 * torch.randn(self.slices, 1, side, side) / side
        start[..., reach, reach] += 1
        self.shift_weight = nn.Parameter(start)

    def advance(self, state: Tensor) -> Tensor:
        """Every slice by its own kernel."""
        pad = self.shift_weight.shape[-1] // 2
        maps = state.transpose(1, 2).flatten(0, 1)
        moved = nn.functional.conv2d(circular_pad(maps, pad), self.shift_weight, groups=self.slices)
        return moved.unflatten(0, (len(state), -1)).transpose(1, 2)


class ConvLSTM(nn.Module):
    """Convolutional LSTM (Shi and others 2015) on a torus; a state holds output and cell, one after the other."""

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


class CircularConv(nn.Conv2d):
    """A convolution 3 x 3 on a torus."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """The size stays."""
        return circular_conv(input, self.weight, self.bias)


def torus_decoder(channels: int, hidden: int) -> nn.Module:
    """Frames ``[B, 1, H, W]`` of maps ``[B, channels, H, W]``, on a torus."""
    return nn.Sequential(
        CircularConv(channels, hidden), nn.ReLU(), CircularConv(hidden, hidden), nn.ReLU(), CircularConv(hidden, 1)
    )


def turning_decoder(group: Cyclic, fields: int, hidden: int) -> nn.Module:
    """Frames ``[B, 1, H, W]`` of regular fields ``[B, fields * n, H, W]``, which turn with them."""
    return nn.Sequential(
        GroupConv2d(group, fields, hidden, 3, padding=1),
        nn.ReLU(),
        GroupConv2d(group, hidden, 1, 3, padding=1),
        GroupPool(group, "mean"),
    )


class Predictor(nn.Module):
    """Predicts frames from frames: the state is advanced, pooled over velocities by the maximum, and decoded.

    What is decoded after frame t is the state on its way to t + 1, so the answer is frame t + 1, and moves as that does:
    ``y_{t+1}[psi f] = psi_{t+1} y_{t+1}[f]``, as far as the maximum does not notice the ends of the set of velocities. Beyond
    the frames that are given, the network reads its own answers, cut to the range 0..1 of pixels; no gradient flows there.
    """

    def __init__(self, recurrence: Recurrence, decoder: nn.Module, horizon: int) -> None:
        super().__init__()
        self.recurrence, self.decoder, self.horizon = recurrence, decoder, horizon

    def forward(self, x: Tensor, horizon: int | None = None) -> Tensor:
        """The next frames ``[B, horizon, 1, H, W]`` after ``[B, T, 1, H, W]``, T at least 1."""
        advanced: Tensor | None = None
        for frame in x.unbind(1):
            advanced = self.recurrence.advance(self.recurrence.update(frame, advanced))
        assert advanced is not None
        answers = [self.decoder(advanced.amax(1))]
        for _ in range((horizon or self.horizon) - 1):
            advanced = self.recurrence.advance(self.recurrence.update(answers[-1].detach().clamp(0, 1), advanced))
            answers.append(self.decoder(advanced.amax(1)))
        return torch.stack(answers, 1)


class Classifier(nn.Module):
    """Logits ``[B, 10]`` of clips ``[B, T, 1, H, W]``: the last state, maxima over velocities, two convolutions, maxima."""

    def __init__(self, recurrence: DriftRecurrence2d, hidden: int) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.features = nn.Sequential(
            CircularConv(recurrence.state_channels, hidden), nn.ReLU(), CircularConv(hidden, hidden), nn.ReLU()
        )
        self.logits = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """T at least 1."""
        advanced: Tensor | None = None
        for frame in x.unbind(1)[:-1]:
            advanced = self.recurrence.advance(self.recurrence.update(frame, advanced))
        return self.logits(self.features(self.recurrence.update(x[:, -1], advanced).amax(1)).amax((-2, -1)))


def drift_recurrence(channels: int, size: tuple[int, int], reach: int) -> DriftRecurrence2d:
    """FERNN with velocities up to `reach`, or with 0 the G-RNN."""
    return retained(DriftRecurrence2d(1, channels, size, velocities=velocity_grid(reach)))


def learned_shifts(channels: int, size: tuple[int, int], reach: int) -> DriftRecurrence2d:
    """G-RNN+ with as many slices."""
    return retained(LearnedShifts(channels, size, reach))


def spin_recurrence(fields: int, reach: int) -> SpinRecurrence2d:
    """FERNN on regular fields of C_8 with up to `reach` steps of 45 degrees per frame, or with 0 the G-RNN of these fields.

    The kernel of a field on itself starts, in its own orientation, with a part of the filter that peaks in the middle.
    """
    recurrence = SpinRecurrence2d(Cyclic(8), 1, fields, velocities=list(range(-reach, reach + 1)))
    weight = recurrence.state_conv.weight  # [fields, fields, orientation, basis]; basis 0 is the innermost ring
    with torch.no_grad():
        weight.mul_(0.3)
        weight[:, :, 0, 0] += RETAINED * torch.eye(fields)
    return recurrence


def retained(recurrence: DriftRecurrence2d) -> DriftRecurrence2d:
    """The recurrence, with a part of the identity in its kernel and little else."""
    with torch.no_grad():
        recurrence.state_weight.mul_(0.3)
        centre = recurrence.kernel_size // 2
        recurrence.state_weight[:, :, centre, centre] += RETAINED * torch.eye(recurrence.state_channels)
    return recurrence
