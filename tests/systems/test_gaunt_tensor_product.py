"""Gaunt tensor products: the properties that must hold exactly, against e3nn and closed forms."""

import math
from collections.abc import Callable
from typing import Any, cast

import e3nn.o3
import pytest
import torch
from torch import Tensor

from erlangen.groups import O
from erlangen.irreps import Irreps, S2Grid, gaunt, gaunt_tensor, spherical_harmonics
from erlangen.nn import IrrepsNetwork, ManyBodyProduct, TensorProduct
from erlangen.survey import Run, Table
from erlangen.systems.molecules.gaunt_tensor_product import _speed, rivals
from erlangen.systems.molecules.gaunt_tensor_product import experiment as system
from erlangen.systems.molecules.gaunt_tensor_product.rivals import (
    NETWORKS,
    ExplicitPowers,
    count_parameters,
    gaunt_product,
    network,
)

F64 = torch.float64


def product() -> tuple[TensorProduct, tuple[Tensor, Tensor], dict[str, object]]:
    layer = TensorProduct("2x0e+2x1o", "0e+1o", rule="gaunt", form="depthwise")
    return layer, (torch.randn(4, layer.irreps_x.dim), torch.randn(4, layer.irreps_y.dim)), {}


def powers() -> tuple[ManyBodyProduct, Tensor, dict[str, object]]:
    layer = ManyBodyProduct("2x0e+2x1o", "2x0e+2x1o", 3)
    return layer, torch.randn(4, layer.irreps_in.dim), {}


LAYERS = {"TensorProduct": product, "ManyBodyProduct": powers}
ROADS = ("dense", "grid", "fourier")


def signals(rows: int, L: int, n: int = 2, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(n, rows, (L + 1) ** 2, generator=torch.Generator().manual_seed(L), dtype=F64).to(dtype)


def between(l1: int, l2: int, l3: int, road: str = "grid", **options: object) -> TensorProduct:
    irreps = [Irreps.spherical_harmonics(l) for l in (l1, l2, l3)]
    return TensorProduct(*irreps, rule="gaunt", form="elementwise", road=road, **options)  # pyright: ignore[reportArgumentType]


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


# --- what must hold exactly ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dtype", "tol", "L"), [*((F64, 1e-12, L) for L in (0, 1, 2, 5, 10)), *((torch.float32, 1e-6, L) for L in range(7))]
)
def test_three_roads_agree(dtype: torch.dtype, tol: float, L: int) -> None:
    x, y = signals(8, L, dtype=dtype)
    dense, grid, fourier = (gaunt_product(L, road)(x, y) for road in ROADS)
    assert max(gap(grid, dense), gap(fourier, dense), gap(grid, fourier)) < tol


@pytest.mark.parametrize("road", ROADS)
def test_commutative_identity_and_associative(road: str) -> None:
    x, y, z = signals(6, 3, 3)
    product = between(3, 3, 6, road)
    if road == "dense":  # sums over the two inputs in another order
        assert gap(product(x, y), product(y, x)) < 1e-15
    else:
        assert torch.equal(product(x, y), product(y, x))
    one = torch.zeros(6, 1, dtype=F64)
    one[:] = 2 * math.sqrt(math.pi)
    assert gap(between(3, 0, 3, road)(x, one), x) < 1e-13
    left = between(6, 3, 9, road)(product(x, y), z)
    right = between(3, 6, 9, road)(x, product(y, z))
    assert gap(left, right) < 1e-12


@pytest.mark.parametrize("road", ROADS)
def test_product_of_functions_at_a_thousand_points(road: str) -> None:
    points = torch.nn.functional.normalize(torch.randn(1000, 3, dtype=F64), dim=-1)
    x, y = signals(3, 4)
    low = e3nn.o3.spherical_harmonics(list(range(5)), points, normalize=True, normalization="integral")
    high = e3nn.o3.spherical_harmonics(list(range(9)), points, normalize=True, normalization="integral")
    assert gap(gaunt_product(4, road)(x, y) @ high.T, (x @ low.T) * (y @ low.T)) < 1e-12  # pyright: ignore[reportArgumentType]


