"""Batch normalisation of symmetric positive definite matrices under the generalised Bures-Wasserstein metric.

Numbers in brackets are the steps of the layer, in the order in which it takes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    MatrixFunctionError,
    ShapeError,
    check_finite,
    check_integer,
    first_index,
)
from erlangen.geometry.manifolds import BuresWasserstein, Deformed, Stiefel, ridge
from erlangen.numerics import sym_invsqrt, sym_roots, sym_sqrt
from erlangen.tracing import is_traced

BW = BuresWasserstein()
LinAlgError: type[Exception] = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]
ASYMMETRY = 1e-6
"""Largest relative difference of a matrix from its transpose that counts as rounding (in float32 1e-5)."""
MANY = 0.5
"""Share of a batch outside of the domain of the exponential at the identity from which on the layer warns."""


class Violations(NamedTuple):
    """Shares of the matrices that were outside of the domain of the three exponentials, where they fold back."""

    centring: float
    scaling: float
    biasing: float


class GBWBatchNorm(nn.Module):
    """GBWBN: centre, scale and bias SPD matrices ``[B, C, n, n]`` (or ``[B, n, n]``), mean and variance over batch and channels.

    >>> norm = GBWBatchNorm(3).double()
    >>> x = torch.randn(16, 1, 3, 20, dtype=torch.float64)
    >>> norm(x @ x.mT / 20).shape
    torch.Size([16, 1, 3, 3])

    Everything happens after ``X -> M^-1/2 X^power M^-1/2``, where the metric is the plain Bures-Wasserstein one, and is mapped
    back at the end. Parameters are `matrix` (M) and `bias` (W), positive definite, and the number `scale`; `RiemannianSGD` keeps
    them so. Running statistics are buffers, the mean as a matrix of the original space, so that it stays what it is while M
    changes.

    Args:
        n: rows of a matrix.
        power: theta, any number but zero; as it goes to zero the metric goes to the log-Euclidean one.
        learn_matrix: learn M; otherwise it is the identity, and with ``power=1`` the metric is Bures-Wasserstein's own.
        mean_steps: steps of the fixed-point iteration for the mean of a batch; the authors take one.
        momentum: share of a batch in the running statistics.
        eps: added to the variance.
        legacy_variance: the mean squared distance of matrices from the identity, not from their mean, as in the authors' code.
        differentiate: let gradients pass through mean and variance; the authors do not.

    Raises:
        ErlangenError: a number is out of its range.

    In `forward`: ShapeError, DtypeError, NotFiniteError and MatrixFunctionError for what is no batch of SPD matrices.
    """

    violated: Tensor
    seen: Tensor

    def __init__(
        self,
        n: int,
        *,
        power: float = 1.0,
        learn_matrix: bool = True,
        mean_steps: int = 1,
        momentum: float = 0.1,
        eps: float = 1e-5,
        legacy_variance: bool = False,
        differentiate: bool = True,
    ) -> None:
        super().__init__()
        check_integer("n", n, 1)
        check_integer("mean_steps", mean_steps, 1)
        Deformed(BW, power=power)  # refuses a power of zero
        if not 0 < momentum <= 1 or not eps > 0:
            raise ErlangenError(f"momentum = {momentum}, eps = {eps}; give 0 < momentum <= 1 and a positive eps")
        self.n, self.power, self.mean_steps, self.momentum, self.eps = n, power, mean_steps, momentum, eps
        self.legacy_variance, self.differentiate = legacy_variance, differentiate
        self.bias = nn.Parameter(torch.eye(n))
        self.matrix = nn.Parameter(torch.eye(n)) if learn_matrix else None
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.eye(n))
        self.register_buffer("running_var", torch.tensor(1.0))
        self.register_buffer("violated", torch.zeros(3, dtype=torch.int64), persistent=False)
        self.register_buffer("seen", torch.tensor(0), persistent=False)

    @property
    def metric(self) -> Deformed:
        """The generalised Bures-Wasserstein metric of the present M."""
        return Deformed(BW, matrix=self.matrix, power=self.power)

    @property
    def violations(self) -> Violations:
        """Shares of all matrices seen in training that left the domain of an exponential."""
        return Violations(*(self.violated / self.seen.clamp(min=1)).tolist())

    def manifold_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that are no plain numbers, for `RiemannianSGD`."""
        return {"spd": [self.bias] + ([] if self.matrix is None else [self.matrix])}

    @override
    def forward(self, X: Tensor) -> Tensor:
        """Normalised matrices, of the shape of X."""
        if is_traced():
            return self._normalised(X)
        self._check(X)
        try:
            return self._normalised(X)
        except LinAlgError:  # a decomposition that does not converge does so after a change in the last digits
            try:
                return self._normalised(ridge(X, 10 * torch.finfo(X.dtype).eps))
            except LinAlgError as error:
                raise MatrixFunctionError(
                    "an eigendecomposition does not converge, with a small ridge either; use float64, or ReEig before"
                ) from error

    def _normalised(self, X: Tensor) -> Tensor:
        metric = self.metric
        together = torch.cat([X.flatten(0, -3), self.bias[None].to(X), self.running_mean[None].to(X)])
        whole = metric.chart(together)
        Y, W, running = whole[:-2], whole[-2], whole[-1]  # (1)
        batch = self.training and len(Y) > 0
        mean = self._mean(Y) if batch else running  # (2)
        tangent = to_identity(BW.log(mean, Y), mean)
        # The length of a tangent vector is the distance, and transport keeps it.
        variance = self._variance(tangent, Y) if batch else self.running_var
        root = identity_like(tangent) + tangent / 2  # (3) exp_I(V) = (I + V / 2)^2
        tangent = log_identity(root @ root)
        roots = [root]
        root = identity_like(tangent) + self.scale / (variance + self.eps).sqrt() * tangent / 2  # (4)
        tangent = log_identity(root @ root)
        roots.append(root)
        velocity = from_identity(tangent, W)  # (5)
        out = metric.unchart(BW.exp(W, velocity)).view_as(X)  # (6)
        if batch:
            self._remember(metric, running, mean, variance)
            if not is_traced():
                self._count([*roots, velocity], W)
        return out

    # --- statistics --------------------------------------------------------------------------------------------------
    def _mean(self, Y: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiate):
            return barycentre(Y, self.mean_steps)

    def _variance(self, tangent: Tensor, Y: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiate):
            vectors = log_identity(Y) if self.legacy_variance else tangent
            return vectors.square().sum((-2, -1)).mean() / 4 / self.power**2

    @torch.no_grad()
    def _remember(self, metric: Deformed, running: Tensor, mean: Tensor, variance: Tensor) -> None:  # (7)
        moved = mean if self.momentum == 1 else BW.geodesic(running, mean, self.momentum)
        self.running_mean.copy_(metric.unchart(moved))
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)

    @torch.no_grad()
    def _count(self, roots: list[Tensor], W: Tensor) -> None:
        centre, scale, velocity = (root.detach() for root in roots)
        outside = [torch.linalg.cholesky_ex(root).info > 0 for root in (centre, scale)] + [~BW.in_domain(W, velocity)]
        counts = torch.stack([bad.sum() for bad in outside])
        self.violated += counts
        self.seen += len(centre)
        share = float(counts[0]) / len(centre)
        if share > MANY:
            warnings.warn(
                f"{share:.0%} of a batch leave the domain of the exponential in centring and are folded back; divide the "
                "matrices by a number, so that their eigenvalues are of the size of one",
                ErlangenWarning,
                stacklevel=5,
            )

    def _check(self, X: Tensor) -> None:
        if X.ndim < 3 or X.shape[-2:] != (self.n, self.n):
            raise ShapeError(f"X has shape {tuple(X.shape)}; give matrices [B, C, {self.n}, {self.n}]")
        if X.dtype not in (torch.float32, torch.float64):
            raise DtypeError(f"X has dtype {X.dtype}; decompositions need real matrices in float32 or float64")
        check_finite(X, "X")
        A = X.detach()
        largest = A.abs().amax((-2, -1))
        tolerance = ASYMMETRY if X.dtype == torch.float64 else 10 * ASYMMETRY
        skew = (A - A.mT).abs().amax((-2, -1)) > tolerance * largest
        if bool(skew.any()):
            raise MatrixFunctionError(f"X{list(first_index(skew))} is not symmetric; pass (X + X.mT) / 2")
        pivots, failed = torch.linalg.cholesky_ex(A)
        smallest = pivots.diagonal(dim1=-2, dim2=-1).square().amin(-1)
        bad = (failed > 0) | ~(smallest > self.n * torch.finfo(X.dtype).eps * largest)
        if bool(bad.any()):
            index = first_index(bad)
            raise MatrixFunctionError(
                f"X{list(index)} has the smallest eigenvalue {float(torch.linalg.eigvalsh(A[index])[0]):.4g} and is not positive "
                "definite to working precision; put a ReEig before the normalisation, or add a ridge to covariances"
            )
        if self.training and X.shape[:-2].numel() == 1:
            warnings.warn(
                "a batch of one matrix has the variance zero and is mapped to the bias; use larger batches, or eval()",
                ErlangenWarning,
                stacklevel=4,
            )


