"""Losses that learn from two views of a sample: contrast, a moving target, and variance with covariance."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_floating

Reduction = Literal["mean", "sum", "none"]


def info_nce(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float = 0.1,
    known: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of finding for each row of x its partner among the rows of y, by cosine.

    >>> e = torch.eye(3)
    >>> round(float(info_nce(e, e, temperature=1.0)), 4)  # log(1 + 2 / e)
    0.5514

    Args:
        x, y: ``[..., N, d]``; row i of both is one sample (or one point), all other rows of y are negatives.
        temperature: what cosines are divided by.
        known: bool ``[..., N]``; other rows are neither asked for nor negatives.
        reduction: "mean" over the known rows (zero where there are none), "sum", or "none" (``[..., N]``, zero for unknown rows).

    Returns:
        A scalar, or ``[..., N]``. In one direction; the mean with ``info_nce(y, x)`` is symmetric.

    Raises:
        ShapeError: x and y are not of one shape ``[..., N, d]``, or `known` is not ``[..., N]``.
        ErlangenError: a temperature that is not positive.

    Source: van den Oord, Li and Vinyals, arXiv 1807.03748; on the points of two views Xie et al., arXiv 2007.10985.
    """
    _check_pair(x, y, 2)
    _check_temperature(temperature)
    rows = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if known is None else known
    if rows.shape != x.shape[:-1]:
        raise ShapeError(f"known has shape {tuple(rows.shape)}; give [..., N] = {tuple(x.shape[:-1])}")
    x, y = (normalize(v.where(rows[..., None], 0.0), dim=-1) for v in (x, y))  # padding may hold anything
    scores = x @ y.mT / temperature
    hidden = ~rows[..., None, :] & ~torch.eye(x.shape[-2], dtype=torch.bool, device=x.device)
    each = scores.masked_fill(hidden, -math.inf).logsumexp(-1) - scores.diagonal(dim1=-2, dim2=-1)
    return _reduced(each.where(rows, 0.0), rows, reduction)


