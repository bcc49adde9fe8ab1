"""How a wrapped model is called: as a module, on batches repeated over frame elements, in chunks; and what it may answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.actions import Tree, tree_leaves
from erlangen.errors import ModelError

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
    shape = (*weights.shape, *[1] * (values.ndim - 2))
    return (values * weights.to(values.dtype).reshape(shape)).sum(1)


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
    """A function of tensors as a module."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        self.fn = fn

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


def as_module(model: Any) -> nn.Module:
    """A module as it is, or a function as a module; `ModelError` for anything else."""
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, type) or not callable(model):
        given = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise ModelError(f"model is {given}; give an instance of torch.nn.Module, or a function of tensors")
    return _Function(model)


def call_signature(model: nn.Module) -> inspect.Signature | None:
    """The signature of a model, if it tells the name of the first argument."""
    try:
        signature = inspect.signature(model.fn if isinstance(model, _Function) else model.forward)
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


def takes_mask(model: nn.Module) -> bool:
    """Whether the model has an argument ``mask``."""
    call = model.fn if isinstance(model, _Function) else model.forward
    parameters = inspect.signature(call).parameters.values()
    return any(p.name == "mask" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
