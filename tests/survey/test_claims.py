"""The ledger's contract: verdicts, validation, strict JSON, discovery and running of systems."""

import json
import math
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import sem

from erlangen.errors import ErlangenError, UnknownNameError
from erlangen.survey import Run, ledger
from erlangen.survey.claims import Claim, ClaimError, Part, Result, System, averaged
from erlangen.survey.ledger import discover_systems, load_system, run
from erlangen.version import __version__

FACTS = System(
    title="A title",
    authors=("A. Author", "B. Author"),
    venue="ICLR",
    year=2022,
    arxiv="2110.03336",
    abstract_claims=("It is exact.",),
)
KEYS = ["system", "scale", "seed", "version", "fingerprint", "machine", "seconds", "rows", "claims"]
CLAIM_KEYS = ["id", "statement", "kind", "published", "measured", "threshold", "verdict", "holds"]

SYSTEM_SOURCE = """
from erlangen.survey.claims import Claim, Result, System

SYSTEM = System("T", ("A",), "arXiv", 2020, None, ("It holds.",))

def experiment(scale, seed):
    rows = [{"method": "ours", "error": 0.1 * seed, "scale": scale}, {"method": "baseline", "error": float("nan")}]
    return Result(rows, [Claim.exact("zero", "The error is zero.", measured=0.0)])
"""


SEEDS = Claim.ratio("r", "Error over that of the baseline.", measured=[0.45, 0.47, 0.44], at_most=0.5)


def exact(name="so3", measured=1e-7, **options):
    return Claim.exact(name, "The output does not change.", measured=measured, **options)


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """Another root of erlangen.systems, with an area of two systems; writes and returns the folder of the area."""
    import erlangen.systems

    area = tmp_path / "invented_area"
    area.mkdir()
    (area / "__init__.py").write_text('"""An area."""\n')
    (area / "toy_system.py").write_text(SYSTEM_SOURCE)
    (area / "broken.py").write_text("raise RuntimeError('imported')\n")
    (area / "_helper.py").write_text("")
    (area / "wide_system").mkdir()
    (area / "wide_system" / "__init__.py").write_text(SYSTEM_SOURCE)
    monkeypatch.setattr(erlangen.systems, "__path__", [*erlangen.systems.__path__, str(tmp_path)])
    yield area
    for name in [name for name in sys.modules if "invented_area" in name]:
        del sys.modules[name]
    vars(erlangen.systems).pop("invented_area", None)


# --- verdicts --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("claim", "threshold", "holds"),
    [
        (exact(measured=1e-5), "<= 1e-05", True),
        (exact(measured=1.1e-5), "<= 1e-05", False),
        (exact(measured=0, tol=0), "<= 0", True),
        (exact(measured=1, tol=0), "<= 0", False),
        (Claim.ratio("r", "s", measured=2.0, at_least=2), ">= 2", True),
        (Claim.ratio("r", "s", measured=1.99, at_least=2), ">= 2", False),
        (Claim.ratio("r", "s", measured=0.75, at_most=0.75), "<= 0.75", True),
        (Claim.ratio("r", "s", measured=0.76, at_most=0.75), "<= 0.75", False),
        (Claim.number("n", "s", measured=15, expected=15), "15 +- 0", True),
        (Claim.number("n", "s", measured=16, expected=15), "15 +- 0", False),
        (Claim.number("n", "s", measured=-2.4, expected=-2.0, tol=0.5), "-2 +- 0.5", True),
        (Claim.number("n", "s", measured=-2.6, expected=-2.0, tol=0.5), "-2 +- 0.5", False),
    ],
)
def test_verdicts(claim, threshold, holds):
    assert claim.threshold == threshold
    assert claim.holds is holds


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.8, 0.9, 0.85], "holds"),
        ([1.2, 1.1, 1.3], "fails"),
        ([0.8, 0.9, 1.05], "undecided"),  # one seed says otherwise
        ([0.5, 0.99, 0.999], "undecided"),  # all meet it; mean 0.83, standard error 0.165: 1.03 of them
        ([1.0, 1.0, 1.0], "holds"),
        ([0.9], "undecided"),  # one seed has no spread
        ([math.nan, math.nan], "fails"),
        ([0.5, math.inf], "undecided"),
    ],
)
def test_verdicts_of_seeds(values, verdict):
    claim = Claim.ratio("r", "Ours over theirs.", measured=values, at_most=1.0)
    assert claim.verdict == verdict
    assert claim.values == pytest.approx(tuple(values), nan_ok=True)
    assert claim.seeds == len(values)
    reversed_ = Claim.ratio("r", "Theirs over ours.", measured=[2 - value for value in values], at_least=1.0)
    assert reversed_.verdict == verdict


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8), st.floats(-1, 1))
def test_verdicts_of_seeds_are_those_of_a_paired_t(values, limit):
    """Against scipy's standard error: more than two of them, and every seed on one side."""
    claim = Claim.bound("b", "A number.", measured=values, at_most=limit)
    margins = limit - np.array(values)
    if np.ptp(margins) > 1e-9:
        decided = abs(margins.mean()) > 2 * sem(margins)
        every = {bool(margin >= 0) for margin in margins}
        assert claim.verdict == (
            "undecided" if not decided or len(every) > 1 else "holds" if every == {True} else "fails"
        )


