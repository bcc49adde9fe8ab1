"""Products of features with themselves, for any group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import RepresentationError, check_integer
from erlangen.nn.features import check_size, split_copies, symmetry_between
from erlangen.reps import Rep, equivariant_basis

MAX_UNKNOWNS = 10_000
"""Largest number of entries of one bilinear map: one more than this takes the solver seconds to minutes."""


@dataclass(frozen=True)
class _Kind:
    """All copies of one part of a representation: the runs that hold them, and how many there are."""

    part: Rep
    runs: Sequence[int]
    copies: int


@dataclass(frozen=True)
class _Product:
    """All bilinear maps ``left x right -> out`` between kinds: orthonormal, float64 ``[dims, out, left, right]``."""

    basis: Tensor
    left: int
    right: int
    out: int


class BilinearLayer(nn.Module):
    """Learned equivariant products of pairs of features: ``f(x) = B(x, x)`` with B bilinear and equivariant.

    For parts a, b of the input and c of the output, an orthonormal basis of the equivariant maps ``a x b -> c`` is found
    (`erlangen.reps.hom_basis`, so every group will do). Each copy of c is the sum, over all such maps, of the product of
    two learned mixtures of copies::

        y_c[j] = sum_d basis_d(sum_p L[d, j, p] x_a[p], sum_q R[d, j, q] x_b[q])

    These are the bilinear maps of Finzi, Welling and Wilson (2021, section 7.3), which contract a tensor of the input
    with a vector of the input, and also products that make larger tensors out of smaller ones. For products of two
    different things, put them side by side: ``rep_x + rep_y``.

    Cost for each vector and each d, j: ``n_a size_a + n_b size_b + size_a size_b size_c`` multiplications, with n copies,
    and ``n_a + n_b`` parameters. Parameters start as Gaussians for which normal inputs give outputs of variance 1.

    >>> from erlangen.groups import SO
    >>> from erlangen.reps import Scalar, V
    >>> layer = BilinearLayer(4 * V(SO(3)), 2 * Scalar(SO(3)) + 3 * V(SO(3)))     # inner and cross products
    >>> layer(torch.ones(5, 12)).shape
    torch.Size([5, 11])

    Args:
        rep_in: representation on inputs ``[..., rep_in.size]``.
        rep_out: representation on outputs ``[..., rep_out.size]``. Parts that no product reaches stay zero.
        max_factors: products with more tensor factors in a, b and c together are left out. 4 keeps for example
            ``V x V -> Scalar``, ``V@V x V -> V``, ``V x V -> V@V``, ``V@V x V@V -> Scalar``.
        generator: source of the initial parameters; torch's global stream without it.

    Raises:
        RepresentationError: the representations belong to different groups, no product but zero respects the group, or
            a product has more than 10,000 entries.
    """

    def __init__(self, rep_in: Rep, rep_out: Rep, *, max_factors: int = 4, generator: Generator | None = None) -> None:
        super().__init__()
        check_integer("max_factors", max_factors, 0, error=RepresentationError)
        self.rep_in, self.rep_out = rep_in, rep_out
        self.symmetry = symmetry_between(rep_in, rep_out)
        self._sources, self._targets = _kinds(rep_in), _kinds(rep_out)
        self._products = _products(self._sources, self._targets, max_factors)
        if not self._products:
            raise RepresentationError(
                f"no product of two parts of {rep_in!r} with at most {max_factors} tensor factors reaches a part of "
                f"{rep_out.name}; add Scalar to both, or raise max_factors"
            )
        self._runs_in, self._runs_out = ([(n, part.size) for n, part in rep.summands()] for rep in (rep_in, rep_out))
        self.mixtures = nn.ParameterList(self._initial(generator))

    def _initial(self, generator: Generator | None) -> list[Tensor]:
        """One matrix ``[mixtures, copies]`` for each kind of the input; products take their rows in order."""
        maps = [sum(len(p.basis) for p in self._products if p.out == c) for c in range(len(self._targets))]
        rows: list[list[Tensor]] = [[] for _ in self._sources]
        for p in self._products:
            target = self._targets[p.out]
            for side, variance in ((p.left, target.part.size / maps[p.out]), (p.right, 1.0)):
                copies = self._sources[side].copies
                scale = (variance / copies) ** 0.5
                rows[side].append(scale * torch.randn(len(p.basis) * target.copies, copies, generator=generator))
        return [torch.cat(r) if r else torch.zeros(0, k.copies) for r, k in zip(rows, self._sources, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep_out.size]`` of inputs ``[..., rep_in.size]``.

        Raises:
            ShapeError: the last dimension is not ``rep_in.size``.
        """
        check_size(x, self.rep_in)
        runs = list(split_copies(x, self._runs_in))
        mixed: list[Tensor] = []
        for weight, kind in zip(self.mixtures, self._sources, strict=True):
            copies = torch.cat([runs[i] for i in kind.runs], -2) if len(kind.runs) > 1 else runs[kind.runs[0]]
            mixed.append(weight @ copies)
        used = [0] * len(mixed)
        totals: list[Tensor | None] = [None] * len(self._targets)
        for p in self._products:
            dims, m = len(p.basis), self._targets[p.out].copies
            pair: list[Tensor] = []
            for side in (p.left, p.right):
                start, used[side] = used[side], used[side] + dims * m
                pair.append(mixed[side][..., start : used[side], :].unflatten(-2, (dims, m)))
            term, total = _multiply(p.basis.to(x), *pair), totals[p.out]
            totals[p.out] = term if total is None else total + term
        return self._laid_out(x, totals)

    def _laid_out(self, x: Tensor, totals: list[Tensor | None]) -> Tensor:
        """Outputs of all kinds ``[..., copies, size]`` in the layout of `rep_out`."""
        runs: list[Tensor] = [x[..., :0]] * len(self._runs_out)
        for kind, total in zip(self._targets, totals, strict=True):
            sizes = [self._runs_out[i][0] for i in kind.runs]
            whole = x.new_zeros(*x.shape[:-1], kind.copies, kind.part.size) if total is None else total
            for i, part in zip(kind.runs, whole.split(sizes, -2), strict=True):
                runs[i] = part.flatten(-2)
        return torch.cat(runs, -1)

    @override
    def extra_repr(self) -> str:
        maps = sum(len(p.basis) for p in self._products)
        return f"{self.rep_in.name} -> {self.rep_out.name}, group={self.rep_in.group.name}, maps={maps}"


