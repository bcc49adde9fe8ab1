"""Find the systems of the survey, run one, and write down what came out."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import math
import os
import pkgutil
import platform
import re
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

from erlangen.errors import UnknownNameError, is_whole
from erlangen.survey.claims import ClaimError, Result, Scale, System
from erlangen.survey.options import check_options
from erlangen.version import __version__

__all__ = ["discover_systems", "load_system", "run", "system_name"]


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


def load_system(system: str | ModuleType) -> tuple[str, System, Callable[..., Result]]:
    """Name, facts and experiment of a system.

    Args:
        system: its name in `discover_systems`, the dotted path of a module, a file ``"path/to/system.py"``, or the module.

    Raises:
        UnknownNameError: there is no system of this name.
        DataError: there is no such file.
        ModelError: the file cannot be run.
        ClaimError: the module has no ``SYSTEM`` or no ``experiment``.
    """
    if isinstance(system, ModuleType):
        module = system
    elif system.endswith(".py"):
        from erlangen.measure.targets import module_from_file

        module = module_from_file(Path(system))
    else:
        module = _imported(_path_of(system))
    facts, experiment = getattr(module, "SYSTEM", None), getattr(module, "experiment", None)
    if not isinstance(facts, System) or not callable(experiment):
        raise ClaimError(f"{module.__name__} is no system: it needs SYSTEM = System(...) and experiment(scale, seed)")
    return system_name(system), facts, cast("Callable[..., Result]", experiment)


def system_name(system: str | ModuleType) -> str:
    """The name under which results of a system are kept: the last part of its path; nothing is imported.

    Raises:
        UnknownNameError: a name without dots that no system has.
    """
    if isinstance(system, ModuleType):
        return system.__name__.rpartition(".")[2]
    return Path(system).stem if system.endswith(".py") else _path_of(system).rpartition(".")[2]


def run(
    system: str | ModuleType,
    scale: Scale = "smoke",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Run an experiment; its entry in the ledger, as values for strict JSON.

    Torch's global stream is seeded with `seed` while the experiment runs, and is left afterwards as it was.

    Args:
        system: see `load_system`.
        scale: see `Scale`.
        seed: seed of all randomness, not negative.
        options: keyword arguments of the experiment beyond scale and seed; by default its own.
        threads: threads of torch while it runs; by default as many as torch has now.

    Returns:
        ``{"system", "scale", "seed", "version", "machine", "seconds", "rows", "claims"}``; after ``"seed"`` also
        ``"options"`` where there are some, as text where JSON has no such value.

    Raises:
        UnknownNameError: `system`, `scale` or an option is not known.
        ClaimError: `seed` or `threads` is none, the module is no system, or its experiment returns no `Result`.
    """
    if scale not in get_args(Scale):
        raise UnknownNameError(f"scale = {scale!r}; known scales are {', '.join(get_args(Scale))}")
    if not is_whole(seed, 0):
        raise ClaimError(f"seed = {seed!r}; pass a whole number that is not negative")
    if threads is not None and not is_whole(threads, 1):
        raise ClaimError(f"threads = {threads!r}; pass a whole number of at least 1")
    name, _, experiment = load_system(system)
    options = dict(options or {})
    check_options(experiment, options, name)
    with _conditions(seed, threads):
        machine = _machine()
        begin = time.perf_counter()
        result = experiment(scale, seed, **options)
        seconds = time.perf_counter() - begin
    if not isinstance(result, Result):
        raise ClaimError(f"experiment of {name!r} returned {type(result).__name__}; it must return a Result")
    head: dict[str, Any] = {"system": name, "scale": scale, "seed": seed}
    if options:
        head["options"] = {key: value if _is_json(value) else str(value) for key, value in options.items()}
    return head | {"version": __version__, "machine": machine, "seconds": round(seconds, 2)} | result.to_dict()


@contextlib.contextmanager
def _conditions(seed: int, threads: int | None) -> Generator[None]:
    """What an experiment may rely on: torch's global stream seeded, this many threads; both are put back."""
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _is_json(value: object) -> bool:
    return isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value))


def _path_of(system: str) -> str:
    """The dotted path of a name; a dotted path is itself."""
    known = discover_systems()
    if "." not in system and system not in known:
        close = difflib.get_close_matches(system, known, 3)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise UnknownNameError(f"there is no system {system!r}; {hint}known systems are {', '.join(known) or 'none'}")
    return known.get(system, system)


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
