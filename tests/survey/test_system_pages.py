"""The pages of the systems say what their READMEs and the ledger say."""

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from erlangen import cli
from erlangen.survey.ledger import discover_systems
from helpers.fake_systems import forget, write_area

ROOT = Path(__file__).resolve().parents[2]
RENEW = "out of date; run: python scripts/make_system_pages.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("make_system_pages", ROOT / "scripts" / "make_system_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def survey(tmp_path, monkeypatch, script):
    """A survey of three systems, and docs and results in folders of their own."""
    import erlangen.systems

    area = write_area(tmp_path / "survey", "good", "failing", "raising")
    monkeypatch.setattr(erlangen.systems, "__path__", [str(area.parent)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mkdocs.yml").write_text(
        "nav:\n  - Home: index.md\n  - Systems:\n      - Old: old.md\n  - API: api.md\n"
    )
    for name, path in {"DOCS": "docs/systems", "RESULTS": "results", "NAV": "mkdocs.yml"}.items():
        monkeypatch.setattr(script, name, tmp_path / path)
    yield tmp_path
    forget()


def test_pages_of_the_library_are_up_to_date(script):
    files = script.pages()
    for path, text in files.items():
        assert path.exists(), f"{path.relative_to(ROOT)} is missing: {RENEW}"
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is {RENEW}"
    assert set(script.DOCS.iterdir()) == set(files) - {script.NAV}, f"docs/systems is {RENEW}"
    for name in ("index", *discover_systems()):
        assert f": systems/{name}.md\n" in files[script.NAV]


def test_no_systems_and_no_results(survey, script, monkeypatch):
    page = script.pages()[script.DOCS / "good.md"]
    assert script.NO_RESULTS in page
    assert script.NO_RESULTS in script.pages()[script.DOCS / "index.md"]
    assert script.DOCS / "good.svg" not in script.pages()
    import erlangen.systems

    monkeypatch.setattr(erlangen.systems, "__path__", [str(survey / "nothing")])
    assert list(script.pages()) == [script.DOCS / "index.md", script.DOCS / "models.md", script.NAV]
    assert script.NO_SYSTEMS in script.pages()[script.DOCS / "index.md"]


def test_pages_hold_what_a_run_found(survey, script):
    assert cli.run(["verify", "good", "failing", "--scale", "full"]) == 1
    (survey / "docs/systems").mkdir(parents=True)
    (survey / "docs/systems/gone.md").write_text("")
    script.main()
    written = {path.name: path.read_text() for path in (survey / "docs/systems").iterdir()}
    assert sorted(written) == ["failing.md", "good.md", "good.svg", "index.md", "models.md", "raising.md"]
    rows = [line for line in written["index.md"].splitlines() if line.startswith("| invented")]
    assert rows == [
        "| invented | [failing](failing.md) | A title \\| of failing (ICLR 2022) | 0 | 1 | 0 | 0 |",
        "| invented | [good](good.md) | A title \\| of good (ICLR 2022) | 1 | 0 | 0 | 1 |",
        "| invented | [raising](raising.md) | A title \\| of raising (ICLR 2022) | no results |  |  |  |",
    ]
    page = written["good.md"]
    measured = json.loads(Path("results/good.json").read_text())["claims"][0]["measured"]
    assert page.startswith("# good\n\ngood: what a test needs.\n\n*A title \\| of good*. A. Author. ICLR 2022, [arXiv")
    assert "A paragraph with *Markdown*." in page
    assert f"| `fair` | Half \\| of them. |  | {measured:.4g} | 0.5 +- 0.2 | holds |" in page
    assert "| `big` | It wins. | 0.8 |  | needs ImageNet | not measurable here |" in page
    assert "| method | throws | p | rule |" in page
    assert "| base | nan |" in page
    assert "| 0.5 | &lt;= 1e-05 | fails |" in written["failing.md"]
    assert "(good.svg)" in page
    assert not re.search(r"^```", page, re.MULTILINE)  # snippets would run in the tests, for minutes
    assert (survey / "mkdocs.yml").read_text().splitlines() == [
        "nav:",
        "  - Home: index.md",
        "  - Systems:",
        "      - All systems: systems/index.md",
        "      - Models: systems/models.md",
        "      - Invented:",
        "          - failing: systems/failing.md",
        "          - good: systems/good.md",
        "          - raising: systems/raising.md",
        "  - API: api.md",
    ]


def test_figures_are_files_of_their_own(survey, script):
    cli.run(["verify", "good", "--scale", "full"])
    picture = ET.fromstring(script.pages()[script.DOCS / "good.svg"])
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    words = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"100", "coin", "throws"} <= set(words)


def test_a_figure_that_is_none(survey, script):
    cli.run(["verify", "failing", "--scale", "full"])
    path = survey / "survey" / "invented" / "failing.py"
    path.write_text(path.read_text() + "\ndef figure(result):\n    return 3\n")
    forget()
    with pytest.raises(TypeError, match=r"failing\.figure must return a figure of matplotlib"):
        script.pages()
