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
from erlangen.measure.evaluate import Block

SAVE_SECONDS = 10.0
"""Least time between two writes of the resume file."""


class Progress:
    """Result tables ``[elements, samples]`` that fill up block by block.

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
        self._saved = time.perf_counter()
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
        """Take in blocks until they end or Ctrl-C comes; what is done stays. Ctrl-C before the first block is raised."""
        with _bar(show, label, len(self.missing())) as advance:
            try:
                for start, block in blocks:
                    self._store(start, block)
                    advance()
                    if time.perf_counter() - self._saved > SAVE_SECONDS:
                        self._save()
            except KeyboardInterrupt:
                if not bool(self.done.any()):
                    raise
        self._save()

    def _store(self, start: int, block: Block) -> None:
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
        self.done[window] = True

    def _save(self) -> None:
        if self.path is None:
            return
        tensors = {"done": self.done, "errors": self.errors, "consensus": self.consensus}
        if self.scores is not None and self.base is not None:
            tensors |= {"scores": self.scores, "base": self.base}
        write_bytes(self.path, sealed_tensors(tensors, {"fingerprint": self.fingerprint}))
        self._saved = time.perf_counter()

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
