"""What all systems have in common: anatomy, a smoke run, properties that hold, a figure, a page, a committed run."""

import ast
import dataclasses
import importlib
import importlib.util
import json
from pathlib import Path

import pytest
from torch import nn

import erlangen as er
from erlangen.survey import Result, Sizes
from erlangen.survey.ledger import discover_systems, experiment_module, load_facts, run
from erlangen.survey.results import upgraded
from erlangen.survey.tables import HEAD, TOO_SMALL
from erlangen.testing import check_layer

SYSTEMS = discover_systems()
RESULTS = Path(__file__).resolve().parents[2] / "results"
HEADINGS = ("Idea", "What is re-measured", "Protocol", "What differs from the paper", "What was chosen by looking")
FILES = {"__init__.py", "README.md", "method.py", "experiment.py", "rivals.py", "data.py"}

every_system = pytest.mark.parametrize("name", SYSTEMS)


def folder_of(name: str) -> Path:
    return Path(str(importlib.import_module(SYSTEMS[name]).__file__)).parent


def experiment_of(name: str):
    return experiment_module(importlib.import_module(SYSTEMS[name]))


# --- anatomy ---------------------------------------------------------------------------------------------------------
@every_system
def test_it_is_a_package_of_the_one_form(name: str) -> None:
    folder = folder_of(name)
    assert folder.name == name
    files = {path.name for path in folder.iterdir() if path.name != "__pycache__"}
    assert {"__init__.py", "README.md", "experiment.py"} <= files
    public = {file for file in files if not file.startswith("_") or file == "__init__.py"}
    extra = public - FILES
    assert not extra, (
        f"{sorted(extra)}: a system has method, experiment, rivals and data; parts of one are private files"
    )
    assert len((folder / "__init__.py").read_text().splitlines()) <= 45
    assert all(len(path.read_text().splitlines()) <= 500 for path in folder.glob("*.py"))


@every_system
def test_its_page_has_the_headings(name: str) -> None:
    lines = (folder_of(name) / "README.md").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert tuple(line.removeprefix("## ") for line in lines if line.startswith("## ")) == HEADINGS


@every_system
def test_the_method_is_public(name: str) -> None:
    facts = load_facts(name)
    assert facts.method, "SYSTEM.method names the classes and functions that are the method"
    for dotted in facts.method:
        room, _, last = dotted.rpartition(".")
        found = importlib.import_module(SYSTEMS[name] if room == f"erlangen.systems.{name}" else room)
        assert callable(getattr(found, last)), dotted
    assert vars(er.systems).get(name) is not None or getattr(er.systems, name) is importlib.import_module(SYSTEMS[name])


