"""Training BatchNorm and only BatchNorm: residual networks whose convolutions stay as they were drawn.

Frankle, Schwab and Morcos (ICLR 2021). Every channel keeps its random feature; what is trained is how much of it counts, and
from where on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal

import torch
import torch.fx
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_integer
from erlangen.learn import FreezeReport, freeze, train_entries

Gamma = Literal["uniform", "fixed", "oneone", "positivenegative"]
Regime = Literal[
    "all", "batchnorm", "batchnorm and output", "output", "random weights", "all but batchnorm", "shortcuts"
]

BatchNorm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage] - torch has no other name for all of them

START: dict[str, tuple[float, float, float]] = {
    "uniform": (0.0, 1.0, 0.0),
    "fixed": (1.0, 1.0, 0.0),
    "oneone": (1.0, 1.0, 1.0),
    "positivenegative": (-1.0, 1.0, 0.0),
}
"""Range of gamma and value of beta at the start."""


class ResNet(nn.Module):
    """The residual network of the paper, ``ResNet-N-W`` with N = 6 D + 2 layers, for small pictures.

    >>> ResNet(14, 16)(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    A convolution, three stages of D blocks with W, 2 W and 4 W channels, the mean over pixels, a linear output. Convolutions have
    no bias; batch normalisation comes before the ReLU. Stages 2 and 3 begin with a stride of 2 and a 1 x 1 convolution with a
    batch normalisation on the shortcut.

    Args:
        depth: N = 8, 14, 20, ...
        width: W.
        inputs: channels of the pictures.
        classes: outputs.
        gamma: how scales are drawn, see `START`; shifts begin at zero (at one with "oneone").

    Raises:
        ErlangenError: a depth that is not 6 D + 2, or a size that is not positive; in train mode, a single picture that becomes a
            single pixel, which has no variance.
        ShapeError: pictures of another form.
    """

    def __init__(
        self, depth: int = 14, width: int = 16, *, inputs: int = 3, classes: int = 10, gamma: Gamma = "uniform"
    ) -> None:
        super().__init__()
        if check_integer("depth", depth, 8) % 6 != 2:
            raise ErlangenError(f"depth = {depth}: give 6 D + 2, which is 8, 14, 20, 26, ...")
        if gamma not in START:
            raise UnknownNameError(f"gamma = {gamma!r}: choose {', '.join(map(repr, START))}")
        for name, value, least in (("width", width, 1), ("inputs", inputs, 1), ("classes", classes, 2)):
            check_integer(name, value, least)
        self.conv, self.norm = nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        before = width
        for stage in range(3):
            for first in [True] + [False] * ((depth - 2) // 6 - 1):
                after = width * 2**stage
                blocks.append(Block(before, after, stride=2 if first and stage else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(before, classes)
        low, high, beta = START[gamma]
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, low, high) if low < high else nn.init.constant_(module.weight, low)
                nn.init.constant_(module.bias, beta)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the output layer reads, ``[B, 4 W]``."""
        if not isinstance(x, torch.fx.Proxy):  # what follows the graph has no values
            self._check(x)
        return adaptive_avg_pool2d(self.blocks(relu(self.norm(self.conv(x)))), 1).flatten(1)

    def _check(self, x: Tensor) -> None:
        inputs = self.conv.in_channels
        if x.ndim != 4 or x.shape[1] != inputs or not x.shape[2] * x.shape[3]:
            raise ShapeError(f"x has shape {tuple(x.shape)}; give pictures [B, {inputs}, height, width]")
        if self.training and len(x) == 1 and max(x.shape[2:]) <= 4:  # two strides of 2 leave one pixel
            raise ErlangenError(
                f"x has shape {tuple(x.shape)}: in train mode the last stage has one value for each channel, whose variance is "
                "zero; give more pictures, larger ones, or call eval()"
            )


class Block(nn.Module):
    """Two 3 x 3 convolutions, each with its batch normalisation, and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(before, after, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(after))

    @override
    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


# --- regimes ---------------------------------------------------------------------------------------------------------
def train_only(
    model: nn.Module, regime: Regime, *, output: str = "output.*", generator: Generator | None = None
) -> FreezeReport:
    """Freeze what a regime of the paper does not train, and say what it trains.

    >>> print(train_only(ResNet(14, 16), "batchnorm"))  # doctest: +ELLIPSIS
    1,120 of 175,258 parameters are trained (0.64%): norm.weight, ...

    Args:
        model: any network with batch normalisation; changed in place. Make the optimizer afterwards;
            `erlangen.learn.check_optimizer` tells one that was made before.
        regime: "batchnorm" trains all scales and shifts, and not the output layer; "random weights" trains as many numbers,
            two random entries of every output channel of every convolution; "shortcuts" the normalisations of shortcuts, as
            `ResNet` names them (``*shortcut.1.*``).
        output: pattern of the names of the output layer.
        generator: draws the entries of "random weights".

    Raises:
        ErlangenError: there is no batch normalisation with scales and shifts (the norm layers that there are, are named), or
            one that keeps no running statistics; no convolution for "random weights".
        UnknownNameError: no such regime, or no parameter of that output.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if not norms or not all(module.affine for module in norms):
        kinds = sorted({type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__}) or ["none"]
        what = "batch normalisations without affine=True" if norms else "no batch normalisation"
        raise ErlangenError(
            f"model has {what} (norm layers: {', '.join(kinds)}); take the network before they are fused into convolutions, or "
            "for other kinds use erlangen.learn.freeze(model, train=NORMS)"
        )
    untracked = [name for name, m in model.named_modules() if isinstance(m, BatchNorm) and not m.track_running_stats]
    if untracked:
        raise ErlangenError(
            f"{untracked[0] or 'model'} has track_running_stats=False: in eval mode what it answers would depend on the batch; "
            "make it with track_running_stats=True"
        )
    if regime == "all":
        return freeze(model, train="*")
    if regime == "batchnorm":
        return freeze(model, train=BatchNorm)
    if regime == "batchnorm and output":
        return freeze(model, train=(BatchNorm, output))
    if regime == "output":
        return freeze(model, train=output)
    if regime == "shortcuts":
        return freeze(model, train="*shortcut.1.*")
    if regime == "all but batchnorm":
        owned = {id(p) for module in norms for p in module.parameters()}
        return freeze(model, train=lambda _, parameter: id(parameter) not in owned)
    if regime == "random weights":
        return train_entries(model, random_masks(model, generator=generator))
    raise UnknownNameError(
        f"regime = {regime!r}: choose 'all', 'batchnorm', 'batchnorm and output', 'output', 'random weights', "
        "'all but batchnorm' or 'shortcuts'"
    )


def random_masks(model: nn.Module, per_channel: int = 2, *, generator: Generator | None = None) -> dict[str, Tensor]:
    """So many random entries of every output channel of every convolution, as booleans by the name of the weight.

    Raises:
        ErlangenError: no convolution (`Conv1d`, `Conv2d`, `Conv3d`), or one with fewer weights for a channel.
    """
    check_integer("per_channel", per_channel, 1)
    masks: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            weight = module.weight
            if weight[0].numel() < per_channel:
                raise ErlangenError(f"per_channel = {per_channel}: {name} has {weight[0].numel()} weights per channel")
            scores = torch.rand(len(weight), weight[0].numel(), generator=generator)
            chosen = scores.topk(per_channel, dim=1).indices
            masks[f"{name}.weight"] = (
                torch.zeros_like(scores, dtype=torch.bool).scatter(1, chosen, True).view_as(weight)
            )
    if not masks:
        raise ErlangenError("model has no convolution, so there are no random weights of its channels to train")
    return masks


# --- what was learned ------------------------------------------------------------------------------------------------
def scales(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """All scales gamma, by name."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm) and module.affine:
            yield name, module.weight


def disabled(model: nn.Module, threshold: float = 0.01) -> float:
    """The share of features whose scale is smaller than a threshold; scales uniform from 0 to 1 begin with that very share.

    Raises:
        ErlangenError: no scales, or a threshold that is not positive.
    """
    _check_threshold(threshold)
    found = [gamma.detach().abs() for _, gamma in scales(model)]
    if not found:
        raise ErlangenError("model has no batch normalisation with scales; nothing in it can be switched off by them")
    gammas = torch.cat(found)
    return float((gammas < threshold).double().mean())


def switched_off(model: nn.Module, threshold: float = 0.01) -> nn.Module:
    """A copy whose scales below the threshold are zero.

    Raises:
        ErlangenError: a threshold that is not positive.
    """
    _check_threshold(threshold)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for _, gamma in scales(twin):
            gamma[gamma.abs() < threshold] = 0
    return twin


def _check_threshold(threshold: float) -> None:
    if not threshold > 0:
        raise ErlangenError(f"threshold = {threshold}; give a positive number")


@torch.no_grad()
def silent(model: ResNet, x: Tensor, share: float = 0.99) -> float:
    """The share of channels that are zero behind their ReLU at more than this share of all pixels and samples.

    Counted are channels with a ReLU of their own: behind the first normalisation, and inside of blocks. Sums with a shortcut
    are not. The network runs in the mode that it is in.

    Raises:
        ErlangenError: a share outside of 0 to 1, or no picture.
    """
    if not 0 <= share <= 1:
        raise ErlangenError(f"share = {share}; give a number from 0 to 1")
    if not len(x):
        raise ErlangenError(f"x has shape {tuple(x.shape)}; silence of no picture is not defined")
    quiet: list[Tensor] = []

    def look(_: nn.Module, __: object, out: Tensor) -> None:
        quiet.append((relu(out) == 0).double().mean((0, 2, 3)) > share)

    norms = [model.norm] + [block.norm1 for block in model.blocks if isinstance(block, Block)]
    handles = [norm.register_forward_hook(look) for norm in norms]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return float(torch.cat(quiet).double().mean())


def count_scales_and_shifts(depth: int, width: int) -> int:
    """2 (W + 2 D (W + 2 W + 4 W) + 2 W + 4 W): the closed form of what "batchnorm" trains."""
    return 2 * (width + 2 * ((depth - 2) // 6) * 7 * width + 6 * width)
