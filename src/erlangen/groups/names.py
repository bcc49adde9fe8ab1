"""From a name such as "SO(3) x S5" to a group."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import NamedTuple

import torch

from erlangen.errors import GroupError, UnknownNameError
from erlangen.groups.affine import SE, Affine, E, SemidirectProduct, Similarity, Translation
from erlangen.groups.base import Group
from erlangen.groups.finite import Cyclic, Dihedral, FiniteMatrixGroup, Icosahedral, Octahedral, Tetrahedral
from erlangen.groups.linear import CSO, SL, SO, GLPlus, Lorentz, O, Scaling, TrivialGroup
from erlangen.groups.monomial import Hyperoctahedral, Monomial
from erlangen.groups.permutations import Shifts, Symmetric
from erlangen.groups.products import DirectProduct
from erlangen.groups.symplectic import Sp


class _Entry(NamedTuple):
    build: Callable[..., Group]
    parameters: tuple[str, ...] = ()  # integers, but H is a group; "..." stands for more of the same
    options: tuple[str, ...] = ()  # keywords with numbers
    by_place: int = 0  # so many of the options may be written without their names


def _monomial(n: int, *, sets: float = 1, **scale: float) -> Group:
    return Monomial(n, sets=int(sets) if sets == int(sets) else sets, **scale)  # pyright: ignore[reportArgumentType]


def _orthogonal(n: int) -> Group:
    """O(n); O(1) is the group of two elements that change the sign of a line, with indices as elements."""
    if n != 1:
        return O(n)
    return FiniteMatrixGroup("O(1)", torch.tensor([[[1.0]], [[-1.0]]], dtype=torch.float64))


_GROUPS = {
    "SO": _Entry(SO, ("n",)),
    "O": _Entry(_orthogonal, ("n",)),
    "SE": _Entry(SE, ("n",), ("translation_scale",)),
    "E": _Entry(E, ("n",), ("translation_scale",)),
    "Translation": _Entry(Translation, ("n",), ("scale",), by_place=1),
    "Scaling": _Entry(Scaling, ("n",), ("scale",)),
    "Similarity": _Entry(Similarity, ("n",), ("scale", "translation_scale")),
    "CSO": _Entry(CSO, ("n",), ("scale",)),
    "SL": _Entry(SL, ("n",), ("scale",)),
    "Sp": _Entry(Sp, ("n",), ("scale",)),
    "GL+": _Entry(GLPlus, ("n",), ("scale",)),
    "Affine": _Entry(Affine, ("n",), ("scale", "translation_scale")),
    "Lorentz": _Entry(Lorentz, ("p", "q"), ("scale",)),
    "SemidirectProduct": _Entry(SemidirectProduct, ("H",), ("translation_scale",)),
    "TrivialGroup": _Entry(TrivialGroup, ("n",)),
    "Cyclic": _Entry(Cyclic, ("n",)),
    "Dihedral": _Entry(Dihedral, ("n",)),
    "Flip": _Entry(lambda: Dihedral(1)),
    "Symmetric": _Entry(Symmetric, ("n",)),
    "Hyperoctahedral": _Entry(Hyperoctahedral, ("n",)),
    "Monomial": _Entry(_monomial, ("n",), ("sets", "scale")),
    "Shifts": _Entry(Shifts, ("size", "...")),
    "Tetrahedral": _Entry(Tetrahedral),
    "Octahedral": _Entry(Octahedral),
    "O_h": _Entry(lambda: Octahedral(inversion=True)),
    "Icosahedral": _Entry(Icosahedral),
    "I_h": _Entry(lambda: Icosahedral(inversion=True)),
}
_ALIASES = {"T": "Translation", "GLPlus": "GL+", "C": "Cyclic", "Z": "Cyclic", "D": "Dihedral", "S": "Symmetric"}
_SHORT = re.compile(r"([A-Za-z]+\+?)(\d+)")  # C8, D4, S5, SO3, GL+2
_CALL = re.compile(r"([A-Za-z_]\w*\+?)\s*(?:\((.*)\))?")
MAX_LENGTH = 1000
"""Letters of the longest name."""

_PRODUCT = re.compile(r"\s+[x×]\s+")
_COMMA = re.compile(r",")
_OPTION = re.compile(r"(\w+)\s*=\s*(.*)")


def group(name: str | Group) -> Group:
    """The group of a name; a group is returned as it is.

    Names are those of `Group.name`: ``SO(3)``, ``O(3)``, ``SE(2)``, ``E(3)``, ``Translation(2)`` or ``T(2)``,
    ``Scaling(3)``, ``CSO(2)``, ``Similarity(2)``, ``SL(2)``, ``Sp(2)``, ``GL+(2)``, ``Affine(2)``, ``Lorentz(1,3)``,
    ``Cyclic(8)``, ``C8`` or ``Z8``, ``Dihedral(4)`` or ``D4``, ``Flip`` (left to right, ``Dihedral(1)``), ``Symmetric(5)``
    or ``S5``, ``Monomial(5)`` and ``Hyperoctahedral(5)`` (permutations with factors, with signs), ``Shifts(28,28)``,
    ``O(1)`` (a sign), ``Octahedral``, ``O_h``, ``Icosahedral``, ``I_h``, ``Tetrahedral``,
    ``SemidirectProduct(O_h)``, and products such as ``SO(3) x S5``. Groups with a sampling proposal take its width:
    ``SL(2, scale=0.1)``, ``Translation(2, 3)``. One number may stand without parentheses: ``SO3``, ``E2``.

    >>> group("C8 x SO(3)")
    Cyclic(8) x SO(3)

    Raises:
        UnknownNameError: no such name; the message suggests near ones and lists all.
        GroupError: the number, the kind or the values of the arguments do not fit.
    """
    if isinstance(name, Group):
        return name
    if not isinstance(name, str):
        raise UnknownNameError(f"group is a {type(name).__name__}; give a Group, or its name such as 'SO(3)'")
    if len(name) > MAX_LENGTH:
        raise UnknownNameError(
            f"group = {name[:40]!r}...: a name has at most {MAX_LENGTH} letters, this one {len(name)}"
        )
    factors = [_single(part) for part in _split(name.strip(), _PRODUCT) or [""]]
    return factors[0] if len(factors) == 1 else DirectProduct(*factors)


def _single(text: str) -> Group:
    short = _SHORT.fullmatch(text)
    match = _CALL.fullmatch(f"{short[1]}({short[2]})" if short else text)
    key = _ALIASES.get(match[1], match[1]) if match else text
    if match is None or key not in _GROUPS:
        raise UnknownNameError(_unknown(text, match[1] if match else text))
    positional, keywords = _arguments(text, key, _split(match[2] or "", _COMMA))
    return _GROUPS[key].build(*positional, **keywords)


def _arguments(text: str, key: str, words: list[str]) -> tuple[list[int | Group], dict[str, float]]:
    entry = _GROUPS[key]
    keywords: dict[str, float] = {}
    while words and (option := _OPTION.fullmatch(words[-1])):
        if option[1] not in entry.options:
            raise GroupError(f"{text!r}: {_signature(key)} has no option {option[1]!r}")
        keywords[option[1]] = _number(text, option[2])
        words = words[:-1]
    names = entry.options[: entry.by_place]
    for option, word in zip(names, words[len(entry.parameters) :], strict=False):
        if option in keywords:
            raise GroupError(f"{text!r} gives {option} twice")
        keywords[option] = _number(text, word)
        words = words[:-1]
    is_open = entry.parameters[-1:] == ("...",)
    if (is_open and not words) or (not is_open and len(words) != len(entry.parameters)):
        wanted = "one or more" if is_open else str(len(entry.parameters))
        raise GroupError(f"{text!r} has {len(words)} argument(s), but {_signature(key)} takes {wanted}")
    takes_group = entry.parameters == ("H",)
    return [group(word) if takes_group else _integer(text, key, word) for word in words], keywords


def _integer(text: str, key: str, word: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", word):
        raise GroupError(f"{text!r}: {word!r} is not an integer; write {_signature(key)} with integers")
    if len(word) > 18:
        raise GroupError(f"{text[:40]!r}: {word[:20]}... is too large; write {_signature(key)} with smaller integers")
    return int(word)


def _number(text: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise GroupError(f"{text!r}: {word!r} is not a number") from None


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Parts of a text between separators outside of parentheses, stripped; an empty text has none."""
    parts: list[str] = []
    depth = start = i = 0
    while i < len(text):
        depth += (text[i] == "(") - (text[i] == ")")
        match = separator.match(text, i) if depth == 0 else None
        if match:
            parts.append(text[start:i].strip())
            start = match.end()
        i = max(i + 1, start)
    return [*parts, text[start:].strip()] if text.strip() or parts else parts


def _signature(key: str) -> str:
    parameters = _GROUPS[key].parameters
    return f"{key}({', '.join(parameters)})" if parameters else key


def _unknown(text: str, head: str) -> str:
    known = {word.lower(): _signature(_ALIASES.get(word, word)) for word in (*_GROUPS, *_ALIASES)}
    near = difflib.get_close_matches(head.rstrip("0123456789").lower(), known, n=3, cutoff=0.6)
    suggestion = f"did you mean {' or '.join(dict.fromkeys(known[word] for word in near))}? " if near else ""
    return f"unknown group {text!r}; {suggestion}known are: {', '.join(map(_signature, _GROUPS))}"
