"""Who may import whom: the kernel knows no system, and a private file or name stays in its folder."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

import erlangen

ROOT = Path(erlangen.__file__).parent
KERNEL = sorted(path for path in ROOT.rglob("*.py") if "systems" not in path.relative_to(ROOT).parts)


def imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of all imports from this package; the name is empty where a module is imported."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "erlangen":
            found += [(node.module, alias.name) for alias in node.names]
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "erlangen"]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path.name}: relative import"
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def folder_of(module: str, name: str) -> Path:
    """Where the private part of an import lives."""
    parts = module.split(".")[1:]
    private = [i for i, part in enumerate(parts) if is_private(part)]
    if private:
        return ROOT.joinpath(*parts[: private[0]])
    whole = ROOT.joinpath(*parts)
    return whole if whole.is_dir() else whole.parent


@pytest.mark.parametrize("path", KERNEL, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_the_kernel(path: Path) -> None:
    for module, name in imported(path):
        whole = f"{module}.{name}".rstrip(".")
        assert not whole.startswith("erlangen.systems."), whole  # the package alone may be looked through
        if any(map(is_private, whole.split("."))):
            assert path.parent == folder_of(module, name), f"{whole} is private to its folder"


def test_the_check_sees_private_files(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("from erlangen.nn.points._gathering import turned\nfrom erlangen.nn.points import _gathering\n")
    assert [folder_of(*found) for found in imported(path)] == [ROOT / "nn" / "points"] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("erlangen.ledger", "erlangen.survey.ledger"),
        ("erlangen.results", "erlangen.survey.results"),
        ("erlangen.verification", "erlangen.survey.verification"),
        ("erlangen.measure.explorer", "erlangen.explorer"),
    ],
)
def test_old_names_import_with_a_warning(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
