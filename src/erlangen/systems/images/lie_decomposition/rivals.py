"""The plan of the network with free kernels and no group."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import ShapeError, check_integer
from erlangen.systems.images.lie_decomposition.method import check_images, class_head, uniform_conv


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
