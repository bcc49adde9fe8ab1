"""Text that every Python brings along: the sources of its standard library, as characters and as words."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenError, check_integer, is_whole

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""The 96 characters of `library_text`: the end of a line, and what ASCII prints."""

_STRANGE = re.compile(r"[^\n -~]")


def library_text(part: int = 0, parts: int = 2, *, folder: Path | str | None = None) -> str:
    """The modules of Python's standard library as one text of the characters in `CHARACTERS`.

    >>> text = library_text(0, 8)
    >>> set(text) <= set(CHARACTERS)
    True

    Files are dealt out by turns in the order of their names, so that parts have no file in common. Other characters are left out.
    The text is that of the Python that runs, so figures made with it differ a little from one version to the next. Copyright:
    Python Software Foundation, PSF licence.

    Args:
        part: which part, from 0 on.
        parts: how many there are.
        folder: another folder of ``.py`` files.

    Raises:
        DataError: there are fewer files than parts, as where Python comes without its sources.
        ErlangenError: there is no such part.
    """
    check_integer("parts", parts, 1)
    if not is_whole(part, 0, parts - 1):
        raise ErlangenError(f"part = {part!r}: there are {parts} parts, give 0 to {parts - 1}")
    place = Path(folder if folder is not None else sysconfig.get_paths()["stdlib"])
    files = sorted(place.glob("*.py"))
    if len(files) < parts:
        raise DataError(f"folder = {str(place)!r} has {len(files)} files of Python; give one with {parts} at least")
    text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files[part::parts])
    return _STRANGE.sub("", text.replace("\t", "    "))


def character_ids(text: str) -> Tensor:
    """Places of the characters in `CHARACTERS`, int64 ``[N]``.

    >>> character_ids("\\n !").tolist()
    [0, 1, 2]

    Raises:
        DataError: a character is none of them.
    """
    strange = _STRANGE.search(text)
    if strange is not None:
        raise DataError(
            f"text has the character {strange[0]!r}, which is none of erlangen.data.CHARACTERS; leave it out"
        )
    codes = torch.from_numpy(np.frombuffer(bytearray(text, "ascii"), dtype=np.uint8)).long()
    return (codes - 31).clamp(min=0)  # a space is 32; the end of a line, 10, comes first


def words(text: str) -> list[str]:
    """Runs of letters, in small letters.

    >>> words("def Fit(x1): return x1")
    ['def', 'fit', 'x', 'return', 'x']
    """
    return re.findall("[a-z]+", text.lower())


def word_ids(found: list[str], known: list[str]) -> Tensor:
    """Places of words among the known ones, from 1 on, int64 ``[N]``; 0 for all others.

    >>> word_ids(["def", "fit", "x"], ["fit", "def"]).tolist()
    [2, 1, 0]
    """
    ids = {word: i for i, word in enumerate(known, 1)}
    return torch.tensor([ids.get(word, 0) for word in found], dtype=torch.int64)


def common_words(found: list[str], n: int) -> list[str]:
    """The n most frequent words, the most frequent first; of equals the first in the alphabet.

    >>> common_words(["b", "c", "a", "c"], 2)
    ['c', 'a']

    Raises:
        ErlangenError: n is below 1.
        DataError: there are not so many different words.
    """
    check_integer("n", n, 1)
    counts = Counter(found)
    if len(counts) < n:
        raise DataError(f"there are {len(counts)} different words, fewer than n = {n}; give more text")
    return sorted(counts, key=lambda word: (-counts[word], word))[:n]
