"""Fingerprints: which files a system's results depend on, and what in them counts."""

from pathlib import Path

import pytest

from erlangen.survey import fingerprints
from erlangen.survey.fingerprints import ROOT, code_fingerprint, covered_files

SOURCE = '"""Doc."""\nfrom erlangen.nn import PointNet\n\n\ndef f():\n    """Doc."""\n    return PointNet\n'


def files_of(path: Path) -> set[str]:
    """The files of the library that a fingerprint covers."""
    return {file.relative_to(ROOT).as_posix() for file in covered_files(path) if file.is_relative_to(ROOT)}


def test_names_are_followed_to_the_module_that_defines_them(tmp_path: Path) -> None:
    path = tmp_path / "system.py"
    path.write_text(SOURCE)
    found = files_of(path)
    assert "nn/backbones.py" in found
    assert not any(name.startswith("nn/images") for name in found)
    path.write_text(SOURCE.replace("PointNet", "GroupConv2d"))
    assert {"nn/images/group_conv.py", "groups/finite.py", "errors.py"} <= files_of(path)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Doc.", "Other words.", True),
        ("def f", "# why\ndef f", True),
        ("    return PointNet", "    return (\n        PointNet\n    )", True),
        ("return PointNet", "return None", False),
        ("PointNet", "EGNN", False),
    ],
)
def test_only_code_counts(tmp_path: Path, old: str, new: str, same: bool) -> None:
    path = tmp_path / "system.py"
    path.write_text(SOURCE)
    before = code_fingerprint(path)
    path.write_text(SOURCE.replace(old, new))
    assert (code_fingerprint(path) == before) is same


def test_all_files_of_a_package_count(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "method.py").write_text("A = 1\n")
    before = code_fingerprint(tmp_path / "__init__.py")
    (tmp_path / "method.py").write_text("A = 2\n")
    assert code_fingerprint(tmp_path / "__init__.py") != before


def test_a_change_of_the_kernel_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the library, whose backbone then changes: a system that uses it gets another fingerprint, others not."""
    (tmp_path / "nn").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "nn" / "__init__.py").write_text("from erlangen.nn.a import A\nfrom erlangen.nn.b import B\n")
    (tmp_path / "nn" / "a.py").write_text("A = 1\n")
    (tmp_path / "nn" / "b.py").write_text("B = 1\n")
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    uses = {name: tmp_path / f"uses_{name}.py" for name in "AB"}
    for name, path in uses.items():
        path.write_text(f"from erlangen.nn import {name}\n")
    before = {name: code_fingerprint(path) for name, path in uses.items()}
    (tmp_path / "nn" / "a.py").write_text("A = 2000\n")
    assert code_fingerprint(uses["A"]) != before["A"]
    assert code_fingerprint(uses["B"]) == before["B"]
