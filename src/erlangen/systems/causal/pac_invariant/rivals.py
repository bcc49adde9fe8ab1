"""Rivals on the same environments: pooled regression, regression on given features, and IRMv1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator

from erlangen.systems.causal.pac_invariant.method import (
    Environments,
    Predictor,
    best_weights,
    check_penalty,
    check_units,
)


def pooled_regression(environments: Environments, columns: tuple[int, ...] | None = None) -> Predictor:
    """Least squares over all environments, on all features or on some; on none it predicts zero."""
    eye = torch.eye(environments.features, dtype=environments.xx.dtype)
    phi = eye if columns is None else eye[list(columns)]
    if not len(phi):
        return Predictor(phi, phi.new_zeros(0))
    return Predictor(phi, best_weights(environments.pooled, phi)[0])


def irm_v1(
    environments: Environments,
    penalty: float,
    *,
    starts: int = 3,
    steps: int = 500,
    generator: Generator | None = None,
) -> Predictor:
    """Invariant risk minimisation, version 1 (Arjovsky et al. 2019), with a linear representation of one row.

    Mean over environments of the risk plus a penalty times the squared derivative of the risk in a factor at one. Features are
    scaled to pooled variance one, since the penalty depends on scale. L-BFGS from the pooled regression and from random points.
    """
    check_penalty(penalty)
    scale = check_units(environments)
    S = (environments.xx / (scale[:, None] * scale)).double().numpy()
    s, yy = (environments.xy / scale).double().numpy(), float(environments.yy.mean())
    S_mean, s_mean = S.mean(0), s.mean(0)

    def value(b: Any) -> tuple[float, Any]:
        Sb = S @ b
        slope = 2 * (Sb @ b - s @ b)  # of the risk of t * b at t = 1
        risk = yy - 2 * s_mean @ b + b @ S_mean @ b
        gradient = 2 * (S_mean @ b - s_mean) + penalty * (2 * slope[:, None] * (4 * Sb - 2 * s)).mean(0)
        return risk + penalty * (slope**2).mean(), gradient

    regression = np.linalg.solve(S_mean, s_mean)
    best: Any = None
    for k in range(starts):
        start = regression if k == 0 else torch.randn(len(regression), generator=generator, dtype=torch.float64).numpy()
        found: Any = minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
        if best is None or found.fun < best.fun:
            best = found
    return Predictor((torch.from_numpy(best.x).to(scale) / scale)[None], scale.new_ones(1))
