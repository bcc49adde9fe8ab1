"""What a reader is told to type works: snippets, commands, links, examples, doctests.

On one page all fences run in order, in one empty folder. A ``python`` fence continues the page's namespace; one with a
title ("net.py") is written to a file of that name instead. Of ``sh`` fences the `erlangen` lines run, the others are
checked against the repository; a trailing ``# exit 1`` states the exit code. In a ``console`` fence, commands begin with
``$`` and the rest is output. A page that needs a package beyond the development environment says so in a comment,
``<!-- needs: package -->``, and is skipped without it.
"""

import doctest
import importlib
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import erlangen
from erlangen import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(erlangen.__path__, "erlangen.")
    if "\nmoved(__name__" not in importlib.util.find_spec(module.name).loader.get_source(module.name)  # old names warn
)
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?[^\n]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
OUTSIDE = ("git", "cd", "source", ".", "python3")  # words of the shell that the tests cannot check


class Fence(NamedTuple):
    language: str
    title: str | None
    text: str
    line: int


def fences(page: Path) -> list[Fence]:
    text = page.read_text()
    return [Fence(m[1], m[2], m[3], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def loaded_from(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_and_examples_are_found():
    """The parametrized tests below run on what these globs find; an empty one would pass silently."""
    assert len(PAGES) > 15
    assert len(EXAMPLES) >= 4
    assert {fence.language for page in PAGES for fence in fences(page)} <= {"python", "sh", "console", "text", "json"}
    for page in PAGES:
        assert page.read_text().count("\n```") == 2 * len(fences(page)), f"{relative(page)}: a fence is not closed"


# --- snippets and commands -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", [page for page in PAGES if fences(page)], ids=relative)
def test_page(page, tmp_path, monkeypatch):
    for package in re.findall(r"<!-- needs: (\w+) -->", page.read_text()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    namespace = {"__name__": "page"}
    try:
        for fence in fences(page):
            if fence.title is not None:
                Path(fence.title).write_text(fence.text)
            elif fence.language == "python":
                source = "\n" * fence.line + fence.text  # so that a traceback names the line of the page
                exec(compile(source, str(page), "exec"), namespace)
            elif fence.language in ("sh", "console"):
                for command in commands(fence):
                    run_command(command, page, monkeypatch)
    finally:
        for name in set(sys.modules) - before:  # the page's own files, which another page may write differently
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
                del sys.modules[name]


def commands(fence: Fence) -> list[str]:
    lines = [line.strip() for line in fence.text.replace("\\\n", " ").splitlines()]
    if fence.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line and not line.startswith("#")]


def run_command(command: str, page: Path, monkeypatch) -> None:
    words, code = shell_words(command)
    if words[0] == "erlangen":
        # The demo trains for a while and has a test of its own; here its options are parsed.
        # So do all systems together, whose smoke runs are tests too.
        with monkeypatch.context() as patch:
            patch.setattr(cli.Demo, "run", lambda demo: 0)
            patch.setattr(cli.Explore, "run", lambda explore: 0)  # serves until it is stopped; see tests/browser
            if "--all" in words:
                patch.setattr(cli.Verify, "run", lambda verify: 0)
            assert cli.run(words[1:]) == code, f"{relative(page)}: {command}"
    elif words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets, f"{relative(page)}: {command}"
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for group in re.findall(r"\[([\w,]+)\]", command):
            assert set(group.split(",")) <= set(extras), f"{relative(page)}: {command}"
        assert all((ROOT / word).exists() for word in words if "/" in word), f"{relative(page)}: {command}"
    elif words[0] in ("python", "pytest", "ruff", "pyright", "mkdocs", "pre-commit"):
        paths = [word.partition("::")[0] for word in words[1:] if "/" in word]
        assert all((ROOT / path).exists() for path in paths), f"{relative(page)}: {command}"
    else:
        assert words[0] in OUTSIDE, f"{relative(page)}: {command!r} is nothing that this test knows"


def shell_words(command: str) -> tuple[list[str], int]:
    import shlex

    text, _, comment = command.partition("  # ")
    match = re.match(r"exit (\d+)", comment)
    return shlex.split(text), int(match[1]) if match else 0


# --- links -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_relative_links(page):
    text = re.sub(FENCE, "", page.read_text())
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        place = page if not path else (page.parent / path)
        assert place.exists(), f"{relative(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{relative(page)}: {target}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=relative)
def test_api_page_shows_every_public_name(page):
    """A directive for a package shows what its ``__all__`` lists, save names that a submodule of the same name hides."""
    directives = re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    room = importlib.import_module(directives[0])
    shown = {name.rpartition(".")[2] for name in directives[1:]}
    if "members: false" not in page.read_text():
        hidden = {module.name for module in pkgutil.iter_modules(getattr(room, "__path__", []))}
        shown |= set(getattr(room, "__all__", [])) - hidden
    assert shown >= set(getattr(room, "__all__", []))


# --- numbers ---------------------------------------------------------------------------------------------------------
def test_demo_tables_are_what_the_runs_wrote():
    """docs/assets/demo.json holds the demo's numbers by seed, written by scripts/make_pictures.py."""
    pictures = loaded_from(ROOT / "scripts" / "make_pictures.py")
    runs = json.loads((ROOT / "docs/assets/demo.json").read_text())
    assert sorted(runs) == ["0", "1", "2"]
    for page in (ROOT / "README.md", ROOT / "docs/tutorials/make_it_exact.md"):
        text = page.read_text()
        for name in ("plain", "augmented", "wrapped", "exact"):
            assert pictures.demo_row(name, runs["0"][name]) in text, relative(page)
    for name in ("plain", "augmented", "wrapped", "exact"):
        assert pictures.spread_row(name, [runs[seed][name] for seed in runs]) in (ROOT / "README.md").read_text()


def test_one_version():
    version = erlangen.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


# --- examples and doctests -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(example, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


@pytest.mark.parametrize("name", ["erlangen", *MODULES])
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_doctests_are_found():
    finder = doctest.DocTestFinder()
    with_examples = [name for name in MODULES if any(t.examples for t in finder.find(importlib.import_module(name)))]
    assert len(with_examples) >= 5


def test_docstrings_become_markdown():
    """The converter behind the API pages (griffe comes with the extra `docs`)."""
    pytest.importorskip("griffe")
    converter = loaded_from(ROOT / "scripts" / "griffe_docstrings.py")
    table = "Text.\n\n== ===\na  bcd\n== ===\n1  2\n== ===\n\nMore."
    assert converter.rewrite(table) == "Text.\n\n\n| a | bcd |\n| --- | --- |\n| 1 | 2 |\n\n\nMore."
    assert converter.rewrite("Text.\n\n>>> 1 + 1\n2\n\nMore.") == "Text.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    for name in ["erlangen", *MODULES]:
        rewritten = converter.rewrite(importlib.import_module(name).__doc__ or "")
        assert not re.search(r"^=+ +=+", rewritten, re.MULTILINE)
