"""What people bring as data and labels, read as trees of tensors: arrays, lists of numbers, tables, other libraries' arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from erlangen.actions import Tree
from erlangen.arrays import tensor_of
from erlangen.errors import DataError


def as_tree(data: Any, name: str = "x", *, dtype: torch.dtype | None = None, strict: bool = True) -> Tree:
    """Data as a tree of tensors; tensors stay the same objects, in any dtype.

    >>> import numpy as np
    >>> as_tree({"pos": [[0.0, 1.0], [2.0, 3.0]], "kind": np.array([1, 2], dtype=">i2")})["kind"]
    tensor([1, 2], dtype=torch.int16)

    Dicts and tuples are structure, and so are lists that hold arrays. Nested lists of numbers are one tensor, and so is a
    tuple of numbers. Arrays are numpy's in any byte order, and whatever has ``__dlpack__`` or ``__array__`` (JAX,
    TensorFlow, CuPy, pandas). What is none of this comes back as it is.

    Args:
        data: what was given.
        name: what messages call it.
        dtype: floating dtype for what is read from arrays and lists; by default that of the array, and torch's default
            for lists.
        strict: refuse arrays and lists that are no numbers; otherwise they come back as they are.

    Raises:
        DataError: lists of uneven length, or an array that holds no real numbers.
        DtypeError: integers that int64 cannot hold.
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, Mapping):
        items = cast("Mapping[Any, Any]", data).items()
        return {key: as_tree(value, f"{name}[{key!r}]", dtype=dtype, strict=strict) for key, value in items}
    if isinstance(data, (list, tuple)):
        entries = cast("list[Any] | tuple[Any, ...]", data)
        if is_numbers(entries):
            return _from_list(entries, name, dtype, strict)
        read = [as_tree(value, f"{name}[{i}]", dtype=dtype, strict=strict) for i, value in enumerate(entries)]
        kind = cast("Any", type(entries))
        return kind(*read) if hasattr(kind, "_fields") else kind(read)
    found = foreign_array(data)
    if found is None:
        return data
    if isinstance(found, Tensor):
        return found.to(dtype) if dtype is not None and found.is_floating_point() else found
    if found.dtype.kind not in "fiub" and not strict:
        return data
    if found.dtype.kind not in "fiub":
        raise DataError(
            f"{name} is an array of {found.dtype}{_text_example(found)}; give numbers, for example class indices "
            "instead of names"
        )
    tensor = tensor_of(found, name)
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def foreign_array(data: Any) -> Tensor | np.ndarray[Any, Any] | None:
    """An array of numpy or of another library as an array or a tensor; ``None`` for what is no array."""
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, (np.generic, str, bytes, type)):
        return None
    if hasattr(data, "__dlpack__"):
        try:
            return torch.from_dlpack(data)
        except (RuntimeError, TypeError, ValueError, BufferError, AttributeError):
            if not hasattr(data, "__array__"):  # the other road is open, for dtypes and devices that DLPack lacks
                raise
    return np.asarray(data) if hasattr(data, "__array__") else None


def encode_labels(y: Any, classes: np.ndarray[Any, Any]) -> Any:
    """Labels ``[B]`` as indices into the classes of an estimator; what is no such list of labels comes back as it is.

    Raises:
        DataError: an integer or a name among the labels is no class.
    """
    if isinstance(y, Mapping):
        return cast("Any", y)
    array = y.numpy(force=True) if isinstance(y, Tensor) else np.asarray(y)
    known = {value: i for i, value in enumerate(classes.tolist())}
    if array.ndim != 1 or (array.dtype.kind == "f" and not all(value in known for value in array.tolist())):
        return y
    missing = next((value for value in array.tolist() if value not in known), None)
    if missing is not None:
        raise DataError(f"y holds {missing!r}, but the model knows the classes {', '.join(map(repr, known))}")
    return torch.tensor([known[value] for value in array.tolist()], dtype=torch.int64)


def is_numbers(entries: list[Any] | tuple[Any, ...]) -> bool:
    """Whether nested lists hold numbers alone; a tuple is structure unless its own entries are numbers."""
    if isinstance(entries, tuple):
        return len(entries) > 0 and all(isinstance(entry, (int, float, np.number)) for entry in entries)
    return all(
        is_numbers(cast("list[Any]", entry))
        if isinstance(entry, (list, tuple))
        else isinstance(entry, (int, float, np.number, np.bool_))
        for entry in entries
    )


def _from_list(entries: list[Any] | tuple[Any, ...], name: str, dtype: torch.dtype | None, strict: bool) -> Any:
    try:
        array = np.asarray(entries)
    except ValueError as error:
        if not strict:
            return entries
        raise DataError(f"{name} is a list whose entries have different lengths; pad them to one length") from error
    except OverflowError as error:
        raise DataError(f"{name} holds an integer that int64 cannot: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} is a list of {array.dtype}; give numbers that fit int64 or float64")
    tensor = tensor_of(array, name)
    return tensor.to(dtype or torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _text_example(array: np.ndarray[Any, Any]) -> str:
    return f", such as {array.flat[0]!r}" if array.size and array.dtype.kind in "OUS" else ""