@every_system
def test_the_method_neither_trains_nor_claims(name: str) -> None:
    for path in folder_of(name).glob("method.py"):
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & {"fit", "Claim", "compare", "sweep", "plots"}
        first = next(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
        assert first.lineno <= 60, "the first class or function is on the first screen"


@every_system
def test_imports_stay_in_the_house(name: str) -> None:
    own = SYSTEMS[name]
    for path in folder_of(name).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("erlangen"):
                continue
            module = str(node.module)
            dotted = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            for full in dotted:
                private = any(part.startswith("_") for part in full.split(".")[1:])
                assert not private or full.startswith(f"{own}."), f"{path.name} imports {full}"
                assert not full.startswith("erlangen.systems.") or full.startswith(own), f"{path.name} imports {full}"


@every_system
def test_budgets_stand_side_by_side(name: str) -> None:
    budgets = experiment_of(name).BUDGETS
    assert list(budgets) == ["smoke", "full", "paper"]
    kinds = {type(budget) for budget in budgets.values()}
    assert len(kinds) == 1
    assert dataclasses.is_dataclass(kinds.pop())
    smoke, full, _ = budgets.values()
    assert getattr(smoke, "seeds", 1) == 1
    trained = [field.name for field in dataclasses.fields(smoke) if isinstance(getattr(smoke, field.name), Sizes)]
    for field in trained:
        assert getattr(smoke, field).total <= getattr(full, field).total
        # The clock of a test machine says little; a thousand samples for ten epochs take some seconds.
        assert getattr(smoke, field).train <= 2000
    if trained:
        assert getattr(full, "seeds", 1) >= 3


# --- the smoke run ---------------------------------------------------------------------------------------------------
@every_system
def test_properties_hold_and_nothing_else_is_judged(name: str, smoke, record_property) -> None:
    entry = smoke(name)
    record_property("seconds", entry["seconds"])
    result = Result.from_dict(entry)
    for claim in result.claims:
        if claim.kind == "not-measurable-here":
            continue
        if claim.verdict == "not settled":
            assert claim.note == TOO_SMALL
        else:
            assert claim.values is None, f"{claim.id} is judged at scale smoke, but comes from trained models"
            assert claim.verdict == "holds", f"{claim.id}: {claim.measured} against {claim.threshold}"


@every_system
def test_columns_are_the_standard_ones(name: str, smoke) -> None:
    for row in smoke(name)["rows"]:
        assert "part" in row
        if "learning rate" in row:
            assert list(row)[:2] == ["part", "model"]
            assert [column for column in row if column in HEAD] == list(HEAD)


@every_system
def test_statements_stand_alone(name: str, smoke) -> None:
    for claim in smoke(name)["claims"]:
        assert claim["statement"][-1] in ".?)", claim["id"]
        assert not claim["statement"].startswith(("The same", "That ", "This ", "It ")), claim["statement"]


@every_system
def test_the_figure_is_drawn(name: str, smoke) -> None:
    draw = getattr(experiment_of(name), "figure", None)
    if draw is None:
        pytest.skip(f"{name} has no figure")
    assert er.plots.to_svg(draw(Result.from_dict(smoke(name)))).startswith("<svg")


@every_system
def test_the_sizes_of_the_paper_can_be_built(name: str) -> None:
    entry = run(name, "paper", 0, threads=1, dry=True)
    assert entry["scale"] == "paper"
    assert {claim["verdict"] for claim in entry["claims"]} >= {"not settled"} or not any(
        claim["kind"] == "ratio" for claim in entry["claims"]
    )


# --- the ledger ------------------------------------------------------------------------------------------------------
@every_system
def test_the_committed_run_has_the_present_claims(name: str, smoke) -> None:
    kept = upgraded(json.loads((RESULTS / f"{name}.json").read_text()))
    now = {claim["id"]: claim for claim in smoke(name)["claims"]}
    then = {claim["id"]: claim for claim in kept["claims"]}
    assert set(now) <= set(then), f"not in the ledger: {sorted(set(now) - set(then))}"
    for key in now:
        measurable = "not-measurable-here" not in (now[key]["kind"], then[key]["kind"])
        if measurable:
            assert (now[key]["kind"], now[key]["threshold"]) == (then[key]["kind"], then[key]["threshold"]), key


# --- layers ----------------------------------------------------------------------------------------------------------
def layers_of(name: str) -> list[str]:
    """Dotted names of the modules of torch among a system's methods."""
    found: list[str] = []
    for dotted in load_facts(name).method:
        room, _, last = dotted.rpartition(".")
        kind = getattr(importlib.import_module(SYSTEMS[name] if room == f"erlangen.systems.{name}" else room), last)
        found += [dotted] if isinstance(kind, type) and issubclass(kind, nn.Module) else []
    return found


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in SYSTEMS for layer in layers_of(name)])
def test_layers_of_the_method_pass_the_contract(name: str, layer: str) -> None:
    """``LAYERS`` of a system's own tests says, for each, how to build it, an input, and what `check_layer` has to know."""
    spec = importlib.util.spec_from_file_location(f"layers_{name}", Path(__file__).parent / f"test_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build = module.LAYERS[layer.rpartition(".")[2]]
    model, x, options = build()
    assert type(model).__name__ == layer.rpartition(".")[2]
    assert "gradient" in check_layer(model, x, **options)
