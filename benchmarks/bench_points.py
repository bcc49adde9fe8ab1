"""Farthest points, alignment and ray casting against what others compute: PointNet++'s loop, torch's SVD, MuJoCo and trimesh."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import torch
from common import compare

from erlangen.geometry import Rays, align, farthest_points, look_at, pinhole
from erlangen.geometry._nearest import nearest_rotation
from erlangen.render import cast_mesh


def pointnet_loop(pos: torch.Tensor, count: int, first: torch.Tensor) -> torch.Tensor:
    """Farthest points as the usual PyTorch versions of PointNet++ write them."""
    batch, n, _ = pos.shape
    chosen = torch.zeros(batch, count, dtype=torch.long)
    distance = torch.full((batch, n), 1e10)
    rows = torch.arange(batch)
    for step in range(count):
        chosen[:, step] = first
        centre = pos[rows, first].view(batch, 1, 3)
        d = ((pos - centre) ** 2).sum(-1)
        mask = d < distance
        distance[mask] = d[mask]
        first = distance.max(-1)[1]
    return chosen


def svd_kabsch(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """Kabsch by torch's batched SVD, as it is usually written."""
    x, y = X - X.mean(-2, keepdim=True), Y - Y.mean(-2, keepdim=True)
    U, _, Vh = torch.linalg.svd(y.mT @ x)
    sign = torch.ones(*X.shape[:-2], 3, dtype=X.dtype)
    sign[..., 2] = torch.linalg.det(U @ Vh)
    return (U * sign[..., None, :]) @ Vh


def farthest() -> None:
    for batch in (1, 4):
        pos = torch.randn(batch, 8192, 3, generator=torch.Generator().manual_seed(0))
        first = torch.zeros(batch, dtype=torch.int64)
        assert torch.equal(farthest_points(pos, 1024, start=first), pointnet_loop(pos, 1024, first))
        compare(
            f"farthest points, 1024 of 8192, batch {batch}",
            lambda pos=pos, first=first: farthest_points(pos, 1024, start=first),
            "the loop of PointNet++ in torch",
            lambda pos=pos, first=first: pointnet_loop(pos, 1024, first),
            target=1.0,
            note="float32, the same indices",
            runs=7,
        )


def rotations() -> None:
    generator = torch.Generator().manual_seed(0)
    M = torch.randn(10_000, 3, 3, generator=generator, dtype=torch.float64)
    gap = nearest_rotation(M, proper=True)[0]
    items = M.unbind()
    for name, peer in (
        ("torch.linalg.svd per item, factors alone", lambda: [torch.linalg.svd(item) for item in items]),
        ("torch.linalg.svd of the batch, factors alone", lambda: torch.linalg.svd(M)),
    ):
        compare(
            "nearest rotation, batch 10000",
            lambda: nearest_rotation(M, proper=True),
            name,
            peer,
            target=1.0,
            note=f"float64; ours also multiplies the factors, determinant {float(torch.linalg.det(gap).min()):.6f} at least",
            runs=7,
        )
    X, Y = (torch.randn(10_000, 20, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    difference = float((align(X, Y).rotation - svd_kabsch(X, Y)).abs().max())
    compare(
        "align, batch 10000 of 20 points",
        lambda: align(X, Y),
        "Kabsch by torch.linalg.svd of the batch, rotations alone",
        lambda: svd_kabsch(X, Y),
        target=1.0,
        note=f"float64, largest difference {difference:.1e}; ours also checks, and gives translation, residual, rank and gap",
        runs=7,
    )


def torus(around: int, tube: int) -> tuple[torch.Tensor, torch.Tensor]:
    u = 2 * math.pi * torch.arange(around)[:, None] / around
    v = 2 * math.pi * torch.arange(tube) / tube
    ring = 1.5 + 0.6 * v.cos()
    vertices = torch.stack([ring * u.cos(), ring * u.sin(), (0.6 * v.sin()).expand(around, tube)], -1).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(around), torch.arange(tube), indexing="ij")
    a, b, c, d = ((k % around * tube + m % tube).flatten() for k, m in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)))
    return vertices, torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def mujoco_peer(vertices: torch.Tensor, faces: torch.Tensor, rays: Rays):
    """All rays from one point, in one call of MuJoCo, which has a tree of boxes for each mesh."""
    import mujoco

    text = '<asset><mesh name="m" vertex="{}" face="{}"/></asset><worldbody><geom type="mesh" mesh="m"/></worldbody>'
    rows = (" ".join(f"{x:.9g}" for x in t.flatten().tolist()) for t in (vertices, faces))
    model = mujoco.MjModel.from_xml_string(f"<mujoco>{text.format(*rows)}</mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    start = rays.origin.double().numpy()
    unit = rays.direction / rays.direction.norm(dim=-1, keepdim=True)
    flat = unit.double().numpy().ravel()
    count = len(rays.direction)
    ids, distances = np.zeros(count, np.int32), np.zeros(count)

    def call() -> np.ndarray:
        mujoco.mj_multiRay(model, data, start, flat, None, 1, -1, ids, distances, None, count, 1e10)
        return ids

    return call


def casting() -> None:
    for around, tube, height, width in ((25, 10, 48, 48), (50, 50, 128, 128)):
        vertices, faces = torus(around, tube)
        camera = pinhole(height, width, 0.9, look_at(torch.tensor([4.0, 3.5, 2.1]), torch.zeros(3)))
        origin, direction = camera.rays()
        rays = Rays(origin, direction.flatten(0, 1))
        ours = cast_mesh(rays, vertices, faces)
        case = f"{height * width} rays of a camera against {len(faces)} triangles"
        if importlib.util.find_spec("mujoco"):
            peer = mujoco_peer(vertices, faces, rays)
            agree = float((torch.from_numpy(peer() >= 0) == ours.hit).double().mean())
            compare(
                case,
                lambda rays=rays, mesh=(vertices, faces): cast_mesh(rays, *mesh),
                "mujoco.mj_multiRay",
                peer,
                note=f"float32; {agree:.4f} of the rays agree on whether they hit; ours also gives triangles and normals",
                runs=7,
            )
        if importlib.util.find_spec("trimesh") is None:
            continue
        import trimesh

        mesh = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)
        embree = importlib.util.find_spec("embreex") is not None
        if not embree and importlib.util.find_spec("rtree") is None:
            continue
        starts = origin.expand_as(rays.direction).numpy()
        compare(
            case,
            lambda rays=rays, mesh=(vertices, faces): cast_mesh(rays, *mesh),
            f"trimesh {'with embree' if embree else 'without embree'}",
            lambda mesh=mesh, starts=starts, rays=rays: mesh.ray.intersects_first(starts, rays.direction.numpy()),
            note="float32; ours also gives distances and normals",
            runs=7,
        )


def main() -> None:
    torch.manual_seed(0)
    farthest()
    rotations()
    casting()


if __name__ == "__main__":
    main()
