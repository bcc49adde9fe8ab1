"""Finite groups of matrices: planar rotations and reflections, and the symmetries of the Platonic solids.

An element is an int64 index into a float64 table of matrices; index 0 is the identity. Entries that are 0,
+-1/2 or +-1 in exact arithmetic are exactly so in the tables: a quarter turn of `Cyclic(4)` moves
pixels exactly.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property

import torch
from torch import Generator, Tensor

from erlangen.errors import DtypeError, GroupError, OrbitError, ShapeError, check_finite, check_floating, is_whole
from erlangen.groups.base import MAX_ENUMERATION, Group, default_tol, order_text
from erlangen.groups.closure import CLOSED_TOL, close_under_product, nearest_matrix, snap
from erlangen.groups.rotations import draw_device

_CAYLEY_LIMIT = 2_048  # a larger Cayley table (over 16 MB as int32) is not kept: products go through the matrices


class FiniteMatrixGroup(Group):
    """A finite group given by all of its matrices.

    Elements are int64 indices of shape ``[]`` into `matrices`.

    Args:
        name: what the group is called in messages.
        matrices: ``[order, n, n]``, distinct, closed under products, the identity first. Stored as float64.
        verify: check that the table is closed; ``False`` is for tables that are closed by construction.

    Raises:
        ShapeError, DtypeError, NotFiniteError: the table is not a floating, finite ``[order, n, n]``.
        GroupError: the first matrix is not the identity, two are equal, or a product leaves the table.
    """

    def __init__(self, name: str, matrices: Tensor, *, verify: bool = True) -> None:
        if matrices.ndim != 3 or matrices.shape[0] == 0 or matrices.shape[1] != matrices.shape[2]:
            raise ShapeError(f"{name}: matrices has shape {tuple(matrices.shape)}, but [order, n, n] is needed")
        check_floating(matrices, "matrices")
        check_finite(matrices, "matrices")
        self.name = name
        self.order = matrices.shape[0]
        self.space_dim = matrices.shape[1]
        self.element_dtype = torch.int64
        self.matrices = matrices.detach().to("cpu", torch.float64).clone()
        self._copies: dict[tuple[str, torch.device], Tensor] = {}
        if verify:
            self._check_table()

    # --- algebra --------------------------------------------------------------------------------------------
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The index 0; `dtype` has no effect on index elements."""
        return torch.zeros((), dtype=torch.int64, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Index of the product gh, broadcast. A table lookup up to order 2048, a matrix product beyond."""
        g, h = self._indices(g), self._indices(h)
        if self.order > _CAYLEY_LIMIT:
            table = self._on(g.device, "matrices")
            return nearest_matrix(table[g] @ table[h], table)[0]
        return self._on(g.device, "_cayley")[g, h].to(torch.int64)

    def inverse(self, g: Tensor) -> Tensor:
        """Index of the inverse element."""
        g = self._indices(g)
        return self._on(g.device, "_inverses")[g]

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which entries are integers in ``[0, order)``; a tensor of another dtype holds no element."""
        if not is_integer(g):
            return torch.zeros(g.shape, dtype=torch.bool, device=g.device)
        return (g >= 0) & (g < self.order)

    # --- how the group moves R^n ----------------------------------------------------------------------------
    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Matrices ``[..., n, n]`` of indices ``[...]``, in `dtype` or the default dtype."""
        g = self._indices(g)
        return self._on(g.device, "matrices")[g].to(dtype or torch.get_default_dtype())

    def from_linear(self, M: Tensor, tol: float | None = None) -> tuple[Tensor, Tensor]:
        """The element nearest to a matrix, in the Frobenius norm.

        Args:
            M: matrices ``[..., n, n]``.
            tol: largest entry of the difference that counts as equal; 1e-9 (float64) or 1e-4 by default.

        Returns:
            The index ``[...]``, and a boolean tensor ``[...]``: whether the element equals the matrix up to
            `tol`. A matrix with NaN or Inf gets some index and ``False``.
        """
        check_floating(M, "M")
        if M.shape[-2:] != (self.space_dim, self.space_dim):
            raise ShapeError(
                f"M has shape {tuple(M.shape)}, but {self.name} has matrices [..., {self.space_dim}, {self.space_dim}]"
            )
        index, distance = nearest_matrix(M.to(torch.float64), self._on(M.device, "matrices"))
        return index, distance <= (default_tol(M.dtype) if tol is None else tol)

    # --- elements -------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform indices ``[*n]``, int64; `dtype` has no effect on index elements."""
        return random_integers(0, int(self.order), n, generator, device)

    def _elements(self, device: torch.device) -> Tensor:
        return torch.arange(int(self.order), device=device)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """All elements ``[order]``; `GroupError` for an n below the order."""
        return finite_grid(self, n, device)

    @property
    def discrete_generators(self) -> Tensor:
        """A small generating set, ``[k]`` with k at most log2(order)."""
        return self._generation[0]

    # --- tables ---------------------------------------------------------------------------------------------
    @cached_property
    def _generation(self) -> tuple[Tensor, Tensor]:
        """Generators ``[k]`` and their left multiplications ``[k, order]`` as maps of indices.

        A new generator is the first element that the earlier ones do not reach; in the end those that the others
        replace are dropped. Every element is reached, so that closure under the generators alone proves that the
        table is a group.
        """
        generators: list[int] = []
        rows = torch.zeros(0, int(self.order), dtype=torch.int64)
        while not bool((reached := _reachable(rows)).all()):
            generators.append(int((~reached).nonzero()[0]))
            rows = torch.cat([rows, self._left_multiplication(generators[-1])[None]])
        for i in range(len(generators)):
            others = [k for k in range(len(generators)) if k != i and generators[k] > 0]
            if bool(_reachable(rows[others]).all()):
                generators[i] = 0
        kept = [k for k, g in enumerate(generators) if g > 0]
        return torch.tensor([generators[k] for k in kept], dtype=torch.int64), rows[kept]

    def _left_multiplication(self, g: int) -> Tensor:
        index, distance = nearest_matrix(self.matrices[g] @ self.matrices, self.matrices)
        outside = distance > CLOSED_TOL
        if bool(outside.any()):
            h = int(outside.nonzero()[0])
            raise GroupError(
                f"{self.name}: matrices are not closed under products: element {g} times element {h} is not "
                "in the table; give all elements in float64, or build the group with Generated(...)"
            )
        if len(index.unique()) < len(index):
            raise GroupError(f"{self.name}: element {g} is a singular matrix and has no inverse; remove it")
        return index

    @cached_property
    def _cayley(self) -> Tensor:
        """Products ``[order, order]``, int32, row by row as words in the generators: no rounding enters."""
        rows = self._generation[1]
        order = int(self.order)
        cayley = torch.zeros(order, order, dtype=torch.int32)
        cayley[0] = torch.arange(order, dtype=torch.int32)
        done = torch.zeros(order, dtype=torch.bool)
        done[0] = True
        frontier = [0]
        while frontier:
            fresh: list[int] = []
            for g, row in itertools.product(frontier, rows):
                product = int(row[g])
                if not done[product]:
                    cayley[product] = row[cayley[g].long()].to(torch.int32)
                    done[product] = True
                    fresh.append(product)
            frontier = fresh
        return cayley

    @cached_property
    def _inverses(self) -> Tensor:
        return nearest_matrix(torch.linalg.inv(self.matrices), self.matrices)[0]

    def _on(self, device: torch.device, table: str) -> Tensor:
        """One of the tables on a device; copied there once, but not by a compiler, whose tensors must not stay."""
        if torch.compiler.is_compiling():
            return getattr(self, table).to(device)
        if (table, device) not in self._copies:
            self._copies[table, device] = getattr(self, table).to(device)
        return self._copies[table, device]

    def _check_table(self) -> None:
        eye = torch.eye(self.space_dim, dtype=torch.float64)
        if float((self.matrices[0] - eye).abs().max()) > CLOSED_TOL:
            raise GroupError(f"{self.name}: matrices[0] must be the identity, got {self.matrices[0].tolist()}")
        first = nearest_matrix(self.matrices, self.matrices)[0]
        repeated = (first != torch.arange(int(self.order))).nonzero()
        if len(repeated):
            i = int(repeated[0])
            raise GroupError(f"{self.name}: matrices[{i}] repeats matrices[{int(first[i])}]; give each element once")
        _ = self._generation

    def _indices(self, g: Tensor) -> Tensor:
        if not is_integer(g):
            raise DtypeError(
                f"g has dtype {g.dtype}, but elements of {self.name} are int64 indices; from_linear(M) finds "
                "the index of a matrix"
            )
        return g.to(torch.int64)

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.name, self.matrices.numpy().tobytes())


