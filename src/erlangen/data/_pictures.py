"""Pictures in files as arrays: any depth, brightness from 0 to 1, upright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from erlangen.errors import DataError, MissingExtraError
from erlangen.files import check_size, reading

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}

_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_PNG_DEEP = "I"
"""How older versions of pillow open PNG files of 16 bits."""

BITS, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0


def read_pictures(folder: Path, names: list[Path]) -> np.ndarray[Any, Any]:
    """Pictures ``[N, C, H, W]`` float32; C is 1 if all are grey, else 3.

    Raises:
        DataError: a file cannot be read, pictures do not fit each other, or there are more than the size limit allows.
        MissingExtraError: pillow is not installed.
    """
    found: list[np.ndarray[Any, Any]] = []
    floating: set[bool] = set()
    for name in names:
        array, is_float = _read(name)
        if not found:
            check_size(folder, len(names) * array.nbytes)
        elif array.shape[1:] != found[0].shape[1:]:
            (h, w), (u, v) = found[0].shape[1:], array.shape[1:]
            raise DataError(
                f"data = {str(folder)!r}: images of different size, {names[0].name} has {h} x {w} pixels and {name.name} "
                f"{u} x {v}; resize them to one size first"
            )
        found.append(array)
        floating.add(is_float)
        if len(floating) > 1:
            raise DataError(
                f"data = {str(folder)!r}: pictures of floating numbers, whose range is their own, lie beside others; keep one "
                "kind"
            )
    channels = max(array.shape[0] for array in found)
    if channels > found[0].shape[0]:
        check_size(folder, len(names) * channels * found[0][0].nbytes)
    return np.stack([np.broadcast_to(array, (channels, *array.shape[1:])) for array in found])  # grey: channels alike


def _read(name: Path) -> tuple[np.ndarray[Any, Any], bool]:
    """A picture ``[C, H, W]`` and whether its file holds floating numbers."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("pillow", "files", "reading images") from error
    limit, Image.MAX_IMAGE_PIXELS = (
        Image.MAX_IMAGE_PIXELS,
        None,
    )  # sizes are checked here, with a limit that can be raised
    try:
        # By its name, pillow would map some TIFF files to memory, and then mistake height for width in turned ones.
        with (
            name.open("rb") as file,
            reading(f"data: {str(name)!r} is not a readable image"),
            Image.open(file) as image,
        ):
            check_size(name, image.size[0] * image.size[1] * 16)
            image.load()
            tags: Any = dict(getattr(image, "tag_v2", {}))
            upright = ImageOps.exif_transpose(image)
            return _values(upright, name, tags), upright.mode == "F"
    except OSError as error:
        raise DataError(f"data: {str(name)!r} is not a readable image: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _values(image: Any, name: Path, tags: Any) -> np.ndarray[Any, Any]:
    mode = image.mode
    if mode == "F":
        return np.asarray(image, dtype=np.float32)[None]
    if mode.startswith("I;16") or (mode == _PNG_DEEP and name.suffix.lower() == ".png"):
        bits = tags.get(BITS, (16,))
        depth = bits[0] if isinstance(bits, tuple) else int(bits)
        value = np.asarray(image).astype(np.float32) / (2**depth - 1)
        return (1 - value if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else value)[None]
    if mode == "I":
        raise DataError(
            f"data: {str(name)!r} holds 32-bit or signed integers, which have no brightest value; save it with 8 or 16 bits, or "
            "as floating numbers"
        )
    grey = mode in _GREY
    array = np.asarray(image if mode in ("L", "RGB") else image.convert("L" if grey else "RGB"))
    value = array.astype(np.float32) / 255
    return value[None] if grey else value.transpose(2, 0, 1)
