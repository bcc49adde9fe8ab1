"""`verify`: exit codes, what is kept, what is taken over, what is refused; the local engine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from erlangen import cli
from erlangen.errors import DataError, MissingExtraError, UnknownNameError
from erlangen.survey.results import read_entry
from erlangen.survey.verification import Outcome, exit_code, verify
from erlangen.version import __version__
from helpers.fake_systems import forget, write_area, write_system

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """A survey of four systems and no other, and an empty folder to work in."""
    import erlangen.systems

    area = write_area(tmp_path / "survey", "good", "failing", "raising", "needy")
    monkeypatch.setattr(erlangen.systems, "__path__", [str(area.parent)])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield area
    forget()


def ran():
    log = Path("runs.log")
    return log.read_text().split() if log.exists() else []


def listed(path):
    return {item["system"]: item for item in json.loads(Path(path).read_text())}


# --- outcomes and exit codes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("systems", "code"),
    [
        (["good"], 0),
        (["failing"], 1),
        (["raising"], 2),
        (["needy"], 3),
        (["good", "failing"], 1),
        (["needy", "good"], 3),
        (["needy", "failing"], 1),
        (["raising", "failing", "needy"], 2),
        (["--all"], 2),
    ],
)
def test_exit_codes(survey, systems, code):
    assert cli.run(["verify", *systems]) == code


def test_outcomes(survey):
    good, failing, raising, needy = (next(verify([name])) for name in ("good", "failing", "raising", "needy"))
    assert good.entry["claims"][0]["holds"] is True
    assert failing.entry["claims"][0]["measured"] == 0.5
    assert (raising.entry, raising.error) == (None, "RuntimeError: two lines")
    assert needy.missing_extra
    assert "pip install 'erlangen[files]'" in needy.error
    assert exit_code([]) == 0


def test_a_system_that_exits_does_not_end_the_others(survey):
    write_system(survey, "leaving", "def experiment(scale, seed):\n    raise SystemExit(0)\n")
    first, second = verify(["leaving", "good"])
    assert (first.code, first.error) == (2, "SystemExit: 0")
    assert second.code == 0


def test_the_table_has_a_row_per_claim(survey, capsys):
    cli.run(["verify", "--all"])
    shown = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line]
    assert [(row[0], row[1], row[-1]) for row in rows if row[0]] == [
        ("failing", "zero", "fails"),
        ("good", "fair", "holds"),
        ("good", "big", "not measurable here"),
        ("needy", "", "extra missing"),
        ("raising", "", "could not run"),
    ]
    assert "good: 1 holds, 0 fails, 1 not measurable here" in shown.err


def test_threads_and_the_global_stream_are_put_back(survey):
    write_system(
        survey,
        "threads",
        "def experiment(scale, seed):\n"
        "    return Result([{'threads': torch.get_num_threads(), 'draw': torch.rand(()).item()}],\n"
        "                  [Claim.exact('a', 'b', measured=0.0)])\n",
    )
    before, state = torch.get_num_threads(), torch.get_rng_state()
    rows = [next(verify(["threads"], threads=n, seed=seed)).entry["rows"][0] for n, seed in ((3, 0), (2, 0), (2, 1))]
    assert [row["threads"] for row in rows] == [3, 2, 2]
    assert rows[0]["draw"] == rows[1]["draw"] == torch.rand((), generator=torch.Generator().manual_seed(0)).item()
    assert rows[2]["draw"] != rows[1]["draw"]
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


# --- what is kept ----------------------------------------------------------------------------------------------------
def test_full_runs_are_kept_and_smoke_runs_are_not(survey):
    cli.run(["verify", "--all", "--scale", "smoke"])
    assert not Path("results").exists()
    cli.run(["verify", "--all", "--scale", "full", "--seed", "3", "--json", "all.json"])
    assert sorted(path.name for path in Path("results").iterdir()) == ["failing.json", "good.json"]
    entry = read_entry(Path("results/good.json"))
    assert (entry["scale"], entry["seed"], entry["version"]) == ("full", 3, __version__)
    items = listed("all.json")
    assert list(items) == ["failing", "good", "needy", "raising"]
    assert items["good"] == entry
    error = {
        "system": "raising",
        "scale": "full",
        "seed": 3,
        "version": __version__,
        "error": "RuntimeError: two lines",
    }
    assert items["raising"] == error


def test_json_to_stdout_is_json_alone(survey, capsys):
    write_system(survey, "loud", "def experiment(scale, seed):\n    print('hello')\n    raise ValueError('no')\n")
    assert cli.run(["verify", "good", "loud", "--json", "-"]) == 2
    shown = capsys.readouterr()
    assert [item["system"] for item in json.loads(shown.out)] == ["good", "loud"]
    assert "hello" in shown.err


def test_a_file_is_a_system_too(survey, tmp_path):
    mine = write_system(tmp_path, "failing")
    assert cli.run(["verify", str(mine), "--scale", "full"]) == 1
    assert read_entry(Path("results/failing.json"))["scale"] == "full"


# --- resume ----------------------------------------------------------------------------------------------------------
def test_resume_runs_only_what_is_missing(survey):
    cli.run(["verify", "good", "failing", "--scale", "full"])
    assert ran() == ["good", "failing"]
    before = Path("results/good.json").read_bytes()
    outcomes = list(verify(scale="full", resume=True))
    assert ran() == ["good", "failing", "raising"]  # "needy" leaves no trace
    assert [(o.system, o.resumed) for o in outcomes][:2] == [("failing", True), ("good", True)]
    assert Path("results/good.json").read_bytes() == before
    assert exit_code(outcomes) == 2  # taken over or not, a failing claim and a broken system count


@pytest.mark.parametrize("other", [{"seed": 1}, {"scale": "smoke"}])
def test_resume_takes_only_the_same_run(survey, other):
    list(verify(["good"], **{"scale": "full", "seed": 0, **other}, file=Path("all.json")))
    [outcome] = verify(["good"], scale="full", file=Path("all.json"), resume=True)
    assert not outcome.resumed


@pytest.mark.parametrize(
    ("line", "taken_over"), [("# a remark\n", True), ('"""Words."""\n', True), ("ANSWER = 42\n", False)]
)
def test_resume_takes_only_what_the_same_code_found(survey, line, taken_over):
    list(verify(["good"], scale="full"))
    file = survey / "good.py"
    file.write_text(file.read_text() + line.replace('"""Words."""', ""))
    forget()
    [outcome] = verify(["good"], scale="full", resume=True)
    assert outcome.resumed is taken_over


def test_smoke_runs_resume_from_the_json_file(survey):
    cli.run(["verify", "good", "raising", "--json", "smoke.json"])
    assert cli.run(["verify", "good", "raising", "failing", "--json", "smoke.json", "--resume"]) == 2
    assert ran() == ["good", "raising", "raising", "failing"]  # what could not run is tried again
    assert list(listed("smoke.json")) == ["good", "raising", "failing"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(survey, tmp_path):
    """Killed while the second of three systems runs, without any chance to clean up."""
    area = write_area(tmp_path / "other", "good", "failing")
    waits = (
        "import time\n\ndef experiment(scale, seed):\n    ran()\n    time.sleep(0 if Path('go').exists() else 600)\n"
    )
    (area / "good.py").rename(area / "a_good.py")
    write_system(area, "b_slow", waits + "    return Result([{'a': 1}], [Claim.exact('a', 'b', measured=0.0)])\n")
    call = f"import erlangen.systems as s; s.__path__ = [{str(area.parent)!r}]; from erlangen.cli import main; main()"
    command = [sys.executable, "-c", call, "verify", "--all", "--scale", "full", "--json", "all.json"]
    environment = os.environ | {"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while ran() != ["good", "b_slow"]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(path.name for path in Path("results").iterdir()) == ["a_good.json"]
    assert list(listed("all.json")) == ["a_good"]
    first = Path("results/a_good.json").read_bytes()
    Path("go").touch()
    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # "failing" fails
    assert ran() == ["good", "b_slow", "b_slow", "failing"]
    assert Path("results/a_good.json").read_bytes() == first
    assert list(listed("all.json")) == ["a_good", "b_slow", "failing"]


def test_ctrl_c_leaves_what_is_finished(survey, capsys):
    write_system(survey, "stopped", "def experiment(scale, seed):\n    raise KeyboardInterrupt\n")
    code = cli.run(["verify", "good", "stopped", "failing", "--scale", "full", "--json", "all.json"])
    shown = capsys.readouterr()
    assert code == 130
    assert "interrupted; 1 finished systems are kept" in shown.err
    assert "fair" in shown.out
    assert ran() == ["good"]
    assert list(listed("all.json")) == ["good"]
    assert read_entry(Path("results/good.json"))


# --- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["goood"], "there is no system 'goood'; did you mean 'good'?"),
        ([], "name the systems to verify, or pass --all"),
        (["good", "--all"], "name the systems to verify, or pass --all"),
        (["good", "--resume", "--fresh"], "pass one of the two"),
        (["good", "--resume"], "nothing to resume from"),
        (["good", "--seed", "-1"], "seed = -1; pass a whole number"),
        (["good", "--threads", "0"], "threads = 0; pass a whole number of at least 1"),
        (["good", "./good.py"], "several of the systems have the name 'good'"),
        (["my-system.py"], "'my-system' cannot be the name of a results file"),
        (["nowhere.py"], "there is no file"),
    ],
)
def test_bad_usage_is_one_line(survey, capsys, words, message):
    assert cli.run(["verify", *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err + shown.out
    assert ran() == []


@pytest.mark.parametrize("resume", [True, False])
def test_a_damaged_result_is_named_and_stays(survey, capsys, resume):
    Path("results").mkdir()
    damaged = Path("results/failing.json")
    damaged.write_text('{"system": "failing", "sca')
    assert cli.run(["verify", "good", "failing", "--scale", "full", *(["--resume"] if resume else [])]) == 2
    assert "'results/failing.json' cannot be read as JSON" in capsys.readouterr().err
    assert damaged.read_text() == '{"system": "failing", "sca'
    assert ran() == []


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"system": "good"}]', '[{"scale": "smoke"}]', "3"])
def test_a_damaged_file_to_resume_from_is_named(survey, text):
    Path("all.json").write_text(text)
    with pytest.raises(DataError, match=r"'all\.json' (is no list of entries|cannot be read)"):
        next(verify(["good"], file=Path("all.json"), resume=True))
    assert Path("all.json").read_text() == text
    assert ran() == []


def test_folders_that_cannot_be_written_to(survey, capsys):
    Path("file").write_text("")
    assert cli.run(["verify", "good", "--scale", "full", "--out", "file/results"]) == 2
    assert "the folder 'file/results' cannot be written to" in capsys.readouterr().err
    assert cli.run(["verify", "good", "--json", "file/all.json"]) == 2
    assert ran() == []


def test_python_callers_get_named_errors(survey):
    with pytest.raises(UnknownNameError, match="scale = 'huge'"):
        next(verify(["good"], scale="huge"))
    with pytest.raises(UnknownNameError, match="engine = 'dask' is not known; choose 'local' or 'ray'"):
        next(verify(["good"], engine="dask"))


def test_ray_is_an_extra(survey, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError):
        next(verify(["good"], engine="ray"))
    assert cli.run(["verify", "good", "--engine", "ray"]) == 3
    assert "pip install 'erlangen[ray]'" in capsys.readouterr().err


def test_the_worst_code_wins_whatever_the_order():
    codes = {
        0: Outcome("a", {"claims": [{"verdict": "holds"}, {"verdict": "undecided"}]}),
        1: Outcome("b", {"claims": [{"verdict": "fails"}, {"verdict": "holds"}]}),
        2: Outcome("c", error="no"),
        3: Outcome("d", error="no", missing_extra=True),
    }
    assert {code: outcome.code for code, outcome in codes.items()} == {0: 0, 1: 1, 2: 2, 3: 3}
    for order in (codes.values(), reversed(codes.values())):
        assert exit_code(order) == 2
    assert exit_code([codes[3], codes[1], codes[0]]) == 1
    assert exit_code([codes[3], codes[0]]) == 3


# --- several calls, one file -----------------------------------------------------------------------------------------
def test_two_calls_with_one_file_lose_nothing(survey):
    """Both have begun before either has finished a system; errors stay as well, and other scales and seeds."""
    file = Path("all.json")
    list(verify(["good"], seed=7, file=file))
    first = verify(["good", "raising"], file=file)
    second = verify(["failing", "good"], seed=1, file=file)
    for call in (first, second, first, second):
        next(call)
    items = json.loads(file.read_text())
    keys = sorted((item["system"], item["seed"], "error" in item) for item in items)
    wanted = [("failing", 1, False), ("good", 0, False), ("good", 1, False), ("good", 7, False), ("raising", 0, True)]
    assert keys == wanted
    list(verify(["good"], file=file))  # one of the same system, scale and seed takes the place of the older one
    assert sorted((item["system"], item["seed"], "error" in item) for item in json.loads(file.read_text())) == wanted
    forget()
    before = ran()
    [outcome] = verify(["good"], seed=7, file=file, resume=True)  # of several seeds the right one is taken over
    assert (outcome.resumed, outcome.entry["seed"]) == (True, 7)
    assert ran() == before


def test_processes_take_turns(tmp_path):
    """Four processes add a hundred numbers each to one list, which is read and written anew every time."""
    code = """
import json, pathlib, sys
from erlangen.files import locked, write_text
path = pathlib.Path(sys.argv[1])
for i in range(100):
    with locked(path):
        write_text(path, json.dumps([*(json.loads(path.read_text()) if path.exists() else []), [sys.argv[2], i]]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "list.json")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen([*command, name], env=environment) for name in "abcd"]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    found = json.loads((tmp_path / "list.json").read_text())
    assert sorted(map(tuple, found)) == [(name, i) for name in "abcd" for i in range(100)]


@pytest.mark.parametrize("text", ["{", "{}", '[{"system": "good"}]', '[{"error": "x"}]', "[" * 10**5])
def test_a_file_of_something_else_is_not_replaced(survey, text):
    Path("all.json").write_text(text)
    with pytest.raises(DataError, match=r"'all\.json' (is no list of entries|cannot be read)"):
        next(verify(["good"], file=Path("all.json")))
    assert Path("all.json").read_text() == text
    assert ran() == []
