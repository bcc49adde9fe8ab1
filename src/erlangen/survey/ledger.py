"""Find the systems of the survey, run one, and write down what came out."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import math
import os
import platform
import re
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

from erlangen.errors import UnknownNameError, is_whole
from erlangen.survey.claims import ClaimError, Result, Scale, System
from erlangen.survey.finding import discover_systems, known_systems
from erlangen.survey.fingerprints import code_fingerprint
from erlangen.survey.options import check_options, takes_run
from erlangen.survey.runs import Run
from erlangen.version import __version__

__all__ = [
    "discover_systems",
    "experiment_module",
    "fingerprint",
    "known_systems",
    "load_facts",
    "load_system",
    "run",
    "system_name",
]


def load_system(system: str | ModuleType) -> tuple[str, System, Callable[..., Result]]:
    """Name, facts and experiment of a system.

    Args:
        system: its name in `known_systems` (hyphens stand for underscores), the arXiv identifier or a part of the title of
            its paper, the dotted path of a module, a file ``"path/to/system.py"``, or the module. In a package the experiment is
            in its module ``experiment``.

    Raises:
        UnknownNameError: there is no system of this name.
        DataError: there is no such file.
        ModelError: the file cannot be run.
        ClaimError: the module has no ``SYSTEM`` or no ``experiment``.
    """
    module = _module_of(system)
    experiment = getattr(experiment_module(module), "experiment", None)
    facts = getattr(module, "SYSTEM", None)
    if not isinstance(facts, System) or not callable(experiment):
        raise ClaimError(f"{module.__name__} is no system: it needs SYSTEM = System(...) and experiment(run)")
    return system_name(system), facts, cast("Callable[..., Result]", experiment)


def load_facts(system: str | ModuleType) -> System:
    """The facts of a system; its experiment is not imported. Raises as `load_system`."""
    facts = getattr(module := _module_of(system), "SYSTEM", None)
    if not isinstance(facts, System):
        raise ClaimError(f"{module.__name__} is no system: it has no SYSTEM = System(...)")
    return facts


def experiment_module(module: ModuleType) -> ModuleType:
    """The module with the experiment and the figure of a system: ``experiment`` of a package, or the module itself."""
    if not hasattr(module, "__path__") or callable(getattr(module, "experiment", None)):
        return module
    return _imported(f"{module.__name__}.experiment")


def _module_of(system: str | ModuleType) -> ModuleType:
    if isinstance(system, ModuleType):
        return system
    if system.endswith(".py"):
        from erlangen.measure.targets import module_from_file

        return module_from_file(Path(system))
    return _imported(_path_of(system))


def system_name(system: str | ModuleType) -> str:
    """The name under which results of a system are kept: the last part of its path; nothing is imported.

    Raises:
        UnknownNameError: a name without dots that no system has.
    """
    if isinstance(system, ModuleType):
        return system.__name__.rpartition(".")[2]
    if not system.endswith(".py"):
        return _path_of(system).rpartition(".")[2]
    return Path(system).resolve().parent.name if Path(system).name == "__init__.py" else Path(system).stem


def run(
    system: str | ModuleType,
    scale: Scale = "smoke",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    threads: int | None = None,
    *,
    device: str = "cpu",
    dry: bool = False,
) -> dict[str, Any]:
    """Run an experiment; its entry in the ledger, as values for strict JSON.

    Torch's global stream is seeded with `seed` while the experiment runs, and is left afterwards as it was.

    Args:
        system: see `load_system`.
        scale: see `Scale`.
        seed: seed of all randomness, not negative.
        options: keyword arguments of the experiment beyond the run; by default its own.
        threads: threads of torch while it runs; by default as many as torch has now.
        device: where models compute.
        dry: build everything, take one step on a few samples, settle nothing.

    Returns:
        ``{"system", "scale", "seed", "version", "fingerprint", "machine", "seconds", "rows", "claims"}``, and ``"runs"`` where
        rows are means over seeds; after ``"seed"`` also ``"options"`` where there are some, as text where JSON has no such value.

    Raises:
        UnknownNameError: `system`, `scale` or an option is not known.
        ClaimError: `seed` or `threads` is none, the module is no system, its experiment has no budget for the scale or
            returns no `Result`.
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
    first = _first_arguments(name, experiment, scale, seed, device, dry)
    code = fingerprint(system)  # before the run, in whose hours files may change
    with _conditions(seed, threads):
        machine = _machine()
        begin = time.perf_counter()
        result = experiment(*first, **options)
        seconds = time.perf_counter() - begin
    if not isinstance(result, Result):
        raise ClaimError(f"experiment of {name!r} returned {type(result).__name__}; it must return a Result")
    head: dict[str, Any] = {"system": name, "scale": scale, "seed": seed}
    if dry:
        options["dry"] = True
    if options:
        head["options"] = {key: value if _is_json(value) else str(value) for key, value in options.items()}
    head |= {
        "version": __version__,
        "fingerprint": code,
        "machine": machine,
        "seconds": round(seconds, 2),
    }
    return head | result.to_dict()


def fingerprint(system: str | ModuleType) -> str:
    """The code that a system's results depend on, see `erlangen.survey.fingerprints`; "none" of a module without a file."""
    file = getattr(_module_of(system), "__file__", None)
    return "none" if file is None else code_fingerprint(Path(file))


def _first_arguments(
    name: str, experiment: Callable[..., Any], scale: Scale, seed: int, device: str, dry: bool
) -> tuple[Any, ...]:
    """The run that an experiment is told; scale and seed where it asks for these."""
    if not takes_run(experiment):
        if scale == "paper" or dry:
            raise ClaimError(
                f"{name!r} has no sizes of the paper, and no dry run: its experiment takes scale and seed alone"
            )
        return scale, seed
    budgets = inspect.unwrap(experiment).__globals__.get("BUDGETS")
    if budgets is not None and scale not in budgets:
        raise ClaimError(f"{name!r} has no budget for the scale {scale!r}; it has {', '.join(budgets)}")
    return (Run(scale, seed, None if budgets is None else budgets[scale], device, dry),)


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
    """The dotted path of a name, an arXiv identifier or a part of one title; a dotted path is itself."""
    known = known_systems()
    name = system.replace("-", "_")
    if name in known:
        return known[name]
    if re.fullmatch(r"(arXiv:)?\d{4}\.\d{4,5}|.*\s.*", system) or "." not in system:
        found = _by_paper(system.removeprefix("arXiv:"), known)
        if len(found) == 1:
            return known[found[0]]
        close = found or difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise UnknownNameError(f"there is no system {system!r}; {hint}known systems are {', '.join(known) or 'none'}")
    return system


def _by_paper(words: str, known: Mapping[str, str]) -> list[str]:
    """Names of the systems whose paper has this identifier, or these words in its title."""
    found: list[str] = []
    for name in known:
        try:
            facts = load_facts(name)
        except Exception:  # noqa: BLE001 - one that cannot be imported has no title to look at, and says so when it is run
            continue
        if words == facts.arxiv or (len(words) > 3 and words.lower() in facts.title.lower()):
            found.append(name)
    return found


def _imported(path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # Only the path itself is the caller's mistake; a package that the system needs is reported as what it is.
        if error.name is not None and f"{path}.".startswith(f"{error.name}."):
            raise UnknownNameError(f"there is no module {path!r}; pass a name of known_systems()") from error
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
