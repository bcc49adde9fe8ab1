"""Elements of groups in words: "rotation by 40°", "shift by (2, 0)"."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erlangen.groups import SO, DirectProduct, Group, Shifts, Symmetric

LONGEST = 12
"""Permutations of more entries are named by how many they move."""


def element_name(group: Group, g: Tensor) -> str:
    """One element ``[*shape]`` in words; its matrix where there are none.

    Angles are in degrees, counterclockwise in the plane, about an axis in space; a mirror is named by the angle of its line
    in the plane, in space by the rotation behind the inversion. Shifts are in the units of the data.

    >>> from erlangen.groups import Dihedral
    >>> element_name(Dihedral(4), torch.tensor(1)), element_name(Dihedral(4), torch.tensor(4))
    ('rotation by 90°', 'mirror at 90°')
    """
    if isinstance(group, DirectProduct):
        names = [element_name(f, part) for f, part in zip(group.factors, group.split(g), strict=True)]
        return "identity" if set(names) == {"identity"} else " x ".join(names)
    if isinstance(group, Symmetric):
        return _permutation([int(i) for i in g])
    if isinstance(group, Shifts):
        return _shift([int(i) for i in g])
    if group.space_dim == 0:
        return f"element {_numbers(g.flatten().tolist())}"
    g = g.detach().cpu()
    g = g.double() if g.is_floating_point() else g
    shift = group.translation(g, dtype=torch.float64)
    moved = [] if shift is None or bool((shift.abs() < 1e-9).all()) else [_shift(shift.tolist())]
    words = [*_linear(group.linear(g, dtype=torch.float64)), *moved]
    return ", ".join(words) or "identity"


def _shift(places: list[float]) -> str:
    return f"shift by {_numbers(places)}" if any(places) else "identity"


def _permutation(images: list[int]) -> str:
    moved = sum(i != image for i, image in enumerate(images))
    if moved == 0:
        return "identity"
    return f"permutation {images}" if len(images) <= LONGEST else f"permutation that moves {moved} of {len(images)}"


def _linear(A: Tensor) -> list[str]:
    """Scale and rotation or mirror of a matrix ``[n, n]``; the matrix itself where it is none of these."""
    n = A.shape[-1]
    determinant = float(torch.linalg.det(A))
    scale = abs(determinant) ** (1 / n)
    R = A / scale
    eye = torch.eye(n, dtype=A.dtype)
    if not bool(torch.allclose(R @ R.mT, eye, atol=1e-5)):
        return [f"matrix [{', '.join(_numbers(row) for row in A.tolist())}]"]
    words = [] if math.isclose(scale, 1, abs_tol=1e-6) else [f"scaling by {scale:.4g}"]
    if bool(torch.allclose(R, eye, atol=1e-6)):
        return words
    if n == 1 or bool(torch.allclose(R, -eye, atol=1e-6)):
        return [*words, "rotation by 180°" if n == 2 else "inversion"]
    if n == 2:
        angle = math.degrees(math.atan2(float(R[1, 0]), float(R[0, 0])))
        return [*words, f"rotation by {_round(angle)}°" if determinant > 0 else f"mirror at {_round(angle / 2 % 180)}°"]
    if n > 3:
        return [*words, "rotation" if determinant > 0 else "mirror"]
    turned = R if determinant > 0 else -R
    vector = SO(3).log(turned / torch.linalg.det(turned) ** (1 / 3))
    angle = float(vector.norm())
    axis = _numbers((vector / angle).tolist())
    return [
        *words,
        f"{'' if determinant > 0 else 'inversion and '}rotation by {_round(math.degrees(angle))}° about {axis}",
    ]


def _numbers(values: list[float]) -> str:
    return f"({', '.join(_round(value) for value in values)})"


def _round(value: float) -> str:
    return f"{round(value, 2) + 0.0:g}"
