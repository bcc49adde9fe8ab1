"""How a wrapped model is called: as a module, on batches repeated over frame elements, in chunks; and what it may answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.arrays import tensor_of
from erlangen.errors import ErlangenError, ModelError, OrbitError, UnknownNameError, check_on_degenerate, is_whole
from erlangen.measure.models import session_hint, with_session_hint
from erlangen.measure.onnx_files import OnnxModel
from erlangen.tracing import carries_derivative, is_traced

CACHED_NUMBERS = 2**15
"""Numbers in the input of one call of the model, on a CPU: 32 clouds of 256 points fill it."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Repeat:
    """Repeat tensors with leading axis B for each of `count` elements; leave everything else as it is."""

    batch: int
    count: int

    def __call__(self, value: Any) -> Any:
        """The repeated tensor, or the value."""
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == self.batch:
            return value.repeat_interleave(self.count, 0)
        return value


def flatten(value: Any, count: int) -> Any:
    """``[B, K or 1, ...]`` to ``[B * K, ...]``."""
    if not isinstance(value, Tensor):
        return value
    return value.expand(value.shape[0], count, *value.shape[2:]).flatten(0, 1)


def is_floating(value: Any) -> bool:
    """Whether a leaf is a floating tensor."""
    return isinstance(value, Tensor) and value.is_floating_point()


def cast_like(value: Any, like: Any) -> Any:
    """A tensor in the dtype of another."""
    return value.to(like.dtype) if isinstance(value, Tensor) else value


def as_wide_as(elements: Tensor, tree: Tree) -> Tensor:
    """Elements in the widest floating dtype of a tree; indices and permutations keep theirs."""
    dtypes = [leaf.dtype for leaf in tree_leaves(tree) if is_floating(leaf)]
    if not elements.is_floating_point() or not dtypes:
        return elements
    return elements.to(max(dtypes, key=lambda dtype: torch.finfo(dtype).bits))


def check_options(how: str | None, samples: Any, on_degenerate: str, chunk: Any) -> None:
    """Raise where the options of `symmetrize` are unknown, not positive or without meaning."""
    if how not in (None, "frames", "canonical", "points", "orbit"):
        raise UnknownNameError(f"how = {how!r}: choose 'frames', 'canonical', 'points' or 'orbit'")
    check_on_degenerate(on_degenerate)
    for name, value in (("samples", samples), ("chunk", chunk)):
        if value is not None and not is_whole(value, 1):
            raise OrbitError(f"{name} = {value!r}: give a positive integer, or None")
    if samples is not None and how in ("canonical", "points"):
        raise OrbitError(f"samples = {samples}: how={how!r} uses one element; leave out samples=")


def check_output(leaf: Any, expected: int) -> None:
    """Raise `ModelError` unless a leaf of the model's output is a tensor ``[expected, ...]`` that can be
    averaged.
    """
    if not isinstance(leaf, Tensor):
        raise ModelError(f"the model returned a {type(leaf).__name__}; give a model of tensors")
    if leaf.ndim == 0 or leaf.shape[0] != expected:
        raise ModelError(
            f"the model returned shape {tuple(leaf.shape)} for a batch of {expected} (samples times frame "
            "elements); its outputs must keep the leading batch axis, so leave sums and means over the "
            "batch to the caller"
        )
    if not (leaf.is_floating_point() or leaf.is_complex()):
        raise ModelError(f"the model returned {leaf.dtype}, which cannot be averaged; return scores, not labels")


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sum over axis 1 of ``values [B, K, ...]`` with ``weights [B or 1, K]``."""
    weights = weights.to(values.dtype)
    if values.ndim == 3 and weights.shape == values.shape[:2]:
        return torch.bmm(weights[:, None], values)[:, 0]
    return (values * weights.reshape(*weights.shape, *[1] * (values.ndim - 2))).sum(1)


def default_chunk(model: nn.Module, x: Tree, count: int) -> int:
    """Frame elements per call of the model, at most `count`: the same for the same shapes, so that runs repeat.

    Activations are a multiple of the input; once they leave the cache of a CPU, larger batches are slower. A model with
    more parameters than input numbers is bound by reading its weights instead, and takes everything at once.
    """
    tensors = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
    if torch.compiler.is_compiling() or tensors[0].device.type != "cpu":
        return count
    numbers = sum(leaf.numel() for leaf in tensors)
    if sum(parameter.numel() for parameter in model.parameters()) > numbers:
        return count
    return max(1, min(count, CACHED_NUMBERS // max(1, numbers)))


class _Function(nn.Module):
    """A function of tensors or of numpy arrays, or an ONNX file, as a module.

    What is no function of tensors is found out by the first call. Its answers carry no gradient, and say so when one is
    asked for.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        self.fn = fn
        self._answered = False
        self._takes_arrays = False

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            if self._takes_arrays or isinstance(self.fn, OnnxModel):
                raise ModelError(
                    f"{self.name}: a numpy function or an ONNX file cannot be compiled or exported by torch"
                )
            return self.fn(*args, **kwargs)
        if is_traced() and (self._takes_arrays or isinstance(self.fn, OnnxModel)):
            raise _no_gradient(self.name)
        if isinstance(self.fn, OnnxModel):
            return self._without_gradient(self.fn(*tree_map(_detached, args)), args)
        if self._takes_arrays:
            return self._of_arrays(args, kwargs)
        try:
            answer = self.fn(*args, **kwargs)
        except Exception as torch_error:
            # As in `erlangen.measure.Model`: numpy's functions refuse tensors with one of these types, others with any.
            # A function that mixes both meets its end at the first tensor that asks for a gradient.
            refused = isinstance(torch_error, (TypeError, AttributeError)) or "call numpy()" in str(torch_error)
            if isinstance(torch_error, ErlangenError) or (self._answered and not refused):
                raise
            try:
                answer = self._of_arrays(args, kwargs)
            except Exception as array_error:
                if isinstance(array_error, ModelError):
                    raise
                own = isinstance(array_error, (TypeError, AttributeError))
                raise with_session_hint(array_error if refused and not own else torch_error) from None
            self._takes_arrays = True
        self._answered = True
        leaves = tree_leaves(answer)
        if leaves and not any(isinstance(leaf, Tensor) for leaf in leaves) and self._takes_arrays is False:
            return self._without_gradient(answer, (args, kwargs))
        return answer

    @property
    def name(self) -> str:
        """What messages call the function."""
        return getattr(self.fn, "__name__", type(self.fn).__name__)

    def _of_arrays(self, args: Any, kwargs: Any) -> Any:
        if is_traced():  # a transform of `torch.func` lends no memory to arrays
            raise _no_gradient(self.name)
        given, named = tree_map(lambda v: v.detach().cpu().numpy() if isinstance(v, Tensor) else v, (args, kwargs))
        return self._without_gradient(self.fn(*given, **named), (args, kwargs))

    def _without_gradient(self, answer: Any, given: Any) -> Any:
        """The answer as tensors on the device of the input; they refuse a gradient if something given asks for one."""
        tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        asking = [leaf for leaf in tensors if leaf.is_floating_point() and carries_derivative(leaf)]

        def read(leaf: Any) -> Any:
            if isinstance(leaf, (np.ndarray, np.generic)) and np.ndim(leaf):
                leaf = tensor_of(leaf, f"the answer of {self.name}")
            if not isinstance(leaf, Tensor):
                return leaf
            leaf = leaf.detach().to(tensors[0].device)
            if not asking or not leaf.is_floating_point():
                return leaf
            return _Opaque.apply(leaf, self.name, *asking)

        return tree_map(read, answer)


