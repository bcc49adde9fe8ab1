"""Two views: what leads from one to the other, on the left and on the right."""

import pytest
import torch

import erlangen as er
from erlangen.errors import ShapeError, UnknownNameError
from erlangen.groups import SE, SO, Cyclic, Symmetric
from erlangen.learn import relative_element, two_views

GROUPS = [SO(3), SE(3), Symmetric(5), Cyclic(7), SO(2)]


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_each_side_multiplies_on_its_side(group) -> None:
    generator = torch.Generator().manual_seed(0)
    dtype = None if group.element_dtype else torch.float64
    first, second, h = (group.sample(20, generator=generator, dtype=dtype) for _ in range(3))
    left = relative_element(group, first, second)
    right = relative_element(group, first, second, side="right")
    torch.testing.assert_close(group.compose(left, first), second, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(group.compose(first, right), second, atol=1e-12, rtol=1e-12)
    # Moving space by h leaves the right one alone and conjugates the left one; other axes of the object do the reverse.
    there = [group.compose(h, g) for g in (first, second)]
    torch.testing.assert_close(relative_element(group, *there, side="right"), right, atol=1e-12, rtol=1e-12)
    due = group.compose(group.compose(h, left), group.inverse(h))
    torch.testing.assert_close(relative_element(group, *there), due, atol=1e-12, rtol=1e-12)
    axes = [group.compose(g, h) for g in (first, second)]
    torch.testing.assert_close(relative_element(group, *axes), left, atol=1e-12, rtol=1e-12)


def test_right_multiplication_of_rotations_against_scipy() -> None:
    from scipy.spatial.transform import Rotation

    first, second = (Rotation.random(8, random_state=i) for i in range(2))
    got = relative_element(*(SO(3), *(torch.from_numpy(r.as_matrix()) for r in (first, second))), side="right")
    torch.testing.assert_close(got, torch.from_numpy((first.inv() * second).as_matrix()))


@pytest.mark.parametrize(
    ("symmetry", "x"),
    [
        (er.Symmetry("SE(3)", input="points", output="invariant"), torch.randn(4, 6, 3, dtype=torch.float64)),
        (er.Symmetry("Cyclic(4)", input="image", output="invariant"), torch.rand(4, 3, 8, 8)),
        (er.Symmetry("S(6)", input="permuted", output="invariant"), torch.randn(4, 6, 2)),
    ],
    ids=["points", "image", "set"],
)
def test_the_element_moves_the_first_view_onto_the_second(symmetry, x) -> None:
    views = two_views(symmetry, x, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(symmetry.input.act(views.relative, views.first), views.second)
    torch.testing.assert_close(symmetry.input.act(views.elements[0], x), views.first)
    again = two_views(symmetry, x, generator=torch.Generator().manual_seed(3), side="right")
    assert torch.equal(again.second, views.second)
    anchored = two_views(symmetry, x, generator=torch.Generator().manual_seed(3), anchored=True)
    assert torch.equal(anchored.first, x)
    torch.testing.assert_close(symmetry.input.act(anchored.relative, x), anchored.second)


def test_elements_come_from_the_range_of_the_symmetry() -> None:
    symmetry = er.Symmetry("SO(2) within 10 degrees", input="points", output="invariant")
    views = two_views(symmetry, torch.randn(200, 3, 2, dtype=torch.float64), generator=torch.Generator().manual_seed(0))
    angles = symmetry.group.log(views.elements.flatten(0, 1)).abs().rad2deg()
    assert 9 < float(angles.max()) <= 10
    assert float(symmetry.group.log(views.relative).abs().rad2deg().max()) > 12


def test_bad_input_is_named() -> None:
    eye = torch.eye(3)
    with pytest.raises(UnknownNameError, match="side = 'up'; give 'left'"):
        relative_element(SO(3), eye, eye, side="up")
    with pytest.raises(ShapeError, match=r"shape \[2, 2\]|shape \(2, 2\)"):
        relative_element(SO(3), torch.eye(2), torch.eye(2))
