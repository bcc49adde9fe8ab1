"""The ledger on the terminal: tables of systems, rows and claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from erlangen.errors import DataError
from erlangen.survey.finding import area_of
from erlangen.survey.ledger import fingerprint, load_facts
from erlangen.survey.results import cell_text, count_verdicts, read_entry, row_tables, verdict_text

if TYPE_CHECKING:
    from erlangen.survey.verification import Outcome

_STYLES = {
    "holds": "green",
    "fails": "bold red",
    "undecided": "yellow",
    "not settled": "dim",
    "not measurable here": "dim",
}
"""By verdict."""
_PAPER_WIDTH = 160


def paper_console() -> Console:
    """The terminal, or a page wide enough for a table where the output is none."""
    console = Console()
    return console if console.is_terminal else Console(width=_PAPER_WIDTH)


VERDICTS = ("holds", "fails", "undecided", "not measurable here")
"""What a full run can say of a claim."""


def system_table(systems: Mapping[str, str], results: Path) -> tuple[Table, list[dict[str, Any]], list[str]]:
    """The survey with the verdicts of its full runs, the same as rows, and what could not be read, one line each.

    Args:
        systems: path of a module or file by name, as of `erlangen.survey.finding.known_systems`.
        results: folder of results.
    """
    table = Table(title=f"{len(systems)} systems; claims of the full runs in {results}", title_justify="left")
    for column in ("area", "system", "year", "hold", "fail", "undecided", "not measurable", "last full run"):
        table.add_column(column, overflow="fold")
    rows, damages = system_rows(systems, results)
    for row in rows:
        counts = ["?" if row["run"] == "damaged" else "" if row[word] is None else str(row[word]) for word in VERDICTS]
        table.add_row(row["area"], row["system"], str(row["year"] or "?"), *counts, row["run"])
    return table, rows, damages


def system_rows(systems: Mapping[str, str], results: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for every system, as values, and what could not be read, one line each; arguments as of `system_table`."""
    rows: list[dict[str, Any]] = []
    damages: list[str] = []
    for name, path in systems.items():
        row: dict[str, Any] = {"area": area_of(path), "system": name, "title": None, "year": None, "arxiv": None}
        try:
            facts = load_facts(path)
            row |= {"title": facts.title, "year": facts.year, "arxiv": facts.arxiv}
        except Exception as error:  # noqa: BLE001 - importing a system may fail in any way, and the list goes on
            damages.append(f"{name!r} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}")
        try:
            row |= _counted(path, results / f"{name}.json")
        except DataError as error:
            damages.append(str(error))
            row |= dict.fromkeys(VERDICTS) | {"run": "damaged"}
        rows.append(row)
    return rows, damages


def _counted(system: str, file: Path) -> dict[str, Any]:
    """Verdicts of a results file, and which run it was."""
    if not file.exists():
        return dict.fromkeys(VERDICTS) | {"run": "no results"}
    entry = read_entry(file)
    counts = count_verdicts(entry)
    run = f"version {entry['version']}, seed {entry['seed']}, {entry['seconds']:.0f} s"
    if entry.get("fingerprint") != fingerprint(system):
        run += ", of other code"
    return {word: counts[word] for word in VERDICTS} | {"run": run}


