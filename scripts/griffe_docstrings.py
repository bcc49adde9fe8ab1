"""Turn what Markdown cannot read in docstrings into what it can: doctest blocks and reStructuredText tables."""

from __future__ import annotations

import re
from typing import Any

import griffe

_RULE = re.compile(r"=+(?: +=+)+")


class MarkdownDocstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed; loaded by mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text: str) -> str:
    """Simple tables become Markdown tables, doctest blocks fenced code; other lines stay."""
    lines, out = text.split("\n"), []
    while lines:
        if _RULE.fullmatch(lines[0].strip()):
            out += _table(lines)
        elif lines[0].lstrip().startswith(">>>"):
            out += _doctest(lines)
        else:
            out.append(lines.pop(0))
    return "\n".join(out)


def _table(lines: list[str]) -> list[str]:
    """Take a simple table off the front; a row may not span lines."""
    rule = lines.pop(0)
    spans = [match.span() for match in re.finditer("=+", rule)]
    rows: list[list[str]] = []
    rules = 1
    while rules < 3:
        line = lines.pop(0)
        if _RULE.fullmatch(line.strip()):
            rules += 1
        else:
            ends = [*(start for start, _ in spans[1:]), None]
            rows.append([line[start:end].strip() for (start, _), end in zip(spans, ends, strict=True)])
    rows.insert(1, ["---"] * len(spans))
    return ["", *("| " + " | ".join(row) + " |" for row in rows), ""]


def _doctest(lines: list[str]) -> list[str]:
    """Take a doctest block off the front: up to the next blank line."""
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    block = []
    while lines and lines[0].strip():
        block.append(lines.pop(0))
    return [f"{indent}```pycon", *block, f"{indent}```"]
