"""What equivariant convolutions of images share: fields on a pixel grid, kernel coordinates, the kept kernel.

Geometry as in `erlangen.actions.Image`: x to the right, y up, positive angles counterclockwise. A group moves a field f by
``(g f)(z) = rho(g) f(g^-1 z)``, and a convolution ``y(u) = sum_z K(z) f(u + z)`` commutes with it exactly when
``K(g z) = rho_out(g) K(z) rho_in(g)^-1`` (Weiler and Cesa 2019, equation 2).
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from erlangen.actions import Action, Image, Tree
from erlangen.actions.base import check_tensor, expand_mask
from erlangen.actions.image import Interpolation, Padding
from erlangen.errors import ActionError, ConventionError, ShapeError, check_integer
from erlangen.groups import Group
from erlangen.nn.kept import Kept
from erlangen.reps import Rep
from erlangen.symmetry import Symmetry

RING_WIDTH = 0.5
"""Standard deviation of the Gaussian profile of a ring, in pixels."""

RING_INSET = 0.2
"""How far the outermost ring stays inside of the outermost pixel centres: less of its flank is cut off by the square."""

RINGS: dict[str, str | float] = {
    "basis": "gaussian rings",
    "width": RING_WIDTH,
    "inset": RING_INSET,
    "band": "m <= 2 r",
}
"""What coefficients of `ring_harmonics` depend on, for the state_dict."""


# --- fields on a pixel grid ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class FeatureField(Action):
    """Feature maps ``[..., copies * rep.size, H, W]``: pixels move as in an image, and the channels of each by `rep`.

    Args:
        rep: how the channels of one copy move; copies lie one after the other (copy slow, entry of `rep` fast), and
            their number is open.
        interpolation, padding: as for `erlangen.actions.Image`.
    """

    rep: Rep
    interpolation: Interpolation = "bilinear"
    padding: Padding = "zeros"
    item_ndim = 3

    @property
    @override
    def name(self) -> str:
        return f"field({self.rep.name}, {self._image().name})"

    def _image(self) -> Image:
        return Image(self.interpolation, self.padding)

    def check_group(self, group: Group) -> None:
        """The group of the representation, and one that moves the plane."""
        if group != self.rep.group:
            raise ActionError(
                f"{self.name}: the channels move by a representation of {self.rep.group.name}, not of {group.name}; "
                "use rep.restrict(subgroup)"
            )
        self._image().check_group(group)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move pixels, then channels."""
        x = check_tensor(x, self.name, lead=len(group.batch_shape(g)), item_ndim=3)
        if x.shape[-3] % self.rep.size:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: the {x.shape[-3]} channels on axis -3 are no multiple of {self.rep.size}, "
                f"the size of {self.rep!r}"
            )
        moved = self._image().apply(group, g, x).unflatten(-3, (-1, self.rep.size))
        return self.rep.apply(g, moved.movedim(-3, -1)).movedim(-1, -3).flatten(-4, -3)

    @override
    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        return self._image().is_exact(group, g, x)

    @override
    def resamples(self, group: Group) -> bool:
        return self._image().resamples(group)

    @override
    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        return self._image().mask(group, g, x)

    @override
    def move_mask(self, group: Group, g: Tensor, known: Tree, x: Tree) -> Tensor:
        full = expand_mask(group, g, known, x).all(-3, keepdim=True)
        return self._image().move_mask(group, g, full, x[..., :1, :, :])


def field_symmetry(group: Group, rep_in: Rep | None, rep_out: Rep | None, interpolation: Interpolation) -> Symmetry:
    """The symmetry of a layer between fields; ``None`` stands for scalar channels."""

    def action(rep: Rep | None) -> Action:
        return Image(interpolation) if rep is None else FeatureField(rep, interpolation)

    return Symmetry(group, input=action(rep_in), output=action(rep_out))


# --- kernel coordinates ----------------------------------------------------------------------------------------------
def kernel_points(kernel_size: int) -> Tensor:
    """Positions (x right, y up) of the pixels of a kernel about its middle, float64 ``[k, k, 2]``."""
    t = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
    return torch.stack([t.expand(kernel_size, -1), -t[:, None].expand(-1, kernel_size)], -1)


def ring_harmonics(points: Tensor, kernel_size: int) -> dict[int, Tensor]:
    """Circular harmonics ``P_r(|z|) exp(i m angle(z))`` on Gaussian rings, sampled at the points of a kernel.

    Rings lie one pixel apart from the middle (odd sizes) or half a pixel from it (even sizes) up to the outermost pixel
    centres, all drawn in by the factor that puts the last one 0.2 pixels inside. Band limit: the ring of nominal radius r
    carries the frequencies ``m <= 2 r``; pixels could hold up to ``pi r`` (two samples per period along the circumference
    2 pi r), and the margin keeps what aliases small. At the middle the angle is undefined, and only m = 0 is not zero.

    Args:
        points: kernel positions, or these turned by group elements, float64 ``[..., k, k, 2]``.
        kernel_size: k.

    Returns:
        For each frequency m complex128 ``[..., rings, k, k]``: the rings that carry it, each of unit norm over the kernel.
    """
    half = (kernel_size - 1) / 2
    radius, angle = points.norm(dim=-1)[..., None, :, :], torch.atan2(points[..., 1], points[..., 0])[..., None, :, :]
    nominal = torch.arange(half % 1, half + 1, dtype=torch.float64)
    centres = nominal * (1 - RING_INSET / half if half else 1.0)
    profile = torch.exp(-((radius - centres[:, None, None]) ** 2) / (2 * RING_WIDTH**2))
    around = profile * (radius > 1e-9)
    harmonics: dict[int, Tensor] = {}
    for m in range(int(2 * half) + 1):
        values = (around if m else profile)[..., nominal >= m / 2, :, :]
        values = values / torch.linalg.vector_norm(values, dim=(-2, -1), keepdim=True)
        harmonics[m] = torch.polar(values, (m * angle).expand(values.shape))
    return harmonics