def test_strict_limits_and_bounds():
    assert Claim.ratio("r", "s", measured=1.0, below=1).holds is False
    assert Claim.ratio("r", "s", measured=1.0, at_most=1).holds is True
    assert Claim.ratio("r", "s", measured=1.1, above=1).threshold == "> 1"
    assert Claim.bound("b", "s", measured=25, at_least=20).kind == "bound"
    assert Claim.exact("e", "s", measured=[1e-7, 3e-6, 2e-6]).measured == 3e-6


def test_a_verdict_is_only_ever_held_back():
    claim = exact().unsettled("too little training")
    assert (claim.verdict, claim.holds, claim.note) == ("not settled", None, "too little training")
    nothing = Claim.not_measurable("big", "It wins.", published=None, reason="needs ImageNet")
    assert nothing.unsettled("why") == nothing


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_never_holds(value):
    assert exact(measured=value).holds is False
    assert Claim.ratio("r", "s", measured=value, at_least=2).holds is False
    assert Claim.ratio("r", "s", measured=-value, at_most=2).holds is False
    assert Claim.number("n", "s", measured=value, expected=1.0, tol=9.0).holds is False


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_thresholds_read_back_to_the_same_number(measured, limit):
    """The verdict goes through the text of the threshold; no digit may be lost on the way."""
    assert exact(measured=measured, tol=limit).holds is (measured <= limit)
    assert Claim.ratio("r", "s", measured=measured, at_least=limit).holds is (measured >= limit)
    assert Claim.number("n", "s", measured=measured, expected=limit, tol=1.0).holds is (abs(measured - limit) <= 1.0)


def test_published_and_tensors():
    claim = Claim.number("n", "There are 15 maps.", measured=torch.tensor(15), expected=15)
    assert (claim.published, claim.measured) == (None, 15.0)  # what we expect is not what a paper has published
    assert type(claim.measured) is float
    assert Claim.number("n", "s", measured=1, expected=1, published="about one").published == "about one"
    assert exact(measured=np.float32(0.0)).measured == 0.0
    assert exact().published is None


def test_not_measurable():
    claim = Claim.not_measurable("big", "It wins on ImageNet.", published=0.8, reason="needs ImageNet")
    assert (claim.kind, claim.measured, claim.threshold, claim.holds) == (
        "not-measurable-here",
        None,
        "needs ImageNet",
        None,
    )


