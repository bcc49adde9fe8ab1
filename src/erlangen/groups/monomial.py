"""Permutations that also multiply: by positive factors, or by signs. The symmetry of the units of a network."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod

import torch
from torch import Generator, Tensor

from erlangen.errors import DtypeError
from erlangen.groups.base import Group, default_tol, loose_tol
from erlangen.groups.finite import check_positive, finite_grid, is_integer, random_integers, sample_device
from erlangen.groups.matrix import DEFAULT_SCALE, scaled_name
from erlangen.groups.permutations import MAX_PLACES, Symmetric
from erlangen.groups.rotations import draw_device, standard_normal


class _Monomial(Group):
    """Elements ``[1 + sets, n]``: places, then factors; e_i goes to ``factors[i] * e_places[i]``.

    Several sets of factors share one permutation: the group acts on R^n once for each set.
    """

    def __init__(self, n: int, sets: int) -> None:
        self.n, self.sets = n, sets
        self.shape = (1 + sets, n)
        self.space_dim = n * sets

    @abstractmethod
    def _good_factors(self, factors: Tensor, tol: float) -> Tensor:
        """Boolean ``[..., sets, n]``."""

    def places(self, g: Tensor) -> Tensor:
        """Where each entry goes, int64 ``[..., n]``: an element of `Symmetric`."""
        self.batch_shape(g)
        return g[..., 0, :].round().long() if g.is_floating_point() else g[..., 0, :].long()

    def factors(self, g: Tensor) -> Tensor:
        """What each entry is multiplied by, ``[..., sets, n]``, by the place that it comes from."""
        self.batch_shape(g)
        return g[..., 1:, :]

    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """Every entry stays, times 1: ``[1 + sets, n]``."""
        dtype = self.element_dtype or dtype or torch.get_default_dtype()
        ones = torch.ones(self.sets, self.n, dtype=dtype, device=device)
        return torch.cat([torch.arange(self.n, dtype=dtype, device=device)[None], ones])

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """First h, then g, batched with broadcasting."""
        self._check_dtype(g)
        self._check_dtype(h)
        self.batch_shape(g)
        self.batch_shape(h)
        g, h = torch.broadcast_tensors(g, h)
        moved = g.gather(-1, self.places(h)[..., None, :].expand(g.shape))
        return torch.cat([moved[..., :1, :], moved[..., 1:, :] * h[..., 1:, :]], -2)

    def inverse(self, g: Tensor) -> Tensor:
        """Entries return, divided by their factors."""
        self._check_dtype(g)
        back = self.places(g).argsort(-1)
        factors = self.factors(g).gather(-1, back[..., None, :].expand(*g.shape[:-2], self.sets, self.n))
        inverses = factors if self.element_dtype is not None else factors.reciprocal()  # a sign is its own inverse
        return torch.cat([back[..., None, :].to(g), inverses], -2)

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which ``[..., 1 + sets, n]`` hold each place once and allowed factors."""
        batch = self.batch_shape(g)
        if g.is_floating_point() == (self.element_dtype is not None) or g.dtype == torch.bool or g.is_complex():
            return torch.zeros(batch, dtype=torch.bool, device=g.device)
        whole = (
            torch.isfinite(g[..., 0, :]) if g.is_floating_point() else torch.ones_like(g[..., 0, :], dtype=torch.bool)
        )
        places = torch.where(whole, g[..., 0, :], -1)
        ordered = (places.sort(-1).values == torch.arange(self.n, device=g.device)).all(-1)
        tol = default_tol(g.dtype) if tol is None else tol
        return ordered & self._good_factors(g[..., 1:, :], tol).all(-1).all(-1)

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Block-diagonal ``[..., sets n, sets n]``, one block ``M[places[i], i] = factors[i]`` for each set."""
        dtype = g.dtype if g.is_floating_point() else dtype or torch.get_default_dtype()
        batch = self.batch_shape(g)
        rows = self.places(g)[..., None, :, None].expand(*batch, self.sets, self.n, 1)
        blocks = torch.zeros(*batch, self.sets, self.n, self.n, dtype=dtype, device=g.device)
        blocks = blocks.scatter(-1, rows, self.factors(g)[..., None].to(dtype)).mT
        out = torch.zeros(*batch, self.sets, self.n, self.sets, self.n, dtype=dtype, device=g.device)
        each = torch.arange(self.sets, device=g.device)
        out[..., each, :, each, :] = blocks.movedim(-3, 0)
        return out.reshape(*batch, self.space_dim, self.space_dim)

    @property
    def discrete_generators(self) -> Tensor:
        """A transposition and a cycle of the places, ``[k, 1 + sets, n]``."""
        e = self.identity()
        moves = Symmetric(self.n).discrete_generators.to(e)
        return torch.cat([moves[:, None], e[1:].expand(len(moves), self.sets, self.n)], 1)

    def _check_dtype(self, g: Tensor) -> None:
        if self.element_dtype is not None and not is_integer(g):
            raise DtypeError(f"g has dtype {g.dtype}, but elements of {self.name} are int64; call g.long()")
        if self.element_dtype is None and not g.is_floating_point():
            raise DtypeError(f"g has dtype {g.dtype}, but elements of {self.name} are floating; call g.double()")


class Monomial(_Monomial):
    """Permutations of n places with positive factors: the matrices with one positive entry in each row and column.

    >>> Monomial(3).linear(torch.tensor([[2.0, 0.0, 1.0], [5.0, 6.0, 7.0]]))
    tensor([[0., 6., 0.],
            [0., 0., 7.],
            [5., 0., 0.]])

    The units of a layer before a ReLU may be renamed and rescaled so without a change of what the network computes.

    An element is a floating tensor ``[1 + sets, n]``: the places to which the entries go, then the factors, by the place that
    they come from; places are exact integers. Coordinates of the Lie algebra are the logarithms of the factors.

    Args:
        n: places.
        sets: sets of factors that share the permutation; R^(sets n) is moved, set by set.
        scale: the proposal draws permutations uniformly and logarithms of factors from a normal of this standard deviation.
    """

    is_compact = False

    def __init__(self, n: int, *, sets: int = 1, scale: float = DEFAULT_SCALE) -> None:
        check_positive("Monomial", "n", n, MAX_PLACES)
        check_positive("Monomial", "sets", sets, MAX_PLACES)
        super().__init__(n, sets)
        self.name = scaled_name(f"Monomial({n})" if sets == 1 else f"Monomial({n}, sets={sets})", scale)
        self.dim = n * sets
        self.scale = scale

    def _good_factors(self, factors: Tensor, tol: float) -> Tensor:
        return torch.isfinite(factors) & (factors > 0)

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Random elements ``[*n, 1 + sets, n]`` of the proposal."""
        size = (n,) if isinstance(n, int) else n
        places = Symmetric(self.n).sample(size, generator=generator, device=draw_device(generator))
        factors = (self.scale * standard_normal((*size, self.sets, self.n), generator)).exp()
        g = torch.cat([places[..., None, :].to(factors), factors], -2)
        return g.to(dtype=dtype or torch.get_default_dtype(), device=sample_device(device, generator))

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """Half the squared norm of log(factors)/scale: Haar measure is that of the logarithms."""
        return self.factors(g).log().square().sum((-2, -1)) / (2 * self.scale**2)

    @property
    def lie_algebra(self) -> Tensor:
        """Diagonal units, float64 ``[dim, dim, dim]``."""
        return torch.diag_embed(torch.eye(self.dim, dtype=torch.float64))

    def exp(self, a: Tensor) -> Tensor:
        """Factors ``exp(a)`` of coordinates ``[..., dim]``; every place stays."""
        self._check_coordinates(a)
        factors = a.exp().unflatten(-1, (self.sets, self.n))
        places = torch.arange(self.n, dtype=a.dtype, device=a.device).expand(*a.shape[:-1], 1, self.n)
        return torch.cat([places, factors], -2)

    def log(self, g: Tensor) -> Tensor:
        """Logarithms of the factors ``[..., dim]``; `GroupElementError` where a place moves."""
        self._check_log(g)
        still = self.identity(dtype=g.dtype, device=g.device)[:1].expand_as(g[..., :1, :])
        # Whatever moves is outside of the component that `exp` reaches, so it is named as no element of that one.
        self.check(torch.where((g[..., :1, :] == still).all(-1, keepdim=True), g, -1.0), tol=loose_tol(g.dtype))
        return self.factors(g).log().flatten(-2)

    def adjoint(self, g: Tensor) -> Tensor:
        """The permutation of the coordinates, ``[..., dim, dim]``."""
        return self.linear(torch.cat([g[..., :1, :], torch.ones_like(g[..., 1:, :])], -2))


