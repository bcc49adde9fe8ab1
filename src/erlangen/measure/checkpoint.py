"""The state of a running audit: result tables, progress, and the file from which it goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch
from torch import Tensor

from erlangen.errors import CheckpointError
from erlangen.files import read_tensors, reading, sealed_tensors, write_bytes
from erlangen.measure.evaluate import Answers, Block

SAVE_SECONDS = 2.0
"""Least time between two writes of the resume file."""

SAVE_SHARE = 0.05
"""Writing takes at most this share of the time."""


class Progress:
    """Result tables ``[elements, samples]`` that fill up block by block, and the answers of the block that is begun.

    Args:
        count, samples, width: elements, samples, and samples per block.
        path: the resume file, read if it exists; ``None`` keeps nothing.
        fingerprint: what the file must have been written for.
    """

    def __init__(self, count: int, samples: int, width: int, path: str | Path | None, fingerprint: str) -> None:
        self.count, self.samples, self.width = count, samples, width
        self.path = None if path is None else Path(path)
        self.fingerprint = fingerprint
        self.done = torch.zeros(samples, dtype=torch.bool)
        self.errors = torch.zeros(count, samples, dtype=torch.float64)
        self.consensus = torch.zeros(count, samples, dtype=torch.float64)
        self.base: Tensor | None = None
        self.scores: Tensor | None = None
        self.entries: dict[str, Tensor] = {}
        self.begun = 0
        """First sample of the block that is begun."""
        self.answers = Answers()
        """Its answers so far."""
        self._saved = time.perf_counter()
        self._pause = SAVE_SECONDS
        if self.path is not None and not self.path.parent.is_dir():
            raise CheckpointError(f"resume = {str(path)!r}: there is no folder {str(self.path.parent)!r}; create it")
        if self.path is not None and self.path.exists():
            self._load(self.path)

    @property
    def complete(self) -> bool:
        """Whether every sample is done."""
        return bool(self.done.all())

    def missing(self) -> list[int]:
        """First samples of the blocks that are not done."""
        return [start for start in range(0, self.samples, self.width) if not bool(self.done[start])]

    def run(self, blocks: Iterator[tuple[int, Block]], *, show: bool | None, label: str) -> None:
        """Take in blocks until they end or Ctrl-C comes; what is done stays. Ctrl-C before the first answer is raised."""
        with _bar(show, label, len(self.missing())) as advance:
            try:
                for start, block in blocks:
                    self.store(start, block)
                    advance()
                    self._save_at_times()
            except KeyboardInterrupt:
                if not bool(self.done.any()) and self.answers.count == 0:
                    raise
        self._save()

    def keep(self, start: int) -> Answers:
        """The place for the answers of the block that starts at a sample, with those that were kept."""
        size = min(self.width, self.samples - start)
        found = self.answers.leaves() if self.answers.count and self.begun == start else []
        fits = bool(found) and all(leaf.shape[1] == size for leaf in found)
        self.begun, self.answers = start, Answers(found if fits else None, self._save_at_times)
        return self.answers

    def cut(self, count: int) -> None:
        """Hold the first `count` elements alone; nothing is written after that."""
        self.count, self.path = count, None
        self.errors, self.consensus = self.errors[:count], self.consensus[:count]

    def store(self, start: int, block: Block) -> None:
        """Take in one block."""
        window = slice(start, start + block.errors.shape[1])
        self.errors[:, window] = block.errors
        if block.consensus is not None:
            self.consensus[:, window] = block.consensus
        if block.scores is not None and block.base is not None:
            if self.scores is None or self.base is None:
                self.scores = torch.zeros(self.count, self.samples, dtype=torch.float64)
                self.base = torch.zeros(self.samples, dtype=torch.float64)
            self.scores[:, window] = block.scores
            self.base[window] = block.base
        for path, values in block.entries.items():
            if path not in self.entries:
                self.entries[path] = torch.zeros(self.count, self.samples, dtype=torch.float64)
            self.entries[path][:, window] = values
        self.done[window] = True
        self.answers = Answers()

    def _save_at_times(self) -> None:
        if time.perf_counter() - self._saved > self._pause:
            self._save()

    def _save(self) -> None:
        if self.path is None:
            return
        tensors = {"done": self.done, "errors": self.errors, "consensus": self.consensus}
        if self.scores is not None and self.base is not None:
            tensors |= {"scores": self.scores, "base": self.base}
        tensors |= {f"entry.{path}": table for path, table in self.entries.items()}
        if self.answers.count:
            tensors |= {f"answers.{i}": leaf.cpu().contiguous() for i, leaf in enumerate(self.answers.leaves())}
        began = time.perf_counter()
        write_bytes(self.path, sealed_tensors(tensors, {"fingerprint": self.fingerprint, "begun": str(self.begun)}))
        self._saved = time.perf_counter()
        self._pause = max(SAVE_SECONDS, (self._saved - began) / SAVE_SHARE)

    def _load(self, path: Path) -> None:
        what = f"resume = {str(path)!r} is not a file that an audit wrote"
        with reading(what, remedy="remove it or pass another path", error=CheckpointError):
            tensors, texts = read_tensors(path.read_bytes(), unsealed={"fingerprint"})
            if not {"done", "errors", "consensus"} <= set(tensors):
                raise ValueError("it lacks tables")
        if texts.get("fingerprint") != self.fingerprint:
            raise CheckpointError(
                f"resume = {str(path)!r} belongs to another audit (other model, data, elements or metric); pass another "
                "path, or remove the file"
            )
        self.done, self.errors, self.consensus = tensors["done"], tensors["errors"], tensors["consensus"]
        self.scores, self.base = tensors.get("scores"), tensors.get("base")
        self.entries = {key.removeprefix("entry."): t for key, t in tensors.items() if key.startswith("entry.")}
        self.begun = int(texts.get("begun", "0"))
        leaves = [tensors[key] for key in sorted(tensors, key=_number) if key.startswith("answers.")]
        self.answers = Answers(leaves or None)


def _number(key: str) -> int:
    """That at the end of a name, 0 without one."""
    end = key.rpartition(".")[2]
    return int(end) if end.isdecimal() else 0


@contextlib.contextmanager
def _bar(show: bool | None, label: str, total: int) -> Generator[Callable[[], None]]:
    """A progress bar on stderr; yields the function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    visible = show if show is not None else (console.is_terminal and total > 1)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not visible) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)
