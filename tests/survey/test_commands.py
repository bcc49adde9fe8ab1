"""`erlangen list`, `show` and `run`, and the options of experiments."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch

import erlangen
from erlangen import cli
from erlangen.errors import DataError, UnknownNameError
from erlangen.survey.claims import ClaimError
from erlangen.survey.figures import claims_figure
from erlangen.survey.ledger import discover_systems, run
from erlangen.survey.options import describe_options, read_options
from erlangen.survey.printing import claim_rows
from erlangen.survey.results import ledger_folder
from helpers.fake_systems import BODIES, forget, write_area, write_system


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """A survey of two systems and no other, and an empty folder to work in."""
    import erlangen.systems

    area = write_area(tmp_path / "survey", "good", "failing")
    monkeypatch.setattr(erlangen.systems, "__path__", [str(area.parent)])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield area
    forget()


def table_rows(text):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


# --- list ------------------------------------------------------------------------------------------------------------
def test_list_counts_the_claims_of_full_runs(survey, capsys):
    cli.run(["verify", "good", "--scale", "full", "--seed", "4"])
    capsys.readouterr()
    assert cli.run(["list"]) == 0
    failing, good = table_rows(capsys.readouterr().out)
    assert failing == ["invented", "failing", "2022", "", "", "", "", "no results"]
    assert good[:7] == ["invented", "good", "2022", "1", "0", "0", "1"]
    assert "seed 4" in good[7]
    assert "of other code" not in good[7]
    (survey / "good.py").write_text((survey / "good.py").read_text() + "\nANSWER = 42\n")
    assert cli.run(["list"]) == 0
    assert "of other code" in table_rows(capsys.readouterr().out)[1][7]


def test_list_as_json_and_the_ledger_of_the_library(survey, capsys):
    assert not Path("results").exists()
    assert ledger_folder() == Path(erlangen.__file__).parents[2] / "results"
    cli.run(["verify", "good", "--scale", "full"])
    assert ledger_folder() == Path("results")
    assert ledger_folder(Path("elsewhere")) == Path("elsewhere")
    capsys.readouterr()
    assert cli.run(["list", "--json"]) == 0
    failing, good = json.loads(capsys.readouterr().out)
    assert (failing["holds"], failing["run"]) == (None, "no results")
    assert (good["title"], good["year"], good["holds"], good["fails"]) == ("A title | of good", 2022, 1, 0)


def test_systems_by_other_names(survey, capsys):
    write_system(survey, "long_name", BODIES["good"])
    for words in ("long-name", "title | of long", "of long_name"):
        assert cli.run(["run", words, "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["system"] == "long_name"
    for ambiguous in ("2110.03336", "A title"):
        assert cli.run(["run", ambiguous]) == 2
        assert "did you mean 'failing' or 'good' or 'long_name'?" in capsys.readouterr().err
    path = survey / "long_name.py"
    path.write_text(path.read_text().replace("2110.03336", "2110.99999"))
    forget()
    for words in ("2110.99999", "arXiv:2110.99999"):
        assert cli.run(["run", words, "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["system"] == "long_name"


def test_claims_of_all_systems(survey, capsys):
    cli.run(["verify", "good", "failing", "--scale", "full"])
    capsys.readouterr()
    assert cli.run(["claims"]) == 0
    assert [row[:2] for row in table_rows(capsys.readouterr().out)] == [
        ["failing", "zero"],
        ["good", "fair"],
        ["good", "big"],
    ]
    assert cli.run(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["area"], row["verdict"], row["seeds"]) for row in rows] == [
        ("invented", "fails", None),
        ("invented", "holds", None),
        ("invented", "not measurable here", None),
    ]
    assert cli.run(["claims", "--csv"]) == 0
    assert [row["id"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == ["zero", "fair", "big"]
    assert cli.run(["claims", "--csv", "--json"]) == 2
    capsys.readouterr()
    Path("results/good.json").write_text("{")
    assert cli.run(["claims"]) == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


PUBLISHED = """
def experiment(run):
    return Result([{"a": 1}], [
        Claim.ratio("better", "It is better.", measured=0.5, below=1, published=0.25),
        Claim.ratio("faster", "It is faster.", measured=3.0, below=1, published=0.75),
        Claim.ratio("said", "It is smaller.", measured=0.5, below=1, published="twice as small"),
        Claim.ratio("silent", "It is larger.", measured=0.5, below=1),
        Claim.not_measurable("big", "It wins.", published=0.8, reason="needs ImageNet"),
    ])
