"""Pinhole cameras: where points are seen, where pixels look to, and how cameras move, in batches and with gradients.

>>> import math, torch
>>> from erlangen.geometry import look_at
>>> camera = pinhole(48, 64, math.radians(60), look_at(torch.tensor([0.0, -4.0, 1.0]), torch.zeros(3)))
>>> pixels, depth = camera.project(torch.zeros(1, 3))
>>> pixels, depth  # the target is in the middle of the image, sqrt(17) away
(tensor([[32., 24.]]), tensor([4.1231]))
>>> torch.allclose(camera.backproject(pixels, depth), torch.zeros(1, 3), atol=1e-6)
True

Conventions
- Axes of a camera are those of OpenCV: x to the right, y down, z forwards. OpenGL's (Blender's, NeRF's) are x to the right, y
  up, z backwards; `Camera.from_matrix` and `Camera.pose_in` convert ("opencv", "opengl").
- A pose is an element of SE(3), ``[4, 4]``, that takes the camera's coordinates to the world's (camera to world): its last
  column is where the camera stands. Its inverse, which OpenCV calls the extrinsics, comes and goes with
  ``world_to_camera=True``. `erlangen.SE` composes and inverts poses, and has their exponential and logarithm.
- Pixels are (u, v), u to the right and v down, from the corner of the image: it reaches from 0 to its width, and the middle of
  the pixel in row i and column j is (j + 0.5, i + 0.5). Where the middle of the first pixel is (0, 0), as in OpenCV,
  principal points are smaller by a half: ``pixel_centers=0.0`` converts.
- Depth is the third coordinate in the camera's axes, not the length of the ray.
- A mirror M turns a camera into one whose image is the first one's, flipped along the width: the pose P becomes M P D with
  D = diag(-1, 1, 1, 1), a rotation again, and the principal point c_x becomes width - c_x. So E(3) acts on cameras from the
  left, and moving the object by g^-1 is moving the camera by g. `erlangen.actions.Cameras` is that action.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from erlangen.errors import (
    ErlangenError,
    GroupElementError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)
from erlangen.geometry.poses import check_rows, checked_pose, rigid, rigid_inverse
from erlangen.groups.base import loose_tol
from erlangen.tracing import is_traced

Axes = Literal["opencv", "opengl"]
"""Which way a camera's axes point, see the module."""


class Rays(NamedTuple):
    """Where pixels look to.

    Attributes:
        origin: where the camera stands, ``[..., 3]``.
        direction: ``[..., H, W, 3]``, of length 1 along the camera's axis: ``origin + depth * direction`` is a point.
    """

    origin: Tensor
    direction: Tensor


