"""Clips of moving digits: motion against plain rolls and quarter turns, seeds, digits, bad input."""

import pytest
import torch
import torch.nn.functional as F

from erlangen.data import digits, drifting_digits, spinning_digits
from erlangen.errors import DtypeError, ErlangenError, ShapeError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_drifting_digits_drift() -> None:
    clips = drifting_digits(20, 6, [[0, 0], [2, -1]], digits_each=1, size=(16, 20), generator=seeded(0))
    assert clips.frames.shape == (20, 6, 1, 16, 20)
    assert clips.velocity.shape == (20, 1, 2)
    for frames, ((rows, columns),) in zip(clips.frames, clips.velocity.tolist(), strict=True):
        for t in range(6):
            assert torch.equal(frames[t], frames[0].roll((t * rows, t * columns), (-2, -1)))
    assert {tuple(v) for v in clips.velocity[:, 0].tolist()} == {(0, 0), (2, -1)}


def test_each_digit_has_its_own_velocity_or_all_have_one() -> None:
    choices = [[0, 1], [1, 0], [-1, -1]]
    own = drifting_digits(50, 4, choices, generator=seeded(1))
    assert bool((own.velocity[:, 0] != own.velocity[:, 1]).any())
    assert float(own.frames.max()) <= 1
    together = drifting_digits(50, 4, choices, together=True, generator=seeded(1))
    assert torch.equal(together.velocity[:, 0], together.velocity[:, 1])
    for frames, (rows, columns) in zip(together.frames, together.velocity[:, 0].tolist(), strict=True):
        assert torch.equal(frames[3], frames[0].roll((3 * rows, 3 * columns), (-2, -1)))


def test_pictures_are_digits_of_the_split() -> None:
    """A clip that fills the torus is a rolled digit: the sorted pixels of one of them, which has the label."""
    for split in ("train", "test"):
        clips = drifting_digits(5, 2, [[1, 1]], digits_each=1, size=(14, 14), split=split, generator=seeded(2))
        data = digits(split)
        known = F.avg_pool2d(data.x, 2).flatten(1).sort(-1).values
        for frames, label in zip(clips.frames, clips.label[:, 0], strict=True):
            distance = (known - frames[1].flatten().sort().values).abs().amax(-1)
            assert float(distance.min()) == 0
            assert data.y[distance.argmin()] == label


def test_spinning_digits_spin() -> None:
    clips = spinning_digits(12, 5, [1, -1, 0], n=4, generator=seeded(3))
    assert clips.frames.shape == (12, 5, 1, 14, 14)
    for frames, step in zip(clips.frames, clips.velocity[:, 0].tolist(), strict=True):
        for t in range(5):
            torch.testing.assert_close(frames[t], torch.rot90(frames[0], t * step, (-2, -1)), rtol=0, atol=1e-6)
    eighths = spinning_digits(12, 9, [1], n=8, generator=seeded(3)).frames
    torch.testing.assert_close(eighths[:, 2], torch.rot90(eighths[:, 0], 1, (-2, -1)), rtol=0, atol=1e-5)
    torch.testing.assert_close(eighths[:, 8], eighths[:, 0], rtol=0, atol=1e-6)


def test_seeds_dtypes_and_empty_clips() -> None:
    for make in (lambda s, **k: drifting_digits(3, 4, [[0, 1]], generator=seeded(s), **k),
                 lambda s, **k: spinning_digits(3, 4, [1], generator=seeded(s), **k)):  # fmt: skip
        assert torch.equal(make(5).frames, make(5).frames)
        assert not torch.equal(make(5).frames, make(6).frames)
        assert make(5, dtype=torch.float64).frames.dtype == torch.float64
    assert drifting_digits(0, 4, [[0, 1]]).frames.shape == (0, 4, 1, 16, 16)
    assert drifting_digits(2, 0, [[0, 1]]).frames.shape == (2, 0, 1, 16, 16)
    assert spinning_digits(0, 4, [1]).frames.shape == (0, 4, 1, 14, 14)
    assert spinning_digits(2, 0, [1]).frames.shape == (2, 0, 1, 14, 14)


def test_bad_input() -> None:
    with pytest.raises(DtypeError, match="whole pixels, pass integers"):
        drifting_digits(2, 3, [[0.5, 1.0]])  # type: ignore[list-item]
    with pytest.raises(ShapeError, match=r"give \[V, 2\]"):
        drifting_digits(2, 3, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ErlangenError, match=r"size = \(12, 16\): digits of 14 x 14 do not fit"):
        drifting_digits(2, 3, [[0, 1]], size=(12, 16))
    with pytest.raises(ErlangenError, match="pool = 3: give a divisor of 28"):
        drifting_digits(2, 3, [[0, 1]], pool=3)
    with pytest.raises(ErlangenError, match="digits_each = 0"):
        drifting_digits(2, 3, [[0, 1]], digits_each=0)
    with pytest.raises(ErlangenError, match="frames = -1"):
        spinning_digits(2, -1, [1])
    with pytest.raises(ErlangenError, match=r"steps = \[0.5\]"):
        spinning_digits(2, 3, [0.5])  # type: ignore[list-item]
    with pytest.raises(ErlangenError, match="n = 0"):
        spinning_digits(2, 3, [1], n=0)
