"""Lists of irreducible representations of O(3): the grammar ``"16x0e+8x1o"``, layout and matrices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, cast, overload

import torch
from torch import Generator, Tensor

from erlangen.errors import IrrepsError, ShapeError, is_whole
from erlangen.irreps.wigner import check_matrices, wigner_D_all
from erlangen.numerics import full_precision

if TYPE_CHECKING:
    from erlangen.groups import Group
    from erlangen.reps import Rep

_DEGREE = re.compile(r"\s*(\d+)\s*")
_TIMES = re.compile(r"\s*(\d+)\s*x")


class Irrep(NamedTuple("Irrep", [("l", int), ("p", int)])):
    """The irreducible representation of degree l >= 0 and parity p: "0e" is the scalar, "1o" the vector.

    The matrix of an element R of O(3) is ``wigner_D(l, R)`` for a rotation, and the inversion is ``p``.
    Order is that of e3nn: by degree, then the odd before the even.

    >>> Irrep("1o").dim, [str(ir) for ir in Irrep("1o") * Irrep("1o")]
    (3, ['0e', '1e', '2e'])

    Args:
        l: degree, or text such as "1o" ("e" even, "o" odd, "y" the parity of harmonics, ``(-1)^l``), or an irrep of e3nn.
        p: parity, 1 or -1; left out for a text.

    Raises:
        IrrepsError: no such irrep; for a text with a caret at the wrong place.
    """

    __slots__ = ()

    def __new__(cls, l: int | str | Irrep | object, p: int | None = None) -> Irrep:  # noqa: D102
        if isinstance(l, str) and p is None:
            irrep, end = _parse_irrep(l, 0)
            if l[end:].strip():
                raise IrrepsError(_at(l, end, "nothing may follow the parity of an irrep"))
            return irrep
        if isinstance(l, Irrep) and p is None:
            return l
        if p is None and _is_foreign(l, "l", "p"):
            return cls(cast("Any", l).l, cast("Any", l).p)
        if not is_whole(l, 0) or p not in (1, -1):
            raise IrrepsError(f"Irrep(l={l!r}, p={p!r}): l must be an integer >= 0 and p must be 1 (even) or -1 (odd)")
        return super().__new__(cls, l, p)

    @property
    def dim(self) -> int:
        """``2l + 1``."""
        return 2 * self.l + 1

    def is_scalar(self) -> bool:
        """Whether the representation is the trivial one, "0e"."""
        return self == (0, 1)

    def __mul__(self, other: object) -> list[Irrep]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Irreps of the tensor product, by degree."""
        if not isinstance(other, Irrep):
            return NotImplemented
        return [Irrep(l, self.p * other.p) for l in range(abs(self.l - other.l), self.l + other.l + 1)]

    def D_from_matrix(self, R: Tensor, *, check: bool = True) -> Tensor:
        """Matrices ``[..., 2l + 1, 2l + 1]`` of elements ``[..., 3, 3]`` of O(3); errors of `wigner_D`."""
        return _with_parity(wigner_D_all(self.l, R, check=check)[self.l], self, R)

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    __repr__ = __str__


class MulIrrep(NamedTuple):
    """An irrep with its multiplicity."""

    mul: int
    ir: Irrep

    @property
    def dim(self) -> int:
        """``mul (2l + 1)``."""
        return self.mul * self.ir.dim

    def __str__(self) -> str:
        return f"{self.mul}x{self.ir}"

    __repr__ = __str__


