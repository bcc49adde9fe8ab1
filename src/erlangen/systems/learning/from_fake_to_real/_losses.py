"""What is minimised within a stage: resampled groups, the worst group, and a last layer refitted on balanced groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, ShapeError, check_finite, check_integer
from erlangen.systems.learning.from_fake_to_real._groups import check_groups, contingency, group_accuracies

STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Values of C that deep feature reweighting chooses from."""


def resampled(groups: Tensor, *, count: int | None = None, generator: Generator | None = None) -> Tensor:
    """Indices drawn with replacement so that all groups that occur are as likely: int64 ``[count]``, by default N.

    Args:
        groups: int64 ``[N]``.
        count: of the draws.
        generator: of the draws.
    """
    if not len(groups):
        raise DataError("groups is empty; there is nothing to draw")
    _, inverse, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / counts[inverse].double()
    return torch.multinomial(weights, len(groups) if count is None else count, replacement=True, generator=generator)


class GroupDRO:
    """The loss of the worst groups (Sagawa et al. 2020): weights q on the simplex follow the losses of the groups.

    >>> dro = GroupDRO(2, eta=1.0)
    >>> round(float(dro(torch.tensor([0.0, 2.0, 2.0]), torch.tensor([0, 1, 1]))), 4), [round(q, 4) for q in dro.q.tolist()]
    (1.7616, [0.1192, 0.8808])

    Args:
        n_groups: of them.
        eta: step of the weights; 0 holds them equal.

    Attributes:
        q: the weights ``[n_groups]``.
    """

    def __init__(self, n_groups: int, eta: float = 0.01) -> None:
        check_integer("n_groups", n_groups, 1)
        if not eta >= 0:
            raise ErlangenError(f"eta = {eta}; give a step that is not negative")
        self.eta, self.q = eta, torch.full((n_groups,), 1 / n_groups)

    def __call__(self, losses: Tensor, groups: Tensor) -> Tensor:
        """The weighted loss of a batch ``[B]`` with groups ``[B]``; a group that is absent counts as loss 0.

        Raises:
            ShapeError: no loss for each group's index.
            DataError: a group outside of 0 to n_groups - 1.
        """
        if losses.shape != groups.shape or losses.ndim != 1:
            raise ShapeError(
                f"losses {tuple(losses.shape)} and groups {tuple(groups.shape)}; give one of each per sample"
            )
        if len(groups) and not 0 <= int(groups.min()) <= int(groups.max()) < len(self.q):
            raise DataError(f"groups holds {int(groups.max())}; there are {len(self.q)}, numbered from 0")
        sums = torch.zeros_like(self.q, dtype=losses.dtype, device=losses.device).index_add(0, groups, losses)
        means = sums / torch.bincount(groups, minlength=len(self.q)).clamp(min=1)
        q = self.q.to(means) * (self.eta * means.detach()).exp()
        self.q = q / q.sum()
        return (self.q * means).sum()


