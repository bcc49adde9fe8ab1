"""Entries of the ledger as files: check, read, write, and say what an entry says.

An entry is the dictionary that `erlangen.survey.ledger.run` returns. ``results/<system>.json`` holds the entry of a full
run, in the form of ``results/schema.json``; `check_entry` refuses what that schema refuses, and also verdicts that do not
follow from their numbers.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args

from erlangen.errors import DataError, ErlangenError
from erlangen.files import reading, write_text
from erlangen.survey.claims import ClaimError, Result, Scale, Verdict

__all__ = [
    "Entry",
    "cell_text",
    "check_entry",
    "count_verdicts",
    "ledger_folder",
    "read_entry",
    "row_tables",
    "upgraded",
    "write_json",
]

Entry: TypeAlias = dict[str, Any]
"""What `erlangen.survey.ledger.run` returns."""

_KEYS = ("system", "scale", "seed", "version", "machine", "seconds", "rows", "claims")
_TEXT, _CELL = (str,), (str, int, float, bool, type(None))
_CLAIM_TYPES: dict[str, tuple[type, ...]] = {
    "id": _TEXT,
    "statement": _TEXT,
    "kind": _TEXT,
    "published": (str, int, float, type(None)),
    "measured": (str, int, float, type(None)),
    "threshold": _TEXT,
    "holds": (bool, type(None)),
    "verdict": _TEXT,
    "values": (list,),
    "note": _TEXT,
}
_NOT_FINITE = ("nan", "inf", "-inf")


def check_entry(entry: object) -> Result:
    """The result in an entry, if it is one.

    Args:
        entry: anything, such as what a JSON file holds.

    Raises:
        ClaimError: a key is missing or unknown, a value has another type, or a verdict does not follow from its number.
        UnknownNameError: a claim is of no known kind.
    """
    if not isinstance(entry, dict):
        raise ClaimError(f"an entry is an object with {', '.join(_KEYS)}, not {_short(entry)}")
    entry = cast("Entry", entry)
    wrong = set(entry).symmetric_difference(_KEYS) - {"options", "runs", "fingerprint"}
    if wrong:
        raise ClaimError(f"an entry has the keys {', '.join(_KEYS)}; missing or unknown: {', '.join(sorted(wrong))}")
    _demand(isinstance(entry["system"], str) and is_system_name(entry["system"]), entry, "system")
    _demand(entry["scale"] in get_args(Scale), entry, "scale")
    _demand(type(entry["seed"]) is int and entry["seed"] >= 0, entry, "seed")
    for name in {"version", "machine", "fingerprint"} & set(entry):
        _demand(isinstance(entry[name], str) and entry[name].strip(), entry, name)
    seconds = entry["seconds"]
    _demand(type(seconds) in (int, float) and math.isfinite(seconds) and seconds >= 0, entry, "seconds")
    options = entry.get("options", {"": None})
    _demand(_is_record(options) and options, entry, "options")
    for name in {"rows", "claims", "runs"} & set(entry):
        _demand(isinstance(entry[name], list) and all(isinstance(item, dict) for item in entry[name]), entry, name)
    for name in {"rows", "runs"} & set(entry):
        _demand(all(_is_record(item) for item in entry[name]), entry, name)
    for index, claim in enumerate(entry["claims"]):
        _check_claim_types(claim, f"claims[{index}]")
    return Result.from_dict(entry)


def read_entry(path: Path) -> Entry:
    """The entry in a results file.

    Raises:
        DataError: the file cannot be read, or holds no entry of a full run of the system that its name says.
    """
    entry = read_json(path)
    try:
        entry = upgraded(entry)
        _demand(entry["system"] == path.stem, entry, "system")
        _demand(entry["scale"] == "full", entry, "scale")
        _demand("options" not in entry, entry, "options")
    except ErlangenError as error:
        raise DataError(f"{str(path)!r} is no result of a run: {error}; repair or remove it") from error
    return entry


def upgraded(entry: object) -> Entry:
    """An entry in today's form, also if version 0.1.0 wrote it; raises as `check_entry`."""
    return cast("Entry", entry) | check_entry(entry).to_dict()


def read_json(path: Path) -> Any:
    """What a JSON file holds; `DataError` names a file that cannot be read."""
    with reading(f"{str(path)!r} cannot be read as JSON", remedy="repair or remove it"):
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)


def ledger_folder(folder: Path | None = None) -> Path:
    """The folder of results to read: the given one, else ``results`` here, else the ledger that the library came with."""
    if folder is not None:
        return folder
    here, package = Path("results"), Path(__file__).resolve().parents[1]
    places = (here, package / "ledger", package.parents[1] / "results")
    return next((place for place in places if any(place.glob("*.json"))), here)


def is_system_name(name: str) -> bool:
    """Whether this can name a module and its results file."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None


def write_json(path: Path, value: object) -> None:
    """Write a JSON file so that, whenever the process ends, the path holds all of the old or all of the new.

    Raises:
        DataError: the folder cannot be written to.
        ValueError: the value is not strict JSON; nothing is written.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def check_writable(folder: Path) -> None:
    """Make a folder and see that files can be written there, before hours are spent; `DataError` if not."""
    probe = folder / f".{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"the folder {str(folder)!r} cannot be written to: {error}; choose another one") from error


# --- what an entry says ----------------------------------------------------------------------------------------------
def count_verdicts(entry: Mapping[str, Any]) -> dict[str, int]:
    """How many claims of an entry have each verdict, in the order of `erlangen.survey.Verdict`."""
    counts = Counter(claim["verdict"] for claim in entry["claims"])
    return {word: counts[word] for word in get_args(Verdict)}


def verdict_text(counts: Mapping[str, int]) -> str:
    """Counts of verdicts in a line: holds, fails, and what else there is."""
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count or word in ("holds", "fails"))


def row_tables(rows: Sequence[Mapping[str, Any]]) -> list[tuple[list[str], list[list[str]]]]:
    """The rows as tables (columns, cells): rows with the same columns make one, in the order in which they first come."""
    tables: dict[frozenset[str], tuple[list[str], list[list[str]]]] = {}
    for row in rows:
        columns, cells = tables.setdefault(frozenset(row), (list(row), []))
        cells.append([cell_text(row[column]) for column in columns])
    return list(tables.values())


def cell_text(value: str | float | bool | None) -> str:
    """A cell for people: four digits, yes and no, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_claim_types(claim: Mapping[str, Any], where: str) -> None:
    for name, types in _CLAIM_TYPES.items():
        if name in claim and (
            not isinstance(claim[name], types)
            or (isinstance(claim[name], bool) and bool not in types)
            or (name == "measured" and isinstance(claim[name], str) and claim[name] not in _NOT_FINITE)
            or (name == "values" and not all(map(_is_number, cast("list[object]", claim[name]))))
        ):
            raise ClaimError(f"{where}: {name} = {_short(claim[name])} is of another type")


def _is_number(value: object) -> bool:
    return value in _NOT_FINITE if isinstance(value, str) else type(value) in (int, float)


def _is_record(value: object) -> bool:
    """Whether this is an object of texts, numbers, booleans and nulls."""
    return isinstance(value, dict) and all(isinstance(cell, _CELL) for cell in value.values())


def _demand(holds: object, entry: Entry, name: str) -> None:
    if not holds:
        raise ClaimError(f"{name} = {_short(entry[name])} does not belong there")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
