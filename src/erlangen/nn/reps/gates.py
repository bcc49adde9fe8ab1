"""Non-linearities for representations of any group: gates, and functions of the norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import RepresentationError
from erlangen.nn.features import check_size, split_copies, symmetry_between
from erlangen.numerics import safe_norm
from erlangen.reps import Rep, Scalar
from erlangen.reps.base import generators

Elementwise = Callable[[Tensor], Tensor]
"""A function that treats every number alike, such as ``torch.tanh``; a module counts too."""

_PERMUTATION_TOL = 1e-9


def gated(rep: Rep) -> Rep:
    """What `Gate` takes in: the representation, and one `Scalar` for each copy of a summand that needs a gate.

    Scalars and summands whose elements permute coordinates need none; `Gate` says why.

    >>> from erlangen.groups import O
    >>> from erlangen.reps import V
    >>> gated(2 * Scalar(O(3)) + 4 * V(O(3)))
    2*Scalar + 4*V + 4*Scalar of O(3)
    """
    gates = sum(n for n, part in rep.summands() if not permutes(part))
    return rep + gates * Scalar(rep.group) if gates else rep


def permutes(rep: Rep) -> bool:
    """Whether every element permutes the coordinates, so that any function of one number may be applied to each.

    True for `Scalar`, `Regular`, `Quotient`, the tensors of `Symmetric(n)`, and whatever else has generators that are
    permutation matrices. For a tensor product, that of all its factors.
    """
    if rep.is_unit:
        return True
    factors = rep.factors()
    if len(factors) > 1:
        return all(permutes(f) for f in factors)
    a, h = generators(rep.group)
    if len(a) and bool((rep.drho(a).abs() > _PERMUTATION_TOL).any()):
        return False
    matrices = rep.rho(h, dtype=torch.float64)
    ones = (matrices - 1).abs() <= _PERMUTATION_TOL
    zeros = matrices.abs() <= _PERMUTATION_TOL
    return bool((ones | zeros).all()) and bool((ones.sum(-1) == 1).all())


class Gate(nn.Module):
    """Gated non-linearity for any group (Weiler et al. 2018, section 4.3; Finzi, Welling and Wilson 2021).

    Scalars, and summands whose elements permute coordinates, go through `activation` number by number. Every other
    summand is multiplied by `gate` of its own scalar, which comes in behind the features.

    >>> from erlangen.groups import O
    >>> from erlangen.reps import V
    >>> layer = Gate(2 * Scalar(O(3)) + 4 * V(O(3)))
    >>> layer.rep_in.size, layer(torch.ones(5, 18)).shape
    (18, torch.Size([5, 14]))

    Args:
        rep: representation of the outputs ``[..., rep.size]``; that of the inputs is ``gated(rep)``.
        activation: elementwise function for scalars and permuted coordinates.
        gate: elementwise function of the gates.
    """

    def __init__(self, rep: Rep, activation: Elementwise = F.silu, gate: Elementwise = torch.sigmoid) -> None:
        super().__init__()
        self.rep_in, self.rep_out = gated(rep), rep
        self.activation, self.gate = activation, gate
        self._runs = [(n, part.size) for n, part in rep.summands()]
        self._pointwise = [permutes(part) for _, part in rep.summands()]
        self.symmetry = symmetry_between(self.rep_in, rep)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep.size]`` of inputs ``[..., gated(rep).size]``.

        Raises:
            ShapeError: the last dimension is not ``gated(rep).size``.
        """
        check_size(x, self.rep_in)
        size = self.rep_out.size
        gates = self.gate(x[..., size:])
        outputs: list[Tensor] = []
        used = 0
        for copies, pointwise in zip(split_copies(x[..., :size], self._runs), self._pointwise, strict=True):
            if pointwise:
                outputs.append(self.activation(copies).flatten(-2))
                continue
            n = copies.shape[-2]
            outputs.append((copies * gates[..., used : used + n, None]).flatten(-2))
            used += n
        return torch.cat(outputs, -1)

    @override
    def extra_repr(self) -> str:
        return f"{self.rep_in.name} -> {self.rep_out.name}, group={self.rep_out.group.name}"


class NormActivation(nn.Module):
    """A function of the norm: ``v -> activation(|v| + b) v / |v|`` with one learned b for each copy (Worrall et al. 2017).

    Scalars go through `activation` themselves. The zero vector stays zero; its gradient is the finite one of
    ``activation(b) v``, as the direction has no derivative there.

    Args:
        rep: representation of inputs and outputs ``[..., rep.size]``, of orthogonal summands.
        activation: elementwise function. The b start at 0.

    Raises:
        RepresentationError: a summand is not orthogonal, so that elements change its norm.
    """

    def __init__(self, rep: Rep, activation: Elementwise = F.silu) -> None:
        super().__init__()
        for _, part in rep.summands():
            if not part.is_orthogonal:
                raise RepresentationError(
                    f"{part!r} is not orthogonal, so the group changes the norm of its vectors; use Gate(rep), which "
                    "works for every group"
                )
        self.rep, self.activation = rep, activation
        self._runs = [(n, part.size) for n, part in rep.summands()]
        self._scalar = [part.is_unit for _, part in rep.summands()]
        self.bias = nn.Parameter(torch.zeros(sum(n for n, part in rep.summands() if not part.is_unit)))
        self.symmetry = symmetry_between(rep, rep)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep.size]`` of inputs ``[..., rep.size]``.

        Raises:
            ShapeError: the last dimension is not ``rep.size``.
        """
        check_size(x, self.rep)
        outputs: list[Tensor] = []
        used = 0
        for copies, scalar in zip(split_copies(x, self._runs), self._scalar, strict=True):
            if scalar:
                outputs.append(self.activation(copies).flatten(-2))
                continue
            n = copies.shape[-2]
            norm = safe_norm(copies, keepdim=True)
            scale = self.activation(norm + self.bias[used : used + n, None]) / torch.where(norm == 0, 1.0, norm)
            outputs.append((copies * scale).flatten(-2))
            used += n
        return torch.cat(outputs, -1)

    @override
    def extra_repr(self) -> str:
        return f"{self.rep.name}, group={self.rep.group.name}"
