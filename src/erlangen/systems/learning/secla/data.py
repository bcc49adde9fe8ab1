"""Documents that are drawn as a collection of news photographs is made up: who is pictured, mentioned, unnamed, and how often.

No photograph and no name of a real person is here: faces are random vectors or pictures of characters, names are invented.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import vonmises_fisher
from torch import Generator, Tensor
from torch.nn.functional import normalize

from erlangen.errors import DataError, check_integer
from erlangen.files import reading
from erlangen.systems.learning.secla._documents import NONAME, WRONG_NAME

KINDS = {
    (1, 0, 0): 287, (1, 1, 0): 274, (1, 2, 0): 101, (2, 0, 0): 76, (2, 1, 0): 42, (1, 0, 1): 38, (1, 1, 1): 32, (1, 3, 0): 22,
    (0, 1, 1): 21, (2, 2, 0): 14, (1, 2, 1): 13, (3, 0, 0): 8, (0, 2, 1): 8, (2, 0, 1): 7, (1, 4, 0): 6, (1, 0, 2): 6,
    (1, 1, 2): 5, (2, 3, 0): 4,
}  # fmt: skip
"""Pictured and named, named alone, pictured alone: documents of each kind per thousand of the news collection (96 % of all).

Counted, as the shares below, over the links that the authors publish with their code (Apache-2.0); see `read_links`.
"""

ONCE = 0.32
"""Share of the faces there whose person is seen once."""

ABSENT_ONCE = 0.35
"""Share of the names without a face there whose person is never seen."""

TOGETHER = 0.4
"""Share of the pairs of names there that occur in more than one caption."""

STEEPNESS = 0.8
"""Exponent of the frequency of the others by rank."""


class Corpus(NamedTuple):
    """Who is where: the person on each face (0: no name, -1: wrong annotation), the names in each caption, how many names."""

    faces: list[list[int]]
    captions: list[list[int]]
    n_names: int


def news(count: int, people: int, *, newcomers: bool = True, generator: Generator) -> Corpus:
    """Documents like those of the news collection.

    Args:
        count: of documents.
        people: who come again and again, the names 1 to `people`; frequencies fall with the rank.
        newcomers: whether others come once, in the shares of the collection.
        generator: of all choices.

    Raises:
        ErlangenError: no documents, or fewer than ten people.
    """
    check_integer("count", count, 1)
    check_integer("people", people, 10)
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    weights = np.arange(1, people + 1) ** -STEEPNESS
    weights /= weights.sum()
    friends = rng.integers(1, people + 1, (people + 1, 2))
    kinds = np.array(list(KINDS))
    chosen = kinds[rng.choice(len(kinds), count, p=np.array(list(KINDS.values())) / sum(KINDS.values()))]
    used = people
    faces: list[list[int]] = []
    captions: list[list[int]] = []
    for pictured, absent, unnamed in chosen.tolist():
        names: list[int] = []
        while len(names) < pictured + absent:
            once = ONCE if len(names) < pictured else ABSENT_ONCE
            if newcomers and rng.random() < once:
                used += 1
                names.append(used)
                continue
            first = names[0] if names else people + 1
            close = first <= people and rng.random() < TOGETHER
            one = int(rng.choice(friends[first]) if close else rng.choice(people, p=weights) + 1)
            if one not in names:
                names.append(one)
        faces.append(rng.permutation([*names[:pictured], *[NONAME] * unnamed]).tolist())
        captions.append(rng.permutation(names).tolist())
    return Corpus(faces, captions, used + 1)


PLACEHOLDER = 1772
"""The number that stands for NONAME, and for no person, in the names that the authors publish."""


def read_links(path: str | Path, *, placeholder: int | None = PLACEHOLDER) -> Corpus:
    """The links of a news collection, without names, from a JSON file.

    ``{"n_names": 3, "documents": [{"faces": [0, -1], "names": [0, 2]}]}`` is one document with two faces: the first is that of
    the name 0, the other's annotation is wrong; its caption has the names 0 and 2.

    Args:
        path: of the file.
        placeholder: a number that stands for "no name" among the faces, and is left out of captions; None if there is none.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    with reading(f"links = {str(path)!r} cannot be read"):
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        documents: list[dict[str, list[int]]] = content["documents"]
        count = check_integer("links: n_names", content["n_names"], 1, error=DataError)
        faces = [[_person(name, count, placeholder) for name in one["faces"]] for one in documents]
        captions = [
            [_person(name, count, placeholder) for name in one["names"] if name != placeholder] for one in documents
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"links = {str(path)!r} has no {error}; give the file links.json of the links") from error
    return Corpus(faces, captions, count + 1)


