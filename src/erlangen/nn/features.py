"""What layers between representations share: their symmetry, the check of their inputs, copies of equal parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from erlangen.actions import Custom
from erlangen.errors import ShapeError
from erlangen.groups import O
from erlangen.irreps import Irreps
from erlangen.reps import Rep
from erlangen.symmetry import Symmetry


def symmetry_between(rep_in: Rep, rep_out: Rep) -> Symmetry:
    """``f(rho_in(g) x) = rho_out(g) f(x)``."""
    move_in, move_out = (Custom(rep.apply, label=rep.name) for rep in (rep_in, rep_out))
    return Symmetry(rep_in.group, input=move_in, output=move_out)


def features_of(irreps: Irreps) -> Custom:
    """The action of O(3), or of the linear part of E(3), on features ``[..., irreps.dim]``."""
    return Custom(_Moves(irreps), label=str(irreps))


class _Moves:
    """A class, so that layers can be pickled."""

    def __init__(self, irreps: Irreps) -> None:
        self.rep = irreps(O(3)) if irreps.dim else None

    def __call__(self, g: Tensor, x: Tensor) -> Tensor:
        return x if self.rep is None else self.rep.apply(g[..., :3, :3], x)


def check_size(x: Tensor, rep: Rep) -> None:
    """Raise `ShapeError` unless x holds vectors of a representation."""
    if x.shape[-1:] != (rep.size,):
        raise ShapeError(f"x has shape {tuple(x.shape)}, but {rep.name} has vectors [..., {rep.size}]")


def split_copies(x: Tensor, runs: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """The part ``[..., n, size]`` of each run (n, size) of vectors ``[..., sum of n size]``."""
    for part, (n, size) in zip(x.split([n * size for n, size in runs], -1), runs, strict=True):
        yield part.unflatten(-1, (n, size))
