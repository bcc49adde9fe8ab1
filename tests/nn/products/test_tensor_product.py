"""TensorProduct against e3nn, Gaunt integrals and closed forms; sums over edges; the layer contract for every rule and form."""

import itertools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import DtypeError, GridError, IrrepsError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.groups import O
from erlangen.irreps import Irreps, S2Grid, gaunt_tensor, spherical_harmonics
from erlangen.measure import peak_memory
from erlangen.nn import TensorProduct, tensor_product
from erlangen.testing import check_layer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from e3nn import o3

RULES = ["cg", "gaunt", "vector", "matrix"]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    """Each layer of the contract test compiles anew, and dynamo counts recompilations per class."""
    torch.compiler.reset()


def pair(
    product: TensorProduct, *size: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (irreps.randn(*size, generator=generator, dtype=dtype) for irreps in (product.irreps_x, product.irreps_y))
    return x, y


@contextmanager
def in_float64() -> Iterator[None]:
    """e3nn casts its tables from the default dtype in which a product is built."""
    torch.set_default_dtype(torch.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def e3nn_of(product: TensorProduct, mode: str) -> nn.Module:
    """e3nn's product with the same paths, its weights given at the call, in the order of ours."""
    lay = product.product.layout
    instructions = [(p.x, p.y, n, mode, mode != "uuu") for n, output in enumerate(lay.outputs) for p in output.paths]
    with in_float64():
        return o3.TensorProduct(
            str(product.irreps_x), str(product.irreps_y), str(product.irreps_out), instructions,
            shared_weights=False, internal_weights=False,
        )  # fmt: skip


# --- against e3nn ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", ["cg", "cg_sparse"])
@pytest.mark.parametrize(("x", "y"), [("0e+1o+2e", "0e+1o+2e"), ("2x1o+3x0e+1e", "2x2e+1o"), ("4x3o", "2x2o")])
def test_full_product_equals_e3nn(x: str, y: str, rule: str) -> None:
    product = TensorProduct(x, y, rule=rule)
    with in_float64():
        peer = o3.FullTensorProduct(x, y)
    assert o3.Irreps(str(product.irreps_out)) == peer.irreps_out
    a, b = pair(product, 4)
    torch.testing.assert_close(product(a, b), peer(a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "out", "mode"),
    [
        ("8x0e+8x1o+8x2e", "0e+1o+2e", "8x0e+8x1o+8x2e", "uvu"),
        ("3x0e+3x1o+3x1e", "2x0e+3x1o", "3x1e+3x0o+3x2e", "uvu"),
        ("3x0e+2x1o", "0e+1o+2e", "4x0e+5x1o+2x2e+1e", "uvw"),
        ("3x0e+2x1o", "2x0e+4x1o", "4x0e+5x1o+2x2e", "uvw"),
        ("5x0e+5x1o+5x2e", "5x0e+5x1o", "5x0e+5x1o+5x2e", "uuu"),
    ],
)
def test_weighted_products_equal_e3nn_with_all_gradients(x: str, y: str, out: str, mode: str) -> None:
    form = {"uvu": "depthwise", "uvw": "connected", "uuu": "elementwise"}[mode]
    product = TensorProduct(x, y, out, rule="cg", form=form, weights="given")
    peer, (a, b) = e3nn_of(product, mode), pair(product, 6)
    w = torch.randn(6, product.weight_numel, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (a, b, w) if t.numel()]
    if mode == "uvu":  # e3nn has the copies of x slow, ours those of y
        lay = product.product.layout
        shapes = [(lay.y[p.y].mul, lay.x[p.x].mul) for o in lay.outputs for p in o.paths]
        theirs = torch.cat(
            [
                part.unflatten(-1, s).mT.flatten(-2)
                for part, s in zip(w.split([m * n for m, n in shapes], -1), shapes, strict=True)
            ],
            -1,
        )
    else:
        theirs = w
    ours = product(a, b, w if product.weight_numel else None)
    expected = peer(a, b, theirs) if product.weight_numel else peer(a, b)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    g = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for left, right in zip(
        torch.autograd.grad(ours, inputs, g, create_graph=True), torch.autograd.grad(expected, inputs, g), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)
    # Without a graph of the gradient the blocked backward pass runs.
    blocked = torch.autograd.grad(product(a, b, w if product.weight_numel else None), inputs, g)
    for left, right in zip(
        blocked, torch.autograd.grad(peer(a, b, theirs) if product.weight_numel else peer(a, b), inputs, g), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", ["depthwise", "connected"])
def test_blocks_need_less_memory_than_the_whole(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlangen.nn.products.blocked.BLOCK_BYTES", 1 << 16)
    product = TensorProduct("8x0e+8x1o+8x2e", "0e+1o+2e", "8x0e+8x1o+8x2e", rule="cg", form=form, weights="given")
    x, y = pair(product, 2000, dtype=torch.float32)
    w = torch.randn(product.weight_numel, generator=torch.Generator().manual_seed(2))
    in_blocks = peak_memory(lambda: product(x, y, w))
    monkeypatch.setattr("erlangen.nn.products.blocked.is_traced", lambda: True)
    whole = peak_memory(lambda: product(x, y, w))
    assert in_blocks < 0.5 * whole


@pytest.mark.parametrize("form", ["depthwise", "connected"])
@pytest.mark.parametrize("shared", [True, False])
def test_sum_over_edges_is_gather_multiply_scatter(form: str, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlangen.nn.products.blocked.BLOCK_BYTES", 1)  # blocks of 64 rows: several, the last one short
    irreps, edges, nodes = "4x0e+4x1o+4x2e", 300, 20
    product = TensorProduct(irreps, "0e+1o+2e", irreps, rule="cg", form=form, weights="given")
    generator = torch.Generator().manual_seed(0)
    x = product.irreps_x.randn(nodes, generator=generator, dtype=torch.float64).requires_grad_()
    y = product.irreps_y.randn(edges, generator=generator, dtype=torch.float64).requires_grad_()
    w = torch.randn(*(() if shared else (edges,)), product.weight_numel, generator=generator, dtype=torch.float64)
    w.requires_grad_()
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        messages = e3nn_of(product, {"depthwise": "uvu", "connected": "uvw"}[form])(
            x[edge_index[0]], y, w.expand(edges, -1)
        )
    expected = torch.zeros(nodes, messages.shape[1], dtype=torch.float64).index_add(0, edge_index[1], messages)
    ours = product.aggregate(x, y, edge_index, w)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    g = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad(ours, (x, y, w), g)
    for left, right in zip(found, torch.autograd.grad(expected, (x, y, w), g), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)
    assert product.aggregate(x, y, edge_index, w, num_nodes=nodes + 3)[nodes:].abs().sum() == 0


@pytest.mark.parametrize("form", ["depthwise", "connected"])
@pytest.mark.parametrize("rule", RULES)
def test_first_and_second_derivatives(form: str, rule: str) -> None:
    product = TensorProduct("2x0e+2x1o", "0e+1o", "2x0e+2x1o", rule=rule, form=form, weights="given")
    x, y = pair(product, 2)
    w = torch.rand(2, product.weight_numel, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, y, w)]
    assert torch.autograd.gradcheck(product, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(product, inputs, fast_mode=True)
    edge_index = torch.tensor([[0, 1], [1, 1]])
    assert torch.autograd.gradcheck(lambda a, b, c: product.aggregate(a, b, edge_index, c), inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda a, b, c: product.aggregate(a, b, edge_index, c), inputs, fast_mode=True)


# --- Gaunt -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("road", ["dense", "grid", "fourier"])
@pytest.mark.parametrize(("l1", "l2", "l3"), [(0, 0, 0), (1, 1, 2), (3, 2, 5), (2, 4, 3), (6, 6, 6), (10, 10, 10)])
def test_three_roads_to_the_gaunt_product(l1: int, l2: int, l3: int, road: str) -> None:
    out = Irreps.spherical_harmonics(l3)
    product = TensorProduct(
        Irreps.spherical_harmonics(l1), Irreps.spherical_harmonics(l2), out, rule="gaunt", form="elementwise", road=road
    )
    x, y = pair(product, 3)
    expected = torch.einsum("na,nb,abc->nc", x, y, gaunt_tensor(l1, l2, l3, dtype=torch.float64))
    torch.testing.assert_close(product(x, y), expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    single = product(x.float(), y.float())
    assert float((single - expected).norm()) < (1e-6 if l1 <= 6 else 2e-6) * float(expected.norm())


def test_signals_multiply_as_functions() -> None:
    product = TensorProduct(
        Irreps.spherical_harmonics(3), Irreps.spherical_harmonics(2), rule="gaunt", form="elementwise"
    )
    x, y = pair(product)
    points = torch.nn.functional.normalize(torch.randn(1000, 3, dtype=torch.float64), dim=-1)
    values = [spherical_harmonics(l, points) @ c for l, c in ((3, x), (2, y), (5, product(x, y)))]
    torch.testing.assert_close(values[2], values[0] * values[1], rtol=1e-12, atol=1e-12)


def test_pseudo_signals_multiply_by_the_sign_rule() -> None:
    """True times pseudo is pseudo, pseudo times pseudo is true: four Gaunt products, sorted by kind."""
    both = Irreps("0e+1o+0o+1e")
    product = TensorProduct(both, both, "0e+1o+2e+0o+1e+2o", rule="gaunt", form="elementwise")
    x, y = pair(product)
    G = gaunt_tensor(1, 1, 2, dtype=torch.float64)
    (a, s), (b, t) = x.split(4), y.split(4)

    def times(u: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("a,b,abc->c", u, v, G)

    expected = torch.cat([times(a, b) + times(s, t), times(a, t) + times(s, b)])
    torch.testing.assert_close(product(x, y), expected, rtol=1e-12, atol=1e-12)


def test_a_grid_one_smaller_is_not_exact() -> None:
    irreps, out = Irreps.spherical_harmonics(3), Irreps.spherical_harmonics(6)
    exact = TensorProduct(irreps, irreps, out, rule="gaunt", form="elementwise", grid=S2Grid.exact_for(12))
    x, y = pair(exact, 5)
    for polar, azimuthal in ((6, 13), (7, 12)):
        coarse = TensorProduct(
            irreps, irreps, out, rule="gaunt", form="elementwise", grid=S2Grid(polar, azimuthal), exact=False
        )
        assert float((coarse(x, y) - exact(x, y)).abs().max()) > 1e-3
        with pytest.raises(
            GridError, match=r"needs 12; the smallest grids are LebedevGrid\(degree=13\) or S2Grid\(polar=7, az"
        ):
            TensorProduct(irreps, irreps, out, rule="gaunt", form="elementwise", grid=S2Grid(polar, azimuthal))


# --- vector and matrix -----------------------------------------------------------------------------------------------
def test_vector_rule_has_the_cross_product() -> None:
    product = TensorProduct("1o", "1o", "1e", rule="vector", form="elementwise")
    x, y = pair(product, 10)
    cross = torch.linalg.cross(x, y)
    ratio = (product(x, y) * cross).sum() / cross.square().sum()
    torch.testing.assert_close(product(x, y), ratio * cross, rtol=1e-12, atol=1e-12)
    assert abs(float(ratio)) > 0.01


def test_matrix_rule_is_associative_and_its_commutator_odd() -> None:
    """Coordinates of matrices on degrees 0..2; products of three are compared as matrices, before any truncation."""
    product = TensorProduct("0e+1o+2e", "0e+1o+2e", rule="matrix", form="elementwise")
    carrier = product.product.carrier
    like = torch.zeros(1, dtype=torch.float64)
    X, Y, Z = (torch.randn(3, carrier.table_x.value.shape[0], dtype=torch.float64) @ carrier.table_x(like)).unflatten(
        -1, (9, 9)
    )
    torch.testing.assert_close((X @ Y) @ Z, X @ (Y @ Z))
    x, y = pair(product, 4)
    odd = product(x, y) - product(y, x)
    for block, where in zip(product.irreps_out, product.irreps_out.slices(), strict=True):
        natural = block.ir.p == (-1) ** block.ir.l
        assert bool((odd[..., where].abs() > 1e-6).any()) != natural  # even paths commute, odd ones do not


# --- what rules can express (Xie et al. 2025, section 3; counts verified with e3nn's paths) --------------------------
@pytest.mark.parametrize("L", [1, 2, 3])
def test_expressivity_by_rank(L: int) -> None:
    natural = Irreps.spherical_harmonics(L), Irreps.spherical_harmonics(L), Irreps.spherical_harmonics(2 * L)
    rank = {rule: TensorProduct(*natural, rule=rule, form="depthwise").expressivity() for rule in ("cg", "gaunt")}
    assert rank == {"cg": (L + 1) * (L + 2) * (2 * L + 3) // 6, "gaunt": 4 * L + 1}
    paths = len(o3.FullTensorProduct(str(natural[0]), str(natural[1])).instructions)
    assert len(TensorProduct(*natural[:2], rule="cg").product.layout.paths) == paths == [6, 19, 44][L - 1]


def test_degrees_that_interact() -> None:
    """Clebsch-Gordan: all triangles of the right parity; Gaunt: even sums alone; the other two reach odd ones."""
    both = Irreps("0e+1o+2e+1e+2o")
    for rule, odd in (("cg", True), ("gaunt", False), ("vector", True), ("matrix", True)):
        product = TensorProduct("0e+1o+2e", "0e+1o+2e", both if rule != "gaunt" else None, rule=rule, form="depthwise")
        for l1, l2, l3 in itertools.product(range(3), repeat=3):
            triangle = abs(l1 - l2) <= l3 <= l1 + l2
            reached = product.interacts(l1, l2, l3)
            assert reached <= (triangle and (odd or (l1 + l2 + l3) % 2 == 0)), (rule, l1, l2, l3)
            assert reached or not triangle or ((l1 + l2 + l3) % 2 and not odd), (rule, l1, l2, l3)


def test_flops_count_the_matrix_products() -> None:
    """Full product of vectors: nine products of entries, and one 9 x 9 matrix to the degrees 0, 1 and 2."""
    product = TensorProduct("1o", "1o", rule="cg")
    assert product.flops() == 9 + 2 * 9 * 9


# --- the contract ----------------------------------------------------------------------------------------------------
CONTRACT = [
    {"irreps_x": "4x0e+2x1o", "irreps_y": "2x0e+3x1o", "rule": "cg"},
    {"irreps_x": "4x0e+4x1o", "irreps_y": "4x0e+4x1o", "form": "elementwise", "rule": "cg"},
    {"irreps_x": "4x0e+4x1o", "irreps_y": "4x0e+4x1o", "form": "elementwise", "rule": "cg_sparse"},
    {"irreps_x": "4x0e+4x1o", "irreps_y": "0e+1o", "irreps_out": "4x0e+4x1o", "form": "depthwise", "rule": "cg"},
    {"irreps_x": "4x0e+2x1o", "irreps_y": "2x0e+3x1o", "irreps_out": "4x0e+5x1o+2x1e", "form": "connected", "rule": "cg"},
    *(
        {"irreps_x": "3x0e+3x1o+3x1e", "irreps_y": "0e+1o", "irreps_out": out, "form": form, "rule": rule}
        for rule in ("gaunt", "vector", "matrix")
        for form, out in (("depthwise", None), ("connected", "4x0e+5x1o+2x1e"))
    ),
]  # fmt: skip


@pytest.mark.parametrize("arguments", CONTRACT, ids=lambda a: f"{a['rule']}-{a.get('form', 'full')}")
def test_layer_contract(arguments: dict[str, str], generator: torch.Generator) -> None:
    product = TensorProduct(**arguments, generator=generator)
    check_layer(product, tuple(t.float() for t in pair(product, 3)))
    assert product.symmetry.group == O(3)
    error = torch.zeros(())
    wide = product.double()
    x, y = pair(product, 20)
    for R in O(3).sample(20, generator=generator, dtype=torch.float64):
        moved = wide(product.irreps_x.act(R, x), product.irreps_y.act(R, y))
        error = torch.maximum(error, (moved - product.irreps_out.act(R, wide(x, y))).abs().max())
    assert float(error.detach()) < 1e-12 * float(wide(x, y).detach().abs().max())


@pytest.mark.parametrize("rule", RULES)
def test_leading_axes_broadcast(rule: str) -> None:
    product = TensorProduct("0e+1o", "0e+1o", "0e+1o", rule=rule, form="depthwise", weights="given").double()
    x, y = pair(product, 5, 1)[0], pair(product, 4)[1]
    w = torch.randn(product.weight_numel, dtype=torch.float64)
    out = product(x, y, w)
    assert out.shape == (5, 4, 4)
    torch.testing.assert_close(out[2, 3], product(x[2, 0], y[3], w))
    assert product(x[:0], y, w).shape == (0, 4, 4)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("rule", RULES)
def test_half_precision_keeps_its_dtype(rule: str, dtype: torch.dtype, bound: float) -> None:
    product = TensorProduct(
        "4x0e+4x1o+4x2e", "0e+1o+2e", "4x0e+4x1o+4x2e", rule=rule, form="depthwise", weights="given"
    )
    x, y = (t.to(dtype) for t in pair(product, 50))
    w = torch.randn(product.weight_numel).to(dtype)
    out, exact = product(x, y, w), product(x.double(), y.double(), w.double())
    assert out.dtype == dtype
    assert float((out - exact).abs().max()) < bound * float(exact.abs().max())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(x.float(), y.float(), w.float()).dtype == torch.float32


def test_components_have_unit_variance(generator: torch.Generator) -> None:
    product = TensorProduct(
        "16x0e+16x1o+16x2e", "0e+1o+2e", "16x0e+16x1o+16x2e", rule="cg", form="connected", generator=generator
    )
    x, y = (irreps.randn(2000, generator=generator) for irreps in (product.irreps_x, product.irreps_y))
    assert 0.8 < float(product(x, y).detach().var()) < 1.25


def test_auto_says_what_it_chose() -> None:
    low = TensorProduct("4x0e+4x1o", "0e+1o", "4x0e+4x1o", form="depthwise")
    high = TensorProduct(*(Irreps.spherical_harmonics(6) for _ in range(3)), form="depthwise")
    odd = TensorProduct(Irreps.spherical_harmonics(6), Irreps.spherical_harmonics(6), "1e", form="depthwise")
    assert (low.rule, high.rule, odd.rule) == ("cg", "gaunt", "cg")
    assert "degrees below" in low.reason
    assert "signals carry" in repr(high)
    assert "cannot carry" in odd.reason


def test_records_conventions() -> None:
    product = TensorProduct("0e+1o", "0e+1o", "0e+1o", form="depthwise")
    assert set(product.state_dict()) == {"weight", "_extra_state"}


def test_function_and_layer_agree() -> None:
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(
        tensor_product(x, y, "1o", "1o", keep=["0e"])[:, 0], (x * y).sum(-1) / math.sqrt(3), rtol=1e-6, atol=1e-6
    )


# --- bad input -------------------------------------------------------------------------------------------------------
def test_bad_irreps() -> None:
    with pytest.raises(
        IrrepsError, match=r"irreps_x: not a list of irreps: a parity is expected here.*\n  4x0e\+1\n +\^"
    ):
        TensorProduct("4x0e+1", "1o")
    with pytest.raises(
        IrrepsError,
        match=r"no path from 1x1o times 1x1o leads to 1x3e in the form 'connected'; irreps reached: 0e, 1e, 2e",
    ):
        TensorProduct("1o", "1o", "3e", rule="cg", form="connected")
    with pytest.raises(IrrepsError, match="2e comes with multiplicity 4"):
        TensorProduct("4x1o", "1o", "5x2e", rule="cg", form="depthwise")
    with pytest.raises(IrrepsError, match="3e has degree 3, but the degrees 1 of x and 1 of y reach 2 at most"):
        TensorProduct("1o", "1o", "3e", rule="gaunt", form="elementwise")
    with pytest.raises(
        IrrepsError, match='cannot carry 1e, which needs a pseudo-signal; use rule="vector" or rule="cg"'
    ):
        TensorProduct("1o", "1o", "1e", rule="gaunt", form="elementwise")
    with pytest.raises(IrrepsError, match="irreps_x: no polar vector field carries 0o"):
        TensorProduct("0o", "1o", "1e", rule="vector", form="elementwise")
    with pytest.raises(IrrepsError, match="have no block for 0o"):
        TensorProduct("0o", "1o", "1e", rule="matrix", form="elementwise")
    with pytest.raises(IrrepsError, match=r"irreps_x: 1o occurs in 2 blocks.*join them, as in 2x1o"):
        TensorProduct("1o+1o", "1o", rule="gaunt", form="elementwise")
    with pytest.raises(IrrepsError, match=r"irreps_y: 2x1o has 2 copies, but all blocks need the 3 channels"):
        TensorProduct("3x1o", "2x1o", rule="gaunt", form="elementwise")
    with pytest.raises(IrrepsError, match='irreps_out is missing: the form "connected"'):
        TensorProduct("1o", "1o", form="connected")
    with pytest.raises(IrrepsError, match='the form "full" needs rule="cg"'):
        TensorProduct("1o", "1o", rule="gaunt")
    with pytest.raises(UnknownNameError, match="rule is 'gount'; known are: 'auto', 'cg'"):
        TensorProduct("1o", "1o", rule="gount")


def test_bad_tensors() -> None:
    product = TensorProduct("0e+1o", "1o", "0e+1o", rule="cg", form="depthwise", weights="given", check=True)
    x, y, w = torch.zeros(5, 4), torch.zeros(5, 3), torch.zeros(product.weight_numel)
    with pytest.raises(
        ShapeError, match=r"x has shape \(5, 9\), but irreps 1x0e\+1x1o need \[..., 4\]; 9 numbers are one copy of"
    ):
        product(torch.zeros(5, 9), y, w)
    with pytest.raises(ShapeError, match="y is missing"):
        product(x)
    with pytest.raises(ShapeError, match="weight is missing"):
        product(x, y)
    with pytest.raises(ShapeError, match=r"weight has shape \(7,\), but \[..., 2\] is needed"):
        product(x, y, torch.zeros(7))
    with pytest.raises(ShapeError, match="do not broadcast"):
        product(x[:3], y, w)
    with pytest.raises(DtypeError, match=r"y has dtype torch\.float64, but x has"):
        product(x, y.double(), w)
    with pytest.raises(DtypeError, match=r"x has dtype torch\.int64, but a floating"):
        product(x.long(), y, w)
    with pytest.raises(DtypeError, match="y is on meta, but x is on cpu; move one of them"):
        product(x, y.to("meta"), w)
    with pytest.raises(NotFiniteError, match="weight holds NaN"):
        product(x, y, w + torch.nan)
    with pytest.raises(ShapeError, match=r"int64 \[2, 5\] is needed"):
        product.aggregate(x, y, torch.zeros(2, 4, dtype=torch.int64), w)
    with pytest.raises(ShapeError, match="edge_index holds values from 0 to 5, but there are 5 rows of x"):
        product.aggregate(x, y, torch.full((2, 5), 5).index_fill(1, torch.tensor([0]), 0), w)


def test_nan_weights_stay_in_their_rows() -> None:
    product = TensorProduct("4x0e+4x1o", "0e+1o", "4x0e+4x1o", rule="cg", form="depthwise", weights="given")
    x, y = (t.float() for t in pair(product, 6))
    w = torch.ones(6, product.weight_numel)
    w[2] = torch.nan
    assert torch.isfinite(product(x, y, w)).all(-1).tolist() == [True, True, False, True, True, True]


def test_three_irreps_are_told_about_the_connected_form() -> None:
    with pytest.raises(IrrepsError, match=r'pass form="connected" to mix into 4x0e\+4x1o with weights'):
        TensorProduct("4x0e+4x1o", "0e+1o", "4x0e+4x1o")
    ours = TensorProduct("4x0e+4x1o", "0e+1o", "4x0e+4x1o", form="connected")
    assert ours.weight_numel == o3.FullyConnectedTensorProduct("4x0e+4x1o", "0e+1o", "4x0e+4x1o").weight_numel
