"""Digits: three classifiers, and the orbits of rotations, shifts and scalings that they are audited on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.actions import Image
from erlangen.data import digits
from erlangen.enforce import symmetrize
from erlangen.groups import SO, Cyclic, Scaling, Shifts
from erlangen.measure import AuditReport, accuracy, audit
from erlangen.soft import augment
from erlangen.survey import Part, Rival, Run, Sizes, Split, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.images.nero._common import (
    CURVES,
    agreement,
    apart,
    averaged_after,
    consensus_claim,
    curve_rows,
    rng,
    scores_of,
    spread,
    training,
    votes_right,
)

SIZE = 28
LIMIT = 45.0
"""Standard deviation of the limited rotations, and the angle in degrees up to which a model has "seen" them."""

DISTANCES = range(0, SIZE // 2 + 1, 2)
"""Distances of cyclic shifts in the table, in pixels."""

TURN = Symmetry(SO(2), input="image", output="invariant")
SHIFT = Symmetry(Shifts(SIZE, SIZE), input="image", output="invariant")
SCALE = Symmetry(Scaling(2), input="image", output="invariant")
FACTORS = torch.logspace(math.log10(0.3), math.log10(1.7), 15, dtype=torch.float64)


def on_disk(x: Tensor) -> Tensor:
    """Images ``[..., H, W]``, black outside of the inscribed disk: what every rotation of the picture can keep."""
    axis = torch.arange(x.shape[-1], dtype=torch.float64) - (x.shape[-1] - 1) / 2
    disk = axis.square() + axis[:, None].square() <= (x.shape[-1] / 2) ** 2
    return x * disk.to(x)


# --- classifiers -----------------------------------------------------------------------------------------------------
class PlainCNN(nn.Module):
    """Three convolutions and a linear map of all places, as usual: it knows where things are, and how they are turned."""

    def __init__(self, widths: tuple[int, int, int] = (9, 14, 12), classes: int = 10) -> None:
        super().__init__()
        a, b, c = widths
        self.layers = nn.Sequential(
            nn.Conv2d(1, a, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(a, b, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(b, c, 5, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(c * (SIZE // 4) ** 2, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Class scores ``[B, classes]`` of images ``[B, 1, 28, 28]``."""
        return self.layers(x)


