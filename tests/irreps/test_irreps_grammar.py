"""Irreps strings, layout, algebra and matrices; e3nn as the peer for the grammar and the order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from erlangen.errors import GroupElementError, IrrepsError, ShapeError
from erlangen.groups import O
from erlangen.irreps import Irrep, Irreps, spherical_harmonics

blocks = st.tuples(st.integers(0, 4), st.tuples(st.integers(0, 6), st.sampled_from([-1, 1])))
lists = st.lists(blocks, max_size=6).map(Irreps)
F64 = torch.float64


@given(lists)
def test_text_round_trip(irreps: Irreps) -> None:
    assert Irreps(str(irreps)) == irreps
    assert Irreps(irreps) is irreps
    assert hash(Irreps(str(irreps))) == hash(irreps)


@settings(max_examples=50)
@given(lists, lists)
def test_agrees_with_e3nn(a: Irreps, b: Irreps) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    peer, other = o3.Irreps(str(a)), o3.Irreps(str(b))
    assert (a.dim, a.num_irreps, a.ls) == (peer.dim, peer.num_irreps, peer.ls)
    assert a.slices() == list(peer.slices())
    assert str(a + b) == str(peer + other)
    assert str(3 * a) == str(a * 3) == str(3 * peer)
    assert str(a.simplify()) == str(peer.simplify())
    assert str(a.sort().irreps) == str(peer.sort().irreps)
    assert [(mul, (l, p)) for mul, (l, p) in a] == [(mul, (l, p)) for mul, (l, p) in peer]
    for ir in ("0e", "1o", "3e"):
        assert a.count(ir) == peer.count(ir)
        assert (ir in a) == (peer.count(ir) > 0)  # e3nn also finds blocks of multiplicity 0


@given(st.integers(0, 5), st.integers(0, 5), st.sampled_from([-1, 1]), st.sampled_from([-1, 1]))
def test_product_of_two_irreps(l1: int, l2: int, p1: int, p2: int) -> None:
    a, b = Irrep(l1, p1), Irrep(l2, p2)
    product = a * b
    assert sum(ir.dim for ir in product) == a.dim * b.dim
    assert all(ir.p == p1 * p2 for ir in product)
    assert [ir.l for ir in product] == list(range(abs(l1 - l2), l1 + l2 + 1))


@pytest.mark.parametrize(("text", "same"), [("1o", "1x1o"), (" 2x0e +1o", "2x0e+1x1o"), ("3y", "1x3o"), ("", "")])
def test_spellings(text: str, same: str) -> None:
    assert str(Irreps(text)) == same


@pytest.mark.parametrize(
    ("text", "place"),
    [("16x0e+8z1o", 7), ("2x", 2), ("1o+", 3), ("3q", 1), ("1o 1e", 3), ("+1o", 0), ("-1x0e", 0), ("2x 0e + x1o", 8)],
)
def test_a_caret_shows_the_wrong_place(text: str, place: int) -> None:
    with pytest.raises(IrrepsError) as caught:
        Irreps(text)
    _, shown, caret = str(caught.value).split("\n")
    assert shown == "  " + text
    assert caret == "  " + " " * place + "^"


@pytest.mark.parametrize("bad", [(1, 2), (-1, 1), (True, 1), (1, None), ("1o", 1), ("1o+0e", None)])
def test_bad_irrep(bad: tuple[object, object]) -> None:
    with pytest.raises(IrrepsError):
        Irrep(*bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [[(-1, "0e")], [3], [(1, 2, 3)], [("0e", 1)], [(True, "0e")]])
def test_bad_list(bad: list[object]) -> None:
    with pytest.raises(IrrepsError):
        Irreps(bad)


def test_objects() -> None:
    vector = Irrep("1o")
    assert (vector.l, vector.p, vector.dim, str(vector)) == (1, -1, 3, "1o")
    assert Irrep(vector) is vector
    assert Irrep("0e").is_scalar()
    assert not Irrep("0o").is_scalar()
    assert Irreps(vector) == Irreps("1o") == Irreps([vector]) == Irreps(["1o"]) == Irreps([(1, (1, -1))])
    assert "0e" + Irreps("1o") == Irreps("0e+1o")
    assert Irreps("0e") + vector == Irreps("0e+1o")
    assert Irreps("2x0e+1o+1x0e").filter(["0e"]) == Irreps("2x0e+0e")
    assert Irreps.spherical_harmonics(3) == Irreps("0e+1o+2e+3o")
    assert Irreps.spherical_harmonics(2, p=1) == Irreps("0e+1e+2e")
    with pytest.raises(IrrepsError, match="largest degree"):
        _ = Irreps("0x3e").lmax


@settings(max_examples=25)
@given(lists, st.integers(0, 2**31))
def test_rho_is_an_orthogonal_homomorphism(irreps: Irreps, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    R, S = O(3).sample(2, generator=generator, dtype=F64)
    D, E = irreps.rho(R), irreps.rho(S)
    assert D.shape == (irreps.dim, irreps.dim)
    torch.testing.assert_close(D @ E, irreps.rho(R @ S), rtol=0, atol=1e-12)
    torch.testing.assert_close(D @ D.mT, torch.eye(irreps.dim, dtype=F64), rtol=0, atol=1e-12)
    x = irreps.randn(4, generator=generator, dtype=F64)
    torch.testing.assert_close(irreps.act(R, x), x @ D.mT, rtol=0, atol=1e-12)


def test_rho_equals_e3nn_with_parity() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    irreps = Irreps("2x0e+0o+1o+2x1e+2o+3e")
    R = torch.from_numpy(Rotation.random(5, random_state=0).as_matrix())
    R[::2] *= -1
    default = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    try:
        expected = o3.Irreps(str(irreps)).D_from_matrix(R)
    finally:
        torch.set_default_dtype(default)
    torch.testing.assert_close(irreps.rho(R), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Irrep("1e").D_from_matrix(R), torch.linalg.det(R)[:, None, None] * R)


def test_harmonics_transform_as_their_irreps() -> None:
    R = O(3).sample(6, generator=torch.Generator().manual_seed(3), dtype=F64)
    x = torch.randn(6, 3, dtype=F64)
    moved = spherical_harmonics(5, (R @ x[..., None])[..., 0])
    irreps = Irreps.spherical_harmonics(5)
    torch.testing.assert_close(irreps.act(R, spherical_harmonics(5, x)), moved, rtol=0, atol=1e-12)


def test_sort_permutes_the_features() -> None:
    irreps = Irreps("2x1o+0e+1e+0o+1x1o")
    sorted_irreps, permutation = irreps.sort()
    assert str(sorted_irreps) == "1x0o+1x0e+2x1o+1x1o+1x1e"
    R = O(3).sample(generator=torch.Generator().manual_seed(0), dtype=F64)[0]
    x = irreps.randn(3, dtype=F64)
    torch.testing.assert_close(irreps.act(R, x)[..., permutation], sorted_irreps.act(R, x[..., permutation]))


def test_broadcasting_and_gradient() -> None:
    irreps = Irreps("2x0e+1o")
    R = O(3).sample(4, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = irreps.randn(5, 1, dtype=F64).requires_grad_()
    assert irreps.act(R, x).shape == (5, 4, 5)
    assert Irreps("").act(R, x[..., :0]).shape == (5, 4, 0)
    assert Irreps("").rho(R).shape == (4, 0, 0)
    assert torch.autograd.gradcheck(lambda x, R: irreps.act(R, x, check=False), (x, R.requires_grad_()))


def test_same_stream_in_both_dtypes() -> None:
    a, b = (Irreps("3x1o").randn(4, generator=torch.Generator().manual_seed(5), dtype=d) for d in (torch.float32, F64))
    torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6)


def test_bad_tensors() -> None:
    with pytest.raises(ShapeError, match=r"need \[..., 5\]; 9 numbers are one copy of each degree 0..2"):
        Irreps("2x0e+1o").act(torch.eye(3), torch.zeros(9))
    with pytest.raises(ShapeError, match=r"shape \(\), but irreps 2x0e\+1x1o need \[..., 5\]; 1 numbers are one copy"):
        Irreps("2x0e+1o").act(torch.eye(3), torch.tensor(1.0))
    with pytest.raises(GroupElementError, match="orthogonal"):
        Irreps("1o").rho(2 * torch.eye(3))
    with pytest.raises(ShapeError, match="3, 3"):
        Irreps("0e").rho(torch.eye(2))


@given(lists)
def test_irreps_of_e3nn_are_read(irreps: Irreps) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    peer = o3.Irreps(str(irreps))
    assert Irreps(peer) == irreps
    assert Irreps("1o") + peer == Irreps("1o") + irreps
    assert [Irreps(block) for block in peer] == [Irreps([block]) for block in irreps]
    assert Irreps([(mul, ir) for mul, ir in peer]) == irreps
    assert [Irrep(block.ir) for block in peer] == [block.ir for block in irreps]
    assert Irreps(o3.Irrep("2e")) == Irreps("2e")


@given(lists, st.slices(6))
def test_slices_are_irreps(irreps: Irreps, part: slice) -> None:
    found = irreps[part]
    assert isinstance(found, Irreps)
    assert tuple(found) == tuple(irreps)[part]
    assert found.dim == sum(block.dim for block in tuple(irreps)[part])


def test_an_index_is_a_block() -> None:
    assert Irreps("2x0e+1o")[-1] == (1, (1, -1))
    assert Irreps("2x0e+1o+2e")[1:].lmax == 2


@pytest.mark.parametrize("value", [3, 2.5, None, [3], object()])
def test_what_is_no_irreps(value: object) -> None:
    with pytest.raises(IrrepsError, match="is no irrep"):
        Irreps(value)
