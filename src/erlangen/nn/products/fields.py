"""Carriers whose products reach the paths that functions on the sphere miss: vector fields, and matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.errors import IrrepsError
from erlangen.irreps import Irrep, Irreps, LebedevGrid, spherical_harmonics, wigner_3j
from erlangen.nn.products.carriers import Carrier, Slot, check_degrees, coordinates
from erlangen.nn.products.constants import Constant


class VectorCarrier(Carrier):
    """Polar vector fields on the sphere with the cross product, and the dot product beside it.

    An irrep of degree J enters as vector harmonics Y_{J,l}, the coupling of the three components with harmonics of
    degree l = J - 1, J, J + 1; l takes the values that its parity allows, ``p = (-1)^(l + 1)``. Cross products of polar
    fields are axial (``p = (-1)^l``), dot products are true signals. Odd l1 + l2 + l3 comes through the cross product,
    even through both (Xie et al. 2025).

    Raises:
        IrrepsError: an input has "0o", which no polar field carries, or `out` has a degree that is too large.
    """

    def __init__(self, x: Irreps, y: Irreps, out: Irreps) -> None:
        self.slots_x, self.slots_y = (_polar_slots(irreps, name) for irreps, name in ((x, "x"), (y, "y")))
        check_degrees(x, y, out)
        self.cross = [
            Slot(n, block.ir, (l,))
            for n, block in enumerate(out)
            for l in _neighbours(block.ir)
            if block.ir.p == (-1) ** l
        ]
        self.dot = [Slot(n, block.ir, ()) for n, block in enumerate(out) if block.ir.p == (-1) ** block.ir.l]
        self.slots_out = [*self.cross, *self.dot]
        top = [max((s.place[0] for s in slots), default=0) for slots in (self.slots_x, self.slots_y, self.cross)]
        grid = LebedevGrid.exact_for(sum(top[:2]) + max(top[2], out.lmax))
        Y = spherical_harmonics(max(*top, out.lmax), grid.points, normalize=False)
        self.table_x, self.table_y = (Constant(_fields(slots, Y)) for slots in (self.slots_x, self.slots_y))
        dual = Y * grid.weights[:, None]
        self.table_cross = Constant(_fields(self.cross, dual).mT)
        signals = [dual[:, s.irrep.l**2 : (s.irrep.l + 1) ** 2] for s in self.dot]
        self.table_dot = Constant(torch.cat([dual[:, :0], *signals], -1))

    @override
    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        f, g = ((t @ table(t)).unflatten(-1, (3, -1)) for t, table in ((x, self.table_x), (y, self.table_y)))
        g = g.expand(f.shape)
        crossed = torch.linalg.cross(f, g, dim=-2).flatten(-2) @ self.table_cross(x)
        return torch.cat([crossed, (f * g).sum(-2) @ self.table_dot(x)], -1)


def _neighbours(ir: Irrep) -> list[int]:
    """Degrees l whose harmonics couple with vectors to an irrep."""
    return [l for l in (ir.l - 1, ir.l, ir.l + 1) if l >= 0 and abs(l - 1) <= ir.l <= l + 1]


def _polar_slots(irreps: Irreps, name: str) -> list[Slot]:
    slots: list[Slot] = []
    for n, block in enumerate(irreps):
        places = [l for l in _neighbours(block.ir) if block.ir.p == (-1) ** (l + 1)]
        if not places:
            raise IrrepsError(f'irreps_{name}: no polar vector field carries {block.ir}; use rule="cg"')
        slots += [Slot(n, block.ir, (l,)) for l in places]
    return slots


def _fields(slots: list[Slot], Y: Tensor) -> Tensor:
    """Orthonormal vector harmonics of the slots at the points of Y, ``[dim, 3 * P]``."""
    parts = [Y.new_zeros(0, 3 * len(Y))]
    for slot in slots:
        J, l = slot.irrep.l, slot.place[0]
        C = math.sqrt(2 * J + 1) * wigner_3j(1, l, J, dtype=torch.float64)
        parts.append(torch.einsum("cmM,pm->Mcp", C, Y[:, l * l : (l + 1) ** 2]).flatten(1))
    return torch.cat(parts)


class MatrixCarrier(Carrier):
    """Matrices on the space of harmonics of degree 0..top with the matrix product, as in e3x's fused tensor layers.

    An irrep enters every block (l_i, l_j) of the matrix that couples to its degree and has its parity
    ``(-1)^(l_i + l_j)``. The product does not commute, so it has odd and even paths.

    Raises:
        IrrepsError: an irrep, such as "0o", enters no block.
    """

    def __init__(self, x: Irreps, y: Irreps, out: Irreps) -> None:
        check_degrees(x, y, out)
        sides = (x, y, out)
        self.top = max(1, math.ceil((x.lmax + y.lmax) / 2))
        # Irreps whose parity is not that of harmonics may need one degree more.
        while self.top < x.lmax + y.lmax and not all(self._places(b.ir) for side in sides for b in side):
            self.top += 1
        self.slots_x, self.slots_y, self.slots_out = (
            self._slots(irreps, name) for irreps, name in zip(sides, ("x", "y", "out"), strict=True)
        )
        self.table_x, self.table_y, self.table_out = (
            Constant(self._table(slots)) for slots in (self.slots_x, self.slots_y, self.slots_out)
        )

    def _places(self, ir: Irrep) -> list[tuple[int, int]]:
        """Blocks of the matrix that an irrep enters."""
        degrees = range(self.top + 1)
        return [(i, j) for i in degrees for j in degrees if abs(i - j) <= ir.l <= i + j and (-1) ** (i + j) == ir.p]

    def _slots(self, irreps: Irreps, name: str) -> list[Slot]:
        slots: list[Slot] = []
        for n, block in enumerate(irreps):
            places = self._places(block.ir)
            if not places:
                raise IrrepsError(
                    f"irreps_{name}: matrices on harmonics of degree 0..{self.top} have no block for {block.ir}; "
                    'use rule="cg"'
                )
            slots += [Slot(n, block.ir, place) for place in places]
        return slots

    def _table(self, slots: list[Slot]) -> Tensor:
        """Orthonormal coordinates, ``[dim, D * D]`` with D = (top + 1)^2."""
        D = (self.top + 1) ** 2
        table = torch.zeros(sum(slot.irrep.dim for slot in slots), D, D, dtype=torch.float64)
        for slot, rows in zip(slots, coordinates(slots), strict=True):
            i, j = slot.place
            C = math.sqrt(slot.irrep.dim) * wigner_3j(i, j, slot.irrep.l, dtype=torch.float64)
            table[rows, i * i : (i + 1) ** 2, j * j : (j + 1) ** 2] = C.movedim(-1, 0)
        return table.flatten(1)

    @override
    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        D = (self.top + 1) ** 2
        X, Y = ((t @ table(t)).unflatten(-1, (D, D)) for t, table in ((x, self.table_x), (y, self.table_y)))
        return (X @ Y).flatten(-2) @ self.table_out(x).mT
