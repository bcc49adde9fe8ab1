"""What is measured of training BatchNorm alone: what stays frozen, symmetries of channels, digits by six regimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, pad, relu

import erlangen as er
from erlangen.data import affine_distortion, digits
from erlangen.measure import accuracy
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Table,
    Training,
    compare,
    exact,
    largest,
    number,
    properties,
)
from erlangen.systems.learning.batchnorm_only.method import (
    Block,
    ResNet,
    disabled,
    random_masks,
    silent,
    switched_off,
    train_only,
)
from erlangen.systems.learning.batchnorm_only.rivals import SHALLOW, Trained
from erlangen.training import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        width: W of all networks.
        shallow, deep: their depths N.
        side: of the pictures, pixels.
        digits, textured: plain digits, and turned ones on a background.
    """

    seeds: int
    width: int
    shallow: int
    deep: int
    side: int
    digits: Sizes
    textured: Sizes
    epochs: int


BUDGETS = {
    "smoke": Budget(1, 2, 8, 14, 8, Sizes(100, 20, 50), Sizes(100, 20, 50), 1),
    "full": Budget(3, 8, 14, 26, 8, Sizes(3000, 500, 2000), Sizes(3000, 500, 2000), 15),
    "paper": Budget(5, 16, 110, 866, 28, Sizes(7500, 500, 2000), Sizes(7500, 500, 2000), 160),
}


# --- what holds exactly ----------------------------------------------------------------------------------------------
def _pictures(run: Run[Budget], count: int = 64) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=run.generator())


def _net(run: Run[Budget], **options: Any) -> ResNet:
    torch.manual_seed(run.seed)
    return ResNet(8, 4, inputs=1, **options)


