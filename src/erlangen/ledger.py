"""Find the systems of the survey, run one, and write down what came out."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

from erlangen.claims import ClaimError, Result, Scale, System
from erlangen.errors import UnknownNameError
from erlangen.version import __version__

__all__ = ["discover_systems", "load_system", "run"]


def discover_systems() -> dict[str, str]:
    """Dotted module path of every system by name, in the order of area and name; no system is imported.

    Raises:
        ClaimError: two areas hold systems of one name.
    """
    import erlangen.systems

    found: dict[str, str] = {}
    for area in sorted(module.name for module in pkgutil.iter_modules(erlangen.systems.__path__) if module.ispkg):
        folders = [str(Path(root) / area) for root in erlangen.systems.__path__]
        for name in sorted(module.name for module in pkgutil.iter_modules(folders)):
            if name.startswith("_"):
                continue
            path = f"{erlangen.systems.__name__}.{area}.{name}"
            if name in found:
                raise ClaimError(f"{found[name]} and {path} are systems of one name; rename one")
            found[name] = path
    return found


def load_system(system: str | ModuleType) -> tuple[str, System, Callable[[Scale, int], Result]]:
    """Name, facts and experiment of a system, given as its name, a dotted path of a module, or the module.

    Raises:
        UnknownNameError: there is no system of this name.
        ClaimError: the module has no ``SYSTEM`` or no ``experiment``.
    """
    if isinstance(system, ModuleType):
        module = system
    else:
        known = discover_systems()
        if "." not in system and system not in known:
            close = difflib.get_close_matches(system, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownNameError(
                f"there is no system {system!r}; {hint}known systems are {', '.join(known) or 'none'}"
            )
        module = _imported(known.get(system, system))
    facts, experiment = getattr(module, "SYSTEM", None), getattr(module, "experiment", None)
    if not isinstance(facts, System) or not callable(experiment):
        raise ClaimError(f"{module.__name__} is no system: it needs SYSTEM = System(...) and experiment(scale, seed)")
    return module.__name__.rpartition(".")[2], facts, cast("Callable[[Scale, int], Result]", experiment)


def run(system: str | ModuleType, scale: Scale = "smoke", seed: int = 0) -> dict[str, Any]:
    """Run an experiment; its entry in the ledger, as values for strict JSON.

    Args:
        system: see `load_system`.
        scale: see `Scale`.
        seed: seed of all randomness, not negative.

    Returns:
        ``{"system", "scale", "seed", "version", "machine", "seconds", "rows", "claims"}``.

    Raises:
        UnknownNameError: `system` or `scale` is not known.
        ClaimError: `seed` is no seed, the module is no system, or its experiment returns no `Result`.
    """
    if scale not in get_args(Scale):
        raise UnknownNameError(f"scale = {scale!r}; known scales are {', '.join(get_args(Scale))}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ClaimError(f"seed = {seed!r}; pass a whole number that is not negative")
    name, _, experiment = load_system(system)
    begin = time.perf_counter()
    result = experiment(scale, seed)
    seconds = time.perf_counter() - begin
    if not isinstance(result, Result):
        raise ClaimError(f"experiment of {name!r} returned {type(result).__name__}; it must return a Result")
    head = {"system": name, "scale": scale, "seed": seed, "version": __version__, "machine": _machine()}
    return {**head, "seconds": round(seconds, 2), **result.to_dict()}


def _imported(path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # Only the path itself is the caller's mistake; a package that the system needs is reported as what it is.
        if error.name is not None and f"{path}.".startswith(f"{error.name}."):
            raise UnknownNameError(f"there is no module {path!r}; pass a name of discover_systems()") from error
        raise


def _machine() -> str:
    """Processor, cores, system and PyTorch, in one line."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = named[1] if named else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{processor}, {cores} cores, {torch.get_num_threads()} threads, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
