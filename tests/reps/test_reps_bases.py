"""Equivariant bases against Reynolds averages, character counts and published dimensions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erlangen.errors import RepresentationError, ShapeError
from erlangen.groups import (
    SE,
    SL,
    SO,
    Cyclic,
    Dihedral,
    DirectProduct,
    GLPlus,
    Group,
    Icosahedral,
    Lorentz,
    O,
    Octahedral,
    Scaling,
    Shifts,
    Sp,
    Stabilizer,
    Symmetric,
)
from erlangen.reps import (
    Hom,
    Homogeneous,
    PermutationTensor,
    Pseudovector,
    Regular,
    Rep,
    Scalar,
    T,
    V,
    equivariant_basis,
    equivariant_projector,
    hom_basis,
    invariant_basis,
)
from erlangen.reps.partitions import partition_count
from erlangen.reps.solver import canonical, invariant_vectors

BELL = [1, 1, 2, 5, 15, 52, 203]


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")


def violation(hom: Hom, n: int = 20) -> float:
    """Largest |rho(g) Q - Q rho(g)| over samples, relative to the sizes of the matrices."""
    Q = equivariant_basis(hom)
    g = hom.group.sample(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, right = (rep.rho(g, dtype=torch.float64).double()[:, None] for rep in (hom.target, hom.source))
    size = left.abs().amax() * right.abs().amax()
    return float((left @ Q - Q @ right).abs().max() / size) if len(Q) else 0.0


def orthonormal(Q: torch.Tensor) -> bool:
    rows = Q.flatten(1)
    return bool(((rows @ rows.mT - torch.eye(len(rows), dtype=rows.dtype)).abs() < 1e-12).all())


def axial(group: Group) -> Rep:
    return Pseudovector(group)


# Published or classical dimensions: (maps, dimension).
KNOWN = {
    "SO(3) V->V": (V(SO(3)) >> V(SO(3)), 1),
    "SO(3) T2->V: the cross product": (T(2)(SO(3)) >> V(SO(3)), 1),
    "O(3) T2->V: none": (T(2)(O(3)) >> V(O(3)), 0),
    "O(3) T2->Pseudovector": (T(2)(O(3)) >> axial(O(3)), 1),
    "O(3) T2->T0: the trace": (T(2)(O(3)) >> T(0)(O(3)), 1),
    "O(3) T2->T2": (T(2)(O(3)) >> T(2)(O(3)), 3),
    "O(3) T3->T3: 15 pairings, independent in R^3": (T(3)(O(3)) >> T(3)(O(3)), 15),
    "O(3) T4->T4: Motzkin sum 91": (T(4)(O(3)) >> T(4)(O(3)), 91),
    "SO(2) V->V: rotations": (V(SO(2)) >> V(SO(2)), 2),
    "O(2) V->V": (V(O(2)) >> V(O(2)), 1),
    "SO(4) T4->T0: 3 pairings and the volume form": (T(4)(SO(4)) >> T(0)(SO(4)), 4),
    "SO(2)_z on R^3": (V(Stabilizer(SO(3), [0.0, 0.0, 1.0])) >> V(Stabilizer(SO(3), [0.0, 0.0, 1.0])), 3),
    "O(2)_z on R^3": (V(Stabilizer(O(3), [0.0, 0.0, 1.0])) >> V(Stabilizer(O(3), [0.0, 0.0, 1.0])), 2),
    "Lorentz T(1,1): the identity": (Scalar(Lorentz(1, 3)) >> T(1, 1)(Lorentz(1, 3)), 1),
    "Lorentz T(2): the metric": (Scalar(Lorentz(1, 3)) >> T(2)(Lorentz(1, 3)), 1),
    "Lorentz T(4): 3 pairings and the volume form": (Scalar(Lorentz(1, 3)) >> T(4)(Lorentz(1, 3)), 4),
    "SL(2) T(2): the determinant": (Scalar(SL(2)) >> T(2)(SL(2)), 1),
    "SL(3) T(3): the determinant": (Scalar(SL(3)) >> T(3)(SL(3)), 1),
    "SL(3) T(2): none": (Scalar(SL(3)) >> T(2)(SL(3)), 0),
    "SL(3) T(2)->T(0,1): the cross product": (T(2)(SL(3)) >> T(0, 1)(SL(3)), 1),
    "GL+(3) T(2,2): two pairings": (Scalar(GLPlus(3)) >> T(2, 2)(GLPlus(3)), 2),
    "Sp(2) T(2): the symplectic form": (Scalar(Sp(2)) >> T(2)(Sp(2)), 1),
    "Sp(2) T(4): 3 pairings": (Scalar(Sp(2)) >> T(4)(Sp(2)), 3),
    "Scaling T(2): none": (Scalar(Scaling(3)) >> T(2)(Scaling(3)), 0),
    "Scaling V->V: all": (V(Scaling(3)) >> V(Scaling(3)), 9),
    "SE(3) homogeneous: the identity alone": (Homogeneous(SE(3)) >> Homogeneous(SE(3)), 1),
    "SE(3) points -> displacements: none": (Homogeneous(SE(3)) >> V(SE(3)), 0),
    "I regular->V: three copies": (Regular(Icosahedral()) >> V(Icosahedral()), 3),
    "shifts: circulant matrices": (Regular(Shifts(2, 3)) >> Regular(Shifts(2, 3)), 6),
    "S_5 T1->T1": (T(1)(Symmetric(5)) >> T(1)(Symmetric(5)), 2),
    "S_5 T2->T1": (T(2)(Symmetric(5)) >> T(1)(Symmetric(5)), 5),
    "S_5 T2->T2": (T(2)(Symmetric(5)) >> T(2)(Symmetric(5)), 15),
    "S_5 T3->T0": (T(3)(Symmetric(5)) >> T(0)(Symmetric(5)), 5),
    "S_3 T2->T2: one orbit less": (T(2)(Symmetric(3)) >> T(2)(Symmetric(3)), 14),
    "S_2 T2->T2": (T(2)(Symmetric(2)) >> T(2)(Symmetric(2)), 8),
    "S_1": (T(2)(Symmetric(1)) >> T(2)(Symmetric(1)), 1),
}


@pytest.mark.parametrize(("hom", "dims"), KNOWN.values(), ids=KNOWN.keys())
def test_known_dimensions(hom: Hom, dims: int) -> None:
    Q = equivariant_basis(hom)
    assert Q.shape == (dims, hom.target.size, hom.source.size)
    assert Q.dtype == torch.float64
    assert orthonormal(Q)
    assert violation(hom) < 1e-12


FINITE = [Cyclic(1), Cyclic(3), Cyclic(4), Dihedral(3), Dihedral(4), Octahedral(), Octahedral(inversion=True)]


@pytest.mark.parametrize("group", FINITE, ids=repr)
def test_projector_is_the_reynolds_operator_and_its_rank_the_character_count(group: Group) -> None:
    source, target = V(group) + Scalar(group), V(group) @ V(group)
    g = group.elements()
    A, B = target.rho(g, dtype=torch.float64), source.rho(g, dtype=torch.float64)
    # Row-major maps: vec(A W B^-1) = (A kron B) vec(W) for orthogonal B.
    reynolds = torch.einsum("gij,gkl->ikjl", A, B).reshape(target.size * source.size, -1) / group.order
    P = equivariant_projector(source >> target)
    torch.testing.assert_close(P, reynolds, rtol=0, atol=1e-12)
    count = (target.character(g, dtype=torch.float64) * source.character(g, dtype=torch.float64)).mean()
    assert len(equivariant_basis(source >> target)) == round(float(count))


def test_projector_is_the_average_over_rotations() -> None:
    """The average over SO(3) of a polynomial of degree 4 is exact on the 60 rotations of the icosahedron, a 5-design."""
    G, I = SO(3), Icosahedral()
    hom = T(2)(G) >> T(2)(G)
    R = I.linear(I.elements(), dtype=torch.float64)
    W = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    M = hom.target.rho(R)
    average = (M @ W @ M.mT).mean(0)
    torch.testing.assert_close(hom_basis(hom).project(W), average, rtol=0, atol=1e-12)


@given(m=st.integers(0, 5), n=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_permutation_tensors_have_as_many_invariants_as_orbits(m: int, n: int) -> None:
    """Burnside: orbits on index tuples are the mean over permutations of (fixed points)^m."""
    G = Symmetric(n)
    fixed = (G.elements() == torch.arange(n)).sum(-1).double()
    orbits = round(float((fixed**m).mean()))
    basis = invariant_basis(PermutationTensor(m)(G))
    assert basis.shape == (orbits, n**m)
    assert partition_count(m, n) == orbits
    assert n < m or orbits == BELL[m]
    for h in G.discrete_generators:
        torch.testing.assert_close(PermutationTensor(m)(G).apply(h, basis), basis)


@pytest.mark.parametrize(("n", "k_in", "k_out"), [(4, 1, 1), (4, 2, 1), (3, 2, 2), (5, 1, 2), (2, 3, 1)])
def test_set_partitions_span_what_the_solver_finds(n: int, k_in: int, k_out: int) -> None:
    """Two roads to one projector: orbits of index tuples, and the nullspace of the generators."""
    G = Symmetric(n)
    hom = T(k_in)(G) >> T(k_out)(G)
    Q = invariant_vectors(hom)
    torch.testing.assert_close(Q.mT @ Q, equivariant_projector(hom), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "rep",
    [T(4)(O(3)), T(4)(SO(2)), V(Octahedral()) @ Regular(Octahedral()), T(2, 2)(Stabilizer(O(3), [1.0, 2.0, 0.0]))],
    ids=repr,
)
def test_three_roads_give_one_basis(rep: Rep) -> None:
    bases = [invariant_vectors(rep, road) for road in ("eigen", "dense", "krylov")]
    for basis in bases[1:]:
        torch.testing.assert_close(basis, bases[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("rep", [T(2, 2)(Lorentz(1, 3)), T(1, 2)(SL(2)) @ V(SL(2)), T(4)(Sp(2))], ids=repr)
def test_two_roads_without_orthogonality(rep: Rep) -> None:
    dense, krylov = (invariant_vectors(rep, road) for road in ("dense", "krylov"))
    torch.testing.assert_close(krylov, dense, rtol=0, atol=1e-10)


def test_beyond_ten_thousand_unknowns() -> None:
    """T(6) of SO(5): 15,625 unknowns, and the 15 pairings of six indices (Weyl)."""
    rep = T(6)(SO(5))
    basis = invariant_basis(rep)
    assert basis.shape == (15, 15625)
    assert orthonormal(basis)
    g = SO(5).sample(3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = rep.apply(g[:, None], basis[None])
    torch.testing.assert_close(moved, basis.expand_as(moved), rtol=0, atol=1e-12)
    delta = torch.eye(5, dtype=torch.float64)
    pairing = torch.einsum("ad,be,cf->abcdef", delta, delta, delta).flatten()
    torch.testing.assert_close(basis.mT @ (basis @ pairing), pairing, rtol=0, atol=1e-12)


def test_large_without_orthogonality() -> None:
    """T(6) of the Lorentz group: 4096 unknowns."""
    hom = T(2)(Lorentz(1, 3)) >> T(4)(Lorentz(1, 3))
    assert violation(hom) < 1e-12
    # T(6) of SO(3,1) has the invariants of SO(4) by complexification, the mean of (2 cos a + 2 cos b)^6.
    a = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
    x, y = torch.meshgrid(a, a, indexing="ij")
    weyl = (x.cos() - y.cos()).square()
    count = (weyl * (2 * x.cos() + 2 * y.cos()) ** 6).mean() / weyl.mean()
    assert len(equivariant_basis(hom)) == round(float(count))


def test_permutations_times_rotations() -> None:
    """n points in R^3: S_n x O(3) leaves the identity and the mean."""
    S, R = Symmetric(4), O(3)
    G = DirectProduct(S, R)
    points = V(S).inflate(G, 0) @ V(R).inflate(G, 1)
    hom = points >> points
    assert violation(hom) < 1e-12
    mean = torch.kron(torch.ones(4, 4, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    Q = equivariant_basis(hom)
    assert len(Q) == 2
    for W in (mean, torch.eye(12, dtype=torch.float64)):
        torch.testing.assert_close(hom_basis(hom).project(W), W)


def test_sums_are_solved_block_by_block_and_equal_the_whole() -> None:
    G = SO(3)
    source, target = 2 * Scalar(G) + V(G) + T(2)(G), 3 * V(G) + Scalar(G)
    basis = hom_basis(source >> target)
    Q = basis.dense()
    assert Q.shape == (basis.dims, target.size, source.size)
    assert basis.dims == 3 * (0 + 1 + 1) + (2 + 0 + 1)
    assert orthonormal(Q)
    assert violation(source >> target) < 1e-12
    c = torch.randn(5, basis.dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W = basis.assemble(c)
    torch.testing.assert_close(W, torch.einsum("bd,dij->bij", c, Q))
    torch.testing.assert_close(basis.coefficients(W), c)
    noise = torch.randn(target.size, source.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(basis.project(noise), torch.einsum("dij,dkl,kl->ij", Q, Q, noise))
    assert basis.assemble(c.float()).dtype == torch.float32


def test_projectors_of_a_subgroup_and_its_group_nest() -> None:
    G, H = O(3), Stabilizer(O(3), [0.0, 0.0, 1.0])
    big, small = (equivariant_projector(T(2)(X) >> V(X) + T(2)(X)) for X in (G, H))
    torch.testing.assert_close(big @ small, big, rtol=0, atol=1e-12)
    torch.testing.assert_close(small @ big, big, rtol=0, atol=1e-12)
    torch.testing.assert_close(small @ small, small, rtol=0, atol=1e-12)


def test_the_canonical_basis_depends_on_the_space_alone(generator: torch.Generator) -> None:
    rows = torch.linalg.qr(torch.randn(20, 6, generator=generator, dtype=torch.float64)).Q.mT
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    torch.testing.assert_close(canonical(turn @ rows), canonical(rows), rtol=0, atol=1e-12)
    torch.testing.assert_close(canonical(rows).mT @ canonical(rows), rows.mT @ rows, rtol=0, atol=1e-12)


def test_bad_input() -> None:
    with pytest.raises(RepresentationError, match=r"source >> target"):
        hom_basis(V(SO(3)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(RepresentationError, match=r"16,777,216|numbers, more than the 20,000,000.*direct sums"):
        equivariant_basis(T(4)(Symmetric(8)) >> T(4)(Symmetric(8)))
    with pytest.raises(RepresentationError, match=r"numbers, more than"):
        equivariant_basis(T(14)(Cyclic(3)) >> Scalar(Cyclic(3)))
    with pytest.raises(RepresentationError, match=r"not orthogonal.*'dense' or 'krylov'"):
        invariant_vectors(V(SL(2)), "eigen")
    with pytest.raises(RepresentationError, match=r"known are"):
        invariant_vectors(V(SL(2)), "magic")
    basis = hom_basis(V(SO(3)) >> V(SO(3)))
    with pytest.raises(ShapeError, match=r"coefficients has shape \(2,\)"):
        basis.assemble(torch.ones(2))
    with pytest.raises(ShapeError, match=r"W has shape \(3, 2\)"):
        basis.project(torch.ones(3, 2))
