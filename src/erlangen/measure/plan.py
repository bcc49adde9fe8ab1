"""What an audit is made of, for those who carry it out block by block."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from erlangen.actions import Tree
from erlangen.measure.checks import take
from erlangen.measure.metrics import Metric
from erlangen.measure.models import Model
from erlangen.symmetry import Symmetry


@dataclass
class Plan:
    """One audit, ready to be cut into blocks of samples."""

    model: Model
    symmetry: Symmetry
    elements: Tensor
    x: Tree
    y: Tree | None
    metric: Metric | None
    chunk: int | None
    width: int

    def block(self, start: int) -> tuple[Tree, Tree | None]:
        """Inputs and targets of the block that starts at sample `start`."""
        window = slice(start, start + self.width)
        return take(self.x, window), None if self.y is None else take(self.y, window)
