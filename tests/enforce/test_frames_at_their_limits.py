"""Gaps, signs, chosen points, constant frames and products at the edges, by hand."""

import math

import pytest
import torch

import erlangen as er
from erlangen.enforce import calls, frames, nesting, pca_frames
from erlangen.enforce.axes import _refined, principal_axes
from erlangen.enforce.orbit import OrbitFrame
from erlangen.enforce.padding import zero_padding
from erlangen.errors import GroupError, OrbitError, ShapeError, SymmetryError

POINTS = er.Symmetry("SE(3)", input="points", output="invariant")


def test_gaps_are_the_smallest_distance_over_the_largest_value():
    values = torch.tensor([[1.0, 2.0, 5.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    null = torch.tensor([[False] * 3, [True, True, False], [True] * 3])
    assert pca_frames.relative_gap(values).tolist() == [0.2, 0.0, 0.0]
    assert pca_frames.relative_gap(values, null).tolist() == [0.2, 1.0, math.inf]
    one = torch.tensor([[True, False, False]])
    assert pca_frames.relative_gap(torch.tensor([[0.0, 1.0, 2.0]]).double(), one).tolist() == [0.5]


def test_signs_of_third_moments():
    """Along one axis 2, -1, -1: moment 6 > 0; along the other mirrored, and one that vanishes."""
    rows = torch.tensor([[[2.0, -1.0, -1.0], [-2.0, 1.0, 1.0], [1.0, -1.0, 0.0]]], dtype=torch.float64)
    signs, hidden = pca_frames._third_moment_signs(rows, None, torch.tensor([1e-9], dtype=torch.float64))
    assert signs.tolist() == [[1.0, -1.0, 1.0]]
    assert hidden.tolist() == [[False, False, True]]
    weights = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    assert pca_frames._third_moment_signs(rows, weights, torch.tensor([1e-9]).double())[0].tolist() == [
        [-1.0, 1.0, -1.0]
    ]
    # The uncertainty is three times the rounding times the sum of squares, 6: it reaches 6 from a third on.
    for rounding, seen in ((0.33, True), (0.34, False)):
        hidden = pca_frames._third_moment_signs(rows, None, torch.tensor([rounding]).double())[1]
        assert hidden[0, 0].item() != seen


@pytest.mark.parametrize(
    ("group", "listed", "count"),
    [("O(12)", True, 4096), ("O(13)", False, 8192), ("SO(13)", True, 4096), ("SO(14)", False, 8192), ("E(3)", True, 8)],
)
def test_frames_of_up_to_4096_elements_are_listed(group, listed, count):
    action = "points" if group[0] == "E" else "vectors"
    frame = pca_frames.PCAFrame(er.Symmetry(group, input=action, output="invariant"))
    assert (frame.is_enumerable, frame._count) == (listed, count)
    n = frame.symmetry.group.space_dim
    if count == 8:
        assert frame._signs().shape == (8, 3)
    if not listed:
        with pytest.raises(OrbitError, match=f"has {count} elements, more than the 4096"):
            frame(torch.ones(1, n + 1, n))
        found = frame.sample(torch.randn(2, n + 3, n), 5, torch.Generator().manual_seed(0))
        assert found.elements.shape == (2, 5, n, n)
        assert found.weights.tolist() == [pytest.approx([0.2] * 5)] * 2
        if group[0] == "S":
            torch.testing.assert_close(torch.linalg.det(found.elements), torch.ones(2, 5).double())


def test_axes_of_collinear_points_need_more_than_their_direction():
    line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]])
    frame = pca_frames.PCAFrame(POINTS)
    assert frame(line).gap.item() == 1.0  # two null axes do not count for invariant answers
    matrices = pca_frames.PCAFrame(er.Symmetry("SE(3)", input="points", output="spd"))
    assert matrices(line).gap.item() == 0.0
    canonical = pca_frames.PCAFrame(POINTS, canonical=True)
    assert not canonical.counts_null
    assert pca_frames.PCAFrame(er.Symmetry("SE(3)", input="points", output="vectors"), canonical=True).counts_null
    found = canonical(line)
    assert found.elements.shape[1] == 1
    along = found.elements[0, 0, :3, 2]
    assert along.tolist() == pytest.approx([1.0, 0.0, 0.0])  # centred: -4/3, -1/3, 5/3, third moment positive


