"""Do the tests of a room notice a changed token? A seeded sample of mutants, each tried by the tests that reach it.

The changes are those of mutmut (an operator, a comparison, a constant, a boolean), one at a time, in a copy of the
sources. What survives is printed: `file:line`, the old line, the new one. A mutant that no test can notice stands in
`equivalent_mutants.txt` as printed, with the reason, and does not count. Exits with 1 below 90 %.
"""

import argparse
import ast
import functools
import gc
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import namedtuple
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import coverage
import libcst as cst
import pytest
from mutmut.mutation import mutators

OPERATORS = [(cst.BaseNumber, mutators.operator_number), (cst.Name, mutators.operator_name)]
OPERATORS += [(cst.UnaryOperation, mutators.operator_remove_unary_ops)]
OPERATORS += [(cst.CSTNode, mutators.operator_keywords), (cst.CSTNode, mutators.operator_swap_op)]
# What is typed, said or declared is no arithmetic: annotations, messages, `frozen=True`, the sizes of caches.
DECLARED = (cst.Annotation, cst.Raise, cst.Decorator, cst.Import, cst.ImportFrom)
NAMES = {"isinstance", "issubclass", "cast", "TypeVar", "warn", "strict", "stacklevel"}  # of calls and keywords


# What tests import besides the package, loaded once and not in each child.
SHARED = [
    "torch",
    "torch._dynamo",
    "scipy.stats",
    "scipy.sparse",
    "scipy.spatial",
    "matplotlib.pyplot",
    "lightning_fabric",
]

# One changed token: its line before and after, the whole new text, and the lines that run because of it.
Mutant = namedtuple("Mutant", "file line old new text statement")


class Changes(cst.CSTVisitor):
    """All pairs of a node and what it may be changed to."""

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:  # noqa: D102
        name = getattr(node, "func", None) or getattr(node, "keyword", None)
        declared = isinstance(node, DECLARED) or getattr(getattr(name, "attr", name), "value", "") in NAMES
        declared |= "overload" in [getattr(d.decorator, "value", "") for d in getattr(node, "decorators", ())]
        if not declared:
            self.found += [(node, new) for kind, change in OPERATORS if isinstance(node, kind) for new in change(node)]
        return not declared


def drawn(package: Path, room: str, count: int, seed: int) -> list[Mutant]:
    """A sample without repetition from all changes in the files of a room."""
    changes = []
    for path in sorted((package / room).rglob("*.py")):
        tree = cst.parse_module(path.read_text())
        tree.visit(visitor := Changes())
        changes += [(str(path.relative_to(package)), tree, *pair) for pair in visitor.found]
    chosen = random.Random(seed).sample(range(len(changes)), min(count, len(changes)))
    print(f"{room}: {len(chosen)} of {len(changes)} changes, seed {seed}", flush=True)
    return [mutant(*changes[i]) for i in sorted(chosen)]


def mutant(file: str, tree: cst.Module, old: cst.CSTNode, new: cst.CSTNode) -> Mutant:
    """The text with one node replaced, and where it differs."""
    text = tree.deep_replace(old, new).code
    pairs = zip(tree.code.splitlines(), text.splitlines(), strict=True)
    line, was, becomes = next((i, a, b) for i, (a, b) in enumerate(pairs, 1) if a != b)
    statement = range(line, line + 1)
    for node in ast.walk(ast.parse(tree.code)):
        if isinstance(node, ast.stmt):
            end = node.body[0].lineno if getattr(node, "body", None) else node.end_lineno + 1
            if node.lineno <= line < end:  # the innermost is last
                default = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)  # it matters where the body runs
                statement = range(end, node.end_lineno + 1) if default else range(node.lineno, end)
    return Mutant(file, line, was.strip(), becomes.strip(), text, statement)


def equivalents(path: Path) -> set[tuple[str, str, str]]:
    """File, old and new line of each block of the list; the number of the line may have moved."""
    found = set()
    for block in path.read_text().strip().split("\n\n") if path.is_file() else []:
        where, old, new, *reason = block.splitlines()
        if old[:2] != "- " or new[:2] != "+ " or not reason:
            raise SystemExit(f"{path.name}: a block is file:line, '- old', '+ new' and a reason, not\n{block}")
        found.add((where.split(":")[0], old[2:], new[2:]))
    return found


