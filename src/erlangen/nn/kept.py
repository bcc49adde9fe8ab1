"""What layers compute from their parameters and need not compute again: kernels and matrices at inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Kept(Generic[T]):
    """A value computed from a module's parameters, kept in eval mode without gradients until one of them is written to.

    A write through ``.data`` is not seen.
    """

    def __init__(self) -> None:
        self._entry: tuple[object, tuple[Tensor, ...], T] | None = None

    def forget(self) -> None:
        """Compute anew at the next call."""
        self._entry = None

    def get(self, module: nn.Module, compute: Callable[[], T]) -> T:
        """``compute()``, or what it gave for the same parameters."""
        if module.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            self._entry = None
            return compute()
        parameters = tuple(module.parameters())
        state = _state(parameters)
        if state is None:
            return compute()
        if self._entry is None or self._entry[0] != state:
            # The old parameters are held, so that no new ones can come to lie at their addresses.
            self._entry = (state, tuple(p.detach() for p in parameters), compute())
        return self._entry[2]


def _state(parameters: tuple[Tensor, ...]) -> object | None:
    """What changes with every write to parameters; ``None`` where torch does not tell."""
    try:
        return tuple((p.data_ptr(), p._version, p.dtype, p.device) for p in parameters)
    except RuntimeError:  # no address under torch.func.vmap over parameters, no version if made in inference mode
        return None