class _Opaque(torch.autograd.Function):
    """Passes a value on and refuses its derivatives, backward and forward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, name: str, *given: Tensor) -> Tensor:
        ctx.name = name
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _no_gradient(ctx.name)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise _no_gradient(ctx.name)


def _no_gradient(name: str) -> ModelError:
    return ModelError(
        f"a gradient was asked for through {name}, a numpy function or an ONNX file, which has none; symmetrize a torch model "
        "to train or to differentiate it, or call this one under torch.no_grad()"
    )


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def as_module(model: Any) -> nn.Module:
    """A module as it is, or a function or an ONNX file as a module; `ModelError` for anything else."""
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, (str, Path)):
        model = OnnxModel(model)
    if isinstance(model, type) or not callable(model):
        given = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise ModelError(
            f"model is {given}; give an instance of torch.nn.Module, a function of tensors or numpy arrays, or the path of an "
            f"ONNX file{session_hint(model)}"
        )
    return _Function(model)


def call_signature(model: nn.Module) -> inspect.Signature | None:
    """The signature of a model, if it tells the name of the first argument."""
    try:
        signature = inspect.signature(_shown(model))
    except (TypeError, ValueError):  # a function of C that does not tell
        return None
    first = next(iter(signature.parameters.values()), None)
    return signature if first is not None and first.kind in POSITIONAL else None


def named_forward(signature: inspect.Signature, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls ``forward(self, x, *args, mask=..., **kwargs)`` and shows and takes the arguments of `signature`."""
    names = [p.name for p in signature.parameters.values() if p.kind in POSITIONAL]
    mask_place = names.index("mask") if "mask" in names[1:] else None

    def named(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not args:
            key = names[0] if names[0] in kwargs else "x"
            if key not in kwargs:
                raise TypeError(f"{type(self).__name__} needs the input {names[0]!r}, the first argument of its model")
            args = (kwargs.pop(key),)
        if mask_place is not None and len(args) > mask_place:
            # Given by position it is no less the mask that the frame must know.
            kwargs["mask"] = args[mask_place]
            args = args[:mask_place] + args[mask_place + 1 :]
        return forward(self, *args, **kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    shown: Any = named
    first = list(signature.parameters.values())
    if first[0].kind is not inspect.Parameter.POSITIONAL_ONLY:
        own = own.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown.__signature__ = signature.replace(parameters=[own, *first])
    return shown


def _shown(model: nn.Module) -> Callable[..., Any]:
    """What carries the signature of a model."""
    return model.fn if isinstance(model, _Function) else model.forward


def takes_mask(model: nn.Module) -> bool:
    """Whether the model has an argument ``mask``."""
    parameters = inspect.signature(_shown(model)).parameters.values()
    return any(p.name == "mask" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
