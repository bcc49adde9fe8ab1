"""Losses on two views against numpy, closed forms and gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from erlangen.errors import DtypeError, ErlangenError, ShapeError, UnknownNameError
from erlangen.learn import (
    MovingTarget,
    byol_decay,
    byol_loss,
    covariance_loss,
    info_nce,
    nt_xent,
    variance_loss,
    vicreg_loss,
)


def pair(n: int = 6, d: int = 4, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2)]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrast_against_loops(temperature) -> None:
    x, y = pair()
    a, b = unit(x.numpy()), unit(y.numpy())
    due = [
        -math.log(math.exp(a[i] @ b[i] / temperature) / sum(math.exp(a[i] @ v / temperature) for v in b))
        for i in range(6)
    ]
    torch.testing.assert_close(
        info_nce(x, y, temperature=temperature, reduction="none"), torch.tensor(due, dtype=torch.float64)
    )
    assert float(info_nce(x, y, temperature=temperature)) == pytest.approx(np.mean(due))
    assert float(info_nce(x, y, temperature=temperature, reduction="sum")) == pytest.approx(np.sum(due))
    z = np.concatenate([a, b])
    loss = 0.0
    for i in range(12):
        others = sum(math.exp(z[i] @ z[k] / temperature) for k in range(12) if k != i)
        loss -= math.log(math.exp(z[i] @ z[(i + 6) % 12] / temperature) / others) / 12
    assert float(nt_xent(x, y, temperature=temperature)) == pytest.approx(loss)


def test_unknown_rows_neither_ask_nor_answer() -> None:
    x, y = pair()
    known = torch.tensor([True, True, False, True, False, True])
    got = info_nce(x, y, known=known)
    assert float(got) == pytest.approx(float(info_nce(x[known], y[known])))
    x, y = (v.masked_fill(~known[:, None], math.nan).requires_grad_() for v in (x, y))
    info_nce(x, y, known=known).backward()
    assert bool(x.grad.isfinite().all())
    assert not bool(x.grad[~known].any())
    assert float(info_nce(x.detach(), y.detach(), known=~known & known)) == 0.0
    batch = torch.stack([pair()[0], pair(seed=1)[0]]), torch.stack([pair()[1], pair(seed=1)[1]])
    each = info_nce(*batch, reduction="none")
    torch.testing.assert_close(each[1], info_nce(*pair(seed=1), reduction="none"))


def test_contrast_sees_directions_alone() -> None:
    x, y = pair()
    q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(9)))[0]
    scale = torch.rand(6, 1, dtype=torch.float64) + 0.5
    for loss in (info_nce, nt_xent, byol_loss):
        assert float(loss(x @ q * scale, y @ q)) == pytest.approx(float(loss(x, y)), rel=1e-12)


def test_vicreg_against_numpy() -> None:
    x, y = pair()
    spread = [np.maximum(0, 1 - np.sqrt(v.numpy().var(0, ddof=1) + 1e-4)).mean() for v in (x, y)]
    assert float(variance_loss(x)) == pytest.approx(spread[0])
    off = []
    for v in (x, y):
        c = np.cov(v.numpy().T)
        off.append(((c**2).sum() - (np.diag(c) ** 2).sum()) / 4)
    assert float(covariance_loss(x)) == pytest.approx(off[0])
    due = 25 * ((x - y) ** 2).mean() + 25 * np.mean(spread) + sum(off)
    assert float(vicreg_loss(x, y)) == pytest.approx(float(due))


def test_vicreg_closed_forms() -> None:
    x, _ = pair(40, 5)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.mT @ x / 39)).mT
    assert float(covariance_loss(white)) < 1e-24
    assert float(variance_loss(white)) == 0.0
    assert float(variance_loss(0.5 * white, eps=0.0)) == pytest.approx(0.5)
    copies = torch.cat([white, white], 1)  # each dimension has one twin of covariance 1
    assert float(covariance_loss(copies)) == pytest.approx(1.0)
    assert float(covariance_loss(white[:, :1])) == 0.0
    constant = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    variance_loss(constant).backward()
    assert bool(constant.grad.isfinite().all())


@pytest.mark.parametrize("loss", [info_nce, nt_xent, vicreg_loss])
def test_gradients(loss) -> None:
    x, y = (v.requires_grad_() for v in pair(4, 3))
    assert torch.autograd.gradcheck(loss, (x, y))


def test_the_target_gets_no_gradient_and_follows() -> None:
    torch.manual_seed(0)
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    target = MovingTarget(online, decay=0.75)
    first = {k: v.clone() for k, v in target.copy.state_dict().items()}
    x = torch.randn(8, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        byol_loss(online(x), target(x)).backward()
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in target.parameters())
    kept = {k: v.clone() for k, v in target.copy.state_dict().items()}  # its batchnorm has seen x as well
    target.update(online)
    for name, value in target.copy.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * kept[name] + 0.25 * online.state_dict()[name])
        else:
            assert torch.equal(value, online.state_dict()[name])
    assert torch.equal(first["0.weight"], kept["0.weight"])
    target.update(online, decay=0.0)
    torch.testing.assert_close(target.copy.state_dict(), online.state_dict())
    assert byol_decay(0.25, base=0.5) == pytest.approx(1 - 0.5 * (1 + math.sqrt(0.5)) / 2)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda x, y: info_nce(x, y[:3]),
            ShapeError,
            r"x has shape \(6, 4\) and y \(3, 4\); give both as \[\.\.\., N, d\]",
        ),
        (lambda x, y: nt_xent(x[None], y[None]), ShapeError, r"give both as \[N, d\]"),
        (lambda x, y: byol_loss(x, y[:, :2]), ShapeError, r"give both as \[\.\.\., d\]"),
        (lambda x, y: info_nce(x, y, temperature=0.0), ErlangenError, "temperature = 0.0; give a positive"),
        (lambda x, y: nt_xent(x, y, temperature=-1.0), ErlangenError, "temperature = -1.0; give a positive"),
        (lambda x, y: info_nce(x, y, known=torch.ones(5).bool()), ShapeError, r"known has shape \(5,\); give"),
        (lambda x, y: info_nce(x, y, reduction="max"), UnknownNameError, "reduction = 'max'; give 'mean'"),
        (lambda x, y: variance_loss(x[:1]), ShapeError, "N >= 2, one row has no variance"),
        (lambda x, y: covariance_loss(x[0]), ShapeError, r"x has shape \(4,\)"),
        (lambda x, y: vicreg_loss(x[:1], y[:1]), ShapeError, "one row has no variance"),
        (lambda x, y: info_nce(x.long(), y.long()), DtypeError, "x has dtype torch.int64"),
        (lambda x, y: MovingTarget(nn.Linear(1, 1), decay=1.5), ErlangenError, "decay = 1.5; give a number from 0"),
        (lambda x, y: MovingTarget(nn.Linear(1, 1)).update(nn.Linear(1, 1, bias=False)), ErlangenError, "bias"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(*pair())
