"""Frozen is frozen bit for bit, under any optimizer."""

import copy

import pytest
import torch
from torch import nn

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.learn import NORMS, check_optimizer, freeze, train_entries


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def train(net: nn.Module, optimizer: type = torch.optim.AdamW, **options) -> None:
    opt = optimizer([p for p in net.parameters() if p.requires_grad], **options)
    x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        opt.zero_grad()
        net(x).square().mean().backward()
        opt.step()


def test_frozen_weights_stay_bit_for_bit() -> None:
    net = network()
    report = freeze(net, train=NORMS)
    assert list(report.trained) == ["1.weight", "1.bias"]
    assert report.share == 8 / (76 + 8 + 51)
    assert "8 of 135 parameters are trained (5.93%)" in str(report)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    train(net, lr=0.1, weight_decay=0.1)
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == (name in report.frozen)


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("*.bias", ["0.bias", "1.bias", "4.bias"]),
        (nn.Linear, ["4.weight", "4.bias"]),
        (("0.weight", nn.BatchNorm2d), ["0.weight", "1.weight", "1.bias"]),
        (lambda name, p: p.ndim == 4, ["0.weight"]),
    ],
)
def test_rules(rule, names) -> None:
    net = network()
    assert list(freeze(net, train=rule).trained) == names
    assert [name for name, p in net.named_parameters() if p.requires_grad] == names


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.5}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}),
    ],
)
def test_entries_outside_of_a_mask_cannot_move(optimizer, options) -> None:
    net = network()
    mask = torch.rand(net[0].weight.shape, generator=torch.Generator().manual_seed(2)) < 0.1
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    report = train_entries(net, {"0.weight": mask})
    assert report.trained == {"0.weight": int(mask.sum())}
    assert sum(report.trained.values()) + sum(report.frozen.values()) == 135
    assert torch.equal(net[0].weight, before["0.weight"])
    trained = [p for p in net.parameters() if p.requires_grad]
    assert [p.shape for p in trained] == [(int(mask.sum()),)]  # and so is the state of the optimizer
    train(net, optimizer, **options)
    assert torch.equal(net[0].weight[~mask], before["0.weight"][~mask])
    assert (net[0].weight[mask] != before["0.weight"][mask]).all()
    assert torch.equal(net[4].weight, before["4.weight"])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda net: freeze(net, train="conv.*"),
            UnknownNameError,
            r"'conv\.\*' names no parameter; parameters are 0.weight",
        ),
        (lambda net: freeze(net, train=("1.*", "9.*")), UnknownNameError, r"'9\.\*' names no"),
        (lambda net: freeze(net, train=nn.LayerNorm), UnknownNameError, "LayerNorm names no parameter"),
        (lambda net: train_entries(net, {"w": torch.ones(2).bool()}), UnknownNameError, "'w' is no parameter"),
        (lambda net: train_entries(net, {"1.bias": torch.ones(4)}), ShapeError, "give a boolean tensor of shape"),
        (lambda net: train_entries(net, {"1.bias": torch.zeros(4).bool()}), ErlangenError, "false everywhere"),
    ],
)
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(network())


def test_an_optimizer_from_before_is_refused_and_would_have_moved_what_is_frozen() -> None:
    net, x = network(), torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    check_optimizer(net, optimizer)
    net(x).square().mean().backward()
    freeze(net, train=NORMS)
    before = net[0].weight.detach().clone()
    with pytest.raises(ErlangenError, match=r"optimizer holds 0\.weight, which is frozen"):
        check_optimizer(net, optimizer)
    optimizer.step()
    assert not torch.equal(net[0].weight, before)
    check_optimizer(net, torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1))
    with pytest.raises(ErlangenError, match=r"optimizer lacks 1\.bias, which is trained"):
        check_optimizer(net, torch.optim.SGD([net[1].weight], lr=0.1))


def test_an_optimizer_of_a_copy_is_refused() -> None:
    net = network()
    report = train_entries(net, {"0.weight": torch.ones(4, 2, 3, 3).bool()})
    assert report.trained == {"0.weight": 72}
    check_optimizer(net, torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1))
    twin = copy.deepcopy(net)
    with pytest.raises(ErlangenError, match=r"shape \(72,\) that is not the model's"):
        check_optimizer(net, torch.optim.SGD([p for p in twin.parameters() if p.requires_grad], lr=0.1))
