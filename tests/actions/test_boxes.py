"""Boxes: the action against pictures of boxes, its laws, what a window cuts, and what an audit makes of cut boxes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import erlangen as er
from erlangen.actions import Boxes, Image, parse_action
from erlangen.errors import ActionError, ErlangenError, ShapeError
from erlangen.measure.evaluate import consensus_of

DOUBLE = torch.float64
WINDOW = (20, 30)


def random_boxes(count: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    g = torch.Generator().manual_seed(0)
    middle = 8 * torch.rand(count, 2, generator=g, dtype=DOUBLE) - 4
    return torch.cat([middle, 1 + 4 * torch.rand(count, 2, generator=g, dtype=DOUBLE)], -1).to(dtype)


def shift(x: float, y: float) -> Tensor:
    return er.Translation(2).exp(torch.tensor([x, y], dtype=DOUBLE))


def drawn(box: Tensor, size: int) -> Tensor:
    """A picture whose pixels are 1 where their centre lies in the box."""
    axis = torch.arange(size, dtype=DOUBLE) - (size - 1) / 2
    across = (axis - box[0]).abs() < box[2] / 2
    up = (-axis - box[1]).abs() < box[3] / 2
    return (up[:, None] & across).double()


@pytest.mark.parametrize("size", [16, 17])
def test_boxes_move_with_the_picture(size: int) -> None:
    """The image action is the oracle: the picture of the moved box is the moved picture of the box."""
    box = torch.tensor([2.3, -1.6, 7.0, 3.0], dtype=DOUBLE)
    for group, elements in (
        (er.Dihedral(4), er.Dihedral(4).elements()),
        (er.Translation(2), torch.stack([shift(3, -2), shift(-4, 1)])),
    ):
        for g in elements:
            moved = Image().on(group).act(g, drawn(box, size))
            assert torch.equal(drawn(Boxes().on(group).act(g, box), size), moved)
            assert float(moved.sum()) > 10


def test_scalings_grow_boxes() -> None:
    g = er.Scaling(2).exp(torch.tensor([math.log(2)], dtype=DOUBLE))
    moved = Boxes().on(er.Scaling(2)).act(g, torch.tensor([1.0, -2.0, 3.0, 4.0], dtype=DOUBLE))
    torch.testing.assert_close(moved, torch.tensor([2.0, -4.0, 6.0, 8.0], dtype=DOUBLE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_left_action_is_bit_exact(dtype: torch.dtype) -> None:
    group, x = er.Dihedral(4), random_boxes(5, dtype)
    act, g = Boxes().on(group).act, group.elements()
    twice = act(g[:, None, None], act(g[:, None], x[None])[None])
    assert torch.equal(twice, act(group.compose(g[:, None], g)[:, :, None], x[None, None]))
    assert twice.dtype == dtype
    several = act(g[:, None], x.reshape(1, 5, 1, 4).expand(1, 5, 3, 4))
    assert torch.equal(several[:, :, 1], act(g[:, None], x[None]))


def test_shifted_and_shifted_back_is_identical() -> None:
    action, x = Boxes().on(er.Translation(2)), random_boxes(5).mul(64).round().div(64)
    g = shift(7, -3)
    assert torch.equal(action.inverse_act(g, action.act(g, x)), x)
    assert torch.equal(action.act(g, x)[:, 2:], x[:, 2:])


def test_what_a_window_cuts() -> None:
    boxes = Boxes(WINDOW)
    x = torch.tensor([[0.0, 0, 4, 6], [14, 0, 4, 6], [0, -8, 4, 6], [40, 40, 2, 2], [13, 0, 4, 20]], dtype=DOUBLE)
    assert boxes.inside(x).tolist() == [True, False, False, False, False]
    assert Boxes(WINDOW, edge=0).inside(x).tolist() == [True, False, False, False, True]
    expected = torch.tensor(
        [[0.0, 0, 4, 6], [13.5, 0, 3, 6], [0, -7.5, 4, 5], [15, 10, 0, 0], [13, 0, 4, 20]], dtype=DOUBLE
    )
    assert torch.equal(boxes.clip(x), expected)
    action = boxes.on(er.Translation(2))
    known = action.mask(torch.stack([shift(0, 0), shift(14, 0)])[:, None], x[None, :2])
    assert known is not None
    assert known[..., 0].tolist() == [[True, False], [False, False]]


def test_cut_boxes_stay_out_of_the_consensus() -> None:
    """A detector that sees what is in the window: the mean over whole boxes is the box, the plain mean is not."""
    group = er.Translation(2)
    x = torch.tensor([[3.0, -2.0, 6.0, 4.0], [0.0, 1.0, 8.0, 8.0]], dtype=DOUBLE)
    g = torch.stack([shift(float(a), float(b)) for a in range(-14, 15, 2) for b in (-4, 0, 4)])[:, None]
    for window, exact in ((WINDOW, True), (None, False)):
        sym = er.Symmetry(group, input=Boxes(), output=Boxes(window))
        seen = Boxes(WINDOW).clip(sym.input.act(g, x[None]))
        agreed = consensus_of(sym, [(g[:20], seen[:20]), (g[20:], seen[20:])], vote=False)
        assert (float((agreed - x).abs().max()) < 1e-12) == exact
    sym = er.Symmetry(group, input=Boxes(), output={"box": Boxes(WINDOW), "scores": "invariant"})
    answers = {"box": seen, "scores": torch.ones(len(g), 2, 3, dtype=DOUBLE)}
    agreed = consensus_of(sym, [(g, answers)], vote=False)
    torch.testing.assert_close(agreed["box"], x, rtol=0, atol=1e-12)
    assert torch.equal(agreed["scores"], torch.ones(2, 3, dtype=DOUBLE))


def test_trees_of_outputs_where_only_a_part_can_be_unknown() -> None:
    """The same numbers whether the entries without a mask stand beside the boxes or in a tree of their own."""

    def detector(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1).mean(1, keepdim=True)
        return mean.expand(-1, 3), torch.cat([10 * mean, mean, mean, mean], 1)

    x = torch.rand(4, 1, 20, 30, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    flat = er.Symmetry(er.Translation(2), input="image", output=("invariant", Boxes(WINDOW)))
    nested = er.Symmetry(er.Translation(2), input="image", output={"seen": ("invariant",), "box": Boxes(WINDOW)})
    elements = torch.stack([shift(float(a), 2.0) for a in range(-9, 10, 3)])
    one = er.audit(detector, flat, x, elements=elements, progress=False)
    two = er.audit(
        lambda x: {"seen": (detector(x)[0],), "box": detector(x)[1]}, nested, x, elements=elements, progress=False
    )
    torch.testing.assert_close(one.errors, two.errors)


def test_an_audit_judges_a_detector_where_it_can_know() -> None:
    """The perfect detector of what is visible has no error on whole boxes, and IoU 1 against the visible part."""
    boxes, group = Boxes(WINDOW), er.Translation(2)
    elements = torch.stack([shift(float(a), 0.0) for a in range(-12, 13, 3)])
    sym = er.Symmetry(group, input=Boxes(), output=boxes)
    x = random_boxes(4)
    whole = er.audit(boxes.clip, sym, x, x, metric="iou", elements=elements)
    assert whole.worst_error < 1e-12
    assert whole.scores is not None
    cut = ~boxes.inside(sym.input.act(elements[:, None], x[None]))
    assert 0 < int(cut.sum()) < cut.numel()
    assert float(whole.scores[cut].max()) < 1 - 1e-9  # flagged, and judged by the caller's metric
    torch.testing.assert_close(whole.scores[~cut], torch.ones_like(whole.scores[~cut]), rtol=0, atol=1e-12)
    assert bool((whole.consensus[~cut] > 1 - 1e-12).all())


def test_images_agree_on_what_they_know() -> None:
    """A white answer to every view: brought back, corners are black in most views, and the consensus leaves them out."""
    sym = er.Symmetry("SO(2)", input="image", output="image")
    report = er.audit(torch.ones_like, sym, torch.ones(1, 1, 9, 9, dtype=DOUBLE), elements=24)
    assert float(report.consensus.max()) < 1e-12


def test_iou_by_hand() -> None:
    metric = er.measure.METRICS["iou"]
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0], [1, 1, 4, 2]])
    b = torch.tensor([[0.0, 0, 2, 2], [1, 0, 2, 2], [2, 0, 2, 2], [0, 0, 0, 0], [1, 1, 2, 4]])
    torch.testing.assert_close(metric(a, b), torch.tensor([1, 1 / 3, 0, 0, 1 / 3], dtype=DOUBLE))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Boxes((0, 4)), ActionError, "window"),
        (lambda: Boxes((4, 4), edge=-1.0), ActionError, "edge = -1.0"),
        (lambda: Boxes().on(er.SO(3)), ActionError, "does not move boxes"),
        (lambda: Boxes().on(er.Shifts(4, 4)), ActionError, "does not move boxes"),
        (lambda: Boxes().on(er.SO(2)).act(er.SO(2).exp(torch.tensor([0.3])), torch.ones(4)), ActionError, "out of the"),
        (lambda: Boxes().on(er.Dihedral(4)).act(torch.tensor(1), torch.ones(3)), ShapeError, "boxes are"),
        (lambda: Boxes().clip(torch.ones(4)), ActionError, "no window"),
        (lambda: er.measure.METRICS["iou"](torch.ones(2, 3), torch.ones(2, 3)), ErlangenError, "needs boxes"),
    ],
)
def test_bad_input(call: Callable[[], object], error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_by_name() -> None:
    assert parse_action("boxes") == Boxes()
    assert Boxes((4, 6)).name == "boxes(window=(4, 6))"