def test_known_answers_for_vectors() -> None:
    x, y = torch.randn(2, 7, 3, dtype=F64)
    product = TensorProduct("1o", "1o", rule="gaunt", form="elementwise")
    assert str(product.irreps_out) == "1x0e+1x2e"  # no cross product
    assert not gaunt(1, 1, 1).any()
    scalar, tensor = product(x, y).split([1, 5], -1)
    torch.testing.assert_close(scalar[:, 0], (x * y).sum(-1) / (2 * math.sqrt(math.pi)), rtol=1e-13, atol=1e-13)
    # By the addition theorem the degree 2 of (a.n)^2 has coefficients 8 pi / 15 Y_2(a); polarise for (x.n)(y.n).
    Y = spherical_harmonics([2], torch.stack([x + y, x - y]), normalize=False)
    expected = 3 / (4 * math.pi) * 8 * math.pi / 15 * (Y[0] - Y[1]) / 4
    torch.testing.assert_close(tensor, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("degrees", "factor"),
    [
        ((0, 0, 0), 0.282095), ((0, 1, 1), 0.488603), ((1, 1, 2), 0.690988), ((2, 2, 2), 0.753930),
        ((1, 2, 3), 0.846284), ((2, 2, 4), 1.011503), ((1, 2, 2), 0.0), ((2, 2, 1), 0.0), ((2, 2, 3), 0.0),
    ],
)  # fmt: skip
def test_blocks_are_multiples_of_3j_symbols(degrees: tuple[int, int, int], factor: float) -> None:
    """The integrals by quadrature of e3nn's harmonics, the symbols of e3nn, and the factors in closed form."""
    grid = S2Grid.exact_for(sum(degrees))
    a, b, c = (e3nn.o3.spherical_harmonics(l, grid.points, normalize=True, normalization="integral") for l in degrees)
    integrals = torch.einsum("p,pi,pj,pk->ijk", grid.weights, a, b, c)
    symbols = e3nn.o3.wigner_3j(*degrees, dtype=F64)
    scale = float((integrals * symbols).sum())
    assert abs(scale - factor) < 1e-6
    assert float((integrals - scale * symbols).abs().max()) < 2e-14
    l1, l2, l3 = (slice(l * l, (l + 1) ** 2) for l in degrees)
    table = gaunt_tensor(max(degrees), max(degrees), max(degrees), dtype=F64)[l1, l2, l3]
    assert float((table - integrals).abs().max()) < 2e-14


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("dtype", "L", "tol"), [(F64, 4, 1e-11), (torch.float32, 4, 1e-5), (torch.float32, 6, 2e-5)])
def test_equivariance_under_100_elements(road: str, dtype: torch.dtype, L: int, tol: float) -> None:
    g = O(3).sample(100, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert 0 < int((torch.linalg.det(g) < 0).sum()) < 100
    product, irreps = gaunt_product(L, road), Irreps.spherical_harmonics(L)  # pyright: ignore[reportArgumentType]
    x, y = signals(100, L, dtype=dtype)
    moved, expected = product(irreps.act(g, x), irreps.act(g, y)), product.irreps_out.act(g, product(x, y))
    assert float(((moved - expected).norm(dim=1) / expected.norm(dim=1)).max()) < tol


@pytest.mark.parametrize("road", ROADS)
def test_derivatives(road: str) -> None:
    x, y = signals(2, 2).requires_grad_().unbind()
    assert torch.autograd.gradcheck(between(2, 2, 3, road), (x, y))


@pytest.mark.parametrize(("l1", "l2", "l3"), [(2, 2, 4), (3, 1, 2)])
def test_grids_one_smaller_than_the_minimum_fail(l1: int, l2: int, l3: int) -> None:
    smallest = S2Grid.exact_for(l1 + l2 + l3)
    x, y = signals(6, l1)[0], signals(6, l2)[1]
    expected = between(l1, l2, l3, "dense")(x, y)
    assert gap(between(l1, l2, l3, grid=smallest)(x, y), expected) < 1e-13
    for less in ((1, 0), (0, 1)):
        grid = S2Grid(smallest.polar - less[0], smallest.azimuthal - less[1])
        assert gap(between(l1, l2, l3, grid=grid, exact=False)(x, y), expected) > 1e-3


# --- the experiment --------------------------------------------------------------------------------------------------
def test_networks_have_equal_sizes_and_the_two_roads_equal_weights() -> None:
    size = count_parameters(network("CG, all paths", 1))
    nets: dict[str, IrrepsNetwork] = {}
    for name in NETWORKS:
        torch.manual_seed(3)
        nets[name] = network(name, 1, size)
        assert abs(count_parameters(nets[name]) / size - 1) < 0.05
    x, pos = torch.randn(4, 5, 4), torch.randn(4, 5, 3)
    assert gap(nets["Gaunt, fourier"](x, pos).detach(), nets["Gaunt, grid"](x, pos).detach()) < 1e-4
    roads = [
        cast("TensorProduct", net.layers[0].product).road for name, net in nets.items() if name.startswith("Gaunt")
    ]
    assert roads == ["grid", "fourier"]


def test_sizes_of_outputs(smoke: Callable[[str], dict[str, Any]]) -> None:
    """A product with all paths keeps each apart; the others have one block for each degree."""
    rows = smoke("gaunt_tensor_product")["rows"]
    assert {row["model"]: row["output"] for row in rows if row["part"] == "speed" and row["degree"] == 4} == {
        "e3nn, all paths": 625, "CG, all paths": 625, "CG, even paths": 81,
        "Gaunt, dense": 81, "Gaunt, fourier": 81, "Gaunt, grid": 81, "Gaunt, fourier by FFT": 81,
    }  # fmt: skip


def test_curves_are_compared_where_both_were_trained_alike() -> None:
    curves = {
        ("a", 0, 0.1): [1.0, 2.0], ("a", 0, 0.2): [9.0, 9.0], ("a", 1, 0.1): [3.0, 4.0],
        ("b", 0, 0.1): [1.0, 4.0], ("b", 0, 0.2): [1.0, 1.0], ("b", 1, 0.3): [1.0, 1.0],
    }  # fmt: skip
    assert system.differences(curves, "a", "b", {0.1}).tolist() == [0.0, -0.5]


def test_a_missing_peer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda _: None)
    part = _speed.speed_part(Run(budget=system.BUDGETS["smoke"], dry=True))
    assert {row["note"] for row in part.rows if row["model"] == "e3nn, all paths"} == {"e3nn is not installed"}
    assert part.claims[1].kind == "not-measurable-here"


