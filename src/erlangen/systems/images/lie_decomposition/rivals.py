"""The plan of the network with free kernels and no group, and with the matrix logarithm in place of the chart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import ShapeError, check_integer
from erlangen.groups import SL
from erlangen.nn import GroupKernel
from erlangen.systems.images.lie_decomposition.method import LieGroupCNN, check_images, class_head, uniform_conv


class PlainCNN(nn.Module):
    """The plan of `LieGroupCNN` with free kernels and no group: the baseline. Arguments as there.

    Raises:
        ErlangenError: a size that is not positive.
        ShapeError: an even kernel size.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 10,
        *,
        width: tuple[int, int] = (20, 64),
        kernel_size: int = 5,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        c, features = (check_integer("width", size, 1) for size in width)
        if check_integer("kernel_size", kernel_size, 1) % 2 == 0:
            raise ShapeError(f"kernel_size = {kernel_size}: kernels need a middle pixel, so give an odd size")
        self.in_channels = check_integer("in_channels", in_channels, 1)
        sizes = ((in_channels, c), (c, c), (c, c))
        self.convs = nn.ModuleList(uniform_conv(a, b, kernel_size, generator) for a, b in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for _ in range(3))
        self.mix = uniform_conv(c, features, 1, generator)
        self.head = class_head(features, classes, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, in_channels, H, W]``, both sides at least 2."""
        check_images(x, self.in_channels)
        x = F.avg_pool2d(F.gelu(self.norms[0](self.convs[0](x))), 2)
        x = F.gelu(self.norms[1](self.convs[1](x)))
        x = x + F.gelu(self.norms[2](self.convs[2](x)))
        return self.head(F.gelu(self.mix(x)).flatten(2).amax(-1))


# --- the logarithm ---------------------------------------------------------------------------------------------------
def sl2_log(g: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates ``[..., 3]`` of the principal logarithm in SL(2), in the basis of its algebra, and whether there is one.

    ``log g = (g - t) a`` with t half the trace, a the angle over its sine, or in the hyperbolic case the length over its sinh.
    Zeros where no real matrix has the exponential g: t at most -1; of these -1 itself, which no draw hits, has one.
    """
    t = g.diagonal(dim1=-2, dim2=-1).sum(-1) / 2
    exists = t > -1
    angle, length = t.clamp(-1, 1).acos(), t.clamp(min=1).acosh()
    a = torch.where(t < 1, angle / angle.sin().clamp(min=1e-300), length / length.sinh().clamp(min=1e-300))
    a = torch.where((t - 1).abs() < 1e-12, 1.0, a)
    log = (g - t[..., None, None] * torch.eye(2, dtype=g.dtype)) * a[..., None, None]
    coordinates = torch.einsum("dij,...ij->...d", SL(2).lie_algebra.to(log), log)
    return torch.where(exists[..., None], coordinates, 0.0), exists


class PartialKernel(GroupKernel):
    """A `GroupKernel` on SL(2) that leaves pairs whose quotient has no logarithm out of the mean over samples.

    With `logarithm` it reads the coordinates of the logarithm, as networks before this paper, and not those of the polar chart.
    That of a rotation is divided by half a turn, so that frequencies in it are about those of its cosine and sine.
    """

    def __init__(self, in_channels: int, out_channels: int, *, logarithm: bool, **options: Any) -> None:
        super().__init__(SL(2), in_channels, out_channels, on_group=True, periodic=not logarithm, **options)
        self.logarithm = logarithm

    def features(self, h: Tensor) -> Tensor:
        """What the network reads of quotients ``[..., N_in, 2, 2]``, and last their share in the mean: ``[..., N_in, f + 1]``."""
        a, exists = sl2_log(h)
        a = torch.cat([a[..., :2], a[..., 2:] / (torch.pi * 2**0.5)], -1) if self.logarithm else super().features(h)
        known = exists.to(a)
        share = known / known.mean(-1, keepdim=True).clamp(min=1e-9)
        return torch.cat([a, share[..., None]], -1)

    def forward(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """As `GroupKernel`, times the share."""
        assert features is not None
        return super().forward(z, features[..., :-1]) * features[..., -1, None, None]


class PartialCNN(LieGroupCNN):
    """`LieGroupCNN` on SL(2) with kernels as `PartialKernel`: by the logarithm, or by the chart where there is a logarithm."""

    def __init__(
        self, *, logarithm: bool, kernel_size: int = 5, hidden: tuple[int, ...] = (60, 60), **options: Any
    ) -> None:
        super().__init__(SL(2), kernel_size=kernel_size, hidden=hidden, **options)
        for layer in (self.conv, self.residual):
            c_out, c_in = layer.kernel.shape
            kept: dict[str, Any] = {key: options[key] for key in ("omega", "mask", "generator") if key in options}
            kept |= {"hidden": hidden, "fan_in": c_in * kernel_size**2}
            layer.kernel = PartialKernel(c_in, c_out, logarithm=logarithm, **kept)
        self.resample(self.samples)
