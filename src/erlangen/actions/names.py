"""The string grammar of actions: "points", "2*vectors + invariant(4)", "image(interpolation=bicubic)"."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from erlangen.actions.base import Action, Custom
from erlangen.actions.boxes import Boxes, OrientedBoxes
from erlangen.actions.classes import classes
from erlangen.actions.compose import DirectSum, Factors, Sequence, TreeAction, trajectory
from erlangen.actions.discrete import Graph, Permuted, Rolled
from erlangen.actions.geometric import SPD, Invariant, Points, Pseudovectors, Scaled, Vectors
from erlangen.actions.image import Field, Image
from erlangen.actions.signs import Sign, Swap
from erlangen.actions.views import Cameras, Pixels, Views
from erlangen.errors import ActionError, UnknownNameError

NAMES: dict[str, Callable[..., Action]] = {
    "points": Points,
    "vectors": Vectors,
    "pseudovectors": Pseudovectors,
    "invariant": Invariant,
    "image": Image,
    "field": Field,
    "boxes": Boxes,
    "cameras": Cameras,
    "pixels": Pixels,
    "views": Views,
    "oriented_boxes": OrientedBoxes,
    "rolled": Rolled,
    "permuted": Permuted,
    "graph": Graph,
    "spd": SPD,
    "trajectory": trajectory,
    "sequence": Sequence,
    "sign": Sign,
    "scaled": Scaled,
    "classes": classes,
    "swap": Swap,
}

ActionLike = Action | str | Mapping[str, Any] | list[Any] | tuple[Any, ...] | Callable[..., Any]
"""What is accepted where an action is asked for: an action, a string, a tree of these, or a function ``fn(g, x)``."""

_TERM = re.compile(r"^(?:(\d+)\s*\*\s*)?([A-Za-z_]\w*)\s*(?:\((.*)\))?$", re.DOTALL)
_POWER = re.compile(r"\bscaled\s*\^\s*(-?\d+(?:\.\d+)?)")


def parse_action(spec: ActionLike, *, name: str = "action") -> Action:
    """Read an action from a string, a tree or a function; an `Action` is returned as it is.

    Grammar: ``term + term`` lies along the last axis, ``n*term`` repeats, ``a * b`` acts by the factors of a direct
    product, ``name(arguments)`` passes arguments. `UnknownNameError` names the alternatives.
    """
    if isinstance(spec, Action):
        return spec
    if isinstance(spec, str):
        return _parse(spec, name)
    if isinstance(spec, Mapping):
        return TreeAction({str(key): parse_action(value, name=f"{name}[{key!r}]") for key, value in spec.items()})
    if isinstance(spec, (list, tuple)):
        return TreeAction(tuple(parse_action(value, name=f"{name}[{i}]") for i, value in enumerate(spec)))
    if isinstance(spec, type):
        raise ActionError(f"{name} is the class {spec.__name__}; give an instance, {spec.__name__}()")
    if callable(spec):
        return Custom(spec, getattr(spec, "__name__", "custom"))
    raise ActionError(
        f"{name} is a {type(spec).__name__}; give an action, a string, a dict or tuple, or a function(g, x)"
    )


def _parse(text: str, name: str) -> Action:
    if len(text) > MAX_LENGTH:
        raise UnknownNameError(
            f"{name} = {text[:40]!r}...: a name has at most {MAX_LENGTH} letters, this one {len(text)}"
        )
    terms = _split(text, "+")
    if len(terms) > 1:
        return DirectSum(tuple(action for term in terms for action in _repeated(term, name)))
    factors = _split(text, "*")
    if len(factors) > 1 and not factors[0].strip().isdigit():
        return Factors(tuple(_parse(factor, name) for factor in factors))
    actions = _repeated(text, name)
    return actions[0] if len(actions) == 1 else DirectSum(tuple(actions))


MAX_LENGTH = 1000
"""Letters of the longest name."""

MAX_MULTIPLICITY = 10_000
"""Most copies of an action by a number before it."""


def _repeated(term: str, name: str) -> list[Action]:
    match = _TERM.match(_POWER.sub(r"scaled(\1)", term.strip()))
    if match is None:
        raise UnknownNameError(f"{name} = {term.strip()!r} cannot be read; write for example 'points' or '2*vectors'")
    count, word, arguments = match.groups()
    if word not in NAMES:
        close = difflib.get_close_matches(word, NAMES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownNameError(f"{name} = {word!r} is no known action; {hint}known: {', '.join(NAMES)}")
    args, options = _arguments(word, arguments or "", name)
    try:
        action = NAMES[word](*args, **options)
    except TypeError as error:
        raise ActionError(
            f"{name} = {term.strip()!r}: {error}; see help(er.actions.{NAMES[word].__name__}) for its arguments"
        ) from error
    if count and (len(count) > 9 or not 0 < int(count) <= MAX_MULTIPLICITY):
        raise ActionError(
            f"{name} = {term.strip()!r}: the multiplicity must be positive, and at most {MAX_MULTIPLICITY:,}"
        )
    return [action] * int(count or 1)


def _arguments(word: str, text: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    options: dict[str, Any] = {}
    for piece in _split(text, ",") if text.strip() else []:
        key, equals, value = piece.partition("=")
        if equals and key.strip().isidentifier():
            options[key.strip()] = _value(value.strip())
        elif word == "sequence" and not args:
            args.append(_parse(piece, name))
        else:
            args.append(_value(piece.strip()))
    return args, options


def _value(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two for deep nesting
        return text


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside of parentheses."""
    pieces, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            pieces.append(text[start:i])
            start = i + 1
    return [*pieces, text[start:]]
