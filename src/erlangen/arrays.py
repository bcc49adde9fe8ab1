"""Arrays of numpy as tensors: any byte order and width, in a dtype that torch computes with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import DtypeError

__all__ = ["tensor_of", "usual"]

_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def tensor_of(array: np.ndarray[Any, Any] | np.generic, name: str = "array") -> Tensor:
    """A tensor of the same numbers; memory is shared where it can be.

    >>> tensor_of(np.array([1.0, 2.5], dtype=">f4"))
    tensor([1.0000, 2.5000])

    Args:
        array: of booleans, integers or floating numbers, in any byte order. ``longdouble`` becomes float64; unsigned integers,
            which torch hardly computes with, become signed ones that hold them.
        name: for messages.

    Raises:
        DtypeError: the array holds other things, or integers above those of int64.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"{name} is an array of {array.dtype}; only arrays of numbers can be used")
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    unusual = any(step < 0 or step % array.itemsize for step in array.strides)  # reversed, or a field of records
    if unusual or not array.flags.writeable:
        array = array.copy()
    return usual(torch.from_numpy(array), name)


def usual(x: Tensor, name: str = "tensor") -> Tensor:
    """The tensor, or a signed one of the same numbers where it is of unsigned integers above 8 bits.

    Raises:
        DtypeError: an integer is above those of int64.
    """
    if x.dtype not in _WIDER:
        return x
    found = x.to(_WIDER[x.dtype])
    if x.dtype == torch.uint64 and bool((found < 0).any()):
        raise DtypeError(f"{name} holds integers of 2^63 or more, which no dtype of torch can compute with")
    return found
