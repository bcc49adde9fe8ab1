"""Constant tensors of a layer: computed once in float64, cast once for each dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor


class Constant:
    """A float64 tensor that is never trained nor saved; ``constant(like)`` is its copy in dtype and device of `like`.

    A buffer would be cast with the module, so that ``.float().double()`` would lose digits.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value.double()
        self._casts: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, like: Tensor) -> Tensor:
        """The copy."""
        if torch.compiler.is_compiling():
            return self.value.to(like)
        key = (like.dtype, like.device)
        if key not in self._casts:
            # An inference tensor in the cache would break a later backward pass.
            with torch.inference_mode(False):
                self._casts[key] = self.value.to(device=like.device, dtype=like.dtype).contiguous()
        return self._casts[key]
