"""Files: written whole or not at all, sealed by a checksum, and read with damages named and sizes limited.

Whatever this library writes goes through `write_bytes` or `write_text`; whatever it reads is read under `reading`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import threading
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, is_whole

__all__ = [
    "check_size",
    "first_line",
    "locked",
    "read_archive",
    "read_tensors",
    "reading",
    "sealed_archive",
    "sealed_tensors",
    "size_limit",
    "write_bytes",
    "write_text",
]

SIZE_LIMIT = 1 << 30
"""Bytes that a file may become in memory, if it is not that large itself; see `size_limit`."""

EXPANSION = 8
"""A file may become so many times its own size in any case."""

_limit: ContextVar[int | None] = ContextVar("size limit", default=None)


# --- writing ---------------------------------------------------------------------------------------------------------
def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file so that, whenever the process ends, the path holds all of the old or all of the new.

    A link stays a link, and the permissions of an older file stay. Devices and pipes are written to as they are.

    Raises:
        DataError: the folder or the file cannot be written to; what was there is untouched.
    """
    path = Path(path)
    try:
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(data)
            return
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        if mode is not None and not os.access(target, os.W_OK):
            raise PermissionError("the file is write-protected")
        # Name of its own for each writer; short, so that it fits wherever the file's own name does.
        partial = target.with_name(f".{target.name[:100]}.{os.getpid()}.{threading.get_ident()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                partial.chmod(mode)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # pathlib raises RuntimeError for links in a circle
        raise DataError(f"{str(path)!r} cannot be written: {error}; choose another folder") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Keep other processes that lock the same path out of the block; waits for them.

    A file ``.NAME.lock`` stays beside it. Where the file system or the platform knows no locks, nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.with_name(f".{path.name[:100]}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a network drive without locks
            yield
            return
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


# --- reading ---------------------------------------------------------------------------------------------------------
@contextmanager
def reading(what: str, *, remedy: str = "", error: type[DataError] = DataError) -> Generator[None]:
    """Whatever goes wrong inside is a `DataError` that begins with `what` and the reason; errors of this library pass.

    Decoders raise all kinds of errors on damaged files (of zlib, of unpickling, of overflow, of memory), also some that
    no manual lists. The block must hold nothing but the reading.

    >>> with reading("data = 'a.txt' cannot be read as a number"):
    ...     int("one")
    Traceback (most recent call last):
    erlangen.errors.DataError: data = 'a.txt' cannot be read as a number: invalid literal for int() with base 10: 'one'
    """
    try:
        yield
    except ErlangenError:
        raise
    except Exception as found:
        raise error(f"{what}: {first_line(found)}{remedy and f'; {remedy}'}") from found


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 300 characters; its name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


@contextmanager
def size_limit(limit: int) -> Generator[None]:
    """Files read inside may take up to `limit` bytes in memory; the default is `SIZE_LIMIT`, or 8 times the file's size.

    A small file can claim to hold arrays that fill the memory. For the command line, the environment variable
    ``ERLANGEN_SIZE_LIMIT`` says the same.

    >>> from erlangen.data import size_limit
    >>> with size_limit(16 << 30):
    ...     pass  # load_data("large.npz")

    Args:
        limit: bytes.

    Raises:
        ErlangenError: the limit is no positive integer.
    """
    if not is_whole(limit, 1):
        raise ErlangenError(f"limit = {limit!r}: give a positive number of bytes")
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def check_size(path: Path, need: int) -> None:
    """Raise `DataError` where what a file holds would need too many bytes in memory.

    Args:
        path: the file, or a folder, whose own size counts nothing.
        need: bytes that are needed.
    """
    limit = _limit.get()
    if limit is None:
        given = os.environ.get("ERLANGEN_SIZE_LIMIT", "").strip()
        if given and not (given.isdecimal() and int(given)):
            raise ErlangenError(f"ERLANGEN_SIZE_LIMIT = {given!r}: give a positive number of bytes")
        limit = int(given) if given else SIZE_LIMIT
    own = path.stat().st_size if path.is_file() else 0
    if need > max(limit, EXPANSION * own):
        raise DataError(
            f"{str(path)!r} has {own:,} bytes and needs {need:,} in memory, more than the limit of "
            f"{max(limit, EXPANSION * own):,}; if you trust it: with er.data.size_limit({need}), or "
            f"ERLANGEN_SIZE_LIMIT={need}"
        )


# --- seals: files that other tools can read, in which no byte can change unnoticed -------------------------------------
_COMMENT = b"erlangen sha256 "
_END = b"PK\x05\x06"  # begins the last record of a zip archive, of 22 bytes and the comment
_SEAL = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_UNSEALED = b'"sha256":"' + 64 * b"0" + b'"'


def sealed_archive(state: object) -> bytes:
    """The bytes of ``torch.save``, with the checksum of all of them as the comment of the archive."""
    file = io.BytesIO()
    torch.save(state, file)
    data = file.getvalue()
    data = data[:-2] + (len(_COMMENT) + 64).to_bytes(2, "little") + _COMMENT
    return data + hashlib.sha256(data).hexdigest().encode()


def read_archive(data: bytes, *, device: torch.device | str = "cpu") -> Any:
    """What `sealed_archive` took, or what version 0.1.0 saved without a seal; nothing but plain data is unpickled.

    Raises:
        ValueError: a byte has changed, is missing or is too many.
        Exception: whatever torch raises for what it cannot read.
    """
    if data[-22:-18] == _END and data[-2:] == b"\0\0":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} of the archive is damaged")
    elif data[-80:-64] != _COMMENT or data[-64:].decode("latin-1") != hashlib.sha256(data[:-64]).hexdigest():
        raise ValueError("its checksum is not that of its content")
    with torch.serialization.safe_globals(_numpy_scalars()):
        return torch.load(io.BytesIO(data), weights_only=True, map_location=device)


def _numpy_scalars() -> list[Any]:
    """What unpickling needs for numpy's numbers, which version 0.1.0 wrote where a metric was one."""
    import _codecs

    import numpy as np
    from numpy import dtypes

    kinds = [type(np.dtype(kind)) for kind in ("?", "b", "h", "i", "l", "q", "B", "H", "I", "L", "Q", "e", "f", "d")]
    scalar: Any = np.float64(0).__reduce__()[0]  # type: ignore[index]
    old: Any = (scalar, "numpy.core.multiarray.scalar")  # its name before numpy 2
    return [scalar, old, np.dtype, dtypes.StrDType, *kinds, _codecs.encode]


def sealed_tensors(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with these tensors and texts, and under "sha256" the checksum of all of it with zeros there."""
    from safetensors.torch import save

    data = save(tensors, metadata={**metadata, "sha256": 64 * "0"})
    # The library writes the texts in an order that changes from call to call; the same content makes the same file.
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = header.encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + data[8 + length :]
    return data.replace(_UNSEALED, b'"sha256":"' + hashlib.sha256(data).hexdigest().encode() + b'"', 1)


def read_tensors(data: bytes, unsealed: set[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of `sealed_tensors`, or those of a file without a seal whose texts have just the names `unsealed`.

    Raises:
        ValueError: a byte has changed.
        Exception: whatever safetensors raises for what is no such file.
    """
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    seal = _SEAL.search(header)
    if seal is not None:
        blank = data[:8] + header[: seal.start()] + _UNSEALED + header[seal.end() :] + data[8 + length :]
        if hashlib.sha256(blank).hexdigest().encode() != seal[1]:
            raise ValueError("its checksum is not that of its content")
    tensors = load(data)
    texts: dict[str, str] = json.loads(header).get("__metadata__") or {}
    if seal is None and set(texts) != unsealed:
        raise ValueError("it has no checksum")
    texts.pop("sha256", None)
    return tensors, texts
