"""A classifier of images that convolves over an affine group whose exponential map need not reach every element.

Mironenco and Forré (2024). Charts, samples and layers are `erlangen.groups.PolarChart`, `PolarSampler`, `erlangen.nn.LieLift`
and `LieConv`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import ShapeError, check_floating, check_integer
from erlangen.groups import GroupSamples, LinearGroup, PolarSampler, SemidirectProduct
from erlangen.nn import LieConv, LieLift, LieProject
from erlangen.nn.images.group_kernel import Mask
from erlangen.nn.images.lie_conv import Projection
from erlangen.symmetry import Symmetry

EVAL_SEED = 0
"""Seed of the elements of H that a network in eval mode uses."""

AHEAD = 64
"""Training steps whose elements of H are drawn at once."""


class LieGroupCNN(nn.Module):
    """Classifier on ``R^2 x| H``: lifting, a group convolution, a residual one, projection, a linear head.

    In train mode every forward pass draws new elements of H from torch's random numbers. In eval mode they are fixed:
    `eval_samples` ones from a seed of its own, or what `resample` has drawn. All layers have the same elements: a skip
    connection needs that, and ``h^-1 h'`` then is the identity for one pair in N, with less noise from the others. After the
    lifting pictures are halved by averages.

    Args:
        group: H: SL(2), GL+(2), SO(2) or the trivial group of the plane.
        in_channels, classes: of the images, and of the answer.
        width: channels of the convolutions, and of the features before the head.
        samples, eval_samples: elements of H in each layer, in training and in eval mode.
        sampler: where they come from; `PolarSampler` of the group without it.
        kernel_size: odd.
        projection: "max" or "mean" over group and place.
        hidden, omega, mask: of the kernels, `GroupKernel`.
        generator: source of the initial parameters.

    Attributes:
        symmetry: what holds in the limit of many samples and fine pixels: the answer is invariant.

    Raises:
        ErlangenError: fewer than one sample, or another bad size. Others as `LieLift` and `LieConv`.
    """

    def __init__(
        self,
        group: LinearGroup,
        in_channels: int = 1,
        classes: int = 10,
        *,
        width: tuple[int, int] = (12, 64),
        samples: int = 6,
        eval_samples: int = 12,
        sampler: PolarSampler | None = None,
        kernel_size: int = 5,
        projection: Projection = "max",
        hidden: tuple[int, ...] = (60, 60),
        omega: float = 10.0,
        mask: Mask | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.samples = check_integer("samples", samples, 1)
        self.eval_samples = check_integer("eval_samples", eval_samples, 1)
        self.in_channels = in_channels
        self.sampler = sampler or PolarSampler(group)
        c, features = (check_integer("width", size, 1) for size in width)
        check_integer("classes", classes, 1)
        options = {"hidden": hidden, "omega": omega, "mask": mask, "generator": generator, "bias": False}
        self.lift = LieLift(group, in_channels, c, kernel_size, **options)  # pyright: ignore[reportArgumentType]
        self.conv = LieConv(group, c, c, kernel_size, **options)  # pyright: ignore[reportArgumentType]
        self.residual = LieConv(group, c, c, kernel_size, **options)  # pyright: ignore[reportArgumentType]
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for _ in range(3))
        self.mix = uniform_conv(c, features, 1, generator)
        self.project = LieProject(projection)
        self.head = class_head(features, classes, generator)
        self.symmetry = Symmetry(SemidirectProduct(group), input="image", output="invariant")
        self._ahead: list[tuple[GroupSamples, Tensor]] = []
        self.resample(samples, generator=generator)

    def resample(self, count: int, *, generator: Generator | None = None) -> LieGroupCNN:
        """Draw `count` new elements of H; returns the network."""
        return self.attach(self.sampler.draw(count, generator=generator))

    def attach(self, samples: GroupSamples, features: Tensor | None = None) -> LieGroupCNN:
        """Use these elements of H in all layers; returns the network. `features`: as in `LieConv.attach`."""
        features = self.conv.kernel.relative(samples, samples) if features is None else features
        self.lift.attach(samples)
        for layer in (self.conv, self.residual):
            layer.attach(samples, features=features)
        return self

    def _step(self) -> None:
        """Use the elements of the next training step. Those of many steps are made at once: one step's would cost as much."""
        if not self._ahead:
            many = self.sampler.draw(AHEAD * self.samples)
            # Every AHEAD-th of equidistant rotations, which are in order, are equidistant over the same range.
            sets = [many[start::AHEAD] for start in torch.randperm(AHEAD).tolist()]
            g, inverse = (torch.stack([getattr(one, key) for one in sets]) for key in ("g", "inverse"))
            quotients = inverse[:, :, None] @ g[:, None]
            self._ahead = list(zip(sets, self.conv.kernel.features(quotients), strict=True))
        self.attach(*self._ahead.pop())

    def train(self, mode: bool = True) -> LieGroupCNN:
        """Switch the mode, and forget elements drawn ahead; eval mode fixes `eval_samples` ones."""
        super().train(mode)
        self._ahead.clear()
        if not mode:
            self.resample(self.eval_samples, generator=Generator().manual_seed(EVAL_SEED))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, in_channels, H, W]``, both sides at least 2.

        Raises:
            ShapeError, DtypeError: other images.
        """
        check_images(x, self.in_channels)
        if self.training:
            self._step()
        x = halved_fields(F.gelu(self.norms[0](self.lift(x))))
        x = F.gelu(self.norms[1](self.conv(x)))
        x = x + F.gelu(self.norms[2](self.residual(x)))
        return self.head(self.project(F.gelu(self.mix(x.flatten(2, 3))).unflatten(2, x.shape[2:4])))


def check_images(x: Tensor, channels: int) -> None:
    """Raise unless x are images ``[B, channels, H, W]`` of floating numbers, with sides of at least 2."""
    if x.dim() != 4 or x.shape[1] != channels or min(x.shape[2:]) < 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; pass images [B, {channels}, H, W], both sides at least 2")
    check_floating(x, "x")


def halved_fields(x: Tensor) -> Tensor:
    """Fields of half the height and width."""
    return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


def uniform_conv(a: int, b: int, kernel_size: int, generator: Generator | None) -> nn.Module:
    """A convolution of pixels from a to b channels that keeps the spread of what it reads."""
    conv = nn.utils.skip_init(nn.Conv2d, a, b, kernel_size, padding=kernel_size // 2, bias=False)
    bound = math.sqrt(3 / (a * kernel_size**2))
    for parameter in conv.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return conv


def class_head(features: int, classes: int, generator: Generator | None) -> nn.Sequential:
    """Logits of normalised features."""
    linear = nn.utils.skip_init(nn.Linear, features, classes)
    for parameter in linear.parameters():
        nn.init.uniform_(parameter, -(features**-0.5), features**-0.5, generator=generator)
    return nn.Sequential(nn.LayerNorm(features), linear)
