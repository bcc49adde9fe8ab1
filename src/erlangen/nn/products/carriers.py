"""What carries irreps through a product: functions on the sphere, vector fields on the sphere, matrices.

A carrier is a space with a product, of which irreps are coordinates. Each block of irreps may enter it in several
places, its slots; `Carrier.multiply` takes the coordinates of all slots of both inputs to those of the output's slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from erlangen.errors import GridError, IrrepsError
from erlangen.irreps import Irrep, Irreps, LebedevGrid, S2Grid, gaunt_tensor, spherical_harmonics
from erlangen.nn.products.constants import Constant
from erlangen.nn.products.pointwise import pointwise_product

Road = Literal["dense", "grid", "fourier"]


@dataclass(frozen=True)
class Slot:
    """One place in the carrier where `block` of the irreps, of type `irrep`, enters; `place` is the carrier's own label."""

    block: int
    irrep: Irrep
    place: tuple[int, ...]


class Carrier(ABC):
    """A space whose product couples irreps.

    Attributes:
        slots_x, slots_y, slots_out: where the blocks of inputs and output lie.
    """

    slots_x: list[Slot]
    slots_y: list[Slot]
    slots_out: list[Slot]

    @abstractmethod
    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """Coordinates ``[E, channels, dim of slots_x]`` and ``[E, channels or 1, ...]`` to those of slots_out."""


def coordinates(slots: list[Slot]) -> list[slice]:
    """Where each slot lies among the coordinates."""
    stops = np.cumsum([slot.irrep.dim for slot in slots]).tolist()
    return [slice(stop - slot.irrep.dim, stop) for slot, stop in zip(slots, stops, strict=True)]


# --- functions on the sphere -----------------------------------------------------------------------------------------
class SphereCarrier(Carrier):
    """Functions on the sphere with the pointwise product: Gaunt coefficients.

    A true signal carries degree l with parity (-1)^l, a pseudo-signal with the other one. Products of two signals of
    one kind are true, mixed ones are pseudo-signals; sums of both kinds multiply like the numbers a + b s with s^2 = 1.

    Args:
        x, y, out: irreps, of which only the types count; `out` may be a truncation.
        road: "dense" contracts with all Gaunt coefficients; "grid" multiplies values on a quadrature grid; "fourier"
            multiplies values of the two-dimensional Fourier series of Luo, Chen and Krishnapriyan (2024).
        grid: the points of the road "grid", by default the smallest Lebedev rule that is exact.
        exact: refuse a grid that is too coarse.

    Raises:
        IrrepsError: an irrep occurs in two blocks, or the product of the signals cannot carry one of `out`.
        GridError: the grid is too coarse; the message names the smallest that is not.
    """

    def __init__(
        self,
        x: Irreps,
        y: Irreps,
        out: Irreps,
        road: Road,
        grid: S2Grid | LebedevGrid | None = None,
        exact: bool = True,
    ) -> None:
        self.slots_x, self.slots_y, self.slots_out = (
            _signal_slots(i, n) for i, n in ((x, "x"), (y, "y"), (out, "out"))
        )
        check_degrees(x, y, out)
        _check_kinds(self.slots_x, self.slots_y, self.slots_out)
        self.degree = x.lmax + y.lmax + out.lmax
        self.road: Road = road
        # Rows per kind: where there is one kind of each, no zeros are multiplied.
        self.kinds_x, self.kinds_y = (sorted({s.place[0] for s in slots}) for slots in (self.slots_x, self.slots_y))
        if road == "dense":
            self.table = Constant(self._dense())
        elif road == "grid":
            grid = grid or LebedevGrid.exact_for(self.degree)
            if exact and grid.degree < self.degree:
                smallest = " or ".join(repr(kind.exact_for(self.degree)) for kind in (LebedevGrid, S2Grid))
                raise GridError(
                    f"grid too coarse: {grid} integrates degree {grid.degree} exactly, but this product needs "
                    f"{self.degree}; the smallest grids are {smallest}; exact=False accepts the error"
                )
            Y = spherical_harmonics(max(x.lmax, y.lmax, out.lmax), grid.points, normalize=False)
            self._sample(Y, Y * grid.weights[:, None])
        else:
            self._sample(*_torus(x.lmax, y.lmax, out.lmax))
        self.grid = grid

    def _dense(self) -> Tensor:
        G = gaunt_tensor(
            *(max(s.irrep.l for s in slots) for slots in (self.slots_x, self.slots_y, self.slots_out)),
            dtype=torch.float64,
        )
        sizes = [sum(s.irrep.dim for s in slots) for slots in (self.slots_x, self.slots_y, self.slots_out)]
        table = G.new_zeros(*sizes)
        for a, i in zip(self.slots_x, coordinates(self.slots_x), strict=True):
            for b, j in zip(self.slots_y, coordinates(self.slots_y), strict=True):
                for c, k in zip(self.slots_out, coordinates(self.slots_out), strict=True):
                    if a.place[0] * b.place[0] == c.place[0]:
                        table[i, j, k] = G[_flat(a), _flat(b), _flat(c)]
        return table

    def _sample(self, Y: Tensor, dual: Tensor) -> None:
        """Tables from coordinates to values of each kind, ``[dim, kinds * P]``, and from products back.

        Values a + b s of both kinds are written in the basis (1 + s) / 2, (1 - s) / 2, in which they multiply point
        by point.
        """
        both = len(self.kinds_x) + len(self.kinds_y) > 2
        self.table_x, self.table_y = (Constant(self._values(slots, Y, both)) for slots in (self.slots_x, self.slots_y))
        self.table_out = Constant(self._values(self.slots_out, dual, both).mT.contiguous() / (2 if both else 1))

    @staticmethod
    def _values(slots: list[Slot], Y: Tensor, both: bool) -> Tensor:
        rows = [Y[:, _flat(slot)].mT for slot in slots]
        if both:
            rows = [torch.cat([row, slot.place[0] * row], -1) for row, slot in zip(rows, slots, strict=True)]
        table = torch.cat(rows)
        # Points where all is zero change nothing, and matrix products are up to 1.6 times faster for such widths.
        return F.pad(table, (0, -table.shape[1] % (8 if table.shape[1] < 64 else 16)))

    @override
    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        if self.road == "dense":
            table = self.table(x)
            M = (y @ table.movedim(1, 0).flatten(1)).unflatten(-1, (table.shape[0], table.shape[2]))
            return (x[..., None, :] @ M)[..., 0, :]
        return pointwise_product(x, y, self.table_x(x), self.table_y(y), self.table_out(x))


