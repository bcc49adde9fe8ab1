"""Sets of velocities, and how a flow moves states that have a slice for each of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions import Action, Image, Sequence, Tree
from erlangen.actions.base import check_tensor
from erlangen.actions.discrete import gather_axis
from erlangen.errors import ActionError, DtypeError, ErlangenError, ErlangenWarning, ShapeError, check_integer
from erlangen.groups import Cyclic, Flow, Group, Shifts

Velocities = tuple[tuple[int, ...], ...]


def velocity_grid(reach: int) -> Tensor:
    """All velocities with components from -reach to reach, int64 ``[(2 reach + 1)^2, 2]``: (rows, columns) per frame.

    >>> velocity_grid(1)[:4].tolist()
    [[-1, -1], [-1, 0], [-1, 1], [0, -1]]

    Raises:
        ErlangenError: `reach` is no integer or negative.
    """
    check_integer("reach", reach, 0)
    steps = torch.arange(-reach, reach + 1)
    return torch.cartesian_prod(steps, steps)


def check_velocities(velocities: Tensor, moduli: tuple[int, ...], unit: str) -> Velocities:
    """The rows ``[V, k]`` as tuples, if they are different whole numbers below the moduli; warn where 0 is missing."""
    k = len(moduli)
    if velocities.ndim != 2 or velocities.shape[0] == 0 or velocities.shape[1] != k:
        raise ShapeError(f"velocities has shape {tuple(velocities.shape)}; give [V, {k}] with V of at least 1")
    if velocities.dtype == torch.bool or velocities.is_floating_point() or velocities.is_complex():
        raise DtypeError(
            f"velocities has dtype {velocities.dtype}, but a state moves by whole {unit}; pass integers: rounding or "
            "resampling would break the equivariance silently"
        )
    rows: Velocities = tuple(tuple(row) for row in velocities.tolist())
    for index, row in enumerate(rows):
        if any(abs(step) >= size for step, size in zip(row, moduli, strict=True)):
            raise ErlangenError(
                f"velocities[{index}] = {row} goes around in one frame: components must be smaller than {moduli} {unit}; "
                "take the remainder"
            )
    remainders = [tuple(step % size for step, size in zip(row, moduli, strict=True)) for row in rows]
    twice = [row for index, row in enumerate(rows) if remainders[index] in remainders[:index]]
    if twice:
        raise ErlangenError(f"velocities holds {twice[0]} twice (modulo {moduli}); leave one out")
    if (0,) * k not in remainders:
        warnings.warn(
            "velocities lacks 0: no slice rests, so what does not move is always seen as moving; add zero unless that is meant",
            ErlangenWarning,
            stacklevel=3,
        )
    return rows


def slices_before(velocities: Tensor, moduli: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Where each slice nu comes from when a flow of velocity nu0 acts: the index of nu - nu0 modulo the sizes.

    Args:
        velocities: ``[V, k]``.
        moduli: ``[k]``.
        shift: nu0, ``[..., k]``.

    Returns:
        Index ``[..., V]``, and whether there is such a slice; where there is none the index is 0.
    """
    wanted = (velocities - shift[..., None, :]) % moduli
    same = (wanted[..., :, None, :] == velocities % moduli).all(-1)
    return same.int().argmax(-1), same.any(-1)