class Irreps(tuple[MulIrrep, ...]):
    """A direct sum of irreps with multiplicities; the layout of a feature vector ``[..., dim]``.

    The blocks follow each other as written; within a block, the copy is the slow index and the order m = -l..l the
    fast one, as in e3nn. Iteration gives pairs ``(mul, (l, p))``.

    >>> irreps = Irreps("2x0e+1o")
    >>> irreps.dim, irreps.lmax, irreps.slices()
    (5, 1, [slice(0, 2, None), slice(2, 5, None)])

    Args:
        irreps: text such as "16x0e + 8x1o" (a multiplicity of 1 may be left out; "" has dimension 0), another
            `Irreps`, an `Irrep`, those of e3nn (the layout is the same), or an iterable of irreps and of pairs
            (multiplicity, irrep).

    Raises:
        IrrepsError: the text is not a list of irreps; a caret shows the place.
    """

    __slots__ = ()

    def __new__(cls, irreps: str | Irrep | Iterable[object] | object = "") -> Irreps:  # noqa: D102
        if isinstance(irreps, Irreps):
            return irreps
        if isinstance(irreps, str):
            return super().__new__(cls, _parse(irreps))
        if isinstance(irreps, (Irrep, MulIrrep)) or _is_foreign(irreps, "l", "p") or _is_foreign(irreps, "mul", "ir"):
            return super().__new__(cls, [_entry(irreps)])
        if not isinstance(irreps, Iterable):
            return super().__new__(cls, [_entry(irreps)])  # raises, and says what is wanted
        return super().__new__(cls, [_entry(item) for item in cast("Iterable[object]", irreps)])

    @classmethod
    def spherical_harmonics(cls, lmax: int, p: int = -1) -> Irreps:
        """One copy of each degree 0..lmax with parity ``p^l``: what `spherical_harmonics` returns."""
        return cls([(1, Irrep(l, p**l)) for l in range(lmax + 1)])

    # --- sizes -----------------------------------------------------------------------------------------------------
    @property
    def dim(self) -> int:
        """Length of the feature vector."""
        return sum(block.dim for block in self)

    @property
    def num_irreps(self) -> int:
        """Number of irreps, with multiplicity."""
        return sum(block.mul for block in self)

    @property
    def ls(self) -> list[int]:
        """Degrees, with multiplicity."""
        return [block.ir.l for block in self for _ in range(block.mul)]

    @property
    def lmax(self) -> int:
        """Largest degree.

        Raises:
            IrrepsError: there are no irreps.
        """
        if self.num_irreps == 0:
            raise IrrepsError(f"irreps {str(self)!r} hold nothing, so they have no largest degree")
        return max(self.ls)

    def slices(self) -> list[slice]:
        """Where each block lies in the feature vector."""
        slices: list[slice] = []
        start = 0
        for block in self:
            slices.append(slice(start, start + block.dim))
            start += block.dim
        return slices

    def count(self, value: object) -> int:
        """Multiplicity of an irrep over all blocks."""
        irrep = Irrep(value) if isinstance(value, str) else value
        return sum(block.mul for block in self if block.ir == irrep)

    def __contains__(self, value: object) -> bool:
        return self.count(value) > 0

    @overload
    def __getitem__(self, key: SupportsIndex) -> MulIrrep: ...
    @overload
    def __getitem__(self, key: slice) -> Irreps: ...
    def __getitem__(self, key: SupportsIndex | slice) -> MulIrrep | Irreps:
        """A block, or the irreps of a slice of the blocks."""
        return Irreps(tuple(self)[key]) if isinstance(key, slice) else super().__getitem__(key)

    # --- algebra ---------------------------------------------------------------------------------------------------
    def __add__(self, other: object) -> Irreps:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not isinstance(other, Irreps | Irrep | str) and not _is_foreign(other, "simplify", "num_irreps"):
            return NotImplemented
        return Irreps([*self, *Irreps(other)])

    def __radd__(self, other: object) -> Irreps:
        known = isinstance(other, Irrep | str) or _is_foreign(other, "simplify", "num_irreps")
        return Irreps(other) + self if known else NotImplemented

    def __mul__(self, times: SupportsIndex) -> Irreps:
        """The list repeated; ``simplify`` then adds up equal neighbours."""
        return Irreps(tuple(self) * times)

    __rmul__ = __mul__

    def simplify(self) -> Irreps:
        """Equal neighbours joined and empty blocks dropped; the layout stays the same."""
        blocks: list[MulIrrep] = []
        for block in self:
            if blocks and blocks[-1].ir == block.ir:
                blocks[-1] = MulIrrep(blocks[-1].mul + block.mul, block.ir)
            elif block.mul > 0:
                blocks.append(block)
        return Irreps(blocks)

    def sort(self) -> SortedIrreps:
        """Blocks in increasing order of the irrep, stable, and the permutation of the feature vector."""
        order = sorted(range(len(self)), key=lambda i: self[i].ir)
        ranges = [list(range(s.start, s.stop)) for s in self.slices()]
        index = torch.tensor([i for block in order for i in ranges[block]], dtype=torch.int64)
        return SortedIrreps(Irreps([self[i] for i in order]), index)

    def filter(self, keep: Iterable[str | Irrep]) -> Irreps:
        """The blocks whose irrep is in `keep`."""
        wanted = {Irrep(ir) for ir in keep}
        return Irreps([block for block in self if block.ir in wanted])

    # --- action ----------------------------------------------------------------------------------------------------
    def __call__(self, group: Group) -> Rep:
        """The representation of SO(3) or O(3) with this layout, as ``T(2)(group)``; under SO(3) parity has no meaning.

        Raises:
            RepresentationError: another group, or no irreps.
            IrrepsError: a degree is larger than 12.
        """
        from erlangen.reps.irreducible import direct_sum

        return direct_sum(self, group)

    def rho(self, R: Tensor, *, check: bool = True) -> Tensor:
        """Block-diagonal matrices ``[..., dim, dim]`` of elements ``[..., 3, 3]`` of O(3).

        A homomorphism: ``rho(R @ S) == rho(R) @ rho(S)``. Features move as ``x @ rho(R).mT``; `act` does this
        without the zeros. Errors of `wigner_D`.
        """
        matrices = self._matrices(R, check)
        out = R.new_zeros(*R.shape[:-2], self.dim, self.dim)
        for block, where in zip(self, self.slices(), strict=True):
            for start in range(where.start, where.stop, block.ir.dim):
                stop = start + block.ir.dim
                out[..., start:stop, start:stop] = matrices[block.ir]
        return out

    D_from_matrix = rho

    def act(self, R: Tensor, x: Tensor, *, check: bool = True) -> Tensor:
        """``x @ rho(R).mT`` block by block: features ``[..., dim]``, matrices ``[..., 3, 3]``, batches broadcast.

        Raises:
            ShapeError: the last dimension of x is not `dim`. Otherwise as `wigner_D`.
        """
        self.check_features(x, "x")
        matrices = self._matrices(R, check)
        parts = [x.new_zeros(*torch.broadcast_shapes(x.shape[:-1], R.shape[:-2]), 0)]
        with full_precision(x):
            for block, where in zip(self, self.slices(), strict=True):
                if block.mul:
                    copies = x[..., where].unflatten(-1, (block.mul, block.ir.dim))
                    parts.append((copies @ matrices[block.ir].mT).flatten(-2))
        return torch.cat(parts, -1)

    def randn(self, *size: int, generator: Generator | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Standard normal features ``[*size, dim]``, on the generator's device, the same stream for every dtype."""
        device = torch.device("cpu") if generator is None else generator.device
        x = torch.randn(*size, self.dim, generator=generator, dtype=torch.float64, device=device)
        return x.to(dtype or torch.get_default_dtype())

    def check_features(self, x: Tensor, name: str) -> None:
        """Raise `ShapeError` unless the last dimension of x is `dim`; the message says which degrees would fit."""
        if x.ndim > 0 and x.shape[-1] == self.dim:
            return
        size = x.shape[-1] if x.ndim > 0 else 1
        root = round(size**0.5)
        hint = f"; {size} numbers are one copy of each degree 0..{root - 1}" if size and root * root == size else ""
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, but irreps {self} need [..., {self.dim}]{hint}")

    def _matrices(self, R: Tensor, check: bool) -> dict[Irrep, Tensor]:
        check_matrices(R, check=check)
        D = wigner_D_all(self.lmax, R, check=False) if self.num_irreps else []
        return {block.ir: _with_parity(D[block.ir.l], block.ir, R) for block in self if block.mul}

    def __iter__(self) -> Iterator[MulIrrep]:
        return super().__iter__()

    def __str__(self) -> str:
        return "+".join(map(str, self))

    __repr__ = __str__


class SortedIrreps(NamedTuple):
    """Result of `Irreps.sort`: features in the new layout are ``x[..., permutation]``."""

    irreps: Irreps
    permutation: Tensor


def _with_parity(D: Tensor, ir: Irrep, R: Tensor) -> Tensor:
    """The matrix of harmonics has parity (-1)^l; the other one is that times the determinant of R."""
    if ir.p == (-1) ** ir.l:
        return D
    with full_precision(R):
        a, b, c = R.unbind(-1)
        determinant = (torch.linalg.cross(a, b) * c).sum(-1)
    return D * determinant.detach().sign()[..., None, None]


# --- the grammar --------------------------------------------------------------------------------------------
def _parse(text: str) -> list[MulIrrep]:
    if not text.strip():
        return []
    blocks, position = list[MulIrrep](), 0
    while True:
        times = _TIMES.match(text, position)
        irrep, position = _parse_irrep(text, times.end() if times else position)
        blocks.append(MulIrrep(int(times[1]) if times else 1, irrep))
        rest = text[position:].lstrip()
        position = len(text) - len(rest)
        if not rest:
            return blocks
        if rest[0] != "+":
            raise IrrepsError(_at(text, position, 'irreps are joined by "+"'))
        position += 1


def _parse_irrep(text: str, position: int) -> tuple[Irrep, int]:
    degree = _DEGREE.match(text, position)
    if degree is None:
        place = position + len(text[position:]) - len(text[position:].lstrip())
        raise IrrepsError(_at(text, place, 'a degree is expected here, as in "8x1o"'))
    l, end = int(degree[1]), degree.end()
    letter = text[end : end + 1]
    if letter not in ("e", "o", "y") or not letter:
        raise IrrepsError(_at(text, end, 'a parity is expected here: "e" (even), "o" (odd) or "y" ((-1)^l)'))
    return Irrep(l, {"e": 1, "o": -1, "y": (-1) ** l}[letter]), end + 1


def _at(text: str, position: int, reason: str) -> str:
    return f"not a list of irreps: {reason}\n  {text}\n  {' ' * position}^"


def _entry(item: object) -> MulIrrep:
    if isinstance(item, MulIrrep):
        return item
    if isinstance(item, str | Irrep) or _is_foreign(item, "l", "p"):
        return MulIrrep(1, Irrep(item))
    if _is_foreign(item, "mul", "ir"):
        return MulIrrep(cast("Any", item).mul, Irrep(cast("Any", item).ir))
    if isinstance(item, tuple) and len(item) == 2:
        mul, ir = item
        if is_whole(mul, 0):
            pair = isinstance(ir, tuple) and not _is_foreign(ir, "l", "p")
            return MulIrrep(mul, Irrep(*cast("tuple[int, int]", ir)) if pair else Irrep(ir))
    raise IrrepsError(
        f'{item!r} is no irrep; write Irreps("8x1o"), or pairs such as (8, "1o") with a multiplicity >= 0'
    )


def _is_foreign(value: object, *attributes: str) -> bool:
    """Whether a value is what another library, such as e3nn, has in place of a class of this module."""
    own = isinstance(value, (Irrep, MulIrrep, Irreps, str, int))
    return not own and all(hasattr(value, attribute) for attribute in attributes)
