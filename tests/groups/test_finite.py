"""Finite point groups against closed forms, enumeration and scipy's rotation groups."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import chisquare

from erlangen.errors import DtypeError, ErlangenError, GroupError, NotFiniteError, OrbitError, ShapeError
from erlangen.groups import (
    Cyclic,
    Dihedral,
    FiniteMatrixGroup,
    Icosahedral,
    Octahedral,
    Tetrahedral,
)
from erlangen.groups.closure import close_under_product, nearest_matrix, snap

POLYHEDRAL = [
    (Tetrahedral(), "T", {0: 1, 120: 8, 180: 3}),
    (Octahedral(), "O", {0: 1, 90: 6, 120: 8, 180: 9}),
    (Icosahedral(), "I", {0: 1, 72: 12, 120: 20, 144: 12, 180: 15}),
]
ALL = [
    *(G for G, _, _ in POLYHEDRAL),
    *(Octahedral(inversion=True), Icosahedral(inversion=True), Cyclic(1), Cyclic(4), Cyclic(9)),
    *(Dihedral(1), Dihedral(2), Dihedral(4), Dihedral(7)),
]


def table(G: FiniteMatrixGroup) -> torch.Tensor:
    return G.linear(G.elements(), dtype=torch.float64)


def angles(rotations: np.ndarray) -> Counter[int]:
    degrees = np.degrees(Rotation.from_matrix(rotations).magnitude())
    assert np.allclose(degrees, degrees.round(), atol=1e-5)
    return Counter(degrees.round().astype(int).tolist())


# --- which groups they are --------------------------------------------------------------------------------
@pytest.mark.parametrize(("G", "letter", "classes"), POLYHEDRAL, ids=str)
def test_rotations_by_angle(G: FiniteMatrixGroup, letter: str, classes: dict[int, int]) -> None:
    assert G.order == sum(classes.values())
    rotations = table(G).numpy()
    assert np.allclose(np.linalg.det(rotations), 1)
    assert angles(rotations) == classes
    assert angles(Rotation.create_group(letter).as_matrix()) == classes


def test_the_octahedral_groups_are_the_signed_permutation_matrices() -> None:
    signed = {
        tuple(np.diag(s)[list(p)].flatten().tolist())
        for p in itertools.permutations(range(3))
        for s in itertools.product((1.0, -1.0), repeat=3)
    }
    full = {tuple(m.flatten().tolist()) for m in table(Octahedral(inversion=True))}
    assert full == signed
    rotations = {m for m in signed if np.linalg.det(np.reshape(m, (3, 3))) > 0}
    assert {tuple(m.flatten().tolist()) for m in table(Octahedral())} == rotations
    scipys = {tuple((m.round() + 0.0).flatten().tolist()) for m in Rotation.create_group("O").as_matrix()}
    assert scipys == rotations


def test_tables_of_planar_rotations_have_a_hundred_times_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlangen.groups.finite.MAX_ENUMERATION", 2)
    assert Cyclic(200).order == 200
    with pytest.raises(OrbitError, match="a table of 201 planar rotations"):
        Cyclic(201)


@pytest.mark.parametrize("Group", [Octahedral, Icosahedral])
def test_inversion_doubles_the_group(Group: type[Octahedral] | type[Icosahedral]) -> None:
    rotations, full = table(Group()), table(Group(inversion=True))
    assert torch.equal(full, torch.cat([rotations, -rotations]))


def test_polyhedral_groups_move_the_vertices_they_name() -> None:
    phi = (1 + math.sqrt(5)) / 2
    corners = [(0, s, t * phi) for s in (1, -1) for t in (1, -1)]
    icosahedron = torch.tensor([np.roll(c, k).tolist() for c in corners for k in range(3)], dtype=torch.float64)
    tetrahedron = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    for G, vertices in ((Icosahedral(inversion=True), icosahedron), (Tetrahedral(), tetrahedron)):
        moved = vertices @ table(G).mT
        distances = torch.cdist(moved, vertices.expand(len(moved), -1, -1))
        assert float(distances.min(-1).values.max()) < 1e-12
        assert (distances.min(-1).indices.sort(-1).values == torch.arange(len(vertices))).all()


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 60), k=st.integers(0, 10**6))
def test_planar_groups(n: int, k: int) -> None:
    k %= n
    c, s = math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert torch.allclose(table(Cyclic(n))[k], rotation, rtol=0, atol=1e-14)
    D = table(Dihedral(n))
    assert len(D) == 2 * n
    assert torch.allclose(D[k], rotation, rtol=0, atol=1e-14)
    flip = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert torch.allclose(D[n + k], rotation @ flip, rtol=0, atol=1e-14)
    assert int((torch.linalg.det(D) < 0).sum()) == n


# --- tables -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("G", ALL, ids=repr)
def test_compose_and_inverse_follow_the_matrices(G: FiniteMatrixGroup) -> None:
    g, matrices = G.elements(), table(G)
    products = table(G)[G.compose(g[:, None], g)]
    assert torch.allclose(products, matrices[:, None] @ matrices, rtol=0, atol=1e-12)
    assert torch.allclose(matrices[G.inverse(g)], torch.linalg.inv(matrices), rtol=0, atol=1e-12)


def test_entries_are_exact() -> None:
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    turns = torch.stack([torch.linalg.matrix_power(quarter, k) for k in range(4)])
    assert torch.equal(table(Cyclic(4)), turns)
    assert torch.equal(table(Cyclic(12))[3::3], turns[1:])
    assert torch.equal(table(Dihedral(4))[4], torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64)))
    assert set(table(Dihedral(4)).flatten().tolist()) == {0.0, 1.0, -1.0}
    assert not bool(table(Dihedral(4))[table(Dihedral(4)) == 0].signbit().any())  # a zero prints without a sign
    assert table(Cyclic(12))[1, 1, 0] == 0.5
    assert table(Cyclic(6))[1, 0, 0] == 0.5
    for G in ALL:
        entries = table(G)
        for value in (0.0, 0.5, 1.0):
            near = (entries.abs() - value).abs() < 1e-9
            assert torch.equal(entries[near].abs(), torch.full_like(entries[near], value))
        assert not torch.signbit(entries[entries == 0]).any()


def test_a_large_cyclic_group_needs_no_table() -> None:
    G = Cyclic(10_000)
    g, h = G.sample((2, 1000), generator=torch.Generator().manual_seed(0))
    expected = G.linear(g, dtype=torch.float64) @ G.linear(h, dtype=torch.float64)
    assert torch.allclose(G.linear(G.compose(g, h), dtype=torch.float64), expected, rtol=0, atol=1e-13)
    assert torch.equal(G.compose(g, h), (g + h) % 10_000)
    with pytest.raises(OrbitError, match=r"too large; use SO\(2\)"):
        Cyclic(10**9)


def test_groups_beyond_the_cayley_limit_multiply_matrices() -> None:
    n = 2_100
    G = FiniteMatrixGroup("C2100", Cyclic(n).matrices)
    g, h = G.sample((2, 50), generator=torch.Generator().manual_seed(0))
    assert torch.equal(G.compose(g, h), (g + h) % n)
    assert torch.equal(G.inverse(g), -g % n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_takes_the_dtype(dtype: torch.dtype) -> None:
    G = Icosahedral()
    assert G.linear(G.elements(), dtype=dtype).dtype == dtype
    assert torch.equal(G.linear(G.elements(), dtype=dtype), table(G).to(dtype))
    assert G.linear(torch.tensor(3)).dtype == torch.get_default_dtype()
    assert torch.equal(G.linear(torch.tensor([3], dtype=torch.int32)), G.linear(torch.tensor([3])))


def test_generators_are_few() -> None:
    """The rotation groups of the solids need two generators; inversion is one more at most."""
    for rotations in (Tetrahedral(), Octahedral(), Icosahedral()):
        assert len(rotations.discrete_generators) == 2
    for full in (Octahedral(inversion=True), Icosahedral(inversion=True)):
        assert len(full.discrete_generators) <= 3
    assert FiniteMatrixGroup("trivial", torch.eye(2)[None]).discrete_generators.shape == (0,)


# --- from_linear ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("G", ALL, ids=repr)
def test_from_linear_inverts_linear(G: FiniteMatrixGroup) -> None:
    g = G.sample((4, 5), generator=torch.Generator().manual_seed(1))
    for dtype in (torch.float32, torch.float64):
        index, ok = G.from_linear(G.linear(g, dtype=dtype))
        assert torch.equal(index, g)
        assert ok.all()


def test_from_linear_finds_the_nearest_element_and_says_how_near() -> None:
    G = Octahedral()
    generator = torch.Generator().manual_seed(0)
    g = G.sample(200, generator=generator)
    M = G.linear(g, dtype=torch.float64) + 0.1 * torch.randn(200, 3, 3, generator=generator, dtype=torch.float64)
    index, ok = G.from_linear(M)
    brute = (M[:, None] - table(G)).square().sum((-2, -1)).argmin(-1)
    assert torch.equal(index, brute)
    assert not ok.any()
    assert G.from_linear(M, tol=1.0)[1].all()
    index, ok = G.from_linear(torch.full((2, 3, 3), torch.nan))
    assert index.shape == (2,)
    assert not ok.any()
    assert G.from_linear(torch.zeros(0, 3, 3))[0].shape == (0,)


def test_from_linear_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ShapeError, match=r"M has shape \(2, 2\).*\[\.\.\., 3, 3\]"):
        Octahedral().from_linear(torch.eye(2))
    with pytest.raises(DtypeError, match=r"M has dtype torch\.int64"):
        Octahedral().from_linear(torch.eye(3, dtype=torch.int64))


# --- elements ---------------------------------------------------------------------------------------------
def test_sampling_is_uniform() -> None:
    counts = torch.bincount(Octahedral().sample(24_000, generator=torch.Generator().manual_seed(0)), minlength=24)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_grid_is_the_whole_group_or_an_error() -> None:
    assert torch.equal(Octahedral().grid(30), torch.arange(24))
    with pytest.raises(GroupError, match=r"grid of n = 10 elements .* its 24; ask for n >= 24, or use \.sample\(10\)"):
        Octahedral().grid(10)


def test_indices_are_integers() -> None:
    G = Octahedral()
    assert G.contains(torch.tensor([-1, 0, 23, 24])).tolist() == [False, True, True, False]
    assert not G.contains(torch.tensor([0.0, 1.0])).any()
    assert not G.contains(torch.tensor([True, False])).any()
    for call in (lambda g: G.compose(g, g), G.inverse, G.linear):
        with pytest.raises(DtypeError, match=r"g has dtype torch.float32.*int64 indices; from_linear"):
            call(torch.tensor(1.0))


# --- construction -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("Group", [Cyclic, Dihedral])
@pytest.mark.parametrize("n", [0, -3, 2.0, True, "4"])
def test_sizes_are_positive_integers(Group: type[Cyclic] | type[Dihedral], n: object) -> None:
    message = f"{Group.__name__}({n}): n must be a positive integer, got {n!r}"
    with pytest.raises(GroupError) as error:
        Group(n)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


def test_tables_are_checked() -> None:
    eye = torch.eye(2, dtype=torch.float64)[None]
    turns = table(Cyclic(3))
    bad: list[tuple[torch.Tensor, type[ErlangenError], str]] = [
        (turns[:2], GroupError, "not closed under products: element 1 times element 1 is not in the table"),
        (turns[1:], GroupError, r"matrices\[0\] must be the identity"),
        (torch.cat([eye, eye]), GroupError, r"matrices\[1\] repeats matrices\[0\]"),
        (torch.cat([eye, 0 * eye]) / 0, NotFiniteError, "matrices has"),
        (eye.long(), DtypeError, "matrices has dtype torch.int64"),
        (eye[0], ShapeError, r"matrices has shape \(2, 2\)"),
        (torch.zeros(1, 2, 3), ShapeError, r"matrices has shape \(1, 2, 3\)"),
        (eye[:0], ShapeError, r"matrices has shape \(0, 2, 2\)"),
    ]
    for matrices, error, message in bad:
        with pytest.raises(error, match=message):
            FiniteMatrixGroup("mine", matrices)


def test_a_closed_set_that_is_no_group_is_found() -> None:
    """diag(1, 0) is idempotent: products close, but it has no inverse."""
    idempotent = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, 0.0]))])
    with pytest.raises(GroupError, match=r"element 1 .*no inverse"):
        FiniteMatrixGroup("mine", idempotent)


def test_equality_compares_the_tables() -> None:
    a, b = table(Cyclic(4)), table(Dihedral(2))
    assert FiniteMatrixGroup("mine", a) == FiniteMatrixGroup("mine", a.clone())
    assert FiniteMatrixGroup("mine", a) != FiniteMatrixGroup("mine", b)
    assert FiniteMatrixGroup("mine", a) != FiniteMatrixGroup("yours", a)
    assert FiniteMatrixGroup("Cyclic(4)", a) != Cyclic(4)


def test_the_callers_table_is_copied() -> None:
    a = table(Cyclic(4)).clone()
    G = FiniteMatrixGroup("mine", a)
    a.zero_()
    assert torch.equal(table(G), table(Cyclic(4)))


# --- closure ----------------------------------------------------------------------------------------------
def test_closure_of_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    octahedral = close_under_product("O", table(Octahedral())[[1, 8, 16]])
    assert len(octahedral) == 24
    assert (nearest_matrix(octahedral, table(Octahedral()))[1] == 0).all()
    assert torch.equal(octahedral[0], torch.eye(3, dtype=torch.float64))
    irrational = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    monkeypatch.setattr("erlangen.groups.closure.MAX_CLOSURE", 1_000)
    with pytest.raises(GroupError, match="irrational: more than 1,000 products"):
        close_under_product("irrational", irrational[None])


def test_snap() -> None:
    x = torch.tensor([1e-13, -1e-13, 0.5 + 1e-13, -1 + 1e-13, 0.3, 1e-11], dtype=torch.float64)
    assert snap(x).tolist() == [0.0, 0.0, 0.5, -1.0, 0.3, 1e-11]
