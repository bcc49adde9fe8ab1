"""The person of the package anny as tensors: a coarse skeleton, an even skin, and how numbers of its shape move them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, MissingExtraError
from erlangen.geometry.points import farthest_points
from erlangen.render import vertex_normals

PHENOTYPES = {"gender": 0.5, "age": 2 / 3, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5}
"""The middle of the package's numbers from 0 to 1; its ages are anchored at 0, 1/3, 2/3 (a young adult) and 1."""
STEP = 0.1
"""How far one unit of a shape moves its number."""
MERGED = {
    "LHipJoint": "Hips",
    "RHipJoint": "Hips",
    "LeftToeBase": "LeftFoot",
    "RightToeBase": "RightFoot",
    "LThumb": "LeftHand",
    "LeftFingerBase": "LeftHand",
    "LeftHandFinger1": "LeftHand",
    "RThumb": "RightHand",
    "RightFingerBase": "RightHand",
    "RightHandFinger1": "RightHand",
    "Neck1": "Neck",
}
"""Bones that move with another one."""


class AnnyParts(NamedTuple):
    """What a skinned body is made of, the root at the origin, z upwards, facing along y.

    Attributes:
        names, parents, joints: of the skeleton, places ``[J, 3]`` in metres.
        points, normals, weights: of the skin ``[V, 3]``, ``[V, 3]``, ``[V, J]``.
        point_shapes, joint_shapes: steps of one unit of each number, ``[6, V, 3]`` and ``[6, J, 3]``.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: Tensor
    points: Tensor
    normals: Tensor
    weights: Tensor
    point_shapes: Tensor
    joint_shapes: Tensor


def anny_parts(points: int, draw: Generator) -> AnnyParts:
    """The average person of anny with a skin of so many vertices of its mesh, evenly spread.

    Raises:
        MissingExtraError: anny is not installed.
        ErlangenError: the mesh has fewer vertices.
    """
    model = anny_model()
    labels: list[str] = list(model.bone_labels)
    names = tuple(name for name in labels if name not in MERGED)
    into = torch.tensor([names.index(MERGED.get(name, name)) for name in labels])
    kept = torch.tensor([labels.index(name) for name in names])
    above = [int(model.bone_parents[bone]) for bone in kept]
    parents = tuple(int(into[bone]) if bone >= 0 else -1 for bone in above)

    vertices, joints = _rest(model, {}, kept)
    if points > len(vertices):
        raise ErlangenError(f"points = {points}; anny's mesh has {len(vertices)} vertices, ask for as many or fewer")
    steps = [[_rest(model, {name: PHENOTYPES[name] + sign * STEP}, kept) for sign in (1, -1)] for name in PHENOTYPES]
    point_shapes, joint_shapes = (torch.stack([(up[i] - down[i]) / 2 for up, down in steps]) for i in (0, 1))
    weights = vertices.new_zeros(len(vertices), len(names))
    bones = into[model.vertex_bone_indices]
    weights.scatter_add_(1, bones, model.vertex_bone_weights.to(vertices))

    start = torch.randint(len(vertices), (1,), generator=draw)
    rows = farthest_points(vertices[None], points, start=start)[0]
    normals = vertex_normals(vertices, model.get_triangular_faces())
    return AnnyParts(
        names, parents, joints, vertices[rows], normals[rows], weights[rows], point_shapes[:, rows], joint_shapes
    )


def anny_model() -> Any:
    """The package's model on the skeleton of the CMU motion captures, float64.

    Raises:
        MissingExtraError: anny is not installed.
    """
    try:
        from anny import Anny
    except ImportError as error:
        raise MissingExtraError("anny", "bodies", "SkinnedBody.anny") from error
    return Anny(rig="cmu_mb", skinning_method="lbs", phenotype_blendshapes="original").double()


def _rest(model: Any, phenotype: dict[str, float], kept: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices and kept joints of a person at rest, from anny's axes, where a person faces -y, to ours; the root at zero."""
    with torch.no_grad():
        rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**{**PHENOTYPES, **phenotype}))
    joints = rest["rest_bone_heads"][0, kept]
    turn = joints.new_tensor([-1.0, -1.0, 1.0])
    return (rest["rest_vertices"][0] - joints[:1]) * turn, (joints - joints[:1]) * turn
