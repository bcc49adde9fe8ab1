"""Recurrent layers whose state moves with a moving input: flow equivariance (Keller 2025).

A state of a plain recurrent network forgets where a moving thing is going: shown a drifting picture, it does not drift along.
Here the state has a slice for every velocity nu of a finite set V, and between two frames slice nu is moved by nu:

    h_t(x, nu) = sigma( psi_1(nu) [W * h_{t-1}(., nu)](x) + (U * f_t)(x) ),    h before the first frame = 0.

No weight depends on nu, so an input that moves with velocity nu0, frame t by t steps (frame 0 not at all), gives

    h_t[psi(nu0) f](x, nu) = h_t[f](psi_t(nu0)^-1 x, nu - nu0)    for nu and nu - nu0 in V,

which the declared symmetry states for all of V: slices that come from outside of V are masked. Where V is closed under
addition (all velocities of the torus, or every third one), nothing is masked. Velocities that change in time, and ones
between the elements of V, are not covered.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Image
from erlangen.actions import Sequence as SequenceOf
from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_floating, check_integer, is_whole
from erlangen.groups import Cyclic, Flow, Shifts
from erlangen.nn.images.anchoring import roll_samples
from erlangen.nn.images.group_conv import GroupConv2d, LiftConv2d, check_planar, pixel_subgroup, regular_under
from erlangen.nn.images.planar import FeatureField, unit_gain
from erlangen.nn.images.velocities import DriftingStates, SpinningStates, Spun, check_velocities, velocity_grid
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


class _FlowRecurrence(nn.Module, ABC):
    """The recurrence of the module's docstring; subclasses say what U, W and psi_1 are."""

    symmetry: Symmetry

    def __init__(self, in_channels: int, state_channels: int, slices: int, activation: Activation) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnknownNameError(f"activation = {activation!r} is not known; choose {' or '.join(ACTIVATIONS)}")
        self.in_channels, self.state_channels, self.slices = in_channels, state_channels, slices
        self.activation: Activation = activation

    @abstractmethod
    def drive(self, frames: Tensor) -> Tensor:
        """``U * f``, the same for all slices: ``[B, state_channels, H, W]`` of frames ``[B, in_channels, H, W]``."""

    @abstractmethod
    def mix(self, state: Tensor) -> Tensor:
        """``W * h`` of maps ``[B, state_channels, H, W]``."""

    @abstractmethod
    def advance(self, state: Tensor) -> Tensor:
        """``psi_1(nu) h(., nu)``: every slice of ``[B, V, state_channels, H, W]`` one step further."""

    @abstractmethod
    def check_size(self, height: int, width: int) -> None:
        """Raise `ShapeError` for frames of a size that the flow cannot move."""

    def update(self, frame: Tensor, advanced: Tensor | None = None) -> Tensor:
        """The state after one more frame.

        Args:
            frame: ``[B, in_channels, H, W]``.
            advanced: `advance` of the last state; None before the first frame. Psi and W commute, so that what has been
                advanced for a read-out need not be advanced again.

        Returns:
            ``[B, V, state_channels, H, W]``.
        """
        return self._next(self.drive(frame), advanced)

    def _next(self, drive: Tensor, advanced: Tensor | None) -> Tensor:
        sigma = ACTIVATIONS[self.activation]
        if advanced is None:
            return sigma(drive)[:, None].expand(-1, self.slices, -1, -1, -1)
        mixed = self.mix(advanced.flatten(0, 1)).unflatten(0, (len(drive), self.slices))
        return sigma(mixed + drive[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """States ``[B, T, V, state_channels, H, W]`` after each frame of ``[B, T, in_channels, H, W]``; T may be 0.

        Raises:
            ShapeError: x has another number of axes or channels, or frames of another size.
            DtypeError: x is not floating point.
        """
        check_floating(x, "x")
        if x.ndim != 5 or x.shape[2] != self.in_channels:
            hint = (
                "; time comes before channels: x.transpose(1, 2)"
                if x.ndim == 5 and x.shape[1] == self.in_channels
                else ""
            )
            raise ShapeError(f"x has shape {tuple(x.shape)}, but [B, T, {self.in_channels}, H, W] is needed{hint}")
        batch, frames, _, height, width = x.shape
        self.check_size(height, width)
        if frames == 0:
            return x.new_zeros(batch, 0, self.slices, self.state_channels, height, width)
        drives = self.drive(x.flatten(0, 1)).unflatten(0, (batch, frames)).unbind(1)
        states = [self._next(drives[0], None)]
        for drive in drives[1:]:
            states.append(self._next(drive, self.advance(states[-1])))
        return torch.stack(states, 1)


class DriftRecurrence2d(_FlowRecurrence):
    """Flow-equivariant recurrence for translations of a torus by whole pixels per frame.

    U and W are convolutions with circular padding, the same for every velocity; one convolution serves all slices. With the
    single velocity 0 this is a convolutional recurrent network (G-RNN), bit for bit.

    Memory grows with the number of slices: a sequence keeps ``B T V channels H W`` numbers for the backward pass.

    >>> layer = DriftRecurrence2d(1, 8, (16, 16))
    >>> layer(torch.zeros(2, 5, 1, 16, 16)).shape
    torch.Size([2, 5, 9, 8, 16, 16])

    Args:
        in_channels: channels of a frame.
        channels: channels of every slice of the state.
        size: (H, W) of the frames.
        velocities: integers ``[V, 2]``, (rows, columns) per frame, counted modulo `size`: as the shifts of ``torch.roll`` over
            the last two axes, so (0, 1) moves to the right and (1, 0) down. By default `velocity_grid` of reach 1.
        kernel_size: side of both square kernels, odd.
        activation: "relu" or "tanh".
        bias: whether U has a bias, the same for all slices and pixels.
        generator: source of the initial weights; torch's global stream without it.

    Raises:
        ErlangenError: a number is out of range, a velocity occurs twice or is as large as the torus.
        DtypeError: velocities are not integers.
        ShapeError: velocities are no ``[V, 2]``.
        UnknownNameError: another activation.

    Warns:
        ErlangenWarning: zero is not among the velocities.
    """

    velocities: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int,
        size: tuple[int, int],
        *,
        velocities: Tensor | Sequence[Sequence[int]] | None = None,
        kernel_size: int = 3,
        activation: Activation = "relu",
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        rows = velocity_grid(1) if velocities is None else torch.as_tensor(velocities).detach().cpu()
        self_size = tuple(check_integer(f"size[{axis}]", length, 1) for axis, length in enumerate(size))
        if len(self_size) != 2:
            raise ErlangenError(f"size = {size!r}: give (H, W)")
        moved = check_velocities(rows, self_size, "pixels")
        super().__init__(
            check_integer("in_channels", in_channels, 1), check_integer("channels", channels, 1), len(moved), activation
        )
        if check_integer("kernel_size", kernel_size, 1) % 2 == 0 or kernel_size > 2 * min(self_size) + 1:
            raise ErlangenError(f"kernel_size = {kernel_size}: give an odd side that fits the torus {self_size}")
        self.size, self.kernel_size = (self_size[0], self_size[1]), kernel_size
        shape = (channels, in_channels, kernel_size, kernel_size)
        self.input_weight = nn.Parameter(
            unit_gain(in_channels * kernel_size**2) * torch.randn(shape, generator=generator)
        )
        shape = (channels, channels, kernel_size, kernel_size)
        self.state_weight = nn.Parameter(unit_gain(channels * kernel_size**2) * torch.randn(shape, generator=generator))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.register_buffer("velocities", rows.long(), persistent=False)
        self._rests = bool((rows == 0).all())
        flow = Flow(Shifts(*self.size), [[1, 0], [0, 1]], scale=max(1, int(rows.abs().max())))
        self.symmetry = Symmetry(flow, input=SequenceOf(Image(), -4), output=DriftingStates(moved))

    def drive(self, frames: Tensor) -> Tensor:
        """``U * f + b``, the same for all slices."""
        return circular_conv(frames, self.input_weight, self.bias)

    def mix(self, state: Tensor) -> Tensor:
        """``W * h`` of maps ``[B, channels, H, W]``."""
        return circular_conv(state, self.state_weight)

    def advance(self, state: Tensor) -> Tensor:
        """Every slice of ``[B, V, channels, H, W]`` rolled by its velocity."""
        if self._rests:
            return state
        shift = self.velocities.repeat(len(state), 1)
        return roll_samples(state.flatten(0, 1), shift).unflatten(0, state.shape[:2])

    def check_size(self, height: int, width: int) -> None:
        """The torus has one size."""
        if (height, width) != self.size:
            raise ShapeError(f"x has frames of {height} x {width}, but the layer was made for size = {self.size}")

    @override
    def extra_repr(self) -> str:
        return f"{self.in_channels} -> {self.slices} x {self.state_channels}, size={self.size}, kernel_size={self.kernel_size}"


class SpinRecurrence2d(_FlowRecurrence):
    """Flow-equivariant recurrence for rotations by whole multiples of ``2 pi / n`` per frame, on regular fields of C_n.

    U is a `LiftConv2d` and W a `GroupConv2d`; ``psi_1(nu)`` turns the pixels about the middle, and the orientation axis with
    them. Quarter turns move pixels. Other angles are a quarter turn after a bilinear resampling by less than a quarter, so
    slices at such velocities blur a little at every step; nevertheless the declared symmetry, under quarter turns per frame,
    is exact, because those commute with the resampling. `symmetry_under` states it for the whole group, where the
    resampling of the input costs what it costs. For n = 4 nothing is ever interpolated.

    >>> from erlangen.groups import Cyclic
    >>> SpinRecurrence2d(Cyclic(4), 1, 2)(torch.zeros(2, 3, 1, 9, 9)).shape
    torch.Size([2, 3, 4, 8, 9, 9])

    Args:
        group: ``Cyclic(n)``; the multiples of ``2 pi / n`` must include every velocity: take n = 36 for tens of degrees.
        in_channels: channels of a frame; frames are square.
        fields: regular fields of every slice; a slice has ``fields * n`` channels, field slow.
        velocities: steps of ``2 pi / n`` per frame, counterclockwise, integers counted modulo n; by default all n, which are
            closed under addition.
        kernel_size: side of both kernels, odd; padding is with zeros, which turns respect.
        activation: "relu" or "tanh".
        bias: whether U has a bias.
        generator: source of the initial weights; torch's global stream without it.

    Raises:
        GroupError: the group is not cyclic.
        ErlangenError: a number is out of range, or a velocity is no whole number of steps or occurs twice.
        UnknownNameError: another activation.

    Warns:
        ErlangenWarning: zero is not among the velocities.
    """

    def __init__(
        self,
        group: Cyclic,
        in_channels: int,
        fields: int,
        *,
        velocities: Sequence[int] | None = None,
        kernel_size: int = 3,
        activation: Activation = "relu",
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        planar = check_planar(group)
        if not isinstance(planar, Cyclic):
            raise ErlangenError(f"group = {group!r}: velocities are counted in steps of one turn; use Cyclic(n)")
        n = int(planar.order)
        rows = _whole_steps(list(range(n)) if velocities is None else velocities, n)
        steps = check_velocities(rows, (n,), f"steps of {360 / n:g} degrees")
        if check_integer("kernel_size", kernel_size, 1) % 2 == 0:
            raise ErlangenError(f"kernel_size = {kernel_size}: give an odd side")
        super().__init__(in_channels, check_integer("fields", fields, 1) * n, len(steps), activation)
        self.group, self.steps = planar, tuple(row[0] for row in steps)
        padding = kernel_size // 2
        self.input_conv = LiftConv2d(
            planar, in_channels, fields, kernel_size, padding=padding, bias=bias, generator=generator
        )
        self.state_conv = GroupConv2d(
            planar, fields, fields, kernel_size, padding=padding, bias=False, generator=generator
        )
        self.symmetry = self.symmetry_under(Cyclic(int(pixel_subgroup(planar).order)))

    def symmetry_under(self, group: Cyclic) -> Symmetry:
        """The symmetry under velocities of a subgroup; where its turns are no quarter turns, they resample both sides."""
        velocities = tuple((step,) for step in self.steps)
        field = FeatureField(regular_under(self.group, group))
        return Symmetry(group, input=Spun(Image(), -4), output=SpinningStates(velocities, int(self.group.order), field))

    def drive(self, frames: Tensor) -> Tensor:
        """``U * f + b``, the same for all slices."""
        return self.input_conv(frames)

    def mix(self, state: Tensor) -> Tensor:
        """``W * h`` of maps ``[B, fields * n, H, W]``."""
        return self.state_conv(state)

    def advance(self, state: Tensor) -> Tensor:
        """Every slice of ``[B, V, fields * n, H, W]`` turned by its velocity."""
        return torch.stack(
            [self._turned(part, step) for part, step in zip(state.unbind(1), self.steps, strict=True)], 1
        )

    def _turned(self, state: Tensor, step: int) -> Tensor:
        """``[B, fields * n, H, W]`` turned by some steps: orientations first, then what is left of a quarter, then quarters."""
        n = int(self.group.order)
        state = state.unflatten(1, (-1, n)).roll(step, 2).flatten(1, 2)
        quarters, rest = divmod(4 * (step % n), n)
        if rest:
            state = F.grid_sample(state, self._grid(rest * math.pi / (2 * n), state), align_corners=True)
        return torch.rot90(state, quarters, (-2, -1)) if quarters else state

    def _grid(self, angle: float, state: Tensor) -> Tensor:
        """Where each pixel of the turned maps is read: turned back, with y downwards as `grid_sample` has it."""
        c, s = math.cos(angle), math.sin(angle)
        t = torch.linspace(-1, 1, state.shape[-1], dtype=torch.float64, device=state.device)
        x, y = t[None, :], t[:, None]
        return torch.stack([c * x - s * y, s * x + c * y], -1).to(state).expand(len(state), -1, -1, -1)

    def check_size(self, height: int, width: int) -> None:
        """Turns need squares."""
        if height != width:
            raise ShapeError(
                f"x has frames of {height} x {width}, but only square ones can be turned; pad or crop them"
            )

    @override
    def extra_repr(self) -> str:
        return f"{self.group.name}, steps={self.steps}"


# --- the torus -------------------------------------------------------------------------------------------------------
def circular_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of maps ``[B, C, H, W]`` on a torus by an odd kernel ``[out, C, k, k]``; the size stays."""
    return F.conv2d(circular_pad(x, weight.shape[-1] // 2), weight, bias)


def circular_pad(x: Tensor, pad: int) -> Tensor:
    """Maps ``[B, C, H, W]`` with `pad` pixels of the other side on every side, at most H and W.

    As ``F.pad(..., mode="circular")``; forward and backward together in half its time.
    """
    if pad == 0:
        return x
    if is_traced():
        return _wrapped(x, pad)
    return _Wrap.apply(x, pad)


def _wrapped(x: Tensor, pad: int) -> Tensor:
    x = torch.cat([x[..., -pad:], x, x[..., :pad]], -1)
    return torch.cat([x[..., -pad:, :], x, x[..., :pad, :]], -2)


class _Wrap(torch.autograd.Function):
    """The gradient is folded back in place, where autograd would write zeros for every slice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int) -> Tensor:
        ctx.pad = pad
        return _wrapped(x, pad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,), pad = grads, ctx.pad
        for axis in (-2, -1):
            length = grad.shape[axis] - 2 * pad
            inner = grad.narrow(axis, pad, length).clone()
            inner.narrow(axis, 0, pad).add_(grad.narrow(axis, pad + length, pad))
            inner.narrow(axis, length - pad, pad).add_(grad.narrow(axis, 0, pad))
            grad = inner
        return grad, None


# --- checks ----------------------------------------------------------------------------------------------------------
def _whole_steps(velocities: Sequence[int], n: int) -> Tensor:
    """Steps ``[V, 1]``; `ErlangenError` for what is no whole number of steps."""
    for index, step in enumerate(velocities):
        if not is_whole(step):
            raise ErlangenError(
                f"velocities[{index}] = {step!r} is no whole number of steps of 360 / {n} = {360 / n:g} degrees; pass steps as "
                "integers, and choose n so that 360 / n divides every velocity in degrees"
            )
    return torch.tensor(list(velocities), dtype=torch.int64)[:, None]
