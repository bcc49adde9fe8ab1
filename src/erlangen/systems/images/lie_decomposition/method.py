"""A classifier of images that convolves over an affine group whose exponential map need not reach every element.

Mironenco and Forré (2024). Charts, samples and layers are `erlangen.groups.PolarChart`, `PolarSampler`, `erlangen.nn.LieLift`
and `LieConv`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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


class _Step(NamedTuple):
    """Elements of H before and behind the group convolution, and what the kernels of the two layers read of quotients."""

    samples: GroupSamples
    outputs: GroupSamples
    between: Tensor
    behind: Tensor


class LieGroupCNN(nn.Module):
    """Classifier on ``R^2 x| H``: lifting, a group convolution, a residual one, projection, a linear head.

    In train mode every forward pass draws new elements of H from torch's random numbers. In eval mode they are fixed:
    `eval_samples` ones from a seed of its own, or what `resample` has drawn. All layers have the same elements: ``h^-1 h'``
    then is the identity for one pair in N, with less noise from the others. With `fresh` the group convolution has elements
    of its own behind it, as the authors' layers have; the residual one keeps those that it meets, as a skip connection needs.
    After the lifting pictures are halved by averages.

    Args:
        group: H: SL(2), GL+(2), SO(2) or the trivial group of the plane.
        in_channels, classes: of the images, and of the answer.
        width: channels of the convolutions, and of the features before the head.
        samples, eval_samples: elements of H in each layer, in training and in eval mode.
        sampler: where they come from; `PolarSampler` of the group without it.
        fresh: draw other elements behind the group convolution than before it.
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
        fresh: bool = False,
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
        self.in_channels, self.fresh = in_channels, fresh
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
        self._ahead: list[_Step] = []
        self.resample(samples, generator=generator)

    def resample(self, count: int, *, generator: Generator | None = None) -> LieGroupCNN:
        """Draw `count` new elements of H, or twice as many where they are `fresh`; returns the network."""
        drawn = self.sampler.draw(count, generator=generator)
        return self.attach(drawn, self.sampler.draw(count, generator=generator) if self.fresh else drawn)

    def attach(self, samples: GroupSamples, outputs: GroupSamples | None = None) -> LieGroupCNN:
        """Use these elements of H in all layers, or `outputs` from the group convolution on; returns the network."""
        outputs = samples if outputs is None else outputs
        between = self.conv.kernel.relative(samples, outputs)
        behind = between if outputs is samples else self.residual.kernel.relative(outputs, outputs)
        return self._use(_Step(samples, outputs, between, behind))

    def _use(self, step: _Step) -> LieGroupCNN:
        self.lift.attach(step.samples)
        self.conv.attach(step.samples, step.outputs, features=step.between)
        self.residual.attach(step.outputs, features=step.behind)
        return self

    def _step(self) -> None:
        """Use the elements of the next training step. Those of many steps are made at once: one step's would cost as much."""
        if not self._ahead:
            before = self._sets()
            after = self._sets() if self.fresh else before
            between = self._quotients(before, after)
            behind = self._quotients(after, after) if self.fresh else between
            self._ahead = [_Step(*one) for one in zip(before, after, between, behind, strict=True)]
        self._use(self._ahead.pop())

    def _sets(self) -> list[GroupSamples]:
        """Elements of `AHEAD` steps."""
        many = self.sampler.draw(AHEAD * self.samples)
        # Every AHEAD-th of equidistant rotations, which are in order, are equidistant over the same range.
        return [many[start::AHEAD] for start in torch.randperm(AHEAD).tolist()]

    def _quotients(self, inputs: list[GroupSamples], outputs: list[GroupSamples]) -> Tensor:
        """What kernels read of all ``h^-1 h'`` of every step, ``[AHEAD, N, N, f]``."""
        inverse, g = torch.stack([one.inverse for one in outputs]), torch.stack([one.g for one in inputs])
        return self.conv.kernel.features(inverse[:, :, None] @ g[:, None])

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
