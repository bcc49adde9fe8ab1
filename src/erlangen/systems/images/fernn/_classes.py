"""Classification: noisy clips of one digit, learned at rest, tested at rest and drifting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.data import drifting_digits
from erlangen.measure import accuracy
from erlangen.nn import velocity_grid
from erlangen.survey import Part, Rival, Run, Split, compare
from erlangen.systems.images.fernn._predictions import FRESH, megaflops, training
from erlangen.systems.images.fernn.method import Classifier, drift_recurrence
from erlangen.systems.images.fernn.rivals import SpaceTimeCNN, learned_shifts

OURS = "FERNN, V2"
NOISE = 0.2
"""Standard deviation of the noise on clips to classify."""
CLIP = 4
"""Frames of a clip to classify."""
STILL = torch.zeros(1, 2, dtype=torch.int64)


def class_rivals(run: Run[Any]) -> dict[str, Rival]:
    """One classifier on three recurrences, and convolutions over space and time."""
    width, size = run.budget.classifier, run.budget.size
    both: dict[str, Any] = {"in_channels": width, "activation": "tanh"}
    return {
        OURS: Rival(lambda: Classifier(drift_recurrence(width, size, 2, **both))),
        "G-RNN": Rival(lambda: Classifier(drift_recurrence(width, size, 0, **both))),
        "G-RNN+": Rival(lambda: Classifier(learned_shifts(width, size, 2, **both))),
        "3D-CNN": Rival(lambda: SpaceTimeCNN(width)),
    }


def classes_part(run: Run[Any]) -> Part:
    """Noisy clips of one digit, learned at rest; the same test digits at rest and drifting at speeds 1 and 2."""
    budget, sizes = run.budget, run.sizes(run.budget.classes)
    size, grid = budget.size, velocity_grid(2)

    def clips(
        n: int, velocities: Tensor, generator: Generator, split: Literal["train", "test"]
    ) -> tuple[Tensor, Tensor]:
        made = drifting_digits(
            n,
            2 if run.dry else CLIP,
            velocities,
            digits_each=1,
            size=size,
            pool=budget.pool,
            split=split,
            generator=generator,
        )
        return made.frames + NOISE * torch.randn(made.frames.shape, generator=generator), made.label[:, 0]

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(FRESH + seed)
        train, spare = (clips(n, STILL, generator, "train") for n in (sizes.train, sizes.validation))
        # One source of random numbers for every speed: the same digits, places and noise.
        tests = [
            clips(sizes.test, grid[grid.abs().amax(-1) == speed], Generator().manual_seed(FRESH + seed), "test")
            for speed in range(3)
        ]
        frames = {str(speed): x for speed, (x, _) in enumerate(tests)}
        return Split(train, ({"0": spare[0]}, spare[1]), (frames, tests[0][1]))

    def measure(model: nn.Module, x: Mapping[str, Tensor], y: Tensor, _: Generator) -> dict[str, Any]:
        found = {f"accuracy, drift {speed}": accuracy(model, frames, y, batch=20) for speed, frames in x.items()}
        return {"MFLOP": megaflops(model, x["0"][:1]), **found}

    how = training(run, cross_entropy, budget.batches[2])
    table = compare("classes", class_rivals(run), draw, how, measure, best="accuracy, drift 0", run=run)
    others = [name for name in table.models if name != OURS]

    def lost(name: str) -> Any:
        return table[name, "accuracy, drift 0"] - table[name, "accuracy, drift 1"]

    words = "Drifting digits, learned at rest: accuracy of FERNN V2 on"
    return table.part(
        table.not_worse(
            "classes-at-rest", OURS, others, "accuracy, drift 0",
            statement=f"{words} digits at rest over that of the best baseline.",
        ),
        table.beats(
            "classes-drift-1", OURS, others, "accuracy, drift 1",
            statement=f"{words} drifts by 1 pixel per frame over that of the best baseline.",
        ),
        table.beats(
            "classes-drift-2", OURS, others, "accuracy, drift 2",
            statement=f"{words} drifts by 2 pixels per frame over that of the best baseline.",
        ),
        table.ratio(
            "classes-loses-less",
            "Points of accuracy that FERNN V2, trained on digits at rest, loses at drifts by 1 pixel per frame, over those that "
            "the G-RNN loses.",
            lost(OURS), lost("G-RNN"), below=1,
        ),
    )  # fmt: skip
