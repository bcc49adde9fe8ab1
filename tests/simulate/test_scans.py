"""Pairs of partial scans: motions, overlaps by counting, and what is refused."""

import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.measure import registration_errors
from erlangen.simulate import partial_scans, room_clouds


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(count: int = 6, points: int = 4000, dtype=torch.float64) -> torch.Tensor:
    return room_clouds(count, points, generator=seeded(), dtype=dtype).pos


def back(pairs) -> torch.Tensor:
    """Targets in the axes of the sources."""
    R, t = pairs.motion[:, :3, :3], pairs.motion[:, :3, 3]
    return (pairs.target - t[:, None]) @ R


def test_points_are_those_of_the_cloud_and_never_shared() -> None:
    pos = clouds()
    pairs = partial_scans(pos, 500, generator=seeded(1))
    for scan in (pairs.source, back(pairs)):
        assert float(torch.cdist(scan, pos).amin(-1).max()) < 1e-6
    assert float((pairs.source[:, :, None] - back(pairs)[:, None]).norm(dim=-1).min()) > 1e-9
    errors = registration_errors(pairs.motion, pairs.motion)
    assert errors.recall == 1
    assert float((pairs.motion[:, :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1)).std()) > 0.3  # turns of all sizes


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_the_overlap_is_the_share_that_is_seen_by_both(share) -> None:
    pairs = partial_scans(clouds(), 900, overlap=(share, share), generator=seeded(1))
    torch.testing.assert_close(pairs.overlap, torch.full((6,), share, dtype=torch.float64))
    assert pairs.seen.double().mean(-1).sub(share).abs().max() < 0.06
    # The two scans are apart by planes: along the direction that tells them apart best nothing but the overlap is common.
    if share < 1:
        for k in range(6):
            source, target = pairs.source[k], back(pairs)[k]
            way = target[~pairs.seen[k, 1]].mean(0) - source[~pairs.seen[k, 0]].mean(0)
            assert float(((target[~pairs.seen[k, 1]] - source.mean(0)) @ way).mean()) > 0


def test_the_smallest_cloud_has_enough_points() -> None:
    pairs = partial_scans(clouds(40, 40), 10, overlap=(1e-3, 1e-3), generator=seeded(1))
    assert not pairs.seen.any()


def test_noise_turns_and_dtypes() -> None:
    pos = clouds(dtype=torch.float32)
    still = partial_scans(pos, 300, turned=False, reach=0.0, generator=seeded(1))
    assert torch.equal(still.motion, torch.eye(4).expand(6, 4, 4))
    assert still.source.dtype == torch.float32
    noisy = partial_scans(pos, 300, turned=False, reach=0.0, noise=0.05, generator=seeded(1))
    assert float((noisy.source - still.source).std()) == pytest.approx(0.05, rel=0.05)
    far = partial_scans(pos.double(), 300, reach=3.0, generator=seeded(2))
    assert 1 < float(far.motion[:, :3, 3].std()) < 6


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: partial_scans(x[0], 10), ShapeError, r"give clouds \[B, N, 3\]"),
        (lambda x: partial_scans(x.long(), 10), DtypeError, "pos has dtype"),
        (lambda x: partial_scans(x / 0, 10), NotFiniteError, "pos"),
        (lambda x: partial_scans(x, 0), ErlangenError, "points = 0"),
        (lambda x: partial_scans(x, 30), ErlangenError, "scans of 30 need at least 120"),
        (lambda x: partial_scans(x, 10, overlap=(0.0, 0.5)), ErlangenError, r"overlap = \(0.0, 0.5\)"),
        (lambda x: partial_scans(x, 10, noise=-1), ErlangenError, "noise = -1"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(clouds(2, 100))
