"""Command-line targets: "package.module:name", "file.py:name", "model.onnx"."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from erlangen.errors import DataError, ModelError
from erlangen.measure.models import ModelLike
from erlangen.measure.onnx_files import onnx

FROM_FILES: list[ModuleType] = []
"""Modules that were read from a file: workers elsewhere cannot import them and get them by value."""


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
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise DataError(f"target = {target!r}: write package.module:name, file.py:name or file.onnx")
    module = module_from_file(Path(place)) if place.endswith(".py") else _from_package(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [key for key in vars(module) if not key.startswith("_")]
            raise DataError(f"target = {target!r}: {place} has no {part!r}; it has {', '.join(public[:12])}")
        found = getattr(found, part)
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise ModelError(
                f"target = {target!r}: {name}() failed: {error}; name an object that is ready to call"
            ) from error
    if not callable(found):
        raise ModelError(f"target = {target!r} is a {type(found).__name__}, which cannot be called")
    return found


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


def module_from_file(path: Path) -> ModuleType:
    """Run a Python file as a module, with its folder on the path, and remember it in `FROM_FILES`.

    Raises:
        DataError: there is no such file.
        ModelError: running it failed.
    """
    if not path.is_file():
        raise DataError(f"target: there is no file {str(path)!r}")
    name = f"_erlangen_target_{path.stem}"  # never in the way of an installed module of that name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    FROM_FILES.append(module)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"target: running {str(path)!r} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def _from_package(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"target: no module {name!r} ({error}); run where it can be imported, or name a file.py"
        ) from error
    except Exception as error:
        raise ModelError(f"target: importing {name!r} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