# --- the last layer --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Readout:
    """Scores of features ``[N, d]``: standardised by the training features, then linear.

    Attributes:
        mean, scale: of the training features ``[d]``.
        weight, bias: ``[K, d]`` and ``[K]``.
        strength: the C that was chosen.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    strength: float

    def __call__(self, features: Tensor) -> Tensor:
        """Scores ``[N, K]`` float64."""
        return (features.double() - self.mean) / self.scale @ self.weight.mT + self.bias


def reweight_last_layer(
    training: Tensor,
    features: Tensor,
    y: Tensor,
    b: Tensor,
    *,
    strengths: Sequence[float] = STRENGTHS,
    fits: int = 20,
    generator: Generator | None = None,
) -> Readout:
    """Deep feature reweighting (Kirichenko et al. 2023): a last layer from validation samples with balanced groups.

    The strength C of the penalty is the one whose fit on a balanced part of one half of the samples has the best worst group
    on the other half; halves hold half of each group. Then as many fits as asked for, on balanced parts of all
    samples, are averaged.

    Args:
        training: features ``[M, d]`` whose means and spreads standardise.
        features: of validation samples ``[N, d]``, which are training data here.
        y, b: their labels and nuisances, int64 ``[N]``.
        strengths: values of C.
        fits: how many are averaged.
        generator: of halves and balanced parts.

    Raises:
        DataError: a group with fewer than two samples.
        ShapeError, NotFiniteError, ErlangenError: features of different width or not finite, no strength, no fit.
    """
    if training.ndim != 2 or features.ndim != 2 or training.shape[1] != features.shape[1] or not len(training):
        raise ShapeError(
            f"training {tuple(training.shape)} and features {tuple(features.shape)}; give [M, d] and [N, d]"
        )
    if len(features) != len(y):
        raise ShapeError(f"features {tuple(features.shape)} and y {tuple(y.shape)}; give one label for each row")
    check_integer("fits", fits, 1)
    if not strengths or not all(c > 0 for c in strengths):
        raise ErlangenError(f"strengths = {strengths}; give values of C that are positive")
    for name, value in (("training", training), ("features", features)):
        check_finite(value, name)
    counts = contingency(y, b)
    check_groups(counts, "validation")
    if int(counts.min()) < 2:
        first = (counts < 2).nonzero()[0].tolist()
        raise DataError(f"validation: one sample of the group y = {first[0]}, b = {first[1]}; halves need two")
    mean, scale = training.double().mean(0), training.double().std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    z, groups = (features.double() - mean) / scale, y * counts.shape[1] + b
    first, second = _halves(groups, generator)
    part = first[balanced_part(groups[first], generator)]
    strength, best = strengths[0], -1.0
    for candidate in strengths:
        weight, bias = _one_against_rest(z[part], y[part], candidate)
        right = (z[second] @ weight.mT + bias).argmax(1) == y[second]
        worst = float(group_accuracies(right, y[second], b[second]).min())
        if worst > best:
            strength, best = candidate, worst
    found = [_one_against_rest(z[p], y[p], strength) for p in (balanced_part(groups, generator) for _ in range(fits))]
    weight, bias = (torch.stack(values).mean(0) for values in zip(*found, strict=True))
    return Readout(mean, scale, weight, bias, strength)


def balanced_part(groups: Tensor, generator: Generator | None = None) -> Tensor:
    """Indices of as many random samples of every group as the smallest has, in the order of the samples."""
    values, counts = torch.unique(groups, return_counts=True)
    n = int(counts.min())
    parts: list[Tensor] = []
    for value in values.tolist():
        rows = (groups == value).nonzero()[:, 0]
        parts.append(rows[torch.randperm(len(rows), generator=generator)[:n]])
    return torch.cat(parts).sort().values


def _halves(groups: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Random halves of every group; of an odd one the first half has one more."""
    first: list[Tensor] = []
    second: list[Tensor] = []
    for value in torch.unique(groups).tolist():
        rows = (groups == value).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        first.append(rows[: (len(rows) + 1) // 2])
        second.append(rows[(len(rows) + 1) // 2 :])
    return torch.cat(first), torch.cat(second)


def _one_against_rest(z: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weights ``[K, d]`` and biases ``[K]`` of one problem for each class; two classes share one."""
    classes = int(y.max()) + 1
    if classes == 2:
        w = sparse_logistic(z, y == 1, strength)
        rows = torch.stack([-w, w]) / 2  # the difference of the scores is that of liblinear
    else:
        rows = torch.stack([sparse_logistic(z, y == k, strength) for k in range(classes)])
    return rows[:, :-1], rows[:, -1]


def sparse_logistic(z: Tensor, positive: Tensor, strength: float) -> Tensor:
    """Logistic regression with an absolute penalty, as liblinear states it: weights ``[d]`` and then the bias, float64.

    Minimises ``|w|_1 + C sum_i log(1 + exp(-s_i w . (z_i, 1)))`` with signs s; the bias is penalised with the rest.

    Args:
        z: features ``[N, d]``.
        positive: bool ``[N]``, where the sign is 1.
        strength: C.
    """
    from scipy.optimize import minimize

    rows = np.c_[z.double().numpy(), np.ones(len(z))]
    rows *= np.where(positive.numpy(), 1.0, -1.0)[:, None]
    d = rows.shape[1]

    def cost(parts: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        margin = rows @ (parts[:d] - parts[d:])
        slope = -strength * rows.T @ (1 / (1 + np.exp(np.clip(margin, -500, 500))))
        return float(parts.sum() + strength * np.logaddexp(0, -margin).sum()), np.r_[slope + 1, 1 - slope]

    # Positive and negative parts make the penalty smooth: the sum of both, over a quadrant.
    start, limits = np.zeros(2 * d), [(0.0, None)] * (2 * d)
    options = {"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-13, "gtol": 1e-6, "maxcor": 30}
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=limits, options=options)
    return torch.from_numpy(found.x[:d] - found.x[d:])
