"""Symmetric positive definite matrices under the metrics that are in use."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.errors import ErlangenError, MatrixFunctionError, UnknownNameError, check_finite, first_index
from erlangen.geometry.manifolds.base import Manifold, Mean
from erlangen.groups import Group, group
from erlangen.numerics import check_square, lyapunov, safe_norm, sym_exp, sym_invsqrt, sym_log, sym_roots, sym_sqrt
from erlangen.tracing import carries_derivative, is_traced

SYMMETRIC = 1e-5
"""Largest relative difference of a matrix from its transpose that counts as rounding."""


def ridge(A: Tensor, amount: float) -> Tensor:
    """``A + amount tr(A) / n I``: full rank for covariances ``[..., n, n]`` that have too few samples or repeated channels.

    It commutes with rotations and with scaling, not with other congruences.
    """
    check_square(A, "A")
    if not 0 <= amount < float("inf"):
        raise ErlangenError(f"amount = {amount}; give a number that is not negative")
    size = A.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return A + amount * size * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)


class SPDManifold(Manifold):
    """Symmetric positive definite matrices ``[..., n, n]``; the subclasses differ in the metric.

    Matrices that are singular to working precision are refused with their batch index and never give NaN; `ridge` makes them
    regular.
    """

    point_ndim = 2
    invariant_under: Literal["GLPlus", "O"] | None = "O"
    """The matrices G whose congruence X -> G X G^T leaves distances alone, if they are a group that has a name."""

    def congruences(self, n: int) -> Group:
        """The group that leaves distances of n x n matrices alone when it acts by congruence, for `er.audit`.

        >>> AffineInvariant().congruences(3).name
        'GL+(3)'
        """
        if self.invariant_under is None:
            raise ErlangenError(f"{self.name} is left alone by no group of congruences that has a name here")
        return group(f"{self.invariant_under}({n})")

    @override
    def check(self, points: Tensor, name: str = "points") -> None:
        check_square(points, name)
        check_finite(points, name)
        gap = (points - points.mT).detach().abs().amax((-2, -1))
        bad = gap > SYMMETRIC * points.detach().abs().amax((-2, -1))
        if bool(bad.any()):
            index = first_index(bad)
            raise MatrixFunctionError(
                f"{name}{list(index) if index else ''} is not symmetric (off by {float(gap[index]):.3g}); pass (A + A.mT) / 2"
            )
        values = torch.linalg.eigvalsh(points.detach())
        bad = values[..., 0] <= values.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1].abs()
        if bool(bad.any()):
            index = first_index(bad)
            raise MatrixFunctionError(
                f"{name}{list(index) if index else ''} has the smallest eigenvalue {float(values[index][0]):.4g} (the largest is "
                f"{float(values[index][-1]):.4g}) and is not positive definite; add a ridge: erlangen.geometry.ridge(A, 1e-6)"
            )

    @override
    def project(self, base: Tensor, vector: Tensor) -> Tensor:
        return (vector + vector.mT) / 2

    @override
    def first_guess(self, points: Tensor, weights: Tensor, axis: int) -> Tensor:
        return (weights[..., None, None] * points).sum(axis)


def _factor(x: Tensor, y: Tensor) -> tuple[Tensor, bool]:
    """The Cholesky factors of x, and whether x or y ask for a closer look: not symmetric, or x is not positive definite."""
    for A in (x, y):
        check_square(A, "x" if A is x else "y")
        if not bool(((A - A.mT).abs().amax((-2, -1)) <= SYMMETRIC * A.abs().amax((-2, -1))).all()):
            return x, True
    L, info = torch.linalg.cholesky_ex(x)
    return L, bool(info.any())


def _inner(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum((-2, -1))


def _symmetric(A: Tensor) -> Tensor:
    return (A + A.mT) / 2


class AffineInvariant(SPDManifold):
    """The affine-invariant metric, ``<U, V>_P = tr(P^-1 U P^-1 V)``: all congruences are isometries.

    >>> A, B = torch.eye(2), torch.diag(torch.tensor([1.0, torch.e]))
    >>> round(AffineInvariant().dist(A, B).item(), 5)
    1.0

    Source: Pennec, Fillard and Ayache, A Riemannian framework for tensor computing (2006); "riemann" in pyRiemann.
    """

    invariant_under = "GLPlus"

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        W = sym_invsqrt(base, check=not is_traced())
        return _inner(W @ u @ W, W @ v @ W)

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        R, W = sym_roots(base, check=not is_traced())
        return _symmetric(R @ sym_exp(W @ tangent @ W, check=not is_traced()) @ R)

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        R, W = sym_roots(base, check=not is_traced())
        return _symmetric(R @ sym_log(W @ point @ W, check=not is_traced()) @ R)

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        if not (is_traced() or carries_derivative(x) or carries_derivative(y)):
            # Eigenvalues alone are enough, and a Cholesky factor whitens; second derivatives by them fail at ties.
            L, failed = _factor(x, y)
            if not failed:
                half = torch.linalg.solve_triangular(L, y.expand(torch.broadcast_shapes(x.shape, y.shape)), upper=False)
                values = torch.linalg.eigvalsh(torch.linalg.solve_triangular(L, half.mT, upper=False))
                if bool((values[..., 0] > values.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1]).all()):
                    return values.log().norm(dim=-1)
            self.check(x, "x")
            self.check(y, "y")
        W = sym_invsqrt(x)
        return safe_norm(sym_log(W @ y @ W), (-2, -1))

    @override
    def pull(self, point: Tensor, points: Tensor, w: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        R, W = sym_roots(point)
        white = W.unsqueeze(axis)
        logs = sym_log(white @ points @ white, check=False)
        total = (w[..., None, None] * logs).sum(axis)
        spread = (w * logs.detach().square().sum((-2, -1))).sum(-1).sqrt()
        return R @ total @ R, torch.linalg.matrix_norm(total.detach()), spread

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        R, W = sym_roots(start, check=not is_traced())
        E = R @ sym_sqrt(W @ end @ W, check=not is_traced()) @ W  # (end start^-1)^(1/2)
        return _symmetric(E @ tangent @ E.mT)


class BuresWasserstein(SPDManifold):
    """The Bures-Wasserstein metric: the distance of optimal transport between centred Gaussians of these covariances.

    >>> A, B = torch.eye(2), torch.diag(torch.tensor([1.0, 4.0]))
    >>> BuresWasserstein().dist(A, B)
    tensor(1.)

    With L the solution of P L + L P = V it is ``<U, V>_P = tr(L_U V) / 2``. The exponential is geodesic as long as I + L is
    positive definite, `in_domain`; further it goes on with the same formula, as normalisations do, and folds back. Distances
    take singular matrices too.

    Source: Malago, Montrucchio and Pistone (2018); Bhatia, Jain and Lim (2019).
    """

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return _inner(lyapunov(base, u, check=not is_traced()), v) / 2

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        L = self._turned(base, tangent)
        return _symmetric(L @ base @ L)

    def in_domain(self, base: Tensor, tangent: Tensor) -> Tensor:
        """Whether the geodesic with this velocity lasts until time one ``[...]``: I + L is positive definite."""
        return torch.linalg.eigvalsh(self._turned(base, tangent).detach())[..., 0] > 0

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        T = self.map(base, point)
        return _symmetric(T @ base + base @ T - 2 * base)

    @override
    def pull(self, point: Tensor, points: Tensor, w: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        R, W = sym_roots(point)
        inner, outer, base = R.unsqueeze(axis), W.unsqueeze(axis), point.unsqueeze(axis)
        T = outer @ sym_sqrt(inner @ points @ inner, check=False) @ outer
        off = (T - torch.eye(T.shape[-1], dtype=T.dtype, device=T.device)).detach()
        spread = (w * _inner(off @ base.detach(), off)).sum(-1).clamp(min=0).sqrt()  # |log|^2 = tr((T - I) P (T - I))
        mean = _symmetric((w[..., None, None] * T).sum(axis))
        total = mean @ point + point @ mean - 2 * point
        rest = (mean - torch.eye(T.shape[-1], dtype=T.dtype, device=T.device)).detach()
        return total, _inner(rest @ point.detach(), rest).clamp(min=0).sqrt(), spread

    def map(self, start: Tensor, end: Tensor) -> Tensor:
        """The optimal transport map T ``[..., n, n]``, symmetric, with T start T = end."""
        R, W = sym_roots(start, check=not is_traced())
        return _symmetric(W @ sym_sqrt(R @ end @ R, check=not is_traced()) @ W)

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        traces = (x + y).diagonal(dim1=-2, dim2=-1).sum(-1)
        L, failed = (x, True) if is_traced() or carries_derivative(x) or carries_derivative(y) else _factor(x, y)
        if failed:
            R = sym_sqrt(x)
            shared = sym_sqrt(_symmetric(R @ y @ R)).diagonal(dim1=-2, dim2=-1).sum(-1)
        else:
            shared = torch.linalg.eigvalsh(L.mT @ y @ L).clamp(min=0).sqrt().sum(-1)
        traces = (traces - 2 * shared).clamp(min=0)
        zero = traces == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, traces).sqrt())

    @override
    def geodesic(self, start: Tensor, end: Tensor, t: float | Tensor) -> Tensor:
        T = self.map(start, end)
        time = torch.as_tensor(t, dtype=T.dtype, device=T.device)[..., None, None]
        M = (1 - time) * torch.eye(T.shape[-1], dtype=T.dtype, device=T.device) + time * T
        return _symmetric(M @ start @ M)

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor, *, steps: int = 100) -> Tensor:
        """Parallel transport: in closed form where the end points commute, else by Runge-Kutta steps of its equation.

        Along S(t) = (I + t H) start (I + t H), H = T - I, write the vector as K S + S K. The metric comes from the flat space
        of factors A with S = A A^T, in which the lifted vector K A changes by vertical vectors alone; so K' solves
        ``S K' + K' S = -(K H_t S + S H_t K)`` with H_t = H (I + t H)^-1.
        """
        if not (carries_derivative(start) or carries_derivative(end)) and _commute(start, end):
            # Their common eigenvectors are those of a combination in which no two pairs of eigenvalues coincide by chance.
            U = torch.linalg.eigh(start / start.norm() + torch.e * end / end.norm()).eigenvectors
            first, last = ((U.mT @ A @ U).diagonal(dim1=-2, dim2=-1) for A in (start, end))
            factor = (last[..., :, None] + last[..., None, :]) / (first[..., :, None] + first[..., None, :])
            return U @ (factor.sqrt() * (U.mT @ tangent @ U)) @ U.mT
        eye = torch.eye(start.shape[-1], dtype=start.dtype, device=start.device)
        H = self.map(start, end) - eye
        lifted = lyapunov(start, tangent).expand(torch.broadcast_shapes(tangent.shape, H.shape))

        def slope(t: float, K: Tensor) -> Tensor:
            M = eye + t * H
            S = _symmetric(M @ start @ M)
            turn = torch.linalg.solve(M, H)
            return -lyapunov(S, K @ turn @ S + S @ turn @ K, check=False)

        h = 1 / steps
        for k in range(steps):
            t = k * h
            a = slope(t, lifted)
            b = slope(t + h / 2, lifted + h / 2 * a)
            c = slope(t + h / 2, lifted + h / 2 * b)
            d = slope(t + h, lifted + h * c)
            lifted = lifted + h / 6 * (a + 2 * b + 2 * c + d)
        return _symmetric(lifted @ end + end @ lifted)

    def _turned(self, base: Tensor, tangent: Tensor) -> Tensor:
        return torch.eye(base.shape[-1], dtype=base.dtype, device=base.device) + lyapunov(
            base, tangent, check=not is_traced()
        )


def _commute(A: Tensor, B: Tensor) -> bool:
    product = A @ B
    return bool((product - B @ A).abs().max() <= 10 * A.shape[-1] * torch.finfo(A.dtype).eps * product.abs().max())


# --- metrics that a chart brings from elsewhere ----------------------------------------------------------------------
class _Flat(Manifold):
    """Matrices as a flat space."""

    point_ndim = 2

    @override
    def check(self, points: Tensor, name: str = "points") -> None:
        check_finite(points, name)

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return _inner(u, v)

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        return base + tangent

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        return point - base

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        return safe_norm(x - y, (-2, -1))

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return tangent

    @override
    def closed_mean(self, points: Tensor, weights: Tensor, axis: int) -> Tensor:
        return (weights[..., None, None] * points).sum(axis)


class _Charted(SPDManifold):
    """The metric of another manifold, brought here by a smooth map; everything happens there, times `factor`^2."""

    target: Manifold = _Flat()
    factor: float = 1.0

    @abstractmethod
    def chart(self, x: Tensor) -> Tensor:
        """The point of the other manifold."""

    @abstractmethod
    def unchart(self, z: Tensor) -> Tensor:
        """The inverse of `chart`."""

    def _there(self, base: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        return _jvp(self.chart, base, _symmetric(tangent))

    def _back(self, z: Tensor, tangent: Tensor) -> Tensor:
        return _symmetric(_jvp(self.unchart, z, tangent)[1])

    @override
    def inner(self, base: Tensor, u: Tensor, v: Tensor) -> Tensor:
        z, first = self._there(base, u)
        return self.factor**2 * self.target.inner(z, first, self._there(base, v)[1])

    @override
    def exp(self, base: Tensor, tangent: Tensor) -> Tensor:
        return self.unchart(self.target.exp(*self._there(base, tangent)))

    @override
    def log(self, base: Tensor, point: Tensor) -> Tensor:
        z = self.chart(base)
        return self._back(z, self.target.log(z, self.chart(point)))

    @override
    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * self.target.dist(self.chart(x), self.chart(y))

    @override
    def transport(self, tangent: Tensor, start: Tensor, end: Tensor) -> Tensor:
        z, there = self._there(start, tangent)
        last = self.chart(end)
        return self._back(last, self.target.transport(there, z, last))

    @override
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
        if check and points.numel():
            self.check(points)
        there = None if start is None else self.chart(start)
        limit = None if tol is None else tol / self.factor
        found = self.target.mean(self.chart(points), weights, start=there, steps=steps, tol=limit, check=False)
        return found._replace(point=self.unchart(found.point), residual=self.factor * found.residual)


def _jvp(f: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    shape = torch.broadcast_shapes(x.shape, direction.shape)
    pair = torch.func.jvp(f, (x.expand(shape).contiguous(),), (direction.expand(shape).contiguous(),))
    return cast(tuple[Tensor, Tensor], pair)


class LogEuclidean(_Charted):
    """Distances of matrix logarithms, ``|log A - log B|``: flat, with a mean in closed form.

    Source: Arsigny, Fillard, Pennec and Ayache (2006).
    """

    @override
    def chart(self, x: Tensor) -> Tensor:
        return sym_log(x, check=not is_traced())

    @override
    def unchart(self, z: Tensor) -> Tensor:
        return sym_exp(z, check=not is_traced())


class LogCholesky(_Charted):
    """Distances of Cholesky factors, their diagonals by logarithms: flat, with a mean in closed form, and fast.

    It depends on the order of the coordinates; of the congruences only changes of signs leave it alone.

    Source: Lin, Riemannian geometry of symmetric positive definite matrices via Cholesky decomposition (2019).
    """

    invariant_under = None

    @override
    def chart(self, x: Tensor) -> Tensor:
        if not is_traced():
            self.check(x)
        L = torch.linalg.cholesky(x)
        return L.tril(-1) + torch.diag_embed(L.diagonal(dim1=-2, dim2=-1).log())

    @override
    def unchart(self, z: Tensor) -> Tensor:
        L = z.tril(-1) + torch.diag_embed(z.diagonal(dim1=-2, dim2=-1).exp())
        return L @ L.mT


class Deformed(_Charted):
    """Another metric after ``X -> (M^-1/2 X^power M^-1/2)``, divided by |power|: learnable where M and the power are.

    >>> metric = Deformed(BuresWasserstein(), power=0.5)  # between Bures-Wasserstein and log-Euclidean
    >>> round(metric.dist(torch.eye(2), 4 * torch.eye(2)).item(), 5)
    1.17157

    With `BuresWasserstein` and a matrix it is the generalised Bures-Wasserstein metric (Han, Mishra, Jawanpuria and Gao 2023);
    powers deform it towards half the log-Euclidean metric as they go to zero (Thanwerdas and Pennec 2022).

    Args:
        target: the metric that is deformed.
        matrix: M, symmetric positive definite ``[n, n]``; by default the identity.
        power: any number but zero.
    """

    def __init__(self, target: SPDManifold, *, matrix: Tensor | None = None, power: float = 1.0) -> None:
        if power == 0 or power != power:
            raise ErlangenError(f"power = {power}; give a number that is not zero (LogEuclidean is the limit)")
        if matrix is not None and not is_traced():
            target.check(matrix, "matrix")
        self.target, self.matrix, self.power = target, matrix, power
        self.factor = 1 / abs(power)
        self.invariant_under = "O" if matrix is None else None

    @override
    def chart(self, x: Tensor) -> Tensor:
        x = _power(x, self.power)
        if self.matrix is None:
            return x
        W = sym_invsqrt(self.matrix, check=not is_traced()).to(x)
        return _symmetric(W @ x @ W)

    @override
    def unchart(self, z: Tensor) -> Tensor:
        if self.matrix is not None:
            R = sym_sqrt(self.matrix, check=not is_traced()).to(z)
            z = _symmetric(R @ z @ R)
        return _power(z, 1 / self.power)


def _power(x: Tensor, power: float) -> Tensor:
    if power == 1:
        return x
    check = not is_traced()
    if power == 0.5:
        return sym_sqrt(x, check=check)
    if power == 2:
        return x @ x
    return sym_exp(power * sym_log(x, check=check), check=check)


SPDName = Literal["affine-invariant", "log-euclidean", "log-cholesky", "bures-wasserstein"]

METRICS: dict[str, type[SPDManifold]] = {
    "affine-invariant": AffineInvariant,
    "log-euclidean": LogEuclidean,
    "log-cholesky": LogCholesky,
    "bures-wasserstein": BuresWasserstein,
}


def spd_manifold(metric: SPDName) -> SPDManifold:
    """The manifold of SPD matrices under the metric of this name."""
    if metric not in METRICS:
        raise UnknownNameError(f"metric = {metric!r}; there are {', '.join(METRICS)}")
    return METRICS[metric]()
