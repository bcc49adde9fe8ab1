"""Which symmetries data have: held-out errors of a regressor on samples as they are, and on moved ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import DataError, OrbitError, RepeatedRowsWarning, SymmetryError, is_whole
from erlangen.measure.checks import check_action, check_data, float_dtype, take
from erlangen.measure.intervals import RESAMPLES, cluster_interval
from erlangen.symmetry import Symmetry

FEWEST = 20
"""Fewest independent samples, or groups of samples, that can be split."""
LARGEST = 3000
"""Most samples that are used: the kernel matrix has as many rows, less a quarter."""
LEVEL = 0.025
"""How often a symmetry that holds may count as contradicted."""
FOLDS = 4
LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Length scales that are tried, in units of the median distance."""
RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""Ridges that are tried."""
COPY = 0.01
"""A row is a near copy if its nearest neighbour is closer than this share of the distance to its tenth."""
COPIES = 0.2
"""Share of near copies that is worth a warning: among independent normal rows there are 0.08 in R^1, 0.001 in R^2."""


@dataclass(frozen=True)
class DataFinding:
    """How data fare under one symmetry; errors are held-out squared errors over the targets' variance.

    Attributes:
        symmetry: the candidate.
        cost: error on moved samples minus error on samples as they are; zero on average where the symmetry holds.
        interval: 95 % bootstrap interval of the cost over samples.
        error: on moved samples ``(g x, g y)``.
        baseline: on samples as they are: where this is near 1, nothing was learned and little can be seen.
        holds: whether the data do not contradict the symmetry: the interval begins at or below the tolerance, or the cost is
            no larger than chance makes it (see `weigh`).
    """

    symmetry: Symmetry
    cost: float
    interval: tuple[float, float]
    error: float
    baseline: float
    holds: bool


def weigh(
    x: Tree,
    y: Tree,
    candidates: Sequence[Symmetry],
    *,
    groups: Tensor | Sequence[int] | None = None,
    moves: int = 8,
    tol: float = 0.0,
    seed: int = 0,
) -> list[DataFinding]:
    """The data form of `erlangen.discover`: candidates by their cost, the smallest first.

    If data have a symmetry, ``(g x, g y)`` is as likely as ``(x, y)``, so a regressor that never saw either is on average as
    wrong on the one as on the other, however good it is. Three regressors, fitted to the first quarter, half and three quarters
    of the samples, answer for the next quarter, as it is and moved by random elements; the cost is the difference. (Were
    quarters to answer for one another, two samples that happen to be close would count twice.) The regressor is
    kernel ridge regression with a Gaussian kernel on the flattened inputs; length scale and ridge are chosen within the
    samples that it is fitted to, for all candidates alike.

    Whether a symmetry counts as contradicted is a permutation test. If it holds, the errors of a sample, as it is and moved,
    are exchangeable, so the mean error of samples as they are is compared with that of random picks among each sample's
    errors. Unlike the interval this is exact, however heavy the tails of the errors are. For a range of a group ("SO(2) within
    15 degrees") the sample and the first of its moves are compared: more of them are not exchangeable with it.

    All of this assumes that rows are independent draws. Repeated measurements of one thing, frames of one recording or
    augmented copies are not: where every row stands four times, a symmetry that holds is mostly rejected. With
    `groups`, rows of one group stay in one quarter, are moved by one element, and are picked and resampled together, so
    groups need to be independent and rows need not. Without them, many near copies raise a `RepeatedRowsWarning`.

    What it cannot see: a breaking that is small beside the spread of the regressor's errors, so "holds" says "not
    contradicted"; and whether the function or the inputs break a symmetry: where inputs are not spread symmetrically (all
    digits upright), moved ones are strange to the regressor and the symmetry counts as broken. The interval covers the
    choice of samples; of many candidates that hold, at most one in forty is rejected by chance. No inputs are spread evenly
    under a group that is not compact (translations, scalings), so there is no such comparison for it.

    Raises:
        DataError: fewer than 20 samples or groups, uneven ones, or targets that are constant or of another kind.
        OrbitError: moves is no positive integer.
        SymmetryError: a group is not compact.
    """
    samples = check_data(x, y)
    if samples < FEWEST:
        raise DataError(f"data has {samples} samples; give at least {FEWEST}, so that some can be held out")
    if not isinstance(y, Tensor) or (not y.is_floating_point() and y.ndim > 1):
        raise DataError("y must be one floating tensor [N, ...], or class labels [N]")
    if not is_whole(moves, 1):
        raise OrbitError(f"elements = {moves!r}: give a positive number of elements per sample")
    for symmetry in candidates:
        if not symmetry.group.is_compact:
            raise SymmetryError(
                f"{symmetry!r}: {symmetry.group.name} is not compact, so no data are spread evenly under it and moved samples "
                "are always strange; fit a model and ask er.discover(model, candidates, x)"
            )
        check_action(symmetry.input, take(x, slice(0, 1)))
        check_action(symmetry.output, take(y, slice(0, 1)), "y, as x of the output action: ")
    used, cluster = _chosen(_clusters(groups, samples), seed)
    x, y = tree_map(lambda leaf: leaf[used.to(leaf.device)], x), y[used.to(y.device)]
    features, targets = _features(x), _targets(y, y)
    variance = float((targets - targets.mean(0)).square().sum(1).mean())
    if variance == 0:
        raise DataError("y is constant: nothing can be learned from it")
    _warn_of_copies(torch.cat([part / part.std().clamp_min(1e-300) for part in (features, targets)], 1), cluster)
    starts = torch.searchsorted(cluster, torch.arange(int(cluster[-1]) + 1))  # first row of every group
    firsts = [int(part[0]) for part in torch.arange(len(starts)).tensor_split(FOLDS)[1:]]  # first group of every fold
    folds = torch.arange(len(used)).tensor_split(starts[firsts])[1:]
    models = [
        _fitted(features[: fold[0]], targets[: fold[0]], int(starts[first // FOLDS]))
        for fold, first in zip(folds, firsts, strict=True)
    ]
    held = cluster[folds[0][0] :] - cluster[folds[0][0]]
    plain = torch.cat([(m(features[i]) - targets[i]).square().sum(1) for m, i in zip(models, folds, strict=True)])
    findings: list[DataFinding] = []
    for symmetry in candidates:
        errors = [plain]
        generator = Generator().manual_seed(seed)
        for _ in range(moves):
            g = symmetry.domain.sample(len(starts), generator=generator, dtype=float_dtype(x))[cluster]
            z = _features(symmetry.input.act(g.to(tree_leaves(x)[0].device), x))
            t = _targets(symmetry.output.act(g.to(y.device), y), y)
            parts = [(m(z[i]) - t[i]).square().sum(1) for m, i in zip(models, folds, strict=True)]
            errors.append(torch.cat(parts))
        moved = torch.stack(errors[1:]).mean(0)
        interval = cluster_interval((moved - plain) / variance, held, seed=seed)
        error, baseline = (float(part.mean()) / variance for part in (moved, plain))
        # Several moves of one sample are exchangeable with it for draws from a group; from a range, one of them is.
        rows = errors if symmetry.within is None else errors[:2]
        holds = interval[0] <= tol or not _contradicted(torch.stack(rows), held, seed)
        findings.append(DataFinding(symmetry, error - baseline, interval, error, baseline, holds))
    return sorted(findings, key=lambda finding: finding.cost)


def _clusters(groups: Tensor | Sequence[int] | None, samples: int) -> Tensor:
    """Index of the group of every sample ``[N]``, on the CPU; each its own without groups."""
    if groups is None:
        return torch.arange(samples)
    given = torch.as_tensor(groups).cpu()
    if given.shape != (samples,) or given.is_floating_point():
        raise DataError(
            f"groups is a tensor {tuple(given.shape)} of {given.dtype}; give one integer for each of the {samples} samples"
        )
    cluster = given.unique(return_inverse=True)[1]
    if int(cluster.max()) + 1 < FEWEST:
        raise DataError(
            f"groups names {int(cluster.max()) + 1} groups; give at least {FEWEST}, so that some can be held out"
        )
    return cluster


def _chosen(cluster: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows in random order, at most `LARGEST`, those of one group side by side; and their groups, numbered from 0."""
    count = int(cluster.max()) + 1
    rank = torch.randperm(count, generator=Generator().manual_seed(seed)).argsort()[cluster]
    order = rank.argsort(stable=True)
    rank = rank[order]
    within = torch.arange(len(order)) - torch.searchsorted(rank, rank)
    order = order[within < LARGEST // FEWEST]  # so that no group takes the place of all others
    rank = rank[within < LARGEST // FEWEST]
    if len(order) > LARGEST:
        order, rank = order[rank < rank[LARGEST]], rank[rank < rank[LARGEST]]
    return order, rank.unique_consecutive(return_inverse=True)[1]


def _warn_of_copies(rows: Tensor, cluster: Tensor) -> None:
    """Warn where many rows have a near copy in another group."""
    distance = torch.cdist(rows, rows).masked_fill_(cluster[:, None] == cluster, torch.inf)
    nearest = distance.topk(min(10, len(rows) - 1), largest=False).values
    share = float(((nearest[:, 0] <= COPY * nearest[:, -1]) & torch.isfinite(nearest[:, -1])).double().mean())
    if share > COPIES:
        warnings.warn(
            f"{share:.0%} of the rows have a near copy among the others. er.discover takes rows as independent draws: if some "
            "come from one source (repeated measurements, frames of a recording, augmented copies), say so by groups=, one "
            "integer per row; otherwise symmetries that hold are rejected",
            RepeatedRowsWarning,
            stacklevel=4,
        )


class _Regressor:
    """Kernel ridge regression from ``[N, d]`` to ``[N, k]``."""

    def __init__(self, x: Tensor, y: Tensor, length: float, ridge: float) -> None:
        self.x, self.length, self.mean = x, length, y.mean(0)
        gram = self._kernel(x)
        gram.diagonal().add_(ridge)
        self.weights = torch.cholesky_solve(y - self.mean, torch.linalg.cholesky(gram))

    def __call__(self, x: Tensor) -> Tensor:
        """Predictions ``[M, k]`` at ``[M, d]``."""
        return self.mean + self._kernel(x) @ self.weights

    def _kernel(self, x: Tensor) -> Tensor:
        return torch.exp(-0.5 * torch.cdist(x, self.x).square() / self.length**2)


def _fitted(x: Tensor, y: Tensor, held: int) -> _Regressor:
    """A regressor with the length scale and ridge that are best on the first rows, fitted to at most 500 of the others."""
    a, b = (part[held : held + 500] for part in (x, y))
    unit = float(torch.pdist(a).median().clamp_min(torch.finfo(torch.float64).tiny))
    settings = [(unit * length, ridge) for length in LENGTHS for ridge in RIDGES]
    best = min(settings, key=lambda s: float((_Regressor(a, b, *s)(x[:held]) - y[:held]).square().mean()))
    return _Regressor(x, y, *best)


def _contradicted(errors: Tensor, cluster: Tensor, seed: int) -> bool:
    """Whether errors as they are, the first row of ``[1 + moves, M]``, are smaller than random picks from the groups."""
    errors = errors.new_zeros(len(errors), int(cluster[-1]) + 1).index_add(1, cluster, errors)
    generator = Generator().manual_seed(seed)
    picks = torch.randint(len(errors), (RESAMPLES, errors.shape[1]), generator=generator)
    picked = errors.gather(0, picks).mean(1)
    return float((picked <= errors[0].mean()).double().mean()) < LEVEL


def _features(x: Tree) -> Tensor:
    """All numbers of a sample in one row, float64 on the CPU."""
    return torch.cat([leaf.detach().to("cpu", torch.float64).flatten(1) for leaf in tree_leaves(x)], 1)


def _targets(y: Tensor, like: Tensor) -> Tensor:
    """Targets as float64 rows on the CPU; labels as indicators of the classes in `like`."""
    y = y.detach().cpu()
    if not y.is_floating_point():
        return F.one_hot(y.long() - int(like.min()), int(like.max() - like.min()) + 1).double()
    return y.double().reshape(len(y), -1)