class Hyperoctahedral(_Monomial):
    """Permutations of n places with signs, the symmetry of the n-cube; 2^n n! elements.

    >>> Hyperoctahedral(2).linear(torch.tensor([[1, 0], [1, -1]]))
    tensor([[ 0., -1.],
            [ 1.,  0.]])

    The units of a layer before an odd activation such as tanh may be renamed and change their signs so.

    An element is an int64 tensor ``[2, n]``: the places to which the entries go, then their signs, by the place that they
    come from.
    """

    def __init__(self, n: int) -> None:
        check_positive("Hyperoctahedral", "n", n, MAX_PLACES)
        super().__init__(n, 1)
        self.name = f"Hyperoctahedral({n})"
        self.order = 2**n * math.factorial(n)
        self.element_dtype = torch.int64

    def _good_factors(self, factors: Tensor, tol: float) -> Tensor:
        return factors.abs() == 1

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform elements ``[*n, 2, n]``, int64; `dtype` has no effect."""
        size = (n,) if isinstance(n, int) else n
        target = sample_device(device, generator)
        places = Symmetric(self.n).sample(size, generator=generator, device=target)
        return torch.stack([places, 1 - 2 * random_integers(0, 2, (*size, self.n), generator, target)], -2)

    def _elements(self, device: torch.device) -> Tensor:
        places = torch.tensor(list(itertools.permutations(range(self.n))), device=device)
        signs = torch.tensor(list(itertools.product((1, -1), repeat=self.n)), device=device)
        pairs = torch.cartesian_prod(torch.arange(len(places)), torch.arange(len(signs))).to(device)
        return torch.stack([places[pairs[:, 0]], signs[pairs[:, 1]]], 1)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """All elements; `GroupError` for an n below the order."""
        return finite_grid(self, n, device)

    @property
    def discrete_generators(self) -> Tensor:
        """Those of the permutations, and the sign of the first place."""
        flip = self.identity()
        flip[1, 0] = -1
        return torch.cat([super().discrete_generators, flip[None]])
