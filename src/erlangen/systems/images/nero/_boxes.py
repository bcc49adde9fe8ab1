"""Detection: two small networks find a digit on a canvas, and are audited on shifts that also cut its box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.actions import Boxes, Image
from erlangen.data import digits
from erlangen.groups import Translation
from erlangen.measure import METRICS, AuditReport, Metric, Model, audit
from erlangen.measure.evaluate import consensus_of, on_orbit
from erlangen.survey import Part, Rival, Run, Sizes, Split, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.images.nero._common import (
    CURVES,
    Row,
    apart,
    consensus_claim,
    curve_rows,
    ranking,
    rng,
    scores_of,
    training,
    votes_right,
)

CANVAS, DIGIT = 48, 28
REACH, STEP = 18, 3
"""Largest shift along each axis that is audited, and the step between shifts, in pixels."""

BOXES = Boxes((CANVAS, CANVAS))
SHIFT = Symmetry(Translation(2), input="image", output={"scores": "invariant", "box": BOXES, "confidence": "invariant"})
Answer = dict[str, Tensor]
"""Class probabilities ``scores [B, 10]``, ``box [B, 4]`` and ``confidence [B]``, the overlap that the network expects."""


# --- data ------------------------------------------------------------------------------------------------------------
def shifts(pixels: Tensor) -> Tensor:
    """Elements of the translation group for shifts ``[K, 2]`` in pixels, (x to the right, y up)."""
    return SHIFT.group.exp(pixels.double()).float()


def audited_shifts() -> Tensor:
    """Shifts ``[169, 2]`` on a square grid around zero."""
    axis = torch.arange(-REACH, REACH + 1, STEP)
    return torch.cartesian_prod(axis, axis)


def ink_boxes(x: Tensor) -> Tensor:
    """The smallest box around pixels above a tenth, float32 ``[B, 4]``, of images ``[B, 1, H, W]``."""
    ink = x[:, 0] > 0.1
    height, width = ink.shape[1:]
    edges: list[Tensor] = []
    for lit, size, sign in ((ink.any(1), width, 1.0), (ink.any(2), height, -1.0)):
        first = lit.int().argmax(1)
        last = size - lit.flip(1).int().argmax(1)
        edges += [sign * ((first + last) / 2 - size / 2), (last - first).float()]
    return torch.stack([edges[0], edges[2], edges[1], edges[3]], -1)


def scenes(
    part: Literal["train", "test"], count: int, spread: float, seed: int, first: int = 0
) -> tuple[Tensor, Answer]:
    """Digits near the middle of a black canvas, whole, and what a perfect detector says.

    Args:
        part: of the digits.
        count: number of scenes.
        spread: standard deviation of the shift from the middle, in pixels; shifts that would cut a box are pulled in.
        seed: of the choice.
        first: digits of the random order of this seed that are left out, to have others than in an earlier call.
    """
    data, g = digits(part), rng(seed)
    chosen = torch.randperm(len(data.x), generator=g)[first : first + count]
    margin = (CANVAS - DIGIT) // 2
    x = F.pad(data.x[chosen], (margin,) * 4)
    box = ink_boxes(x)
    room = CANVAS / 2 - 1 - box[:, 2:] / 2
    pixels = (spread * torch.randn(count, 2, generator=g)).round()
    pixels = torch.minimum(torch.maximum(pixels, (-room - box[:, :2]).ceil()), (room - box[:, :2]).floor())
    moved = shifts(pixels)
    labels = F.one_hot(data.y[chosen], 10).float()
    return Image().on(SHIFT.group).act(moved, x), {
        "scores": labels,
        "box": Boxes().on(SHIFT.group).act(moved, box),
        "confidence": torch.ones(count),
    }


# --- detectors -------------------------------------------------------------------------------------------------------
def _trunk(width: int) -> nn.Sequential:
    """Canvas to features ``[B, 2 width, 6, 6]``."""
    layers: list[nn.Module] = []
    for a, b in ((1, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [nn.Conv2d(a, b, 5, stride=2, padding=2), nn.ReLU()]
    return nn.Sequential(*layers)


def _read(h: Tensor, middle: Tensor) -> Answer:
    """Answers from 15 numbers ``[..., 15]`` and a reference point ``[..., 2]`` for the middle."""
    return {
        "scores": h[..., :10].softmax(-1),
        "box": torch.cat([middle + 10 * h[..., 10:12], 20 * F.softplus(h[..., 12:14])], -1),
        "confidence": h[..., 14].sigmoid(),
    }


class DenseDetector(nn.Module):
    """Reads class, box and confidence from all features at once: it has to learn every place on its own."""

    def __init__(self, width: int = 12, hidden: int = 26) -> None:
        super().__init__()
        self.trunk = _trunk(width)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(72 * width, hidden), nn.ReLU(), nn.Linear(hidden, 15))

    def forward(self, x: Tensor) -> Answer:
        """Answers to canvases ``[B, 1, 48, 48]``."""
        h = self.head(self.trunk(x))
        return _read(h, torch.zeros_like(h[..., :2]))


class CellDetector(nn.Module):
    """Every one of 6 x 6 cells answers relative to its own place, by the same weights, and cells are weighed by attention."""

    def __init__(self, width: int = 16, hidden: int = 32) -> None:
        super().__init__()
        self.trunk = _trunk(width)
        self.head = nn.Sequential(nn.Conv2d(2 * width, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 16, 1))

    def forward(self, x: Tensor) -> Answer:
        """Answers to canvases ``[B, 1, 48, 48]``."""
        h = self.head(self.trunk(x))
        stride = x.shape[-1] // h.shape[-1]
        axis = stride * (torch.arange(h.shape[-1]).to(h) - (h.shape[-1] - 1) / 2)
        place = torch.stack([axis.expand(len(axis), -1), -axis[:, None].expand(-1, len(axis))], -1).flatten(0, 1)
        cells = h.flatten(2).mT
        weight = cells[..., 15].softmax(-1)
        answers = _read(cells[..., :15], place)
        return {key: torch.einsum("bn,bn...->b...", weight, value) for key, value in answers.items()}


def detection_loss(answer: Answer, target: Answer) -> Tensor:
    """Cross entropy of the class, absolute error of the box over five pixels, squared error of the confidence.

    The confidence is taught the overlap that the box has at present.
    """
    overlap = METRICS["iou"](answer["box"].detach(), target["box"]).to(answer["confidence"])
    likely = (answer["scores"] * target["scores"]).sum(-1).clamp_min(1e-6)
    return (
        -likely.log().mean()
        + (answer["box"] - target["box"]).abs().mean() / 5
        + (answer["confidence"] - overlap).square().mean()
    )


# --- measurement -----------------------------------------------------------------------------------------------------
def visible_overlap(prediction: Answer, target: Answer) -> Tensor:
    """Intersection over union of the boxes' parts on the canvas, ``[N]``."""
    return METRICS["iou"](BOXES.clip(prediction["box"]), BOXES.clip(target["box"]))


