"""Direct products: tuples of elements of several groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.errors import DtypeError, GroupElementError, GroupError, ShapeError, first_index
from erlangen.groups.base import Group, default_tol
from erlangen.groups.finite import finite_grid, is_integer


class DirectProduct(Group):
    """Tuples of elements, one of each factor; everything acts component by component.

    An element is one vector ``[size]``: the flattened components side by side, int64 if all factors have
    integer elements, else floating with integers stored as (exact) floats. `split` and `join` convert. R^n
    is the direct sum of the factors' spaces, on which `linear` is block diagonal. Products of products are
    flattened.

    Raises:
        GroupError: fewer than two factors.
    """

    def __init__(self, *groups: Group) -> None:
        factors: list[Group] = []
        for group in groups:
            factors.extend(group.factors if isinstance(group, DirectProduct) else [group])
        if len(factors) < 2:
            raise GroupError(f"DirectProduct needs at least two groups, got {len(factors)}")
        self.factors = tuple(factors)
        self.name = " x ".join(f.name for f in factors)
        self.dim = sum(f.dim for f in factors)
        finite = all(f.order != math.inf for f in factors)
        self.order = math.prod(int(f.order) for f in factors) if finite else math.inf
        self.is_compact = all(f.is_compact for f in factors)
        self.is_unimodular = all(f.is_unimodular for f in factors)
        self._sizes = [math.prod(f.shape) for f in factors]
        self.shape = (sum(self._sizes),)
        self.space_dim = sum(f.space_dim for f in factors)
        self.element_dtype = torch.int64 if all(f.element_dtype is not None for f in factors) else None

    # --- components ------------------------------------------------------------------------------------
    def split(self, g: Tensor) -> tuple[Tensor, ...]:
        """The components ``[..., *factor.shape]`` of elements ``[..., size]``, each in its factor's dtype."""
        batch = self.batch_shape(g)
        if self.element_dtype is not None and not is_integer(g):
            raise DtypeError(f"g has dtype {g.dtype}, but elements of {self.name} are int64")
        if self.element_dtype is None and not g.is_floating_point():
            raise DtypeError(f"g has dtype {g.dtype}, but elements of {self.name} are floating; use join(...)")
        components: list[Tensor] = []
        for factor, part in zip(self.factors, g.split(self._sizes, -1), strict=True):
            component = part.reshape((*batch, *factor.shape))
            is_index = factor.element_dtype is not None and g.is_floating_point()
            components.append(component.round().to(torch.int64) if is_index else component)
        return tuple(components)

    def join(self, *components: Tensor) -> Tensor:
        """Elements ``[..., size]`` of components ``[..., *factor.shape]`` whose batch dimensions broadcast.

        The dtype is int64 if all factors have integer elements, else the promoted dtype of the floating
        components.
        """
        if len(components) != len(self.factors):
            raise ShapeError(f"{self.name} has {len(self.factors)} components, got {len(components)}")
        batches = [f.batch_shape(c) for f, c in zip(self.factors, components, strict=True)]
        batch = torch.broadcast_shapes(*batches)
        floating = [c.dtype for f, c in zip(self.factors, components, strict=True) if f.element_dtype is None]
        dtype = _promoted(floating) if floating else torch.int64
        return torch.cat(
            [
                c.expand((*batch, *f.shape)).reshape((*batch, size)).to(dtype)
                for f, c, size in zip(self.factors, components, self._sizes, strict=True)
            ],
            -1,
        )

    # --- algebra ---------------------------------------------------------------------------------------
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The neutral element ``[size]``."""
        return self.join(*(f.identity(dtype=dtype, device=device) for f in self.factors))

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Componentwise products, batched with broadcasting."""
        pairs = zip(self.factors, self.split(g), self.split(h), strict=True)
        return self.join(*(f.compose(a, b) for f, a, b in pairs))

    def inverse(self, g: Tensor) -> Tensor:
        """Componentwise inverses."""
        return self.join(*(f.inverse(c) for f, c in zip(self.factors, self.split(g), strict=True)))

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which vectors hold an element of each factor; components in integers must be exactly integral."""
        batch = self.batch_shape(g)
        inside = torch.ones(batch, dtype=torch.bool, device=g.device)
        if g.is_floating_point() == (self.element_dtype is not None) or g.dtype == torch.bool:
            return ~inside
        for factor, part in zip(self.factors, g.split(self._sizes, -1), strict=True):
            if factor.element_dtype is not None and g.is_floating_point():
                whole = torch.isfinite(part) & (part == part.round())
                inside = inside & whole.all(-1)
                component = torch.where(whole, part, -1.0).to(torch.int64)
            else:
                component = part
            inside = inside & factor.contains(component.reshape((*batch, *factor.shape)), tol)
        return inside

    # --- how the group moves R^n -----------------------------------------------------------------------
    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Block-diagonal matrices ``[..., n, n]`` of the factors' linear parts; n is the sum of their n."""
        dtype = g.dtype if g.is_floating_point() else dtype
        return block_diagonal([f.linear(c, dtype=dtype) for f, c in self._moving(g)])

    def translation(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor | None:
        """The factors' translations side by side ``[..., n]``, zero where a factor has none, or None."""
        dtype = g.dtype if g.is_floating_point() else dtype or torch.get_default_dtype()
        parts = [(f, f.translation(c, dtype=dtype)) for f, c in self._moving(g)]
        if all(part is None for _, part in parts):
            return None
        batch = self.batch_shape(g)
        zeros = [torch.zeros((*batch, f.space_dim), dtype=dtype, device=g.device) for f, _ in parts]
        return torch.cat([z if t is None else t for (_, t), z in zip(parts, zeros, strict=True)], -1)

    def _moving(self, g: Tensor) -> list[tuple[Group, Tensor]]:
        """The factors that act on a space, with their components."""
        return [(f, c) for f, c in zip(self.factors, self.split(g), strict=True) if f.space_dim]

    # --- elements --------------------------------------------------------------------------------------
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Independent samples of the factors, ``[*n, size]``."""
        draws = (f.sample(n, generator=generator, dtype=dtype, device=device) for f in self.factors)
        return self.join(*draws)

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """Sum of the factors' weights, ``[...]``."""
        dtype = g.dtype if g.is_floating_point() else torch.get_default_dtype()
        pairs = zip(self.factors, self.split(g), strict=True)
        return torch.stack([f.log_haar_weight(c).to(dtype) for f, c in pairs]).sum(0)

    def modular_function(self, g: Tensor) -> Tensor:
        """Product of the factors' modular functions, ``[...]``."""
        dtype = g.dtype if g.is_floating_point() else torch.get_default_dtype()
        pairs = zip(self.factors, self.split(g), strict=True)
        return torch.stack([f.modular_function(c).to(dtype) for f, c in pairs]).prod(0)

    def _elements(self, device: torch.device) -> Tensor:
        parts = [f.elements(device=device) for f in self.factors]
        indices = torch.meshgrid(*(torch.arange(len(p), device=device) for p in parts), indexing="ij")
        return self.join(*(p[i.flatten()] for p, i in zip(parts, indices, strict=True)))

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """All elements of a finite product for n of at least its order; `GroupError` otherwise."""
        return super().grid(n) if self.order == math.inf else finite_grid(self, n, device)

    @property
    def discrete_generators(self) -> Tensor:
        """The factors' generators, each beside the identities of the others."""
        identities = [f.identity(dtype=torch.float64) for f in self.factors]
        rows = [self.identity(dtype=torch.float64)[None][:0]]
        for i, factor in enumerate(self.factors):
            rows.append(self.join(*identities[:i], _as_float64(factor.discrete_generators), *identities[i + 1 :]))
        return torch.cat(rows)

    # --- Lie algebra -----------------------------------------------------------------------------------
    @property
    def lie_algebra(self) -> Tensor:
        """Block-diagonal matrices, float64 ``[dim, m, m]``: each factor's basis in its own block."""
        bases = [f.lie_algebra for f in self.factors]
        total = sum(b.shape[-1] for b in bases)
        rows: list[Tensor] = []
        start = 0
        for basis in bases:
            end = total - start - basis.shape[-1]
            rows.append(F.pad(basis, (start, end, start, end)))
            start += basis.shape[-1]
        return torch.cat(rows)

    def exp(self, a: Tensor) -> Tensor:
        """Componentwise exponentials of coordinates ``[..., dim]``; finite factors stay at the identity."""
        self._check_coordinates(a)
        if self.dim == 0:
            return super().exp(a)
        parts = zip(self.factors, a.split([f.dim for f in self.factors], -1), strict=True)
        return self.join(*(f.exp(x) if f.dim else f.identity(dtype=a.dtype, device=a.device) for f, x in parts))

    def log(self, g: Tensor) -> Tensor:
        """Coordinates ``[..., dim]``; `GroupElementError` where a finite component is not the identity."""
        if self.dim == 0:
            return super().log(g)
        coordinates: list[Tensor] = []
        for factor, component in zip(self.factors, self.split(g), strict=True):
            if factor.dim:
                coordinates.append(factor.log(component))
            else:
                self._check_identity(factor, component)
        return torch.cat(coordinates, -1)

    def _check_identity(self, factor: Group, component: Tensor) -> None:
        identity = factor.identity(dtype=_float_dtype(component), device=component.device)
        away = (component - identity).abs()
        tol = default_tol(component.dtype) if component.is_floating_point() else 0
        bad = (away > tol).reshape((*factor.batch_shape(component), -1)).any(-1)
        if bool(bad.any()):
            index = first_index(bad)
            raise GroupElementError(
                f"g{list(index) if index else ''} "
                f"has no logarithm in {self.name}: its component in {factor.name} is "
                f"{component[index].tolist()}, not the identity; compose with its inverse first"
            )

    def adjoint(self, g: Tensor) -> Tensor:
        """Block-diagonal matrices ``[..., dim, dim]`` of the factors' adjoint actions."""
        pairs = zip(self.factors, self.split(g), strict=True)
        return block_diagonal([f.adjoint(c) for f, c in pairs if f.dim])

    def _key(self) -> tuple[object, ...]:
        return (type(self), *self.factors)


def block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    """Batched matrices ``[..., N, N]`` with the square blocks ``[..., n_i, n_i]`` on the diagonal."""
    total = sum(b.shape[-1] for b in blocks)
    batch = torch.broadcast_shapes(*(b.shape[:-2] for b in blocks))
    rows: list[Tensor] = []
    start = 0
    for block in blocks:
        width = block.shape[-1]
        rows.append(F.pad(block, (start, total - start - width)).expand((*batch, width, total)))
        start += width
    return torch.cat(rows, -2)


def _promoted(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    dtype = dtypes[0]
    for other in dtypes[1:]:
        dtype = torch.promote_types(dtype, other)
    return dtype


def _as_float64(g: Tensor) -> Tensor:
    return g.to(torch.float64) if g.is_floating_point() else g


def _float_dtype(g: Tensor) -> torch.dtype | None:
    return g.dtype if g.is_floating_point() else None