@pytest.mark.parametrize(("even", "determined"), [("", True), ("x", True), ("y", False), ("z", False)])
def test_all_axes_but_the_least_need_a_third_moment(even, determined):
    """A grid of 2, -1, -1 along each axis, of extents 1, 2 and 4; or of 1, -1, which has no third moment."""
    sides = [
        scale * torch.tensor([1.0, -1.0] if axis in even else [2.0, -1.0, -1.0])
        for axis, scale in zip("xyz", (1.0, 2.0, 4.0), strict=True)
    ]
    x = torch.cartesian_prod(*sides)[None]
    frame = pca_frames.PCAFrame(er.Symmetry("SO(3)", input="vectors", output="invariant"), canonical=True)
    found = frame(x)
    assert (found.gap.item() > 0) == determined
    if determined:
        torch.testing.assert_close(found.elements[0, 0], torch.eye(3, dtype=torch.float64))
    whole = pca_frames.PCAFrame(er.Symmetry("O(3)", input="vectors", output="invariant"), canonical=True)
    assert (whole(x).gap.item() > 0) == (not even)


def test_derivatives_of_axes_on_request():
    a = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)).requires_grad_()
    for wanted, flows in ((None, True), (True, True), (False, False)):
        assert principal_axes(a, wanted)[1].requires_grad == flows
    assert not principal_axes(a.detach(), None)[1].requires_grad
    # First-order perturbation: a symmetric change e in entries (0, 1) turns vector 0 by e / (1 - 2) along vector 1.
    change = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    for axes in (lambda a: principal_axes(a, True)[1], lambda a: _refined(a)[1]):
        turned = torch.func.jvp(axes, (a.detach(),), (change,))[1]
        assert turned[:, 0].abs().tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)
    second = torch.func.jacfwd(torch.func.jacfwd(lambda t: _refined(a.detach() + t * change)[1][0, 0].abs()))
    # The rotation in that plane is by arctan(2 t) / 2, so the cosine falls by t^2 / 2.
    assert second(torch.tensor(0.0, dtype=torch.float64)).item() == pytest.approx(-1.0)


def test_chosen_points_at_the_edge():
    frame = frames.PointsFrame((0, 1, 2)).on(POINTS)
    x = torch.tensor([[[1.0, 1, 1], [3, 1, 1], [1, 2, 1], [9, 9, 9]]])
    found = frame(x)
    assert found.elements[0, 0].tolist() == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert found.gap.item() == pytest.approx(0.5)  # the shorter of 2 and 1, over the longer
    assert found.spectrum.tolist() == [[2.0, 1.0]]
    assert frame.is_enumerable
    assert frames.PointsFrame((0, -1, 2)).on(POINTS)(x).elements.shape == (1, 1, 4, 4)
    for indices in ((0, 1, 4), (0, 1, -5)):
        with pytest.raises(ShapeError, match="lies outside of the 4 points"):
            frames.PointsFrame(indices).on(POINTS)(x)
    for indices in ((0, 1), (0, 1, 1), (0, 1, 2, 3)):
        with pytest.raises(ShapeError, match="needs 3 different points"):
            frames.PointsFrame(indices).on(POINTS)
    with pytest.raises(ShapeError, match="part = 1, but the input has 1 geometric parts"):
        frames.PointsFrame((0, 1, 2), part=1).on(POINTS)(x)
    flat = frames.PointsFrame((0, 1)).on(er.Symmetry("SE(2)", input="points", output="invariant"))
    turned = flat(torch.tensor([[[0.0, 0], [0, 5]]])).elements[0, 0, :2, :2]
    assert turned.tolist() == [[0.0, -1.0], [1.0, 0.0]]
    same = flat(torch.tensor([[[1.0, 1], [1, 1]]]))
    assert (same.gap.item(), same.spectrum.tolist()) == (0.0, [[0.0]])
    close = torch.tensor([[[100.0, 0.0], [100.0, 100 * 2.0**-23]]])  # one step of rounding, and at most four are none
    assert flat(close).gap.item() == 0.0
    assert flat(close + torch.tensor([[[0.0, 0.0], [0.0, 400 * 2.0**-23]]])).gap.item() == 1.0


def test_elements_are_thinned_by_their_weights(generator):
    elements = torch.arange(3).view(1, 3)
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    thin = frames.thin(frames.FrameSet(elements, weights, torch.zeros(2)), 400, generator)
    assert thin.elements.shape == (2, 400)
    assert set(thin.elements[0].tolist()) == {0, 1}
    assert thin.elements[0].double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert thin.elements[1].tolist() == [2] * 400
    torch.testing.assert_close(thin.weights, torch.full((2, 400), 1 / 400, dtype=torch.float64))


