"""Characters rendered from the fonts that matplotlib ships: many classes, and digits of another make than handwriting."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.data.images import ImageData
from erlangen.errors import DataError, UnknownNameError, check_integer, check_sizes
from erlangen.groups import planar_rotation

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
)
"""Faces with more than 2,000 characters in common: Latin, Greek, Cyrillic, numbers and signs (DejaVu, free licence)."""

ALIKE = 0.93
"""Characters whose shapes, each fitted into a square, have a larger cosine than this count as one."""


def glyphs(
    classes: int | str,
    per_class: int,
    *,
    size: int = 28,
    fonts: Sequence[str] = FONTS,
    degrees: float = 10.0,
    shear: float = 0.1,
    scale: tuple[float, float] = (0.85, 1.15),
    shift: float = 2.0,
    blur: float = 0.5,
    noise: float = 0.05,
    generator: Generator | None = None,
) -> ImageData:
    """Pictures of characters, each in a font drawn at random, distorted, blurred and noisy.

    >>> data = glyphs("0123456789", per_class=3, generator=torch.Generator().manual_seed(0))
    >>> data.x.shape, data.y[:4].tolist(), data.classes[9]
    (torch.Size([30, 1, 28, 28]), [0, 0, 0, 1], '9')

    Args:
        classes: the characters, or how many: the first ones of `glyph_characters`.
        per_class: pictures of each.
        size: height and width, pixels.
        fonts: names of files among matplotlib's fonts; other ones in training than in testing make a test of new styles.
        degrees: largest rotation to both sides.
        shear: largest shear to both sides.
        scale: range of the factors of width and height.
        shift: largest shift along each axis to both sides, pixels.
        blur: standard deviation of a Gaussian, pixels; 0 for none.
        noise: standard deviation of normal noise; values are cut to 0..1.
        generator: of all random choices; torch's global stream without it.

    Returns:
        Pictures ``[classes * per_class, 1, size, size]`` float32, white on black, class by class.

    Raises:
        DataError: a character that a font lacks, or one twice, or more classes than there are.
        UnknownNameError: no such font.
    """
    check_sizes(per_class=per_class, size=size)
    fonts = tuple(fonts)
    characters = glyph_characters(classes, fonts=fonts) if isinstance(classes, int) else tuple(classes)
    if not characters or len(set(characters)) != len(characters):
        raise DataError(f"classes = {classes!r}: give different characters, at least one")
    shapes = _rendered(characters, fonts, size)  # [fonts, classes, size, size]
    y = torch.arange(len(characters)).repeat_interleave(per_class)
    font = torch.randint(len(fonts), y.shape, generator=generator)
    x = shapes[font, y][:, None]
    x = _distorted(x, degrees, shear, scale, shift, generator)
    if blur > 0:
        x = _blurred(x, blur)
    if noise > 0:
        x = (x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return ImageData(x, y, characters)


def glyph_characters(count: int | None = None, *, fonts: Sequence[str] = FONTS) -> tuple[str, ...]:
    """Letters, numbers and signs that all of the fonts have and that look different, in the order of Unicode.

    Of characters that look alike, such as the Latin, Greek and Cyrillic A, or a capital that is a larger small letter, the first
    one is kept.

    Args:
        count: how many; all without it.
        fonts: names of files among matplotlib's fonts.

    Raises:
        DataError: more than there are.
    """
    known = _distinct(tuple(fonts))
    if count is None:
        return known
    check_integer("count", count, 1)
    if count > len(known):
        raise DataError(
            f"classes = {count}: these fonts have {len(known)} characters that look different; ask for fewer"
        )
    return known[:count]


@functools.lru_cache(maxsize=8)
def _distinct(fonts: tuple[str, ...]) -> tuple[str, ...]:
    from matplotlib.ft2font import FT2Font

    tables = [set(FT2Font(str(_path(font))).get_charmap()) for font in fonts]
    common = sorted(set.intersection(*tables))
    letters = [chr(code) for code in common if unicodedata.category(chr(code))[0] in "LNSP"]
    drawn = _rendered(tuple(letters), fonts[:1], 64)[0]
    squares: list[Tensor] = []
    kept: list[str] = []
    for letter, picture in zip(letters, drawn, strict=True):
        square = _fitted(picture)
        if square is None:  # a space
            continue
        if squares and float((torch.stack(squares) @ square).max()) > ALIKE:
            continue
        squares.append(square)
        kept.append(letter)
    return tuple(kept)


def _fitted(picture: Tensor) -> Tensor | None:
    """The ink stretched to a square, centred, as a unit vector."""
    rows, columns = (picture > 0.5).any(1).nonzero()[:, 0], (picture > 0.5).any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    ink = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # Thin strokes keep their form: a bar is not blown up to a block.
    side = max(ink.shape)
    pad = [(side - n) // 2 for n in ink.shape]
    ink = F.pad(ink, (pad[1], side - ink.shape[1] - pad[1], pad[0], side - ink.shape[0] - pad[0]))
    square = F.interpolate(ink[None, None], size=(24, 24), mode="area")[0, 0].flatten()
    return square / square.norm()


@functools.lru_cache(maxsize=8)
def _rendered(characters: tuple[str, ...], fonts: tuple[str, ...], size: int) -> Tensor:
    """Pictures ``[fonts, characters, size, size]`` in 0..1, each character centred by its ink."""
    from PIL import Image, ImageDraw, ImageFont

    sets: list[Tensor] = []
    for name in fonts:
        path = _path(name)
        _check_characters(path, characters)
        font = ImageFont.truetype(str(path), round(0.8 * size))
        pictures = np.zeros((len(characters), size, size), dtype=np.uint8)
        for picture, character in zip(pictures, characters, strict=True):
            canvas = Image.new("L", (size, size))
            left, top, right, bottom = font.getbbox(character)
            place = ((size - right - left) / 2, (size - bottom - top) / 2)
            ImageDraw.Draw(canvas).text(place, character, fill=255, font=font)
            picture[:] = np.asarray(canvas)
        sets.append(torch.from_numpy(pictures).float() / 255)
    return torch.stack(sets)


def _check_characters(path: Path, characters: tuple[str, ...]) -> None:
    from matplotlib.ft2font import FT2Font

    table = FT2Font(str(path)).get_charmap()
    missing = [character for character in characters if ord(character) not in table]
    if missing:
        raise DataError(
            f"the font {path.stem} has no {missing[0]!r} (U+{ord(missing[0]):04X}); choose other characters or fonts"
        )


def _path(font: str) -> Path:
    from matplotlib import get_data_path

    folder = Path(get_data_path()) / "fonts" / "ttf"
    path = folder / f"{font}.ttf"
    if Path(font).name != font or not path.is_file():
        raise UnknownNameError(f"fonts: {font!r} is none of {', '.join(sorted(p.stem for p in folder.glob('*.ttf')))}")
    return path


def _distorted(
    x: Tensor, degrees: float, shear: float, scale: tuple[float, float], shift: float, generator: Generator | None
) -> Tensor:
    """Each picture by its own affine map about the middle, bilinear; what comes from outside is black."""
    u = torch.rand(6, len(x), generator=generator, dtype=torch.float64)
    angle, slant = (2 * u[0] - 1) * math.radians(degrees), (2 * u[1] - 1) * shear
    factors = scale[0] + (scale[1] - scale[0]) * u[2:4]
    upper = torch.stack([factors[0], slant * factors[1], torch.zeros_like(slant), factors[1]], -1).unflatten(-1, (2, 2))
    inverse = torch.linalg.inv(planar_rotation(angle) @ upper)  # where a pixel of the result comes from
    place = (2 * u[4:6] - 1).mT * (2 * shift / x.shape[-1])  # affine_grid counts from -1 to 1
    theta = torch.cat([inverse, -(inverse @ place[..., None])], -1).to(x)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    weights = (weights / weights.sum()).reshape(1, 1, 1, -1)
    return F.conv2d(F.conv2d(x, weights, padding=(0, reach)), weights.mT, padding=(reach, 0))
