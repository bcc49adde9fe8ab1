"""Files of the ledger: the schema and the code refuse the same things, and nothing is written half."""

import copy
import json
import math
import re
from pathlib import Path

import pytest

from erlangen.errors import DataError, ErlangenError
from erlangen.survey.claims import Claim, ClaimError, Result
from erlangen.survey.ledger import discover_systems
from erlangen.survey.results import (
    cell_text,
    check_entry,
    count_verdicts,
    read_entry,
    row_tables,
    verdict_text,
    write_json,
)

jsonschema = pytest.importorskip("jsonschema")
RESULTS = Path(__file__).resolve().parents[2] / "results"
SCHEMA = json.loads((RESULTS / "schema.json").read_text())


def entry():
    result = Result(
        [
            {"method": "ours", "error": 0.1, "seeds": 3, "done": True},
            {"method": "base", "error": math.nan, "note": None},
        ],
        [
            Claim.exact("so3-exact", "The output turns along.", measured=1e-7, published="exact"),
            Claim.exact("not-finite", "The loss is finite.", measured=math.inf),
            Claim.ratio("faster", "It is twice as fast.", measured=1.5, at_least=2.0, published=30),
            Claim.number("count", "There are 15.", measured=15, expected=15, tol=0.5),
            Claim.ratio("seeds", "Ours over theirs.", measured=[0.5, 0.6], below=1),
            Claim.bound("small", "It is small.", measured=2, at_most=3).unsettled("too little training"),
            Claim.not_measurable("big", "It wins.", published=0.8, reason="needs ImageNet"),
        ],
    )
    head = {"system": "toy", "scale": "full", "seed": 0, "version": "0.1.0", "machine": "a machine", "seconds": 1.25}
    return head | result.to_dict()


def accepted_by_schema(value):
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(value)


DELETE = object()


def changed(path, value):
    """The entry with another value at a path; DELETE takes the key away."""
    new = copy.deepcopy(entry())
    *parents, last = path
    place = new
    for key in parents:
        place = place[key]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    return new


# --- the schema ------------------------------------------------------------------------------------------------------
def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    claim = SCHEMA["$defs"]["claim"]
    assert set(claim["required"]) == set(entry()["claims"][0]) - {"verdict"}  # version 0.1.0 had none
    assert set(claim["properties"]) == set(claim["required"]) | {"verdict", "values", "note"}


def test_results_of_the_repository():
    files = {path.stem: path for path in RESULTS.iterdir() if path.name != "schema.json"}
    assert set(files) <= set(discover_systems())
    for file in files.values():
        jsonschema.validate(json.loads(file.read_text()), SCHEMA)
        read_entry(file)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), None),
        (("options",), {"epochs": 5, "rule": None}),
        (("scale",), "smoke"),
        (("seconds",), 3),
        (("claims", 0, "measured"), 0),
        (("claims", 0, "published"), None),
        (("rows", 0, "x"), "nan"),
        (("claims", 0, "note"), "a remark"),
        (("claims", 0, "verdict"), DELETE),
        (("fingerprint",), "0123"),
        (("runs",), [{"model": "ours", "seed": 0}]),
    ],
)
def test_both_accept(path, value):
    good = changed(path, value) if path else entry()
    assert accepted_by_schema(good)
    check_entry(good)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(((key,), DELETE) for key in entry()),
        (("author",), "me"),
        (("system",), "my-system"),
        (("system",), 3),
        (("scale",), "huge"),
        (("seed",), -1),
        (("seed",), True),
        (("seed",), 0.5),
        (("version",), ""),
        (("machine",), " "),
        (("machine",), None),
        (("seconds",), -1),
        (("seconds",), "1"),
        (("seconds",), True),
        (("options",), {}),
        (("options",), {"degrees": [1]}),
        (("options",), 3),
        (("rows",), []),
        (("rows",), {"method": "ours"}),
        (("rows", 0), "ours"),
        (("rows", 0, "error"), [0.1]),
        (("claims",), []),
        (("claims",), {}),
        (("claims", 0), "it holds"),
        (("claims", 0, "holds"), DELETE),
        (("claims", 0, "author"), "x"),
        (("claims", 0, "note"), ""),
        (("claims", 0, "note"), 3),
        (("claims", 0, "verdict"), "maybe"),
        (("claims", 4, "values"), []),
        (("claims", 4, "values"), [None]),
        (("claims", 4, "values"), "0.5"),
        (("claims", 6, "verdict"), "holds"),
        (("claims", 0, "id"), "SO3 exact"),
        (("claims", 0, "id"), 3),
        (("claims", 0, "statement"), ""),
        (("claims", 0, "statement"), None),
        (("claims", 0, "kind"), "better"),
        (("claims", 0, "kind"), 1),
        (("claims", 0, "published"), True),
        (("claims", 0, "published"), [1]),
        (("claims", 0, "measured"), None),
        (("claims", 0, "measured"), "small"),
        (("claims", 0, "measured"), False),
        (("claims", 0, "threshold"), "=< 1"),
        (("claims", 0, "threshold"), 1e-5),
        (("claims", 0, "holds"), 1),
        (("claims", 6, "measured"), 1.0),
        (("claims", 6, "holds"), True),
        (("claims", 6, "threshold"), ""),
    ],
)
def test_both_refuse(path, value):
    bad = changed(path, value)
    assert not accepted_by_schema(bad)
    with pytest.raises(ErlangenError):
        check_entry(bad)