def truncated_turns(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Turn every image by a normal angle of standard deviation `LIMIT`, drawn again beyond one standard deviation."""
    low, high = math.erf(-1 / math.sqrt(2)), math.erf(1 / math.sqrt(2))
    share = torch.rand(len(x), generator=generator, dtype=torch.float64)
    angle = math.radians(LIMIT) * math.sqrt(2) * torch.erfinv(low + (high - low) * share)
    return Image().on(SO(2)).act(SO(2).exp(angle[:, None]).to(x), x), y


def averaged_over_turns(model: nn.Module) -> nn.Module:
    """The mean of a classifier's answers to eight turns of the image: exactly invariant under quarter turns."""
    return symmetrize(model, Symmetry(Cyclic(8), input="image", output="invariant"), how="orbit")


RIVALS = {
    "plain": Rival(PlainCNN),
    "limited turns": Rival(PlainCNN, truncated_turns),
    "all turns, averaged": Rival(PlainCNN, fit=averaged_after(averaged_over_turns, augment(TURN))),
}


# --- measurement -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Digits:
    """What digits cost.

    Attributes:
        sizes: digits that train, choose the learning rate, and are turned.
        epochs: passes over them.
        angles: turns that are audited, a multiple of 24.
        shifted, scaled: digits of the other orbits.
        stride: step between cyclic shifts, 1 for all 784 of them, at most 2.
    """

    sizes: Sizes
    epochs: int
    angles: int
    shifted: int
    scaled: int
    stride: int


def draw(sizes: Sizes, seed: int) -> Split:
    """Digits of a seed, on the disk; those that are tested are from the test set."""

    def load(part: Literal["train", "test"], count: int) -> tuple[Tensor, Tensor]:
        data = digits(part)
        chosen = torch.randperm(len(data.x), generator=rng(100 + seed))[:count]
        return on_disk(data.x[chosen]), data.y[chosen]

    x, y = load("train", sizes.train + sizes.validation)
    n = sizes.train
    return Split((x[:n], y[:n]), (x[n:], y[n:]), load("test", sizes.test))


def validate(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """Percent right of digits as they are."""
    return {"upright": accuracy(model, x, y)}


def measure(budget: Digits, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """Audits of a classifier over all turns, scalings and shifts."""

    def on(symmetry: Symmetry, count: int, elements: int | Tensor | None = None) -> AuditReport:
        return audit(model, symmetry, x[:count], y[:count], elements=elements, progress=False)

    turns = on(TURN, len(x), budget.angles)
    scales = scores_of(on(SCALE, budget.scaled, SCALE.group.exp(FACTORS.log()[:, None])))
    every = SHIFT.group.elements()
    shifts = on(SHIFT, budget.shifted, every[(every % budget.stride == 0).all(-1)] if budget.stride > 1 else None)
    t, shifted = scores_of(turns), scores_of(shifts)
    curve = 100 * t.mean(1)
    distance = (torch.arange(len(curve)) / len(curve) * 360 + 180) % 360 - 180
    row: dict[str, Any] = {
        "upright": 100 * float(t[0].mean()),
        "all turns": float(curve.mean()),
        "spread over turns": spread(curve),
        "right at every turn": 100 * float(t.amin(0).mean()),
        "worst turn": float(curve.min()),
        "within 45 degrees": float(curve[distance.abs() <= LIMIT].mean()),
        "beyond 135 degrees": float(curve[distance.abs() >= 180 - LIMIT].mean()),
        "all scales": 100 * float(scales.mean()),
        "all shifts": 100 * float(shifted.mean()),
        "right at every shift": 100 * float(shifted.amin(0).mean()),
        "floor of resampling": 0.0 if turns.resampling is None else turns.resampling["input"],
    }
    if isinstance(model, PlainCNN):  # of an invariant model the consensus is its own answer
        row |= {"vote right": votes_right(turns)} | agreement(turns)
    by_scale, by_distance = 100 * scales.mean(1), 100 * _by_distance(shifts)
    return row | {CURVES: {"turn": curve.tolist(), "scale": by_scale.tolist(), "shift": by_distance.tolist()}}


def _by_distance(report: AuditReport) -> Tensor:
    """Mean score at the even distances ``[8]`` of cyclic shifts: the larger of both numbers of pixels, the shorter way round."""
    shift = report.orbit.elements
    distance = torch.minimum(shift, SIZE - shift).amax(-1)
    means = scores_of(report).mean(1)
    return torch.stack([means[distance == d].mean() for d in DISTANCES])


def digits_part(run: Run[Any], budget: Digits) -> Part:
    """A row for each classifier, then one for every 15 degrees, for every scale, and for distances of shifts."""
    how = training(cross_entropy, budget.epochs)
    inside, beyond, worst = "within 45 degrees", "beyond 135 degrees", "worst turn"
    table, curves = apart(
        compare(
            "digits",
            RIVALS,
            partial(draw, run.sizes(budget.sizes)),
            how,
            partial(measure, budget),
            best="upright",
            run=run,
            larger=("upright", worst, inside),
            validate=validate,
        )
    )
    step = max(1, budget.angles // 24)
    places = {
        "turn": [f"{360 * k / budget.angles:.3g}" for k in range(0, budget.angles, step)],
        "scale": [f"{factor:.3g}" for factor in FACTORS.tolist()],
        "shift": [f"{d}" for d in DISTANCES],
    }
    drawn = {kind: {model: curves[model][kind] for model in curves} for kind in places}
    drawn["turn"] = {model: curve[::step] for model, curve in drawn["turn"].items()}
    rows = [row for kind, names in places.items() for row in curve_rows(f"digits, {kind}", names, drawn[kind])]
    averaged = "all turns, averaged"
    claims = [
        table.ratio(
            "digits-plain-varies",
            "Digits, plain: percent right at the worst turn over that of upright ones.",
            table["plain", worst],
            table["plain", "upright"],
            below=1,
        ),
        table.beats(
            "digits-averaged-flat",
            averaged,
            ["plain", "limited turns"],
            worst,
            statement="Digits: percent right at the worst turn, all turns averaged over eight over the best other.",
            published="flat curves",
        ),
        table.ratio(
            "digits-limited-range",
            "Digits, limited turns: percent right beyond 135 degrees over that within 45.",
            table["limited turns", beyond],
            table["limited turns", inside],
            below=1,
            published="flat only inside of the augmented range",
        ),
        table.beats(
            "digits-limited-inside",
            "limited turns",
            "plain",
            inside,
            statement="Digits, percent right within 45 degrees: limited turns over plain.",
        ),
        *(consensus_claim(table, name) for name in ("plain", "limited turns")),
    ]
    return Part([*table.rows, *rows], claims, table.runs)