@dataclass(frozen=True)
class DriftingStates(Action):
    """States ``[..., T, V, C, H, W]`` under a `Flow` of `Shifts`: ``(psi(nu0) h)_t(x, nu) = h_t(x - t nu0, nu - nu0)``.

    Velocities count modulo the sizes of the torus. A slice whose velocity ``nu - nu0`` is not in the set is not known: it is
    filled with zeros, and `mask` leaves it out. A set that is closed under addition has no such slices.

    Args:
        velocities: velocities (rows, columns) of the slices, in their order.
    """

    velocities: Velocities
    item_ndim = 5

    @property
    @override
    def name(self) -> str:
        return f"drifting states({len(self.velocities)} velocities)"

    def check_group(self, group: Group) -> None:
        """Only a flow of shifts of the plane."""
        if not isinstance(group, Flow) or not isinstance(group.group, Shifts) or len(group.group.sizes) != 2:
            raise ActionError(f"{self.name}: {group.name} is no flow on a torus; use Flow(Shifts(H, W), velocities)")

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move frames, then slices."""
        x = check_tensor(x, self.name, lead=len(group.batch_shape(g)), item_ndim=5)
        return _moved_slices(Sequence(Image(), -5).apply(group, g, x), *self._before(group, g))

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        """Slices that come from another one of the set."""
        _, known = self._before(group, g)
        return None if bool(known.all()) else _over_slices(known, x)

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Where no slice is lost."""
        return self._before(group, g)[1].all(-1)

    def _before(self, group: Group, g: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(group, Flow)
        assert isinstance(group.group, Shifts)
        moduli = torch.tensor(group.group.sizes, device=g.device)
        return slices_before(torch.tensor(self.velocities, device=g.device), moduli, group.at(g, 1))


@dataclass(frozen=True)
class Spun(Action):
    """A sequence under a cyclic group whose element k is a velocity: frame t moves by k t steps, frame 0 not at all.

    Args:
        frame: the action on one frame.
        time_axis: the time axis, negative.
    """

    frame: Action
    time_axis: int

    @property
    def item_ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Trailing axes from the time axis on."""
        return -self.time_axis

    @property
    @override
    def name(self) -> str:
        return f"spun({self.frame.name}, {self.time_axis})"

    def check_group(self, group: Group) -> None:
        """A cyclic group that fits the frame."""
        if not isinstance(group, Cyclic):
            raise ActionError(f"{self.name}: the elements of {group.name} are no velocities; use Cyclic(n)")
        self.frame.check_group(group)

    @override
    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        lead = len(group.batch_shape(g))
        x = check_tensor(x, self.name, lead=lead, item_ndim=self.item_ndim)
        axis = x.ndim + self.time_axis
        elements = self._elements(group, g, x.shape[axis])
        return self.frame.apply(group, elements, x.movedim(axis, lead)).movedim(lead, axis)

    @override
    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        return self.frame.is_exact(group, self._elements(group, g, x.shape[self.time_axis]), x).all(-1)

    @override
    def resamples(self, group: Group) -> bool:
        return self.frame.resamples(group)

    @override
    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        lead, axis = len(group.batch_shape(g)), x.ndim + self.time_axis
        known = self.frame.mask(group, self._elements(group, g, x.shape[axis]), x.movedim(axis, lead))
        return None if known is None else known.movedim(lead, axis)

    def _elements(self, group: Group, g: Tensor, frames: int) -> Tensor:
        return g[..., None] * torch.arange(frames, device=g.device) % int(group.order)


@dataclass(frozen=True)
class SpinningStates(Action):
    """States ``[..., T, V, C, H, W]`` of fields under a cyclic group of velocities, the slices as in `DriftingStates`.

    Args:
        velocities: steps of ``2 pi / order`` per frame of each slice.
        order: of the group that counts the velocities; that of the group which acts divides it.
        field: the action on one map ``[..., C, H, W]``.
    """

    velocities: Velocities
    order: int
    field: Action
    item_ndim = 5

    @property
    @override
    def name(self) -> str:
        return f"spinning states({len(self.velocities)} velocities, {self.field.name})"

    def check_group(self, group: Group) -> None:
        """A cyclic group whose order divides that of the velocities."""
        Spun(self.field, -5).check_group(group)
        if self.order % int(group.order):
            raise ActionError(f"{self.name}: the order of {group.name} does not divide {self.order}")

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Move frames, then slices."""
        return _moved_slices(Spun(self.field, -5).apply(group, g, x), *self._before(group, g))

    def mask(self, group: Group, g: Tensor, x: Tree) -> Tensor | None:
        """Slices that come from another one of the set, and their pixels that come from inside of the map."""
        _, known = self._before(group, g)
        slices = None if bool(known.all()) else _over_slices(known, x)
        pixels = Spun(self.field, -5).mask(group, g, x)
        return slices if pixels is None else pixels if slices is None else pixels & slices

    def is_exact(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Where no slice is lost and no pixel interpolated."""
        return Spun(self.field, -5).is_exact(group, g, x) & self._before(group, g)[1].all(-1)

    def resamples(self, group: Group) -> bool:
        """Whether pixels are interpolated."""
        return self.field.resamples(group)

    def _before(self, group: Group, g: Tensor) -> tuple[Tensor, Tensor]:
        velocities = torch.tensor(self.velocities, device=g.device)
        steps = (g * (self.order // int(group.order)))[..., None]
        return slices_before(velocities, torch.tensor([self.order], device=g.device), steps)


def _moved_slices(x: Tensor, before: Tensor, known: Tensor) -> Tensor:
    """Slices ``[..., V, C, H, W]`` read where they come from, zeros where that is nowhere."""
    return gather_axis(x, before, -4) * _over_slices(known, x)


def _over_slices(known: Tensor, x: Tensor) -> Tensor:
    """``[*lead, V]`` as a view that broadcasts against ``[*lead, ..., V, C, H, W]``."""
    lead = known.ndim - 1
    return known.reshape(*known.shape[:-1], *([1] * (x.ndim - lead - 4)), known.shape[-1], 1, 1, 1)
