"""Networks on handwritten digits: the frames that they end in, with decay and without it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate

from erlangen.data import ImageData, digits, mnist
from erlangen.measure import accuracy
from erlangen.survey import Rival, Run, Split, Training
from erlangen.systems.learning.neural_collapse.method import (
    DeepLinearHead,
    Geometry,
    collapse_metrics,
    collapse_objective,
    optimal_geometry,
)

STEPPED = (100, 100, 200, 200, 300, 300, 400, 400, 500, 500)
"""The authors' imbalanced classes."""

TAILED = (500, 358, 257, 184, 132, 95, 68, 49, 35, 25)
"""A long tail, geometric from 500 to 25."""

EVEN = (300,) * 10
NOTED = 12
"""How often the metrics are noted while a network trains."""


class Net(nn.Module):
    """Linear layers and ReLUs without normalisation, one more linear layer, and a deep linear head, as the authors build it."""

    def __init__(self, depth: int, width: int, pixels: int, layers: int, *, bias: bool, decay: float) -> None:
        super().__init__()
        sizes = [pixels, *[width] * depth]
        hidden = [part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
        self.backbone = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, width))
        self.head = DeepLinearHead(width, 10, layers, bias=bias)
        self.decay = decay
        self.curve: list[dict[str, float]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class Case(NamedTuple):
    """How many linear layers, whether the last one has a bias, and whether there is decay."""

    layers: int
    bias: bool = False
    decayed: bool = True

    @property
    def name(self) -> str:
        """As it stands in a table."""
        return f"M = {self.layers}{', bias' * self.bias}{', no decay' * (not self.decayed)}"


@dataclass(frozen=True)
class Pictures:
    """Networks and pictures of one run.

    Attributes:
        share: of the counts of each class.
        test: pictures that accuracy is measured on.
        depth, width: of the network.
        epochs, batch: of its training.
        decay: of each linear layer and of the features; nothing else is decayed.
        rates: learning rates that are tried.
        resized: pictures of 3 x 32 x 32, from all of MNIST, which is downloaded; else the digits that come with the library,
            averaged over squares of two pixels.
    """

    share: float
    test: int
    depth: int
    width: int
    epochs: int
    batch: int
    decay: float = 1e-4
    rates: tuple[float, ...] = (3e-3, 1e-3)
    resized: bool = False

    def counts(self, full: Sequence[int], run: Run[Any]) -> list[int]:
        """Pictures of each class."""
        return [2] * len(full) if run.dry else [max(2, round(self.share * count)) for count in full]

    def draw(self, seed: int, full: Sequence[int], run: Run[Any]) -> Split:
        """Pictures drawn by the seed; the training ones choose the rate by their objective, and are measured, as in the paper."""
        shown = self.resized and not run.dry
        held, other = (mnist(part, download=True) if shown else digits(part) for part in ("train", "test"))
        generator = Generator().manual_seed(seed)
        order = torch.randperm(len(held.y), generator=generator)
        rows = [order[held.y[order] == k][:count] for k, count in enumerate(self.counts(full, run))]
        x, y = self._of(held, torch.cat(rows))
        tests = torch.randperm(len(other.y), generator=generator)[: 4 if run.dry else self.test]
        test_x, test_y = self._of(other, tests)
        return Split((x, y), (x, y), ({"train": x, "test": test_x}, {"train": y, "test": test_y}))

    def _of(self, data: ImageData, rows: Tensor) -> tuple[Tensor, Tensor]:
        x = (data.x[rows] - 0.1307) / 0.3081  # mean and spread of the pixels of MNIST
        if self.resized:
            x = interpolate(x, size=(32, 32), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
        else:
            x = nn.functional.avg_pool2d(x, 2)
        return x.flatten(1).contiguous(), data.y[rows]

    def make(self, case: Case) -> Net:
        """A network."""
        pixels = 3 * 32 * 32 if self.resized else 14 * 14
        decay = self.decay if case.decayed else 0.0
        return Net(self.depth, self.width, pixels, case.layers, bias=case.bias, decay=decay)

    def rival(self, case: Case, counts: Sequence[int]) -> Rival:
        """A network that minimises the decayed objective over batches."""
        samples = sum(counts)

        def objective(model: Any, x: Tensor, y: Tensor) -> Tensor:
            rates: dict[str, Any] = {"decay": model.decay, "feature_decay": model.decay, "samples": samples}
            return collapse_objective(model.head, model.backbone(x), y, **rates)

        def fit(model: Net, split: Split, rate: float, training: Training, generator: Generator) -> None:
            geometry = self.geometry(model, counts)
            moments = {round(training.epochs ** (k / (NOTED - 1))) for k in range(NOTED)}

            def note(epoch: int, net: nn.Module, metrics: dict[str, float]) -> None:
                if epoch + 1 in moments:
                    model.curve.append({"epoch": float(epoch + 1)} | worst_metrics(model, *split.train, geometry))

            training.fit(model, split, rate, generator, objective=objective, callbacks=[note])

        return Rival(lambda: self.make(case), fit=fit)

    def geometry(self, model: Net, counts: Sequence[int]) -> Geometry:
        """What the theory says of a network with this head and free features; of one without decay, what it would be with it."""
        linear = list(model.head.linear())
        rates: dict[str, Any] = {"decay": self.decay, "feature_decay": self.decay}
        return optimal_geometry(counts, len(linear), bias=linear[-1].bias is not None, **rates)

    @torch.no_grad()
    def chosen_by(self, model: Net, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        """The network's own objective on the pictures it trains on."""
        rates: dict[str, Any] = {"decay": model.decay, "feature_decay": model.decay}
        return {"objective": float(collapse_objective(model.head, model.backbone(x), y, **rates))}

    @torch.no_grad()
    def measure(
        self, model: Net, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator
    ) -> Mapping[str, Any]:
        """Accuracies, and the metrics of the training pictures at the depth where they are worst."""
        geometry = self.geometry(model, y["train"].bincount(minlength=10).tolist())
        row: dict[str, Any] = {
            "accuracy": accuracy(model, x["test"], y["test"]),
            "training accuracy": accuracy(model, x["train"], y["train"]),
        }
        row |= self.chosen_by(model, x["train"], y["train"], generator)
        row["objective over the optimum"] = row["objective"] / geometry.loss if model.decay else None
        return row | worst_metrics(model, x["train"], y["train"], geometry) | {"curve": model.curve}


@torch.no_grad()
def worst_metrics(model: Net, x: Tensor, y: Tensor, geometry: Geometry) -> dict[str, float]:
    """Metrics at every cut between linear layers, each at its worst."""
    return deepest(by_cut(model.head, model.backbone(x), y, geometry))


def by_cut(head: DeepLinearHead, features: Tensor, labels: Tensor, geometry: Geometry) -> list[dict[str, float]]:
    """The metrics at every cut, and there the distance to one frame over that to another."""
    last = list(head.linear())[-1].bias
    rows: list[dict[str, float]] = []
    for cut in range(1, len(head.matrices) + 1):
        row = dict(collapse_metrics(head.entering(features, cut), labels, head.product(cut), geometry, cut, bias=last))
        for part, (near, far) in itertools.product(("W", "H", "WH"), COMPARED):
            row[over(part, near, far)] = row[f"{part} to {near}"] / max(row[f"{part} to {far}"], 1e-300)
        rows.append(row)
    return rows


COMPARED = (("predicted", "simplex"), ("predicted", "orthogonal"), ("orthogonal", "simplex"), ("simplex", "orthogonal"))
"""Frames whose distances are compared at every cut."""


def over(part: str, near: str, far: str) -> str:
    """Name of the column with the distance of a part to one frame over that to another."""
    return f"{part}, {near} over {far}"


def deepest(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest of each metric over the cuts, the smallest share of "nearest mean"."""
    return {key: (min if key == "nearest mean" else max)(row[key] for row in rows) for key in rows[0]}