class Tests:
    """A plugin of pytest: notes which test reaches which line and how long it takes, or runs a choice in a good order."""

    def __init__(self, package: str, chosen: dict[str, tuple[bool, float]] | None) -> None:
        self.package, self.chosen, self.seconds = package, chosen or {}, {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:  # noqa: D102
        if self.chosen and self.chosen.keys() <= {item.nodeid for item in items}:  # else the mutant renames tests
            items[:] = [item for item in items if item.nodeid in self.chosen]
        items.sort(key=lambda item: self.chosen.get(item.nodeid, (False, 0.0)))
        caches = [f for f in gc.get_objects() if type(f) is functools._lru_cache_wrapper]
        self.clear = [f.cache_clear for f in caches if f.__module__.split(".")[0] == self.package]
        self.clear.append(getattr(sys.modules.get("erlangen.reps"), "clear_memory", int))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:  # noqa: D102
        if trace := coverage.Coverage.current():
            for clear in self.clear:  # else this test would not seem to need what an earlier one left in a cache
                clear()
            trace.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:  # noqa: D102
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


def child(
    root: Path, source: Path, tests: list[str], chosen: dict[str, tuple[bool, float]] | None, traced: list[str]
) -> None:
    """Run pytest in a process of its own, which has imported nothing of the package yet."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (12 << 30, 12 << 30))  # a mutant may ask for a tensor of any size
    out, package, code = source.parent, next(source.iterdir()).name, 99
    os.dup2(os.open(out / "pytest.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    os.chdir(root)
    sys.path.insert(0, str(source))
    os.environ |= {"PYTHONPATH": str(source), "ERLANGEN_CACHE": "off", "HYPOTHESIS_STORAGE_DIRECTORY": str(out / "h")}
    try:
        plugin = Tests(package, chosen)
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--rootdir", str(root), *tests]
        trace = coverage.Coverage(str(out / "lines"), include=traced, config_file=False)
        with nullcontext() if chosen else trace.collect():
            status = pytest.main(options, plugins=[plugin])
        if chosen is None:
            trace.save()
            (out / "seconds.json").write_text(json.dumps(plugin.seconds))
        if status or Path(str(importlib.import_module(package).__file__)).is_relative_to(source):
            code = int(status)  # else it was another copy of the package that passed
    finally:
        traceback.print_exc()
        os._exit(code)


def passes(
    root: Path,
    source: Path,
    room: str,
    chosen: dict[str, tuple[bool, float]] | None = None,
    traced: list[str] | None = None,
) -> bool:
    """Whether the chosen tests pass, or all of the room, noting who reaches the `traced` files; too long is a failure."""
    tests = sorted({test.split("::")[0] for test in chosen or [f"tests/{room}"]})
    process = multiprocessing.get_context("fork").Process(
        target=child, args=(root, source, tests, chosen, traced or [])
    )
    process.start()
    process.join(60 + 5 * sum(seconds for _, seconds in chosen.values()) if chosen else None)
    if process.is_alive():
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    if process.exitcode not in (0, 1, 2, -signal.SIGKILL) or (process.exitcode and not chosen):
        raise SystemExit(f"pytest exits with {process.exitcode}:\n{(source.parent / 'pytest.txt').read_text()[-3000:]}")
    return process.exitcode == 0


def main() -> int:
    """Draw, try, print; 0 where the bar is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("room", help="a folder of the package and of tests/, as soft")
    parser.add_argument("-n", type=int, default=30, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    root, survivors = Path(__file__).resolve().parents[1], 0
    package = next((root / "src").glob("*/__init__.py")).parent
    mutants = drawn(package, args.room, args.n, args.seed)
    known = equivalents(Path(__file__).with_name("equivalent_mutants.txt"))
    tried = [m for m in mutants if (m.file, m.old, m.new) not in known]
    for name in SHARED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(package, source / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        passes(root, source, args.room, traced=sorted({str(source / package.name / m.file) for m in tried}))
        seconds = json.loads((source.parent / "seconds.json").read_text())
        lines = coverage.CoverageData(str(source.parent / "lines"))
        lines.read()
        for m in tried:
            copy = source / package.name / m.file
            plain = copy.read_text()
            reached = lines.contexts_by_lineno(str(copy))
            names = {name for line in m.statement for name in reached.get(line, [])}
            if "" in names:  # when it is imported: all tests, those that need the file first
                names = seconds.keys()
            near = {name for line in reached for name in reached[line]}
            tests = {name: (name not in near, seconds[name]) for name in names}
            copy.write_text(m.text)
            if not tests or passes(root, source, args.room, tests):
                survivors += 1
                print(f"\n{m.file}:{m.line}\n- {m.old}\n+ {m.new}\n  survives {len(tests) or 'no'} tests", flush=True)
            copy.write_text(plain)
    noticed, equivalent = len(tried) - survivors, len(mutants) - len(tried)
    share = f"{noticed} of {len(tried)} noticed ({noticed / max(len(tried), 1):.0%})"
    print(f"\n{args.room}, seed {args.seed}: {share}, {equivalent} equivalent")
    return int(noticed < 0.9 * len(tried))


if __name__ == "__main__":
    sys.exit(main())