"""


def test_claims_are_plotted_where_papers_give_numbers(survey, capsys):
    """Two of five have both numbers: one holds, one fails."""
    write_system(survey, "known", PUBLISHED)
    cli.run(["verify", "known", "good", "--scale", "full"])
    capsys.readouterr()
    assert cli.run(["claims", "--plot", "claims.svg"]) == 0
    shown = capsys.readouterr()
    assert "claims.svg" in shown.err
    assert "better" in shown.out
    text = Path("claims.svg").read_text()
    for words in (
        "known: 0.25, 0.5",
        "known: 0.75, 3",
        "holds (1)",
        "fails (1)",
        "2 of 7 claims; 1 are published in words",
    ):
        assert words in text
    rows, _ = claim_rows(discover_systems(), Path("results"))
    marks = claims_figure(rows).axes[0].collections
    assert [dots.get_offsets().tolist() for dots in marks] == [[[0.25, 0.5]], [[0.75, 3.0]]]
    assert cli.run(["claims", "--plot", "claims.png"]) == 0
    assert Path("claims.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    assert cli.run(["claims", "--plot", "claims.txt"]) == 2
    assert "figures are written as .svg, .pdf or .png" in capsys.readouterr().err
    Path("results/known.json").unlink()
    assert cli.run(["claims", "--plot", "none.png"]) == 2
    assert "no claim in the results has a published and a measured number" in capsys.readouterr().err
    assert not Path("none.png").exists()


def test_runs_that_settle_little_say_what_they_are(survey, capsys):
    write_system(survey, "known", PUBLISHED)
    small, dry = "This is a smoke run, as small as a test", "This is a dry run, one step on a few samples"
    assert cli.run(["run", "good"]) == 0
    assert capsys.readouterr().out.startswith(small)
    assert cli.run(["run", "known", "--dry", "--scale", "full"]) == 0
    assert capsys.readouterr().out.startswith(dry)
    assert cli.run(["verify", "good"]) == 0
    shown = capsys.readouterr()
    assert small in shown.out
    assert "not measurable here (smoke run, " in shown.err
    cli.run(["run", "good", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["scale"] == "smoke"
    cli.run(["run", "good", "--scale", "full"])
    cli.run(["verify", "good", "--scale", "full"])
    cli.run(["show", "good"])
    shown = capsys.readouterr()
    assert "smoke" not in shown.out + shown.err
    assert "This is" not in shown.out


def test_list_goes_on_past_damage(survey, capsys):
    write_system(survey, "broken", "import no_such_package\n")
    Path("kept").mkdir()
    Path("kept/good.json").write_text("{}")
    assert cli.run(["list", "--results", "kept"]) == 2
    shown = capsys.readouterr()
    broken, _, good = table_rows(shown.out)
    assert broken[2] == "?"
    assert good == ["invented", "good", "2022", "?", "?", "?", "?", "damaged"]
    assert "'broken' cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'" in shown.err
    assert "'kept/good.json' is no result of a run" in shown.err


def test_no_systems(tmp_path, monkeypatch, capsys):
    import erlangen.systems

    monkeypatch.setattr(erlangen.systems, "__path__", [str(tmp_path)])
    for words in (["list"], ["verify", "--all"]):
        assert cli.run(words) == 0
        assert capsys.readouterr().out.startswith("The survey has no systems yet.")


# --- show ------------------------------------------------------------------------------------------------------------
def test_show_before_and_after_a_run(survey, capsys):
    assert cli.run(["show", "good"]) == 0
    before = capsys.readouterr().out
    for text in (
        "A title | of good",
        "A. Author",
        "ICLR 2022, arXiv:2110.03336",
        "It holds.",
        "verify good --scale full",
    ):
        assert text in before
    assert "throws: int = 100, rule: str | None = None" in before
    cli.run(["verify", "good", "--scale", "full"])
    capsys.readouterr()
    assert cli.run(["show", "good"]) == 0
    after = capsys.readouterr().out
    assert ["fair", "Half | of them.", ""] in [row[:3] for row in table_rows(after)]
    assert ["base", "nan"] in table_rows(after)
    assert "full, seed 0" in after
    Path("results/good.json").write_text("{")
    assert cli.run(["show", "good"]) == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


# --- run -------------------------------------------------------------------------------------------------------------
def test_run_with_options(survey, capsys):
    words = ["run", "good", "--seed", "2", "--set", "throws=7", "rule=gaunt", "--json", "entry.json"]
    assert cli.run(words) == 0
    entry = json.loads(Path("entry.json").read_text())
    assert (entry["scale"], entry["seed"], entry["options"]) == ("smoke", 2, {"throws": 7, "rule": "gaunt"})
    assert (entry["rows"][0]["throws"], entry["rows"][0]["rule"]) == (7, "gaunt")
    assert "throws = 7, rule = gaunt" in capsys.readouterr().out
    assert cli.run(["run", "good", "--set", "throws=7", "--set", "rule=none", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == {"throws": 7, "rule": None}
    assert not Path("results").exists()


def test_run_is_that_of_python(survey, capsys):
    assert cli.run(["run", "good", "--json", "-"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert "options" not in entry
    assert entry["rows"] == run("good")["rows"] == run("good", threads=2)["rows"]


def test_device(survey, capsys):
    assert cli.run(["run", "failing", "--device", "meta", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [{"device": "meta"}]
    assert cli.run(["run", "good", "--device", "cpu"]) == 0
    write_system(Path(), "coins", "def experiment(scale, seed):\n    return Result([{}], [])\n")
    assert cli.run(["run", "coins.py", "--device", "meta"]) == 2
    assert "'coins' has no option 'device'; it runs on the cpu" in capsys.readouterr().err


def test_a_dry_run_says_that_it_is_one(survey, capsys):
    assert cli.run(["run", "good", "--scale", "paper", "--dry", "--json", "-"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["scale"], entry["options"]) == ("paper", {"dry": True})
    assert cli.run(["run", "failing", "--dry"]) == 2
    assert "no dry run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["goood"], "there is no system 'goood'; did you mean 'good'? known systems are failing, good"),
        (
            ["good", "--set", "trows=5"],
            "'good' has no option 'trows'; did you mean 'throws'? its options are throws, rule",
        ),
        (["failing", "--set", "x=5"], "'failing' has no option 'x'; its options are device"),
        (["good", "--set", "throws"], "--set 'throws': write name=value"),
        (["good", "--set", "=5"], "--set '=5': write name=value"),
        (["good", "--set", "throws=many"], "--set throws=many: 'throws' takes a whole number"),
        (["good", "--set", "throws=1", "--set", "throws=2"], "'throws' is set twice, before as '1'"),
        (["good", "--set", "seed=1"], "'good' has no option 'seed'"),
        (["failing", "--device", "gpu"], "--device gpu: torch cannot compute there"),
        (["failing", "--device", "cpu", "--set", "device=cpu"], "give one of the two"),
        (["good", "--json", "/dev/null/entry.json"], "the folder '/dev/null' cannot be written to"),
        (["good", "--seed", "-3"], "seed = -3"),
    ],
)
def test_bad_usage_is_one_line(survey, capsys, words, message):
    assert cli.run(["run", *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not Path("runs.log").exists()


def test_systems_of_ones_own(survey, tmp_path, capsys):
    """A module of the folder in which one works, by its dotted path or its file."""
    Path("mine").mkdir()
    write_system(Path("mine"), "coins", "def experiment(scale, seed):\n    return Result([{}], [])\n")
    assert cli.run(["show", "mine.coins"]) == 0
    assert cli.run(["show", "mine/coins.py"]) == 0
    assert capsys.readouterr().out.count("A title | of coins") == 2
    assert str(Path.cwd()) not in sys.path
    Path("mine/empty.py").write_text("")
    assert cli.run(["show", "mine/empty.py"]) == 2
    assert "is no system: it needs SYSTEM" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a system, as pip leaves it: a module and the entry points in its metadata."""
    site = tmp_path / "site"
    info = site / "games-1.0.dist-info"
    (site / "games").mkdir(parents=True)
    info.mkdir()
    (site / "games" / "__init__.py").write_text("")
    write_system(site / "games", "dice", BODIES["good"])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: games\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[erlangen.systems]\ndice = games.dice\n")
    monkeypatch.syspath_prepend(str(site))
    yield info
    for name in [name for name in sys.modules if name.split(".")[0] == "games"]:
        del sys.modules[name]