# --- validation ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: exact("Bad Id"), "Claim.id = 'Bad Id'"),
        (lambda: Claim.exact("a", " ", measured=0), "statement = ' '"),
        (lambda: exact(measured=-0.1), "an error is not negative"),
        (lambda: exact(tol=-1.0), "tol = -1.0"),
        (lambda: exact(tol=math.nan), "tol = nan"),
        (lambda: Claim.ratio("r", "s", measured=1.0), "at_least = None, at_most = None; pass one"),
        (lambda: Claim.ratio("r", "s", measured=1.0, at_least=1, at_most=2), "at_least = 1, at_most = 2; pass one"),
        (lambda: Claim.number("n", "s", measured=1.0, expected=math.inf), "expected = inf"),
        (lambda: Claim.not_measurable("b", "s", published=None, reason=""), "threshold = ''"),
        (lambda: replace(exact(), kind="guess"), "kind = 'guess'; known are exact, bound, ratio"),
        (
            lambda: replace(exact(), verdict="fails"),
            "verdict = 'fails', but measured 1e-07 against '<= 1e-05' gives 'holds'",
        ),
        (lambda: replace(exact(), verdict="maybe"), "verdict = 'maybe'; known are holds, fails, undecided"),
        (lambda: replace(exact(), verdict="undecided"), "verdict = 'undecided', but"),  # without a reason
        (lambda: replace(exact(), note=" "), "note = ' '"),
        (lambda: replace(exact(), measured=1.0), "verdict = 'holds', but measured 1.0"),
        (lambda: replace(SEEDS, measured=0.5), "measured = 0.5 is not the mean"),
        (lambda: replace(SEEDS, values=()), "values is empty"),
        (lambda: replace(SEEDS, verdict="fails"), "verdict = 'fails', but"),
        (lambda: Claim.bound("b", "s", measured=[], at_most=1), "measured is empty"),
        (lambda: replace(FACTS, method=("TinvNN",)), "System.method"),
        (lambda: replace(exact(), measured=None), "no measured value"),
        (lambda: replace(exact(), threshold="small"), "threshold = 'small'; write '<= 1e-05'"),
        (lambda: replace(exact(), kind="not-measurable-here"), "not measurable here, but measured = 1e-07"),
        (lambda: replace(FACTS, title=""), "System.title = ''"),
        (lambda: replace(FACTS, authors="A. Author"), "System.authors = 'A. Author'; pass a tuple"),
        (lambda: replace(FACTS, abstract_claims=()), r"System.abstract_claims = \(\)"),
        (lambda: replace(FACTS, abstract_claims=("yes", "")), r"System.abstract_claims\[1\] = ''"),
        (lambda: replace(FACTS, year="2022"), "System.year = '2022'"),
        (lambda: replace(FACTS, arxiv="arXiv:2110.03336"), "System.arxiv = 'arXiv:2110.03336'"),
        (lambda: Result([], [exact()]), "0 rows and 1 claims"),
        (lambda: Result([{"a": 1}], []), "1 rows and 0 claims"),
        (lambda: Result([{"a": 1}, {"b": 1}], [exact()]), r"share no column.*\['a', 'b'\]"),
        (lambda: Result([{"a": 1}], [exact(), exact()]), r"\['so3'\] occur more than once"),
        (lambda: Result([{"a": [1]}], [exact()]), r"rows\[0\]\['a'\] is a list"),
        (lambda: Result([{"a": torch.ones(2)}], [exact()]), r"rows\[0\]\['a'\] is a Tensor"),
        (lambda: Result.from_dict({"rows": []}), "has no 'claims'"),
        (lambda: Result.from_dict({"rows": [{"a": 1}], "claims": [{"id": "x"}]}), r"claims\[0\] has the keys \['id'\]"),
    ],
)
def test_bad_statements(make, words):
    with pytest.raises(ErlangenError, match=words) as caught:
        make()
    assert isinstance(caught.value, ClaimError | UnknownNameError)


def test_preprints_of_both_forms():
    assert replace(FACTS, arxiv="hep-th/9901001").arxiv == "hep-th/9901001"
    assert replace(FACTS, arxiv=None).arxiv is None


