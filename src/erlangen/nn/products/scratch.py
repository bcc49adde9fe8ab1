"""Memory between the steps of a blocked computation."""

from __future__ import annotations

import math

from torch import Tensor


class Scratch:
    """Memory that is used again and again: fresh pages cost more than the arithmetic on them."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._memory: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Contiguous memory of a shape; what was there under this name before is lost."""
        size = math.prod(shape)
        held = self._memory.get(name)
        if held is None or held.numel() < size:
            held = self._memory[name] = self._like.new_empty(size)
        return held[:size].view(shape)
