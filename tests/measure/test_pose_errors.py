"""Errors of body poses against values by hand, and their invariances."""

from __future__ import annotations

import pytest
import torch

import erlangen as er
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.measure import pose_errors


@pytest.fixture
def pose(generator: torch.Generator) -> torch.Tensor:
    return 300 * torch.randn(5, 16, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("off", "pck", "auc"),
    [(0.0, 100.0, 3000 / 31), (74.5, 100.0, 1600 / 31), (75.0, 100.0, 1500 / 31), (150.0, 0.0, 0.0)],
)
def test_limits_are_strict(pose: torch.Tensor, off: float, pck: float, auc: float) -> None:
    """All joints off by one distance: 96.77 for perfect poses, 51.61, 48.39 and 0."""
    whole = pose.round()
    errors = pose_errors(whole + torch.tensor([0.0, off, 0.0]).double(), whole, root=None)
    assert errors.mpjpe == pytest.approx(off)
    assert (errors.pck, errors.auc) == pytest.approx((pck, auc))


def test_similarities_do_not_count(pose: torch.Tensor, generator: torch.Generator) -> None:
    g = er.groups.SE(3).sample(5, generator=generator, dtype=torch.float64)
    moved = 1.3 * pose @ er.groups.SE(3).linear(g, dtype=torch.float64).mT + 1000.0
    errors = pose_errors(moved, pose)
    assert errors.pa_mpjpe < 1e-9
    assert errors.mpjpe > 50
    mirrored = pose_errors(pose * torch.tensor([-1.0, 1, 1]).double(), pose)
    assert mirrored.pa_mpjpe > 50  # a mirror image is no rotation


def test_the_root_is_put_on_the_root(pose: torch.Tensor) -> None:
    assert pose_errors(pose + 700.0, pose).mpjpe < 1e-9
    off = pose.clone()
    off[:, 3] += torch.tensor([0.0, 0.0, 160.0]).double()
    assert pose_errors(off, pose).mpjpe == pytest.approx(10.0)
    assert pose_errors(off, pose).pck == pytest.approx(100 * 15 / 16)
    assert pose_errors(off, pose, root=3).mpjpe == pytest.approx(150.0)


def test_what_is_refused(pose: torch.Tensor) -> None:
    for found, true, error in (
        (pose, pose[:4], ShapeError),
        (pose[..., :2], pose[..., :2], ShapeError),
        (pose[:0], pose[:0], ShapeError),
        (pose.long(), pose, DtypeError),
        (pose * float("nan"), pose, NotFiniteError),
    ):
        with pytest.raises(error):
            pose_errors(found, true)
    with pytest.raises(ErlangenError, match="joints 0 to 15"):
        pose_errors(pose, pose, root=16)
    with pytest.raises(ErlangenError, match="limit = 0"):
        pose_errors(pose, pose, limit=0)
