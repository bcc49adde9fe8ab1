"""Direct products, subgroups and stabilizers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.spatial.transform import Rotation
from scipy.stats import kstest

from erlangen.errors import (
    DtypeError,
    GroupElementError,
    GroupError,
    NotFiniteError,
    ShapeError,
)
from erlangen.groups import (
    SE,
    SO,
    Affine,
    Cyclic,
    Dihedral,
    DirectProduct,
    E,
    FiniteMatrixGroup,
    GLPlus,
    Icosahedral,
    O,
    Octahedral,
    Scaling,
    SemidirectProduct,
    Shifts,
    Stabilizer,
    Subgroup,
    Symmetric,
)

DTYPES = [torch.float32, torch.float64]
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- DirectProduct ----------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), wide=st.booleans())
def test_split_and_join_are_inverse(seed: int, wide: bool) -> None:
    dtype = torch.float64 if wide else torch.float32
    G = DirectProduct(SO(3), Symmetric(5), Cyclic(10_000), SE(2))
    g = G.sample((2, 3), generator=seeded(seed), dtype=dtype)
    R, p, k, m = G.split(g)
    assert [c.shape for c in (R, p, k, m)] == [(2, 3, 3, 3), (2, 3, 5), (2, 3), (2, 3, 3, 3)]
    assert [c.dtype for c in (R, p, k, m)] == [dtype, torch.int64, torch.int64, dtype]
    for factor, component in zip(G.factors, (R, p, k, m), strict=True):
        assert factor.contains(component).all()
    assert torch.equal(G.join(R, p, k, m), g)


def test_join_broadcasts_and_promotes() -> None:
    G = DirectProduct(SO(2), Symmetric(3))
    g = G.join(torch.eye(2).expand(4, 1, 2, 2), torch.tensor([2, 0, 1]).expand(5, 3))
    assert g.shape == (4, 5, 7)
    assert g.dtype == torch.float32
    mixed = DirectProduct(SO(2), SO(2)).join(torch.eye(2), torch.eye(2, dtype=torch.float64))
    assert mixed.dtype == torch.float64
    with pytest.raises(ShapeError, match="has 2 components, got 1"):
        G.join(torch.eye(2))
    with pytest.raises(ShapeError, match=r"elements of Symmetric\(3\)"):
        G.join(torch.eye(2), torch.arange(4))


def test_operations_are_componentwise() -> None:
    G = DirectProduct(SE(2), Dihedral(5), GLPlus(2))
    g, h = G.sample((2, 6), generator=seeded(), dtype=torch.float64)
    parts = zip(G.factors, G.split(g), G.split(h), G.split(G.compose(g, h)), G.split(G.inverse(g)), strict=True)
    for factor, a, b, ab, a_inverse in parts:
        assert torch.equal(ab, factor.compose(a, b))
        assert torch.equal(a_inverse, factor.inverse(a))


def test_linear_is_block_diagonal() -> None:
    G = DirectProduct(SO(3), Symmetric(2), Affine(1))
    g = G.sample(4, generator=seeded(), dtype=torch.float64)
    R, p, m = G.split(g)
    t = G.translation(g)
    assert t is not None
    for i in range(4):
        P = torch.eye(2, dtype=torch.float64)[p[i]]
        assert torch.equal(G.linear(g)[i], torch.block_diag(R[i], P, m[i, :1, :1]))
        assert t[i].tolist() == [0, 0, 0, 0, 0, float(m[i, 0, 1])]
    assert G.space_dim == 6
    assert DirectProduct(SO(2), O(3)).translation(torch.zeros(3, 13)) is None


def test_sizes_and_flags() -> None:
    G = DirectProduct(SO(3), Symmetric(5))
    assert (G.dim, G.order, G.is_compact, G.element_dtype) == (3, math.inf, True, None)
    assert G.name == "SO(3) x Symmetric(5)"
    finite = DirectProduct(Cyclic(4), Symmetric(3), Shifts(2, 2))
    assert (finite.dim, finite.order, finite.element_dtype) == (0, 96, torch.int64)
    assert len(finite.elements()) == 96
    assert torch.equal(finite.grid(96), finite.elements())
    with pytest.raises(GroupError, match="would leave out some of its 96"):
        finite.grid(95)
    assert not DirectProduct(SO(2), Scaling(2)).is_compact
    assert not DirectProduct(SO(2), Affine(2)).is_unimodular
    assert DirectProduct(Symmetric(200), SO(2)).order == math.inf
    assert DirectProduct(Symmetric(200), Cyclic(2)).order == 2 * math.factorial(200)


def test_products_are_flat_and_compare_by_factors() -> None:
    nested = DirectProduct(DirectProduct(SO(2), O(2)), Cyclic(3))
    assert nested.factors == (SO(2), O(2), Cyclic(3))
    assert nested == DirectProduct(SO(2), O(2), Cyclic(3))
    assert nested != DirectProduct(O(2), SO(2), Cyclic(3))
    tables = [Cyclic(4).matrices, Dihedral(2).matrices]
    a, b = (DirectProduct(FiniteMatrixGroup("F", m), SO(2)) for m in tables)
    assert a.name == b.name
    assert a != b
    with pytest.raises(GroupError, match="needs at least two groups, got 1"):
        DirectProduct(SO(3))


def test_measures_multiply() -> None:
    G = DirectProduct(Affine(2), Cyclic(4), Scaling(3))
    g = G.sample(7, generator=seeded(), dtype=torch.float64)
    m, _, s = G.split(g)
    expected = Affine(2).log_haar_weight(m) + Scaling(3).log_haar_weight(s)
    torch.testing.assert_close(G.log_haar_weight(g), expected)
    torch.testing.assert_close(G.modular_function(g), Affine(2).modular_function(m))


def test_product_algebra() -> None:
    G = DirectProduct(SO(3), Cyclic(4), Scaling(2))
    assert G.dim == 4
    basis = G.lie_algebra
    zero = torch.zeros(3, 3, dtype=torch.float64)
    for k in range(3):
        assert torch.equal(basis[k], torch.block_diag(SO(3).lie_algebra[k], zero[:2, :2]))
    assert torch.equal(basis[3], torch.block_diag(zero, torch.eye(2, dtype=torch.float64)))
    a = 0.1 * torch.arange(8, dtype=torch.float64).reshape(2, 4)
    R, k, s = G.split(G.exp(a))
    torch.testing.assert_close(R, torch.from_numpy(Rotation.from_rotvec(a[:, :3].numpy()).as_matrix()))
    assert k.tolist() == [0, 0]
    torch.testing.assert_close(s[:, 0, 0], a[:, 3].exp())


def test_the_logarithm_of_a_finite_component() -> None:
    G = DirectProduct(SO(2), Cyclic(4), O(3))
    g = G.identity(dtype=torch.float64).repeat(3, 1)
    assert torch.equal(G.log(g), torch.zeros(3, 4, dtype=torch.float64))
    g[2, 4] = 1
    with pytest.raises(GroupElementError, match=r"g\[2\] .* component in Cyclic\(4\) is 1, not the identity"):
        G.log(g)
    with pytest.raises(GroupError, match="no Lie algebra"):
        DirectProduct(Cyclic(2), Cyclic(3)).log(torch.zeros(2, dtype=torch.int64))


def test_what_is_no_tuple_of_elements() -> None:
    G = DirectProduct(SO(2), Cyclic(4))
    g = G.identity().repeat(5, 1)
    g[1, 4], g[2, 4], g[3, 4], g[4, 0] = 0.5, 4.0, torch.inf, 2.0
    assert G.contains(g).tolist() == [True, False, False, False, False]
    assert not G.contains(torch.zeros(5, dtype=torch.int64))
    finite = DirectProduct(Cyclic(2), Cyclic(3))
    assert not finite.contains(torch.zeros(2))
    assert finite.contains(torch.tensor([[1, 2], [2, 0]])).tolist() == [True, False]
    with pytest.raises(DtypeError, match="are floating; use join"):
        G.compose(torch.zeros(5, dtype=torch.int64), g)
    with pytest.raises(DtypeError, match="are int64"):
        finite.inverse(torch.zeros(2))


# --- Subgroup ---------------------------------------------------------------------------------------------
def about_z(h: torch.Tensor) -> torch.Tensor:
    padded = torch.nn.functional.pad(h, (0, 1, 0, 1))
    return padded + torch.diag(torch.tensor([0.0, 0.0, 1.0])).to(h)


def quarter_turns(k: torch.Tensor) -> torch.Tensor:
    return about_z(Cyclic(4).linear(k, dtype=torch.float64))


def test_a_subgroup_acts_through_its_parent() -> None:
    G = Subgroup(SO(3), SO(2), about_z, name="rotations about z")
    assert Subgroup(SO(3), SO(2), about_z).name == "Subgroup(SO(3), SO(2))"
    angle = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    expected = Rotation.from_rotvec(np.array([[0, 0, 0.3], [0, 0, -2.0]])).as_matrix()
    torch.testing.assert_close(G.linear(G.exp(angle)), torch.from_numpy(expected))
    assert G.name == "rotations about z"
    assert (G.dim, G.space_dim, G.shape) == (1, 3, (2, 2))
    # z is the third axis of SO(3)'s basis, and the angle of SO(2) its coordinate.
    torch.testing.assert_close(G.lie_algebra, SO(3).lie_algebra[2:], rtol=0, atol=1e-15)
    torch.testing.assert_close(G.log(G.exp(angle)), angle)


@both_dtypes
def test_a_finite_subgroup_of_a_lie_group(dtype: torch.dtype) -> None:
    G = Subgroup(SE(3), Cyclic(4), lambda k: torch.nn.functional.pad(quarter_turns(k), (0, 1, 0, 1)) + last(4))
    assert G.order == 4
    assert torch.equal(G.elements(), torch.arange(4))
    expected = Rotation.from_rotvec([[0, 0, k * math.pi / 2] for k in range(4)]).as_matrix()
    assert np.allclose(G.linear(G.elements(), dtype=dtype).numpy(), expected, atol=1e-12)
    assert G.linear(G.elements(), dtype=dtype).dtype == dtype
    t = G.translation(G.elements(), dtype=dtype)
    assert t is not None
    assert torch.equal(t, torch.zeros(4, 3, dtype=dtype))
    assert G.lie_algebra.shape[0] == 0


def last(n: int) -> torch.Tensor:
    return torch.diag(torch.eye(n, dtype=torch.float64)[-1])


def test_embeddings_are_checked() -> None:
    with pytest.raises(GroupError, match="embed is not a homomorphism"):
        Subgroup(SO(3), SO(3), lambda g: g.mT)
    with pytest.raises(GroupError, match=r"embed leaves SO\(3\)"):
        Subgroup(SO(3), O(2), about_z)
    with pytest.raises(ShapeError, match=r"embed returns shape \(3, 8, 2, 2\).*return \(3, 8, 3, 3\)"):
        Subgroup(SO(3), SO(2), lambda g: g)


def test_mirrors_of_the_plane_are_rotations_of_space() -> None:
    def with_determinant(h: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(h, (0, 1, 0, 1)) + torch.linalg.det(h)[..., None, None] * last(3).to(h)

    G = Subgroup(SO(3), O(2), with_determinant)
    g = O(2).sample(50, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.det(G.linear(g)), torch.ones(50, dtype=torch.float64))
    assert (G.linear(g)[:, 2, 2] < 0).any()


# --- Stabilizer -------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 6), k=st.integers(1, 6), seed=st.integers(0, 2**31), full=st.booleans())
def test_stabilizers_of_random_vectors(n: int, k: int, seed: int, full: bool) -> None:
    vectors = torch.randn(k, n, generator=seeded(seed), dtype=torch.float64)
    ambient = O(n) if full else SO(n)
    G = Stabilizer(ambient, vectors)
    free = n - min(k, n)
    assert G.dim == free * (free - 1) // 2
    assert G.order == (math.inf if free >= 2 else 2 if full and free == 1 else 1)
    g = G.sample(20, generator=seeded(seed), dtype=torch.float64)
    torch.testing.assert_close(vectors @ g.mT, vectors.expand(20, k, n), rtol=0, atol=1e-12)
    assert ambient.contains(g).all()
    assert G.contains(g).all()
    assert torch.equal(g, G.sample(20, generator=seeded(seed), dtype=torch.float64))
    algebra = G.lie_algebra
    torch.testing.assert_close(algebra, -algebra.mT)
    torch.testing.assert_close(algebra @ vectors.mT, torch.zeros(G.dim, n, k, dtype=torch.float64), rtol=0, atol=1e-12)
    # Independent count: skew matrices that kill the vectors.
    conditions = torch.einsum("dij,kj->dki", SO(n).lie_algebra, vectors).flatten(1).numpy()
    assert null_space(conditions.T).shape[1] == G.dim
    if G.dim:
        a = 0.3 * torch.randn(5, G.dim, generator=seeded(seed), dtype=torch.float64)
        torch.testing.assert_close(G.exp(a), torch.linalg.matrix_exp(G.hat(a)), rtol=0, atol=1e-12)


def test_gravity() -> None:
    """O_g(3): rotations about the vertical and vertical mirrors; all translations stay."""
    G = Stabilizer(E(3), [0.0, 0.0, -9.81])
    assert isinstance(G, SemidirectProduct)
    assert G.dim == 4
    g = G.sample(50, generator=seeded(), dtype=torch.float64)
    assert torch.equal(g[:, 2, :3], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(50, 3))
    assert torch.equal(g[:, :3, 2], g[:, 2, :3])
    mirrors = torch.linalg.det(g[:, :3, :3])
    assert set(mirrors.round().tolist()) == {1.0, -1.0}
    tumbled = E(3).sample(1, generator=seeded(1), dtype=torch.float64)
    assert E(3).contains(tumbled).all()
    assert not G.contains(tumbled).any()
    proper = Stabilizer(SE(3), [0.0, 0.0, -9.81])
    assert (torch.linalg.det(proper.sample(50, generator=seeded())[:, :3, :3]) > 0).all()


def test_the_coordinate_is_the_angle_about_the_vector() -> None:
    for axis in torch.randn(20, 3, generator=seeded(), dtype=torch.float64):
        G = Stabilizer(SO(3), axis)
        expected = Rotation.from_rotvec((0.7 * axis / axis.norm()).numpy()).as_matrix()
        g = G.exp(torch.tensor([0.7], dtype=torch.float64))
        torch.testing.assert_close(g, torch.from_numpy(expected), rtol=0, atol=1e-12)
        torch.testing.assert_close(G.log(g), torch.tensor([0.7], dtype=torch.float64))


def test_stabilizer_samples_are_haar() -> None:
    """In the complement of a vector of R^4 a random rotation has the angle density (1 - cos t) / pi of SO(3)."""
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    g = Stabilizer(SO(4), vector).sample(4000, generator=seeded(), dtype=torch.float64)
    cosine = (g.diagonal(dim1=-2, dim2=-1).sum(-1) - 2) / 2
    angle = torch.arccos(cosine.clamp(-1, 1)).numpy()
    assert kstest(angle, lambda t: (t - np.sin(t)) / math.pi).pvalue > 1e-3
    flips = torch.linalg.det(Stabilizer(O(4), vector).sample(4000, generator=seeded(), dtype=torch.float64))
    assert abs(float((flips > 0).double().mean()) - 0.5) < 0.04


@pytest.mark.parametrize(
    ("G", "vector", "order"),
    [
        (Octahedral(), [0.0, 0.0, 1.0], 4),
        (Octahedral(inversion=True), [0.0, 0.0, 1.0], 8),
        (Octahedral(inversion=True), [1.0, 1.0, 1.0], 6),
        (Octahedral(), [1.0, 1.0, 0.0], 2),
        (Octahedral(inversion=True), [1.0, 2.0, 3.0], 1),
        (Icosahedral(), [0.0, 1.0, (1 + math.sqrt(5)) / 2], 5),
        (Icosahedral(inversion=True), [1.0, 1.0, 1.0], 6),
        (Dihedral(6), [1.0, 0.0], 2),
        (Cyclic(6), [1.0, 0.0], 1),
    ],
    ids=str,
)
@both_dtypes
def test_finite_stabilizers(G: FiniteMatrixGroup, vector: list[float], order: int, dtype: torch.dtype) -> None:
    v = torch.tensor(vector, dtype=dtype)
    S = Stabilizer(G, v)
    assert isinstance(S, FiniteMatrixGroup)
    assert S.order == order
    torch.testing.assert_close(S.linear(S.elements(), dtype=dtype) @ v, v.expand(order, -1))
    # The orbit-stabilizer theorem.
    orbit = torch.unique((G.matrices @ v.to(torch.float64)).round(decimals=4) + 0.0, dim=0)
    assert len(orbit) * order == G.order


def test_stabilizers_with_few_elements() -> None:
    mirror = Stabilizer(O(3), [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.equal(mirror.elements(), torch.stack([torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, -1.0]))]))
    assert torch.equal(mirror.discrete_generators[0], mirror.elements()[1].to(torch.float64))
    trivial = Stabilizer(SO(3), [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.equal(trivial.elements(), torch.eye(3)[None])
    assert torch.equal(Stabilizer(O(3), torch.eye(3)).sample(4), torch.eye(3).expand(4, 3, 3))


def test_stabilizer_names_tell_groups_apart() -> None:
    z = Stabilizer(O(3), [0.0, 0.0, 1.0])
    assert z == Stabilizer(O(3), torch.tensor([[0, 0, 1]]))
    assert z.name == "Stabilizer(O(3), [[0.0, 0.0, 1.0]])"
    assert z != Stabilizer(O(3), [0.0, 1.0, 0.0])
    assert z != Stabilizer(SO(3), [0.0, 0.0, 1.0])


def test_stabilizer_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ShapeError, match=r"vectors has shape \(1, 2\), but SO\(3\) needs \[3\] or \[k, 3\]"):
        Stabilizer(SO(3), [1.0, 0.0])
    with pytest.raises(ShapeError, match="vectors has shape"):
        Stabilizer(SO(3), torch.zeros(0, 3))
    with pytest.raises(NotFiniteError, match="vectors has 1 values"):
        Stabilizer(SO(3), [1.0, 0.0, math.nan])
    with pytest.raises(GroupError, match=r"all zero, which every element fixes: use SO\(3\) itself"):
        Stabilizer(SO(3), torch.zeros(3))
    with pytest.raises(GroupError, match=r"not Affine\(3\); give the subgroup by its embedding"):
        Stabilizer(Affine(3), torch.ones(3))
