"""Irreps of SO(3) and O(3) as representations: e3nn's layout, character counts, the solver's spans."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch

from erlangen.errors import IrrepsError, RepresentationError
from erlangen.groups import SO, Cyclic, Group, Lorentz, O, Octahedral
from erlangen.irreps import Irrep
from erlangen.reps import (
    Hom,
    Irreducible,
    Irreps,
    Pseudovector,
    Rep,
    Scalar,
    T,
    V,
    equivariant_basis,
    equivariant_projector,
    hom_basis,
)
from erlangen.reps.irreducible import rotation_invariants
from erlangen.reps.solver import invariant_vectors

o3 = pytest.importorskip("e3nn.o3")

TEXT = "2x0e+3x1o+0o+2x2e+1e"


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")


@pytest.fixture
def double() -> Iterator[None]:
    """e3nn's generators follow the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def reflections(n: int, dtype: torch.dtype) -> torch.Tensor:
    """Elements of O(3), of both determinants."""
    return O(3).sample(n, generator=torch.Generator().manual_seed(3), dtype=dtype)


# --- the representation ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layout_and_matrices_are_those_of_e3nn(dtype: torch.dtype, double: None) -> None:
    R = reflections(12, torch.float64)
    assert set(torch.linalg.det(R).sign().tolist()) == {-1, 1}
    rep = Irreps(TEXT)(O(3))
    assert rep.size == Irreps(TEXT).dim
    theirs = torch.stack([o3.Irreps(TEXT).D_from_matrix(r) for r in R])
    tol = 1e-5 if dtype == torch.float32 else 1e-9  # theirs go through angles, by acos
    torch.testing.assert_close(rep.rho(R.to(dtype)).double(), theirs, rtol=0, atol=tol)
    x = torch.randn(12, rep.size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    moved = rep.apply(R.to(dtype), x)
    torch.testing.assert_close(moved.double(), torch.einsum("bij,bj->bi", theirs, x.double()), rtol=0, atol=10 * tol)


def test_names_scalars_and_equality() -> None:
    assert repr(Irreps("16x0e+8x1o")(O(3))) == "16*Scalar + 8*1o of O(3)"
    assert repr(Irreps("0o+2x1e")(O(3))) == "0o + 2*1e of O(3)"
    # Rotations do not see the parity, and the name does not state one.
    assert repr(Irreps("2x0o+1e+1o")(SO(3))) == "2*Scalar + 2*l=1 of SO(3)"
    assert Irreps("1e")(SO(3)) == Irreps("1o")(SO(3)) == Irreducible(SO(3), Irrep("1e"))
    assert Irreps("1e")(O(3)) != Irreps("1o")(O(3))
    assert Irreps("3x0e")(O(3)) == 3 * Scalar(O(3))
    assert isinstance(Irreps("2e")(O(3)), Irreducible)


def test_degree_one_is_the_vector_and_the_pseudovector() -> None:
    R = reflections(6, torch.float64)
    torch.testing.assert_close(Irreps("1o")(O(3)).rho(R), V(O(3)).rho(R))
    torch.testing.assert_close(Irreps("1e")(O(3)).rho(R), Pseudovector(O(3)).rho(R))


@pytest.mark.parametrize("group", [SO(3), O(3)], ids=repr)
def test_derivative_character_and_decomposition(group: Group) -> None:
    rep = Irreps("1o+2x3e+2o")(group)
    a = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.matrix_exp(rep.drho(a)), rep.rho(group.exp(a)), rtol=0, atol=1e-12)
    turned = group.exp(a)
    angle = ((turned.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).acos()
    chi = sum(n * torch.sin((l + 0.5) * angle) / torch.sin(angle / 2) for n, l in ((1, 1), (2, 3), (1, 2)))
    torch.testing.assert_close(rep.character(turned), chi)
    found = rep.decompose().multiplicities
    assert found == ({1: 1, 2: 1, 3: 2} if isinstance(group, SO) else {(1, -1): 1, (2, -1): 1, (3, 1): 2})
    assert rep.is_orthogonal
    assert rep.dual is rep


def test_restriction_to_a_finite_group() -> None:
    """Degree 2 under the rotations of the cube: a doublet and a triplet."""
    found = Irreps("2e")(SO(3)).restrict(Octahedral()).decompose()
    assert sorted(irrep.size for irrep in found.irreps.values()) == [2, 3]


# --- invariants ------------------------------------------------------------------------------------------------------
def count(group: Group, factors: list[list[Irrep]]) -> int:
    """Multiplicity of the trivial irrep in a product of sums: Weyl's integral of the characters, which sin gives."""
    points = 512
    t = 2 * math.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    weight = (1 - t.cos()) / points

    def integral(inversion: bool) -> float:
        chi = torch.ones_like(t)
        for factor in factors:
            chi = chi * sum((ir.p if inversion else 1) * ((ir.l + 0.5) * t).sin() / (t / 2).sin() for ir in factor)
        return float((weight * chi).sum())

    return round(integral(False) if isinstance(group, SO) else (integral(False) + integral(True)) / 2)


def agrees_with_the_solver(hom: Hom) -> int:
    closed = rotation_invariants(hom)
    assert closed is not None
    solved = invariant_vectors(hom)
    assert closed.shape == solved.shape
    torch.testing.assert_close(closed.mT @ closed, solved.mT @ solved, rtol=0, atol=1e-10)
    torch.testing.assert_close(closed, solved, rtol=0, atol=1e-10)  # even the basis is the same
    return len(closed)


@pytest.mark.parametrize(("group", "dims"), [(O(3), 3), (SO(3), 3)], ids=repr)
def test_matrices_to_matrices(group: Group, dims: int) -> None:
    """The three parts of a matrix: trace, antisymmetric, traceless symmetric."""
    assert agrees_with_the_solver(T(2)(group) >> T(2)(group)) == dims


HOMS = [
    Irreps("1o+2e")(O(3)) @ V(O(3)) >> V(O(3)),
    Irreps("2x1o+2e+0o")(O(3)) @ V(O(3)) >> Pseudovector(O(3)) @ Irreps("1o+0e")(O(3)),
    Irreps("1o+2e")(SO(3)) @ V(SO(3)) >> V(SO(3)),
    (V(SO(3)) @ V(SO(3)) + V(SO(3))) @ Irreps("2e")(SO(3)) >> Irreps("3e")(SO(3)),
    T(3)(O(3)) >> Irreps("3o")(O(3)),
    T(2)(SO(3)) >> T(3)(SO(3)),
    Pseudovector(O(3)) @ V(O(3)) >> Irreps("2o")(O(3)),
    Irreps("4e")(O(3)) @ Irreps("3o")(O(3)) >> Irreps("5o")(O(3)),
    Irreps("0o")(O(3)) @ V(O(3)) >> Pseudovector(O(3)),
    Irreps("2e")(O(3)) @ Irreps("2e")(O(3)) >> T(2)(O(3)),
]


@pytest.mark.parametrize("hom", HOMS, ids=repr)
def test_products_agree_with_the_solver(hom: Hom) -> None:
    agrees_with_the_solver(hom)


@pytest.mark.parametrize("group", [SO(3), O(3)], ids=repr)
def test_products_have_as_many_invariants_as_characters_say(group: Group) -> None:
    for l1, l2, l3 in itertools.combinations_with_replacement(range(7), 3):
        for p in (1, -1):
            irreps = [Irrep(l1, p), Irrep(l2, 1), Irrep(l3, (-1) ** l3)]
            first, second, third = (Irreps([ir])(group) for ir in irreps)
            assert len(equivariant_basis(first @ second >> third)) == count(group, [[ir] for ir in irreps])
    sums = [[Irrep("1o"), Irrep("2e"), Irrep("2e")], [Irrep("3o"), Irrep("0e")], [Irrep("1e"), Irrep("2o")]]
    first, second, third = (Irreps([(1, ir) for ir in factor])(group) for factor in sums)
    assert len(equivariant_basis((first @ second) @ V(group) >> third)) == count(group, [*sums, [Irrep("1o")]])


@pytest.mark.parametrize("group", [SO(3), O(3)], ids=repr)
def test_pairs_up_to_degree_six_are_multiples_of_the_identity(group: Group) -> None:
    """Schur's lemma, against the solver."""
    for l1, l2 in [(0, 0), (1, 1), (2, 2), (6, 6), (5, 6), (0, 6)]:
        hom = Irreps([Irrep(l1, 1)])(group) >> Irreps([Irrep(l2, -1 if l1 == 2 else 1)])(group)
        same = l1 == l2 and (l1 != 2 or isinstance(group, SO))
        assert agrees_with_the_solver(hom) == int(same)
        if same:
            eye = torch.eye(2 * l1 + 1, dtype=torch.float64) / math.sqrt(2 * l1 + 1)
            torch.testing.assert_close(equivariant_basis(hom)[0], eye)


def test_e3nn_3j_symbols_are_the_invariants_of_three_irreps() -> None:
    for l1, l2, l3 in [(1, 1, 1), (2, 3, 4), (5, 6, 2), (6, 6, 6)]:
        G = SO(3)
        hom = Irreps([Irrep(l2, 1)])(G) @ Irreps([Irrep(l3, 1)])(G) >> Irreps([Irrep(l1, 1)])(G)
        (Q,) = equivariant_basis(hom)
        C = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).flatten(1)
        torch.testing.assert_close(Q * (Q * C).sum().sign(), C, rtol=0, atol=1e-12)


