"""What a rigid motion leaves alone in a pair of points, or of points with orientations: the arguments of shared weights.

A kernel on pairs is invariant under a group exactly when it is a function of invariants of the pair's orbit (Bekkers et
al., "Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in Position-Orientation Space", ICLR 2024,
theorem 1). It can be any such function only when the invariants are complete: when pairs with equal invariants lie on one
orbit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import ShapeError, UnknownNameError
from erlangen.numerics import safe_norm


class _Space(NamedTuple):
    dim: int | None
    orientation: tuple[int, ...]
    common: tuple[str, ...]
    completing: tuple[str, ...]
    group: str


_SPACES = {
    "R^n": _Space(None, (), ("|r|",), (), "E(n)"),
    "R^2xS^1": _Space(2, (2,), ("o_i.r", "o_i^r", "o_i.o_j"), ("o_i^o_j",), "SE(2)"),
    "R^3xS^2": _Space(3, (3,), ("o_i.r", "|r - (o_i.r) o_i|", "o_i.o_j"), ("o_j.r", "det[o_i, o_j, r]"), "SE(3)"),
    "SE(2)": _Space(2, (2, 2), ("R_i^T r", "R_i^T R_j"), (), "SE(2)"),
    "SE(3)": _Space(3, (3, 3), ("R_i^T r", "R_i^T R_j"), (), "SE(3)"),
}


class PairInvariants:
    """Invariants of pairs (i, j) in a homogeneous space, with ``r = x_j - x_i``.

    ============  ==================================================  ====================================  =========
    space         invariants                                          with ``complete=True`` also           group
    ============  ==================================================  ====================================  =========
    ``R^n``       ``|r|``                                             (complete)                            E(n)
    ``R^2xS^1``   ``o_i.r``, ``o_i^r``, ``o_i.o_j``                   ``o_i^o_j``                           SE(2)
    ``R^3xS^2``   ``o_i.r``, ``|r - (o_i.r) o_i|``, ``o_i.o_j``       ``o_j.r``, ``det[o_i, o_j, r]``       SE(3)
    ``SE(2)``     ``R_i^T r`` (2), ``R_i^T R_j`` (4)                  (complete)                            SE(2)
    ``SE(3)``     ``R_i^T r`` (3), ``R_i^T R_j`` (9)                  (complete)                            SE(3)
    ============  ==================================================  ====================================  =========

    ``a^b`` is ``a_1 b_2 - a_2 b_1``. The sets of three are those of the paper. They do not determine the pair: the plane
    set loses the sign of the angle from o_i to o_j, and in space pairs have 10 - 6 = 4 degrees of freedom, of which three
    numbers cannot tell all. With ``complete=True`` two pairs have equal invariants exactly if an element of the group takes
    one to the other. The determinant changes its sign under reflections; all others in ``R^3xS^2`` do not.

    >>> invariants = PairInvariants("R^2xS^1")
    >>> origin, up, right = torch.zeros(2), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    >>> invariants(origin, right, up, right)
    tensor([ 0., -1.,  0., -1.])

    Args:
        space: a name of the table.
        complete: also the invariants that the set of the paper lacks.

    Attributes:
        names: one for each number, in order; matrix entries row by row.
        is_complete: whether the numbers determine the orbit of the pair.
        group: the group whose orbits are meant.

    Raises:
        UnknownNameError: `space` is not in the table.
    """

    def __init__(self, space: str, *, complete: bool = True) -> None:
        if space not in _SPACES:
            raise UnknownNameError(f"space = {space!r}: choose {', '.join(_SPACES)}")
        self.space, self._layout = space, _SPACES[space]
        self.group = self._layout.group
        self.is_complete = complete or not self._layout.completing
        self.names = self._layout.common + (self._layout.completing if complete else ())
        if len(self._layout.orientation) == 2:
            n = self._layout.orientation[0]
            self.names = tuple(f"(R_i^T r)_{a}" for a in range(n)) + tuple(
                f"(R_i^T R_j)_{a}{b}" for a in range(n) for b in range(n)
            )

    @property
    def size(self) -> int:
        """How many numbers there are for each pair."""
        return len(self.names)

    def __call__(
        self, pos_i: Tensor, pos_j: Tensor, ori_i: Tensor | None = None, ori_j: Tensor | None = None
    ) -> Tensor:
        """``[..., size]``.

        Args:
            pos_i, pos_j: positions ``[..., n]``; leading axes of all arguments broadcast.
            ori_i, ori_j: orientations: unit vectors ``[..., n]`` in ``R^2xS^1`` and ``R^3xS^2``, rotations ``[..., n, n]``
                in SE(n), none in ``R^n``.

        Raises:
            ShapeError: a shape does not fit the space, or an orientation is missing or not wanted.
        """
        r = pos_j - pos_i
        self._check(r, ori_i, ori_j)
        if ori_i is None or ori_j is None:
            return safe_norm(r, keepdim=True)
        if len(self._layout.orientation) == 2:
            turned = ori_i.mT @ ori_j
            moved = (ori_i.mT @ r[..., None])[..., 0]
            lead = torch.broadcast_shapes(turned.shape[:-2], moved.shape[:-1])
            return torch.cat([moved.expand(*lead, -1), turned.flatten(-2).expand(*lead, -1)], -1)
        columns = [*spatial_invariants(r, ori_i).unbind(-1), _dot(ori_i, ori_j)]
        if self.is_complete:
            columns += [_cross(ori_i, ori_j)] if self._layout.dim == 2 else [_dot(ori_j, r), _volume(ori_i, ori_j, r)]
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def __repr__(self) -> str:
        return f"PairInvariants({self.space!r}: {', '.join(self.names)})"

    def _check(self, r: Tensor, ori_i: Tensor | None, ori_j: Tensor | None) -> None:
        layout = self._layout
        if layout.dim is not None and r.shape[-1] != layout.dim:
            raise ShapeError(f"positions have {r.shape[-1]} coordinates, but {self.space} needs {layout.dim}")
        rank = len(layout.orientation)
        for name, ori in (("ori_i", ori_i), ("ori_j", ori_j)):
            if (ori is None) != (rank == 0) or (ori is not None and ori.shape[-rank:] != layout.orientation):
                given = "missing" if ori is None else f"of shape {tuple(ori.shape)}"
                needs = f"[..., {', '.join(map(str, layout.orientation))}]" if rank else "none"
                raise ShapeError(f"{name} is {given}, but {self.space} needs {needs}")


def spatial_invariants(r: Tensor, ori: Tensor) -> Tensor:
    """The two invariants ``[..., 2]`` of a vector and a unit vector, the ones of a pair that do not depend on ``o_j``.

    In the plane ``o.r`` and ``o^r``, in space ``o.r`` and ``|r - (o.r) o|``, whose gradient is zero where r is along o.

    Args:
        r: ``[..., n]``, n 2 or 3; leading axes of both arguments broadcast.
        ori: unit vectors ``[..., n]``.

    Raises:
        ShapeError: n is not 2 or 3, or differs.
    """
    if r.shape[-1] not in (2, 3) or ori.shape[-1] != r.shape[-1]:
        raise ShapeError(f"r {tuple(r.shape)}, ori {tuple(ori.shape)}; both need 2 or 3 coordinates")
    along = _dot(r, ori)
    across = _cross(ori, r) if r.shape[-1] == 2 else safe_norm(r - along[..., None] * ori)
    return torch.stack([along, across], -1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _volume(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(a.shape, b.shape, c.shape)
    return _dot(torch.linalg.cross(a.expand(shape), b.expand(shape)), c)
