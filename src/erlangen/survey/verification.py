"""Measure the claims of many systems: here or on Ray workers, with everything finished kept, whatever happens next."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from erlangen.errors import DataError, ErlangenError, MissingExtraError, UnknownNameError
from erlangen.files import locked
from erlangen.remote import Failure, ray_session, require_ray, results
from erlangen.survey.claims import Scale
from erlangen.survey.ledger import discover_systems, fingerprint, run, system_name
from erlangen.survey.results import (
    Entry,
    check_entry,
    check_writable,
    count_verdicts,
    is_system_name,
    read_entry,
    read_json,
    upgraded,
    write_json,
)
from erlangen.version import __version__

__all__ = ["Engine", "Outcome", "exit_code", "items_of", "verify"]

Engine = Literal["local", "ray"]
"""Where experiments run: in this process one after the other, or on Ray workers."""

THREADS = 1
"""Threads of an experiment. Sums depend on how they are split over threads, so this is one number on all machines; and
threads that wait for each other stall on a machine that has other work."""

HOLDS, FAILS, BROKEN, EXTRA = 0, 1, 2, 3
_WORST_FIRST = (BROKEN, FAILS, EXTRA, HOLDS)


@dataclass(frozen=True)
class Outcome:
    """What became of one system.

    Attributes:
        system: its name.
        entry: its entry in the ledger; None if it could not run.
        error: why it could not run, in one line.
        missing_extra: whether that is an optional package.
        resumed: whether the entry is that of an earlier run.
    """

    system: str
    entry: Entry | None = None
    error: str | None = None
    missing_extra: bool = False
    resumed: bool = False

    @property
    def code(self) -> int:
        """0 every measured claim holds, 1 one fails, 2 it could not run, 3 an optional package is missing."""
        if self.entry is None:
            return EXTRA if self.missing_extra else BROKEN
        return FAILS if count_verdicts(self.entry)["fails"] else HOLDS


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """The worst code of all; from the worst: 2 could not run, 1 a claim fails, 3 an extra is missing, 0 all hold."""
    codes = {outcome.code for outcome in outcomes}
    return next((code for code in _WORST_FIRST if code in codes), HOLDS)


def items_of(outcomes: Iterable[Outcome], scale: Scale, seed: int) -> list[Entry]:
    """The entries, for a JSON file; a system that could not run has ``"error"`` in place of what an entry has more."""
    head = {"scale": scale, "seed": seed, "version": __version__}
    return [outcome.entry or {"system": outcome.system, **head, "error": outcome.error} for outcome in outcomes]


def verify(
    systems: Sequence[str] | None = None,
    *,
    scale: Scale = "smoke",
    seed: int = 0,
    engine: Engine = "local",
    out: Path = Path("results"),
    file: Path | None = None,
    resume: bool = False,
    threads: int = THREADS,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Run systems and keep what they find; outcomes come as they finish, first those that are taken over.

    At scale ``"full"`` every entry is written to ``out/<system>.json``, and at any scale all of them, in the order of
    `systems`, to `file`. Both are replaced at once when a system finishes, so an interrupted or killed call loses what
    was running and nothing else. What else `file` holds stays behind them: an entry is replaced by one of the same system,
    scale and seed alone, so that several calls at once may have one file. What a system raises becomes its outcome and does
    not stop the others.

    Args:
        systems: what `erlangen.survey.ledger.load_system` takes; by default all systems of the library.
        scale: see `erlangen.survey.claims.Scale`.
        seed: seed of all randomness.
        engine: where to run. The ledger is the same, except for durations and what is computed from them.
        out: folder of the results of full runs.
        file: JSON file for a list of the entries, see `items_of`.
        resume: take entries of the same code, scale and seed from `out` (full runs) and `file`, and run only the rest.
        threads: threads of each experiment; a Ray worker reserves as many cores.
        note: is called with a line when something happens that is not an outcome, such as the death of a worker.

    Raises:
        UnknownNameError: a system, scale or engine is not known.
        DataError: nothing to resume from, two systems of one name, a folder that cannot be written to, or a file of
            earlier results that is damaged. All this is found before the first system runs, and nothing is replaced.
        MissingExtraError: ``engine="ray"`` without Ray.
    """
    if scale not in get_args(Scale):
        raise UnknownNameError(f"scale = {scale!r}; known scales are {', '.join(get_args(Scale))}")
    if engine not in get_args(Engine):
        raise UnknownNameError(f"engine = {engine!r} is not known; choose 'local' or 'ray'")
    names = _names(list(discover_systems()) if systems is None else systems)
    keeper = _Keeper(names, scale, seed, out if scale == "full" else None, file)
    if resume:
        for name, entry in keeper.finished().items():
            yield keeper.keep(Outcome(name, entry, resumed=True))
    rest = [name for name in names if name not in keeper.outcomes]
    jobs: dict[str, _Job] = {name: (names[name], scale, seed, threads) for name in rest}
    for outcome in _local(jobs) if engine == "local" else _ray(jobs, threads, note):
        yield keeper.keep(outcome)


