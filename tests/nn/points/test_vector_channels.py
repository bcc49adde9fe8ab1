"""Layers of vector channels: the contract of layers, equations of the paper by hand, and what happens at zero."""

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups import GLPlus
from erlangen.measure import equivariance_error
from erlangen.nn import VectorGate, VectorLinear, VectorReLU
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def vectors(*shape, seed=1, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


@pytest.mark.parametrize("dim", [2, 3])
def test_layers_keep_the_contract(dim):
    x = vectors(4, 5, dim)
    check_layer(VectorLinear(5, 3, dim=dim, generator=seeded()), x)
    check_layer(VectorReLU(5, 3, dim=dim, generator=seeded()), x)
    check_layer(VectorReLU(5, slope=0.2, dim=dim, generator=seeded()), x)
    check_layer(VectorGate(7, 5, dim=dim, generator=seeded()), (vectors(4, 7, seed=2), x))
    torch.compiler.reset()


def test_the_linear_layer_commutes_with_every_linear_map():
    stretch = Symmetry(GLPlus(3), input="vectors", output="vectors")
    layer = VectorLinear(5, 3, generator=seeded()).double()
    x = vectors(8, 5, 3, dtype=torch.float64)
    assert float(equivariance_error(layer, stretch, x, elements=50, seed=3).max()) < 1e-12
    relu = VectorReLU(5, 3, generator=seeded()).double()
    assert float(equivariance_error(relu, stretch, x, elements=50, seed=3).max()) > 1e-2


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_relu_by_the_equation(slope):
    layer = VectorReLU(5, 4, slope=slope, eps=1e-9, generator=seeded()).double()
    x = vectors(50, 5, 3, dtype=torch.float64)
    q, k = layer.value.weight @ x, layer.direction.weight @ x
    out = layer(x)
    along = (q * k).sum(-1)
    kept = along >= 0
    assert 0.2 < float(kept.double().mean()) < 0.8
    torch.testing.assert_close(out[kept], q[kept])
    unit = k / k.norm(dim=-1, keepdim=True)
    projected = q - (q * unit).sum(-1, keepdim=True) * unit
    expected = slope * q + (1 - slope) * projected
    torch.testing.assert_close(out[~kept], expected[~kept], rtol=1e-6, atol=1e-6)
    if slope == 0:
        assert bool(((out * k).sum(-1) >= -1e-5).all())


def test_gradients_at_zero_vectors_are_finite():
    x = torch.zeros(2, 5, 3, requires_grad=True)
    VectorReLU(5, generator=seeded())(x).sum().backward()
    assert bool(torch.isfinite(x.grad).all())


def test_gradcheck():
    layer = VectorReLU(3, generator=seeded()).double()
    assert torch.autograd.gradcheck(layer, vectors(2, 3, 3, dtype=torch.float64).requires_grad_())


def test_gate_by_hand():
    gate = VectorGate(2, 3, generator=seeded())
    h, x = vectors(4, 2), vectors(4, 3, 3, seed=2)
    expected = torch.stack([x[:, c] * torch.sigmoid(h @ gate.weight[c] + gate.bias[c])[:, None] for c in range(3)], 1)
    torch.testing.assert_close(gate(h, x), expected)


BAD = {
    "size": (lambda: VectorLinear(0, 3), ErlangenError, "in_channels = 0"),
    "eps": (lambda: VectorReLU(3, eps=0.0), ErlangenError, "eps = 0.0"),
    "channels": (lambda: VectorLinear(4, 3)(torch.zeros(2, 3, 3)), ShapeError, r"pass \[\.\.\., 4, n\]"),
    "features": (lambda: VectorGate(4, 3)(torch.zeros(2, 3), torch.zeros(2, 3, 3)), ShapeError, "h has shape"),
    "vectors": (lambda: VectorGate(4, 3)(torch.zeros(2, 4)), ShapeError, "x is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
