"""Articulated bodies: points on the surface of MuJoCo's humanoid in random poses, with exact labels.

The model is the ``humanoid.xml`` of gymnasium: thirteen rigid bodies made of spheres and capsules, seventeen hinges.
Nothing is simulated in time and nothing is drawn; MuJoCo's forward kinematics alone places the bodies.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, MissingExtraError, ShapeError, check_finite
from erlangen.groups import SE
from erlangen.simulate._surfaces import CAPSULE, surface_areas, surface_points

PARTS: tuple[str, ...] = (
    "head", "torso", "waist", "pelvis", "thigh", "shin", "foot", "upper arm", "lower arm", "hand",
)  # fmt: skip
"""Names of the labels in `BodyClouds.part`; left and right share one, as mirror images do under reflections."""

_PART_OF_GEOM = {
    "head": "head", "torso1": "torso", "uwaist": "torso", "lwaist": "waist", "butt": "pelvis", "thigh1": "thigh",
    "shin1": "shin", "foot": "foot", "uarm1": "upper arm", "larm": "lower arm", "hand": "hand",
}  # fmt: skip


@dataclass(frozen=True)
class BodyClouds:
    """Point clouds of posed bodies.

    Attributes:
        pos: ``[B, n, 3]`` in metres, z upwards, the torso at the origin and upright.
        part: int64 ``[B, n]``, see `PARTS`.
        body: int64 ``[B, n]``, the rigid body of each point: the partition whose parts move rigidly.
        angles: ``[B, joints]`` in radians.
        local: ``[B, n, 3]``, the points in the axes of their bodies; the same in every pose.
        placement: elements of SE(3) ``[B, bodies, 4, 4]``, from the axes of each body to the world.
    """

    pos: Tensor
    part: Tensor
    body: Tensor
    angles: Tensor
    local: Tensor
    placement: Tensor


class Humanoid:
    """MuJoCo's humanoid as a kinematic tree with surfaces.

    >>> from erlangen.simulate import Humanoid
    >>> clouds = Humanoid().clouds(2, 256, generator=torch.Generator().manual_seed(0))  # doctest: +SKIP
    >>> clouds.pos.shape  # doctest: +SKIP
    torch.Size([2, 256, 3])

    Attributes:
        joints: names of the hinges.
        limits: float64 ``[joints, 2]``, the least and the largest angle, in radians.
        bodies: names of the rigid bodies.

    Raises:
        MissingExtraError: mujoco or gymnasium is not installed.
        DataError: the model in the installed gymnasium is not the one that is described here.
    """

    def __init__(self) -> None:
        mujoco: Any = load_mujoco("the articulated humanoid")
        model: Any = mujoco.MjModel.from_xml_path(str(_model_path()))
        hinge = [j for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE]
        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        self._address = torch.tensor([int(model.jnt_qposadr[j]) for j in hinge])
        self.joints = [str(model.joint(j).name) for j in hinge]
        self.limits = torch.tensor(model.jnt_range[hinge])
        self.bodies = [str(model.body(b).name) for b in range(1, model.nbody)]  # body 0 is the world
        geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] > 0]
        rounded = (int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_CAPSULE))
        names = [str(model.geom(g).name).removeprefix("left_").removeprefix("right_") for g in geoms]
        kinds = [int(model.geom_type[g]) for g in geoms]
        strange = [
            name for name, kind in zip(names, kinds, strict=True) if name not in _PART_OF_GEOM or kind not in rounded
        ]
        if strange:
            raise DataError(
                f"the humanoid of the installed gymnasium has unknown parts {strange}; install gymnasium 1.x"
            )
        self._part = torch.tensor([PARTS.index(_PART_OF_GEOM[name]) for name in names])
        self._body = torch.tensor([int(model.geom_bodyid[g]) - 1 for g in geoms])
        self._size = torch.tensor(model.geom_size[geoms])
        self._kind = torch.full((len(geoms),), CAPSULE)  # a sphere is a capsule whose half length MuJoCo gives as zero
        matrices = torch.zeros(len(geoms), 9, dtype=torch.float64).numpy()
        for row, g in zip(matrices, geoms, strict=True):
            mujoco.mju_quat2Mat(row, model.geom_quat[g])
        self._turn = torch.from_numpy(matrices).view(-1, 3, 3)
        self._offset = torch.tensor(model.geom_pos[geoms])

    def angles(self, count: int, share: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Independent uniform angles ``[count, joints]``, float64, within a share of the limits.

        The range of each joint shrinks towards its angle in the default pose (zero, or the limit next to it): share 1
        is the full range, share 0 the default pose.

        Raises:
            ErlangenError: `share` is not within 0 and 1, or `count` is negative.
        """
        if not 0 <= share <= 1 or count < 0:
            raise ErlangenError(f"share = {share}, count = {count}; share lies within 0 and 1, count is not negative")
        low, high = self.limits.unbind(1)
        rest = torch.zeros_like(low).clamp(low, high)
        u = torch.rand(count, len(low), generator=generator, dtype=torch.float64)
        return rest + share * ((low - rest) + u * (high - low))

    def place(self, angles: Tensor) -> Tensor:
        """Elements of SE(3) ``[B, bodies, 4, 4]``, float64: where forward kinematics puts each body.

        Raises:
            ShapeError: `angles` is not ``[B, joints]``.
            NotFiniteError: NaN or Inf.
        """
        if angles.dim() != 2 or angles.shape[1] != len(self.joints):
            raise ShapeError(f"angles has shape {tuple(angles.shape)}; pass [B, {len(self.joints)}]")
        check_finite(angles, "angles")
        configurations = torch.tensor(self._model.qpos0).repeat(len(angles), 1)
        configurations[:, :3] = 0.0
        configurations[:, self._address] = angles.double()
        linear = torch.empty(len(angles), len(self.bodies), 9, dtype=torch.float64)
        shift = torch.empty(len(angles), len(self.bodies), 3, dtype=torch.float64)
        for row, configuration in enumerate(configurations.numpy()):  # MuJoCo poses one body at a time
            self._data.qpos[:] = configuration
            self._mujoco.mj_kinematics(self._model, self._data)
            linear[row] = torch.from_numpy(self._data.xmat[1:])
            shift[row] = torch.from_numpy(self._data.xpos[1:])
        return SE(3).join(linear.unflatten(-1, (3, 3)), shift)

    def surface(self, count: int, points: int, *, generator: Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Points on the surfaces, uniform by area: ``local [B, n, 3]`` float64, ``part [B, n]``, ``body [B, n]``.

        The surfaces of the solids are taken whole, also where one reaches into another at a joint.

        Raises:
            ErlangenError: `count` is negative or `points` is not positive.
        """
        if count < 0 or points < 1:
            raise ErlangenError(f"count = {count}, points = {points}; count is not negative, points is positive")
        reached = surface_areas(self._kind, self._size).cumsum(0)
        u = torch.rand(count, points, generator=generator, dtype=torch.float64)
        geom = (u[..., None] * reached[-1] >= reached[:-1]).sum(-1)
        inner = surface_points(self._kind[geom], self._size[geom], generator)
        local = (inner[..., None, :] @ self._turn[geom].mT)[..., 0, :] + self._offset[geom]
        return local, self._part[geom], self._body[geom]

    def clouds(
        self,
        count: int,
        points: int = 512,
        share: float = 1.0,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> BodyClouds:
        """Bodies in random poses, each with its own points. Arguments and errors as `angles` and `surface`."""
        angles = self.angles(count, share, generator=generator)
        local, part, body = self.surface(count, points, generator=generator)
        return self._posed(angles, local, part, body, dtype)

    def repose(self, clouds: BodyClouds, angles: Tensor) -> BodyClouds:
        """The same points of the same bodies in other poses ``angles [B, joints]``.

        Raises:
            ShapeError: the number of poses is not that of the clouds, or another number of joints.
        """
        if len(angles) != len(clouds.pos):
            raise ShapeError(
                f"angles has shape {tuple(angles.shape)} for {len(clouds.pos)} clouds; pass a pose for each"
            )
        return self._posed(angles, clouds.local.double(), clouds.part, clouds.body, clouds.pos.dtype)

    def _posed(self, angles: Tensor, local: Tensor, part: Tensor, body: Tensor, dtype: torch.dtype) -> BodyClouds:
        placement = self.place(angles)
        each = placement[torch.arange(len(body))[:, None], body]
        pos = (each[..., :3, :3] @ local[..., None])[..., 0] + each[..., :3, 3]
        return BodyClouds(pos.to(dtype), part, body, angles.to(dtype), local.to(dtype), placement.to(dtype))


def load_mujoco(purpose: str) -> Any:
    """The module, or `MissingExtraError` that names the extra and what it is for."""
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise MissingExtraError("mujoco", "scenes", purpose) from error
    return mujoco


def _model_path() -> Path:
    """The model in gymnasium's files; gymnasium itself is not imported."""
    found = importlib.util.find_spec("gymnasium")
    if found is None or found.origin is None:
        raise MissingExtraError("gymnasium", "scenes", "the articulated humanoid")
    path = Path(found.origin).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"
    if not path.is_file():
        raise DataError(f"{path} is missing from the installed gymnasium; install gymnasium 1.x")
    return path