def test_explicit_tensor_is_the_repeated_product() -> None:
    """MACE's contraction, our baseline, gives f^3 for weights (0, 0, 1)."""
    explicit = ExplicitPowers(ManyBodyProduct("2x0e+2x1o", "2x0e+2x1o", 3))
    with torch.no_grad():
        explicit.weight[:2], explicit.weight[2] = 0, 1
    x = torch.randn(5, 2, 4)
    cube = between(2, 1, 1)(between(1, 1, 2)(x, x), x)
    out = explicit(torch.cat([x[..., :1].flatten(1), x[..., 1:].flatten(1)], -1)).detach()
    assert gap(out, torch.cat([cube[..., :1].flatten(1), cube[..., 1:].flatten(1)], -1)) < 1e-5


def test_constants_are_counted_on_both_sides() -> None:
    """The coupling tensors of second and third powers, and the tables to samples and back, are what they hold."""
    layer, _ = _speed.third_powers(2, 0)
    explicit = ExplicitPowers(layer)
    assert _speed.constants(explicit) == explicit.U2.nbytes + explicit.U3.nbytes
    columns = 16 + 9  # degrees up to 3 there, up to 2 back
    assert _speed.constants(layer) % (8 * columns) == 0
    assert _speed.constants(layer) > 0


def test_exponents_are_slopes_of_logarithms() -> None:
    tables = {
        L: Table("t", [{"model": "a", "seed": s, "ms": (1 + s) * L**2.5} for s in (0, 1)], Run()) for L in (3, 4, 6)
    }
    assert _speed.exponents(tables, "a").tolist() == pytest.approx([2.5, 2.5])
