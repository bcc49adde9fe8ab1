"""How far a found graph is from the true one, and how much the variances give away."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.causal.graphs import check_graph
from erlangen.errors import ErlangenError, ShapeError, check_finite


class StructureScores(NamedTuple):
    """Result of `structure_scores`.

    Attributes:
        shd: structural Hamming distance, extra + missing + reversed edges, each one.
        tpr: share of true edges that are found, with their direction.
        fdr: share of found edges that are not true; 0 where nothing is found.
        fpr: found edges that are not true, over all pairs that are no true edge.
        extra, missing, reversed: what makes up `shd`.
    """

    shd: int
    tpr: float
    fdr: float
    fpr: float
    extra: int
    missing: int
    reversed: int


def structure_scores(found: Tensor, true: Tensor) -> StructureScores:
    """Compare directed graphs ``[d, d]``; entries that are not zero are edges.

    >>> true = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    >>> structure_scores(true.mT, true).shd, structure_scores(torch.zeros(3, 3), true).missing
    (2, 2)

    An edge that is found in the wrong direction counts once in `shd` and is not true. False positives are counted over the
    ``d (d - 1) / 2`` pairs less the true edges (Zheng et al. 2018). Renaming the nodes of both changes nothing.
    """
    check_graph(found, "found")
    check_graph(true, "true")
    if found.shape != true.shape:
        raise ShapeError(f"found has {len(found)} nodes and true {len(true)}; give the same ones in the same order")
    f, t = found != 0, true != 0
    turned = f & ~t & t.mT & ~f.mT
    extra = f & ~t & ~turned
    missing = t & ~f & ~turned.mT
    # Of a pair that is found in both directions and true in one, the second one is extra.
    wrong, right = int((f & ~t).sum()), int((f & t).sum())
    pairs = len(f) * (len(f) - 1) // 2 - int(t.sum())
    return StructureScores(
        shd=int(extra.sum() + missing.sum() + turned.sum()),
        tpr=right / max(1, int(t.sum())),
        fdr=wrong / max(1, int(f.sum())),
        fpr=wrong / max(1, pairs),
        extra=int(extra.sum()),
        missing=int(missing.sum()),
        reversed=int(turned.sum()),
    )


def varsortability(X: Tensor, W: Tensor) -> float:
    """Share of directed paths along which the variance of samples ``X [N, d]`` grows; ties count half.

    At 1 the order of variances is a topological order, and a method may find the graph by the scale of the data alone. Data that
    were standardised say 1/2.

    Source: Reisach, Seiler and Weichwald, Beware of the simulated DAG! (2021).

    Raises:
        ErlangenError: the graph has no edge.
    """
    check_graph(W)
    check_finite(X, "X")
    if X.ndim != 2 or X.shape[1] != len(W):
        raise ShapeError(f"X has shape {tuple(X.shape)}; give [N, {len(W)}], one column for each node of W")
    edges = (W != 0).double()
    if not bool(edges.any()):
        raise ErlangenError("W has no edge, so there is nothing to sort")
    variance = X.double().var(0)
    grows = variance[None, :] / variance[:, None]
    tie = 100 * torch.finfo(X.dtype if X.is_floating_point() else torch.float64).eps
    score = torch.where((grows - 1).abs() <= tie, 0.5, (grows > 1).double())
    total = paths = 0.0
    walk = edges
    for _ in range(len(W) - 1):  # all pairs that are joined by a path of this length
        joined = walk > 0
        total += float(score[joined].sum())
        paths += int(joined.sum())
        walk = walk @ edges
    return total / paths
