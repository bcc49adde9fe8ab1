"""Write the pages of the systems from their READMEs and the ledger: docs/systems/ and its part of the navigation.

    python scripts/make_system_pages.py

Reads ``SYSTEM`` and README.md of every system (of a single module its docstring) and results/<system>.json; writes
docs/systems/<system>.md, docs/systems/index.md, the nav of mkdocs.yml, and docs/systems/<system>.svg where the system's
experiment has a function ``figure(result: Result) -> plots.Figure`` that draws what a run found. Pages of systems that are
gone are removed. The tests compare what is in docs with what this would write.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

from erlangen import plots
from erlangen.survey.claims import Result, System
from erlangen.survey.ledger import discover_systems, experiment_module, load_facts
from erlangen.survey.results import Entry, cell_text, count_verdicts, read_entry, row_tables, verdict_text

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "systems"
RESULTS = ROOT / "results"
NAV = ROOT / "mkdocs.yml"

NO_SYSTEMS = "The survey has no systems yet."
NO_RESULTS = "No full run is in the ledger yet."


def main() -> None:
    """Write all, remove what is left over."""
    DOCS.mkdir(parents=True, exist_ok=True)
    files = pages()
    for path in set(DOCS.iterdir()) - set(files):
        path.unlink()
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """What every file should hold."""
    systems = discover_systems()
    entries = {name: read_entry(path) for name in systems if (path := RESULTS / f"{name}.json").exists()}
    files = {
        DOCS / "index.md": index_page(systems, entries),
        DOCS / "models.md": models_page(systems),
        NAV: navigation(NAV.read_text(encoding="utf-8"), systems),
    }
    for name, path in systems.items():
        picture = figure(path, entries.get(name))
        if picture is not None:
            files[DOCS / f"{name}.svg"] = picture
        files[DOCS / f"{name}.md"] = system_page(name, path, entries.get(name), pictured=picture is not None)
    return files


def index_page(systems: dict[str, str], entries: dict[str, Entry]) -> str:
    """The table of all systems."""
    parts = [
        "# The survey",
        "Published systems whose claims are measured anew, one package each. The numbers are those of full runs in the ledger "
        "(`results/`); [verify the claims](../tutorials/verify_the_claims.md) says how to read and repeat them.",
    ]
    if not systems:
        return "\n\n".join([*parts, NO_SYSTEMS]) + "\n"
    head = ["area", "system", "paper", "claims that hold", "fail", "undecided", "not measurable here"]
    rows: list[list[str]] = []
    for name, path in systems.items():
        facts = load_facts(name)
        counts = ["no results", "", "", ""]
        if name in entries:
            verdicts = count_verdicts(entries[name])
            counts = [str(verdicts[word]) for word in ("holds", "fails", "undecided", "not measurable here")]
        paper = f"{facts.title} ({facts.venue} {facts.year})"
        rows.append([path.split(".")[-2], f"[{name}]({name}.md)", escape(paper), *counts])
    missing = [] if entries else [NO_RESULTS]
    return "\n\n".join([*parts, *missing, markdown_table(head, rows)]) + "\n"


def models_page(systems: dict[str, str]) -> str:
    """The public classes and functions of all methods, in one table."""
    rows: list[list[str]] = []
    for name, path in systems.items():
        facts = load_facts(name)
        for dotted in facts.method:
            room, _, last = dotted.rpartition(".")
            found = getattr(importlib.import_module(path if room == f"erlangen.systems.{name}" else room), last)
            first = inspect.cleandoc(found.__doc__ or "").partition("\n\n")[0]
            summary = " ".join(first.split()).replace("|", "\\|")  # Markdown already, but for the bars
            rows.append([f"`{dotted.replace('erlangen', 'er', 1)}`", summary, f"[{name}]({name}.md)", str(facts.year)])
    text = "The methods of the survey are classes and functions that any program can use, with `import erlangen as er`."
    table = markdown_table(["name", "what it is", "system", "year"], rows) if rows else NO_SYSTEMS
    return f"# Models\n\n{text}\n\n{table}\n"


def system_page(name: str, path: str, entry: Entry | None, *, pictured: bool) -> str:
    """The page of a system: paper, its README or docstring, figure, claims, rows."""
    module, facts = importlib.import_module(path), load_facts(name)
    readme = Path(str(module.__file__)).parent / "README.md"
    if hasattr(module, "__path__") and readme.exists():
        title, _, body = readme.read_text(encoding="utf-8").partition("\n")
        heading, summary = title.removeprefix("# "), inspect.cleandoc(module.__doc__ or "")
    else:
        heading = name
        summary, _, body = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    parts = [f"# {heading}", summary, paper(facts), method_text(facts), body.strip(), "## The abstract claims"]
    parts.append("\n".join(f"- {claim}" for claim in facts.abstract_claims))
    if pictured:
        parts.append(f"![What the last full run of {name} found]({name}.svg)")
    parts.append("## Claims")
    parts += [NO_RESULTS] if entry is None else claim_parts(entry)
    if entry is not None:
        parts.append("## Rows")
        for columns, rows in row_tables(entry["rows"]):
            parts.append(markdown_table([*map(escape, columns)], [[*map(escape, row)] for row in rows]))
    parts += ["## Run it", run_text(name, path)]
    return "\n\n".join(part for part in parts if part) + "\n"


def method_text(facts: System) -> str:
    """Where the method is, by its public names."""
    return f"The method: {', '.join(f'`{name}`' for name in facts.method)}." if facts.method else ""


def paper(facts: System) -> str:
    """Title, authors, place."""
    arxiv = f", [arXiv:{facts.arxiv}](https://arxiv.org/abs/{facts.arxiv})" if facts.arxiv else ""
    return f"*{escape(facts.title)}*. {', '.join(facts.authors)}. {facts.venue} {facts.year}{arxiv}."


def claim_parts(entry: Entry) -> list[str]:
    """The claims of a run and its circumstances."""
    counts = verdict_text(count_verdicts(entry))
    head = ["claim", "statement", "published", "measured", "threshold", "verdict"]
    rows = [
        [
            f"`{claim['id']}`",
            *(escape(cell_text(claim[key])) for key in ("statement", "published", "measured", "threshold")),
            escape(f"{claim['verdict']} ({claim['note']})" if claim.get("note") else claim["verdict"]),
        ]
        for claim in entry["claims"]
    ]
    run = f"version {entry['version']}, seed {entry['seed']}, {entry['seconds']:.0f} s on {entry['machine']}"
    return [f"Claims: {counts}. Full run, {run}.", markdown_table(head, rows)]


def run_text(name: str, path: str) -> str:
    """The commands, in the line: they take minutes, and snippets of pages run in the tests."""
    place = f"src/{path.replace('.', '/')}"
    source = f"{place}/" if hasattr(importlib.import_module(path), "__path__") else f"{place}.py"
    return (
        f"`erlangen run {name}` runs it at scale smoke, `erlangen verify {name} --scale full` measures the claims as above. "
        f"The code is `{source}`."
    )


def figure(path: str, entry: Entry | None) -> str | None:
    """The figure of a system's last full run as an SVG file; None without a run or a function that draws it."""
    draw = getattr(experiment_module(importlib.import_module(path)), "figure", None)
    if draw is None or entry is None:
        return None
    drawn = draw(Result.from_dict(entry))
    if not isinstance(drawn, plots.Figure):
        raise TypeError(f"{path}.figure must return a figure of matplotlib, as the functions of erlangen.plots do")
    return plots.to_svg(drawn)


def navigation(text: str, systems: dict[str, str]) -> str:
    """mkdocs.yml with the entry "Systems" of its nav made anew: the index, then every area."""
    lines = ["  - Systems:", "      - All systems: systems/index.md", "      - Models: systems/models.md"]
    areas = {path.split(".")[-2]: None for path in systems.values()}
    for area in areas:
        lines.append(f"      - {area.capitalize()}:")
        lines += [f"          - {name}: systems/{name}.md" for name, path in systems.items() if f".{area}." in path]
    return re.sub(r"^  - Systems:\n(?:   .*\n)*", "\n".join(lines) + "\n", text, count=1, flags=re.MULTILINE)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escape(text: str) -> str:
    """A text as one cell of a Markdown table."""
    return " ".join(re.sub(r"([\\|*_`\[\]])", r"\\\1", text).replace("<", "&lt;").split())


if __name__ == "__main__":
    main()
