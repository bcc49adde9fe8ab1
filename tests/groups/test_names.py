"""Names of groups, and what is said about wrong ones."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import erlangen.groups as groups
from erlangen.actions import Image
from erlangen.errors import GroupError, UnknownNameError
from erlangen.groups import (
    SE,
    SL,
    SO,
    Affine,
    Cyclic,
    Dihedral,
    DirectProduct,
    E,
    GLPlus,
    Group,
    Icosahedral,
    Lorentz,
    O,
    Octahedral,
    Scaling,
    SemidirectProduct,
    Shifts,
    Similarity,
    Symmetric,
    Tetrahedral,
    Translation,
    group,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SO(3)", SO(3)),
        ("O(3)", O(3)),
        ("SE(2)", SE(2)),
        ("E(3)", E(3)),
        ("Translation(2)", Translation(2)),
        ("T(2)", Translation(2)),
        ("Scaling(3)", Scaling(3)),
        ("Similarity(2)", Similarity(2)),
        ("SL(2)", SL(2)),
        ("GL+(2)", GLPlus(2)),
        ("GLPlus(2)", GLPlus(2)),
        ("Affine(2)", Affine(2)),
        ("Lorentz(1,3)", Lorentz(1, 3)),
        ("Lorentz( 1 , 3 )", Lorentz(1, 3)),
        ("Cyclic(8)", Cyclic(8)),
        ("C(8)", Cyclic(8)),
        ("C8", Cyclic(8)),
        ("Dihedral(4)", Dihedral(4)),
        ("D(4)", Dihedral(4)),
        ("D4", Dihedral(4)),
        ("Symmetric(5)", Symmetric(5)),
        ("S(5)", Symmetric(5)),
        ("S5", Symmetric(5)),
        ("SO2", SO(2)),
        ("SO3", SO(3)),
        ("O3", O(3)),
        ("E2", E(2)),
        ("SE3", SE(3)),
        ("T2", Translation(2)),
        ("GL+2", GLPlus(2)),
        ("Z4", Cyclic(4)),
        ("Z(4)", Cyclic(4)),
        ("C4", Cyclic(4)),
        ("Flip", Dihedral(1)),
        ("SE3 x S5", DirectProduct(SE(3), Symmetric(5))),
        ("Translation(2, 3.5)", Translation(2, scale=3.5)),
        ("Translation(2, scale=3.5)", Translation(2, scale=3.5)),
        ("T(2, 4)", Translation(2, scale=4)),
        ("Tetrahedral", Tetrahedral()),
        ("Octahedral", Octahedral()),
        ("Octahedral()", Octahedral()),
        ("O_h", Octahedral(inversion=True)),
        ("Icosahedral", Icosahedral()),
        ("I_h", Icosahedral(inversion=True)),
        ("Shifts(28,28)", Shifts(28, 28)),
        ("Shifts(7)", Shifts(7)),
        ("  SO (3) ", SO(3)),
        ("SO(3) x S5", DirectProduct(SO(3), Symmetric(5))),
        ("SO(3) × S5 x C4", DirectProduct(SO(3), Symmetric(5), Cyclic(4))),
        ("SemidirectProduct(O_h)", SemidirectProduct(Octahedral(inversion=True))),
        ("Affine(2, scale=0.25, translation_scale=3)", Affine(2, scale=0.25, translation_scale=3)),
    ],
)
def test_names(text: str, expected: Group) -> None:
    parsed = group(text)
    assert parsed == expected
    assert type(parsed) is type(expected)
    assert group(parsed.name) == parsed


factor = st.one_of(
    st.builds(Cyclic, st.integers(1, 30)),
    st.builds(Dihedral, st.integers(1, 30)),
    st.builds(Symmetric, st.integers(1, 30)),
    st.builds(SO, st.integers(2, 5)),
    st.builds(E, st.integers(2, 4)),
    st.builds(lambda sizes: Shifts(*sizes), st.lists(st.integers(1, 9), min_size=1, max_size=3)),
    st.builds(lambda s: SL(2, scale=s), st.sampled_from([0.125, 0.5, 3.0])),
)


@settings(deadline=None, max_examples=25)
@given(factors=st.lists(factor, min_size=2, max_size=4))
def test_products_round_trip(factors: list[Group]) -> None:
    G = DirectProduct(*factors)
    assert group(G.name) == G


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SU(2)", "unknown group 'SU(2)'"),
        ("", "unknown group ''"),
        ("SOO3", "unknown group 'SOO3'; did you mean SO(n)"),
        ("Octahedral3x", "unknown group 'Octahedral3x'"),
        ("so(3)", "unknown group 'so(3)'; did you mean SO(n)"),
        ("Symetric(3)", "unknown group 'Symetric(3)'; did you mean Symmetric(n)?"),
        ("Octohedral", "did you mean Octahedral"),
        ("cyclic", "did you mean Cyclic(n)"),
        ("SO(3) x ", "unknown group 'SO(3) x'"),
        ("SO(3) x  x C4", "unknown group 'x C4'"),
        ("3", "unknown group '3'"),
    ],
)
def test_unknown_names(text: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        group(text)
    assert message in str(error.value)
    for known in ("SO(n)", "GL+(n)", "Lorentz(p, q)", "Shifts(size, ...)", "O_h", "Tetrahedral"):
        assert known in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SO", "'SO' has 0 argument(s), but SO(n) takes 1"),
        ("SO()", "'SO()' has 0 argument(s), but SO(n) takes 1"),
        ("SO(3,2)", "'SO(3,2)' has 2 argument(s), but SO(n) takes 1"),
        ("Octahedral2", "'Octahedral2' has 1 argument(s), but Octahedral takes 0"),
        ("Translation(2, wide)", "'Translation(2, wide)': 'wide' is not a number"),
        ("Translation(2, 3, scale=4)", "gives scale twice"),
        ("Translation(2, 3, 4)", "'Translation(2, 3, 4)' has 2 argument(s), but Translation(n) takes 1"),
        ("Lorentz(3)", "'Lorentz(3)' has 1 argument(s), but Lorentz(p, q) takes 2"),
        ("Octahedral(2)", "'Octahedral(2)' has 1 argument(s), but Octahedral takes 0"),
        ("Shifts()", "'Shifts()' has 0 argument(s), but Shifts(size, ...) takes one or more"),
        ("SO(n)", "'SO(n)': 'n' is not an integer; write SO(n) with integers"),
        ("SO(2.5)", "'SO(2.5)': '2.5' is not an integer"),
        ("SO(3,)", "'SO(3,)' has 2 argument(s), but SO(n) takes 1"),
        ("SO(3))", "'3)' is not an integer"),
        ("Cyclic(0)", "Cyclic(0): n must be a positive integer, got 0"),
        ("S(-2)", "Symmetric(-2): n must be a positive integer, got -2"),
        ("Shifts(4,0)", "Shifts(0): each size must be a positive integer, got 0"),
        ("SO(3, scale=2)", "SO(n) has no option 'scale'"),
        ("SL(2, scale=wide)", "'SL(2, scale=wide)': 'wide' is not a number"),
    ],
)
def test_wrong_arguments(text: str, message: str) -> None:
    with pytest.raises(GroupError) as error:
        group(text)
    assert message in str(error.value)


def test_too_small_dimensions_are_refused_everywhere() -> None:
    for name in ("SO", "O", "SE", "E", "T", "Scaling", "Similarity", "SL", "GL+", "Affine", "C", "D", "S"):
        for n in (0, -1):
            with pytest.raises(GroupError, match=str(n)):
                group(f"{name}({n})")


def test_the_group_of_a_sign() -> None:
    """O(1) is {1, -1} on a line."""
    G = group("O(1)")
    assert (G.name, G.order, G.space_dim) == ("O(1)", 2, 1)
    assert group("O1") == O(1) == G
    assert copy.deepcopy(O(1)) == G
    assert copy.deepcopy(O(2)) == O(2)
    assert group(G.name) == G
    assert G.linear(G.elements()).flatten().tolist() == [1, -1]
    assert G.compose(G.elements()[:, None], G.elements()).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("name", "n"), [("C4", 4), ("Z4", 4), ("D4", 8), ("Flip", 2), ("O(1)", 2), ("S3", 6)])
def test_orders(name: str, n: int) -> None:
    assert group(name).order == n


def test_flip_turns_a_picture_left_to_right() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    moved = Image().on(group("Flip")).act(torch.tensor([1]), x)
    assert torch.equal(moved, x.flip(-1))


def test_a_group_passes_through() -> None:
    G = SO(3)
    assert group(G) is G


def test_everything_public_is_there() -> None:
    for name in groups.__all__:
        assert hasattr(groups, name)
    assert sorted(groups.__all__) == sorted(set(groups.__all__))