def test_systems_of_installed_packages(survey, package, capsys):
    assert cli.run(["list", "--json"]) == 0
    rows = {row["system"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["failing", "good", "dice"]
    assert (rows["dice"]["area"], rows["dice"]["title"]) == ("games", "A title | of dice")
    assert cli.run(["run", "dice", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["system"] == "dice"
    assert cli.run(["verify", "dice", "--scale", "full"]) == 0
    capsys.readouterr()
    assert cli.run(["claims", "--json"]) == 0
    assert [row["system"] for row in json.loads(capsys.readouterr().out)] == ["dice"] * 2
    (package / "entry_points.txt").write_text("[erlangen.systems]\ngood = games.dice\n")
    assert cli.run(["list"]) == 2
    assert "systems of one name" in capsys.readouterr().err


def test_systems_in_files_and_folders(survey, capsys):
    """Only what has a SYSTEM is run; packages count, and their results are found by their name."""
    mine = Path("mine")
    (mine / "dice").mkdir(parents=True)
    write_system(mine, "coins", BODIES["good"])
    facts, body = write_system(mine / "dice", "__init__", "").read_text(), BODIES["failing"]
    (mine / "dice" / "experiment.py").write_text(facts.split("SYSTEM")[0] + "\ndef ran(): ...\n" + body)
    (mine / "script.py").write_text("raise RuntimeError('this is no system, and not to be run')\n")
    (mine / "broken.py").write_text("def (")
    assert cli.run(["list", "--json", "--systems", "mine"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["area"], row["system"]) for row in rows] == [
        ("invented", "failing"), ("invented", "good"), ("mine", "coins"), ("mine", "dice"),
    ]  # fmt: skip
    assert cli.run(["verify", "mine/coins.py", "mine/dice/__init__.py", "--scale", "full"]) == 1
    capsys.readouterr()
    assert cli.run(["claims", "--csv", "--systems", "mine/coins.py", "--systems", "mine/dice/__init__.py"]) == 0
    found = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["system"] for row in found] == ["coins", "coins", "dice"]
    assert cli.run(["list", "--systems", "mine"]) == 0
    assert "of other code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("none.py", "there is no file"),
        ("none", "there is no folder or file"),
        (".", "has SYSTEM = System(...) at its top"),
    ],
)
def test_places_without_systems(survey, capsys, place, words):
    assert cli.run(["list", "--systems", place]) == 2
    assert words in capsys.readouterr().err


# --- options by type -------------------------------------------------------------------------------------------------
def options(
    scale,
    seed,
    count: int = 1,
    rate: float = 0.5,
    deep: bool = False,
    rule: Literal["cg", "gaunt", 0] = "cg",
    width: int | None = None,
    either: str | float = "auto",
    degrees: Sequence[int] = (1, 2),
    pair: tuple[int, float] = (1, 0.5),
    names: tuple[str, ...] = (),
    plain=3,
    device: torch.device | None = None,
    *rest,
    **more,
): ...


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("count=-5", -5),
        ("rate=1e-3", 1e-3),
        ("rate=2", 2.0),
        ("deep=true", True),
        ("deep=False", False),
        ("rule=gaunt", "gaunt"),
        ("rule=0", 0),
        ("width=none", None),
        ("width=8", 8),
        ("either=0.5", 0.5),
        ("either=a=b", "a=b"),
        ("degrees=1", [1]),
        ("degrees=1, 2,3", [1, 2, 3]),
        ("pair=2,3", (2, 3.0)),
        ("names=a,b", ("a", "b")),
        ("plain=4", 4),
    ],
)
def test_options_are_read_by_type(word, value):
    [read] = read_options(options, [word], "toy").values()
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("count=1.5", "a whole number"),
        ("rate=fast", "a number"),
        ("deep=1", "true or false"),
        ("rule=cgg", "cg or gaunt or 0"),
        ("width=x", "a whole number or none"),
        ("degrees=1,x", "a whole number, several with commas between them"),
        ("pair=1,2,3", "a whole number, a number, with commas between them"),
        ("plain=x", "a whole number"),
    ],
)
def test_options_of_another_type_are_refused(word, words):
    with pytest.raises(DataError, match=f"takes {words}$"):
        read_options(options, [word], "toy")


def test_options_that_no_text_can_give():
    with pytest.raises(ClaimError, match=r"option 'device' of 'toy' is .*, which no text can give"):
        read_options(options, ["device=cpu"], "toy")
    with pytest.raises(UnknownNameError, match="has no option 'rest'"):
        read_options(options, ["rest=1"], "toy")

    def unreadable(scale, seed, x: "NoSuchType" = None): ...  # noqa: F821

    with pytest.raises(ClaimError, match="annotations of experiment of 'toy' cannot be read: name 'NoSuchType'"):
        read_options(unreadable, ["x=1"], "toy")
    assert read_options(unreadable, [], "toy") == {}


def test_options_are_described_as_written():
    assert describe_options(options)[:3] == ["count: int = 1", "rate: float = 0.5", "deep: bool = False"]
