"""Single numbers of a whole test: accuracy in batches, relative change of an answer, rank correlation, R^2."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError
from erlangen.measure.metrics import labels_of

Over = Literal["samples", "batch", "entries"]


@torch.no_grad()
def accuracy(model: nn.Module, x: Tree, y: Tensor, *, batch: int = 100) -> float:
    """Percent of right answers of a classifier, a batch at a time; the model is called in the mode in which it is.

    >>> accuracy(torch.nn.Identity(), torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    50.0

    Args:
        model: gives scores ``[B, C]``, or one logit ``[B, 1]``.
        x: inputs, a tensor ``[N, ...]`` or a tree of such.
        y: labels, integers ``[N]``.
        batch: samples at a time.

    Raises:
        ShapeError: the answers to x are not as many as the labels.
        DataError: there are no samples.
    """
    if batch < 1:
        raise ErlangenError(f"batch = {batch}: give at least one sample at a time")
    count = len(tree_leaves(x)[0])
    if count == 0:
        raise DataError("x has no samples, so there is no share of right answers")
    parts = [tree_map(lambda t, k=k: t[k : k + batch], x) for k in range(0, count, batch)]
    found = torch.cat([labels_of(model(part)) for part in parts])
    if found.shape != y.shape:
        raise ShapeError(f"the model gives answers of shape {tuple(found.shape)}, but y has {tuple(y.shape)}; pass [N]")
    return 100 * float((found == y).double().mean())


def relative_change(a: Tensor, b: Tensor, *, over: Over = "samples") -> float:
    """How far a is from b, relative to b, in float64: the largest ``|a - b| / |b|`` of a batch.

    Where b is zero the change is absolute; two empty batches do not differ.

    >>> b = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    >>> relative_change(b + torch.tensor([[0.0, 0.0], [0.0, 0.5]]), b)
    0.5

    Args:
        a, b: ``[N, ...]``, of equal shape.
        over: what a norm is taken of: "samples", each sample by itself, of which the worst counts; "batch", all of it; or
            "entries", the largest entry instead of a norm.

    Raises:
        ShapeError: shapes differ.
        UnknownNameError: `over` is not known.
    """
    if a.shape != b.shape:
        raise ShapeError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; pass two of one shape")
    if over not in get_args(Over):
        raise UnknownNameError(f"over = {over!r}; known are {', '.join(get_args(Over))}")
    if b.numel() == 0:
        return 0.0
    a, b = a.detach().double(), b.detach().double()
    rows = [x.reshape(len(b) if over == "samples" and b.ndim else 1, -1) for x in (a - b, b)]
    change, size = (x.abs().amax(1) if over == "entries" else x.norm(dim=1) for x in rows)
    return float((change / torch.where(size > 0, size, 1.0)).max())


def spearman(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two vectors of equal length, ties by mean ranks.

    >>> round(spearman(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 9.0])), 6)
    1.0

    Raises:
        DataError: fewer than three values, different lengths, or a vector without variation, which has no ranks.
    """
    from scipy import stats

    if a.shape != b.shape or a.ndim != 1 or len(a) < 3:
        raise DataError(f"vectors of shape {tuple(a.shape)} and {tuple(b.shape)}; give two of one length, at least 3")
    if bool((a == a[0]).all()) or bool((b == b[0]).all()):
        raise DataError("all values are equal, so there are no ranks to compare; take more samples or a finer metric")
    ranks = torch.stack([torch.from_numpy(stats.rankdata(v.numpy())).double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def distance_correlation(a: Tensor, b: Tensor) -> float:
    """Distance correlation of two samples ``[N, ...]``, from 0 for what is independent to 1 (Szekely, Rizzo and Bakirov 2007).

    >>> x = torch.linspace(-1, 1, 50)
    >>> round(distance_correlation(x, 3 - 2 * x), 6), distance_correlation(x, x.square()) > 0.3
    (1.0, True)

    The V-statistic, with Euclidean distances of flattened samples; it does not change when either sample is turned, moved or
    scaled.

    Raises:
        DataError: fewer than two samples, different numbers, or a sample without variation.
    """
    if len(a) != len(b) or len(a) < 2:
        raise DataError(f"{len(a)} and {len(b)} samples; give as many of each, at least 2")
    centred: list[Tensor] = []
    for x in (a, b):
        flat = x.detach().double().reshape(len(x), -1)
        apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        centred.append(apart - apart.mean(0) - apart.mean(1, keepdim=True) + apart.mean())
    A, B = centred
    sizes = (A.square().mean() * B.square().mean()).sqrt()
    if not float(sizes) > 0:
        raise DataError("a sample does not vary, or is not finite; its distance correlation is not defined")
    return float(((A * B).mean().clamp(min=0) / sizes).sqrt())


def r_squared(found: Tensor, y: Tensor) -> float:
    """Share of the variation that is explained, ``1 - sum (y - found)^2 / sum (y - mean)^2``, in float64.

    The mean is one number, over all rows and components. So an answer that is the mean of each component scores above zero
    where these means differ, as those of unit quaternions do: report that trivial value beside the score, or score the
    components one by one.

    >>> y = torch.tensor([[0.0, 4.0], [2.0, 6.0]])
    >>> r_squared(y, y), r_squared(y.mean(0).expand_as(y), y)
    (1.0, 0.8)

    Args:
        found, y: answers and targets, ``[N, ...]`` of one shape.

    Raises:
        ShapeError: of different shape.
        DataError: no rows, or targets without variation.
    """
    if found.shape != y.shape:
        raise ShapeError(f"found has shape {tuple(found.shape)} and y {tuple(y.shape)}; pass two of one shape")
    found, y = found.detach().double(), y.detach().double()
    total = (y - y.mean()).square().sum() if y.numel() else y.sum()
    if not bool(total):
        raise DataError("y has no variation, so there is no share of it that could be explained")
    return float(1 - (y - found).square().sum() / total)