class Cyclic(FiniteMatrixGroup):
    """Rotations of the plane by ``2 pi k / n``; the element is k. Products need no table."""

    def __init__(self, n: int) -> None:
        check_positive("Cyclic", "n", n)
        super().__init__(f"Cyclic({n})", _planar_rotations(n), verify=False)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """``(g + h) mod n``."""
        return (self._indices(g) + self._indices(h)) % int(self.order)

    def inverse(self, g: Tensor) -> Tensor:
        """``-g mod n``."""
        return -self._indices(g) % int(self.order)

    @property
    def discrete_generators(self) -> Tensor:
        """The smallest rotation, ``[1]``; empty for n = 1."""
        return torch.arange(1, min(2, int(self.order)))

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.name)


class Dihedral(FiniteMatrixGroup):
    """The 2n rotations and reflections of a regular n-gon.

    Element ``k + n s`` is rotation by ``2 pi k / n`` after ``s`` times the reflection ``diag(-1, 1)``, which
    maps x to -x and so flips an image left to right. D(1) is this reflection alone.
    """

    def __init__(self, n: int) -> None:
        check_positive("Dihedral", "n", n)
        rotations = _planar_rotations(n)
        flip = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        super().__init__(f"Dihedral({n})", torch.cat([rotations, rotations * flip]) + 0.0, verify=False)
        self.n = n

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """``r^k f^s r^l f^t = r^(k + (-1)^s l) f^(s + t)``."""
        g, h = self._indices(g), self._indices(h)
        s, t = g // self.n, h // self.n
        return (g + (1 - 2 * s) * h) % self.n + self.n * ((s + t) % 2)

    def inverse(self, g: Tensor) -> Tensor:
        """A reflection is its own inverse; a rotation by k steps is undone by -k."""
        g = self._indices(g)
        return torch.where(g < self.n, -g % self.n, g)

    @property
    def discrete_generators(self) -> Tensor:
        """The smallest rotation (absent for n = 1) and the reflection ``diag(-1, 1)``."""
        return torch.tensor([1, self.n] if self.n > 1 else [1])

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.name)


