"""Group convolutions of images for rotations C_n and rotations with reflections D_n (Cohen and Welling 2016).

Feature maps of regular fields are ordinary tensors ``[B, fields * order, H, W]``: field slow, group element fast, channel
``f * order + h`` holds the answer of field f to its filter turned by the element h. An element g turns the picture and
moves channel h to channel ``g h``. Pointwise functions (ReLU, dropout of whole pixels) commute with that as they are.

>>> from erlangen.groups import Cyclic
>>> C4 = Cyclic(4)
>>> net = torch.nn.Sequential(
...     LiftConv2d(C4, 3, 8, 5), GroupBatchNorm2d(C4, 8), torch.nn.ReLU(), GroupConv2d(C4, 8, 16, 3), GroupPool(C4)
... )
>>> net(torch.zeros(2, 3, 28, 28)).shape
torch.Size([2, 16, 22, 22])

Pooling over pixels: `AvgPool2d` and `MaxPool2d` of window k and stride s commute with quarter turns and flips where
``(H + 2 padding - k)`` is divisible by s, for the reason that strided convolutions need it; global pooling always does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions.image import Interpolation
from erlangen.errors import GroupError, ShapeError, UnknownNameError, check_integer
from erlangen.groups import Cyclic, Dihedral, Group
from erlangen.nn.images.planar import (
    RINGS,
    PlanarConv2d,
    field_symmetry,
    kernel_points,
    ring_harmonics,
    unit_gain,
)
from erlangen.reps import Regular, Rep, embedding
from erlangen.reps.transfer import Pullback
from erlangen.symmetry import Symmetry

PlanarGroup = Cyclic | Dihedral


# --- convolutions ----------------------------------------------------------------------------------------------------
class _RegularConv2d(PlanarConv2d):
    """Convolution to regular fields: ``K[h, h'](z) = psi[h^-1 h'](h^-1 z)`` for one filter psi per pair of fields."""

    lift: ClassVar[bool]
    """Whether the input is scalar channels; regular fields otherwise."""

    def __init__(
        self,
        group: PlanarGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: int = 0,
        stride: int = 1,
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        order = int(check_planar(group).order)
        in_size = check_integer("in_channels", in_channels, 1) * (1 if self.lift else order)
        super().__init__(in_size, check_integer("out_channels", out_channels, 1) * order, kernel_size, padding, stride)
        self.group, self.order = group, order
        self.in_channels, self.out_channels = in_channels, out_channels
        elements = group.elements()
        relative = group.compose(group.inverse(elements)[:, None], elements)
        self._relative = torch.zeros(order, 1, dtype=torch.int64) if self.lift else relative
        self._samples = _turned_basis(group, kernel_size)
        self._source = _exact_source(self._relative, self._samples) if moves_kernel_pixels(group) else None
        shape = (out_channels, in_channels, self._relative.shape[1], self._samples.shape[1])
        std = unit_gain(in_size * self._samples.shape[1])
        self.weight = nn.Parameter(std * torch.randn(shape, generator=generator))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.symmetry = self.symmetry_under(pixel_subgroup(group))

    def expand(self) -> tuple[Tensor, Tensor | None]:
        """Kernel ``[out_channels * order, in_size, k, k]`` and bias; all elements share the parameters."""
        if self._source is not None:
            bank = self.weight.flatten(2).index_select(2, self._source.to(self.weight.device))
            bank = bank.unflatten(2, (*self._relative.shape, -1))
        else:
            filters = self.weight.index_select(2, self._relative.flatten().to(self.weight.device))
            filters = filters.unflatten(2, self._relative.shape)
            bank = torch.einsum("oihgp,hpz->oihgz", filters, self._samples.to(self.weight))
        kernel = bank.movedim(2, 1).reshape(self.out_size, self.in_size, self.kernel_size, self.kernel_size)
        return kernel, None if self.bias is None else self.bias.repeat_interleave(self.order)

    def symmetry_under(self, group: Group, interpolation: Interpolation = "bicubic") -> Symmetry:
        """The layer's symmetry under a subgroup of its group, or the group itself.

        Args:
            group: the subgroup; elements other than quarter turns and flips resample both sides.
            interpolation: how they read between pixels.

        Raises:
            RepresentationError: the group is no subgroup.
        """
        regular = regular_under(self.group, group)
        return field_symmetry(group, None if self.lift else regular, regular, interpolation)

    @property
    def conventions(self) -> dict[str, str | float]:
        """The group, and the basis of the filters."""
        return {"group": self.group.name, **({"basis": "pixels"} if self._source is not None else RINGS)}

    @property
    def channels(self) -> str:
        """Fields times the order."""
        if self.lift:
            return f"{self.in_channels} scalar channels"
        return f"{self.in_channels} fields x {self.order} elements of {self.group.name} (LiftConv2d takes plain images)"

    @override
    def extra_repr(self) -> str:
        return f"{self.group.name}, {self.in_channels} -> {self.out_channels}, {super().extra_repr()}"


class LiftConv2d(_RegularConv2d):
    """Convolution of scalar channels ``[B, C, H, W]`` to regular fields ``[B, out_channels * order, H', W']``.

    Every filter is applied in all orientations of the group, with the same parameters.

    For n = 1, 2, 4 filters are free on the k x k pixels and are turned by moving pixels: equivariance under the group on
    square images is exact to the last rounding of the convolution. For other n (6, 8, ...) filters are combinations of
    circular harmonics on Gaussian rings (`erlangen.nn.images.planar.ring_harmonics`, with its band limit), sampled at the pixels
    for every orientation. Equivariance is then exact for the elements that move pixels to pixels, and approximate for the
    others: a turn by 45 degrees of images that vary over a few pixels (white noise blurred by a Gaussian of 1.5 pixels)
    costs 2 to 5 % of the output's norm per layer, resampling included. So the declared `symmetry` is that under the exact
    subgroup, ``Cyclic(gcd(n, 4))`` or ``Dihedral(gcd(n, 4))``, while `group` is the whole one, and `symmetry_under` gives
    the statement for it.

    Coefficients start as Gaussians for which the output has the variance of the input, before padding.

    Args:
        group: ``Cyclic(n)`` or ``Dihedral(n)``.
        in_channels: scalar channels C.
        out_channels: regular fields.
        kernel_size: side k of the square kernel, at least 1. Even sizes turn about the corner between pixels, which is
            as exact.
        padding: rows of zeros added on every side.
        stride: step; with a stride s, ``H + 2 padding - k`` must be divisible by s (for the padding ``(k - 1) / 2``:
            H - 1), so that the grid of outputs lies symmetrically and quarter turns stay exact.
        bias: whether each field has a bias, shared by its channels.
        generator: source of the initial coefficients; torch's global stream without it.

    Raises:
        GroupError: the group is no ``Cyclic`` or ``Dihedral`` group.
        ErlangenError: a size, the padding or the stride is no integer in its range.
    """

    lift = True


class GroupConv2d(_RegularConv2d):
    """Convolution of regular fields ``[B, in_channels * order, H, W]`` to ``[B, out_channels * order, H', W']``.

    Channels are counted in fields. Everything else is as for `LiftConv2d`.
    """

    lift = False


# --- layers on fields ------------------------------------------------------------------------------------------------
class GroupPool(nn.Module):
    """Regular fields ``[B, fields * order, H, W]`` to scalar channels ``[B, fields, H, W]``: each field's best or mean.

    Args:
        group: ``Cyclic(n)`` or ``Dihedral(n)``.
        reduce: "max" or "mean" over the channels of a field.

    Raises:
        GroupError: the group is no ``Cyclic`` or ``Dihedral`` group.
        UnknownNameError: another `reduce`.
    """

    def __init__(self, group: PlanarGroup, reduce: Literal["max", "mean"] = "max") -> None:
        super().__init__()
        if reduce not in ("max", "mean"):
            raise UnknownNameError(f"reduce = {reduce!r} is not known; choose 'max' or 'mean'")
        self.group, self.reduce = check_planar(group), reduce
        exact = pixel_subgroup(group)
        self.symmetry = field_symmetry(exact, regular_under(group, exact), None, "bicubic")

    def forward(self, x: Tensor) -> Tensor:
        """Pool; `ShapeError` when the channels are no multiple of the order."""
        order = int(self.group.order)
        if x.ndim != 4 or x.shape[1] % order:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, but [B, fields * {order}, H, W] is needed for {self.group.name}"
            )
        fields = x.unflatten(1, (x.shape[1] // order, order))
        return fields.amax(2) if self.reduce == "max" else fields.mean(2)

    @override
    def extra_repr(self) -> str:
        return f"{self.group.name}, reduce={self.reduce!r}"


class GroupBatchNorm2d(nn.BatchNorm3d):
    """Batch normalisation of regular fields: the `order` channels of a field share statistics, scale and shift.

    Args:
        group: ``Cyclic(n)`` or ``Dihedral(n)``.
        fields: regular fields; inputs are ``[B, fields * order, H, W]``.
        eps, momentum, affine, track_running_stats: as for ``torch.nn.BatchNorm2d``.

    Raises:
        GroupError: the group is no ``Cyclic`` or ``Dihedral`` group.
    """

    def __init__(
        self,
        group: PlanarGroup,
        fields: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(check_integer("fields", fields, 1), eps, momentum, affine, track_running_stats)
        self.group = check_planar(group)
        exact = pixel_subgroup(group)
        regular = regular_under(group, exact)
        self.symmetry = field_symmetry(exact, regular, regular, "bicubic")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Normalise; `ShapeError` when the channels are not ``fields * order``."""
        order = int(self.group.order)
        if input.ndim != 4 or input.shape[1] != self.num_features * order:
            raise ShapeError(
                f"input has shape {tuple(input.shape)}, but [B, {self.num_features * order}, H, W] is needed: "
                f"{self.num_features} fields x {order} elements of {self.group.name}"
            )
        return super().forward(input.unflatten(1, (self.num_features, order))).flatten(1, 2)


