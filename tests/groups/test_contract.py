"""One contract for all groups: every group that `erlangen.group` parses, and the combinators it cannot."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from erlangen.errors import (
    ErlangenError,
    GroupElementError,
    GroupError,
    OrbitError,
    ShapeError,
)
from erlangen.groups import (
    SE,
    SO,
    E,
    Flow,
    Generated,
    Group,
    O,
    Octahedral,
    Scaling,
    Shifts,
    Stabilizer,
    Subgroup,
    Wreath,
    group,
)

NAMES = [
    *("SO(2)", "SO(3)", "SO(4)", "O(2)", "O(3)", "O(4)", "TrivialGroup(3)"),
    *("Scaling(1)", "Scaling(3)", "CSO(2)", "SL(2)", "SL(3)", "Sp(1)", "Sp(2)", "GL+(1)", "GL+(2)", "GL+(3)"),
    *("Lorentz(1,1)", "Lorentz(1,3)", "SL(2, scale=0.25)"),
    *("SE(2)", "SE(3)", "E(2)", "E(3)", "Translation(1)", "Translation(3)", "Similarity(2)", "Affine(2)"),
    *("SemidirectProduct(O_h)", "SemidirectProduct(Dihedral(4), translation_scale=2)"),
    *("Cyclic(1)", "Cyclic(4)", "Cyclic(7)", "Cyclic(10000)", "Dihedral(1)", "Dihedral(2)", "Dihedral(5)"),
    *("Tetrahedral", "Octahedral", "O_h", "Icosahedral", "I_h"),
    *("Symmetric(1)", "Symmetric(2)", "Symmetric(5)", "Symmetric(200)", "Shifts(28,28)", "Shifts(1,3,4)"),
    *("Hyperoctahedral(1)", "Hyperoctahedral(3)"),
    *("Monomial(1)", "Monomial(4)", "Monomial(3, sets=2)", "Monomial(3, sets=2, scale=0.25)"),
    *("SO(3) x Symmetric(5)", "Cyclic(4) x Dihedral(3)", "SE(2) x Cyclic(3) x Affine(2)", "Scaling(2) x O(2)"),
]


def about_z(h: torch.Tensor) -> torch.Tensor:
    """O(2) into O(3), in the plane of the first two axes."""
    unit = torch.ones(1, 1, dtype=h.dtype).expand(*h.shape[:-2], 1, 1)
    top = torch.cat([h, torch.zeros_like(h[..., :1])], -1)
    return torch.cat([top, torch.cat([torch.zeros_like(h[..., :1, :]), unit], -1)], -2)


COMBINED = [
    Stabilizer(O(3), [1.0, 2.0, -1.0]),
    Stabilizer(SO(4), [[1.0, 2.0, -1.0, 0.5], [0.0, 1.0, 1.0, 0.0]]),
    Stabilizer(O(2), [3.0, 4.0]),
    Stabilizer(SO(2), [3.0, 4.0]),
    Stabilizer(E(3), [0.0, 0.0, 1.0]),
    Stabilizer(Octahedral(inversion=True), [0.0, 0.0, 1.0]),
    Subgroup(O(3), O(2), about_z),
    Flow(SE(2), [[1.0, 0.5, 2.0]]),
    Flow(group("Translation(2)"), [[1.0, 0.0], [0.5, 2.0]], scale=2.0),
    Flow(Shifts(12, 20), [[1, 0], [0, 3]], scale=2),
    Generated(SE(2), Scaling(2)),
    Generated(group("Cyclic(4)"), group("Dihedral(3)")),
    Wreath(1, O(3)),
    Wreath(3, group("CSO(2) x CSO(2)"), group("GL+(4)")),
]
GROUPS = [*map(group, NAMES), *COMBINED]
DTYPES = [torch.float32, torch.float64]
FLOATING = [G for G in GROUPS if G.element_dtype is None]
LIE = [G for G in GROUPS if G.dim > 0]
FINITE = [G for G in GROUPS if G.order <= 2000]

every_group = pytest.mark.parametrize("G", GROUPS, ids=repr)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
seeds = st.integers(0, 2**31)


def draw(G: Group, n: int | tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return G.sample(n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_same(a: torch.Tensor, b: torch.Tensor, tol: float, *factors: torch.Tensor) -> None:
    """Equal, or for floating tensors equal up to `tol` times the largest norms of the factors of a product."""
    assert a.dtype == b.dtype
    if not a.is_floating_point():
        assert torch.equal(a, b)
        return
    scale = math.prod(max(1.0, float(x.to(torch.float64).flatten().norm(torch.inf))) for x in factors)
    torch.testing.assert_close(a, b, rtol=0, atol=tol * scale)


# --- names ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_name_parses_back_to_the_same_group(name: str) -> None:
    G = group(name)
    assert G.name == name
    assert group(G.name) == G
    assert hash(group(G.name)) == hash(G)
    assert group(G) is G
    assert str(G) == name


def test_different_groups_are_different() -> None:
    assert len(set(GROUPS)) == len(GROUPS)
    assert group("SO(3)") != "SO(3)"


# --- axioms -----------------------------------------------------------------------------------------------
@every_group
@settings(deadline=None, max_examples=5)
@given(seed=seeds)
def test_axioms(G: Group, seed: int) -> None:
    g, h, k = draw(G, (3, 4), seed)
    e = G.identity(dtype=torch.float64)
    g_inverse = G.inverse(g)
    assert_same(G.compose(G.compose(g, h), k), G.compose(g, G.compose(h, k)), 1e-12, g, h, k)
    assert_same(G.compose(g, e), g, 1e-12, g)
    assert_same(G.compose(e, g), g, 1e-12, g)
    assert_same(G.compose(g, g_inverse), e.expand_as(g), 1e-12, g, g_inverse)
    assert_same(G.compose(g_inverse, g), e.expand_as(g), 1e-12, g, g_inverse)
    assert_same(G.inverse(G.compose(g, h)), G.compose(G.inverse(h), g_inverse), 1e-11, g_inverse, G.inverse(h), h)


@every_group
def test_axioms_hold_in_float32(G: Group) -> None:
    g, h, k = draw(G, (3, 20), dtype=torch.float32)
    e, g_inverse = G.identity(dtype=torch.float32), G.inverse(g)
    assert_same(G.compose(G.compose(g, h), k), G.compose(g, G.compose(h, k)), 1e-5, g, h, k)
    assert_same(G.compose(g, g_inverse), e.expand_as(g), 1e-5, g, g_inverse)


@every_group
def test_products_broadcast(G: Group) -> None:
    g, h = draw(G, (3, 1), 1), draw(G, 4, 2)
    both = G.compose(g, h)
    assert both.shape == (3, 4, *G.shape)
    for i in range(3):
        for j in range(4):
            assert_same(both[i, j], G.compose(g[i, 0], h[j]), 1e-13, g, h)
    assert G.inverse(g).shape == g.shape
    assert G.linear(g).shape == (3, 1, G.space_dim, G.space_dim)
    assert G.contains(h).shape == (4,)


# --- elements ---------------------------------------------------------------------------------------------
@every_group
@both_dtypes
def test_identity(G: Group, dtype: torch.dtype) -> None:
    e = G.identity(dtype=dtype)
    assert e.shape == G.shape
    assert e.dtype == (G.element_dtype or dtype)
    assert G.contains(e)
    assert torch.equal(G.linear(e, dtype=dtype), torch.eye(G.space_dim, dtype=dtype))


@every_group
@both_dtypes
def test_sample_shape_dtype_and_seed(G: Group, dtype: torch.dtype) -> None:
    g = draw(G, (2, 3), 5, dtype)
    assert g.shape == (2, 3, *G.shape)
    assert g.dtype == (G.element_dtype or dtype)
    assert torch.equal(g, draw(G, (2, 3), 5, dtype))
    assert draw(G, 4, 5, dtype).shape == (4, *G.shape)
    assert draw(G, 0, 5, dtype).shape == (0, *G.shape)
    assert G.sample().shape == (1, *G.shape)
    if G.element_dtype is None:
        torch.testing.assert_close(g, draw(G, (2, 3), 5).to(dtype), rtol=1e-6, atol=1e-6)
    if G.order > 100:
        assert not torch.equal(draw(G, 20, 5), draw(G, 20, 6))


@every_group
@both_dtypes
def test_samples_are_elements(G: Group, dtype: torch.dtype) -> None:
    g = draw(G, 50, dtype=dtype)
    assert G.contains(g).all()
    assert G.contains(G.inverse(g)).all()
    G.check(g)


@every_group
def test_garbage_is_no_element(G: Group) -> None:
    if G.element_dtype is None:
        bad = draw(G, 3)
        bad[1] = torch.nan
        assert G.contains(bad).tolist() == [True, False, True]
        assert not G.contains(torch.zeros(2, *G.shape, dtype=torch.int64)).any()
        with pytest.raises(GroupElementError, match=r"g\[1\] is not an element of"):
            G.check(bad)
    else:
        assert not G.contains(torch.zeros(2, *G.shape)).any()
        if G.order != math.inf:
            assert not G.contains(torch.full((2, *G.shape), -1)).any()
            assert not G.contains(torch.full((2, *G.shape), 10**6)).any()
            with pytest.raises(GroupElementError, match=r"elements.* is not an element of"):
                G.check(torch.full(G.shape, -1), name="elements")


@pytest.mark.parametrize("G", [G for G in FLOATING if not isinstance(G, Flow)], ids=repr)
def test_the_zero_tensor_is_no_element(G: Group) -> None:
    assert not G.contains(torch.zeros(G.shape)).any()


@every_group
def test_a_wrong_shape_is_named(G: Group) -> None:
    g = draw(G, 2)
    if G.shape:
        with pytest.raises(ShapeError, match="elements of"):
            G.check(g[..., :0])
        with pytest.raises(ShapeError, match="elements of"):
            G.contains(g[..., :0])


@every_group
def test_elements(G: Group) -> None:
    if G.order > 50_000:
        with pytest.raises(OrbitError, match=r"use \.sample"):
            G.elements()
        return
    g = G.elements()
    assert g.shape == (G.order, *G.shape)
    assert_same(g[0], G.identity(dtype=g.dtype if g.is_floating_point() else None), 0)
    assert len(torch.unique(g, dim=0)) == G.order
    assert G.contains(g).all()


@every_group
def test_grid(G: Group) -> None:
    try:
        g = G.grid(12 if G.order == math.inf else min(int(G.order), 2000))
    except GroupError as error:
        assert re.search("no quasi-uniform grid|leave out some", str(error))  # noqa: PT017 - either is allowed
        return
    if G.order == math.inf:
        assert g.shape == (12, *G.shape)
        assert G.contains(g).all()
        assert torch.equal(g, G.grid(12))
    else:
        assert torch.equal(g, G.elements())
        assert len(G.grid(int(G.order) + 5)) == G.order
        if G.order > 1:
            with pytest.raises(ErlangenError, match="sample"):
                G.grid(int(G.order) - 1)


# --- the action on R^n ------------------------------------------------------------------------------------
@every_group
@both_dtypes
def test_linear_is_a_homomorphism(G: Group, dtype: torch.dtype) -> None:
    g, h = draw(G, (2, 10), dtype=dtype)
    A, B = G.linear(g, dtype=dtype), G.linear(h, dtype=dtype)
    assert A.dtype == dtype
    assert_same(G.linear(G.compose(g, h), dtype=dtype), A @ B, 1e-12 if dtype == torch.float64 else 1e-5, A, B)


@every_group
def test_translation_is_a_cocycle(G: Group) -> None:
    g, h = draw(G, (2, 10))
    s, t = (G.translation(x, dtype=torch.float64) for x in (g, h))
    if s is None or t is None:
        assert t is None
        return
    st = G.translation(G.compose(g, h), dtype=torch.float64)
    assert st is not None
    assert s.dtype == torch.float64
    away = st - (torch.einsum("...ij,...j->...i", G.linear(g, dtype=torch.float64), t) + s)
    base = G.group if isinstance(G, Flow) else G
    if isinstance(base, Shifts):  # the grid is periodic: equal modulo its size
        away = away % torch.tensor(base.sizes)
    assert_same(away, torch.zeros_like(away), 1e-12, g, h)


# --- generators -------------------------------------------------------------------------------------------
@every_group
def test_generators_belong_to_the_group(G: Group) -> None:
    k = G.discrete_generators
    assert k.shape[1:] == G.shape
    assert k.dtype == (G.element_dtype or k.dtype)
    assert G.contains(k).all()


@pytest.mark.parametrize("G", [G for G in FINITE if G.order <= 800], ids=repr)
def test_discrete_generators_generate_a_finite_group(G: Group) -> None:
    reached = G.identity()[None]
    while True:
        products = G.compose(G.discrete_generators[:, None].to(reached), reached).flatten(0, 1)
        everything = torch.cat([reached, products])
        if everything.is_floating_point():
            everything = everything.round(decimals=4) + 0.0
        everything = torch.unique(everything, dim=0)
        if len(everything) == len(reached):
            break
        reached = everything
    assert len(reached) == G.order


# --- Lie algebra ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("G", [G for G in GROUPS if G.dim == 0], ids=repr)
def test_groups_without_algebra_say_so(G: Group) -> None:
    assert len(G.lie_algebra) == 0
    if G.element_dtype is not None:
        with pytest.raises(GroupError, match="no Lie algebra"):
            G.exp(torch.zeros(0))
        with pytest.raises(GroupError, match="no Lie algebra"):
            G.log(G.identity())


@pytest.mark.parametrize("G", LIE, ids=repr)
@both_dtypes
def test_exp_and_log(G: Group, dtype: torch.dtype) -> None:
    tol = 1e-11 if dtype == torch.float64 else 2e-5
    a = 0.3 * torch.randn(10, G.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    g = G.exp(a)
    assert g.shape == (10, *G.shape)
    assert g.dtype == dtype
    assert G.contains(g).all()
    assert_same(G.log(g), a, tol)
    assert_same(G.exp(G.log(g)), g, tol, g)
    assert_same(G.exp(torch.zeros(G.dim, dtype=dtype)), G.identity(dtype=dtype), tol)
    assert_same(G.compose(G.exp(0.25 * a), G.exp(0.75 * a)), g, tol, g)
    assert_same(G.vee(G.hat(a)), a, tol)
    with pytest.raises(ShapeError, match="algebra coordinates"):
        G.exp(torch.zeros(2, G.dim + 1, dtype=dtype))


@pytest.mark.parametrize("G", [G for G in LIE if G.lie_algebra.shape[1:] == G.shape], ids=repr)
def test_exp_of_matrix_groups_is_the_matrix_exponential(G: Group) -> None:
    a = torch.randn(3, G.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.from_numpy(expm(G.hat(a).numpy()))
    assert_same(G.exp(a), expected, 1e-12, expected, expected)


@pytest.mark.parametrize("G", LIE, ids=repr)
def test_adjoint(G: Group) -> None:
    g = draw(G, 5)
    a = 0.3 * torch.randn(5, G.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turned = torch.einsum("...ij,...j->...i", G.adjoint(g), a)
    expected = G.compose(G.compose(g, G.exp(a)), G.inverse(g))
    assert_same(G.exp(turned), expected, 1e-11, g, G.inverse(g))


@every_group
def test_measure(G: Group) -> None:
    g = draw(G, (2, 5))
    delta = G.modular_function(g)
    assert delta.shape == (2, 5)
    if G.dim:
        volume = torch.linalg.det(G.adjoint(G.inverse(g))).abs()
        torch.testing.assert_close(delta, volume, rtol=1e-9, atol=0)
    if G.is_unimodular:
        assert_same(delta, torch.ones_like(delta), 1e-12)
    else:
        assert (delta - 1).abs().max() > 1e-3
    if G.is_compact:
        assert torch.equal(G.log_haar_weight(g), torch.zeros_like(delta))
    elif not G.name.startswith("Generated"):
        weight = G.log_haar_weight(g)
        assert weight.shape == (2, 5)
        assert torch.isfinite(weight).all()
