"""Bases on disk: safetensors under a canonical key, written atomically, recomputed when damaged.

They are in ``~/.cache/erlangen/reps``, or below ``$ERLANGEN_CACHE``; ``ERLANGEN_CACHE=off`` keeps the disk out.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from erlangen.errors import CacheWarning, DataError
from erlangen.files import read_tensors, reading, sealed_tensors, write_bytes

VERSION = 1
"""Part of every key: a change of the solver that changes bases raises it."""
MEMORY_LIMIT = 256 * 2**20
"""Bytes of bases that are kept in memory; those used longest ago go first."""

_memory: OrderedDict[str, Tensor] = OrderedDict()


def cache_dir() -> Path | None:
    """Where bases are stored, or None if ``$ERLANGEN_CACHE`` is "off"."""
    chosen = os.environ.get("ERLANGEN_CACHE", "")
    if chosen.lower() == "off":
        return None
    return (Path(chosen) if chosen else Path.home() / ".cache" / "erlangen") / "reps"


def clear_memory() -> None:
    """Forget the bases that are kept in memory."""
    _memory.clear()


def cached(text: str, width: int, compute: Callable[[], Tensor]) -> Tensor:
    """The basis that a canonical text determines: from memory, from disk, or computed and then kept in both.

    Args:
        text: everything on which the result depends.
        width: number of columns of the result.
        compute: gives a float64 tensor ``[dims, width]``.

    Warns:
        CacheWarning: the file is damaged (it is replaced), or the folder cannot be written.
    """
    key = hashlib.sha256(f"erlangen basis {VERSION}\n{text}".encode()).hexdigest()
    folder = cache_dir()
    if key not in _memory:
        path = None if folder is None else folder / f"{key}.safetensors"
        basis = None if path is None else _read(path, key, width)
        if basis is None:
            basis = compute()
            if path is not None:
                _write(path, key, basis)
        _memory[key] = basis
        _forget()
    _memory.move_to_end(key)
    return _memory[key]


def _read(path: Path, key: str, width: int) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        with reading("cannot be read"):
            tensors, named = read_tensors(path.read_bytes(), unsealed={"key"})
            basis = tensors["basis"]
    except DataError as error:
        problem = str(error)
    else:
        if named.get("key") == key and basis.dtype == torch.float64 and basis.shape[1:] == (width,):
            return basis
        problem = f"holds {basis.dtype} {tuple(basis.shape)} under key {named.get('key')!r}"
    warnings.warn(f"cached basis {path} {problem}; it is computed again and replaced", CacheWarning, stacklevel=2)
    return None


def _write(path: Path, key: str, basis: Tensor) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, sealed_tensors({"basis": basis.contiguous()}, {"key": key}))
    except (OSError, DataError) as error:
        warnings.warn(
            f"basis not cached in {path.parent}: {error}; set ERLANGEN_CACHE to a folder that can be written, or to "
            "'off'",
            CacheWarning,
            stacklevel=2,
        )


def _forget() -> None:
    while len(_memory) > 1 and sum(t.numel() * t.element_size() for t in _memory.values()) > MEMORY_LIMIT:
        _memory.popitem(last=False)