def nt_xent(x: Tensor, y: Tensor, *, temperature: float = 0.1) -> Tensor:
    """The loss of SimCLR: each of the 2N views finds its partner among all 2N - 1 others, by cosine.

    >>> e = torch.eye(2)
    >>> round(float(nt_xent(e, e, temperature=1.0)), 4)  # log(1 + 2 / e)
    0.5514

    Args:
        x, y: ``[N, d]``, the two views of N samples.
        temperature: what cosines are divided by.

    Returns:
        A scalar, the mean over the views.

    Raises:
        ShapeError: x and y are not of one shape ``[N, d]``.
        ErlangenError: a temperature that is not positive.

    Source: Chen et al., arXiv 2002.05709, equation 1.
    """
    _check_pair(x, y, 2, most=2)
    _check_temperature(temperature)
    views = normalize(torch.cat([x, y]), dim=-1)
    scores = (views @ views.mT / temperature).masked_fill(
        torch.eye(len(views), dtype=torch.bool, device=x.device), -math.inf
    )
    return cross_entropy(scores, torch.arange(len(views), device=x.device).roll(len(x)))


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, ``2 - 2 cos``, averaged; no gradient reaches the target.

    >>> float(byol_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
    2.0

    Args:
        prediction, target: ``[..., d]`` of one shape; the target comes from a `MovingTarget`.

    Raises:
        ShapeError: of different shape.

    Source: Grill et al., arXiv 2006.07733, equation 2.
    """
    _check_pair(prediction, target, 1)
    return (2 - 2 * (normalize(prediction, dim=-1) * normalize(target.detach(), dim=-1)).sum(-1)).mean()


def variance_loss(x: Tensor, *, least: float = 1.0, eps: float = 1e-4) -> Tensor:
    """How far standard deviations are below `least`: the mean over dimensions of ``relu(least - sqrt(var + eps))``.

    >>> float(variance_loss(torch.tensor([[-1.0, 0.5], [1.0, 0.5]]), eps=0.0625))  # the second is constant
    0.375

    Args:
        x: ``[N, d]`` with N >= 2; variances are unbiased (divided by N - 1).
        least: the standard deviation that is asked for.
        eps: keeps the gradient finite where a dimension is constant.

    Raises:
        ShapeError: not ``[N, d]``, or a single row.

    Source: Bardes, Ponce and LeCun, "VICReg", arXiv 2105.04906, equation 1.
    """
    _check_rows(x)
    return (least - (x.var(0) + eps).sqrt()).relu().mean()


def covariance_loss(x: Tensor) -> Tensor:
    """Sum of the squared covariances of different dimensions, divided by the number of dimensions.

    >>> float(covariance_loss(torch.tensor([[-1.0, -1.0], [1.0, 1.0]])))  # covariance 2, twice, over 2
    4.0

    Args:
        x: ``[N, d]`` with N >= 2; covariances are unbiased (divided by N - 1).

    Raises:
        ShapeError: not ``[N, d]``, or a single row.

    Source: Bardes, Ponce and LeCun, "VICReg", arXiv 2105.04906, equations 3 and 4.
    """
    _check_rows(x)
    covariance = torch.atleast_2d(x.mT.cov())
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]


def vicreg_loss(
    x: Tensor, y: Tensor, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """The loss of VICReg on two views: mean squared difference, variance (averaged over the views), covariance (summed).

    >>> x = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [0.0, -2.0]])
    >>> bool(vicreg_loss(x, x, variance=0.0, covariance=0.0) == 0)
    True

    Args:
        x, y: ``[N, d]`` with N >= 2, the two views.
        invariance, variance, covariance: weights of the terms.

    Raises:
        ShapeError: x and y are not of one shape ``[N, d]``, or have a single row.

    Source: Bardes, Ponce and LeCun, arXiv 2105.04906, equation 6; the average over the views in place of their sum is that of
    the authors' code.
    """
    _check_pair(x, y, 2, most=2)
    spread = (variance_loss(x) + variance_loss(y)) / 2
    return (
        invariance * (x - y).square().mean()
        + variance * spread
        + covariance * (covariance_loss(x) + covariance_loss(y))
    )


class MovingTarget(nn.Module):
    """A copy of a network that follows it slowly, ``target <- decay target + (1 - decay) online``; it has no gradient.

    >>> online = torch.nn.Linear(1, 1, bias=False)
    >>> target = MovingTarget(online, decay=0.9)
    >>> _ = online.weight.data.add_(1.0)
    >>> before = target.copy.weight.clone()
    >>> target.update(online)
    >>> torch.allclose(target.copy.weight - before, torch.tensor(0.1))
    True

    Floating buffers move like the parameters, others (counters) are copied. Call ``update`` after each step of the optimizer.

    Args:
        online: the network that is trained.
        decay: in [0, 1]; `update` takes another one, as that of `byol_decay`.

    Raises:
        ErlangenError: a decay outside of [0, 1].

    Source: Grill et al., arXiv 2006.07733, equation 1.
    """

    def __init__(self, online: nn.Module, decay: float = 0.996) -> None:
        super().__init__()
        self.decay = _checked_decay(decay)
        self.copy = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def update(self, online: nn.Module, decay: float | None = None) -> None:
        """Move towards `online`, which must have the parameters and buffers of the one that was copied."""
        weight = 1 - (self.decay if decay is None else _checked_decay(decay))
        ours, theirs = self.copy.state_dict(keep_vars=True), online.state_dict(keep_vars=True)
        if ours.keys() != theirs.keys():
            raise ErlangenError(f"online has other entries than the copy: {sorted(ours.keys() ^ theirs.keys())}")
        for name, mine in ours.items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name].to(mine), weight)
            else:
                mine.copy_(theirs[name])

    @torch.no_grad()
    def forward(self, *args: object, **kwargs: object) -> object:
        """The answer of the copy."""
        return self.copy(*args, **kwargs)


def byol_decay(done: float, base: float = 0.996) -> float:
    """Decay of BYOL's target after the share `done` of the training: from `base` to 1 like half a cosine.

    >>> [round(byol_decay(done), 3) for done in (0.0, 0.5, 1.0)]
    [0.996, 0.998, 1.0]

    Source: Grill et al., arXiv 2006.07733, section 3.2.
    """
    return 1 - (1 - base) * (math.cos(math.pi * done) + 1) / 2


def _checked_decay(decay: float) -> float:
    if not 0 <= decay <= 1:
        raise ErlangenError(f"decay = {decay}; give a number from 0 (a copy) to 1 (never moves)")
    return decay


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ErlangenError(f"temperature = {temperature}; give a positive number")


def _check_rows(x: Tensor) -> None:
    check_floating(x, "x")
    if x.ndim != 2 or len(x) < 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give [N, d] with N >= 2, one row has no variance")


def _check_pair(x: Tensor, y: Tensor, least: int, most: int | None = None) -> None:
    check_floating(x, "x")
    check_floating(y, "y")
    if x.shape != y.shape or x.ndim < least or (most is not None and x.ndim > most):
        form = "[N, d]" if most else "[..., N, d]" if least == 2 else "[..., d]"
        raise ShapeError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; give both as {form}")


def _reduced(each: Tensor, rows: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return each
    if reduction == "sum":
        return each.sum()
    if reduction == "mean":
        return each.sum() / rows.sum().clamp_min(1)
    raise UnknownNameError(f"reduction = {reduction!r}; give 'mean', 'sum' or 'none'")