def claim_rows(systems: Mapping[str, str], results: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for every claim in the ledger, and what could not be read, one line each; arguments as of `system_table`."""
    rows: list[dict[str, Any]] = []
    damages: list[str] = []
    for name, path in systems.items():
        file = results / f"{name}.json"
        if not file.exists():
            continue
        try:
            entry, facts = read_entry(file), load_facts(path)
        except Exception as error:  # noqa: BLE001 - importing a system may fail in any way, and the list goes on
            damages.append(f"{name!r}: {' '.join(str(error).split())}")
            continue
        head = {"system": name, "area": area_of(path), "paper": facts.title, "year": facts.year}
        keys = ("id", "statement", "kind", "published", "measured", "threshold", "verdict")
        for claim in entry["claims"]:
            seeds = len(claim["values"]) if "values" in claim else None
            rows.append(head | {key: claim[key] for key in keys} | {"seeds": seeds, "note": claim.get("note")})
    return rows, damages


def claim_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Claims of several systems, one line each."""
    table = _claim_table(f"{len(rows)} claims", systems=True)
    for row in rows:
        table.add_row(row["system"], *_claim_cells(row))
    return table


def print_entry(console: Console, entry: Mapping[str, Any]) -> None:
    """Rows, claims and circumstances of a run; first, what kind of run it was if it is one that settles little."""
    if note := smallness(entry):
        console.print(Text(f"This is {note}.", style="bold"))
    for columns, rows in row_tables(entry["rows"]):
        table = Table()
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    claims = _claim_table("Claims", systems=False)
    for claim in entry["claims"]:
        claims.add_row(*_claim_cells(claim))
    console.print(claims)
    options = "".join(f", {name} = {value}" for name, value in entry.get("options", {}).items())
    line = f"{entry['scale']}, seed {entry['seed']}{options}, {entry['seconds']} s, version {entry['version']}"
    console.print(f"{line}\n{entry['machine']}", highlight=False, markup=False)


def smallness(entry: Mapping[str, Any]) -> str:
    """What to say of a run that is too small to settle what is trained; nothing of others."""
    if entry.get("options", {}).get("dry"):
        return "a dry run, one step on a few samples: it shows that everything can be built, and settles nothing that is trained"
    if entry["scale"] == "smoke":
        return "a smoke run, as small as a test: it judges properties, and nothing that is trained"
    return ""


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """One row per claim, and one for every system that could not run."""
    counts = Counter[str]()
    for outcome in outcomes:
        counts.update(count_verdicts(outcome.entry) if outcome.entry else {"systems could not run": 1})
    notes = dict.fromkeys(filter(None, (smallness(outcome.entry) for outcome in outcomes if outcome.entry)))
    table = _claim_table("\n".join([verdict_text(counts), *(f"This is {note}." for note in notes)]), systems=True)
    for outcome in outcomes:
        if outcome.entry is None:
            word = "extra missing" if outcome.missing_extra else "could not run"
            table.add_row(outcome.system, "", Text(str(outcome.error)), "", "", "", Text(word, style="bold red"))
        else:
            for claim in outcome.entry["claims"]:
                table.add_row(outcome.system, *_claim_cells(claim))
    return table


def outcome_line(outcome: Outcome) -> str:
    """What became of a system, in one line."""
    if outcome.entry is None:
        return f"{outcome.system}: {outcome.error}"
    counts = verdict_text(count_verdicts(outcome.entry))
    how = "taken over" if outcome.resumed else f"{outcome.entry['seconds']} s"
    if outcome.entry["scale"] == "smoke":
        how = f"smoke run, {how}"
    return f"{outcome.system}: {counts} ({how})"


def _claim_table(title: str, *, systems: bool) -> Table:
    """An empty table of claims, with a first column for the system or without."""
    table = Table(title=title, title_justify="left")
    columns = ("claim", "statement", "published", "measured", "threshold", "verdict")
    for column in ("system", *columns) if systems else columns:
        table.add_column(column, overflow="fold", justify="right" if column == "measured" else "left")
    return table


def _claim_cells(claim: Mapping[str, Any]) -> list[Text]:
    """The cells of a claim, without the system."""
    word = claim["verdict"]
    numbers = (cell_text(claim[key]) for key in ("published", "measured", "threshold"))
    return [*map(Text, (claim["id"], claim["statement"], *numbers)), Text(_spoken(claim), style=_STYLES[word])]


def _spoken(claim: Mapping[str, Any]) -> str:
    """The verdict, and why it is not what the numbers say."""
    return f"{claim['verdict']}: {claim['note']}" if claim.get("note") else claim["verdict"]
