"""Equivariant multilayer perceptrons for any group: the network builder."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import RepresentationError, is_whole
from erlangen.groups import Group
from erlangen.nn.features import check_size, symmetry_between
from erlangen.nn.reps.bilinear import BilinearLayer
from erlangen.nn.reps.gates import Elementwise, Gate, gated, permutes
from erlangen.nn.reps.linear import EquivariantLinear
from erlangen.reps import Regular, Rep, Scalar, T, V

RepLike = Rep | Callable[[Group], Rep]
"""A representation, or what makes one of a group: ``T(2)``, ``V``, ``Irreps("8x1o")``, ``PermutationTensor(1)``."""

MAX_RANK = 2
"""Largest rank of the hidden tensors that `hidden_rep` allocates."""
PRODUCT_SCALE = 0.25
"""Factor of the products in a block: with 1, squares of squares would make deep networks large at the start."""


def hidden_rep(group: Group, width: int) -> Rep:
    """A representation of about `width` channels, spread evenly over the tensors of rank 0, 1 and 2.

    The rule, after Finzi, Welling and Wilson (2021, section 7.4): every rank r gets an equal share of the channels, and
    takes as many tensors of n^r channels as fit. Where tensors of the highest rank do not fit into a share, that rank is
    dropped and the others share. Within a rank, the different ones among ``T(p, q)``, p + q = r, get equal numbers (for
    orthogonal groups there is one; for permutations these are `PermutationTensor`). What is left becomes scalars.
    Finite groups that act on no R^n get copies of `Regular` instead, at least one, and scalars for the rest.

    >>> from erlangen.groups import Lorentz, O
    >>> hidden_rep(O(3), 60), hidden_rep(Lorentz(1, 3), 120)
    (24*Scalar + 6*V + 2*V@V of O(3), 48*Scalar + 5*V + 5*V.dual + V@V.dual + V@V of Lorentz(1,3))

    Args:
        group: the group.
        width: number of channels, at least 1.

    Raises:
        RepresentationError: the width is no positive integer, or the group is infinite and acts on no R^n.
    """
    if not is_whole(width, 1):
        raise RepresentationError(f"hidden = {width!r}: give a positive number of channels, or a representation")
    if group.space_dim == 0:
        parts: list[tuple[int, Rep]] = [(max(1, width // int(group.order)), Regular(group))] if _listed(group) else []
    else:
        parts = _tensors(group, width)
    left = width - sum(n * rep.size for n, rep in parts)
    total: Rep | None = left * Scalar(group) if left > 0 else None
    for n, rep in parts:
        total = n * rep if total is None else total + n * rep
    assert total is not None  # a positive width leaves scalars where nothing else fits
    return total


class EMLP(nn.Module):
    """An equivariant network for any group and representations (Finzi, Welling and Wilson 2021).

    Each of the `layers` blocks is an `EquivariantLinear` map to the hidden representation with its gates, plus the
    `BilinearLayer` of the result, and a `Gate`; a last linear map leads to the output. Without products, gates alone
    could only rescale vectors and never, for example, compare two of them. Where elements permute the coordinates of all
    hidden parts, pointwise functions are enough and products are left out.

    Exactness: relative errors are those of rounding for compact groups. A product of the input is a polynomial in the
    matrices of the group, so for groups that are not compact rounding grows with the norm of the element to the power of
    the degree: use float64 and state a tolerance.

    >>> import torch
    >>> from erlangen.groups import O
    >>> from erlangen.reps import Scalar
    >>> model = EMLP(2 * T(1)(O(5)), Scalar, O(5), hidden=64, layers=2)
    >>> model(torch.ones(7, 10)).shape, model.symmetry
    (torch.Size([7, 1]), Symmetry(O(5): 2*V -> Scalar))

    Args:
        rep_in: representation on inputs ``[..., rep_in.size]``, or what makes one of `group`, such as ``T(1)``.
        rep_out: the same for outputs ``[..., rep_out.size]``.
        group: needed where neither is a representation yet.
        hidden: hidden representation, or a width for `hidden_rep`. For a direct product of groups give a representation
            that is built from those of the factors (``.inflate``).
        layers: number of blocks.
        bilinear: whether blocks have products; by default where some hidden part is not permuted.
        max_factors: which products; see `BilinearLayer`.
        activation: elementwise function of scalars and permuted coordinates.
        generator: source of the initial parameters; torch's global stream without it.

    Raises:
        RepresentationError: the representations do not belong to one group, `hidden` or `layers` is not positive, a
            product is too large, or no map but zero leads from one representation to the next.
    """

    def __init__(
        self,
        rep_in: RepLike,
        rep_out: RepLike,
        group: Group | None = None,
        hidden: int | RepLike = 128,
        layers: int = 3,
        *,
        bilinear: bool | None = None,
        max_factors: int = 4,
        activation: Elementwise = F.silu,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if not is_whole(layers, 1):
            raise RepresentationError(f"layers = {layers!r}: give a positive number of blocks")
        group = group or next((rep.group for rep in (rep_in, rep_out) if isinstance(rep, Rep)), None)
        self.rep_in, self.rep_out = _bound(rep_in, group, "rep_in"), _bound(rep_out, group, "rep_out")
        self.symmetry = symmetry_between(self.rep_in, self.rep_out)
        group = self.symmetry.group
        self.hidden = hidden_rep(group, hidden) if isinstance(hidden, int) else _bound(hidden, group, "hidden")
        if bilinear is None:
            bilinear = not all(permutes(part) for _, part in self.hidden.summands())
        factors = max_factors if bilinear else None
        sources = [self.rep_in] + [self.hidden] * (layers - 1)
        self.blocks = nn.Sequential(*(_Block(rep, self.hidden, factors, activation, generator) for rep in sources))
        self.last = EquivariantLinear(self.hidden, self.rep_out, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep_out.size]`` of inputs ``[..., rep_in.size]``.

        Raises:
            ShapeError: the last dimension is not ``rep_in.size``.
        """
        check_size(x, self.rep_in)
        return self.last(self.blocks(x))