def _multiply(basis: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``sum_d basis_d(left_d, right_d)``: ``[d, k, i, j], [..., d, m, i], [..., d, m, j]`` to ``[..., m, k]``.

    The order of contraction is the one whose intermediate result is smallest.
    """
    _, k, i, j = basis.shape
    smallest = min(i * j, k * i, k * j)
    if smallest == i * j:
        return torch.einsum("...dmij,dkij->...mk", left[..., None] * right[..., None, :], basis)
    if smallest == k * i:
        return torch.einsum("...dmki,...dmi->...mk", torch.einsum("...dmj,dkij->...dmki", right, basis), left)
    return torch.einsum("...dmkj,...dmj->...mk", torch.einsum("...dmi,dkij->...dmkj", left, basis), right)


def _kinds(rep: Rep) -> list[_Kind]:
    """Equal parts together, in the order of their first appearance."""
    runs: dict[Rep, list[int]] = {}
    copies: dict[Rep, int] = {}
    for i, (n, part) in enumerate(rep.summands()):
        runs.setdefault(part, []).append(i)
        copies[part] = copies.get(part, 0) + n
    return [_Kind(part, tuple(where), copies[part]) for part, where in runs.items()]


def _products(sources: Sequence[_Kind], targets: Sequence[_Kind], max_factors: int) -> list[_Product]:
    """The products of unordered pairs of kinds: the other order has the same maps."""
    found: list[_Product] = []
    for c, target in enumerate(targets):
        for a, left in enumerate(sources):
            for b, right in enumerate(sources[a:], start=a):
                parts = (left.part, right.part, target.part)
                factors = sum(not f.is_unit for part in parts for f in part.factors())
                if factors > max_factors:
                    continue
                basis = _basis(*parts, factors)
                if len(basis):
                    found.append(_Product(basis, a, b, c))
    return found


def _basis(left: Rep, right: Rep, out: Rep, factors: int) -> Tensor:
    unknowns = left.size * right.size * out.size
    if unknowns > MAX_UNKNOWNS:
        raise RepresentationError(
            f"the product {left.name} x {right.name} -> {out!r} has {unknowns:,} entries, more than {MAX_UNKNOWNS:,}; leave "
            f"it out with max_factors={factors - 1}, use smaller parts, or, where elements permute coordinates, no product "
            "at all: functions of single numbers are enough there"
        )
    return equivariant_basis(left @ right >> out).unflatten(-1, (left.size, right.size))