OVERLAP = Metric("overlap", visible_overlap)
CONFIDENCE = Metric("confidence", lambda prediction, _target: cast("Answer", prediction)["confidence"])
RIGHT = Metric("class", lambda p, t: (p["scores"].argmax(-1) == t["scores"].argmax(-1)).double())


@dataclass(frozen=True)
class Scenes:
    """What detection costs: scenes, and passes over them."""

    sizes: Sizes
    epochs: int


@dataclass(frozen=True)
class Audits:
    """Audits of one detector on the same orbit, and which views cut the box, boolean ``[K, B]``."""

    overlap: AuditReport
    confidence: AuditReport
    right: AuditReport
    cut: Tensor


def audited(model: nn.Module, x: Tensor, y: Answer) -> Audits:
    """Three audits of one detector over `audited_shifts`."""
    g = shifts(audited_shifts())

    def by(metric: Metric) -> AuditReport:
        return audit(model, SHIFT, x, y, metric=metric, elements=g, progress=False)

    moved = Boxes().on(SHIFT.group).act(g[:, None], y["box"][None])
    return Audits(by(OVERLAP), by(CONFIDENCE), by(RIGHT), ~BOXES.inside(moved))


def whole_agreement(audits: Audits) -> Row:
    """Rank correlation of the samples' mean overlap with the consensus and with the labels, over views with whole boxes."""
    whole = (~audits.cut).double()
    agreed, labelled = (
        (t * whole).sum(0) / whole.sum(0) for t in (audits.overlap.consensus, scores_of(audits.overlap))
    )
    return ranking(agreed, labelled)


