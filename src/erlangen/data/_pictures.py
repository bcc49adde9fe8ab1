"""Pictures in files as arrays: any depth, brightness from 0 to 1, upright."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from erlangen.errors import DataError, MissingExtraError
from erlangen.files import check_size, reading

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}

_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_PNG_DEEP = "I"
"""How older versions of pillow open PNG files of 16 bits."""

BITS, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0

_DEEP = re.compile(r"(RGB|RGBA|RGBX|LA);16([LBN])")
"""How pillow names the order of bytes of several channels of 16 bits, of which it keeps the high bytes alone."""


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
            order = _deep_order(image, name)
            image.load()
            tags: Any = dict(getattr(image, "tag_v2", {}))
            if order is not None:
                return _deep_values(image, file, order), False
            upright = ImageOps.exif_transpose(image)
            return _values(upright, name, tags), upright.mode == "F"
    except OSError as error:
        raise DataError(f"data: {str(name)!r} is not a readable image: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _deep_order(image: Any, name: Path) -> str | None:
    """The order of bytes in colour, or grey with transparency, of 16 bits; None for pictures that pillow reads in full."""
    bits = dict(getattr(image, "tag_v2", {})).get(BITS, ())
    orders = {_byte_order(tile[3]) for tile in image.tile}
    several = isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8  # pyright: ignore[reportUnknownArgumentType]
    if not several and not any(_DEEP.fullmatch(order) for order in orders):
        return None
    order = orders.pop()
    if orders or not _DEEP.fullmatch(order) or (order.startswith("LA") and image.mode != "RGBA"):
        raise DataError(
            f"data: {str(name)!r} holds more than 8 bits for each of several channels in an order of which pillow reads 8; save "
            "it as PNG, or with 8 bits"
        )
    return order


def _byte_order(arguments: Any) -> str:
    """What pillow calls the order of bytes, the first argument of a decoder; "" for decoders that have other arguments."""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _deep_values(image: Any, file: BinaryIO, order: str) -> np.ndarray[Any, Any]:
    """All 16 bits: the bytes that pillow keeps, and those that it keeps when the order of bytes is said to be the other."""
    from PIL import Image, ImageOps

    kind, ends = order.split(";16")
    little = ends == "L" or (ends == "N" and sys.byteorder == "little")
    other = "RGBA" if kind == "LA" else f"{kind};16{'B' if little else 'L'}"  # of LA, the four bytes of a pixel
    file.seek(0)
    with Image.open(file) as opened:
        again: Any = opened
        again.tile = [
            _Tile(tile[0], tile[1], tile[2], other if isinstance(tile[3], str) else (other, *tile[3][1:]))
            for tile in again.tile
        ]
        again.load()
        low = np.asarray(ImageOps.exif_transpose(again)).astype(np.float32)
    if kind == "LA":
        return ((256 * low[..., 0] + low[..., 1]) / 65535)[None]
    high = np.asarray(ImageOps.exif_transpose(image)).astype(np.float32)
    return ((256 * high + low) / 65535)[..., :3].transpose(2, 0, 1)


class _Tile(NamedTuple):
    """A piece of a file, as pillow describes it."""

    codec_name: str
    extents: tuple[int, int, int, int] | None
    offset: int
    args: Any


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