def test_four_tensor_powers() -> None:
    """T(4) -> T(4) of O(3): 91 maps (the Motzkin sums), orthonormal and equivariant."""
    hom = T(4)(O(3)) >> T(4)(O(3))
    Q = equivariant_basis(hom)
    assert len(Q) == 91
    R = reflections(3, torch.float64)
    moved = hom.apply(R[:, None], Q.flatten(1)[None])
    torch.testing.assert_close(moved, Q.flatten(1).expand_as(moved), rtol=0, atol=1e-12)
    torch.testing.assert_close(Q.flatten(1) @ Q.flatten(1).mT, torch.eye(91, dtype=torch.float64), rtol=0, atol=1e-12)


def test_degrees_beyond_the_3j_tables_go_to_the_solver() -> None:
    """Four irreps of degree 9 couple through degree 18; two pairs do not."""
    nine: Rep = Irreps("9e")(SO(3))
    assert rotation_invariants(nine @ nine @ nine @ nine >> Scalar(SO(3))) is None
    assert hom_basis(nine >> nine).dims == 1


def test_sums_are_block_diagonal() -> None:
    """Between 3x1o + 2x2e and 2x1o + 4x2e the maps mix copies of one irrep: 3 * 2 + 2 * 4."""
    hom = Irreps("3x1o+2x2e")(O(3)) >> Irreps("2x1o+4x2e")(O(3))
    assert hom_basis(hom).dims == 14
    linear = o3.Linear("3x1o+2x2e", "2x1o+4x2e")
    assert linear.weight.numel() == 14
    P = equivariant_projector(Irreps("1o+2e")(O(3)) >> Irreps("1o+2e")(O(3)))
    torch.testing.assert_close(P @ P, P, rtol=0, atol=1e-12)


def test_bad_input() -> None:
    for group in (SO(2), O(2), Lorentz(1, 3), Cyclic(4)):
        with pytest.raises(
            RepresentationError, match=r"1x1o are representations of SO\(3\) and O\(3\), not of .*restrict"
        ):
            Irreps("1o")(group)
    with pytest.raises(RepresentationError, match="not of 'SO'"):
        Irreps("1o")("SO")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RepresentationError, match="'0x1o' hold nothing"):
        Irreps("0x1o")(O(3))
    with pytest.raises(IrrepsError, match="13o: Wigner matrices have degrees up to 12"):
        Irreps("13o")(O(3))
    with pytest.raises(RepresentationError, match="numbers, more than"):
        equivariant_basis(T(10)(O(3)) >> T(4)(O(3)))