# --- groups ----------------------------------------------------------------------------------------------------------
def check_planar(group: Group) -> PlanarGroup:
    """The group, if it is a finite group of planar rotations and reflections; `GroupError` otherwise."""
    if not isinstance(group, (Cyclic, Dihedral)):
        raise GroupError(
            f"group is {group!r}, but group convolutions need Cyclic(n) or Dihedral(n); for SO(2) use SteerableConv2d, or "
            "Cyclic(8) as an approximation"
        )
    return group


def pixel_subgroup(group: PlanarGroup) -> PlanarGroup:
    """The elements that move pixel centres to pixel centres: ``C_gcd(n, 4)`` or ``D_gcd(n, 4)``."""
    if isinstance(group, Dihedral):
        return Dihedral(math.gcd(group.n, 4))
    return Cyclic(math.gcd(int(group.order), 4))


def moves_kernel_pixels(group: PlanarGroup) -> bool:
    """Whether all elements move pixel centres to pixel centres."""
    return pixel_subgroup(group) == group


@dataclass(frozen=True)
class Inclusion:
    """The element of a group that moves the plane as one of a subgroup does; it can be pickled, and layers with it."""

    subgroup: Group
    group: PlanarGroup

    def __call__(self, g: Tensor) -> Tensor:
        """Indices ``[...]`` in the group, of elements ``[..., *subgroup.shape]``."""
        return self.group.from_linear(self.subgroup.linear(g, dtype=torch.float64))[0]


