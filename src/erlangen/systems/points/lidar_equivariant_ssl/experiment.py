"""What is measured of E-SSL3D: exact properties, features under motions, and detection with few labels after pre-training."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cosine_similarity

from erlangen.learn import probe
from erlangen.simulate import Scanner
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, compare, properties, sweep
from erlangen.systems.points.lidar_equivariant_ssl import data
from erlangen.systems.points.lidar_equivariant_ssl._detector import DetectionLoss, Detector, scores
from erlangen.systems.points.lidar_equivariant_ssl._motions import Motions, move_points, road_motions, turn_bins
from erlangen.systems.points.lidar_equivariant_ssl._properties import PROPERTIES
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    EquivariantPretraining,
    Grid,
    MapBackbone,
    Sweeps,
    Weights,
    flow_warp,
)
from erlangen.systems.points.lidar_equivariant_ssl.rivals import ClassPretraining, InvariantPretraining
from erlangen.training import fit, one_cycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRATCH, INVARIANT, CONTRAST, CLASSES, SPATIAL, TEMPORAL, ALL, NOISY = (
    "from scratch",
    "invariance of the whole",
    "contrast of all motions",
    "classes of all motions",
    "contrast and classes",
    "scene flow",
    "E-SSL3D",
    "E-SSL3D, noisy flow",
)


@dataclass(frozen=True)
class Budget:
    """What a run spends; `labels` are tables of their own, with that many scenes for `epochs` each.

    `decay` of the targets goes with the number of steps: that of the paper remembers a thousand.
    """

    seeds: int
    pairs: int
    passes: int
    scenes: Sizes
    labels: tuple[int, ...]
    epochs: tuple[int, ...]
    channels: int
    grid: Grid
    scanner: Scanner
    points: int
    decay: float = 0.99
    rate: float = 1e-3
    batch: int = 8


BUDGETS = {
    "smoke": Budget(
        1, 8, 1, Sizes(10, 6, 8), (10,), (1,), 8, Grid(2.0, 16, 16), Scanner(beams=16, azimuths=32), 64
    ),
    "full": Budget(
        3, 400, 20, Sizes(200, 200, 400), (10, 40, 200), (100, 50, 20), 24, Grid(0.5, 64, 64), Scanner(azimuths=96), 512
    ),
    "paper": Budget(
        1, 100_000, 80, Sizes(3712, 400, 3769), (186, 742, 3712), (80, 80, 80), 128, Grid(0.1, 512, 512),
        Scanner(beams=64, azimuths=512), 2048, 0.999, 1e-4, 56,
    ),
}  # fmt: skip


class Pretrained:
    """Backbones by objective and seed, each trained once and used by all tables.

    Args:
        run: of the budget.
    """

    def __init__(self, run: Run[Budget]) -> None:
        self.run, self.budget = run, run.budget
        self.pairs = min(self.budget.pairs, 16) if run.dry else self.budget.pairs
        self._kept: dict[tuple[str, int], nn.Module] = {}
        self._sweeps: dict[int, Sweeps] = {}
        self.seconds: dict[tuple[str, int], float] = {}

    def backbone(self, name: str, seed: int) -> MapBackbone:
        """A copy, to train on."""
        key = name, seed
        if key not in self._kept:
            begin = time.process_time()
            self._kept[key] = self._train(name, seed)
            self.seconds[key] = time.process_time() - begin
        kept = copy.deepcopy(self._kept[key])
        assert isinstance(kept, MapBackbone)
        return kept

    def _train(self, name: str, seed: int) -> MapBackbone:
        b = self.budget
        torch.manual_seed(seed)
        backbone = MapBackbone(b.channels)
        if name == SCRATCH:
            return backbone
        if seed not in self._sweeps:
            self._sweeps[seed] = data.sweeps(self.pairs, b.scanner, Generator().manual_seed(600 + seed))
        pairs = self._sweeps[seed]
        if name == NOISY:
            pairs = data.noisy(pairs, Generator().manual_seed(700 + seed))
        net, weights = pretraining(name, b, backbone), Weights()
        # The sums of contrast were weighed for 2048 points.
        factors = {"contrast": weights.contrast * 2048 / b.points, "turns": weights.turns, "flow": weights.flow}

        def objective(model: nn.Module, x: Any, y: Tensor) -> Tensor:
            net.update()
            losses = net.losses(Sweeps(**x))
            return torch.stack([factors.get(key, 1.0) * loss for key, loss in losses.items()]).sum()

        fit(
            net,
            pairs._asdict(),
            torch.zeros(len(pairs.pos)),
            loss=nn.functional.mse_loss,
            objective=objective,
            epochs=1 if self.run.dry else b.passes,
            batch_size=b.batch,
            lr=b.rate,
            schedule=one_cycle,
            seed=seed,
            progress=False,
        )
        return net.backbone


def pretraining(
    name: str, b: Budget, backbone: MapBackbone
) -> EquivariantPretraining | InvariantPretraining | ClassPretraining:
    """The objective of a name."""
    if name == INVARIANT:
        return InvariantPretraining(backbone, b.grid, decay=b.decay)
    if name == CLASSES:
        return ClassPretraining(backbone, b.grid)
    return EquivariantPretraining(
        backbone,
        b.grid,
        contrast=name != TEMPORAL,
        turns=name not in (TEMPORAL, CONTRAST),
        flow=name not in (SPATIAL, CONTRAST),
        points=b.points,
        decay=b.decay,
    )


NAMES = (SCRATCH, INVARIANT, CONTRAST, CLASSES, SPATIAL, TEMPORAL, ALL, NOISY)


# --- features --------------------------------------------------------------------------------------------------------
def features_part(run: Run[Budget], kept: Pretrained) -> Part:
    """How far features of points change when scenes move, in parts of how far those of different points are apart.

    And how often a linear probe tells from the whole map by how much an unseen scene was turned.
    """
    b = run.budget
    count = min(120, run.sizes(b.scenes).test)
    still = partial(road_motions, turn=0.0, shift=0.0, scale=0.0, flip=0.0)
    kinds: dict[str, Callable[..., Motions]] = {
        "turns": partial(still, turn=torch.pi / 2),
        "shifts": partial(still, shift=0.2),
        "scalings": partial(still, scale=0.05),
        "mirrors": partial(still, flip=1.0),
    }

    @torch.no_grad()
    def row(name: str, seed: int) -> Mapping[str, Any]:
        draw = Generator().manual_seed(800 + seed)
        pairs = data.sweeps(count, b.scanner, draw)
        pos, known = pairs.pos[:, 1], pairs.known[:, 1]
        net = kept.backbone(name, seed).cpu().eval()
        coarse = b.grid.coarser(net.stride)
        now = net(b.grid.pillars(pos, known))
        before = coarse.read(now, pos)
        rows = known & coarse.inside(pos)
        some = before[rows]
        far = apart(some, some[torch.randperm(len(some), generator=draw)])
        found: dict[str, Any] = {}
        for kind, motions in kinds.items():
            moved = move_points(motions(len(pos), generator=draw).matrix, pos)
            after = coarse.read(net(b.grid.pillars(moved, known)), moved)
            both = rows & coarse.inside(moved)
            found[kind] = apart(before[both], after[both]) / far
        earlier = pairs.pos[:, 0], pairs.known[:, 0]
        carried, there = flow_warp(net(b.grid.pillars(*earlier)), earlier[0], pairs.flow, earlier[1], coarse)
        there &= coarse.occupied(pos, known)
        found["scene flow"] = apart(carried.movedim(1, -1)[there], now.movedim(1, -1)[there]) / far
        found["accuracy of turns"] = turns_read(net, b.grid, pos, known, seed, draw)
        return found | {"seconds of pre-training": kept.seconds[name, seed]}

    table = sweep("features", {name: partial(row, name) for name in NAMES}, run=run)
    plain = SCRATCH, INVARIANT
    follow = [
        table.beats(
            f"features-follow-{kind.replace(' ', '-')}",
            ALL,
            plain,
            kind,
            statement=f"Change of features under {kind}, in parts of that between different points: E-SSL3D over the better of "
            "no pre-training and invariance of the whole.",
        )
        for kind in ("shifts", "scalings", "mirrors", "scene flow")
    ]
    turns = table.beats(
        "features-keep-turns",
        ALL,
        plain,
        "accuracy of turns",
        statement="Accuracy of a linear probe that tells by how much unseen scenes were turned: E-SSL3D over the better of no "
        "pre-training and invariance of the whole.",
    )
    return table.part(*follow, turns)


def apart(x: Tensor, y: Tensor) -> float:
    """One less the mean cosine of rows ``[N, C]``."""
    return 1 - float(cosine_similarity(x, y, dim=-1).mean())


def turns_read(net: MapBackbone, grid: Grid, pos: Tensor, known: Tensor, seed: int, draw: Generator) -> float:
    """Accuracy of a linear probe on features averaged over occupied cells, of turns in ten bins; a third of the scenes tests."""
    coarse, features, labels = grid.coarser(net.stride), [], []
    for _ in range(4):
        motions = road_motions(len(pos), generator=draw)
        moved = move_points(motions.matrix, pos)
        seen = coarse.occupied(moved, known)[:, None]
        features.append((net(grid.pillars(moved, known)) * seen).sum((2, 3)) / seen.sum((2, 3)).clamp_min(1))
        labels.append(turn_bins(motions.angle, 10))
    x, y = torch.stack(features, 1), torch.stack(labels, 1)
    test = len(pos) // 3
    x = (x - x[test:].mean((0, 1))) / x[test:].std((0, 1)).clamp_min(1e-6)
    pieces = [(x[rows].flatten(0, 1), y[rows].flatten()) for rows in (slice(test, None), slice(test))]
    with torch.enable_grad():
        return probe(*pieces, epochs=100, batch_size=64, lr=1e-2, seed=seed).score


# --- detection -------------------------------------------------------------------------------------------------------
def detection_part(run: Run[Budget], kept: Pretrained, labels: int, epochs: int) -> Part:
    """Detectors that are fine-tuned on a few scenes with boxes, all but one from pre-trained features."""
    b = run.budget
    sizes = run.sizes(Sizes(min(labels, b.scenes.train), b.scenes.validation, b.scenes.test))
    loss = DetectionLoss(b.grid.coarser(MapBackbone(1).stride))

    def draw(seed: int) -> Split:
        total = run.sizes(b.scenes)
        x, y = data.scenes(total.total, b.scanner, Generator().manual_seed(900 + seed))
        whole = Split.of(x, y, total)
        (x, y), few = whole.train, slice(0, sizes.train)
        train = {name: t[few] for name, t in x.items()}, {name: t[few] for name, t in y.items()}
        return whole._replace(train=train)

    def fine_tuned(name: str, model: Detector, split: Split, rate: float, how: Training, generator: Generator) -> None:
        model.backbone.load_state_dict(kept.backbone(name, generator.initial_seed()).state_dict())
        how.fit(model, split, rate, generator, transform=data.augmented)

    def measure(model: Detector, x: Any, y: Any, generator: Generator) -> Mapping[str, float]:
        return scores(model, loss, x, y)

    how = Training(loss, epochs, min(b.batch, max(2, labels // 5)), rates=(3e-3, 1e-2), widen=3)
    rivals = {
        name: Rival(lambda: Detector(MapBackbone(b.channels), b.grid), fit=partial(fine_tuned, name)) for name in NAMES
    }
    column = "mean precision"
    table = compare(
        f"{labels} scenes with labels", rivals, draw, how, measure, best=column, run=run, larger=("mean", "precision")
    )

    def over(which: str, ours: str, theirs: str, published: str | None = None) -> Claim:
        return table.not_worse(
            f"{labels}-labels-{which}",
            ours,
            theirs,
            column,
            statement=f"Mean average precision with {labels} labelled scenes: {ours} over {theirs}.",
            published=published,
        )

    number = b.labels.index(labels)
    published = {name: f"{ratios[number]} of the labels" for name, ratios in PUBLISHED.items()}
    claims = [
        over("as-from-scratch", ALL, SCRATCH, published[SCRATCH]),
        over("as-invariance", ALL, INVARIANT, published[INVARIANT]),
        over("as-contrast", ALL, CONTRAST, published[CONTRAST]),
    ]
    if number == 0:  # where the paper has its ablation
        claims += [
            over("contrast-and-classes-as-contrast", SPATIAL, CONTRAST),
            over("contrast-and-classes-as-classes", SPATIAL, CLASSES),
            over("contrast-and-classes-as-from-scratch", SPATIAL, SCRATCH, "Voxel R-CNN 1.023"),
            over("scene-flow-as-from-scratch", TEMPORAL, SCRATCH, "Voxel R-CNN 1.020"),
            over("as-contrast-and-classes", ALL, SPATIAL, "Voxel R-CNN 1.008"),
            over("as-scene-flow", ALL, TEMPORAL, "Voxel R-CNN 1.011"),
        ]
    return table.part(*claims)


PUBLISHED = {
    SCRATCH: (
        "SECOND 1.066, Voxel R-CNN 1.015 with 5 %",
        "SECOND 1.055, Voxel R-CNN 1.041 with 20 %",
        "SECOND 1.047, Voxel R-CNN 1.009 with 100 %",
    ),
    INVARIANT: (
        "SECOND 1.107, Voxel R-CNN 1.041 with 5 %",
        "SECOND 1.057, Voxel R-CNN 1.029 with 20 %",
        "SECOND 1.030, Voxel R-CNN 1.024 with 100 %",
    ),
    CONTRAST: (
        "SECOND 1.058, Voxel R-CNN 1.024 with 5 %",
        "SECOND 1.058, Voxel R-CNN 1.039 with 20 %",
        "SECOND 1.062, Voxel R-CNN 1.024 with 100 %",
    ),
}
"""What the paper has for E-SSL3D over others."""


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, features under motions, and detection by number of labels."""
    if run.dry:  # the network of the paper on maps that are smaller
        run = replace(run, budget=replace(run.budget, grid=Grid(2.0, 16, 16), scanner=Scanner(beams=16, azimuths=32)))
    b, kept = run.budget, Pretrained(run)
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "Mean average precision on KITTI of detectors that were pre-trained on KITTI-360, over that from scratch.",
        published="SECOND 1.066, 1.055, 1.047; Voxel R-CNN 1.015, 1.041, 1.009 with 5, 20 and 100 % of the labels",
        reason="the recordings are not part of this library, and 100,000 scans for 80 epochs need GPUs",
    )
    generative = Claim.not_measurable(
        "generative-pretraining",
        "Mean average precision of E-SSL3D over that after pre-training by occupancy, ALSO.",
        published="SECOND 0.982, 0.983, 1.009; Voxel R-CNN 0.993, 1.010, 1.005 with 5, 20 and 100 % of the labels",
        reason="occupancy is no objective of this library, and ALSO also starts the layers behind the backbone, which the "
        "authors call unequal",
    )
    features = features_part(run, kept)  # first: pre-training is no part of the seconds of a detector
    tables = [detection_part(run, kept, n, epochs) for n, epochs in zip(b.labels, b.epochs, strict=True)]
    return Result.of(properties(run, *PROPERTIES), features, *tables, Part([], [unmeasured, generative]))


def figure(result: Result) -> Figure:
    """Mean average precision by number of labelled scenes."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if str(row["part"]).endswith("with labels"):
            curves.setdefault(str(row["model"]), []).append(
                (float(str(row["part"]).split()[0]), float(str(row["mean precision"])))
            )
    return plots.line(curves, "scenes with labels", "mean average precision, %")