# --- the metric at the identity ----------------------------------------------------------------------------------------
def identity_like(X: Tensor) -> Tensor:
    """The identity ``[n, n]`` for matrices ``[..., n, n]``."""
    return torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)


def log_identity(X: Tensor) -> Tensor:
    """``log_I(X) = 2 (X^1/2 - I)``."""
    return 2 * (sym_sqrt(X, check=False) - identity_like(X))


def to_identity(V: Tensor, P: Tensor) -> Tensor:
    """Parallel transport of tangent vectors ``[..., n, n]`` at one matrix ``P [n, n]`` to the identity.

    In the basis of eigenvectors of P it is ``v_ij sqrt(2 / (p_i + p_j))``: the inverse square root of the map
    V -> (P V + V P) / 2 of symmetric matrices. As a function of that map its derivatives are right at equal eigenvalues too,
    where those of eigenvectors are not defined.
    """
    return _on_vectors(sym_invsqrt(_lyapunov_map(P), check=not is_traced()), V)


def from_identity(V: Tensor, P: Tensor) -> Tensor:
    """Parallel transport of tangent vectors at the identity to one matrix ``P [n, n]``, the inverse of `to_identity`."""
    return _on_vectors(sym_sqrt(_lyapunov_map(P), check=not is_traced()), V)


