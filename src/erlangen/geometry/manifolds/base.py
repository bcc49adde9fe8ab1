"""What every manifold can do: distances, exponential and logarithm, transport, geodesics, and means with a certificate."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import (
    DataError,
    ErlangenError,
    NotConvergedWarning,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)


class Mean(NamedTuple):
    """Result of `Manifold.mean`.

    Attributes:
        point: the mean ``[..., *shape of a point]``.
        residual: norm ``[...]`` of the weighted sum of logarithms at the mean, which is zero at a Frechet mean.
        steps: how many steps were taken.
        converged: whether the residual is below the tolerance, ``[...]``.
    """

    point: Tensor
    residual: Tensor
    steps: int
    converged: Tensor


class Manifold(ABC):
    """A Riemannian manifold whose points and tangent vectors are tensors ``[..., *shape]``; leading axes are batches.

    >>> from erlangen.geometry.manifolds import Sphere
    >>> sphere = Sphere()
    >>> x, y = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    >>> round(sphere.dist(x, y).item(), 4), sphere.geodesic(x, y, 0.5)
    (1.5708, tensor([0.7071, 0.7071, 0.0000]))

    The order of arguments is that of a sentence: ``exp(base, tangent)`` is the point that is reached from the base,
    ``log(base, point)`` the tangent vector at the base that reaches it, ``transport(tangent, start, end)`` carries it along the
    geodesic between them. Everything broadcasts, keeps dtype and device and is differentiable.
    """

    point_ndim: int = 1
    """Axes of one point: 1 for vectors, 2 for matrices."""

    @property
    def name(self) -> str:
        """What messages call the manifold."""
        return type(self).__name__

    @abstractmethod
    def check(self, points: Tensor, name: str = "points") -> None:
        """Raise if the tensor does not hold points of the manifold; the message names the first that is none."""

    @abstractmethod
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Inner product ``[...]`` of tangent vectors at the base."""

    @abstractmethod
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        """The point at time one of the geodesic that leaves the base with this velocity."""

    @abstractmethod
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        """The velocity at the base of the geodesic that reaches the point at time one."""

    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Parallel transport of a tangent vector at `start` along the geodesic to `end`."""
        raise ErlangenError(
            f"{self.name} has no parallel transport here; project the vector with project(end, tangent)"
        )

    def project(self, base: Tensor, vector: Tensor) -> Tensor:
        """The tangent vector at the base that is nearest to a vector of the surrounding space, in that space's metric."""
        return vector

    def norm(self, base: Tensor, tangent: Tensor) -> Tensor:
        """Length ``[...]`` of a tangent vector at the base; its gradient at zero is zero."""
        squared = self.inner(base, tangent, tangent).clamp(min=0)
        zero = squared == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())

    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        """Geodesic distance ``[...]``; its gradient where both points are equal is zero."""
        return self.norm(x, self.log(x, y))

    def geodesic(self, start: Tensor, end: Tensor, t: float | Tensor) -> Tensor:
        """The point at time t, 0 at the start and 1 at the end; a tensor t ``[...]`` broadcasts with the batch."""
        velocity = self.log(start, end)
        time = torch.as_tensor(t, dtype=velocity.dtype, device=velocity.device)
        return self.exp(start, time[(..., *(None,) * self.point_ndim)] * velocity)

    def pairwise(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Distances ``[N, M]`` of all points ``[N, *shape]`` from all ``[M, *shape]``, or from each other."""
        return self.dist(x[:, None], (x if y is None else y)[None])

    def mean(
        self,
        points: Tensor,
        weights: Tensor | None = None,
        *,
        start: Tensor | None = None,
        steps: int = 50,
        tol: float | None = None,
        check: bool = True,
    ) -> Mean:
        """Frechet mean: the point with the least weighted sum of squared distances.

        >>> from erlangen.geometry.manifolds import Sphere
        >>> points = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> Sphere().mean(points).point
        tensor([0.5774, 0.5774, 0.5774])

        Each step goes along the weighted sum of logarithms (Karcher 1977), the first one by its whole length (for
        Bures-Wasserstein that is the iteration of Alvarez-Esteban et al. 2016), later ones as far as the sum before would have
        vanished, and half as far in a batch entry where it became longer. Gradients go through all steps that are taken:
        ``steps=1`` is what batch normalisations use.

        Args:
            points: ``[..., N, *shape]``, one mean for each entry of the leading axes.
            weights: ``[..., N]`` or ``[N]``, not negative; they are divided by their sum.
            start: where to begin, ``[..., *shape]``; by default `first_guess`.
            steps: the most steps to take.
            tol: residual that counts as converged; by default 100 eps^0.75 times the root of the mean squared distance, or the
                rounding of a logarithm.
            check: test the points first.

        Raises:
            DataError: no points, weights that are negative or all zero, or points that are not of the manifold.

        Warns with `NotConvergedWarning` where more than one step was allowed and the residual stays above the tolerance.
        """
        check_integer("steps", steps, 0)
        if points.ndim <= self.point_ndim or not points.shape[-1 - self.point_ndim]:
            raise DataError(
                f"points has shape {tuple(points.shape)}; a mean needs at least one point, [..., N, *shape]"
            )
        if check:
            self.check(points)
        axis = points.ndim - 1 - self.point_ndim
        w = self._shares(weights, points, axis)
        closed = self.closed_mean(points, w, axis)
        point = closed if closed is not None else self.first_guess(points, w, axis) if start is None else start
        point = point.expand(points.shape[:axis] + points.shape[axis + 1 :])
        flat = (...,) + (None,) * self.point_ndim
        direction, length, spread = self.pull(point, points, w, axis)
        # Points that are nearly one have no spread to go by: what their logarithms are by rounding alone counts then.
        rounding = self.norm(point, self.log(point, point)).detach()
        limit = 100 * torch.finfo(points.dtype).eps ** 0.75 * spread.detach() + 10 * rounding
        limit = limit if tol is None else torch.full_like(limit, tol)
        pace = torch.ones_like(length)
        taken = 0
        while closed is None and taken < steps and bool((length > limit).any()):
            moving = (length > limit)[flat]
            tried = torch.where(moving, self.exp(point, pace[flat] * direction), point)
            direction_next, length_next, _ = self.pull(tried, points, w, axis)
            worse = length_next > length
            # What went too far comes back, and goes half as far; the first step counts, so that `steps=1` is one step.
            keep = (worse & (steps > 1))[flat]
            pace = torch.where(worse, pace / 2, self._secant(pace, direction, direction_next))
            point = torch.where(keep, point, tried)
            direction = torch.where(keep, direction, direction_next)
            length = torch.where(worse & (steps > 1), length, length_next)
            taken += 1
        residual = length.detach()
        converged = residual <= limit
        if closed is None and steps > 1 and not bool(converged.all()):
            index = first_index(~converged)
            warnings.warn(
                f"the mean{list(index) if index else ''} is not reached in {steps} steps: the logarithms still sum to "
                f"{float(residual[index]):.3g}, over {float(limit[index]):.3g}; take more steps, or a larger tol",
                NotConvergedWarning,
                stacklevel=2,
            )
        return Mean(point, residual, taken, converged)

    def first_guess(self, points: Tensor, weights: Tensor, axis: int) -> Tensor:
        """Where `mean` begins: a point ``[..., *shape]`` near the points ``[..., N, *shape]``, by default the first."""
        return points.select(axis, 0)

    def _secant(self, pace: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The step at which the sum would have vanished, were it linear along the last one; at most twice that one, or half."""
        axes = tuple(range(-self.point_ndim, 0))
        fall = (before * (before - after)).detach().sum(axes)
        ratio = (before * before).detach().sum(axes) / torch.where(fall > 0, fall, 1.0)
        return pace * torch.where(fall > 0, ratio, 1.0).clamp(0.5, 2.0)

    def closed_mean(self, points: Tensor, weights: Tensor, axis: int) -> Tensor | None:
        """The mean where there is a formula for it."""
        return None

    def pull(self, point: Tensor, points: Tensor, w: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted sum of logarithms, its length, and the root of the mean squared distance."""
        base = point.unsqueeze(axis)
        logs = self.log(base, points)
        share = w[(...,) + (None,) * self.point_ndim]
        pull = (share * logs).sum(axis)
        spread = (w * self.norm(base, logs).detach().square()).sum(-1).sqrt()
        return pull, self.norm(point, pull).detach(), spread

    def _shares(self, weights: Tensor | None, points: Tensor, axis: int) -> Tensor:
        lead = points.shape[: axis + 1]
        if weights is None:
            return points.new_full(lead, 1 / lead[-1])
        check_floating(weights, "weights")
        check_finite(weights, "weights")
        if weights.shape not in {lead, lead[-1:]}:
            raise ShapeError(f"weights has shape {tuple(weights.shape)}; give one for each point, {tuple(lead)}")
        bad = (weights < 0) | (weights.sum(-1, keepdim=True) <= 0)
        if bool(bad.any()):
            index = first_index(bad)
            raise DataError(
                f"weights{list(index)} = {float(weights[index]):.4g}; weights must not be negative or all zero"
            )
        return (weights / weights.sum(-1, keepdim=True)).to(points.dtype).expand(lead)
