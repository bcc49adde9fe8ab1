"""Metrics of one sample at a time: ``metric(prediction [N, ...], target [N, ...]) -> [N]``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.actions import Tree, tree_leaves, tree_structure
from erlangen.errors import DataError, DtypeError, ModelError, NotFiniteError, UnknownNameError, first_index
from erlangen.measure.rows import plain

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
        prediction, target = plain(prediction), plain(target)
        try:
            scores = self.fn(prediction, target)
        except Exception as error:
            error.add_note(
                f"raised by the metric {self.name!r}, called with {tree_structure(prediction)} and {tree_structure(target)}"
            )
            raise
        n = tree_leaves(prediction)[0].shape[0]
        if not isinstance(scores, Tensor) or tuple(scores.shape) != (n,):
            got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise ModelError(f"metric {self.name!r} returned {got} for {n} samples; return one number per sample, [N]")
        scores = scores.double()
        bad = ~torch.isfinite(scores)
        if bool(bad.any()):
            index = first_index(bad)
            raise NotFiniteError(
                f"metric {self.name!r} gave {scores[index].item()} for prediction {index[0]}; check the model's answer and "
                "the labels, or the metric"
            )
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
    _check_tensors(prediction, target, "accuracy")
    target = _class_indices(prediction, target)
    label = labels_of(prediction)
    if label.shape != target.shape:
        raise ModelError(
            f"metric 'accuracy': predictions {tuple(prediction.shape)} give labels {tuple(label.shape)}, but the targets "
            f"have shape {tuple(target.shape)}; class scores belong on the last axis"
        )
    _check_labels(prediction, target, "accuracy")
    return (label == target).double().reshape(label.shape[0], -1).mean(1)


def _check_tensors(prediction: Tree, target: Tree, name: str) -> None:
    for what, value in (("the prediction", prediction), ("the target", target)):
        if not isinstance(value, Tensor):
            raise ModelError(
                f"metric {name!r} compares tensors, but {what} is {tree_structure(value)}; pass "
                "metric=function(prediction, target), which may compare one entry"
            )


def _check_labels(prediction: Tensor, target: Tensor, name: str) -> None:
    """Labels must be integers, and classes that the scores know."""
    if target.is_floating_point() or target.is_complex():
        raise DtypeError(f"metric {name!r} needs integer labels, but y has dtype {target.dtype}; call y.long()")
    if not prediction.is_floating_point():
        return
    classes = max(prediction.shape[-1], 2)
    bad = (target < 0) | (target >= classes)
    if bool(bad.any()):
        raise DataError(
            f"metric {name!r}: y holds the label {int(target[first_index(bad)])}, but the model knows the classes 0 to "
            f"{classes - 1}; number the labels from 0"
        )


def _class_indices(prediction: Tensor, target: Tensor) -> Tensor:
    """Labels as they are, one-hot rows ``[..., C]`` beside class scores ``[..., C]`` as class indices."""
    if target.shape != prediction.shape or not prediction.is_floating_point() or target.shape[-1] < 2:
        return target
    ones = target == 1
    is_one_hot = bool((ones | (target == 0)).all()) and bool((ones.sum(-1) == 1).all())
    return target.double().argmax(-1) if is_one_hot else target


def _check_same(prediction: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    _check_tensors(prediction, target, name)
    prediction, target = _column(prediction), _column(target)
    if prediction.shape != target.shape:
        raise ModelError(
            f"metric {name!r}: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape"
        )
    return prediction.double().flatten(1), target.double().flatten(1)


def _mse(prediction: Tensor, target: Tensor) -> Tensor:
    a, b = _check_same(prediction, target, "mse")
    return (a - b).square().mean(1)


def _mae(prediction: Tensor, target: Tensor) -> Tensor:
    a, b = _check_same(prediction, target, "mae")
    return (a - b).abs().mean(1)


def _cosine(prediction: Tensor, target: Tensor) -> Tensor:
    a, b = _check_same(prediction, target, "cosine")
    if a.shape[1] < 2:
        raise ModelError(
            f"metric 'cosine' needs vectors of two entries or more, not {tuple(prediction.shape)}; use 'mse' for numbers"
        )
    return F.cosine_similarity(a, b, dim=1)


def _cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    _check_tensors(prediction, target, "cross_entropy")
    target = _class_indices(prediction, target)
    if prediction.ndim != 2 or target.ndim != 1 or not prediction.is_floating_point():
        raise ModelError(
            f"metric 'cross_entropy' needs class scores [N, C] and labels [N], not {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    _check_labels(prediction, target, "cross_entropy")
    return F.cross_entropy(prediction.double(), target, reduction="none")


def _iou(prediction: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of boxes ``[N, 4]``, middle and size; 0 where neither has an area."""
    a, b = _check_same(prediction, target, "iou")
    if a.shape[1] != 4:
        raise ModelError(f"metric 'iou' needs boxes [N, 4], the middle and the size, not {tuple(prediction.shape)}")
    low = torch.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = torch.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    common = (high - low).clamp_min(0).prod(1)
    union = a[:, 2:].clamp_min(0).prod(1) + b[:, 2:].clamp_min(0).prod(1) - common
    return common / torch.where(union > 0, union, 1.0)


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
        Metric("iou", _iou),
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
