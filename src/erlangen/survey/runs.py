"""What an experiment is told: `Run`, with its scale, seeds, budget and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Generator

from erlangen.survey.claims import ClaimError, Scale

B = TypeVar("B")

FEW = 4
"""Samples of each kind in a dry run."""

_NONE: Any = None


class Sizes(NamedTuple):
    """How many samples train, choose the learning rate, and are reported."""

    train: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


@dataclass(frozen=True)
class Run(Generic[B]):
    """One run of an experiment.

    >>> run = Run("full", seed=3, budget=None)
    >>> run.settles, list(run.seeds)
    (True, [3])

    Attributes:
        scale: see `erlangen.claims.Scale`.
        seed: the first seed.
        budget: the system's own sizes at this scale: its ``BUDGETS[scale]``, a frozen dataclass. Its field ``seeds`` says how
            many seeds there are; fields that are `Sizes` say how many samples.
        device: where models compute.
        dry: build everything at its size, train for one step on a few samples, settle nothing.
    """

    scale: Scale = "smoke"
    seed: int = 0
    budget: B = _NONE
    device: str = "cpu"
    dry: bool = False

    @property
    def seeds(self) -> range:
        """The seeds: `seed` and those after it, as many as the budget says (one where it does not); one in a dry run."""
        return range(self.seed, self.seed + (1 if self.dry else int(getattr(self.budget, "seeds", 1))))

    @property
    def settles(self) -> bool:
        """Whether what is trained says something: not at scale smoke, nor in a dry run."""
        return self.scale != "smoke" and not self.dry

    def generator(self, offset: int = 0) -> Generator:
        """A new source of random numbers for the first seed; another `offset` gives other numbers."""
        return Generator().manual_seed(self.seed + 1_000_003 * offset)

    def sizes(self, sizes: Sizes) -> Sizes:
        """As many samples as the budget says; a few of each in a dry run."""
        if min(sizes.train, sizes.test) < 1 or sizes.validation < 0:
            raise ClaimError(f"sizes = {sizes}; give samples to train and to test")
        return Sizes(*(min(size, FEW) for size in sizes)) if self.dry else sizes
