"""Superpixels: exact segments where they are known, k-means of scipy, turned images, and bad input."""

import pytest
import torch
from scipy.cluster.vq import kmeans2

from erlangen.data import Superpixels, digits, superpixels
from erlangen.data.segmentation import _places, _seeds
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError

F64 = torch.float64


def test_blank_images_keep_the_seeds_of_whole_cells():
    found = superpixels(torch.zeros(2, 1, 12, 12, dtype=F64), 16)
    middles = torch.tensor([-0.75, -0.25, 0.25, 0.75], dtype=F64)
    expected = torch.stack([middles.repeat(4), middles.flip(0).repeat_interleave(4)], -1)
    torch.testing.assert_close(found.pos, expected.expand(2, -1, -1))
    assert bool((found.size == 9).all())


def test_values_separate_what_they_tell_apart():
    """Four bright squares on a dark ground, one around each seed: they are found to the pixel."""
    image = torch.zeros(1, 1, 16, 16, dtype=F64)
    for row in (1, 9):
        for column in (1, 9):
            image[..., row : row + 2, column : column + 2] = 100.0
    found = superpixels(image, 16, brightest=4)
    assert found.size.tolist() == [[4, 4, 4, 4]]
    torch.testing.assert_close(found.x, torch.full((1, 4, 1), 100.0, dtype=F64))
    expected = [[-0.75, 0.75], [0.25, 0.75], [-0.75, -0.25], [0.25, -0.25]]
    torch.testing.assert_close(found.pos, torch.tensor([expected], dtype=F64))


def test_against_the_k_means_of_scipy():
    images = torch.rand(3, 2, 10, 14, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = superpixels(images, 12, compactness=2.0, iterations=4)
    places, seeds = _places(10, 14), _seeds(10, 14, 12)
    weight = 2.0 / ((10 * 14 / len(seeds)) ** 0.5 * 2 / 14)
    for k in range(3):
        values = images[k].flatten(1).mT
        start = torch.cat([weight * seeds, values[torch.cdist(seeds, places).argmin(-1)]], -1)
        points = torch.cat([weight * places, values], -1)
        centres, _ = kmeans2(points.numpy(), start.numpy(), iter=4, minit="matrix")
        torch.testing.assert_close(torch.cat([weight * found.pos[k], found.x[k]], -1), torch.from_numpy(centres))


def test_pixels_and_brightness_are_conserved():
    images = digits("test").x[:20]
    found = superpixels(images, 75)
    assert found.pos.shape == (20, 72, 2)  # 9 rows and 8 columns
    assert bool((found.size.sum(1) == 28 * 28).all())
    torch.testing.assert_close((found.x[..., 0] * found.size).sum(1), images.sum((1, 2, 3)))
    middle = (found.pos * found.size[..., None]).sum(1)
    torch.testing.assert_close(middle, torch.zeros(20, 2), rtol=0, atol=1e-2)


def test_a_quarter_turn_of_the_image_turns_the_nodes():
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1), dtype=F64)
    found, turned = superpixels(images, 16), superpixels(images.rot90(1, (2, 3)), 16)

    def ordered(nodes: Superpixels) -> torch.Tensor:
        order = nodes.x[..., 0].argsort(1)
        return torch.cat([nodes.pos, nodes.x], -1).take_along_dim(order[..., None], 1)

    a, b = ordered(found), ordered(turned)
    torch.testing.assert_close(torch.stack([-a[..., 1], a[..., 0], a[..., 2]], -1), b)


def test_brightest_come_first_and_are_the_brightest():
    images = digits("test").x[:5]
    whole, few = superpixels(images, 75), superpixels(images, 75, brightest=10)
    assert bool((few.x[:, 1:] <= few.x[:, :-1]).all())
    torch.testing.assert_close(few.x[..., 0], whole.x[..., 0].sort(1, descending=True).values[:, :10])


def test_an_image_alone_gives_the_same_as_in_a_batch(monkeypatch):
    images = digits("test").x[:3]
    whole = superpixels(images)
    monkeypatch.setattr("erlangen.data.segmentation._AT_ONCE", 1)
    for a, b in zip(whole, superpixels(images), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(superpixels(images), superpixels(images[1:2]), strict=True):
        torch.testing.assert_close(a[1:2], b)
    assert superpixels(images[:0], 75, brightest=8).pos.shape == (0, 8, 2)


BAD = {
    "axes": (lambda: superpixels(torch.zeros(28, 28)), ShapeError, "images have shape"),
    "dtype": (lambda: superpixels(torch.zeros(1, 1, 8, 8).long(), 4), DtypeError, "images"),
    "finite": (lambda: superpixels(torch.full((1, 1, 8, 8), torch.nan), 4), NotFiniteError, "images"),
    "count": (lambda: superpixels(torch.zeros(1, 1, 8, 8), 65), ErlangenError, "has 64 pixels"),
    "none": (lambda: superpixels(torch.zeros(1, 1, 8, 8), 0), ErlangenError, "count = 0"),
    "brightest": (lambda: superpixels(torch.zeros(1, 1, 8, 8), 4, brightest=5), ErlangenError, "there are 4"),
    "compactness": (lambda: superpixels(torch.zeros(1, 1, 8, 8), 4, compactness=0.0), ErlangenError, "compactness"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
