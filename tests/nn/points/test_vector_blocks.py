"""Blocks of vector channels: the contract of layers, the equations by hand, masks and ties."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.nn import VectorAttention, VectorNorm, VectorPool
from erlangen.testing import check_layer


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def vectors(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


@pytest.mark.parametrize("dim", [2, 3])
def test_layers_keep_the_contract(dim):
    x = vectors(4, 6, 8, dim, dtype=torch.float32)
    check_layer(VectorNorm(8, dim=dim).eval(), x)
    check_layer(VectorNorm(8, over="channels", dim=dim), x)
    check_layer(VectorPool(8, dim=dim), x)
    check_layer(VectorPool(8, how="max", dim=dim, generator=seeded()), x)
    check_layer(VectorAttention(8, heads=2, dim=dim, generator=seeded()), x)
    torch.compiler.reset()


def test_norms_by_the_equations():
    x = vectors(10, 6, 8, 3) * torch.linspace(0.5, 3, 8, dtype=torch.float64)[:, None]
    length = x.norm(dim=-1)
    norm = VectorNorm(8).double()
    with torch.no_grad():
        norm.lengths.weight.copy_(torch.linspace(1, 2, 8))
        norm.lengths.bias.copy_(torch.linspace(0, 1, 8))
    due = (length - length.mean((0, 1))) / (length.var((0, 1), correction=0) + 1e-5).sqrt()
    due = due * torch.linspace(1, 2, 8) + torch.linspace(0, 1, 8)
    torch.testing.assert_close(norm(x), due[..., None] * x / length[..., None], rtol=1e-6, atol=1e-6)
    within = VectorNorm(8, over="channels").double()(x)
    due = (length - length.mean(-1, keepdim=True)) / (length.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(within, due[..., None] * x / length[..., None], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("over", ["batch", "channels"])
def test_zero_vectors_stay_zero_with_a_gradient(over):
    x = torch.zeros(5, 8, 3, requires_grad=True)
    out = VectorNorm(8, over=over)(x)
    assert not out.any()
    out.sum().backward()
    assert bool(x.grad.isfinite().all())


def test_max_takes_the_vector_that_points_furthest():
    pool = VectorPool(4, how="max", generator=seeded()).double()
    x = vectors(7, 4, 3)
    k = torch.einsum("oc,pcn->pon", pool.direction.weight.detach(), x)
    for channel in range(4):
        scores = [float(x[p, channel] @ k[p, channel]) for p in range(7)]
        assert torch.equal(pool(x)[channel], x[scores.index(max(scores)), channel])
    torch.testing.assert_close(VectorPool(4)(x), x.mean(0))


def test_attention_by_a_loop():
    layer = VectorAttention(6, heads=3, generator=seeded()).double()
    x = vectors(5, 6, 3)
    q, k, v = (m.weight @ x for m in (layer.query, layer.key, layer.value))
    mixed = torch.zeros_like(x)
    for head in range(3):
        channels = slice(2 * head, 2 * head + 2)
        for i in range(5):
            weight = torch.stack([(q[i, channels] * k[j, channels]).sum() / math.sqrt(6) for j in range(5)]).softmax(0)
            mixed[i, channels] = sum(weight[j] * v[j, channels] for j in range(5))
    torch.testing.assert_close(layer(x), layer.out.weight @ mixed)
    order = torch.randperm(5, generator=seeded(3))
    torch.testing.assert_close(layer(x[order]), layer(x)[order])


@pytest.mark.parametrize("make", [lambda: VectorPool(4), lambda: VectorPool(4, how="max"), lambda: VectorAttention(4)])
def test_padding_does_not_matter(make):
    layer, x = make().double(), vectors(2, 6, 4, 3)
    mask = torch.tensor([[True] * 6, [True, True, True, False, False, False]])
    padded = x.clone()
    padded[1, 3:] = math.nan
    out, alone = layer(padded, mask), layer(x[1:, :3])
    torch.testing.assert_close(out[0], layer(x[:1])[0])
    torch.testing.assert_close(out[1, :3] if isinstance(layer, VectorAttention) else out[1], alone[0])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: VectorNorm(4, over="time"), UnknownNameError, "over = 'time'; give 'batch' or 'channels'"),
        (lambda: VectorNorm(4, eps=0), ErlangenError, "eps = 0; give a positive number"),
        (lambda: VectorNorm(0), ErlangenError, "channels = 0"),
        (lambda: VectorPool(4, how="min"), UnknownNameError, "how = 'min'; give 'mean' or 'max'"),
        (lambda: VectorAttention(4, heads=3), ErlangenError, "heads = 3 does not divide channels = 4"),
        (lambda: VectorNorm(4)(vectors(2, 5, 3)), ShapeError, r"pass \[..., 4, n\]"),
        (lambda: VectorPool(4)(vectors(4, 3)), ShapeError, r"pass \[..., N, channels, n\]"),
        (lambda: VectorPool(4)(vectors(2, 0, 4, 3)), ShapeError, "no points to pool"),
        (lambda: VectorAttention(4)(vectors(2, 5, 4, 3), torch.ones(2, 4).bool()), ShapeError, "mask is torch.bool"),
        (lambda: VectorPool(4)(vectors(2, 5, 4, 3), torch.ones(2, 5)), ShapeError, "mask is torch.float32"),
        (lambda: VectorPool(4)(vectors(2, 5, 4, 3), torch.eye(2, 5) > 1), ShapeError, r"mask\[0\] has no point"),
        (
            lambda: VectorAttention(4)(vectors(2, 5, 4, 3), torch.tensor([[True], [False]]).expand(2, 5)),
            ShapeError,
            r"mask\[1\] has no",
        ),
    ],
)
def test_bad_input_is_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