class Octahedral(FiniteMatrixGroup):
    """The 24 rotations of a cube, or with `inversion` its 48 symmetries O_h: the signed permutation matrices.

    With inversion, element ``i + 24`` is minus element i.
    """

    def __init__(self, inversion: bool = False) -> None:
        rotations = _cube_rotations()
        super().__init__("O_h" if inversion else "Octahedral", _with_inversion(rotations, inversion))


class Tetrahedral(FiniteMatrixGroup):
    """The 12 rotations of a tetrahedron with vertices (1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)."""

    def __init__(self) -> None:
        cube = _cube_rotations()
        vertices = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
        # The product of the coordinates is 1 at these vertices and -1 at the cube's other four.
        keeps = ((vertices @ cube.mT).prod(-1) > 0).all(-1)
        super().__init__("Tetrahedral", cube[keeps])


class Icosahedral(FiniteMatrixGroup):
    """The 60 rotations of an icosahedron, or with `inversion` its 120 symmetries I_h.

    The vertices are (0, +-1, +-phi) and their cyclic shifts, with phi the golden ratio. With inversion,
    element ``i + 60`` is minus element i.
    """

    def __init__(self, inversion: bool = False) -> None:
        phi = (1 + math.sqrt(5)) / 2
        third_turn = torch.eye(3, dtype=torch.float64).roll(1, 0)
        turn = [[phi - 1, phi, -1], [-phi, 1, phi - 1], [1, phi - 1, phi]]
        fifth_turn = torch.tensor(turn, dtype=torch.float64) / 2
        entries = (0.0, 0.5, 1.0, phi / 2, (phi - 1) / 2)
        rotations = snap(close_under_product("Icosahedral", torch.stack([third_turn, fifth_turn])), entries)
        super().__init__("I_h" if inversion else "Icosahedral", _with_inversion(rotations, inversion))


