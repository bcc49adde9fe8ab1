"""Convolutions on R^2 x| H for a matrix group H of the plane, by Monte Carlo over H, with a kernel that is a network.

A field on the group is a tensor ``[B, C, N, height, width]``: N elements of H at every pixel. Kernels do not depend on the
batch: they are computed once for a forward pass, after which a layer is one plain convolution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.errors import GroupError, ModelError, ShapeError, UnknownNameError, check_integer
from erlangen.groups import SL, GLPlus, GroupSamples, LinearGroup
from erlangen.nn.images.group_kernel import GroupKernel
from erlangen.nn.images.planar import kernel_points
from erlangen.nn.kept import Kept

Measure = Literal["proposal", "haar"]
Projection = Literal["max", "mean"]


class _GroupConv(nn.Module, ABC):
    """What lifting and group convolutions share: samples, the kept weight, the plain convolution."""

    def __init__(self, kernel: GroupKernel, kernel_size: int, padding: int | None, bias: bool) -> None:
        super().__init__()
        self.kernel, self.kernel_size = kernel, kernel_size
        self.padding = kernel_size // 2 if padding is None else check_integer("padding", padding, 0)
        self.bias = nn.Parameter(torch.zeros(kernel.shape[0])) if bias else None
        self._kept = Kept[Tensor]()

    @property
    def grid(self) -> Tensor:
        """Positions of the kernel's pixels, float64 ``[k, k, 2]``: x to the right, y up, the outer edges at -1 and 1."""
        return kernel_points(self.kernel_size) / (self.kernel_size / 2)

    @abstractmethod
    def weight(self, grid: Tensor | None = None) -> Tensor:
        """Kernel values ``[C_out, N_out, C_in, N_in, k, k]`` at positions `grid`, by default those of the pixels."""

    def train(self, mode: bool = True) -> _GroupConv:
        """Switch the mode, and forget the kept weight."""
        self._kept.forget()
        return super().train(mode)

    def _convolve(self, x: Tensor) -> Tensor:
        """``[B, C_out, N_out, H', W']`` of ``[B, C_in * N_in, H, W]``."""
        weight = self._kept.get(self, self.weight)
        c, n = weight.shape[:2]
        bias = None if self.bias is None else self.bias.repeat_interleave(n)
        out = F.conv2d(x, weight.flatten(2, 3).flatten(0, 1), bias, padding=self.padding)
        return out.unflatten(1, (c, n))

    def _check_group(self, samples: GroupSamples) -> GroupSamples:
        if samples.group != self.kernel.group:
            raise GroupError(
                f"the samples are of {samples.group.name}, but the layer is of {self.kernel.group.name}; draw them from "
                "PolarSampler(layer.kernel.group)"
            )
        return samples

    def _missing(self) -> ModelError:
        return ModelError(
            f"{type(self).__name__} has no samples of {self.kernel.group.name} yet; call attach(...) first"
        )

    def _points(self, samples: GroupSamples, grid: Tensor | None) -> Tensor:
        """``h^-1 z`` for the samples and the positions ``[k, k, 2]``, in the dtype of the parameters, ``[N, k, k, 2]``."""
        grid = self.grid if grid is None else grid
        points = torch.einsum("nij,xyj->nxyi", samples.inverse, grid.to(samples.inverse))
        return points.to(self.kernel.net.weight)


def _fan_in(in_channels: int, kernel_size: int) -> int:
    """Number of terms of the sum over a kernel, after the check of its sizes."""
    if check_integer("kernel_size", kernel_size, 1) % 2 == 0:
        raise ShapeError(f"kernel_size = {kernel_size}: kernels need a middle pixel, so give an odd size")
    return check_integer("in_channels", in_channels, 1) * kernel_size**2


class LieLift(_GroupConv):
    """Lifting: images to fields on the group, ``out(x, h) = int f(y) k(h^-1 (y - x)) |det h|^-1 dy``.

    >>> from erlangen.groups import PolarSampler
    >>> lift = LieLift(SL(2), 1, 4).attach(PolarSampler(SL(2)).draw(6))
    >>> lift(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 4, 6, 16, 16])

    Args:
        group: H.
        in_channels, out_channels: of the image, and of the field.
        kernel_size: odd.
        padding: zeros around the image; keeps its size without it.
        bias: one number per output channel.
        kernel: other arguments of `GroupKernel`.

    Raises:
        ShapeError: an even kernel size. ErlangenError: a size that is not positive.
        GroupError: H does not act on the plane, or has no polar chart.
    """

    def __init__(
        self,
        group: LinearGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        *,
        padding: int | None = None,
        bias: bool = True,
        **kernel: object,
    ) -> None:
        fan_in = _fan_in(in_channels, kernel_size)
        net = GroupKernel(group, in_channels, out_channels, on_group=False, fan_in=fan_in, **kernel)  # pyright: ignore[reportArgumentType]
        super().__init__(net, kernel_size, padding, bias)
        self.samples: GroupSamples | None = None

    def attach(self, samples: GroupSamples) -> LieLift:
        """Use these elements of H from now on; returns the layer. Raises `GroupError` for those of another group."""
        self.samples = self._check_group(samples)
        self._kept.forget()
        return self

    def weight(self, grid: Tensor | None = None) -> Tensor:
        """``k(h^-1 z) |det h|^-1``: ``[C_out, N, C_in, 1, k, k]``. Raises `ModelError` without samples."""
        if self.samples is None:
            raise self._missing()
        values = self.kernel(self._points(self.samples, grid))
        volume = torch.linalg.det(self.samples.inverse).to(values)
        return torch.einsum("nxyoi,n->onixy", values, volume)[:, :, :, None]

    def forward(self, x: Tensor) -> Tensor:
        """Fields ``[B, out_channels, N, H', W']`` of images ``[B, in_channels, H, W]``.

        Raises:
            ModelError: no samples are attached.
            ShapeError: another number of dimensions or channels.
        """
        if x.ndim != 4 or x.shape[1] != self.kernel.shape[1]:
            raise ShapeError(f"x has shape {tuple(x.shape)}, but images [B, {self.kernel.shape[1]}, H, W] are needed")
        return self._convolve(x)


