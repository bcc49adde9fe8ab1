"""Search for invariant predictors: all subsets of features, subsets one feature less at a time, and linear representations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_integer, is_whole
from erlangen.systems.causal.pac_invariant._bounds import check_open
from erlangen.systems.causal.pac_invariant._finite import SubsetClass, within
from erlangen.systems.causal.pac_invariant.method import Environments, Predictor, check_penalty, check_units


class SubsetSearch(NamedTuple):
    """What `search_subsets` has found.

    Attributes:
        tried: the subsets, with the weights of the pooled regression.
        accepted: which are eps-invariant in every environment, ``[H]``.
        worst: the largest excess risk of each over environments, ``[H]``.
        intersection: the features that all accepted subsets share, as in invariant causal prediction; None without any.
        best: the accepted one with the least pooled risk, of equals the smallest, its index; None without any.
    """

    tried: SubsetClass
    accepted: Tensor
    worst: Tensor
    intersection: tuple[int, ...] | None
    best: int | None

    @property
    def predictor(self) -> Predictor:
        """The best one; where none is accepted, the one that comes closest."""
        return self.tried.predictor(int(self.worst.argmin()) if self.best is None else self.best)


def search_subsets(
    environments: Environments,
    eps: float,
    *,
    at_most: int | None = None,
    level: float = 0.05,
    greedy: bool = False,
) -> SubsetSearch:
    """Subsets of features on which the pooled regression is eps-invariant in every environment.

    Which are accepted depends on the environments, and so do the weights: the bound for finite classes is void for them.

    Args:
        environments: population or samples. Of samples, subsets are rejected whose excess risk is above eps with confidence
            ``1 - level`` over all environments.
        eps: the largest excess risk.
        at_most: features of a subset.
        greedy: begin with all features and leave out, one at a time, the one without which the worst excess risk is least,
            instead of trying all subsets.

    Raises:
        ErlangenError: eps is negative, level not in (0, 1), or there are too many subsets.
    """
    check_open("level", level)
    each = level / len(environments)
    if not greedy:
        tried = SubsetClass.fit(environments, at_most)
    else:
        groups: list[Tensor] = []
        left = torch.arange(environments.features)
        limit = environments.features if at_most is None else check_integer("at_most", at_most, 1)
        while len(left):
            if len(left) <= limit:
                groups.append(left[None])
            if len(left) == 1:
                break
            fewer = torch.stack([torch.cat([left[:k], left[k + 1 :]]) for k in range(len(left))])
            worst = SubsetClass([fewer], environments).excess_risk(environments).amax(1)
            left = fewer[int(worst.argmin())]
        tried = SubsetClass(groups, environments)
    excess = tried.excess_risk(environments)
    accepted = within(tried, environments, eps, level=each, side="low").all(1)
    if not bool(accepted.any()):
        return SubsetSearch(tried, accepted, excess.amax(1), None, None)
    chosen = accepted.nonzero()[:, 0]
    shared = set.intersection(*(set(tried.subset(int(k))) for k in chosen))
    risks = environments.pooled.risk(tried.coefficients[chosen])[:, 0]
    # Features that add nothing leave the risk as it is, up to rounding: of equals the smallest subset, which comes first.
    equal = risks <= risks.min() + 1e-9 * environments.yy.mean()
    return SubsetSearch(tried, accepted, excess.amax(1), tuple(sorted(shared)), int(chosen[equal][0]))


class LinearSearch(NamedTuple):
    """What `search_linear` has found, and the objective there."""

    predictor: Predictor
    objective: float


def search_linear(
    environments: Environments,
    rows: int,
    penalty: float,
    *,
    starts: int = 3,
    steps: int = 500,
    generator: Generator | None = None,
) -> LinearSearch:
    """A linear representation: pooled risk plus a penalty times the mean excess risk, by L-BFGS from several starts.

    Features are scaled to pooled variance one meanwhile; starts are random rows with the pooled regression on them.

    Args:
        environments: population or samples.
        rows: p of the representation.
        penalty: weight of the excess risk.
        starts, steps: of L-BFGS.
        generator: draws the starts.

    Raises:
        ShapeError: more rows than features.
        ErlangenError: a penalty that is negative; DataError: a feature that is constant.
    """
    f = environments.features
    if not is_whole(rows, 1, f):
        raise ShapeError(f"rows = {rows}; give 1 to {f}, the number of features")
    check_penalty(penalty)
    check_integer("starts", starts, 1)
    scale = check_units(environments)
    S = (environments.xx / (scale[:, None] * scale)).double().numpy()
    s, yy = (environments.xy / scale).double().numpy(), float(environments.yy.mean())
    S_mean, s_mean, n = S.mean(0), s.mean(0), len(S)

    def value(x: Any) -> tuple[float, Any]:
        phi, w = x[: rows * f].reshape(rows, f), x[rows * f :]
        b = w @ phi
        phi_S = phi @ S  # [n, p, f]
        A, c = phi_S @ phi.T, s @ phi.T
        v = np.linalg.solve(A, c[..., None])[..., 0]
        Aw = A @ w
        excess = (Aw @ w).mean() - 2 * (c @ w).mean() + (c * v).sum(-1).mean()
        risk = yy - 2 * b @ s_mean + b @ S_mean @ b
        slope = S_mean @ b - s_mean
        d_phi = 2 * np.outer(w, slope) * (1 + penalty)
        d_phi -= 2 * penalty / n * np.einsum("np,nf->pf", v, np.einsum("np,npf->nf", v, phi_S) - s)
        d_w = 2 * phi @ slope * (1 + penalty)
        return risk + penalty * excess, np.concatenate([d_phi.ravel(), d_w])

    best: tuple[float, Any] | None = None
    for _ in range(starts):
        phi = torch.randn(rows, f, generator=generator, dtype=torch.float64).numpy() / f**0.5
        w = np.linalg.solve(phi @ S_mean @ phi.T, phi @ s_mean)
        found: Any = minimize(
            value, np.concatenate([phi.ravel(), w]), jac=True, method="L-BFGS-B", options={"maxiter": steps}
        )
        if np.isfinite(found.fun) and (best is None or found.fun < best[0]):
            best = float(found.fun), found.x
    if best is None:
        raise ErlangenError(f"penalty = {penalty}: no start has led to a finite objective; give a smaller one")
    phi = torch.from_numpy(best[1][: rows * f].reshape(rows, f)).to(scale) / scale
    return LinearSearch(Predictor(phi, torch.from_numpy(best[1][rows * f :]).to(scale)), best[0])