def finite_grid(group: Group, n: int, device: torch.device | str | None) -> Tensor:
    """All elements of a finite group for ``n >= order``; `GroupError` otherwise."""
    if n < group.order:
        raise GroupError(
            f"{group.name}: a grid of n = {n} elements would leave out some of its {order_text(group)}; "
            f"ask for n >= {order_text(group)}, or use .sample({n})"
        )
    return group.elements(device=device)


def random_integers(
    low: int,
    high: int,
    n: int | tuple[int, ...],
    generator: Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """Uniform int64 in ``[low, high)`` of shape `n`, drawn on the generator's device, then moved."""
    size = (n,) if isinstance(n, int) else n
    drawn = torch.randint(low, high, size, generator=generator, device=draw_device(generator))
    return drawn.to(sample_device(device, generator))


def sample_device(device: torch.device | str | None, generator: Generator | None) -> torch.device:
    """Where samples go: to `device` if given, else to the generator's, else to torch's default device."""
    if device is not None:
        return torch.device(device)
    return torch.get_default_device() if generator is None else generator.device


def check_positive(group: str, argument: str, value: object, most: float = math.inf) -> None:
    """Raise `GroupError` unless a constructor's argument is a positive int, of at most `most`."""
    if not is_whole(value, 1):
        raise GroupError(f"{group}({value}): {argument} must be a positive integer, got {value!r}")
    if value > most:
        raise GroupError(f"{group}: {argument} can be at most {most:,}, got {value}")


def is_integer(g: Tensor) -> bool:
    """Whether a tensor has an integer dtype; bool does not count."""
    return not (g.is_floating_point() or g.is_complex() or g.dtype == torch.bool)


def _reachable(rows: Tensor) -> Tensor:
    """Which indices are reached from 0 by maps of indices ``[k, order]``; boolean ``[order]``."""
    reached = torch.zeros(rows.shape[1], dtype=torch.bool)
    reached[0] = True
    frontier = torch.zeros(1, dtype=torch.int64)
    while len(frontier):
        images = rows[:, frontier].flatten().unique()
        frontier = images[~reached[images]]
        reached[frontier] = True
    return reached


def _planar_rotations(n: int) -> Tensor:
    if n > 100 * MAX_ENUMERATION:
        raise OrbitError(f"a table of {n:,} planar rotations is too large; use SO(2)")
    angle = 2 * math.pi / n * torch.arange(n, dtype=torch.float64)
    c, s = angle.cos(), angle.sin()
    return snap(torch.stack([c, -s, s, c], -1).unflatten(-1, (2, 2)))


def _cube_rotations() -> Tensor:
    signs = [torch.tensor(s, dtype=torch.float64) for s in itertools.product((1.0, -1.0), repeat=3)]
    eye = torch.eye(3, dtype=torch.float64)
    signed = torch.stack([eye[list(p)] * s for p in itertools.permutations(range(3)) for s in signs]) + 0.0
    return signed[torch.linalg.det(signed) > 0]


def _with_inversion(rotations: Tensor, inversion: bool) -> Tensor:
    return torch.cat([rotations, -rotations]) + 0.0 if inversion else rotations
