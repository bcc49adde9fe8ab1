"""Read a batch from a file or a folder: .npz, .npy, .pt, .safetensors, .parquet, a folder of images.

Files are untrusted: numpy loads without pickle, torch with ``weights_only=True``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.actions import Tree
from erlangen.arrays import tensor_of, usual
from erlangen.data._archives import read_arrays
from erlangen.data._pictures import SUFFIXES, read_pictures
from erlangen.errors import DataError, DtypeError, MissingExtraError
from erlangen.files import check_size, reading

LABEL_KEYS = ("y", "label", "labels", "target", "targets")


class Batch(NamedTuple):
    """Inputs, and labels where the file has them."""

    x: Tree
    y: Tensor | None


def load_data(path: str | Path, *, labels: str | Path | None = None) -> Batch:
    """Read inputs, and labels if there are any.

    Args:
        path: ``.npz`` or ``.pt`` (arrays by name: the labels are under "y", "label", "labels", "target" or "targets", one
            other array is the input, several are a dict of inputs), ``.npy``, ``.safetensors``, ``.parquet`` (numeric
            columns become ``[N, columns]``, list columns ``[N, columns, ...]``), or a folder of images of one size
            (``[N, C, H, W]``; subfolders are classes). Images of 8 and 16 bits have values in 0..1, those of floating numbers
            their own; cameras' notes on which side is up are followed, transparency is dropped, grey images beside coloured
            ones have three equal channels, and of several pictures in a file the first is taken. Colours of 16 bits are read
            to 8 bits.
        labels: another file with the labels alone.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, holds nothing usable, or would take more memory than
            `size_limit` allows.
        MissingExtraError: parquet or images without the extra ``files``.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"data = {str(path)!r}: there is no such file or folder")
    x, y = _image_folder(path) if path.is_dir() else _split_labels(_read(path), path)
    if labels is not None:
        other, separate = load_data(labels)
        y = separate if separate is not None else other
        if not isinstance(y, Tensor):
            raise DataError(f"labels = {str(labels)!r}: the file must hold one array of labels")
    return Batch(x, y)


def _read(path: Path) -> dict[str, Any]:
    readers = {
        ".npz": read_arrays,
        ".npy": read_arrays,
        ".pt": _torch,
        ".pth": _torch,
        ".safetensors": _safetensors,
        ".parquet": _parquet,
    }
    kind = path.suffix.lower()
    if kind not in readers:
        raise DataError(
            f"data = {str(path)!r}: unknown kind {path.suffix!r}; known: {', '.join(readers)}, or an image folder"
        )
    with reading(f"data = {str(path)!r} cannot be read as {kind}"):
        return readers[kind](path)


def _torch(path: Path) -> dict[str, Any]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_size(path, sum(info.file_size for info in archive.infolist()))
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    if isinstance(loaded, (tuple, list)) and len(loaded) == 2:
        return {"x": loaded[0], "y": loaded[1]}
    return dict(loaded) if isinstance(loaded, dict) else {"x": loaded}


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def _parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "files", "reading parquet") from error
    with parquet.ParquetFile(path) as file:
        stored = file.metadata
        check_size(path, max(stored.num_rows, 0) * max(stored.num_columns, 1) * 8)
        check_size(path, sum(max(stored.row_group(i).total_byte_size, 0) for i in range(stored.num_row_groups)))
        table = file.read()
    check_size(path, table.nbytes)
    columns = {name: np.asarray(table[name].to_pylist()) for name in table.column_names}
    found = {name: values for name, values in columns.items() if name in LABEL_KEYS}
    inputs = {name: values for name, values in columns.items() if name not in LABEL_KEYS}
    wrong = [name for name, values in columns.items() if values.dtype.kind not in "fiub"]
    if wrong:
        raise ValueError(f"column {wrong[0]!r} does not hold numbers (or lists of one length)")
    shapes = {values.shape for values in inputs.values()}
    if len(shapes) == 1:
        return {"x": np.stack(list(inputs.values()), axis=1)} | found
    return inputs | found


def _split_labels(arrays: dict[str, Any], path: Path) -> tuple[Tree, Tensor | None]:
    tensors = {key: _tensor(value, key, path) for key, value in arrays.items()}
    key = next((k for k in LABEL_KEYS if k in tensors), None)
    y = tensors.pop(key) if key is not None and len(tensors) > 1 else None
    if not tensors:
        raise DataError(f"data = {str(path)!r} holds no arrays")
    return (next(iter(tensors.values())) if len(tensors) == 1 else tensors), y


def _tensor(value: Any, key: str, path: Path) -> Tensor:
    where = f"data = {str(path)!r}: entry {key!r}"
    if not isinstance(value, (Tensor, np.ndarray)):
        raise DataError(f"{where} is a {type(value).__name__}; only arrays of numbers can be used")
    try:
        tensor = _dense(value, path, where) if isinstance(value, Tensor) else tensor_of(value, where)
    except DtypeError as error:
        raise DataError(str(error)) from error
    return tensor.long() if key in LABEL_KEYS and not tensor.is_floating_point() else tensor


def _dense(value: Tensor, path: Path, where: str) -> Tensor:
    """A tensor with entries of its own: sparse and expanded ones may be much larger than their file."""
    if value.is_complex() or value.is_quantized or value.is_meta or value.is_nested:
        raise DtypeError(
            f"{where} is a tensor of {value.dtype} in an unusual form; only arrays of real numbers can be used"
        )
    check_size(path, value.numel() * value.element_size())
    with reading(f"{where} cannot be used"):
        value = value.detach()
        return usual((value if value.layout == torch.strided else value.to_dense()).contiguous(), where)


def _image_folder(path: Path) -> tuple[Tensor, Tensor | None]:
    """Pictures of a folder, or of its subfolders, which are the classes. Hidden files and folders are none of them."""
    with reading(f"data = {str(path)!r}: the folder cannot be read"):
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        classes = {folder: _pictures_in(folder) for folder in folders}
        above = _pictures_in(path)
    if above and any(classes.values()):
        raise DataError(
            f"data = {str(path)!r}: there are images in the folder, such as {above[0].name!r}, and in its subfolders; move the "
            "former into the subfolder of their class"
        )
    names = above or [name for pictures in classes.values() for name in pictures]
    if not names:
        raise DataError(f"data = {str(path)!r}: the folder holds no images ({', '.join(sorted(SUFFIXES))})")
    x = torch.from_numpy(read_pictures(path, names))
    return x, None if above else torch.arange(len(folders)).repeat_interleave(
        torch.tensor([*map(len, classes.values())])
    )


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
