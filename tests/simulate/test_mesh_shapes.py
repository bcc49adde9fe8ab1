"""Points on meshes lie on them, are even, and have the normals of a closed body."""

import numpy as np
import pytest
import torch

from erlangen.errors import DataError, ErlangenError, ShapeError
from erlangen.simulate import machined_parts, mesh_clouds, mesh_points
from erlangen.simulate.mesh_shapes import _prism, _turned


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


SQUARE = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], dtype=torch.float64)
HALVES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_points_are_uniform_by_area() -> None:
    pos, normals = mesh_points(SQUARE, HALVES, 20_000, generator=seeded())
    assert torch.equal(normals, torch.tensor([0.0, 0, 1], dtype=torch.float64).expand(20_000, 3))
    torch.testing.assert_close(pos.mean(0), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), atol=0.02, rtol=0)
    torch.testing.assert_close(pos.var(0), torch.tensor([1 / 3, 1 / 12, 0.0], dtype=torch.float64), atol=0.01, rtol=0)


@pytest.mark.parametrize("build", [_prism, _turned])
def test_parts_are_closed_and_their_normals_point_outwards(build) -> None:  # type: ignore[no-untyped-def]
    """Areas times normals of a closed mesh sum to zero, and the divergence theorem gives a positive volume."""
    vertices, faces = build(seeded())
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a)
    assert float(area.sum(0).abs().max()) < 1e-12
    assert float((a * area).sum()) > 0.1
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert {(int(i), int(j)) for i, j in edges} == {(int(j), int(i)) for i, j in edges}


def test_sizes_of_parts() -> None:
    """A star has 5 to 10 corners at radii of 0.4 to 1; a profile 3 to 6 rings of radii of 0.3 to 1, 0.1 to 0.6 apart."""
    source = seeded()
    stars = [_prism(source)[0][:-2] for _ in range(300)]  # the last two vertices are the middles of the lids
    assert {len(star) // 2 for star in stars} == set(range(5, 11))
    radius = torch.cat([star[:, :2].norm(dim=1) for star in stars])
    assert (float(radius.min()), float(radius.max())) == pytest.approx((0.4, 1.0), abs=0.01)
    half = torch.stack([star[:, 2].max() for star in stars])
    assert (float(half.min()), float(half.max())) == pytest.approx((0.25, 0.9), abs=0.01)
    for star in stars:  # corner k stands within 0.3 of a corner's share of the circle of its place
        corners = len(star) // 2
        turned = torch.atan2(star[:corners, 1], star[:corners, 0]) * corners / (2 * torch.pi) - torch.arange(corners)
        assert float((turned - corners * (turned / corners).round()).abs().max()) < 0.3 + 1e-9
    profiles = [_turned(source)[0][:-2].unflatten(0, (-1, 48)) for _ in range(300)]
    assert {len(profile) for profile in profiles} == set(range(3, 7))
    radius = torch.cat([profile[:, 0, :2].norm(dim=1) for profile in profiles])
    assert (float(radius.min()), float(radius.max())) == pytest.approx((0.3, 1.0), abs=0.01)
    step = torch.cat([profile[:, 0, 2].diff(prepend=torch.zeros(1)) for profile in profiles])
    assert (float(step.min()), float(step.max())) == pytest.approx((0.1, 0.6), abs=0.01)
    for profile in profiles:
        torch.testing.assert_close(profile.norm(dim=-1), profile.norm(dim=-1)[:, :1].expand(-1, 48))


def test_parts_are_normed() -> None:
    parts = machined_parts(6, 100, generator=seeded())
    torch.testing.assert_close(parts.pos.square().sum(-1).mean(1), torch.ones(6))
    torch.testing.assert_close(parts.normals.norm(dim=-1), torch.ones(6, 100))
    assert parts.family.tolist() == [0, 1, 0, 1, 0, 1]


def test_meshes_are_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    np.savez(tmp_path / "one.npz", vertices=np.eye(3, dtype=np.float32), faces=np.array([[0, 1, 2]], dtype=np.int32))
    pos, normals = mesh_clouds(str(tmp_path), 7, 0)
    assert pos.shape == (1, 7, 3)
    torch.testing.assert_close(normals, torch.full((1, 7, 3), 3**-0.5))
    torch.testing.assert_close(pos.square().sum(-1).mean(), torch.tensor(1.0))
    torch.testing.assert_close(pos.mean(1), torch.zeros(1, 3), rtol=0, atol=1e-6)
    with pytest.raises(DataError, match=r"no \*.npz there"):
        mesh_clouds(str(tmp_path / "none"), 7, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mesh_points(SQUARE[:, :2], HALVES, 3), ShapeError, r"vertices \(4, 2\)"),
        (lambda: mesh_points(SQUARE, HALVES + 2, 3), ShapeError, "faces name vertices 2 to 5"),
        (lambda: mesh_points(0 * SQUARE, HALVES, 3), ShapeError, "no area"),
        (lambda: machined_parts(0), ErlangenError, "n_samples = 0"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()
