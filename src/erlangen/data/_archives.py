"""Arrays in .npy and .npz files, of which headers and sizes are checked before the memory is taken."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from erlangen.files import check_size

_MAGIC = b"\x93NUMPY"


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of an .npz file by name, or that of an .npy file as "x"; nothing is unpickled.

    Raises:
        DataError: they are larger than the size limit.
        Exception: whatever numpy and zipfile raise for damaged files.
    """
    with path.open("rb") as file:
        if file.read(6) == _MAGIC:
            need = _declared(file)
            held = path.stat().st_size
            _demand_size(need, held)
            file.seek(0)
            return {"x": np.lib.format.read_array(file, allow_pickle=False)}
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            check_size(path, sum(info.file_size for info in archive.infolist()))
            return {info.filename.removesuffix(".npy"): _member(archive, info) for info in archive.infolist()}


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    with archive.open(info) as file:
        if file.read(6) != _MAGIC:
            raise ValueError(f"its part {info.filename!r} is no array")
        _demand_size(_declared(file), info.file_size)
    with archive.open(info) as file:
        found = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # also makes zipfile compare the checksum
            raise ValueError(f"its part {info.filename!r} is longer than its array")
        return found


def _declared(file: IO[bytes]) -> int:
    """Bytes of the array that a header, read from after its magic text, announces."""
    major = file.read(2)[0]
    if major not in (1, 2, 3):
        raise ValueError(f"version {major} of numpy's format is not known")
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if any(size < 0 for size in shape):
        raise ValueError(f"it announces the shape {shape}")
    return math.prod(shape) * dtype.itemsize


def _demand_size(need: int, held: int) -> None:
    if need > held:
        raise ValueError(f"it announces an array of {need:,} bytes and holds {held:,}")