def _person(number: int, count: int, placeholder: int | None) -> int:
    if not -1 <= number < count:
        raise DataError(f"links: the name {number} is none of 0 to {count - 1}, nor -1")
    return {placeholder: NONAME, -1: WRONG_NAME}.get(number, number + 1)


# --- faces -----------------------------------------------------------------------------------------------------------
def simulated_faces(people: Sequence[int], dim: int, concentration: float, generator: Generator) -> Tensor:
    """Unit vectors ``[n, dim]``: of one person about one centre, by a von Mises-Fisher distribution.

    Faces without a name, 0 or -1, have a centre of their own each.
    """
    who = torch.tensor(people)
    centres = normalize(torch.randn(int(who.max()) + 1, dim, generator=generator, dtype=torch.float64), dim=-1)
    alone = normalize(torch.randn(len(who), dim, generator=generator, dtype=torch.float64), dim=-1)
    centre = torch.where((who > 0)[:, None], centres[who.clamp(min=0)], alone)
    pole = torch.zeros(dim, dtype=torch.float64)
    pole[0] = 1
    seed = int(torch.randint(2**31, (), generator=generator))
    around: Any = vonmises_fisher(pole.numpy(), concentration)  # pyright: ignore[reportArgumentType]
    x = torch.from_numpy(around.rvs(len(who), random_state=seed))
    mirror = normalize(centre - pole, dim=-1)  # the reflection that takes the pole to the centre
    return (x - 2 * (x * mirror).sum(-1, keepdim=True) * mirror).float()


# --- names -----------------------------------------------------------------------------------------------------------
def invented_names(count: int, generator: Generator) -> list[str]:
    """So many different names of two words, of syllables; surnames occur more than once."""
    onsets = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "ch", "st", "tr")
    vowels, ends = ("a", "e", "i", "o", "u", "ai"), ("n", "r", "s", "l", "k")
    found: dict[str, None] = {}
    while len(found) < count:
        u = torch.rand(9, generator=generator).tolist()

        def pick(options: Sequence[str], value: float) -> str:
            return options[int(value * len(options))]

        first = pick(onsets, u[0]) + pick(vowels, u[1]) + pick(onsets, u[2]) + pick(vowels, u[3])
        last = pick(onsets, u[4]) + pick(vowels, u[5]) + pick(onsets, u[6]) + pick(vowels, u[7]) + pick(ends, u[8])
        found[f"{first} {last}"] = None
    return list(found)


def hashed_names(names: Sequence[str], dim: int = 256) -> Tensor:
    """Unit vectors ``[n, dim]`` of names: counts of their groups of two to four letters, hashed with signs.

    Raises:
        DataError: an empty name.
    """
    rows = torch.zeros(len(names), dim)
    for row, name in zip(rows, names, strict=True):
        if not name.strip():
            raise DataError(f"names: {name!r} is empty; leave it out of the caption")
        text = f"<{name.lower()}>"
        for n in (2, 3, 4):
            for begin in range(len(text) - n + 1):
                code = zlib.crc32(text[begin : begin + n].encode())
                row[code % dim] += 1 if code >> 16 & 1 else -1
    return normalize(rows, dim=-1)


def name_table(count: int, dim: int, generator: Generator) -> Tensor:
    """Features ``[count, dim]`` of invented names, the token [UNK] for NONAME first, as the authors encode it."""
    return hashed_names(["[UNK]", *invented_names(count - 1, generator)], dim)