def barycentre(Y: Tensor, steps: int) -> Tensor:
    """Steps of ``G <- G^-1/2 (mean of (G^1/2 Y G^1/2)^1/2)^2 G^-1/2`` for matrices ``[N, n, n]``, from their arithmetic mean."""
    mean = Y.mean(0)
    for _ in range(steps):
        root, inverse = sym_roots(mean, check=False)
        middle = sym_sqrt(root @ Y @ root, check=False).mean(0)
        mean = inverse @ middle @ middle @ inverse
        mean = (mean + mean.mT) / 2
    return mean


def _basis(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and norms of the orthogonal basis E_ij + E_ji of symmetric matrices, i <= j."""
    n = X.shape[-1]
    rows, columns = torch.triu_indices(n, n, device=X.device)
    return rows, columns, (2 - (rows == columns).to(X.dtype)).sqrt()


def _lyapunov_map(P: Tensor) -> Tensor:
    """The matrix of V -> (P V + V P) / 2 in the orthonormal basis of symmetric matrices."""
    rows, columns, norm = _basis(P)
    eye = identity_like(P)
    i, j, k, l = rows[:, None], columns[:, None], rows[None], columns[None]
    entries = P[i, k] * eye[j, l] + P[i, l] * eye[j, k] + P[j, k] * eye[i, l] + P[j, l] * eye[i, k]
    return norm[:, None] * norm[None] * entries / 4


def _on_vectors(T: Tensor, V: Tensor) -> Tensor:
    """A map of symmetric matrices, given in their orthonormal basis, on matrices ``[..., n, n]``."""
    rows, columns, norm = _basis(V)
    moved = (V[..., rows, columns] * norm) @ T / norm
    place = torch.zeros(V.shape[-2:], dtype=torch.int64, device=V.device)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=V.device)
    return moved[..., place]


# --- optimisation -----------------------------------------------------------------------------------------------------
class RiemannianSGD(torch.optim.Optimizer):
    """Gradient descent for networks of SPD matrices, as the authors train: momentum and decay for plain numbers alone.

    SPD matrices go along ``-P sym(grad) P`` by the exponential of Bures-Wasserstein, orthonormal columns along the gradient in
    their tangent space to the nearest orthonormal columns.

    >>> norm = GBWBatchNorm(3)
    >>> step = RiemannianSGD.of(norm, lr=0.01)
    >>> [(group["manifold"], len(group["params"])) for group in step.param_groups]
    [('spd', 2), ('flat', 1)]

    Args:
        params: groups of parameters with the key "manifold": "flat" (by default), "spd" or "stiefel".
        lr: the learning rate.
        momentum, weight_decay: of flat parameters.
    """

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        if not lr > 0:
            raise ErlangenError(f"lr = {lr}; give a positive number")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "manifold": "flat"})

    @classmethod
    def of(cls, model: nn.Module, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> RiemannianSGD:
        """The optimiser of a model, whose modules tell by ``manifold_parameters()`` which of theirs are no plain numbers."""
        curved: dict[str, list[nn.Parameter]] = {}
        for module in model.modules():
            tell: Callable[[], dict[str, list[nn.Parameter]]] = getattr(module, "manifold_parameters", dict)
            for manifold, found in tell().items():
                curved.setdefault(manifold, []).extend(found)
        taken = {id(p) for found in curved.values() for p in found}
        flat = [p for p in model.parameters() if id(p) not in taken]
        groups: list[dict[str, Any]] = [{"params": found, "manifold": name} for name, found in curved.items()]
        groups += [{"params": flat, "manifold": "flat"}] if flat else []
        return cls(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    _STEPS[group["manifold"]](p, p.grad, group, self.state[p])
        return loss


def _flat_step(p: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    grad = grad + group["weight_decay"] * p
    if group["momentum"]:
        state["momentum"] = grad.clone() if "momentum" not in state else state["momentum"] * group["momentum"] + grad
        grad = state["momentum"]
    p.sub_(group["lr"] * grad)


def _spd_step(p: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    direction = p @ (grad + grad.mT) / 2 @ p
    p.copy_(BW.exp(p, -group["lr"] * (direction + direction.mT) / 2))


def _stiefel_step(p: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    manifold = Stiefel()
    p.copy_(manifold.retract(p, -group["lr"] * manifold.project(p, grad)))


_STEPS = {"flat": _flat_step, "spd": _spd_step, "stiefel": _stiefel_step}
