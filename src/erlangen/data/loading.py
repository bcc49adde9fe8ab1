"""Read a batch from a file or a folder: .npz, .npy, .pt, .safetensors, .parquet, a folder of images.

Files are untrusted: numpy loads without pickle, torch with ``weights_only=True``.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.actions import Tree
from erlangen.errors import DataError, MissingExtraError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
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
            (values in 0..1, ``[N, C, H, W]``; subfolders are classes).
        labels: another file with the labels alone.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, or holds nothing usable.
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
        ".npz": _numpy,
        ".npy": _numpy,
        ".pt": _torch,
        ".pth": _torch,
        ".safetensors": _safetensors,
        ".parquet": _parquet,
    }
    if path.suffix not in readers:
        raise DataError(
            f"data = {str(path)!r}: unknown kind {path.suffix!r}; known: {', '.join(readers)}, or an image folder"
        )
    try:
        return readers[path.suffix](path)
    except MissingExtraError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"data = {str(path)!r} cannot be read as {path.suffix}: {reason}") from error


def _numpy(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:  # numpy leaves a damaged archive open when it is given the path
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}


def _torch(path: Path) -> dict[str, Any]:
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    if isinstance(loaded, (tuple, list)) and len(loaded) == 2:
        return {"x": loaded[0], "y": loaded[1]}
    return dict(loaded) if isinstance(loaded, dict) else {"x": loaded}


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "files", "reading parquet") from error
    table = parquet.read_table(path)
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
    if isinstance(value, Tensor):
        tensor = value.detach()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        tensor = torch.from_numpy(np.ascontiguousarray(value))
    else:
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise DataError(f"data = {str(path)!r}: entry {key!r} is {kind}; only arrays of numbers can be used")
    return tensor.long() if key in LABEL_KEYS and not tensor.is_floating_point() else tensor


def _image_folder(path: Path) -> tuple[Tensor, Tensor | None]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("pillow", "files", "reading images") from error
    folders = sorted(p for p in path.iterdir() if p.is_dir())
    groups = [(i, folder) for i, folder in enumerate(folders)] or [(-1, path)]
    names = [
        (label, p) for label, folder in groups for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not names:
        raise DataError(f"data = {str(path)!r}: the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    arrays = []
    for _, name in names:
        try:
            with Image.open(name) as image:
                arrays.append(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"data: {str(name)!r} is not a readable image: {error}") from error
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"data = {str(path)!r}: images of different size {sorted(shapes)[:3]}; resize them to one size first"
        )
    stacked = torch.from_numpy(np.stack(arrays)).float() / 255
    stacked = stacked[:, None] if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2).contiguous()
    return stacked, torch.tensor([label for label, _ in names]) if folders else None