def regular_under(group: PlanarGroup, subgroup: Group) -> Rep:
    """Regular fields of a group, moved by a subgroup; `RepresentationError` if it is none."""
    if subgroup == group:
        return Regular(group)
    embedding(subgroup, group)  # raises for what is no subgroup
    return Pullback(Regular(group), subgroup, Inclusion(subgroup, group), f"Regular({group.name})")


# --- filters ---------------------------------------------------------------------------------------------------------
def _turned_basis(group: PlanarGroup, kernel_size: int) -> Tensor:
    """Basis filters in every orientation, ``psi_p(h^-1 z)``: float64 ``[order, basis, k * k]``, each of norm about 1."""
    points = kernel_points(kernel_size)
    turned = torch.einsum("hij,abi->habj", group.linear(group.elements(), dtype=torch.float64), points)
    if moves_kernel_pixels(group):
        same = (turned[:, None, None] - points[:, :, None, None]).abs().amax(-1) < 0.5
        return same.flatten(3).flatten(1, 2).double()
    parts: list[Tensor] = []
    for m, values in ring_harmonics(turned, kernel_size).items():
        parts += [math.sqrt(2) * values.real, math.sqrt(2) * values.imag] if m else [values.real]
    return torch.cat(parts, 1).flatten(2)


def _exact_source(relative: Tensor, samples: Tensor) -> Tensor:
    """Where each entry of the bank is read in the flat weight of a pair of fields: ``[order * sources * k * k]``."""
    pixel = samples.argmax(1)
    return (relative[:, :, None] * samples.shape[1] + pixel[:, None, :]).flatten()