@torch.no_grad()
def agreed(model: nn.Module, x: Tensor) -> Tensor:
    """The consensus of a detector's boxes over `audited_shifts`, ``[B, 4]``."""
    g = shifts(audited_shifts()).to(x.device)[:, None]
    parts = [
        consensus_of(SHIFT, [(g, on_orbit(Model(model), SHIFT, g, part[None]))], vote=False) for part in x.split(10)
    ]
    return torch.cat([part["box"] for part in parts])


RIVALS = {"dense": Rival(DenseDetector), "cells": Rival(CellDetector)}
RINGS = range(0, REACH + 1, STEP)
"""Distances from the middle, in pixels."""


def draw(sizes: Sizes, seed: int) -> Split:
    """Scenes of a seed; those that train keep to the middle, as photographers do, and those that are tested are in it."""
    return Split(
        scenes("train", sizes.train, 4.0, 1000 * (100 + seed) + 40),
        scenes("train", sizes.validation, 4.0, 1000 * (100 + seed) + 40, first=sizes.train),
        scenes("test", sizes.test, 0.0, 1000 * (100 + seed) + 60),
    )


@torch.no_grad()
def validate(model: nn.Module, x: Tensor, y: Answer, generator: Generator) -> Mapping[str, Any]:
    """The loss."""
    return {"loss": float(detection_loss(model(x), y))}


def measure(model: nn.Module, x: Tensor, y: Answer, generator: Generator) -> Mapping[str, Any]:
    """Audits of a detector over shifts; numbers at a distance are of whole boxes."""
    found = audited(model, x, y)
    overlap, confidence, right = (scores_of(one) for one in (found.overlap, found.confidence, found.right))
    distance, whole = audited_shifts().abs().amax(-1), ~found.cut
    middle = int((distance == 0).nonzero())
    curves: dict[str, list[float]] = {}
    for label, scores in (("overlap", overlap), ("confidence", confidence), ("class right", right)):
        shown = torch.where(found.cut, torch.nan, scores)
        curves[label] = [float(shown[distance == d].nanmean()) for d in RINGS]
    far = RINGS.index(15)
    return {
        "overlap, middle": float(overlap[middle].mean()),
        "overlap, 15 pixels": curves["overlap"][far],
        "overlap, whole boxes": float(overlap[whole].mean()),
        "overlap, cut boxes": float(overlap[found.cut].mean()),
        "confidence, middle": float(confidence[middle].mean()),
        "confidence, 15 pixels": curves["confidence"][far],
        "confidence, whole boxes": float(confidence[whole].mean()),
        "class right, middle": 100 * float(right[middle].mean()),
        "class right, whole boxes": 100 * float(right[whole].mean()),
        "views with cut boxes": 100 * float(found.cut.double().mean()),
        "vote right": votes_right(found.right),
        "vote, overlap": float(visible_overlap({"box": agreed(model, x)}, y).mean()),
        CURVES: curves,
        **whole_agreement(found),
    }


def boxes_part(run: Run[Any], budget: Scenes) -> Part:
    """A row for each detector, then one for each distance of the shift."""
    how, sizes = training(detection_loss, budget.epochs), run.sizes(budget.sizes)
    table, curves = apart(
        compare("boxes", RIVALS, partial(draw, sizes), how, measure, best="loss", run=run, validate=validate)
    )
    every = {f"{name}, {label}": curve for name, found in curves.items() for label, curve in found.items()}
    rows = curve_rows("boxes, shift", [f"{d}" for d in RINGS], every)

    def kept(model: str, what: str) -> Any:
        """From the middle to 15 pixels."""
        return table[model, f"{what}, 15 pixels"] / table[model, f"{what}, middle"]

    claims = [
        table.ratio(
            "boxes-confidence-moves",
            "Boxes, dense detector: confidence at shifts of 15 pixels over that in the middle, whole boxes.",
            table["dense", "confidence, 15 pixels"],
            table["dense", "confidence, middle"],
            below=1,
            published="confidence depends on the position",
        ),
        table.ratio(
            "boxes-cells-keep",
            "Boxes: share of the overlap kept from the middle to 15 pixels, by the cells over by the dense detector.",
            kept("cells", "overlap"),
            kept("dense", "overlap"),
            above=1,
        ),
        *(consensus_claim(table, name) for name in RIVALS),
    ]
    return Part([*table.rows, *rows], claims, table.runs)
