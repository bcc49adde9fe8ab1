"""Products of batches of rows and small matrices, laid out for the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from erlangen.tracing import carries_derivative, is_recorded

LARGE_BYTES = 32 << 20
"""Results from here on are memory that the system hands out anew each time (the largest threshold of glibc's malloc)."""

LONG = 64
"""Rows of a matrix from which a copy of the small matrices in the order of reading costs less than it saves."""

ALIGNMENT = 64


def multiply(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """``a @ b``, or ``a @ b + start``, for a ``[..., M, n]`` and b ``[..., n, P]``."""
    if torch.compiler.is_compiling():
        return a @ b if start is None else a @ b + start
    if not a.ndim == b.ndim == 3 or a.shape[0] != b.shape[0]:
        return a @ b if start is None else a @ b + start
    if a.shape[1] >= LONG and b.shape[-1] < LONG:
        b = b.contiguous()
    size = a.shape[0] * a.shape[1] * b.shape[2] * a.element_size()
    out = _fresh(size, a).view(*a.shape[:2], b.shape[2]) if size >= LARGE_BYTES and _may_write(a, b, start) else None
    return torch.bmm(a, b, out=out) if start is None else torch.baddbmm(start, a, b, out=out)


def _may_write(*tensors: Tensor | None) -> bool:
    """Whether a result may lie in memory of ours: on the CPU, nobody follows the calls, and no derivative is taken."""
    for x in tensors:
        if x is not None and (x.device.type != "cpu" or type(x) is not Tensor or carries_derivative(x)):
            return False
    return not is_recorded()


def _fresh(size: int, like: Tensor) -> Tensor:
    """Memory of `size` bytes for a large result.

    Most of the time of a simple operation with a large result goes into the first touch of each page of 4 kB. Numpy asks
    the system for pages of 2 MB, of which there are 512 times fewer.
    """
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return torch.from_numpy(memory[first : first + size]).view(like.dtype)
