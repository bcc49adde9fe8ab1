"""Blocks that change places, each with an element of its own: the symmetry of the heads of an attention."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupError
from erlangen.groups.base import Group, default_tol, loose_tol
from erlangen.groups.finite import check_positive, sample_device
from erlangen.groups.permutations import MAX_PLACES, Symmetric
from erlangen.groups.products import DirectProduct


class Wreath(Group):
    """Permutations of n blocks, and for each block an element of other groups: the wreath product of these by S_n.

    >>> from erlangen.groups import SO
    >>> G = Wreath(2, SO(2))
    >>> quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    >>> g = G.join(torch.tensor([1, 0]), torch.stack([torch.eye(2), quarter]).flatten(1))
    >>> G.linear(g).int()  # the first block goes to the second place as it is, the second one turns and goes to the first
    tensor([[ 0,  0,  0, -1],
            [ 0,  0,  1,  0],
            [ 1,  0,  0,  0],
            [ 0,  1,  0,  0]], dtype=torch.int32)

    The heads of an attention may be renamed so, while queries and keys of each are changed by one matrix and values by another:
    several groups share the permutation, and act on a copy of R^(n d) each.

    An element is a floating vector ``[n + n size]``: the places to which blocks go, as exact integers, then the elements of the
    blocks, by the place that they come from, those of the several groups side by side. Coordinates of the Lie algebra are those
    of all blocks, one after the other.

    Args:
        n: blocks.
        groups: infinite groups that act on R^d, with one d; a product of groups counts as one.

    Raises:
        GroupError: no group, finite ones, or ones that act on spaces of different dimension.
    """

    def __init__(self, n: int, *groups: Group) -> None:
        check_positive("Wreath", "n", n, MAX_PLACES)
        spaces = {group.space_dim for group in groups}
        if len(spaces) != 1 or 0 in spaces or any(group.order != math.inf for group in groups):
            raise GroupError(
                f"Wreath({n}, {', '.join(g.name for g in groups)}): give infinite groups that act on spaces of one dimension; "
                "Hyperoctahedral and Monomial are permutations with signs and with factors"
            )
        self.n, self.groups = n, groups
        first, *more = groups
        self.block: Group = DirectProduct(first, *more) if more else first
        self._base: Group = DirectProduct(*[self.block] * n) if n > 1 else self.block
        self.size = math.prod(self.block.shape)
        self.name = f"Wreath({n}, {', '.join(group.name for group in groups)})"
        self.shape = (n + n * self.size,)
        self.dim = n * self.block.dim
        self.is_compact, self.is_unimodular = self.block.is_compact, self.block.is_unimodular
        self.units = n * spaces.pop()
        self.space_dim = self.units * len(groups)

    # --- components ----------------------------------------------------------------------------------------------
    def places(self, g: Tensor) -> Tensor:
        """Where each block goes, int64 ``[..., n]``: an element of `Symmetric`."""
        self.batch_shape(g)
        return g[..., : self.n].round().long()

    def blocks(self, g: Tensor) -> Tensor:
        """The elements of the blocks, ``[..., n, size]``, by the place that they come from; `block` is their group."""
        self.batch_shape(g)
        return g[..., self.n :].unflatten(-1, (self.n, self.size))

    def join(self, places: Tensor, blocks: Tensor) -> Tensor:
        """Elements of places ``[..., n]`` and elements ``[..., n, size]`` of the blocks, whose batch dimensions broadcast."""
        batch = torch.broadcast_shapes(places.shape[:-1], blocks.shape[:-2])
        flat = blocks.flatten(-2).expand(*batch, -1)
        return torch.cat([places.to(blocks.dtype).expand(*batch, -1), flat], -1)

    def _apply(self, function: str, *blocks: Tensor) -> Tensor:
        """A method of the group of a block, on flat elements."""
        shaped = [b.unflatten(-1, self.block.shape) for b in blocks]
        made: Tensor = getattr(self.block, function)(*shaped)
        return made.reshape(blocks[0].shape)

    # --- algebra -------------------------------------------------------------------------------------------------
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """Every block stays, with the neutral element: ``[n + n size]``."""
        one = self.block.identity(dtype=dtype or torch.get_default_dtype(), device=device).reshape(1, self.size)
        return self.join(torch.arange(self.n, device=one.device), one.expand(self.n, -1))

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """First h, then g, batched with broadcasting."""
        self.batch_shape(g)
        self.batch_shape(h)
        g, h = torch.broadcast_tensors(g, h)
        first, later = self.places(h), self.blocks(g)
        later = later.gather(-2, first[..., None].expand(later.shape))
        return self.join(self.places(g).gather(-1, first), self._apply("compose", later, self.blocks(h)))

    def inverse(self, g: Tensor) -> Tensor:
        """Blocks return, with inverse elements."""
        back = self.places(g).argsort(-1)
        blocks = self._apply("inverse", self.blocks(g))
        return self.join(back, blocks.gather(-2, back[..., None].expand(blocks.shape)))

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which ``[..., n + n size]`` hold each place once, and elements of the groups."""
        batch = self.batch_shape(g)
        if not g.is_floating_point():
            return torch.zeros(batch, dtype=torch.bool, device=g.device)
        finite = torch.isfinite(g).all(-1)
        safe = torch.where(finite[..., None], g, self.identity(dtype=g.dtype, device=g.device))
        ordered = (safe[..., : self.n].sort(-1).values == torch.arange(self.n, device=g.device)).all(-1)
        blocks = self.blocks(safe).unflatten(-1, self.block.shape)
        tol = default_tol(g.dtype) if tol is None else tol
        return finite & ordered & self.block.contains(blocks, tol).all(-1)

    # --- how it moves R^n ----------------------------------------------------------------------------------------
    def matrices(self, g: Tensor, which: int = 0) -> Tensor:
        """Matrices ``[..., units, units]`` by which one of the groups moves R^(n d): block ``[places[i], i]`` is its matrix."""
        batch = self.batch_shape(g)
        element = self.blocks(g).unflatten(-1, self.block.shape)
        if len(self.groups) > 1:
            start = sum(math.prod(group.shape) for group in self.groups[:which])
            group = self.groups[which]
            element = element[..., start : start + math.prod(group.shape)].unflatten(-1, group.shape)
        small = self.groups[which].linear(element)
        d = self.units // self.n
        move = torch.nn.functional.one_hot(self.places(g), self.n).to(small)  # [..., from, to]
        return torch.einsum("...ft,...fij->...tifj", move, small).reshape(*batch, self.n * d, self.n * d)

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Block-diagonal: `matrices` of every group."""
        parts = [self.matrices(g, which) for which in range(len(self.groups))]
        out = torch.zeros(*self.batch_shape(g), self.space_dim, self.space_dim, dtype=g.dtype, device=g.device)
        for which, part in enumerate(parts):
            at = slice(which * self.units, (which + 1) * self.units)
            out[..., at, at] = part
        return out

    # --- elements ------------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform permutations, and samples of the groups, ``[*n, n + n size]``."""
        size = (n,) if isinstance(n, int) else n
        target = sample_device(device, generator)
        places = Symmetric(self.n).sample(size, generator=generator, device=target)
        blocks = self.block.sample((*size, self.n), generator=generator, dtype=dtype, device=target)
        return self.join(places, blocks.reshape(*size, self.n, self.size))

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """Sum of the weights of the blocks."""
        return self.block.log_haar_weight(self.blocks(g).unflatten(-1, self.block.shape)).sum(-1)

    def modular_function(self, g: Tensor) -> Tensor:
        """Product over the blocks."""
        return self.block.modular_function(self.blocks(g).unflatten(-1, self.block.shape)).prod(-1)

    @property
    def discrete_generators(self) -> Tensor:
        """A transposition and a cycle of the places, and the generators of the groups in the first block."""
        e = self.identity(dtype=torch.float64)
        moves = Symmetric(self.n).discrete_generators.to(e)
        moved = torch.cat([moves, e[self.n :].expand(len(moves), -1)], -1)
        inner = self.block.discrete_generators.double().flatten(1)
        first = e.repeat(len(inner), 1)
        first[:, self.n : self.n + self.size] = inner.reshape(len(inner), self.size)
        return torch.cat([moved, first])

    # --- Lie algebra ---------------------------------------------------------------------------------------------
    @property
    def lie_algebra(self) -> Tensor:
        """That of the blocks, one after the other."""
        return self._base.lie_algebra

    def exp(self, a: Tensor) -> Tensor:
        """Exponentials in every block, for coordinates ``[..., dim]``; every block stays."""
        self._check_coordinates(a)
        blocks = self.block.exp(a.unflatten(-1, (self.n, self.block.dim)))
        return self.join(torch.arange(self.n, device=a.device), blocks.reshape(*a.shape[:-1], self.n, self.size))

    def log(self, g: Tensor) -> Tensor:
        """Coordinates ``[..., dim]``; `GroupElementError` where a block moves."""
        self._check_log(g)
        still = (self.places(g) == torch.arange(self.n, device=g.device)).all(-1, keepdim=True)
        # Whatever moves is outside of the component that `exp` reaches, so it is named as no element of that one.
        self.check(torch.where(still, g, torch.nan), tol=loose_tol(g.dtype))
        return self.block.log(self.blocks(g).unflatten(-1, self.block.shape)).flatten(-2)

    def adjoint(self, g: Tensor) -> Tensor:
        """Matrices ``[..., dim, dim]``: those of the blocks, at the places to which these go."""
        small = self.block.adjoint(self.blocks(g).unflatten(-1, self.block.shape))
        move = torch.nn.functional.one_hot(self.places(g), self.n).to(small)
        return torch.einsum("...ft,...fij->...tifj", move, small).reshape(*self.batch_shape(g), self.dim, self.dim)

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.n, self.groups)
