"""Bodies with a skin: a kinematic tree, points of a surface that follow its joints smoothly, and numbers for the shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_floating, check_sizes
from erlangen.geometry.kinematics import KinematicTree, Placement, skinned
from erlangen.geometry.points import farthest_points
from erlangen.groups import SO, random_rotations
from erlangen.simulate._anny import anny_parts
from erlangen.simulate._surfaces import CAPSULE, surface_areas, surface_points

__all__ = ["PosedBody", "SkinnedBody"]

Point = tuple[float, float, float]


class PosedBody(NamedTuple):
    """A skin and its joints in a pose.

    Attributes:
        points, normals: of the skin, ``[..., V, 3]``.
        placement: of the joints.
    """

    points: Tensor
    normals: Tensor
    placement: Placement


@dataclass(frozen=True)
class SkinnedBody:
    """A body in the manner of SMPL: the skin and the joints are linear in the shape, and the skin follows the joints.

    >>> body = SkinnedBody.figure(points=300)
    >>> local = body.poses(2, 25.0, generator=torch.Generator().manual_seed(0))
    >>> posed = body.posed(local, torch.randn(2, 4))
    >>> posed.points.shape, posed.placement.rotations.shape
    (torch.Size([2, 300, 3]), torch.Size([2, 12, 3, 3]))

    A rotation of space acts on the local rotation of the root alone: ``posed(g local) = g posed(local)``, about the root.

    Args:
        tree: the joints in the rest pose; the root is at the origin. One part of the body belongs to each.
        points, normals: of the skin in the rest pose ``[V, 3]``, in metres.
        weights: of the joints for each point, ``[V, J]``, rows sum to 1.
        point_shapes, joint_shapes: how far one unit of each number of the shape moves points and joints, ``[S, V, 3]`` and
            ``[S, J, 3]``.

    Raises:
        ShapeError, DtypeError: tensors of another form.
    """

    tree: KinematicTree
    points: Tensor
    normals: Tensor
    weights: Tensor
    point_shapes: Tensor
    joint_shapes: Tensor

    def __post_init__(self) -> None:
        v, j = len(self.points), len(self.tree)
        s = len(self.point_shapes)
        forms = {
            "points": (v, 3),
            "normals": (v, 3),
            "weights": (v, j),
            "point_shapes": (s, v, 3),
            "joint_shapes": (s, j, 3),
        }
        for name, form in forms.items():
            given = getattr(self, name)
            check_floating(given, name)
            if given.shape != form:
                raise ShapeError(
                    f"{name} has shape {tuple(given.shape)}; for {v} points, {j} joints and {s} shapes give {list(form)}"
                )

    @cached_property
    def parts(self) -> Tensor:
        """The joint that each point follows most, int64 ``[V]``."""
        return self.weights.argmax(-1)

    def shaped(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Points ``[..., V, 3]`` and joints ``[..., J, 3]`` of shapes ``[..., S]`` in the rest pose.

        Raises:
            ShapeError: another number of shapes.
        """
        if shape.shape[-1:] != self.point_shapes.shape[:1]:
            raise ShapeError(f"shape has shape {tuple(shape.shape)}; give [..., {len(self.point_shapes)}]")
        points = self.points.to(shape) + torch.tensordot(shape, self.point_shapes.to(shape), 1)
        return points, self.tree.rest.to(shape) + torch.tensordot(shape, self.joint_shapes.to(shape), 1)

    def posed(self, local: Tensor, shape: Tensor | None = None) -> PosedBody:
        """The body with joints turned by ``local [..., J, 3, 3]``, each in the axes of its parent, the root at its place.

        Rotations from the rest pose to the world become local ones by ``body.tree.local``.

        Args:
            local: as for `KinematicTree.place`.
            shape: ``[..., S]``; by default zero.

        Raises:
            ShapeError: shapes that do not fit.
        """
        none = local.new_zeros(*local.shape[:-3], len(self.point_shapes))
        shape = none if shape is None else shape.to(local)
        points, joints = self.shaped(shape)
        offsets = torch.cat([joints[..., :1, :], self.tree.bones(joints)], -2)
        placement = self.tree.place(local, offsets=offsets)
        weights = self.weights.to(local)
        moved = skinned(points, weights, self.tree, placement, rest=joints)
        turned = torch.einsum("vj,...jab,vb->...va", weights, placement.rotations, self.normals.to(local))
        return PosedBody(moved, torch.nn.functional.normalize(turned, dim=-1), placement)

    def poses(
        self, count: int, angle: float, *, free: tuple[int, ...] | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Random poses ``[count, J, 3, 3]``, float64: the root turned from Haar measure, three angles for each other joint.

        Rotation vectors of joints are uniform in a cube.

        Args:
            count: how many.
            angle: largest rotation about each axis, in degrees.
            free: joints that turn; by default all.
            generator: source of the draws.

        Raises:
            ErlangenError: `count` is negative, `angle` is not within 0 and 180, or a joint does not exist.
        """
        if count < 0 or not 0 <= angle <= 180:
            raise ErlangenError(
                f"count = {count}, angle = {angle}; count is not negative, angle is from 0 to 180 degrees"
            )
        n = len(self.tree)
        free = tuple(range(1, n)) if free is None else free
        if not all(0 < j < n for j in free):
            raise ErlangenError(f"free = {free}; give joints from 1 to {n - 1}")
        vectors = math.radians(angle) * (2 * torch.rand(count, n, 3, generator=generator, dtype=torch.float64) - 1)
        held = torch.ones(n, dtype=torch.bool)
        held[list(free)] = False
        vectors[:, held] = 0
        local = SO(3).exp(vectors)
        local[:, 0] = random_rotations(3, (count,), generator)
        return local

    @classmethod
    def figure(cls, points: int = 1500, *, generator: Generator | None = None) -> SkinnedBody:
        """A person of capsules: twelve parts, facing along y with z upwards and the arms stretched out.

        The root, between the hips, is at the origin. Hands, feet, a nose and a bulge on each limb tell how a part is turned
        about its own axis. Four numbers give the shape: size (6 percent each), legs and arms (8), and girth (1 cm).

        Args:
            points: of the skin, evenly spread.
            generator: source of the points; a fixed one by default, so that every figure has the same.

        Raises:
            ErlangenError: `points` is not positive.
        """
        check_sizes(points=points)
        draw = torch.Generator().manual_seed(0) if generator is None else generator
        names, parents, joints, capsules = _figure()
        rest = torch.tensor(joints, dtype=torch.float64)
        offsets = rest - torch.cat([torch.zeros(1, 3, dtype=torch.float64), rest[list(parents[1:])]])
        mirror = tuple(names.index(_other_side(name)) for name in names)
        tree = KinematicTree(parents, offsets, names, mirror)
        skin, normals, part = _surface(capsules, points, draw)
        limbs = [names.index(name) for name in ("left thigh", "right thigh", "left upper arm", "right upper arm")]
        belongs = torch.tensor([_limb_of(j, parents, limbs) for j in range(len(names))])

        def moved(x: Tensor, limb: Tensor) -> Tensor:
            """Of places and the limb that each belongs to, -1 for the trunk: by size, legs, arms."""
            away = x - rest[torch.tensor([*limbs, 0])[limb]]
            legs, arms = (limb == 0) | (limb == 1), (limb == 2) | (limb == 3)
            return torch.stack([0.06 * x, 0.08 * away * legs[:, None], 0.08 * away * arms[:, None]])

        girth = torch.stack([0.01 * normals])
        return cls(
            tree,
            skin,
            normals,
            _blended(skin, part, rest, parents),
            torch.cat([moved(skin, belongs[part]), girth]),
            torch.cat([moved(rest, belongs), torch.zeros(1, *rest.shape, dtype=torch.float64)]),
        )

    @classmethod
    def anny(cls, points: int = 1500, *, generator: Generator | None = None) -> SkinnedBody:
        """The average grown person of the package anny (extra ``bodies``), with 20 joints, facing along y with z upwards.

        The skeleton is the one of the CMU motion captures; bones of fingers, toes and the upper neck move with the hand,
        foot and neck. The six numbers of the shape are the package's gender, age, muscle, weight, height and proportions:
        one unit moves each by a tenth of its range. Here they act linearly, as the package does near the average person.

        Args:
            points: vertices of the package's mesh that make the skin, evenly spread.
            generator: source of the first of them; a fixed one by default.

        Raises:
            MissingExtraError: anny is not installed.
            ErlangenError: `points` is not positive, or more than the mesh has.
        """
        check_sizes(points=points)
        parts = anny_parts(points, torch.Generator().manual_seed(0) if generator is None else generator)
        rest, parents = parts.joints, parts.parents
        offsets = rest - torch.cat([rest[:1], rest[list(parents[1:])]])
        mirror = tuple(parts.names.index(_other_side(name)) for name in parts.names)
        tree = KinematicTree(parents, offsets, parts.names, mirror)
        return cls(tree, parts.points, parts.normals, parts.weights, parts.point_shapes, parts.joint_shapes)


# --- the figure ------------------------------------------------------------------------------------------------------
REACH = 0.05
"""How far from a joint, in metres, the skin follows both of its parts."""


def _other_side(name: str) -> str:
    sides = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    side = next((side for side in sides if name.startswith(side)), "")
    return sides.get(side, "") + name.removeprefix(side)


def _figure() -> tuple[tuple[str, ...], tuple[int, ...], list[Point], list[tuple[int, Point, Point, float]]]:
    """Names, parents and places of the joints, and capsules ``(joint, one end, other end, radius)`` in the rest pose."""
    names = ["pelvis", "waist", "chest", "head"]
    parents = [-1, 0, 1, 2]
    joints: list[Point] = [(0, 0, 0), (0, 0, 0.12), (0, 0, 0.24), (0, 0, 0.52)]
    capsules: list[tuple[int, Point, Point, float]] = [
        (0, (-0.08, 0, 0), (0.08, 0, 0), 0.11),
        (0, (-0.07, -0.06, -0.03), (0.07, -0.06, -0.03), 0.08),
        (1, (-0.07, 0, 0.15), (0.07, 0, 0.15), 0.10),
        (2, (-0.10, 0, 0.34), (0.10, 0, 0.34), 0.12),
        (2, (-0.07, 0.05, 0.36), (0.07, 0.05, 0.36), 0.09),
        (3, (0, 0, 0.56), (0, 0.01, 0.66), 0.09),
        (3, (0, 0.08, 0.62), (0, 0.12, 0.60), 0.02),
    ]
    for side, x in (("left", -1.0), ("right", 1.0)):
        arm, leg = len(names), len(names) + 2
        names += [f"{side} upper arm", f"{side} forearm", f"{side} thigh", f"{side} shin"]
        parents += [2, arm, 0, leg]
        joints += [(x * 0.20, 0, 0.44), (x * 0.48, 0, 0.44), (x * 0.10, 0, -0.05), (x * 0.10, 0, -0.47)]
        capsules += [
            (arm, (x * 0.20, 0, 0.44), (x * 0.46, 0, 0.44), 0.05),
            (arm, (x * 0.30, 0.02, 0.46), (x * 0.38, 0.02, 0.46), 0.045),
            (arm + 1, (x * 0.50, 0, 0.44), (x * 0.72, 0, 0.44), 0.04),
            (arm + 1, (x * 0.76, -0.03, 0.44), (x * 0.76, 0.03, 0.44), 0.025),
            (arm + 1, (x * 0.83, -0.03, 0.44), (x * 0.83, 0.03, 0.44), 0.02),
            (arm + 1, (x * 0.75, 0.05, 0.44), (x * 0.79, 0.09, 0.44), 0.015),
            (leg, (x * 0.10, 0, -0.06), (x * 0.10, 0, -0.45), 0.075),
            (leg, (x * 0.10, 0.03, -0.15), (x * 0.10, 0.03, -0.28), 0.07),
            (leg + 1, (x * 0.10, 0, -0.49), (x * 0.10, 0, -0.86), 0.055),
            (leg + 1, (x * 0.10, -0.03, -0.56), (x * 0.10, -0.03, -0.66), 0.05),
            (leg + 1, (x * 0.10, 0, -0.90), (x * 0.11, 0.16, -0.91), 0.04),
        ]
    return tuple(names), tuple(parents), joints, capsules


def _limb_of(joint: int, parents: tuple[int, ...], limbs: list[int]) -> int:
    """Index in `limbs` of the one that a joint belongs to, -1 for the trunk."""
    while joint >= 0:
        if joint in limbs:
            return limbs.index(joint)
        joint = parents[joint]
    return -1


def _surface(
    capsules: list[tuple[int, Point, Point, float]], count: int, draw: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Points on the surface of the union, evenly spread, their normals and the joints of their capsules."""
    joint = torch.tensor([c[0] for c in capsules])
    a, b = (torch.tensor([c[i] for c in capsules], dtype=torch.float64) for i in (1, 2))
    radius = torch.tensor([c[3] for c in capsules], dtype=torch.float64)
    half = (b - a).norm(dim=-1) / 2
    size = torch.stack([radius, half, torch.zeros_like(half)], -1)
    kind = torch.full((len(capsules),), CAPSULE)
    share = surface_areas(kind, size)
    drawn = torch.multinomial(share, 12 * count, replacement=True, generator=draw)
    inner = surface_points(kind[drawn], size[drawn], draw)
    axis = (b - a) / (2 * half[:, None])
    side = torch.nn.functional.normalize(torch.linalg.cross(axis, axis.roll(1, -1) + 0.1), dim=-1)
    frame = torch.stack([side, torch.linalg.cross(axis, side), axis], -1)[drawn]
    x = (frame @ inner[..., None])[..., 0] + (a + b)[drawn] / 2
    # Distances to all axes: a point inside another capsule is not on the surface of the body.
    t = ((x[:, None] - a) * (b - a)).sum(-1) / (2 * half).square()
    foot = a + t.clamp(0, 1)[..., None] * (b - a)
    outside = (x[:, None] - foot).norm(dim=-1) - radius
    outside.scatter_(1, drawn[:, None], 0.0)
    seen = (outside >= 0).all(-1)
    own = foot[torch.arange(len(x)), drawn]
    x, own, part = x[seen], own[seen], joint[drawn][seen]
    rows = farthest_points(x[None], count, start=torch.zeros(1, dtype=torch.int64))[0]
    return x[rows], torch.nn.functional.normalize((x - own)[rows], dim=-1), part[rows]


def _blended(x: Tensor, part: Tensor, rest: Tensor, parents: tuple[int, ...]) -> Tensor:
    """Weights ``[V, J]``: one for the own part, and up to as much for the other part at a joint that is near."""
    weights = torch.nn.functional.one_hot(part, len(parents)).to(x)
    for child, parent in enumerate(parents[1:], 1):
        near = torch.exp(-((x - rest[child]).norm(dim=-1) / REACH).square())
        for own, other in ((child, parent), (parent, child)):
            weights[:, other] += near * (part == own)
    return weights / weights.sum(-1, keepdim=True)