def test_what_only_the_numbers_tell():
    """A schema cannot compare a number with its threshold; the code can."""
    for field, lie in (("holds", True), ("verdict", "holds")):
        wrong = changed(("claims", 2, field), lie)
        assert accepted_by_schema(wrong)
        with pytest.raises(ClaimError, match=r"but (the verdict is 'fails'|measured 1\.5)"):
            check_entry(wrong)
    with pytest.raises(ClaimError, match="occur more than once"):
        check_entry(changed(("claims", 0, "id"), "count"))
    for nothing in (None, [], "text"):
        with pytest.raises(ClaimError, match="an entry is an object"):
            check_entry(nothing)


# --- files -----------------------------------------------------------------------------------------------------------
def test_read_what_was_written(tmp_path):
    path = tmp_path / "toy.json"
    write_json(path, entry())
    assert read_entry(path) == entry()
    assert [file.name for file in tmp_path.iterdir()] == ["toy.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ('{"system": "toy", ', "cannot be read as JSON"),
        ("{}", "is no result of a run: an entry has the keys"),
        (json.dumps(entry()).replace('"measured": 1e-07', '"measured": NaN'), "NaN is not JSON"),
        (json.dumps(entry() | {"system": "other"}), "system = 'other' does not belong there"),
        (json.dumps(entry() | {"scale": "smoke"}), "scale = 'smoke' does not belong there"),
        (json.dumps(entry() | {"options": {"a": 1}}), "options = {'a': 1} does not belong there"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    path = tmp_path / "toy.json"
    path.write_text(text)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{re.escape(message)}.*repair or remove it"):
        read_entry(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_breaks_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "toy.json"
    write_json(path, {"old": 1})

    def broken(*_):
        raise OSError("disk full")

    if step == "fsync":
        monkeypatch.setattr("os.fsync", broken)
    else:
        monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(DataError, match=r"toy.json' cannot be written: disk full; choose another folder"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_only_strict_json_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "toy.json", {"x": math.nan})
    assert not list(tmp_path.iterdir())


# --- what an entry says ----------------------------------------------------------------------------------------------
def test_counts_and_cells():
    counts = {"holds": 3, "fails": 2, "undecided": 0, "not settled": 1, "not measurable here": 1}
    assert count_verdicts(entry()) == counts
    assert verdict_text(counts) == "3 holds, 2 fails, 1 not settled, 1 not measurable here"
    cells = [cell_text(value) for value in (None, True, False, 3, 0.123456, 1e-7, 2.0, "nan")]
    assert cells == ["", "yes", "no", "3", "0.1235", "1e-07", "2", "nan"]


def test_rows_with_the_same_columns_make_a_table():
    rows = [{"part": "a", "x": 1}, {"part": "b", "y": 2.5}, {"x": None, "part": "a"}]
    assert row_tables(rows) == [(["part", "x"], [["a", "1"], ["a", ""]]), (["part", "y"], [["b", "2.5"]])]