# --- JSON ------------------------------------------------------------------------------------------------------------
def test_result_through_strict_json():
    rows = [
        {"method": "ours", "error": torch.tensor(0.25), "seeds": np.int64(3), "done": True},
        {"method": "baseline", "error": math.nan, "gain": -math.inf, "note": None},
    ]
    claims = [
        exact(measured=math.nan, published="exact"),
        Claim.ratio("faster", "Ours is faster.", measured=3.0, at_least=2),
        Claim.not_measurable("big", "It wins.", published=0.8, reason="needs ImageNet"),
    ]
    result = Result(rows, claims)
    assert result.columns == ["method", "error", "seeds", "done", "gain", "note"]
    text = json.dumps(result.to_dict(), allow_nan=False)
    plain = json.loads(text)
    assert plain["rows"][0] == {"method": "ours", "error": 0.25, "seeds": 3, "done": True}
    assert plain["rows"][1] == {"method": "baseline", "error": "nan", "gain": "-inf", "note": None}
    assert [list(claim) for claim in plain["claims"]] == [CLAIM_KEYS] * 3
    assert plain["claims"][0]["measured"] == "nan"
    again = Result.from_dict(plain)
    assert json.dumps(again.to_dict()) == text
    assert math.isnan(again.rows[1]["error"])
    assert again.claims[1:] == claims[1:]


def test_a_changed_entry_is_refused():
    entry = Result([{"method": "ours"}], [exact(measured=0.5)]).to_dict()
    entry["claims"][0]["holds"] = True
    with pytest.raises(ClaimError, match="holds = True"):
        Result.from_dict(entry)


def test_seeds_and_runs_through_json():
    runs = [{"model": "a", "seed": seed, "error": 0.1 * seed} for seed in range(3)]
    result = Result.of(Part([{"model": "a", "error": 0.1}], [SEEDS], runs), Part(claims=[exact().unsettled("why")]))
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["runs"] == runs
    assert plain["claims"][0]["values"] == [0.45, 0.47, 0.44]
    assert plain["claims"][1]["note"] == "why"
    again = Result.from_dict(plain)
    assert again.claims == result.claims
    assert again.runs == runs


def test_entries_of_version_0_1_0_are_read():
    claim = {
        "id": "so3", "statement": "s", "kind": "exact", "published": None, "measured": 1e-7, "threshold": "<= 1e-05",
    }  # fmt: skip
    old = {"rows": [{"a": 1}], "claims": [{**claim, "holds": True}]}
    assert Result.from_dict(old).claims[0].verdict == "holds"
    with pytest.raises(ClaimError, match="verdict = 'fails', but"):
        Result.from_dict({**old, "claims": [{**claim, "holds": False}]})


def test_a_result_keeps_its_own_lists():
    rows, claims = [{"method": "ours"}], [exact()]
    result = Result(rows, claims)
    rows[0]["method"] = "other"
    claims.clear()
    assert result.rows == [{"method": "ours"}]
    assert len(result.claims) == 1


# --- discovery and running -------------------------------------------------------------------------------------------
def test_discovery_imports_no_system(survey):
    found = discover_systems()
    assert found["toy_system"] == "erlangen.systems.invented_area.toy_system"
    assert found["wide_system"] == "erlangen.systems.invented_area.wide_system"
    assert "broken" in found
    assert "_helper" not in found
    assert not any(name.startswith("erlangen.systems.invented_area") for name in sys.modules)


def test_every_system_of_the_library_loads():
    for name in discover_systems():
        assert load_system(name)[0] == name


def test_two_systems_of_one_name(survey):
    other = survey.parent / "other_area"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "toy_system.py").write_text("")
    with pytest.raises(ClaimError, match=r"invented_area.toy_system and erlangen.systems.other_area.toy_system"):
        discover_systems()


@pytest.mark.parametrize("system", ["toy_system", "erlangen.systems.invented_area.wide_system"])
def test_run(survey, system):
    entry = run(system, "full", seed=2)
    assert list(entry) == KEYS
    assert entry["system"] == system.rpartition(".")[2]
    assert (entry["scale"], entry["seed"], entry["version"]) == ("full", 2, __version__)
    assert entry["rows"] == [
        {"method": "ours", "error": 0.2, "scale": "full"},
        {"method": "baseline", "error": "nan"},
    ]
    assert entry["claims"][0]["holds"] is True
    assert 0 <= entry["seconds"] < 5
    assert torch.__version__ in entry["machine"]
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert Result.from_dict(entry).claims[0].id == "zero"


