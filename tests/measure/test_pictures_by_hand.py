"""Pictures of data: their sizes in points, the room above curves, and which way one looks at a cloud."""

import math
import re
from collections.abc import Callable

import pytest
import torch

from erlangen import plots
from erlangen.actions import Invariant, Points, Relabelled
from erlangen.errors import ErlangenError
from erlangen.geometry import KinematicTree
from erlangen.groups import O
from erlangen.measure.pictures import Cloud, Picture, Reach, _projected, _series, image_picture, pictures


def test_a_picture_is_a_square_below_its_title() -> None:
    """2.4 inches and a margin of 0.05 on all sides, with a quarter of an inch for the title; an inch has 72 points."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', Picture("title", lambda ax: None).svg())
    assert found is not None
    assert [float(side) for side in found.groups()] == pytest.approx([2.5 * 72, 2.75 * 72], abs=0.1)


@pytest.mark.parametrize(("channels", "rows"), [(1, 1), (3, 1), (4, 1), (6, 1), (7, 2), (13, 3), (20, 3)])
def test_names_stand_above_the_curves(channels: int, rows: int) -> None:
    """Six names in a row, of at most 18; each row takes 22 % of half the height."""
    x = torch.linspace(-1, 1, 5)[:, None].expand(5, channels)
    ax = plots.Figure().add_subplot()
    _series(x, Reach.of(x), "curves", [str(c) for c in range(channels)]).paint(ax)
    low, high = ax.get_ylim()
    assert -low == pytest.approx(1.2 * Reach.of(x).size)
    assert high / -low == pytest.approx(1 + 0.22 * rows)
    assert ax.get_xlim() == (0, 4)
    legend = ax.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == min(channels, 18)


def test_clouds_are_seen_from_the_side_and_above() -> None:
    """Turned by -25 degrees about z, then tipped by -65 about x; points of a plane stay as they are."""
    flat = torch.tensor([[1.0, 2.0]])
    assert torch.equal(_projected(flat)[0], flat)
    places, depth = _projected(torch.eye(3, dtype=torch.float64))
    c, s, C, S = (f(math.radians(a)) for a in (25, 65) for f in (math.cos, math.sin))
    expected = torch.tensor([[c, -s * C], [s, c * C], [0, S]], dtype=torch.float64)
    torch.testing.assert_close(places, expected)
    torch.testing.assert_close(depth, torch.tensor([s * S, -c * S, C], dtype=torch.float64))


def test_shades_run_over_the_range_of_the_sample_as_it_was() -> None:
    reach = Reach(-2.0, 2.0)
    ax = plots.Figure().add_subplot()
    image_picture(torch.tensor([[-2.0, -1.0], [0.0, 5.0]]), reach, "shades").paint(ax)
    (image,) = ax.get_images()
    assert image.get_array().tolist() == [[0, 64], [128, 255]]
    flat = plots.Figure().add_subplot()
    image_picture(torch.full((2, 2), 3.0), Reach(3.0, 3.0), "one value").paint(flat)
    assert flat.get_images()[0].get_array().tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("shape", "drawn"), [((1, 4, 5), True), ((2, 3, 5), False), ((1, 1, 4, 5), False), ((4,), False)]
)
def test_what_nobody_named_is_an_image_if_it_has_the_form_of_one(shape: tuple[int, ...], drawn: bool) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    (found,) = pictures(Invariant(), x, x, "unknown")
    ax = plots.Figure().add_subplot()
    images = 0
    if isinstance(found, Picture):
        found.paint(ax)
        images = len(ax.get_images())
    assert (images == 1) == drawn


def test_a_skeleton_is_dots_with_lines_between_them() -> None:
    """The lines end where the dots are, in the order of the bones; a mirrored skeleton keeps them."""
    tree = KinematicTree((-1, 0, 0), torch.tensor([[0.0, 0, 0], [-1, -1, 0], [1, -2, 0]]))
    flat = tree.rest[:, :2]
    assert tree.pairs == ((0, 1), (0, 2))
    skeleton = Points(bones=tree.pairs)
    (drawing,) = pictures(skeleton, flat, flat, "skeleton")
    assert isinstance(drawing, Cloud)
    size = math.sqrt(5)
    ends = [[(round(size * x, 6), round(size * y, 6)) for x, y in bone] for bone in drawing.bones]
    assert ends == [[(0, 0), (-1, -1)], [(0, 0), (1, -2)]]
    ax = plots.Figure().add_subplot()
    drawing.draw(ax)
    assert sorted(line.get_xdata()[-1] * size for line in ax.get_lines())[:1] == pytest.approx([-1.0])
    both = Relabelled(skeleton, (0, 2, 1))
    mirrored = both.on(O(2)).act(torch.diag(torch.tensor([-1.0, 1.0])), flat)
    (shown,) = pictures(both, mirrored, flat, "mirrored")
    assert isinstance(shown, Cloud)
    assert shown.bones[0][1] == pytest.approx((-1 / size, -2 / size))
    assert Points() == skeleton  # pictures alone differ


def test_many_dots_are_small() -> None:
    """All dots together cover no more than a hundred large ones do."""
    areas = [
        cloud.dot
        for n in (3, 100, 1000)
        for cloud in pictures(Points(), torch.randn(n, 3), torch.ones(n, 3), "cloud")
        if isinstance(cloud, Cloud)
    ]
    assert areas == pytest.approx([26, 26, 2.6])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda: Points(bones=((0, 1, 2),)), r"bones\[0\] = \(0, 1, 2\): give two rows"),
        (lambda: Points(bones=((0, -1),)), r"bones\[0\] = \(0, -1\)"),
        (lambda: Points(axis=-2, bones=((0, 1),)), "with axis = -2 there are none"),
        (lambda: Points(bones=((0, 3),)).on(O(2)).act(torch.eye(2), torch.zeros(3, 2)), "join row 3, but x has 3 rows"),
    ],
)
def test_bones_that_join_nothing(wrong: Callable[[], object], match: str) -> None:
    with pytest.raises(ErlangenError, match=match):
        wrong()
