"""EquivariantLinear: the contract of layers for groups of every kind, initial size, the kept matrix."""

import pytest
import torch

from erlangen.errors import IrrepsError, RepresentationError, ShapeError
from erlangen.groups import SO, DirectProduct, Lorentz, O, Octahedral, Symmetric
from erlangen.irreps import Irreps
from erlangen.nn import EquivariantLinear
from erlangen.reps import PermutationTensor, Pseudovector, Regular, Rep, Scalar, T, V, equivariant_basis
from erlangen.testing import check_layer


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")


S, R = Symmetric(4), O(3)
SR = DirectProduct(S, R)
CLOUD = V(S).inflate(SR, 0) @ V(R).inflate(SR, 1)
PAIRS = [
    (5 * Scalar(O(3)) + 5 * V(O(3)), T(2)(O(3)) + 2 * V(O(3)) + Scalar(O(3))),
    (2 * V(SO(3)), Pseudovector(SO(3)) + T(2)(SO(3))),
    (PermutationTensor(2)(S), PermutationTensor(2)(S) + V(S) + Scalar(S)),
    (V(Octahedral()), Regular(Octahedral())),
    (CLOUD, CLOUD + Scalar(SR)),
]


@pytest.mark.parametrize(("rep_in", "rep_out"), PAIRS, ids=repr)
def test_layer_contract(rep_in: Rep, rep_out: Rep, generator: torch.Generator) -> None:
    layer = EquivariantLinear(rep_in, rep_out, generator=generator)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias, generator=generator)
    x = torch.randn(3, rep_in.size, generator=generator)
    check_layer(layer, x)
    check_layer(layer.double(), x.double(), skip=["dtype", "compile"])  # both are checked above


def test_a_group_that_is_not_compact(generator: torch.Generator) -> None:
    G = Lorentz(1, 3)
    layer = EquivariantLinear(2 * T(1, 1)(G) + V(G), V(G) + Scalar(G), generator=generator).double()
    g = G.sample(10, generator=generator, dtype=torch.float64)
    x = torch.randn(10, 36, generator=generator, dtype=torch.float64)
    moved = layer(layer.rep_in.apply(g, x))
    torch.testing.assert_close(moved, layer.rep_out.apply(g, layer(x)), rtol=1e-10, atol=1e-10)


def test_the_layer_reaches_every_equivariant_map(generator: torch.Generator) -> None:
    rep_in, rep_out = PAIRS[0]
    layer = EquivariantLinear(rep_in, rep_out, bias=False).double()
    Q = equivariant_basis(rep_in >> rep_out)
    assert layer.weight.shape == (len(Q),)
    W = torch.autograd.functional.jacobian(layer, torch.zeros(rep_in.size, dtype=torch.float64))
    torch.testing.assert_close(W, torch.einsum("d,dij->ij", layer.weight.detach(), Q))


def test_initial_outputs_are_as_large_as_inputs(generator: torch.Generator) -> None:
    rep = 64 * V(O(3))
    layer = EquivariantLinear(rep, rep, generator=generator)
    x = torch.randn(500, rep.size, generator=generator)
    assert 0.8 < float(layer(x).detach().std() / x.std()) < 1.25


def test_every_summand_starts_with_variance_one(generator: torch.Generator) -> None:
    """Scalars from traces and from scalars, matrices from matrices and from multiples of 1: whatever the sizes."""
    rep_in = 40 * T(2)(R) + 40 * Scalar(R)
    rep_out = 150 * Scalar(R) + 30 * T(2)(R)
    layer = EquivariantLinear(rep_in, rep_out, generator=generator)
    with torch.no_grad():
        y = layer(torch.randn(1000, rep_in.size, generator=generator)).square().mean(0)
    assert float(y[:150].mean()) == pytest.approx(1, rel=0.1)  # 160 maps each, each with a weight of its own
    assert float(y[150:].mean()) == pytest.approx(1, rel=0.1)


def test_the_kept_matrix_follows_the_weights(generator: torch.Generator) -> None:
    layer = EquivariantLinear(*PAIRS[0], generator=generator).eval()
    x = torch.randn(2, layer.rep_in.size, generator=generator)
    with torch.no_grad():
        first = layer(x)
        assert layer.matrix() is layer.matrix()
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), 2 * first)
        layer.load_state_dict({name: torch.zeros_like(value) for name, value in layer.state_dict().items()})
        assert not bool(layer(x).any())
    layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_bad_input() -> None:
    with pytest.raises(RepresentationError, match=r"no linear map but zero goes from V of O\(3\) to Scalar"):
        EquivariantLinear(V(O(3)), Scalar(O(3)))
    with pytest.raises(RepresentationError, match=r"of SO\(3\), the second of O\(3\)"):
        EquivariantLinear(V(SO(3)), V(O(3)))
    with pytest.raises(ShapeError, match=r"x has shape \(2, 4\), but V has vectors \[\.\.\., 3\]"):
        EquivariantLinear(V(O(3)), V(O(3)))(torch.ones(2, 4))


def test_irreps_as_text(generator: torch.Generator) -> None:
    """Schur: one number per pair of copies of one irrep, and under SO(3) parity does not tell irreps apart."""
    layer = EquivariantLinear("8x0e+4x1o", "2x0e+3x1o", O(3), generator=generator)
    assert layer.weight.shape == (8 * 2 + 4 * 3,)
    assert layer.rep_in == Irreps("8x0e+4x1o")(O(3))
    check_layer(layer, torch.randn(3, 20, generator=generator))
    assert EquivariantLinear("1o+1e", "1o", "O(3)").weight.shape == (1,)
    assert EquivariantLinear("1o+1e", "1o", "SO3").weight.shape == (2,)
    mixed = EquivariantLinear(V(O(3)), "4x1o", bias=False)
    assert (mixed.weight.shape, mixed.bias) == ((4,), None)
    assert EquivariantLinear("2x0e", Irreps("0e"), O(3), False).bias is None
    assert EquivariantLinear(2 * Scalar(O(3)), Scalar(O(3)), False).bias is None  # the third argument was the bias


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("8x0e", "0e"), RepresentationError, r"group is missing: '8x0e' and '0e' are irreps; pass O\(3\) or SO\(3\)"),
        (
            (V(O(3)), "1o", "SO(3)"),
            RepresentationError,
            r"group is SO\(3\), but a representation given is one of O\(3\)",
        ),
        (("8x0", "0e", "O(3)"), IrrepsError, "a parity is expected here"),
        (("1o", "0e", "O(3)"), RepresentationError, "no linear map but zero"),
        (("1o", "1o", "SO(2)"), RepresentationError, r"SO\(2\)"),
    ],
)
def test_irreps_that_do_not_fit(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EquivariantLinear(*arguments)
