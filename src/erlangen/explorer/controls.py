"""Knobs for a group: numbers that a slider or a drag changes, and the element that they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from erlangen.errors import GroupElementError, MatrixFunctionError
from erlangen.groups import DirectProduct, Domain, Group, ProductRange, Shifts, SimpleRange

MOST_KNOBS = 6
"""Lie groups of larger dimension are explored along the elements of the audit."""

Place = tuple[float, float]
"""Where a pointer is on a picture: x to the right, y up, both from -1 to 1."""


@dataclass(frozen=True)
class Knob:
    """One number: its name, range, step and unit. Values are in the unit shown; ``whole`` numbers are counted."""

    name: str
    low: float
    high: float
    step: float
    unit: str = ""
    whole: bool = False

    def text(self, value: float) -> str:
        """The value with its unit."""
        number = f"{value:.0f}" if self.whole or self.step >= 1 else f"{value:.2f}"
        return f"{number} {self.unit}".rstrip()


class Control(Protocol):
    """Knobs whose values stand for elements of one group."""

    knobs: tuple[Knob, ...]

    def element(self, values: Sequence[float]) -> Tensor:
        """The element ``[*shape]`` of the values of all knobs."""
        ...

    def values(self, element: Tensor) -> list[float] | None:
        """Values that give an element ``[*shape]``; None where the knobs cannot reach it."""
        ...

    def drag(self, element: Tensor, start: Place, now: Place) -> Tensor:
        """The element after a drag across the picture that began at another element."""
        ...


def control_of(domain: Domain, elements: Tensor, extent: float) -> Control:
    """The knobs of a group, or of a range of it, whose ends are then those of the knobs.

    Args:
        domain: the group or range. Where several knobs together would leave a range, the element stays on its border.
        elements: elements ``[K, *shape]`` to step through where the group has no better knobs.
        extent: size of the data in the units of translations (half the width of an image in pixels).
    """
    within = domain if isinstance(domain, SimpleRange) else None
    group = domain.group if isinstance(domain, (SimpleRange, ProductRange)) else domain
    if isinstance(group, DirectProduct):
        domains = domain.domains if isinstance(domain, ProductRange) else group.factors
        parts = [control_of(d, p, extent) for d, p in zip(domains, group.split(elements), strict=True)]
        return ProductControl(group, parts)
    assert isinstance(group, Group)
    if isinstance(group, Shifts):
        return ShiftControl(group, within)
    if 0 < group.dim <= MOST_KNOBS and group.lie_algebra.shape[0] == group.dim:
        return LieControl(group, extent, elements.dtype, within)
    if group.shape == () and domain.order <= len(elements):
        return ListControl(group, domain.elements(), "element")
    return ListControl(group, elements, "element of the audit")


class LieControl:
    """Shifts, coordinates of the logarithm of the rest, and a mirror for groups with reflections: ``g = t exp(a) m``."""

    def __init__(self, group: Group, extent: float, dtype: torch.dtype, within: SimpleRange | None = None) -> None:
        self.group, self.dtype, self.within = group, dtype, within
        kinds = [_kind(A, group.space_dim) for A in group.lie_algebra]
        self.units = torch.tensor([_UNITS[kind] for kind, _ in kinds], dtype=torch.float64)
        self.kinds = [kind for kind, _ in kinds]
        self.is_shift = torch.tensor([kind == "shift" for kind in self.kinds])
        knobs = [_knob(kind, where, extent, within) for kind, where in kinds]
        generators = group.discrete_generators
        self.mirror = generators[0].to(dtype) if len(generators) else None
        if self.mirror is not None:
            knobs.append(Knob("mirror", 0, 1, 1, whole=True))
        self.extent, self.knobs = extent, tuple(knobs)

    def element(self, values: Sequence[float]) -> Tensor:
        """First the mirror where it is on, then turns and scales, then the shift."""
        coordinates = torch.tensor(list(values[: self.group.dim]), dtype=torch.float64) * self.units
        g = self.group.compose(
            *(self.group.exp((coordinates * part).to(self.dtype)) for part in (self.is_shift, ~self.is_shift))
        )
        mirrored = self.mirror is not None and values[-1] >= 0.5
        return self._inside(self.group.compose(g, self.mirror) if mirrored and self.mirror is not None else g)

    def _inside(self, g: Tensor) -> Tensor:
        return g if self.within is None or bool(self.within.contains(g)) else self.within.clamp(g[None])[0]

    def values(self, element: Tensor) -> list[float] | None:
        """What `element` turns back; None where there is no real logarithm."""
        element = element.double().cpu()
        shift = torch.zeros(self.group.dim, dtype=torch.float64)
        if bool(self.is_shift.any()):
            translation = self.group.translation(element)
            assert translation is not None
            shift[self.is_shift] = translation
            element = self.group.compose(self.group.exp(-shift), element)
        flag: list[float] = []
        if self.mirror is not None:
            improper = float(torch.linalg.det(self.group.linear(element))) < 0
            flag = [float(improper)]
            if improper:
                element = self.group.compose(element, self.group.inverse(self.mirror.double()))
        try:
            coordinates = self.group.log(element)
        except (GroupElementError, MatrixFunctionError):
            return None
        return [*((coordinates + shift) / self.units).tolist(), *flag]

    def drag(self, element: Tensor, start: Place, now: Place) -> Tensor:
        """Shifts follow the pointer; without shifts the picture turns with it, or grows with its distance."""
        change = torch.zeros(self.group.dim, dtype=torch.float64)
        moved = (now[0] - start[0], now[1] - start[1])
        shifts = [i for i, kind in enumerate(self.kinds) if kind == "shift"]
        turns = [i for i, kind in enumerate(self.kinds) if kind == "turn"]
        if len(shifts) >= 2:
            change[shifts[0]], change[shifts[1]] = (self.extent * m for m in moved)
        elif len(turns) == 3:  # a trackball: the axis lies in the picture, across the way of the pointer
            change[turns[0]], change[turns[1]] = -math.pi / 2 * moved[1], math.pi / 2 * moved[0]
        elif turns:
            change[turns[0]] = math.atan2(now[1], now[0]) - math.atan2(start[1], start[0])
        else:
            change += math.log(max(math.hypot(*now), 0.05) / max(math.hypot(*start), 0.05))
        return self._inside(self.group.compose(self.group.exp(change.to(self.dtype)), element))


class ShiftControl:
    """Whole pixels along every axis."""

    def __init__(self, group: Shifts, within: SimpleRange | None = None) -> None:
        self.group = group
        self.most = math.inf if within is None or within.distance is None else within.distance
        names = ("rows", "columns") if len(group.sizes) == 2 else tuple(f"axis {i}" for i in range(len(group.sizes)))
        self.knobs = tuple(
            Knob(f"shift of {name}", *self._ends(size), 1, "px", whole=True)
            for name, size in zip(names, group.sizes, strict=True)
        )

    def _ends(self, size: int) -> tuple[int, int]:
        most = math.floor(min(self.most, size))
        return max(-(size // 2), -most), min((size - 1) // 2, most)

    def element(self, values: Sequence[float]) -> Tensor:
        """Shifts modulo the sizes."""
        steps, length = [round(v) for v in values], math.hypot(*(round(v) for v in values))
        if length > self.most:  # towards the middle, by whole pixels
            steps = [math.trunc(v * self.most / length) for v in steps]
        return torch.tensor(steps) % torch.tensor(self.group.sizes)

    def values(self, element: Tensor) -> list[float]:
        """Shifts around zero."""
        return [
            float((int(g) + size // 2) % size - size // 2) for g, size in zip(element, self.group.sizes, strict=True)
        ]

    def drag(self, element: Tensor, start: Place, now: Place) -> Tensor:
        """The picture follows the pointer."""
        along = (start[1] - now[1], now[0] - start[0]) if len(self.group.sizes) == 2 else (now[0] - start[0],)
        steps = [round(size / 2 * d) for size, d in zip(self.group.sizes, along, strict=False)]
        steps += [0] * (len(self.group.sizes) - len(steps))
        moved = (element.cpu() + torch.tensor(steps)) % torch.tensor(self.group.sizes)
        return self.element(self.values(moved))


class ListControl:
    """Elements one after the other."""

    def __init__(self, group: Group, elements: Tensor, name: str) -> None:
        self.group, self.elements = group, elements.cpu()
        self.knobs = (Knob(name, 0, len(elements) - 1, 1, whole=True),)

    def element(self, values: Sequence[float]) -> Tensor:
        """The element at a position."""
        return self.elements[min(max(round(values[0]), 0), len(self.elements) - 1)]

    def values(self, element: Tensor) -> list[float] | None:
        """Position of an element of the list."""
        same = (self.elements == element.cpu()).flatten(1).all(1) if element.ndim else self.elements == element.cpu()
        places = same.nonzero()
        return [float(places[0, 0])] if len(places) else None

    def drag(self, element: Tensor, start: Place, now: Place) -> Tensor:
        """The whole list lies along the width of the picture."""
        here = self.values(element) or [0.0]
        step = round(len(self.elements) * (now[0] - start[0]) / 2)
        return self.elements[(int(here[0]) + step) % len(self.elements)]


class ProductControl:
    """The knobs of all factors, side by side; a drag moves the first one."""

    def __init__(self, group: DirectProduct, parts: Sequence[Control]) -> None:
        self.group, self.parts = group, list(parts)
        self.knobs = tuple(
            Knob(f"{factor.name}: {k.name}", k.low, k.high, k.step, k.unit, k.whole)
            for factor, part in zip(group.factors, parts, strict=True)
            for k in part.knobs
        )

    def element(self, values: Sequence[float]) -> Tensor:
        """The elements of the factors, joined."""
        components, start = [], 0
        for part in self.parts:
            stop = start + len(part.knobs)
            components.append(part.element(values[start:stop]))
            start = stop
        return self.group.join(*components)

    def values(self, element: Tensor) -> list[float] | None:
        """The values of all factors."""
        found: list[float] = []
        for part, component in zip(self.parts, self.group.split(element), strict=True):
            values = part.values(component)
            if values is None:
                return None
            found += values
        return found

    def drag(self, element: Tensor, start: Place, now: Place) -> Tensor:
        """Move the first factor."""
        first, *others = self.group.split(element)
        return self.group.join(self.parts[0].drag(first, start, now), *others)


# --- names of algebra directions -------------------------------------------------------------------------------------
_UNITS = {"turn": math.pi / 180, "shift": 1.0, "scale": math.log(2), "stretch": math.log(2)}
"""What one unit of a knob is in algebra coordinates: degrees, units of the data, factors of two."""


def _kind(A: Tensor, n: int) -> tuple[str, str]:
    """What ``exp`` of a basis matrix does, and where: a turn, a shift, a scale, or a stretch."""
    axes = "xyz"[:n] if n <= 3 else [str(i) for i in range(n)]
    linear = A[:n, :n]
    if A.shape[0] == n + 1 and not bool(linear.any()):
        return "shift", f"along {axes[int(A[:n, n].abs().argmax())]}"
    if bool((linear + linear.T).abs().max() < 1e-12):
        i, j = (int(k) for k in (linear.abs() > 1e-12).nonzero()[0])
        if n == 2:
            return "turn", ""
        return "turn", f"about {axes[3 - i - j]}" if n == 3 else f"in the plane {axes[i]}, {axes[j]}"
    if bool((linear - linear[0, 0] * torch.eye(n, dtype=linear.dtype)).abs().max() < 1e-12):
        return "scale", ""
    i, j = (int(k) for k in (linear.abs() > 1e-12).nonzero()[0])
    return "stretch", f"{axes[i]}{axes[j]}"


def _knob(kind: str, where: str, extent: float, within: SimpleRange | None) -> Knob:
    name = f"{kind} {where}".rstrip()
    if kind == "turn":
        if within is not None and within.degrees is not None and within.degrees < 180:
            return Knob(name, -within.degrees, within.degrees, within.degrees / 50, "°")
        return Knob(name, -180, 180, 1, "°")
    if kind == "shift":
        reach = extent if within is None or within.distance is None else within.distance
        return Knob(name, -reach, reach, reach / 50)
    reach = 1 if kind != "scale" or within is None or within.factor is None else math.log2(within.factor)
    return Knob(name, -reach, reach, reach / 50, "powers of 2")
