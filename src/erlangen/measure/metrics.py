"""Metrics of one sample at a time: ``metric(prediction [N, ...], target [N, ...]) -> [N]``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.actions import Tree, tree_leaves
from erlangen.errors import ModelError, NotFiniteError, UnknownNameError, check_finite

MetricFunction = Callable[[Tree, Tree], Tensor]


@dataclass(frozen=True)
class Metric:
    """A score per sample.

    Args:
        name: what reports call it.
        fn: ``fn(prediction, target) -> [N]``, one number per sample.
        higher_is_better: which end of the orbit is the worst one.
        on_labels: whether targets are class labels, so that the consensus of an orbit is a majority vote. Integer targets
            imply it.
    """

    name: str
    fn: MetricFunction
    higher_is_better: bool = True
    on_labels: bool = False

    def __call__(self, prediction: Tree, target: Tree) -> Tensor:
        """Scores ``[N]`` in float64; an error names a metric that returns another shape or NaN."""
        scores = self.fn(prediction, target)
        n = tree_leaves(prediction)[0].shape[0]
        if not isinstance(scores, Tensor) or tuple(scores.shape) != (n,):
            got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise ModelError(f"metric {self.name!r} returned {got} for {n} samples; return one number per sample, [N]")
        scores = scores.double()
        try:
            check_finite(scores, f"metric {self.name!r}")
        except NotFiniteError as error:
            raise NotFiniteError(f"{error}; check the model's output and the labels") from error
        return scores

    def worst(self, scores: Tensor, dim: int) -> torch.return_types.max | torch.return_types.min:
        """Worst scores and their indices along an axis."""
        return scores.min(dim) if self.higher_is_better else scores.max(dim)


def labels_of(prediction: Tensor) -> Tensor:
    """Class labels of predictions: integers as they are, one logit by its sign, class scores ``[..., C]`` by argmax."""
    if not prediction.is_floating_point():
        return prediction
    if prediction.shape[-1] == 1:
        return (prediction.squeeze(-1) > 0).long()
    return prediction.argmax(-1)


def _accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    label = labels_of(prediction)
    if label.shape != target.shape:
        raise ModelError(
            f"metric 'accuracy': predictions {tuple(prediction.shape)} give labels {tuple(label.shape)}, but the targets "
            f"have shape {tuple(target.shape)}; class scores belong on the last axis"
        )
    return (label == target).double().reshape(label.shape[0], -1).mean(1)


def _check_same(prediction: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape:
        raise ModelError(
            f"metric {name!r}: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape"
        )
    return prediction.double().flatten(1), target.double().flatten(1)


def _mse(prediction: Tensor, target: Tensor) -> Tensor:
    a, b = _check_same(_column(prediction), _column(target), "mse")
    return (a - b).square().mean(1)


def _mae(prediction: Tensor, target: Tensor) -> Tensor:
    a, b = _check_same(_column(prediction), _column(target), "mae")
    return (a - b).abs().mean(1)


def _cosine(prediction: Tensor, target: Tensor) -> Tensor:
    a, b = _check_same(_column(prediction), _column(target), "cosine")
    return F.cosine_similarity(a, b, dim=1)


def _cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction.double(), target, reduction="none")


def _column(x: Tensor) -> Tensor:
    """``[N]`` and ``[N, 1]`` are the same regression target."""
    return x[:, None] if x.ndim == 1 else x


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _accuracy, on_labels=True),
        Metric("mse", _mse, higher_is_better=False),
        Metric("mae", _mae, higher_is_better=False),
        Metric("cosine", _cosine),
        Metric("cross_entropy", _cross_entropy, higher_is_better=False, on_labels=True),
    )
}


def resolve_metric(metric: str | Metric | MetricFunction | None, y: Tree | None) -> Metric | None:
    """A `Metric` from its name or a function (higher is better). ``None``: by the dtype of `y`, or none without labels."""
    if metric is None:
        if y is None:
            return None
        if not isinstance(y, Tensor):
            raise UnknownNameError("metric is missing: labels are a tree, so pass metric=function(prediction, target)")
        return METRICS["mse" if y.is_floating_point() else "accuracy"]
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            close = difflib.get_close_matches(metric, METRICS, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownNameError(
                f"metric = {metric!r} is not known; {hint}known: {', '.join(METRICS)}, or a function"
            )
        return METRICS[metric]
    if callable(metric):
        return Metric(getattr(metric, "__name__", "metric"), metric)
    raise UnknownNameError(
        f"metric is a {type(metric).__name__}; give a name, a Metric or a function(prediction, target)"
    )
