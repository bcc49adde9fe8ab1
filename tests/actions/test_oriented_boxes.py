"""Turned boxes: their corners and the points inside move with them."""

import pytest
import torch

import erlangen as er
from erlangen.actions import OrientedBoxes, Points
from erlangen.errors import ActionError, ShapeError
from erlangen.geometry import box_corners, oriented_iou
from erlangen.groups import SO, Cyclic, Dihedral, E, GLPlus, O, Shifts, Similarity, Stabilizer

UP = [0.0, 0.0, 1.0]
GROUPS = [O(2), E(2), Similarity(2), Dihedral(4), Stabilizer(O(3), UP), Stabilizer(E(3), UP)]


def boxes(group, count: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    n = group.space_dim
    size = 0.5 + torch.rand(count, n, generator=generator, dtype=torch.float64)
    yaw = 8 * torch.rand(count, 1, generator=generator, dtype=torch.float64) - 4
    return torch.cat([2 * torch.randn(count, n, generator=generator, dtype=torch.float64), size, yaw], -1)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_corners_move_as_points(group) -> None:
    x = boxes(group)
    g = group.sample(
        len(x), generator=torch.Generator().manual_seed(1), **({} if group.element_dtype else {"dtype": x.dtype})
    )
    moved = OrientedBoxes().on(group).act(g, x)
    corners, due = box_corners(moved), Points().on(group).act(g, box_corners(x))
    apart = (corners[:, :, None] - due[:, None]).norm(dim=-1)  # a mirror changes which corner is the left one
    assert float(apart.amin(1).max()) < 1e-12
    assert float(apart.amin(2).max()) < 1e-12
    assert bool((moved[:, -1].abs() <= torch.pi).all())


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_it_is_an_action_up_to_full_turns(group) -> None:
    x = boxes(group)
    options = {} if group.element_dtype else {"dtype": x.dtype}
    g, h = (group.sample(len(x), generator=torch.Generator().manual_seed(k), **options) for k in (1, 2))
    act = OrientedBoxes().on(group).act
    one, other = act(g, act(h, x)), act(group.compose(g, h), x)
    torch.testing.assert_close(one[:, :-1], other[:, :-1])
    torch.testing.assert_close((one[:, -1] - other[:, -1]).cos(), torch.ones(len(x), dtype=x.dtype))
    torch.testing.assert_close(
        oriented_iou(act(g, x), act(g, x.roll(1, 0))), oriented_iou(x, x.roll(1, 0)), atol=1e-8, rtol=1e-7
    )


def test_labels_of_an_augmented_scene() -> None:
    symmetry = er.Symmetry(Stabilizer(E(3), UP), input="points", output="oriented_boxes")
    x = boxes(symmetry.group, 4)
    pos = torch.cat([box_corners(x), x[:, None, :3]], 1)
    moved, labels = er.augment(symmetry)(pos, x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved[:, -1], labels[:, :3])
    assert (
        float(
            (moved[:, :-1] - labels[:, None, :3])
            .norm(dim=-1)
            .sub((labels[:, 3:6] / 2).norm(dim=-1)[:, None])
            .abs()
            .max()
        )
        < 1e-12
    )


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: OrientedBoxes().on(Shifts(4, 4)), ActionError, "does not move boxes; use a group such as SE"),
        (lambda: OrientedBoxes().on(SO(4)), ActionError, "does not move boxes"),
        (
            lambda: OrientedBoxes().on(SO(3)).act(SO(3).exp(torch.tensor([0.1, 0, 0])), torch.ones(7)),
            ActionError,
            "tilts the vertical",
        ),
        (
            lambda: OrientedBoxes().on(Cyclic(4)).act(torch.tensor([1]), torch.ones(1, 7)),
            ShapeError,
            r"are \[..., 5\], \(x, y, length",
        ),
        (
            lambda: OrientedBoxes().on(GLPlus(2)).act(torch.tensor([[1.0, 0.5], [0, 1]]), torch.ones(5)),
            ActionError,
            "or shears",
        ),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