def _moved(run: Run[Budget], regime: Any) -> tuple[ResNet, dict[str, Tensor], dict[str, Tensor]]:
    """A network after a short training under a regime with momentum and strong decay, and its weights before and after."""
    net = _net(run)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    train_only(net, regime, generator=run.generator())
    x, y = _pictures(run), torch.randint(10, (64,), generator=run.generator(1))
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
    fit(net, x, y, loss=cross_entropy, epochs=2, batch_size=16, optimizer=sgd, progress=False)
    for module in net.modules():
        if hasattr(module, "parametrizations"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    return net, before, {name: p.detach() for name, p in net.named_parameters()}


@exact(tol=0)
def frozen_tensors_stay(run: Run[Budget]) -> float:
    """How many entries of frozen tensors change, or of trained tensors do not all, over four regimes, with decay and momentum."""
    wrong = 0
    for regime in ("batchnorm", "batchnorm and output", "output", "all but batchnorm"):
        net, before, after = _moved(run, regime)
        trained = set(train_only(net, regime).trained)
        for name, old in before.items():
            same = bool(torch.equal(old, after[name]))
            wrong += int((old != after[name]).sum()) if name not in trained else int(same)
    return wrong


@exact(tol=0)
def entries_outside_of_masks_stay(run: Run[Budget]) -> float:
    """How many output channels do not have exactly two changed entries, and tensors without a mask any, with random weights."""
    _, before, after = _moved(run, "random weights")
    masks, wrong = random_masks(_net(run), generator=run.generator()), 0
    for name, old in before.items():
        changed = old != after[name]
        if name not in masks:
            wrong += int(changed.any())
            continue
        wrong += int((changed.flatten(1).sum(1) != 2).sum()) + int((changed & ~masks[name]).sum())
    return wrong


def _count(depth: int) -> float:
    with torch.device("meta"):
        return sum(train_only(ResNet(depth, 16), "batchnorm").trained.values())


@number(1120)
def scales_and_shifts_of_resnet_14(run: Run[Budget]) -> float:
    """Parameters that are trained of ResNet-14-16 when only batch normalisation is."""
    return _count(14)


@number(8288)
def scales_and_shifts_of_resnet_110(run: Run[Budget]) -> float:
    """Parameters that are trained of ResNet-110-16 when only batch normalisation is."""
    return _count(110)


@number(64736)
def scales_and_shifts_of_resnet_866(run: Run[Budget]) -> float:
    """Parameters that are trained of ResNet-866-16 when only batch normalisation is."""
    return _count(866)


@exact(tol=1e-10)
def scales_of_channels_do_not_matter(run: Run[Budget]) -> float:
    """Largest change of the output in train mode when kernels before normalisations (eps 1e-30) are multiplied by 0.1 to 10."""
    net, x = _net(run).double(), _pictures(run).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30  # torch asks for a positive one
    before = net(x)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                factors = 10 ** (2 * torch.rand(len(module.weight), generator=run.generator()) - 1)
                module.weight.mul_(factors.double()[:, None, None, None])
    return float((net(x) - before).detach().abs().max())


@exact(tol=1e-10)
def signs_of_channels_are_signs_of_scales(run: Run[Budget]) -> float:
    """Largest change of the output in train mode when kernels and the scales behind them change their signs together."""
    net, x = _net(run).double(), _pictures(run).double()
    before = net(x)
    with torch.no_grad():
        for block in net.blocks:
            assert isinstance(block, Block)
            block.conv1.weight[::2].mul_(-1)
            block.norm1.weight[::2].mul_(-1)
    return float((net(x) - before).detach().abs().max())


@exact(tol=1e-10)
def channels_may_be_renamed(run: Run[Budget]) -> float:
    """Worst relative change of the function under the group of the weights that `weight_streams` finds, in eval mode, float64."""
    net, x = _net(run).double(), _pictures(run, 8).double()
    net(x)
    net.eval()
    streams, worst = er.actions.weight_streams(net, x), 0.0
    with torch.no_grad():
        before = net(x)
        for g in streams.group.sample(4, generator=run.generator()):
            worst = largest(worst, float((streams.transformed(net, g.double())(x) - before).norm() / before.norm()))
    return worst


@exact(tol=0)
def closed_channels_are_dead(run: Run[Budget]) -> float:
    """Largest output of a channel with gamma = 0 and beta <= 0 behind its ReLU, and largest gradient of its kernel."""
    net, x = _net(run), _pictures(run)
    block = net.blocks[0]
    assert isinstance(block, Block)
    with torch.no_grad():
        block.norm1.weight[1], block.norm1.bias[1] = 0, -0.5
    seen: list[Tensor] = []
    handle = block.norm1.register_forward_hook(lambda _, __, out: seen.append(relu(out[:, 1])))
    net(x).square().sum().backward()
    handle.remove()
    gradient = block.conv1.weight.grad
    assert gradient is not None
    return max(float(seen[0].detach().abs().max()), float(gradient[1].abs().max()))


@exact(tol=1e-6)
def train_mode_is_eval_mode_of_the_batch(run: Run[Budget]) -> float:
    """Largest difference of the output in train mode to that in eval mode with the batch's own statistics, float64."""
    net, x = _net(run).double(), _pictures(run).double()
    with torch.no_grad():
        trained = net(x)
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        handles = [norm.register_forward_pre_hook(_remember) for norm in norms]
        net(x)
        for handle in handles:
            handle.remove()
        return float((net.eval()(x) - trained).abs().max())


def _remember(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    norm.momentum = 0.0
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    norm.running_var.copy_(inputs[0].var((0, 2, 3), correction=0))


PROPERTIES = (
    frozen_tensors_stay,
    entries_outside_of_masks_stay,
    scales_and_shifts_of_resnet_14,
    scales_and_shifts_of_resnet_110,
    scales_and_shifts_of_resnet_866,
    scales_of_channels_do_not_matter,
    signs_of_channels_are_signs_of_scales,
    channels_may_be_renamed,
    closed_channels_are_dead,
    train_mode_is_eval_mode_of_the_batch,
)


# --- digits ----------------------------------------------------------------------------------------------------------
def draws(run: Run[Budget], sizes: Sizes, textured: bool) -> Callable[[int], Split]:
    """Digits made small; "textured" ones are turned by up to 30 degrees and lie on stripes. Those of the test are held out."""
    sizes, side = run.sizes(sizes), run.budget.side

    def draw(seed: int) -> Split:
        g = Generator().manual_seed(seed)
        parts: list[tuple[Tensor, Tensor]] = []
        for name, count in (("train", sizes.train + sizes.validation), ("test", sizes.test)):
            x, y, _ = digits("train" if name == "train" else "test")
            order = torch.randperm(len(x), generator=g)[:count]
            parts.append((made(x[order], side, textured, g), y[order]))
        (x, y), test = parts
        first, rest = slice(sizes.train), slice(sizes.train, None)
        return Split((x[first], y[first]), (x[rest], y[rest]), test)

    return draw


def made(x: Tensor, side: int, textured: bool, generator: Generator) -> Tensor:
    """Pictures ``[N, 1, side, side]``, less the mean and over the spread that pixels of MNIST have at full size."""
    if textured:
        x = affine_distortion(x, size=x.shape[-1], degrees=30, shear=0, scale=(1, 1), generator=generator)
        phase, turn = (torch.rand(len(x), 1, 1, 1, generator=generator) * 6.3 for _ in range(2))
        at = torch.linspace(-1, 1, x.shape[-1])
        x = torch.maximum(x, 0.25 + 0.25 * torch.sin(8 * (turn.cos() * at + turn.sin() * at[:, None]) + phase))
    return (adaptive_avg_pool2d(x, side) - 0.13) / 0.31


def shifted(x: Tensor, y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """The batch moved by up to an eighth of its side along each axis, zeros (the value of the background) moving in."""
    most = max(1, x.shape[-1] // 8)
    down, right = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    wide = pad(x, (most,) * 4, value=float(x.min()))
    return wide[..., down : down + x.shape[-2], right : right + x.shape[-1]], y


def stepped(progress: float) -> float:
    """A tenth from half of the training on, a hundredth from three quarters on: epochs 80 and 120 of 160."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


@torch.no_grad()
def row(model: ResNet, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
    """Right answers; features with a scale below 0.01, silent ones, and what zeroing the former changes."""
    model.eval()
    right = accuracy(model, x, y)
    return {
        "accuracy": right,
        "share of scales below 0.01": disabled(model),
        "share of silent channels": silent(model, x[:500]),
        "points changed without them": abs(accuracy(switched_off(model).eval(), x, y) - right),
    }


def networks(run: Run[Budget], name: str, makes: Mapping[str, Trained], sizes: Sizes, textured: bool = False) -> Table:
    """All regimes with one recipe: the authors tune it for none."""
    sgd: Any = partial(torch.optim.SGD, momentum=0.9)
    how = Training(
        cross_entropy, run.budget.epochs, 64, rates=(0.1,), optimizer=sgd, decay=1e-4, schedule=stepped, widen=0
    )
    rivals = {key: Rival(make, transform=shifted) for key, make in makes.items()}
    if "batchnorm" in makes and not textured:
        rivals["batchnorm, no decay"] = Rival(makes["batchnorm"], transform=shifted, fit=_without_decay)
    return compare(name, rivals, draws(run, sizes, textured), how, row, best="accuracy", run=run)


def _without_decay(model: nn.Module, split: Split, rate: float, training: Training, generator: Generator) -> None:
    replace(training, decay=0.0).fit(model, split, rate, generator, transform=shifted)


def digits_part(run: Run[Budget]) -> Part:
    """Plain digits, all regimes of the shallow network, three of the deep one."""
    b = run.budget
    makes = {name: Trained(regime, b.shallow, b.width, gamma) for name, (regime, gamma) in SHALLOW.items()}
    makes |= {
        f"deep, {name}": Trained(SHALLOW[name][0], b.deep, b.width)
        for name in ("batchnorm", "output", "random weights")
    }
    table = networks(run, "digits", makes, b.digits)
    return table.part(
        table.beats(
            "batchnorm-beats-as-many-random-weights",
            "batchnorm",
            ["random weights", "random weights, gamma 1"],
            "accuracy",
            published="far above an equal number of random parameters",
        ),
        table.beats(
            "deep-batchnorm-beats-as-many-random-weights", "deep, batchnorm", "deep, random weights", "accuracy"
        ),
        table.beats("deep-batchnorm-beats-output", "deep, batchnorm", "deep, output", "accuracy"),
        table.not_worse(
            "deeper-is-better",
            "deep, batchnorm",
            "batchnorm",
            "accuracy",
            published="48 % for ResNet-14, 69.5 % for ResNet-110, 82 % for ResNet-866 on CIFAR-10",
        ),
        table.beats("all-beats-batchnorm", "all", "batchnorm", "accuracy"),
        table.bound(
            "small-scales-do-not-matter",
            "Digits: points of accuracy by which a network with only batch normalisation trained changes when scales below 0.01 "
            "are set to zero.",
            table["batchnorm", "points changed without them"],
            at_most=0.5,
        ),
    )


def textured_part(run: Run[Budget]) -> Part:
    """The same digits turned, on stripes."""
    b = run.budget
    names = ("all", "batchnorm", "output", "random weights")
    makes = {name: Trained(SHALLOW[name][0], b.shallow, b.width) for name in names}
    table = networks(run, "textured", makes, b.textured, textured=True)
    return table.part(
        table.beats("textured-batchnorm-beats-as-many-random-weights", "batchnorm", "random weights", "accuracy"),
        table.beats("textured-all-beats-batchnorm", "all", "batchnorm", "accuracy"),
    )


# --- all -------------------------------------------------------------------------------------------------------------
ELSEWHERE = (
    Claim.not_measurable(
        "cifar-10",
        "Accuracy of ResNet-866 on CIFAR-10 with only batch normalisation trained.",
        published="82 %",
        reason="160 epochs of 866 layers on 50,000 pictures need a GPU",
    ),
    Claim.not_measurable(
        "a-third-of-features",
        "Share of features with a scale below 0.01 after training only batch normalisation.",
        published="around a third",
        reason="it is said of deep networks after 160 epochs; the share here is a column of the table",
    ),
    Claim.not_measurable(
        "imagenet",
        "Top-5 accuracy on ImageNet with only batch normalisation trained.",
        published="32 %",
        reason="the pictures are under a licence and need a GPU",
    ),
)


def experiment(run: Run[Budget]) -> Result:
    """Properties, plain and textured digits."""
    return Result.of(properties(run, *PROPERTIES), digits_part(run), textured_part(run), Part(claims=ELSEWHERE))


def figure(result: Result) -> Figure:
    """Accuracy of all regimes on plain digits."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] == "digits"]
    names = [str(row["model"]) for row in rows]
    return plots.barh({"accuracy": [float(str(row["accuracy"])) for row in rows]}, names, "accuracy, %")