class Camera(NamedTuple):
    """Pinhole cameras without skew or distortion; the leading axes ``[...]`` of all fields are the same batch.

    It is a tree of tensors, so audits and actions take batches of cameras as they take points.

    Attributes:
        pose: camera to world, ``[..., 4, 4]``, in OpenCV's axes.
        focal: (f_x, f_y) in pixels, ``[..., 2]``, positive.
        center: the principal point (c_x, c_y) in pixels from the corner of the image, ``[..., 2]``.
        size: (height, width) in pixels, int64 ``[..., 2]``.
    """

    pose: Tensor
    focal: Tensor
    center: Tensor
    size: Tensor

    @classmethod
    def from_matrix(
        cls,
        K: Tensor,
        pose: Tensor,
        size: tuple[int, int],
        *,
        axes: Axes = "opencv",
        pixel_centers: float = 0.5,
        world_to_camera: bool = False,
    ) -> Self:
        """Cameras of other conventions.

        >>> K = torch.tensor([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])  # OpenCV: pixels are counted by their middles
        >>> Camera.from_matrix(K, torch.eye(4), (480, 640), pixel_centers=0.0, world_to_camera=True).center
        tensor([320., 240.])

        Args:
            K: intrinsic matrices ``[..., 3, 3]``, in pixels.
            pose: ``[..., 4, 4]`` or ``[..., 3, 4]``, rigid; batches broadcast with those of K.
            size: (height, width) in pixels.
            axes: of the camera.
            pixel_centers: coordinates of the middle of the first pixel: 0.5 or 0.
            world_to_camera: the poses are extrinsics, from the world's coordinates to the camera's.

        Raises:
            ShapeError, DtypeError, NotFiniteError: other shapes, integers, NaN.
            ErlangenError: K has skew, a focal length that is not positive, or another last row.
            GroupElementError: a pose is no rigid motion.
        """
        pose = checked_pose(pose, world_to_camera)
        if K.ndim < 2 or K.shape[-2:] != (3, 3):
            raise ShapeError(f"K has shape {tuple(K.shape)}; give intrinsic matrices [..., 3, 3]")
        check_floating(K, "K")
        check_finite(K, "K")
        rest = (
            torch.stack([K[..., 0, 1], K[..., 1, 0], K[..., 2, 0], K[..., 2, 1], K[..., 2, 2] - 1], -1).abs().amax(-1)
        )
        focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)
        bad = (rest > 1e-6) | (focal <= 0).any(-1)
        if bool(bad.any()):
            index = first_index(bad)
            raise ErlangenError(
                f"K{list(index) if index else ''} = {K[index].tolist()} is not [[f_x, 0, c_x], [0, f_y, c_y], [0, 0, 1]] with "
                "positive focal lengths in pixels; undo skew by resampling the image, and normalised units by its size"
            )
        pose = pose @ _flip(axes, pose)
        return cls(*_batched(pose, focal, K[..., :2, 2] + 0.5 - _checked_centers(pixel_centers), size))

    def matrix(self, *, pixel_centers: float = 0.5) -> Tensor:
        """Intrinsic matrices ``[..., 3, 3]``; the middle of the first pixel is at `pixel_centers`, 0 in OpenCV's convention."""
        (fx, fy), (cx, cy) = self.focal.unbind(-1), (self.center - 0.5 + _checked_centers(pixel_centers)).unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], -1).unflatten(-1, (3, 3))

    def pose_in(self, axes: Axes = "opencv", *, world_to_camera: bool = False) -> Tensor:
        """Poses ``[..., 4, 4]`` for these axes of the camera, or their inverses, the extrinsics."""
        pose = self.pose @ _flip(axes, self.pose)
        return rigid_inverse(pose) if world_to_camera else pose

    @property
    def position(self) -> Tensor:
        """Where the cameras stand, ``[..., 3]``."""
        return self.pose[..., :3, 3]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels ``[..., 2]`` and depths ``[...]`` of points ``[..., 3]`` in the world.

        The batch of the camera stands against the first axes of the points. Where the depth is not positive the point is
        behind the camera and its pixel means nothing; where it is zero the pixel is infinite or NaN.

        Raises:
            ShapeError: points that are not ``[..., 3]``, or batches that do not fit.
        """
        check_rows(points, 3, "points")
        position, focal, center = self._against(points)
        local = self._turned(points - position, outwards=False)
        depth = local[..., 2]
        return local[..., :2] / depth[..., None] * focal + center, depth

    def backproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """Points ``[..., 3]`` in the world that are seen at pixels ``[..., 2]`` at a depth ``[...]``.

        Raises:
            ShapeError: pixels that are not ``[..., 2]``, or batches that do not fit.
        """
        check_rows(pixels, 2, "pixels")
        position, focal, center = self._against(pixels)
        plane = (pixels - center) / focal
        local = torch.cat([plane, torch.ones_like(plane[..., :1])], -1) * depth[..., None]
        return self._turned(local, outwards=True) + position

    def rays(self) -> Rays:
        """The rays through the middles of all pixels.

        Raises:
            ShapeError: the cameras of the batch have images of different sizes.
        """
        height, width = self.image_size()
        pixels = pixel_centers(height, width, dtype=self.pose.dtype, device=self.pose.device)
        pixels = pixels.expand(*self.pose.shape[:-2], height, width, 2)
        _, focal, center = self._against(pixels)
        plane = (pixels - center) / focal
        local = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
        return Rays(self.position, self._turned(local, outwards=True))

    def image_size(self) -> tuple[int, int]:
        """(height, width), if all cameras of the batch have the same.

        Raises:
            ShapeError: they differ, or there is no camera.
        """
        sizes = self.size.reshape(-1, 2)
        if not len(sizes) or bool((sizes != sizes[0]).any()):
            raise ShapeError(
                f"size holds {sizes.unique(dim=0).tolist()}; pass cameras of one (height, width) at a time"
            )
        height, width = sizes[0].tolist()
        return height, width

    def moved(self, g: Tensor) -> Camera:
        """The cameras moved by isometries or similarities ``[..., 4, 4]``, which broadcast with the batch.

        A scaling moves where the camera stands, and leaves its focal length: depths grow with the scene, pixels stay.

        Raises:
            GroupElementError: an element stretches directions differently, or is singular.
        """
        linear, shift = g[..., :3, :3].to(self.pose), g[..., :3, 3].to(self.pose)
        det = torch.linalg.det(linear)
        scale = det.abs().pow(1 / 3)[..., None, None]
        if not is_traced():
            rest = (linear.mT @ linear - scale.square() * torch.eye(3).to(linear)).abs().amax((-2, -1))
            bad = ~((rest <= loose_tol(linear.dtype) * scale[..., 0, 0].square()) & (det != 0))
            if bool(bad.any()):
                index = first_index(bad)
                raise GroupElementError(
                    f"g{list(index) if index else ''} = {linear[index].tolist()} is no similarity, and a pinhole camera moved by "
                    "it is none; use elements of SE(3), E(3) or Similarity(3)"
                )
        mirrored = det < 0
        sign = torch.where(mirrored, -1.0, 1.0).to(self.pose)
        ones = torch.ones_like(sign)
        R = (linear / scale) @ self.pose[..., :3, :3] * torch.stack([sign, ones, ones], -1)[..., None, :]
        position = (linear @ self.position[..., None])[..., 0] + shift
        width = self.size[..., 1].to(self.center)
        across = torch.where(mirrored, width - self.center[..., 0], self.center[..., 0])
        batch = R.shape[:-2]
        center = torch.stack([across, self.center[..., 1].expand(across.shape)], -1)
        return Camera(
            rigid(R, position.expand(*batch, 3)),
            self.focal.expand(*batch, 2),
            center.expand(*batch, 2),
            self.size.expand(*batch, 2),
        )

    def resized(self, height: int, width: int) -> Camera:
        """The same view on another number of pixels: focal lengths and principal points in the new units."""
        check_integer("height", height, 1)
        check_integer("width", width, 1)
        new = self.size.new_tensor([height, width]).expand(self.size.shape)
        factor = (new.to(self.focal) / self.size.to(self.focal)).flip(-1)  # sizes are (rows, columns), pixels (x, y)
        return self._replace(focal=self.focal * factor, center=self.center * factor, size=new)

    def cropped(self, top: int, left: int, height: int, width: int) -> Camera:
        """The cameras of a window of the image, ``image[..., top : top + height, left : left + width]``.

        The window may reach out of the image. Its principal point is central no longer.
        """
        check_integer("height", height, 1)
        check_integer("width", width, 1)
        return self._replace(
            center=self.center - self.center.new_tensor([left, top]),
            size=self.size.new_tensor([height, width]).expand(self.size.shape),
        )

    def _against(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, focal lengths and principal points, shaped to stand against rows ``[*batch, *more, n]``."""
        batch = self.pose.shape[:-2]
        more = rows.ndim - 1 - len(batch)
        if more < 0:
            raise ShapeError(f"the cameras have the batch {tuple(batch)}, but the rows only {tuple(rows.shape[:-1])}")
        position, focal, center = (t.reshape(*batch, *[1] * more, -1) for t in (self.position, self.focal, self.center))
        return position, focal, center

    def _turned(self, rows: Tensor, *, outwards: bool) -> Tensor:
        """Rows ``[*batch, *more, 3]`` from the camera's axes to the world's, or back: one product for each camera."""
        turn = self.pose[..., :3, :3]
        R = turn.mT if outwards else turn
        more = rows.shape[R.ndim - 2 : -1]
        flat = rows.reshape(*rows.shape[: R.ndim - 2], more.numel(), 3) @ R
        return flat.reshape(*flat.shape[:-2], *more, 3)


