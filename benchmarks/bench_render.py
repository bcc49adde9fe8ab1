"""Depth of triangle meshes in small pictures against trimesh with embree, ray by ray."""

from __future__ import annotations

import math

import torch
import trimesh
from common import compare

from erlangen.geometry import Camera, look_at, pinhole
from erlangen.render import rasterize


def case(size: int, subdivisions: int, batch: int, target: float | None) -> None:
    mesh = trimesh.creation.icosphere(subdivisions)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    place = torch.nn.functional.normalize(torch.randn(batch, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    camera = pinhole(size, size, math.radians(45), look_at(3 * place, torch.zeros(3)))
    origin, direction = camera.rays()
    starts = origin[:, None].expand(-1, size * size, -1).reshape(-1, 3).double().numpy()
    ways = direction.reshape(-1, 3).double().numpy()

    def theirs() -> None:
        mesh.ray.intersects_first(starts, ways)

    ours = rasterize(camera, vertices, faces).face.flatten()
    gap = float((torch.from_numpy(mesh.ray.intersects_first(starts, ways)) != ours).double().mean())
    compare(
        f"{batch} pictures of {size} x {size}, {len(faces)} triangles",
        lambda: rasterize(camera, vertices, faces),
        "trimesh with embree: the first triangle of each ray",
        theirs,
        target=target,
        note=f"forward, float32, one thread; pixels with another face: {gap:.1e}; ours also gives depth and weights",
    )


def alone(camera: Camera) -> None:
    """A picture by itself costs more than one of a batch."""
    mesh = trimesh.creation.icosphere(2)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    batch = Camera(*(t.expand(64, *t.shape) for t in camera))
    compare(
        "64 pictures in a batch, 48 x 48, 320 triangles",
        lambda: rasterize(batch, vertices, faces),
        "one after the other",
        lambda: [rasterize(camera, vertices, faces) for _ in range(64)],
        note="forward, float32, one thread",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    case(48, 2, 64, None)
    case(48, 3, 64, None)
    case(128, 3, 8, None)
    alone(pinhole(48, 48, math.radians(45), look_at(torch.tensor([0.0, -3.0, 0.5]), torch.zeros(3))))
