"""How far a registration or a pose is off, and how well a structure keeps its distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, check_finite, check_floating
from erlangen.geometry import align
from erlangen.groups import SE
from erlangen.groups.rotations import rotation_angle


@dataclass(frozen=True)
class RegistrationErrors:
    """Errors of motions, and the share of pairs that count as registered.

    Attributes:
        degrees: angle between the found and the true rotation, ``[B]``.
        distance: between the found and the true shift, ``[B]``, in units of the points.
        recall: share of the pairs within both limits.
        mean_degrees, mean_distance: over those pairs, as such tables usually give them; NaN where there are none.
    """

    degrees: Tensor
    distance: Tensor
    recall: float
    mean_degrees: float
    mean_distance: float


def registration_errors(
    found: Tensor, true: Tensor, *, degrees: float = 15.0, distance: float = 0.3
) -> RegistrationErrors:
    """Rotation error, translation error and recall of rigid motions.

    >>> true = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    >>> found = true.clone()
    >>> found[1, 0, 3] = 0.5
    >>> errors = registration_errors(found, true)
    >>> errors.recall, errors.distance.tolist()
    (0.5, [0.0, 0.5])

    Args:
        found, true: elements of SE(3), ``[B, 4, 4]``, from the one cloud to the other.
        degrees, distance: what a registered pair is off by at most; by default those of indoor scans.

    Raises:
        ShapeError: not ``[B, 4, 4]`` of one shape.
        GroupElementError: what is no rigid motion.
        ErlangenError: a limit that is negative.
    """
    if found.shape != true.shape or found.ndim != 3 or found.shape[1:] != (4, 4):
        raise ShapeError(f"found has shape {tuple(found.shape)} and true {tuple(true.shape)}; give both [B, 4, 4]")
    if degrees < 0 or distance < 0:
        raise ErlangenError(f"degrees = {degrees}, distance = {distance}; give limits that are not negative")
    group = SE(3)
    group.check(found, name="found")
    group.check(true, name="true")
    between = group.linear(true).mT @ group.linear(found)
    angle = rotation_angle(between).rad2deg()
    far = (found[:, :3, 3] - true[:, :3, 3]).norm(dim=-1)
    within = (angle <= degrees) & (far <= distance)
    recall = float(within.double().mean()) if len(within) else float("nan")
    return RegistrationErrors(angle, far, recall, float(angle[within].mean()), float(far[within].mean()))


def lddt(
    found: Tensor,
    true: Tensor,
    *,
    within: float = 15.0,
    bounds: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0),
    residue: Tensor | None = None,
) -> Tensor:
    """Local distance difference test of each residue: the share of its distances to others that a model keeps.

    >>> true = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    >>> lddt(true + 5, true).tolist() == [1.0] * 10
    True

    Distances of the true structure below `within` count, each as kept within 0.5, 1, 2 and 4; the score is the mean of the
    four shares. It needs no superposition: motions, and reflections too, change nothing.

    Args:
        found, true: places of one atom for each residue, ``[..., N, 3]``, in Angstrom.
        within: radius of inclusion.
        bounds: what a kept distance may be off by.
        residue: integers ``[N]``: distances within a residue of the same number are left out, so that all atoms may be given;
            by default every row is one residue.

    Returns:
        ``[..., N]``, in [0, 1]; the mean is the score of the model. NaN where nothing lies within the radius.

    Raises:
        ShapeError: of different shape.
        ErlangenError: a radius or bound that is not positive.
        DataError: a place that is not finite.

    Source: Mariani, Biasini, Barbato and Schwede, Bioinformatics 29 (2013).
    """
    check_floating(found, "found")
    check_floating(true, "true")
    n = true.shape[-2] if true.ndim >= 2 else 0
    if found.shape != true.shape or true.ndim < 2 or true.shape[-1] != 3:
        raise ShapeError(f"found has shape {tuple(found.shape)} and true {tuple(true.shape)}; give both [..., N, 3]")
    if not within > 0 or not bounds or not min(bounds) > 0:
        raise ErlangenError(f"within = {within}, bounds = {bounds}; give positive numbers")
    if residue is None:
        residue = torch.arange(n, device=true.device)
    if residue.shape != (n,):
        raise ShapeError(f"residue has shape {tuple(residue.shape)}; give [{n}], a number for each row")
    for name, x in (("found", found), ("true", true)):
        if not bool(x.isfinite().all()):
            raise DataError(f"{name} has entries that are not finite; leave out atoms that are not known")
    far = [torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist") for x in (found, true)]
    counted = (far[1] < within) & (residue[:, None] != residue[None])
    off = (far[0] - far[1]).abs()
    kept = torch.stack([(off < bound) & counted for bound in bounds]).double().mean(0).sum(-1)
    return (kept / counted.sum(-1)).to(true.dtype)


@dataclass(frozen=True)
class PoseErrors:
    """How far joints of bodies are off, over all poses and joints.

    Attributes:
        mpjpe: mean distance per joint, after the roots are put on each other; in units of the points.
        pa_mpjpe: the same after the similarity (rotation, shift and scale) that brings each pose closest to the true one.
        pck: percentage of joints, roots on each other, that are off by less than the limit.
        auc: mean of that percentage over 31 limits from zero to this one.
    """

    mpjpe: float
    pa_mpjpe: float
    pck: float
    auc: float


def pose_errors(found: Tensor, true: Tensor, *, root: int | None = 0, limit: float = 150.0) -> PoseErrors:
    """The usual errors of three-dimensional body poses.

    >>> true = 100 * torch.randn(4, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> errors = pose_errors(1.1 * true + 500, true)
    >>> errors.mpjpe > 10, errors.pa_mpjpe < 1e-9
    (True, True)

    Limits are strict and begin with zero, so that perfect poses have 100 percent of joints within the limit and an area of
    96.8 (30 of 31), as in the scripts that tables of this field come from.

    Args:
        found, true: joints ``[..., J, 3]``, in millimetres for the default limit.
        root: the joint that is put on the true one; none where poses are compared in place.
        limit: of the percentage of right joints.

    Raises:
        ShapeError: not ``[..., J, 3]`` of one shape, or no pose at all.
        DtypeError, NotFiniteError: joints that are no finite floating numbers.
        ErlangenError: there is no such root, or the limit is not positive.

    Source: Ionescu et al., IEEE TPAMI 36 (2014) (MPJPE); Mehta et al., 3DV 2017 (PCK and AUC in space).
    """
    for name, joints in (("found", found), ("true", true)):
        check_floating(joints, name)
        check_finite(joints, name)
    if found.shape != true.shape or true.ndim < 2 or true.shape[-1] != 3 or not true.numel():
        raise ShapeError(f"found has shape {tuple(found.shape)} and true {tuple(true.shape)}; give both [..., J, 3]")
    if not 0 < limit < float("inf"):
        raise ErlangenError(f"limit = {limit}; give a positive number")
    if root is not None:
        if not -true.shape[-2] <= root < true.shape[-2]:
            raise ErlangenError(f"root = {root}; poses have joints 0 to {true.shape[-2] - 1}")
        found, true = (joints - joints[..., [root], :] for joints in (found, true))
    off = (found - true).norm(dim=-1)
    fitted = align(found, true, scale=True, on_degenerate="allow")
    aligned = (fitted.apply(found) - true).norm(dim=-1)
    limits = torch.linspace(0, limit, 31, dtype=off.dtype, device=off.device)
    shares = 100 * (off[..., None] < limits).double().flatten(0, -2).mean(0)
    return PoseErrors(float(off.mean()), float(aligned.mean()), float(shares[-1]), float(shares.mean()))
