"""The survey on the command line: `erlangen list`, `show`, `claims`, `run` and `verify`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, TypeAlias

import tyro

if TYPE_CHECKING:
    from erlangen.survey.verification import Outcome

Scale: TypeAlias = Literal["smoke", "full", "paper"]  # that of the survey, whose import would cost a second here

_NO_SYSTEMS = "The survey has no systems yet."


@dataclass
class List:
    """List the systems of the survey, of installed packages and of yours, with the verdicts of their last full runs."""

    results: Path | None = None
    """Folder of results, as `verify --scale full` writes them; by default results/ here, else those of the library."""

    systems: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A file.py with a system of yours, or a folder of such; may be repeated. Naming a file runs it."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON."""

    def run(self) -> int:
        """Print the table; 2 if something in it cannot be read."""
        from erlangen.survey.finding import known_systems
        from erlangen.survey.printing import paper_console, system_table
        from erlangen.survey.results import ledger_folder

        systems = known_systems(self.systems)
        if not systems:
            print(_NO_SYSTEMS)
            return 0
        results = ledger_folder(self.results)
        with _quiet_stdout():
            table, rows, damages = system_table(systems, results)
        if self.json:
            _print_json(rows)
        else:
            paper_console().print(table)
        for damage in damages:
            print(f"erlangen: {damage}", file=sys.stderr)
        return 2 if damages else 0


@dataclass
class Show:
    """Show a system: its paper, its options, and rows and claims of its last full run."""

    system: tyro.conf.Positional[str]
    """Name in `erlangen list`, dotted path of a module, or file.py."""
    results: Path | None = None
    """Folder of results, as `verify --scale full` writes them; by default results/ here, else those of the library."""

    def run(self) -> int:
        """Print what is known."""
        from erlangen.survey.ledger import load_system
        from erlangen.survey.options import describe_options
        from erlangen.survey.printing import paper_console, print_entry
        from erlangen.survey.results import ledger_folder, read_entry

        with _from_here():
            name, facts, experiment = load_system(self.system)
        console = paper_console()
        arxiv = f", arXiv:{facts.arxiv}" if facts.arxiv else ""
        console.print(f"[bold]{name}[/bold]", highlight=False)
        lines = [
            facts.title,
            ", ".join(facts.authors),
            f"{facts.venue} {facts.year}{arxiv}",
            "",
            "The abstract claims:",
        ]
        options = ", ".join(describe_options(experiment)) or "none"
        lines += [*(f"  - {claim}" for claim in facts.abstract_claims), "", f"Options (--set): {options}", ""]
        console.print("\n".join(lines), highlight=False, markup=False)
        results = ledger_folder(self.results)
        path = results / f"{name}.json"
        if path.exists():
            print_entry(console, read_entry(path))
        else:
            command = f"erlangen verify {self.system} --scale full"
            console.print(f"No full run is kept in {results}. To make one: {command}", highlight=False, markup=False)
        return 0


