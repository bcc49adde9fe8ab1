"""Invariant predictors of linear structural equation models, and what samples of interventions say about the others.

Parulekar, Shanmugam and Shakkottai, PAC Generalization via Invariant Representations (ICML 2023).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.causal import InterventionFamily, LinearSEM
from erlangen.errors import (
    DataError,
    DegenerateFrameWarning,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    ShapeError,
    check_finite,
    is_whole,
)


@dataclass(frozen=True)
class Environments:
    """Covariances of features X and a target Y in several environments: of a population in closed form, or of samples.

    >>> chain = LinearSEM(torch.tensor([[0.0, 2, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.float64))  # X1 -> Y -> X2
    >>> family = InterventionFamily(chain, sites=(2,), rows="keep", variances=(0.5, 4.0))
    >>> seen = Environments.draw(family, target=1, n=10, generator=Generator().manual_seed(0))
    >>> cause, effect = torch.eye(2, dtype=torch.float64)[:, None]  # each X is a representation with one row
    >>> excess_risk(seen, cause, torch.tensor([2.0])).max() < 1e-12, excess_risk(seen, effect, torch.tensor([0.8])).max() > 0.01
    (tensor(True), tensor(True))

    Attributes:
        covariance: ``[n, d, d]`` of all variables, Y among them, about zero.
        target: index of Y. Features are the other variables, in order.
        samples: degrees of freedom of each covariance ``[n]``; None where it is that of the population.

    Raises:
        ShapeError: not square matrices, or none; samples that are not a number for each.
        DtypeError: neither float32 nor float64.
        DataError: what is no covariance, or a target that is no variable.
    """

    covariance: Tensor
    target: int
    samples: Tensor | None = None

    def __post_init__(self) -> None:
        S = self.covariance
        if S.ndim != 3 or S.shape[1] != S.shape[2] or S.shape[1] < 2 or not len(S):
            raise ShapeError(f"covariance has shape {tuple(S.shape)}; give [n, d, d], with n >= 1 environments, d >= 2")
        if S.dtype not in (torch.float32, torch.float64):
            raise DtypeError(f"covariance has dtype {S.dtype}; call covariance.double()")
        check_finite(S, "covariance")
        if not is_whole(self.target, 0, S.shape[1] - 1):
            raise DataError(f"target = {self.target}; the variables are 0 to {S.shape[1] - 1}")
        gap = (S - S.mT).abs().amax((1, 2)) > 1e-6 * S.abs().amax((1, 2))
        if bool(gap.any()):
            raise DataError(f"covariance[{int(gap.nonzero()[0])}] is not symmetric; pass covariances, X.mT @ X / N")
        variances = S.diagonal(dim1=1, dim2=2)
        most = (variances.clamp(min=0)[:, :, None] * variances.clamp(min=0)[:, None, :]).sqrt()
        # A necessary condition, which costs no decomposition: no correlation is above one.
        beyond = (variances < 0).any(1) | ((S.abs() - most) > 1e-4 * most.amax((1, 2), keepdim=True)).any((1, 2))
        if bool(beyond.any()):
            raise DataError(
                f"covariance[{int(beyond.nonzero()[0])}] has a correlation above one or a negative variance; pass covariances, "
                "X.mT @ X / N"
            )
        if self.samples is not None and (self.samples.shape != (len(S),) or bool((self.samples < 1).any())):
            raise ShapeError(
                f"samples has shape {tuple(self.samples.shape)}; give a positive number for each of {len(S)} environments"
            )

    @classmethod
    def observational(cls, model: LinearSEM, target: int) -> Environments:
        """The one environment in which nothing is done."""
        return cls(model.covariance()[None].double(), target)

    @classmethod
    def draw(
        cls, family: InterventionFamily, target: int, n: int, *, generator: Generator | None = None
    ) -> Environments:
        """Populations after n independent interventions of a family, in float64.

        Raises:
            DataError: the family intervenes on the target, whose equation has to stay.
        """
        if target in family.sites:
            raise DataError(f"sites = {family.sites} include the target {target}; intervene on other nodes")
        return cls(family.draw(n, generator=generator).covariance().double(), target)

    @classmethod
    def from_samples(
        cls,
        tables: Sequence[Tensor],
        target: int,
        *,
        names: Sequence[Sequence[str]] | None = None,
        centre: bool = False,
    ) -> Environments:
        """Covariances of samples ``[N, d]``, one table for each environment.

        Means carry signal: an intervention may move them. They are left in, with a warning where they are clearly not zero,
        unless `centre` takes them away, environment by environment, at the price of a degree of freedom.

        Args:
            names: of the columns, for each table; they have to be the same, in the same order.

        Raises:
            DataError: no tables, other columns than in the first, or fewer samples than columns.
        """
        if not tables:
            raise DataError("tables is empty; give the samples of one environment or more")
        d = tables[0].shape[-1]
        for k, X in enumerate(tables):
            if X.ndim != 2 or X.shape[1] != d:
                raise DataError(
                    f"tables[{k}] has shape {tuple(X.shape)}, the first {tuple(tables[0].shape)}; columns are missing"
                )
            check_finite(X, f"tables[{k}]")
            if len(X) <= d:
                raise DataError(f"tables[{k}] has {len(X)} samples of {d} variables; give more samples than variables")
        if names is not None:
            _check_names(names, len(tables), d)
        found: list[Tensor] = []
        for k, table in enumerate(tables):
            x = table.double()
            t = x.mean(0).abs() / (x.std(0) / math.sqrt(len(x))).clamp(min=1e-300)
            if not centre and bool((t > 6).any()):
                warnings.warn(
                    f"tables[{k}]: the mean of column {int(t.argmax())} is {float(t.max()):.3g} standard errors from zero; pass "
                    "centre=True to take means away, if they are not what the interventions change",
                    ErlangenWarning,
                    stacklevel=2,
                )
            x = x - x.mean(0) if centre else x
            found.append(x.mT @ x / (len(x) - centre))
        return cls(torch.stack(found), target, torch.tensor([len(X) - centre for X in tables]))

    def __len__(self) -> int:
        return len(self.covariance)

    @property
    def features(self) -> int:
        """How many features there are, d - 1."""
        return self.covariance.shape[1] - 1

    @functools.cached_property
    def xx(self) -> Tensor:
        """Covariance of features ``[n, d - 1, d - 1]``."""
        return self.covariance[:, self._others][:, :, self._others]

    @functools.cached_property
    def xy(self) -> Tensor:
        """Covariance of features and target ``[n, d - 1]``."""
        return self.covariance[:, self._others, self.target]

    @property
    def yy(self) -> Tensor:
        """Variance of the target ``[n]``."""
        return self.covariance[:, self.target, self.target]

    @property
    def _others(self) -> list[int]:
        return [k for k in range(self.covariance.shape[1]) if k != self.target]

    @functools.cached_property
    def pooled(self) -> Environments:
        """One environment with the mean covariance."""
        return Environments(self.covariance.mean(0, keepdim=True), self.target)

    def __getitem__(self, which: slice | list[int]) -> Environments:
        return Environments(self.covariance[which], self.target, None if self.samples is None else self.samples[which])

    def mixed(self, S: Tensor) -> Environments:
        """Environments of indirect observations ``X = S Z`` of these features Z, ``S [m, d - 1]``; Y comes last."""
        if S.ndim != 2 or S.shape[1] != self.features:
            raise ShapeError(
                f"S has shape {tuple(S.shape)}; give [m, {self.features}], a column for each latent feature"
            )
        whole = torch.block_diag(S.to(self.xx), torch.ones(1, 1, dtype=self.xx.dtype))
        order = [*self._others, self.target]
        return Environments(whole @ self.covariance[:, order][:, :, order] @ whole.mT, len(S), self.samples)

    def risk(self, coefficients: Tensor) -> Tensor:
        """Mean squared error ``[..., n]`` of predictions ``X @ coefficients``, coefficients ``[..., d - 1]``."""
        b = coefficients.to(self.xx)
        return self.yy - 2 * b @ self.xy.mT + torch.einsum("...i,nij,...j->...n", b, self.xx, b)


def _check_names(names: Sequence[Sequence[str]], tables: int, d: int) -> None:
    if len(names) != tables:
        raise DataError(f"names has {len(names)} lists for {tables} tables; give the columns of each")
    for k, own in enumerate(names):
        if sorted(own) != sorted(names[0]) or len(own) != d:
            missing = sorted(set(names[0]) ^ set(own))
            raise DataError(f"names[{k}] has other columns than names[0] ({missing}); every table needs the same {d}")
        if list(own) != list(names[0]):
            raise DataError(f"names[{k}] has the columns in another order than names[0]; sort them alike")


# --- representations -------------------------------------------------------------------------------------------------
class Predictor(NamedTuple):
    """A representation ``Phi [p, d - 1]`` and a linear predictor ``w [p]`` on it: Y is predicted by w^T Phi X."""

    phi: Tensor
    w: Tensor

    @property
    def coefficients(self) -> Tensor:
        """Phi^T w ``[d - 1]``."""
        return self.phi.mT @ self.w


def excess_risk(environments: Environments, phi: Tensor, w: Tensor) -> Tensor:
    """How much worse w is than the best predictor on the representation: R_e(w) - R_e(w_e), ``[..., n]``.

    It is ``g^T (Phi Sigma Phi^T)^+ g``, with g of `half_gradient`; never negative, zero where w is optimal, and the same for
    (A Phi, A^-T w) with any invertible A. A singular Phi Sigma Phi^T is warned about, and its pseudo-inverse taken.

    Args:
        phi: ``[..., p, d - 1]``; rows of 0 and a single 1 select features.
        w: ``[..., p]``.

    Raises:
        ShapeError: `phi` does not have a column for each feature, or `w` an entry for each row.
    """
    phi, w = _checked(environments, phi, w)
    if not phi.shape[-2]:
        return w.new_zeros(*phi.shape[:-2], len(environments))
    # In orthonormal rows of the same span: a basis of rows that is nearly singular costs no digits then.
    V = _rows(phi)
    beta = (phi.mT @ w[..., None])[..., 0]
    A, c = _moments(environments, V)
    g = (A @ (V @ beta[..., None])[..., None, :, :])[..., 0] - c
    return (g * solved(A, g)).sum(-1)


def half_gradient(environments: Environments, phi: Tensor, w: Tensor) -> Tensor:
    """Half the gradient of the risk in w, ``g_e = Phi Sigma_e^XX Phi^T w - Phi Sigma_e^XY``, ``[..., n, p]``."""
    phi, w = _checked(environments, phi, w)
    A, c = _moments(environments, phi)
    return (A @ w[..., None, :, None])[..., 0] - c


def best_weights(environments: Environments, phi: Tensor) -> Tensor:
    """The best predictor of each environment, ``w_e = (Phi Sigma_e^XX Phi^T)^+ Phi Sigma_e^XY``, ``[..., n, p]``."""
    phi, _ = _checked(environments, phi, phi[..., 0])
    return solved(*_moments(environments, phi))


def _checked(environments: Environments, phi: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    if phi.ndim < 2 or phi.shape[-1] != environments.features:
        raise ShapeError(
            f"phi has shape {tuple(phi.shape)}; give [p, {environments.features}], a column for each feature"
        )
    if w.shape != phi.shape[:-1]:
        raise ShapeError(
            f"w has shape {tuple(w.shape)} and phi {tuple(phi.shape)}; give w a number for each row of phi"
        )
    check_finite(phi, "phi")
    check_finite(w, "w")
    return phi.to(environments.xx), w.to(environments.xx)


def check_units(environments: Environments) -> Tensor:
    """Standard deviations ``[d - 1]`` of the features, pooled; none may be zero where features are scaled by them."""
    scale = environments.pooled.xx[0].diagonal().sqrt()
    if bool((scale == 0).any()):
        raise DataError(f"feature {int((scale == 0).nonzero()[0])} is constant in all environments; remove it")
    return scale


def check_penalty(penalty: float) -> None:
    """Raise unless it is a finite number of at least zero."""
    if not (penalty >= 0 and math.isfinite(penalty)):
        raise ErlangenError(f"penalty = {penalty}; give a number that is not negative")


def _rows(phi: Tensor) -> Tensor:
    """Orthonormal rows that span those of phi ``[..., p, f]``; zero rows where its rank is lower."""
    _, values, rows = torch.linalg.svd(phi, full_matrices=False)
    kept = values > values[..., :1] * max(phi.shape[-2:]) * torch.finfo(phi.dtype).eps
    if phi.shape[-2] > phi.shape[-1]:
        rows = torch.cat(
            [rows, torch.zeros_like(rows[..., :1, :])], -2
        )  # more rows than features: their covariance is singular
        kept = torch.cat([kept, torch.zeros_like(kept[..., :1])], -1)
    return rows * kept[..., None]


def _moments(environments: Environments, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Phi Sigma^XX Phi^T ``[..., n, p, p]`` and Phi Sigma^XY ``[..., n, p]``."""
    phi = phi[..., None, :, :]
    return phi @ environments.xx @ phi.mT, (phi @ environments.xy[..., None])[..., 0]


def solved(A: Tensor, c: Tensor) -> Tensor:
    """A^+ c ``[..., p]``, with a warning where A is singular."""
    diagonal = A.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    root, info = torch.linalg.cholesky_ex(scale[..., :, None] * A * scale[..., None, :])
    pivots = root.diagonal(dim1=-2, dim2=-1).square()
    bad = (info > 0) | ~(pivots.amin(-1) > 10 * A.shape[-1] * torch.finfo(A.dtype).eps)
    safe = torch.where(bad[..., None, None], torch.eye(A.shape[-1], dtype=A.dtype), root)
    found = scale * torch.cholesky_solve((scale * c)[..., None], safe)[..., 0]
    if bool(bad.any()):
        index = bad.nonzero()[0].tolist()
        warnings.warn(
            f"Phi Sigma Phi^T is singular, first at {index}: the pseudo-inverse is taken; drop rows of phi that repeat others",
            DegenerateFrameWarning,
            stacklevel=4,
        )
        inverse = torch.linalg.pinv(A[bad], hermitian=True, rtol=1e3 * torch.finfo(A.dtype).eps)
        found = found.index_put((bad,), (inverse @ c[bad][..., None])[..., 0])
    return found
