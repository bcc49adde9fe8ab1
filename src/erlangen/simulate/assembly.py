"""Shells of elastic triangles: the energy of stretched sides and of bent bonds.

>>> import erlangen as er
>>> shell = er.geometry.icosahedral_shell(1)
>>> rest = fold_angles(shell.pos, shell.faces, shell.twins)
>>> float(rest.min()), float(rest.max())  # pi minus the dihedral angle of the icosahedron
(0.7297..., 0.7297...)
>>> float(shell_energy(1.1 * shell.pos, shell.faces, shell.twins, angles=rest, stretch=300.0, bend=30.0))  # 60 sides, 10 % long
90.0...
"""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_finite, check_floating


def fold_angles(pos: Tensor, faces: Tensor, twins: Tensor) -> Tensor:
    """The angle between the normals of the two triangles at each half-edge ``[..., 3 F]``, positive where the shell is convex.

    Zero for open half-edges. Gradients exist everywhere but where triangles have no area, or lie on each other.

    Args:
        pos: vertices ``[..., V, 3]``.
        faces: their numbers in each triangle, counterclockwise from outside, int64 ``[F, 3]``. Half-edge ``3 f + s`` is side s
            of face f, from its corner s to the next.
        twins: the half-edge that each is bound to, int64 ``[3 F]``; -1 where it is open.

    Raises:
        ShapeError, DtypeError, NotFiniteError: an input is not as above.
        ErlangenError: numbers that do not exist, or half-edges of which only one is bound to the other.
    """
    _check(pos, faces, twins)
    corner = pos[..., faces, :]  # [..., F, 3, 3]
    side = corner.roll(-1, -2) - corner
    normal = torch.linalg.cross(side[..., 0, :], side[..., 1, :])
    normal = normal / normal.norm(dim=-1, keepdim=True)
    bound = twins >= 0
    here = normal.repeat_interleave(3, -2)
    there = here[..., twins.clamp(min=0), :]
    along = side.flatten(-3, -2)
    along = along / along.norm(dim=-1, keepdim=True)
    sine = (torch.linalg.cross(here, there) * along).sum(-1)
    cosine = (here * there).sum(-1)
    # Open half-edges get the pair (0, 1), whose angle is 0 with slopes that are 0, too.
    return torch.atan2(torch.where(bound, sine, 0.0), torch.where(bound, cosine, 1.0))


def shell_energy(
    pos: Tensor,
    faces: Tensor,
    twins: Tensor,
    *,
    lengths: Tensor | float = 1.0,
    angles: Tensor | float = 0.0,
    stretch: float,
    bend: float,
    binding: Tensor | float = 0.0,
) -> Tensor:
    """``sum over half-edges stretch (l - l0)^2 / 2 + sum over bonds (bend (theta - theta0)^2 / 2 + binding)``, ``[...]``.

    A bond has two half-edges, each of which is stretched; its rest angle and its binding energy are the means of theirs.
    This is the energy of Tyukodi et al. (2025) for triangular subunits. Differentiable by positions.

    Args:
        pos, faces, twins: as for `fold_angles`.
        lengths, angles: at rest, of half-edges ``[3 F]`` or of all; angles in radians.
        stretch, bend: moduli, energies per length squared and per radian squared.
        binding: energy of a bond, for half-edges ``[3 F]`` or for all; negative where bonds hold.

    Raises:
        ShapeError, DtypeError, NotFiniteError: an input is not as above.
        ErlangenError: a modulus is negative, a rest length is not positive, or `faces` and `twins` do not fit.
    """
    for name, modulus in (("stretch", stretch), ("bend", bend)):
        if not 0 <= modulus < float("inf"):
            raise ErlangenError(f"{name} = {modulus}; give a modulus of 0 or more")
    theta = fold_angles(pos, faces, twins)
    length, angle, bond = (_each(name, value, pos, len(twins)) for name, value in
                           (("lengths", lengths), ("angles", angles), ("binding", binding)))  # fmt: skip
    if not bool((length > 0).all()):
        raise ErlangenError("lengths must be positive")
    corner = pos[..., faces, :]
    side = (corner.roll(-1, -2) - corner).norm(dim=-1).flatten(-2)
    other = twins.clamp(min=0)
    rest, held = (angle + angle[other]) / 2, (bond + bond[other]) / 2
    # Every bond is met twice, once from each of its half-edges.
    bonds = torch.where(twins >= 0, (bend * (theta - rest).square() / 2 + held) / 2, 0.0)
    return (stretch * (side - length).square() / 2 + bonds).sum(-1)


def _each(name: str, value: Tensor | float, pos: Tensor, sides: int) -> Tensor:
    given = torch.as_tensor(value, dtype=pos.dtype, device=pos.device)
    check_finite(given, name)
    if given.ndim and given.shape != (sides,):
        raise ShapeError(f"{name} has shape {tuple(given.shape)}; pass a number, or one for each half-edge ({sides},)")
    return given.expand(sides)


def _check(pos: Tensor, faces: Tensor, twins: Tensor) -> None:
    check_floating(pos, "pos")
    check_finite(pos, "pos")
    if pos.ndim < 2 or pos.shape[-1] != 3:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; pass [..., V, 3]")
    for name, table in (("faces", faces), ("twins", twins)):
        if table.dtype != torch.int64:
            raise DtypeError(f"{name} has dtype {table.dtype}; pass int64")
    if faces.ndim != 2 or faces.shape[1] != 3 or twins.shape != (faces.numel(),):
        raise ShapeError(f"faces {tuple(faces.shape)}, twins {tuple(twins.shape)}; pass [F, 3] and [3 F]")
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < pos.shape[-2]:
        raise ErlangenError(
            f"faces ranges from {int(faces.min())} to {int(faces.max())}; vertices are 0 to {pos.shape[-2] - 1}"
        )
    bound = twins >= 0
    if bool((twins < -1).any()) or bool((twins >= len(twins)).any()):
        raise ErlangenError(f"twins must be half-edges 0 to {len(twins) - 1}, or -1 where there is none")
    if not torch.equal(twins[twins[bound]], bound.nonzero()[:, 0]):
        raise ErlangenError("twins: a half-edge is bound to one that is not bound to it; each must be the other's")
