"""Training BatchNorm alone: the network by hand, regimes, what scales switch off, what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.systems.learning.batchnorm_only import ResNet, disabled, random_masks, silent, switched_off, train_only
from erlangen.systems.learning.batchnorm_only.experiment import made, shifted, stepped
from erlangen.systems.learning.batchnorm_only.method import Block, count_scales_and_shifts
from erlangen.training import fit


def pictures(count: int = 16) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


# --- the network -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("depth", "width"), [(8, 4), (14, 16), (26, 8)])
def test_layers_and_parameters_are_those_of_the_formula(depth: int, width: int) -> None:
    net = ResNet(depth, width)
    counted = [
        m for m in net.modules() if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    ]
    assert len(counted) == depth
    assert sum(train_only(net, "batchnorm").trained.values()) == count_scales_and_shifts(depth, width)


def test_resolutions_and_shortcuts() -> None:
    net, sizes = ResNet(14, 4), list[tuple[int, ...]]()
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    net(torch.randn(2, 3, 32, 32))
    assert sizes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2
    assert [len(block.shortcut) for block in net.blocks if isinstance(block, Block)] == [0, 0, 2, 0, 2, 0]


@pytest.mark.parametrize(
    ("gamma", "low", "high", "beta"),
    [("uniform", 0, 1, 0), ("fixed", 1, 1, 0), ("oneone", 1, 1, 1), ("positivenegative", -1, 1, 0)],
)
def test_how_scales_begin(gamma: Any, low: float, high: float, beta: float) -> None:
    torch.manual_seed(0)
    net = ResNet(14, 32, gamma=gamma)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    values = torch.cat([m.weight.detach() for m in norms])
    assert low <= float(values.min()) <= float(values.max()) <= high
    assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.03)
    assert all(bool((m.bias == beta).all()) for m in norms)
    first = net.blocks[0]
    assert isinstance(first, Block)
    assert float(first.conv1.weight.detach().var() * 32 * 9) == pytest.approx(2, rel=0.1)


def test_normalised_values_have_the_moments_of_theory() -> None:
    """In train mode (output - beta) / gamma has the mean 0 and the variance v / (v + eps) of each channel."""
    net, x = ResNet(8, 4, inputs=1), pictures()
    inner = net.conv(x).detach()
    out = net.norm(inner).detach()
    plain = (out - net.norm.bias[:, None, None]) / net.norm.weight[:, None, None]
    v = inner.var((0, 2, 3), correction=0)
    assert torch.allclose(plain.detach().mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(plain.detach().var((0, 2, 3), correction=0), v / (v + 1e-5), atol=1e-5)


# --- regimes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("regime", "prefixes"),
    [
        ("batchnorm and output", ("norm", "output")),
        ("output", ("output",)),
        ("shortcuts", ("shortcut",)),
    ],
)
def test_which_parameters_a_regime_trains(regime: Any, prefixes: tuple[str, ...]) -> None:
    trained = train_only(ResNet(8, 4), regime).trained
    assert trained
    assert all(any(prefix in name for prefix in prefixes) or ".1." in name for name in trained)
    assert not any("conv" in name for name in trained)


def test_regimes_divide_the_parameters() -> None:
    net = ResNet(8, 4)
    every = train_only(net, "all").trained
    one, rest = (train_only(ResNet(8, 4), regime).trained for regime in ("batchnorm", "all but batchnorm"))
    assert sorted([*one, *rest]) == sorted(every)
    assert not set(one) & set(rest)


def test_masks_hold_two_entries_of_every_channel() -> None:
    net = ResNet(8, 4)
    masks = random_masks(net, generator=torch.Generator().manual_seed(0))
    assert len(masks) == sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert all(bool((mask.flatten(1).sum(1) == 2).all()) for mask in masks.values())
    torch.manual_seed(0)
    report = train_only(net, "random weights")
    assert sum(report.trained.values()) == count_scales_and_shifts(8, 4)


def test_the_output_alone_is_logistic_regression() -> None:
    """Frozen features in eval mode: full-batch training reaches the optimum that scipy finds with the same decay."""
    torch.manual_seed(0)
    net, x, y = ResNet(8, 4, inputs=1).double(), pictures(60).double(), torch.arange(60) % 10
    net(x)
    net.eval()
    train_only(net, "output")
    features, decay = net.features(x).detach(), 0.1

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.cross_entropy(features @ weight.mT + bias, y) + decay / 2 * weight.square().sum()

    def value(flat: Any) -> tuple[float, Any]:
        point = torch.tensor(flat, requires_grad=True)
        out = loss(point[:160].view(10, 16), point[160:])
        (gradient,) = torch.autograd.grad(out, point)
        return float(out.detach()), gradient.numpy()

    best = minimize(value, np.zeros(170), jac=True).fun
    optimizer = torch.optim.LBFGS(net.output.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        out = nn.functional.cross_entropy(net(x), y) + decay / 2 * net.output.weight.square().sum()
        out.backward()
        return out

    optimizer.step(closure)
    assert float(loss(net.output.weight, net.output.bias).detach()) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("regime", ["batchnorm", "random weights"])
def test_frozen_weights_stay_under_mixed_precision_and_averaging(regime: Any) -> None:
    torch.manual_seed(0)
    net, x, y = ResNet(8, 4, inputs=1), pictures(), torch.arange(16) % 10
    begin = {name: m.weight.detach().clone() for name, m in net.named_modules() if hasattr(m, "weight")}
    masks = random_masks(net, generator=torch.Generator().manual_seed(5)) if regime == "random weights" else {}
    train_only(net, regime, generator=torch.Generator().manual_seed(5))
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(x)
        nn.functional.cross_entropy(out.float(), y).backward()
        optimizer.step()
        ema.update_parameters(net)
    for model in (net, ema.module):
        for name, module in model.named_modules():
            if name not in begin:
                continue
            moved = module.weight.detach() != begin[name]
            if isinstance(module, nn.BatchNorm2d) and regime == "batchnorm":
                assert bool(moved.any())
            else:
                assert not bool((moved & ~masks.get(f"{name}.weight", torch.zeros_like(moved))).any())


def test_same_seed_same_losses() -> None:
    losses = []
    for _ in range(2):
        torch.manual_seed(2)
        net = ResNet(8, 4, inputs=1)
        train_only(net, "batchnorm")
        how: dict[str, Any] = {"loss": nn.functional.cross_entropy, "epochs": 2, "batch_size": 8, "progress": False}
        losses.append([row["loss"] for row in fit(net, pictures(), torch.arange(16) % 10, lr=0.01, **how).history])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


# --- what was learned ------------------------------------------------------------------------------------------------
def test_shares_of_small_scales_and_silent_channels() -> None:
    net, x = ResNet(8, 4, inputs=1, gamma="fixed"), pictures()
    with torch.no_grad():
        net.norm.weight[:2] = 0.001
        net.norm.bias[1] = -1
    total = count_scales_and_shifts(8, 4) // 2
    assert disabled(net) == pytest.approx(2 / total)
    hidden = 4 + 4 + 8 + 16  # behind the first normalisation, and inside of the three blocks
    assert silent(net, x) == pytest.approx(1 / hidden)
    twin = switched_off(net)
    assert isinstance(twin, ResNet)
    assert twin.norm.weight.tolist() == [0, 0, 1, 1]
    assert net.norm.weight[0] != 0


def test_a_closed_scale_with_a_positive_shift_is_a_constant() -> None:
    """It is not dead: what comes after sees the shift, and the shift still learns."""
    net, x = ResNet(8, 4, inputs=1), pictures()
    block = net.blocks[0]
    assert isinstance(block, Block)
    with torch.no_grad():
        block.norm1.weight[1], block.norm1.bias[1] = 0, 0.5
    seen: list[Tensor] = []
    block.norm1.register_forward_hook(lambda _, __, out: seen.append(out[:, 1]))
    net(x).square().sum().backward()
    assert bool((seen[0] == 0.5).all())
    kernel, shift = block.conv1.weight.grad, block.norm1.bias.grad
    assert kernel is not None
    assert shift is not None
    assert float(kernel[1].abs().max()) == 0
    assert float(shift[1].abs()) > 0
    assert silent(net, x) == 0


def test_the_recipe() -> None:
    assert [stepped(t) for t in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    x = torch.zeros(3, 1, 8, 8)
    x[:, :, 4, 4] = 1
    moved = [shifted(x, torch.zeros(3), generator=torch.Generator().manual_seed(s))[0] for s in range(30)]
    assert {tuple((m[0, 0] == 1).nonzero()[0].tolist()) for m in moved} == {
        (i, j) for i in (3, 4, 5) for j in (3, 4, 5)
    }
    g = torch.Generator().manual_seed(0)
    assert made(torch.rand(5, 1, 28, 28), 8, True, g).shape == (5, 1, 8, 8)


def test_same_seed_same_network() -> None:
    from erlangen.systems.learning.batchnorm_only.rivals import Trained

    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(Trained("random weights", 8, 4)())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_all_regimes_are_in_the_table(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = [row for row in smoke("batchnorm_only")["rows"] if row["part"] == "digits"]
    numbers = {row["model"]: row["parameters"] for row in rows}
    assert numbers["batchnorm"] == numbers["random weights"] == numbers["batchnorm, no decay"]
    assert numbers["deep, batchnorm"] == numbers["deep, random weights"] > numbers["batchnorm"]
    assert numbers["all"] == numbers["batchnorm"] + numbers["all but batchnorm"]


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: ResNet(15), ErlangenError, r"depth = 15: give 6 D \+ 2"),
        (lambda: ResNet(8, 0), ErlangenError, "width = 0"),
        (lambda: ResNet(8, gamma="ones"), UnknownNameError, "gamma = 'ones'"),  # pyright: ignore[reportArgumentType]
        (lambda: train_only(ResNet(8), "norms"), UnknownNameError, "regime = 'norms'"),  # pyright: ignore[reportArgumentType]
        (lambda: train_only(nn.Linear(2, 2), "batchnorm"), ErlangenError, "norm layers: none"),
        (lambda: train_only(nn.LayerNorm(2), "batchnorm"), ErlangenError, "norm layers: LayerNorm"),
        (lambda: train_only(nn.BatchNorm2d(2, affine=False), "batchnorm"), ErlangenError, "without affine"),
        (lambda: train_only(ResNet(8), "output", output="head.*"), UnknownNameError, "head"),
        (lambda: random_masks(ResNet(8), 99), ErlangenError, "per_channel = 99"),
        (lambda: train_only(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "random weights"), ErlangenError,
         "no convolution"),
        (lambda: train_only(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), "batchnorm"), ErlangenError,
         "0 has track_running_stats=False"),
        (lambda: train_only(fuse_conv_bn_eval(nn.Conv2d(1, 2, 3).eval(), nn.BatchNorm2d(2).eval()), "batchnorm"), ErlangenError,
         "norm layers: none.; take the network before they are fused"),
        (lambda: ResNet(8, 2)(torch.randn(2, 1, 8, 8)), ShapeError, r"x has shape \(2, 1, 8, 8\); give pictures \[B, 3"),
        (lambda: ResNet(8, 2)(torch.randn(3, 8, 8)), ShapeError, "give pictures"),
        (lambda: ResNet(8, 2)(torch.randn(1, 3, 4, 4)), ErlangenError, "one value for each channel"),
        (lambda: disabled(nn.Linear(2, 2)), ErlangenError, "no batch normalisation with scales"),
        (lambda: disabled(ResNet(8, 2), float("nan")), ErlangenError, "threshold = nan"),
        (lambda: switched_off(ResNet(8, 2), -1.0), ErlangenError, "threshold = -1"),
        (lambda: silent(ResNet(8, 2), torch.randn(2, 3, 8, 8), 1.5), ErlangenError, "share = 1.5"),
        (lambda: silent(ResNet(8, 2), torch.randn(0, 3, 8, 8)), ErlangenError, "no picture"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Callable[[], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call()


def test_one_pixel_is_enough_where_statistics_are_kept_or_there_are_two() -> None:
    net = ResNet(8, 2)
    assert net(torch.randn(2, 3, 4, 4)).shape == (2, 10)
    assert net(torch.randn(1, 3, 5, 4)).shape == (1, 10)
    assert net.eval()(torch.randn(1, 3, 4, 4)).shape == (1, 10)