class _Block(nn.Module):
    """``gate(h + product(h) / 4)`` with ``h = linear(x)``; no products without `max_factors`."""

    def __init__(
        self, rep_in: Rep, rep: Rep, max_factors: int | None, activation: Elementwise, generator: Generator | None
    ) -> None:
        super().__init__()
        inner = gated(rep)
        self.linear = EquivariantLinear(rep_in, inner, generator=generator)
        self.product = None
        if max_factors is not None:
            self.product = BilinearLayer(inner, inner, max_factors=max_factors, generator=generator)
        self.gate = Gate(rep, activation)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        return self.gate(h if self.product is None else h + PRODUCT_SCALE * self.product(h))


def _tensors(group: Group, width: int) -> list[tuple[int, Rep]]:
    n, top = V(group).size, MAX_RANK
    while top and width // (top + 1) < n**top:
        top -= 1
    parts: list[tuple[int, Rep]] = []
    for rank in range(1, top + 1):
        # Those with as many upper as lower indices first: they take what cannot be divided.
        pairs = sorted(((rank - q, q) for q in range(rank + 1)), key=lambda pair: abs(pair[0] - pair[1]))
        kinds = list(dict.fromkeys(T(p, q)(group) for p, q in pairs))
        each, more = divmod(width // (top + 1) // n**rank, len(kinds))
        parts += [(each + (i < more), rep) for i, rep in enumerate(kinds) if each + (i < more)]
    return parts


def _listed(group: Group) -> bool:
    if group.order == float("inf"):
        raise RepresentationError(
            f"{group.name} acts on no R^n and is infinite, so there are no tensors to choose from; give hidden as a "
            "representation"
        )
    return True


def _bound(rep: object, group: Group | None, name: str) -> Rep:
    """The representation itself, or the one that `rep` makes of the group."""
    if not isinstance(rep, Rep):
        made = rep(group) if callable(rep) and group is not None else None
        if not isinstance(made, Rep):
            raise RepresentationError(
                f"{name} is {rep!r}; give a representation such as V(group), or group= and what makes one, such as T(1)"
            )
        return made
    if group is not None and rep.group != group:
        raise RepresentationError(
            f"{name} is {rep!r}, but the network is for {group.name}; bring it there with .restrict or .inflate"
        )
    return rep
