"""Linear layers between representations of any group."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import RepresentationError
from erlangen.groups import Group
from erlangen.groups import group as parse_group
from erlangen.irreps import Irreps
from erlangen.nn.features import check_size, symmetry_between
from erlangen.nn.kept import Kept
from erlangen.nn.reps._assembly import Assembly
from erlangen.reps import HomBasis, Rep, Scalar, hom_basis


class EquivariantLinear(nn.Module):
    """All linear maps that respect a group, plus an invariant bias: ``f(rho_in(g) x) = rho_out(g) f(x)``.

    The parameters are the coefficients of an orthonormal basis (Finzi, Welling and Wilson 2021); the forward pass is one
    matrix product with the assembled map, which is kept between calls in eval mode without gradients. The basis depends
    on the representations alone, so saved coefficients mean the same everywhere. Coefficients start as Gaussians for
    which the entries of every summand of the output have on average the variance of those of the input.

    >>> from erlangen.groups import SO
    >>> from erlangen.reps import Scalar, V
    >>> layer = EquivariantLinear(4 * V(SO(3)) + 2 * Scalar(SO(3)), 8 * V(SO(3)) + Scalar(SO(3)))
    >>> layer(torch.ones(5, 14)).shape, layer.weight.shape
    (torch.Size([5, 25]), torch.Size([34]))

    Irreps of SO(3) and O(3) may be written as text, with the group behind them:

    >>> EquivariantLinear("8x0e+4x1o", "2x0e+1o", "O(3)")
    EquivariantLinear(8*Scalar + 4*1o -> 2*Scalar + 1o, group=O(3), maps=20)

    Args:
        rep_in: representation on inputs ``[..., rep_in.size]``, or irreps.
        rep_out: representation on outputs ``[..., rep_out.size]``, of the same group, or irreps.
        group: SO(3) or O(3), or its name; needed where both are irreps.
        bias: whether to add the bias; a representation without invariant vectors has none.
        generator: source of the initial coefficients; torch's global stream without it.

    Raises:
        RepresentationError: the representations belong to different groups, no map but zero respects the group, or a
            pair of summands is too large to solve; the group of irreps is missing, or has none.
        IrrepsError: the text is not a list of irreps.
    """

    def __init__(
        self,
        rep_in: Rep | Irreps | str,
        rep_out: Rep | Irreps | str,
        group: Group | str | bool | None = None,
        bias: bool = True,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if isinstance(group, bool):  # the third argument was the bias
            group, bias = None, group
        rep_in, rep_out = _reps(rep_in, rep_out, group)
        self.rep_in, self.rep_out = rep_in, rep_out
        self._maps = hom_basis(rep_in >> rep_out)
        self._shifts = hom_basis(Scalar(rep_out.group) >> rep_out)
        dims = self._maps.dims
        if dims == 0:
            raise RepresentationError(
                f"no linear map but zero goes from {rep_in!r} to {rep_out.name}; add summands, for example Scalar to both"
            )
        self.weight = nn.Parameter(_scales(self._maps) * torch.randn(dims, generator=generator))
        self.bias = nn.Parameter(torch.zeros(self._shifts.dims)) if bias and self._shifts.dims else None
        self._assemble = Assembly(self._maps)
        self._assemble_shift = Assembly(self._shifts)
        self._kept = Kept[Tensor]()
        self.symmetry = symmetry_between(rep_in, rep_out)

    def matrix(self) -> Tensor:
        """The map ``[rep_out.size, rep_in.size]`` of the present coefficients."""
        return self._kept.get(self, lambda: self._assemble(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep_out.size]`` of inputs ``[..., rep_in.size]``.

        Raises:
            ShapeError: the last dimension is not ``rep_in.size``.
        """
        check_size(x, self.rep_in)
        shift = None if self.bias is None else self._assemble_shift(self.bias)[:, 0]
        return F.linear(x, self.matrix(), shift)

    @override
    def extra_repr(self) -> str:
        return f"{self.rep_in.name} -> {self.rep_out.name}, group={self.rep_in.group.name}, maps={self._maps.dims}"


def _reps(rep_in: Rep | Irreps | str, rep_out: Rep | Irreps | str, group: Group | str | None) -> tuple[Rep, Rep]:
    """Both as representations of one group."""
    given = next((rep.group for rep in (rep_in, rep_out) if isinstance(rep, Rep)), None)
    wanted = given if group is None else parse_group(group)
    if wanted is None:
        raise RepresentationError(
            f"group is missing: {str(rep_in)!r} and {str(rep_out)!r} are irreps; pass O(3) or SO(3) as the third argument"
        )
    if given is not None and wanted != given:
        raise RepresentationError(f"group is {wanted.name}, but a representation given is one of {given.name}")
    first, second = (rep if isinstance(rep, Rep) else Irreps(rep)(wanted) for rep in (rep_in, rep_out))
    return first, second


def _scales(maps: HomBasis) -> Tensor:
    """Standard deviation of each coefficient: the basis is orthonormal, so a summand's maps share its size equally."""
    reached: dict[int, int] = {}  # maps into one copy of a summand, by where it begins
    for block in maps.blocks:
        d, _, n = block.shape
        reached[block.start_out] = reached.get(block.start_out, 0) + d * n
    parts = [torch.full((math.prod(b.shape),), (b.basis.shape[1] / reached[b.start_out]) ** 0.5) for b in maps.blocks]
    return torch.cat(parts)
