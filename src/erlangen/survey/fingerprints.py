"""What code a result depends on, as a short text: two runs with one fingerprint ran the same code.

The fingerprint covers the system's files and every module of the library that they import, directly or through others.
Names that a room re-exports are followed to the module that defines them, so that a change of one layer does not make the
results of systems stale that use another one. Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the library."""


def code_fingerprint(file: Path) -> str:
    """Sixteen hexadecimal digits for a system: a module, or the ``__init__.py`` of its package.

    Raises:
        OSError, SyntaxError: a file cannot be read.
    """
    total = hashlib.sha256()
    for path in covered_files(file):
        place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        total.update(f"{place}\n{_digest(path)}\n".encode())
    return total.hexdigest()[:16]


def covered_files(file: Path) -> list[Path]:
    """The files that a fingerprint covers, sorted."""
    waiting = sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else [file]
    waiting = [path.resolve() for path in waiting]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imports(path)
    return sorted(seen)


def _kept(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Read every file once, and again when it has changed."""
    known: dict[Path, tuple[tuple[int, int], T]] = {}

    def reader(path: Path) -> T:
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_size)
        if path not in known or known[path][0] != state:
            known[path] = (state, read(path))
        return known[path][1]

    return reader


@_kept
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the library that a file imports, anywhere in it."""
    found: list[Path] = []
    for module, names in _import_statements(_tree(path)):
        found += _files(module, names)
    return tuple(dict.fromkeys(found))


def _import_statements(tree: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, tuple(alias.name for alias in node.names)


def _files(module: str, names: tuple[str, ...]) -> list[Path]:
    """Where the names of an import are defined; for a whole room, all that it names."""
    file = _file_of(module)
    if file is None:
        return []
    if file.name != "__init__.py":
        return [file]
    found: list[Path] = []
    exported = _exports(file)
    for name in names:
        inner = _file_of(f"{module}.{name}")
        if inner is not None:
            found.append(inner)
        elif name in exported:
            found += _files(*exported[name])
        else:
            found.append(file)
    return found or [file]


@_kept
def _exports(init: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For every name that an ``__init__`` imports: from which module, under which name."""
    exported: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in ast.walk(_tree(init)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                exported[alias.asname or alias.name] = (node.module, (alias.name,))
    return exported


def _file_of(module: str) -> Path | None:
    """The file of a module of the library; None for any other one."""
    first, *rest = module.split(".")
    if first != "erlangen":
        return None
    path = ROOT.joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.resolve()
    return None


@_kept
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@_kept
def _digest(path: Path) -> str:
    """A digest of the code of a file, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