def test_run_of_a_module_and_its_errors():
    module = types.ModuleType("somewhere.my_system")
    with pytest.raises(ClaimError, match=r"somewhere.my_system is no system: it needs SYSTEM"):
        run(module)
    module.SYSTEM = FACTS
    module.experiment = lambda scale, seed: Result([{"scale": scale, "seed": seed}], [exact()])
    entry = run(module, seed=7)
    assert (entry["system"], entry["rows"]) == ("my_system", [{"scale": "smoke", "seed": 7}])
    module.experiment = lambda scale, seed: {"rows": []}
    with pytest.raises(ClaimError, match="returned dict; it must return a Result"):
        run(module)
    with pytest.raises(UnknownNameError, match="scale = 'huge'; known scales are smoke, full, paper"):
        run(module, "huge")
    for seed in (-1, 1.0, True):
        with pytest.raises(ClaimError, match="seed = "):
            run(module, seed=seed)


def test_an_experiment_that_takes_the_run():
    seen: list[Run] = []

    def experiment(run, width=3):
        seen.append(run)
        return Result([{"width": width}], [exact()])

    module = types.ModuleType("modern")
    module.SYSTEM, module.experiment = FACTS, experiment
    assert run(module, "paper", 4, {"width": 5}, device="meta", dry=True)["options"] == {"width": 5, "dry": True}
    assert seen == [Run("paper", 4, None, "meta", True)]
    module.experiment = lambda scale, seed: Result([{"a": 1}], [exact()])
    for options in ({"scale": "paper"}, {"dry": True}):
        with pytest.raises(ClaimError, match="no sizes of the paper, and no dry run"):
            run(module, **options)


def test_a_budget_for_every_scale(survey):
    source = (
        SYSTEM_SOURCE.replace("scale, seed)", "run)")
        .replace("0.1 * seed", "run.budget")
        .replace('"scale": scale', '"n": len(run.seeds)')
    )
    (survey / "budgeted.py").write_text(f"{source}\nBUDGETS = {{'smoke': 0.5, 'full': 0.25}}\n")
    assert [run("budgeted", scale)["rows"][0]["error"] for scale in ("smoke", "full")] == [0.5, 0.25]
    with pytest.raises(ClaimError, match="no budget for the scale 'paper'; it has smoke, full"):
        run("budgeted", "paper")


def test_unknown_name(survey):
    with pytest.raises(UnknownNameError, match="no system 'toy_sistem'; did you mean 'toy_system'"):
        run("toy_sistem")
    with pytest.raises(UnknownNameError, match=r"no module 'erlangen.systems.nowhere.toy'"):
        run("erlangen.systems.nowhere.toy")


def test_a_missing_package_is_not_a_missing_system(survey):
    (survey / "needy.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        run("needy")


def test_seconds_are_those_of_the_experiment(monkeypatch):
    clock = iter([10.0, 12.5])
    module = types.ModuleType("timed")
    module.SYSTEM, module.experiment = FACTS, lambda scale, seed: Result([{"a": 1}], [exact()])
    monkeypatch.setattr(ledger, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert run(module)["seconds"] == 2.5


def test_runs_are_averaged() -> None:
    runs = [
        {"error": 1.0, "size": 7, "lr": "a"},
        {"error": 2.0, "size": 7, "lr": "a"},
        {"error": 6.0, "size": 7, "lr": "a"},
    ]
    row = averaged(runs, model="net")
    assert row == {
        "model": "net", "error": 3.0, "error, spread": pytest.approx(7**0.5), "size": 7, "lr": "a", "seeds": 3,
    }  # fmt: skip
    assert averaged(runs[:1]) == {**runs[0], "seeds": 1}
    for bad in ([], [{"a": 1.0}, {"b": 1.0}]):
        with pytest.raises(ClaimError, match="runs of equal columns"):
            averaged(bad)
