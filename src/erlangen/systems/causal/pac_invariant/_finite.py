"""Finite classes of predictors, and certificates for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_integer
from erlangen.systems.causal.pac_invariant._bounds import check_open, excess_interval, tau_finite
from erlangen.systems.causal.pac_invariant.method import Environments, Predictor, solved

Predicate = Literal["risk", "gradient"]


class SubsetClass:
    """Regressions of Y on subsets of features: a finite class of predictors, fitted before interventions are drawn.

    The empty subset is left out: on it nothing can be learned, and nothing violated.

    Args:
        columns: subsets of one size as rows ``[m, k]``, for each size.
        environments: where weights are those of the pooled regression.
    """

    def __init__(self, columns: Iterable[Tensor], environments: Environments) -> None:
        self.columns = tuple(group for group in columns if len(group))
        self.fitted_on = environments
        self.weights = tuple(solved(*_blocks(environments.pooled, group))[0] for group in self.columns)

    @classmethod
    def fit(cls, environments: Environments, at_most: int | None = None, *, max_subsets: int = 200_000) -> SubsetClass:
        """All subsets of at most so many features, by default of any size.

        Raises:
            ErlangenError: there are more of them than `max_subsets`.
        """
        f = environments.features
        at_most = f if at_most is None else min(check_integer("at_most", at_most, 1), f)
        count = sum(math.comb(f, k) for k in range(1, at_most + 1))
        if count > max_subsets:
            raise ErlangenError(
                f"{count} subsets, more than max_subsets = {max_subsets}; give a smaller at_most, or search greedily"
            )
        return cls(
            (torch.tensor(list(itertools.combinations(range(f), k))) for k in range(1, at_most + 1)), environments
        )

    def __len__(self) -> int:
        return sum(map(len, self.columns))

    def subset(self, index: int) -> tuple[int, ...]:
        """The features of one."""
        group, place = self._place(index)
        return tuple(self.columns[group][place].tolist())

    def predictor(self, index: int) -> Predictor:
        """One as a representation of rows that select features."""
        group, place = self._place(index)
        eye = torch.eye(self.fitted_on.features, dtype=self.fitted_on.xx.dtype)
        return Predictor(eye[self.columns[group][place]], self.weights[group][place])

    def _place(self, index: int) -> tuple[int, int]:
        for group, columns in enumerate(self.columns):
            if index < len(columns):
                return group, index
            index -= len(columns)
        raise IndexError(f"the class has {len(self)} predictors")

    @property
    def coefficients(self) -> Tensor:
        """Of all features ``[H, d - 1]``."""
        found = [
            w.new_zeros(len(w), self.fitted_on.features).scatter(1, columns, w)
            for columns, w in zip(self.columns, self.weights, strict=True)
        ]
        return torch.cat(found)

    def kept(self, which: Tensor) -> SubsetClass:
        """Those where `which` ``[H]`` is True, with the weights they have."""
        made = SubsetClass((), self.fitted_on)
        parts = which.split([len(group) for group in self.columns])
        pairs = [(c[m], w[m]) for c, w, m in zip(self.columns, self.weights, parts, strict=True) if bool(m.any())]
        made.columns, made.weights = tuple(c for c, _ in pairs), tuple(w for _, w in pairs)
        return made

    def excess_risk(self, environments: Environments) -> Tensor:
        """`excess_risk` of each ``[H, n]``."""
        _check_features(self, environments)
        found: list[Tensor] = [environments.xx.new_zeros(0, len(environments))]
        for columns, w in zip(self.columns, self.weights, strict=True):
            A, c = _blocks(environments, columns)
            g = (A @ w[:, :, None])[..., 0] - c
            found.append((g * solved(A, g)).sum(-1).mT)
        return torch.cat(found)

    def residual_risk(self, environments: Environments) -> Tensor:
        """What the best predictor on each subset leaves, R_e(w_e) ``[H, n]``."""
        _check_features(self, environments)
        found: list[Tensor] = [environments.xx.new_zeros(0, len(environments))]
        for columns in self.columns:
            A, c = _blocks(environments, columns)
            found.append(environments.yy - (c * solved(A, c)).sum(-1).mT)
        return torch.cat(found)

    def gradient_norm(self, environments: Environments) -> Tensor:
        """Norm of `half_gradient` of each ``[H, n]``."""
        _check_features(self, environments)
        found: list[Tensor] = [environments.xx.new_zeros(0, len(environments))]
        for columns, w in zip(self.columns, self.weights, strict=True):
            A, c = _blocks(environments, columns)
            found.append(((A @ w[:, :, None])[..., 0] - c).norm(dim=-1).mT)
        return torch.cat(found)

    @property
    def sizes(self) -> Tensor:
        """Features of each ``[H]``."""
        return torch.cat([torch.full((len(c),), c.shape[1]) for c in self.columns])


def _check_features(predictors: SubsetClass, environments: Environments) -> None:
    own = predictors.fitted_on
    if (own.features, own.xx.dtype) != (environments.features, environments.xx.dtype):
        raise ShapeError(
            f"predictors are for {own.features} features in {own.xx.dtype}, environments have {environments.features} in "
            f"{environments.xx.dtype}; fit them on environments with the same variables and dtype"
        )


def _blocks(environments: Environments, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances of subsets ``[n, m, k, k]`` and with the target ``[n, m, k]``."""
    return environments.xx[:, columns[:, :, None], columns[:, None, :]], environments.xy[:, columns]


