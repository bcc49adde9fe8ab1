"""Masks in containers: what an action cannot know stays unknown in sequences, sums, products and trees."""

import pytest
import torch

import erlangen as er
from erlangen.actions import Boxes, DirectSum, Factors, Field, Image, Invariant, Permuted, Points, Sequence, TreeAction
from erlangen.actions.base import expand_mask


def shifts(*rows):
    return er.Translation(2).join(torch.eye(2), torch.tensor(rows, dtype=torch.float32))


def shifted_ones(size, row):
    """Which pixels of a picture shifted by whole pixels (right, up) come from inside, by slicing."""
    known = torch.zeros(size, dtype=torch.bool)
    right, up = (int(n) for n in row)
    rows, columns = range(size[0]), range(size[1])
    for i in rows:
        for j in columns:
            known[i, j] = (i + up) in rows and (j - right) in columns
    return known


FLOW = er.Flow(er.Translation(2), [[1.0, 0.0], [0.0, 1.0]])
PRODUCT = er.DirectProduct(er.Symmetric(3), er.Translation(2))
REVERSED = er.DirectProduct(er.Translation(2), er.Symmetric(3))
TWICE = er.DirectProduct(er.Translation(2), er.Translation(2))
ONE_BY_ONE = {
    "image": (er.Translation(2), Image()),
    "bicubic image": (er.SE(2), Image("bicubic")),
    "sequence": (er.Translation(2), Sequence(Image(), -3)),
    "sequence of channels": (er.Translation(2), "sequence(image, -4)"),
    "flow": (FLOW, Sequence(Image(), -3)),
    "permuted and moved": (PRODUCT, Factors((Permuted(axis=-3), Image()))),
    "moved and permuted": (REVERSED, Factors((Image(), Permuted(axis=-3)))),
    "moved twice": (TWICE, Factors((Image(), Image()))),
    "moved twice, bicubic": (TWICE, Factors((Image("bicubic"), Image("bicubic")))),
    "sequence of products": (PRODUCT, Sequence(Factors((Permuted(axis=-3), Image())), -4)),
    "product of sequences": (PRODUCT, Factors((Permuted(axis=-3), Sequence(Image(), -4)))),
    "tree": (er.Translation(2), TreeAction({"a": Image(), "b": Sequence(Image(), -3), "c": Invariant()})),
    "product of trees": (
        PRODUCT,
        Factors((TreeAction((Permuted(axis=-3), Invariant())), TreeAction((Image(), Image())))),
    ),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_adding_one_commutes_with_everything(name, generator):
    """What comes from outside is zero on one side and one on the other, so it must not count."""
    group, action = ONE_BY_ONE[name]
    shape = (4, 2, 3, 9, 11)
    x = torch.rand(shape, generator=generator)
    if name == "tree":
        x = {"a": x, "b": x[:, 0], "c": x[:, :, 0, 0]}
    if name == "product of trees":
        x = (x, x[:, 0])
    sym = er.Symmetry(group, input=action, output=action)

    def plus_one(x):
        return er.actions.tree_map(lambda leaf: leaf + 1, x)

    report = er.audit(plus_one, sym, x, elements=24, progress=False)
    assert report.worst_error < 1e-5

    def crooked(x):  # and a model that does not commute is still caught
        return er.actions.tree_map(lambda leaf: leaf * torch.linspace(0.5, 2, leaf.shape[-1]), x)

    assert er.audit(crooked, sym, x, elements=24, progress=False).error > 0.05


def test_masks_of_sequences_and_flows_by_slicing():
    x = torch.zeros(2, 4, 5, 6)
    g = shifts((2.0, 0.0), (-1.0, 1.0))
    mask = Sequence(Image(), -3).on(er.Translation(2)).mask(g, x).expand(x.shape)
    for b, row in enumerate(((2, 0), (-1, 1))):
        assert torch.equal(mask[b], shifted_ones((5, 6), row).expand(4, 5, 6))
    velocity = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    mask = Sequence(Image(), -3).on(FLOW).mask(velocity, x).expand(x.shape)
    for b in range(2):
        for t in range(4):
            assert torch.equal(mask[b, t], shifted_ones((5, 6), (velocity[b] * t).tolist()))
    assert Sequence(Image(padding="circular"), -3).on(FLOW).mask(velocity, x) is None


def test_masks_of_products_by_moving_ones(generator):
    """Against the action itself on a picture of ones without padding: known is what is read from ones alone."""
    x = torch.zeros(1, 3, 5, 6)
    g = TWICE.join(shifts((3.0, 0.0)), shifts((-3.0, 0.0)))
    twice = Factors((Image(), Image())).on(TWICE)
    known = twice.mask(g, x).expand(x.shape)
    there_and_back = torch.zeros(5, 6, dtype=torch.bool)
    there_and_back[:, :3] = True  # what went out on the right does not come back
    assert torch.equal(known[0, 0], there_and_back)
    swap = torch.tensor([1, 0, 2])
    holes = torch.ones(3, 5, 6, dtype=torch.bool)
    holes[0, 2, 2] = False
    moved = Permuted(axis=-3).move_mask(er.Symmetric(3), swap, holes, torch.zeros(3, 5, 6))
    assert not bool(moved[1, 2, 2])
    assert int((~moved).sum()) == 1
    half = shifts((0.5, 0.0))[0]
    for kind, columns in (("bilinear", [2, 3]), ("bicubic", [1, 2, 3, 4])):
        known = Image(kind).move_mask(er.Translation(2), half, holes, torch.zeros(3, 5, 6))
        assert (~known[0, 2]).nonzero()[:, 0].tolist()[-len(columns) :][0] <= columns[0]
        assert not bool(known[0, 2, columns].any())


def test_rows_with_an_unknown_entry_are_unknown():
    known = torch.tensor([[True, True, True], [True, False, True]])
    x = torch.zeros(2, 3)
    assert Points().move_mask(er.SO(3), torch.eye(3), known, x).tolist() == [[True], [False]]
    assert torch.equal(Invariant().move_mask(er.SO(3), torch.eye(3), known, x), known)
    summed = DirectSum((Points(), Invariant(1)))
    wide = torch.tensor([[True, False, True, True], [True, True, True, False]])
    moved = summed.move_mask(er.SO(3), torch.eye(3), wide, torch.zeros(2, 4))
    assert moved.tolist() == [[False, False, False, True], [True, True, True, False]]
    field = torch.ones(2, 3, 3, dtype=torch.bool)
    field[1, 0, 0] = False
    turned = Field().move_mask(er.group("Cyclic(4)"), torch.tensor(1), field, torch.zeros(2, 3, 3))
    assert turned.shape == (1, 3, 3)
    assert not bool(turned[0, 2, 0])
    assert int((~turned).sum()) == 1
    assert expand_mask(er.SO(3), torch.eye(3).expand(5, 1, 3, 3), known[None], x[None]).shape == (5, 2, 3)


def test_masks_of_sums(generator):
    """Boxes with scores behind them: a box that leaves the window is unknown, its score is known."""
    boxes = Boxes(window=(20, 30))
    action = DirectSum((boxes, Invariant(1)))
    x = torch.tensor([[0.0, 0.0, 4.0, 4.0, 0.9], [12.0, 0.0, 4.0, 4.0, 0.8], [0.0, 6.0, 4.0, 4.0, 0.7]]).expand(2, 3, 5)
    g = shifts((0.0, 0.0), (10.0, 0.0))
    mask = action.on(er.Translation(2)).mask(g, x)
    assert mask.shape == (2, 3, 5)
    assert mask[0].all()
    assert mask[..., 4].all()
    assert mask[1, :, :4].any(-1).tolist() == [True, False, True]
    assert DirectSum((Boxes(), Invariant(1))).on(er.Translation(2)).mask(g, x) is None

    def detector(x):
        return torch.cat([boxes.clip(x[..., :4]), x[..., 4:]], -1)  # a camera cuts boxes at its border

    sym = er.Symmetry(er.Translation(2, scale=5.0), input=DirectSum((Boxes(), Invariant(1))), output=action)
    assert er.audit(detector, sym, x, elements=50, progress=False).worst_error < 1e-6
    blind = er.Symmetry(
        er.Translation(2, scale=5.0), input=DirectSum((Boxes(), Invariant(1))), output="boxes + invariant"
    )
    assert er.audit(detector, blind, x, elements=50, progress=False).worst_error > 0.01
