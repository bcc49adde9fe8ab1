"""Digits for `nero`: three classifiers, and the orbits of rotations, shifts and scalings that they are audited on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.actions import Image
from erlangen.data import digits
from erlangen.enforce import symmetrize
from erlangen.groups import SO, Cyclic, Scaling, Shifts
from erlangen.measure import AuditReport, audit
from erlangen.soft import augment
from erlangen.survey.claims import averaged
from erlangen.symmetry import Symmetry
from erlangen.systems.images._nero_common import (
    Row,
    Task,
    agreement,
    parameters,
    rng,
    scores_of,
    spread,
    train,
    tuned,
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


# --- measurement -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        train: digits to train on.
        epochs: passes over them.
        angles: turns that are audited, a multiple of 24.
        turned, shifted, scaled: digits of each orbit.
        stride: step between cyclic shifts, 1 for all 784 of them, at most 2.
        tune: whether learning rates are tuned.
    """

    train: int
    epochs: int
    angles: int
    turned: int
    shifted: int
    scaled: int
    stride: int
    tune: bool


@dataclass(frozen=True)
class Kind:
    """One classifier: how its training digits are moved, and whether its answers are averaged over C8."""

    transform: Callable[..., Any] | None = None
    averaged: bool = False


MODELS: dict[str, Kind] = {
    "plain": Kind(),
    "limited turns": Kind(truncated_turns),
    "all turns, averaged": Kind(augment(TURN), averaged=True),
}


@dataclass(frozen=True)
class Orbits:
    """What is audited of one trained model; shifts for the first seed alone."""

    turns: AuditReport
    scalings: AuditReport
    shifts: AuditReport | None


def _load(part: Literal["train", "test"], count: int, seed: int) -> tuple[Tensor, Tensor]:
    data = digits(part)
    chosen = torch.randperm(len(data.x), generator=rng(seed))[:count]
    return on_disk(data.x[chosen]), data.y[chosen]


def orbits(sizes: Sizes, seeds: Sequence[int]) -> dict[str, list[Orbits]]:
    """The audits of every classifier, one for each seed. The learning rate is found for each with the first seed."""
    found: dict[str, list[Orbits]] = {}
    for name, kind in MODELS.items():
        rate: float | None = None
        found[name] = []
        for seed in seeds:
            x, y = _load("train", sizes.train + 500, seed)
            held, labels = x[sizes.train :], y[sizes.train :]

            def score(model: nn.Module, held: Tensor = held, labels: Tensor = labels) -> float:
                with torch.no_grad():
                    return float((model(held).argmax(-1) == labels).double().mean())

            task = Task(x[: sizes.train], y[: sizes.train], F.cross_entropy, score, sizes.epochs, kind.transform)
            rate = tuned(PlainCNN, task, seed, sizes.tune) if rate is None else rate
            model = train(PlainCNN, task, rate, seed)
            found[name].append(
                _audited(averaged_over_turns(model) if kind.averaged else model, sizes, seed, seed == seeds[0])
            )
    return found


def averaged_over_turns(model: nn.Module) -> nn.Module:
    """The mean of a classifier's answers to eight turns of the image: exactly invariant under quarter turns."""
    return symmetrize(model, Symmetry(Cyclic(8), input="image", output="invariant"), how="orbit")


def _audited(model: nn.Module, sizes: Sizes, seed: int, first: bool) -> Orbits:
    x, y = _load("test", max(sizes.turned, sizes.scaled, sizes.shifted), seed)

    def on(symmetry: Symmetry, count: int, elements: int | Tensor | None = None) -> AuditReport:
        return audit(model, symmetry, x[:count], y[:count], elements=elements, progress=False)

    scalings = SCALE.group.exp(FACTORS.log()[:, None])
    shifts = SHIFT.group.elements()
    shifts = shifts[(shifts % sizes.stride == 0).all(-1)] if sizes.stride > 1 else None
    return Orbits(
        on(TURN, sizes.turned, sizes.angles),
        on(SCALE, sizes.scaled, scalings),
        on(SHIFT, sizes.shifted, shifts) if first else None,
    )


def rows(found: dict[str, list[Orbits]], sizes: Sizes) -> list[Row]:
    """One row for each classifier, one for every 15 degrees, for every scale, and for distances of shifts."""
    table: list[Row] = []
    curves: dict[str, dict[str, Tensor]] = {"turn": {}, "scale": {}, "shift": {}}
    for name, several in found.items():
        turns = [scores_of(orbit.turns) for orbit in several]
        scales = [scores_of(orbit.scalings) for orbit in several]
        shifts = several[0].shifts
        assert shifts is not None
        curves["turn"][name] = percent(torch.stack([t.mean(1) for t in turns]).mean(0))
        curves["scale"][name] = percent(torch.stack([t.mean(1) for t in scales]).mean(0))
        curves["shift"][name] = percent(_by_distance(shifts))
        curve = curves["turn"][name]
        distance = (torch.arange(len(curve)) / len(curve) * 360 + 180) % 360 - 180
        floor = several[0].turns.resampling
        table.append(
            {
                "part": "digits",
                "model": name,
                **averaged(
                    [
                        {
                            "upright": 100 * float(t[0].mean()),
                            "all turns": 100 * float(t.mean()),
                            "spread over turns": 100 * spread(t.mean(1)),
                            "right at every turn": 100 * float(t.amin(0).mean()),
                            # Of an invariant model the consensus is its own answer.
                            **({} if MODELS[name].averaged else {"consensus against labels": agreement(orbit.turns)}),
                        }
                        for t, orbit in zip(turns, several, strict=True)
                    ]
                ),
                "within 45 degrees": float(curve[distance.abs() <= LIMIT].mean()),
                "beyond 135 degrees": float(curve[distance.abs() >= 180 - LIMIT].mean()),
                "all scales": float(curves["scale"][name].mean()),
                "all shifts": 100 * float(scores_of(shifts).mean()),
                "right at every shift": 100 * float(scores_of(shifts).amin(0).mean()),
                "floor of resampling": 0.0 if floor is None else floor["input"],
                "parameters": parameters(PlainCNN()),
                "trained on": sizes.train,
                "epochs": sizes.epochs,
                "tested on": sizes.turned,
            }
        )
    step = max(1, sizes.angles // 24)
    table += _curve_rows("turn", [360 * k / sizes.angles for k in range(sizes.angles)], curves["turn"], step)
    table += _curve_rows("scale", FACTORS.tolist(), curves["scale"])
    table += _curve_rows("shift", [float(d) for d in DISTANCES], curves["shift"])
    return table


def percent(shares: Tensor) -> Tensor:
    """Shares as percent."""
    return 100 * shares


def _curve_rows(kind: str, places: Sequence[float], curves: dict[str, Tensor], step: int = 1) -> list[Row]:
    return [
        {
            "part": f"digits, {kind}",
            "model": f"{places[k]:.3g}",
            **{name: float(curve[k]) for name, curve in curves.items()},
        }
        for k in range(0, len(places), step)
    ]


def _by_distance(report: AuditReport) -> Tensor:
    """Mean score at the even distances ``[8]`` of cyclic shifts: the larger of both numbers of pixels, the shorter way round."""
    shift = report.orbit.elements
    distance = torch.minimum(shift, SIZE - shift).amax(-1)
    means = scores_of(report).mean(1)
    return torch.stack([means[distance == d].mean() for d in DISTANCES])