def test_frames_of_wrong_shapes_are_named():
    group, x = er.Cyclic(4), torch.zeros(3, 2)
    for elements, weights, gap in (((3, 5), (3, 5), 3), ((1, 5), (1, 5), 3), ((3, 5), (1, 5), 3)):
        good = frames.FrameSet(torch.zeros(elements, dtype=torch.long), torch.ones(weights), torch.zeros(gap))
        assert frames.check_frames(good, group, x) is good
    for elements, weights, gap in (((2, 5), (2, 5), 3), ((3, 5), (3, 4), 3), ((3, 5), (3, 5), 1), ((5,), (5,), 3)):
        bad = frames.FrameSet(torch.zeros(elements, dtype=torch.long), torch.ones(weights), torch.zeros(gap))
        with pytest.raises(ShapeError, match="for a batch of 3 they must be"):
            frames.check_frames(bad, group, x)
    with pytest.raises(SymmetryError, match="frame returned a tuple"):
        frames.check_frames((1, 2, 3), group, x)


def test_constant_frames():
    whole = OrbitFrame(er.Cyclic(3))
    found = whole(torch.zeros(5, 2))
    assert found.elements.tolist() == [[0, 1, 2]]
    assert found.weights.tolist() == [pytest.approx([1 / 3] * 3)]
    assert found.gap.tolist() == [math.inf] * 5
    assert whole.is_whole
    some = OrbitFrame(er.O(3), samples=6)
    assert not some.is_whole
    assert some.elements.shape == (6, 3, 3)
    drawn = some.sample(torch.zeros(5, 2), 4, torch.Generator().manual_seed(0))
    assert drawn.elements.shape == (5, 4, 3, 3)
    assert drawn.weights.tolist() == [[0.25] * 4]
    with pytest.raises(OrbitError, match="is infinite: pass samples=k"):
        OrbitFrame(er.SO(3))
    with pytest.raises(GroupError, match="is not compact"):
        OrbitFrame(er.SE(3), samples=4)


@pytest.mark.parametrize(("numbers", "weights", "chunk"), [
    (2**15, 4, 1), (2**12, 4, 8), (2**12 + 1, 4, 7), (2**20, 4, 1), (2**9, 2**9, 64), (2**9, 2**9 + 1, 100), (2**5, 4, 100),
])  # fmt: skip
def test_calls_fill_the_cache(numbers, weights, chunk):
    """32,768 input numbers to a call; a model of more weights than input numbers takes all at once."""
    model = torch.nn.Linear(weights, 1, bias=False)
    assert calls.default_chunk(model, {"x": torch.zeros(1, numbers), "name": "water"}, 100) == chunk
    assert calls.default_chunk(model, torch.zeros(0, 3), 100) == 100


def test_products_of_more_than_720_elements_are_taken_apart():
    of = lambda group, action: er.Symmetry(group, input=action, output="invariant")  # noqa: E731
    small = of("Symmetric(3) x Cyclic(120)", "permuted * invariant")
    large = of("Symmetric(3) x Cyclic(121)", "permuted * invariant")
    assert not nesting.takes_product(small, None)
    assert nesting.takes_product(large, None)
    assert nesting.takes_product(small, "frames")
    assert not nesting.takes_product(large, "orbit")
    assert not nesting.takes_product(of("Cyclic(4)", "vectors"), None)
    assert nesting.takes_product(of("Symmetric(3) x SO(3)", "permuted * vectors"), None)
    assert math.factorial(6) == nesting.SMALL_ORBIT


def test_rows_that_do_not_exist_are_zero():
    keep = torch.tensor([[True, False, True]])
    of = lambda group, action: er.Symmetry(group, input=action, output="invariant").input.action  # noqa: E731
    rows = torch.ones(1, 3, 2)
    kept = [[[1, 1], [0, 0], [1, 1]]]
    assert zero_padding(of("E(2)", "points"), rows, keep).tolist() == kept
    assert zero_padding(of("Symmetric(3)", "permuted"), rows, keep).tolist() == kept
    assert zero_padding(of("E(2)", "invariant"), rows, keep).tolist() == kept
    assert zero_padding(of("E(2)", "invariant"), torch.ones(1, 3), keep).tolist() == [[1, 1, 1]]  # no rows of items
    assert zero_padding(of("E(2)", "points"), torch.ones(1, 4, 2), keep).sum() == 8  # four are others
    assert zero_padding(of("Cyclic(4)", "image"), torch.ones(1, 3, 3, 3), keep).sum() == 27
    graph = {"adj": torch.ones(1, 3, 3), "x": rows, "mask": torch.ones(1, 3)}
    found = zero_padding(of("Symmetric(3)", "graph"), graph, keep)
    assert found["adj"].tolist() == [[[1, 0, 1], [0, 0, 0], [1, 0, 1]]]
    assert found["x"].tolist() == kept
    assert found["mask"].sum() == 3
    tree = zero_padding(of("E(2)", {"a": "points", "b": "vectors"}), {"a": rows, "b": torch.ones(1, 1, 2)}, keep)
    assert (tree["a"].sum(), tree["b"].sum()) == (4, 2)
