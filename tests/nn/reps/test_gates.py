"""Gate and NormActivation: the layer contract for groups of every kind, closed forms, what counts as permuted."""

import pytest
import torch
import torch.nn.functional as F

from erlangen.errors import RepresentationError, ShapeError
from erlangen.groups import SL, SO, Cyclic, Dihedral, DirectProduct, Lorentz, O, Octahedral, Scaling, Symmetric
from erlangen.nn.reps.gates import Gate, NormActivation, gated, permutes
from erlangen.reps import Irreps, Pseudovector, Quotient, Regular, Rep, Scalar, T, V
from erlangen.testing import check_layer

D, S, R, L = Dihedral(4), Symmetric(4), O(3), Lorentz(1, 3)
SR = DirectProduct(S, R)
NODES, ARROWS = V(S).inflate(SR, 0), V(R).inflate(SR, 1)

ORTHOGONAL = [
    2 * Scalar(R) + 4 * V(R) + T(2)(R) + Scalar(R) + V(R),
    Irreps("3x0e+2x0o+2x1o+2e")(R),
    Irreps("3x0e+2x1e")(SO(3)),
    Regular(D) + V(D) + Quotient(D, Cyclic(4)) + 2 * Pseudovector(D),
    T(2)(S) + 2 * V(S) + Scalar(S),
    NODES + 2 * ARROWS + NODES @ ARROWS,
]
OTHERS = [3 * V(L) + 2 * Scalar(L) + T(1, 1)(L), V(SL(2)) + Scalar(SL(2)), V(Scaling(2)) + Scalar(Scaling(2))]


@pytest.mark.parametrize("rep", ORTHOGONAL, ids=repr)
def test_gate_contract(rep: Rep, generator: torch.Generator) -> None:
    layer = Gate(rep)
    x = torch.randn(3, layer.rep_in.size, generator=generator)
    check_layer(layer, x)
    check_layer(layer.double(), x.double(), skip=["dtype", "compile"])  # both are checked above


@pytest.mark.parametrize("rep", OTHERS, ids=repr)
def test_gate_contract_of_groups_that_are_not_compact(rep: Rep, generator: torch.Generator) -> None:
    """Elements of norm up to about 10 multiply the rounding."""
    layer = Gate(rep)
    x = torch.randn(3, layer.rep_in.size, generator=generator, dtype=torch.float64)
    check_layer(layer.double(), x, tol=1e-10)


@pytest.mark.parametrize("rep", ORTHOGONAL, ids=repr)
def test_norm_activation_contract(rep: Rep, generator: torch.Generator) -> None:
    layer = NormActivation(rep)
    torch.nn.init.normal_(layer.bias, generator=generator)
    x = torch.randn(3, rep.size, generator=generator)
    check_layer(layer, x)
    check_layer(layer.double(), x.double(), skip=["dtype", "compile"])


def test_the_layout_of_gates() -> None:
    """Scalars through silu; each vector times the sigmoid of its own scalar, in the order of the vectors."""
    layer = Gate(2 * Scalar(R) + 2 * V(R) + Scalar(R) + V(R))
    assert layer.rep_in == 2 * Scalar(R) + 2 * V(R) + Scalar(R) + V(R) + 3 * Scalar(R)
    x = torch.arange(15.0) / 5 - 1
    y, gates = layer(x), torch.sigmoid(x[12:])
    torch.testing.assert_close(y[[0, 1, 8]], F.silu(x[[0, 1, 8]]))
    for place, gate in zip((slice(2, 5), slice(5, 8), slice(9, 12)), gates, strict=True):
        torch.testing.assert_close(y[place], gate * x[place])


def test_activations_may_be_chosen() -> None:
    layer = Gate(Scalar(R) + V(R), activation=torch.nn.Tanh(), gate=torch.exp)
    x = torch.tensor([1.0, 1.0, 2.0, 3.0, 0.5])
    expected = torch.cat([x[:1].tanh(), x[1:4] * x[4].exp()])
    torch.testing.assert_close(layer(x), expected)


def test_what_is_permuted_needs_no_gate() -> None:
    rep = T(2)(S) + 2 * V(S) + Scalar(S)
    assert gated(rep) is rep
    x = torch.randn(2, rep.size)
    torch.testing.assert_close(Gate(rep)(x), F.silu(x))
    assert gated(NODES @ ARROWS + NODES) == NODES @ ARROWS + NODES + Scalar(SR)


PERMUTED = {
    Regular(Octahedral()): True,
    Quotient(D, Cyclic(4)): True,
    T(3)(S): True,
    NODES: True,
    V(Symmetric(3)).restrict(Symmetric(3)): True,
    Scalar(Cyclic(3)).induce(Dihedral(3)): True,  # by its matrices
    Regular(D) @ Regular(D): True,
    Scalar(R): True,
    ARROWS: False,
    NODES @ ARROWS: False,
    V(Cyclic(2)): False,  # signs
    V(D): False,  # coordinates change places, but with signs
    V(R): False,
    Pseudovector(D): False,
}


@pytest.mark.parametrize(("rep", "expected"), PERMUTED.items(), ids=repr)
def test_what_counts_as_permuted(rep: Rep, expected: bool) -> None:
    assert permutes(rep) is expected


def test_norm_activation_in_closed_form() -> None:
    layer = NormActivation(2 * V(R) + Scalar(R), activation=torch.relu).double()
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-1.0, 1.0]))
    x = torch.tensor([3.0, 0, 4, 0, 0, 2, -7], dtype=torch.float64)
    expected = torch.tensor([2.4, 0, 3.2, 0, 0, 3, 0], dtype=torch.float64)  # |v| = 5 -> 4 and 2 -> 3
    torch.testing.assert_close(layer(x), expected)


def test_norm_activation_at_zero() -> None:
    layer = NormActivation(V(R)).double()
    torch.nn.init.constant_(layer.bias, 0.5)
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert not bool(y.any())
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, torch.full_like(x, float(F.silu(torch.tensor(0.5, dtype=torch.float64)))))
    assert bool(torch.isfinite(torch.autograd.grad(slope.sum(), x)[0]).all())


def test_bad_input() -> None:
    with pytest.raises(RepresentationError, match=r"V of Lorentz\(1,3\) is not orthogonal.*use Gate"):
        NormActivation(Scalar(L) + V(L))
    with pytest.raises(ShapeError, match=r"x has shape \(2, 3\), but V \+ Scalar has vectors \[\.\.\., 4\]"):
        Gate(V(R))(torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"x has shape \(\), but V has vectors"):
        NormActivation(V(R))(torch.tensor(1.0))
