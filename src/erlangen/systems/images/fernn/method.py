"""A predictor and a classifier of clips around the flow-equivariant recurrences of `erlangen.nn`; one start for all."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from erlangen.actions import Image, Sequence
from erlangen.errors import ShapeError, check_integer
from erlangen.groups import Cyclic, Shifts
from erlangen.nn import DriftRecurrence2d, GroupConv2d, GroupPool, SpinRecurrence2d, velocity_grid
from erlangen.nn.images.flow_recurrence import Activation, circular_conv
from erlangen.symmetry import Symmetry

RETAINED = 0.5
"""Recurrent kernels start as this much of the identity: past frames fade by halves, in every model without gates."""


class Recurrence(Protocol):
    """What a read-out needs of a recurrence; states are ``[B, V, channels, H, W]``."""

    in_channels: int

    def update(self, frame: Tensor, advanced: Tensor | None = None) -> Tensor:
        """The state after one more frame ``[B, in_channels, H, W]``."""
        ...

    def advance(self, state: Tensor) -> Tensor:
        """The state one step of time further, as far as it knows motion."""
        ...

    def check_size(self, height: int, width: int) -> None:
        """Raise `ShapeError` for frames of a size that it cannot move."""
        ...


class Predictor(nn.Module):
    """Predicts frames from frames: the state is advanced, pooled over velocities by the maximum, and decoded.

    What is decoded after frame t is the state on its way to t + 1, so the answer is frame t + 1, and moves as that does:
    ``y_{t+1}[psi f] = psi_{t+1} y_{t+1}[f]``, as far as the maximum does not notice the ends of the set of velocities. Beyond
    the frames that are given, the network reads its own answers, cut to the range 0..1 of pixels; no gradient flows there.

    >>> model = Predictor(drift_recurrence(8, (16, 16), 1), torus_decoder(8, 8), horizon=5)
    >>> model(torch.zeros(2, 3, 1, 16, 16)).shape
    torch.Size([2, 5, 1, 16, 16])

    Args:
        recurrence: one of `erlangen.nn`, or another one with the interface of `Recurrence`.
        decoder: frames ``[B, 1, H, W]`` of states ``[B, channels, H, W]``.
        horizon: how many frames are predicted.

    Raises:
        ErlangenError: `horizon` is no whole number of at least 1.
    """

    def __init__(self, recurrence: Recurrence, decoder: nn.Module, horizon: int) -> None:
        super().__init__()
        self.recurrence, self.decoder = recurrence, decoder
        self.horizon = check_integer("horizon", horizon, 1)

    def forward(self, x: Tensor, horizon: int | None = None) -> Tensor:
        """The next frames ``[B, horizon, 1, H, W]`` after ``[B, T, 1, H, W]``, T at least 1.

        Raises:
            ShapeError: x has another number of axes or channels, no frame, or frames of another size.
            ErlangenError: `horizon` is no whole number of at least 1.
        """
        ahead = self.horizon if horizon is None else check_integer("horizon", horizon, 1)
        advanced = self.recurrence.advance(last_state(self.recurrence, x))
        answers = [self.decoder(advanced.amax(1))]
        for _ in range(ahead - 1):
            advanced = self.recurrence.advance(self.recurrence.update(answers[-1].detach().clamp(0, 1), advanced))
            answers.append(self.decoder(advanced.amax(1)))
        return torch.stack(answers, 1)


class Classifier(nn.Module):
    """Logits ``[B, 10]`` of clips ``[B, T, 1, H, W]``, as the paper classifies actions.

    Every frame goes through three convolutions with batch normalisation (5 x 5, 3 x 3, 3 x 3), these features through the
    recurrence. Of its last state the maximum over velocities is taken, then the mean over pixels, and a linear map reads it.
    Invariant to shifts of a whole clip, and to its motion as far as the maximum does not notice the ends of the velocities.

    >>> Classifier(drift_recurrence(8, (16, 16), 2, in_channels=8, activation="tanh"))(torch.zeros(2, 4, 1, 16, 16)).shape
    torch.Size([2, 10])

    Args:
        recurrence: of features of frames; the stem makes as many as it reads.
    """

    def __init__(self, recurrence: DriftRecurrence2d) -> None:
        super().__init__()
        width = recurrence.in_channels
        self.recurrence = recurrence
        self.stem = nn.Sequential(*conv_norm(1, width, 5), *conv_norm(width, width, 3), *conv_norm(width, width, 3))
        self.logits = nn.Linear(recurrence.state_channels, 10)
        self.symmetry = Symmetry(Shifts(*recurrence.size), input=Sequence(Image(), -4), output="invariant")

    def forward(self, x: Tensor) -> Tensor:
        """T at least 1.

        Raises:
            ShapeError: x has another number of axes or channels, no frame, or frames of another size.
        """
        check_clips(x, 1)
        self.recurrence.check_size(*x.shape[-2:])
        features = self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.logits(last_state(self.recurrence, features).amax(1).mean((-2, -1)))


def check_clips(x: Tensor, channels: int) -> None:
    """`ShapeError` unless x is ``[B, T, channels, H, W]`` with T of at least 1."""
    if x.ndim != 5 or x.shape[1] == 0 or x.shape[2] != channels:
        raise ShapeError(
            f"x has shape {tuple(x.shape)}, but [B, T, {channels}, H, W] with T of at least 1 is needed; time comes before "
            "channels"
        )


def last_state(recurrence: Recurrence, x: Tensor) -> Tensor:
    """The state ``[B, V, channels, H, W]`` after the last frame of ``[B, T, in_channels, H, W]``; `ShapeError` without one."""
    check_clips(x, recurrence.in_channels)
    recurrence.check_size(*x.shape[-2:])
    first, *others = x.unbind(1)
    state = recurrence.update(first)
    for frame in others:
        state = recurrence.update(frame, recurrence.advance(state))
    return state


# --- recurrences, all with one start ---------------------------------------------------------------------------------
def drift_recurrence(
    channels: int, size: tuple[int, int], reach: int, *, in_channels: int = 1, activation: Activation = "relu"
) -> DriftRecurrence2d:
    """FERNN with velocities up to `reach`, or with 0 the G-RNN."""
    velocities = velocity_grid(reach)
    return retained(DriftRecurrence2d(in_channels, channels, size, velocities=velocities, activation=activation))


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


# --- decoders --------------------------------------------------------------------------------------------------------
class CircularConv(nn.Conv2d):
    """A convolution on a torus, 3 x 3 or with another odd side."""

    def __init__(self, in_channels: int, out_channels: int, side: int = 3) -> None:
        super().__init__(in_channels, out_channels, side)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """The size stays."""
        return circular_conv(input, self.weight, self.bias)


def conv_norm(in_channels: int, out_channels: int, side: int) -> tuple[nn.Module, ...]:
    """A convolution on a torus, batch normalisation, and a ReLU."""
    return CircularConv(in_channels, out_channels, side), nn.BatchNorm2d(out_channels), nn.ReLU()


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
