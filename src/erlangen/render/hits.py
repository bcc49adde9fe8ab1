"""What rays hit, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating, first_index
from erlangen.geometry import Camera, Rays


class Hits(NamedTuple):
    """The first thing on each ray.

    Attributes:
        distance: ``[..., R]`` in units of the direction, infinite where nothing is hit.
        normal: unit normals ``[..., R, 3]`` in the world, against the ray; zero where nothing is hit.
        index: int64 ``[..., R]``, which of the solids or triangles, -1 where none is.
    """

    distance: Tensor
    normal: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def hit(self) -> Tensor:
        """Boolean ``[..., R]``: which rays hit something."""
        return self.index >= 0


class Picture(NamedTuple):
    """What a camera sees.

    Attributes:
        depth: ``[..., H, W]`` along the camera's axis, infinite where nothing is seen; `Camera.backproject` takes it.
        normal: ``[..., H, W, 3]``, in the world, zero where nothing is seen.
        index: int64 ``[..., H, W]``, what is seen, -1 for nothing.
    """

    depth: Tensor
    normal: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def hit(self) -> Tensor:
        """Boolean ``[..., H, W]``: where something is seen."""
        return self.index >= 0


def view(camera: Camera, cast: Callable[[Rays], Hits]) -> Picture:
    """Cast the rays through the middles of a camera's pixels.

    >>> from erlangen.geometry import pinhole
    >>> from erlangen.render import cast_boxes
    >>> room = torch.tensor([[3.0, 3.0, 5.0]])  # from inside of a box the wall ahead is half its length away
    >>> view(pinhole(2, 2, 1.0), lambda rays: cast_boxes(rays, room)).depth
    tensor([[5., 5.],
            [5., 5.]])

    Args:
        camera: cameras of one image size, with a batch ``[...]``.
        cast: from rays, origins ``[..., 3]`` and directions ``[..., H W, 3]``, to what they hit.

    Raises:
        ShapeError: cameras of different sizes.
    """
    rays = camera.rays()
    height, width = rays.direction.shape[-3:-1]
    hits = cast(Rays(rays.origin, rays.direction.flatten(-3, -2)))
    size = (height, width)
    return Picture(hits.distance.unflatten(-1, size), hits.normal.unflatten(-2, size), hits.index.unflatten(-1, size))


def nearest_hits(*hits: Hits, counts: Sequence[int] | None = None) -> Hits:
    """The nearest of several hits of the same rays.

    >>> far = Hits(torch.tensor([2.0]), torch.tensor([[0.0, 0.0, -1.0]]), torch.tensor([3]))
    >>> near = far._replace(distance=torch.tensor([1.0]))
    >>> nearest_hits(far, near).index, nearest_hits(far, near, counts=(10, 5)).index
    (tensor([1]), tensor([13]))

    Args:
        hits: of at least one call, all of the same rays; of equally near ones the first counts.
        counts: how many solids or triangles each call was about: they are numbered one call after the other then. Without it the
            index says which of the arguments was hit.

    Raises:
        ErlangenError: no hits, or another number of counts.
        ShapeError: hits of different rays.
    """
    if not hits or (counts is not None and len(counts) != len(hits)):
        raise ErlangenError(
            f"{len(hits)} hits with counts = {counts}; give hits of at least one call, and a count for each"
        )
    if len({one.distance.shape for one in hits}) > 1:
        raise ShapeError(f"hits of different rays: {[tuple(one.distance.shape) for one in hits]}")
    distance, normal = hits[0].distance, hits[0].normal
    index = torch.full_like(hits[0].index, -1)
    begin = 0
    for number, one in enumerate(hits):
        named = torch.full_like(one.index, number) if counts is None else one.index + begin
        closer = one.hit & ((one.distance < distance) | (index < 0))
        distance = torch.where(closer, one.distance, distance)
        normal = torch.where(closer[..., None], one.normal, normal)
        index = torch.where(closer, named, index)
        begin += 0 if counts is None else counts[number]
    return Hits(distance, normal, index)


def checked_rays(rays: Rays) -> tuple[Tensor, Tensor]:
    """Origins ``[..., 1 or R, 3]`` and directions ``[..., R, 3]``; raise if they are none."""
    origin, direction = rays
    for value, name in ((origin, "origin"), (direction, "direction")):
        if value.ndim < 1 or value.shape[-1] != 3:
            raise ShapeError(f"rays.{name} has shape {tuple(value.shape)}; give [..., 3]")
        check_floating(value, f"rays.{name}")
        check_finite(value, f"rays.{name}")
    if direction.ndim < 2 or origin.ndim not in (direction.ndim - 1, direction.ndim):
        raise ShapeError(
            f"rays have origins {tuple(origin.shape)} and directions {tuple(direction.shape)}; give directions [..., R, 3], and "
            "origins [..., 3] or [..., R, 3]"
        )
    if bool((direction == 0).all(-1).any()):
        raise ErlangenError(f"rays.direction{list(first_index((direction == 0).all(-1)))} is zero and points nowhere")
    return (origin[..., None, :] if origin.ndim < direction.ndim else origin), direction


def plane_hits(origin: Tensor, direction: Tensor, point: Tensor, normal: Tensor, index: Tensor) -> Hits:
    """Where rays ``[..., R, 3]`` meet planes through `point` with unit `normal` ``[..., R, 3]``; nothing where `index` is -1."""
    hit = index >= 0
    along = torch.where(hit, (direction * normal).sum(-1), 1.0)
    distance = ((point - origin) * normal).sum(-1) / along
    against = torch.where(along > 0, -1.0, 1.0).to(normal)[..., None] * normal + 0.0  # no negative zeros
    return Hits(
        torch.where(hit, distance, torch.inf), torch.where(hit[..., None], against, torch.zeros_like(against)), index
    )
