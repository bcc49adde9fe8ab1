"""scripts/mutants.py on a package of two functions: what is changed, what survives, what does not count."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mutmut")
SCRIPT = Path(__file__).parents[2] / "scripts" / "mutants.py"
CODE = '''"""A toy."""

from functools import lru_cache
from typing import cast, overload

__all__ = ["area", "shift"]
LIMIT = 7


@lru_cache(maxsize=4)
def area(a: "int | None", b: int) -> int:
    """Docstrings say 1 + 1."""
    if a is None:
        raise ValueError(f"a + b = {1 + 1}")
    return cast("int | float", a * b)


@overload
def shift(a: int = 1) -> int: ...
def shift(a: int) -> int:
    return a + (
        5
    )
'''
TESTS = """
import subprocess, sys
from toy.room import area, shift

def test_area():
    assert area(2, 3) == 6

def test_the_same_area():
    assert area(2, 3) > 0

def test_shift_is_called():
    assert isinstance(shift(1), int)

def test_children_see_the_copy():
    code = "import toy, pathlib; print(pathlib.Path(toy.__file__).parents[1].parent.name)"
    assert "mutants-" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder in ("src/toy/room", "tests/room", "scripts"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / "src/toy/__init__.py").write_text("")
    (tmp_path / "src/toy/room/__init__.py").write_text(CODE)
    (tmp_path / "tests/room/test_room.py").write_text(TESTS)
    return tmp_path


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(repository: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, str(repository / "scripts/mutants.py"), "room", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": ""})
    return result.returncode, result.stdout + result.stderr


def test_survivors_are_named_and_equivalents_do_not_count(repository: Path) -> None:
    """Of 4 changes (7, `is`, +, 5) one is noticed: nothing else in the file is arithmetic."""
    known = "room/__init__.py:70\n- LIMIT = 7\n+ LIMIT = 8\nNo one asks; and lines may have moved.\n"
    (repository / "scripts/equivalent_mutants.txt").write_text(known)
    status, said = run(repository)
    assert said.startswith("room: 4 of 4 changes, seed 0")
    assert [block for block in said.split("\n\n") if "survives" in block] == [
        "room/__init__.py:21\n- return a + (\n+ return a - (\n  survives 1 tests",
        "room/__init__.py:22\n- 5\n+ 6\n  survives 1 tests",
    ]
    assert said.endswith("room, seed 0: 1 of 3 noticed (33%), 1 equivalent\n")
    assert status == 1
    assert (repository / "src/toy/room/__init__.py").read_text() == CODE  # the checkout is left as it is
    (repository / "scripts/equivalent_mutants.txt").write_text(known + "\n" + "\n\n".join(
        f"room/__init__.py:{line}\n- {old}\n+ {new}\nNo one asks." for line, old, new in
        ((21, "return a + (", "return a - ("), (22, "5", "6"))
    ))  # fmt: skip
    status, said = run(repository)
    assert said.endswith("room, seed 0: 1 of 1 noticed (100%), 3 equivalent\n")
    assert status == 0


def test_samples_are_seeded(repository: Path) -> None:
    script = loaded()
    samples = [script.drawn(repository / "src/toy", "room", 2, seed) for seed in (3, 3, 4, 5, 6)]
    assert samples[0] == samples[1]
    assert len({tuple(m.line for m in sample) for sample in samples}) > 1
    assert len(script.drawn(repository / "src/toy", "room", 99, 0)) == 4
    [last] = [m for m in script.drawn(repository / "src/toy", "room", 99, 0) if m.old == "5"]
    assert list(last.statement) == [21, 22, 23]  # any of these lines may be the one that the tracer sees
    assert last.text == CODE.replace("5\n", "6\n")


def test_defaults_matter_where_the_body_runs(repository: Path) -> None:
    (repository / "src/toy/room/more.py").write_text(
        "def power(\n    a,\n    n=2,\n):\n    if n:\n        a = a\n    return a\n"
    )
    [default] = [m for m in loaded().drawn(repository / "src/toy", "room", 99, 0) if m.new == "n=3,"]
    assert list(default.statement) == [5, 6, 7]


def test_equivalents_need_a_reason(repository: Path) -> None:
    (repository / "list.txt").write_text("room/__init__.py:7\n- LIMIT = 7\n+ LIMIT = 8\n")
    with pytest.raises(SystemExit, match="a block is file:line"):
        loaded().equivalents(repository / "list.txt")


def test_rooms_that_fail_as_they_are_are_named(repository: Path) -> None:
    (repository / "tests/room/test_room.py").write_text("def test_no():\n    assert 1 == 2\n")
    status, said = run(repository)
    assert status == 1
    assert "pytest exits with 1" in said
    assert "assert 1 == 2" in said
