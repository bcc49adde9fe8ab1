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
