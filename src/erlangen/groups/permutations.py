"""Permutations of n places, and the cyclic shifts of a periodic grid."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Generator, Tensor

from erlangen.errors import DtypeError, GroupError
from erlangen.groups.base import Group
from erlangen.groups.finite import check_positive, finite_grid, is_integer, random_integers, sample_device
from erlangen.groups.rotations import draw_device

MAX_PLACES = 200_000
"""Largest n of `Symmetric`: its order alone is a number of a million digits."""

MAX_AXES = 64
"""Axes of the largest array of torch."""


class Symmetric(Group):
    """All permutations of n places.

    An element is an int64 tensor ``[n]``; ``g[i]`` is the place to which i moves, and ``(gh)[i] =
    g[h[i]]``. The permutation matrix has ``P[g[i], i] = 1``: data move by ``x_new[g] = x``, which is
    ``x_new = x[inverse(g)]``.
    """

    def __init__(self, n: int) -> None:
        check_positive("Symmetric", "n", n, MAX_PLACES)
        self.n = n
        self.name = f"Symmetric({n})"
        self.order = math.factorial(n)
        self.shape = (n,)
        self.space_dim = n
        self.element_dtype = torch.int64

    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """``[0, ..., n - 1]``, int64; `dtype` has no effect on permutations."""
        return torch.arange(self.n, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """``(gh)[i] = g[h[i]]``, batched with broadcasting."""
        g, h = torch.broadcast_tensors(self._permutations(g), self._permutations(h))
        return g.gather(-1, h)

    def inverse(self, g: Tensor) -> Tensor:
        """The permutation that moves ``g[i]`` back to i."""
        return self._permutations(g).argsort(-1)

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which rows ``[..., n]`` hold each of 0, ..., n - 1 once, in an integer dtype."""
        batch = self.batch_shape(g)
        if not is_integer(g):
            return torch.zeros(batch, dtype=torch.bool, device=g.device)
        return (g.sort(-1).values == self.identity(device=g.device)).all(-1)

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Permutation matrices ``[..., n, n]`` with ``P[g[i], i] = 1``, in `dtype` or the default dtype."""
        places = self.identity(device=g.device)
        moves = self._permutations(g)[..., None, :] == places[:, None]
        return moves.to(dtype or torch.get_default_dtype())

    def sign(self, g: Tensor) -> Tensor:
        """Parity ``[...]``, int64: 1 for even permutations, -1 for odd ones."""
        g = self._permutations(g)
        first, second = torch.triu_indices(self.n, self.n, 1, device=g.device)
        inversions = (g[..., first] > g[..., second]).sum(-1)
        return 1 - 2 * (inversions % 2)

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform permutations ``[*n, n]``, int64; `dtype` has no effect on permutations."""
        size = (n,) if isinstance(n, int) else n
        source = draw_device(generator)
        keys = torch.rand(*size, self.n, generator=generator, dtype=torch.float64, device=source)
        return keys.argsort(-1).to(sample_device(device, generator))

    def _elements(self, device: torch.device) -> Tensor:
        return torch.tensor(list(itertools.permutations(range(self.n))), device=device)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """All permutations in lexicographic order; `GroupError` for an n below the order."""
        return finite_grid(self, n, device)

    @property
    def discrete_generators(self) -> Tensor:
        """The transposition of the first two places and the cycle i -> i + 1, ``[k, n]``."""
        identity = self.identity()
        transposition = torch.cat([identity[:2].flip(0), identity[2:]])
        generators = torch.stack([transposition, identity.roll(-1)])
        return generators[: min(2, self.n - 1)]  # for n = 2 both are the same, for n = 1 both are trivial

    def _permutations(self, g: Tensor) -> Tensor:
        self.batch_shape(g)
        return _as_int64(g, self.name)


class Shifts(Group):
    """Cyclic shifts of a periodic grid: the abelian group Z/s1 x ... x Z/sk.

    An element is an int64 tensor ``[k]`` of shifts in ``0 <= g[i] < s_i``: axis i of the array moves by
    ``g[i]`` places, as ``torch.roll`` does. On R^k it is a translation by the same number of grid cells, a
    homomorphism only modulo the sizes, because the grid is periodic and R^k is not.
    """

    def __init__(self, *sizes: int) -> None:
        if not 0 < len(sizes) <= MAX_AXES:
            raise GroupError(
                f"Shifts(): needs the size of each axis, for example Shifts(28, 28); at most {MAX_AXES} of them"
            )
        for size in sizes:
            check_positive("Shifts", "each size", size, 2**31)
        self.sizes = sizes
        self.name = f"Shifts({','.join(map(str, sizes))})"
        self.order = math.prod(sizes)
        self.shape = (len(sizes),)
        self.space_dim = len(sizes)
        self.element_dtype = torch.int64

    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """No shift, int64 ``[k]``; `dtype` has no effect on shifts."""
        return torch.zeros(self.shape, dtype=torch.int64, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """``(g + h) mod sizes``."""
        return self.wrap(self._shifts(g) + self._shifts(h))

    def inverse(self, g: Tensor) -> Tensor:
        """``-g mod sizes``."""
        return self.wrap(-self._shifts(g))

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which rows ``[..., k]`` are integers in ``[0, size)`` on every axis; `wrap` makes any shift one."""
        batch = self.batch_shape(g)
        if not is_integer(g):
            return torch.zeros(batch, dtype=torch.bool, device=g.device)
        return ((g >= 0) & (g < self._moduli(g.device))).all(-1)

    def wrap(self, g: Tensor) -> Tensor:
        """The element of any integer shifts ``[..., k]``: their remainders modulo the sizes."""
        return self._shifts(g) % self._moduli(g.device)

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Identity matrices ``[..., k, k]``, in `dtype` or the default dtype."""
        k = self.space_dim
        eye = torch.eye(k, dtype=dtype or torch.get_default_dtype(), device=g.device)
        return eye.expand(*self.batch_shape(g), k, k)

    def translation(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The shift as a vector ``[..., k]`` in grid cells, in `dtype` or the default dtype."""
        return self._shifts(g).to(dtype or torch.get_default_dtype())

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform shifts ``[*n, k]``, int64; `dtype` has no effect on shifts."""
        return torch.stack([random_integers(0, s, n, generator, device) for s in self.sizes], -1)

    def _elements(self, device: torch.device) -> Tensor:
        axes = torch.meshgrid(*(torch.arange(s, device=device) for s in self.sizes), indexing="ij")
        return torch.stack(axes, -1).flatten(0, -2)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """All shifts in lexicographic order; `GroupError` for an n below the order."""
        return finite_grid(self, n, device)

    @property
    def discrete_generators(self) -> Tensor:
        """One step along each axis that is longer than 1, ``[<= k, k]``."""
        return torch.eye(len(self.sizes), dtype=torch.int64)[torch.tensor(self.sizes) > 1]

    def _shifts(self, g: Tensor) -> Tensor:
        self.batch_shape(g)
        return _as_int64(g, self.name)

    def _moduli(self, device: torch.device) -> Tensor:
        return torch.tensor(self.sizes, device=device)


def _as_int64(g: Tensor, name: str) -> Tensor:
    if not is_integer(g):
        raise DtypeError(f"g has dtype {g.dtype}, but elements of {name} are int64; call g.long() if it holds integers")
    return g.to(torch.int64)
