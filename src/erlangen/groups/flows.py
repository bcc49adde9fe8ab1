"""Flows: the one-parameter motions ``psi_t(nu) = exp(t nu)`` along commuting velocities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from erlangen.errors import DtypeError, GroupError, ShapeError, check_finite
from erlangen.groups.base import Group
from erlangen.groups.finite import is_integer, random_integers, sample_device
from erlangen.groups.permutations import Shifts
from erlangen.groups.rotations import standard_normal


class Flow(Group):
    """Combinations of commuting velocities, each of which moves the base group's space along with time.

    An element is a coefficient vector g of shape ``[k]``: the velocity ``sum_i g_i v_i``. Elements add. As
    a group it is R^k (floating) for a Lie group and Z^k (int64) for `Shifts`. `at` gives the base element
    that the velocity reaches after time t, and `linear` and `translation` are those of time 1. The action
    is that of Keller, "Flow Equivariant Recurrent Neural Networks" (2025).

    Args:
        group: a Lie group, or `Shifts`.
        velocities: algebra coordinates ``[k, group.dim]`` in the basis ``group.lie_algebra``, commuting in
            pairs; for `Shifts` integers ``[k, number of axes]``, cells per unit of time. One velocity may
            drop the first axis.
        scale: standard deviation of sampled coefficients; for `Shifts` the bound r of uniform integers in
            -r..r.

    Raises:
        GroupError: the group has neither an algebra nor integer shifts, two velocities do not commute, or
            `scale` is not positive (for `Shifts`, not a positive integer).
        ShapeError, DtypeError, NotFiniteError: the velocities do not fit the group.
    """

    def __init__(
        self,
        group: Group,
        velocities: Tensor | Sequence[float] | Sequence[Sequence[float]],
        *,
        scale: float = 1,
    ) -> None:
        self.group = group
        self.scale = scale
        self.is_discrete = isinstance(group, Shifts)
        self.velocities = self._checked(torch.atleast_2d(torch.as_tensor(velocities).detach().cpu()))
        if not scale > 0 or not math.isfinite(scale) or (self.is_discrete and scale != int(scale)):
            kind = "a positive integer" if self.is_discrete else "a positive number"
            raise GroupError(f"Flow({group.name}): scale must be {kind}, got {scale}")
        k = len(self.velocities)
        self.name = f"Flow({group.name}, {self.velocities.tolist()})"
        self.dim = 0 if self.is_discrete else k
        self.is_compact = False
        self.shape = (k,)
        self.space_dim = group.space_dim
        self.element_dtype = torch.int64 if self.is_discrete else None

    def at(self, g: Tensor, t: Tensor | float) -> Tensor:
        """The base element ``exp(t sum_i g_i v_i)``, for `Shifts` ``(t sum_i g_i v_i) mod sizes``.

        Args:
            g: coefficients ``[..., k]``.
            t: times ``[...]`` that broadcast against the batch of g; integers for `Shifts`.

        Returns:
            Elements of the base group, ``[..., *group.shape]``.
        """
        velocity = (self._coefficients(g)[..., None] * self.velocities.to(g)).sum(-2)
        if not isinstance(self.group, Shifts):
            time = torch.as_tensor(t, dtype=g.dtype, device=g.device)
            return self.group.exp(time[..., None] * velocity)
        time = torch.as_tensor(t, device=g.device)
        if not is_integer(time):
            raise DtypeError(f"t has dtype {time.dtype}, but a flow of {self.group.name} moves at integer times only")
        return self.group.wrap(time[..., None] * velocity)

    # --- algebra ---------------------------------------------------------------------------------------
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The zero velocity ``[k]``."""
        return torch.zeros(self.shape, dtype=self.element_dtype or dtype, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """``g + h``."""
        return self._coefficients(g) + self._coefficients(h)

    def inverse(self, g: Tensor) -> Tensor:
        """``-g``."""
        return -self._coefficients(g)

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which rows ``[..., k]`` are finite and of the right kind of dtype."""
        batch = self.batch_shape(g)
        if is_integer(g) if self.is_discrete else g.is_floating_point():
            return torch.isfinite(g).all(-1)
        return torch.zeros(batch, dtype=torch.bool, device=g.device)

    # --- how the group moves R^n -----------------------------------------------------------------------
    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Linear part ``[..., n, n]`` of the base element at time 1."""
        return self.group.linear(self.at(g, 1), dtype=dtype)

    def translation(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor | None:
        """Translation ``[..., n]`` of the base element at time 1, or None if the base group has none."""
        return self.group.translation(self.at(g, 1), dtype=dtype)

    # --- elements --------------------------------------------------------------------------------------
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Coefficients ``[*n, k]``: normal with deviation `scale`, or uniform integers in -scale..scale."""
        size = (n,) if isinstance(n, int) else n
        if self.is_discrete:
            r = int(self.scale)
            return random_integers(-r, r + 1, (*size, *self.shape), generator, device)
        g = self.scale * standard_normal((*size, *self.shape), generator)
        return g.to(sample_device(device, generator), dtype or torch.get_default_dtype())

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """``|g|^2 / (2 scale^2)``: Lebesgue measure against the normal proposal, ``[...]``.

        For `Shifts` the weight is 0 inside the window -scale..scale of the proposal, which counts its
        elements equally, and -inf outside, which the proposal never reaches: averages are over the window,
        not over Z^k.
        """
        g = self._coefficients(g)
        if not self.is_discrete:
            return g.square().sum(-1) / (2 * self.scale**2)
        inside = (g.abs() <= self.scale).all(-1)
        return torch.where(inside, 0.0, -math.inf)

    @property
    def discrete_generators(self) -> Tensor:
        """The unit vectors ``[k, k]`` for `Shifts`; none for a Lie group."""
        k = len(self.velocities) if self.is_discrete else 0
        return torch.eye(self.shape[0], dtype=self.element_dtype)[:k]

    # --- Lie algebra -----------------------------------------------------------------------------------
    @property
    def lie_algebra(self) -> Tensor:
        """The velocities as matrices of the base algebra, float64 ``[k, m, m]``; empty for `Shifts`."""
        return super().lie_algebra if self.is_discrete else self.group.hat(self.velocities)

    def exp(self, a: Tensor) -> Tensor:
        """A copy of the coordinates: coefficients are their own exponential."""
        if self.is_discrete:
            return super().exp(a)
        self._check_coordinates(a)
        return a.clone()

    def log(self, g: Tensor) -> Tensor:
        """A copy of the coefficients."""
        if self.is_discrete:
            return super().log(g)
        self._coefficients(g)
        self._check_log(g)
        return g.clone()

    def adjoint(self, g: Tensor) -> Tensor:
        """Identity matrices ``[..., dim, dim]``, as the group is commutative."""
        batch = self._coefficients(g).shape[:-1]
        dtype = g.dtype if g.is_floating_point() else torch.get_default_dtype()
        return torch.eye(self.dim, dtype=dtype, device=g.device).expand(*batch, self.dim, self.dim)

    # --- checks ----------------------------------------------------------------------------------------
    def _checked(self, velocities: Tensor) -> Tensor:
        group = self.group
        width = len(group.sizes) if isinstance(group, Shifts) else group.dim
        if width == 0:
            raise GroupError(
                f"Flow({group.name}): {group.name} has no Lie algebra; use a Lie group, or Shifts(...) for "
                "steps on a periodic grid"
            )
        if velocities.ndim != 2 or velocities.shape[0] == 0 or velocities.shape[1] != width:
            raise ShapeError(f"Flow({group.name}): velocities has shape {tuple(velocities.shape)}, not [k, {width}]")
        check_finite(velocities, "velocities")
        if self.is_discrete:
            if not is_integer(velocities):
                raise DtypeError(
                    f"Flow({group.name}): velocities has dtype {velocities.dtype}, but whole "
                    "grid cells per step are needed; pass integers, or use a Flow of Translation(n)"
                )
            return velocities.to(torch.int64)
        velocities = velocities.to(torch.float64)
        self._check_commute(velocities)
        return velocities

    def _check_commute(self, velocities: Tensor) -> None:
        matrices = self.group.hat(velocities)
        products = matrices[:, None] @ matrices
        brackets = torch.linalg.matrix_norm(products - products.transpose(0, 1))
        norms = torch.linalg.matrix_norm(matrices)
        away = brackets > 1e-9 * norms[:, None] * norms
        if bool(away.any()):
            i, j = (int(index) for index in away.nonzero()[0])
            raise GroupError(
                f"Flow({self.group.name}): velocities {i} {velocities[i].tolist()} and {j} "
                f"{velocities[j].tolist()} do not commute, so coefficients do not add; "
                "use one Flow for each, or Generated(...)"
            )

    def _coefficients(self, g: Tensor) -> Tensor:
        self.batch_shape(g)
        if is_integer(g) if self.is_discrete else g.is_floating_point():
            return g
        wanted = "integer" if self.is_discrete else "floating"
        raise DtypeError(f"g has dtype {g.dtype}, but coefficients of {self.name} are {wanted}")

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.name, self.group, self.scale)
