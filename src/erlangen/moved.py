"""Modules that have moved: the old name still imports for one release, and says where to look."""

from __future__ import annotations

import importlib
import sys
import warnings


def moved(old: str, new: str) -> None:
    """Let the name `old`, which is being imported, stand for the module `new`, with a `DeprecationWarning`."""
    warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, stacklevel=3)
    sys.modules[old] = importlib.import_module(new)
