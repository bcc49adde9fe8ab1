"""Reflections that exchange labels: the axioms, skeletons by hand, masks and audits."""

import pytest
import torch

import erlangen as er
from erlangen.actions import Image, Invariant, Points, Pseudovectors, Relabelled
from erlangen.errors import ActionError, ShapeError
from erlangen.groups import SO, Dihedral, E, O

ORDER = (0, 2, 1, 4, 3)


@pytest.mark.parametrize(
    ("group", "action"),
    [(O(3), Points()), (O(3), Pseudovectors()), (O(3), Invariant()), (E(3), Points()), (E(3), Invariant())],
    ids=str,
)
def test_it_is_an_action(group, action) -> None:
    move = Relabelled(action, ORDER).on(group)
    generator = torch.Generator().manual_seed(0)
    g, h = (group.sample(40, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.randn(40, 5, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(move.act(g, move.act(h, x)), move.act(group.compose(g, h), x))
    torch.testing.assert_close(move.act(group.identity(dtype=torch.float64), x), x)
    moved = action.on(group).act(g, x)
    mirrored = torch.linalg.det(group.linear(g)) < 0
    assert 5 < int(mirrored.sum()) < 35
    torch.testing.assert_close(move.act(g, x)[~mirrored], moved[~mirrored])
    torch.testing.assert_close(move.act(g, x)[mirrored], moved[mirrored][:, list(ORDER)])


def test_channels_of_pictures() -> None:
    """Two channels, left and right: a mirrored picture exchanges them."""
    move = Relabelled(Image(), (1, 0), axis=-3).on(Dihedral(1))
    x = torch.rand(3, 2, 4, 4)
    flip = Dihedral(1).elements()[1:]
    plain = Image().on(Dihedral(1)).act(flip, x)
    torch.testing.assert_close(move.act(flip, x), plain.flip(1))


def test_an_audit_tells_which_side_is_which() -> None:
    """Raising both arms is symmetric; the left arm alone is not."""
    symmetry = er.Symmetry(O(3), input=Relabelled(Points(), ORDER), output="invariant")
    x = torch.randn(8, 5, 3, generator=torch.Generator().manual_seed(1))
    left, right = ((x_[..., 1, :] - x_[..., 0, :]).norm(dim=-1) for x_ in (x, x[:, list(ORDER)]))
    assert not torch.allclose(left, right)
    assert float(er.equivariance_error(lambda p: (p[:, 1:3] - p[:, :1]).norm(dim=-1).sum(-1), symmetry, x).max()) < 1e-5
    assert float(er.equivariance_error(lambda p: (p[:, 1] - p[:, 0]).norm(dim=-1), symmetry, x).max()) > 0.1


def test_masks_exchange_their_labels_too() -> None:
    move = Relabelled(Points(), (1, 0))
    known = torch.tensor([[True], [False]]).expand(2, 3)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    x = torch.randn(2, 3)
    got = move.move_mask(O(3), mirror, known, x)
    assert got[:, 0].tolist() == [False, True]
    assert move.move_mask(O(3), torch.eye(3), known, x)[:, 0].tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Relabelled(Points(), (1, 2, 0)), ActionError, "a permutation of 0, ..., 2 that is its own inverse"),
        (lambda: Relabelled(Points(), (1, 1)), ActionError, "that is its own inverse"),
        (lambda: Relabelled(Points(), (1, 0), axis=0), ActionError, "count the axis from the end"),
        (lambda: Relabelled(Points(), (1, 0)).on(SO(3)), ActionError, r"relabelled points: SO\(3\) has no sign"),
        (
            lambda: Relabelled(Points(), (1, 0)).on(O(3)).act(torch.eye(3), torch.zeros(4, 3)),
            ShapeError,
            "has 2 labels",
        ),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
