"""One chart for all of a matrix group, by its polar decomposition, and random elements of it in pairs with inverses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from erlangen.errors import (
    GroupElementError,
    GroupError,
    ShapeError,
    UnknownNameError,
    check_finite,
    first_index,
    is_whole,
)
from erlangen.groups.decompositions import polar
from erlangen.groups.linear import SL, SO, GLPlus, TrivialGroup
from erlangen.groups.rotations import draw_device, planar_rotation, random_rotations, standard_normal
from erlangen.numerics import check_square, log_sinhc, sym_exp

LinearGroup = SL | GLPlus | SO | TrivialGroup
"""Groups that the polar decomposition splits into symmetric matrices and rotations; either part may be missing."""

MAX_CONDITION = 1e6
"""Above this condition number float32 no longer resolves the coordinates."""

UNIT_DETERMINANT = 1e-4
"""Largest distance of the determinant from 1 in SL(n)."""


class PolarChart:
    """Global coordinates of a matrix group: ``exp(X) R`` has those of X and of log R (Mironenco and Forré 2024, the map xi).

    >>> chart = PolarChart(SL(2))
    >>> g = torch.tensor([[-1.0, 1.0], [0.0, -1.0]])  # which no exponential reaches
    >>> torch.allclose(chart.element(chart.coordinates(g)), g, atol=1e-6)
    True

    The exponential of SL(2) or GL+(2) misses elements such as ``[[-1, 1], [0, -1]]``; this map is onto. The coordinates are
    those of ``X + log R`` in ``group.lie_algebra``: first the symmetric part, then the rotation. For n = 2 the rotation is
    ``sqrt(2)`` times its angle in SL and GL+, whose basis is orthonormal, and the angle itself in SO; angles are in
    (-pi, pi].

    Args:
        group: SL(n), GL+(n), SO(n), or the trivial group.

    Raises:
        GroupError: another group.
    """

    def __init__(self, group: LinearGroup) -> None:
        if not isinstance(group, LinearGroup):
            raise GroupError(f"group = {group!r} has no polar chart; known are SL(n), GL+(n), SO(n), TrivialGroup(n)")
        self.group = group
        n = group.space_dim
        rotations = 0 if isinstance(group, TrivialGroup) else n * (n - 1) // 2
        self.symmetric_dim = group.dim - rotations
        """How many of the coordinates belong to the symmetric part."""

    def coordinates(self, g: Tensor) -> Tensor:
        """xi^-1: coordinates ``[..., dim]`` of elements ``[..., n, n]``.

        Differentiable, at equal singular values too, except where R turns by pi, the cut of its logarithm.

        Raises:
            GroupElementError: an element is not in the group (SL(n): determinant 1 up to 1e-4), or has a condition number
                above 1e6.
            ShapeError, DtypeError, NotFiniteError: g is no floating tensor of finite square matrices.
            MatrixFunctionError: n >= 4, and R turns a plane by pi.
        """
        check_elements(g, self.group)
        log_p, rotation = polar(g)
        symmetric = torch.einsum("dij,...ij->...d", self._symmetric_basis(g), log_p)
        if self.symmetric_dim == self.group.dim:
            return symmetric
        return torch.cat([symmetric, self._log_rotation(rotation) * self._rotation_unit], -1)

    def element(self, a: Tensor) -> Tensor:
        """xi: elements ``[..., n, n]`` of coordinates ``[..., dim]``.

        Raises:
            ShapeError: the last dimension is not the dimension of the group.
        """
        if a.shape[-1:] != (self.group.dim,):
            raise ShapeError(
                f"a has shape {tuple(a.shape)}, but {self.group.name} has coordinates [..., {self.group.dim}]"
            )
        n, k = self.group.space_dim, self.symmetric_dim
        eye = torch.eye(n, dtype=a.dtype, device=a.device).expand(*a.shape[:-1], n, n)
        P = sym_exp(torch.einsum("...d,dij->...ij", a[..., :k], self._symmetric_basis(a))) if k else eye
        return P @ SO(n).exp(a[..., k:] / self._rotation_unit) if k < self.group.dim else P

    @property
    def _rotation_unit(self) -> float:
        """Coordinate of a rotation by one radian."""
        return 1.0 if isinstance(self.group, SO) else math.sqrt(2)

    def _symmetric_basis(self, like: Tensor) -> Tensor:
        return self.group.lie_algebra[: self.symmetric_dim].to(like)

    def _log_rotation(self, rotation: Tensor) -> Tensor:
        if self.group.space_dim != 2:
            return SO(self.group.space_dim).log(rotation)
        sin, cos = rotation[..., 1, 0] - rotation[..., 0, 1], rotation[..., 0, 0] + rotation[..., 1, 1]
        tiny = (sin.abs() <= 8 * torch.finfo(sin.dtype).eps) & (cos < 0)  # half turns are pi, not -pi by round-off
        return torch.where(tiny, math.pi, torch.atan2(sin, cos))[..., None]


def check_elements(g: Tensor, group: LinearGroup) -> None:
    """Raise unless all matrices ``[..., n, n]`` are elements of the group that can be resolved; errors as in `PolarChart`."""
    check_square(g, "g")
    n = group.space_dim
    if g.shape[-1] != n:
        raise ShapeError(f"g has shape {tuple(g.shape)}, but {group.name} has elements [..., {n}, {n}]")
    check_finite(g, "g")
    det, s = torch.linalg.det(g.detach()), torch.linalg.svdvals(g.detach())
    _refuse(
        ~(det > 0), g, lambda i: f"is not in GL+({n}) (det = {det[i].item():.3g}); compose it with a reflection first"
    )
    _refuse(
        s[..., 0] > MAX_CONDITION * s[..., -1],
        g,
        lambda i: (
            f"is singular to working precision (singular values from {s[i][-1].item():.3g} to "
            f"{s[i][0].item():.3g}, condition number above {MAX_CONDITION:g}); keep elements nearer to the identity"
        ),
    )
    if isinstance(group, SL):
        _refuse(
            (det - 1).abs() > UNIT_DETERMINANT,
            g,
            lambda i: f"is not in SL({n}) (det = {det[i].item():.6g}); divide it by det^(1/{n}), or use GL+({n})",
        )
    elif not isinstance(group, GLPlus):
        _refuse(~group.contains(g.detach(), UNIT_DETERMINANT), g, lambda i: f"is not in {group.name}: {g[i].tolist()}")


def _refuse(bad: Tensor, g: Tensor, why: Callable[[tuple[int, ...]], str]) -> None:
    if bool(bad.any()):
        index = first_index(bad)
        raise GroupElementError(f"g{list(index) if index else ''} {why(index)}")


@dataclass(frozen=True)
class GroupSamples:
    """Elements of a group with their inverses.

    Attributes:
        group: the group.
        g: elements, float64 ``[N, n, n]``.
        inverse: their inverses ``[N, n, n]``.
        log_weight: log density ``[N]`` of Haar measure against the law that they were drawn from, up to one constant.
    """

    group: LinearGroup
    g: Tensor
    inverse: Tensor
    log_weight: Tensor

    @classmethod
    def of(cls, group: LinearGroup, g: Tensor) -> GroupSamples:
        """Given elements ``[N, n, n]``, all of weight one, such as those of a finite subgroup. Errors as `check_elements`."""
        check_elements(g, group)
        if g.ndim != 3 or len(g) == 0:
            raise ShapeError(f"g has shape {tuple(g.shape)}, but elements [N, {g.shape[-1]}, {g.shape[-1]}] are needed")
        g = g.double()
        # The transpose of a rotation is exact, so that quarter turns stay quarter turns.
        inverse = g.mT if isinstance(group, SO | TrivialGroup) else torch.linalg.inv(g)
        return cls(group, g, inverse, g.new_zeros(len(g)))

    @classmethod
    def from_factors(cls, group: SL | GLPlus, S: Tensor, R: Tensor) -> GroupSamples:
        """``g = S^(1/2) R`` and ``g^-1 = R^T S^(-1/2)`` from factors ``[N, n, n]``, all of weight one.

        Raises:
            GroupElementError: S is not positive definite or R no rotation; or the group preserves volume, and S does not
                (det S = 1 up to 1e-4, so that log S is traceless).
        """
        check_elements(S, group)
        check_elements(R, SO(group.space_dim))
        log_root = PolarChart(group).coordinates(S.double()) / 2
        if float((S - S.mT).abs().amax()) > 1e-5 * float(S.abs().amax()):
            raise GroupElementError("S is not symmetric; pass S = g g^T")
        X = torch.einsum("...d,dij->...ij", log_root, group.lie_algebra.to(log_root))
        return cls(group, sym_exp(X) @ R.double(), R.double().mT @ sym_exp(-X), X.new_zeros(len(X)))

    def moved(self, a: Tensor) -> GroupSamples:
        """The elements ``a g`` for an element a ``[n, n]`` of the group."""
        check_elements(a, self.group)
        a = a.to(self.g)
        return GroupSamples(self.group, a @ self.g, self.inverse @ torch.linalg.inv(a), self.log_weight)

    def __len__(self) -> int:
        return len(self.g)

    def __getitem__(self, index: slice | Tensor) -> GroupSamples:
        """Some of the elements."""
        return GroupSamples(self.group, self.g[index], self.inverse[index], self.log_weight[index])


@dataclass(frozen=True)
class PolarSampler:
    """Random elements ``S^(1/2) R``: S log-normal around the identity, R a rotation.

    Inverses are ``R^T S^(-1/2)``, from the negated logarithm, never by inverting a matrix.

    >>> PolarSampler(SL(2)).draw(8).g.shape
    torch.Size([8, 2, 2])

    Args:
        group: SL(n), GL+(n), SO(n) or the trivial group.
        variance: of each coordinate of ``log S / 2`` in the orthonormal basis: one number, or one for every direction of the
            group's symmetric part (SL(2): 2, GL+(2): 3). SO(n) and the trivial group do not use it.
        angle: half the range of the rotation angle in radians, at most pi; less than pi for n = 2 only.
        rotations: "uniform" draws, or for n = 2 "equidistant" ones with a common random offset.

    Raises:
        GroupError: a variance or angle that is not positive, an angle above pi or below it for n > 2, or as many variances
            as another group has: SL(n) admits no change of volume, and GL+(n) has one.
        UnknownNameError: `rotations` is not known.
    """

    group: LinearGroup
    variance: float | tuple[float, ...] = 0.1
    angle: float = math.pi
    rotations: Literal["uniform", "equidistant"] = "uniform"

    def __post_init__(self) -> None:
        chart = PolarChart(self.group)
        if isinstance(self.variance, tuple) and len(self.variance) != chart.symmetric_dim:
            volume = (
                "preserves volume: its log S is traceless" if isinstance(self.group, SL) else "does not force trace 0"
            )
            raise GroupError(
                f"variance has {len(self.variance)} entries, but the symmetric part of {self.group.name} has "
                f"{chart.symmetric_dim} directions ({self.group.name} {volume}); pass one entry for each"
            )
        for value in self.variance if isinstance(self.variance, tuple) else (self.variance,):
            if not 0 < value < math.inf:
                raise GroupError(f"variance = {self.variance!r}: give positive numbers")
        if not 0 < self.angle <= math.pi:
            raise GroupError(f"angle = {self.angle!r}: give radians above 0 and up to pi")
        if self.rotations not in ("uniform", "equidistant"):
            raise UnknownNameError(f"rotations = {self.rotations!r}; known are uniform, equidistant")
        if self.group.space_dim != 2 and (self.angle < math.pi or self.rotations == "equidistant"):
            raise GroupError(f"{self.group.name}: a range of angles and equidistant rotations exist for n = 2 only")

    def draw(self, count: int, *, generator: Generator | None = None) -> GroupSamples:
        """`count` elements in float64, on the generator's device.

        Raises:
            GroupError: `count` is below 1.
        """
        if not is_whole(count, 1):
            raise GroupError(f"count = {count!r}: draw at least one element")
        chart = PolarChart(self.group)
        R = self._draw_rotations(count, generator)
        k = chart.symmetric_dim
        if k == 0:
            return GroupSamples(self.group, R, R.mT, R.new_zeros(count))
        variance = R.new_tensor(self.variance).expand(k)
        a = standard_normal((count, k), generator) * variance.sqrt()
        X = torch.einsum("nd,dij->nij", a, self.group.lie_algebra[:k].to(a))
        log_weight = _log_polar_density(X) + (a.square() / (2 * variance)).sum(-1)
        return GroupSamples(self.group, sym_exp(X) @ R, R.mT @ sym_exp(-X), log_weight)

    def _draw_rotations(self, count: int, generator: Generator | None) -> Tensor:
        n, device = self.group.space_dim, draw_device(generator)
        if isinstance(self.group, TrivialGroup):
            return torch.eye(n, dtype=torch.float64, device=device).repeat(count, 1, 1)
        if n > 2:
            return random_rotations(n, (count,), generator)
        size = count if self.rotations == "uniform" else 1
        turns = torch.rand(size, generator=generator, dtype=torch.float64, device=device)
        if self.rotations == "equidistant":  # without the end point, which would count one rotation twice
            turns = (turns + torch.arange(count, dtype=torch.float64, device=device)) / count
        return planar_rotation(self.angle * (2 * turns - 1))


def _log_polar_density(X: Tensor) -> Tensor:
    """Log density ``[N]`` of Haar measure in the coordinates (X, R) of ``exp(X) R``, against ``dX dR``.

    In ``S = exp(2 X)`` it is the congruence-invariant measure ``det(S)^(-(n + 1) / 2) dS``.
    """
    values = torch.linalg.eigvalsh(X)
    i, j = torch.triu_indices(X.shape[-1], X.shape[-1], offset=1, device=X.device)
    return log_sinhc(values[..., i] - values[..., j]).sum(-1)