class _Keeper:
    """Holds outcomes and writes them to where they belong."""

    def __init__(self, names: Mapping[str, str], scale: Scale, seed: int, out: Path | None, file: Path | None) -> None:
        self.names, self.seed, self.out, self.file = dict(names), seed, out, file
        self.scale: Scale = scale
        self.outcomes: dict[str, Outcome] = {}
        self.kept: dict[str, Entry] = {}
        for folder in [path for path in (out, file and file.parent) if path is not None]:
            check_writable(folder)
        if file is not None and file.exists():
            _items_of(file)
        if out is not None:
            # A damaged file is somebody's result: it is named now, and not replaced without a word after ten minutes.
            paths = [out / f"{name}.json" for name in self.names]
            self.kept = {path.stem: read_entry(path) for path in paths if path.exists()}

    def finished(self) -> dict[str, Entry]:
        """Entries of earlier runs of the same code, scale and seed."""
        if self.out is None and self.file is None:
            raise DataError("nothing to resume from: at scale 'smoke', name the file of the entries (--json FILE)")
        items = _items_of(self.file) if self.file is not None and self.file.exists() else []
        mine = [
            item for item in items if "error" not in item and (item["scale"], item["seed"]) == (self.scale, self.seed)
        ]
        known = self.kept | {entry["system"]: entry for entry in mine}
        return {name: known[name] for name in self.names if name in known and self._is_same(known[name])}

    def keep(self, outcome: Outcome) -> Outcome:
        """Write what is new; the same outcome."""
        self.outcomes[outcome.system] = outcome
        if outcome.entry is not None:
            check_entry(outcome.entry)
            if self.out is not None and self.kept.get(outcome.system) != outcome.entry:
                write_json(self.out / f"{outcome.system}.json", outcome.entry)
        if self.file is not None:
            with locked(self.file):
                write_json(self.file, self._joined(self.file))
        return outcome

    def _joined(self, file: Path) -> list[Entry]:
        """What is done here, in its order, then what else the file holds, perhaps of others who write there."""
        done = [self.outcomes[name] for name in self.names if name in self.outcomes]
        own = {_key(item): item for item in items_of(done, self.scale, self.seed)}
        there = {_key(item): item for item in _items_of(file)} if file.exists() else {}
        order = [(name, self.scale, self.seed) for name in self.names]
        every = there | own
        return [every[key] for key in dict.fromkeys((*order, *there)) if key in every]

    def _is_same(self, entry: Entry) -> bool:
        # A fingerprint says that the code is the same that would run now, whatever the version is called.
        code = (entry["scale"], entry["seed"]) == (self.scale, self.seed) and entry.get("fingerprint")
        return "options" not in entry and code == fingerprint(self.names[entry["system"]])


def _key(item: Entry) -> tuple[str, str, int]:
    """What an item of a file is about; no two are about the same."""
    return item["system"], item["scale"], item["seed"]


def _items_of(file: Path) -> list[Entry]:
    """Items in a file that `verify` wrote: entries, and what could not run."""
    items = read_json(file)
    try:
        if not isinstance(items, list):
            raise DataError(f"it holds a {type(items).__name__}")
        return [item if _has_failed(item) else upgraded(item) for item in items]
    except ErlangenError as error:
        raise DataError(f"{str(file)!r} is no list of entries that verify wrote: {error}; remove it") from error


def _has_failed(item: object) -> bool:
    """Whether this stands for a system that could not run."""
    if not isinstance(item, dict) or "error" not in item:
        return False
    kinds = {"system": str, "scale": str, "seed": int}
    if not all(isinstance(item.get(key), kind) for key, kind in kinds.items()):
        raise DataError("it holds an error of no system")
    return True


def _names(systems: Sequence[str]) -> dict[str, str]:
    """What to load by name; files are made absolute, for workers that are elsewhere."""
    names = {
        system_name(system): str(Path(system).resolve()) if system.endswith(".py") else system for system in systems
    }
    twice = [name for name, count in Counter(map(system_name, dict.fromkeys(systems))).items() if count > 1]
    if twice:
        raise DataError(f"several of the systems have the name {twice[0]!r}; verify them one at a time")
    for name in names:
        if not is_system_name(name):
            raise DataError(
                f"the system {name!r} cannot be the name of a results file; use letters, digits and underscores"
            )
    return names


_Job = tuple[str, Scale, int, int]


def _attempt(name: str, job: _Job) -> Outcome:
    """Run one system; whatever it raises is its outcome."""
    system, scale, seed, threads = job
    try:
        return Outcome(name, run(system, scale, seed, threads=threads))
    except MissingExtraError as error:
        return Outcome(name, error=_line(error), missing_extra=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a method may fail in any way, and the others go on
        return Outcome(name, error=f"{type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _local(jobs: dict[str, _Job]) -> Iterator[Outcome]:
    for name, job in jobs.items():
        yield _attempt(name, job)


def _ray(jobs: dict[str, _Job], threads: int, note: Callable[[str], None]) -> Iterator[Outcome]:
    """The same on Ray workers, as they finish; a system whose worker dies is tried again, by name."""
    ray = require_ray("--engine ray")
    if not jobs:
        return
    tasks = {name: (name, job, sys.path) for name, job in jobs.items()}
    with ray_session(ray):
        for name, found in results(ray, _work, tasks, cores=threads, fresh=True, note=note):
            yield Outcome(name, error=_obituary(found)) if isinstance(found, Failure) else found


def _obituary(failure: Failure) -> str:
    if failure.deaths == 0:  # errors of experiments are outcomes, so this is the worker's
        return f"its worker cannot start it: {_line(getattr(failure.error, 'cause', failure.error))[:300]}"
    return f"its worker died {failure.deaths} times, the last time with {_line(failure.error)[:300]}"


def _work(name: str, job: _Job, path: list[str]) -> Outcome:
    """`_attempt` on a worker, which finds modules where the caller finds them."""
    sys.path += [folder for folder in path if folder not in sys.path]
    return _attempt(name, job)