@dataclass
class Run:
    """Run the experiment of a system, with any of its options, and show rows and claims; nothing is kept."""

    system: tyro.conf.Positional[str]
    """Name in `erlangen list`, dotted path of a module, or file.py."""
    scale: Scale = "smoke"
    """smoke: at most 20 s; full: the run that the ledger keeps, up to 30 minutes of one core, large systems 90; paper: the
    sizes of the paper, for a GPU or a night."""
    seed: int = 0
    """Seed of all randomness."""
    device: str | None = None
    """Where the experiment computes, if it has that option: cpu, cuda, cuda:1, mps."""
    devices: int = 1
    """Train on so many devices of this machine at once, one process each; on CPUs that many processes."""
    nodes: int = 1
    """Train on so many machines; start the same command on each, with the variables of torchrun."""
    dry: tyro.conf.FlagCreatePairsOff[bool] = False
    """Build everything at its size, take one step on a few samples, settle nothing."""
    set: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Options of the experiment, as name=value; `erlangen show SYSTEM` lists them."""
    json: Path | None = None
    """Write the entry here; "-" prints it instead of the tables."""

    def run(self) -> int:
        """Run and print."""
        from erlangen.survey.ledger import load_system, run
        from erlangen.survey.options import read_options
        from erlangen.survey.printing import paper_console, print_entry
        from erlangen.survey.results import check_writable, write_json
        from erlangen.training import is_first_process, training_on

        if self.json is not None:
            check_writable(self.json.parent)
        words = [word for group in self.set for word in group]
        kind = "cpu" if self.device is None else self.device.partition(":")[0]
        with _from_here(), _quiet_stdout(), training_on(kind, self.devices, self.nodes):
            name, _, experiment = load_system(self.system)
            options = read_options(experiment, words, name)
            if self.device is not None:
                self._place(name, experiment, options)
            device = self.device or "cpu"
            entry = run(self.system, self.scale, self.seed, options, device=device, dry=self.dry)
        if not is_first_process():
            return 0
        if self.json == Path("-"):
            _print_json(entry)
            return 0
        print_entry(paper_console(), entry)
        if self.json is not None:
            write_json(self.json, entry)
        return 0

    def _place(self, name: str, experiment: Callable[..., Any], options: dict[str, Any]) -> None:
        """See that torch computes on the device; tell an experiment that takes it as an option."""
        from erlangen.errors import DataError
        from erlangen.survey.options import options_of, takes_run

        device = _device(str(self.device))
        if takes_run(experiment):
            return
        if "device" in options:
            raise DataError(f"--device {device} and --set device={options['device']}: give one of the two")
        if "device" in options_of(experiment):
            options["device"] = device
        elif device != "cpu":
            raise DataError(f"--device {device}: {name!r} has no option 'device'; it runs on the cpu")


@dataclass
class Claims:
    """List the claims of all systems with the numbers of their last full runs, one line each."""

    csv: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print comma-separated values."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON."""
    plot: Path | None = None
    """Also draw measured against published numbers, where a paper gives a number: FILE.png, .svg or .pdf."""
    results: Path | None = None
    """Folder of results, as `verify --scale full` writes them; by default results/ here, else those of the library."""
    systems: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A file.py with a system of yours, or a folder of such; may be repeated. Naming a file runs it."""

    def run(self) -> int:
        """Print the claims; 2 if something cannot be read."""
        from erlangen.errors import DataError
        from erlangen.survey.finding import known_systems
        from erlangen.survey.printing import claim_rows, claim_table, paper_console
        from erlangen.survey.results import ledger_folder

        if self.csv and self.json:
            raise DataError("--csv and --json: give one of the two")
        with _quiet_stdout():
            rows, damages = claim_rows(known_systems(self.systems), ledger_folder(self.results))
        if self.json:
            _print_json(rows)
        elif self.csv:
            import csv

            writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        else:
            paper_console().print(claim_table(rows))
        if self.plot is not None:
            from erlangen import plots
            from erlangen.survey.figures import claims_figure

            print(f"plot: {plots.save(claims_figure(rows), self.plot)}", file=sys.stderr)
        for damage in damages:
            print(f"erlangen: {damage}", file=sys.stderr)
        return 2 if damages else 0


@dataclass
class Verify:
    """Measure the claims of systems: one row per claim, and an exit code that says whether they hold.

    Exit codes: 0 every measured claim holds; 1 a claim fails; 2 a system could not run; 3 an optional package is missing,
    which is named. Of several, the worst in the order 2, 1, 3, 0.
    """

    systems: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names in `erlangen list`, dotted paths of modules, or files.py."""
    all_: Annotated[bool, tyro.conf.arg(name="all"), tyro.conf.FlagCreatePairsOff] = False
    """Every system of the survey."""
    scale: Scale = "smoke"
    """smoke: at most 20 s each; full: the runs that the ledger keeps, in --out, up to 30 minutes of one core each, large
    systems 90; paper: the sizes of the papers."""
    seed: int = 0
    """Seed of all randomness."""
    json: Path | None = None
    """Write the entries here, as a list, after every system, beside those of other systems, scales and seeds that are there;
    "-" prints them instead of the table."""
    engine: Literal["local", "ray"] = "local"
    """Where to compute: this process, or Ray workers."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take over what an earlier run of the same code, scale and seed has left in --out and --json: only what is stale runs."""
    fresh: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run every system, whatever is there; the default."""
    out: Path = Path("results")
    """Folder for the results of full runs."""
    threads: int = 1
    """Threads of each experiment, here and on workers; another number changes the last digits."""

    def run(self) -> int:
        """Verify, print, say what came out."""
        from erlangen.errors import DataError
        from erlangen.survey.ledger import discover_systems, system_name
        from erlangen.survey.printing import outcome_line, outcome_table, paper_console
        from erlangen.survey.verification import exit_code, items_of, verify

        if self.all_ == bool(self.systems):
            raise DataError("name the systems to verify, or pass --all for every one of them; not both")
        if self.resume and self.fresh:
            raise DataError("--resume takes over what is there, --fresh does not; pass one of the two")
        to_stdout = self.json == Path("-")
        order = list(discover_systems()) if self.all_ else list(dict.fromkeys(map(system_name, self.systems)))
        if not order:
            print(_NO_SYSTEMS)
        outcomes: list[Outcome] = []
        interrupted = False
        with _from_here(), _quiet_stdout(), _progress(order) as (advance, note):
            try:
                for outcome in verify(
                    None if self.all_ else self.systems,
                    scale=self.scale,
                    seed=self.seed,
                    engine=self.engine,
                    out=self.out,
                    file=None if to_stdout else self.json,
                    resume=self.resume,
                    threads=self.threads,
                    note=note,
                ):
                    outcomes.append(outcome)
                    left = [name for name in order if name not in {done.system for done in outcomes}]
                    advance(outcome_line(outcome), left)
            except KeyboardInterrupt:
                interrupted = True
        outcomes.sort(key=lambda outcome: order.index(outcome.system))
        if to_stdout:
            _print_json(items_of(outcomes, self.scale, self.seed))
        elif outcomes:
            paper_console().print(outcome_table(outcomes))
        if interrupted:
            print(f"erlangen: interrupted; {len(outcomes)} finished systems are kept", file=sys.stderr)
            return 130
        return exit_code(outcomes)


# --- surroundings ----------------------------------------------------------------------------------------------------
def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False))


def _device(text: str) -> str:
    """A device that torch can compute on."""
    import torch

    from erlangen.errors import DataError

    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DataError(f"--device {text}: torch cannot compute there: {' '.join(str(error).split())[:200]}") from error
    return text


@contextmanager
def _from_here() -> Generator[None]:
    """Modules are also found in the current folder, as a user of `python -m` expects."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _quiet_stdout() -> redirect_stdout[TextIO]:
    """What experiments and Ray print goes to stderr: stdout is for the result, which may be JSON."""
    return redirect_stdout(sys.stderr)


@contextmanager
def _progress(names: list[str]) -> Generator[tuple[Callable[[str, list[str]], None], Callable[[str], None]]]:
    """A bar on stderr, and two functions: one ends a system with a line and the names left, one only says a line."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("".join(names[:1]), total=len(names))

        def note(line: str) -> None:
            console.print(line, highlight=False, markup=False)

        def advance(line: str, left: list[str]) -> None:
            note(line)
            bar.update(task, advance=1, description="".join(left[:1]))

        yield advance, note
