"""Decompositions against character theory: orthogonality, known multiplicities, the three real types."""

import pytest
import torch
from numpy.polynomial import Polynomial

from erlangen.errors import RepresentationError
from erlangen.groups import (
    SL,
    SO,
    Cyclic,
    Dihedral,
    FiniteMatrixGroup,
    Group,
    Icosahedral,
    Lorentz,
    O,
    Octahedral,
    Scaling,
    Stabilizer,
    Symmetric,
    Tetrahedral,
)
from erlangen.reps import Irreps, Pseudovector, Regular, Rep, Scalar, T, TableRep, V


def quaternion_group() -> FiniteMatrixGroup:
    """Q8 = {1, i, j, k, -1, ...} by left multiplication on R^4: one irreducible part of quaternionic type."""
    one = torch.eye(4)
    i = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
    j = torch.tensor([[0.0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]])
    units = torch.stack([one, i, j, i @ j])
    return FiniteMatrixGroup("Q8", torch.cat([units, -units]))


CASES: list[Rep] = [
    Regular(Cyclic(5)),
    Regular(Dihedral(4)),
    Regular(Octahedral()),
    Regular(Tetrahedral()),
    Regular(quaternion_group()),
    3 * V(quaternion_group()) + Scalar(quaternion_group()),
    T(2)(Symmetric(4)),
    T(3)(Icosahedral()),
    V(Octahedral()) @ V(Octahedral()) + 2 * V(Octahedral()),
    V(Stabilizer(Octahedral(), [1.0, 1.0, 1.0])),
]


@pytest.mark.parametrize("rep", CASES, ids=repr)
def test_parts_are_irreducible_and_add_up(rep: Rep) -> None:
    found, g = rep.decompose(), rep.group.elements()
    B, R = found.basis, rep.rho(g, dtype=torch.float64)
    torch.testing.assert_close(B @ B.mT, torch.eye(rep.size, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(B @ found.parts.rho(g, dtype=torch.float64) @ B.mT, R, rtol=0, atol=1e-11)
    chi = torch.stack([irrep.character(g, dtype=torch.float64) for irrep in found.irreps.values()])
    norm = {"real": 1.0, "complex": 2.0, "quaternionic": 4.0}
    gram = torch.diag(torch.tensor([norm[t] for t in found.types.values()], dtype=torch.float64))
    torch.testing.assert_close(chi @ chi.mT / rep.group.order, gram, rtol=0, atol=1e-10)


def summary(rep: Rep) -> list[tuple[int, int, str]]:
    """(size, multiplicity, type) of every part, sorted."""
    found = rep.decompose()
    return sorted((irrep.size, found.multiplicities[k], found.types[k]) for k, irrep in found.irreps.items())


def test_known_decompositions() -> None:
    real = "real"
    assert summary(Regular(Cyclic(5))) == [(1, 1, real), (2, 1, "complex"), (2, 1, "complex")]
    assert summary(Regular(Dihedral(4))) == [(1, 1, real)] * 4 + [(2, 2, real)]
    assert summary(Regular(Tetrahedral())) == [(1, 1, real), (2, 1, "complex"), (3, 3, real)]
    assert summary(Regular(quaternion_group())) == [(1, 1, real)] * 4 + [(4, 1, "quaternionic")]
    assert summary(Regular(Icosahedral())) == [(1, 1, real), (3, 3, real), (3, 3, real), (4, 4, real), (5, 5, real)]
    # Edges of a graph on 4 nodes: S_4 on matrices is 2 + 3 * 3 + 2 + 3' by the partitions 4, 31, 22, 211.
    assert summary(T(2)(Symmetric(4))) == [(1, 2, real), (2, 1, real), (3, 1, real), (3, 3, real)]


def test_irreps_are_representations() -> None:
    G = Octahedral()
    g, h = G.sample((2, 20), generator=torch.Generator().manual_seed(0))
    for irrep in Regular(G).decompose().irreps.values():
        assert isinstance(irrep, TableRep)
        product = irrep.rho(g, dtype=torch.float64) @ irrep.rho(h, dtype=torch.float64)
        torch.testing.assert_close(irrep.rho(G.compose(g, h), dtype=torch.float64), product)


@pytest.mark.parametrize("k", range(6))
def test_powers_of_rotations(k: int) -> None:
    """Weights of T(k) are the coefficients of (x^-1 + 1 + x)^k in R^3 and of (x^-1 + x)^k in R^2."""
    trinomial = [*(Polynomial([1, 1, 1]) ** k).coef.round().astype(int).tolist()[k:], 0]
    degrees = {d: trinomial[d] - trinomial[d + 1] for d in range(k + 1) if trinomial[d] > trinomial[d + 1]}
    assert T(k)(SO(3)).decompose().multiplicities == degrees
    parity = (-1) ** k
    assert T(k)(O(3)).decompose().multiplicities == {(d, parity): m for d, m in degrees.items()}
    binomial = (Polynomial([1, 0, 1]) ** k).coef.round().astype(int).tolist()[k:]
    frequencies = {d: m for d, m in enumerate(binomial) if m}
    assert T(k)(SO(2)).decompose().multiplicities == frequencies


def test_parities() -> None:
    G = O(3)
    rep = 2 * Scalar(G) + Pseudovector(G) @ V(G) + 3 * V(G)
    # A pseudovector times a vector has odd parity and the degrees 0, 1 and 2.
    assert rep.decompose().multiplicities == {(0, 1): 2, (0, -1): 1, (1, -1): 4, (2, -1): 1}


@pytest.mark.parametrize("group", [SL(2), Lorentz(1, 3), Scaling(2), SO(4), O(2)], ids=repr)
def test_other_groups(group: Group) -> None:
    with pytest.raises(RepresentationError, match=r"decompose knows finite groups, SO\(2\), SO\(3\) and O\(3\)"):
        V(group).decompose()


def test_bad_input() -> None:
    shear = torch.tensor([[1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    skewed = FiniteMatrixGroup("skewed mirror", torch.stack([torch.eye(2).double(), shear]))
    with pytest.raises(RepresentationError, match=r"is not orthogonal, as decompose needs"):
        V(skewed).decompose()
    with pytest.raises(RepresentationError, match=r"decompose the summands or factors one by one"):
        Regular(Symmetric(6)).decompose()
    with pytest.raises(RepresentationError, match=r"\[4, size, size\] is needed"):
        TableRep(Cyclic(4), torch.ones(3, 1, 1), "short")


ROTATIONS: list[Rep] = [
    T(3)(SO(2)),
    T(2)(SO(2)) + 2 * V(SO(2)),
    T(3)(SO(3)),
    Irreps("2x0o+1e+3x2o")(SO(3)) + T(2)(SO(3)),
    T(3)(O(3)) + Pseudovector(O(3)) @ V(O(3)),
]


@pytest.mark.parametrize("rep", ROTATIONS, ids=repr)
def test_rotations_in_the_basis_of_their_parts(rep: Rep, generator: torch.Generator) -> None:
    found, g = rep.decompose(), rep.group.sample(20, generator=generator, dtype=torch.float64)
    B = found.basis
    torch.testing.assert_close(B @ B.mT, torch.eye(rep.size, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(B @ found.parts.rho(g) @ B.mT, rep.rho(g), rtol=0, atol=1e-12)
    assert set(found.types.values()) <= ({"real", "complex"} if rep.group.space_dim == 2 else {"real"})