# --- the layer -------------------------------------------------------------------------------------------------------
class PlanarConv2d(nn.Module, ABC):
    """A convolution whose kernel is a linear function of fewer parameters: the base of the equivariant ones.

    In eval mode without gradients the expanded kernel is kept between calls, so that inference costs a plain convolution.
    It is expanded anew when a parameter is written to in place, replaced or moved; a write through ``.data`` is invisible
    to autograd and is seen after the next ``.train()`` or ``.eval()``. What `torch.compile` or an exporter traces contains
    the expansion; give them `export`.

    Attributes:
        symmetry: what holds exactly on the pixel grid.
        in_size, out_size: channels of input and output tensors.
    """

    symmetry: Symmetry

    def __init__(self, in_size: int, out_size: int, kernel_size: int, padding: int, stride: int) -> None:
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.kernel_size = check_integer("kernel_size", kernel_size, 1, hint="kernels are square, so one number")
        self.padding = check_integer("padding", padding, 0)
        self.stride = check_integer("stride", stride, 1)
        self._kept = Kept[tuple[Tensor, Tensor | None]]()

    @abstractmethod
    def expand(self) -> tuple[Tensor, Tensor | None]:
        """Kernel ``[out_size, in_size, k, k]`` and bias ``[out_size]`` of the present parameters."""

    @abstractmethod
    def symmetry_under(self, group: Group, interpolation: Interpolation = "bicubic") -> Symmetry:
        """The same statement for another group, to measure how well it holds where pixels must be interpolated."""

    @property
    @abstractmethod
    def conventions(self) -> dict[str, str | float]:
        """What the parameters mean, beyond their shapes; written into the state_dict."""

    @property
    @abstractmethod
    def channels(self) -> str:
        """How the input channels are made up, for messages."""

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """`expand`, kept between calls in eval mode without gradients."""
        return self._kept.get(self, self.expand)

    def train(self, mode: bool = True) -> PlanarConv2d:
        """Switch the mode, and forget the kept kernel."""
        self._kept.forget()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``[B, out_size, H', W']`` of ``[B, in_size, H, W]``, with ``H' = (H + 2 padding - k) / stride + 1``.

        Raises:
            ShapeError: x has another number of axes or channels, is smaller than the kernel, or has a size that the stride
                does not divide: the kernel would then not reach the last rows, and a turned image would lose others.
        """
        if x.ndim != 4 or x.shape[1] != self.in_size:
            raise ShapeError(f"x has shape {tuple(x.shape)}, but [B, {self.in_size}, H, W] is needed: {self.channels}")
        for axis, size in (("H", x.shape[2]), ("W", x.shape[3])):
            room = size + 2 * self.padding - self.kernel_size
            if room < 0 or room % self.stride:
                raise ShapeError(
                    f"x has {axis} = {size}: with kernel_size = {self.kernel_size}, padding = {self.padding} and stride = "
                    f"{self.stride}, {axis} + 2 padding - kernel_size = {room} must be a multiple of the stride and not "
                    f"negative, or turned images lose other rows; pad or crop x, or change kernel_size by one"
                )
        kernel, bias = self.kernel()
        return F.conv2d(x, kernel, bias, self.stride, self.padding)

    def export(self) -> nn.Conv2d:
        """A plain convolution with the present kernel, which no longer depends on this layer."""
        with torch.no_grad():
            kernel, bias = self.expand()
            plain = nn.Conv2d(
                self.in_size,
                self.out_size,
                self.kernel_size,
                self.stride,
                self.padding,
                bias=bias is not None,
                device=kernel.device,
                dtype=kernel.dtype,
            )
            plain.weight.copy_(kernel)
            if bias is not None and plain.bias is not None:
                plain.bias.copy_(bias)
        return plain.train(self.training)

    def get_extra_state(self) -> Tensor:
        """`conventions` as a uint8 tensor of JSON text, which torch.save, weights_only and safetensors all keep."""
        return torch.tensor(list(json.dumps(self.conventions, sort_keys=True).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Compare the record of a state_dict with `conventions`.

        Raises:
            ConventionError: the record cannot be read, or differs: the same numbers would mean another kernel.
        """
        try:
            saved = json.loads(bytes(state.cpu().tolist()).decode())
        except (AttributeError, TypeError, ValueError) as error:
            raise ConventionError(f"the record of conventions in the state_dict cannot be read: {error}") from error
        if saved != self.conventions:
            raise ConventionError(
                f"{type(self).__name__} was saved with {saved}, but has {self.conventions}; load it into a layer that is "
                "made with the saved arguments, or export() it to a plain convolution where it was saved"
            )

    @override
    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, padding={self.padding}, stride={self.stride}"


def unit_gain(fan_in: int) -> float:
    """Standard deviation of weights for which `fan_in` terms of unit size add up to the variance of the input."""
    return 1 / math.sqrt(fan_in)
