"""Options of an experiment: its keyword arguments beyond the run, read from texts by their annotations."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from erlangen.errors import DataError, UnknownNameError
from erlangen.survey.claims import ClaimError

_WORDS = {"true": True, "false": False}


def options_of(experiment: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of an experiment after the run (or scale and seed); ``*args`` and ``**kwargs`` are none."""
    parameters = list(inspect.signature(experiment).parameters.values())[1 if takes_run(experiment) else 2 :]
    return {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def takes_run(experiment: Callable[..., Any]) -> bool:
    """Whether an experiment is ``experiment(run, ...)``, or ``experiment(scale, seed, ...)`` as version 0.1.0 had it."""
    return next(iter(inspect.signature(experiment).parameters), "") == "run"


def check_options(experiment: Callable[..., Any], names: Iterable[str], system: str) -> None:
    """Raise `UnknownNameError` for the first name that is no option of the experiment."""
    known = options_of(experiment)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownNameError(
                f"{system!r} has no option {name!r}; {hint}its options are {', '.join(known) or 'none'}"
            )


def read_options(experiment: Callable[..., Any], words: Sequence[str], system: str) -> dict[str, Any]:
    """Values of ``name=value`` words, each of the type that the experiment's signature gives.

    Args:
        experiment: the function ``experiment(run, ...)``.
        words: such as ``"epochs=5"``, ``"degrees=1,2,3"``, ``"rule=none"``.
        system: name for messages.

    Raises:
        DataError: a word is not of this form, sets a name a second time, or its value has another type.
        UnknownNameError: the experiment has no such option.
        ClaimError: an option's type cannot be read from text.
    """
    texts: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise DataError(f"--set {word!r}: write name=value, as in epochs=5")
        if name in texts:
            raise DataError(f"--set {word!r}: {name!r} is set twice, before as {texts[name]!r}")
        texts[name] = value
    check_options(experiment, texts, system)
    kinds = _kinds(experiment, texts, system)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            values[name] = _read(text, kinds[name])
        except ValueError:
            raise DataError(f"--set {name}={text}: {name!r} takes {_words(kinds[name])}") from None
        except TypeError:
            raise ClaimError(
                f"option {name!r} of {system!r} is {kinds[name]}, which no text can give; call run() of Python"
            ) from None
    return values


def describe_options(experiment: Callable[..., Any]) -> list[str]:
    """One text per option, such as ``"epochs: int = 5"``."""
    return [
        str(parameter).replace("'", "", 2) if isinstance(parameter.annotation, str) else str(parameter)
        for parameter in options_of(experiment).values()
    ]


def _kinds(experiment: Callable[..., Any], names: Mapping[str, str], system: str) -> dict[str, Any]:
    """Annotations of the options; without one, the type of the default."""
    try:
        hints = typing.get_type_hints(experiment) if names else {}
    except NameError as error:
        raise ClaimError(f"the annotations of experiment of {system!r} cannot be read: {error}") from error
    defaults = {name: parameter.default for name, parameter in options_of(experiment).items()}
    return {name: hints.get(name, type(defaults[name])) for name in names}


def _read(text: str, kind: Any) -> Any:
    """The value of a text; ValueError when it is not of the kind, TypeError when the kind has no texts."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first(text, parts)
    if origin is Literal:
        choices = {str(choice): choice for choice in parts}
        return choices[text] if text in choices else _refuse(text)
    if origin in (tuple, list, Sequence):
        words = [word.strip() for word in text.split(",")]
        fixed = origin is tuple and parts[-1] is not Ellipsis  # ``tuple[int, float]`` has as many items as it says
        items = [
            _read(word, part) for word, part in zip(words, parts if fixed else [parts[0]] * len(words), strict=True)
        ]
        return tuple(items) if origin is tuple else items
    if kind is types.NoneType:
        return None if text.lower() == "none" else _refuse(text)
    if kind is bool:
        return _WORDS[text.lower()] if text.lower() in _WORDS else _refuse(text)
    if kind in (int, float, str, Path):
        return kind(text)
    raise TypeError(kind)


def _first(text: str, kinds: Sequence[Any]) -> Any:
    """The first kind that can read the text: None and numbers before texts, which take everything."""
    for kind in sorted(kinds, key=lambda kind: (kind is not types.NoneType, kind in (str, Path))):
        try:
            return _read(text, kind)
        except ValueError:
            continue
    return _refuse(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _words(kind: Any) -> str:
    """A type as a reader would say it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in parts)
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    if origin in (tuple, list, Sequence):
        several = ", ".join(_words(part) for part in parts if part is not Ellipsis)
        return (
            f"{several}, with commas between them"
            if len(parts) > 1 and parts[-1] is not Ellipsis
            else f"{several}, several with commas between them"
        )
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "none"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