class LieConv(_GroupConv):
    """Group convolution, ``out(x, h) = int_H int f(y, h') k(h^-1 (y - x), h^-1 h') |det h'|^-1 dy dmu(h')``.

    The integral over H is the mean over the samples h' of the input. With ``measure="haar"`` they are weighted so that dmu is
    Haar measure, and the mean converges to an exactly equivariant map; the kernel then needs a finite `reach` in SL(2) and
    GL+(2), or the weights have no finite variance. With ``"proposal"``, as in Mironenco and
    Forré 2024, dmu is the law of the samples.

    >>> from erlangen.groups import PolarSampler
    >>> conv = LieConv(SL(2), 4, 8).attach(PolarSampler(SL(2)).draw(6))
    >>> conv(torch.zeros(2, 4, 6, 16, 16)).shape
    torch.Size([2, 8, 6, 16, 16])

    Args:
        group, in_channels, out_channels, kernel_size, padding, bias, kernel: as for `LieLift`.
        measure: "proposal" or "haar".

    Raises:
        ShapeError, ErlangenError, GroupError: as `LieLift`; also `GroupError` for Haar measure without `reach`.
        UnknownNameError: `measure` is not known.
    """

    def __init__(
        self,
        group: LinearGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        *,
        measure: Measure = "proposal",
        padding: int | None = None,
        bias: bool = True,
        **kernel: object,
    ) -> None:
        if measure not in get_args(Measure):
            raise UnknownNameError(f"measure = {measure!r}; known measures are {', '.join(get_args(Measure))}")
        fan_in = _fan_in(in_channels, kernel_size)
        net = GroupKernel(group, in_channels, out_channels, on_group=True, fan_in=fan_in, **kernel)  # pyright: ignore[reportArgumentType]
        super().__init__(net, kernel_size, padding, bias)
        if measure == "haar" and isinstance(group, SL | GLPlus) and net.reach is None:
            raise GroupError(f"measure = 'haar': {group.name} has infinite volume; give the kernel a finite reach=")
        self.measure: Measure = measure
        self.inputs: GroupSamples | None = None
        self.outputs: GroupSamples | None = None
        self._features = torch.empty(0)

    def attach(
        self, inputs: GroupSamples, outputs: GroupSamples | None = None, *, features: Tensor | None = None
    ) -> LieConv:
        """Use these elements of H for input and output, by default the same, as skip connections need; returns the layer.

        `features` ``[N_out, N_in, f]`` are what the kernel reads of all ``h^-1 h'``; computed here without them.

        Raises:
            GroupError: they are of another group.
            GroupElementError: a quotient ``h^-1 h'`` is too ill-conditioned for the chart.
        """
        self.inputs, self.outputs = self._check_group(inputs), self._check_group(outputs or inputs)
        self._features = self.kernel.relative(self.inputs, self.outputs) if features is None else features
        self._kept.forget()
        return self

    def weight(self, grid: Tensor | None = None) -> Tensor:
        """``k(h^-1 z, h^-1 h') |det h'|^-1 w(h') / N_in``: ``[C_out, N_out, C_in, N_in, k, k]``.

        The determinant belongs to the input: left Haar measure of ``R^2 x| H`` is ``|det h'|^-1 dy dmu(h')``. Raises
        `ModelError` without samples.
        """
        if self.inputs is None or self.outputs is None:
            raise self._missing()
        points = self._points(self.outputs, grid)[:, None]
        values = self.kernel(points, self._features[:, :, None, None].to(points))
        mass = torch.linalg.det(self.inputs.inverse) / len(self.inputs)
        if self.measure == "haar":
            mass = mass * self.inputs.log_weight.exp()
        return torch.einsum("nmxyoi,m->onimxy", values, mass.to(values))

    def forward(self, x: Tensor) -> Tensor:
        """Fields ``[B, out_channels, N_out, H', W']`` of fields ``[B, in_channels, N_in, H, W]``.

        Raises:
            ModelError: no samples are attached.
            ShapeError: another number of dimensions, channels or elements.
        """
        if self.inputs is None:
            raise self._missing()
        wanted = (self.kernel.shape[1], len(self.inputs))
        if x.ndim != 5 or x.shape[1:3] != wanted:
            raise ShapeError(f"x has shape {tuple(x.shape)}, but fields [B, {wanted[0]}, {wanted[1]}, H, W] are needed")
        return self._convolve(x.flatten(1, 2))


class LieProject(nn.Module):
    """Forget group and place: the maximum or mean of each channel of a field over both.

    The maximum over few random elements grows with their number, so that training and test should use similar ones.

    Raises:
        UnknownNameError: `kind` is not known.
    """

    def __init__(self, kind: Projection = "max") -> None:
        super().__init__()
        if kind not in get_args(Projection):
            raise UnknownNameError(f"kind = {kind!r}; known projections are {', '.join(get_args(Projection))}")
        self.kind: Projection = kind

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C]`` of fields ``[B, C, N, H, W]``; raises `ShapeError` for other numbers of dimensions."""
        if x.ndim != 5:
            raise ShapeError(f"x has shape {tuple(x.shape)}, but fields [B, C, N, H, W] are needed")
        return x.flatten(2).amax(-1) if self.kind == "max" else x.flatten(2).mean(-1)
