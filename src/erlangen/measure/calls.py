"""How a model wants to be called: one argument or several, one sample at a time, an estimator's `predict`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import ModelError

Style = Literal["one", "args", "kwargs"]


def per_sample(fn: Callable[..., Any]) -> PerSample:
    """A function of one sample as a model of batches.

    >>> import numpy as np
    >>> model = per_sample(lambda picture: np.abs(np.fft.fft2(picture)).max())
    >>> model(np.ones((5, 8, 8))).shape
    (5,)

    Args:
        fn: takes a sample as it lies in the batch, without the batch axis, and answers with a number, an array, or a dict
            or tuple of these. Dicts and tuples are passed as they are to functions of one argument, otherwise by name and
            by position, as for every model. Answers are copied at once: simulators answer with views of their state.

    Raises:
        ModelError: `fn` cannot be called.
    """
    if not callable(fn):
        raise ModelError(f"per_sample: a {type(fn).__name__} cannot be called; give a function of one sample")
    return PerSample(fn)


class PerSample:
    """See `per_sample`."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)

    def __call__(self, x: Tree) -> Tree:
        """Answers ``[B, ...]`` to a batch, of arrays for arrays and of tensors for tensors."""
        count = len(tree_leaves(x)[0])
        answers = [tree_map(_copied, invoke(self.fn, tree_map(lambda leaf, i=i: leaf[i], x))) for i in range(count)]
        return tree_map(lambda *rows: _stacked(rows), answers[0], *answers[1:])


def _copied(leaf: Any) -> Any:
    """An answer that the next call leaves alone."""
    if isinstance(leaf, Tensor):
        return leaf.clone()
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _stacked(rows: tuple[Any, ...]) -> Any:
    return torch.stack(rows) if isinstance(rows[0], Tensor) else np.stack(rows)


class Estimator:
    """A fitted estimator in the manner of scikit-learn: ``predict_proba`` if it has one, otherwise ``predict``.

    Class scores are in the order of ``classes_``, and predicted labels become indices into it. An estimator of
    ``n_features_in_`` features gets data with more axes flattened to ``[B, features]``.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        self._method = "predict_proba" if callable(getattr(target, "predict_proba", None)) else "predict"
        found = getattr(target, "classes_", None)
        self.classes: np.ndarray[Any, Any] | None = found if isinstance(found, np.ndarray) and found.ndim == 1 else None

    def __call__(self, x: Any) -> Any:
        """Class scores ``[B, C]``, class indices ``[B]``, or numbers ``[B, ...]``."""
        width = getattr(self.target, "n_features_in_", None)
        if isinstance(x, np.ndarray) and x.ndim > 2 and x[0].size == width:
            x = x.reshape(len(x), -1)
        answer = getattr(self.target, self._method)(x)
        if self._method == "predict" and self.classes is not None:
            index = {value: i for i, value in enumerate(self.classes.tolist())}
            return np.array([index[value] for value in np.asarray(answer).tolist()], dtype=np.int64)
        return answer


def is_estimator(target: object) -> bool:
    """Whether something that cannot be called predicts instead."""
    return not callable(target) and not isinstance(target, type) and callable(getattr(target, "predict", None))


def invoke(fn: Callable[..., Any], x: Tree, *, like: Callable[..., Any] | None = None, **more: Any) -> Any:
    """``fn(x)``, ``fn(*x)`` or ``fn(**x)``, as the signature asks, of `like` if given; `more` is passed by name."""
    if not isinstance(x, (dict, tuple)):
        return fn(x, **more)
    if isinstance(x, dict):
        more = {name: value for name, value in more.items() if name not in x}
    shown = like or fn
    if more:
        shown = functools.partial(shown.forward if isinstance(shown, nn.Module) else shown, **more)
    style = call_style(shown, x)
    if style == "args":
        return fn(*x, **more)
    return fn(**cast("dict[str, Any]", x), **more) if style == "kwargs" else fn(x, **more)


def call_style(fn: Callable[..., Any], x: dict[str, Any] | tuple[Any, ...]) -> Style:
    """How `fn` takes a dict or a tuple.

    A dict whose keys are arguments of `fn`, among them all that must be given, is passed by name. A tuple is passed by
    position where two arguments or more must be given, or where several can be and none must. All else is one argument.

    Raises:
        ModelError: several arguments must be given, and the entries of x are others.
    """
    found = parameters_of(fn)
    if found is None:
        return "one"
    positional = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    must = [p.name for p in found if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    open_position, open_name = (any(p.kind is kind for p in found) for kind in (_STAR, _STARS))
    if isinstance(x, dict):
        if set(must) <= set(x) and ((open_name and not open_position) or set(x) <= named):
            return "kwargs"
    elif len(must) > 1 or (not must and len(positional) > 1):
        least = sum(p.default is p.empty for p in positional)
        if len(must) == least <= len(x) and (open_position or len(x) <= len(positional)):
            return "args"
    if len(must) < 2:
        return "one"
    given = f"the entries {', '.join(map(str, x))}" if isinstance(x, dict) else f"{len(x)} entries"
    name = getattr(fn, "__name__", type(fn).__name__)
    raise ModelError(f"{name} takes the arguments {', '.join(p.name for p in found)}, but x has {given}")


_STAR, _STARS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def parameters_of(fn: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Parameters of a function, or of the `forward` of a module; ``None`` where Python cannot tell."""
    shown: Any = fn
    if isinstance(fn, torch.jit.ScriptModule):
        schema = cast("Any", fn).forward.schema.arguments[1:]
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        empty = inspect.Parameter.empty
        defaults = [argument.default_value if argument.has_default_value() else empty for argument in schema]
        return [
            inspect.Parameter(argument.name, keyword, default=default)
            for argument, default in zip(schema, defaults, strict=True)
        ]
    if isinstance(fn, nn.Module):
        shown = fn.forward
    try:
        return list(inspect.signature(shown).parameters.values())
    except (TypeError, ValueError):
        return None