def pinhole(
    height: int,
    width: int,
    angle: float | Tensor,
    pose: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Camera:
    """Cameras with square pixels that look along the middle of their image.

    >>> pinhole(480, 640, math.radians(90)).matrix()
    tensor([[320.,   0., 320.],
            [  0., 320., 240.],
            [  0.,   0.,   1.]])

    Args:
        height, width: of the image, in pixels.
        angle: what the width of the image spans, in radians, between 0 and pi; a tensor ``[...]`` broadcasts with `pose`.
        pose: camera to world in OpenCV's axes, ``[..., 4, 4]``; the world's own axes without it.
        dtype: where there is no pose.

    Raises:
        ErlangenError: a size or angle out of range.
        ShapeError, DtypeError, NotFiniteError, GroupElementError: a pose is no rigid motion.
    """
    check_integer("height", height, 1)
    check_integer("width", width, 1)
    pose = torch.eye(4, dtype=dtype) if pose is None else checked_pose(pose, inverse=False)
    spanned = torch.as_tensor(angle, dtype=pose.dtype, device=pose.device)
    if not bool(((spanned > 0) & (spanned < math.pi)).all()):
        raise ErlangenError(f"angle = {angle}; give what the width spans in radians, between 0 and pi")
    focal = width / 2 / (spanned / 2).tan()
    center = torch.tensor([width / 2, height / 2], dtype=pose.dtype, device=pose.device)
    return Camera(*_batched(pose, torch.stack([focal, focal], -1), center, (height, width)))


def pixel_centers(
    height: int, width: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Middles (u, v) of the pixels of an image, ``[H, W, 2]``.

    >>> pixel_centers(1, 3)
    tensor([[[0.5000, 0.5000],
             [1.5000, 0.5000],
             [2.5000, 0.5000]]])
    """
    u = torch.arange(width, dtype=dtype or torch.get_default_dtype(), device=device) + 0.5
    v = torch.arange(height, dtype=u.dtype, device=device) + 0.5
    return torch.stack([u.expand(height, width), v[:, None].expand(height, width)], -1)


def _flip(axes: Axes, like: Tensor) -> Tensor:
    """From the axes of OpenCV to others, and back: the two named systems differ by half a turn about x."""
    if axes not in ("opencv", "opengl"):
        raise UnknownNameError(f"axes = {axes!r}; choose 'opencv' or 'opengl'")
    sign = 1.0 if axes == "opencv" else -1.0
    return torch.diag(like.new_tensor([1.0, sign, sign, 1.0]))


def _batched(pose: Tensor, focal: Tensor, center: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Fields in one dtype and of one batch."""
    height, width = size
    check_integer("height", height, 1)
    check_integer("width", width, 1)
    batch = torch.broadcast_shapes(pose.shape[:-2], focal.shape[:-1], center.shape[:-1])
    return (
        pose.expand(*batch, 4, 4),
        focal.to(pose).expand(*batch, 2),
        center.to(pose).expand(*batch, 2),
        torch.tensor([height, width], device=pose.device).expand(*batch, 2),
    )


def _checked_centers(value: float) -> float:
    if value not in (0.0, 0.5):
        raise ErlangenError(f"pixel_centers = {value!r}; the middle of the first pixel is at 0.5, or at 0 as in OpenCV")
    return value