def within(
    predictors: SubsetClass,
    environments: Environments,
    eps: float,
    *,
    predicate: Predicate = "risk",
    level: float = 0.05,
    side: Literal["low", "high"] = "high",
) -> Tensor:
    """Whether each predictor is eps-invariant in each environment, ``[H, n]``: "risk" asks excess_risk <= eps, "gradient"
    the norm of half_gradient.

    What rounding leaves of a predictor that is exactly invariant counts as zero. In sampled environments one end of
    `excess_interval`, each right with chance ``1 - level``, takes the place of the excess risk: with "high", what is within is
    so in the population; with "low", what is not within is not.

    Raises:
        ErlangenError: eps is negative, or the gradient of samples is asked for.
        UnknownNameError: `predicate` is not known.
    """
    if not eps >= 0:
        raise ErlangenError(f"eps = {eps}; give a number that is not negative")
    if predicate not in get_args(Predicate):
        raise UnknownNameError(f"predicate = {predicate!r}; there are {', '.join(get_args(Predicate))}")
    tiny = torch.finfo(environments.xx.dtype).eps
    if predicate == "gradient":
        if environments.samples is not None:
            raise ErlangenError('predicate = "gradient" has no interval for samples; use "risk"')
        scale = environments.xy.norm(dim=-1)
        return predictors.gradient_norm(environments) <= eps + tiny**0.75 * scale
    excess = predictors.excess_risk(environments)
    if environments.samples is not None:
        residual, p = predictors.residual_risk(environments), predictors.sizes[:, None]
        low, high = excess_interval(excess, residual, environments.samples, p, level)
        excess = high if side == "high" else low
    # The excess is quadratic in the error of a coefficient, so that rounding leaves far less than eps of it.
    return excess <= eps + tiny**1.125 * environments.yy


class Certificate(NamedTuple):
    """What `certify` promises: with probability 1 - delta, no accepted predictor violates more than a share tau of the family.

    Attributes:
        accepted: which predictors are eps-invariant in all environments, ``[H]``.
        tau: the share.
        delta: the chance that the promise is wrong.
    """

    accepted: Tensor
    tau: float
    delta: float


def certify(
    predictors: SubsetClass,
    environments: Environments,
    eps: float,
    *,
    delta: float = 0.05,
    predicate: Predicate = "risk",
) -> Certificate:
    """Predictors of a finite class that are eps-invariant in all sampled interventions, and on what share of the unseen ones.

    In sampled environments half of delta pays for the covariances, split among all predictors and environments.

    Raises:
        ErlangenError: the class was fitted on these very environments, so that it is not finite, or delta is not in (0, 1).
    """
    check_open("delta", delta)
    own = {matrix.numpy().tobytes() for matrix in predictors.fitted_on.covariance}
    if any(matrix.numpy().tobytes() in own for matrix in environments.covariance):
        raise ErlangenError(
            "predictors were fitted on environments that are to certify them, which makes the finite bound void; fit them on "
            "the observational environment or on others, or use samples_vc"
        )
    n, count = len(environments), len(predictors)
    sampled = environments.samples is not None
    share = delta / 2 if sampled else delta
    good = within(predictors, environments, eps, predicate=predicate, level=delta / (2 * n * count))
    return Certificate(good.all(1), tau_finite(count, n, share), delta)
