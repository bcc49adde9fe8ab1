"""Command-line targets: "package.module:name", "file.py:name", "model.onnx"."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from erlangen.errors import DataError, ModelError
from erlangen.measure.models import ModelLike

FROM_FILES: list[ModuleType] = []
"""Modules that were read from a file: workers elsewhere cannot import them and get them by value."""


def load_target(target: str) -> ModelLike:
    """The model that a command line names. Importing it runs the user's code, as naming it asks for.

    Args:
        target: ``file.onnx``, ``package.module:name`` or ``file.py:name``; a class is called without arguments.

    Raises:
        DataError: there is no such file, module or name.
        ModelError: the name is no model, or importing or building it failed.
    """
    if target.endswith(".onnx"):
        return Path(target)
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
