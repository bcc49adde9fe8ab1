"""A cache for constant tensors that is safe with inference mode and `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def constant(build: Callable[P, T]) -> Callable[P, T]:
    """Keep the results of a function that builds tensors from hashable arguments.

    They are built outside of inference mode, because an inference tensor in the cache would break a later
    backward pass, and a compiler traces the function itself, because it cannot look into the cache.
    """

    def ordinary(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.inference_mode(False):
            return build(*args, **kwargs)

    cached = lru_cache(maxsize=512)(ordinary)

    @wraps(build)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            return build(*args, **kwargs)
        return cached(*args, **kwargs)  # pyright: ignore[reportCallIssue]

    return call
