"""Representations: homomorphisms, derivatives, sums, products, duals, characters, transfer between groups."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erlangen.errors import DtypeError, GroupElementError, RepresentationError, ShapeError
from erlangen.groups import (
    SE,
    SL,
    SO,
    Cyclic,
    Dihedral,
    DirectProduct,
    E,
    FiniteMatrixGroup,
    Group,
    Lorentz,
    O,
    Octahedral,
    Scaling,
    Shifts,
    Stabilizer,
    Subgroup,
    Symmetric,
    Tetrahedral,
    group,
)
from erlangen.reps import Homogeneous, PermutationTensor, Pseudovector, Quotient, Regular, Rep, Scalar, T, V


def about_z(h: torch.Tensor) -> torch.Tensor:
    """SO(2) into SO(3), in the plane of the first two axes."""
    g = torch.eye(3, dtype=h.dtype).repeat(*h.shape[:-2], 1, 1)
    g[..., :2, :2] = h
    return g


SN_ON = DirectProduct(Symmetric(3), O(2))
REPS: list[Rep] = [
    2 * Scalar(SO(3)) + V(SO(3)) @ V(SO(3)) + Pseudovector(SO(3)),
    T(1, 1)(SL(2)) + T(0, 2)(SL(2)),
    V(O(3)) >> Pseudovector(O(3)) + Scalar(O(3)),
    T(1, 1)(Lorentz(1, 3)),
    T(1, 2)(group("GL+(2)")),
    V(SE(2)) @ Homogeneous(SE(2)),
    Homogeneous(SE(3)).dual + Scalar(SE(3)),
    Regular(Dihedral(3)) @ V(Dihedral(3)),
    Regular(Symmetric(3))
    + Quotient(Symmetric(3), FiniteMatrixGroup("swap", torch.eye(3)[torch.tensor([[0, 1, 2], [1, 0, 2]])])),
    Regular(Shifts(2, 3)) + V(Shifts(2, 3)),
    PermutationTensor(2)(Symmetric(4)),
    T(2)(O(3)).restrict(Stabilizer(O(3), [1.0, 2.0, 2.0])),
    T(1, 1)(group("GL+(3)")).restrict(SO(3)),
    T(2)(SO(3)).restrict(Subgroup(SO(3), SO(2), about_z)),
    V(SE(2)).restrict(SO(2)) + Homogeneous(SE(2)).restrict(SO(2)),
    Pseudovector(O(3)).restrict(Octahedral(inversion=True)),
    V(Cyclic(3)).induce(Dihedral(3)),
    V(Symmetric(3)).inflate(SN_ON) @ V(O(2)).inflate(SN_ON, 1),
]
every_rep = pytest.mark.parametrize("rep", REPS, ids=repr)


def draw(rep: Rep, n: int | tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return rep.group.sample(n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_rep
def test_rho_is_a_homomorphism_and_the_dual_its_inverse_transpose(rep: Rep) -> None:
    g, h = draw(rep, (2, 10))
    A, B = rep.rho(g, dtype=torch.float64), rep.rho(h, dtype=torch.float64)
    assert A.shape == (10, rep.size, rep.size)
    scale = float(A.abs().max() * B.abs().max())
    torch.testing.assert_close(rep.rho(rep.group.compose(g, h), dtype=torch.float64), A @ B, rtol=0, atol=1e-12 * scale)
    dual = rep.dual.rho(g, dtype=torch.float64)
    torch.testing.assert_close(A.mT @ dual, torch.eye(rep.size).double().expand_as(A), rtol=0, atol=1e-11 * scale)
    assert rep.is_orthogonal == bool(((A @ A.mT - torch.eye(rep.size)).abs() < 1e-9).all())
    assert rep.dual.dual == rep


@every_rep
def test_apply_and_character_agree_with_the_matrix(rep: Rep, generator: torch.Generator) -> None:
    g = draw(rep, (4, 1))
    x = torch.randn(1, 5, 2, rep.size, generator=generator, dtype=torch.float64)
    R = rep.rho(g, dtype=torch.float64)
    expected = torch.einsum("klij,lbcj->kbci", R, x) if rep.size else x
    torch.testing.assert_close(rep.apply(g, x), expected)
    assert rep.apply(g, x.float()).dtype == torch.float32
    trace = R.diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(rep.character(g, dtype=torch.float64), trace)


@every_rep
def test_drho_is_the_derivative(rep: Rep, generator: torch.Generator) -> None:
    dim = rep.group.dim
    a = torch.randn(3, dim, generator=generator, dtype=torch.float64)
    derivative = rep.drho(a)
    assert derivative.shape == (3, rep.size, rep.size)
    if dim == 0:
        assert not bool(derivative.any())
        return
    torch.testing.assert_close(torch.linalg.matrix_exp(0.3 * derivative), rep.rho(rep.group.exp(0.3 * a)))
    x = torch.randn(3, rep.size, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(rep.dapply(a, x), (derivative @ x[..., None])[..., 0])


def test_tensors_move_as_matrices_do(generator: torch.Generator) -> None:
    """T(2): R X R^T. T(1, 1): A X A^-1. The entries are row-major."""
    R = SO(3).sample(4, generator=generator, dtype=torch.float64)
    X = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(T(2)(SO(3)).apply(R, X.flatten(1)), (R @ X @ R.mT).flatten(1))
    A = SL(3).sample(4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(T(1, 1)(SL(3)).apply(A, X.flatten(1)), (A @ X @ torch.linalg.inv(A)).flatten(1))
    g = Symmetric(3).sample(4, generator=generator)
    P = Symmetric(3).linear(g, dtype=torch.float64)
    torch.testing.assert_close(PermutationTensor(2)(Symmetric(3)).apply(g, X.flatten(1)), (P @ X @ P.mT).flatten(1))


def test_the_cross_product_is_a_pseudovector(generator: torch.Generator) -> None:
    g = O(3).sample(50, generator=generator, dtype=torch.float64)
    x, y = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64)
    v = V(O(3))
    crossed = torch.linalg.cross(v.apply(g, x), v.apply(g, y))
    torch.testing.assert_close(Pseudovector(O(3)).apply(g, torch.linalg.cross(x, y)), crossed)


def test_points_are_homogeneous_and_displacements_are_not(generator: torch.Generator) -> None:
    G = E(3)
    g, x = G.sample(5, generator=generator, dtype=torch.float64), torch.randn(5, 3, generator=generator).double()
    moved = torch.einsum("bij,bj->bi", G.linear(g), x) + G.translation(g)
    point = Homogeneous(G).apply(g, torch.cat([x, torch.ones(5, 1).double()], -1))
    torch.testing.assert_close(point, torch.cat([moved, torch.ones(5, 1).double()], -1))
    torch.testing.assert_close(V(G).apply(g, x), moved - G.translation(g))


@given(n=st.integers(1, 4), p=st.integers(0, 3), q=st.integers(0, 2), m=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_sizes_and_equalities(n: int, p: int, q: int, m: int) -> None:
    G = Scaling(n)
    rep = T(p, q)(G)
    assert rep.size == n ** (p + q)
    assert (m * rep).size == m * rep.size
    assert m * rep + rep == (m + 1) * rep
    assert rep @ Scalar(G) == rep == Scalar(G) @ rep
    assert T(p)(G) @ T(0, q)(G) == rep
    assert (rep >> V(G)).size == n * rep.size
    assert hash(T(p, q)(Scaling(n))) == hash(rep)


def test_names() -> None:
    G = SL(2)
    assert repr(2 * Scalar(G) + T(1, 1)(G)) == "2*Scalar + V@V.dual of SL(2)"
    assert repr((V(G) + Scalar(G)) @ V(G) >> V(G)) == "(V + Scalar)@V >> V of SL(2)"


def test_the_quotient_by_the_stabilizer_of_a_place_is_v() -> None:
    """Characters: fixed cosets of S_4 / S_3 are fixed places; a quotient by the whole group is trivial."""
    G = Symmetric(4)
    H = FiniteMatrixGroup("S3", torch.stack([torch.eye(4)[[*p, 3]] for p in Symmetric(3).elements().tolist()]))
    g = G.elements()
    torch.testing.assert_close(Quotient(G, H).character(g), V(G).character(g))
    torch.testing.assert_close(Quotient(G, G).rho(g), torch.ones(24, 1, 1))
    trivial = FiniteMatrixGroup("1", torch.eye(4)[None])
    torch.testing.assert_close(Quotient(G, trivial).rho(g), Regular(G).rho(g))


@pytest.mark.parametrize(("H", "G"), [(Cyclic(4), Dihedral(4)), (Tetrahedral(), Octahedral())], ids=repr)
def test_frobenius_reciprocity_and_the_induced_trivial_representation(H: Group, G: Group) -> None:
    """<Ind a, b>_G = <a, Res b>_H; Ind 1 is the quotient."""
    g, h = G.elements(), H.elements()
    a, b = V(H) + Scalar(H), V(G) @ V(G)
    left = (a.induce(G).character(g, dtype=torch.float64) * b.character(g, dtype=torch.float64)).mean()
    right = (a.character(h, dtype=torch.float64) * b.restrict(H).character(h, dtype=torch.float64)).mean()
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(Scalar(H).induce(G).rho(g), Quotient(G, H).rho(g))


def test_a_restriction_uses_the_elements_of_the_subgroup(generator: torch.Generator) -> None:
    cube = Octahedral()
    k = cube.sample(6, generator=generator)
    rep = T(2)(O(3)).restrict(cube)
    expected = T(2)(O(3)).rho(cube.linear(k, dtype=torch.float64))
    torch.testing.assert_close(rep.rho(k, dtype=torch.float64), expected)
    assert V(O(3)).restrict(O(3)) == V(O(3))
    assert T(1, 1)(group("GL+(3)")).restrict(SO(3)).is_orthogonal
    assert (2 * V(O(3)) + Scalar(O(3))).restrict(SO(3)).size == 7


def test_what_is_no_subgroup() -> None:
    with pytest.raises(RepresentationError, match=r"O\(3\) is no subgroup of SO\(3\)"):
        V(SO(3)).restrict(O(3))
    with pytest.raises(RepresentationError, match=r"acts on R\^2 .* Subgroup\(SO\(3\), child, embed\)"):
        V(SO(3)).restrict(SO(2))
    with pytest.raises(RepresentationError, match=r"Cyclic\(3\) is no subgroup of Cyclic\(4\)"):
        Quotient(Cyclic(4), Cyclic(3))
    with pytest.raises(RepresentationError, match=r"Octahedral is no subgroup of Symmetric\(3\)"):
        V(Symmetric(3)).restrict(Octahedral())
    with pytest.raises(RepresentationError, match=r"SE\(3\) is no subgroup of SO\(3\).*translates"):
        V(SO(3)).restrict(SE(3))
    with pytest.raises(RepresentationError, match=r"Cyclic\(8\) is no subgroup"):
        Scalar(Cyclic(8)).induce(Cyclic(4))


def test_bad_input() -> None:
    with pytest.raises(RepresentationError, match=r"of SO\(3\), the second of O\(3\).*restrict"):
        _ = V(SO(3)) + V(O(3))
    with pytest.raises(RepresentationError, match=r"of SO\(3\), the second of SO\(2\)"):
        _ = V(SO(3)) @ V(SO(2))
    with pytest.raises(RepresentationError, match=r"of SO\(3\), the second of O\(3\)"):
        _ = V(SO(3)) >> Scalar(O(3))
    for n in (0, -1, 1.5, True):
        with pytest.raises(RepresentationError, match="needs an integer n of at least 1"):
            _ = n * V(SO(3))  # pyright: ignore[reportOperatorIssue]
    with pytest.raises(RepresentationError, match=r"T\(-1, 0\): p must be"):
        T(-1)
    with pytest.raises(RepresentationError, match=r"needs Symmetric\(n\).*use T\(2\)"):
        PermutationTensor(2)(SO(3))
    with pytest.raises(RepresentationError, match=r"a finite group of at most 50,000"):
        Regular(SO(2))
    with pytest.raises(ShapeError, match=r"moves vectors \[\.\.\., 3\]"):
        V(SO(3)).apply(torch.eye(3), torch.ones(2))
    with pytest.raises(ShapeError, match=r"1 leading axes"):
        V(SO(3)).apply(torch.eye(3)[None], torch.ones(3))
    with pytest.raises(ShapeError, match=r"algebra coordinates \[\.\.\., 3\]"):
        V(SO(3)).drho(torch.ones(2))
    with pytest.raises(DtypeError, match=r"x has dtype torch\.int64"):
        V(SO(3)).apply(torch.eye(3), torch.ones(3, dtype=torch.int64))
    with pytest.raises(GroupElementError, match=r"g\[1\] is not an element of Symmetric\(3\): \[0, 0, 1\]"):
        Regular(Symmetric(3)).table.index(torch.tensor([[0, 1, 2], [0, 0, 1]]))
    product = DirectProduct(SO(2), SO(2))
    with pytest.raises(RepresentationError, match=r"at the places \[0, 1\].*factor="):
        V(SO(2)).inflate(product)
    with pytest.raises(RepresentationError, match=r"O\(2\) not at all"):
        V(O(2)).inflate(product)
    with pytest.raises(RepresentationError, match="needs a DirectProduct"):
        V(O(2)).inflate(O(3))
