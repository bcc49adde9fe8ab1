"""Where systems are: in the library, in installed packages that name theirs, and in files that the user names."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from erlangen.errors import DataError
from erlangen.survey.claims import ClaimError

__all__ = ["ENTRY_POINTS", "area_of", "discover_systems", "known_systems"]

ENTRY_POINTS = "erlangen.systems"
"""Group of entry points under which an installed package names the modules of its systems."""


def discover_systems() -> dict[str, str]:
    """Dotted module path of every system of the library by name, in the order of area and name; no system is imported.

    Raises:
        ClaimError: two areas hold systems of one name.
    """
    import erlangen.systems

    found: dict[str, str] = {}
    for area in sorted(module.name for module in pkgutil.iter_modules(erlangen.systems.__path__) if module.ispkg):
        folders = [str(Path(root) / area) for root in erlangen.systems.__path__]
        for name in sorted(module.name for module in pkgutil.iter_modules(folders)):
            if not name.startswith("_"):
                _add(found, name, f"{erlangen.systems.__name__}.{area}.{name}")
    return found


def known_systems(files: Sequence[Path] = ()) -> dict[str, str]:
    """All systems by name: those of the library, those of installed packages, and those in `files`; none is imported.

    A package names the modules of its systems as entry points, in its ``pyproject.toml``:

        [project.entry-points."erlangen.systems"]
        coins = "my_package.coins"

    Args:
        files: Python files, and folders: of these the files and packages right in them that have ``SYSTEM = ...`` at their top.

    Returns:
        Dotted path of a module, or path of a file, by name.

    Raises:
        ClaimError: two systems have one name.
        DataError: there is no such file, or a folder without systems.
    """
    found = discover_systems()
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        _add(found, point.name, point.module)
    for path in files:
        inside = [path] if path.suffix == ".py" else _in_folder(path)
        for file in inside:
            if not file.is_file():
                raise DataError(f"systems: there is no file {str(file)!r}")
            _add(found, file.resolve().parent.name if file.name == "__init__.py" else file.stem, str(file))
    return found


def area_of(path: str) -> str:
    """The area of a system of the library; of another one the package, or the folder of its file."""
    if path.endswith(".py"):
        place = Path(path).resolve().parent
        return place.parent.name if Path(path).name == "__init__.py" else place.name
    words = path.split(".")
    return words[-2] if words[:2] == ["erlangen", "systems"] else words[0]


def _in_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"systems: there is no folder or file {str(folder)!r}; name a file.py, or a folder of such")
    files = [folder / "__init__.py", *sorted(folder.glob("*.py")), *sorted(folder.glob("*/__init__.py"))]
    found = [file for file in dict.fromkeys(files) if file.is_file() and _has_system(file)]
    if not found:
        raise DataError(f"systems: no file in {str(folder)!r} has SYSTEM = System(...) at its top")
    return found


def _has_system(file: Path) -> bool:
    """Whether a file assigns SYSTEM; it is read, and not run."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return False
    return any(
        isinstance(target, ast.Name) and target.id == "SYSTEM"
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )


def _add(found: dict[str, str], name: str, path: str) -> None:
    if name in found:
        raise ClaimError(f"{found[name]} and {path} are systems of one name; rename one")
    found[name] = path
