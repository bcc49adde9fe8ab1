"""Distortions of images: where single blobs land, what stays inside, against scipy and closed forms."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from erlangen.data import affine_distortion, digits, homography_distortion
from erlangen.data.distortions import _resample
from erlangen.errors import DataError, DtypeError, ErlangenError, NotFiniteError, ShapeError

MIDDLE = torch.full((1, 2), 0.5, dtype=torch.float64)
STILL = {"degrees": 0.0, "shear": 0.0, "scale": (1.0, 1.0)}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(size: int, x: float, y: float, width: float = 1.5) -> Tensor:
    """A Gaussian at (x right, y up) pixels from the middle, float64 ``[1, 1, size, size]``."""
    t = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.exp(-((t[None] - x) ** 2 + (-t[:, None] - y) ** 2) / (2 * width**2))[None, None]


def centroid(x: Tensor) -> Tensor:
    """(x right, y up) in pixels from the middle, ``[B, 2]``."""
    t = torch.arange(x.shape[-1], dtype=x.dtype) - (x.shape[-1] - 1) / 2
    mass = x.sum((1, 2, 3))
    return torch.stack([(x * t).sum((1, 2, 3)) / mass, (x * -t[:, None]).sum((1, 2, 3)) / mass], -1)


def bounds(x: Tensor) -> Tensor:
    """First and last lit row and column of each image, ``[B, 4]``."""
    lit = x.amax(1) > 0
    rows, columns = lit.any(2).double(), lit.any(1).double()
    return torch.stack([e.argmax(-1) for e in (rows, rows.flip(-1), columns, columns.flip(-1))], -1)


def test_a_blob_lands_where_the_map_sends_it() -> None:
    """Turned by 30 degrees counterclockwise and stretched; a blob that fills the frame keeps the middle in the middle."""
    angle, z = math.radians(30), torch.tensor([6.0, 2.0], dtype=torch.float64)
    A = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    A = A @ torch.diag(torch.tensor([1.2, 0.9], dtype=torch.float64))
    out = _resample(blob(41, *z.tolist()), A[None], torch.zeros(1, 2, dtype=torch.float64), MIDDLE, 61)
    torch.testing.assert_close(centroid(out)[0], A @ z, rtol=0, atol=0.05)


def test_perspective_moves_blobs_by_the_fraction() -> None:
    tilt = torch.tensor([[0.01, -0.005]], dtype=torch.float64)
    for x, y in ((8.0, 3.0), (-6.0, 5.0), (0.0, 0.0)):
        # The corners would move the middle of the canvas: a frame of its own, lit everywhere, shows by how much.
        z = torch.tensor([x, y], dtype=torch.float64)
        image = blob(41, x, y, width=1.0).clamp(min=1e-12)
        out = _resample(image, torch.eye(2, dtype=torch.float64)[None], tilt, MIDDLE, 81)
        corner = torch.tensor([[a, b] for a in (-20.0, 20.0) for b in (-20.0, 20.0)], dtype=torch.float64)
        moved = corner / (1 + corner @ tilt[0])[:, None]
        shift = -(moved.amin(0) + moved.amax(0)) / 2
        torch.testing.assert_close(centroid(out)[0], z / (1 + z @ tilt[0]) + shift, rtol=0, atol=0.1)


def test_values_between_pixels_are_scipys() -> None:
    image = torch.rand(1, 1, 15, 15, generator=rng(), dtype=torch.float64)
    A = torch.tensor([[[0.9, 0.2], [-0.3, 1.1]]], dtype=torch.float64)
    out = _resample(image, A, torch.zeros(1, 2, dtype=torch.float64), MIDDLE, 31)[0, 0].numpy()
    inverse = np.linalg.inv(A[0].numpy())
    flip = np.diag([1.0, -1.0])  # rows grow downwards
    rows_columns = (flip @ inverse @ flip)[::-1, ::-1]
    offset = np.array([7.0, 7.0]) - rows_columns @ np.array([15.0, 15.0])
    expected = scipy.ndimage.affine_transform(
        np.pad(image[0, 0].numpy(), 1), rows_columns, offset + 1, (31, 31), order=1
    )
    assert np.abs(out - expected).max() < 1e-12


@pytest.mark.parametrize("distort", [affine_distortion, homography_distortion])
def test_the_picture_stays_inside(distort) -> None:
    x = digits("test").x[:200]
    out = distort(x, generator=rng())
    assert out.shape == (200, 1, 40, 40)
    assert out.dtype == torch.float32
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1 + 1e-6
    # A picture that is cut loses light: against the same maps on a canvas that is larger than any picture.
    large = distort(x, size=60, generator=rng())
    # One image's light changes by a few percent with its place between pixels, many images' light by much less.
    light, all_light = out.sum((1, 2, 3)), large.sum((1, 2, 3))
    torch.testing.assert_close(light, all_light, rtol=0.08, atol=0)
    assert float(light.sum() / all_light.sum()) == pytest.approx(1, abs=0.003)
    small = distort(x, size=16, generator=rng()).sum((1, 2, 3))
    assert float(small.sum() / all_light.sum()) < 0.9


def test_places_are_uniform_and_reach_the_border() -> None:
    x = torch.zeros(4000, 1, 8, 8, dtype=torch.float64)
    x[:, :, 2:5, 3:7] = 1  # 3 rows, 4 columns
    places = centroid(affine_distortion(x, size=12, **STILL, generator=rng()))
    for axis, room in ((0, (12 - 4) / 2), (1, (12 - 3) / 2)):
        assert float(places[:, axis].abs().max()) <= room + 1e-9
        assert float(places[:, axis].abs().max()) > 0.98 * room
        assert float(places[:, axis].mean()) == pytest.approx(0, abs=5 * room / math.sqrt(3 * 4000))
        assert float(places[:, axis].var()) == pytest.approx(room**2 / 3, rel=0.08)


def test_without_room_the_picture_is_centred() -> None:
    x = torch.zeros(3, 1, 9, 9)
    x[:, :, :7, :7] = 1
    out = affine_distortion(x, size=7, **STILL, generator=rng())
    torch.testing.assert_close(out, torch.ones(3, 1, 7, 7))
    larger = affine_distortion(x, size=5, **STILL, generator=rng())
    torch.testing.assert_close(larger, torch.ones(3, 1, 5, 5))


def test_ranges_are_those_of_the_recipe() -> None:
    """Second moments of a lit square give back the stretch: area is multiplied by sx sy, whose mean is 1."""
    x = torch.zeros(3000, 1, 20, 20, dtype=torch.float64)
    x[:, :, 5:15, 5:15] = 1
    area = affine_distortion(x, generator=rng()).sum((1, 2, 3)) / 100
    assert float(area.mean()) == pytest.approx(1, abs=0.02)
    assert float(area.var()) == pytest.approx(((1 + 0.04 / 3) ** 2 - 1), rel=0.12)  # sx, sy uniform in 0.8..1.2
    assert 0.6 < float(area.min()) < 0.7
    assert 1.38 < float(area.max()) < 1.5


def test_blank_images_stay_blank_and_channels_move_alike() -> None:
    x = digits("test").x[:5]
    assert float(homography_distortion(torch.zeros(2, 3, 9, 9), generator=rng()).abs().max()) == 0
    both = affine_distortion(torch.cat([x, 2 * x], 1), generator=rng())
    torch.testing.assert_close(both[:, 1], 2 * both[:, 0])
    assert affine_distortion(torch.zeros(0, 1, 9, 9)).shape == (0, 1, 40, 40)


def test_seeded_and_different_for_each_image() -> None:
    x = digits("test").x[:1].repeat(3, 1, 1, 1)
    out = homography_distortion(x, generator=rng(3))
    assert torch.equal(out, homography_distortion(x, generator=rng(3)))
    assert float((out[0] - out[1]).abs().max()) > 0.5
    torch.testing.assert_close(out.double(), homography_distortion(x.double(), generator=rng(3)), rtol=0, atol=1e-4)
    flat = homography_distortion(x, perspective=0.0, generator=rng(3))
    torch.testing.assert_close(flat, affine_distortion(x, generator=rng(3)))
    assert float((flat - out).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: affine_distortion(torch.zeros(4, 9, 9)), ShapeError, r"images \[B, C, H, W\]"),
        (lambda: affine_distortion(torch.zeros(4, 1, 0, 9)), ShapeError, "at least one pixel"),
        (lambda: affine_distortion(torch.zeros(4, 1, 9, 9).long()), DtypeError, "floating"),
        (lambda: affine_distortion(torch.full((1, 1, 9, 9), math.nan)), NotFiniteError, "x has 81 values"),
        (lambda: affine_distortion(torch.zeros(1, 1, 9, 9), size=0), DataError, "size = 0"),
        (lambda: affine_distortion(torch.zeros(1, 1, 9, 9), degrees=-1), DataError, "degrees = -1"),
        (lambda: affine_distortion(torch.zeros(1, 1, 9, 9), degrees=200), DataError, "at most 180"),
        (lambda: affine_distortion(torch.zeros(1, 1, 9, 9), shear=math.inf), DataError, "shear = inf"),
        (lambda: affine_distortion(torch.zeros(1, 1, 9, 9), scale=(1.2, 0.8)), DataError, "in order"),
        (lambda: affine_distortion(torch.zeros(1, 1, 9, 9), scale=(0.0, 1.0)), DataError, "both positive"),
        (lambda: homography_distortion(torch.zeros(1, 1, 9, 9), perspective=0.5), DataError, r"at most 0\.4"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
