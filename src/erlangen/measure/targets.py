"""What command lines name: models, actions and groups, "package.module:name", "file.py:name", "model.onnx"."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from erlangen.actions import Action, ActionLike
from erlangen.errors import DataError, ModelError
from erlangen.groups import Domain, Group, Range, domain
from erlangen.measure.models import ModelLike
from erlangen.measure.onnx_files import onnx

FROM_FILES: list[ModuleType] = []
"""Modules that were read from a file: workers elsewhere cannot import them and get them by value."""

_RUN: dict[tuple[str, int, int], ModuleType] = {}
"""Files that were run, by path, time of change and size."""


def load_target(
    target: str, *, fixed: Sequence[str] = (), batch_axis: Sequence[str] = (), outputs: Sequence[str] = ()
) -> ModelLike:
    """The model that a command line names. Importing it runs the user's code, as naming it asks for.

    Args:
        target: ``file.onnx``, ``package.module:name`` or ``file.py:name``; a class is called without arguments.
        fixed, batch_axis: options of `erlangen.measure.onnx` as words ``name=number``.
        outputs: names of outputs of an ONNX file, one for a tensor as answer, several for a tuple.

    Raises:
        DataError: there is no such file, module or name, or options for something else than an ONNX file.
        ModelError: the name is no model, or importing or building it failed.
    """
    if target.endswith(".onnx"):
        return onnx(
            target,
            fixed={name: _read_number("--fixed", word, value) for word, name, value in _pairs("--fixed", fixed)},
            batch_axis={name: _axis(word, value) for word, name, value in _pairs("--batch-axis", batch_axis)},
            outputs=(outputs[0] if len(outputs) == 1 else outputs) or None,
        )
    if given := [o for o, v in (("--fixed", fixed), ("--batch-axis", batch_axis), ("--outputs", outputs)) if v]:
        raise DataError(f"{', '.join(given)}: these are options of .onnx files, and the target is {target!r}")
    if ":" not in target:
        raise DataError(f"target = {target!r}: write package.module:name, file.py:name or file.onnx")
    found = _built(load_object(target, "target"), target, "target")
    if not callable(found):
        raise ModelError(f"target = {target!r} is a {type(found).__name__}, which cannot be called")
    return found


def is_object_name(text: str) -> bool:
    """Whether a text names an object, ``file.py:name`` or ``package.module:name``; no name of a group or action has a colon."""
    return ":" in text


def load_object(target: str, option: str) -> Any:
    """What ``package.module:name`` or ``file.py:name`` stands for; the module is imported, or the file run, and nothing else.

    Args:
        target: the text.
        option: what messages call it.

    Raises:
        DataError: there is no such file, module or name.
        ModelError: importing failed.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise DataError(f"{option} = {target!r}: write package.module:name or file.py:name")
    module = module_from_file(Path(place), option) if place.endswith(".py") else _from_package(place, option)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [key for key in vars(module) if not key.startswith("_")]
            raise DataError(f"{option} = {target!r}: {place} has no {part!r}; it has {', '.join(public[:12])}")
        found = getattr(found, part)
    return found


def load_action(text: str, option: str) -> ActionLike:
    """An action of the command line: a name as "points", or an object of the user, ``file.py:name``.

    The object may be an `Action`, a class of one without arguments, a function ``fn(g, x)``, or a dict or tuple of these.

    Raises:
        DataError, ModelError: as `load_object`; or the object is no action.
    """
    if not is_object_name(text):
        return text
    found = _built(load_object(text, option), text, option)
    if isinstance(found, (Action, Mapping, list, tuple, str)) or callable(found):
        return cast("ActionLike", found)
    raise ModelError(
        f"{option} = {text!r} is a {type(found).__name__}; name a function fn(g, x), an er.actions.Action, or a dict or tuple of "
        "actions"
    )


def load_group(text: str) -> Domain:
    """A group of the command line, or a range of one: a name, or an object of the user, ``file.py:name``.

    Raises:
        DataError, ModelError: as `load_object`; or the object is no group.
        UnknownNameError, GroupError: as `erlangen.groups.domain`.
    """
    if not is_object_name(text):
        return domain(text)
    found = _built(load_object(text, "group"), text, "group")
    if not isinstance(found, (Group, Range)):
        raise ModelError(f"group = {text!r} is a {type(found).__name__}; name an er.Group or a range of one")
    return found


def _built(found: Any, target: str, option: str) -> Any:
    """The object itself; of a class what it makes without arguments."""
    if not inspect.isclass(found):
        return found
    try:
        return found()
    except Exception as error:
        name = target.rpartition(":")[2]
        raise ModelError(
            f"{option} = {target!r}: {name}() failed: {error}; name an object that is ready to call"
        ) from error


def _pairs(option: str, words: Sequence[str]) -> list[tuple[str, str, str]]:
    """(word, name, value) of words ``name=value``; names of ONNX inputs may hold anything but a space."""
    found: list[tuple[str, str, str]] = []
    for word in words:
        name, equals, value = word.rpartition("=")
        if not equals or not name or not value:
            raise DataError(f"{option} {word!r}: write name=number, for example {option} state=1")
        found.append((word, name, value))
    return found


def _axis(word: str, value: str) -> int:
    number = _read_number("--batch-axis", word, value)
    if not isinstance(number, int):
        raise DataError(f"--batch-axis {word!r}: an axis is a whole number, for example --batch-axis state=1")
    return number


def _read_number(option: str, word: str, value: str) -> int | float:
    """A number of a command line, whole where it is written so."""
    try:
        return int(value) if value.lstrip("+-").isdecimal() else float(value)
    except ValueError as error:
        raise DataError(f"{option} {word!r}: {value!r} is no number; use er.onnx in Python for arrays") from error


def module_from_file(path: Path, option: str = "target") -> ModuleType:
    """Run a Python file as a module, with its folder on the path, and remember it in `FROM_FILES`.

    A file that was run already, and has not changed since, is not run again: what a command names in it belongs together. An
    ``__init__.py`` is run as the package that it belongs to.

    Raises:
        DataError: there is no such file.
        ModelError: running it failed.
    """
    if not path.is_file():
        raise DataError(f"{option}: there is no file {str(path)!r}")
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key in _RUN:
        return _RUN[key]
    package = path.name == "__init__.py"
    stem = path.resolve().parent.name if package else path.stem
    name = f"_erlangen_target_{stem}"  # never in the way of an installed module of that name
    inside = [str(path.resolve().parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=inside)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    FROM_FILES.append(module)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        FROM_FILES.remove(module)
        raise ModelError(f"{option}: running {str(path)!r} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    _RUN[key] = module
    return module


def _from_package(name: str, option: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"{option}: no module {name!r} ({error}); run where it can be imported, or name a file.py"
        ) from error
    except Exception as error:
        raise ModelError(f"{option}: importing {name!r} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
