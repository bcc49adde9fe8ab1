"""How many interventions are enough: bounds of PAC learning, and intervals for excess risks of samples."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from erlangen.causal import InterventionFamily, is_dag
from erlangen.errors import ErlangenError, UnknownNameError, check_finite, check_integer


def check_open(name: str, value: float) -> None:
    """Raise unless a number is between 0 and 1."""
    if not 0 < value < 1:
        raise ErlangenError(f"{name} = {value}; give a number between 0 and 1")


def samples_finite(count: int, tau: float, delta: float) -> int:
    """Interventions after which, with probability 1 - delta, every accepted one of a finite class violates at most a share tau.

    >>> samples_finite(1024, 0.1, 0.05)
    100

    ``(ln H + ln 1/delta) / tau``. The class must not depend on the interventions.
    """
    check_integer("count", count, 1)
    check_open("tau", tau)
    check_open("delta", delta)
    return math.ceil((math.log(count) + math.log(1 / delta)) / tau)


def tau_finite(count: int, n: int, delta: float) -> float:
    """The share tau that n interventions give for a finite class; above 1 they say nothing.

    >>> round(tau_finite(45, 60, 0.05), 3)
    0.113
    """
    check_integer("count", count, 1)
    check_integer("n", n, 1)
    check_open("delta", delta)
    return (math.log(count) + math.log(1 / delta)) / n


def samples_vc(dimension: int, tau: float, delta: float) -> int:
    """Interventions that are enough for a class chosen by looking at them, by the VC dimension of its violation sets.

    >>> samples_vc(421, 0.1, 0.05)
    236514

    ``max(4 / tau log2(2 / delta), 8 D / tau log2(13 / tau))`` (Blumer, Ehrenfeucht, Haussler and Warmuth 1989).
    """
    check_integer("dimension", dimension, 1)
    check_open("tau", tau)
    check_open("delta", delta)
    return math.ceil(max(4 / tau * math.log2(2 / delta), 8 * dimension / tau * math.log2(13 / tau)))


def samples_agnostic(dimension: int, tau: float, delta: float, *, constant: float) -> int:
    """Interventions after which shares of violations are known within tau: ``C / tau^2 (D + ln 1/delta)``, C as given."""
    check_integer("dimension", dimension, 1)
    check_open("tau", tau)
    check_open("delta", delta)
    if not (constant > 0 and math.isfinite(constant)):
        raise ErlangenError(f"constant = {constant}; give the positive constant of the theorem that you rely on")
    return math.ceil(constant / tau**2 * (dimension + math.log(1 / delta)))


class VCBounds(NamedTuple):
    """Bounds of the VC dimension of violation sets, those that apply.

    Attributes:
        ambient: by the number of parameters of (Phi, w) (Goldberg and Jerrum 1995); it grows with the variables.
        dimension_free: by what functions of the intervention enter covariances; None for the excess risk.
        smallest: of the two.
    """

    ambient: int
    dimension_free: int | None
    smallest: int


def vc_ambient(variables: int, rows: int, predicate: Literal["risk", "gradient"] = "risk") -> int:
    """``2 m log2(8 e q)``, rounded down: m parameters of representations with so many rows, one inequality of degree q.

    >>> vc_ambient(10, 3, "gradient")
    421

    The squared norm of the gradient has degree 6; the excess risk times det(Phi Sigma Phi^T) has 2 rows + 4, for
    representations that are not singular.
    """
    check_integer("variables", variables, 2)
    check_integer("rows", rows, 1)
    if predicate not in ("risk", "gradient"):
        raise UnknownNameError(f"predicate = {predicate!r}; there are risk, gradient")
    degree = 6 if predicate == "gradient" else 2 * rows + 4
    return math.floor(2 * rows * variables * math.log2(8 * math.e * degree))


def covariance_functions(sites: int, in_degree: int, *, variances: bool = False) -> int:
    """How many functions of the intervention all entries of the covariance are combinations of, at most, without cycles.

    >>> covariance_functions(2, 2), covariance_functions(3, 3)
    (45, 2080)

    A path meets each site at most once, through one of its edges: at most M = (in_degree + 1)^sites monomials make total
    effects, and M (M + 1) / 2 products of two the covariance, times 1 + sites where noise variances change, too.
    """
    check_integer("sites", sites, 1)
    check_integer("in_degree", in_degree, 0)
    monomials = (in_degree + 1) ** sites
    return monomials * (monomials + 1) // 2 * (1 + sites * variances)


def vc_dimension_free(sites: int, in_degree: int, *, variances: bool = False) -> int:
    """A bound for the gradient predicate that does not depend on the number of variables: J (J + 1) / 2 + 1."""
    J = covariance_functions(sites, in_degree, variances=variances)
    return J * (J + 1) // 2 + 1


def vc_bound(family: InterventionFamily, rows: int, predicate: Literal["risk", "gradient"] = "risk") -> VCBounds:
    """All bounds for linear representations with so many rows under a family of interventions.

    Raises:
        ErlangenError: the model has cycles, where paths may come back to a site.
    """
    if not is_dag(family.model.weights):
        raise ErlangenError("the model of the family has cycles; these bounds are for acyclic models")
    ambient = vc_ambient(len(family.model.weights), rows, predicate)
    if predicate == "risk":
        return VCBounds(ambient, None, ambient)
    moving = 0 if family.rows in ("keep", "hard") else family.in_degree  # cut rows are constant
    free = vc_dimension_free(len(family.sites), moving, variances=family.variances is not None)
    return VCBounds(ambient, free, min(ambient, free))


# --- samples ---------------------------------------------------------------------------------------------------------
def excess_interval(
    excess: Tensor, residual: Tensor, samples: Tensor, rows: int | Tensor, level: float
) -> tuple[Tensor, Tensor]:
    """Ends of the excess risk of a fixed predictor, from normal samples; each misses with a chance of at most `level`.

    In the norm of the sampled covariance the best predictor that was found is the true one plus projected noise, so that the
    roots of both excess risks differ by at most the length of that noise; from above, the part of it along the difference
    is enough, which is one normal number. What is left over is a chi-square, as is the sampled over the true norm of a fixed
    vector. A third of the level pays for each.

    Args:
        excess, residual: excess risk, and risk of the best predictor, under the sampled covariance.
        samples: degrees of freedom N of that covariance.
        rows: p of the representation.
        level: chance of each end.
    """
    check_open("level", level)
    check_finite(excess, "excess")
    check_finite(residual, "residual")
    N, p = np.asarray(samples, dtype=float), np.asarray(rows, dtype=float)
    if bool((p >= N).any()):
        raise ErlangenError(
            f"samples = {int(N.min())} for a representation with {int(p.max())} rows; give more samples than rows"
        )
    third = level / 3

    def tensor(x: Any) -> Tensor:
        return torch.as_tensor(np.asarray(x)).to(excess)

    sigma2 = residual.clamp(min=0) * tensor(N / stats.chi2.ppf(third, N - p))
    root = excess.clamp(min=0).sqrt()
    noise = (sigma2 / tensor(N)).sqrt()
    above = root + float(stats.norm.isf(third)) * noise
    below = (root - tensor(np.sqrt(stats.chi2.isf(third, np.maximum(p, 1)))) * noise).clamp(min=0)
    return below**2 / tensor(stats.chi2.isf(third, N) / N), above**2 / tensor(stats.chi2.ppf(third, N) / N)