def _signal_slots(irreps: Irreps, name: str) -> list[Slot]:
    """Each block once; the place is (kind,), 1 for true and -1 for pseudo-signals."""
    types = [block.ir for block in irreps]
    for ir in types:
        if types.count(ir) > 1:
            raise IrrepsError(
                f"irreps_{name}: {ir} occurs in {types.count(ir)} blocks, but a signal has one coefficient of each; "
                f"join them, as in {irreps.sort().irreps.simplify()}"
            )
    return [Slot(n, ir, (ir.p * (-1) ** ir.l,)) for n, ir in enumerate(types)]


def check_degrees(x: Irreps, y: Irreps, out: Irreps) -> None:
    """Raise where the output asks for a degree above the sum of those of the inputs."""
    for block in out:
        if block.ir.l > x.lmax + y.lmax:
            raise IrrepsError(
                f"irreps_out: {block.ir} has degree {block.ir.l}, but the degrees {x.lmax} of x and {y.lmax} of y reach "
                f"{x.lmax + y.lmax} at most"
            )


def _check_kinds(x: list[Slot], y: list[Slot], out: list[Slot]) -> None:
    kinds = {a.place[0] * b.place[0] for a in x for b in y}
    for slot in out:
        if slot.place[0] not in kinds:
            kind = "true" if slot.place[0] == 1 else "pseudo"
            raise IrrepsError(
                f"irreps_out: the product of these signals on the sphere cannot carry {slot.irrep}, which needs a {kind}-"
                f'signal; use rule="vector" or rule="cg", or give an input of the other parity'
            )


def _flat(slot: Slot) -> slice:
    l = slot.irrep.l
    return slice(l * l, (l + 1) ** 2)


def _torus(l1: int, l2: int, l3: int) -> tuple[Tensor, Tensor]:
    """Values of harmonics on a torus of angles, and the dual functions there; `[P, (l + 1)^2]`, P = N^2.

    Continued to polar angles in [0, 2 pi), a harmonic of degree l is a trigonometric polynomial of degree l in both
    angles, so N = 2 (l1 + l2) + 1 values each way hold the product of two exactly: they are the Fourier transform of its
    coefficients (convolving coefficients is multiplying these values). The way back integrates each Fourier mode
    against ``Y sin(theta)`` over half of the torus, which is the sphere, exactly.
    """
    band, lmax = l1 + l2, max(l1, l2, l3)
    n = 2 * band + 1
    angles = 2 * np.pi * np.arange(n) / n
    values = _continued(lmax, angles, angles)  # [n, n, K]
    # Integrals over [0, pi] of trigonometric polynomials of degree band + lmax + 1, by many Gauss-Legendre nodes.
    nodes, weights = np.polynomial.legendre.leggauss(4 * (band + lmax) + 32)
    theta = (nodes + 1) * np.pi / 2
    frequencies = np.arange(-band, band + 1)
    half = _continued(lmax, theta, angles) * (weights * np.sin(theta) * np.pi / 2)[:, None, None]  # [T, n, K]
    modes = np.exp(1j * np.outer(frequencies, theta))  # e^{i u theta}
    back = np.exp(-1j * np.outer(frequencies, angles)) / n  # values on the circle to coefficients
    polar = np.einsum("ut,un->nt", modes, back).real  # value at angle n of the torus to value at theta
    dual = np.einsum("nt,tpk->npk", polar, half) * (2 * np.pi / n)
    return torch.from_numpy(values.reshape(n * n, -1)), torch.from_numpy(dual.reshape(n * n, -1))


def _continued(lmax: int, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Harmonics at polar angles of any size, ``[theta, phi, (lmax + 1)^2]``: the polynomials, where sin(theta) may be < 0."""
    sin, cos = np.sin(theta)[:, None], np.cos(theta)[:, None]
    points = np.stack(np.broadcast_arrays(sin * np.sin(phi), cos, sin * np.cos(phi)), -1)
    return spherical_harmonics(lmax, torch.from_numpy(np.ascontiguousarray(points)), normalize=False).numpy()
