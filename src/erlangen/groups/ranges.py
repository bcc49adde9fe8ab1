"""Ranges of groups: "rotations within 15 degrees", "shifts within 3 pixels". Sets of elements, no groups themselves.

>>> from erlangen.groups import SE, SO, Translation
>>> SO(2).within(degrees=15), Translation(2).within(3), SE(2).within(degrees=15, distance=3)
(SO(2) within 15 degrees, Translation(2) within 3, SE(2) within 15 degrees and 3)

A range holds the identity and with every element its inverse (which shifts farther where a scaling is part of it), and is not
closed: two rotations by 15 degrees make one by
30. What respects all elements of a range exactly respects all that they generate; what is meant by it is that data stay in
their usual place, and that nothing is said about far ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor
from typing_extensions import override

from erlangen.errors import GroupElementError, GroupError, OrbitError, first_index
from erlangen.groups.affine import SemidirectProduct, Translation
from erlangen.groups.base import MAX_ENUMERATION, Group, default_tol
from erlangen.groups.linear import CSO, SO, Scaling
from erlangen.groups.permutations import Shifts
from erlangen.groups.products import DirectProduct
from erlangen.groups.rotations import draw_device, planar_rotation, random_rotations, rotation_angle, standard_normal

__all__ = ["Domain", "ProductRange", "Range", "SimpleRange"]

LARGEST_ROTATION = 5
"""Rotations of R^n are drawn within an angle up to this n: beyond, nearly all that is proposed would be thrown away."""


class Range(ABC):
    """A set of elements of a group; made by ``group.within(...)``.

    Attributes:
        group: the group that the elements belong to.
        name: text that `erlangen.Symmetry` reads back, such as "SO(2) within 15 degrees".
        order: number of elements; ``math.inf`` where they are no finite set.
    """

    group: Group
    name: str
    order: float = math.inf

    @property
    def dim(self) -> int:
        """Dimension of the group."""
        return self.group.dim

    @property
    def is_compact(self) -> bool:
        """Whether `sample` draws evenly: in all directions in which the group has no end, there is a limit."""
        return self.group.is_compact

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one element."""
        return self.group.shape

    @property
    def element_dtype(self) -> torch.dtype | None:
        """As `Group.element_dtype`."""
        return self.group.element_dtype

    @abstractmethod
    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Boolean ``[...]``: which elements of the group lie in the range, up to `tol` (radians, lengths, shares)."""

    @abstractmethod
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Elements ``[*n, *shape]``, evenly from the range: each of its parts from the Haar measure of that part.

        Rotations are even in all rotations within the angle (for R^3 larger angles are more frequent), translations in the
        ball, scalings in their logarithm. What has no limit is drawn as the group draws it.
        """

    @abstractmethod
    def clamp(self, g: Tensor) -> Tensor:
        """Elements moved to the border of the range where they lie outside, along the way from the identity."""

    def elements(self, *, device: torch.device | str | None = None) -> Tensor:
        """All elements of a range of a finite group ``[order, *shape]``, the identity first.

        Raises:
            OrbitError: the range is no finite set, or has more than `MAX_ENUMERATION` elements.
        """
        if self.order == math.inf:
            raise OrbitError(f"{self.name} is infinite and cannot be listed; use .sample(n) or .grid(n)")
        g = self.group.elements(device=device)
        return g[self.contains(g)]

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """n equidistant elements from one end to the other, where the range is a line; `GroupError` otherwise."""
        raise GroupError(f"{self.name} has no quasi-uniform grid; use .sample(n, generator=...)")

    def check(self, g: Tensor, *, name: str = "g") -> None:
        """Raise `GroupElementError` unless every element belongs to the group and lies in the range."""
        self.group.check(g, name=name)
        bad = ~self.contains(g)
        if bool(bad.any()):
            index = first_index(bad)
            raise GroupElementError(
                f"{name}{list(index) if index else ''} lies outside of {self.name}: {g[index].tolist()}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Range) and (self.group, self.name) == (other.group, other.name)

    def __hash__(self) -> int:
        return hash((self.group, self.name))

    def __repr__(self) -> str:
        return self.name


Domain = Group | Range
"""The elements that a symmetry speaks of: all of a group, or a range of it."""


class SimpleRange(Range):
    """A range of a group that is no product; see `erlangen.groups.Group.within`."""

    def __init__(self, group: Group, degrees: float | None, distance: float | None, factor: float | None) -> None:
        self.group, self.degrees, self.distance, self.factor = group, degrees, distance, factor
        _check_limits(group, degrees, distance, factor)
        self._angle = None if degrees is None else math.radians(degrees)
        words = [
            *([] if degrees is None else [f"{degrees:.12g} degrees"]),
            *([] if distance is None else [f"{distance:.12g}"]),
            *([] if factor is None else [f"factor {factor:.12g}"]),
        ]
        self.name = f"{group.name} within {' and '.join(words)}"
        if group.order != math.inf:
            self.order = int(self.contains(group.elements()).sum())

    @property
    @override
    def is_compact(self) -> bool:
        shifts = _has_shifts(self.group) and self.distance is None
        scales = _has_scales(self.group) and self.factor is None
        return self.group.is_compact or not (shifts or scales)

    @override
    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        inside = torch.ones(self.group.batch_shape(g), dtype=torch.bool, device=g.device)
        dtype = g.dtype if g.is_floating_point() else torch.float64
        tol = default_tol(dtype) if tol is None else tol
        if self._angle is not None or self.factor is not None:
            scale, rotation = _polar(self.group, g, dtype)
            if self._angle is not None:
                inside &= _angle(rotation) <= self._angle + tol
            if self.factor is not None:
                inside &= scale.log().abs() <= math.log(self.factor) + tol
        if self.distance is not None:
            inside &= _shift(self.group, g, dtype).norm(dim=-1) <= self.distance * (1 + tol) + tol
        return inside

    @override
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        size = (n,) if isinstance(n, int) else tuple(n)
        group, place = self.group, device or draw_device(generator)
        if group.order != math.inf:
            inside = self.elements(device=draw_device(generator))
            return inside[torch.randint(len(inside), size, generator=generator, device=inside.device)].to(place)
        if isinstance(group, SemidirectProduct):
            g = group.sample(size, generator=generator, dtype=torch.float64)
            linear = self._draw_linear(group.H, size, generator)
            shift = group.translation(g) if self.distance is None else self._draw_shift(size, generator)
            g = group.join(group.H.linear(linear, dtype=torch.float64), shift)
        else:
            g = self._draw_linear(group, size, generator)
        return g.to(dtype=dtype or torch.get_default_dtype(), device=place)

    def _draw_linear(self, group: Group, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        """Elements of a group that fixes the origin, float64 or indices."""
        if group.order != math.inf:
            inside = group.elements(device=draw_device(generator))
            if self._angle is not None:
                inside = inside[SimpleRange(group, self.degrees, None, None).contains(inside)]
            return inside[torch.randint(len(inside), size, generator=generator, device=inside.device)]
        if isinstance(group, (SO, CSO)):
            g = group.sample(size, generator=generator, dtype=torch.float64)
            scale, rotation = _polar(group, g, torch.float64)
            if self._angle is not None:
                rotation = _rotations_within(group.space_dim, size, self._angle, generator)
            if self.factor is not None:
                scale = self._draw_scale(size, generator)
            return scale[..., None, None] * rotation if isinstance(group, CSO) else rotation
        if isinstance(group, Scaling) and self.factor is not None:
            return group.exp(self._draw_scale(size, generator).log()[..., None])
        if self._angle is not None:  # rotations about one axis
            return group.exp(self._turns(group) * _between(-1, 1, size, generator)[..., None])
        return group.sample(size, generator=generator, dtype=torch.float64)

    def _draw_scale(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        reach = math.log(self.factor or 1)
        return _between(-reach, reach, size, generator).exp()

    def _draw_shift(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        n = self.group.space_dim
        direction = standard_normal((*size, n), generator)
        radius = (self.distance or 0) * _between(0, 1, size, generator) ** (1 / n)
        return radius[..., None] * direction / direction.norm(dim=-1, keepdim=True)

    def _turns(self, group: Group) -> float:
        """Algebra coordinate of the largest rotation of a group of one dimension."""
        step = 0.1
        one = _angle(group.linear(group.exp(torch.tensor([step], dtype=torch.float64))))
        return (self._angle or 0) * step / float(one)

    @override
    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        group = self.group
        limited = self._angle is not None or self.distance is not None or self.factor is not None
        if group.dim != 1 or group.order != math.inf or not limited or group.discrete_generators.numel():
            return super().grid(n)
        if self._angle is not None:
            reach = self._turns(group)
        else:
            reach = math.log(self.factor) if self.factor is not None else self.distance
        assert reach is not None
        places = torch.linspace(-reach, reach, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)
        return group.exp(places[:, None]).to(dtype=dtype or torch.get_default_dtype(), device=device or "cpu")

    @override
    def clamp(self, g: Tensor) -> Tensor:
        group = self.group
        if group.order != math.inf:
            return g
        if not isinstance(group, SemidirectProduct):
            return self._clamp_linear(group, g)
        linear, shift = group.linear(g), group.translation(g)
        if self.distance is not None:
            length = shift.norm(dim=-1, keepdim=True)
            shift = torch.where(length > self.distance, shift * self.distance / length.clamp_min(1e-300), shift)
        inner = linear if group.H.order != math.inf else self._clamp_linear(group.H, linear)
        return group.join(inner, shift)

    def _clamp_linear(self, group: Group, g: Tensor) -> Tensor:
        scale, rotation = _polar(group, g, g.dtype)
        if self._angle is not None:
            angle = _angle(rotation)
            far = angle > self._angle
            share = torch.where(far, self._angle / angle.clamp_min(1e-300), 1.0)
            turns = group if not isinstance(group, (SO, CSO)) else SO(group.space_dim)
            # The logarithm exists up to pi, beyond which no angle lies; it is asked for where it is needed alone.
            near = torch.where(far[..., None, None], rotation, turns.identity().to(rotation))
            shorter = turns.exp(share[..., None] * turns.log(near))
            rotation = torch.where(far[..., None, None], shorter, rotation)
        if self.factor is not None:
            scale = scale.clamp(1 / self.factor, self.factor)
        return scale[..., None, None] * rotation if _has_scales(group) else rotation


class ProductRange(Range):
    """Ranges and groups side by side: elements of their direct product with every component in its own range.

    >>> ProductRange(SO(2).within(degrees=15), Translation(1))
    SO(2) within 15 degrees x Translation(1)
    """

    def __init__(self, *domains: Domain) -> None:
        self.domains = domains
        group = DirectProduct(*(d.group if isinstance(d, Range) else d for d in domains))
        if len(group.factors) != len(domains):
            raise GroupError("ProductRange takes groups that are no products; name all factors side by side")
        self.group = self._product = group
        self.name = " x ".join(d.name for d in domains)
        finite = all(d.order != math.inf for d in domains)
        self.order = math.prod(int(d.order) for d in domains) if finite else math.inf

    @property
    @override
    def is_compact(self) -> bool:
        return all(d.is_compact for d in self.domains)

    def _parts(self, g: Tensor) -> list[tuple[Domain, Tensor]]:
        return list(zip(self.domains, self._product.split(g), strict=True))

    @override
    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        inside = [d.contains(part, tol) for d, part in self._parts(g) if isinstance(d, Range)]
        return torch.stack(inside).all(0) if inside else torch.ones(self._product.batch_shape(g), dtype=torch.bool)

    @override
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        draws = [d.sample(n, generator=generator, dtype=dtype, device=device) for d in self.domains]
        return self._product.join(*draws)

    @override
    def clamp(self, g: Tensor) -> Tensor:
        return self._product.join(*(d.clamp(part) if isinstance(d, Range) else part for d, part in self._parts(g)))


def make_range(
    group: Group, limit: float | None, degrees: float | None, distance: float | None, factor: float | None
) -> Range:
    """The work of `Group.within`."""
    if limit is not None:
        if not _has_shifts(group) or not isinstance(group, (Translation, Shifts)) or distance is not None:
            raise GroupError(
                f"{group.name}.within({limit:g}): say what is limited, {_choices(group)}; a number alone is a distance, of "
                "groups of shifts"
            )
        distance = limit
    if degrees is None and distance is None and factor is None:
        raise GroupError(f"{group.name}.within(): give a limit, {_choices(group)}")
    return SimpleRange(group, degrees, distance, factor)


# --- limits ----------------------------------------------------------------------------------------------------------
def _check_limits(group: Group, degrees: float | None, distance: float | None, factor: float | None) -> None:
    if isinstance(group, DirectProduct):
        raise GroupError(
            f"{group.name} is a product; give its factors their ranges, as 'SO(2) within 15 degrees x Symmetric(5)' or "
            "er.groups.ProductRange(er.SO(2).within(degrees=15), er.Symmetric(5))"
        )
    for name, value, has in (
        ("degrees", degrees, _has_angles(group)),
        ("distance", distance, _has_shifts(group)),
        ("factor", factor, _has_scales(group)),
    ):
        if value is not None and not has:
            raise GroupError(f"{name} = {value:g}: {group.name} {_lack(group, name)}; its limits are {_choices(group)}")
    if degrees is not None and not 0 < degrees <= 180:
        raise GroupError(f"degrees = {degrees!r}: give an angle above 0 and up to 180, to both sides")
    if distance is not None and not 0 < distance < math.inf:
        raise GroupError(
            f"distance = {distance!r}: give a positive length, in the units of the data (pixels of images)"
        )
    if factor is not None and not 1 < factor < math.inf:
        raise GroupError(f"factor = {factor!r}: give a number above 1; scales lie between 1 / factor and factor")
    if degrees is not None and group.order == math.inf:
        n = group.space_dim
        if n > LARGEST_ROTATION:
            raise GroupError(f"degrees: rotations within an angle are drawn up to R^{LARGEST_ROTATION}, not R^{n}")
    if group.order != math.inf and group.order > MAX_ENUMERATION:
        raise GroupError(
            f"{group.name} has more than {MAX_ENUMERATION:,} elements, too many to look for those in a range"
        )


def _lack(group: Group, name: str) -> str:
    if name == "degrees" and group.space_dim > 0 and not isinstance(group, Shifts):
        mirrors = bool((torch.linalg.det(_generator_matrices(group)) < 0).any())
        if mirrors:
            return "has mirrors, which no angle measures"
        return "has no rotations of its own"
    return {"degrees": "has no rotations", "distance": "has no shifts", "factor": "has no scalings"}[name]


def _choices(group: Group) -> str:
    names = [
        name
        for name, has in (
            ("degrees=", _has_angles(group)),
            ("distance=", _has_shifts(group)),
            ("factor=", _has_scales(group)),
        )
        if has
    ]
    return ", ".join(names) or "none: ranges are of rotations, shifts and scalings"


def _has_shifts(group: Group) -> bool:
    return isinstance(group, (SemidirectProduct, Shifts))


def _has_scales(group: Group) -> bool:
    inner = group.H if isinstance(group, SemidirectProduct) else group
    return isinstance(inner, (Scaling, CSO))


def _has_angles(group: Group) -> bool:
    """Whether the linear parts are rotations (times scalings): SO, CSO, finite groups and circles of rotations."""
    inner = group.H if isinstance(group, SemidirectProduct) else group
    if isinstance(inner, (SO, CSO)):
        return True
    if inner.space_dim < 2 or isinstance(inner, (Shifts, SemidirectProduct)) or inner.order == 1:
        return False
    if inner.order == math.inf and (inner.dim != 1 or not inner.is_compact):
        return False
    matrices = _generator_matrices(inner)
    eye = torch.eye(inner.space_dim, dtype=torch.float64)
    near = (matrices @ matrices.mT - eye).abs().amax() < 1e-6 if len(matrices) else True
    return bool(near) and not bool((torch.linalg.det(matrices) < 0).any())


def _generator_matrices(group: Group) -> Tensor:
    """Linear parts of elements that generate the group, or nearly all of it, float64."""
    found = [group.linear(group.discrete_generators, dtype=torch.float64).double()]
    if group.dim:
        steps = 0.1 * torch.eye(group.dim, dtype=torch.float64)
        found.append(group.linear(group.exp(steps), dtype=torch.float64).double())
    return torch.cat(found)


# --- parts of elements -----------------------------------------------------------------------------------------------
def _polar(group: Group, g: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale ``[...]``, or one ``[]`` where the group has none, and rotation ``[..., n, n]`` of the linear parts."""
    linear = group.linear(g, dtype=dtype)
    if not _has_scales(group):
        return linear.new_ones(()), linear
    scale = linear.norm(dim=(-2, -1)) / math.sqrt(linear.shape[-1])
    return scale, linear / scale[..., None, None]


def _shift(group: Group, g: Tensor, dtype: torch.dtype) -> Tensor:
    """Translations ``[..., n]``; of a periodic grid the shorter way round."""
    if isinstance(group, Shifts):
        sizes = torch.tensor(group.sizes, device=g.device)
        return torch.minimum(g, sizes - g).to(dtype)
    shift = group.translation(g, dtype=dtype)
    assert shift is not None
    return shift


def _angle(rotation: Tensor) -> Tensor:
    """Largest angle ``[...]`` in radians by which a rotation ``[..., n, n]`` turns a plane."""
    n = rotation.shape[-1]
    if n == 2:
        return torch.atan2(rotation[..., 1, 0] - rotation[..., 0, 1], rotation[..., 0, 0] + rotation[..., 1, 1]).abs()
    if n == 3:
        return rotation_angle(rotation)
    return torch.linalg.eigvals(rotation).angle().abs().amax(-1)


# --- drawing ---------------------------------------------------------------------------------------------------------
def _between(low: float, high: float, size: tuple[int, ...], generator: Generator | None) -> Tensor:
    """Uniform numbers, float64."""
    options: dict[str, Any] = {"dtype": torch.float64, "device": draw_device(generator)}
    return low + (high - low) * torch.rand(size, generator=generator, **options)


def _rotations_within(n: int, size: tuple[int, ...], limit: float, generator: Generator | None) -> Tensor:
    """Rotations from Haar measure on those that turn no plane by more than `limit`, float64 ``[*size, n, n]``.

    The angles theta of the planes have, with u = 1 - cos theta, the density ``prod_{i<j} (u_i - u_j)^2``, times ``prod u_i``
    for odd n (Weyl's integration formula); they are drawn by rejection from the uniform ones. The planes are those of a
    Haar rotation.
    """
    planes, largest = n // 2, 1 - math.cos(limit)
    # The largest value of the density with all u in [0, largest]; for n = 5 at u = (1, 1/3).
    bound = {2: 1.0, 3: largest, 4: largest**2, 5: 4 / 27 * largest**4}[n]
    count = math.prod(size)
    kept: list[Tensor] = []
    while sum(map(len, kept)) < count:
        angles = _between(-limit, limit, (4 * count + 16, planes), generator)
        u = 2 * (angles / 2).sin().square()
        density = u.prod(-1) if n % 2 else torch.ones_like(u[:, 0])
        for i in range(planes):
            for j in range(i):
                density = density * (u[:, i] - u[:, j]).square()
        kept.append(angles[_between(0, bound, (len(angles),), generator) < density])
    angles = torch.cat(kept)[:count]
    if n == 2:
        return planar_rotation(angles[:, 0]).reshape(*size, 2, 2)
    blocks = torch.eye(n, dtype=torch.float64, device=angles.device).repeat(count, 1, 1)
    for i in range(planes):
        blocks[:, 2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = planar_rotation(angles[:, i])
    turns = random_rotations(n, (count,), generator)
    return (turns @ blocks @ turns.mT).reshape(*size, n, n)
